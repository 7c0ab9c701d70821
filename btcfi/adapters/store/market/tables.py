"""Accounts, letters on their way, firm offers and takes."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

from sqlalchemy import Column, Index, LargeBinary, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.machines import Machine, edges
from btcfi.adapters.store.spine.tables import big_integer

DESK: Final = ""
"""The service, where a letter's row names its sender or its recipient: NULL would not be equal to itself."""


class Carrier(StrEnum):
    """How an account's messages travel."""

    LETTERS = "letters"
    """Sealed, over HTTP."""
    FOLDER = "folder"
    """As files in a mailbox folder of this machine: the two parties that were there before accounts were."""


class AccountState(StrEnum):
    """Whether an account may do anything new."""

    OPEN = "open"
    SUSPENDED = "suspended"


class AccountRow(SQLModel, table=True):
    """Who may offer, take and own: an identity, its keys of every day, and the registration that vouches for them."""

    __tablename__: ClassVar[str] = "account"
    __table_args__ = (UniqueConstraint("name"), Index("ix_account_newest", "joined_at_unix", "id"))

    id: str = Field(primary_key=True)
    """The identity key, x-only, hex."""
    name: str
    request_key: str
    box_key: str
    number: int
    """Of the registration: a higher one replaces the keys."""
    registration: str = Field(sa_column=Column(Text, nullable=False))
    """JSON, signed by the identity."""
    carrier: str = Carrier.LETTERS.value
    state: str = AccountState.OPEN.value
    requests_per_minute: int
    joined_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())


class LetterRow(SQLModel, table=True):
    """A sealed letter, from an account to the service or back; kept after it was handled, so that none comes twice."""

    __tablename__: ClassVar[str] = "letter"
    __table_args__ = (
        UniqueConstraint("sender", "recipient", "name"),
        Index("ix_letter_waiting", "recipient", "id", sqlite_where=text("handled_at_unix IS NULL"),
              postgresql_where=text("handled_at_unix IS NULL")),
        Index("ix_letter_unhandled_of", "sender", "id", sqlite_where=text("handled_at_unix IS NULL"),
              postgresql_where=text("handled_at_unix IS NULL")),
        Index("ix_letter_handled", "handled_at_unix"),
        # an id is a cursor: one that was handed out is never another letter's
        {"sqlite_autoincrement": True},
    )  # fmt: skip

    id: int | None = Field(default=None, primary_key=True)
    sender: str
    """An account, or DESK."""
    recipient: str
    """An account, or DESK."""
    name: str
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sent_at_unix: int = Field(sa_column=big_integer())
    handled_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))


class OfferState(StrEnum):
    """Where a firm offer is in its life."""

    OPEN = "open"
    TAKEN = "taken"
    """Less is left of it than its least take."""
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    BROKEN = "broken"
    """Its maker did not sign what was taken of it."""


MOVES: Final = "state = 'open' AND moves_at_unix IS NOT NULL"


class FirmOfferRow(SQLModel, table=True):
    """A maker's offer: ``open -> taken | withdrawn | expired | broken``; open again when a take of it fails."""

    __tablename__: ClassVar[str] = "firm_offer"
    __machine__: ClassVar[Machine[OfferState]] = Machine(
        states=OfferState,
        edges=edges(
            (OfferState.OPEN, OfferState.TAKEN),
            (OfferState.TAKEN, OfferState.OPEN),  # a take of it failed, and its quantity is there again
            ((OfferState.OPEN, OfferState.TAKEN), OfferState.WITHDRAWN),
            ((OfferState.OPEN, OfferState.TAKEN), OfferState.EXPIRED),
            ((OfferState.OPEN, OfferState.TAKEN, OfferState.WITHDRAWN, OfferState.EXPIRED), OfferState.BROKEN),
        ),
        ends=frozenset({OfferState.TAKEN, OfferState.WITHDRAWN, OfferState.EXPIRED, OfferState.BROKEN}),
    )
    __table_args__ = (
        UniqueConstraint("account_id", "number"),
        # the open ones are few among all that ever were: each way to look for them reads no other
        Index("ix_firm_offer_book", "instrument", "side", "price_sats", "rank", sqlite_where=text("state = 'open'"),
              postgresql_where=text("state = 'open'")),
        Index("ix_firm_offer_chain", "expiry_unix", sqlite_where=text("state = 'open'"),
              postgresql_where=text("state = 'open'")),
        Index("ix_firm_offer_lapsing", "valid_until_unix", sqlite_where=text("state = 'open'"),
              postgresql_where=text("state = 'open'")),
        Index("ix_firm_offer_open_of", "account_id", "id", sqlite_where=text("state = 'open'"),
              postgresql_where=text("state = 'open'")),
        Index("ix_firm_offer_taken_of", "account_id", "valid_until_unix", sqlite_where=text("state = 'taken'"),
              postgresql_where=text("state = 'taken'")),
        Index("ix_firm_offer_moving", "moves_at_unix", sqlite_where=text(MOVES), postgresql_where=text(MOVES)),
        Index("ix_firm_offer_answering", "request_id", sqlite_where=text("request_id IS NOT NULL"),
              postgresql_where=text("request_id IS NOT NULL")),
        Index("ix_firm_offer_of", "account_id", "created_at_unix", "id"),
        Index("ix_firm_offer_newest", "created_at_unix", "id"),
        Index("ix_firm_offer_state", "state"),
    )  # fmt: skip

    id: str = Field(primary_key=True)
    """What its maker signed, hex."""
    account_id: str = Field(foreign_key="account.id")
    instrument: str
    expiry_unix: int = Field(sa_column=big_integer())
    side: str
    """``bid`` or ``ask``: what the maker does."""
    price_sats: int = Field(sa_column=big_integer())
    """For one bitcoin; of an auction, at the step that the clock's tick has seen last."""
    price_cents: int = Field(sa_column=big_integer())
    """For one bitcoin, likewise."""
    quantity: int = Field(sa_column=big_integer())
    """Hundredths of a bitcoin, as the next two."""
    minimum: int = Field(sa_column=big_integer())
    remaining: int = Field(sa_column=big_integer())
    """The quantity less every take that has not failed."""
    valid_until_unix: int = Field(sa_column=big_integer())
    taker: str | None = None
    """The one account that may take it; NULL: any."""
    request_id: str | None = None
    """The request that it answers."""
    begins_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """Of an auction: before it the offer is nobody's to see or take. NULL: its price does not move."""
    moves_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """When the two prices are the next step's; NULL: they stay."""
    number: int = Field(sa_column=big_integer())
    """The maker's own."""
    body: str = Field(sa_column=Column(Text, nullable=False))
    """JSON, signed by the maker."""
    state: str = OfferState.OPEN.value
    rank: int = Field(sa_column=big_integer())
    """Its place among offers of one price: the lowest is taken first."""
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())


class RequestState(StrEnum):
    """Where a request for quotes is in its life."""

    OPEN = "open"
    FILLED = "filled"
    """As much of its answers was taken as it asked for."""
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class QuoteRequestRow(SQLModel, table=True):
    """What an account asks quotes for: ``open -> filled | withdrawn | expired``."""

    __tablename__: ClassVar[str] = "quote_request"
    __machine__: ClassVar[Machine[RequestState]] = Machine(
        states=RequestState,
        edges=edges(
            (RequestState.OPEN, RequestState.FILLED),
            (RequestState.OPEN, RequestState.WITHDRAWN),
            (RequestState.OPEN, RequestState.EXPIRED),
        ),
        ends=frozenset({RequestState.FILLED, RequestState.WITHDRAWN, RequestState.EXPIRED}),
    )
    __table_args__ = (
        UniqueConstraint("account_id", "number"),
        Index("ix_quote_request_open", "created_at_unix", "id", sqlite_where=text("state = 'open'"),
              postgresql_where=text("state = 'open'")),
        Index("ix_quote_request_lapsing", "valid_until_unix", sqlite_where=text("state = 'open'"),
              postgresql_where=text("state = 'open'")),
        Index("ix_quote_request_of", "account_id", "created_at_unix", "id"),
        Index("ix_quote_request_newest", "created_at_unix", "id"),
        Index("ix_quote_request_state", "state"),
    )  # fmt: skip

    id: str = Field(primary_key=True)
    """What its taker signed, hex."""
    account_id: str = Field(foreign_key="account.id")
    """Who asks, and alone may take the answers."""
    instrument: str
    wanted: str
    """``buy``, ``sell`` or ``both``: what the account would do."""
    quantity: int = Field(sa_column=big_integer())
    """Hundredths of a bitcoin."""
    valid_until_unix: int = Field(sa_column=big_integer())
    number: int = Field(sa_column=big_integer())
    """The account's own."""
    body: str = Field(sa_column=Column(Text, nullable=False))
    """JSON, signed by the account."""
    state: str = RequestState.OPEN.value
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())


class TakeState(StrEnum):
    """How far a take has come."""

    TAKEN = "taken"
    CHECKED = "checked"
    """Both sides' signatures but the buyer's own of the funding are there and checked."""
    FUNDED = "funded"
    """The funding is signed by both and sent."""
    FAILED = "failed"


class Fault(StrEnum):
    """By whom a take failed."""

    MAKER = "maker"
    TAKER = "taker"
    DESK = "desk"
    """By none of its sides, too: its time was over before one had a fair part of it."""


PENDING_TAKES: Final = (TakeState.TAKEN, TakeState.CHECKED)
"""States in which somebody still has to do something in time."""


class TakeRow(SQLModel, table=True):
    """A take of an offer, and the option that it makes: ``taken -> checked -> funded``, or ``failed``."""

    __tablename__: ClassVar[str] = "take"
    __machine__: ClassVar[Machine[TakeState]] = Machine(
        states=TakeState,
        edges=edges(
            (TakeState.TAKEN, TakeState.CHECKED),
            (PENDING_TAKES, TakeState.FUNDED),
            # what is signed by both fails only where its funding can confirm no more
            ((*PENDING_TAKES, TakeState.FUNDED), TakeState.FAILED),
            (TakeState.FAILED, TakeState.FUNDED),  # what had spent a coin of it was reorganised away
        ),
        ends=frozenset({TakeState.FUNDED, TakeState.FAILED}),
    )
    __table_args__ = (
        UniqueConstraint("option_id"),
        Index("ix_take_offer", "offer_id"),
        Index("ix_take_maker", "maker", "created_at_unix", "id"),
        Index("ix_take_taker", "taker", "created_at_unix", "id"),
        Index("ix_take_newest", "created_at_unix", "id"),
        # what failed is passed over by nobody who reads trades, however much of it there is
        Index("ix_take_traded", "created_at_unix", "id", sqlite_where=text("state <> 'failed'"),
              postgresql_where=text("state <> 'failed'")),
        Index("ix_take_instrument", "instrument", "created_at_unix", "id", sqlite_where=text("state <> 'failed'"),
              postgresql_where=text("state <> 'failed'")),
        Index("ix_take_state", "state"),
    )  # fmt: skip

    id: str = Field(primary_key=True)
    """What its taker signed, hex."""
    option_id: str = Field(foreign_key="option.id")
    offer_id: str = Field(foreign_key="firm_offer.id")
    maker: str = Field(foreign_key="account.id")
    taker: str = Field(foreign_key="account.id")
    quantity: int = Field(sa_column=big_integer())
    """Hundredths of a bitcoin."""
    instrument: str
    """Of its offer, as the next one."""
    side: str
    # of the take: an auction's price at the step that it names
    price_sats: int = Field(sa_column=big_integer())
    price_cents: int = Field(sa_column=big_integer())
    body: str = Field(sa_column=Column(Text, nullable=False))
    """JSON, signed by the taker."""
    state: str = TakeState.TAKEN.value
    fault: str | None = None
    """``maker``, ``taker`` or ``desk``, of a failed one."""
    problem: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    created_at_unix: int = Field(sa_column=big_integer())
    """Wall clock, as every time here."""
    created_ms: int = Field(sa_column=big_integer())
    """Milliseconds by the database's clock, as the next one."""
    checked_ms: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    checked_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    updated_at_unix: int = Field(sa_column=big_integer())


class CloseState(StrEnum):
    """How far a close of an option at a price that both sides name has come."""

    OFFERED = "offered"
    ANSWERED = "answered"
    """The other side's half is here, and checked."""
    SIGNED = "signed"
    """Both halves are here, and it is sent."""
    DONE = "done"
    """It is as deep in the chain as the preset asks."""
    OVER = "over"


PENDING_CLOSES: Final = (CloseState.OFFERED, CloseState.ANSWERED)
"""States in which a half is missing: they lapse."""


class CloseRow(SQLModel, table=True):
    """An offer of one side of an option to close it: ``offered -> answered -> signed -> done``, or ``over``."""

    __tablename__: ClassVar[str] = "market_close"
    __machine__: ClassVar[Machine[CloseState]] = Machine(
        states=CloseState,
        edges=edges(
            (CloseState.OFFERED, CloseState.ANSWERED),
            (CloseState.ANSWERED, CloseState.SIGNED),
            (CloseState.SIGNED, CloseState.DONE),
            (CloseState.DONE, CloseState.SIGNED),  # reorganised away
            # of what is signed: something else has spent the collateral
            ((*PENDING_CLOSES, CloseState.SIGNED), CloseState.OVER),
        ),
        ends=frozenset({CloseState.DONE, CloseState.OVER}),
    )
    __table_args__ = (
        Index("ix_market_close_option", "option_id", "state"),
        Index("ix_market_close_txid", "txid"),
        Index("ix_market_close_lapsing", "state", "valid_until_unix"),
        Index("ix_market_close_writer", "writer", "created_at_unix", "id"),
        Index("ix_market_close_holder", "holder", "created_at_unix", "id"),
        Index("ix_market_close_newest", "created_at_unix", "id"),
    )

    id: str = Field(primary_key=True)
    """Of the offer, hex."""
    option_id: str = Field(foreign_key="option.id")
    by: str
    """``buyer`` or ``seller``: who offers it."""
    writer: str | None = None
    """The option's, as the next one: whose list it stands in. NULL: of the two mailbox folders."""
    holder: str | None = None
    state: str = CloseState.OFFERED.value
    body: str = Field(sa_column=Column(Text, nullable=False))
    """JSON of the offer, as its letter said it."""
    answer: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    """JSON of the other side's half: a partial signature, which the proposer never gets."""
    payout_sats: int = Field(sa_column=big_integer())
    """The buyer's, as offered; what the chain pays is in the next three, once both have signed."""
    paid_sats: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    returned_sats: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    fee_sats: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    txid: str | None = None
    problem: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    valid_until_unix: int = Field(sa_column=big_integer())
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())
