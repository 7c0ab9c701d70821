"""The rounds of a transfer at the desk: who owes a word, what a word is checked for, and by whose fault it fails.

    half      seller, holder      keys, scripts and coins of their own (the newcomer's come with its take)
    presigned seller, newcomer    the new contract's CETs
    ready     all three           the witnesses of their coins; of the seller and the holder a public nonce, too
    seller    seller              its part of the key path
    holder    holder              its part, and it is sent

Every word goes to the desk alone; it hands on halves, pre-signatures and public nonces, and no part and no witness. The
holder, whose price stands while the market moves, signs last, and what it has signed is sent at once. Each owner has so
many seconds for its word, from when it was asked. Whoever is silent, or says what is none, is at fault at once; who
refuses is at fault unless what the desk and its node have says that another one is. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from btcfi.bitcoin.fees import dust_limit
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.bitcoin.wallet import InsufficientFundsError
from btcfi.contracts.messages import ContractTerms, Party
from btcfi.contracts.reopen import (
    Held,
    Leaving,
    Reopened,
    Reopening,
    Secured,
    Statement,
    Word,
    check_coin_witness,
    secure,
    transfer_of,
    undone_by,
)
from btcfi.contracts.setup import check_party
from btcfi.contracts.splice import CoinMissingError, Owner, SeenCoin, Stake, check_coins, coin_fee, most_fee
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.market.transfer import TransferDeal, TransferOffer, check_terms_of
from btcfi.units import Sats, UnixSeconds

FAIR_SECONDS: Final = 10
"""So long an owner was asked before what it leaves unsaid at the end is its fault: whoever takes chooses that end."""

MOST_COINS: Final = 20
"""Of one owner: with so many of each, the transaction is half of what a version 3 one may be."""

ANSWERABLE_SECONDS: Final = 5
"""Of a deal, left when a word was asked for: with less its refusal is right."""


class Round(StrEnum):
    """What is owed, in this order."""

    HALF = "half"
    PRESIGNED = "presigned"
    READY = "ready"
    SELLER = "seller"
    HOLDER = "holder"


OWED: Final[Mapping[Round, tuple[Owner, ...]]] = {
    Round.HALF: (Owner.SELLER, Owner.HOLDER, Owner.NEWCOMER),
    Round.PRESIGNED: (Owner.SELLER, Owner.NEWCOMER),
    Round.READY: (Owner.SELLER, Owner.HOLDER, Owner.NEWCOMER),
    Round.SELLER: (Owner.SELLER,),
    Round.HOLDER: (Owner.HOLDER,),
}
"""By whom."""


class OutOfTurnError(ConflictError):
    """A word that nobody has asked its owner for."""

    def __init__(self, owner: Owner, said: Round, problem: str) -> None:
        super().__init__(f"the {owner.value}'s {said} is not asked for now: {problem}; wait for the desk's letter")
        self.owner, self.said = owner, said


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """An owner's last word before the key path: its coins' witnesses, and its nonce where it is in the old contract."""

    witnesses: Mapping[int, tuple[bytes, ...]] = field(repr=False)
    nonce: bytes | None = None


Said = Party | Leaving | bytes | Ready


# ---- whose word is what


def holder_word(held: Held, offer: TransferOffer, leaving: Leaving, *, wallet: frozenset[bytes]) -> Word:
    """Return what a holder has agreed to by its own offer: the price, less the fee of a coin that it brings."""
    stake = Stake(due=offer.price, script=leaving.script, coins=leaving.coins)
    return Word(
        owner=Owner.HOLDER, held=held, half=leaving, terms=None, least=offer.price - coin_fee(stake, offer.rate),
        valid_until=offer.valid_until, wallet=wallet,
    )  # fmt: skip


def seller_word(held: Held, deal: TransferDeal, half: Party, *, wallet: frozenset[bytes]) -> Word:
    """Return what a seller has agreed to by its consent: the terms that it has, nothing lost but its own coin's fee."""
    stake = Stake(due=0, script=half.change_script, coins=half.coins)
    return Word(
        owner=Owner.SELLER, held=held, half=half, terms=replace(held.terms, rate=deal.rate),
        least=-coin_fee(stake, deal.rate), valid_until=deal.until, wallet=wallet,
    )  # fmt: skip


def newcomer_word(
    offer: TransferOffer, terms: ContractTerms, leaving: Leaving, half: Party, *, until: UnixSeconds,
    wallet: frozenset[bytes],
) -> Word:  # fmt: skip
    """Return what a newcomer has agreed to by its take: the offer's terms, its price, and the transaction's fee.

    terms: as the desk says them, at the offer's rate. leaving: the holder's half, whose output it pays for unless the
    holder does. Raises InvalidInputError for terms that are not the offer's.
    """
    check_terms_of(offer, terms)
    own = Stake(due=-offer.price, script=half.change_script, coins=half.coins)
    holder = Stake(due=offer.price, script=leaving.script, coins=leaving.coins)
    return Word(
        owner=Owner.NEWCOMER, held=None, half=half, terms=terms,
        least=-offer.price - most_fee(own, [holder], offer.rate), valid_until=until, wallet=wallet,
    )  # fmt: skip


# ---- the desk


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One transfer as the desk has it: the deal, the old contract by its own records, and what was said."""

    deal: TransferDeal
    held: Held
    buyer_key: bytes
    """Compressed, of the old contract."""
    seller_key: bytes
    said: Mapping[tuple[Round, Owner], Said] = field(default_factory=dict, repr=False)
    """Each word was checked before it came here, and none is ever changed."""
    reopened: Reopened | None = field(default=None, repr=False)
    """Once all halves are here."""

    def owed(self) -> tuple[Round, frozenset[Owner]] | None:
        """Return which word is owed now, and by whom; None when all is said."""
        for one, owners in OWED.items():
            left = frozenset(owner for owner in owners if (one, owner) not in self.said)
            if left:
                return one, left
        return None

    def hear(self, owner: Owner, said: Round, word: Said) -> Transfer:
        """Return the transfer with one more word, checked; the same word again changes nothing.

        Raises OutOfTurnError for a word that is not owed, and for another one in place of one that is here;
        WrongAdaptorError, WrongSignatureError, InvalidInputError, InsufficientFundsError for a word that is none: its
        owner's fault.
        """
        known = self.said.get((said, owner))
        if known is not None:
            if known != word:
                raise OutOfTurnError(owner, said, "another one is here, and counts")
            return self
        owed = self.owed()
        if owed is None or owed[0] is not said or owner not in owed[1]:
            raise OutOfTurnError(owner, said, f"{owed[0]} is" if owed else "all is said")
        self._check(owner, said, word)
        return replace(self, said={**self.said, (said, owner): word})

    def agree(self, compute: Callable[[Statement], Reopened]) -> Transfer:
        """Return the transfer with what all halves together mean. compute: ``reopen`` with our own guest.

        Each half was checked alone, so what this raises is nobody's fault.
        """
        return replace(self, reopened=compute(self.statement()))

    def statement(self) -> Statement:
        """Return what all three compute alike, once all halves are here."""
        seller, leaving, newcomer = (self.said[Round.HALF, owner] for owner in OWED[Round.HALF])
        if not isinstance(seller, Party) or not isinstance(newcomer, Party) or not isinstance(leaving, Leaving):
            raise InvalidInputError("half", "of another kind", "two parties' and a leaving holder's")
        return transfer_of(
            self.held.coin, self.held.terms, price=self.deal.price, rate=self.deal.rate, seller=seller,
            newcomer=newcomer, leaving=leaving, valid_until=self.deal.until,
        )  # fmt: skip

    def nonces(self) -> tuple[bytes, bytes]:
        """Return both public nonces in the order of the key path, the old buyer's first."""
        return self._nonce(Owner.HOLDER), self._nonce(Owner.SELLER)

    def finish(self) -> Transaction:
        """Return the signed transaction, which is sent at once. Raises as ``Reopening.finish``; nothing is left to."""
        reopened = self._agreed()
        witnesses: dict[int, tuple[bytes, ...]] = {}
        for owner in OWED[Round.READY]:
            witnesses |= self._ready(owner).witnesses
        parts = [self._bytes(Round.HOLDER, Owner.HOLDER), self._bytes(Round.SELLER, Owner.SELLER)]
        secured = [Secured.of(reopened, owner) for owner in OWED[Round.PRESIGNED]]  # ``hear`` has checked both
        return self._path().finish(self.nonces(), parts, witnesses, secured)

    # ---- what a word is checked for

    def _check(self, owner: Owner, said: Round, word: Said) -> None:
        if said is Round.HALF:
            self._check_half(owner, word)
        elif said is Round.PRESIGNED:
            other = Owner.NEWCOMER if owner is Owner.SELLER else Owner.SELLER
            secure(self._agreed(), other, _as_bytes(word))
        elif said is Round.READY:
            self._check_ready(owner, word)
        else:
            self._path().check(owner, self.nonces(), _as_bytes(word))

    def _check_half(self, owner: Owner, word: Said) -> None:
        if isinstance(word, Leaving) is not (owner is Owner.HOLDER) or not isinstance(word, (Leaving, Party)):
            raise InvalidInputError(f"{owner.value}'s half", "of another kind", "its own half")
        if isinstance(word, Leaving) and word.script != self.held.contract.buyer_script:
            expected = "the script that the contract pays its holder to"
            raise InvalidInputError("holder's half.script", word.script.hex()[:24], expected)
        others = [one for (_, who), one in self.said.items() if who is not owner and isinstance(one, (Party, Leaving))]
        taken = {coin.outpoint for one in others for coin in one.coins} | {self.held.funding}
        outpoints = {coin.outpoint for coin in word.coins}
        if len(outpoints) != len(word.coins) or taken & outpoints or len(outpoints) > MOST_COINS:
            expected = f"coins of its own, each once, at most {MOST_COINS}"
            raise InvalidInputError(f"{owner.value}'s half.coins", "one is named already, or too many are", expected)
        if isinstance(word, Party):
            check_party(f"the {owner.value}", word)
            keys = {one.key[1:] for one in others if isinstance(one, Party)}
            if word.xonly in keys:
                raise InvalidInputError(f"{owner.value}'s half.key", "is the other side's", "a key of its own")
        self._check_worth(owner, word)

    def _check_worth(self, owner: Owner, word: Party | Leaving) -> None:
        """Check that an owner's coins pay what it brings and its fee, whatever the others bring."""
        script = word.script if isinstance(word, Leaving) else word.change_script
        price, rate = self.deal.price, self.deal.rate
        due = {Owner.SELLER: 0, Owner.HOLDER: price, Owner.NEWCOMER: -price}[owner]
        stake = Stake(due=due, script=script, coins=word.coins)
        if owner is Owner.NEWCOMER:
            holder = Stake(due=price, script=self.held.contract.buyer_script)
            needed = price + most_fee(stake, [holder], rate)
        else:
            needed = coin_fee(stake, rate) + (dust_limit(script) if word.coins else 0) - due
        if (worth := sum(coin.value for coin in word.coins)) < needed:
            raise InsufficientFundsError(available=Sats(worth), needed=Sats(needed))

    def _check_ready(self, owner: Owner, word: Said) -> None:
        if not isinstance(word, Ready):
            raise InvalidInputError(f"{owner.value}'s ready", "of another kind", "witnesses and a nonce")
        reopened = self._agreed()
        own = reopened.splice.inputs.get(owner, range(0))
        if set(word.witnesses) != set(own):
            problem = f"of inputs {sorted(word.witnesses)}"
            raise InvalidInputError(f"{owner.value}'s witnesses", problem, f"of {list(own)}, its own")
        for index in own:
            check_coin_witness(reopened, index, word.witnesses[index])
        if (word.nonce is None) is not (owner is Owner.NEWCOMER):
            raise InvalidInputError(f"{owner.value}'s nonce", "missing, or one too many", "of both old sides")
        if word.nonce is not None:
            self._path().check_nonce(word.nonce)

    def _path(self) -> Reopening:
        return Reopening(self._agreed(), self.held, buyer_key=self.buyer_key, seller_key=self.seller_key)

    def _agreed(self) -> Reopened:
        if self.reopened is None:
            raise OutOfTurnError(Owner.SELLER, Round.PRESIGNED, "not all halves are here")
        return self.reopened

    def _ready(self, owner: Owner) -> Ready:
        word = self.said[Round.READY, owner]
        assert isinstance(word, Ready)  # noqa: S101 - ``_check_ready`` let nothing else in
        return word

    def _nonce(self, owner: Owner) -> bytes:
        return _as_bytes(self._ready(owner).nonce or b"")

    def _bytes(self, said: Round, owner: Owner) -> bytes:
        return _as_bytes(self.said[said, owner])


def _as_bytes(word: Said) -> bytes:
    if not isinstance(word, bytes):
        raise InvalidInputError("word", "of another kind", "signatures")
    return word


# ---- by whose fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a transfer came to nothing."""

    blamed: Owner | None
    """None: nobody, or it cannot be said."""
    problem: str

    @property
    def offer_stands(self) -> bool:
        """Whether the holder's offer goes back into the book, in its old place: unless the holder is at fault.

        Without the seller's consent it can be taken by nobody, and waits for one.
        """
        return self.blamed is not Owner.HOLDER

    @property
    def consent_stands(self) -> bool:
        """Whether the seller's consent still holds: a seller at fault has broken it, and loses its rank as a maker."""
        return self.blamed is not Owner.SELLER


def silent(
    transfer: Transfer, asked: Mapping[Owner, UnixSeconds], *, now: UnixSeconds, seconds: int
) -> Failure | None:  # fmt: skip
    """Return by whose silence a transfer fails now, None while nobody's time is over.

    asked: when each owner of this round was asked for its word; who was not asked owes nothing yet. At the deal's end
    only who had its share of the time is at fault. Of several late ones the first asked is named: one is enough.
    """
    owed = transfer.owed()
    if owed is None:
        return None
    said, owners = owed
    waiting = sorted((asked[one], one.value, one) for one in owners if one in asked)
    for at, _, owner in waiting:
        if now - at >= seconds:
            return Failure(blamed=owner, problem=f"the {owner.value} has not sent its {said} within {seconds} s")
    if now < transfer.deal.until:
        return None
    for at, _, owner in waiting:
        if transfer.deal.until - at >= FAIR_SECONDS:
            return Failure(blamed=owner, problem=f"the deal was over before the {owner.value} sent its {said}")
    return Failure(blamed=None, problem="the deal was over before anybody had the time for its word")


def refused(
    transfer: Transfer, owner: Owner, problem: str, *, asked: UnixSeconds,
    seen: Mapping[OutPoint, SeenCoin], over: str = "",
) -> Failure:  # fmt: skip
    """Return by whose fault a transfer fails that an owner refuses to go on with.

    seen: of its inputs, as our node has them. over: why it is too late by the chain or the oracles, as we see it
    ourselves; then nobody is at fault. A refusal is right where a coin that another names is not there, or where there
    was no time left to answer.
    """
    if over:
        return Failure(blamed=None, problem=over)
    if transfer.deal.until - asked < ANSWERABLE_SECONDS:
        return Failure(blamed=None, problem="the deal was over within seconds of our letter")
    if transfer.reopened is not None:
        try:
            check_coins(transfer.reopened.splice, seen)
        except CoinMissingError as e:
            named = {one.value: one for one in Owner}
            return Failure(blamed=named.get(e.owner), problem=str(e))
    return Failure(blamed=owner, problem=f"the {owner.value} refused: {problem}")


def undone(transfer: Transfer, spent_otherwise: Sequence[OutPoint]) -> Failure:
    """Return by whose fault a block has overtaken a transfer that was sent: whose coin it has spent otherwise.

    Where coins of several are gone nobody knows whose went first. Of the collateral it is nobody's: both sides of the
    old contract may settle it.
    """
    owners = undone_by(transfer.reopened.splice, spent_otherwise) if transfer.reopened else frozenset()
    blamed = next(iter(owners)) if len(owners) == 1 else None
    what = "the old contract was settled" if not owners else "a coin of it was spent otherwise"
    return Failure(blamed=blamed, problem=f"a block has overtaken it: {what}")
