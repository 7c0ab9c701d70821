"""A state is named by its member: no list of states is written by hand beside the machine that declares them."""

import ast

import pytest

from btcfi.adapters.store.options.hold_tables import HoldState
from btcfi.adapters.store.options.tables import RequestState
from btcfi.adapters.store.spine.machines import machines
from btcfi.adapters.store.spine.schema import load_tables
from dashboards.operator.render import STATES
from tests.support.paths import ROOT

FOLDERS = ("btcfi/adapters/store", "btcfi/surfaces", "tasks", "workers", "dashboards")
MODULES = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "versions" not in path.parts and "protos" not in path.parts
]


OTHER_WORDS = {
    "btcfi/surfaces/rest/schemas.py": {"closed"},
    "btcfi/surfaces/rest/market_desk/shapes.py": {"settled"},
}
"""What a module calls something that is no row of that state: where a minute's submissions stand, how a take ended."""


def every_state():
    load_tables()
    declared = [machine.states for _, machine in machines().values()]
    return {state.value for states in (*declared, RequestState, HoldState) for state in states}


def texts(node, states):
    return [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and one.value in states]


def by_hand(tree, states):
    """Comparisons of a ``.state`` with a text, and collections of two or more states as texts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(isinstance(one, ast.Attribute) and one.attr == "state" for side in sides for one in ast.walk(side)):
                yield from ((node.lineno, text) for text in texts(node, states))
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            found = [one.value for one in node.elts if isinstance(one, ast.Constant) and one.value in states]
            yield from ((node.lineno, text) for text in found if len(found) > 1)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_writes_a_state_as_a_bare_text(path):
    states = every_state() - OTHER_WORDS.get(str(path.relative_to(ROOT)), set())
    assert list(by_hand(ast.parse(path.read_text(encoding="utf-8")), states)) == []


def test_what_the_test_looks_for_it_finds():
    wrong = ast.parse('if row.state == "due":\n    pass\nPENDING = ("due", "claimed")')
    assert list(by_hand(wrong, every_state())) == [(1, "due"), (3, "due"), (3, "claimed")]


def test_the_console_has_a_mark_for_every_state_that_a_row_can_have():
    assert every_state() - set(STATES) == {"imported"}  # events held after a restore have no page
