"""One authenticated stream of named parts: none can be read, changed, left out, added, moved or cut off.

    magic | size of the keystore | keystore | block 0 | block 1 | ... | the last block

A block is a kind, its number, its size, and that many bytes of AES-256-GCM. Its nonce is its kind and number, so that a
block stands in one place only; what is authenticated with it is all that lies before block 0, so that it stands in one
file only, whose keystore has a seed that was made for it. The last block is of a kind of its own and lists every part:
a stream without one was cut off. Source: Hoang, Reyhanitabar, Rogaway, Vizar (2015), the construction STREAM.

Both sides hold one block in memory, whatever the size of a part.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from cryptography.exceptions import InvalidTag

from btcfi.adapters.keystore import MAX_KEYSTORE_BYTES, Keystore
from btcfi.documents import parse_json
from btcfi.errors import InvalidInputError

BLOCK_BYTES: Final = 1 << 20
"""Of a part's own bytes in a block, before they are compressed: what either side holds in memory."""

_OVERHEAD: Final = 1 << 12
"""Bytes by which a sealed block may be larger: the tag, and zlib's for what can't be compressed."""

MAX_PARTS: Final = 1 << 16
"""In a stream: the list of them is held in memory."""

MAX_LIST_BYTES: Final = 1 << 26

_MAX_NAME_BYTES: Final = 1 << 12

_BLOCK: Final = struct.Struct(">cQI")
"""Kind, number, size of what follows."""

_SIZE: Final = struct.Struct(">I")

_BEGIN: Final = b"P"
"""A part begins: its name."""
_DATA: Final = b"D"
"""Some of a part's bytes."""
_END: Final = b"L"
"""A piece of the list of parts; nothing but more of them follows."""
_LAST: Final = b"Z"
"""The last piece of the list: nothing follows."""


class BrokenStreamError(InvalidInputError):
    """A stream is not what was sealed, and where that shows."""

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(part, problem, "a stream as it was written")
        self.part = part


@dataclass(slots=True)
class _Part:
    """What is listed of a part."""

    name: str
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self.digest.update(data)

    def listed(self) -> dict[str, Any]:
        return {"name": self.name, "bytes": self.size, "sha256": self.digest.hexdigest()}


class SealedWriter:
    """Writes a stream. ``finish`` must be called: without it the stream is one that was cut off."""

    def __init__(self, file: BinaryIO, *, magic: bytes, keystore: bytes, opened: Keystore) -> None:
        """keystore: its file's bytes; its seed must be fresh, since the nonces of its stream are counted from 0."""
        head = magic + _SIZE.pack(len(keystore)) + keystore
        file.write(head)
        self._file, self._cipher, self._bound = file, opened.stream(), hashlib.sha256(head).digest()
        self._number, self._parts, self._names, self._buffer = 0, list[_Part](), set[str](), bytearray()

    @contextmanager
    def part(self, name: str) -> Iterator[SealedWriter]:
        """Begin a part; its bytes are written inside. Raises InvalidInputError for a name that is taken, or a limit."""
        if len(self._parts) >= MAX_PARTS:
            raise InvalidInputError("parts", f"more than {MAX_PARTS:,}", "fewer files")
        plain = name.isascii() and name.isprintable() and 0 < len(name) <= _MAX_NAME_BYTES
        if name in self._names or not plain:
            raise InvalidInputError(
                "part", f"{name[:80]!r}", f"a name of its own, ASCII, of at most {_MAX_NAME_BYTES:,}"
            )
        self._names.add(name)
        self._parts.append(_Part(name))
        self._block(_BEGIN, name.encode())
        yield self
        self._flush(0)

    def write(self, data: bytes) -> None:
        """Add to the part that was begun."""
        self._buffer += data
        self._flush(BLOCK_BYTES)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Close the stream with the list of its parts, and what else is to be known of the whole."""
        listed = json.dumps({**facts, "parts": [one.listed() for one in self._parts]}).encode()
        if len(listed) > MAX_LIST_BYTES:
            raise InvalidInputError("parts", f"{len(listed):,} bytes of names", f"at most {MAX_LIST_BYTES:,}")
        pieces = [listed[at : at + BLOCK_BYTES] for at in range(0, len(listed), BLOCK_BYTES)]
        for piece in pieces[:-1]:
            self._block(_END, piece)
        self._block(_LAST, pieces[-1])

    def _flush(self, above: int) -> None:
        while len(self._buffer) > above:
            data = bytes(self._buffer[:BLOCK_BYTES])
            del self._buffer[:BLOCK_BYTES]
            self._parts[-1].add(data)
            self._block(_DATA, data)

    def _block(self, kind: bytes, data: bytes) -> None:
        sealed = self._cipher.encrypt(_nonce(kind, self._number), zlib.compress(data), self._bound)
        self._file.write(_BLOCK.pack(kind, self._number, len(sealed)) + sealed)
        self._number += 1


class SealedReader:
    """Reads a stream. What it gives is authentic; that the stream is whole is known when ``parts`` has ended.

    So a caller goes through all of it once before doing anything by it, and then a second time.
    """

    def __init__(self, file: BinaryIO, *, magic: bytes, keystore: bytes, opened: Keystore) -> None:
        """file: stands behind the keystore, as ``read_head`` leaves it."""
        head = magic + _SIZE.pack(len(keystore)) + keystore
        self._file, self._cipher, self._bound = file, opened.stream(), hashlib.sha256(head).digest()
        self._number, self._parts, self._next = 0, list[_Part](), (b"", b"")
        self._facts: dict[str, Any] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """Return what the list says of the whole, once the stream was read to its end."""
        if self._facts is None:
            raise BrokenStreamError(self._where, "was not read to its end")
        return self._facts

    def parts(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield each part's name and its bytes in pieces of at most BLOCK_BYTES; what is left of one is passed over.

        Raises BrokenStreamError naming the part in which it shows that the stream is not what was sealed.
        """
        names = set[str]()
        self._advance()
        while self._next[0] == _BEGIN:
            name = self._next[1].decode("ascii")
            if name in names or len(names) >= MAX_PARTS:
                raise BrokenStreamError(name, "is in it twice" if name in names else f"is one of over {MAX_PARTS:,}")
            names.add(name)
            self._parts.append(_Part(name))
            self._advance()
            pieces = self._pieces()
            yield name, pieces
            for _ in pieces:
                pass
        self._close()

    def _pieces(self) -> Iterator[bytes]:
        while self._next[0] == _DATA:
            data = self._next[1]
            self._parts[-1].add(data)
            self._advance()
            yield data

    def _close(self) -> None:
        listed = bytearray()
        while self._next[0] == _END and len(listed) <= MAX_LIST_BYTES:
            listed += self._next[1]
            self._advance()
        if self._next[0] != _LAST:
            raise BrokenStreamError(self._where, "is followed by a block that belongs to no part")
        facts: dict[str, Any] = parse_json(bytes(listed + self._next[1]), "list of parts")
        found = [one.listed() for one in self._parts]
        if (wanted := facts.pop("parts", None)) != found:
            missing = next((a for a, b in zip([*(wanted or []), None], [*found, None], strict=False) if a != b), None)
            raise BrokenStreamError(missing["name"] if missing else self._where, "is not what the list of parts says")
        if self._file.read(1):
            raise BrokenStreamError(self._where, "is followed by bytes behind the end")
        self._facts = facts

    @property
    def _where(self) -> str:
        return self._parts[-1].name if self._parts else "its first part"

    def _advance(self) -> None:
        head = self._file.read(_BLOCK.size)
        if len(head) < _BLOCK.size:
            raise BrokenStreamError(self._where, f"was cut off before block {self._number}")
        kind, number, size = _BLOCK.unpack(head)
        if number != self._number:
            raise BrokenStreamError(self._where, f"block {number} stands where block {self._number} belongs")
        if size > BLOCK_BYTES + _OVERHEAD:
            raise BrokenStreamError(self._where, f"block {number} claims {size:,} bytes")
        sealed = self._file.read(size)
        if len(sealed) < size:
            raise BrokenStreamError(self._where, f"was cut off inside block {number}")
        try:
            data = self._cipher.decrypt(_nonce(kind, number), sealed, self._bound)
        except (InvalidTag, ValueError) as e:  # the cipher says the second of too few bytes
            problem = f"block {number} is not what was sealed: changed, or of another file"
            raise BrokenStreamError(self._where, problem) from e
        self._next = (kind, self._inflated(data, number))
        self._number += 1

    def _inflated(self, data: bytes, number: int) -> bytes:
        inflater = zlib.decompressobj()
        try:
            plain = inflater.decompress(data, BLOCK_BYTES + 1)
        except zlib.error as e:
            raise BrokenStreamError(self._where, f"block {number}: {e}") from e
        if len(plain) > BLOCK_BYTES or not inflater.eof:
            raise BrokenStreamError(self._where, f"block {number} is of more than {BLOCK_BYTES:,} bytes")
        return plain


def read_head(file: BinaryIO) -> bytes:
    """Return the keystore's bytes, which lie behind the magic. Raises BrokenStreamError."""
    raw = file.read(_SIZE.size)
    size = _SIZE.unpack(raw)[0] if len(raw) == _SIZE.size else 0
    if not 0 < size <= MAX_KEYSTORE_BYTES:
        raise BrokenStreamError("keystore", f"{size:,} bytes")
    keystore = file.read(size)
    if len(keystore) < size:
        raise BrokenStreamError("keystore", "was cut off")
    return keystore


def _nonce(kind: bytes, number: int) -> bytes:
    return struct.pack(">3xcQ", kind, number)
