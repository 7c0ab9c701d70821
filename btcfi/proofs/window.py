"""The window of a settlement, minute by minute: how the price that the guest was run with came about.

The proof root commits to the guest's input, so to the price; the minutes are held against that price here, and against
the announcement and the minutes' own reports by whoever has those (docs/proofs.md, section 6).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from btcfi.errors import InvalidInputError
from btcfi.options.expiry import SettlementInput
from btcfi.oracle.announcement import MAX_DIGITS, PRICE_DIGITS, OracleEvent, PriceRounding, attested_price
from btcfi.oracle.consensus import AgreedPrice
from btcfi.oracle.fixing import MINUTE, MINUTES_AFTER, MOST_MINUTES, Fixed, Fixing, LeftOut, Said, fix
from btcfi.oracle.report import RoundReport
from btcfi.proofs.errors import ProofWindowError
from btcfi.records import HASH, listed, one_of, optional, record, whole
from btcfi.units import MAX_U32, SECONDS_PER_MINUTE, CentsPerBtc, Hash32, Minutes, Slot

_NONE: Final = Minutes(0)

MAX_WINDOW: Final = MOST_MINUTES + MINUTES_AFTER
"""Minutes that a window may list: its own, and those that it may take up after its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenMinute:
    """What one minute said to a window: a price that counts, or why it has none."""

    slot: Slot
    price: CentsPerBtc | None = None
    left_out: LeftOut | None = None
    report: Hash32 | None = None
    """Hash of the minute's report, which an anchor may commit to; None where the settling side kept none."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a minute that has both a price and a reason, or neither."""
        if (self.price is None) == (self.left_out is None):
            problem = "both" if self.price is not None else "neither"
            raise InvalidInputError(f"minute {self.slot}", f"{problem} of price and left_out", "one of them")

    @property
    def said(self) -> Said:
        """What ``fix`` is given."""
        return self.price if self.left_out is None and self.price is not None else self.left_out or LeftOut.NEVER_ASKED


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenWindow:
    """A fixing, and every minute that it is made of, in order."""

    fixing: Fixing
    end: Slot
    """The window's last minute: the expiry, or the minute of an early exercise."""
    rounding: PriceRounding | None
    """How the fixing became whole dollars; None: it did not, an early exercise pays by the cent."""
    digits: int
    """Binary digits of the price that was attested, which bound it."""
    minutes: tuple[ProvenMinute, ...]


def window_of(
    fixing: Fixing, fixed: Fixed, *, rounding: PriceRounding | None, digits: int = PRICE_DIGITS,
    reports: Mapping[Slot, Hash32] | None = None,
) -> ProvenWindow:  # fmt: skip
    """Return the window of a fixing. rounding: None for an early exercise. reports: the minutes' report hashes."""
    known = reports or {}
    said: dict[Slot, Said] = {**dict(fixed.used), **dict(fixed.left_out)}
    minutes = [
        ProvenMinute(
            slot=at,
            price=None if isinstance(one, LeftOut) else one,
            left_out=one if isinstance(one, LeftOut) else None,
            report=known.get(at),
        )
        for at, one in sorted(said.items())
    ]
    return ProvenWindow(fixing=fixing, end=fixed.end, rounding=rounding, digits=digits, minutes=tuple(minutes))


# ---- checking


def settled_price(window: ProvenWindow) -> CentsPerBtc:
    """Return the price that a window settles at, recomputed from its minutes. Raises ProofWindowError.

    Refused: a minute twice or out of order, one that is missing, too few that count, one that the fixing did not need.
    """
    if not window.minutes:
        raise ProofWindowError("has no minute")
    first = window.fixing.window(window.end)[0]
    for place, minute in enumerate(window.minutes):
        due = first + place * SECONDS_PER_MINUTE
        if minute.slot != due:
            raise ProofWindowError(f"minute {minute.slot} stands where {due} is due: twice, out of order or left out")
    fixed = fix(window.fixing, window.end, {minute.slot: minute.said for minute in window.minutes})
    if fixed is None:
        count = sum(minute.price is not None for minute in window.minutes)
        need = f"{window.fixing} needs {window.fixing.least} of all minutes up to {window.end}"
        raise ProofWindowError(f"{count} of {len(window.minutes)} minutes count, {need}")
    if unneeded := len(window.minutes) - len(fixed.used) - len(fixed.left_out):
        raise ProofWindowError(f"{unneeded} of its minutes come after the fixing was known")
    if window.rounding is None:
        return fixed.price
    return attested_price(fixed.price, window.rounding, window.digits)


def check_window(window: ProvenWindow, input_bytes: bytes) -> str:
    """Check that a window settles at the price of a guest's input; return that in words. Raises ProofWindowError."""
    if len(input_bytes) != SettlementInput.SIZE:
        raise ProofWindowError(f"an input of {len(input_bytes)} bytes is no settlement's and has no window")
    given = SettlementInput.from_bytes(input_bytes)
    if (window.rounding is None) != (given.time_to_expiry > 0):
        problem = "is not rounded to whole dollars" if window.rounding is None else "is rounded"
        raise ProofWindowError(f"{problem}, {given.time_to_expiry} minutes before the expiry")
    price = settled_price(window)
    if price != given.spot:
        raise ProofWindowError(f"its minutes settle at {price} cents, the input says {given.spot}")
    count = sum(minute.price is not None for minute in window.minutes)
    if window.fixing == MINUTE:
        return f"the price of {_utc(window.minutes[-1].slot)} is the input's, {price} cents"
    return f"{window.fixing} up to {_utc(window.end)}, of {count} minutes, is the input's price, {price} cents"


def window_in_words(window: ProvenWindow) -> str:
    """Return in one sentence which minutes make the price, and which do not count."""
    counted = [one.slot for one in window.minutes if one.left_out is None]
    left_out = [f"{_utc(one.slot)} {one.left_out.value}" for one in window.minutes if one.left_out is not None]
    late = sum(at > window.end for at in counted)
    rounding = "to the cent" if window.rounding is None else f"to the dollar ({window.rounding.value})"
    if window.fixing == MINUTE:
        said = f"The price is that of {_utc(counted[-1]) if counted else 'no minute'}, {rounding}"
    else:
        said = f"The price is {window.fixing} up to {_utc(window.end)}, of {len(counted)} minutes, {rounding}"
        said += f"; {late} of them came after it" if late else ""
    return said + (f"; left out: {', '.join(left_out)}." if left_out else ".")


def _utc(slot: Slot) -> str:
    return datetime.fromtimestamp(slot, UTC).strftime("%Y-%m-%dT%H:%MZ")


def check_announced(window: ProvenWindow, event: OracleEvent, program_hash: Hash32, *, early: Minutes = _NONE) -> str:
    """Check that a window is what an oracle's event promised; return that in words. Raises ProofWindowError.

    early: minutes before the expiry that the option was exercised, as the guest's input says: so long before it the
    window ends, and its price is by the cent.
    """
    if event.path is not None:
        raise ProofWindowError(f"the announced event is of a path, {event.path}, and no window settles it")
    rounding = None if early else event.rounding
    theirs = (event.fixing, event.expiry - early * SECONDS_PER_MINUTE, rounding, event.digits, event.program_hash)
    ours = (window.fixing, window.end, window.rounding, window.digits, program_hash)
    for name, a, b in zip(("fixing", "end", "rounding", "digits", "program"), ours, theirs, strict=True):
        if a != b:
            raise ProofWindowError(f"its {name} is {_text(a)}, the announced event's {_text(b)}")
    return f"the window is that of event {event.id.hex()}"


def _text(value: object) -> str:
    if value is None:
        return "none"
    return value.hex()[:16] if isinstance(value, bytes) else str(getattr(value, "value", value))


def check_reports(window: ProvenWindow, reports: Mapping[Hash32, RoundReport]) -> str:
    """Check a window's minutes against reports by hash; return in words how many were there.

    A report must be of its minute, agree on its price, and be void where the minute is left out as void; that a priced
    minute is too thin is the preset's word, which a report has not. A minute that names no report, or one that is not
    here, is held against those of its slot that are: who writes the file does not choose what its reader looks at.
    Raises ProofWindowError.
    """
    held = 0
    by_slot: dict[Slot, list[RoundReport]] = {}
    for one in reports.values():
        by_slot.setdefault(one.outcome.slot, []).append(one)
    for minute in window.minutes:
        named = None if minute.report is None else reports.get(minute.report)
        found = by_slot.get(minute.slot, []) if named is None else [named]
        if not found:
            continue
        held += 1
        # of several feeds or aggregators one must say so
        if not any(_agrees(minute, one) for one in found):
            outcome = found[0].outcome
            said = f"{outcome.price} cents" if isinstance(outcome, AgreedPrice) else "void"
            raise ProofWindowError(f"minute {minute.slot}: its report is of {outcome.slot} and says {said}")
    return f"{held} of {len(window.minutes)} minutes have a report, and it says the same"


def _agrees(minute: ProvenMinute, report: RoundReport) -> bool:
    outcome = report.outcome
    price = outcome.price if isinstance(outcome, AgreedPrice) else None
    agrees = price == minute.price if minute.left_out is None else minute.left_out is _left_out_by(price)
    return agrees and outcome.slot == minute.slot


def _left_out_by(price: CentsPerBtc | None) -> LeftOut:
    # that of a minute which nobody asked for there is no report, whatever it says
    return LeftOut.VOID if price is None else LeftOut.THIN


# ---- JSON


def encode_window(window: ProvenWindow) -> dict[str, Any]:
    """Return the window as JSON."""
    return {
        "fixing": str(window.fixing),
        "end_unix": window.end,
        "rounding": None if window.rounding is None else window.rounding.value,
        "digits": window.digits,
        "minutes": [
            {
                "slot": one.slot,
                "price_cents": one.price,
                "left_out": None if one.left_out is None else one.left_out.value,
                "report": None if one.report is None else one.report.hex(),
            }
            for one in window.minutes
        ],
    }


_MINUTE: Final = record(
    ProvenMinute,
    exact=True,
    price=("price_cents", optional(whole(1, MAX_U32))),
    left_out=optional(one_of(LeftOut)),
    report=optional(HASH),
    may_lack=("price_cents", "left_out", "report"),
)
MINUTES: Final = listed(_MINUTE, MAX_WINDOW)
"""The rule of a window's minutes, which a proof writes with all their names and an owner need not."""

WINDOW: Final = record(
    ProvenWindow,
    exact=True,
    end="end_unix",
    rounding=optional(one_of(PriceRounding)),
    digits=whole(1, MAX_DIGITS),
    minutes=MINUTES,
)
"""The rule of ``encode_window``'s JSON."""


def read_window(text: str | None) -> ProvenWindow | None:
    """Return the window of ``encode_window``'s JSON text, None of None. Raises InvalidInputError naming the field."""
    return None if text is None else WINDOW.read(json.loads(text), "window")
