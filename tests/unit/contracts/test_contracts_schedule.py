"""Which settlements go to the chain now, which later, and which cannot make it: nothing here asks a node."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.bitcoin.next_blocks import BLOCK_VSIZE
from btcfi.contracts.schedule import (
    IN_FLIGHT_BLOCKS,
    SETTLEMENT_VSIZE,
    SHARE,
    Due,
    Space,
    schedule,
)
from btcfi.contracts.settle import child_vsize
from btcfi.errors import InvalidInputError
from btcfi.units import Height, Sats
from tests.support.contracts import BUYER
from tests.support.settling import cet

TIP = Height(1_000)
FAR = Height(TIP + 1_008)
RULE = FeeRule()


def settlement(name, deadline=FAR, *, value=1_000_000, vsize=SETTLEMENT_VSIZE):
    return Due(name=str(name), vsize=vsize, deadline=Height(deadline), value=Sats(value))


def planned(due, **space):
    return schedule(due, Space(tip=TIP, **space), RULE)


def test_a_friday_of_twenty_thousand_fills_its_share_of_each_block_and_keeps_three_blocks_of_it_in_flight():
    found = planned([settlement(f"{n:05}") for n in range(20_000)])
    each = SHARE // SETTLEMENT_VSIZE
    assert found.share == SHARE
    assert len(found.now) == IN_FLIGHT_BLOCKS * each
    assert found.last_block == TIP + -(-20_000 // each)
    assert found.late == ()


def test_what_is_in_flight_leaves_that_much_less_room():
    due = [settlement(f"{n:05}") for n in range(20_000)]
    each = SHARE // SETTLEMENT_VSIZE
    assert len(planned(due, in_flight=2 * SHARE).now) == each
    assert planned(due, in_flight=IN_FLIGHT_BLOCKS * SHARE).now == ()


def test_the_earliest_deadline_goes_first_and_of_one_deadline_the_larger_value():
    due = [settlement("a"), settlement("b", FAR - 1), settlement("c", value=2_000_000), settlement("d", FAR - 2)]
    assert [turn.due.name for turn in planned(due).turns] == ["d", "b", "c", "a"]
    assert planned(due) == planned(reversed(due))


def test_what_is_near_its_deadline_is_never_put_off_however_much_is_in_flight():
    near = TIP + RULE.deadline_blocks
    due = [settlement(n) for n in range(10)] + [settlement("urgent", near)]
    assert [one.name for one in planned(due, in_flight=50 * SHARE).now] == ["urgent"]


def test_a_share_grows_as_far_as_the_deadlines_need_it_and_no_further():
    blocks = 20
    deadline = TIP + RULE.deadline_blocks + blocks
    fits = [settlement(f"{n:05}", deadline) for n in range(blocks * SHARE // SETTLEMENT_VSIZE - blocks)]
    assert planned(fits).share == SHARE
    more = [*fits, *(settlement(f"x{n:05}", deadline) for n in range(len(fits) // 2))]
    wide = planned(more)
    assert SHARE < wide.share <= -(-sum(one.vsize for one in more) // blocks)
    assert wide.late == ()


def test_what_cannot_make_it_is_named_with_the_block_of_its_turn():
    due = [settlement(f"{n:05}", TIP + 2) for n in range(3 * (BLOCK_VSIZE // SETTLEMENT_VSIZE))]
    found = planned(due)
    assert found.share == BLOCK_VSIZE
    assert len(found.late) == BLOCK_VSIZE // SETTLEMENT_VSIZE
    assert {(turn.block, turn.late) for turn in found.late} == {(TIP + 3, 1)}


def test_a_deadline_that_has_passed_is_sent_at_the_caps_rate_all_the_same():
    found = planned([settlement("gone", TIP)], estimate=SatsPerKvb(5_000))
    assert [(turn.now, turn.late) for turn in found.turns] == [(True, 1)]


def test_the_rate_is_the_estimate_within_the_rule():
    rates = [planned([settlement("a")], estimate=rate).turns[0].rate for rate in (None, 5_000, 900_000)]
    assert rates == [RULE.floor, 5_000, RULE.cap]


def test_the_size_that_is_planned_with_is_that_of_a_settlement():
    for settled in (cet(), cet(fee=150)):
        assert settled.transaction.vsize + child_vsize(BUYER.script) <= SETTLEMENT_VSIZE


def test_what_no_block_holds_is_refused():
    for vsize in (0, BLOCK_VSIZE + 1):
        with pytest.raises(InvalidInputError):
            settlement("a", vsize=vsize)
    for space in ({"share": 0}, {"share": BLOCK_VSIZE + 1}, {"in_flight": -1}):
        with pytest.raises(InvalidInputError):
            Space(tip=TIP, **space)


SOME = st.lists(
    st.builds(
        settlement, st.integers(0, 10**6), st.integers(TIP - 5, TIP + 400), value=st.integers(0, 10**9),
        vsize=st.integers(100, 200_000),
    ),
    max_size=60, unique_by=lambda one: one.name,
)  # fmt: skip


@given(SOME, st.integers(0, 3 * BLOCK_VSIZE), st.integers(200_000, BLOCK_VSIZE))
def test_no_block_is_planned_fuller_than_the_share_and_nothing_overtakes_an_earlier_deadline(due, sent, share):
    found = planned(due, in_flight=sent, share=share)
    assert sorted(turn.due.name for turn in found.turns) == sorted(one.name for one in due)
    filled = {}
    for turn in found.turns:
        filled[turn.block] = filled.get(turn.block, 0) + turn.due.vsize
    assert all(size <= found.share for size in filled.values())
    assert [turn.block for turn in found.turns] == sorted(turn.block for turn in found.turns)
    assert [turn.due.deadline for turn in found.turns] == sorted(one.deadline for one in due)


@given(st.integers(0, 300), st.integers(1, 60), st.integers(0, 400))
def test_what_half_of_the_blocks_before_its_deadline_could_hold_makes_it(many, left, sent):
    """Less than half of the room: what the ends of blocks leave free, and what is in flight, cannot spoil that."""
    found = planned([settlement(f"{n:05}", TIP + left, vsize=40_000) for n in range(many)], in_flight=sent * 40_000)
    if (many + sent) * 40_000 <= left * BLOCK_VSIZE // 2:
        assert found.late == ()
