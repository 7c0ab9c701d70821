"""In which order settlements go to the chain, and when: deadline first, never more in the pool than blocks will take.

    due          what is complete and not sent: size, deadline, value
    order        earliest deadline first; of one deadline the larger value first
    share        of each block, so much is for ours; wider where the deadlines need it, up to all of it
    now          what the next ``IN_FLIGHT_BLOCKS`` blocks take, beside what is in flight; near its deadline everything
    late         what has no turn before its deadline, however wide the share

Twenty thousand settlements of one minute are more than eight blocks. All of them in the pool at once would wait behind
each other, and after three blocks each would pay more to overtake its own siblings (``settling.BUMP_AFTER_BLOCKS``).
Pure: equal arguments give equal schedules. The task that builds settlements asks here, and ``btcfi simulate`` too.
Source: Liu & Layland (1973): earliest deadline first meets every deadline that any order meets, for jobs of equal
release; the share is their processor demand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from btcfi.bitcoin.fees import FeeRule, SatsPerKvb, choose_rate
from btcfi.bitcoin.next_blocks import BLOCK_VSIZE
from btcfi.errors import InvalidInputError
from btcfi.units import Height, Sats

SHARE: Final = BLOCK_VSIZE // 2
"""Of a block, while no deadline asks for more: who fills whole blocks bids for the last place against itself
(docs/explanation/scale.md compares shares)."""

IN_FLIGHT_BLOCKS: Final = 3
"""Blocks whose share is in the pool at once: as many as a settlement waits before it pays more."""

PASSED_BY_BLOCKS: Final = 2 * IN_FLIGHT_BLOCKS
"""After so many blocks that passed it by a settlement takes no place of others any more: it pays too little, and may
never be able to pay more, since a child pays no more than the stake."""

SETTLEMENT_VSIZE: Final = 419
"""A CET of the standard tree that pays both sides, and its child: the largest that a settlement is before a bump."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One transaction, or one with the child that pays for it, that is complete and not sent."""

    name: str
    vsize: int
    """With its child."""
    deadline: Height
    """The last block that may hold it before somebody else's spend is valid: its refund height."""
    value: Sats
    """What is lost without it."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a size that no block holds."""
        if not 0 < self.vsize <= BLOCK_VSIZE:
            raise InvalidInputError("size of what is due", f"{self.vsize} vB", f"1 to {BLOCK_VSIZE}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The chain and the pool, as far as a schedule is concerned."""

    tip: Height
    estimate: SatsPerKvb | None = None
    """The node's for the next two blocks."""
    in_flight: int = 0
    """Virtual bytes of ours that are sent, or built to be, and in no block; without those that ``PASSED_BY_BLOCKS``
    blocks have passed by."""
    share: int = SHARE
    """Virtual bytes of each block that ours may fill while no deadline asks for more."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError unless a share is a part of a block."""
        if not 0 < self.share <= BLOCK_VSIZE or self.in_flight < 0:
            raise InvalidInputError(
                "block space", f"share {self.share}, in flight {self.in_flight}", f"1 to {BLOCK_VSIZE}, 0 or more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """When one is sent, and at which rate."""

    due: Due
    block: Height
    """The block that is planned to hold it."""
    rate: SatsPerKvb
    now: bool
    """Whether it goes into the pool at this tip."""

    @property
    def late(self) -> int:
        """Blocks by which its turn comes after its deadline; 0 when it makes it."""
        return max(0, self.block - self.due.deadline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What goes when."""

    turns: tuple[Turn, ...]
    """In the order of their turns."""
    share: int
    """Virtual bytes of each block that it takes."""

    @property
    def now(self) -> tuple[Due, ...]:
        """What goes into the pool at this tip, in order."""
        return tuple(turn.due for turn in self.turns if turn.now)

    @property
    def late(self) -> tuple[Turn, ...]:
        """What cannot make its deadline: from the block after that on, somebody else's spend is as valid."""
        return tuple(turn for turn in self.turns if turn.late)

    @property
    def last_block(self) -> Height | None:
        """The block that ends it; None when nothing is due."""
        return self.turns[-1].block if self.turns else None


def order(due: Iterable[Due]) -> list[Due]:
    """Return what is due in the order of its turns: earliest deadline, then largest value, then by name."""
    return sorted(due, key=lambda one: (one.deadline, -one.value, one.name))


def schedule(due: Iterable[Due], space: Space, rule: FeeRule) -> Schedule:
    """Return the turn of everything that is due, with the rate that it is to pay at this tip.

    What is within ``rule.deadline_blocks`` of its deadline pays to overtake what is in flight, and is planned before.
    """
    ordered = order(due)
    share = share_needed(ordered, space, rule)
    block, used, overtaken, turns = 0, 0, 0, []
    for one in ordered:
        left = one.deadline - space.tip
        near = left <= rule.deadline_blocks
        if not near and overtaken < space.in_flight:
            block, used = divmod(block * share + used + space.in_flight, share)
            overtaken = space.in_flight
        if used + one.vsize > max(share, one.vsize):
            block, used = block + 1, 0
        used += one.vsize
        turns.append(Turn(
            due=one, block=Height(space.tip + 1 + block), rate=choose_rate(space.estimate, rule, blocks_left=left),
            now=block < IN_FLIGHT_BLOCKS or near,
        ))  # fmt: skip
    return Schedule(turns=tuple(turns), share=share)


def share_needed(ordered: Sequence[Due], space: Space, rule: FeeRule) -> int:
    """Return how much of each block ours must have: the usual share, or more where a deadline asks for it.

    ordered: earliest deadline first. What is due up to a deadline, and what is in flight, must fit into the blocks up
    to ``rule.deadline_blocks`` before it, so that the last of them are for what goes wrong; where no more than these
    are left, what is due alone into what is left. Never more than a block.
    """
    share, size = space.share, 0
    for one in ordered:
        size += one.vsize
        left = one.deadline - space.tip
        if left > rule.deadline_blocks:
            share = max(share, -(-(size + space.in_flight) // (left - rule.deadline_blocks)))
        else:
            share = max(share, -(-size // max(left, 1)))
    return min(share, BLOCK_VSIZE)
