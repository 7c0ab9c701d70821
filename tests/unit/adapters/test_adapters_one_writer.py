"""Every file and folder is made by ``btcfi/adapters/files.py``: modes under any umask, and no link is followed.

This looks at the syntax of all our code, so that no new ``open(…, "w")`` appears beside it.
"""

import ast

import pytest

from tests.support.paths import ROOT

CODE = ("btcfi", "tasks", "workers", "settings", "dashboards", "guest_programs")

MAKES = frozenset({
    "write_text", "write_bytes", "mkdir", "makedirs", "touch", "symlink_to", "symlink", "hardlink_to", "link", "mkfifo",
    "mknod", "mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile", "copyfile", "copy",
    "copy2", "copytree", "copymode", "FileHandler", "RotatingFileHandler", "umask", "chmod", "fchmod",
})  # fmt: skip
"""Names of functions and methods by which a file, a folder or a link comes to be, or a mode is changed."""

ON_PATHS = frozenset({"copy", "link", "symlink", "copymode"})
"""Also names of other things: meant where they are called on a module of files."""

ALLOWED = {
    "btcfi/adapters/files.py": "the one writer",
    "btcfi/adapters/oracle/folder.py": "closes a folder that an earlier release left open to others",
    "btcfi/adapters/store/backup/__init__.py": "what comes by a pipe lies in a file without a name",
    "btcfi/adapters/venues/synthetic_candles/generate.py": "writes files of this repository, for its author",
    "btcfi/adapters/venues/price_study.py": "writes a study's tables, for its author",
    "btcfi/surfaces/protos/generate.py": "writes files of this repository, for its author",
    "guest_programs/build.py": "writes files of this repository, for its author",
    "guest_programs/new.py": "writes files of this repository, for its author",
    "workers/chaos/cluster.py": "scratch of the harness, in a folder of its own",
    "workers/chaos/points.py": "orders of the harness, in a folder of its own",
    "workers/chaos/power_cut.py": "what it keeps and leaves is scratch of the harness, in folders of its own",
    "workers/chaos/skew.py": "the clocks of the harness, in a folder of its own",
    "workers/liveness.py": "a note of a process every few seconds, not synced, and its own link-proof replacement",
    "workers/commands/doctor.py": "asks whether a file can be made in the data folder, and keeps none",
    "workers/commands/chaos.py": "writes a page of this repository, for its author",
}
"""File to reason."""


def sources():
    return sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))


def called(node):
    """The name of what a call calls, and of what it is called on."""
    if isinstance(node.func, ast.Attribute):
        on = node.func.value
        return node.func.attr, on.id if isinstance(on, ast.Name) else ""
    return (node.func.id, "") if isinstance(node.func, ast.Name) else ("", "")


def mode_of(node, name, on):
    """The mode that an ``open`` is called with, "r" where it says none, None where it is worked out."""
    at = 1 if isinstance(node.func, ast.Name) or on in {"gzip", "io", "tarfile", "lzma", "bz2", "zipfile"} else 0
    given = [one.value for one in node.keywords if one.arg == "mode"] or node.args[at : at + 1]
    if not given:
        return "r"
    return given[0].value if isinstance(given[0], ast.Constant) else None


def makes(node):
    """Whether a call makes a file or a folder, or may."""
    name, on = called(node)
    if name in MAKES:
        return name not in ON_PATHS or on in {"os", "shutil"}
    if name != "open" or on == "self":
        return False
    if on == "os":
        flags = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
        return "O_CREAT" in flags or not flags & {"O_RDONLY", "O_PATH", "O_WRONLY"}
    mode = mode_of(node, name, on)
    return mode is None or not isinstance(mode, str) or bool(set(mode) & set("wax+"))


def makers(text):
    return [node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and makes(node)]


def test_no_file_or_folder_is_made_but_by_the_one_writer():
    found = {str(path.relative_to(ROOT)): makers(path.read_text(encoding="utf-8")) for path in sources()}
    strays = {name: lines for name, lines in found.items() if lines and name not in ALLOWED}
    assert strays == {}
    assert {name for name in ALLOWED if not found[name]} == set(), "allowed, and makes nothing any more"


@pytest.mark.parametrize(
    "line",
    [
        'open(path, "w")', 'path.open("ab")', 'path.open(mode="x")', "path.open(mode)", 'open(path, mode="r+")',
        "path.write_text(text)", "path.mkdir()", "os.makedirs(path)", "os.open(path, os.O_WRONLY | os.O_CREAT)",
        "os.open(path, flags)", "shutil.copy(one, other)", 'gzip.open(path, "wb")', "tempfile.mkdtemp()",
        "path.touch()", "os.symlink(one, other)", "os.umask(0)",
    ],
)  # fmt: skip
def test_the_sweep_sees(line):
    assert makers(line) == [1]


@pytest.mark.parametrize(
    "line",
    ["open(path)", 'path.open("rb")', 'path.open(encoding="utf-8")', "self.open()", "terms.copy()",
     "os.open(path, os.O_RDONLY | os.O_DIRECTORY)", "open_private(path)", 'gzip.open(path, "rb")'],
)  # fmt: skip
def test_the_sweep_passes_over(line):
    assert makers(line) == []
