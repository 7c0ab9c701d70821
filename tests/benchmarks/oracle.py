"""The oracle network's figures: signed submissions over gRPC into a database, and the consensus alone.

The aggregator is a process of its own, held to one core; submissions are signed before the clock starts, each is
verified, stored and acknowledged. Published figures: 1,000 updates/s, 25 ms p99 of an aggregation.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from btcfi.hashes import sha256
from btcfi.oracle.batch import agreed_minutes
from btcfi.oracle.consensus import ConsensusRule, agreed_price
from btcfi.oracle.quote import (
    BTC_USD,
    LegQuote,
    Quote,
    Rate,
    VenueId,
    encode_observation,
    parse_venue,
)
from btcfi.oracle.submission import Submission, sign_submission
from btcfi.oracle.time_sync import Milliseconds
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces.grpc.messages import write_submission
from btcfi.surfaces.protos import oracle_pb2 as pb
from btcfi.surfaces.protos import oracle_pb2_grpc
from btcfi.units import CentsPerBtc, Sats, Slot, UnixSeconds, slot_of
from tests.benchmarks import Row

NODES, SLOTS = 250, 24
RATE_PER_S, SECONDS = 300, 5
CONCURRENT = 48


def rows() -> list[Row]:
    """Return grpc.submissions_per_s, grpc.p99_ms, consensus.quotes_per_s and consensus.agreed_quotes_per_s."""
    with tempfile.TemporaryDirectory() as folder:
        per_second, p99 = _grpc(Path(folder))
    return [
        Row(name="grpc.submissions_per_s", value=round(per_second), unit="1/s", against="published 1,000/s",
            ratio=round(per_second / 1000, 2)),
        Row(name="grpc.p99_ms", value=round(p99, 2), unit="ms", against="published 25 ms", ratio=round(25 / p99, 2)),
        *consensus_rows(),
    ]  # fmt: skip


def _quote(venue: VenueId, at: Slot, close: int) -> Quote:
    price = CentsPerBtc(close)
    return Quote(
        venue=venue, slot=at, open=price, high=price, low=price, close=price, volume=Sats(10**8),
        observed_at=UnixSeconds(at + 62), evidence=sha256(f"{venue}{at}".encode()),
    )  # fmt: skip


def consensus_rows(rounds: int = 2000, repeats: int = 5) -> list[Row]:
    """Return the median rates of quotes turned into prices, from their stored text and from their records.

    Three venues and a leg each round.
    """
    venues = [parse_venue(t) for t in ("binance:BTC/USDT", "coinbaseexchange:BTC/USD", "kraken:BTC/USD")]
    leg = parse_venue("kraken:USDT/USD")
    rule, registered, legs = ConsensusRule(), frozenset(venues), frozenset({leg})
    stored: list[tuple[Slot, Sequence[Quote | LegQuote]]] = []
    for k in range(rounds):
        at = Slot(1_700_000_040 + 60 * k)
        par = Rate(99_960_000)
        rate = LegQuote(
            venue=leg, slot=at, open=par, high=par, low=par, rate=par, volume=10**13, observed_at=UnixSeconds(at + 62),
            evidence=sha256(b"leg"),
        )  # fmt: skip
        stored.append((at, [*(_quote(v, at, 60_000_00 + 37 * k + i) for i, v in enumerate(venues)), rate]))
    texts = [(at, [json.dumps(encode_observation(one)) for one in said]) for at, said in stored]
    from_text, from_records = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        agreed_minutes(texts, registered=registered, legs=legs, rule=rule)
        from_text.append(4 * rounds / (time.perf_counter() - started))
        started = time.perf_counter()
        for at, records in stored:
            agreed_price(records, registered=registered, legs=legs, rule=rule, slot=at)
        from_records.append(4 * rounds / (time.perf_counter() - started))
    stored_rate, agreed_rate = statistics.median(from_text), statistics.median(from_records)
    return [
        Row(name="consensus.quotes_per_s", value=round(stored_rate), unit="1/s, from their stored JSON",
            against="target 400,000/s", ratio=round(stored_rate / 400_000, 2)),
        Row(name="consensus.agreed_quotes_per_s", value=round(agreed_rate), unit="1/s, from records in memory"),
    ]  # fmt: skip


def _grpc(folder: Path) -> tuple[float, float]:
    secrets = {f"node-{i}": sha256(f"bench {i}".encode()) for i in range(NODES)}
    lines = [f'feed = "{BTC_USD}"', "[policy]", "open_seconds = 3000"]
    for i, (name, secret) in enumerate(secrets.items()):
        lines += [f"[nodes.{name}]", f'venue = "x{i}:BTC/USD"', f'public_key = "{public_key_xonly(secret).hex()}"']
    (folder / "network.toml").write_text("\n".join(lines) + "\n")
    messages = _messages(secrets)
    port_file = folder / "port"
    cores = sorted(os.sched_getaffinity(0))
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                sys.executable, "-m", "btcfi.surfaces.oracle_cli", "aggregator", "--port", "0", "--port-file",
                str(port_file), "--config", str(folder / "network.toml"), "--database", f"sqlite:///{folder}/db.sqlite",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
        os.sched_setaffinity(server.pid, cores[-1:])
    try:
        until = time.monotonic() + 30
        while not port_file.exists():
            if time.monotonic() > until or server.poll() is not None:
                raise RuntimeError((folder / "log").read_text())
            time.sleep(0.05)
        return asyncio.run(_measure(int(port_file.read_text()), messages))
    finally:
        server.terminate()
        server.wait(15)


def _messages(secrets: dict[str, bytes]) -> list[pb.PriceSubmission]:
    now = time.time()
    newest = slot_of(UnixSeconds(int(now))) - 60
    result = []
    for k in range(SLOTS):
        at = Slot(newest - 60 * k)
        for i, (name, secret) in enumerate(secrets.items()):
            said = Submission(
                feed=BTC_USD, node_id=name, observation=_quote(parse_venue(f"x{i}:BTC/USD"), at, 60_000_00 + i),
                sent_at_ms=Milliseconds(int(now * 1000)), time_proof=None,
            )  # fmt: skip
            result.append(write_submission(sign_submission(said, secret, aux=bytes(32))))
    return result


async def _measure(port: int, messages: list[pb.PriceSubmission]) -> tuple[float, float]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = oracle_pb2_grpc.OracleAggregatorStub(channel)
        warm, timed = messages[:100], messages[100 : 100 + RATE_PER_S * SECONDS]
        rest = messages[100 + RATE_PER_S * SECONDS :]
        for message in warm:
            await stub.SubmitPrice(message)
        p99 = await _at_a_rate(stub, timed)
        thirds = [rest[i::3] for i in range(3)]
        return statistics.median([await _as_fast_as_possible(stub, part) for part in thirds]), p99


async def _at_a_rate(stub: Any, messages: list[pb.PriceSubmission]) -> float:
    """Return the 99th percentile in ms from the moment a submission is due (not sent) to its acknowledgement."""
    took: list[float] = []
    started = time.perf_counter() + 0.05

    async def one(message: pb.PriceSubmission, due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await stub.SubmitPrice(message)
        took.append((time.perf_counter() - due) * 1000)

    await asyncio.gather(*(one(m, started + i / RATE_PER_S) for i, m in enumerate(messages)))
    return statistics.quantiles(took, n=100)[98]


async def _as_fast_as_possible(stub: Any, messages: list[pb.PriceSubmission]) -> float:
    waiting = iter(messages)

    async def worker() -> None:
        for message in waiting:
            await stub.SubmitPrice(message)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(CONCURRENT)))
    return len(messages) / (time.perf_counter() - started)
