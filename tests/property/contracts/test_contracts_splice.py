"""Reopening a contract: no satoshi appears or vanishes, whoever brings what, and nobody is paid less than its word."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btcfi.bitcoin.fees import SatsPerKvb, dust_limit
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.script import OP_0, is_p2tr
from btcfi.bitcoin.transaction import TRUC_VERSION, OutPoint, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts.reopen import check_word
from btcfi.contracts.splice import MAX_VSIZE, Owner, Stake, build_splice
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.units import Sats, Txid
from tests.support.contracts import BUYER, COARSE, SEED, SELLER, Scene, coin
from tests.support.reopening import NEWCOMER, Reopens

SCRIPTS = {owner: wallet_key(SEED, 7, account=n).script for n, owner in enumerate(Owner, start=1)}
KEY_HASH = bytes([OP_0, 20]) + bytes(range(20))
CONTRACT = Scene(tolerance=COARSE).agreement().plan.contract
"""Whose output the new collateral is; only its amount matters here."""

AMOUNTS = st.one_of(st.integers(0, 2_000), st.integers(0, 30_000_000))
RATES = st.integers(1_000, 500_000)


@st.composite
def splices(draw):
    """Anything that might be asked: dues that add up, coins of both kinds, any payer, outputs of either kind."""
    old, new = draw(st.integers(10_000, 50_000_000)), draw(st.integers(10_000, 50_000_000))
    owners = draw(st.lists(st.sampled_from(list(Owner)), min_size=1, max_size=3, unique=True))
    dues = {owner: draw(st.one_of(st.just(0), st.integers(-400, 400), st.integers(-9_000_000, 9_000_000)))
            for owner in owners}  # fmt: skip
    dues[owners[0]] += old - new - sum(dues.values())
    stakes = {}
    for place, owner in enumerate(owners):
        script = draw(st.sampled_from([SCRIPTS[owner], KEY_HASH[:-1] + bytes([place])]))
        values = draw(st.lists(AMOUNTS.filter(bool), max_size=4))
        if draw(st.booleans()) and dues[owner] < 0:  # often enough it is covered
            values.append(-dues[owner] + draw(st.integers(0, 200_000)))
        coins = tuple(
            Coin(
                outpoint=OutPoint(txid=Txid(bytes([place + 1, number]) * 16), index=number),
                output=TxOut(value=Sats(value), script=draw(st.sampled_from([SCRIPTS[owner], KEY_HASH]))),
            )
            for number, value in enumerate(values)
        )
        stakes[owner] = Stake(due=dues[owner], script=script, coins=coins)
    contract = replace(CONTRACT, collateral=Sats(new))
    return coin(99, old, CONTRACT.funding_txout().script), contract, stakes, draw(st.sampled_from(owners)), draw(RATES)


def signed_vsize(splice):
    """The size with every witness as large as it can be."""
    made = splice.transaction
    for index, output in enumerate(splice.spent):
        made = made.with_witness(index, [bytes(64)] if is_p2tr(output.script) else [bytes(72), bytes(33)])
    return made.vsize


@given(splices())
def test_what_goes_in_comes_out_plus_the_fee_and_every_owners_account_adds_up(asked):
    old, contract, stakes, payer, rate = asked
    try:
        splice = build_splice(old, contract, stakes=stakes, payer=payer, rate=SatsPerKvb(rate))
    except (InvalidInputError, InsufficientFundsError):
        return
    made = splice.transaction
    assert made.version == TRUC_VERSION
    assert len({txin.outpoint for txin in made.inputs}) == len(made.inputs) == len(splice.spent)
    assert made.outputs[0] == contract.funding_txout()
    spent, paid = sum(one.value for one in splice.spent), sum(one.value for one in made.outputs)
    assert spent == paid + splice.fee
    assert all(one.value >= dust_limit(one.script) for one in made.outputs)
    size = signed_vsize(splice)
    assert splice.fee * 1000 >= size * rate
    assert size <= MAX_VSIZE
    for owner, stake in stakes.items():
        assert splice.fees[owner] >= 0
        assert splice.paid[owner] + splice.fees[owner] == stake.due + sum(one.value for one in stake.coins)
        if owner is not payer and not stake.coins:
            assert splice.paid[owner] == stake.due  # to the satoshi: no fee comes out of it
        if stake.due > 0 and owner is not payer:
            assert splice.paid[owner] > 0
    # nobody pays for another's coins: beyond the rate an owner loses only what would have been dust
    most = sum(dust_limit(one.script) + 1 for one in stakes.values())
    assert splice.fee <= -(-size * rate // 1000) + most + 43 * rate // 1000 * len(stakes) + len(stakes)


@given(splices(), st.integers(-1_000_000, 1_000_000).filter(bool))
def test_dues_that_do_not_add_up_to_what_the_collateral_shrinks_by_are_refused(asked, off):
    old, contract, stakes, payer, rate = asked
    owner = next(iter(stakes))
    wrong = stakes | {owner: replace(stakes[owner], due=stakes[owner].due + off)}
    with pytest.raises(InvalidInputError) as error:
        build_splice(old, contract, stakes=wrong, payer=payer, rate=SatsPerKvb(rate))
    assert error.value.field == "dues"


# ---- words, against an account of the chain that knows no stake


TRANSFER = Reopens(
    holder_coins=(coin(22, 50_000, BUYER.script),), seller_coins=(coin(23, 40_000, SELLER.script),)
).transfer()  # fmt: skip
ROLL = Reopens(
    holder_coins=(coin(22, 50_000, BUYER.script),), seller_coins=(coin(23, 40_000, SELLER.script),)
).roll()  # fmt: skip
OURS = {Owner.SELLER: SELLER.script, Owner.HOLDER: BUYER.script, Owner.NEWCOMER: NEWCOMER.script}


def gained(reopened, owner):
    """What a script has more after the transaction than before, by its inputs and outputs alone."""
    after, before = Counter(), Counter()
    for output in reopened.splice.transaction.outputs:
        after[output.script] += output.value
    for output in reopened.splice.spent:
        before[output.script] += output.value
    return after[OURS[owner]] - before[OURS[owner]]


@st.composite
def statements(draw):
    """A statement of a transfer or a roll that somebody has changed: amounts, payer, coins, rate, collateral."""
    scene = draw(st.sampled_from([TRANSFER, ROLL]))
    said = scene.statement
    small = st.one_of(st.just(0), st.integers(-3, 3), st.integers(-60_000, 60_000))
    dues = {owner: amount + draw(small) for owner, amount in said.dues.items()}
    off = said.old.value - said.terms.collateral - sum(dues.values())
    dues[draw(st.sampled_from(sorted(dues, key=str)))] += off
    coins = said.buyer.coins
    if draw(st.booleans()):
        coins = (*coins, coin(40, draw(st.integers(1, 90_000)), OURS[said.buying]))
    owners = said.owners
    return scene, replace(
        said, dues=dues, payer=draw(st.sampled_from(owners)),
        terms=replace(said.terms, rate=SatsPerKvb(draw(st.sampled_from([1_999, 2_000, 2_001, 9_000])))),
        buyer=replace(said.buyer, coins=draw(st.sampled_from([said.buyer.coins, coins]))),
    )  # fmt: skip


@given(statements())
def test_whose_word_a_changed_statement_keeps_is_paid_by_the_chain_what_it_agreed_to(asked):
    scene, statement = asked
    try:
        reopened = scene.agreed(statement)
    except BtcfiError:
        return
    honest = scene.agreed()
    for owner in statement.owners:
        try:
            check_word(reopened, scene.word(owner))
        except BtcfiError:
            continue
        assert gained(reopened, owner) >= gained(honest, owner)
        if owner is not Owner.HOLDER or not statement.leaves:
            assert reopened.terms == honest.terms
            assert reopened.splice.transaction.outputs[0].value == honest.splice.transaction.outputs[0].value
