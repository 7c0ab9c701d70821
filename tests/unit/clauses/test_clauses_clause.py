"""What a condition becomes, and what it can't be."""

import pytest

from btcfi.clauses.clause import (
    ALWAYS,
    MAX_WAYS,
    SECONDS_FLAG,
    After,
    And,
    Hash,
    Key,
    Means,
    Older,
    Or,
    Revealed,
    Several,
    Threshold,
    means_of,
)  # fmt: skip
from btcfi.clauses.script import NotShownError, leaf_script, miniscript, satisfy
from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256
from btcfi.secp256k1 import public_key_xonly

A, B, C = (public_key_xonly(bytes([n]) * 32) for n in (1, 2, 3))
H, I = (sha256(bytes([n]) * 32) for n in (1, 2))  # noqa: E741 - beside H


def test_nothing_to_show_is_one_way_with_nothing_in_it():
    assert means_of(ALWAYS) == (Means(()),)


def test_and_multiplies_the_ways_and_or_adds_them():
    clause = And((Or((Key(A), Key(B))), Or((Hash(H), Hash(I)))))
    assert [one.atoms for one in means_of(clause)] == [
        (Hash(H), Key(A)), (Hash(I), Key(A)), (Hash(H), Key(B)), (Hash(I), Key(B)),
    ]  # fmt: skip


def test_a_threshold_of_keys_is_one_leaf_and_one_of_hashes_a_leaf_for_each_set():
    keys = Threshold(2, (Key(A), Revealed(B), Key(C)))
    assert [one.atoms for one in means_of(keys)] == [(Several(2, (A, B, C)),)]
    hashes = Threshold(2, (Hash(H), Hash(I), Hash(bytes(32))))
    assert [set(one.atoms) for one in means_of(hashes)] == [
        {Hash(H), Hash(I)}, {Hash(H), Hash(bytes(32))}, {Hash(I), Hash(bytes(32))},
    ]  # fmt: skip


def test_all_of_a_threshold_are_all_of_them():
    assert means_of(Threshold(2, (Key(A), Key(B)))) == means_of(And((Key(A), Key(B))))


def test_points_that_encrypt_leave_the_script_and_a_key_stays_in_it():
    clause = And((Threshold(2, (Revealed(A), Revealed(B), Revealed(C))), Key(public_key_xonly(b"\x09" * 32))))
    ways = means_of(clause, encrypted=True)
    assert {one.points for one in ways} == {tuple(sorted(pair)) for pair in ((A, B), (A, C), (B, C))}
    assert len({one.atoms for one in ways}) == 1


def test_one_thing_twice_in_a_way_is_one_thing():
    assert means_of(And((Key(A), Key(A), Hash(H), Hash(H)))) == (Means((Hash(H), Key(A))),)
    assert means_of(Or((Key(A), Key(A)))) == (Means((Key(A),)),)


def test_of_two_locks_of_one_unit_the_later_one_is_left():
    (one,) = means_of(And((After(5), After(9), Older(3), Older(2), Key(A))))
    assert (one.lock_time, one.relative) == (9, 3)
    assert miniscript(one) == f"and_v(v:after(9),and_v(v:older(3),pk({A.hex()})))"


@pytest.mark.parametrize(
    "clause",
    [
        And((After(5), After(500_000_000), Key(A))),
        And((Older(5), Older(SECONDS_FLAG | 5), Key(A))),
        And((Threshold(1, (Key(A), Key(B))), Key(B))),
        Threshold(1, (Key(A), Key(A), Key(B))),
        Threshold(2, (Hash(H), Hash(H), Hash(I))),
        Threshold(2, (Revealed(A), Revealed(A), Revealed(B))),
        Threshold(10, tuple(Hash(bytes([n]) * 32) for n in range(20))),
        And(tuple(Or((Hash(bytes([n]) * 32), Key(A))) for n in range(8))),
        Or(tuple(Hash(n.to_bytes(32)) for n in range(MAX_WAYS + 1))),
    ],
)
def test_a_condition_that_no_script_should_hold_is_refused(clause):
    for encrypted in (False, True):
        with pytest.raises(InvalidInputError):
            means_of(clause, encrypted=encrypted)


@pytest.mark.parametrize(
    "made",
    [
        lambda: Key(bytes(32)), lambda: Revealed(b"\xff" * 32), lambda: Hash(b"short"), lambda: After(0),
        lambda: After(1 << 31), lambda: Older(0), lambda: Older(1 << 16), lambda: Older(SECONDS_FLAG), lambda: Or(()),
        lambda: Older(SECONDS_FLAG << 1 | 5), lambda: Threshold(0, (Key(A),)), lambda: Threshold(2, (Key(A),)),
    ],
)  # fmt: skip
def test_what_is_no_key_hash_or_lock_is_refused(made):
    with pytest.raises(InvalidInputError):
        made()


@pytest.mark.parametrize("means", [Means(()), Means((Hash(H),)), Means((After(5), Older(6)))])
def test_a_way_without_a_signature_is_no_leaf(means):
    for write in (leaf_script, miniscript):
        with pytest.raises(InvalidInputError):
            write(means)


def test_a_wrong_or_short_preimage_is_as_none():
    (one,) = means_of(And((Hash(H), Key(A))))
    for shown in ({}, {H: b"\x02" * 32}, {H: b"\x01" * 31}):
        with pytest.raises(NotShownError):
            satisfy(one, {A: bytes(64)}, shown)
    assert satisfy(one, {A: bytes(64)}, {H: b"\x01" * 32}) == (bytes(64), b"\x01" * 32)


def test_of_a_threshold_no_more_signatures_are_shown_than_it_asks_for():
    one = Means((Several(2, (A, B, C)),))
    assert satisfy(one, {A: b"a", B: b"b", C: b"c"}, {}) == (b"", b"b", b"a")
    assert satisfy(one, {A: b"a", C: b"c"}, {}) == (b"c", b"", b"a")
    with pytest.raises(NotShownError):
        satisfy(one, {C: b"c"}, {})
