"""Who answers: two clauses a question, proofs of nonces, and what answering twice costs."""

from dataclasses import replace

import pytest

from btcfi.clauses.clause import Hash, Revealed, Threshold, means_of
from btcfi.clauses.oracle import AttestingSecrets, PreimageSecrets, Statement, ThresholdOracle, question
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.hashes import sha256
from btcfi.secp256k1 import public_key_xonly

SYMBOL = "BTC-USD"


@pytest.mark.parametrize("kept", [PreimageSecrets(secret=b"\x01" * 32), AttestingSecrets(secret=b"\x01" * 32)])
def test_of_both_clauses_of_a_level_an_answer_meets_the_true_one_alone(kept):
    oracle = kept.publish(SYMBOL, [-5, 50_000])
    for level, price, at in ((50_000, 49_999, 0), (50_000, 50_000, 1), (-5, -6, 0), (-5, -5, 1)):
        pair, shown = oracle.lt_gte(SYMBOL, level), kept.answer(SYMBOL, level, price=price)
        met = [
            shown.preimages.get(clause.digest) if isinstance(clause, Hash) else shown.secrets.get(clause.point)
            for clause in pair
        ]
        assert met[at] is not None
        assert met[1 - at] is None
        if isinstance(pair[at], Hash):
            assert sha256(met[at]) == pair[at].digest
        else:
            assert public_key_xonly(met[at]) == pair[at].point


def test_a_question_that_was_not_published_has_no_clauses():
    oracle = PreimageSecrets(secret=b"\x01" * 32).publish(SYMBOL, [1])
    with pytest.raises(NotFoundError):
        oracle.lt_gte(SYMBOL, 2)
    with pytest.raises(NotFoundError):
        oracle.lt_gte("ETH-USD", 1)


def test_no_two_questions_have_the_same_bytes():
    asked = [("A", 1), ("A", 2), ("A\x00", 1), ("AB", 1), ("A", -1), ("A", 256)]
    assert len({question(*one) for one in asked}) == len(asked)


@pytest.mark.parametrize("asked", [("", 1), ("A" * 256, 1), ("A", 1 << 63), ("A", -(1 << 63) - 1)])
def test_a_question_that_has_no_bytes_is_refused(asked):
    with pytest.raises(InvalidInputError):
        question(*asked)


def test_a_threshold_of_oracles_is_two_thresholds_in_the_order_of_the_oracles_and_may_hold_another():
    kept = [PreimageSecrets(secret=bytes([n]) * 32) for n in (1, 2, 3)]
    inner = ThresholdOracle(oracles=tuple(one.publish(SYMBOL, [7]) for one in kept), threshold=2)
    below, at_least = inner.lt_gte(SYMBOL, 7)
    assert below == Threshold(2, tuple(one.publish(SYMBOL, [7]).lt_gte(SYMBOL, 7)[0] for one in kept))
    outer = ThresholdOracle(oracles=(inner, kept[0].publish(SYMBOL, [7])), threshold=1)
    assert outer.lt_gte(SYMBOL, 7)[1] == Threshold(1, (at_least, kept[0].publish(SYMBOL, [7]).lt_gte(SYMBOL, 7)[1]))


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("kind", [PreimageSecrets, AttestingSecrets])
def test_an_oracle_that_is_named_twice_has_not_two_votes_of_three(kind, encrypted):
    one, other = (kind(secret=bytes([n]) * 32) for n in (1, 2))
    named = (one.publish(SYMBOL, [7]), one.publish(SYMBOL, [7]), other.publish(SYMBOL, [7]))
    with pytest.raises(InvalidInputError):
        means_of(ThresholdOracle(oracles=named, threshold=2).lt_gte(SYMBOL, 7)[0], encrypted=encrypted)


def test_two_nonces_of_one_oracle_are_one_vote():
    one = AttestingSecrets(secret=b"\x01" * 32).publish(SYMBOL, [7])
    again = replace(one, published={(SYMBOL, 7): Statement(nonce=b"\x02" * 32, proof=bytes(64))})
    with pytest.raises(InvalidInputError) as refused:
        ThresholdOracle(oracles=(one, again), threshold=2)
    assert refused.value.field == "oracles"


def test_a_nonce_whose_knowledge_nobody_proved_is_refused():
    # the last of several oracles could choose one that cancels the others' points
    honest = AttestingSecrets(secret=b"\x01" * 32).publish(SYMBOL, [7])
    other = AttestingSecrets(secret=b"\x02" * 32).publish(SYMBOL, [7, 8])
    for wrong in (
        replace(honest.published[SYMBOL, 7], nonce=other.published[SYMBOL, 7].nonce),
        other.published[SYMBOL, 7],
        replace(honest.published[SYMBOL, 7], proof=bytes(64)),
    ):
        with pytest.raises(InvalidInputError) as refused:
            replace(honest, published={(SYMBOL, 7): wrong}).lt_gte(SYMBOL, 7)
        assert refused.value.field == "nonce"
    with pytest.raises(InvalidInputError):
        replace(other, published={(SYMBOL, 7): other.published[SYMBOL, 8]}).lt_gte(SYMBOL, 7)


def test_secrets_stay_out_of_what_is_printed():
    for kept in (PreimageSecrets(secret=b"\xab" * 32), AttestingSecrets(secret=b"\xab" * 32)):
        assert "ab" * 8 not in repr(kept)
        assert "xab" not in repr(kept)
    shown = AttestingSecrets(secret=b"\x01" * 32).answer(SYMBOL, 7, price=7)
    assert next(iter(shown.secrets.values())).hex() not in repr(shown)
    assert isinstance(AttestingSecrets(secret=b"\x01" * 32).publish(SYMBOL, [7]).lt_gte(SYMBOL, 7)[0], Revealed)
