"""How a market maker quotes a chain: two prices an instrument, and as much of each as its limits and its coins carry.

The mark is the model's premium at the surface's volatility. A bid lies below it and an ask above it by a spread in
volatility points, never less than some ticks; what the maker holds moves both within that spread, so that it never
sells below the mark nor buys above it. Each quote is given what is left of every limit with all other quotes taken:
whichever of them are taken, and however much of each, no limit is passed that was not passed before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

import numpy as np

from btcfi.errors import InvalidInputError
from btcfi.market.firm_offer import TICK_SATS, FirmOffer, Side
from btcfi.market.instrument import Instrument, instrument_of
from btcfi.market.request import QuoteRequest
from btcfi.options.terms import OptionTerms, required_collateral
from btcfi.oracle.freshness import MarketStatus
from btcfi.pricing.domain import SECONDS_PER_YEAR, FloatArray, IntArray
from btcfi.pricing.portfolio import Market
from btcfi.pricing.premium import CENTS_PER_USD, Book, Premiums, premiums
from btcfi.pricing.surface import VolatilitySurface
from btcfi.units import (
    MAX_MONEY_SATS,
    MAX_U32,
    SECONDS_PER_MINUTE,
    CentiBtc,
    Cents,
    CentsPerBtc,
    Hash32,
    Sats,
    UnixSeconds,
    cents_per_btc,
)

CENTI: Final = 100
SATS_PER_BTC: Final = 100_000_000
BPS: Final = 10_000

LEAST_VOLATILITY: Final = 0.01
"""Per square-root year: a lower edge of the spread is no lower."""

SCENARIOS: Final = 200
"""Of the shortfall: equally likely moves of the spot, at the quantiles of a normal return."""

EPSILON: Final = 1e-9
"""Of a limit: rounding that passes none."""

TINY: Final = 1e-6
"""A limit of nothing leans as one of so much does."""

SIZE: Final = CentiBtc(20)
MINIMUM: Final = CentiBtc(1)
FEE: Final = Sats(20_000)
LEAST_PREMIUM: Final = Sats(1_000)
NO_CONSENT: Final = Sats(0)
NO_COINS: Final = Sats(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MakingRule:
    """What a maker's owner decides. Raises InvalidInputError naming the field."""

    half_spread_points: float = 2.0
    """Volatility points between the mark and each first quote: 2.0 is 60 % against 62 %."""
    least_half_spread_ticks: int = 2
    """Whatever the points come to."""
    levels: int = 2
    """Quotes of each side of an instrument."""
    level_points: float = 1.0
    """Volatility points by which each further level is worse."""
    size: CentiBtc = SIZE
    """Of each quote, where limits and coins allow it."""
    minimum: CentiBtc = MINIMUM
    """Of one take; a price that is too low to fund so little raises it."""
    skew: float = 0.75
    """Share of the half-spread by which a limit that is used up moves both quotes, 0 to 1."""
    delta_limit_btc: float = 2.0
    """Bitcoin of spot with the same exposure, either way."""
    gamma_limit_btc: float = 1.0
    """Change of that per 1 % of the spot, either way."""
    vega_limit_usd: float = 2_000.0
    """Dollars per point of volatility, either way."""
    shortfall_limit_usd: float = 25_000.0
    """Expected shortfall of what is held and of every quote that may be taken."""
    shortfall_confidence: float = 0.975
    """Of the shortfall, 0.5 to below 1."""
    shortfall_days: float = 1.0
    """Its horizon."""
    coin_share: float = 0.5
    """Of the free coins: collateral of asks and premium of bids together lock no more."""
    fee_sats: Sats = FEE
    """Kept aside for each quote: what its funding may cost beside."""
    least_life_seconds: int = 3_600
    """An instrument that settles sooner, or whose window opens sooner, is not quoted."""
    least_premium_sats: Sats = LEAST_PREMIUM
    """Of a take's whole: less is dust on the chain."""
    price_distance_bps: int = 100
    """By how much a quote's two prices may differ at the spot; the desk refuses more than its own rule says."""
    validity_seconds: int = 30
    """Of an offer: so long a quote outlives a maker that died."""
    renew_seconds: int = 10
    """An offer that is good for less than this is made anew."""
    requote_ticks: int = 2
    """A price that moved by no more stays as it is."""
    requote_share: float = 0.25
    """Nor is one made anew that moved by no more than this share of its distance from the mark, at most a half."""
    keep_share: float = 0.8
    """Of its quantity: an offer of which less remains is made anew."""
    most_offers: int = 500
    """At once; the desk has a bound of its own."""
    most_requests: int = 8
    """Answered at once, before the chain is quoted: asking is free, and must not take all the room that there is."""
    answer_share: float = 0.5
    """Of what every limit and the coins have left, that answers to requests may use together: the chain has the rest.
    """
    answer_seconds: int = 60
    """Of an answer to a request: somebody reads it and chooses."""
    consent_sats: Sats = NO_CONSENT
    """Collateral of contracts of ours whose buyer may change, together; 0: no consent is given. Of one that changes
    hands the mandate's exposure counts it twice until that is final."""
    consent_seconds: int = 86_400
    """Of a consent, at most; it ends before the contract settles too soon to be quoted."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, low, high in _RANGES:
            number = getattr(self, name)
            if not (math.isfinite(number) and low <= number <= high):
                raise InvalidInputError(name, repr(number), f"a number from {low:g} to {high:g}")
        if self.minimum > self.size:
            raise InvalidInputError("minimum", f"{self.minimum}", f"at most the size, {self.size}")
        if self.renew_seconds >= min(self.validity_seconds, self.answer_seconds):
            most = min(self.validity_seconds, self.answer_seconds)
            raise InvalidInputError("renew_seconds", f"{self.renew_seconds}", f"below {most}")
        if not self.shortfall_confidence < 1.0:
            raise InvalidInputError("shortfall_confidence", repr(self.shortfall_confidence), "below 1")


_RANGES: Final[tuple[tuple[str, float, float], ...]] = (
    ("half_spread_points", 0.01, 100.0), ("least_half_spread_ticks", 1, 1_000_000), ("levels", 1, 10),
    ("level_points", 0.01, 100.0), ("size", 1, MAX_U32), ("minimum", 1, MAX_U32), ("skew", 0.0, 1.0),
    ("delta_limit_btc", 0.0, 1e6), ("gamma_limit_btc", 0.0, 1e6), ("vega_limit_usd", 0.0, 1e9),
    ("shortfall_limit_usd", 0.0, 1e12), ("shortfall_confidence", 0.5, 1.0), ("shortfall_days", 0.01, 30.0),
    ("coin_share", 0.0, 1.0), ("fee_sats", 0, MAX_MONEY_SATS), ("least_life_seconds", 60, SECONDS_PER_YEAR),
    ("least_premium_sats", 1, MAX_MONEY_SATS), ("price_distance_bps", 1, BPS), ("validity_seconds", 2, 86_400),
    ("renew_seconds", 1, 86_400), ("requote_ticks", 0, 1_000_000), ("keep_share", 0.0, 1.0),
    ("requote_share", 0.0, 0.5), ("most_offers", 2, 100_000), ("most_requests", 0, 1_000),
    ("answer_seconds", 2, 86_400), ("answer_share", 0.0, 1.0),
    ("consent_sats", 0, MAX_MONEY_SATS), ("consent_seconds", 60, 30 * 86_400),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A quantity of one instrument: bought above 0, written below, in hundredths of a bitcoin."""

    instrument: Instrument
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a maker has."""

    held: tuple[Held, ...] = ()
    """Also what was taken and is not funded yet."""
    free: Sats = NO_COINS
    """Coins that no contract holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A firm offer before it has a maker, a number and a last second."""

    instrument: Instrument
    side: Side
    price: Sats
    """For one bitcoin."""
    price_cents: Cents
    """For one bitcoin."""
    quantity: CentiBtc
    minimum: CentiBtc
    away: Sats = NO_COINS
    """Between the price and the mark, for one bitcoin."""
    request: QuoteRequest | None = None
    """What it answers: then it is for who asked alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A quote that is not made, or made smaller, and why."""

    reason: str
    """``pause: thin``, ``limit: vega``, ``coins: asks``…"""
    instrument: Instrument | None = None
    """None: all of them."""
    side: Side | None = None
    """None: both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What the model says of one instrument."""

    instrument: Instrument
    volatility: float
    """Per square-root year."""
    mark: float
    """USD per BTC."""
    delta: float
    vega: float
    """USD per BTC and point."""


CLOSE_SECONDS: Final = 60
"""An offer to close that stands longer is left to the owner: once we have said yes, its maker may wait that long."""


def close_refusal(
    rule: MakingRule, market: Market, surface: VolatilitySurface, terms: OptionTerms, *, writes: bool, payout: Sats,
    stands_seconds: int,
) -> str | None:  # fmt: skip
    """Return why a maker does not end a contract of its own at this payout of the holder's, None where it does.

    writes: whether the maker wrote it; then it buys it back, at its bid or below, else it sells, at its ask or above.
    stands_seconds: for how long the other side may still finish what we agree to. Limits are not asked: what ends was
    counted in them.
    """
    instrument = instrument_of(terms)
    if not 0 < stands_seconds <= CLOSE_SECONDS:
        return f"it stands for {stands_seconds} s; a maker says yes to at most {CLOSE_SECONDS} s"
    if _opens(instrument) - market.now < rule.least_life_seconds:
        return "it settles too soon"
    if _knocked(instrument, market.spot):
        return "its barrier is reached"
    chain = _Chain.of([instrument], market, surface, rule, None)
    edge = chain.low[0][0] if writes else chain.high[0][0]
    worth = edge * CENTS_PER_USD / market.spot * SATS_PER_BTC * terms.quantity / CENTI
    least_away = rule.least_half_spread_ticks * TICK_SATS * terms.quantity / CENTI
    mark = chain.at.premium[0] * CENTS_PER_USD / market.spot * SATS_PER_BTC * terms.quantity / CENTI
    if writes:
        most = max(math.floor(min(worth, mark - least_away)), 0)
        return None if payout <= most else f"{payout:,} sats are asked, and our bid is {most:,}"
    least = math.ceil(max(worth, mark + least_away))
    return None if payout >= least else f"{payout:,} sats are offered, and our ask is {least:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A contract that a maker wrote, and to whose change of buyer it has said something, or nothing yet."""

    option: str
    terms: OptionTerms
    consented: bool = False
    """A consent of it stands."""
    declined: bool = False
    """Its owner has taken one back, or the desk did not take it, and its time is not over: that is an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentPlan:
    """To what a maker consents now."""

    seconds: dict[str, int]
    """By option: for how long."""
    left_out: dict[str, str]
    """By option: why not."""


def consents(rule: MakingRule, market: Market, written: Sequence[Written]) -> ConsentPlan:
    """Return to which changes of buyer a maker consents, the largest contract last, within its rule's collateral.

    A change keeps every term, so nothing is priced: what the rule bounds is how much collateral may count twice.
    """
    room = rule.consent_sats - sum(one.terms.collateral for one in written if one.consented)
    plan = ConsentPlan(seconds={}, left_out={})
    if rule.consent_sats == 0:
        return plan
    for one in sorted(written, key=lambda one: (one.terms.collateral, one.option)):
        if one.consented:
            continue
        left = _opens(instrument_of(one.terms)) - market.now - rule.least_life_seconds
        if one.declined:
            plan.left_out[one.option] = "a consent of it was taken back"
        elif left <= 0:
            plan.left_out[one.option] = "it settles too soon"
        elif one.terms.collateral > room:
            plan.left_out[one.option] = f"{one.terms.collateral:,} sats of collateral, and {max(room, 0):,} are left"
        else:
            plan.seconds[one.option] = min(rule.consent_seconds, left)
            room -= one.terms.collateral
    return plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Where a maker stands against its limits, with nothing taken."""

    delta_btc: float = 0.0
    gamma_btc: float = 0.0
    vega_usd: float = 0.0
    shortfall_usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """One round's answer."""

    drafts: tuple[Draft, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    marks: tuple[Marked, ...] = ()
    exposure: Exposure = field(default_factory=Exposure)


def paused(status: MarketStatus) -> Quoted:
    """Return the answer for a market that is not trading: nothing, and why."""
    return Quoted(left_out=(LeftOut(reason=f"pause: {status.value}"),))


def quotes(
    rule: MakingRule, market: Market, surface: VolatilitySurface, inventory: Inventory,
    instruments: Sequence[Instrument], *, status: MarketStatus = MarketStatus.TRADING,
    returns: Sequence[float] | None = None, asked: Sequence[QuoteRequest] = (),
) -> Quoted:  # fmt: skip
    """Return what a maker quotes of ``instruments`` in one market, nearest to the mark first, and what it does not.

    asked: requests in the order in which they are answered, the first ``most_requests`` of them and before the chain,
    one of each account before a second of any: each at the first level, of the size at most, within the same limits.
    market: its ``volatility`` is that of the shortfall's scenarios, the surface's is that of the marks. status: at any
    other than trading nothing is quoted. returns: equally likely logarithmic moves of the spot over the rule's horizon;
    None: a normal distribution's. Raises the errors of ``premium.premiums``.
    """
    if status is not MarketStatus.TRADING:
        return paused(status)
    far = [one for one in instruments if _opens(one) - market.now >= rule.least_life_seconds]
    out = [LeftOut(reason="life: it settles too soon", instrument=one) for one in instruments if one not in set(far)]
    alive = [one for one in far if not _knocked(one, market.spot)]
    out += [LeftOut(reason="barrier: it is reached", instrument=one) for one in far if one not in set(alive)]
    answered, unanswered = _answerable(rule, market, asked)
    out += unanswered
    names = list(
        dict.fromkeys([*alive, *(one.instrument for one in answered), *(one.instrument for one in inventory.held)])
    )
    if not names:
        return Quoted(left_out=tuple(out))
    chain = _Chain.of(names, market, surface, rule, returns)
    room = _Room(rule, chain, inventory)
    lean = room.lean(len(alive) or len(names))
    with room.kept_aside(1.0 - rule.answer_share):
        drafts, less = _answers(rule, chain, room, lean, market.spot, asked=answered)
    out += less
    candidates, cheap = _candidates(rule, chain, lean, market.spot, _nearest(chain, market.spot, len(alive)))
    out += cheap
    for one in candidates:
        if len(drafts) >= rule.most_offers:
            out.append(LeftOut(reason=f"offers: {rule.most_offers} at most", instrument=one.instrument, side=one.side))
            continue
        quantity, binding = room.take(one)
        if binding:
            out.append(LeftOut(reason=binding, instrument=one.instrument, side=one.side))
        if quantity:
            drafts.append(
                Draft(
                    instrument=one.instrument, side=one.side, price=one.price, price_cents=one.price_cents,
                    quantity=quantity, minimum=one.minimum, away=one.away,
                )
            )  # fmt: skip
    # of what is listed, and of what is asked for
    marked = len(dict.fromkeys([*alive, *(one.instrument for one in answered)]))
    marks = tuple(
        Marked(
            instrument=names[i], volatility=float(chain.volatility[i]), mark=float(chain.at.premium[i]),
            delta=float(chain.at.delta[i]), vega=float(chain.at.vega[i]),
        )
        for i in range(marked)
    )  # fmt: skip
    return Quoted(drafts=tuple(drafts), left_out=tuple(dict.fromkeys(out)), marks=marks, exposure=room.exposure)


def _answerable(
    rule: MakingRule, market: Market, asked: Sequence[QuoteRequest]
) -> tuple[list[QuoteRequest], list[LeftOut]]:
    """Return the requests that are answered, and why the others are not."""
    out: list[LeftOut] = []
    good: list[QuoteRequest] = []
    for one in asked:
        if _opens(one.instrument) - market.now < rule.least_life_seconds:
            out.append(LeftOut(reason="life: it settles too soon", instrument=one.instrument))
        elif _knocked(one.instrument, market.spot):
            out.append(LeftOut(reason="barrier: it is reached", instrument=one.instrument))
        else:
            good.append(one)
    turns: dict[bytes, int] = {}
    ranked = []
    for one in good:
        turns[one.taker] = turns.get(one.taker, 0) + 1
        ranked.append((turns[one.taker], one))
    ranked.sort(key=lambda item: item[0])
    full = f"requests: {rule.most_requests} at most"
    out += [LeftOut(reason=full, instrument=one.instrument) for _, one in ranked[rule.most_requests :]]
    return [one for _, one in ranked[: rule.most_requests]], out


def _answers(
    rule: MakingRule, chain: _Chain, room: _Room, lean: FloatArray, spot: CentsPerBtc, *,
    asked: Sequence[QuoteRequest],
) -> tuple[list[Draft], list[LeftOut]]:  # fmt: skip
    """Return the answers to requests, and why there are none or smaller ones."""
    place = {one: i for i, one in enumerate(chain.names)}
    drafts: list[Draft] = []
    out: list[LeftOut] = []
    for request in asked:
        sides = request.wanted.sides
        found, cheap = _candidates(rule, chain, lean, spot, [place[request.instrument]], levels=1)
        out += [one for one in cheap if one.side in sides]
        for one in (candidate for candidate in found if candidate.side in sides):
            if len(drafts) >= rule.most_offers:
                out.append(
                    LeftOut(reason=f"offers: {rule.most_offers} at most", instrument=one.instrument, side=one.side)
                )
                continue
            quantity, binding = room.take(one, most=request.quantity)
            if not quantity and not binding:
                binding = "request: too small to fund"
            if binding:
                out.append(LeftOut(reason=binding, instrument=one.instrument, side=one.side))
            if quantity:
                drafts.append(
                    Draft(
                        instrument=one.instrument, side=one.side, price=one.price, price_cents=one.price_cents,
                        quantity=quantity, minimum=one.minimum, away=one.away, request=request,
                    )
                )  # fmt: skip
    return drafts, out


def scenario_returns(volatility: float, days: float) -> FloatArray:
    """Return SCENARIOS equally likely logarithmic returns over ``days``: quantiles of a normal distribution."""
    normal = NormalDist()
    scale = volatility * math.sqrt(days / 365.0)
    return np.array([normal.inv_cdf((i + 0.5) / SCENARIOS) * scale for i in range(SCENARIOS)])


def shortfall(losses: FloatArray, confidence: float) -> float:
    """Return the mean of the worst losses, the k worst of n, k = ceil(n (1 - confidence)), as ``portfolio`` counts."""
    k = max(math.ceil(losses.size * (1.0 - confidence) - EPSILON), 1)
    return float(np.partition(losses, losses.size - k)[losses.size - k :].mean())


def firm_offer(draft: Draft, *, maker: bytes, desk: bytes, valid_until: UnixSeconds, number: int) -> FirmOffer:
    """Return the offer of a draft: maker, desk: x-only keys, as ``FirmOffer`` has them. number: the maker's own."""
    return FirmOffer(
        maker=maker, desk=desk, instrument=draft.instrument, side=draft.side, price=draft.price,
        price_cents=draft.price_cents, quantity=draft.quantity, minimum=draft.minimum, valid_until=valid_until,
        number=number, taker=None if draft.request is None else draft.request.taker,
        request=None if draft.request is None else draft.request.id,
    )  # fmt: skip


# ---- what moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What leads from the offers that stand to those that should."""

    withdraw: tuple[FirmOffer, ...]
    """To be withdrawn before anything is posted."""
    post: tuple[Draft, ...]
    kept: tuple[FirmOffer, ...]


def changes(
    rule: MakingRule, standing: Sequence[tuple[FirmOffer, int]], drafts: Sequence[Draft], *, wall: UnixSeconds
) -> Changes:
    """Return which offers go and which come. standing: each with what remains of it. wall: by which they are good.

    An instrument's offers stay or go together: one side of an older round beside the other of a newer one could cross.
    The answers to one request are a group of their own. One of which more remains than the draft has goes too: what may
    be taken is what was counted.
    """
    wanted: dict[tuple[str, Hash32 | None], list[Draft]] = {}
    for draft in drafts:
        answers = None if draft.request is None else draft.request.id
        wanted.setdefault((draft.instrument.name, answers), []).append(draft)
    there: dict[tuple[str, Hash32 | None], list[tuple[FirmOffer, int]]] = {}
    for offer, remaining in standing:
        there.setdefault((offer.instrument.name, offer.request), []).append((offer, remaining))
    withdraw: list[FirmOffer] = []
    post: list[Draft] = []
    kept: list[FirmOffer] = []
    for name in dict.fromkeys([*there, *wanted]):
        old = sorted(there.get(name, ()), key=lambda one: (one[0].side, one[0].price))
        new = sorted(wanted.get(name, ()), key=lambda one: (one.side, one.price))
        same = len(old) == len(new) and all(
            _close(rule, offer, remaining, draft, wall) for (offer, remaining), draft in zip(old, new, strict=True)
        )
        (kept if same else withdraw).extend(offer for offer, _ in old)
        post += [] if same else new
    return Changes(withdraw=tuple(withdraw), post=tuple(post), kept=tuple(kept))


def _close(rule: MakingRule, offer: FirmOffer, remaining: int, draft: Draft, wall: UnixSeconds) -> bool:
    moved = abs(offer.price - draft.price)
    return (
        offer.side is draft.side
        # half of the distance at most: the older price is on the right side of the newer mark
        and moved <= min(max(rule.requote_ticks * TICK_SATS, rule.requote_share * draft.away), draft.away / 2)
        and draft.quantity * rule.keep_share <= remaining <= draft.quantity
        and offer.valid_until - wall > rule.renew_seconds
    )


# ---- the chain, priced


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """Every instrument that is quoted or held, priced: columns of one length, the quoted ones first."""

    names: tuple[Instrument, ...]
    volatility: FloatArray
    at: Premiums
    low: tuple[FloatArray, ...]
    """A level's least premium over its spread of volatility, USD per BTC; lower with each level."""
    high: tuple[FloatArray, ...]
    losses: FloatArray
    """USD that one bitcoin of each loses in each scenario, shape (scenarios, instruments)."""
    greeks: FloatArray
    """Of one bitcoin of each: delta in BTC, gamma in BTC per 1 %, vega in USD per point; shape (3, instruments)."""

    @classmethod
    def of(
        cls, names: Sequence[Instrument], market: Market, surface: VolatilitySurface, rule: MakingRule,
        returns: Sequence[float] | None,
    ) -> _Chain:  # fmt: skip
        book = Book.of([one.terms(CentiBtc(CENTI), Cents(0)) for one in names])  # type: ignore[misc]
        spot = market.spot / CENTS_PER_USD
        tau = np.maximum(book.expiry_unix - market.now, 1) / SECONDS_PER_YEAR
        forward = spot * np.exp(market.rate * tau)
        sigma = np.maximum(
            surface.volatility(strike=book.strike_cents / CENTS_PER_USD, forward=forward, tau_years=tau),
            LEAST_VOLATILITY,
        )

        def priced(volatility: FloatArray, spot: CentsPerBtc = market.spot, later: int = 0) -> Premiums:
            return premiums(
                book, spot=spot, volatility=volatility, rate=market.rate, now=UnixSeconds(market.now + later),
                known=market.known,
                # of each scenario a median would be sampled for a second: who asks for one would stop all quotes
                sampled=False,
            )  # fmt: skip

        at = priced(sigma)
        low, high = [], []
        least = most = at.premium
        for level in range(rule.levels):
            points = (rule.half_spread_points + level * rule.level_points) / 100.0
            down = priced(np.maximum(sigma - points, LEAST_VOLATILITY)).premium
            up = priced(sigma + points).premium
            # a knock-out's or a binary's premium may fall as volatility rises
            least, most = np.minimum(least, np.minimum(down, up)), np.maximum(most, np.maximum(down, up))
            low.append(least)
            high.append(most)
        typical = float(
            np.median(market.volatility)
        )  # one market's scenarios are one's, whatever each option's smile is
        moves = scenario_returns(typical, rule.shortfall_days) if returns is None else np.asarray(returns)
        later = round(rule.shortfall_days * SECONDS_PER_YEAR / 365)
        losses = np.stack(
            [
                at.premium - priced(sigma, cents_per_btc(max(round(market.spot * math.exp(x)), 1)), later).premium
                for x in moves
            ]
        )  # fmt: skip
        greeks = np.stack([at.delta, at.gamma * spot / 100.0, at.vega])
        return cls(
            names=tuple(names), volatility=sigma, at=at, low=tuple(low), high=tuple(high), losses=losses, greeks=greeks
        )


def _opens(instrument: Instrument) -> int:
    """Return when the first minute begins that settles it."""
    return instrument.expiry - (instrument.fixing.minutes - 1) * SECONDS_PER_MINUTE


def _knocked(instrument: Instrument, spot: CentsPerBtc) -> bool:
    barrier = instrument.barrier
    if barrier is None:
        return False
    return spot >= barrier if barrier > instrument.strike else spot <= barrier


# ---- candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A quote before it has a quantity."""

    place: int
    """Its column of the chain."""
    instrument: Instrument
    side: Side
    price: Sats
    price_cents: Cents
    minimum: CentiBtc
    away: Sats

    @property
    def sign(self) -> int:
        """What a take adds to the maker's holding."""
        return 1 if self.side is Side.BID else -1


def _nearest(chain: _Chain, spot: CentsPerBtc, quoted: int) -> list[int]:
    """Return the columns of the first ``quoted`` instruments, the nearest strikes first."""
    away = [abs(one.strike - spot) for one in chain.names[:quoted]]
    return sorted(range(quoted), key=lambda i: (away[i], chain.names[i].expiry, chain.names[i].name))


def _candidates(
    rule: MakingRule, chain: _Chain, lean: FloatArray, spot: CentsPerBtc, order: Sequence[int],
    *, levels: int | None = None,
) -> tuple[list[_Candidate], list[LeftOut]]:  # fmt: skip
    """Return every quote in the order in which they are given their room: first levels first.

    lean: of each instrument, -1 to 1: how much the maker has of what it is, against its limits. order: columns.
    levels: None: as many as the rule has.
    """
    tick = TICK_SATS * spot / CENTS_PER_USD / SATS_PER_BTC  # in USD per BTC, as a price is
    mark = chain.at.premium
    found: list[_Candidate] = []
    out: list[LeftOut] = []
    last: dict[tuple[int, Side], int] = {}
    for level in range(rule.levels if levels is None else levels):
        floor = rule.least_half_spread_ticks * tick
        below = np.maximum(mark - chain.low[level], floor)
        above = np.maximum(chain.high[level] - mark, floor)
        # both move together, by a share of the nearer half: neither quote passes the mark
        moved = -lean * rule.skew * np.minimum(below, above)
        sides = ((Side.BID, mark - below + moved), (Side.ASK, mark + above + moved))
        for i in order:
            for side, usd in sides:
                where = chain.names[i]
                price = _on_tick(float(usd[i]), spot, side)
                before = last.get((i, side))
                if before is not None:  # the floor or the tick may make two levels of one price
                    price = min(price, before - TICK_SATS) if side is Side.BID else max(price, before + TICK_SATS)
                away = Sats(round(abs(price - float(mark[i]) * CENTS_PER_USD * SATS_PER_BTC / spot)))
                one = _candidate(rule, i, where, side, price=price, away=away, spot=spot)
                if isinstance(one, str):
                    out.append(LeftOut(reason=one, instrument=where, side=side))
                else:
                    last[i, side] = price
                    found.append(one)
    return found, out


def _candidate(
    rule: MakingRule, place: int, instrument: Instrument, side: Side, *, price: int, away: Sats,
    spot: CentsPerBtc,
) -> _Candidate | str:  # fmt: skip
    """Return a quote at a price, or why there is none."""
    if price < TICK_SATS:
        return "price: below a tick"
    if price > MAX_MONEY_SATS:
        return "price: above all the money there is"
    cents = round(price * spot / SATS_PER_BTC)
    if not 1 <= cents <= MAX_U32 or not _agree(price, cents, spot, rule.price_distance_bps):
        return "price: satoshis and cents do not agree so finely"
    minimum = max(int(rule.minimum), -(-int(rule.least_premium_sats) * CENTI // price))
    if minimum > rule.size:
        return "price: too low to fund the size"
    return _Candidate(
        place=place, instrument=instrument, side=side, price=Sats(price), price_cents=Cents(cents),
        minimum=CentiBtc(minimum), away=away,
    )  # fmt: skip


def _on_tick(usd: float, spot: CentsPerBtc, side: Side) -> int:
    """Return a price in satoshis: a bid rounds down to the tick, an ask up; at least 0."""
    ticks = max(usd, 0.0) * CENTS_PER_USD * SATS_PER_BTC / spot / TICK_SATS
    return TICK_SATS * (math.floor(ticks) if side is Side.BID else math.ceil(ticks))


def _agree(price: int, cents: int, spot: CentsPerBtc, bps: int) -> bool:
    worth = price * spot  # in cents times satoshis a bitcoin: whole numbers
    return abs(cents * SATS_PER_BTC - worth) * BPS <= bps * worth


# ---- room below the limits


_LIMITED: Final = ("delta", "gamma", "vega")


class _Room:
    """What is left of each limit when everything that was given room is taken, or nothing of it."""

    def __init__(self, rule: MakingRule, chain: _Chain, inventory: Inventory) -> None:
        self._rule, self._chain = rule, chain
        holding: IntArray = np.zeros(len(chain.names), dtype=np.int64)
        column = {one: i for i, one in enumerate(chain.names)}
        for one in inventory.held:
            holding[column[one.instrument]] += one.quantity
        btc = holding / CENTI
        self._now: FloatArray = chain.greeks @ btc
        self._limits = np.array([rule.delta_limit_btc, rule.gamma_limit_btc, rule.vega_limit_usd])
        self._high, self._low, self._shortfall_limit = self._limits, -self._limits, rule.shortfall_limit_usd
        # the worst either way: each quote counts where it adds, and nowhere else
        self._most, self._least = self._now.copy(), self._now.copy()
        self._losses: FloatArray = chain.losses @ btc
        self._coins = int(inventory.free * rule.coin_share)
        self.exposure = Exposure(
            delta_btc=float(self._now[0]), gamma_btc=float(self._now[1]), vega_usd=float(self._now[2]),
            shortfall_usd=shortfall(self._losses, rule.shortfall_confidence),
        )  # fmt: skip

    def lean(self, quoted: int) -> FloatArray:
        """Return of each instrument how much the maker has of what it is: its Greeks against the largest quoted.

        quoted: how many of the chain's instruments are.
        """
        scale = np.abs(self._chain.greeks[:, :quoted]).max(axis=1, initial=0.0)
        used = self._now / np.maximum(self._limits, TINY)
        like = self._chain.greeks / np.where(scale > 0.0, scale, 1.0)[:, None]
        leaning: FloatArray = np.clip(used @ like, -1.0, 1.0)
        return leaning

    @contextmanager
    def kept_aside(self, share: float) -> Iterator[None]:
        """Keep a share of what is left of every limit, and of the coins, for what comes after."""
        known, coins = (self._high, self._low, self._shortfall_limit), int(self._coins * share)
        worst = shortfall(self._losses, self._rule.shortfall_confidence)
        self._high = self._high - share * np.maximum(self._high - self._most, 0.0)
        self._low = self._low + share * np.maximum(self._least - self._low, 0.0)
        self._shortfall_limit -= share * max(self._shortfall_limit - worst, 0.0)
        self._coins -= coins
        yield
        self._high, self._low, self._shortfall_limit = known
        self._coins += coins

    def take(self, one: _Candidate, *, most: CentiBtc | None = None) -> tuple[CentiBtc, str]:
        """Give a quote as much as every limit has room for, and take that from them; and what bound it, or nothing.

        most: that is wanted of it; None: the rule's size.
        """
        wanted = int(self._rule.size) if most is None else min(int(self._rule.size), int(most))
        adds = one.sign * self._chain.greeks[:, one.place] / CENTI
        loses = one.sign * self._chain.losses[:, one.place] / CENTI
        binding = ""
        for k, name in enumerate(_LIMITED):
            free = self._high[k] - self._most[k] if adds[k] > 0.0 else self._least[k] - self._low[k]
            fits = _fitting(free, abs(float(adds[k])))
            if fits < wanted:
                wanted, binding = fits, f"limit: {name}"
        fits = self._within_coins(one)
        if fits < wanted:
            wanted, binding = fits, f"coins: {'premium of bids' if one.side is Side.BID else 'collateral of asks'}"
        fits = self._within_shortfall(loses, wanted)
        if fits < wanted:
            wanted, binding = fits, "limit: shortfall"
        if wanted < one.minimum:
            return CentiBtc(0), binding
        change = adds * wanted
        self._most += np.maximum(change, 0.0)
        self._least += np.minimum(change, 0.0)
        self._losses = self._losses + np.maximum(loses, 0.0) * wanted
        self._coins -= locked_by(one.side, one.instrument, one.price, CentiBtc(wanted)) + int(self._rule.fee_sats)
        return CentiBtc(wanted), binding

    def _within_coins(self, one: _Candidate) -> int:
        free = self._coins - int(self._rule.fee_sats)
        each = locked_by(one.side, one.instrument, one.price, CentiBtc(CENTI))
        return max(free * CENTI // each, 0) if free > 0 else 0

    def _within_shortfall(self, loses: FloatArray, most: int) -> int:
        adds = np.maximum(loses, 0.0)

        def within(quantity: int) -> bool:
            worst = shortfall(self._losses + adds * quantity, self._rule.shortfall_confidence)
            return worst <= self._shortfall_limit + EPSILON

        if not adds.any() or most < 1 or within(most):
            return most
        low, high = 0, most  # the shortfall grows with the quantity
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if within(middle) else (low, middle)
        return low


def locked_by(side: Side, instrument: Instrument, price: Sats, quantity: CentiBtc) -> Sats:
    """Return what the maker locks when a quantity of its offer is taken: an ask's collateral, a bid's premium."""
    if side is Side.ASK:
        return required_collateral(instrument.kind, quantity)
    return Sats(price * quantity // CENTI)


def _fitting(free: float, each: float) -> int:
    """Return how many hundredths fit; all there could be of one that adds nothing, or next to it."""
    room = max(free + EPSILON, 0.0)
    return MAX_U32 if each * MAX_U32 <= room else math.floor(room / each)
