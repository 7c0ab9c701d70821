"""Where an oracle gets the signed submissions of a minute from: any aggregator, none of which it has to believe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from btcfi.adapters.oracle.web import Web
from btcfi.errors import InvalidInputError, UnreachableError
from btcfi.oracle.consensus import Outcome, decode_outcome
from btcfi.oracle.submission import SignedSubmission
from btcfi.oracle.submission_json import decode_signed
from btcfi.units import Slot, slot

MOST_MINUTES: Final = 60
"""Of one page: an hour."""

MOST_NODES: Final = 256
"""Submissions of a minute that are looked at; a registry of more has a network of its own."""


class MinuteState(StrEnum):
    """What an aggregator says of a minute's round."""

    OPEN = "open"
    CLOSED = "closed"
    """Agreed on or void; what was signed is served with it."""
    UNSIGNED = "unsigned"
    """Closed, and nothing of it was signed: it is from before there were signatures."""
    NEVER_ASKED = "never_asked"
    """Nobody opened it, and nobody can any more."""
    UNKNOWN = "unknown"
    """It has not come, or may still be opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One minute as an aggregator serves it."""

    slot: Slot
    state: MinuteState
    submissions: tuple[SignedSubmission, ...] = ()
    stated: Outcome | None = None
    """What the aggregator concluded: looked at only where the oracle's owner trusts it for old minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Minutes in their order, and the newest that the aggregator has."""

    newest: Slot | None
    minutes: Mapping[Slot, Served]


class Source(Protocol):
    """An aggregator."""

    @property
    def name(self) -> str:
        """Return what it is called in logs and refusals."""
        ...

    def page(self, start: Slot | None, minutes: int) -> Page:
        """Return ``minutes`` minutes from ``start``, or up to the newest. Raises RetryableError, BtcfiError."""
        ...


@dataclass(frozen=True, slots=True)
class HttpSource:
    """An aggregator by its REST API: ``GET /api/v1/rounds/submissions``."""

    web: Web

    @property
    def name(self) -> str:
        """Return its URL."""
        return self.web.url

    def page(self, start: Slot | None, minutes: int) -> Page:
        """Return minutes from ``start``, or the newest. Raises UnreachableError, RefusedAnswerError."""
        query = {"minutes": str(minutes)} | ({} if start is None else {"start": str(start)})
        raw = self.web.get("/api/v1/rounds/submissions", query)
        try:
            return read_page(raw)
        except (InvalidInputError, KeyError, TypeError, AttributeError, ValueError) as e:
            raise UnreachableError("aggregator", self.name, f"no page of minutes: {e}"[:200], "another release?") from e


def read_page(raw: Any) -> Page:  # noqa: ANN401 - JSON
    """Return the page of its JSON; a submission that does not decode is left out, for it proves nothing."""
    newest = raw["newest_slot"]
    found = [_served(one) for one in raw["minutes"][:MOST_MINUTES]]
    return Page(newest=None if newest is None else slot(newest), minutes={one.slot: one for one in found})


def _served(raw: dict[str, Any]) -> Served:
    return Served(
        slot=slot(raw["slot"]), state=MinuteState(raw["state"]), submissions=_decoded(raw["submissions"]),
        stated=None if raw.get("report") is None else decode_outcome(raw["report"]),
    )  # fmt: skip


def _decoded(many: Sequence[object]) -> tuple[SignedSubmission, ...]:
    kept = []
    for one in many[:MOST_NODES]:
        try:
            kept.append(decode_signed(one))
        except InvalidInputError:
            continue
    return tuple(kept)
