"""``btcfi restore``: a backup, into a deployment that has nothing yet."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from btcfi.adapters.files import make_private
from btcfi.adapters.store.backup import read_backup
from btcfi.adapters.store.options import attesting
from btcfi.adapters.store.prices.rounds import market_now
from btcfi.oracle.quote import Feed
from btcfi.units import Hash32, UnixSeconds
from settings.deployment import load_deployment
from settings.preset import load_preset_by_hash
from workers.commands.backup import AsJson, PassphraseFile, passphrase_of, say, secret_files
from workers.deployed import open_store
from workers.machine import oracles


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `btcfi backup` wrote.")],
    *,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
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
        rule_of=lambda sha256: load_preset_by_hash(sha256).consensus, now=UnixSeconds(int(time.time())),
    )  # fmt: skip
    with store.reading() as session:
        # what nobody vouches for decides nothing: then the oracles hold all that their own ledgers do not say
        decided = set(attesting.event_ids(session)) - set(written.held) if written.authentic else set[str]()
        until = market_now(
            session, Feed(deployment.feed), replay=deployment.replay_clock, now=UnixSeconds(int(time.time()))
        )
    store.close()
    oracles.prepare(deployment)  # a backup of an earlier release has the oracles' keys alone
    for folder in oracles.folders_of(deployment):
        folder.hold(
            taken_at=written.taken_at_unix, now=until, decided=[Hash32(bytes.fromhex(event)) for event in decided],
            named=[Hash32(bytes.fromhex(event)) for event in written.held],
        )  # fmt: skip
    say("restored", file, written, as_json=as_json)
