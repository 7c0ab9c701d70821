"""docs/tutorial/first-option.md, typed as it is printed.

In one process against a desk that checks every signature; and by night against ``btcfi up`` itself, in a terminal and
as a browser reads its pages, to a settlement that is verified (``-m slow``).
"""

import html
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from btcfi.adapters import keystore
from btcfi.market.firm_offer import Side
from btcfi.secp256k1 import public_key_xonly
from tests.integration.docs.test_docs_two_parties import DONE, Terminal
from tests.support.accounts import trader
from tests.support.chain import embedded_node
from tests.support.contracts import ORACLES
from tests.support.http_desk import HttpDesk, served
from tests.support.paths import ROOT
from tests.support.stored_contract import dealt
from workers.cli import build
from workers.machine.rows import free_port

pytestmark = pytest.mark.integration

TEXT = (ROOT / "docs/tutorial/first-option.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8000"
NAME = "BTC-29JAN27-60000-C"
KEYS = [public_key_xonly(secret).hex() for secret in ORACLES[:3]]
ASKS = ("btcfi party join", "btcfi party mandate sign", "btcfi market take", "btcfi market sign-in")
SHELL = ("make ", "export ", "mkdir ")


def sessions():
    """Each command of the page, and the lines that the page shows of its answer."""
    for block in re.findall(r"^```console\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            yield command, [line for line in shown if line.strip() not in ("", "…")]


def alike(line):
    """What of a line is the same in every run, as a pattern: numbers, names, hashes and times are not."""
    kept = re.sub(r"[0-9a-f]{6,}|[-+]?\d[\d,.:TZ-]*|bcrt1\w+|BTC-[\w-]+|…|in_the_money", "\0", line.strip())
    words = re.escape(kept).replace("\0", ".*?").replace("EXERCISED", "(?:EXERCISED|ABANDONED)")
    return re.compile(re.sub(r"(?:\\ )+", r"\\s+", words))


def test_each_command_of_the_page_does_what_the_page_says_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keystore, "SCRYPT_N", keystore.LEAST_N)  # ten commands, each with a passphrase
    monkeypatch.setenv("BTCFI_PARTY_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    proof = json.loads(dealt().proof)
    with embedded_node(tmp_path / "chain") as (node, _), served(HttpDesk(map(bytes.fromhex, KEYS))) as desk:
        monkeypatch.setenv("BITCOIN_NODE_URL", node.where)
        monkeypatch.setenv("BITCOIN_COOKIE_FILE", str(tmp_path / "chain" / ".cookie"))
        theirs = trader("maker").offer(NAME, Side.ASK, valid_until=4_000_000_000)
        desk.offers[theirs.offer.id] = theirs
        desk.settlements["st-t1"] = {"state": "confirmed", "proof_root": proof["proof_root"]}, proof
        words = {
            "INSTRUMENT": NAME, "LIMIT": "0.01btc", "OPTION": "t1", "ROOT": proof["proof_root"],
            "CODE": "K7QM-2XHD", URL: desk.url,
        } | {f"KEY{place}": key for place, key in enumerate(KEYS, 1)}  # fmt: skip

        def run(line):
            for old, new in words.items():
                line = re.sub(rf"{re.escape(old)}\b", new, line)
            line = re.sub(r"\$\((.*)\)", lambda found: run(found[1]).stdout.strip(), line)
            done = CliRunner().invoke(build(), shlex.split(line)[1:] + ["--yes"] * line.startswith(ASKS))
            assert done.exit_code == 0, (line, done.output, done.exception)
            return done

        ran = [run(line) for line, _ in sessions() if not line.startswith(SHELL) and not line.endswith("&")]
        assert len(ran) > 10
        assert [signed.take.offer_id for signed in desk.takes] == [theirs.offer.id]
        assert (node.block_count(), "verified: True" in "".join(one.stdout for one in ran)) == (104, True)


def test_the_page_shows_no_key_and_no_id_that_a_reader_could_take_for_its_own():
    for line, _ in sessions():
        assert not re.search(r"[0-9a-f]{16}", line), line


# ---- by night


class Walk:
    """One who follows the page: a terminal, and what a browser shows."""

    def __init__(self, folder, said):
        self.said, self.terminal = said, Terminal(ROOT)
        self.url = re.search(r"desk\s+(http://\S+)/desk", said)[1]
        self.words = dict(
            zip(
                ("NODE", "COOKIE"),
                re.search(r"BITCOIN_NODE_URL=(\S+) BITCOIN_COOKIE_FILE=(\S+)", said).groups(),
                strict=True,
            )
        )
        self.words |= {URL: self.url, "var/me": str(folder / "me"), "$PWD/.venv/bin": str(Path(sys.executable).parent)}
        self.transcript = ""

    def run(self, line):
        for old, new in self.words.items():
            line = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", lambda _, new=new: new, line)
        said = self.terminal.run(line)
        self.transcript += f"$ {line}\n{said}\n"
        return said

    def page(self, path):
        return httpx.get(f"{self.url}{path}", timeout=20).raise_for_status().text

    def code(self):
        """Have the browser show a code."""
        self.browser = httpx.Client(base_url=self.url, timeout=20, follow_redirects=True, headers={"Origin": self.url})
        shown = self.browser.post("/desk/sign-in/code").text
        return re.search(r"btcfi market sign-in ([A-Z0-9]{4}-[A-Z0-9]{4})", shown)[1]

    def let_in(self, digits):
        """Type the digits into the browser, and return the page of positions that it sees."""
        csrf = re.search(r'name="csrf" value="([^"]+)"', self.browser.get("/desk/sign-in").text)[1]
        self.browser.post("/desk/sign-in", data={"csrf": csrf, "digits": digits}).raise_for_status()
        return self.browser.get("/desk/positions").raise_for_status().text

    def ticket(self):
        """Press the ask of a call that is in the money and most of an hour away, and return the ticket's command."""
        market = httpx.get(f"{self.url}/api/v1/market", timeout=20).raise_for_status().json()
        for tab in sorted(set(map(int, re.findall(r"expiry=(\d+)", self.page("/desk/"))))):
            if not 2_400 <= tab - market["slot_unix"] <= 7_200:
                continue
            links = re.findall(
                r'href="(/desk/ticket/BTC-\w+-(\d+)-C[^"]*do=buy[^"]*)"', self.page(f"/desk/?expiry={tab}")
            )
            below = [(int(strike), path) for path, strike in links if int(strike) * 100 < market["spot_cents"]]
            if below:
                shown = self.page(html.unescape(max(below)[1]))
                if found := re.search(r'<code[^>]* id="take-1">([^<]+)</code>', shown):
                    return html.unescape(found[1])
        return None


def until(look, seconds):
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(1.0)
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_leads_from_a_browser_to_a_settlement_that_is_verified(tmp_path):  # noqa: C901 - a page, line by line
    ports = {f"BTCFI_{name}_PORT": str(free_port(0)) for name in ("API", "FLOWER", "METRICS")}
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_URL")} | ports | {"PYTHONPATH": str(ROOT)}
    first = next(line for line, _ in sessions())
    arguments = shlex.split(re.search(r'ARGS="(.*)"', first)[1].replace("var/tutorial", str(tmp_path / "up")))
    with (tmp_path / "said").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", "up", "--pace", "2", *arguments],
            env=environment,
            stdout=log,
            stderr=log,
            cwd=ROOT,
        )
    walk = None
    try:
        said = until(lambda: (text := (tmp_path / "said").read_text()).count("market chain --desk") and text, 240)
        walk = Walk(tmp_path, said)
        for line, shown in list(sessions())[1:]:
            if line.startswith("btcfi market take"):
                command = until(walk.ticket, 120).split()
                assert command[:3] == ["btcfi", "market", "take"]
                walk.words["INSTRUMENT"] = command[3].partition("/")[0]
                walk.words["LIMIT"] = "0.01btc"
            if line.startswith("btcfi market sign-in"):
                walk.words["CODE"] = walk.code()
            want = [alike(one) for one in shown]

            def answered(line=line, want=want):
                answer = walk.run(line)
                good = answer.rstrip().endswith(f"{DONE}-0") and all(one.search(answer) for one in want)
                return answer if good else None

            waits = line.startswith(("btcfi market positions", "btcfi market proof"))
            answer = until(answered, 300) if waits else answered()
            assert answer, walk.transcript[-3_000:]
            if line.startswith("btcfi party join"):
                walk.words |= {
                    f"KEY{n}": key for n, key in enumerate(re.findall(r"--oracle ([0-9a-f]{64})", answer), 1)
                }
            if line.startswith("btcfi market sign-in"):
                assert walk.words["OPTION"] in walk.let_in(
                    "".join(re.search(r"^(\d{4}) (\d{4})\s*$", answer, re.MULTILINE).groups())
                )
            for name, pattern in (("OPTION", r"option: (t\w+)"), ("ROOT", r'"proof_root": "(\w+)"')):
                if found := re.search(pattern, answer):
                    walk.words[name] = found[1]
    finally:
        if walk is not None:
            walk.run("btcfi market takes")  # whose fault it was, if it was any
            if place := os.environ.get("BTCFI_TEST_TRANSCRIPT"):
                (ROOT / place).write_text(walk.transcript)
            walk.terminal.close()
        process.send_signal(signal.SIGINT)
        process.wait(60)
