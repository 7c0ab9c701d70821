"""``btcfi options create|list|show|cancel``: the book of options, over the store of DATABASE_URL."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from btcfi.adapters.store.options.cancelling import cancel_sale
from btcfi.adapters.store.options.options import find_option
from btcfi.adapters.store.options.tables import OptionRow, OptionState
from btcfi.adapters.store.options.views import WhichOptions, anchor_of, child_fees, settlement_of, soonest
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.spine.database import Session
from btcfi.contracts.summary import DeclinedError
from btcfi.errors import InvalidInputError
from btcfi.options.order import DECIMALS, Order, parse_amount, parse_expiry, read_wanted, usd
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE
from btcfi.surfaces.cli import Once
from btcfi.surfaces.rest.times import iso
from btcfi.units import UnixSeconds, unix_seconds
from settings.deployment import load_deployment
from workers.deployed import open_store, sale_rule
from workers.machine.attach import attached

if TYPE_CHECKING:
    from btcfi.adapters.store.options.sales import Quote

STATES: Final = tuple(map(str, OptionState))

PIPE_WIDTH: Final = 320
"""Columns: enough for every column of the list in full, with ids of 128 characters."""

WIDE: Final = 156
"""Columns from which on a terminal gets the same table as a pipe, with short ids; a narrower one gets the terms in one
column."""

SHORT_ID: Final = 16
"""Characters of an id beside which a narrow terminal has room for the terms: what `create` and the API give."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

app = typer.Typer(help="Create, list, show and cancel options.", no_args_is_help=True, pretty_exceptions_enable=False)


@app.command(cls=Once)
def create(
    *,
    kind: Annotated[str, typer.Option(help="call, put, binary_call or binary_put")],
    strike: Annotated[str, typer.Option(help="USD per BTC, e.g. 60000.00")],
    expiry: Annotated[str, typer.Option(help="ISO 8601 with a zone, or +MINUTES from now")],
    quantity: Annotated[str, typer.Option(help="BTC, in hundredths: 0.25")],
    barrier: Annotated[
        str | None, typer.Option(help="Knock-out level, USD per BTC; above the strike up-and-out")
    ] = None,
    american: Annotated[bool, typer.Option("--american", help="May be exercised before expiry")] = False,
    fixing: Annotated[
        str | None,
        typer.Option(help="What settles it: minute, twap:N or median:N; the preset's (American: minute) if not given"),
    ] = None,
    max_premium: Annotated[
        str | None,
        typer.Option(help="USD for the whole; above it nothing is sold. Without it you are asked, at a terminal"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take the quote without being asked")] = False,
    as_json: AsJson = False,
) -> None:
    """Quote an option at the newest agreed price, ask, and create it; the premium and the collateral are then fixed."""
    from btcfi.adapters.store.options.sales import quote, sell  # noqa: PLC0415 - numba: only a sale computes a premium
    from btcfi.pricing.premium import warm_up  # noqa: PLC0415 - as above

    limit = None if max_premium is None else parse_amount(max_premium, "max-premium")
    wanted = read_wanted(
        kind=kind, strike=strike, quantity=quantity, expiry=parse_expiry(expiry), barrier=barrier, american=american,
        fixing=fixing,
    )  # fmt: skip
    asked = not yes and limit is None
    if asked and not sys.stdin.isatty():  # who wrote "n" into a pipe has not said yes
        said = "neither is given, and there is no terminal to ask at: nothing is sold"
        raise InvalidInputError("--yes or --max-premium", said, "--yes, or --max-premium USD")
    deployment = attached(load_deployment())
    rule = sale_rule(deployment)
    store = open_store()
    warm_up()  # the first time in an installation that takes as long as a quote is good for
    with store.reading() as session:
        wall = _now()
        now = rounds.market_now(session, rule.feed, replay=deployment.replay_clock, now=wall)
        # of the expiry that was shown, also where the answer comes in the next minute
        order = wanted.order(secrets.token_hex(8), now)
        quoted = quote(session, order, rule, now=now, wall=wall)
    if asked:
        typer.echo(_quote_line(quoted, order), err=True)
        if not typer.confirm("Buy it at this premium, or less?", default=False, err=True):
            raise DeclinedError("the option")
    # who named a limit is held to that one, who was asked to what was shown, and only what was shown becomes old
    order = replace(
        order, max_premium=quoted.premium if limit is None else limit, quoted_at=quoted.at if asked else None
    )
    with store.transaction() as session:
        wall = _now()
        now = rounds.market_now(session, rule.feed, replay=deployment.replay_clock, now=wall)
        row = sell(session, order, rule, now=now, wall=wall)
    store.close()
    _show(row, as_json=as_json)


def _quote_line(quoted: Quote, order: Order) -> str:
    terms = quoted.terms
    barrier = "" if terms.barrier is None else f", out at {usd(terms.barrier)}"
    style = " american" if terms.american else ""
    return (
        f"{terms.kind.label}{style}, strike {usd(terms.strike)}{barrier}, {units(terms.quantity)} BTC, "
        f"expiry {iso(order.expiry)}, fixing {terms.window}\n"
        f"premium {usd(quoted.premium)} ({quoted.premium_sats:,} sats) at {usd(quoted.market.spot)}, collateral "
        f"{terms.collateral:,} sats; good for {quoted.valid_until - quoted.at} s"
    )


@app.command("list")
def list_(
    *,
    state: Annotated[str, typer.Option(help="Only options in this state")] = "",
    limit: Annotated[int, typer.Option(help="At most so many", min=1, max=100_000)] = 1000,
    as_json: AsJson = False,
) -> None:
    """List the options, the soonest expiry first."""
    if state and state.upper() not in STATES:
        raise InvalidInputError("--state", repr(state), "one of " + ", ".join(STATES))
    store = open_store()
    with store.reading() as session:
        rows = soonest(session, WhichOptions(state=state.upper() or None), limit=limit)
    store.close()
    if as_json:
        typer.echo(json.dumps({"options": [fields_of(row) for row in rows]}))
        return
    _table(rows)


@app.command()
def show(option_id: Annotated[str, typer.Argument(help="The option's id.")], *, as_json: AsJson = False) -> None:
    """Show one option, and how it was settled: what was computed, what the chain pays, and the fees."""
    store = open_store()
    with store.reading() as session:
        row = find_option(session, option_id)
        settled = settlement_fields(session, row)
    store.close()
    _show(row, as_json=as_json, settled=settled)


@app.command()
def cancel(option_id: Annotated[str, typer.Argument(help="The option's id.")], *, as_json: AsJson = False) -> None:
    """Cancel a sale that is not funded: created, or failed; again changes nothing."""
    store = open_store()
    with store.transaction() as session:
        row = cancel_sale(session, option_id, by="command line", now=_now())
    store.close()
    _show(row, as_json=as_json)


def fields_of(row: OptionRow) -> dict[str, Any]:
    """Return what the JSON of an option says: integers with their unit in the name, times as ISO 8601."""
    return {
        "id": row.id,
        "state": row.state,
        "kind": OptionKind(row.kind).label,
        "strike_cents": row.strike_cents,
        "quantity_centi_btc": row.quantity_centi_btc,
        "barrier_cents": row.barrier_cents,
        "american": row.american,
        "expiry": iso(row.expiry_unix),
        "fixing": row.fixing,
        "premium_cents": row.premium_cents,
        "premium_sats": row.premium_sats,
        "collateral_sats": row.collateral_sats,
        "address": row.address,
        "funding_txid": row.funding_txid,
        "created": iso(row.created_at_unix),
        "preset": row.preset,
        "program": row.program,
        "program_sha256": row.program_sha256,
        "last_error": row.last_error,
    }


def settlement_fields(session: Session, row: OptionRow) -> dict[str, Any]:
    """Return what is known of an option's settlement: what the guest computed, what the chain pays, the fees."""
    found = settlement_of(session, row.id)
    if found is None:
        return {}
    return {
        "settlement_state": found.state,
        "settlement_price_cents": found.price_cents,
        "payout_cents": found.payout_cents,
        "payout_sats": found.payout_sats,
        "paid_sats": found.paid_sats,
        "returned_sats": found.returned_sats,
        "anchor_sats": anchor_of(found, row),
        "fee_sats": found.fee_sats,
        "child_fee_sats": child_fees(session, [row.id]).get(row.id),
        "settlement_txid": found.txid,
    }


def units(hundredths: int | None) -> str:
    """Return hundredths (cents, 1/100 BTC) as units to read, exactly; nothing for None."""
    return "" if hundredths is None else f"{Decimal(hundredths).scaleb(-DECIMALS):,}"


def _show(row: OptionRow, *, as_json: bool, settled: Mapping[str, Any] | None = None) -> None:
    fields = fields_of(row) | dict(settled or {})
    if as_json:
        typer.echo(json.dumps(fields))
        return
    for name, value in fields.items():
        if value is not None:
            typer.echo(f"{name}: {value}")


def _table(rows: Sequence[OptionRow]) -> None:
    # a pipe has no width of its own, and who reads one wants whole ids
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    longer = max((len(row.id) for row in rows), default=0) - SHORT_ID
    wide = console.width >= WIDE + max(0, longer)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2 if wide else 1, 0, 0))
    # the page's ids are of 32 characters and a caller's own of 128: beside them nothing else would have room
    under = not wide and longer > 0
    table.add_column("id", no_wrap=not under, overflow="fold")
    table.add_column("state", no_wrap=True)
    if wide:
        table.add_column("kind", no_wrap=True)
        for heading in ("strike USD", "barrier USD", "BTC", "premium USD", "collateral sats"):
            table.add_column(heading, justify="right", no_wrap=True)
    else:
        if not under:
            table.add_column("terms, USD")
        table.add_column("premium" if not under else "premium USD", justify="right", no_wrap=True)
    table.add_column("expiry", no_wrap=True)
    if wide:
        table.add_column("fixing", no_wrap=True)
    for row in rows:
        kind = OptionKind(row.kind).label + (" american" if row.american else "")
        strike, barrier, btc, premium = (
            units(n) for n in (row.strike_cents, row.barrier_cents, row.quantity_centi_btc, row.premium_cents)
        )
        if wide:
            cells = [kind, strike, barrier, btc, premium, f"{row.collateral_sats:,}", iso(row.expiry_unix)]
            cells.append(row.fixing or str(MINUTE))
        else:
            knock_out = f" out {barrier}" if barrier else ""
            window = f", {row.fixing}" if row.fixing not in {None, str(MINUTE)} else ""
            terms = f"{kind} {strike}{knock_out} x {btc}{window}"
            cells = [*([] if under else [terms]), premium, f"{iso(row.expiry_unix)[:16]}Z"]
        table.add_row(Text(f"{row.id}\n  {terms}" if under else row.id), row.state, *cells)
    console.print(table)


def _now() -> UnixSeconds:
    return unix_seconds(int(time.time()))
