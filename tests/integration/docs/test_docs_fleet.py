"""docs/how-to/run-a-fleet.md, typed as it is printed: a folder for each machine, a shell for each who types.

What differs from the page is in ``Fleet.words`` and in ``simulation``, and is no command of it: hosts and ports of this
machine, a PostgreSQL that is there already, a simulated market in place of exchanges, and a block every second.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import typer
from sqlmodel import select

from btcfi.adapters.chain.node import Node
from btcfi.adapters.store.options.tables import SettlementRow, SettlementState
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.venues.replay_server import ReplayServer, simulate
from btcfi.errors import BtcfiError
from btcfi.oracle.venues.synthetic import LEGS, MARKETS
from settings.deployment import PREFIX, SECRETS, UNPREFIXED, Deployment, variable
from tests.support.chain import bitcoind_command, free_port
from tests.support.paths import ROOT
from workers.chaos.parallel import own_database
from workers.cli import every_command
from workers.machine.broker import valkey_server

pytestmark = [pytest.mark.integration]

PAGE = ROOT / "docs" / "how-to" / "run-a-fleet.md"
TEXT = PAGE.read_text()
SERVER = os.environ.get("BTCFI_TEST_DATABASE_URL")
STAYS = (
    "valkey-server", "bitcoind", "btcfi serve", "btcfi oracle serve", "btcfi party simulate", "btcfi worker",
    "btcfi beat", "btcfi metrics", "btcfi flower",
)  # fmt: skip
"""Commands that do not end by themselves."""

ASKED_AGAIN = ("btcfi prepare --wait", "btcfi health", "btcfi doctor", "btcfi options", "curl")
"""What somebody who has just started a process asks until the answer is there."""

UsageError = typer.BadParameter.__base__
"""What typer raises for a command line that does not parse."""

DONE = "fleet-step-done"
COMMAND_SECONDS = 240
"""For a command that ends, and for an answer that is asked for again and again."""
SETTLED_SECONDS = 600
PACE_SECONDS = 15
"""Of a simulated minute: an option of four has the time to be funded."""


def walk():
    """Return what the page prints, in order: who types, and the command."""
    lines = [line for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
    return [tuple(re.fullmatch(r"([a-z]+)\$ (.+)", line).groups()) for line in lines]


def fleet_env():
    """Return the environment file that the page prints."""
    (block,) = re.findall(r"```ini\n(.*?)```", TEXT, re.DOTALL)
    return block


def knots_flags():
    """Return what the page says that Bitcoin Knots needs, and Bitcoin Core does not know."""
    (flags,) = re.findall(r"Bitcoin Knots with `([^`]+)`", TEXT)
    return flags


def bare(command):
    """Return a command without what is set for it alone."""
    return re.sub(r"^(?:[A-Z_]+=\S+ )+", "", command)


def parsed(words):
    """Parse a command line of ours by the command that it names, and run nothing. Raises UsageError."""
    command, name, context = every_command(), "btcfi", None
    while True:
        context = command.make_context(name, list(words), parent=context)
        if not hasattr(command, "commands"):
            return context.params
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


def test_every_command_of_ours_parses_with_its_options():
    ours = [shlex.split(bare(command))[1:] for _, command in walk() if bare(command).startswith("btcfi ")]
    assert len(ours) > 25
    for words in ours:
        parsed(words)
    for wrong in (["worker", "settle", "--names", "x"], ["oracle", "serves"], ["health"], ["prepare", "--wait", "x"]):
        with pytest.raises(UsageError):
            parsed(wrong)


def test_every_variable_of_the_page_is_one_that_something_reads():
    known = {variable(name) for name in Deployment.model_fields} | {f"{variable(secret)}_FILE" for secret in SECRETS}
    known |= {"BITCOIN_NODE_URL", "BITCOIN_COOKIE_FILE"}  # of a party: btcfi/surfaces/party/side.py
    named = re.findall(r"(?:^|[ \n])([A-Z][A-Z_]+)=", fleet_env() + "\n".join(command for _, command in walk()))
    assert len(set(named)) > 8
    assert set(named) <= known
    assert all(name.startswith((PREFIX, "BITCOIN_")) or name.removesuffix("_FILE") in _plain() for name in named)


def _plain():
    return {variable(name) for name in UNPREFIXED}


def test_every_process_of_the_table_is_started_and_asked_how_it_does():
    typed = [bare(command) for _, command in walk()]
    rows = re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE)
    processes = [p for row in rows for p in re.findall(r"`(btcfi [a-z ]+)`", row) if p in TEXT.split("## 1.")[0]]
    assert len(processes) >= 10
    for process in processes:
        assert any(one.startswith(process) for one in typed), process
    workers = [one.split() for one in typed if one.startswith("btcfi worker ")]
    asked = {frozenset(one.split()[2:]) - {"--name"} for one in typed if one.startswith("btcfi health ")}
    for _, _, role, *named in workers:
        name = named[1] if named else role
        assert asked & {frozenset({name}), frozenset({role, name})}, name


@pytest.mark.regtest
def test_the_node_knows_every_flag_that_the_page_gives_it():
    node = bitcoind_command() or pytest.skip("no real bitcoind: run .ci/get-bitcoind")
    (command,) = [command for _, command in walk() if command.startswith("bitcoind ")]
    helped = subprocess.run([node, "-help", "-help-debug"], capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r" (-[a-z]+)", command))
    if "Knots" in helped:
        flags |= set(re.findall(r"(-[a-z]+)=", knots_flags()))
    assert len(flags) >= 6
    assert flags <= set(re.findall(r"^  (-[a-z]+)", helped, re.MULTILINE))


class Shell:
    """One who types: a shell with a home of its own, on the machine whose folder it sees."""

    def __init__(self, folder, environment):
        self.folder, self.started = folder, []
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=folder, env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        os.set_blocking(self.process.stdout.fileno(), False)

    def run(self, command):
        """Return the exit code and what was said."""
        self.process.stdin.write(f"{command} </dev/null\necho {DONE}-$?\n".encode())
        self.process.stdin.flush()
        said, deadline = "", time.monotonic() + COMMAND_SECONDS
        while (end := re.search(rf"{DONE}-(\d+)\n", said)) is None:
            assert time.monotonic() < deadline, f"{command} has not ended: {said}"
            said += (self.process.stdout.read() or b"").decode(errors="replace")
            time.sleep(0.02)
        return int(end[1]), said[: end.start()]

    def start(self, command):
        log = self.folder / f"{len(self.started)}-{re.sub(r'[^a-z0-9]+', '-', bare(command)[:40])}.log"
        code, said = self.run(f"{command} >{log} 2>&1 & echo pid-$!; true")
        assert code == 0
        self.started.append((command, psutil.Process(int(re.search(r"pid-(\d+)", said)[1])), log))

    def close(self):
        self.process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


class Fleet:
    """The shells, and how the page's words become this run's."""

    def __init__(self, folder, database_url, market_url):
        self.folder, self.shells, self.database_url = folder, {}, database_url
        self.ports = {p: free_port() for p in (6379, 8332, 9101, 9102, 9103, 8000, 5555, 9464)}
        self.words = {
            "postgresql+psycopg://btcfi:PASSWORD@main/btcfi": database_url,
            "@main:6379": "@127.0.0.1:6379",
            "--bind 0.0.0.0": "--bind 127.0.0.1",
            "BTCFI_MINE_SECONDS=10": "BTCFI_MINE_SECONDS=1",
            "btcfi doctor": "btcfi doctor --no-network",  # no time servers here
        }
        self.simulation = {
            "BTCFI_VENUES": ",".join(str(market.venue) for market in MARKETS), "BTCFI_LEGS": ",".join(map(str, LEGS)),
            "BTCFI_VENUE_BASE_URL": market_url, "BTCFI_VENUE_RATE_LIMIT": "false", "BTCFI_TICK": "false",
            "BTCFI_REPLAY_CLOCK": "true", "BTCFI_CANARY_SECONDS": "2", "BTCFI_SETTLE_CONCURRENCY": "1",
            "BTCFI_API_PORT": str(self.ports[8000]), "BTCFI_FLOWER_PORT": str(self.ports[5555]),
            "BTCFI_METRICS_PORT": str(self.ports[9464]),
        }  # fmt: skip
        bin_ = folder / "bin"
        bin_.mkdir()
        programs = {
            "valkey-server": f'exec {valkey_server()} "$@"',
            "bitcoind": f'exec {bitcoind_command()} "$@"',
            # the page's one file of the environment is copied as it is; of two folders, each machine has its own
            "scp": f"""[[ $1 == -r ]] && shift; cp -rp "${{@#main:}}" || exit 1
[[ ! -f ${{!#}}/fleet.env ]] || sed -i 's#{self.machine("main")}#{self.machine("more")}#' "${{!#}}/fleet.env\"""",
        }  # fmt: skip
        for name, line in programs.items():
            (bin_ / name).write_text(f"#!/bin/bash\n{line}\n")
            (bin_ / name).chmod(0o755)

    def machine(self, who):
        """Return the folder that stands for /srv/btcfi of the machine of ``who``."""
        return self.folder / ("more" if who == "more" else "main") / "btcfi"

    def shell(self, who):
        if who not in self.shells:
            home = self.folder / f"home-{who}"
            home.mkdir()
            self.machine(who).parent.mkdir(exist_ok=True)
            path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
            environment = {"PATH": path, "HOME": str(home), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "TERM": "dumb"}
            ours = self.simulation if who in {"main", "more"} else {}
            self.shells[who] = Shell(home, environment | ours)
        return self.shells[who]

    def translated(self, who, text):
        for old, new in self.words.items():
            text = text.replace(old, new)
        text = text.replace("main:/srv/btcfi", f"main:{self.machine('main')}")
        text = text.replace("/srv/btcfi", str(self.machine(who)))
        return re.sub(r"(?<=[:= ])(\d{4})\b", lambda port: str(self.ports.get(int(port[1]), port[1])), text)

    def typed(self, who, printed):
        """Do what the page prints."""
        command, shell = self.translated(who, printed), self.shell(who)
        if bare(printed).startswith(STAYS):
            if bare(printed).startswith("bitcoind") and "Knots" in shell.run("bitcoind -version")[1]:
                command += f" {knots_flags()}"
            shell.start(command)
            self.listening(command)
            return ""
        deadline = time.monotonic() + COMMAND_SECONDS
        while True:
            code, said = shell.run(command)
            if code == 0:
                return said
            again = printed.startswith(ASKED_AGAIN) and time.monotonic() < deadline
            assert again, f"{who}$ {printed}\n{said}\n{self.logs()}"
            time.sleep(1)

    def listening(self, command):
        """Wait for what the next command of the page needs, as somebody who watches a terminal does."""
        for port in re.findall(r"[- ]port[= ](\d+)|rpcport=(\d+)", command):
            self.until(f"{command} to listen", lambda port=port: _listens(int("".join(port))))
        if command.startswith("bitcoind"):
            self.until("the node's answer", self.node_answers)

    def node_answers(self):
        node = Node(f"http://127.0.0.1:{self.ports[8332]}", 5, cookie_file=self.machine("main") / "chain" / ".cookie")
        try:
            return node.chain_info()
        except BtcfiError:
            return None
        finally:
            node.close()

    def until(self, what, condition, seconds=COMMAND_SECONDS):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited for {what}\n{self.logs()}"
            time.sleep(0.2)
        return found

    def logs(self):
        started = [one for shell in self.shells.values() for one in shell.started]
        tails = (f"--- {command}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-12:])
                 for command, _, log in started)  # fmt: skip
        return "\n".join(tails)

    def stop(self):
        """Tell everything to stop, what others need last; return what did not end."""
        started = [(command, process) for shell in self.shells.values() for command, process, _ in shell.started]
        below = [one for one in started if one[0].startswith(STAYS[:2])]
        left = []
        for some in ([one for one in started if one not in below], below):
            for _, process in some:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.terminate()
            _, slow = psutil.wait_procs([process for _, process in some], timeout=40)
            left += [command for command, process in some if process in slow]
        for shell in self.shells.values():
            shell.close()
        return left


def settlements(database_url):
    """Return the state of every settlement of a store."""
    store = Store(database_url)
    try:
        with store.reading() as session:
            return [row.state for row in session.exec(select(SettlementRow)).all()]
    finally:
        store.close()


def _listens(port):
    return any(one.laddr.port == port and one.status == psutil.CONN_LISTEN for one in psutil.net_connections("tcp"))


@pytest.fixture
def fleet(tmp_path):
    if SERVER is None:
        pytest.skip("no PostgreSQL, which is the fleet's truth: set BTCFI_TEST_DATABASE_URL")
    if bitcoind_command() is None:
        pytest.skip("no real bitcoind: run .ci/get-bitcoind, or set BTCFI_TEST_BITCOIND to its path")
    market = ReplayServer(simulate(1).answer)
    threading.Thread(target=market.serve_forever, daemon=True).start()
    with own_database(SERVER) as url:
        made = Fleet(tmp_path, url, market.base_url)
        try:
            yield made
        finally:
            made.stop()
            market.shutdown()
            market.server_close()


@pytest.mark.slow
@pytest.mark.regtest
@pytest.mark.timeout(1800)
def test_a_fleet_that_is_started_as_printed_sells_and_settles_an_option(fleet):
    for who, printed in walk():
        if printed.startswith("set -a") and who == "main":  # the page's file, before its first reader
            fleet.machine("main").joinpath("fleet.env").write_text(fleet.translated("main", fleet_env()))
        if printed == "btcfi options list":
            break
        fleet.typed(who, printed)
        if printed.endswith("btcfi beat"):  # the minutes of a market that is simulated, which beat would tell of
            fleet.shell(who).start(f"python -m workers.market_process --pace {PACE_SECONDS}")
    settled = fleet.until(
        "the option to be settled",
        lambda: re.search(r"(?i)exercised|abandoned|failed", fleet.typed(who, printed)), SETTLED_SECONDS,
    )  # fmt: skip
    assert settled[0].lower() != "failed"
    assert settlements(fleet.database_url) == [SettlementState.CONFIRMED]
    assert fleet.stop() == []
