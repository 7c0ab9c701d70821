"""An account is what its identity signed: once by name, its keys replaced by a newer word alone."""

import pytest

from btcfi.adapters.store.market import accounts
from btcfi.adapters.store.market import views as market
from btcfi.adapters.store.market.accounts import register
from btcfi.adapters.store.market.adoption import adopt
from btcfi.adapters.store.market.errors import NameTakenError, StaleRegistrationError, TooManyKeysError
from btcfi.adapters.store.market.tables import CloseRow, FirmOfferRow, TakeRow
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.contracts.messages import Role
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.hashes import sha256
from btcfi.market.account import AnotherDeskError, SignedRegistration, WrongRegistrationError
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces.rest.auth import create_key, revoke_key
from btcfi.units import UnixSeconds
from tests.integration.adapters.store.market.test_store_market_at_once import all_at_once
from tests.support import accounts as people
from tests.support.market_store import DESK, MAKER, NOW, OTHER, TAKER, filled, newer, post, traded

LATER = UnixSeconds(NOW + 1)


def registered(store, signed, **more):
    with store.transaction() as session:
        return register(session, signed, now=LATER, **more)


def states(store):
    with store.reading() as session:
        return {row.number: row.state for row in market.offers_of(session, None, limit=100).rows}


def test_the_same_registration_again_is_the_same_account(store):
    first = registered(store, MAKER.registration())
    again = registered(store, MAKER.registration())
    assert (again.id, again.name, again.joined_at_unix) == (MAKER.id, MAKER.name, LATER)
    assert again.model_dump() == first.model_dump()
    with store.reading() as session:
        assert [row.id for row in market.accounts(session, limit=9).rows] == [MAKER.id]
        assert accounts.registration_of(accounts.account_by_name(session, MAKER.name)) == MAKER.registration()


def test_a_name_belongs_to_the_identity_that_registered_it_first(store):
    registered(store, MAKER.registration())
    with pytest.raises(NameTakenError):
        registered(store, OTHER.registration(name=MAKER.name))
    with store.reading() as session, pytest.raises(NotFoundError):
        accounts.account(session, OTHER.id)


def test_an_account_keeps_its_name(store):
    registered(store, MAKER.registration())
    with pytest.raises(InvalidInputError) as refused:
        registered(store, newer(MAKER).registration(name="another-name"))
    assert refused.value.field == "name"


def test_a_higher_number_brings_newer_keys_and_what_stood_under_the_older_ones_is_withdrawn(store):
    filled(store)
    offer, other = MAKER.offer(), OTHER.offer()
    post(store, MAKER, offer)
    post(store, OTHER, other)
    row = registered(store, newer(MAKER).registration())
    assert (row.number, row.request_key) == (2, public_key_xonly(newer(MAKER).request_secret).hex())
    assert states(store) == {offer.offer.number: "withdrawn", other.offer.number: "open"}
    assert registered(store, newer(MAKER).registration()).number == 2


def test_what_is_taken_whole_does_not_open_again_under_newer_keys_and_its_take_fails_by_who_changed_them(store):
    filled(store)
    _, _, taken = traded(store, quantity=100)
    registered(store, newer(MAKER).registration())
    assert list(states(store).values()) == ["broken"]
    with store.reading() as session:
        row = session.get_one(TakeRow, taken.id)
        assert (row.state, row.fault) == ("failed", "maker")


@pytest.mark.parametrize("number", [1, 2])
def test_an_older_word_or_another_of_the_same_number_replaces_nothing(store, number):
    registered(store, newer(MAKER).registration())
    with pytest.raises(StaleRegistrationError) as refused:
        registered(store, MAKER.registration(number=number))
    assert (refused.value.number, refused.value.known) == (number, 2)


def test_a_registration_that_its_identity_did_not_sign_or_for_another_service_makes_no_account(store):
    forged = SignedRegistration(
        registration=MAKER.registration().registration, signature=OTHER.registration().signature
    )
    with pytest.raises(WrongRegistrationError):
        registered(store, forged)
    elsewhere = public_key_xonly(sha256(b"another desk"))
    with pytest.raises(AnotherDeskError):
        registered(store, MAKER.registration(desk=elsewhere), desk=DESK)
    with store.reading() as session:
        assert market.accounts(session, limit=9).rows == []


def test_a_suspended_account_offers_nothing_and_keeps_what_it_owns(store):
    filled(store)
    _, _, taken = traded(store)
    with store.transaction() as session:
        accounts.suspend(session, MAKER.id, now=LATER)
    (refused,) = post(store, MAKER, MAKER.offer())
    assert (refused.state, refused.field) == (None, "maker")
    with store.reading() as session:
        assert session.get_one(FirmOfferRow, taken.offer_id).state == "withdrawn"
        (held,) = market.positions(session, MAKER.id, limit=9).rows
        assert (held.option.id, held.role, held.take.id) == (taken.option_id, "writer", taken.id)
    with store.transaction() as session:
        accounts.reopen(session, MAKER.id, now=LATER)
    assert post(store, MAKER, MAKER.offer())[0].state == "open"


def test_a_position_is_shown_to_its_two_sides_and_to_nobody_else(store):
    filled(store)
    _, _, taken = traded(store)
    with store.reading() as session:
        seen = {
            trader.name: [
                (held.option.id, held.role) for held in market.positions(session, trader.id, limit=9).rows
            ] + [row.id for row in market.takes_of(session, trader.id, limit=9).rows]
            + [market.take_of(session, trader.id, taken.id) is not None]
            + [market.offer_of_account(session, trader.id, taken.offer_id) is not None]
            for trader in (MAKER, TAKER, OTHER)
        }  # fmt: skip
        (public,) = market.trades(session, limit=9).rows
        assert len(market.positions(session, None, limit=9).rows) == 1
    assert seen == {
        MAKER.name: [(taken.option_id, "writer"), taken.id, True, True],
        TAKER.name: [(taken.option_id, "holder"), taken.id, True, False],
        OTHER.name: [False, False],
    }
    shown = vars(public) if hasattr(public, "__dict__") else {n: getattr(public, n) for n in public.__slots__}
    assert not {MAKER.id, TAKER.id, MAKER.name, TAKER.name, taken.option_id} & set(map(str, shown.values()))
    assert (public.side, public.quantity) == ("buy", 10)


@pytest.mark.parametrize("name", ["seller", "buyer"])
def test_the_name_of_a_folder_that_was_there_before_accounts_is_nobody_else_s(store, name):
    with pytest.raises(NameTakenError):
        registered(store, MAKER.registration(name=name))
    assert registered(store, OTHER.registration(name=name), carrier="folder").name == name


def test_options_and_closes_of_the_two_folders_are_their_accounts_once_those_are_adopted(store):
    seller, buyer = (people.trader(name) for name in ("seller", "buyer"))
    with store.transaction() as session:
        session.add(
            OptionRow(
                id="o1", feed="BTC/USD", kind=0, strike_cents=1, quantity_centi_btc=1, expiry_unix=60, premium_cents=1,
                premium_sats=1, collateral_sats=1, volatility_bps=1, rate_bps=1, preset="p", preset_sha256="00",
                program="g", program_sha256="00", created_at_unix=1, listed_slot=0, updated_at_unix=1,
            )
        )  # fmt: skip
        session.flush()
        session.add(
            CloseRow(
                id="c1", option_id="o1", by="seller", body="{}", payout_sats=1, valid_until_unix=9, created_at_unix=1,
                updated_at_unix=1,
            )
        )  # fmt: skip
    registrations = {Role.SELLER: seller.registered(), Role.BUYER: buyer.registered()}
    for many in (1, 0):
        with store.transaction() as session:
            assert adopt(session, registrations, desk=people.DESK, now=people.NOW).options == many
    with store.reading() as session:
        for one, own in ((seller, True), (buyer, False)):
            (found,) = market.closes_of(session, one.identity.hex(), limit=5).rows
            assert (found.row.id, found.own) == ("c1", own)


def key_of(store, n, most=3):
    return create_key(
        store, name=f"bot {n}", roles=("read",), entropy=bytes([n]) * 40, now=UnixSeconds(NOW + n),
        account_id=MAKER.id, most=most,
    )  # fmt: skip


def test_an_account_that_asks_for_keys_at_once_gets_no_more_than_it_may_have(store):
    """They were counted in another transaction than the one that wrote."""
    registered(store, MAKER.registration())
    got = all_at_once(lambda n: key_of(store, n), range(1, 9))
    assert sum(isinstance(one, TooManyKeysError) for one in got) == 5
    with store.reading() as session:
        assert len(market.api_keys_of(session, MAKER.id)) == 3


def test_an_account_that_makes_and_ends_keys_without_an_end_keeps_its_newest_and_the_living_one(store):
    registered(store, MAKER.registration())
    living = key_of(store, 1).split("_")[1]
    for n in range(2, 30):
        revoke_key(store, key_of(store, n).split("_")[1], now=UnixSeconds(NOW + n))
    with store.reading() as session:
        kept = [one.id for one in market.api_keys_of(session, MAKER.id)]
    assert kept == [living, *(bytes([n]).hex() * 8 for n in (26, 27, 28, 29))]
