"""The table of systems: complete, without double claims, and cheap to read."""

import ast
import pkgutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from celery.canvas import Signature

from btcfi.adapters import store
from settings.deployment import Deployment
from settings.preset_files import PRESETS, RETIRED
from workers.app import create_app
from workers.roles import CONTROL, roles
from workers.systems import (
    FLOWER,
    SYSTEMS,
    DoublyClaimedError,
    System,
    all_modules,
    console_pages,
    flows,
    modules_of,
    resolve,
    route_of,
    said,
    schedule,
)

DEPLOYMENT = Deployment(broker_url="memory://", mine_seconds=1.0)


def tasks_of(module):
    """The names of a module's tasks, read and not imported."""
    for node in ast.walk(ast.parse(Path(find_spec(module).origin).read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "shared_task":
            yield from (keyword.value.value for keyword in node.keywords if keyword.arg == "name")


NAMES = {name: module for module in all_modules() for name in tasks_of(module)}


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"control.canary"}))
def test_a_task_is_sent_to_a_worker_that_has_imported_it(name):
    assert NAMES[name] in modules_of(route_of(name))


def test_every_role_answers_its_canary():
    assert all("tasks.canary" in modules_of(role) for role in roles(DEPLOYMENT))


def test_every_role_of_the_table_is_one_that_runs():
    assert {role for system in SYSTEMS for role in system.tasks} == {*roles(DEPLOYMENT), FLOWER}


def test_every_task_on_the_clock_and_in_the_logs_is_there():
    assert {entry["task"] for entry in schedule(DEPLOYMENT).values()} <= set(NAMES)
    assert set(said()) <= set(NAMES)


def test_a_sender_that_knows_no_task_listens_for_no_result():
    assert all(entry["options"]["ignore_result"] for entry in schedule(DEPLOYMENT).values())
    create_app(DEPLOYMENT)
    arguments = {
        "price_round": ("BTC/USD", 60), "prove_long": ("st-one", 8), "settle": (["st-one"],),
        "settle_swaps": ("BTCUSD/1", ["BTCUSD/ann"]),
    }  # fmt: skip
    for name, builder in flows().items():
        built = resolve(builder)(*arguments.get(name, () if name in {"send", "exchange"} else ("one",)))
        assert isinstance(built, Signature)
        last = built.body if name in arguments and name != "settle" else built
        assert last.options["ignore_result"]


def test_every_folder_of_tables_and_of_presets_belongs_to_one_system():
    folders = {one.name for one in pkgutil.iter_modules(store.__path__) if one.ispkg} - {"backup"}  # of all tables
    assert sorted(folder for system in SYSTEMS for folder in system.store) == sorted(folders)
    presets = {path.name for path in PRESETS.iterdir() if path.is_dir()} - {RETIRED}
    assert sorted(system.presets for system in SYSTEMS if system.presets) == sorted(presets)


def test_every_name_in_the_table_stands_for_something():
    for system in SYSTEMS:
        for name in (*system.repairs, system.on_chain, system.metrics):
            assert name is None or resolve(name) is not None
    assert [page.title for page in console_pages()] == ["Prices", "Options", "Settlements", "Fees", "Risk", "Disputes"]
    assert all(import_module(module) for module in all_modules())


@pytest.mark.parametrize("field", ["flows", "said", "beat"])
def test_two_systems_with_one_name_are_refused(field):
    twins = [System(name="one", **{field: _some(field)}), System(name="two", **{field: _some(field)})]
    with pytest.raises(DoublyClaimedError):
        {"flows": flows, "said": said, "beat": lambda table: schedule(DEPLOYMENT, table)}[field](twins)


def _some(field):
    return (lambda _: {"x": {}}) if field == "beat" else {"x": ("a",)}


def test_what_no_system_claims_is_controls():
    assert route_of("somebody.elses") == CONTROL


def test_reading_the_table_imports_no_queue_no_database_and_no_compiler():
    heavy = ("celery", "sqlalchemy", "numba", "fastapi")
    script = f"import sys, workers.systems; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
