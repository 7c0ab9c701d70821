"""Who did not say yes and named no limit has bought nothing, wherever the answer comes from."""

import io
import sys

import pytest

from tests.support.doors import Doors
from workers.commands import options as commands

pytestmark = pytest.mark.integration

WORDS = ["--kind", "call", "--strike", "60000", "--quantity", "0.1", "--expiry", "+60", "--fixing", "minute"]


@pytest.fixture
def doors(tmp_path, monkeypatch):
    made = Doors(tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.mark.parametrize("piped", ["", "n\n", "y\n"])
def test_an_order_by_a_pipe_without_yes_and_without_a_limit_buys_nothing(doors, monkeypatch, piped):
    monkeypatch.setattr(sys, "stdin", io.StringIO(piped))
    code, said, err = doors.run("options", "create", *WORDS)
    assert (code, said, doors.rows()) == (2, "", [])
    assert all(option in err for option in ("--yes", "--max-premium"))


@pytest.mark.parametrize("named", [["--yes"], ["--max-premium", "100000"]])
def test_an_order_by_a_pipe_that_says_yes_or_names_a_limit_is_sold_however_long_the_machine_takes(
    doors, monkeypatch, named
):
    """Nothing was shown, so nothing that was shown can have become old."""
    now, looked = commands._now, []

    def slow():
        looked.append(1)
        return now() + (45 if len(looked) > 1 else 0)  # more than a quote is good for

    monkeypatch.setattr(commands, "_now", slow)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert doors.run("options", "create", *WORDS, *named)[0] == 0
    assert len(doors.rows()) == 1
