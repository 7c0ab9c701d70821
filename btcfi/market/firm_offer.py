"""A maker's firm offer and a taker's take: what each signs, and the one contract that follows from both.

Prices are for one bitcoin of the instrument, in satoshis and in cents, and both are firm: neither side depends on
anybody's rate between the two. Nothing else decides the money of a take, so each side's process recomputes its terms
from the two signed texts and signs nothing that says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from btcfi import secp256k1
from btcfi.contracts.messages import Role
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.market.account import XONLY, WrongSignatureError
from btcfi.market.auction import AUCTION, MOST_STEPS, Auction, encode_auction
from btcfi.market.instrument import EXPECTED, Instrument, parse_instrument
from btcfi.market.signed_text import MAX_NUMBER, read_signed
from btcfi.options.terms import MAX_QUANTITY, OptionTerms, required_collateral
from btcfi.oracle.report import canonical_json
from btcfi.records import HASH, Rule, one_of, record, whole
from btcfi.units import (
    MAX_MONEY_SATS,
    MAX_U32,
    BasisPoints,
    CentiBtc,
    Cents,
    CentsPerBtc,
    Hash32,
    Sats,
    UnixSeconds,
)

OFFER_TYPE: Final = "btcfi/firm-offer"
TAKE_TYPE: Final = "btcfi/take"
VERSION: Final = 1

TICK_SATS: Final = 1_000
"""Of a price in satoshis: 0.00001 BTC, so that a hundredth of a bitcoin costs whole satoshis."""

_OFFER_TAG: Final = "BTCFi/firm-offer/v1"
_TAKE_TAG: Final = "BTCFi/take/v1"
LEAST_PREMIUM: Final = Sats(1_000)
"""Of a deal: the least that a funding pays, a little above what a node passes on."""

_CENTI: Final = 100
_BASIS: Final = 10_000
_SATS_PER_BTC: Final = 100_000_000


class Side(StrEnum):
    """What the maker does."""

    BID = "bid"
    """It buys: the taker writes."""
    ASK = "ask"
    """It writes: the taker buys."""

    @property
    def role(self) -> Role:
        """The maker's role in the contract."""
        return Role.SELLER if self is Side.ASK else Role.BUYER


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmOffer:
    """One maker's offer of one side of one instrument, good until a second and for a quantity."""

    maker: bytes
    """x-only identity."""
    desk: bytes
    """x-only request key of the service that it stands at."""
    instrument: Instrument
    side: Side
    price: Sats
    """For one bitcoin; a multiple of TICK_SATS."""
    price_cents: Cents
    """For one bitcoin."""
    quantity: CentiBtc
    """The most that all its takes may come to."""
    minimum: CentiBtc
    """The least that one take may be of."""
    valid_until: UnixSeconds
    """From this second on it is no more."""
    number: int
    """The maker's own, below 2**53: no two offers of one maker have the same."""
    taker: bytes | None = None
    """x-only identity of who alone may take it: an answer to a request. None: whoever comes first."""
    request: Hash32 | None = None
    """The request that it answers; its taker asked."""
    auction: Auction | None = None
    """How its price moves; None: it does not."""

    def __post_init__(self) -> None:
        """Check what needs nothing else. Raises InvalidInputError naming the field."""
        required_collateral(self.instrument.kind, self.quantity)
        if not 1 <= self.minimum <= self.quantity:
            raise InvalidInputError("minimum", f"{self.minimum}", f"1 to the quantity, {self.quantity}")
        self._check_prices(self.price, self.price_cents, "price_sats", "price_cents")
        if self.taker == self.maker:
            raise InvalidInputError("taker", "the maker itself", "another account, or nobody")
        if self.request is not None and self.taker is None:
            raise InvalidInputError("taker", "missing", "who asked, of an answer to a request")
        if self.auction is not None:
            self._check_auction(self.auction)

    def _check_prices(self, price: Sats, price_cents: Cents, sats_field: str, cents_field: str) -> None:
        if price % TICK_SATS or not TICK_SATS <= price <= MAX_MONEY_SATS * _CENTI // self.quantity:
            raise InvalidInputError(sats_field, f"{price}", f"a multiple of {TICK_SATS:,}")
        most = min(MAX_U32, MAX_U32 * _CENTI // self.quantity)
        if not 1 <= price_cents <= most:
            raise InvalidInputError(cents_field, f"{price_cents}", f"1 to {most}")

    def _check_auction(self, auction: Auction) -> None:
        self._check_prices(auction.last, auction.last_cents, "auction.last_sats", "auction.last_cents")
        falls = self.side is Side.ASK
        where = "below" if falls else "above"
        if not (auction.last < self.price if falls else auction.last > self.price):
            raise InvalidInputError("auction.last_sats", f"{auction.last:,}", f"{where} the first, {self.price:,}")
        if not (auction.last_cents <= self.price_cents if falls else auction.last_cents >= self.price_cents):
            expected = f"{where} the first or the same, {self.price_cents:,}"
            raise InvalidInputError("auction.last_cents", f"{auction.last_cents:,}", expected)
        if auction.last_begins >= self.valid_until:
            problem = f"its last step begins {auction.last_begins - self.valid_until} s after the offer's end"
            raise InvalidInputError("auction.steps", problem, "every step within valid_until")

    def prices(self, step: int | None = None) -> tuple[Sats, Cents]:
        """Return what one bitcoin costs at a step of its auction: satoshis and cents. step: None of one without.

        Raises InvalidInputError for a step that there is not.
        """
        if self.auction is None:
            if step is not None:
                raise InvalidInputError("take.step", f"{step}", "nothing: this offer's price does not move")
            return self.price, self.price_cents
        auction = self.auction
        if step is None or not 0 <= step <= auction.steps:
            raise InvalidInputError("take.step", "missing" if step is None else f"{step}", f"0 to {auction.steps}")
        return (
            Sats(auction.between(self.price, auction.last, step, unit=TICK_SATS)),
            Cents(auction.between(self.price_cents, auction.last_cents, step, unit=1)),
        )

    def step_at(self, now: UnixSeconds) -> int | None:
        """Return the step whose price holds at ``now``; None of one without an auction, or before it begins."""
        return None if self.auction is None else self.auction.step_at(now)

    @property
    def lowest(self) -> Sats:
        """The lowest price that it can have."""
        return self.price if self.auction is None else min(self.price, self.auction.last)

    @property
    def id(self) -> Hash32:
        """What its maker signs, and its name."""
        return tagged_hash(_OFFER_TAG, canonical_json(encode_offer(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One taker's word that it takes a quantity of an offer, at the offer's price and no other."""

    taker: bytes
    """x-only identity."""
    offer_id: Hash32
    quantity: CentiBtc
    price: Sats
    """For one bitcoin, as the offer says it: what the taker saw."""
    price_cents: Cents
    """For one bitcoin, as the offer says it."""
    valid_until: UnixSeconds
    """From this second on neither side signs anything of it that it has not signed before."""
    number: int
    """The taker's own, below 2**53: the same one again is the same take."""
    step: int | None = None
    """Of an auction, whose price it is; it must have begun. None of an offer whose price does not move."""

    @property
    def id(self) -> Hash32:
        """What its taker signs, and its name."""
        return tagged_hash(_TAKE_TAG, canonical_json(encode_take(self)))

    @property
    def option_id(self) -> str:
        """The name of the option that it makes: 32 hex digits behind a ``t``."""
        return "t" + self.id.hex()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedOffer:
    """An offer and its maker's signature, by its request key."""

    offer: FirmOffer
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTake:
    """A take and its taker's signature, by its request key."""

    take: Take
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """What follows from an offer and a take of it."""

    terms: OptionTerms
    premium: Sats
    """What the funding pays the seller for the whole."""
    seller: bytes
    """x-only identity."""
    buyer: bytes


def deal_of(offer: FirmOffer, take: Take) -> Deal:
    """Return the one deal of both. Raises InvalidInputError where the take is no take of this offer.

    The dollars of the whole are rounded up to the cent once, as every premium of ours; the satoshis come out whole.
    Whether the step that the take names has begun is its reader's to say, by its clock: ``early_by``.
    """
    if take.offer_id != offer.id:
        raise InvalidInputError("take.offer_id", take.offer_id.hex()[:16], f"{offer.id.hex()[:16]}, the offer's")
    if not offer.minimum <= take.quantity <= offer.quantity:
        raise InvalidInputError("take.quantity", f"{take.quantity}", f"{offer.minimum} to {offer.quantity}")
    if take.taker == offer.maker:
        raise InvalidInputError("take.taker", "the maker itself", "another account")
    if offer.taker not in (None, take.taker):
        raise InvalidInputError("take.taker", take.taker.hex()[:16], "the account that the offer is for")
    price, price_cents = offer.prices(take.step)
    if (take.price, take.price_cents) != (price, price_cents):
        problem = f"{take.price:,} sats and {take.price_cents:,} cents"
        raise InvalidInputError("take.price", problem, f"{price:,} sats and {price_cents:,} cents")
    if take.quantity < least_takeable(price):
        problem = f"{take.quantity}, at {price:,} sats a bitcoin"
        raise InvalidInputError("take.quantity", problem, f"at least {least_takeable(price)}: {LEAST_PREMIUM} sats")
    premium_cents = Cents(-(-price_cents * take.quantity // _CENTI))
    sells = offer.side is Side.ASK
    return Deal(
        terms=offer.instrument.terms(take.quantity, premium_cents),
        premium=Sats(price * take.quantity // _CENTI),
        seller=offer.maker if sells else take.taker,
        buyer=take.taker if sells else offer.maker,
    )


def early_by(offer: FirmOffer, take: Take, now: UnixSeconds) -> int:
    """Return in how many seconds the step of a take of this offer begins; 0 where it has, or there is none."""
    if offer.auction is None or take.step is None:
        return 0
    return max(offer.auction.begins_at(take.step) - now, 0)


def least_takeable(price: Sats) -> CentiBtc:
    """Return the least quantity whose premium a funding can pay. price: for one bitcoin, above 0."""
    return CentiBtc(-(-LEAST_PREMIUM * _CENTI // price))


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferRule:
    """What a market's preset says about offers and takes (``settings/presets/market``)."""

    most_open: int
    """Offers of one account that stand at once."""
    longest_seconds: int
    """From posting to ``valid_until``."""
    least_quantity: CentiBtc
    most_quantity: CentiBtc
    most_apart: BasisPoints
    """How far an offer's satoshis, at the newest spot, may lie from its cents when it is posted; a tick is free."""
    answer_seconds: int
    """In which a side has to do its step of a take; then the take fails, by its fault."""
    last_blocks: int
    """Before expiry, in which nothing is transferred."""
    confirmations: int
    """Of a transfer, until which both states are shown and the old one's signatures are kept."""

    def refusal(self, offer: FirmOffer, *, now: UnixSeconds, spot: CentsPerBtc | None) -> InvalidInputError | None:
        """Return why an offer may not be posted at ``now``, None where it may.

        spot: the newest agreed price; None: not known, and then the two prices are not compared. Whether the
        instrument is over the caller knows: a played market's minutes, in which it expires, are not the wall's.
        """
        if not now < offer.valid_until <= now + self.longest_seconds:
            return InvalidInputError(
                "valid_until", f"{offer.valid_until - now} s ahead", f"1 to {self.longest_seconds} s ahead"
            )
        if not self.least_quantity <= offer.quantity <= self.most_quantity:
            bounds = f"{self.least_quantity} to {self.most_quantity} hundredths of a bitcoin"
            return InvalidInputError("quantity", f"{offer.quantity}", bounds)
        least = max(self.least_quantity, least_takeable(offer.lowest))
        if offer.minimum < least:
            return InvalidInputError("minimum", f"{offer.minimum}", f"at least {least}: {LEAST_PREMIUM} sats a take")
        if spot is None:
            return None
        apart = self._apart(offer.price, offer.price_cents, spot, "price_cents")
        if apart is not None or offer.auction is None:
            return apart
        # what lies between the two ends is no further apart than one of them, but for the tick that is free
        return self._apart(offer.auction.last, offer.auction.last_cents, spot, "auction.last_cents")

    def _apart(self, price: Sats, cents: Cents, spot: CentsPerBtc, field: str) -> InvalidInputError | None:
        """Return why the two prices are not one, in whole numbers: 10**8 * 10**4 times a cent."""
        worth, said = price * spot, cents * _SATS_PER_BTC
        away = max(abs(worth - said) - TICK_SATS * spot, 0)
        if away * _BASIS <= self.most_apart * said:
            return None
        near = f"near {worth // _SATS_PER_BTC:,} cents, what {price:,} sats are worth at the newest price"
        return InvalidInputError(field, f"{cents:,}", near)


# ---- signing


def sign_offer(offer: FirmOffer, secret: bytes, aux: bytes = bytes(32)) -> SignedOffer:
    """Return an offer signed by a request secret. aux: 32 fresh random bytes, or none."""
    return SignedOffer(offer=offer, signature=secp256k1.schnorr_sign(secret, offer.id, aux))


def sign_take(take: Take, secret: bytes, aux: bytes = bytes(32)) -> SignedTake:
    """Return a take signed by a request secret. aux: 32 fresh random bytes, or none."""
    return SignedTake(take=take, signature=secp256k1.schnorr_sign(secret, take.id, aux))


def check_offer(signed: SignedOffer, request_key: bytes) -> FirmOffer:
    """Return an offer that its maker has signed. request_key: of its maker. Raises WrongSignatureError."""
    if not secp256k1.schnorr_verify(request_key, signed.offer.id, signed.signature):
        raise WrongSignatureError("offer", "not signed by its maker", "its request key's signature")
    return signed.offer


def check_take(signed: SignedTake, request_key: bytes) -> Take:
    """Return a take that its taker has signed. request_key: of its taker. Raises WrongSignatureError."""
    if not secp256k1.schnorr_verify(request_key, signed.take.id, signed.signature):
        raise WrongSignatureError("take", "not signed by its taker", "its request key's signature")
    return signed.take


# ---- writing and reading


def encode_offer(offer: FirmOffer) -> dict[str, Any]:
    """Return the offer as JSON, not signed."""
    return {
        "type": OFFER_TYPE,
        "version": VERSION,
        "maker": offer.maker.hex(),
        "desk": offer.desk.hex(),
        "instrument": offer.instrument.name,
        "side": offer.side.value,
        "price_sats": offer.price,
        "price_cents": offer.price_cents,
        "quantity_centi_btc": offer.quantity,
        "minimum_centi_btc": offer.minimum,
        "valid_until_unix": offer.valid_until,
        "number": offer.number,
    } | _said(
        taker=None if offer.taker is None else offer.taker.hex(),
        request=None if offer.request is None else offer.request.hex(),
        auction=None if offer.auction is None else encode_auction(offer.auction),
    )


def _said(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return what there is: a field of nothing is left out, so that a text has one spelling."""
    return {name: value for name, value in fields.items() if value is not None}


def encode_take(take: Take) -> dict[str, Any]:
    """Return the take as JSON, not signed."""
    return {
        "type": TAKE_TYPE,
        "version": VERSION,
        "taker": take.taker.hex(),
        "offer_id": take.offer_id.hex(),
        "quantity_centi_btc": take.quantity,
        "price_sats": take.price,
        "price_cents": take.price_cents,
        "valid_until_unix": take.valid_until,
        "number": take.number,
    } | _said(step=take.step)


def encode_signed_offer(signed: SignedOffer) -> dict[str, Any]:
    """Return the offer and its signature as JSON."""
    return encode_offer(signed.offer) | {"signature": signed.signature.hex()}


def encode_signed_take(signed: SignedTake) -> dict[str, Any]:
    """Return the take and its signature as JSON."""
    return encode_take(signed.take) | {"signature": signed.signature.hex()}


_NUMBER: Final = whole(0, MAX_NUMBER)
_QUANTITY: Final = whole(1, MAX_QUANTITY)

_OFFER: Final = record(
    FirmOffer, exact=True, maker=XONLY, desk=XONLY, instrument=Rule(parse_instrument, EXPECTED), side=one_of(Side),
    price="price_sats", quantity=("quantity_centi_btc", _QUANTITY), minimum=("minimum_centi_btc", _QUANTITY),
    valid_until="valid_until_unix", number=_NUMBER, taker=XONLY, request=HASH, auction=AUCTION,
    may_lack=("taker", "request", "auction"),
)  # fmt: skip

_TAKE: Final = record(
    Take, exact=True, taker=XONLY, offer_id=HASH, quantity=("quantity_centi_btc", _QUANTITY), price="price_sats",
    valid_until="valid_until_unix", number=_NUMBER, step=whole(0, MOST_STEPS), may_lack=("step",),
)  # fmt: skip


def decode_signed_offer(message: object) -> SignedOffer:
    """Return a signed offer, its signature unchecked. Raises InvalidInputError naming the field."""
    offer, signature = read_signed(_OFFER, message, kind=OFFER_TYPE, version=VERSION)
    return SignedOffer(offer=offer, signature=signature)


def decode_signed_take(message: object) -> SignedTake:
    """Return a signed take, its signature unchecked. Raises InvalidInputError naming the field."""
    take, signature = read_signed(_TAKE, message, kind=TAKE_TYPE, version=VERSION)
    return SignedTake(take=take, signature=signature)
