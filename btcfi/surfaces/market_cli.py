"""``btcfi market``: what a desk offers, and your own offers, takes, positions and fills there.

A party joins a desk by ``btcfi party join``; its own process, ``btcfi party run``, signs the contracts of what is
offered and taken here. What is posted is in the party's ledger before anybody else knows of it, and prices are checked
by what their makers signed, not by what the desk says of them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.market_ledger import MARKET_FOLDER, MarketLedger
from btcfi.adapters.party.membership import JOIN, Membership, require_joined
from btcfi.adapters.party.owner import Owner
from btcfi.contracts.mandate import Situation
from btcfi.contracts.messages import Role
from btcfi.documents import printable
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError
from btcfi.market.firm_offer import (
    TICK_SATS,
    Deal,
    FirmOffer,
    Side,
    SignedOffer,
    Take,
    deal_of,
    decode_signed_offer,
    encode_signed_offer,
    encode_signed_take,
    sign_offer,
    sign_take,
)
from btcfi.market.instrument import parse_instrument
from btcfi.options.order import parse_amount, parse_quantity, parse_sats, parse_time, usd
from btcfi.records import HASH
from btcfi.surfaces.cli import run
from btcfi.surfaces.party import side as party_side
from btcfi.surfaces.party.screen import confirm, rows_screen
from btcfi.surfaces.party.side import Yes, choice, command, say
from btcfi.units import CentiBtc, Cents, Hash32, Height, Sats, UnixSeconds

if TYPE_CHECKING:
    from btcfi.adapters.signed_http import SignedHttp

TAKE_SECONDS: Final = 30
"""How long a take is good: both sides' processes have to sign within it."""

_SATS_PER_BTC: Final = 100_000_000
_PREFIX: Final = 8
"""Digits of an offer's id that are enough where the instrument is named."""

app = typer.Typer(
    name="market", help="A desk's market: chains, books, offers, takes, positions.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
At = Annotated[str, typer.Option("--desk", help="Only look, at this URL, as nobody: no folder is asked.")]
Name = Annotated[str, typer.Argument(help="The instrument, such as BTC-27NOV26-60000-C.")]
Seconds = Annotated[str, typer.Option("--valid", help="How long it stands: 90s, 10m, 2h.")]


class AnotherOfferError(ConflictError):
    """The desk shows an offer that is not what its maker signed."""

    def __init__(self, shown: str, signed: str) -> None:
        super().__init__(
            f"offer {shown[:16]}: what the desk shows is not what was signed ({signed[:16]}); take another"
        )
        self.shown, self.signed = shown, signed


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
def _account(side: party_side.Side) -> Iterator[Account]:
    from btcfi.adapters.signed_http import SignedHttp  # noqa: PLC0415 - httpx, 15 MB; `--help` needs none

    keystore = side.opened()
    member = require_joined(side.folder, keystore)
    with SignedHttp(member.url, member.identity, keystore.request_secret(), member.desk) as http, _read(member.url):
        yield Account(
            member=member, keystore=keystore, ledger=MarketLedger(side.folder / MARKET_FOLDER), http=http
        )  # fmt: skip


@contextmanager
def _looking(side: party_side.Side, at: str) -> Iterator[SignedHttp]:
    if not at:
        with _account(side) as account:
            yield account.http
        return
    from btcfi.adapters.signed_http import SignedHttp  # noqa: PLC0415 - as above

    with SignedHttp(at) as http, _read(at):
        yield http


@contextmanager
def _read(url: str) -> Iterator[None]:
    """Turn an answer of another shape into what it is: one of something else than a desk."""
    from btcfi.adapters.signed_http import DeskAwayError  # noqa: PLC0415 - as above

    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as e:
        raise DeskAwayError(url, f"an answer of another shape: {type(e).__name__}") from e


# ---- looking


@command(of=app)
def chain(
    *,
    expiry: Annotated[str, typer.Argument(help="ISO 8601 with a zone, or unix seconds; default: the next one.")] = "",
    at: At = "",
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Print the calls and puts of one expiry: best bid and ask of each, for one bitcoin."""
    when = None if not expiry else parse_time(expiry, "expiry")
    with _looking(side, at) as http:
        found = http.get("/chain", expiry=when)
        if as_json:
            say(found)
            return
        spot = found.get("spot_cents")
        typer.echo(
            f"expiry {_when(found['expiry_unix'])}, spot {'unknown' if spot is None else usd(spot)}, "
            f"market {printable(found.get('market_status') or 'unknown', 20)}"
        )
        rows = [[line["instrument"], *_top(line.get("bid")), *_top(line.get("ask"))] for line in found["lines"]]
        _table(["instrument", "bid BTC", "bid USD", "size", "ask BTC", "ask USD", "size"], rows)
        others = [_when(one) for one in found.get("expiries_unix", []) if one != found["expiry_unix"]]
        if others:
            typer.echo("other expiries: " + ", ".join(others))


@command(of=app)
def book(*, instrument: Name, at: At = "", as_json: AsJson = False, side: party_side.Side) -> None:
    """Print the open offers of one instrument, on each side the best first; ``take`` takes one by what stands there."""
    name = parse_instrument(instrument).name
    with _looking(side, at) as http:
        found = http.get(f"/book/{name}")
        if as_json:
            say(found)
            return
        rows = [
            [word, _btc(one["price_sats"]), usd(one["price_cents"]), _size(one["quantity_centi_btc"]),
             _size(one["minimum_centi_btc"]), _when(one["valid_until_unix"]), f"{name}/{one['id'][:16]}"]
            for word, many in (("ask", reversed(found["asks"])), ("bid", found["bids"])) for one in many
        ]  # fmt: skip
        _table(["side", "BTC", "USD", "size", "least", "until", "take"], rows)


# ---- offers


@command(of=app)
def offer(
    *,
    instrument: Name,
    what: Annotated[str, typer.Argument(metavar="bid|ask", help="bid: you buy. ask: you write.")],
    quantity: Annotated[str, typer.Option("--quantity", help="BTC in hundredths, such as 0.25.")],
    price_usd: Annotated[str, typer.Option("--price-usd", help="For one bitcoin of it, such as 1250.00.")] = "",
    price_sats: Annotated[str, typer.Option("--price-sats", help=f"The same, a multiple of {TICK_SATS:,}.")] = "",
    minimum: Annotated[str, typer.Option("--minimum", help="The least that one take may be; default: 0.01.")] = "0.01",
    valid: Seconds = "60s",
    yes: Yes = False,
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Post a firm offer: whoever takes it while it stands has the contract, if your mandate allows it.

    Both prices are firm. One that you leave out follows from the other at the desk's newest spot, and you are shown it.
    """
    bought = choice(Side, "bid|ask", what)
    named = parse_instrument(instrument)
    with _account(side) as account:
        sats, cents = _prices(account.http, bought, price_usd, price_sats)
        made = FirmOffer(
            maker=account.member.identity, desk=account.member.desk, instrument=named, side=bought, price=sats,
            price_cents=cents, quantity=parse_quantity(quantity), minimum=parse_quantity(minimum, "minimum"),
            valid_until=UnixSeconds(int(time.time()) + _seconds(valid)), number=account.ledger.next_number(),
        )  # fmt: skip
        whole = _deal_of(made, made.quantity)
        _check_mandate(side, account, bought.role, whole, _deal_of(made, made.minimum))
        typer.echo(_screen("You are about to post a firm offer.", made, whole, bought.role), err=True)
        confirm("Post it?", f"offer {made.id.hex()[:16]}", yes=yes)
        signed = sign_offer(made, account.keystore.request_secret(), secrets.token_bytes(32))
        account.ledger.add_offer(signed)
        with _or_nothing(side, account.ledger, made.id, "`btcfi market offers`"):
            (result,) = account.http.post("/offers", {"offers": [encode_signed_offer(signed)]})["results"]
            if result.get("problem"):
                raise OffersRefusedError(str(result["problem"]), result.get("field"))
            state = result["state"]
    _said({"offer": made.id.hex(), "state": state, "price_sats": sats, "price_cents": cents,
           "valid_until_unix": made.valid_until}, as_json=as_json)  # fmt: skip


@command(of=app)
def offers(*, as_json: AsJson = False, side: party_side.Side) -> None:
    """List your offers, the newest first."""
    with _account(side) as account:
        found = account.http.get("/offers")
        rows = [
            [one["id"][:16], one["instrument"], one["side"], _btc(one["price_sats"]), usd(one["price_cents"]),
             f"{_size(one['remaining_centi_btc'])} of {_size(one['quantity_centi_btc'])}", one["state"],
             _when(one["valid_until_unix"])]
            for one in found["items"]
        ]  # fmt: skip
        _listed(found, ["offer", "instrument", "side", "BTC", "USD", "left", "state", "until"], rows, as_json=as_json)


@command(of=app)
def withdraw(
    *,
    ids: Annotated[list[str] | None, typer.Argument(help="Offers, as `btcfi market offers` names them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every offer of yours.")] = False,
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Take offers back: from now on your party signs no take of them, whatever the desk says."""
    if bool(ids) == everything:
        raise InvalidInputError("ID", "is missing, or stands beside --all", "offers' ids, or --all")
    with _account(side) as account:
        standing = [one.offer.id for one in account.ledger.offers()]
        wanted = standing if everything else [_one_of(standing, text) for text in ids or []]
        with side.store.alone():  # what is being agreed to right now is agreed to before this, or not at all
            account.ledger.withdraw(*(one for one in wanted if one in standing))
        if everything:
            withdrawn = account.http.delete("/offers")["withdrawn"]
        else:
            withdrawn = sum(account.http.delete(f"/offers/{one.hex()}")["withdrawn"] for one in wanted)
    _said({"withdrawn": withdrawn, "offers": [one.hex() for one in wanted]}, as_json=as_json)


# ---- takes


@command(of=app)
def take(
    *,
    which: Annotated[str, typer.Argument(metavar="OFFER", help="As `btcfi market book` names it: INSTRUMENT/ID.")],
    quantity: Annotated[str, typer.Option("--quantity", help="BTC in hundredths, such as 0.25.")],
    valid: Annotated[str, typer.Option("--valid", help="How long both sides have to sign.")] = f"{TAKE_SECONDS}s",
    yes: Yes = False,
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Take an offer at its price or not at all; you are shown premium, collateral and worst case, and asked.

    Your `btcfi party run` signs the contract.
    """
    name, _, id_ = which.partition("/")
    wanted = parse_quantity(quantity)
    with _account(side) as account:
        signed = _find_offer(account, parse_instrument(name).name, id_)
        found = signed.offer
        made = Take(
            taker=account.member.identity, offer_id=found.id, quantity=wanted, price=found.price,
            price_cents=found.price_cents, valid_until=UnixSeconds(int(time.time()) + _seconds(valid)),
            number=account.ledger.next_number(),
        )  # fmt: skip
        deal, role = deal_of(found, made), found.side.role.other
        _check_mandate(side, account, role, deal)
        typer.echo(_screen(f"You are about to {_verb(role)} an option.", found, deal, role), err=True)
        confirm("Take it?", f"offer {found.id.hex()[:16]}", yes=yes)
        made = replace(made, valid_until=UnixSeconds(int(time.time()) + _seconds(valid)))  # a screen takes time to read
        sealed = sign_take(made, account.keystore.request_secret(), secrets.token_bytes(32))
        account.ledger.add_take(sealed, signed)
        with _or_nothing(side, account.ledger, made.id, "`btcfi market takes`"):
            state = account.http.post("/takes", encode_signed_take(sealed))["state"]
    _said({"take": made.id.hex(), "option": made.option_id, "state": state, "premium_sats": deal.premium,
           "collateral_sats": deal.terms.collateral}, as_json=as_json)  # fmt: skip


@command(of=app)
def positions(*, as_json: AsJson = False, side: party_side.Side) -> None:
    """List the options that you wrote or hold, the newest first."""
    with _account(side) as account:
        found = account.http.get("/positions")
        words = {"writer": "you wrote", "holder": "you bought"}
        rows = [
            [str(one["option"].get("id", "")), one["instrument"], words.get(one["role"], str(one["role"])),
             str(one["option"].get("state", ""))]
            for one in found["items"]
        ]  # fmt: skip
        _listed(found, ["option", "instrument", "side", "state"], rows, as_json=as_json)


@command(of=app)
def takes(*, as_json: AsJson = False, side: party_side.Side) -> None:
    """List the takes that you made and that others made of your offers, the failed ones with whose fault and why."""
    with _account(side) as account:
        found, ours = account.http.get("/takes"), account.member.identity.hex()
        rows = [
            [_when(one["created_at_unix"]), one["instrument"], _did(one, ours), _size(one["quantity_centi_btc"]),
             usd(one["price_cents"]), one["state"], one["fault"] or "", one["problem"] or ""]
            for one in found["items"]
        ]  # fmt: skip
        _listed(found, ["at", "instrument", "you", "size", "USD", "state", "fault", "why"], rows, as_json=as_json)


@command(of=app)
def fills(*, as_json: AsJson = False, side: party_side.Side) -> None:
    """List the trades that you made and that others made with you, the newest first."""
    with _account(side) as account:
        found, ours = account.http.get("/fills"), account.member.identity.hex()
        rows = [
            [_when(one["created_at_unix"]), one["instrument"], _did(one, ours), _size(one["quantity_centi_btc"]),
             _btc(one["price_sats"]), usd(one["price_cents"]), one["state"], one["option_id"]]
            for one in found["items"]
        ]  # fmt: skip
        _listed(found, ["at", "instrument", "you", "size", "BTC", "USD", "state", "option"], rows, as_json=as_json)


# ---- prices, offers, screens


@contextmanager
def _or_nothing(side: party_side.Side, ledger: MarketLedger, name: Hash32, where: str) -> Iterator[None]:
    """Post what is in the ledger, and have our process sign nothing of it unless the desk has said yes.

    A desk has our signature whatever it answers: who is told no and tries again would have two. where: is named as what
    to look at before that, if no answer came.
    """
    from btcfi.adapters.signed_http import DeskBusyError, DeskRefusedError  # noqa: PLC0415 - as above

    try:
        yield
    except BaseException as e:
        with side.store.alone():  # as in ``withdraw``
            ledger.withdraw(name)
        known = isinstance(e, OffersRefusedError) or (
            isinstance(e, DeskRefusedError) and not isinstance(e, DeskBusyError)
        )
        if not known:
            said = f"whether the desk has it is not known; your party signs nothing new of it. Look at {where} first"
            typer.echo(f"btcfi market: {said}", err=True)
        raise


def _prices(http: SignedHttp, side: Side, dollars: str, satoshis: str) -> tuple[Sats, Cents]:
    """Return both prices; one that is missing follows from the other at the newest spot, in the maker's favour."""
    if not dollars and not satoshis:
        raise InvalidInputError("--price-usd", "is missing, and --price-sats too", "one of them, or both")
    cents = parse_amount(dollars, "--price-usd") if dollars else None
    sats = parse_sats(satoshis, "--price-sats") if satoshis else None
    if cents is not None and sats is not None:
        return sats, cents
    spot = http.get("/chain").get("spot_cents")
    if not isinstance(spot, int) or spot <= 0:
        missing = "--price-sats" if sats is None else "--price-usd"
        raise InvalidInputError(missing, "is missing, and the desk knows no spot", "both prices")
    up = side is Side.ASK
    if sats is None and cents is not None:
        ticks = _divided(cents * _SATS_PER_BTC, spot * TICK_SATS, up=up)
        return Sats(ticks * TICK_SATS), cents
    given = Sats(0) if sats is None else sats
    return given, Cents(_divided(given * spot, _SATS_PER_BTC, up=up))


def _divided(value: int, by: int, *, up: bool) -> int:
    return -(-value // by) if up else value // by


def _find_offer(account: Account, name: str, id_: str) -> SignedOffer:
    """Return the open offer of an instrument that an id, or its beginning, names: as its maker signed it."""
    if len(id_) < _PREFIX:
        raise InvalidInputError("OFFER", repr(id_)[:40], f"INSTRUMENT/ID, at least {_PREFIX} digits of the id")
    found = account.http.get(f"/book/{name}", limit=200)
    known = [one for many in (found["bids"], found["asks"]) for one in many if str(one["id"]).startswith(id_)]
    if len(known) != 1:
        raise NotFoundError("offer", id_[:64], f"`btcfi market book {name}` shows those that are open")
    signed = decode_signed_offer(known[0]["signed"])
    if signed.offer.id.hex() != known[0]["id"] or signed.offer.instrument.name != name:
        raise AnotherOfferError(str(known[0]["id"]), signed.offer.id.hex())
    if signed.offer.desk != account.member.desk:
        raise InvalidInputError("OFFER", "is for another desk", f"one of {account.member.desk.hex()[:16]}; {JOIN}")
    return signed


def _one_of(standing: Sequence[Hash32], text: str) -> Hash32:
    found = [one for one in standing if one.hex().startswith(text)]
    if len(found) == 1:
        return found[0]
    return HASH.read(text, "ID")


def _check_mandate(side: party_side.Side, account: Account, role: Role, *deals: Deal) -> None:
    """Refuse what our own process would not sign: the take would fail by our fault. Raises as the mandate does."""
    here = Situation(network=account.member.network, height=Height(0), time=UnixSeconds(0), exposure=Sats(0))
    authority = Owner(side.store, account.keystore).authority(here)
    for deal in deals:
        authority.check_deal(deal.terms, premium=deal.premium, role=role)


def _deal_of(made: FirmOffer, quantity: CentiBtc) -> Deal:
    """Return the deal if somebody takes so much of an offer."""
    somebody = Take(
        taker=bytes(32), offer_id=made.id, quantity=quantity, price=made.price, price_cents=made.price_cents,
        valid_until=made.valid_until, number=0,
    )  # fmt: skip
    return deal_of(made, somebody)


def _screen(title: str, made: FirmOffer, deal: Deal, role: Role) -> str:
    writes = role is Role.SELLER
    worst = deal.terms.collateral - deal.premium if writes else deal.premium
    return rows_screen(title, {
        "instrument": made.instrument.name,
        "you": "write it, and lock the collateral" if writes else "buy it, and pay the premium",
        "quantity": f"{_size(deal.terms.quantity)} BTC",
        "price of one bitcoin": f"{_btc(made.price)} BTC, and {usd(made.price_cents)} in the contract's terms",
        "premium": f"{_btc(deal.premium)} BTC ({deal.premium:,} sat), {'paid to you' if writes else 'paid by you'}",
        "collateral": f"{_btc(deal.terms.collateral)} BTC, {'your own' if writes else 'of the writer'}",
        "worst case": f"you lose {_btc(Sats(worst))} BTC ({worst:,} sat), and the fees of the funding",
        "the offer stands until": _when(made.valid_until),
        "who signs": "your `btcfi party run`, if your mandate allows it",
    })  # fmt: skip


def _verb(role: Role) -> str:
    return "write" if role is Role.SELLER else "buy"


def _did(one: dict[str, Any], ours: str) -> str:
    makes = one["maker"] == ours
    return "bought" if (one["side"] == "bid") == makes else "wrote"


def _top(top: Any) -> list[str]:  # noqa: ANN401 - JSON
    if top is None:
        return ["-", "-", "-"]
    return [_btc(top["price_sats"]), usd(top["price_cents"]), _size(top["quantity_centi_btc"])]


def _btc(sats: int) -> str:
    return f"{sats // _SATS_PER_BTC}.{sats % _SATS_PER_BTC:08d}"


def _size(centi: int | CentiBtc) -> str:
    return f"{centi // 100}.{centi % 100:02d}"


def _when(unix: int) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S} UTC"


_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _seconds(text: str) -> int:
    """Return a span such as ``90s``. Raises InvalidInputError."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isascii() or not number.isdigit() or not 0 < len(number) < 6:  # noqa: PLR2004 - digits
        raise InvalidInputError("--valid", repr(text)[:20], "a number and s, m, h or d, such as 90s")
    return int(number) * _UNITS[unit]


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = [[printable(cell, 80) for cell in row] for row in (names, *rows)]
    widths = [max(len(row[at]) for row in shown) for at in range(len(names))]
    for row in shown:
        typer.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _listed(found: dict[str, Any], names: Sequence[str], rows: Sequence[Sequence[str]], *, as_json: bool) -> None:
    if as_json:
        say(found)
        return
    _table(names, rows)
    if found.get("next_cursor"):
        typer.echo("there are more: --json has the cursor")


def _said(value: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        say(value)
    else:
        typer.echo("\n".join(f"{name}: {printable(one, 200)}" for name, one in value.items()))


if __name__ == "__main__":
    run(app, name="btcfi market")
