"""Rows of the pricing area: one core, medians of one run, each comparison measured beside what it is compared with."""

from __future__ import annotations

import asyncio
import tempfile
import time
import warnings
from collections.abc import Callable
from statistics import median

import numpy as np
import QuantLib as ql  # noqa: N813 - its documentation's own abbreviation
from numba.core.errors import NumbaError
from sqlalchemy import insert

from btcfi.adapters.store.options.premiums import refresh_premiums
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Store
from btcfi.oracle.quote import Feed
from btcfi.pricing import american, black_scholes, implied
from btcfi.pricing.domain import BINARY_PUT
from btcfi.pricing.premium import Book, premiums
from tests.benchmarks import Row

CASES = 1_000_000
QUANTLIB_CASES = 20_000
BOOK = 100_000
UNIT = "premiums with 5 Greeks/s"
"""Ours come with eight."""
NOW = 1_780_000_000
FEED = "BTC/USD"


def rows() -> list[Row]:
    """Return the measured rows."""
    market = _market(CASES)
    ours = CASES / _median(lambda: black_scholes.greeks(market["kind"], **_named(market)), 5)
    quantlib = QUANTLIB_CASES / _median(lambda: _quantlib(market), 3)
    found = [
        Row(name="pricing.premiums_per_s", value=ours, unit=UNIT, against="published", ratio=ours / 50_000),
        _times("pricing.vs_quantlib", ours, quantlib, "QuantLib"),
    ]  # fmt: skip
    vollib, which = _py_vollib(market)
    found.append(_times("pricing.vs_py_vollib", ours, vollib, which))
    vanilla = market["kind"] < 2
    given = {k: v[vanilla] for k, v in _named(market).items() if k != "volatility"}
    price = black_scholes.premium(market["kind"][vanilla], volatility=market["volatility"][vanilla], **given)
    speed = int(vanilla.sum()) / _median(
        lambda: implied.implied_volatility(market["kind"][vanilla], price, **given), 3
    )  # fmt: skip
    found.append(Row(name="iv.per_s", value=speed, unit="volatilities/s"))
    book = _book(BOOK)
    refresh = _median(lambda: premiums(book, spot=7_000_000, volatility=0.6, rate=0.04, now=NOW), 5)
    found += [
        Row(name="premium.refresh_100k_ms", value=refresh * 1e3, unit="ms, 6 columns, mixed kinds"),
        Row(
            name="premium.stored_refresh_100k_ms",
            value=_stored_refresh(book) * 1e3,
            unit="ms, read from SQLite, priced, written",
        ),
    ]
    puts = {k: v[:2_000] for k, v in _named(market).items()}
    single = _median(lambda: american.greeks(1, **puts), 3) / 2_000
    found.append(Row(name="pricing.american_put_us", value=single * 1e6, unit="us with 5 Greeks, own boundary each"))
    return found + _api_rows()


def _times(name: str, ours: float, theirs: float, whose: str) -> Row:
    return Row(name=name, value=ours / theirs, unit="times", against=f"{whose}, {theirs:,.0f}/s", ratio=ours / theirs)


def _median(run: Callable[[], object], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)


def _market(count: int) -> dict[str, np.ndarray]:
    g = np.random.default_rng(1)
    days, sigma = g.integers(1, 365, count), g.uniform(0.2, 1.5, count)
    spot = g.uniform(2e4, 1e5, count)
    return {
        "kind": g.integers(0, 2, count),
        "spot": spot,
        "strike": spot * np.exp(g.uniform(-2, 2, count) * sigma * np.sqrt(days / 365)),
        "tau_years": days / 365,
        "volatility": sigma,
        "rate": g.uniform(0.0, 0.08, count),
    }


def _named(market: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: column for name, column in market.items() if name != "kind"}


def _quantlib(market: dict[str, np.ndarray]) -> None:
    """Price with the analytic engine, moving quotes instead of building objects: the fast way to use it."""
    today = ql.Date(15, 3, 2026)
    ql.Settings.instance().evaluationDate = today
    days = ql.Actual365Fixed()
    spot, sigma, rate = (ql.SimpleQuote(1.0) for _ in range(3))
    process = ql.BlackScholesProcess(
        ql.QuoteHandle(spot),
        ql.YieldTermStructureHandle(ql.FlatForward(today, ql.QuoteHandle(rate), days)),
        ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), ql.QuoteHandle(sigma), days)),
    )
    engine = ql.AnalyticEuropeanEngine(process)
    sides = (ql.Option.Call, ql.Option.Put)
    columns = [market[name][:QUANTLIB_CASES].tolist() for name in ("kind", "spot", "strike", "volatility", "rate")]
    ends = np.rint(market["tau_years"][:QUANTLIB_CASES] * 365).astype(int).tolist()
    for kind, s, k, v, r, end in zip(*columns, ends, strict=True):
        spot.setValue(s)
        sigma.setValue(v)
        rate.setValue(r)
        option = ql.VanillaOption(ql.PlainVanillaPayoff(sides[kind], k), ql.EuropeanExercise(today + end))
        option.setPricingEngine(engine)
        option.NPV(), option.delta(), option.gamma(), option.vega(), option.theta(), option.rho()


def _py_vollib(market: dict[str, np.ndarray]) -> tuple[float, str]:
    """Return the speed of py_vollib_vectorized, or of py_vollib itself where that does not compile, and which it was.

    Release 0.1.1 of the former recurses in a way that numba 0.68 refuses to type.
    """
    columns = ("spot", "strike", "tau_years", "rate", "volatility")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vollib.black_scholes import black_scholes as value  # noqa: PLC0415 - before the next replaces it
        from vollib.black_scholes.greeks import analytical  # noqa: PLC0415 - as above

        functions = (value, analytical.delta, analytical.gamma, analytical.vega, analytical.theta, analytical.rho)
        from py_vollib_vectorized import vectorized_black_scholes  # noqa: PLC0415 - warns as it is imported
        from py_vollib_vectorized.api import get_all_greeks  # noqa: PLC0415 - as above

        count = 200_000
        flags = np.where(market["kind"][:count] == 0, "c", "p")
        many = [market[name][:count] for name in columns]

        def vectorized() -> None:
            vectorized_black_scholes(flags, *many, return_as="numpy")
            get_all_greeks(flags, *many, model="black_scholes", return_as="dict")

        try:
            return count / _median(vectorized, 3), "py_vollib_vectorized"
        except NumbaError:
            pass

    count = 2_000
    cases = list(zip(flags[:count].tolist(), *(column[:count].tolist() for column in many), strict=True))

    def one_by_one() -> None:
        for case in cases:
            for function in functions:
                function(*case)

    return count / _median(one_by_one, 3), "vollib, one by one (py_vollib_vectorized does not compile here)"


def _book(count: int) -> Book:
    """Return a book as the contract sells it: all kinds, a fifth with a barrier, a fifth of the plain ones American."""
    g = np.random.default_rng(2)
    kind = g.integers(0, 4, count).astype(np.int8)
    strike = np.rint(7_000_000 * np.exp(g.normal(0, 0.2, count))).astype(np.int64)
    with_barrier = g.random(count) < 0.2
    level = np.where(g.random(count) < 0.5, 0.7 * strike, 1.4 * strike)
    return Book(
        kind=kind,
        strike_cents=strike,
        expiry_unix=NOW + g.integers(1, 90 * 1440, count) * 60,
        barrier_cents=np.where(with_barrier, np.rint(level), 0).astype(np.int64),
        american=~with_barrier & (g.random(count) < 0.2),
        collateral_ratio=np.where(kind == BINARY_PUT, 2.0, 1.0),
    )


def _stored_refresh(book: Book) -> float:
    """Return the seconds of the premium task's work on a book in a database: rows in, rows out."""
    options = [
        {
            "id": f"{i:032x}", "feed": FEED, "state": "ACTIVE", "kind": kind, "strike_cents": strike,
            "quantity_centi_btc": 10, "barrier_cents": barrier or None, "american": early, "expiry_unix": expiry,
            "premium_cents": 1, "premium_sats": 1, "collateral_sats": 10**7 * (2 if kind == BINARY_PUT else 1),
            "volatility_bps": 6_000, "rate_bps": 400, "preset": "", "preset_sha256": "", "program": "",
            "program_sha256": "", "created_at_unix": NOW, "listed_slot": NOW, "updated_at_unix": NOW,
        }
        for i, (kind, strike, barrier, early, expiry) in enumerate(
            zip(book.kind.tolist(), book.strike_cents.tolist(), book.barrier_cents.tolist(), book.american.tolist(),
                book.expiry_unix.tolist(), strict=True)
        )
    ]  # fmt: skip
    priced = {"feed": FEED, "state": "priced", "price_cents": 7_000_000, "low_cents": 7_000_000,
              "high_cents": 7_000_000, "attempts": 1, "deadline_unix": NOW, "opened_at_unix": NOW}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/book.db")
        store.migrate()
        with store.transaction() as session:
            session.connection().execute(insert(OptionRow.__table__), options)
            session.connection().execute(
                insert(RoundRow.__table__), [priced | {"slot": NOW // 60 * 60 - 60 * i} for i in range(1_440)]
            )

        def refresh() -> None:
            with store.transaction() as session:
                refresh_premiums(session, Feed(FEED), now=NOW, rate_bps=400, fallback_volatility_bps=6_000)

        seconds = _median(refresh, 3)
        store.close()
    return seconds


def _api_rows() -> list[Row]:
    """Return the latency of the published premium endpoint; nothing when the REST surface is not there."""
    try:
        from tests.benchmarks.pricing_api import measure  # noqa: PLC0415 - brings FastAPI along
    except ImportError:
        return []
    return asyncio.run(measure())
