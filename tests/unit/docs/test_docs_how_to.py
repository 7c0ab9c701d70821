"""What the how-to pages print is code: it is taken from the page and run."""

import re
import subprocess
import sys

from tests.support.paths import ROOT

VENUES = "tests/unit/oracle/test_oracle_venues.py"


def listings(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "how-to" / page).read_text(), re.DOTALL)


def test_the_exchange_of_the_how_to_passes_every_test_of_an_exchange(tmp_path):
    module, rows = listings("add-an-exchange.md")
    (tmp_path / "bitstamp.py").write_text(module)
    source = (ROOT / VENUES).read_text()
    for name, line in re.findall(r"# ([A-Z]+)\n(.*?)(?=# [A-Z]|\Z)", rows, re.DOTALL):
        assert f"\n{name} = {{\n" in source, name
        source = source.replace(f"\n{name} = {{\n", f"\n{name} = {{\n{line}", 1)
    test = tmp_path / "test_venues.py"
    test.write_text(
        "import bitstamp\nfrom btcfi.oracle.venues import EXCHANGES\nEXCHANGES['bitstamp'] = bitstamp.BITSTAMP\n"
        + source.replace("from __future__ import annotations\n", "")
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [*command, "-k", "bitstamp", str(test)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
