"""A path that a document names is there: the tree, the table "I want to change X", and every path in a code span."""

import re
import subprocess
from collections import Counter

import pytest

from tests.support.paths import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md")),
    ROOT / "settings" / "README.md",
    ROOT / "guest_programs" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

ROOMS = ("btcfi", "tasks", "workers", "settings", "dashboards", "guest_programs", "tests", "docs", ".ci")

NO_PATHS = {
    "btcfi/attestation",  # the types of messages
    "btcfi/offer",
}


@pytest.fixture(scope="module")
def files():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return listed.stdout.splitlines()


@pytest.fixture(scope="module")
def known(files):
    """Names of folders: a span that begins with one, and no room, is a short form. Names that several files have."""
    folders = {part for line in files for part in line.split("/")[:-1]} - set(ROOMS)
    names = Counter(line.rpartition("/")[2] for line in files)
    return folders, {name for name, many in names.items() if many > 1}


def spans(text):
    """The code spans of a page, listings left out."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [span for span in re.findall(r"`([^`\n]+)`", outside) if " " not in span]


def problem_of(span, known):
    """What is wrong with a code span as a path; empty when it is none, or is there."""
    folders, shared_names = known
    if "::" in span:  # a test by its file's name and its own: test_docs_threat_model.py holds them to the files
        return ""
    path, _, symbol = span.partition(":")
    first = path.split("/", 1)[0]
    if span in NO_PATHS or "NAME" in span or "[" in span:  # a name to fill in, a place in a document
        return ""
    if first in ROOMS and "/" in path:
        if not list(ROOT.glob(path.rstrip("/"))):
            return f"{span}: not there"
        if symbol and not re.search(rf"\b{symbol}\b", (ROOT / path).read_text(encoding="utf-8")):
            return f"{span}: the file has no {symbol}"
        return ""
    a_file = re.fullmatch(r"[\w/.-]+\.py", path) and path not in shared_names  # "each folder has a `views.py`"
    in_a_folder = first in folders and re.fullmatch(r"[a-z_]+(/[\w.*-]+)+", path)
    return f"{span}: a path begins at the root" if a_file or in_a_folder else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_a_page_names_is_there(page, known):
    found = [problem_of(span, known) for span in spans(page.read_text(encoding="utf-8"))]
    assert [problem for problem in found if problem] == []


def test_a_path_that_moved_a_short_form_and_a_name_that_went_are_found(known):
    assert problem_of("btcfi/adapters/store/chain.py", known) != ""
    assert problem_of("store/chain.py", known) != ""
    assert problem_of("adapters/keystore.FileLedger", known) != ""
    assert problem_of("workers/audit.py:no_such_name", known) != ""
    assert problem_of("workers/audit.py:audit", known) == ""
    assert problem_of("settings/presets/*/*.toml", known) == ""
    assert problem_of("BTC/USD", known) == problem_of("/api/v1/options", known) == ""


ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")


def tree():
    """The paths of the drawn tree: two spaces a level."""
    drawn = re.search(r"^```tree\n(.*?)^```", ARCHITECTURE, re.MULTILINE | re.DOTALL)[1]
    above = []
    for line in drawn.splitlines():
        spaces, name = re.match(r"( *)(\S+)", line).groups()
        above[len(spaces) // 2 :] = [name]
        yield "".join(above)


def test_the_drawn_tree_is_the_tree():
    assert [path for path in tree() if not (ROOT / path).exists()] == []
    assert all((ROOT / path).is_dir() for path in tree() if path.endswith("/"))


def packages(folder):
    return {
        f"{path.parent.relative_to(ROOT)}/"
        for path in (ROOT / folder).rglob("__init__.py")
        if len(path.parent.relative_to(ROOT).parts) > 1
    }


def test_no_room_of_the_library_or_of_the_workers_is_left_out_of_the_drawing():
    rooms = {path for path in packages("btcfi") | packages("workers") if path.count("/") <= 4}
    # named with the room that they belong to
    with_their_room = {
        "btcfi/oracle/venues/",
        "btcfi/adapters/venues/synthetic_candles/",
        "btcfi/surfaces/rest/",
        "btcfi/surfaces/rest/market_desk/",
        "btcfi/surfaces/grpc/",
        "btcfi/surfaces/protos/",
    }
    assert rooms - with_their_room - set(tree()) == set()


def test_the_table_of_changes_names_a_file_for_each():
    table = ARCHITECTURE.partition("| I want to change | open | its tests |")[2].partition("\n\n")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines()[2:]]
    assert len(rows) >= 30
    for what, files, tests in rows:
        assert any((ROOT / span).exists() for span in spans(files)), what
        assert all((ROOT / span).exists() for span in spans(files) + spans(tests) if "/" in span), what
