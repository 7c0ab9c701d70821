"""Words with one-time signatures: Winternitz chains of HASH160, base 8, checked by Script and read as Script reads.

A word of n digits has n chains of 8 links and two more for the checksum, what the digits lack of 7n. The signature of
a digit d is link d; its chain's end is the key. From link d every later link follows, so a digit can be raised by
anybody, and then one of the checksum's would have to be lowered, which nobody can.

**Two signatures of different words under one key give it away**: who signs keeps what it signed before it is sent.
Base 8: a price of 18 bits weighs 140 vB there, 158 in base 16 and 177 in base 4 (script and witness, counted).
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from btcfi.disputes.leaves.emitter import Emitter, Opcode
from btcfi.errors import InvalidInputError

DIGIT_BITS: Final = 3
BASE: Final = 1 << DIGIT_BITS
TOP: Final = BASE - 1
CHECKSUM_DIGITS: Final = 2
"""Enough for words of up to nine digits: 63 lacks."""

MAX_DIGITS: Final = 9
"""27 bits, well below what Script's numbers hold."""

LINK_SIZE: Final = 20
MAX_NUMBER_SIZE: Final = 4
"""Bytes of a number that Script computes with. Source: Bitcoin Core, CScriptNum::nDefaultMaxNumSize."""


def hash160(data: bytes) -> bytes:
    """Return RIPEMD-160 of SHA-256, 20 bytes."""
    return hashlib.new("ripemd160", hashlib.sha256(data).digest()).digest()


def digits_for(largest: int) -> int:
    """Return how many digits hold every value from 0 to the largest. Raises InvalidInputError beyond MAX_DIGITS."""
    count = max(1, -(-largest.bit_length() // DIGIT_BITS))
    if largest < 0 or count > MAX_DIGITS:
        raise InvalidInputError("word", str(largest), f"0 to {BASE**MAX_DIGITS - 1}")
    return count


def digits_of(value: int, count: int) -> tuple[int, ...]:
    """Return a value's digits, least significant first, then the checksum's. Raises InvalidInputError out of range."""
    if not 0 <= value < BASE**count:
        raise InvalidInputError("word", str(value), f"0 to {BASE**count - 1}")
    digits = [value >> DIGIT_BITS * place & TOP for place in range(count)]
    lacks = TOP * count - sum(digits)
    return (*digits, lacks & TOP, lacks >> DIGIT_BITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word's public half."""

    ends: tuple[bytes, ...]
    """The last link of each chain: the digits', least significant first, then the checksum's."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for ends of another shape."""
        if not 1 <= self.digits <= MAX_DIGITS or any(len(one) != LINK_SIZE for one in self.ends):
            raise InvalidInputError("word", f"{len(self.ends)} chains", f"3 to {MAX_DIGITS + 2}, 20 bytes each")

    @property
    def digits(self) -> int:
        """How many digits the message has."""
        return len(self.ends) - CHECKSUM_DIGITS


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedDigit:
    """A digit as Script reads it, and the two items of the witness that say it."""

    digit: int
    link: bytes
    item: bytes
    """The digit as a witness says it, in its shortest form: no node relays another."""


Signed = tuple[SignedDigit, ...]
"""A signature of a word, a digit for each chain."""


@dataclass(frozen=True, kw_only=True)
class WordKey:
    """A word's secret half; it signs one value."""

    seed: bytes
    """32 bytes, of this word alone."""
    digits: int

    @cached_property
    def chains(self) -> tuple[tuple[bytes, ...], ...]:
        """Every link of every chain."""
        found = []
        for place in range(self.digits + CHECKSUM_DIGITS):
            links = [hashlib.sha256(self.seed + bytes([place])).digest()[:LINK_SIZE]]
            for _ in range(TOP):
                links.append(hash160(links[-1]))
            found.append(tuple(links))
        return tuple(found)

    @property
    def word(self) -> Word:
        """The public half."""
        return Word(ends=tuple(links[-1] for links in self.chains))

    def sign(self, value: int) -> Signed:
        """Return the signature of a value. Raises InvalidInputError for one that does not fit."""
        pairs = zip(self.chains, digits_of(value, self.digits), strict=True)
        return tuple(SignedDigit(digit=digit, link=links[digit], item=number_item(digit)) for links, digit in pairs)


def derived_key(seed: bytes, name: str, digits: int) -> WordKey:
    """Return the key of a named word."""
    return WordKey(seed=hashlib.sha256(seed + name.encode()).digest(), digits=digits)


def value_of(signed: Signed) -> int:
    """Return the value that a signature says."""
    digits = signed[:-CHECKSUM_DIGITS]
    return sum(one.digit << DIGIT_BITS * place for place, one in enumerate(digits))


def has_signed(word: Word, signed: Signed) -> bool:
    """Return whether a signature is a word's: every link leads to its chain's end, and the checksum is right."""
    if len(signed) != len(word.ends) or any(not 0 <= one.digit <= TOP or len(one.link) != LINK_SIZE for one in signed):
        return False
    for one, end in zip(signed, word.ends, strict=True):
        link = one.link
        for _ in range(TOP - one.digit):
            link = hash160(link)
        if link != end:
            return False
    return tuple(one.digit for one in signed) == digits_of(value_of(signed), word.digits)


# ---- the witness, both ways


def number_item(value: int) -> bytes:
    """Return a number as a witness item, in its shortest form."""
    if value == 0:
        return b""
    raw = bytearray(abs(value).to_bytes((abs(value).bit_length() + 8) // 8, "little"))
    raw[-1] |= 0x80 if value < 0 else 0
    return bytes(raw)


def number_of(item: bytes) -> int:
    """Return a witness item as Script reads it: 0x80 is zero, 0500 is five. Raises InvalidInputError over 4 bytes."""
    if len(item) > MAX_NUMBER_SIZE:
        raise InvalidInputError("number", f"{len(item)} bytes", f"at most {MAX_NUMBER_SIZE}")
    value = int.from_bytes(item, "little")
    sign = 1 << 8 * len(item) - 1 if item else 0
    return -(value - sign) if value & sign else value


def witness_of(words: Sequence[Sequence[Signed]]) -> list[bytes]:
    """Return the items of words, each signed by one or more, bottom first: a script takes the first word's first.

    A digit stands once, over the links of all who signed it. Raises InvalidInputError where two signed different ones.
    """
    taken: list[bytes] = []
    for signatures in words:
        for digits in zip(*signatures, strict=True):
            if len({one.digit for one in digits}) > 1:
                raise InvalidInputError("signatures", "of different values", "of one")
            taken += [digits[0].item, *[one.link for one in digits]]
    return taken[::-1]


def read_words(items: Sequence[bytes], words: Sequence[Sequence[Word]]) -> list[tuple[Signed, ...]]:
    """Return the signatures that ``witness_of`` laid out, digits clamped as Script clamps them.

    Raises InvalidInputError for another number of items, a negative digit or one over 4 bytes: Script takes none.
    """
    if len(items) != len(items_of(words)):
        raise InvalidInputError("witness", f"{len(items)} items", "a digit and its links for each chain")
    rest = list(items)
    found = []
    for signers in words:
        rows: list[list[SignedDigit]] = [[] for _ in signers]
        for _ in signers[0].ends:
            digit = min(TOP, number_of(rest.pop()))
            if digit < 0:
                raise InvalidInputError("digit", str(digit), f"0 to {TOP}")
            for row in rows:
                row.append(SignedDigit(digit=digit, link=rest.pop(), item=number_item(digit)))
        found.append(tuple(map(tuple, rows)))
    return found


# ---- in Script


def items_of(words: Sequence[Sequence[Word]]) -> list[None]:
    """Return what the witness has for words, for an emitter to begin with."""
    return [None] * sum((1 + len(signers)) * len(signers[0].ends) for signers in words)


def emit_digits(emitter: Emitter, signers: Sequence[Word], *, sized: int = 0) -> None:
    """Check each digit's links against the chains' ends, and put the digits on the alt stack, the least first.

    signers: one word's keys: all must have signed the same. A digit over 7 counts as 7, a negative one fails in PICK.
    sized: of so many signers, the first ones, links must have 20 bytes. Who makes a chain can begin it with any bytes,
    and what shows them again would be relayed by nobody if they were over 80.
    """
    for ends in zip(*[one.ends for one in signers], strict=True):
        emitter.number(TOP).op(Opcode.MIN, Opcode.TO_ALT)
        for place, end in enumerate(ends):
            if place < sized:
                emitter.op(Opcode.SIZE).number(LINK_SIZE).op(Opcode.NUMEQUALVERIFY)
            emitter.op(*[Opcode.DUP, Opcode.HASH160] * TOP, Opcode.FROM_ALT, Opcode.DUP, Opcode.TO_ALT, Opcode.PICK)
            emitter.data(end).op(Opcode.EQUALVERIFY, *[Opcode.DROP2] * (BASE // 2))


def emit_checksum(emitter: Emitter, word: Word) -> None:
    """Take a word's digits off the alt stack and check that they and the checksum's make 7n.

    **All digits count, the checksum's too**: a word whose checksum were not checked where it is shown could be shown
    with a signature that no leaf takes, and its lie could not be proved.
    """
    emitter.op(Opcode.FROM_ALT).doubled(DIGIT_BITS).op(Opcode.FROM_ALT, Opcode.ADD)
    emitter.op(*[Opcode.FROM_ALT, Opcode.ADD] * word.digits).number(TOP * word.digits).op(Opcode.NUMEQUALVERIFY)


def emit_value(emitter: Emitter, word: Word, name: Hashable) -> None:
    """As ``emit_checksum``, and leave the word's value, named."""
    op = emitter.op
    op(Opcode.FROM_ALT).doubled(DIGIT_BITS).op(Opcode.FROM_ALT, Opcode.ADD)
    op(Opcode.FROM_ALT, Opcode.TUCK, Opcode.ADD, Opcode.SWAP)
    for _ in range(word.digits - 1):
        emitter.doubled(DIGIT_BITS)
        op(Opcode.FROM_ALT, Opcode.TUCK, Opcode.ADD, Opcode.ROT, Opcode.ROT, Opcode.ADD, Opcode.SWAP)
    op(Opcode.SWAP).number(TOP * word.digits).op(Opcode.NUMEQUALVERIFY)
    emitter.named(name)
