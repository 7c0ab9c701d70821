"""What a check found: a line of what is, and if need be what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from btcfi.errors import BtcfiError, RetryableError, UnreachableError


class Status(StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found."""

    name: str
    status: Status
    said: str
    do: str = ""
    """What would mend it; empty when nothing has to."""
    error: BtcfiError | None = field(default=None, repr=False, compare=False)
    """What was raised, if something was: its class decides the exit code of who stops at it."""


Check = Callable[[], Iterator[Finding]]


def ok(name: str, said: str) -> Finding:
    """Return that all is well."""
    return Finding(name=name, status=Status.OK, said=said)


def warn(name: str, said: str, do: str) -> Finding:
    """Return something that works and should not stay so."""
    return Finding(name=name, status=Status.WARN, said=said, do=do)


def fail(name: str, said: str, do: str) -> Finding:
    """Return something that does not work."""
    return Finding(name=name, status=Status.FAIL, said=said, do=do)


def safely(name: str, check: Check) -> Iterator[Finding]:
    """Yield what a check finds; what it raises is a finding, too."""
    try:
        yield from check()
    except UnreachableError as e:
        said = f"{e.where} does not answer ({e.problem})"
        yield Finding(name=name, status=Status.FAIL, said=said, do=e.hint, error=e)
    except BtcfiError as e:
        yield Finding(name=name, status=Status.FAIL, said=str(e), do="as the line says", error=e)
    except OSError as e:  # a full disk, no more descriptors: it may pass
        yield Finding(name=name, status=Status.FAIL, said=str(e), do="as the line says", error=RetryableError(str(e)))
