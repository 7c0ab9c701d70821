"""The tables: what is true. Everything that a queue can lose or repeat is decided here.

Money and prices are integers whose unit stands in the column's name; times are unix seconds; states are text, and the
edges between them stand in ``edges.py``.
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field, SQLModel


def _big(*, nullable: bool = False, primary_key: bool = False, index: bool = False) -> Column[int]:
    return Column(BigInteger, nullable=nullable, primary_key=primary_key, index=index)


class RoundRow(SQLModel, table=True):
    """One feed's minute: ``open -> priced | void``."""

    __tablename__: ClassVar[str] = "round"
    __table_args__ = (UniqueConstraint("feed", "slot"), Index("ix_round_state", "state", "slot"))

    id: int | None = Field(default=None, primary_key=True)
    feed: str
    slot: int = Field(sa_column=_big())
    state: str = "open"
    price_cents: int | None = Field(default=None, sa_column=_big(nullable=True))
    low_cents: int | None = Field(default=None, sa_column=_big(nullable=True))
    high_cents: int | None = Field(default=None, sa_column=_big(nullable=True))
    report: str | None = Field(default=None, sa_column=Column(Text))
    """JSON: who was used, who was dropped and why, or why the round is void."""
    attempts: int = 1
    deadline_unix: int = Field(sa_column=_big())
    """When the reconciler looks whether the round can be closed without its chord."""
    opened_at_unix: int = Field(sa_column=_big())
    closed_at_unix: int | None = Field(default=None, sa_column=_big(nullable=True))


class QuoteRow(SQLModel, table=True):
    """What one venue said for one slot: a quote, or a reason why there is none."""

    __tablename__: ClassVar[str] = "quote"
    __table_args__ = (UniqueConstraint("feed", "slot", "venue"),)

    id: int | None = Field(default=None, primary_key=True)
    feed: str
    slot: int = Field(sa_column=_big())
    venue: str
    ok: bool
    body: str = Field(sa_column=Column(Text, nullable=False))
    """JSON of the Quote or the Missing record."""
    evidence_sha256: str | None = None
    fetched_at_unix: int = Field(sa_column=_big())


class BlobRow(SQLModel, table=True):
    """Bytes by content: proofs, inputs, raw responses. Messages carry the hash, never the bytes."""

    __tablename__: ClassVar[str] = "blob"

    sha256: str = Field(primary_key=True)
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at_unix: int = Field(sa_column=_big(index=True))


class OptionRow(SQLModel, table=True):
    """An option: ``CREATED -> ACTIVE -> EXPIRED -> EXERCISED | ABANDONED``."""

    __tablename__: ClassVar[str] = "option"
    __table_args__ = (Index("ix_option_due", "state", "expiry_unix"), Index("ix_option_funding", "funding_txid"))

    id: str = Field(primary_key=True)
    feed: str
    state: str = "CREATED"
    kind: int
    strike_cents: int = Field(sa_column=_big())
    quantity_centi_btc: int = Field(sa_column=_big())
    barrier_cents: int | None = Field(default=None, sa_column=_big(nullable=True))
    american: bool = False
    expiry_unix: int = Field(sa_column=_big())
    """The minute slot whose agreed price settles the option."""
    premium_cents: int = Field(sa_column=_big())
    """The whole premium of the option, fixed at creation."""
    premium_sats: int = Field(sa_column=_big())
    collateral_sats: int = Field(sa_column=_big())
    """What the guest caps the payout by."""
    volatility_bps: int
    """Annual volatility at creation: the guest's input for the early exercise tree."""
    rate_bps: int
    preset: str
    preset_sha256: str
    program: str
    program_sha256: str
    created_at_unix: int = Field(sa_column=_big())
    listed_slot: int = Field(sa_column=_big())
    """The newest priced slot at creation; the barrier watches every slot after it."""
    expiry_height: int | None = None
    refund_height: int | None = None
    address: str | None = None
    funding_txid: str | None = None
    """Display order. The funding outpoint is output 0 of it."""
    contract: str | None = Field(default=None, sa_column=Column(Text))
    """JSON of the contract's public parts: keys, scripts, the oracle event."""
    last_error: str | None = Field(default=None, sa_column=Column(Text))
    updated_at_unix: int = Field(sa_column=_big())


class PremiumRow(SQLModel, table=True):
    """The newest premium and Greeks of an open option."""

    __tablename__: ClassVar[str] = "premium"

    option_id: str = Field(primary_key=True)
    slot: int = Field(sa_column=_big())
    premium_cents: int = Field(sa_column=_big())
    delta: float
    gamma: float
    vega: float
    theta: float
    rho: float
    priced_at_unix: int = Field(sa_column=_big())


class SettlementRow(SQLModel, table=True):
    """One option's settlement: ``due -> claimed -> executed -> proven -> built -> broadcast -> confirmed | parked``."""

    __tablename__: ClassVar[str] = "settlement"
    __table_args__ = (UniqueConstraint("option_id"), Index("ix_settlement_state", "state", "lease_until_unix"))

    id: str = Field(primary_key=True)
    option_id: str = Field(foreign_key="option.id")
    state: str = "due"
    reason: str
    """``expiry`` or ``early_exercise``."""
    slot: int = Field(sa_column=_big())
    price_cents: int = Field(sa_column=_big())
    input_hex: str
    """The guest's input, complete: anybody can run it again."""
    attempts: int = 0
    fence: int = 0
    lease_owner: str | None = None
    lease_until_unix: int | None = Field(default=None, sa_column=_big(nullable=True))
    retry_at_unix: int = Field(default=0, sa_column=_big())
    last_error: str | None = Field(default=None, sa_column=Column(Text))
    payout_cents: int | None = Field(default=None, sa_column=_big(nullable=True))
    payout_sats: int | None = Field(default=None, sa_column=_big(nullable=True))
    exercise_type: int | None = None
    steps: int | None = Field(default=None, sa_column=_big(nullable=True))
    parts: int | None = None
    """How many subtrees the proof is built from; None when one worker builds it whole."""
    proof_root: str | None = None
    proof_sha256: str | None = None
    """Blob of the proof file."""
    txid: str | None = None
    created_at_unix: int = Field(sa_column=_big())
    broadcast_at_unix: int | None = Field(default=None, sa_column=_big(nullable=True))
    updated_at_unix: int = Field(sa_column=_big())


class ProofPartRow(SQLModel, table=True):
    """The root of one subtree of a long trace. Unique, so a repeated part changes nothing."""

    __tablename__: ClassVar[str] = "proof_part"

    settlement_id: str = Field(primary_key=True)
    part: int = Field(primary_key=True)
    root: str


class SettlementRequestRow(SQLModel, table=True):
    """An operator's ad hoc request to settle an option: ``open -> accepted | held | refused``."""

    __tablename__: ClassVar[str] = "settlement_request"

    option_id: str = Field(primary_key=True)
    state: str = "open"
    requested_by: str
    requested_at_unix: int = Field(sa_column=_big())
    answer: str | None = Field(default=None, sa_column=Column(Text))
    answered_at_unix: int | None = Field(default=None, sa_column=_big(nullable=True))


class TransactionRow(SQLModel, table=True):
    """A transaction of ours, stored before it is sent: ``built -> broadcast -> confirmed -> final``.

    Besides, ``conflicted``: somebody else spent its input; ``replaced``: ours that pays more stands for it.
    """

    __tablename__: ClassVar[str] = "chain_transaction"
    __table_args__ = (UniqueConstraint("purpose", "option_id"), Index("ix_transaction_state", "state"))

    txid: str = Field(primary_key=True)
    """Display order."""
    purpose: str
    """``funding``, ``settlement`` (a CET or a close), ``child`` (its fee), ``outside``, ``split`` or ``anchor``."""
    option_id: str
    """For a split or an anchor, its own txid."""
    state: str = "built"
    raw_hex: str = Field(sa_column=Column(Text, nullable=False))
    spends: str
    """The watched outpoint, ``txid:vout`` in display order."""
    fee_sats: int = Field(sa_column=_big())
    built_height: int | None = None
    """The newest block that was walked when its first version was built: how long it has waited."""
    height: int | None = None
    """Of its block; of its rival's while it is conflicted."""
    block_hash: str | None = None
    last_error: str | None = Field(default=None, sa_column=Column(Text))
    created_at_unix: int = Field(sa_column=_big())
    updated_at_unix: int = Field(sa_column=_big())


class WalletOutpointRow(SQLModel, table=True):
    """An output that the service's own wallet can spend: ``available -> reserved -> spent``."""

    __tablename__: ClassVar[str] = "wallet_outpoint"
    __table_args__ = (Index("ix_wallet_outpoint_pick", "party", "state", "value_sats"),)

    outpoint: str = Field(primary_key=True)
    party: str
    value_sats: int = Field(sa_column=_big())
    mature_height: int
    """First block height that may hold a spend of it: a coinbase needs 100 confirmations."""
    height: int | None = None
    """Of its block; None for what was walked before this was kept."""
    state: str = "available"
    reserved_by: str | None = None


class BlockRow(SQLModel, table=True):
    """The chain as we have walked it, so that a reorganisation is unwound block by block."""

    __tablename__: ClassVar[str] = "block"

    height: int = Field(primary_key=True)
    hash: str


class EventRow(SQLModel, table=True):
    """Every edge that was crossed, in order; replaying them gives the states."""

    __tablename__: ClassVar[str] = "event"
    __table_args__ = (Index("ix_event_entity", "entity", "entity_id"),)

    id: int | None = Field(default=None, primary_key=True)
    entity: str
    entity_id: str
    from_state: str
    to_state: str
    fence: int = 0
    at_unix: int = Field(sa_column=_big())
    detail: str = Field(default="", sa_column=Column(Text, nullable=False))


class OutboxRow(SQLModel, table=True):
    """Work to publish, written in the transaction that made it necessary. Its id becomes the task id."""

    __tablename__: ClassVar[str] = "outbox"
    __table_args__ = (Index("ix_outbox_unpublished", "published_at_unix", "created_at_unix"),)

    id: str = Field(primary_key=True)
    flow: str
    """Name of a canvas in tasks/pipeline.py."""
    arguments: str
    """JSON list, ids only."""
    created_at_unix: int = Field(sa_column=_big())
    published_at_unix: int | None = Field(default=None, sa_column=_big(nullable=True))


class CanaryRow(SQLModel, table=True):
    """When a queue last proved that it is consumed, not only connected."""

    __tablename__: ClassVar[str] = "canary"

    queue: str = Field(primary_key=True)
    seen_at_unix: int = Field(sa_column=_big())


class CounterRow(SQLModel, table=True):
    """Things worth counting that change no state: stopped duplicates, repairs."""

    __tablename__: ClassVar[str] = "counter"

    name: str = Field(primary_key=True)
    value: int = Field(default=0, sa_column=_big())
