"""A process imports what its role needs: no figure, only which libraries are there in a fresh interpreter."""

import json
import subprocess
import sys

import pytest

from workers.roles import CHAIN, CONTROL, PRICES, SETTLE
from workers.systems import modules_of

MACHINE = {"numba", "llvmlite", "unicorn", "btcfi.vm.interpreter"}
NUMBERS = {"numpy", "scipy"}
WEB = {"fastapi", "uvicorn", "starlette", "matplotlib", "PIL"}
STORE = {"sqlalchemy", "sqlmodel", "alembic"}
QUEUE = {"celery", "kombu", "redis"}
EXCHANGES = {"ccxt"}

EACH = {
    "beat": (["workers.commands.beat"], MACHINE | NUMBERS | WEB | STORE | EXCHANGES),
    PRICES: (["workers.commands.worker", "workers.app", *modules_of(PRICES)], MACHINE | NUMBERS | WEB | {"alembic"}),
    CHAIN: (
        ["workers.commands.worker", "workers.app", *modules_of(CHAIN)],
        MACHINE | NUMBERS | WEB | EXCHANGES | {"alembic"},
    ),
    CONTROL: (
        ["workers.commands.worker", "workers.app", *modules_of(CONTROL)],
        MACHINE | NUMBERS | WEB | EXCHANGES | {"alembic"},
    ),
    SETTLE: (["workers.commands.worker", "workers.app", *modules_of(SETTLE)], WEB | EXCHANGES | {"alembic"}),
    "flower": (["workers.commands.flower", "tasks.options"], MACHINE | NUMBERS | WEB | EXCHANGES | {"alembic"}),
    "metrics": (["workers.commands.metrics", "workers.exporter"], MACHINE | NUMBERS | WEB | EXCHANGES),
    "party": (["btcfi.surfaces.party_cli", "btcfi.adapters.party.mail"], MACHINE | WEB | STORE | QUEUE | EXCHANGES),
    "up": (["workers.machine.up", "workers.machine.cluster"], MACHINE | NUMBERS | WEB | EXCHANGES | {"alembic"}),
    "node": (["btcfi.adapters.chain.regtest.server"], MACHINE | NUMBERS | WEB | STORE | QUEUE | EXCHANGES),
    "replay": (["btcfi.adapters.venues.replay_server"], MACHINE | NUMBERS | WEB | STORE | QUEUE | EXCHANGES),
}


def imported_by(modules):
    program = f"import sys, json\nfor name in {modules!r}: __import__(name)\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("process", EACH)
def test_a_process_imports_nothing_that_its_role_does_not_need(process):
    modules, heavy = EACH[process]
    found = imported_by(modules)
    assert set(modules) <= found
    assert found & heavy == set()


def test_the_workers_that_compute_have_the_machine_before_they_fork():
    assert imported_by(EACH[SETTLE][0]) >= MACHINE
