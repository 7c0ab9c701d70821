"""The compiled kernels' cache on disk, kept honest.

numba recompiles a cached function when its own file changed, but not when a kernel that it inlined from another file
did: after an update in place a price could come from yesterday's formula. So a cached kernel older than any source of
this package is dropped before the first one is loaded.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_BESIDE: Final = Path(__file__).parent / "__pycache__"


def compiled_before() -> bool:
    """Return whether a compiled book lies where numba would look first."""
    custom = os.environ.get("NUMBA_CACHE_DIR")
    where = Path(custom).glob("**/premium._book_loop*.nbi") if custom else _BESIDE.glob("premium._book_loop*.nbi")
    return any(where)


def drop_stale_kernels(folder: Path) -> int:
    """Delete the cached kernels of ``folder`` that are older than its newest source; return how many went.

    A cache that cannot be read or written is left alone: numba then compiles in memory.
    """
    dropped = 0
    with suppress(OSError):
        newest = max((path.stat().st_mtime_ns for path in folder.glob("*.py")), default=0)
        for cached in folder.glob("__pycache__/*.nbi"):
            if cached.stat().st_mtime_ns < newest:
                cached.unlink(missing_ok=True)
                dropped += 1
    return dropped
