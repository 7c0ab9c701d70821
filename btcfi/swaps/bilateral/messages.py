"""The messages of a bilateral swap as JSON, versioned; a field that a reader does not know is refused.

Terms name no event: it follows from them, and an oracle's announcement of any other is refused. What both sides sign is
base64, whose lengths follow from the terms and are checked with the signatures (``presign.check``).
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Any, Final

from btcfi.bitcoin.fees import MAX_FEE_RATE, SatsPerKvb
from btcfi.contracts.messages import canonical
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import Announcement
from btcfi.records import BASE64, Rule, hexadecimal, listed, record, whole
from btcfi.swaps.bilateral.grid import FINE_DIGITS, STANDARD_DIGITS, return_event
from btcfi.swaps.bilateral.presign import Presignatures
from btcfi.swaps.bilateral.terms import Owner, Party, SwapTerms
from btcfi.swaps.contract import MAX_BASIS_PPM, MAX_LEVERAGE, MAX_TARGET_PPM, Rates, SwapContract
from btcfi.swaps.returns import Side
from btcfi.units import MAX_U32, Hash32, Sats, Slot, UnixSeconds

VERSION: Final = 1

TERMS: Final = "btcfi/swap-terms"
PRESIGNATURES: Final = "btcfi/swap-presignatures"

Json = dict[str, Any]

_TERMS_TAG: Final = "BTCFi/swaps/terms/v1"
_MAX_ORACLES: Final = 16
_MAX_SCRIPT: Final = 42
"""Bytes of the longest witness program. Source: BIP141."""

_SIDES: Final = {side.name.lower(): side for side in Side}
_VERSION: Final = whole(VERSION, VERSION)
_HEX32: Final = hexadecimal(32)
_HEX64: Final = hexadecimal(64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Oracle:
    """An announcement without its event."""

    oracle_key: bytes
    nonces: tuple[bytes, ...]
    proofs: tuple[bytes, ...]
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """Terms as they are written: flat."""

    type: str
    version: int
    contract: SwapContract
    side: Side
    rates: Rates
    required: Sats
    start: Slot
    end: Slot
    lock: UnixSeconds
    taker: Party
    provider: Party
    oracles: tuple[_Oracle, ...]
    threshold: int
    price_rule: Hash32
    program: Hash32
    digits: int
    fee_cap: int
    least_window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Presignatures:
    """What one side signs, as it is written."""

    type: str
    version: int
    terms: Hash32
    settle: bytes
    burn: bytes
    release: bytes


_CONTRACT: Final = record(SwapContract, exact=True, leverage_hundredths=whole(1, MAX_LEVERAGE))
_RATES: Final = record(
    Rates, exact=True, target_ppm=whole(0, MAX_TARGET_PPM), basis_ppm=whole(-MAX_BASIS_PPM, MAX_BASIS_PPM)
)
_PARTY: Final = record(Party, exact=True, key=hexadecimal(33), script=hexadecimal(at_most=_MAX_SCRIPT))
_ORACLE: Final = record(
    _Oracle, exact=True, oracle_key=_HEX32, nonces=listed(_HEX32, FINE_DIGITS), proofs=listed(_HEX64, FINE_DIGITS),
    signature=_HEX64,
)  # fmt: skip
_TERMS: Final = record(
    _Terms, exact=True, version=_VERSION, side=Rule(_SIDES.__getitem__, "long or short"), required="required_sats",
    start="start_unix", end="end_unix", lock="lock_unix", oracles=listed(_ORACLE, _MAX_ORACLES),
    threshold=whole(1, _MAX_ORACLES), digits=whole(STANDARD_DIGITS, FINE_DIGITS),
    fee_cap=("fee_cap_sats_per_kvb", whole(1, MAX_FEE_RATE)), least_window=("least_window_seconds", whole(1, MAX_U32)),
)  # fmt: skip
_PRESIGNATURES: Final = record(
    _Presignatures, exact=True, version=_VERSION, settle=BASE64, burn=BASE64, release=BASE64
)  # fmt: skip


def encode_terms(terms: SwapTerms) -> Json:
    """Return terms as JSON."""
    contract = terms.contract
    return {
        "type": TERMS, "version": VERSION,
        "contract": {
            "name": contract.name, "asset": contract.asset, "quote": contract.quote,
            "leverage_hundredths": contract.leverage_hundredths,
        },
        "side": terms.side.name.lower(),
        "rates": {"target_ppm": terms.rates.target_ppm, "basis_ppm": terms.rates.basis_ppm},
        "required_sats": terms.required, "start_unix": terms.start, "end_unix": terms.end, "lock_unix": terms.lock,
        **{
            str(owner): {"key": terms.party(owner).key.hex(), "script": terms.party(owner).script.hex()}
            for owner in Owner
        },
        "oracles": [
            {
                "oracle_key": one.oracle_key.hex(), "nonces": [nonce.hex() for nonce in one.nonces],
                "proofs": [proof.hex() for proof in one.proofs], "signature": one.signature.hex(),
            } for one in terms.announcements
        ],
        "threshold": terms.threshold, "price_rule": terms.price_rule.hex(), "program": terms.program.hex(),
        "digits": terms.digits, "fee_cap_sats_per_kvb": terms.fee_cap, "least_window_seconds": terms.least_window,
    }  # fmt: skip


def decode_terms(message: object) -> SwapTerms:
    """Return the terms of a JSON value, all that ``SwapTerms`` checks included.

    Raises InvalidInputError naming the field, WrongAnnouncementError for an oracle's promise of another event.
    """
    said = _TERMS.read(message, "swap terms")
    _check_type(said.type, TERMS)
    event = return_event(
        said.contract, said.side, said.rates, start=said.start, end=said.end, price_rule=said.price_rule,
        program=said.program, digits=said.digits,
    )  # fmt: skip
    announcements = tuple(
        Announcement(
            oracle_key=one.oracle_key, event=event, nonces=one.nonces, proofs=one.proofs, signature=one.signature
        )
        for one in said.oracles
    )
    return SwapTerms(
        contract=said.contract, side=said.side, rates=said.rates, required=said.required, start=said.start,
        end=said.end, lock=said.lock, taker=said.taker, provider=said.provider, announcements=announcements,
        threshold=said.threshold, price_rule=said.price_rule, program=said.program, digits=said.digits,
        fee_cap=SatsPerKvb(said.fee_cap), least_window=said.least_window,
    )  # fmt: skip


def terms_id(terms: SwapTerms) -> Hash32:
    """Return what both sides name the terms by."""
    return tagged_hash(_TERMS_TAG, canonical(encode_terms(terms)))


def encode_presignatures(terms: SwapTerms, signed: Presignatures) -> Json:
    """Return one side's pre-signatures as JSON; they say of which terms they are."""
    parts = {"settle": signed.settle, "burn": signed.burn, "release": signed.release}
    return {
        "type": PRESIGNATURES, "version": VERSION, "terms": terms_id(terms).hex(),
        **{name: b64encode(part).decode() for name, part in parts.items()},
    }  # fmt: skip


def decode_presignatures(terms: SwapTerms, message: object) -> Presignatures:
    """Return the pre-signatures of a JSON value, unchecked. Raises InvalidInputError, for those of other terms, too."""
    said = _PRESIGNATURES.read(message, "swap presignatures")
    _check_type(said.type, PRESIGNATURES)
    if said.terms != terms_id(terms):
        raise InvalidInputError("swap presignatures.terms", said.terms.hex(), f"those of {terms_id(terms).hex()}")
    return Presignatures(settle=said.settle, burn=said.burn, release=said.release)


def _check_type(said: str, expected: str) -> None:
    if said != expected:
        raise InvalidInputError("type", repr(said[:40]), expected)
