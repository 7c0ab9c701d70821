"""The operator's page of preconditions has the rows of the table, and who stops at each, as the code has them."""

import re

from tests.support.paths import ROOT
from workers.preconditions import TABLE, WORKERS


def stated():
    """Who stops at each line of the page's table."""
    text = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    table = text.partition("| line | what is looked at | who stops at it |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([^`]+)` \|.*\| ([^|]+) \|$", table, re.MULTILINE)
    return {name: WORKERS if who == "each worker" else set(re.findall(r"`(\w+)`", who)) for name, who in rows}


def test_the_page_of_preconditions_has_every_row_of_the_table_with_who_stops_at_it():
    assert stated() == {row.name: row.stops for row in TABLE}


def test_who_stops_at_a_row_looks_at_it():
    assert [row.name for row in TABLE if not row.stops <= row.needs] == []
