"""The oracles of an embedded deployment, each a process with a folder of its own, and the nodes that sign prices.

On a real deployment the oracles are other people's, and ``BTCFI_ORACLES`` says where they answer; then nothing of them
is made here. What is lost is never replaced: a new key would be another oracle, and nobody could settle with it what
names the old one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from btcfi.adapters.files import make_private, write_private
from btcfi.adapters.oracle.client import OracleClient
from btcfi.adapters.oracle.folder import KEY, NEVER, Held, OracleFolder
from btcfi.adapters.oracle.folder import NETWORK as NETWORK_FILE
from btcfi.adapters.oracle.web import Web
from btcfi.adapters.oracle_network.network_file import read_registry, write_registry
from btcfi.adapters.oracle_network.node_keys import make_node_keys, node_of
from btcfi.adapters.store.options import attesting
from btcfi.adapters.store.prices import served
from btcfi.adapters.store.spine.database import Store, StoreUnreachableError
from btcfi.adapters.store.spine.views import has_table
from btcfi.errors import ConflictError, InvalidInputError, RetryableError
from btcfi.oracle.quote import Feed, VenueId, parse_venue
from btcfi.oracle.round_book import Registry
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import SECONDS_PER_MINUTE, UnixSeconds
from settings.deployment import Deployment
from settings.preset import load_preset
from workers.machine.nursery import of_the_machine

OLD_KEYS: Final = "BTCFI_ORACLE_KEYS_DIR"
"""Of earlier releases, whose service had the oracles' keys: they are taken over from there once."""

TRUST: Final = "trust_before"
"""File: minutes before it were priced before anybody signed, and are taken as the store states them."""

NETWORK: Final = "network"
"""Folder of ``network.toml``, which says who may speak: public keys alone, for oracles of other people too."""

EVERY_SECONDS: Final = 0.5
"""Between two looks of an oracle of ours at the aggregator, which is on the same machine."""


log = structlog.get_logger("btcfi.oracles")


class LostKeysError(ConflictError):
    """The store speaks of keys that are not here. New ones would not be them."""

    def __init__(self, what: str, *, named: Sequence[str], where: Path, loses: str) -> None:
        shown = ", ".join(key[:16] for key in named)
        super().__init__(
            f"the store names the {what} {shown}, and {where} does not have them: restore that folder from your backup "
            f"(`btcfi restore`), or set BTCFI_DATA_DIR to where it is; nothing was made, for with new keys {loses}"
        )
        self.what, self.named = what, tuple(named)


def folder_of(deployment: Deployment, number: int) -> OracleFolder:
    """Return the folder of one of our oracles."""
    return OracleFolder(deployment.data_dir / "oracles" / f"oracle-{number}")


def folders_of(deployment: Deployment) -> list[OracleFolder]:
    """Return the folders of our oracles that are there, by their numbers."""
    found = [path for path in (deployment.data_dir / "oracles").glob("oracle-*") if path.is_dir()]
    return [OracleFolder(path) for path in sorted(found)]


def prepare(deployment: Deployment, *, wait: float = 0.0) -> list[str]:
    """Make what is missing of nodes and oracles, take over an earlier release's keys; return the oracles' keys, hex.

    Where the deployment names oracles by URL none is made: they are asked for their keys, for ``wait`` seconds, and
    while one does not answer no key is returned. Raises LostKeysError, before anything is made, where the store names
    keys that are not here.
    """
    if os.environ.get(OLD_KEYS):
        log.warning("setting is gone", name=OLD_KEYS, instead="its keys move into DATA_DIR/oracles, once")
    store = _existing_store(deployment)
    try:
        _refuse_lost_nodes(deployment, store)
        registry = _nodes(deployment)
        if deployment.oracles:
            return _asked(deployment, _named(store), wait)
        old = _old_keys(deployment)
        _refuse_lost_oracles(deployment, old, _named(store))
        make_private(deployment.data_dir / "oracles")
        return [_oracle(deployment, number, old, registry, store) for number in range(_many(deployment, old))]
    finally:
        if store is not None:
            store.close()


def _asked(deployment: Deployment, named: frozenset[str], wait: float) -> list[str]:
    deadline = time.monotonic() + wait
    while True:
        try:
            keys = [str(OracleClient(Web(url)).status()["oracle_key"]) for url in deployment.oracles]
            break
        except (RetryableError, KeyError):
            if time.monotonic() > deadline:
                return []
            time.sleep(0.5)
    if missing := sorted(named - set(keys)):
        raise LostKeysError(
            "oracles", named=missing, where=Path("BTCFI_ORACLES"),
            loses="the contracts that name the old ones could only be refunded",
        )  # fmt: skip
    return keys


def _many(deployment: Deployment, old: dict[str, bytes]) -> int:
    return max(load_preset(deployment.preset).oracles, len(old), len(folders_of(deployment)))


def _oracle(
    deployment: Deployment, number: int, old: dict[str, bytes], registry: Registry, store: Store | None
) -> str:  # fmt: skip
    folder = folder_of(deployment, number)
    mine = old.get(f"oracle-{number}")
    fresh = not (folder.path / KEY).exists()  # a restore writes what is held before there is a key
    key = folder.create(mine, now=_latest(store))
    folder.write_network(write_registry(Feed(deployment.feed), registry))
    if store is not None and fresh:
        _note_trust(deployment, store)
    if mine is not None:
        take_over(folder, store, _old_folder(deployment) / f"oracle-{number}.key")
    return key.hex()


def hold(deployment: Deployment, held: Held) -> None:
    """Note what a restore has every oracle of ours hold, one that is made of another release's key later, too."""
    here = 0 if deployment.oracles else _many(deployment, _old_keys(deployment))
    paths = {folder.path for folder in (*folders_of(deployment), *(folder_of(deployment, n) for n in range(here)))}
    for path in sorted(paths):
        OracleFolder(path).keep_held(held)


def _latest(store: Store | None) -> UnixSeconds:
    """Return what the database's clock says, where one answers."""
    try:
        return NEVER if store is None else store.now()
    except StoreUnreachableError:
        return NEVER  # the next step's to name


def take_over(folder: OracleFolder, store: Store | None, file: Path) -> int:
    """Make an earlier release's oracle one of its own: what it attested is in its ledger before its old key goes."""
    key, outcomes = folder.public_key() or b"", []
    if store is not None:
        with store.reading() as session:
            outcomes = attesting.claimed_by(session, key.hex()) if has_table(session, "attestation") else []
    many = folder.seed(outcomes)
    file.unlink(missing_ok=True)
    return many


def _old_folder(deployment: Deployment) -> Path:
    return Path(os.environ.get(OLD_KEYS) or deployment.data_dir / "oracles")


def _old_keys(deployment: Deployment) -> dict[str, bytes]:
    """Return the keys that an earlier release left as files, in the order of their names."""
    files = sorted(_old_folder(deployment).glob("*.key"))
    return {f"oracle-{number}": file.read_bytes() for number, file in enumerate(files)}


def _nodes(deployment: Deployment) -> Registry:
    registry = make_node_keys(deployment.nodes_dir, _venues(deployment))
    OracleFolder(deployment.data_dir / NETWORK).write_network(write_registry(Feed(deployment.feed), registry))
    return registry


def _venues(deployment: Deployment) -> list[VenueId]:
    return [parse_venue(text) for text in (*deployment.venues, *deployment.legs)]


def _refuse_lost_nodes(deployment: Deployment, store: Store | None) -> None:
    """Refuse to replace a node key that is gone: oracles elsewhere know the old one, and would drop what is signed."""
    lost = [node_of(venue) for venue in _venues(deployment) if _is_lost(deployment, store, node_of(venue))]
    if lost:
        raise LostKeysError(
            "nodes", named=lost, where=deployment.nodes_dir, loses="no oracle would take what these nodes sign"
        )


def _is_lost(deployment: Deployment, store: Store | None, name: str) -> bool:
    file, known = deployment.nodes_dir / f"{name}.key", _node_known(deployment, name)
    if file.exists():
        return known is not None and public_key_xonly(file.read_bytes()) != known
    return known is not None or (store is not None and _signed_by(store, deployment, name))


def _node_known(deployment: Deployment, name: str) -> bytes | None:
    file = deployment.data_dir / NETWORK / NETWORK_FILE
    if not file.exists():
        return None
    node = read_registry(file)[1].nodes.get(name)
    return None if node is None else node.public_key


def _signed_by(store: Store, deployment: Deployment, name: str) -> bool:
    try:
        with store.reading() as session:
            return has_table(session, "oracle_submission") and served.has_signed(session, Feed(deployment.feed), name)
    except StoreUnreachableError:
        return False  # the next step's to name


def _refuse_lost_oracles(deployment: Deployment, old: dict[str, bytes], named: frozenset[str]) -> None:
    here = {public_key_xonly(secret).hex() for secret in old.values()}
    for folder in folders_of(deployment):
        if (folder.path / KEY).exists():
            here.add(public_key_xonly(folder.secret()).hex())
        elif folder.was_used():
            folder.secret()  # raises: everything but the key is here
    if missing := sorted(named - here):
        raise LostKeysError(
            "oracles", named=missing, where=deployment.data_dir / "oracles",
            loses="the contracts that name the old ones could only be refunded",
        )  # fmt: skip


def _existing_store(deployment: Deployment) -> Store | None:
    """Return the store if there is one: a first start has none, and asking must not make one."""
    return None if deployment.missing_database is not None else Store(deployment.database_url)


def _named(store: Store | None) -> frozenset[str]:
    """Return the keys, hex, that the store's open contracts and its newest event name."""
    if store is None:
        return frozenset()
    try:
        with store.reading() as session:
            if not has_table(session, "oracle_event"):
                return frozenset()
            return attesting.named_keys(session)
    except StoreUnreachableError:
        return frozenset()  # a database that is not up yet is the next step's to name


def _note_trust(deployment: Deployment, store: Store) -> None:
    file = deployment.data_dir / "oracles" / TRUST
    if file.exists():
        return
    with store.reading() as session:
        feed = Feed(deployment.feed)
        newest = served.newest_unsigned(session, feed) if has_table(session, "oracle_submission") else None
    write_private(file, b"%d\n" % (0 if newest is None else newest + SECONDS_PER_MINUTE))


def trust_before(deployment: Deployment) -> int:
    """Return before which minute our oracles take what nobody signed as the store states it; 0: none."""
    try:
        return int((deployment.data_dir / "oracles" / TRUST).read_text())
    except FileNotFoundError:
        return 0
    except ValueError as e:
        raise InvalidInputError(str(deployment.data_dir / "oracles" / TRUST), "no number", "a minute, or 0") from e


def refuse_lost(deployment: Deployment) -> None:
    """Raise LostKeysError or LostKeyError where the store, or a folder, names a key that is not here; makes nothing."""
    store = _existing_store(deployment)
    try:
        _refuse_lost_nodes(deployment, store)
        if not deployment.oracles:
            _refuse_lost_oracles(deployment, _old_keys(deployment), _named(store))
    finally:
        if store is not None:
            store.close()


def command(deployment: Deployment, number: int, *, aggregator: str) -> list[str]:
    """Return the command of one of our oracles: where it answers, and whom it asks."""
    folder = folder_of(deployment, number).path.resolve()
    port = deployment.oracles[number].rpartition(":")[2]
    return [
        sys.executable, "-m", "workers.oracle_process", f"--folder={folder}", f"--port={port}",
        f"--aggregator={aggregator}", f"--every={EVERY_SECONDS}",
        f"--trust-store-before={trust_before(deployment)}",
        "--minute-events" if deployment.minute_events else "--no-minute-events",
    ]  # fmt: skip


def environment(_deployment: Deployment) -> dict[str, str]:
    """Return an oracle's environment: nothing of the deployment."""
    return of_the_machine() | {"PYTHONUNBUFFERED": "1"}
