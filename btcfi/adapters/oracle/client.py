"""The other side of an oracle's HTTP: an announcement, an attestation, by the event's content; both checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from btcfi.adapters.oracle.web import Web
from btcfi.contracts.messages import decode_announcement, decode_attestation
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import Announcement, OracleEvent, WrongAnnouncementError, check_announcement
from btcfi.oracle.attestation import Attestation, WrongAttestationError, check_attestation
from btcfi.oracle.event_query import query_of
from btcfi.oracle.path_evidence import PathEvidence, check_evidence, decode_evidence

EVIDENCE_SECONDS: Final = 60.0
"""For the minutes of a quarter of a year; no settlement waits for them."""


@dataclass(frozen=True, slots=True)
class OracleClient:
    """One oracle, by its URL."""

    web: Web

    @property
    def url(self) -> str:
        """Return where it answers."""
        return self.web.url

    def announcement(self, event: OracleEvent) -> Announcement:
        """Return its announcement of an event. Raises UnreachableError, RefusedAnswerError, WrongAnnouncementError."""
        try:
            found = decode_announcement(self.web.get("/v1/announcement", query_of(event)))
        except InvalidInputError as e:
            raise WrongAnnouncementError(f"{event.feed} at {event.expiry}", f"{self.url}: {e}") from e
        check_announcement(found, expected=event)
        return found

    def attestation(self, event: OracleEvent, announced: Mapping[bytes, Announcement]) -> Attestation:
        """Return its attestation of an event. ``announced``: by key, what it is checked against.

        Raises as ``announcement``, and WrongAttestationError for an oracle that has not announced it.
        """
        try:
            found = decode_attestation(self.web.get("/v1/attestation", query_of(event)))
        except InvalidInputError as e:
            raise WrongAttestationError(event.id, f"{self.url}: {e}") from e
        theirs = announced.get(found.oracle_key)
        if theirs is None:
            raise WrongAttestationError(event.id, f"{self.url} signs as {found.oracle_key.hex()[:16]}, no oracle of it")
        check_attestation(found, theirs)
        return found

    def evidence(self, event: OracleEvent) -> PathEvidence:
        """Return what it says that a path's value is made of, computed again here.

        Raises UnreachableError, RefusedAnswerError, InvalidInputError, WrongEvidenceError.
        """
        found = decode_evidence(replace(self.web, seconds=EVIDENCE_SECONDS).get("/v1/path", query_of(event)))
        check_evidence(found, expected=event)
        return found

    def status(self) -> dict[str, Any]:
        """Return what it says of itself. Raises UnreachableError, RefusedAnswerError."""
        said = self.web.get("/v1/oracle")
        if not isinstance(said, dict):
            raise InvalidInputError(self.url, "no oracle's status", "an object")
        return said
