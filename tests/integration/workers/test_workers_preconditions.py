"""Every precondition is broken once, is found, and the line that says what to do is done as it says: then it holds."""

import contextlib
import http.client
import json
import os
import re
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import redis
from sqlalchemy import text

from btcfi.adapters.desk_key import make_desk_key
from btcfi.adapters.store.chain.tables import CoinState, WalletOutpointRow
from btcfi.adapters.store.chain.wallet import SERVICE
from btcfi.adapters.store.market.accounts import register
from btcfi.adapters.store.spine.database import Store, known_revisions
from btcfi.adapters.store.spine.errors import StoreDamagedError
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.keys import wallet_key
from btcfi.errors import PreconditionError
from btcfi.surfaces.status import status_of
from settings.deployment import Deployment, load_deployment
from tests.support.accounts import trader
from tests.support.chain import bitcoind_command, embedded_node, real_node
from workers import cli, preconditions, seal
from workers.findings import Status, safely
from workers.machine import parties
from workers.machine.cluster import Cluster
from workers.preconditions import CHAIN, PREPARE, SETTLE, TABLE, require

ROWS = {row.name: row for row in TABLE}


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch, tmp_path):
    for name in ("BROKER_URL", "NODE_URL", "DATABASE_URL", "RESULT_BACKEND_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BTCFI_DATA_DIR", str(tmp_path / "var"))


@pytest.fixture
def btcfi(monkeypatch, capsys):
    """A command as the line says it, with the variables before it; returns its exit code and what it said."""

    def run(line):
        words = line.split()
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            monkeypatch.setenv(name, value)
        assert words[0] == "btcfi"
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, capsys.readouterr()

    return run


@pytest.fixture
def migrated(tmp_path):
    folder = tmp_path / "var"
    folder.mkdir(mode=0o700)
    made = Deployment(data_dir=folder)
    with contextlib.closing(Store(made.database_url)) as store:
        store.migrate()
    return made


def found(name, deployment):
    return list(safely(name, lambda: ROWS[name].check(deployment)))


def broken(name, deployment, status=Status.FAIL):
    """Return the one finding that something is wrong."""
    (wrong,) = [one for one in found(name, deployment) if one.status is not Status.OK]
    assert wrong.status is status
    assert wrong.do
    return wrong


def holds(name, deployment):
    return all(one.status is Status.OK for one in found(name, deployment))


# ---- settings and exchanges


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("BTCFI_VENUE", "BTCFI_VENUES"), ("BTCFI_API_PROT", "BTCFI_API_PORT"), ("DATABSE_URL", "DATABASE_URL"),
        ("BROKER_ULR", "BROKER_URL"), ("NODE_ULR", "NODE_URL"), ("DATABASE_URI", "DATABASE_URL"),
        ("BROKER_URL_FIEL", "BROKER_URL_FILE"),
    ],
)  # fmt: skip
def test_a_setting_that_is_misspelt_is_named_with_the_one_it_is_like(monkeypatch, migrated, wrong, right):
    monkeypatch.setenv(wrong, "8001")
    do = broken("settings", migrated).do
    assert re.findall(r"[A-Z_]{8,}", do) == [wrong, right]
    monkeypatch.delenv(wrong)
    assert holds("settings", migrated)


def test_a_setting_that_is_like_none_is_named_too(monkeypatch, migrated):
    monkeypatch.setenv("BTCFI_COLOUR_OF_THE_MOON", "blue")
    do = broken("settings", migrated, Status.WARN).do
    monkeypatch.delenv(re.search(r"unset (\w+)", do)[1])
    assert holds("settings", migrated)


def test_a_name_of_somebody_else_s_beside_the_right_one_is_not_ours_to_judge(monkeypatch, migrated):
    monkeypatch.setenv("DATABASE_URL2", "postgresql://elsewhere/other")
    broken("settings", migrated)
    monkeypatch.setenv("DATABASE_URL", migrated.database_url)
    assert holds("settings", migrated)


@pytest.mark.parametrize(
    ("variable", "wrong"),
    [("BTCFI_PRESET", "standart"), ("BTCFI_PRESET", "zzz"), ("BTCFI_PROGRAM", "option_settlment")],
)
def test_a_preset_or_a_program_that_is_not_there_is_mended_by_the_name_of_the_line(
    monkeypatch, migrated, variable, wrong
):
    monkeypatch.setenv(variable, wrong)
    finding = broken("settings", load_deployment())
    assert (wrong in finding.said, "there are" in finding.do) == (True, True)
    monkeypatch.setenv(*re.search(r"(BTCFI_\w+)=(\w+)", finding.do).groups())
    assert (holds("settings", load_deployment()), holds("venues", migrated)) == (True, True)


@pytest.mark.parametrize(
    ("name", "value"), [("BROKER_ULR", "redis://127.0.0.1:1/0"), ("BTCFI_PRESET", "standart"), ("BTCFI_API_PROT", "1")]
)
def test_prepare_makes_nothing_of_a_misspelt_setting(btcfi, tmp_path, name, value):
    code, said = btcfi(f"{name}={value} btcfi prepare")
    assert (code, name in said.err, "fail  settings" in said.err) == (78, True, True)
    assert list(tmp_path.iterdir()) == []


def test_prepare_says_in_which_folder(btcfi, tmp_path):
    code, said = btcfi("btcfi prepare")
    assert (code, f"data in {tmp_path}/var\n" in said.err) == (0, True)


def test_every_variable_of_ours_that_the_code_names_is_known_to_the_check():
    root = Path(cli.__file__).resolve().parents[1]
    named = set()
    for package in ("btcfi", "tasks", "workers", "settings", "dashboards"):
        for file in (root / package).rglob("*.py"):
            named |= set(re.findall(r"\"(BTCFI_[A-Z0-9_]+)\"", file.read_text(encoding="utf-8")))
    strangers = named - preconditions._known_variables()
    assert {name for name in strangers if not name.startswith(preconditions.OTHERS)} == set()


@pytest.mark.parametrize("field", ["venues", "legs"])
def test_an_exchange_that_nobody_knows_is_named_with_its_variable(monkeypatch, migrated, field):
    wrong = {"venues": (*migrated.venues, "huobbi:BTC/USD"), "legs": ("huobbi:USDT/USD",)}[field]
    finding = broken("venues", migrated.model_copy(update={field: wrong}))
    variable = re.search(r"BTCFI_\w+", finding.do)[0]
    monkeypatch.setenv(variable, ",".join(getattr(migrated, field)))
    assert holds("venues", load_deployment())


@pytest.mark.parametrize(("many", "status"), [(2, Status.FAIL), (4, Status.WARN)])
def test_too_few_dollar_markets_are_mended_by_more(monkeypatch, migrated, many, status):
    dollars = [one for one in migrated.venues if one.endswith("/USD")]
    monkeypatch.setenv("BTCFI_VENUES", ",".join(dollars[:many]))
    finding = broken("venues", load_deployment(), status)
    monkeypatch.setenv(re.search(r"BTCFI_\w+", finding.do)[0], ",".join(dollars))
    assert holds("venues", load_deployment())


# ---- the database


def test_a_database_that_is_not_there_or_old_is_made_by_the_command_of_the_line(btcfi):
    for _ in range(2):
        deployment = load_deployment()
        wrong = [one for one in found("database", deployment) if one.status is not Status.OK]
        assert "btcfi migrate" in wrong[0].do
        assert btcfi("btcfi migrate")[0] == 0
        assert holds("database", deployment)
        with contextlib.closing(Store(deployment.database_url)) as store:
            store.downgrade("0005")


def test_code_that_is_older_than_its_store_is_told_to_be_newer(monkeypatch, migrated):
    with contextlib.closing(Store(migrated.database_url)) as store, store.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert "as new" in broken("database", migrated).do
    monkeypatch.setattr(preconditions, "known_revisions", lambda: ("9999", *known_revisions()))
    assert holds("database", migrated)


def backed_up(btcfi, tmp_path):
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery staple\n")
    parties.prepare(load_deployment())
    line = f"btcfi backup {tmp_path}/backup.tar --passphrase-file {secret}"
    assert btcfi(line)[0] == 0
    return lambda do: (
        re.search(r"BTCFI_DATA_DIR=FOLDER btcfi restore FILE", do)[0]
        .replace("FOLDER", f"{tmp_path}/restored")
        .replace("FILE", f"{tmp_path}/backup.tar --passphrase-file {secret}")
    )


def test_what_is_damaged_or_lost_comes_back_by_the_restore_of_the_line(btcfi, migrated, tmp_path):
    restore = backed_up(btcfi, tmp_path)
    kept = min(migrated.nodes_dir.glob("*.key"))
    kept.rename(tmp_path / "elsewhere")
    lost = broken("keys", migrated)
    assert kept.stem in lost.said
    Path(migrated.database_url.removeprefix("sqlite:///")).write_bytes(b"garbage " * 1_000)
    damaged = broken("database", migrated)
    assert isinstance(damaged.error, StoreDamagedError)
    assert restore(damaged.do) == restore(lost.do)
    code, said = btcfi(restore(damaged.do))
    assert code == 0, said
    again = load_deployment()
    assert again.data_dir == tmp_path / "restored"
    assert holds("database", again)
    assert holds("keys", again)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a while")
def test_a_database_of_another_user_is_mended_by_its_mode(migrated):
    with tempfile.TemporaryDirectory() as place:  # below a folder that others may enter
        folder, nobody = Path(place) / "var", 65_534
        Path(place).chmod(0o755)
        migrated.data_dir.rename(folder)
        inside = [folder, *folder.iterdir()]
        for path in inside:
            os.chown(path, nobody, nobody)
            path.chmod(0o555 if path.is_dir() else 0o444)
        here = Deployment(data_dir=folder)
        os.seteuid(nobody)
        try:
            finding = broken("database", here)
            mode = re.search(r"chmod (u\+w)", finding.do)[1]
            for path in inside:
                path.chmod(path.stat().st_mode | {"u+w": 0o200}[mode])
            assert holds("database", here)
        finally:
            os.seteuid(0)


# ---- the wallet


def with_coin(deployment, outpoint, seed=b"\x07" * 32):
    deployment.wallet_seed_file.write_bytes(seed)
    with contextlib.closing(Store(deployment.database_url)) as store, store.transaction() as session:
        session.add(
            WalletOutpointRow(
                outpoint=outpoint, party=SERVICE, value_sats=50_000, state=str(CoinState.AVAILABLE), height=1,
                mature_height=1,
            )
        )  # fmt: skip


def test_a_seed_that_is_gone_while_the_store_has_coins_is_no_first_start(btcfi, migrated, tmp_path):
    with_coin(migrated, "ab" * 32 + ":0")
    assert holds("wallet", migrated)
    migrated.wallet_seed_file.rename(tmp_path / "kept.seed")
    finding = broken("wallet", migrated)
    code, said = btcfi("btcfi prepare")
    assert code == 78
    assert "wallet" in said.err
    assert not migrated.wallet_seed_file.exists()  # nothing was made in its place
    name = re.search(r"BTCFI_\w+", finding.do)[0]
    assert btcfi(f"{name}={tmp_path}/kept.seed btcfi prepare")[0] == 0
    assert holds("wallet", load_deployment())


def test_a_seed_of_another_wallet_is_found_by_what_the_coins_pay(migrated, tmp_path):
    with embedded_node(tmp_path / "chain") as (node, _):
        here = migrated.model_copy(update={"node_url": node.where, "node_cookie_file": tmp_path / "chain" / ".cookie"})
        block = node.generate(1, encode_address(wallet_key(b"\x07" * 32, 0).script))[0]
        coinbase = node.block(block).transactions[0]
        with_coin(here, str(coinbase.outpoint(0)))
        assert holds("wallet", here)
        here.wallet_seed_file.write_bytes(b"\x08" * 32)
        assert str(here.wallet_seed_file) in broken("wallet", here).do
        with pytest.raises(PreconditionError) as refused:
            require(here, CHAIN, lambda _: None)
        assert status_of(refused.value).exit_code == 78
        here.wallet_seed_file.write_bytes(b"\x07" * 32)
        assert holds("wallet", here)


# ---- the market


def test_a_desk_s_key_that_is_gone_while_accounts_have_joined_by_it_is_no_first_start(btcfi, migrated, tmp_path):
    public = make_desk_key(migrated.desk_key_file).public
    with contextlib.closing(Store(migrated.database_url)) as store, store.transaction() as session:
        register(session, trader("ada").registered(desk=public.desk_key), now=store.now())
    assert holds("desk", migrated)
    migrated.desk_key_file.rename(tmp_path / "kept.key")
    finding = broken("desk", migrated)
    code, said = btcfi("btcfi prepare")
    assert code == 78
    assert "desk" in said.err
    assert not migrated.desk_key_file.exists()  # nothing was made in its place
    make_desk_key(migrated.desk_key_file)
    assert "another key" in broken("desk", migrated).said
    name = re.search(r"BTCFI_\w+", finding.do)[0]
    assert btcfi(f"{name}={tmp_path}/kept.key btcfi prepare")[0] == 0
    assert holds("desk", load_deployment())


# ---- broker


@pytest.mark.integration
def test_a_broker_that_takes_nothing_is_mended_by_the_commands_of_its_lines(tmp_path):
    bare = Cluster(Deployment(data_dir=tmp_path / "c"), embedded_node=False, roles=(), beat=False, run_parties=False)
    with bare as cluster:
        cluster.start()
        here = cluster.deployment
        with contextlib.closing(
            redis.Redis(unix_socket_path=here.broker_url.removeprefix("redis+socket://").partition("?")[0])
        ) as client:
            for name, wrong in (("maxmemory", 1), ("maxmemory-policy", "allkeys-lru"), ("appendonly", "no")):
                assert holds("broker", here)
                client.config_set(name, wrong)
                command = re.search(r"CONFIG SET ([\w-]+) (\w+)", broken("broker", here).do)
                client.config_set(command[1], command[2])
            while client.info("persistence")["aof_rewrite_in_progress"]:  # it ends by a signal only after that
                time.sleep(0.05)
            assert holds("broker", here)
            client.execute_command("REPLICAOF", "127.0.0.1", "1")  # a replica of somebody: it takes no writes
            finding = broken("broker", here)
            assert "takes no message" in finding.said
            assert "name the primary in BROKER_URL" in finding.do
            client.execute_command("REPLICAOF", "NO", "ONE")
            assert holds("broker", here)


# ---- node


def at(node, folder, deployment, **more):
    return deployment.model_copy(update={"node_url": node.where, "node_cookie_file": folder / ".cookie", **more})


@pytest.mark.parametrize("policy", ["accept", "reject"])
def test_a_node_that_does_not_enforce_truc_is_no_node_for_a_chain_worker(migrated, tmp_path, policy):
    folder = tmp_path / "chain"
    with embedded_node(folder, f"-mempooltruc={policy}") as (node, _):
        here = at(node, folder, migrated)
        finding = broken("node", here)
        assert "truc_policy" in finding.said
        said = []
        with pytest.raises(PreconditionError) as refused:
            require(here, CHAIN, said.append)
        assert status_of(refused.value).exit_code == 78
        assert finding in said
        require(here, SETTLE, said.append)  # it never sends: what is wrong is said by who needs it
    flags = re.findall(r"-\w+=\w+", finding.do)
    with embedded_node(folder, *flags) as (node, _):
        assert holds("node", at(node, folder, migrated))


@pytest.mark.regtest
@pytest.mark.skipif(bitcoind_command() is None, reason="no real bitcoind: run .ci/get-bitcoind")
@pytest.mark.parametrize("wrong", ["-mempooltruc=accept", "-mempooltruc=reject", "-datacarrier=0"])
def test_a_real_node_of_another_policy_is_mended_by_the_flags_of_the_line(migrated, tmp_path, wrong):
    with real_node(tmp_path / "wrong", wrong) as (node, _):
        finding = broken("node", at(node, tmp_path / "wrong" / "regtest", migrated))
    with real_node(tmp_path / "right", *re.findall(r"-\w+=\w+", finding.do)) as (node, _):
        assert holds("node", at(node, tmp_path / "right" / "regtest", migrated))


def test_a_node_of_another_network_is_mended_by_the_setting_of_the_line(monkeypatch, migrated, tmp_path):
    with embedded_node(tmp_path / "chain") as (node, _):
        finding = broken("node", at(node, tmp_path / "chain", migrated, network="main"))
        name, value = re.search(r"(BTCFI_NETWORK)=(\w+)", finding.do).groups()
        monkeypatch.setenv(name, value)
        assert holds("node", at(node, tmp_path / "chain", load_deployment()))


@contextlib.contextmanager
def older_node(node, cookie):
    """A node as Bitcoin Core 25 was to us: the same, without ``submitpackage``."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = json.loads(body)
            if isinstance(asked, dict) and asked["method"] == "submitpackage":
                error = {"code": -32601, "message": "Method not found"}
                status, answer = 404, json.dumps({"result": None, "error": error, "id": asked["id"]}).encode()
            else:
                inner = http.client.HTTPConnection(node.where.removeprefix("http://"))
                inner.request("POST", "/", body, {"Authorization": self.headers["Authorization"]})
                given = inner.getresponse()
                status, answer = given.status, given.read()
                inner.close()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"node_url": f"http://127.0.0.1:{server.server_port}", "node_cookie_file": cookie}
        server.shutdown()


def test_a_node_without_packages_is_replaced_by_a_newer_one(migrated, tmp_path):
    folder = tmp_path / "chain"
    with embedded_node(folder) as (node, _):
        with older_node(node, folder / ".cookie") as old:
            finding = broken("node", migrated.model_copy(update=old))
            assert "submitpackage" in finding.said
            assert "28.0 or newer" in finding.do
        assert holds("node", at(node, folder, migrated))


# ---- who is stopped, and by what


def test_a_worker_ends_with_the_exit_code_of_what_stops_it(btcfi, migrated, monkeypatch):
    monkeypatch.setenv("BROKER_URL", "redis://127.0.0.1:1/0")
    seal.prepare(migrated)
    with contextlib.closing(Store(migrated.database_url)) as store:
        store.downgrade("0005")
    code, said = btcfi("btcfi worker settle")
    assert code == 2
    assert "btcfi migrate" in said.err
    Path(migrated.database_url.removeprefix("sqlite:///")).write_bytes(b"garbage " * 1_000)
    code, said = btcfi("btcfi worker settle")
    assert code == 65
    assert "restore" in said.err


def test_what_may_pass_by_itself_stops_no_worker_and_is_said(migrated):
    away = migrated.model_copy(
        update={"broker_url": "redis://127.0.0.1:1/0", "node_url": "http://u:hunter22@127.0.0.1:1"}
    )
    said = []
    seal.prepare(migrated)
    require(away, CHAIN, said.append)
    assert {one.name for one in said} == {"broker", "node"}
    assert "hunter22" not in str(said)


def test_every_row_is_looked_at_by_the_doctor_and_matters_to_somebody():
    assert [name for name, _ in preconditions.checks(Deployment())] == [row.name for row in TABLE]
    assert all(row.needs for row in TABLE)
    assert {row.name for row in preconditions.rows_for(PREPARE)} >= {"settings", "broker", "clocks", "keys", "node"}
    for role in preconditions.WORKERS:
        assert {row.name for row in preconditions.rows_for(role)} >= {"settings", "broker", "database", "clocks"}
