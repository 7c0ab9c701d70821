"""A node's signed word about one minute of one venue: its exact bytes, its signature, and why one is refused.

What is signed is not a protobuf (which has no canonical form) but the layout of ``signed_bytes``, under a BIP340 tagged
hash. Every price is an integer of cents; the published messages' doubles ride along and decide nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.quote import Feed, LegQuote, MissingReason, Observation, Quote, VenueId
from btcfi.oracle.time_sync import Milliseconds, TimeSyncProof
from btcfi.secp256k1 import schnorr_sign, schnorr_verify
from btcfi.units import Hash32, Slot

TAG: Final = "BTCFi/oracle/submission"
LAYOUT_VERSION: Final = 1
MAX_NODE_ID: Final = 64
"""Bytes of a node's name."""
MAX_DETAIL: Final = 240
"""Bytes of the detail of an absence that are signed."""
NO_HASH: Final = bytes(32)
_REASONS: Final = tuple(MissingReason)


class SubmissionError(InvalidInputError):
    """A submission is refused. ``kind`` is what counters and reports call it."""

    kind: str = "malformed"


class UnknownNodeError(SubmissionError):
    """No node of this name is registered."""

    kind = "unknown_node"

    def __init__(self, node_id: str) -> None:
        super().__init__("node_id", f"{node_id[:MAX_NODE_ID]!r} is not registered", "a node of the registry")
        self.node_id = node_id


class BadSignatureError(SubmissionError):
    """The signature is not by the registered key over these bytes."""

    kind = "bad_signature"

    def __init__(self, node_id: str) -> None:
        super().__init__(f"signature of {node_id}", "invalid", "BIP340 by the registered key over the canonical bytes")
        self.node_id = node_id


class WrongVenueError(SubmissionError):
    """A node speaks for a venue that is not its own."""

    kind = "wrong_venue"

    def __init__(self, node_id: str, venue: VenueId) -> None:
        super().__init__(f"venue of {node_id}", str(venue), "the venue that it is registered for")
        self.node_id, self.venue = node_id, venue


class ClosedSlotError(SubmissionError):
    """The slot's round is over, or its minute is: a message too old to count."""

    kind = "closed_slot"

    def __init__(self, *, slot: Slot, open_from: int, open_until: int) -> None:
        super().__init__("slot", f"{slot} is closed", f"a minute that ended between {open_from} and {open_until}")
        self.slot, self.open_from, self.open_until = slot, open_from, open_until


class FutureSlotError(SubmissionError):
    """The slot's minute has not ended yet by the aggregator's clock."""

    kind = "future_slot"

    def __init__(self, *, slot: Slot, ends_in: int) -> None:
        super().__init__("slot", f"{slot} ends in {ends_in} s", "a minute that has ended")
        self.slot, self.ends_in = slot, ends_in


class ClockSkewError(SubmissionError):
    """The node's clock is further off than the preset allows."""

    kind = "clock_skew"

    def __init__(self, *, node_id: str, offset_ms: int, most_ms: int) -> None:
        super().__init__(f"clock of {node_id}", f"off by {offset_ms} ms", f"within {most_ms} ms")
        self.node_id, self.offset_ms, self.most_ms = node_id, offset_ms, most_ms


class ReplayedSubmissionError(SubmissionError):
    """This node's word for this slot is already here: a repeated message changes nothing."""

    kind = "replayed"

    def __init__(self, node_id: str, slot: Slot) -> None:
        super().__init__(f"submission of {node_id} for {slot}", "already received", "one submission a slot")
        self.node_id, self.slot = node_id, slot


class EquivocationError(SubmissionError):
    """One key signed two different prices for one slot. Both are kept; the node is out of the round."""

    kind = "equivocation"

    def __init__(self, node_id: str, slot: Slot) -> None:
        super().__init__(f"submission of {node_id} for {slot}", "contradicts an earlier one", "one price a slot")
        self.node_id, self.slot = node_id, slot


class EvidenceMismatchError(SubmissionError):
    """The raw response that came along does not say what the submission says."""

    kind = "evidence_mismatch"

    def __init__(self, node_id: str, problem: str) -> None:
        super().__init__(f"evidence of {node_id}", problem, "the raw response that the quote was read from")
        self.node_id = node_id


class OversizedSubmissionError(SubmissionError):
    """A message is larger than any honest one."""

    kind = "oversized"

    def __init__(self, *, size: int, most: int) -> None:
        super().__init__("message", f"{size} bytes", f"at most {most}")
        self.size, self.most = size, most


class CommitmentError(SubmissionError):
    """A reveal without a commitment, against it, or outside its window."""

    kind = "commitment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One observation by one node, ready to be signed or verified."""

    feed: Feed
    node_id: str
    observation: Observation
    sent_at_ms: Milliseconds
    """The node's clock at sending, milliseconds since 1970."""
    time_proof: TimeSyncProof | None
    """What the node measured about its clock; None where it measured nothing."""

    @property
    def slot(self) -> Slot:
        """The minute that it speaks about."""
        return self.observation.slot

    @property
    def venue(self) -> VenueId:
        """The venue that it speaks about."""
        return self.observation.venue


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedSubmission:
    """A submission with the 64 bytes that make it count."""

    submission: Submission
    signature: bytes
    raw_response: bytes = b""
    """The bytes behind ``observation.evidence``, where the node sends them along; committed to by that hash."""


def observation_bytes(observation: Observation) -> bytes:
    """Return the canonical bytes of what is claimed, without when it was said: two of one slot equivocate if unequal.

    Little-endian: kind u8, venue (u8 length, text), slot u32, then for a quote open, high, low, close u32 and volume
    u64; for a leg (kind 3) open, high, low, close u64 and volume u64 (an earlier release's, kind 1: close u64); for an
    absence reason u8 and detail (u8 length, text); last the 32-byte evidence hash (or zeros).
    """
    venue = str(observation.venue).encode()
    head = struct.pack("<B", len(venue)) + venue + struct.pack("<I", observation.slot)
    tail = observation.evidence or NO_HASH
    if isinstance(observation, Quote):
        q = observation
        return b"\x00" + head + struct.pack("<IIIIQ", q.open, q.high, q.low, q.close, q.volume) + tail
    if isinstance(observation, LegQuote):
        leg = observation
        if leg.is_bare:
            return b"\x01" + head + struct.pack("<Q", leg.rate) + tail
        return b"\x03" + head + struct.pack("<5Q", leg.open, leg.high, leg.low, leg.rate, leg.volume) + tail
    detail = observation.detail.encode()[:MAX_DETAIL]
    return b"\x02" + head + struct.pack("<BB", _REASONS.index(observation.reason), len(detail)) + detail + tail


def signed_bytes(submission: Submission) -> bytes:
    """Return what a node signs: layout version, feed, node, observation, its times and its measured clock."""
    feed, node = submission.feed.encode(), submission.node_id.encode()
    if len(feed) > MAX_NODE_ID or len(node) > MAX_NODE_ID:
        raise SubmissionError("node_id", f"{len(node)} bytes", f"at most {MAX_NODE_ID}")
    proof = submission.time_proof
    times = struct.pack("<IQ", submission.observation.observed_at, submission.sent_at_ms)
    clock = (
        struct.pack("<BQQII", 1, proof.local_unix_ms, proof.reference_unix_ms, proof.round_trip_ms, proof.servers)
        if proof is not None
        else b"\x00"
    )
    said = observation_bytes(submission.observation)
    return b"".join(
        (
            struct.pack("<BB", LAYOUT_VERSION, len(feed)), feed,
            struct.pack("<B", len(node)), node,
            struct.pack("<H", len(said)), said,
            times, clock,
        )
    )  # fmt: skip


def submission_hash(submission: Submission) -> Hash32:
    """Return the 32 bytes that the signature is over."""
    return tagged_hash(TAG, signed_bytes(submission))


def sign_submission(
    submission: Submission, secret: bytes, *, aux: bytes, raw_response: bytes = b""
) -> SignedSubmission:
    """Return the submission signed by the node's key. ``aux``: 32 bytes of fresh randomness (BIP340)."""
    signature = schnorr_sign(secret, submission_hash(submission), aux)
    return SignedSubmission(submission=submission, signature=signature, raw_response=raw_response)


def signature_valid(signed: SignedSubmission, public_key: bytes) -> bool:
    """Return whether ``public_key`` (32 bytes, x-only) signed exactly this submission."""
    return schnorr_verify(public_key, submission_hash(signed.submission), signed.signature)
