"""One party of disputed contracts as a process of its own: its folder and node, and a line of JSON for each step.

``python -m tests.support.dispute_process FOLDER NODE COOKIE``: reads {"do": …} from stdin, answers on stdout.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from btcfi.adapters.chain.node import Node
from btcfi.adapters.keystore import LEAST_N, create_keystore, open_keystore
from btcfi.adapters.party.dispute_desk import DisputeDesk
from btcfi.adapters.party.store import PartyStore
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.transaction import Transaction
from btcfi.disputes.garbled.deal import Kind, Payoff
from btcfi.units import display_txid
from tests.support.dispute_stage import NOW, authority_of, draft_at, lie, mandated
from tests.support.disputing import RANGES, Dispute, secret
from tests.support.paths import ROOT

PASSPHRASE = "a long passphrase"
PAYOFF = Payoff(kind=Kind.PRICE, ranges=RANGES)


class Process:
    """A party's process as its test has it."""

    def __init__(self, folder, node, cookie):
        self.folder = folder
        command = [sys.executable, "-m", "tests.support.dispute_process", str(folder), node.where, str(cookie)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, do, **asked):
        """Ask for a step, and return its answer."""
        self._process.stdin.write(json.dumps({"do": do, **asked}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"{do}: the process ended"
        return json.loads(line)

    @property
    def pid(self):
        return self._process.pid

    @property
    def keystore(self):
        """The party's keys, opened with its passphrase once it has ended."""
        return open_keystore(PartyStore(self.folder).keystore_path, PASSPHRASE)

    def end(self):
        self._process.stdin.close()
        assert self._process.wait(60) == 0


class Party:
    """What the process is."""

    def __init__(self, folder, node):
        self.folder, self.node, self.oracles = folder, node, Dispute()
        self.store = PartyStore(folder)
        self.keystore = create_keystore(self.store.keystore_path, PASSPHRASE, cost=LEAST_N)
        self.wallet = PartyWallet(self.store, self.keystore, node)
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        self.desk = DisputeDesk(
            self.store, self.keystore, node, wallet=self.wallet, clock=lambda: NOW, runtime=runtime,
            authority=authority_of(mandated(self.oracles), node, lambda: self.desk.files),
        )  # fmt: skip

    def script(self, _asked):
        return self.wallet.script.hex()

    def propose(self, asked):
        draft = draft_at(self.node.block_count(), self.oracles, PAYOFF, premium=asked["premium"])
        return self.desk.propose(draft, identity_secret=secret("identity", str(self.folder)))

    def accept(self, asked):
        return self.desk.accept(asked["message"], self.oracles.announcements)

    def sign(self, asked):
        answer = self.desk.sign(asked["message"], identity_secret=secret("identity", str(self.folder)))
        return display_txid(answer.txid) if isinstance(answer, Transaction) else answer

    def attest(self, asked):
        return [self.desk.keep(one) for event in self.oracles.attestations(asked["outcomes"]) for one in event.values()]

    def lie(self, asked):
        return display_txid(lie(self.desk, asked["name"], asked["number"]).txid)

    def watch(self, _asked):
        return {
            one.name: {
                "sent": one.sent, "problem": one.problem, "stage": one.position.stage.value,
                "verdict": None if one.verdict is None else one.verdict.value, "number": one.position.number,
            }
            for one in self.desk.watch()
        }  # fmt: skip


def main():
    folder, url, cookie = sys.argv[1:]
    Path(folder).mkdir(mode=0o700)
    party = Party(Path(folder), Node(url, 60, cookie_file=Path(cookie)))
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(getattr(party, asked["do"])(asked)), flush=True)


if __name__ == "__main__":
    main()
