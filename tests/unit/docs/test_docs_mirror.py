"""Tests lie below the same folders as the code that they test."""

import pytest

from tests.support.paths import ROOT

OF_THE_WHOLE = {"docs", "packaging", "compose", "night"}
"""What has no folder of code: documents, the distribution, compose.yaml, tests/night.py."""


@pytest.mark.parametrize("kind", ["unit", "integration", "property", "vectors"])
def test_each_folder_of_tests_has_the_name_of_a_folder_of_code(kind):
    folders = {path.parent.relative_to(ROOT / "tests" / kind) for path in (ROOT / "tests" / kind).rglob("test_*.py")}
    rooms = (ROOT, ROOT / "btcfi")
    strangers = {
        str(folder)
        for folder in folders
        if not any((room / folder / "__init__.py").exists() or (room / f"{folder}.py").exists() for room in rooms)
    }
    assert strangers - OF_THE_WHOLE == set()


def test_no_two_files_of_tests_have_one_name():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
