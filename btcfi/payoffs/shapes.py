"""Payoffs that have a name in the field, each from its strikes: what it is made of, and what it asks for.

A shape is of its holder; who sells it has the opposite. Quantities are hundredths of a bitcoin, prices cents. A shape
of somebody's own is made by ``shape`` as these are, or read from a file of data (``shape_file``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from btcfi.errors import ConflictError, InvalidInputError, NotFoundError
from btcfi.options.terms import SATS_PER_CENTIBTC
from btcfi.payoffs.curve import (
    MAX_LEGS,
    CentSats,
    Curve,
    Leg,
    LegKind,
    Piece,
    check_quantity,
    curve_of,
    floored,
)
from btcfi.payoffs.participation import Participation
from btcfi.payoffs.wave import Wave
from btcfi.units import MAX_U32, CentiBtc, CentsPerBtc

ONE_BITCOIN: Final = CentiBtc(100)

Parts = tuple[Leg, ...] | Curve | Wave | Participation
"""What a shape is made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What somebody wants of a shape."""

    strikes: tuple[CentsPerBtc, ...]
    quantity: CentiBtc = ONE_BITCOIN
    floor: CentsPerBtc | None = None
    """Below it the contract settles as at that price."""
    amounts: Mapping[str, CentsPerBtc] = field(default_factory=dict)
    """What else the shape asks for, in cents: the step of a ladder, the period of a wave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A payoff with a name."""

    name: str
    about: str
    """One line: what it is for."""
    formula: str
    """What one bitcoin of it gains, in dollars, at the price S: the published formula."""
    strikes: tuple[str, ...]
    """What its strikes are called, in ascending order."""
    parts: Callable[[Ask], Parts]
    many: bool = False
    """Whether the last strike may be followed by more of its kind."""
    amounts: tuple[str, ...] = ()
    """What else it asks for."""
    equal_wings: bool = False
    """Whether the outer strikes lie as far from their neighbours on both sides."""
    touching: bool = False
    """Whether neighbouring strikes may be one price."""

    def check(self, ask: Ask) -> None:
        """Check what is asked for. Raises InvalidInputError naming the field."""
        self._check_strikes(ask.strikes)
        check_quantity(ask.quantity)
        for name in self.amounts:
            if not 1 <= ask.amounts.get(name, 0) <= MAX_U32:
                said = f"{ask.amounts[name]} cents" if name in ask.amounts else "none"
                raise InvalidInputError(name, said, f"1 to {MAX_U32} cents for {self.name}")
        for name in ask.amounts:
            if name not in self.amounts:
                raise InvalidInputError(name, f"{ask.amounts[name]} cents", f"nothing: {self.name} has no {name}")
        if ask.floor is not None and ask.floor > ask.strikes[0]:
            raise InvalidInputError("floor", f"{ask.floor} cents", f"at most {ask.strikes[0]}, the lowest strike")

    def _check_strikes(self, strikes: tuple[CentsPerBtc, ...]) -> None:
        names = ", ".join(self.strikes) + (", …" if self.many else "")
        most = MAX_LEGS if self.many else len(self.strikes)
        if not len(self.strikes) <= len(strikes) <= most:
            expected = f"{len(self.strikes)} to {MAX_LEGS}" if self.many else f"{len(self.strikes)}"
            raise InvalidInputError("strikes", f"{len(strikes)} of them", f"{expected} for {self.name}: {names}")
        for strike in strikes:
            if not 1 <= strike <= MAX_U32:
                raise InvalidInputError("strikes", f"{strike} cents", f"1 to {MAX_U32} cents per bitcoin")
        for low, high in pairwise(strikes):
            if low > high or (low == high and not self.touching):
                raise InvalidInputError("strikes", f"{high} cents after {low}", f"ascending: {names}")
        if self.equal_wings and strikes[1] - strikes[0] != strikes[-1] - strikes[-2]:
            left, right = strikes[1] - strikes[0], strikes[-1] - strikes[-2]
            raise InvalidInputError("strikes", f"wings of {left} and {right} cents", f"equal wings for {self.name}")

    def payoff(self, ask: Ask) -> Curve | Wave | Participation:
        """Return the payoff. Raises FloorMissingError where it needs a floor, InvalidInputError naming the field."""
        self.check(ask)
        made = self.parts(ask)
        if isinstance(made, Wave | Participation):
            return made
        return Curve(floored(made.pieces, ask.floor)) if isinstance(made, Curve) else curve_of(made, floor=ask.floor)


def shape(
    *strikes: str, about: str, formula: str, name: str = "", many: bool = False, amounts: tuple[str, ...] = (),
    equal_wings: bool = False, touching: bool = False,
) -> Callable[[Callable[[Ask], Parts]], Shape]:  # fmt: skip
    """Return a decorator that makes a shape of a function from what is asked for to what it is made of.

    strikes: their names, ascending. name: the function's, unless it is given. What is asked for was checked before the
    function is called.
    """

    def made(parts: Callable[[Ask], Parts]) -> Shape:
        own = name or parts.__name__.strip("_")
        return Shape(
            name=own, about=about, formula=formula, strikes=strikes, parts=parts, many=many, amounts=amounts,
            equal_wings=equal_wings, touching=touching,
        )  # fmt: skip

    return made


def _sum(*legs: tuple[int, LegKind, int]) -> Callable[[Ask], tuple[Leg, ...]]:
    """Return what makes legs of (how many times the quantity, kind, which strike)."""

    def parts(ask: Ask) -> tuple[Leg, ...]:
        return tuple(
            Leg(kind=kind, strike=ask.strikes[strike], quantity=times * ask.quantity) for times, kind, strike in legs
        )

    return parts


def _ladder(ask: Ask) -> tuple[Leg, ...]:
    step = ask.amounts["step"]
    return tuple(
        Leg(kind=LegKind.DIGITAL_CALL, strike=one, quantity=ask.quantity, cash=step) for one in ask.strikes
    )  # fmt: skip


def _stable_dollar(ask: Ask) -> Curve:
    """Return what keeps the dollars of the entry: X * entry / S bitcoin, held still outside the range."""
    bottom, entry, top = ask.strikes
    sats = ask.quantity * SATS_PER_CENTIBTC
    dollars = sats * entry
    return Curve((
        Piece(start=CentsPerBtc(1), constant=dollars // bottom - sats, numerator=CentSats(0)),
        Piece(start=bottom, constant=-sats, numerator=CentSats(dollars)),
        Piece(start=CentsPerBtc(top + 1), constant=dollars // top - sats, numerator=CentSats(0)),
    ))  # fmt: skip


def _sinusoid(ask: Ask) -> Wave:
    return Wave(middle=ask.strikes[0], period=ask.amounts["period"], quantity=ask.quantity, floor=ask.floor)


def _participation(ask: Ask) -> Participation:
    if ask.floor is not None:
        raise InvalidInputError("floor", f"{ask.floor} cents", "none: its strike is its floor")
    return Participation(strike=ask.strikes[0], cap=ask.strikes[1], quantity=ask.quantity)


CALL, PUT, FORWARD = LegKind.CALL, LegKind.PUT, LegKind.FORWARD

# fmt: off
_ALL: Final = (
    shape("strike", name="call", about="gains above the strike", formula="max(S - K, 0)")(_sum((1, CALL, 0))),
    shape("strike", name="put", about="gains below the strike", formula="max(K - S, 0)")(_sum((1, PUT, 0))),
    shape("strike", name="binary_call", about="the strike in dollars above it, or nothing", formula="K if S > K")(
        _sum((1, LegKind.BINARY_CALL, 0))),
    shape("strike", name="binary_put", about="the strike in dollars below it, or nothing", formula="K if S < K")(
        _sum((1, LegKind.BINARY_PUT, 0))),
    shape("strike", name="forward", about="bought at the strike, whatever the price is", formula="S - K")(
        _sum((1, FORWARD, 0))),
    shape("low", "high", name="call_spread", about="a rise from low to high; sold: the bear's",
          formula="max(S - K1, 0) - max(S - K2, 0)")(_sum((1, CALL, 0), (-1, CALL, 1))),
    shape("low", "high", name="put_spread", about="a fall from high to low; sold: the bull's",
          formula="max(K2 - S, 0) - max(K1 - S, 0)")(_sum((1, PUT, 1), (-1, PUT, 0))),
    shape("strike", name="straddle", about="any move away from the strike", formula="|S - K|")(
        _sum((1, CALL, 0), (1, PUT, 0))),
    shape("low", "high", name="strangle", about="a move out of the range", formula="max(K1 - S, 0) + max(S - K2, 0)")(
        _sum((1, PUT, 0), (1, CALL, 1))),
    shape("low", "middle", "high", name="butterfly", about="no move away from the middle", equal_wings=True,
          formula="max(S - K1, 0) - 2 max(S - K2, 0) + max(S - K3, 0)")(
        _sum((1, CALL, 0), (-2, CALL, 1), (1, CALL, 2))),
    shape("low", "middle", "high", name="iron_butterfly", about="a straddle sold, wings bought: paid for at the start",
          formula="max(K1 - S, 0) - |S - K2| + max(S - K3, 0)")(
        _sum((1, PUT, 0), (-1, PUT, 1), (-1, CALL, 1), (1, CALL, 2))),
    shape("low wing", "low", "high", "high wing", name="condor", about="no move out of the range", equal_wings=True,
          formula="max(S - K1, 0) - max(S - K2, 0) - max(S - K3, 0) + max(S - K4, 0)")(
        _sum((1, CALL, 0), (-1, CALL, 1), (-1, CALL, 2), (1, CALL, 3))),
    shape("low wing", "low", "high", "high wing", name="iron_condor",
          about="a strangle sold, wings bought: paid for at the start",
          formula="max(K1 - S, 0) - max(K2 - S, 0) - max(S - K3, 0) + max(S - K4, 0)")(
        _sum((1, PUT, 0), (-1, PUT, 1), (-1, CALL, 2), (1, CALL, 3))),
    shape("put", "call", name="collar", about="a fall insured by giving a rise away, for who has the bitcoin",
          formula="max(K1 - S, 0) - max(S - K2, 0)")(_sum((1, PUT, 0), (-1, CALL, 1))),
    shape("put", "call", name="risk_reversal", about="a rise paid for by taking a fall",
          formula="max(S - K2, 0) - max(K1 - S, 0)")(_sum((-1, PUT, 0), (1, CALL, 1))),
    shape("price", "cap", name="capped_forward", about="bought at a price, gains up to the cap",
          formula="min(S, K2) - K1")(_sum((1, FORWARD, 0), (-1, CALL, 1))),
    shape("bottom", "price", name="floored_forward", about="bought at a price, loses down to the bottom",
          formula="max(S, K1) - K2")(_sum((1, FORWARD, 1), (1, PUT, 0))),
    shape("bottom", "price", "cap", name="range_forward", about="bought at a price, gains and loses within the range",
          formula="min(max(S, K1), K3) - K2")(_sum((1, FORWARD, 1), (1, PUT, 0), (-1, CALL, 2))),
    shape("bottom", "entry", "top", name="stable_dollar", touching=True,
          about="bitcoin worth as many dollars as at the entry, within the range (Rubin's risk reversal)",
          formula="S (K2 / min(max(S, K1), K3) - 1)")(_stable_dollar),
    shape("step", name="digital_ladder", about="one more step of dollars above each strike", many=True,
          amounts=("step",), formula="step x (how many strikes lie below S)")(_ladder),
    shape("middle", name="sinusoid", about="a wave over the price, in bitcoin", amounts=("period",),
          formula="S sin(2 pi (S - K) / period)")(_sinusoid),
)
# fmt: on

SHAPES: Final[Mapping[str, Shape]] = MappingProxyType({one.name: one for one in _ALL})
"""The shapes with a name, in the order in which they are listed."""


PATH_SHAPES: Final[Mapping[str, Shape]] = MappingProxyType({
    "participation": shape(
        "strike", "cap", name="participation", about="bitcoin for an index's points, of a cliquet",
        formula="(min(max(V, K1), K2) - K1) / 100,000 bitcoin",
    )(_participation),
})  # fmt: skip
"""The shapes beside ``SHAPES`` of a cliquet's index, which has no dollars in it."""


def shapes_with(more: Iterable[Shape]) -> Mapping[str, Shape]:
    """Return the named shapes and somebody's own. Raises ConflictError for a name that is taken."""
    found = dict(SHAPES)
    for one in more:
        if one.name in found:
            raise ConflictError(f"a shape is called {one.name} already; give yours another name")
        found[one.name] = one
    return MappingProxyType(found)


def find(name: str, shapes: Mapping[str, Shape] = SHAPES) -> Shape:
    """Return the shape of that name; a dash counts as an underline. Raises NotFoundError."""
    one = shapes.get(name.replace("-", "_"))
    if one is None:
        raise NotFoundError("shape", name, "one of " + ", ".join(shapes))
    return one
