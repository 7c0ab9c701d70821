"""Rubin's risk reversal by our stable-dollar position: his worked tables, row by row."""

import hashlib
import json

import pytest

from btcfi.errors import InvalidInputError
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


IDENTITIES = [
    one for one in VECTORS
    if one["id"].startswith("ident.") and all(float(one["recomputed"][end]).is_integer() for end in ("bottom", "top"))
]  # fmt: skip


@pytest.mark.parametrize("one", IDENTITIES, ids=lambda one: one["id"])
def test_the_operator_adds_what_the_formula_says_and_gains_no_more_than_it_says(one):
    given, said = one["inputs"], one["recomputed"]
    strikes = tuple(CentsPerBtc(round(100 * x)) for x in (said["bottom"], given["current"], said["top"]))
    quantity = CentiBtc(round(100 * given["X"]))
    contract = netted(SHAPES["stable_dollar"].payoff(Ask(strikes=strikes, quantity=quantity)), event())
    # Y is rounded down in the table and Z is what is left of it; the vector has ten digits
    assert abs(contract.writer - said["Y"] * 10**8) < 1.5
    assert abs(contract.holder - said["Z"] * 10**8) < 1.5


def test_the_identities_are_held_in_most_of_their_vectors():
    assert len(IDENTITIES) >= 3


def test_an_amount_that_overflows_the_published_code_is_paid_to_the_satoshi():
    (one,) = [one for one in VECTORS if one["id"] == "rr.overflow"]
    amount, price = one["inputs"]["amount_sat"], one["inputs"]["price_x_1e4"] // 100
    assert amount * price * 100 > 1 << 64
    ask = Ask(
        strikes=(CentsPerBtc(4_000_000), CentsPerBtc(price), CentsPerBtc(6_000_000)), quantity=CentiBtc(amount // 10**6)
    )
    payoff = SHAPES["stable_dollar"].payoff(ask)
    for at in (4_000_000, 4_123_400, 5_000_000, 5_999_900):
        assert amount + payoff.net_at(CentsPerBtc(at)) == amount * price // at


def test_a_range_down_to_nothing_is_refused_and_divides_nothing():
    with pytest.raises(InvalidInputError) as refused:
        SHAPES["stable_dollar"].payoff(Ask(strikes=(CentsPerBtc(0), CentsPerBtc(5_000_000), CentsPerBtc(6_000_000))))
    assert refused.value.field == "strikes"
