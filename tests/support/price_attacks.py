"""Random attacks on the agreed price, held against the bounds of ``btcfi.oracle.robustness``.

``python -m tests.support.price_attacks --attacks 100000 --seed 7``: so many a size, figures as JSON (``make night``).
Each attack draws who is registered, silent and lying, how far apart the honest markets stand, and what the liars say:
price, volume, low, high, when, several times, contradictions, other minutes, markets that nobody registered, legs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, agreed_price, fit_to_settle
from btcfi.oracle.quote import HIGHEST_PRICE, LOWEST_PRICE, Observation, VenueId
from btcfi.oracle.robustness import LARGEST_SIZE, Bound, Extent, Move, bound
from btcfi.units import MAX_MONEY_SATS
from tests.support.oracle_support import SLOT, leg, missing, quote

RULE = ConsensusRule()
HONEST_SPREADS_BPS = (0, 1, 5, 9, 20, 100, 200, 300)
LIES_BPS = (0, 4, 5, 9, 10, 11, 19, 20, 21, 99, 100, 101, 196, 199, 200, 201, 204, 205, 390, 400, 1_000, 9_000)
"""Around what the rule measures: thin, the par band, the cut."""
RATES = (10_000_000, 95_000_000, 99_000_000, 100_000_000, 101_000_000, 200_000_000)
LEGS = tuple(VenueId(exchange=f"leg{i}", base="USDT", quote="USD") for i in range(3))


@dataclass(kw_only=True)
class Round:
    """One attack: what everybody said, and who of them lied."""

    size: int
    honest: dict[VenueId, Observation]
    """Dollar markets that told the truth."""
    truth: dict[VenueId, Observation]
    """What the lying or silent ones would have said."""
    said: list[Observation]
    registered: tuple[VenueId, ...]
    coins: int
    equivocated: frozenset[VenueId]

    def agreed(self, said: Sequence[Observation], equivocated: frozenset[VenueId]) -> AgreedPrice | None:
        outcome = agreed_price(
            said, registered=self.registered, legs=LEGS, rule=RULE, slot=SLOT, equivocated=equivocated
        )
        return outcome if isinstance(outcome, AgreedPrice) else None


@dataclass(kw_only=True)
class Tally:
    """What came of the attacks of one size."""

    attacks: int = 0
    priced: int = 0
    settled: int = 0
    moved: int = 0
    """Prices outside the honest range."""
    beyond: list[str] = field(default_factory=list)
    """Attacks that went further than the table says. Empty, or the table is wrong."""
    worst_one_liar_bps: float = 0.0
    """Furthest that one liar moved a price that settles, from the one that its truth would have given."""


@cache
def allowed(*, registered: int, present: int, liars: int, coins: int) -> Bound:
    return bound(RULE, registered=registered, present=present, liars=liars, coins=coins)


def draw_round(draw: random.Random, size: int) -> Round:
    """Draw one attack on ``size`` registered dollar markets and up to three of stablecoins."""
    middle = draw.choice((60_000_00, 1_500_00, 20_000_000_00))
    spread = draw.choice(HONEST_SPREADS_BPS)
    markets = [VenueId(exchange=f"v{i}", base="BTC", quote="USD") for i in range(size)]
    of_coins = [draw.choice(("USDT", "USDC")) for _ in range(draw.randint(0, 3))]
    coins = [VenueId(exchange=f"c{i}", base="BTC", quote=coin) for i, coin in enumerate(of_coins)]
    silent = set(draw.sample(markets, draw.randint(0, size // 3)))
    liars = set(draw.sample(markets, min(size, draw.choice((1, 1, 1, 2, 2, 3, draw.randint(1, size))))))
    closes = {v: _off(middle, draw.randint(0, spread)) for v in markets}
    truth: dict[VenueId, Observation] = {v: _honest(draw, v, close) for v, close in closes.items()}
    honest = {v: truth[v] for v in markets if v not in liars and v not in silent}
    said: list[Observation] = list(honest.values())
    told = [o.close for o in honest.values()] or [middle]  # type: ignore[union-attr]
    aim = draw.choice((-1, 1)), draw.choice(LIES_BPS)
    equivocated = set()
    for liar in sorted(liars - silent):
        said += [_lie(draw, liar, told, aim) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
        if draw.random() < 0.1:
            equivocated.add(liar)
        if draw.random() < 0.1:
            said.append(missing(liar))
    said += [_lie(draw, v, told, aim) if draw.random() < 0.7 else _honest(draw, v, middle) for v in coins]
    said += [leg(draw.choice(RATES), venue=source) for source in draw.sample(LEGS, draw.randint(0, 3))]
    if draw.random() < 0.2:
        stranger = VenueId(exchange=draw.choice(("v0", "nobody")), base=draw.choice(("BTC", "ETH")), quote="EUR")
        said += [_lie(draw, stranger, told, aim), missing(draw.choice(markets), slot=SLOT)]
    draw.shuffle(said)
    return Round(
        size=size, honest=honest, truth={v: truth[v] for v in markets if v not in honest}, said=said,
        registered=(*markets, *coins), coins=len(coins), equivocated=frozenset(equivocated),
    )  # fmt: skip


def _off(price: int, bps: int) -> int:
    return min(HIGHEST_PRICE, max(LOWEST_PRICE, price + price * bps // 10_000))


def _honest(draw: random.Random, venue: VenueId, close: int) -> Observation:
    low, high = _off(close, -draw.randint(0, 30)), _off(close, draw.randint(0, 30))
    return quote(venue, close, low=low, high=high, volume=draw.randint(1, 10**11), at=draw.randint(60, 64))


def _lie(draw: random.Random, venue: VenueId, told: list[int], aim: tuple[int, int]) -> Observation:
    way, bps = aim if draw.random() < 0.7 else (draw.choice((-1, 1)), draw.choice(LIES_BPS))
    edge = max(told) if way > 0 else min(told)
    at = min(HIGHEST_PRICE, max(LOWEST_PRICE, _off(edge, way * bps) + draw.randint(-2, 2)))
    close = draw.choice((at, at, at, at, at, draw.choice((LOWEST_PRICE, HIGHEST_PRICE, draw.choice(told)))))
    return quote(
        venue, close, low=draw.choice((close, LOWEST_PRICE, min(close, *told))),
        high=draw.choice((close, HIGHEST_PRICE, max(close, *told))),
        volume=draw.choice((1, 10**8, MAX_MONEY_SATS)), at=draw.choice((0, 59, 60, 61, 62, 63, 600, 10**8)),
        slot=SLOT if draw.random() < 0.95 else SLOT + draw.choice((-60, 60)),
    )  # fmt: skip


def judge(one: Round, tally: Tally) -> None:
    """Count what the attack did, and name it where it went further than the table says."""
    tally.attacks += 1
    agreed = one.agreed(one.said, one.equivocated)
    if agreed is None:
        return
    tally.priced += 1
    spoke = agreed.dollar_markets or 0
    liars = spoke - len(one.honest)
    settles = fit_to_settle(agreed, RULE)
    tally.settled += settles
    closes = [o.close for o in one.honest.values()]  # type: ignore[union-attr]
    if not closes:
        return
    outside = max(min(closes) - agreed.price, agreed.price - max(closes), 0)
    tally.moved += outside > 0
    limit = allowed(registered=one.size, present=spoke, liars=liars, coins=one.coins) if liars else None
    for settled in (False, True) if settles else (False,):
        most: Move | int = 0 if limit is None else limit.settled if settled else limit.published
        if not _within(outside, agreed.price, most):
            tally.beyond.append(f"{'settles' if settled else 'published'} {outside} cents outside, {most} bps: {one}")
    if 2 * liars < spoke and spoke > 2:
        for name, seen in (("low", agreed.low), ("high", agreed.high)):
            true = [getattr(o, name) for o in one.honest.values()]
            if not min(true) <= seen <= max(true):
                tally.beyond.append(f"{name} {seen} outside the honest ones: {one}")
    if settles and len(one.truth) == 1:
        _judge_one_liar(one, agreed, tally)


def _judge_one_liar(one: Round, agreed: AgreedPrice, tally: Tally) -> None:
    """Hold the price against the one that the only liar's truth, or its word instead of its silence, would give."""
    ((liar, truth),) = one.truth.items()
    honestly = one.agreed([o for o in one.said if o.venue != liar] + [truth], frozenset())
    if honestly is None:
        return
    moved = max(0, abs(agreed.price - honestly.price) - 1)  # a midpoint is rounded to a cent
    tally.worst_one_liar_bps = max(tally.worst_one_liar_bps, moved * 10_000 / agreed.price)
    if moved * 10_000 > RULE.thin_bps * agreed.price:
        tally.beyond.append(f"one liar moved it by {moved} cents: {one}")


def _within(outside: int, price: int, most: Move | int) -> bool:
    if most is Extent.UNBOUNDED:
        return True
    return most is not Extent.NEVER and max(0, outside - 1) * 10_000 <= int(most) * price


def attack(*, seed: int, attacks: int) -> dict[int, Tally]:
    """Return what ``attacks`` random attacks on each size did."""
    tallies = {size: Tally() for size in range(1, LARGEST_SIZE + 1)}
    for size, tally in tallies.items():
        draw = random.Random(f"{seed} {size}")
        for _ in range(attacks):
            judge(draw_round(draw, size), tally)
    return tallies


def main(arguments: list[str]) -> int:
    """Attack, print one JSON object, and fail when one attack went further than the table says."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.price_attacks")
    parser.add_argument("--attacks", type=int, default=100_000, help="for each size")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    tallies = attack(seed=asked.seed, attacks=asked.attacks)
    said = {name: sum(getattr(t, name) for t in tallies.values()) for name in ("attacks", "priced", "settled", "moved")}
    beyond = [words for t in tallies.values() for words in t.beyond]
    worst = max(t.worst_one_liar_bps for t in tallies.values())
    sizes = {size: [t.attacks, t.priced, t.settled, t.moved, len(t.beyond)] for size, t in tallies.items()}
    print(json.dumps({**said, "beyond": len(beyond), "worst_one_liar_bps": round(worst, 3), "sizes": sizes}))
    for words in beyond[:5]:
        print(words, file=sys.stderr)
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
