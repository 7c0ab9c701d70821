"""A party's own free coins leave its wallet: what no contract and no deal needs, to an address of its owner's.

A payment is a file of the party's folder before it is sent, and its coins are nobody else's from then on, as a
contract's are. It signals that it may be replaced; it is replaced by one that pays more, of the same coins and to the
same address, and never by one of other coins: two of them cannot both be mined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from btcfi.adapters.chain.node import Node, TxRejectedError
from btcfi.adapters.chain.pool import asking_rate
from btcfi.adapters.party.store import PartyStore, Payment
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.fees import (
    DUST_P2TR,
    INCREMENTAL_FEE_RATE,
    MAX_FEE_RATE,
    MIN_RELAY_FEE_RATE,
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    FeeRule,
    SatsPerKvb,
    choose_rate,
    dust_limit,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.transaction import SEQUENCE_RBF, Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError, select_coins
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError
from btcfi.units import Sats, Txid, display_txid

SEND_TARGET_BLOCKS: Final = 6
"""Blocks within which it should be mined: nobody races it."""


class PaymentMinedError(ConflictError):
    """A payment that a block holds, or whose coins one has spent: it is not replaced any more."""

    def __init__(self, txid: Txid) -> None:
        super().__init__(f"payment {display_txid(txid)}: a block holds it, or has spent its coins; it stays as it is")
        self.txid = txid


class PromisedError(ConflictError):
    """Coins that takes of ours, still to be signed, ask for."""

    def __init__(self, *, left: int, wanted: int) -> None:
        super().__init__(
            f"{wanted:,} sats are wanted by takes that are still being signed, and {max(left, 0):,} would be left; "
            "send less, or wait until they are funded or over: `btcfi market fills`"
        )
        self.left, self.wanted = left, wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """A payment as its owner is shown it, not signed yet: amount + fee + change = its coins, to the satoshi."""

    script: bytes
    """Of who is paid."""
    coins: tuple[Coin, ...]
    amount: Sats
    fee: Sats
    change: Sats
    """0: none, what would be dust went to the fee."""
    rate: SatsPerKvb
    """That was asked for; the fee is rounded up, and is a little more where there is no change."""
    left: Sats
    """What is free and stays."""

    def transaction(self, change_script: bytes) -> Transaction:
        """Return the payment, not signed."""
        outputs = [TxOut(value=self.amount, script=self.script)]
        outputs += [TxOut(value=self.change, script=change_script)] if self.change else []
        inputs = tuple(TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_RBF) for coin in self.coins)
        return Transaction(version=2, inputs=inputs, outputs=tuple(outputs))


class PaymentSender:
    """One party's payments out of its own wallet."""

    def __init__(self, store: PartyStore, node: Node, wallet: PartyWallet, *, fees: FeeRule) -> None:
        self._store, self._node, self._wallet, self._fees = store, node, wallet, fees

    def send(
        self, script: bytes, amount: Sats | None, *, rate: SatsPerKvb | None = None, promised: int = 0,
        ask: Callable[[Spending], None],
    ) -> Payment:  # fmt: skip
        """Pay an amount, or all that is free, to an output script; return the payment that was sent.

        amount: None: all. rate: None: what the node asks for, within the fee rule. promised: satoshis that stay, for
        takes that name no coin yet. ask: sees what is paid, and refuses by raising; then nothing is signed. Raises
        InsufficientFundsError, PromisedError, InvalidInputError, TxRejectedError; then nothing was sent, and the coins
        are free.
        """
        if script in self._wallet.by_script:
            raise InvalidInputError("ADDRESS", "is this party's own", "an address of another wallet")
        asked = self._rate(rate)
        shown = self._plan(script, amount, asked, promised)
        ask(shown)
        with self._store.alone():  # the owner may have read for an hour: a contract may have named these coins
            free = {coin.outpoint for coin in self._wallet.free()}
            if any(coin.outpoint not in free for coin in shown.coins):
                raise CoinsGoneError
            return self._pay(shown, replaces=())

    def bump(self, txid: Txid, *, rate: SatsPerKvb | None = None, ask: Callable[[Spending], None]) -> Payment:
        """Replace a payment that no block holds by one of the same coins that pays more; return that one.

        Who is paid gets the same, where the change can bear the fee; of a payment without enough change it gets less.
        Raises NotFoundError for no payment of ours, PaymentMinedError, InvalidInputError, TxRejectedError.
        """
        last = self._last(txid)
        shown = self._dearer(last, rate)
        ask(shown)
        with self._store.alone():
            if self._last(txid).transaction.txid != last.transaction.txid:
                raise ConflictingPaymentError(txid)
            self._coins_of(last)
            return self._pay(shown, replaces=(*last.replaces, last.transaction.txid))

    def again(self, txid: Txid) -> Payment:
        """Send a payment again as it is: a node may have forgotten it. Raises as ``bump``."""
        last = self._last(txid)
        self._coins_of(last)
        self._node.send(last.transaction)
        return last

    # ---- what is paid

    def _plan(self, script: bytes, amount: Sats | None, rate: SatsPerKvb, promised: int) -> Spending:
        coins = self._wallet.free()
        available = sum(coin.value for coin in coins)
        output_weight = 4 * len(TxOut(value=Sats(0), script=script).to_bytes())
        if amount is None:
            fee = fee_for(vsize_of(OVERHEAD_WEIGHT + output_weight + len(coins) * P2TR_INPUT_WEIGHT), rate)
            if promised:
                raise PromisedError(left=0, wanted=promised)
            if available - fee < dust_limit(script):
                raise InsufficientFundsError(available=Sats(available), needed=Sats(fee + dust_limit(script)))
            return Spending(
                script=script, coins=tuple(coins), amount=Sats(available - fee), fee=fee, change=Sats(0), rate=rate,
                left=Sats(0),
            )  # fmt: skip
        if amount < dust_limit(script):
            raise InvalidInputError("AMOUNT", f"{amount:,} sat", f"at least {dust_limit(script)}: less is not relayed")
        chosen = select_coins(coins, amount=amount, rate=rate, other_weight=output_weight)
        left = available - amount - chosen.fee
        if left < promised:
            raise PromisedError(left=left, wanted=promised)
        return Spending(
            script=script, coins=chosen.coins, amount=amount, fee=chosen.fee, change=chosen.change, rate=rate,
            left=Sats(left),
        )  # fmt: skip

    def _dearer(self, last: Payment, rate: SatsPerKvb | None) -> Spending:
        coins = self._coins_of(last)
        paid, before = last.transaction.outputs[0], last.transaction
        vsize = before.vsize
        least = Sats(last.fee + fee_for(vsize, INCREMENTAL_FEE_RATE))
        asked = self._rate(rate)
        fee = Sats(max(least, fee_for(vsize, asked)))
        if rate is not None and fee_for(vsize, rate) < least:
            problem = f"{rate:,} sat/kvB is {fee_for(vsize, rate):,} sat"
            raise InvalidInputError("--rate", problem, f"at least {least:,} sat, to replace {last.fee:,}")
        value = sum(coin.value for coin in coins)
        change = value - paid.value - fee
        amount = paid.value
        if change < DUST_P2TR and len(before.outputs) == 1:  # there was none: who is paid bears it
            amount, change = Sats(value - fee), 0
        elif change < DUST_P2TR:  # what is left of it is the miner's
            amount, change = Sats(min(amount, value - fee)), 0
        if amount < dust_limit(paid.script):
            raise InsufficientFundsError(available=Sats(value), needed=Sats(fee + dust_limit(paid.script)))
        return Spending(
            script=paid.script, coins=coins, amount=amount, fee=Sats(value - amount - change), change=Sats(change),
            rate=asked, left=Sats(sum(coin.value for coin in self._wallet.free())),
        )  # fmt: skip

    def _rate(self, given: SatsPerKvb | None) -> SatsPerKvb:
        if given is None:
            return choose_rate(asking_rate(self._node, SEND_TARGET_BLOCKS), self._fees)
        if not MIN_RELAY_FEE_RATE <= given <= min(self._fees.deadline_cap, MAX_FEE_RATE):
            bounds = f"{MIN_RELAY_FEE_RATE:,} to {self._fees.deadline_cap:,} sat/kvB"
            raise InvalidInputError("--rate", f"{given:,}", bounds)
        return given

    # ---- what was paid

    def _last(self, txid: Txid) -> Payment:
        """Return the version that stands of a payment, by its own txid or one that it replaced."""
        found = [one for one in self._store.payments() if txid in (one.transaction.txid, *one.replaces)]
        if not found:
            raise NotFoundError("payment", display_txid(txid), "`btcfi party payments` lists ours")
        return max(found, key=lambda one: len(one.replaces))

    def _coins_of(self, payment: Payment) -> tuple[Coin, ...]:
        """Return the coins of a payment, once no block has spent any. Raises PaymentMinedError."""
        known = self._wallet.scan().coins
        points = [txin.outpoint for txin in payment.transaction.inputs]
        if any(point not in known for point in points):
            raise PaymentMinedError(payment.transaction.txid)
        return tuple(known[point][0] for point in points)

    def _pay(self, spending: Spending, *, replaces: Sequence[Txid]) -> Payment:
        made = spending.transaction(self._wallet.script)
        keys, spent = self._wallet.by_script, [coin.output for coin in spending.coins]
        for index, output in enumerate(spent):
            made = made.with_witness(index, [keys[output.script].sign_input(made, index, spent)])
        payment = Payment(transaction=made, fee=spending.fee, replaces=tuple(replaces))
        self._store.save_payment(payment)  # first: whatever happens from here on, no contract names its coins
        try:
            self._node.send(made)
        except TxRejectedError:
            with suppress(NotFoundError):  # a node that has it all the same
                self._node.pool_entry(made.txid)
                return payment
            self._store.drop_payment(payment)
            raise
        return payment


class CoinsGoneError(ConflictError):
    """Coins that were free when their owner was shown them."""

    def __init__(self) -> None:
        super().__init__("a contract or another payment has named these coins meanwhile; nothing was signed, ask again")


class ConflictingPaymentError(ConflictError):
    """Another command has replaced a payment meanwhile."""

    def __init__(self, txid: Txid) -> None:
        super().__init__(f"payment {display_txid(txid)}: another command has replaced it meanwhile; ask again")
        self.txid = txid
