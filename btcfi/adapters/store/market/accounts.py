"""Accounts: registered by what their identity signed, found by identity or name, suspended by the operator."""

from __future__ import annotations

import json
from typing import Final

from sqlalchemy import delete, select, update
from sqlmodel import Session, col

from btcfi.adapters.store.access.api_tables import ApiKeyRow
from btcfi.adapters.store.market.errors import NameTakenError, StaleRegistrationError, TooManyKeysError
from btcfi.adapters.store.market.offers import withdraw_offers
from btcfi.adapters.store.market.tables import AccountRow, AccountState, Carrier
from btcfi.adapters.store.spine.edges import upsert
from btcfi.contracts.messages import Role
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.account import (
    Registration,
    SignedRegistration,
    check_registration,
    decode_signed_registration,
    encode_signed_registration,
)
from btcfi.units import UnixSeconds

REQUESTS_PER_MINUTE: Final = 6_000
"""Of an account that the operator said nothing of: a maker that requotes 100 strikes a second in batches has room."""


OF_FOLDERS: Final = frozenset(role.value for role in Role)
"""Names of the two parties that were there before accounts, which only their folders' accounts have."""


def register(
    session: Session, signed: SignedRegistration, *, now: UnixSeconds, carrier: str = Carrier.LETTERS,
    requests_per_minute: int = REQUESTS_PER_MINUTE, desk: bytes | None = None,
) -> AccountRow:  # fmt: skip
    """Store an account, or the newer keys of one that is there; the same registration again changes nothing.

    Its signature is checked here. desk: x-only key of this service, which it must be for. What stood open under older
    keys is withdrawn, and takes that are not signed by both fail by its fault: nobody could check them any more.
    Raises WrongRegistrationError, AnotherDeskError, NameTakenError, StaleRegistrationError, and InvalidInputError where
    an account would change its name.
    """
    registration = check_registration(signed, desk=desk)
    identity, text = registration.identity.hex(), json.dumps(encode_signed_registration(signed))
    if carrier == Carrier.LETTERS and registration.name in OF_FOLDERS and session.get(AccountRow, identity) is None:
        raise NameTakenError(registration.name)
    born = upsert(session, AccountRow).values(
        id=identity, name=registration.name, **_keys(registration, text), carrier=str(carrier),
        state=AccountState.OPEN.value, requests_per_minute=requests_per_minute, joined_at_unix=now, updated_at_unix=now,
    )  # fmt: skip
    made = session.execute(born.on_conflict_do_nothing().returning(AccountRow.id)).first()
    if made is not None:
        return session.get_one(AccountRow, identity)
    locked = select(AccountRow).where(col(AccountRow.id) == identity).with_for_update(key_share=True)
    found = session.execute(locked, execution_options={"populate_existing": True}).scalar_one_or_none()
    row: AccountRow | None = found
    if row is None:
        raise NameTakenError(registration.name)
    if row.name != registration.name:
        raise InvalidInputError("name", repr(registration.name), f"{row.name!r}, as the account is called")
    if decode_signed_registration(json.loads(row.registration)).registration == registration:
        return row
    if registration.number <= row.number:
        raise StaleRegistrationError(row.name, registration.number, row.number)
    if (registration.request_key.hex(), registration.box_key.hex()) != (row.request_key, row.box_key):
        from btcfi.adapters.store.market import failing, transfer_rounds  # noqa: PLC0415 - they build on this

        failing.fail_of(session, identity, "it has registered other keys meanwhile", now=now)
        transfer_rounds.fail_of(session, identity, "it has registered other keys meanwhile", now=now)
    session.execute(
        update(AccountRow)
        .where(col(AccountRow.id) == identity)
        .values(**_keys(registration, text), updated_at_unix=now)
        .execution_options(synchronize_session=False)
    )
    withdraw_offers(session, identity, None, now=now)
    session.refresh(row)
    return row


def _keys(registration: Registration, text: str) -> dict[str, str | int]:
    return {
        "request_key": registration.request_key.hex(), "box_key": registration.box_key.hex(),
        "number": registration.number, "registration": text,
    }  # fmt: skip


def registration_of(row: AccountRow) -> SignedRegistration:
    """Return what an account's identity signed."""
    return decode_signed_registration(json.loads(row.registration))


def account(session: Session, identity: str) -> AccountRow:
    """Return an account by its identity key, hex. Raises NotFoundError."""
    row = session.get(AccountRow, identity)
    if row is None:
        raise NotFoundError("account", identity[:64], "`btcfi party join` registers one")
    return row


def held_account(session: Session, identity: str, *, alone: bool = False) -> AccountRow:
    """Return an account whose keys and state nobody changes until this transaction ends. Raises NotFoundError.

    Held before anything else is locked. Others may hold it too, unless it is held alone; who registers waits.
    """
    query = select(AccountRow).where(col(AccountRow.id) == identity)
    query = query.with_for_update(key_share=True) if alone else query.with_for_update(read=True)
    found = session.execute(query, execution_options={"populate_existing": True}).scalar_one_or_none()
    row: AccountRow | None = found
    return account(session, identity) if row is None else row


def account_by_name(session: Session, name: str) -> AccountRow:
    """Return an account by its name. Raises NotFoundError."""
    row: AccountRow | None = session.execute(
        select(AccountRow).where(col(AccountRow.name) == name)
    ).scalar_one_or_none()
    if row is None:
        raise NotFoundError("account", name[:64], "`btcfi party join` registers one")
    return row


def make_room_for_key(session: Session, identity: str, *, most: int, now: UnixSeconds) -> None:
    """See that an account may have one more API key; nobody else gives it one before this transaction ends.

    Of its keys that are over the newest ``most`` stay, to be looked at; older ones are forgotten, and open nothing
    either way. Raises NotFoundError, TooManyKeysError.
    """
    held_account(session, identity, alone=True)
    every = select(ApiKeyRow).where(col(ApiKeyRow.account_id) == identity)
    newest = every.order_by(col(ApiKeyRow.created_at_unix).desc(), col(ApiKeyRow.id))
    rows = session.execute(newest, execution_options={"populate_existing": True}).scalars().all()
    over = [one for one in rows if one.revoked_at_unix is not None or (one.expires_at_unix or now + 1) <= now]
    if len(rows) - len(over) >= most:
        raise TooManyKeysError(most)
    old = [one.id for one in over[most:]]
    forget = delete(ApiKeyRow).where(col(ApiKeyRow.id).in_(old))
    session.execute(forget.execution_options(synchronize_session=False))


def suspend(session: Session, identity: str, *, now: UnixSeconds) -> AccountRow:
    """Keep an account from offering and taking, and withdraw what it offers; what it owns goes on.

    Raises NotFoundError.
    """
    return _turn(session, identity, AccountState.SUSPENDED, now)


def reopen(session: Session, identity: str, *, now: UnixSeconds) -> AccountRow:
    """Let a suspended account trade again. Raises NotFoundError."""
    return _turn(session, identity, AccountState.OPEN, now)


def _turn(session: Session, identity: str, state: AccountState, now: UnixSeconds) -> AccountRow:
    row = account(session, identity)
    if row.state != state:
        row.state, row.updated_at_unix = state.value, now
        session.flush()
    if state is AccountState.SUSPENDED:
        from btcfi.adapters.store.market import transfers  # noqa: PLC0415 - it builds on this

        withdraw_offers(session, identity, None, now=now)
        transfers.withdraw_words(session, identity, now=now)
    return row
