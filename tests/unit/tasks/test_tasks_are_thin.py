"""A task decodes, calls, encodes: the syntax tree says so."""

import ast

import pytest

from tests.support.paths import ROOT

TASKS = ROOT / "tasks"
MOST_STATEMENTS = 9


def task_functions():
    for file in sorted(TASKS.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and any("shared_task" in ast.dump(d) for d in node.decorator_list):
                yield pytest.param(node, id=f"{file.stem}.{node.name}")


def statements(function):
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return [n for top in body for n in ast.walk(top) if isinstance(n, ast.stmt)]


@pytest.mark.parametrize("function", list(task_functions()))
def test_a_task_has_few_statements_and_says_what_it_does(function):
    assert ast.get_docstring(function)
    assert len(statements(function)) <= MOST_STATEMENTS


def test_every_task_has_an_explicit_name_so_that_a_moved_file_changes_no_message():
    for parameter in task_functions():
        (function,) = parameter.values
        decorators = [d for d in function.decorator_list if isinstance(d, ast.Call)]
        assert any(k.arg == "name" for d in decorators for k in d.keywords)


def test_every_flow_names_tasks_that_exist():
    names = {
        keyword.value.value
        for parameter in task_functions()
        for decorator in parameter.values[0].decorator_list
        if isinstance(decorator, ast.Call)
        for keyword in decorator.keywords
        if keyword.arg == "name"
    }
    canvas = ast.parse((TASKS / "pipeline.py").read_text())
    used = {
        node.args[0].value
        for node in ast.walk(canvas)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"_task", "_part"}
    }
    assert used
    assert used <= names
