"""The published SettlementEngine over a real channel, onto the rows that the CLI and the REST API use."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from sqlmodel import select

from btcfi.adapters.store.options.settlements import request_settlement
from btcfi.adapters.store.options.tables import OptionRow, SettlementRequestRow, SettlementRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.tables import BlobRow, OutboxRow
from btcfi.hashes import sha256
from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.round_book import RoundBook
from btcfi.proofs import wire
from btcfi.proofs.settlement_proof import build_proof, to_json
from btcfi.surfaces.grpc.aggregator import Aggregator, start_server
from btcfi.surfaces.grpc.settlement import SettlementEngine, proof_message
from btcfi.surfaces.protos import settlement_pb2 as pb
from btcfi.surfaces.protos import settlement_pb2_grpc
from btcfi.surfaces.rest.auth import create_key, revoke_key
from btcfi.surfaces.rest.deps import OPERATE, READ, TRADE
from btcfi.units import UnixSeconds
from btcfi.vm.interpreter import run
from btcfi.vm.program import load_program
from tests.support.oracle_support import KRAKEN, SLOT, registry
from tests.support.paths import VECTORS_FOLDER

pytestmark = pytest.mark.integration

VECTORS = json.loads((VECTORS_FOLDER / "settlement_v2.json").read_text())["tests"]


@pytest.fixture(scope="module")
def proof_file() -> bytes:
    execution = run(load_program("option_settlement"), bytes.fromhex(VECTORS[0]["input"]))
    return to_json(build_proof(execution)).encode()


def option(option_id: str) -> OptionRow:
    return OptionRow(
        id=option_id, feed="BTC/USD", state="EXPIRED", kind=0, strike_cents=60_000_00, quantity_centi_btc=100,
        expiry_unix=SLOT, premium_cents=1, premium_sats=1, collateral_sats=10**8, volatility_bps=6500, rate_bps=0,
        preset="demo", preset_sha256="", program="option_settlement", program_sha256="", created_at_unix=0,
        listed_slot=SLOT, updated_at_unix=0,
    )  # fmt: skip


def key_of(store: Store, *roles: str, expires_at: UnixSeconds | None = None) -> str:
    return create_key(
        store, name="a test's", roles=roles, entropy=secrets.token_bytes(40), now=UnixSeconds(1), expires_at=expires_at
    )


class Keyed:
    """A stub whose calls show a key; with None, none."""

    def __init__(self, stub: settlement_pb2_grpc.SettlementEngineStub, key: str | None):
        self.stub, self.metadata = stub, [] if key is None else [("authorization", key)]
        if key is not None and key.startswith("btcfi_"):
            self.metadata = [("authorization", f"Bearer {key}")]

    def __getattr__(self, name: str):
        return lambda request: getattr(self.stub, name)(request, metadata=self.metadata)


@pytest.fixture
def engine(tmp_path: Path, proof_file: bytes):
    store = Store(f"sqlite:///{tmp_path}/engine.sqlite")
    store.migrate()
    name = sha256(proof_file).hex()
    with store.transaction() as session:
        session.add(option("waiting"))
        session.add(option("settled"))
        session.flush()
        session.add(BlobRow(sha256=name, body=proof_file, created_at_unix=0))
        session.add(
            SettlementRow(
                id="s1", option_id="settled", state="confirmed", reason="expiry", slot=SLOT, price_cents=65_000_00,
                input_hex="", payout_sats=123, paid_sats=100, txid="ab" * 32, proof_root="cd" * 32, proof_sha256=name,
                created_at_unix=0, updated_at_unix=0,
            )
        )  # fmt: skip
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def do(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    submitted: list[tuple[str, str]] = []
    service = SettlementEngine(store, clock=lambda: 1_700_000_000.0, submit=lambda *work: submitted.append(work))
    aggregator = Aggregator(RoundBook(registry=registry(k=KRAKEN), rule=ConsensusRule()))
    server, port = do(start_server(aggregator, host="127.0.0.1", port=0, register=service.register))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Keyed(settlement_pb2_grpc.SettlementEngineStub(channel), key_of(store, OPERATE)), submitted, store
    do(server.stop(0))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_request_is_one_row_however_often_it_is_made_and_takes_no_price_from_the_caller(engine) -> None:
    stub, submitted, store = engine
    for price in (1.0, 10.0**9):
        status = stub.InitiateSettlement(pb.SettlementRequest(option_id=b"waiting", final_price=price))
        assert (status.state, status.status, status.settlement_price_cents) == ("open", pb.EXPIRED, 0)
    assert submitted == [("settlement_request", "waiting")]
    with store.reading() as session:
        asked_by = session.get(SettlementRequestRow, "waiting").requested_by
    assert asked_by == f"grpc {stub.metadata[0][1].split('_')[1]}"


def test_a_request_is_queued_like_any_other_and_a_refused_one_is_asked_anew(engine) -> None:
    stub, submitted, store = engine
    stub.InitiateSettlement(pb.SettlementRequest(option_id=b"waiting"))
    with store.transaction() as session:
        assert [row.flow for row in session.exec(select(OutboxRow))] == ["answer_request"]
        session.get_one(SettlementRequestRow, "waiting").state = "refused"
    assert stub.InitiateSettlement(pb.SettlementRequest(option_id=b"waiting")).state == "open"
    assert submitted == [("settlement_request", "waiting")] * 2


def test_asking_again_while_a_request_waits_queues_nothing_more_and_does_not_change_who_asked(engine) -> None:
    stub, _, store = engine
    with store.transaction() as session:
        request_settlement(session, "waiting", requested_by="somebody", now=UnixSeconds(1))
    for _ in range(5):
        stub.InitiateSettlement(pb.SettlementRequest(option_id=b"waiting"))
    with store.reading() as session:
        assert len(session.exec(select(OutboxRow)).all()) == 1
        assert session.get(SettlementRequestRow, "waiting").requested_by == "somebody"


def test_a_settled_option_tells_how_it_was_settled(engine) -> None:
    status = engine[0].InitiateSettlement(pb.SettlementRequest(option_id=b"settled"))
    assert (status.state, status.settlement_price_cents, status.payout_sats) == ("confirmed", 65_000_00, 123)
    assert (status.HasField("paid_sats"), status.paid_sats) == (True, 100)
    assert (status.settlement_txid, status.proof_root.hex(), status.slot) == ("ab" * 32, "cd" * 32, SLOT)


@pytest.mark.parametrize(
    ("option_id", "code"),
    [
        (b"unknown", grpc.StatusCode.NOT_FOUND), (b"", grpc.StatusCode.INVALID_ARGUMENT),
        (b"\xff\xfe", grpc.StatusCode.INVALID_ARGUMENT), (b"x" * 129, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)  # fmt: skip
def test_an_unknown_or_malformed_option_id_has_its_status(engine, option_id: bytes, code) -> None:
    for call, request in (
        (engine[0].InitiateSettlement, pb.SettlementRequest(option_id=option_id)),
        (engine[0].GetProof, pb.ProofRequest(option_id=option_id)),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(request)
        assert caught.value.code() is code


def test_who_asks_for_a_settlement_does_not_wait_for_anybody_s_proof(engine, proof_file: bytes, monkeypatch) -> None:
    stub, _, _ = engine
    go, begun, read = threading.Event(), threading.Event(), wire.from_json

    def slow(raw: bytes):
        begun.set()
        go.wait(20)
        return read(raw)

    monkeypatch.setattr(wire, "from_json", slow)
    with ThreadPoolExecutor(1) as pool:
        try:
            proof = pb.BitVMXProof(proof_file=proof_file)
            verdict = pool.submit(lambda: stub.VerifyProof(pb.ProofVerification(proof=proof)))
            assert begun.wait(10)
            assert stub.InitiateSettlement(pb.SettlementRequest(option_id=b"settled")).option_id == b"settled"
            assert not verdict.done()
        finally:
            go.set()
        assert verdict.result(10).valid


def test_a_proof_is_fetched_and_verified_by_running_it_again_and_a_forged_one_says_which_check_failed(
    engine, proof_file: bytes
) -> None:
    stub, _, _ = engine
    proof = stub.GetProof(pb.ProofRequest(option_id=b"settled"))
    assert proof == proof_message(proof_file)
    assert stub.VerifyProof(pb.ProofVerification(proof=proof)).valid
    other = pb.BitVMXProof(proof_file=proof_file, program_hash=bytes(32))
    assert "program_hash" in stub.VerifyProof(pb.ProofVerification(proof=other)).reason
    for name in ("input_commitment", "execution_trace_root", "final_state_hash"):
        one = pb.BitVMXProof(proof_file=proof_file, **{name: bytes(32)})
        verdict = stub.VerifyProof(pb.ProofVerification(proof=one))
        assert (verdict.valid, name in verdict.reason) == (False, True)
    elements = list(proof.path)
    for path in (elements[1:], elements[::-1], [*elements, elements[0]]):  # before: its siblings were not looked at
        verdict = stub.VerifyProof(pb.ProofVerification(proof=pb.BitVMXProof(proof_file=proof_file, path=path)))
        assert (verdict.valid, "path" in verdict.reason) == (False, True)
    more = pb.BitVMXProof.FromString(proof.SerializeToString() + b"\x8a\x01\x01x")  # field 17
    verdict = stub.VerifyProof(pb.ProofVerification(proof=more))
    assert (verdict.valid, "field 17 is unknown" in verdict.reason) == (False, True)
    assert stub.VerifyProof(pb.ProofVerification(proof=pb.BitVMXProof(proof_file=proof_file))).valid
    flipped = json.loads(proof_file)
    flipped["output"] = "01" + flipped["output"][2:]
    forged = json.dumps(flipped, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    for bad in (forged, b"", b"{}", proof_file[:-10]):
        verdict = stub.VerifyProof(pb.ProofVerification(proof=pb.BitVMXProof(proof_file=bad)))
        assert not verdict.valid
        assert verdict.reason
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetProof(pb.ProofRequest(option_id=b"waiting"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_settlement_is_asked_for_with_an_operators_key_alone_and_a_proof_is_read_without_one(engine, proof_file):
    keyed, submitted, store = engine
    revoked = key_of(store, OPERATE)
    revoke_key(store, revoked.split("_")[1], now=UnixSeconds(2))
    expired = key_of(store, OPERATE, expires_at=UnixSeconds(1_600_000_000))
    good = keyed.metadata[0][1].removeprefix("Bearer ")
    missing, lacking = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
    strangers = [
        (None, missing), ("Basic abc", missing), ("btcfi_x_y", missing), (good[:-1] + "g", missing),
        (good[:-64] + "0" * 64, missing), (revoked, missing), (expired, missing),
        (key_of(store, READ), lacking), (key_of(store, TRADE), lacking),
    ]  # fmt: skip
    for key, code in strangers:
        with pytest.raises(grpc.RpcError) as caught:
            Keyed(keyed.stub, key).InitiateSettlement(pb.SettlementRequest(option_id=b"waiting"))
        assert caught.value.code() is code, key
    with store.reading() as session:
        assert session.get(SettlementRequestRow, "waiting") is None
    assert submitted == []
    anybody = Keyed(keyed.stub, None)
    proof = anybody.GetProof(pb.ProofRequest(option_id=b"settled"))
    assert proof == proof_message(proof_file)
    assert anybody.VerifyProof(pb.ProofVerification(proof=proof)).valid
