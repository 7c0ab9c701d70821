"""Which files a stretch of code touches: an audit hook of the interpreter looks on."""

import sys
from contextlib import contextmanager
from pathlib import Path

OPENING = ("open", "os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.truncate", "os.chmod")
"""Audit events of the interpreter whose first arguments are paths: whatever is read, written, made or taken away."""

_looking: list[list[Path]] = []


def _hook(event, arguments):
    if _looking and event in OPENING:
        for one in arguments[:2]:
            if isinstance(one, (str, bytes, Path)):
                _looking[-1].append(Path(one if isinstance(one, (str, Path)) else one.decode()).absolute())


sys.addaudithook(_hook)  # for good: an audit hook cannot be taken away; without anybody looking it does nothing


@contextmanager
def looking():
    """Give the list of the paths that are touched meanwhile."""
    seen = []
    _looking.append(seen)
    try:
        yield seen
    finally:
        _looking.remove(seen)


def inside(paths, *folders):
    return {path for path in paths for folder in folders if folder == path or folder in path.parents}


def files_of(folder):
    return {path for path in folder.rglob("*") if path.is_file()}
