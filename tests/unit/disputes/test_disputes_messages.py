"""Each message of a set-up has one form in bytes, and one of another length is refused before it is looked at."""

import hashlib
import random

import pytest

from btcfi.disputes.garbled.messages import (
    decode_claims,
    decode_commitments,
    decode_cut,
    decode_openings,
    decode_silence,
    encode_claims,
    encode_commitments,
    encode_cut,
    encode_openings,
    encode_silence,
)
from btcfi.disputes.garbled.presign import check_claims, check_silence
from btcfi.disputes.garbled.setup import check_commitments, kept_of
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.units import Txid
from tests.support.disputing import Dispute, secret


@pytest.fixture(scope="module", params=["eager", "lazy"])
def dispute(request):
    made = Dispute(claim_height=0 if request.param == "eager" else 10)
    made.signed(Txid(bytes(range(32))))
    return made


def forms(dispute):
    """Each message, how it is read, and how it is checked."""
    subject, graph = dispute.garbler.subject, dispute.graph
    openings = dispute.garbler.openings(dispute.cut)
    first = dispute.commitments
    return {
        "cut": (encode_cut(dispute.cut), dispute.cut, lambda data: decode_cut(subject, data), lambda one: None),
        "commitments": (
            encode_commitments(first), first, lambda data: decode_commitments(subject, data),
            lambda one: check_commitments(subject, one),
        ),
        "openings": (
            encode_openings(openings), openings, lambda data: decode_openings(subject, dispute.cut, data),
            lambda one: kept_of(subject, first, dispute.cut, one, coins=secret("coins")),
        ),
        "claims": (
            encode_claims(dispute.of_claims), dispute.of_claims, lambda data: decode_claims(graph, data),
            lambda one: check_claims(graph, one),
        ),
        "silence": (
            encode_silence(dispute.of_silence), dispute.of_silence, lambda data: decode_silence(graph, data),
            lambda one: check_silence(graph, one),
        ),
    }  # fmt: skip


NAMES = ["cut", "commitments", "openings", "claims", "silence"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_is_what_was_written(dispute, name):
    data, said, decode, check = forms(dispute)[name]
    assert decode(data) == said
    check(decode(data))


@pytest.mark.parametrize("name", NAMES)
def test_another_length_is_refused_with_the_right_one(dispute, name):
    data, _, decode, _ = forms(dispute)[name]
    for wrong in (b"", data[:-1], data + b"\0", data * 2):
        with pytest.raises(InvalidInputError, match=f"{len(data)} bytes"):
            decode(wrong)


@pytest.mark.parametrize("name", ["commitments", "openings", "claims", "silence"])
def test_a_byte_changed_anywhere_is_found_by_the_check_and_nothing_else_is_raised(dispute, name):
    data, _, decode, check = forms(dispute)[name]
    dice = random.Random(name)
    for _ in range(8):
        place = dice.randrange(len(data))
        changed = bytes([*data[:place], data[place] ^ dice.randrange(1, 256), *data[place + 1 :]])
        if name == "commitments":  # a point for another one is found by the shares, when the copies are opened
            openings = dispute.garbler.openings(dispute.cut)
            with pytest.raises(BtcfiError):
                kept_of(
                    dispute.garbler.subject, decode(changed), dispute.cut, openings, coins=secret("coins")
                )  # fmt: skip
        else:
            with pytest.raises(BtcfiError):
                check(decode(changed))


def test_rubbish_of_the_right_length_is_refused(dispute):
    for name, (data, _, decode, check) in forms(dispute).items():
        rubbish = hashlib.shake_256(name.encode()).digest(len(data))
        if name != "cut":
            with pytest.raises(BtcfiError):
                check(decode(rubbish))
