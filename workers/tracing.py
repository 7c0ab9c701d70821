"""Traces, for who wants them: OpenTelemetry across beat, fetch, chord, settlement and chain.

Off unless the standard variable OTEL_EXPORTER_OTLP_ENDPOINT is set; needs the extra ``btcfi-oracle-vm[otel]``. A task's
span is the child of the span that published it. What the outbox published later, from another process, is a child of
that process's span: the outbox keeps what must happen, not who wanted it, and the store's event rows have the rest.
"""

from __future__ import annotations

import os
from typing import Final

import structlog

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"

SERVICE: Final = "btcfi"

log = structlog.get_logger()

_started: set[int] = set()


def start() -> bool:
    """Start tracing in this process if its environment asks for it, once; return whether it runs."""
    if not os.environ.get(ENDPOINT):
        return False
    if os.getpid() in _started:
        return True
    try:
        from opentelemetry import trace  # noqa: PLC0415 - an extra that most deployments do without
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.instrumentation.celery import CeleryInstrumentor  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as e:
        log.warning("no traces", missing=e.name, hint="pip install 'btcfi-oracle-vm[otel]', or unset " + ENDPOINT)
        return False
    name = os.environ.get("OTEL_SERVICE_NAME", SERVICE)
    provider = TracerProvider(resource=Resource.create({"service.name": name, "process.pid": os.getpid()}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument(tracer_provider=provider)  # type: ignore[no-untyped-call]
    _started.add(os.getpid())
    return True
