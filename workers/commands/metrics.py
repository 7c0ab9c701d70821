"""``btcfi metrics``: the exporter as a process, for Prometheus to scrape."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.exposition import generate_latest

from btcfi.adapters.chain.node import PortInUseError
from settings.deployment import load_deployment
from workers.exporter import Exporter
from workers.logs import configure_logging, secrets_of
from workers.machine.attach import attached


def metrics(
    *,
    port: Annotated[int | None, typer.Option(help="Default: BTCFI_METRICS_PORT", min=0, max=65_535)] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one scrape and end")] = False,
) -> None:
    """Serve the metrics of the whole deployment; `btcfi metrics --once` prints them."""
    deployment = attached(load_deployment())
    configure_logging(deployment.log_format, secrets_of(deployment))
    exporter = Exporter(deployment)
    registry = CollectorRegistry()
    exporter.catch_up()
    registry.register(exporter)
    if once:
        typer.echo(generate_latest(registry).decode(), nl=False)
        return
    wanted = deployment.metrics_port if port is None else port
    try:
        server, thread = start_http_server(wanted, addr=deployment.listen_host, registry=registry)
    except OSError as e:
        raise PortInUseError(host=deployment.listen_host, port=wanted, variable="--port, BTCFI_METRICS_PORT") from e
    typer.echo(f"metrics on http://{deployment.listen_host}:{server.server_port}/metrics", err=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    server.shutdown()
    thread.join(5)
