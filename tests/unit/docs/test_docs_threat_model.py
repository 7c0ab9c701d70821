"""docs/threat-model.md says only what a test shows: every item names its tests, and each of them is there."""

import re

import pytest

from tests.support.paths import ROOT

PAGE = (ROOT / "docs/threat-model.md").read_text()
WHO = PAGE[PAGE.index("## Who") : PAGE.index("## Secrets")]
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
LOCKS = ("requirements.lock", "requirements-dev.lock")


def items():
    """Every item of the lists under "Who", on one line each."""
    return [" ".join(one.split()) for one in re.findall(r"^- (.*(?:\n  .*)*)", WHO, flags=re.MULTILINE)]


def clauses(item):
    """The parts of an item that end with a test, and what is left behind the last one."""
    return re.split(r"\([^()]*`test_[^()]*\)", item)


def test_every_item_names_a_test_or_says_that_nothing_stops_it():
    assert len(items()) > 40
    for item in items():
        if not item.startswith("*Not stopped:*"):
            assert NAMED.search(item), item
            assert not clauses(item)[-1].strip(" .;"), f"a claim without a test: {item}"


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED.findall(PAGE))))
def test_a_test_that_the_page_names_is_there(file, test):
    (path,) = (ROOT / "tests").rglob(file)
    assert f"def {test}(" in path.read_text()


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_file_is_pinned_by_version_and_hash(name):
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / name).read_text(), flags=re.IGNORECASE)
    packages = [one for one in entries if "==" in one.split("\n")[0]]
    assert len(packages) > 50
    assert all("--hash=sha256:" in one for one in packages)
