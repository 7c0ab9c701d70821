"""An account's webhooks over the API, its client and its command: its own, checked, and with a secret shown once."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import uvicorn
from sqlmodel import select
from typer.testing import CliRunner

from btcfi.adapters.files import make_private
from btcfi.adapters.keystore import LEAST_N, create_keystore
from btcfi.adapters.party.membership import Membership, keep
from btcfi.adapters.sealed_letters import box_key
from btcfi.adapters.store.market.webhook_tables import WebhookRow
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.adapters.webhooks import hook_secret
from btcfi.adapters.webhooks.courier import Courier
from btcfi.adapters.webhooks.post import Post
from btcfi.errors import InvalidInputError
from btcfi.market.webhook import HookRule, decode_secret
from btcfi.surfaces import market_cli
from btcfi.surfaces.client import Account, ApiError, Client
from btcfi.surfaces.rest.app import create_app
from btcfi.surfaces.rest.auth import create_key
from tests.support.accounts import DESK, DESK_BOX_SECRET, trader
from tests.support.hook_receiver import receiving
from tests.support.market_world import market, with_market
from tests.support.rest_world import make_world

pytestmark = pytest.mark.integration

URL = "https://hooks.example.com/in"
PATH = "/me/webhooks"


@pytest.fixture
def stand(tmp_path):
    with market(tmp_path, limits={"stream_seconds": 3.0}) as made:
        yield made


def add(stand, name, url=URL, **more):
    return stand.ask(stand.join(name), "POST", PATH, json={"url": url, **more})


def courier(world):
    return Courier(
        world.store, opens=lambda name, sealed: hook_secret.opened(name, sealed, DESK_BOX_SECRET),
        posts=(Post(rule=HookRule(loopback=True)), Post(rule=HookRule(loopback=True))), draw=lambda: 0.5,
    )  # fmt: skip


def told(world):
    """Have everything that waits sent."""
    one = courier(world)
    while one.turn():
        one.wait()


def test_a_secret_is_shown_once_and_is_nowhere_else(stand):
    answer = add(stand, "alice-1")
    assert answer.status_code == 201
    made, secret = answer.json()["webhook"], answer.json()["secret"]
    assert len(decode_secret(secret)) == 32
    shown = stand.ask(stand.join("alice-1"), "GET", PATH)
    assert shown.json() == {"items": [made]}
    assert secret not in shown.text
    with stand.world.store.reading() as session:
        (row,) = session.exec(select(WebhookRow)).all()
        rows = str([row.model_dump(), *session.exec(select(EventRow)).all()])
    assert secret.removeprefix("whsec_") not in rows
    assert decode_secret(secret).hex() not in rows
    assert hook_secret.opened(row.id, row.secret_sealed, DESK_BOX_SECRET) == decode_secret(secret)
    assert decode_secret(secret) not in row.secret_sealed


@pytest.mark.parametrize(
    "url",
    ["http://hooks.example.com/", "https://10.1.2.3/", "https://169.254.169.254/", "https://a:b@example.com/", "x"],
)
def test_a_url_that_leads_into_the_network_is_refused_by_its_name(stand, url):
    answer = add(stand, "alice-1", url)
    assert (answer.status_code, answer.json()["field"]) == (422, "url")


def test_on_a_chain_that_is_not_played_the_loopback_is_no_place_for_messages(tmp_path):
    with market(tmp_path, limits={}) as stand:
        assert add(stand, "alice-1", "http://127.0.0.1:9000/").status_code == 201
    (tmp_path / "main").mkdir()
    world = with_market(make_world(tmp_path / "main"))
    world.deps = replace(world.deps, hooks=HookRule())
    with served(world) as url, Client(url, account=joined(url, world, "alice-1")) as alice:
        for where in ("http://127.0.0.1:9000/", "https://localhost/", "https://[::1]/"):
            with pytest.raises(ApiError) as refused:
                alice.add_webhook(where)
            assert refused.value.status == 422
        alice.add_webhook(URL)


def test_where_none_are_sent_none_is_added(tmp_path):
    world = with_market(make_world(tmp_path))
    world.deps = replace(world.deps, hooks=None)
    with served(world) as url, Client(url, account=joined(url, world, "alice-1")) as alice:
        with pytest.raises(ApiError) as refused:
            alice.add_webhook(URL)
        assert refused.value.status == 403
        assert alice.webhooks() == ()


def test_nobody_sees_tests_or_removes_another_s_and_a_key_reads_alone(stand):
    alice, eve = stand.join("alice-1"), stand.join("eve-1")
    hook_id = add(stand, "alice-1").json()["webhook"]["id"]
    entropy = bytes(range(40))
    key = create_key(
        stand.world.store, name="bot", roles=("read", "trade"), entropy=entropy, now=stand.world.now,
        account_id=alice.identity.hex(),
    )  # fmt: skip
    bound = {"Authorization": f"Bearer {key}"}
    assert stand.ask(eve, "GET", PATH).json() == {"items": []}
    assert stand.ask(eve, "GET", f"{PATH}?account={alice.identity.hex()}").status_code == 404
    for method, path in (("POST", f"{PATH}/{hook_id}/test"), ("DELETE", f"{PATH}/{hook_id}")):
        nowhere = stand.ask(eve, method, path.replace(hook_id, "f" * 16))
        assert stand.ask(eve, method, path).status_code == nowhere.status_code == 404
        assert stand.api.request(method, f"/api/v1{path}").status_code == 401
        assert stand.api.request(method, f"/api/v1{path}", headers=bound).status_code == 401
    assert stand.api.get(f"/api/v1{PATH}", headers=bound).json()["items"][0]["id"] == hook_id
    assert stand.api.post(f"/api/v1{PATH}", headers=bound, json={"url": URL}).status_code == 401
    operator = {"Authorization": f"Bearer {stand.world.key('operate')}"}
    assert stand.api.get(f"/api/v1{PATH}", headers=operator).status_code == 404
    seen = stand.api.get(f"/api/v1{PATH}?account={alice.identity.hex()}", headers=operator)
    assert [one["id"] for one in seen.json()["items"]] == [hook_id]


def test_an_account_has_four_and_a_url_once_and_adds_and_tests_few_at_once(stand):
    assert [add(stand, "alice-1", f"{URL}/{n}").status_code for n in range(5)] == [201] * 4 + [409]
    assert add(stand, "bob-1").status_code == 201
    assert add(stand, "bob-1").status_code == 409
    assert add(stand, "carol-1", kinds=["offer"]).status_code == 422
    assert add(stand, "carol-1", kinds=["take", "take"]).status_code == 422
    assert [add(stand, "dave-1", "x").status_code for _ in range(7)] == [422] * 6 + [429]
    assert add(stand, "erin-1").status_code == 201, "another account's are its own"


def test_what_is_sent_is_what_the_account_s_stream_has_byte_for_byte(stand):
    alice, bob = stand.join("alice-1"), stand.join("bob-1")
    with receiving() as receiver:
        for one in ("alice-1", "bob-1"):
            assert add(stand, one, f"{receiver.url}/{one}").status_code == 201
        offer = stand.offer(alice)
        stand.post(alice, offer)
        option_id = stand.take(bob, offer).json()["option_id"]
        stand.world.settle(option_id, 7_200_000)
        told(stand.world)
        for who, one in (("alice-1", alice), ("bob-1", bob)):
            answer = stand.ask(one, "GET", "/me/events?limit=10", headers={"Last-Event-ID": "0"})
            streamed = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
            sent = [got.body.decode() for got in receiver.got if got.path.endswith(who)]
            assert sent == streamed
            assert {json.loads(one)["entity"] for one in sent} == {"webhook", "option", "take", "settlement"}
            assert json.loads(sent[-1])["paid_sats"] == 900


@contextmanager
def served(world):
    """Serve a world's API behind a socket, and give its URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(create_app(world.deps), log_config=None, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    world.store.close()


def joined(url, world, name):
    one = trader(name)
    with Client(url) as anybody:
        anybody.register(one.registered(at=world.now))
    return Account(one.identity, one.keystore.request_secret(), DESK, clock=lambda: world.now)


def test_the_client_and_the_command_add_list_test_and_remove(tmp_path):
    world = with_market(make_world(tmp_path))
    world.now = int(time.time())  # the command signs by the machine's clock
    words = tmp_path / "words"
    words.write_text("a long passphrase\n")
    folder = tmp_path / "party"
    make_private(folder)
    keystore = create_keystore(folder / "keystore.json", "a long passphrase", cost=LEAST_N)
    one = replace(trader("alice-1"), keystore=keystore)
    with served(world) as url, receiving() as receiver, Client(url) as anybody:
        anybody.register(one.registered(at=world.now))
        member = Membership(
            url=url, network="regtest", desk_box=box_key(DESK_BOX_SECRET), registered=one.registered(at=world.now)
        )  # fmt: skip
        keep(folder, keystore, member)

        def run(*given):
            side = ["--dir", str(folder), "--passphrase-file", str(words)]
            return CliRunner().invoke(market_cli.app, ["webhooks", *given, *side])

        made = json.loads(run("add", receiver.url, "--kinds", "take, settlement", "--json").stdout)
        assert len(decode_secret(made["secret"])) == 32
        told(world)
        said = run("list").stdout
        assert made["webhook"] in said
        assert "take,settlement" in said
        assert "taken 20" in said
        assert json.loads(run("test", made["webhook"], "--json").stdout)["state"] == "active"
        told(world)
        assert [json.loads(got.body)["entity_id"] for got in receiver.got] == [made["webhook"]] * 2
        acting = Account(one.identity, keystore.request_secret(), DESK, clock=lambda: world.now)
        with Client(url, account=acting) as alice:
            (shown,) = alice.webhooks()
            assert (shown.id, shown.kinds, shown.waiting) == (made["webhook"], ("take", "settlement"), False)
            assert alice.test_webhook(shown.id).waiting in {True, False}
            other, secret = alice.add_webhook(f"{receiver.url}/other")
            assert alice.remove_webhook(other.id) == other.id
            assert secret.startswith("whsec_")
        assert "removed" in run("remove", made["webhook"]).stdout
        assert json.loads(run("list", "--json").stdout)["items"] == []
        for words_ in (("remove", "../x"), ("test", "f" * 15)):
            assert isinstance(run(*words_).exception, InvalidInputError)
