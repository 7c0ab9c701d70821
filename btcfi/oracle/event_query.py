"""An event as the query of a URL: an oracle is asked about an event by everything that it is, and by no name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import MAX_DIGITS, OF_PATH, OF_RETURN, OracleEvent
from btcfi.oracle.fixing import parse_fixing
from btcfi.oracle.path import parse_path
from btcfi.records import HASH
from btcfi.units import MAX_U32, slot

_WHOLE: Final = {"expiry": MAX_U32, "digits": MAX_DIGITS, "version": OF_PATH}
"""Numbers, and the highest of each."""

FIELDS: Final = ("feed", "expiry", "program", "preset", "digits", "condition", "version", "fixing")
"""Every one must be there, once; and of the event of a path, which an earlier release refuses by both names, its path
and its version."""


def query_of(event: OracleEvent) -> dict[str, str]:
    """Return an event's fields as text; ``event_of`` gives it back."""
    return {
        "feed": event.feed, "expiry": str(event.expiry), "program": event.program_hash.hex(),
        "preset": event.preset_hash.hex(), "digits": str(event.digits), "condition": event.condition,
        "version": str(event.version), "fixing": str(event.fixing),
        **({} if event.path is None else {"path": str(event.path)}),
    }  # fmt: skip


def event_of(query: Mapping[str, str]) -> OracleEvent:
    """Return the event that a query describes. Raises InvalidInputError naming the field."""
    fields = (*FIELDS, "path") if query.get("version") == str(OF_PATH) else FIELDS
    if query.keys() != set(fields):
        wrong = min(query.keys() ^ set(fields))
        raise InvalidInputError(wrong[:40], "missing" if wrong in fields else "unknown", f"exactly {', '.join(fields)}")
    numbers = {name: _number(name, query[name], most) for name, most in _WHOLE.items()}
    if numbers["version"] == OF_RETURN:
        raise InvalidInputError("version", f"{OF_RETURN}, the event of a swap's return", "the event of a price")
    return OracleEvent(
        feed=query["feed"], expiry=slot(numbers["expiry"]), program_hash=HASH.read(query["program"], "program"),
        preset_hash=HASH.read(query["preset"], "preset"), digits=numbers["digits"], condition=query["condition"],
        version=numbers["version"], fixing=parse_fixing(query["fixing"]),
        path=parse_path(query["path"]) if "path" in query else None,
    )  # fmt: skip


def _number(name: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and text == str(int(text))):
        raise InvalidInputError(name, repr(text[:20]), f"a whole number up to {most}")
    return int(text)
