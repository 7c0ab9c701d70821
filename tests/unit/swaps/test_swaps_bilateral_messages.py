"""What two parties of a swap send each other: read back whole, and nothing else is read."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest

from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import WrongAnnouncementError
from btcfi.swaps.bilateral.messages import (
    decode_presignatures,
    decode_terms,
    encode_presignatures,
    encode_terms,
    terms_id,
)
from btcfi.swaps.bilateral.presign import Presignatures
from btcfi.swaps.returns import Side
from btcfi.units import UnixSeconds
from tests.support.bilateral_swap import terms

MADE = terms(side=Side.SHORT)
SAID = json.loads(json.dumps(encode_terms(MADE)))


def test_terms_are_read_back_whole_and_have_one_name():
    assert decode_terms(SAID) == MADE
    assert terms_id(decode_terms(SAID)) == terms_id(MADE)
    assert terms_id(replace(MADE, lock=UnixSeconds(MADE.lock + 1))) != terms_id(MADE)


@pytest.mark.parametrize("name", sorted(SAID))
def test_terms_without_a_field_or_with_another_kind_of_one_are_refused(name):
    lacking = {key: value for key, value in SAID.items() if key != name}
    for wrong in (lacking, SAID | {name: None}, SAID | {name: [[]]}, SAID | {"more": 1}):
        with pytest.raises(InvalidInputError):
            decode_terms(wrong)


@pytest.mark.parametrize(("name", "value"), [("side", "long"), ("end_unix", SAID["end_unix"] - 60), ("digits", 10)])
def test_announcements_of_another_event_than_the_terms_are_refused(name, value):
    with pytest.raises(WrongAnnouncementError):
        decode_terms(SAID | {name: value})


@pytest.mark.parametrize("name", ["target_ppm", "basis_ppm"])
def test_an_oracle_that_promised_a_return_at_other_rates_is_refused(name):
    changed = deepcopy(SAID)
    changed["rates"][name] += 1
    with pytest.raises(WrongAnnouncementError):
        decode_terms(changed)


@pytest.mark.parametrize(("name", "value"), [("type", "btcfi/offer"), ("version", 2), ("threshold", 4), ("digits", 8)])
def test_terms_of_another_kind_or_that_nobody_should_sign_are_refused(name, value):
    with pytest.raises(InvalidInputError):
        decode_terms(SAID | {name: value})


def test_pre_signatures_are_read_back_for_their_own_terms_alone():
    signed = Presignatures(settle=b"\x01" * 65, burn=b"\x02" * 130, release=b"")
    said = json.loads(json.dumps(encode_presignatures(MADE, signed)))
    assert decode_presignatures(MADE, said) == signed
    with pytest.raises(InvalidInputError):
        decode_presignatures(replace(MADE, lock=UnixSeconds(MADE.lock + 1)), said)
    for wrong in (said | {"settle": "?"}, said | {"type": "btcfi/swap-terms"}, said | {"more": 1}):
        with pytest.raises(InvalidInputError):
            decode_presignatures(MADE, wrong)
