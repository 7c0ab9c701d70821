"""The oracle network's TOML: who may speak (keys), the rule, the policy; shared by aggregator and nodes.

```toml
feed = "BTC/USD"
[nodes.kraken-node]
venue = "kraken:BTC/USD"
public_key = "64 hex digits"
[consensus]              # optional, btcfi.oracle.consensus.ConsensusRule
outlier_bps = 200
[policy]                 # optional, btcfi.oracle.round_book.SubmissionPolicy
open_seconds = 15
[replay]                 # only to drive recorded minutes
start = 1767571200       # unix seconds in the recording ...
epoch = 1790000000.0     # ... when the wall clock is this
speed = 20.0
```
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from btcfi.adapters.files import UntrustedFileError, read_untrusted_text
from btcfi.adapters.oracle_network.node import SpeedClock
from btcfi.documents import parse_toml
from btcfi.errors import InvalidInputError
from btcfi.oracle.consensus import ConsensusRule, Method
from btcfi.oracle.quote import BTC_USD, Feed, parse_venue
from btcfi.oracle.round_book import NodeInfo, Registry, SubmissionPolicy

MAX_FILE_BYTES: Final = 1 << 20
"""Of a network's or a node's file: room for thousands of nodes."""


class NetworkFileError(InvalidInputError):
    """A network or node file has a wrong field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What a network file says."""

    feed: Feed
    registry: Registry
    rule: ConsensusRule
    policy: SubmissionPolicy
    replay: tuple[float, float, float] | None
    """start, epoch, speed."""

    def clock(self, wall: Callable[[], float]) -> Callable[[], float]:
        """Return the clock that the network runs on: the wall's, or the replay's."""
        if self.replay is None:
            return wall
        start, epoch, speed = self.replay
        return SpeedClock(start, epoch, speed, wall)

    @property
    def speed(self) -> float:
        """How many times faster than the wall the network's clock runs."""
        return self.replay[2] if self.replay is not None else 1.0


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file. Raises NotFoundError, or NetworkFileError with the line of a syntax error."""
    hint = "`btcfi oracle-init FOLDER` writes a set to start from"
    try:
        text = read_untrusted_text(path, at_most=MAX_FILE_BYTES, what="configuration file", hint=hint, named=True)
        return parse_toml(text, str(path))
    except (UntrustedFileError, InvalidInputError) as e:
        raise NetworkFileError(e.field, e.problem, e.expected) from e


def read_network(path: Path) -> Network:
    """Return the network of a file. Raises NotFoundError, NetworkFileError, RegistryError, ConsensusRuleError."""
    document = read_toml(path)
    registry = _registry(path, document)
    consensus = dict(_table(path, document, "consensus"))
    try:
        if "method" in consensus:
            consensus["method"] = Method(consensus["method"])
            if consensus["method"] is not Method.MEDIAN:  # as an earlier release's file says it: no bound is asked for
                consensus = {"least_dollar_markets": 0, "thin_bps": 0, **consensus}
    except ValueError as e:
        raise NetworkFileError(f"{path.name}: consensus.method", str(e), f"one of {', '.join(Method)}") from e
    replay = _table(path, document, "replay")
    return Network(
        feed=Feed(str(document.get("feed", BTC_USD))),
        registry=registry,
        rule=_filled(ConsensusRule, path, "consensus", consensus),
        policy=_filled(SubmissionPolicy, path, "policy", _table(path, document, "policy")),
        replay=_replay(path, replay) if replay else None,
    )


def read_registry(path: Path) -> tuple[Feed, Registry]:
    """Return the feed and who may speak, of a network's file. Raises NotFoundError, NetworkFileError, RegistryError."""
    document = read_toml(path)
    return Feed(str(document.get("feed", BTC_USD))), _registry(path, document)


def write_registry(feed: Feed, registry: Registry) -> str:
    """Return the text of a network's file that says who may speak; ``read_registry`` gives it back."""
    lines = [f'feed = "{feed}"']
    for name, node in sorted(registry.nodes.items()):
        lines += ["", f'[nodes."{name}"]', f'venue = "{node.venue}"', f'public_key = "{node.public_key.hex()}"']
    return "\n".join(lines) + "\n"


def _registry(path: Path, document: dict[str, Any]) -> Registry:
    known = {"feed", "nodes", "consensus", "policy", "replay"}
    if unknown := sorted(document.keys() - known):
        raise NetworkFileError(f"{path.name}: {unknown[0]}", "unknown", f"one of {', '.join(sorted(known))}")
    nodes = {}
    for node_id, entry in _table(path, document, "nodes").items():
        try:
            key = bytes.fromhex(entry["public_key"])
            nodes[node_id] = NodeInfo(node_id=node_id, venue=parse_venue(entry["venue"]), public_key=key)
        except (KeyError, TypeError, ValueError) as e:
            field = f"{path.name}: nodes.{node_id}"
            raise NetworkFileError(field, f"{type(e).__name__} {e}", "venue and public_key (64 hex digits)") from e
    return Registry(nodes=nodes)


def _replay(path: Path, table: dict[str, Any]) -> tuple[float, float, float]:
    try:
        start, epoch, speed = float(table["start"]), float(table["epoch"]), float(table.get("speed", 1))
    except (KeyError, TypeError, ValueError) as e:
        raise NetworkFileError(f"{path.name}: replay", f"{type(e).__name__} {e}", "start, epoch, speed") from e
    if not 0 < speed <= 10_000:  # noqa: PLR2004 - a minute in 6 ms is faster than any node fetches
        raise NetworkFileError(f"{path.name}: replay.speed", str(speed), "above 0, at most 10000")
    return start, epoch, speed


def _table(path: Path, document: dict[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise NetworkFileError(f"{path.name}: {name}", type(table).__name__, "a table")
    return table


def _filled(kind: Any, path: Path, section: str, table: dict[str, Any]) -> Any:  # noqa: ANN401 - one of two records
    known = {f.name: f.default for f in fields(kind)}
    for name, value in table.items():
        if name not in known:
            raise NetworkFileError(f"{path.name}: {section}.{name}", "unknown", f"one of {', '.join(known)}")
        if type(value) is not type(known[name]):
            raise NetworkFileError(f"{path.name}: {section}.{name}", repr(value), type(known[name]).__name__)
    return kind(**table)
