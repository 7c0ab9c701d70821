"""Asking several oracles at once: what they announce of an event, what they attest of it, and why one does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from btcfi.adapters.oracle.client import OracleClient
from btcfi.errors import BtcfiError, RetryableError
from btcfi.oracle.announcement import Announcement, OracleEvent
from btcfi.oracle.attestation import Attestation

AT_ONCE: Final = 16
"""Oracles that are asked side by side: the most that a preset can name."""

T = TypeVar("T")


class OraclesAwayError(RetryableError):
    """Not every oracle of a contract announces its event now."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What the oracles attest."""

    attestations: tuple[Attestation, ...]
    """Checked against the announcements."""
    problems: tuple[str, ...]
    """Why the others do not, each with its oracle's URL."""


def announcements(clients: Sequence[OracleClient], event: OracleEvent, *, wanted: int) -> tuple[Announcement, ...]:
    """Return every oracle's announcement of an event, by key.

    wanted: how many oracles a contract has by its preset. Raises OraclesAwayError while one of them is missing, and
    where two of the URLs are one oracle: it would count twice.
    """
    if len(clients) != wanted:
        raise OraclesAwayError([f"BTCFI_ORACLES names {len(clients)} oracles, the preset wants {wanted}"])
    found, problems = _ask(clients, lambda client: client.announcement(event))
    if not problems and len({one.oracle_key for one in found}) < len(found):
        problems = ["two of BTCFI_ORACLES are one oracle"]
    if problems:
        raise OraclesAwayError(problems)
    return tuple(sorted(found, key=lambda one: one.oracle_key))


def collect(clients: Sequence[OracleClient], announced: Sequence[Announcement]) -> Collected:
    """Return what the oracles attest of an event that they announced; nothing of an event without announcements."""
    if not announced:
        return Collected(attestations=(), problems=())
    if not clients:
        return Collected(attestations=(), problems=("BTCFI_ORACLES names none",))
    by_key = {one.oracle_key: one for one in announced}
    found, problems = _ask(clients, lambda client: client.attestation(announced[0].event, by_key))
    return Collected(attestations=tuple(found), problems=tuple(problems))


def _ask(clients: Sequence[OracleClient], question: Callable[[OracleClient], T]) -> tuple[list[T], list[str]]:
    found: list[T] = []
    problems: list[str] = []
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        for client, answer in zip(clients, [pool.submit(question, client) for client in clients], strict=True):
            try:
                found.append(answer.result())
            except BtcfiError as e:
                text = str(e)
                problems.append(text if client.url in text else f"{client.url}: {text}")
    return found, problems
