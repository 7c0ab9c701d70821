"""Prints which platforms the locked dependencies install on without a compiler: the table of docs/how-to/install.md.

    .venv/bin/python docs/install_matrix.py             # prints the table
    .venv/bin/python docs/install_matrix.py --write     # puts it into the page

It asks the registry that `uv` is set up with, downloads no package, and needs the developers' tools (`make check`
installs them). The page carries a digest of the pins that it was made of, and a test holds it to the lock file.
"""

# ruff: noqa: INP001, T201 - a command that prints
from __future__ import annotations

import hashlib
import itertools
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
LOCK: Final = ROOT / "requirements.lock"
PAGE: Final = ROOT / "docs" / "how-to" / "install.md"

PLATFORMS: Final = {
    "Linux x86-64, glibc 2.28 or newer": "x86_64-manylinux_2_28",
    "Linux arm64, glibc 2.28 or newer": "aarch64-manylinux_2_28",
    "Linux x86-64 with musl (Alpine)": "x86_64-unknown-linux-musl",
    "macOS on Apple silicon": "aarch64-apple-darwin",
    "macOS on Intel": "x86_64-apple-darwin",
    "Windows x86-64": "x86_64-pc-windows-msvc",
}
"""What a person calls it -> what uv calls it."""

PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")

BEGIN: Final = "<!-- made by docs/install_matrix.py of the pins "
END: Final = "<!-- until here -->"

_NONE: Final = re.compile(r"Because ([A-Za-z0-9._-]+)(?:\{[^}]*\})?==(\S+) has no (?:usable )?wheels")
_PIN: Final = re.compile(r"^([a-z0-9][A-Za-z0-9._-]*==\S+)", re.MULTILINE)


def pins() -> list[str]:
    """Return ``name==version`` of every package of the lock file."""
    return _PIN.findall(LOCK.read_text(encoding="utf-8"))


def digest() -> str:
    """Return what says which pins a table was made of."""
    return hashlib.sha256("\n".join(pins()).encode()).hexdigest()[:16]


def missing(platform: str, python: str) -> list[str]:
    """Return the pinned packages of which the registry has no wheel for a platform and a Python."""
    found: list[str] = []
    text = LOCK.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        while True:
            requirements = Path(folder) / "requirements.txt"
            requirements.write_text(text, encoding="utf-8")
            uv = Path(sys.executable).with_name("uv")
            command = [str(uv), "pip", "install", "--dry-run", "--no-deps", "--only-binary", ":all:", "--no-config"]
            command += ["--python-platform", platform, "--python-version", python, "--target", folder]
            done = subprocess.run([*command, "-r", str(requirements)], capture_output=True, text=True, check=False)  # noqa: S603 - our own words
            if done.returncode == 0:
                return found
            none = _NONE.search(done.stderr)
            if none is None:
                sys.exit(f"uv said something else for {platform}, Python {python}:\n{done.stderr}")
            pin = f"{none[1]}=={none[2].rstrip(',')}"
            found.append(pin)
            text, gone = re.subn(rf"^{re.escape(pin)}(?:.|\n)*?(?=^[a-z0-9]|\Z)", "", text, flags=re.MULTILINE)
            if not gone:
                sys.exit(f"{pin} has no wheel for {platform} and is not in the lock file")


def table() -> str:
    """Return the table: a platform, the Pythons of which the same is true, and what is true of them."""
    rows = ["| platform | Python | locked packages |", "|---|---|---|"]
    for name, platform in PLATFORMS.items():
        found = [(python, missing(platform, python)) for python in PYTHONS]
        for without, group in itertools.groupby(found, key=lambda one: one[1]):
            pythons = ", ".join(python for python, _ in group)
            what = "no wheel of " + ", ".join(f"`{pin}`" for pin in without) if without else "a wheel of each"
            rows.append(f"| {name} | {pythons} | {what} |")
    return f"{BEGIN}{digest()} -->\n" + "\n".join(rows) + f"\n{END}"


def main() -> None:
    """Print the table, or put it into the page."""
    made = table()
    if "--write" in sys.argv[1:]:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        PAGE.write_text(before + made + rest.partition(END)[2], encoding="utf-8")
    print(made)


if __name__ == "__main__":
    main()
