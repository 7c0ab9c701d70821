"""Weekly swaps: what is listed, what was posted, whose margin is where, and each book's settlement of each week.

A name of a row is made of what it is of: ``BTCUSD``, ``BTCUSD/12`` (a week), ``BTCUSD/ann`` (a book), ``BTCUSD/ann/3``
(a subcontract).
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from sqlalchemy import Column, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.machines import Machine, edges
from btcfi.adapters.store.spine.tables import big_integer
from btcfi.swaps.book import BookStatus


class SwapState(StrEnum):
    """Of a contract."""

    OPEN = "open"
    PAUSED = "paused"
    """No takes."""


class WeekState(StrEnum):
    """Of a contract's week, from the post that ended it on."""

    POSTED = "posted"
    COMPUTED = "computed"
    """Its returns are; books are settled by them."""
    SETTLED = "settled"
    """Every open book has settled it."""
    PASSED = "passed"
    """Not by all before the next week was over: those books were silent for longer than that."""


class SubcontractState(StrEnum):
    """Of a subcontract: the engine's states, and that its margin is in its taker's balance."""

    PENDING = "pending"
    ACTIVE = "active"
    TERMINATED = "terminated"
    DEFAULTED = "defaulted"
    REDEEMED = "redeemed"


class SwapRow(SQLModel, table=True):
    """One asset's contract, with the rates of the week that runs and those that are proposed for the next."""

    __tablename__: ClassVar[str] = "swap"
    __machine__: ClassVar[Machine[SwapState]] = Machine(
        states=SwapState,
        edges=edges((SwapState.OPEN, SwapState.PAUSED), (SwapState.PAUSED, SwapState.OPEN)),
        ends=frozenset(SwapState),
    )

    id: str = Field(primary_key=True)
    """Such as ``BTCUSD``."""
    state: str = SwapState.OPEN.value
    asset: str
    quote: str
    leverage_hundredths: int
    target_ppm: int
    basis_ppm: int
    proposed_target_ppm: int | None = None
    """NULL: no others are proposed."""
    proposed_basis_ppm: int | None = None
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())


class SwapBoardRow(SQLModel, table=True):
    """Where the oracle's posts stand: one row. Who posts or corrects holds it; who acts upon the prices shares it."""

    __tablename__: ClassVar[str] = "swap_board"

    id: int = Field(primary_key=True)
    """1."""
    week: int = 0
    day: str = ""
    """Of the latest post, in New York, as ``2026-11-25``; empty before the first."""
    posted_at_unix: int = Field(default=0, sa_column=big_integer())
    changed_at_unix: int = Field(default=0, sa_column=big_integer())
    settlement_at_unix: int = Field(default=0, sa_column=big_integer())


class SwapPriceRow(SQLModel, table=True):
    """One contract's prices of a day of a week, in millionths of the quote."""

    __tablename__: ClassVar[str] = "swap_price"

    week: int = Field(primary_key=True)
    slot: int = Field(primary_key=True)
    """0: the settlement before; then each business day."""
    contract: str = Field(primary_key=True)
    asset_millionths: int = Field(sa_column=big_integer())
    margin_millionths: int = Field(sa_column=big_integer())
    day: str
    corrected: bool = False


class SwapQuoteRow(SQLModel, table=True):
    """An asset's price of a day that is not read from our own agreed minutes, and who brought it."""

    __tablename__: ClassVar[str] = "swap_quote"

    day: str = Field(primary_key=True)
    contract: str = Field(primary_key=True)
    asset_millionths: int = Field(sa_column=big_integer())
    brought_by: str
    at_unix: int = Field(sa_column=big_integer())


class SwapWeekRow(SQLModel, table=True):
    """One contract's week that is over: its rates, its returns, and since when books may be settled by them."""

    __tablename__: ClassVar[str] = "swap_week"
    __machine__: ClassVar[Machine[WeekState]] = Machine(
        states=WeekState,
        edges=edges(
            (WeekState.POSTED, WeekState.COMPUTED),
            (WeekState.COMPUTED, WeekState.COMPUTED),
            (WeekState.COMPUTED, WeekState.SETTLED),
            ((WeekState.POSTED, WeekState.COMPUTED), WeekState.PASSED),
        ),
        ends=frozenset({WeekState.SETTLED, WeekState.PASSED}),
    )
    __table_args__ = (UniqueConstraint("contract", "week"), Index("ix_swap_week_state", "state"))

    id: str = Field(primary_key=True)
    state: str = WeekState.POSTED.value
    contract: str
    week: int
    target_ppm: int | None = None
    basis_ppm: int | None = None
    days: int | None = None
    returns: str | None = Field(default=None, sa_column=Column(Text))
    """JSON: ``[slot, side, numerator, denominator]``, numbers as text; a part of the required margin."""
    computed_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    chain_time_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """The chain's median time when books were last let settle: by it the hours after a post are counted."""
    claimed_until_unix: int = Field(default=0, sa_column=big_integer())
    """Before that nobody starts its settlements again."""
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())


class SwapBookRow(SQLModel, table=True):
    """One provider's book of one contract; every act upon it holds this row."""

    __tablename__: ClassVar[str] = "swap_book"
    __machine__: ClassVar[Machine[BookStatus]] = Machine(
        states=BookStatus,
        edges=edges(
            (BookStatus.OPEN, BookStatus.PROVIDER_DEFAULTED),
            (BookStatus.OPEN, BookStatus.INACTIVE),
        ),
        ends=frozenset({BookStatus.PROVIDER_DEFAULTED, BookStatus.INACTIVE}),
    )
    __table_args__ = (
        UniqueConstraint("contract", "provider"),
        Index("ix_swap_book_state", "contract", "state", "last_settle_at_unix"),
        Index("ix_swap_book_provider", "provider"),
    )

    id: str = Field(primary_key=True)
    state: str = BookStatus.OPEN.value
    contract: str
    provider: str
    margin_sats: int = Field(sa_column=big_integer())
    minimum_take_sats: int = Field(sa_column=big_integer())
    next_number: int = 1
    netted_sats: int = Field(sa_column=big_integer())
    last_settle_at_unix: int = Field(sa_column=big_integer())
    weeks: int = 0
    """That were settled."""
    paid_in_sats: int = Field(default=0, sa_column=big_integer())
    """By everybody, ever."""
    burned_sats: int = Field(default=0, sa_column=big_integer())
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())


class SwapSubcontractRow(SQLModel, table=True):
    """One taker's position in a book."""

    __tablename__: ClassVar[str] = "swap_subcontract"
    __machine__: ClassVar[Machine[SubcontractState]] = Machine(
        states=SubcontractState,
        edges=edges(
            (SubcontractState.PENDING, SubcontractState.ACTIVE),
            ((SubcontractState.PENDING, SubcontractState.ACTIVE), SubcontractState.TERMINATED),
            ((SubcontractState.PENDING, SubcontractState.ACTIVE), SubcontractState.DEFAULTED),
            ((SubcontractState.TERMINATED, SubcontractState.DEFAULTED), SubcontractState.REDEEMED),
        ),
        ends=frozenset({SubcontractState.REDEEMED}),
    )
    __table_args__ = (
        UniqueConstraint("book_id", "number"),
        Index("ix_swap_subcontract_book", "book_id", "state"),
        Index("ix_swap_subcontract_taker", "taker", "state"),
        Index("ix_swap_subcontract_state", "state"),
    )

    id: str = Field(primary_key=True)
    state: str = SubcontractState.PENDING.value
    book_id: str
    number: int
    taker: str
    side: int
    """1 long, -1 short: the taker's."""
    required_sats: int = Field(sa_column=big_integer())
    margin_sats: int = Field(sa_column=big_integer())
    taken_at_unix: int = Field(sa_column=big_integer())
    start_week: int | None = None
    start_slot: int | None = None
    settled_once: bool = False
    cancelled_by: str | None = None
    admin_cancelled: bool = False
    taker_burned: bool = False
    provider_burned: bool = False
    updated_at_unix: int = Field(sa_column=big_integer())


class SwapBalanceRow(SQLModel, table=True):
    """What an owner may withdraw, and has."""

    __tablename__: ClassVar[str] = "swap_balance"

    owner: str = Field(primary_key=True)
    amount_sats: int = Field(sa_column=big_integer())
    paid_out_sats: int = Field(default=0, sa_column=big_integer())


class SwapSettlementRow(SQLModel, table=True):
    """A book's settlement of a week: the key is both, so there is one."""

    __tablename__: ClassVar[str] = "swap_settlement"
    __table_args__ = (Index("ix_swap_settlement_week", "week", "book_id"),)

    book_id: str = Field(primary_key=True)
    week: int = Field(primary_key=True)
    burned_sats: int = Field(sa_column=big_integer())
    fees_sats: int = Field(sa_column=big_integer())
    provider_margin_sats: int = Field(sa_column=big_integer())
    """After it."""
    profits: str = Field(sa_column=Column(Text, nullable=False))
    """JSON: each subcontract's profit in satoshis, by number."""
    credits: str = Field(sa_column=Column(Text, nullable=False))
    """JSON: what was credited of them, by number: less where losers burned."""
    settled_at_unix: int = Field(sa_column=big_integer())


class SwapEventRow(SQLModel, table=True):
    """What each action did, in order."""

    __tablename__: ClassVar[str] = "swap_event"
    __table_args__ = (Index("ix_swap_event_book", "contract", "provider", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    name: str
    contract: str = ""
    provider: str = ""
    """Empty: of no one book."""
    fields: str = Field(sa_column=Column(Text, nullable=False))
    """JSON."""
    at_unix: int = Field(sa_column=big_integer())
