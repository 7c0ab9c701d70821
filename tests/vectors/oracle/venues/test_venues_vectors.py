from __future__ import annotations

import json
from pathlib import Path

import pytest

from btcfi.hashes import sha256
from btcfi.oracle.quote import encode_observation, parse_venue
from btcfi.oracle.venues import EXCHANGES
from btcfi.oracle.venues.candle import read_response
from btcfi.units import Slot, UnixSeconds

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("exchange", sorted(EXCHANGES))
def test_an_answer_as_the_exchange_sends_it_is_read_to_the_cent_and_to_the_satoshi(exchange: str) -> None:
    vector = json.loads((FOLDER / f"{exchange}.json").read_text())
    raw, at = vector["response"].encode(), Slot(vector["slot"])
    venue = parse_venue(vector["venue"])
    seen = read_response(EXCHANGES[exchange], raw, venue=venue, slot=at, now=UnixSeconds(at + 62), evidence=sha256(raw))
    assert vector["expected"].items() <= encode_observation(seen).items()
