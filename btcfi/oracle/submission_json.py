"""A signed submission as JSON: every field that is signed, and the signature; what an aggregator serves to oracles."""

from __future__ import annotations

from typing import Any, Final

from btcfi.errors import InvalidInputError
from btcfi.oracle.quote import Feed, decode_observation, encode_observation
from btcfi.oracle.submission import MAX_NODE_ID, SignedSubmission, Submission
from btcfi.oracle.time_sync import MAX_UNIX_MS, Milliseconds, TimeSyncProof
from btcfi.records import Rule, hexadecimal, optional, record, whole

_MS: Final = whole(0, MAX_UNIX_MS)
_NAME: Final = "1 to 64 bytes of text"


def encode_signed(signed: SignedSubmission) -> dict[str, Any]:
    """Return the JSON form of a signed submission, without the raw response, to which its evidence hash commits."""
    said, proof = signed.submission, signed.submission.time_proof
    return {
        "feed": said.feed,
        "node_id": said.node_id,
        "observation": encode_observation(said.observation),
        "sent_at_ms": said.sent_at_ms,
        "time_proof": None if proof is None else {
            "local_unix_ms": proof.local_unix_ms,
            "reference_unix_ms": proof.reference_unix_ms,
            "round_trip_ms": proof.round_trip_ms,
            "servers": proof.servers,
        },
        "signature": signed.signature.hex(),
    }  # fmt: skip


def decode_signed(raw: object) -> SignedSubmission:
    """Return the record of ``encode_signed``; the signature is not checked. Raises InvalidInputError."""
    return _SIGNED.read(raw, "signed submission")


def _name(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= MAX_NODE_ID:
        raise InvalidInputError("name", f"{str(value)[:20]!r}", _NAME)
    return value


_PROOF: Final = record(
    TimeSyncProof, exact=True, local_unix_ms=_MS, reference_unix_ms=_MS, round_trip_ms=whole(0, (1 << 32) - 1),
    servers=whole(0, (1 << 32) - 1),
)  # fmt: skip

_FIELDS: Final = frozenset({"feed", "node_id", "observation", "sent_at_ms", "time_proof", "signature"})


def _read(raw: object) -> SignedSubmission:
    if not isinstance(raw, dict) or raw.keys() != _FIELDS or not isinstance(raw["observation"], dict):
        raise InvalidInputError("signed submission", "other fields", ", ".join(sorted(_FIELDS)))
    return SignedSubmission(
        submission=Submission(
            feed=Feed(_name(raw["feed"])),
            node_id=_name(raw["node_id"]),
            observation=decode_observation(raw["observation"]),
            sent_at_ms=Milliseconds(_MS.read(raw["sent_at_ms"], "sent_at_ms")),
            time_proof=optional(_PROOF).read(raw["time_proof"], "time_proof"),
        ),
        signature=hexadecimal(64).read(raw["signature"], "signature"),
    )


_SIGNED: Final = Rule(_read, "the JSON of encode_signed")
