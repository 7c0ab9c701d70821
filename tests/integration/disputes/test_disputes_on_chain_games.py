"""Honest never loses and a liar always does: whole games, block by block, the other side first in every block.

A game is a template, who is honest, what the oracles told whom and when, what the other side does and when, how late
the honest side's transactions are mined, and which blocks are undone. Judge: Core's interpreter, and locks and coins
as ``dispute_games.Ledger`` counts them; the same roads stand in ``test_disputes_on_chain`` on two nodes.
``BTCFI_TEST_GAMES``: games a template instead of CI's few, from ``BTCFI_TEST_SEED`` on.
"""

import os
import random
from itertools import product

import pytest

from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.stages import Stage
from tests.support.dispute_games import (
    BLOCKS,
    CLAIM,
    REFUND,
    SILENCE,
    START,
    TEMPLATES,
    Liar,
    Player,
    contract_of,
    played,
    shortfalls,
)
from tests.support.shown import show

pytestmark = pytest.mark.integration

GAMES = int(os.environ.get("BTCFI_TEST_GAMES", "40"))
SEED = os.environ.get("BTCFI_TEST_SEED", "1")
SHORT = ["call", "call-lazy", "knock-out3-lazy"]
LONG = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("median3", "mean8", "mean30-lazy", "knock-out30-lazy")
]  # fmt: skip
P, V = Side.CLAIMANT, Side.VERIFIER


def told(name, which=0):
    """A template's contract, its outcomes and a set of oracles' attestations of them."""
    dispute, outcomes = contract_of(name), TEMPLATES[name].outcomes
    return dispute, outcomes, dispute.attested(outcomes, which)


def cuts_of(dice):
    return [(dice.randint(START + 1, REFUND + 40), dice.randint(1, 6)) for _ in range(dice.choice([0, 1, 1, 2]))]


def game(name, dice):
    """One random game: what each honest side lacks, and in words what was played."""
    dispute, outcomes, attested = told(name, dice.randrange(3))
    spoke = dice.random() < 0.85
    known = attested if spoke else None
    delay = dice.choice([0, 0, 1, 3, BLOCKS - 2])
    cuts = sorted(cuts_of(dice))
    since = dice.choice([START, CLAIM, CLAIM + BLOCKS // 2])
    if since > CLAIM:  # told late, it has half of the blocks
        delay = min(delay, BLOCKS // 2 - 1)
    who = dice.choice([None, P, V, P, V])
    honest = [Player(dispute, side, known, since) for side in Side if side is not who]
    numbers = range(len(dispute.terms.claim.payouts))
    liar, number = None, dice.choice(numbers)
    if who is not None:
        does = frozenset(one for one in ACTS[who] if dice.random() < 0.7)
        liar = Liar(
            dispute, who, known, number=number, does=does,
            quiet_until=dice.choice([0, 0, CLAIM, SILENCE, SILENCE + 1, REFUND, REFUND + 1, REFUND + 30]),
            then=dice.choice([None, *numbers]),
        )  # fmt: skip
    end = played(dispute, [*honest, *([liar] if liar else [])], delay=delay, cuts=cuts)
    lacks = shortfalls(dispute, end, outcomes if spoke else None)
    lying = liar and (who, liar.does, number, liar.then, liar.quiet_until)
    words = f"{name}, {lying}, {spoke=}, {since=}, {delay=}, {cuts=}: {end.stage}"
    return {side: lacks[side] for side in Side if side is not who}, words, end.stage


ACTS = {P: ("claim", "reveal", "refund"), V: ("silence", "challenge", "bond")}


@pytest.mark.parametrize("name", SHORT + LONG)
def test_who_is_honest_has_what_the_contract_gives_it_whatever_happens(name):
    dice, stages = random.Random(f"{SEED} {name}"), set()
    for _ in range(GAMES):
        lacks, words, stage = game(name, dice)
        assert not any(lacks.values()), f"{words}: {lacks}"
        stages.add(stage)
    show({"games": GAMES}, {"games": "games"})
    assert len(stages) > 2


@pytest.mark.parametrize("name", SHORT + LONG)
def test_every_wrong_range_loses_everything_before_and_after_a_claim_of_silence(name):
    dispute, outcomes, attested = told(name)
    right = dispute.right(outcomes)
    lies = [number for number in range(len(dispute.terms.claim.payouts)) if number != right]
    for number, quiet in product(lies, (0, SILENCE + 3)):
        liar = Liar(dispute, P, attested, number=number, quiet_until=quiet)
        end = played(dispute, [Player(dispute, V, attested), liar])
        assert end.stage is Stage.DISPROVED
        assert end.claimant == 0
        assert end.verifier >= dispute.locked - 5 * dispute.terms.costs - 900
    show({"lies": 2 * len(lies)}, {"lies": "lies"})


@pytest.mark.parametrize("name", SHORT + LONG)
@pytest.mark.parametrize("depth", range(1, 7))
def test_a_reorganisation_of_any_transaction_takes_nothing_from_who_is_honest(name, depth):
    """Each block of each road in turn is the last that is undone, a new claim stands in the new blocks."""
    dispute, outcomes, attested = told(name)
    right = dispute.right(outcomes)
    wrong = next(at for at, one in enumerate(dispute.terms.claim.payouts) if one != dispute.terms.claim.payouts[right])
    roads = [
        lambda: [Player(dispute, P, attested), Player(dispute, V, attested)],
        lambda: [Player(dispute, V, attested), Liar(dispute, P, attested, number=wrong, then=(wrong + 1) % 16)],
        lambda: [Player(dispute, V, attested), Liar(dispute, P, attested, quiet_until=REFUND + 60)],
        lambda: [Player(dispute, P, None), Liar(dispute, V, attested)],
    ]
    for road in roads:
        players = road()
        before = played(dispute, players)
        heights = [START + at for at, block in enumerate(before.ledger.blocks) if block and at]
        assert heights
        for height in heights:
            players = road()
            end = played(dispute, players, cuts=[(height + depth // 2, depth)])
            lacks = shortfalls(dispute, end, outcomes)
            honest = {one.side for one in players if isinstance(one, Player)}
            assert not any(lacks[side] for side in honest), (height, lacks, end.stage)


# ---- who is late


def late(name, side, delay, liar, *, known=True):
    """What an honest side lacks whose transactions are mined so much later."""
    dispute, outcomes, attested = told(name)
    made = liar(dispute, attested)
    end = played(dispute, [Player(dispute, side, attested if known else None), made], delay=delay)
    return shortfalls(dispute, end, outcomes)[side]


LATE = {
    "disproof": ("call", V, BLOCKS - 1, lambda d, a: Liar(d, P, a), 7_000_000),
    "challenge": ("call-lazy", V, BLOCKS - 1, lambda d, a: Liar(d, P, a), 7_000_000),
    "claim of silence": (
        "call", V, REFUND - SILENCE, lambda d, a: Liar(d, P, a, does=frozenset({"refund"})), 7_000_000,
    ),
    "answer to silence": ("call", P, BLOCKS - 1, lambda d, a: Liar(d, V, a), 7_000_000),
    "answer to a challenge": ("call-lazy", P, BLOCKS - 1, lambda d, a: Liar(d, V, a), 9_000_000),
}  # fmt: skip


@pytest.mark.parametrize("what", LATE)
def test_each_deadline_leaves_all_blocks_but_one_and_who_is_later_loses(what):
    """The last delay that costs nothing, and the first that does: the number of blocks is exact.

    An answer to silence waits for the claim of silence, so whoever claims late in general is told by that.
    """
    name, side, blocks, liar, least = LATE[what]
    known = what != "answer to silence"
    assert late(name, side, blocks - 1, liar, known=known) == 0
    assert late(name, side, blocks, liar, known=known) >= least


# ---- rules of honest play, each switched off


class Patient(Player):
    """Waits for the oracles, however long, before it objects to a claim that shows nothing."""

    def _objects(self, here, known, following):
        return known is not None and super()._objects(here, known, following)


class Late(Player):
    """Claims as soon as it can, however late that is."""

    def _claimant(self, ledger, here, known, ripe, following):
        found = super()._claimant(ledger, here, known, ripe, following)
        return "claim" if known is not None and found == "refund" else found


def test_a_claim_that_nothing_is_known_of_is_objected_to_while_there_is_time_or_it_is_paid():
    dispute, outcomes, attested = told("call-lazy")
    for verifier, lost in ((Player, 0), (Patient, 7_999_400)):
        end = played(dispute, [Liar(dispute, P, None), verifier(dispute, V, attested, since=CLAIM + 2 * BLOCKS)])
        assert shortfalls(dispute, end, outcomes)[V] == lost


class Cautious(Player):
    """Leaves its bond where it is until the contract has ended."""

    def _goes_home(self, ledger, here, following):
        return here.stage.ended and super()._goes_home(ledger, here, following)


def test_a_claimant_that_never_ends_a_contract_does_not_hold_the_verifier_s_bond():
    """Nothing that it could still claim needs the bond but its own answer: unanswered, it loses all."""
    dispute, _, _ = told("call-lazy")
    away = Liar(dispute, P, None, does=frozenset())
    for verifier, lost in ((Player, 0), (Cautious, dispute.terms.challenge_bond - 900)):
        end = played(dispute, [verifier(dispute, V, None), away])
        assert (end.stage, shortfalls(dispute, end, None)[V]) == (Stage.OPEN, lost)
    afterwards = Liar(dispute, P, None, quiet_until=dispute.terms.bond_height + 5, does=frozenset({"claim"}))
    end = played(dispute, [Player(dispute, V, None), afterwards])
    assert (end.stage, end.claimant) == (Stage.OVERDUE, 0)


def test_who_comes_too_late_to_answer_a_challenge_takes_the_refund_or_loses_all():
    """The verifier's bond has gone home by then, and digits are shown by spending it."""
    dispute, outcomes, attested = told("call-lazy")
    since = dispute.terms.bond_height
    for claimant, stage in ((Player, Stage.REFUNDED), (Late, Stage.OVERDUE)):
        end = played(dispute, [claimant(dispute, P, attested, since), Liar(dispute, V, None)], delay=0, idle=since)
        assert end.stage is stage
    on_time = dispute.terms.last_claim_height - 1
    end = played(dispute, [Player(dispute, P, attested, on_time), Liar(dispute, V, None)], delay=0, idle=on_time)
    assert (end.stage, shortfalls(dispute, end, outcomes)[P]) == (Stage.PAID, 0)
