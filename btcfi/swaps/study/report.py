"""The study: tables and curves of everything that the appendix argues with, by parameters of one's own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np

from btcfi.pricing.domain import FloatArray
from btcfi.swaps.contract import LOT, burn_fee
from btcfi.swaps.study.cheat import Scam, Stopping, best_stop, burns_at, simulated_stops
from btcfi.swaps.study.collar import (
    Capped,
    Drift,
    Pricing,
    breaches,
    collar_value,
    covering_leverage,
    in_dollars_of_margin,
    simulated_collar,
    weekly,
)
from btcfi.swaps.study.hedge import Paths, hedged_paths, lognormal_lattice
from btcfi.swaps.study.lying import Lie, play
from btcfi.swaps.study.parameters import StudyParameters
from btcfi.swaps.study.provider import Provider, marginal_sharpe, marginal_volatility
from btcfi.swaps.study.verdicts import Value, verdicts
from btcfi.units import Sats

Cell = str | float | int | bool

ALLOCATIONS: Final = tuple(round(0.01 * step, 2) for step in range(1, 101))
STOPS: Final = tuple(round(-3.0 + 0.05 * step, 2) for step in range(91))
"""-3 to 1.5 standard deviations."""
SHARES: Final = tuple(round(0.05 * step, 2) for step in range(21))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under names, for a file or a terminal."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def column(self, name: str) -> list[Cell]:
        """Return a column by its name."""
        at = self.columns.index(name)
        return [row[at] for row in self.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """All tables, in the appendix's order."""

    parameters: StudyParameters
    tables: tuple[Table, ...]
    paths: Paths
    """Of the hedge."""

    def table(self, name: str) -> Table:
        """Return a table by its name."""
        return next(one for one in self.tables if one.name == name)


def contracts(given: StudyParameters) -> tuple[Capped, ...]:
    """Return the four kinds of contract, named as the parameters name them."""
    return (
        Capped(
            name="own", pricing=Pricing.OWN, leverage=given.own_leverage, volatility=given.margin_volatility,
            margin_volatility=given.margin_volatility, correlation=1.0,
        ),
        Capped(
            name="asset", pricing=Pricing.DOLLARS, leverage=given.asset_leverage, volatility=given.asset_volatility,
            margin_volatility=given.margin_volatility, correlation=given.correlation,
        ),
        Capped(
            name="cross", pricing=Pricing.MARGIN, leverage=given.cross_leverage, volatility=given.cross_volatility,
            margin_volatility=given.margin_volatility, correlation=given.correlation,
        ),
        Capped(
            name="index", pricing=Pricing.DOLLARS, leverage=given.index_leverage, volatility=given.index_volatility,
            margin_volatility=given.margin_volatility, correlation=given.index_correlation,
        ),
    )  # fmt: skip


def study(given: StudyParameters) -> Study:
    """Return the study. Raises InvalidInputError for parameters that do not go together."""
    scam, lie = _scam(given), Lie(
        stop=given.stop, deviation=Fraction(given.deviation).limit_denominator(10**6), victims=given.victims,
        rational=given.rational,
    )  # fmt: skip
    paths = hedged_paths(
        lognormal_lattice(given.margin_volatility),
        weeks=given.hedge_weeks,
        cure=given.cure,
        leverage=given.own_leverage,
    )
    offered = contracts(given)
    tables = (
        _leverage(offered), _collars(given, offered), _risk(given, offered), _sharpe(given, offered), _hedge(paths),
        _hedge_paths(paths), _stopping(), _stop(given), _scam_table(scam), _burning(scam), _lying(given, lie),
        _verdicts(),
    )  # fmt: skip
    return Study(parameters=given, tables=tables, paths=paths)


def _leverage(offered: tuple[Capped, ...]) -> Table:
    rows = []
    for one in offered:
        own = one.pricing is Pricing.OWN
        down, up = breaches(one.leverage) if own else (-1.0 / one.leverage, 1.0 / one.leverage)
        ends: tuple[Cell, Cell] = (down if down > -1.0 else "never", up if math.isfinite(up) else "never")
        week = weekly(one.volatility)
        rows.append((one.name, one.volatility, week, one.leverage, covering_leverage(one.volatility, own=own), *ends))
    return Table(
        name="leverage", title="What each leverage covers: the fall and the rise of a week that owe the whole margin",
        columns=("contract", "volatility", "weekly", "leverage", "of_three_sigmas", "fall", "rise"), rows=tuple(rows),
    )  # fmt: skip


def _collars(given: StudyParameters, offered: tuple[Capped, ...]) -> Table:
    rows = []
    for drift in Drift:
        for one in offered:
            chance = np.random.default_rng(given.seed)
            mean, error = simulated_collar(one, paths=given.paths, generator=chance, drift=drift)
            rows.append((one.name, drift.value, collar_value(one, drift=drift), mean, error))
            if one.pricing is Pricing.MARGIN:
                chance = np.random.default_rng(given.seed)
                mean, error = simulated_collar(one, paths=given.paths, generator=chance, drift=drift, in_dollars=True)
                rows.append(
                    (f"{one.name} in dollars", drift.value, in_dollars_of_margin(one, drift=drift), mean, error)
                )
    return Table(
        name="collar", title="What the cap is worth to a long a year, of the notional, by whose mean is zero",
        columns=("contract", "zero_mean_of", "closed_form", "simulated", "standard_error"), rows=tuple(rows),
    )  # fmt: skip


def _provider(given: StudyParameters, one: Capped) -> Provider:
    return Provider(
        holding_volatility=given.holding_volatility, volatility=one.volatility, leverage=one.leverage,
        target=given.target, gross_to_net=given.gross_to_net,
    )  # fmt: skip


def _risk(given: StudyParameters, offered: tuple[Capped, ...]) -> Table:
    each = [_provider(given, one) for one in offered]
    allocations = sorted({*ALLOCATIONS, given.allocation})
    return Table(
        name="marginal_risk", title="What an allocation adds to a provider's volatility (figure 1)",
        columns=("allocation", *(one.name for one in offered)),
        rows=tuple((w, *(marginal_volatility(one, w) for one in each)) for w in allocations),
    )  # fmt: skip


def _sharpe(given: StudyParameters, offered: tuple[Capped, ...]) -> Table:
    ratios = dict.fromkeys((given.gross_to_net, 3.0))
    each = [replace(_provider(given, one), gross_to_net=ratio) for ratio in ratios for one in offered]
    allocations = sorted({*ALLOCATIONS, given.allocation})
    names = [f"{one.name} {ratio:.12g}:1" for ratio in ratios for one in offered]
    return Table(
        name="marginal_sharpe", title="What an allocation earns for the risk it adds (figure 2)",
        columns=("allocation", *names),
        rows=tuple((w, *(marginal_sharpe(one, w) for one in each)) for w in allocations),
    )  # fmt: skip


def _hedge(paths: Paths) -> Table:
    return Table(
        name="hedge", title="A margin of 100 coins hedged by a short of as many (figure 5), dollars at 100 a coin",
        columns=("paths", "unhedged_deviation", "hedged_deviation", "hedged_mean", "volatility_gone", "mean_cures"),
        rows=((
            int(paths.price.size), paths.deviation(paths.unhedged), paths.deviation(paths.hedged),
            paths.mean(paths.hedged), paths.reduction, paths.mean(paths.cures),
        ),),
    )  # fmt: skip


def _hedge_paths(paths: Paths) -> Table:
    columns: list[FloatArray] = [paths.price, paths.probability, paths.unhedged, paths.hedged, paths.cures]
    return Table(
        name="hedge_paths", title="Each path of the hedge",
        columns=("price", "probability", "unhedged", "hedged", "cures"),
        rows=tuple(zip(*(one.tolist() for one in columns), strict=True)),
    )  # fmt: skip


def _stopping() -> Table:
    best = Stopping(best_stop()).ratio
    rows = []
    for k in STOPS:
        one = Stopping(k)
        rows.append((k, one.weeks, one.mean, one.deviation, one.ratio, one.ratio / best))
    return Table(
        name="stopping", title="Leaving at the first week below a threshold (figure 6), in standard deviations",
        columns=("threshold", "weeks", "mean", "deviation", "ratio", "of_the_best"), rows=tuple(rows),
    )  # fmt: skip


def _stop(given: StudyParameters) -> Table:
    one, chance = Stopping(given.stop), np.random.default_rng(given.seed)
    mean, deviation, weeks = simulated_stops(one.k, paths=given.paths, generator=chance)
    return Table(
        name="stop", title="The threshold that is asked for, in closed form and from simulated strategies",
        columns=("from", "threshold", "weeks", "mean", "deviation"),
        rows=(
            ("closed form", one.k, one.weeks, one.mean, one.deviation),
            ("simulated", one.k, weeks, mean, deviation),
        ),
    )  # fmt: skip


def _scam(given: StudyParameters) -> Scam:
    return Scam(
        side_share=given.side_share, burn_share=given.burn_share, deviation=given.deviation,
        walk_away=given.walk_away, closes=given.closes, close_fee=given.close_fee, discount=given.discount,
        growth=given.growth,
    )  # fmt: skip


def _scam_table(scam: Scam) -> Table:
    return Table(
        name="cheat", title="Cheating against honesty, in parts of all required margins",
        columns=("last_week", "stopping", "benefit", "dividend", "annuity", "honesty_pays", "rounds_to_a_burn"),
        rows=((
            scam.last_week, scam.stopping, scam.benefit, scam.dividend, scam.annuity, scam.honesty_pays,
            burns_at(burn=burn_fee(Sats(LOT)) / LOT, deviation=scam.deviation),
        ),),
    )  # fmt: skip


def _burning(scam: Scam) -> Table:
    each = [replace(scam, burn_share=share) for share in SHARES]
    return Table(
        name="burning", title="What cheating brings by how many of its victims burn, against the annuity of honesty",
        columns=("burn_share", "benefit", "annuity"),
        rows=tuple((one.burn_share, one.benefit, one.annuity) for one in each),
    )  # fmt: skip


def _lying(given: StudyParameters, lie: Lie) -> Table:
    taken = play(lie, books=given.liar_books, generator=np.random.default_rng(given.seed))
    stopping, profits = Stopping(lie.stop), taken.in_deviations(lie)
    kept = (lie.victims - lie.rational) / lie.victims / float(lie.deviation)
    return Table(
        name="lying", title="A lying oracle through the ledger: its profit by book, in a week's standard deviations",
        columns=("books", "stop", "burners", "mean", "standard_error", "expected", "weeks", "expected_weeks",
                 "burned_sats"),
        rows=((
            given.liar_books, lie.stop, f"{lie.rational} of {lie.victims}", float(profits.mean()),
            float(profits.std(ddof=1)) / given.liar_books**0.5, stopping.mean + kept, float(np.mean(taken.weeks)),
            stopping.weeks, taken.burned_sats,
        ),),
    )  # fmt: skip


def _verdicts() -> Table:
    return Table(
        name="verdicts", title="Each number that the appendix prints, and ours",
        columns=("number", "section", "what", "document", "ours", "verdict", "note"),
        rows=tuple(
            (one.name, one.section, one.says, _told(one.document), _told(one.ours), one.verdict.value, one.note)
            for one in verdicts()
        ),
    )  # fmt: skip


def _told(values: tuple[Value, ...]) -> str:
    return ", ".join(str(one) if isinstance(one, str | bool) else f"{round(one, 10) + 0.0:.7g}" for one in values)
