"""The contract's own tables: what oracles announced and attested, and how far the two parties have come."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import ClassVar, Final

from sqlalchemy import Column, Index, Text
from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.machines import Machine, edges
from btcfi.adapters.store.spine.tables import big_integer


class OracleEventRow(SQLModel, table=True):
    """What will be attested: one price of one minute, and whether a barrier was touched on the way."""

    __tablename__: ClassVar[str] = "oracle_event"

    id: str = Field(primary_key=True)
    """Hash of the event, hex: feed, minute, guest program, preset and condition."""
    feed: str
    expiry_unix: int = Field(sa_column=big_integer())
    barrier_cents: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """The condition: any agreed level at or beyond it, seen from ``since_slot``."""
    barrier_above: bool = False
    since_slot: int = Field(sa_column=big_integer())
    """The condition watches every minute after it."""
    announcements: str = Field(sa_column=Column(Text, nullable=False))
    """JSON list, one of each oracle."""
    created_at_unix: int = Field(sa_column=big_integer())


class AttestationRow(SQLModel, table=True):
    """The one outcome that an oracle attests of an event, written down before anything is signed."""

    __tablename__: ClassVar[str] = "attestation"
    __table_args__ = (Index("ix_attestation_event", "event_id"),)

    oracle_key: str = Field(primary_key=True)
    event_id: str = Field(primary_key=True)
    outcome: int = Field(sa_column=big_integer())
    body: str | None = Field(default=None, sa_column=Column(Text))
    """JSON of the attestation; None between the claim and the signature."""
    claimed_at_unix: int = Field(sa_column=big_integer())


class ContractState(StrEnum):
    """Of a contract's setup: whose message came last, or what the service did with it."""

    ORDERED = "ordered"
    OFFERED = "offered"
    ACCEPTED = "accepted"
    SIGNED = "signed"
    CHECKED = "checked"
    FUNDED = "funded"
    CANCELLED = "cancelled"


_SETTING_UP = (ContractState.ORDERED, ContractState.OFFERED, ContractState.ACCEPTED, ContractState.SIGNED)
_WAY = (*_SETTING_UP, ContractState.CHECKED, ContractState.FUNDED)

CANCELLABLE_CONTRACTS: Final = _SETTING_UP
"""States in which no party has the other one's signatures from us: nobody can fund the contract."""


class ContractRow(SQLModel, table=True):
    """Two parties setting up one option: ``ordered -> offered -> accepted -> signed -> checked -> funded``.

    Until it is checked it may be ``cancelled``, and after that once its funding can confirm no more.
    """

    __tablename__: ClassVar[str] = "contract"
    __machine__: ClassVar[Machine[ContractState]] = Machine(
        states=ContractState,
        key="option_id",
        edges=edges(
            *pairwise(_WAY),
            (CANCELLABLE_CONTRACTS, ContractState.CANCELLED),
            # its funding can confirm no more: an input of it is spent by something else
            ((ContractState.CHECKED, ContractState.FUNDED), ContractState.CANCELLED),
            (ContractState.CANCELLED, ContractState.FUNDED),  # that was reorganised away, and a block holds it
        ),
        ends=frozenset({ContractState.FUNDED, ContractState.CANCELLED}),
    )
    __table_args__ = (Index("ix_contract_state", "state"), Index("ix_contract_name", "contract_id"))

    option_id: str = Field(primary_key=True)
    state: str = ContractState.ORDERED.value
    event_id: str
    expiry_height: int
    refund_height: int
    order: str = Field(sa_column=Column("order_body", Text, nullable=False))
    """JSON of the terms: the seller's order and the buyer's bid."""
    offer_id: str | None = None
    offer_sha256: str | None = None
    """Blobs of the three messages, as they came."""
    accept_sha256: str | None = None
    sign_sha256: str | None = None
    plan_sha256: str | None = None
    """Blob of what settling needs: the buckets as we computed them, and every signature that we checked."""
    contract_id: str | None = None
    last_error: str | None = Field(default=None, sa_column=Column(Text))
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())
