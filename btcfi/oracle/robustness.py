"""How far liars can move the agreed price: for every number registered, present and lying, by the rule itself.

The move is what the published price lies outside the range of those who told the truth, in basis points of the
published price and up to the cent that a midpoint is rounded by. An adversary's best is searched with ``agreed_price``
and ``fit_to_settle`` and nothing beside them: the honest markets stand at one price (a lower one among them only holds
the median back), all liars at another, which is moved outwards for as long as it is still published, or still fit to
settle. Random attacks of every other form are held against the same bounds (tests/property/oracle).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, agreed_price, fit_to_settle
from btcfi.oracle.quote import DOLLAR, HIGHEST_PRICE, LOWEST_PRICE, Quote, VenueId
from btcfi.units import SECONDS_PER_MINUTE, BasisPoints, CentsPerBtc, Hash32, Sats, Slot, UnixSeconds

LARGEST_SIZE: Final = 9
"""Dollar markets of the largest table: more than any deployment of ours registers."""

_SLOT: Final = Slot(1_700_000_040)
_HONEST: Final = CentsPerBtc(1_000_000_000)
"""Ten million dollars: a basis point is a hundred thousand cents, so rounding does not show."""
_NO_EVIDENCE: Final = Hash32(bytes(32))


class Extent(StrEnum):
    """A move that is no number."""

    NEVER = "never"
    """No such price: the round is void, or too thin to settle on."""
    UNBOUNDED = "unbounded"
    """As far as they like: the liars are the market."""


Move = BasisPoints | Extent


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What so many liars can do to one round."""

    registered: int
    """Dollar markets."""
    coins: int
    """Stablecoin markets registered besides; all of them lie too."""
    present: int
    """Dollar markets that spoke, the liars among them."""
    liars: int
    published: Move
    """Furthest that a published price can lie outside the honest range."""
    settled: Move
    """Furthest that a price which may settle can."""


def bound(rule: ConsensusRule, *, registered: int, present: int, liars: int, coins: int = 0) -> Bound:
    """Return how far ``liars`` of ``present`` dollar markets can move the price, ``registered`` being asked.

    ``coins`` stablecoin markets are registered besides and say what suits the liars. Needs
    1 <= liars <= present <= registered.
    """

    def outcome(lie: int) -> AgreedPrice | None:
        return _round(rule, registered=registered, present=present, liars=liars, coins=coins, lie=lie)

    return Bound(
        registered=registered, coins=coins, present=present, liars=liars,
        published=_furthest(outcome, lambda _: True),
        settled=_furthest(outcome, lambda agreed: fit_to_settle(agreed, rule)),
    )  # fmt: skip


def bounds(rule: ConsensusRule, *, registered: int, coins: int = 0) -> Iterator[Bound]:
    """Yield the bound of every number present that makes a quorum, and of every number of liars among them."""
    for present in range(1, registered + 1):
        if present + coins >= rule.quorum(registered + coins):
            for liars in range(1, present + 1):
                yield bound(rule, registered=registered, present=present, liars=liars, coins=coins)


def table_of_bounds(rule: ConsensusRule) -> str:
    """Return the tables of docs/oracle.md: every size, and five dollar markets beside a stablecoin's."""
    sizes = [b for size in range(1, LARGEST_SIZE + 1) for b in bounds(rule, registered=size)]
    return "\n".join(
        [
            *_table(sizes, LARGEST_SIZE),
            "",
            "Five dollar markets and one of a stablecoin, which lies along with the liars:",
            "",
            *_table(list(bounds(rule, registered=5, coins=1)), 5),
        ]
    )


def _table(rows: list[Bound], most: int) -> list[str]:
    heads = ["1 liar", *(f"{n} liars" for n in range(2, most + 1))]
    lines = ["| registered | present | " + " | ".join(heads) + " |", "|---|---|" + "---|" * most]
    for registered, present in dict.fromkeys((b.registered, b.present) for b in rows):
        cells = [_cell(b) for b in rows if (b.registered, b.present) == (registered, present)]
        cells += [""] * (most - len(cells))
        lines.append(f"| {registered} | {present} | " + " | ".join(cells) + " |")
    return lines


def _cell(one: Bound) -> str:
    return f"{_word(one.published)} / {_word(one.settled)}"


def _word(move: Move) -> str:
    match move:
        case Extent.NEVER:
            return "-"
        case Extent.UNBOUNDED:
            return "∞"
        case _:
            return str(move)


def _furthest(outcome: Callable[[int], AgreedPrice | None], counts: Callable[[AgreedPrice], bool]) -> Move:
    """Return the largest move of a price that counts, upwards or downwards."""

    def price(lie: int) -> CentsPerBtc | None:
        agreed = outcome(lie)
        return agreed.price if agreed is not None and counts(agreed) else None

    if price(_HONEST) is None:
        return Extent.NEVER
    if price(HIGHEST_PRICE) == HIGHEST_PRICE:
        return Extent.UNBOUNDED
    ends = (_last_that_counts(price, HIGHEST_PRICE), _last_that_counts(price, LOWEST_PRICE))
    # basis points of the published price, rounded up; a midpoint is rounded to a cent
    return BasisPoints(max(-(-max(0, abs(end - _HONEST) - 1) * 10_000 // end) for end in ends))


def _last_that_counts(price: Callable[[int], CentsPerBtc | None], end: int) -> CentsPerBtc:
    """Return the price of the lie furthest towards ``end``: it is moved by halves of what is left."""
    if (there := price(end)) is not None:
        return there
    near, far, best = int(_HONEST), end, _HONEST
    while abs(far - near) > 1:
        middle = (near + far) // 2
        if (said := price(middle)) is None:
            far = middle
        else:
            near, best = middle, said
    return best


def _round(
    rule: ConsensusRule, *, registered: int, present: int, liars: int, coins: int, lie: int
) -> AgreedPrice | None:
    markets = [VenueId(exchange=f"market{i}", base="BTC", quote=DOLLAR) for i in range(registered)]
    doubtful = [VenueId(exchange=f"market{i}", base="BTC", quote="USDT") for i in range(coins)]
    said = [_flat(venue, lie if i < liars else _HONEST) for i, venue in enumerate(markets[:present])]
    said += [_flat(venue, lie) for venue in doubtful]
    agreed = agreed_price(said, registered=(*markets, *doubtful), rule=rule, slot=_SLOT)
    return agreed if isinstance(agreed, AgreedPrice) else None


def _flat(venue: VenueId, price: int) -> Quote:
    close = CentsPerBtc(price)
    return Quote(
        venue=venue, slot=_SLOT, open=close, high=close, low=close, close=close, volume=Sats(1),
        observed_at=UnixSeconds(_SLOT + SECONDS_PER_MINUTE), evidence=_NO_EVIDENCE,
    )  # fmt: skip
