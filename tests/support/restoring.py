"""A service that is backed up in the middle of something, and goes on from the backup when the chain has gone on."""

import tasks.transfers
from btcfi.adapters.store.backup import read_backup, write_backup
from btcfi.adapters.store.spine.database import Store
from settings.preset import load_preset_by_hash
from tasks import chain, market

PASSPHRASE = "correct horse battery"


class Restoring:
    """A stage whose service is backed up, and goes on from a backup."""

    def __init__(self, stage, folder):
        self.stage, self.folder, self.before = stage, folder, stage.here.store

    def back_up(self, name):
        write_backup(
            self.stage.here.store, self.folder / name, secret_files={}, passphrase=PASSPHRASE, now=self.stage.here.now()
        )  # fmt: skip

    def go_on_from(self, name):
        store = Store(f"sqlite:///{self.folder}/{name}.db")
        read_backup(
            self.folder / name, store, secret_files={}, passphrase=PASSPHRASE, now=self.stage.here.now(),
            rule_of=lambda sha256: load_preset_by_hash(sha256).consensus,
        )  # fmt: skip
        object.__setattr__(self.stage.here, "store", store)
        tasks.transfers._looked.clear()
        tasks.transfers._known.clear()  # another process
        for _ in range(2):
            chain.watch()
            market.tick()
