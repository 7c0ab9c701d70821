"""An example for every field and parameter of the document, by its name: the same word means the same everywhere."""

from __future__ import annotations

from typing import Any, Final

EXAMPLES: Final[dict[str, Any]] = {
    "Idempotency-Key": "order-1",
    "Last-Event-ID": "1790000040",
    "american": False,
    "answer": "settled at the price of its minute",
    "at": "2026-09-21T14:14:05Z",
    "at_unix": 1_790_000_045,
    "attempts": 1,
    "barrier": 90_000,
    "barrier_cents": 9_000_000,
    "checks": ["the program's hash", "the trace root"],
    "collateral_cents": 350_000_000,
    "collateral_sats": 50_000_000,
    "confidence_cents": 1_200,
    "created_at": "2026-09-21T14:14:00Z",
    "created_at_unix": 1_790_000_040,
    "cursor": "MTc5MDAwMDA0MCBvcHRpb24tMQ",
    "database": "ok",
    "delta": 0.52,
    "delta_btc": -0.26,
    "depth": "execute",
    "detail": "strike: Input should be greater than 0",
    "dollar_markets": 5,
    "end": "2026-09-22T00:00:00Z",
    "entity": "settlement",
    "entity_id": "st-option-1",
    "expected": "number, above 0, to 42949672.95",
    "expires_at": "2026-09-21T14:16:30Z",
    "expires_at_unix": 1_790_000_190,
    "expiry": "2027-01-01T08:00:00Z",
    "expiry_from": "2027-01-01T00:00:00Z",
    "expiry_to": "2027-02-01T00:00:00Z",
    "expiry_unix": 1_798_790_400,
    "failed_check": "TraceRootMismatchError: the trace has another root",
    "feed": "BTC/USD",
    "field": "strike",
    "fixing": "twap:30",
    "from_state": "proven",
    "funding_txid": "4123bf16" + "00" * 28,
    "gamma": 0.00004,
    "gamma_btc": -0.012,
    "high_cents": 7_001_500,
    "id": "option-1",
    "instance": "/api/v1/options",
    "items": [],
    "last_error": "the node does not answer",
    "last_price_age_seconds": 42,
    "last_update": "2026-09-21T14:13:00Z",
    "liability_cents": 12_345_600,
    "limit": 100,
    "low_cents": 6_998_500,
    "market_status": "trading",
    "minutes": 60,
    "newest_slot": 1_790_000_040,
    "next_cursor": "MTc5MDAwMDA0MCBvcHRpb24tMQ",
    "option_id": "option-1",
    "options": 12,
    "output_hex": "0000000000000000",
    "payout_cents": 275_741,
    "payout_sats": 4_846_915,
    "premium": 1_234.56,
    "premium_btc": 0.0176,
    "premium_cents": 123_456,
    "premium_sats": 1_763_657,
    "price_cents": 7_000_000,
    "priced_at": "2026-09-21T14:14:00Z",
    "priced_at_unix": 1_790_000_040,
    "profit_cents": [[-250_000, 0, 250_000]],
    "program": "option_settlement",
    "proof_root": "934ea05c" + "00" * 28,
    "publishers": 6,
    "quantity": 0.5,
    "quantity_centi_btc": 50,
    "reach_cents": 300,
    "reason": "expiry",
    "report": {"price": 7_000_000},
    "request_id": "5f1c0b6e9d2a4e0f8a7b6c5d4e3f2a1b",
    "requested_at": "2026-09-21T14:14:00Z",
    "requested_at_unix": 1_790_000_040,
    "required_margin_cents": 98_765_400,
    "rho": 12.5,
    "samples": 720,
    "settlement_id": "st-option-1",
    "slot": 1_789_999_980,
    "slot_at": "2026-09-21T14:13:00Z",
    "slot_unix": 1_789_999_980,
    "spot_cents": 7_000_000,
    "spot_moves": [-0.3, 0.0, 0.3],
    "spot_price": 70_000.0,
    "start": "2026-09-21T00:00:00Z",
    "state": "ACTIVE",
    "status": "ok",
    "steps": 491,
    "strike": 70_000,
    "strike_cents": 7_000_000,
    "submissions": [],
    "taproot_address": "bcrt1p" + "q" * 58,
    "theta": -35.2,
    "thin": [],
    "title": "A field of the request is wrong.",
    "to_state": "built",
    "txid": "962a0c51" + "00" * 28,
    "type": "call",
    "updated_at": "2026-09-21T14:14:05Z",
    "updated_at_unix": 1_790_000_045,
    "utilisation": 0.28,
    "valid": True,
    "value_cents": -12_345_600,
    "vega": 88.1,
    "volatility": 0.65,
    "volatility_30d": 0.65,
    "volatility_moves": [-0.25, 0.0, 0.25],
}

OF_RECORD: Final[dict[tuple[str, str], Any]] = {
    ("Settlement", "id"): "st-option-1",
    ("Settlement", "state"): "confirmed",
    ("SettlementRequested", "state"): "open",
    ("MinuteSubmissions", "state"): "closed",
    ("Event", "id"): 1_234,
    ("Problem", "type"): "urn:btcfi:error:invalid-input",
    ("Problem", "status"): 422,
}
"""Where a word means something else."""


def illustrate(document: dict[str, Any]) -> None:
    """Add an example to each field and parameter that has none of its own."""
    for record, schema in document["components"]["schemas"].items():
        for name, field in schema.get("properties", {}).items():
            _add(field, OF_RECORD.get((record, name), EXAMPLES.get(name)))
    for operations in document["paths"].values():
        for operation in operations.values():
            for one in operation.get("parameters", ()):
                record = operation["operationId"].removesuffix("s").capitalize()
                _add(one["schema"], OF_RECORD.get((record, one["name"]), EXAMPLES.get(one["name"])))


def _add(schema: dict[str, Any], example: Any) -> None:  # noqa: ANN401 - whatever the field holds
    if example is not None and "examples" not in schema:
        schema["examples"] = [example]
