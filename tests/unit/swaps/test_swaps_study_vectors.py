"""The appendix's analysis: each number that it prints and each that was derived from it, against the study's.

Source: tests/vectors/swaps/oracleswap.json; the other vectors are test_swaps_vectors.py's and test_swaps_calendar.py's.
"""

import json
import math
from dataclasses import replace
from datetime import date, time, timedelta

import numpy as np
import pytest

from btcfi.swaps.book import INACTIVE_SECONDS, maximum_take
from btcfi.swaps.calendar import POST, instant
from btcfi.swaps.contract import MAX_BASIS_PPM, MAX_TARGET_PPM, Rates, SwapContract
from btcfi.swaps.prices import DAY
from btcfi.swaps.returns import Prices, Side, uncapped_return
from btcfi.swaps.settlement import BOOK_SECONDS, COMPUTE_SECONDS
from btcfi.swaps.study import collar, hedge, provider, verdicts
from btcfi.swaps.study.basis import covered_forward
from btcfi.swaps.study.cheat import Scam, Stopping, burns_at, simulated_stops
from btcfi.swaps.study.collar import Capped, Drift, Pricing
from btcfi.swaps.study.verdicts import Verdict
from tests.support.paths import ROOT

VECTORS = {one["id"]: one for one in json.loads((ROOT / "tests/vectors/swaps/oracleswap.json").read_text())["vectors"]}
PRINTED = {name for name, one in VECTORS.items() if one["document"] is not None}
ROWS = {one.name: one for one in verdicts.verdicts()}
OURS_ALONE = {"lp.table4.volatility", "lp.table4.values", "hedge.fig5"}
"""Numbers that the appendix prints and the vectors have not."""

ENGINE = {
    "pnl.btc.btcusd_long", "pnl.btc.btcusd_short", "pnl.btc.ethusd_long", "pnl.btc.ethbtc_long", "pnl.btc.spx_short",
    "pnl.cap.long_down", "pnl.cap.after_funding", "funding.long_short", "tenpoints", "fee.close.sat", "fee.burn.sat",
    "fee.default.sat", "maxtake.100.100.0", "maxtake.100.0.60", "maxtake.200.80.50", "maxtake.1000.0.0",
}  # fmt: skip
"""Derived ones of test_swaps_vectors.py, with all of ``settle.*``; those of ``cal.*`` are test_swaps_calendar.py's."""

HERE = {
    "basis.cip.printed", "basis.swap_return", "lev.table", "lev.breach_lr2.5", "lev.convex3sigma", "collar.martingale",
    "collar.btc_margin_70", "lp.A18", "cheat.truncmean", "cheat.sd_approx", "cheat.mc", "cheat.gordon.alt",
    "sec8.latency_ms", "funding.min", "maxtake.lp_long100.literal", "maxtake.literal_breaks", "guard.compute_normal",
    "guard.compute_tuesday", "guard.holiday_gap", "guard.late_limit",
}  # fmt: skip
"""Derived ones of this file; a test of each below."""


def derived(name):
    one = VECTORS[name]
    return one["inputs"], one["recomputed"]


def flat(value):
    """Every number of a vector, in its order."""
    if isinstance(value, dict):
        return [one for each in value.values() for one in flat(each)]
    return [one for each in value for one in flat(each)] if isinstance(value, list) else [value]


def test_every_vector_is_somebodys():
    assert set(ROWS) - OURS_ALONE == PRINTED
    rest = {name for name in set(VECTORS) - PRINTED if not name.startswith(("settle.", "cal."))}
    assert rest == ENGINE | HERE
    assert not ENGINE & HERE


def near(values, *, within=2e-9):
    """Numbers within what ten printed digits leave open; words and flags as they are."""
    return [one if isinstance(one, str | bool) else pytest.approx(one, abs=within, rel=2e-9) for one in flat(values)]


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_a_printed_number_is_the_documents_and_ours_the_recomputed_one(name):
    row, one = ROWS[name], VECTORS[name]
    assert list(row.document) == near(one["document"])
    # where a curve is flat, two searches for its top agree to half the digits
    assert list(row.ours) == near(one["recomputed"], within=1e-6 if name == "cheat.best_k" else 2e-9)
    if not isinstance(one["tolerance"], dict) and row.verdict is not Verdict.NOT_REPRODUCIBLE:
        assert list(row.tolerance) == pytest.approx([one["tolerance"]] * len(row.tolerance), abs=1e-9)


NO_DATA = {
    "table1.values", "table1.breaches", "table1.worst_weeks", "table1.breach_weeks", "table1.corr", "spx.tail",
    "spx.collar_hist",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_a_verdict_is_the_vectors(name):
    expected = {"agree": Verdict.AGREES, "document-error": Verdict.ERROR}[VECTORS[name]["status"]]
    if name in NO_DATA | {"collar.btceth"}:
        expected = Verdict.NOT_REPRODUCIBLE
    assert ROWS[name].verdict is expected
    if expected is not Verdict.AGREES:
        assert ROWS[name].note, "a verdict against the document says why"


def test_the_ten_weeks_of_figure_five_are_reproduced():
    assert {name: ROWS[name].verdict for name in OURS_ALONE} == {
        "lp.table4.volatility": Verdict.ERROR, "lp.table4.values": Verdict.AGREES, "hedge.fig5": Verdict.AGREES,
    }  # fmt: skip


def test_covered_parity_is_the_printed_one_inverted():
    given, expected = derived("basis.cip.printed")
    spot, rates = given["S0"], (given["r_us"], given["r_a"])
    assert covered_forward(spot, quote_rate=rates[0], asset_rate=rates[1]) == pytest.approx(expected["F_correct"])
    assert covered_forward(spot, quote_rate=rates[1], asset_rate=rates[0]) == pytest.approx(expected["F_printed"])


def test_a_matched_book_earns_twice_the_target():
    given, expected = derived("basis.swap_return")
    contract = SwapContract(name="A", asset="A", quote="BTC", leverage_hundredths=100)
    rates = Rates(target_ppm=round(given["T"] * 1e6), basis_ppm=round(given["B"] * 1e6))
    ends = Prices(asset=given["C0"], margin=1), Prices(asset=given["C1"], margin=1)
    long, short = (uncapped_return(contract, side, *ends, rates) for side in (Side.LONG, Side.SHORT))
    assert (float(long), float(short)) == pytest.approx((expected["long"], expected["short"]), abs=1e-12)
    assert float(-long - short) == pytest.approx(expected["lp_vs_long_plus_short"], abs=1e-12)


def test_what_each_contracts_leverage_covers():
    given, expected = derived("lev.table")
    for name, volatility in given["vols"].items():
        leverage = given["LR"][name]
        assert {
            "sigma_w": collar.weekly(volatility), "lr_3sigma": collar.covering_leverage(volatility),
            "lr_used": leverage, "sigmas_covered": 1 / (leverage * collar.weekly(volatility)),
        } == pytest.approx(expected[name], rel=1e-8)  # fmt: skip
    given, expected = derived("lev.convex3sigma")
    assert [collar.covering_leverage(one, own=True) for one in given["sigmas"]] == pytest.approx(expected, rel=1e-8)
    given, expected = derived("lev.breach_lr2.5")
    assert collar.breaches(given["LR"]) == pytest.approx((expected["down"], expected["up"]), rel=1e-8)


def test_the_collar_where_the_mean_return_is_zero():
    _, expected = derived("collar.martingale")
    btc, cross, eth = verdicts.TABLE_2
    against = replace(cross, correlation=-0.9)
    found = {
        "eth": collar.collar_value(eth, drift=Drift.RETURN), "btc": collar.collar_value(btc, drift=Drift.RETURN),
        "btceth_eth": collar.collar_value(cross, drift=Drift.RETURN),
        "btceth_usd_rho_plus": collar.in_dollars_of_margin(cross),
        "btceth_usd_rho_minus": collar.in_dollars_of_margin(against),
    }  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-9)
    given, expected = derived("collar.btc_margin_70")
    ours = Capped(name="BTCUSD", pricing=Pricing.OWN, leverage=given["LR"], volatility=given["vol"])
    assert collar.collar_value(ours, drift=Drift.RETURN) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("drift", list(Drift))
@pytest.mark.parametrize("one", verdicts.TABLE_2, ids=lambda one: one.name)
def test_chance_gives_the_closed_forms_collar(one, drift):
    value, error = collar.simulated_collar(one, paths=400_000, generator=np.random.default_rng(20), drift=drift)
    assert 0 < error < 4e-4
    assert abs(value - collar.collar_value(one, drift=drift)) < 4 * error


@pytest.mark.parametrize("drift", list(Drift))
def test_chance_gives_the_crosss_collar_in_dollars(drift):
    cross = verdicts.TABLE_2[1]
    chance = np.random.default_rng(21)
    value, error = collar.simulated_collar(cross, paths=400_000, generator=chance, drift=drift, in_dollars=True)
    assert abs(value - collar.in_dollars_of_margin(cross, drift=drift)) < 4 * error


def test_a_burn_is_cheaper_than_to_stay_a_round_of_thought_before_the_text():
    assert [burns_at(burn=0.25, deviation=one) for one in (1 / 3, 0.25, 0.2)] == [2, 3, 4]


@pytest.mark.parametrize("drift", list(Drift))
def test_a_margin_whose_price_rests_makes_an_asset_in_dollars_one_priced_in_it(drift):
    cross = replace(verdicts.TABLE_2[1], margin_volatility=1e-9, correlation=0.0)
    resting = collar.collar_value(replace(cross, pricing=Pricing.DOLLARS), drift=drift)
    assert resting == pytest.approx(collar.collar_value(cross, drift=drift), abs=1e-12)


def test_a_margin_beyond_reach_makes_no_collar():
    wide = [replace(one, leverage=0.5) for one in verdicts.TABLE_2]
    assert [collar.collar_value(one) for one in wide] == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)
    assert collar.breaches(0.5)[1] == math.inf


def test_marginal_risk_of_an_allocation():
    given, expected = derived("lp.A18")
    one = provider.Provider(holding_volatility=given["sE"], volatility=given["s"], leverage=given["LR"])
    assert provider.marginal_volatility(one, given["w"]) == pytest.approx(expected, abs=1e-9)
    assert provider.marginal_sharpe(one, provider.allocation_at(one, 2.0)) == pytest.approx(2.0, abs=1e-9)


def test_stopping_in_closed_form_and_by_chance():
    given, expected = derived("cheat.truncmean")
    assert [Stopping(k).week_mean for k in given["ks"]] == pytest.approx(expected, rel=1e-8)
    given, expected = derived("cheat.sd_approx")
    for k in given["ks"]:
        one = Stopping(k)
        assert {
            "exact": one.deviation,
            "sqrt_before": math.sqrt(one.weeks_before),
            "sqrt_incl": math.sqrt(one.weeks),
        } == pytest.approx(expected[str(k)], rel=1e-6)
    given, expected = derived("cheat.mc")
    tolerance = VECTORS["cheat.mc"]["tolerance"]
    found = simulated_stops(given["k"], paths=given["N"], generator=np.random.default_rng(given["seed"]))
    for name, value in zip(("mean", "sd", "weeks"), found, strict=True):
        assert value == pytest.approx(expected[name], abs=tolerance[name])


def test_an_annuity_that_pays_after_a_year_of_growth():
    given, expected = derived("cheat.gordon.alt")
    scam = Scam(closes=6 * (1 + given["g"]), discount=given["r"], growth=given["g"])
    assert scam.annuity == pytest.approx(expected)


def test_a_lag_of_ten_seconds_is_a_thousand_of_ten_milliseconds():
    assert timedelta(milliseconds=10_000) / timedelta(milliseconds=10) == derived("sec8.latency_ms")[1]


def test_the_least_funding_is_paid_to_the_taker():
    least = min(
        Rates(target_ppm=target, basis_ppm=basis).funding(long=long)
        for target in (0, MAX_TARGET_PPM) for basis in (-MAX_BASIS_PPM, MAX_BASIS_PPM) for long in (True, False)
    )  # fmt: skip
    assert float(least) == derived("funding.min")[1]


def test_the_printed_formula_of_takes_would_let_a_provider_owe_twice_its_margin():
    given, expected = derived("maxtake.lp_long100.literal")
    position, excess = given["lp_long"] - given["lp_short"], given["margin"] - given["lp_long"]
    assert (excess / 2 - position, excess / 2 + position) == (expected["long"], expected["short"])
    _, broken = derived("maxtake.literal_breaks")
    # takers short, so that the provider is long of that much more
    assert position + expected["short"] == broken["lp_rm"] > broken["margin"]
    assert maximum_take(given["margin"], position, position, Side.SHORT) == 0


def days(first, second):
    """From one time of New York to another, in days."""
    return (instant(*second) - instant(*first)) / DAY


def test_the_guards_pass_ordinary_weeks_and_those_with_a_holiday():
    nine = time(21)
    normal = days((date(2019, 7, 10), nine), (date(2019, 7, 17), POST))
    assert normal == pytest.approx(derived("guard.compute_normal")[1], abs=1e-9)
    short = days((date(2019, 12, 18), nine), (date(2019, 12, 24), POST))
    assert short == pytest.approx(derived("guard.compute_tuesday")[1], abs=1e-9)
    assert BOOK_SECONDS < COMPUTE_SECONDS <= min(normal, short) * DAY
    gap = days((date(2019, 12, 31), nine), (date(2020, 1, 8), nine))
    assert gap == derived("guard.holiday_gap")[1]
    assert gap * DAY < INACTIVE_SECONDS
    latest = instant(date(2019, 12, 24), POST) - COMPUTE_SECONDS
    assert latest == instant(date(2019, 12, 19), time(4, 15))
    assert derived("guard.late_limit")[1] == f"{date(2019, 12, 19):%a} 04:15"


def test_a_hedge_that_is_cured_each_week_is_perfect_and_one_left_alone_is_fair():
    lattice = hedge.Lattice(up=1.2, down=0.7)
    cured = hedge.hedged_paths(lattice, weeks=6, cure=0.0)
    assert np.abs(cured.hedged).max() < 1e-8
    assert cured.reduction == pytest.approx(1.0)
    left = hedge.hedged_paths(lattice, weeks=6, cure=math.inf)
    assert left.cures.max() == 0
    for paths in (cured, left):
        assert paths.probability.sum() == pytest.approx(1.0)
        assert paths.mean(paths.hedged) == pytest.approx(0.0, abs=1e-8)
        assert paths.mean(paths.unhedged) == pytest.approx(0.0, abs=1e-8)
        assert paths.weekly.sum(axis=0) == pytest.approx(paths.hedged)
