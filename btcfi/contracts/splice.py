"""One transaction that spends a contract's collateral into the next contract's: who brings what, and who gets what.

    inputs    the old collateral (key path), then the confirmed coins of each owner
    outputs   the new collateral, then at most one output for each owner

A transfer, a roll and a change of size are one transaction with other amounts. Each owner has a *due*: what the old
contract owes it less what the new one takes of it, in satoshis; all dues together are what the collateral shrinks by.
So nothing is made or lost but the fee. One owner pays for what is common, each for its own coins and what comes back of
them; nobody else's due is touched. Whoever brings a coin can take its word back by spending it, until a block has the
transaction. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from btcfi.bitcoin import taproot
from btcfi.bitcoin.fees import (
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    P2WPKH_INPUT_WEIGHT,
    SatsPerKvb,
    dust_limit,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.script import is_known_program, is_p2tr
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.bitcoin.witness import has_checkable_witness
from btcfi.contracts.option import FUNDING_OUTPUT, OptionContract
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.units import Hash32, Sats

MAX_VSIZE: Final = 10_000
"""Of a version 3 transaction. Source: BIP431."""


class Owner(Enum):
    """Whose money it is."""

    SELLER = "seller"
    """Of both contracts."""
    HOLDER = "holder"
    """The old contract's buyer."""
    NEWCOMER = "newcomer"
    """The new contract's buyer, where the holder leaves."""


class SeenCoin(Protocol):
    """What a node says of an output that nothing spends, as ``btcfi.adapters.chain.node`` has it."""

    @property
    def output(self) -> TxOut:
        """Amount and script."""
        ...

    @property
    def is_spendable(self) -> bool:
        """Whether a block holds it, and the next one may spend it: a young coinbase may not be spent yet."""
        ...


class CoinMissingError(BtcfiError):
    """A coin that an owner names is not there, not to be spent yet, or another than it says."""

    def __init__(self, owner: str, outpoint: OutPoint, problem: str) -> None:
        super().__init__(f"{owner}'s coin {outpoint} {problem}; nothing was signed after it")
        self.owner, self.outpoint, self.problem = owner, outpoint, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Stake:
    """One owner's part of it."""

    due: int
    """Satoshis, fees apart: above 0 what it gets, below 0 what it brings in coins."""
    script: bytes
    """Where its output pays to: its due, and what is left of its coins."""
    coins: tuple[Coin, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Splice:
    """The transaction, not signed yet, and each owner's account of it.

    Of every owner paid + fees = due + its coins, and of all together what goes in is what comes out plus the fee.
    """

    transaction: Transaction
    spent: tuple[TxOut, ...]
    """What its inputs spend; the first is the old collateral."""
    stakes: Mapping[Owner, Stake]
    payer: Owner
    rate: SatsPerKvb
    inputs: Mapping[Owner, range]
    """The indices of each owner's coins."""
    paid: Mapping[Owner, Sats]
    """Each owner's output; 0 when there is none."""
    fees: Mapping[Owner, Sats]

    @property
    def fee(self) -> Sats:
        """What all owners together pay for the transaction."""
        return Sats(sum(self.fees.values()))

    @property
    def outpoint(self) -> OutPoint:
        """The new contract's collateral."""
        return self.transaction.outpoint(FUNDING_OUTPUT)

    def net(self, owner: Owner) -> int:
        """Return what an owner has more on the chain after it than before, fees counted; below 0 it has less."""
        stake = self.stakes.get(owner)
        return self.paid[owner] - sum(coin.value for coin in stake.coins) if stake else 0

    def sighash(self) -> Hash32:
        """Return what the old contract's two keys sign together."""
        return taproot.sighash(self.transaction, 0, self.spent)

    def owner_of(self, index: int) -> Owner | None:
        """Return whose coin an input spends; None for the old collateral."""
        return next((owner for owner, own in self.inputs.items() if index in own), None)


def build_splice(
    old: Coin,
    new: OptionContract,
    *,
    stakes: Mapping[Owner, Stake],
    payer: Owner,
    rate: SatsPerKvb,
) -> Splice:
    """Return the transaction that spends ``old``, a contract's collateral, into ``new``'s.

    stakes: of every owner that gets or brings something. payer: of the common parts' fee. Equal arguments give equal
    bytes. What would be left of an owner that pays a fee, and is dust, goes to the fee; a due that nobody takes a fee
    from is paid to the satoshi, or refused.

    Raises InvalidInputError, and InsufficientFundsError for coins that do not cover what their owner brings.
    """
    owners = [owner for owner in Owner if owner in stakes]
    _check(old, new, stakes, payer)
    common = OVERHEAD_WEIGHT + P2TR_INPUT_WEIGHT + _weight(new.funding_txout())
    common += sum(_output_weight(stakes[one]) for one in owners if one is not payer and _is_bare(stakes[one]))
    paid = {owner: _paid(owner, stakes[owner], common=common if owner is payer else 0, rate=rate, payer=payer)
            for owner in owners}  # fmt: skip
    coins = [coin for owner in owners for coin in stakes[owner].coins]
    outputs = [TxOut(value=paid[owner], script=stakes[owner].script) for owner in owners if paid[owner]]
    transaction = Transaction(
        version=TRUC_VERSION,
        inputs=tuple(TxIn(outpoint=one.outpoint, sequence=SEQUENCE_LOCKTIME) for one in (old, *coins)),
        outputs=(new.funding_txout(), *outputs),
    )
    _check_size(transaction, coins)
    return Splice(
        transaction=transaction,
        spent=(old.output, *(coin.output for coin in coins)),
        stakes={owner: stakes[owner] for owner in owners},
        payer=payer,
        rate=rate,
        inputs=_places(stakes, owners),
        paid=paid,
        fees={owner: Sats(_worth(stakes[owner]) - paid[owner]) for owner in owners},
    )


def coin_fee(stake: Stake, rate: SatsPerKvb) -> Sats:
    """Return what an owner that is not the payer pays: for its coins and its output, nothing where it brings none."""
    if _is_bare(stake):
        return Sats(0)
    return fee_for(vsize_of(sum(_input_weight(coin) for coin in stake.coins) + _output_weight(stake)), rate)


def most_fee(payer: Stake, others: Sequence[Stake], rate: SatsPerKvb) -> Sats:
    """Return the most that the payer pays: what is common, what is its own, and change that would be dust."""
    common = OVERHEAD_WEIGHT + P2TR_INPUT_WEIGHT + P2TR_OUTPUT_WEIGHT
    common += sum(_output_weight(one) for one in others if _is_bare(one))
    weight = common + sum(_input_weight(coin) for coin in payer.coins) + _output_weight(payer)
    return Sats(fee_for(vsize_of(weight), rate) + dust_limit(payer.script))


def check_coins(splice: Splice, seen: Mapping[OutPoint, SeenCoin]) -> None:
    """Check every input against what one's own node has. Raises CoinMissingError naming the owner.

    seen: of each outpoint that the node has unspent, its pool included. None may wait itself: whoever made it could
    replace it. Nor may one be a young coinbase: what is signed could be sent only after everybody's time is over.
    """
    for index, (txin, output) in enumerate(zip(splice.transaction.inputs, splice.spent, strict=True)):
        owner = splice.owner_of(index)
        name = owner.value if owner else "the contract"
        found = seen.get(txin.outpoint)
        if found is None:
            raise CoinMissingError(name, txin.outpoint, "is spent, or was never there")
        if found.output != output:
            raise CoinMissingError(name, txin.outpoint, "is another amount or script than was said")
        if not found.is_spendable:
            raise CoinMissingError(name, txin.outpoint, "is in no block yet, or a young coinbase")


def _check(old: Coin, new: OptionContract, stakes: Mapping[Owner, Stake], payer: Owner) -> None:
    if payer not in stakes:
        raise InvalidInputError("payer", f"the {payer.value}, who has no part in it", "one of its owners")
    shrinks = old.value - new.collateral
    if (total := sum(stake.due for stake in stakes.values())) != shrinks:
        raise InvalidInputError("dues", f"{total:,} sats in all", f"{shrinks:,}, by which the collateral shrinks")
    coins = [coin for stake in stakes.values() for coin in stake.coins]
    if not all(is_known_program(stake.script) for stake in stakes.values()):
        raise InvalidInputError("splice outputs", "not all of a known witness program", "P2TR, P2WPKH or P2WSH")
    if not all(has_checkable_witness(coin.output.script) for coin in coins):
        raise InvalidInputError("splice inputs", "one is of another type", "P2TR or P2WPKH coins")
    outpoints = {old.outpoint, *(coin.outpoint for coin in coins)}
    if len(outpoints) != 1 + len(coins):
        raise InvalidInputError("splice inputs", "one outpoint is named twice", "each outpoint once")


def _check_size(transaction: Transaction, coins: list[Coin]) -> None:
    weight = 4 * len(transaction.to_bytes(witness=False)) + 2 + (P2TR_INPUT_WEIGHT - 4 * 41)
    weight += sum(_input_weight(coin) - 4 * 41 for coin in coins)
    if (vsize := vsize_of(weight)) > MAX_VSIZE:
        raise InvalidInputError("splice inputs", f"{vsize:,} vB with all of them", f"at most {MAX_VSIZE:,} vB")


def _paid(owner: Owner, stake: Stake, *, common: int, rate: SatsPerKvb, payer: Owner) -> Sats:
    """Return an owner's output: its due to the satoshi where it pays no fee, else what its fee leaves."""
    limit = dust_limit(stake.script)
    if _is_bare(stake) and owner is not payer:
        if stake.due < 0:
            raise InsufficientFundsError(available=Sats(0), needed=Sats(-stake.due))
        if 0 < stake.due < limit:
            raise InvalidInputError(f"{owner.value}'s due", f"{stake.due} sats", f"0, or at least {limit} (dust)")
        return Sats(stake.due)
    weight, worth = common + sum(_input_weight(coin) for coin in stake.coins), _worth(stake)
    bare = fee_for(vsize_of(weight), rate)
    left = worth - fee_for(vsize_of(weight + _output_weight(stake)), rate)
    if left >= limit:
        return Sats(left)
    if stake.due > 0 and owner is not payer:  # its fee alone may come out of it: not the whole of what it is owed
        raise InvalidInputError(f"{owner.value}'s due", f"{left} sats after its fee", f"at least {limit} (dust)")
    if worth < bare:
        available = sum(coin.value for coin in stake.coins)
        raise InsufficientFundsError(available=Sats(available), needed=Sats(available + bare - worth))
    return Sats(0)


def _places(stakes: Mapping[Owner, Stake], owners: list[Owner]) -> dict[Owner, range]:
    places, at = {}, 1  # the old collateral is the first
    for owner in owners:
        places[owner] = range(at, at := at + len(stakes[owner].coins))
    return places


def _is_bare(stake: Stake) -> bool:
    return not stake.coins


def _worth(stake: Stake) -> int:
    return stake.due + sum(coin.value for coin in stake.coins)


def _input_weight(coin: Coin) -> int:
    return P2TR_INPUT_WEIGHT if is_p2tr(coin.output.script) else P2WPKH_INPUT_WEIGHT


def _output_weight(stake: Stake) -> int:
    # of a bare owner without a due there is no output
    return _weight(TxOut(value=Sats(0), script=stake.script)) if stake.due or stake.coins else 0


def _weight(output: TxOut) -> int:
    return 4 * len(output.to_bytes())
