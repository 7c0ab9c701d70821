"""A batch among parties of any kind: it ends, every contract is in one place, and no honest one is ever blamed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi import secp256k1
from btcfi.bitcoin import taproot
from btcfi.contracts.batch import NotAskedError
from btcfi.contracts.batching import (
    PROPOSALS,
    TRIES,
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
from tests.support.batching import NOW, UNTIL, Table

KINDS = ("honest", "honest", "silent", "wrong", "refuses", "killed", "late")


def answer(table, state, owner, kind, now, *, honest):
    """One owner's answer to what it is asked, and the state after it. honest: whether it has been so all the time."""
    first = state.stage is Stage.NONCES
    if kind == "silent":
        return state
    if kind == "refuses":
        return take_refusal(state, owner, state.number, "no", now=now)
    if kind == "killed" and not first:
        table.seats[owner] = table.seat(owner)
    take = take_nonces if first else take_partials
    try:
        said = (
            table.consider(owner, state.proposals()[owner]) if first
            else table.sign(owner, state.number, state.nonces_for(owner))
        )  # fmt: skip
    except (NotAskedError, InvalidInputError):  # it was killed, or its own nonce comes back as it said it
        assert not honest
        return state
    if kind == "wrong":
        said = {index: one[:-1] + bytes([one[-1] ^ 1]) for index, one in said.items()}
    if kind == "late":
        try:
            return take(state, owner, state.number, said, now=state.deadline)
        except NotAskedError:
            return state
    return take(state, owner, state.number, said, now=now)


def check(table, state, places):
    """Whatever has happened, each contract is in exactly one place, and what is signed is whole."""
    assert sorted(one.funding for one in places) == sorted(one.funding for one in table.endings)
    assert state.number <= PROPOSALS
    assert state.broken <= TRIES
    if state.stage is Stage.SIGNED:
        made, batch = state.signed, state.batch
        for index, one in enumerate(batch.endings):
            digest = taproot.sighash(made, index, batch.spent)
            assert secp256k1.schnorr_verify(one.contract.output().output_key, digest, made.inputs[index].witness[0])


@settings(deadline=None, max_examples=40)
@given(st.data(), st.integers(1, 6), st.integers(2, 5))
def test_it_ends_each_contract_is_in_one_place_and_no_honest_owner_is_at_fault(data, contracts, parties):
    table = Table(contracts, parties)
    state, now, honest = table.start(), NOW, dict.fromkeys(table.owners, True)
    waiting, ended = [state], []
    while waiting:
        state = waiting.pop()
        now = max(now, UnixSeconds(state.deadline - 20))
        if state.by_two:  # a seat of its own
            table.seats = {owner: table.seat(owner) for owner in table.owners}
        while state.waits_for:
            asked, number, stage = state.waits_for, state.number, state.stage
            for owner in asked:
                kind = data.draw(st.sampled_from(KINDS))
                honest[owner] = honest[owner] and kind == "honest"
                if (state.number, state.stage) == (number, stage):
                    state = answer(table, state, owner, kind, UnixSeconds(state.deadline - 1), honest=honest[owner])
            if (state.number, state.stage) == (number, stage):
                state = advance(state, now=state.deadline)
            now = UnixSeconds(now + 20)
            if state.stage is Stage.SIGNED and data.draw(st.booleans()):
                state = spent_otherwise(state, [state.endings[0].funding], now=now)
        assert now <= UNTIL
        waiting += by_twos(state, now=now)
        ended.append(state)
        assert not [one for one in state.faults if honest[one.owner]]
    first, twos = ended[0], ended[1:]
    places = [one.ending for one in first.apart]
    if first.stage is Stage.SIGNED:
        places += first.endings
    else:
        places += [one for state in twos for one in (*state.endings, *(each.ending for each in state.apart))]
    check(table, first, places)
    for state in twos:
        assert {one.why for one in state.apart} <= set(Why)
        check(table, state, places)
