"""``btcfi fees``: what waits by deadline from the store, and the next blocks from a node, where one answers."""

import json

import pytest
from typer.testing import CliRunner

from btcfi.adapters.store.spine.database import Store
from btcfi.bitcoin.fees import FeeRule
from btcfi.surfaces.fee_view import fee_view
from settings.deployment import Deployment
from tests.support.chain import embedded_node
from workers.cli import build
from workers.commands.serve import Pool

pytestmark = pytest.mark.integration


@pytest.fixture
def url(tmp_path, monkeypatch):
    made = f"sqlite:///{tmp_path / 'store.db'}"
    store = Store(made)
    store.migrate()
    store.close()
    monkeypatch.setenv("DATABASE_URL", made)
    monkeypatch.setenv("BTCFI_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("NODE_URL", raising=False)
    return made


def said(*words):
    done = CliRunner().invoke(build(), ["fees", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_without_a_node_the_store_s_part_is_shown_and_the_rest_is_said(url):
    assert "next blocks not shown: no node is set" in said()
    found = json.loads(said("--json"))
    assert (found["pool_problem"], found["deadlines"], found["settlements_in_flight"]) == (
        "no node is set: NODE_URL", [], 0,
    )  # fmt: skip


def test_a_node_that_is_away_is_said_and_takes_nothing_from_the_rest(url, tmp_path):
    away = Pool(Deployment(data_dir=tmp_path, node_url="http://user:sesame@127.0.0.1:1"))
    store = Store(url)
    for _ in range(2):  # the second time what was seen is said again
        seen = fee_view(store, away, FeeRule())
        assert seen.market is None
        assert "Bitcoin node" in seen.problem
        assert "sesame" not in seen.problem
    store.close()


def test_a_node_that_answers_is_asked_once_for_all_who_look(url, tmp_path):
    with embedded_node(tmp_path / "chain") as (node, _):
        pool = Pool(Deployment(
            data_dir=tmp_path, node_url=node.where, node_cookie_file=tmp_path / "chain" / ".cookie"
        ))  # fmt: skip
        first = pool()
        assert (first.size.transactions, first.blocks, first.tip) == (0, (), node.block_count())
        assert pool() is first
