"""The embedded node's rules that need no chain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btcfi.adapters.chain.regtest.policy import (
    Policy,
    RejectedError,
    check_package_form,
    check_witnesses,
    feerate,
    improves,
)
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.units import Sats, Txid

CHUNKS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 500)), min_size=1, max_size=4)
P2TR = b"\x51\x20" + bytes(32)


def spending(*numbers, witness=()):
    inputs = tuple(TxIn(outpoint=OutPoint(txid=Txid(bytes([n]) * 32), index=0), witness=witness) for n in numbers)
    return Transaction(version=2, inputs=inputs, outputs=(TxOut(value=Sats(1_000), script=P2TR),))


@given(CHUNKS, CHUNKS)
def test_of_two_diagrams_at_most_one_is_the_better_one(new, old):
    assert not (improves(new, old) and improves(old, new))
    assert not improves(new, new)


@given(CHUNKS, st.tuples(st.integers(1, 10_000), st.integers(1, 500)))
def test_more_fee_in_the_same_space_or_beside_it_is_better(chunks, more):
    (fee, size), *rest = chunks
    assert improves([(fee + 1, size), *rest], chunks)
    assert improves([*chunks, more], chunks)


def test_more_fee_at_a_lower_rate_is_not_better():
    assert not improves([(1_100, 200)], [(1_000, 100)])  # after 100 vB a miner has 550 instead of 1000
    assert improves([(2_100, 200)], [(1_000, 100)])


def test_a_rate_is_rounded_down():
    assert feerate(999, 1_000) == 999
    assert feerate(1_000, 1_001) == 999


@pytest.mark.parametrize(
    ("witness", "script", "relayed"),
    [
        ((), P2A_SCRIPT, True),
        ((b"",), P2A_SCRIPT, False),
        ((bytes(64),), P2TR, True),
        ((bytes(64), b"\x50annex"), P2TR, False),
        ((bytes(80), b"\x51", b"\xc0" + bytes(32)), P2TR, True),
        ((bytes(81), b"\x51", b"\xc1" + bytes(32)), P2TR, False),
        ((bytes(81), b"\x51", b"\xfa" + bytes(32)), P2TR, True),  # another leaf version: no rule knows its items
    ],
)
def test_a_witness_is_relayed_by_its_form(witness, script, relayed):
    spent = [TxOut(value=Sats(1_000), script=script)]
    if relayed:
        check_witnesses(spending(1, witness=witness), spent)
    else:
        with pytest.raises(RejectedError) as error:
            check_witnesses(spending(1, witness=witness), spent)
        assert error.value.reason == "bad-witness-nonstandard"


def test_a_package_holds_each_transaction_once_and_no_two_rivals():
    check_package_form([spending(1), spending(2)])
    with pytest.raises(RejectedError) as error:
        check_package_form([spending(1), spending(1)])
    assert error.value.reason == "package-contains-duplicates"
    with pytest.raises(RejectedError) as error:
        check_package_form([spending(1), spending(1, 2)])
    assert error.value.reason == "conflict-in-package"


def test_the_usual_settings_are_cores():
    usual = Policy()
    assert (usual.relay_fee, usual.block_fee, usual.block_weight, usual.truc) == (1_000, 1_000, 4_000_000, "enforce")
