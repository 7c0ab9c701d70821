"""One party at work: it makes and checks messages, signs with its own keystore, broadcasts, watches and settles.

Two desks know nothing of each other but the messages; the service that coordinates them holds neither's keys.
Closing together is in ``closing``, watching and settling in ``watching``, the coins are in ``wallet``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from btcfi.adapters.chain.node import Node
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.agreements import (
    Agreements,
    ReopenedError,
    StepOutOfOrderError,
    WithdrawnError,
    check_announcements,
)
from btcfi.adapters.party.batch_deals import BatchDeals
from btcfi.adapters.party.book_desk import BookDesk
from btcfi.adapters.party.close_deals import CloseDeals
from btcfi.adapters.party.closing import Closer
from btcfi.adapters.party.dispute_files import DisputeFiles
from btcfi.adapters.party.funding import Funder
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.market_deals import Agreed, LapsedError, OfferExhaustedError
from btcfi.adapters.party.outside import HandOver, OutsideCoins, asked_inputs, hand_over, named_coins, witnesses
from btcfi.adapters.party.owner import Owner
from btcfi.adapters.party.sending import PaymentSender
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.adapters.party.transfer_deals import TransferDeals
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.adapters.party.watching import Report, Watcher
from btcfi.bitcoin.address import decode_address
from btcfi.bitcoin.fees import (
    FeeRule,
)
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts import setup, watch
from btcfi.contracts.execution import check_presignatures
from btcfi.contracts.mandate import Authority, Situation, stake_of
from btcfi.contracts.messages import Accept, ContractTerms, Offer, Party, Role, Sign
from btcfi.contracts.option import MIN_REFUND_DELAY, expected_height
from btcfi.contracts.payouts import decode_terms
from btcfi.contracts.setup import Agreement, SetupPolicy
from btcfi.contracts.summary import CloseSummary, Summary, summary_of
from btcfi.errors import BtcfiError, ConflictError, InvalidInputError, NotFoundError
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import Attestation
from btcfi.payoffs.book_deal import BookSummary
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import Height, Sats, Slot, Txid, UnixSeconds

log = logging.getLogger(__name__)

FUND_WITHIN_SECONDS: Final = 6 * 3_600
"""How long a side that has signed leaves it to the other one whether there is a contract: as a free option, it ages."""

LAPSED_SECONDS: Final = 5
"""After a deal's time its coins are free, where nothing that spends them was signed."""

UNFUNDED_SECONDS: Final = 60
"""After a deal's time what we have signed and nobody has broadcast goes home: until then the buyer, a stranger, holds
an option that it has not paid for. An honest one broadcasts within the deal's time, and is at once seen in the pool."""


class AlreadySignedError(ConflictError):
    """A second answer to an offer whose first one was signed: what left the house is a fact."""

    def __init__(self, contract: str) -> None:
        super().__init__(f"contract {contract[:16]}: another answer to this offer is signed already; make a new offer")
        self.contract = contract


class CoinsPromisedError(ConflictError):
    """Coins that another command of this party has promised while the owner was reading."""

    def __init__(self) -> None:
        super().__init__("another command has promised these coins meanwhile; nothing was signed, ask again")


class OrderTakenError(ConflictError):
    """An order with the name of one that was answered, and other terms: a name is answered once."""

    def __init__(self, order: str, contract: str) -> None:
        super().__init__(
            f"order {order!r} was answered by contract {contract[:16]}, with other terms; rename the order"
        )
        self.order, self.contract = order, contract


class PartyDesk:
    """One party with its folder, its keys, its owner's mandate, its guest program and a node."""

    def __init__(
        self, store: PartyStore, keystore: Keystore, node: Node, guest: Guest, *, fees: FeeRule,
        show: Callable[[Summary | CloseSummary | BookSummary], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Open the desk. show: sees what is about to be signed, before it is, and refuses by raising.

        clock: this machine's, in Unix seconds.
        """
        self._store, self._keystore, self._node, self._show, self._clock = store, keystore, node, show, clock
        self.owner = Owner(store, keystore)
        self.wallet = PartyWallet(store, keystore, node)
        self._agreements = Agreements(store, guest)
        self._funder = Funder(store, node, self.wallet, self._agreements, fees=fees)
        self.bump, self.cancel = self._funder.bump, self._funder.cancel
        self.payments = PaymentSender(store, node, self.wallet, fees=fees)
        self.closes = CloseDeals(
            store, keystore, node, self._agreements, authority=self.authority, show=show, clock=clock,
            dead_ends=self._dead_ends,
        )  # fmt: skip
        self.batches = BatchDeals(
            store, keystore, node, self._agreements, authority=self.authority,
            alone=self.closes.check_live, clock=clock,
        )  # fmt: skip
        self._watcher = Watcher(
            store, keystore, node, self.wallet, self._agreements, fees=fees, take_home=self._funder.cancel,
            holds=self.batches.holds,
        )  # fmt: skip
        self.transfers = TransferDeals(
            store, keystore, node, self._agreements, wallet=self.wallet, funder=self._funder,
            authority=self.authority, policy=self._policy, check_refund=self._check_refund,
            dead_closes=self.closes.dead_closes, let_go=lambda name: self.withdraw("", name), clock=clock,
        )  # fmt: skip
        self._closer = Closer(
            store, keystore, node, self._agreements, authority=self.authority, show=show, alone=self.closes.check_live
        )
        self.books = BookDesk(
            store, keystore, node, guest, wallet=self.wallet, fees=fees, authority=self.authority, policy=self._policy,
            check_coins=self._check_coins, check_heights=self._check_heights, home=self._funder.home,
            pay_more=self._funder.pay_more,
            show=show, clock=clock,
        )  # fmt: skip
        self._watcher.also = self.books.announcements
        self._known_orders: dict[str, str] | None = None
        self.request_close, self.answer_close = self._closer.request, self._closer.answer
        self.finish_close, self.check_exercise = self._closer.finish, self._closer.check_exercise
        self.learn = self._watcher.learn
        self.contract_id, self.proof_root = self._agreements.id_of, self._agreements.proof_root
        self.address, self.balance = self.wallet.address, self.wallet.balance

    def watch(self, attestations: Sequence[Attestation] = ()) -> list[Report]:
        """Walk the chain for every contract and every book, and do what is due, as ``Watcher.watch`` does."""
        return [*self._watcher.watch(attestations), *self.books.watch()]

    def _dead_ends(self, contract: PartyContract) -> Collection[Txid]:
        return self.transfers.dead_ends(contract)  # which is made after the closes: each knows the other's ends

    def outside_coins(self, names: Sequence[str], pay_to: str = "") -> OutsideCoins | None:
        """Return the coins of an outside wallet that the owner names, None without any. Raises InvalidInputError.

        pay_to: an address of the node's network.
        """
        if not names and not pay_to:
            return None
        if not names:
            raise InvalidInputError("--pay-to", "without --coin", "coins of the outside wallet that is to be paid")
        script = decode_address(pay_to, self._node.chain_info().chain) if pay_to else None
        return OutsideCoins(coins=named_coins(self._node, self._store, names), pay_to=script)

    def expected_heights(self, expiry: Slot) -> tuple[Height, Height]:
        """Return the expiry height that our node's chain is expected to have, and a refund height a day later.

        Later still where the mandate asks for more.
        """
        chain = self._node.chain_info()
        expected = expected_height(chain.height, expiry - chain.median_time)
        return expected, Height(expected + max(self._policy().min_refund_delay, MIN_REFUND_DELAY))

    def offer(
        self, terms: ContractTerms, role: Role, *, order: str = "", outside: OutsideCoins | None = None,
        agreed: Agreed | None = None,
    ) -> Offer:  # fmt: skip
        """Make an offer with coins of our wallet, and remember it; its file reserves them.

        order: the owner's name for it; the same one again, after a crash, gives the same offer and not a second.
        outside: coins of another wallet instead, which signs them by PSBT. agreed: the market's deal that it is.
        Raises WrongMandateError, OutsideMandateError, InsufficientFundsError, and for a deal LapsedError,
        OfferWithdrawnError, OfferExhaustedError; then nothing is reserved.
        """
        if order in self.orders():
            answered = self._store.load(self.orders()[order])
            known = answered.offer
            if (known.terms, known.role) != (terms, role):
                raise OrderTakenError(order, known.id.hex())
            if answered.withdrawn:
                raise WithdrawnError(known.id.hex())
            return known
        setup.check_new(terms)
        self.authority().check_contract(terms, role)
        setup.check_announced(terms)
        self._check_refund(terms)
        with self._alone(agreed):
            number = self._store.take_number()
            offer = setup.propose(terms, role=role, party=self._party(number, terms, role, outside))
            contract = PartyContract(number=number, role=role, offer=offer, order=order, policy=self._policy())
            _remember_deal(contract, agreed)
            self._keep(contract)
        if agreed is not None:  # the other side has seconds to answer, and then our own guest is asked
            self._agreements.guest_of(terms.announcements[0].event).begin()
        return offer

    def accept(
        self, offer: Offer, announcements: Sequence[Announcement] | None, *, bid: str = "",
        outside: OutsideCoins | None = None, agreed: Agreed | None = None,
    ) -> Accept:  # fmt: skip
        """Check an offer against our mandate, pre-sign every CET, and remember both; our file reserves our coins.

        announcements: of every oracle, as we have them from the oracles themselves; the offer's must be the same ones.
        None: what the mandate's oracles have signed will do. bid: the owner's name for what is accepted. outside,
        agreed: as in ``offer``; of a deal only one offer is accepted. An offer that was accepted before gets the same
        answer again. Raises WrongAnnouncementError, WrongMandateError, OutsideMandateError, InsufficientFundsError,
        OrderTakenError, and for a deal as ``offer``; then nothing is reserved.
        """
        if (before := self.accepted(offer)) is not None:
            return before
        role, authority = offer.role.other, self.check(offer)
        if announcements is not None:
            check_announcements(offer.terms.announcements, announcements)
        if agreed is not None and bid in self.orders():
            raise OrderTakenError(bid, self.orders()[bid])
        self._check_coins(offer.party.coins)
        with self._store.alone():
            number, policy = self._store.take_number(), self._policy()
        party = self._party(number, offer.terms, role, outside)
        agreement = self._agreements.new(offer, party, policy)
        self._show(summary_of(agreement, role, mandate=authority.mandate.number))
        with self._alone(agreed):  # the owner may have read for an hour: what was checked is checked again
            if (before := self.accepted(offer)) is not None:
                return before
            self._check_unpromised(party)
            authority, secret = self.check(offer), self._keystore.contract_secret(number)
            accepted = setup.accept(offer, agreement, party, secret, authority=authority)
            contract = PartyContract(
                number=number, role=role, offer=offer, accept=accepted, buckets=agreement.plan.buckets, order=bid,
                policy=policy,
            )  # fmt: skip
            _remember_deal(contract, agreed)
            self._keep(contract)
        return accepted

    @contextmanager
    def _alone(self, agreed: Agreed | None) -> Iterator[None]:
        """Hold the folder; for a deal hold the ledger too, once all takes of its offer together are within it."""
        with self._store.alone():
            if agreed is None:
                yield
                return
            with agreed.held():
                name = agreed.offer.hex()
                same = [one for one in self._store.contracts() if one.firm_offer == name and not one.withdrawn]
                taken = sum(decode_terms(one.offer.terms.option).quantity for one in same)
                if taken + agreed.quantity > agreed.most:
                    raise OfferExhaustedError(agreed.offer, taken=taken, wanted=agreed.quantity, most=agreed.most)
                yield

    def let_go_lapsed(self) -> list[str]:
        """Free the coins of deals whose time is over and that nobody has funded; return the contracts' names.

        Where we have signed the funding, the next watch spends them.
        """
        now, gone = self._clock(), []
        for contract in self._store.contracts():
            if contract.sign_by is None or now < contract.sign_by + LAPSED_SECONDS or contract.withdrawn:
                continue
            late = now >= contract.sign_by + UNFUNDED_SECONDS
            try:
                if not contract.may_be_funded or (late and self._waits_unfunded(contract)):
                    gone += self.withdraw("", contract.offer.id.hex())
            except BtcfiError as e:  # one contract's trouble is its own: an outside wallet has it, or its file is lost
                log.warning("the coins of contract %s are not let go: %s", contract.offer.id.hex()[:16], e)
        return gone

    def _waits_unfunded(self, contract: PartyContract) -> bool:
        """Return whether our signed half waits for the other side: our own coins lie there, also as the pool knows."""
        if contract.funding is not None or contract.funded or contract.cancelled is not None or contract.ours is None:
            return False
        coins = [coin.outpoint for coin in contract.ours.coins]
        if contract.fund_by is not None and contract.fund_by <= self._node.chain_info().median_time:
            return False  # it goes home already
        # a seller whose contract another one's collateral funds has none in it, and nothing to take home
        return bool(coins) and all(found is not None for found in self._node.unspent_many(coins, include_pool=True))

    def check(self, offer: Offer) -> Authority:
        """Check whether our mandate allows what an offer says, its coins apart; return the right to sign it.

        Raises WrongMandateError, OutsideMandateError, InvalidInputError naming the first field that it does not allow.
        """
        authority = self.authority()
        setup.check_new(offer.terms)
        authority.check_contract(offer.terms, offer.role.other)
        self._check_refund(offer.terms)
        return authority

    def orders(self) -> dict[str, str]:
        """Return our contracts' names by the owner's names for them: an order or a bid among them is answered."""
        # read once: only this desk writes the folder
        if self._known_orders is None:
            self._known_orders = {one.order: one.offer.id.hex() for one in self._store.contracts() if one.order}
        self._known_orders.update(self.transfers.made)
        return self._known_orders

    def accepted(self, offer: Offer) -> Accept | None:
        """Return the answer that we gave to this offer, if we did."""
        name = offer.id.hex()
        if name not in self._store.names():
            return None
        known = self._store.load(name)
        _check_not_cancelled(known)
        return known.accept if known.role is not offer.role else None

    def withdraw(self, order: str, offer_id: str = "") -> list[str]:
        """Free the coins of a sale that has come to nothing, without a fee; return the contracts that are withdrawn.

        order: the owner's name for what was offered; offer_id: of an offer that was accepted, as hex. One for which a
        signature of ours on the funding has left is kept as it is, since the other side may still fund it; of a
        market's deal its coins go home by spending them. What is withdrawn is never signed. Raises
        StepOutOfOrderError when there was nothing else than that.
        """
        names = [one for one in dict.fromkeys((self.orders().get(order, ""), offer_id)) if one in self._store.names()]
        done: list[str] = []
        kept: list[str] = []
        going: list[str] = []
        for name in names:
            with self._store.alone():
                contract = self._store.load(name)
                if contract.may_be_funded or contract.cancelled is not None:
                    (going if self._goes_home(contract) else kept).append(name)
                    continue
                if not contract.withdrawn:
                    contract.withdrawn = True
                    self._store.save(contract)
                done.append(name)
        for name in going:
            try:
                self.cancel(name)
            except BtcfiError as e:
                log.warning("contract %s came to nothing, and its coins are not home yet: %s", name[:16], e)
        done += going
        if kept and not done:
            what = "its sale came to nothing, but we have signed its funding; `btcfi party cancel` it"
            raise StepOutOfOrderError(kept[0], what)
        return done

    def _goes_home(self, contract: PartyContract) -> bool:
        """Return whether it is a deal that we have signed and nobody has funded: the watch sends its funding no more.

        Who tells us that it came to nothing may lie: then both sides' coins are where they were, less a fee within our
        fee rule. A funding that our node knows goes on.
        """
        if not contract.firm_offer or contract.watch is None or contract.funded or contract.cancelled is not None:
            return False
        funding = self._agreements.of(contract).funding
        with suppress(NotFoundError):
            self._node.pool_entry(funding.transaction.txid)
            return False
        if self._node.unspent(funding.outpoint, include_pool=False) is not None:
            return False
        contract.fund_by = self._node.chain_info().median_time
        self._store.save(contract)
        return True

    def sign(self, accepted: Accept, *, named: str = "") -> Sign:
        """Check an answer to our offer, pre-sign every CET, and only then sign our funding inputs.

        One answer an offer is signed; the same again gets the same signatures. named: as its message is: whom a deal
        is with says its name. Raises AlreadySignedError for another, and WrongMandateError, OutsideMandateError.
        """
        contract = self._answered(accepted)
        _check_named(contract, named)
        if contract.sign is not None:
            return contract.sign
        return self._give_signatures(contract, self._about_to_sign(contract))

    def _answered(self, accepted: Accept) -> PartyContract:
        """Return our contract with the answer in it, checked against mandate and chain, and not saved.

        Raises AlreadySignedError when another answer is signed, or handed over to be signed.
        """
        name = accepted.offer_id.hex()
        contract = self._store.load(name)
        if contract.sign is None:
            _check_not_cancelled(contract)
            self._check_in_time(contract)
        if contract.role is not contract.offer.role:
            raise StepOutOfOrderError(name, "the other side signs our answer; `btcfi party sign` its sign message")
        if contract.accept is not None and contract.accept != accepted:
            raise AlreadySignedError(name)
        if contract.sign is None:
            self.authority(name).check_contract(contract.offer.terms, contract.role)
            self._check_coins(accepted.party.coins)
        contract.accept = accepted
        return contract

    def _about_to_sign(self, contract: PartyContract) -> Agreement:
        """Return what is about to be signed, once the mandate allows it and the owner has been shown it."""
        authority = self.authority(contract.offer.id.hex())
        authority.check_contract(contract.offer.terms, contract.role)
        agreement = self._agreements.of(contract)
        contract.buckets = agreement.plan.buckets
        self._show(summary_of(agreement, contract.role, mandate=authority.mandate.number))
        return agreement

    def _give_signatures(
        self, contract: PartyContract, agreement: Agreement, outside: dict[int, tuple[bytes, ...]] | None = None
    ) -> Sign:  # fmt: skip
        if contract.accept is None:
            raise StepOutOfOrderError(contract.offer.id.hex(), "the other side's accept message")
        self._require_signed(contract, agreement, outside)
        with self._store.alone():
            if (signed := self._as_kept(contract).sign) is not None:
                return signed
            self._check_in_time(contract)
            authority = self.authority(contract.offer.id.hex())  # the owner may have revoked it while it read
            contract.sign = setup.sign(
                contract.offer, contract.accept, agreement, self._keystore.contract_secret(contract.number),
                self.wallet.by_script, authority=authority, outside=outside,
            )  # fmt: skip
            contract.watch = watch.start(self._node, self._node.block_count())
            contract.fund_by = self._fund_by(contract)
            self._store.save(contract)
        return contract.sign

    def _as_kept(self, contract: PartyContract) -> PartyContract:
        """Return a contract as the folder has it now; another terminal may have gone on while the owner read.

        Raises AlreadySignedError, StepOutOfOrderError for what was answered otherwise, or taken back, meanwhile.
        """
        name = contract.offer.id.hex()
        kept = self._store.load(name)
        _check_not_cancelled(kept)
        if kept.accept is not None and kept.accept != contract.accept:
            raise AlreadySignedError(name)
        return kept

    def _check_unpromised(self, party: Party) -> None:
        held = self.wallet.held_back(self.wallet.scan())
        if any(coin.outpoint in held for coin in party.coins):
            raise CoinsPromisedError

    def complete(self, signed: Sign, *, named: str = "") -> Transaction:
        """Check the offering side's signatures, sign our funding inputs last of all, store, and broadcast.

        The same again broadcasts the same again. named: as in ``sign``. Raises WrongMandateError, OutsideMandateError,
        and what ``setup.complete`` raises.
        """
        contract = self._countersigned(signed)
        _check_named(contract, named)
        if contract.funding is None:
            contract.sign = signed
            return self._fund(contract, self._about_to_sign(contract))
        self._node.send(contract.funding)
        return contract.funding

    def _countersigned(self, signed: Sign) -> PartyContract:
        """Return our contract that the offering side has signed; its signatures are not checked yet."""
        name, contract, _ = self._agreements.by_id(signed.contract_id)
        if contract.role is contract.offer.role:
            raise StepOutOfOrderError(name, "the other side completes what we signed; `btcfi party watch`")
        _check_not_cancelled(contract)
        if contract.funding is None:
            self._check_in_time(contract)
        return contract

    def _check_in_time(self, contract: PartyContract) -> None:
        """Refuse to sign what of a market's deal was not signed in time. Raises LapsedError."""
        if contract.sign_by is not None and self._clock() >= contract.sign_by:
            raise LapsedError(f"the deal {contract.order[:16]}", UnixSeconds(contract.sign_by), self._clock())

    def _fund(
        self, contract: PartyContract, agreement: Agreement, outside: dict[int, tuple[bytes, ...]] | None = None
    ) -> Transaction:  # fmt: skip
        if contract.sign is None:
            raise StepOutOfOrderError(contract.offer.id.hex(), "the other side's sign message")
        self._require_signed(contract, agreement, outside)
        with self._store.alone():
            self._as_kept(contract)
            self._check_in_time(contract)
            authority = self.authority(contract.offer.id.hex())  # as above
            contract.funding = setup.complete(
                agreement, contract.sign, self.wallet.by_script, authority=authority, outside=outside
            )
            contract.watch = watch.start(self._node, self._node.block_count())
            contract.fund_by = self._fund_by(contract)
            self._store.save(contract)  # stored before it is sent: a crash in between loses nothing
        self._node.send(contract.funding)
        return contract.funding

    def _require_signed(
        self, contract: PartyContract, agreement: Agreement, outside: dict[int, tuple[bytes, ...]] | None
    ) -> None:
        missing = set(asked_inputs(agreement, contract.role, self.wallet.by_script)) - set(outside or {})
        if missing:
            what = f"coins of an outside wallet, inputs {sorted(missing)}: `btcfi party psbt export` and import"
            raise StepOutOfOrderError(contract.offer.id.hex(), what)

    # ---- an outside wallet signs our inputs

    def hand_over(
        self, name: str, message: Accept | Sign, *, ask: Callable[[HandOver], None] = lambda _: None
    ) -> HandOver:
        """Return the funding for an outside wallet to sign, once all of the other side was checked, and keep that.

        message: the other side's answer to our offer, or its signatures. After this one answer no other is taken: the
        wallet may have signed. ask: sees what is handed over, and refuses by raising; then nothing is kept. Raises as
        ``sign`` and ``complete`` do.
        """
        contract = self._answered(message) if isinstance(message, Accept) else self._countersigned(message)
        if contract.offer.id.hex() != name:
            raise setup.WrongMessageError("the", f"is of contract {contract.offer.id.hex()[:16]}, not {name[:16]}")
        agreement = self._agreements.of(contract)
        if isinstance(message, Accept):
            check_presignatures(agreement.plan, contract.role.other.value, message.presignatures)
        else:
            setup.check_signed(agreement, message)
            contract.sign = message
        network = self._node.chain_info().chain
        made = hand_over(contract, agreement, scripts=self.wallet.by_script, network=network)
        self._about_to_sign(contract)
        ask(made)
        with self._store.alone():
            self._as_kept(contract)
            self._store.save(contract)
        return made

    def take_back(self, name: str, psbt: str) -> Sign | Transaction:
        """Take an outside wallet's signatures of our inputs, verified, and go on: our sign message, or the funding.

        Raises StepOutOfOrderError before ``hand_over``, and what ``psbt.import_witnesses`` raises.
        """
        contract = self._store.load(name)
        _check_not_cancelled(contract)
        given = witnesses(self._agreements.of(contract), contract.role, psbt, self.wallet.by_script)
        if contract.role is not contract.offer.role:
            return self._fund(contract, self._about_to_sign(contract), given)
        return contract.sign or self._give_signatures(contract, self._about_to_sign(contract), given)

    # ---- what it asks before it signs

    def authority(self, contract: str = "") -> Authority:
        """Return the right to sign now.

        contract: one of ours, a book or a disputed contract, whose own stake is not counted twice.
        """
        chain = self._node.chain_info()
        others = [one for one in self._store.contracts() if one.offer.id.hex() != contract]
        coins = {*self.wallet.scan().coins, *self._unspent_outside(others)}
        exposure = sum(_stake(one) for one in others if not _ended(one, coins)) + self.books.exposure(besides=contract)
        exposure += DisputeFiles(self._store.folder).exposure(besides=contract)
        situation = Situation(
            network=chain.chain, height=chain.height, time=chain.median_time, exposure=Sats(exposure),
            clock=UnixSeconds(int(self._clock())),
        )  # fmt: skip
        return self.owner.authority(situation)

    def _unspent_outside(self, contracts: Sequence[PartyContract]) -> list[OutPoint]:
        """Return the coins of outside wallets that unsigned contracts name and that are still there."""
        ours = self.wallet.by_script
        waiting = [one.ours for one in contracts if one.watch is None and one.ours is not None]
        points = [coin.outpoint for party in waiting for coin in party.coins if coin.output.script not in ours]
        found = self._node.unspent_many(points, include_pool=False) if points else []
        return [point for point, seen in zip(points, found, strict=True) if seen is not None]

    def _policy(self) -> SetupPolicy:
        return SetupPolicy(min_refund_delay=self.owner.mandate().mandate.refund_delay.least)

    def _fund_by(self, contract: PartyContract) -> int | None:
        """Return until when a contract that is signed now may be funded: half of its life at most."""
        now, expiry = self._node.chain_info().median_time, decode_terms(contract.offer.terms.option).expiry
        return now + min(FUND_WITHIN_SECONDS, (expiry - now) // 2) if now < expiry else None

    def _keep(self, contract: PartyContract) -> None:
        # while it is being written nothing is known: a disk that is full a moment later leaves a file that stands
        known, self._known_orders = self.orders(), None
        name = self._store.save(contract)
        if contract.order:
            known[contract.order] = name
        self._known_orders = known

    def _check_refund(self, terms: ContractTerms) -> None:
        """Refuse terms whose refund opens before the option can be settled, by our own node's height and time.

        A seller who could take the collateral back before the expiry would have sold nothing. Where the chain's clock
        is beyond the expiry, as in a replay, only the delay is asked for.
        """
        self._check_heights(decode_terms(terms.option).expiry, terms.refund_height)

    def _check_heights(self, expiry: Slot, refund_height: Height) -> None:
        chain, delay = self._node.chain_info(), self._policy().min_refund_delay
        least = expected_height(chain.height, expiry - chain.median_time) + delay
        if refund_height < least:
            raise InvalidInputError(
                "refund_height", f"{refund_height:,} at block {chain.height:,}",
                f"{least:,} or more: {delay} blocks after the expiry",
            )  # fmt: skip

    def _party(self, number: int, terms: ContractTerms, role: Role, outside: OutsideCoins | None) -> Party:
        key = public_key_compressed(self._keystore.contract_secret(number))
        if outside is not None:
            script = outside.pay_to or self.wallet.script
            return Party(key=key, payout_script=script, change_script=script, coins=outside.coins)
        chosen = self.wallet.choose(terms.collateral if role is Role.SELLER else terms.premium, terms.rate)
        return Party(key=key, payout_script=self.wallet.script, change_script=self.wallet.script, coins=chosen)

    def _check_coins(self, coins: Sequence[Coin]) -> None:
        # the other side's coins must exist as it says, confirmed: an amount that is wrong would void our signatures.
        # What waits in the pool must not spend them: it would be mined in the funding's place
        ours = self.wallet.by_script
        for coin, found in zip(
            coins, self._node.unspent_many([coin.outpoint for coin in coins], include_pool=True), strict=True
        ):
            if found is None or found.output != coin.output or not found.is_spendable:
                problem = "is spent, unconfirmed, immature or another"
                raise InvalidInputError(f"coin {coin.outpoint}", problem, "a confirmed coin that may be spent")
            if coin.output.script in ours:
                raise setup.CoinNotTheirsError("the other side", str(coin.outpoint))


def _stake(contract: PartyContract) -> Sats:
    """Return what we can lose by a contract: a newcomer its price, which is another than the premium that was."""
    if contract.reopened is not None and contract.role is Role.BUYER:
        return max(contract.reopened.price, contract.offer.terms.premium)
    return stake_of(contract.offer.terms, contract.role)


def _check_named(contract: PartyContract, named: str) -> None:
    """Refuse a message of one deal inside another's: it would be of somebody whom this deal is not with."""
    if named and contract.firm_offer and contract.order != named:
        raise setup.WrongMessageError("the", f"is of {contract.order[:16]}, and came as one of {named[:16]!a}")


def _remember_deal(contract: PartyContract, agreed: Agreed | None) -> None:
    if agreed is not None:
        contract.firm_offer, contract.sign_by = agreed.offer.hex(), agreed.sign_by


def _check_not_cancelled(contract: PartyContract) -> None:
    """Refuse to sign what its owner has taken back, also while a funding could still replace the cancel.

    What was withdrawn is not signed either: its coins may be another contract's by now. Nor is what another contract's
    collateral funds: its owners sign that by parts, each in its turn.
    """
    if contract.reopened is not None:
        raise ReopenedError(contract.offer.id.hex())
    if contract.withdrawn:
        raise WithdrawnError(contract.offer.id.hex())
    if contract.cancelled is not None:
        raise StepOutOfOrderError(contract.offer.id.hex(), "it was cancelled: a new offer")


def _ended(contract: PartyContract, coins: Collection[OutPoint]) -> bool:
    """Return whether nothing of ours is at stake any more. coins: what our wallet has.

    The collateral was spent, or a coin of the funding went elsewhere, for good; or our offer was never signed and its
    coins are spent, as ``cancel`` does.
    """
    if contract.withdrawn:
        return True
    if contract.watch is None:
        return contract.ours is not None and not any(coin.outpoint in coins for coin in contract.ours.coins)
    return contract.ended
