"""What a party keeps of offers to close its contracts, and its owner's yes to one: files, without a key or a node.

Whoever may write here has said what is signed, inside the mandate: its owner's commands, and the maker's process by the
owner's rule.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from btcfi.adapters.files import make_private, read_untrusted_json, write_private
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.bitcoin.transaction import Transaction, parse_transaction
from btcfi.contracts.messages import Role
from btcfi.errors import NotFoundError
from btcfi.market import closing as messages
from btcfi.market.closing import CloseOffer
from btcfi.records import OBJECT, TEXT, Rule, one_of, optional, record
from btcfi.units import Hash32

FOLDER: Final = "closes"
"""Of a party's folder."""

MAX_FILE_BYTES: Final = 1 << 16


class CloseState(StrEnum):
    """How far an offer to close has come, as we see it."""

    OFFERED = "offered"
    """Ours, and nobody has answered; or theirs, and our owner has said nothing."""
    AGREED = "agreed"
    """Theirs, and our owner has said yes."""
    SIGNED = "signed"
    """Our partial signature has left, to the service."""
    DONE = "done"
    """We have the signed close."""
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptClose:
    """An offer to close as its file has it."""

    offer: CloseOffer
    option: str
    """As the letters name the contract."""
    by: Role
    """Who proposes it."""
    state: CloseState
    said: dict[str, object] | None = None
    """What we have signed, as it left: once, and never anew."""
    txid: str = ""
    """Of the close, display order, once it was about to be signed here: written down before anything else of it."""
    transaction: str = ""
    """The signed close, hex."""
    problem: str = ""

    @property
    def name(self) -> str:
        """Of the file."""
        return self.offer.id.hex()


_KEPT: Final = record(
    KeptClose, offer=Rule(messages.decode_offer, "an offer to close"), by=one_of(Role), state=one_of(CloseState),
    said=optional(OBJECT), txid=TEXT, transaction=TEXT, problem=TEXT,
)  # fmt: skip


class CloseBook:
    """The files of offers to close in a party's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def __iter__(self) -> Iterator[KeptClose]:
        """Yield every offer to close that is kept. Raises InvalidInputError for a file that is none."""
        for path in sorted(self._folder.glob("*.json")):
            yield _KEPT.read(read_untrusted_json(path, at_most=MAX_FILE_BYTES, what="offer to close"), path.name)

    def find(self, offer: Hash32) -> KeptClose:
        """Return what is kept of an offer to close. Raises NotFoundError."""
        path = self._folder / f"{offer.hex()}.json"
        if not path.exists():
            raise NotFoundError("offer to close", offer.hex()[:16], "`btcfi market closes` lists them")
        return _KEPT.read(read_untrusted_json(path, at_most=MAX_FILE_BYTES, what="offer to close"), path.name)

    def forget(self, kept: KeptClose) -> None:
        """Remove one that lapsed long ago and of which nothing was signed."""
        (self._folder / f"{kept.name}.json").unlink(missing_ok=True)

    def save(self, kept: KeptClose) -> KeptClose:
        """Write one down."""
        make_private(self._folder, named=True)
        row = {
            "offer": messages.encode_offer(kept.offer), "option": kept.option, "by": kept.by.value,
            "state": kept.state.value, "said": kept.said, "txid": kept.txid, "transaction": kept.transaction,
            "problem": kept.problem,
        }  # fmt: skip
        write_private(self._folder / f"{kept.name}.json", json.dumps(row).encode())
        return kept


def waiting_closes(store: PartyStore, *, now: float) -> list[tuple[PartyContract, KeptClose]]:
    """Return the offers of other sides to close a contract of ours that nobody has said anything to."""
    waiting = [
        one
        for one in CloseBook(store.folder)
        if one.state is CloseState.OFFERED and one.offer.valid_until > now
    ]  # fmt: skip
    ours = {one.order: one for one in store.contracts() if one.order} if waiting else {}
    return [
        (ours[one.option], one) for one in waiting if one.option in ours and one.by is not ours[one.option].role
    ]  # fmt: skip


def signed_close(store: PartyStore, contract: PartyContract) -> Transaction | None:
    """Return the close of a contract that both sides have signed, None where there is none."""
    for one in CloseBook(store.folder):
        if one.transaction and one.option == contract.order:
            return parse_transaction(bytes.fromhex(one.transaction))
    return None


def say_yes(store: PartyStore, offer: Hash32) -> None:
    """Agree to an offer of the other side that is still open; the signing process looks at everything before it signs.

    Raises NotFoundError.
    """
    with store.alone():
        kept = (book := CloseBook(store.folder)).find(offer)
        if kept.state is CloseState.OFFERED:
            book.save(replace(kept, state=CloseState.AGREED))
