from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from btcfi.adapters.oracle_network.network_file import NetworkFileError, read_network
from btcfi.adapters.oracle_network.node import IntervalError, NodeSettings, SpeedClock
from btcfi.errors import InvalidInputError, NotFoundError, UnitOutOfRangeError
from btcfi.oracle.consensus import Method
from btcfi.surfaces.oracle_cli import app, parse_slot, read_secret
from btcfi.surfaces.protos import generate
from settings.deployment import Deployment
from tests.support.oracle_support import KRAKEN
from tests.support.paths import ROOT


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_new_network_has_a_secret_key_for_each_node_and_its_public_one_in_the_registry(run, tmp_path: Path) -> None:
    assert run("oracle-init", tmp_path / "net", "--base-url", "http://127.0.0.1:1").exit_code == 0
    network = read_network(tmp_path / "net/network.toml")
    assert {"binance-node", "coinbase-node", "kraken-node", "usdt-node"} < set(network.registry.nodes)
    for node_id in network.registry.nodes:
        file = tmp_path / f"net/{node_id}.key"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert read_secret(file).hex() not in (tmp_path / "net/network.toml").read_text()
    again = run("oracle-init", tmp_path / "net")
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)


def test_a_new_network_registers_the_deployment_s_markets(run, tmp_path: Path) -> None:
    run("oracle-init", tmp_path / "net")
    nodes = read_network(tmp_path / "net/network.toml").registry.nodes.values()
    default = Deployment.model_fields
    assert {str(n.venue) for n in nodes} == {*default["venues"].default, *default["legs"].default}


def test_a_readable_a_missing_or_a_wrong_key_file_is_refused_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "node.key"
    for text, mode in (("aa" * 32, 0o644), ("aa" * 31, 0o600), ("zz" * 32, 0o600), ("00" * 32, 0o600)):
        file.write_text(text)
        file.chmod(mode)
        with pytest.raises(InvalidInputError) as caught:
            read_secret(file)
        assert text not in str(caught.value)
    with pytest.raises(InvalidInputError):
        read_secret(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[nodes.k]\nvenue = 'nowhere'\npublic_key = ''", "venue"),
        ("[nodes.k]\nvenue = 'kraken:BTC/USD'\npublic_key = 'xy'", "nodes.k"),
        ("[nodes.k]\nvenue = 'kraken:BTC/USD'\npublic_key = 'aa'", "nodes"),
        ("nodes = 7", "nodes"),
        ("x = 1", "x"),
        ("x = 1\n[nodes\ny = 2", "line 2"),
        ("GOOD\n[policy]\nopen_second = 3", "policy.open_second"),
        ("GOOD\n[policy]\nopen_seconds = '3'", "policy.open_seconds"),
        ("GOOD\n[consensus]\nmethod = 'mode'", "consensus.method"),
        ("GOOD\n[consensus]\noutlier_bps = 0", "outlier_bps"),
        ("GOOD\n[replay]\nstart = 0", "replay"),
        ("GOOD\n[replay]\nstart = 0\nepoch = 0\nspeed = 0", "replay.speed"),
    ],
)
def test_a_wrong_field_of_a_network_file_is_named_in_one_line(tmp_path: Path, text: str, field: str) -> None:
    file = tmp_path / "network.toml"
    file.write_text(text.replace("GOOD", f"[nodes.k]\nvenue = 'kraken:BTC/USD'\npublic_key = '{'aa' * 32}'"))
    with pytest.raises(InvalidInputError) as caught:
        read_network(file)
    assert field in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_file_gives_rule_policy_and_the_replays_clock(tmp_path: Path) -> None:
    file = tmp_path / "network.toml"
    file.write_text(
        f"[nodes.k]\nvenue = 'kraken:BTC/USD'\npublic_key = '{'aa' * 32}'\n[consensus]\nmethod = 'mean'\n"
        "[policy]\ncommit_reveal = true\n[replay]\nstart = 1000\nepoch = 50.0\nspeed = 10.0\n"
    )
    network = read_network(file)
    assert (network.rule.method, network.rule.thin_bps, network.rule.least_dollar_markets) == (Method.MEAN, 0, 0)
    assert network.policy.commit_reveal
    assert network.clock(lambda: 53.0)() == 1030.0
    assert SpeedClock(0, 0, 2, lambda: 4.0)() == 8.0
    with pytest.raises(NotFoundError):
        read_network(tmp_path / "none.toml")
    file.write_text("[replay]\n")
    with pytest.raises((NetworkFileError, InvalidInputError)):
        read_network(file)


@pytest.mark.parametrize("seconds", [0, 1, 30, 61, -60])
def test_an_interval_that_closed_minutes_cannot_have_is_refused(seconds: int) -> None:
    with pytest.raises(IntervalError):
        NodeSettings(node_id="k", venue=KRAKEN, interval_seconds=seconds)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("oracle-node", "--exchange", "mtgox", "--node-id", "x"), 2),
        (("oracle-node", "--node-id", "x", "--config", "/nonexistent.toml"), 3),
        (("aggregator", "--config", "/nonexistent.toml"), 3),
        (("aggregator", "--config", "{net}", "--tls-key", "/nonexistent"), 2),
        (("aggregator", "--config", "{net}", "--settlement-engine"), 2),
        (("aggregator", "--config", "{net}", "--database", "mysql://x"), 2),
        (("record", "{tmp}", "--venue", "kraken"), 2),
    ],
)
def test_a_wrong_command_is_one_line_and_its_own_exit_code(run, tmp_path: Path, arguments, code: int) -> None:
    run("oracle-init", tmp_path / "net")
    filled = [a.format(net=tmp_path / "net/network.toml", tmp=tmp_path) for a in arguments]
    done = run(*filled)
    assert (done.exit_code, done.stderr.count("\n")) == (code, 1)
    assert done.stderr.startswith("btcfi: ")


def test_minutes_are_unix_seconds_or_iso_with_a_zone() -> None:
    assert parse_slot("2023-03-11T06:00Z") == parse_slot("1678514400") == 1_678_514_400
    for wrong in ("2023-03-11T06:00", "2023-03-11T06:00:30Z", "now", "1678514401"):
        with pytest.raises(InvalidInputError):
            parse_slot(wrong)


def test_the_generated_wire_code_is_what_the_proto_files_give(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", generate.__name__, str(tmp_path)], check=True, cwd=ROOT)
    made = sorted((tmp_path / "btcfi/surfaces/protos").iterdir())
    assert len(made) == 6
    for file in made:
        assert file.read_text() == (generate.HERE / file.name).read_text()


def test_agreeing_on_a_price_loads_no_network_and_no_exchange_client() -> None:
    program = (
        "import sys, btcfi.oracle.consensus, btcfi.oracle.venues, btcfi.oracle.report\n"
        "print(sorted({'ccxt', 'requests', 'socket', 'httpx', 'grpc', 'numba', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_time_within_a_minute_is_no_minute_and_the_refusal_says_which_one_would_be() -> None:
    with pytest.raises(UnitOutOfRangeError) as e:
        parse_slot("1767574410")
    assert str(e.value) == "slot: 1767574410 is not on a minute; expected a multiple of 60 seconds, such as 1767574380"
