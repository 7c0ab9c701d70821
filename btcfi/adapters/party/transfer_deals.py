"""A party's half of transfers of positions, over letters: as their seller, their holder, or the newcomer.

Our word is a file here (``transfer_book``): a seller's consent, a holder's offer, a newcomer's take. Without it nothing
is said. Each round is answered by our own records: the old contract's file, our half as we gave it, our mandate, clock
and node; what is signed is written down before it leaves, once. The new contract's file is there before a signature
that could move money, and the old one's knows the transaction before its key path is signed. Source:
docs/decisions/0068.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from btcfi.adapters.chain.node import Node, TxRejectedError
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.nonces import NonceVault
from btcfi.adapters.party.agreements import Agreements
from btcfi.adapters.party.funding import Funder
from btcfi.adapters.party.market_deals import LapsedError
from btcfi.adapters.party.membership import Membership
from btcfi.adapters.party.reopened import AnotherEndError, check_not_reopened, keep_new, keep_signed, note_end
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.adapters.party.transfer_book import KeptTransfer, KeptWord, TransferBook, TransferState
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.fees import DUST_P2TR, SatsPerKvb, dust_limit
from btcfi.bitcoin.transaction import parse_transaction
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts import reopen, setup
from btcfi.contracts.mandate import Authority
from btcfi.contracts.messages import ContractTerms, Party, Role
from btcfi.contracts.payouts import decode_terms
from btcfi.contracts.reopen import Held, Leaving, Moment, Reopened, Reopening, Secured, Word
from btcfi.contracts.setup import Agreement, SetupPolicy
from btcfi.contracts.splice import Owner, Stake, coin_fee, most_fee
from btcfi.contracts.watch import FINAL_DEPTH
from btcfi.errors import BtcfiError, ConflictError, InvalidInputError, NotFoundError
from btcfi.market import transfer_letters as letters
from btcfi.market.instrument import instrument_of
from btcfi.market.transfer import (
    SignedTransferOffer,
    TransferConsent,
    TransferDeal,
    TransferOffer,
    TransferTake,
    check_part,
    check_terms_of,
    sign_consent,
    sign_offer,
    sign_take,
    terms_hash,
)
from btcfi.market.transfer_letters import Ask
from btcfi.market.transferring import Ready, Round, Said, holder_word, newcomer_word, seller_word
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import Hash32, Height, Sats, Txid, UnixSeconds, display_txid, parse_txid

log = logging.getLogger(__name__)

LONGEST_SECONDS: Final = 30 * 86_400
"""Of a word of ours."""

LAPSED_SECONDS: Final = 5
"""After its time a transfer of which no coin of ours is signed is over here."""

UNSENT_SECONDS: Final = 60
"""After its time what we have signed and our node does not know goes home, as a deal's coins do."""

MOST_OF_ONE: Final = 32
"""Transfers of one contract within a day that we begin with: each is a file here, and costs its desk nothing."""

DAY_SECONDS: Final = 86_400

REGTEST: Final = "regtest"
"""Where blocks come when somebody makes them: a number of them is no time, and a replay's expiry lies in the past."""

_ROLES: Final = {Owner.SELLER: Role.SELLER, Owner.HOLDER: Role.BUYER}


class AnotherTransferError(ConflictError):
    """A second transfer of a contract, or of a take, while a first one is under way."""

    def __init__(self, contract: Hash32, until: int) -> None:
        super().__init__(f"contract {contract.hex()[:16]}: another transfer of it is under way until {until}")
        self.contract, self.until = contract, until


class TransferOverError(ConflictError):
    """A word that is asked for of a transfer that has come to nothing here."""

    def __init__(self, take: Hash32, problem: str) -> None:
        super().__init__(f"transfer {take.hex()[:16]} is over: {problem or 'it is done'}")
        self.take, self.problem = take, problem


class NoCoinError(InsufficientFundsError):
    """A holder without a coin of its own for a transfer that it could then not take back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """What we have of the old contract."""

    name: str
    contract: PartyContract
    agreement: Agreement

    @property
    def held(self) -> Held:
        return Held.of(self.agreement)


class TransferDeals:
    """One party's words in transfers."""

    def __init__(
        self, store: PartyStore, keystore: Keystore, node: Node, agreements: Agreements, *, wallet: PartyWallet,
        funder: Funder, authority: Callable[[str], Authority], policy: Callable[[], SetupPolicy],
        check_refund: Callable[[ContractTerms], None], dead_closes: Callable[[PartyContract], Collection[Txid]],
        let_go: Callable[[str], object], clock: Callable[[], float] = time.time, last_blocks: int | None = None,
    ) -> None:  # fmt: skip
        """Take the rooms of a desk.

        policy: ours, for a contract that is new to us. check_refund: of such terms, as for any offer. dead_closes: of a
        contract, closes that nobody can finish. let_go: frees or takes home what a new contract, by its name, holds.
        last_blocks: before the expiry height, in which nothing is signed; None: as many as for a close.
        """
        self._store, self._keystore, self._node, self._wallet = store, keystore, node, wallet
        self._agreements, self._funder = agreements, funder
        self._authority, self._policy, self._check_refund = authority, policy, check_refund
        self._dead_closes, self._let_go, self._clock, self._last_blocks = dead_closes, let_go, clock, last_blocks
        self._known: dict[Hash32, Reopened] = {}
        """The last ones, computed once: a newcomer's is thousands of runs of the guest."""
        self.made: dict[str, str] = {}
        """New contracts' files by their names in letters, since this process began."""
        self.book = TransferBook(store.folder)

    # ---- what our owner says

    def consent(self, name: str, *, valid_until: UnixSeconds, number: int, member: Membership) -> KeptWord:
        """Say that the other side of a contract that we wrote may change. name: the contract's.

        Raises InvalidInputError, AnotherEndError.
        """
        side = self._side_of(name, Owner.SELLER)
        self._check_valid(valid_until)
        self._check_alone(side)
        consent = TransferConsent(
            seller=member.identity, desk=member.desk, contract_id=side.agreement.id, valid_until=valid_until,
            number=number,
        )  # fmt: skip
        return self.book.say(KeptWord(signed=sign_consent(consent, *self._request())))

    def offer(
        self, name: str, *, price: Sats, rate: SatsPerKvb, valid_until: UnixSeconds, number: int,
        member: Membership, taker: bytes | None = None, bare: bool = False,
    ) -> KeptWord:  # fmt: skip
        """Offer a position of ours, whole, for a price. name: the contract's.

        bare: bring no coin of our own, and so have no way back from a desk that keeps what all have signed. Raises
        InvalidInputError, AnotherEndError, NoCoinError, and what the mandate refuses of the price as of a close.
        """
        side = self._side_of(name, Owner.HOLDER)
        self._check_valid(valid_until)
        self._check_alone(side)
        terms = replace(side.held.terms, rate=rate)
        if not DUST_P2TR <= price <= terms.collateral:
            expected = f"{DUST_P2TR} to the collateral, {terms.collateral:,} sats"
            raise InvalidInputError("price_sats", f"{price:,}", expected)
        self._authority(name).check_close(payout=price, rate=rate, fee=Sats(0), guest_input=b"")
        if not bare:
            self._own_coin(side, price, rate)
        option = decode_terms(terms.option)
        offer = TransferOffer(
            holder=member.identity, desk=member.desk, contract_id=side.agreement.id, terms_hash=terms_hash(terms),
            instrument=instrument_of(option), quantity=option.quantity, price=price, rate=rate,
            valid_until=valid_until, number=number, taker=taker,
        )  # fmt: skip
        return self.book.say(KeptWord(signed=sign_offer(offer, *self._request()), bare=bare))

    def take(
        self, signed: SignedTransferOffer, *, valid_until: UnixSeconds, number: int, member: Membership
    ) -> KeptWord:  # fmt: skip
        """Take a position that is offered, at its price. Raises InvalidInputError for an offer of our own."""
        self._check_valid(valid_until)
        if signed.offer.holder == member.identity:
            raise InvalidInputError("OFFER", "our own", "another's")
        take = TransferTake(
            newcomer=member.identity, offer_id=signed.offer.id, price=signed.offer.price, valid_until=valid_until,
            number=number,
        )  # fmt: skip
        return self.book.say(KeptWord(signed=sign_take(take, *self._request())))

    def withdraw(self, word: Hash32) -> KeptWord:
        """Sign nothing of a word of ours any more; what is signed may still be finished. Raises NotFoundError."""
        with self._store.alone():
            return self.book.withdraw(word)

    # ---- what comes by letter

    def asked(self, ask: Ask, name: str, member: Membership) -> Said:
        """Return our word of a round; the same again gets the same one.

        name: of the letter, without its kind. Raises NotFoundError for another's word in place of ours, LapsedError,
        TransferOverError, AnotherTransferError, AnotherEndError, TooLateToReopenError, CoinMissingError,
        InvalidInputError, and what the mandate refuses; then nothing is signed.
        """
        deal = check_part(ask.part, desk=member.desk)
        owner = deal.owner_of(member.identity)
        option = letters.check_named(name, deal.take_id)
        with self._store.alone():
            kept = self.book.find(deal.take_id)
            if kept is not None and ask.said.value in kept.said:
                return letters.decode_word(ask.said, kept.said[ask.said.value]).word
            self._check_open(ask, deal, owner, kept)
            if kept is None:
                kept = self._begin(ask, deal, owner, option)
            if ask.said is Round.HALF:
                return letters.decode_word(Round.HALF, kept.said[Round.HALF.value]).word
            kept, reopened = self._stated(ask, deal, kept)
            if ask.said is Round.PRESIGNED:
                return self._presigned(deal, kept, reopened)
            if ask.said is Round.READY:
                return self._ready(ask, deal, kept, reopened)
            return self._part(ask, deal, kept, reopened)

    def done(self, message: object) -> KeptTransfer:
        """Keep the transaction that all have signed, and send it, too. Raises InvalidInputError for anything else."""
        take_id, made = letters.decode_done(message)
        with self._store.alone():
            kept = self._find(take_id)
            reopened = self._reopened(kept, self._deal(kept))
            reopen.check_signed(reopened, made)
            if kept.new:
                keep_signed(self._store, reopened, made)
            kept = self.book.save(replace(kept, state=TransferState.DONE))
        with suppress(TxRejectedError):  # the service sends it, too; what else may be the case the watch says
            self._node.send(made)
        return kept

    def over(self, message: object) -> KeptTransfer:
        """Note that the service says that it came to nothing: our coins go home, unless our node has the transfer."""
        take_id, problem = letters.decode_over(message)
        with self._store.alone():
            kept = self._find(take_id)
            if kept.state is not TransferState.OPEN:
                return kept
            kept = self.book.save(replace(kept, state=TransferState.OVER, problem=problem[:300]))
        try:
            if kept.owner is Owner.NEWCOMER and kept.new:
                self._let_go(kept.new)
            self._take_home(kept)
        except BtcfiError as e:  # it is tried again
            log.warning("transfer %s came to nothing, and its coins are not home yet: %s", take_id.hex()[:16], e)
        return kept

    # ---- what is done of itself

    def let_go_lapsed(self) -> None:
        """Free what transfers hold whose time is over, and note whose coins are gone for good."""
        for kept in self.book:
            try:
                if kept.state is not TransferState.VOID and self._look(kept).state is TransferState.OVER:
                    self._take_home(self._find(kept.take_id))
            except BtcfiError as e:  # one transfer's trouble is its own
                log.warning("transfer %s is not let go: %s", kept.take_id.hex()[:16], e)

    def dead_ends(self, contract: PartyContract) -> set[Txid]:
        """Return the transfers of a contract that nobody can finish any more.

        Of these we have never signed a part of the key path, or a block has spent a coin otherwise, and six lie on it.
        """
        ends = set(contract.reopenings)
        found = [one for one in self.book if one.txid and parse_txid(one.txid) in ends] if ends else []
        return {parse_txid(one.txid) for one in found if self._is_dead(one)}

    def _is_dead(self, kept: KeptTransfer) -> bool:
        if kept.owner is Owner.NEWCOMER:
            return False
        return _last_of(kept.owner).value not in kept.said or self._look(kept).state is TransferState.VOID

    def _look(self, kept: KeptTransfer) -> KeptTransfer:
        """Return a transfer as it is by clock and chain."""
        with self._store.alone():
            kept, now = self._find(kept.take_id), self._clock()
            kept = self._noted(kept)
            ready = Round.READY.value in kept.said
            late = kept.until + (UNSENT_SECONDS if ready else LAPSED_SECONDS)
            if kept.state is TransferState.OPEN and now >= late:
                kept = self.book.save(replace(kept, state=TransferState.OVER, problem="its time is over"))
            return kept

    def _noted(self, kept: KeptTransfer) -> KeptTransfer:
        """Return it with the block at which a coin of it is spent otherwise, if the chain still says so.

        A coin is gone and the old collateral is not: no block has the transfer, and none of this chain can. Once
        enough lie on the block at which we first saw it, it is void for good.
        """
        if kept.owner is Owner.NEWCOMER or kept.state is TransferState.VOID or not kept.txid:
            return kept  # a newcomer's own watch follows its new contract
        if Round.READY.value not in kept.said or self._agreements.by_id(kept.contract_id)[1].ended:
            return kept
        tip = self._node.block_count()
        block = self._node.block_hash(tip)
        inputs = self._reopened(kept, self._deal(kept)).splice.transaction.inputs
        collateral, *coins = self._node.unspent_many([txin.outpoint for txin in inputs], include_pool=False)
        if self._node.block_count() != tip or self._node.block_hash(tip) != block:
            return kept  # the chain moved meanwhile: the next look says
        gone = collateral is not None and None in coins
        at, name = kept.gone_height, kept.gone_block
        if at is not None and (not gone or at > tip or self._node.block_hash(Height(at)).hex() != name):
            at, name = None, ""
        if gone and at is None:
            at, name = tip, block.hex()
        state = TransferState.VOID if at is not None and tip - at + 1 >= FINAL_DEPTH else kept.state
        if (at, name, state) == (kept.gone_height, kept.gone_block, kept.state):
            return kept
        return self.book.save(replace(kept, gone_height=at, gone_block=name, state=state))

    def _take_home(self, kept: KeptTransfer) -> None:
        """Take home what of ours a transfer that came to nothing holds, unless our node has the transfer.

        A newcomer's coins are its new contract's, and go home with that.
        """
        if kept.owner is Owner.SELLER:
            self._forget_new(kept)
        if kept.owner is not Owner.HOLDER or not kept.coins or Round.READY.value not in kept.said:
            return
        with self._store.alone():
            kept = self._find(kept.take_id)
            outpoints = [coin.outpoint for coin in kept.coins]
            if None in self._node.unspent_many(outpoints, include_pool=False):
                return  # a block has spent it
            if not kept.home and self._node_has(kept):
                return
            if not kept.home:
                funding = self._reopened(kept, self._deal(kept)).agreement().funding
                made = self._funder.home(kept.txid, kept.coins, funding.transaction, funding.fee)
                kept = self.book.save(replace(kept, home=made.to_bytes().hex()))
        self._node.send(parse_transaction(bytes.fromhex(kept.home)))

    def _forget_new(self, kept: KeptTransfer) -> None:
        """Withdraw a seller's new contract whose key path it never signed: there can be none."""
        if not kept.new or Round.SELLER.value in kept.said:
            return
        with self._store.alone():
            contract = self._store.load(kept.new)
            if not contract.withdrawn:
                contract.withdrawn = True
                self._store.save(contract)

    def _node_has(self, kept: KeptTransfer) -> bool:
        with suppress(NotFoundError):
            self._node.pool_entry(parse_txid(kept.txid))
            return True
        return False

    # ---- rounds

    def _check_open(self, ask: Ask, deal: TransferDeal, owner: Owner, kept: KeptTransfer | None) -> None:
        """Refuse what our owner has not said, or not for so long, and what is over here."""
        self.book.word(owner, ask.part)
        if kept is not None and kept.state is not TransferState.OPEN:
            raise TransferOverError(deal.take_id, kept.problem)
        if kept is not None and (kept.owner is not owner or kept.part != ask.part):
            raise InvalidInputError(letters.PART, "another one than before", "the three texts that it began with")
        if self._clock() >= deal.until:
            raise LapsedError("the transfer", deal.until, self._clock())

    def _begin(self, ask: Ask, deal: TransferDeal, owner: Owner, option: str) -> KeptTransfer:
        """Give our own half, and write it down: keys, scripts, coins, which are held from here on."""
        if ask.said is not Round.HALF:
            raise InvalidInputError("transfer", f"begins with {ask.said.value}", "with the halves")
        self._check_only(deal, owner)
        number, half = self._half(ask, deal, owner, option)
        said = {Round.HALF.value: letters.encode_word(deal.take_id, Round.HALF, half)}
        return self.book.save(
            KeptTransfer(
                part=ask.part, owner=owner, option=option, until=deal.until, number=number, coins=half.coins, said=said
            )
        )

    def _half(self, ask: Ask, deal: TransferDeal, owner: Owner, option: str) -> tuple[int | None, Party | Leaving]:
        if owner is Owner.NEWCOMER:
            coins = self._price_coins(deal)
            return self._party(coins)
        side = self._side(deal, owner)
        if side.contract.order != option:
            raise InvalidInputError("transfer.contract_id", "of another option", f"{option[:40]}'s")
        self._check_alone(side)
        if owner is Owner.SELLER:
            return self._party(())
        bare = self.book.word(owner, ask.part).bare
        coins = () if bare else (self._own_coin(side, deal.price, deal.rate),)
        return None, Leaving(script=side.held.contract.buyer_script, coins=coins)

    def _party(self, coins: tuple[Coin, ...]) -> tuple[int, Party]:
        number, script = self._store.take_number(), self._wallet.script
        key = public_key_compressed(self._keystore.contract_secret(number))
        return number, Party(key=key, payout_script=script, change_script=script, coins=coins)

    def _price_coins(self, deal: TransferDeal) -> tuple[Coin, ...]:
        """Return coins that pay price and transaction. Raises InsufficientFundsError."""
        script = self._wallet.script
        coins = self._wallet.choose(Sats(deal.price + dust_limit(script)), deal.rate)
        own = Stake(due=-deal.price, script=script, coins=coins)
        needed = deal.price + most_fee(own, [Stake(due=deal.price, script=script)], deal.rate)
        if (worth := sum(coin.value for coin in coins)) < needed:
            raise InsufficientFundsError(available=Sats(worth), needed=Sats(needed))
        return coins

    def _own_coin(self, side: _Side, price: Sats, rate: SatsPerKvb) -> Coin:
        """Return the smallest coin of ours that pays for itself, and for its way home. Raises NoCoinError."""
        script = side.held.contract.buyer_script
        free = sorted(self._wallet.free(), key=lambda coin: coin.value)
        for coin in free:
            fee = coin_fee(Stake(due=price, script=script, coins=(coin,)), rate)
            if coin.value >= 4 * fee + dust_limit(script):
                return coin
        raise NoCoinError(available=Sats(sum(coin.value for coin in free)), needed=Sats(DUST_P2TR + 1))

    def _stated(self, ask: Ask, deal: TransferDeal, kept: KeptTransfer) -> tuple[KeptTransfer, Reopened]:
        """Return what is reopened, of the one statement that we go by."""
        if ask.statement is None:
            raise InvalidInputError("transfer.statement", "missing", "what all three sign")
        said = letters.encode_statement(letters.decode_statement(ask.statement, deal))  # nothing else that it holds
        if kept.statement is not None and kept.statement != said:
            raise InvalidInputError("transfer.statement", "another one than before", "the one that we have answered")
        kept = replace(kept, statement=said)
        reopened = self._reopened(kept, deal)
        return replace(kept, txid=display_txid(reopened.splice.transaction.txid)), reopened

    def _presigned(self, deal: TransferDeal, kept: KeptTransfer, reopened: Reopened) -> bytes:
        if kept.number is None:
            raise InvalidInputError("transfer", "asks a holder to pre-sign", "a side of the new contract")
        word, authority = self._word(deal, kept, reopened), self._right(kept)
        made = reopen.presign_new(
            reopened, word, self._keystore.contract_secret(kept.number), authority=authority,
            moment=self._moment(kept, reopened),
        )  # fmt: skip
        self.book.save(kept)
        return made

    def _ready(self, ask: Ask, deal: TransferDeal, kept: KeptTransfer, reopened: Reopened) -> Ready:
        """Sign our coins, once the new contract is ours for good, and give a nonce for the old one's key path."""
        word, authority = self._word(deal, kept, reopened), self._right(kept)
        given: dict[str, Any] = {"authority": authority, "moment": self._moment(kept, reopened)}
        secured = None
        if kept.number is not None:
            secured, kept = self._secure(ask, deal, kept, reopened, word=word, given=given)
        witnesses = reopen.sign_coins(reopened, word, self._wallet.by_script, secured=secured, **given)
        if set(witnesses) != set(reopened.splice.inputs.get(kept.owner, ())):
            raise InvalidInputError("transfer", "names a coin of ours that we cannot sign", "coins of our wallet")
        nonce = None
        if kept.owner is not Owner.NEWCOMER:
            side = self._side(deal, kept.owner)
            made = self._path(side, reopened).nonce(self._secret(side), secrets.token_bytes(32))
            NonceVault(self._keystore).put(deal.take_id, made)
            nonce = made.public
        ready = Ready(witnesses=witnesses, nonce=nonce)
        self._say(kept, Round.READY, ready)
        return ready

    def _secure(
        self, ask: Ask, deal: TransferDeal, kept: KeptTransfer, reopened: Reopened, *, word: Word,
        given: dict[str, Any],
    ) -> tuple[Secured, KeptTransfer]:  # fmt: skip
        """Check the other side's pre-signatures, and write the new contract down with both."""
        if ask.presignatures is None or kept.number is None:
            raise InvalidInputError("transfer.cet_adaptor_signatures", "missing", "the new contract's other side's")
        secured = reopen.secure(reopened, kept.owner, ask.presignatures)
        ours = reopen.presign_new(reopened, word, self._keystore.contract_secret(kept.number), **given)
        selling = kept.owner is Owner.SELLER
        contract = keep_new(
            self._store, self._node, reopened, number=kept.number, role=Role.SELLER if selling else Role.BUYER,
            seller_presigned=ours if selling else ask.presignatures,
            buyer_presigned=ask.presignatures if selling else ours,
            policy=self._policy_for(deal, kept), order=ask.part.take.take.option_id,
            offer_id="" if selling else deal.take_id.hex(),
        )  # fmt: skip
        self.made[contract.order] = contract.offer.id.hex()
        return secured, self.book.save(replace(kept, new=contract.offer.id.hex()))

    def _part(self, ask: Ask, deal: TransferDeal, kept: KeptTransfer, reopened: Reopened) -> bytes:
        """Sign the old contract's key path: the seller before the holder, each once."""
        if ask.said is not _last_of(kept.owner) or Round.READY.value not in kept.said:
            raise InvalidInputError("transfer", f"asks for {ask.said.value} now", "what is ours to say, in its turn")
        ready = letters.decode_word(Round.READY, kept.said[Round.READY.value]).word
        at = 0 if kept.owner is Owner.HOLDER else 1
        ours = ready.nonce if isinstance(ready, Ready) else None
        if ours is None or len(ask.nonces) != 2 or ask.nonces[at] != ours:  # noqa: PLR2004 - of both old sides
            raise InvalidInputError(
                "transfer.nonces", "without the one that we gave", "both old sides', the buyer first"
            )
        side = self._side(deal, kept.owner)
        word, path = self._word(deal, kept, reopened), self._path(side, reopened)
        given: dict[str, Any] = {"authority": self._right(kept), "moment": self._moment(kept, reopened)}
        secured = None if kept.owner is Owner.HOLDER else self._secured_by_file(kept, reopened)
        reopen.check_word(reopened, word)
        reopen.check_moment(reopened, word, given["moment"])
        over = {*self._dead_closes(side.contract), *self.dead_ends(self._store.load(side.name))}
        note_end(self._store, side.name, reopened, over=over)
        # gone from the disk before it signs: a crash here costs this transfer, never the key
        nonce = NonceVault(self._keystore).take(deal.take_id, ours)
        part = path.sign(word, self._secret(side), nonce, ask.nonces, secured=secured, **given)
        self._say(kept, ask.said, part)
        return part

    def _secured_by_file(self, kept: KeptTransfer, reopened: Reopened) -> Secured:
        """Return that a seller has the newcomer's signatures, by what lies in its folder now."""
        contract = self._store.load(kept.new)
        if contract.accept is None or contract.withdrawn:
            raise TransferOverError(kept.take_id, "its new contract was withdrawn")
        return reopen.secure(reopened, kept.owner, contract.accept.presignatures)

    def _say(self, kept: KeptTransfer, said: Round, word: Said) -> None:
        encoded = letters.encode_word(kept.take_id, said, word)
        self.book.save(replace(kept, said={**kept.said, said.value: encoded}))

    # ---- what is looked at before anything is signed

    def _word(self, deal: TransferDeal, kept: KeptTransfer, reopened: Reopened) -> Word:
        """Return what we have agreed to, by our own records alone."""
        half = letters.decode_word(Round.HALF, kept.said[Round.HALF.value]).word
        wallet, offer, said = frozenset(self._wallet.by_script), kept.part.offer.offer, reopened.statement
        if isinstance(half, Leaving):
            return holder_word(self._side(deal, Owner.HOLDER).held, offer, half, wallet=wallet)
        if not isinstance(half, Party) or said.leaving is None:
            raise InvalidInputError("transfer", "of another kind", "a transfer's half")
        if kept.owner is Owner.SELLER:
            return seller_word(self._side(deal, Owner.SELLER).held, deal, half, wallet=wallet)
        setup.check_announced(said.terms)
        self._check_refund(said.terms)
        return newcomer_word(offer, said.terms, said.leaving, half, until=deal.until, wallet=wallet)

    def _moment(self, kept: KeptTransfer, reopened: Reopened) -> Moment:
        chain = self._node.chain_info()
        known = self._store.attestations()
        terms = reopened.terms
        outpoints = [txin.outpoint for txin in reopened.splice.transaction.inputs]
        seen = zip(outpoints, self._node.unspent_many(outpoints, include_pool=True), strict=True)
        now, expiry = UnixSeconds(int(self._clock())), decode_terms(terms.option).expiry
        blocks = 0 if chain.chain == REGTEST else reopen.LAST_BLOCKS
        return Moment(
            now=now, tip=chain.height, last_blocks=blocks if self._last_blocks is None else self._last_blocks,
            attested=any((one.event.id, one.oracle_key) in known for one in terms.announcements),
            expired=self._expires(kept, chain.chain) and max(now, chain.median_time) >= expiry,
            seen={outpoint: found for outpoint, found in seen if found is not None},
        )  # fmt: skip

    def _expires(self, kept: KeptTransfer, network: str) -> bool:
        """Return whether our clock says when it expires: in a replay the expiry lies behind every clock."""
        return network != REGTEST or (
            kept.owner is not Owner.NEWCOMER
            and self._agreements.by_id(kept.contract_id)[1].fund_by is not None
        )  # fmt: skip

    def _right(self, kept: KeptTransfer) -> Authority:
        """Return the right to sign; the stake of the contract that is reopened is not counted twice."""
        if kept.owner is Owner.NEWCOMER:
            return self._authority(kept.new)
        return self._authority(self._agreements.by_id(kept.contract_id)[0])

    def _check_alone(self, side: _Side) -> None:
        """Refuse beside any other end that may still be finished. Raises AnotherEndError."""
        contract = self._store.load(side.name)
        check_not_reopened(contract, over=self.dead_ends(contract))
        if live := set(contract.closes) - set(self._dead_closes(contract)):
            raise AnotherEndError(side.name, min(live))

    def _check_only(self, deal: TransferDeal, owner: Owner) -> None:
        """Refuse a second transfer of a contract of ours beside one under way, and more of them than are read."""
        now = self._clock()
        same = [one for one in self.book if one.contract_id == deal.contract_id and one.owner is owner]
        for one in same:
            if one.state is TransferState.OPEN and now < one.until:
                raise AnotherTransferError(deal.contract_id, one.until)
        if sum(one.until > now - DAY_SECONDS for one in same) >= MOST_OF_ONE:
            raise InvalidInputError("transfer", f"{MOST_OF_ONE} of this contract within a day", "one that is meant")

    def _check_valid(self, until: UnixSeconds) -> None:
        now = int(self._clock())
        if not now < until <= now + LONGEST_SECONDS:
            raise InvalidInputError("--valid", f"{until - now} s", f"1 to {LONGEST_SECONDS} s")

    # ---- our records

    def _side(self, deal: TransferDeal, owner: Owner) -> _Side:
        """Return our side of the old contract, whose terms are those of the deal. Raises InvalidInputError."""
        name, contract, agreement = self._agreements.by_id(deal.contract_id)
        side = self._checked(name, contract, agreement, owner)
        terms = replace(side.held.terms, rate=deal.rate)
        if terms_hash(terms) != deal.terms_hash:
            raise InvalidInputError("transfer.terms_hash", deal.terms_hash.hex()[:16], "our contract's, at that rate")
        return side

    def _side_of(self, name: str, owner: Owner) -> _Side:
        contract = self._store.load(name)
        if not contract.order:
            raise InvalidInputError("OPTION", "was made at no desk", "a contract of one")
        return self._checked(name, contract, self._agreements.of(contract), owner)

    @staticmethod
    def _checked(name: str, contract: PartyContract, agreement: Agreement, owner: Owner) -> _Side:
        if contract.role is not _ROLES[owner]:
            raise InvalidInputError("transfer", f"asks the {contract.role.value} as its {owner.value}", "our own side")
        return _Side(name=name, contract=contract, agreement=agreement)

    def _reopened(self, kept: KeptTransfer, deal: TransferDeal) -> Reopened:
        """Return what a statement means, computed once. A newcomer's own guest computes it."""
        if kept.statement is None:
            raise InvalidInputError("transfer", "is not stated yet", "what all three sign")
        known = self._known.get(deal.take_id)
        said = letters.decode_statement(kept.statement, deal)
        if known is not None and known.statement == said:
            return known
        buckets = None
        if kept.new and kept.new in self._store.names():
            buckets = self._store.load(kept.new).buckets
        elif kept.owner is not Owner.NEWCOMER:
            buckets = self._side(deal, kept.owner).agreement.plan.buckets
        else:
            check_terms_of(kept.part.offer.offer, said.terms)  # before our guest runs for it
        try:
            reopened = self._agreements.reopen(said, self._policy_for(deal, kept), buckets)
        except InsufficientFundsError as e:  # ours suffice: what is stated has other coins in our place, or too few
            raise InvalidInputError("transfer.statement", str(e), "coins of each that pay its part") from e
        while len(self._known) >= 4:  # noqa: PLR2004 - a few megabytes each
            self._known.pop(next(iter(self._known)))
        self._known[deal.take_id] = reopened
        return reopened

    def _policy_for(self, deal: TransferDeal, kept: KeptTransfer) -> SetupPolicy:
        if kept.owner is Owner.NEWCOMER:
            return self._policy()
        side = self._side(deal, kept.owner)
        terms = side.agreement.terms
        return side.contract.policy or SetupPolicy(min_refund_delay=terms.refund_height - terms.expiry_height)

    def _path(self, side: _Side, reopened: Reopened) -> Reopening:
        keys = {side.contract.offer.role: side.contract.offer.party.key}
        if side.contract.accept is not None:
            keys[side.contract.offer.role.other] = side.contract.accept.party.key
        return Reopening(reopened, side.held, buyer_key=keys[Role.BUYER], seller_key=keys[Role.SELLER])

    def _secret(self, side: _Side) -> bytes:
        return self._keystore.contract_secret(side.contract.number)

    def _request(self) -> tuple[bytes, bytes]:
        return self._keystore.request_secret(), secrets.token_bytes(32)

    def _find(self, take_id: Hash32) -> KeptTransfer:
        kept = self.book.find(take_id)
        if kept is None:
            raise InvalidInputError("transfer.take_id", take_id.hex()[:16], "a transfer of ours")
        return kept

    @staticmethod
    def _deal(kept: KeptTransfer) -> TransferDeal:
        """Return the deal of what was checked when it began."""
        return check_part(kept.part, desk=kept.part.offer.offer.desk)


def _last_of(owner: Owner) -> Round:
    """Return the round in which an owner signs the key path."""
    return Round.SELLER if owner is Owner.SELLER else Round.HOLDER
