"""``btcfi maker``: a market maker of a party's account, and the simulated taker of a first look.

``maker run`` quotes both sides of what a desk lists, from a folder that has joined it (``btcfi party join``), beside
the ``btcfi party run`` that signs. Its rule is a TOML file of the fields of ``btcfi.market.making.MakingRule``; what is
not in it is as there. ``rate`` is the yearly interest, and ``[[surface]]`` tables with ``strike_usd``, ``forward_usd``,
``days`` and ``volatility`` make the marks' surface; without any it is flat, at the desk's realised volatility.
"""

from __future__ import annotations

import json
import secrets
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from btcfi.adapters.files import read_untrusted
from btcfi.adapters.party.membership import Membership, require_joined
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.surfaces.cli import run
from btcfi.surfaces.party.side import Side, command
from btcfi.units import Sats

if TYPE_CHECKING:
    from btcfi.adapters.party.market_maker import Look, MarketMaker, Round
    from btcfi.adapters.party.store import PartyStore
    from btcfi.adapters.signed_http import SignedHttp
    from btcfi.market.making import MakingRule, Quoted
    from btcfi.pricing.surface import VolatilitySurface

app = typer.Typer(
    name="maker", help="A market maker of a party's account, and a simulation's taker.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

MAX_RULE_BYTES: Final = 1 << 16
REQUEST_SECONDS: Final = 10.0
"""Of one answer: a desk that hangs does not keep a maker that is asked to end."""

RATE: Final = 0.05
PLOT_FORMATS: Final = (".png", ".svg")
SHOWN: Final = 400
"""Characters of an error in the log."""

DeskUrl = Annotated[str, typer.Option("--desk", help="Another URL of the desk that the folder has joined.")]
RuleFile = Annotated[Path | None, typer.Option("--rule", help="TOML: spread, sizes, limits; what is missing is usual.")]


@command("run", of=app)
def make(
    *,
    desk: DeskUrl = "",
    rule: RuleFile = None,
    every: Annotated[float, typer.Option("--every", help="Seconds between two looks.", min=0.2)] = 2.0,
    requests: Annotated[
        bool, typer.Option("--requests/--no-requests", help="Whether requests for quotes are answered.")
    ] = True,
    side: Side,
) -> None:
    """Quote until SIGTERM, then withdraw every offer of the account; `btcfi party run` beside it signs the takes.

    To an offer to close one of your contracts that stands for at most a minute it says yes, at your bid or ask. With
    `consent_sats` in the rule it lets the buyers of your contracts sell them to others, up to that much collateral.

    Every offer of the account is this command's: what else stands there is withdrawn. A line of JSON for each round
    that changed something.
    """
    stopping = _until_a_signal()
    maker = _maker(side, desk, rule)
    maker.answers = requests
    typer.echo(json.dumps({"making": maker.identity.hex()}))
    sys.stdout.flush()
    try:
        _quote(maker, side.store, stopping, every)
    finally:  # whatever ends it: what stands is withdrawn, or lapses
        try:
            ended: dict[str, Any] = {"withdrawn": maker.withdraw_all()}
        except (BtcfiError, OSError) as e:
            ended = {"problem": f"{str(e)[:SHOWN]}; what stands lapses within {maker.rule.validity_seconds} s"}
        typer.echo(json.dumps(ended | {"ended": True}))


_TOLD: Final = ("problem", "left_out", "closes", "consents")
"""Of a round: what is said again only when it has changed."""


def _quote(maker: MarketMaker, store: PartyStore, stopping: Event, every: float) -> None:
    said: dict[str, Any] = {}
    while not stopping.is_set():
        try:
            line = _line(maker.round())
            if closes := maker.closes(store):
                line["closes"] = [{"option": option, "refused": why} for option, why in closes]
            if consents := maker.consents(store):
                line["consents"] = [{"option": option, "refused": why} for option, why in consents]
        except (BtcfiError, OSError) as e:  # a desk that is away comes back; our offers there lapse meanwhile
            line = {"problem": str(e)[:SHOWN]}
        changed = line.get("posted") or line.get("withdrawn")
        if changed or any(line.get(what) != said.get(what) for what in _TOLD):
            said = line
            typer.echo(json.dumps({"at_unix": int(time.time())} | line))
            sys.stdout.flush()
        stopping.wait(every)


@command("quotes", of=app)
def show_quotes(
    *,
    desk: DeskUrl = "",
    rule: RuleFile = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the quotes into this .png or .svg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    side: Side,
) -> None:
    """Print once what would be quoted now, and what not, with the reason; nothing is posted."""
    if plot is not None and plot.suffix.lower() not in PLOT_FORMATS:
        raise InvalidInputError("plot", f"{plot.name} is no picture", "a path ending in .png or .svg")
    maker = _maker(side, desk, rule)
    look = maker.look()
    quoted = maker.quoted(look)
    if plot is not None:
        _draw(quoted, plot)
    if as_json:
        typer.echo(json.dumps(_report(look, quoted)))
    else:
        _show(look, quoted)


@command("simulate", of=app)
def simulate(
    *,
    desk: DeskUrl = "",
    per_minute: Annotated[float, typer.Option("--per-minute", help="Takes, on average.", min=0.01, max=600.0)] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Of its wishes.", min=0)] = 1,
    side: Side,
) -> None:
    """Be a SIMULATED taker, on regtest: take a little of somebody's offer now and then, until SIGTERM."""
    take_now_and_then(side, desk, per_minute=per_minute, seed=seed, stopping=_until_a_signal())


def take_now_and_then(side: Side, desk: str, *, per_minute: float, seed: int, stopping: Event) -> None:
    """Be a SIMULATED taker of a folder that has joined a desk, until ``stopping``; a line of JSON for each take.

    It takes nothing that the folder's coins cannot fund.
    """
    from random import Random  # noqa: PLC0415 - as below

    from btcfi.adapters.party.market_ledger import MARKET_FOLDER, MarketLedger  # noqa: PLC0415 - what `--help` should not load
    from btcfi.adapters.party.simulated_taker import SimulatedTaker  # noqa: PLC0415 - as above

    keystore = side.opened()
    member = _of_regtest(require_joined(side.folder, keystore))
    secret = keystore.request_secret()
    random = Random(seed)
    taker = SimulatedTaker(
        http=_http(member, desk, secret), identity=member.identity, request_secret=secret,
        ledger=MarketLedger(side.folder / MARKET_FOLDER), random=random,
        free=_free(PartyWallet(side.store, keystore, side.chain())),
    )  # fmt: skip
    typer.echo(json.dumps({"simulated_taker": member.identity.hex(), "seed": seed}))
    sys.stdout.flush()
    while not stopping.wait(random.expovariate(per_minute / 60.0)):
        try:
            taken = taker.take_one()
            line: dict[str, Any] = {"taken": None if taken is None else asdict(taken)}
        except (BtcfiError, OSError) as e:
            line = {"problem": str(e)[:SHOWN]}
        typer.echo(json.dumps({"at_unix": int(time.time())} | line))
        sys.stdout.flush()


# ---- parts


def _maker(side: Side, desk: str, rule_file: Path | None) -> MarketMaker:
    from btcfi.adapters.party.market_ledger import MARKET_FOLDER, MarketLedger  # noqa: PLC0415 - what `--help` should not load
    from btcfi.adapters.party.market_maker import MarketMaker  # noqa: PLC0415 - as above
    from btcfi.adapters.party.owner import Owner  # noqa: PLC0415 - as above
    from btcfi.contracts.mandate import Situation  # noqa: PLC0415 - as above
    from btcfi.units import Height, Sats, UnixSeconds  # noqa: PLC0415 - as above

    rule, rate, surface = read_rule(rule_file)
    keystore = side.opened()
    member = require_joined(side.folder, keystore)
    secret = keystore.request_secret()
    wallet, owner = PartyWallet(side.store, keystore, side.chain()), Owner(side.store, keystore)
    here = Situation(network=member.network, height=Height(0), time=UnixSeconds(0), exposure=Sats(0))
    return MarketMaker(
        http=_http(member, desk, secret), identity=member.identity, request_secret=secret, desk=member.desk,
        ledger=MarketLedger(side.folder / MARKET_FOLDER), rule=rule, rate=rate, surface=surface,
        free=_free(wallet), random=lambda: secrets.token_bytes(32), authority=lambda: owner.authority(here),
    )  # fmt: skip


def _free(wallet: PartyWallet) -> Callable[[], Sats]:
    """Return what asks for a wallet's free coins: looked at, never saved, for its file is the signing process's."""
    return lambda: Sats(sum(coin.value for coin in wallet.free()))


def _http(member: Membership, desk: str, secret: bytes) -> SignedHttp:
    from btcfi.adapters.signed_http import SignedHttp  # noqa: PLC0415 - httpx, which `--help` should not load

    return SignedHttp(
        desk or member.url, member.identity, secret, member.desk, timeout_seconds=REQUEST_SECONDS, attempts=2
    )  # fmt: skip


def read_rule(path: Path | None) -> tuple[MakingRule, float, VolatilitySurface | None]:
    """Return a rule, an interest rate and a surface from a TOML file; the usual ones of None.

    Raises NotFoundError, InvalidInputError naming the field, ArbitrageError for a surface that has any.
    """
    from btcfi.market.making import MakingRule  # noqa: PLC0415 - what `--help` should not load

    if path is None:
        return MakingRule(), RATE, None
    try:
        said = tomllib.loads(read_untrusted(path, at_most=MAX_RULE_BYTES, what="rule", named=True).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise InvalidInputError(path.name, f"cannot be read ({e})", "a TOML file in UTF-8") from e
    rate = said.pop("rate", RATE)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.0 <= rate <= 1.0:
        raise InvalidInputError("rate", repr(rate), "a yearly rate from 0 to 1")
    rows = said.pop("surface", [])
    known = {one.name: type(one.default) for one in fields(MakingRule)}
    for name, value in said.items():
        if name not in known:
            raise InvalidInputError(name[:40], "is no field of a rule", "one of " + ", ".join(known))
        whole = known[name] is int
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise InvalidInputError(name, repr(value)[:40], "a whole number" if whole else "a number")
    return MakingRule(**said), float(rate), _surface(rows)


def _surface(rows: Any) -> VolatilitySurface | None:  # noqa: ANN401 - TOML
    from btcfi.pricing.surface import VolatilityQuote, fit_surface  # noqa: PLC0415 - as above

    names = {"strike_usd", "days", "volatility", "forward_usd"}
    expected = "[[surface]] tables of " + ", ".join(sorted(names))
    if not isinstance(rows, list):
        raise InvalidInputError("surface", "no list of tables", expected)
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != names or not all(type(x) in {int, float} for x in row.values()):
            raise InvalidInputError(f"surface[{place}]", repr(row)[:60], expected)
    return None if not rows else fit_surface(
        [
            VolatilityQuote(
                strike=float(row["strike_usd"]), tau_years=row["days"] / 365.0, volatility=float(row["volatility"]),
                forward=float(row["forward_usd"]),
            )
            for row in rows
        ]
    )  # fmt: skip


def _of_regtest(member: Membership) -> Membership:
    if member.network != "regtest":
        raise InvalidInputError("--desk", f"is on {member.network!r}", "regtest: a simulation spends its coins")
    return member


def _until_a_signal() -> Event:
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


# ---- what is said


def _line(done: Round) -> dict[str, Any]:
    reasons = Counter(one.reason for one in (*done.quoted.left_out, *done.refused))
    return {
        "posted": done.posted, "withdrawn": done.withdrawn, "kept": done.kept,
        "left_out": dict(reasons.most_common(8)),
    }  # fmt: skip


def _report(look: Look, quoted: Quoted) -> dict[str, Any]:
    return {
        "status": look.status.value,
        "spot_cents": None if look.market is None else look.market.spot,
        "slot_unix": None if look.market is None else look.market.now,
        "free_sats": look.inventory.free,
        "held": [
            {"instrument": one.instrument.name, "quantity_centi_btc": one.quantity} for one in look.inventory.held
        ],
        "exposure": asdict(quoted.exposure),
        "marks": [
            {
                "instrument": one.instrument.name, "volatility": one.volatility, "mark_usd": one.mark,
                "delta": one.delta, "vega": one.vega,
            }
            for one in quoted.marks
        ],
        "quotes": [
            {
                "instrument": one.instrument.name, "side": one.side.value, "price_sats": one.price,
                "price_cents": one.price_cents, "quantity_centi_btc": one.quantity,
                "minimum_centi_btc": one.minimum,
                "request": None if one.request is None else one.request.id.hex(),
            }
            for one in quoted.drafts
        ],
        "left_out": [
            {
                "reason": one.reason, "instrument": None if one.instrument is None else one.instrument.name,
                "side": None if one.side is None else one.side.value,
            }
            for one in quoted.left_out
        ],
    }  # fmt: skip


def _show(look: Look, quoted: Quoted) -> None:
    from rich.console import Console  # noqa: PLC0415 - only where something is shown
    from rich.table import Table  # noqa: PLC0415 - as above

    console = Console()
    spot = "no price yet" if look.market is None else f"${look.market.spot / 100:,.2f}"
    table = Table(title=f"{len(quoted.drafts)} quotes at {spot}, market {look.status.value}")
    widest = max((len(one.instrument.name) for one in quoted.marks), default=0)
    table.add_column("instrument", min_width=widest, no_wrap=True)
    for name in ("mark $", "volatility", "bid $ x BTC", "ask $ x BTC"):
        table.add_column(name, justify="right", no_wrap=True)
    first: dict[tuple[str, str], str] = {}
    for one in quoted.drafts:
        shown = f"{one.price_cents / 100:,.2f} x {one.quantity / 100:.2f}"
        first.setdefault((one.instrument.name, one.side.value), shown)
    for mark in quoted.marks:
        name = mark.instrument.name
        bid, ask = (first.get((name, which), "-") for which in ("bid", "ask"))
        table.add_row(name, f"{mark.mark:,.2f}", f"{mark.volatility:.1%}", bid, ask)
    console.print(table)
    at = quoted.exposure
    console.print(
        f"held: delta {at.delta_btc:+.3f} BTC, gamma {at.gamma_btc:+.4f} BTC per 1 %, vega {at.vega_usd:+,.0f} USD per "
        f"point, expected shortfall {at.shortfall_usd:,.0f} USD; free {look.inventory.free / 1e8:,.4f} BTC",
        highlight=False,
    )
    for reason, many in Counter(one.reason for one in quoted.left_out).most_common():
        console.print(f"not quoted, or less: {many} by {reason}", highlight=False)


def _draw(quoted: Quoted, path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - a second of import that only a picture needs

    kinds = sorted({one.instrument.kind for one in quoted.marks})
    figure = Figure(figsize=(5.5 * max(len(kinds), 1), 4.6), layout="constrained")
    panes = figure.subplots(1, max(len(kinds), 1), squeeze=False)[0]
    for kind, pane in zip(kinds, panes, strict=True):
        marks = [one for one in quoted.marks if one.instrument.kind is kind]
        for expiry in sorted({one.instrument.expiry for one in marks}):
            line = sorted((one.instrument.strike / 100, one.mark) for one in marks if one.instrument.expiry == expiry)
            pane.plot(*zip(*line, strict=True), linewidth=0.8, color="0.6")
        for which, sign in (("bid", "^"), ("ask", "v")):
            points = [one for one in quoted.drafts if one.instrument.kind is kind and one.side.value == which]
            pane.scatter(
                [one.instrument.strike / 100 for one in points], [one.price_cents / 100 for one in points],
                marker=sign, s=18, label=which,
            )  # fmt: skip
        pane.set(title=kind.label.replace("_", " "), xlabel="strike, USD", ylabel="USD per BTC")
        pane.legend(frameon=False)
    try:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    except OSError as e:
        raise InvalidInputError("plot", f"{path} cannot be written ({e.strerror})", "a folder there") from e


if __name__ == "__main__":
    run(app, name="btcfi maker")
