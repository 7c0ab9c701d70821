"""Watching the chain: which outpoints were spent, by what, how deep; and taking it back when blocks are undone.

Outpoints are watched, not txids: a rival spends the outpoint, whatever its txid. Blocks are walked one by one from
the last known (height, hash); when that hash is no longer in the chain, blocks are unwound to the common ancestor.
Pure: the chain is an argument (``ChainView``, which ``btcfi.adapters.chain.node.Node`` satisfies), the state a value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.errors import RetryableError
from btcfi.units import Hash32, Height, Txid

FINAL_DEPTH: Final = 6
"""Confirmations after which a spend counts as final: what LDK, OpenTimestamps and rust-dlc use."""

REMEMBERED_BLOCKS: Final = 144
"""How many known blocks are kept: the deepest reorganisation that is followed, about a day."""


class ChainMovedError(RetryableError):
    """The chain changed while it was read: a block does not build on the one before it. Nothing of it is used."""

    def __init__(self, at: Height) -> None:
        super().__init__(f"the chain changed at block {at} while it was read; it is read again")
        self.at = at


class BlockView(Protocol):
    """A block, as much of it as is looked at."""

    @property
    def previous(self) -> Hash32:
        """The hash of the block that it builds on."""
        ...

    @property
    def transactions(self) -> tuple[Transaction, ...]:
        """Its transactions, in order."""
        ...


class ChainView(Protocol):
    """Read access to a chain."""

    def block_count(self) -> Height:
        """Return the height of the tip."""
        ...

    def block_hash(self, at: Height, /) -> Hash32:
        """Return the hash of the active chain's block at a height; raise when there is none."""
        ...

    def block(self, name: Hash32, /) -> BlockView:
        """Return a block."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """A watched outpoint was spent in a block of the active chain."""

    outpoint: OutPoint
    transaction: Transaction
    height: Height
    block: Hash32


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A watched transaction's output appeared in a block of the active chain."""

    outpoint: OutPoint
    height: Height
    block: Hash32


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchState:
    """What is known of the chain: the last blocks, and what happened to the watched outpoints in them."""

    blocks: tuple[tuple[Height, Hash32], ...]
    """Consecutive, oldest first; the last is where the walk continues."""
    spends: tuple[Spend, ...] = ()
    creations: tuple[Creation, ...] = ()

    @property
    def tip(self) -> Height:
        """The last block walked."""
        return self.blocks[-1][0]

    def spend_of(self, outpoint: OutPoint) -> Spend | None:
        """Return what spent an outpoint in the active chain, if anything."""
        return next((spend for spend in self.spends if spend.outpoint == outpoint), None)

    def created(self, outpoint: OutPoint) -> Creation | None:
        """Return where an outpoint was created in the active chain, if it was."""
        return next((creation for creation in self.creations if creation.outpoint == outpoint), None)

    def depth(self, at: Height) -> int:
        """Return the confirmations of something at a height: 1 in the tip."""
        return self.tip - at + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one walk found, in the order in which it happened."""

    state: WatchState
    undone: tuple[Spend, ...]
    """Spends whose blocks left the chain."""
    undone_creations: tuple[Creation, ...]
    found: tuple[Spend, ...]
    """Spends in new blocks."""
    blocks_undone: int
    blocks_new: int


def start(view: ChainView, at: Height) -> WatchState:
    """Return a state that knows the block at a height and walks on from there; take the block before the funding."""
    return WatchState(blocks=((at, view.block_hash(at)),))


def advance(state: WatchState, view: ChainView, watched: Collection[OutPoint], *, limit: int = 1_000) -> Step:
    """Unwind what left the chain and walk at most ``limit`` new blocks. The same chain gives the same state.

    Spends and creations of ``watched`` are recorded. An interrupted walk loses nothing: the old state still stands.
    When no remembered block is in the chain any more, the walk goes back REMEMBERED_BLOCKS before the oldest of them,
    and what was found below that stays only where its block is still there. Whatever the view raises goes through;
    ChainMovedError when its blocks do not build on each other, for what stood in between would never be looked at.
    """
    blocks = list(state.blocks)
    top = view.block_count()
    evidence: tuple[Spend | Creation, ...] = (*state.spends, *state.creations)
    while blocks and (blocks[-1][0] > top or view.block_hash(blocks[-1][0]) != blocks[-1][1]):
        blocks.pop()
    if blocks:
        fork = blocks[-1][0]
        deeper: Collection[Hash32] = {one.block for one in evidence if one.height <= fork}
    else:
        fork = Height(max(0, min(state.blocks[0][0], top) - REMEMBERED_BLOCKS))
        blocks = [(fork, view.block_hash(fork))]
        found_at = {(one.height, one.block) for one in evidence if one.height <= fork}
        deeper = {name for at, name in found_at if view.block_hash(at) == name}
    undone = tuple(spend for spend in state.spends if spend.block not in deeper)
    undone_creations = tuple(creation for creation in state.creations if creation.block not in deeper)
    spends = [spend for spend in state.spends if spend.block in deeper]
    creations = [creation for creation in state.creations if creation.block in deeper]
    wanted, txids = set(watched), {outpoint.txid for outpoint in watched}
    found: list[Spend] = []
    last = min(top, fork + limit)
    for number in range(fork + 1, last + 1):
        at = Height(number)
        name = view.block_hash(at)
        block = view.block(name)
        if block.previous != blocks[-1][1]:
            raise ChainMovedError(at)
        for transaction in block.transactions:
            found.extend(
                Spend(outpoint=txin.outpoint, transaction=transaction, height=at, block=name)
                for txin in transaction.inputs
                if txin.outpoint in wanted
            )
            if transaction.txid in txids:
                creations += [
                    Creation(outpoint=outpoint, height=at, block=name)
                    for outpoint in wanted
                    if outpoint.txid == transaction.txid
                ]
        blocks.append((at, name))
    new = WatchState(blocks=tuple(blocks[-REMEMBERED_BLOCKS:]), spends=(*spends, *found), creations=tuple(creations))
    return Step(
        state=new,
        undone=undone,
        undone_creations=undone_creations,
        found=tuple(found),
        blocks_undone=len(state.blocks) - sum(1 for at, _ in state.blocks if at <= fork),
        blocks_new=last - fork,
    )


class SpendStatus(Enum):
    """Where one transaction of ours stands, by the outpoint that it spends."""

    SIGNED = "signed"
    """Known to us, not to the node."""
    IN_MEMPOOL = "in_mempool"
    CONFIRMED = "confirmed"
    FINAL = "final"
    CONFLICTED = "conflicted"
    """Another transaction spends the outpoint in the active chain; a reorganisation can still take that back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The standing of one of our transactions."""

    status: SpendStatus
    confirmations: int = 0
    by: Txid | None = None
    """Who spends the outpoint instead, when conflicted."""


def standing(
    state: WatchState,
    outpoint: OutPoint,
    ours: Txid | Iterable[Txid],
    *,
    in_pool: bool = False,
    final_depth: int = FINAL_DEPTH,
) -> Standing:
    """Return where our transaction (or any of its equivalents, such as a child's replacements) stands."""
    txids = {ours} if isinstance(ours, bytes) else set(ours)
    spend = state.spend_of(outpoint)
    if spend is None:
        return Standing(status=SpendStatus.IN_MEMPOOL if in_pool else SpendStatus.SIGNED)
    depth = state.depth(spend.height)
    if spend.transaction.txid not in txids:
        return Standing(status=SpendStatus.CONFLICTED, confirmations=depth, by=spend.transaction.txid)
    final = depth >= final_depth
    return Standing(status=SpendStatus.FINAL if final else SpendStatus.CONFIRMED, confirmations=depth)


class ContractStatus(Enum):
    """Where a contract stands on the chain; it follows the chain in both directions."""

    UNFUNDED = "unfunded"
    FUNDING = "funding"
    """The funding is confirmed, but not deep enough."""
    ACTIVE = "active"
    SETTLING = "settling"
    """The collateral is spent by one of our transactions, not deep enough."""
    SETTLED = "settled"
    CONFLICTED = "conflicted"
    """A contribution or the collateral went elsewhere."""


def contract_status(
    state: WatchState,
    collateral: OutPoint,
    *,
    contributions: Collection[OutPoint],
    spenders: Collection[Txid],
    final_depth: int = FINAL_DEPTH,
) -> ContractStatus:
    """Return a contract's status. contributions: the outpoints that the funding spends; spenders: our settlements."""
    settlement = standing(state, collateral, spenders, final_depth=final_depth)
    if settlement.status is SpendStatus.CONFLICTED:
        return ContractStatus.CONFLICTED
    if settlement.status is SpendStatus.FINAL:
        return ContractStatus.SETTLED
    if settlement.status is SpendStatus.CONFIRMED:
        return ContractStatus.SETTLING
    creation = state.created(collateral)
    if creation is not None:
        deep = state.depth(creation.height) >= final_depth
        return ContractStatus.ACTIVE if deep else ContractStatus.FUNDING
    stolen = any(
        standing(state, outpoint, collateral.txid).status is SpendStatus.CONFLICTED for outpoint in contributions
    )
    return ContractStatus.CONFLICTED if stolen else ContractStatus.UNFUNDED


class Action(Enum):
    """What a watching party does next."""

    WAIT = "wait"
    BROADCAST_FUNDING = "broadcast funding"
    SETTLE = "settle"
    """Broadcast the attested CET with its child (again, or with a higher fee)."""
    REFUND = "refund"
    """The oracle stayed silent past the refund height: the seller takes the collateral back."""
    DONE = "done"


def next_action(
    status: ContractStatus, *, tip: Height, expiry_height: Height, refund_height: Height, attested: bool, seller: bool
) -> Action:
    """Return what to do at this tip. A rebroadcast is harmless: what the node knows already counts as success.

    attested: enough oracles have attested. A CET is minable in the block after ``expiry_height``, a refund in the one
    after ``refund_height``; an attested CET is preferred even then, until it is buried.
    """
    if status is ContractStatus.SETTLED:
        return Action.DONE
    if status is ContractStatus.UNFUNDED:
        return Action.BROADCAST_FUNDING
    if status in (ContractStatus.FUNDING, ContractStatus.ACTIVE):
        if attested and tip >= expiry_height:
            return Action.SETTLE
        if seller and not attested and tip >= refund_height:
            return Action.REFUND
    return Action.WAIT
