"""The embedded node as a process: what survives a kill, who may speak to it, how it ends."""

import base64
import http.client
import json
import os
import re
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from btcfi.adapters.chain.node import (
    MAX_BATCH,
    DatadirInUseError,
    Node,
    NodeRefusedError,
    NodeUnreachableError,
    PortInUseError,
)
from btcfi.adapters.chain.regtest import server
from btcfi.bitcoin.fees import DUST_P2A
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.surfaces.status import status_of
from btcfi.units import Sats
from tests.support.chain import Wallet, embedded_node, end, free_port, output_of, start_embedded

pytestmark = pytest.mark.integration


def payment_of(wallet, coin, fee=1_000):
    outputs = (TxOut(value=Sats(coin.value - fee), script=wallet.key.script),)
    payment = Transaction(version=2, inputs=(TxIn(outpoint=coin.outpoint),), outputs=outputs)
    return payment.with_witness(0, [wallet.key.sign_input(payment, 0, [coin.output])])


def test_a_package_that_replaced_others_is_what_waits_after_a_kill(tmp_path):
    anchor = TxOut(value=DUST_P2A, script=P2A_SCRIPT)
    port = free_port()
    node, process = start_embedded(tmp_path, port)
    try:
        wallet = Wallet(node)
        wallet.fund()
        coins = wallet.coins_for(wallet.key.script, [100_000] * 3)
        old = wallet.spend(coins[:1], anchor, version=3)
        node.send_package([old, wallet.spend([output_of(old), coins[1]], fee=2_000, version=3)])
        new = wallet.spend(coins[:1], anchor, fee=0, version=3)
        child = wallet.spend([output_of(new), coins[2]], fee=6_000, version=3)
        node.send_package([new, child])
        os.kill(process.pid, signal.SIGKILL)
        process.wait(20)
        _, process = start_embedded(tmp_path, port)
        assert node.pool() == [new.txid, child.txid]
    finally:
        node.close()
        end(process)


@pytest.mark.parametrize(
    "flag",
    ["-minrelaytxfee=1", "-minrelaytxfee=x", "-blockmaxweight=7999", "-blockmaxweight=4000001", "-mempooltruc=no"],
)
def test_a_setting_that_a_node_cannot_have_is_refused_at_the_start(tmp_path, flag, capsys):
    with pytest.raises(SystemExit) as error:
        server.main(["--datadir", str(tmp_path), "--port", "0", flag])
    assert error.value.code == 2
    assert flag.partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_chain_and_pool_survive_the_process_and_the_client_reconnects(tmp_path, how):
    port = free_port()
    node, process = start_embedded(tmp_path, port)
    try:
        wallet = Wallet(node)
        wallet.fund()
        (coin,) = wallet.coins_for(wallet.key.script, [100_000])
        payment = payment_of(wallet, coin)
        node.send(payment)
        before = node.chain_info()
        os.kill(process.pid, how)
        assert process.wait(20) == (0 if how == signal.SIGTERM else -signal.SIGKILL)
        with pytest.raises(NodeUnreachableError):
            node.chain_info()
        _, process = start_embedded(tmp_path, port)
        assert node.chain_info() == before
        assert node.pool() == [payment.txid]
        wallet.mine()
        assert node.transaction(payment.txid).confirmations == 1
    finally:
        end(process)
    assert not (tmp_path / ".cookie").exists()


def test_a_torn_last_record_is_cut_off_and_the_rest_stands(tmp_path):
    with embedded_node(tmp_path) as (node, _):
        Wallet(node).mine(5)
    journal = tmp_path / "chain.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-7])
    with embedded_node(tmp_path) as (node, _):
        assert node.block_count() == 4
        Wallet(node).mine()
        assert node.block_count() == 5
    with embedded_node(tmp_path) as (node, _):
        assert node.block_count() == 5


def test_an_invalidation_survives_a_restart(tmp_path):
    with embedded_node(tmp_path) as (node, _):
        wallet = Wallet(node)
        names = wallet.mine(6)
        node.invalidate(names[3])
        assert node.block_count() == 3
    with embedded_node(tmp_path) as (node, _):
        assert node.block_count() == 3
        node.reconsider(names[3])
        assert node.best_block_hash() == names[-1]


def test_a_branch_with_more_work_wins_and_the_loser_can_be_revived(tmp_path):
    with embedded_node(tmp_path) as (node, _):
        wallet = Wallet(node)
        first = wallet.mine(6)
        node.invalidate(first[0])
        wallet.mine(8)
        node.reconsider(first[0])
        assert node.block_count() == 8
        assert node.block_header(first[-1]).confirmations == -1
        assert node.block_header(first[-1]).height == 6


def test_a_port_or_a_directory_in_use_is_one_line_and_the_tables_exit_code(tmp_path):
    assert status_of(PortInUseError(host="h", port=1)).exit_code == server.EXIT_PORT_IN_USE
    assert status_of(DatadirInUseError(Path())).exit_code == server.EXIT_DATADIR_IN_USE
    with embedded_node(tmp_path / "a") as (node, _):
        port = node.where.rpartition(":")[2]
        for datadir, used, code in ((tmp_path / "b", port, 71), (tmp_path / "a", str(free_port()), 73)):
            command = [
                sys.executable,
                "-m",
                "btcfi.adapters.chain.regtest.server",
                "--datadir",
                str(datadir),
                "--port",
                used,
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
        assert node.block_count() == 0  # the running one took no harm


def test_only_who_reads_the_cookie_may_speak(tmp_path):
    with embedded_node(tmp_path) as (node, _):
        cookie = tmp_path / ".cookie"
        assert stat.S_IMODE(cookie.stat().st_mode) == 0o600
        user, password = cookie.read_text().split(":")
        host = node.where.removeprefix("http://")
        assert Node(f"http://{user}:{password}@{host}", 5).block_count() == 0
        for url in (f"http://{user}:wrong@{host}", node.where):
            with pytest.raises(NodeRefusedError) as error:
                Node(url, 5).block_count()
            assert password not in str(error.value)
            assert "wrong" not in str(error.value)
        assert password not in repr(Node(f"http://{user}:{password}@{host}", 5))


def test_batches_keep_their_order_and_errors_stay_with_their_request(tmp_path):
    with embedded_node(tmp_path) as (node, _):
        wallet = Wallet(node)
        names = wallet.mine(MAX_BATCH // 2 + 10)  # two requests a block: more than one batch
        blocks = node.blocks(names)
        assert [block.header.hash for block in blocks] == names
        raw = _post(node, tmp_path, json.dumps([{"method": "getblockcount", "id": "a"}, {"method": "no", "id": 2}, 5]))
        first, second, third = json.loads(raw)
        assert (first["id"], first["result"], first["error"]) == ("a", len(names), None)
        assert (second["id"], second["error"]["code"]) == (2, -32601)
        assert third["error"]["code"] == -32600


def _post(node, datadir, body, method="POST"):
    host, port = node.where.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    token = base64.b64encode((datadir / ".cookie").read_bytes()).decode()
    connection.request(method, "/", body, {"Authorization": f"Basic {token}"})
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    return raw


def test_amounts_are_json_numbers_with_eight_decimals(tmp_path):
    with embedded_node(tmp_path) as (node, _):
        wallet = Wallet(node)
        wallet.mine()
        name = node.best_block_hash()[::-1].hex()
        raw = _post(node, tmp_path, json.dumps({"method": "getblock", "params": [name, 2], "id": 1}))
        assert b'"value":50.00000000,' in raw
        assert re.search(rb'"value":0\.00000000,', raw)


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", "5", '{"method": 5}', '{"method": "getblockhash", "params": [[]]}']
)
def test_nonsense_is_answered_and_the_node_lives_on(tmp_path_factory, body):
    datadir = tmp_path_factory.mktemp("nonsense")
    with embedded_node(datadir) as (node, process):
        _post(node, datadir, body)
        _post(node, datadir, body, method="GET")
        assert node.block_count() == 0
        assert process.poll() is None


def test_many_clients_at_once_each_get_their_own_answer(tmp_path):
    with embedded_node(tmp_path) as (node, _):
        names = Wallet(node).mine(40)

        def ask(number):
            own = Node(node.where, 10, cookie_file=tmp_path / ".cookie")
            return [own.block_hash(number), own.block_hash(number)]

        with ThreadPoolExecutor(8) as pool:
            for number, answer in zip(range(1, 41), pool.map(ask, range(1, 41)), strict=True):
                assert answer == [names[number - 1]] * 2


def test_the_stop_method_ends_the_process_cleanly(tmp_path):
    with embedded_node(tmp_path) as (node, process):
        node.stop()
        assert process.wait(10) == 0
