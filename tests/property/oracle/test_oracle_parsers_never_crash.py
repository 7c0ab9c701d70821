"""Whatever bytes an exchange or a node sends: an answer of ours, never another exception."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256
from btcfi.oracle.quote import LegQuote, Missing, Quote, VenueId, decode_observation
from btcfi.oracle.submission import signature_valid
from btcfi.oracle.venues import EXCHANGES, exchange_of
from btcfi.oracle.venues.candle import read_response
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces.grpc.messages import read_submission, write_submission
from btcfi.surfaces.protos import oracle_pb2 as pb
from btcfi.units import UnixSeconds
from tests.support.oracle_support import KRAKEN, SLOT, quote, secret_of, signed

numbers = st.one_of(
    st.integers(), st.floats(), st.decimals().map(str), st.text(max_size=8), st.none(), st.booleans(),
    st.sampled_from(["60000.1", "59999", SLOT, SLOT * 1000, "1.5", "NaN", "1e400", "-0"]),
)  # fmt: skip
rows = st.lists(st.lists(numbers, max_size=9), max_size=4)
documents = st.one_of(
    rows, rows.map(lambda r: {"error": [], "result": {"XXBTZUSD": r, "last": 1}}),
    st.recursive(
        numbers, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
)  # fmt: skip


@settings(deadline=None)
@given(
    st.sampled_from(sorted(EXCHANGES)),
    st.one_of(st.binary(max_size=200), documents.map(lambda d: json.dumps(d).encode())),
)
def test_any_response_of_an_exchange_is_a_quote_or_missing_with_a_reason(name: str, raw: bytes) -> None:
    for market in (("BTC", "USD"), ("USDT", "USD")):
        venue = VenueId(exchange=name, base=market[0], quote=market[1])
        seen = read_response(
            exchange_of(name), raw, venue=venue, slot=SLOT, now=UnixSeconds(SLOT + 62), evidence=sha256(raw)
        )
        assert isinstance(seen, Quote | LegQuote | Missing)
        assert seen.slot == SLOT


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_that_parse_as_a_submission_are_read_or_refused(raw: bytes) -> None:
    with suppress(DecodeError, InvalidInputError):
        read_submission(pb.PriceSubmission.FromString(raw))


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 7))
def test_a_flipped_bit_of_a_submission_is_refused_or_breaks_its_signature(at: int, bit: int) -> None:
    word = signed("k", quote(KRAKEN, 60_000_00))
    raw = bytearray(write_submission(word).SerializeToString())
    raw[at % len(raw)] ^= 1 << bit
    with suppress(DecodeError, InvalidInputError):
        again = read_submission(pb.PriceSubmission.FromString(bytes(raw)))
        key = public_key_xonly(secret_of("k"))
        unsigned = replace(again, signature=word.signature) == word  # an unknown field, or the doubles left out
        assert unsigned or not signature_valid(again, key)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["kind", "venue", "slot", "observed_at_unix", "evidence", "close_cents", "reason"]), numbers
    )
)
def test_any_json_is_an_observation_or_refused(raw) -> None:
    with suppress(InvalidInputError):
        decode_observation(raw)
