"""A process imports what its role needs: no figure, only which libraries are there in a fresh interpreter."""

import json
import subprocess
import sys

import pytest

from settings.deployment import Deployment
from workers.app import ROLE_MODULES, ROUTES, TASK_MODULES, create_app
from workers.roles import CHAIN, CONTROL, PRICES, SETTLE, roles

IN_MEMORY = Deployment(broker_url="memory://")

MACHINE = {"numba", "llvmlite", "unicorn", "btcfi.vm.interpreter"}
NUMBERS = {"numpy", "scipy"}
WEB = {"fastapi", "uvicorn", "starlette", "matplotlib", "PIL"}
STORE = {"sqlalchemy", "sqlmodel", "alembic"}
QUEUE = {"celery", "kombu", "redis"}
EXCHANGES = {"ccxt"}

EACH = {
    "beat": (["workers.commands.beat"], MACHINE | NUMBERS | WEB | STORE | EXCHANGES),
    PRICES: (["workers.commands.worker", "workers.app", *ROLE_MODULES[PRICES]], MACHINE | NUMBERS | WEB | {"alembic"}),
    CHAIN: (
        ["workers.commands.worker", "workers.app", *ROLE_MODULES[CHAIN]],
        MACHINE | NUMBERS | WEB | EXCHANGES | {"alembic"},
    ),
    CONTROL: (
        ["workers.commands.worker", "workers.app", *ROLE_MODULES[CONTROL]],
        MACHINE | NUMBERS | WEB | EXCHANGES | {"alembic"},
    ),
    SETTLE: (["workers.commands.worker", "workers.app", *ROLE_MODULES[SETTLE]], WEB | EXCHANGES | {"alembic"}),
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


def test_every_role_has_its_modules_and_every_task_is_with_the_role_whose_queue_it_goes_to():
    assert set(ROLE_MODULES) == set(roles(IN_MEMORY))
    app = create_app(IN_MEMORY)
    app.loader.import_default_modules()
    for name, task in app.tasks.items():
        if not name.startswith("celery.") and name != "control.canary":  # sent to each queue by beat's entry
            queue = app.amqp.router.route({}, name)["queue"].name
            assert type(task).__module__ in ROLE_MODULES[queue] or task.run.__module__ in ROLE_MODULES[queue], name
    assert all(any(name.startswith(prefix) for name in app.tasks) for prefix, _ in ROUTES)


def test_every_role_answers_the_canary():
    assert all("tasks.canary" in modules for modules in ROLE_MODULES.values())
    assert len(set(TASK_MODULES)) == len(TASK_MODULES)
