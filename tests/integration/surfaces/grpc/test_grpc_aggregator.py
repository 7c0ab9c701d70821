"""The oracle services over a real channel: what is accepted, what is refused with which status, what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sqlmodel import Session, select

from btcfi.adapters.chain.node import PortInUseError
from btcfi.adapters.oracle_network.node import NodeSettings, OracleNode
from btcfi.adapters.store.prices.network_tables import OracleEquivocationRow, OracleRoundRow, OracleSubmissionRow
from btcfi.adapters.store.prices.tables import QuoteRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.errors import InvalidInputError, NotFoundError, UnreachableError
from btcfi.hashes import sha256
from btcfi.oracle.commitment import commitment_of, sign_commitment
from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.quote import BTC_USD
from btcfi.oracle.report import sign_report
from btcfi.oracle.round_book import RoundBook, SubmissionPolicy
from btcfi.surfaces.grpc import aggregator as aggregator_module
from btcfi.surfaces.grpc.aggregator import Aggregator, TlsFiles, start_server
from btcfi.surfaces.grpc.client import AggregatorClient, RefusedError
from btcfi.surfaces.grpc.keys import Keys
from btcfi.surfaces.grpc.messages import MAX_MESSAGE_BYTES, write_submission
from btcfi.surfaces.grpc.store import AggregatorStore
from btcfi.surfaces.protos import oracle_pb2 as pb
from btcfi.surfaces.protos import oracle_pb2_grpc
from btcfi.surfaces.rest.auth import create_key, revoke_key
from btcfi.surfaces.rest.deps import READ, TRADE
from btcfi.surfaces.rest.turns import Places
from btcfi.units import Slot
from tests.support.oracle_support import (
    BINANCE,
    COINBASE,
    KRAKEN,
    LEG,
    SLOT,
    leg,
    quote,
    registry,
    secret_of,
    signed,
)

pytestmark = pytest.mark.integration

NODES = {"b": BINANCE, "c": COINBASE, "k": KRAKEN, "l": LEG}
WORDS = {
    "b": quote(BINANCE, 60_010_00),
    "c": quote(COINBASE, 60_000_00),
    "k": quote(KRAKEN, 60_005_00),
    "l": leg(100_000_000),
}


class Running:
    """An aggregator in this process, on a real port, with a clock that the test turns."""

    def __init__(
        self, *, database: str = "", tls: TlsFiles | None = None, keys: Keys | None = None, reflection: bool = False,
        **policy,
    ) -> None:  # fmt: skip
        self.now = float(SLOT + 63)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.book = RoundBook(registry=registry(**NODES), rule=ConsensusRule(), policy=SubmissionPolicy(**policy))
        self.store = AggregatorStore(Store(database, busy_timeout_ms=200), BTC_USD) if database else None
        if self.store is not None:
            self.store.create_tables()
        self.service = Aggregator(self.book, store=self.store, clock=lambda: self.now, keys=keys)
        self.do(self.service.resume())
        self.server, self.port = self.do(
            start_server(self.service, host="127.0.0.1", port=0, tls=tls, with_reflection=reflection)
        )
        self.closing = asyncio.run_coroutine_threadsafe(self.service.close_rounds(every_seconds=0.01), self.loop)
        self.client = AggregatorClient(f"http://127.0.0.1:{self.port}")
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.stub = oracle_pb2_grpc.OracleAggregatorStub(self.channel)
        self.readme = oracle_pb2_grpc.OracleServiceStub(self.channel)

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def everybody(self) -> None:
        for name, word in WORDS.items():
            self.client.submit(signed(name, word))

    def end_of_round(self) -> None:
        self.now = float(SLOT + 60 + 16)
        for _ in range(500):
            if self.service._final.get(SLOT):
                return
            threading.Event().wait(0.01)
        raise AssertionError("the round was not finished")

    def stop(self) -> None:
        self.closing.cancel()
        self.client.close()
        self.channel.close()
        self.do(self.server.stop(0))
        if self.store is not None:
            self.do(self.store.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def running(tmp_path: Path):
    made = Running(database=f"sqlite:///{tmp_path / 'oracle.sqlite'}")
    yield made
    made.stop()


def rows(running: Running, table) -> list:
    with Session(running.store._store.engine) as session:
        return list(session.exec(select(table)).all())


def test_four_signed_words_become_a_stored_certified_price_that_both_published_services_tell(running) -> None:
    with pytest.raises(NotFoundError):
        running.client.price()
    running.everybody()
    assert len(rows(running, OracleSubmissionRow)) == 4
    running.end_of_round()
    report = running.client.report(SLOT)
    assert report.final
    for name in ("b", "c", "k"):
        running.client.sign(name, SLOT, sign_report(report.report, secret_of(name), aux=bytes(32)))
    price = running.client.price()
    assert (price.price, price.price_cents, price.num_sources, price.timestamp) == (60_005.0, 60_005_00, 3, SLOT)
    assert (price.dollar_markets, price.reach_cents, price.expires_at) == (2, price.price_cents, SLOT + 180)
    assert list(price.thin) == ["few_dollar_markets", "one_can_move_it"]
    assert (price.signatures, price.certified) == (3, True)
    assert {s.exchange for s in price.sources} == {"binance", "coinbaseexchange", "kraken"}
    told = running.readme.GetAggregatedPrice(pb.GetPriceRequest(slot=SLOT)).price
    assert told.price_cents == price.price_cents
    history = running.client.history(SLOT - 60, SLOT + 120)
    assert [p.timestamp for p in history.prices] == [SLOT]
    assert list(history.gaps) == [SLOT - 60, SLOT + 60]
    (kept,) = [r for r in rows(running, OracleRoundRow) if r.slot == SLOT]
    assert set(json.loads(kept.signatures)) == {"b", "c", "k"}
    assert {r.venue for r in rows(running, QuoteRow)} == {str(v) for v in NODES.values()}


def test_a_restarted_aggregator_has_the_round_as_it_was(running, tmp_path: Path) -> None:
    running.everybody()
    again = Running(database=running.store._store.url)
    try:
        assert len(again.book.submissions(SLOT)) == 4
        with pytest.raises(RefusedError) as caught:
            again.client.submit(signed("k", WORDS["k"]))
        assert caught.value.code == "ALREADY_EXISTS"
    finally:
        again.stop()


def test_who_lied_before_a_restart_stays_out_of_the_round(running) -> None:
    running.everybody()
    with pytest.raises(RefusedError):
        running.client.submit(signed("k", quote(KRAKEN, 66_000_00)))
    again = Running(database=running.store._store.url)
    try:
        with pytest.raises(RefusedError) as caught:
            again.client.submit(signed("k", WORDS["k"]))
        assert caught.value.code == "ABORTED"
        again.end_of_round()
        report = again.client.report(SLOT)
        assert {d.reason for d in report.report.outcome.dropped} == {"equivocation"}
        assert len(report.signed.contradictions) == 1
    finally:
        again.stop()


def test_a_contradiction_after_the_end_is_stored_and_served_and_the_final_report_stays_as_it_was(running) -> None:
    running.everybody()
    running.end_of_round()
    before = running.client.report(SLOT)
    running.now += 300
    with pytest.raises(RefusedError) as caught:
        running.client.submit(signed("k", quote(KRAKEN, 66_000_00), at=running.now))
    assert caught.value.code == "ABORTED"
    (proof,) = rows(running, OracleEquivocationRow)
    assert pb.PriceSubmission.FromString(proof.second).close_cents == 66_000_00
    again = Running(database=running.store._store.url)
    try:
        again.now = running.now
        for aggregator in (running, again):
            report = aggregator.client.report(SLOT)
            assert (report.report, report.signed) == (before.report, before.signed)
            served = aggregator.stub.GetRoundReport(pb.ReportRequest(slot=SLOT)).late_contradictions
            assert [both.second.close_cents for both in served] == [66_000_00]
    finally:
        again.stop()


def test_a_reveal_after_a_restart_counts(tmp_path: Path) -> None:
    database, nonce = f"sqlite:///{tmp_path / 'oracle.sqlite'}", bytes(range(32))
    made = Running(database=database, commit_reveal=True)
    commitment = commitment_of("k", WORDS["k"], nonce)
    try:
        made.client.commit(sign_commitment("k", SLOT, commitment, secret_of("k"), aux=bytes(32)))
    finally:
        made.stop()
    again = Running(database=database, commit_reveal=True)
    try:
        again.now = float(SLOT + 71)
        again.client.submit(signed("k", WORDS["k"], at=again.now), nonce=nonce)
        assert [s.submission.node_id for s in again.book.submissions(SLOT)] == ["k"]
    finally:
        again.stop()


@pytest.mark.parametrize("slot", [2**63 - 1, 2**63 - 8, 2**32, -60, SLOT + 1, -(2**63)])
def test_a_slot_that_is_no_minute_is_refused_at_every_door(running, slot) -> None:
    submission = write_submission(signed("k", WORDS["k"]))
    submission.timestamp = slot
    calls = [
        lambda: running.stub.SubmitPrice(submission),
        lambda: running.readme.SubmitPrice(pb.PriceRequest(submission=submission)),
        lambda: running.stub.CommitPrice(pb.CommitRequest(node_id="k", slot=slot, commitment=bytes(32))),
        lambda: running.stub.GetRoundReport(pb.ReportRequest(slot=slot)),
        lambda: running.stub.SignReport(pb.ReportSignature(node_id="k", slot=slot)),
        lambda: running.readme.GetAggregatedPrice(pb.GetPriceRequest(slot=slot)),
    ]
    if slot != SLOT + 1:
        calls.append(lambda: running.stub.GetPriceHistory(pb.TimeRange(start=slot, end=2**63 - 1)))
        calls.append(lambda: running.stub.GetPriceHistory(pb.TimeRange(start=SLOT, end=slot)))
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_source_tells_the_volume_that_it_traded_not_what_it_weighed(running) -> None:
    for name, word in WORDS.items():
        more = {"b": 7, "c": 5, "k": 300}.get(name)
        running.client.submit(signed(name, replace(word, volume=more * 10**8) if more else word))
    running.end_of_round()
    told = {s.exchange: s.volume_sats for s in running.client.price().sources}
    assert told == {"binance": 7 * 10**8, "coinbaseexchange": 5 * 10**8, "kraken": 300 * 10**8}


class Lying:
    """An aggregator that changes what it sends to the node that is to sign."""

    def __init__(self, honest, lie) -> None:
        self.honest, self.lie, self.signed = honest, lie, 0

    def __getattr__(self, name):
        return getattr(self.honest, name)

    def report(self, slot):
        return self.lie(self.honest.report(slot))

    def sign(self, node_id, slot, signature) -> None:
        self.signed += 1


def of_outcome(**changes):
    return lambda r: replace(r, report=replace(r.report, outcome=replace(r.report.outcome, **changes)))


@pytest.mark.parametrize(
    "lie",
    [
        of_outcome(price=60_005_01), of_outcome(low=1), of_outcome(high=2**32 - 1), of_outcome(confidence=0),
        of_outcome(used=()), of_outcome(thin=()), of_outcome(reach=0), of_outcome(dollar_markets=9),
        of_outcome(slot=Slot(SLOT + 60)),
        lambda r: replace(r, report=replace(r.report, feed="ETH/USD")),
        lambda r: replace(r, report=replace(r.report, rule_hash=sha256(b"x"))),
        lambda r: replace(r, report=replace(r.report, evidence_root=sha256(b"x"))),
        lambda r: replace(r, signed=replace(r.signed, submissions=r.signed.submissions[1:])),
        lambda r: replace(r, signed=replace(r.signed, slot=Slot(SLOT + 60))),
    ],
)  # fmt: skip
def test_a_node_signs_no_report_that_lies_in_any_field(running, lie) -> None:
    running.everybody()
    running.end_of_round()
    aggregator = Lying(running.client, lie)
    node = OracleNode(
        NodeSettings(node_id="k", venue=KRAKEN), secret=secret_of("k"), client=Scripted(WORDS["k"]),
        aggregator=aggregator, clock=lambda: running.now, wait=lambda _: None, entropy=bytes,
        rule=ConsensusRule(), keys=running.book.registry.keys,
    )  # fmt: skip
    node._ring.append(signed("k", WORDS["k"]))
    node._to_sign.append(SLOT)
    assert (node.sign_reports(), aggregator.signed) == (0, 0)
    aggregator.lie = lambda r: r
    node._to_sign.append(SLOT)
    assert (node.sign_reports(), aggregator.signed) == (1, 1)


@pytest.mark.parametrize(
    ("message", "code", "kind"),
    [
        (signed("stranger", WORDS["k"]), "PERMISSION_DENIED", "unknown_node"),
        (signed("k", WORDS["c"]), "PERMISSION_DENIED", "wrong_venue"),
        (signed("k", WORDS["k"], secret=secret_of("c")), "UNAUTHENTICATED", "bad_signature"),
        (signed("k", quote(KRAKEN, 60_000_00, slot=Slot(SLOT - 600))), "FAILED_PRECONDITION", "closed_slot"),
        (signed("k", quote(KRAKEN, 60_000_00, slot=Slot(SLOT + 60))), "FAILED_PRECONDITION", "future_slot"),
        (signed("k", WORDS["k"], offset_ms=300_000), "FAILED_PRECONDITION", "clock_skew"),
        (signed("k", WORDS["k"], raw=b"rubbish"), "INVALID_ARGUMENT", "evidence_mismatch"),
    ],
)
def test_a_bad_submission_is_refused_with_its_grpc_status_and_counted_by_kind(running, message, code, kind) -> None:
    with pytest.raises(RefusedError) as caught:
        running.client.submit(message)
    assert caught.value.code == code
    assert dict(running.client.health().refused_by_kind) == {kind: 1}
    assert rows(running, OracleSubmissionRow) == []


@pytest.mark.parametrize(
    "change",
    [
        {"price": float("nan")}, {"price": float("inf")}, {"price": -1.0}, {"close_cents": 0}, {"volume_sats": 0},
        {"close_cents": 2**32 - 1}, {"volume_sats": 2**63}, {"volume": 1e30}, {"evidence": b""}, {"signature": b""},
    ],
)  # fmt: skip
def test_a_malformed_message_is_an_invalid_argument(running, change) -> None:
    message = write_submission(signed("k", WORDS["k"]))
    for field, value in change.items():
        setattr(message, field, value)
    with pytest.raises(grpc.RpcError) as caught:
        running.stub.SubmitPrice(message)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sum(running.client.health().refused_by_kind.values()) == 1


def test_oversized_messages_are_refused_by_us_and_far_oversized_ones_by_grpc(running) -> None:
    message = write_submission(signed("k", WORDS["k"]))
    for size in (MAX_MESSAGE_BYTES + 1, 17 * MAX_MESSAGE_BYTES):
        message.raw_response = b"x" * size
        with pytest.raises(grpc.RpcError) as caught:
            running.stub.SubmitPrice(message)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(running.client.health().refused_by_kind) == {"oversized": 1}
    running.everybody()


def test_bytes_that_are_no_message_do_not_hurt(running) -> None:
    call = running.channel.unary_unary("/btcfi.OracleAggregator/SubmitPrice")
    for raw in (b"\xff\xff\xff", b"\x08", b"GET / HTTP/1.1"):
        with pytest.raises(grpc.RpcError):
            call(raw)
    running.everybody()


def test_a_contradiction_is_aborted_kept_as_proof_and_named_in_the_void_or_price(running) -> None:
    running.everybody()
    with pytest.raises(RefusedError) as caught:
        running.client.submit(signed("k", quote(KRAKEN, 66_000_00)))
    assert caught.value.code == "ABORTED"
    running.end_of_round()
    price = running.client.price()
    assert {d.reason for d in price.dropped} == {"equivocation"}
    (proof,) = rows(running, OracleEquivocationRow)
    both = [pb.PriceSubmission.FromString(raw).close_cents for raw in (proof.first, proof.second)]
    assert both == [60_005_00, 66_000_00]


def test_a_subscriber_hears_of_the_complete_round_then_of_the_final_one_and_loudly_of_a_void_one(running) -> None:
    heard: list[pb.PriceUpdate] = []
    done = threading.Event()

    def listen() -> None:
        for update in running.client.updates(timeout_seconds=10):
            heard.append(update)
            if update.slot == SLOT + 60 and update.final:
                done.set()
                return

    thread = threading.Thread(target=listen)
    thread.start()
    for _ in range(200):
        if running.service._subscribers:
            break
        threading.Event().wait(0.01)
    running.everybody()
    running.end_of_round()
    running.now += 60
    assert done.wait(10)
    thread.join()
    assert [(u.slot, u.priced, u.final) for u in heard if u.slot >= SLOT] == [
        (SLOT, True, False), (SLOT, True, True), (SLOT + 60, False, True)
    ]  # fmt: skip
    assert heard[-1].void_reason == "no_quorum"
    assert {a.reason for a in heard[-1].absent} == {"silent"}


def test_the_readmes_service_takes_a_price_and_tells_who_is_active(running) -> None:
    message = write_submission(signed("k", WORDS["k"]))
    assert running.readme.SubmitPrice(pb.PriceRequest(submission=message)).success
    health = running.client.health()
    assert (health.active_nodes, health.healthy) == (1, False)
    assert {n.node_id: n.active for n in health.nodes} == {"b": False, "c": False, "k": True, "l": False}
    sample = running.client.measure(lambda: running.now - 300)
    assert 299_000 <= sample.offset <= 301_000


def test_a_node_signs_only_a_report_that_it_can_compute_itself(running) -> None:
    node = OracleNode(
        NodeSettings(node_id="k", venue=KRAKEN), secret=secret_of("k"), client=Scripted(WORDS["k"]),
        aggregator=running.client, clock=lambda: running.now, wait=lambda _: None, entropy=bytes,
        rule=ConsensusRule(), keys={n.node_id: (n.venue, n.public_key) for n in running.book.registry.nodes.values()},
    )  # fmt: skip
    for name in ("b", "c", "l"):
        running.client.submit(signed(name, WORDS[name]))
    assert node.collect(SLOT) == "accepted"
    assert node.sign_reports() == 0
    running.end_of_round()
    assert node.sign_reports() == 1
    assert running.client.price().signatures == 1
    stricter = OracleNode(
        NodeSettings(node_id="c", venue=COINBASE), secret=secret_of("c"), client=Scripted(WORDS["c"]),
        aggregator=running.client, clock=lambda: running.now, wait=lambda _: None, entropy=bytes,
        rule=ConsensusRule(outlier_bps=150),
        keys={n.node_id: (n.venue, n.public_key) for n in running.book.registry.nodes.values()},
    )  # fmt: skip
    stricter._ring.append(signed("c", WORDS["c"]))
    stricter._to_sign.append(SLOT)
    assert stricter.sign_reports() == 0


def test_with_commit_and_reveal_a_node_commits_first_and_is_heard_only_in_the_window(tmp_path: Path) -> None:
    made = Running(commit_reveal=True)
    made.now = float(SLOT + 62)

    def wait(seconds: float) -> None:
        made.now += seconds

    try:
        node = OracleNode(
            NodeSettings(node_id="k", venue=KRAKEN, commit_reveal=True), secret=secret_of("k"),
            client=Scripted(WORDS["k"]), aggregator=made.client, clock=lambda: made.now, wait=wait, entropy=os.urandom,
        )  # fmt: skip
        assert node.collect(SLOT) == "accepted"
        assert made.now >= SLOT + 70
        with pytest.raises(RefusedError) as caught:
            made.client.submit(signed("c", WORDS["c"], at=made.now))
        assert caught.value.code == "FAILED_PRECONDITION"
        assert dict(made.client.health().refused_by_kind) == {"commitment": 1}
    finally:
        made.stop()


class Scripted:
    def __init__(self, observation) -> None:
        self.observation, self.venue = observation, observation.venue

    def fetch(self, slot, now):
        return self.observation, b""


@pytest.mark.parametrize("slot", [2**63 - 1, 2**63 - 8, 2**32, -60, 61])
def test_a_slot_that_is_none_is_refused_and_overflows_nothing(running, slot: int) -> None:
    for ask in (
        lambda: running.readme.GetAggregatedPrice(pb.GetPriceRequest(slot=slot)),
        lambda: running.stub.GetRoundReport(pb.ReportRequest(slot=slot)),
        lambda: running.stub.GetPriceHistory(pb.TimeRange(start=slot, end=2**63 - 1)),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            ask()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_signature_of_another_report_is_refused(running) -> None:
    running.everybody()
    running.end_of_round()
    report = running.client.report(SLOT).report
    for node_id, signature, code in (
        ("k", sign_report(report, secret_of("c"), aux=bytes(32)), "UNAUTHENTICATED"),
        ("stranger", bytes(64), "PERMISSION_DENIED"),
    ):
        with pytest.raises(RefusedError) as caught:
            running.client.sign(node_id, SLOT, signature)
        assert caught.value.code == code
    with pytest.raises(NotFoundError):
        running.client.sign("k", Slot(SLOT + 600), bytes(64))


def test_health_answers_everybody_and_what_messages_there_are_is_told_where_it_was_asked_for(running) -> None:
    health = health_pb2_grpc.HealthStub(running.channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service="btcfi.OracleAggregator"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        _listed(running)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    told = Running(reflection=True)
    try:
        assert {"btcfi.OracleAggregator", "btcfi.OracleService", "grpc.health.v1.Health"} <= _listed(told)
    finally:
        told.stop()


def _listed(of) -> set[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(of.channel)
    (listed,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    return {s.name for s in listed.list_services_response.service}


def test_where_nobody_reads_without_a_key_each_read_asks_for_one_and_nodes_still_submit(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(aggregator_module, "KEY_CHECK_SECONDS", 0.05)
    store = Store(f"sqlite:///{tmp_path / 'keys.db'}")
    store.migrate()
    good, other = (
        create_key(store, name="t", roles=(role,), entropy=bytes([n] * 40), now=1, requests_per_minute=60)
        for n, role in enumerate((READ, TRADE))
    )
    made = Running(keys=Keys(store, clock=lambda: 2.0, anonymous_roles=frozenset()))
    try:
        made.everybody()
        assert made.client.health().healthy
        made.end_of_round()
        reads = (
            lambda client: client.price(), lambda client: client.history(SLOT, SLOT + 60),
            lambda client: client.report(SLOT), lambda client: next(client.updates(5)),
        )  # fmt: skip
        for key, code in ((None, "UNAUTHENTICATED"), (other, "PERMISSION_DENIED"), ("x", "UNAUTHENTICATED")):
            client = AggregatorClient(f"http://127.0.0.1:{made.port}", api_key=key)
            for read in reads:
                with pytest.raises(RefusedError) as caught:
                    read(client)
                assert caught.value.code == code
            client.close()
        reader = AggregatorClient(f"http://127.0.0.1:{made.port}", api_key=good)
        assert reader.price().num_sources == 3
        # and a key that ends while its stream is open ends the stream
        stream = reader.updates(20)
        revoke_key(store, good.split("_")[1], now=2)
        with pytest.raises(RefusedError) as caught:
            next(stream)
        assert caught.value.code == "UNAUTHENTICATED"
        reader.close()
    finally:
        made.stop()
        store.close()


def test_an_address_has_so_many_price_streams_and_no_more(running, monkeypatch) -> None:
    running.service._places = Places(each=1, most=8)
    first = running.stub.SubscribePrices(pb.Empty())
    while not running.service._subscribers:
        threading.Event().wait(0.01)
    with pytest.raises(RefusedError) as caught:
        next(running.client.updates(5))
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    first.cancel()


def test_keys_in_plain_text_beyond_the_loopback_are_warned_of(running) -> None:
    with structlog.testing.capture_logs() as said:
        server, _ = running.do(start_server(Aggregator(running.book), host="127.0.0.1", port=0))
        running.do(server.stop(0))
        for host in ("::1", "[::1]", "localhost"):
            aggregator_module.warn_of_plaintext(host)
        assert not said
        for host in ("0.0.0.0", "192.0.2.7", "oracle.example"):
            aggregator_module.warn_of_plaintext(host)
    assert [line["event"] for line in said] == ["plaintext_beyond_the_loopback"] * 3


def test_the_raw_response_that_comes_along_is_read_again_and_kept_by_its_hash(running) -> None:
    raw = json.dumps(
        {
            "error": [],
            "result": {"XXBTZUSD": [[SLOT, "60005", "60005", "60005", "60005", "60005", "1.0", 3]], "last": 0},
        }
    ).encode()
    running.client.submit(signed("k", quote(KRAKEN, 60_005_00, evidence=sha256(raw)), raw=raw))
    (blob,) = rows(running, BlobRow)
    assert (blob.sha256, blob.body) == (sha256(raw).hex(), raw)
    with pytest.raises(RefusedError) as caught:
        running.client.submit(signed("c", quote(COINBASE, 60_005_00, evidence=sha256(raw)), raw=raw))
    assert caught.value.code == "INVALID_ARGUMENT"


def test_while_the_database_is_away_nothing_is_acknowledged_and_afterwards_the_same_word_counts(
    running, tmp_path: Path
) -> None:
    for name in ("b", "c", "l"):
        running.client.submit(signed(name, WORDS[name]))
    with contextlib.closing(sqlite3.connect(tmp_path / "oracle.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnreachableError):
            running.client.submit(signed("k", WORDS["k"]))
        assert len(running.book.submissions(SLOT)) == 3
        running.client.health()
        running.now = float(SLOT + 74)
        other.execute("ROLLBACK")
    running.client.submit(signed("k", WORDS["k"]))
    assert len(rows(running, OracleSubmissionRow)) == 4
    with contextlib.closing(sqlite3.connect(tmp_path / "oracle.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        running.now = float(SLOT + 76)
        threading.Event().wait(0.5)
        with pytest.raises(NotFoundError):
            running.client.price()
        other.execute("ROLLBACK")
    running.end_of_round()
    assert running.client.price().num_sources == 3


def test_a_port_in_use_is_named(running) -> None:
    with pytest.raises(PortInUseError):
        running.do(start_server(running.service, host="127.0.0.1", port=running.port))
    with pytest.raises(InvalidInputError):
        running.do(start_server(running.service, host="203.0.113.7", port=0))


def test_history_is_bounded(running) -> None:
    with pytest.raises(RefusedError) as caught:
        running.client.history(0, 2**31)
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_day_is_told_at_once_and_a_minute_more_is_refused(running) -> None:
    assert len(running.client.history(SLOT, SLOT + 86_400).gaps) == 1440
    with pytest.raises(RefusedError) as caught:
        running.client.history(SLOT, SLOT + 86_460)
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_submission_is_acknowledged_while_somebody_s_history_is_checked(running, monkeypatch) -> None:
    running.everybody()
    running.end_of_round()
    go, begun, checked = threading.Event(), threading.Event(), aggregator_module.certified

    def slow(*given, **more):
        begun.set()
        go.wait(20)
        return checked(*given, **more)

    monkeypatch.setattr(aggregator_module, "certified", slow)
    history = running.stub.GetPriceHistory.future(pb.TimeRange(start=SLOT, end=SLOT + 60))
    try:
        assert begun.wait(10)
        later = Slot(SLOT + 60)
        running.now = float(later + 63)
        running.client.submit(signed("k", quote(KRAKEN, 60_000_00, slot=later), at=running.now))
        assert not history.done()
    finally:
        go.set()
    assert [p.timestamp for p in history.result(10).prices] == [SLOT]


def test_with_tls_only_a_client_that_trusts_the_server_gets_through(tmp_path: Path) -> None:
    key, certificate = self_signed(tmp_path)
    made = Running(tls=TlsFiles(key=key, certificate=certificate))
    try:
        url = f"https://localhost:{made.port}"
        trusting = AggregatorClient(url, ca=certificate)
        trusting.submit(signed("k", WORDS["k"]))
        trusting.close()
        with pytest.raises(UnreachableError):
            AggregatorClient(url, timeout_seconds=2).submit(signed("c", WORDS["c"]))
        with pytest.raises(UnreachableError):
            AggregatorClient(f"http://localhost:{made.port}", timeout_seconds=2).submit(signed("c", WORDS["c"]))
    finally:
        made.stop()


def test_a_url_that_is_none_is_refused_and_a_dead_aggregator_is_unreachable() -> None:
    for url in ("localhost:50051", "ftp://localhost:1", "http://localhost"):
        with pytest.raises(InvalidInputError):
            AggregatorClient(url)
    with pytest.raises(UnreachableError):
        AggregatorClient("http://127.0.0.1:9", timeout_seconds=2).price()


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(start).not_valid_after(start + dt.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file
