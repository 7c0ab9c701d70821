"""SQL is written in ``btcfi/adapters/store`` alone; the few who need it elsewhere are named here, with a reason."""

from __future__ import annotations

import ast

import pytest
from sqlmodel import Session

from tests.support.paths import ROOT

PACKAGES = ("btcfi", "dashboards", "tasks", "workers", "settings", "guest_programs")
STORE = ROOT / "btcfi" / "adapters" / "store"
LIBRARIES = {"sqlalchemy", "sqlmodel", "sqlite3", "psycopg", "alembic"}
OPENED_BY = {"reading", "transaction", "work"}
"""Methods that give a session."""

HARMLESS = {"rollback"}
"""Of a session: taking a trial back asks nothing."""

EXCEPTIONS = {
    "workers/audit.py": "it trusts nothing of the pipeline: a view that is wrong would hide what it is to find",
    "workers/chaos/cluster.py": "it does to the outbox and to connections what the store itself never does",
    "workers/chaos/parallel.py": "it makes a database for each run and drops it",
    "workers/chaos/points.py": "it stops processes at their commits, so it listens to every session",
    "workers/warm.py": "after a fork it forgets the parent's connections, and sends nothing over them",
}


def sql_of(source: str) -> list[str]:
    """Return what a module does of the store's work: each import and each call, by its line."""
    tree = ast.parse(source)
    found = []
    sessions = {"session"}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [f"{node.lineno}: {one.name}" for one in names if one.name.split(".")[0] in LIBRARIES]
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] in LIBRARIES:
                found += [f"{node.lineno}: {module}.{one.name}" for one in names if one.name != "Session"]
            case ast.arg(arg=name, annotation=ast.Name(id="Session")):
                sessions.add(name)
            case ast.withitem(
                context_expr=ast.Call(func=ast.Attribute(attr=opened)), optional_vars=ast.Name(id=name)
            ) if opened in OPENED_BY:  # fmt: skip
                sessions.add(name)
            case ast.Attribute(attr="engine"):
                found.append(f"{node.lineno}: the engine itself")
    methods = {name for name in dir(Session) if not name.startswith("_")} - HARMLESS
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=method) if name in sessions and method in methods:
                found.append(f"{node.lineno}: {name}.{method}")
    return found


def modules():
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            if STORE not in file.parents:
                yield file.relative_to(ROOT).as_posix(), file.read_text()


def test_no_module_outside_the_store_writes_sql_but_those_with_a_reason():
    found = {name: lines for name, source in modules() if (lines := sql_of(source))}
    assert {name: lines for name, lines in found.items() if name not in EXCEPTIONS} == {}
    assert set(EXCEPTIONS) == set(found), "an exception that is none any more"


@pytest.mark.parametrize(
    "source",
    [
        "from sqlmodel import select",
        "import sqlalchemy as sa",
        "def f():\n    from sqlalchemy.orm import Query",
        "import sqlite3",
        "with store.reading() as seen:\n    seen.get(OptionRow, 'o')",
        "def f(one: Session):\n    one.execute(statement)",
        "session.add(row)",
        "store.engine.connect()",
    ],
)
def test_sql_is_noticed_however_it_is_come_by(source):
    assert sql_of(source)


def test_a_session_may_be_named_and_handed_on():
    assert not sql_of("from sqlmodel import Session\ndef f(session: Session):\n    return views.tip(session)\n")
