"""A regtest chain for tests: our embedded node or a real bitcoind, with one funded deterministic wallet."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from btcfi.adapters.chain.node import Node
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import COINBASE_MATURITY, Coin
from btcfi.errors import NotFoundError, UnreachableError
from btcfi.units import Height, Sats
from tests.support.paths import ROOT

START_SECONDS = 30
SEED = bytes(range(32))

# Knots' defaults differ from Bitcoin Core's in five places that our transactions meet
BITCOIND_FLAGS = (
    "-mempooltruc=enforce",  # version-3 parents without a fee: what Core does by default
    "-datacarriersize=83",  # 80 bytes of OP_RETURN data: Core's limit before 30.0
    "-permitbarepubkey=1",
    "-maxscriptsize=4000000",  # witnesses over 1,650 bytes: Core has no such limit in tapscript
    "-blockprioritysize=0",  # blocks by fee alone: Knots keeps room for old coins' transactions of no fee
    "-fallbackfee=0.0001",
    "-txindex=1",
    "-listen=0",
    "-server=1",
    "-dnsseed=0",
    "-fixedseeds=0",
)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(node, process):
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            node.chain_info()
        except UnreachableError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def end(process):
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start_embedded(datadir: Path, port: int, *flags: str):
    """Start the embedded node and wait until it answers; returns (client, process), both the caller's to end."""
    command = [
        sys.executable, "-m", "btcfi.adapters.chain.regtest.server", "--datadir", str(datadir), "--port", str(port),
        *flags,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    node = Node(f"http://127.0.0.1:{port}", 20, cookie_file=datadir / ".cookie")
    try:
        wait_for(node, process)
    except BaseException:
        node.close()
        end(process)
        raise
    return node, process


@contextmanager
def embedded_node(datadir: Path, *flags: str):
    """Run the embedded node with more flags, those of bitcoind that it knows: ``-minrelaytxfee=0.00002``."""
    node, process = start_embedded(datadir, free_port(), *flags)
    try:
        yield node, process
    finally:
        node.close()
        end(process)


def bitcoind_command():
    """The real node's start script, or None with the reason to print."""
    named = os.environ.get("BTCFI_TEST_BITCOIND")
    if named:
        return named
    unpacked = ROOT / "var" / "bitcoind" / "bitcoind"
    return str(unpacked) if unpacked.exists() else None


@contextmanager
def real_node(datadir: Path, *flags: str):
    """Run bitcoind with more flags; of one given twice, here and in BITCOIND_FLAGS, this one holds."""
    command = bitcoind_command()
    if command is None:
        pytest.skip("no real bitcoind: run .ci/get-bitcoind, or set BTCFI_TEST_BITCOIND to its path")
    port = free_port()
    datadir.mkdir(parents=True, exist_ok=True)
    # the password goes into a file, as in production: arguments are visible to every user of the machine
    (datadir / "bitcoin.conf").write_text(
        f"regtest=1\n[regtest]\nrpcport={port}\nrpcbind=127.0.0.1\nrpcallowip=127.0.0.1\n"
    )
    process = subprocess.Popen(
        [command, f"-datadir={datadir}", *BITCOIND_FLAGS, *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    node = Node(f"http://127.0.0.1:{port}", 30, cookie_file=datadir / "regtest" / ".cookie")
    try:
        wait_for(node, process)
        yield node, process
    finally:
        node.close()
        end(process)


class Wallet:
    """One BIP86 key that owns the mined coins, and keys of others, all from one seed."""

    def __init__(self, node: Node):
        self.node = node
        self.key = wallet_key(SEED, 0)
        self.address = encode_address(self.key.script)
        self._height = 0
        self._coins = []

    def mine(self, blocks=1):
        return self.node.generate(blocks, self.address)

    def fund(self):
        """Mine until 20 coinbases are spendable."""
        start = self.node.block_count()
        self.mine(COINBASE_MATURITY + 20)
        for height in range(start + 1, start + 21):
            transaction = self.node.block(self.node.block_hash(Height(height))).transactions[0]
            self._coins.append((transaction, 0))

    def coins_for(self, script, amounts):
        """Pay ``amounts`` to ``script`` in one confirmed transaction and return the coins."""
        transaction, index = self._coins.pop(0)
        source = transaction.outputs[index]
        outputs = [TxOut(value=Sats(amount), script=script) for amount in amounts]
        rest = source.value - sum(amounts) - 10_000
        assert rest > 0
        outputs.append(TxOut(value=Sats(rest), script=self.key.script))
        payment = Transaction(version=2, inputs=(TxIn(outpoint=transaction.outpoint(index)),), outputs=tuple(outputs))
        payment = payment.with_witness(0, [self.key.sign_input(payment, 0, [source])])
        self.node.send(payment)
        self._coins.append((payment, len(outputs) - 1))
        self.mine()
        return [Coin(outpoint=payment.outpoint(i), output=payment.outputs[i]) for i in range(len(amounts))]

    def spend(self, coins, *outputs, fee=1_000, version=2, sequence=0xFFFFFFFD, lock_time=0):
        """Spend coins of this wallet's key, or anchors, to ``outputs``; what they and the fee leave comes back here."""
        rest = sum(coin.value for coin in coins) - sum(output.value for output in outputs) - fee
        back = (TxOut(value=Sats(rest), script=self.key.script),) if rest else ()
        inputs = tuple(TxIn(outpoint=coin.outpoint, sequence=sequence) for coin in coins)
        made = Transaction(version=version, inputs=inputs, outputs=(*outputs, *back), lock_time=lock_time)
        spent = [coin.output for coin in coins]
        for index, coin in enumerate(coins):
            if coin.output.script == self.key.script:
                made = made.with_witness(index, [self.key.sign_input(made, index, spent)])
        return made

    def confirmations(self, txid):
        try:
            return self.node.transaction(txid).confirmations
        except NotFoundError:
            return None


def output_of(transaction: Transaction, index: int = 0):
    """Return an output as the coin that a child spends."""
    return Coin(outpoint=transaction.outpoint(index), output=transaction.outputs[index])


@contextmanager
def chain(kind: str, datadir: Path, *flags: str):
    with (embedded_node if kind == "embedded" else real_node)(datadir, *flags) as (node, _):
        wallet = Wallet(node)
        wallet.fund()
        yield wallet


KINDS = ["embedded", pytest.param("bitcoind", marks=pytest.mark.regtest)]
"""Parameters of a fixture that runs each test on both nodes."""
