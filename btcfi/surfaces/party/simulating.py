"""One of the two parties of a simulation, in a process of its own: it makes its keys and its mandate, then it answers.

Who starts it learns an address, and can tell it which oracles there are; nothing else passes. A party of a real
deployment is somebody: ``party init``, a mandate of its owner's, and ``party run``.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from btcfi.adapters.files import make_private, private_folder, read_untrusted, read_untrusted_json, write_private
from btcfi.contracts.mandate import MAX_ENTRIES
from btcfi.records import TEXT, hexadecimal, listed, record, whole
from btcfi.surfaces.party.beginning import init
from btcfi.surfaces.party.side import Side, command
from btcfi.surfaces.party.watching import serve

MAX_ORACLES_BYTES: Final = 1 << 16
MAX_PASSPHRASE_BYTES: Final = 1 << 12

ORACLES_SECONDS: Final = 60
"""How long a party waits to be told the oracles, which may start after it."""


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


@command()
def simulate(
    *,
    mailbox: Annotated[
        Path, typer.Option("--mailbox", help="Folder that is shared: inbox, outbox, and your address in a file.")
    ],
    oracles: Annotated[Path, typer.Option("--oracles", help="The oracles' public keys, JSON.")],
    every: Annotated[float, typer.Option("--every", help="Seconds between two looks.", min=0.05)] = 1.0,
    side: Side,
) -> None:
    """Be a party of a simulation, on regtest: make keys and mandate at the first start, then answer as `party run`."""
    private_folder(_with_parents(side.folder))
    passphrase = side.passphrase_file or side.folder / "passphrase"
    if side.store.keystore_path.exists():
        _take_over_passphrase(mailbox / "passphrase", passphrase)
    side = replace(side, passphrase_file=passphrase)
    _wait_for(oracles)
    told = _ORACLES.read(read_untrusted_json(oracles, at_most=MAX_ORACLES_BYTES, what="oracles", named=True), "oracles")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        init(
            mandate="simulation", oracle=[key.hex() for key in told.oracle_keys], threshold=told.threshold,
            feed=[told.feed], new_passphrase=True, side=side,
        )  # fmt: skip
    write_private(mailbox / "address", json.loads(said.getvalue())["address"].encode() + b"\n")
    serve(inbox=mailbox / "inbox", outbox=mailbox / "outbox", every=every, side=side)


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
