"""What the aggregator keeps: each accepted submission before it is acknowledged, each round when it is final.

Submissions that arrive together are committed together, so that the disk is asked once for many: the acknowledgment
still means "stored".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from btcfi.adapters.store.prices import network
from btcfi.adapters.store.prices.network import FinalRound, Submission
from btcfi.adapters.store.prices.observations import store_observation
from btcfi.adapters.store.spine.database import Store
from btcfi.oracle.commitment import PriceCommitment
from btcfi.oracle.quote import Feed, Observation
from btcfi.oracle.recompute import RoundTerms
from btcfi.oracle.report import RoundReport, canonical_json, decode_report, encode_report, report_hash, rule_document
from btcfi.oracle.round_book import Kept
from btcfi.oracle.submission import SignedSubmission
from btcfi.surfaces.grpc.messages import read_commitment, read_submission, write_commitment, write_submission
from btcfi.surfaces.protos import oracle_pb2 as pb
from btcfi.units import Slot, UnixSeconds

GATHER_SECONDS: Final = 0.003
"""How long a commit waits for company: under load it then carries dozens of submissions instead of a few."""


@dataclass(frozen=True, slots=True)
class _Accepted:
    signed: SignedSubmission
    now: UnixSeconds
    done: asyncio.Future[None]


class AggregatorStore:
    """The aggregator's side of the database. One event loop owns it; the writes run on one thread.

    History runs on another: what is asked about the past keeps no submission from its acknowledgment.
    """

    def __init__(self, store: Store, feed: Feed) -> None:
        self._store, self._feed = store, feed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aggregator-store")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="aggregator-history")
        self._waiting: list[_Accepted] = []
        self._writer: asyncio.Task[None] | None = None

    def create_tables(self) -> None:
        """Create the aggregator's tables where they do not exist: a database of its own has no Alembic."""
        network.create_tables(self._store)

    async def keep(self, signed: SignedSubmission, now: UnixSeconds) -> None:
        """Return once the submission is committed. Raises StoreUnreachableError when it could not be."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(_Accepted(signed, now, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await done

    async def _write(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_SECONDS)
            batch, self._waiting = self._waiting, []
            try:
                await self._run(self._insert, batch)
            except Exception as e:  # noqa: BLE001 - every waiting caller must hear of it, whatever it is
                for item in batch:
                    if not item.done.done():
                        item.done.set_exception(e)
            else:
                for item in batch:
                    if not item.done.done():
                        item.done.set_result(None)

    def _insert(self, batch: list[_Accepted]) -> None:
        many = [_submission(item) for item in batch]
        with self._store.transaction() as session:
            network.add_submissions(session, self._feed, many)

    async def keep_equivocation(self, first: SignedSubmission, second: SignedSubmission, now: UnixSeconds) -> None:
        """Store both sides of a contradiction, once."""
        await self._run(self._insert_equivocation, first, second, now)

    def _insert_equivocation(self, first: SignedSubmission, second: SignedSubmission, now: UnixSeconds) -> None:
        said = first.submission
        with self._store.transaction() as session:
            network.add_equivocation(
                session, self._feed, said.slot, said.node_id, first=_message(first), second=_message(second), now=now
            )

    async def keep_commitment(self, made: PriceCommitment, now: UnixSeconds) -> None:
        """Return once the commitment is stored: its reveal counts also after a restart."""
        await self._run(self._insert_commitment, made, now)

    def _insert_commitment(self, made: PriceCommitment, now: UnixSeconds) -> None:
        message = write_commitment(made).SerializeToString()
        with self._store.transaction() as session:
            network.add_commitment(session, self._feed, made.slot, made.node_id, message=message, now=now)

    async def keep_round(
        self,
        report: RoundReport,
        words: Sequence[Observation],
        *,
        terms: RoundTerms,
        now: UnixSeconds,
    ) -> None:
        """Store a final report and its words, one a venue, once: the rows on which the cluster closes its rounds."""
        final = FinalRound(
            slot=report.slot,
            report=canonical_json(encode_report(report)).decode(),
            report_hash=report_hash(report).hex(),
            rule=canonical_json(rule_document(terms.rule, terms.registered, terms.legs)).decode(),
            closed_at=now,
        )
        await self._run(self._insert_round, final, words)

    def _insert_round(self, final: FinalRound, words: Sequence[Observation]) -> None:
        with self._store.transaction() as session:
            for said in words:
                store_observation(session, self._feed, said, b"", now=final.closed_at)
            network.add_round(session, self._feed, final)

    async def keep_signatures(self, slot: Slot, signatures: Mapping[str, bytes]) -> None:
        """Store who has signed the report of a round so far."""
        await self._run(self._set_signatures, slot, {node: s.hex() for node, s in signatures.items()})

    def _set_signatures(self, slot: Slot, signatures: dict[str, str]) -> None:
        with self._store.transaction() as session:
            network.set_signatures(session, self._feed, slot, json.dumps(signatures, sort_keys=True))

    async def history(self, start: int, end: int) -> list[tuple[RoundReport, dict[str, bytes]]]:
        """Return the final reports of start <= slot < end with their signatures, oldest first."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, self._read_history, start, end)

    def _read_history(self, start: int, end: int) -> list[tuple[RoundReport, dict[str, bytes]]]:
        with self._store.reading() as session:
            rows = network.final_rounds(session, self._feed, start, end)
        return [
            (
                decode_report(json.loads(row.report)),
                {node: bytes.fromhex(s) for node, s in json.loads(row.signatures).items()},
            )
            for row in rows
        ]

    async def kept(self, start: int, end: int) -> Kept:
        """Return what is stored of the rounds of start <= slot < end, to go on after a restart."""
        read: Kept = await self._run(self._read_kept, start, end)
        return read

    def _read_kept(self, start: int, end: int) -> Kept:
        with self._store.reading() as session:
            submissions = network.submissions(session, self._feed, start, end)
            both = network.equivocations(session, self._feed, start, end)
            made = network.commitments(session, self._feed, start, end)
        return Kept(
            submissions=[(_signed(row.message), UnixSeconds(row.received_at_unix)) for row in submissions],
            contradictions=[((_signed(row.first), _signed(row.second)), UnixSeconds(row.seen_at_unix)) for row in both],
            commitments=[
                (read_commitment(pb.CommitRequest.FromString(row.message)), UnixSeconds(row.received_at_unix))
                for row in made
            ],
        )

    async def close(self) -> None:
        """Finish what is waiting and stop the thread."""
        if self._writer is not None:
            await self._writer
        self._thread.shutdown()
        self._reader.shutdown()
        self._store.close()

    async def _run(self, work: Any, *arguments: Any) -> Any:  # noqa: ANN401 - as run_in_executor
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _submission(item: _Accepted) -> Submission:
    said = item.signed.submission
    evidence = said.observation.evidence
    return Submission(
        slot=said.slot,
        node_id=said.node_id,
        message=_message(item.signed),
        received_at=item.now,
        evidence_sha256=None if evidence is None else evidence.hex(),
        raw_response=item.signed.raw_response or b"",
    )


def _signed(message: bytes) -> SignedSubmission:
    return read_submission(pb.PriceSubmission.FromString(message))


def _message(signed: SignedSubmission) -> bytes:
    raw: bytes = write_submission(signed, with_response=False).SerializeToString()
    return raw
