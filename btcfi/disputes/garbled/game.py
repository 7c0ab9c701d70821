"""Where a disputed contract stands, from the chain alone, and the game's clock: who must be online, and until when.

Every transaction but the sweeps at the end has a txid that both know beforehand, so a stage is told by txids, whoever
sent what; a sweep is told by the path that it took. Pure: what spends which coin is an argument, so a reorganisation
is another argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.disputes.garbled.graph import Graph, Parent, last_of
from btcfi.disputes.garbled.opening import Side
from btcfi.units import Height, Txid


class Stage(StrEnum):
    """Where a contract stands."""

    UNOPENED = "unopened"
    OPEN = "open"
    SILENT = "silence claimed"
    CLAIMED = "claimed"
    """Digits and all: its escrow waits."""
    HELD = "claimed, not shown"
    """Of a lazy contract."""
    CHALLENGED = "challenged"
    REVEALED = "revealed"
    PAID = "paid"
    DISPROVED = "disproved"
    RELEASED = "released"
    OVERDUE = "overdue"
    SILENCE_ENDED = "silence ended"
    REFUNDED = "refunded"
    CLOSED = "closed"
    """By both."""

    @property
    def ended(self) -> bool:
        """Whether nothing of it can be played any more; a verifier's bond may still be to be taken home."""
        return self in _ENDED


_ENDED: Final = frozenset(
    {
        Stage.PAID, Stage.DISPROVED, Stage.RELEASED, Stage.OVERDUE, Stage.SILENCE_ENDED, Stage.REFUNDED, Stage.CLOSED,
    }
)  # fmt: skip

Spends = Mapping[OutPoint, tuple[Transaction, Height]]
"""What spends a coin, and in which block, by what was spent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A contract on the chain."""

    stage: Stage
    last: Transaction | None = None
    """What brought it here; None before the opening is in a block."""
    at: Height | None = None
    """The block of it."""
    claim: Transaction | None = None
    number: int | None = None
    """The range that was claimed."""
    silent: Parent = False
    silence: Transaction | None = None
    """The claim of silence, where there was one: it shows what was attested."""


def position(graph: Graph, spends: Spends, opening: tuple[Transaction, Height] | None) -> Position:
    """Return where a contract stands. opening: as a block holds it; None: none does yet."""
    if opening is None:
        return Position(stage=Stage.UNOPENED)
    here = Position(stage=Stage.OPEN, last=opening[0], at=opening[1])
    claims = {
        graph.claim(number, silent=silent).txid: (number, silent)
        for silent in (False, True)
        for number in range(len(graph.terms.claim.payouts))
    }
    coin = graph.coin
    while (found := spends.get(coin)) is not None:
        here = _after(graph, here, claims, *found)
        if here.stage.ended:
            return here
        coin = graph.parent(silent=True)[0] if here.stage is Stage.SILENT else last_of(found[0])[0]
    return here


def _after(
    graph: Graph, here: Position, claims: Mapping[Txid, tuple[int, Parent]], spend: Transaction, at: Height
) -> Position:
    stage, claim, number, silent = Stage.CLOSED, here.claim, here.number, here.silent
    silence = here.silence
    lazy = graph.terms.is_lazy
    if here.stage in {Stage.OPEN, Stage.SILENT}:
        if spend.txid in claims:
            (number, silent), claim, stage = claims[spend.txid], spend, Stage.HELD if lazy else Stage.CLAIMED
        elif here.stage is Stage.SILENT:
            stage = Stage.SILENCE_ENDED if spend.txid == graph.silent_end.txid else Stage.CLOSED
        elif spend.txid == graph.silence.txid:
            stage, silence = Stage.SILENT, spend
        elif spend.txid == graph.refund.txid:
            stage = Stage.REFUNDED
    elif here.stage is Stage.HELD and number is not None:
        challenged = spend.txid == graph.challenge(number, silent=silent).txid
        released = spend.txid == graph.release(number, silent=silent).txid
        stage = Stage.CHALLENGED if challenged else Stage.RELEASED if released else Stage.CLOSED
    elif here.stage is Stage.CHALLENGED and number is not None:
        revealed = spend.txid == graph.reveal(number, silent=silent).txid
        stage = Stage.REVEALED if revealed else Stage.OVERDUE
    else:  # an escrow: by its key path the verifier took it, by its leaf the claimant
        spent = next(one for one in spend.inputs if here.last is not None and one.outpoint == last_of(here.last)[0])
        stage = Stage.DISPROVED if len(spent.witness) == 1 else Stage.PAID
    return Position(stage=stage, last=spend, at=at, claim=claim, number=number, silent=silent, silence=silence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """What a side must do, or loses by."""

    side: Side
    what: str
    since: Height
    """The first block that can hold it."""
    until: Height | None
    """The last block before which the other side can do what ends it; None: nothing does."""


def clock(graph: Graph, here: Position) -> Sequence[Duty]:
    """Return who must do what, from which block on and until which: the game's clock at a position."""
    terms, at = graph.terms, here.at or Height(0)
    lock = Height(at + terms.dispute_blocks)
    first = Height(at + 1)
    if here.stage is Stage.OPEN:
        claim, silence, refund = max(first, Height(terms.claim_height + 1)), terms.silence_height, terms.refund_height
        return (
            Duty(side=Side.CLAIMANT, what="claim the range once it is attested", since=claim, until=silence),
            Duty(side=Side.VERIFIER, what="claim silence if nothing is claimed", since=Height(silence + 1),
                 until=refund),
            Duty(side=Side.CLAIMANT, what="take the refund if nothing was attested", since=Height(refund + 1),
                 until=None),
        )  # fmt: skip
    if here.stage is Stage.SILENT:
        return (
            Duty(side=Side.CLAIMANT, what="claim the range that the silence shows", since=first, until=lock),
            Duty(side=Side.VERIFIER, what="end the silence", since=lock, until=None),
        )
    if here.stage in {Stage.CLAIMED, Stage.REVEALED}:
        return (
            Duty(side=Side.VERIFIER, what="disprove the claim if it is wrong", since=first, until=lock),
            Duty(side=Side.CLAIMANT, what="take the escrow", since=lock, until=None),
        )
    if here.stage is Stage.HELD:
        return (
            Duty(side=Side.VERIFIER, what="challenge the claim if it is wrong", since=first, until=lock),
            Duty(side=Side.CLAIMANT, what="release what is held", since=lock, until=None),
        )
    if here.stage is Stage.CHALLENGED:
        return (
            Duty(side=Side.CLAIMANT, what="show the digits", since=first, until=lock),
            Duty(side=Side.VERIFIER, what="take what is overdue", since=lock, until=None),
        )
    return ()
