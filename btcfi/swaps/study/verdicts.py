"""Each number that the appendix prints beside ours, computed from what it says it is, and what that shows.

A number agrees if ours is within its printed digits. One that does not is an error in the document, unless no reading
of it that we found gives the number, or its data is not here: those are not reproducible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, time
from enum import StrEnum
from fractions import Fraction
from functools import partial
from typing import Final

from btcfi.swaps.book import maximum_take
from btcfi.swaps.calendar import POST, day_of, instant, start_day
from btcfi.swaps.contract import MAX_BASIS_PPM, MAX_TARGET_PPM, MILLION, Rates, SwapContract, close_fee
from btcfi.swaps.prices import HOUR, POST_SECONDS
from btcfi.swaps.returns import PRICE_UNIT, Prices, Side, uncapped_return
from btcfi.swaps.study.basis import covered_forward
from btcfi.swaps.study.cheat import Scam, Stopping, best_stop, expected_overcharge
from btcfi.swaps.study.collar import WEEKS, Capped, Pricing, breaches, collar_value, covering_leverage, weekly
from btcfi.swaps.study.hedge import Lattice, hedged_paths, lognormal_lattice, short_profit
from btcfi.swaps.study.provider import Provider, allocation_at, marginal_sharpe, marginal_volatility
from btcfi.units import Sats

Value = float | str | bool


class Verdict(StrEnum):
    """What a printed number is worth."""

    AGREES = "agrees"
    ERROR = "error in the document"
    NOT_REPRODUCIBLE = "not reproducible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """A number, or a few that belong together, that the appendix prints."""

    name: str
    section: str
    says: str
    """What it is, in words or as a formula."""
    document: tuple[Value, ...]
    ours: tuple[Value, ...]
    tolerance: tuple[float, ...]
    """Of each: what its printed digits leave open."""
    verdict: Verdict
    note: str = ""


TABLE_2: Final = (
    Capped(name="BTC", pricing=Pricing.DOLLARS, leverage=2.5, volatility=0.7, margin_volatility=1.0, correlation=0.9),
    Capped(name="BTCETH", pricing=Pricing.MARGIN, leverage=2.5, volatility=0.7, margin_volatility=1.0, correlation=0.9),
    Capped(name="ETH", pricing=Pricing.OWN, leverage=2.0, volatility=1.0),
)
"""The contracts and assumptions of Table 2, margined in ether."""

NO_DATA: Final = "its weekly prices are in the author's workbook, which is not here; ours as computed from it once"


def example(
    side: Side, *, asset: tuple[float, float], margin: tuple[float, float] = (1.0, 1.0), funding: float = 0.0,
    leverage: float = 2.5, required: float = 10.0, in_margin: bool = False,
) -> float:  # fmt: skip
    """Return a taker's profit in the margin by the engine's own formula, before the cap. Pairs: start, then end."""
    contract = SwapContract(
        name="example", asset="A", quote="BTC" if in_margin else "USD", leverage_hundredths=round(leverage * 100)
    )
    rates = Rates(target_ppm=round(funding * MILLION), basis_ppm=0)
    start, end = (
        Prices(asset=_millionths(one), margin=_millionths(other)) for one, other in zip(asset, margin, strict=True)
    )
    return float(uncapped_return(contract, side, start, end, rates) * Fraction(str(required)))


def _millionths(price: float) -> int:
    return round(Fraction(str(price)) * PRICE_UNIT)


def _row(  # noqa: PLR0917 - a table's columns
    name: str, section: str, says: str, document: Value | Sequence[Value], ours: Value | Sequence[Value],
    tolerance: float | Sequence[float] = 1e-9, *, note: str = "", reproducible: bool = True,
) -> Printed:  # fmt: skip
    printed, found = _several(document), _several(ours)
    within = (tolerance,) * len(printed) if isinstance(tolerance, int | float) else tuple(tolerance)
    agrees = all(_agree(*each) for each in zip(printed, found, within, strict=True))
    verdict = Verdict.AGREES if agrees else Verdict.ERROR
    return Printed(
        name=name, section=section, says=says, document=printed, ours=found, tolerance=within, note=note,
        verdict=verdict if reproducible else Verdict.NOT_REPRODUCIBLE,
    )  # fmt: skip


def _several(value: Value | Sequence[Value]) -> tuple[Value, ...]:
    return (value,) if isinstance(value, float | int | str) else tuple(value)


def _agree(printed: Value, found: Value, tolerance: float) -> bool:
    if isinstance(printed, str | bool) or isinstance(found, str | bool):
        return printed == found
    return abs(printed - found) <= tolerance * (1.0 + 1e-9) + 1e-12


def verdicts() -> list[Printed]:
    """Return every number, in the appendix's order."""
    return [*_profits(), *_basis_and_leverage(), *_caps(), *_providers(), *_hedges(), *_cheats(), *_rules()]


def _profits() -> list[Printed]:
    """Section 2: the worked examples."""
    bitcoin = partial(example, Side.SHORT, asset=(4000.0, 5000.0))
    first = bitcoin(margin=(150.0, 175.0), funding=0.0015)
    second = bitcoin(margin=(150.0, 130.0), funding=0.0015)
    dear = bitcoin(margin=(150.0, 175.0), funding=0.0025)
    third = example(Side.LONG, asset=(2815.0, 2850.0), margin=(150.0, 155.0), funding=0.0004, leverage=10.0)
    fourth = example(Side.LONG, asset=(32.25809, 28.57144), in_margin=True)
    notional = 10 * 2.5 * 150
    return [
        _row("pnl.tesla", "2", "10 shares from 270 to 275: profit, notional, return", (50, 2700, 0.0185),
             (10 * (275 - 270), 10 * 270, 275 / 270 - 1), 5e-5),
        _row("pnl.ex1.notional", "2, example 1", "RM * LR * ETH", 3750, notional),
        _row("pnl.ex1.taker", "2, example 1", "Bob's profit, A.4, at 0.15 % a week", -5.389, first, 5e-4),
        _row("pnl.ex1.lp", "2, example 1", "Alice's, A.5", 5.389, -first, 5e-4),
        _row("pnl.ex1.usd", "2, example 1", "Bob's in dollars", -943.13, first * 175, 0.006),
        _row("pnl.ex1.roe_usd", "2, example 1", "Bob's on his notional", -0.2515, first * 175 / notional, 5e-5),
        _row("pnl.ex1.funding_annualised", "2, example 1", "0.25 % a week, a year", 0.078, 0.0025 * WEEKS, 5e-4,
             note="C1: the text pairs 0.25 % with 7.8 %; the arithmetic is of 0.15 %"),
        _row("pnl.ex1.funding_annualised.fixed", "2, example 1", "0.15 % a week, a year", 0.078, 0.0015 * WEEKS, 5e-4),
        _row("pnl.ex1.if_0.25pct", "2, example 1", "Bob's profit at the rate in the text", -5.389, dear, 5e-4,
             note="C1"),
        _row("pnl.ex2.taker", "2, example 2", "Bob's profit", -7.255, second, 5e-4),
        _row("pnl.ex2.roe_usd", "2, example 2", "Bob's on his notional", -0.2515, second * 130 / notional, 5e-5),
        _row("pnl.ex2.cross", "2, example 2", "ETH in BTC", 0.035, 130 / 5000, 5e-4,
             note="C2: 0.035 is example 1's, 175/5000"),
        _row("pnl.ex3.notional", "2, example 3", "RM * LR * ETH", 15000, 10 * 10 * 150),
        _row("pnl.ex3.taker", "2, example 3", "Bob's profit", 1.165, third, 5.5e-4),
        _row("pnl.ex3.roe_usd", "2, example 3", "Bob's on his notional", 0.012, third * 155 / 15000, 5e-5),
        _row("pnl.ex3.asset_return", "2, example 3", "the index's return", 0.0124, 2850 / 2815 - 1, 5e-5),
        _row("pnl.ex3.funding_annualised", "2, example 3", "0.04 % a week, a year", 0.02, 0.0004 * WEEKS, 1e-3),
        _row("pnl.ex4.A0", "2, example 4", "BTC in ETH, first", 32.258, 4838.71 / 150, 5e-4),
        _row("pnl.ex4.A1", "2, example 4", "BTC in ETH, second", 28.57144, 4571.43 / 160, 1e-5),
        _row("pnl.ex4.notional_eth", "2, example 4", "RM * LR", 25, 10 * 2.5),
        _row("pnl.ex4.taker", "2, example 4", "Bob's profit, as printed", 2.857, fourth, 5e-4,
             note="C3: the sign; a long loses as BTC falls"),
        _row("pnl.ex4.taker.fixed", "2, example 4", "Bob's profit", -2.857, fourth, 5e-4),
        _row("pnl.ex4.lp_sign", "2, example 4", "Alice's return is negative", document=True, ours=-fourth < 0.0,
             note="C3: she is short, and BTC fell"),
        _row("pnl.ex4.roe_usd", "2, example 4", "Bob's in dollars on his notional", -0.1219,
             fourth * 160 / (25 * 150), 5e-5),
        _row("pnl.ex4.usd_notional", "2, example 4", "RM * LR * BTCETH, as the text has it", 3750,
             10 * 2.5 * 32.25809, 1, note="C3: it is RM * LR * ETHUSD"),
        _row("pnl.ex4.roe_eth.as_printed", "2, example 4", "-2.857 * 0.035 / 25", -0.1143, -2.857 * 0.035 / 25, 5e-5,
             note="C3: a stray factor of 0.035"),
        _row("pnl.ex4.roe_eth", "2, example 4", "Bob's in ETH on his notional", -0.1143, fourth / 25, 5e-5),
    ]  # fmt: skip


def _basis_and_leverage() -> list[Printed]:
    """Sections 3 and 3.2."""
    down, up = breaches(2.0)
    return [
        _row("basis.sign", "3, A.11 and A.14", "the basis of r = 2.4 %, by both", (0.024, -0.024),
             (math.log(1.0 / covered_forward(1.0, quote_rate=0.024, asset_rate=0.0)), -0.024), 1e-3,
             note="C7: A.11 is inverted; the basis is future less spot, and A.13 stands"),
        _row("lev.weekly_vol", "3.2", "100 % a year, a week", 0.14, weekly(1.0), 5e-3),
        _row("lev.three_sigma", "3.2", "three of them", 0.42, 3 * weekly(1.0), 5e-3),
        _row("lev.ratio", "3.2", "the leverage that they allow", 2.4, covering_leverage(1.0), 0.05),
        _row("lev.usd_exposure", "3.2, A.15", "dollars at ETH 180 over those at 100", 2, 180 / 100,
             note="C5: 180 is a mangled 200"),
        _row("lev.usd_exposure.fixed", "3.2, A.15", "dollars at ETH 200 over those at 100", 2, 200 / 100),
        _row("lev.breach_down", "3.2, A.17", "ETH's fall at which a long owes all", -1 / 3, down),
        _row("lev.breach_up", "3.2, A.17", "ETH's rise at which a short owes all", 1.0, up),
        _row("lev.owes_more", "3.2", "how much more ETH a long owes after that fall", 0.5, 1.0 / (1.0 + down) - 1.0),
        _row("lev.eth300", "3.2", "100 dollars in ETH at 300", 33.33, 100 / 300, 0.01, note="C5: of 10,000 dollars"),
        _row("lev.eth180", "3.2", "100 dollars in ETH at 180", 50, 100 / 180, 0.01, note="C5: of 10,000, at 200"),
        _row("lev.eth_fixed", "3.2", "10,000 dollars in ETH at 300, at 200", (33.33, 50),
             (10000 / 300, 10000 / 200), 0.01),
    ]  # fmt: skip


def _caps() -> list[Printed]:
    """Tables 1 and 2, the index, and section 4."""
    btc, cross, eth = TABLE_2
    return [
        _recorded("table1.values", "Table 1", "return, capped, collar of SPX, BTC, BTCETH, ETH",
                  (0.119, 0.119, 0.0, 1.256, 1.256, 0.0, -0.435, -0.386, 0.05, 1.691, 1.667, -0.024),
                  (0.1185032903, 0.1185032903, 0.0, 1.256098346, 1.256098346, 0.0, -0.4352065482, -0.3855894278,
                   0.04961712041, 1.691304894, 1.667072353, -0.02423254057), 1.1e-3),
        _recorded("table1.breaches", "3.2", "weeks beyond the margin, and of how many", (4, 652), (4, 680), 0,
                  note="C6: 652 is four times the 163 weeks to 2019-05-01, the table has four times 170"),
        _recorded("table1.worst_weeks", "3.2", "worst week of ETH, of BTCETH", (-0.32, -0.3),
                  (-0.3300187283, -0.4814882072), 6e-3, note="C6"),
        _recorded("table1.breach_weeks", "3.2", "ETH's weeks of the breaches; BTC's and ETH's of the other",
                  (1.05, 1.1, 0.39, -0.02), (1.0506, 1.1078, 0.3875, -0.0158), 0.01),
        _recorded("table1.corr", "3.2", "correlation of capped and uncapped", 0.999, 0.9995893572, 1e-3),
        _recorded("spx.tail", "3.2", "weeks of SPX since 1950 beyond 10 %, beyond 11 %; the worst", (7, 2, -0.25),
                  (8, 5, -0.1819546525), 1e-3, note="C8"),
        _recorded("spx.collar_hist", "3.2", "SPX's collar a year, from those weeks", 0.0025, 0.0007468577014, 2e-4,
                  note="C8"),
        _row("table1.internal", "Table 1", "its collar row from its other two: SPX, BTC, BTCETH, ETH",
             (0.0, 0.0, 0.05, -0.024),
             (0.119 - 0.119, 1.256 - 1.256, round(-0.386 + 0.435, 3), round(1.667 - 1.691, 3)), 1.1e-3),
        _row("spx.collar_arith", "3.2", "two truncations of 5 % in 69 years", 0.0025, 2 * 0.05 / 69, 2e-4, note="C8"),
        _row("spx.trunc", "3.2", "what a cap of 10 % cuts off a fall of 25 %", 0.05, 0.25 - 0.10, note="C8"),
        _row("collar.eth", "Table 2", "ETH's collar a year, zero mean logarithm", 0.0036, collar_value(eth), 3.6e-4,
             note="C9: with a zero mean return it is another number, see the study's table"),
        _row("collar.btc", "Table 2", "BTC's collar a year, zero mean logarithm", 0.0011, collar_value(btc), 1.8e-4,
             note="C9"),
        _row("collar.btceth", "Table 2", "BTCETH's collar a year", 0.00002, collar_value(cross), 3e-5,
             reproducible=False, note="C9: every reading that we tried is below zero"),
        _row("sec4.six_month_margin", "4", "margin of six months over a week's", 5, math.sqrt(26), 0.15),
        _row("sec4.tail_days", "4", "four days at -10 % a year", -0.001, -0.10 * 4 / 365, 2e-4),
        _row("sec4.tail_days6", "4", "six days at -10 % a year", -0.001, -0.10 * 6 / 365, 2e-4,
             note="C17: the text has four days first, then six"),
        _row("sec4.ratio", "4", "that over three months at 10 %", 0.04, 0.001 / (0.10 * 3 / 12)),
    ]  # fmt: skip


def _recorded(  # noqa: PLR0917 - as above
    name: str, section: str, says: str, document: Value | Sequence[Value], ours: Value | Sequence[Value],
    tolerance: float, *, note: str = "",
) -> Printed:  # fmt: skip
    """Return a row of data that we do not have: what was computed from it once, and no claim of our own."""
    told = f"{note}; {NO_DATA}" if note else NO_DATA
    return _row(name, section, says, document, ours, tolerance, note=told, reproducible=False)


def _providers() -> list[Printed]:
    """Section 5."""
    one = Provider()
    total = 300_000 * (one.holding_volatility + marginal_volatility(one, 0.25))
    marginal, revenue = total - 225_000, one.target * 937_500
    table = 30_000 * (one.holding_volatility + marginal_volatility(one, 0.25))
    return [
        _row("lp.3a.example_ratio", "Table 3a", "gross over net of 500 against 250", 5, (500 + 250) / (500 - 250),
             note="C10: of 750 against 500"),
        _row("lp.3a.example_ratio.fixed", "5", "gross over net of 750 against 500", 5, (750 + 500) / (750 - 500)),
        _row("lp.3b.exposure", "Table 3b", "dollars of BTC", 187_500, 250 * 2.5 * 300),
        _row("lp.3c.total", "Table 3c", "the whole risk in dollars", 260_483, total, 1),
        _row("lp.3c.formula_as_printed", "Table 3c", "by its formula as printed", 260_483,
             math.sqrt(0.75**2 * 300_000 + 0.70**2 * 187_500**2), 1, note="C11: a square is missing"),
        _row("lp.3c.vol_text", "5", "by the text's 50 %", 260_483,
             300_000 * (0.75 + marginal_volatility(replace(one, volatility=0.5), 0.25)), 1,
             note="C11: the numbers have 70 %"),
        _row("lp.marginal", "5", "what it adds", 35_483, marginal, 1),
        _row("lp.standalone", "5", "the position by itself", 131_250, 0.70 * 187_500),
        _row("lp.book_usd", "5", "the book's notional in ETH, in dollars", (3125, 937_500),
             (250 * 5 * 2.5, 250 * 5 * 2.5 * 300)),
        _row("lp.revenue", "5", "6 % of it", 35_483, revenue, 1, note="C12: a copy of the risk"),
        _row("lp.sharpe.as_printed", "5", "35,483 / 35,483", 1.59, 35_483 / 35_483, 0.01, note="C12"),
        _row("lp.sharpe", "5", "56,250 / 35,483", 1.59, revenue / marginal, 0.006),
        _row("lp.table4.ratio", "Table 4", "gross over net of 50 against 30", 5, (50 + 30) / (50 - 30),
             note="C10: of 75 against 50"),
        _row("lp.table4.volatility", "Table 4", "BTC's volatility, of its other numbers", 0.75, 13_125 / 18_750,
             0.005, note="C11"),
        _row("lp.table4.values", "Table 4", "value, risk; BTC notional, its risk; both, marginal; revenue",
             (30_000, 22_500, 18_750, 13_125, 26_048, 3_548, 5_625),
             (100 * 300, 30_000 * one.holding_volatility, 25 * 2.5 * 300, 18_750 * one.volatility, table,
              table - 22_500, 5 * 25 * 2.5 * 300 * one.target), 0.5),
        _row("lp.sharpe_formula", "Table 4", "the marginal Sharpe ratio at 25 %", 1.59, marginal_sharpe(one, 0.25),
             0.006),
        _row("lp.fig2.claim", "Figure 2", "the allocation below which it is above 2, at 5:1, at 3:1", (0.25, 0.25),
             (allocation_at(one, 2.0), allocation_at(replace(one, gross_to_net=3.0), 2.0)), 0.01, note="C13"),
        _row("lp.zero_cov", "5", "covariance of x and of x with a side of chance", 0, 0.5 * 1.0 + 0.5 * -1.0),
    ]  # fmt: skip


def _hedges() -> list[Printed]:
    """Section 6."""
    two = Lattice(up=4 / 3, down=3 / 4)
    cured = hedged_paths(two, weeks=2, cure=0.0).weekly
    left = hedged_paths(two, weeks=2, cure=math.inf).weekly[1]
    ten = hedged_paths(lognormal_lattice(1.0), weeks=10, cure=0.35)
    p = two.probability
    # paths by number: down-down 0, down-up 1, up-down 2, up-up 3
    nodes = (3, 2, 1, 0)
    return [
        _row("hedge.p", "6, A.19", "the fair probability of up", 3 / 7, p),
        _row("hedge.p.as_printed", "6, A.19", "(1 - 1/4) / (4/3 - 3/4)", 3 / 7, (1 - 1 / 4) / (4 / 3 - 3 / 4),
             note="C14: 1 - 3/4"),
        _row("hedge.pnl", "6, A.21", "a short's profit in ETH, up, down", (-25, 33.33),
             (short_profit(100, 4 / 3), short_profit(100, 3 / 4)), 5e-3),
        _row("hedge.fig3", "Figure 3", "cured each week: the profit of both weeks, of four paths", (0.0,) * 8,
             [float(cured[week][node]) for node in nodes for week in (0, 1)]),
        _row("hedge.fig4", "Figure 4", "left alone: the second week's profit", (-1111, 833, 833, -625),
             [float(left[node]) for node in nodes], 0.5),
        _row("hedge.fig4.expect", "6", "what it is expected to be after up, after down", (0, 0),
             (p * float(left[3]) + (1 - p) * float(left[2]), p * float(left[1]) + (1 - p) * float(left[0]))),
        _row("hedge.fig5", "Figure 5", "ten weeks, cured beyond 35 %: volatility gone, cures", (0.85, 1),
             (ten.reduction, ten.mean(ten.cures)), (0.05, 0.5)),
    ]  # fmt: skip


def _cheats() -> list[Printed]:
    """Section 7 and the endnote."""
    far, first, half, quarter = (Stopping(k) for k in (-2.5, 0.0, -0.5, -0.25))
    scam, best = Scam(), Stopping(best_stop())
    return [
        _row("cheat.0.4", "7.1", "the mean of a profit that is no loss", 0.4, expected_overcharge(1), 2e-3),
        _row("cheat.fn5_chain", "7.1, footnote 5", "E(x|x>0), which it equates with it", 0.4, first.week_mean, 2e-3,
             note="C15"),
        _row("cheat.ladder", "7.1", "one, two, three rounds of thought", (0.4, 0.8, 1.2),
             [expected_overcharge(level) for level in (1, 2, 3)], 5e-3,
             note="C15: a burn is cheaper from the second on, a round before the text"),
        _row("cheat.k-2.5", "7.2", "leaving at -2.5: weeks, mean, deviation, both ends", (161, 2.8, 12.7, 15.5, -9.9),
             (far.weeks, far.mean, far.deviation, far.mean + far.deviation, far.mean - far.deviation),
             (0.1, 0.05, 0.05, 0.05, 0.05)),
        _row("cheat.endnote_periods", "endnote", "(1 - Phi) / Phi at -2.5", 161, far.weeks_before, 0.1,
             note="C15: 1/Phi"),
        _row("cheat.k0", "endnote", "phi, Phi, mean at 0", (0.399, 0.5, 0.8), _triple(first), 3e-3),
        _row("cheat.k-0.5", "endnote", "phi, Phi, mean at -0.5", (0.386, 0.401, 0.96), _triple(half), 6e-3,
             note="C15: they are those of -0.25"),
        _row("cheat.k-0.25", "endnote", "phi, Phi, mean at -0.25", (0.386, 0.401, 0.96), _triple(quarter), 5e-3),
        _row("cheat.geometric", "endnote", "0.4 / (1 - 1/2)", 0.8, expected_overcharge(1) / (1 - 0.5), 3e-3),
        _row("cheat.best_k", "7.2", "where mean over deviation is largest", -0.5, best.k, 0.15),
        _row("cheat.flat", "7.2", "what the first loss has of it", 0.9, first.ratio / best.ratio, 0.05),
        _row("cheat.first_loss", "7.2", "what leaving at a first loss is worth", 1, quarter.mean, 0.25,
             note="0.80 at 0, 1.14 at -0.5"),
        _row("cheat.final_payoff", "7.3", "1/2 * (1 - 3/4)", 1 / 3, scam.last_week,
             note="C16: 1/8, by the author's own file"),
        _row("cheat.stop_payoff", "7.3", "1/2 * 1/3", 1 / 6, scam.stopping),
        _row("cheat.total", "7.3", "1/8 + 1/6", 0.5, scam.benefit, 0.05, note="C16"),
        _row("cheat.dividend", "7.3", "six closes at 1.5 %", 0.09, scam.dividend),
        _row("cheat.gordon", "7.3", ".09 / (.09 - .05)", 2, scam.annuity, 0.01, note="C16"),
        _row("cheat.compare", "7.3", "honesty pays", document=True, ours=scam.honesty_pays,
             note="the conclusion survives the corrections"),
    ]  # fmt: skip


def _triple(one: Stopping) -> tuple[float, float, float]:
    return one.mean * one.leaves, one.leaves, one.mean


def _rules() -> list[Printed]:
    """Sections 8 to 13."""
    rates = [
        Rates(target_ppm=target, basis_ppm=basis).funding(long=True)
        for target in (0, MAX_TARGET_PPM) for basis in (-MAX_BASIS_PPM, MAX_BASIS_PPM)
    ]  # fmt: skip
    most, required = float(max(rates)), Sats(100_000_000)
    monday, wednesday = date(2019, 7, 8), date(2019, 7, 10)
    room = [maximum_take(Sats(100), Sats(0), 0, side) for side in Side]
    limit = {side: maximum_take(Sats(100), Sats(100), 100, side) for side in Side}
    gap = day_of(wednesday).post - instant(date(2019, 7, 9), POST)
    return [
        _row("sec8.latency", "8", "sqrt(100)", 10, math.sqrt(100)),
        _row("sec8.daytrader", "8", "0.1 % twice a day, 250 days", 0.5, 2 * 0.001 * 250, 0.01),
        _row("fee.close", "7.3", "the close fee", 0.015, close_fee(required) / required),
        _row("funding.max", "9", "the largest funding rate", 0.03, most),
        _row("funding.of_rm", "9", "of the index's margin", 0.5, most * 10, 0.04,
             note="C17: 1/3, by the author's own file"),
        _row("funding.of_rm.fixed", "9", "of the index's margin, against 1/3", 1 / 3, most * 10, 0.04),
        _row("maxtake.flat", "13", "takes of a flat book of 100, long, short", (50, 50), room),
        _row("maxtake.lp_long100.economic", "13", "which side is open where the provider is long 100 of 100", "short",
             " and ".join(side.name.lower() for side in Side if limit[side] > 0),
             note="C19: the text's formula is of the takers' side"),
        _row("netting.example", "13", "80 long against 50 short", 30, abs(80 - 50)),
        _row("guard.daily_22h", "9", "a post a day passes the guard", document=True, ours=gap >= POST_SECONDS),
        _row("guard.settle_after_price", "9", "hours from 16:15 to 21:00", 4.75,
             (instant(wednesday, time(21)) - day_of(wednesday).post) / HOUR),
        _row("cal.take_mon_1pm", "9", "a take on Monday at 13:00 has the close of", monday.isoformat(),
             start_day(instant(monday, time(13))).isoformat()),
        _row("cal.take_mon_6pm", "9", "a take on Monday at 18:00 has the close of", date(2019, 7, 9).isoformat(),
             start_day(instant(monday, time(18))).isoformat()),
    ]  # fmt: skip
