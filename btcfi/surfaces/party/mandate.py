"""Commands of the owner: the mandate, which says what the party's software may sign, and the identity that signs it."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from btcfi.adapters.files import write_private
from btcfi.adapters.keystore import open_keystore
from btcfi.adapters.party.identity import IDENTITY_FILE, identity_secret, rotate_identity
from btcfi.adapters.party.owner import Owner
from btcfi.contracts.mandate import (
    Mandate,
    SignedMandate,
    WrongMandateError,
    decode_mandate,
    decode_signed_mandate,
    encode_mandate,
    encode_signed_mandate,
    sign_mandate,
)
from btcfi.contracts.mandate_drafts import (
    CAREFUL_FIXINGS,
    FEED,
    careful_books,
    careful_disputes,
    careful_mandate,
    simulation_mandate,
)
from btcfi.contracts.messages import Role, decode_offer
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import Announcement, check_announcement
from btcfi.oracle.fixing import Fixing, parse_fixing
from btcfi.payoffs.book_guest import PROGRAM as BOOK_PROGRAM
from btcfi.records import HASH, hexadecimal
from btcfi.surfaces.party.beginning import SIMULATION, Feeds, Oracles, Threshold, oracle_keys
from btcfi.surfaces.party.oracles import read_announcement
from btcfi.surfaces.party.screen import confirm, mandate_screen
from btcfi.surfaces.party.side import (
    PROGRAM,
    IdentityPassphrase,
    Side,
    Yes,
    app,
    choice,
    command,
    passphrase_of,
    place,
    read_message,
    say,
    write_message,
)
from btcfi.vm.program import hashes_of, load_program

mandates = typer.Typer(help="What your software may sign: one file, signed by your identity.", no_args_is_help=True)
identities = typer.Typer(help="The key by which you sign mandates.", no_args_is_help=True)
app.add_typer(mandates, name="mandate")
app.add_typer(identities, name="identity")

ANY: Final = "any"

IdentityFile = Annotated[
    Path | None, typer.Option("--identity", help="Your identity's keystore; default: identity.json in the folder.")
]


@command(of=mandates)
def new(
    *,
    oracle: Oracles = None,
    announcement: Annotated[
        list[Path] | None, typer.Option("--announcement", help="An oracle's announcement, instead of its key; repeat.")
    ] = None,
    threshold: Threshold,
    role: Annotated[
        list[str] | None, typer.Option("--role", help="A side that may be taken: buyer or seller; default: both.")
    ] = None,
    feed: Feeds = None,
    preset: Annotated[
        list[str] | None,
        typer.Option("--preset", help="Hash of the rules of the price; repeat. Default: the announcements', else any."),
    ] = None,
    fixing: Annotated[
        list[str] | None,
        typer.Option(
            "--fixing",
            help="What may settle a contract: minute, twap:N, median:N, or any; repeat. "
            "Default: the announcements', else twap:30 and minute.",
        ),
    ] = None,
    books: Annotated[
        bool, typer.Option("--books", help="Allow net books, too, within narrow bounds of their own.")
    ] = False,
    disputes: Annotated[
        bool, typer.Option("--disputes", help="Allow disputed contracts, too, within narrow bounds of their own.")
    ] = False,
    proposer: Annotated[
        list[str] | None,
        typer.Option(
            "--proposer",
            help="With --books, --disputes: an identity whose proposals may be answered; repeat; default: any.",
        ),
    ] = None,
    like: Annotated[str, typer.Option("--like", help="simulation: allow everything, on regtest alone.")] = "",
    out: Annotated[
        str, typer.Option("--out", help="Where the draft goes: a file, or - for stdout.", callback=place)
    ] = "-",
    side: Side,
) -> None:
    """Write a draft with narrow bounds for your node's network; read it, edit it, sign it."""
    announced = [_announced(path) for path in announcement or []]
    keys = oracle_keys(oracle or []) + [one.oracle_key for one in announced]
    presets = [HASH.read(one, "--preset") for one in preset or []] + [one.event.preset_hash for one in announced]
    chain, owner = side.chain().chain_info(), _owner(side, passphrase_of(side.passphrase_file))
    programs = hashes_of(PROGRAM) if like else [load_program(PROGRAM).program_hash]
    common: dict[str, Any] = {
        "number": owner.next_number(), "now": chain.median_time, "network": chain.chain, "oracle_keys": keys,
        "threshold": threshold, "programs": programs, "feeds": feed or [FEED],
        "presets": sorted(set(presets)),
    }  # fmt: skip
    if like not in ("", SIMULATION):
        raise InvalidInputError("--like", repr(like), SIMULATION)
    roles = [choice(Role, "--role", one) for one in role or ("buyer", "seller")]
    fixings = _fixings(fixing or [], [one.event.fixing for one in announced])
    if proposer and not (books or disputes):
        raise InvalidInputError("--proposer", "without --books or --disputes", "one of them, which it is about")
    known = [hexadecimal(32).read(one, "--proposer") for one in proposer or ()]
    rules: dict[str, Any] = {}
    if books:
        programs = [load_program(BOOK_PROGRAM).program_hash]
        rules["books"] = careful_books(roles=roles, programs=programs, proposers=known)
    if disputes:
        rules["disputes"] = careful_disputes(roles=roles, proposers=known)
    if like:
        draft = replace(simulation_mandate(**common), **rules)
    else:
        draft = careful_mandate(**common, roles=roles, fixings=fixings, **rules)
    _write_draft(out, encode_mandate(draft))
    say(
        {"draft": out, "number": draft.number, "next": f"read it, then btcfi party mandate sign {out}"},
        quiet=out == "-",
    )


@command(of=mandates)
def sign(
    *,
    draft: Annotated[str, typer.Argument(help="The draft; or a mandate that was signed elsewhere.")],
    identity: IdentityFile = None,
    out: Annotated[
        str,
        typer.Option(
            "--out", help="Write the signed mandate there and install nothing: where the identity is.", callback=place
        ),
    ] = "",
    yes: Yes = False,
    identity_passphrase_file: IdentityPassphrase = None,
    side: Side,
) -> None:
    """Show a mandate and what it changes, sign it with your identity, and put it in force."""
    message = read_message(draft)
    wanted, path = decode_mandate(message), identity or side.folder / IDENTITY_FILE
    if wanted.valid_until <= time.time():
        typer.echo("btcfi party: valid_until_unix is past: nothing can be signed under this mandate any more", err=True)
    if out:
        typer.echo(mandate_screen(encode_mandate(wanted), None), err=True)
        confirm("Sign it?", f"mandate {wanted.number}", yes=yes)
        words = passphrase_of(identity_passphrase_file or side.passphrase_file)
        _write_draft(out, encode_signed_mandate(_signed(wanted, path, words)))
        return
    words = passphrase_of(side.passphrase_file)
    owner = _owner(side, words)
    owner.check_number(wanted)
    typer.echo(mandate_screen(encode_mandate(wanted), owner.in_force()), err=True)
    confirm("Sign it and put it in force?", f"mandate {wanted.number}", yes=yes)
    if "signature" in message:
        signed = decode_signed_mandate(message)
    else:
        signed = _signed(
            wanted, path, words if identity_passphrase_file is None else passphrase_of(identity_passphrase_file)
        )
    owner.install(signed)
    say({"mandate": wanted.number, "identity": signed.identity.hex()})


@command(of=mandates)
def show(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As it is signed.")] = False,
    side: Side,
) -> None:
    """Print the mandate in force."""
    signed = _owner(side, passphrase_of(side.passphrase_file)).mandate()
    if as_json:
        say(encode_signed_mandate(signed))
    else:
        typer.echo(mandate_screen(encode_mandate(signed.mandate), signed))


@command(of=mandates)
def revoke(*, side: Side) -> None:
    """Take the mandate back: nothing is signed until there is another; what is signed is watched and settled."""
    say({"revoked": _owner(side, passphrase_of(side.passphrase_file)).revoke()})


@command(of=mandates)
def check(
    *,
    message: Annotated[str, typer.Argument(help="The offer: a file, - or a URL.")],
    side: Side,
) -> None:
    """Say whether your mandate allows an offer, or which field it does not: exit code 0 or 1. Nothing is signed."""
    offer = decode_offer(read_message(message))
    desk = side.desk()
    try:
        authority = desk.check(offer)
    except InvalidInputError as e:
        say({"allowed": False, "field": e.field, "problem": e.problem, "expected": e.expected})
        raise typer.Exit(1) from e
    except WrongMandateError as e:
        say({"allowed": False, "field": "mandate", "problem": e.problem})
        raise typer.Exit(1) from e
    say({"allowed": True, "mandate": authority.mandate.number})


@command(of=identities)
def rotate(*, identity_passphrase_file: IdentityPassphrase = None, side: Side) -> None:
    """Make another identity: mandates of the one before count no more; what is signed is watched and settled."""
    words = passphrase_of(side.passphrase_file)
    owner = _owner(side, words)
    owner.pin()
    mine = words if identity_passphrase_file is None else passphrase_of(identity_passphrase_file)
    key, kept = rotate_identity(owner, side.folder, mine)
    say({
        "identity": key.hex(),
        "before": None if kept is None else f"{kept} (remove it once you need it no more)",
        "next": "btcfi party mandate new, then btcfi party mandate sign: until then nothing is signed",
    })  # fmt: skip


def _fixings(given: list[str], announced: list[Fixing]) -> list[Fixing]:
    if given == [ANY]:
        return []
    return [parse_fixing(one) for one in given] or list(dict.fromkeys(announced)) or list(CAREFUL_FIXINGS)


def _owner(side: Side, words: str) -> Owner:
    return Owner(side.store, open_keystore(side.store.keystore_path, words))


def _signed(mandate: Mandate, path: Path, words: str) -> SignedMandate:
    return sign_mandate(mandate, identity_secret(path, words), secrets.token_bytes(32))


def _announced(path: Path) -> Announcement:
    announcement = read_announcement(str(path))
    check_announcement(announcement, expected=announcement.event)
    if announcement.event.path is not None:  # its fixing is each observation's: as an option's it was never announced
        raise InvalidInputError("--announcement", f"of a path, {announcement.event.path}", "of a price")
    return announcement


def _write_draft(out: str, message: dict[str, Any]) -> None:
    if out == "-":
        write_message(out, message)
    else:
        write_private(Path(out), json.dumps(message, indent=1).encode() + b"\n")
