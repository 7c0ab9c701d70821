"""The page that compares trees with flat contracts prints what the command prints, and its words fit the numbers."""

import json
import re

import pytest
from typer.testing import CliRunner

from btcfi.surfaces.clauses_cli import app
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/explanation/trees.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def said():
    done = CliRunner().invoke(app, ["compare", "--levels", "5", "--levels", "50", "--json"])
    assert done.exit_code == 0, done.exception
    return json.loads(done.output)


def rows(text):
    """{levels: {form: numbers}} of a printed table."""
    tables, at = {}, None
    for line in text.splitlines():
        if head := re.fullmatch(r"(\d+) levels", line):
            at = tables.setdefault(int(head[1]), {})
        elif line.startswith(("tree,", "flat,", "CETs")):
            form, *numbers = re.split(r"\s{2,}", line)
            at[form] = [int(one.replace(",", "").removesuffix(" shared")) for one in numbers]
    return tables


def test_the_table_of_the_page_is_what_the_command_counts(said):
    ((printed),) = re.findall(r"\$ btcfi clauses compare\n(.*?)```", PAGE, re.DOTALL)
    names = (
        "transactions",
        "signatures",
        "signature_bytes",
        "road_transactions",
        "road_vbytes",
        "shown_bytes",
        "statements",
        "answers",
    )
    counted = {
        table["levels"]: {
            one["form"]: [(one | {"signatures": one["plain"] + one["encrypted"]})[name] for name in names]
            for one in table["forms"]
        }
        for table in said["tables"]
    }
    assert rows(printed) == counted
    for table in said["tables"]:
        assert table["same_payouts"]
        assert f"; {table['transactions_checked']:,} transactions valid by Bitcoin Core's script code" in printed
        if len(said["compilers"]) > 1:
            compilers = " and ".join(said["compilers"])
            assert f"{table['outputs_compiled']} outputs compiled to the same scripts by {compilers}" in printed
    assert f"{said['child_vbytes']} vB more" in printed


def test_what_the_page_says_of_the_numbers_is_so(said):
    forms = {table["levels"]: {one["form"]: one for one in table["forms"]} for table in said["tables"]}
    for levels, table in forms.items():
        for name, one in table.items():
            flat = not name.startswith("tree")
            assert one["road_transactions"] == (1 if flat else (levels - 1).bit_length())
            assert one["statements"] == (18 if one["shared_statements"] else levels - 1)
            assert one["shared_statements"] == name.startswith("CETs")
        cets = table["CETs of 18 digits, 2 of 3"]
        for tree in (one for name, one in table.items() if name.startswith("tree")):
            # here the trees are ahead of the product; in bytes on the chain they are not
            assert tree["plain"] + tree["encrypted"] < cets["encrypted"]
            assert tree["road_vbytes"] > 2 * cets["road_vbytes"]
        assert cets["encrypted"] == 3 * table["CETs of 18 digits, 1"]["encrypted"]
