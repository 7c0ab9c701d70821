"""``btcfi restore``: a backup, into a deployment that has nothing yet."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Final

import typer

from btcfi.adapters.desk_key import make_desk_key
from btcfi.adapters.files import make_private
from btcfi.adapters.store.backup import Moment, read_backup
from btcfi.adapters.store.spine.database import Store
from btcfi.errors import BtcfiError
from btcfi.oracle.quote import Feed
from btcfi.units import UnixSeconds
from settings.deployment import Deployment, load_deployment
from settings.preset import load_preset_by_hash
from workers.commands.backup import AsJson, PassphraseFile, passphrase_of, say, secret_files
from workers.deployed import node_of, open_store
from workers.machine import oracles

NODE_SECONDS: Final = 5.0
"""How long a node is waited for: it is asked for one number, and may be started later."""


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `btcfi backup` wrote.")],
    *,
    passphrase_file: PassphraseFile = None,
    clocks_are_right: Annotated[
        bool,
        typer.Option(
            "--clocks-are-right", help="Your word that this machine's and the database's clock are right, and that the "
            "backup was taken by one that was ahead of them.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Restore a backup into the deployment's empty data folder and database; then start it as usual.

    What was on its way is taken up by the reconciler; what the chain has settled since is found by walking it. Events
    that the oracles may have attested since the backup are held: `btcfi oracle held` lists them.
    """
    deployment = load_deployment()
    passphrase = passphrase_of(passphrase_file, confirm=False)
    make_private(deployment.data_dir, named=True)
    store = open_store(migrated=False)
    written = read_backup(
        file, store, secret_files=secret_files(deployment), passphrase=passphrase,
        rule_of=lambda sha256: load_preset_by_hash(sha256).consensus,
        now=moment_of(deployment, store, trusted=clocks_are_right),
    )  # fmt: skip
    store.close()
    if written.oracles_hold is not None:
        oracles.hold(deployment, written.oracles_hold)  # before there is a key: oracles may be made of old ones
    make_desk_key(deployment.desk_key_file)  # its public half; a backup of an earlier release has no key
    oracles.prepare(deployment)  # a backup of an earlier release has the oracles' keys alone
    say("restored", file, written, as_json=as_json)


def moment_of(deployment: Deployment, store: Store, *, trusted: bool = False) -> Moment:
    """Return what time it is: the latest of this machine's clock, the database's, and the node's where it answers.

    The node's is the median time of its last blocks, which lags: it shows a clock that is far behind, and no other.
    """
    clocks = {"this machine's clock": UnixSeconds(int(time.time()))}
    if not deployment.database_url.startswith("sqlite"):  # which has none of its own, and is not there yet
        clocks["the database's clock"] = store.now()
    known = [*clocks.values(), *_by_the_chain(deployment)]
    return Moment(
        now=max(known), clocks=clocks, trusted=trusted,
        replay=Feed(deployment.feed) if deployment.replay_clock else None,
    )  # fmt: skip


def _by_the_chain(deployment: Deployment) -> list[UnixSeconds]:
    if deployment.node_url is None:
        return []
    try:
        return [node_of(deployment, timeout_seconds=NODE_SECONDS).chain_info().median_time]
    except BtcfiError:
        return []  # it need not run yet; doctor names what is wrong with it
