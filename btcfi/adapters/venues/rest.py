"""The exchanges, through ccxt's real clients: one raw response a fetch, read exactly, never raising for the venue.

ccxt signs nothing here, needs no key, and its floats are not used: we ask through its implicit methods, keep the bytes
that came over the wire, and read those. Everything that an exchange or a network can do ends as a ``Missing``.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from btcfi.adapters.venues.one_exchange import exchange_class
from btcfi.adapters.venues.watch import watch_connections, watching
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import sha256
from btcfi.oracle.quote import AWAITED, Missing, MissingReason, Observation, VenueId
from btcfi.oracle.venues import exchange_of
from btcfi.oracle.venues.candle import Exchange, read_response
from btcfi.oracle.venues.evidence import MAX_DATE, Response, envelope, time_of_header
from btcfi.oracle.venues.recorded import iso8601
from btcfi.units import Slot, UnixSeconds

if TYPE_CHECKING:
    import requests

MAX_RESPONSE_BYTES: Final = 252 * 1024
"""No exchange's module may ask for more (``Exchange.most_bytes``): with the line above it a node's message must still
carry the answer (256 KB)."""

MINUTE_HEADER: Final = "BTCFI-Minute"
"""By which a replay is told where its clock stands, since not every exchange's request names a minute."""

RETRIED: Final = frozenset(
    {
        MissingReason.TIMEOUT,
        MissingReason.UNREACHABLE,
        MissingReason.SERVER_ERROR,
        *AWAITED,
    }
)
"""Worth asking again at once. A geo-block, a certificate error or a wrong request stays what it is, and an exchange
that finds us too many is left alone: until the time that it names, else until the next minute."""

LONGEST_WAIT: Final = 3 * 86_400
"""Seconds that we wait at most because an exchange says so: Binance's longest ban."""


LONGEST_FETCH: Final = 60
"""Seconds of a fetch after which nothing is asked again: the next minute is due."""

_OK: Final = 200

_WAIT_DIGITS: Final = 9
"""Digits of ``Retry-After`` that are read: more than the longest wait has."""


class ResponseTooLargeError(BtcfiError):
    """An exchange sent more bytes than any answer of its can have."""


class UnknownMarketNameError(BtcfiError):
    """The exchange's client names our market as no module of ours does: its answers would be evidence for nothing."""

    def __init__(self, venue: VenueId, market_id: str) -> None:
        super().__init__(f"{venue} is {market_id!r} to its client, a name that we do not know it by")
        self.venue, self.market_id = venue, market_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How often a venue is asked again for one slot, and how long to wait in between."""

    attempts: int = 3
    first_seconds: float = 0.5
    factor: float = 2.0
    most_seconds: float = 8.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InvalidInputError("attempts", str(self.attempts), "at least 1")

    def wait(self, attempt: int, jitter: float) -> float:
        """Return seconds to wait after the ``attempt``-th failure (from 0); ``jitter`` in 0..1 takes up to half off."""
        return min(self.first_seconds * self.factor**attempt, self.most_seconds) * (1 - jitter / 2)


class VenueClient:
    """One venue's client. Not for two threads at once: keep one a thread (``venue_client``).

    base_url: None for the live exchange; else every URL of ccxt becomes ``base_url/EXCHANGE/its own path``. An exchange
    that has told one client of this process to wait is not asked by another one before (``waits_until``).
    """

    def __init__(
        self,
        venue: VenueId,
        *,
        base_url: str | None = None,
        timeout: float = 5.0,
        rate_limit: bool = True,
        backoff: Backoff | None = None,
        pause: Callable[[float], None] = sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.venue = venue
        self._exchange = exchange_of(venue.exchange)
        self._base_url = base_url.rstrip("/") if base_url is not None else None
        self._timeout, self._rate_limit = timeout, rate_limit
        self._backoff = backoff or Backoff()
        self._pause, self._jitter = pause, jitter
        self._session: Any = None
        self._client: Any = None
        self._market_id: str | None = None

    def fetch(self, slot: Slot, now: UnixSeconds) -> tuple[Observation, bytes]:
        """Return what the venue says about ``slot``, and the raw response (empty where none came).

        now: the wall clock, or a replay's; a candle that has not closed by then does not count. Retries what may pass,
        ``backoff.attempts`` times at most. Never raises for what the venue or the network does.
        """
        started = monotonic()
        for attempt in range(self._backoff.attempts):
            at = UnixSeconds(now + int(monotonic() - started))
            if at < (until := self.waits_until) <= at + LONGEST_WAIT:
                return self._missing(MissingReason.ASKED_TO_WAIT, f"until {iso8601(until)}", slot, at, b""), b""
            observation, raw = self._fetch_once(slot, at)
            last = attempt + 1 == self._backoff.attempts or monotonic() - started > LONGEST_FETCH
            if not isinstance(observation, Missing) or observation.reason not in RETRIED or last:
                return observation, raw
            self._pause(self._backoff.wait(attempt, self._jitter()))
        raise AssertionError("attempts >= 1")  # pragma: no cover - Backoff's own check

    @property
    def waits_until(self) -> UnixSeconds:
        """Before when the exchange wants to hear nothing from this machine, 0 for any time.

        What lies further ahead than LONGEST_WAIT was noted while our clock was ahead, and is not obeyed.
        """
        return _waits.get((self.venue.exchange, self._base_url), UnixSeconds(0))

    def wait_until(self, until: UnixSeconds, now: UnixSeconds) -> None:
        """Ask the exchange nothing before ``until``, as another process of this machine was told."""
        held = self.waits_until
        _waits[self.venue.exchange, self._base_url] = max(until, held if held <= now + LONGEST_WAIT else until)

    def close(self) -> None:
        """Close the connections; a later fetch opens new ones."""
        if self._session is not None:
            self._session.close()
        self._client = self._session = None

    def _fetch_once(self, slot: Slot, now: UnixSeconds) -> tuple[Observation, bytes]:
        started = monotonic()
        try:
            client, market_id = self._connect()
            self._session.limit = min(self._exchange.most_bytes, MAX_RESPONSE_BYTES)
            self._session.most_seconds = 2 * self._timeout
            if self._base_url is not None:
                self._session.headers[MINUTE_HEADER] = str(slot)
            self._exchange.request(client, market_id, slot)
        except Exception as e:  # noqa: BLE001 - whatever a foreign client raises on foreign bytes is the venue's failure
            raw = self._evidence()
            # ccxt calls Kraken's warnings errors, although good rows come with them
            observation = self._read(slot, now, raw) if self._session and self._session.last_status == _OK else None
            if observation is None or isinstance(observation, Missing):
                return self._failed(e, slot, now, monotonic() - started, raw), raw
            return observation, raw
        raw = self._evidence()
        if (reason := _reason_of_status(self._session.last_status)) is not None:
            return self._refused(reason, f"HTTP {self._session.last_status}", slot, now, raw), raw
        return self._read(slot, now, raw), raw

    def _read(self, slot: Slot, now: UnixSeconds, raw: bytes) -> Observation:
        return read_response(self._exchange, raw, venue=self.venue, slot=slot, now=now, evidence=sha256(raw))

    def _evidence(self) -> bytes:
        """Return what is kept of the last answer: what was asked and when, and the bytes; nothing where none came."""
        if self._session is None or self._session.last_answer is None:
            return b""
        answer: Response = self._session.last_answer
        own = urlsplit(self._base_url).path + f"/{self._exchange.name}" if self._base_url is not None else ""
        return envelope(replace(answer, target=(answer.target or "").removeprefix(own)))

    def _connect(self) -> tuple[Any, str]:
        if self._client is None or self._market_id is None:
            self.close()
            self._session = _new_session()
            self._session.limit = self._exchange.most_market_bytes
            client = _new_client(self._exchange, self._session, self._base_url, self._timeout, self._rate_limit)
            _load_markets(client, self._exchange, self._base_url)
            market_id = client.market(self.venue.symbol)["id"]
            if market_id not in self._exchange.market_names(self.venue):
                raise UnknownMarketNameError(self.venue, market_id)
            self._market_id = market_id
            self._client = client
        return self._client, self._market_id

    def _failed(self, error: Exception, slot: Slot, now: UnixSeconds, seconds: float, raw: bytes) -> Missing:
        status = self._session.last_status if self._session is not None else None
        reason = _reason_of_status(status) or _reason_of_error(error)
        detail = f"{type(error).__name__} after {seconds:.1f} s" + (f", HTTP {status}" if status else "")
        return self._refused(reason, detail, slot, now, raw)

    def _refused(self, reason: MissingReason, detail: str, slot: Slot, now: UnixSeconds, raw: bytes) -> Missing:
        """Return the Missing of a failure; one that says how long to wait is obeyed by all clients of this process."""
        if reason is MissingReason.RATE_LIMITED and (seconds := self._told_to_wait(now)) is not None:
            self.wait_until(UnixSeconds(now + seconds), now)
            reason, detail = MissingReason.ASKED_TO_WAIT, f"{detail}, until {iso8601(self.waits_until)}"
        return self._missing(reason, detail, slot, now, raw)

    def _told_to_wait(self, now: UnixSeconds) -> int | None:
        """Return the seconds of ``Retry-After``, in either form of the standard; None without one that can be read."""
        text = self._session.last_retry_after
        if text is None:
            return None
        if text.isascii() and text.isdigit():
            return min(int(text[:_WAIT_DIGITS]), LONGEST_WAIT)
        if (until := time_of_header(text)) is None:
            return None
        answer: Response | None = self._session.last_answer
        theirs = answer.answered_at if answer is not None else None  # a date of theirs is held against their clock
        return min(max(until - (theirs or now), 0), LONGEST_WAIT)

    def _missing(self, reason: MissingReason, detail: str, slot: Slot, now: UnixSeconds, raw: bytes) -> Missing:
        return Missing(
            venue=self.venue,
            slot=slot,
            reason=reason,
            detail=detail,
            observed_at=now,
            evidence=sha256(raw) if raw else None,
        )


_waits: dict[tuple[str, str | None], UnixSeconds] = {}
"""Before when an exchange wants to hear nothing, by exchange and where it is; for all threads of the process."""

_clients = threading.local()


def venue_client(
    venue: VenueId,
    *,
    base_url: str | None = None,
    timeout: float = 5.0,
    rate_limit: bool = True,
    backoff: Backoff | None = None,
) -> VenueClient:
    """Return this thread's client for ``venue``, made at the first call: connections and markets are kept."""
    kept: dict[object, VenueClient] = _clients.__dict__.setdefault("kept", {})
    key = (venue, base_url, timeout, rate_limit, backoff)
    if key not in kept:
        kept[key] = VenueClient(venue, base_url=base_url, timeout=timeout, rate_limit=rate_limit, backoff=backoff)
    return kept[key]


@cache
def _session_class() -> type[requests.Session]:
    """Return a requests.Session that keeps the bytes, follows no redirect and stops reading at a limit.

    Made at the first call, since importing requests and ccxt costs half a second that only fetching should pay.
    """
    import requests  # noqa: PLC0415 - see the docstring
    import urllib3  # noqa: PLC0415

    class RecordingSession(requests.Session):
        """What ccxt sends its requests through."""

        last_status: int | None = None
        last_retry_after: str | None = None
        last_answer: Response | None = None
        limit: int = MAX_RESPONSE_BYTES
        most_seconds: float = 60.0

        def request(self, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - passed on as it comes
            self.last_status = self.last_retry_after = self.last_answer = None
            with watching(self.most_seconds):
                response = self._answer(*args, **kwargs)
            date = response.headers.get("Date")
            self.last_answer = Response(
                target=response.request.path_url,
                status=response.status_code,
                date=date[:MAX_DATE] if date is not None else None,
                body=response.content,
            )
            return response

        def _answer(self, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401
            response = super().request(*args, **{**kwargs, "allow_redirects": False, "stream": True})
            self.last_status, self.last_retry_after = response.status_code, response.headers.get("Retry-After")
            body = bytearray()
            while part := self._part(response):
                body += part
                if len(body) > self.limit:
                    response.close()
                    raise ResponseTooLargeError(f"more than {self.limit} bytes")
            response._content = bytes(body)  # noqa: SLF001 - what `Response.content` itself would have kept
            return response

        @staticmethod
        def _part(response: requests.Response) -> bytes:
            # read1 gives what is there; anything that waits for a full buffer lets a dripping server hold us for hours
            try:
                part: bytes = response.raw.read1(64 * 1024, decode_content=True)
            except urllib3.exceptions.ReadTimeoutError as e:
                raise requests.exceptions.ReadTimeout(e) from e
            except urllib3.exceptions.HTTPError as e:
                raise requests.exceptions.ConnectionError(e) from e
            return part

    return RecordingSession


def _new_session() -> requests.Session:
    session = _session_class()()
    watch_connections(session)
    return session


def _new_client(exchange: Exchange, session: Any, base_url: str | None, timeout: float, rate_limit: bool) -> Any:  # noqa: ANN401, FBT001 - ccxt has no types
    client = exchange_class(exchange.ccxt_id)(
        {
            "session": session,
            "timeout": int(timeout * 1000),
            "enableRateLimit": rate_limit,
            "options": dict(exchange.options),
            **({} if exchange.asks_for_coins else {"has": {"fetchCurrencies": False}}),
        }
    )
    if base_url is not None:
        client.urls["api"] = repointed(client.urls["api"], f"{base_url}/{exchange.name}", client.hostname)
    return client


def repointed(urls: Any, base: str, hostname: str | None) -> Any:  # noqa: ANN401 - nested dicts of URLs, as ccxt has them
    """Return ccxt's nested URLs with scheme and host replaced by ``base``, their paths kept."""
    if isinstance(urls, dict):
        return {key: repointed(value, base, hostname) for key, value in urls.items()}
    if not isinstance(urls, str):
        return urls
    return base + urlsplit(urls.replace("{hostname}", hostname or "host")).path.rstrip("/")


_markets: dict[tuple[str, str | None], tuple[Any, Any]] = {}
_markets_lock = threading.Lock()
_loading: dict[tuple[str, str | None], threading.Lock] = {}
"""One lock an exchange: one that sends its list for minutes keeps no other's clients waiting."""


def _load_markets(client: Any, exchange: Exchange, base_url: str | None) -> None:  # noqa: ANN401 - a ccxt client
    """Load the exchange's markets once a process, however many threads ask: Binance's are 10 MB."""
    key = (exchange.name, base_url)
    with _markets_lock:
        mine = _loading.setdefault(key, threading.Lock())
    with mine:
        if key not in _markets:
            client.load_markets()
            _markets[key] = (client.markets, client.currencies)
        else:
            client.set_markets(*_markets[key])


def _reason_of_status(status: int | None) -> MissingReason | None:
    if status is None or 200 <= status < 300:  # noqa: PLR2004 - HTTP's classes
        return None
    match status:
        case 403 | 451:
            return MissingReason.FORBIDDEN
        case 418 | 429:
            return MissingReason.RATE_LIMITED
        case _ if status < 400:  # noqa: PLR2004
            return MissingReason.REDIRECTED
        case _ if status < 500:  # noqa: PLR2004
            return MissingReason.CLIENT_ERROR
        case _:
            return MissingReason.SERVER_ERROR


def _reason_of_error(error: Exception) -> MissingReason:
    """Return what a failure without a telling HTTP status was. ccxt wraps the network's errors as their cause."""
    import requests  # noqa: PLC0415
    from ccxt.base import errors as ccxt  # noqa: PLC0415 - already loaded by whoever raised

    causes = (error, error.__cause__, error.__context__)
    table: tuple[tuple[type[Exception], MissingReason], ...] = (
        (ResponseTooLargeError, MissingReason.TOO_LARGE),
        (requests.exceptions.SSLError, MissingReason.TLS),
        (UnknownMarketNameError, MissingReason.UNKNOWN_MARKET),
        (ccxt.BadSymbol, MissingReason.UNKNOWN_MARKET),
        (ccxt.RequestTimeout, MissingReason.TIMEOUT),
        (requests.exceptions.Timeout, MissingReason.TIMEOUT),
        (ccxt.RateLimitExceeded, MissingReason.RATE_LIMITED),
        (ccxt.DDoSProtection, MissingReason.RATE_LIMITED),
        (requests.exceptions.ConnectionError, MissingReason.UNREACHABLE),
        (requests.exceptions.ChunkedEncodingError, MissingReason.UNREACHABLE),
        (ccxt.ExchangeNotAvailable, MissingReason.SERVER_ERROR),
        (ccxt.NetworkError, MissingReason.UNREACHABLE),
        (ccxt.BadResponse, MissingReason.MALFORMED),
        (ccxt.BaseError, MissingReason.VENUE_ERROR),
    )
    for kind, reason in table:
        if any(isinstance(cause, kind) for cause in causes):
            return reason
    # ccxt met a shape that it does not expect: a KeyError, an AttributeError...
    return MissingReason.MALFORMED
