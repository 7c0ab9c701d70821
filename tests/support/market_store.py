"""A market in a store, for tests: accounts with real keys, a priced minute, offers and takes that they sign."""

from dataclasses import dataclass, field, replace
from itertools import count

from btcfi.adapters.sealed_letters import box_key
from btcfi.adapters.store.market import offers as offer_rows
from btcfi.adapters.store.market import takes as take_rows
from btcfi.adapters.store.market.accounts import register
from btcfi.adapters.store.options.sales import SaleRule, read_market
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.hashes import sha256
from btcfi.market.account import Registration, sign_registration
from btcfi.market.firm_offer import FirmOffer, OfferRule, Side, Take, sign_offer, sign_take
from btcfi.market.instrument import parse_instrument
from btcfi.market.request import QuoteRequest, Wanted, sign_request
from btcfi.oracle.fixing import Fixing, FixingKind
from btcfi.oracle.quote import Feed
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import BasisPoints, Minutes, Slot, UnixSeconds
from tests.support.rounds import priced_round

FEED = Feed("BTC/USD")
SLOT = Slot(1_700_000_040)
NOW = UnixSeconds(SLOT + 90)
SPOT = 6_000_000
"""Cents."""
CALL = "BTC-27NOV26-60000-C"
PUT = "BTC-27NOV26-60000-P"
PRICE_SATS, PRICE_CENTS = 2_000_000, 120_000
"""The same at SPOT."""
DESK = public_key_xonly(sha256(b"a desk"))
RULE = OfferRule(
    most_open=5_000, longest_seconds=86_400, least_quantity=1, most_quantity=10_000, most_apart=BasisPoints(500),
    answer_seconds=20, last_blocks=12, confirmations=6,
)  # fmt: skip
SALE = SaleRule(
    feed=FEED, rate_bps=BasisPoints(500), fallback_volatility_bps=6_000, fixing=Fixing(FixingKind.TWAP, Minutes(30)),
    preset="standard", preset_sha256="11" * 32, program="option_settlement", program_sha256="22" * 32,
)  # fmt: skip

_numbers = count(1)


@dataclass(frozen=True, kw_only=True)
class Trader:
    """Somebody with keys; ``version`` tells its keys of one time from those of another."""

    name: str
    version: int = 1
    secret: bytes = field(default=b"", repr=False)

    @property
    def identity_secret(self):
        return sha256(f"{self.name} identity".encode())

    @property
    def identity(self):
        return public_key_xonly(self.identity_secret)

    @property
    def id(self):
        return self.identity.hex()

    @property
    def request_secret(self):
        return sha256(f"{self.name} request {self.version}".encode())

    def registration(self, *, name=None, number=None, desk=DESK):
        said = Registration(
            name=name or self.name, identity=self.identity, request_key=public_key_xonly(self.request_secret),
            box_key=box_key(sha256(f"{self.name} box {self.version}".encode())), desk=desk,
            number=number or self.version, at=NOW,
        )  # fmt: skip
        return sign_registration(said, self.identity_secret)

    def offer(self, instrument=CALL, side=Side.ASK, **changes):
        given = {
            "maker": self.identity, "desk": DESK, "instrument": parse_instrument(instrument), "side": side,
            "price": PRICE_SATS, "price_cents": PRICE_CENTS, "quantity": 100, "minimum": 1,
            "valid_until": UnixSeconds(NOW + 600), "number": next(_numbers),
        }  # fmt: skip
        return sign_offer(FirmOffer(**(given | changes)), self.request_secret)

    def request(self, instrument=CALL, **changes):
        given = {
            "taker": self.identity, "desk": DESK, "instrument": parse_instrument(instrument), "wanted": Wanted.BUY,
            "quantity": 50, "valid_until": UnixSeconds(NOW + 60), "number": next(_numbers),
        }  # fmt: skip
        return sign_request(QuoteRequest(**(given | changes)), self.request_secret)

    def take(self, signed, quantity=10, **changes):
        offer = signed.offer
        given = {
            "taker": self.identity, "offer_id": offer.id, "quantity": quantity, "price": offer.price,
            "price_cents": offer.price_cents, "valid_until": UnixSeconds(NOW + 60), "number": next(_numbers),
        }  # fmt: skip
        return sign_take(Take(**(given | changes)), self.request_secret)


MAKER, TAKER, OTHER = Trader(name="maker-one"), Trader(name="taker-one"), Trader(name="other-one")


def add_price(session, slot=SLOT, price=SPOT):
    """Store a priced minute that a sale may be made at."""
    row = priced_round(slot, price)
    session.add(RoundRow(**(row.model_dump() | {"closed_at_unix": slot + 62})))
    session.flush()


def filled(store, *traders):
    """Give a store a price and accounts, and return it."""
    with store.transaction() as session:
        add_price(session)
        for one in traders or (MAKER, TAKER, OTHER):
            register(session, one.registration(), now=NOW)
    return store


def post(store, trader, *signed, now=NOW, rule=RULE):
    """Post offers and return what became of them."""
    with store.transaction() as session:
        account = offer_rows.Session.get_one(session, offer_rows.AccountRow, trader.id)
        return offer_rows.post_offers(
            session, account, signed, rule=rule, market=read_market(session, SALE, now=now), now=now
        )  # fmt: skip


def take(store, signed, *, now=NOW, rule=SALE):
    """Take, and return the row."""
    with store.transaction() as session:
        return take_rows.take(session, signed, rule=rule, now=now, wall=now)


def traded(store, maker=MAKER, taker=TAKER, quantity=10, **changes):
    """Post one offer, take some of it, and return both as signed, and the take's row."""
    offer = maker.offer(**changes)
    assert post(store, maker, offer)[0].problem is None
    signed = taker.take(offer, quantity)
    return offer, signed, take(store, signed)


def newer(trader):
    """Return the same trader with newer keys."""
    return replace(trader, version=trader.version + 1)
