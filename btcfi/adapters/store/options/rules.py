"""What decides an option's money, as its row names it: a preset and a guest program, by their hashes.

Whoever settles is given a way to find them (``RuleOf``) and never one rule for all: options of several presets are open
at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.errors import BtcfiError, NotHeldError
from btcfi.oracle.consensus import ConsensusRule

RuleOf: TypeAlias = Callable[[str], ConsensusRule]
"""The rule of the preset with this SHA-256 (hex). Raises NotHeldError when there is none here."""


class ChangedRowError(NotHeldError):
    """An option's row names another event than its contract: what decides its money was changed after it was sold.

    Nothing is settled, exercised, proven or sent by such a row; it waits, with this text beside it, until it is put
    back. The two parties settle by the contract, which no row changes.
    """

    def __init__(self, option_id: str, *, preset: str, program: str, event: str, contract: str) -> None:
        BtcfiError.__init__(
            self,
            f"the row of option {option_id!r} names preset {preset[:16]} and program {program[:16]}, which make event "
            f"{event[:16]}; its contract was made for event {contract[:16]}, and what that names {self.MARK}: the row "
            "was changed after the sale; put it back (`btcfi audit` names every such row)",
        )
        self.kind, self.sha256, self.name = "row", event, option_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What one option is bound to."""

    preset: str
    preset_sha256: str
    program: str
    program_sha256: str
    changed: ChangedRowError | None = field(default=None, compare=False)
    """That the row does not name what its contract does: then nothing is run by it."""

    @classmethod
    def of(cls, row: OptionRow, changed: ChangedRowError | None = None) -> Bound:
        """Return what a row names."""
        return cls(
            preset=row.preset, preset_sha256=row.preset_sha256, program=row.program, program_sha256=row.program_sha256,
            changed=changed,
        )  # fmt: skip


def note_waiting(row: OptionRow | SettlementRow, reason: str | None) -> None:
    """Keep which hash is missing where people look, or forget it once it is there; other notes are left alone."""
    if reason is not None or NotHeldError.MARK in (row.last_error or ""):
        row.last_error = reason
