"""``btcfi market transfer`` and ``btcfi market consent``: a position changes hands, and its seller has allowed that.

Each word is a file of the party's folder before anybody else sees it, and ``btcfi party run`` signs by that file alone:
the desk is given the word, and is believed in nothing. What the desk refuses is withdrawn in the folder, too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from btcfi.adapters.chain.pool import asking_rate
from btcfi.adapters.party.owner import Owner as PartyOwner
from btcfi.adapters.party.transfer_book import KeptTransfer, KeptWord, TransferBook
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb, choose_rate
from btcfi.contracts.mandate import Situation
from btcfi.contracts.messages import Role
from btcfi.contracts.payouts import decode_terms
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError
from btcfi.market.instrument import instrument_of, parse_instrument
from btcfi.market.transfer import SignedTransferOffer, decode_signed_offer, encode_signed
from btcfi.records import HASH
from btcfi.surfaces.party import side as party_side
from btcfi.surfaces.party.at_desk import (
    PREFIX,
    TARGET_BLOCKS,
    Account,
    AsJson,
    FeeRate,
    hundredths,
    in_btc,
    joined,
    or_nothing,
    say_fields,
    say_list,
    span,
    utc,
)
from btcfi.surfaces.party.screen import confirm, rows_screen
from btcfi.surfaces.party.sending import amount_with_unit
from btcfi.surfaces.party.side import Yes, command
from btcfi.units import Cents, Hash32, Height, Sats, UnixSeconds

if TYPE_CHECKING:
    from btcfi.adapters.party.desk import PartyDesk

CONSENTS: Final = "/transfers/consents"
OFFERS: Final = "/transfers/offers"
TAKES: Final = "/transfers/takes"
TRANSFERS: Final = "/transfers"

MOST_ROWS: Final = 500
"""Of one answer."""

app = typer.Typer(
    name="transfer", help="Sell a position to somebody else, or take one that is for sale.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

Option = Annotated[str, typer.Argument(metavar="OPTION", help="As `btcfi market positions` names it.")]


class AnotherPositionError(ConflictError):
    """The desk shows a position that is not what its holder signed."""

    def __init__(self, shown: str, signed: str) -> None:
        super().__init__(
            f"offer {shown[:16]}: what the desk shows is not what was signed ({signed[:16]}); take another"
        )
        self.shown, self.signed = shown, signed


# ---- who wrote it


def consent(
    *,
    option: Annotated[str, typer.Argument(help="As `btcfi market positions` names it; not with --withdraw.")] = "",
    valid: Annotated[str, typer.Option("--valid", help="How long it stands: 90s, 2h, 7d; at most 30d.")] = "7d",
    withdraw: Annotated[str, typer.Option("--withdraw", help="A consent, by `btcfi market consents`.")] = "",
    yes: Yes = False,
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Say that the other side of an option you wrote may sell its position, to whomever; every term stays as it is.

    Your `btcfi party run` then signs such a transfer while the consent stands, if your mandate allows a close as
    agreed. Without one nobody can buy the position. Your collateral counts twice in your mandate while it is under way.
    """
    if bool(option) == bool(withdraw):
        raise InvalidInputError("OPTION", "or --withdraw", "one of the two")
    with joined(side) as account:
        if withdraw:
            _withdraw(side, account, _word_of(side, "consent", withdraw), CONSENTS, as_json=as_json)
            return
        desk = side.desk(keystore=account.keystore)
        name, until = _named(desk, option), UnixSeconds(int(time.time()) + span(valid))
        typer.echo(rows_screen("You are about to let the other side of an option change.", {
            **_position_rows(side, name, Role.SELLER),
            "it changes": "who your counterparty is; no term, no amount, and not your refund",
            "to": "whomever the holder sells to, once, without asking you again",
            "until": utc(until),
            "who signs": "your `btcfi party run`, if your mandate allows a close as agreed",
        }), err=True)  # fmt: skip
        confirm("Consent?", f"option {option[:40]}", yes=yes)
        kept = desk.transfers.consent(
            name, valid_until=until, number=account.ledger.next_number(), member=account.member
        )
        answer = _post(side, account, kept, CONSENTS, "`btcfi market consents`")
    _say_word(kept, answer, {"option": option}, as_json=as_json)


def consents(*, as_json: AsJson = False, side: party_side.Side) -> None:
    """List your consents to a change of the other side, the newest first."""
    with joined(side) as account:
        found = account.http.get(CONSENTS, limit=MOST_ROWS)
        rows = [
            [one["id"][:16], str(one["option_id"]), one["state"], utc(one["valid_until_unix"])]
            for one in found["items"]
        ]  # fmt: skip
        say_list(found, ["consent", "option", "state", "until"], rows, as_json=as_json)


# ---- who holds it


@command(of=app)
def offer(
    *,
    option: Option,
    price: Annotated[str, typer.Option("--price", help="What you get for all of it: 0.007btc or 700000sat.")],
    valid: Annotated[str, typer.Option("--valid", help="How long it stands: 90s, 10m, 2h.")] = "10m",
    rate: FeeRate = None,
    taker: Annotated[str, typer.Option("--for", help="The one account that may take it, its key; default: any.")] = "",
    bare: Annotated[
        bool, typer.Option("--bare", help="Bring no coin of yours: you cannot take your signature back then.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Offer a position that you bought, whole, at a firm price; its writer has to have consented.

    Whoever takes it pays you that price and the transaction, but for 57.5 vB of your own coin, by which you can take
    your signature back until a block has the transfer. Your `btcfi party run` signs, if your mandate says `agreed`.
    """
    wanted = amount_with_unit(price)
    if wanted is None:
        raise InvalidInputError("--price", "all", "an amount: 0.007btc or 700000sat")
    alone = None if not taker else bytes(HASH.read(taker, "--for"))
    with joined(side) as account:
        desk = side.desk(keystore=account.keystore)
        name, until = _named(desk, option), UnixSeconds(int(time.time()) + span(valid))
        asked = choose_rate(asking_rate(side.chain(), TARGET_BLOCKS), FeeRule()) if rate is None else rate
        typer.echo(rows_screen("You are about to offer a position of yours.", {
            **_position_rows(side, name, Role.BUYER),
            "you get": f"{in_btc(wanted)} BTC ({wanted:,} sat), whatever the market does meanwhile",
            "the buyer pays": f"that, and the transaction at {asked:,} sat/kvB",
            "you bring": "no coin: you cannot take your signature back" if bare else
                         "a small coin of yours: by spending it you take your signature back",
            "for": "whoever takes it first" if alone is None else f"the account {alone.hex()[:16]} alone",
            "it stands until": utc(until),
            "who signs": "your `btcfi party run`, if your mandate allows a close as agreed",
        }), err=True)  # fmt: skip
        confirm("Offer it?", f"option {option[:40]}", yes=yes)
        kept = desk.transfers.offer(
            name, price=wanted, rate=SatsPerKvb(asked), valid_until=until, number=account.ledger.next_number(),
            member=account.member, taker=alone, bare=bare,
        )  # fmt: skip
        answer = _post(side, account, kept, OFFERS, "`btcfi market transfer offers --own`")
    _say_word(kept, answer, {"option": option, "price_sats": wanted, "sats_per_kvb": asked}, as_json=as_json)


@command(of=app)
def withdraw(
    *,
    which: Annotated[str, typer.Argument(metavar="OFFER", help="As `btcfi market transfer offers --own` names it.")],
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Take an offer of a position back: from now on your party signs nothing of it, whatever the desk says."""
    with joined(side) as account:
        _withdraw(side, account, _word_of(side, "offer", which), OFFERS, as_json=as_json)


# ---- whoever would have it


@command(of=app)
def offers(
    *,
    own: Annotated[bool, typer.Option("--own", help="Only yours, whatever became of them.")] = False,
    instrument: Annotated[str, typer.Option("--instrument", help="Only of this one.")] = "",
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """List the positions that are for sale, the newest first; ``take`` takes one by its id."""
    named = None if not instrument else parse_instrument(instrument).name
    with joined(side) as account:
        found = account.http.get(OFFERS, own="true" if own else None, instrument=named)
        rows = [
            [one["id"][:16], one["instrument"], hundredths(one["quantity_centi_btc"]), in_btc(one["price_sats"]),
             one["state"], utc(one["valid_until_unix"])]
            for one in found["items"]
        ]  # fmt: skip
        say_list(found, ["offer", "instrument", "size", "BTC for all", "state", "until"], rows, as_json=as_json)


@command(of=app)
def take(
    *,
    which: Annotated[str, typer.Argument(metavar="OFFER", help="As `btcfi market transfer offers` names it.")],
    valid: Annotated[str, typer.Option("--valid", help="How long all three have to sign.")] = "120s",
    yes: Yes = False,
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Take a position that is for sale, whole, at its price or not at all; you are shown it, and asked.

    It is yours with the first block that has the transfer: your price leaves in the transaction that brings you the
    contract. Your `btcfi party run` checks contract, collateral and every signature by itself before it signs.
    """
    with joined(side) as account:
        signed = _for_sale(account, which)
        found, until = signed.offer, UnixSeconds(int(time.time()) + span(valid))
        terms = found.instrument.terms(found.quantity, Cents(0))
        _check_mandate(side, account, signed)
        typer.echo(rows_screen("You are about to take a position.", {
            "instrument": found.instrument.name,
            "you": "hold it: its writer's collateral stays, and its terms",
            "quantity": f"{hundredths(found.quantity)} BTC",
            "collateral": f"{in_btc(terms.collateral)} BTC, of its writer",
            "you pay": f"{in_btc(found.price)} BTC ({found.price:,} sat), and the transaction, {found.rate:,} sat/kvB",
            "worst case": f"you lose {in_btc(found.price)} BTC ({found.price:,} sat), and that fee",
            "who sells it": found.holder.hex()[:16],
            "all have signed until": utc(min(until, found.valid_until)),
            "who signs": "your `btcfi party run`, if your mandate allows the contract",
        }), err=True)  # fmt: skip
        confirm("Take it?", f"offer {found.id.hex()[:16]}", yes=yes)
        desk = side.desk(keystore=account.keystore)
        until = UnixSeconds(int(time.time()) + span(valid))  # a screen takes time to read
        kept = desk.transfers.take(
            signed, valid_until=until, number=account.ledger.next_number(), member=account.member
        )  # fmt: skip
        answer = _post(side, account, kept, TAKES, "`btcfi market transfer show`")
    said = {"option": f"t{kept.id.hex()[:32]}", "price_sats": found.price}
    _say_word(kept, answer, said, as_json=as_json)


@command(of=app)
def show(
    *,
    which: Annotated[str, typer.Argument(metavar="TAKE", help="One alone, by a beginning of its id.")] = "",
    as_json: AsJson = False,
    side: party_side.Side,
) -> None:
    """Show the transfers that you are one of the three of, the newest first: as the desk has them, and your own part.

    `ours` is what your folder knows: open, done, over, void; empty where your process was not asked yet.
    """
    with joined(side) as account:
        book = TransferBook(side.folder)
        if which:
            found = account.http.get(f"{TRANSFERS}/{_transfer_of(account, which)}")
            ours = book.find(HASH.read(found["id"], "transfer"))
            say_fields(found | _ours(ours), as_json=as_json)
            return
        page = account.http.get(TRANSFERS)
        known = {one.take_id.hex(): one for one in book}
        page["items"] = [one | _ours(known.get(one["id"])) for one in page["items"]]
        rows = [
            [one["id"][:16], one["instrument"], one["role"], in_btc(one["price_sats"]), one["state"], one["ours"],
             one["problem"] or one["our_problem"]]
            for one in page["items"]
        ]  # fmt: skip
        say_list(page, ["transfer", "instrument", "you are", "BTC", "state", "ours", "why"], rows, as_json=as_json)


# ---- parts


def _ours(kept: KeptTransfer | None) -> dict[str, Any]:
    return {"ours": "" if kept is None else kept.state.value, "our_problem": "" if kept is None else kept.problem}


def _named(desk: PartyDesk, option: str) -> str:
    """Return the name of the contract of an option of ours. Raises NotFoundError."""
    known = desk.orders()
    if option not in known:
        raise NotFoundError("option of ours", option[:40], "`btcfi market positions` lists them")
    return known[option]


def _position_rows(side: party_side.Side, name: str, role: Role) -> dict[str, str]:
    """Return what a screen says of a contract of ours. Raises InvalidInputError where we are its other side."""
    contract = side.store.load(name)
    if contract.role is not role:
        did = "you wrote it" if contract.role is Role.SELLER else "you bought it"
        expected = "who bought it offers it; who wrote it consents"
        raise InvalidInputError("OPTION", did, expected)
    terms = decode_terms(contract.offer.terms.option)
    return {
        "instrument": instrument_of(terms).name,
        "quantity": f"{hundredths(terms.quantity)} BTC",
        "collateral": f"{in_btc(terms.collateral)} BTC, {'your own' if role is Role.SELLER else 'of its writer'}",
    }


def _post(side: party_side.Side, account: Account, kept: KeptWord, path: str, where: str) -> dict[str, Any]:
    """Give the desk a word that our folder has; a word that it does not take is withdrawn here."""
    book = TransferBook(side.folder)
    with or_nothing(side, lambda: book.withdraw(kept.id), where):
        answer = account.http.post(path, encode_signed(kept.signed))
        return {"state": str(answer["state"])}


def _say_word(kept: KeptWord, answer: dict[str, Any], said: dict[str, Any], *, as_json: bool) -> None:
    say_fields(
        {kept.kind: kept.id.hex()} | said | answer | {"valid_until_unix": kept.valid_until}, as_json=as_json
    )  # fmt: skip


def _withdraw(side: party_side.Side, account: Account, word: Hash32, path: str, *, as_json: bool) -> None:
    with side.store.alone():  # what is being signed right now is signed before this, or not at all
        kept = TransferBook(side.folder).withdraw(word)
    answer = account.http.delete(f"{path}/{word.hex()}")
    say_fields({kept.kind: word.hex(), "state": str(answer["state"])}, as_json=as_json)


def _word_of(side: party_side.Side, kind: str, text: str) -> Hash32:
    """Return the one word of ours that a text, its beginning, names. Raises NotFoundError."""
    many = [one.id for one in TransferBook(side.folder).words() if one.kind == kind and one.id.hex().startswith(text)]
    if len(text) < PREFIX or len(many) != 1:
        where = "`btcfi market consents`" if kind == "consent" else "`btcfi market transfer offers --own`"
        raise NotFoundError(f"transfer {kind} of ours", text[:64], f"{where} lists them")
    return many[0]


def _for_sale(account: Account, text: str) -> SignedTransferOffer:
    """Return the open offer that a text, its beginning, names, as its holder signed it. Raises AnotherPositionError."""
    row = _one(_rows(account, OFFERS), text, "offer of a position", "`btcfi market transfer offers` lists them")
    signed = decode_signed_offer(row["signed"])
    if signed.offer.id.hex() != row["id"] or signed.offer.desk != account.member.desk:
        raise AnotherPositionError(str(row["id"]), signed.offer.id.hex())
    return signed


def _transfer_of(account: Account, text: str) -> str:
    with suppress(InvalidInputError):
        return HASH.read(text, "TAKE").hex()
    row = _one(_rows(account, TRANSFERS), text, "transfer", "`btcfi market transfer show` lists them")
    return HASH.read(row["id"], "transfer").hex()


def _rows(account: Account, path: str) -> Sequence[dict[str, Any]]:
    rows: Sequence[dict[str, Any]] = account.http.get(path, limit=MOST_ROWS)["items"]
    return rows


def _one(rows: Sequence[dict[str, Any]], text: str, what: str, where: str) -> dict[str, Any]:
    found = [one for one in rows if len(text) >= PREFIX and str(one["id"]).startswith(text)]
    if len(found) != 1:
        raise NotFoundError(what, text[:64], where)
    return found[0]


def _check_mandate(side: party_side.Side, account: Account, signed: SignedTransferOffer) -> None:
    """Refuse what our own process would not sign. Raises as the mandate does."""
    here = Situation(network=account.member.network, height=Height(0), time=UnixSeconds(0), exposure=Sats(0))
    terms = signed.offer.instrument.terms(signed.offer.quantity, Cents(0))
    authority = PartyOwner(side.store, account.keystore).authority(here)
    authority.check_deal(terms, premium=signed.offer.price, role=Role.BUYER)
