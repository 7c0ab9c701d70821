"""Everything that is longer than CI allows, part after part: ``make night``, or ``python -m tests.night``.

Each part has a seed (load has nothing to choose) and is a process of its own. What has ended well is kept in
``var/night`` with its figures, under the commit and the seed: the same command continues where an earlier one stopped,
and runs again what failed. The figures are printed as ``make bench`` prints its own, one JSON object with ``rows``,
``failed``, ``machine`` and ``commit``; faults and soak also write their tables into docs/reliability.md, load its own
into docs/performance.md.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks import Row
from tests.benchmarks.__main__ import _machine
from tests.support.paths import ROOT
from tests.support.shown import shown

BEGIN = "<!-- night:begin: rewritten by `make night` -->"
END = "<!-- night:end -->"

FOLDER = ROOT / "var" / "night"

LAW_ROUNDS = 20
"""Seeds of the property tests: each is about what one CI run tries."""
PROGRAMS = 50
"""Times the random guest programs of a CI run: a million in all."""
FUZZ_SECONDS = 600
ATTACKS = 100_000
"""On the agreed price, for each number of registered dollar markets."""
INTERLEAVINGS, INTERLEAVING_ROUNDS = 2_000, 50
"""Of the model of two parties: each round is what CI tries, with its own seed; a night goes on after it."""
MODEL = "tests/property/adapters/party/test_party_interleavings.py"
WALK = "tests/integration/docs/test_docs_two_parties.py"
SHAPES = "tests/integration/payoffs/test_payoffs_shapes_on_chain.py"
GAMES = 1_000
"""Of disputed contracts, a template: CI plays 40 of three templates."""
DISPUTES = tuple(
    f"tests/integration/disputes/test_disputes_on_chain_{of}.py" for of in ("games", "oracles")
)  # fmt: skip
ROADS = "tests/integration/disputes/test_disputes_roads.py"
LEAVES = (
    *(f"tests/property/disputes/test_disputes_leaves_{of}.py" for of in ("proofs", "witnesses")),
    "tests/unit/disputes/test_disputes_policies.py",
)  # fmt: skip
WITNESSES = 200_000
"""Of a liar against leaves: CI tries 10,000."""
FLEET = "tests/integration/docs/test_docs_fleet.py"
TUTORIAL = "tests/integration/docs/test_docs_tutorial.py"
SWAP_WEEKS = "tests/integration/swaps/test_swaps_weeks.py"
PACKAGES = "tests/unit/disputes/test_disputes_watchtower.py"

Figures = Callable[[str], dict[str, tuple[float, str]]]
"""From what a part printed to its figures: a value and its unit by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One kind of work of the night."""

    name: str
    about: str
    minutes: int
    """About how long, on two cores."""
    command: tuple[str, ...]
    """``{seed}`` and ``{python}`` stand for themselves."""
    figures: Figures
    rounds: int = 1
    """Runs with the seeds seed, seed + 1, …; each is kept by itself, their figures are summed."""
    environment: Mapping[str, str] = field(default_factory=dict)
    lacks: Callable[[], str] = lambda: ""
    """What is missing here for this part; empty when nothing is."""


def chaos_figures(printed: str) -> dict[str, tuple[float, str]]:
    """Cases, and those that held every promise."""
    said = json.loads(printed)
    return {"cases": (said["cases"], "cases"), "held": (said["ok"], "cases")}


def attack_figures(printed: str) -> dict[str, tuple[float, str]]:
    """Attacks on the agreed price, what they moved, and how many went beyond the table of docs/oracle.md: none."""
    said = json.loads(printed)
    return {
        "attacks": (said["attacks"], "attacks"),
        "settled": (said["settled"], "prices"),
        "moved": (said["moved"], "prices"),
        "beyond": (said["beyond"], "attacks"),
    }


def soak_figures(printed: str) -> dict[str, tuple[float, str]]:
    """What was sold and what struck it."""
    said = json.loads(printed)
    return {
        "sold": (said["sold"], "options"),
        "faults": (said["struck"], "faults"),
        "drained_s": (said["drained_seconds"], "s"),
    }


def load_figures(printed: str) -> dict[str, tuple[float, str]]:
    """The rate of one minute's contracts, and what memory grows by."""
    said = json.loads(printed)
    return {
        "price_to_broadcast_per_s": (said["contracts"]["price_to_broadcast_per_s"], "1/s"),
        "due_to_broadcast_p95_s": (said["contracts"]["due_to_broadcast_p95_s"], "s"),
        "mb_per_1000": (said["memory"]["second_half_mb_per_1000"], "MB"),
    }


def friday_figures(printed: str) -> dict[str, tuple[float, str]]:
    """How soon one Friday is proven, and what memory grew by."""
    said = json.loads(printed)
    return {
        "proven": (said["proven"], "options"),
        "due_to_proven_s": (said["due_to_proven_s"], "s"),
        "mb_grown": (round(said["samples"][-1]["rss_mb"] - said["rss_mb_first"], 1), "MB"),
    }


def market_figures(printed: str) -> dict[str, tuple[float, str]]:
    """What owners apart traded, how soon, and what was broken: nothing."""
    said = json.loads(printed)
    wrong = sum(len(said[name]) for name in ("broken", "miscounted", "overheard", "trespasses")) + said["pending"]
    return {
        "funded": (said["funded"], "options"),
        "settled": (said["settled"], "options"),
        "takes_per_s": (said["takes_per_s"], "1/s"),
        "take_p95_s": (said["take_p95_s"], "s"),
        "broken": (wrong, "promises"),
    }


def pytest_figures(printed: str) -> dict[str, tuple[float, str]]:
    """What pytest counted. Raises IndexError when it says of no test that it passed."""
    counted = {word: re.findall(rf"\b(\d+) {word}\b.* in [\d.]+s", printed) for word in ("passed", "skipped")}
    return {
        "passed": (int(counted["passed"][-1]), "tests"),
        "skipped": (int((counted["skipped"] or ["0"])[-1]), "tests"),
    }


def shown_figures(printed: str) -> dict[str, tuple[float, str]]:
    """What pytest counted, and what its tests have shown."""
    return pytest_figures(printed) | shown(printed)


def fuzz_figures(printed: str) -> dict[str, tuple[float, str]]:
    """What libFuzzer ran."""
    return {"inputs": (float(re.findall(r"Done (\d+) runs", printed)[-1]), "inputs")}


def no_postgresql() -> str:
    """Say what a part on PostgreSQL lacks."""
    return "" if os.environ.get("BTCFI_TEST_DATABASE_URL") else "BTCFI_TEST_DATABASE_URL"


def no_atheris() -> str:
    """Say what fuzzing lacks."""
    return "" if importlib.util.find_spec("atheris") else "atheris (tests/fuzz/vm_decoders.py says which)"


def no_bitcoind() -> str:
    """Say what the parts on a real node lack."""
    return "" if "BTCFI_TEST_BITCOIND" in os.environ else "BTCFI_TEST_BITCOIND, the path of a bitcoind"


def no_servers() -> str:
    """Say what the fleet of the how-to lacks."""
    return no_bitcoind() or no_postgresql()


CHAOS = ("{python}", "-m", "workers.cli", "chaos", "--json", "--seed", "{seed}")
PYTEST = ("{python}", "-m", "pytest", "-p", "no:cacheprovider", "--timeout=7200")

PARTS: tuple[Part, ...] = (
    Part(
        name="programs", about=f"{PROGRAMS} times the random guest programs of CI, on every executor", minutes=45,
        command=(*PYTEST, "tests/property/vm"), figures=pytest_figures,
        environment={"BTCFI_TEST_PROGRAMS": str(PROGRAMS), "BTCFI_TEST_SEED": "{seed}"},
    ),
    Part(
        name="laws", about=f"every property test with {LAW_ROUNDS} seeds", minutes=30, rounds=LAW_ROUNDS,
        command=(*PYTEST, "--hypothesis-seed={seed}", "tests/property"), figures=pytest_figures,
        environment={"BTCFI_TEST_SEED": "{seed}", "BTCFI_MODEL_INTERLEAVINGS": "100"},
    ),
    Part(
        name="ranges", about="the ranges of a contract against a run of the guest at each of 262,144 prices", minutes=1,
        command=(*PYTEST, "-m", "slow", "tests/property/contracts/test_contracts_rounding.py"), figures=pytest_figures,
    ),
    Part(
        name="dispute-packages", about="10,000 changed set-ups and packages of disputes: each ends with a refusal",
        minutes=3, command=(*PYTEST, "-m", "slow", PACKAGES), figures=pytest_figures,
    ),
    Part(
        name="books", about="20,000 random net books and 630 shapes against their formula, 300 of them by the guest",
        minutes=12, command=(*PYTEST, "-rsP", "-m", "slow", "tests/property/payoffs"),
        figures=shown_figures, environment={"BTCFI_TEST_SEED": "{seed}"},
    ),
    Part(
        name="leaves", about=f"a proof of every leaf of every range, {WITNESSES:,} witnesses, what disputes cost",
        minutes=8, command=(*PYTEST, "-m", "slow or not slow", *LEAVES), figures=pytest_figures,
        environment={"BTCFI_TEST_WITNESSES": str(WITNESSES), "BTCFI_TEST_SEED": "{seed}"},
    ),
    Part(
        name="shapes", about="every named shape on both nodes: settled at five prices, closed, rolled, refunded",
        minutes=2, command=(*PYTEST, "-n", "0", "-rsP", "-m", "slow or not slow", SHAPES), figures=shown_figures,
        lacks=no_bitcoind,
    ),
    Part(
        name="disputes", about=f"{GAMES:,} games of each disputed contract, means and knock-outs of 30 among them",
        minutes=60, command=(*PYTEST, "-n", "0", "-rsP", "-m", "slow or not slow", *DISPUTES), figures=shown_figures,
        environment={"BTCFI_TEST_GAMES": str(GAMES), "BTCFI_TEST_SEED": "{seed}"},
    ),
    Part(
        name="prices", about=f"{ATTACKS:,} random attacks on the agreed price for each size up to 9", minutes=20,
        command=("{python}", "-m", "tests.support.price_attacks", "--attacks", str(ATTACKS), "--seed", "{seed}"),
        figures=attack_figures,
    ),
    Part(
        name="interleavings",
        about=f"{INTERLEAVINGS * INTERLEAVING_ROUNDS:,} interleavings of two parties against everybody", minutes=150,
        rounds=INTERLEAVING_ROUNDS, command=(*PYTEST, "-n", "2", MODEL), figures=pytest_figures,
        environment={"BTCFI_MODEL_INTERLEAVINGS": str(INTERLEAVINGS), "BTCFI_TEST_SEED": "{seed}"},
    ),
    Part(
        name="dispute-messages", about="100,000 mutations of each message and witness of a disputed contract",
        minutes=15,
        command=(*PYTEST, "-n", "0", "-rsP", "-m", "slow", "tests/property/disputes/test_disputes_holes_messages.py"),
        figures=shown_figures, environment={"BTCFI_TEST_SEED": "{seed}"},
    ),
    Part(
        name="swap-weeks", about="half a year of 40 providers' and 2,000 takers' swaps, with deaths, then silence",
        minutes=10, command=(*PYTEST, "-n", "0", "-rsP", "-m", "slow", SWAP_WEEKS), figures=shown_figures,
        environment={"BTCFI_TEST_SEED": "{seed}"},
    ),
    Part(
        name="walk", about="the walk by hand of docs/contract.md on a real bitcoind", minutes=6,
        command=(*PYTEST, WALK), figures=pytest_figures, environment={"BTCFI_TEST_WALK_ON_BITCOIND": "1"},
        lacks=no_bitcoind,
    ),
    Part(
        name="batches", about="contracts that end together, with all that goes wrong, on a real bitcoind", minutes=4,
        command=(*PYTEST, "-n", "0", "-m", "slow", "tests/integration/tasks/test_tasks_batches.py"),
        figures=pytest_figures, lacks=no_bitcoind,
    ),
    Part(
        name="dispute-roads", about="a disputed mean of thirty minutes between two folders, every road", minutes=6,
        command=(*PYTEST, "-n", "0", "-m", "slow", ROADS), figures=pytest_figures,
    ),
    Part(
        name="fleet", about="docs/how-to/run-a-fleet.md as printed, to a settled option", minutes=4,
        command=(*PYTEST, "-n", "0", "-m", "slow", FLEET), figures=pytest_figures, lacks=no_servers,
    ),
    Part(
        name="tutorial", about="docs/tutorial/first-option.md as printed, from the browser to a verified settlement",
        minutes=5, command=(*PYTEST, "-n", "0", "-m", "slow", TUTORIAL), figures=pytest_figures,
    ),
    *(
        Part(
            name=f"fuzz-{target}", about=f"coverage-guided fuzzing of the decoders, target {target}",
            minutes=FUZZ_SECONDS // 60, command=("{python}", "tests/fuzz/vm_decoders.py", target, str(FUZZ_SECONDS)),
            figures=fuzz_figures, environment={"BTCFI_TEST_SEED": "{seed}"}, lacks=no_atheris,
        )
        for target in ("elf", "json", "wire", "fields")
    ),
    Part(
        name="load", about="1,000 contracts of one minute, memory over 20,000 settlements", minutes=7,
        command=("{python}", "-m", "tests.benchmarks.load", "--write", "docs/performance.md"), figures=load_figures,
    ),
    Part(
        name="friday", about="20,000 options of one minute between 50 parties, until all are proven", minutes=4,
        command=("{python}", "-m", "tests.benchmarks.friday"), figures=friday_figures,
    ),
    Part(
        name="scale", about="the simulations of a million options that docs/explanation/scale.md prints", minutes=1,
        command=(*PYTEST, "-m", "slow", "tests/unit/docs/test_docs_scale.py"), figures=pytest_figures,
    ),
    Part(
        name="market", about="3 makers and 20 takers apart, over HTTP, until 500 options are funded", minutes=15,
        command=("{python}", "-m", "tests.benchmarks.market"), figures=market_figures,
    ),
    Part(
        name="soak", about="30 minutes of sales and settlements, a random fault in each", minutes=35,
        command=(*CHAOS, "--soak", "30", "--report", "docs/reliability.md"), figures=soak_figures,
    ),
    Part(
        name="faults-tests", about="poison, fleets, disasters, power cuts, each at every moment", minutes=20,
        command=(*PYTEST, "-n", "2", "--dist=loadgroup", "--no-loadscope-reorder", "-m", "faults", "tests/faults"),
        figures=pytest_figures,
    ),
    Part(
        name="faults", about="every fault at every point", minutes=55,
        command=(*CHAOS, "--full", "--at-once", "3", "--report", "docs/reliability.md"), figures=chaos_figures,
    ),
    Part(
        name="faults-postgresql", about="the same on PostgreSQL", minutes=70,
        command=(*CHAOS, "--full", "--at-once", "3", "--postgresql"), figures=chaos_figures, lacks=no_postgresql,
    ),
)  # fmt: skip


class Night:
    """What has ended well under one commit and seed, kept in a file after every round."""

    def __init__(self, folder: Path, *, commit: str, seed: int) -> None:
        self.commit, self.seed = commit, seed
        self.folder = folder / f"{commit[:12]}{commit[40:]}-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "state.json"
        self.ended: dict[str, dict[str, Any]] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.failed: dict[str, str] = {}
        self.lacking: dict[str, str] = {}

    def forget(self, names: Sequence[str]) -> None:
        """Let parts be run again."""
        self.ended = {key: kept for key, kept in self.ended.items() if kept["part"] not in names}
        self._write()

    def run(
        self, parts: Sequence[Part], *, said: Callable[[str], None], after: Callable[[], None] = lambda: None
    ) -> None:
        """Run what has not ended well yet; one part's failure loses none of the others."""
        for part in parts:
            missing = part.lacks()
            if missing:
                self.lacking[part.name] = missing
                said(f"{part.name}: left out, it lacks {missing}")
                continue
            for place in range(part.rounds):
                self._round(part, place, said)
                after()

    def _round(self, part: Part, place: int, said: Callable[[str], None]) -> None:
        seed = self.seed + place
        key = f"{part.name}-{seed}"
        if key in self.ended:
            said(f"{key}: ended before, in {self.ended[key]['seconds']:.0f} s")
            return
        said(f"{key}: {part.about}, about {-(-part.minutes // part.rounds)} minutes")
        environment = {name: _filled(value, seed) for name, value in part.environment.items()}
        began, printed, log = time.monotonic(), self.folder / f"{key}.out", self.folder / f"{key}.log"
        with printed.open("w") as out, log.open("w") as errors:
            done = subprocess.run(
                [_filled(word, seed) for word in part.command],
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, stdout=out, stderr=errors,
                check=False,
            )  # fmt: skip
        seconds = time.monotonic() - began
        try:
            figures = part.figures(printed.read_text() or log.read_text())  # libFuzzer says all of it on stderr
        except (ValueError, KeyError, IndexError) as e:
            figures = {}
            problem = f"no figures: {type(e).__name__}: {e}"
        else:
            problem = ""
        if done.returncode:
            problem = f"exit code {done.returncode}"
        if problem:
            self.failed[key] = f"{problem}; see {log.relative_to(self.folder.parent)} and {printed.name}"
            said(f"{key}: FAILED, {self.failed[key]}")
            return
        self.ended[key] = {"part": part.name, "seed": seed, "seconds": round(seconds, 1), "figures": figures}
        self._write()
        said(
            f"{key}: {seconds:.0f} s, "
            + ", ".join(f"{name} {value:g} {unit}" for name, (value, unit) in figures.items())
        )

    def rows(self) -> list[Row]:
        """Return the figures of every part, over its rounds: sums, and the seconds beside them."""
        found: dict[str, tuple[float, str]] = {}
        rounds: dict[str, int] = {}
        for kept in self.ended.values():
            for name, (value, unit) in {**kept["figures"], "seconds": (kept["seconds"], "s")}.items():
                row = f"night.{kept['part']}.{name}"
                found[row] = (found.get(row, (0.0, unit))[0] + value, unit)
                rounds[row] = rounds.get(row, 0) + 1
        return [Row(name=name, value=value, unit=unit, repeats=rounds[name]) for name, (value, unit) in found.items()]

    def said(self) -> dict[str, Any]:
        """Return the whole as ``python -m tests.benchmarks --json`` does, with the seed and what was left out."""
        return {
            "rows": [asdict(row) for row in self.rows()], "failed": self.failed, "lacking": self.lacking,
            "machine": _machine(), "commit": self.commit, "seed": self.seed,
        }  # fmt: skip

    def _write(self) -> None:
        draft = self.file.with_suffix(".draft")
        draft.write_text(json.dumps(self.ended, indent=1))
        draft.replace(self.file)


def _filled(word: str, seed: int) -> str:
    return word.replace("{seed}", str(seed)).replace("{python}", sys.executable)


def commit() -> str:
    """Return the commit, and what else differs from it outside of docs/, which the parts themselves write."""
    head = _git("rev-parse", "HEAD").strip() or "0" * 40
    changes = _git("diff", "HEAD", "--", ".", ":!docs")
    return head + (f"+{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else "")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout


def markdown(said: dict[str, Any]) -> str:
    """Return the figures as docs/performance.md shows them."""
    machine, at = said["machine"], said["commit"]
    on = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}"
    of = f"`{at[:12]}`{' with changes' if at[40:] else ''}"
    lines = [f'`make night ARGS="--seed {said["seed"]}"` on {on}; commit {of}.', ""]
    lines += ["| figure | sum of its rounds | unit | rounds |", "| --- | ---: | --- | ---: |"]
    lines += [f"| `{row['name']}` | {row['value']:,.10g} | {row['unit']} | {row['repeats']} |" for row in said["rows"]]
    lines += [f"\nFailed: `{key}` ({why})." for key, why in said["failed"].items()]
    lines += [f"\nLeft out: `{name}`, for want of {what}." for name, what in said["lacking"].items()]
    return "\n".join(lines) + "\n"


def write(document: Path, said: dict[str, Any]) -> None:
    """Put the table between its marks. Raises SystemExit when they are not there."""
    before, begin, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{document} has no place for the result; expected the lines {BEGIN} and {END}")
    document.write_text(f"{before}{BEGIN}\n\n{markdown(said)}\n{END}{after}", encoding="utf-8")


def main(words: Sequence[str] | None = None, *, parts: Sequence[Part] = PARTS, folder: Path = FOLDER) -> int:
    """Run the night, or what is left of it."""
    names = [part.name for part in parts]
    asked = argparse.ArgumentParser(prog="make night ARGS=", description="Everything that is longer than CI allows.")
    asked.add_argument("--only", action="append", choices=names, metavar="PART", help="this part; may be given again")
    asked.add_argument("--seed", type=int, help="default: from the commit, so that each one tries something else")
    asked.add_argument("--list", action="store_true", help="say what the parts are, and run nothing")
    asked.add_argument("--again", action="store_true", help="also what has ended well on this commit with this seed")
    asked.add_argument("--write", type=Path, help=f"the figures into this document, between {BEGIN} and {END}")
    given = asked.parse_args(words)
    if given.list:
        for part in parts:
            missing = part.lacks()
            print(f"{part.name:18} {part.minutes:4} min  {part.about}{f' (lacks {missing})' if missing else ''}")
        return 0
    here = commit()
    night = Night(folder, commit=here, seed=int(here[:6], 16) if given.seed is None else given.seed)
    chosen = [part for part in parts if not given.only or part.name in given.only]
    if given.write is not None:
        write(given.write, night.said())
    if given.again:
        night.forget([part.name for part in chosen])

    def said(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)

    def after() -> None:  # a night that is stopped leaves what it had
        if given.write is not None:
            write(given.write, night.said())

    said(f"seed {night.seed}, kept in {night.folder}")
    try:
        night.run(chosen, said=said, after=after)
    except KeyboardInterrupt:
        said("stopped; the same command continues")
        return 130
    print(json.dumps(night.said()))
    return int(bool(night.failed))


if __name__ == "__main__":
    sys.exit(main())
