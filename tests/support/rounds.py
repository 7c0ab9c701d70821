"""Rounds for tests: rows with a real report, as a closed round has it."""

import json

from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.oracle.consensus import AgreedPrice, Method, encode_outcome
from btcfi.units import CentsPerBtc, Slot


def priced_round(slot, price, low=None, high=None, *, feed="BTC/USD", confidence=0):
    """A priced minute, cents; confidence is half the width of its band."""
    agreed = AgreedPrice(
        slot=Slot(slot), price=CentsPerBtc(price), low=CentsPerBtc(low or price), high=CentsPerBtc(high or price),
        confidence=CentsPerBtc(confidence), registered=3, quorum=2, used=(), dropped=(), absent=(), rates=(),
        method=Method.VOLUME_WEIGHTED_MEDIAN,
    )  # fmt: skip
    return RoundRow(
        feed=feed, slot=slot, state="priced", price_cents=price, low_cents=agreed.low, high_cents=agreed.high,
        deadline_unix=0, opened_at_unix=0, closed_at_unix=0, report=json.dumps(encode_outcome(agreed)),
    )  # fmt: skip
