"""Transfers of positions: sellers' consents, holders' offers, what is under way, and every word said of it."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

from sqlalchemy import Column, Index, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.machines import Machine, edges
from btcfi.adapters.store.spine.tables import big_integer


class ConsentState(StrEnum):
    """Where a seller's consent is in its life."""

    OPEN = "open"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    """Its time is over, or its contract is."""
    BROKEN = "broken"
    """A transfer came to nothing by its seller's fault."""


class TransferConsentRow(SQLModel, table=True):
    """A seller's word that the other side of one contract may change: ``open -> withdrawn | expired | broken``."""

    __tablename__: ClassVar[str] = "transfer_consent"
    __machine__: ClassVar[Machine[ConsentState]] = Machine(
        states=ConsentState,
        edges=edges(
            (ConsentState.OPEN, ConsentState.WITHDRAWN),
            (ConsentState.OPEN, ConsentState.EXPIRED),
            # what was said in a transfer that was under way before
            ((ConsentState.OPEN, ConsentState.WITHDRAWN, ConsentState.EXPIRED), ConsentState.BROKEN),
        ),
        ends=frozenset({ConsentState.WITHDRAWN, ConsentState.EXPIRED, ConsentState.BROKEN}),
    )
    __table_args__ = (
        UniqueConstraint("seller", "number"),
        Index("ix_transfer_consent_option", "option_id", "state"),
        Index("ix_transfer_consent_of", "seller", "created_at_unix", "id"),
        Index("ix_transfer_consent_lapsing", "state", "valid_until_unix"),
        Index("ix_transfer_consent_newest", "created_at_unix", "id"),
    )

    id: str = Field(primary_key=True)
    """What its seller signed, hex."""
    option_id: str = Field(foreign_key="option.id")
    seller: str = Field(foreign_key="account.id")
    number: int = Field(sa_column=big_integer())
    """The seller's own."""
    valid_until_unix: int = Field(sa_column=big_integer())
    body: str = Field(sa_column=Column(Text, nullable=False))
    """JSON, signed by the seller."""
    state: str = ConsentState.OPEN.value
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())


class TransferOfferState(StrEnum):
    """Where a holder's offer of its position is in its life."""

    OPEN = "open"
    TAKEN = "taken"
    """A transfer of it is under way, or has come about."""
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    """Its time is over, or its contract is."""
    BROKEN = "broken"
    """A transfer of it came to nothing by its holder's fault."""


class TransferOfferRow(SQLModel, table=True):
    """A holder's firm offer of its position: ``open -> taken | withdrawn | expired | broken``."""

    __tablename__: ClassVar[str] = "transfer_offer"
    __machine__: ClassVar[Machine[TransferOfferState]] = Machine(
        states=TransferOfferState,
        edges=edges(
            (TransferOfferState.OPEN, TransferOfferState.TAKEN),
            (TransferOfferState.TAKEN, TransferOfferState.OPEN),  # its transfer came to nothing
            ((TransferOfferState.OPEN, TransferOfferState.TAKEN), TransferOfferState.WITHDRAWN),
            ((TransferOfferState.OPEN, TransferOfferState.TAKEN), TransferOfferState.EXPIRED),
            (
                (
                    TransferOfferState.OPEN, TransferOfferState.TAKEN, TransferOfferState.WITHDRAWN,
                    TransferOfferState.EXPIRED,
                ),
                TransferOfferState.BROKEN,
            ),
        ),
        ends=frozenset({
            TransferOfferState.TAKEN, TransferOfferState.WITHDRAWN, TransferOfferState.EXPIRED,
            TransferOfferState.BROKEN,
        }),
    )  # fmt: skip
    __table_args__ = (
        UniqueConstraint("holder", "number"),
        Index("ix_transfer_offer_open", "instrument", "created_at_unix", "id", sqlite_where=text("state = 'open'"),
              postgresql_where=text("state = 'open'")),
        Index("ix_transfer_offer_option", "option_id", "state"),
        Index("ix_transfer_offer_of", "holder", "created_at_unix", "id"),
        Index("ix_transfer_offer_lapsing", "state", "valid_until_unix"),
        Index("ix_transfer_offer_newest", "created_at_unix", "id"),
    )  # fmt: skip

    id: str = Field(primary_key=True)
    """What its holder signed, hex."""
    option_id: str = Field(foreign_key="option.id")
    holder: str = Field(foreign_key="account.id")
    instrument: str
    quantity: int = Field(sa_column=big_integer())
    """Hundredths of a bitcoin: the whole position."""
    price_sats: int = Field(sa_column=big_integer())
    """Of the whole position."""
    sats_per_kvb: int = Field(sa_column=big_integer())
    taker: str | None = None
    """The one account that may take it; NULL: any."""
    number: int = Field(sa_column=big_integer())
    """The holder's own."""
    valid_until_unix: int = Field(sa_column=big_integer())
    body: str = Field(sa_column=Column(Text, nullable=False))
    """JSON, signed by the holder."""
    state: str = TransferOfferState.OPEN.value
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())


class TransferState(StrEnum):
    """How far a transfer has come."""

    TAKEN = "taken"
    """Words are owed."""
    SIGNED = "signed"
    """All three have signed, and it is sent."""
    DONE = "done"
    """It is as deep in the chain as the preset asks: the position is the newcomer's."""
    OVER = "over"


UNDER_WAY: Final = (TransferState.TAKEN, TransferState.SIGNED)
"""States in which no other end of the contract is begun."""


class TransferRow(SQLModel, table=True):
    """A position on its way from its holder to a newcomer: ``taken -> signed -> done``, or ``over``."""

    __tablename__: ClassVar[str] = "transfer"
    __machine__: ClassVar[Machine[TransferState]] = Machine(
        states=TransferState,
        edges=edges(
            (TransferState.TAKEN, TransferState.SIGNED),
            (TransferState.SIGNED, TransferState.DONE),
            (TransferState.DONE, TransferState.SIGNED),  # reorganised away
            # what is signed is over only where the chain has spent a coin of it otherwise, for good
            ((TransferState.TAKEN, TransferState.SIGNED), TransferState.OVER),
            (TransferState.OVER, TransferState.SIGNED),  # a block holds it after all
        ),
        ends=frozenset({TransferState.DONE, TransferState.OVER}),
    )
    __table_args__ = (
        UniqueConstraint("new_option_id"),
        Index("ix_transfer_option", "option_id", "state"),
        Index("ix_transfer_offer_id", "offer_id"),
        Index("ix_transfer_txid", "txid"),
        Index("ix_transfer_state", "state", "updated_at_unix"),
        Index("ix_transfer_seller", "seller", "created_at_unix", "id"),
        Index("ix_transfer_holder", "holder", "created_at_unix", "id"),
        Index("ix_transfer_newcomer", "newcomer", "created_at_unix", "id"),
        Index("ix_transfer_newest", "created_at_unix", "id"),
    )

    id: str = Field(primary_key=True)
    """What its newcomer signed, hex."""
    option_id: str = Field(foreign_key="option.id")
    """The old one, which the holder leaves."""
    new_option_id: str
    """The newcomer's; its row is there once all have signed."""
    consent_id: str = Field(foreign_key="transfer_consent.id")
    offer_id: str = Field(foreign_key="transfer_offer.id")
    seller: str = Field(foreign_key="account.id")
    holder: str = Field(foreign_key="account.id")
    newcomer: str = Field(foreign_key="account.id")
    instrument: str
    quantity: int = Field(sa_column=big_integer())
    """Hundredths of a bitcoin."""
    price_sats: int = Field(sa_column=big_integer())
    """What the holder gets, to the satoshi, but for the fee of a coin that it brings."""
    until_unix: int = Field(sa_column=big_integer())
    """The earliest end of the three texts: from then on nobody signs anything of it."""
    part: str = Field(sa_column=Column(Text, nullable=False))
    """JSON of the three signed texts and registrations, as every ask has it."""
    state: str = TransferState.TAKEN.value
    said: str = "half"
    """The round whose words are owed: ``half``, ``presigned``, ``ready``, ``seller``, ``holder``; then ``all``."""
    fault: str | None = None
    """``seller``, ``holder`` or ``newcomer``, of one that is over; NULL: nobody's."""
    problem: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    txid: str | None = None
    """Of its transaction, display order, once all halves are here."""
    fee_sats: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """What all owners together pay for it, likewise."""
    gone_height: int | None = None
    """Block at which a coin of it was first seen spent otherwise, while it was sent."""
    gone_block: str | None = None
    created_at_unix: int = Field(sa_column=big_integer())
    """Wall clock, as every time here."""
    updated_at_unix: int = Field(sa_column=big_integer())


class TransferWordRow(SQLModel, table=True):
    """One owner's word of one round, checked before it came here; the first one counts, and is never changed."""

    __tablename__: ClassVar[str] = "transfer_word"

    transfer_id: str = Field(primary_key=True, foreign_key="transfer.id")
    said: str = Field(primary_key=True)
    """The round."""
    owner: str = Field(primary_key=True)
    """``seller``, ``holder`` or ``newcomer``."""
    body: str = Field(sa_column=Column(Text, nullable=False))
    """JSON, as its letter said it. Parts of the key path and coins' witnesses go to nobody."""
    said_at_unix: int = Field(sa_column=big_integer())
