"""One party at work: it makes and checks messages, signs with its own keystore, broadcasts, watches and settles.

Two desks know nothing of each other but the messages; the service that coordinates them holds neither's keys.
Closing together is in ``closing``, watching and settling in ``watching``, the coins are in ``wallet``.
"""

from __future__ import annotations

from collections.abc import Sequence

from btcfi.adapters.chain.node import Node
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.agreements import Agreements, StepOutOfOrderError
from btcfi.adapters.party.closing import Closer
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.outside import HandOver, OutsideCoins, asked_inputs, hand_over, named_coins, witnesses
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.adapters.party.watching import Watcher
from btcfi.bitcoin.fees import (
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    FeeRule,
    choose_rate,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts import setup, watch
from btcfi.contracts.execution import check_presignatures
from btcfi.contracts.messages import Accept, ContractTerms, Offer, Party, Role, Sign
from btcfi.contracts.option import expected_height
from btcfi.contracts.payouts import decode_terms
from btcfi.contracts.setup import Agreement, SetupPolicy
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.oracle.announcement import Announcement, WrongAnnouncementError
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import Height, Sats, Slot


class AlreadySignedError(ConflictError):
    """A second answer to an offer whose first one was signed: what left the house is a fact."""

    def __init__(self, contract: str) -> None:
        super().__init__(f"contract {contract[:16]}: another answer to this offer is signed already; make a new offer")
        self.contract = contract


class PartyDesk:
    """One party with its folder, its keys, its guest program and a node."""

    def __init__(
        self, store: PartyStore, keystore: Keystore, node: Node, guest: Guest, *, policy: SetupPolicy, fees: FeeRule
    ) -> None:
        self._store, self._keystore, self._node = store, keystore, node
        self._policy, self._fees = policy, fees
        self.wallet = PartyWallet(store, keystore, node)
        self._agreements = Agreements(store, guest, policy=policy)
        self._watcher = Watcher(store, keystore, node, self.wallet, self._agreements, fees=fees)
        self._closer = Closer(store, keystore, node, self._agreements)
        self._known_orders: dict[str, str] | None = None
        self.request_close, self.answer_close = self._closer.request, self._closer.answer
        self.finish_close = self._closer.finish
        self.learn, self.watch = self._watcher.learn, self._watcher.watch
        self.contract_id, self.proof_root = self._agreements.id_of, self._agreements.proof_root
        self.address, self.balance = self.wallet.address, self.wallet.balance

    def outside_coins(self, names: Sequence[str], pay_to: bytes | None = None) -> OutsideCoins | None:
        """Return the coins of an outside wallet that the owner names, None without any. Raises InvalidInputError."""
        if not names and pay_to is None:
            return None
        if not names:
            raise InvalidInputError("--pay-to", "without --coin", "coins of the outside wallet that is to be paid")
        return OutsideCoins(coins=named_coins(self._node, self._store, names), pay_to=pay_to)

    def expected_expiry(self, expiry: Slot) -> Height:
        """Return the height that our node's chain is expected to have at a minute, at ten minutes a block."""
        chain = self._node.chain_info()
        return expected_height(chain.height, expiry - chain.median_time)

    def offer(self, terms: ContractTerms, role: Role, *, order: str = "", outside: OutsideCoins | None = None) -> Offer:
        """Make an offer with coins of our wallet, reserve them, and remember it.

        order: the owner's name for it; the same one again, after a crash, gives the same offer and not a second.
        outside: coins of another wallet instead, which signs them by PSBT.
        """
        if order in self._orders():
            return self._store.load(self._orders()[order]).offer
        self._check_refund(terms)
        number = self._store.take_number()
        offer = setup.propose(terms, role=role, party=self._party(number, terms, role, outside))
        name = self._store.save(PartyContract(number=number, role=role, offer=offer, order=order))
        if order:
            self._orders()[order] = name
        return offer

    def accept(
        self, offer: Offer, announcements: Sequence[Announcement], *, outside: OutsideCoins | None = None
    ) -> Accept:
        """Check an offer against the announcements that we expect, pre-sign every CET, and remember both.

        announcements: of every oracle, as we have them from the oracles themselves; the offer's must be the same ones.
        outside: as in ``offer``. An offer that was accepted before gets the same answer again. Raises
        WrongAnnouncementError.
        """
        if (before := self.accepted(offer)) is not None:
            return before
        role = offer.role.other
        _check_announcements(offer.terms.announcements, announcements)
        self._check_refund(offer.terms)
        self._check_coins(offer.party.coins)
        number = self._store.take_number()
        party = self._party(number, offer.terms, role, outside)
        agreement = self._agreements.new(offer, party, announcements[0].event)
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
        contract, agreement = self._answered(accepted)
        return contract.sign or self._give_signatures(contract, agreement)

    def _answered(self, accepted: Accept) -> tuple[PartyContract, Agreement]:
        """Return our contract with the answer in it, not saved, and its agreement. Raises AlreadySignedError."""
        contract = self._store.load(accepted.offer_id.hex())
        if contract.accept is not None and contract.accept != accepted:
            raise AlreadySignedError(accepted.offer_id.hex())
        if contract.sign is None:
            self._check_coins(accepted.party.coins)
        contract.accept = accepted
        agreement = self._agreements.of(contract)
        contract.buckets = agreement.plan.buckets
        return contract, agreement

    def _give_signatures(
        self, contract: PartyContract, agreement: Agreement, outside: dict[int, tuple[bytes, ...]] | None = None
    ) -> Sign:
        if contract.accept is None:
            raise StepOutOfOrderError(contract.offer.id.hex(), "the other side's accept message")
        self._require_signed(contract, agreement, outside)
        secret = self._keystore.contract_secret(contract.number)
        contract.sign = setup.sign(
            contract.offer, contract.accept, agreement, secret, self.wallet.by_script, outside=outside
        )
        contract.watch = watch.start(self._node, self._node.block_count())
        self._store.save(contract)
        return contract.sign

    def complete(self, signed: Sign) -> Transaction:
        """Check the offering side's signatures, sign our funding inputs last of all, store, and broadcast."""
        contract, agreement = self._countersigned(signed)
        return self._fund(contract, agreement)

    def _countersigned(self, signed: Sign) -> tuple[PartyContract, Agreement]:
        """Return our contract with the offering side's signatures in it, neither checked nor saved."""
        name, contract, agreement = self._agreements.by_id(signed.contract_id)
        if contract.role is contract.offer.role:
            raise StepOutOfOrderError(name, "the other side completes what we signed; `btcfi party watch`")
        contract.sign = signed
        return contract, agreement

    def _fund(
        self, contract: PartyContract, agreement: Agreement, outside: dict[int, tuple[bytes, ...]] | None = None
    ) -> Transaction:
        if contract.sign is None:
            raise StepOutOfOrderError(contract.offer.id.hex(), "the other side's sign message")
        self._require_signed(contract, agreement, outside)
        contract.funding = setup.complete(agreement, contract.sign, self.wallet.by_script, outside=outside)
        contract.watch = watch.start(self._node, self._node.block_count())
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

    def hand_over(self, name: str, message: Accept | Sign) -> HandOver:
        """Return the funding for an outside wallet to sign, once all of the other side was checked, and keep that.

        message: the other side's answer to our offer, or its signatures. After this one answer no other is taken: the
        wallet may have signed. Raises as ``sign`` and ``complete`` do.
        """
        if isinstance(message, Accept):
            contract, agreement = self._answered(message)
            other = contract.role.other.value
            check_presignatures(agreement.plan, other, message.presignatures)
        else:
            contract, agreement = self._countersigned(message)
            setup.check_signed(agreement, message)
        if contract.offer.id.hex() != name:
            raise setup.WrongMessageError("the", f"is of contract {contract.offer.id.hex()[:16]}, not {name[:16]}")
        party = self._own_party(contract)
        made = hand_over(
            name, contract.role, contract.offer.terms, agreement, party=party, scripts=self.wallet.by_script
        )
        self._store.save(contract)
        return made

    def take_back(self, name: str, psbt: str) -> Sign | Transaction:
        """Take an outside wallet's signatures of our inputs, verified, and go on: our sign message, or the funding.

        Raises StepOutOfOrderError before ``hand_over``, and what ``psbt.import_witnesses`` raises.
        """
        contract = self._store.load(name)
        agreement = self._agreements.of(contract)
        given = witnesses(agreement, contract.role, psbt, self.wallet.by_script)
        if contract.role is contract.offer.role:
            return contract.sign or self._give_signatures(contract, agreement, given)
        return self._fund(contract, agreement, given)

    @staticmethod
    def _own_party(contract: PartyContract) -> Party:
        if contract.role is contract.offer.role:
            return contract.offer.party
        if contract.accept is None:
            raise StepOutOfOrderError(contract.offer.id.hex(), "our accept message")
        return contract.accept.party

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

    def _party(self, number: int, terms: ContractTerms, role: Role, outside: OutsideCoins | None) -> Party:
        key = public_key_compressed(self._keystore.contract_secret(number))
        if outside is not None:
            script = outside.pay_to or self.wallet.script
            return Party(key=key, payout_script=script, change_script=script, coins=outside.coins)
        chosen = self.wallet.choose(terms.collateral if role is Role.SELLER else terms.premium, terms.rate)
        return Party(key=key, payout_script=self.wallet.script, change_script=self.wallet.script, coins=chosen)

    def _check_coins(self, coins: Sequence[Coin]) -> None:
        # the other side's coins must exist as it says, confirmed: an amount that is wrong would void our signatures
        ours = self.wallet.by_script
        for coin, found in zip(
            coins, self._node.unspent_many([coin.outpoint for coin in coins], include_pool=False), strict=True
        ):
            if found is None or found.output != coin.output or found.confirmations < 1:
                raise InvalidInputError(f"coin {coin.outpoint}", "is spent, unconfirmed or another", "a confirmed coin")
            if coin.output.script in ours:
                raise setup.CoinNotTheirsError("the other side", str(coin.outpoint))

    def cancel(self, name: str) -> Transaction:
        """Take back an offer whose funding is not on the chain: spend its coins to ourselves, so it never can be."""
        contract = self._store.load(name)
        accepted = contract.accept.party if contract.accept is not None else None
        mine = contract.offer.party if contract.role is contract.offer.role else accepted
        if mine is None or not mine.coins:
            raise StepOutOfOrderError(name, "a contract with coins of ours")
        if contract.accept is not None and self._node.unspent(self._agreements.of(contract).plan.funding) is not None:
            raise StepOutOfOrderError(name, "the funding waits or is confirmed: `btcfi party close` it")
        coins = mine.coins
        if strangers := [str(coin.outpoint) for coin in coins if coin.output.script not in self.wallet.by_script]:
            raise StepOutOfOrderError(name, f"spend {', '.join(strangers)} in the wallet that has its keys")
        rate = choose_rate(self._node.fee_estimate(2), self._fees)
        fee = fee_for(vsize_of(OVERHEAD_WEIGHT + len(coins) * P2TR_INPUT_WEIGHT + P2TR_OUTPUT_WEIGHT), rate)
        value = Sats(sum(coin.value for coin in coins) - fee)
        back = Transaction(
            version=2,
            inputs=tuple(TxIn(outpoint=coin.outpoint) for coin in coins),
            outputs=(TxOut(value=value, script=self.wallet.script),),
        )
        spent = [coin.output for coin in coins]
        for index, coin in enumerate(coins):
            back = back.with_witness(index, [self.wallet.by_script[coin.output.script].sign_input(back, index, spent)])
        self._node.send(back)
        return back


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
