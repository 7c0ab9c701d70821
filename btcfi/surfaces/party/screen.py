"""What an owner reads before anything is signed: a contract, a close, a mandate, each on one screen.

The screen goes to stderr, since a message may go to stdout.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import typer

from btcfi.contracts.explain import fixing_in_words
from btcfi.contracts.mandate import SignedMandate, encode_mandate
from btcfi.contracts.messages import Role
from btcfi.contracts.option import SECONDS_PER_BLOCK
from btcfi.contracts.payouts import decode_terms
from btcfi.contracts.summary import CloseSummary, DeclinedError, Summary
from btcfi.errors import InvalidInputError
from btcfi.options.terms import OptionTerms
from btcfi.units import Sats

_SATS_PER_BTC: Final = 100_000_000

_WIDTH: Final = 24
"""Of the names on a screen."""


def asking(*, yes: bool) -> Callable[[Summary | CloseSummary], None]:
    """Return what shows a summary and asks for a yes. yes: it was given on the command line, so it only shows.

    What it returns raises DeclinedError for a no, InvalidInputError where there is nobody to ask.
    """

    def show(summary: Summary | CloseSummary) -> None:
        typer.echo(contract_screen(summary) if isinstance(summary, Summary) else close_screen(summary), err=True)
        confirm("Sign it?", f"contract {summary.contract.hex()[:16]}", yes=yes)

    return show


def confirm(question: str, what: str, *, yes: bool) -> None:
    """Ask at the terminal, unless yes was said before. Raises DeclinedError, InvalidInputError without a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInputError(
            "--yes", "is missing, and there is no terminal to ask at", "--yes, once you have read it"
        )
    if not typer.confirm(question, default=False, err=True):
        raise DeclinedError(what)


def log_line(summary: Summary | CloseSummary) -> None:
    """Say in one line what a running party is about to sign."""
    if isinstance(summary, Summary):
        said = f"as {summary.role.value}, collateral {summary.collateral} sat, premium {summary.premium} sat, "
        said += f"worst case {summary.worst_loss} sat"
    else:
        said = f"close, buyer {summary.buyer} sat, seller {summary.seller} sat, fee {summary.fee} sat"
    what = f"contract {summary.contract.hex()[:16]} under mandate {summary.mandate}: {said}"
    sys.stderr.write(f"btcfi party: signing {what}\n")


# ---- the screens


def contract_screen(summary: Summary) -> str:
    """Return what a side reads before it signs a contract."""
    option = decode_terms(summary.option)
    wait = (summary.refund_height - summary.expiry_height) * SECONDS_PER_BLOCK
    seller = summary.role is Role.SELLER
    return rows_screen(f"You are about to sign a contract as its {summary.role.value}.", {
        "option": _option_line(option),
        "expiry": f"{_when(summary.expiry)} by {summary.feed}, settled after block {summary.expiry_height:,}",
        "settled at": fixing_in_words(summary.fixing, summary.expiry, summary.rounding),
        "collateral": f"{_amount(summary.collateral)}, {'your own' if seller else 'of the seller'}",
        "premium": f"{_amount(summary.premium)}, {'paid to you' if seller else 'paid by you'}",
        "your fee": f"{_amount(summary.funding_fee)} for the funding",
        "a settlement pays": f"{_amount(summary.cet_fee)} in fees by itself",
        "you get back": f"{_amount(summary.least)} at least, {_amount(summary.best)} at most",
        "rounding": f"pays you at most {_amount(summary.rounded_off)} less than the guest computes",
        "worst case": f"you lose {_amount(summary.worst_loss)}",
        "the other side": summary.counterparty.hex(),
        "oracles": _oracles(summary),
        "refund": (
            f"to the seller from block {summary.refund_height:,} on, about {_when(summary.expiry + wait)}, "
            "if they stay silent"
        ),
        "contract": summary.contract.hex(),
        "allowed by": f"your mandate {summary.mandate}",
    })  # fmt: skip


def close_screen(summary: CloseSummary) -> str:
    """Return what a side reads before it signs a close."""
    why = "as the guest computes it" if summary.computed else "as the two of you say; nothing computes it"
    ours = summary.seller if summary.role is Role.SELLER else summary.buyer
    return rows_screen(f"You are about to close a contract as its {summary.role.value}, before its end.", {
        "payout": f"{_amount(summary.asked)}, {why}",
        "the chain pays buyer": _amount(summary.buyer),
        "the chain pays seller": _amount(summary.seller),
        "you get": _amount(ours),
        "fee": _amount(summary.fee),
        "contract": summary.contract.hex(),
        "allowed by": f"your mandate {summary.mandate}",
    })  # fmt: skip


def mandate_screen(mandate: Mapping[str, object], before: SignedMandate | None) -> str:
    """Return a mandate as its owner reads it, field by field. before: in force; what differs from it is marked."""
    known = {} if before is None else _said(encode_mandate(before.mandate))
    mandate = _said(mandate)
    rows = {name: _field(name, value) for name, value in mandate.items() if name not in ("type", "version")}
    for name in rows:
        if name in known and known[name] != mandate[name]:
            rows[name] += f"   (was {_field(name, known[name])})"
    changed = "none is in force" if before is None else f"number {before.mandate.number} is in force"
    return rows_screen(f"What you let your software sign ({changed}).", rows)


def _said(mandate: Mapping[str, object]) -> dict[str, object]:
    """Return a mandate with what it says of the fields that it lacks: any fixing, a tolerance up to its step's most."""
    step = mandate.get("step_basis_points")
    lacking = {"tolerance_basis_points": [0, step[1]]} if isinstance(step, list) else {}
    return {"fixings": [], **lacking, **mandate}


def rows_screen(title: str, rows: Mapping[str, str]) -> str:
    """Return a title, and under it what each name says."""
    return "\n".join([title, *(f"  {name:<{_WIDTH}} {value}" for name, value in rows.items())])


def _field(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value == []:
        return "any"
    if isinstance(value, list):
        bounds = [one for one in value if isinstance(one, int)]
        return f"{bounds[0]:,} to {bounds[1]:,}" if bounds else in_lines(list(map(str, value)))
    if name.endswith("_unix") and isinstance(value, int):
        return _when(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _option_line(option: OptionTerms) -> str:
    style = "exercised early or at its expiry" if option.american else "exercised at its expiry"
    barrier = "" if option.barrier is None else f", ends at {_usd(option.barrier)}"
    quantity = f"{option.quantity // 100}.{option.quantity % 100:02d} BTC"
    return f"{option.kind.label}, strike {_usd(option.strike)}, of {quantity}{barrier}, {style}"


def _oracles(summary: Summary) -> str:
    return in_lines(
        [f"{summary.threshold} of {len(summary.oracles)} must agree:", *(one.hex() for one in summary.oracles)]
    )


def in_lines(words: list[str]) -> str:
    """Return words in one line, and keys and hashes each in a line of its own."""
    return f"\n{'':<{_WIDTH + 3}}".join(words) if any(len(word) > _WIDTH for word in words) else ", ".join(words)


def _amount(value: Sats) -> str:
    return f"{value // _SATS_PER_BTC}.{value % _SATS_PER_BTC:08d} BTC ({value:,} sat)"


def _usd(cents: int) -> str:
    return f"${cents // 100:,}.{cents % 100:02d}"


def _when(unix: int) -> str:
    try:
        return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):  # beyond the calendar, and still a number that was written down
        return f"{unix:,} seconds of unix time"
