"""The root of the error tree. A stage's own errors sit beside the stage and inherit from here.

One class per decision that a caller can take; numbers are fields, not only text. ``btcfi.surfaces.status`` gives each
public class its exit code, HTTP status and gRPC status; a test demands a row for every one.
"""

from __future__ import annotations

from typing import Final

MAX_PROBLEM: Final = 500
"""Characters of what is said to be wrong with an input: every text of ours is shorter."""


class BtcfiError(Exception):
    """Anything that this project refuses or fails at. The message is one line that a user can act on."""


class RetryableError(BtcfiError):
    """The same call may succeed later; a task may retry it, a bounded number of times."""


class InvalidInputError(BtcfiError):
    """An input from outside is wrong: which field, what it was, what would be right."""

    def __init__(self, field: str, problem: str, expected: str) -> None:
        # many repeat what they were given, which may be megabytes, and a refusal is logged and kept
        self.problem = problem if len(problem) <= MAX_PROBLEM else f"{problem[:MAX_PROBLEM]}…"
        super().__init__(f"{field}: {self.problem}; expected {expected}")
        self.field, self.expected = field, expected


class UnitOutOfRangeError(InvalidInputError):
    """A number is outside the range of its unit."""

    def __init__(self, *, unit: str, value: object, low: int, high: int) -> None:
        super().__init__(unit, f"{value!r} is out of range", f"a whole number from {low} to {high}")
        self.unit, self.value, self.low, self.high = unit, value, low, high


class NotOnAMinuteError(UnitOutOfRangeError):
    """A time that is no whole minute stands where a slot is asked for."""

    def __init__(self, seconds: int) -> None:
        minute = seconds - seconds % 60
        InvalidInputError.__init__(
            self, "slot", f"{seconds} is not on a minute", f"a multiple of 60 seconds, such as {minute}"
        )
        self.unit, self.value, self.low, self.high = "slot", seconds, 0, 2**32 - 1


class NotFoundError(BtcfiError):
    """A named thing does not exist."""

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        super().__init__(f"no {kind} {name!r}" + (f"; {hint}" if hint else ""))
        self.kind, self.name = kind, name


class NotHeldError(BtcfiError):
    """A row names what decides its money by a hash, and this process has nothing of that hash.

    Nothing else takes its place: what needs it waits, with this text beside it, until an operator puts the file there.
    """

    MARK = "is not held here"
    """In every such text, so that it can be taken away again."""

    def __init__(self, kind: str, sha256: str, *, name: str, hint: str) -> None:
        super().__init__(f"{kind}{f' {name!r}' if name else ''} with SHA-256 {sha256} {self.MARK}; {hint}")
        self.kind, self.sha256, self.name = kind, sha256, name


class PreconditionError(BtcfiError):
    """What must hold before a process starts does not, and no waiting mends it: an operator has to."""

    def __init__(self, name: str, said: str, mend: str) -> None:
        super().__init__(f"{name}: {said}; {mend}")
        self.name, self.said, self.mend = name, said, mend


class ConflictError(BtcfiError):
    """What was asked for contradicts what is already there; asking again does not help."""


class UnreachableError(RetryableError):
    """A service that we need does not answer: which, where, and what to try."""

    def __init__(self, service: str, where: str, problem: str, hint: str) -> None:
        super().__init__(f"{service} at {where} does not answer ({problem}); {hint}")
        self.service, self.where, self.problem, self.hint = service, where, problem, hint
