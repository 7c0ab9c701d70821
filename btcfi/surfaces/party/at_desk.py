"""What every command at a desk shares: the account that asks there, what it signs and is not sure of, and how it shows.

What is posted is in the party's folder before anybody else knows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.market_ledger import MARKET_FOLDER, MarketLedger
from btcfi.adapters.party.membership import Membership, require_joined
from btcfi.documents import printable
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.surfaces.party import side as party_side
from btcfi.surfaces.party.side import say
from btcfi.units import CentiBtc

if TYPE_CHECKING:
    from btcfi.adapters.signed_http import SignedHttp

TAKE_SECONDS: Final = 30
"""How long a take is good: both sides' processes have to sign within it."""

TARGET_BLOCKS: Final = 3
"""Within which a close or a transfer is to be mined: the desk asks for half as much, so that a rise ends neither."""

SATS_PER_BTC: Final = 100_000_000

PREFIX: Final = 8
"""Digits of an id that are enough where it is one of few."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
FeeRate = Annotated[
    int | None, typer.Option("--rate", help="Fee rate, sat/kvB; default: what your node asks for.", min=1000)
]


class OffersRefusedError(ConflictError):
    """The desk did not take an offer."""

    def __init__(self, problem: str, field: object) -> None:
        super().__init__(f"the desk refused the offer: {problem[:300]}")
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One party at the desk that it has joined."""

    member: Membership
    keystore: Keystore
    ledger: MarketLedger
    http: SignedHttp


@contextmanager
def joined(side: party_side.Side) -> Iterator[Account]:
    """Open the party's folder at the desk that it has joined; an answer of another shape is a desk that is away."""
    from btcfi.adapters.signed_http import SignedHttp  # noqa: PLC0415 - httpx, 15 MB; `--help` needs none

    keystore = side.opened()
    member = require_joined(side.folder, keystore)
    with SignedHttp(member.url, member.identity, keystore.request_secret(), member.desk) as http, as_a_desk(member.url):
        yield Account(
            member=member, keystore=keystore, ledger=MarketLedger(side.folder / MARKET_FOLDER), http=http
        )  # fmt: skip


@contextmanager
def as_a_desk(url: str) -> Iterator[None]:
    """Turn an answer of another shape into what it is: one of something else than a desk."""
    from btcfi.adapters.signed_http import DeskAwayError  # noqa: PLC0415 - as above

    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as e:
        raise DeskAwayError(url, f"an answer of another shape: {type(e).__name__}") from e


@contextmanager
def or_nothing(side: party_side.Side, withdraw: Callable[[], object], where: str) -> Iterator[None]:
    """Post what is signed in the folder, and have our process sign nothing of it unless the desk has said yes.

    A desk has our signature whatever it answers: who is told no and tries again would have two. withdraw: takes it back
    in the folder. where: is named as what to look at before that, if no answer came.
    """
    from btcfi.adapters.signed_http import DeskBusyError, DeskRefusedError  # noqa: PLC0415 - as above

    try:
        yield
    except BaseException as e:
        with side.store.alone():  # what is being signed right now is signed before this, or not at all
            withdraw()
        known = isinstance(e, OffersRefusedError) or (
            isinstance(e, DeskRefusedError) and not isinstance(e, DeskBusyError)
        )
        if not known:
            said = f"whether the desk has it is not known; your party signs nothing new of it. Look at {where} first"
            typer.echo(f"btcfi market: {said}", err=True)
        raise


# ---- what is shown


def in_btc(sats: int) -> str:
    """Return satoshis as bitcoin, with all eight digits."""
    return f"{sats // SATS_PER_BTC}.{sats % SATS_PER_BTC:08d}"


def hundredths(centi: int | CentiBtc) -> str:
    """Return a quantity as bitcoin."""
    return f"{centi // 100}.{centi % 100:02d}"


def utc(unix: int) -> str:
    """Return a time as it is read."""
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S} UTC"


_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def span(text: str, option: str = "--valid") -> int:
    """Return a span such as ``90s``. Raises InvalidInputError."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isascii() or not number.isdigit() or not 0 < len(number) < 6:  # noqa: PLR2004 - digits
        raise InvalidInputError(option, repr(text)[:20], "a number and s, m, h or d, such as 90s")
    return int(number) * _UNITS[unit]


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their names, each column as wide as it needs."""
    shown = [[printable(cell, 80) for cell in row] for row in (names, *rows)]
    widths = [max(len(row[at]) for row in shown) for at in range(len(names))]
    for row in shown:
        typer.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def say_list(found: dict[str, Any], names: Sequence[str], rows: Sequence[Sequence[str]], *, as_json: bool) -> None:
    """Print a page of a list: the desk's JSON, or its rows."""
    if as_json:
        say(found)
        return
    table(names, rows)
    if found.get("next_cursor"):
        typer.echo("there are more: --json has the cursor")


def say_fields(value: dict[str, Any], *, as_json: bool) -> None:
    """Print fields: as JSON, or one a line."""
    if as_json:
        say(value)
    else:
        shown = {name: " ".join(map(str, one)) if isinstance(one, list) else one for name, one in value.items()}
        typer.echo("\n".join(f"{name}: {printable(one, 2_000)}" for name, one in shown.items()))
