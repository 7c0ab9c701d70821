"""Many quotes, one price: or none, with the reason.

Pure integer arithmetic over a set: the same observations give the same bytes in any order, on any machine. Nothing
here can open a socket (a contract of import-linter), so a price can be checked by anybody who has the evidence.

The rule, in order (docs/oracle.md gives the reasons, and a table of what liars can do):

1. One candle a venue: nodes of one venue that differ leave it without any (by time, one liar would be the latest).
2. Dollar markets further than ``outlier_bps`` from the dollar markets' median are not used: they do not count towards
   the quorum, nor in a mean. In a median each keeps its vote, on the side on which it stands (docs/decisions/0049).
3. A stablecoin's quote becomes dollars by its legs' rate (the median of several), or at par without one, and counts
   only within ``par_band_bps`` of what dollars paid in that minute. All markets of one coin are one opinion: they share
   the leg.
4. ``ceil(quorum * registered)`` venues must have spoken, and the quorum must still stand after 2 and 3.
5. The price is the method's over three or more dollar markets alone: then a coin only confirms. Of fewer, the coins'
   opinions count too, and the price stays between the dollar markets': a coin never outvotes a dollar.
6. How far one of those that made the price could have moved it is measured, and a price that is too thin says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from btcfi.errors import InvalidInputError
from btcfi.oracle.quote import (
    DOLLAR,
    HIGHEST_PRICE,
    LOWEST_PRICE,
    PAR,
    LegQuote,
    Missing,
    MissingReason,
    Observation,
    Quote,
    Rate,
    VenueId,
    parse_venue,
)
from btcfi.records import WHOLE, Refused, Rule, optional, record, teach
from btcfi.units import BasisPoints, CentsPerBtc, Hash32, Sats, Slot

_ONE: Final = 10_000
"""100 % in basis points."""

MAX_DOLLAR_MARKETS: Final = 64
"""Of one rule: there are not so many exchanges that trade dollars."""

ALONE: Final = 3
"""So many dollar markets make the price by themselves; with fewer, stablecoins are heard too."""

_TEN_POINTS: Final = BasisPoints(10)
_ONE_PERCENT: Final = BasisPoints(100)
_TWO_PERCENT: Final = BasisPoints(200)


class Method(StrEnum):
    """How the venues that stay become one price."""

    MEDIAN = "median"
    """The default: each counts the same. Fewer than half, whatever they say, never leave the range of the others.

    That holds because an outlier keeps its vote: a cut before the median would let two of five at one end of an honest
    range push out the one at the other end, and be half of those that are left.
    """
    VOLUME_WEIGHTED_MEDIAN = "volume_weighted_median"
    """A weight is capped at the median volume, so no single venue of three or more ever holds half; two of five do."""
    MEAN = "mean"
    """The published README's: each venue counts the same."""
    VOLUME_WEIGHTED_MEAN = "volume_weighted_mean"
    """The published whitepaper's: one venue that lies about its volume moves it inside the outlier band."""


class ConsensusRuleError(InvalidInputError):
    """A preset's consensus numbers contradict themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsensusRule:
    """The numbers of a preset that decide a price. Raises ConsensusRuleError when built out of range."""

    method: Method = Method.MEDIAN
    outlier_bps: BasisPoints = _TWO_PERCENT
    """A dollar market is kept if at most so far from their median: exactly 2 % stays."""
    par_band_bps: BasisPoints = _ONE_PERCENT
    """A stablecoin's quote counts if at most so far outside the minute's range in dollars."""
    quorum_numerator: int = 2
    quorum_denominator: int = 3
    """Share of the registered venues, rounded up, that must have spoken and must stay."""
    settle_confidence_bps: BasisPoints = _ONE_PERCENT
    """A settlement waits for a better price while the confidence band is wider than this."""
    least_dollar_markets: int = 4
    """With fewer dollar markets present the price is thin, and does not settle. 0: not asked (an earlier preset)."""
    thin_bps: BasisPoints = _TEN_POINTS
    """A price that one of them can move further than this is thin, and does not settle. 0: not asked."""

    def __post_init__(self) -> None:
        if not 0 < self.quorum_numerator <= self.quorum_denominator:
            raise ConsensusRuleError(
                "quorum", f"{self.quorum_numerator}/{self.quorum_denominator}", "a share above 0 and at most 1"
            )
        for name in ("outlier_bps", "par_band_bps", "settle_confidence_bps"):
            if not 0 < getattr(self, name) < _ONE:
                raise ConsensusRuleError(name, str(getattr(self, name)), "1 to 9999")
        if not 0 <= self.thin_bps < _ONE:
            raise ConsensusRuleError("thin_bps", str(self.thin_bps), "0 (not asked) to 9999")
        if not 0 <= self.least_dollar_markets <= MAX_DOLLAR_MARKETS:
            raise ConsensusRuleError(
                "least_dollar_markets", str(self.least_dollar_markets), f"0 (not asked) to {MAX_DOLLAR_MARKETS}"
            )
        if self.thin_bps and self.method is not Method.MEDIAN:
            raise ConsensusRuleError("method", self.method.value, "median, where thin_bps bounds what one venue can do")

    def quorum(self, registered: int) -> int:
        """Return how many of ``registered`` venues are needed: the share, rounded up, and never 0."""
        return max(1, -(-registered * self.quorum_numerator // self.quorum_denominator))


class Basis(StrEnum):
    """How a venue's number became dollars."""

    DOLLAR = "dollar"
    CONVERTED = "converted"
    PAR = "par"


class DropReason(StrEnum):
    """Why a registered or offered quote did not count."""

    OUTLIER = "outlier"
    OUTSIDE_PAR_BAND = "outside_par_band"
    """A stablecoin at par, too far from what dollars paid."""
    OUTSIDE_DOLLAR_RANGE = "outside_dollar_range"
    """A stablecoin converted by its leg, too far from what dollars paid: the venue or the leg is wrong."""
    NO_DOLLAR_REFERENCE = "no_dollar_reference"
    """A stablecoin in a minute without one dollar quote to hold it against."""
    CONVERTED_OUT_OF_RANGE = "converted_out_of_range"
    UNREGISTERED = "unregistered"
    WRONG_SLOT = "wrong_slot"
    SUPERSEDED = "superseded"
    """The same venue said the same candle again later in the same minute."""
    NODES_DISAGREE = "nodes_disagree"
    """The nodes of its venue say different candles; whichever counted, one liar could be it."""
    EQUIVOCATION = "equivocation"
    """Its node signed two different prices for this slot."""


class Thin(StrEnum):
    """Why a price is too thin to settle on."""

    FEW_DOLLAR_MARKETS = "few_dollar_markets"
    """Fewer than the rule's least spoke."""
    ONE_CAN_MOVE_IT = "one_can_move_it"
    """One of those that made it could have moved it further than the rule allows."""
    UNMEASURED = "unmeasured"
    """An earlier release's report, which did not measure it, or a method that bounds nothing."""


class VoidReason(StrEnum):
    """Why a round has no price."""

    NO_QUORUM = "no_quorum"
    """Too few venues spoke."""
    NO_QUORUM_AFTER_CUT = "no_quorum_after_cut"
    """Enough spoke, too few agreed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """One venue whose quote is in the price."""

    venue: VenueId
    close: CentsPerBtc
    """As quoted, hundredths of the venue's quote currency."""
    dollars: CentsPerBtc
    """The same in US cents; equal to ``close`` for a USD venue and at par."""
    basis: Basis
    rate: Rate
    """1e-8 dollars for one unit of the quote currency, as applied."""
    weight: int
    """What the method gave it: its capped volume in sats, or 1; 0 for a stablecoin that only confirms."""
    evidence: Hash32
    volume: Sats | None = None
    """Traded in the minute, in sats, as quoted. None in an earlier release's report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """One quote that is not in the price, and why, in numbers."""

    venue: VenueId
    reason: DropReason
    close: CentsPerBtc | None
    dollars: CentsPerBtc | None = None
    """What it would have said in US cents, where that is known."""
    reference: CentsPerBtc | None = None
    """Median close of the dollar markets in US cents, rounded down to a cent."""
    deviation_bps: int | None = None
    """Its distance from the reference, rounded up."""
    limit_bps: int | None = None
    evidence: Hash32 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """One registered venue that said nothing usable."""

    venue: VenueId
    reason: MissingReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreedPrice:
    """The price of one minute and everything needed to see why."""

    slot: Slot
    price: CentsPerBtc
    low: CentsPerBtc
    """The lowest level that more than half of those that made the price traded at or below: one wick hits nothing."""
    high: CentsPerBtc
    """The highest level that more than half of those that made the price traded at or above."""
    confidence: CentsPerBtc
    """More than half of those that made the price lie within this distance of it. May be 0."""
    registered: int
    quorum: int
    used: tuple[Used, ...]
    dropped: tuple[Dropped, ...]
    absent: tuple[Absent, ...]
    rates: tuple[tuple[str, Rate], ...]
    """The legs' rates of this minute, by currency."""
    method: Method
    dollar_markets: int | None = None
    """Dollar markets that spoke, before the cut. None in an earlier release's report."""
    reach: CentsPerBtc | None = None
    """How far any one of those that made the price could have moved it, whatever it had said, or by its silence.

    None where the method has no such bound, and in an earlier release's report.
    """
    thin: tuple[Thin, ...] = ()
    """Why it is too thin to settle on by the rule that it was agreed by; empty where it is not."""

    @property
    def confidence_bps(self) -> int:
        """The confidence band in basis points of the price, rounded up."""
        return -(-self.confidence * _ONE // self.price)

    @property
    def reach_bps(self) -> int | None:
        """The reach in basis points of the price, rounded up."""
        return None if self.reach is None else -(-self.reach * _ONE // self.price)


@dataclass(frozen=True, slots=True, kw_only=True)
class Void:
    """A minute without a price, and why. A void minute is never filled in."""

    slot: Slot
    reason: VoidReason
    registered: int
    quorum: int
    received: int
    """Registered venues that spoke for this slot."""
    kept: int
    """How many of them were left."""
    left: tuple[Used, ...]
    """Those that were left, too few: weight 0, since nothing was weighed."""
    dropped: tuple[Dropped, ...]
    absent: tuple[Absent, ...]


Outcome = AgreedPrice | Void


def fit_to_settle(agreed: AgreedPrice, rule: ConsensusRule) -> bool:
    """Return whether money may move on this price: the venues agree, and no one of them can bend it."""
    return agreed.confidence * _ONE <= rule.settle_confidence_bps * agreed.price and not thin_by(
        rule, price=agreed.price, dollar_markets=agreed.dollar_markets, reach=agreed.reach
    )


def thin_by(
    rule: ConsensusRule, *, price: CentsPerBtc, dollar_markets: int | None, reach: CentsPerBtc | None
) -> tuple[Thin, ...]:
    """Return why a price is too thin to settle on by ``rule``; nothing where it is not."""
    asked = rule.least_dollar_markets or rule.thin_bps
    if asked and (dollar_markets is None or (rule.thin_bps and reach is None)):
        return (Thin.UNMEASURED,)
    why = []
    if dollar_markets is not None and dollar_markets < rule.least_dollar_markets:
        why.append(Thin.FEW_DOLLAR_MARKETS)
    if rule.thin_bps and reach is not None and reach * _ONE > rule.thin_bps * price:
        why.append(Thin.ONE_CAN_MOVE_IT)
    return tuple(why)


def agreed_price(
    observations: Iterable[Observation],
    *,
    registered: Collection[VenueId],
    legs: Collection[VenueId] = (),
    rule: ConsensusRule,
    slot: Slot,
    equivocated: Collection[VenueId] = (),
) -> Outcome:
    """Return the agreed price of ``slot``, or why there is none.

    observations: quotes, leg rates and absences, in any order, duplicates allowed. registered: the venues whose share
    the quorum counts. legs: the stablecoin markets that convert (``kraken:USDT/USD``); several of one coin give their
    median. equivocated: venues whose node contradicted itself in this slot; they count as silent.
    Deterministic and independent of order. Raises nothing for what the observations say.
    """
    quotes, leg_quotes, missing, dropped = _sorted_out(
        observations, slot=slot, registered=registered, legs=legs, equivocated=equivocated
    )
    rates = _rates(leg_quotes)
    present, dollars = _dollar_markets(quotes, rule, dropped)
    voting = present if rule.method is Method.MEDIAN and len(present) >= ALONE else dollars
    alone = len(voting) >= ALONE
    coins = _coins(quotes, rates, voting if dollars else [], rule, dropped)
    kept = sorted(dollars + coins, key=lambda q: q.quote.venue)

    quorum = rule.quorum(len(registered))
    dropped.sort(key=_drop_order)
    absent = tuple(
        missing.get(v) or Absent(venue=v, reason=MissingReason.SILENT, detail="")
        for v in sorted(set(registered) - quotes.keys())
    )
    if len(quotes) < quorum or len(kept) < quorum:
        return Void(
            slot=slot,
            reason=VoidReason.NO_QUORUM if len(quotes) < quorum else VoidReason.NO_QUORUM_AFTER_CUT,
            registered=len(registered),
            quorum=quorum,
            received=len(quotes),
            kept=len(kept),
            left=tuple(_used(q, 0) for q in kept),
            dropped=tuple(dropped),
            absent=absent,
        )

    opinions = [_Opinion(q.dollars, q.low, q.high, q.quote.volume) for q in voting]
    if not alone:
        opinions += _one_each(coins)
    price, weights = _price(opinions, rule.method)
    price = min(max(price, min(q.dollars for q in voting)), max(q.dollars for q in voting))
    low, high = _range(opinions)
    low, high = max(low, min(q.low for q in voting)), min(high, max(q.high for q in voting))
    reach = CentsPerBtc(_reach([q.dollars for q in voting], price)) if rule.method is Method.MEDIAN else None
    weight_of = {q.quote.venue: w for q, w in zip(voting, weights, strict=False)}
    return AgreedPrice(
        slot=slot,
        price=CentsPerBtc(price),
        low=CentsPerBtc(min(low, price)),
        high=CentsPerBtc(max(high, price)),
        confidence=CentsPerBtc(sorted(abs(o.dollars - price) for o in opinions)[len(opinions) // 2]),
        registered=len(registered),
        quorum=quorum,
        used=tuple(_used(q, weight_of.get(q.quote.venue, int(not alone))) for q in kept),
        dropped=tuple(dropped),
        absent=absent,
        rates=tuple(sorted(rates.items())),
        method=rule.method,
        dollar_markets=len(present),
        reach=reach,
        thin=thin_by(rule, price=CentsPerBtc(price), dollar_markets=len(present), reach=reach),
    )


@dataclass(slots=True)
class _InDollars:
    quote: Quote
    dollars: int
    low: int
    high: int
    basis: Basis
    rate: Rate


@dataclass(frozen=True, slots=True)
class _Opinion:
    """One vote: a dollar market's, or that of all markets of one stablecoin."""

    dollars: int
    low: int
    high: int
    volume: int


def _sorted_out(
    observations: Iterable[Observation],
    *,
    slot: Slot,
    registered: Collection[VenueId],
    legs: Collection[VenueId],
    equivocated: Collection[VenueId],
) -> tuple[dict[VenueId, Quote], dict[VenueId, LegQuote], dict[VenueId, Absent], list[Dropped]]:
    """Return the one quote and rate of each venue, the reasons of the silent ones, and what does not belong here."""
    quotes: dict[VenueId, list[Quote]] = {}
    leg_quotes: dict[VenueId, list[LegQuote]] = {}
    missing: dict[VenueId, Absent] = {}
    dropped: list[Dropped] = []
    for seen in observations:
        venue = seen.venue
        if isinstance(seen, Missing):
            if seen.slot == slot:
                said = Absent(venue=venue, reason=seen.reason, detail=seen.detail)
                missing[venue] = min(said, missing.get(venue, said), key=_absent_order)
        elif (why := _foreign(seen, slot=slot, registered=registered, legs=legs, equivocated=equivocated)) is not None:
            dropped.append(_drop(seen, why))
        elif isinstance(seen, Quote):
            quotes.setdefault(venue, []).append(seen)
        else:
            leg_quotes.setdefault(venue, []).append(seen)
    return _one_quote_each(quotes, dropped), _one_rate_each(leg_quotes, dropped), missing, dropped


def _one_quote_each(quotes: Mapping[VenueId, Sequence[Quote]], dropped: list[Dropped]) -> dict[VenueId, Quote]:
    """Return the candle of each venue that has one; the nodes of one venue must agree on it."""
    kept = {}
    for venue in sorted(quotes):
        said = quotes[venue]
        if len(said) == 1:
            (kept[venue],) = said
        elif len({_candle(q) for q in said}) == 1:
            *older, kept[venue] = sorted(set(said), key=_quote_order)
            dropped.extend(_drop(q, DropReason.SUPERSEDED) for q in older)
        else:
            dropped.extend(_drop(q, DropReason.NODES_DISAGREE) for q in set(said))
    return kept


def _one_rate_each(legs: Mapping[VenueId, Sequence[LegQuote]], dropped: list[Dropped]) -> dict[VenueId, LegQuote]:
    """Return the rate of each leg that has one; of an earlier release's node only the close is known."""
    kept = {}
    for venue, said in legs.items():
        whole = [leg for leg in said if not leg.is_bare]
        if len({leg.rate for leg in said}) == 1 and len({_leg_candle(leg) for leg in whole}) <= 1:
            kept[venue] = max(whole or said, key=_leg_order)
        else:
            dropped.extend(_drop(leg, DropReason.NODES_DISAGREE) for leg in set(said))
    return kept


def _foreign(
    seen: Quote | LegQuote,
    *,
    slot: Slot,
    registered: Collection[VenueId],
    legs: Collection[VenueId],
    equivocated: Collection[VenueId],
) -> DropReason | None:
    if seen.slot != slot:
        return DropReason.WRONG_SLOT
    is_quote = isinstance(seen, Quote)
    # a quote of a leg's market would be taken for dollars a bitcoin, were that market registered by mistake
    if seen.venue not in (registered if is_quote else legs) or is_quote is seen.venue.is_leg:
        return DropReason.UNREGISTERED
    return DropReason.EQUIVOCATION if seen.venue in equivocated else None


def _rates(leg_quotes: Mapping[VenueId, LegQuote]) -> dict[str, Rate]:
    by_coin: dict[str, list[int]] = {}
    for leg in leg_quotes.values():
        if leg.venue.quote == DOLLAR:
            by_coin.setdefault(leg.venue.base, []).append(leg.rate)
    return {coin: Rate(_half_even(_median_twice(rates), 2)) for coin, rates in by_coin.items()}


def _dollar_markets(
    quotes: Mapping[VenueId, Quote], rule: ConsensusRule, dropped: list[Dropped]
) -> tuple[list[_InDollars], list[_InDollars]]:
    """Return all dollar markets, and those that agree with their median. The others are dropped."""
    markets = [_InDollars(q, q.close, q.low, q.high, Basis.DOLLAR, PAR) for v, q in quotes.items() if v.quote == DOLLAR]
    median_twice = _median_twice([q.dollars for q in markets])
    kept = []
    for q in markets:
        if abs(2 * q.dollars - median_twice) * _ONE <= rule.outlier_bps * median_twice:
            kept.append(q)
        else:
            dropped.append(_drop(q.quote, DropReason.OUTLIER, q.dollars, median_twice, rule.outlier_bps))
    return markets, kept


def _coins(
    quotes: Mapping[VenueId, Quote],
    rates: Mapping[str, Rate],
    dollars: Sequence[_InDollars],
    rule: ConsensusRule,
    dropped: list[Dropped],
) -> list[_InDollars]:
    """Return the stablecoins' quotes in dollars, those that lie within the band of what dollars paid."""
    result: list[_InDollars] = []
    low, high = _paid(dollars, rule) if dollars else (0, 0)
    reference_twice = _median_twice([q.dollars for q in dollars])
    for venue, quote in quotes.items():
        if venue.quote == DOLLAR:
            continue
        if not dollars:
            dropped.append(_drop(quote, DropReason.NO_DOLLAR_REFERENCE))
            continue
        rate = rates.get(venue.quote)
        basis, outside = (
            (Basis.PAR, DropReason.OUTSIDE_PAR_BAND)
            if rate is None
            else (Basis.CONVERTED, DropReason.OUTSIDE_DOLLAR_RANGE)
        )
        applied = PAR if rate is None else rate
        close, lowest, highest = (_half_even(x * applied, PAR) for x in (quote.close, quote.low, quote.high))
        if lowest < LOWEST_PRICE or highest > HIGHEST_PRICE:
            dropped.append(_drop(quote, DropReason.CONVERTED_OUT_OF_RANGE))
        elif (low - close) * _ONE <= rule.par_band_bps * low and (close - high) * _ONE <= rule.par_band_bps * high:
            result.append(_InDollars(quote, close, lowest, highest, basis, applied))
        else:
            dropped.append(_drop(quote, outside, close, reference_twice, rule.par_band_bps))
    return result


def _paid(dollars: Sequence[_InDollars], rule: ConsensusRule) -> tuple[int, int]:
    """Return the lowest and the highest that dollars paid in the minute, as one wick cannot stretch it.

    What more than half of the dollar markets reached (last trades of two markets are seconds apart, a minute's range is
    not); of a single one its candle, as far as that lies within the par band of its opening or close.
    """
    if len(dollars) > 1:
        low, high = sorted(_range(dollars))
        return low, high
    (only,) = dollars
    first, last = sorted((only.quote.open, only.dollars))
    return max(only.low, first - first * rule.par_band_bps // _ONE), min(
        only.high, last + last * rule.par_band_bps // _ONE
    )


def _one_each(coins: Iterable[_InDollars]) -> list[_Opinion]:
    """Return one opinion a stablecoin: the median of its markets, which share its legs."""
    by_coin: dict[str, list[_InDollars]] = {}
    for q in coins:
        by_coin.setdefault(q.quote.venue.quote, []).append(q)
    return [
        _Opinion(
            dollars=_half_even(_median_twice([q.dollars for q in markets]), 2),
            low=_half_even(_median_twice([q.low for q in markets]), 2),
            high=_half_even(_median_twice([q.high for q in markets]), 2),
            volume=sum(q.quote.volume for q in markets),
        )
        for _, markets in sorted(by_coin.items())
    ]


def _range(opinions: Sequence[_InDollars] | Sequence[_Opinion]) -> tuple[int, int]:
    """Return the lowest and the highest level that more than half reached (crossed if they are apart)."""
    need = len(opinions) // 2  # index of the (floor(n/2) + 1)-th
    return sorted(q.low for q in opinions)[need], sorted((q.high for q in opinions), reverse=True)[need]


def _reach(values: Sequence[int], price: int) -> int:
    """Return how far one of ``values``, whatever it were, could move their median; the whole price for fewer than 3.

    Among an odd number one can pull the median from one neighbour of the middle to the other; among an even number
    half as far as from the neighbour of the middle pair to its other end.
    """
    n = len(values)
    if n < 3:  # noqa: PLR2004 - one of two holds the other's midpoint wherever it likes
        return price
    ordered, middle = sorted(values), n // 2
    if n % 2:
        return ordered[middle + 1] - ordered[middle - 1]
    last = ordered[middle + 1] - ordered[middle - 2]
    return -(-last // 2)


def _price(opinions: Sequence[_Opinion], method: Method) -> tuple[int, list[int]]:
    """Return the method's price of the opinions, and what each weighed."""
    values = [o.dollars for o in opinions]
    median_twice = _median_twice(values)
    if method is Method.MEDIAN:
        return _half_even(median_twice, 2), [1] * len(values)
    if method is Method.MEAN:
        return _half_even(sum(values), len(values)), [1] * len(values)
    volumes = [o.volume for o in opinions]
    if method is Method.VOLUME_WEIGHTED_MEAN:
        return _half_even(sum(v * w for v, w in zip(values, volumes, strict=True)), sum(volumes)), volumes
    # the cap: the lower median of the volumes. More than half of the venues then weigh the same, and nobody more, so
    # of three or more venues no single one reaches half of the sum, whatever volume it claims.
    cap = sorted(volumes)[(len(volumes) - 1) // 2]
    weights = [min(v, cap) for v in volumes]
    return _weighted_median(values, weights, median_twice), weights


def _weighted_median(values: list[int], weights: list[int], median_twice: int) -> int:
    """Return the value at which half of the weight is reached; between two values, the nearest to the plain median."""
    order = sorted(zip(values, weights, strict=True))
    total = sum(weights)
    reached = 0
    for i, (value, weight) in enumerate(order):
        reached += weight
        if 2 * reached > total:
            return value
        if 2 * reached == total:
            upper = order[i + 1][0]
            return _half_even(min(max(median_twice, 2 * value), 2 * upper), 2)
    raise AssertionError("weights are positive")  # pragma: no cover - 2 * total > total


def _median_twice(values: list[int]) -> int:
    """Return twice the median (so that the middle of two stays whole); 0 of nothing."""
    if not values:
        return 0
    ordered, n = sorted(values), len(values)
    return ordered[(n - 1) // 2] + ordered[n // 2]


def _half_even(numerator: int, denominator: int) -> int:
    quotient, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and quotient & 1):
        return quotient + 1
    return quotient


def _drop(
    seen: Quote | LegQuote,
    reason: DropReason,
    dollars: int | None = None,
    reference_twice: int | None = None,
    limit_bps: int | None = None,
) -> Dropped:
    deviation = None
    if dollars is not None and reference_twice:
        deviation = -(-abs(2 * dollars - reference_twice) * _ONE // reference_twice)
    return Dropped(
        venue=seen.venue,
        reason=reason,
        close=seen.close if isinstance(seen, Quote) else None,
        dollars=CentsPerBtc(dollars) if dollars is not None else None,
        reference=CentsPerBtc(reference_twice // 2) if reference_twice else None,
        deviation_bps=deviation,
        limit_bps=limit_bps,
        evidence=seen.evidence,
    )


def _used(q: _InDollars, weight: int) -> Used:
    return Used(
        venue=q.quote.venue,
        close=q.quote.close,
        dollars=CentsPerBtc(q.dollars),
        basis=q.basis,
        rate=q.rate,
        weight=weight,
        evidence=q.quote.evidence,
        volume=q.quote.volume,
    )


def _candle(q: Quote) -> tuple[int, ...]:
    return (q.open, q.high, q.low, q.close, q.volume)


def _leg_candle(q: LegQuote) -> tuple[int, ...]:
    return (q.open, q.high, q.low, q.rate, q.volume)


def _quote_order(q: Quote) -> tuple[object, ...]:
    return (q.observed_at, q.evidence, q.close, q.low, q.high, q.volume, q.open)


def _leg_order(q: LegQuote) -> tuple[object, ...]:
    return (q.observed_at, q.evidence, q.rate)


def _absent_order(a: Absent) -> tuple[str, str]:
    return (a.reason, a.detail)


def _drop_order(d: Dropped) -> tuple[object, ...]:
    return (d.venue, d.reason, d.evidence or b"", d.close or 0)


def encode_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return the report as JSON: the one form that the database, the API and the signatures use."""
    nested = {"used", "left", "dropped", "absent", "rates"}
    raw = {name: _plain(getattr(outcome, name)) for name in outcome.__dataclass_fields__ if name not in nested}
    raw["kind"] = "price" if isinstance(outcome, AgreedPrice) else "void"
    raw["dropped"] = [_plain_record(d) for d in outcome.dropped]
    raw["absent"] = [_plain_record(a) for a in outcome.absent]
    if isinstance(outcome, AgreedPrice):
        raw["used"] = [_plain_record(u) for u in outcome.used]
        raw["rates"] = dict(outcome.rates)
        raw["confidence_bps"] = outcome.confidence_bps
        if outcome.dollar_markets is None:  # an earlier release's report stays the bytes that it was
            for name in ("dollar_markets", "reach", "thin"):
                del raw[name]
        else:
            raw["reach_bps"] = outcome.reach_bps
    else:
        raw["left"] = [_plain_record(u) for u in outcome.left]
    return raw


def _plain_record(record: Used | Dropped | Absent) -> dict[str, object]:
    raw = {name: _plain(getattr(record, name)) for name in record.__dataclass_fields__}
    if isinstance(record, Used) and record.volume is None:  # an earlier release's report stays the bytes that it was
        del raw["volume"]
    return raw


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, VenueId | StrEnum) else value


def _read_rates(value: Mapping[str, object]) -> tuple[tuple[str, Rate], ...]:
    return tuple(sorted((coin, Rate(WHOLE(rate))) for coin, rate in value.items()))


teach(VenueId, Rule(parse_venue, "exchange:BASE/QUOTE"))
teach(Rate, WHOLE)
_CENTS: Final = optional(WHOLE)
"""Of a converted close, of a median: it may lie outside a price's range, which is why it was dropped."""

record(Used, close=WHOLE, dollars=WHOLE, volume=WHOLE, may_lack=("volume",))
record(Dropped, close=_CENTS, dollars=_CENTS, reference=_CENTS)
record(Absent)
_PRICE: Final = record(
    AgreedPrice,
    price=WHOLE,
    low=WHOLE,
    high=WHOLE,
    confidence=WHOLE,
    rates=Rule(_read_rates, "coins with their rates"),
    dollar_markets=WHOLE,
    reach=_CENTS,
    together=("dollar_markets", "reach", "thin"),
)
_VOID: Final = record(Void)


class _Kind(StrEnum):
    PRICE = "price"
    VOID = "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """What tells which of the two it is."""

    kind: _Kind


_HEAD: Final = record(_Head)


def _read_outcome(raw: object) -> Outcome:
    head = _HEAD(raw)
    if head.kind is _Kind.VOID:
        return _VOID(raw)
    priced = _PRICE(raw)
    for place, used in enumerate(priced.used):
        if used.volume is None and priced.dollar_markets is not None:
            raise Refused(f".used[{place}].volume", "missing", "what the venue traded")
    return priced


OUTCOME: Final = Rule(_read_outcome, "the JSON of encode_outcome")


def decode_outcome(raw: object) -> Outcome:
    """Return the record of ``encode_outcome``. Raises InvalidInputError naming the field when it is not one."""
    return OUTCOME.read(raw, "round report")
