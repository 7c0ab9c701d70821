"""The game around one loser's margin as a finite state space, searched whole.

A step is a block: both sides may send, replace or pin, in either order; then a miner takes what waits at this block's
rate, which nature chooses; then a branch may be lost. Money in eighths of the required margin; a fee level is far below
the quarter that a burn costs.
"""

from dataclasses import dataclass, replace
from itertools import product

MARGIN = 8
LEVELS = (1, 2, 3)
"""Fees that a side can pay."""
HIGHEST = LEVELS[-1]
WINDOW = 3
"""Blocks before a settlement may be mined."""
SILENCE = 6
"""Further ones before the margin may be taken back: more than it takes to raise to the highest rate and be deep; in
truth nine days."""
LAST = WINDOW + SILENCE + 3
DEEP = 3
"""Blocks after which what is mined stays."""
PIN = 3
"""Fee levels that a replacement must pay on top for a large cheap descendant of what it replaces."""

DEBTOR, CREDITOR = "debtor", "creditor"
BURN, SETTLE, RETURN, OPEN = "burn", "settle", "return", "open"


@dataclass(frozen=True)
class Form:
    """What a burn's transaction lets the creditor do to it."""

    name: str
    pinned: bool = False
    """Hang a descendant on an output of its own in it."""
    stripped: bool = False
    """Evict the child that pays for it, then leave itself: replacement cycling."""


SPLIT = Form("split margins, version 2, the burner's own change")
TRUC = Form("one output, version 3, a fee of its own")
PINNED = Form("one output, version 2", pinned=True)
CYCLED = Form("one output, version 3, no fee of its own", stripped=True)
FORMS = (SPLIT, TRUC, PINNED, CYCLED)


@dataclass(frozen=True)
class Waiting:
    """What a pool holds of the margin."""

    kind: str
    fee: int
    pinned: bool = False

    @property
    def to_beat(self):
        return self.fee + (PIN if self.pinned else 0)


@dataclass(frozen=True)
class State:
    block: int = 0
    pool: Waiting | None = None
    mined: tuple[str, int] | None = None
    """What is in the chain, and since which block."""
    reorgs: int = 0


def final(kind, block, pnl):
    """Whether the next block may hold a spend."""
    return {BURN: pnl > 0, SETTLE: block >= WINDOW, RETURN: block >= WINDOW + SILENCE}[kind]


def moves(form, who, block, pool, pnl):
    """Every pool that one side can make of it."""
    kinds = (BURN, SETTLE, RETURN) if who == DEBTOR else (SETTLE, RETURN)
    found = {pool}
    for kind, fee in product(kinds, LEVELS):
        # also one's own raise is a replacement, and has to beat a pin
        if final(kind, block, pnl) and (pool is None or fee > pool.to_beat):
            found.add(Waiting(kind, fee))
    if pool is not None and not pool.pinned and not (who == CREDITOR and pool.kind == BURN and form is SPLIT):
        # a child of one's own output or of the anchor pays more
        found |= {replace(pool, fee=fee) for fee in LEVELS if fee > pool.fee}
    if pool is not None and who == CREDITOR and pool.kind == BURN:
        found |= {replace(pool, pinned=True)} if form.pinned else set()
        found |= {replace(pool, fee=0)} if form.stripped else set()
    return found


def endings(form, pnl, *, debtor=None, creditor=None, rates=LEVELS, reorgs=0):
    """Every way in which it can end, with how many states were seen.

    debtor, creditor: a policy, (block, pool) -> what it wants; None plays everything there is. A policy's wish that is
    no move of its changes nothing.
    """
    policies, seen, ends, left = {DEBTOR: debtor, CREDITOR: creditor}, set(), set(), [State(reorgs=reorgs)]
    while left:
        state = left.pop()
        if state in seen:
            continue
        seen.add(state)
        if state.block >= LAST or (state.mined and state.block - state.mined[1] >= DEEP):
            ends.add(state.mined[0] if state.mined else OPEN)
            continue
        left += _after(form, pnl, state, policies, rates)
    return ends, len(seen)


def _after(form, pnl, state, policies, rates):
    block = state.block
    if state.mined is not None:
        yield replace(state, block=block + 1)
        if state.reorgs:  # what was mined waits again, or is forgotten
            for pool in (Waiting(state.mined[0], 1), None):
                yield State(block=block, pool=pool, reorgs=state.reorgs - 1)
        return
    pools = set()
    for order in ((DEBTOR, CREDITOR), (CREDITOR, DEBTOR)):
        reached = {state.pool}
        for who in order:
            reached = set().union(
                *(_played(moves(form, who, block, pool, pnl), block, pool, policies[who]) for pool in reached)
            )
        pools |= reached
    for pool, rate in product(pools, rates):
        taken = pool is not None and pool.fee >= rate and final(pool.kind, block, pnl)
        yield State(
            block=block + 1, pool=None if taken else pool, mined=(pool.kind, block) if taken else None,
            reorgs=state.reorgs,
        )  # fmt: skip


def _played(possible, block, pool, policy):
    if policy is None:
        return possible
    wish = policy(block, pool)
    return {wish if wish in possible else pool}


# ---- policies


def waits(block, pool):
    """Does nothing."""
    return pool


def burns(start, *, first=HIGHEST, cap=HIGHEST, by=HIGHEST):
    """Burns from block ``start`` on: at ``first``, then ``by`` levels more each block, up to ``cap``."""

    def policy(block, pool):
        if block < start:
            return pool
        if pool is None or pool.kind != BURN:
            return Waiting(BURN, min(cap, first + by * (block - start)))
        return replace(pool, fee=max(pool.fee, min(cap, pool.fee + by)), pinned=False)

    return policy


def settles(cap=HIGHEST):
    """Settles from the first block that may hold it, a level more each block, up to ``cap``."""

    def policy(block, pool):
        if block < WINDOW:
            return pool
        return Waiting(SETTLE, min(cap, 1 + block - WINDOW if pool is None else pool.fee + 1))

    return policy


def wealth(kind, pnl):
    """What debtor and creditor have in the end, before fees."""
    return {
        SETTLE: (MARGIN - pnl, MARGIN + pnl), BURN: (MARGIN - pnl - MARGIN // 4, MARGIN),
        RETURN: (MARGIN, MARGIN), OPEN: (MARGIN, MARGIN),
    }[kind]  # fmt: skip
