"""SHA-256 of many leaves or nodes at a time.

``hashlib`` is the reference and the fallback. On x86-64 Linux a small committed library (native/sha256_lanes.c, built
by the same pinned compiler as the guests, no libc) takes its place: SHA instructions with two messages interleaved, or
eight messages side by side in AVX2. Its bytes are hashed before they are loaded, and its first answers are compared
with hashlib's; ``BTCFI_HASHING=hashlib`` turns it off.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from btcfi.hashes import tag_prefix

if TYPE_CHECKING:
    from hashlib import _Hash

U32 = npt.NDArray[np.uint32]
Digests = npt.NDArray[np.uint8]

LEAF_TAG: Final = "BTCFi/trace/leaf"
NODE_TAG: Final = "BTCFi/trace/node"

NATIVE_FILE: Final = "sha256_lanes-x86_64.so"
NATIVE_SHA256: Final = "dc0ffdd1c0ce559deaf7bf063d8b1572e8a25e49dab1a2b0e9e9cae6ba577f6d"
"""Of the committed library; tests rebuild it byte-equal."""

_ROW_WORDS: Final = 38


def hash_leaves(rows: U32) -> Digests:
    """Return the leaf of each trace row, (n, 38) u32 -> (n, 32)."""
    native = _native()
    return hash_leaves_by_hashlib(rows) if native is None else native.leaves(rows)


def hash_pairs(digests: Digests) -> Digests:
    """Return the parent of each consecutive pair, (n, 32) -> (n / 2, 32)."""
    native = _native()
    return hash_pairs_by_hashlib(digests) if native is None else native.pairs(digests)


def hashing_in_use() -> str:
    """Return ``sha`` (SHA instructions), ``avx2`` or ``hashlib``."""
    native = _native()
    return "hashlib" if native is None else native.name


def pack_rows(rows: U32) -> npt.NDArray[np.uint8]:
    """Return the rows as the bytes that leaves hash: (n, 38) u32 -> (n, 150) u8."""
    packed = np.empty((len(rows), 150), dtype=np.uint8)
    little = np.ascontiguousarray(rows).astype("<u4", copy=False)
    packed[:, :140] = little[:, :35].copy().view(np.uint8)
    packed[:, 140:142] = little[:, 35:36].copy().view(np.uint8)[:, :2]
    packed[:, 142:] = little[:, 36:].copy().view(np.uint8)
    return packed


def hash_leaves_by_hashlib(rows: U32) -> Digests:
    """Return what ``hash_leaves`` must: the reference."""
    return hash_each(LEAF_TAG, pack_rows(rows))


def hash_pairs_by_hashlib(digests: Digests) -> Digests:
    """Return what ``hash_pairs`` must: the reference."""
    return hash_each(NODE_TAG, np.ascontiguousarray(digests).reshape(-1, 64))


@cache
def _prefix(tag: str) -> _Hash:
    return sha256(tag_prefix(tag))


def hash_each(tag: str, messages: npt.NDArray[np.uint8]) -> Digests:
    """Return the tagged hash of each row of bytes by hashlib, (n, size) -> (n, 32)."""
    size, prefix = messages.shape[1], _prefix(tag)
    flat = memoryview(messages.tobytes())
    digests = bytearray()
    for start in range(0, len(flat), size):
        one = prefix.copy()
        one.update(flat[start : start + size])
        digests += one.digest()
    return np.frombuffer(bytes(digests), dtype=np.uint8).reshape(-1, 32)


class NativeLanes:
    """The loaded library at one of its levels."""

    def __init__(self, library: Any, level: int) -> None:  # noqa: ANN401 - ctypes has no types
        """Compute the states after the tag blocks. ``level``: 2 SHA instructions, 1 AVX2."""
        self._library, self._level = library, level
        self.name = {1: "avx2", 2: "sha"}[level]
        self._starts = {tag: self._start(tag) for tag in (LEAF_TAG, NODE_TAG)}

    def _start(self, tag: str) -> U32:
        state = np.empty(8, dtype=np.uint32)
        self._library.lanes_start(tag_prefix(tag), _pointer(state))
        return state

    def leaves(self, rows: U32) -> Digests:
        """Return the leaves of ``rows``."""
        rows = np.ascontiguousarray(rows)
        if rows.dtype != np.uint32 or rows.ndim != 2 or rows.shape[1] != _ROW_WORDS:  # noqa: PLR2004 - a table
            raise ValueError(f"rows are {rows.dtype}{rows.shape}")  # our own callers only
        out = np.empty((len(rows), 32), dtype=np.uint8)
        start = self._starts[LEAF_TAG]
        self._library.lanes_leaves(self._level, _pointer(rows), len(rows), _pointer(start), _pointer(out))
        return out

    def pairs(self, digests: Digests) -> Digests:
        """Return the parents of consecutive pairs."""
        digests = np.ascontiguousarray(digests)
        if digests.dtype != np.uint8 or digests.size % 64:
            raise ValueError(f"digests are {digests.dtype}{digests.shape}")  # our own callers only
        out = np.empty((digests.size // 64, 32), dtype=np.uint8)
        start = self._starts[NODE_TAG]
        self._library.lanes_nodes(self._level, _pointer(digests), len(out), _pointer(start), _pointer(out))
        return out

    def agrees_with_hashlib(self) -> bool:
        """Return whether a few odd-sized batches give hashlib's digests."""
        rows = (np.arange(9 * _ROW_WORDS, dtype=np.uint32) * np.uint32(2654435761)).reshape(9, _ROW_WORDS)
        leaves = hash_leaves_by_hashlib(rows)
        pairs = hash_pairs_by_hashlib(leaves[:6])
        return bool((self.leaves(rows) == leaves).all() and (self.pairs(leaves[:6]) == pairs).all())


def _pointer(array: npt.NDArray[Any]) -> int:
    return array.ctypes.data


@cache
def _native() -> NativeLanes | None:
    if os.environ.get("BTCFI_HASHING") == "hashlib":
        return None
    library = load_native()
    if library is None:
        return None
    level = int(library.lanes_level())
    if not level:
        return None
    native = NativeLanes(library, level)
    return native if native.agrees_with_hashlib() else None


def load_native() -> Any:  # noqa: ANN401 - a ctypes library
    """Return the library, or None where it does not apply or its bytes are not the committed ones."""
    if platform.machine() != "x86_64" or sys.platform != "linux" or sys.byteorder != "little":
        return None
    path = Path(__file__).parent / "native" / NATIVE_FILE
    try:
        if sha256(path.read_bytes()).hexdigest() != NATIVE_SHA256:
            return None
        library = ctypes.CDLL(str(path))
    except OSError:
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.lanes_leaves.argtypes = (ctypes.c_int, pointer, size, pointer, pointer)
    library.lanes_nodes.argtypes = (ctypes.c_int, pointer, size, pointer, pointer)
    library.lanes_start.argtypes = (ctypes.c_char_p, pointer)
    for function in (library.lanes_leaves, library.lanes_nodes, library.lanes_start):
        function.restype = None
    return library
