"""The shapes of requests and answers: what the OpenAPI document is made of.

Money is an integer whose unit stands in the field's name. The published fields (whitepaper, Appendix A) are JSON
numbers as they were published; an exact integer stands beside each.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    computed_field,
)
from pydantic_core import PydanticCustomError

from btcfi.adapters.store.options.tables import OptionState, SettlementState
from btcfi.disputes.stages import Stage
from btcfi.errors import InvalidInputError
from btcfi.options.order import Number, parse_dollars, parse_quantity
from btcfi.surfaces.rest.times import iso, parse_time

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


def _seconds(value: object) -> object:
    """Return a time's seconds; what is no text passes, for the field to judge. Raises ValueError."""
    if not isinstance(value, str):
        return value
    try:
        return parse_time(value, "time")
    except InvalidInputError as e:
        raise ValueError(f"{e.problem}; expected {e.expected}") from e


def _either(**bounds: int) -> WithJsonSchema:
    seconds = {"type": "integer", "minimum": 0, "maximum": MAX_UNIX} | bounds
    return WithJsonSchema({"anyOf": [seconds, {"type": "string", "format": "date-time", "maxLength": 40}]})


When = Annotated[int, BeforeValidator(_seconds), Field(ge=0, le=MAX_UNIX), _either()]
"""A time of a request, in either form."""


def _as_itself(value: object) -> object:
    """Return a time's seconds, of an order: a number is a number and no text. Raises ValueError."""
    if isinstance(value, str) and value.strip().isdigit():
        raise ValueError("a number as text; expected an integer, or ISO 8601 with a zone")
    return _seconds(value)


WholeMinute = Annotated[
    int, BeforeValidator(_as_itself), Field(gt=0, le=MAX_UNIX, multiple_of=60, strict=True),
    _either(minimum=60, multipleOf=60),
]  # fmt: skip


class OptionType(StrEnum):
    """The four payoffs."""

    CALL = "call"
    PUT = "put"
    BINARY_CALL = "binary_call"
    BINARY_PUT = "binary_put"


class Request(BaseModel):
    """A body or a query: nothing unknown in it."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Answer(BaseModel):
    """What is answered. Under each field stands its description; its example stands in ``examples.py``."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)
    type: str = Field(description="A URN that names the kind of error and does not change.")
    title: str
    """The kind in a sentence."""
    status: int
    """Of the answer."""
    detail: str = Field(description="One line that says what would be right.")
    instance: str = Field(description="The path that was asked.")
    field: str | None = None
    """The field that is wrong, where it is one."""
    expected: str | None = None
    """What that field may be."""
    request_id: str | None = None
    """The request's id, also in the answer's X-Request-Id: the log has it where something failed inside."""


class PremiumQuery(Request):
    """The published query of a premium; the last four fields are ours."""

    strike: Usd
    expiry: str = Field(
        min_length=1, max_length=40, description="ISO 8601 with a zone, or seconds since 1970.",
        examples=["2026-12-31T08:00:00Z"],
    )  # fmt: skip
    type: OptionType
    """Which payoff."""
    barrier: Usd | None = Field(
        default=None, description="Knock-out level in USD per BTC: above the strike up-and-out, below it down-and-out."
    )
    american: bool = False
    """Whether it may be exercised before its expiry."""
    fixing: FixingText | None = None
    """What settles it; the preset's where it is not given."""
    quantity: Bitcoin = Field(default=Decimal(1), description="BTC, in hundredths: what total_cents is of.")


class Premium(Answer):
    """The published answer, and what it rests on. Per BTC of quantity, but for the three fields of the whole."""

    premium_btc: float
    """Bitcoin per bitcoin of quantity."""
    delta: float = Field(description="USD per USD of spot.")
    gamma: float = Field(description="Delta per USD of spot.")
    theta: float = Field(description="USD per calendar day.")
    vega: float = Field(description="USD per percentage point of volatility.")
    rho: float = Field(description="USD per percentage point of the interest rate.")
    premium_cents: int = Field(description="US cents, rounded half-even.")
    spot_cents: int
    """The agreed price in US cents."""
    volatility: float = Field(description="Per square-root year: 0.65 is 65 %.")
    priced_at_unix: int
    """The market's time, a recording's in a replay, in seconds since 1970."""
    total_cents: int = Field(
        description="US cents for the whole quantity, rounded up once: what a sale charges now, and max_premium_cents "
        "of an order that wants no more."
    )
    total_sats: int = Field(description="What the funding pays for it.")
    collateral_sats: int
    """What the seller would lock."""
    quoted_at_unix: int = Field(description="The server's clock: quoted_at_unix of an order by this quote.")
    valid_until_unix: int = Field(description="From this second on an order by this quote is refused.")

    @computed_field
    def priced_at(self) -> str:
        """ISO 8601: the market's time."""
        return iso(self.priced_at_unix)

    @computed_field
    def quoted_at(self) -> str:
        """ISO 8601: the server's clock."""
        return iso(self.quoted_at_unix)

    @computed_field
    def valid_until(self) -> str:
        """ISO 8601: from this moment on an order by this quote is refused."""
        return iso(self.valid_until_unix)


class Market(Answer):
    """The published answer, and the integers behind it."""

    spot_price: float = Field(description="USD per BTC.")
    volatility_30d: float = Field(description="Realised, per square-root year; of what history there is.")
    last_update: str = Field(description="ISO 8601: the minute that the price is of.")
    spot_cents: int
    """The agreed price in US cents."""
    slot_unix: int
    """The minute that the price is of, in seconds since 1970."""
    samples: int = Field(description="Returns that the volatility rests on; 0: the preset's value.")
    market_status: Literal["trading", "thin", "stale", "halted"] = Field(
        description="Only at a price that is trading is anything quoted or sold."
    )

    @computed_field
    def slot_at(self) -> str:
        """ISO 8601: the minute that the price is of."""
        return iso(self.slot_unix)


class CreateOption(Request):
    """The published body; the last five fields are ours."""

    type: OptionType
    """Which payoff."""
    strike: Usd
    expiry: WholeMinute
    """On a whole minute: seconds since 1970, or ISO 8601 with a zone."""
    quantity: Bitcoin
    barrier: Usd | None = None
    """Knock-out level in USD per BTC: above the strike up-and-out, below it down-and-out."""
    american: Annotated[bool, Field(strict=True)] = False
    """Whether it may be exercised before its expiry."""
    fixing: FixingText | None = None
    """What settles it; the preset's where it is not given."""
    max_premium_cents: Annotated[int, Field(ge=1, le=MAX_UNIX, strict=True)] | None = Field(
        default=None,
        description="The total_cents that /premium showed, or another limit: at or below it the option is sold at the "
        "premium of the moment, above it nothing is. Without it the premium of the moment is charged, whatever it is.",
    )
    quoted_at_unix: Annotated[int, Field(ge=0, le=MAX_UNIX, strict=True)] | None = Field(
        default=None, description="The quoted_at_unix that /premium showed: an order by an old quote is refused."
    )


class Created(Answer):
    """The published answer, and the exact amounts."""

    option_id: str
    """The option's id."""
    premium: float = Field(description="USD for the whole quantity.")
    taproot_address: str | None = Field(
        description="Where the contract is funded. Null until both parties' keys are known; the option shows it then."
    )
    premium_cents: int
    """The premium for the whole quantity in US cents."""
    premium_sats: int
    """The premium in satoshis."""
    collateral_sats: int
    """What the contract locks up, in satoshis."""


class Option(Answer):
    """An option as it stands."""

    id: str
    """The option's id."""
    state: OptionState
    """Where it stands in its life."""
    type: OptionType
    """Which payoff."""
    strike_cents: int
    """US cents per bitcoin."""
    quantity_centi_btc: int
    """Hundredths of a bitcoin."""
    barrier_cents: int | None
    """US cents per bitcoin; null without a barrier."""
    american: bool
    """Whether it may be exercised before its expiry."""
    expiry_unix: int
    """Seconds since 1970, on a whole minute."""
    fixing: str = Field(description="What settles it: minute, twap:N or median:N.")
    premium_cents: int
    """For the whole quantity in US cents."""
    premium_sats: int
    """The premium in satoshis."""
    collateral_sats: int
    """What the contract locks up, in satoshis."""
    taproot_address: str | None
    """Where the contract is funded; null until both parties' keys are known."""
    funding_txid: str | None
    """The transaction that funded it; null before."""
    created_at_unix: int
    """When it was sold, in seconds since 1970."""

    @computed_field
    def strike(self) -> float:
        """USD per BTC, as in an order."""
        return self.strike_cents / 100

    @computed_field
    def quantity(self) -> float:
        """BTC, as in an order."""
        return self.quantity_centi_btc / 100

    @computed_field
    def barrier(self) -> float | None:
        """USD per BTC, as in an order; null without a barrier."""
        return None if self.barrier_cents is None else self.barrier_cents / 100

    @computed_field
    def expiry(self) -> str:
        """ISO 8601."""
        return iso(self.expiry_unix)

    @computed_field
    def created_at(self) -> str:
        """ISO 8601: when it was sold."""
        return iso(self.created_at_unix)


class StoredPremium(Answer):
    """The newest premium that the premium service stored. The Greeks are per BTC of quantity."""

    option_id: str
    """The option's id."""
    slot_unix: int
    """The minute whose price it rests on, in seconds since 1970."""
    premium_cents: int = Field(description="US cents for the whole quantity; 0 once the barrier was touched.")
    delta: float
    """USD per USD of spot."""
    gamma: float
    """Delta per USD of spot."""
    vega: float
    """USD per percentage point of volatility."""
    theta: float
    """USD per calendar day."""
    rho: float
    """USD per percentage point of the interest rate."""
    priced_at_unix: int
    """When it was stored, in seconds since 1970."""

    @computed_field
    def slot_at(self) -> str:
        """ISO 8601: the minute whose price it rests on."""
        return iso(self.slot_unix)

    @computed_field
    def priced_at(self) -> str:
        """ISO 8601: when it was stored."""
        return iso(self.priced_at_unix)


class Settlement(Answer):
    """A settlement as it stands."""

    id: str
    """The settlement's id."""
    option_id: str
    """The option that it is of."""
    state: SettlementState
    """Where it stands on its way to the chain."""
    reason: str
    """Why it is settled: at its expiry, early, or asked for."""
    slot_unix: int
    """The minute whose price settles it, in seconds since 1970."""
    price_cents: int
    """That price in US cents per bitcoin."""
    payout_cents: int | None = Field(description="What the guest computed, rounded down to a cent; null before it ran.")
    payout_sats: int | None = Field(description="What the guest computed, rounded down to a satoshi.")
    steps: int | None
    """Instructions that the guest program ran."""
    proof_root: str | None
    """Root of the proof's tree, in hex."""
    txid: str | None
    """The transaction that settles it; null before."""
    attempts: int
    """How often a worker has claimed it."""
    last_error: str | None
    """What the last attempt failed by."""
    updated_at_unix: int
    """Its last step, in seconds since 1970."""
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

    @computed_field
    def slot_at(self) -> str:
        """ISO 8601: the minute whose price settles it."""
        return iso(self.slot_unix)

    @computed_field
    def updated_at(self) -> str:
        """ISO 8601: its last step."""
        return iso(self.updated_at_unix)


class SettlementRequested(Answer):
    """An ad hoc settlement that was asked for."""

    option_id: str
    """The option that is to be settled."""
    state: str = Field(description="open, accepted, held or refused.")
    answer: str | None
    """What was answered, in words; null while open."""
    requested_at_unix: int
    """When it was first asked for, in seconds since 1970."""

    @computed_field
    def requested_at(self) -> str:
        """ISO 8601: when it was first asked for."""
        return iso(self.requested_at_unix)


class Event(Answer):
    """One edge that was crossed."""

    id: int
    """Grows with every edge; a stream resumes after it."""
    entity: str
    """Of what kind."""
    entity_id: str
    """Whose edge it is."""
    from_state: str
    """Empty for the first."""
    to_state: str
    """The state that it is in since."""
    at_unix: int
    """When, in seconds since 1970."""
    detail: str
    """Why, where that needs words."""

    @computed_field
    def at(self) -> str:
        """ISO 8601: when."""
        return iso(self.at_unix)


class SettlementEvent(Event):
    """One edge that a settlement crossed, with its amounts as they are known now."""

    payout_sats: int | None = Field(default=None, description="What the guest computed.")
    paid_sats: int | None = Field(default=None, description="What its transaction pays the buyer.")


class Price(Answer):
    """One agreed minute."""

    slot_unix: int
    """The minute, in seconds since 1970."""
    price_cents: int
    """The agreed price in US cents per bitcoin."""
    low_cents: int | None
    """The lowest price in the minute."""
    high_cents: int | None
    """The highest price in the minute."""
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

    @computed_field
    def slot_at(self) -> str:
        """ISO 8601: the minute."""
        return iso(self.slot_unix)

    @computed_field
    def expires_at(self) -> str:
        """ISO 8601: from then on the price is stale."""
        return iso(self.expires_at_unix)


class LatestPrice(Price):
    """The newest agreed minute, and whether it may still be used."""

    market_status: Literal["trading", "thin", "stale", "halted"] = Field(
        description="trading: use it. thin: one market could have bent it. stale: newer minutes have no price. "
        "halted: an operator has paused the feed."
    )


class OptionPage(Answer):
    """Some options, newest first."""

    items: list[Option]
    """The options."""
    next_cursor: str | None
    """Names the next page; null on the last."""


class SettlementPage(Answer):
    """Some settlements, newest first."""

    items: list[Settlement]
    """The settlements."""
    next_cursor: str | None
    """Names the next page; null on the last."""


class DisputeSummary(Answer):
    """A disputed contract under watch, as the list has it."""

    id: str
    """Of its public part, in hex."""
    contract_id: str
    """Of both its halves, in hex, as messages between its sides have it."""
    state: Stage
    """Where the chain shows it."""
    opening_txid: str
    """What opens it."""
    walked_height: int
    """The last block that was looked at for it."""
    moved_height: int | None
    """The block that brought it where it stands; null before its opening."""
    claimed_range: int | None
    """The range that was claimed; null before a claim."""
    deadline_height: int | None
    """The last block that is safe for who is to move; null where nobody has to."""
    created_at_unix: int
    """When it was put under watch, in seconds since 1970."""

    @computed_field
    def created_at(self) -> str:
        """ISO 8601: when it was put under watch."""
        return iso(self.created_at_unix)


class DisputeMove(Answer):
    """What a side can send by itself where a contract stands."""

    party: str
    """The claimant or the verifier."""
    transaction: str
    """What it sends."""
    since_height: int
    """The first block that can hold it."""
    until_height: int | None
    """The last block in which the other side can send nothing beside it; null: it never can."""
    since_unix: int
    """About when that first block comes, at ten minutes a block, in seconds since 1970."""
    until_unix: int | None
    """About when that last block comes."""

    @computed_field
    def since(self) -> str:
        """ISO 8601: about when that first block comes."""
        return iso(self.since_unix)

    @computed_field
    def until(self) -> str | None:
        """ISO 8601: about when that last block comes; null: it never can."""
        return None if self.until_unix is None else iso(self.until_unix)


class DisputeTransaction(Answer):
    """A transaction that brought a contract on."""

    state: Stage
    """Where it brought it."""
    txid: str
    """In display order."""
    height: int
    """Of its block."""


class Dispute(DisputeSummary):
    """A disputed contract under watch."""

    proposal_id: str
    """Of its proposal, in hex: as `btcfi dispute` of both its sides names it."""
    tip_height: int
    """The newest block that is known."""
    lazy: bool
    """Whether a claim shows its digits only once it is challenged."""
    ranges: int
    """How many ranges can be claimed."""
    collateral_sats: int
    """The most that the verifier can be owed."""
    bond_sats: int
    """The claimant's, lost by a false claim."""
    challenge_bond_sats: int
    """The verifier's, lost by a challenge of a right claim; 0 of a contract that is not lazy."""
    claimed_sats: int | None
    """What the claimed range pays the verifier."""
    silence_height: int
    """From here on the verifier may claim silence."""
    refund_height: int
    """From here on the claimant takes back what nobody claimed."""
    dispute_blocks: int
    """Between a claim and its payout."""
    waits_for: str | None
    """Who is to move now; null at an end and before the opening."""
    moves: list[DisputeMove]
    """What each side can still send, the earliest first."""
    transactions: list[DisputeTransaction]
    """What brought it where it stands, the opening first."""


class DisputePage(Answer):
    """Some disputed contracts, newest first."""

    items: list[DisputeSummary]
    """The contracts."""
    next_cursor: str | None
    """Names the next page; null on the last."""


class PricePage(Answer):
    """Some prices, newest first."""

    items: list[Price]
    """The minutes."""
    next_cursor: str | None
    """Names the next page; null on the last."""


class MinuteSubmissions(Answer):
    """What was signed of one minute. Nothing here has to be believed: each submission carries its signature."""

    slot: int
    """The minute, in seconds since 1970."""
    state: Literal["open", "closed", "unsigned", "never_asked", "unknown"] = Field(
        description="Where the round stands: `unsigned` is one of which nothing was signed."
    )
    submissions: list[dict[str, Any]] = Field(
        description="Every field that is signed, and the node's BIP340 signature; the raw responses by their hash."
    )
    report: dict[str, Any] | None = Field(description="What this service concluded, for comparison.")

    @computed_field
    def slot_at(self) -> str:
        """ISO 8601: the minute."""
        return iso(self.slot)


class SubmissionsPage(Answer):
    """Some minutes in their order."""

    feed: str
    """What is priced."""
    newest_slot: int | None = Field(description="The newest minute that has a round.")
    minutes: list[MinuteSubmissions]
    """The minutes."""


class Check(Answer):
    """What a verifier found. A proof that does not hold is an answer, not an error."""

    valid: bool | None
    """Whether the proof holds; null where it was not run again and nothing failed: that is no verdict."""
    depth: Literal["execute", "sample", "paths"]
    """How much was done again."""
    proof_root: str | None
    """Root of the proof's tree, in hex; null for one that does not hold."""
    program: str | None
    """The guest program that it is of."""
    steps: int | None
    """Instructions that it ran; null unless it was run again."""
    output_hex: str | None
    """What it gave, as bytes in hex; null unless it was run again."""
    checks: list[str]
    """What was checked, in order."""
    failed_check: str | None
    """The check that failed, in words; null when none did."""
    no_verdict: str | None
    """Why there is none, in words; null where there is one."""
    steps_checked: list[int] | None
    """Without a verdict: which steps were executed, each alone."""
    chance_to_miss: float | None
    """Without a verdict: the highest chance that one false step was not seen; null: there is no bound."""


class BookRisk(Answer):
    """The writer's book: all options that are not settled."""

    options: int
    """How many."""
    spot_cents: int
    """The agreed price in US cents per bitcoin."""
    volatility: float
    """Per square-root year: 0.65 is 65 %."""
    value_cents: int
    """What the book is worth to its writer in US cents: negative."""
    delta_btc: float
    """Bitcoin."""
    gamma_btc: float = Field(description="Change of delta per 1 % of spot.")
    vega: float
    """USD per percentage point of volatility."""
    theta: float
    """USD per calendar day."""
    rho: float
    """USD per percentage point of the interest rate."""
    required_margin_cents: int
    """US cents that the stress grid asks for."""
    collateral_cents: int
    """US cents that are locked up."""
    liability_cents: int
    """US cents that the options are worth to their buyers."""
    utilisation: float | None
    """Required margin by collateral; null without any."""
    spot_moves: list[float]
    """Of the stress grid: 0.1 is up by 10 %."""
    volatility_moves: list[float]
    """Of the stress grid: 0.25 is up by a quarter."""
    profit_cents: list[list[int]] = Field(description="By volatility move, then spot move, now.")


class NextBlock(Answer):
    """What one of the next blocks would hold, if nothing came any more."""

    number: int
    """1 is the next one."""
    transactions: int
    """How many."""
    vbytes: int
    """Virtual bytes of them."""
    lowest_sats_per_kvb: int
    """Of those that it holds: satoshis per 1,000 virtual bytes; 1 sat/vB is 1,000."""
    middle_sats_per_kvb: int
    """Half of its virtual bytes pay as much or more."""
    highest_sats_per_kvb: int
    """The most."""
    full: bool
    """Whether more waits than it holds."""


class FeeEstimate(Answer):
    """The node's estimate."""

    blocks: int
    """Within which it should be mined."""
    sats_per_kvb: int | None
    """Satoshis per 1,000 virtual bytes; null where the node knows none."""


class DeadlinePayments(Answer):
    """The settlements of one refund height that are proven and in no block."""

    refund_height: int
    """The deadline: from the block after it on the seller's refund is as valid."""
    waiting: int
    """Proven, not built: for want of an attestation, a coin or their turn."""
    in_flight: int
    """Built or sent."""
    put_off: int
    """Of those that wait: for a later block, since the next ones are full of ours."""
    last_turn: int | None
    """Height of the block that is planned to hold the last one that waits; null when none does."""
    late: int
    """Of those that wait: their turn is after the refund height."""
    collateral_sats: int
    """Of all of them."""


class Fees(Answer):
    """The fee market, and what of ours waits for a block: deadline first."""

    tip_height: int
    """Height of the newest block that was walked; 0 before the first."""
    pool_problem: str | None
    """Why the pool is not shown; null when it is."""
    pool_transactions: int | None
    """How many wait in the node's pool."""
    pool_vbytes: int | None
    """Their virtual bytes."""
    relay_sats_per_kvb: int | None
    """Below it the node takes none."""
    estimates: list[FeeEstimate]
    """The node's."""
    next_blocks: list[NextBlock]
    """The next blocks."""
    share_vbytes: int
    """Virtual bytes of each block that our settlements are planned to fill."""
    settlements_in_flight: int
    """Built or sent, and in no block."""
    deadlines: list[DeadlinePayments]
    """By refund height, the earliest first."""


class Health(Answer):
    """Whether the API can do its work."""

    status: Literal["ok", "degraded"]
    """ok, or degraded."""
    database: Literal["ok", "unreachable"]
    """Whether it answers."""
    last_price_age_seconds: int | None
    """By the wall clock: a replay's or a simulation's price counts from when it was agreed; null before the first."""
    market: Literal["live", "simulated"]
    """simulated: prices are replayed or generated, and no market's of now."""
