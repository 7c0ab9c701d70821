"""Flower's configuration file: columns that an operator reads, minutes as times instead of unix seconds.

Flower executes it (``flower --conf``); its names are Flower's options. Arguments are ids, feeds and minutes, never
secrets, so they are shown whole.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

natural_time = False
tasks_columns = "name,args,state,received,started,runtime,worker,retries,uuid,exception"
max_tasks = 20_000
inspect_timeout = 3_000.0

_MINUTE = re.compile(r"\b\d{10}\b")


def _iso(found: re.Match[str]) -> str:
    seconds = int(found.group())
    return found.group() if seconds % 60 else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")


def format_task(task: Any) -> Any:  # noqa: ANN401 - Flower's own class
    """Return the task as the page shows it."""
    task.args = _MINUTE.sub(_iso, task.args or "()")
    return task
