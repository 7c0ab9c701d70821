"""What the console refuses before it has looked at the request's business."""

from __future__ import annotations

from btcfi.errors import InvalidInputError
from btcfi.surfaces.rest.errors import RateLimitedError, UnauthenticatedError


class SignInNeededError(UnauthenticatedError):
    """No session, or one that has ended."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class WrongConfirmationError(InvalidInputError):
    """The typed words are not the ones that were asked for, so nothing was done."""

    def __init__(self, *, asked_for: str, typed: str) -> None:
        super().__init__("confirmation", f"{typed[:60]!r} was typed and nothing was done", repr(asked_for))
        self.asked_for, self.typed = asked_for, typed


class TooManySignInsError(RateLimitedError):
    """Too many refused sign-ins; further ones are not even looked at for a while."""

    def __init__(self, *, failures: int, seconds: int) -> None:
        super().__init__(requests_per_minute=max(1, failures * 60 // seconds), retry_after_seconds=seconds)
        self.args = (f"{failures} refused sign-ins; try again in {seconds // 60} minutes",)
        self.failures = failures
