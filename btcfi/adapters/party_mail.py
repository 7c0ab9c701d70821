"""A party that answers by itself: messages come into one folder, answers go into another, the chain is watched.

What it may agree to is its owner's policy: orders come from the owner alone (its inbox is its own folder), offers are
accepted only on events whose announcements the owner has put into a folder of their own. Every file is handled once:
then it lies in ``done``, or in ``refused`` beside a line that says why. What may succeed later stays in the inbox.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from btcfi.adapters.keystore import write_private
from btcfi.adapters.party_desk import PartyDesk, Report
from btcfi.contracts.messages import (
    Offer,
    decode_accept,
    decode_announcement,
    decode_attestation,
    decode_offer,
    decode_order,
    decode_sign,
    encode_accept,
    encode_offer,
    encode_sign,
)
from btcfi.errors import BtcfiError, InvalidInputError, RetryableError
from btcfi.oracle.announcement import Announcement, OracleEvent
from btcfi.oracle.attestation import Attestation
from btcfi.units import Height, display_txid

log = logging.getLogger(__name__)

STATUS_FILE: Final = "status.json"
"""In the outbox: every contract's standing after the last round."""


class PartyMail:
    """One desk with its inbox, its outbox and the announcements that its owner trusts."""

    def __init__(self, desk: PartyDesk, *, inbox: Path, outbox: Path, announcements: Path) -> None:
        self._desk, self._inbox, self._outbox, self._announcements = desk, inbox, outbox, announcements
        self._attestations: dict[tuple[bytes, bytes], Attestation] = {}
        self._walked: tuple[Height, int] | None = None
        self._answers: dict[str, Callable[[Any], tuple[str, dict[str, Any]] | None]] = {
            "btcfi/order": self._order,
            "btcfi/offer": self._offer,
            "btcfi/accept": self._accept,
            "btcfi/sign": self._sign,
            "btcfi/attestation": self._attestation,
        }
        for folder in (inbox / "done", inbox / "refused", outbox, announcements):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def round(self, height: Height) -> int:
        """Handle every message that waits; watch when a block or an attestation is new. Returns how many it handled."""
        waiting = sorted(path for path in self._inbox.glob("*.json") if not path.name.startswith("."))
        handled = sum(self._handle(path) for path in waiting)
        here = (height, len(self._attestations))
        if here != self._walked:
            self._write_status(self._desk.watch(list(self._attestations.values())))
            self._walked = here
        return handled

    def _handle(self, path: Path) -> bool:
        try:
            try:
                message = json.loads(path.read_bytes())
                answer_to = self._answers[message["type"]]
            except (ValueError, KeyError, TypeError) as e:
                raise InvalidInputError(
                    "message", f"{path.name} is none that is answered here", "a setup message"
                ) from e
            answer = answer_to(message)
        except RetryableError as e:
            log.warning("%s waits: %s", path.name, e)
            return False
        except BtcfiError as e:
            log.warning("%s refused: %s", path.name, e)
            write_private(self._inbox / "refused" / f"{path.stem}.reason", f"{e}\n".encode())
            path.replace(self._inbox / "refused" / path.name)
            return True
        if answer is not None:
            kind, body = answer
            name = path.name.split(".")[0]
            write_private(self._outbox / f"{name}.{kind}.json", json.dumps(body).encode())
        path.replace(self._inbox / "done" / path.name)
        return True

    def _order(self, message: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - JSON
        order = decode_order(message)
        return "offer", encode_offer(self._desk.offer(order.terms, order.role))

    def _offer(self, message: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - JSON
        offer = decode_offer(message)
        return "accept", encode_accept(self._desk.accept(offer, self._expected(offer)))

    def _accept(self, message: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - JSON
        return "sign", encode_sign(self._desk.sign(decode_accept(message)))

    def _sign(self, message: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - JSON
        funding = self._desk.complete(decode_sign(message))
        return "funded", {"type": "btcfi/funded", "version": 1, "funding_txid": display_txid(funding.txid)}

    def _attestation(self, message: Any) -> None:  # noqa: ANN401 - JSON
        attestation = decode_attestation(message)
        self._attestations[attestation.oracle_key, attestation.event] = attestation

    def _expected(self, offer: Offer) -> OracleEvent:
        trusted: list[Announcement] = [
            decode_announcement(json.loads(path.read_bytes())) for path in sorted(self._announcements.glob("*.json"))
        ]
        if not offer.terms.announcements or any(one not in trusted for one in offer.terms.announcements):
            raise InvalidInputError("oracles", "an announcement that we did not get from the oracle", "known ones")
        return offer.terms.announcements[0].event

    def _write_status(self, reports: list[Report]) -> None:
        rows = [
            {
                "contract": report.name,
                "role": report.role.value,
                "status": report.status.value,
                "height": report.tip,
                "action": report.action.value,
                "note": report.note,
            }
            for report in reports
        ]
        write_private(self._outbox / STATUS_FILE, json.dumps({"contracts": rows}).encode())
