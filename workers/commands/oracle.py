"""``btcfi oracle``: an oracle's key, announcement and attestation by hand; after a restore, what may be attested.

``key``, ``announce`` and ``attest`` need no deployment: they are for an oracle whose owner signs one event at a time.
"""

from __future__ import annotations

import getpass
import json
import secrets
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from btcfi.adapters.files import (
    read_untrusted_json,
    read_untrusted_text,
    write_named,
    write_private,
)
from btcfi.adapters.keystore import FileLedger
from btcfi.adapters.store.options import holds
from btcfi.contracts.explain import fixing_in_words
from btcfi.contracts.messages import decode_announcement, decode_attestation, encode_announcement, encode_attestation
from btcfi.contracts.payouts import condition_of, decode_terms
from btcfi.documents import printable
from btcfi.errors import InvalidInputError, NotFoundError, RetryableError
from btcfi.options.order import parse_dollars
from btcfi.oracle import announcement, attestation
from btcfi.oracle.announcement import NO_PROGRAM, OF_PATH, OracleEvent, check_announcement
from btcfi.oracle.attestation import Attestation
from btcfi.oracle.fixing import MINUTE, parse_fixing
from btcfi.oracle.path import in_words, parse_path
from btcfi.oracle.path_evidence import check_evidence, decode_evidence
from btcfi.oracle.quote import BTC_USD
from btcfi.payoffs.book_file import MAX_FILE, read_book
from btcfi.payoffs.book_guest import PROGRAM as BOOK_PROGRAM
from btcfi.proofs.window import MINUTES, ProvenWindow, settled_price
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces import oracle_tlv, path_cli
from btcfi.surfaces.oracle_cli import read_secret
from btcfi.surfaces.party.side import place
from btcfi.surfaces.rest.times import iso, parse_time
from btcfi.units import CentsPerBtc, Hash32, Slot, UnixSeconds, slot_of
from btcfi.vm.program import load_program
from settings.deployment import load_deployment
from settings.preset import load_preset
from workers.deployed import open_store
from workers.machine import oracles
from workers.oracle_process import serve

app = typer.Typer(
    help="An oracle's events: by hand, or after a restore.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command("serve")(serve)
app.command("import-tlv")(oracle_tlv.import_)
app.command("export-tlv")(oracle_tlv.export)
app.command("check-path")(path_cli.check)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

MAX_FILE_BYTES = 1 << 16
"""An attestation of the most digits has a twentieth of it, an announcement a tenth."""

PROGRAM = "option_settlement"


KeyFile = Annotated[Path, typer.Option("--key", help="The oracle's secret key, a file of `btcfi oracle key`.")]
Out = Annotated[Path, typer.Option("--out", help="Where to write it.", callback=place)]


class TooEarlyError(RetryableError):
    """The minute of an event has not passed: nobody knows its price."""

    def __init__(self, expiry: Slot) -> None:
        super().__init__(f"the minute {iso(expiry)} has not come; `--wait` waits for it")
        self.expiry = expiry


@app.command()
def key(*, out: Annotated[Path, typer.Option("--out", help="Where to write it: a new file.")]) -> None:
    """Make an oracle's key: the secret into a new file that only you can read, the public key on stdout."""
    secret = secrets.token_bytes(32)
    write_private(out, secret.hex().encode() + b"\n", fresh=True)
    typer.echo(json.dumps({"oracle_key": public_key_xonly(secret).hex(), "secret": str(out)}, indent=1))


@app.command()
def announce(
    *,
    key: KeyFile,
    out: Out,
    option: Annotated[
        Path | None, typer.Option("--option", help="The option whose expiry minute is to be attested, JSON.")
    ] = None,
    book: Annotated[
        Path | None, typer.Option("--book", help="The net book instead, TOML: its expiry by --fixing, minute if none.")
    ] = None,
    feed: Annotated[str, typer.Option("--feed", help="Whose price it is.")] = str(BTC_USD),
    preset: Annotated[str, typer.Option("--preset", help="The rule by which the price is agreed.")] = "standard",
    fixing: Annotated[
        str | None,
        typer.Option("--fixing", help="What you are willing to attest; another option is refused. Default: its."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="With a barrier: the minute after which it is watched; default: now.")
    ] = None,
) -> None:
    """Announce what will be attested for an option or a book: its fixing, one nonce a digit. Again, the same file.

    An option of an earlier release names no fixing: its minute's price is announced, rounded down.
    """
    if (option is None) == (book is None):
        raise InvalidInputError("--option", "and --book: both or neither", "one of them")
    preset_hash = Hash32(bytes.fromhex(load_preset(preset).sha256))
    watched = slot_of(parse_time(since, "since") if since is not None else _now())
    if book is not None:
        event = _book_event(book, feed=feed, preset_hash=preset_hash, fixing=fixing, since=watched)
    else:
        event = _option_event(option, feed=feed, preset_hash=preset_hash, fixing=fixing, since=watched)
    made = announcement.announce(read_secret(key), event)
    _write(out, encode_announcement(made))
    found = {"event": event.id.hex(), "oracle_key": made.oracle_key.hex(), "minute": iso(event.expiry)}
    settles = fixing_in_words(event.fixing, event.expiry, event.rounding)
    typer.echo(json.dumps(found | {"settles_at": settles, "announcement": str(out)}, indent=1))


@app.command("announce-path")
def announce_path(
    *,
    key: KeyFile,
    path: Annotated[str, typer.Option("--path", help="asian:60x24, cliquet:1440x7:-200:300, ladder:up:SINCE:RUNG/…")],
    expiry: Annotated[str, typer.Option("--expiry", help="Its last minute.")],
    out: Out,
    fixing: Annotated[str, typer.Option("--fixing", help="What each of its observations is.")] = str(MINUTE),
    feed: Annotated[str, typer.Option("--feed", help="Whose price it is.")] = str(BTC_USD),
    preset: Annotated[str, typer.Option("--preset", help="The rule by which the price is agreed.")] = "standard",
) -> None:
    """Announce the value of a path, of no guest program: one nonce a digit. Again, it is the same file."""
    event = OracleEvent(
        feed=feed, expiry=slot_of(parse_time(expiry, "expiry")), program_hash=NO_PROGRAM,
        preset_hash=Hash32(bytes.fromhex(load_preset(preset).sha256)), version=OF_PATH, fixing=parse_fixing(fixing),
        path=parse_path(path),
    )  # fmt: skip
    made = announcement.announce(read_secret(key), event)
    _write(out, encode_announcement(made))
    found = {"event": event.id.hex(), "oracle_key": made.oracle_key.hex(), "minute": iso(event.expiry)}
    words = "" if event.path is None else in_words(event.path)
    typer.echo(json.dumps(found | {"settles_at": words, "announcement": str(out)}, indent=1))


def _option_event(
    option: Path | None, *, feed: str, preset_hash: Hash32, fixing: str | None, since: Slot
) -> OracleEvent:
    raw = read_untrusted_json(option or Path(), at_most=MAX_FILE_BYTES, what="option", named=True)
    terms = decode_terms(raw)
    if fixing is not None and parse_fixing(fixing) != terms.window:
        raise InvalidInputError("--fixing", fixing, f"{terms.window}, what the option names")
    return OracleEvent(
        feed=feed, expiry=terms.expiry, program_hash=load_program(PROGRAM).program_hash, preset_hash=preset_hash,
        condition=condition_of(terms, since), version=1 if terms.fixing is None else 2, fixing=terms.window,
    )  # fmt: skip


def _book_event(book: Path, *, feed: str, preset_hash: Hash32, fixing: str | None, since: Slot) -> OracleEvent:
    text = read_untrusted_text(book, at_most=MAX_FILE, what="book", named=True)
    found = read_book(text, what=printable(book.name, 80))
    return OracleEvent(
        feed=feed, expiry=found.expiry, program_hash=load_program(BOOK_PROGRAM).program_hash, preset_hash=preset_hash,
        condition=found.condition(since), version=2, fixing=MINUTE if fixing is None else parse_fixing(fixing),
    )  # fmt: skip


@app.command()
def attest(
    *,
    key: KeyFile,
    announced: Annotated[Path, typer.Option("--announcement", help="What you announced.")],
    price: Annotated[
        str, typer.Option("--price", help="USD per BTC of the fixing; attested in whole dollars, as announced.")
    ] = "",
    minutes: Annotated[
        Path | None,
        typer.Option(
            "--minutes", help="The minutes of the window, JSON, or a path's evidence: the outcome is computed."
        ),
    ] = None,
    out: Out,
    touched: Annotated[bool, typer.Option("--touched", help="The barrier was touched: pays nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the minute.")] = False,
) -> None:
    """Attest the price of an announced event, once: the outcome is written beside the key before it is signed.

    The price is your word (--price), or what the event's fixing makes of its minutes (--minutes): a list of
    {"slot": UNIX, "price_cents": PRICE} or {"slot": UNIX, "left_out": "void"}, in order. Of a path it is only what its
    evidence makes, as `/v1/path` of an oracle gives it.
    """
    made = decode_announcement(read_untrusted_json(announced, at_most=MAX_FILE_BYTES, what="announcement", named=True))
    check_announcement(made, expected=made.event)
    computed = _path_outcome(made.event, price, minutes, touched=touched) if made.event.path is not None else None
    cents = _fixing_price(made.event, price, minutes) if computed is None else CentsPerBtc(1)
    if touched and not made.event.condition:
        raise InvalidInputError("--touched", "the event has no barrier", "it left out")
    while _now() < made.event.expiry:
        if not wait:
            raise TooEarlyError(made.event.expiry)
        time.sleep(1)
    outcome = made.event.outcome(cents, condition=touched) if computed is None else computed
    signed = attestation.attest(read_secret(key), made, outcome, FileLedger(key.with_name(key.name + ".ledger")))
    _write(out, encode_attestation(signed))
    found = {"event": made.event.id.hex(), "price_cents": made.event.price_of(outcome), "attestation": str(out)}
    typer.echo(json.dumps(found, indent=1))


def _fixing_price(event: OracleEvent, price: str, minutes: Path | None) -> CentsPerBtc:
    """Return the price that is to be attested: the owner's word, or what the fixing makes of the minutes."""
    if bool(price) == (minutes is not None):
        raise InvalidInputError("attest", "both or none of --price and --minutes", "one of them")
    if minutes is None:
        return parse_dollars(price, "price")
    said = MINUTES.read(read_untrusted_json(minutes, at_most=MAX_FILE_BYTES, what="minutes", named=True), "minutes")
    window = ProvenWindow(
        fixing=event.fixing, end=event.expiry, rounding=event.rounding, digits=event.digits, minutes=said
    )
    return settled_price(window)


def _path_outcome(event: OracleEvent, price: str, minutes: Path | None, *, touched: bool) -> int:
    """Return the outcome of a path, computed from its evidence: no owner's word stands for so many minutes."""
    if price or touched or minutes is None:
        raise InvalidInputError("attest", f"the event is of a path, {event.path}", "--minutes with its evidence alone")
    raw = read_untrusted_json(minutes, at_most=path_cli.MAX_FILE_BYTES, what="evidence", named=True)
    return check_evidence(decode_evidence(raw), expected=event).outcome


def _write(path: Path, message: dict[str, Any]) -> None:
    write_named(path, json.dumps(message) + "\n")


@app.command()
def held(*, as_json: AsJson = False) -> None:
    """List the events that are neither attested nor settled before you decide, and how to decide."""
    store = open_store()
    with store.reading() as session:
        rows = holds.held_events(session)
    store.close()
    if as_json:
        found = [
            {
                **held.model_dump(),
                "feed": event.feed,
                "expiry_unix": event.expiry_unix,
                "expiry": iso(event.expiry_unix),
            }
            for held, event in rows
        ]
        typer.echo(json.dumps({"held": found}))
        return
    for row, event in rows:
        typer.echo(f"{row.event_id}  {event.feed} of {iso(event.expiry_unix)}  backup of {iso(row.taken_at_unix)}")
    typer.echo(f"{len(rows)} held", err=True)
    if rows:
        typer.echo(
            "The oracles may have attested these after the backup; a second outcome would give their keys away.\n"
            "  btcfi oracle import FILE...                     what was published: parties have it in their inboxes\n"
            "  btcfi oracle release EVENT... --none-published  nobody has an attestation of it",
            err=True,
        )


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Attestations: *.attestation.json of a party or of the console.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Take published attestations into the ledger, every signature checked; each releases its event with its outcome.

    All or none: a forged one, or one that contradicts the ledger, imports nothing. One of an event that this store has
    never announced is left out.
    """
    found = [(file, _read(file)) for file in files]
    counted = {"imported": 0, "known": 0, "unknown_events": 0}
    store = open_store()
    with store.transaction() as session:
        for file, attestation in found:
            try:
                new = holds.import_attestation(session, attestation, now=_now(), by=getpass.getuser())
                _seed(attestation)
            except NotFoundError as e:
                counted["unknown_events"] += 1
                typer.echo(f"btcfi: {file}: {e}", err=True)
            else:
                counted["imported" if new else "known"] += 1
    store.close()
    said = f"{counted['imported']} imported, {counted['known']} known, {counted['unknown_events']} of unknown events"
    typer.echo(json.dumps(counted) if as_json else said)


@app.command()
def release(
    events: Annotated[list[str] | None, typer.Argument(help="Events, as `btcfi oracle held` prints them.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every held event.")] = False,
    none_published: Annotated[
        bool, typer.Option("--none-published", help="You have asked: nobody holds an attestation of them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Release events on your word that no attestation of them was published; it is written into the event log."""
    if not none_published:
        raise InvalidInputError(
            "release",
            "without --none-published",
            "that word, after asking the parties: a second outcome gives keys away",
        )
    if bool(events) == every:
        raise InvalidInputError("release", "both or none of EVENT and --all", "one of them")
    store = open_store()
    with store.transaction() as session:
        chosen = [row.event_id for row, _ in holds.held_events(session)] if every else list(events or ())
        for event in chosen:
            holds.release(session, event, now=_now(), by=getpass.getuser())
    store.close()
    for folder in oracles.folders_of(load_deployment()):
        folder.release(Hash32(bytes.fromhex(event)) for event in chosen)
    typer.echo(json.dumps({"released": chosen}) if as_json else f"{len(chosen)} released")


def _seed(attestation: Attestation) -> None:
    """Write a published attestation into the ledger of our own oracle that made it, and release its event there."""
    for folder in oracles.folders_of(load_deployment()):
        if folder.public_key() == attestation.oracle_key:
            folder.seed([(attestation.event, attestation.outcome)])


def _read(file: Path) -> Attestation:
    return decode_attestation(read_untrusted_json(file, at_most=MAX_FILE_BYTES, what="attestation", named=True))


def _now() -> UnixSeconds:
    return UnixSeconds(int(time.time()))
