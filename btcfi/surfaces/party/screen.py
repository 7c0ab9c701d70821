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
from btcfi.contracts.mandate import SignedMandate, condition_since, encode_mandate
from btcfi.contracts.messages import Role
from btcfi.contracts.option import SECONDS_PER_BLOCK
from btcfi.contracts.payouts import decode_terms
from btcfi.contracts.summary import CloseSummary, DeclinedError, Summary
from btcfi.errors import InvalidInputError
from btcfi.options.terms import OptionTerms
from btcfi.payoffs.book import Book
from btcfi.payoffs.book_deal import BookSummary
from btcfi.units import Sats

Shown = Summary | CloseSummary | BookSummary
"""What an owner may be shown before a signature."""

_SATS_PER_BTC: Final = 100_000_000

_WIDTH: Final = 24
"""Of the names on a screen."""


def asking(*, yes: bool) -> Callable[[Shown], None]:
    """Return what shows a summary and asks for a yes. yes: it was given on the command line, so it only shows.

    What it returns raises DeclinedError for a no, InvalidInputError where there is nobody to ask.
    """

    def show(summary: Shown) -> None:
        typer.echo(_screen(summary), err=True)
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


def _screen(summary: Shown) -> str:
    if isinstance(summary, BookSummary):
        return book_screen(summary)
    return contract_screen(summary) if isinstance(summary, Summary) else close_screen(summary)


def log_line(summary: Shown) -> None:
    """Say in one line what a running party is about to sign."""
    if isinstance(summary, BookSummary):
        said = f"a book of {summary.deal.terms.book.count} legs as {ROLES[summary.role]}, "
        said += f"worst case {summary.deal.worst_loss(summary.role)} sat"
    elif isinstance(summary, Summary):
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
        **condition_rows(summary.condition),
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


def book_screen(summary: BookSummary) -> str:
    """Return what a side reads before it signs a net book."""
    made, role = summary.deal, summary.role
    terms, plan = made.terms, made.netted.plan
    least, most = made.returns[role]
    pays, event, other = made.pays(role), made.contract.event, role.other
    theirs = plan.contract.seller_key if role is Role.BUYER else plan.contract.buyer_key
    worth = "you have not priced it" if summary.value is None else f"{_signed(summary.value)} to the holder"
    wait = (terms.refund_height - terms.expiry_height) * SECONDS_PER_BLOCK
    return rows_screen(f"You are about to sign a net book as its {ROLES[role]}.", {
        **book_rows(terms.book),
        **condition_rows(event.condition),
        "expiry": f"{_when(event.expiry)} by {event.feed}, settled after block {terms.expiry_height:,}",
        "settled at": fixing_in_words(event.fixing, event.expiry, event.rounding),
        "you put in": _amount(made.puts_in(role)),
        "the other side puts in": _amount(made.puts_in(other)),
        "premium": f"{_amount(Sats(abs(pays)))}, {'paid by you' if pays > 0 else 'paid to you'}",
        "your own value of it": worth,
        "your fee": f"{_amount(made.fee(role))} for the funding",
        "a settlement pays": f"{_amount(terms.cet_fee)} in fees by itself, out of the writer's part first",
        "you get back": f"{_amount(least)} at least, {_amount(most)} at most",
        "rounding": f"pays you at most {_amount(made.rounded_off(role))} less than the guest computes",
        "worst case": f"you lose {_amount(made.worst_loss(role))}",
        "the other side": theirs.hex(),
        "proposed by": "you" if role is made.proposal.role else made.proposal.identity.hex(),
        "oracles": in_lines([
            f"{terms.threshold} of {len(terms.announcements)} must agree:",
            *(one.oracle_key.hex() for one in terms.announcements),
        ]),
        "refund": (
            f"to each what it put in, from block {terms.refund_height:,} on, "
            f"about {_when(event.expiry + wait)}, if they stay silent"
        ),
        "contract": made.id.hex(),
        "allowed by": f"your mandate {summary.mandate}",
    })  # fmt: skip


ROLES: Final = {Role.BUYER: "holder", Role.SELLER: "writer"}
"""The sides of a net book: the holder signs as buyer, the writer as seller."""


def book_rows(book: Book) -> dict[str, str]:
    """Return a book's legs, floor and barrier as rows of a screen."""
    legs = [(leg, "") for leg in book.legs] + [(leg, ", ends at the barrier") for leg in book.knock_outs]
    lines = [
        f"{'sells' if leg.quantity < 0 else 'buys'} {abs(leg.quantity) / 100:,.2f} BTC of {leg.kind.value} "
        f"{_usd(leg.strike)}{'' if leg.cash is None else f' paying {_usd(leg.cash)}'}{ends}"
        for leg, ends in legs
    ]
    return {
        "the holder": f"\n{'':<{_WIDTH + 3}}".join(lines),
        "floor": "none" if book.floor is None else f"{_usd(book.floor)}: below it, it settles as at it",
        **({} if book.barrier is None else {"barrier": _usd(book.barrier)}),
    }


def condition_rows(condition: str) -> dict[str, str]:
    """Return from when on an event's barrier counts as a row of a screen; none without one.

    A window that began long ago may hold a minute that has touched it: what ends by it is worth nothing then.
    """
    if not condition:
        return {}
    return {
        "barrier counts": f"from {_when(condition_since(condition))} on: one touched since then is touched for good"
    }


def _signed(sats: int) -> str:
    return f"{'-' if sats < 0 else ''}{_amount(Sats(abs(sats)))}"


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
    """Return a mandate with what it says of fields that it lacks: any fixing, its step's most, no books or disputes."""
    step = mandate.get("step_basis_points")
    lacking = {"tolerance_basis_points": [0, step[1]]} if isinstance(step, list) else {}
    return {"fixings": [], **lacking, "books": None, "disputes": None, **mandate}


def rows_screen(title: str, rows: Mapping[str, str]) -> str:
    """Return a title, and under it what each name says."""
    return "\n".join([title, *(f"  {name:<{_WIDTH}} {value}" for name, value in rows.items())])


def _field(name: str, value: object) -> str:
    if isinstance(value, dict) or value is None:
        parts = value or {"none": None}
        return f"\n{'':<{_WIDTH + 3}}".join(
            part if one is None else f"{part}: {_field(part, one)}" for part, one in parts.items()
        )
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
