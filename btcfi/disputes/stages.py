"""Where a disputed contract can stand: by itself, as who lists contracts computes nothing of one."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    """Where a contract stands."""

    UNOPENED = "unopened"
    OPEN = "open"
    SILENT = "silence claimed"
    CLAIMED = "claimed"
    """Digits and all: its escrow waits."""
    HELD = "claimed, not shown"
    """Of a lazy contract."""
    CHALLENGED = "challenged"
    REVEALED = "revealed"
    PAID = "paid"
    DISPROVED = "disproved"
    RELEASED = "released"
    OVERDUE = "overdue"
    SILENCE_ENDED = "silence ended"
    REFUNDED = "refunded"
    CLOSED = "closed"
    """By both."""
    SPENT_OTHERWISE = "spent otherwise"
    """By a leaf, in a transaction that is none of these terms: both have signed other ones."""

    @property
    def ended(self) -> bool:
        """Whether nothing of it can be played any more; a verifier's bond may still be to be taken home."""
        return self in _ENDED


_ENDED: Final = frozenset(
    {
        Stage.PAID, Stage.DISPROVED, Stage.RELEASED, Stage.OVERDUE, Stage.SILENCE_ENDED, Stage.REFUNDED, Stage.CLOSED,
        Stage.SPENT_OTHERWISE,
    }
)  # fmt: skip
