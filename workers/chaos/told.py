"""What an operator is told of a fault, while it is on: the condition of an alert, or a line of `btcfi doctor`.

An alert has a ``for``, so that it does not fire at what is over in seconds: here its condition is looked at, on the
exporter's own figures. A test holds each metric against the expression of its rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from settings.deployment import Deployment
from workers import preconditions
from workers.exporter import Exporter
from workers.findings import Status, safely


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A rule of dashboards/prometheus/rules.yml, by its name."""

    name: str
    metric: str
    holds: Callable[[float], bool] | None = None
    """Of one of its samples; None: it rises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """A row of ``workers/preconditions.py``, by its name: `doctor` says that it does not hold."""

    row: str

    @property
    def name(self) -> str:
        """What a table calls it."""
        return f"doctor: {self.row}"


Witness = Alert | Doctor

FOREIGN: Final = Alert(name="BtcfiForeignMessages", metric="btcfi_refused_messages_total")
SKEW: Final = Alert(
    name="BtcfiClockSkew",
    metric="btcfi_clock_ahead_seconds",
    holds=lambda ahead: abs(ahead) > preconditions.SKEW_SECONDS,
)
POLICY: Final = Alert(name="BtcfiNodePolicy", metric="btcfi_node_relays", holds=lambda relays: relays == 0)
CLOCKS: Final = Doctor(row="clocks")
NODE: Final = Doctor(row="node")


class Listener:
    """Hears what is told of one deployment, from its first look on."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._exporter = Exporter(deployment)
        self._before: dict[str, float] = {}

    def remember(self) -> None:
        """Take the figures as they are without the fault."""
        self._before = {name: sum(values) for name, values in self._figures().items()}

    def hears(self, witnesses: Iterable[Witness]) -> set[str]:
        """Return the names of those that say so now."""
        wanted = list(witnesses)
        figures = self._figures() if any(isinstance(one, Alert) for one in wanted) else {}
        return {one.name for one in wanted if self._says(one, figures)}

    def _says(self, one: Witness, figures: dict[str, list[float]]) -> bool:
        if isinstance(one, Doctor):
            row = next(row for row in preconditions.TABLE if row.name == one.row)
            found = safely(row.name, lambda: row.check(self._deployment))
            return any(finding.status is Status.FAIL for finding in found)
        values = figures.get(one.metric, [])
        if one.holds is None:
            return sum(values) > self._before.get(one.metric, 0.0)
        return any(map(one.holds, values))

    def _figures(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for family in self._exporter.collect():
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.value)
        return found
