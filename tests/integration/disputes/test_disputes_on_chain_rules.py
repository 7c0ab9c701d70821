"""Rules of the graph: what may share an output, how many blocks each answer has, what a claim may be said by."""

from dataclasses import dataclass, replace

import pytest

from btcfi.bitcoin.fees import DUST_P2TR
from btcfi.bitcoin.transaction import Transaction
from btcfi.disputes.circuit import CircuitBuilder, Digit
from btcfi.disputes.claims import MAX_EVENTS, Claim, Ranges, Shape, mean_claim, price_claim
from btcfi.disputes.garbled.chains import with_chain
from btcfi.disputes.garbled.graph import Graph
from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.garbled.presign import read_claim
from btcfi.disputes.garbled.setup import Commitments, Verdict
from btcfi.disputes.garbled.terms import FIRST_TIME
from btcfi.errors import InvalidInputError
from btcfi.units import Height, Sats, Txid
from tests.support.dispute_games import BLOCKS, REFUND, SILENCE, START, contract_of, overdue_of, payout_of
from tests.support.disputing import RANGES, Dispute, secret

pytestmark = pytest.mark.integration

FINE = Ranges(
    starts=(0, *range(60_000, 60_000 + 64 * 256, 64)), payouts=tuple(Sats(62_500 * at) for at in range(257))
)  # fmt: skip
TRUC_MAX = 10_000


# ---- what shares an output


@dataclass(frozen=True)
class Spend:
    """One transaction that can spend an output."""

    name: str
    by: Side
    wins: bool
    """Whether it ends the game for ``by``, else the game goes on."""
    transaction: Transaction


@dataclass(frozen=True)
class Here:
    """What building a sweep asks of a position."""

    last: Transaction


def spends_of(dispute):
    """Every output that is played for, and what can spend it; a disproof is apart: it needs a lie and no time."""
    graph, p, v = dispute.graph, Side.CLAIMANT, Side.VERIFIER
    found = {
        "open": [
            Spend("claim", p, wins=False, transaction=graph.claim(0)),
            Spend("silence", v, wins=False, transaction=graph.silence),
            Spend("refund", p, wins=True, transaction=graph.refund),
        ],
        "silent": [
            Spend("claim", p, wins=False, transaction=graph.claim(0, silent=True)),
            Spend("end", v, wins=True, transaction=graph.silent_end),
        ],
    }
    if not dispute.terms.is_lazy:
        escrow = graph.claim(3)
        return found | {"escrow": [Spend("payout", p, wins=True, transaction=payout_of(dispute, Here(escrow)))]}
    challenge = graph.challenge(3)
    return found | {
        "held": [
            Spend("challenge", v, wins=False, transaction=challenge),
            Spend("release", p, wins=True, transaction=graph.release(3)),
        ],
        "challenged": [
            Spend("reveal", p, wins=False, transaction=graph.reveal(3)),
            Spend("overdue", v, wins=True, transaction=overdue_of(dispute, Here(challenge))),
        ],
        "escrow": [Spend("payout", p, wins=True, transaction=payout_of(dispute, Here(graph.reveal(3))))],
    }


def first_block(spend, born):
    """The first block that can hold a spend of an output that is born in a block."""
    sequence = spend.inputs[0].sequence
    relative = born + (sequence & 0xFFFF) if not sequence & 1 << 31 else born + 1
    return max(relative, spend.lock_time + 1)


@pytest.mark.parametrize("name", ["call", "call-lazy"])
def test_nothing_that_means_i_win_can_be_mined_while_the_other_side_s_answer_has_not_had_its_blocks(name):
    """An output that one side ends for itself is no output in which the other still has time to go on."""
    dispute = contract_of(name)
    every = [(output, spend) for output, spends in spends_of(dispute).items() for spend in spends]
    assert sum(spend.wins for _, spend in every) == (3 if name == "call" else 5)
    for output, spend in every:
        if not spend.wins:
            continue
        born = START if output == "open" else SILENCE + 1
        answers = [one for where, one in every if where == output and not one.wins and one.by is not spend.by]
        for answer in answers:
            waits = first_block(spend.transaction, born) - first_block(answer.transaction, born)
            assert waits >= BLOCKS - 1, (output, spend.name, answer.name)
        assert answers or first_block(spend.transaction, born) == born + BLOCKS


@pytest.mark.parametrize("name", ["call", "call-lazy"])
def test_each_output_is_won_by_one_side_alone_by_waiting(name):
    for output, spends in spends_of(contract_of(name)).items():
        assert len({spend.by for spend in spends if spend.wins}) == 1, output


def test_no_transaction_of_the_game_spends_two_outputs_that_are_played_for():
    """But the answer to a challenge, which spends the verifier's bond beside: nothing else wants that then."""
    dispute = contract_of("call-lazy")
    for spends in spends_of(dispute).values():
        for spend in spends:
            assert len(spend.transaction.inputs) == 1 + (spend.name == "reveal")
    assert dispute.terms.bond_height >= REFUND + 5 * BLOCKS
    # claimed, challenged and answered at the last moment of each, by a claimant that came as late as it may
    assert dispute.terms.last_claim_height + 3 * BLOCKS <= dispute.terms.bond_height
    assert dispute.terms.last_claim_height >= dispute.terms.refund_height + 2 * BLOCKS


# ---- what a claim is said by


def fine():
    dispute = Dispute(price_claim(FINE))
    dispute.signed(Txid(bytes(range(32))))
    return dispute


def test_every_lie_among_257_ranges_is_read_and_convicted():
    """With two digits of the range the second could say another one, and nobody could read the claim."""
    dispute = fine()
    right, attested = dispute.right([67_890]), dispute.attested([67_890])
    chain = dispute.graph.claim_chain(0, silent=False)
    assert not [entry for entry in chain.entries if entry.place == dispute.graph.points.range_place]
    for number in (0, right - 1, right, right + 1, right ^ 32, 255, 256):
        claim = dispute.claimed(number, attested)
        read = read_claim(dispute.graph, dispute.of_claims, claim)
        verdict = dispute.kept.judge(*read.named(dispute.graph)).verdict
        assert (read.number, verdict) == (number, Verdict.RIGHT if number == right else Verdict.CONVICTED)


def test_a_claim_that_says_its_range_by_two_digits_makes_no_terms():
    builder = CircuitBuilder()
    price = builder.number("price0", (5, 5, 4, 4), event=0)
    low, high = (builder.digit(Digit(name=f"range.{at}", width=2, values=4)) for at in range(2))
    wrong = builder.less(price, (*low, *high))
    claim = Claim(
        name="two", circuit=builder.finish(wrong=wrong), events=1, payouts=tuple(Sats(at) for at in range(16)),
        range_of=RANGES.at,
    )  # fmt: skip
    with pytest.raises(InvalidInputError, match="2 digits of no event"):
        _ = Dispute(claim).terms


# ---- terms that somebody honest would lose by


def test_of_one_block_the_other_side_would_have_none():
    with pytest.raises(InvalidInputError, match="dispute_blocks"):
        _ = Dispute(blocks=1).terms
    assert Dispute(blocks=2).terms.dispute_blocks == 2


def test_no_height_of_the_game_is_a_time():
    terms = Dispute(claim_height=10).terms
    assert replace(terms, refund_height=Height(FIRST_TIME - 61)).bond_height == FIRST_TIME - 1
    with pytest.raises(InvalidInputError, match="refund_height"):
        replace(terms, refund_height=Height(FIRST_TIME - 60))


def test_a_needless_challenge_costs_no_less_than_what_it_takes_from_the_claimant():
    terms = Dispute(claim_height=10).terms
    assert replace(terms, challenge_bond=Sats(2 * terms.costs)).challenge_bond == 1_280
    for bond in (DUST_P2TR, 2 * terms.costs - 1):
        with pytest.raises(InvalidInputError, match="challenge_bond"):
            replace(terms, challenge_bond=Sats(bond))


def drawn(claim, **options):
    """A contract's graph of which only sizes matter: one point stands for every label."""
    dispute = Dispute(claim, **options)
    points = [dispute.terms.verifier.escrow] * (claim.circuit.labels + 1)
    return Graph(dispute.terms, Commitments(points=(tuple(points),), copies=()), Txid(secret("open")))


def test_the_largest_claim_and_the_largest_answer_are_such_as_nodes_relay():
    """Of 64 outcomes, all shown at once; finer digits would make more signatures than there may be."""
    claim = mean_claim(RANGES, MAX_EVENTS)
    eager, lazy = drawn(claim), drawn(claim, claim_height=10)
    chain = eager.claim_chain(2, silent=False)
    whole = [bytes(65)] * (1 + len(chain.entries))
    control = eager.open_control(chain.leaf, silent=False)
    shown = with_chain(eager.claim(3), 0, whole, bytes(64), chain.leaf, control)
    chain = lazy.reveal_chain(2)
    both = lazy.with_both(lazy.reveal(3), lazy.challenged_output, claimant=bytes(64), verifier=bytes(64))
    answer = with_chain(both, 1, whole, bytes(64), chain.leaf, lazy.bond_output.control_block(chain.leaf))
    print("64 outcomes: claim", shown.vsize, "answer", answer.vsize)
    assert max(shown.vsize, answer.vsize) <= TRUC_MAX
    with pytest.raises(InvalidInputError, match="signatures"):
        _ = Dispute(mean_claim(RANGES, MAX_EVENTS, Shape(price=(3,) * 6))).terms
