"""Reading what somebody has signed: one object, its fields and no others, and the signature.

A field that nobody knows is refused, unlike elsewhere (``btcfi.records``): it would stand beside a signature that says
nothing of it, and the same signed thing would have many texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from btcfi.errors import InvalidInputError
from btcfi.records import Rule, hexadecimal, record, whole

T = TypeVar("T")

MAX_NUMBER: Final = (1 << 53) - 1
"""Largest integer of a signed text: every JSON reader keeps it whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    type: str
    version: int
    signature: bytes


_HEAD: Final = record(_Head, version=whole(0, MAX_NUMBER), signature=hexadecimal(64))
_NAMES: Final = frozenset({"type", "version", "signature"})


def read_signed(rule: Rule[T], message: object, *, kind: str, version: int) -> tuple[T, bytes]:
    """Return what a signed text says, and its signature, unchecked. rule: of everything but the head, and ``exact``.

    Raises InvalidInputError naming the field.
    """
    head = _HEAD.read(message, kind)
    if head.type != kind:
        raise InvalidInputError(f"{kind}.type", repr(head.type)[:40], repr(kind))
    if head.version != version:
        raise InvalidInputError(f"{kind}.version", str(head.version), f"{version}: a later release wrote this")
    fields = {name: value for name, value in message.items() if name not in _NAMES} if isinstance(message, dict) else {}
    return rule.read(fields, kind), head.signature
