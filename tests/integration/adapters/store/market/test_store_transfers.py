"""Consents, offers and takes of positions: the database decides who was first, and whose fault costs what."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count

import pytest

from btcfi.adapters.store.market import accounts, transfers
from btcfi.adapters.store.market.closes import NotClosableError
from btcfi.adapters.store.market.errors import OfferGoneError, SuspendedError
from btcfi.adapters.store.market.tables import FirmOfferRow
from btcfi.adapters.store.market.transfer_rounds import fail, forget_words, keep_word, stand_down, words
from btcfi.adapters.store.market.transfer_tables import TransferConsentRow, TransferOfferRow, TransferRow
from btcfi.adapters.store.market.transfers import MOST_OF_ONE, Moment, NotTransferableError
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.messages import Role
from btcfi.contracts.payouts import decode_terms
from btcfi.contracts.reopen import Leaving
from btcfi.contracts.splice import Owner
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.market.account import AnotherDeskError, WrongSignatureError
from btcfi.market.instrument import instrument_of
from btcfi.market.transfer import (
    TransferConsent,
    TransferOffer,
    TransferTake,
    sign_consent,
    sign_offer,
    sign_take,
    terms_hash,
)
from btcfi.market.transferring import Failure, Round
from btcfi.units import Sats, UnixSeconds
from tests.support.held_contract import EXPIRY_HEIGHT, TIP, hold
from tests.support.market_store import DESK, MAKER, NOW, OTHER, TAKER, Trader, filled, newer, post, traded
from tests.support.stores import store_on_sqlite
from workers.audit import replay_events
from workers.audit import traded as audited

SELLER, HOLDER, NEWCOMER = MAKER, TAKER, OTHER
FOURTH = Trader(name="fourth-one")
AT = Moment(now=NOW, market=NOW, last_blocks=12)
PRICE, RATE = Sats(700_000), SatsPerKvb(2_000)
numbers = count(1)


class Sold:
    """A held contract, and what is said about its change of hands."""

    def __init__(self, store):
        self.store = filled(store, SELLER, HOLDER, NEWCOMER, FOURTH)
        _, _, took = traded(store, instrument="BTC-17NOV23-60000-C")
        self.option = took.option_id
        self.held = hold(store, self.option, now=NOW)
        self.until = UnixSeconds(NOW + 600)

    def consent(self, by=SELLER, **changes):
        plain = TransferConsent(
            seller=by.identity, desk=DESK, contract_id=self.held.agreement.id, valid_until=self.until,
            number=next(numbers),
        )  # fmt: skip
        return sign_consent(replace(plain, **changes), by.request_secret)

    def offer(self, by=HOLDER, **changes):
        terms = replace(self.held.agreement.terms, rate=changes.get("rate", RATE))
        option = decode_terms(terms.option)
        plain = TransferOffer(
            holder=by.identity, desk=DESK, contract_id=self.held.agreement.id, terms_hash=terms_hash(terms),
            instrument=instrument_of(option), quantity=option.quantity, price=PRICE, rate=RATE,
            valid_until=self.until, number=next(numbers),
        )  # fmt: skip
        return sign_offer(replace(plain, **changes), by.request_secret)

    def take(self, offer, by=NEWCOMER, **changes):
        plain = TransferTake(
            newcomer=by.identity, offer_id=offer.offer.id, price=offer.offer.price, valid_until=self.until,
            number=next(numbers),
        )  # fmt: skip
        return sign_take(replace(plain, **changes), by.request_secret)

    def put(self, by, word, at=AT):
        posts = {"SignedTransferConsent": transfers.post_consent, "SignedTransferOffer": transfers.post_offer,
                 "SignedTransferTake": transfers.take_position}  # fmt: skip
        with self.store.transaction() as session:
            return posts[type(word).__name__](session, accounts.account(session, by.id), word, at=at)

    def begun(self, by=NEWCOMER, **changes):
        """Have the three say their words; return the transfer's row and the signed texts."""
        consent, offer = self.consent(), self.offer(**changes)
        self.put(SELLER, consent)
        self.put(HOLDER, offer)
        take = self.take(offer, by)
        return self.put(by, take), consent, offer, take

    def get(self, table, name):
        with self.store.reading() as session:
            return session.get_one(table, name)

    def end(self, row, blamed, now=NOW, **more):
        with self.store.transaction() as session:
            return fail(session, row.id, Failure(blamed=blamed, problem="a test's"), now=now, **more)

    def states(self, row):
        return (
            self.get(TransferRow, row.id).state, self.get(TransferOfferRow, row.offer_id).state,
            self.get(TransferConsentRow, row.consent_id).state,
        )  # fmt: skip

    def sound(self):
        """Return what an audit and the event log say against transfers; the scene's contract has no events."""
        with self.store.reading() as session:
            found = [*audited(session), *replay_events(session)]
        return [str(one) for one in found if "transfer" in one.subject]


@pytest.fixture
def sold(store):
    return Sold(store)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """One of which nothing is ever kept."""
    with store_on_sqlite(tmp_path_factory.mktemp("untouched")) as made:
        yield Sold(made)


@pytest.fixture
def on_sqlite(tmp_path):
    """Where many cases are tried of what no database decides."""
    with store_on_sqlite(tmp_path) as made:
        yield Sold(made)


def test_three_texts_make_a_transfer_once_which_its_three_alone_see(sold):
    row, consent, offer, take = sold.begun()
    assert sold.put(NEWCOMER, take).id == sold.put(NEWCOMER, take).id == row.id == take.take.id.hex()
    assert sold.put(SELLER, consent).id == row.consent_id
    assert sold.put(HOLDER, offer).id == row.offer_id
    assert sold.states(row) == ("taken", "taken", "open")
    assert (row.option_id, row.new_option_id, row.price_sats) == (sold.option, take.take.option_id, PRICE)
    with sold.store.reading() as session:
        for one in (SELLER, HOLDER, NEWCOMER):
            assert [each.id for each in transfers.transfers_of(session, one.id, limit=9).rows] == [row.id]
        assert not transfers.transfers_of(session, FOURTH.id, limit=9).rows
        assert transfers.transfer_of(session, FOURTH.id, row.id) is None
        assert transfers.transfer_of(session, None, row.id).id == row.id
    assert sold.sound() == []


def test_the_book_of_positions_has_what_stands_and_says_whether_its_seller_consents(sold):
    mine = sold.put(HOLDER, sold.offer())
    alone = sold.put(HOLDER, sold.offer(taker=FOURTH.identity))

    def book(account, now=NOW):
        with sold.store.reading() as session:
            page = transfers.open_transfer_offers(session, now, account=account, limit=9)
        return {one.row.id: one.consented_until for one in page.rows}

    assert book(None) == book(NEWCOMER.id) == {mine.id: None}
    assert set(book(HOLDER.id)) == set(book(FOURTH.id)) == {mine.id, alone.id}
    sold.put(SELLER, sold.consent())
    assert book(None) == {mine.id: sold.until}
    assert book(None, now=sold.until) == {}


@pytest.mark.parametrize(
    ("by", "said", "error"),
    [
        (HOLDER, lambda one: one.consent(by=HOLDER), NotFoundError),
        (SELLER, lambda one: one.offer(by=SELLER), NotFoundError),
        (SELLER, lambda one: one.consent(contract_id=bytes(32)), NotFoundError),
        (SELLER, lambda one: replace(one.consent(), signature=bytes(64)), WrongSignatureError),
        (HOLDER, lambda one: replace(one.offer(), signature=bytes(64)), WrongSignatureError),
        (HOLDER, lambda one: one.consent(), InvalidInputError),
        (SELLER, lambda one: one.consent(desk=FOURTH.identity), InvalidInputError),
        (SELLER, lambda one: one.consent(valid_until=NOW), InvalidInputError),
        (HOLDER, lambda one: one.offer(valid_until=UnixSeconds(NOW + 31 * 86_400)), InvalidInputError),
        (HOLDER, lambda one: one.offer(terms_hash=bytes(32)), InvalidInputError),
        (HOLDER, lambda one: one.offer(quantity=1), InvalidInputError),
        (HOLDER, lambda one: one.offer(price=Sats(10**9)), InvalidInputError),
        (HOLDER, lambda one: one.offer(taker=SELLER.identity), InvalidInputError),
    ],
)
def test_what_is_not_its_word_of_its_contract_is_not_kept(untouched, by, said, error):
    with pytest.raises(error):
        untouched.put(by, said(untouched))
    with untouched.store.reading() as session:
        assert not transfers.consents_of(session, None, limit=9).rows
        assert not transfers.offers_of(session, None, limit=9).rows


def test_a_number_is_said_once_and_so_many_words_of_one_contract_stand(on_sqlite):
    first = on_sqlite.put(SELLER, on_sqlite.consent(number=7))
    with pytest.raises(InvalidInputError):
        on_sqlite.put(SELLER, on_sqlite.consent(number=7, valid_until=UnixSeconds(NOW + 60)))
    for _ in range(transfers.MOST_OPEN - 1):
        on_sqlite.put(SELLER, on_sqlite.consent())
    with pytest.raises(NotTransferableError):
        on_sqlite.put(SELLER, on_sqlite.consent())
    with on_sqlite.store.transaction() as session:
        assert transfers.withdraw_consent(session, SELLER.id, first.id, now=NOW).state == "withdrawn"
        with pytest.raises(NotFoundError):
            transfers.withdraw_consent(session, HOLDER.id, first.id, now=NOW)
    on_sqlite.put(SELLER, on_sqlite.consent())


def expired(one):
    with one.store.transaction() as session:
        session.get_one(OptionRow, one.option).state = "EXPIRED"


def closing(one):
    one.held.offer_close(500_000, Role.BUYER, now=NOW).agree()


def test_a_position_is_taken_at_its_price_while_nothing_can_overtake_it(on_sqlite):
    on_sqlite.put(SELLER, on_sqlite.consent())
    offer = on_sqlite.offer()
    on_sqlite.put(HOLDER, offer)
    for said, at, error in (
        ({"price": Sats(PRICE - 1)}, AT, InvalidInputError),
        ({"valid_until": NOW}, AT, InvalidInputError),
        ({}, replace(AT, now=on_sqlite.until), InvalidInputError),
        ({"valid_until": UnixSeconds(NOW + 900)}, replace(AT, now=on_sqlite.until), OfferGoneError),
        ({}, replace(AT, last_blocks=EXPIRY_HEIGHT - TIP + 1), NotTransferableError),
        ({}, replace(AT, market=UnixSeconds(NOW + 10**9)), NotTransferableError),
    ):
        with pytest.raises(error):
            on_sqlite.put(NEWCOMER, on_sqlite.take(offer, **said), at=at)
    with on_sqlite.store.reading() as session:
        assert session.get_one(TransferOfferRow, offer.offer.id.hex()).state == "open"
    row = on_sqlite.put(NEWCOMER, on_sqlite.take(offer), at=replace(AT, last_blocks=EXPIRY_HEIGHT - TIP))
    assert row.state == "taken"


@pytest.mark.parametrize("spoil", [expired, closing])
def test_what_is_over_or_about_to_be_closed_is_taken_by_nobody(on_sqlite, spoil):
    on_sqlite.put(SELLER, on_sqlite.consent())
    offer = on_sqlite.offer()
    on_sqlite.put(HOLDER, offer)
    spoil(on_sqlite)
    with pytest.raises(NotTransferableError):
        on_sqlite.put(NEWCOMER, on_sqlite.take(offer))
    assert on_sqlite.get(TransferOfferRow, offer.offer.id.hex()).state == "open"


def test_who_may_not_take_a_position_takes_none(on_sqlite):
    offer = on_sqlite.offer(taker=FOURTH.identity)
    on_sqlite.put(HOLDER, offer)
    with pytest.raises(NotFoundError):  # another's alone: it is not even there
        on_sqlite.put(NEWCOMER, on_sqlite.take(offer))
    with pytest.raises(NotTransferableError):  # nobody has consented
        on_sqlite.put(FOURTH, on_sqlite.take(offer, FOURTH))
    consent = on_sqlite.put(SELLER, on_sqlite.consent(valid_until=UnixSeconds(NOW + 60)))
    with pytest.raises(NotTransferableError):
        on_sqlite.put(FOURTH, on_sqlite.take(offer, FOURTH), at=replace(AT, now=UnixSeconds(NOW + 60)))
    with pytest.raises(WrongSignatureError):
        on_sqlite.put(FOURTH, replace(on_sqlite.take(offer, FOURTH), signature=bytes(64)))
    with pytest.raises(InvalidInputError):
        on_sqlite.put(NEWCOMER, on_sqlite.take(offer, FOURTH))
    with on_sqlite.store.transaction() as session:
        accounts.suspend(session, SELLER.id, now=NOW)
    assert on_sqlite.get(TransferConsentRow, consent.id).state == "withdrawn"
    with on_sqlite.store.transaction() as session:
        accounts.reopen(session, SELLER.id, now=NOW)
    on_sqlite.put(SELLER, on_sqlite.consent())
    with on_sqlite.store.transaction() as session:
        accounts.suspend(session, FOURTH.id, now=NOW)
    with pytest.raises(SuspendedError):
        on_sqlite.put(FOURTH, on_sqlite.take(offer, FOURTH))


def test_by_whose_fault_a_transfer_fails_decides_what_stands(sold):
    ask = SELLER.offer()
    post(sold.store, SELLER, ask)
    for blamed, states in (
        (None, ("over", "open", "open")), (Owner.NEWCOMER, ("over", "open", "open")),
        (Owner.HOLDER, ("over", "broken", "open")), (Owner.SELLER, ("over", "open", "broken")),
    ):  # fmt: skip
        with sold.store.transaction() as session:
            transfers.withdraw_words(session, None, now=NOW)
        post(sold.store, FOURTH, FOURTH.offer())
        rank = sold.get(FirmOfferRow, ask.offer.id.hex()).rank
        row, _, _, _ = sold.begun()
        assert sold.end(row, blamed)
        assert not sold.end(row, Owner.HOLDER)  # once
        assert sold.states(row) == states
        assert (sold.get(FirmOfferRow, ask.offer.id.hex()).rank > rank) is (blamed is Owner.SELLER)
    assert sold.sound() == []


def test_an_offer_that_lapsed_or_was_withdrawn_meanwhile_comes_not_back(on_sqlite):
    row, _, _, _ = on_sqlite.begun()
    assert on_sqlite.end(row, None, now=on_sqlite.until)
    assert on_sqlite.states(row)[1] == "expired"
    row, _, _, _ = on_sqlite.begun()
    with on_sqlite.store.transaction() as session:
        assert transfers.withdraw_offer(session, HOLDER.id, row.offer_id, now=NOW).state == "withdrawn"
    assert on_sqlite.get(TransferRow, row.id).state == "taken"  # what is under way goes on
    on_sqlite.end(row, None)
    assert on_sqlite.states(row)[1] == "withdrawn"


def test_who_lets_transfers_come_to_nothing_takes_that_position_no_more_today(on_sqlite):
    on_sqlite.put(SELLER, on_sqlite.consent())
    offer = on_sqlite.offer()
    on_sqlite.put(HOLDER, offer)
    for _ in range(MOST_OF_ONE):
        on_sqlite.end(on_sqlite.put(NEWCOMER, on_sqlite.take(offer)), Owner.NEWCOMER)
    with pytest.raises(NotTransferableError):
        on_sqlite.put(NEWCOMER, on_sqlite.take(offer))
    on_sqlite.put(FOURTH, on_sqlite.take(offer, FOURTH))


def test_of_two_that_take_at_once_one_does(sold):
    sold.put(SELLER, sold.consent())
    offer = sold.offer()
    sold.put(HOLDER, offer)

    def tried(by):
        try:
            return sold.put(by, sold.take(offer, by)).id
        except BtcfiError as e:
            return type(e)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(tried, (NEWCOMER, FOURTH)))
    assert OfferGoneError in found
    assert sum(isinstance(one, str) for one in found) == 1


def test_beside_a_transfer_nothing_is_closed(on_sqlite):
    close = on_sqlite.held.offer_close(500_000, Role.BUYER, now=NOW)
    row, _, _, _ = on_sqlite.begun()
    with pytest.raises(NotClosableError):
        close.agree()
    on_sqlite.end(row, None)
    closing(on_sqlite)


def test_other_keys_end_what_is_under_way_by_their_account_s_fault(sold):
    row, _, _, _ = sold.begun()
    with sold.store.transaction() as session:
        accounts.register(session, newer(HOLDER).registration(), now=NOW)
    assert (sold.get(TransferRow, row.id).fault, sold.states(row)) == ("holder", ("over", "broken", "open"))
    with pytest.raises(WrongSignatureError):
        sold.put(HOLDER, sold.offer())
    sold.put(HOLDER, sold.offer(by=newer(HOLDER)))


def test_a_word_counts_once_and_a_restored_store_ends_what_was_under_way(sold):
    row, _, _, _ = sold.begun()
    first, other = (Leaving(script=bytes([0, 20, *[n] * 20])) for n in (1, 2))
    with sold.store.transaction() as session:
        assert keep_word(session, row.id, Owner.HOLDER, Round.HALF, first, now=NOW)
        assert not keep_word(session, row.id, Owner.HOLDER, Round.HALF, other, now=NOW)
        assert words(session, row.id) == {(Round.HALF, Owner.HOLDER): first}
        stand_down(session, now=NOW)
    assert sold.states(row) == ("over", "withdrawn", "withdrawn")
    with sold.store.transaction() as session:
        assert not keep_word(session, row.id, Owner.SELLER, Round.HALF, first, now=NOW)
        assert forget_words(session, before=NOW) == 0
        assert forget_words(session, before=UnixSeconds(NOW + 1)) == 1


def test_words_that_lapsed_and_came_to_nothing_are_forgotten_and_those_of_transfers_are_kept(sold):
    row, _, _, _ = sold.begun()
    sold.end(row, None, now=sold.until)
    unused = sold.put(HOLDER, sold.offer())
    later = UnixSeconds(sold.until + 1)
    with sold.store.transaction() as session:
        assert transfers.lapse_words(session, now=later) == 2
        assert transfers.prune_words(session, before=UnixSeconds(later + 1)) == 1
        assert session.get(TransferOfferRow, unused.id) is None
    assert sold.states(row) == ("over", "expired", "expired")
    assert sold.sound() == []


def test_a_text_for_another_service_makes_no_transfer(on_sqlite):
    on_sqlite.put(SELLER, on_sqlite.consent())
    offer = on_sqlite.offer()
    on_sqlite.put(HOLDER, offer)
    with on_sqlite.store.transaction() as session:
        row = session.get_one(TransferOfferRow, offer.offer.id.hex())
        other = on_sqlite.offer(desk=FOURTH.identity)
        row.body = row.body.replace(DESK.hex(), FOURTH.identity.hex())
        row.body = row.body.replace(offer.signature.hex(), other.signature.hex())
    with pytest.raises((InvalidInputError, AnotherDeskError)):
        on_sqlite.put(NEWCOMER, on_sqlite.take(offer))
