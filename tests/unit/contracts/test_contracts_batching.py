"""A batch at its coordinator: who is silent or lies drops out, the rest is asked anew, and all of it ends in time."""

from dataclasses import replace
from itertools import pairwise

import pytest

from btcfi import secp256k1
from btcfi.bitcoin import taproot
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts import batching
from btcfi.contracts.batch import NotAskedError
from btcfi.contracts.batching import (
    Rules,
    Stage,
    Why,
    advance,
    by_twos,
    spent_otherwise,
    take_nonces,
    take_partials,
    take_refusal,
)
from btcfi.errors import InvalidInputError
from btcfi.units import UnixSeconds
from tests.support.batching import NOW, UNTIL, Table, ending, name_of

A, B, C, D = map(name_of, range(4))


@pytest.fixture
def table():
    return Table(8, 4)


def signed_by_all(state):
    """Every input by its contract's own key, and everybody's money accounted for."""
    batch, made = state.batch, state.signed
    assert made.txid == batch.transaction.txid
    for index, one in enumerate(batch.endings):
        (signature,) = made.inputs[index].witness
        assert secp256k1.schnorr_verify(
            one.contract.output().output_key, taproot.sighash(made, index, batch.spent), signature
        )
    return True


def conserved(table, state):
    """Each contract is in exactly one place, whatever happened."""
    places = [*state.endings, *(one.ending for one in state.apart)]
    return sorted(one.funding for one in places) == sorted(one.funding for one in table.endings)


def without(table, *owners):
    return [one for one in table.endings if not set(one.owners) & set(owners)]


def test_a_batch_of_parties_that_all_answer_is_signed_after_two_rounds(table):
    state = table.start()
    assert state.stage is Stage.NONCES
    assert set(state.waits_for) == set(table.owners)
    state = table.first(state)
    assert state.stage is Stage.PARTIALS
    state = table.second(state)
    assert state.stage is Stage.SIGNED
    assert (state.number, state.faults, state.apart) == (1, (), ())
    assert signed_by_all(state)
    assert state.waits_for == ()


def test_who_says_no_nonces_drops_out_at_the_deadline_and_costs_nobody_a_try(table):
    state = table.first(table.start(), silent=[B])
    assert [(one.owner, one.why) for one in state.faults] == [(B, Why.SILENT_NONCES)]
    assert (state.stage, state.number, state.broken) == (Stage.NONCES, 2, 0)
    assert sorted(one.funding for one in state.endings) == sorted(one.funding for one in without(table, B))
    state = table.run(state, now=UnixSeconds(state.deadline - 1))
    assert signed_by_all(state)
    assert conserved(table, state)


@pytest.mark.parametrize(("how", "why"), [("silent", Why.SILENT_PARTIALS), ("lying", Why.WRONG_PARTIALS)])
def test_who_breaks_the_second_round_is_named_and_the_rest_is_signed_with_fresh_nonces(table, how, why):
    first = table.first(table.start())
    state = table.second(first, **{how: [C]})
    assert [(one.owner, one.why, one.number) for one in state.faults] == [(C, why, 1)]
    assert (state.stage, state.number, state.broken) == (Stage.NONCES, 2, 1)
    again = table.first(state, now=UnixSeconds(state.deadline - 1))
    old = {nonce for said in first.nonces.values() for nonce in said.values()}
    assert not old & {nonce for said in again.nonces.values() for nonce in said.values()}
    state = table.second(again, now=UnixSeconds(again.deadline - 1))
    assert signed_by_all(state)
    assert {one.ending.funding for one in state.apart} == {
        one.funding for one in table.endings if C in one.owners
    }  # they end by their CETs
    assert conserved(table, state)


def test_a_liar_and_a_silent_one_of_one_round_cost_one_try_together(table):
    state = table.second(table.first(table.start()), silent=[B], lying=[C])
    assert {one.owner: one.why for one in state.faults} == {B: Why.SILENT_PARTIALS, C: Why.WRONG_PARTIALS}
    assert (state.number, state.broken) == (2, 1)


@pytest.mark.parametrize("wrong", ["none", "too many", "no points", "too short"])
def test_nonces_that_are_none_drop_who_said_them(table, wrong):
    state = table.start()
    said = table.consider(B, state.proposals()[B])
    index = max(said)
    said = {
        "none": {}, "too many": said | {max(set(range(8)) - set(said)): said[index]},
        "no points": said | {index: bytes(66)}, "too short": said | {index: b""},
    }[wrong]  # fmt: skip
    state = take_nonces(state, B, 1, said, now=NOW)
    assert state.failing[B].why is Why.WRONG_NONCES
    assert B not in state.waits_for
    for owner in state.waits_for:
        state = take_nonces(state, owner, 1, table.consider(owner, state.proposals()[owner]), now=NOW)
    assert (state.number, [one.owner for one in state.faults]) == (2, [B])  # without waiting for the deadline


def test_who_refuses_a_proposal_is_out_at_once(table):
    state = take_refusal(table.start(), B, 1, "batch.output: 5", now=NOW)
    assert state.failing[B].why is Why.REFUSED
    assert state.failing[B].detail == "batch.output: 5"


def test_an_answer_that_is_late_or_to_another_proposal_or_the_second_of_one_owner_changes_nothing(table):
    state = table.start()
    said = table.consider(A, state.proposals()[A])
    for number, owner, now in ((2, A, NOW), (0, A, NOW), (1, A, state.deadline), (1, "nobody", NOW)):
        with pytest.raises(NotAskedError):
            take_nonces(state, owner, number, said, now=now)
    with pytest.raises(NotAskedError):
        take_partials(state, A, 1, said, now=NOW)
    state = take_nonces(state, A, 1, said, now=NOW)
    other = table.seat(A).consider(
        state.proposals()[A], table.secrets(A), ours=table.ours(A), authority=table.right, entropy=b"\x09" * 32
    )
    with pytest.raises(NotAskedError):
        take_nonces(state, A, 1, other, now=NOW)
    with pytest.raises(NotAskedError):
        state.nonces_for(A)


def test_time_alone_moves_nothing_before_the_deadline(table):
    state = table.start()
    assert advance(state, now=UnixSeconds(state.deadline - 1)) is state
    assert advance(state, now=state.deadline).stage is Stage.OVER  # nobody spoke


def test_a_party_killed_between_the_rounds_costs_a_try_and_signs_the_next_one(table):
    state = table.first(table.start())
    table.seats[B] = table.seat(B)  # kill -9, and begun again
    with pytest.raises(NotAskedError):
        table.sign(B, 1, state.nonces_for(B))
    state = table.second(state, silent=[B])
    assert state.broken == 1
    assert table.run(state, now=UnixSeconds(state.deadline - 1)).stage is Stage.SIGNED  # of the others


def test_a_coordinator_that_forgets_everything_begins_anew_and_no_seat_signs_the_old_try(table):
    old = table.first(table.start())
    fresh = table.start()  # its proposals are numbered from 1 again: seats are of one batch
    table.begin()
    assert table.run(fresh).stage is Stage.SIGNED
    for owner in table.owners:
        with pytest.raises(NotAskedError):
            table.sign(owner, 1, old.nonces_for(owner))


def test_after_three_broken_tries_what_is_left_closes_by_twos_and_then_by_cets():
    # seven parties in a ring of contracts, and a chord between two that are honest
    table = Table(0)
    names = [name_of(number) for number in range(7)]
    for number, (buyer, seller) in enumerate([*pairwise(names), (names[4], names[6]), (names[5], names[4])]):
        table.add(ending(number, buyer, seller, 400_000), number)
    table.begin()
    state = table.start()
    for liar in names[:3]:
        state = table.second(table.first(state, now=UnixSeconds(state.deadline - 1)), lying=[liar],
                             now=UnixSeconds(state.deadline))  # fmt: skip
    assert (state.stage, state.broken, state.number) == (Stage.OVER, 3, 3)
    assert [one.owner for one in state.faults] == names[:3]
    assert conserved(table, state)
    couples = by_twos(state, now=NOW)
    assert sorted(len(one.endings) for one in couples) == [1, 1, 1, 2]  # 3-4, 5-6, 4-6, and both of 4 and 5
    done = []
    for one in couples:
        table.begin()  # seats of their own
        (last,) = [one] if set(one.batch.owners) != {names[3], names[4]} else [table.first(one, silent=[names[3]])]
        done.append(last if last is not one else table.run(one))
    assert sorted(one.stage for one in done) == [Stage.OVER, Stage.SIGNED, Stage.SIGNED, Stage.SIGNED]
    (silent,) = [one for one in done if one.stage is Stage.OVER]
    assert [one.why for one in silent.apart] == [Why.SILENT_NONCES]
    assert silent.endings == ()
    assert by_twos(silent, now=NOW) == []
    assert all(signed_by_all(one) for one in done if one is not silent)
    (pair,) = [one for one in done if len(one.endings) == 2]
    spent = spent_otherwise(pair, [pair.endings[0].funding], now=NOW)  # one try is all
    assert (spent.stage, [one.why for one in spent.apart]) == (Stage.OVER, [Why.SPENT, Why.TRIED])


def test_one_that_is_silent_by_turns_cannot_have_the_others_asked_without_end():
    table = Table(40, 12)
    state = table.start()
    asked = 0
    for owner in table.owners:
        if state.stage is not Stage.NONCES or owner not in state.batch.owners:
            continue
        asked += 1
        state = advance(_all_but(table, state, owner), now=state.deadline)
    assert asked <= batching.PROPOSALS
    assert state.stage is Stage.OVER
    assert conserved(table, state)


def _all_but(table, state, silent):
    number = state.number
    for owner, proposal in state.proposals().items():
        if owner != silent:
            said = table.consider(owner, proposal)
            state = take_nonces(state, owner, number, said, now=UnixSeconds(state.deadline - 1))
    return state


def test_a_contract_that_something_else_has_spent_drops_out_and_nobody_with_it(table):
    state = table.run()
    gone = state.endings[3]
    again = spent_otherwise(state, [gone.funding], now=NOW)
    assert [(one.ending, one.why) for one in again.apart] == [(gone, Why.SPENT)]
    assert (again.stage, again.broken, again.faults, again.signed) == (Stage.NONCES, 1, (), None)
    assert signed_by_all(table.run(again))
    assert spent_otherwise(state, [], now=NOW) is state
    for _ in range(2):
        again = spent_otherwise(again, [again.endings[0].funding], now=NOW)
    assert (again.stage, again.broken) == (Stage.OVER, 3)
    assert conserved(table, again)


def test_nothing_is_begun_that_could_not_end_in_time_and_all_of_it_goes_by_cets(table):
    rules = Rules()
    needed = rules.nonce_seconds + rules.partial_seconds
    assert table.start(until=UnixSeconds(NOW + needed)).stage is Stage.NONCES
    late = table.start(until=UnixSeconds(NOW + needed - 1))
    assert late.stage is Stage.OVER
    assert {one.why for one in late.apart} == {Why.LATE}
    assert conserved(table, late)
    assert by_twos(late, now=NOW) == []


def test_no_round_is_waited_for_beyond_the_end(table):
    state = table.start(until=UnixSeconds(NOW + 40))
    late = UnixSeconds(state.deadline - 1)
    for owner, proposal in state.proposals().items():
        state = take_nonces(state, owner, 1, table.consider(owner, proposal), now=late)
    assert state.stage is Stage.PARTIALS
    assert state.deadline <= NOW + 40


def test_what_can_be_in_no_batch_is_set_apart_by_name_and_the_rest_begins(table):
    tiny, dear = ending(90, A, B, 100, collateral=700, costs=240), SatsPerKvb(4_000)
    table.rate = dear
    stranger = ending(91, A, name_of(50), 400_000)
    one = ending(92, A, B, 400_000)
    keyless = replace(one, contract=replace(one.contract, internal_key=one.contract.buyer_key))
    state = batching.start(
        [*table.endings, tiny, stranger, keyless], table.scripts, rate=dear, now=NOW, until=UNTIL
    )  # fmt: skip
    assert {one.ending.funding: one.why for one in state.apart} == {
        tiny.funding: Why.TOO_SMALL, stranger.funding: Why.NO_SCRIPT, keyless.funding: Why.NO_KEY_PATH,
    }  # fmt: skip
    assert len(state.endings) == len(table.endings)
    assert table.run(state).stage is Stage.SIGNED


@pytest.mark.parametrize("field", ["nonce_seconds", "partial_seconds", "tries", "proposals"])
def test_rules_by_which_nothing_is_ever_asked_are_refused(field):
    with pytest.raises(InvalidInputError):
        Rules(**{field: 0})
