"""What a party keeps of net books: a file a book in its folder, written down before anything of it leaves.

Both sides' pre-signatures and both signatures of the refund lie here before a signature that moves a coin: whoever has
the folder settles, refunds and closes without the other side. Our coins that a book names are nobody else's meanwhile.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from btcfi.adapters.files import make_private, read_untrusted_json, write_private
from btcfi.adapters.party.store import (
    MAX_FILE_BYTES,
    POLICY_RULE,
    TRANSACTION_RULE,
    VERSION_RULE,
    WATCH_RULE,
    ChangedMeanwhileError,
    PartyStore,
    encode_policy,
    encode_transaction,
    encode_version,
    encode_watch,
)
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.messages import CloseRequest, Party, Role, decode_close_request, encode_close_request
from btcfi.contracts.netting import NettedSignatures
from btcfi.contracts.settling import Version, coin_of
from btcfi.contracts.setup import SetupPolicy
from btcfi.contracts.watch import FINAL_DEPTH, WatchState
from btcfi.errors import BtcfiError, NotFoundError
from btcfi.payoffs.book_messages import (
    Answer,
    Proposal,
    Signatures,
    contract_id,
    decode_answer,
    decode_proposal,
    decode_signatures,
    encode_answer,
    encode_proposal,
    encode_signatures,
)
from btcfi.records import TXID, WHOLE, Rule, listed, optional, record
from btcfi.units import Hash32, Sats, Txid, display_txid

log = logging.getLogger(__name__)

FOLDER: Final = "books"
"""Of a party's folder."""

_Seen = tuple[int, int, int]
"""Which writing of a file it is: its inode, its time, its size."""


@dataclass(kw_only=True)
class KeptBook:
    """A net book as this party has it on disk; fields are None until their step."""

    number: int
    """Which of the keystore's contract keys it uses."""
    role: Role
    """The holder is the buyer, the writer the seller."""
    proposal: Proposal
    policy: SetupPolicy
    """What this side insisted on when it proposed or answered."""
    stake: Sats
    """What it can lose by it, as computed at its last step: what the mandate's exposure counts."""
    value: int | None = None
    """What the book is worth to its holder in satoshis, by this side's own pricing; None: not priced."""
    answer: Answer | None = None
    sign: Signatures | None = None
    """Of the side that proposed; of the other one once it was checked."""
    funding: Transaction | None = None
    settlement: Transaction | None = None
    """The CET, refund or close that this party broadcasts."""
    children: tuple[Version, ...] = ()
    """Every version of the CET's child that this party has made."""
    refund_children: tuple[Version, ...] = ()
    """Every child by which it paid for the refund, likewise."""
    cancelled: Transaction | None = None
    """What took its coins home before a block held the funding."""
    withdrawn: bool = False
    """It came to nothing before we signed a coin of it: ours are free, and we never sign it."""
    watch: WatchState | None = None
    fund_by: int | None = None
    """Time of the chain by which a block must hold the funding, else our coins go home."""
    funded: bool = False
    closing: CloseRequest | None = None
    """A close that this party asked for."""
    asked_at: int | None = None
    asked_knowing: int = 0
    """How many attestations of its event it knew then."""
    closes: tuple[Txid, ...] = ()
    """Closes that this party has signed."""
    seen: _Seen | None = field(default=None, compare=False, repr=False)
    """Which writing of its file this is. Not in the file."""

    @property
    def name(self) -> str:
        """Of its file: the proposal's id."""
        return self.proposal.id.hex()

    @property
    def ours(self) -> Party | None:
        """Our half of it."""
        if self.role is self.proposal.role:
            return self.proposal.party
        return None if self.answer is None else self.answer.party

    @property
    def named(self) -> tuple[Coin, ...]:
        """Our coins that it names; none once it is withdrawn."""
        return () if self.ours is None or self.withdrawn else self.ours.coins

    @property
    def paying(self) -> set[OutPoint]:
        """The coins of the children that we have made."""
        versions = (*self.children, *self.refund_children)
        return {outpoint for one in versions if (outpoint := coin_of(one)) is not None}

    @property
    def id(self) -> Hash32 | None:
        """The contract's identity, once it has two sides."""
        return None if self.answer is None else contract_id(self.proposal, self.answer.party)

    @property
    def coins_signed(self) -> bool:
        """Whether a signature of ours that spends a coin has left, or may have."""
        return self.watch is not None

    @property
    def signed(self) -> dict[Role, NettedSignatures]:
        """What each side has signed before the funding, as far as it lies here."""
        found = {}
        if self.answer is not None:
            found[self.proposal.role.other] = self.answer.signatures
        if self.sign is not None:
            found[self.proposal.role] = self.sign.signatures
        return found

    @property
    def ended(self) -> bool:
        """Whether nothing of ours is in it any more, for good."""
        if self.withdrawn:
            return True
        if (state := self.watch) is None:
            return False
        created = {creation.outpoint for creation in state.creations}
        ends = [spend for spend in state.spends if spend.outpoint in created or not created]
        return any(state.depth(spend.height) >= FINAL_DEPTH for spend in ends)


class BookFiles:
    """The files of net books in a party's folder."""

    def __init__(self, store: PartyStore) -> None:
        self._store, self._folder = store, store.folder / FOLDER
        self._loaded: dict[str, KeptBook] = {}

    def names(self) -> list[str]:
        """Return the names of the books, which are their proposals' ids."""
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def __iter__(self) -> Iterator[KeptBook]:
        """Yield every book; one that cannot be read is left out, for the others' sake, and named in the log."""
        for name in self.names():
            try:
                yield self.load(name)
            except BtcfiError as e:
                log.warning("book %s is passed over: %s", name[:16], e)

    def load(self, name: str) -> KeptBook:
        """Return a book, a copy that changes nothing until it is saved. Raises NotFoundError, InvalidInputError."""
        known = self._loaded.get(name)
        if known is None or known.seen != self._seen(name):
            self._loaded[name] = self._read(name)
        return replace(self._loaded[name])

    def find(self, name: str) -> KeptBook | None:
        """Return a book, None where there is none."""
        return self.load(name) if name in self.names() else None

    def by_id(self, contract: Hash32) -> KeptBook:
        """Return the book of a contract. Raises NotFoundError."""
        for one in self:
            if one.id == contract:
                return one
        raise NotFoundError("book of a contract", contract.hex()[:16], "`btcfi book list` has ours")

    def keep_in_mind(self, kept: KeptBook) -> None:
        """Remember what a restart may find out again from the chain, without writing it down."""
        self._loaded[kept.name] = replace(kept)

    def save(self, kept: KeptBook) -> KeptBook:
        """Write a book down. Raises ChangedMeanwhileError when another process has written it meanwhile."""
        make_private(self._folder, named=True)
        with self._store.alone():
            if self._seen(kept.name) != kept.seen:
                raise ChangedMeanwhileError(kept.name)
            write_private(self._folder / f"{kept.name}.json", json.dumps(_encode(kept)).encode())
            kept.seen = self._seen(kept.name)
        self._loaded[kept.name] = replace(kept)
        return kept

    def _read(self, name: str) -> KeptBook:
        path, seen = self._folder / f"{name}.json", self._seen(name)
        try:
            stored = read_untrusted_json(path, at_most=MAX_FILE_BYTES, what="book")
        except NotFoundError as e:
            raise NotFoundError("book", name, "`btcfi book list` has ours") from e
        kept = _KEPT.read(stored, path.name)
        kept.seen = seen  # of before it was read: a writing in between is one that we have not seen
        return kept

    def _seen(self, name: str) -> _Seen | None:
        try:
            found = (self._folder / f"{name}.json").stat(follow_symlinks=False)
        except (OSError, ValueError):  # there is none, or the name is none of a file
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _encode(kept: KeptBook) -> dict[str, Any]:
    return {
        "number": kept.number,
        "role": kept.role.value,
        "proposal": encode_proposal(kept.proposal),
        "policy": encode_policy(kept.policy),
        "stake": kept.stake,
        "value": kept.value,
        "answer": None if kept.answer is None else encode_answer(kept.answer),
        "sign": None if kept.sign is None else encode_signatures(kept.sign),
        "funding": _hex(kept.funding),
        "settlement": _hex(kept.settlement),
        "children": [encode_version(one) for one in kept.children],
        "refund_children": [encode_version(one) for one in kept.refund_children],
        "cancelled": _hex(kept.cancelled),
        "withdrawn": kept.withdrawn,
        "watch": None if kept.watch is None else encode_watch(kept.watch),
        "fund_by": kept.fund_by,
        "funded": kept.funded,
        "closing": None if kept.closing is None else encode_close_request(kept.closing),
        "asked_at": kept.asked_at,
        "asked_knowing": kept.asked_knowing,
        "closes": [display_txid(txid) for txid in kept.closes],
    }


def _hex(transaction: Transaction | None) -> str | None:
    return None if transaction is None else encode_transaction(transaction)


_KEPT: Final = record(
    KeptBook, may_lack=("seen",), seen=Rule(lambda _: None, "nothing"),
    proposal=Rule(decode_proposal, "a book's proposal"), policy=POLICY_RULE, value=optional(WHOLE),
    answer=optional(Rule(decode_answer, "an answer to it")), sign=optional(Rule(decode_signatures, "its signatures")),
    funding=optional(TRANSACTION_RULE), settlement=optional(TRANSACTION_RULE), children=listed(VERSION_RULE),
    refund_children=listed(VERSION_RULE), cancelled=optional(TRANSACTION_RULE), watch=optional(WATCH_RULE),
    fund_by=optional(WHOLE), closing=optional(Rule(decode_close_request, "a close request")), asked_at=optional(WHOLE),
    closes=listed(TXID),
)  # fmt: skip
