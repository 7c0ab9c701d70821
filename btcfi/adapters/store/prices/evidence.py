"""The evidence behind prices: stored by hash, replayed bit for bit, moved between machines.

A round's rows are its observations (``QuoteRow``), their raw responses (``BlobRow``) and its report (``RoundRow``).
An exported folder is also a recording (``recorder.py``): the replay server serves it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, func, select
from sqlmodel import Session, col

from btcfi.adapters.files import make_named, open_named, write_named
from btcfi.adapters.store.prices.observations import observations_of, store_observation
from btcfi.adapters.store.prices.tables import QuoteRow, RoundRow, RoundState
from btcfi.adapters.store.spine.blobs import store_blob
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import upsert
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.adapters.venues.recorder import INDEX, RESPONSES
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.hashes import sha256
from btcfi.oracle.consensus import OUTCOME, AgreedPrice, ConsensusRule, DropReason, Outcome, encode_outcome
from btcfi.oracle.quote import Feed, Missing, Observation, VenueId, decode_observation, encode_observation
from btcfi.oracle.recompute import (
    AgreedEarlierError,
    ReportDiffersError,
    RoundTerms,
    earlier_rule,
    recompute,
)
from btcfi.oracle.report import (
    RULE,
    RoundReport,
    RuleDocument,
    canonical_json,
    decode_report,
    decode_rule,
    encode_report,
    evidence_root,
    rule_document,
    rule_hash,
)
from btcfi.oracle.venues import exchange_of
from btcfi.oracle.venues.candle import read_response
from btcfi.records import OBJECT, TEXT, Rule, listed, optional, record, whole
from btcfi.units import MAX_U32, SECONDS_PER_MINUTE, Hash32, Slot, UnixSeconds

ROUNDS: Final = "rounds.jsonl"
EXPORT_VERSION: Final = 2
"""Of a line of it: since 2 it says by which rule the round was agreed. 1, of earlier releases, names no version."""

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
    rule_hash: Hash32
    """Of the rule, the venues and the legs that it was computed by."""
    responses: int
    """How many raw responses were read again."""
    report: bytes
    """Canonical JSON of the outcome: equal, byte for byte, to the stored one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What a row or a line of an exported span says of a round: nothing of it counts that is not computed again."""

    feed: Feed
    slot: Slot
    state: RoundState
    price_cents: int | None
    low_cents: int | None
    high_cents: int | None
    report: dict[str, Any]
    rule: RuleDocument | None

    @property
    def outcome(self) -> Outcome:
        """The outcome that its report tells. Raises InvalidInputError."""
        inner = self.report.get("outcome", self.report)
        return OUTCOME.read(inner, "report")


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

    rule, registered, legs: by which an earlier release's round is computed, which does not say so itself (its report
    tells method, quorum and venues). Raises NotFoundError for an unknown round, EvidenceError when a response is
    missing or changed, or says something else than the stored quote, or the state, a price, a level or one byte of the
    report is another; AgreedEarlierError when an earlier release agreed on what this one would not.
    """
    row = _round_row(session, feed, at)
    observations, responses = [], 0
    for stored in observations_of(session, feed, at):
        if stored.evidence is not None:
            _check_response(stored, _blob(session, stored))
            responses += 1
        observations.append(stored)
    told = _Told(
        feed=feed,
        slot=at,
        state=RoundState(row.state),
        price_cents=row.price_cents,
        low_cents=row.low_cents,
        high_cents=row.high_cents,
        report=json.loads(row.report or "{}"),
        rule=_rule_of(session, row),
    )
    terms = _terms(told, observations, rule=rule, registered=registered, legs=legs)
    _computed(told, terms, observations)
    return ReplayedRound(
        outcome=told.outcome,
        evidence_root=evidence_root(observations),
        rule_hash=rule_hash(terms.rule, terms.registered, terms.legs),
        responses=responses,
        report=canonical_json(encode_outcome(told.outcome)),
    )


def _rule_of(session: Session, row: RoundRow) -> RuleDocument | None:
    if row.rule_sha256 is None:
        return None
    blob = session.get(BlobRow, row.rule_sha256)
    if blob is None or sha256(blob.body).hex() != row.rule_sha256:
        raise EvidenceError(Slot(row.slot), "rule", f"{row.rule_sha256} is not stored, or was changed")
    return decode_rule(json.loads(blob.body))


def _terms(
    told: _Told,
    observations: Collection[Observation],
    *,
    rule: ConsensusRule,
    registered: Collection[VenueId] | None = None,
    legs: Collection[VenueId] | None = None,
) -> RoundTerms:
    """Return by what a round was agreed: what it says itself, else what its report tells and ``rule``."""
    if told.rule is not None:
        return RoundTerms(
            feed=told.feed,
            rule=told.rule.rule,
            registered=frozenset(told.rule.registered),
            legs=frozenset(told.rule.legs),
        )
    return RoundTerms(
        feed=told.feed,
        rule=earlier_rule(rule, told.outcome) if _is_earlier(told) else rule,
        registered=frozenset(venues_of(told.outcome) if registered is None else registered),
        legs=frozenset((o.venue for o in observations if o.venue.is_leg) if legs is None else legs),
    )


def _is_earlier(told: _Told) -> bool:
    """Return whether an earlier release agreed on it: it says no rule, and nothing of how thin its price was."""
    return told.rule is None and getattr(told.outcome, "dollar_markets", None) is None


def _computed(told: _Told, terms: RoundTerms, observations: Collection[Observation]) -> RoundReport:
    """Return the report that the observations give. Raises EvidenceError naming what is told otherwise."""
    outcome, root = told.outcome, evidence_root(observations)
    try:
        whole_report = decode_report(told.report) if "outcome" in told.report else None
        report = recompute(
            terms,
            observations,
            slot=told.slot,
            told=whole_report
            or RoundReport(
                feed=terms.feed,
                outcome=outcome,
                rule_hash=rule_hash(terms.rule, terms.registered, terms.legs),
                evidence_root=root,
            ),
            earlier=_is_earlier(told),
        )
    except AgreedEarlierError:
        raise
    except ReportDiffersError as e:
        problem = f"the evidence gives {e.computed}, the report says {e.told}"
        raise EvidenceError(told.slot, e.field, problem) from e
    known = encode_outcome(outcome) if whole_report is None else encode_report(whole_report)
    if not _is_exactly(told.report, known):
        raise EvidenceError(told.slot, "report", "it holds what no report of ours does")
    for column, value in _columns(report.outcome).items():
        if getattr(told, column) != value:
            raise EvidenceError(told.slot, column, f"the evidence gives {value}, {getattr(told, column)} is told")
    return report


def _is_exactly(raw: object, known: object) -> bool:
    try:
        return canonical_json(raw) == canonical_json(known)
    except TypeError:  # a float
        return False


def _columns(outcome: Outcome) -> dict[str, Any]:
    """Return the columns of a round that money uses, which are its outcome's and nobody else's."""
    if isinstance(outcome, AgreedPrice):
        levels = {"price_cents": outcome.price, "low_cents": outcome.low, "high_cents": outcome.high}
        return {"state": RoundState.PRICED, **levels}
    return {"state": RoundState.VOID, "price_cents": None, "low_cents": None, "high_cents": None}


def venues_of(outcome: Outcome) -> frozenset[VenueId]:
    """Return the registered venues of a round, from its report: each is used, left over, dropped or absent."""
    used = {u.venue for u in (outcome.used if isinstance(outcome, AgreedPrice) else outcome.left)}
    dropped = {d.venue for d in outcome.dropped if d.reason not in _NOT_OF_THE_SET and not d.venue.is_leg}
    return frozenset(used | dropped | {a.venue for a in outcome.absent})


def export_span(session: Session, folder: Path, feed: Feed, start: Slot, end: Slot) -> int:
    """Write every closed round of ``feed`` in ``start`` <= slot < ``end`` with its evidence; return how many.

    Raises EvidenceError when a response that a quote needs is not there any more, InvalidInputError for an empty span.
    """
    if start >= end:
        raise InvalidInputError("span", f"{start} to {end}", "a start before its end")
    rows = session.execute(
        select(RoundRow)
        .where(col(RoundRow.feed) == feed, col(RoundRow.slot) >= start, col(RoundRow.slot) < end)
        .where(col(RoundRow.state) != RoundState.OPEN)
        .order_by(col(RoundRow.slot))
    ).scalars()
    responses = folder / RESPONSES
    make_named(responses)
    count = 0
    with open_named(folder / ROUNDS) as rounds, open_named(folder / INDEX) as index:
        for row in rows:
            observations = observations_of(session, feed, Slot(row.slot))
            for o in observations:
                if o.evidence is None:
                    continue
                write_named(responses / o.evidence.hex(), _blob(session, o))
                line = {"venue": str(o.venue), "slot": o.slot, "observed_at_unix": o.observed_at}
                index.write(canonical_json({**line, "sha256": o.evidence.hex()}) + b"\n")
            rule = _rule_of(session, row)
            document = {
                "version": EXPORT_VERSION,
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
                "rule": None if rule is None else rule_document(rule.rule, rule.registered, rule.legs),
            }
            rounds.write(canonical_json(document) + b"\n")
            count += 1
    return count


def import_span(session: Session, folder: Path, *, now: UnixSeconds, rules: Sequence[ConsensusRule]) -> tuple[int, int]:
    """Read an exported folder into the database; return how many rounds are new and how many were here already.

    rules: by which a round may have been agreed, the deployment's own first. State, price, low and high are those that
    the responses give, read and agreed on again here. Before anything is written raises NotFoundError without a folder,
    InvalidInputError naming line and field, EvidenceError for a response that is not what its name or its quote says or
    gives another round than is told, AgreedEarlierError as ``replay_round``, and ImportConflictError when a round here
    says something else.
    """
    if not (folder / ROUNDS).is_file():
        raise NotFoundError("exported span", str(folder), f"a folder with {ROUNDS}, written by `btcfi prices export`")
    known, new = 0, []
    for where, line in _lines(folder, now=now, rules=rules):
        responses = {o.evidence: _imported_response(folder, o) for o in line.observations if o.evidence is not None}
        if _already_here(session, line):
            known += 1
            for raw in responses.values():
                store_blob(session, raw, now=now)
        else:
            new.append((line, _checked_line(where, line, responses, rules[0])))
    for line, outcome in new:
        _import_round(session, folder, line, outcome, now=now)
    return len(new), known


def _checked_line(where: str, line: _Line, responses: Mapping[Hash32, bytes], rule: ConsensusRule) -> Outcome:
    """Return what a line's responses give. Raises as ``import_span``."""
    for o in line.observations:
        if o.evidence is not None:
            _check_response(o, responses[o.evidence])
    told = line.told
    try:
        return _computed(told, _terms(told, line.observations, rule=rule), line.observations).outcome
    except EvidenceError as e:
        raise InvalidInputError(f"{where}: {e.what}", e.problem, "what the evidence gives") from e


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


def _check_response(stored: Observation, raw: bytes) -> None:
    """Raise EvidenceError unless the response says what the quote does.

    The reason of an absence lies partly in the network (a status code, a timeout): its bytes are kept, and not read.
    """
    if isinstance(stored, Missing) or stored.evidence is None:
        return
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One line of an exported span."""

    feed: str
    slot: Slot
    state: RoundState
    price_cents: int | None
    low_cents: int | None
    high_cents: int | None
    report: dict[str, Any]
    closed_at_unix: UnixSeconds
    opened_at_unix: UnixSeconds
    observations: tuple[Observation, ...]
    rule: RuleDocument | None = None
    version: int = 1

    @property
    def told(self) -> _Told:
        """What it says of its round."""
        return _Told(
            feed=Feed(self.feed),
            slot=self.slot,
            state=self.state,
            price_cents=self.price_cents,
            low_cents=self.low_cents,
            high_cents=self.high_cents,
            report=self.report,
            rule=self.rule,
        )


_CENTS: Final = optional(whole(1, MAX_U32))
_LINE: Final = record(
    _Line,
    feed=TEXT,
    price_cents=_CENTS,
    low_cents=_CENTS,
    high_cents=_CENTS,
    report=OBJECT,
    observations=listed(Rule(decode_observation, "an observation")),
    rule=optional(RULE),
    version=whole(1, EXPORT_VERSION),
    may_lack=("rule", "version"),
)


def _lines(folder: Path, *, now: UnixSeconds, rules: Sequence[ConsensusRule]) -> Iterator[tuple[str, _Line]]:
    """Yield the lines, each with what an error calls it."""
    for number, text in enumerate((folder / ROUNDS).read_bytes().splitlines(), start=1):
        where = f"{ROUNDS} line {number}"

        def wrong(field: str, problem: str, expected: str, where: str = where) -> InvalidInputError:
            return InvalidInputError(f"{where}: {field}", problem, expected)

        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise InvalidInputError(where, str(e)[:80], "a line of an exported span, JSON") from e
        line = _LINE.read(raw, "", wrong)
        OUTCOME.read(line.report.get("outcome", line.report), "report", wrong)
        _check_line(line, where, now=now)
        if line.rule is not None and line.rule.rule not in rules:
            expected = "the [consensus] of this deployment's preset, or of another that this release has"
            raise wrong("rule", "numbers that no preset here has", expected)
        yield where, line


def _check_line(line: _Line, where: str, *, now: UnixSeconds) -> None:
    if line.state is RoundState.OPEN:
        raise InvalidInputError(f"{where}: state", line.state.value, "priced or void")
    if line.slot + SECONDS_PER_MINUTE > now:
        raise InvalidInputError(f"{where}: slot", f"{line.slot} has not ended", "a minute of the past")
    if any(o.slot != line.slot for o in line.observations):
        raise InvalidInputError(f"{where}: observations", "one is of another minute", f"all of {line.slot}")
    if len({o.venue for o in line.observations}) != len(line.observations):
        raise InvalidInputError(f"{where}: observations", "two of one venue", "one a venue")


def _already_here(session: Session, line: _Line) -> bool:
    row = session.execute(
        select(RoundRow).where(col(RoundRow.feed) == line.feed, col(RoundRow.slot) == line.slot)
    ).scalar_one_or_none()
    if row is None:
        return False
    here = json.loads(row.report) if row.report is not None else None
    columns = (row.state, row.price_cents, row.low_cents, row.high_cents, here)
    if columns != (line.state, line.price_cents, line.low_cents, line.high_cents, line.report):
        raise ImportConflictError(line.slot, "round", "the one here says something else")
    if observations_of(session, Feed(line.feed), line.slot) != sorted(line.observations, key=lambda o: str(o.venue)):
        raise ImportConflictError(line.slot, "observations", "those here say something else")
    return True


def _import_round(session: Session, folder: Path, line: _Line, outcome: Outcome, *, now: UnixSeconds) -> None:
    feed, rule = Feed(line.feed), None
    for observation in line.observations:
        raw = _imported_response(folder, observation) if observation.evidence is not None else b""
        store_observation(session, feed, observation, raw, now=now)
    if line.rule is not None:
        document = rule_document(line.rule.rule, line.rule.registered, line.rule.legs)
        rule = store_blob(session, canonical_json(document), now=now).hex()
    statement = upsert(session, RoundRow).values(
        feed=feed,
        slot=line.slot,
        **_columns(outcome),
        report=json.dumps(line.report),
        rule_sha256=rule,
        attempts=1,
        deadline_unix=now,
        opened_at_unix=line.opened_at_unix,
        closed_at_unix=line.closed_at_unix,
    )
    session.execute(statement.on_conflict_do_nothing(index_elements=["feed", "slot"]))


def _imported_response(folder: Path, observation: Observation) -> bytes:
    name = observation.evidence.hex() if observation.evidence is not None else ""
    file = folder / RESPONSES / name
    if not file.is_file() or sha256(raw := file.read_bytes()) != observation.evidence:
        raise EvidenceError(observation.slot, str(observation.venue), f"{name} is missing or was changed")
    return raw
