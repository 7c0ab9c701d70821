"""The walk "Two parties by hand" of docs/contract.md, typed as it is printed: a terminal each, real processes."""

import json
import os
import pty
import re
import select
import signal
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.chain import end, free_port, real_node
from tests.support.paths import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PAGE = ROOT / "docs" / "contract.md"
PORT = "18443"
COMMAND_SECONDS = 400
"""A command that waits for the expiry minute takes the longest."""

DONE = "walk-step-done"
PASSPHRASE = "a passphrase that is typed"


def walk():
    """Yield what the section prints, in order: who types, the command, and the lines of its answer."""
    section = re.split(r"\n##+ ", PAGE.read_text().split("\n## Two parties by hand\n")[1])[0]
    for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
        for step in re.split(r"\n(?=[a-z]+\$ )", block.strip()):
            typed, _, answer = step.replace(" \\\n", " ").partition("\n")
            who, _, command = typed.partition("$ ")
            yield who, command, answer


class Terminal:
    """A shell on a terminal of its own, as a person has it: it asks for a passphrase there, and is answered."""

    def __init__(self, folder: Path):
        self.asked = 0
        pid, self._end = pty.fork()
        if pid == 0:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, by all that we start too
            os.chdir(folder)
            # the interpreter that runs this test has the commands beside it
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            environment = {"PATH": path, "HOME": str(folder), "PYTHONPATH": str(ROOT), "TERM": "dumb", "NO_COLOR": "1"}
            os.execvpe("bash", ["bash", "--norc", "--noprofile"], environment)
        self.pid = pid
        self.run(f"stty -echo cols 500; PS1=; PS2=; set +o history; echo {DONE[:4]}-ready", until=f"\n{DONE[:4]}-ready")

    def run(self, command: str, *, until: str = "") -> str:
        """Type a command, answer what it asks, and return what it said; the last line is its exit code."""
        # on one line: asking for a passphrase drops what was typed ahead
        line = command if until else f"{command}{'' if command.endswith('&') else ';'} echo {DONE}-$?"
        os.write(self._end, (line + "\n").encode())
        said, deadline = "", time.monotonic() + COMMAND_SECONDS
        while not (until in said if until else re.search(rf"{DONE}-\d+\r?\n", said)):
            if not select.select([self._end], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"{command}: {said[-2000:]}")
            said += os.read(self._end, 1 << 16).decode(errors="replace")
            if re.search(r"(Passphrase|Repeat for confirmation): $", said):  # what is typed before the space is dropped
                self.asked += 1
                os.write(self._end, PASSPHRASE.encode() + b"\n")
                said += "\n"
            elif said.endswith(" [y/N]: "):
                os.write(self._end, b"y\n")
                said += "\n"
        return said.replace("\r", "")

    def close(self):
        """End the shell and whatever it has started: a node in the foreground outlives a shell that is hung up on."""
        os.kill(self.pid, signal.SIGHUP)
        os.close(self._end)
        left = [one for one in self.processes() if one.pid != self.pid]
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.terminate()
        for one in psutil.wait_procs(left, timeout=10)[1]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        os.waitpid(self.pid, 0)

    def processes(self):
        """Return the processes of its session: it is the session's leader."""
        found = []
        for one in psutil.process_iter():
            with suppress(ProcessLookupError):
                if os.getsid(one.pid) == self.pid:
                    found.append(one)
        return found


@contextmanager
def terminals(folder, names):
    made = {name: Terminal(folder) for name in names}
    try:
        yield made
    finally:
        for one in made.values():
            one.close()


def last_json(text):
    at = re.search(r"^\{", text, re.MULTILINE)
    if at is None:
        return None
    try:
        return json.JSONDecoder().raw_decode(text[at.start() :])[0]
    except ValueError:
        return None


def shape(value):
    """What of an answer is the same in every run: names and words, not hashes, addresses, heights and times."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    if isinstance(value, str):
        return re.sub(r"\b([0-9a-f]{64}|bcrt1\w+|\d{4}-\d\d-\d\dT[\d:]+Z)", "…", value)
    return type(value).__name__


@contextmanager
def chain(kind, folder):
    """Yield how the walk's words become this run's: its port, and with bitcoind where the cookie lies."""
    if kind == "embedded":
        yield {PORT: str(free_port())}
        return
    with real_node(folder / "bitcoind") as (node, process):
        yield {
            f"http://127.0.0.1:{PORT}": node.where,
            "../node/chain/.cookie": str(folder / "bitcoind" / "regtest" / ".cookie"),
        }
        end(process)


def test_a_terminal_leaves_no_process_behind_where_hanging_up_is_ignored_too(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminals(tmp_path, ["node"]) as shells:
            one = shells["node"]
            one.run("trap '' HUP; sleep 600 & sleep 601 & echo start-ed", until="\nstart-ed")
            family = one.processes()
            assert len(family) == 3
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


BY_NIGHT = pytest.mark.skipif(
    "BTCFI_TEST_WALK_ON_BITCOIND" not in os.environ, reason="`make night`: it waits for the option's minute once more"
)


@pytest.mark.parametrize("kind", ["embedded", pytest.param("bitcoind", marks=[pytest.mark.regtest, BY_NIGHT])])
def test_the_walk_runs_as_it_is_printed(kind, tmp_path):
    steps = list(walk())
    assert len(steps) > 30
    transcript = []
    with chain(kind, tmp_path) as words, terminals(tmp_path, {who for who, _, _ in steps}) as shells:
        for who, printed, answer in steps:
            command = printed.split("   #")[0].rstrip()
            for old, new in words.items():
                command = command.replace(old, new)
            if command.startswith("btcfi regtest node"):
                if kind == "embedded":
                    shells[who].run(command, until="height 0")
                continue
            before = shells[who].asked
            said = shells[who].run(command)
            transcript.append(f"{who}$ {printed}\n{said}")
            assert said.rstrip().endswith(f"{DONE}-0"), transcript[-1]
            if command == "btcfi party init":
                assert shells[who].asked == before + 2
            if (expected := last_json(answer)) is not None:
                assert shape(last_json(said)) == shape(expected), transcript[-1]
            for line in answer.splitlines() if expected is None else ():
                assert line.rstrip(" …") in said, transcript[-1]
    if place := os.environ.get("BTCFI_TEST_TRANSCRIPT"):
        Path(place).write_text("".join(transcript))
