"""The shapes of requests and answers: what the OpenAPI document is made of.

Money is an integer whose unit stands in the field's name. The published fields (whitepaper, Appendix A) are JSON
numbers as they were published; an exact integer stands beside each.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from btcfi.adapters.store.options.tables import OptionState, SettlementState
from btcfi.errors import InvalidInputError
from btcfi.options.order import Number, parse_dollars, parse_quantity

MAX_UNIX = 2**32 - 1


def _as_written(parse: Callable[[object, str], int]) -> BeforeValidator:
    """Return what reads a number as every door does, and gives pydantic its value to bound and to document."""

    def read(value: object, info: ValidationInfo) -> Decimal:
        try:
            hundredths = parse(value, info.field_name or "value")
        except InvalidInputError as e:
            raise PydanticCustomError("number", "{problem}; expected {expected}", _parts(e)) from e
        # the value's own digits, as an earlier release kept them: a repeated request's fingerprint is of these
        text = str(float(value)) if isinstance(value, Number) else str(value)
        try:
            return Decimal(text)
        except InvalidOperation:  # a dollar sign, groups of three
            return Decimal(hundredths).scaleb(-2)

    return BeforeValidator(read)


def _parts(error: InvalidInputError) -> dict[str, str]:
    return {"problem": error.problem, "expected": error.expected}


Usd = Annotated[
    Decimal,
    Field(gt=0, le=Decimal("42949672.95"), decimal_places=2, description="USD per BTC, at most two decimals."),
    _as_written(parse_dollars),
]
Bitcoin = Annotated[
    Decimal,
    Field(gt=0, le=Decimal(21000000), decimal_places=2, description="BTC, in hundredths."),
    _as_written(parse_quantity),
]
FixingText = Annotated[
    str,
    Field(
        max_length=10, pattern="^(minute|(twap|median):[1-9][0-9]?)$", examples=["twap:30"],
        description="What settles it: minute, or the mean (twap:N) or median (median:N) of the N minutes up to the "
        "expiry, N from 2 to 60. The preset's where it is not given.",
    ),
]  # fmt: skip
UnixTime = Annotated[int, Field(ge=0, le=MAX_UNIX, description="Seconds since 1970.")]


class OptionType(StrEnum):
    """The four payoffs."""

    CALL = "call"
    PUT = "put"
    BINARY_CALL = "binary_call"
    BINARY_PUT = "binary_put"


class Request(BaseModel):
    """A body or a query: nothing unknown in it."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    model_config = ConfigDict(extra="allow")
    type: str = Field(description="A URN that names the kind of error and does not change.")
    title: str
    status: int
    detail: str = Field(description="One line that says what would be right.")
    instance: str = Field(description="The path that was asked.")
    field: str | None = None
    expected: str | None = None


class PremiumQuery(Request):
    """The published query of a premium; the last four fields are ours."""

    strike: Usd
    expiry: str = Field(
        min_length=1, max_length=40, description="ISO 8601 with a zone, or seconds since 1970.",
        examples=["2026-12-31T08:00:00Z"],
    )  # fmt: skip
    type: OptionType
    barrier: Usd | None = Field(
        default=None, description="Knock-out level in USD per BTC: above the strike up-and-out, below it down-and-out."
    )
    american: bool = False
    fixing: FixingText | None = None
    quantity: Bitcoin = Field(default=Decimal(1), description="BTC, in hundredths: what total_cents is of.")


class Premium(BaseModel):
    """The published answer, and what it rests on. Per BTC of quantity, but for the three fields of the whole."""

    premium_btc: float
    delta: float = Field(description="USD per USD of spot.")
    gamma: float = Field(description="Delta per USD of spot.")
    theta: float = Field(description="USD per calendar day.")
    vega: float = Field(description="USD per percentage point of volatility.")
    rho: float = Field(description="USD per percentage point of the interest rate.")
    premium_cents: int = Field(description="US cents, rounded half-even.")
    spot_cents: int
    volatility: float = Field(description="Per square-root year: 0.65 is 65 %.")
    priced_at_unix: int = Field(description="The market's time, a recording's in a replay.")
    total_cents: int = Field(
        description="US cents for the whole quantity, rounded up once: what a sale charges now, and max_premium_cents "
        "of an order that wants no more."
    )
    total_sats: int = Field(description="What the funding pays for it.")
    collateral_sats: int
    quoted_at_unix: int = Field(description="The server's clock: quoted_at_unix of an order by this quote.")
    valid_until_unix: int = Field(description="From this second on an order by this quote is refused.")


class Market(BaseModel):
    """The published answer, and the integers behind it."""

    spot_price: float = Field(description="USD per BTC.")
    volatility_30d: float = Field(description="Realised, per square-root year; of what history there is.")
    last_update: str = Field(description="ISO 8601: the minute that the price is of.")
    spot_cents: int
    slot_unix: int
    samples: int = Field(description="Returns that the volatility rests on; 0: the preset's value.")
    market_status: Literal["trading", "thin", "stale", "halted"] = Field(
        description="Only at a price that is trading is anything quoted or sold."
    )


class CreateOption(Request):
    """The published body; the last five fields are ours."""

    type: OptionType
    strike: Usd
    expiry: Annotated[
        int, Field(gt=0, le=MAX_UNIX, multiple_of=60, strict=True, description="Seconds since 1970, on a whole minute.")
    ]
    quantity: Bitcoin
    barrier: Usd | None = None
    american: Annotated[bool, Field(strict=True)] = False
    fixing: FixingText | None = None
    max_premium_cents: Annotated[int, Field(ge=1, le=MAX_UNIX, strict=True)] | None = Field(
        default=None,
        description="The total_cents that /premium showed, or another limit: at or below it the option is sold at the "
        "premium of the moment, above it nothing is. Without it the premium of the moment is charged, whatever it is.",
    )
    quoted_at_unix: Annotated[int, Field(ge=0, le=MAX_UNIX, strict=True)] | None = Field(
        default=None, description="The quoted_at_unix that /premium showed: an order by an old quote is refused."
    )


class Created(BaseModel):
    """The published answer, and the exact amounts."""

    option_id: str
    premium: float = Field(description="USD for the whole quantity.")
    taproot_address: str | None = Field(
        description="Where the contract is funded. Null until both parties' keys are known; the option shows it then."
    )
    premium_cents: int
    premium_sats: int
    collateral_sats: int


class Option(BaseModel):
    """An option as it stands."""

    id: str
    state: OptionState
    type: OptionType
    strike_cents: int
    quantity_centi_btc: int
    barrier_cents: int | None
    american: bool
    expiry_unix: int
    fixing: str = Field(description="What settles it: minute, twap:N or median:N.")
    premium_cents: int
    premium_sats: int
    collateral_sats: int
    taproot_address: str | None
    funding_txid: str | None
    created_at_unix: int


class StoredPremium(BaseModel):
    """The newest premium that the premium service stored. The Greeks are per BTC of quantity."""

    option_id: str
    slot_unix: int
    premium_cents: int = Field(description="US cents for the whole quantity; 0 once the barrier was touched.")
    delta: float
    gamma: float
    vega: float
    theta: float
    rho: float
    priced_at_unix: int


class Settlement(BaseModel):
    """A settlement as it stands."""

    id: str
    option_id: str
    state: SettlementState
    reason: str
    slot_unix: int
    price_cents: int
    payout_cents: int | None = Field(description="What the guest computed, rounded down to a cent.")
    payout_sats: int | None = Field(description="What the guest computed, rounded down to a satoshi.")
    steps: int | None
    proof_root: str | None
    txid: str | None
    attempts: int
    last_error: str | None
    updated_at_unix: int
    paid_sats: int | None = Field(
        default=None,
        description="What the transaction `txid` pays the buyer. paid + returned + anchor + fee = collateral.",
    )
    returned_sats: int | None = Field(default=None, description="What it pays the seller.")
    anchor_sats: int | None = Field(
        default=None, description="In its anchor output, which a child spends; no fee of this transaction."
    )
    fee_sats: int | None = Field(default=None, description="Its own fee.")
    child_fee_sats: int | None = Field(
        default=None, description="Of the service's child of it, the anchor's value included; null without one."
    )


class SettlementRequested(BaseModel):
    """An ad hoc settlement that was asked for."""

    option_id: str
    state: str = Field(description="open, accepted, held or refused.")
    answer: str | None
    requested_at_unix: int


class Event(BaseModel):
    """One edge that was crossed."""

    id: int
    entity: str
    entity_id: str
    from_state: str
    to_state: str
    at_unix: int
    detail: str


class SettlementEvent(Event):
    """One edge that a settlement crossed, with its amounts as they are known now."""

    payout_sats: int | None = Field(default=None, description="What the guest computed.")
    paid_sats: int | None = Field(default=None, description="What its transaction pays the buyer.")


class Price(BaseModel):
    """One agreed minute."""

    slot_unix: int
    price_cents: int
    low_cents: int | None
    high_cents: int | None
    confidence_cents: int | None = Field(
        default=None, description="More than half of the venues lie within it of the price."
    )
    publishers: int | None = Field(default=None, description="Venues whose quotes stand behind the price.")
    dollar_markets: int | None = Field(default=None, description="Dollar markets that spoke in this minute.")
    reach_cents: int | None = Field(
        default=None, description="How far any one of the markets could have moved the price."
    )
    thin: list[str] = Field(default_factory=list, description="Why nothing settles on this price; empty where it may.")
    expires_at_unix: int = Field(default=0, description="From this second on the price is stale.")


class LatestPrice(Price):
    """The newest agreed minute, and whether it may still be used."""

    market_status: Literal["trading", "thin", "stale", "halted"] = Field(
        description="trading: use it. thin: one market could have bent it. stale: newer minutes have no price. "
        "halted: an operator has paused the feed."
    )


class OptionPage(BaseModel):
    """Some options, newest first."""

    items: list[Option]
    next_cursor: str | None


class SettlementPage(BaseModel):
    """Some settlements, newest first."""

    items: list[Settlement]
    next_cursor: str | None


class PricePage(BaseModel):
    """Some prices, newest first."""

    items: list[Price]
    next_cursor: str | None


class MinuteSubmissions(BaseModel):
    """What was signed of one minute. Nothing here has to be believed: each submission carries its signature."""

    slot: int
    state: Literal["open", "closed", "unsigned", "never_asked", "unknown"] = Field(
        description="Where the round stands: `unsigned` is one of which nothing was signed."
    )
    submissions: list[dict[str, Any]] = Field(
        description="Every field that is signed, and the node's BIP340 signature; the raw responses by their hash."
    )
    report: dict[str, Any] | None = Field(description="What this service concluded, for comparison.")


class SubmissionsPage(BaseModel):
    """Some minutes in their order."""

    feed: str
    newest_slot: int | None = Field(description="The newest minute that has a round.")
    minutes: list[MinuteSubmissions]


class Check(BaseModel):
    """What a verifier found. A proof that does not hold is an answer, not an error."""

    valid: bool
    depth: Literal["execute", "sample", "paths"]
    proof_root: str | None
    program: str | None
    steps: int | None
    output_hex: str | None
    checks: list[str]
    failed_check: str | None


class BookRisk(BaseModel):
    """The writer's book: all options that are not settled."""

    options: int
    spot_cents: int
    volatility: float
    value_cents: int
    delta_btc: float
    gamma_btc: float = Field(description="Change of delta per 1 % of spot.")
    vega: float
    theta: float
    rho: float
    required_margin_cents: int
    collateral_cents: int
    liability_cents: int
    utilisation: float | None
    spot_moves: list[float]
    volatility_moves: list[float]
    profit_cents: list[list[int]] = Field(description="By volatility move, then spot move, now.")


class Health(BaseModel):
    """Whether the API can do its work."""

    status: Literal["ok", "degraded"]
    database: Literal["ok", "unreachable"]
    last_price_age_seconds: int | None
    """By the wall clock: a replay's or a simulation's price counts from when it was agreed."""
    market: Literal["live", "simulated"]
    """simulated: prices are replayed or generated, and no market's of now."""


Json = dict[str, Any]
