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
from btcfi.market.instrument import Instrument, parse_instrument
from btcfi.options.terms import MAX_QUANTITY, OptionTerms
from btcfi.oracle.report import canonical_json
from btcfi.records import HASH, Rule, hexadecimal, one_of, optional, record, whole
from btcfi.units import MAX_MONEY_SATS, MAX_U32, CentiBtc, Cents, Hash32, Sats, UnixSeconds

OFFER_TYPE: Final = "btcfi/firm-offer"
TAKE_TYPE: Final = "btcfi/take"
VERSION: Final = 1

TICK_SATS: Final = 1_000
"""Of a price in satoshis: 0.00001 BTC, so that a hundredth of a bitcoin costs whole satoshis."""

_OFFER_TAG: Final = "BTCFi/firm-offer/v1"
_TAKE_TAG: Final = "BTCFi/take/v1"
_CENTI: Final = 100
_LAST: Final = (1 << 63) - 1


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
    """The maker's own: no two offers of one maker have the same."""
    taker: bytes | None = None
    """x-only identity of who alone may take it: an answer to a request. None: whoever comes first."""

    def __post_init__(self) -> None:
        """Check what needs nothing else. Raises InvalidInputError naming the field."""
        if not 1 <= self.minimum <= self.quantity:
            raise InvalidInputError("minimum", f"{self.minimum}", f"1 to the quantity, {self.quantity}")
        if self.price % TICK_SATS or not TICK_SATS <= self.price <= MAX_MONEY_SATS:
            raise InvalidInputError("price_sats", f"{self.price}", f"a multiple of {TICK_SATS:,}")
        if not 1 <= self.price_cents <= MAX_U32:
            raise InvalidInputError("price_cents", f"{self.price_cents}", f"1 to {MAX_U32}")

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
    """The taker's own: the same one again is the same take."""

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

    The dollars are rounded half up to the cent; the satoshis come out whole.
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
    premium_cents = Cents((offer.price_cents * take.quantity + _CENTI // 2) // _CENTI)
    sells = offer.side is Side.ASK
    return Deal(
        terms=offer.instrument.terms(take.quantity, premium_cents),
        premium=Sats(offer.price * take.quantity // _CENTI),
        seller=offer.maker if sells else take.taker,
        buyer=take.taker if sells else offer.maker,
    )


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


_NUMBER: Final = whole(0, _LAST)
_QUANTITY: Final = whole(1, MAX_QUANTITY)

_OFFER: Final = record(
    FirmOffer, maker=XONLY, desk=XONLY, instrument=Rule(parse_instrument, "an instrument's name"), side=one_of(Side),
    price="price_sats", quantity=("quantity_centi_btc", _QUANTITY), minimum=("minimum_centi_btc", _QUANTITY),
    valid_until="valid_until_unix", number=_NUMBER, taker=optional(XONLY), may_lack=("taker",),
)  # fmt: skip

_TAKE: Final = record(
    Take, taker=XONLY, offer_id=HASH, quantity=("quantity_centi_btc", _QUANTITY), price="price_sats",
    valid_until="valid_until_unix", number=_NUMBER,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    type: str
    version: int
    signature: bytes


_SIGNED: Final = record(_Signed, version=whole(VERSION, VERSION), signature=hexadecimal(64))


def decode_signed_offer(message: object) -> SignedOffer:
    """Return a signed offer, its signature unchecked. Raises InvalidInputError naming the field."""
    signature = _signature(message, OFFER_TYPE)
    return SignedOffer(offer=_OFFER.read(message, OFFER_TYPE), signature=signature)


def decode_signed_take(message: object) -> SignedTake:
    """Return a signed take, its signature unchecked. Raises InvalidInputError naming the field."""
    signature = _signature(message, TAKE_TYPE)
    return SignedTake(take=_TAKE.read(message, TAKE_TYPE), signature=signature)


def _signature(message: object, kind: str) -> bytes:
    signed = _SIGNED.read(message, kind)
    if signed.type != kind:
        raise InvalidInputError(f"{kind}.type", repr(signed.type), repr(kind))
    return signed.signature
