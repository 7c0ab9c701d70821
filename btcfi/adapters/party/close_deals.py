"""A party closes a contract before its end with the other side of it, over letters: no partial signature leaves to it.

Our word is a file here: an offer to close of ours, or our yes to one of theirs. Without it nothing is signed. Whatever
we sign, we sign once for an offer, before it lapses, while nothing is attested and a close still has time to confirm;
of one contract a second close is signed only once the first has lapsed.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import Final

from btcfi import secp256k1
from btcfi.adapters.chain.node import Node, TxRejectedError
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.nonces import NonceVault
from btcfi.adapters.party.agreements import Agreements
from btcfi.adapters.party.close_yes import CloseBook, CloseState, KeptClose
from btcfi.adapters.party.reopened import check_not_reopened
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.bitcoin import taproot
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.cooperative import Closing, build_close
from btcfi.contracts.mandate import Authority
from btcfi.contracts.messages import Role
from btcfi.contracts.payouts import decode_terms
from btcfi.contracts.setup import Agreement
from btcfi.contracts.summary import CloseSummary, close_summary_of
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError, RetryableError
from btcfi.market import closing as messages
from btcfi.market.closing import (
    LAST_BLOCKS,
    CloseDone,
    CloseGo,
    CloseLast,
    CloseOffer,
    CloseOver,
    CloseTake,
    TooLateToCloseError,
    check_timely,
)
from btcfi.units import Hash32, Sats, Txid, UnixSeconds, display_txid, parse_txid

log = logging.getLogger(__name__)

MOST_OPEN: Final = 8
"""Offers of the other side to close one contract that wait for our owner: who sends more is refused."""

GRACE_SECONDS: Final = 600
"""After a close that we have signed has lapsed another one of the contract may be signed: what the service has of the
first it finishes no more, by its clock or ours."""

REGTEST: Final = "regtest"
"""Where blocks come when somebody makes them: a number of them is no time."""


class NotAgreedError(ConflictError, RetryableError):
    """An offer to close of the other side that our owner has not agreed to: it waits until it lapses."""

    def __init__(self, offer: Hash32) -> None:
        name = offer.hex()[:16]
        super().__init__(f"offer to close {name} waits for your word: `btcfi market close --accept {name}`")
        self.offer = offer


class AnotherCloseError(ConflictError):
    """A second close of a contract while a first one, that we have signed, may still be finished."""

    def __init__(self, contract: str, until: int) -> None:
        super().__init__(
            f"contract {contract[:16]}: we have signed another close of it, which stands until {until}; wait until then"
        )
        self.contract, self.until = contract, until


class ClosedOtherwiseError(ConflictError):
    """A close of a contract for which we have signed one by ``btcfi party close``, that stands for good."""

    def __init__(self, contract: str, txid: Txid) -> None:
        super().__init__(f"contract {contract[:16]}: we have signed close {display_txid(txid)} of it; that one counts")
        self.contract, self.txid = contract, txid


class CloseDeals:
    """One party's half of closes at a price that both name."""

    def __init__(
        self, store: PartyStore, keystore: Keystore, node: Node, agreements: Agreements, *,
        authority: Callable[[str], Authority], show: Callable[[CloseSummary], None],
        clock: Callable[[], float] = time.time, last_blocks: int | None = None,
        dead_ends: Callable[[PartyContract], Collection[Txid]] = lambda _: (),
    ) -> None:  # fmt: skip
        """Take the rooms of a desk.

        authority, show: as ``closing.Closer`` has them. dead_ends: of a contract, transfers that nobody can finish any
        more. last_blocks: before the expiry height, in which nothing is
        closed; None: LAST_BLOCKS, and none on regtest.
        """
        self._store, self._keystore, self._node, self._agreements = store, keystore, node, agreements
        self._authority, self._show, self._clock = authority, show, clock
        self._last_blocks, self._dead_ends = last_blocks, dead_ends
        self.book = CloseBook(store.folder)

    # ---- what our owner says

    def propose(self, name: str, *, payout: Sats, rate: SatsPerKvb, valid_until: UnixSeconds) -> KeptClose:
        """Offer the other side to close at a payout of the buyer's; our nonce waits, on this machine alone.

        name: the contract's. The offer of ours before, and any request to close of `btcfi party close`, can no more be
        finished: one nonce a contract. Raises TooLateToCloseError, AnotherCloseError, InvalidInputError, and what the
        mandate refuses.
        """
        contract = self._store.load(name)
        agreement = self._agreements.of(contract)
        now = int(self._clock())
        if not now < valid_until <= now + messages.LONGEST_SECONDS:
            raise InvalidInputError("--valid", f"{valid_until - now} s", f"1 to {messages.LONGEST_SECONDS} s")
        if not contract.order:
            raise InvalidInputError("OPTION", "was made at no desk", "a contract of one; `btcfi party close` closes it")
        closing = self._closing(contract, agreement, payout, rate)
        self._check(contract, agreement, closing, valid_until)
        with self._store.alone():
            self._check_alone(contract, None)
            nonce = closing.nonce(self._keystore.contract_secret(contract.number), secrets.token_bytes(32))
            offer = CloseOffer(
                contract_id=agreement.id, payout=payout, rate=rate, valid_until=valid_until, nonce=nonce.public
            )
            NonceVault(self._keystore).put(agreement.id, nonce)
            for old in self._of(agreement.id):
                if old.by is contract.role and old.state is CloseState.OFFERED:
                    self.book.save(replace(old, state=CloseState.OVER, problem="another offer took its place"))
            return self.book.save(
                KeptClose(offer=offer, option=contract.order, by=contract.role, state=CloseState.OFFERED)
            )  # fmt: skip

    def agree(self, offer: Hash32) -> KeptClose:
        """Say yes to an offer of the other side, once its owner was shown it; our process signs it.

        Raises NotFoundError, ConflictError where it is ours or over, TooLateToCloseError, AnotherCloseError.
        """
        kept = self.book.find(offer)
        contract, agreement = self._contract(kept.offer)
        if kept.by is contract.role or kept.state not in (CloseState.OFFERED, CloseState.AGREED):
            raise InvalidInputError("--accept", f"an offer that is {kept.state}", "one of theirs that is open")
        closing = self._closing(contract, agreement, kept.offer.payout, kept.offer.rate)
        self._check(contract, agreement, closing, kept.offer.valid_until)
        with self._store.alone():
            self._check_alone(contract, offer)
            return self.book.save(replace(kept, state=CloseState.AGREED))

    def withdraw(self, offer: Hash32) -> KeptClose:
        """Take back an offer of ours, or a yes, of which we have signed nothing. Raises as ``agree``."""
        with self._store.alone():
            kept = self.book.find(offer)
            if kept.state in (CloseState.SIGNED, CloseState.DONE):
                raise AnotherCloseError(kept.option, kept.offer.valid_until + GRACE_SECONDS)
            if kept.by is self._contract(kept.offer)[0].role:
                NonceVault(self._keystore).drop(kept.offer.contract_id)
            return self.book.save(replace(kept, state=CloseState.OVER, problem="withdrawn"))

    # ---- what comes by letter

    def offered(self, offer: CloseOffer, option: str) -> CloseTake:
        """Answer an offer of the other side, where our owner has agreed to it; the same again gets the same answer.

        Raises NotAgreedError while our owner has not, TooLateToCloseError, AnotherCloseError, and what the mandate
        refuses; then nothing is signed.
        """
        contract, agreement = self._contract(offer)
        if contract.order != option:
            raise InvalidInputError("close.contract_id", "of another option", f"{option[:40]}'s")
        try:
            kept = self.book.find(offer.id)
        except NotFoundError:
            self._check_new(offer, contract.role.other)
            self._closing(contract, agreement, offer.payout, offer.rate)  # what cannot be built is not shown
            check_timely(
                now=self._now(), valid_until=offer.valid_until, tip=self._node.block_count(),
                expiry_height=agreement.plan.contract.expiry_height, last_blocks=self._blocks(),
            )  # fmt: skip
            by = contract.role.other
            kept = self.book.save(KeptClose(offer=offer, option=option, by=by, state=CloseState.OFFERED))
        if kept.said is not None:
            return messages.decode_take(kept.said)
        if kept.state is CloseState.OVER or kept.by is contract.role:
            raise InvalidInputError("close", f"is {kept.state} here", "an offer of the other side that is open")
        if kept.state is CloseState.OFFERED:
            self._check_lapsed(offer)
            raise NotAgreedError(offer.id)
        closing = self._closing(contract, agreement, offer.payout, offer.rate)
        authority = self._check(contract, agreement, closing, offer.valid_until)
        with self._store.alone():
            if self.book.find(offer.id).state is not CloseState.AGREED:
                raise InvalidInputError("close", "was withdrawn meanwhile", "an offer that we have agreed to")
            contract = self._about_to_sign(contract, closing, offer)
            NonceVault(self._keystore).drop(agreement.id)  # nothing that we have offered ourselves is finished now
            secret = self._keystore.contract_secret(contract.number)
            nonce = closing.nonce(secret, secrets.token_bytes(32))
            nonces = _in_order(contract.role, nonce.public, offer.nonce)
            public = nonce.public
            partial = closing.sign(secret, nonce, nonces, authority=authority)
            take = CloseTake(offer_id=offer.id, nonce=public, partial=partial)
            self.book.save(replace(self.book.find(offer.id), state=CloseState.SIGNED, said=messages.encode_take(take)))
        return take

    def go(self, said: CloseGo) -> CloseLast:
        """Sign an offer of ours that the other side has answered; the same again gets the same signature.

        Raises NonceGoneError in a copy of the folder, and for an offer whose place a newer one has taken; and as
        ``offered``.
        """
        kept = self.book.find(said.offer_id)
        if kept.said is not None:
            return messages.decode_last(kept.said)
        offer = kept.offer
        contract, agreement = self._contract(offer)
        if kept.by is not contract.role or kept.state is not CloseState.OFFERED:
            raise InvalidInputError("close", f"is {kept.state} here", "an offer of ours that is open")
        closing = self._closing(contract, agreement, offer.payout, offer.rate)
        authority = self._check(contract, agreement, closing, offer.valid_until)
        with self._store.alone():
            if self.book.find(offer.id).state is not CloseState.OFFERED:
                raise InvalidInputError("close", "was withdrawn meanwhile", "an offer of ours that is open")
            contract = self._about_to_sign(contract, closing, offer)
            # gone from the disk before it signs: a crash here costs this offer, never the key
            nonce = NonceVault(self._keystore).take(agreement.id, offer.nonce)
            nonces = _in_order(contract.role, offer.nonce, said.nonce)
            secret = self._keystore.contract_secret(contract.number)
            last = CloseLast(offer_id=offer.id, partial=closing.sign(secret, nonce, nonces, authority=authority))
            self.book.save(replace(self.book.find(offer.id), state=CloseState.SIGNED, said=messages.encode_last(last)))
        return last

    def done(self, said: CloseDone) -> KeptClose:
        """Keep the close that both have signed, and send it, too. Raises InvalidInputError for anything else."""
        kept = self.book.find(said.offer_id)
        contract, agreement = self._contract(kept.offer)
        closing = self._closing(contract, agreement, kept.offer.payout, kept.offer.rate)
        made, spent = said.transaction, closing.close.contract.funding_txout()
        if made.txid != closing.close.transaction.txid or kept.said is None:
            raise InvalidInputError("close.transaction", "another one", "the close that we have signed")
        witness = made.inputs[0].witness
        digest = taproot.sighash(closing.close.transaction, 0, [spent])
        if len(witness) != 1 or not secp256k1.schnorr_verify(spent.script[2:], digest, witness[0]):
            raise InvalidInputError("close.transaction", "is not signed by both", "a signature of the two keys")
        self.book.save(replace(kept, state=CloseState.DONE, transaction=made.to_bytes().hex()))
        with suppress(TxRejectedError):  # the service sends it, too; what else may be the case the watch says
            self._node.send(made)
        return kept

    def over(self, said: CloseOver) -> KeptClose:
        """Note that the service says that nothing comes of it; what we have signed stays signed."""
        with self._store.alone():
            kept = self.book.find(said.offer_id)
            state = kept.state if kept.state in (CloseState.SIGNED, CloseState.DONE) else CloseState.OVER
            return self.book.save(replace(kept, state=state, problem=said.problem[:300]))

    # ---- what is looked at before anything is signed

    def _about_to_sign(self, contract: PartyContract, closing: Closing, offer: CloseOffer) -> PartyContract:
        """Write the close down as ours before it is signed, so that the watch knows it when it appears.

        Whether it is signed then or not: nothing of it leaves before ``said`` is there.
        """
        self._check_alone(contract, offer.id)
        txid = closing.close.transaction.txid
        self.book.save(replace(self.book.find(offer.id), txid=display_txid(txid)))
        fresh = self._store.load(contract.offer.id.hex())
        if txid not in fresh.closes:
            fresh.closes = (*fresh.closes, txid)
            self._store.save(fresh)
        return fresh

    def _check(
        self, contract: PartyContract, agreement: Agreement, closing: Closing, valid_until: UnixSeconds
    ) -> Authority:  # fmt: skip
        """Check time and chain, ask the mandate, show what is about to be signed; return the right to sign it."""
        self._check_time(contract, agreement, valid_until)
        authority = self._authority(contract.offer.id.hex())
        closing.ask(authority)
        number = authority.mandate.number
        self._show(close_summary_of(agreement.id, closing.close, contract.role, mandate=number))
        self._check_time(contract, agreement, valid_until)  # the owner may have read for an hour
        return authority

    def _check_time(self, contract: PartyContract, agreement: Agreement, valid_until: UnixSeconds) -> None:
        plan = agreement.plan
        check_timely(
            now=self._now(), valid_until=valid_until, tip=self._node.block_count(),
            expiry_height=plan.contract.expiry_height, last_blocks=self._blocks(),
        )  # fmt: skip
        known = self._store.attestations()
        if any((one.event.id, one.oracle_key) in known for one in plan.announcements):
            raise TooLateToCloseError("an oracle has attested the price")
        expiry = decode_terms(contract.offer.terms.option).expiry
        # in a replay the expiry lies behind every clock; then the service's market and the oracles say when it is over.
        # A contract that came from another one has no time to be funded by: of it the chain says whether it is one
        chain = self._node.chain_info()
        replay = contract.fund_by is None and (contract.reopened is None or chain.chain == REGTEST)
        if not replay and max(self._now(), chain.median_time) >= expiry:
            raise TooLateToCloseError("its expiry has passed")
        if self._node.unspent(plan.funding, include_pool=True) is None:
            raise TooLateToCloseError("its collateral is not there, or something that waits spends it")

    def _check_alone(self, contract: PartyContract, but: Hash32 | None) -> None:
        """Refuse a second close while a first one may be finished: whoever has both chooses between them."""
        self._check_live(contract, but)
        name = contract.offer.id.hex()
        known = {parse_txid(one.txid) for one in self.book if one.txid}
        if strangers := set(self._store.load(name).closes) - known:
            raise ClosedOtherwiseError(name, min(strangers))

    def check_live(self, contract: PartyContract) -> None:
        """Raise AnotherCloseError while a close of this contract that was signed here may be finished.

        Raises AnotherEndError where it is a transfer or a roll that was signed here.
        """
        self._check_live(contract, None)

    def dead_closes(self, contract: PartyContract) -> set[Txid]:
        """Return the closes of a contract that are finished no more, by their time; those of no offer stand for good.

        Raises StepOutOfOrderError for a contract that is not accepted.
        """
        found = [one for one in self._of(self._agreements.id_of(contract.offer.id.hex())) if one.txid]
        return {parse_txid(one.txid) for one in found if not self._may_be_finished(one)}

    def _may_be_finished(self, kept: KeptClose) -> bool:
        until = kept.offer.valid_until + GRACE_SECONDS
        return kept.said is not None and (bool(kept.transaction) or until > self._clock())

    def _check_live(self, contract: PartyContract, but: Hash32 | None) -> None:
        name = contract.offer.id.hex()
        kept = self._store.load(name)
        check_not_reopened(kept, over=self._dead_ends(kept))
        for one in self._of(self._agreements.id_of(name)):
            if self._may_be_finished(one) and one.offer.id != but:
                raise AnotherCloseError(name, one.offer.valid_until + GRACE_SECONDS)

    def _check_new(self, offer: CloseOffer, by: Role) -> None:
        """Refuse more offers of the other side than are read; those of yesterday that came to nothing are forgotten."""
        if offer.valid_until > self._now() + messages.LONGEST_SECONDS:
            raise InvalidInputError("close.valid_until", f"{offer.valid_until}", "within a day")
        theirs = [one for one in self._of(offer.contract_id) if one.by is by]
        since = self._now() - messages.LONGEST_SECONDS
        for old in [one for one in theirs if one.offer.valid_until <= since and one.said is None and not one.txid]:
            self.book.forget(old)
        if sum(one.offer.valid_until > since for one in theirs) >= messages.MOST_A_DAY:
            problem = f"{messages.MOST_A_DAY} offers to close it came within a day"
            raise InvalidInputError("close", problem, "an offer that is meant")
        waiting = [one for one in theirs if one.state is CloseState.OFFERED and one.offer.valid_until > self._now()]
        if len(waiting) >= MOST_OPEN:
            raise InvalidInputError("close", f"{len(waiting)} offers to close it wait already", f"at most {MOST_OPEN}")

    def _check_lapsed(self, offer: CloseOffer) -> None:
        if self._clock() >= offer.valid_until:
            raise TooLateToCloseError(f"the offer to close was good until {offer.valid_until}")

    def _of(self, contract_id: Hash32) -> list[KeptClose]:
        return [one for one in self.book if one.offer.contract_id == contract_id]

    def _contract(self, offer: CloseOffer) -> tuple[PartyContract, Agreement]:
        _, contract, agreement = self._agreements.by_id(offer.contract_id)
        return contract, agreement

    @staticmethod
    def _closing(contract: PartyContract, agreement: Agreement, payout: Sats, rate: SatsPerKvb) -> Closing:
        plan = agreement.plan
        if payout > plan.contract.collateral:
            raise InvalidInputError("close.payout_sats", f"{payout:,}", f"at most {plan.contract.collateral:,}")
        close = build_close(plan.contract, plan.funding, payout=payout, rate=rate)
        keys = {contract.offer.role: contract.offer.party.key}
        if contract.accept is not None:
            keys[contract.offer.role.other] = contract.accept.party.key
        return Closing(close, buyer_key=keys[Role.BUYER], seller_key=keys[Role.SELLER])

    def _blocks(self) -> int:
        if self._last_blocks is not None:
            return self._last_blocks
        return 0 if self._node.chain_info().chain == REGTEST else LAST_BLOCKS

    def _now(self) -> UnixSeconds:
        return UnixSeconds(int(self._clock()))


def _in_order(role: Role, ours: bytes, theirs: bytes) -> tuple[bytes, bytes]:
    # MuSig2 counts the buyer first
    return (ours, theirs) if role is Role.BUYER else (theirs, ours)
