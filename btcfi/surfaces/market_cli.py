"""``btcfi market``: what a desk offers, and your own offers, takes, positions and fills there.

A party joins a desk by ``btcfi party join``; its own process, ``btcfi party run``, signs the contracts of what is
offered and taken here. What is posted is in the party's ledger before anybody else knows of it, and prices are checked
by what their makers signed, not by what the desk says of them.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from btcfi.adapters.chain.pool import asking_rate
from btcfi.adapters.files import write_private
from btcfi.adapters.party.agreements import StepOutOfOrderError
from btcfi.adapters.party.close_yes import CloseBook, CloseState, KeptClose
from btcfi.adapters.party.membership import JOIN
from btcfi.adapters.party.owner import Owner
from btcfi.adapters.party.store import PartyStore
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb, choose_rate
from btcfi.contracts.mandate import Situation
from btcfi.contracts.messages import Role
from btcfi.documents import printable
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError
from btcfi.market import closing
from btcfi.market.auction import Auction
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
from btcfi.market.request import QuoteRequest, Wanted, decode_signed_request, encode_signed_request, sign_request
from btcfi.options.order import parse_amount, parse_quantity, parse_sats, parse_time, usd
from btcfi.records import HASH
from btcfi.surfaces import transfer_cli
from btcfi.surfaces.cli import run
from btcfi.surfaces.party import side as party_side
from btcfi.surfaces.party.at_desk import (
    PREFIX,
    SATS_PER_BTC,
    TAKE_SECONDS,
    TARGET_BLOCKS,
    Account,
    AsJson,
    FeeRate,
    OffersRefusedError,
    as_a_desk,
    hundredths,
    in_btc,
    joined,
    or_nothing,
    say_fields,
    say_list,
    span,
    table,
    utc,
)
from btcfi.surfaces.party.screen import asking, confirm, rows_screen
from btcfi.surfaces.party.sending import amount_with_unit
from btcfi.surfaces.party.side import Yes, choice, command, say
from btcfi.units import CentiBtc, Cents, Hash32, Height, Sats, UnixSeconds

if TYPE_CHECKING:
    from btcfi.adapters.party.desk import PartyDesk
    from btcfi.adapters.signed_http import SignedHttp

LIMIT_TRIES: Final = 4
"""Offers that a take with a limit tries, one after another, while each is gone before it comes."""

_GONE: Final = frozenset({404, 409})
"""Statuses of a desk that has not, or no more, what was taken."""

_CODE: Final = 8
"""Letters and digits of a browser's code."""

app = typer.Typer(
    name="market", help="A desk's market: chains, books, offers, requests, takes, positions.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

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


@contextmanager
def _looking(side: party_side.Side, at: str) -> Iterator[SignedHttp]:
    if not at:
        with joined(side) as account:
            yield account.http
        return
    from btcfi.adapters.signed_http import SignedHttp  # noqa: PLC0415 - as above

    with SignedHttp(at) as http, as_a_desk(at):
        yield http


# ---- looking


@command(of=app)
def chain(
    *,
    expiry: Annotated[str, typer.Argument(help="ISO 8601 with a zone, or unix seconds; default: the next one.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also what nobody offers.")] = False,
    at: At = "",
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Print the calls and puts of one expiry that somebody offers: best bid and ask of each, for one bitcoin."""
    when = None if not expiry else parse_time(expiry, "expiry")
    with _looking(side, at) as http:
        found = http.get("/chain", expiry=when)
        if as_json:
            say(found)
            return
        spot = found.get("spot_cents")
        typer.echo(
            f"expiry {utc(found['expiry_unix'])}, spot {'unknown' if spot is None else usd(spot)}, "
            f"market {printable(found.get('market_status') or 'unknown', 20)}"
        )
        lines = [line for line in found["lines"] if everything or line.get("bid") or line.get("ask")]
        rows = [[line["instrument"], *_top(line.get("bid")), *_top(line.get("ask"))] for line in lines]
        table(["instrument", "bid BTC", "bid USD", "size", "ask BTC", "ask USD", "size"], rows)
        if hidden := len(found["lines"]) - len(lines):
            typer.echo(f"nobody offers {hidden} more that are listed; --all shows them")
        others = [utc(one) for one in found.get("expiries_unix", []) if one != found["expiry_unix"]]
        if others:
            typer.echo("other expiries: " + ", ".join(others))


@command(of=app)
def book(*, instrument: Name, at: At = "", as_json: AsJson = False, side: party_side.Side) -> None:
    """Print the open offers of one instrument, the best ask above the best bid; ``take`` takes one by its name."""
    name = parse_instrument(instrument).name
    with _looking(side, at) as http:
        found = http.get(f"/book/{name}")
        if as_json:
            say(found)
            return
        asks = _book_rows(name, "ask", found["asks"])
        table(_BOOK_NAMES, [*reversed(asks), *_book_rows(name, "bid", found["bids"])])


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
    valid: Annotated[
        str, typer.Option("--valid", help="How long it stands; default: 60s, of an auction a step beyond its last.")
    ] = "",
    to_usd: Annotated[str, typer.Option("--to-usd", help="An auction: the price of its last step.")] = "",
    to_sats: Annotated[str, typer.Option("--to-sats", help="The same, in satoshis.")] = "",
    steps: Annotated[int, typer.Option("--steps", help="Of an auction: how often its price moves.")] = 10,
    every: Annotated[str, typer.Option("--step", help="Of an auction: how long each price holds.")] = "60s",
    answering: Annotated[
        str, typer.Option("--request", help="The request that it answers: then it is for who asked alone.")
    ] = "",
    yes: Yes = False,
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Post a firm offer: whoever takes it while it stands has the contract, if your mandate allows it.

    Both prices are firm. One that you leave out follows from the other at the desk's newest spot, and you are shown it.
    With --to-usd or --to-sats it is a Dutch auction: an ask's price falls, a bid's rises, by equal steps until then.
    """
    bought = choice(Side, "bid|ask", what)
    named = parse_instrument(instrument)
    now = int(time.time())
    with joined(side) as account:
        sats, cents = _prices(account.http, bought, price_usd, price_sats)
        moving = None
        if to_usd or to_sats:
            last, last_cents = _prices(account.http, bought, to_usd, to_sats, names=("--to-usd", "--to-sats"))
            moving = Auction(
                begins=UnixSeconds(now), step_seconds=span(every, "--step"), steps=steps, last=last,
                last_cents=last_cents,
            )  # fmt: skip
        asked = None if not answering else _asked(account, answering)
        holds = span(valid or "60s") if valid or moving is None else moving.step_seconds * (moving.steps + 1)
        made = FirmOffer(
            maker=account.member.identity, desk=account.member.desk, instrument=named, side=bought, price=sats,
            price_cents=cents, quantity=parse_quantity(quantity), minimum=parse_quantity(minimum, "minimum"),
            valid_until=UnixSeconds(now + holds), number=account.ledger.next_number(), auction=moving,
            taker=None if asked is None else asked.taker, request=None if asked is None else asked.id,
        )  # fmt: skip
        if asked is not None and (problem := asked.misses(made)) is not None:
            raise problem
        whole = _deal_of(made, made.quantity)
        _check_mandate(side, account, bought.role, *_ends(made))
        typer.echo(_screen("You are about to post a firm offer.", made, whole, bought.role), err=True)
        confirm("Post it?", f"offer {made.id.hex()[:16]}", yes=yes)
        signed = sign_offer(made, account.keystore.request_secret(), secrets.token_bytes(32))
        account.ledger.add_offer(signed)
        with or_nothing(side, lambda: account.ledger.withdraw(made.id), "`btcfi market offers`"):
            (result,) = account.http.post("/offers", {"offers": [encode_signed_offer(signed)]})["results"]
            if result.get("problem"):
                raise OffersRefusedError(str(result["problem"]), result.get("field"))
            state = result["state"]
    say_fields({"offer": made.id.hex(), "state": state, "price_sats": sats, "price_cents": cents,
           "valid_until_unix": made.valid_until}, as_json=as_json)  # fmt: skip


@command(of=app)
def request(
    *,
    instrument: Name,
    what: Annotated[str, typer.Argument(metavar="buy|sell|both", help="What you would do; both: you do not say.")],
    quantity: Annotated[str, typer.Option("--quantity", help="BTC in hundredths, such as 0.25.")],
    valid: Annotated[str, typer.Option("--valid", help="How long makers may answer: 90s, 10m; at most 1h.")] = "5m",
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Ask makers for quotes of any instrument, listed or not; it binds you to nothing, and makers see who asks."""
    wanted = choice(Wanted, "buy|sell|both", what)
    with joined(side) as account:
        made = QuoteRequest(
            taker=account.member.identity, desk=account.member.desk, instrument=parse_instrument(instrument),
            wanted=wanted, quantity=parse_quantity(quantity),
            valid_until=UnixSeconds(int(time.time()) + span(valid)), number=account.ledger.next_number(),
        )  # fmt: skip
        signed = sign_request(made, account.keystore.request_secret(), secrets.token_bytes(32))
        answer = account.http.post("/requests", encode_signed_request(signed))
    say_fields({"request": made.id.hex(), "state": answer["state"], "valid_until_unix": made.valid_until,
           "next": f"btcfi market answers {made.id.hex()[:16]}"}, as_json=as_json)  # fmt: skip


@command(of=app)
def requests(
    *,
    own: Annotated[bool, typer.Option("--own", help="Only yours, whatever became of them.")] = False,
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """List what is asked for, the newest first; ``offer --request`` answers one."""
    with joined(side) as account:
        found = account.http.get("/requests", own="true" if own else None)
        rows = [
            [one["id"][:16], one["instrument"], one["wanted"], hundredths(one["quantity_centi_btc"]), one["state"],
             utc(one["valid_until_unix"]), one["taker"][:16]]
            for one in found["items"]
        ]  # fmt: skip
        say_list(found, ["request", "instrument", "would", "size", "state", "until", "who"], rows, as_json=as_json)


@command(of=app)
def answers(
    *,
    which: Annotated[str, typer.Argument(metavar="REQUEST", help="As `btcfi market request` printed it.")],
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Print the answers to a request of yours, on each side the best first; ``take`` takes one by what stands there."""
    with joined(side) as account:
        found = account.http.get(f"/requests/{_own_request(account, which)}")
        if as_json:
            say(found)
            return
        asked = found["request"]
        typer.echo(f"{printable(asked['instrument'], 64)}: {printable(asked['state'], 20)}")
        table(_BOOK_NAMES, [*_book_rows(asked["instrument"], "ask", found["asks"]),
                             *_book_rows(asked["instrument"], "bid", found["bids"])])  # fmt: skip


@command("withdraw-request", of=app)
def withdraw_request(
    *,
    which: Annotated[str, typer.Argument(metavar="REQUEST", help="As `btcfi market requests --own` names it.")],
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Take a request of yours back; its open answers go with it, and what you took of them stays taken."""
    with joined(side) as account:
        name = _own_request(account, which)
        gone = account.http.delete(f"/requests/{name}")["withdrawn"]
    say_fields({"request": name, "answers_withdrawn": gone}, as_json=as_json)


@command(of=app)
def offers(*, as_json: AsJson = False, side: party_side.Side) -> None:
    """List your offers, the newest first."""
    with joined(side) as account:
        found = account.http.get("/offers")
        rows = [
            [one["id"][:16], one["instrument"], one["side"], in_btc(one["price_sats"]), usd(one["price_cents"]),
             f"{hundredths(one['remaining_centi_btc'])} of {hundredths(one['quantity_centi_btc'])}", one["state"],
             utc(one["valid_until_unix"])]
            for one in found["items"]
        ]  # fmt: skip
        say_list(found, ["offer", "instrument", "side", "BTC", "USD", "left", "state", "until"], rows, as_json=as_json)


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
    with joined(side) as account:
        standing = [one.offer.id for one in account.ledger.offers()]
        wanted = standing if everything else [_one_of(standing, text) for text in ids or []]
        with side.store.alone():  # what is being agreed to right now is agreed to before this, or not at all
            account.ledger.withdraw(*(one for one in wanted if one in standing))
        if everything:
            # what stands now, however it was numbered; sent once more, this ends nothing that is posted afterwards
            last = max([account.ledger.next_number(), *_numbers_there(account)])
            withdrawn = account.http.delete(f"/offers?up_to_number={last}")["withdrawn"]
        else:
            withdrawn = sum(account.http.delete(f"/offers/{one.hex()}")["withdrawn"] for one in wanted)
    say_fields({"withdrawn": withdrawn, "offers": [one.hex() for one in wanted]}, as_json=as_json)


# ---- takes


@command(of=app)
def take(
    *,
    which: Annotated[
        str,
        typer.Argument(
            metavar="OFFER", help="As `btcfi market book` names it: INSTRUMENT/ID; INSTRUMENT with a limit."
        ),
    ],
    quantity: Annotated[str, typer.Option("--quantity", help="BTC in hundredths, such as 0.25.")],
    at_most: Annotated[
        str,
        typer.Option("--at-most", help="Buy of the best ask that stands then, one bitcoin of it at no more: 0.003btc."),
    ] = "",
    at_least: Annotated[
        str, typer.Option("--at-least", help="Write to the best bid that stands then, at no less.")
    ] = "",
    valid: Annotated[str, typer.Option("--valid", help="How long both sides have to sign.")] = f"{TAKE_SECONDS}s",
    yes: Yes = False,
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Take an offer at its price or not at all; you are shown premium, collateral and worst case, and asked.

    With a limit the best offer is taken that stands when you have said yes. Your `btcfi party run` signs the contract.
    """
    name, _, id_ = which.partition("/")
    name, wanted, limit = parse_instrument(name).name, parse_quantity(quantity), _limit(at_most, at_least)
    if bool(id_) == (limit is not None):
        raise InvalidInputError("OFFER", repr(which)[:80], "INSTRUMENT/ID, or INSTRUMENT and one limit")
    with joined(side) as account:
        agreed = False
        for tries_left in reversed(range(1 if limit is None else LIMIT_TRIES)):
            signed = _find_offer(account, name, id_) if limit is None else _best_offer(account, name, wanted, limit)
            made, deal = _draft(side, account, signed, wanted, span(valid))
            if not agreed:
                _ask_to_take(signed.offer, made, deal, limit, yes=yes)
                agreed = True
                if limit is not None and not yes:  # a screen takes time to read: what is best now
                    signed = _best_offer(account, name, wanted, limit)
                    made, deal = _draft(side, account, signed, wanted, span(valid))
            made = replace(made, valid_until=UnixSeconds(int(time.time()) + span(valid)))
            if (state := _send(side, account, made, signed, again=tries_left > 0)) is not None:
                break
    say_fields({"take": made.id.hex(), "option": made.option_id, "state": state, "premium_sats": deal.premium,
           "collateral_sats": deal.terms.collateral}, as_json=as_json)  # fmt: skip


def _limit(at_most: str, at_least: str) -> tuple[Side, Sats] | None:
    """Return of which side is taken, and up to which price, in satoshis, which are what is paid.

    An offer's dollars are its maker's own word beside them, and bound nobody's coins. Raises InvalidInputError.
    """
    if at_most and at_least:
        raise InvalidInputError("--at-most", "stands beside --at-least", "one of them: to buy, or to write")
    if not (given := at_most or at_least):
        return None
    price = amount_with_unit(given)
    if price is None:
        raise InvalidInputError("--at-most" if at_most else "--at-least", given, "an amount: 0.003btc or 300000sat")
    return Side.ASK if at_most else Side.BID, price


def _best_offer(account: Account, name: str, wanted: CentiBtc, limit: tuple[Side, Sats]) -> SignedOffer:
    """Return the first offer of a book, as its maker signed it, that others make of so much within a limit.

    Raises NotFoundError that says what there is instead.
    """
    where, most = limit
    buys, now = where is Side.ASK, UnixSeconds(int(time.time()))
    best: Sats | None = None
    for row in account.http.get(f"/book/{name}", limit=200)["asks" if buys else "bids"]:
        signed = _as_signed(account, row, name)
        offer, step = signed.offer, signed.offer.step_at(now)
        if (offer.auction is not None and step is None) or offer.maker == account.member.identity:
            continue
        if offer.side is not where or not offer.minimum <= wanted <= row["quantity_centi_btc"]:
            continue
        price = offer.prices(step)[0]
        best = price if best is None else (min if buys else max)(best, price)
        if price <= most if buys else price >= most:
            return signed
    there = "none of that size stands" if best is None else f"the best of that size is {in_btc(best)} BTC"
    raise NotFoundError("offer", f"at {in_btc(most)} BTC or better", f"{there}; `btcfi market book {name}` shows them")


def _draft(
    side: party_side.Side, account: Account, signed: SignedOffer, wanted: CentiBtc, seconds: int
) -> tuple[Take, Deal]:  # fmt: skip
    """Return what taking an offer now would say and make, if our own mandate allows it."""
    found, now = signed.offer, UnixSeconds(int(time.time()))
    step = found.step_at(now)
    if found.auction is not None and step is None:
        raise InvalidInputError("OFFER", f"begins in {found.auction.begins - now} s", "one that has begun")
    price, price_cents = found.prices(step)
    made = Take(
        taker=account.member.identity, offer_id=found.id, quantity=wanted, price=price, price_cents=price_cents,
        valid_until=UnixSeconds(now + seconds), number=account.ledger.next_number(), step=step,
    )  # fmt: skip
    deal = deal_of(found, made)
    _check_mandate(side, account, found.side.role.other, deal)
    return made, deal


def _ask_to_take(
    found: FirmOffer, made: Take, deal: Deal, limit: tuple[Side, Sats] | None, *, yes: bool
) -> None:  # fmt: skip
    role = found.side.role.other
    typer.echo(_screen(f"You are about to {_verb(role)} an option.", found, deal, role, made.step), err=True)
    if limit is None:
        confirm("Take it?", f"offer {found.id.hex()[:16]}", yes=yes)
    else:
        bound = f"{'at most' if limit[0] is Side.ASK else 'at least'} {in_btc(limit[1])} BTC for one bitcoin"
        confirm(f"Take it, or what is best then: {bound}?", f"an offer at {bound}", yes=yes)


def _send(side: party_side.Side, account: Account, made: Take, signed: SignedOffer, *, again: bool) -> str | None:
    """Sign and send a take; return its state, None where the offer is gone and another may be taken instead."""
    from btcfi.adapters.signed_http import DeskRefusedError  # noqa: PLC0415 - as above

    sealed = sign_take(made, account.keystore.request_secret(), secrets.token_bytes(32))
    account.ledger.add_take(sealed, signed)
    try:
        with or_nothing(side, lambda: account.ledger.withdraw(made.id), "`btcfi market takes`"):
            return str(account.http.post("/takes", encode_signed_take(sealed))["state"])
    except DeskRefusedError as e:
        # the desk has said no to this one, and our process signs nothing of it: a second one is no second position
        if again and not e.after_silence and e.status in _GONE:
            return None
        raise


@command(of=app)
def cancel(
    *,
    option: Annotated[str, typer.Argument(help="As `btcfi market fills` names it.")],
    yes: Yes = False,
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Cancel a take, yours or of an offer of yours, while you have not signed its funding: your coins are free.

    From then on your party signs nothing of it, whatever the desk says. Who cancels is at fault: a maker loses the
    offer and its rank.
    """
    with joined(side) as account:
        take_id = _take_of(account, option)
        confirm(f"Cancel {option}?", f"the take of option {option}", yes=yes)
        with side.store.alone():  # what is being signed right now is signed before this, or not at all
            _check_unsigned(side.store, option)
            account.ledger.cancel(option)
            _let_go(side.store, option)
        answer = account.http.delete(f"/takes/{take_id}")
    say_fields({"take": take_id, "option": option, "state": answer["state"]}, as_json=as_json)


@command(of=app)
def close(
    *,
    option: Annotated[str, typer.Argument(help="As `btcfi market positions` names it; not with --accept.")] = "",
    price: Annotated[
        str, typer.Option("--price", help="What the holder gets of the collateral: 0.007btc or 700000sat.")
    ] = "",
    accept: Annotated[str, typer.Option("--accept", help="An offer of the other side, by `btcfi market closes`.")] = "",
    withdraw: Annotated[str, typer.Option("--withdraw", help="Your offer, or your yes, before it is signed.")] = "",
    valid: Seconds = "10m",
    rate: FeeRate = None,
    yes: Yes = False,
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Offer the other side to end an option now at a price, or agree to its offer; you are shown both parts, and asked.

    Your `btcfi party run` signs, if your mandate says `agreed`. Neither side gets the other's signature: the desk puts
    them together and sends.
    """
    if [bool(option and price), bool(accept), bool(withdraw)].count(True) != 1 or (option and not price):
        raise InvalidInputError("OPTION", "or --accept, or --withdraw", "OPTION and --price; or one of the two")
    desk = side.desk(show=asking(yes=yes))
    if accept or withdraw:
        wanted = _close_of(desk.closes.book, accept or withdraw)
        kept = desk.closes.agree(wanted) if accept else desk.closes.withdraw(wanted)
    else:
        until = UnixSeconds(int(time.time()) + span(valid))
        kept = _propose(desk, side, option, amount_with_unit(price), rate=rate, until=until)
    said = {"close": kept.name, "option": kept.option, "payout_sats": kept.offer.payout, "state": kept.state.value,
            "valid_until_unix": kept.offer.valid_until}  # fmt: skip
    say_fields(said, as_json=as_json)


def _propose(
    desk: PartyDesk, side: party_side.Side, option: str, payout: Sats | None, *, rate: int | None, until: UnixSeconds
) -> KeptClose:  # fmt: skip
    if payout is None:
        raise InvalidInputError("--price", "all", "an amount: 0.007btc or 700000sat")
    if option not in desk.orders():
        raise NotFoundError("option of ours", option[:40], "`btcfi market positions` lists them")
    asked = choose_rate(asking_rate(side.chain(), TARGET_BLOCKS), FeeRule()) if rate is None else rate
    kept = desk.closes.propose(desk.orders()[option], payout=payout, rate=SatsPerKvb(asked), valid_until=until)
    letter = side.folder / "mail" / "outbox" / f"{kept.offer.letter(option, closing.OFFER)}.json"
    write_private(letter, json.dumps(closing.encode_offer(kept.offer)).encode())
    return kept


@command(of=app)
def closes(*, as_json: AsJson = False, side: party_side.Side) -> None:
    """List offers to close, yours and those that wait for your word, the newest last."""
    if not side.store.keystore_path.exists():  # a misspelt folder would have none
        raise NotFoundError("party", str(side.folder), "a folder that `btcfi party init` made: --dir")
    now = int(time.time())
    rows: list[dict[str, Any]] = [
        {"close": one.name, "option": one.option, "by": one.by.value, "payout_sats": one.offer.payout,
         "sats_per_kvb": one.offer.rate, "valid_until_unix": one.offer.valid_until,
         "state": "lapsed" if one.state in _OPEN_CLOSES and one.offer.valid_until <= now else one.state.value,
         "problem": one.problem}
        for one in sorted(CloseBook(side.folder), key=lambda one: one.offer.valid_until)
    ]  # fmt: skip
    shown = [
        [one["close"][:16], one["option"], one["by"], in_btc(one["payout_sats"]), one["state"],
         utc(one["valid_until_unix"]), one["problem"]]
        for one in rows
    ]  # fmt: skip
    names = ["close", "option", "by", "to the holder", "state", "until", "problem"]
    say_list({"items": rows, "next_cursor": None}, names, shown, as_json=as_json)


_OPEN_CLOSES: Final = (CloseState.OFFERED, CloseState.AGREED)


def _close_of(book: CloseBook, text: str) -> Hash32:
    found = [one.offer.id for one in book if one.name.startswith(text)] if len(text) >= PREFIX else []
    if len(found) != 1:
        raise NotFoundError("offer to close", text[:64], "`btcfi market closes` lists them")
    return found[0]


def _take_of(account: Account, option: str) -> str:
    """Return the take of an option: of our own ledger, else as the desk lists it. Raises NotFoundError."""
    for take, _ in account.ledger.takes():
        if take.take.option_id == option:
            return take.take.id.hex()
    for one in account.http.get("/takes", limit=500)["items"]:
        if f"t{str(one['id'])[:32]}" == option:
            return HASH.read(one["id"], "take").hex()
    raise NotFoundError("take", f"of option {option[:40]}", "`btcfi market fills` lists them")


def _check_unsigned(store: PartyStore, option: str) -> None:
    """Raise StepOutOfOrderError where a signature of ours on the funding has left."""
    for contract in store.contracts():
        if contract.order == option and contract.may_be_funded:
            what = "you have signed its funding: `btcfi party cancel` takes your coins home, for a fee,"
            raise StepOutOfOrderError(contract.offer.id.hex(), what)


def _let_go(store: PartyStore, option: str) -> None:
    """Free the coins that a contract of this option names: nothing of it is signed."""
    for contract in store.contracts():
        if contract.order == option and not contract.withdrawn:
            contract.withdrawn = True
            store.save(contract)


@command(of=app)
def positions(*, as_json: AsJson = False, side: party_side.Side) -> None:
    """List the options that you wrote or hold, the newest first."""
    with joined(side) as account:
        found = account.http.get("/positions")
        words = {"writer": "you wrote", "holder": "you bought"}
        rows = [
            [str(one["option"].get("id", "")), one["instrument"], words.get(one["role"], str(one["role"])),
             str(one["option"].get("state", ""))]
            for one in found["items"]
        ]  # fmt: skip
        say_list(found, ["option", "instrument", "side", "state"], rows, as_json=as_json)


@command(of=app)
def takes(*, as_json: AsJson = False, side: party_side.Side) -> None:
    """List the takes that you made and that others made of your offers, the failed ones with whose fault and why."""
    with joined(side) as account:
        found, ours = account.http.get("/takes"), account.member.identity.hex()
        rows = [
            [utc(one["created_at_unix"]), one["instrument"], _did(one, ours), hundredths(one["quantity_centi_btc"]),
             usd(one["price_cents"]), one["state"], one["fault"] or "", one["problem"] or ""]
            for one in found["items"]
        ]  # fmt: skip
        say_list(found, ["at", "instrument", "you", "size", "USD", "state", "fault", "why"], rows, as_json=as_json)


@command(of=app)
def fills(*, as_json: AsJson = False, side: party_side.Side) -> None:
    """List the trades that you made and that others made with you, the newest first."""
    with joined(side) as account:
        found, ours = account.http.get("/fills"), account.member.identity.hex()
        rows = [
            [utc(one["created_at_unix"]), one["instrument"], _did(one, ours), hundredths(one["quantity_centi_btc"]),
             in_btc(one["price_sats"]), usd(one["price_cents"]), one["state"], one["option_id"]]
            for one in found["items"]
        ]  # fmt: skip
        say_list(found, ["at", "instrument", "you", "size", "BTC", "USD", "state", "option"], rows, as_json=as_json)


@command(of=app)
def proof(
    *,
    option: Annotated[str, typer.Argument(help="As `btcfi market positions` names it.")],
    out: Annotated[str, typer.Option("--out", help="Where the proof goes: a file, or - for stdout.")] = "proof.json",
    side: party_side.Side,
) -> None:
    """Fetch the proof of a settled option of yours, with what the desk says of it; `btcfi verify` checks it."""
    from btcfi.adapters.signed_http import DeskRefusedError  # noqa: PLC0415 - as above

    name = f"st-{option}"
    if not name.isascii() or not name.replace("-", "").isalnum():  # a part of the address that is asked
        raise InvalidInputError("OPTION", repr(option)[:40], "an option's id, as `btcfi market positions` has it")
    with joined(side) as account:
        try:
            settled = account.http.get(f"/settlements/{name}")
        except DeskRefusedError as e:
            if e.status != 404:  # noqa: PLR2004 - HTTP
                raise
            raise NotFoundError("settlement of option", option[:40], "it is there once it has expired") from e
        found = account.http.get(f"/settlements/{name}/proof")
        said = {field: settled.get(field) for field in _SETTLED}
    if not _holds(out, found):  # the same again is where it is; what else is there is not written over
        party_side.write_message(party_side.place(out), found)
    # a root is taken from the chain: this one is the desk's word
    say({"option": option} | said | {"proof": out, "next": f"btcfi verify {out}"}, quiet=out == "-")


def _holds(out: str, found: object) -> bool:
    if out == "-":
        return False
    try:
        return bool(json.loads(Path(out).read_text(encoding="utf-8")) == found)
    except (OSError, ValueError, RecursionError):
        return False


_SETTLED: Final = (
    "state", "price_cents", "payout_sats", "paid_sats", "returned_sats", "steps", "proof_root", "txid",
)  # fmt: skip


# ---- a position to somebody else

command(of=app)(transfer_cli.consent)
command(of=app)(transfer_cli.consents)
app.add_typer(transfer_cli.app)


# ---- a browser


@command("sign-in", of=app)
def sign_in(
    *,
    code: Annotated[str, typer.Argument(help="What the desk's page shows, such as K7QM-2XHD.")],
    yes: Yes = False,
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Let a browser look as your account: read the code off its page, and type there the digits that you get.

    It sees what you own and can make keys that read; it can neither offer nor take. You are shown which browser asks.
    """
    named = "".join(code.split()).replace("-", "").upper()
    if len(named) != _CODE or not named.isascii() or not named.isalnum():
        raise InvalidInputError("CODE", repr(code)[:40], "the eight letters and digits of the desk's page")
    with joined(side) as account:
        path = f"/sign-ins/{named}"
        asked = account.http.get(path)
        browser, address = str(asked["browser"]), str(asked["address"])
        typer.echo(rows_screen("You are about to let a browser look as your account.", {
            "account": account.member.registration.name,
            "desk": f"{account.member.url}, key {account.member.desk.hex()[:16]}",
            "browser": printable(browser, 80),
            "at": printable(address, 80),
            "asked": utc(int(asked["created_at_unix"])),
            "it will see": "your offers, takes, positions and keys, for half a day",
            "it can": "make keys that read, and end them; nothing is signed there",
        }), err=True)  # fmt: skip
        confirm("Is it the browser in front of you, and did you open its page yourself?", f"code {named}", yes=yes)
        found = account.http.post(path, {"browser": browser, "address": address})
        digits, until = printable(str(found["digits"]), 20), int(found["expires_at_unix"])
    if as_json:
        say({"code": named, "digits": digits, "expires_at_unix": until})
        return
    typer.echo(f"{digits[:4]} {digits[4:]}")
    typer.echo(
        f"Type these digits into that page, until {utc(until)}. Give them to nobody who asks for them.", err=True
    )  # fmt: skip


# ---- webhooks

hooks = typer.Typer(
    name="webhooks", help="Where your events are sent, signed, as they happen.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip
app.add_typer(hooks)

Hook = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Its id, as the list has it.")]

_HOOK_ID: Final = re.compile(r"[0-9a-f]{16}")


@command("list", of=hooks)
def list_webhooks(*, as_json: AsJson = False, side: party_side.Side) -> None:
    """List your webhooks, and how the last message to each went."""
    with joined(side) as account:
        found = account.http.get("/me/webhooks")
        rows = [
            [one["id"], one["state"], ",".join(one["kinds"]), _last(one), "yes" if one["waiting"] else "no", one["url"]]
            for one in found["items"]
        ]  # fmt: skip
        say_list(found, ["webhook", "state", "kinds", "last message", "waiting", "url"], rows, as_json=as_json)


@command("add", of=hooks)
def add_webhook(
    *,
    url: Annotated[str, typer.Argument(help="https, a host that the whole Internet reaches; no name, no password.")],
    kinds: Annotated[
        str,
        typer.Option(
            "--kinds",
            help="Some of take,option,settlement,market_close,transfer_consent,transfer_offer,transfer,webhook; "
            "default: all.",
        ),
    ] = "",
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Have your later events sent to a URL. The secret that signs them is shown this once: keep it at the receiver."""
    with joined(side) as account:
        body = {"url": url} | ({"kinds": [one.strip() for one in kinds.split(",")]} if kinds else {})
        made = account.http.post("/me/webhooks", body)
        said = {"webhook": made["webhook"]["id"], "url": made["webhook"]["url"], "secret": made["secret"]}
        say_fields(said, as_json=as_json)


@command("test", of=hooks)
def try_webhook(*, which: Hook, as_json: AsJson = False, side: party_side.Side) -> None:
    """Have a test sent, after what waits; a webhook that was given up is active again, and hears what it missed."""
    with joined(side) as account:
        found = account.http.post(f"/me/webhooks/{_hook(which)}/test", {})
        say_fields(
            {"webhook": found["id"], "state": found["state"], "next": "btcfi market webhooks list"}, as_json=as_json
        )


@command("remove", of=hooks)
def remove_webhook(*, which: Hook, as_json: AsJson = False, side: party_side.Side) -> None:
    """Remove a webhook; what is on its way may still arrive."""
    with joined(side) as account:
        say_fields({"removed": account.http.delete(f"/me/webhooks/{_hook(which)}")["id"]}, as_json=as_json)


def _hook(text: str) -> str:
    if not _HOOK_ID.fullmatch(text):
        raise InvalidInputError("WEBHOOK", repr(text)[:40], "the 16 digits that `btcfi market webhooks list` shows")
    return text


def _last(one: dict[str, Any]) -> str:
    if one["problem"]:
        return str(one["problem"])
    return "none yet" if one["told_at_unix"] is None else f"taken {utc(one['told_at_unix'])}"


# ---- prices, offers, screens


def _prices(
    http: SignedHttp, side: Side, dollars: str, satoshis: str,
    *, names: tuple[str, str] = ("--price-usd", "--price-sats"),
) -> tuple[Sats, Cents]:  # fmt: skip
    """Return both prices; one that is missing follows from the other at the newest spot, in the maker's favour.

    names: of the two options.
    """
    in_usd, in_sats = names
    if not dollars and not satoshis:
        raise InvalidInputError(in_usd, f"is missing, and {in_sats} too", "one of them, or both")
    cents = parse_amount(dollars, in_usd) if dollars else None
    sats = parse_sats(satoshis, in_sats) if satoshis else None
    if cents is not None and sats is not None:
        return sats, cents
    spot = http.get("/chain").get("spot_cents")
    if not isinstance(spot, int) or spot <= 0:
        missing = in_sats if sats is None else in_usd
        raise InvalidInputError(missing, "is missing, and the desk knows no spot", "both prices")
    up = side is Side.ASK
    if sats is None and cents is not None:
        ticks = _divided(cents * SATS_PER_BTC, spot * TICK_SATS, up=up)
        return Sats(ticks * TICK_SATS), cents
    given = Sats(0) if sats is None else sats
    return given, Cents(_divided(given * spot, SATS_PER_BTC, up=up))


def _divided(value: int, by: int, *, up: bool) -> int:
    return -(-value // by) if up else value // by


def _find_offer(account: Account, name: str, id_: str) -> SignedOffer:
    """Return the open offer of an instrument that an id, or its beginning, names: as its maker signed it."""
    if len(id_) < PREFIX:
        raise InvalidInputError("OFFER", repr(id_)[:40], f"INSTRUMENT/ID, at least {PREFIX} digits of the id")
    found = account.http.get(f"/book/{name}", limit=200)
    known = [one for many in (found["bids"], found["asks"]) for one in many if str(one["id"]).startswith(id_)]
    if len(known) != 1:
        raise NotFoundError("offer", id_[:64], f"`btcfi market book {name}` shows those that are open")
    return _as_signed(account, known[0], name)


def _as_signed(account: Account, row: dict[str, Any], name: str) -> SignedOffer:
    """Return what the maker of a row of a book has signed, for this instrument and desk. Raises AnotherOfferError."""
    signed = decode_signed_offer(row["signed"])
    if signed.offer.id.hex() != row["id"] or signed.offer.instrument.name != name:
        raise AnotherOfferError(str(row["id"]), signed.offer.id.hex())
    if signed.offer.desk != account.member.desk:
        raise InvalidInputError("OFFER", "is for another desk", f"one of {account.member.desk.hex()[:16]}; {JOIN}")
    return signed


def _asked(account: Account, text: str) -> QuoteRequest:
    """Return the open request that a text, its beginning, names, as it was signed. Raises NotFoundError."""
    rows = account.http.get("/requests", limit=500)["items"]
    found = [one for one in rows if len(text) >= PREFIX and str(one["id"]).startswith(text)]
    if len(found) != 1:
        raise NotFoundError("request", text[:64], "`btcfi market requests` lists those that are open")
    asked = decode_signed_request(found[0]["signed"]).request
    if asked.id.hex() != found[0]["id"] or asked.desk != account.member.desk:
        raise AnotherOfferError(str(found[0]["id"]), asked.id.hex())
    return asked


def _numbers_there(account: Account) -> list[int]:
    """Return the numbers of our newest open offers as the desk says: a program of ours may count otherwise."""
    found = [one.get("number") for one in account.http.get("/offers", state="open", limit=500)["items"]]
    return [number for number in found if type(number) is int and 0 <= number < 1 << 63]


def _own_request(account: Account, text: str) -> str:
    """Return the id of a request of ours that a text, its beginning, names. Raises NotFoundError."""
    if len(text) < PREFIX:
        raise InvalidInputError("REQUEST", repr(text)[:40], f"at least {PREFIX} digits of its id")
    mine = account.http.get("/requests", own="true", limit=500)["items"]
    found = [str(one["id"]) for one in mine if str(one["id"]).startswith(text)]
    if len(found) != 1:
        raise NotFoundError("request", text[:64], "`btcfi market requests --own` lists yours")
    return HASH.read(found[0], "REQUEST").hex()


_BOOK_NAMES: Final = ("side", "BTC", "USD", "size", "least", "until", "next price", "take")


def _book_rows(name: str, side: str, many: Sequence[dict[str, Any]]) -> list[list[str]]:
    return [
        [side, in_btc(one["price_sats"]), usd(one["price_cents"]), hundredths(one["quantity_centi_btc"]),
         hundredths(one["minimum_centi_btc"]), utc(one["valid_until_unix"]),
         utc(one["moves_at_unix"]) if one.get("moves_at_unix") else "-", f"{name}/{one['id'][:16]}"]
        for one in many
    ]  # fmt: skip


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


def _ends(made: FirmOffer) -> list[Deal]:
    """Return the deals of the most and the least of an offer, each at the first of its prices and at the last.

    What a mandate bounds lies between these, whatever is taken and when.
    """
    steps = (None,) if made.auction is None else (0, made.auction.steps)
    return [_deal_of(made, quantity, step) for quantity in (made.quantity, made.minimum) for step in steps]


def _deal_of(made: FirmOffer, quantity: CentiBtc, step: int | None = None) -> Deal:
    """Return the deal if somebody takes so much of an offer. step: of an auction; None: the last."""
    if step is None and made.auction is not None:
        step = made.auction.steps
    price, price_cents = made.prices(step)
    somebody = Take(
        taker=made.taker or bytes(32), offer_id=made.id, quantity=quantity, price=price, price_cents=price_cents,
        valid_until=made.valid_until, number=0, step=step,
    )  # fmt: skip
    return deal_of(made, somebody)


def _screen(title: str, made: FirmOffer, deal: Deal, role: Role, step: int | None = None) -> str:
    """Return what is about to be signed. step: of an auction that is taken; None: of an offer that is posted."""
    writes = role is Role.SELLER
    price, price_cents = made.prices(0 if made.auction is not None and step is None else step)
    moves = {}
    if made.auction is not None and step is None:
        moving = made.auction
        moves["and moves"] = (
            f"{moving.steps} times, every {moving.step_seconds} s, to {in_btc(moving.last)} BTC and "
            f"{usd(moving.last_cents)}; the amounts below are of that last price"
        )
    worst = deal.terms.collateral - deal.premium if writes else deal.premium
    return rows_screen(title, {
        "instrument": made.instrument.name,
        "you": "write it, and lock the collateral" if writes else "buy it, and pay the premium",
        "quantity": f"{hundredths(deal.terms.quantity)} BTC",
        "price of one bitcoin": f"{in_btc(price)} BTC, and {usd(price_cents)} in the contract's terms",
        **moves,
        "premium": f"{in_btc(deal.premium)} BTC ({deal.premium:,} sat), {'paid to you' if writes else 'paid by you'}",
        "collateral": f"{in_btc(deal.terms.collateral)} BTC, {'your own' if writes else 'of the writer'}",
        "worst case": f"you lose {in_btc(Sats(worst))} BTC ({worst:,} sat), and the fees of the funding",
        "for": "whoever takes it first" if made.taker is None else f"the account {made.taker.hex()[:16]} alone",
        "the offer stands until": utc(made.valid_until),
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
    return [in_btc(top["price_sats"]), usd(top["price_cents"]), hundredths(top["quantity_centi_btc"])]


if __name__ == "__main__":
    run(app, name="btcfi market")
