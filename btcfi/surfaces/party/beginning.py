"""The command that begins a party: a keystore, the identity of its owner, and for a simulation its mandate."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import Annotated, Final

import typer

from btcfi.adapters.files import KeystoreExistsError, write_private
from btcfi.adapters.keystore import Keystore, create_keystore, open_keystore
from btcfi.adapters.party.identity import IDENTITY_FILE, identity_secret, make_identity
from btcfi.adapters.party.owner import Owner
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.address import prefix_of
from btcfi.contracts.mandate import Mandate, sign_mandate
from btcfi.contracts.mandate_drafts import FEED, require_regtest, simulation_mandate
from btcfi.errors import InvalidInputError, UnreachableError
from btcfi.records import hexadecimal
from btcfi.surfaces.party.side import PROGRAM, IdentityPassphrase, Side, command, passphrase_of, say
from btcfi.units import UnixSeconds
from btcfi.vm.program import hashes_of

SIMULATION: Final = "simulation"

_NEXT: Final = (
    "`btcfi party join` at a market; then a mandate, `btcfi party mandate new`: until there is one, nothing is signed"
)

Oracles = Annotated[
    list[str] | None, typer.Option("--oracle", help="An oracle's key, 64 hex digits, as you got it from it; repeat.")
]
Threshold = Annotated[int, typer.Option("--threshold", help="How many of the oracles must agree.", min=1)]
Feeds = Annotated[list[str] | None, typer.Option("--feed", help=f"What may be priced; repeat. Default: {FEED}.")]


@command()
def init(
    *,
    network: Annotated[
        str, typer.Option("--network", help="main, test, testnet4, signet or regtest; else your node says it.")
    ] = "",
    mandate: Annotated[
        str, typer.Option("--mandate", help="simulation: sign one that allows everything, on regtest alone.")
    ] = "",
    oracle: Oracles = None,
    threshold: Threshold = 1,
    feed: Feeds = None,
    new_passphrase: Annotated[
        bool, typer.Option("--new-passphrase", help="Write a random one to --passphrase-file where there is none.")
    ] = False,
    identity_passphrase_file: IdentityPassphrase = None,
    side: Side,
) -> None:
    """Create the party's keystore and its owner's identity, and print its address.

    In a folder of an earlier release: only the identity. With --mandate simulation it may be run again at every start.
    """
    network = _network(side, network)
    if mandate:
        _check_simulation(mandate, network)
    if new_passphrase:
        _write_passphrase(side)
    fresh = not side.store.keystore_path.exists()
    words = passphrase_of(side.passphrase_file, confirm=fresh)
    keystore = (create_keystore if fresh else open_keystore)(side.store.keystore_path, words)
    owner = Owner(side.store, keystore)
    if owner.known and not mandate:
        raise KeystoreExistsError(side.store.keystore_path)
    identity_words = words if identity_passphrase_file is None else passphrase_of(identity_passphrase_file)
    if not owner.known:
        owner.adopt(make_identity(side.folder, identity_words))
    if mandate:
        wanted = _simulation(owner, network, oracle or [], threshold, feed or [FEED])
        if wanted is not None:
            secret = identity_secret(side.folder / IDENTITY_FILE, identity_words)
            owner.install(sign_mandate(wanted, secret, secrets.token_bytes(32)))
    _say_begun(side, owner, keystore, network)


def _say_begun(side: Side, owner: Owner, keystore: Keystore, network: str) -> None:
    current = owner.in_force()
    number = None if current is None else current.mandate.number
    address = PartyWallet(side.store, keystore, side.chain()).address_on(network)
    begun = {"folder": str(side.folder), "address": address, "identity": owner.pin().identity.hex(), "mandate": number}
    say(begun if number is not None else begun | {"next": _NEXT})


def _network(side: Side, given: str) -> str:
    """Return the node's network, or the given one where no node answers. Raises UnreachableError, InvalidInputError."""
    if given:
        prefix_of(given)
    chain = side.chain()
    try:
        found = chain.chain_info().chain
    except UnreachableError:
        if not given:
            raise
        return given
    finally:
        chain.close()
    if given and given != found:
        raise InvalidInputError("--network", repr(given), f"{found!r}, as your node says")
    return found


def _check_simulation(mandate: str, network: str) -> None:
    if mandate != SIMULATION:
        raise InvalidInputError("--mandate", repr(mandate), f"{SIMULATION}; for your own: party mandate new")
    require_regtest(network)


def _write_passphrase(side: Side) -> None:
    """Write a random passphrase where there is none yet. Raises InvalidInputError for one that is lost."""
    path = side.passphrase_file
    if path is None:
        raise InvalidInputError("--passphrase-file", "is missing", "where the new passphrase is to lie")
    if path.exists():
        return
    if side.store.keystore_path.exists():  # a new one would not open it
        raise InvalidInputError("--passphrase-file", f"{path} is gone, the keystore is not", "the file as it was")
    write_private(path, secrets.token_urlsafe(24).encode() + b"\n", fresh=True)


def oracle_keys(given: list[str]) -> list[bytes]:
    """Return the keys that were given. Raises InvalidInputError for what is no x-only key as hex."""
    return [hexadecimal(32).read(key, "--oracle") for key in given]


def _simulation(owner: Owner, network: str, oracles: list[str], threshold: int, feeds: list[str]) -> Mandate | None:
    """Return the mandate that is to be signed now, None where the one in force says the same or was taken back."""
    now = UnixSeconds(int(time.time()))
    wanted = simulation_mandate(
        number=owner.next_number(), now=now, network=network, programs=hashes_of(PROGRAM),
        oracle_keys=sorted(oracle_keys(oracles)), threshold=threshold, feeds=feeds,
    )  # fmt: skip
    signed = owner.in_force()
    if signed is None and owner.taken_back:  # a restart is no word of its owner's
        return None
    if signed is None or now >= signed.mandate.valid_until:
        return wanted
    current = signed.mandate
    same = replace(wanted, number=current.number, valid_until=current.valid_until) == current
    return None if same else wanted
