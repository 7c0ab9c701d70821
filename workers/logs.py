"""Logs: one line a record on stderr, JSON for a machine or coloured for a terminal, without a secret in it."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TextIO
from urllib.parse import unquote, urlsplit

import structlog

from btcfi.adapters.files import UntrustedFileError, open_private, writing_private
from settings.deployment import Deployment

HIDDEN: Final = "[hidden]"

SHORTEST_SECRET: Final = 6
"""Characters. A shorter password would also be found in innocent words, and hiding those hides nothing."""

MAX_LOG_BYTES: Final = 16 << 20
"""Of one log of the embedded cluster; one older one is kept beside it."""

CHATTY: Final = ("celery", "kombu", "httpx", "alembic", "urllib3", "opentelemetry")
"""Libraries whose INFO is about themselves."""


MAX_LINE: Final = 32_768
"""Characters of one record, its traceback included."""

MAX_FRAMES: Final = 40
"""Of each exception of a chain, the ones nearest to what failed: a framework's own stand before them."""

MAX_TRACEBACK: Final = 8_192
"""Characters. A log is written in the event loop of whoever serves, and nobody is served meanwhile: with the source
around each frame and the values of its names, as structlog draws it by itself, one took seconds."""

_ORDERS: Final = re.compile(
    r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
"""What a terminal obeys, colours left out; what others write may hold anything."""


def traceback_text(exc_info: structlog.typing.ExcInfo) -> str:
    """Return an exception's traceback, without values, of few frames and characters: its beginning and its end."""
    kind, error, frames = exc_info
    told = traceback.TracebackException(
        kind, error, frames, limit=-MAX_FRAMES, max_group_width=5, max_group_depth=3, compact=True
    )
    text = "".join(told.format()).rstrip("\n")
    if len(text) <= MAX_TRACEBACK:
        return text
    half = MAX_TRACEBACK // 2
    return f"{text[:half]}\n…\n{text[-half:]}"


def _write_traceback(into: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    into.write("\n" + traceback_text(exc_info))


class RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Renders a record; takes known secrets and what a terminal obeys out of the line, whoever wrote them into it."""

    hidden: tuple[str, ...] = ()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = super().format(record)
        for secret in self.hidden:
            line = line.replace(secret, HIDDEN)
        line = _ORDERS.sub("?", line)
        return line if len(line) <= MAX_LINE else line[:MAX_LINE] + "…"


def configure_logging(log_format: str, hidden: Iterable[str] = ()) -> None:
    """Send structlog's and the standard library's records to stderr, as JSON lines or for a human.

    hidden: texts that no line may contain; see ``secrets_of``.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=()),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[structlog.typing.Processor]
    if log_format == "json":
        final = [structlog.processors.ExceptionRenderer(traceback_text), structlog.processors.JSONRenderer()]
    else:
        final = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_write_traceback)]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = RedactingFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
    )
    # longest first, so that a secret which holds another is hidden whole
    formatter.hidden = tuple(sorted(set(hidden), key=len, reverse=True))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)


def secrets_of(deployment: Deployment) -> set[str]:
    """Return the passwords of a deployment, as they are written and as they are meant."""
    urls = (deployment.database_url, deployment.broker_url, deployment.result_backend_url, deployment.node_url)
    found = {secret for url in urls if url for secret in (urlsplit(url).password,) if secret}
    if deployment.flower_password is not None:
        found.add(deployment.flower_password.get_secret_value())
    return {text for secret in found for text in (secret, unquote(secret)) if len(text) >= SHORTEST_SECRET}


def bound_log(file: Path, limit: int = MAX_LOG_BYTES) -> bool:
    """Move what a log holds to ``NAME.log.1`` once it is longer than ``limit`` bytes; return whether it was.

    The writer goes on undisturbed, since it appends; a line written between the copy and the cut is lost.
    """
    with contextlib.suppress(OSError, UntrustedFileError):
        if file.stat().st_size <= limit:
            return False
        with open_private(file) as log:
            with writing_private(file.with_name(file.name + ".1")) as before:
                shutil.copyfileobj(log, before)
            log.truncate(0)
        return True
    return False
