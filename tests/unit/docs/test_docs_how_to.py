"""What the how-to pages print is code: it is taken from the page and run."""

import json
import re
import subprocess
import sys

from tests.support.paths import ROOT

VENUES = "tests/unit/oracle/test_oracle_venues.py"
REPLAYED = "tests/integration/adapters/venues/test_venues_each_exchange.py"
VECTORS = "tests/vectors/oracle/venues/test_venues_vectors.py"


def listings(page, language="python"):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "how-to" / page).read_text(), re.DOTALL)


def test_the_exchange_of_the_how_to_passes_every_test_of_an_exchange_under_another_name(tmp_path):
    module, rows = listings("add-an-exchange.md")
    (vector,) = listings("add-an-exchange.md", "json")
    (tmp_path / "written.py").write_text(module)
    (tmp_path / "written.json").write_text(json.dumps({**json.loads(vector), "venue": "written:BTC/USD"}))
    prelude = (
        "from dataclasses import replace\nimport written\nfrom btcfi.oracle.venues import EXCHANGES\n"
        "EXCHANGES['written'] = replace(written.BITSTAMP, name='written')\n"
    )
    source = (ROOT / VENUES).read_text()
    for name, line in re.findall(
        r"# ([A-Z]+)\n(.*?)(?=# [A-Z]|\Z)", rows.replace('"bitstamp":', '"written":'), re.DOTALL
    ):
        assert f"\n{name} = {{\n" in source, name
        source = source.replace(f"\n{name} = {{\n", f"\n{name} = {{\n{line}", 1)
    for name, text in (("rows", source), *((p, (ROOT / p).read_text()) for p in (REPLAYED, VECTORS))):
        file = tmp_path / f"test_{name.rpartition('/')[2].removesuffix('.py')}.py"
        file.write_text(prelude + text.replace("from __future__ import annotations\n", ""))
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [*command, "-m", "", "-n0", "-k", "written", str(tmp_path)], cwd=tmp_path, capture_output=True, text=True,
        timeout=120, check=False, env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed >= 30, done.stdout[-300:]


def test_what_the_how_to_writes_is_what_is_there():
    module, _ = listings("add-an-exchange.md")
    (vector,) = listings("add-an-exchange.md", "json")
    assert module == (ROOT / "btcfi/oracle/venues/bitstamp.py").read_text()
    assert vector == (ROOT / "tests/vectors/oracle/venues/bitstamp.json").read_text()


def test_the_command_of_the_how_to_prints_what_the_page_prints():
    (command, printed), *_ = re.findall(
        r"\$ \.venv/bin/python (-c .*?)\n(.*?)```", (ROOT / "docs/how-to/add-an-exchange.md").read_text(), re.DOTALL
    )
    code = command.removeprefix('-c "').removesuffix('"')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == printed
