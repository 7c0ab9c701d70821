"""One transaction that funds many contracts: each owner brings one coin, and has one output back.

    inputs    one confirmed coin of each owner
    outputs   the collateral of each contract, then each owner's change, premiums netted

Everybody pays for its own coin and change, a seller for the collateral's output, all in equal parts for what is common.
The txid is known before anybody signs, so each contract's CETs are signed and checked first, as for a funding of its
own. It is void as a whole when one owner does not sign, or spends its coin first: that costs the others time alone. So
version 3 (nobody pins it under a large child), confirmed coins only, few tries, the silent one left out. Pure. Source:
findings on payoffs, section 4; docs/decisions/0073.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from btcfi.bitcoin.fees import (
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    SatsPerKvb,
    dust_limit,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.script import is_known_program, is_p2tr
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts.option import OptionContract
from btcfi.contracts.setup import CoinNotTheirsError
from btcfi.contracts.splice import MAX_VSIZE, CoinMissingError, SeenCoin
from btcfi.errors import InvalidInputError
from btcfi.units import Sats

_LONGER_COUNT: Final = 4 * 2
"""Of outputs: from 253 on it takes three bytes instead of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """A contract that is funded together with others."""

    contract: OptionContract
    premium: Sats
    buyer: str
    seller: str

    def needs(self, owner: str) -> int:
        """Return what an owner puts into it; below 0 what it gets."""
        sells = self.contract.collateral - self.premium if owner == self.seller else 0
        return sells + (self.premium if owner == self.buyer else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """What one owner brings, and where what is left goes."""

    coin: Coin
    change_script: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFunding:
    """The transaction, not signed yet. coins of all = collaterals + changes + fee."""

    transaction: Transaction
    spent: tuple[TxOut, ...]
    owners: tuple[str, ...]
    """Of the inputs, in their order."""
    joinings: tuple[Joining, ...]
    """In the order of the first outputs."""
    rate: SatsPerKvb

    @property
    def fee(self) -> Sats:
        """What it pays."""
        return Sats(sum(one.value for one in self.spent) - sum(one.value for one in self.transaction.outputs))

    def outpoint_of(self, contract: OptionContract) -> OutPoint:
        """Return where a contract's collateral is. Raises InvalidInputError for a contract that is not in it."""
        return self.transaction.outpoint(_place(self.transaction, contract.funding_txout()))


def own_fee(contracts: int, owners: int, rate: SatsPerKvb) -> Sats:
    """Return what one owner pays. contracts: that it sells. owners: of the whole, which share what is common."""
    common = -(-(OVERHEAD_WEIGHT + _LONGER_COUNT) // owners)
    return fee_for(vsize_of(P2TR_INPUT_WEIGHT + P2TR_OUTPUT_WEIGHT * (1 + contracts) + common), rate)


def build_batch_funding(
    joinings: Sequence[Joining], purses: Mapping[str, Purse], *, rate: SatsPerKvb
) -> BatchFunding:  # fmt: skip
    """Return the transaction that funds contracts. Equal arguments in any order give equal bytes.

    purses: of every owner. Raises InvalidInputError, and InsufficientFundsError for a coin that does not cover what its
    owner puts in, its fee and change above dust.
    """
    ordered = tuple(sorted(joinings, key=lambda one: one.contract.funding_txout().script))
    owners = tuple(sorted({owner for one in ordered for owner in (one.buyer, one.seller)}))
    _check(ordered, owners, purses)
    brought = sorted(owners, key=lambda owner: purses[owner].coin.outpoint)
    changes = [
        TxOut(value=_change(owner, ordered, purses[owner], len(owners), rate), script=purses[owner].change_script)
        for owner in brought
    ]
    transaction = Transaction(
        version=TRUC_VERSION,
        inputs=tuple(TxIn(outpoint=purses[owner].coin.outpoint, sequence=SEQUENCE_LOCKTIME) for owner in brought),
        outputs=(*(one.contract.funding_txout() for one in ordered), *changes),
    )
    return BatchFunding(
        transaction=transaction, spent=tuple(purses[owner].coin.output for owner in brought), owners=tuple(brought),
        joinings=ordered, rate=rate,
    )  # fmt: skip


def check_own(
    funding: BatchFunding, owner: str, purse: Purse, joinings: Sequence[Joining], *, rate: SatsPerKvb,
    seen: Mapping[OutPoint, SeenCoin], wallet: Collection[bytes],
) -> int:  # fmt: skip
    """Compare a batch with one's own records, and return the one input that is ours.

    joinings: ours, by our own records. rate: that we have agreed to; whoever proposes a higher one keeps in its own
    change what the others pay too much. seen: of every input what our own node has. wallet: every script of ours: a
    coin of ours that another brings is none of its. Of the others' contracts and changes nothing is checked but that
    the whole can be mined, pays its fee and keeps its txid, on which our CETs hang. Raises InvalidInputError,
    CoinMissingError, CoinNotTheirsError.
    """
    made = funding.transaction
    _check_shape(made, funding.spent)
    if funding.rate != rate:
        raise InvalidInputError("funding.rate", f"{funding.rate} sat/kvB", f"{rate}, as agreed")
    places = [index for index, txin in enumerate(made.inputs) if txin.outpoint == purse.coin.outpoint]
    if len(places) != 1 or funding.spent[places[0]] != purse.coin.output:
        raise InvalidInputError("funding.input", "our coin is not in it, or another", str(purse.coin.outpoint))
    for one in joinings:
        _place(made, one.contract.funding_txout())
    change = TxOut(value=_change(owner, joinings, purse, len(made.inputs), rate), script=purse.change_script)
    if change not in made.outputs:
        raise InvalidInputError("funding.change", "missing", f"{change.value:,} sats, by our own contracts")
    if funding.fee < (needed := fee_for(_vsize(made), rate)):
        raise InvalidInputError("funding.fee", f"{funding.fee:,} sats", f"{needed:,} or more, at the rate agreed")
    for index, (txin, output) in enumerate(zip(made.inputs, funding.spent, strict=True)):
        found = seen.get(txin.outpoint)
        if found is None or found.output != output or not found.is_spendable:
            raise CoinMissingError("an owner", txin.outpoint, "is in no block, is spent, or is another one")
        if index != places[0] and output.script in wallet:
            raise CoinNotTheirsError("another owner", str(txin.outpoint))
    return places[0]


def _check_shape(made: Transaction, spent: Sequence[TxOut]) -> None:
    """Check what makes a transaction one that is mined soon, under the txid that it has before it is signed."""
    if made.version != TRUC_VERSION or made.lock_time or len(spent) != len(made.inputs):
        raise InvalidInputError("funding.version", "another version, a lock time or other inputs", "version 3, none")
    if len({txin.outpoint for txin in made.inputs}) != len(made.inputs):
        raise InvalidInputError("funding.inputs", "one outpoint is named twice", "each outpoint once")
    if any(txin.script_sig or txin.witness or txin.sequence != SEQUENCE_LOCKTIME for txin in made.inputs):
        raise InvalidInputError("funding.inputs", "one has a script, a witness or a sequence of its own", "none")
    # an input of an older type has a script of its signer's choice in the txid: with another one all CETs are void
    if not all(is_p2tr(one.script) for one in spent):
        raise InvalidInputError("funding.inputs", "one is of another type", "P2TR coins")
    if not all(is_known_program(one.script) and one.value >= dust_limit(one.script) for one in made.outputs):
        raise InvalidInputError("funding.outputs", "one is dust, or of another type", "P2TR, P2WPKH or P2WSH")
    if (size := _vsize(made)) > MAX_VSIZE:
        raise InvalidInputError("funding contracts", f"{size:,} vB with all of them", f"at most {MAX_VSIZE:,} vB")


def _vsize(made: Transaction) -> int:
    """Return the size that it has when every input is signed by its key."""
    weight = 4 * len(made.to_bytes(witness=False)) + 2
    return vsize_of(weight + len(made.inputs) * (P2TR_INPUT_WEIGHT - 4 * 41))


def sign_own(funding: BatchFunding, index: int, key: TaprootKey) -> tuple[bytes, ...]:
    """Return the witness of our coin, which ``check_own`` named. Only who holds every CET of its contracts may."""
    return (key.sign_input(funding.transaction, index, funding.spent),)


def _change(owner: str, joinings: Sequence[Joining], purse: Purse, owners: int, rate: SatsPerKvb) -> Sats:
    fee = own_fee(sum(one.seller == owner for one in joinings), owners, rate)
    needed = sum(one.needs(owner) for one in joinings) + fee
    if purse.coin.value - needed < (limit := dust_limit(purse.change_script)):
        raise InsufficientFundsError(available=purse.coin.value, needed=Sats(needed + limit))
    return Sats(purse.coin.value - needed)


def _place(made: Transaction, output: TxOut) -> int:
    places = [index for index, one in enumerate(made.outputs) if one == output]
    if len(places) != 1:
        raise InvalidInputError("funding.collateral", f"stands {len(places)} times", "each of our contracts once")
    return places[0]


def _check(joinings: Sequence[Joining], owners: Sequence[str], purses: Mapping[str, Purse]) -> None:
    if not joinings or len({one.contract.funding_txout().script for one in joinings}) != len(joinings):
        raise InvalidInputError("funding contracts", f"{len(joinings)}, or one stands twice", "each contract once")
    if missing := [owner for owner in owners if owner not in purses]:
        raise InvalidInputError("funding purses", f"none of {missing[0]}", "one of each owner")
    if any(one.buyer == one.seller for one in joinings):
        raise InvalidInputError("funding contracts", "one has one owner", "two owners")
    brought = [purses[owner] for owner in owners]
    if not all(is_p2tr(one.coin.output.script) and is_known_program(one.change_script) for one in brought):
        raise InvalidInputError("funding purses", "a coin or a change of another type", "a P2TR coin, a known change")
    if len({one.coin.outpoint for one in brought}) != len(brought):
        raise InvalidInputError("funding purses", "one coin is named twice", "each coin once")
    weight = OVERHEAD_WEIGHT + len(owners) * P2TR_INPUT_WEIGHT + (len(owners) + len(joinings)) * P2TR_OUTPUT_WEIGHT
    if (size := vsize_of(weight)) > MAX_VSIZE:
        raise InvalidInputError("funding contracts", f"{size:,} vB with all of them", f"at most {MAX_VSIZE:,} vB")
