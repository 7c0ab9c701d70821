"""Where a disputed contract stands, from the chain alone, and the game's clock: who must be online, and until when.

Every transaction but the sweeps at the end has a txid that both know beforehand, so a stage is told by txids, whoever
sent what; a sweep is told by the path that it took. Pure: what spends which coin is an argument, so a reorganisation
is another argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.disputes.garbled.graph import Graph, Parent, last_of
from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.stages import Stage
from btcfi.units import Height

ANNEX: Final = b"\x50"
"""How the last item of a witness begins that is an annex. Source: BIP341."""

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
    return positions(graph, spends, opening)[-1]


def positions(graph: Graph, spends: Spends, opening: tuple[Transaction, Height] | None) -> tuple[Position, ...]:
    """Return where a contract has stood and stands, from before its opening on."""
    found = [Position(stage=Stage.UNOPENED)]
    if opening is None:
        return tuple(found)
    found.append(Position(stage=Stage.OPEN, last=opening[0], at=opening[1]))
    while (coin := coin_of(graph, found[-1])) is not None and (spend := spends.get(coin)) is not None:
        found.append(_after(graph, found[-1], coin, *spend))
    return tuple(found)


def coin_of(graph: Graph, here: Position) -> OutPoint | None:
    """Return the coin whose spend is the next move; None before the opening and at an end."""
    if here.last is None or here.stage.ended:
        return None
    if here.stage is Stage.OPEN:
        return graph.coin
    return graph.parent(silent=True)[0] if here.stage is Stage.SILENT else last_of(here.last)[0]


def _after(graph: Graph, here: Position, coin: OutPoint, spend: Transaction, at: Height) -> Position:
    claim, number, silent, stage = here.claim, here.number, here.silent, None
    silence = here.silence
    if here.stage in {Stage.OPEN, Stage.SILENT}:
        if (claimed := graph.claim_txids.get(spend.txid)) is not None:
            (number, silent), claim = claimed, spend
            stage = Stage.HELD if graph.terms.is_lazy else Stage.CLAIMED
        elif here.stage is Stage.SILENT:
            stage = Stage.SILENCE_ENDED if spend.txid == graph.silent_end.txid else None
        else:
            stage = {graph.silence.txid: Stage.SILENT, graph.refund.txid: Stage.REFUNDED}.get(spend.txid)
            silence = spend if stage is Stage.SILENT else silence
    elif here.stage is Stage.HELD and number is not None:
        challenge, release = graph.challenge(number, silent=silent), graph.release(number, silent=silent)
        stage = {challenge.txid: Stage.CHALLENGED, release.txid: Stage.RELEASED}.get(spend.txid)
    elif here.stage is Stage.CHALLENGED and number is not None:
        if spend.txid == graph.reveal(number, silent=silent).txid:
            stage = Stage.REVEALED
        elif graph.overdue_leaf.script in _witness(spend, coin):
            stage = Stage.OVERDUE
    else:  # an escrow: by its key path the verifier took it, by its leaf the claimant
        stage = Stage.DISPROVED if len(_witness(spend, coin)) == 1 else Stage.PAID
    if stage is None:
        stage = Stage.CLOSED if len(_witness(spend, coin)) == 1 else Stage.SPENT_OTHERWISE
    return Position(stage=stage, last=spend, at=at, claim=claim, number=number, silent=silent, silence=silence)


def _witness(spend: Transaction, coin: OutPoint) -> tuple[bytes, ...]:
    """Return what a transaction shows for a coin, without an annex, which anybody's spend may have. Source: BIP341."""
    shown = next(one.witness for one in spend.inputs if one.outpoint == coin)
    return shown[:-1] if len(shown) > 1 and shown[-1][:1] == ANNEX else shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """What a side must do, or loses by."""

    side: Side
    what: str
    since: Height
    """The first block that can hold it."""
    until: Height | None
    """The last block in which nothing of the other side's can overtake it; None: nothing ever does."""


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
            Duty(
                side=Side.CLAIMANT, what="claim the range that the silence shows", since=first, until=Height(lock - 1)
            ),
            Duty(side=Side.VERIFIER, what="end the silence", since=lock, until=None),
        )
    if here.stage in {Stage.CLAIMED, Stage.REVEALED}:
        return (
            Duty(side=Side.VERIFIER, what="disprove the claim if it is wrong", since=first, until=Height(lock - 1)),
            Duty(side=Side.CLAIMANT, what="take the escrow", since=lock, until=None),
        )
    if here.stage is Stage.HELD:
        return (
            Duty(side=Side.VERIFIER, what="challenge the claim if it is wrong", since=first, until=Height(lock - 1)),
            Duty(side=Side.CLAIMANT, what="release what is held", since=lock, until=None),
        )
    if here.stage is Stage.CHALLENGED:
        return (
            Duty(side=Side.CLAIMANT, what="show the digits", since=first, until=Height(lock - 1)),
            Duty(side=Side.VERIFIER, what="take what is overdue", since=lock, until=None),
        )
    return ()
