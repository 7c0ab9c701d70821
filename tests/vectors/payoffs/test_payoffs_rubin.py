"""Rubin's risk reversal by our stable-dollar position: his worked tables, row by row."""

import hashlib
import json

import pytest

from btcfi.payoffs.netted import netted
from btcfi.payoffs.shapes import SHAPES, Ask
from btcfi.units import CentiBtc, CentsPerBtc
from tests.support.contracts import event
from tests.support.paths import ROOT

VECTORS = json.loads((ROOT / "tests/vectors/payoffs/rubin.json").read_text())["vectors"]
TABLES = [one for one in VECTORS if one["id"] in {"rr.1", "rr.2"}]


@pytest.mark.parametrize("one", TABLES, ids=lambda one: one["id"])
def test_a_stable_dollar_position_pays_each_row_of_the_risk_reversal_s_table(one):
    given, said = one["inputs"], one["recomputed"]
    assert given["amount_sat"] == 100_000_000
    bottom, entry, top = (CentsPerBtc(x // 100) for x in (said["bottom"], given["current_x_1e4"], said["top"]))
    payoff = SHAPES["stable_dollar"].payoff(Ask(strikes=(bottom, entry, top), quantity=CentiBtc(100)))
    contract = netted(payoff, event())
    # the user's bitcoin and what the operator adds, which is all that the user can gain
    locked = given["amount_sat"] + contract.writer
    assert locked == said["max_amount"]
    digest, rows = hashlib.sha256(), []
    for dollars in range(bottom // 100, top // 100 + 1):
        user = given["amount_sat"] + payoff.net_at(CentsPerBtc(100 * dollars))
        rows.append([dollars * 10_000, user, locked - user])
        digest.update(f"{rows[-1][0]},{rows[-1][1]},{rows[-1][2]}\n".encode())
    assert len(rows) == said["strikes"]
    assert rows[0] == said["first"]
    assert rows[-1] == said["last"]
    assert said["near_current"] in rows
    assert said["mid"] in rows
    assert digest.hexdigest() == said["table_sha256"]


@pytest.mark.parametrize("one", TABLES, ids=lambda one: one["id"])
def test_beyond_the_range_it_pays_the_row_at_its_end(one):
    given, said = one["inputs"], one["recomputed"]
    bottom, entry, top = (CentsPerBtc(x // 100) for x in (said["bottom"], given["current_x_1e4"], said["top"]))
    payoff = SHAPES["stable_dollar"].payoff(Ask(strikes=(bottom, entry, top), quantity=CentiBtc(100)))
    for price in (1, bottom - 100, bottom - 1):
        assert 100_000_000 + payoff.net_at(CentsPerBtc(price)) == said["first"][1]
    for price in (top + 1, top + 100, 26_214_300):
        assert 100_000_000 + payoff.net_at(CentsPerBtc(price)) == said["last"][1]
