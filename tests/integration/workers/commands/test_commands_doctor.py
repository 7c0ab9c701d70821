"""btcfi doctor says what is wrong and what to do, whatever is broken, and never fails itself."""

import json
import os
import subprocess
import sys
import time

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.reading import newest_revision
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.tables import CanaryRow, OutboxRow
from settings.deployment import Deployment
from tests.support.chain import embedded_node
from tests.support.paths import ROOT
from workers import preconditions
from workers.cli import every_command
from workers.commands import doctor, watch
from workers.commands.doctor import checks
from workers.findings import Status, safely
from workers.machine.cluster import Cluster
from workers.machine.rows import free_port


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch):
    for name in ("BROKER_URL", "NODE_URL", "DATABASE_URL", "RESULT_BACKEND_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def deployment(tmp_path):
    made = Deployment(data_dir=tmp_path, flower_port=0, metrics_port=0, api_port=0)
    store = Store(made.database_url)
    store.migrate()
    store.close()
    return made


def found(check):
    return {finding.name: finding for finding in check}


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", "doctor", "--no-network", *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
    )  # fmt: skip


def test_a_new_folder_is_fine_with_warnings_about_what_is_not_started(tmp_path):
    done = run("--json", BTCFI_DATA_DIR=str(tmp_path))
    said = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    status = {check["name"]: check["status"] for check in said["checks"]}
    assert status["database"] == "warn"
    assert status["guests"] == status["python"] == status["preset"] == "ok"
    assert all(check["do"] for check in said["checks"] if check["status"] != "ok")


def test_what_does_not_answer_is_a_failure_with_a_hint_and_without_the_password(tmp_path):
    done = run(
        BTCFI_DATA_DIR=str(tmp_path),
        BROKER_URL="redis://:hunter22@127.0.0.1:1/0",
        NODE_URL="http://u:hunter22@127.0.0.1:1",
    )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    for part in ("broker", "broker key", "node"):
        at = next(i for i, line in enumerate(lines) if line.startswith(f"fail  {part}"))
        assert "->" in lines[at + 1]
    assert "hunter22" not in done.stdout + done.stderr
    assert "3 fail" in done.stderr


def test_a_node_on_another_network_than_the_addresses_is_a_failure_that_says_what_to_set(tmp_path):
    with embedded_node(tmp_path / "chain") as (node, _):
        given = {"data_dir": tmp_path, "node_url": node.where, "node_cookie_file": tmp_path / "chain" / ".cookie"}
        for network, status in (("regtest", Status.OK), ("main", Status.FAIL)):
            finding = found(preconditions.node(Deployment(**given, network=network)))["node"]
            assert finding.status is status, finding
        assert "BTCFI_NETWORK=regtest" in finding.do


def test_a_wrong_setting_is_one_line(tmp_path):
    done = run(BTCFI_DATA_DIR=str(tmp_path), BTCFI_METRICS_PORT="many")
    assert done.returncode == 2
    assert done.stderr.startswith("btcfi: BTCFI_METRICS_PORT")


def test_a_database_at_another_migration_is_named(deployment):
    store = Store(deployment.database_url)
    store.downgrade("0002")
    store.close()
    schema = found(preconditions.database(deployment))["schema"]
    assert schema.status is Status.FAIL
    assert "0002" in schema.said
    assert str(newest_revision()) in schema.said
    assert schema.do == "btcfi migrate"
    store = Store(deployment.database_url)
    assert any("at migration 0002" in problem for problem in watch.look(deployment, store).problems)
    with store.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    assert "migrate" not in found(preconditions.database(deployment))["schema"].do.split()


def test_a_pipeline_that_stands_still_is_found_by_its_canaries_price_and_outbox(deployment):
    now = int(time.time())
    store = Store(deployment.database_url)
    with store.transaction() as session:
        session.add(CanaryRow(queue="settle", seen_at_unix=now - 600))
        session.add(CanaryRow(queue="chain", seen_at_unix=now - 5))
        session.add(OutboxRow(id="1", flow="send", arguments="[]", created_at_unix=now - 60))
        slot = now // 60 * 60 - 1_200
        session.add(
            RoundRow(feed="BTC/USD", slot=slot, state="priced", price_cents=5_000_000, report="{}", deadline_unix=0,
                     opened_at_unix=slot, closed_at_unix=slot)
        )  # fmt: skip
    store.close()
    said = found(doctor.database(deployment))
    assert {name for name, f in said.items() if f.status is Status.FAIL} == {"canaries", "price", "outbox"}
    assert "settle 10 min ago" in said["canaries"].said
    assert "chain" not in said["canaries"].said


def test_keys_that_others_may_read_are_a_failure(deployment):
    seed = deployment.wallet_seed_file
    seed.write_bytes(b"x" * 32)
    seed.chmod(0o600)
    assert found(doctor.key_files(deployment))["key files"].status is Status.OK
    seed.chmod(0o640)
    finding = found(doctor.key_files(deployment))["key files"]
    assert finding.status is Status.FAIL
    assert "chmod 600" in finding.do


@pytest.mark.parametrize("which", ["broker_key_file", "operator_key_file"])
def test_a_broker_s_or_operator_s_key_that_others_may_read_is_said_wherever_it_lies(deployment, tmp_path, which):
    inside = getattr(deployment, which)
    inside.write_text("00" * 32)
    inside.chmod(0o644)
    assert found(doctor.key_files(deployment))["key files"].status is Status.FAIL
    inside.chmod(0o600)
    # as a container has it: a secret that the host keeps in a folder of its own
    elsewhere = tmp_path.parent / f"{tmp_path.name}-secret"
    elsewhere.write_text("00" * 32)
    elsewhere.chmod(0o644)
    there = deployment.model_copy(update={which: elsewhere})
    finding = found(doctor.key_files(there))["key files"]
    assert finding.status is Status.WARN
    assert str(elsewhere) in finding.said
    elsewhere.chmod(0o600)
    assert found(doctor.key_files(there))["key files"].status is Status.OK


def test_a_dependency_that_is_not_the_locked_one_is_named(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "typer==0.0.1 \\\n    --hash=sha256:00\nnot-there==1.0\nonly-elsewhere==1.0 ; sys_platform == 'win32'\n"
    )
    finding = found(doctor.dependencies(lock))["dependencies"]
    assert finding.status is Status.WARN
    assert "locked 0.0.1" in finding.said
    assert "not-there is missing" in finding.said
    assert "only-elsewhere" not in finding.said


def test_two_services_on_one_port_are_a_failure(deployment):
    port = free_port(0)
    clash = deployment.model_copy(update={"flower_port": port, "metrics_port": port})
    assert found(doctor.ports(clash))["ports"].status is Status.FAIL


@pytest.mark.integration
def test_a_broker_that_forgets_is_a_failure(tmp_path):
    with Cluster(
        Deployment(data_dir=tmp_path), embedded_node=False, roles=(), beat=False, run_parties=False
    ) as cluster:
        cluster.start()
        here = cluster.deployment
        assert found(preconditions.broker(here))["broker"].status is Status.OK
        import redis  # noqa: PLC0415 - to break the broker with

        client = redis.Redis(unix_socket_path=here.broker_url.removeprefix("redis+socket://").partition("?")[0])
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert "noeviction" in found(preconditions.broker(here))["broker"].do
        client.config_set("appendonly", "no")
        assert "appendonly yes" in found(preconditions.broker(here))["broker"].do
        client.close()


def test_every_check_has_its_turn_and_none_raises(deployment):
    secret = deployment.model_copy(update={"flower_password": SecretStr("x" * 12)})
    for name, check in checks(secret, network=False):
        for finding in safely(name, check):
            assert finding.status is Status.OK or finding.do


def test_watch_without_a_database_says_so_and_exits_1(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "workers.cli", "watch", "--once"], env={**os.environ, "BTCFI_DATA_DIR": str(tmp_path)},
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "btcfi migrate" in " ".join(done.stdout.split())  # it fills lines of 80


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "120 min"), (7_200, "2 h"), (172_800, "2 d")],
)
def test_a_length_of_time_is_said_in_its_unit(seconds, text):
    assert watch.age(seconds) == text


ANSWERING = {
    "bench", "demo", "doctor", "list", "messages", "requeue", "risk", "settle", "show", "status", "verify", "watch",
}  # fmt: skip
"""Last words of commands whose answer is data."""

ALWAYS_JSON = {"anchor verify", "party status", "party watch"}
"""They print JSON and nothing else."""


def commands():
    """Every command as it is typed, with its options."""
    yield from _walk(every_command(), "")


def _walk(command, name):
    if hasattr(command, "commands"):
        for inner, under in command.commands.items():
            yield from _walk(under, f"{name} {inner}".strip())
    else:
        yield name, {option for parameter in command.params for option in parameter.opts}


def test_whatever_has_an_answer_can_give_it_as_json():
    listed = dict(commands())
    assert "options list" in listed
    assert "keys list" in listed
    answering = {name: options for name, options in listed.items() if name.split()[-1] in ANSWERING}
    assert len(answering) > len(ANSWERING)
    assert {name for name, options in answering.items() if "--json" not in options} == ALWAYS_JSON


FIVE = ("bitfinex:BTC/USD", "bitstamp:BTC/USD", "coinbaseexchange:BTC/USD", "gemini:BTC/USD", "kraken:BTC/USD")


@pytest.mark.parametrize(
    ("preset", "venues", "status"),
    [
        ("standard", FIVE, Status.OK),
        ("standard", FIVE[:4], Status.WARN),
        ("standard", FIVE[:2], Status.FAIL),
        ("standard", (*FIVE[:3], "binance:BTC/USDT", "okx:BTC/USDT"), Status.FAIL),
        ("replay-study", FIVE[:1], Status.OK),
        ("replay-study", ("kraken:BTC/USDC",), Status.FAIL),
    ],
)
def test_venues_by_which_nothing_could_settle_are_a_failure_before_anything_is_sold(deployment, preset, venues, status):
    said = found(preconditions.venues(deployment.model_copy(update={"preset": preset, "venues": venues})))["venues"]
    assert said.status is status
    assert bool(said.do) is (status is not Status.OK)


def test_an_exchange_that_we_cannot_read_is_named_with_its_variable(deployment):
    wrong = deployment.model_copy(update={"venues": (*FIVE, "huobi:BTC/USD"), "legs": ("huobi:USDT/USD",)})
    first, second, *_ = preconditions.venues(wrong)
    assert (first.status, second.status) == (Status.FAIL, Status.FAIL)
    assert "no exchange 'huobi'" in first.said
    assert "BTCFI_VENUES" in first.do
    assert "BTCFI_LEGS" in second.do
