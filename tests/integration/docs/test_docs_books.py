"""docs/how-to/deal-a-book.md, typed as it is printed: funded, closed early, and once more to its attested end.

What differs is in ``words``, and is no command of it: a minute that is still to come, names of books, and a yes where
no terminal asks. The oracle's minute does not come in a test: what it attests is signed beside its command.
"""

import json
import re
import shlex
import time
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from btcfi.adapters import keystore
from btcfi.bitcoin.address import decode_address
from btcfi.contracts.messages import decode_announcement, encode_attestation
from btcfi.oracle.attestation import attest
from btcfi.surfaces import book_cli, party_cli, payoff_cli
from btcfi.units import CentsPerBtc
from tests.support.chain import Wallet, embedded_node
from tests.support.contracts import MemoryLedger
from tests.support.paths import ROOT
from workers.commands import oracle

pytestmark = pytest.mark.integration

TEXT = (ROOT / "docs/how-to/deal-a-book.md").read_text(encoding="utf-8")
APPS = {"party": party_cli.app, "book": book_cli.app, "payoff": payoff_cli.app, "oracle": oracle.app}
ASKS = ("party mandate sign", "book accept", "book sign", "book close", "book close-sign")


def typed():
    blocks = re.findall(r"^```console\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ btcfi ")]


@pytest.fixture
def scene(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keystore, "SCRYPT_N", keystore.LEAST_N)  # thirty commands, each with a passphrase
    (tmp_path / "words").write_text("a long passphrase\n")
    monkeypatch.setenv("BTCFI_PARTY_PASSPHRASE_FILE", str(tmp_path / "words"))
    (book,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    expiry = datetime.fromtimestamp((int(time.time()) // 60 + 120) * 60, UTC)
    (tmp_path / "book.toml").write_text(book.replace("2027-01-29T08:00:00Z", f"{expiry:%Y-%m-%dT%H:%M:%SZ}"))
    with embedded_node(tmp_path / "chain") as (node, _):
        monkeypatch.setenv("BITCOIN_NODE_URL", node.where)
        monkeypatch.setenv("BITCOIN_COOKIE_FILE", str(tmp_path / "chain" / ".cookie"))
        wallet = Wallet(node)
        wallet.fund()
        yield wallet


def run(line):
    """What a line of the page says."""
    said = shlex.split(line)[1:]
    if line.removeprefix("btcfi ").startswith(ASKS):
        said.append("--yes")
    done = CliRunner().invoke(APPS[said[0]], said[1:])
    assert done.exit_code == 0, (line, done.output, done.exception)
    return done.stdout


def states(side):
    return {one["book"]: one["state"] for one in json.loads(run(f"btcfi book list --dir {side} --json"))["books"]}


def watched(line):
    return {one["contract"]: one for one in json.loads(run(line))["contracts"]}


def test_each_command_of_the_page_does_what_the_page_says_of_it(scene, tmp_path):
    wallet, lines, said = scene, typed(), {}
    held, attests = lines.index("btcfi book list --dir bob"), 1 + lines.index("btcfi book list --dir bob")
    for line in lines[: held + 1]:
        said[line] = run(line)
        if line.startswith("btcfi party address"):
            wallet.coins_for(decode_address(said[line].strip()), [1_000_000, 1_000_000, 200_000])
        if line == "btcfi book sign signatures.json --dir bob":
            wallet.mine()
    shown = said[next(line for line in lines if line.startswith("btcfi book show"))]
    assert "the holder's profit in BTC" in shown
    assert "holder puts in" in shown
    ((first, state),) = states("alice").items()
    assert state == "funded"
    for line in lines:  # a second one, which lives until its oracle attests
        if line.startswith(("btcfi book propose", "btcfi book accept", "btcfi book sign")):
            run(line)
    wallet.mine()
    assert lines[attests].startswith("btcfi oracle attest")
    for line in lines[attests + 2 :]:
        run(line.replace("BOOK", first[:16]))
    made = decode_announcement(json.loads((tmp_path / "announced.json").read_text()))
    signed = attest(
        bytes.fromhex((tmp_path / "oracle.key").read_text().strip()), made,
        made.event.outcome(CentsPerBtc(9_200_000)), MemoryLedger(),
    )  # fmt: skip
    (tmp_path / "said.json").write_text(json.dumps(encode_attestation(signed)))
    expires = json.loads((tmp_path / "proposal.json").read_text())["expiry_height"]
    wallet.mine(expires - wallet.node.block_count())
    (second,) = states("alice").keys() - {first}
    found = watched(lines[attests + 1])
    assert (found[first]["status"], found[second]["action"]) == ("settled", "settle")
    wallet.mine(6)
    for side in ("alice", "bob"):
        assert {one["status"] for one in watched(f"btcfi party watch --dir {side}").values()} == {"settled"}
    assert set(states("alice").values()) == {"ended"}
