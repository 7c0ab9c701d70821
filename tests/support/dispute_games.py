"""Games of a disputed contract, block by block: who plays, what of it is mined, and what each side has at the end.

The judge is Core's interpreter; locks, coins and amounts are checked here, by the rules of BIP65, BIP68 and consensus.
Who is honest sees the chain alone, by the product's own readers (``game.position``, ``presign.read_…``), and waits
``delay`` blocks for whatever it sends; who is not has its transactions in every block first. A block undone is a list
cut off, so a game of a hundred blocks with reorganisations costs milliseconds.
"""

from dataclasses import dataclass, field, replace
from functools import cache

from btcfi import secp256k1
from btcfi.adapters.consensus import scripts_hold
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn
from btcfi.disputes.claims import knock_out_claim, mean_claim, median_claim, price_claim
from btcfi.disputes.garbled import presign
from btcfi.disputes.garbled.chains import bits_of, total
from btcfi.disputes.garbled.game import position
from btcfi.disputes.garbled.graph import Graph
from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.garbled.setup import Verdict
from btcfi.disputes.stages import Stage
from btcfi.errors import BtcfiError
from btcfi.oracle.attestation import attest
from btcfi.units import Height, Sats, Txid
from tests.support.disputing import RANGES, Dispute, secret

START, CLAIM, SILENCE, REFUND, BLOCKS = 100, 104, 120, 140, 12
"""Heights of every game: its opening is in block START."""

FEE = 300
"""Of each sweep at the end."""

_DISABLED, _SECONDS = 1 << 31, 1 << 22

SPOT = 67_890
MINUTES = [67_000 + 37 * minute for minute in range(30)]


@dataclass(frozen=True)
class Template:
    """One kind of contract, with the outcomes that its games are about."""

    name: str
    claim: object
    outcomes: tuple[int, ...]
    other: tuple[int, ...]
    """What a corrupt oracle would rather have: every digit of it pays another range."""
    lazy: bool


TEMPLATES = {
    one.name: one
    for one in (
        Template("call", lambda: price_claim(RANGES), (SPOT,), (60_500,), lazy=False),
        Template("call-lazy", lambda: price_claim(RANGES), (SPOT,), (60_500,), lazy=True),
        Template("median3", lambda: median_claim(RANGES, 3), (SPOT, 61_234, 71_717), (60_500,) * 3, lazy=False),
        Template(
            "knock-out3-lazy", lambda: knock_out_claim(RANGES, 3, barrier=75_000, up=True, rebate=Sats(0)),
            (61_000, 62_000, 59_000), (61_000, 62_000, 70_000), lazy=True,
        ),
        Template("mean8", lambda: mean_claim(RANGES, 8), tuple(MINUTES[:8]), (60_500,) * 8, lazy=False),
        Template("mean30-lazy", lambda: mean_claim(RANGES, 30), tuple(MINUTES), (60_500,) * 30, lazy=True),
        Template(
            "knock-out30-lazy", lambda: knock_out_claim(RANGES, 30, barrier=68_000, up=True, rebate=Sats(0)),
            tuple(MINUTES), (60_500,) * 30, lazy=True,
        ),
    )
}  # fmt: skip


@cache
def contract_of(name):
    """A template's contract, signed by both; one for all games of a process."""
    template = TEMPLATES[name]
    dispute = Dispute(
        template.claim(), claim_height=CLAIM if template.lazy else 0, silence=SILENCE, refund=REFUND, blocks=BLOCKS
    )  # fmt: skip
    outputs = Graph(dispute.terms, dispute.commitments).open_txouts
    coin = TxIn(outpoint=OutPoint(txid=Txid(secret("coin", name)), index=0))
    dispute.opening = Transaction(version=2, inputs=(coin,), outputs=outputs)
    dispute.signed(dispute.opening.txid)
    return dispute


class Ledger:
    """A chain of which one contract is known: coins, and the heights that they are from."""

    def __init__(self, dispute):
        self.dispute, self.blocks, self._here = dispute, [[dispute.opening]], {}
        coins = {OutPoint(txid=dispute.opening.txid, index=at): one for at, one in enumerate(dispute.opening.outputs)}
        self._coins = [{coin: (one, START) for coin, one in coins.items()}]

    @property
    def height(self):
        return START + len(self.blocks) - 1

    @property
    def coins(self):
        return self._coins[-1]

    @property
    def spends(self):
        """What spends which coin, as ``game.position`` takes it."""
        return {
            txin.outpoint: (one, Height(START + at))
            for at, block in enumerate(self.blocks)
            for one in block
            for txin in one.inputs
        }

    @property
    def here(self):
        """Where the contract stands, by the product's own reader."""
        key = tuple((at, one.txid) for at, block in enumerate(self.blocks) for one in block)
        if key not in self._here:
            opening = (self.dispute.opening, Height(START))
            self._here[key] = position(self.dispute.graph, self.spends, opening)
        return self._here[key]

    def refusal(self, transaction, coins=None):
        """Why the next block cannot hold a transaction; nothing: it can."""
        coins, following = self.coins if coins is None else coins, self.height + 1
        if any(txin.outpoint not in coins for txin in transaction.inputs):
            return "missing or spent"
        spent = [coins[txin.outpoint] for txin in transaction.inputs]
        if transaction.lock_time >= following and any(txin.sequence != 0xFFFFFFFF for txin in transaction.inputs):
            return "not final"
        for txin, (_, height) in zip(transaction.inputs, spent, strict=True):
            if txin.sequence & _DISABLED:
                continue
            if txin.sequence & _SECONDS or following < height + (txin.sequence & 0xFFFF):
                return "not final after its coin"
        if sum(one.value for one, _ in spent) < sum(one.value for one in transaction.outputs):
            return "pays more than it spends"
        return "" if scripts_hold(transaction, [one for one, _ in spent]) else "script"

    def mine(self, transactions):
        """Mine a block of what it can hold, in this order; return what is in it."""
        coins, block = dict(self.coins), []
        for one in transactions:
            if not self.refusal(one, coins):
                for txin in one.inputs:
                    del coins[txin.outpoint]
                for at, txout in enumerate(one.outputs):
                    coins[OutPoint(txid=one.txid, index=at)] = txout, self.height + 1
                block.append(one)
        self.blocks.append(block)
        self._coins.append(coins)
        return block

    def undo(self, depth):
        """Take the last blocks back; the opening's own stays."""
        keep = max(1, len(self.blocks) - depth)
        del self.blocks[keep:], self._coins[keep:]

    def owned(self, script):
        """What pays to a script."""
        return sum(one.value for one, _ in self.coins.values() if one.script == script)


class Player:
    """One honest side, from the chain and what the oracles told it."""

    def __init__(self, dispute, side, known, since=START):
        """known: outcomes as a set of oracles attested them, or None. since: told when this block is mined."""
        self.dispute, self.side, self.known, self.since, self._made = dispute, side, known, since, {}

    def wants(self, ledger):
        """The transaction that it would have in the next block, or None."""
        here = ledger.here
        ripe, following = ledger.height + 1 >= (here.at or 0) + BLOCKS, ledger.height + 1
        known = self.known if self.known is not None and ledger.height >= self.since else None
        key = here.stage, here.last.txid, known is None
        play = self._claimant if self.side is Side.CLAIMANT else self._verifier
        what = play(ledger, here, known, ripe, following)
        if what is None:
            return None
        if (key, what) not in self._made:
            self._made[key, what] = getattr(self, f"_{what}")(ledger, here, known)
        return self._made[key, what]

    def _claimant(self, ledger, here, known, ripe, following):
        """What the claimant does now: the name of a method."""
        terms = self.dispute.terms
        known = self._told(ledger, known)
        late = terms.is_late(following)
        if here.stage in {Stage.OPEN, Stage.SILENT}:
            if known is not None and following > terms.claim_height and not late:
                return "claim"
            return "refund" if here.stage is Stage.OPEN and following > terms.refund_height else None
        if here.stage is Stage.HELD and ripe:
            return "release"
        if here.stage is Stage.CHALLENGED and known is not None:
            return "reveal"
        return "payout" if here.stage in {Stage.CLAIMED, Stage.REVEALED} and ripe else None

    def _verifier(self, ledger, here, known, ripe, following):
        """What the verifier does now: the name of a method."""
        terms = self.dispute.terms
        if here.stage is Stage.OPEN and following > terms.silence_height and known is not None:
            return "silence"
        if here.stage is Stage.SILENT and ripe:
            return "end"
        if here.stage is Stage.HELD and self._objects(here, known, following):
            return "challenge"
        if here.stage is Stage.CHALLENGED and ripe:
            return "overdue"
        if here.stage in {Stage.CLAIMED, Stage.REVEALED}:
            return "disproof"
        return "bond" if self._goes_home(ledger, here, following) else None

    def _goes_home(self, ledger, here, following):
        """Whether the bond is taken home: also of a contract that the claimant never ends, which else would hold it."""
        terms = self.dispute.terms
        late = terms.is_lazy and following > terms.bond_height and here.stage is not Stage.CHALLENGED
        return late and self.dispute.graph.bond in ledger.coins

    def _told(self, ledger, known):
        dispute, graph = self.dispute, self.dispute.graph
        silence = ledger.spends.get(graph.coin, (None,))[0]
        if known is None and silence is not None and silence.txid == graph.silence.txid:
            return presign.read_silence(graph, dispute.of_silence, silence)
        return known

    def _objects(self, here, known, following):
        if known is None:
            return following >= here.at + (BLOCKS + 1) // 2
        return here.number != self.dispute.right(outcomes_of(self.dispute.graph, known))

    def _claim(self, ledger, here, known):
        known = self._told(ledger, known)
        number = self.dispute.right(outcomes_of(self.dispute.graph, known))
        return self.dispute.claimed(number, known, silent=here.stage is Stage.SILENT)

    def _refund(self, _ledger, _here, _known):
        return presign.build_refund(self.dispute.graph, self.dispute.of_claims, both=self.dispute.p.both)

    def _release(self, _ledger, here, _known):
        read = here.number, here.silent
        return presign.build_release(self.dispute.graph, self.dispute.of_claims, read, both=self.dispute.p.both)

    def _reveal(self, ledger, here, known):
        dispute = self.dispute
        return presign.build_reveal(
            dispute.graph, dispute.of_claims, dispute.garbler, (here.number, here.silent),
            attested=self._told(ledger, known), claim=dispute.p.claim, both=dispute.p.both,
        )  # fmt: skip

    def _payout(self, _ledger, here, _known):
        return payout_of(self.dispute, here)

    def _silence(self, _ledger, _here, known):
        dispute = self.dispute
        return presign.build_silence(dispute.graph, dispute.of_silence, attested=known, claim=dispute.v.claim)

    def _end(self, _ledger, _here, _known):
        return presign.build_silent_end(self.dispute.graph, self.dispute.of_silence, both=self.dispute.v.both)

    def _challenge(self, _ledger, here, _known):
        read = here.number, here.silent
        return presign.build_challenge(self.dispute.graph, self.dispute.of_silence, read, both=self.dispute.v.both)

    def _overdue(self, _ledger, here, _known):
        return overdue_of(self.dispute, here)

    def _bond(self, _ledger, _here, _known):
        return bond_home_of(self.dispute)

    def _disproof(self, _ledger, here, _known):
        dispute, graph = self.dispute, self.dispute.graph
        found = presign.read_claim(graph, dispute.of_claims, here.claim)
        if here.stage is Stage.REVEALED:
            found = found.joined(presign.read_reveal(graph, dispute.of_claims, here.last))
        judgement = dispute.kept.judge(*found.named(graph))
        assert judgement.verdict is not Verdict.CHEATED_AT_SETUP
        if judgement.verdict is Verdict.RIGHT:
            return None
        return presign.build_disproof(
            graph, here.last, fault=judgement.secret, escrow=dispute.v.escrow, script=dispute.v.wallet.script,
            fee=Sats(FEE), entropy=secret("one", here.last.txid) + secret("other", here.last.txid),
        )  # fmt: skip


def payout_of(dispute, here):
    """The escrow to the claimant."""
    return presign.build_payout(
        dispute.graph, here.last, payout=dispute.p.payout, script=dispute.p.wallet.script, fee=Sats(FEE)
    )  # fmt: skip


def overdue_of(dispute, here):
    """What was not shown to the verifier."""
    return presign.build_overdue(
        dispute.graph, here.last, overdue=dispute.v.overdue, script=dispute.v.wallet.script, fee=Sats(FEE)
    )  # fmt: skip


def bond_home_of(dispute):
    """The verifier's bond to the verifier."""
    return presign.build_bond_home(
        dispute.graph, bond=dispute.v.bond, script=dispute.v.wallet.script, fee=Sats(FEE)
    )  # fmt: skip


def taken_alone(dispute, here):
    """The escrow to the verifier, by its own key: it knows no fault secret."""
    home = payout_of(dispute, here)
    home = replace(home, outputs=tuple(replace(one, script=dispute.v.wallet.script) for one in home.outputs))
    return home.with_witness(0, [secp256k1.schnorr_sign(dispute.v.escrow, secret("anything"))])


@dataclass
class Liar:
    """A side that plays whatever it likes, as soon as it holds, and first in every block."""

    dispute: object
    side: Side
    attested: object
    """Of some set of oracles, or None."""
    number: int = 0
    """The claimant's claim."""
    quiet_until: int = 0
    """Nothing of it is seen before."""
    does: frozenset = frozenset({"claim", "reveal", "sweep", "refund", "silence", "challenge", "bond"})
    then: int | None = None
    """The range that it claims once a block was undone."""
    _made: dict = field(default_factory=dict)

    def moves(self, ledger):
        """Return everything that it can have in the next block."""
        if ledger.height + 1 < self.quiet_until:
            return []
        found = list(self._claimant(ledger) if self.side is Side.CLAIMANT else self._verifier(ledger))
        return [one for one in found if not ledger.refusal(one)]

    def _once(self, what, make):
        if what not in self._made:
            try:
                self._made[what] = make()
            except BtcfiError:
                self._made[what] = None
        return [] if self._made[what] is None else [self._made[what]]

    def _claimant(self, ledger):
        dispute, graph, attested = self.dispute, self.dispute.graph, self.attested
        here = ledger.here
        if "claim" in self.does and (attested is not None or graph.terms.is_lazy):
            for silent in (False, True):
                yield from self._once(
                    ("claim", self.number, silent),
                    lambda silent=silent: dispute.claimed(self.number, attested, silent=silent),
                )
        if "refund" in self.does:
            yield from self._once("refund", lambda: presign.build_refund(graph, dispute.of_claims, both=dispute.p.both))
        if here.number is None:
            return
        read = (here.number, here.silent)
        if here.stage is Stage.HELD:
            yield from self._once(
                ("release", read), lambda: presign.build_release(graph, dispute.of_claims, read, both=dispute.p.both)
            )
        if "reveal" in self.does and attested is not None and here.stage is Stage.CHALLENGED:
            yield from self._once(
                ("reveal", read),
                lambda: presign.build_reveal(
                    graph, dispute.of_claims, dispute.garbler, read, attested=attested, claim=dispute.p.claim,
                    both=dispute.p.both,
                ),
            )  # fmt: skip
        if here.stage in {Stage.CLAIMED, Stage.REVEALED}:
            yield payout_of(dispute, here)

    def _verifier(self, ledger):
        dispute, graph = self.dispute, self.dispute.graph
        here = ledger.here
        if "silence" in self.does and self.attested is not None:
            yield from self._once(
                "silence",
                lambda: presign.build_silence(graph, dispute.of_silence, attested=self.attested, claim=dispute.v.claim),
            )
        yield from self._once("end", lambda: presign.build_silent_end(graph, dispute.of_silence, both=dispute.v.both))
        if "bond" in self.does and graph.terms.is_lazy:
            yield bond_home_of(dispute)
        if here.number is None:
            return
        read = (here.number, here.silent)
        if "challenge" in self.does and here.stage is Stage.HELD:
            yield from self._once(
                ("challenge", read),
                lambda: presign.build_challenge(graph, dispute.of_silence, read, both=dispute.v.both),
            )
        if here.stage is Stage.CHALLENGED:
            yield overdue_of(dispute, here)
        if here.stage in {Stage.CLAIMED, Stage.REVEALED}:
            yield taken_alone(dispute, here)


@dataclass(frozen=True)
class End:
    """What each side has when a game is over."""

    claimant: int
    verifier: int
    stage: Stage
    ledger: Ledger


def played(dispute, players, *, delay=0, cuts=(), idle=START):
    """Play a game to its end. delay: blocks that an honest transaction waits. cuts: heights, and depths undone there.
    idle: who is honest is away until this block.

    players: honest ones and at most one liar.
    """
    ledger, waiting, cuts = Ledger(dispute), {}, list(cuts)
    honest = [one for one in players if isinstance(one, Player)]
    liars = [one for one in players if isinstance(one, Liar)]
    last = dispute.terms.bond_height + 8 * BLOCKS
    while ledger.height < last:
        block = [move for liar in liars for move in liar.moves(ledger)]
        for one in honest:
            wanted = one.wants(ledger)
            if wanted is None or ledger.height < idle:
                continue
            waiting.setdefault(wanted.txid, ledger.height + 1)
            if ledger.height + 1 >= waiting[wanted.txid] + delay:
                block.append(wanted)
        ledger.mine(block)
        if cuts and ledger.height >= cuts[0][0]:
            ledger.undo(cuts.pop(0)[1])
            waiting = dict.fromkeys(waiting, 0)  # what was ready is in the pool, and in the next block
            for liar in liars:
                liar.number = liar.number if liar.then is None else liar.then
        here = ledger.here
        over = here.stage.ended and not (dispute.terms.is_lazy and dispute.graph.bond in ledger.coins)
        if over and not cuts:
            break
    return End(
        claimant=ledger.owned(dispute.p.wallet.script), verifier=ledger.owned(dispute.v.wallet.script),
        stage=here.stage, ledger=ledger,
    )  # fmt: skip


def outcomes_of(graph, attested):
    """The outcomes that a set of oracles attested, event by event."""
    found = [0] * len(graph.terms.events)
    for place, value in attested.values.items():
        digit = graph.points.digit(place)
        found[digit.event or 0] |= value << digit.low_bit
    return found


def owed(dispute, outcomes):
    """What the verifier is owed of outcomes; nothing where there are none."""
    return 0 if outcomes is None else dispute.terms.claim.payouts[dispute.right(outcomes)]


def shortfalls(dispute, end, outcomes, *, bond_spent=0):
    """What each side lacks of what the contract gives it, besides fees: the largest that a game can cost it."""
    due, terms = owed(dispute, outcomes), dispute.terms
    fees = {Side.CLAIMANT: 5 * terms.costs + 2 * FEE, Side.VERIFIER: 3 * FEE}
    return {
        Side.CLAIMANT: max(0, terms.locked - due - fees[Side.CLAIMANT] - end.claimant),
        Side.VERIFIER: max(0, due + terms.challenge_bond - bond_spent - fees[Side.VERIFIER] - end.verifier),
    }


class Several:
    """A ledger of an oracle that signs whatever it is asked to."""

    def claim(self, *, oracle_key, event, outcome):
        """Return the outcome, whatever was signed before."""
        return outcome


def signed_by(dispute, oracle, outcomes, digits=None):
    """What an oracle signs of each event: by digit and bit, a scalar. digits: only the first so many of each event."""
    found = []
    for event, outcome in zip(dispute.announcements, outcomes, strict=True):
        one = attest(dispute.secrets[oracle], event[oracle], outcome, Several())
        count = len(one.signatures)
        bits = [(at, outcome >> (count - 1 - at) & 1) for at in range(count)][:digits]
        found.append({(at, bit): one.signatures[at][32:] for at, bit in bits})
    return found


def best_of(dispute, which, outcomes, signed):
    """What a set of oracles' scalars make of outcomes: where one is missing, that of the other bit, or a made-up one.

    signed: of each oracle a list of what it signed, as ``signed_by`` gives it.
    """
    graph, values, secrets = dispute.graph, {}, {}
    for place in graph.points.priced_places:
        digit = graph.points.digit(place)
        event = digit.event
        values[place] = outcomes[event] >> digit.low_bit & (1 << digit.width) - 1
        count = graph.terms.events[event][0].event.signed_digits
        parts = []
        for oracle in graph.terms.sets[which]:
            has = {key: one for said in reversed(signed.get(oracle, [])) for key, one in said[event].items()}
            parts += [
                has.get((at, bit)) or has.get((at, 1 - bit)) or secret("made up", oracle, place, at)
                for at, bit in bits_of(digit, values[place], count)
            ]
        secrets[place] = total(parts)
    return presign.Attested(which=which, values=values, secrets=secrets)
