"""Who answers "is the symbol at least at this level": a pair of clauses, one of which will be met.

Rubin's interface as it stands: any oracle is asked by symbol and level and gives (less than, at least). Three kinds:
by preimage, by an attestation that reveals a point's secret, and a threshold of any oracles. What an oracle publishes
is a record here; what it keeps is another. Source: Rubin (2021), ``Oracle`` and ``ThresholdOracle``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from btcfi import secp256k1
from btcfi.clauses.clause import Clause, Hash, Revealed, Threshold
from btcfi.clauses.script import Shown
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.hashes import sha256, tagged_hash
from btcfi.oracle.announcement import anticipation_point
from btcfi.oracle.attestation import sign_with_nonce
from btcfi.units import Hash32

_PREIMAGE_TAG: Final = "BTCFi/clauses/preimage/v1"
_NONCE_TAG: Final = "BTCFi/clauses/nonce/v1"
_STATEMENT_TAG: Final = "BTCFi/clauses/statement/v1"
_PROOF_TAG: Final = "BTCFi/clauses/nonce-proof/v1"

MAX_SYMBOL: Final = 255
"""Bytes of UTF-8: one length byte."""

_LEVEL_BITS: Final = 63
"""Levels are signed 64-bit numbers, as published."""


class Oracle(Protocol):
    """Anything that can say which two clauses belong to a question."""

    def lt_gte(self, symbol: str, level: int) -> tuple[Clause, Clause]:
        """Return (met when the symbol is below the level, met when it is at least there). Raises NotFoundError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdOracle:
    """So many of these oracles must say the same."""

    oracles: tuple[Oracle, ...]
    threshold: int

    def __post_init__(self) -> None:
        """Raise InvalidInputError for one oracle twice: its word would be two votes."""
        keys = [one.key for one in self.oracles if isinstance(one, AttestingOracle)]
        if len(set(keys)) != len(keys):
            raise InvalidInputError("oracles", "one key twice", "different oracles")

    def lt_gte(self, symbol: str, level: int) -> tuple[Clause, Clause]:
        """Return both thresholds. Raises as the oracles do, and InvalidInputError for a count that can't be met."""
        pairs = [oracle.lt_gte(symbol, level) for oracle in self.oracles]
        below, at_least = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
        return Threshold(self.threshold, below), Threshold(self.threshold, at_least)


def question(symbol: str, level: int) -> bytes:
    """Return the bytes of a question, which no other question has. Raises InvalidInputError."""
    name = symbol.encode()
    if not 1 <= len(name) <= MAX_SYMBOL:
        raise InvalidInputError("symbol", f"{len(name)} bytes", f"1 to {MAX_SYMBOL} bytes")
    if not -(1 << _LEVEL_BITS) <= level < 1 << _LEVEL_BITS:
        raise InvalidInputError("level", str(level), "a signed number of 64 bits")
    return bytes([len(name)]) + name + level.to_bytes(8, signed=True)


# ---- by preimage


@dataclass(frozen=True, slots=True, kw_only=True)
class PreimageOracle:
    """An oracle that shows one of two preimages. Nothing stops it from showing both, and nobody could prove it whom."""

    published: Mapping[tuple[str, int], tuple[bytes, bytes]]
    """(symbol, level) -> the SHA-256 of what it shows for (less than, at least)."""

    def lt_gte(self, symbol: str, level: int) -> tuple[Clause, Clause]:
        """Return the two hashes of a question. Raises NotFoundError for one that it did not publish."""
        below, at_least = _published(self.published, symbol, level)
        return Hash(below), Hash(at_least)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreimageSecrets:
    """What such an oracle keeps."""

    secret: bytes = field(repr=False)
    """32 bytes; everything follows from it."""

    def publish(self, symbol: str, levels: Sequence[int]) -> PreimageOracle:
        """Return what it publishes of these levels."""
        return PreimageOracle(
            published={
                (symbol, level): (sha256(self._preimage(symbol, level, 0)), sha256(self._preimage(symbol, level, 1)))
                for level in levels
            }
        )

    def answer(self, symbol: str, level: int, *, price: int) -> Shown:
        """Return what it shows of one level when the symbol stands at ``price``."""
        preimage = self._preimage(symbol, level, int(price >= level))
        return Shown(preimages={sha256(preimage): preimage})

    def _preimage(self, symbol: str, level: int, side: int) -> Hash32:
        return tagged_hash(_PREIMAGE_TAG, self.secret + question(symbol, level) + bytes([side]))


# ---- by attestation


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What an attesting oracle publishes of one question."""

    nonce: bytes
    """x-only; it signs one of the two answers. Signing both with it reveals the oracle's key."""
    proof: bytes
    """BIP340 by the nonce's key over oracle and question: without it the last of several oracles could choose a nonce
    that cancels the others' points, and answer for all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestingOracle:
    """An oracle that signs one of two answers with a nonce that it announced."""

    key: bytes
    """x-only, 32 bytes."""
    published: Mapping[tuple[str, int], Statement]

    def lt_gte(self, symbol: str, level: int) -> tuple[Clause, Clause]:
        """Return the points whose secrets the two signatures reveal.

        Raises NotFoundError for a question that it did not publish, InvalidInputError for a nonce without a proof.
        """
        statement = _published(self.published, symbol, level)
        proof = tagged_hash(_PROOF_TAG, self.key + question(symbol, level))
        if not secp256k1.schnorr_verify(statement.nonce, proof, statement.proof):
            raise InvalidInputError("nonce", f"of {symbol} at {level} has no valid proof", "a proof of knowledge of it")
        below, at_least = (_point(self.key, statement.nonce, symbol, level, side) for side in (0, 1))
        return Revealed(below), Revealed(at_least)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestingSecrets:
    """What such an oracle keeps. Who answers twice with one of these needs a ledger: there is none in here."""

    secret: bytes = field(repr=False)

    def publish(self, symbol: str, levels: Sequence[int]) -> AttestingOracle:
        """Return what it publishes of these levels."""
        key = secp256k1.public_key_xonly(self.secret)
        made = {}
        for level in levels:
            nonce = self._nonce(symbol, level)
            proof = secp256k1.schnorr_sign(nonce, tagged_hash(_PROOF_TAG, key + question(symbol, level)))
            made[symbol, level] = Statement(nonce=secp256k1.public_key_xonly(nonce), proof=proof)
        return AttestingOracle(key=key, published=made)

    def answer(self, symbol: str, level: int, *, price: int) -> Shown:
        """Return the secret that its signature of one level reveals when the symbol stands at ``price``."""
        signature = sign_with_nonce(
            self.secret, self._nonce(symbol, level), _answer(symbol, level, int(price >= level))
        )
        # a clause names the x coordinate alone: the secret of the even one of its two points
        secret = secp256k1.even_secret(signature[32:])
        return Shown(secrets={secp256k1.public_key_xonly(secret): secret})

    def _nonce(self, symbol: str, level: int) -> bytes:
        return secp256k1.even_secret(tagged_hash(_NONCE_TAG, self.secret + question(symbol, level)))


def together(answers: Sequence[Shown]) -> Shown:
    """Return several answers as one."""
    preimages = {digest: shown for one in answers for digest, shown in one.preimages.items()}
    return Shown(preimages=preimages, secrets={key: s for one in answers for key, s in one.secrets.items()})


def _answer(symbol: str, level: int, side: int) -> Hash32:
    return tagged_hash(_STATEMENT_TAG, question(symbol, level) + bytes([side]))


def _point(key: bytes, nonce: bytes, symbol: str, level: int, side: int) -> bytes:
    return secp256k1.serialize_point(anticipation_point(key, nonce, _answer(symbol, level, side)))[1:]


def _published(table: Mapping[tuple[str, int], Any], symbol: str, level: int) -> Any:  # noqa: ANN401 - of each kind
    found = table.get((symbol, level))
    if found is None:
        raise NotFoundError("statement", f"{symbol} at {level}", "the oracle did not publish it")
    return found
