"""``btcfi book``: a net book dealt between two parties, each with its own folder, keys and node.

    who proposes:  book propose BOOK.toml --role writer --announcement FILE ... --out proposal.json
    who answers:   book accept proposal.json --announcement FILE --out answer.json
    who proposed:  book sign answer.json --out signatures.json
    who answered:  book sign signatures.json            (checks everything, signs last, broadcasts the funding)
    both:          party watch --attestation FILE, or party run: settles, refunds
    either:        book close NAME --payout-sats N --out close.json; the other: book close-sign close.json ...

Messages are files, ``-`` (stdin, stdout) or http(s) URLs, carried as those of ``btcfi party``. What a book pays stands
in none of them: each side computes it from the book, and signs within its mandate.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from btcfi.adapters.files import read_untrusted_text, write_named
from btcfi.adapters.party.book_files import BookFiles, KeptBook
from btcfi.adapters.party.identity import IDENTITY_FILE
from btcfi.adapters.party.identity import identity_secret as open_identity
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.buckets import STANDARD_TOLERANCE
from btcfi.contracts.messages import (
    CET_FEE,
    Role,
    decode_close_answer,
    decode_close_request,
    encode_close_answer,
    encode_close_request,
)
from btcfi.contracts.setup import SetupPolicy
from btcfi.documents import printable
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.options.order import parse_dollars, parse_sats, usd
from btcfi.oracle.announcement import Announcement
from btcfi.payoffs.book import Book, BookContract
from btcfi.payoffs.book_deal import BookDeal, book_contract
from btcfi.payoffs.book_file import MAX_FILE, read_book
from btcfi.payoffs.book_guest import PROGRAM
from btcfi.payoffs.book_messages import (
    ANSWER,
    PROPOSAL,
    SIGNATURES,
    BookTerms,
    decode_answer,
    decode_proposal,
    decode_signatures,
    encode_answer,
    encode_proposal,
    encode_signatures,
)
from btcfi.payoffs.netted import ANY_EVENT, netted
from btcfi.payoffs.report import report
from btcfi.surfaces.cli import Once
from btcfi.surfaces.party.oracles import read_announcement
from btcfi.surfaces.party.screen import ROLES, asking, book_rows
from btcfi.surfaces.party.side import (
    Announcements,
    IdentityPassphrase,
    Out,
    Side,
    Yes,
    command,
    passphrase_of,
    place,
    read_message,
    say,
    write_message,
)
from btcfi.surfaces.payoff_drawing import COLUMNS, POINTS, Line, check_picture, picture, terminal
from btcfi.surfaces.rest.times import iso
from btcfi.units import BasisPoints, CentsPerBtc, Sats, UnixSeconds, display_txid, height, sats

if TYPE_CHECKING:
    from btcfi.payoffs.book_value import BookMarket
    from btcfi.payoffs.netted import Netted

app = typer.Typer(
    name="book", help="Net books between two parties: propose, accept, close.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

SLACK: Final = 12
"""Blocks that may come before the other side answers, as of an offer."""

VALID_MINUTES: Final = 60
MOST_MINUTES: Final = 7 * 1_440
"""Of a proposal: who may still sign it holds a free option on its price."""

HASH_DIGITS: Final = 64
_SHOWN: Final = 80

BookPath = Annotated[Path, typer.Argument(help="The book, a TOML file: expiry, floor, and a [[leg]] each.")]
Name = Annotated[str, typer.Argument(help="The book, as `btcfi book list` has it, or its proposal's file.")]
Spot = Annotated[str, typer.Option("--spot", help="USD per BTC: prices the book, for your mandate's value_slack_sats.")]
Volatility = Annotated[float, typer.Option("--volatility", help="Per year, with --spot: 0.65 is 65 %.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@command(of=app, cls=Once)
def propose(
    book: BookPath,
    *,
    role: Annotated[str, typer.Option("--role", help="Your side: holder or writer.")],
    announcement: Announcements,
    premium_sats: Annotated[str, typer.Option("--premium-sats", help="What the holder pays; below 0: the writer.")],
    out: Out,
    legs_premium_sats: Annotated[
        str, typer.Option("--legs-premium-sats", help="Sizes of the legs' premiums, summed; by --spot if not given.")
    ] = "",
    spot: Spot = "",
    volatility: Volatility = 0.0,
    threshold: Annotated[int, typer.Option("--threshold", help="How many oracles must agree.", min=1)] = 1,
    tolerance_bps: Annotated[
        int, typer.Option("--tolerance-bps", help="By how much a range of prices may differ, of premium or payout.")
    ] = STANDARD_TOLERANCE,
    expiry_height: Annotated[int | None, typer.Option("--expiry-height", help="Default: by the clock.")] = None,
    refund_height: Annotated[int | None, typer.Option("--refund-height", help="Default: a day later.")] = None,
    rate: Annotated[int, typer.Option("--rate", help="Fee of the funding, sat/kvB.", min=1000)] = 2000,
    valid_minutes: Annotated[
        int, typer.Option("--valid-minutes", help="How long it may be signed.", min=1, max=MOST_MINUTES)
    ] = VALID_MINUTES,
    identity: Annotated[
        Path | None, typer.Option("--identity", help="Your identity's keystore; default: identity.json in the folder.")
    ] = None,
    identity_passphrase_file: IdentityPassphrase = None,
    side: Side,
) -> None:
    """Propose BOOK with coins of your wallet, under your identity's signature."""
    now = UnixSeconds(int(time.time()))
    found, ours = _read(book), _role(role)
    market = _market(found, spot, volatility, now)
    desk = side.desk()
    expected, refund = desk.expected_heights(found.expiry)
    if not legs_premium_sats and market is None:
        raise InvalidInputError("--legs-premium-sats", "is missing", "it, or --spot and --volatility")
    terms = BookTerms(
        book=found, announcements=_announced(announcement), threshold=threshold, premium=_signed(premium_sats),
        legs_premium=parse_sats(legs_premium_sats, "legs-premium-sats") if legs_premium_sats else _legs(found, market),
        tolerance=BasisPoints(tolerance_bps), rate=SatsPerKvb(rate), cet_fee=CET_FEE,
        expiry_height=height(expected if expiry_height is None else expiry_height),
        refund_height=height(refund + SLACK if refund_height is None else refund_height),
        valid_until=UnixSeconds(now + 60 * valid_minutes),
    )  # fmt: skip
    words = passphrase_of(identity_passphrase_file or side.passphrase_file)
    made = desk.books.propose(
        terms, ours, identity_secret=open_identity(identity or side.folder / IDENTITY_FILE, words),
        value=_value(found, market),
    )  # fmt: skip
    write_message(out, encode_proposal(made))
    contract = book_contract(terms)
    say({
        "book": made.id.hex(), "proposal": out, "role": ROLES[ours], "holder_puts_in_sats": contract.holder,
        "writer_puts_in_sats": contract.writer, "valid_until": iso(terms.valid_until),
    }, quiet=out == "-")  # fmt: skip


@command(of=app, cls=Once)
def accept(
    message: Annotated[str, typer.Argument(help="The proposal: a file, - or a URL.")],
    *,
    announcement: Announcements,
    out: Out,
    spot: Spot = "",
    volatility: Volatility = 0.0,
    yes: Yes = False,
    side: Side,
) -> None:
    """Compute what a proposal pays, check it against your mandate and the oracles, and pre-sign it and its refund."""
    proposal = decode_proposal(_of_type(read_message(message), PROPOSAL))
    market = _market(proposal.terms.book, spot, volatility, UnixSeconds(int(time.time())))
    desk = side.desk(show=asking(yes=yes))
    answer = desk.books.accept(proposal, _announced(announcement), value=_value(proposal.terms.book, market))
    write_message(out, encode_answer(answer))
    say({"book": proposal.id.hex(), "answer": out}, quiet=out == "-")


@command(of=app)
def sign(
    message: Annotated[str, typer.Argument(help="The other side's answer or signatures: a file, - or a URL.")],
    *,
    out: Out = "-",
    yes: Yes = False,
    side: Side,
) -> None:
    """Answer an answer with your signatures; or complete the other side's, and broadcast the funding."""
    received = _of_type(read_message(message), ANSWER, SIGNATURES)
    desk = side.desk(show=asking(yes=yes))
    if received["type"] == SIGNATURES:
        funding = desk.books.complete(decode_signatures(received))
        say({"funding_txid": display_txid(funding.txid)})
        return
    signed = desk.books.sign(decode_answer(received))
    write_message(out, encode_signatures(signed))
    say({"contract_id": signed.contract_id.hex(), "signatures": out}, quiet=out == "-")


@command(name="message", of=app)
def again(
    book: Name,
    kind: Annotated[str, typer.Argument(help="proposal, answer or signatures.")],
    *,
    out: Out,
    side: Side,
) -> None:
    """Write one of a book's messages again, as it was sent or received: a file may be lost."""
    kept = _kept(side, book)
    held: dict[str, Any] = {
        "proposal": encode_proposal(kept.proposal),
        "answer": None if kept.answer is None else encode_answer(kept.answer),
        "signatures": None if kept.sign is None else encode_signatures(kept.sign),
    }
    if held.get(kind) is None:
        known = ", ".join(name for name, one in held.items() if one is not None)
        raise NotFoundError("message", printable(kind, _SHOWN), f"the book has {known}")
    write_message(str(place(out)), held[kind])
    say({"book": kept.name, kind: out}, quiet=out == "-")


@command(name="list", of=app)
def list_books(*, as_json: AsJson = False, side: Side) -> None:
    """List the books of your folder and where each stands; nothing is asked of your node."""
    if not side.folder.is_dir():
        raise NotFoundError("folder of a party", str(side.folder), "`btcfi party init` makes one")
    rows = [_row(one) for one in BookFiles(side.store)]
    if as_json:
        typer.echo(json.dumps({"books": rows}))
        return
    for row in rows:
        typer.echo(f"{row['book'][:16]}  {row['role']:6}  {row['legs']:2} legs  {row['expiry']}  {row['state']}")


@command(of=app, cls=Once)
def show(
    book: Name,
    *,
    at_price: Annotated[
        list[str] | None, typer.Option("--at-price", help="USD per BTC: what each side gets there; repeat.")
    ] = None,
    draw: Annotated[bool, typer.Option("--draw", help="Draw the holder's profit in the terminal.")] = False,
    picture_file: Annotated[Path | None, typer.Option("--picture", help="Draw it into this .png or .svg.")] = None,
    as_json: AsJson = False,
    side: Side,
) -> None:
    """Show a book of your folder, or a proposal that came: what each side gets, risks and puts in."""
    if picture_file is not None:
        check_picture(picture_file)
    files, kept = BookFiles(side.store), None
    if Path(book).is_file():
        proposal = decode_proposal(_of_type(read_message(book), PROPOSAL))
        kept = files.find(proposal.id.hex())
    else:
        kept = _kept(side, book)
        proposal = kept.proposal
    contract = book_contract(proposal.terms)
    prices = [parse_dollars(text, "at-price") for text in at_price or ()]
    said = {
        "book": proposal.id.hex(), "state": "not ours yet" if kept is None else _state(kept),
        "proposed_by": ROLES[proposal.role], "proposer": proposal.identity.hex(),
        "premium_sats": proposal.terms.premium, "valid_until": iso(proposal.terms.valid_until),
        "expiry": iso(proposal.terms.book.expiry), "expiry_height": proposal.terms.expiry_height,
        "refund_height": proposal.terms.refund_height, "threshold": proposal.terms.threshold,
        "oracles": [one.oracle_key.hex() for one in proposal.terms.announcements],
        "curves": [_curve_json(name, one, proposal.terms, prices) for name, one in _halves(contract)],
        "holder_puts_in_sats": contract.holder, "writer_puts_in_sats": contract.writer,
    } | ({} if kept is None or kept.answer is None else _sides(kept))  # fmt: skip
    if picture_file is not None:
        drawn = _line(contract, contract.untouched, proposal.terms, POINTS)
        write_named(picture_file, picture(drawn, picture_file.suffix))
    if as_json:
        typer.echo(json.dumps(said))
        return
    for line in _in_words(said, proposal.terms.book):
        typer.echo(line)
    if draw:
        for name, half in _halves(contract):
            for row in terminal(_line(contract, half, proposal.terms, COLUMNS, name)):
                typer.echo(row)


@command(of=app)
def close(
    book: Name,
    *,
    payout_sats: Annotated[int, typer.Option("--payout-sats", help="What the holder gets of the collateral.", min=0)],
    out: Out,
    rate: Annotated[int, typer.Option("--rate", help="Fee of the close, sat/kvB.", min=1000)] = 2000,
    yes: Yes = False,
    side: Side,
) -> None:
    """Ask the other side to close now, at an amount that you both want; the rest, less the fee, is the writer's."""
    kept = _kept(side, book)
    desk = side.desk(show=asking(yes=yes))
    request = desk.books.request_close(kept.name, payout=sats(payout_sats), rate=SatsPerKvb(rate))
    write_message(out, encode_close_request(request))
    say({"book": kept.name, "close": out}, quiet=out == "-")


@command("close-sign", of=app)
def close_sign(
    message: Annotated[str, typer.Argument(help="A close request or an answer to yours: a file, - or a URL.")],
    *,
    payout_sats: Annotated[
        int | None, typer.Option("--payout-sats", help="What the holder gets, for an answer to a request.", min=0)
    ] = None,
    out: Out = "-",
    yes: Yes = False,
    side: Side,
) -> None:
    """Answer a close request whose amount you agree to; or finish your own and broadcast it."""
    received = read_message(message)
    desk = side.desk(show=asking(yes=yes))
    if isinstance(received, dict) and received.get("type") == "btcfi/close-answer":
        closed = desk.books.finish_close(decode_close_answer(received))
        say({"close_txid": display_txid(closed.txid)})
        return
    if payout_sats is None:
        raise InvalidInputError("--payout-sats", "missing", "what the holder gets, as you agree to it")
    answer = desk.books.answer_close(decode_close_request(received), payout=sats(payout_sats))
    write_message(out, encode_close_answer(answer))
    say({"contract_id": answer.contract_id.hex(), "answer": out}, quiet=out == "-")


@command(of=app)
def cancel(book: Name, *, side: Side) -> None:
    """Take a book back that no block has funded: free your coins, or spend them to yourself where you have signed."""
    kept = _kept(side, book)
    home = side.desk().books.cancel(kept.name)
    say({"book": kept.name, "txid": None if home is None else display_txid(home.txid)})


@command(of=app)
def bump(book: Name, *, side: Side) -> None:
    """Pay more for a funding that waits, out of your own change; either side may, and more than once."""
    child = side.desk().books.bump(_kept(side, book).name)
    say({"txid": display_txid(child.txid)})


# ---- reading


def _read(path: Path) -> Book:
    text = read_untrusted_text(path, at_most=MAX_FILE, what="book", named=True)
    return read_book(text, what=printable(path.name, _SHOWN))


def _role(text: str) -> Role:
    for role, name in ROLES.items():
        if text == name:
            return role
    raise InvalidInputError("--role", repr(text[:_SHOWN]), " or ".join(ROLES.values()))


def _announced(files: list[Path]) -> tuple[Announcement, ...]:
    return tuple(read_announcement(str(one), program=PROGRAM) for one in files)


def _of_type(message: Any, *kinds: str) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a message once it is one of these kinds: a foreign one is named by what it is, not by what it lacks."""
    said = message.get("type") if isinstance(message, dict) else None
    if not isinstance(message, dict) or said not in kinds:
        raise InvalidInputError("message", printable(f"{said!r}", _SHOWN), " or ".join(kinds))
    return message


def _signed(text: str) -> int:
    paid = parse_sats(text.removeprefix("-"), "premium-sats")
    return -paid if text.startswith("-") else paid


def _kept(side: Side, name: str) -> KeptBook:
    files = BookFiles(side.store)
    if len(name) < HASH_DIGITS and not Path(name).exists():
        found = [one for one in files.names() if one.startswith(name)] if name else []
        if len(found) == 1:
            return files.load(found[0])
    if len(name) == HASH_DIGITS:
        return files.load(name)
    if not Path(name).exists():
        raise NotFoundError("book", printable(name, _SHOWN), "`btcfi book list` has ours")
    return files.load(decode_proposal(_of_type(read_message(name), PROPOSAL)).id.hex())


def _market(book: Book, spot: str, volatility: float, now: UnixSeconds) -> BookMarket | None:
    if not spot:
        return None
    from btcfi.payoffs.book_value import SECONDS_PER_YEAR, BookMarket  # noqa: PLC0415 - numba, only to price

    if not volatility > 0:
        raise InvalidInputError("--volatility", f"{volatility:g}", "above 0 per year, with --spot")
    return BookMarket(
        spot=parse_dollars(spot, "spot"), tau_years=max(0, book.expiry - now) / SECONDS_PER_YEAR, volatility=volatility
    )  # fmt: skip


def _value(book: Book, market: BookMarket | None) -> int | None:
    if market is None:
        return None
    from btcfi.payoffs.book_value import book_sats  # noqa: PLC0415 - as above

    return book_sats(book, market)


def _legs(book: Book, market: BookMarket | None) -> Sats:
    from btcfi.payoffs.book_value import legs_premium  # noqa: PLC0415 - as above

    if market is None:
        raise InvalidInputError("--spot", "is missing", "it, or --legs-premium-sats")
    both = netted(book.untouched, ANY_EVENT).collateral
    return min(legs_premium(book, market), both)


# ---- saying


def _state(kept: KeptBook) -> str:
    reached = {
        "withdrawn": kept.withdrawn, "cancelled": kept.cancelled is not None, "ended": kept.ended,
        "settling": kept.settlement is not None, "funded": kept.funded, "signed": kept.sign is not None,
        "answered": kept.answer is not None,
    }  # fmt: skip
    return next((state for state, is_so in reached.items() if is_so), "proposed")


def _row(kept: KeptBook) -> dict[str, Any]:
    book = kept.proposal.terms.book
    return {
        "book": kept.name, "role": ROLES[kept.role], "legs": book.count, "expiry": iso(book.expiry),
        "premium_sats": kept.proposal.terms.premium, "stake_sats": kept.stake, "state": _state(kept),
        "funding_txid": None if kept.funding is None else display_txid(kept.funding.txid),
        "settlement_txid": None if kept.settlement is None else display_txid(kept.settlement.txid),
    }  # fmt: skip


def _sides(kept: KeptBook) -> dict[str, Any]:
    """Return what each side gets and risks by its transactions: fees and dust are counted."""
    from btcfi.payoffs.book_deal import deal  # noqa: PLC0415 - only for what has two sides

    if kept.answer is None:
        return {}
    made = deal(kept.proposal, kept.answer.party, policy=SetupPolicy(min_refund_delay=kept.policy.min_refund_delay))
    return {"contract_id": made.id.hex(), "sides": {ROLES[role]: _side(made, role) for role in ROLES}}


def _side(made: BookDeal, role: Role) -> dict[str, int]:
    least, most = made.returns[role]
    return {
        "puts_in_sats": made.puts_in(role), "pays_premium_sats": made.pays(role), "funding_fee_sats": made.fee(role),
        "gets_back_least_sats": least, "gets_back_most_sats": most, "worst_loss_sats": made.worst_loss(role),
    }  # fmt: skip


def _halves(contract: BookContract) -> list[tuple[str, Netted]]:
    """Return the curves of a book: one, or two where a barrier decides."""
    if contract.touched is None:
        return [("the book", contract.untouched)]
    return [("barrier not touched", contract.untouched), ("barrier touched", contract.touched)]


def _curve_json(name: str, half: Netted, terms: BookTerms, prices: list[CentsPerBtc]) -> dict[str, Any]:
    said = report(half, premium=terms.premium, prices=prices)
    ends = {
        word: {"price_cents": at.price, "profit_sats": at.profit, "holder_sats": at.holder, "writer_sats": at.writer}
        for word, at in (("holder_best", said.most), ("holder_worst", said.least))
    }
    at = [
        {"price_cents": one.price, "profit_sats": one.profit, "holder_sats": one.holder, "writer_sats": one.writer}
        for one in said.at
    ]
    return {"curve": name, **ends, "break_even_cents": list(said.break_evens), "at": at}


def _line(contract: BookContract, half: Netted, terms: BookTerms, count: int, name: str = "") -> Line:
    book, highest = contract.book, contract.event.price_of(contract.event.max_price)
    strikes = sorted({leg.strike for leg in (*book.legs, *book.knock_outs)} | ({book.floor} if book.floor else set()))
    beside = max((strikes[-1] - strikes[0]) // 4, strikes[-1] // 10)
    first, last = max(1, strikes[0] - beside), min(highest, strikes[-1] + beside)
    spaced = {first + (last - first) * at // (count - 1) for at in range(count)}
    prices = [CentsPerBtc(at) for at in sorted(spaced)]
    held = [min(max(one, 0), contract.collateral) for one in half.payouts(prices)]
    said = report(half, premium=terms.premium)
    return Line(
        title=f"net book of {book.count} legs{f', {name}' if name else ''}", price_cents=prices,
        profit_sats=[one - contract.holder - terms.premium for one in held], holder_sats=held,
        collateral_sats=contract.collateral, marks_cents=[one for one in strikes if first <= one <= last],
        break_even_cents=[one for one in said.break_evens if first <= one <= last],
    )  # fmt: skip


def _in_words(said: dict[str, Any], book: Book) -> list[str]:
    lines = [f"book {said['book']}: {said['state']}, proposed by its {said['proposed_by']} {said['proposer'][:16]}"]
    lines += [f"  {name:<24} {text}" for name, text in book_rows(book).items()]
    lines += [
        f"  {'expiry':<24} {said['expiry']}, settled after block {said['expiry_height']:,}",
        f"  {'refund':<24} to each what it put in, from block {said['refund_height']:,} on",
        f"  {'oracles':<24} {said['threshold']} of {len(said['oracles'])} must agree",
        f"  {'premium':<24} {said['premium_sats']:,} sat, paid by the holder (below 0: by the writer)",
        f"  {'holder puts in':<24} {said['holder_puts_in_sats']:,} sat",
        f"  {'writer puts in':<24} {said['writer_puts_in_sats']:,} sat",
    ]
    for curve in said["curves"]:
        best, worst = curve["holder_best"], curve["holder_worst"]
        evens = ", ".join(map(usd, curve["break_even_cents"])) or "none"
        gains = f"gains {best['profit_sats']:,} sat at most, at {usd(best['price_cents'])}"
        loses = f"loses {-worst['profit_sats']:,} sat at most, at {usd(worst['price_cents'])}"
        lines += [
            f"  {curve['curve']}: the holder {gains}, and {loses}; the writer the opposite",
            f"    break-evens: {evens}",
        ]
        lines += [
            f"    at {usd(one['price_cents'])}: holder {one['holder_sats']:,} sat, writer {one['writer_sats']:,} sat"
            for one in curve["at"]
        ]
    for name, side in said.get("sides", {}).items():
        lines.append(
            f"  {name}: gets back {side['gets_back_least_sats']:,} to {side['gets_back_most_sats']:,} sat, loses "
            f"{side['worst_loss_sats']:,} sat at most, fees included"
        )
    return lines
