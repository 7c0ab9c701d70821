"""``btcfi maker quotes``: what would be quoted, from a folder that has joined a desk, without posting anything."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from btcfi.adapters.keystore import LEAST_N, create_keystore
from btcfi.adapters.party.identity import IDENTITY_FILE
from btcfi.adapters.party.owner import Owner
from btcfi.adapters.party.store import PartyStore
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.wallet import COINBASE_MATURITY
from btcfi.contracts.mandate import sign_mandate
from btcfi.contracts.mandate_drafts import careful_mandate, simulation_mandate
from btcfi.contracts.messages import Role
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces import maker_cli, party_cli
from tests.support.chain import embedded_node
from tests.support.contracts import ORACLES
from tests.support.http_desk import SPOT, HttpDesk, served

pytestmark = pytest.mark.integration

NAMES = ("BTC-29JAN27-60000-C", "BTC-29JAN27-70000-C", "BTC-29JAN27-70000-P")
WORDS = "a long passphrase"
NOW = 1_796_000_040


class QuotedDesk(HttpDesk):
    """A desk that lists three instruments and says what the market is."""

    status = "trading"

    def get_market(self, *_):
        return 200, {
            "spot_cents": SPOT, "slot_unix": NOW, "volatility_30d": 0.55, "market_status": self.status, "samples": 9,
        }  # fmt: skip

    def get_instruments(self, *_):
        return 200, {"items": [{"name": name} for name in NAMES]}

    def get_positions(self, *_):
        return 200, {"items": [], "next_cursor": None}

    def get_offers(self, *_):
        return 200, {"items": [], "next_cursor": None}


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """Give a folder that has joined a desk and has coins, the desk, and how a maker's command is run from it."""
    folder = tmp_path_factory.mktemp("maker")
    party = folder / "party"
    party.mkdir()
    (party / "words").write_text(WORDS + "\n")
    with embedded_node(folder) as (node, _), served(QuotedDesk([public_key_xonly(ORACLES[0])])) as desk:
        keystore = create_keystore(party / "keystore.json", WORDS, cost=LEAST_N)
        identity = create_keystore(party / IDENTITY_FILE, WORDS, cost=LEAST_N)
        store = PartyStore(party)
        owner, secret = Owner(store, keystore), identity.identity_secret()
        owner.adopt(public_key_xonly(secret))
        given = {
            "now": NOW, "network": "regtest", "programs": [b"p" * 32], "oracle_keys": [public_key_xonly(ORACLES[0])],
            "threshold": 1,
        }  # fmt: skip
        node.generate(COINBASE_MATURITY + 2, PartyWallet(store, keystore, node).address())
        side = [
            "--dir", str(party), "--passphrase-file", str(party / "words"), "--node", node.where,
            "--cookie-file", str(folder / ".cookie"),
        ]  # fmt: skip

        def run(app, *words):
            return CliRunner().invoke(app, [*map(str, words), *side])

        assert run(maker_cli.app, "quotes").exception.__class__ is NotFoundError  # before it has joined
        assert run(party_cli.app, "join", desk.url, "--name", "maker-one", "--yes").exit_code == 0
        narrow = careful_mandate(number=1, roles=(Role.BUYER, Role.SELLER), **given)
        owner.install(sign_mandate(narrow, secret))
        quoted = json.loads(run(maker_cli.app, "quotes", "--json").stdout)
        owner.install(sign_mandate(simulation_mandate(number=2, **given), secret))
        desk.narrow = quoted
        yield desk, run


def test_no_more_is_quoted_than_the_own_mandate_lets_be_signed(joined):
    """The usual size is twice what a usual mandate allows: whoever took it all would be refused, by our fault."""
    desk, run = joined
    every = json.loads(run(maker_cli.app, "quotes", "--json").stdout)["quotes"]
    assert max(one["quantity_centi_btc"] for one in every) == 20
    assert {one["side"] for one in desk.narrow["quotes"]} == {"bid", "ask"}
    assert max(one["quantity_centi_btc"] for one in desk.narrow["quotes"] if one["side"] == "ask") == 10
    assert "mandate: size" in {one["reason"] for one in desk.narrow["left_out"]}


def test_what_would_be_quoted_is_printed_and_nothing_is_posted(joined, tmp_path):
    desk, run = joined
    desk.asked.clear()
    picture = tmp_path / "quotes.png"
    said = json.loads(run(maker_cli.app, "quotes", "--json", "--plot", picture).stdout)
    assert {one["instrument"] for one in said["quotes"]} == set(NAMES)
    assert {one["side"] for one in said["quotes"]} == {"bid", "ask"}
    assert (said["status"], said["spot_cents"], said["slot_unix"]) == ("trading", SPOT, NOW)
    assert {method for method, _ in desk.asked} == {"GET"}
    assert picture.stat().st_size > 10_000
    table = run(maker_cli.app, "quotes").output
    assert all(name in table for name in NAMES)


def test_in_a_thin_market_the_answer_is_nothing_and_the_reason(joined):
    desk, run = joined
    desk.status = "thin"
    try:
        said = json.loads(run(maker_cli.app, "quotes", "--json").stdout)
    finally:
        desk.status = "trading"
    assert said["quotes"] == []
    assert said["left_out"] == [{"reason": "pause: thin", "instrument": None, "side": None}]


def test_a_picture_is_refused_by_its_ending_before_anything_is_asked(joined):
    desk, run = joined
    desk.asked.clear()
    assert isinstance(run(maker_cli.app, "quotes", "--plot", "quotes.txt").exception, InvalidInputError)
    assert desk.asked == []
