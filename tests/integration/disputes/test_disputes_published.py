"""A side's public part, registered with a service: what a stranger computes of it is what the chain of both shows."""

import json

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from btcfi.adapters.party.agreements import StepOutOfOrderError
from btcfi.adapters.party.dispute_files import DisputeFiles
from btcfi.adapters.party.dispute_public import public_part
from btcfi.contracts.messages import canonical
from btcfi.disputes.public import decode_public, encode_public
from btcfi.disputes.stages import Stage
from btcfi.disputes.watching import advance, begin, positions
from btcfi.surfaces import client, dispute_cli
from btcfi.surfaces.rest.app import create_app
from tests.integration.disputes.test_disputes_two_folders import RIGHT, SPOT, Table
from tests.support.chain import chain
from tests.support.disputed import public
from tests.support.rest_world import NOW, make_world

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with chain("embedded", tmp_path_factory.mktemp("embedded")) as funded:
        yield funded


@pytest.fixture(scope="module")
def opened(wallet, tmp_path_factory):
    """A contract between two folders, and its name in both."""
    table = Table(wallet, tmp_path_factory.mktemp("folders"))
    return table, table.opened()


@pytest.fixture
def world(tmp_path):
    made = make_world(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def api(world):
    return TestClient(create_app(world.deps), headers={"Authorization": f"Bearer {world.key('operate', 'read')}"})


def files_of(table, name):
    return DisputeFiles(table.home(name))


def test_both_sides_publish_the_same_contract_and_a_stranger_follows_it_to_its_end(wallet, opened):
    table, name = opened
    ours, theirs = (public_part(files_of(table, one), name) for one in "pv")
    assert (ours.id, ours.opening.txid) == (theirs.id, theirs.opening.txid)
    stranger = decode_public(json.loads(canonical(encode_public(theirs))))
    seen, _ = advance({"it": begin(stranger)}, lambda _: stranger, wallet.node, limit=1_000)
    assert positions(stranger, seen["it"].seen)[-1].stage is Stage.OPEN
    table.attest("p", [SPOT])
    assert table.look("p").sent == "claim"
    table.mined()
    seen, _ = advance(seen, lambda _: stranger, wallet.node, limit=1_000)
    here = positions(stranger, seen["it"].seen)[-1]
    assert (here.stage, here.number) == (Stage.CLAIMED, RIGHT)
    table.mined(stranger.terms.dispute_blocks)
    assert table.look("p").sent == "payout"
    table.mined()
    seen, _ = advance(seen, lambda _: stranger, wallet.node, limit=1_000)
    assert positions(stranger, seen["it"].seen)[-1].stage is Stage.PAID


def test_nothing_is_published_before_its_coins_are_signed_for(wallet, tmp_path):
    table = Table(wallet, tmp_path)
    table.desk("p").propose(table.draft(), identity_secret=table.identity)
    files = files_of(table, "p")
    with pytest.raises(StepOutOfOrderError):
        public_part(files, files.names()[0])


def test_the_api_puts_a_contract_under_watch_lists_it_and_says_the_game_s_clock(api, world):
    dispute = public()
    body = canonical(encode_public(dispute))
    headers = {"Content-Type": "application/json"}
    for _ in range(2):  # again changes nothing
        made = api.post("/api/v1/disputes", content=body, headers=headers)
        assert (made.status_code, made.json()["state"]) == (201, "unopened")
        assert made.headers["Location"] == f"/api/v1/disputes/{dispute.id.hex()}"
    (row,) = api.get("/api/v1/disputes").json()["items"]
    assert (row["id"], row["created_at_unix"]) == (dispute.id.hex(), NOW)
    one = api.get(f"/api/v1/disputes/{row['id']}").json()
    assert (one["ranges"], one["moves"], one["waits_for"]) == (17, [], None)
    assert api.get("/api/v1/disputes", params={"state": "claimed"}).json()["items"] == []
    assert api.get("/api/v1/disputes/nothing").status_code == 404


def test_a_public_part_that_says_something_else_than_it_signs_is_refused_by_its_field(api):
    body = encode_public(public())
    for change, field in (
        ({"fault": "02" + "ff" * 32}, "point"), ({"since_height": -1}, "dispute.since_height"),
        ({"more": 1}, "dispute"), ({"version": 2}, "dispute.version"),
    ):  # fmt: skip
        answer = api.post("/api/v1/disputes", json=body | change)
        assert answer.status_code == 422
        assert field in answer.json()["detail"], answer.json()
    forged = body | {"proposal": body["proposal"] | {"bond_sats": 2_000_001}}
    assert "is not signed" in api.post("/api/v1/disputes", json=forged).json()["detail"]
    other = body | {"acceptance": encode_public(public(name="other"))["acceptance"]}
    assert "another proposal" in api.post("/api/v1/disputes", json=other).json()["detail"]
    assert api.get("/api/v1/disputes").json()["items"] == []


def test_who_may_only_read_registers_nothing(world):
    reader = TestClient(create_app(world.deps), headers={"Authorization": f"Bearer {world.key('read')}"})
    answer = reader.post("/api/v1/disputes", json=encode_public(public()))
    assert answer.status_code == 403


def test_the_command_line_publishes_and_registers_what_the_client_then_shows(opened, tmp_path, api, monkeypatch):
    table, name = opened
    file = tmp_path / "public.json"
    words = ["publish", name, "--out", str(file), "--dir", str(table.home("v"))]
    done = CliRunner().invoke(dispute_cli.app, words)
    assert done.exit_code == 0, (done.output, done.exception)
    published = json.loads(done.stdout)
    monkeypatch.setattr(client.httpx, "Client", lambda **given: TestClient(api.app, headers=api.headers))
    done = CliRunner().invoke(dispute_cli.app, ["register", str(file), "--url", "http://testserver"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert json.loads(done.stdout)["dispute"] == published["dispute"]
    shown = api.get(f"/api/v1/disputes/{published['dispute']}").json()
    assert shown["opening_txid"] == published["opening_txid"]
    assert shown["proposal_id"] == name  # as the commands of both sides have it
