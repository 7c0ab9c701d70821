"""Rubin's worked numbers, recomputed by others: risk reversal, bet tree, options. Every vector of the file is run."""

import hashlib
import json
from fractions import Fraction

import pytest

from btcfi.bitcoin.transaction import TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.clauses.bet import NoShow, Outcome, bet, outcome_at
from btcfi.clauses.expiring import ExpiringOption, UnderFundedExpiringOption
from btcfi.clauses.oracle import PreimageSecrets
from btcfi.clauses.risk_reversal import RiskReversal, identity
from btcfi.errors import InvalidInputError
from btcfi.units import Height, Sats
from tests.support.contracts import BUYER, SELLER
from tests.support.paths import ROOT
from tests.support.trees import NOWHERE, SYMBOL, USER, TreeScene

VECTORS = json.loads((ROOT / "tests/vectors/payoffs/rubin.json").read_text(encoding="utf-8"))["vectors"]
U64 = 1 << 64


def dollars(value):
    return Fraction(str(value))


def check_identity(given, said, tolerance):
    X, current, a, b = (dollars(given[name]) for name in ("X", "current", "a", "b"))  # noqa: N806 - the document's
    got = identity(amount=X, current=current, a=a, b=b)
    found = {
        "Y": got.added, "max_btc": X + got.added, "Z": got.gained, "Z_usd": got.gained_usd,
        "value_usd": got.value_usd, "bottom": current - a, "top": current + b,
    }  # fmt: skip
    assert set(found) == set(said)
    for name, value in said.items():
        # ten significant digits are printed
        assert abs(found[name] - dollars(value)) <= max(Fraction(str(tolerance)), abs(found[name]) / 10**9), name


def reversal(given):
    down, up = (tuple(part) for part in given["range"])
    return RiskReversal(amount=Sats(given["amount_sat"]), current=given["current_x_1e4"], down=down, up=up)


def check_table(given, said):
    one = reversal(given)
    assert (one.bottom, one.top, one.max_amount) == (said["bottom"], said["top"], said["max_amount"])
    rows = [[row.level, row.user, row.operator] for row in one.rows()]
    assert len(rows) == one.levels == said["strikes"]
    assert (rows[0], rows[-1]) == (said["first"], said["last"])
    assert said["near_current"] == rows[(given["current_x_1e4"] - one.bottom) // 10_000]
    assert said["mid"] == rows[len(rows) // 2]
    assert all(user + operator == one.max_amount for _, user, operator in rows)
    text = "".join(f"{level},{user},{operator}\n" for level, user, operator in rows)
    assert hashlib.sha256(text.encode()).hexdigest() == said["table_sha256"]
    assert (len(rows) - 1).bit_length() == said["tree_depth"]


def check_overflow(given, said):
    amount, price = given["amount_sat"], given["price_x_1e4"]
    assert amount * price >= U64
    assert "overflow" in said["result"]
    assert (U64 - 1) // price == said["max_sat_at_50000"]
    one = RiskReversal(amount=Sats(amount), current=price, down=(1, 10), up=(1, 10))
    assert one.row(price).user == amount
    assert one.max_amount * one.bottom <= amount * price < (one.max_amount + 1) * one.bottom


def check_division(said):
    assert "division by zero" in said["error"]
    with pytest.raises(InvalidInputError) as refused:
        RiskReversal(amount=Sats(10**8), current=500_000_000, down=(1, 1), up=(1, 10))
    assert refused.value.field == "down"


def two_outcomes(levels, pays, amount):
    secrets = PreimageSecrets(secret=bytes(32))
    return bet(
        amount=Sats(amount), symbol=SYMBOL, oracle=secrets.publish(SYMBOL, levels),
        outcomes=[Outcome(level=level, pays=paid) for level, paid in zip(levels, pays, strict=True)],
        no_show=NoShow(pays=pays[0], after=Height(200), delay=6),
    )  # fmt: skip


def check_single(said):
    one = two_outcomes([50_000], [(TxOut(value=Sats(10_000), script=BUYER.script),)], 10_000)
    ways = {way.name: way for way in one.ways()}
    assert said["gte"] == "leaf"
    assert ways["pay_gte"].into is None
    assert ways["pay_gte"].pays[0].value == 10_000
    assert said["lt"].startswith("none")
    # stuck in the published code: here the no-show always leads out
    assert set(ways) == {"pay_gte", "oracle_no_show"}
    assert one.path_of(50_000) == ("pay_gte",)
    with pytest.raises(InvalidInputError):
        one.path_of(49_999)


def check_restaurant(document, said):
    # two tables of $1,000 each, a dollar a satoshi: reserved with a deposit, or paid for when one comes
    price, fee, table = Sats(1_000), 10, Sats(500)
    pays = (TxOut(value=Sats(price + table), script=BUYER.script),)
    opt = two_outcomes([1, 2], [pays, pays], price + table)
    terms = {
        "party_one": table, "party_two": price, "script_one": SELLER.script, "holder": USER, "opt": opt, "timeout": 150
    }  # fmt: skip
    coin = Coin(outpoint=NOWHERE, output=TxOut(value=price, script=BUYER.script))
    deposits = [ExpiringOption(script_two=BUYER.script, **terms) for _ in range(2)]
    reservations = [UnderFundedExpiringOption(pay_in=coin, **terms) for _ in range(2)]
    for numbers in (document, said):
        assert numbers["deposit"] == sum(one.locked_by_holder for one in deposits)
        assert numbers["no_show"] == fee == price // 100
        assert numbers["upfront"] == sum(one.locked_by_holder + fee for one in reservations)


def check_synthetic(given, document, said):
    locked, step = given["locked"], 1_000
    levels = list(range(step, locked + 1, step))
    pays = [
        tuple(
            TxOut(value=Sats(value), script=script)
            for value, script in ((level, BUYER.script), (locked - level, SELLER.script)) if value
        )
        for level in levels
    ]  # fmt: skip
    one = two_outcomes(levels, pays, locked)
    assert outcome_at(one.outcomes, given["price"]).pays[0].value == document == said == locked
    assert outcome_at(one.outcomes, given["expected"]).pays[0].value == given["expected"]


@pytest.mark.parametrize("one", VECTORS, ids=lambda one: one["id"])
def test_the_published_numbers_are_ours(one):
    given, said = one["inputs"], one["recomputed"]
    kind = one["id"].split(".")[0]
    if kind == "ident":
        check_identity(given, said, one["tolerance"])
    elif "range" in given:
        check_table(given, said)
    elif one["id"] == "rr.overflow":
        check_overflow(given, said)
    elif one["id"] == "rr.div0":
        check_division(said)
    elif one["id"] == "tree.single":
        check_single(said)
    elif kind == "restaurant":
        check_restaurant(one["document"], said)
    elif kind == "synthetic":
        check_synthetic(given, one["document"], said)
    else:
        pytest.fail(f"no road for vector {one['id']}")


def test_a_price_leads_to_the_largest_level_at_or_below_it_and_to_the_ends_beyond_them():
    scene = TreeScene(50)
    for price in scene.prices():
        part = scene.bet
        for name in scene.bet.path_of(price):
            (way,) = [one for one in part.ways() if one.name == name]
            part = way.into
        assert way.pays == outcome_at(scene.bet.outcomes, price).pays
