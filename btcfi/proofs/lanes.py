"""SHA-256 of many leaves or nodes at a time. ``hashlib`` is the reference; the compiled lanes must equal it."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import numpy as np
import numpy.typing as npt

from btcfi.hashes import tag_prefix

U32 = npt.NDArray[np.uint32]
Digests = npt.NDArray[np.uint8]

_LEAF_PREFIX: Final = sha256(tag_prefix("BTCFi/trace/leaf"))
_NODE_PREFIX: Final = sha256(tag_prefix("BTCFi/trace/node"))


def pack_rows(rows: U32) -> npt.NDArray[np.uint8]:
    """Return the rows as the bytes that leaves hash: (n, 38) u32 -> (n, 150) u8."""
    packed = np.empty((len(rows), 150), dtype=np.uint8)
    little = np.ascontiguousarray(rows).astype("<u4", copy=False)
    packed[:, :140] = little[:, :35].view(np.uint8).reshape(len(rows), 140)
    packed[:, 140:142] = little[:, 35:36].view(np.uint8).reshape(len(rows), 4)[:, :2]
    packed[:, 142:] = np.ascontiguousarray(little[:, 36:]).view(np.uint8).reshape(len(rows), 8)
    return packed


def hash_leaves(rows: U32) -> Digests:
    """Return the leaf of each trace row, (n, 32)."""
    return _each(_LEAF_PREFIX, pack_rows(rows))


def hash_pairs(digests: Digests) -> Digests:
    """Return the parent of each consecutive pair, (n, 32) -> (n / 2, 32)."""
    return _each(_NODE_PREFIX, np.ascontiguousarray(digests).reshape(-1, 64))


def _each(prefix: sha256, messages: npt.NDArray[np.uint8]) -> Digests:  # type: ignore[valid-type]
    size = messages.shape[1]
    flat = memoryview(messages.tobytes())
    digests = bytearray()
    for start in range(0, len(flat), size):
        one = prefix.copy()  # type: ignore[attr-defined]
        one.update(flat[start : start + size])
        digests += one.digest()
    return np.frombuffer(bytes(digests), dtype=np.uint8).reshape(-1, 32)
