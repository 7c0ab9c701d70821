"""Messages on their way: signed, in order, at least once, and one receiver's trouble is no other's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from sqlalchemy import update

from btcfi.adapters.sealed_letters import box_key
from btcfi.adapters.store.market import views, webhooks
from btcfi.adapters.store.market.accounts import account
from btcfi.adapters.store.market.events import say_json
from btcfi.adapters.store.market.webhook_tables import WebhookRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.webhooks import hook_secret
from btcfi.adapters.webhooks.courier import PLACES, Courier
from btcfi.adapters.webhooks.post import Post
from btcfi.hashes import sha256
from btcfi.market.webhook import HookRule
from btcfi.surfaces.rest.market_desk.shapes import AccountEvent
from tests.support.hook_receiver import Receiver, accepted, receiving
from tests.support.market_store import MAKER, NOW, OTHER, TAKER, Trader, filled, traded
from tests.support.paths import ROOT
from tests.support.stores import store_on_sqlite

BOX_SECRET = sha256(b"desk box")
RULE = HookRule(loopback=True)


@dataclass
class Desk:
    """A store, its courier, and the secrets that were shown."""

    store: Store
    resolve: Callable[[str, int], list[str]] = lambda *_: ["127.0.0.1"]
    answer_seconds: float = 5.0
    secrets: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def courier(self, box_secret: bytes = BOX_SECRET, seconds: Callable[[], float] = time.monotonic) -> Courier:
        def post() -> Post:
            return Post(rule=RULE, resolve=self.resolve, answer_seconds=self.answer_seconds, connect_seconds=5.0)

        return Courier(
            self.store, opens=lambda name, sealed: hook_secret.opened(name, sealed, box_secret),
            posts=(post(), post()), draw=lambda: 0.5, seconds=seconds,
        )  # fmt: skip

    def add(self, url: str, trader=MAKER, kinds=("take", "option", "settlement", "webhook")) -> str:
        self.count += 1
        made = hook_secret.make(sha256(f"hook {self.count}".encode()) + bytes(8), box_key=box_key(BOX_SECRET))
        hook_id, self.secrets[url], sealed = made
        with self.store.transaction() as session:
            owner = account(session, trader.id)
            webhooks.add(session, hook_id, owner, url=url, kinds=kinds, secret_sealed=sealed, now=NOW)
        return hook_id

    def tell(self, courier: Courier | None = None) -> None:
        """Turn until nothing is begun."""
        courier = courier or self.courier()
        while courier.turn():
            courier.wait()

    def again(self) -> None:
        """Let the rest of every hook be over."""
        with self.store.transaction() as session:
            session.execute(update(WebhookRow).values(rest_seconds=0))

    def row(self, hook_id: str) -> WebhookRow:
        with self.store.reading() as session:
            return session.get_one(WebhookRow, hook_id)

    def said(self, trader=MAKER) -> list[str]:
        with self.store.reading() as session:
            return [say_json(edge, trader.id) for edge in views.edges_of(session, trader.id, after=0)[0]]


@pytest.fixture
def desk(tmp_path):
    with store_on_sqlite(tmp_path) as store:
        yield Desk(store=filled(store))


def bodies(receiver: Receiver) -> list[str]:
    return [got.body.decode() for got in receiver.got]


def states(receiver: Receiver) -> list[tuple[str, str]]:
    return [(one["entity"], one["to_state"]) for one in map(json.loads, bodies(receiver))]


def test_every_event_of_the_account_arrives_in_order_signed_and_said_as_its_stream_says_it(desk):
    with receiving() as receiver:
        hook_id = desk.add(receiver.url)
        for _ in range(3):
            traded(desk.store)
        traded(desk.store, maker=OTHER)
        desk.tell()
        assert bodies(receiver) == desk.said()
        assert len({got.headers["webhook-id"] for got in receiver.got}) == len(receiver.got) == 7
        for got in receiver.got:
            assert accepted(got.headers, got.body, desk.secrets[receiver.url], time.time())
            assert AccountEvent(**{k: v for k, v in json.loads(got.body).items() if k != "at"}).model_dump_json() == (
                got.body.decode()
            )
        row = desk.row(hook_id)
        assert (row.told_event, row.tries, row.problem, row.last_status) == (row.newest_event, 0, None, 204)


def test_a_receiver_refuses_what_was_changed_what_is_old_and_what_another_signed(desk):
    with receiving() as receiver:
        desk.add(receiver.url)
        desk.tell()
        (got,) = receiver.got
        secret, now = desk.secrets[receiver.url], time.time()
        assert accepted(got.headers, got.body, secret, now)
        assert not accepted(got.headers, got.body + b" ", secret, now)
        assert not accepted(got.headers | {"webhook-id": "msg_other"}, got.body, secret, now)
        assert not accepted(got.headers | {"webhook-timestamp": str(int(now) + 1)}, got.body, secret, now)
        assert not accepted(got.headers, got.body, secret, now + 301)
        assert not accepted(got.headers, got.body, "whsec_" + "A" * 43 + "=", now)
        assert not accepted({}, got.body, secret, now)


def test_what_a_receiver_does_not_take_comes_again_under_the_same_id_and_what_follows_waits(desk):
    with receiving() as receiver:
        hook_id = desk.add(receiver.url)
        traded(desk.store)
        receiver.status = 500
        for n in range(1, 4):
            desk.tell()
            assert (desk.row(hook_id).tries, desk.row(hook_id).problem) == (n, "status 500")
            desk.again()
        receiver.status = 200
        desk.tell()
        names = [got.headers["webhook-id"] for got in receiver.got]
        assert names[:4] == [names[0]] * 4
        assert len(set(names)) == 3
        assert bodies(receiver)[3:] == desk.said()
        assert len({got.headers["webhook-timestamp"] for got in receiver.got}) >= 1
        assert desk.row(hook_id).tries == 0


def test_a_receiver_that_is_down_hears_everything_once_it_is_back(desk):
    with receiving() as receiver:
        url, port = receiver.url, receiver.port
        hook_id = desk.add(url)
    traded(desk.store)
    desk.tell()
    assert (desk.row(hook_id).problem, desk.row(hook_id).last_status) == ("no connection: refused", None)
    with receiving(port=port) as receiver:
        desk.again()
        desk.tell()
        assert bodies(receiver) == desk.said()


def test_a_receiver_that_is_gone_for_good_is_given_up_and_another_hook_of_the_account_hears_of_it(desk):
    with receiving() as gone, receiving() as other:
        gone.status = 410
        hook_id = desk.add(gone.url)
        desk.add(other.url)
        desk.tell()
        assert (desk.row(hook_id).state, len(gone.got)) == ("disabled", 1)
        assert states(other) == [("webhook", "active"), ("webhook", "active"), ("webhook", "disabled")]
        assert json.loads(other.got[-1].body)["entity_id"] == hook_id
        assert json.loads(other.got[-1].body)["option_id"] is None


def test_receivers_that_hang_are_in_nobody_s_way_however_many_they_are(desk):
    """As many as there are places, and as many again; the others are told while every one of them hangs."""
    crowd = [Trader(name=f"crowd-{n:02d}") for n in range(PLACES // 2)]
    filled_with(desk.store, crowd)
    with receiving() as hanging, receiving() as quick:
        hanging.answer = lambda _handler: hanging.over.wait(30)
        desk.answer_seconds = 30.0
        desk.add(quick.url)
        courier = desk.courier(seconds=lambda: 0.0)  # however long this machine takes, it answers in no time
        desk.tell(courier)
        assert len(quick.got) == 1, "it has shown that it answers"
        for one in crowd:
            for n in range(4):
                desk.add(f"{hanging.url}/{one.name}/{n}", one)
        assert courier.turn() == PLACES
        for _ in range(PLACES):
            assert hanging.came.acquire(timeout=20)
        traded(desk.store)
        assert courier.turn() == 1, "no place is left to those that hang"
        for _ in range(2):
            assert quick.came.acquire(timeout=20)
        hanging.over.set()
        courier.wait()
        assert states(quick)[1:] == [("option", "CREATED"), ("take", "taken")]


def filled_with(store, traders):
    from btcfi.adapters.store.market.accounts import register  # noqa: PLC0415 - here alone

    with store.transaction() as session:
        for one in traders:
            register(session, one.registration(), now=NOW)


def test_a_hook_whose_name_changes_into_the_network_gets_nothing_and_waits(desk):
    with receiving() as receiver, receiving(address="127.0.0.2") as inside:
        names = {"now": "127.0.0.1"}
        desk.resolve = lambda *_: [names["now"]]
        hook_id = desk.add(receiver.url.replace("127.0.0.1", "localhost"))
        desk.tell()
        names["now"] = "169.254.169.254"
        traded(desk.store)
        desk.tell()
        assert desk.row(hook_id).problem == "its name leads to an address that is not public"
        assert (len(receiver.got), inside.got) == (1, [])


def test_a_redirect_into_the_network_is_a_failure_of_the_one_that_sent_it(desk):
    def redirect(handler):
        handler.send_response(307)
        handler.send_header("Location", "http://169.254.169.254/latest/meta-data/")
        handler.end_headers()

    with receiving() as receiver:
        receiver.answer = redirect
        hook_id = desk.add(receiver.url)
        desk.tell()
        assert (desk.row(hook_id).problem, len(receiver.got)) == ("status 307: no redirect is followed", 1)


def test_a_secret_that_this_desk_s_key_does_not_open_signs_nothing(desk):
    with receiving() as receiver:
        hook_id = desk.add(receiver.url)
        desk.tell(desk.courier(box_secret=sha256(b"another desk")))
        assert receiver.got == []
        assert "add it anew" in desk.row(hook_id).problem
        assert desk.secrets[receiver.url].removeprefix("whsec_") not in str(vars(desk.row(hook_id)))


def test_one_hook_s_trouble_of_any_kind_is_no_other_s(desk, monkeypatch):
    with receiving() as receiver:
        broken, fine = desk.add(receiver.url + "/broken"), desk.add(receiver.url)
        whole = webhooks.following

        def following(session, attempt):
            if attempt.hook_id == broken:
                raise RuntimeError
            return whole(session, attempt)

        monkeypatch.setattr(webhooks, "following", following)
        desk.tell()
        assert [got.path for got in receiver.got] == ["/in"] * 2, "of both, that they are there"
        assert (desk.row(fine).tries, desk.row(broken).tries) == (0, 1)


WORKER = """
import sys
from btcfi.adapters.webhooks import hook_secret
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.webhooks.courier import Courier
from btcfi.adapters.webhooks.post import Post
from btcfi.hashes import sha256
from btcfi.market.webhook import HookRule
post = lambda: Post(rule=HookRule(loopback=True), answer_seconds=60.0)
opens = lambda name, sealed: hook_secret.opened(name, sealed, sha256(b"desk box"))
courier = Courier(Store(sys.argv[1]), opens=opens, posts=(post(), post()), draw=lambda: 0.5)
courier.turn()
courier.wait()
"""


@pytest.mark.faults
def test_a_worker_that_is_killed_while_a_receiver_has_the_message_leaves_nothing_undone(desk):
    """The receiver has it, the desk does not know: it comes again under the same id, and everything after it."""
    with receiving() as receiver:
        hook_id = desk.add(receiver.url)
        traded(desk.store)
        receiver.answer = lambda _handler: receiver.over.wait(60)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen([sys.executable, "-c", WORKER, desk.store.url], env=environment, cwd=ROOT) as worker:
            assert receiver.came.acquire(timeout=60)
            worker.send_signal(signal.SIGKILL)
        first = receiver.got[0].headers["webhook-id"]
        assert desk.courier().turn() == 0, "its turn has not lapsed"
        receiver.answer = None
        desk.again()
        desk.tell()
        names = [got.headers["webhook-id"] for got in receiver.got]
        assert names[:2] == [first, first]
        assert bodies(receiver)[1:] == desk.said()
        assert desk.row(hook_id).tries == 0


def test_two_workers_at_once_tell_each_hook_once(desk):
    with receiving() as receiver:
        traders = (MAKER, TAKER, OTHER)
        for one in traders:
            desk.add(f"{receiver.url}/{one.name}", one)
        traded(desk.store)
        couriers = [desk.courier() for _ in range(3)]
        threads = [threading.Thread(target=desk.tell, args=(courier,)) for courier in couriers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        names = [got.headers["webhook-id"] for got in receiver.got]
        assert len(names) == len(set(names)) == 7
