"""The command that joins a desk: its keys are pinned, and the owner's identity vouches for the party's own."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from btcfi import secp256k1
from btcfi.adapters.keystore import Keystore, open_keystore
from btcfi.adapters.party.identity import IDENTITY_FILE, identity_secret
from btcfi.adapters.party.membership import Membership, OtherDeskJoinedError, forget, joined, keep
from btcfi.adapters.party.owner import Owner
from btcfi.adapters.sealed_letters import box_key
from btcfi.documents import printable
from btcfi.errors import InvalidInputError
from btcfi.market.account import (
    ACCOUNT_NAME,
    BOX_KEY,
    XONLY,
    Registration,
    SignedRegistration,
    encode_signed_registration,
    sign_registration,
)
from btcfi.records import TEXT, Rule, listed, optional, record, whole
from btcfi.surfaces.party.mandate import IdentityFile
from btcfi.surfaces.party.screen import confirm, in_lines, rows_screen
from btcfi.surfaces.party.side import IdentityPassphrase, Side, Yes, command, passphrase_of, say
from btcfi.units import UnixSeconds

Name = Annotated[str, typer.Option("--name", help="Of your account, as the market shows it: 3 to 32 of a-z, 0-9, -.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskOracle:
    """One oracle of the desk's contracts."""

    url: str
    key: bytes | None
    """x-only; None while it does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskInfo:
    """What a desk says of itself."""

    desk_key: bytes
    box_key: bytes
    network: str
    feed: str
    oracles: tuple[DeskOracle, ...]
    oracle_threshold: int
    preset_sha256: str


_ORACLE: Final = record(DeskOracle, url=TEXT, key=optional(XONLY))
_DESK: Final = record(
    DeskInfo, desk_key=XONLY, box_key=BOX_KEY, network=TEXT, feed=TEXT,
    oracles=listed(Rule(_ORACLE, "an oracle"), 64), oracle_threshold=whole(1, 64), preset_sha256=TEXT,
)  # fmt: skip


def register(
    side: Side, url: str, name: str, words: str, found: DeskInfo, *, identity: Path | None = None,
    identity_words: str | None = None, ask: Callable[[bytes, bool], None] = lambda *_: None,
) -> tuple[Membership, bool]:  # fmt: skip
    """Pin a desk and register there; return what is pinned, and whether it was before.

    url: empty where the party's messages are files: then nobody is told. ask: sees whom it is about, and whether the
    identity is to sign, and refuses by raising. Raises OtherDeskJoinedError, and what the desk answers.
    """
    keystore = open_keystore(side.store.keystore_path, words)
    owner, before = Owner(side.store, keystore).pin().identity, joined(side.folder, keystore)
    _check_before(before, found)
    member = None if before is None else replace(before, url=url)
    same = (
        member is not None and member.is_of(keystore) and (member.identity, member.registration.name) == (owner, name)
    )
    ask(owner, not same)
    if member is None or not same:
        path = side.folder / IDENTITY_FILE if identity is None else identity
        secret = identity_secret(path, words if identity_words is None else identity_words)
        _check_identity(secret, owner)
        registered = _registered(keystore, secret, found.desk_key, name, before)
        member = Membership(url=url, network=found.network, desk_box=found.box_key, registered=registered)
    if member != before:  # kept first, so that the same one is sent again
        keep(side.folder, keystore, member)
    if url:
        _tell(side, keystore, member, before)
    return member, member == before


def desk_info(url: str) -> DeskInfo:
    """Return what a desk says of itself. Raises DeskAwayError, InvalidInputError."""
    from btcfi.adapters.signed_http import SignedHttp  # noqa: PLC0415 - httpx; most commands need none

    with SignedHttp(url) as http:
        return _DESK.read(http.get("/desk"), "desk")


@command()
def join(
    *,
    url: Annotated[str, typer.Argument(help="The desk's URL, such as https://desk.example")],
    name: Name,
    identity: IdentityFile = None,
    yes: Yes = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is pinned as JSON.")] = False,
    identity_passphrase_file: IdentityPassphrase = None,
    side: Side,
) -> None:
    """Join a desk: show and pin its keys, and register your account there, signed by your identity.

    Again it shows what is pinned and changes nothing.
    """
    ACCOUNT_NAME.read(name, "--name")
    found = desk_info(url)
    _check_network(side, found)

    def ask(owner: bytes, signs: bool) -> None:  # noqa: FBT001 - two words of a callback
        if not as_json:
            typer.echo(_screen(url, found, owner, name), err=True)
        if signs:
            confirm("Pin these keys, and register?", f"desk {found.desk_key.hex()[:16]}", yes=yes)

    words = passphrase_of(side.passphrase_file)
    identity_words = None if identity_passphrase_file is None else passphrase_of(identity_passphrase_file)
    member, again = register(
        side, url, name, words, found, identity=identity, identity_words=identity_words, ask=ask
    )  # fmt: skip
    keystore = open_keystore(side.store.keystore_path, words)
    _say_joined(member, found, again=again, mandate=Owner(side.store, keystore).in_force() is not None)


def _tell(side: Side, keystore: Keystore, member: Membership, before: Membership | None) -> None:
    """Tell the desk who we are; where it does not take that, what was pinned before stays."""
    from btcfi.adapters.signed_http import DeskRefusedError, SignedHttp  # noqa: PLC0415 - as above

    try:
        with SignedHttp(member.url) as http:
            http.post("/accounts", encode_signed_registration(member.registered))
    except DeskRefusedError:
        if member != before:
            forget(side.folder) if before is None else keep(side.folder, keystore, before)
        raise


def _registered(
    keystore: Keystore, secret: bytes, desk: bytes, name: str, before: Membership | None
) -> SignedRegistration:  # fmt: skip
    """Return a registration, signed. Its number follows the clock: a folder that lost its own goes above it, too."""
    now = int(time.time())
    registration = Registration(
        name=name, identity=secp256k1.public_key_xonly(secret),
        request_key=secp256k1.public_key_xonly(keystore.request_secret()),
        box_key=box_key(keystore.letters_secret()), desk=desk,
        number=max(now, 0 if before is None else before.registration.number + 1), at=UnixSeconds(now),
    )  # fmt: skip
    return sign_registration(registration, secret, secrets.token_bytes(32))


def _check_before(before: Membership | None, found: DeskInfo) -> None:
    """Refuse another desk, or other keys of the one that is pinned. Raises OtherDeskJoinedError."""
    if before is not None and (before.desk, before.desk_box) != (found.desk_key, found.box_key):
        raise OtherDeskJoinedError(before.url, before.desk)


def _check_network(side: Side, found: DeskInfo) -> None:
    """Refuse a desk of another chain than our node's. Raises UnreachableError where no node answers."""
    chain = side.chain()
    try:
        ours = chain.chain_info().chain
    finally:
        chain.close()
    if ours != found.network:
        raise InvalidInputError("network", f"the desk's contracts are on {found.network!r}", f"{ours!r}, as your node")


def _check_identity(secret: bytes, owner: bytes) -> None:
    if (key := secp256k1.public_key_xonly(secret)) != owner:
        raise InvalidInputError("--identity", f"is {key.hex()[:16]}", f"{owner.hex()[:16]}, the owner of this folder")


def _screen(url: str, found: DeskInfo, owner: bytes, name: str) -> str:
    keys = [printable(one.url, 200) if one.key is None else one.key.hex() for one in found.oracles]
    return rows_screen(f"The desk at {url} says of itself:", {
        "desk key": found.desk_key.hex(),
        "letters to it": f"are sealed to {found.box_key.hex()}",
        "network": found.network,
        "feed": printable(found.feed, 40),
        "oracles": in_lines([f"{found.oracle_threshold} of {len(keys)} must agree:", *keys]),
        "rules of the price": printable(found.preset_sha256, 64),
        "you are": f"{name}, {owner.hex()}",
        "what it can do": "carry letters, or not; it signs nothing for you, and your mandate bounds what you sign",
    })  # fmt: skip


def _next(found: DeskInfo) -> str:
    """Return the command that drafts a mandate for a desk's oracles, to be read before it is signed."""
    # of what the desk says nothing but hex and a number goes into a line that is made to be copied
    keys = " ".join(f"--oracle {'KEY' if one.key is None else one.key.hex()}" for one in found.oracles)
    return f"btcfi party mandate new {keys} --threshold {found.oracle_threshold} --out mandate.json"


def _say_joined(member: Membership, found: DeskInfo, *, again: bool, mandate: bool) -> None:
    said: dict[str, Any] = {
        "desk": member.url,
        "desk_key": member.desk.hex(),
        "network": member.network,
        "account": member.identity.hex(),
        "name": member.registration.name,
        "number": member.registration.number,
        "oracles": [None if one.key is None else one.key.hex() for one in found.oracles],
        "oracle_threshold": found.oracle_threshold,
        "changed": not again,
        "next": "btcfi party run" if mandate else _next(found),
    }
    say(said)
