"""What a party keeps of transfers of its positions: its owner's signed words, and how far each transfer has come.

Files of the party's folder, without a key or a node. A word is written down before anybody else sees it: a process
that signs goes by what lies here, whatever a service hands it. What was signed of a transfer is written down before it
leaves, and is never signed anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from btcfi.adapters.files import make_private, read_untrusted_json, write_private
from btcfi.bitcoin.transaction import OutPoint
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.messages import COINS, encode_coin
from btcfi.contracts.splice import Owner
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.transfer import (
    SignedTransferConsent,
    SignedTransferOffer,
    SignedWord,
    TransferConsent,
    TransferOffer,
    TransferPart,
    TransferTake,
    decode_part,
    decode_signed_consent,
    decode_signed_offer,
    decode_signed_take,
    encode_part,
    encode_signed,
)
from btcfi.records import OBJECT, TEXT, WHOLE, Rule, one_of, optional, record
from btcfi.units import Hash32, UnixSeconds

FOLDER: Final = "transfers"
"""Of a party's folder."""

MAX_FILE_BYTES: Final = 1 << 20
"""Of a transfer: its statement has the announcements of every oracle."""

_OWNERS: Final = {Owner.SELLER: "consent", Owner.HOLDER: "offer", Owner.NEWCOMER: "take"}
"""The kind of word by which each of the three is in a transfer."""


class WordWithdrawnError(NotFoundError):
    """A consent, an offer or a take of ours that we have taken back: nothing of it is signed."""

    def __init__(self, kind: str, name: Hash32) -> None:
        super().__init__(f"transfer {kind}", name.hex()[:16], "it was withdrawn; make another")
        self.word = name


class TransferState(StrEnum):
    """How far a transfer has come, as we see it."""

    OPEN = "open"
    """We may still be asked for a word of it."""
    DONE = "done"
    """We have the signed transaction."""
    OVER = "over"
    """Nothing of it is signed any more; what we have signed before may still be finished, as the chain says."""
    VOID = "void"
    """A block has spent a coin of it otherwise, and six lie on that: nobody can finish it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptWord:
    """One signed text of ours as its file has it."""

    signed: SignedWord
    withdrawn: bool = False
    bare: bool = False
    """Of an offer: its holder brings no coin of its own, and so cannot take its signature back."""

    @property
    def kind(self) -> str:
        """What it is."""
        return _kind(self.signed)

    @property
    def id(self) -> Hash32:
        """What was signed."""
        return _said(self.signed).id

    @property
    def valid_until(self) -> UnixSeconds:
        """Until when it holds."""
        return _said(self.signed).valid_until


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTransfer:
    """A transfer as its file has it."""

    part: TransferPart
    """By which every word of ours is ours, and the others are who they are."""
    owner: Owner
    """Which of the three we are."""
    option: str
    """The old option, as the letters name it."""
    until: UnixSeconds
    """From this second on nothing of it is signed."""
    number: int | None = None
    """Of our key in the new contract; None: we leave."""
    coins: tuple[Coin, ...] = ()
    """That we bring: no other contract or payment names them."""
    said: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    """By round, as it left: once, and never anew. Pre-signatures are computed again instead."""
    statement: dict[str, Any] | None = field(default=None, repr=False)
    """What we were first told of it: of any other one nothing is signed."""
    txid: str = ""
    """Of its transaction, display order, once that is known."""
    new: str = ""
    """The new contract's file, once both its sides' pre-signatures lie there."""
    state: TransferState = TransferState.OPEN
    home: str = ""
    """What takes our coin home that no contract of ours names, hex."""
    gone_height: int | None = None
    """Block at which we first saw a coin of it spent otherwise, for good once enough lie on it."""
    gone_block: str = ""
    problem: str = ""
    """Why it came to nothing, as we were told or saw."""

    @property
    def take_id(self) -> Hash32:
        """Its name."""
        return self.part.take.take.id

    @property
    def contract_id(self) -> Hash32:
        """The old contract's."""
        return self.part.offer.offer.contract_id

    @property
    def holds_coins(self) -> bool:
        """Whether our coins in it are nobody else's: while it may go on, and for good once their signatures left."""
        return self.state is TransferState.OPEN or ("ready" in self.said and self.state is not TransferState.VOID)


def _kind(signed: SignedWord) -> str:
    if isinstance(signed, SignedTransferConsent):
        return "consent"
    return "offer" if isinstance(signed, SignedTransferOffer) else "take"


def _said(signed: SignedWord) -> TransferConsent | TransferOffer | TransferTake:
    if isinstance(signed, SignedTransferConsent):
        return signed.consent
    return signed.offer if isinstance(signed, SignedTransferOffer) else signed.take


_DECODE: Final[Mapping[str, Callable[[object], SignedWord]]] = {
    "consent": decode_signed_consent, "offer": decode_signed_offer, "take": decode_signed_take,
}  # fmt: skip


class TransferBook:
    """The files of transfers in a party's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._words = self._folder / "words"

    # ---- our owner's words

    def words(self) -> Iterator[KeptWord]:
        """Yield every word of ours. Raises InvalidInputError for a file that is none."""
        for path in sorted(self._words.glob("*.json")):
            yield _read_word(path)

    def word(self, owner: Owner, part: TransferPart) -> KeptWord:
        """Return our own word in a transfer, which must be here as it stands there.

        Raises NotFoundError for one that we have not given, WordWithdrawnError.
        """
        kind = _OWNERS[owner]
        texts: dict[Owner, SignedWord] = {
            Owner.SELLER: part.consent, Owner.HOLDER: part.offer, Owner.NEWCOMER: part.take,
        }  # fmt: skip
        name = _said(texts[owner]).id
        path = self._words / f"{name.hex()}.json"
        if not path.exists():
            raise NotFoundError(f"transfer {kind} of ours", name.hex()[:16], "nothing of another's word is signed")
        kept = _read_word(path)
        if kept.kind != kind or kept.id != name:
            raise InvalidInputError(path.name, f"a {kept.kind}", f"the {kind} of that name")
        if kept.withdrawn:
            raise WordWithdrawnError(kind, name)
        return kept

    def say(self, word: KeptWord) -> KeptWord:
        """Write a word down, before anybody else sees it."""
        make_private(self._folder, named=True)
        make_private(self._words)
        row = {
            "kind": word.kind, "body": encode_signed(word.signed), "withdrawn": word.withdrawn, "bare": word.bare,
        }  # fmt: skip
        write_private(self._words / f"{word.id.hex()}.json", json.dumps(row).encode())
        return word

    def withdraw(self, name: Hash32) -> KeptWord:
        """Sign nothing of a word of ours any more, but what is signed. Raises NotFoundError."""
        path = self._words / f"{name.hex()}.json"
        if not path.exists():
            raise NotFoundError("transfer word of ours", name.hex()[:16])
        return self.say(replace(_read_word(path), withdrawn=True))

    # ---- transfers

    def __iter__(self) -> Iterator[KeptTransfer]:
        """Yield every transfer that is kept. Raises InvalidInputError for a file that is none.

        Not one is left out: its coins would be named a second time.
        """
        for path in sorted(self._folder.glob("*.json")):
            yield _KEPT.read(read_untrusted_json(path, at_most=MAX_FILE_BYTES, what="transfer"), path.name)

    def find(self, take: Hash32) -> KeptTransfer | None:
        """Return what is kept of a transfer, None before anything is."""
        path = self._folder / f"{take.hex()}.json"
        if not path.exists():
            return None
        return _KEPT.read(read_untrusted_json(path, at_most=MAX_FILE_BYTES, what="transfer"), path.name)

    def save(self, kept: KeptTransfer) -> KeptTransfer:
        """Write one down. Raises InvalidInputError for one that could not be read again."""
        make_private(self._folder, named=True)
        row = {
            "part": encode_part(kept.part), "owner": kept.owner.value, "option": kept.option, "until": kept.until,
            "number": kept.number, "coins": [encode_coin(one) for one in kept.coins], "said": kept.said,
            "statement": kept.statement, "txid": kept.txid, "new": kept.new, "state": kept.state.value,
            "home": kept.home, "gone_height": kept.gone_height, "gone_block": kept.gone_block,
            "problem": kept.problem,
        }  # fmt: skip
        raw = json.dumps(row).encode()
        if len(raw) > MAX_FILE_BYTES:
            raise InvalidInputError("transfer", f"{len(raw):,} bytes to remember", f"at most {MAX_FILE_BYTES:,}")
        write_private(self._folder / f"{kept.take_id.hex()}.json", raw)
        return kept

    def coins(self) -> set[OutPoint]:
        """Return the outpoints of our coins that transfers hold."""
        return {coin.outpoint for one in self if one.holds_coins for coin in one.coins}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    kind: str
    body: dict[str, Any]
    withdrawn: bool
    bare: bool


_WORD: Final = record(_Word, body=OBJECT)


def _read_word(path: Path) -> KeptWord:
    found = _WORD.read(read_untrusted_json(path, at_most=MAX_FILE_BYTES, what="transfer word"), path.name)
    if found.kind not in _DECODE:
        raise InvalidInputError(path.name, f"a {found.kind[:20]!a}", "a consent, an offer or a take")
    return KeptWord(signed=_DECODE[found.kind](found.body), withdrawn=found.withdrawn, bare=found.bare)


def _rounds(value: dict[str, object]) -> dict[str, dict[str, Any]]:
    return {str(name): OBJECT(one) for name, one in value.items()}


_KEPT: Final = record(
    KeptTransfer, part=Rule(decode_part, "the three signed texts"), owner=one_of(Owner), option=TEXT,
    number=optional(WHOLE), coins=COINS, said=Rule(_rounds, "words by their rounds"), statement=optional(OBJECT),
    state=one_of(TransferState), gone_height=optional(WHOLE),
)  # fmt: skip
