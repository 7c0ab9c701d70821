"""Finds the embedded broker and node of a `btcfi up` that runs on the same data folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from settings.deployment import Deployment

CLUSTER_FILE: Final = "cluster.json"
"""Written by ``workers.machine.cluster`` while it runs, in the data folder, which only its owner can read."""

FIELDS: Final = ("broker_url", "result_backend_url", "node_url", "node_cookie_file", "oracles")
"""What an embedded part decides when it starts. No password is among them: a socket's mode and a cookie file guard."""


def attached(deployment: Deployment) -> Deployment:
    """Return the deployment with the addresses of the embedded parts that run on its data folder, if any do."""
    try:
        known: dict[str, Any] = json.loads((deployment.data_dir / CLUSTER_FILE).read_text(encoding="utf-8"))
        urls = known["urls"]
        found: dict[str, Any] = {name: urls[name] for name in FIELDS if urls.get(name) is not None}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return deployment
    if "node_cookie_file" in found:
        found["node_cookie_file"] = Path(found["node_cookie_file"])
    if "oracles" in found:
        found["oracles"] = tuple(found["oracles"])
    missing = {name: value for name, value in found.items() if not getattr(deployment, name)}
    if urls.get("replay_clock") and "replay_clock" not in deployment.model_fields_set:
        missing["replay_clock"] = True
    if urls.get("replay_until") is not None and "replay_until" not in deployment.model_fields_set:
        missing["replay_until"] = urls["replay_until"]
    return deployment.model_copy(update=missing)
