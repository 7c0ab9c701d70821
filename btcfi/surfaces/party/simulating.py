"""One of the parties of a simulation, in a process of its own: it makes its keys and its mandate, then it answers.

Who starts it learns an address, and can tell it which oracles there are; nothing else passes. Its messages are files of
a shared mailbox, or letters of a desk that it joins. A party of a real deployment is somebody: ``party init``, a
mandate of its owner's, ``party join``, and ``party run``.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Final

import typer

from btcfi.adapters.files import make_private, private_folder, read_untrusted, read_untrusted_json, write_private
from btcfi.contracts.mandate import MAX_ENTRIES
from btcfi.errors import InvalidInputError, RetryableError
from btcfi.market.account import ACCOUNT_NAME, BOX_KEY, XONLY, encode_signed_registration
from btcfi.records import TEXT, hexadecimal, listed, record, whole
from btcfi.surfaces.party.beginning import init
from btcfi.surfaces.party.joining import DeskInfo, desk_info, register
from btcfi.surfaces.party.side import Side, command, passphrase_of
from btcfi.surfaces.party.watching import serve

MAX_ORACLES_BYTES: Final = 1 << 16
MAX_PASSPHRASE_BYTES: Final = 1 << 12

ORACLES_SECONDS: Final = 60
"""How long a party waits to be told the oracles, which may start after it; and for a desk that it joins."""

DESK_FILE: Final = "desk.json"
"""In a party's mailbox, or where the mailboxes' folder lies: the service's public keys."""

REGISTRATION_FILE: Final = "registration.json"
"""In a party's mailbox: who it is, signed; the service makes an account of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracles:
    """What a simulated party is told: who attests, how many must agree, and on which feed. Nothing of it is secret."""

    oracle_keys: tuple[bytes, ...]
    """x-only, 32 bytes each."""
    threshold: int
    feed: str


_ORACLES: Final = record(
    Oracles, exact=True, oracle_keys=listed(hexadecimal(32), MAX_ENTRIES), threshold=whole(1, MAX_ENTRIES), feed=TEXT
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    desk_key: bytes
    box_key: bytes


_DESK: Final = record(_Desk, desk_key=XONLY, box_key=BOX_KEY)


@command()
def simulate(
    *,
    mailbox: Annotated[
        Path | None, typer.Option("--mailbox", help="Folder that is shared: inbox, outbox, and your address in a file.")
    ] = None,
    oracles: Annotated[
        Path | None, typer.Option("--oracles", help="The oracles' public keys, JSON; with --desk the desk names them.")
    ] = None,
    desk: Annotated[str, typer.Option("--desk", help="URL of a desk to join: letters instead of the mailbox.")] = "",
    name: Annotated[str, typer.Option("--name", help="Of your account there; default: the mailbox's name.")] = "",
    every: Annotated[float, typer.Option("--every", help="Seconds between two looks.", min=0.05)] = 1.0,
    takes_per_minute: Annotated[
        float, typer.Option("--takes-per-minute", help="Take others' offers, so many on average.", min=0.0, max=600.0)
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of what it takes.", min=0)] = 1,
    side: Side,
) -> None:
    """Be a party of a simulation, on regtest: make keys and mandate at the first start, then answer as `party run`."""
    private_folder(_with_parents(side.folder))
    shared = mailbox or side.folder
    if takes_per_minute and not desk:
        raise InvalidInputError("--desk", "is missing", "the desk at which --takes-per-minute are taken")
    if mailbox is None and not desk:
        raise InvalidInputError("--mailbox", "is missing", "the folder that is shared, or --desk")
    passphrase = side.passphrase_file or side.folder / "passphrase"
    if mailbox is not None and side.store.keystore_path.exists():
        _take_over_passphrase(mailbox / "passphrase", passphrase)
    side = replace(side, passphrase_file=passphrase)
    known = _wait_for_desk(desk) if desk else None
    told = _told(oracles, known)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        init(
            mandate="simulation", oracle=[key.hex() for key in told.oracle_keys], threshold=told.threshold,
            feed=[told.feed], new_passphrase=True, side=side,
        )  # fmt: skip
    known = known or (None if mailbox is None else _of_mailbox(mailbox, told))
    if known is not None:
        _register(side, known, url=desk, name=name or shared.name, mailbox=mailbox)
    write_private(shared / "address", json.loads(said.getvalue())["address"].encode() + b"\n")
    if desk:
        if takes_per_minute:
            _wish(side, desk, takes_per_minute, seed)
        serve(desk=desk, every=every, side=side)
    else:
        serve(inbox=shared / "inbox", outbox=shared / "outbox", every=every, side=side)


def _wish(side: Side, desk: str, per_minute: float, seed: int) -> None:
    """Take now and then, beside what signs it: one process of a simulated taker, whose wishes end with it."""
    from btcfi.surfaces.maker_cli import take_now_and_then  # noqa: PLC0415 - the only one here that trades

    wishes = {"per_minute": per_minute, "seed": seed, "stopping": Event()}
    Thread(target=take_now_and_then, args=(side, desk), kwargs=wishes, name="btcfi-wishes", daemon=True).start()


def _told(oracles: Path | None, known: DeskInfo | None) -> Oracles:
    """Return the oracles that a file names, or else the desk. Raises InvalidInputError, NotFoundError."""
    if oracles is not None:
        _wait_for(oracles)
        return _ORACLES.read(
            read_untrusted_json(oracles, at_most=MAX_ORACLES_BYTES, what="oracles", named=True), "oracles"
        )
    if known is None:
        raise InvalidInputError("--oracles", "is missing", "the oracles' public keys, a file; or --desk")
    keys = tuple(one.key for one in known.oracles if one.key is not None)
    return Oracles(oracle_keys=keys, threshold=known.oracle_threshold, feed=known.feed)


def _wait_for_desk(url: str) -> DeskInfo:
    """Return what a desk says of itself, once it and all of its oracles answer. Raises as it last did."""
    deadline = time.monotonic() + ORACLES_SECONDS
    while True:
        try:
            found = desk_info(url)
            if all(one.key is not None for one in found.oracles) or time.monotonic() >= deadline:
                return found
        except RetryableError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.2)


def _register(side: Side, found: DeskInfo, *, url: str, name: str, mailbox: Path | None) -> None:
    """Join a desk; where there is a mailbox the registration lies there, for a service that carries files."""
    words = passphrase_of(side.passphrase_file)
    member, _ = register(side, url, ACCOUNT_NAME.read(name, "--name"), words, found)
    if mailbox is not None:
        body = json.dumps(encode_signed_registration(member.registered)).encode()
        write_private(mailbox / REGISTRATION_FILE, body)


def _of_mailbox(mailbox: Path, told: Oracles) -> DeskInfo | None:
    """Return the service whose public keys lie at a mailbox, None where none do: it is of an earlier release."""
    for path in (mailbox / DESK_FILE, mailbox.resolve().parent.parent / DESK_FILE):
        if path.exists():
            raw = read_untrusted_json(path, at_most=MAX_ORACLES_BYTES, what="desk", named=True)
            desk = _DESK.read(raw, "desk")
            return DeskInfo(
                desk_key=desk.desk_key, box_key=desk.box_key, network="regtest", feed=told.feed, oracles=(),
                oracle_threshold=told.threshold, preset_sha256="",
            )  # fmt: skip
    return None


def _wait_for(oracles: Path) -> None:
    # whoever starts all of them asks the oracles for their keys first; a minute later the file's absence is an error
    deadline = time.monotonic() + ORACLES_SECONDS
    while not oracles.exists() and time.monotonic() < deadline:
        time.sleep(0.2)


def _with_parents(folder: Path) -> Path:
    make_private(folder.parent, named=True)
    return folder


def _take_over_passphrase(shared: Path, own: Path) -> None:
    # before each party had a private folder for it, the supervisor wrote it beside the mailbox; what lies there when
    # there are no keys yet is none of an earlier release, and whoever put it there would know our passphrase
    if shared.exists() and not own.exists():
        write_private(own, read_untrusted(shared, at_most=MAX_PASSPHRASE_BYTES, what="passphrase"))
        shared.unlink()
