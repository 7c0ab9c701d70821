"""How every kernel of this package is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile ``function`` with numba when it is first called; cached on disk.

    Plain IEEE arithmetic (a division by zero is an infinity, not a branch), no fast-math, no threads. A kernel calls
    each large kernel from one place only, since LLVM copies it into every place.
    """
    return cast("F", njit(cache=True, error_model="numpy")(function))
