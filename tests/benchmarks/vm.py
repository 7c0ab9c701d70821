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
from dataclasses import dataclass
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
from tests.benchmarks import PICTURES, Row, row_of, seconds_of
from tests.support.paths import ROOT
from tests.support.vm_programs import counting_program

VECTORS = json.loads((ROOT / "tests" / "vectors" / "settlement_v2.json").read_text())["tests"]
PNG = PICTURES / "trace_cost.png"


def rows() -> list[Row]:
    """All rows of this area, in about 30 s."""
    return [*settlement_rows(), *trace_rows(), *hash_rows(), *long_trace_rows(), verify_row()]


def settlement_rows() -> list[Row]:
    program = load_program("vanilla_option")
    full = load_program("option_settlement")
    data = bytes.fromhex(VECTORS[0]["input"])
    steps = run(program, data).steps
    single = seconds_of(lambda: build_proof(run(program, data)), 101)
    batch = [data] * 256
    together = seconds_of(lambda: proof_roots_of_batch(run(program, one) for one in batch), 11)
    nine_hundred = counting_program(900)
    whole = seconds_of(lambda: build_proof(run(nine_hundred, b"")), 51)
    many = seconds_of(lambda: run_many(full, batch * 8), 11)
    return [
        row_of("settle.single_us", [one * 1e6 for one in single], unit="us", at_most=500,
               against=f"at most 500 us; run, trace, root, proof; {steps} steps"),
        row_of("settle.batch256_us", [one / 256 * 1e6 for one in together], unit="us", at_most=100,
               against="at most 100 us; run, trace, root, each of 256"),
        row_of("settle.900_steps_ms", [one * 1e3 for one in whole], unit="ms", at_most=4789,
               against="whitepaper: 89 ms + 4,700 ms for 907 steps; wanted at most 2 ms"),
        row_of("settle.untraced_us", [one / 2048 * 1e6 for one in many], unit="us", at_most=15,
               against="at most 15 us; run_many"),
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
    rates = [steps.steps / one for one in seconds_of(traced, 7)]
    hooks = [python_hook_rate() for _ in range(5)]
    hook = median(hooks)
    return [
        row_of("trace.steps_per_s", rates, unit="steps/s", at_least=25e6, against="at least 25 M steps/s"),
        row_of("trace.vs_python_hook", [median(rates) / one for one in hooks], unit="times", at_least=1,
               against=f"Unicorn, Python hook reading 32 registers: {hook:,.0f} steps/s; wanted at least 1,000 times"),
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
    rates = [len(table) / one for one in seconds_of(lambda: hash_leaves(table), 21)]
    rows_ = [row_of("hash.leaves_per_s", rates, unit="leaves/s", against=f"by {hashing_in_use()}, one core")]
    openssl = [rate for rate in (openssl_rate(150) for _ in range(3)) if rate]
    if openssl:
        theirs = f"openssl speed sha256, messages of 150 bytes: {median(openssl):,.0f}/s; wanted at least 0.8"
        ratios = [median(rates) / one for one in openssl]
        rows_.append(row_of("hash.vs_openssl", ratios, unit="times", at_least=1, against=theirs))
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
import sys, time
from pathlib import Path
from btcfi.proofs.subtrees import prove
from tests.support.vm_programs import counting_program
prove(counting_program(1000), b"")
program = counting_program(int(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    started = time.perf_counter()
    proof = prove(program, b"", max_steps=1 << 25)
    print(proof.steps, time.perf_counter() - started)
# not ru_maxrss: across exec it keeps what the parent used
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(int(peak.split()[1]) / 1024)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongTrace:
    """Proofs of one long run, made in a process of its own."""

    steps: int
    seconds: list[float]
    peak_mb: float


def long_trace(steps: int, repeats: int) -> LongTrace:
    command = [sys.executable, "-c", _CHILD, str(steps), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    *timed, peak = done.stdout.splitlines()
    pairs = [line.split() for line in timed]
    return LongTrace(steps=int(pairs[0][0]), seconds=[float(pair[1]) for pair in pairs], peak_mb=float(peak))


def long_trace_rows() -> list[Row]:
    points = [long_trace(10**power, repeats) for power, repeats in ((3, 9), (4, 9), (5, 9), (6, 7), (7, 3))]
    plot(points)
    million, ten_million = points[3:]
    ten_times = 10 * median(million.seconds)
    return [
        row_of("trace.1e6_s", million.seconds, unit="s", at_most=3, against="at most 3 s; run, tree and proof"),
        row_of("trace.1e6_rss_mb", [million.peak_mb], unit="MB", at_most=700, against="at most 700 MB, whole process"),
        row_of("trace.1e7_rss_mb", [ten_million.peak_mb], unit="MB", at_most=700,
               against="at most 700 MB, whole process"),
        row_of("trace.1e7_s", ten_million.seconds, unit="s", at_most=ten_times,
               against=f"10 times trace.1e6_s = {ten_times:.3g} s"),
    ]  # fmt: skip


def plot(points: list[LongTrace]) -> None:
    """Cost against steps, on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    PNG.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    xs = [point.steps for point in points]
    middle = [median(point.seconds) for point in points]
    spread = [
        [value - min(point.seconds) for value, point in zip(middle, points, strict=True)],
        [max(point.seconds) - value for value, point in zip(middle, points, strict=True)],
    ]
    axes.set(xscale="log", yscale="log")
    axes.errorbar(xs, middle, yerr=spread, fmt="o-", capsize=3, label="run, tree and proof: median, least, most")
    axes.plot(xs, [middle[-1] * x / xs[-1] for x in xs], "--", color="grey", label="in proportion to 10^7 steps")
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
        took = seconds_of(lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT), 5)
    return row_of("verify.cli_s", took, unit="s", at_most=2, against="at most 2 s, whole process, compiled before")


if __name__ == "__main__":
    for row in rows():
        print(f"{row.name:24} {row.value:14.3f} {row.unit:10} {row.ratio or 0:8.2f}  {row.against or ''}")
    print(f"cost plot: {PNG.relative_to(ROOT)}; {os.cpu_count()} CPUs")  # fmt: skip
