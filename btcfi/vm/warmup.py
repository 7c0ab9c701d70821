"""Whether the compiled machine is already in numba's cache: asked before numba is imported."""

from __future__ import annotations

import os
from pathlib import Path


def compiled_before() -> bool:
    """Return whether some numba cache index of the interpreter exists where numba would look first."""
    custom = os.environ.get("NUMBA_CACHE_DIR")
    if custom:
        return any(Path(custom).glob("**/interpreter._advance*.nbi"))
    return any((Path(__file__).parent / "__pycache__").glob("interpreter._advance*.nbi"))
