"""A typed client of the REST API, blocking and asynchronous.

>>> with Client("http://127.0.0.1:8000", key="btcfi_...") as btcfi:      # doctest: +SKIP
...     quote = btcfi.premium(type="call", strike=Decimal(70000), expiry="2027-01-01T08:00:00Z")

Both clients have the same methods; those of ``AsyncClient`` are awaited. Answers are frozen records; a refusal is an
``ApiError`` with the problem's fields, a server that does not answer an ``ApiUnreachableError``. Only requests that may
safely be repeated are: reads, creations that carry an Idempotency-Key, and what is signed, which has its effect once.

With an ``Account`` instead of a key every request is signed, and the market's calls act for it:

>>> with Client("http://127.0.0.1:8000", account=Account(identity, request_secret, desk)) as btcfi:  # doctest: +SKIP
...     best = btcfi.book("BTC-25DEC26-70000-C").asks[0]
"""

# ruff: noqa: A002 - `type` is the published name of the field

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import wraps
from itertools import count
from types import TracebackType
from typing import Any, Final, Generic, Literal, ParamSpec, Self, TypeVar, overload
from urllib.parse import quote

import httpx

from btcfi.adapters.signed_http import RequestSigner
from btcfi.errors import BtcfiError, UnreachableError
from btcfi.market.account import SignedRegistration, encode_signed_registration
from btcfi.market.firm_offer import (
    SignedOffer,
    SignedTake,
    decode_signed_offer,
    encode_signed_offer,
    encode_signed_take,
)
from btcfi.market.request import SignedQuoteRequest, decode_signed_request, encode_signed_request
from btcfi.market.transfer import SignedTransferConsent, SignedTransferOffer, SignedTransferTake
from btcfi.market.transfer import decode_signed_offer as decode_signed_transfer_offer
from btcfi.market.transfer import encode_signed as encode_signed_transfer

OptionType = Literal["call", "put", "binary_call", "binary_put"]
Depth = Literal["execute", "sample", "paths"]
T = TypeVar("T")
P = ParamSpec("P")

ATTEMPTS: Final = 3
"""Of a request that the server did not answer, or asked to be made again later."""

LONGEST_WAIT_SECONDS: Final = 10.0
"""A Retry-After beyond this is the caller's to decide about."""

CONFLICT: Final = 409
OK: Final = 200
AGAIN: Final = frozenset({CONFLICT, 429, 503})
SIGNED_AGAIN: Final = frozenset({429, 503})
"""Of the market's calls: what is gone does not come back."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who signs the requests: a registered account of one desk. Its repr shows no secret."""

    identity: bytes
    """x-only, 32 bytes."""
    request_secret: bytes = field(repr=False)
    """Of its request key."""
    desk: bytes
    """x-only key of the service."""
    clock: Callable[[], float] = field(default=time.time, repr=False)
    """Within half a minute of the service's."""


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
    total_cents: int | None = None
    """Of the whole quantity, as a sale charges it now; None from a server of an earlier release, as all below."""
    total_sats: int | None = None
    collateral_sats: int | None = None
    quoted_at_unix: int | None = None
    valid_until_unix: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """The last agreed price and its volatility."""

    spot_price: float
    volatility_30d: float
    last_update: str
    spot_cents: int
    slot_unix: int
    samples: int
    market_status: str | None = None
    """Whether anything is sold at it: trading, thin, stale or halted; None from a server of an earlier release."""


RESUME: Final = ": resume"
"""A comment in a stream: its time is over, and nothing else."""

PRICES: Final = "/api/v1/prices/stream"
PREMIUMS: Final = "/api/v1/premiums/stream"
SETTLEMENTS: Final = "/api/v1/settlements/stream"
MY_EVENTS: Final = "/api/v1/me/events"


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
    fixing: str = "minute"
    """What settles it: minute, twap:N or median:N."""


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
    paid_sats: int | None = None
    """What ``txid`` pays the buyer; ``payout_sats`` is what the guest computed. None from an earlier release."""
    returned_sats: int | None = None
    anchor_sats: int | None = None
    fee_sats: int | None = None
    child_fee_sats: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeSummary:
    """A disputed contract under watch, as the list has it."""

    id: str
    contract_id: str
    state: str
    opening_txid: str
    walked_height: int
    moved_height: int | None
    claimed_range: int | None
    deadline_height: int | None
    created_at_unix: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute(DisputeSummary):
    """A disputed contract under watch."""

    proposal_id: str
    tip_height: int
    lazy: bool
    ranges: int
    collateral_sats: int
    bond_sats: int
    challenge_bond_sats: int
    claimed_sats: int | None
    silence_height: int
    refund_height: int
    dispute_blocks: int
    waits_for: str | None
    moves: tuple[Mapping[str, Any], ...]
    """What each side can still send, the earliest first."""
    transactions: tuple[Mapping[str, Any], ...]
    """What brought it where it stands, the opening first."""


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
class Fees:
    """The fee market, and what of the service's settlements waits for a block."""

    tip_height: int
    pool_problem: str | None
    """Why the pool is not shown; None when it is."""
    pool_transactions: int | None
    pool_vbytes: int | None
    relay_sats_per_kvb: int | None
    estimates: tuple[Mapping[str, Any], ...]
    next_blocks: tuple[Mapping[str, Any], ...]
    share_vbytes: int
    """Of each block, what settlements are planned to fill."""
    settlements_in_flight: int
    deadlines: tuple[Mapping[str, Any], ...]
    """By refund height, the earliest first."""


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
    payout_sats: int | None = None
    """What the guest computed, as known now; ``paid_sats``: what the settlement's transaction pays the buyer."""
    paid_sats: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountEvent:
    """One edge that a take, an option, a settlement, an offer to close or a webhook of an account crossed."""

    id: int
    entity: str
    entity_id: str
    option_id: str | None
    """None of a webhook, as the next one."""
    role: str | None
    """``writer`` or ``holder``: what the account is of the option."""
    from_state: str
    to_state: str
    at_unix: int
    paid_sats: int | None = None
    """What its transaction pays the holder: of a settlement, of a close, and of an option that was closed early.

    ``returned_sats``: the writer.
    """
    returned_sats: int | None = None


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

    valid: bool | None
    """None: it was not run again and nothing failed, which is no verdict."""
    depth: str
    proof_root: str | None
    program: str | None
    steps: int | None
    output_hex: str | None
    checks: tuple[str, ...]
    failed_check: str | None
    no_verdict: str | None = None
    """Why there is none."""
    steps_checked: tuple[int, ...] | None = None
    chance_to_miss: float | None = None
    """None: there is no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether the API can do its work."""

    status: str
    database: str
    last_price_age_seconds: int | None
    market: str = ""
    """``live``, or ``simulated``: replayed or generated prices. Empty: an earlier release's service does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Some rows, newest first."""

    items: tuple[T, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a party pins before it trades at a service."""

    desk_key: str
    box_key: str
    network: str
    feed: str
    oracles: tuple[dict[str, Any], ...]
    """URL and key of each; None while it does not answer."""
    oracle_threshold: int
    programs: dict[str, str]
    preset: str
    preset_sha256: str
    market_preset: str | None
    market_preset_sha256: str | None
    simulated: bool
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketAccount:
    """An account of the market."""

    identity: str
    name: str
    request_key: str
    box_key: str
    number: int
    carrier: str
    state: str
    requests_per_minute: int
    joined_at_unix: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """What can be traded."""

    name: str
    type: str
    strike_cents: int
    barrier_cents: int | None
    american: bool
    fixing: str
    expiry_unix: int
    collateral_sats: int
    listed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """One side of an instrument."""

    price_sats: int
    price_cents: int
    quantity_centi_btc: int
    """At the best price."""
    depth_centi_btc: int
    """At every price."""
    offers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainLine:
    """One instrument of a chain."""

    instrument: str
    type: str
    strike_cents: int
    bid: Top | None
    ask: Top | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The instruments of one expiry."""

    expiry_unix: int
    expiries_unix: tuple[int, ...]
    spot_cents: int | None
    market_status: str | None
    lines: tuple[ChainLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BookOffer:
    """An open offer, as everybody sees it."""

    id: str
    price_sats: int
    price_cents: int
    quantity_centi_btc: int
    """What is left of it."""
    minimum_centi_btc: int
    valid_until_unix: int
    signed: SignedOffer
    """Its maker's own text; whose signature it bears only the maker's registration tells."""
    step: int | None = None
    """Of an auction, the step that has begun: a take at these prices names it."""
    moves_at_unix: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The open offers of an instrument, on each side the best first."""

    instrument: str
    bids: tuple[BookOffer, ...]
    asks: tuple[BookOffer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A trade, without who."""

    at_unix: int
    instrument: str
    side: str
    quantity_centi_btc: int
    price_sats: int
    price_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferPosted:
    """What became of one offer."""

    id: str | None
    state: str | None
    problem: str | None
    field: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnOffer:
    """An offer of the account."""

    id: str
    account: str
    instrument: str
    side: str
    price_sats: int
    price_cents: int
    quantity_centi_btc: int
    remaining_centi_btc: int
    minimum_centi_btc: int
    valid_until_unix: int
    taker: str | None
    number: int
    state: str
    created_at_unix: int
    request_id: str | None = None
    step: int | None = None
    moves_at_unix: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteRequested:
    """A request for quotes, as makers see it."""

    id: str
    taker: str
    """Who asks: an answer is for this account alone."""
    instrument: str
    wanted: str
    quantity_centi_btc: int
    valid_until_unix: int
    state: str
    created_at_unix: int
    signed: SignedQuoteRequest
    """Of who asks; whose signature it bears only that one's registration tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteAnswers:
    """A request of the account and the open answers to it, on each side the best first."""

    request: QuoteRequested
    bids: tuple[BookOffer, ...]
    asks: tuple[BookOffer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """A take of an offer, as both of its sides see it."""

    id: str
    option_id: str
    offer_id: str
    maker: str
    taker: str
    instrument: str
    side: str
    quantity_centi_btc: int
    price_sats: int
    price_cents: int
    state: str
    fault: str | None
    problem: str | None
    created_at_unix: int
    checked_at_unix: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionEnd:
    """How an option ends, and what its transaction pays each side."""

    how: str
    """``closed`` at a price that both named, ``exercised`` early, ``settled`` by the oracles' price, or
    ``transferred``: its holder changed."""
    txid: str | None
    paid_sats: int | None
    """The holder's."""
    returned_sats: int | None
    """The writer's."""
    fee_sats: int | None
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """An option that the account wrote or holds."""

    instrument: str
    role: str
    take_id: str | None
    option: Option
    end: PositionEnd | None = None
    """None: nothing that ends it is signed yet."""
    transfer_id: str | None = None
    """The transfer by which its holder came to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferToClose:
    """An offer to close an option of the account, of either side; `btcfi market close --accept` agrees to one."""

    id: str
    option_id: str
    instrument: str
    quantity_centi_btc: int
    role: str
    """``writer`` or ``holder``: what the account is of the option."""
    offered_by: str
    """``writer`` or ``holder``."""
    own: bool
    payout_sats: int
    """What the holder is offered; what the signed transaction pays is in the next ones."""
    sats_per_kvb: int
    valid_until_unix: int
    state: str
    paid_sats: int | None
    returned_sats: int | None
    fee_sats: int | None
    txid: str | None
    problem: str | None
    created_at_unix: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenConsent:
    """A consent of the account to a change of the other side of an option that it wrote."""

    id: str
    option_id: str
    valid_until_unix: int
    number: int
    state: str
    created_at_unix: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionForSale:
    """A position that its holder offers, whole, at a firm price."""

    id: str
    own: bool
    option_id: str | None
    """Of an offer of the account's own; else None."""
    instrument: str
    quantity_centi_btc: int
    collateral_sats: int
    price_sats: int
    """Of the whole position: what the holder gets."""
    sats_per_kvb: int
    valid_until_unix: int
    consented_until_unix: int | None
    """Until when its writer lets the holder change; None: nobody can take it."""
    taker: str | None
    state: str
    created_at_unix: int
    signed: SignedTransferOffer
    """As its holder signed it; checked by the process that takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A position on its way from its holder to a newcomer."""

    id: str
    role: str | None
    """``seller``, ``holder`` or ``newcomer``: which of the three the account is."""
    option_id: str
    """The one that the holder leaves."""
    new_option_id: str
    offer_id: str
    instrument: str
    quantity_centi_btc: int
    price_sats: int
    until_unix: int
    state: str
    """``taken``, ``signed``, ``done`` or ``over``."""
    waits_for: str
    fault: str | None
    problem: str | None
    txid: str | None
    fee_sats: int | None
    created_at_unix: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingLetter:
    """A letter of the desk to the account."""

    id: int
    name: str
    sealed: bytes
    sent_at_unix: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where the account's events are sent, and how far its receiver was told."""

    id: str
    url: str
    kinds: tuple[str, ...]
    state: str
    """``active`` or ``disabled``: given up; a test makes it active again."""
    told_event: int
    """The event up to which its receiver has the account's: ``stream_my_events`` goes on after it."""
    waiting: bool
    tries: int
    last_status: int | None
    problem: str | None
    told_at_unix: int | None
    created_at_unix: int


# ---- the calls, each described once


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call(Generic[T]):
    """One request and how to read its answer."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    query: Mapping[str, str] | None = None
    body: bytes | None = None
    headers: Mapping[str, str] | None = None
    good: tuple[int, ...] = (200, 201, 202)
    again: frozenset[int] = AGAIN
    unsigned: bool = False
    """Made by nobody, whoever the client signs for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Feed(Generic[T]):
    """One stream of server-sent events and the record that each carries."""

    kind: type[T]
    path: str
    after: int | str | None
    limit: int | None


def _record(kind: type[T]) -> Callable[[httpx.Response], T]:
    return lambda response: _made(kind, response.json())


def _page(kind: type[T]) -> Callable[[httpx.Response], Page[T]]:
    def read(response: httpx.Response) -> Page[T]:
        body = response.json()
        return Page(items=tuple(_made(kind, one) for one in body["items"]), next_cursor=body["next_cursor"])

    return read


def _made(kind: type[T], body: Mapping[str, Any]) -> T:
    """Return the record of an answer; fields that this release does not know are left out.

    A service of an earlier release lacks those that have a default.
    """
    return kind(**_known(kind, body))


def _known(kind: type[Any], body: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: body[name] for name in kind.__dataclass_fields__ if name in body}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}


def _verdict(check: Check, depth: Depth) -> Check:
    """Return an answer without the verdict that services of earlier releases gave on proofs they had not run again."""
    return check if depth == "execute" or not check.valid else replace(check, valid=None, steps=None, output_hex=None)


def _plain(number: Decimal | None) -> str | None:
    """Return a number as its digits: one with an exponent is refused."""
    return None if number is None else f"{number:f}" if isinstance(number, Decimal) else str(number)


def _query(**given: object) -> dict[str, str]:
    said = {name: value for name, value in given.items() if value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in said.items()}


def _get(path: str, read: Callable[[httpx.Response], T], **query: object) -> _Call[T]:
    return _Call(method="GET", path=path, query=_query(**query) or None, read=read)


def _segment(text: str) -> str:
    """Return ``text`` as one segment of a path."""
    return quote(text, safe="")


def _premium(
    *, type: OptionType, strike: Decimal, expiry: str, barrier: Decimal | None = None, american: bool = False,
    fixing: str | None = None, quantity: Decimal | None = None,
) -> _Call[PremiumQuote]:  # fmt: skip
    """Return what an option costs now. strike, barrier: USD per BTC. expiry: ISO 8601 with a zone, or seconds.

    fixing: minute, twap:N or median:N; None: the service's preset. quantity: what the total is of; None: one bitcoin.
    """
    asked = {"type": type, "strike": _plain(strike), "expiry": expiry, "american": american, "fixing": fixing}
    asked |= {"barrier": _plain(barrier), "quantity": _plain(quantity)}
    return _get("/api/v1/premium", _record(PremiumQuote), **asked)


def _market() -> _Call[Market]:
    """Return the last agreed price and the realised volatility."""
    return _get("/api/v1/market", _record(Market))


def _create_option(
    *, type: OptionType, strike: Decimal, expiry_unix: int, quantity: Decimal, barrier: Decimal | None = None,
    american: bool = False, fixing: str | None = None, idempotency_key: str | None = None,
    max_premium_cents: int | None = None, quoted_at_unix: int | None = None,
) -> _Call[CreatedOption]:  # fmt: skip
    """Create an option. quantity: BTC, in hundredths. The same idempotency_key creates one option however often.

    fixing: minute, twap:N or median:N; None: the service's preset. max_premium_cents, quoted_at_unix: a quote's
    total_cents and quoted_at_unix; above the one nothing is sold, nor by a quote that has become old. None: at whatever
    the premium is in that moment.
    """
    body: dict[str, Any] = {"type": type, "strike": _plain(strike), "expiry": expiry_unix, "quantity": _plain(quantity)}
    later: dict[str, Any] = {"barrier": _plain(barrier), "fixing": fixing}
    later |= {"max_premium_cents": max_premium_cents, "quoted_at_unix": quoted_at_unix}
    body |= {"american": american} | {name: value for name, value in later.items() if value is not None}
    return _Call(
        method="POST",
        path="/api/v1/options",
        body=json.dumps(body).encode(),
        # a key of our own makes the retries below safe; the caller's makes its own retries safe too
        headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
        read=_record(CreatedOption),
    )


def _option(option_id: str) -> _Call[Option]:
    """Return one option."""
    return _get(f"/api/v1/options/{_segment(option_id)}", _record(Option))


def _options(
    *, state: str | None = None, type: OptionType | None = None, limit: int = 100, cursor: str | None = None
) -> _Call[Page[Option]]:  # fmt: skip
    """Return one page of options."""
    return _get("/api/v1/options", _page(Option), state=state, type=type, limit=limit, cursor=cursor)


def _settle(option_id: str) -> _Call[SettlementRequested]:
    """Ask for an option to be settled now."""
    path = f"/api/v1/options/{_segment(option_id)}/settle"
    return _Call(method="POST", path=path, read=_record(SettlementRequested))


def _settlement(settlement_id: str) -> _Call[Settlement]:
    """Return one settlement."""
    return _get(f"/api/v1/settlements/{_segment(settlement_id)}", _record(Settlement))


def _settlements(
    *, state: str | None = None, option_id: str | None = None, limit: int = 100, cursor: str | None = None
) -> _Call[Page[Settlement]]:
    """Return one page of settlements."""
    return _get("/api/v1/settlements", _page(Settlement), state=state, option_id=option_id, limit=limit, cursor=cursor)


def _proof(settlement_id: str) -> _Call[bytes]:
    """Return a settlement's proof file, as ``btcfi verify`` takes it."""
    return _get(f"/api/v1/settlements/{_segment(settlement_id)}/proof", lambda response: response.content)


def _verify(proof: bytes, *, depth: Depth = "execute") -> _Call[Check]:
    """Have the server check a proof file; ``btcfi verify`` does it without trusting the server."""
    return _Call(
        method="POST", path="/api/v1/proofs/verify", query={"depth": depth}, body=proof,
        read=lambda response: _verdict(_made(Check, response.json()), depth),
    )  # fmt: skip


def _register_dispute(public_part: bytes) -> _Call[Dispute]:
    """Put a disputed contract under watch by its public part, a file; again changes nothing. Needs the role operate."""
    return _Call(method="POST", path="/api/v1/disputes", body=public_part, good=(201,), read=_record(Dispute))


def _dispute(dispute_id: str) -> _Call[Dispute]:
    """Return one disputed contract under watch."""
    return _get(f"/api/v1/disputes/{_segment(dispute_id)}", _record(Dispute))


def _disputes(
    *, state: str | None = None, limit: int = 100, cursor: str | None = None
) -> _Call[Page[DisputeSummary]]:  # fmt: skip
    """Return one page of the disputed contracts under watch, newest first."""
    return _get("/api/v1/disputes", _page(DisputeSummary), state=state, limit=limit, cursor=cursor)


def _prices(
    *, start: int | None = None, end: int | None = None, limit: int = 100, cursor: str | None = None
) -> _Call[Page[Price]]:  # fmt: skip
    """Return one page of agreed minutes, newest first, from ``start`` to before ``end``."""
    return _get("/api/v1/prices", _page(Price), start=start, end=end, limit=limit, cursor=cursor)


def _health() -> _Call[Health]:
    """Return whether the server can do its work."""
    return _Call(method="GET", path="/api/v1/health", read=_record(Health), good=(200, 503))


def _stored_premium(option_id: str) -> _Call[StoredPremium]:
    """Return an open option's newest stored premium."""
    return _get(f"/api/v1/options/{_segment(option_id)}/premium", _record(StoredPremium))


def _risk() -> _Call[BookRisk]:
    """Return the risk of the writer's book; needs the role operate."""
    return _get("/api/v1/risk", _record(BookRisk))


def _fees() -> _Call[Fees]:
    """Return the fee market and what of the service's waits for it; needs the role operate."""
    return _get("/api/v1/fees", _record(Fees))


def _stream_prices(*, after_slot: int | None = None, limit: int | None = None) -> _Feed[Price]:
    """Give each newly priced minute, until the caller stops or ``limit`` came."""
    return _Feed(kind=Price, path=PRICES, after=after_slot, limit=limit)


def _stream_premiums(*, after: str | None = None, limit: int | None = None) -> _Feed[StoredPremium]:
    """Give the premium of every open option each time that it is stored; ``after``: PRICED_AT-OPTION_ID."""
    return _Feed(kind=StoredPremium, path=PREMIUMS, after=after, limit=limit)


def _stream_settlements(*, after_event: int | None = None, limit: int | None = None) -> _Feed[Event]:
    """Give every edge that a settlement crosses, from now on or after an event."""
    return _Feed(kind=Event, path=SETTLEMENTS, after=after_event, limit=limit)


def _stream_my_events(*, after_event: int | None = None, limit: int | None = None) -> _Feed[AccountEvent]:
    """Give every edge that a take, an option or a settlement of the account crosses, from now on or after an event."""
    return _Feed(kind=AccountEvent, path=MY_EVENTS, after=after_event, limit=limit)


# ---- webhooks


def _webhook_of(one: Mapping[str, Any]) -> Webhook:
    return Webhook(**_known(Webhook, one) | {"kinds": tuple(one["kinds"])})


def _webhooks() -> _Call[tuple[Webhook, ...]]:
    """Return the account's webhooks, the oldest first."""
    return _get("/api/v1/me/webhooks", _items("items", _webhook_of))


def _add_webhook(url: str, kinds: Sequence[str] | None = None) -> _Call[tuple[Webhook, str]]:
    """Have the account's later events sent to a URL; return the webhook, and the secret that signs its messages, once.

    kinds: ``take``, ``option``, ``settlement``, ``webhook``; None: all.
    """
    body = {"url": url} | ({} if kinds is None else {"kinds": list(kinds)})

    def read(response: httpx.Response) -> tuple[Webhook, str]:
        made = response.json()
        return _webhook_of(made["webhook"]), str(made["secret"])

    return _act("POST", "/me/webhooks", read, body)


def _test_webhook(webhook_id: str) -> _Call[Webhook]:
    """Have a test sent, after what waits; one that was given up is active again."""
    path = f"/me/webhooks/{_segment(webhook_id)}/test"
    return _act("POST", path, lambda response: _webhook_of(response.json()))


def _remove_webhook(webhook_id: str) -> _Call[str]:
    """Remove a webhook, and return its id."""
    return _act("DELETE", f"/me/webhooks/{_segment(webhook_id)}", lambda response: str(response.json()["id"]))


# ---- the market


def _act(method: str, path: str, read: Callable[[httpx.Response], T], body: object = None) -> _Call[T]:
    """Return a call whose effect is the same however often it is made."""
    raw = None if body is None else json.dumps(body, separators=(",", ":")).encode()
    return _Call(method=method, path=f"/api/v1{path}", body=raw, read=read, again=SIGNED_AGAIN)


def _items(name: str, make: Callable[[Mapping[str, Any]], T]) -> Callable[[httpx.Response], tuple[T, ...]]:
    return lambda response: tuple(make(one) for one in response.json()[name])


def _chain_of(response: httpx.Response) -> Chain:
    body = response.json()

    def top(one: Mapping[str, Any] | None) -> Top | None:
        return None if one is None else _made(Top, one)

    lines = [ChainLine(**_known(ChainLine, one) | {side: top(one[side]) for side in ("bid", "ask")})
             for one in body["lines"]]  # fmt: skip
    return Chain(**_known(Chain, body) | {"lines": tuple(lines)})


def _book_of(response: httpx.Response) -> Book:
    body = response.json()
    return Book(
        instrument=body["instrument"], bids=tuple(_book_offer(one) for one in body["bids"]),
        asks=tuple(_book_offer(one) for one in body["asks"]),
    )  # fmt: skip


def _book_offer(one: Mapping[str, Any]) -> BookOffer:
    return BookOffer(**_known(BookOffer, one) | {"signed": decode_signed_offer(one["signed"])})


def _requested(one: Mapping[str, Any]) -> QuoteRequested:
    return QuoteRequested(**_known(QuoteRequested, one) | {"signed": decode_signed_request(one["signed"])})


def _requests_of(response: httpx.Response) -> Page[QuoteRequested]:
    body = response.json()
    return Page(items=tuple(_requested(one) for one in body["items"]), next_cursor=body["next_cursor"])


def _answers_of(response: httpx.Response) -> QuoteAnswers:
    body = response.json()
    return QuoteAnswers(
        request=_requested(body["request"]), bids=tuple(_book_offer(one) for one in body["bids"]),
        asks=tuple(_book_offer(one) for one in body["asks"]),
    )  # fmt: skip


def _positions_of(response: httpx.Response) -> Page[Position]:
    body = response.json()
    return Page(items=tuple(_position(one) for one in body["items"]), next_cursor=body["next_cursor"])


def _position(one: Mapping[str, Any]) -> Position:
    end = one.get("end")  # a server of an earlier release says none
    parts = {"option": _made(Option, one["option"]), "end": None if end is None else _made(PositionEnd, end)}
    return Position(**_known(Position, one) | parts)


def _letter_of(one: Mapping[str, Any]) -> WaitingLetter:
    return WaitingLetter(**_known(WaitingLetter, one) | {"sealed": b64decode(one["sealed"], validate=True)})


def _desk() -> _Call[Desk]:
    """Return what a party pins before it trades here."""
    return _get("/api/v1/desk", _record(Desk))


def _register(registration: SignedRegistration) -> _Call[MarketAccount]:
    """Register an account, or newer keys of it."""
    # what its identity signed needs no request key's word, and an account that is not there yet has none
    call = _act("POST", "/accounts", _record(MarketAccount), encode_signed_registration(registration))
    return replace(call, unsigned=True)


def _account() -> _Call[MarketAccount]:
    """Return the caller's own account."""
    return _get("/api/v1/accounts/me", _record(MarketAccount))


def _instruments() -> _Call[tuple[Instrument, ...]]:
    """Return what is listed now."""
    return _get("/api/v1/instruments", _items("items", lambda one: _made(Instrument, one)))


def _instrument(name: str) -> _Call[Instrument]:
    """Return what a name means."""
    return _get(f"/api/v1/instruments/{_segment(name)}", _record(Instrument))


def _chain(*, expiry: int | str | None = None) -> _Call[Chain]:
    """Return one expiry's instruments with the best of each side. expiry: None: the next one that is listed."""
    return _get("/api/v1/chain", _chain_of, expiry=expiry)


def _book(instrument: str, *, limit: int = 100) -> _Call[Book]:
    """Return the open offers of an instrument, the best first."""
    return _get(f"/api/v1/book/{_segment(instrument)}", _book_of, limit=limit)


def _trades(
    *, instrument: str | None = None, limit: int = 100, cursor: str | None = None
) -> _Call[Page[Trade]]:  # fmt: skip
    """Return one page of trades, newest first: what and for how much, not who."""
    return _get("/api/v1/trades", _page(Trade), instrument=instrument, limit=limit, cursor=cursor)


def _post_offers(offers: Sequence[SignedOffer]) -> _Call[tuple[OfferPosted, ...]]:
    """Post up to 500 offers of the account, and return what became of each."""
    body = {"offers": [encode_signed_offer(one) for one in offers]}
    return _act("POST", "/offers", _items("results", lambda one: _made(OfferPosted, one)), body)


def _offers(
    *, state: str | None = None, limit: int = 100, cursor: str | None = None
) -> _Call[Page[OwnOffer]]:  # fmt: skip
    """Return one page of the account's offers, newest first."""
    return _get("/api/v1/offers", _page(OwnOffer), state=state, limit=limit, cursor=cursor)


def _withdraw(offer_id: str | None = None, *, up_to_number: int | None = None) -> _Call[int]:
    """Withdraw one offer of the account, or all, and return how many were open.

    up_to_number: of all, only those of at most this number: sent again, it ends nothing that was posted since.
    """
    path = "/offers" if offer_id is None else f"/offers/{_segment(offer_id)}"
    call = _act("DELETE", path, lambda response: int(response.json()["withdrawn"]))
    bounded = offer_id is None and up_to_number is not None
    return replace(call, query=_query(up_to_number=up_to_number)) if bounded else call


def _post_request(request: SignedQuoteRequest) -> _Call[QuoteRequested]:
    """Ask makers for quotes of any instrument."""
    return _act("POST", "/requests", lambda response: _requested(response.json()), encode_signed_request(request))


def _requests(
    *, own: bool = False, limit: int = 100, cursor: str | None = None
) -> _Call[Page[QuoteRequested]]:  # fmt: skip
    """Return one page of requests that can be answered, newest first. own: of the account's, open or not."""
    return _get("/api/v1/requests", _requests_of, own="true" if own else None, limit=limit, cursor=cursor)


def _answers(request_id: str) -> _Call[QuoteAnswers]:
    """Return a request of the account and the open answers to it, the best first; take one as any offer."""
    return _get(f"/api/v1/requests/{_segment(request_id)}", _answers_of)


def _withdraw_request(request_id: str) -> _Call[int]:
    """Withdraw a request of the account, and return how many open answers went with it."""
    return _act("DELETE", f"/requests/{_segment(request_id)}", lambda response: int(response.json()["withdrawn"]))


def _take(take: SignedTake) -> _Call[Take]:
    """Take an offer at its price, or not at all."""
    return _act("POST", "/takes", _record(Take), encode_signed_take(take))


def _taken(take_id: str) -> _Call[Take]:
    """Return a take that the account is a side of."""
    return _get(f"/api/v1/takes/{_segment(take_id)}", _record(Take))


def _takes(*, limit: int = 100, cursor: str | None = None) -> _Call[Page[Take]]:
    """Return one page of takes that the account is a side of, newest first."""
    return _get("/api/v1/takes", _page(Take), limit=limit, cursor=cursor)


def _fills(*, limit: int = 100, cursor: str | None = None) -> _Call[Page[Take]]:
    """Return one page of the account's takes that have not failed, newest first."""
    return _get("/api/v1/fills", _page(Take), limit=limit, cursor=cursor)


def _positions(*, over: bool = False, limit: int = 100, cursor: str | None = None) -> _Call[Page[Position]]:
    """Return one page of the options that the account wrote or holds, newest first. over: those that are over."""
    return _get("/api/v1/positions", _positions_of, over="true" if over else None, limit=limit, cursor=cursor)


def _closes(*, state: str | None = None, limit: int = 100, cursor: str | None = None) -> _Call[Page[OfferToClose]]:
    """Return one page of the offers to close options of the account, of either side, newest first."""
    return _get("/api/v1/closes", _page(OfferToClose), state=state, limit=limit, cursor=cursor)


def _offer_to_close(close_id: str) -> _Call[OfferToClose]:
    """Return an offer to close an option of the account."""
    return _get(f"/api/v1/closes/{_segment(close_id)}", _record(OfferToClose))


def _for_sale(one: Mapping[str, Any]) -> PositionForSale:
    return PositionForSale(**_known(PositionForSale, one) | {"signed": decode_signed_transfer_offer(one["signed"])})


def _for_sale_page(response: httpx.Response) -> Page[PositionForSale]:
    body = response.json()
    return Page(items=tuple(_for_sale(one) for one in body["items"]), next_cursor=body["next_cursor"])


def _consent_to_transfer(consent: SignedTransferConsent) -> _Call[GivenConsent]:
    """Let the other side of an option that the account wrote change."""
    return _act("POST", "/transfers/consents", _record(GivenConsent), encode_signed_transfer(consent))


def _consents(*, state: str | None = None, limit: int = 100, cursor: str | None = None) -> _Call[Page[GivenConsent]]:
    """Return one page of the account's consents, newest first."""
    return _get("/api/v1/transfers/consents", _page(GivenConsent), state=state, limit=limit, cursor=cursor)


def _withdraw_consent(consent_id: str) -> _Call[GivenConsent]:
    """Take a consent of the account back; what is under way by it goes on."""
    return _act("DELETE", f"/transfers/consents/{_segment(consent_id)}", _record(GivenConsent))


def _offer_position(offer: SignedTransferOffer) -> _Call[PositionForSale]:
    """Offer a position of the account, whole, at a firm price."""
    body = encode_signed_transfer(offer)
    return _act("POST", "/transfers/offers", lambda response: _for_sale(response.json()), body)


def _positions_for_sale(
    *, own: bool = False, instrument: str | None = None, limit: int = 100, cursor: str | None = None
) -> _Call[Page[PositionForSale]]:  # fmt: skip
    """Return one page of positions that are for sale, newest first. own: of the account's, whatever became of them."""
    return _get(
        "/api/v1/transfers/offers", _for_sale_page, own="true" if own else None, instrument=instrument, limit=limit,
        cursor=cursor,
    )  # fmt: skip


def _withdraw_position(offer_id: str) -> _Call[PositionForSale]:
    """Take an offer of a position back; what is under way of it goes on."""
    return _act("DELETE", f"/transfers/offers/{_segment(offer_id)}", lambda response: _for_sale(response.json()))


def _take_position(take: SignedTransferTake) -> _Call[Transfer]:
    """Take a position that is for sale at its price, or not at all."""
    return _act("POST", "/transfers/takes", _record(Transfer), encode_signed_transfer(take))


def _transfers(*, state: str | None = None, limit: int = 100, cursor: str | None = None) -> _Call[Page[Transfer]]:
    """Return one page of transfers that the account is one of the three of, newest first."""
    return _get("/api/v1/transfers", _page(Transfer), state=state, limit=limit, cursor=cursor)


def _transfer(transfer_id: str) -> _Call[Transfer]:
    """Return a transfer that the account is one of the three of."""
    return _get(f"/api/v1/transfers/{_segment(transfer_id)}", _record(Transfer))


def _post_letter(name: str, sealed: bytes) -> _Call[str]:
    """Hand the desk a letter that is sealed to it, and return its name."""
    body = {"name": name, "sealed": b64encode(sealed).decode()}
    return _act("POST", "/letters", lambda response: str(response.json()["name"]), body)


def _letters(*, after: int = 0, wait: int = 0, limit: int = 50) -> _Call[tuple[WaitingLetter, ...]]:
    """Return letters to the account that it has not acknowledged. wait: seconds to wait for one, up to 25."""
    return _get("/api/v1/letters", _items("letters", _letter_of), after=after, wait=wait or None, limit=limit)


def _acknowledge(ids: Sequence[int]) -> _Call[None]:
    """Say that letters are kept: they are not sent again."""
    return _act("POST", "/letters/acknowledge", lambda _response: None, {"ids": list(ids)})


# ---- a description becomes a method of both clients


class _Ask(Generic[P, T]):
    """The method of a call: it answers the blocking client, and is awaited of the asynchronous one."""

    def __init__(self, describe: Callable[P, _Call[T]]) -> None:
        self._describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: None, owner: type[_Calls]) -> Self: ...
    @overload
    def __get__(self, client: Client, owner: type[_Calls]) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type[_Calls]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Client | AsyncClient | None, owner: type[_Calls]) -> Any:
        """Return the bound method."""
        if client is None:
            return self

        @wraps(self._describe)
        def method(*args: P.args, **given: P.kwargs) -> T | Coroutine[Any, Any, T]:
            return client.ask(self._describe(*args, **given))

        method.__name__ = self._describe.__name__.removeprefix("_")
        return method


class _Follow(Generic[P, T]):
    """The method of a stream: an iterator of the blocking client, an asynchronous one of the other."""

    def __init__(self, describe: Callable[P, _Feed[T]]) -> None:
        self._describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: None, owner: type[_Calls]) -> Self: ...
    @overload
    def __get__(self, client: Client, owner: type[_Calls]) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type[_Calls]) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: Client | AsyncClient | None, owner: type[_Calls]) -> Any:
        """Return the bound method."""
        if client is None:
            return self

        @wraps(self._describe)
        def method(*args: P.args, **given: P.kwargs) -> Iterator[T] | AsyncIterator[T]:
            return client.follow(self._describe(*args, **given))

        method.__name__ = self._describe.__name__.removeprefix("_")
        return method


class _Calls:
    """What both clients can do, and what they know: where, as whom, and what an answer means."""

    premium = _Ask(_premium)
    market = _Ask(_market)
    create_option = _Ask(_create_option)
    option = _Ask(_option)
    options = _Ask(_options)
    settle = _Ask(_settle)
    settlement = _Ask(_settlement)
    settlements = _Ask(_settlements)
    proof = _Ask(_proof)
    verify = _Ask(_verify)
    register_dispute = _Ask(_register_dispute)
    dispute = _Ask(_dispute)
    disputes = _Ask(_disputes)
    prices = _Ask(_prices)
    health = _Ask(_health)
    stored_premium = _Ask(_stored_premium)
    risk = _Ask(_risk)
    fees = _Ask(_fees)
    desk = _Ask(_desk)
    register = _Ask(_register)
    account = _Ask(_account)
    instruments = _Ask(_instruments)
    instrument = _Ask(_instrument)
    chain = _Ask(_chain)
    book = _Ask(_book)
    trades = _Ask(_trades)
    post_offers = _Ask(_post_offers)
    offers = _Ask(_offers)
    withdraw = _Ask(_withdraw)
    post_request = _Ask(_post_request)
    requests = _Ask(_requests)
    answers = _Ask(_answers)
    withdraw_request = _Ask(_withdraw_request)
    take = _Ask(_take)
    taken = _Ask(_taken)
    takes = _Ask(_takes)
    fills = _Ask(_fills)
    positions = _Ask(_positions)
    closes = _Ask(_closes)
    offer_to_close = _Ask(_offer_to_close)
    consent_to_transfer = _Ask(_consent_to_transfer)
    consents = _Ask(_consents)
    withdraw_consent = _Ask(_withdraw_consent)
    offer_position = _Ask(_offer_position)
    positions_for_sale = _Ask(_positions_for_sale)
    withdraw_position = _Ask(_withdraw_position)
    take_position = _Ask(_take_position)
    transfers = _Ask(_transfers)
    transfer = _Ask(_transfer)
    post_letter = _Ask(_post_letter)
    letters = _Ask(_letters)
    acknowledge = _Ask(_acknowledge)
    webhooks = _Ask(_webhooks)
    add_webhook = _Ask(_add_webhook)
    test_webhook = _Ask(_test_webhook)
    remove_webhook = _Ask(_remove_webhook)
    stream_prices = _Follow(_stream_prices)
    stream_premiums = _Follow(_stream_premiums)
    stream_settlements = _Follow(_stream_settlements)
    stream_my_events = _Follow(_stream_my_events)

    def __init__(
        self, url: str, *, key: str | None = None, account: Account | None = None, timeout_seconds: float = 30.0
    ) -> None:
        """``url``: of the server, without /api. ``key``: an API key, or None for what anonymous callers may do.

        account: signs every request instead of a key. Raises ValueError for both.
        """
        if key and account:
            raise ValueError("a key or an account, not both")
        self.url = url.rstrip("/")
        self._timeout = timeout_seconds
        self._given: dict[str, Any] = {
            "base_url": self.url, "timeout": timeout_seconds,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
        }  # fmt: skip
        if account is not None:
            self._given["auth"] = RequestSigner(
                identity=account.identity, request_secret=account.request_secret, desk=account.desk,
                clock=account.clock,
            )  # fmt: skip

    def _parts(self, call: _Call[Any]) -> dict[str, Any]:
        headers = dict(call.headers or {})
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        given = {"method": call.method, "url": call.path, "params": call.query, "content": call.body}
        return given | {"headers": headers} | ({"auth": None} if call.unsigned else {})

    def _stream_parts(self, feed: _Feed[Any]) -> dict[str, Any]:
        # a stream is silent for up to 15 s between its heartbeats
        patient = httpx.Timeout(self._timeout, read=60.0)
        headers = {"Last-Event-ID": str(feed.after)} if feed.after is not None else {}
        query = _query(limit=feed.limit)
        return {"method": "GET", "url": feed.path, "params": query, "headers": headers, "timeout": patient}

    def _wait(self, call: _Call[Any], answer: httpx.Response | httpx.TransportError, attempt: int) -> float | None:
        """Return None when the answer is good, else how many seconds to wait before trying again.

        Raises ApiError, ApiUnreachableError.
        """
        last = attempt + 1 >= ATTEMPTS
        if isinstance(answer, httpx.TransportError):
            if last:
                raise self._unreachable(answer) from answer
            return 0.2 * float(2**attempt)
        if answer.status_code in call.good:
            return None
        wait = float(answer.headers.get("Retry-After", "1")) if answer.status_code in call.again else math.inf
        mismatch = answer.status_code == CONFLICT and "mismatch" in answer.text
        if mismatch or last or wait > LONGEST_WAIT_SECONDS:
            raise refusal(answer)
        return wait

    def _unreachable(self, error: httpx.TransportError) -> ApiUnreachableError:
        return ApiUnreachableError(self.url, str(error) or type(error).__name__)


class _Place(Generic[T]):
    """How far a stream was read, so that it can be opened again where its server ends it for its age alone."""

    def __init__(self, feed: _Feed[T]) -> None:
        self.feed = feed
        self._last: int | str | None = feed.after
        self._count = 0
        self._resume = False

    def take(self, line: str) -> list[T]:
        """Return the record that a line carries, if it carries one."""
        if line.startswith("id: "):
            self._last = line[4:]
        self._resume = self._resume or line == RESUME
        if not line.startswith("data: "):
            return []
        self._count += 1
        return [_made(self.feed.kind, json.loads(line[6:]))]

    def following(self) -> _Place[T] | None:
        """Return where to read on, None when the stream is over."""
        if not self._resume:
            return None
        left = None if self.feed.limit is None else self.feed.limit - self._count
        return _Place(replace(self.feed, after=self._last, limit=left))


def refusal(response: httpx.Response) -> ApiError:
    """Return the error of an answer that is not a success."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    return ApiError(problem if isinstance(problem, dict) else {}, status=response.status_code)


# ---- the transports


class Client(_Calls):
    """The blocking client. Not shared between threads."""

    def __init__(
        self, url: str, *, key: str | None = None, account: Account | None = None, timeout_seconds: float = 30.0
    ) -> None:
        """``url``: of the server, without /api. ``key``: an API key, or None for what anonymous callers may do.

        account: signs every request instead of a key.
        """
        super().__init__(url, key=key, account=account, timeout_seconds=timeout_seconds)
        self._http = httpx.Client(**self._given)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(self, call: _Call[T]) -> T:
        """Make a call, again where that is safe. Raises ApiError, ApiUnreachableError."""
        for attempt in count():
            answer: httpx.Response | httpx.TransportError
            try:
                answer = self._http.request(**self._parts(call))
            except httpx.TransportError as e:
                answer = e
            wait = self._wait(call, answer, attempt)
            if wait is None and isinstance(answer, httpx.Response):
                return call.read(answer)
            time.sleep(wait or 0)
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    def follow(self, feed: _Feed[T]) -> Iterator[T]:
        """Give a stream's records. Raises ApiError, ApiUnreachableError."""
        place: _Place[T] | None = _Place(feed)
        try:
            while place is not None:
                read, place = place, None
                with self._http.stream(**self._stream_parts(read.feed)) as response:
                    if response.status_code != OK:
                        response.read()
                        raise refusal(response)
                    for line in response.iter_lines():
                        yield from read.take(line)
                place = read.following()
        except httpx.TransportError as e:
            raise self._unreachable(e) from e


class AsyncClient(_Calls):
    """The asynchronous client."""

    def __init__(
        self, url: str, *, key: str | None = None, account: Account | None = None, timeout_seconds: float = 30.0
    ) -> None:
        """See ``Client``."""
        super().__init__(url, key=key, account=account, timeout_seconds=timeout_seconds)
        self._http = httpx.AsyncClient(**self._given)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(self, call: _Call[T]) -> T:
        """See ``Client.ask``."""
        for attempt in count():
            answer: httpx.Response | httpx.TransportError
            try:
                answer = await self._http.request(**self._parts(call))
            except httpx.TransportError as e:
                answer = e
            wait = self._wait(call, answer, attempt)
            if wait is None and isinstance(answer, httpx.Response):
                return call.read(answer)
            await asyncio.sleep(wait or 0)
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    async def follow(self, feed: _Feed[T]) -> AsyncIterator[T]:
        """See ``Client.follow``."""
        place: _Place[T] | None = _Place(feed)
        try:
            while place is not None:
                read, place = place, None
                async with self._http.stream(**self._stream_parts(read.feed)) as response:
                    if response.status_code != OK:
                        await response.aread()
                        raise refusal(response)
                    async for line in response.aiter_lines():
                        for one in read.take(line):
                            yield one
                place = read.following()
        except httpx.TransportError as e:
            raise self._unreachable(e) from e
