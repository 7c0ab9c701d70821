"""What is kept of a fetch: the exchange's bytes below one line that says what was asked, with what status and when.

Many exchanges send bare rows, which name neither their market nor their interval: the same bytes would be evidence
for any market. So the bytes are hashed together with the request that they answer. The line is the fetcher's own word,
as the bytes are; it proves no more than that this fetcher said so at the time, and cannot say something else later.

An earlier release kept the bytes alone; they are read as before.
"""

from __future__ import annotations

import json
import re
from calendar import timegm
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.units import UnixSeconds, unix_seconds

_START: Final = b'{"btcfi_evidence":1,'
"""How the line begins. No answer of an exchange does."""

MAX_LINE: Final = 2048
"""Bytes of the line; a target has 150."""

MAX_DATE: Final = 64
"""Characters of a ``Date`` header that are kept; the standard's form has 29."""


class MalformedEvidenceError(InvalidInputError):
    """The line above an exchange's bytes is not what ``envelope`` writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer of an exchange, and what it answers."""

    target: str | None
    """Path and query as sent; None for bytes that an earlier release kept alone."""
    status: int
    date: str | None
    """The ``Date`` header's own text, None where there was none."""
    body: bytes

    @property
    def answered_at(self) -> UnixSeconds | None:
        """When the exchange answered, by its own clock; None where it does not say so readably."""
        return time_of_header(self.date) if self.date is not None else None


def envelope(response: Response) -> bytes:
    """Return the evidence: the line, a line end, the exchange's bytes. Its SHA-256 is the observation's evidence."""
    said = {"get": response.target, "status": response.status, "date": response.date}
    return _START + json.dumps(said, separators=(",", ":")).encode()[1:] + b"\n" + response.body


def opened(evidence: bytes) -> Response:
    """Return what evidence holds, that of an earlier release too. Raises MalformedEvidenceError for a wrong line."""
    if not evidence.startswith(_START):
        return Response(target=None, status=200, date=None, body=evidence)
    line, _, body = evidence.partition(b"\n")
    try:
        said = json.loads(line) if len(line) <= MAX_LINE else {}
        response = Response(target=said["get"], status=said["status"], date=said["date"], body=body)
    except (ValueError, LookupError, TypeError, RecursionError) as e:
        raise MalformedEvidenceError("evidence", f"a line that is none ({type(e).__name__})", "what was asked") from e
    if not isinstance(response.target, str) or type(response.status) is not int or envelope(response) != evidence:
        raise MalformedEvidenceError("evidence", "a line in another form", "get, status and date")
    return response


_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HTTP_DATE: Final = re.compile(
    r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)
"""The one form of a date that HTTP's standard lets a server send."""


def time_of_header(text: str) -> UnixSeconds | None:
    """Return the time of an HTTP date, None for anything else.

    By hand: the library's parser is of mail, takes many forms more, and loads sockets, which nothing here may.
    """
    parts = _HTTP_DATE.fullmatch(text.strip(" \t"))
    if parts is None or parts[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(parts[place]) for place in (1, 3, 4, 5, 6))
    try:
        at = datetime(year, _MONTHS.index(parts[2]) + 1, day, hour, minute, min(second, 59))  # noqa: DTZ001 - GMT
        return unix_seconds(timegm(at.timetuple()) + (second == _LEAP))
    except (ValueError, InvalidInputError):
        return None


_LEAP: Final = 60
"""A leap second: the first of the next minute."""
