"""The night keeps what has ended well, runs again what failed, and its figures have the shape of the bench's."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields

import pytest

from tests.benchmarks import Row
from tests.night import BEGIN, END, PARTS, Part, commit, fuzz_figures, main, pytest_figures, shown_figures, soak_figures
from tests.support.paths import ROOT

SAYS_SEED = "import json, sys; print(json.dumps({'cases': int(sys.argv[1]), 'ok': 1}))"


def numbers(printed):
    return {"cases": (json.loads(printed)["cases"], "cases")}


def part(name, text=SAYS_SEED, **changes):
    command = ("{python}", "-c", text, "{seed}")
    return Part(name=name, about="a tiny part", minutes=1, command=command, figures=numbers, **changes)


@pytest.fixture
def night(tmp_path, capsys):
    def run(parts, *words):
        code = main(["--seed", "7", *words], parts=parts, folder=tmp_path / "night")
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else None, printed.err

    return run


def values(said):
    return {row["name"]: row["value"] for row in said["rows"] if not row["name"].endswith(".seconds")}


def test_each_round_has_a_seed_of_its_own_and_the_figures_of_a_part_are_summed(night):
    code, said, _ = night([part("one"), part("many", rounds=3)])
    assert code == 0
    assert values(said) == {"night.one.cases": 7, "night.many.cases": 7 + 8 + 9}
    assert [row["repeats"] for row in said["rows"] if row["name"] == "night.many.cases"] == [3]
    assert said["seed"] == 7
    assert said["commit"] == commit()
    # the shape of `make bench`
    assert {"rows", "failed", "machine", "commit"} <= set(said)
    assert all(set(row) == {one.name for one in fields(Row)} for row in said["rows"])


def test_what_failed_is_run_again_and_what_ended_well_is_not(night, tmp_path):
    once, twice = tmp_path / "once", tmp_path / "twice"
    count = "import pathlib, sys\np = pathlib.Path(r'{}')\np.write_text((p.read_text() if p.exists() else '') + 'x')\n"
    parts = [
        part("well", count.format(once) + SAYS_SEED),
        part("ill", count.format(twice) + "if p.read_text() == 'x': sys.exit(3)\n" + SAYS_SEED),
        part("after"),
    ]
    code, said, err = night(parts)
    assert code == 1
    assert list(said["failed"]) == ["ill-7"]
    assert "exit code 3" in said["failed"]["ill-7"]
    assert values(said) == {"night.well.cases": 7, "night.after.cases": 7}
    code, said, err = night(parts)
    assert code == 0
    assert values(said) == {"night.well.cases": 7, "night.after.cases": 7, "night.ill.cases": 7}
    assert "well-7: ended before" in err
    assert (once.read_text(), twice.read_text()) == ("x", "xx")
    night(parts, "--again", "--only", "well")
    assert (once.read_text(), twice.read_text()) == ("xx", "xx")


def test_another_seed_is_another_night(night):
    night([part("one")])
    _, said, err = night([part("one")], "--seed", "8")
    assert values(said) == {"night.one.cases": 8}
    assert "ended before" not in err


def test_a_part_that_prints_no_figures_has_failed(night):
    code, said, _ = night([part("mute", "print('nothing')")])
    assert code == 1
    assert "no figures" in said["failed"]["mute-7"]


def test_a_part_that_lacks_something_is_left_out_and_named(night):
    code, said, _ = night([part("far", lacks=lambda: "a server"), part("near")])
    assert code == 0
    assert said["lacking"] == {"far": "a server"}
    assert values(said) == {"night.near.cases": 7}


def test_the_figures_stand_between_the_marks_of_the_document_after_each_round(night, tmp_path):
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    seen = f"import pathlib; print(pathlib.Path(r'{document}').read_text().count('night.one.cases'), file=sys.stderr); "
    night([part("one"), part("two", "import sys; " + seen + SAYS_SEED)], "--write", str(document))
    text = document.read_text()
    assert text.startswith(f'before\n{BEGIN}\n\n`make night ARGS="--seed 7"` on ')
    assert "| `night.one.cases` | 7 | cases | 1 |" in text
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    (log,) = (tmp_path / "night").glob("*/two-7.log")
    assert log.read_text() == "1\n"


def test_a_document_without_the_marks_is_refused_before_anything_runs(night, tmp_path):
    document = tmp_path / "performance.md"
    document.write_text("no place")
    with pytest.raises(SystemExit, match="no place for the result"):
        night([part("one", f"import pathlib; pathlib.Path(r'{tmp_path / 'ran'}').touch()")], "--write", str(document))
    assert not (tmp_path / "ran").exists()


STOPPED = """
import sys
from pathlib import Path
from tests.night import Part, main
figures = lambda printed: {"cases": (1, "cases")}
short = Part(name="short", about="", minutes=1, command=("{python}", "-c", ""), figures=figures)
sleep = ("{python}", "-c", "import time; time.sleep(%s)")
long = Part(name="long", about="", minutes=1, command=sleep, figures=figures)
sys.exit(main(["--seed", "1"], parts=[short, long], folder=Path(sys.argv[1])))
"""


def test_a_night_that_is_stopped_continues_where_it_was(tmp_path):
    def start(seconds):
        return subprocess.Popen(
            [sys.executable, "-c", STOPPED % seconds, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
        )  # fmt: skip

    first = start(100)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/long-1.out")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGINT)  # as Ctrl-C does
    out, err = first.communicate(timeout=30)
    assert (first.returncode, out) == (130, ""), err
    second = start(0)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert "short-1: ended before" in err
    assert [row["name"] for row in json.loads(out)["rows"]] == [
        "night.short.cases", "night.short.seconds", "night.long.cases", "night.long.seconds",
    ]  # fmt: skip


def test_figures_are_read_from_what_the_tools_print():
    assert pytest_figures("....s\nSKIPPED [1] a.py:1: no 3 passed\n12 passed, 3 skipped in 1.20s\n") == {
        "passed": (12, "tests"), "skipped": (3, "tests"),
    }  # fmt: skip
    with pytest.raises(IndexError):
        pytest_figures("....                                      [100%]\n")
    said = "shown: books 3 books\nshown: prices 40 prices\n_ t _\nshown: books 4 books\n2 passed in 1.00s\n"
    assert shown_figures(said) == {
        "passed": (2, "tests"), "skipped": (0, "tests"), "books": (7.0, "books"), "prices": (40.0, "prices"),
    }  # fmt: skip
    assert fuzz_figures("#2 INITED\nDone 4711 runs in 60 second(s)\n") == {"inputs": (4711.0, "inputs")}
    assert soak_figures('{"sold": 600, "struck": 30, "drained_seconds": 61.0}')["faults"] == (30, "faults")


def test_every_command_of_the_night_is_there_and_takes_its_options():
    """Ask each program for its help: a renamed option would else be found at midnight."""

    @functools.cache
    def help_of(*words):
        return subprocess.run(
            [*words, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True
        ).stdout

    for one in PARTS:
        words = [word.format(python=sys.executable, seed=1) for word in one.command]
        files = [word for word in words if word.startswith(("tests/", "docs/"))]
        assert all((ROOT / path).exists() for path in files), one.name
        if words[1] == "-m" and words[2] != "pytest":
            program = words[: 4 if words[2] == "workers.cli" else 3]
            for option in (word for word in words[3:] if word.startswith("--")):
                assert re.search(rf"{option}\b", help_of(*program)), f"{one.name}: {option}"


def test_every_part_has_a_name_of_its_own():
    """What has ended well is kept by the part's name: one of two would never run."""
    names = [one.name for one in PARTS]
    assert len(set(names)) == len(names)
