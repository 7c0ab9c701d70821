"""docs/how-to/trade-with-strangers.md, typed as it is printed, against a desk that checks every signature.

What differs is in ``words``, and is no command of it: names of the desk, keys, offers and an instrument that has not
expired, and a yes where no terminal asks. What does not end by itself is left to the tests of running parties.
"""

import re
import shlex

import pytest
from typer.testing import CliRunner

from btcfi.adapters import keystore
from btcfi.market.firm_offer import Side
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces import market_cli, party_cli
from tests.support.accounts import trader
from tests.support.chain import embedded_node
from tests.support.contracts import ORACLES
from tests.support.http_desk import HttpDesk, served
from tests.support.paths import ROOT

pytestmark = pytest.mark.integration

TEXT = (ROOT / "docs/how-to/trade-with-strangers.md").read_text(encoding="utf-8")
APPS = {"party": party_cli.app, "market": market_cli.app}
STAYS = ("btcfi party run", "btcfi maker run", "btcfi party watch")
NAME = "BTC-29JAN27-60000-C"
KEYS = [public_key_xonly(secret) for secret in ORACLES]
ASKS = ("party join", "party mandate sign", "market offer ", "market take ")


def typed():
    blocks = re.findall(r"^```console\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def words(line, desk):
    """What is typed for a line of the page."""
    line = re.sub(r"KEY(\d)", lambda found: KEYS[int(found[1]) - 1].hex(), line).replace("DESK", desk.url)
    line = line.replace("BTC-27NOV26-61500-P", NAME).replace("REQUEST", next(iter(desk.requests), "")[:16])
    line = line.replace("BTC-27NOV26-60000-C", NAME).replace("2026-11-27T08:00Z", "2027-01-29T08:00Z")
    if re.search(r"\bOFFER\b", line):
        others = "/OFFER" in line
        mine = next(i for i, one in desk.offers.items() if (one.offer.maker == trader("maker").identity) is others)
        line = re.sub(r"\bOFFER\b", mine.hex()[:16], line)
    asks = any(line.startswith(f"btcfi {one}") for one in ASKS)
    return shlex.split(line)[1:] + (["--yes"] if asks else [])


def test_each_command_of_the_page_does_what_the_page_says_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keystore, "SCRYPT_N", keystore.LEAST_N)  # twenty commands, each with a passphrase
    (tmp_path / "words").write_text("a long passphrase\n")
    monkeypatch.setenv("BTCFI_PARTY_PASSPHRASE_FILE", str(tmp_path / "words"))
    with embedded_node(tmp_path / "chain") as (node, _), served(HttpDesk(KEYS[:3])) as desk:
        monkeypatch.setenv("BITCOIN_NODE_URL", node.where)
        monkeypatch.setenv("BITCOIN_COOKIE_FILE", str(tmp_path / "chain" / ".cookie"))
        theirs = trader("maker").offer(NAME, Side.ASK, valid_until=4_000_000_000)
        desk.offers[theirs.offer.id] = theirs
        done = []
        for line in typed():
            if line.startswith(("export ", *STAYS)):
                continue
            said = words(line, desk)
            result = CliRunner().invoke(APPS[said[0]], said[1:])
            assert result.exit_code == 0, (line, result.output, result.exception)
            done.append(line)
        (account,) = desk.accounts.values()
        assert account.registration.name == "alice"
        assert [signed.take.offer_id for signed in desk.takes] == [
            theirs.offer.id
        ] * 2  # from the book, and of an answer
        assert list(desk.offers.values()) == [theirs]  # ours are withdrawn
        assert desk.requests == {}
    assert len(done) > 12


def test_no_coin_is_asked_for_before_the_desk_s_network_was_compared_and_none_of_value():
    """What is paid to an address of the wrong chain stays there: the folder's node does not see it."""
    assert TEXT.index("$ btcfi party join") < TEXT.index("$ btcfi party address") < TEXT.index("$ btcfi party run")
    assert ":8332" not in TEXT
    assert "~/.bitcoin/.cookie" not in TEXT
