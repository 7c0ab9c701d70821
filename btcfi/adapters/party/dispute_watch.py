"""Watching disputed contracts: look at the chain, and do what each needs of us, from the folder and the chain alone.

The same look again changes nothing: a stage says what is due, and the sender says whether it is to be sent, again or
dearer. What a reorganisation takes back is looked at anew. A folder from an older copy plays what it can, and names
what it lacks.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass

from btcfi.adapters.party.agreements import StepOutOfOrderError
from btcfi.adapters.party.dispute_claims import Claims
from btcfi.adapters.party.dispute_deals import UNSENT_SECONDS, Deals
from btcfi.adapters.party.dispute_files import ENDED, OPENED
from btcfi.adapters.party.dispute_room import DisputeRoom, outcomes_of, range_of, shown_txid
from btcfi.adapters.party.dispute_sending import Due, Sender
from btcfi.bitcoin.transaction import Transaction
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled import game, presign
from btcfi.disputes.garbled.deal import Deal
from btcfi.disputes.garbled.game import Duty, Position
from btcfi.disputes.garbled.graph import Graph, last_of
from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.garbled.setup import Judgement, Verdict
from btcfi.disputes.stages import Stage
from btcfi.errors import BtcfiError, NotFoundError
from btcfi.oracle.attestation import Attestation, WrongAttestationError, check_attestation
from btcfi.units import Height, Sats

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One contract after a look at the chain."""

    name: str
    side: Side | None
    """None where the folder has lost our seed, and with it which side it was."""
    position: Position | None
    """None before both sides' halves and the set-up are there."""
    duties: tuple[Duty, ...] = ()
    sent: str = ""
    """What we sent just now, in words; empty: nothing."""
    txid: str = ""
    problem: str = ""
    """Why something could not be done; it is tried again at the next look."""
    verdict: Verdict | None = None
    """Of a claim, on the verifier's side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """A contract as it is played: what is signed, and where it stands."""

    name: str
    made: Deal
    graph: Graph
    here: Position
    following: Height
    """The height of the next block, which may hold what is sent now."""

    @property
    def lock(self) -> Height:
        """The first block that may hold what waits for the blocks of a dispute."""
        return Height((self.here.at or 0) + self.graph.terms.dispute_blocks)

    @property
    def ripe(self) -> bool:
        """Whether it has waited so long."""
        return self.here.at is not None and self.following >= self.lock

    @property
    def read(self) -> tuple[int, bool]:
        """The claim's number and parent."""
        return self.here.number or 0, self.here.silent


_Did = tuple[str, Transaction] | None
"""What was sent, in a word; None: nothing."""


class Watch:
    """One party's watch over its disputed contracts."""

    def __init__(self, room: DisputeRoom, deals: Deals, claims: Claims, sender: Sender) -> None:
        self._room, self._deals, self._claims, self._sender = room, deals, claims, sender

    def watch(self) -> list[Report]:
        """Look at the chain, and do what each contract needs of us now."""
        return [self._watched(name) for name in self._room.files.names()]

    def keep(self, attestation: Attestation) -> bool:
        """Keep an attestation of an event of ours once it is checked; return whether it is of one.

        Contracts may have different announcements of one event, where an oracle lied; it is of one of them. Raises
        WrongAttestationError for what is of none.
        """
        store, said = self._room.store, (attestation.event, attestation.oracle_key)
        wrong: WrongAttestationError | None = None
        for announced in self._room.announced():
            if said != (announced.event.id, announced.oracle_key):
                continue
            try:
                check_attestation(attestation, announced)
            except WrongAttestationError as e:
                wrong = e
                continue
            if said not in store.attestations():  # the first one counts: a second is the oracle's lie
                store.keep_attestation(attestation)
            return True
        if wrong is not None:
            raise wrong
        return False

    def show(self, name: str) -> Report:
        """Return where a contract stands; nothing is sent."""
        room = self._room
        side = room.files.side_of(name)
        if not self._is_set_up(name):
            return Report(name=name, side=side, position=None, problem=self._lacking(name))
        _, graph = room.graph(name, room.deal(name))
        here = room.position(name, graph)
        return Report(name=name, side=side, position=here, duties=tuple(game.clock(graph, here)))

    def shown(self) -> list[Report]:
        """Return where all contracts stand; of one that cannot be read, why. Nothing is sent."""
        return [self._without_problem(name) for name in self._room.files.names()]

    def _is_set_up(self, name: str) -> bool:
        files = self._room.files
        return files.find(name, "acceptance") is not None and files.find(name, "commitments") is not None

    def _lacking(self, name: str) -> str:
        """Return what a folder from an older copy lacks of a contract that is opened; nothing for one being set up."""
        opening = self._room.opened_by(name)
        if opening is None:
            return ""
        return (
            f"a block holds its opening, {shown_txid(opening)}: this folder is a copy from before it was agreed. The "
            "other side says its messages again, `btcfi dispute message`, and `btcfi dispute sign` takes each up"
        )

    def _watched(self, name: str) -> Report:
        try:
            if self._room.files.find(name, ENDED) is not None:
                return self.show(name)
            self._let_lapse(name)
            return self._played(name)
        except (
            BtcfiError,
            OSError,
        ) as e:  # one contract must not hold up the others; it is tried again at the next look
            log.warning("dispute %s: %s", name[:16], e)
            shown = self._without_problem(name)
            return Report(
                name=name, side=shown.side, position=shown.position, duties=shown.duties, problem=str(e)
            )  # fmt: skip

    def _let_lapse(self, name: str) -> None:
        """Free the coins of what was not signed in its time; it is looked at all the same: a copy may have signed."""
        room = self._room
        if room.files.is_over(name) or room.may_be_opened(name):
            return
        late = room.clock() >= room.proposal(name).draft.valid_until + UNSENT_SECONDS
        if late and room.opened_by(name) is None:
            self._deals.withdraw(name)

    def _without_problem(self, name: str) -> Report:
        try:
            return self.show(name)
        except (BtcfiError, OSError) as e:
            return Report(name=name, side=self._room.files.find_side(name), position=None, problem=str(e))

    def _played(self, name: str) -> Report:
        room, side = self._room, self._room.files.side_of(name)
        if not self._is_set_up(name):
            return self.show(name)
        made = room.deal(name)
        _, graph = room.graph(name, made)
        spends, opening = room.spends(name, graph)
        here = game.position(graph, spends, opening)
        if opening is not None and room.files.find(name, OPENED) is None:
            room.files.put_transaction(name, "opening", opening[0])  # a reorganisation may take it back
            room.files.put(name, OPENED, {"opened": True})
        if room.is_final(made, graph, spends, here):
            room.files.put(name, ENDED, {"stage": here.stage.value})  # the coins of its children are free again
        look = _Look(name=name, made=made, graph=graph, here=here, following=Height(room.node.block_count() + 1))
        if here.stage is Stage.UNOPENED:
            did, verdict = self._tend_opening(look), None
        elif side is Side.CLAIMANT:
            did, verdict = self._play_claimant(look), None
        else:
            did, verdict = self._play_verifier(look)
        return Report(
            name=name, side=side, position=here, duties=tuple(game.clock(graph, here)), verdict=verdict,
            sent="" if did is None else did[0], txid="" if did is None else shown_txid(did[1]),
        )  # fmt: skip

    # ---- before the opening is in a block

    def _tend_opening(self, look: _Look) -> _Did:
        """Send a signed opening again that a node has forgotten; take our coins home where it is kept back."""
        room, name = self._room, look.name
        opening, _ = room.graph(name, look.made)
        if not room.may_be_opened(name) or room.files.is_over(name):
            return None
        home = room.files.find_transaction(name, "home")
        if home is not None:
            return None if self._deals.waits(home) else self._again("home", home, look)
        was_opened = room.files.find(name, OPENED) is not None  # then it is sent again, whatever is known by now
        if not was_opened and self._deals.is_kept_back(look.made, opening.transaction):
            return "home", self._deals.cancel(name)
        ours = room.opening(name)
        return None if ours is None or self._deals.waits(ours) else self._again("opening", ours, look)

    def _again(self, what: str, transaction: Transaction, look: _Look) -> _Did:
        coins = [one.outpoint for one in transaction.inputs]
        if None in self._room.node.unspent_many(coins, include_pool=False):
            return None  # a block spent one: the blocks say what became of it
        self._room.node.send(transaction)
        log.info("dispute %s: the %s is sent again", look.name[:16], what)
        return what, transaction

    # ---- the claimant

    def _play_claimant(self, look: _Look) -> _Did:
        here, terms = look.here, look.graph.terms
        if here.stage in {Stage.OPEN, Stage.SILENT}:
            return self._claim_or_refund(look)
        if here.stage is Stage.HELD and look.ripe:
            theirs = self._room.claims(look.name, look.graph)
            both = self._room.own(look.name)["both"]
            release = presign.build_release(look.graph, theirs, look.read, both=both)
            return self._pay(look, "release", release, stake=release.outputs[0].value, until=None)
        if here.stage is Stage.CHALLENGED:
            return self._reveal(look)
        if here.stage in {Stage.CLAIMED, Stage.REVEALED} and look.ripe and here.last is not None:
            last, own, script = here.last, self._room.own(look.name)["payout"], self._room.wallet.script
            return self._swept(
                "payout",
                self._sender.sweep(
                    look.name, "payout", last_of(last),
                    lambda fee: presign.build_payout(look.graph, last, payout=own, script=script, fee=fee),
                    until=Height(look.lock + terms.dispute_blocks),
                ),
            )  # fmt: skip
        return None

    def _claim_or_refund(self, look: _Look) -> _Did:
        room, here, terms = self._room, look.here, look.graph.terms
        attested, late = room.known(look.name, look.graph, here), terms.is_late(look.following)
        if attested is not None and look.following > terms.claim_height and not late:
            claim, sent = self._claims.send(look.name, look.made, look.graph, here, attested)
            return ("claim", claim) if sent else None
        if here.stage is Stage.OPEN and (attested is None or late) and look.following > terms.refund_height:
            theirs, both = room.claims(look.name, look.graph), room.own(look.name)["both"]
            refund = presign.build_refund(look.graph, theirs, both=both)
            # a silence that waits is answered, not raced; but one that no block ever takes must not keep our coins
            yields = look.following <= terms.refund_height + terms.dispute_blocks
            return self._pay(look, "refund", refund, stake=refund.outputs[0].value, until=None, yields=yields)
        return None

    def _reveal(self, look: _Look) -> _Did:
        room, graph = self._room, look.graph
        attested = room.known(look.name, graph, look.here)
        if attested is None:
            raise NotFoundError("attestations", look.name[:16], "those that were claimed")
        self._claims.write(look.name, look.made, graph, attested)  # the digits of the claim that we signed, no others
        own = room.own(look.name)
        reveal = presign.build_reveal(
            graph, room.claims(look.name, graph), room.garbler(look.name, look.made), look.read, attested=attested,
            claim=own["claim"], both=own["both"],
        )  # fmt: skip
        return self._pay(look, "reveal", reveal, stake=reveal.outputs[0].value, until=look.lock)

    # ---- the verifier

    def _play_verifier(self, look: _Look) -> tuple[_Did, Verdict | None]:
        did, verdict = self._answer(look)
        terms = look.graph.terms
        # also of a contract that the claimant never ends: unanswered, whatever it still claims loses it everything
        if did is None and terms.is_lazy and look.here.stage is not Stage.CHALLENGED:
            did = self._bond_home(look) if look.following > terms.bond_height else None
        return did, verdict

    def _answer(self, look: _Look) -> tuple[_Did, Verdict | None]:
        here, terms, own = look.here, look.graph.terms, self._room.own(look.name)
        if here.stage is Stage.OPEN and terms.silence_height < look.following:
            return self._silence(look), None
        if here.stage is Stage.SILENT and look.ripe:
            end = presign.build_silent_end(
                look.graph, self._room.silence(look.name, look.graph), both=own["both"]
            )  # fmt: skip
            return self._pay(look, "silent end", end, stake=terms.collateral, until=None), None
        if here.stage is Stage.HELD:
            return self._answer_held(look)
        if here.stage is Stage.CHALLENGED and look.ripe and here.last is not None:
            return self._overdue(look, here.last, own["overdue"]), None
        if here.stage in {Stage.CLAIMED, Stage.REVEALED} and here.last is not None:
            return self._disprove(look, here.last)
        return None, None

    def _silence(self, look: _Look) -> _Did:
        attested, terms = self._room.attested(look.graph), look.graph.terms
        if attested is None:
            return None
        theirs, claim = self._room.silence(look.name, look.graph), self._room.own(look.name)["claim"]
        silence = presign.build_silence(look.graph, theirs, attested=attested, claim=claim)
        # a claim that waits is answered, not raced; but one that never comes must not last until the refund
        yields = 2 * look.following < terms.silence_height + terms.refund_height
        return self._pay(
            look, "silence", silence, stake=terms.collateral, until=terms.refund_height, yields=yields
        )  # fmt: skip

    def _answer_held(self, look: _Look) -> tuple[_Did, Verdict | None]:
        attested = self._room.known(look.name, look.graph, look.here)
        # what shows no digits needs no attestations: a liar claims before there are any, or where none come. Half of
        # the blocks they are waited for; then who claims must show them: a bond is less than what a lie takes
        if attested is None and 2 * (look.following - (look.here.at or 0)) < look.graph.terms.dispute_blocks:
            raise NotFoundError(
                "attestations", look.name[:16], "without them the claim is challenged after half of its blocks"
            )
        # sets of oracles may say different prices: whoever can show the digits of any takes the bond of a challenge
        said = [*self._room.every_attested(look.graph), *([] if attested is None else [attested])]
        if look.here.number in {range_of(look.graph, outcomes_of(look.graph, one)) for one in said}:
            return None, Verdict.RIGHT
        theirs, both = self._room.silence(look.name, look.graph), self._room.own(look.name)["both"]
        challenge = presign.build_challenge(look.graph, theirs, look.read, both=both)
        stake = last_of(challenge)[1].value
        return self._pay(look, "challenge", challenge, stake=stake, until=look.lock), None

    def _overdue(self, look: _Look, challenge: Transaction, secret: bytes) -> _Did:
        script = self._room.wallet.script
        return self._swept(
            "overdue",
            self._sender.sweep(
                look.name, "overdue", last_of(challenge),
                lambda fee: presign.build_overdue(look.graph, challenge, overdue=secret, script=script, fee=fee),
                    until=Height(look.lock + look.graph.terms.dispute_blocks),
            ),
        )  # fmt: skip

    def _disprove(self, look: _Look, last: Transaction) -> tuple[_Did, Verdict]:
        judgement = self._judged(look)
        fault = judgement.secret
        if judgement.verdict is not Verdict.CONVICTED or fault is None:
            return None, judgement.verdict
        own, script = self._room.own(look.name)["escrow"], self._room.wallet.script
        made = self._sender.sweep(
            look.name, "disproof", last_of(last),
            lambda fee: presign.build_disproof(
                look.graph, last, fault=fault, escrow=own, script=script, fee=fee, entropy=secrets.token_bytes(64)
            ),
                    until=look.lock,
        )  # fmt: skip
        return self._swept("disproof", made), judgement.verdict

    def _bond_home(self, look: _Look) -> _Did:
        if self._room.node.unspent(look.graph.bond, include_pool=False) is None:
            return None
        bond, script = self._room.own(look.name)["bond"], self._room.wallet.script
        held = look.graph.bond, look.graph.open_txouts[1]
        made = self._sender.sweep(
            look.name, "bond home", held,
            lambda fee: presign.build_bond_home(look.graph, bond=bond, script=script, fee=fee),
        )  # fmt: skip
        return self._swept("bond home", made)

    def _judged(self, look: _Look) -> Judgement:
        here, room = look.here, self._room
        if here.claim is None or here.last is None:
            raise StepOutOfOrderError(look.name, "a claim in a block")
        ours = room.claims(look.name, look.graph)
        found = presign.read_claim(look.graph, ours, here.claim)
        if here.stage is Stage.REVEALED:
            found = found.joined(presign.read_reveal(look.graph, ours, here.last))
        openings = wire.decode_letter(room.files.find(look.name, "openings"))
        return room.kept(look.name, look.made, openings).judge(*found.named(look.graph))

    # ---- sending

    def _pay(
        self, look: _Look, what: str, transaction: Transaction, *, stake: Sats, until: Height | None,
        yields: bool = False,
    ) -> _Did:  # fmt: skip
        due = Due(
            what=what, transaction=transaction, fee=look.graph.terms.fee, stake=stake, until=until, yields=yields
        )  # fmt: skip
        return (what, transaction) if self._sender.pay(look.name, due) else None

    def _swept(self, what: str, made: Transaction | None) -> _Did:
        return None if made is None else (what, made)
