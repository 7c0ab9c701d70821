"""What an option's row names by its hash, and whether this process holds it.

A deployment's own preset and program are what is sold today (``context().preset``). What was sold is settled by what
its row names: from the committed files or the retired ones, and by nothing else. ``NotHeldError`` says which hash is
missing; whatever needs it waits with that text until the file is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from btcfi.adapters.store.options.rules import Bound
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.errors import NotHeldError
from btcfi.oracle.consensus import ConsensusRule
from settings.preset import Preset, load_preset_by_hash, rule_by_hash
from tasks.context import context, contract_rule

if TYPE_CHECKING:
    from btcfi.vm.emulator import Emulator
    from btcfi.vm.program import Program


def preset_of(sha256: str, name: str = "") -> Preset:
    """Return the preset of an option. Raises NotHeldError."""
    ours = context().preset
    return ours if ours.sha256 == sha256 else load_preset_by_hash(sha256, name=name)


def rule_of(sha256: str) -> ConsensusRule:
    """Return by which rule an option's or an event's minute is agreed and fit to settle on. Raises NotHeldError."""
    return rule_by_hash(sha256, ours=context().preset)


def rate_of(sha256: str) -> SatsPerKvb:
    """Return the fee rate of a preset's contracts. Raises NotHeldError."""
    return contract_rule(preset_of(sha256)).rate


def confirmations(bounds: Iterable[Bound]) -> int:
    """Return after how many blocks a payment is final while options with these presets are open: the most of all."""
    held = [context().preset.confirmations]
    for bound in bounds:
        try:
            held.append(preset_of(bound.preset_sha256, bound.preset).confirmations)
        except NotHeldError:
            continue  # nothing of it is settled meanwhile
    return max(held)


@cache
def program_of(sha256: str) -> Program:
    """Return the guest program of an option, its bytes checked against the manifest. Raises NotHeldError."""
    from btcfi.vm.program import load_program_by_hash  # noqa: PLC0415 - numpy; who only prices or pays runs no guest

    return load_program_by_hash(sha256)


@cache
def emulator_of(_pid: int, sha256: str) -> Emulator:
    """Return this process's reused Unicorn of a program. Raises NotHeldError."""
    from btcfi.vm.emulator import Emulator  # noqa: PLC0415 - as above

    return Emulator(program_of(sha256))


def missing(bound: Bound) -> str | None:
    """Return what this process does not hold of what an option's run needs, None when it can be run here.

    Nobody holds it where the row was changed after the sale.
    """
    if bound.changed is not None:
        return str(bound.changed)
    try:
        preset_of(bound.preset_sha256, bound.preset)
        program_of(bound.program_sha256)
    except NotHeldError as e:
        return str(e)
    return None
