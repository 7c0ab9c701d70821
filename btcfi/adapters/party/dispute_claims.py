"""The one claim of a contract: its one-time row, here and beside the folder, before anything of it is signed.

Two claims of one contract give the verifier the fault secret, and with it all of the escrow; so do the digits of
another claim, shown in answer to a challenge.
"""

from __future__ import annotations

from typing import Final

from btcfi.adapters.party.agreements import StepOutOfOrderError
from btcfi.adapters.party.dispute_files import OtherMessageError
from btcfi.adapters.party.dispute_room import DisputeRoom, Json, outcomes_of, range_of
from btcfi.adapters.party.dispute_sending import Due, Sender
from btcfi.bitcoin.transaction import Transaction
from btcfi.disputes.garbled import presign
from btcfi.disputes.garbled.deal import Deal
from btcfi.disputes.garbled.game import Position
from btcfi.disputes.garbled.graph import Graph, last_of
from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.garbled.presign import Attested
from btcfi.disputes.stages import Stage
from btcfi.errors import ConflictError, NotFoundError
from btcfi.units import Height

MARK: Final = "claimed"
BY_A_COPY: Final = "by a copy of this folder, on this machine"


class ClaimedOtherError(ConflictError):
    """A claim other than the one that we signed: two of them give the other side the fault secret."""

    def __init__(self, contract: str, where: str) -> None:
        super().__init__(
            f"dispute {contract[:16]}: another claim of it was signed already ({where}); a second one would give the "
            "other side the fault secret, and all of the escrow. Nothing was signed"
        )
        self.contract, self.where = contract, where


class Claims:
    """The claims of one party."""

    def __init__(self, room: DisputeRoom, sender: Sender) -> None:
        self._room, self._sender = room, sender

    def claim(self, name: str) -> Transaction:
        """Sign the one claim that follows from what the oracles attested, and send it.

        Raises ClaimedOtherError, NotFoundError where not enough oracles attested, StepOutOfOrderError where nothing can
        be claimed now, ConflictError where another claim waits or it is too late for one.
        """
        self._room.must_be(name, Side.CLAIMANT)
        made = self._room.deal(name)
        _, graph = self._room.graph(name, made)
        here = self._room.position(name, graph)
        if here.stage not in {Stage.OPEN, Stage.SILENT}:
            raise StepOutOfOrderError(name, f"it is {here.stage}: an opening in a block, and no claim yet,")
        attested = self._room.known(name, graph, here)
        if attested is None and (said := self._room.attested(graph)) is not None:  # of something else than we claimed
            self._check(name, made, _row(made, graph, said))
        if attested is None:
            raise NotFoundError("attestations", name[:16], f"{graph.terms.threshold} oracles must agree on each event")
        if graph.terms.is_late(Height(self._room.node.block_count() + 1)):
            raise ConflictError(
                f"dispute {name[:16]}: a challenge of a claim after block {graph.terms.last_claim_height} could not be "
                "answered any more; `btcfi dispute watch` takes the refund. Nothing was signed"
            )
        return self.send(name, made, graph, here, attested)[0]

    def send(self, name: str, made: Deal, graph: Graph, here: Position, attested: Attested) -> tuple[Transaction, bool]:
        """Sign the claim and send it as the fees ask for; return it, and whether anything was sent."""
        silent, own = here.stage is Stage.SILENT, self._room.own(name)
        self._check(name, made, _row(made, graph, attested))
        coin, _ = graph.parent(silent=silent)
        claims = {graph.claim(number, silent=silent).txid for number in range(len(graph.terms.claim.payouts))}
        waiting = self._room.node.pool_spenders([coin])[0]
        expected = graph.claim(range_of(graph, outcomes_of(graph, attested)), silent=silent)
        if waiting in claims - {expected.txid}:
            raise ConflictError(f"dispute {name[:16]}: something else waits that spends its coin; the blocks decide")
        number = self.write(name, made, graph, attested)
        claim = presign.build_claim(
            graph, self._room.claims(name, graph), self._room.garbler(name, made), number=number, attested=attested,
            claim=own["claim"], silent=silent,
        )  # fmt: skip
        until = here.at + graph.terms.dispute_blocks if silent and here.at is not None else graph.terms.silence_height
        due = Due(
            what="claim", transaction=claim, fee=graph.terms.fee, stake=last_of(claim)[1].value, until=Height(until)
        )  # fmt: skip
        return claim, self._sender.pay(name, due)

    def write(self, name: str, made: Deal, graph: Graph, attested: Attested) -> int:
        """Write the one-time row of a contract's claim, here and beside the folder; return the claimed range.

        Raises ClaimedOtherError.
        """
        row = _row(made, graph, attested)
        with self._room.store.alone():
            self._check(name, made, row)
            try:
                self._room.files.row("claims", name, row, name)
            except OtherMessageError as e:
                raise ClaimedOtherError(name, "as this folder knows") from e
            if not self._room.marks.put(MARK, made.id, row):
                raise ClaimedOtherError(name, BY_A_COPY)
        return int(row["number"])

    def _check(self, name: str, made: Deal, row: Json) -> None:
        if self._room.marks.find(MARK, made.id) not in (None, row):
            raise ClaimedOtherError(name, BY_A_COPY)
        if self._room.files.find_row("claims", name) not in (None, row):
            raise ClaimedOtherError(name, "as this folder knows")


def _row(made: Deal, graph: Graph, attested: Attested) -> Json:
    outcomes = outcomes_of(graph, attested)
    return {"contract": made.id.hex(), "number": range_of(graph, outcomes), "outcomes": outcomes}
