"""A shape of somebody's own, as a file of data: TOML with legs, or with pieces. Reading one runs nobody's code.

A leg names its kind, its strike and how often it is held. A piece says what one bitcoin of the shape is worth from a
strike on: so many bitcoin, and a sum of dollars and of multiples of strikes. docs/how-to/write-a-payoff.md shows both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from btcfi.documents import parse_toml, printable
from btcfi.errors import InvalidInputError
from btcfi.options.terms import SATS_PER_CENTIBTC
from btcfi.payoffs.curve import MAX_LEGS, MAX_PIECES, CentSats, Curve, Leg, LegKind, Piece, floored
from btcfi.payoffs.shapes import Ask, Parts, Shape
from btcfi.records import Refused, Rule, listed, one_of, record
from btcfi.units import MAX_U32, CentsPerBtc

MAX_FILE: Final = 64 << 10
"""Bytes: 512 pieces with every strike named in each are less."""

MAX_TIMES: Final = 1_000
"""Of a leg or a strike: larger multiples are a larger quantity."""

_DIGITS: Final = 6
"""Decimals of a multiple: a hundredth of a bitcoin is 10**6 satoshis, so that each multiple is whole satoshis."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_CENTS: Final = 100
_SIGNS: Final = 200


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise Refused("", repr(text[:41]), "small letters, digits and underlines, at most 40")
    return text


def _line(text: str) -> str:
    if not 1 <= len(text) <= _SIGNS or not text.isprintable():
        raise Refused("", repr(text[:41]), f"one line of 1 to {_SIGNS} signs")
    return text


def _number(value: object, digits: int, most: int) -> Decimal:
    expected = f"a number from -{most} to {most} with at most {digits} decimals"
    # a text would be a second spelling, true is a whole number for Python
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise Refused("", repr(value)[:41], expected)
    number = Decimal(value)
    if not number.is_finite() or abs(number) > most or number != round(number, digits):
        raise Refused("", str(number)[:41], expected)
    return number


def _times(value: object) -> Decimal:
    return _number(value, _DIGITS, MAX_TIMES)


def _cents(value: object) -> int:
    """Return an amount in dollars as cents; may be below zero."""
    return int(_number(value, 2, MAX_U32 // _CENTS) * _CENTS)


def _dollars(value: object) -> tuple[int, tuple[tuple[str, Decimal], ...]]:
    """Return a sum: of cents, and of multiples of strikes by their names."""
    if not isinstance(value, dict):
        return _cents(value), ()
    fixed, multiples = 0, []
    for name, one in value.items():
        try:
            if name == "fixed":
                fixed = _cents(one)
            else:
                multiples.append((_name(name), _times(one)))
        except Refused as e:
            raise Refused(f".{name[:41]}{e.path}", e.problem, e.expected) from e
    return fixed, tuple(multiples)


_TIMES: Final = Rule(_times, f"a number with at most {_DIGITS} decimals")
_SUM: Final = Rule(_dollars, "dollars, or multiples of strikes, such as { low = -1, fixed = 500 }")
_WHERE: Final = Rule(lambda value: _name(value) if isinstance(value, str) else _cents(value), "a strike, or dollars")


@dataclass(frozen=True, slots=True, kw_only=True)
class _LegRow:
    kind: LegKind
    strike: str
    times: int = 1
    cash: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _PieceRow:
    start: str | int = 0
    bitcoin: Decimal = Decimal(0)
    dollars: tuple[int, tuple[tuple[str, Decimal], ...]] = (0, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    name: str
    about: str
    strikes: tuple[str, ...]
    formula: str = "see the file"
    legs: tuple[_LegRow, ...] = ()
    pieces: tuple[_PieceRow, ...] = ()


def _whole_times(value: object) -> int:
    number = _number(value, 0, MAX_TIMES)
    if not number:
        raise Refused("", "0", f"-{MAX_TIMES} to {MAX_TIMES}, and not 0")
    return int(number)


_LEG: Final = record(
    _LegRow, exact=True, may_lack=("times", "dollars"), kind=one_of(LegKind), strike=Rule(_name, "a strike's name"),
    times=Rule(_whole_times, "how often the leg is held, below zero: sold"),
    cash=("dollars", Rule(_cents, "what a digital leg pays, in dollars")),
)  # fmt: skip
_PIECE: Final = record(
    _PieceRow, exact=True, may_lack=("from", "bitcoin", "dollars"), start=("from", _WHERE), bitcoin=_TIMES, dollars=_SUM
)
_FILE: Final = record(
    _File, exact=True, may_lack=("formula", "leg", "piece"), name=Rule(_name, "a name"), about=Rule(_line, "one line"),
    formula=Rule(_line, "one line"), strikes=listed(Rule(_name, "a strike's name"), MAX_LEGS),
    legs=("leg", listed(_LEG, MAX_LEGS)), pieces=("piece", listed(_PIECE, MAX_PIECES)),
)  # fmt: skip


def read_shape(text: str, *, what: str = "shape") -> Shape:
    """Return the shape that a file says. ``what``: how an error names it.

    Raises InvalidInputError naming the field by its path: no TOML, an unknown or missing field, a strike that is not
    named, both legs and pieces or neither.
    """
    said = _FILE.read(parse_toml(text, what, fraction=Decimal), what, _refused)
    _check_names(said, what)
    parts = _of_legs(said) if said.legs else _of_pieces(said, what)
    return Shape(name=said.name, about=said.about, formula=said.formula, strikes=said.strikes, parts=parts)


def _refused(field: str, problem: str, expected: str) -> InvalidInputError:
    # a key of somebody else's is part of the path, and may be a terminal's commands
    return InvalidInputError(printable(field, _SIGNS), printable(problem, _SIGNS), expected)


def _check_names(said: _File, what: str) -> None:
    if not said.strikes or len(set(said.strikes)) < len(said.strikes) or "fixed" in said.strikes:
        raise InvalidInputError(f"{what}.strikes", ", ".join(said.strikes) or "none", "different names, none `fixed`")
    if bool(said.legs) == bool(said.pieces):
        raise InvalidInputError(what, "has both legs and pieces" if said.legs else "has no legs", "legs, or pieces")
    used = [(f"leg[{place}].strike", one.strike) for place, one in enumerate(said.legs)]
    for place, one in enumerate(said.pieces):
        used += [(f"piece[{place}].from", one.start)] if isinstance(one.start, str) else []
        used += [(f"piece[{place}].dollars.{name}", name) for name, _ in one.dollars[1]]
    for where, name in used:
        if name not in said.strikes:
            raise InvalidInputError(f"{what}.{where}", repr(name), "one of " + ", ".join(said.strikes))
    for place, leg in enumerate(said.legs):
        if leg.kind.is_digital != (leg.cash is not None):
            problem = "missing" if leg.cash is None else f"stands at a {leg.kind.value}"
            raise InvalidInputError(f"{what}.leg[{place}].dollars", problem, "what a digital leg pays, of no other")
    if said.pieces and said.pieces[0].start != 0:
        raise InvalidInputError(f"{what}.piece[0].from", repr(said.pieces[0].start), "0: the first piece has none")


def _of_legs(said: _File) -> Callable[[Ask], Parts]:
    def parts(ask: Ask) -> tuple[Leg, ...]:
        at = dict(zip(said.strikes, ask.strikes, strict=True))
        return tuple(
            Leg(
                kind=one.kind, strike=at[one.strike], quantity=one.times * ask.quantity,
                cash=None if one.cash is None else CentsPerBtc(one.cash),
            )
            for one in said.legs
        )  # fmt: skip

    return parts


def _of_pieces(said: _File, what: str) -> Callable[[Ask], Parts]:
    def parts(ask: Ask) -> Curve:
        at: Mapping[str, CentsPerBtc] = dict(zip(said.strikes, ask.strikes, strict=True))
        sats = ask.quantity * SATS_PER_CENTIBTC
        pieces: list[Piece] = []
        for place, one in enumerate(said.pieces):
            start = CentsPerBtc(1 if place == 0 else at[one.start] if isinstance(one.start, str) else one.start)
            if pieces and start <= pieces[-1].start:
                raise InvalidInputError(
                    f"{what}.piece[{place}].from", f"{start} cents", f"above {pieces[-1].start}, the piece before it"
                )
            fixed, multiples = one.dollars
            # a multiple has six decimals at most and the quantity six more digits: these products are whole
            numerator = fixed * sats + sum(int(times * sats) * at[name] for name, times in multiples)
            pieces.append(Piece(start=start, constant=int(one.bitcoin * sats), numerator=CentSats(numerator)))
        return Curve(floored(pieces, ask.floor))

    return parts
