"""``btcfi beat``: Celery's clock, in this process."""

from __future__ import annotations

from settings.deployment import load_deployment
from workers.app import create_app
from workers.liveness import BEAT, LIFE, node_name


def beat() -> None:
    """Run the clock that schedules every round; a second one is harmless."""
    deployment = load_deployment()
    LIFE.name(deployment.data_dir, node_name(BEAT))
    LIFE.write()
    # no pid file: nothing of ours stays behind
    create_app(deployment, modules=()).start(["beat", "--loglevel=WARNING", "--pidfile="])
