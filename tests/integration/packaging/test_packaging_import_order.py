"""The import contracts hold for rooms that are not built yet: a throw-away one is added, and refused or let in."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("btcfi", "tasks", "workers", "settings", "dashboards", "guest_programs")

FLOW = "Inside btcfi the import order is the order of the flow"
MARKET = "A market sees a system by its Kind record and imports none"
ROLLUP = "A rollup stands above disputes and perps alone"
TOP = "Processes call tasks, tasks call settings and the library, never back"
QUEUE = "The library and the dashboards know no queue"
VERIFY = "Verifying needs no emulator and no network"
SQL = "SQL is written in the store alone"
STORE = "Inside the store a folder knows the folders below it"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "static", "*.csv"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture
def broken(copy):
    """Add modules to the copy, and say which contracts they break; each is gone after the test."""
    made = []

    def with_modules(modules):
        for path, text in modules.items():
            file = copy / path
            if not file.parent.exists():
                made.append(file.parent)
                file.parent.mkdir()
                (file.parent / "__init__.py").touch()
            made.append(file)
            file.write_text(text)
        command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
        done = subprocess.run(
            command, cwd=copy, env={"COLUMNS": "200"}, capture_output=True, text=True, timeout=200, check=False
        )
        names = re.findall(r"^(.+) BROKEN\b", done.stdout, re.MULTILINE)
        assert done.returncode == (1 if names else 0), done.stdout + done.stderr
        return names

    yield with_modules
    for path in reversed(made):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


ALLOWED = {
    "a sibling on the spine": {"btcfi/swaps/toy.py": "import btcfi.contracts.execution"},
    "two siblings": {
        "btcfi/swaps/toy.py": "import btcfi.contracts.leaves",
        "btcfi/perps/toy.py": "import btcfi.oracle.consensus",
    },
    "a rollup on disputes and perps": {
        "btcfi/disputes/toy.py": "import btcfi.proofs.merkle",
        "btcfi/perps/toy.py": "import btcfi.units",
        "btcfi/rollup/toy.py": "import btcfi.disputes.toy\nimport btcfi.perps.toy",
    },
    "a sibling's rows": {
        "btcfi/swaps/toy.py": "import btcfi.units",
        "btcfi/adapters/store/swaps/toy.py": "import sqlmodel\nimport btcfi.swaps.toy\n"
        "import btcfi.adapters.store.chain.wallet\nimport btcfi.adapters.store.spine.edges",
    },
}


@pytest.mark.parametrize("case", ALLOWED)
def test_a_room_that_knows_what_lies_below_it_is_let_in(case, broken):
    assert broken(ALLOWED[case]) == []


REFUSED = {
    "a sibling that knows a sibling": (
        {"btcfi/swaps/toy.py": "", "btcfi/perps/toy.py": "import btcfi.swaps.toy"},
        FLOW,
    ),
    "a sibling that knows a sibling by its rows": (
        {
            "btcfi/adapters/store/swaps/toy.py": "",
            "btcfi/adapters/store/perps/toy.py": "import btcfi.adapters.store.swaps.toy",
        },
        STORE,
    ),
    "the spine that knows a sibling": (
        {"btcfi/payoffs/toy.py": "", "btcfi/contracts/toy.py": "import btcfi.payoffs.toy"},
        FLOW,
    ),
    "a sibling that knows the rollup": (
        {"btcfi/rollup/toy.py": "", "btcfi/disputes/toy.py": "import btcfi.rollup.toy"},
        FLOW,
    ),
    "a sibling that does input and output": (
        {"btcfi/advice/toy.py": "import btcfi.adapters.chain.node"},
        FLOW,
    ),
    "a rollup on swaps": (
        {"btcfi/swaps/toy.py": "", "btcfi/rollup/toy.py": "import btcfi.swaps.toy"},
        ROLLUP,
    ),
    "a market that imports a system": (
        {"btcfi/swaps/toy.py": "", "btcfi/market/toy.py": "import btcfi.swaps.toy"},
        MARKET,
    ),
    "a drawer": ({"btcfi/utils.py": ""}, FLOW),
    "a drawer in the store": ({"btcfi/adapters/store/helpers.py": ""}, STORE),
    "the store's spine that knows a system": (
        {"btcfi/adapters/store/spine/toy.py": "import btcfi.adapters.store.prices.tables"},
        STORE,
    ),
    "SQL in a task": ({"tasks/toy.py": "import sqlalchemy"}, SQL),
    "SQL at a door": ({"btcfi/surfaces/toy.py": "import sqlmodel"}, SQL),
    "a queue in the console": ({"dashboards/operator/toy.py": "import celery"}, QUEUE),
    "the library that calls a task": ({"btcfi/oracle/toy.py": "import tasks.oracle"}, TOP),
    "the machine that knows the tool chain": ({"btcfi/vm/toy.py": "import guest_programs.build"}, TOP),
    "a checker with a network": ({"btcfi/proofs/toy.py": "import httpx"}, VERIFY),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_room_that_knows_its_neighbour_or_what_lies_above_it_is_refused(case, broken):
    modules, contract = REFUSED[case]
    assert contract in broken(modules)
