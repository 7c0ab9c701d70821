"""A request's last second: whatever a server sends, and however slowly, its connection is ended then.

A socket's own timeout starts anew with every byte, so that a server which sends one byte now and then holds its
reader for days: in the headers, in a chunk's length, in the name inside a gzip header. Ending the connection ends all
of them alike.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests

_mine = threading.local()


class Watch:
    """One request's end."""

    def __init__(self) -> None:
        self.over = False
        """Whether its time was over before it was done."""
        self._lock = threading.Lock()
        self._socket: Any = None

    def see(self, connected: Any) -> None:  # noqa: ANN401 - a socket, or TLS around one
        """Take the connection that the answer comes by."""
        with self._lock:
            self._socket = connected
            if self.over:
                _end(connected)

    def end(self) -> None:
        """End the connection; who reads from it finds it closed."""
        with self._lock:
            self.over = True
            _end(self._socket)


def _end(connected: Any) -> None:  # noqa: ANN401
    if isinstance(connected, socket.socket):
        with suppress(OSError):
            # the plain socket's: that of TLS would take the session from under its reader
            socket.socket.shutdown(connected, socket.SHUT_RDWR)


@contextmanager
def watching(seconds: float) -> Iterator[None]:
    """Watch this thread's request for ``seconds``. Raises requests' ReadTimeout instead of what came of its end."""
    from requests.exceptions import ReadTimeout  # noqa: PLC0415 - half a second that only fetching should pay

    watch = Watch()
    timer = threading.Timer(seconds, watch.end)
    timer.daemon = True
    timer.start()
    _mine.watch = watch
    try:
        yield
    except Exception as e:
        if watch.over:
            raise ReadTimeout(f"not done after {seconds} s") from e
        raise
    finally:
        _mine.watch = None
        timer.cancel()
    if watch.over:  # what came until then reads like an answer that ended
        raise ReadTimeout(f"not done after {seconds} s")


def watch_connections(session: requests.Session) -> None:
    """Have ``session`` show its connections to whoever is ``watching``."""
    from requests.adapters import HTTPAdapter  # noqa: PLC0415 - half a second that only fetching should pay
    from urllib3.connection import HTTPConnection, HTTPSConnection  # noqa: PLC0415
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool  # noqa: PLC0415

    class Plain(HTTPConnection):
        def getresponse(self) -> Any:  # noqa: ANN401 - as it comes
            _see(self.sock)
            return super().getresponse()

    class Secret(HTTPSConnection):
        def getresponse(self) -> Any:  # noqa: ANN401
            _see(self.sock)
            return super().getresponse()

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecretPool(HTTPSConnectionPool):
        ConnectionCls = Secret

    for scheme in ("http", "https"):
        adapter = HTTPAdapter()
        adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecretPool}
        session.mount(f"{scheme}://", adapter)


def _see(connected: Any) -> None:  # noqa: ANN401
    watch: Watch | None = getattr(_mine, "watch", None)
    if watch is not None:
        watch.see(connected)
