"""Rounds for tests: closed minutes with what five dollar markets said, and the report that follows from it."""

import json

from btcfi.adapters.store.prices.observations import store_observation
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, Method, agreed_price, encode_outcome
from btcfi.oracle.quote import parse_venue
from btcfi.units import CentsPerBtc, Slot, UnixSeconds
from tests.support.oracle_support import missing, quote

DOLLARS = tuple(
    parse_venue(f"{exchange}:BTC/USD") for exchange in ("bitfinex", "bitstamp", "coinbaseexchange", "gemini", "kraken")
)
COIN = parse_venue("binance:BTC/USDT")


def closed_round(session, slot, closes, low=None, high=None, *, feed="BTC/USD", rule=None, coin=None):
    """Store a closed minute in which ``closes`` are what the dollar markets said, None for one that said nothing.

    coin: what a market of a stablecoin said besides, which no leg converts.
    """
    slot = Slot(slot)
    said = [
        missing(venue, slot=slot) if close is None
        else quote(venue, close, low=min(low or close, close), high=max(high or close, close), slot=slot)
        for venue, close in zip(DOLLARS, closes, strict=True)
    ]  # fmt: skip
    said += [] if coin is None else [quote(COIN, coin, slot=slot)]
    for one in said:
        store_observation(session, feed, one, b"", now=UnixSeconds(slot + 62))
    outcome = agreed_price(said, registered=(*DOLLARS, COIN)[: len(said)], rule=rule or ConsensusRule(), slot=slot)
    row = RoundRow(
        feed=feed, slot=slot, state="void", deadline_unix=0, opened_at_unix=0, closed_at_unix=0,
        report=json.dumps(encode_outcome(outcome)),
    )  # fmt: skip
    if isinstance(outcome, AgreedPrice):
        row.state, row.price_cents = "priced", outcome.price
        row.low_cents, row.high_cents = outcome.low, outcome.high
    session.add(row)
    session.flush()
    return row


def add_minute(session, slot, price, low=None, high=None, *, feed="BTC/USD", confidence=0):
    """Store a priced minute, cents; confidence is half the width of its band."""
    apart = (-confidence, -confidence, 0, confidence, confidence)
    return closed_round(session, slot, [price + one for one in apart], low, high, feed=feed)


def void_minute(session, slot, *, feed="BTC/USD"):
    """Store a minute in which nobody said anything."""
    return closed_round(session, slot, [None] * len(DOLLARS), feed=feed)


def priced_round(slot, price, low=None, high=None, *, feed="BTC/USD", confidence=0):
    """A priced minute as an earlier release left it, without what venues said."""
    agreed = AgreedPrice(
        slot=Slot(slot), price=CentsPerBtc(price), low=CentsPerBtc(low or price), high=CentsPerBtc(high or price),
        confidence=CentsPerBtc(confidence), registered=3, quorum=2, used=(), dropped=(), absent=(), rates=(),
        method=Method.VOLUME_WEIGHTED_MEDIAN,
    )  # fmt: skip
    return RoundRow(
        feed=feed, slot=slot, state="priced", price_cents=price, low_cents=agreed.low, high_cents=agreed.high,
        deadline_unix=0, opened_at_unix=0, closed_at_unix=0, report=json.dumps(encode_outcome(agreed)),
    )  # fmt: skip
