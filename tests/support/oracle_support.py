"""Builders for the oracle's tests: short ways to say what a venue or a node says."""

from __future__ import annotations

from btcfi.hashes import sha256
from btcfi.oracle.quote import (
    BTC_USD,
    LegQuote,
    Missing,
    MissingReason,
    Quote,
    Rate,
    VenueId,
    parse_venue,
)
from btcfi.oracle.round_book import NodeInfo, Registry
from btcfi.oracle.submission import SignedSubmission, Submission, sign_submission
from btcfi.oracle.time_sync import Milliseconds, TimeSyncProof
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import CentsPerBtc, Hash32, Sats, Slot, UnixSeconds

SLOT = Slot(1_700_000_040)
BINANCE = parse_venue("binance:BTC/USDT")
COINBASE = parse_venue("coinbaseexchange:BTC/USD")
KRAKEN = parse_venue("kraken:BTC/USD")
KRAKEN_USDC = parse_venue("kraken:BTC/USDC")
LEG = parse_venue("kraken:USDT/USD")
THREE = (BINANCE, COINBASE, KRAKEN)


def quote(
    venue: VenueId,
    close: int,
    *,
    volume: int = 10**8,
    low: int | None = None,
    high: int | None = None,
    slot: Slot = SLOT,
    at: int = 62,
    evidence: bytes | None = None,
) -> Quote:
    return Quote(
        venue=venue, slot=slot, open=CentsPerBtc(close), close=CentsPerBtc(close),
        low=CentsPerBtc(close if low is None else low), high=CentsPerBtc(close if high is None else high),
        volume=Sats(volume), observed_at=UnixSeconds(slot + at),
        evidence=Hash32(evidence or sha256(f"{venue} {slot} {close}".encode())),
    )  # fmt: skip


def leg(rate: int, *, venue: VenueId = LEG, slot: Slot = SLOT) -> LegQuote:
    one = Rate(rate)
    return LegQuote(
        venue=venue, slot=slot, open=one, high=one, low=one, rate=one, volume=10**12,
        observed_at=UnixSeconds(slot + 62), evidence=sha256(b"leg"),
    )  # fmt: skip


def missing(venue: VenueId, reason: MissingReason = MissingReason.TIMEOUT, *, slot: Slot = SLOT) -> Missing:
    return Missing(venue=venue, slot=slot, reason=reason, detail="", observed_at=UnixSeconds(slot + 62))


def secret_of(node_id: str) -> bytes:
    return sha256(b"test node " + node_id.encode())


def registry(**venues: VenueId) -> Registry:
    """One node a keyword: ``registry(k1=KRAKEN)``."""
    return Registry(
        nodes={n: NodeInfo(node_id=n, venue=v, public_key=public_key_xonly(secret_of(n))) for n, v in venues.items()}
    )


def signed(
    node_id: str,
    observation,
    *,
    at: float | None = None,
    offset_ms: int | None = None,
    secret: bytes | None = None,
    raw: bytes = b"",
    feed=BTC_USD,
) -> SignedSubmission:
    """A node's word, sent ``at`` (unix seconds; default: when it was observed), its clock off by ``offset_ms``."""
    sent = Milliseconds(int((observation.observed_at if at is None else at) * 1000))
    proof = None
    if offset_ms is not None:
        proof = TimeSyncProof(
            local_unix_ms=sent,
            reference_unix_ms=Milliseconds(sent - offset_ms),
            round_trip_ms=Milliseconds(4),
            servers=1,
        )
    return sign_submission(
        Submission(feed=feed, node_id=node_id, observation=observation, sent_at_ms=sent, time_proof=proof),
        secret or secret_of(node_id), aux=bytes(32), raw_response=raw,
    )  # fmt: skip
