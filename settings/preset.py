"""What decides an option's money: the named numbers of its preset, read from a reviewed file and hashed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from btcfi.contracts.buckets import PayoutRule, Rounding, StepRule, ToleranceRule
from btcfi.errors import InvalidInputError, NotHeldError
from btcfi.oracle.consensus import ConsensusRule, Method
from btcfi.oracle.fixing import MINUTE, Fixing, parse_fixing
from btcfi.units import BasisPoints, Sats
from settings.preset_files import PRESETS, PresetFile, every_preset_file, preset_file, preset_file_by_hash

SYSTEM: Final = "options"
"""Whose presets these are: the folder below ``presets``."""

_RANGES: Final[dict[str, dict[str, tuple[int, int]]]] = {
    "consensus": {
        "outlier_bps": (1, 9_999),
        "par_band_bps": (1, 9_999),
        "quorum_numerator": (1, 1_000),
        "quorum_denominator": (1, 1_000),
        "settle_confidence_bps": (1, 9_999),
        "least_dollar_markets": (0, 64),
        "thin_bps": (0, 9_999),
    },
    "pricing": {"rate_bps": (0, 10_000), "fallback_volatility_bps": (1, 50_000)},
    "chain": {"confirmations": (1, 1_000), "refund_delay_blocks": (1, 65_535), "fee_sats_per_vbyte": (1, 10_000)},
    "contract": {"oracles": (1, 16), "oracle_threshold": (1, 16)},
    "settlement": {"batch_size": (1, 1_024), "parallel_proof_steps": (1, 1 << 20), "max_steps": (1, 1 << 20)},
}
"""Every number of a preset and its range. 65535 blocks is BIP68's limit, 2**20 steps the proof tree's 20 levels."""


_WORDS: Final = {"consensus": ("method",), "contract": ("fixing", "tolerance_bps", "step_sats", "rounding")}
"""Fields that are no numbers, or stand in the place of one another."""

_TOLERANCES: Final = (1, 1_000)
"""Basis points: 10 % is coarse."""

_STEPS: Final = (1_000, 100_000_000)
"""Satoshis, of the presets of earlier releases."""

_LATER: Final = {"least_dollar_markets": 0, "thin_bps": 0}
"""Numbers that presets of an earlier release lack, with what that says: not asked."""

Word = TypeVar("Word", bound=Enum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The numbers that a settlement is bound to."""

    name: str
    consensus: ConsensusRule
    confirmations: int
    """Blocks on a payment, its own included, before it counts as final."""
    rate_bps: BasisPoints
    """Yearly rate of the premium, continuously compounded."""
    fallback_volatility_bps: int
    """Yearly volatility of the premium while the store holds too few prices; 10_000 is 100 %."""
    refund_delay_blocks: int
    """Blocks after expiry until the collateral can return without the oracle."""
    fee_sats_per_vbyte: int
    payouts: PayoutRule
    """How what the guest computes becomes what a contract pays: by a tolerance, in earlier presets in steps."""
    fixing: Fixing
    """What settles an option that does not name its own."""
    oracles: int
    """How many announce and attest."""
    oracle_threshold: int
    """How many of them must attest the same price."""
    batch_size: int
    """Options that one task settles."""
    parallel_proof_steps: int
    """Above so many steps a proof is built in parts."""
    max_steps: int
    """Above so many steps a run is refused."""
    sha256: str
    """Of the file's bytes, hex."""


def load_preset(name: str) -> Preset:
    """Return the preset ``settings/presets/options/NAME.toml``, by ``NAME`` or ``options/NAME``.

    Raises NotFoundError when there is none, InvalidInputError that names the wrong field.
    """
    return _parsed(preset_file(name, system=SYSTEM))


def preset_names() -> list[str]:
    """Return the presets that a deployment can choose."""
    return sorted(path.stem for path in (PRESETS / SYSTEM).glob("*.toml"))


@cache
def load_preset_by_hash(sha256: str, *, name: str = "") -> Preset:
    """Return the preset with this hash (hex), also a retired one: what an open option names is what settles it.

    name: what the row calls it. Raises NotHeldError, also for a file that this version cannot read: it waits alone.
    """
    file = preset_file_by_hash(sha256, system=SYSTEM, name=name)
    try:
        return _parsed(file)
    except InvalidInputError as e:
        raise NotHeldError("preset", sha256, name=name, hint=f"its file is here, and this version reads no {e}") from e


def rule_by_hash(sha256: str, *, ours: Preset) -> ConsensusRule:
    """Return by which rule an option's minutes are agreed and fit to settle on: its own preset's. Raises NotHeldError.

    ours: the deployment's, which need not be looked up.
    """
    return (ours if sha256 == ours.sha256 else load_preset_by_hash(sha256)).consensus


@cache
def every_rule() -> tuple[ConsensusRule, ...]:
    """Return by which rules this release may have agreed on a minute: those of every preset, retired ones too."""
    rules: dict[ConsensusRule, None] = {}
    for file in every_preset_file(system=SYSTEM):
        with suppress(InvalidInputError):  # one that this version cannot read agreed on nothing that it can repeat
            rules[_parsed(file).consensus] = None
    return tuple(rules)


def read_preset(file: Path) -> Preset:
    """Return the preset in ``file``; its name is the file's. Raises InvalidInputError that names the wrong field."""
    return _parsed(PresetFile(system=SYSTEM, name=file.stem, raw=file.read_bytes()))


def _parsed(file: PresetFile) -> Preset:
    try:
        document = tomllib.loads(file.raw.decode())
    except ValueError as e:
        raise InvalidInputError(f"preset {file.name}.toml", str(e), "TOML in UTF-8") from e
    _refuse_unknown(document, _RANGES, "")
    numbers: dict[str, int] = {}
    for section, ranges in _RANGES.items():
        table = document.get(section)
        if not isinstance(table, dict):
            raise InvalidInputError(f"preset {section}", "missing", "a table of this name")
        _refuse_unknown(table, {*ranges, *_WORDS.get(section, ())}, f"{section}.")
        for field, (low, high) in ranges.items():
            value = table.get(field, _LATER.get(field))
            numbers[field] = _whole(f"preset {section}.{field}", value, low, high)
    if numbers["parallel_proof_steps"] > numbers["max_steps"]:
        raise InvalidInputError(
            "preset settlement.parallel_proof_steps", str(numbers["parallel_proof_steps"]), "at most max_steps"
        )
    if numbers["oracle_threshold"] > numbers["oracles"]:
        raise InvalidInputError(
            "preset contract.oracle_threshold", str(numbers["oracle_threshold"]), "at most as many as oracles"
        )
    return Preset(
        name=file.name,
        consensus=ConsensusRule(
            method=_choice(Method, "consensus.method", document["consensus"].get("method")),
            outlier_bps=BasisPoints(numbers["outlier_bps"]),
            par_band_bps=BasisPoints(numbers["par_band_bps"]),
            quorum_numerator=numbers["quorum_numerator"],
            quorum_denominator=numbers["quorum_denominator"],
            settle_confidence_bps=BasisPoints(numbers["settle_confidence_bps"]),
            least_dollar_markets=numbers["least_dollar_markets"],
            thin_bps=BasisPoints(numbers["thin_bps"]),
        ),
        confirmations=numbers["confirmations"],
        rate_bps=BasisPoints(numbers["rate_bps"]),
        fallback_volatility_bps=numbers["fallback_volatility_bps"],
        refund_delay_blocks=numbers["refund_delay_blocks"],
        fee_sats_per_vbyte=numbers["fee_sats_per_vbyte"],
        payouts=_payouts(document["contract"]),
        fixing=_fixing(document["contract"].get("fixing", str(MINUTE))),
        oracles=numbers["oracles"],
        oracle_threshold=numbers["oracle_threshold"],
        batch_size=numbers["batch_size"],
        parallel_proof_steps=numbers["parallel_proof_steps"],
        max_steps=numbers["max_steps"],
        sha256=file.sha256,
    )


def _refuse_unknown(table: Mapping[str, Any], known: Mapping[str, object] | set[str], prefix: str) -> None:
    for field in table:
        if field not in known:
            raise InvalidInputError(f"preset {prefix}{field}", "unknown", f"one of {', '.join(sorted(known))}")


def _whole(field: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        problem = "missing" if value is None else repr(value)[:40]
        raise InvalidInputError(field, problem, f"a whole number from {low} to {high}")
    return value


def _payouts(table: Mapping[str, Any]) -> PayoutRule:
    """Return the rule of a preset's contracts; the form of earlier releases, a step and whom it favours, is read."""
    if "tolerance_bps" in table or "step_sats" not in table:
        for name in ("step_sats", "rounding"):
            if name in table:
                raise InvalidInputError(f"preset contract.{name}", "beside tolerance_bps", "one of the two")
        tolerance = _whole("preset contract.tolerance_bps", table.get("tolerance_bps"), *_TOLERANCES)
        return ToleranceRule(tolerance=BasisPoints(tolerance))
    step = _whole("preset contract.step_sats", table.get("step_sats"), *_STEPS)
    return StepRule(step=Sats(step), rounding=_choice(Rounding, "contract.rounding", table.get("rounding")))


def _fixing(value: object) -> Fixing:
    try:
        return parse_fixing(str(value))
    except InvalidInputError as e:
        raise InvalidInputError("preset contract.fixing", repr(value)[:40], e.expected) from e


def _choice(words: type[Word], field: str, value: object) -> Word:
    try:
        return words(str(value))
    except ValueError as e:
        expected = f"one of {', '.join(str(m.value) for m in words)}"
        raise InvalidInputError(f"preset {field}", repr(value)[:40], expected) from e
