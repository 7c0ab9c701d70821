"""Control's courier, as a deployment makes it: by its own key, its own database, and where its chain lets it send."""

from __future__ import annotations

import pytest

from btcfi.adapters.desk_key import make_desk_key
from btcfi.adapters.store.market import webhooks
from btcfi.adapters.store.market.accounts import account
from btcfi.adapters.webhooks import hook_secret
from settings.deployment import Deployment
from tasks.context import make_context
from tasks.webhooks import make_courier
from tests.support.hook_receiver import accepted, receiving
from tests.support.market_store import MAKER, NOW, filled
from tests.support.stores import store_on_sqlite
from workers.systems import schedule

pytestmark = pytest.mark.integration


@pytest.fixture
def told(tmp_path):
    """Add a hook, have a deployment's courier tell what waits, and return the hook's row and its secret."""

    def tell(url, *, key=None, **settings):
        with store_on_sqlite(tmp_path) as store:
            filled(store)
            deployment = Deployment(
                data_dir=tmp_path, database_url=store.url, broker_url="memory://", desk_key_file=tmp_path / "desk.key",
                **settings,
            )  # fmt: skip
            desk = make_desk_key(deployment.desk_key_file)
            name, secret, sealed = hook_secret.make(bytes(range(40)), box_key=key or desk.public.box_key)
            with store.transaction() as session:
                owner = account(session, MAKER.id)
                webhooks.add(session, name, owner, url=url, kinds=("take",), secret_sealed=sealed, now=NOW)
            here = make_context(deployment)
            courier = make_courier(here)
            while courier.turn():
                courier.wait()
            here.store.close()
            with store.reading() as session:
                return webhooks.hook_of(session, MAKER.id, name), secret

    return tell


def test_a_deployment_signs_by_the_secret_that_its_own_key_opens(told):
    with receiving() as receiver:
        row, secret = told(receiver.url)
        (got,) = receiver.got
        assert (row.problem, row.tries) == (None, 0)
        assert accepted(got.headers, got.body, secret, int(got.headers["webhook-timestamp"]))


@pytest.mark.parametrize("network", ["main", "test", "testnet4", "signet"])
def test_on_a_chain_of_others_the_loopback_is_not_connected_to_whatever_the_table_says(told, network):
    with receiving() as receiver:
        row, _ = told(receiver.url, network=network)
        assert receiver.got == []
        assert row.problem.startswith("not sent")


def test_where_they_are_turned_off_the_clock_begins_none():
    on, off = (schedule(Deployment(broker_url="memory://", webhooks=sent)) for sent in (True, False))
    assert set(on) - set(off) == {"webhooks.deliver"}
