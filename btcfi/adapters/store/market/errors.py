"""What accounts, letters and offers can be refused for; apart, since who only names errors needs no database."""

from __future__ import annotations

from btcfi.errors import ConflictError, RetryableError


class NameTakenError(ConflictError):
    """Another identity has this name here."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the name {name} belongs to another account; register another one: --name")
        self.name = name


class StaleRegistrationError(ConflictError):
    """An account has a registration of this number or a higher one, which says something else."""

    def __init__(self, name: str, number: int, known: int) -> None:
        super().__init__(
            f"the registration of {name} is number {number}, and number {known} is known; sign one above {known}"
        )
        self.name, self.number, self.known = name, number, known


class SuspendedError(ConflictError):
    """An account that the operator has suspended wants something new."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the account {name} is suspended; what it owns stays its own; ask the service's operator")
        self.name = name


class MailboxFullError(RetryableError):
    """More letters of one account wait to be read than it may have waiting."""

    def __init__(self, waiting: int, size: int) -> None:
        super().__init__(f"{waiting:,} of your letters, {size:,} bytes, wait to be read; send more once they are")
        self.waiting, self.size = waiting, size


class TooManyKeysError(ConflictError):
    """An account has as many keys as it may."""

    def __init__(self, most: int) -> None:
        super().__init__(f"there are {most} keys; end one first")
        self.most = most


class OfferGoneError(ConflictError):
    """An offer that cannot be taken any more, or not so much of it."""

    def __init__(self, offer_id: str, problem: str) -> None:
        super().__init__(f"offer {offer_id[:16]} {problem}; nothing was taken: read the book again")
        self.offer_id, self.problem = offer_id, problem


class StepAheadError(ConflictError):
    """A take of a step of an auction that has not begun."""

    def __init__(self, offer_id: str, step: int, seconds: int) -> None:
        super().__init__(
            f"offer {offer_id[:16]}: its step {step} begins in {seconds} s; nothing was taken: take an earlier one, or "
            "wait"
        )
        self.offer_id, self.step, self.seconds = offer_id, step, seconds
