"""How messages travel between the service and the two sides of a contract: as files, or as sealed letters.

A side without an account is one of the two mailbox folders that were there before accounts. What one side says to the
other goes on as its own signed letter inside one of ours; a folder gets what it says.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol

from btcfi.adapters.desk_key import DeskKey, load_desk_key
from btcfi.adapters.party.mailbox import Mailbox
from btcfi.adapters.sealed_letters import seal, unseal
from btcfi.adapters.store.market import accounts, carrying, letters
from btcfi.adapters.store.market.carrying import Owners
from btcfi.adapters.store.market.tables import Carrier as Kind
from btcfi.adapters.store.spine.database import Store
from btcfi.contracts.messages import MAX_MESSAGE_BYTES, Role
from btcfi.documents import parse_json
from btcfi.errors import InvalidInputError, NotFoundError, RetryableError
from btcfi.market.letter import (
    Letter,
    SignedLetter,
    check_letter,
    decode_signed_letter,
    encode_signed_letter,
    sign_letter,
)
from btcfi.oracle.report import canonical_json
from settings.deployment import Deployment
from tasks.context import Context, mailboxes

Json = dict[str, Any]

MAX_LETTER_BYTES: Final = MAX_MESSAGE_BYTES + (1 << 16)
"""Of one letter, opened."""


class OtherDeskKeyError(RetryableError):
    """This process has another key than the one that accounts have joined by: what it wrote or read would be lost."""

    def __init__(self, ours: str) -> None:
        super().__init__(f"accounts have joined by another desk key than {ours[:16]}, which is here; put theirs back")
        self.ours = ours


class Carrier(Protocol):
    """What the exchange asks of whatever takes messages to one side."""

    def holds(self, name: str) -> bool:
        """Return whether a message of this name was put, handled or not."""

    def put(self, name: str, message: Json, *, said: SignedLetter | None = None, added: Json | None = None) -> None:
        """Put a message. said: the letter of the other side that says it. added: what we say besides."""

    def take_back(self, name: str) -> object:
        """Remove a message that was not handled."""

    def refusal(self, name: str) -> str | None:
        """Return why the side refused a message of this name, where it says so by lying there."""

    def waits(self, name: str) -> str | None:
        """Return what the side waits for, likewise."""


class FolderCarrier(Mailbox):
    """Files in a folder of this machine."""

    def put(self, name: str, message: Json, *, said: SignedLetter | None = None, added: Json | None = None) -> None:
        """Put a message into the inbox; a folder is trusted by its mode, so nobody's signature goes with it."""
        del said
        super().put(name, message if added is None else message | added)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where letters to an account go, and whose signature is on those from it."""

    identity: bytes
    request_key: bytes
    box_key: bytes
    kind: str
    name: str


class LetterCarrier:
    """Letters between the service and one account, in the store until it fetches them."""

    def __init__(self, store: Store, desk: DeskKey, account: Address) -> None:
        self._store, self._desk, self._account = store, desk, account

    def holds(self, name: str) -> bool:
        """Return whether a letter of this name was ever written."""
        with self._store.reading() as session:
            return letters.holds(session, self._account.identity.hex(), name)

    def put(self, name: str, message: Json, *, said: SignedLetter | None = None, added: Json | None = None) -> None:
        """Write a letter; of one name the first one stays. Raises UnsealableError."""
        body = (added or {}) if said is not None else message | (added or {})
        to = self._account.identity
        letter = Letter(sender=self._desk.public.desk_key, recipient=to, name=name, body=body, said=said)
        signed = sign_letter(letter, self._desk.request_secret, secrets.token_bytes(32))
        plain = canonical_json(encode_signed_letter(signed))
        sealed = seal(plain, to=self._account.box_key, about=to + name.encode())
        with self._store.transaction() as session:
            letters.post(session, sender=None, recipient=to.hex(), name=name, sealed=sealed, now=self._store.now())

    def take_back(self, name: str) -> bool:
        """Remove a letter that was not acknowledged, and return whether there was one."""
        with self._store.transaction() as session:
            return letters.take_back(session, self._account.identity.hex(), name)

    def refusal(self, name: str) -> str | None:  # noqa: ARG002 - as the protocol has it
        """Return None: an account says so by a letter."""
        return None

    def waits(self, name: str) -> str | None:  # noqa: ARG002 - as the protocol has it
        """Return None, likewise."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """One mailbox folder of this machine, and who speaks in it."""

    box: FolderCarrier
    role: Role | None
    """Of one that was there before accounts."""
    account: str | None

    def role_in(self, owners: Owners | None) -> Role | None:
        """Return as whom it speaks of an option, None where that is none of its. owners: None of an unknown option."""
        if self.account is not None:
            return None if owners is None else owners.role_of(self.account)
        if self.role is not None and owners is not None and owners.of(self.role) is not None:
            return None
        return self.role


class Carriers:
    """All carriers of one look, each account read once."""

    def __init__(self, here: Context) -> None:
        self._here = here
        self.old = {role: FolderCarrier(box.folder) for role, box in mailboxes(here.deployment).items()}
        """The two folders that were there before accounts."""
        with here.store.reading() as session:
            rows = carrying.folder_accounts(session)
        self.folder_accounts = {row.id: FolderCarrier(here.deployment.parties_dir / row.name) for row in rows}
        self._addresses: dict[str, Address] = {}
        self._desk: DeskKey | None = None

    @property
    def desk(self) -> DeskKey:
        """The service's key. Raises NotFoundError, InvalidInputError, OtherDeskKeyError."""
        if self._desk is None:
            key = desk_key(os.getpid(), self._here.deployment)
            with self._here.store.reading() as session:
                named = carrying.named_desks(session)
            if named and (ours := key.public.desk_key.hex()) not in named:
                raise OtherDeskKeyError(ours)
            self._desk = key
        return self._desk

    def folders(self) -> list[Folder]:
        """Return every folder of this machine."""
        old = [Folder(box=box, role=role, account=None) for role, box in self.old.items()]
        return old + [Folder(box=box, role=None, account=one) for one, box in self.folder_accounts.items()]

    def of(self, owners: Owners | None) -> Mapping[Role, Carrier]:
        """Return what takes messages to the two sides of an option. Raises NotFoundError."""
        return {role: self.to(None if owners is None else owners.of(role), role) for role in Role}

    def to(self, account: str | None, role: Role = Role.SELLER) -> Carrier:
        """Return what takes messages to an account. role: of one of the two folders, without an account."""
        if account is None:
            return self.old[role]
        if account in self.folder_accounts:
            return self.folder_accounts[account]
        return LetterCarrier(self._here.store, self.desk, self.address(account))

    def address(self, account: str) -> Address:
        """Return an account's keys. Raises NotFoundError."""
        if account not in self._addresses:
            with self._here.store.reading() as session:
                row = accounts.account(session, account)
                self._addresses[account] = Address(
                    identity=bytes.fromhex(row.id), request_key=bytes.fromhex(row.request_key),
                    box_key=bytes.fromhex(row.box_key), kind=row.carrier, name=row.name,
                )  # fmt: skip
        return self._addresses[account]

    def said(self, account: str | None, name: str) -> SignedLetter | None:
        """Return the letter in which an account has said something to us, None where its messages are files.

        Raises NotFoundError where it never did, and what ``opened`` raises.
        """
        if account is None or self.address(account).kind != Kind.LETTERS:
            return None
        with self._here.store.reading() as session:
            row = letters.said(session, account, name)
        if row is None:
            raise NotFoundError("letter", name)
        return self._opened(name, row.sealed)[1]  # its signature was checked when it was taken, by the key of then

    def opened(self, account: str, name: str, sealed: bytes) -> SignedLetter:
        """Return a letter to us, opened and checked: written by this account, under this name.

        Raises SealedToAnotherError, WrongSignatureError, InvalidInputError.
        """
        ours, signed = self._opened(name, sealed)
        letter = check_letter(signed, sender=self.address(account).request_key, recipient=ours)
        if letter.name != name or letter.said is not None:
            raise InvalidInputError("letter", f"signed as {letter.name}", f"{name}, in its own words")
        return signed

    def _opened(self, name: str, sealed: bytes) -> tuple[bytes, SignedLetter]:
        ours = self.desk.public.desk_key
        if len(sealed) > MAX_LETTER_BYTES:
            raise InvalidInputError("letter", f"{len(sealed):,} bytes", f"at most {MAX_LETTER_BYTES:,}")
        plain = unseal(sealed, secret=self.desk.box_secret, about=ours + name.encode())
        return ours, decode_signed_letter(parse_json(plain, "letter"))


@cache
def desk_key(_pid: int, deployment: Deployment) -> DeskKey:
    """Return the service's key at the market. Raises NotFoundError, InvalidInputError."""
    return load_desk_key(deployment.desk_key_file)


def market_json(part: carrying.MarketPart | None) -> Json | None:
    """Return what both sides signed before a contract, as a proposal and an offer carry it."""
    if part is None:
        return None
    texts = {"offer": part.offer, "take": part.take, "seller": part.seller, "buyer": part.buyer}
    return {"market": {name: parse_json(text.encode(), f"market.{name}") for name, text in texts.items()}}
