"""``btcfi simulate``: a Friday's settlements in a simulated fee market and in a queue model. Nothing is asked or sent.

What decides about ours is what the tasks call: the schedule, the rule of fees, the size of a batch. All else is a
formula, named so in every answer: ``"simulated": true``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Annotated, Any, Final, Optional

import typer

from btcfi.adapters.files import read_untrusted_text
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.bitcoin.next_blocks import BLOCK_VSIZE
from btcfi.contracts.batch import MAX_CONTRACTS, vsize_for
from btcfi.contracts.schedule import SETTLEMENT_VSIZE, SHARE, Due
from btcfi.contracts.simulated_market import Others, Run, simulate
from btcfi.documents import parse_json
from btcfi.errors import InvalidInputError
from btcfi.units import Height, Sats
from settings.preset import load_preset
from tasks.context import fee_rule
from workers.queue_model import MOST_OPTIONS, Stage, blocks, compare, drain, stages_of

app = typer.Typer(
    name="simulate", help="A Friday's settlements in a simulated fee market and a queue model.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

TIP: Final = Height(900_000)
"""Any height: only differences count."""

ALIKE: Final = 2_000
"""Transactions that a simulation follows one by one; of more, several go together."""

MOST_PARTIES: Final = 2_000
MOST_FILE: Final = 4 << 20
MOST_REFUND_BLOCKS: Final = 65_535
TENTH: Final = Sats(100_000)
"""Value of a settlement: of one deadline only its order follows from it, and here all are alike."""

MEASURED: Final = (
    Stage(name="expire and attest", processes=1, seconds_each=0.000498),
    Stage(name="queue and relay", processes=1, seconds_each=0.00025),
    Stage(name="run and prove", processes=2, seconds_each=0.001),
    Stage(name="build and send", processes=1, seconds_each=0.00261),
)
"""The first and the last: docs/performance.md, ``pipeline.stage_…_ms``; the others: 20,000 options proven at once,
tests/vectors/scale/two_processes_20000.json."""

Options = Annotated[int, typer.Option("--options", help="That expire together.")]
Parties = Annotated[int, typer.Option("--parties", help="Between whom they are, each pair alike.")]
Rate = Annotated[float, typer.Option("--rate", help="What others pay today, sat/vB, the median.")]
Load = Annotated[float, typer.Option("--load", help="What others send in 600 s, as a part of a block.")]
RefundBlocks = Annotated[int, typer.Option("--refund-blocks", help="From the expiry to the refund height.")]
Seed = Annotated[int, typer.Option("--seed", help="Equal seeds give equal runs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command()
def friday(
    *, options: Options = 20_000, parties: Parties = 50, rate: Rate = 2.0, load: Load = 0.9,
    times: Annotated[
        Optional[list[float]],  # noqa: UP045 - typer reads it at run time
        typer.Option("--times", help="Today's rate times this; may be given again. Default: 1 and 10."),
    ] = None,
    online: Annotated[float, typer.Option("--online", help="Part of the parties that close in batches.")] = 0.0,
    refund_blocks: RefundBlocks = 1_008, seed: Seed = 1, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Simulate the payment of one Friday's options: transactions, blocks, fees, and what is left to each deadline.

    Contracts between two parties that are online close in batches of at most 128; all others by CET and child.
    """
    rule = _rule()
    due, counts = _due_of(options, parties=parties, online=online, refund_blocks=refund_blocks)
    rows = []
    for factor in times or [1.0, 10.0]:
        others = Others(rate=_per_kvb(rate * factor), load=load)
        with _progress(f"simulated, {factor:g} times today's rate") as said:
            run = simulate(due, others, rule, Random(seed), tip=TIP, said=said)
        rows.append({"times": factor, "others_sat_per_vb": rate * factor, **_said_of(run, counts)})
    answer = {
        "simulated": True, "what": "others' demand; ours by the schedule and the fee rule of the tasks",
        "parties": parties, "online": online, "load": load, "refund_blocks": refund_blocks, "seed": seed, **counts,
        "runs": rows,
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(answer))
        return
    typer.echo(
        f"SIMULATED fee market: {counts['options']:,} options between {parties} parties, {counts['batches']:,} batches "
        f"and {counts['alone']:,} alone, {counts['vbytes']:,} vB: {counts['vbytes'] / BLOCK_VSIZE:.2f} whole blocks"
    )
    _table(rows)


@app.command()
def fees(
    *, options: Options = 20_000, rate: Rate = 2.0, load: Load = 0.9, refund_blocks: RefundBlocks = 1_008,
    seed: Seed = 1, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Simulate what the share of a block costs: a quarter, a half, all of it, and everything sent at once.

    Each settlement is a CET and its child.
    """
    due, counts = _due_of(options, parties=2, online=0.0, refund_blocks=refund_blocks)
    others, rows = Others(rate=_per_kvb(rate), load=load), []
    for name, share, at_once in (
        ("a quarter", SHARE // 2, False), ("a half", SHARE, False), ("all of it", BLOCK_VSIZE, False),
        ("sent at once", SHARE, True),
    ):  # fmt: skip
        with _progress(f"simulated, {name}") as said:
            run = simulate(
                due, others, _rule(), Random(seed), tip=TIP, share=share, all_at_once=at_once, said=said
            )  # fmt: skip
        rows.append({"share": name, **_said_of(run, counts)})
    answer = {
        "simulated": True, "what": "others' demand; ours by the schedule and the fee rule of the tasks", "load": load,
        "others_sat_per_vb": rate, "refund_blocks": refund_blocks, "seed": seed, **counts, "runs": rows,
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(answer))
        return
    typer.echo(f"SIMULATED fee market: {counts['options']:,} settlements by CET and child, others at {rate:g} sat/vB")
    _table(rows)


@app.command()
def queue(
    *, options: Options = 20_000,
    cores: Annotated[float, typer.Option("--cores", help="Free for us.")] = 2.0,
    stage: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads it at run time
        typer.Option("--stage", help="name:processes:milliseconds each; may be given again. Default: as measured."),
    ] = None,
    measured: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option("--measured", help="A file that tests.benchmarks.friday printed: its stages."),
    ] = None,
    against: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option("--against", help="Another: is predicted from --measured, and the error said."),
    ] = None,
    with_blocks: Annotated[bool, typer.Option("--blocks/--no-blocks", help="The chain as the last stage.")] = True,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Simulate the stages of a burst: how busy each is, the first bottleneck, and when the last option is through.

    With --against the model is held against a measured run, and the answer has its error.
    """
    if not 1 <= options <= MOST_OPTIONS:
        raise InvalidInputError("options", str(options), f"1 to {MOST_OPTIONS}")
    if against is not None and measured is None:
        raise InvalidInputError("against", "without --measured", "a run to take the stages from")
    run = None if measured is None else _run_of(measured)
    stages = [_stage_of(one) for one in stage or ()] or list(MEASURED if run is None else stages_of(run))
    found = drain([*stages, blocks()] if with_blocks else stages, options, cores=cores)
    answer: dict[str, Any] = {
        "simulated": True, "what": "a queue model, fed by stage times", "options": options, "cores": cores,
        **asdict(found), "options_per_s": round(options / found.seconds, 2),
    }  # fmt: skip
    if run is not None and against is not None:
        held = compare(run, _run_of(against))
        answer["against"] = asdict(held) | {"error": held.error}
    if as_json:
        typer.echo(json.dumps(answer))
        return
    typer.echo(f"SIMULATED queue: {options:,} options due at once, {cores:g} cores")
    for one in found.stages:
        typer.echo(
            f"  {one.name:20} {one.rate:10,.1f}/s  last after {_long(one.last_s):>10}  {one.utilisation:4.0%} busy"
        )
    typer.echo(f"  {'cores':20} {'':12}  {'':21}  {found.cores_utilisation:4.0%} busy")
    typer.echo(f"first bottleneck: {found.bottleneck}; all through after {_long(found.seconds)}")
    if "against" in answer:
        held = answer["against"]
        typer.echo(
            f"against a measured run: predicted {held['predicted_s']:.1f} s, measured {held['measured_s']:.1f} s, "
            f"error {held['error']:+.0%}"
        )


def _rule() -> FeeRule:
    """Return what the tasks pay by, of the standard preset."""
    return fee_rule(load_preset("standard"))


# ---- what is due


def _due_of(options: int, *, parties: int, online: float, refund_blocks: int) -> tuple[list[Due], dict[str, Any]]:
    """Return what is to be sent, several alike together where it is much, and how much it is."""
    if not 1 <= options <= MOST_OPTIONS:
        raise InvalidInputError("options", str(options), f"1 to {MOST_OPTIONS}")
    if not 2 <= parties <= MOST_PARTIES:  # noqa: PLR2004 - a contract has two sides
        raise InvalidInputError("parties", str(parties), f"2 to {MOST_PARTIES}")
    if not 0.0 <= online <= 1.0:
        raise InvalidInputError("online", str(online), "0 to 1")
    if not 1 <= refund_blocks <= MOST_REFUND_BLOCKS:
        raise InvalidInputError("refund blocks", str(refund_blocks), f"1 to {MOST_REFUND_BLOCKS}")
    deadline = Height(TIP + refund_blocks)
    sizes, alone = _transactions(options, parties=parties, there=round(parties * online))
    together = min(max(1, -(-alone // ALIKE)), SHARE // SETTLEMENT_VSIZE)
    due = [
        Due(name=f"batch-{number:06}", vsize=size, deadline=deadline, value=TENTH) for number, size in enumerate(sizes)
    ]
    for start in range(0, alone, together):
        size = SETTLEMENT_VSIZE * min(together, alone - start)
        due.append(Due(name=f"cet-{start:08}", vsize=size, deadline=deadline, value=TENTH))
    return due, {
        "options": options, "batches": len(sizes), "alone": alone, "vbytes": sum(one.vsize for one in due),
        "vb_each": round(sum(one.vsize for one in due) / options, 1), "followed_together": together,
    }  # fmt: skip


def _transactions(options: int, *, parties: int, there: int) -> tuple[list[int], int]:
    """Return the sizes of the batches, and how many options end by their own CETs.

    Options are spread over all pairs alike. A batch takes pairs one after the other, the first party's first, so that
    it has few owners.
    """
    pairs = parties * (parties - 1) // 2
    each, more = divmod(options, pairs)
    sizes, batched, contracts, owners = [], 0, 0, set[int]()
    for number, pair in enumerate(combinations(range(parties), 2)):
        left = (each + (number < more)) if max(pair) < there else 0
        batched += left
        while left:
            taken = min(left, MAX_CONTRACTS - contracts)
            contracts, left = contracts + taken, left - taken
            owners |= set(pair)
            if contracts == MAX_CONTRACTS:
                sizes.append(vsize_for(contracts, len(owners)))
                contracts, owners = 0, set()
    if contracts:
        sizes.append(vsize_for(contracts, len(owners)))
    return sizes, options - batched


# ---- words


def _said_of(run: Run, counts: dict[str, Any]) -> dict[str, Any]:
    return {
        "blocks": run.blocks, "missed": len(run.missed), "least_spare_blocks": run.least_spare,
        "fees_sats": int(run.fees), "fee_sats_each": round(run.fees / counts["options"], 1),
        "mean_sat_per_vb": run.mean_rate / 1_000, "highest_sat_per_vb": run.highest_rate / 1_000, "bumps": run.bumps,
        "peak_in_flight_vb": run.peak_in_flight, "others_highest_estimate_sat_per_vb": run.others_rate / 1_000,
    }  # fmt: skip


def _table(rows: Sequence[dict[str, Any]]) -> None:
    first = "times" if "times" in rows[0] else "share"
    head = (first, "blocks", "missed", "spare", "sats each", "mean sat/vB", "highest", "bumps", "in flight, vB")
    typer.echo("  ".join(f"{one:>13}" for one in head))
    for row in rows:
        cells = (
            f"{row[first]:g}" if first == "times" else row[first], row["blocks"], row["missed"],
            row["least_spare_blocks"], f"{row['fee_sats_each']:,.0f}", f"{row['mean_sat_per_vb']:.1f}",
            f"{row['highest_sat_per_vb']:.1f}", f"{row['bumps']:,}", f"{row['peak_in_flight_vb']:,}",
        )  # fmt: skip
        typer.echo("  ".join(f"{one!s:>13}" for one in cells))


def _per_kvb(rate: float) -> SatsPerKvb:
    try:
        return SatsPerKvb(round(rate * 1_000))
    except (ValueError, OverflowError) as e:
        raise InvalidInputError("rate", str(rate), "sat/vB") from e


def _stage_of(text: str) -> Stage:
    parts = text.split(":")
    try:
        name, processes, each = parts[0], int(parts[1]), float(parts[2])
    except (IndexError, ValueError) as e:
        raise InvalidInputError("stage", repr(text[:60]), "name:processes:milliseconds, prove:2:2.4") from e
    return Stage(name=name[:40], processes=processes, seconds_each=each / 1_000)


def _run_of(path: Path) -> dict[str, Any]:
    found = parse_json(
        read_untrusted_text(path, at_most=MOST_FILE, what="measured run", named=True), "measured run", fraction=float
    )
    if not isinstance(found, dict):
        raise InvalidInputError("measured run", str(path)[-60:], "an object that tests.benchmarks.friday printed")
    return found


def _long(seconds: float) -> str:
    """Return seconds as people say them."""
    minute, hour, day = 60.0, 3_600.0, 86_400.0
    for unit, word in ((day, "days"), (hour, "h"), (minute, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {word}"
    return f"{seconds:.1f} s"


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give what draws how far it is, on a terminal alone."""
    if not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    from rich.console import Console  # noqa: PLC0415 - most runs draw nothing
    from rich.progress import Progress  # noqa: PLC0415 - as above

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
