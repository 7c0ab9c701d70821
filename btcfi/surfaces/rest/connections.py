"""What uvicorn's HTTP/1.1 has no bound for: connections of one address, heads that never end, answers nobody reads."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from btcfi.surfaces.addresses import Network, among, who_counts

_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_LATE: Final = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Bounds on connections, before anything was said on them."""

    most: int = 800
    """Open at once, below the 1,024 files that a process usually may have."""
    each: int = 200
    """Of them of one address that is no trusted proxy."""
    head_seconds: float = 10.0
    """From a request's first byte, or the connection's beginning, to the end of its head."""
    stall_seconds: float = 30.0
    """In which a reader must take something of an answer."""


class Guarded(H11Protocol):
    """One connection. Its class is one server's: ``guarded`` makes it."""

    _limits: ClassVar[ConnectionLimits]
    _trusted: ClassVar[tuple[Network, ...]]
    _open: ClassVar[Counter[str]]
    """Connections by address, over the whole server."""

    _counted: str | None = None
    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, or turn it away."""
        peer = transport.get_extra_info("peername")
        host = str(peer[0]) if isinstance(peer, tuple) else "local"
        address = who_counts(host)
        of_one = 0 if among(host, self._trusted) else self._open[address]
        if self._open.total() >= self._limits.most or of_one >= self._limits.each:
            transport.write(_BUSY)
            transport.close()
            return
        self._open[address] += 1
        self._counted = address
        super().connection_made(transport)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        if self._counted is None:
            return
        self._open[self._counted] -= 1
        if not self._open[self._counted]:
            del self._open[self._counted]
        for timer in (self._head, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._counted is None:
            return
        super().data_received(data)
        self._watch_head()

    def _watch_head(self) -> None:
        # idle with bytes in hand is a head under way: one timer from its first byte, whatever comes meanwhile
        if self.conn.their_state is h11.IDLE:
            if self._head is None:
                self._head = self.loop.call_later(self._limits.head_seconds, self._head_is_late)
        elif self._head is not None:
            self._head.cancel()
            self._head = None

    def _head_is_late(self) -> None:
        self._head = None
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
            self.transport.write(_LATE)
            self.transport.close()

    def pause_writing(self) -> None:
        """Wait for a reader, not for ever."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self._limits.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


def guarded(limits: ConnectionLimits, *, proxies: Iterable[Network] = ()) -> type[Guarded]:
    """Return the protocol of one server's connections, which are counted together."""
    own = {"_limits": limits, "_trusted": tuple(proxies), "_open": Counter()}
    return type("Connection", (Guarded,), own)
