"""A party closes a contract together with the other side: one asks, the other answers, the first finishes."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Final

from btcfi.adapters.chain.node import Node
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.nonces import NonceVault
from btcfi.adapters.party.agreements import Agreements, StepOutOfOrderError
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import Transaction
from btcfi.contracts.cooperative import Closing, build_close
from btcfi.contracts.mandate import Authority
from btcfi.contracts.messages import CloseAnswer, CloseRequest, Role
from btcfi.contracts.payouts import decode_terms, price_input
from btcfi.contracts.setup import Agreement
from btcfi.contracts.summary import CloseSummary, close_summary_of
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.options.expiry import ExerciseType, SettlementInput, SettlementOutput
from btcfi.units import CentsPerBtc, Hash32, Sats

log = logging.getLogger(__name__)

ASKED_SECONDS: Final = 3_600
"""How long we stand by a close that we asked for: later the other side would answer only if that suits it better."""


class StaleRequestError(ConflictError):
    """An answer to a close that was asked for too long ago, or before the price was known."""

    def __init__(self, contract: str, problem: str) -> None:
        super().__init__(f"contract {contract[:16]}: {problem}; ask for the close again if you still want it")
        self.contract = contract


class Closer:
    """One party's half of cooperative closes."""

    def __init__(
        self, store: PartyStore, keystore: Keystore, node: Node, agreements: Agreements, *,
        authority: Callable[[str], Authority], show: Callable[[CloseSummary], None],
        alone: Callable[[PartyContract], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """Take the rooms of a desk.

        authority: the right to sign now, a contract's own stake left out. show: sees what is about to be signed, and
        may refuse by raising. alone: refuses by raising where another close of a contract is signed and may be
        finished.
        """
        self._store, self._keystore, self._node, self._agreements = store, keystore, node, agreements
        self._authority, self._show, self._alone = authority, show, alone
        store.drop_old_nonces()

    def request(self, name: str, *, payout: Sats, rate: SatsPerKvb, guest_input: bytes = b"") -> CloseRequest:
        """Ask the other side to close now; our nonce waits, on this machine alone, until its answer comes.

        A second request for the same contract is a new session: the nonce of the first one is destroyed.
        """
        contract = self._store.load(name)
        agreement = self._agreements.of(contract)
        closing = self._closing(contract, agreement, payout=payout, rate=rate, guest_input=guest_input)
        self._check(closing, agreement, contract)
        nonce = closing.nonce(self._keystore.contract_secret(contract.number), secrets.token_bytes(32))
        request = CloseRequest(
            contract_id=agreement.id, payout=payout, rate=rate, guest_input=guest_input, nonce=nonce.public
        )
        NonceVault(self._keystore).put(agreement.id, nonce)
        contract.closing, contract.asked_at = request, int(time.time())
        contract.asked_knowing = self._attested(contract)
        self._store.save(contract)
        return request

    def answer(self, request: CloseRequest, *, payout: Sats, unbidden: bool = False) -> CloseAnswer:
        """Sign a close that pays exactly what we say; with a guest input, exactly what the guest computes, too.

        unbidden: our owner has said nothing of this close, so that only the early exercise of an option is signed.
        """
        if unbidden:
            self.check_exercise(request.contract_id, request.guest_input)
        if request.payout != payout:
            raise InvalidInputError("close.payout_sats", f"{request.payout}", f"{payout}, as you said")
        name, contract, agreement = self._agreements.by_id(request.contract_id)
        closing = self._closing(contract, agreement, payout=payout, rate=request.rate, guest_input=request.guest_input)
        authority = self._check(closing, agreement, contract)
        secret = self._keystore.contract_secret(contract.number)
        nonce = closing.nonce(secret, secrets.token_bytes(32))
        public = nonce.public
        # written down before it is signed, so that the watch knows the close for ours when it appears
        if (txid := closing.close.transaction.txid) not in contract.closes:
            contract.closes = (*contract.closes, txid)
        self._store.save(contract)
        nonces = self._in_order(contract.role, public, request.nonce)
        partial = closing.sign(secret, nonce, nonces, authority=authority)
        log.info("close of %s signed at %d sats", name[:16], payout)
        return CloseAnswer(contract_id=agreement.id, nonce=public, partial=partial)

    def finish(self, answer: CloseAnswer) -> Transaction:
        """Add our partial signature to the other side's, store the close, and broadcast it.

        Raises WrongSignatureError for a wrong answer, after which the right one still finishes; NonceGoneError in a
        copy of the folder that asked.
        """
        name, contract, agreement = self._agreements.by_id(answer.contract_id)
        request = contract.closing
        if request is None:
            raise StepOutOfOrderError(name, "`btcfi party close`")
        closing = self._closing(
            contract, agreement, payout=request.payout, rate=request.rate, guest_input=request.guest_input
        )
        authority = self._check(closing, agreement, contract)
        secret = self._keystore.contract_secret(contract.number)
        nonces = self._in_order(contract.role, request.nonce, answer.nonce)
        closing.check(contract.role.other.value, nonces, answer.partial)
        self._check_age(name, contract)
        # the stored nonce is gone from the disk before it signs: a crash here costs this session, never the key
        vault = NonceVault(self._keystore)
        ours = closing.sign(secret, vault.take(agreement.id, request.nonce), nonces, authority=authority)
        contract.settlement = closing.finish(nonces, self._in_order(contract.role, ours, answer.partial))
        contract.closing = None
        contract.closes = (*contract.closes, contract.settlement.txid)
        self._store.save(contract)
        self._node.send(contract.settlement)
        return contract.settlement

    def check_exercise(self, contract_id: Hash32, guest_input: bytes) -> None:
        """Refuse what is not the early exercise of a contract: a payout that nobody stated, a knock-out that is said.

        Raises InvalidInputError.
        """
        expected = "the input of an early exercise, or a bid or an order of ours"
        if not guest_input:
            raise InvalidInputError("close.guest_input", "missing", expected)
        contract = self._agreements.by_id(contract_id)[1]
        raw, _ = self._agreements.guest_of(contract.offer.terms.announcements[0].event).prove(guest_input)
        exercise = SettlementOutput.from_bytes(raw).exercise_type
        if exercise is not ExerciseType.EARLY_EXERCISE:
            raise InvalidInputError("close.guest_input", exercise.name.lower().replace("_", " "), expected)

    def _check_age(self, name: str, contract: PartyContract) -> None:
        age = None if contract.asked_at is None else int(time.time()) - contract.asked_at
        if age is not None and not 0 <= age <= ASKED_SECONDS:
            raise StaleRequestError(
                name, f"its close was asked for {age:,} seconds ago, and stands for {ASKED_SECONDS:,}"
            )
        if self._attested(contract) > contract.asked_knowing:
            raise StaleRequestError(name, "the price is attested since its close was asked for")

    def _attested(self, contract: PartyContract) -> int:
        known = self._store.attestations()
        return sum((one.event.id, one.oracle_key) in known for one in contract.offer.terms.announcements)

    def _check(self, closing: Closing, agreement: Agreement, contract: PartyContract) -> Authority:
        """Ask the mandate, show the owner what is about to be signed, and return the right to sign it."""
        self._alone(contract)
        authority = self._authority(contract.offer.id.hex())
        closing.ask(authority)
        number = authority.mandate.number
        self._show(close_summary_of(agreement.id, closing.close, contract.role, mandate=number))
        return authority

    def _closing(
        self, contract: PartyContract, agreement: Agreement, *, payout: Sats, rate: SatsPerKvb, guest_input: bytes
    ) -> Closing:
        proof_root = None
        if guest_input:
            raw, root = self._agreements.guest_of(contract.offer.terms.announcements[0].event).prove(guest_input)
            self._check_guest_input(contract, guest_input)
            output = SettlementOutput.from_bytes(raw)
            output.raise_if_refused()
            if output.exercise_type is ExerciseType.HOLD:
                problem = "the guest holds the option: nothing is exercised, and 0 is not its worth"
                raise InvalidInputError("close.guest_input", problem, "an input on which it is exercised")
            if output.payout_sats != payout:
                raise InvalidInputError(
                    "close.payout_sats", f"{payout}", f"{output.payout_sats}, as the guest computes"
                )
            proof_root = root
        plan = agreement.plan
        close = build_close(
            plan.contract, plan.funding, payout=payout, rate=rate, proof_root=proof_root, guest_input=guest_input
        )
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

    @staticmethod
    def _in_order(role: Role, ours: bytes, theirs: bytes) -> tuple[bytes, bytes]:
        # MuSig2 counts the buyer first
        return (ours, theirs) if role is Role.BUYER else (theirs, ours)
