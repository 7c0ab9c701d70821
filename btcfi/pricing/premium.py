"""The premium service's one call: every open option of the book, priced at one market, in one compiled loop.

Money comes in as integers and leaves as integers: prices are cents, and ``to_cents`` is the only way out of floating
point. The floats between are USD per BTC.
"""

# ruff: noqa: FBT001, PLR0917 - a compiled kernel takes positional numbers only, and inlines what a reader would split
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from btcfi.oracle.fixing import MINUTE, MOST_MINUTES, Fixing, FixingKind, LeftOut, Said
from btcfi.pricing.american import BOUNDARY_ROWS, BUCKETS, american
from btcfi.pricing.averages import (
    AHEAD,
    COUNT,
    LEFT_OUT,
    NEAR_WINDOWS,
    PASSED,
    STATE,
    UNSAID,
    far,
    read_window,
    sample_medians,
    sampled,
    windowed,
)
from btcfi.pricing.black_scholes import check_kind, quote
from btcfi.pricing.compiled import kernel
from btcfi.pricing.domain import (
    BINARY_CALL,
    BINARY_PUT,
    PUT,
    SECONDS_PER_YEAR,
    ArrayLike,
    FloatArray,
    IntArray,
    PricingDomainError,
    UnequalLengthsError,
    check,
    check_barrier,
)
from btcfi.pricing.exercise_boundary import ROW
from btcfi.pricing.kernels import DX, DXX, SLOTS, VALUE, copy, knock_out, knocked, vanilla
from btcfi.units import (
    SECONDS_PER_MINUTE,
    CentiBtc,
    Cents,
    CentsPerBtc,
    Sats,
    Slot,
    UnixSeconds,
    cents_per_btc,
    unix_seconds,
)

CENTS_PER_USD: Final = 100
SATS_PER_CENTI_BTC: Final = 1_000_000

WINDOWS: Final = (0, *range(2, MOST_MINUTES + 1))
"""Minutes of a window, as the fixing column has them."""


class PriceableOption(Protocol):
    """The terms that a premium depends on; ``btcfi.options`` and the store's rows have more."""

    @property
    def kind(self) -> int:
        """0 call, 1 put, 2 binary call, 3 binary put."""

    @property
    def strike(self) -> CentsPerBtc:
        """Cents per BTC."""

    @property
    def expiry(self) -> UnixSeconds:
        """When it settles."""

    @property
    def barrier(self) -> CentsPerBtc | None:
        """Cents per BTC; None or 0 for none."""

    @property
    def american(self) -> bool:
        """Whether it may be exercised before expiry."""

    @property
    def fixing(self) -> Fixing | None:
        """What settles it at its expiry; None: its minute."""

    @property
    def quantity(self) -> CentiBtc:
        """Hundredths of a bitcoin."""

    @property
    def collateral(self) -> Sats:
        """What no payout exceeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """Options as columns of equal length; what the database knows of them, in its integers."""

    kind: npt.NDArray[np.int8]
    """0 call, 1 put, 2 binary call, 3 binary put."""
    strike_cents: IntArray
    """Cents per BTC."""
    expiry_unix: IntArray
    """Seconds since 1970."""
    barrier_cents: IntArray
    """Knock-out level in cents per BTC; 0 none, above the strike up-and-out, below it down-and-out."""
    american: npt.NDArray[np.bool_]
    """May be exercised at any time."""
    collateral_ratio: FloatArray | None = None
    """Bitcoin locked per BTC of quantity, at least 1: it caps the payout, which is in bitcoin. None: no cap."""
    fixing: IntArray | None = None
    """What settles each, as ``fixing_codes`` says it. None: every one by its minute."""

    def __post_init__(self) -> None:
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        shapes = {name: np.shape(column) for name, column in columns.items() if column is not None}
        if len(set(shapes.values())) > 1 or len(self.kind.shape) != 1:
            raise UnequalLengthsError(shapes)
        check_kind(self.kind)
        check("strike", self.strike_cents / CENTS_PER_USD)
        check("knock_out_barrier", self.barrier_cents / CENTS_PER_USD)
        check_barrier(self.strike_cents.astype(np.float64), self.barrier_cents.astype(np.float64))
        if self.collateral_ratio is not None:
            check("collateral_ratio", self.collateral_ratio)
        if self.fixing is not None and np.isin(np.abs(self.fixing), WINDOWS, invert=True).any():
            wrong = self.fixing[np.isin(np.abs(self.fixing), WINDOWS, invert=True)]
            raise PricingDomainError(
                "fixing", int(wrong[0]), f"0, or 2 to {MOST_MINUTES} minutes, below 0 for a median"
            )

    def __len__(self) -> int:
        """Return the number of options."""
        return int(self.kind.shape[0])

    @classmethod
    def of(cls, options: Iterable[PriceableOption]) -> Book:
        """Return the book of records that have the attributes of ``PriceableOption``.

        Raises PricingDomainError for terms that cannot be priced.
        """
        many = list(options)
        return cls(
            kind=np.array([int(o.kind) for o in many], dtype=np.int8),
            strike_cents=np.array([int(o.strike) for o in many], dtype=np.int64),
            expiry_unix=np.array([int(o.expiry) for o in many], dtype=np.int64),
            barrier_cents=np.array([int(o.barrier or 0) for o in many], dtype=np.int64),
            american=np.array([bool(o.american) for o in many], dtype=np.bool_),
            collateral_ratio=collateral_ratio([int(o.quantity) for o in many], [int(o.collateral) for o in many]),
            fixing=fixing_codes(o.fixing for o in many),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Premiums:
    """One market's answer for a book: arrays of the book's length."""

    premium: FloatArray
    """USD per BTC."""
    delta: FloatArray
    """USD per USD of spot."""
    gamma: FloatArray
    """Delta per USD of spot."""
    vega: FloatArray
    """USD per BTC, per percentage point of volatility."""
    theta: FloatArray
    """USD per BTC, per calendar day that passes."""
    rho: FloatArray
    """USD per BTC, per percentage point of the interest rate."""

    def premium_cents(self) -> IntArray:
        """Return the premiums in cents per BTC, as ``to_cents`` rounds."""
        return to_cents(self.premium)


def collateral_ratio(quantity_centi_btc: npt.ArrayLike, collateral_sats: npt.ArrayLike) -> FloatArray:
    """Return the bitcoin locked per BTC of quantity, as ``Book`` takes it."""
    locked = np.asarray(collateral_sats, dtype=np.float64) / SATS_PER_CENTI_BTC
    ratio: FloatArray = locked / np.asarray(quantity_centi_btc, dtype=np.float64)
    return ratio


def fixing_codes(fixings: Iterable[Fixing | None]) -> IntArray:
    """Return fixings as ``Book`` takes them: 0 the minute (also None), N the mean of N minutes, -N their median."""
    code = {FixingKind.MINUTE: 0, FixingKind.TWAP: 1, FixingKind.MEDIAN: -1}
    every = [f or MINUTE for f in fixings]
    return np.array([code[f.kind] * f.minutes for f in every], dtype=np.int64)


@kernel
def _european(
    acc: FloatArray, kind: int, s: float, k: float, barrier: float, up: bool, tau: float, sigma: float, rate: float,
    cap: float, state: FloatArray, code: int, samples: FloatArray, alive: FloatArray, steps: FloatArray,
) -> None:  # fmt: skip
    """Fill ``acc`` with a European option that pays at most ``cap`` bitcoin (0: no cap): a sum of plain ones."""
    part = np.zeros(SLOTS)
    acc[:] = 0.0
    for leg in range(2 if cap > 0.0 and kind in {PUT, BINARY_PUT} else 1):
        which = kind if leg == 0 else max(PUT, 0 * kind)
        strike = k
        weight = 1.0
        if leg == 1:
            strike = k / (1.0 + cap) if kind == PUT else k / cap
            weight = -1.0 - cap if kind == PUT else -cap
        if samples.shape[0] > 0 and code != 0:
            sampled(part, which, s, strike, samples, alive, steps)
        else:
            if barrier > 0.0 and (code == 0 or far(state, code)):
                knock_out(part, which, s, strike, barrier, up, tau, sigma, rate, 0.0)
            elif code == 0:
                vanilla(part, which, s, strike, tau, sigma, rate, 0.0)
            if code != 0:
                windowed(part, which, s, strike, barrier, up, tau, sigma, rate, state, code)
        for j in range(SLOTS):
            acc[j] += weight * part[j]
    acc[VALUE] = max(acc[VALUE], 0.0)


@kernel
def _capped(
    acc: FloatArray, kind: int, s: float, k: float, barrier: float, up: bool, is_american: bool,
    since: float, sigma: float, rate: float, cap: float, rows: FloatArray, horizon: float,
    state: FloatArray, code: int, samples: FloatArray, alive: FloatArray, steps: FloatArray,
) -> None:  # fmt: skip
    """Fill ``acc`` with an option that pays at most ``cap`` bitcoin (0: no cap), in dollars; ``since``: years to it.

    Calls never want more than a bitcoin. A put does below K/(1 + cap), a binary put below K/cap; from there on the
    payout is cap bitcoin, a straight line: for a European option a sum of plain ones (``inverse``), for an American
    one a level at which it is exercised at the latest, and below which it is cap bitcoin.
    An American option on a window is the one on its minute, with the difference that the window makes at expiry.
    """
    tau = max(since, 0.0)
    early = is_american and tau > 0.0
    acc[:] = 0.0
    if early:
        capped = cap > 0.0 and kind in {PUT, BINARY_PUT}
        level = 0.0
        if capped:
            level = k / (1.0 + cap) if kind == PUT else k / cap
        if capped and s <= level and not (barrier > 0.0 and knocked(s, barrier, up)):
            acc[VALUE] = acc[DX] = acc[DXX] = cap * s
        else:
            american(acc, rows, kind, s, k, barrier, up, level if kind == PUT else 0.0, tau, sigma, rate, 0.0, horizon)
        if code == 0:
            return
    part = np.zeros(SLOTS)
    for side in range(1, -1, -1):
        # on its minute first, if it is taken off
        if side == 1 and not early:
            continue
        _european(part, kind, s, k, barrier, up, since if side == 0 and code != 0 else tau, sigma, rate, cap,
                  state, code if side == 0 else 0, samples, alive, steps)  # fmt: skip
        for j in range(SLOTS):
            acc[j] += (1.0 - 2.0 * side) * part[j]
    if early and acc[VALUE] < part[VALUE]:
        copy(acc, part)
    if early and kind >= BINARY_CALL and acc[VALUE] >= k:
        acc[:] = 0.0
        acc[VALUE] = k


@kernel
def _book_loop(
    out: FloatArray, kind: IntArray, strike_cents: IntArray, expiry: IntArray, barrier_cents: IntArray,
    is_american: npt.NDArray[np.bool_], volatility: FloatArray, caps: FloatArray, fixing: IntArray,
    spot_cents: int, rate: float, now: int, horizon: float, said: IntArray, base: int,
    sample_of: IntArray, samples: FloatArray, alive: FloatArray, steps: FloatArray,
) -> None:  # fmt: skip
    acc = np.zeros(SLOTS)
    rows = np.full((BUCKETS, BOUNDARY_ROWS, ROW), -1.0)
    row = np.zeros((SLOTS, 1))
    state = np.zeros(STATE)
    prices = np.zeros(MOST_MINUTES)
    s = spot_cents / CENTS_PER_USD
    for i in range(out.shape[1]):
        k = strike_cents[i] / CENTS_PER_USD
        barrier = barrier_cents[i] / CENTS_PER_USD
        up = barrier > k
        # at and after the expiry minute the option is what it pays
        since = (expiry[i] - now) / SECONDS_PER_YEAR
        sigma = volatility[i] if volatility.shape[0] > 1 else volatility[0]
        cap = caps[i] if caps.shape[0] > 0 else 0.0
        code = fixing[i] if fixing.shape[0] > 0 else 0
        # the first sample is of no window
        at = sample_of[i] if sample_of.shape[0] > 0 else 0
        drawn = samples[at, : 9 if at > 0 else 0]
        if code != 0:
            read_window(state, prices, code, expiry[i], now, said, base)
        _capped(acc, kind[i], s, k, barrier, up, is_american[i], since, sigma, rate, cap, rows, horizon,
                state, code, drawn, alive[at], steps[at])  # fmt: skip
        quote(row, 0, acc, s)
        for j in range(out.shape[0]):
            out[j, i] = row[j, 0]


def premiums(
    book: Book, *, spot: CentsPerBtc, volatility: ArrayLike, rate: float = 0.0, now: UnixSeconds,
    known: Mapping[Slot, Said] | None = None, sampled: bool = True,
) -> Premiums:  # fmt: skip
    """Return premium, delta, gamma, vega, theta and rho of every option in ``book``.

    spot: the agreed price, integer cents per BTC. volatility: per square-root year (0.65 = 65 %), one number or one an
    option. rate: continuously compounded per year, 0 to 1. now: the time that the price is of; an option at or past its
    expiry is worth its payoff at ``spot``. A knock-out that an earlier price triggered is the caller's to leave out.
    known: what the closed minutes of the open windows say, as for ``fixing.fix``; minutes of no window are ignored, and
    one of a window that is not in it counts as a price to come (of a minute that has passed: as ``spot``).
    sampled: whether a median is sampled that is near, which takes the better part of a second for each market, window
    and barrier. Else none is: one before its window is lognormal, within some hundredths of its premium, and one whose
    minutes have begun is priced as their mean: for what is looked at and not dealt at.
    Raises UnitOutOfRangeError, PricingDomainError, UnequalLengthsError. Never returns a NaN.
    """
    at, moment = cents_per_btc(spot), unix_seconds(now)
    sigma = check("volatility", volatility).reshape(-1)
    check("american_rate", rate)
    if sigma.size not in {1, len(book)}:
        raise UnequalLengthsError({"book": (len(book),), "volatility": sigma.shape})
    out = np.empty((6, len(book)))
    caps = np.empty(0) if book.collateral_ratio is None else np.ascontiguousarray(book.collateral_ratio, dtype=float)
    # one type of each column, or every kernel is compiled once more for the other
    fixing = np.empty(0) if book.fixing is None else book.fixing
    whole = (book.kind, book.strike_cents, book.expiry_unix, book.barrier_cents, fixing)
    kinds, strikes, expiries, barriers, codes = (np.ascontiguousarray(column, dtype=np.int64) for column in whole)
    early = np.ascontiguousarray(book.american, dtype=np.bool_)
    horizon = max((int(expiries.max(initial=moment)) - moment) / SECONDS_PER_YEAR, 0.0)
    if not sampled:
        codes = np.where((codes < 0) & (expiries - moment < -codes * SECONDS_PER_MINUTE), -codes, codes)
    said, base = _said(expiries, codes, known or {})
    medians = _medians(
        expiries, codes, barriers / CENTS_PER_USD, barriers > strikes, sigma, said, base, at / CENTS_PER_USD,
        float(rate), int(moment), sampled=sampled,
    )  # fmt: skip
    _book_loop(
        out, kinds, strikes, expiries, barriers, early, sigma, caps, codes, int(at), float(rate), int(moment), horizon,
        said, base, *medians,
    )  # fmt: skip
    if not np.isfinite(out).all():
        # no input of the domain does this; a stored NaN would be worse than a failed round
        broken = int(np.argmin(np.isfinite(out).all(axis=0)))
        raise PricingDomainError(f"option {broken} of the book", out[:, broken].tolist(), "finite results")
    names = (field.name for field in fields(Premiums))
    return Premiums(**dict(zip(names, out, strict=True)))


def _said(expiries: IntArray, codes: IntArray, known: Mapping[Slot, Said]) -> tuple[IntArray, int]:
    """Return what the minutes say as ``read_window`` takes it, and the first of these minutes."""
    windows = codes != 0
    if not known or not windows.any():
        return np.zeros(0, dtype=np.int64), 0
    oldest = int((expiries - (np.abs(codes) - 1) * SECONDS_PER_MINUTE)[windows].min())
    words = {int(at): word for at, word in known.items() if at >= oldest}
    if not words:
        return np.zeros(0, dtype=np.int64), 0
    base = min(words)
    said = np.full((max(words) - base) // SECONDS_PER_MINUTE + 1, UNSAID, dtype=np.int64)
    for at, word in words.items():
        said[(at - base) // SECONDS_PER_MINUTE] = LEFT_OUT if isinstance(word, LeftOut) else int(word)
    return said, base


def _medians(
    expiries: IntArray, codes: IntArray, barriers: FloatArray, up: npt.NDArray[np.bool_], sigma: FloatArray,
    said: IntArray, base: int, spot: float, rate: float, now: int, *, sampled: bool,
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:  # fmt: skip
    """Return which sample each median needs whose window is near or open (0: none), and the samples."""
    none = np.zeros((9, 1))
    least = (1.0 + NEAR_WINDOWS) * np.abs(codes) * SECONDS_PER_MINUTE
    near = (codes < 0) & (expiries - now <= least) if codes.size else np.zeros(0, dtype=np.bool_)
    if not sampled or not near.any():
        return np.zeros(0, dtype=np.int64), none[None], none[None], np.zeros((1, 4))
    sample_of = np.zeros(codes.size, dtype=np.int64)
    places: dict[tuple[int, int, float, float, bool], int] = {}
    drawn = [(none, none, np.zeros(4))]
    state, prices = np.zeros(STATE), np.zeros(MOST_MINUTES)
    for i in np.flatnonzero(near):
        volatility = float(sigma[i] if sigma.size > 1 else sigma[0])
        key = (int(expiries[i]), int(codes[i]), volatility, float(barriers[i]), bool(up[i]))
        if key not in places:
            places[key] = len(drawn)
            read_window(state, prices, key[1], key[0], now, said, base)
            count = int(state[COUNT] - state[PASSED] - state[AHEAD])
            drawn.append(
                sample_medians(
                    prices[:count], state, spot=spot, sigma=volatility, rate=rate,
                    tau=(key[0] - now) / SECONDS_PER_YEAR, barrier=key[3], up=bool(key[4]),
                )
            )  # fmt: skip
        sample_of[i] = places[key]
    # a window that is all known has one sample: repeated, it says the same
    widest = max(rows.shape[1] for rows, _, _ in drawn)
    rows, alive = (
        np.stack([np.broadcast_to(one, (9, widest)) for one in column])
        for column in ([rows for rows, _, _ in drawn], [alive for _, alive, _ in drawn])
    )
    return sample_of, rows, alive, np.stack([steps for _, _, steps in drawn])


def warm_up() -> None:
    """Compile or load the book's kernels now, so that the first real premium does not wait for it."""
    one = Book(
        kind=np.zeros(1, dtype=np.int8),
        strike_cents=np.full(1, 100, dtype=np.int64),
        expiry_unix=np.full(1, SECONDS_PER_YEAR, dtype=np.int64),
        barrier_cents=np.zeros(1, dtype=np.int64),
        american=np.zeros(1, dtype=np.bool_),
        fixing=np.full(1, 2, dtype=np.int64),
    )
    premiums(one, spot=CentsPerBtc(100), volatility=1.0, now=UnixSeconds(0))


def to_cents(usd: ArrayLike) -> IntArray:
    """Return dollars as integer cents, rounded half-even; the writer of the option bears the rest.

    Raises PricingDomainError for NaN, infinities and amounts of 2**53 cents or more (where a double skips cents).
    """
    scaled = np.asarray(usd, dtype=np.float64) * CENTS_PER_USD
    if not (np.abs(scaled) < 2.0**53).all():
        wrong = scaled[~(np.abs(scaled) < 2.0**53)]
        raise PricingDomainError("premium", float(wrong.flat[0]) / CENTS_PER_USD, "less than 2**53 cents")
    return np.rint(scaled).astype(np.int64)


def cents_of(usd: float) -> Cents:
    """Return one dollar amount as cents; the scalar form of ``to_cents``."""
    return Cents(int(to_cents(usd)))


__all__ = [
    "Book",
    "Premiums",
    "PriceableOption",
    "cents_of",
    "collateral_ratio",
    "fixing_codes",
    "premiums",
    "to_cents",
    "warm_up",
]
