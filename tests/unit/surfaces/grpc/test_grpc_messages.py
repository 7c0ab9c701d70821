from __future__ import annotations

import pytest

from btcfi.errors import InvalidInputError
from btcfi.oracle.submission import signed_bytes
from btcfi.surfaces.grpc.messages import read_submission, write_submission
from btcfi.surfaces.protos import oracle_pb2 as pb
from tests.support.oracle_support import COINBASE, KRAKEN, leg, missing, quote, signed


@pytest.mark.parametrize(
    "word",
    [
        signed("c", quote(COINBASE, 60_000_00), offset_ms=12, raw=b"raw"),
        signed("l", leg(99_990_000)),
        signed("k", missing(KRAKEN)),
    ],
)
def test_a_submission_survives_the_wire_with_the_bytes_that_were_signed(word) -> None:
    wire = write_submission(word).SerializeToString()
    again = read_submission(pb.PriceSubmission.FromString(wire))
    assert again == word
    assert signed_bytes(again.submission) == signed_bytes(word.submission)


@pytest.mark.parametrize(
    "change",
    [
        {"price": float("nan")}, {"price": float("inf")}, {"price": -60000.0}, {"price": 60000.02}, {"volume": 1e30},
        {"volume": float("nan")}, {"timestamp": 61}, {"timestamp": -60}, {"timestamp": 2**62}, {"exchange": "binance"},
        {"signature": b"short"}, {"node_id": ""}, {"node_id": "x" * 65}, {"feed": ""}, {"venue": "nowhere"},
        {"kind": 9}, {"kind": 1}, {"close_cents": 0}, {"close_cents": 2**32 - 1}, {"low_cents": 60_000_01},
        {"volume_sats": 0}, {"volume_sats": 2**63}, {"observed_at": -1}, {"sent_at_ms": -5}, {"sent_at_ms": 2**62},
        {"evidence": b""}, {"evidence": b"x" * 33}, {"raw_response": b"x" * 300_000}, {"kind": 2},
    ],
)  # fmt: skip
def test_a_message_with_a_wrong_field_is_refused_with_an_error_of_ours(change) -> None:
    message = write_submission(signed("c", quote(COINBASE, 60_000_00)))
    for field, value in change.items():
        setattr(message, field, value)
    with pytest.raises(InvalidInputError):
        read_submission(message)


@pytest.mark.parametrize(
    "change", [{"local_timestamp": -1}, {"ntp_timestamp": 2**62}, {"round_trip_ms": -1}, {"servers": 1000}]
)
def test_a_time_proof_with_a_wrong_field_is_refused(change) -> None:
    message = write_submission(signed("c", quote(COINBASE, 60_000_00), offset_ms=5))
    for field, value in change.items():
        setattr(message.time_proof, field, value)
    with pytest.raises(InvalidInputError):
        read_submission(message)


def test_the_published_doubles_may_be_left_out() -> None:
    message = write_submission(signed("c", quote(COINBASE, 60_000_00)))
    message.price = message.volume = 0
    assert read_submission(message).submission.observation.close == 60_000_00


@pytest.mark.parametrize("message", [pb.PriceSubmission(), pb.PriceSubmission(signature=bytes(64), node_id="k")])
def test_an_empty_message_is_refused(message) -> None:
    with pytest.raises(InvalidInputError):
        read_submission(message)
