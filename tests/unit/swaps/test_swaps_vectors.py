"""The worked numbers of the published appendix that the engine computes: profits, data points, takes, fees, weeks.

Source: tests/vectors/swaps/oracleswap.json, made from the appendix with each of its errors named.
"""

import json
from fractions import Fraction
from types import MappingProxyType

import pytest

from btcfi.swaps.book import Book, BookStatus, Subcontract, SubcontractStatus, maximum_take
from btcfi.swaps.contract import Rates, SwapContract, burn_fee, close_fee, default_fee
from btcfi.swaps.prices import PriceBoard, Start
from btcfi.swaps.returns import PRICE_UNIT, Prices, Side, taker_profit, taker_return, uncapped_return
from btcfi.swaps.settlement import WeekReturns, compute_returns, settle
from tests.support.paths import ROOT

VECTORS = {one["id"]: one for one in json.loads((ROOT / "tests/vectors/swaps/oracleswap.json").read_text())["vectors"]}
MICRO = 10_000
"""Parts per million in a hundredth."""


def vector(name):
    one = VECTORS[name]
    return one["inputs"], one["recomputed"], one["tolerance"]


def contract_of(given, *, quote="USD"):
    return SwapContract(
        name=f"A{quote}", asset="A", quote=quote, leverage_hundredths=round(given["LR"] * 100)
    )  # fmt: skip


def millionths(value):
    return round(Fraction(str(value)) * PRICE_UNIT)


def prices_of(given, when, *, own=False):
    margin = given.get(f"M{when}", 1)
    return Prices(asset=millionths(margin if own else given[f"A{when}"]), margin=millionths(margin))


def rates_of(given, side):
    """The rates of which a side pays the rate that is given."""
    ppm = round(Fraction(str(given.get("f", 0))) * 1_000_000)
    return Rates(target_ppm=max(ppm, 0), basis_ppm=0) if ppm >= 0 else Rates(target_ppm=0, basis_ppm=side * ppm)


def profit_of(given, *, own=False, quote="USD", capped=True):
    side = Side(given.get("side", 1))
    measure = taker_return if capped else uncapped_return
    part = measure(
        contract_of(given, quote=quote), side, prices_of(given, 0, own=own), prices_of(given, 1, own=own),
        rates_of(given, side),
    )  # fmt: skip
    return float(part) * given["RM"]


@pytest.mark.parametrize("name", ["pnl.ex1.taker", "pnl.ex1.if_0.25pct", "pnl.ex2.taker", "pnl.ex3.taker"])
def test_the_appendix_examples_of_assets_in_dollars(name):
    given, expected, tolerance = vector(name)
    assert profit_of(given) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("name", ["pnl.ex4.taker.fixed", "pnl.btc.ethbtc_long"])
def test_an_asset_priced_in_the_margin_needs_no_exchange(name):
    given, expected, tolerance = vector(name)
    assert profit_of(given, quote="BTC") == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("name", ["pnl.btc.btcusd_long", "pnl.btc.btcusd_short"])
def test_the_margins_own_asset_is_convex(name):
    given, expected, tolerance = vector(name)
    assert profit_of(given, own=True) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("name", ["pnl.btc.ethusd_long", "pnl.btc.spx_short"])
def test_other_assets_margined_in_bitcoin(name):
    given, expected, tolerance = vector(name)
    assert profit_of(given) == pytest.approx(expected, abs=tolerance)


def test_the_cap_is_after_funding():
    given, expected, _ = vector("pnl.cap.after_funding")
    side_rates = Rates(target_ppm=10_000, basis_ppm=20_000)
    ends = prices_of(given, 0), prices_of(given, 1)
    assert float(uncapped_return(contract_of(given), Side.LONG, *ends, side_rates)) == expected["raw"]
    assert taker_return(contract_of(given), Side.LONG, *ends, side_rates) == expected["capped"]
    given, expected, _ = vector("pnl.cap.long_down")
    assert profit_of(given, own=True, capped=False) == expected["raw"]
    assert profit_of(given, own=True) == expected["capped"]


def test_a_long_pays_target_plus_basis_and_a_short_target_less_basis():
    given, expected, _ = vector("funding.long_short")
    rates = Rates(target_ppm=round(given["T"] * 1e6), basis_ppm=round(given["B"] * 1e6))
    assert float(rates.funding(long=True)) == pytest.approx(expected["long"], abs=1e-12)
    assert float(rates.funding(long=False)) == pytest.approx(expected["short"], abs=1e-12)


def test_the_ten_data_points_of_a_week():
    given, expected, tolerance = vector("tenpoints")
    contract = contract_of(given)
    rates = Rates(target_ppm=round(given["T"] * 1e6), basis_ppm=round(given["B"] * 1e6))
    days = [
        {contract.name: Prices(asset=millionths(a), margin=millionths(m))}
        for a, m in zip(given["A"], given["M"], strict=True)
    ]
    end = {contract.name: Prices(asset=millionths(given["A_e"]), margin=millionths(given["M_e"]))}
    board = PriceBoard(week=7, slots=(MappingProxyType(end),), last_week=tuple(map(MappingProxyType, days)))
    found = compute_returns(contract, board, rates, now=0)
    assert (found.week, len(found.parts)) == (6, 10)
    for slot, pair in expected.items():
        assert float(found.parts[int(slot), Side.LONG]) == pytest.approx(pair[0], abs=tolerance)
        assert float(found.parts[int(slot), Side.SHORT]) == pytest.approx(pair[1], abs=tolerance)


FORMULAS = [name for name, one in VECTORS.items() if name.startswith("maxtake.") and "long=max(0" in one["formula"]] + [
    "maxtake.flat"
]
"""The text's own formula, taken literally, would let a provider double up (C19)."""


@pytest.mark.parametrize("name", FORMULAS)
def test_the_largest_take(name):
    given, expected, _ = vector(name)
    position = given["lp_long"] - given["lp_short"]
    margin, required = given["margin"], abs(position)
    assert maximum_take(margin, required, position, Side.LONG) == expected["long"]
    assert maximum_take(margin, required, position, Side.SHORT) == expected["short"]


def test_the_fees():
    given, expected, _ = vector("fee.close.sat")
    assert [close_fee(one) for one in given["RM_sat"]] == expected
    given, expected, _ = vector("fee.burn.sat")
    assert [burn_fee(one) for one in given["RM_sat"]] == expected
    given, expected, _ = vector("fee.default.sat")
    assert [default_fee(given["RM_sat"], one) for one in given["margin_sat"]] == expected


WEEK, DAYS = 3, 5


def book_of(given):
    subcontracts = {}
    for number, one in enumerate(given["subs"], 1):
        subcontracts[number] = Subcontract(
            number=number, taker=one["id"], side=Side(one["side"]), required=one["rm"], margin=one["margin"],
            taken_at=0, start=Start(WEEK, one["start"]), status=SubcontractStatus.ACTIVE,
            settled_once=one["start"] == 0, cancelled_by=one["id"] if one.get("cancel") else None,
            taker_burned=one.get("taker_burn", False), provider_burned=one.get("lp_burn", False),
        )  # fmt: skip
    book = Book(
        contract="AUSD", provider="lp", margin=given["lp_margin"], minimum_take=1, last_settle_at=0,
        subcontracts=MappingProxyType(subcontracts),
    )  # fmt: skip
    unsettled = sum(one.required for one in subcontracts.values() if not one.settled_once)
    return Book(**{name: getattr(book, name) for name in Book.__slots__} | {"netted": given["lp_rm"] - unsettled})


def returns_of(rates):
    parts = {(day, side): Fraction(0) for day in range(DAYS) for side in Side}
    for day, pair in rates.items():
        parts |= {(int(day), Side.LONG): Fraction(pair[0]), (int(day), Side.SHORT): Fraction(pair[1])}
    capped = {key: max(Fraction(-1), min(Fraction(1), part)) for key, part in parts.items()}
    return WeekReturns(
        week=WEEK, days=DAYS, rates=Rates(target_ppm=0, basis_ppm=0), computed_at=0, parts=MappingProxyType(capped)
    )


@pytest.mark.parametrize(
    "name", sorted(name for name in VECTORS if name.startswith("settle.") and "book" in VECTORS[name]["inputs"])
)
def test_a_week_of_a_book(name):
    given, expected, _ = vector(name)
    book, returns = book_of(given["book"]), returns_of(given["rates"])
    outcome = settle(book, returns, now=9)
    after = outcome.book
    assert after.margin == expected["lp_margin"]
    assert after.required == expected["lp_rm"]
    assert (after.status is BookStatus.PROVIDER_DEFAULTED) == expected["lp_defaulted"]
    assert outcome.burned == expected["burned"]
    assert sum(amount for _, amount in outcome.credits) == expected["oracle_fees"]
    for number, one in enumerate(expected["subs"], 1):
        found = after.subcontracts[number]
        assert (found.margin, found.status.value) == (one["margin"], one["status"])
        assert outcome.events[0].fields["profits_sats"][number] == one["pnl"]


def test_rounding_is_down_for_takers_and_never_costs_a_matched_book():
    assert taker_profit(7, Fraction(1, 3)) == 2
    assert taker_profit(7, Fraction(-1, 3)) == -3
