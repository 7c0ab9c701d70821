"""Units as types, and the one checked constructor of each.

A plain ``int`` never crosses a function border (docs/decisions/0001). Parsers admit an outside number once, through
the lower-case constructor; inside, values of these types are trusted.
"""

from __future__ import annotations

from typing import Final, NewType

from btcfi.errors import NotOnAMinuteError, UnitOutOfRangeError

Sats = NewType("Sats", int)
"""Satoshis; 1 BTC = 100_000_000 sats."""

Cents = NewType("Cents", int)
"""US dollar cents, an amount. May be negative only where a name says so (profit_loss)."""

CentsPerBtc = NewType("CentsPerBtc", int)
"""A price: US dollar cents for one bitcoin. Fits the guest's u32: at most $42,949,672.95."""

CentiBtc = NewType("CentiBtc", int)
"""An option's quantity in hundredths of a bitcoin, as the published guest ABI has it."""

UnixSeconds = NewType("UnixSeconds", int)
"""Seconds since 1970-01-01T00:00:00Z."""

Slot = NewType("Slot", int)
"""A minute: the UnixSeconds at which a one-minute candle opens; a multiple of 60."""

Minutes = NewType("Minutes", int)
"""A duration in whole minutes."""

BasisPoints = NewType("BasisPoints", int)
"""Hundredths of a percent; 10_000 = 100 %. Volatility and rates in the guest ABI use it."""

Height = NewType("Height", int)
"""A block height."""

Hash32 = NewType("Hash32", bytes)
"""A 32-byte digest in the order in which it was computed."""

Txid = NewType("Txid", bytes)
"""A transaction id, 32 bytes in internal order; only ``display_txid`` reverses."""

MAX_MONEY_SATS: Final = 21_000_000 * 100_000_000
"""Bitcoin Core's MAX_MONEY: no output and no sum may exceed it."""

MAX_U32: Final = 2**32 - 1
"""The guest ABI's words are u32, and so is every price and quantity that goes into one."""

SECONDS_PER_MINUTE: Final = 60


def _checked(unit: str, value: int, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UnitOutOfRangeError(unit=unit, value=value, low=low, high=high)
    return value


def sats(value: int) -> Sats:
    """Return ``value`` as an amount of bitcoin, 0 to 21 million BTC. Raises UnitOutOfRangeError."""
    return Sats(_checked("sats", value, 0, MAX_MONEY_SATS))


def cents(value: int) -> Cents:
    """Return ``value`` as a non-negative amount of US cents below 2**63. Raises UnitOutOfRangeError."""
    return Cents(_checked("cents", value, 0, 2**63 - 1))


def cents_per_btc(value: int) -> CentsPerBtc:
    """Return ``value`` as a price, 1 to 2**32 - 1 cents. Raises UnitOutOfRangeError."""
    return CentsPerBtc(_checked("cents per BTC", value, 1, MAX_U32))


def centi_btc(value: int) -> CentiBtc:
    """Return ``value`` as a quantity, 1 to 2**32 - 1 hundredths of a bitcoin. Raises UnitOutOfRangeError."""
    return CentiBtc(_checked("1/100 BTC", value, 1, MAX_U32))


def unix_seconds(value: int) -> UnixSeconds:
    """Return ``value`` as a time, 0 to 2**32 - 1 seconds (year 2106). Raises UnitOutOfRangeError."""
    return UnixSeconds(_checked("unix seconds", value, 0, MAX_U32))


def slot(value: int) -> Slot:
    """Return ``value`` as a minute slot: a multiple of 60. Raises UnitOutOfRangeError."""
    if _checked("slot", value, 0, MAX_U32) % SECONDS_PER_MINUTE:
        raise NotOnAMinuteError(value)
    return Slot(value)


def slot_of(at: UnixSeconds) -> Slot:
    """Return the minute slot that contains ``at``."""
    return Slot(at - at % SECONDS_PER_MINUTE)


def height(value: int) -> Height:
    """Return ``value`` as a block height, 0 to 499_999_999 (more: a time in nLockTime). Raises UnitOutOfRangeError."""
    return Height(_checked("block height", value, 0, 499_999_999))


def hash32(value: bytes) -> Hash32:
    """Return ``value`` as a 32-byte digest. Raises UnitOutOfRangeError when it has another length."""
    if len(value) != 32:  # noqa: PLR2004 - the type's own definition
        raise UnitOutOfRangeError(unit="bytes of a digest", value=len(value), low=32, high=32)
    return Hash32(bytes(value))


def display_txid(txid: Txid) -> str:
    """Return the txid as explorers and RPC show it: hex, bytes reversed."""
    return txid[::-1].hex()


def parse_txid(text: str) -> Txid:
    """Return the internal-order txid of an explorer's hex. Raises UnitOutOfRangeError on another length or alphabet."""
    try:
        raw = bytes.fromhex(text)
    except ValueError as e:
        raise UnitOutOfRangeError(unit="hex digits of a txid", value=len(text), low=64, high=64) from e
    return Txid(hash32(raw)[::-1])
