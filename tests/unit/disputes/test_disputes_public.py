"""The public part of a disputed contract has one form, binds its halves, and holds no secret."""

import json

import pytest

from btcfi.contracts.messages import canonical
from btcfi.contracts.setup import WrongMessageError
from btcfi.disputes.garbled.chains import FaultPoint
from btcfi.disputes.garbled.graph import Graph
from btcfi.disputes.public import decode_public, encode_public
from btcfi.errors import InvalidInputError
from tests.support.disputed import public
from tests.support.disputing import Dispute


@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_written_is_read_back_with_every_transaction(lazy):
    ours = public(lazy=lazy)
    read = decode_public(json.loads(canonical(encode_public(ours))))
    assert (read, read.id, read.opening) == (ours, ours.id, ours.opening)
    assert read.graph.claim_txids == ours.graph.claim_txids


def test_a_stranger_s_transactions_are_those_of_both_sides_and_it_can_pre_sign_nothing():
    dispute, opening = Dispute(), public().opening.txid
    ours = Graph(dispute.terms, dispute.commitments, opening)
    stranger = Graph(dispute.terms, FaultPoint(dispute.commitments.fault), opening)
    assert stranger.claim_txids == ours.claim_txids
    assert (stranger.silence, stranger.refund, stranger.escrow) == (ours.silence, ours.refund, ours.escrow)
    with pytest.raises(InvalidInputError):
        stranger.points.label(0, 0)


@pytest.mark.parametrize("name", ["proposal", "acceptance", "fault", "since_height", "type", "version"])
def test_each_field_is_needed_and_no_other_is_taken(name):
    body = encode_public(public())
    with pytest.raises(InvalidInputError):
        decode_public({key: value for key, value in body.items() if key != name})
    with pytest.raises(InvalidInputError):
        decode_public(body | {"more": 1})


def test_a_half_of_another_contract_and_terms_that_nobody_signed_are_refused():
    body, other = encode_public(public()), encode_public(public(name="other"))
    with pytest.raises(WrongMessageError):
        decode_public(body | {"acceptance": other["acceptance"]})
    with pytest.raises(WrongMessageError):
        decode_public(body | {"proposal": body["proposal"] | {"refund_height": 161}})
    with pytest.raises(InvalidInputError):
        decode_public(body | {"fault": "02" + "ff" * 32})
