"""What the API refuses before it has looked at the request's business."""

from __future__ import annotations

from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError, RetryableError


class RequestRefusedError(BtcfiError):
    """A request that is turned away for how it came, not for what it asks."""


class UnauthenticatedError(RequestRefusedError):
    """No API key, or one that is unknown, expired or revoked. One class, so that a guess learns nothing."""

    def __init__(self, problem: str, expected: str = "Authorization: Bearer btcfi_ID_SECRET of a valid key") -> None:
        super().__init__(f"{problem}; expected the header {expected}")
        self.problem = problem


class RoleMissingError(RequestRefusedError):
    """The key is good, but not for this."""

    def __init__(self, *, needed: str, held: tuple[str, ...]) -> None:
        super().__init__(f"this needs the role {needed}; the caller has {', '.join(held) or 'none'}")
        self.needed, self.held = needed, held


class RateLimitedError(RetryableError):
    """The caller asked more often than its key allows."""

    def __init__(self, *, requests_per_minute: int, retry_after_seconds: int) -> None:
        super().__init__(f"more than {requests_per_minute} requests a minute; try again in {retry_after_seconds} s")
        self.requests_per_minute, self.retry_after_seconds = requests_per_minute, retry_after_seconds


class BodyTooLargeError(RequestRefusedError):
    """The body is over the path's limit."""

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(f"the body is too large; expected at most {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class WrongContentTypeError(RequestRefusedError):
    """A body that does not say it is JSON."""

    def __init__(self, content_type: str) -> None:
        super().__init__(f"content-type {content_type or 'missing'!r}; expected application/json")
        self.content_type = content_type


class IdempotencyKeyError(InvalidInputError):
    """An Idempotency-Key that cannot be one."""

    def __init__(self, length: int) -> None:
        super().__init__("Idempotency-Key", f"{length} characters", "1 to 128 printable ASCII characters")
        self.length = length


class IdempotencyMismatchError(RequestRefusedError):
    """The key came before with another request."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Idempotency-Key {key!r} was used for another request; expected a new key")
        self.key = key


class RequestUnderWayError(RetryableError):
    """The same request is being answered right now."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the request with Idempotency-Key {key!r} is still under way; try again in a second")
        self.key = key


class NoPriceError(RetryableError):
    """The oracle has not agreed on a price yet, or the last one is too old to trade on."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"no price to work with: {problem}; wait for the next priced minute")
        self.problem = problem


class TooManyStreamsError(RetryableError):
    """Every place for a stream is taken: of the process, or of this caller."""

    def __init__(self, limit: int, *, of_caller: bool = False) -> None:
        whose = "of this caller " if of_caller else ""
        super().__init__(f"all {limit} streams {whose}are taken; end one, try again later, or poll")
        self.limit, self.of_caller = limit, of_caller


class TooManyWaitingError(RetryableError):
    """Every place to wait for a letter is taken: of the process, or of this account."""

    def __init__(self, limit: int, *, of_account: bool) -> None:
        whose = "of this account " if of_account else ""
        super().__init__(f"{limit} requests {whose}wait for letters already; ask without `wait`, or try again later")
        self.limit, self.of_account = limit, of_account


class NoWebhooksError(RequestRefusedError):
    """This service sends no webhooks."""

    def __init__(self) -> None:
        super().__init__("this service sends no webhooks; read /api/v1/me/events instead")


class NoDeskError(RetryableError):
    """The service has no desk: no key that parties could pin, or no rules of a market."""

    def __init__(self) -> None:
        super().__init__("this service has no market; its operator makes one with `btcfi prepare`")


class BusyError(RetryableError):
    """As much is under way for this caller as one may have at once, and none of it ended in time."""

    def __init__(self, at_once: int) -> None:
        super().__init__(f"more than {at_once} at once; wait for an answer before the next request")
        self.at_once = at_once


class NoRoomError(RetryableError):
    """Bodies that are still coming hold all the memory that there is for them."""

    def __init__(self, limit: int, *, of_caller: bool = False) -> None:
        if of_caller:
            said = f"bodies under way hold what a caller may have, {limit} bytes; send them one after another"
        else:
            said = f"bodies of all callers hold the {limit} bytes that there are for them; try again in some seconds"
        super().__init__(said)
        self.limit, self.of_caller = limit, of_caller


class SlowBodyError(RequestRefusedError):
    """The body came too slowly, or stopped."""

    def __init__(self, *, seconds: float, bytes_per_second: int) -> None:
        super().__init__(
            f"the body came too slowly; expected {bytes_per_second} bytes a second after the first {seconds:g} s"
        )
        self.seconds, self.bytes_per_second = seconds, bytes_per_second


class WrongHostError(RequestRefusedError):
    """A request under a host name that is not served here."""

    def __init__(self, host: str) -> None:
        super().__init__(f"host name {host[:80]!r} is not served here; BTCFI_API_HOSTS names those that are")
        self.host = host


class AmbiguousLengthError(RequestRefusedError):
    """A request that says its length in two ways: where it ends is a matter of opinion."""

    def __init__(self) -> None:
        super().__init__("Content-Length and Transfer-Encoding came together; expected one of them")


class UnprintablePathError(RequestRefusedError):
    """A path with a control character in it: no path of ours has one, and readers disagree where it ends."""

    def __init__(self) -> None:
        super().__init__("the path holds a control character; expected printable ones")


class NotProvenError(NotFoundError):
    """The settlement exists, its proof does not yet."""

    def __init__(self, settlement: str, state: str) -> None:
        super().__init__("proof of settlement", settlement, f"its state is {state}; a proof exists from proven on")
        self.settlement, self.state = settlement, state
