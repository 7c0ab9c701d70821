"""Whole books by script, on a chain of this process and on bitcoind: every loser burning in turn and all together."""

from fractions import Fraction

import pytest

from btcfi.adapters.chain.node import InputsSpentError, NodeAnswerError, NotFinalError, TxRejectedError
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.swaps.contract import burn_fee
from btcfi.swaps.fanout.dues import dues
from btcfi.swaps.onchain import burned_by
from btcfi.units import Sats
from tests.support.fanning import NO_RATES, USUAL_RATES, Field, field_wallet, positions

pytestmark = pytest.mark.integration

DOWN, UP = Fraction(-3, 7), Fraction(3, 7)
FEE = Sats(2_500)
KINDS = ["here", *(pytest.param(kind, marks=pytest.mark.regtest) for kind in ("bitcoind", "knots"))]


@pytest.fixture(scope="module", params=KINDS)
def wallet(request, tmp_path_factory):
    with field_wallet(request.param, tmp_path_factory.mktemp(request.param)) as funded:
        yield funded


def burners_of(losers):
    """Nobody, each in turn, all together."""
    return [(), *((one,) for one in losers), *([tuple(losers)] if len(losers) > 1 else [])]


@pytest.mark.parametrize(
    ("longs", "shorts", "part", "rates"),
    [(1, 1, DOWN, USUAL_RATES), (2, 1, UP, NO_RATES), (3, 4, DOWN, USUAL_RATES), (7, 7, UP, USUAL_RATES)],
    ids=["3 owners, flat", "4 owners", "8 owners", "15 owners, flat"],
)
def test_each_loser_burns_in_turn_and_all_together_and_every_other_is_settled(wallet, longs, shorts, part, rates):
    field = Field(wallet)
    terms = field.terms(positions(longs, shorts), rates=rates)
    profits = terms.profits(terms.grid.outcome(part))
    losers = [place for place, won in enumerate(profits) if won < 0]
    burners = burners_of(losers)
    books = field.funded([(terms, None)] * len(burners))
    weeks = [book.attested(part) for book in books]
    sent = [in_the_window(field, *each) for each in zip(books, weeks, burners, strict=True)]
    with pytest.raises(NotFinalError):
        field.node.send(weeks[0].settle(losers[0]))
    wallet.mine()
    field.pass_time(field.lock)
    for week, burned, done in zip(weeks, burners, sent, strict=True):
        done.extend(after_the_lock(field, week, losers, burned))
    wallet.mine()
    assert all(wallet.confirmations(one.txid) for done in sent for one in done)
    for book, burned, done in zip(books, burners, sent, strict=True):
        assert book.paid_to(done) == owed_to(terms, profits, burned)


def in_the_window(field, book, week, burners):
    """Everybody who owes nothing takes its margin, each burner burns: at once, before any settlement may be mined."""
    done = []
    for owner in book.terms.margins:
        if week.profits[owner] >= 0:
            done.append(week.release(owner, book.secrets[owner], fee=FEE))
            field.node.send(done[-1])
        elif owner in burners:
            done.append(week.burn(owner, book.secrets[owner], fee=FEE))
            field.send_burn(done[-1])
    return done


def after_the_lock(field, week, losers, burners):
    """Each other loser's margin is settled, alone, by the fee that it carries; a burner's is gone."""
    done = []
    for loser in losers:
        settled = week.settle(loser)
        if loser in burners:
            with pytest.raises(InputsSpentError):
                field.node.send(settled)
        else:
            field.node.send(settled)
            done.append(settled)
    return done


def owed_to(terms, profits, burners):
    """What each owner ends with, and what is destroyed."""
    ends, owed, extra = [], dues(profits), terms.settle_fee + 240 - FEE
    for place, (own, won) in enumerate(zip(terms.required, profits, strict=True)):
        got = sum(parts.get(place, 0) for loser, parts in owed.items() if loser not in burners)
        burned = burn_fee(own) - extra if place in burners else 0
        ends.append(own + won - burned if won < 0 else own + got + (extra if own else 0))
    return ends, sum(burn_fee(terms.required[one]) - profits[one] for one in burners)


def test_a_loser_of_everything_burns_with_a_coin_of_its_own_and_may_raise_its_fee(wallet):
    field = Field(wallet)
    (book,) = field.funded([(field.terms(positions(2, 1)), None)])
    week = book.attested(-1)
    added = field.coins([(book.keys[1].script, 5_000_000)])
    for fee in (600, 4_000, 40_000):  # by its own change: nobody else has an output in it
        burn = week.burn(1, book.secrets[1], fee=Sats(fee), added=[(added[0], book.keys[1])])
        field.send_burn(burn)
    wallet.mine()
    assert wallet.confirmations(burn.txid) == 1
    assert burned_by(burn) == 12_500_000


def test_another_outcome_s_settlement_is_refused_and_so_is_one_with_other_payments(wallet):
    field = Field(wallet)
    (book,) = field.funded([(field.terms(positions(2, 1)), None)])
    week = book.attested(DOWN)
    field.pass_time(field.lock)
    more = book.fan.settle(1, week.outcome - 1).with_witness(0, week.settle(1).inputs[0].witness)
    with pytest.raises(TxRejectedError):
        field.node.send(more)
    field.node.send(week.settle(1))
    wallet.mine()


def test_after_the_lock_settlement_and_burn_bid_against_each_other_and_a_lost_block_opens_it_again(wallet):
    field = Field(wallet)
    first, second = field.funded([(field.terms(positions(3, 2)), None)] * 2)
    weeks = [book.attested(DOWN) for book in (first, second)]
    field.pass_time(field.lock)
    settled = [week.settle(1) for week in weeks]
    for one in settled:
        field.node.send(one)
    # not mined yet: a burn that pays more takes its place, and the other winners' money with it
    burn = weeks[0].burn(1, first.secrets[1], fee=Sats(9_000))
    field.send_burn(burn)
    (block,) = wallet.mine()
    assert wallet.confirmations(burn.txid) == 1
    assert wallet.confirmations(settled[0].txid) is None
    assert wallet.confirmations(settled[1].txid) == 1
    # mined once: one lost block, and its loser burns instead; a settlement is final six blocks deep, not before
    field.node.invalidate(block)
    field.send_burn(weeks[1].burn(1, second.secrets[1], fee=Sats(9_000)))
    wallet.mine()
    assert not wallet.confirmations(settled[1].txid)
    # the loser beside them is not touched by either
    for week in weeks:
        field.node.send(week.settle(2))
    wallet.mine()
    assert all(wallet.confirmations(week.settle(2).txid) == 1 for week in weeks)


def test_after_nine_days_of_silence_each_owner_takes_its_margin_back_alone_and_not_before(wallet):
    field = Field(wallet)
    (book,) = field.funded([(field.terms(positions(2, 1)), None)])
    back = {
        place: margin.sign_return(book.fan.returned(place, fee=FEE), book.secrets[place])
        for place, margin in book.terms.margins.items()
    }
    field.pass_time(field.lock)
    for one in back.values():
        with pytest.raises(NotFinalError):
            field.node.send(one)
    field.pass_time(book.terms.margins[0].return_time)
    for place, one in back.items():
        thief = book.terms.margins[place].sign_return(book.fan.returned(place, fee=FEE), book.secrets[place - 1])
        with pytest.raises(TxRejectedError):
            field.node.send(thief)
        field.node.send(one)
    wallet.mine()
    assert all(wallet.confirmations(one.txid) for one in back.values())


@pytest.mark.parametrize(("longs", "shorts"), [(1, 1), (2, 1), (7, 7)])
def test_all_close_together_by_the_key_path_at_once(wallet, longs, shorts):
    field = Field(wallet)
    (book,) = field.funded([(field.terms(positions(longs, shorts), rates=USUAL_RATES), None)])
    close, signed = book.closed(UP, SatsPerKvb(3_000))
    field.node.send(signed)
    wallet.mine()
    assert wallet.confirmations(signed.txid) == 1
    assert all(len(one.witness) == 1 for one in signed.inputs)
    assert close.fee >= 3 * signed.vsize
    loser = len(book.terms.takers)  # a short
    with pytest.raises(NodeAnswerError, match="missingorspent"):  # what has been paid no burn destroys
        field.send_burn(book.attested(UP).burn(loser, book.secrets[loser], fee=FEE))


def test_an_absent_owner_is_left_out_and_the_rest_have_their_week(wallet):
    field = Field(wallet)
    everyone = field.terms(positions(2, 2))
    # taker 3 never signs its funding input: nobody's coin has moved, the set is made again without it
    (book,) = field.funded([(everyone.without({3}), (0, 1, 2, 4))])
    assert book.terms.required[0] == everyone.takers[0].required
    week = book.attested(UP)
    field.pass_time(field.lock)
    for loser, won in enumerate(week.profits):
        if won < 0:
            field.node.send(week.settle(loser))
    wallet.mine()
    assert sum(won for won in week.profits if won > 0) == 2 * 10_000_000 * 3 // 7
