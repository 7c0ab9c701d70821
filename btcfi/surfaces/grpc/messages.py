"""Between the wire's messages and our records. Whatever comes in is checked here, once.

The doubles of the published messages are filled in for readers that know only them; on the way in they must agree with
the integers, and only the integers go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from btcfi.oracle.commitment import PriceCommitment
from btcfi.oracle.consensus import Absent, AgreedPrice, Dropped, Outcome, Void
from btcfi.oracle.freshness import expires_at
from btcfi.oracle.quote import (
    HIGHEST_PRICE,
    HIGHEST_RATE,
    LEAST_LEG_VOLUME,
    LOWEST_PRICE,
    LOWEST_RATE,
    MAX_LEG_VOLUME,
    PAR,
    Feed,
    LegQuote,
    Missing,
    MissingReason,
    Observation,
    Quote,
    Rate,
    bare_leg,
    check_candle,
    check_leg,
    parse_venue,
)
from btcfi.oracle.recompute import Contradiction, SignedRound
from btcfi.oracle.report import RoundReport, canonical_json, encode_report, report_hash
from btcfi.oracle.round_book import NodeHealth
from btcfi.oracle.submission import MAX_DETAIL, MAX_NODE_ID, SignedSubmission, Submission, SubmissionError
from btcfi.oracle.time_sync import MAX_UNIX_MS, Milliseconds, TimeSyncProof
from btcfi.surfaces.protos import oracle_pb2 as pb
from btcfi.units import MAX_MONEY_SATS, CentsPerBtc, Sats, hash32, slot, unix_seconds

MAX_MESSAGE_BYTES: Final = 256 * 1024 + 4096
"""A submission with the largest raw response that a venue's client keeps; anything bigger never reaches our code."""

MAX_RAW_RESPONSE: Final = 256 * 1024
_CENT: Final = 0.005000001
"""How far a published double may be from the integer: half a cent, and a double's own rounding."""


def read_submission(message: pb.PriceSubmission) -> SignedSubmission:
    """Return the record of a message. Raises InvalidInputError (SubmissionError or a unit's) for a wrong field."""
    if not 1 <= len(message.node_id.encode()) <= MAX_NODE_ID:
        raise SubmissionError("node_id", f"{len(message.node_id)} characters", f"1 to {MAX_NODE_ID}")
    if not 1 <= len(message.feed) <= MAX_NODE_ID:
        raise SubmissionError("feed", f"{len(message.feed)} characters", "such as BTC/USD")
    if len(message.signature) != 64:  # noqa: PLR2004 - BIP340's size
        raise SubmissionError("signature", f"{len(message.signature)} bytes", "64 bytes")
    if len(message.raw_response) > MAX_RAW_RESPONSE:
        raise SubmissionError("raw_response", f"{len(message.raw_response)} bytes", f"at most {MAX_RAW_RESPONSE}")
    observation = _observation(message)
    if message.exchange and message.exchange != observation.venue.exchange:
        raise SubmissionError("exchange", message.exchange[:40], observation.venue.exchange)
    submission = Submission(
        feed=Feed(message.feed),
        node_id=message.node_id,
        observation=observation,
        sent_at_ms=_milliseconds("sent_at_ms", message.sent_at_ms),
        time_proof=_time_proof(message),
    )
    return SignedSubmission(submission=submission, signature=message.signature, raw_response=message.raw_response)


def write_submission(signed: SignedSubmission, *, nonce: bytes = b"", with_response: bool = True) -> pb.PriceSubmission:
    """Return the message of a signed submission; ``read_submission`` gives it back."""
    said = signed.submission
    o = said.observation
    message = pb.PriceSubmission(
        timestamp=o.slot,
        exchange=o.venue.exchange,
        signature=signed.signature,
        node_id=said.node_id,
        feed=said.feed,
        venue=str(o.venue),
        observed_at=o.observed_at,
        sent_at_ms=said.sent_at_ms,
        evidence=o.evidence or b"",
        raw_response=signed.raw_response if with_response else b"",
        commitment_nonce=nonce,
    )
    if said.time_proof is not None:
        proof = said.time_proof
        message.time_proof.local_timestamp = proof.local_unix_ms
        message.time_proof.ntp_timestamp = proof.reference_unix_ms
        message.time_proof.round_trip_ms = proof.round_trip_ms
        message.time_proof.servers = proof.servers
    if isinstance(o, Quote):
        message.kind = pb.QUOTE
        message.price, message.volume = o.close / 100, o.volume / 10**8
        message.open_cents, message.high_cents, message.low_cents, message.close_cents = o.open, o.high, o.low, o.close
        message.volume_sats = o.volume
    elif isinstance(o, LegQuote):
        message.kind = pb.LEG
        message.price, message.rate_e8 = o.rate / PAR, o.rate
        if not o.is_bare:
            message.open_e8, message.high_e8, message.low_e8, message.leg_volume_e8 = o.open, o.high, o.low, o.volume
    else:
        message.kind = pb.MISSING
        message.missing_reason, message.missing_detail = o.reason.value, _cut(o.detail)
    return message


def _cut(detail: str) -> str:
    return detail.encode()[:MAX_DETAIL].decode(errors="ignore")


def _observation(message: pb.PriceSubmission) -> Observation:
    venue, at, observed = parse_venue(message.venue), slot(message.timestamp), unix_seconds(message.observed_at)
    if message.kind == pb.MISSING:
        try:
            reason = MissingReason(message.missing_reason)
        except ValueError as e:
            raise SubmissionError("missing_reason", message.missing_reason[:40], "a known reason") from e
        if len(message.missing_detail.encode()) > MAX_DETAIL:
            raise SubmissionError("missing_detail", "too long", f"at most {MAX_DETAIL} bytes")
        return Missing(
            venue=venue,
            slot=at,
            reason=reason,
            detail=message.missing_detail,
            observed_at=observed,
            evidence=hash32(message.evidence) if message.evidence else None,
        )
    evidence = hash32(message.evidence)
    if message.kind == pb.LEG:
        if not venue.is_leg:
            raise SubmissionError("kind", "LEG", f"QUOTE for {venue}")
        rate = _within("rate_e8", message.rate_e8, LOWEST_RATE, HIGHEST_RATE)
        _agrees("price", message.price, rate / PAR, 1e-8)
        if not message.leg_volume_e8:  # an earlier release's, of which only the close is signed
            return bare_leg(venue=venue, slot=at, rate=Rate(rate), observed_at=observed, evidence=evidence)
        leg = LegQuote(
            venue=venue,
            slot=at,
            open=Rate(_within("open_e8", message.open_e8, LOWEST_RATE, HIGHEST_RATE)),
            high=Rate(_within("high_e8", message.high_e8, LOWEST_RATE, HIGHEST_RATE)),
            low=Rate(_within("low_e8", message.low_e8, LOWEST_RATE, HIGHEST_RATE)),
            rate=Rate(rate),
            volume=_within("leg_volume_e8", message.leg_volume_e8, LEAST_LEG_VOLUME, MAX_LEG_VOLUME),
            observed_at=observed,
            evidence=evidence,
        )
        check_leg(leg)
        return leg
    if message.kind != pb.QUOTE or venue.is_leg:
        raise SubmissionError("kind", str(message.kind), f"{'LEG' if venue.is_leg else 'QUOTE'} for {venue}")
    quote = Quote(
        venue=venue,
        slot=at,
        open=_price("open_cents", message.open_cents),
        high=_price("high_cents", message.high_cents),
        low=_price("low_cents", message.low_cents),
        close=_price("close_cents", message.close_cents),
        volume=Sats(_within("volume_sats", message.volume_sats, 1, MAX_MONEY_SATS)),
        observed_at=observed,
        evidence=evidence,
    )
    check_candle(quote)
    _agrees("price", message.price, quote.close / 100, _CENT)
    _agrees("volume", message.volume, quote.volume / 10**8, 1e-7 * max(1.0, quote.volume / 10**8))
    return quote


def _time_proof(message: pb.PriceSubmission) -> TimeSyncProof | None:
    if not message.HasField("time_proof"):
        return None
    proof = message.time_proof
    return TimeSyncProof(
        local_unix_ms=_milliseconds("time_proof.local_timestamp", proof.local_timestamp),
        reference_unix_ms=_milliseconds("time_proof.ntp_timestamp", proof.ntp_timestamp),
        round_trip_ms=Milliseconds(proof.round_trip_ms),
        servers=proof.servers,
    )


def _price(field: str, value: int) -> CentsPerBtc:
    return CentsPerBtc(_within(field, value, LOWEST_PRICE, HIGHEST_PRICE))


def _milliseconds(field: str, value: int) -> Milliseconds:
    return Milliseconds(_within(field, value, 0, MAX_UNIX_MS))


def _within(field: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise SubmissionError(field, str(value), f"{low} to {high}")
    return value


def _agrees(field: str, told: float, meant: float, tolerance: float) -> None:
    # 0 is a double that was not filled in; NaN and the infinities agree with nothing
    if told != 0 and not (math.isfinite(told) and abs(told - meant) <= tolerance):
        raise SubmissionError(field, str(told), f"{meant} as the integers say, or left out")


def write_price(
    agreed: AgreedPrice, *, report: RoundReport | None = None, signatures: int = 0, certified: bool = False
) -> pb.AggregatedPrice:
    """Return the message of an agreed price; the doubles are dollars."""
    message = pb.AggregatedPrice(
        price=agreed.price / 100,
        confidence=agreed.confidence / 100,
        num_sources=len(agreed.used),
        timestamp=agreed.slot,
        price_cents=agreed.price,
        low_cents=agreed.low,
        high_cents=agreed.high,
        confidence_cents=agreed.confidence,
        confidence_bps=agreed.confidence_bps,
        dropped=_dropped(agreed.dropped),
        absent=_absent(agreed),
        signatures=signatures,
        certified=certified,
        dollar_markets=agreed.dollar_markets or 0,
        reach_cents=agreed.reach or 0,
        thin=[why.value for why in agreed.thin],
        expires_at=expires_at(agreed.slot),
    )
    for used in agreed.used:
        message.sources.add(
            exchange=used.venue.exchange,
            pair=used.venue.symbol,
            last=used.close / 100,
            timestamp=agreed.slot,
            close_cents=used.close,
            volume_sats=used.volume or 0,
            dollars_cents=used.dollars,
            basis=used.basis.value,
            evidence=used.evidence,
        )
    if report is not None:
        message.report_hash, message.evidence_root = report_hash(report), report.evidence_root
    return message


def write_update(
    outcome: Outcome,
    *,
    final: bool,
    remarks: Iterable[Missing] = (),
    report: RoundReport | None = None,
    signatures: int = 0,
    certified: bool = False,
) -> pb.PriceUpdate:
    """Return what subscribers hear of a round: its price, or why there is none.

    remarks: why the aggregator did not hear a venue that the report calls silent.
    """
    absent = _remarked(outcome, remarks)
    update = pb.PriceUpdate(slot=outcome.slot, dropped=_dropped(outcome.dropped), absent=absent, final=final)
    if isinstance(outcome, Void):
        update.void_reason = outcome.reason.value
        return update
    update.priced = True
    update.price.CopyFrom(write_price(outcome, report=report, signatures=signatures, certified=certified))
    return update


def _remarked(outcome: Outcome, remarks: Iterable[Missing]) -> list[pb.AbsentVenue]:
    why = {said.venue: said for said in remarks}
    return [
        _absent_venue(why[a.venue] if a.reason is MissingReason.SILENT and a.venue in why else a)
        for a in outcome.absent
    ]


def _dropped(dropped: Iterable[Dropped]) -> list[pb.DroppedPrice]:
    return [
        pb.DroppedPrice(
            venue=str(d.venue),
            reason=d.reason.value,
            close_cents=d.close or 0,
            deviation_bps=d.deviation_bps or 0,
            limit_bps=d.limit_bps or 0,
        )
        for d in dropped
    ]


def _absent(outcome: Outcome) -> list[pb.AbsentVenue]:
    return [_absent_venue(a) for a in outcome.absent]


def _absent_venue(one: Absent | Missing) -> pb.AbsentVenue:
    return pb.AbsentVenue(venue=str(one.venue), reason=one.reason.value, detail=one.detail)


def write_report(
    report: RoundReport,
    signed: SignedRound,
    signatures: Mapping[str, bytes],
    *,
    final: bool,
    late: Iterable[Contradiction] = (),
) -> pb.RoundReport:
    """Return a round's report with the signed messages that it was made from, and what was signed after its end."""
    return pb.RoundReport(
        slot=report.slot,
        final=final,
        report_json=canonical_json(encode_report(report)),
        submissions=[write_submission(s, with_response=False) for s in signed.submissions],
        signatures=dict(signatures),
        report_hash=report_hash(report),
        contradictions=[_write_contradiction(both) for both in signed.contradictions],
        commitments=[write_commitment(made) for made in signed.commitments],
        late_contradictions=[_write_contradiction(both) for both in late],
    )


def read_messages(message: pb.RoundReport) -> SignedRound:
    """Return the signed messages of a round. Raises InvalidInputError for a field that no honest message has."""
    return SignedRound(
        slot=slot(message.slot),
        submissions=tuple(read_submission(one) for one in message.submissions),
        contradictions=tuple(
            (read_submission(both.first), read_submission(both.second)) for both in message.contradictions
        ),
        commitments=tuple(read_commitment(made) for made in message.commitments),
    )


def read_commitment(message: pb.CommitRequest) -> PriceCommitment:
    """Return the record of a commitment. Raises InvalidInputError for a wrong field."""
    return PriceCommitment(
        node_id=message.node_id,
        slot=slot(message.slot),
        commitment=hash32(message.commitment),
        signature=message.signature,
    )


def write_commitment(made: PriceCommitment) -> pb.CommitRequest:
    """Return the message of a commitment."""
    return pb.CommitRequest(node_id=made.node_id, slot=made.slot, commitment=made.commitment, signature=made.signature)


def _write_contradiction(both: Contradiction) -> pb.Contradiction:
    first, second = (write_submission(one, with_response=False) for one in both)
    return pb.Contradiction(first=first, second=second)


def write_node(health: NodeHealth) -> pb.NodeStatus:
    """Return the message of a node's health."""
    return pb.NodeStatus(
        node_id=health.node.node_id,
        venue=str(health.node.venue),
        active=health.active,
        last_heard=health.last_heard or 0,
        accepted=health.accepted,
        refused=health.refused,
    )
