"""One POST to an address that a stranger named: the address is checked first, and the very one checked is spoken to.

No redirect is followed, no proxy asked, no answer's body read; however the other side drips, it is over in its time.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Final, TypeAlias

import h11

from btcfi.market.webhook import Endpoint, HookRule

CONNECT_SECONDS: Final = 5.0
"""For the lookup, the connection and TLS together."""

ANSWER_SECONDS: Final = 5.0
"""For the request and the answer's head."""

MAX_HEAD_BYTES: Final = 16 << 10
"""Of an answer: its status and headers. Its body is not read."""

MOST_LOOKUPS: Final = 64
"""Of names, under way at once: the system's resolver waits as long as it likes, and cannot be told to stop."""

MOST_ADDRESSES: Final = 3
"""Of a host, that are tried one after another."""

Resolve: TypeAlias = Callable[[str, int], Sequence[str]]
"""Looks up a host's addresses; may wait. Raises OSError."""

_CHUNK: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one attempt."""

    status: int | None
    """The answer's; None: there was none."""
    problem: str | None
    """In words of ours, None where it was taken: nothing that the other side says is repeated."""

    ours: bool = False
    """Whether it is for want of something here: nobody's failure."""

    @property
    def taken(self) -> bool:
        """Whether the other side has it."""
        return self.problem is None


class _NotSentError(Exception):
    """Why nothing was sent."""

    def __init__(self, problem: str, *, ours: bool = False) -> None:
        super().__init__(problem)
        self.ours = ours


def look_up(host: str, port: int) -> Sequence[str]:
    """Return a host's addresses as this machine resolves them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """How messages are sent from here."""

    rule: HookRule
    resolve: Resolve = look_up
    trust: Callable[[], ssl.SSLContext] = _trust
    """Whose certificates are believed."""
    lookups: threading.Semaphore = field(default_factory=lambda: threading.BoundedSemaphore(MOST_LOOKUPS))
    connect_seconds: float = CONNECT_SECONDS
    answer_seconds: float = ANSWER_SECONDS

    async def send(self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Send one message, and return what became of it; raises nothing."""
        try:
            async with asyncio.timeout(self.connect_seconds):
                reader, writer = await self._connected(endpoint)
        except _NotSentError as e:
            return Outcome(status=None, problem=str(e), ours=e.ours)
        except TimeoutError:
            return Outcome(status=None, problem=f"no connection within {self.connect_seconds:g} s")
        try:
            async with asyncio.timeout(self.answer_seconds):
                status = await _asked(reader, writer, endpoint, headers, body)
        except TimeoutError:
            return Outcome(status=None, problem=f"no answer within {self.answer_seconds:g} s")
        except (OSError, EOFError, h11.ProtocolError) as e:
            return Outcome(status=None, problem=f"no answer: {_kind(e)}")
        finally:
            writer.transport.abort()
        return Outcome(status=status, problem=_problem(status))

    async def _connected(self, endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to an address that was checked, by that address. Raises _NotSentError."""
        problem = "its name has no address"
        for address in (await self._addresses(endpoint))[:MOST_ADDRESSES]:
            tls, name = (self.trust(), endpoint.host) if endpoint.scheme == "https" else (None, None)
            try:
                return await asyncio.open_connection(
                    address, endpoint.port, limit=MAX_HEAD_BYTES, ssl=tls, server_hostname=name
                )
            except ssl.SSLCertVerificationError:
                problem = "its certificate is not one of its name that we trust"
            except (OSError, EOFError) as e:
                problem = f"no connection: {_kind(e)}"
        raise _NotSentError(problem)

    async def _addresses(self, endpoint: Endpoint) -> Sequence[str]:
        """Return a host's addresses, each of which may be spoken to. Raises _NotSentError."""
        try:
            found = await _in_thread(lambda: self.resolve(endpoint.host, endpoint.port), self.lookups)
        except OSError as e:
            raise _NotSentError("its name has no address") from e
        # one bad one among good ones is no accident
        if not all(self.rule.allows(one, endpoint) for one in found):
            raise _NotSentError("its name leads to an address that is not public")
        return found


async def _in_thread(look: Callable[[], Sequence[str]], places: threading.Semaphore) -> Sequence[str]:
    """Return what a lookup returns; who waits may give up, and the thread is left to itself. Raises as ``look``.

    No executor: an event loop waits for those of its own before it ends.
    """
    if not places.acquire(blocking=False):
        raise _NotSentError("too many names are being looked up here", ours=True)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Sequence[str]] = loop.create_future()

    def tell(found: Sequence[str] | Exception) -> None:
        if done.cancelled():
            return
        if isinstance(found, Exception):
            done.set_exception(found)
        else:
            done.set_result(found)

    def work() -> None:
        try:
            found: Sequence[str] | Exception = look()
        except OSError as e:
            found = e
        except Exception as e:  # noqa: BLE001 - a name that no codec knows: as good as unknown
            found = OSError(type(e).__name__)
        finally:
            places.release()
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=work, name="webhook-lookup", daemon=True).start()
    return await done


async def _asked(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, endpoint: Endpoint, headers: Mapping[str, str],
    body: bytes,
) -> int:  # fmt: skip
    """Return the status of the answer. Raises OSError, EOFError, h11.ProtocolError."""
    state = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    whole = {"Host": endpoint.authority, "Content-Length": str(len(body)), "Connection": "close", **headers}
    request = h11.Request(method="POST", target=endpoint.target, headers=list(whole.items()))
    for part in (request, h11.Data(data=body), h11.EndOfMessage()):
        writer.write(state.send(part) or b"")
    await writer.drain()
    left = MAX_HEAD_BYTES  # of all heads together: of those that say "wait" there may be many
    while True:
        event = state.next_event()
        if event is h11.NEED_DATA:
            if left <= 0:
                raise h11.RemoteProtocolError("heads without an end")
            received = await reader.read(min(_CHUNK, left))
            left -= len(received)
            state.receive_data(received)
        elif isinstance(event, h11.Response):
            return int(event.status_code)
        elif not isinstance(event, h11.InformationalResponse):
            raise EOFError


def _problem(status: int) -> str | None:
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP
        return None
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP
        return f"status {status}: no redirect is followed"
    return f"status {status}"


def _kind(e: Exception) -> str:
    """Return what happened to a connection, in a few words of ours."""
    if isinstance(e, ConnectionRefusedError):
        return "refused"
    if isinstance(e, ssl.SSLError):
        return "TLS failed"
    if isinstance(e, h11.ProtocolError):
        return "it is no HTTP"
    return "it was closed" if isinstance(e, EOFError | ConnectionError) else "the network has no way there"
