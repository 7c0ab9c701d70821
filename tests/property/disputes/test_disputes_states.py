"""Where a disputed contract stands is one of the table's states, by one of its edges, and the chain's alone to say."""

import random
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.contracts.watch import ChainMovedError
from btcfi.disputes import states, watching
from btcfi.disputes.garbled import game
from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.stages import Stage
from btcfi.disputes.states import EDGES, By
from btcfi.units import Height
from tests.support.disputed import BLOCKS, REFUND, SILENCE, SINCE, ListChain, next_moves, public, taken


@cache
def contract(lazy, name=""):
    return public(lazy=lazy, name=name)


def caught_up(watches, disputes, chain):
    """The watches at the tip: what a watcher does at each look."""
    found, _ = watching.advance(watches, disputes.__getitem__, chain, limit=1_000)
    return found


def fresh(disputes):
    return {key: watching.begin(one) for key, one in disputes.items()}


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1 << 32), lazy=st.booleans())
def test_every_sequence_of_blocks_and_reorganisations_ends_where_a_newcomer_stands_by_edges_of_the_table(seed, lazy):
    draw = random.Random(seed)
    disputes = {"one": contract(lazy), "other": contract(not lazy, "other")}
    chain = ListChain()
    watches = fresh(disputes)
    for _ in range(draw.randint(1, 14)):
        if draw.random() < 0.3 and chain.top >= SINCE:
            chain.undo(min(draw.randint(1, 9), chain.top - SINCE + 1))
        now, held = caught_up(fresh(disputes), disputes, chain), []
        for key, dispute in disputes.items():
            here = watching.positions(dispute, now[key].seen)
            while draw.random() < 0.6 and (some := next_moves(dispute, here[-1])):
                by, transaction = draw.choice(some)
                held.append(transaction)
                seen = (*now[key].seen, watching.Seen(transaction=transaction, height=Height(1), block=bytes(32)))
                now[key] = watching.replace(now[key], seen=seen)
                here = watching.positions(dispute, seen)
                assert states.edge(here[-2].stage, here[-1].stage).by is by
        chain.mine(*held)
        for _ in range(draw.choice((0, 0, 1, BLOCKS))):
            chain.mine()
        if draw.random() < 0.7:  # a watcher need not look at every tip
            watches = caught_up(watches, disputes, chain)
            assert watches == caught_up(fresh(disputes), disputes, chain)
    for key, one in caught_up(watches, disputes, chain).items():
        stages = [here.stage for here in watching.positions(disputes[key], one.seen)]
        for before, after in pairwise(stages):
            assert states.edge(before, after)


def reached(dispute):
    """Every position that a contract can come to, each with what brought it there."""
    waiting, found = [()], {}
    while waiting:
        seen = waiting.pop()
        here = watching.positions(dispute, seen)[-1]
        found[here.stage, here.number, here.silent] = here
        for _, transaction in next_moves(dispute, here):
            at = Height((seen[-1].height if seen else SINCE) + 1)
            waiting.append((*seen, watching.Seen(transaction=transaction, height=at, block=bytes(32))))
    return found


@pytest.mark.parametrize("lazy", [False, True])
def test_the_edges_of_a_contract_are_what_a_block_can_hold_next_and_nothing_else(lazy):
    dispute, walked = contract(lazy), set()
    for here in reached(dispute).values():
        walked |= {(here.stage, by) for by, _ in next_moves(dispute, here)}
    assert walked == {(one.source, one.by) for one in states.edges_of(dispute.terms)}


def test_both_kinds_of_contract_together_take_every_edge_of_the_table():
    both = [set(states.edges_of(contract(lazy).terms)) for lazy in (False, True)]
    assert both[0] | both[1] == set(EDGES)


@pytest.mark.parametrize("lazy", [False, True])
def test_what_the_game_s_clock_asks_of_a_side_is_a_move_of_the_table_at_the_same_blocks(lazy):
    dispute = contract(lazy)
    for here in reached(dispute).values():
        asked = {(one.side, one.since, one.until) for one in game.clock(dispute.graph, here)}
        assert asked == {(one.side, one.since, one.until) for one in states.moves(dispute.terms, here)}


@pytest.mark.parametrize("lazy", [False, True])
def test_at_every_position_before_an_end_somebody_can_end_it_alone_and_nobody_waits_for_ever(lazy):
    dispute = contract(lazy)
    for here in reached(dispute).values():
        if here.stage is Stage.UNOPENED or here.stage.ended:
            assert states.moves(dispute.terms, here) == ()
            assert states.overdue(dispute.terms, here) is None
        else:
            last = states.moves(dispute.terms, here)[-1]
            assert (last.until, last.since) == (None, states.overdue(dispute.terms, here))
            assert states.deadline(dispute.terms, here) < last.since


def test_the_deadline_of_a_claim_is_the_last_block_before_its_payout_can_be_in_one():
    dispute = contract(lazy=False)
    here = next(one for one in reached(dispute).values() if one.stage is Stage.CLAIMED and not one.silent)
    disproof, payout = states.moves(dispute.terms, here)
    assert (disproof.side, disproof.by, disproof.since) == (Side.VERIFIER, By.DISPROOF, here.at + 1)
    assert (payout.side, payout.by, payout.since) == (Side.CLAIMANT, By.PAYOUT, here.at + BLOCKS)
    assert (disproof.until, payout.until) == (here.at + BLOCKS - 1, None)
    assert states.deadline(dispute.terms, here) == disproof.until


def test_an_open_contract_waits_for_its_claim_then_its_silence_then_its_refund():
    dispute = contract(lazy=False)
    here = next(one for one in reached(dispute).values() if one.stage is Stage.OPEN)
    assert [(one.by, one.since, one.until) for one in states.moves(dispute.terms, here)] == [
        (By.CLAIM, here.at + 1, SILENCE), (By.SILENCE, SILENCE + 1, REFUND), (By.REFUND, REFUND + 1, None),
    ]  # fmt: skip


def test_a_block_that_does_not_build_on_the_last_one_is_looked_at_by_nobody():
    chain = ListChain()
    disputes = {"one": contract(lazy=False)}
    watches = caught_up(fresh(disputes), disputes, chain)
    chain.mine()
    chain.mine()
    with pytest.raises(ChainMovedError):
        watching.look(watches, disputes.__getitem__, chain.blocks[-1], chain.top, chain.blocks[-1].name)


def test_terms_of_another_fault_point_are_told_by_the_first_claim_that_is_none_of_theirs():
    right = contract(lazy=False)
    wrong = type(right)(
        proposal=right.proposal, acceptance=right.acceptance, fault=contract(lazy=False, name="x").fault,
        since=right.since,
    )  # fmt: skip
    assert wrong.id != right.id
    assert wrong.opening.txid == right.opening.txid
    claim = right.graph.claim(3)
    shown = claim.with_witness(0, [b"s", b"digits", b"leaf", b"control"])
    seen = [watching.Seen(transaction=one, height=Height(SINCE), block=bytes(32)) for one in (right.opening, shown)]
    assert watching.positions(right, seen)[-1].stage is Stage.CLAIMED
    assert watching.positions(wrong, seen)[-1].stage is Stage.SPENT_OTHERWISE


def test_a_coin_that_both_take_by_the_key_path_closes_the_contract_wherever_it_stands():
    for lazy in (False, True):
        dispute = contract(lazy)
        for here in reached(dispute).values():
            coin = game.coin_of(dispute.graph, here)
            if coin is None or here.stage in {Stage.CLAIMED, Stage.REVEALED}:
                continue
            closed = game._after(dispute.graph, here, coin, taken(coin, bytes(64)), Height(9))
            assert closed.stage is Stage.CLOSED
