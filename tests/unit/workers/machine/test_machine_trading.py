"""The simulated traders of `btcfi up --market`: owners of their own, told the desk and the node and nothing else."""

from __future__ import annotations

import inspect

import pytest

from settings.deployment import Deployment
from workers.commands.up import up
from workers.machine import parties, rows, trading
from workers.machine.rows import Here
from workers.machine.up import run_up


@pytest.fixture
def here(tmp_path):
    return Here(deployment=Deployment(data_dir=tmp_path, api_port=8123), run_dir=tmp_path, replay_folder=None)


def every_row():
    for name in trading.COINS:
        yield name, trading.owner(name, takes_per_minute=0.0 if name in trading.MAKERS else 2.0)
    for name in trading.MAKERS:
        yield name, trading.quoting(name)


def test_there_are_two_makers_and_three_takers_and_no_part_of_the_deployment_has_their_names():
    assert (len(trading.MAKERS), len(trading.TAKERS)) == (2, 3)
    names = [row.name for _, row in every_row()]
    assert len(set(names)) == len(names) == 7
    assert not set(names) & {row.name for row in rows.table(oracles=3)}


def test_each_owner_has_a_folder_that_no_other_row_names(here):
    for name, row in every_row():
        folder = str(trading.owners_folder(here.deployment).resolve() / name)
        words = " ".join(row.command(here))
        assert f"--dir={folder} " in f"{words} "
        assert not any(
            str(trading.owners_folder(here.deployment).resolve() / other) in words
            for other in trading.COINS
            if other != name
        )


def test_an_owner_is_told_the_desk_and_the_node_and_nothing_else_of_the_deployment(here):
    for _, row in every_row():
        assert row.environment is parties.environment
        assert "--desk=http://127.0.0.1:8123" in row.command(here)


def test_what_decides_for_an_owner_is_called_a_simulation_and_starts_after_its_party(here):
    assert "SIMULATED" in trading.said(here.deployment)
    assert trading.quoting("maker-0").needs == ("maker-0",)
    assert "--takes-per-minute=2.0" in trading.owner("taker-0", takes_per_minute=2.0).command(here)
    assert not [word for word in trading.owner("maker-0").command(here) if "takes" in word]


def test_no_market_is_started_unless_it_is_asked_for():
    assert inspect.signature(up).parameters["market"].default is False
    assert inspect.signature(run_up).parameters["market"].default is False
