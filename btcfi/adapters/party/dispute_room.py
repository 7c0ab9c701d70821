"""What every stage of a disputed contract looks at: messages, what follows from them, the chain, the mandate."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from btcfi.adapters.chain.node import Node
from btcfi.adapters.dispute_scan import spends_from, transactions_from
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.agreements import StepOutOfOrderError, WithdrawnError
from btcfi.adapters.party.dispute_files import WITHDRAWN, DisputeFiles, OtherMessageError
from btcfi.adapters.party.dispute_marks import DisputeMarks
from btcfi.adapters.party.owner import SIGN_ONE
from btcfi.adapters.party.store import PartyStore
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.transaction import Transaction
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.mandate import Authority, WrongMandateError
from btcfi.contracts.messages import canonical
from btcfi.contracts.setup import CoinNotTheirsError, WrongMessageError
from btcfi.contracts.watch import FINAL_DEPTH, REMEMBERED_BLOCKS
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled import game, messages, presign
from btcfi.disputes.garbled.deal import Deal, Draft, OwnSecrets, Proposal
from btcfi.disputes.garbled.game import Position
from btcfi.disputes.garbled.graph import Graph
from btcfi.disputes.garbled.opening import Opening, Side
from btcfi.disputes.garbled.presign import Attested
from btcfi.disputes.garbled.setup import CONSERVATIVE, Commitments, Cut, Garbler, Kept, cut_by_hash, draw_cut, kept_of
from btcfi.disputes.stages import Stage
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import Attestation, WrongAttestationError
from btcfi.units import Hash32, Height, display_txid

Json = dict[str, Any]


def nobody(_contract: str) -> Authority:
    """Refuse to sign anything new: a room without a mandate."""
    raise WrongMandateError("there is none here", SIGN_ONE)


@dataclass(kw_only=True)
class DisputeRoom:
    """One party's folder, keys, wallet and node, and what of its contracts is computed once."""

    store: PartyStore
    keystore: Keystore
    node: Node
    wallet: PartyWallet
    clock: Callable[[], float]
    marks: DisputeMarks
    authority: Callable[[str], Authority] = nobody
    """The right to sign now, a contract's own stake left out. By default nobody has any: nothing new is signed."""
    show: Callable[[Side, Draft], None] = lambda *_: None
    """Sees what is about to be signed on which side, and refuses by raising."""
    _garblers: dict[str, Garbler] = field(default_factory=dict)
    _keeps: dict[str, Kept] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find the folder's files."""
        self.files = DisputeFiles(self.store.folder)

    # ---- what there is

    def proposal(self, name: str) -> Proposal:
        """Return a contract's proposal. Raises NotFoundError."""
        found = self.files.find(name, "proposal")
        if found is None:
            raise NotFoundError("dispute", name[:16], "`btcfi dispute show` has ours")
        return wire.decode_proposal(found)

    def deal(self, name: str) -> Deal:
        """Return what both sides compute. Raises StepOutOfOrderError before there is an acceptance."""
        half = self.files.find(name, "acceptance")
        if half is None:
            raise StepOutOfOrderError(name, "the proposal and its acceptance")
        proposal, acceptance = self.proposal(name), wire.decode_acceptance(half)
        return Deal(proposal, acceptance, id=wire.contract_id(proposal, acceptance))

    def named(self, contract: Hash32) -> str:
        """Return the name of a contract: the id of its proposal. Raises NotFoundError."""
        for name in self.files.names():
            half = self.files.find(name, "acceptance")
            if half is not None and wire.contract_id(self.proposal(name), wire.decode_acceptance(half)) == contract:
                return name
        raise NotFoundError("dispute", contract.hex()[:16], "`btcfi dispute show` has ours")

    def own(self, name: str) -> OwnSecrets:
        """Return our secrets in a contract."""
        seed = self.files.seed(name, self.files.side_of(name), self.keystore)
        return OwnSecrets(seed, self.proposal(name).draft.sets)

    def garbler(self, name: str, made: Deal) -> Garbler:
        """Return the claimant's garbler."""
        if name not in self._garblers:
            self._garblers[name] = Garbler(made.subject, self.own(name).drawn("garbler"))
        return self._garblers[name]

    def graph(self, name: str, made: Deal) -> tuple[Opening, Graph]:
        """Return the opening and every transaction that builds on it."""
        return made.opened(self.commitments(name, made))

    def commitments(self, name: str, made: Deal) -> Commitments:
        """Return the claimant's first message. Raises StepOutOfOrderError where the verifier does not have it."""
        found = self.files.find(name, "commitments")
        if found is None and self.files.side_of(name) is Side.CLAIMANT:
            return self.garbler(name, made).commitments()
        if found is None:
            raise StepOutOfOrderError(name, "the claimant's commitments")
        return messages.decode_commitments(made.subject, wire.decode_letter(found).data)

    def kept(self, name: str, made: Deal, openings: wire.Letter) -> Kept:
        """Return what the verifier judges by, the opened copies checked. Raises CheatedError."""
        if name not in self._keeps:
            first = self.commitments(name, made)
            cut = cut_of(made, self.own(name), first)
            said = messages.decode_openings(made.subject, cut, openings.data)
            self._keeps[name] = kept_of(made.subject, first, cut, said, coins=secrets.token_bytes(32))
        return self._keeps[name]

    def claims(self, name: str, graph: Graph) -> presign.ClaimPresignatures:
        """Return what the verifier signed before the opening."""
        return messages.decode_claims(graph, self._letter(name, "claims").data)

    def silence(self, name: str, graph: Graph) -> presign.SilencePresignatures:
        """Return what the claimant signed before the opening."""
        return messages.decode_silence(graph, self._letter(name, "openings").more)

    def _letter(self, name: str, what: str) -> wire.Letter:
        found = self.files.find(name, what)
        if found is None:
            raise StepOutOfOrderError(name, f"the other side's {what}: it says them again, `btcfi dispute message`,")
        return wire.decode_letter(found)

    def opening(self, name: str) -> Transaction | None:
        """Return the opening as the verifier signed it, or as a block held it; None before."""
        return self.files.find_transaction(name, "opening")

    def may_be_opened(self, name: str) -> bool:
        """Return whether our signature of the opening has left, or may have."""
        said = self.files.find(name, "funding") if self.files.side_of(name) is Side.CLAIMANT else None
        return said is not None or self.opening(name) is not None

    def announced(self) -> Iterator[Announcement]:
        """Yield every announcement of our contracts, of those that can be read."""
        for name in self.files.names():
            try:
                events = self.proposal(name).draft.events
            except (BtcfiError, OSError):  # it is named where it is played
                continue
            yield from (one for event in events for one in event)

    # ---- what was attested

    def attested(self, graph: Graph, claimed: Sequence[int] | None = None) -> Attested | None:
        """Return the outcomes as the first set of oracles attested them that agrees on every event; None: none does.

        claimed: outcomes that we signed a claim of: what another set attested since is not looked at.
        """
        return next(self.every_attested(graph, claimed), None)

    def every_attested(self, graph: Graph, claimed: Sequence[int] | None = None) -> Iterator[Attested]:
        """Yield the outcomes as each set of oracles attested them that agrees on every event; each may be claimed.

        Of an oracle that announced one event twice we may have kept the other announcement's attestation: no set with
        it counts, and those without it do.
        """
        known = self.store.attestations()
        found: list[Mapping[int, Attestation]] = [
            {place: one for place, said in enumerate(event)
             if (one := known.get((said.event.id, said.oracle_key))) is not None}
            for event in graph.terms.events
        ]  # fmt: skip
        for which, oracles in enumerate(graph.terms.sets):
            outcomes = []
            for event in found:
                said = {event[one].outcome if one in event else None for one in oracles}
                outcomes.append(said.pop() if len(said) == 1 else None)
            if None not in outcomes and (claimed is None or list(claimed) == outcomes):
                with suppress(WrongAttestationError):
                    yield presign.attested_of(graph, [one for one in outcomes if one is not None], found, which)

    def known(self, name: str, graph: Graph, here: Position) -> Attested | None:
        """Return the outcomes by our own attestations, or by a claim of silence that the chain shows; None: unknown."""
        row = self.files.find_row("claims", name)
        attested = self.attested(graph, None if row is None else row["outcomes"])
        if attested is None and here.silence is not None:
            return presign.read_silence(graph, self.silence(name, graph), here.silence)
        return attested

    # ---- the chain

    def note_start(self, name: str) -> None:
        """Note where the chain is, with the first message: every copy of the folder knows where to look from."""
        if self.files.find(name, "started") is None:
            self.files.put(name, "started", {"height": self.node.block_count()})

    def position(self, name: str, graph: Graph) -> Position:
        """Return where a contract stands on the chain."""
        return game.position(graph, *self.spends(name, graph))

    def spends(self, name: str, graph: Graph) -> tuple[game.Spends, tuple[Transaction, Height] | None]:
        """Read the blocks since we named our coins: what spends what, and the opening.

        Anew each time, from a day before, so that a reorganisation needs no care. Raises ChainMovedError when the chain
        changes meanwhile.
        """
        return spends_from(self.node, self._first(name), graph.coin.txid)

    def opened_by(self, name: str) -> Transaction | None:
        """Return the opening that a block holds, as told by our coins and what it locks: without the set-up, too."""
        proposal = self.proposal(name)
        half, locked = proposal.coins, proposal.draft.collateral + proposal.draft.bond
        if self.files.side_of(name) is Side.VERIFIER:
            said = self.files.find(name, "acceptance")
            half = () if said is None else wire.decode_acceptance(said).coins
        named = {one.outpoint for one in half}
        for _, one in transactions_from(self.node, self._first(name)):
            if named & {txin.outpoint for txin in one.inputs} and one.outputs[0].value == locked:
                return one
        return None

    def _first(self, name: str) -> Height:
        started = self.files.started(name)
        return Height(1 if started is None else max(1, started + 1 - REMEMBERED_BLOCKS))

    def may_forget(self, name: str) -> bool:
        """Return whether nothing of an attempt can be needed any more: its coins or its end are final in blocks."""
        made = self.deal(name)
        _, graph = self.graph(name, made)
        spends, opening = self.spends(name, graph)
        return self.is_final(made, graph, spends, game.position(graph, spends, opening))

    def is_final(self, made: Deal, graph: Graph, spends: game.Spends, here: Position) -> bool:
        """As ``may_forget``, of a chain that was read."""
        top = self.node.block_count()
        if here.stage.ended and here.at is not None:
            home = not graph.terms.is_lazy or graph.bond in spends
            return home and top - here.at + 1 >= FINAL_DEPTH
        coins = (*made.proposal.coins, *made.acceptance.coins)
        others = [spends[one.outpoint] for one in coins if one.outpoint in spends]
        return any(one.txid != graph.coin.txid and top - at + 1 >= FINAL_DEPTH for one, at in others)

    # ---- checks

    def ask(self, name: str, draft: Draft, side: Side, *, proposer: bytes | None) -> Authority:
        """Ask our mandate whether a contract may be signed now. Raises WrongMandateError, OutsideMandateError."""
        authority = self.authority(name)
        authority.check_dispute(draft.facts(side, proposer=proposer))
        return authority

    def ask_of(self, name: str, made: Deal) -> None:
        """As ``ask``, of a contract that both sides know."""
        side = self.files.side_of(name)
        proposer = None if side is Side.CLAIMANT else made.proposal.identity
        self.ask(name, made.proposal.draft, side, proposer=proposer)

    def must_be(self, name: str, side: Side) -> None:
        """Refuse a message of the wrong side. Raises WrongMessageError."""
        if self.files.side_of(name) is not side:
            raise WrongMessageError("dispute", f"is for the {side.value} of {name[:16]}, and we are the other side")

    def said(self, name: str, received: str, message: Json, reply: str) -> Json | None:
        """Return what we answered to this message before, None if nothing. Raises OtherMessageError for another."""
        before, said = self.files.find(name, received), self.files.find(name, reply)
        if before is not None and canonical(before) != canonical(message):
            raise OtherMessageError(name, received)
        return None if said is None or before is None else dict(said)

    def say(self, name: str, what: str, message: Json) -> Json:
        """Write a message of ours, and return it."""
        self.files.put(name, what, message)
        return message

    def is_opened(self, name: str, made: Deal, commitments: Commitments) -> bool:
        """Return whether a block holds the opening already: then a folder from a copy takes up what is a fact."""
        _, graph = made.opened(commitments)
        return self.position(name, graph).stage is not Stage.UNOPENED

    def check_new(self, name: str, draft: Draft) -> None:
        """Refuse what is withdrawn, late, or known already. Raises WithdrawnError, StepOutOfOrderError."""
        if name and self.files.find(name, WITHDRAWN) is not None:
            raise WithdrawnError(name)
        if self.clock() >= draft.valid_until:
            raise StepOutOfOrderError(name, "its time is over: a new proposal")
        known = self.store.attestations()
        if any((one.event.id, one.oracle_key) in known for event in draft.events for one in event):
            raise StepOutOfOrderError(name, "an outcome of it is attested already: another event")
        if self.node.block_count() >= draft.silence_height:
            raise InvalidInputError("silence_height", f"{draft.silence_height}", "above the chain's height")

    def check_coins(self, coins: Sequence[Coin]) -> None:
        """Check the other side's coins by our node. Raises InvalidInputError, CoinNotTheirsError."""
        ours = self.wallet.by_script
        found = self.node.unspent_many([one.outpoint for one in coins], include_pool=True)
        for coin, one in zip(coins, found, strict=True):
            if one is None or one.output != coin.output or not one.is_spendable:
                problem = "is spent, unconfirmed, immature or another"
                raise InvalidInputError(f"coin {coin.outpoint}", problem, "a confirmed coin that may be spent")
            if coin.output.script in ours:
                raise CoinNotTheirsError("the other side", str(coin.outpoint))


def cut_of(made: Deal, own: OwnSecrets, first: Commitments) -> Cut:
    """Return the one cut of a verifier's attempt."""
    return cut_by_hash(made.subject, first) if made.subject.by_hash else drawn_cut(own)


def drawn_cut(own: OwnSecrets) -> Cut:
    """Return the cut that a verifier draws, and commits to, before it has seen anything."""
    return draw_cut(CONSERVATIVE, own.drawn("cut") + own.drawn("cut-nonce"))


def outcomes_of(graph: Graph, attested: Attested) -> list[int]:
    """Return what was attested of each event."""
    outcomes = [0] * len(graph.terms.events)
    for place, value in attested.values.items():
        digit = graph.points.digit(place)
        outcomes[digit.event or 0] |= value << digit.low_bit
    return outcomes


def range_of(graph: Graph, outcomes: Sequence[int]) -> int:
    """Return the range that is right for outcomes."""
    return int(graph.terms.claim.range_of(np.array(outcomes)[:, None])[0])


def shown_txid(transaction: Transaction) -> str:
    """Return a transaction's id as people and file names have it."""
    return display_txid(transaction.txid)
