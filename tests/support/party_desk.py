"""One party's commands as a test runs them, and the option that it trades."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

from btcfi.adapters.chain.node import Node
from btcfi.adapters.keystore import open_keystore
from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.store import PartyStore
from btcfi.bitcoin.fees import FeeRule
from btcfi.contracts.mandate import Bounds, CloseRule
from btcfi.errors import BtcfiError
from btcfi.options.terms import OptionKind, OptionTerms
from btcfi.surfaces import party_cli
from btcfi.surfaces.status import status_of
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats, Slot
from btcfi.vm.program import load_program
from tests.support.contracts import ORACLES
from tests.support.mandates import give_mandate, mandate

EXPIRY = Slot(60 * 29_000_000)


def option(barrier=None):
    return OptionTerms(
        kind=OptionKind.CALL,
        strike=CentsPerBtc(10_000_000),
        quantity=CentiBtc(10),
        barrier=barrier,
        american=False,
        expiry=EXPIRY,
        premium=Cents(5_000),
        collateral=Sats(10_000_000),
    )


class Desk:
    """Runs one party's commands: in processes of their own while ``apart``, else here, which is faster."""

    def __init__(self, folder: Path, node_url: str, cookie: Path):
        self.folder, self.node, self.cookie, self.apart = folder, node_url, cookie, False
        folder.mkdir()
        self.secret_file = folder / "passphrase"
        self.secret_file.write_text(f"passphrase of {folder.name}\n")

    def words(self, *arguments):
        common = ["--dir", self.folder / "party", "--node", self.node, "--cookie-file", self.cookie]
        common += ["--passphrase-file", self.secret_file]
        common += ["--yes"] if arguments[0] in ("accept", "sign", "close", "close-sign") else []
        return list(map(str, [*arguments, *common]))

    def run(self, *arguments, code=0):
        words = self.words(*arguments)
        status, out, error = self._apart(words) if self.apart else self._here(words)
        assert status == code, error
        if arguments[0] == "init":
            self.mandate()
        return json.loads(out) if code == 0 else error

    def mandate(self, **changes):
        """Put the owner's mandate in force: everything that these tests trade, and refunds five blocks after expiry."""
        store = PartyStore(self.folder / "party")
        opened = open_keystore(store.keystore_path, self.secret_file.read_text().strip())
        programs = [load_program("option_settlement").program_hash]
        wide = mandate(
            oracles=ORACLES[:1],
            programs=programs,
            refund_delay=Bounds(least=5, most=1_000),
            close=CloseRule.AGREED,
            **changes,
        )
        node, guest = Node(self.node, 20, cookie_file=self.cookie), Guest(load_program("option_settlement"))
        give_mandate(PartyDesk(store, opened, node, guest, fees=FeeRule()), replace(wide, feeds=("BTC-USD",)))
        node.close()

    def ask(self, *arguments, answer):
        """Run a command that asks, and answer."""
        return CliRunner().invoke(party_cli.app, self.words(*arguments), input=answer)

    def _apart(self, words):
        command = [sys.executable, "-m", "btcfi.surfaces.party_cli", *words]
        environment = os.environ | {"NO_COLOR": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
        return done.returncode, done.stdout, done.stderr

    def _here(self, words):
        result = CliRunner().invoke(party_cli.app, words)
        if isinstance(result.exception, BtcfiError):
            return status_of(result.exception).exit_code, result.stdout, f"{result.exception}\n"
        return result.exit_code, result.stdout, repr(result.exception)
