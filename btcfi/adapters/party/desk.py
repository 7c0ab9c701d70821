"""One party at work: it makes and checks messages, signs with its own keystore, broadcasts, watches and settles.

Two desks know nothing of each other but the messages; the service that coordinates them holds neither's keys.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from btcfi.adapters.chain.node import Block, InputsSpentError, Node, TxRejectedError
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.nonces import NonceVault
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.store import (
    WALLET_KEYS,
    PartyContract,
    PartyStore,
    scan_coins,
    spendable,
)
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.fees import (
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    FeeRule,
    SatsPerKvb,
    choose_rate,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin, select_coins
from btcfi.contracts import setup, watch
from btcfi.contracts.buckets import Bucket, Payouts
from btcfi.contracts.cooperative import Closing, build_close
from btcfi.contracts.messages import (
    Accept,
    CloseAnswer,
    CloseRequest,
    ContractTerms,
    Offer,
    Party,
    Role,
    Sign,
    contract_id,
)
from btcfi.contracts.option import build_refund, complete_settlement, expected_height, sign_settlement
from btcfi.contracts.payouts import decode_terms, price_input
from btcfi.contracts.settle import CompletedCet, build_child, complete_cet
from btcfi.contracts.setup import Agreement, SetupPolicy
from btcfi.contracts.watch import Action, ContractStatus
from btcfi.errors import BtcfiError, ConflictError, InvalidInputError, NotFoundError, NotHeldError, UnreachableError
from btcfi.options.expiry import SettlementInput, SettlementOutput
from btcfi.options.terms import OptionTerms
from btcfi.oracle.announcement import Announcement, DigitPoints, OracleEvent, WrongAnnouncementError
from btcfi.oracle.attestation import (
    AlreadyAttestedError,
    Attestation,
    WrongAttestationError,
    check_attestation,
)
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import CentsPerBtc, Hash32, Height, Sats

log = logging.getLogger(__name__)

CHILD_COIN: Final = Sats(20_000)
"""A coin of at least this size pays for a settlement's child: 50 sat/vB for both transactions."""

K = TypeVar("K")
V = TypeVar("V")

REMEMBERED: Final = 16
"""Agreements kept in memory, a few megabytes each."""

FUNDING_WEIGHT: Final = 6 * P2TR_OUTPUT_WEIGHT
"""Room in the coin selection for what a party pays besides its inputs and change."""


class StepOutOfOrderError(ConflictError):
    """A step whose predecessor is missing."""

    def __init__(self, contract: str, missing: str) -> None:
        super().__init__(f"contract {contract[:16]}: {missing} first")
        self.contract, self.missing = contract, missing


class AlreadySignedError(ConflictError):
    """A second answer to an offer whose first one was signed: what left the house is a fact."""

    def __init__(self, contract: str) -> None:
        super().__init__(f"contract {contract[:16]}: another answer to this offer is signed already; make a new offer")
        self.contract = contract


class ProgramMismatchError(InvalidInputError):
    """The contract is about another guest program than the one that this party has."""

    def __init__(self, *, contract: Hash32, ours: Hash32) -> None:
        super().__init__("guest program", contract.hex()[:16], f"{ours.hex()[:16]}, the one installed here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a watch round found and did about one contract."""

    name: str
    role: Role
    status: ContractStatus
    tip: Height
    action: Action
    note: str = ""


def encode_reports(reports: Sequence[Report]) -> dict[str, Any]:
    """Return the JSON form of a round's reports: what a party's status file and ``btcfi party watch`` say."""
    rows = [
        {
            "contract": report.name,
            "role": report.role.value,
            "status": report.status.value,
            "height": report.tip,
            "action": report.action.value,
            "note": report.note,
        }
        for report in reports
    ]
    return {"contracts": rows}


class _Seen:
    """The chain during one watch round: every block is read once for all contracts."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._top = node.block_count()
        self._hashes: dict[Height, Hash32] = {}
        self._blocks: dict[Hash32, Block] = {}

    def block_count(self) -> Height:
        return self._top

    def block_hash(self, at: Height) -> Hash32:
        if at not in self._hashes:
            self._hashes[at] = self._node.block_hash(at)
        return self._hashes[at]

    def block(self, name: Hash32) -> Block:
        if name not in self._blocks:
            self._blocks[name] = self._node.block(name)
        return self._blocks[name]


def _remember(known: dict[K, V], key: K, value: V) -> None:
    while len(known) >= REMEMBERED:
        known.pop(next(iter(known)))
    known[key] = value


class PartyDesk:
    """One party with its folder, its keys, its guest program and a node."""

    def __init__(
        self, store: PartyStore, keystore: Keystore, node: Node, guest: Guest, *, policy: SetupPolicy, fees: FeeRule
    ) -> None:
        self._store, self._keystore, self._node, self._guest = store, keystore, node, guest
        self._policy, self._fees = policy, fees
        store.drop_old_nonces()
        self._agreements: dict[Hash32, Agreement] = {}
        """The last agreements, by id."""
        self._points: dict[tuple[Hash32, ...], tuple[DigitPoints, ...]] = {}
        """Anticipation points of the last events: options of one expiry share them."""
        self._names: dict[Hash32, str] = {}
        self._done: set[str] = set()
        self._announced: dict[tuple[Hash32, bytes], Announcement] = {}
        self._announced_by = 0
        """How many contracts that was read from."""
        self._known_orders: dict[str, str] | None = None
        self._keys = [keystore.wallet_key(index) for index in range(WALLET_KEYS)]

    @property
    def wallet(self) -> dict[bytes, TaprootKey]:
        """Our keys by output script."""
        return {key.script: key for key in self._keys}

    def address(self) -> str:
        """Our receiving address: where to send what the wallet is to spend."""
        return encode_address(self._keys[0].script)

    def balance(self) -> tuple[Sats, Sats]:
        """Return what the wallet can spend now, and what is reserved for contracts; reads new blocks first."""
        coins = scan_coins(self._store.coins(), self._node, self._keys)
        self._store.save_coins(coins)
        free = sum(coin.value for coin in spendable(coins, self._node.block_count()))
        held = sum(coin.value for coin, _, _ in coins.coins.values() if coin.outpoint in coins.reserved)
        return Sats(free), Sats(held)

    # ---- setting up

    def offer(self, terms: ContractTerms, role: Role, *, order: str = "") -> Offer:
        """Make an offer with coins of our wallet, reserve them, and remember it.

        order: the owner's name for it; the same one again, after a crash, gives the same offer and not a second.
        """
        if order in self._orders():
            return self._store.load(self._orders()[order]).offer
        self._check_refund(terms)
        number = self._store.take_number()
        offer = setup.propose(terms, role=role, party=self._party(number, terms, role))
        name = self._store.save(PartyContract(number=number, role=role, offer=offer, order=order))
        if order:
            self._orders()[order] = name
        return offer

    def accept(self, offer: Offer, announcements: Sequence[Announcement]) -> Accept:
        """Check an offer against the announcements that we expect, pre-sign every CET, and remember both.

        announcements: of every oracle, as we have them from the oracles themselves; the offer's must be the same ones.
        An offer that was accepted before gets the same answer again. Raises WrongAnnouncementError.
        """
        if (before := self.accepted(offer)) is not None:
            return before
        role = offer.role.other
        _check_announcements(offer.terms.announcements, announcements)
        self._check_refund(offer.terms)
        self._check_coins(offer.party.coins)
        number = self._store.take_number()
        party = self._party(number, offer.terms, role)
        agreement = self._agree(offer, party, announcements[0].event)
        accepted = setup.accept(offer, agreement, party, self._keystore.contract_secret(number))
        buckets = agreement.plan.buckets
        self._store.save(PartyContract(number=number, role=role, offer=offer, accept=accepted, buckets=buckets))
        return accepted

    def _orders(self) -> dict[str, str]:
        # read once: only this desk writes the folder
        if self._known_orders is None:
            known = {self._store.load(name).order: name for name in self._store.names()}
            self._known_orders = {order: name for order, name in known.items() if order}
        return self._known_orders

    def accepted(self, offer: Offer) -> Accept | None:
        """Return the answer that we gave to this offer, if we did."""
        name = offer.id.hex()
        if name not in self._store.names():
            return None
        known = self._store.load(name)
        return known.accept if known.role is not offer.role else None

    def sign(self, accepted: Accept) -> Sign:
        """Check an answer to our offer, pre-sign every CET, and only then sign our funding inputs.

        One answer an offer is signed; the same again gets the same signatures. Raises AlreadySignedError for another.
        """
        contract = self._store.load(accepted.offer_id.hex())
        if contract.sign is not None:
            if contract.accept != accepted:
                raise AlreadySignedError(accepted.offer_id.hex())
            return contract.sign
        self._check_coins(accepted.party.coins)
        contract.accept = accepted
        agreement = self._agreement(contract)
        contract.buckets = agreement.plan.buckets
        secret = self._keystore.contract_secret(contract.number)
        signed = setup.sign(contract.offer, accepted, agreement, secret, self.wallet)
        contract.sign = signed
        contract.watch = watch.start(self._node, self._node.block_count())
        self._store.save(contract)
        return signed

    def complete(self, signed: Sign) -> Transaction:
        """Check the offering side's signatures, sign our funding inputs last of all, store, and broadcast."""
        name, contract, agreement = self._by_id(signed.contract_id)
        if contract.role is contract.offer.role:
            raise StepOutOfOrderError(name, "the other side completes what we signed; `btcfi party watch`")
        contract.funding = setup.complete(agreement, signed, self.wallet)
        contract.sign = signed
        contract.watch = watch.start(self._node, self._node.block_count())
        self._store.save(contract)  # stored before it is sent: a crash in between loses nothing
        self._node.send(contract.funding)
        return contract.funding

    def _check_refund(self, terms: ContractTerms) -> None:
        """Refuse terms whose refund opens before the option can be settled, by our own node's height and time.

        A seller who could take the collateral back before the expiry would have sold nothing. Where the chain's clock
        is beyond the expiry, as in a replay, only the delay is asked for.
        """
        chain = self._node.chain_info()
        expiry = decode_terms(terms.option).expiry
        least = expected_height(chain.height, expiry - chain.median_time) + self._policy.min_refund_delay
        if terms.refund_height < least:
            raise InvalidInputError(
                "refund_height", f"{terms.refund_height:,} at block {chain.height:,}",
                f"{least:,} or more: {self._policy.min_refund_delay} blocks after the expiry",
            )  # fmt: skip

    def _party(self, number: int, terms: ContractTerms, role: Role) -> Party:
        coins = scan_coins(self._store.coins(), self._node, self._keys)
        amount = terms.collateral if role is Role.SELLER else terms.premium
        free = spendable(coins, self._node.block_count())
        chosen = select_coins(free, amount=amount, rate=terms.rate, other_weight=FUNDING_WEIGHT).coins
        coins.reserved |= {coin.outpoint for coin in chosen}
        self._store.save_coins(coins)
        script = self._keys[0].script
        key = public_key_compressed(self._keystore.contract_secret(number))
        return Party(key=key, payout_script=script, change_script=script, coins=chosen)

    def _check_coins(self, coins: Sequence[Coin]) -> None:
        # the other side's coins must exist as it says, confirmed: an amount that is wrong would void our signatures
        ours = self.wallet
        for coin, found in zip(
            coins, self._node.unspent_many([coin.outpoint for coin in coins], include_pool=False), strict=True
        ):
            if found is None or found.output != coin.output or found.confirmations < 1:
                raise InvalidInputError(f"coin {coin.outpoint}", "is spent, unconfirmed or another", "a confirmed coin")
            if coin.output.script in ours:
                raise setup.CoinNotTheirsError("the other side", str(coin.outpoint))

    def _agree(
        self, offer: Offer, accepting: Party, event: OracleEvent, buckets: Sequence[Bucket] | None = None
    ) -> Agreement:
        terms = decode_terms(offer.terms.option)
        if buckets is None and event.program_hash != (ours := self._guest.program.program_hash):  # a new contract
            raise ProgramMismatchError(contract=event.program_hash, ours=ours)
        if terms.collateral != offer.terms.collateral:
            raise InvalidInputError("offer.option.collateral_sats", "differs from the contract's", "the same amount")
        known = tuple(one.digest() for one in offer.terms.announcements)
        agreement = setup.agree(
            offer, accepting, self._payouts(terms, event), event=event, policy=self._policy, buckets=buckets,
            points=self._points.get(known),
        )  # fmt: skip
        _remember(self._points, known, agreement.plan.points)
        _remember(self._agreements, agreement.id, agreement)
        return agreement

    def _payouts(self, terms: OptionTerms, event: OracleEvent) -> Payouts:
        """Return a contract's payouts, which are not asked for again once its buckets are kept."""

        def payouts(prices: Sequence[CentsPerBtc]) -> Sequence[Sats]:
            return self._guest_of(event).payouts(terms)(prices)

        return payouts

    def _guest_of(self, event: OracleEvent) -> Guest:
        """Return the guest of a contract: what we have signed is settled by its own program. Raises NotHeldError."""
        return self._guest.of(event.program_hash)

    def _agreement(self, contract: PartyContract) -> Agreement:
        if contract.accept is None:
            raise StepOutOfOrderError(contract.offer.id.hex(), "`btcfi party sign` the other side's accept message")
        party = contract.accept.party
        wanted = contract_id(contract.offer, party)
        if wanted not in self._agreements:
            # the event was compared with our expectation when the offer was made or accepted
            event = contract.offer.terms.announcements[0].event
            return self._agree(contract.offer, party, event, contract.buckets)
        return self._agreements[wanted]

    # ---- closing together

    def request_close(self, name: str, *, payout: Sats, rate: SatsPerKvb, guest_input: bytes = b"") -> CloseRequest:
        """Ask the other side to close now; our nonce waits, on this machine alone, until its answer comes.

        A second request for the same contract is a new session: the nonce of the first one is destroyed.
        """
        contract = self._store.load(name)
        agreement = self._agreement(contract)
        closing = self._closing(contract, agreement, payout=payout, rate=rate, guest_input=guest_input)
        nonce = closing.nonce(self._keystore.contract_secret(contract.number), secrets.token_bytes(32))
        request = CloseRequest(
            contract_id=agreement.id, payout=payout, rate=rate, guest_input=guest_input, nonce=nonce.public
        )
        self._vault().put(agreement.id, nonce)
        contract.closing = request
        self._store.save(contract)
        return request

    def answer_close(self, request: CloseRequest, *, payout: Sats) -> CloseAnswer:
        """Sign a close that pays exactly what we say; with a guest input, exactly what the guest computes, too."""
        if request.payout != payout:
            raise InvalidInputError("close.payout_sats", f"{request.payout}", f"{payout}, as you said")
        name, contract, agreement = self._by_id(request.contract_id)
        closing = self._closing(contract, agreement, payout=payout, rate=request.rate, guest_input=request.guest_input)
        secret = self._keystore.contract_secret(contract.number)
        nonce = closing.nonce(secret, secrets.token_bytes(32))
        public = nonce.public
        # written down before it is signed, so that the watch knows the close for ours when it appears
        contract.closes = (*contract.closes, closing.close.transaction.txid)
        self._store.save(contract)
        partial = closing.sign(secret, nonce, self._in_order(contract.role, public, request.nonce))
        log.info("close of %s signed at %d sats", name[:16], payout)
        return CloseAnswer(contract_id=agreement.id, nonce=public, partial=partial)

    def finish_close(self, answer: CloseAnswer) -> Transaction:
        """Add our partial signature to the other side's, store the close, and broadcast it.

        Raises WrongSignatureError for a wrong answer, after which the right one still finishes; NonceGoneError in a
        copy of the folder that asked.
        """
        name, contract, agreement = self._by_id(answer.contract_id)
        request = contract.closing
        if request is None:
            raise StepOutOfOrderError(name, "`btcfi party close`")
        closing = self._closing(
            contract, agreement, payout=request.payout, rate=request.rate, guest_input=request.guest_input
        )
        secret = self._keystore.contract_secret(contract.number)
        nonces = self._in_order(contract.role, request.nonce, answer.nonce)
        closing.check(contract.role.other.value, nonces, answer.partial)
        # the stored nonce is gone from the disk before it signs: a crash here costs this session, never the key
        ours = closing.sign(secret, self._vault().take(agreement.id, request.nonce), nonces)
        contract.settlement = closing.finish(nonces, self._in_order(contract.role, ours, answer.partial))
        contract.closing = None
        contract.closes = (*contract.closes, contract.settlement.txid)
        self._store.save(contract)
        self._node.send(contract.settlement)
        return contract.settlement

    def cancel(self, name: str) -> Transaction:
        """Take back an offer whose funding is not on the chain: spend its coins to ourselves, so it never can be."""
        contract = self._store.load(name)
        accepted = contract.accept.party if contract.accept is not None else None
        mine = contract.offer.party if contract.role is contract.offer.role else accepted
        if mine is None or not mine.coins:
            raise StepOutOfOrderError(name, "a contract with coins of ours")
        if contract.accept is not None and self._node.unspent(self._agreement(contract).plan.funding) is not None:
            raise StepOutOfOrderError(name, "the funding waits or is confirmed: `btcfi party close` it")
        coins = mine.coins
        rate = choose_rate(self._node.fee_estimate(2), self._fees)
        fee = fee_for(vsize_of(OVERHEAD_WEIGHT + len(coins) * P2TR_INPUT_WEIGHT + P2TR_OUTPUT_WEIGHT), rate)
        value = Sats(sum(coin.value for coin in coins) - fee)
        back = Transaction(
            version=2,
            inputs=tuple(TxIn(outpoint=coin.outpoint) for coin in coins),
            outputs=(TxOut(value=value, script=self._keys[0].script),),
        )
        spent = [coin.output for coin in coins]
        for index, coin in enumerate(coins):
            back = back.with_witness(index, [self.wallet[coin.output.script].sign_input(back, index, spent)])
        self._node.send(back)
        return back

    def contract_id(self, name: str) -> Hash32:
        """Return the identity of one of our contracts. Raises StepOutOfOrderError before it is accepted."""
        contract = self._store.load(name)
        if contract.accept is None:
            raise StepOutOfOrderError(name, "the other side's accept message")
        return contract_id(contract.offer, contract.accept.party)

    def _closing(
        self, contract: PartyContract, agreement: Agreement, *, payout: Sats, rate: SatsPerKvb, guest_input: bytes
    ) -> Closing:
        proof_root = None
        if guest_input:
            raw, root = self._guest_of(contract.offer.terms.announcements[0].event).prove(guest_input)
            self._check_guest_input(contract, guest_input)
            output = SettlementOutput.from_bytes(raw)
            output.raise_if_refused()
            if output.payout_sats != payout:
                raise InvalidInputError(
                    "close.payout_sats", f"{payout}", f"{output.payout_sats}, as the guest computes"
                )
            proof_root = root
        plan = agreement.plan
        close = build_close(plan.contract, plan.funding, payout=payout, rate=rate, proof_root=proof_root)
        keys = {contract.offer.role: contract.offer.party.key}
        if contract.accept is not None:
            keys[contract.offer.role.other] = contract.accept.party.key
        return Closing(close, buyer_key=keys[Role.BUYER], seller_key=keys[Role.SELLER])

    def _check_guest_input(self, contract: PartyContract, raw: bytes) -> None:
        # what the terms fix must be the terms'; the price, the path and the market's numbers are what is agreed on now
        terms = decode_terms(contract.offer.terms.option)
        given, ours = SettlementInput.from_bytes(raw), price_input(terms, CentsPerBtc(1))
        for name in (
            "option_type",
            "strike",
            "quantity",
            "barrier_level",
            "early_exercise",
            "collateral",
            "abi_version",
        ):
            if getattr(given, name) != getattr(ours, name):
                raise InvalidInputError(
                    f"close.guest_input.{name}", f"{getattr(given, name)}", f"{getattr(ours, name)}"
                )

    def _by_id(self, wanted: Hash32) -> tuple[str, PartyContract, Agreement]:
        if wanted not in self._names:
            known = set(self._names.values())
            for name in self._store.names():
                if name not in known and (accept := (one := self._store.load(name)).accept) is not None:
                    self._names[contract_id(one.offer, accept.party)] = name
        if wanted not in self._names:
            raise NotFoundError("contract", wanted.hex()[:16], "`btcfi party status` lists ours")
        contract = self._store.load(self._names[wanted])
        return self._names[wanted], contract, self._agreement(contract)

    def _vault(self) -> NonceVault:
        return NonceVault(self._keystore)

    @staticmethod
    def _in_order(role: Role, ours: bytes, theirs: bytes) -> tuple[bytes, bytes]:
        # MuSig2 counts the buyer first
        return (ours, theirs) if role is Role.BUYER else (theirs, ours)

    # ---- watching

    def learn(self, attestation: Attestation) -> bool:
        """Keep an attestation of an event of ours, on disk, after checking it; return whether it was new.

        The first outcome that an oracle attested stays. Raises WrongAttestationError for a forged one or one of no
        event and oracle of ours, AlreadyAttestedError for a second outcome.
        """
        named = (attestation.event, attestation.oracle_key)
        announced = self._expected().get(named)
        if announced is None:
            raise WrongAttestationError(attestation.event, "no contract of ours is about this event and oracle")
        check_attestation(attestation, announced)
        known = self._store.attestations().get(named)
        if known is not None and known.outcome != attestation.outcome:
            raise AlreadyAttestedError(event=attestation.event, attested=known.outcome, asked=attestation.outcome)
        if known is not None:
            return False
        self._store.keep_attestation(attestation)
        return True

    def _expected(self) -> dict[tuple[Hash32, bytes], Announcement]:
        """Return, by event and oracle, what our contracts are to be settled by."""
        names = self._store.names()
        if len(names) != self._announced_by:
            loaded = [self._store.load(name) for name in names]
            every = [one for contract in loaded for one in contract.offer.terms.announcements]
            self._announced, self._announced_by = {(one.event.id, one.oracle_key): one for one in every}, len(names)
        return self._announced

    def watch(self, attestations: Sequence[Attestation] = ()) -> list[Report]:
        """Walk the chain for every contract that is signed, and do what is due: broadcast, settle, refund.

        What goes wrong with one contract, and evidence that is wrong, is named and stops no other. Raises
        UnreachableError while the node is away, for that is of all of them.
        """
        for one in attestations:
            try:
                self.learn(one)
            except BtcfiError as e:
                log.warning("attestation dropped: %s", e)
        reports = []
        view = _Seen(self._node)
        for name in self._store.names():
            if name in self._done:
                continue
            contract = self._store.load(name)
            if contract.watch is not None and contract.accept is not None:
                try:
                    report = self._watch_one(name, contract, view)
                except UnreachableError:
                    raise
                except NotHeldError as e:  # the others are watched all the same
                    log.warning("%s waits: %s", name, e)
                    continue
                except Exception as e:  # noqa: BLE001 - whatever it is, it is this contract's and no other's
                    log.warning("%s is not watched this time: %s: %s", name, type(e).__name__, e)
                    continue
                reports.append(report)
                if report.action is Action.DONE and report.tip - self._settled_at(contract) > watch.REMEMBERED_BLOCKS:
                    self._done.add(name)  # deeper than any reorganisation that we follow
        return reports

    @staticmethod
    def _settled_at(contract: PartyContract) -> Height:
        return (
            max((spend.height for spend in contract.watch.spends), default=Height(0)) if contract.watch else Height(0)
        )

    def _watch_one(self, name: str, contract: PartyContract, view: _Seen) -> Report:
        agreement = self._agreement(contract)
        plan = agreement.plan
        contributions = [txin.outpoint for txin in agreement.funding.transaction.inputs]
        state = contract.watch or watch.start(view, view.block_count())
        step = watch.advance(state, view, [plan.funding, *contributions])
        contract.watch = step.state
        kept = self._store.attestations()
        known = [(kept.get((one.event.id, one.oracle_key)), one) for one in plan.announcements]
        relevant = [said for said, announced in known if said is not None and _has_nonces(said, announced)]
        cet = self._completed(agreement, contract, relevant)
        refund = self._refund(agreement, contract)
        spenders = {one.txid for one in (contract.settlement, cet and cet.transaction, refund) if one}
        spenders |= set(contract.closes)
        spend = step.state.spend_of(plan.funding)
        if spend is not None and spend.transaction.txid not in spenders:
            # the other side may have settled: any CET of the plan is ours, too
            spenders |= {plan.transaction(bucket).txid for bucket in range(len(plan.buckets))}
        status = watch.contract_status(step.state, plan.funding, contributions=contributions, spenders=spenders)
        action = watch.next_action(
            status,
            tip=step.state.tip,
            expiry_height=plan.contract.expiry_height,
            refund_height=plan.contract.refund_height,
            attested=cet is not None,
            seller=contract.role is Role.SELLER,
        )
        note = self._act(action, contract, cet, refund)
        if (step.state.spends, step.state.creations) != (state.spends, state.creations):
            self._store.save(contract)
        self._store.keep_in_mind(contract)  # new blocks alone are read again after a restart
        return Report(name=name, role=contract.role, status=status, tip=step.state.tip, action=action, note=note)

    def _act(
        self, action: Action, contract: PartyContract, cet: CompletedCet | None, refund: Transaction | None
    ) -> str:
        try:
            if action is Action.BROADCAST_FUNDING and contract.funding is not None:
                self._node.send(contract.funding)
            elif action is Action.SETTLE and cet is not None:
                self._settle(contract, cet)
            elif action is Action.REFUND and refund is not None:
                contract.settlement = refund
                self._store.save(contract)
                self._node.send(refund)
        except InputsSpentError as e:
            return f"somebody else spent it: {e.reason}"
        except TxRejectedError as e:
            return e.reason
        return ""

    def _completed(
        self, agreement: Agreement, contract: PartyContract, attestations: Sequence[Attestation]
    ) -> CompletedCet | None:
        if contract.accept is None or contract.sign is None:
            return None
        if len(attestations) < agreement.plan.threshold:
            return None
        parts = {
            contract.offer.role.other.value: contract.accept.presignatures,
            contract.offer.role.value: contract.sign.presignatures,
        }
        return complete_cet(agreement.plan, buyer=parts["buyer"], seller=parts["seller"], attestations=attestations)

    def _refund(self, agreement: Agreement, contract: PartyContract) -> Transaction | None:
        if contract.role is not Role.SELLER:
            return None
        rate = choose_rate(self._node.fee_estimate(6), self._fees)
        refund = build_refund(agreement.plan.contract, agreement.plan.funding, rate=rate)
        secret = self._keystore.contract_secret(contract.number)
        return complete_settlement(refund, seller=sign_settlement(refund, secret, party="seller"))

    def _settle(self, contract: PartyContract, cet: CompletedCet) -> None:
        """Broadcast the CET with a child from our wallet; the child carries the root of our own proof."""
        if contract.settlement == cet.transaction and contract.child is not None:
            self._node.send_package([cet.transaction, contract.child])
            return
        coins = scan_coins(self._store.coins(), self._node, self._keys)
        coin = next((one for one in spendable(coins, self._node.block_count()) if one.value >= CHILD_COIN), None)
        if coin is None:
            raise InvalidInputError("wallet", "no coin to pay the settlement's fee", f"a coin of {CHILD_COIN} sats")
        rate = choose_rate(self._node.fee_estimate(2), self._fees)
        child = build_child(
            cet,
            coin,
            change_script=self._keys[0].script,
            rate=SatsPerKvb(rate),
            proof_root=self.proof_root(contract.offer, cet.outcome),
        )
        key = self._keys[coin.key_index]
        signature = key.sign_input(child.transaction, 1, child.spent)
        contract.settlement = cet.transaction
        contract.child = child.transaction.with_witness(1, [signature])
        coins.reserved.add(coin.outpoint)
        self._store.save_coins(coins)
        self._store.save(contract)
        self._node.send_package([contract.settlement, contract.child])

    def proof_root(self, offer: Offer, outcome: int) -> Hash32:
        """Return the root of the proof that the guest pays this at the attested outcome: our own run of it."""
        terms = decode_terms(offer.terms.option)
        event = offer.terms.announcements[0].event
        given = price_input(terms, event.price_of(outcome), touched=outcome > event.max_price)
        return self._guest_of(event).prove(given.to_bytes())[1]


def _check_announcements(offered: Sequence[Announcement], expected: Sequence[Announcement]) -> None:
    """Refuse an offer whose oracles, nonces or number are not those that we have from the oracles themselves.

    An announcement of the same event by another key would let its owner attest whatever pays it.
    """
    ours, theirs = {one.digest() for one in expected}, [one.digest() for one in offered]
    event = expected[0].event.id.hex()[:16] if expected else "nothing"
    if not expected or len(theirs) != len(ours) or set(theirs) != ours:
        strangers = [one.oracle_key.hex()[:16] for one in offered if one.digest() not in ours]
        problem = f"the offer has {len(theirs)} oracles, you have {len(ours)}"
        if strangers:
            problem += f"; not as you have them: {', '.join(strangers)}"
        raise WrongAnnouncementError(event, problem)


def _has_nonces(attestation: Attestation, announcement: Announcement) -> bool:
    """Return whether a checked attestation uses the nonces of this announcement of its event and oracle."""
    pairs = zip(attestation.signatures, announcement.nonces, strict=False)
    return all(signature[:32] == nonce for signature, nonce in pairs)
