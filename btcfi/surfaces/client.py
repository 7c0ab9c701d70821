"""A typed client of the REST API, blocking and asynchronous.

>>> with Client("http://127.0.0.1:8000", key="btcfi_...") as btcfi:      # doctest: +SKIP
...     quote = btcfi.premium(type="call", strike=Decimal(70000), expiry="2027-01-01T08:00:00Z")

Both clients have the same methods; those of ``AsyncClient`` are awaited. Answers are frozen records; a refusal is an
``ApiError`` with the problem's fields, a server that does not answer an ``ApiUnreachableError``. Only requests that may
safely be repeated are: reads, and creations, which carry an Idempotency-Key.
"""

# ruff: noqa: A002 - `type` is the published name of the field

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Generic, Literal, Self, TypeVar
from urllib.parse import quote

import httpx

from btcfi.errors import BtcfiError, UnreachableError

OptionType = Literal["call", "put", "binary_call", "binary_put"]
Depth = Literal["execute", "sample", "paths"]
T = TypeVar("T")

ATTEMPTS: Final = 3
"""Of a request that the server did not answer, or asked to be made again later."""

LONGEST_WAIT_SECONDS: Final = 10.0
"""A Retry-After beyond this is the caller's to decide about."""

CONFLICT: Final = 409
OK: Final = 200
AGAIN: Final = frozenset({CONFLICT, 429, 503})


class ApiError(BtcfiError):
    """The API refused a request, and says why."""

    def __init__(self, problem: Mapping[str, Any], *, status: int) -> None:
        super().__init__(f"the API answered {status}: {problem.get('detail', 'nothing')}")
        self.status = status
        self.type = str(problem.get("type", ""))
        self.detail = str(problem.get("detail", ""))
        self.field = problem.get("field")
        self.expected = problem.get("expected")


class ApiUnreachableError(UnreachableError):
    """The API does not answer."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__("API", where, problem, "check the URL and that `btcfi up` or `btcfi serve` runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class PremiumQuote:
    """A premium now, per BTC of quantity."""

    premium_btc: float
    delta: float
    gamma: float
    theta: float
    vega: float
    rho: float
    premium_cents: int
    spot_cents: int
    volatility: float
    priced_at_unix: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """The last agreed price and its volatility."""

    spot_price: float
    volatility_30d: float
    last_update: str
    spot_cents: int
    slot_unix: int
    samples: int


PRICES: Final = "/api/v1/prices/stream"
PREMIUMS: Final = "/api/v1/premiums/stream"
SETTLEMENTS: Final = "/api/v1/settlements/stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedOption:
    """An option that was just created."""

    option_id: str
    premium: float
    taproot_address: str | None
    """None until both parties' keys are known; the option has it then."""
    premium_cents: int
    premium_sats: int
    collateral_sats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option as it stands."""

    id: str
    state: str
    type: str
    strike_cents: int
    quantity_centi_btc: int
    barrier_cents: int | None
    american: bool
    expiry_unix: int
    premium_cents: int
    premium_sats: int
    collateral_sats: int
    taproot_address: str | None
    funding_txid: str | None
    created_at_unix: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A settlement as it stands."""

    id: str
    option_id: str
    state: str
    reason: str
    slot_unix: int
    price_cents: int
    payout_cents: int | None
    payout_sats: int | None
    steps: int | None
    proof_root: str | None
    txid: str | None
    attempts: int
    last_error: str | None
    updated_at_unix: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementRequested:
    """An ad hoc settlement that was asked for."""

    option_id: str
    state: str
    answer: str | None
    requested_at_unix: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One agreed minute."""

    slot_unix: int
    price_cents: int
    low_cents: int | None
    high_cents: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPremium:
    """An open option's newest premium: cents for the whole quantity, Greeks per BTC."""

    option_id: str
    slot_unix: int
    premium_cents: int
    delta: float
    gamma: float
    vega: float
    theta: float
    rho: float
    priced_at_unix: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One edge that a settlement crossed."""

    id: int
    entity: str
    entity_id: str
    from_state: str
    to_state: str
    at_unix: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BookRisk:
    """The writer's book."""

    options: int
    spot_cents: int
    volatility: float
    value_cents: int
    delta_btc: float
    gamma_btc: float
    vega: float
    theta: float
    rho: float
    required_margin_cents: int
    collateral_cents: int
    liability_cents: int
    utilisation: float | None
    spot_moves: tuple[float, ...]
    volatility_moves: tuple[float, ...]
    profit_cents: tuple[list[int], ...]
    """By volatility move, then spot move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What the API's verifier says of a proof."""

    valid: bool
    depth: str
    proof_root: str | None
    program: str | None
    steps: int | None
    output_hex: str | None
    checks: tuple[str, ...]
    failed_check: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether the API can do its work."""

    status: str
    database: str
    last_price_age_seconds: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Some rows, newest first."""

    items: tuple[T, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call(Generic[T]):
    """One request and how to read its answer: what the two clients share."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    query: Mapping[str, str] | None = None
    body: bytes | None = None
    headers: Mapping[str, str] | None = None
    good: tuple[int, ...] = (200, 201, 202)


def _record(kind: type[T]) -> Callable[[httpx.Response], T]:
    return lambda response: _made(kind, response.json())


def _page(kind: type[T]) -> Callable[[httpx.Response], Page[T]]:
    def read(response: httpx.Response) -> Page[T]:
        body = response.json()
        return Page(items=tuple(_made(kind, one) for one in body["items"]), next_cursor=body["next_cursor"])

    return read


def _made(kind: type[T], body: Mapping[str, Any]) -> T:
    """Return the record of an answer; fields that this release does not know are left out."""
    names = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind(**{name: tuple(body[name]) if isinstance(body[name], list) else body[name] for name in names})


def _query(**given: object) -> dict[str, str]:
    said = {name: value for name, value in given.items() if value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in said.items()}


def _premium(
    *, type: OptionType, strike: Decimal, expiry: str, barrier: Decimal | None = None, american: bool = False
) -> _Call[PremiumQuote]:  # fmt: skip
    asked = _query(type=type, strike=strike, expiry=expiry, barrier=barrier, american=american)
    return _Call(method="GET", path="/api/v1/premium", query=asked, read=_record(PremiumQuote))


def _create(
    *, type: OptionType, strike: Decimal, expiry_unix: int, quantity: Decimal, barrier: Decimal | None = None,
    american: bool = False, idempotency_key: str | None = None,
) -> _Call[CreatedOption]:  # fmt: skip
    body: dict[str, Any] = {"type": type, "strike": str(strike), "expiry": expiry_unix, "quantity": str(quantity)}
    body |= {"american": american} | ({"barrier": str(barrier)} if barrier is not None else {})
    return _Call(
        method="POST",
        path="/api/v1/options",
        body=json.dumps(body).encode(),
        # a key of our own makes the retries below safe; the caller's makes its own retries safe too
        headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
        read=_record(CreatedOption),
    )


def _verify(proof: bytes, *, depth: Depth = "execute") -> _Call[Check]:
    return _Call(
        method="POST", path="/api/v1/proofs/verify", query={"depth": depth}, body=proof, read=_record(Check)
    )  # fmt: skip


def _options(
    *, state: str | None = None, type: OptionType | None = None, limit: int = 100, cursor: str | None = None
) -> _Call[Page[Option]]:  # fmt: skip
    asked = _query(state=state, type=type, limit=limit, cursor=cursor)
    return _Call(method="GET", path="/api/v1/options", query=asked, read=_page(Option))


def _settlements(
    *, state: str | None = None, option_id: str | None = None, limit: int = 100, cursor: str | None = None
) -> _Call[Page[Settlement]]:
    asked = _query(state=state, option_id=option_id, limit=limit, cursor=cursor)
    return _Call(method="GET", path="/api/v1/settlements", query=asked, read=_page(Settlement))


def _prices(
    *, start: int | None = None, end: int | None = None, limit: int = 100, cursor: str | None = None
) -> _Call[Page[Price]]:  # fmt: skip
    asked = _query(start=start, end=end, limit=limit, cursor=cursor)
    return _Call(method="GET", path="/api/v1/prices", query=asked, read=_page(Price))


def _health() -> _Call[Health]:
    return _Call(method="GET", path="/api/v1/health", read=_record(Health), good=(200, 503))


class _Base:
    """What the two clients know: where, as whom, and what an answer means."""

    def __init__(self, url: str, *, key: str | None = None, timeout_seconds: float = 30.0) -> None:
        """``url``: of the server, without /api. ``key``: an API key, or None for what anonymous callers may do."""
        self.url = url.rstrip("/")
        self._timeout = timeout_seconds
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def _parts(self, call: _Call[Any]) -> dict[str, Any]:
        headers = dict(call.headers or {})
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        return {"method": call.method, "url": call.path, "params": call.query, "content": call.body, "headers": headers}

    def _wait(self, call: _Call[Any], response: httpx.Response, attempt: int) -> float | None:
        """Return None when the answer is good, else how many seconds to wait before trying again. Raises ApiError."""
        if response.status_code in call.good:
            return None
        wait = float(response.headers.get("Retry-After", "1")) if response.status_code in AGAIN else math.inf
        mismatch = response.status_code == CONFLICT and "mismatch" in response.text
        if mismatch or attempt + 1 >= ATTEMPTS or wait > LONGEST_WAIT_SECONDS:
            raise refusal(response)
        return wait


def refusal(response: httpx.Response) -> ApiError:
    """Return the error of an answer that is not a success."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    return ApiError(problem if isinstance(problem, dict) else {}, status=response.status_code)


def _segment(text: str) -> str:
    """Return ``text`` as one segment of a path."""
    return quote(text, safe="")


class Client(_Base):
    """The blocking client. Not shared between threads."""

    def __init__(self, url: str, *, key: str | None = None, timeout_seconds: float = 30.0) -> None:
        """See ``_Base``."""
        super().__init__(url, key=key, timeout_seconds=timeout_seconds)
        self._http = httpx.Client(base_url=self.url, headers=self._headers, timeout=timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def premium(
        self, *, type: OptionType, strike: Decimal, expiry: str, barrier: Decimal | None = None, american: bool = False
    ) -> PremiumQuote:  # fmt: skip
        """Return what an option costs now. strike, barrier: USD per BTC. expiry: ISO 8601 with a zone, or seconds."""
        return self._do(_premium(type=type, strike=strike, expiry=expiry, barrier=barrier, american=american))

    def market(self) -> Market:
        """Return the last agreed price and the realised volatility."""
        return self._do(_Call(method="GET", path="/api/v1/market", read=_record(Market)))

    def create_option(
        self, *, type: OptionType, strike: Decimal, expiry_unix: int, quantity: Decimal, barrier: Decimal | None = None,
        american: bool = False, idempotency_key: str | None = None,
    ) -> CreatedOption:  # fmt: skip
        """Create an option. quantity: BTC, in hundredths. The same idempotency_key creates one option however often."""
        return self._do(
            _create(
                type=type,
                strike=strike,
                expiry_unix=expiry_unix,
                quantity=quantity,
                barrier=barrier,
                american=american,
                idempotency_key=idempotency_key,
            )
        )

    def option(self, option_id: str) -> Option:
        """Return one option."""
        return self._do(_Call(method="GET", path=f"/api/v1/options/{_segment(option_id)}", read=_record(Option)))

    def options(
        self, *, state: str | None = None, type: OptionType | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Option]:  # fmt: skip
        """Return one page of options."""
        return self._do(_options(state=state, type=type, limit=limit, cursor=cursor))

    def settle(self, option_id: str) -> SettlementRequested:
        """Ask for an option to be settled now."""
        return self._do(_settle(option_id))

    def settlement(self, settlement_id: str) -> Settlement:
        """Return one settlement."""
        return self._do(_settlement(settlement_id))

    def settlements(
        self, *, state: str | None = None, option_id: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Settlement]:
        """Return one page of settlements."""
        return self._do(_settlements(state=state, option_id=option_id, limit=limit, cursor=cursor))

    def proof(self, settlement_id: str) -> bytes:
        """Return a settlement's proof file, as ``btcfi verify`` takes it."""
        return self._do(_proof(settlement_id))

    def verify(self, proof: bytes, *, depth: Depth = "execute") -> Check:
        """Have the server check a proof file; ``btcfi verify`` does it without trusting the server."""
        return self._do(_verify(proof, depth=depth))

    def prices(
        self, *, start: int | None = None, end: int | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Price]:
        """Return one page of agreed minutes, newest first, from ``start`` to before ``end``."""
        return self._do(_prices(start=start, end=end, limit=limit, cursor=cursor))

    def health(self) -> Health:
        """Return whether the server can do its work."""
        return self._do(_health())

    def stored_premium(self, option_id: str) -> StoredPremium:
        """Return an open option's newest stored premium."""
        return self._do(_stored_premium(option_id))

    def risk(self) -> BookRisk:
        """Return the risk of the writer's book; needs the role operate."""
        return self._do(_risk())

    def stream_prices(self, *, after_slot: int | None = None, limit: int | None = None) -> Iterator[Price]:
        """Give each newly priced minute, until the caller stops or ``limit`` came."""
        return self._stream(Price, PRICES, after_slot, limit)

    def stream_premiums(self, *, after: str | None = None, limit: int | None = None) -> Iterator[StoredPremium]:
        """Give the premium of every open option each time that it is stored; ``after``: PRICED_AT-OPTION_ID."""
        return self._stream(StoredPremium, PREMIUMS, after, limit)

    def stream_settlements(self, *, after_event: int | None = None, limit: int | None = None) -> Iterator[Event]:
        """Give every edge that a settlement crosses, from now on or after an event."""
        return self._stream(Event, SETTLEMENTS, after_event, limit)

    def _stream(self, kind: type[T], path: str, after: int | str | None, limit: int | None) -> Iterator[T]:
        query, headers = _stream(after, limit)
        try:
            with self._http.stream(
                "GET", path, params=query, headers=headers, timeout=_patient(self._timeout)
            ) as response:
                if response.status_code != OK:
                    response.read()
                    raise refusal(response)
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        yield _made(kind, json.loads(line[6:]))
        except httpx.TransportError as e:
            raise ApiUnreachableError(self.url, str(e) or type(e).__name__) from e

    def _do(self, call: _Call[T]) -> T:
        attempt = 0
        while True:
            try:
                response = self._http.request(**self._parts(call))
            except httpx.TransportError as e:
                if attempt + 1 >= ATTEMPTS:
                    raise ApiUnreachableError(self.url, str(e) or type(e).__name__) from e
                time.sleep(0.2 * 2**attempt)
            else:
                wait = self._wait(call, response, attempt)
                if wait is None:
                    return call.read(response)
                time.sleep(wait)
            attempt += 1


class AsyncClient(_Base):
    """The asynchronous client."""

    def __init__(self, url: str, *, key: str | None = None, timeout_seconds: float = 30.0) -> None:
        """See ``_Base``."""
        super().__init__(url, key=key, timeout_seconds=timeout_seconds)
        self._http = httpx.AsyncClient(base_url=self.url, headers=self._headers, timeout=timeout_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def premium(
        self, *, type: OptionType, strike: Decimal, expiry: str, barrier: Decimal | None = None, american: bool = False
    ) -> PremiumQuote:  # fmt: skip
        """See ``Client.premium``."""
        return await self._do(_premium(type=type, strike=strike, expiry=expiry, barrier=barrier, american=american))

    async def market(self) -> Market:
        """See ``Client.market``."""
        return await self._do(_Call(method="GET", path="/api/v1/market", read=_record(Market)))

    async def create_option(
        self, *, type: OptionType, strike: Decimal, expiry_unix: int, quantity: Decimal, barrier: Decimal | None = None,
        american: bool = False, idempotency_key: str | None = None,
    ) -> CreatedOption:  # fmt: skip
        """See ``Client.create_option``."""
        return await self._do(
            _create(
                type=type,
                strike=strike,
                expiry_unix=expiry_unix,
                quantity=quantity,
                barrier=barrier,
                american=american,
                idempotency_key=idempotency_key,
            )
        )

    async def option(self, option_id: str) -> Option:
        """See ``Client.option``."""
        return await self._do(_Call(method="GET", path=f"/api/v1/options/{_segment(option_id)}", read=_record(Option)))

    async def options(
        self, *, state: str | None = None, type: OptionType | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Option]:  # fmt: skip
        """See ``Client.options``."""
        return await self._do(_options(state=state, type=type, limit=limit, cursor=cursor))

    async def settle(self, option_id: str) -> SettlementRequested:
        """See ``Client.settle``."""
        return await self._do(_settle(option_id))

    async def settlement(self, settlement_id: str) -> Settlement:
        """See ``Client.settlement``."""
        return await self._do(_settlement(settlement_id))

    async def settlements(
        self, *, state: str | None = None, option_id: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Settlement]:
        """See ``Client.settlements``."""
        return await self._do(_settlements(state=state, option_id=option_id, limit=limit, cursor=cursor))

    async def proof(self, settlement_id: str) -> bytes:
        """See ``Client.proof``."""
        return await self._do(_proof(settlement_id))

    async def verify(self, proof: bytes, *, depth: Depth = "execute") -> Check:
        """See ``Client.verify``."""
        return await self._do(_verify(proof, depth=depth))

    async def prices(
        self, *, start: int | None = None, end: int | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Price]:
        """See ``Client.prices``."""
        return await self._do(_prices(start=start, end=end, limit=limit, cursor=cursor))

    async def health(self) -> Health:
        """See ``Client.health``."""
        return await self._do(_health())

    async def stored_premium(self, option_id: str) -> StoredPremium:
        """See ``Client.stored_premium``."""
        return await self._do(_stored_premium(option_id))

    async def risk(self) -> BookRisk:
        """See ``Client.risk``."""
        return await self._do(_risk())

    def stream_prices(self, *, after_slot: int | None = None, limit: int | None = None) -> AsyncIterator[Price]:
        """See ``Client.stream_prices``."""
        return self._stream(Price, PRICES, after_slot, limit)

    def stream_premiums(self, *, after: str | None = None, limit: int | None = None) -> AsyncIterator[StoredPremium]:
        """See ``Client.stream_premiums``."""
        return self._stream(StoredPremium, PREMIUMS, after, limit)

    def stream_settlements(self, *, after_event: int | None = None, limit: int | None = None) -> AsyncIterator[Event]:
        """See ``Client.stream_settlements``."""
        return self._stream(Event, SETTLEMENTS, after_event, limit)

    async def _stream(self, kind: type[T], path: str, after: int | str | None, limit: int | None) -> AsyncIterator[T]:
        query, headers = _stream(after, limit)
        try:
            async with self._http.stream(
                "GET", path, params=query, headers=headers, timeout=_patient(self._timeout)
            ) as response:
                if response.status_code != OK:
                    await response.aread()
                    raise refusal(response)
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        yield _made(kind, json.loads(line[6:]))
        except httpx.TransportError as e:
            raise ApiUnreachableError(self.url, str(e) or type(e).__name__) from e

    async def _do(self, call: _Call[T]) -> T:
        attempt = 0
        while True:
            try:
                response = await self._http.request(**self._parts(call))
            except httpx.TransportError as e:
                if attempt + 1 >= ATTEMPTS:
                    raise ApiUnreachableError(self.url, str(e) or type(e).__name__) from e
                await asyncio.sleep(0.2 * 2**attempt)
            else:
                wait = self._wait(call, response, attempt)
                if wait is None:
                    return call.read(response)
                await asyncio.sleep(wait)
            attempt += 1


def _settle(option_id: str) -> _Call[SettlementRequested]:
    return _Call(
        method="POST", path=f"/api/v1/options/{_segment(option_id)}/settle", read=_record(SettlementRequested)
    )  # fmt: skip


def _settlement(settlement_id: str) -> _Call[Settlement]:
    return _Call(method="GET", path=f"/api/v1/settlements/{_segment(settlement_id)}", read=_record(Settlement))


def _proof(settlement_id: str) -> _Call[bytes]:
    path = f"/api/v1/settlements/{_segment(settlement_id)}/proof"
    return _Call(method="GET", path=path, read=lambda response: response.content)


def _stored_premium(option_id: str) -> _Call[StoredPremium]:
    return _Call(method="GET", path=f"/api/v1/options/{_segment(option_id)}/premium", read=_record(StoredPremium))


def _risk() -> _Call[BookRisk]:
    return _Call(method="GET", path="/api/v1/risk", read=_record(BookRisk))


def _stream(after: int | str | None, limit: int | None) -> tuple[dict[str, str], dict[str, str]]:
    return _query(limit=limit), {"Last-Event-ID": str(after)} if after is not None else {}


def _patient(timeout_seconds: float) -> httpx.Timeout:
    """Return the timeouts of a stream, which is silent for up to 15 s between its heartbeats."""
    return httpx.Timeout(timeout_seconds, read=60.0)
