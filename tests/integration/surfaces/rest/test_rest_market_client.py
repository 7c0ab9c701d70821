"""The typed clients act for accounts with real keys over a real socket, and the bot of the documentation trades."""

from __future__ import annotations

import asyncio
import runpy
import socket
import threading
import time

import pytest
import uvicorn

from btcfi.adapters.files import make_private
from btcfi.adapters.keystore import LEAST_N, create_keystore
from btcfi.adapters.party.market_ledger import MARKET_FOLDER, MarketLedger
from btcfi.adapters.party.membership import Membership, keep
from btcfi.adapters.sealed_letters import box_key
from btcfi.adapters.store.market import letters
from btcfi.contracts.messages import Role
from btcfi.market.firm_offer import Side
from btcfi.surfaces.client import Account, ApiError, AsyncClient, Client
from btcfi.surfaces.rest.app import create_app
from tests.support.accounts import DESK, DESK_BOX_SECRET, Trader, trader
from tests.support.held_contract import hold
from tests.support.market_world import CALL, with_market
from tests.support.paths import ROOT
from tests.support.rest_world import make_world
from tests.support.sold_position import PRICE, selling

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    world = with_market(make_world(tmp_path_factory.mktemp("market-client")))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(create_app(world.deps), log_config=None, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield world, f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    world.store.close()


def account(world, one: Trader) -> Account:
    return Account(one.identity, one.keystore.request_secret(), DESK, clock=lambda: world.now)


def joined(served, name: str) -> tuple[Trader, Account]:
    world, url = served
    one = trader(name)
    with Client(url) as anybody:
        assert anybody.register(one.registered(at=world.now)).identity == one.identity.hex()
    return one, account(world, one)


def test_two_accounts_trade_through_the_client_and_each_sees_its_own(served):
    world, url = served
    (maker, making), (taker, taking) = joined(served, "maker"), joined(served, "taker")
    offer = maker.offer(CALL, Side.ASK, valid_until=world.now + 60, number=1)
    wrong = maker.offer(CALL, Side.ASK, valid_until=world.now + 10**7, number=2)
    with Client(url, account=making) as writes, Client(url, account=taking) as buys:
        posted = writes.post_offers([offer, wrong])
        assert [(one.state, one.field) for one in posted] == [("open", None), (None, "valid_until")]
        assert buys.desk().desk_key == DESK.hex()
        assert buys.account().name == "taker"
        assert CALL in {one.name for one in buys.instruments()}
        assert buys.instrument(CALL).listed
        line = next(one for one in buys.chain(expiry="2026-09-25T08:00:00Z").lines if one.instrument == CALL)
        assert (line.ask.price_sats, line.bid) == (1_000_000, None)
        best = buys.book(CALL).asks[0]
        assert best.signed == offer
        take = taker.take(best.signed, 25, valid_until=world.now + 30, number=5)
        made = buys.take(take)
        assert buys.take(take) == made
        assert buys.taken(made.id) == made
        for one, role in ((buys, "holder"), (writes, "writer")):
            assert [held.role for held in one.positions().items if held.option.id == made.option_id] == [role]
            assert made in one.takes().items
            assert made in one.fills().items
            heard = list(one.stream_my_events(after_event=0, limit=2))
            assert {(event.option_id, event.role) for event in heard} == {(made.option_id, role)}
            assert {event.entity for event in heard} == {"option", "take"}
        assert writes.offers(state="open").items[0].remaining_centi_btc == 75
        assert buys.offers().items == ()
        assert buys.trades(instrument=CALL).items[0].quantity_centi_btc == 25
        assert (writes.withdraw(offer.offer.id.hex()), writes.withdraw()) == (1, 0)
        with pytest.raises(ApiError) as gone:
            buys.take(taker.take(offer, 5, valid_until=world.now + 30, number=6))
        assert gone.value.status == 409
    with Client(url) as anybody, pytest.raises(ApiError) as stranger:
        anybody.taken(made.id)
    assert stranger.value.status == 401


def test_an_account_reads_its_closes_and_what_is_over_through_the_client(served):
    world, url = served
    (maker, making), (taker, taking) = joined(served, "closer-a"), joined(served, "closer-b")
    offer = maker.offer(CALL, Side.ASK, valid_until=world.now + 60, number=1)
    with Client(url, account=making) as writes, Client(url, account=taking) as buys:
        writes.post_offers([offer])
        made = buys.take(taker.take(offer, 25, valid_until=world.now + 30, number=5))
        held = hold(world.store, made.option_id, now=world.now)
        assert [one.end for one in buys.positions().items] == [None]
        offered = held.offer_close(20_000, Role.BUYER, now=world.now)
        for one, own in ((buys, True), (writes, False)):
            (close,) = one.closes(state="offered").items
            assert (close.id, close.own, close.payout_sats, close.txid) == (offered.id, own, 20_000, None)
            assert one.offer_to_close(offered.id) == close
        txid = offered.agree()
        offered.confirm()
        for one in (buys, writes):
            assert one.positions().items == one.closes(state="offered").items == ()
            (over,) = one.positions(over=True).items
            assert (over.end.how, over.end.txid, over.end.paid_sats, over.end.final) == ("closed", txid, 20_000, True)
    with Client(url, account=joined(served, "closer-c")[1]) as third, pytest.raises(ApiError) as refused:
        third.offer_to_close(offered.id)
    assert refused.value.status == 404


def test_an_account_asks_and_takes_the_best_answer_through_the_client(served):
    world, url = served
    (maker, making), (asker, asking) = joined(served, "maker-rfq"), joined(served, "asker")
    with Client(url, account=making) as writes, Client(url, account=asking) as buys:
        request = asker.request(CALL, valid_until=world.now + 60, number=1)
        asked = buys.post_request(request)
        assert buys.post_request(request) == asked
        assert [one.signed for one in writes.requests().items if one.id == asked.id] == [request]
        given = {"taker": asker.identity, "request": request.request.id, "valid_until": world.now + 60, "quantity": 50}
        answers = [
            maker.offer(CALL, Side.ASK, number=n, price=price, **given) for n, price in ((11, 10**6), (12, 995_000))
        ]
        assert [one.problem for one in writes.post_offers(answers)] == [None, None]
        found = buys.answers(asked.id)
        assert [one.signed for one in found.asks] == answers[::-1]
        buys.take(asker.take(found.asks[0].signed, 50, valid_until=world.now + 30, number=2))
        assert (buys.answers(asked.id).request.state, buys.answers(asked.id).asks) == ("filled", ())
        second = buys.post_request(asker.request(CALL, valid_until=world.now + 60, number=3))
        assert buys.withdraw_request(second.id) == 0
        assert {one.state for one in buys.requests(own=True).items} == {"filled", "withdrawn"}


def test_the_asynchronous_client_posts_a_letter_and_waits_for_the_answer(served):
    world, url = served
    one, signs = joined(served, "writer")

    async def talk():
        async with AsyncClient(url, account=signs) as desk:
            assert await desk.post_letter("t1.offer", bytes(100)) == "t1.offer"
            waiting = asyncio.create_task(desk.letters(wait=25))
            await asyncio.sleep(0.1)
            with world.store.transaction() as session:
                letters.post(
                    session, sender=None, recipient=one.identity.hex(), name="t1.proposal", sealed=b"sealed",
                    now=world.now,
                )  # fmt: skip
            (came,) = await waiting
            await desk.acknowledge([came.id])
            return came, await desk.letters()

    came, after = asyncio.run(talk())
    assert (came.name, came.sealed, after) == ("t1.proposal", b"sealed", ())


def test_a_position_changes_hands_through_the_clients(served):
    world, url = served
    (writer, writes), (holder, holds), (newcomer, comes) = (joined(served, name) for name in ("ann", "ben", "cay"))
    offer = writer.offer(CALL, Side.ASK, valid_until=world.now + 60, number=1)
    with Client(url, account=writes) as seller, Client(url, account=holds) as buyer:
        seller.post_offers([offer])
        option = buyer.take(holder.take(offer, 10, valid_until=world.now + 30, number=1)).option_id
        sale = selling(hold(world.store, option, now=world.now), now=world.now)
        consent = seller.consent_to_transfer(sale.consent(writer))
        assert (consent.option_id, consent.state) == (option, "open")
        posted = buyer.offer_position(sale.offer(holder))
        spare = buyer.offer_position(sale.offer(holder, price=PRICE + 1))
        assert buyer.withdraw_position(spare.id).state == "withdrawn"
        assert [one.state for one in buyer.positions_for_sale(own=True).items] == ["withdrawn", "open"]

        async def take():
            async with AsyncClient(url, account=comes) as client:
                (found,) = (await client.positions_for_sale()).items
                assert (found.price_sats, found.option_id, found.own) == (PRICE, None, False)
                made = await client.take_position(sale.take(newcomer, found.signed))
                assert (await client.transfer(made.id)).role == "newcomer"
                return made

        made = asyncio.run(take())
        assert (made.offer_id, made.state) == (posted.id, "taken")
        assert [one.id for one in seller.transfers().items] == [made.id]
        assert seller.transfers(state="over").items == ()
        assert seller.withdraw_consent(consent.id).state == "withdrawn"
        assert [one.state for one in seller.consents().items] == ["withdrawn"]


def test_a_key_and_an_account_at_once_are_refused_and_no_secret_is_shown(served):
    one = account(served[0], trader("shy"))
    with pytest.raises(ValueError, match="not both"):
        Client(served[1], key="btcfi_x", account=one)
    assert one.request_secret.hex() not in repr(one)
    assert repr(one.request_secret) not in repr(one)


def as_a_party(tmp_path, world, url, name="bot"):
    """Leave a folder as `party init` and `party join` do, and return its registration."""
    folder = tmp_path / "party"
    make_private(folder)
    keystore = create_keystore(folder / "keystore.json", "correct horse", name.encode().ljust(20) * 2, cost=LEAST_N)
    registered = Trader(name=name, keystore=keystore).registered(at=world.now)
    keep(
        folder, keystore,
        Membership(url=url, network="regtest", desk_box=box_key(DESK_BOX_SECRET), registered=registered),
    )  # fmt: skip
    return registered


def test_the_bot_of_the_documentation_takes_what_is_below_its_limit_and_bids_for_the_rest(served, tmp_path, capsys):
    world, url = served
    maker, making = joined(served, "bot-s-maker")
    name = "BTC-25SEP26-72000-C"
    cheap = maker.offer(name, Side.ASK, valid_until=world.now + 60, number=1, quantity=20)
    dear = maker.offer(name, Side.ASK, valid_until=world.now + 60, number=2, price=2_000_000, price_cents=140_000)
    with Client(url, account=making) as writes:
        writes.post_offers([cheap, dear])

    registered = as_a_party(tmp_path, world, url)
    bot = runpy.run_path(str(ROOT / "docs/examples/market_bot.py"))
    where, found, _ = bot["opened"](tmp_path / "party", "correct horse")
    ledger = MarketLedger(tmp_path / "party" / MARKET_FOLDER, clock=lambda: world.now)
    signs = Account(found.identity, found.request_secret, found.desk, clock=lambda: world.now)
    with Client(where, account=signs) as client:
        client.register(registered)
        assert bot["step"](client, signs, ledger, name=name, wanted=50, limit=1_500_000) == 20
        (position,) = client.positions().items
        (bid,) = client.offers().items
    assert (position.role, position.instrument, position.option.quantity_centi_btc) == ("holder", name, 20)
    assert (bid.side, bid.price_sats, bid.quantity_centi_btc, bid.state) == ("bid", 1_500_000, 30, "open")
    assert len(ledger.takes()) == 1
    assert [one.offer.id.hex() for one in ledger.offers()] == [bid.id]
    assert "bought 0.2 at 1,000,000 sats" in capsys.readouterr().out


def test_the_bot_of_the_documentation_counts_what_others_take_of_its_bids_and_buys_no_more_than_it_was_told(
    served, tmp_path
):
    world, url = served
    maker, making = joined(served, "bot-s-other-maker")
    name = "BTC-25SEP26-74000-C"
    registered = as_a_party(tmp_path, world, url, "counting-bot")
    bot = runpy.run_path(str(ROOT / "docs/examples/market_bot.py"))
    where, found, _ = bot["opened"](tmp_path / "party", "correct horse")
    ledger = MarketLedger(tmp_path / "party" / MARKET_FOLDER, clock=lambda: world.now)
    signs = Account(found.identity, found.request_secret, found.desk, clock=lambda: world.now)
    with Client(where, account=signs) as client, Client(url, account=making) as writes:
        client.register(registered)

        def step():
            return bot["step"](client, signs, ledger, name=name, wanted=50, limit=1_500_000)

        assert step() == 0
        (bid,) = writes.book(name).bids
        writes.take(maker.take(bid.signed, 30, valid_until=world.now + 30, number=11))
        assert step() == 30
        (rest,) = writes.book(name).bids
        assert rest.quantity_centi_btc == 20, "what is missing, and the bid of before is gone"
        writes.take(maker.take(rest.signed, 20, valid_until=world.now + 30, number=12))
        assert step() == 50
        assert writes.book(name).bids == ()
        assert sum(one.option.quantity_centi_btc for one in client.positions().items) == 50
