"""``btcfi beat``: Celery's clock, in this process."""

from __future__ import annotations

from settings.deployment import load_deployment
from workers.app import create_app


def beat() -> None:
    """Run the clock that schedules every round; a second one is harmless."""
    # no pid file: nothing of ours stays behind
    create_app(load_deployment(), modules=()).start(["beat", "--loglevel=WARNING", "--pidfile="])
