"""The bytes of a way: its tapscript, its miniscript text, and the witness that meets it.

Three roads to one script: the encoder here, and two kept packages that compile the text
(``btcfi.adapters.miniscript``); tests hold them together. Source: bitcoin.sipa.be/miniscript; BIP342, BIP386, BIP387.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from btcfi.bitcoin import script as op
from btcfi.bitcoin.taproot import Leaf, Tree
from btcfi.clauses.clause import After, Atom, Hash, Key, Means, Older, Several, signers
from btcfi.errors import InvalidInputError, RetryableError
from btcfi.hashes import sha256

OP_VERIFY: Final = 0x69
OP_EQUAL: Final = 0x87
OP_NUMEQUAL: Final = 0x9C
OP_NUMEQUALVERIFY: Final = 0x9D
OP_CHECKSEQUENCEVERIFY: Final = 0xB2
OP_CHECKSIGADD: Final = 0xBA

SIGNATURE_SIZE: Final = 64
"""A BIP340 signature under SIGHASH_DEFAULT."""

_PREIMAGE_SIZE: Final = 32


class NotShownError(RetryableError):
    """What a way asks for has not been shown, so far: a preimage, a secret, a signature."""

    def __init__(self, what: str) -> None:
        super().__init__(f"nobody has shown {what}, so far")
        self.what = what


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What has been shown."""

    preimages: Mapping[bytes, bytes] = field(default_factory=dict)
    """By their SHA-256."""
    secrets: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    """Of revealed points and of guard keys, by the x-only key."""


def with_keys(means: Means, keys: Sequence[bytes]) -> Means:
    """Return a way that also needs these signatures, last. Raises InvalidInputError where it names one already."""
    named = {key for atom in means.atoms for key in signers(atom)}
    if named & set(keys):
        raise InvalidInputError("clause", "names a party's own key", "a key of its own for each clause")
    return Means((*means.atoms, *(Key(key) for key in keys)), means.points)


def leaf_script(means: Means) -> bytes:
    """Return the tapscript of a way. Raises InvalidInputError for one that needs no signature."""
    _check_signed(means)
    last = len(means.atoms) - 1
    return b"".join(_encode(atom, verify=place < last) for place, atom in enumerate(means.atoms))


def miniscript(means: Means) -> str:
    """Return the same as miniscript. Raises InvalidInputError for a way that needs no signature."""
    _check_signed(means)
    text = _text(means.atoms[-1])
    for atom in reversed(means.atoms[:-1]):
        text = f"and_v(v:{_text(atom)},{text})"
    return text


def balanced(leaves: Sequence[Leaf]) -> Tree:
    """Return a balanced tree of leaves, at least one: the first half is never the smaller."""
    if not leaves:
        raise InvalidInputError("tree", "no leaf", "at least one way to spend")
    if len(leaves) == 1:
        return leaves[0]
    half = (len(leaves) + 1) // 2
    return balanced(leaves[:half]), balanced(leaves[half:])


def descriptor(internal_key: bytes, means: Sequence[Means]) -> str:
    """Return the descriptor of the Taproot output with these ways, as ``balanced`` lays them out. Source: BIP386."""

    def text(ways: Sequence[Means]) -> str:
        if len(ways) == 1:
            return miniscript(ways[0])
        half = (len(ways) + 1) // 2
        return f"{{{text(ways[:half])},{text(ways[half:])}}}"

    return f"tr({internal_key.hex()},{text(means)})"


def satisfy(means: Means, signatures: Mapping[bytes, bytes], preimages: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """Return what goes under the script, bottom first; signatures by key. Raises NotShownError for what is missing.

    Of a threshold the first keys that signed are used, and no more than it asks for.
    """
    items: list[bytes] = []
    for atom in reversed(means.atoms):
        items += _items(atom, signatures, preimages)
    return tuple(items)


def witness_sizes(means: Means) -> tuple[int, ...]:
    """Return the sizes of those items."""
    signatures = {key: bytes(SIGNATURE_SIZE) for atom in means.atoms for key in signers(atom)}
    sizes = []
    for atom in reversed(means.atoms):
        items = (bytes(_PREIMAGE_SIZE),) if isinstance(atom, Hash) else _items(atom, signatures, {})
        sizes += [len(item) for item in items]
    return tuple(sizes)


def _check_signed(means: Means) -> None:
    if not any(signers(atom) for atom in means.atoms):
        raise InvalidInputError("clause", "a way without a signature", "at least one key in each way")


def _encode(atom: Atom, *, verify: bool) -> bytes:
    """Return a fragment; ``verify``: it leaves nothing behind, and fails where it would leave 0."""
    if isinstance(atom, Hash):
        head = bytes([op.OP_SIZE]) + op.push_number(_PREIMAGE_SIZE) + bytes([op.OP_EQUALVERIFY, op.OP_SHA256])
        return head + op.push(atom.digest) + bytes([op.OP_EQUALVERIFY if verify else OP_EQUAL])
    if isinstance(atom, After | Older):
        opcode = op.OP_CHECKLOCKTIMEVERIFY if isinstance(atom, After) else OP_CHECKSEQUENCEVERIFY
        return op.push_number(atom.lock) + bytes([opcode]) + (bytes([OP_VERIFY]) if verify else b"")
    if isinstance(atom, Several):
        checks = [
            op.push(key) + bytes([OP_CHECKSIGADD if place else op.OP_CHECKSIG]) for place, key in enumerate(atom.keys)
        ]
        return b"".join(checks) + op.push_number(atom.count) + bytes([OP_NUMEQUALVERIFY if verify else OP_NUMEQUAL])
    (key,) = signers(atom)
    return op.push(key) + bytes([op.OP_CHECKSIGVERIFY if verify else op.OP_CHECKSIG])


def _text(atom: Atom) -> str:
    if isinstance(atom, Hash):
        return f"sha256({atom.digest.hex()})"
    if isinstance(atom, After | Older):
        return f"{'after' if isinstance(atom, After) else 'older'}({atom.lock})"
    if isinstance(atom, Several):
        return f"multi_a({atom.count},{','.join(key.hex() for key in atom.keys)})"
    (key,) = signers(atom)
    return f"pk({key.hex()})"


def _items(atom: Atom, signatures: Mapping[bytes, bytes], preimages: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    if isinstance(atom, Hash):
        shown = preimages.get(atom.digest, b"")
        if len(shown) != _PREIMAGE_SIZE or sha256(shown) != atom.digest:
            raise NotShownError(f"the preimage of {atom.digest.hex()[:16]}…")
        return (shown,)
    if isinstance(atom, After | Older):
        return ()
    keys = signers(atom)
    have = [key for key in keys if key in signatures]
    needed = atom.count if isinstance(atom, Several) else 1
    if len(have) < needed:
        missing = next(key for key in keys if key not in signatures)
        raise NotShownError(f"{needed} of {len(keys)} signatures, of {missing.hex()[:16]}… for one")
    used = set(have[:needed])
    # the script checks the first key first: its signature lies on top
    return tuple(signatures[key] if key in used else b"" for key in reversed(keys))
