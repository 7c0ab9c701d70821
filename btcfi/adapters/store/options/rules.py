"""What decides an option's money, as its row names it: a preset and a guest program, by their hashes.

Whoever settles is given a way to find them (``RuleOf``) and never one rule for all: options of several presets are open
at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.errors import NotHeldError
from btcfi.oracle.consensus import ConsensusRule

RuleOf: TypeAlias = Callable[[str], ConsensusRule]
"""The rule of the preset with this SHA-256 (hex). Raises NotHeldError when there is none here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What one option is bound to."""

    preset: str
    preset_sha256: str
    program: str
    program_sha256: str

    @classmethod
    def of(cls, row: OptionRow) -> Bound:
        """Return what a row names."""
        return cls(
            preset=row.preset, preset_sha256=row.preset_sha256, program=row.program, program_sha256=row.program_sha256
        )


def note_waiting(row: OptionRow | SettlementRow, reason: str | None) -> None:
    """Keep which hash is missing where people look, or forget it once it is there; other notes are left alone."""
    if reason is not None or NotHeldError.MARK in (row.last_error or ""):
        row.last_error = reason
