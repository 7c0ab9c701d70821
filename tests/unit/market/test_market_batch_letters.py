"""What desk and owners say of contracts that end together survives its JSON, and no other form of it is read."""

import json

import pytest

from btcfi.contracts import batching
from btcfi.contracts.batch import Proposal
from btcfi.contracts.batching import Rules, Stage
from btcfi.contracts.batching_state import decode_state, encode_state
from btcfi.errors import InvalidInputError
from btcfi.market import batch_letters as letters
from btcfi.market.batch_letters import Done, Said
from tests.support.batching import NOW, Table

BATCH = "0123456789abcdef" * 2
NAME = f"b{BATCH}~1"


@pytest.fixture
def table():
    return Table(contracts=4, parties=3)


def test_each_letter_says_what_it_said_before(table):
    state = table.start()
    owner, proposal = next(iter(state.proposals().items()))
    asked = letters.decode_proposal(json.loads(json.dumps(letters.encode_proposal(BATCH, proposal))), NAME)
    assert (asked.batch, asked.proposal) == (BATCH, proposal)
    nonces = table.consider(owner, proposal)
    said = Said(batch=BATCH, number=1, parts=nonces)
    assert letters.decode_nonces(json.loads(json.dumps(letters.encode_nonces(said))), NAME) == said
    both = {index: (bytes([2]) * 66, bytes([3]) * 66) for index in nonces}
    every = letters.decode_all(json.loads(json.dumps(letters.encode_all(BATCH, 1, both))), NAME)
    assert every.nonces == both
    parts = Said(batch=BATCH, number=1, parts={0: bytes(32), 3: b"\x01" * 32})
    assert letters.decode_partials(json.loads(json.dumps(letters.encode_partials(parts))), NAME) == parts
    done = Done(batch=BATCH, number=1, transaction=proposal.transaction)
    assert letters.decode_done(json.loads(json.dumps(letters.encode_done(done))), NAME) == done


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "btcfi/batch-partials"}, {"version": 2}, {"batch": BATCH[:-1]}, {"batch": BATCH.upper()},
        {"number": 0}, {"number": 2}, {"number": True}, {"nonces": {"01": "00" * 66}}, {"nonces": {"128": "00" * 66}},
        {"nonces": {"-1": "00" * 66}}, {"nonces": {"0": "00" * 65}}, {"nonces": {"٣": "00" * 66}}, {"nonces": None},
    ],
)  # fmt: skip
def test_nonces_of_any_other_form_are_refused(changes):
    good = letters.encode_nonces(Said(batch=BATCH, number=1, parts={0: bytes(66)}))
    letters.decode_nonces(good, NAME)
    with pytest.raises(InvalidInputError):
        letters.decode_nonces(good | changes, NAME)


@pytest.mark.parametrize("name", ["", "b", f"{BATCH}~1", f"b{BATCH}~01", f"b{BATCH}~", f"b{BATCH}~33", f"b{BATCH}~1x"])
def test_a_letter_under_another_name_is_about_no_batch(name):
    with pytest.raises(InvalidInputError):
        letters.parse_name(name)


def test_a_proposal_with_a_rate_that_no_node_relays_or_more_inputs_than_a_batch_has_is_refused(table):
    proposal = next(iter(table.start().proposals().values()))
    good = letters.encode_proposal(BATCH, proposal)
    assert isinstance(letters.decode_proposal(good, NAME).proposal, Proposal)
    for changes in (
        {"sats_per_kvb": 0},
        {"sats_per_kvb": 10**12},
        {"spent": good["spent"] * 129},
        {"transaction": good["transaction"][:-2]},
        {"branches": {"0": ["00" * 32] * 9}},
    ):
        with pytest.raises(InvalidInputError):
            letters.decode_proposal(good | changes, NAME)


def test_a_batch_on_its_way_is_after_its_json_what_it_was_before_in_every_stage(table):
    def kept(state):
        again = decode_state(json.loads(json.dumps(encode_state(state))))
        assert encode_state(again) == encode_state(state)
        assert (again.batch, again.endings, again.answers) == (state.batch, state.endings, dict(state.answers))
        return again

    state = kept(table.start())
    state = kept(table.first(state))
    assert state.stage is Stage.PARTIALS
    signed = kept(table.second(state))
    assert signed.stage is Stage.SIGNED
    assert signed.signed.txid == signed.batch.transaction.txid
    again = kept(batching.spent_otherwise(signed, [signed.endings[0].funding], now=NOW))
    assert [one.why for one in again.apart] == [batching.Why.SPENT]


def test_who_has_failed_is_remembered_through_the_json():
    table = Table(contracts=10, parties=4, rules=Rules(tries=1))
    state = decode_state(encode_state(table.first(table.start(), silent=("party 03",))))
    assert [(one.owner, one.why) for one in state.faults] == [("party 03", batching.Why.SILENT_NONCES)]
    lying = table.second(table.first(decode_state(encode_state(state))), lying=("party 01",))
    over = decode_state(encode_state(lying))
    assert over.stage is Stage.OVER
    assert [one.why for one in over.faults] == [batching.Why.SILENT_NONCES, batching.Why.WRONG_PARTIALS]
