"""A party that answers by itself: messages come into one folder, answers go into another, the chain is watched.

What it agrees to is its owner's word: orders, which it offers, and bids, a folder of terms that it accepts, each once
and only when an offer says exactly the same, announcements included. Orders and bids must not come from the other
side: keep those two folders to yourself. Every file is handled once: then it lies in ``done``, or in ``refused`` beside
a line that says why. What may succeed later stays where it is.
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
    decode_attestation,
    decode_offer,
    decode_order,
    decode_sign,
    encode_accept,
    encode_offer,
    encode_sign,
)
from btcfi.errors import BtcfiError, InvalidInputError, RetryableError
from btcfi.oracle.attestation import Attestation
from btcfi.units import Height, display_txid

log = logging.getLogger(__name__)

STATUS_FILE: Final = "status.json"
"""In the outbox: every contract's standing after the last round."""


class PartyMail:
    """One desk with its inbox, its outbox, and its owner's orders and bids."""

    def __init__(self, desk: PartyDesk, *, inbox: Path, outbox: Path, orders: Path, bids: Path) -> None:
        self._desk, self._inbox, self._outbox, self._orders, self._bids = desk, inbox, outbox, orders, bids
        self._attestations: dict[tuple[bytes, bytes], Attestation] = {}
        self._walked: tuple[Height, int] | None = None
        self._answers: dict[str, Callable[[Any], tuple[str, dict[str, Any]] | None]] = {
            "btcfi/offer": self._offer,
            "btcfi/accept": self._accept,
            "btcfi/sign": self._sign,
            "btcfi/attestation": self._attestation,
        }
        for folder in (
            outbox,
            bids / "used",
            *(into / name for into in (inbox, orders) for name in ("done", "refused")),
        ):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def round(self, height: Height) -> int:
        """Handle every message that waits; watch when a block or an attestation is new. Returns how many it handled."""
        handled = 0
        for folder in (self._orders, self._inbox):
            waiting = sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
            handled += sum(self._handle(path) for path in waiting)
        here = (height, len(self._attestations))
        if here != self._walked:
            self._write_status(self._desk.watch(list(self._attestations.values())))
            self._walked = here
        return handled

    def _handle(self, path: Path) -> bool:
        try:
            try:
                message = json.loads(path.read_bytes())
                answer_to = self._answers[message["type"]] if path.parent == self._inbox else None
            except (ValueError, KeyError, TypeError) as e:
                raise InvalidInputError(
                    "message", f"{path.name} is none that is answered here", "a setup message"
                ) from e
            answer = answer_to(message) if answer_to else self._order(message, path.stem)
        except RetryableError as e:
            log.warning("%s waits: %s", path.name, e)
            return False
        except BtcfiError as e:
            log.warning("%s refused: %s", path.name, e)
            write_private(path.parent / "refused" / f"{path.stem}.reason", f"{e}\n".encode())
            path.replace(path.parent / "refused" / path.name)
            return True
        if answer is not None:
            kind, body = answer
            name = path.name.split(".")[0]
            write_private(self._outbox / f"{name}.{kind}.json", json.dumps(body).encode())
        path.replace(path.parent / "done" / path.name)
        return True

    def _order(self, message: Any, name: str) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - JSON
        order = decode_order(message)
        return "offer", encode_offer(self._desk.offer(order.terms, order.role, order=name))

    def _offer(self, message: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - JSON
        offer = decode_offer(message)
        accepted = self._desk.accepted(offer)
        if accepted is None:
            bid = self._bid(offer)
            used = self._bids / "used" / bid.name
            bid.replace(used)  # spent before it is used: a crash here costs a bid, never a second contract
            try:
                accepted = self._desk.accept(offer, offer.terms.announcements[0].event)
            except RetryableError:
                used.replace(bid)
                raise
        return "accept", encode_accept(accepted)

    def _accept(self, message: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - JSON
        return "sign", encode_sign(self._desk.sign(decode_accept(message)))

    def _sign(self, message: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - JSON
        funding = self._desk.complete(decode_sign(message))
        return "funded", {"type": "btcfi/funded", "version": 1, "funding_txid": display_txid(funding.txid)}

    def _attestation(self, message: Any) -> None:  # noqa: ANN401 - JSON
        attestation = decode_attestation(message)
        self._attestations[attestation.oracle_key, attestation.event] = attestation

    def _bid(self, offer: Offer) -> Path:
        for path in sorted(self._bids.glob("*.json")):
            bid = decode_order(json.loads(path.read_bytes()))
            if bid.terms == offer.terms and bid.role is offer.role.other and offer.terms.announcements:
                return path
        raise InvalidInputError("offer", "says what no bid of ours says", "terms and announcements of one of our bids")

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
