"""Options, their premiums and their settlements."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

from sqlalchemy import Column, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel, col

from btcfi.adapters.store.spine.machines import Machine, edges
from btcfi.adapters.store.spine.tables import big_integer


class OptionState(StrEnum):
    """Where an option is in its life."""

    CREATED = "CREATED"
    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    EXERCISED = "EXERCISED"
    ABANDONED = "ABANDONED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class OptionRow(SQLModel, table=True):
    """An option: ``CREATED -> ACTIVE -> EXPIRED -> EXERCISED | ABANDONED``.

    A sale that comes to nothing is ``FAILED``, and may be ``CANCELLED``.
    """

    __tablename__: ClassVar[str] = "option"
    __machine__: ClassVar[Machine[OptionState]] = Machine(
        states=OptionState,
        edges=edges(
            (OptionState.CREATED, OptionState.ACTIVE),
            (OptionState.ACTIVE, OptionState.CREATED),  # its funding was reorganised away
            (OptionState.ACTIVE, OptionState.EXPIRED),  # due, or exercised early
            (OptionState.EXPIRED, OptionState.ACTIVE),  # what had moved its collateral on was reorganised away
            (OptionState.EXPIRED, OptionState.EXERCISED),
            (OptionState.EXPIRED, OptionState.ABANDONED),
            ((OptionState.EXERCISED, OptionState.ABANDONED), OptionState.EXPIRED),  # its settlement was
            (OptionState.CREATED, OptionState.FAILED),  # a party refused it, or its expiry passed without a contract
            (OptionState.FAILED, OptionState.CREATED),  # the party took it after all
            (OptionState.FAILED, OptionState.ACTIVE),  # what both had signed was funded after all
            ((OptionState.CREATED, OptionState.FAILED), OptionState.CANCELLED),
            (OptionState.CANCELLED, OptionState.ACTIVE),  # it was given up for a spend that was reorganised away
        ),
        ends=frozenset({OptionState.EXERCISED, OptionState.ABANDONED, OptionState.CANCELLED}),
    )
    __table_args__ = (
        Index("ix_option_due", "state", "expiry_unix"),
        Index("ix_option_funding", "funding_txid"),
        # how people look for some of them, without a scan and a sort of a large book
        Index("ix_option_expiry", "expiry_unix", "id"),
        Index("ix_option_kind_newest", "kind", "created_at_unix", "id"),
        Index("ix_option_style_newest", "american", "created_at_unix", "id"),
        Index("ix_option_writer", "writer", "created_at_unix", "id"),
        Index("ix_option_holder", "holder", "created_at_unix", "id"),
        Index("ix_option_take", "take_id"),
        Index("ix_option_address", "address"),
    )

    id: str = Field(primary_key=True)
    feed: str
    state: str = OptionState.CREATED.value
    kind: int
    strike_cents: int = Field(sa_column=big_integer())
    quantity_centi_btc: int = Field(sa_column=big_integer())
    barrier_cents: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    american: bool = False
    expiry_unix: int = Field(sa_column=big_integer())
    """The minute slot whose agreed price settles the option."""
    premium_cents: int = Field(sa_column=big_integer())
    """The whole premium of the option, fixed at creation."""
    premium_sats: int = Field(sa_column=big_integer())
    collateral_sats: int = Field(sa_column=big_integer())
    """What the guest caps the payout by."""
    volatility_bps: int
    """Annual volatility at creation: the guest's input for the early exercise tree."""
    rate_bps: int
    preset: str
    preset_sha256: str
    program: str
    program_sha256: str
    created_at_unix: int = Field(sa_column=big_integer())
    listed_slot: int = Field(sa_column=big_integer())
    """The newest priced slot at creation; the barrier watches every slot after it."""
    expiry_height: int | None = None
    refund_height: int | None = None
    address: str | None = None
    funding_txid: str | None = None
    """Display order. The funding outpoint is output 0 of it."""
    contract: str | None = Field(default=None, sa_column=Column(Text))
    """JSON of the contract's public parts: keys, scripts, the oracle event."""
    last_error: str | None = Field(default=None, sa_column=Column(Text))
    updated_at_unix: int = Field(sa_column=big_integer())
    fixing: str | None = None
    """What settles it: ``minute``, ``twap:30``. NULL: an earlier release's option, its minute rounded down."""
    writer: str | None = None
    """The account that wrote it. NULL, as the next one: of the two mailbox folders that were there before accounts."""
    holder: str | None = None
    """The account that bought it."""
    take_id: str | None = None
    """The take of a firm offer that made it; NULL: an order at the service's own price."""


class PremiumRow(SQLModel, table=True):
    """The newest premium and Greeks of an open option."""

    __tablename__: ClassVar[str] = "premium"
    __table_args__ = (Index("ix_premium_newest", "priced_at_unix", "option_id"),)

    option_id: str = Field(primary_key=True)
    slot: int = Field(sa_column=big_integer())
    premium_cents: int = Field(sa_column=big_integer())
    delta: float
    gamma: float
    vega: float
    theta: float
    rho: float
    priced_at_unix: int = Field(sa_column=big_integer())


OPEN_OPTIONS: Final = OptionRow.__machine__.pending
"""States that something may still follow on: what the chain, the oracles or the parties say is looked at."""

LOCKED_OPTIONS: Final = (OptionState.ACTIVE, OptionState.EXPIRED)
"""States in which the chain holds an option's collateral, and its seller owes something."""

UNFUNDED_OPTIONS: Final = (OptionState.CREATED, OptionState.FAILED)
"""States in which nothing is on the chain yet: the sale may be cancelled, or be funded."""

FUNDABLE_OPTIONS: Final = (*UNFUNDED_OPTIONS, OptionState.CANCELLED)
"""States from which a funding that a block holds makes an option: whatever was said of it, the money is there."""

SETTLED_OPTIONS: Final = (OptionState.EXERCISED, OptionState.ABANDONED)
"""States in which an option was settled."""

UNEXPIRED_OPTIONS: Final = (OptionState.CREATED, OptionState.ACTIVE)
"""States in which an option has a premium."""


class SettlementState(StrEnum):
    """Where a settlement is on its way."""

    DUE = "due"
    CLAIMED = "claimed"
    EXECUTED = "executed"
    PROVEN = "proven"
    BUILT = "built"
    BROADCAST = "broadcast"
    CONFIRMED = "confirmed"
    PARKED = "parked"


UNSENT_SETTLEMENTS: Final = (
    SettlementState.DUE, SettlementState.CLAIMED, SettlementState.EXECUTED, SettlementState.PROVEN,
    SettlementState.BUILT,
)  # fmt: skip
"""States in which no node has the payment yet; nothing but an operator moves a parked one."""


class SettlementRow(SQLModel, table=True):
    """One option's settlement: ``due -> claimed -> executed -> proven -> built -> broadcast -> confirmed | parked``."""

    __tablename__: ClassVar[str] = "settlement"
    __machine__: ClassVar[Machine[SettlementState]] = Machine(
        states=SettlementState,
        edges=edges(
            ((SettlementState.DUE, SettlementState.CLAIMED), SettlementState.CLAIMED),  # a lapsed lease is claimed anew
            (SettlementState.CLAIMED, SettlementState.EXECUTED),
            ((SettlementState.CLAIMED, SettlementState.EXECUTED), SettlementState.PROVEN),
            (SettlementState.PROVEN, SettlementState.BUILT),
            (SettlementState.BUILT, SettlementState.BROADCAST),
            (SettlementState.BROADCAST, SettlementState.CONFIRMED),
            (SettlementState.CONFIRMED, SettlementState.BROADCAST),  # reorganised away
            # its batch was given up: it goes by another, or by its CET
            ((SettlementState.BUILT, SettlementState.BROADCAST), SettlementState.PROVEN),
            (UNSENT_SETTLEMENTS, SettlementState.PARKED),
            # given back with its error; an early exercise nobody co-signed; requeued by an operator
            ((SettlementState.CLAIMED, SettlementState.PROVEN, SettlementState.PARKED), SettlementState.DUE),
        ),
        ends=frozenset({SettlementState.CONFIRMED}),
    )
    __table_args__ = (UniqueConstraint("option_id"), Index("ix_settlement_state", "state", "lease_until_unix"))

    id: str = Field(primary_key=True)
    option_id: str = Field(foreign_key="option.id")
    state: str = SettlementState.DUE.value
    reason: str
    """``expiry`` or ``early_exercise``."""
    slot: int = Field(sa_column=big_integer())
    """The minute with which its fixing was known."""
    price_cents: int = Field(sa_column=big_integer())
    input_hex: str
    """The guest's input, complete: anybody can run it again."""
    attempts: int = 0
    fence: int = 0
    lease_owner: str | None = None
    lease_until_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    retry_at_unix: int = Field(default=0, sa_column=big_integer())
    last_error: str | None = Field(default=None, sa_column=Column(Text))
    payout_cents: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    payout_sats: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """What the guest computed."""
    exercise_type: int | None = None
    steps: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    parts: int | None = None
    """How many subtrees the proof is built from; None when one worker builds it whole."""
    proof_root: str | None = None
    proof_sha256: str | None = None
    """Blob of the proof file."""
    txid: str | None = None
    created_at_unix: int = Field(sa_column=big_integer())
    broadcast_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    updated_at_unix: int = Field(sa_column=big_integer())
    window: str | None = Field(default=None, sa_column=Column(Text))
    """JSON of every minute that its price is made of, for the proof file; NULL: of an earlier release's option."""
    paid_sats: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """What its transaction pays the buyer (``btcfi.contracts.paid``); NULL before there is one, as the next two."""
    returned_sats: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """What it pays the seller."""
    fee_sats: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """Its own fee, neither the anchor's value nor its child's fee."""


class ProofPartRow(SQLModel, table=True):
    """The root of one subtree of a long trace. Unique, so a repeated part changes nothing."""

    __tablename__: ClassVar[str] = "proof_part"

    settlement_id: str = Field(primary_key=True)
    part: int = Field(primary_key=True)
    root: str


class RequestState(StrEnum):
    """Of a request; asking again opens one that was not accepted."""

    OPEN = "open"
    ACCEPTED = "accepted"
    HELD = "held"
    REFUSED = "refused"


class SettlementRequestRow(SQLModel, table=True):
    """An operator's ad hoc request to settle an option: ``open -> accepted | held | refused``."""

    __tablename__: ClassVar[str] = "settlement_request"
    __table_args__ = (Index("ix_settlement_request_state", "state"),)

    option_id: str = Field(primary_key=True)
    state: str = RequestState.OPEN.value
    requested_by: str
    requested_at_unix: int = Field(sa_column=big_integer())
    answer: str | None = Field(default=None, sa_column=Column(Text))
    answered_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))


# newest first is how people read lists; without these a page of a large book is a scan and a sort
Index("ix_option_newest", col(OptionRow.created_at_unix), col(OptionRow.id))
Index("ix_option_state_newest", col(OptionRow.state), col(OptionRow.created_at_unix), col(OptionRow.id))
Index("ix_settlement_newest", col(SettlementRow.created_at_unix), col(SettlementRow.id))
Index("ix_settlement_state_newest", col(SettlementRow.state), col(SettlementRow.created_at_unix), col(SettlementRow.id))
