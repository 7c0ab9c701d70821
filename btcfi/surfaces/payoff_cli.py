"""``btcfi payoff``: shapes of payoffs, what each side gets and risks, drawn. It needs no cluster, no party and no keys.

Prices and amounts are written as everywhere (docs/api.md, "Numbers"); strikes are parted by slashes, as traders write
them: ``95000/105,000.50``. A shape of your own is read from a file of data; nothing in it is run.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Optional

import typer

from btcfi.adapters.files import read_untrusted_text, write_named
from btcfi.documents import printable
from btcfi.errors import InvalidInputError
from btcfi.options.order import parse_dollars, parse_quantity, parse_sats, parse_time, usd
from btcfi.surfaces.cli import Once
from btcfi.surfaces.payoff_drawing import COLUMNS, POINTS, Line, check_picture, picture, terminal
from btcfi.units import Slot, UnixSeconds

if TYPE_CHECKING:
    from btcfi.oracle.path import Path as PricePath
    from btcfi.payoffs.book_value import BookMargin
    from btcfi.payoffs.curve import Leg
    from btcfi.payoffs.netted import Netted
    from btcfi.payoffs.report import At, Report
    from btcfi.payoffs.shapes import Ask, Shape
    from btcfi.units import CentsPerBtc

app = typer.Typer(
    name="payoff", help="Shapes of payoffs: what each side gets and risks, drawn.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

DAYS_PER_YEAR: Final = 365
SECONDS_PER_DAY: Final = 86_400
MINUTES_PER_DAY: Final = 1_440
MAX_BOOK_FILE: Final = 64 << 10
"""Bytes, as of ``btcfi.payoffs.book_file``."""
MOST_DAYS: Final = 36_500.0
LEAST_DAYS: Final = 1e-3
"""A minute and a half: what is priced by an integral needs some spread."""
MOST_FILES: Final = 100
MOST_SHOWN: Final = 80
"""Characters of a file's name."""

_SATS: Final = 100_000_000
_PREMIUM: Final = re.compile(r"-?[0-9.,]+")

Files = Annotated[
    Optional[list[Path]],  # noqa: UP045 - typer reads it at run time
    typer.Option("--file", help="A shape of your own, a TOML file; may be given again."),
]
Name = Annotated[str, typer.Argument(help="The shape, as `btcfi payoff list` has it.")]
Strikes = Annotated[str, typer.Option("--strikes", help="USD per BTC, ascending, parted by slashes: 95000/105000.")]
Floor = Annotated[str, typer.Option("--floor", help="USD per BTC: below it the contract settles as at it.")]
Quantity = Annotated[str, typer.Option("--quantity", help="BTC, in hundredths.")]
Step = Annotated[str, typer.Option("--step", help="USD that each strike of a digital_ladder adds.")]
Period = Annotated[str, typer.Option("--period", help="USD from crest to crest of a sinusoid.")]
Premium = Annotated[
    str, typer.Option("--premium-sats", help="What the holder pays at the start; below 0: receives.")
]  # fmt: skip
OfPath = Annotated[
    str,
    typer.Option(
        "--path", help="What S is of, for the price at the end: asian:60x24, cliquet:1440x7:-200:300, ladder:…"
    ),
]
AtPrice = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time
    typer.Option("--at-price", help="USD per BTC: what each side has there; may be given again."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One payoff as the command line names it."""

    shape: Shape
    ask: Ask
    contract: Netted
    said: Report
    path: PricePath | None
    """What the price of the payoff is the value of; None: the price at the end."""


@app.command("list")
def list_shapes(*, file: Files = None, as_json: AsJson = False) -> None:
    """List the shapes that have a name, and those of your files."""
    shapes = _shapes(file)
    rows = [
        {"name": one.name, "strikes": list(one.strikes), "more_strikes": one.many, "amounts": list(one.amounts),
         "formula": one.formula, "about": one.about}
        for one in shapes.values()
    ]  # fmt: skip
    if as_json:
        typer.echo(json.dumps({"shapes": rows}))
        return
    wide = max(len(one.name) for one in shapes.values())
    for one in shapes.values():
        asks = " / ".join(one.strikes) + (" / …" if one.many else "")
        typer.echo(f"{one.name:{wide}}  {asks}{''.join(f' + {name}' for name in one.amounts)}: {one.about}")
        typer.echo(f"{'':{wide}}  {one.formula}")


@app.command("show", cls=Once)
def show(
    shape: Name, *, strikes: Strikes, floor: Floor = "", quantity: Quantity = "1", step: Step = "", period: Period = "",
    premium_sats: Premium = "0", at_price: AtPrice = None, file: Files = None, path: OfPath = "",
    spot: Annotated[str, typer.Option("--spot", help="USD per BTC: also what it is worth there.")] = "",
    volatility: Annotated[float, typer.Option("--volatility", help="Per year: 0.65 is 65 %.")] = 0.0,
    days: Annotated[float, typer.Option("--days", help="To the expiry.")] = 0.0,
    rate: Annotated[float, typer.Option("--rate", help="Continuously compounded per year.")] = 0.0,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Print what each side of SHAPE puts in, gains and risks, its break-evens and, with --spot, its worth."""
    asked = _read(
        shape, strikes=strikes, floor=floor, quantity=quantity, amounts={"step": step, "period": period},
        premium=premium_sats, prices=at_price, files=file, path=path,
    )  # fmt: skip
    worth = _worth(asked, spot=spot, volatility=volatility, days=days, rate=rate) if spot else None
    if as_json:
        typer.echo(json.dumps(_as_json(asked) | {"value": worth}))
        return
    for line in _in_words(asked):
        typer.echo(line)
    if worth is not None:
        numbers = ", ".join(f"{name} {number:,.6g}" for name, number in worth.items())
        typer.echo(f"worth, USD of the whole: {numbers}")


@app.command("draw", cls=Once)
def draw(
    shape: Name, *, strikes: Strikes, floor: Floor = "", quantity: Quantity = "1", step: Step = "", period: Period = "",
    premium_sats: Premium = "0", at_price: AtPrice = None, file: Files = None, path: OfPath = "",
    between: Annotated[str, typer.Option("--between", help="The prices that are drawn: 50000/150000.")] = "",
    out: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option("--out", help="Write the picture to this .png or .svg; without it: signs in the terminal."),
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Draw what each side of SHAPE gets and risks over the price."""
    if out is not None:
        check_picture(out)
    asked = _read(
        shape, strikes=strikes, floor=floor, quantity=quantity, amounts={"step": step, "period": period},
        premium=premium_sats, prices=at_price, files=file, path=path,
    )  # fmt: skip
    line = _line(asked, between, COLUMNS if out is None and not as_json else POINTS)
    if out is not None:
        write_named(out, picture(line, out.suffix))
    if as_json:
        points = {"price_cents": list(line.price_cents), "profit_sats": list(line.profit_sats)}
        typer.echo(json.dumps(_as_json(asked) | {"points": points, "picture": None if out is None else str(out)}))
        return
    if out is None:
        for row in terminal(line):
            typer.echo(row)
    for row in _in_words(asked):
        typer.echo(row)
    if out is not None:
        typer.echo(f"picture: {out}")


@app.command("margin", cls=Once)
def margin(
    book: Annotated[Path, typer.Argument(help="A net book, a TOML file: expiry, floor, and a [[leg]] each.")],
    *,
    spot: Annotated[str, typer.Option("--spot", help="USD per BTC.")],
    volatility: Annotated[float, typer.Option("--volatility", help="Per year: 0.65 is 65 %.")],
    rate: Annotated[float, typer.Option("--rate", help="Continuously compounded per year.")] = 0.0,
    now: Annotated[str, typer.Option("--now", help="ISO 8601 with a zone, or seconds since 1970.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print what BOOK locks, what it is worth, its Greeks, and what it costs each side when the market moves."""
    from btcfi.payoffs.book import contract_of  # noqa: PLC0415 - as in _shapes
    from btcfi.payoffs.book_file import read_book  # noqa: PLC0415 - cattrs, as in _shapes
    from btcfi.payoffs.book_value import SECONDS_PER_YEAR, BookMarket  # noqa: PLC0415 - numba, as in _worth
    from btcfi.payoffs.book_value import margin as margin_of  # noqa: PLC0415 - as above
    from btcfi.payoffs.netted import ANY_EVENT  # noqa: PLC0415 - as in _shapes

    moment = parse_time(now, "now") if now else UnixSeconds(int(time.time()))
    text = read_untrusted_text(book, at_most=MAX_BOOK_FILE, what="book", named=True)
    found = read_book(text, what=printable(book.name, MOST_SHOWN))
    days = (found.expiry - moment) / SECONDS_PER_DAY
    if not 0 <= days <= MOST_DAYS:
        raise InvalidInputError("expiry", f"in {days:g} days", f"0 to {MOST_DAYS:g} days to the expiry")
    market = BookMarket(
        spot=parse_dollars(spot, "spot"), tau_years=(found.expiry - moment) / SECONDS_PER_YEAR, volatility=volatility,
        rate=rate,
    )  # fmt: skip
    contract = contract_of(found, replace(ANY_EVENT, expiry=found.expiry, condition=found.condition(Slot(0))))
    said = _margin_json(margin_of(contract, market), days=days)
    if as_json:
        typer.echo(json.dumps(said))
        return
    for line in _margin_words(said):
        typer.echo(line)


def _margin_json(found: BookMargin, *, days: float) -> dict[str, Any]:
    numbers = ("premium", "delta", "gamma", "vega", "theta", "rho")
    return {
        "days": days, "holder_puts_in_sats": found.holder, "writer_puts_in_sats": found.writer,
        "net_sats": found.holder + found.writer, "separate_sats": found.separate, "net_share": found.net_share,
        "value_sats": found.value_sats, "greeks": {name: float(getattr(found.greeks, name)) for name in numbers},
        "worst": {"holder": asdict(found.worst(holder=True)), "writer": asdict(found.worst(holder=False))},
        "scenarios": [asdict(one) for one in found.scenarios],
    }  # fmt: skip


def _margin_words(said: Mapping[str, Any]) -> list[str]:
    share = f"{100 * said['net_share']:.1f} % of {said['separate_sats']:,} sat, its legs one by one"
    lines = [
        f"holder puts in {said['holder_puts_in_sats']:,} sat, writer {said['writer_puts_in_sats']:,} sat: {share}",
        f"worth to the holder {said['value_sats']:,} sat, {said['days']:.2f} days to the expiry",
        "of the whole, USD: " + ", ".join(f"{name} {number:,.6g}" for name, number in said["greeks"].items()),
        "", f"{'spot':>8} {'volatility':>11} {'worth, USD':>16} {'change, USD':>16}",
    ]  # fmt: skip
    lines += [
        f"{one['spot_move']:>+8.0%} {one['volatility_move']:>+11.0%} {one['value_usd']:>16,.2f} "
        f"{one['change_usd']:>+16,.2f}"
        for one in said["scenarios"]
    ]
    for side, worst in said["worst"].items():
        loss = -worst["change_usd"] if side == "holder" else worst["change_usd"]
        lines.append(
            f"{side}: worst at spot {worst['spot_move']:+.0%}, volatility {worst['volatility_move']:+.0%}: "
            f"{max(0.0, loss):,.2f} USD"
        )
    return lines


# ---- reading


def _shapes(files: list[Path] | None) -> Mapping[str, Shape]:
    from btcfi.payoffs.shape_file import MAX_FILE, read_shape  # noqa: PLC0415 - cattrs, only where a file is read
    from btcfi.payoffs.shapes import SHAPES, shapes_with  # noqa: PLC0415 - numpy of the tree below it, not for --help

    if not files:
        return SHAPES
    if len(files) > MOST_FILES:
        raise InvalidInputError("file", f"{len(files)} files", f"at most {MOST_FILES}")
    texts = [read_untrusted_text(one, at_most=MAX_FILE, what="a shape's file", named=True) for one in files]
    return shapes_with(
        read_shape(text, what=printable(one.name, MOST_SHOWN)) for one, text in zip(files, texts, strict=True)
    )  # fmt: skip


def _read(
    name: str, *, strikes: str, floor: str, quantity: str, amounts: Mapping[str, str], premium: str,
    prices: list[str] | None, files: list[Path] | None, path: str,
) -> _Asked:  # fmt: skip
    """Return what the words ask for. Raises BtcfiError naming the option that is wrong."""
    from btcfi.oracle.path import Cliquet, parse_path  # noqa: PLC0415 - as in _shapes
    from btcfi.payoffs import shapes  # noqa: PLC0415 - as in _shapes
    from btcfi.payoffs.netted import ANY_EVENT, netted  # noqa: PLC0415 - as in _shapes
    from btcfi.payoffs.report import report  # noqa: PLC0415 - as in _shapes

    of = parse_path(path) if path else None
    named = _shapes(files)
    one = shapes.find(name, {**named, **shapes.PATH_SHAPES} if isinstance(of, Cliquet) else named)
    ask = shapes.Ask(
        strikes=tuple(parse_dollars(text, "strikes") for text in strikes.split("/")),
        quantity=parse_quantity(quantity),
        floor=parse_dollars(floor, "floor") if floor else None,
        amounts={word: parse_dollars(text, word) for word, text in amounts.items() if text},
    )  # fmt: skip
    contract = netted(one.payoff(ask), ANY_EVENT)
    at = [parse_dollars(text, "at-price") for text in prices or ()]
    return _Asked(
        shape=one, ask=ask, contract=contract, said=report(contract, premium=_signed_sats(premium), prices=at),
        path=of,
    )  # fmt: skip


def _signed_sats(text: str) -> int:
    if not _PREMIUM.fullmatch(text):
        raise InvalidInputError("premium-sats", repr(text[:40]), "whole satoshis, below 0 for what is received")
    paid = parse_sats(text.removeprefix("-"), "premium-sats")
    return -paid if text.startswith("-") else paid


def _worth(asked: _Asked, *, spot: str, volatility: float, days: float, rate: float) -> dict[str, float]:
    if asked.path is not None:
        return _path_worth(asked, asked.path, spot=spot, volatility=volatility, days=days, rate=rate)
    from btcfi.payoffs.curve import Curve  # noqa: PLC0415 - as in _shapes
    from btcfi.payoffs.value import value  # noqa: PLC0415 - numba, only where something is priced
    from btcfi.payoffs.wave import Wave  # noqa: PLC0415 - as in _shapes

    payoff = asked.contract.payoff
    if not isinstance(payoff, Curve | Wave):
        raise TypeError(payoff)  # not reached: a shape makes nothing else
    least = 0.0 if isinstance(payoff, Curve) else LEAST_DAYS
    if not least <= days <= MOST_DAYS:
        raise InvalidInputError("days", f"{days:g}", f"{least:g} to {MOST_DAYS:g} days to the expiry")
    found = value(
        payoff, spot=parse_dollars(spot, "spot"), tau_years=days / DAYS_PER_YEAR, volatility=volatility, rate=rate
    )  # fmt: skip
    return {name: float(getattr(found, name)) for name in ("premium", "delta", "gamma", "vega", "theta", "rho")}


def _path_worth(
    asked: _Asked, path: PricePath, *, spot: str, volatility: float, days: float, rate: float
) -> dict[str, float]:  # fmt: skip
    """Return what it is worth before the path's first observation, and the error of that."""
    from btcfi.oracle.path import ahead_minutes  # noqa: PLC0415 - as in _shapes
    from btcfi.payoffs.path_value import path_value  # noqa: PLC0415 - numba, only where something is priced

    least = max(LEAST_DAYS, ahead_minutes(path) / MINUTES_PER_DAY)
    if not least <= days <= MOST_DAYS:
        raise InvalidInputError("days", f"{days:g}", f"{least:g} to {MOST_DAYS:g}: before the path's first observation")
    found = path_value(
        asked.contract.payoff, path, spot=parse_dollars(spot, "spot"), tau_years=days / DAYS_PER_YEAR,
        volatility=volatility, rate=rate,
    )  # fmt: skip
    return {"premium": found.premium, "error": found.error}


def _line(asked: _Asked, between: str, count: int) -> Line:
    """Return what is drawn: evenly spaced prices, and in a picture both sides of every turning point."""
    contract, highest = asked.contract, asked.contract.event.price_of(asked.contract.event.max_price)
    first, last = _between(asked, between, highest)
    prices = {first + (last - first) * at // (count - 1) for at in range(count)}
    if count == POINTS:
        prices |= {at + extra for at in contract.turns for extra in (-1, 0, 1) if first <= at + extra <= last}
    shown = [_price(at) for at in sorted(prices)]
    nets = contract.payoff.net(shown)
    # between the oracle's dollars a payoff may pass its extreme by a satoshi or two: the contract does not
    held = [min(max(contract.holder + net, 0), contract.collateral) for net in nets]
    strikes = " / ".join(usd(strike) for strike in asked.ask.strikes)
    return Line(
        title=f"{asked.shape.name} {strikes}, {asked.ask.quantity / 100:,.2f} BTC", price_cents=shown,
        profit_sats=[net - asked.said.premium for net in nets], holder_sats=held, collateral_sats=contract.collateral,
        marks_cents=[strike for strike in asked.ask.strikes if first <= strike <= last],
        break_even_cents=[at for at in asked.said.break_evens if first <= at <= last],
    )  # fmt: skip


def _price(cents: int) -> CentsPerBtc:
    from btcfi.units import cents_per_btc  # noqa: PLC0415 - as in _shapes

    return cents_per_btc(cents)


def _between(asked: _Asked, between: str, highest: int) -> tuple[int, int]:
    """Return the first and the last price that are drawn: as asked for, or the strikes with as much beside them."""
    if between:
        ends = [parse_dollars(text, "between") for text in between.split("/")]
        if len(ends) != 2 or ends[0] >= ends[1] or ends[0] < 1 or ends[1] > highest:  # noqa: PLR2004 - two ends
            raise InvalidInputError("between", repr(between[:60]), f"two prices, ascending, up to {usd(highest)}")
        return ends[0], ends[1]
    low, high = asked.ask.strikes[0], asked.ask.strikes[-1]
    beside = max((high - low) // 2, high // 4, 2 * asked.ask.amounts.get("period", 0))
    return max(1, min(low - beside, highest - 2)), min(highest, high + beside)


# ---- saying


def _as_json(asked: _Asked) -> dict[str, Any]:
    said, payoff = asked.said, asked.shape.parts(asked.ask)
    return {
        "shape": asked.shape.name, "path": None if asked.path is None else str(asked.path),
        "about": asked.shape.about, "formula": asked.shape.formula,
        "strikes_cents": list(asked.ask.strikes), "quantity_centibtc": asked.ask.quantity,
        "floor_cents": asked.ask.floor, "amounts_cents": dict(asked.ask.amounts),
        "legs": [_leg_json(leg) for leg in payoff] if isinstance(payoff, tuple) else [],
        "premium_sats": said.premium, "holder_collateral_sats": said.holder_collateral,
        "writer_collateral_sats": said.writer_collateral, "holder_best": _at_json(said.most),
        "holder_worst": _at_json(said.least), "break_even_cents": list(said.break_evens),
        "stretches": [{"from_cents": one.first, "to_cents": one.last, "sign": one.sign} for one in said.stretches],
        "at": [_at_json(one) for one in said.at],
    }  # fmt: skip


def _leg_json(leg: Leg) -> dict[str, Any]:
    said = asdict(leg)
    return {
        "kind": leg.kind.value, "strike_cents": said["strike"], "quantity_centibtc": said["quantity"],
        "cash_cents": said["cash"],
    }  # fmt: skip


def _at_json(at: At) -> dict[str, int]:
    return {
        "price_cents": at.price, "net_sats": at.net, "profit_sats": at.profit, "holder_sats": at.holder,
        "writer_sats": at.writer,
    }  # fmt: skip


def _in_words(asked: _Asked) -> list[str]:
    """Return both sides' money as lines: what each puts in, its best and worst, the break-evens, the asked prices."""
    said = asked.said
    ends = {1: "profit", -1: "loss", 0: "neither"}
    lines = [
        f"{asked.shape.name}: {asked.shape.about}",
        f"at the price S, for one bitcoin: {asked.shape.formula}",
        *_of_path(asked),
        "",
        f"{'':10} {'puts in':>22} {'gains at most':>22} {'at':>12} {'loses at most':>22} {'at':>12}",
        _side("holder", said.holder_collateral, (said.most.profit, said.most), (-said.least.profit, said.least)),
        _side("writer", said.writer_collateral, (-said.least.profit, said.least), (said.most.profit, said.most)),
        "",
        "holder at expiry:",
    ]  # fmt: skip
    lines += [f"  {usd(one.first):>12} to {usd(one.last):>12}  {ends[one.sign]}" for one in said.stretches]
    lines.append("break-evens: " + (", ".join(map(usd, said.break_evens)) or "none"))
    if said.at:
        lines += ["", f"{'price':>12} {'holder profit':>22} {'paid to holder':>22} {'paid to writer':>22}"]
        lines += [
            f"{usd(one.price):>12} {_btc(one.profit):>22} {_btc(one.holder):>22} {_btc(one.writer):>22}"
            for one in said.at
        ]  # fmt: skip
    return lines


def _of_path(asked: _Asked) -> list[str]:
    if asked.path is None:
        return []
    from btcfi.oracle.path import in_words  # noqa: PLC0415 - as in _shapes

    return [f"S (or V) is {in_words(asked.path)}; oracles attest it, and by it the contract pays"]


def _side(name: str, collateral: int, *ends: tuple[int, At]) -> str:
    return f"{name:10} {_btc(collateral):>22}" + "".join(f" {_btc(sats):>22} {usd(at.price):>12}" for sats, at in ends)


def _btc(sats: int) -> str:
    sign = "-" if sats < 0 else ""
    return f"{sign}{abs(sats) // _SATS:,}.{abs(sats) % _SATS:08d} BTC"
