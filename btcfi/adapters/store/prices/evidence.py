"""The evidence behind prices: stored by hash, replayed bit for bit, moved between machines.

A round's rows are its observations (``QuoteRow``), their raw responses (``BlobRow``) and its report (``RoundRow``).
An exported folder is also a recording (``recorder.py``): the replay server serves it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, func, select
from sqlmodel import Session, col

from btcfi.adapters.store.prices.observations import observations_of, store_observation
from btcfi.adapters.store.prices.tables import QuoteRow, RoundRow, RoundState
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import upsert
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.adapters.venues.recorder import INDEX, RESPONSES
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.hashes import sha256
from btcfi.oracle.consensus import (
    AgreedPrice,
    ConsensusRule,
    DropReason,
    Outcome,
    agreed_price,
    decode_outcome,
    encode_outcome,
)
from btcfi.oracle.quote import (
    Feed,
    Missing,
    Observation,
    VenueId,
    decode_observation,
    encode_observation,
)
from btcfi.oracle.report import canonical_json, evidence_root
from btcfi.oracle.venues import exchange_of
from btcfi.oracle.venues.candle import read_response
from btcfi.units import Hash32, Slot, UnixSeconds, slot, unix_seconds

ROUNDS: Final = "rounds.jsonl"
PRUNE_BATCH: Final = 500
"""Responses deleted in one transaction: others wait no longer for the write lock than that takes."""

_NOT_OF_THE_SET: Final = frozenset({DropReason.UNREGISTERED, DropReason.WRONG_SLOT})


class EvidenceError(BtcfiError):
    """The stored evidence does not give the stored price: somebody changed one of them."""

    def __init__(self, at: Slot, what: str, problem: str) -> None:
        super().__init__(f"slot {at}, {what}: {problem}")
        self.slot, self.what, self.problem = at, what, problem


class ImportConflictError(EvidenceError):
    """An imported round says something else than the one that is here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedRound:
    """A round computed again from its raw responses."""

    outcome: Outcome
    evidence_root: Hash32
    responses: int
    """How many raw responses were read again."""
    report: bytes
    """Canonical JSON of the outcome: equal, byte for byte, to the stored one."""


def replay_round(
    session: Session,
    feed: Feed,
    at: Slot,
    *,
    rule: ConsensusRule,
    registered: Collection[VenueId] | None = None,
    legs: Collection[VenueId] | None = None,
) -> ReplayedRound:
    """Compute a stored round again from its raw responses, and hold it against what is stored.

    registered, legs: who counted; None takes them from the report and the rows. Raises NotFoundError for an unknown
    round, EvidenceError when a response is missing or changed, or says something else than the stored quote, or the
    outcome differs from the stored report in one byte.
    """
    row = _round_row(session, feed, at)
    observations, responses = [], 0
    for stored in observations_of(session, feed, at):
        observation, read = _read_again(session, stored)
        observations.append(observation)
        responses += read
    stored_outcome = decode_outcome(_outcome_json(row))
    outcome = agreed_price(
        observations,
        registered=venues_of(stored_outcome) if registered is None else registered,
        legs={o.venue for o in observations if o.venue.is_leg} if legs is None else legs,
        rule=rule,
        slot=at,
    )
    _check_commitments(row, at, evidence_root(observations))
    report = canonical_json(encode_outcome(outcome))
    if report != canonical_json(encode_outcome(stored_outcome)):
        raise EvidenceError(at, "report", f"the evidence gives {_brief(outcome)}, stored is {_brief(stored_outcome)}")
    return ReplayedRound(outcome=outcome, evidence_root=evidence_root(observations), responses=responses, report=report)


def venues_of(outcome: Outcome) -> frozenset[VenueId]:
    """Return the registered venues of a round, from its report: each is used, left over, dropped or absent."""
    used = {u.venue for u in (outcome.used if isinstance(outcome, AgreedPrice) else outcome.left)}
    dropped = {d.venue for d in outcome.dropped if d.reason not in _NOT_OF_THE_SET and not d.venue.is_leg}
    return frozenset(used | dropped | {a.venue for a in outcome.absent})


def export_span(session: Session, folder: Path, feed: Feed, start: Slot, end: Slot) -> int:
    """Write every closed round of ``feed`` in ``start`` <= slot < ``end`` with its evidence; return how many.

    Raises EvidenceError when a response that a quote needs is not there any more.
    """
    rows = session.execute(
        select(RoundRow)
        .where(col(RoundRow.feed) == feed, col(RoundRow.slot) >= start, col(RoundRow.slot) < end)
        .where(col(RoundRow.state) != RoundState.OPEN)
        .order_by(col(RoundRow.slot))
    ).scalars()
    responses = folder / RESPONSES
    responses.mkdir(parents=True, exist_ok=True)
    count = 0
    with (folder / ROUNDS).open("wb") as rounds, (folder / INDEX).open("wb") as index:
        for row in rows:
            observations = observations_of(session, feed, slot(row.slot))
            for o in observations:
                if o.evidence is None:
                    continue
                (responses / o.evidence.hex()).write_bytes(_blob(session, o))
                line = {"venue": str(o.venue), "slot": o.slot, "observed_at_unix": o.observed_at}
                index.write(canonical_json({**line, "sha256": o.evidence.hex()}) + b"\n")
            document = {
                "feed": feed,
                "slot": row.slot,
                "state": row.state,
                "price_cents": row.price_cents,
                "low_cents": row.low_cents,
                "high_cents": row.high_cents,
                "report": json.loads(row.report) if row.report is not None else None,
                "closed_at_unix": row.closed_at_unix,
                "opened_at_unix": row.opened_at_unix,
                "observations": [encode_observation(o) for o in observations],
            }
            rounds.write(canonical_json(document) + b"\n")
            count += 1
    return count


def import_span(session: Session, folder: Path, *, now: UnixSeconds) -> tuple[int, int]:
    """Read an exported folder into the database; return how many rounds are new and how many were here already.

    Raises NotFoundError without one, EvidenceError for a response whose bytes are not what their name says, and
    ImportConflictError, before anything is written, when a round here says something else.
    """
    if not (folder / ROUNDS).is_file():
        raise NotFoundError("exported span", str(folder), f"a folder with {ROUNDS}, written by `btcfi prices export`")
    documents = list(_documents(folder))
    known = 0
    for document in documents:
        known += _already_here(session, document)
    for document in documents:
        _import_round(session, folder, document, now=now)
    return len(documents) - known, known


def prune_evidence(store: Store, *, before: UnixSeconds) -> int:
    """Delete raw responses to which no quote refers that was fetched at ``before`` or later; return how many.

    Reports and quotes stay, and so do other blobs (proofs, inputs): only what quotes point at is evidence. The search
    takes no write lock, and the deletion a short one for each PRUNE_BATCH.
    """
    with store.reading() as session:
        old = session.execute(
            select(col(QuoteRow.evidence_sha256))
            .join(BlobRow, col(BlobRow.sha256) == col(QuoteRow.evidence_sha256))
            .group_by(col(QuoteRow.evidence_sha256))
            .having(func.max(QuoteRow.fetched_at_unix) < before)
        ).scalars()
        names = [str(name) for name in old]
    deleted = 0
    for first in range(0, len(names), PRUNE_BATCH):
        with store.transaction() as session:
            some = col(BlobRow.sha256).in_(names[first : first + PRUNE_BATCH])
            done = session.execute(delete(BlobRow).where(some, col(BlobRow.created_at_unix) < before))
        deleted += int(getattr(done, "rowcount", 0))
    return deleted


def _read_again(session: Session, stored: Observation) -> tuple[Observation, bool]:
    if stored.evidence is None:
        return stored, False
    raw = _blob(session, stored)
    if isinstance(stored, Missing):
        return stored, True  # the reason lies partly in the network (a status code, a timeout), the bytes are kept
    read = read_response(
        exchange_of(stored.venue.exchange),
        raw,
        venue=stored.venue,
        slot=stored.slot,
        now=stored.observed_at,
        evidence=stored.evidence,
    )
    if read != stored:
        raise EvidenceError(stored.slot, str(stored.venue), "the raw response says something else than the quote")
    return read, True


def _blob(session: Session, observation: Observation) -> bytes:
    name = observation.evidence.hex() if observation.evidence is not None else ""
    row = session.get(BlobRow, name)
    if row is None:
        raise EvidenceError(observation.slot, str(observation.venue), f"response {name} is not stored (retention?)")
    if sha256(row.body).hex() != name:
        raise EvidenceError(observation.slot, str(observation.venue), f"response {name} was changed")
    return row.body


def _round_row(session: Session, feed: Feed, at: Slot) -> RoundRow:
    query = select(RoundRow).where(col(RoundRow.feed) == feed, col(RoundRow.slot) == at)
    row: RoundRow | None = session.execute(query).scalar_one_or_none()
    if row is None or row.report is None:
        raise NotFoundError("closed round", f"{feed} {at}", "see `btcfi prices history`")
    return row


def _check_commitments(row: RoundRow, at: Slot, root: Hash32) -> None:
    """Hold the evidence root against the report's, where the stored report is a whole RoundReport."""
    told = json.loads(row.report or "{}").get("evidence_root")
    if told is not None and told != root.hex():
        raise EvidenceError(at, "evidence root", f"the evidence gives {root.hex()}, the report says {told}")


def _outcome_json(row: RoundRow) -> dict[str, Any]:
    document = json.loads(row.report or "{}")
    inner = document.get("outcome", document)
    return dict(inner) if isinstance(inner, dict) else {}


def _brief(outcome: Outcome) -> str:
    price = getattr(outcome, "price", None)
    return f"{price} cents" if price is not None else f"void ({getattr(outcome, 'reason', '')})"


def _documents(folder: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate((folder / ROUNDS).read_bytes().splitlines(), start=1):
        try:
            document = json.loads(line)
            Feed(document["feed"]), slot(document["slot"])
            [decode_observation(o) for o in document["observations"]]
        except (ValueError, KeyError, TypeError, InvalidInputError) as e:
            raise InvalidInputError(f"{ROUNDS} line {number}", str(e)[:80], "a line of an exported span") from e
        yield document


def _already_here(session: Session, document: dict[str, Any]) -> bool:
    row = session.execute(
        select(RoundRow).where(col(RoundRow.feed) == document["feed"], col(RoundRow.slot) == document["slot"])
    ).scalar_one_or_none()
    if row is None:
        return False
    here = json.loads(row.report) if row.report is not None else None
    if row.state != document["state"] or here != document["report"]:
        raise ImportConflictError(slot(document["slot"]), "round", "the one here says something else")
    return True


def _import_round(session: Session, folder: Path, document: dict[str, Any], *, now: UnixSeconds) -> None:
    for raw_observation in document["observations"]:
        observation = decode_observation(raw_observation)
        raw = _imported_response(folder, observation)
        store_observation(session, Feed(document["feed"]), observation, raw, now=now)
    statement = upsert(session, RoundRow).values(
        feed=document["feed"],
        slot=document["slot"],
        state=document["state"],
        price_cents=document["price_cents"],
        low_cents=document["low_cents"],
        high_cents=document["high_cents"],
        report=json.dumps(document["report"]),
        attempts=1,
        deadline_unix=now,
        opened_at_unix=unix_seconds(document["opened_at_unix"]),
        closed_at_unix=document["closed_at_unix"],
    )
    session.execute(statement.on_conflict_do_nothing(index_elements=["feed", "slot"]))


def _imported_response(folder: Path, observation: Observation) -> bytes:
    if observation.evidence is None:
        return b""
    file = folder / RESPONSES / observation.evidence.hex()
    if not file.is_file() or sha256(raw := file.read_bytes()) != observation.evidence:
        raise EvidenceError(observation.slot, str(observation.venue), f"{file.name} is missing or was changed")
    return raw


def rule_document(rule: ConsensusRule, registered: Iterable[VenueId], legs: Iterable[VenueId]) -> dict[str, Any]:
    """Return what decided a round besides its observations, as JSON to keep beside it."""
    return {
        "method": rule.method.value,
        "outlier_bps": rule.outlier_bps,
        "par_band_bps": rule.par_band_bps,
        "quorum_numerator": rule.quorum_numerator,
        "quorum_denominator": rule.quorum_denominator,
        "settle_confidence_bps": rule.settle_confidence_bps,
        "registered": [str(v) for v in sorted(registered)],
        "legs": [str(v) for v in sorted(legs)],
    }
