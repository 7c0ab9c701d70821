"""Options that settle on a window of minutes: premiums and Greeks against sampled paths and against differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from btcfi.options.terms import OptionKind, OptionTerms
from btcfi.oracle.fixing import LeftOut, fix, parse_fixing
from btcfi.pricing import black_scholes
from btcfi.pricing.domain import PricingDomainError
from btcfi.pricing.premium import Book, fixing_codes, premiums
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats, Slot, UnixSeconds
from tests.support.sampled_windows import YEAR, Case, sample

NOW = 1_700_000_040
SPOT = 7_000_000
GREEKS = ("premium", "delta", "gamma", "vega", "theta", "rho")


def quoted(case: Case, *, american=False, words=None, now=NOW, **market):
    expiry = NOW + 60 * case.life
    first = expiry - 60 * (abs(case.minutes) - 1)
    known = {first + 60 * i: round(price * 100) for i, price in enumerate(case.known)} | (words or {})
    book = Book(
        kind=np.array([case.kind], dtype=np.int8),
        strike_cents=np.array([round(case.strike * 100)]),
        expiry_unix=np.array([expiry]),
        barrier_cents=np.array([round(case.barrier * 100)]),
        american=np.array([american]),
        collateral_ratio=np.array([case.cap]) if case.cap else None,
        fixing=np.array([case.minutes]),
    )
    at = {"spot": round(case.spot * 100), "volatility": case.sigma, "rate": case.rate, "now": now} | market
    return premiums(book, **at, known=known)


def premium(case: Case, **more) -> float:
    return float(quoted(case, **more).premium[0])


KNOWN = tuple(round(70_000 + 60 * math.sin(i), 2) for i in range(60))


def width(case_life: int) -> float:
    return 0.6 * math.sqrt(case_life * 60 / YEAR)


@pytest.mark.parametrize(("life", "known"), [(1440, 0), (30, 0), (12, 18), (2, 28)])
@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_a_mean_is_priced_as_sampled_paths_price_it_also_inside_its_window(kind, life, known):
    for moneyness in (0.0, 0.7):
        strike = round(70_000 * math.exp(moneyness * width(life)), 2)
        case = Case(kind=kind, strike=strike, life=life, minutes=30, known=KNOWN[:known])
        expected, error = sample(case, paths=100_000)
        assert premium(case) == pytest.approx(expected, abs=4.5 * error + 1e-5 * 70_000 / 100)


@pytest.mark.parametrize(("life", "known"), [(1440, 0), (90, 0), (20, 10), (3, 27)])
@pytest.mark.parametrize(("kind", "moneyness", "level"), [(0, 0, 1), (1, 0, -1), (3, 0, 1), (2, 0, -1), (0, 1, -1.2)])
def test_a_knock_out_on_a_mean_is_priced_closely_also_inside_its_window(kind, moneyness, level, life, known):
    strike, barrier = (round(70_000 * math.exp(x * width(life)), 2) for x in (moneyness, level))
    case = Case(kind=kind, strike=strike, life=life, minutes=30, known=KNOWN[:known], barrier=barrier)
    expected, error = sample(case, paths=100_000)
    # a tenth of a basis point of the spot, three thousandths of a binary's payout
    assert premium(case) == pytest.approx(expected, abs=4.5 * error + 70_000 * (3e-3 if kind > 1 else 1e-5))


@pytest.mark.parametrize(("life", "known"), [(1440, 0), (100, 0), (60, 0), (30, 0), (12, 18), (2, 28)])
@pytest.mark.parametrize(("kind", "level"), [(0, 0), (1, 0), (2, 0), (0, 1), (3, -1)])
def test_a_median_is_priced_as_sampled_paths_price_it_also_inside_its_window(kind, level, life, known):
    barrier = round(70_000 * math.exp(level * width(life)), 2) if level else 0.0
    case = Case(kind=kind, strike=70_000, life=life, minutes=-30, known=KNOWN[:known], barrier=barrier)
    expected, error = sample(case, paths=100_000)
    assert premium(case) == pytest.approx(expected, abs=4.5 * error + (7 if kind < 2 else 350))


def test_a_put_on_a_mean_stops_at_its_collateral():
    case = Case(kind=1, strike=70_000, life=43_200, minutes=30, cap=1.0, sigma=2.5, spot=40_000.0)
    expected, error = sample(case, paths=200_000)
    assert premium(case) == pytest.approx(expected, abs=4.5 * error)
    assert premium(case) < 0.95 * premium(
        Case(kind=1, strike=70_000, life=43_200, minutes=30, sigma=2.5, spot=40_000.0)
    )


def test_one_known_minute_left_is_the_plain_option_with_its_strike_moved():
    # the last one is a plain option on a thirtieth of a bitcoin, struck where the mean is the strike
    known = KNOWN[:29]
    case = Case(kind=0, strike=70_000, life=1, minutes=30, known=known)
    moved = 30 * 70_000 - sum(known)
    plain = black_scholes.call(spot=70_000, strike=moved, tau_years=60 / YEAR, volatility=0.6, rate=0.04) / 30
    # the payout is converted at the mean, not at the last price: they differ by a fraction of a per cent
    assert premium(case) == pytest.approx(float(plain), rel=2e-3)


def test_a_strike_that_the_known_minutes_have_passed_already_leaves_a_forward():
    case = Case(kind=0, strike=40_000, life=10, minutes=30, known=(70_000.0,) * 20)
    assert premium(case) == pytest.approx(70_000 - 40_000, rel=1e-4)
    assert premium(Case(kind=1, strike=40_000, life=10, minutes=30, known=(70_000.0,) * 20)) == 0.0
    assert premium(Case(kind=2, strike=40_000, life=10, minutes=30, known=(70_000.0,) * 20)) == pytest.approx(
        40_000, rel=1e-4
    )


@pytest.mark.parametrize("minutes", [30, -30, 29, -29])
def test_a_window_that_is_all_known_pays_its_fixing_in_bitcoin(minutes):
    known = KNOWN[: abs(minutes)]
    case = Case(kind=0, strike=69_000, life=0, minutes=minutes, known=known, spot=71_000.0)
    text = f"{'twap' if minutes > 0 else 'median'}:{abs(minutes)}"
    end = Slot(NOW)
    said = {Slot(NOW - 60 * (abs(minutes) - 1 - i)): CentsPerBtc(round(p * 100)) for i, p in enumerate(known)}
    fixed = fix(parse_fixing(text), end, said).price / 100
    assert premium(case) == pytest.approx((fixed - 69_000) / fixed * 71_000, abs=0.02)


def test_minutes_that_do_not_count_are_left_out_and_later_ones_stand_in():
    # 11 of 30 are void: 19 count, and one after the end makes the two thirds
    void = {NOW - 60 * i: LeftOut.VOID for i in range(11)}
    seen = {NOW - 60 * (29 - i): 7_000_000 for i in range(19)}
    case = Case(kind=0, strike=69_000, life=0, minutes=30)
    waiting = premium(case, words=void | seen)
    after = premium(case, words=void | seen | {NOW + 60: 7_400_000}, now=NOW + 60)
    assert waiting == pytest.approx(1_000, abs=1)
    mean = (19 * 70_000 + 74_000) / 20
    assert after == pytest.approx((mean - 69_000) / mean * 70_000, abs=1e-6)


@pytest.mark.parametrize("minutes", [30, -30])
@pytest.mark.parametrize(("life", "known"), [(4000, 0), (300, 0), (20, 10)])
@pytest.mark.parametrize(("kind", "barrier"), [(0, 0.0), (1, 0.0), (2, 0.0), (0, 71_200.0), (3, 71_200.0)])
def test_the_greeks_are_the_slopes_of_the_premium(kind, barrier, life, known, minutes):
    case = Case(kind=kind, strike=70_050, life=life, minutes=minutes, known=KNOWN[:known], barrier=barrier)
    at = quoted(case)
    step = round(0.03 * width(life) * SPOT)
    up, down = (premium(case, spot=SPOT + sign * step) for sign in (1, -1))
    dollars = step / 100
    loose = 0.02 if minutes > 0 else 0.08
    scale = 1 / (70_000 * width(life)) * (70_000 if kind > 1 else 70_000 * width(life))
    assert at.delta[0] == pytest.approx((up - down) / (2 * dollars), rel=loose, abs=loose * scale)
    # a sampled binary's gamma would be the slope of a slope of counts
    assert (kind > 1 and minutes < 0 and life < 100) or at.gamma[0] == pytest.approx(
        (up - 2 * at.premium[0] + down) / dollars**2, rel=5 * loose, abs=5 * loose * scale / (70_000 * width(life))
    )
    vega = (premium(case, volatility=0.606) - premium(case, volatility=0.594)) / 1.2
    rho = premium(case, rate=0.045) - premium(case, rate=0.035)
    if kind > 1 and minutes < 0 and life < 100:
        return  # in the last minutes so small a step moves one of a sampled binary's paths over its strike, or none
    assert at.vega[0] == pytest.approx(vega, rel=0.02, abs=1e-3 * at.premium[0])
    assert at.rho[0] == pytest.approx(rho, rel=0.02, abs=1e-3 * at.premium[0])
    # a second's decay, told of a day
    theta = (premium(case, now=NOW + 3) - premium(case, now=NOW)) / 3 * 86_400
    assert at.theta[0] == pytest.approx(
        theta, rel=0.05, abs=0.01 * abs(theta) + 0.02 * abs(at.premium[0]) * 1440 / life
    )


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_an_american_option_on_a_mean_is_worth_no_less_than_the_european_and_a_binary_no_more_than_its_strike(kind):
    for life, known in ((4000, 0), (60, 0), (20, 10)):
        for strike in (66_000, 70_000, 74_000):
            case = Case(kind=kind, strike=strike, life=life, minutes=30, known=KNOWN[:known])
            early = premium(case, american=True)
            assert early >= premium(case) - 1e-9
            if kind > 1:
                assert early <= strike


def test_a_fixing_of_one_minute_prices_as_no_fixing():
    terms = {
        "kind": OptionKind.CALL, "strike": CentsPerBtc(7_100_000), "quantity": CentiBtc(100), "barrier": None,
        "american": False, "expiry": Slot(NOW + 86_400), "premium": Cents(0), "collateral": Sats(10**8),
    }  # fmt: skip
    options = [OptionTerms(**terms, fixing=f) for f in (None, parse_fixing("minute"), parse_fixing("twap:30"))]
    book = Book.of(options)
    assert book.fixing.tolist() == [0, 0, 30]
    first, second, third = premiums(book, spot=CentsPerBtc(SPOT), volatility=0.6, now=UnixSeconds(NOW)).premium
    assert first == second
    assert first == black_scholes.call(spot=70_000, strike=71_000, tau_years=1 / 365, volatility=0.6)
    assert 0.97 * first < third < first


def test_a_book_of_another_window_is_refused():
    assert fixing_codes([parse_fixing("median:5"), None]).tolist() == [-5, 0]
    for wrong in (1, -1, 61, -61):
        with pytest.raises(PricingDomainError, match="fixing"):
            premium(Case(kind=0, strike=70_000, life=100, minutes=wrong))


def test_a_median_that_is_looked_at_before_its_window_is_within_three_hundredths_of_what_is_sampled():
    now, minutes = 1_790_000_040, 60
    book = Book(
        kind=np.array([0, 1, 0], dtype=np.int8), strike_cents=np.full(3, 6_990_000, dtype=np.int64),
        expiry_unix=np.full(3, now + 70 * 60, dtype=np.int64),
        barrier_cents=np.array([0, 0, 7_100_000], dtype=np.int64),
        american=np.zeros(3, dtype=np.bool_), fixing=np.full(3, -minutes, dtype=np.int64),
    )  # fmt: skip
    exact, looked = (
        premiums(book, spot=CentsPerBtc(7_000_000), volatility=0.62, rate=0.03, now=UnixSeconds(now), sampled=sampled)
        for sampled in (True, False)
    )
    np.testing.assert_allclose(looked.premium, exact.premium, rtol=0.03)
    assert (looked.premium != exact.premium).all(), "it is another way"
