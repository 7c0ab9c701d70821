"""A throw-away system: one table, one task, one beat entry, one page, by a folder a layer and one row; and out again.

It lives in a copy of the tree, where nothing that was there changes but the one table. Real processes run it: the
broker, beat and a control worker of the copy.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LAYERS = ("btcfi", "settings", "tasks", "dashboards", "workers", "guest_programs")

TOY = {
    "btcfi/adapters/store/toy/__init__.py": "",
    "btcfi/adapters/store/toy/tables.py": """
from enum import StrEnum
from typing import ClassVar

from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.machines import Machine, edges


class ToyState(StrEnum):
    WOUND = "wound"
    RUN_DOWN = "run_down"


class ToyRow(SQLModel, table=True):
    __tablename__: ClassVar[str] = "toy"
    __machine__: ClassVar[Machine[ToyState]] = Machine(
        states=ToyState, edges=edges((ToyState.WOUND, ToyState.RUN_DOWN)), ends=frozenset({ToyState.RUN_DOWN})
    )

    id: str = Field(primary_key=True)
    state: str = ToyState.WOUND.value
""",
    "btcfi/adapters/store/spine/migrations/versions/9999_toy.py": """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "HEAD_BEFORE"
branch_labels = depends_on = None


def upgrade():
    op.create_table("toy", sa.Column("id", sa.String(), primary_key=True), sa.Column("state", sa.String()))


def downgrade():
    op.drop_table("toy")
""",
    "tasks/toy.py": '''
from celery import current_app, shared_task

from btcfi.adapters.store.spine.edges import Work, cross, enqueue, record
from btcfi.adapters.store.toy.tables import ToyRow, ToyState
from settings.preset_files import preset_file
from tasks.context import context


@shared_task(name="toy.wind")
def wind():
    """By the clock: a row, and the work that follows from it."""
    here = context()
    name = f"{preset_file('tin', system='toy').name}-{here.now()}"
    with here.work() as session:
        if session.get(ToyRow, name) is None:
            session.add(ToyRow(id=name))
            record(session, "toy", name, ToyState.WOUND, now=here.now())
            enqueue(session, [Work(flow="run_toy", arguments=(name,))], now=here.now())


@shared_task(name="toy.run")
def run(name):
    """By the outbox."""
    here = context()
    with here.work() as session:
        cross(session, session.get_one(ToyRow, name), ToyState.RUN_DOWN, now=here.now())


def run_flow(name):
    return current_app.signature("toy.run", args=(name,), options={"ignore_result": True})
''',
    "settings/presets/toy/tin.toml": "spring = 1\n",
    "dashboards/operator/pages_toy.py": """
from fastapi import APIRouter
from starlette.responses import PlainTextResponse

from dashboards.operator.gate import Reader


def router(console):
    routes = APIRouter()

    @routes.get("/toys")
    def toys(_who: Reader) -> PlainTextResponse:
        return PlainTextResponse("toys")

    return routes
""",
}
ROW = """System(
        name="toy", store=("toy",), tasks={CONTROL: ("tasks.toy",)},
        beat=lambda _: {"toy.wind": every("toy.wind", 1.0)},
        flows={"run_toy": "tasks.toy:run_flow"}, presets="toy",
        pages=(PageAt(module="dashboards.operator.pages_toy", path="/toys", title="Toys"),),
    )"""

DRIVER = '''
"""Runs broker, beat and a control worker of this tree, and says what became of the toy."""
import json, sys, time
from dataclasses import replace
from pathlib import Path
from sqlalchemy import text
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.machines import machines
from btcfi.adapters.store.spine.schema import load_tables
from dashboards.operator.deps import ConsoleDeps
from settings.deployment import Deployment
from workers.machine.cluster import Cluster
from workers.systems import SYSTEMS, console_pages

deployment = Deployment(data_dir=Path(sys.argv[1]), tick=False, watch_seconds=3600, anchor_seconds=0, relay_seconds=1,
                        canary_seconds=5, reconcile_seconds=5)
said = {"systems": [one.name for one in SYSTEMS]}
load_tables()
said["machine"] = "toy" in machines()


def ask(store, query):
    with store.reading() as session:
        return session.execute(text(query)).scalar_one()


with Cluster(deployment, embedded_node=False, roles=("control",), run_parties=False) as cluster:
    cluster.start()
    store = Store(cluster.deployment.database_url)
    canary = "SELECT count(*) FROM canary WHERE queue = 'control'"
    done = "SELECT count(*) FROM toy WHERE state = 'run_down'" if said["machine"] else canary
    until = time.monotonic() + 60
    while not ask(store, done) and time.monotonic() < until:
        time.sleep(0.2)
    said["done"] = ask(store, done) > 0
    said["refused"] = ask(store, "SELECT count(*) FROM refused_message")
    if said["machine"]:  # what is left when the system goes
        with store.transaction() as session:
            session.execute(text(
                "INSERT INTO outbox (id, flow, arguments, created_at_unix) VALUES ('left', 'run_toy', '[\\"x\\"]', 1)"
            ))
    else:
        with store.transaction() as session:
            session.execute(text(
                "INSERT INTO outbox (id, flow, arguments, created_at_unix) VALUES ('ours', 'exchange', '[]', 2)"
            ))
        ours = "SELECT count(*) FROM outbox WHERE id = 'ours' AND published_at_unix IS NOT NULL"
        until = time.monotonic() + 30
        while not ask(store, ours) and time.monotonic() < until:
            time.sleep(0.2)
        said["published_behind_it"] = ask(store, ours) == 1
        said["left"] = ask(store, "SELECT count(*) FROM outbox WHERE id = 'left' AND published_at_unix IS NULL")
    store.close()


pages = console_pages()
said["links"] = [title for _, title, _ in ConsoleDeps(
    api=None, entropy=None, register=None, rule_of=None, pages=pages).links]
said["paths"] = [route.path for page in pages if page.title == "Toys" for route in page.router(None).routes]
print(json.dumps(said))
'''

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the code, and a file of what is in it."""
    root = tmp_path_factory.mktemp("sibling")
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, root / layer, ignore=shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc"))
    (root / "driver.py").write_text(DRIVER)
    return root


def run(root, *arguments):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("BTCFI_", "BROKER", "DATABASE"))}
    env |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def head_of(root):
    script = (
        "import json; from alembic.script import ScriptDirectory; from btcfi.adapters.store.spine.database import *; "
        "print(json.dumps(ScriptDirectory(str(MIGRATIONS)).get_current_head()))"
    )
    return run(root, "-c", script)


def test_a_system_comes_by_a_folder_a_layer_and_one_row_and_goes_the_same_way(tree, tmp_path):
    table = tree / "workers" / "systems.py"
    before = table.read_text()
    head = head_of(tree)
    for name, text in TOY.items():
        assert not (tree / name).exists()  # nothing that was there is changed
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text.replace("HEAD_BEFORE", head))
    (row,) = [line for line in before.splitlines() if line.startswith("SYSTEMS: Final = (")]
    table.write_text(before.replace(row, row.removesuffix(")") + f", {ROW})"))

    came = run(tree, "driver.py", str(tmp_path / "data"))
    assert came["systems"][-1] == "toy"
    assert (came["machine"], came["done"], came["refused"]) == (True, True, 0)
    assert came["links"] == ["Now", "Prices", "Options", "Settlements", "Fees", "Risk", "Disputes", "Toys", "Operate"]
    assert came["paths"] == ["/toys"]

    run(tree, "-c", (  # its migration goes with it
        "from pathlib import Path; from btcfi.adapters.store.spine.database import Store; "
        f"s = Store('sqlite:///{tmp_path / 'data' / 'btcfi.db'}'); s.downgrade('{head}'); s.close(); print('null')"
    ))  # fmt: skip
    table.write_text(before)
    for name in TOY:
        (tree / name).unlink()
    shutil.rmtree(tree / "btcfi" / "adapters" / "store" / "toy")
    went = run(tree, "driver.py", str(tmp_path / "data"))
    assert went["systems"] == came["systems"][:-1]
    assert (went["machine"], went["done"], went["refused"], went["links"]) == (
        False, True, 0, ["Now", "Prices", "Options", "Settlements", "Fees", "Risk", "Disputes", "Operate"],
    )  # fmt: skip
    # what it left in the outbox is kept, and holds nothing up
    assert (went["published_behind_it"], went["left"]) == (True, 1)
