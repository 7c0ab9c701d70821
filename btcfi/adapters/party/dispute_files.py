"""What a party keeps of disputed contracts: files that are written once, each before anything of it leaves.

    disputes/contracts/PROPOSAL/   the messages, as they were sent and received; our seed, sealed; what we sent
    disputes/cuts/IDENTITY/        a file for each attempt whose cut we committed to: they are counted
    disputes/faults/               a file for each fault point that we were ever shown, with its contract
    disputes/claims/               a file for each contract in which we signed a claim: which one

Nothing here is ever written over or removed while the contract's coin may be unspent, so a program that is killed
between any two writes says the same again, and never anything else. Two terminals cannot both write a name: who comes
second reads what the first wrote.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag

from btcfi.adapters.files import KeystoreExistsError, UntrustedFileError, make_private, read_untrusted, write_private
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.store import VERSION_RULE, encode_version
from btcfi.bitcoin.transaction import OutPoint, Transaction, parse_transaction
from btcfi.contracts.messages import MAX_MESSAGE_BYTES, canonical
from btcfi.contracts.settling import COIN_INPUT, Version
from btcfi.disputes.garbled.deal_messages import decode_acceptance, decode_proposal
from btcfi.disputes.garbled.opening import Side
from btcfi.documents import parse_json
from btcfi.errors import BtcfiError, ConflictError, InvalidInputError, NotFoundError
from btcfi.records import listed, record, whole
from btcfi.units import Hash32, Height, Sats

log = logging.getLogger(__name__)

FOLDER: Final = "disputes"
"""Of a party's folder."""

CHILDREN: Final = "children-"
"""How the files of children begin, each followed by its parent's txid."""

WITHDRAWN: Final = "withdrawn"
OPENED: Final = "opened"
ENDED: Final = "ended"


_MAX_HEIGHT: Final = 499_999_999
"""Above it a lock time is no height. Source: BIP65."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    versions: tuple[Version, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Started:
    height: int


_KEPT: Final = record(_Kept, versions=listed(VERSION_RULE))
_STARTED: Final = record(_Started, height=whole(0, _MAX_HEIGHT))

_NONCE_SIZE: Final = 12
"""Bytes of AES-GCM's nonce, before what it encrypted."""

_MAX_ROW: Final = 1 << 16


class OtherMessageError(ConflictError):
    """Another message, or row, stands there already: what was answered once is answered so for ever."""

    def __init__(self, contract: str, what: str) -> None:
        super().__init__(
            f"dispute {contract[:16]}: another {what} stands in the folder already; nothing was signed. A new attempt "
            "is a new proposal"
        )
        self.contract, self.what = contract, what


class DisputeFiles:
    """The files of one party's disputed contracts."""

    def __init__(self, folder: Path) -> None:
        """folder: the party's."""
        self.folder = folder / FOLDER

    # ---- messages

    def names(self) -> list[str]:
        """Return the contracts that have a proposal, by its id as hex; a copy beside them is none."""
        found = (path.parent.name for path in (self.folder / "contracts").glob("*/proposal"))
        return sorted(name for name in found if _is_name(name))

    def put(self, name: str, what: str, message: Any) -> None:  # noqa: ANN401 - JSON
        """Write a message once; the same again is nothing. Raises OtherMessageError where another one stands."""
        self._once(self._room(name) / what, canonical(message), name, what)

    def find(self, name: str, what: str) -> Any:  # noqa: ANN401 - JSON
        """Return a message, or None. Raises InvalidInputError for a file that holds none: that is no missing one."""
        path = self._room(name) / what
        return _object(path, MAX_MESSAGE_BYTES, what) if path.exists() else None

    def started(self, name: str) -> Height | None:
        """Return where the chain was at the first message, or None. Raises InvalidInputError for a changed file."""
        found = self.find(name, "started")
        return None if found is None else Height(_STARTED.read(found, "started").height)

    def put_transaction(self, name: str, what: str, transaction: Transaction) -> None:
        """Write what we are going to send; a later one takes its place."""
        write_private(self._room(name) / what, transaction.to_bytes())

    def put_versions(self, name: str, what: str, versions: Sequence[Version]) -> None:
        """Write all that we have signed, or are about to send, in one place of a contract, the last one last."""
        write_private(self._room(name) / what, canonical({"versions": [encode_version(one) for one in versions]}))

    def find_versions(self, name: str, what: str) -> tuple[Version, ...]:
        """Return them, none if there are none. Raises InvalidInputError for a file that was changed."""
        found = self.find(name, what)
        return () if found is None else _KEPT.read(found, what).versions

    def find_transaction(self, name: str, what: str) -> Transaction | None:
        """Return a transaction that we wrote, or None."""
        path = self._room(name) / what
        if not path.exists():
            return None
        return parse_transaction(read_untrusted(path, at_most=MAX_MESSAGE_BYTES, what=what))

    # ---- secrets

    def side_of(self, name: str) -> Side:
        """Return our side. Raises NotFoundError for a contract that is not ours, or whose seed is gone."""
        side = self.find_side(name)
        if side is None:
            raise NotFoundError(
                "seed of dispute", name[:16], "of our side: a contract of ours has it beside its proposal"
            )
        return side

    def find_side(self, name: str) -> Side | None:
        """Return our side, None where no seed of ours lies there."""
        return next((side for side in Side if (self._room(name) / f"{side.value}.seed").exists()), None)

    def keep_seed(self, name: str, side: Side, seed: bytes, keystore: Keystore) -> bytes:
        """Seal an attempt's seed into its room once, and return the one that stands there."""
        random, path = secrets.token_bytes(_NONCE_SIZE), self._room(name) / f"{side.value}.seed"
        if path.exists():
            return self.seed(name, side, keystore)
        sealed = random + keystore.box().encrypt(random, seed, f"{name}/{side.value}".encode())
        try:
            write_private(path, sealed, fresh=True)
        except KeystoreExistsError:
            return self.seed(name, side, keystore)
        return seed

    def seed(self, name: str, side: Side, keystore: Keystore) -> bytes:
        """Return the seed of an attempt. Raises UntrustedFileError for one that was changed, NotFoundError."""
        path = self._room(name) / f"{side.value}.seed"
        raw = read_untrusted(path, at_most=_MAX_ROW, what="seed of a dispute")
        try:
            return keystore.box().decrypt(raw[:_NONCE_SIZE], raw[_NONCE_SIZE:], f"{name}/{side.value}".encode())
        except (InvalidTag, ValueError) as e:
            raise UntrustedFileError(path, "was changed, or is another keystore's", "the seed as it was sealed") from e

    # ---- rows

    def row(self, ledger: str, key: str, value: Any, name: str) -> None:  # noqa: ANN401 - JSON
        """Write a one-time row; the same again is nothing. name: the contract. Raises OtherMessageError."""
        self._once(self.folder / ledger / key, canonical(value), name, f"row of {ledger}")

    def find_row(self, ledger: str, key: str) -> Any:  # noqa: ANN401 - JSON
        """Return a row, or None."""
        path = self.folder / ledger / key
        return _object(path, _MAX_ROW, f"row of {ledger}") if path.exists() else None

    def count(self, ledger: str) -> int:
        """Return how many rows a ledger has."""
        folder = self.folder / ledger
        return sum(not path.name.startswith(".") for path in folder.iterdir()) if folder.is_dir() else 0

    def count_all(self, ledger: str) -> int:
        """Return how many rows a ledger has in all of its rooms."""
        folder = self.folder / ledger
        rooms = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sum(self.count(f"{ledger}/{room}") for room in rooms)

    # ---- coins and money

    def is_over(self, name: str) -> bool:
        """Return whether nothing of ours is in a contract any more, for good: withdrawn, or ended deep in blocks."""
        return (self._room(name) / WITHDRAWN).exists() or (self._room(name) / ENDED).exists()

    def exposure(self, *, besides: str = "") -> Sats:
        """Return what we have put, or may put, into contracts that are not over. besides: one that is not counted."""
        names = [name for name in self.names() if name != besides and not self.is_over(name)]
        drafts = [(decode_proposal(self.find(name, "proposal")).draft, self.side_of(name)) for name in names]
        return Sats(sum(draft.puts_in(side) for draft, side in drafts))

    def coins(self) -> set[OutPoint]:
        """Return our coins that contracts name, and our children's; none of what was withdrawn or has ended.

        A contract whose files cannot be read holds no coin back: what others must send in time is to be paid for, and
        nothing new is signed beside it (``exposure`` raises).
        """
        found: set[OutPoint] = set()
        for name in self.names():
            try:
                found.update(self._coins_of(name))
            except (BtcfiError, OSError) as e:
                log.warning("dispute %s: its coins are not known: %s", name[:16], e)
        return found

    def _coins_of(self, name: str) -> Iterator[OutPoint]:
        if self.is_over(name):
            return
        for path in self._room(name).glob(f"{CHILDREN}*"):
            for child in self.find_versions(name, path.name):
                yield child.transaction.inputs[COIN_INPUT].outpoint
        half: Any = None
        if self.side_of(name) is Side.CLAIMANT:
            half = decode_proposal(self.find(name, "proposal"))
        elif (kept := self.find(name, "acceptance")) is not None:
            half = decode_acceptance(kept)
        for coin in () if half is None else half.coins:
            yield coin.outpoint

    # ----

    def _room(self, name: str) -> Path:
        if not _is_name(name):
            raise NotFoundError("dispute", name[:16], "a proposal's id, 64 hex digits")
        return self.folder / "contracts" / name

    def _once(self, path: Path, data: bytes, name: str, what: str) -> None:
        make_private(path.parent)
        if not path.exists():
            try:
                write_private(path, data, fresh=True)
            except KeystoreExistsError:
                pass  # another terminal was first: looked at like one of before
            else:
                return
        if read_untrusted(path, at_most=MAX_MESSAGE_BYTES, what=what) != data:
            raise OtherMessageError(name, what)


def _is_name(text: str) -> bool:
    return len(text) == 2 * len(Hash32(bytes(32))) and set(text) <= set("0123456789abcdef")


def _object(path: Path, at_most: int, what: str) -> dict[str, Any]:
    found = parse_json(read_untrusted(path, at_most=at_most, what=what), what)
    if not isinstance(found, dict):
        raise InvalidInputError(what, "is no object", "what this folder's owner wrote")
    return found
