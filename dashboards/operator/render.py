"""The console's templates, and where its files lie; what they may say is the same on every page of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from jinja2 import Environment

from dashboards.shared import render
from dashboards.shared.render import (
    NONE,
    STATES,
    ago,
    btc,
    iso,
    kind_label,
    path_segment,
    percent,
    said,
    short,
    signed,
    state_tag,
    thousands,
    time_tag,
    usd,
    with_query,
)

HERE: Final = Path(__file__).parent


def environment() -> Environment:
    """Return the console's templates with their filters."""
    return render.environment(HERE)


__all__ = [
    "HERE", "NONE", "STATES", "ago", "btc", "environment", "iso", "kind_label", "path_segment", "percent", "said",
    "short", "signed", "state_tag", "thousands", "time_tag", "usd", "with_query",
]  # fmt: skip
