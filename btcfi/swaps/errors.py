"""What the engine refuses: one error, which names the guard."""

from __future__ import annotations

from enum import StrEnum

from btcfi.errors import BtcfiError


class Guard(StrEnum):
    """A rule that an action must keep. The state is as it was when one is not."""

    PAUSED = "paused"
    BOOK_NOT_OPEN = "book-not-open"
    BOOK_EXISTS = "book-exists"
    NO_BOOK = "no-book"
    NO_SUBCONTRACT = "no-subcontract"
    AMOUNT = "amount"
    LOTS = "lots"
    MINIMUM_TAKE = "minimum-take"
    REQUIRED_MARGIN = "required-margin"
    MAXIMUM_TAKE = "maximum-take"
    SUBCONTRACTS = "subcontracts"
    NOT_A_SIDE = "not-a-side"
    NOT_THE_ORACLE = "not-the-oracle"
    ALREADY_CANCELLED = "already-cancelled"
    ALREADY_BURNED = "already-burned"
    IS_OVER = "is-over"
    IS_LIVE = "is-live"
    CLOSE_FEE = "close-fee"
    BURN_FEE = "burn-fee"
    IN_SETTLEMENT = "in-settlement"
    NOT_IN_SETTLEMENT = "not-in-settlement"
    BALANCE = "balance"
    RATES = "rates"
    PRICES = "prices"
    TOO_SOON = "too-soon"
    TOO_LATE = "too-late"
    NOT_COMPUTED = "not-computed"
    STILL_ACTIVE = "still-active"


class SwapRefusedError(BtcfiError):
    """An action that a guard does not let through: which one, what was asked, what would be right."""

    def __init__(self, guard: Guard, problem: str, expected: str) -> None:
        super().__init__(f"{guard.value}: {problem}; expected {expected}")
        self.guard, self.problem, self.expected = guard, problem, expected
