"""Laws of the settlement engine: whatever a pool holds, no child pays above its stake or below what it replaces."""

from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.settling import Fresh, View, Waiting, next_step, rate_of
from btcfi.units import Height, Sats, Txid
from tests.support.contracts import BUYER
from tests.support.settling import EXPIRY, REFUND, cet, coin, terms, version, view

AMOUNTS = st.integers(330, 50_000_000)
TIPS = st.integers(EXPIRY, REFUND + 20)
STRANGERS = st.builds(
    lambda fee, vsize, more: Waiting(
        txid=Txid(b"\x77" * 32), fee=Sats(fee), vsize=vsize, total_fee=Sats(fee + more)
    ),
    st.integers(100, 3_000_000), st.integers(100, 1_000), st.integers(0, 100_000),
)  # fmt: skip


@st.composite
def situations(draw):
    """A CET, versions that were sent one after the other, coins, what a pool holds, and what is at stake."""
    settled = cet(fee=draw(st.sampled_from([0, 1_000])))
    stake = terms(stake=draw(st.integers(0, 3_000_000)))
    coins = [coin(20 + n, value) for n, value in enumerate(draw(st.lists(AMOUNTS, max_size=4)))]
    sent = []
    for tip in sorted(draw(st.lists(TIPS, max_size=3))):
        made = next_step(settled, sent, coins, view(tip, cet_waits=True), stake, change_script=BUYER.script)
        if isinstance(made, Fresh):
            sent.append(version(settled, made, tip=tip))
    kept = draw(st.sets(st.integers(0, 3)))
    ours = [Waiting.alone(one.transaction.txid, fee=one.fee, vsize=202) for one in sent]
    anchor = draw(st.sampled_from([None, *ours]) | STRANGERS)
    seen = View(
        tip=Height(draw(TIPS)), estimate=draw(st.none() | st.builds(SatsPerKvb, st.integers(1, 2_000_000))),
        cet_waits=anchor is not None or draw(st.booleans()), anchor=anchor,
        rival=draw(st.none() | STRANGERS) if anchor is None else None,
    )  # fmt: skip
    return settled, sent, [one for place, one in enumerate(coins) if place not in kept], seen, stake


@given(situations())
@settings(max_examples=400, deadline=None)
def test_no_child_pays_above_the_stake_nor_more_than_its_coin_and_each_outbids_all_that_it_replaces(situation):
    settled, sent, coins, seen, stake = situation
    made = next_step(settled, sent, coins, seen, stake, change_script=BUYER.script)
    if not isinstance(made, Fresh):
        return
    child = version(settled, made)  # the change stays above dust, or this raises
    vsize = child.transaction.vsize
    assert made.fee <= stake.stake
    assert made.coin in coins
    assert made.fee >= vsize  # 1 sat/vB: what a node relays
    assert all(made.fee >= one.fee + vsize for one in sent)
    if seen.anchor is not None:
        assert made.fee >= seen.anchor.total_fee + vsize
        assert made.fee * seen.anchor.vsize > seen.anchor.fee * vsize
    if seen.rival is not None:
        package = settled.transaction.vsize + vsize
        assert made.fee + settled.fee >= seen.rival.total_fee + package
        assert (made.fee + settled.fee) * seen.rival.vsize > seen.rival.fee * package


@given(situations())
@settings(max_examples=200, deadline=None)
def test_the_same_situation_has_the_same_answer_and_the_answer_once_sent_and_waiting_has_none(situation):
    settled, sent, coins, seen, stake = situation

    def ask(versions, what):
        return next_step(settled, versions, coins, what, stake, change_script=BUYER.script)

    made = ask(sent, seen)
    assert ask(sent, seen) == made
    if isinstance(made, Fresh):
        one = version(settled, made, tip=seen.tip)
        pool = Waiting.alone(one.transaction.txid, fee=one.fee, vsize=202)
        after = View(tip=seen.tip, estimate=seen.estimate, cet_waits=True, anchor=pool)
        assert not isinstance(ask([*sent, one], after), Fresh)


@given(st.lists(TIPS, min_size=2), st.none() | st.builds(SatsPerKvb, st.integers(1, 2_000_000)))
@settings(max_examples=200, deadline=None)
def test_the_rate_never_falls_while_blocks_pass(tips, estimate):
    sent = [version(cet(), next_step(cet(), (), [coin(9)], view(), terms(), change_script=BUYER.script))]
    rates = [rate_of(sent, View(tip=Height(tip), estimate=estimate), terms()) for tip in sorted(tips)]
    assert rates == sorted(rates)
