"""A round's report: the outcome, a Merkle root over the raw evidence, and k-of-n signatures by the nodes.

The report's hash is over canonical JSON (sorted keys, no spaces, integers only), so that whoever recomputes the round
from the evidence arrives at the same 32 bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.consensus import OUTCOME, ConsensusRule, Method, Outcome, encode_outcome
from btcfi.oracle.quote import Feed, Observation, VenueId
from btcfi.records import TEXT, WHOLE, record
from btcfi.secp256k1 import schnorr_sign, schnorr_verify
from btcfi.units import BasisPoints, Hash32, Slot

REPORT_TAG: Final = "BTCFi/oracle/report"
RULE_TAG: Final = "BTCFi/oracle/rule"
LEAF_TAG: Final = "BTCFi/evidence/leaf"
NODE_TAG: Final = "BTCFi/evidence/node"
EMPTY_ROOT: Final = Hash32(bytes(32))
"""Root of no evidence at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """What a round decided, under which rule, on which evidence."""

    feed: Feed
    outcome: Outcome
    rule_hash: Hash32
    evidence_root: Hash32

    @property
    def slot(self) -> Slot:
        """The minute that it is about."""
        return self.outcome.slot


def canonical_json(document: object) -> bytes:
    """Return the one byte form of a JSON document of text, integers, lists and objects. Raises TypeError on a float."""
    _refuse_floats(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _refuse_floats(document: object) -> None:
    if isinstance(document, float):
        raise TypeError("a float has no canonical text")
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    for value in inner:
        _refuse_floats(value)


def rule_document(rule: ConsensusRule, registered: Iterable[VenueId], legs: Iterable[VenueId]) -> dict[str, Any]:
    """Return everything that decides a price besides the observations, as JSON to hash and to keep beside it."""
    return {
        "method": rule.method.value,
        "outlier_bps": rule.outlier_bps,
        "par_band_bps": rule.par_band_bps,
        "quorum_numerator": rule.quorum_numerator,
        "quorum_denominator": rule.quorum_denominator,
        "settle_confidence_bps": rule.settle_confidence_bps,
        **_thinness(rule),
        "registered": sorted(map(str, registered)),
        "legs": sorted(map(str, legs)),
    }


def rule_hash(rule: ConsensusRule, registered: Iterable[VenueId], legs: Iterable[VenueId]) -> Hash32:
    """Return the hash of everything that decides a price besides the observations."""
    return tagged_hash(RULE_TAG, canonical_json(rule_document(rule, registered, legs)))


def _thinness(rule: ConsensusRule) -> dict[str, int]:
    """Return a rule's numbers of thin prices; nothing of an earlier rule, whose hash stays what it was."""
    asked = {"least_dollar_markets": rule.least_dollar_markets, "thin_bps": rule.thin_bps}
    return {name: number for name, number in asked.items() if number}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleDocument:
    """What ``rule_document`` says."""

    method: Method
    outlier_bps: int
    par_band_bps: int
    quorum_numerator: int
    quorum_denominator: int
    settle_confidence_bps: int
    registered: tuple[VenueId, ...]
    legs: tuple[VenueId, ...]
    least_dollar_markets: int = 0
    thin_bps: int = 0

    @property
    def rule(self) -> ConsensusRule:
        """The numbers, without who counted. Raises ConsensusRuleError when they contradict themselves."""
        return ConsensusRule(
            method=self.method,
            outlier_bps=BasisPoints(self.outlier_bps),
            par_band_bps=BasisPoints(self.par_band_bps),
            quorum_numerator=self.quorum_numerator,
            quorum_denominator=self.quorum_denominator,
            settle_confidence_bps=BasisPoints(self.settle_confidence_bps),
            least_dollar_markets=self.least_dollar_markets,
            thin_bps=BasisPoints(self.thin_bps),
        )


RULE: Final = record(
    RuleDocument,
    outlier_bps=WHOLE,
    par_band_bps=WHOLE,
    quorum_numerator=WHOLE,
    quorum_denominator=WHOLE,
    settle_confidence_bps=WHOLE,
    least_dollar_markets=WHOLE,
    thin_bps=WHOLE,
    may_lack=("least_dollar_markets", "thin_bps"),
)


def decode_rule(raw: object, where: str = "rule") -> RuleDocument:
    """Return the record of ``rule_document``. Raises InvalidInputError naming the field when it is not one."""
    document = RULE.read(raw, where)
    _ = document.rule
    return document


def evidence_leaf(venue: VenueId, slot: Slot, evidence: Hash32) -> Hash32:
    """Return the leaf of one raw response: who, when, and the hash of its bytes."""
    name = str(venue).encode()
    return tagged_hash(LEAF_TAG, struct.pack("<B", len(name)) + name + struct.pack("<I", slot) + evidence)


def evidence_leaves(observations: Iterable[Observation]) -> list[Hash32]:
    """Return the leaves of every observation that has a raw response, in order of their bytes: order cannot matter."""
    return sorted({evidence_leaf(o.venue, o.slot, o.evidence) for o in observations if o.evidence is not None})


def evidence_root(observations: Iterable[Observation]) -> Hash32:
    """Return the Merkle root over the evidence of a round; EMPTY_ROOT when nobody has any."""
    level = evidence_leaves(observations)
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        # an odd node is carried up, never doubled (doubling lets two different trees share a root)
        pairs = [tagged_hash(NODE_TAG, level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) - len(level) % 2 :]
    return level[0]


def evidence_path(observations: Iterable[Observation], leaf: Hash32) -> list[tuple[bool, Hash32]]:
    """Return the siblings from ``leaf`` to the root, each with whether it stands left.

    Raises InvalidInputError when the leaf is not of this round.
    """
    level = evidence_leaves(observations)
    if leaf not in level:
        raise InvalidInputError("evidence leaf", leaf.hex(), "a leaf of this round")
    at, path = level.index(leaf), []
    while len(level) > 1:
        sibling = at ^ 1
        if sibling < len(level):
            path.append((sibling < at, level[sibling]))
        pairs = [tagged_hash(NODE_TAG, level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) - len(level) % 2 :]
        at //= 2
    return path


def path_leads_to(root: Hash32, leaf: Hash32, path: Iterable[tuple[bool, Hash32]]) -> bool:
    """Return whether ``leaf`` is under ``root`` by ``path``."""
    current = leaf
    for left, sibling in path:
        current = tagged_hash(NODE_TAG, sibling + current if left else current + sibling)
    return current == root


def make_report(
    outcome: Outcome,
    observations: Iterable[Observation],
    *,
    feed: Feed,
    rule: ConsensusRule,
    registered: Iterable[VenueId],
    legs: Iterable[VenueId],
) -> RoundReport:
    """Return the report of a round from its outcome and what it was computed from."""
    return RoundReport(
        feed=feed,
        outcome=outcome,
        rule_hash=rule_hash(rule, registered, legs),
        evidence_root=evidence_root(observations),
    )


def encode_report(report: RoundReport) -> dict[str, Any]:
    """Return the JSON form of a report."""
    return {
        "feed": report.feed,
        "outcome": encode_outcome(report.outcome),
        "rule_hash": report.rule_hash.hex(),
        "evidence_root": report.evidence_root.hex(),
    }


_REPORT: Final = record(RoundReport, feed=TEXT, outcome=OUTCOME)


def decode_report(raw: object) -> RoundReport:
    """Return the record of ``encode_report``. Raises InvalidInputError naming the field when it is not one."""
    return _REPORT.read(raw, "report")


def report_hash(report: RoundReport) -> Hash32:
    """Return the 32 bytes that nodes sign."""
    return tagged_hash(REPORT_TAG, canonical_json(encode_report(report)))


def sign_report(report: RoundReport, secret: bytes, *, aux: bytes) -> bytes:
    """Return a node's 64-byte BIP340 signature of the report. ``aux``: 32 bytes of fresh randomness."""
    return schnorr_sign(secret, report_hash(report), aux)


def certified(report: RoundReport, signatures: Mapping[str, bytes], keys: Mapping[str, bytes], *, needed: int) -> bool:
    """Return whether at least ``needed`` different registered nodes signed this report.

    signatures, keys: by node id; a signature by an unknown node or of another report counts for nothing.
    """
    digest = report_hash(report)
    valid = {
        keys[node]
        for node, signature in signatures.items()
        if node in keys and schnorr_verify(keys[node], digest, signature)
    }
    return len(valid) >= needed
