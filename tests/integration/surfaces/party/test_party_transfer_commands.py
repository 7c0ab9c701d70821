"""``btcfi market consent`` and ``btcfi market transfer`` against the service's own doors: a position changes hands."""

import json
import socket
import threading
import time
from dataclasses import replace

import pytest
import uvicorn
from typer.testing import CliRunner

from btcfi.adapters.party.market_ledger import MARKET_FOLDER, MarketLedger
from btcfi.adapters.party.market_maker import Look, MarketMaker
from btcfi.adapters.party.membership import Membership, keep
from btcfi.adapters.party.transfer_book import TransferBook
from btcfi.adapters.signed_http import DeskRefusedError, SignedHttp
from btcfi.contracts.mandate import CloseRule
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.market.making import Inventory, MakingRule
from btcfi.oracle.freshness import MarketStatus
from btcfi.pricing.portfolio import Market
from btcfi.surfaces import market_cli
from btcfi.surfaces.rest.app import create_app
from btcfi.units import CentsPerBtc, Sats, UnixSeconds
from tasks import chain, market
from tests.support.chain import embedded_node
from tests.support.contract_stage import EXPIRY
from tests.support.market_stage import MarketStage
from tests.support.market_world import with_market
from tests.support.rest_world import make_world
from workers.deployed import sale_rule

pytestmark = pytest.mark.integration

NAMES = ("ada", "bob", "cyd")
"""Who writes, who buys, and who would have it."""


class Doors(MarketStage):
    """A stage whose accounts' folders have joined its service, which answers over HTTP."""

    def __init__(self, folder, node, cookie):
        super().__init__(folder / "data", node, cookie, names=NAMES, coins=30)
        (folder / "api").mkdir()
        world = with_market(make_world(folder / "api"))
        world.store.close()
        rules, card = world.deps.market_rules, world.deps.desk
        deps = replace(
            world.deps, store=self.here.store, clock=lambda: UnixSeconds(int(time.time())), replay_clock=True,
            desk=replace(card, public=self.desk.public),
            market_rules=replace(rules, sales=sale_rule(self.deployment)),
        )  # fmt: skip
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(deps), log_config=None, log_level="error", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        for one in self.accounts.values():
            member = one.postman._member
            keep(
                one.folder / "party", one.trader.keystore,
                Membership(
                    url=f"http://127.0.0.1:{listening.getsockname()[1]}", network=member.network,
                    desk_box=member.desk_box, registered=member.registered,
                ),
            )  # fmt: skip
            (one.folder / "words").write_text(f"a passphrase of {one.name}\n")

    def run(self, name, *words):
        folder = self.accounts[name].folder
        side = ["--dir", str(folder / "party"), "--passphrase-file", str(folder / "words")]
        side += ["--node", self.node.where, "--cookie-file", str(self.deployment.node_cookie_file)]
        return CliRunner().invoke(market_cli.app, [*words, *side])

    def said(self, name, *words):
        done = self.run(name, *words, "--json")
        assert done.exception is None, done.exception
        return json.loads(done.stdout)

    def book(self, name):
        return TransferBook(self.accounts[name].folder / "party")

    def carry_on(self, rounds=1):
        for _ in range(rounds):
            self.trade(1)
            chain.settle()
            market.tick()

    def http(self, name):
        one = self.accounts[name]
        return SignedHttp(
            f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}", one.trader.identity,
            one.trader.keystore.request_secret(), self.desk.public.desk_key,
        )  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doors")
    with embedded_node(folder / "chain") as (node, _), Doors(folder, node, folder / "chain" / ".cookie") as made:
        yield made
        made.server.should_exit = True


@pytest.fixture(scope="module")
def options(stage):
    """Options that ada wrote and bob bought, their fundings final."""
    names = [stage.accounts["bob"].take(stage.accounts["ada"].offer()) for _ in range(2)]
    stage.trade(8)
    stage.mine(6)
    assert {stage.state(name) for name in names} == {"ACTIVE"}
    return names


def failed(result, kind):
    assert isinstance(result.exception, kind), (result.exception, result.output)
    assert isinstance(result.exception, BtcfiError)
    return str(result.exception)


def test_a_position_changes_hands_by_four_commands_and_each_of_the_three_is_shown_its_own(stage, options):
    option = options[0]
    shown = stage.run("ada", "consent", option, "--valid", "10m", "--yes")
    assert shown.exception is None, shown.exception
    assert "your own" in shown.stderr
    assert "once, without asking you again" in shown.stderr
    (consent,) = stage.said("ada", "consents")["items"]
    assert (consent["option_id"], consent["state"]) == (option, "open")

    made = stage.run("bob", "transfer", "offer", option, "--price", "0.007btc", "--rate", "2000", "--yes", "--json")
    assert made.exception is None, made.exception
    assert "you get                  0.00700000 BTC (700,000 sat)" in made.stderr
    offer = json.loads(made.stdout)
    assert (offer["state"], offer["price_sats"], offer["sats_per_kvb"]) == ("open", 700_000, 2_000)

    (sale,) = stage.said("cyd", "transfer", "offers")["items"]
    assert (sale["id"], sale["own"]) == (offer["offer"], False)
    assert sale["id"][:16] in stage.run("cyd", "transfer", "offers").stdout
    taken = stage.run("cyd", "transfer", "take", sale["id"][:16], "--yes", "--json")
    assert taken.exception is None, taken.exception
    assert "you lose 0.00700000 BTC" in taken.stderr
    take = json.loads(taken.stdout)
    for _ in range(30):
        stage.carry_on()
        if stage.said("cyd", "transfer", "show", take["take"][:12])["state"] == "signed":
            break
    stage.mine(6)
    stage.carry_on(3)
    for name, role in zip(NAMES, ("seller", "holder", "newcomer"), strict=True):
        (row,) = stage.said(name, "transfer", "show")["items"]
        assert (row["id"], row["role"], row["state"], row["ours"]) == (take["take"], role, "done", "done")
        assert take["take"][:16] in stage.run(name, "transfer", "show").stdout
    assert (stage.state(option), stage.state(take["option"])) == ("ABANDONED", "ACTIVE")
    held = {one["option"]["id"]: one["role"] for one in stage.said("cyd", "positions")["items"]}
    assert held == {take["option"]: "holder"}


def test_what_the_desk_refuses_is_withdrawn_in_the_folder_and_what_is_withdrawn_is_at_the_desk_too(stage, options):
    option = options[1]
    offer = stage.said("bob", "transfer", "offer", option, "--price", "700000sat", "--rate", "2000", "--yes")
    problem = failed(stage.run("cyd", "transfer", "take", offer["offer"][:12], "--yes"), DeskRefusedError)
    assert "consent does not stand" in problem
    assert [one.withdrawn for one in stage.book("cyd").words() if one.signed.take.offer_id.hex() == offer["offer"]] == [
        True
    ]
    stage.said("ada", "consent", option, "--yes")
    gone = stage.said("bob", "transfer", "withdraw", offer["offer"][:12])
    assert (gone["offer"], gone["state"]) == (offer["offer"], "withdrawn")
    assert {one.withdrawn for one in stage.book("bob").words() if one.id.hex() == offer["offer"]} == {True}
    failed(stage.run("cyd", "transfer", "take", offer["offer"][:12], "--yes"), NotFoundError)
    (consent,) = [one for one in stage.said("ada", "consents")["items"] if one["option_id"] == option]
    assert stage.said("ada", "consent", "--withdraw", consent["id"][:12])["state"] == "withdrawn"
    own = stage.said("bob", "transfer", "offers", "--own")["items"]
    assert {one["state"] for one in own if one["id"] == offer["offer"]} == {"withdrawn"}


REFUSED = [
    ("bob", ["consent", "OPTION", "--yes"], InvalidInputError, "you bought it"),
    ("ada", ["transfer", "offer", "OPTION", "--price", "1000sat", "--yes"], InvalidInputError, "you wrote it"),
    ("bob", ["transfer", "offer", "OPTION", "--price", "1sat", "--yes"], InvalidInputError, "330 to"),
    ("bob", ["transfer", "offer", "OPTION", "--price", "all", "--yes"], InvalidInputError, "--price"),
    ("bob", ["transfer", "offer", "OPTION", "--price", "1000sat"], InvalidInputError, "--yes"),
    ("bob", ["transfer", "offer", "OPTION", "--price", "1000sat", "--for", "x", "--yes"], InvalidInputError, "for"),
    ("bob", ["transfer", "offer", "nothing", "--price", "1000sat", "--yes"], NotFoundError, "nothing"),
    ("ada", ["consent", "OPTION", "--valid", "60d", "--yes"], InvalidInputError, "--valid"),
    ("ada", ["consent"], InvalidInputError, "OPTION"),
    ("ada", ["consent", "--withdraw", "0011223344"], NotFoundError, "consents"),
    ("bob", ["transfer", "withdraw", "0011223344"], NotFoundError, "offers --own"),
    ("cyd", ["transfer", "take", "0011223344", "--yes"], NotFoundError, "transfer offers"),
    ("cyd", ["transfer", "show", "0011223344"], NotFoundError, "transfer show"),
    ("cyd", ["transfer", "offers", "--instrument", "nonsense"], InvalidInputError, "nonsense"),
]
"""By whom, the words, the error, and what it names."""


def test_what_cannot_be_meant_is_refused_with_one_clear_error_and_nothing_is_said(stage, options):
    for who, words, kind, says in REFUSED:
        before = len(list(stage.book(who).words()))
        result = stage.run(who, *[options[1] if word == "OPTION" else word for word in words])
        assert says in failed(result, kind), words
        assert len(list(stage.book(who).words())) == before, words


def maker_of(stage, rule, *, close=CloseRule.AGREED):
    ada = stage.accounts["ada"]
    right = ada.desk.owner.mandate()

    class Right:
        mandate = replace(right.mandate, close=close)

    made = MarketMaker(
        http=stage.http("ada"), identity=ada.trader.identity, request_secret=ada.trader.keystore.request_secret(),
        desk=stage.desk.public.desk_key, ledger=MarketLedger(ada.folder / "party" / MARKET_FOLDER),
        free=lambda: Sats(0), rule=rule, authority=lambda: Right,
    )  # fmt: skip
    made._seen = Look(
        market=Market(spot=CentsPerBtc(5_000_000), volatility=0.6, rate=0.0, now=UnixSeconds(EXPIRY - 7_200)),
        status=MarketStatus.TRADING, instruments=(), inventory=Inventory(free=Sats(0)), standing=(), strange=(),
    )  # fmt: skip
    return made


def test_a_maker_consents_to_nothing_unless_its_rule_says_so_then_within_it_once_and_not_against_its_owner(
    stage, options
):
    store, wide = stage.accounts["ada"].desk._store, MakingRule(consent_sats=Sats(10**9), least_life_seconds=3_600)
    before = len(list(stage.book("ada").words()))
    assert maker_of(stage, MakingRule()).consents(store) == []
    assert maker_of(stage, wide, close=CloseRule.NEVER).consents(store) == []
    assert maker_of(stage, replace(wide, least_life_seconds=7_200)).consents(store) != []
    assert len(list(stage.book("ada").words())) == before
    maker = maker_of(stage, wide)
    first = dict(maker.consents(store))
    assert first[options[1]] is not None, "its owner has taken a consent back"
    new = [option for option, why in first.items() if why is None]
    assert new, "what came of the transfer is its contract, too"
    assert {option for option, why in maker.consents(store) if why is None} == set()
    standing = {one["option_id"]: one for one in stage.said("ada", "consents")["items"] if one["state"] == "open"}
    assert set(new) <= set(standing)
    assert standing[new[0]]["valid_until_unix"] <= time.time() + 7_200
