"""A funding that is not confirmed: either side pays more for it, or takes its own coins home.

Both spend the owner's own money to the owner's own wallet, so neither asks the other side for anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from btcfi.adapters.chain.node import Node, PoolEntry
from btcfi.adapters.chain.pool import asking_rate, waiting_on
from btcfi.adapters.party.agreements import Agreements, StepOutOfOrderError, WithdrawnError
from btcfi.adapters.party.store import PartyStore
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.fees import (
    DUST_P2TR,
    INCREMENTAL_FEE_RATE,
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    FeeRule,
    SatsPerKvb,
    choose_rate,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts.option import FUNDING_OUTPUT
from btcfi.contracts.settling import Waiting
from btcfi.errors import ConflictError, NotFoundError
from btcfi.units import Sats

HOME_OUTBIDS_VBYTES: Final = 1_000
"""What a cancel replaces at the most, at the fee rule's cap: a funding and both sides' bumps, three times over."""

FUNDING_TARGET_BLOCKS: Final = 2
"""Blocks within which it should be mined."""


class CannotBumpError(ConflictError):
    """A funding for which this side cannot pay more, with what it can do instead."""

    def __init__(self, contract: str, problem: str, instead: str) -> None:
        super().__init__(f"contract {contract[:16]}: {problem}; {instead}")
        self.contract, self.problem, self.instead = contract, problem, instead


class Funder:
    """One party's hand on the fundings of its contracts while no block holds them."""

    def __init__(
        self, store: PartyStore, node: Node, wallet: PartyWallet, agreements: Agreements, *, fees: FeeRule
    ) -> None:
        self._store, self._node, self._wallet = store, node, wallet
        self._agreements, self._fees = agreements, fees

    def bump(self, name: str) -> Transaction:
        """Pay more for a funding that waits in the pool, by a child on our own output of it; return the child.

        The two pay at least twice what the funding has paid so far, within the fee rule. Called again, the child is
        replaced. Raises CannotBumpError, StepOutOfOrderError, InsufficientFundsError, TxRejectedError.
        """
        contract = self._store.load(name)
        if contract.cancelled is not None:
            raise CannotBumpError(name, "it was cancelled", "`btcfi party cancel` again pays more for that")
        return self.pay_more(name, self._agreements.of(contract).funding.transaction)

    def pay_more(self, name: str, funding: Transaction) -> Transaction:
        """Pay more for a funding of this name that waits in the pool, as ``bump`` does for a contract's."""
        entry = self._waiting_funding(name, funding)
        ours = self._largest_of_ours(name, funding)
        waiting = waiting_on(self._node, [ours.outpoint]).get(ours.outpoint)
        rate = self._dearer(name, funding, entry.fee, waiting)
        conflicts = [] if waiting is None else [waiting]

        def fee(vsize: int) -> Sats:
            return Sats(max(fee_for(funding.vsize + vsize, rate) - entry.fee, _outbid(conflicts, vsize)))

        child = self._home([ours], fee)
        self._node.send(child)
        return child

    def cancel(self, name: str) -> Transaction:
        """Take back a contract that no block has funded: spend our coins to ourselves, so that it never can be.

        A funding that waits in the pool is replaced, unless what the other side has put on it makes that dearer than
        our fee rule and half of the coins; one that the other side could still send cannot replace the cancel.
        Raises WithdrawnError where the coins are free already, and may be another contract's; StepOutOfOrderError,
        CannotBumpError, InsufficientFundsError, TxRejectedError, also where the node replaces nothing that does not
        signal it (-mempoolfullrbf=0).
        """
        with self._store.alone():
            return self._cancel(name)

    def _cancel(self, name: str) -> Transaction:
        contract = self._store.load(name)
        if contract.withdrawn:
            raise WithdrawnError(name)
        coins = contract.named
        if not coins:
            raise StepOutOfOrderError(name, "a contract with coins of ours")
        if strangers := [str(coin.outpoint) for coin in coins if coin.output.script not in self._wallet.by_script]:
            raise StepOutOfOrderError(name, f"spend {', '.join(strangers)} in the outside wallet that has its keys")
        if None in self._node.unspent_many([coin.outpoint for coin in coins], include_pool=False):
            before = contract.cancelled
            if before is not None and self._node.unspent(before.outpoint(0), include_pool=False) is not None:
                return before  # a block holds it: there is nothing left to take back
            raise StepOutOfOrderError(name, "a block holds its funding, or spent its coins: `btcfi party close` it")
        funding = None if contract.sign is None else self._agreements.of(contract).funding
        unsent = None if funding is None else (funding.transaction, funding.fee)
        contract.cancelled = self._homeward(name, coins, unsent)
        self._store.save(contract)  # first: from here on we never send the funding again
        self._node.send(contract.cancelled)
        return contract.cancelled

    def home(self, name: str, coins: Sequence[Coin], unsent: Transaction, fee: Sats) -> Transaction:
        """Return, signed and not sent, what takes coins home of which a transaction is signed that pays this fee.

        name: of that one. Whoever has all of it may send it yet: what pays less would not replace it. Raises
        CannotBumpError, InsufficientFundsError.
        """
        with self._store.alone():
            return self._homeward(name, coins, (unsent, fee))

    def _homeward(
        self, name: str, coins: Sequence[Coin], unsent: tuple[Transaction, Sats] | None
    ) -> Transaction:  # fmt: skip
        outpoints = [coin.outpoint for coin in coins]
        conflicts = list({one.txid: one for one in waiting_on(self._node, outpoints).values()}.values())
        if unsent is not None and unsent[0].txid not in {one.txid for one in conflicts}:
            # the other side may have all signatures, and send it yet: what pays less would be replaced by it
            conflicts.append(Waiting.alone(unsent[0].txid, fee=unsent[1], vsize=unsent[0].vsize))
        rate = choose_rate(asking_rate(self._node, FUNDING_TARGET_BLOCKS), self._fees)

        def fee(vsize: int) -> Sats:
            return Sats(max(fee_for(vsize, rate), _outbid(conflicts, vsize)))

        worth = max(sum(coin.value for coin in coins) // 2, 0 if unsent is None else 3 * unsent[1])
        most = min(fee_for(HOME_OUTBIDS_VBYTES, self._fees.cap), worth)
        if (dear := _outbid(conflicts, _home_vsize(len(coins)))) > most:
            problem = f"to replace its funding and what waits on it would cost {dear:,} sats, and {most:,} is the most"
            raise CannotBumpError(name, problem, "wait for a block, or until the pool has dropped it")
        return self._home(coins, fee)

    def _waiting_funding(self, name: str, funding: Transaction) -> PoolEntry:
        try:
            return self._node.pool_entry(funding.txid)
        except NotFoundError as e:
            if self._node.unspent(funding.outpoint(FUNDING_OUTPUT), include_pool=False) is not None:
                raise CannotBumpError(name, "a block holds the funding", "there is nothing left to pay for") from e
            raise CannotBumpError(name, "the funding is not in the pool", "`btcfi party watch` sends it") from e

    def _dearer(self, name: str, funding: Transaction, fee: Sats, child: Waiting | None) -> SatsPerKvb:
        """Return the rate of a bump: what the node asks for, and twice what the funding and its child pay."""
        paid, size = (fee, funding.vsize) if child is None else (fee + child.fee, funding.vsize + child.vsize)
        before = paid * 1000 // size
        asked = choose_rate(asking_rate(self._node, FUNDING_TARGET_BLOCKS), self._fees)
        rate = SatsPerKvb(min(max(asked, 2 * before), self._fees.cap))
        if rate <= before:
            raise CannotBumpError(
                name, f"the funding pays {before:,} sat/kvB, no less than our cap", "wait for a block"
            )
        return rate

    def _largest_of_ours(self, name: str, funding: Transaction) -> Coin:
        """Return our largest output of a funding: our change, or the seller's premium."""
        keys = [key.script for key in self._wallet.keys]
        ours = [
            Coin(outpoint=funding.outpoint(index), output=output, key_index=keys.index(output.script))
            for index, output in enumerate(funding.outputs)
            if output.script in keys
        ]
        if not ours:
            problem = "the funding pays nothing to our wallet that a child could spend"
            raise CannotBumpError(name, problem, f"ask the other side to bump it, or `btcfi party cancel {name}`")
        return max(ours, key=lambda coin: coin.value)

    def _home(self, coins: Sequence[Coin], fee: Callable[[int], Sats]) -> Transaction:
        """Return the spend of coins to our wallet, signed; one more coin of ours helps where they are too small.

        fee: of a virtual size. Raises InsufficientFundsError.
        """
        value = sum(coin.value for coin in coins)
        if value >= fee(_home_vsize(len(coins))) + DUST_P2TR:
            return self._signed(coins, fee(_home_vsize(len(coins))))
        more = fee(_home_vsize(len(coins) + 1))
        helper = self._wallet.coin_above(Sats(more + DUST_P2TR - value))
        if helper is None:
            raise InsufficientFundsError(available=Sats(value), needed=Sats(more + DUST_P2TR))
        self._wallet.reserve(helper)
        return self._signed([*coins, helper], more)

    def _signed(self, coins: Sequence[Coin], fee: Sats) -> Transaction:
        value = Sats(sum(coin.value for coin in coins) - fee)
        home = Transaction(
            version=2,
            inputs=tuple(TxIn(outpoint=coin.outpoint) for coin in coins),
            outputs=(TxOut(value=value, script=self._wallet.script),),
        )
        spent = [coin.output for coin in coins]
        keys = self._wallet.by_script
        for index, output in enumerate(spent):
            home = home.with_witness(index, [keys[output.script].sign_input(home, index, spent)])
        return home


def _home_vsize(inputs: int) -> int:
    return vsize_of(OVERHEAD_WEIGHT + inputs * P2TR_INPUT_WEIGHT + P2TR_OUTPUT_WEIGHT)


def _outbid(conflicts: Sequence[Waiting], vsize: int) -> Sats:
    """Return the least fee at which ``vsize`` replaces all of these together."""
    if not conflicts:
        return Sats(0)
    relayed = sum(one.total_fee for one in conflicts) + fee_for(vsize, INCREMENTAL_FEE_RATE)
    return Sats(max(relayed, *(one.outbid(vsize) for one in conflicts)))
