# ruff: noqa: PLC0415 - a rival is imported only where it is measured
"""The machine, the tree and the proofs: medians of one run, ratios against a rival measured in the same run.

A single settlement is a call in the money by vanilla_option (490 steps, two and a half times the 200 of the target);
``settle.900_steps_ms`` runs a program of 900 steps, the length that the whitepaper reports (89 ms + 4.7 s).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from btcfi.proofs.lanes import hash_leaves, hashing_in_use
from btcfi.proofs.settlement_proof import build_proof, to_json
from btcfi.proofs.subtrees import proof_roots_of_batch, prove
from btcfi.vm.interpreter import Machine, run, run_many
from btcfi.vm.program import load_program
from btcfi.vm.trace import ROW_WORDS
from tests.benchmarks import Row
from tests.support.vm_programs import counting_program

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "tests" / "vectors" / "settlement_v1.json").read_text())["tests"]
PNG = ROOT / "var" / "benchmarks" / "trace_cost.png"


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The median time of ``work``, after one run to warm up."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return median(times)


def rows() -> list[Row]:
    """All rows of this area, in about 30 s."""
    return [*settlement_rows(), *trace_rows(), *hash_rows(), *long_trace_rows(), verify_row()]


def settlement_rows() -> list[Row]:
    program = load_program("vanilla_option")
    full = load_program("option_settlement")
    data = bytes.fromhex(VECTORS[0]["input"])
    steps = run(program, data).steps
    single = seconds(lambda: build_proof(run(program, data)), 101) * 1e6
    batch = [data] * 256
    together = seconds(lambda: proof_roots_of_batch([run(program, one) for one in batch]), 7) / 256 * 1e6
    nine_hundred = counting_program(900)
    whole = seconds(lambda: build_proof(run(nine_hundred, b"")), 51) * 1e3
    many = seconds(lambda: run_many(full, batch * 8), 5) / 2048 * 1e6
    return [
        Row(name="settle.single_us", value=single, unit="us", against=f"500 us wanted; {steps} steps",
            ratio=500 / single),
        Row(name="settle.batch256_us", value=together, unit="us", against="250 us wanted; run + root, each of 256",
            ratio=250 / together),
        Row(name="settle.900_steps_ms", value=whole, unit="ms", against="whitepaper: 89 ms + 4,700 ms for 907 steps",
            ratio=4789 / whole),
        Row(name="settle.untraced_us", value=many, unit="us", against="15 us wanted; run_many", ratio=15 / many),
    ]  # fmt: skip


def trace_rows() -> list[Row]:
    program = counting_program(2_000_000)
    block = np.zeros((1 << 16, ROW_WORDS), dtype=np.uint32)

    def traced() -> None:
        machine = Machine(program, b"")
        while not machine.stopped:
            machine.advance(len(block), block)

    steps = Machine(program, b"")
    steps.advance(1 << 30)
    rate = steps.steps / seconds(traced, 3)
    hook = python_hook_rate()
    return [
        Row(name="trace.steps_per_s", value=rate, unit="steps/s", against="25 M steps/s wanted", ratio=rate / 25e6),
        Row(name="trace.vs_python_hook", value=rate / hook, unit="times",
            against=f"Unicorn, Python hook reading 32 registers: {hook:.0f} steps/s", ratio=rate / hook),
    ]  # fmt: skip


def python_hook_rate() -> float:
    """Steps a second of the usual way to trace: a per-instruction Python hook that reads every register."""
    from unicorn import UC_ARCH_RISCV, UC_HOOK_CODE, UC_MODE_RISCV32, Uc
    from unicorn.riscv_const import UC_RISCV_REG_X0

    program = counting_program(10_000)
    trace: list[Any] = []

    def hook(machine: Any, address: int, _size: int, _data: Any) -> None:
        trace.append((address, [machine.reg_read(UC_RISCV_REG_X0 + n) for n in range(32)]))

    uc: Any = Uc(UC_ARCH_RISCV, UC_MODE_RISCV32)
    for region in program.regions:
        uc.mem_map(region.base, region.size)
        uc.mem_write(region.base, region.data)
    uc.hook_add(UC_HOOK_CODE, hook)
    started = time.perf_counter()
    uc.emu_start(program.elf.entry, program.elf.code.end - 4)
    return len(trace) / (time.perf_counter() - started)


def hash_rows() -> list[Row]:
    table = np.random.default_rng(1).integers(0, 2**32, (100_000, ROW_WORDS), dtype=np.uint32)
    rate = len(table) / seconds(lambda: hash_leaves(table), 9)
    rows_ = [Row(name="hash.leaves_per_s", value=rate, unit="leaves/s", against=f"by {hashing_in_use()}, one core")]
    openssl = openssl_rate(150)
    if openssl:
        rows_.append(
            Row(name="hash.vs_openssl", value=rate / openssl, unit="times",
                against=f"openssl speed sha256, 150 bytes: {openssl:.0f}/s", ratio=rate / openssl)
        )  # fmt: skip
    return rows_


def openssl_rate(size: int) -> float:
    """Messages of ``size`` bytes a second by ``openssl speed``; 0 where it is not installed."""
    if shutil.which("openssl") is None:
        return 0.0
    done = subprocess.run(
        ["openssl", "speed", "-seconds", "1", "-bytes", str(size), "sha256"],
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stdout.strip().splitlines()[-1:]
    return float(last[0].split()[-1].rstrip("k")) * 1000 / size if last and last[0].startswith("sha256") else 0.0


_CHILD = """
import resource, sys, time
from btcfi.proofs.subtrees import prove
from tests.support.vm_programs import counting_program
prove(counting_program(1000), b"")
started = time.perf_counter()
proof = prove(counting_program(int(sys.argv[1])), b"", max_steps=1 << 25)
print(proof.steps, time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def long_trace(steps: int) -> tuple[int, float, float]:
    """Steps, seconds and peak megabytes of a proof in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(steps)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    done_steps, took, peak = done.stdout.split()
    return int(done_steps), float(took), int(peak) / 1024


def long_trace_rows() -> list[Row]:
    points = [long_trace(10**power) for power in (3, 4, 5, 6, 7)]
    plot(points)
    _, seconds_6, memory_6 = points[3]
    _, seconds_7, memory_7 = points[4]
    return [
        Row(
            name="trace.1e6_s",
            value=seconds_6,
            unit="s",
            against="3 s wanted; run, tree and proof",
            ratio=3 / seconds_6,
        ),
        Row(name="trace.1e6_rss_mb", value=memory_6, unit="MB", against="700 MB wanted", ratio=700 / memory_6),
        Row(name="trace.1e7_rss_mb", value=memory_7, unit="MB", against="700 MB wanted", ratio=700 / memory_7),
        Row(name="trace.1e7_s", value=seconds_7, unit="s", against="10 times 1e6", ratio=10 * seconds_6 / seconds_7),
    ]


def plot(points: list[tuple[int, float, float]]) -> None:
    """Cost against steps, on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    PNG.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    xs = [steps for steps, _, _ in points]
    axes.loglog(xs, [took for _, took, _ in points], "o-", label="run, tree and proof")
    axes.loglog(xs, [points[-1][1] * x / xs[-1] for x in xs], "--", color="grey", label="linear")
    axes.set_xlabel("steps")
    axes.set_ylabel("seconds, one core")
    axes.set_title("A proof costs in proportion to its steps")
    axes.legend()
    figure.savefig(PNG, dpi=120)
    plt.close(figure)


def verify_row() -> Row:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proof.json"
        path.write_text(to_json(prove(load_program("option_settlement"), bytes.fromhex(VECTORS[0]["input"]))))
        command = [sys.executable, "-m", "btcfi", "verify", str(path)]
        took = seconds(lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT), 3)
    return Row(name="verify.cli_s", value=took, unit="s", against="2 s wanted, whole process", ratio=2 / took)


if __name__ == "__main__":
    for row in rows():
        print(f"{row.name:24} {row.value:14.3f} {row.unit:10} {row.ratio or 0:8.2f}  {row.against or ''}")
    print(f"cost plot: {PNG.relative_to(ROOT)}; {os.cpu_count()} CPUs")  # fmt: skip
