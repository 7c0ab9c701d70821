"""A take is one transaction: the offer's quantity, the option of both signed texts, or nothing."""

from dataclasses import replace

import pytest
from sqlalchemy import func, select
from sqlmodel import col

from btcfi.adapters.store.market import accounts, offers, takes
from btcfi.adapters.store.market import views as market
from btcfi.adapters.store.market.errors import OfferGoneError, SuspendedError
from btcfi.adapters.store.market.tables import FirmOfferRow, TakeRow
from btcfi.adapters.store.options.backlog import BacklogFullError
from btcfi.adapters.store.options.cancelling import NotCancellableError, cancel_sale
from btcfi.adapters.store.options.contract_tables import ContractRow, ContractState
from btcfi.adapters.store.options.options import terms_of
from btcfi.adapters.store.options.sales import UnfitPriceError
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.edges import cross, record
from btcfi.adapters.store.spine.tables import OutboxRow
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.firm_offer import Side, deal_of
from btcfi.options.terms import InvalidTermsError
from btcfi.units import UnixSeconds
from tests.support.market_store import (
    CALL,
    MAKER,
    NOW,
    OTHER,
    PRICE_SATS,
    SALE,
    SLOT,
    TAKER,
    filled,
    newer,
    post,
    take,
    traded,
)
from tests.support.stores import store_on_sqlite

LATER = UnixSeconds(NOW + 30)


@pytest.fixture
def market_store(store):
    return filled(store)


@pytest.fixture
def on_sqlite(tmp_path):
    """Where many cases are tried of what no database decides."""
    with store_on_sqlite(tmp_path) as made:
        yield filled(made)


def offer_row(store, offer):
    with store.reading() as session:
        return offers.find_offer(session, offer.offer.id.hex())


def counted(store, table):
    with store.reading() as session:
        return session.execute(select(func.count()).select_from(table)).scalar_one()


def contract(store, option_id, state, *, at=NOW):
    """Bring an option's contract to a state, an edge at a time, as the parties' messages do."""
    order = ("ordered", "offered", "accepted", "signed", "checked", "funded")
    with store.transaction() as session:
        row = session.get(ContractRow, option_id)
        if row is None:
            row = ContractRow(
                option_id=option_id, event_id="e", expiry_height=1, refund_height=2, order="{}", created_at_unix=at,
                updated_at_unix=at,
            )  # fmt: skip
            session.add(row)
            session.flush()
            record(session, "contract", option_id, ContractState.ORDERED, now=at)
        for step in order[order.index(row.state) + 1 : order.index(state) + 1]:
            cross(session, row, step, now=at)


def failed(store, option_id, fault, **more):
    with store.transaction() as session:
        return takes.fail_take(session, option_id, fault=fault, problem="it was silent", now=LATER, **more)


@pytest.mark.parametrize("side", [Side.ASK, Side.BID])
def test_a_take_makes_the_option_that_both_signed_texts_say_and_of_whose_it_is(market_store, side):
    offer, signed, row = traded(market_store, side=side, quantity=10)
    deal = deal_of(offer.offer, signed.take)
    with market_store.reading() as session:
        option = session.get_one(OptionRow, signed.take.option_id)
        work = session.execute(select(OutboxRow)).scalars().all()
    assert terms_of(option) == deal.terms
    assert (option.premium_sats, option.collateral_sats) == (PRICE_SATS // 10, 10_000_000)
    writer, holder = (MAKER, TAKER) if side is Side.ASK else (TAKER, MAKER)
    assert (option.writer, option.holder, option.take_id) == (writer.id, holder.id, signed.take.id.hex())
    assert (option.state, option.listed_slot, option.created_at_unix) == ("CREATED", SLOT, NOW)
    assert (row.id, row.option_id, row.maker, row.taker) == (option.take_id, option.id, MAKER.id, TAKER.id)
    assert (row.instrument, row.side, row.quantity, row.state) == (CALL, side.value, 10, "taken")
    assert [one.flow for one in work] == ["exchange"]
    assert offer_row(market_store, offer).remaining == 90


def test_an_account_has_only_so_many_takes_that_nobody_has_answered_and_holds_up_no_other(market_store, monkeypatch):
    monkeypatch.setattr(takes, "MOST_UNANSWERED", 2)
    offer = MAKER.offer()
    post(market_store, MAKER, offer)
    made = [take(market_store, TAKER.take(offer, 1)) for _ in range(2)]
    with pytest.raises(BacklogFullError, match="takes of yours"):
        take(market_store, TAKER.take(offer, 1))
    take(market_store, OTHER.take(offer, 1))
    assert offer_row(market_store, offer).remaining == 97
    with market_store.transaction() as session:
        takes.fail_take(session, made[0].option_id, fault="taker", problem="silent", now=LATER)
    take(market_store, TAKER.take(offer, 1))


def test_the_same_take_again_is_the_one_that_it_made_even_where_the_offer_is_gone(market_store):
    offer, signed, row = traded(market_store, quantity=100)
    assert offer_row(market_store, offer).state == "taken"
    again = take(market_store, signed, now=UnixSeconds(NOW + 10_000))
    assert again.id == row.id
    assert (counted(market_store, TakeRow), counted(market_store, OptionRow)) == (1, 1)


def test_an_offer_of_which_less_is_left_than_its_least_take_is_taken(market_store):
    offer = MAKER.offer(quantity=100, minimum=30)
    post(market_store, MAKER, offer)
    take(market_store, TAKER.take(offer, 40))
    assert offer_row(market_store, offer).state == "open"
    take(market_store, TAKER.take(offer, 40))
    row = offer_row(market_store, offer)
    assert (row.state, row.remaining) == ("taken", 20)
    with pytest.raises(OfferGoneError):
        take(market_store, TAKER.take(offer, 30))


def refusals():
    """By name: what is wrong, as changes of the offer, of the take, of the store and of the moment, and the error."""
    lapsed, soon = UnixSeconds(NOW + 600), UnixSeconds(NOW + 9)
    return {
        "of an offer that there is not": ({}, {"offer_id": bytes(32)}, None, NOW, NotFoundError),
        "of too much": ({}, {"quantity": 101}, None, NOW, InvalidInputError),
        "of more than is left": ({"minimum": 1}, {"quantity": 95}, "some", NOW, OfferGoneError),
        "below the least": ({"minimum": 20}, {}, None, NOW, InvalidInputError),
        "at another price": ({}, {"price": PRICE_SATS - 1_000}, None, NOW, InvalidInputError),
        "of what is for another": ({"taker": OTHER.identity}, {}, None, NOW, InvalidInputError),
        "by who is not registered": ({}, {"taker": newer(OTHER).identity[::-1]}, None, NOW, NotFoundError),
        "that has lapsed": ({}, {"valid_until": NOW}, None, NOW, InvalidInputError),
        "of what was withdrawn": ({}, {}, "withdrawn", NOW, OfferGoneError),
        "of what has lapsed": ({"valid_until": soon}, {"valid_until": lapsed}, None, soon, OfferGoneError),
        "by a suspended account": ({}, {}, "suspended", NOW, SuspendedError),
        "of a suspended account's": ({}, {}, "maker suspended", NOW, OfferGoneError),
        "at a stale price": ({}, {"valid_until": lapsed}, None, NOW + 300, UnfitPriceError),
        "at a halted feed": ({}, {}, "void", NOW, UnfitPriceError),
        "beyond the backlog": ({}, {}, "backlog", NOW, BacklogFullError),
        "that the parties would refuse": ({}, {}, "unsellable", NOW, InvalidTermsError),
    }  # fmt: skip


@pytest.mark.parametrize("case", list(refusals()))
def test_a_take_that_cannot_be_leaves_everything_as_it_was(on_sqlite, case):
    of_offer, of_take, before, now, error = refusals()[case]
    offer = MAKER.offer(**of_offer)
    assert post(on_sqlite, MAKER, offer)[0].problem is None
    rule = SALE
    if before == "some":
        take(on_sqlite, OTHER.take(offer, 10))
    elif before == "withdrawn":
        with on_sqlite.transaction() as session:
            offers.withdraw_offers(session, MAKER.id, None, now=NOW)
    elif before in ("suspended", "maker suspended"):
        with on_sqlite.transaction() as session:
            accounts.suspend(session, (TAKER if before == "suspended" else MAKER).id, now=NOW)
    elif before == "void":
        with on_sqlite.transaction() as session:
            session.execute(select(RoundRow)).scalar_one().report = '{"thin": ["few"]}'
    elif before == "backlog":
        rule = replace(SALE, max_backlog=0)
    elif before == "unsellable":
        rule = replace(SALE, refusal=lambda terms: InvalidTermsError("strike", f"{terms.strike}", "another"))
    seen = offer_row(on_sqlite, offer).model_dump(), counted(on_sqlite, TakeRow), counted(on_sqlite, OptionRow)
    changes = {"quantity": 10} | of_take
    with pytest.raises(error):
        take(on_sqlite, TAKER.take(offer, **changes), now=UnixSeconds(now), rule=rule)
    assert (offer_row(on_sqlite, offer).model_dump(), counted(on_sqlite, TakeRow),
            counted(on_sqlite, OptionRow)) == seen  # fmt: skip


def test_a_take_that_its_taker_fails_gives_the_maker_its_quantity_and_its_place_back(market_store):
    offer, signed, _ = traded(market_store, quantity=100)
    rank = offer_row(market_store, offer).rank
    row = failed(market_store, signed.take.option_id, "taker")
    assert (row.state, row.fault, row.problem) == ("failed", "taker", "it was silent")
    after = offer_row(market_store, offer)
    assert (after.state, after.remaining, after.rank) == ("open", 100, rank)
    with market_store.reading() as session:
        assert session.get_one(OptionRow, row.option_id).state == "CANCELLED"
        assert market.fills(session, TAKER.id, limit=9).rows == []
        assert market.trades(session, limit=9).rows == []
        assert market.positions(session, TAKER.id, limit=9).rows == []
        assert [one.id for one in market.takes_of(session, TAKER.id, limit=9).rows] == [row.id]
    assert failed(market_store, row.option_id, "maker").fault == "taker", "whose fault it was stays said"


def test_what_comes_back_after_the_offer_lapsed_or_was_withdrawn_is_not_offered_again(market_store):
    lapsed, _, first = traded(market_store, quantity=100, valid_until=UnixSeconds(NOW + 20))
    withdrawn, _, second = traded(market_store, quantity=100)
    with market_store.transaction() as session:
        offers.withdraw_offers(session, MAKER.id, [withdrawn.offer.id.hex()], now=NOW)
    for row in (first, second):
        failed(market_store, row.option_id, "taker")
    assert [offer_row(market_store, one).state for one in (lapsed, withdrawn)] == ["expired", "withdrawn"]
    assert [offer_row(market_store, one).remaining for one in (lapsed, withdrawn)] == [100, 100]


def test_a_maker_that_fails_loses_the_offer_and_the_place_of_all_its_others(market_store):
    broken, second, third = (MAKER.offer() for _ in range(3))
    post(market_store, MAKER, broken, second, third)
    other = OTHER.offer()
    post(market_store, OTHER, other)
    row = take(market_store, TAKER.take(broken))
    failed(market_store, row.option_id, "maker")
    with market_store.reading() as session:
        asks = [one.number for one in market.book(session, CALL, NOW).asks]
    assert asks == [one.offer.number for one in (other, second, third)]
    assert offer_row(market_store, broken).state == "broken"
    with pytest.raises(OfferGoneError):
        take(market_store, TAKER.take(broken))


def test_what_both_have_signed_fails_only_where_it_can_be_funded_no_more(market_store):
    offer, _, row = traded(market_store, quantity=100)
    contract(market_store, row.option_id, "checked")
    with market_store.transaction() as session:
        assert takes.mark_checked(session, row.option_id, now=NOW)
        assert not takes.mark_checked(session, row.option_id, now=NOW)
    for fault in ("taker", "maker"):
        with pytest.raises(NotCancellableError):
            failed(market_store, row.option_id, fault)
    assert offer_row(market_store, offer).remaining == 0, "the buyer may still fund it"
    contract(market_store, row.option_id, "funded")
    with market_store.transaction() as session:
        assert takes.mark_funded(session, row.option_id, now=NOW)
        assert not takes.mark_funded(session, row.option_id, now=NOW)
    with pytest.raises(NotCancellableError):
        failed(market_store, row.option_id, "taker")
    assert failed(market_store, row.option_id, "taker", dead=True).state == "failed"
    assert offer_row(market_store, offer).remaining == 100
    with market_store.reading() as session:
        assert session.get_one(ContractRow, row.option_id).state == "cancelled"


def test_what_is_on_the_chain_does_not_fail_whatever_somebody_says(market_store):
    _, _, row = traded(market_store)
    contract(market_store, row.option_id, "checked")
    with market_store.transaction() as session:
        cross(session, session.get_one(OptionRow, row.option_id), "ACTIVE", now=NOW)
    with pytest.raises(NotCancellableError):
        failed(market_store, row.option_id, "taker", dead=True)
    with market_store.transaction() as session:
        assert takes.follow(session, now=LATER) == 1
        assert takes.follow(session, now=LATER) == 0
    with market_store.reading() as session:
        assert session.get_one(TakeRow, row.id).state == "funded"


def test_a_take_whose_sale_somebody_else_cancelled_can_be_ended(market_store):
    offer, _, row = traded(market_store)
    contract(market_store, row.option_id, "ordered")
    with market_store.transaction() as session:
        cancel_sale(session, row.option_id, by="the operator", now=NOW)
    assert failed(market_store, row.option_id, "desk").state == "failed"
    assert offer_row(market_store, offer).remaining == 100


def test_an_option_that_no_take_made_has_none(market_store):
    with market_store.transaction() as session:
        assert not takes.mark_checked(session, "o1", now=NOW)
        assert not takes.mark_funded(session, "o1", now=NOW)
        with pytest.raises(NotFoundError):
            takes.fail_take(session, "o1", fault="desk", problem="", now=NOW)


def test_how_long_a_take_took_is_told_in_milliseconds_by_the_database_s_clock(market_store):
    _, _, row = traded(market_store)
    contract(market_store, row.option_id, "checked")
    with market_store.transaction() as session:
        takes.mark_checked(session, row.option_id, now=NOW)
    with market_store.reading() as session:
        stored = session.execute(select(TakeRow).where(col(TakeRow.id) == row.id)).scalar_one()
        (spent,) = market.times_to_check(session)
    assert 0 <= spent == stored.checked_ms - stored.created_ms
    assert counted(market_store, FirmOfferRow) == 1
