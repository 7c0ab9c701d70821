"""``btcfi flower``: Celery's own dashboard, behind a login."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from btcfi.errors import InvalidInputError
from settings.deployment import load_deployment
from workers.app import create_app
from workers.systems import FLOWER, modules_of

FLOWER_BASIC_AUTH: Final = "FLOWER_BASIC_AUTH"
"""Where Flower's user:password comes from: the environment, since anybody on the machine can read an argv."""

FLOWER_CONFIG: Final = Path(__file__).resolve().parents[2] / "dashboards" / "flower_config.py"


def _close_metrics() -> None:
    """Have Flower's metrics want the login that its pages want; Prometheus takes ours, of `btcfi metrics`."""
    from flower.views.monitor import Metrics  # noqa: PLC0415 - Flower, in its own process alone
    from tornado.web import authenticated  # noqa: PLC0415 - as above

    Metrics.get = authenticated(Metrics.get)


def flower() -> None:
    """Run Flower, the view of the queues, with the login of FLOWER_BASIC_AUTH or of the deployment."""
    deployment = load_deployment()
    if FLOWER_BASIC_AUTH not in os.environ and deployment.flower_password is not None:
        os.environ[FLOWER_BASIC_AUTH] = f"{deployment.flower_user}:{deployment.flower_password.get_secret_value()}"
    user, _, password = os.environ.get(FLOWER_BASIC_AUTH, "").partition(":")
    if not user or not password:
        raise InvalidInputError(FLOWER_BASIC_AUTH, "no login", "user:password, in the environment")
    _close_metrics()
    # Flower reads the login from the environment itself
    where = [f"--address={deployment.listen_host}", f"--port={deployment.flower_port}"]
    # its own API applies this task, so it must know it
    create_app(deployment, modules=modules_of(FLOWER)).start(["flower", f"--conf={FLOWER_CONFIG}", *where])
