"""A request for quotes: what somebody would trade, signed, so that makers answer with firm offers for it alone.

It says no price and binds to nothing. Makers see whose it is: an answer names the one account that may take it, and
that name is signed. Any instrument can be asked for, listed or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from btcfi import secp256k1
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.market.account import XONLY, WrongSignatureError
from btcfi.market.firm_offer import FirmOffer, Side
from btcfi.market.instrument import EXPECTED, Instrument, parse_instrument
from btcfi.market.signed_text import MAX_NUMBER, read_signed
from btcfi.options.terms import MAX_QUANTITY, required_collateral
from btcfi.oracle.report import canonical_json
from btcfi.records import Rule, one_of, record, whole
from btcfi.units import CentiBtc, Hash32, UnixSeconds

REQUEST_TYPE: Final = "btcfi/quote-request"
VERSION: Final = 1

MOST_OPEN: Final = 10
"""Requests of one account that stand at once: each has every maker price an instrument."""

LONGEST_SECONDS: Final = 3_600
"""From asking to ``valid_until``: nobody waits for a quote longer, and asks again."""

_TAG: Final = "BTCFi/quote-request/v1"


class Wanted(StrEnum):
    """What the asking account would do."""

    BUY = "buy"
    SELL = "sell"
    """Write it."""
    BOTH = "both"
    """It does not say."""

    @property
    def sides(self) -> tuple[Side, ...]:
        """What an answer may be: who buys takes an ask."""
        return {Wanted.BUY: (Side.ASK,), Wanted.SELL: (Side.BID,), Wanted.BOTH: (Side.BID, Side.ASK)}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteRequest:
    """What one account asks quotes for, until a second."""

    taker: bytes
    """x-only identity: who asks, and alone may take the answers."""
    desk: bytes
    """x-only request key of the service that it is asked at."""
    instrument: Instrument
    wanted: Wanted
    quantity: CentiBtc
    """The most that an answer may be of."""
    valid_until: UnixSeconds
    """From this second on nobody answers it."""
    number: int
    """The account's own, below 2**53: the same one again is the same request."""

    def __post_init__(self) -> None:
        """Check what needs nothing else. Raises InvalidInputError naming the field."""
        required_collateral(self.instrument.kind, self.quantity)

    @property
    def id(self) -> Hash32:
        """What its taker signs, and its name."""
        return tagged_hash(_TAG, canonical_json(encode_request(self)))

    def refusal(self, *, now: UnixSeconds) -> InvalidInputError | None:
        """Return why it may not be asked at ``now``, None where it may."""
        if now < self.valid_until <= now + LONGEST_SECONDS:
            return None
        return InvalidInputError(
            "valid_until", f"{self.valid_until - now} s ahead", f"1 to {LONGEST_SECONDS} s ahead"
        )  # fmt: skip

    def misses(self, offer: FirmOffer) -> InvalidInputError | None:
        """Return why an offer that names this request is no answer to it, None where it is one."""
        if offer.taker != self.taker:
            return InvalidInputError("taker", "not who asks", f"{self.taker.hex()}, the request's")
        if offer.instrument != self.instrument:
            return InvalidInputError("instrument", offer.instrument.name, f"{self.instrument.name}, the request's")
        if offer.side not in self.wanted.sides:
            return InvalidInputError(
                "side", offer.side.value, f"{' or '.join(one.value for one in self.wanted.sides)}, to who would "
                f"{'buy or sell' if self.wanted is Wanted.BOTH else self.wanted.value}",
            )  # fmt: skip
        if offer.quantity > self.quantity:
            return InvalidInputError("quantity", f"{offer.quantity}", f"at most {self.quantity}, the request's")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedQuoteRequest:
    """A request and its taker's signature, by its request key."""

    request: QuoteRequest
    signature: bytes


def sign_request(request: QuoteRequest, secret: bytes, aux: bytes = bytes(32)) -> SignedQuoteRequest:
    """Return a request signed by a request secret. aux: 32 fresh random bytes, or none."""
    return SignedQuoteRequest(request=request, signature=secp256k1.schnorr_sign(secret, request.id, aux))


def check_request(signed: SignedQuoteRequest, request_key: bytes) -> QuoteRequest:
    """Return a request that its taker has signed. request_key: of its taker. Raises WrongSignatureError."""
    if not secp256k1.schnorr_verify(request_key, signed.request.id, signed.signature):
        raise WrongSignatureError("request", "not signed by who asks", "its request key's signature")
    return signed.request


# ---- writing and reading


def encode_request(request: QuoteRequest) -> dict[str, Any]:
    """Return the request as JSON, not signed."""
    return {
        "type": REQUEST_TYPE,
        "version": VERSION,
        "taker": request.taker.hex(),
        "desk": request.desk.hex(),
        "instrument": request.instrument.name,
        "wanted": request.wanted.value,
        "quantity_centi_btc": request.quantity,
        "valid_until_unix": request.valid_until,
        "number": request.number,
    }


def encode_signed_request(signed: SignedQuoteRequest) -> dict[str, Any]:
    """Return the request and its signature as JSON."""
    return encode_request(signed.request) | {"signature": signed.signature.hex()}


_REQUEST: Final = record(
    QuoteRequest, exact=True, taker=XONLY, desk=XONLY, instrument=Rule(parse_instrument, EXPECTED),
    wanted=one_of(Wanted), quantity=("quantity_centi_btc", whole(1, MAX_QUANTITY)), valid_until="valid_until_unix",
    number=whole(0, MAX_NUMBER),
)  # fmt: skip


def decode_signed_request(message: object) -> SignedQuoteRequest:
    """Return a signed request, its signature unchecked. Raises InvalidInputError naming the field."""
    request, signature = read_signed(_REQUEST, message, kind=REQUEST_TYPE, version=VERSION)
    return SignedQuoteRequest(request=request, signature=signature)
