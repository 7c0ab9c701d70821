"""Conditions of spending as a small language: keys, hashes, locks; and, or, threshold; and the ways to meet one.

A condition becomes the list of its ways, each a conjunction of what must be shown; a way is a leaf of a Taproot tree.
What a way can't be is refused here, with the rules of miniscript's "sane" scripts: a key twice, locks in blocks beside
locks in seconds, no signature at all. Source: Rubin, "Derivatives and Options for Bitcoin" (2021), and his language
Sapio, for the names; bitcoin.sipa.be/miniscript for the rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, product
from typing import Final

from btcfi import secp256k1
from btcfi.errors import InvalidInputError

LOCKTIME_THRESHOLD: Final = 500_000_000
"""An absolute lock below it is a height, from it on seconds since 1970. Source: consensus (LOCKTIME_THRESHOLD)."""

MAX_LOCK: Final = (1 << 31) - 1
"""A script number of more than four bytes is no lock that miniscript writes."""

SECONDS_FLAG: Final = 1 << 22
"""In a relative lock: units of 512 seconds instead of blocks. Source: BIP68."""

MAX_RELATIVE: Final = 0xFFFF
"""Blocks or units of 512 seconds. Source: BIP68; of a larger number consensus would drop the upper bits."""

MAX_WAYS: Final = 128
"""Leaves of one condition: a Taproot proof of 128 leaves has seven hashes."""

MAX_KEYS: Final = 20
"""Of one threshold: far below what a script may hold, far above any set of oracles here."""


@dataclass(frozen=True, slots=True)
class Key:
    """A BIP340 signature by this x-only key."""

    key: bytes

    def __post_init__(self) -> None:
        """Raise InvalidInputError when the key is not on the curve."""
        _check_key(self.key)


@dataclass(frozen=True, slots=True)
class Revealed:
    """A signature that whoever learns a point's secret can make: somebody will show it when this is true."""

    point: bytes
    """x-only; the secret of the even one of its two points."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError when the point is not on the curve."""
        _check_key(self.point)


@dataclass(frozen=True, slots=True)
class Hash:
    """The 32 bytes whose SHA-256 this is."""

    digest: bytes

    def __post_init__(self) -> None:
        """Raise InvalidInputError for another size."""
        secp256k1.check_size(self.digest, "hash", "a SHA-256, 32 bytes")


@dataclass(frozen=True, slots=True)
class After:
    """Not before this height, or this many seconds since 1970 (median time past) from 500,000,000 on."""

    lock: int

    def __post_init__(self) -> None:
        """Raise InvalidInputError for what is no lock time."""
        if not 1 <= self.lock <= MAX_LOCK:
            raise InvalidInputError("after", str(self.lock), f"1 to {MAX_LOCK}")

    @property
    def in_seconds(self) -> bool:
        """Whether it is a time."""
        return self.lock >= LOCKTIME_THRESHOLD


@dataclass(frozen=True, slots=True)
class Older:
    """Not before the coin is this many blocks deep, or 512 s times the lower 16 bits when ``SECONDS_FLAG`` is set."""

    lock: int

    def __post_init__(self) -> None:
        """Raise InvalidInputError for what BIP68 does not count."""
        if not 1 <= self.lock & ~SECONDS_FLAG <= MAX_RELATIVE:
            raise InvalidInputError("older", str(self.lock), f"1 to {MAX_RELATIVE} blocks, or so many units of 512 s")

    @property
    def in_seconds(self) -> bool:
        """Whether it is a time."""
        return bool(self.lock & SECONDS_FLAG)


@dataclass(frozen=True, slots=True)
class And:
    """All of these; of none, nothing has to be shown."""

    parts: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any one of these."""

    parts: tuple[Clause, ...]

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a choice of nothing, which nobody could ever meet."""
        if not self.parts:
            raise InvalidInputError("or", "nothing to choose", "at least one clause")


@dataclass(frozen=True, slots=True)
class Threshold:
    """So many of these."""

    count: int
    parts: tuple[Clause, ...]

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a count that can't be met or asks for nothing."""
        if not 1 <= self.count <= len(self.parts):
            raise InvalidInputError("threshold", f"{self.count} of {len(self.parts)}", "1 to the number of clauses")


Clause = Key | Revealed | Hash | After | Older | And | Or | Threshold

ALWAYS: Final = And(())
"""Nothing has to be shown."""


@dataclass(frozen=True, slots=True)
class Several:
    """Signatures of so many of these keys, in one leaf."""

    count: int
    keys: tuple[bytes, ...]


Atom = Key | Revealed | Hash | After | Older | Several

_ORDER: Final[dict[type[Atom], int]] = {Hash: 0, After: 1, Older: 2, Several: 3, Revealed: 4, Key: 5}
"""Of the parts of a leaf: what is cheap to check first, signatures last."""


@dataclass(frozen=True, slots=True)
class Means:
    """One way to meet a condition: all of its atoms."""

    atoms: tuple[Atom, ...]
    """In the order of the script; keys in the order in which they were asked for."""
    points: tuple[bytes, ...] = ()
    """Points whose secrets finish the signatures, instead of standing in the script; sorted, each once."""

    @property
    def lock_time(self) -> int:
        """The nLockTime that it needs; 0 for none."""
        return max((atom.lock for atom in self.atoms if isinstance(atom, After)), default=0)

    @property
    def relative(self) -> int:
        """The nSequence that it needs; 0 for none."""
        return max((atom.lock for atom in self.atoms if isinstance(atom, Older)), default=0)


def means_of(clause: Clause, *, encrypted: bool = False) -> tuple[Means, ...]:
    """Return the ways to meet a condition, at most ``MAX_WAYS``, each once and in the clause's order.

    encrypted: points that will be revealed leave the script and become ``points`` of a way: the signatures beside it
    are then made under their sum. Raises InvalidInputError for too many ways, a key twice in a way, a clause twice in
    a threshold, locks of both units in a way.
    """
    found: dict[Means, None] = {}
    for one in _expand(clause, encrypted=encrypted):
        found[_means(one, encrypted=encrypted)] = None
    return tuple(found)


def _expand(clause: Clause, *, encrypted: bool) -> list[tuple[Atom, ...]]:
    """Return the disjunctive form: at most ``MAX_WAYS`` tuples of atoms."""
    if isinstance(clause, And):
        return _all_of(clause.parts, encrypted=encrypted)
    if isinstance(clause, Or):
        return _limited([way for part in clause.parts for way in _expand(part, encrypted=encrypted)])
    if not isinstance(clause, Threshold):
        return [(clause,)]
    if len(set(clause.parts)) != len(clause.parts):  # one oracle named twice would be two votes
        raise InvalidInputError("threshold", "one clause twice", "different clauses")
    keys = _keys(clause.parts, encrypted=encrypted)
    if keys is not None and clause.count < len(keys):
        if len(keys) > MAX_KEYS:
            raise InvalidInputError("threshold", f"{len(keys)} keys", f"at most {MAX_KEYS}")
        return [(Several(clause.count, keys),)]
    ways: list[tuple[Atom, ...]] = []
    # counted as they come: twenty of forty are 10^11 sets
    for chosen in combinations(clause.parts, clause.count):
        ways = _limited([*ways, *_all_of(chosen, encrypted=encrypted)])
    return ways


def _all_of(parts: Iterable[Clause], *, encrypted: bool) -> list[tuple[Atom, ...]]:
    ways: list[tuple[Atom, ...]] = [()]
    for part in parts:
        more = _expand(part, encrypted=encrypted)
        if len(ways) * len(more) > MAX_WAYS:
            raise _too_many(len(ways) * len(more))
        ways = [first + second for first, second in product(ways, more)]
    return ways


def _limited(ways: list[tuple[Atom, ...]]) -> list[tuple[Atom, ...]]:
    if len(ways) > MAX_WAYS:
        raise _too_many(len(ways))
    return ways


def _too_many(count: int) -> InvalidInputError:
    return InvalidInputError("clause", f"{count} ways and more", f"at most {MAX_WAYS}")


def _keys(parts: tuple[Clause, ...], *, encrypted: bool) -> tuple[bytes, ...] | None:
    """Return the keys of a threshold that one leaf can hold; None for any other."""
    keys = []
    for part in parts:
        if isinstance(part, Key):
            keys.append(part.key)
        elif isinstance(part, Revealed) and not encrypted:
            keys.append(part.point)
        else:
            return None
    return tuple(keys)


def _means(atoms: tuple[Atom, ...], *, encrypted: bool) -> Means:
    points = tuple(sorted({atom.point for atom in atoms if isinstance(atom, Revealed)})) if encrypted else ()
    rest = [atom for atom in dict.fromkeys(atoms) if not (encrypted and isinstance(atom, Revealed))]
    for kind, unit in ((After, "after"), (Older, "older")):
        if len({atom.in_seconds for atom in rest if isinstance(atom, kind)}) > 1:
            raise InvalidInputError(unit, "blocks and seconds in one way", "locks of one unit")
        # of several locks the latest implies the others
        latest = max((atom.lock for atom in rest if isinstance(atom, kind)), default=0)
        rest = [atom for atom in rest if not isinstance(atom, kind) or atom.lock == latest]
    means = Means(tuple(sorted(rest, key=lambda atom: _ORDER[type(atom)])), points)
    keys = [key for atom in means.atoms for key in signers(atom)]
    if len(set(keys)) != len(keys):
        raise InvalidInputError("clause", "a key twice in one way", "each key once")
    return means


def signers(atom: Atom) -> tuple[bytes, ...]:
    """Return the keys that an atom names."""
    if isinstance(atom, Several):
        return atom.keys
    if isinstance(atom, Key):
        return (atom.key,)
    return (atom.point,) if isinstance(atom, Revealed) else ()


def _check_key(key: bytes) -> None:
    if not secp256k1.is_xonly_key(key):
        raise InvalidInputError("key", "is not on the curve", "the x coordinate of a point, 32 bytes")
