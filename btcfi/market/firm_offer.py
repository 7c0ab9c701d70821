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

    def __post_init__(self) -> None:
        """Check what needs nothing else. Raises InvalidInputError naming the field."""
        required_collateral(self.instrument.kind, self.quantity)
        if not 1 <= self.minimum <= self.quantity:
            raise InvalidInputError("minimum", f"{self.minimum}", f"1 to the quantity, {self.quantity}")
        if self.price % TICK_SATS or not TICK_SATS <= self.price <= MAX_MONEY_SATS * _CENTI // self.quantity:
            raise InvalidInputError("price_sats", f"{self.price}", f"a multiple of {TICK_SATS:,}")
        most = min(MAX_U32, MAX_U32 * _CENTI // self.quantity)
        if not 1 <= self.price_cents <= most:
            raise InvalidInputError("price_cents", f"{self.price_cents}", f"1 to {most}")
        if self.taker == self.maker:
            raise InvalidInputError("taker", "the maker itself", "another account, or nobody")

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
    """
    if take.offer_id != offer.id:
        raise InvalidInputError("take.offer_id", take.offer_id.hex()[:16], f"{offer.id.hex()[:16]}, the offer's")
    if not offer.minimum <= take.quantity <= offer.quantity:
        raise InvalidInputError("take.quantity", f"{take.quantity}", f"{offer.minimum} to {offer.quantity}")
    if take.taker == offer.maker:
        raise InvalidInputError("take.taker", "the maker itself", "another account")
    if offer.taker not in (None, take.taker):
        raise InvalidInputError("take.taker", take.taker.hex()[:16], "the account that the offer is for")
    if (take.price, take.price_cents) != (offer.price, offer.price_cents):
        problem = f"{take.price:,} sats and {take.price_cents:,} cents"
        raise InvalidInputError("take.price", problem, f"{offer.price:,} sats and {offer.price_cents:,} cents")
    if take.quantity < least_takeable(offer.price):
        problem = f"{take.quantity}, at {offer.price:,} sats a bitcoin"
        raise InvalidInputError(
            "take.quantity", problem, f"at least {least_takeable(offer.price)}: {LEAST_PREMIUM} sats"
        )
    premium_cents = Cents(-(-offer.price_cents * take.quantity // _CENTI))
    sells = offer.side is Side.ASK
    return Deal(
        terms=offer.instrument.terms(take.quantity, premium_cents),
        premium=Sats(offer.price * take.quantity // _CENTI),
        seller=offer.maker if sells else take.taker,
        buyer=take.taker if sells else offer.maker,
    )


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
        least = max(self.least_quantity, least_takeable(offer.price))
        if offer.minimum < least:
            return InvalidInputError("minimum", f"{offer.minimum}", f"at least {least}: {LEAST_PREMIUM} sats a take")
        return None if spot is None else self._apart(offer, spot)

    def _apart(self, offer: FirmOffer, spot: CentsPerBtc) -> InvalidInputError | None:
        """Return why the two prices are not one, in whole numbers: 10**8 * 10**4 times a cent."""
        worth, said = offer.price * spot, offer.price_cents * _SATS_PER_BTC
        away = max(abs(worth - said) - TICK_SATS * spot, 0)
        if away * _BASIS <= self.most_apart * said:
            return None
        near = f"near {worth // _SATS_PER_BTC:,} cents, what {offer.price:,} sats are worth at the newest price"
        return InvalidInputError("price_cents", f"{offer.price_cents:,}", near)


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
    } | ({} if offer.taker is None else {"taker": offer.taker.hex()})


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
    }


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
    valid_until="valid_until_unix", number=_NUMBER, taker=XONLY, may_lack=("taker",),
)  # fmt: skip

_TAKE: Final = record(
    Take, exact=True, taker=XONLY, offer_id=HASH, quantity=("quantity_centi_btc", _QUANTITY), price="price_sats",
    valid_until="valid_until_unix", number=_NUMBER,
)  # fmt: skip


def decode_signed_offer(message: object) -> SignedOffer:
    """Return a signed offer, its signature unchecked. Raises InvalidInputError naming the field."""
    offer, signature = read_signed(_OFFER, message, kind=OFFER_TYPE, version=VERSION)
    return SignedOffer(offer=offer, signature=signature)


def decode_signed_take(message: object) -> SignedTake:
    """Return a signed take, its signature unchecked. Raises InvalidInputError naming the field."""
    take, signature = read_signed(_TAKE, message, kind=TAKE_TYPE, version=VERSION)
    return SignedTake(take=take, signature=signature)
