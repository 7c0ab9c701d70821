"""A party's half of net books: it proposes, answers, signs, settles, refunds and closes them with its own keystore.

Of what arrives nothing is signed that was not computed here from the book itself: the transactions by this side's own
curve, every range by its own guest, what it can lose by its mandate. A book is a file in the folder (``book_files``)
before anything of it leaves; the same step again, after a crash, gives the same answer. Once signed it is watched like
any contract: the attested CET with a child that pays, the refund that both have signed, at its height. Source:
docs/decisions/0075.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from btcfi.adapters.chain.node import InputsSpentError, Node, TxRejectedError
from btcfi.adapters.chain.pool import asking_rate
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.nonces import NonceVault
from btcfi.adapters.party.agreements import StepOutOfOrderError, WithdrawnError, check_announcements
from btcfi.adapters.party.book_files import BookFiles, KeptBook
from btcfi.adapters.party.closing import ASKED_SECONDS, StaleRequestError
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.market_deals import LapsedError
from btcfi.adapters.party.settling import REFUND_TARGET_BLOCKS, CetSender, look_at_pool
from btcfi.adapters.party.store import PartyStore
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.adapters.party.watching import Report
from btcfi.bitcoin.fees import DUST_P2TR, FeeRule, SatsPerKvb, choose_rate, fee_for
from btcfi.bitcoin.transaction import Transaction
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts import netting, watch
from btcfi.contracts.cooperative import Closing, build_close
from btcfi.contracts.mandate import Authority
from btcfi.contracts.messages import CloseAnswer, CloseRequest, Party, Role
from btcfi.contracts.settle import CompletedCet, TooFewAttestationsError, complete_cet
from btcfi.contracts.settling import BUMP_AFTER_BLOCKS, COIN_INPUT, Again, Alone, Fresh, Terms, Version, Wait, next_step
from btcfi.contracts.setup import SetupPolicy
from btcfi.contracts.summary import CloseSummary, close_summary_of
from btcfi.contracts.watch import REMEMBERED_BLOCKS, Action, ChainMovedError, ContractStatus
from btcfi.errors import BtcfiError, ConflictError, InvalidInputError, NotFoundError, UnreachableError
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import Attestation, WrongAttestationError, check_attestation
from btcfi.payoffs.book_deal import BookDeal, BookOwner, BookSummary, book_contract, check_ranges, deal, draft_facts
from btcfi.payoffs.book_guest import BookDisagreesError
from btcfi.payoffs.book_messages import Answer, BookTerms, Proposal, Signatures, check_proposer, propose
from btcfi.payoffs.guest import Outputs
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import Hash32, Height, Sats, Slot, Txid

log = logging.getLogger(__name__)

FUND_WITHIN_SECONDS: Final = 6 * 3_600
"""How long a side that has signed its coins leaves it to the other one whether there is a book, as of any contract."""

UNSENT_SECONDS: Final = 60
"""After a proposal's time what we have signed and our node does not know goes home: until then the other side holds an
option that it has not paid for. An honest one broadcasts within the time, and is at once seen in the pool."""

REMEMBERED: Final = 16
"""Deals kept in memory, a few megabytes each."""

_OPEN: Final = (ContractStatus.FUNDING, ContractStatus.ACTIVE)


class AnotherAnswerError(ConflictError):
    """A second answer to a proposal whose first one we have signed: what left the house is a fact."""

    def __init__(self, book: str) -> None:
        super().__init__(f"book {book[:16]}: another answer to this proposal is signed already; make a new proposal")
        self.book = book


class PriceKnownError(ConflictError):
    """A step that signs a book whose price an oracle has attested: only the side that it favours still wants it."""

    def __init__(self, book: str) -> None:
        super().__init__(f"book {book[:16]}: its price is attested already; nothing of it is signed any more")
        self.book = book


class BookDesk:
    """One party's books."""

    def __init__(
        self, store: PartyStore, keystore: Keystore, node: Node, guest: Guest, *, wallet: PartyWallet, fees: FeeRule,
        authority: Callable[[str], Authority], policy: Callable[[], SetupPolicy],
        check_coins: Callable[[Sequence[Coin]], None], check_heights: Callable[[Slot, Height], None],
        home: Callable[[str, Sequence[Coin], Transaction, Sats], Transaction],
        pay_more: Callable[[str, Transaction], Transaction],
        show: Callable[[BookSummary | CloseSummary], None] = lambda _: None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Take the rooms of a desk.

        authority: the right to sign now, a book's own stake left out. policy: ours, for a new book. check_coins: of the
        other side's, by our node. check_heights: of an expiry and a refund height. home: signs what takes coins home.
        pay_more: makes and sends a child that pays for a funding.
        """
        self._store, self._keystore, self._node, self._guest = store, keystore, node, guest
        self._wallet, self._fees, self._authority, self._policy = wallet, fees, authority, policy
        self._check_coins, self._check_heights, self._home = check_coins, check_heights, home
        self._pay_more = pay_more
        self._show, self._clock = show, clock
        self.files = BookFiles(store)
        self._cets: CetSender[KeptBook] = CetSender(
            node, wallet, fees=fees, keep=self.files.save, root=self._proof_root
        )
        self._deals: dict[Hash32, BookDeal] = {}
        self._computed: set[Hash32] = set()
        """Contracts whose ranges our guest has computed, by their ids: each commits to all that they follow from."""
        self._genuine: dict[tuple[Attestation, Announcement], bool] = {}

    # ---- setting up

    def propose(self, terms: BookTerms, role: Role, *, identity_secret: bytes, value: int | None = None) -> Proposal:
        """Make a proposal with coins of our wallet, and remember it; its file reserves them.

        identity_secret: of our owner's identity, by which the other side knows us. value: of the book to its holder, in
        satoshis, by our own pricing. Raises WrongMandateError, OutsideMandateError, InsufficientFundsError.
        """
        contract = book_contract(terms)
        draft = draft_facts(terms, contract, role, value=value)
        self._check_new("", terms)
        self._check_heights(terms.book.expiry, terms.refund_height)
        self._authority("").check_book(draft)
        puts_in = contract.holder if role is Role.BUYER else contract.writer
        with self._store.alone():
            number = self._store.take_number()
            party = self._party(number, puts_in + (terms.premium if role is Role.BUYER else -terms.premium), terms.rate)
            made = propose(terms, role=role, party=party, identity_secret=identity_secret, aux=secrets.token_bytes(32))
            self.files.save(
                KeptBook(
                    number=number, role=role, proposal=made, policy=self._policy(), stake=draft.worst_loss, value=value
                )
            )
        return made

    def accept(
        self, proposal: Proposal, announcements: Sequence[Announcement], *, value: int | None = None
    ) -> Answer:  # fmt: skip
        """Check a proposal against our own computation and mandate, pre-sign every CET and the refund, remember both.

        announcements: of every oracle, as we have them from the oracles themselves. A proposal that was answered before
        gets the same answer again. Raises WrongMessageError, WrongAnnouncementError, BookDisagreesError,
        WrongMandateError, OutsideMandateError, InsufficientFundsError; then nothing is reserved.
        """
        if (before := self._answered(proposal)) is not None:
            return before
        terms, role = proposal.terms, proposal.role.other
        check_proposer(proposal)
        check_announcements(terms.announcements, announcements)
        contract = book_contract(terms)
        self._check_new(proposal.id.hex(), terms)
        self._check_heights(terms.book.expiry, terms.refund_height)
        draft = draft_facts(terms, contract, role, value=value)
        self._authority("").check_book(replace(draft, proposer=proposal.identity))
        self._check_coins(proposal.party.coins)
        puts_in = contract.holder if role is Role.BUYER else contract.writer
        with self._store.alone():
            number, policy = self._store.take_number(), self._policy()
        party = self._party(number, puts_in + (terms.premium if role is Role.BUYER else -terms.premium), terms.rate)
        made = self._deal(proposal, party, policy)
        authority = self._ask(made, role, value)
        self._show(BookSummary(deal=made, role=role, value=value, mandate=authority.mandate.number))
        with self._store.alone():  # the owner may have read for an hour: what was checked is checked again
            if (before := self._answered(proposal)) is not None:
                return before
            self._check_unpromised(party.coins)
            self._check_new(proposal.id.hex(), terms)
            self._check_coins(proposal.party.coins)
            owner = self._owner(made, value)
            signed = netting.presign(made.netted, role, self._keystore.contract_secret(number), owner=owner)
            answer = Answer(proposal_id=proposal.id, party=party, signatures=signed)
            self.files.save(
                KeptBook(
                    number=number, role=role, proposal=proposal, policy=policy, stake=made.worst_loss(role),
                    value=value, answer=answer,
                )
            )  # fmt: skip
        return answer

    def sign(self, answer: Answer) -> Signatures:
        """Check an answer to our proposal, pre-sign every CET and the refund, and only then sign our funding inputs.

        One answer a proposal is signed; the same again gets the same signatures. What both sides have signed is on the
        disk before this returns. Raises AnotherAnswerError, and as ``accept``.
        """
        name = answer.proposal_id.hex()
        if (regained := self._regain(self.files.load(name), answer)) is not None:
            return regained
        kept = self._to_sign(name, answer)
        if kept.sign is not None:
            return kept.sign
        kept.answer = answer
        made = self._of(kept)
        self._check_coins(answer.party.coins)
        netting.check(made.netted, kept.role, answer.signatures)
        authority = self._ask(made, kept.role, kept.value, name)
        self._show(BookSummary(deal=made, role=kept.role, value=kept.value, mandate=authority.mandate.number))
        with self._store.alone():
            kept = self._to_sign(name, answer)  # another terminal may have gone on while the owner read
            if kept.sign is not None:
                return kept.sign
            owner = self._owner(made, kept.value, name)
            secret = self._keystore.contract_secret(kept.number)
            signed = netting.presign(made.netted, kept.role, secret, owner=owner)
            witnesses = netting.sign_funding(
                made.netted, kept.role, answer.signatures, self._wallet.by_script, owner=owner
            )
            kept.answer, kept.stake = answer, made.worst_loss(kept.role)
            kept.sign = Signatures(contract_id=made.id, signatures=signed, witnesses=witnesses)
            self._begin_watch(kept)
            self.files.save(kept)
        return kept.sign

    def complete(self, message: Signatures) -> Transaction:
        """Check the proposing side's signatures, sign our funding inputs last of all, store, and broadcast.

        The same again broadcasts the same again. Raises as ``sign``, WrongSignatureError, WrongAdaptorError.
        """
        kept = self.files.by_id(message.contract_id)
        if kept.role is kept.proposal.role:
            raise StepOutOfOrderError(kept.name, "the other side completes what we signed; `btcfi party watch`")
        if kept.answer is not None and self._regain(kept, kept.answer, message) is not None:
            return self._of(kept).netted.funding.transaction
        if kept.funding is None:
            self._check_going_on(kept)
            made = self._of(kept)
            netting.check(made.netted, kept.role, message.signatures)
            self._check_coins(kept.proposal.party.coins)
            authority = self._ask(made, kept.role, kept.value, kept.name)
            self._show(BookSummary(deal=made, role=kept.role, value=kept.value, mandate=authority.mandate.number))
            kept = self._complete(kept.name, made, message)
        if kept.funding is None:  # not reached: it was stored just now
            raise StepOutOfOrderError(kept.name, "the other side's signatures")
        with suppress(InputsSpentError):  # a block holds it already, or the watch says what holds its coins
            self._node.send(kept.funding)
        return kept.funding

    def _complete(self, name: str, made: BookDeal, message: Signatures) -> KeptBook:
        with self._store.alone():
            kept = self.files.load(name)
            if kept.funding is not None:
                return kept
            self._check_going_on(kept)
            owner = self._owner(made, kept.value, name)
            ours = netting.sign_funding(made.netted, kept.role, message.signatures, self._wallet.by_script, owner=owner)
            funding = netting.complete_funding(made.netted, kept.role, message.signatures, message.witnesses, ours)
            kept.sign, kept.funding = message, funding
            self._begin_watch(kept)
            return self.files.save(kept)  # stored before it is sent: a crash in between loses nothing

    def _regain(self, kept: KeptBook, answer: Answer, message: Signatures | None = None) -> Signatures | None:
        """Take up again a book that a block has funded and that our folder, an older copy, does not know as signed.

        No coin is signed, and nothing leaves: what is made again are our own signatures of the ends of a funding that
        the chain already has. message: the proposing side's, where that is not us. None: there is no such funding.
        """
        ours = kept.role is kept.proposal.role
        if kept.coins_signed or ours is not (message is None) or kept.answer not in (None, answer):
            return None
        kept.answer = answer
        made = self._of(kept)
        found = self._node.unspent(made.netted.plan.funding, include_pool=False)
        if found is None:
            return None
        if message is None:
            netting.check(made.netted, kept.role, answer.signatures)
            secret = self._keystore.contract_secret(kept.number)
            signed = netting.presign(made.netted, kept.role, secret, owner=_Funded(made, self._outputs(made)))
            message = Signatures(contract_id=made.id, signatures=signed, witnesses={})
        else:
            netting.check(made.netted, kept.role, message.signatures)
        kept.sign, kept.withdrawn, kept.funded = message, False, True
        kept.watch = watch.start(self._node, Height(max(0, self._node.block_count() - found.confirmations)))
        self.files.save(kept)
        return message

    def bump(self, name: str) -> Transaction:
        """Pay more for a funding that waits, by a child on our own change; return the child. Either side may.

        Raises StepOutOfOrderError, CannotBumpError, InsufficientFundsError, TxRejectedError.
        """
        kept = self.files.load(name)
        if kept.cancelled is not None or not kept.coins_signed:
            raise StepOutOfOrderError(name, "a funding that waits: it is cancelled, or not signed yet;")
        return self._pay_more(name, self._of(kept).netted.funding.transaction)

    def cancel(self, name: str) -> Transaction | None:
        """Take a book back that no block has funded: None where no coin of ours was signed, else what takes ours home.

        Raises StepOutOfOrderError once a block holds it, CannotBumpError, InsufficientFundsError, TxRejectedError.
        """
        with self._store.alone():
            kept = self.files.load(name)
            if kept.withdrawn or not kept.coins_signed:
                kept.withdrawn = True
                self.files.save(kept)
                return None
            coins = kept.named
            if None in self._node.unspent_many([coin.outpoint for coin in coins], include_pool=False):
                before = kept.cancelled
                if before is not None and self._node.unspent(before.outpoint(0), include_pool=False) is not None:
                    return before
                raise StepOutOfOrderError(name, "a block holds its funding, or spent its coins: `btcfi book close` it")
            funding = self._of(kept).netted.funding
            kept.cancelled = self._home(name, coins, funding.transaction, funding.fee)
            self.files.save(kept)  # first: from here on we never send the funding again
            self._node.send(kept.cancelled)
            return kept.cancelled

    def _answered(self, proposal: Proposal) -> Answer | None:
        kept = self.files.find(proposal.id.hex())
        if kept is None:
            return None
        if kept.role is proposal.role:
            raise StepOutOfOrderError(kept.name, "it is our own proposal: the other side's answer")
        if kept.withdrawn:
            raise WithdrawnError(kept.name)
        return kept.answer

    def _to_sign(self, name: str, answer: Answer) -> KeptBook:
        kept = self.files.load(name)
        if kept.role is not kept.proposal.role:
            raise StepOutOfOrderError(name, "the other side signs our answer; `btcfi book sign` its signatures")
        if kept.answer is not None and kept.answer != answer:
            raise AnotherAnswerError(name)
        if kept.sign is None:
            self._check_going_on(kept)
        return kept

    def _check_going_on(self, kept: KeptBook) -> None:
        """Refuse to sign what was taken back or has lapsed, or whose price is known."""
        if kept.withdrawn:
            raise WithdrawnError(kept.name)
        if kept.cancelled is not None:
            raise StepOutOfOrderError(kept.name, "it was cancelled: a new proposal")
        self._check_new(kept.name, kept.proposal.terms)

    def _check_new(self, name: str, terms: BookTerms) -> None:
        if self._clock() >= terms.valid_until:
            raise LapsedError(f"the book {name[:16]}".rstrip(), terms.valid_until, self._clock())
        known = self._store.attestations()
        if any((one.event.id, one.oracle_key) in known for one in terms.announcements):
            raise PriceKnownError(name)

    def _check_unpromised(self, coins: Sequence[Coin]) -> None:
        held = self._wallet.held_back(self._wallet.scan())
        if any(coin.outpoint in held for coin in coins):
            problem = "another command has promised coins of it meanwhile"
            raise InvalidInputError("coins", problem, "the same command again; nothing was signed")

    def _ask(self, made: BookDeal, role: Role, value: int | None, name: str = "") -> Authority:
        """Ask the mandate, then have our guest compute every range; return the right to sign."""
        authority = self._authority(name)
        authority.check_book(made.facts(role, value=value))
        if made.id not in self._computed:
            check_ranges(made, self._outputs(made))
            self._computed.add(made.id)
        return authority

    def _owner(self, made: BookDeal, value: int | None, name: str = "") -> BookOwner:
        # the right to sign is taken anew: the owner may have revoked it while it read
        return BookOwner(
            deal=made, authority=self._authority(name), outputs_of=self._outputs(made), value=value,
            computed=self._computed,
        )  # fmt: skip

    def _outputs(self, made: BookDeal) -> Outputs:
        return self._guest.of(made.contract.event.program_hash).outputs

    def _party(self, number: int, amount: int, rate: SatsPerKvb) -> Party:
        key = public_key_compressed(self._keystore.contract_secret(number))
        # also who puts in nothing brings a coin: the input that it signs is its yes
        chosen = self._wallet.choose(Sats(max(amount, DUST_P2TR)), rate)
        return Party(key=key, payout_script=self._wallet.script, change_script=self._wallet.script, coins=chosen)

    def _begin_watch(self, kept: KeptBook) -> None:
        now, expiry = self._node.chain_info().median_time, kept.proposal.terms.book.expiry
        kept.watch = watch.start(self._node, self._node.block_count())
        kept.fund_by = now + min(FUND_WITHIN_SECONDS, (expiry - now) // 2) if now < expiry else None

    def _deal(self, proposal: Proposal, answering: Party, policy: SetupPolicy) -> BookDeal:
        try:
            made = deal(proposal, answering, policy=policy)
        except InsufficientFundsError as e:  # ours were chosen to suffice: it is the other side that names too few
            raise InvalidInputError("party.coins", str(e), "coins that pay the other side's part") from e
        while len(self._deals) >= REMEMBERED:
            self._deals.pop(next(iter(self._deals)))
        self._deals[made.id] = made
        return made

    def _of(self, kept: KeptBook) -> BookDeal:
        """Return the deal of a book, computed anew from its messages. Raises StepOutOfOrderError without an answer."""
        if kept.answer is None or kept.id is None:
            raise StepOutOfOrderError(kept.name, "the other side's answer")
        known = self._deals.get(kept.id)
        return known or self._deal(kept.proposal, kept.answer.party, kept.policy)

    def deal_of(self, kept: KeptBook) -> BookDeal | None:
        """Return the deal of a book, None before it has two sides."""
        return None if kept.answer is None else self._of(kept)

    def _proof_root(self, kept: KeptBook, outcome: int) -> Hash32:
        made = self._of(kept)
        return self._guest.of(made.contract.event.program_hash).prove(made.guest_input(outcome))[1]

    # ---- what others ask

    def exposure(self, *, besides: str) -> Sats:
        """Return what is at stake in our books. besides: the name of one that is not counted."""
        return Sats(sum(one.stake for one in self.files if one.name != besides and not one.ended))

    def announcements(self) -> list[Announcement]:
        """Return what our books are settled by."""
        return [announced for one in self.files for announced in one.proposal.terms.announcements]

    # ---- closing together

    def request_close(self, name: str, *, payout: Sats, rate: SatsPerKvb) -> CloseRequest:
        """Ask the other side to close now at what the holder gets; our nonce waits on this machine alone.

        A second request for the same book is a new session: the nonce of the first one is destroyed.
        """
        kept = self.files.load(name)
        made = self._open(kept)
        closing = self._closing(made, payout, rate)
        self._ask_close(closing, made, kept)
        nonce = closing.nonce(self._keystore.contract_secret(kept.number), secrets.token_bytes(32))
        request = CloseRequest(contract_id=made.id, payout=payout, rate=rate, guest_input=b"", nonce=nonce.public)
        NonceVault(self._keystore).put(made.id, nonce)
        kept.closing, kept.asked_at, kept.asked_knowing = request, int(self._clock()), len(self._attested(kept))
        self.files.save(kept)
        return request

    def answer_close(self, request: CloseRequest, *, payout: Sats) -> CloseAnswer:
        """Sign a close that pays the holder exactly what we say. Raises InvalidInputError for any other."""
        if request.guest_input:
            raise InvalidInputError("close.guest_input", "of a book", "none: the two of you agree on the amount")
        if request.payout != payout:
            raise InvalidInputError("close.payout_sats", f"{request.payout}", f"{payout}, as you said")
        kept = self.files.by_id(request.contract_id)
        made = self._open(kept)
        closing = self._closing(made, payout, request.rate)
        authority = self._ask_close(closing, made, kept)
        secret = self._keystore.contract_secret(kept.number)
        nonce = closing.nonce(secret, secrets.token_bytes(32))
        public = nonce.public
        # written down before it is signed, so that the watch knows the close for ours when it appears
        if (txid := closing.close.transaction.txid) not in kept.closes:
            kept.closes = (*kept.closes, txid)
        self.files.save(kept)
        partial = closing.sign(secret, nonce, _in_order(kept.role, public, request.nonce), authority=authority)
        return CloseAnswer(contract_id=made.id, nonce=public, partial=partial)

    def finish_close(self, answer: CloseAnswer) -> Transaction:
        """Add our partial signature to the other side's, store the close, and broadcast it.

        Raises WrongSignatureError for a wrong answer, after which the right one still finishes; StaleRequestError,
        and NonceGoneError in a copy of the folder that asked.
        """
        kept = self.files.by_id(answer.contract_id)
        request = kept.closing
        if request is None:
            raise StepOutOfOrderError(kept.name, "`btcfi book close`")
        made = self._open(kept)
        closing = self._closing(made, request.payout, request.rate)
        authority = self._ask_close(closing, made, kept)
        nonces = _in_order(kept.role, request.nonce, answer.nonce)
        closing.check(kept.role.other.value, nonces, answer.partial)
        self._check_asked(kept)
        # the stored nonce is gone from the disk before it signs: a crash here costs this session, never the key
        secret, vault = self._keystore.contract_secret(kept.number), NonceVault(self._keystore)
        ours = closing.sign(secret, vault.take(made.id, request.nonce), nonces, authority=authority)
        kept.settlement = closing.finish(nonces, _in_order(kept.role, ours, answer.partial))
        kept.closing, kept.closes = None, (*kept.closes, kept.settlement.txid)
        self.files.save(kept)
        self._node.send(kept.settlement)
        return kept.settlement

    def _open(self, kept: KeptBook) -> BookDeal:
        if kept.sign is None or not kept.coins_signed:
            raise StepOutOfOrderError(kept.name, "both sides' signatures of its funding")
        return self._of(kept)

    def _closing(self, made: BookDeal, payout: Sats, rate: SatsPerKvb) -> Closing:
        plan = made.netted.plan
        close = build_close(plan.contract, plan.funding, payout=payout, rate=rate)
        keys = {made.proposal.role: made.proposal.party.key, made.proposal.role.other: made.answering.key}
        return Closing(close, buyer_key=keys[Role.BUYER], seller_key=keys[Role.SELLER])

    def _ask_close(self, closing: Closing, made: BookDeal, kept: KeptBook) -> Authority:
        authority = self._authority(kept.name)
        closing.ask(authority)
        self._show(close_summary_of(made.id, closing.close, kept.role, mandate=authority.mandate.number))
        return authority

    def _check_asked(self, kept: KeptBook) -> None:
        age = None if kept.asked_at is None else int(self._clock()) - kept.asked_at
        if age is not None and not 0 <= age <= ASKED_SECONDS:
            raise StaleRequestError(kept.name, f"its close was asked for {age:,} seconds ago")
        if len(self._attested(kept)) > kept.asked_knowing:
            raise StaleRequestError(kept.name, "the price is attested since its close was asked for")

    # ---- watching

    def watch(self) -> list[Report]:
        """Walk the chain for every book that is signed, and do what is due: broadcast, settle, refund, take home.

        What goes wrong with one book is named and stops no other. Raises UnreachableError, ChainMovedError.
        """
        reports = []
        for kept in list(self.files):
            if _buried(kept):
                continue
            try:
                if (report := self._watch_whole(kept)) is not None:
                    reports.append(report)
            except (UnreachableError, ChainMovedError):
                raise
            except Exception as e:  # noqa: BLE001 - whatever it is, it is this book's and no other's
                log.warning("book %s: %s", kept.name[:16], e)
                why = f"not watched this time: {type(e).__name__}: {e}"
                reports.append(Report(
                    name=kept.name, role=kept.role, status=None, tip=self._node.block_count(), action=Action.WAIT,
                    note=why,
                ))  # fmt: skip
        return reports

    def _watch_whole(self, kept: KeptBook) -> Report | None:
        if kept.watch is None:
            return self._let_go(kept)
        while (report := self._watch_one(kept)).tip < self._node.block_count():
            kept = self.files.load(kept.name)
        return report

    def _let_go(self, kept: KeptBook) -> Report | None:
        """Free the coins of a book whose time is over and of which we have signed no coin, as far as we know.

        A folder that is an older copy may know too little: what a block has funded is reported, and not let go.
        """
        if kept.withdrawn or self._clock() < kept.proposal.terms.valid_until:
            return None
        made = self.deal_of(kept)
        if made is not None and self._node.unspent(made.netted.plan.funding, include_pool=False) is not None:
            note = "a block has funded it, and this folder lacks its signatures: `btcfi book sign` the other side's"
            return Report(
                name=kept.name, role=kept.role, status=ContractStatus.ACTIVE, tip=self._node.block_count(),
                action=Action.WAIT, note=f"{note} message again",
            )  # fmt: skip
        kept.withdrawn = True
        self.files.save(kept)
        return None

    def _watch_one(self, kept: KeptBook) -> Report:
        made, state = self._of(kept), kept.watch
        if state is None:
            raise StepOutOfOrderError(kept.name, "both sides' signatures")
        agreement, plan = made.netted, made.netted.plan
        funding = agreement.funding.transaction
        coins = [txin.outpoint for txin in funding.inputs]
        step = watch.advance(state, self._node, [plan.funding, *coins])
        kept.watch = step.state
        kept.funded = kept.funded or step.state.created(plan.funding) is not None
        spent = step.state.spend_of(coins[0])
        if kept.funding is None and spent is not None and spent.transaction.txid == funding.txid:
            kept.funding = spent.transaction  # the other side completed it: a reorganisation may take it back
        known = self._attested(kept)
        cet = self._completed(made, kept, known)
        status = watch.contract_status(
            step.state, plan.funding, contributions=coins, spenders=self._spenders(made, kept, cet)
        )
        # both sides have signed the refund, so either sends it: as a seller does of a single contract
        action = watch.next_action(
            status, tip=step.state.tip, expiry_height=plan.contract.expiry_height,
            refund_height=plan.contract.refund_height, attested=cet is not None, seller=True,
        )  # fmt: skip
        note = ""
        if step.state.tip < self._node.block_count():  # what is due, the rest of the blocks says
            action = Action.WAIT
        elif action is Action.BROADCAST_FUNDING and self._late(kept, attested=bool(known)):
            note = self._take_home(kept)
        elif action is Action.WAIT and status in _OPEN and kept.closes:
            note = self._send_close(kept)
        else:
            note = self._act(action, made, kept, cet, step.state.tip)
        if (step.state.spends, step.state.creations) != (state.spends, state.creations):
            self.files.save(kept)
        self.files.keep_in_mind(kept)  # new blocks alone are read again after a restart
        return Report(
            name=kept.name, role=kept.role, status=status, tip=step.state.tip, action=action, note=note
        )  # fmt: skip

    def _spenders(self, made: BookDeal, kept: KeptBook, cet: CompletedCet | None) -> set[Txid]:
        """Return what of ours may spend the collateral: any CET of the plan, the refund, closes that we have signed."""
        plan, spend = made.netted.plan, kept.watch.spend_of(made.netted.plan.funding) if kept.watch else None
        ours: set[Txid] = {made.netted.refund.transaction.txid, *kept.closes}
        ours |= {one.txid for one in (kept.settlement, cet and cet.transaction) if one}
        if spend is not None and spend.transaction.txid not in ours:  # the other side may have settled
            ours |= {plan.transaction(place).txid for place in range(len(plan.buckets))}
        return ours

    def _attested(self, kept: KeptBook) -> list[Attestation]:
        """Return what a book's oracles have attested, each checked: whoever writes into our folder may have lied."""
        known, found = self._store.attestations(), []
        for announced in kept.proposal.terms.announcements:
            said = known.get((announced.event.id, announced.oracle_key))
            if said is not None and self._is_of(said, announced):
                found.append(said)
        return found

    def _is_of(self, said: Attestation, announced: Announcement) -> bool:
        asked = (said, announced)
        if asked not in self._genuine:
            try:
                check_attestation(said, announced)
                self._genuine[asked] = True
            except WrongAttestationError as e:
                log.warning("attestation in our folder passed over: %s", e)
                self._genuine[asked] = False
        return self._genuine[asked]

    def _completed(self, made: BookDeal, kept: KeptBook, known: Sequence[Attestation]) -> CompletedCet | None:
        signed = kept.signed
        if len(signed) < len(Role) or len(known) < kept.proposal.terms.threshold:
            return None
        try:
            return complete_cet(
                made.netted.plan, buyer=signed[Role.BUYER].presignatures, seller=signed[Role.SELLER].presignatures,
                attestations=known,
            )  # fmt: skip
        except TooFewAttestationsError as e:  # oracles that contradict each other settle nothing, and stop no refund
            log.info("%s: %s", kept.name[:16], e)
            return None

    def _late(self, kept: KeptBook, *, attested: bool) -> bool:
        """Return whether a book that no block ever funded is not to be funded any more, as of any contract."""
        if kept.funded or kept.cancelled is not None:
            return False
        overdue = kept.fund_by is not None and self._node.chain_info().median_time >= kept.fund_by
        return attested or overdue or self._kept_back(kept)

    def _kept_back(self, kept: KeptBook) -> bool:
        """Return whether the other side has let the time of our proposal pass with our signatures in its hands."""
        ours = kept.role is kept.proposal.role
        if not ours or self._clock() < kept.proposal.terms.valid_until + UNSENT_SECONDS:
            return False
        try:
            self._node.pool_entry(self._of(kept).netted.funding.transaction.txid)
        except NotFoundError:
            return True
        return False

    def _take_home(self, kept: KeptBook) -> str:
        self.files.keep_in_mind(kept)
        try:
            kept.cancelled = self.cancel(kept.name)
        except BtcfiError as e:
            return f"not funded in time, and its coins are not home: {e}"
        kept.seen = self.files.load(kept.name).seen
        return "not funded in time: its coins go home"

    def _send_close(self, kept: KeptBook) -> str:
        made = kept.settlement
        try:
            if made is not None and made.txid in kept.closes:
                self._node.send(made)
        except TxRejectedError as e:
            return e.reason
        return ""

    def _act(self, action: Action, made: BookDeal, kept: KeptBook, cet: CompletedCet | None, tip: Height) -> str:
        try:
            if action is Action.BROADCAST_FUNDING and (ours := kept.cancelled or kept.funding) is not None:
                self._node.send(ours)
            elif action is Action.SETTLE and cet is not None:
                return self._cets.settle(kept, made.netted.plan, cet, tip=tip)
            elif action is Action.REFUND:
                return self._refund(made, kept, tip)
        except InputsSpentError as e:
            return f"somebody else spent it: {e.reason}"
        except TxRejectedError as e:
            return e.reason
        return ""

    def _refund(self, made: BookDeal, kept: KeptBook, tip: Height) -> str:
        """Send the refund that both have signed: by itself while its own fee does, else with a child that pays more."""
        signed, agreement = kept.signed, made.netted
        refund = netting.complete_refund(agreement, holder=signed[Role.BUYER], writer=signed[Role.SELLER])
        late = max(0, tip - agreement.terms.refund_height)
        rate = choose_rate(asking_rate(self._node, REFUND_TARGET_BLOCKS), self._fees, blocks_late=late)
        if kept.settlement != refund:
            kept.settlement = refund
            self.files.save(kept)
        own = fee_for(refund.vsize, rate) <= agreement.terms.cet_fee
        if not kept.refund_children and own and late < BUMP_AFTER_BLOCKS:
            self._node.send(refund)
            return ""
        return self._pay_for(refund, made, kept, tip)

    def _pay_for(self, refund: Transaction, made: BookDeal, kept: KeptBook, tip: Height) -> str:
        """Send the refund with a child of ours by its anchor, as a settlement is paid for."""
        terms, held, rest = made.netted.terms, made.netted.refund.payout, made.netted.refund.seller_return
        spend = CompletedCet(
            transaction=refund, bucket=0, outcome=0, payout=held, seller_return=rest, fee=terms.cet_fee
        )  # fmt: skip
        pool = look_at_pool(self._node, self._wallet, kept.refund_children, made.netted.plan.funding, spend, tip=tip)
        if pool.view.rival is not None:
            return "what both sides have signed waits in the pool"
        wanted = Terms(
            expiry_height=terms.refund_height, refund_height=Height(terms.refund_height + REMEMBERED_BLOCKS),
            stake=held if kept.role is Role.BUYER else rest, rule=self._fees,
        )  # fmt: skip
        step = next_step(
            spend, kept.refund_children, pool.coins, pool.view, wanted, change_script=self._wallet.script
        )  # fmt: skip
        match step:
            case Wait():
                return step.why
            case Alone():
                self._node.send(refund)
                return step.why
            case Again():
                self._node.send_package([refund, step.version.transaction])
            case Fresh():
                self._node.send_package([refund, self._refund_child(refund, step, kept, tip)])
        return ""

    def _refund_child(self, refund: Transaction, step: Fresh, kept: KeptBook, tip: Height) -> Transaction:
        child, spent = netting.refund_child_paying(
            refund, step.coin, change_script=self._wallet.script, fee=step.fee
        )  # fmt: skip
        key = self._wallet.keys[step.coin.key_index]
        signed = child.with_witness(COIN_INPUT, [key.sign_input(child, COIN_INPUT, spent)])
        made = Version(transaction=signed, fee=step.fee, height=tip)
        kept.refund_children = (*kept.refund_children, made)
        self.files.save(kept)
        return signed


class _Funded:
    """Who is asked where the chain has funded a book already: its ranges are computed again, its terms are a fact."""

    def __init__(self, made: BookDeal, outputs_of: Outputs) -> None:
        self._made, self._outputs_of = made, outputs_of

    def check_netted(self, agreement: netting.NettedAgreement, role: Role) -> None:
        """Refuse what is not this book's. Raises BookDisagreesError."""
        if agreement is not self._made.netted:
            raise BookDisagreesError(role.value, "another agreement", "that of this book")
        check_ranges(self._made, self._outputs_of)


def _buried(kept: KeptBook) -> bool:
    """Return whether a book has ended deeper than any reorganisation that is followed: nobody looks at it again."""
    state = kept.watch
    if state is None or not kept.ended:
        return False
    return state.tip - max(spend.height for spend in state.spends) > REMEMBERED_BLOCKS


def _in_order(role: Role, ours: bytes, theirs: bytes) -> tuple[bytes, bytes]:
    # MuSig2 counts the buyer first
    return (ours, theirs) if role is Role.BUYER else (theirs, ours)
