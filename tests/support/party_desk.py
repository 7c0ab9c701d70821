"""One party's commands as a test runs them, and the option that it trades."""

import json
import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from btcfi.errors import BtcfiError
from btcfi.options.terms import OptionKind, OptionTerms
from btcfi.surfaces import party_cli
from btcfi.surfaces.status import status_of
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats, Slot

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
        if arguments[0] in ("offer", "accept", "sign", "watch", "close", "close-sign", "psbt"):
            common += ["--min-refund-delay", "5"]
        return list(map(str, [*arguments, *common]))

    def run(self, *arguments, code=0):
        words = self.words(*arguments)
        status, out, error = self._apart(words) if self.apart else self._here(words)
        assert status == code, error
        return json.loads(out) if code == 0 else error

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
