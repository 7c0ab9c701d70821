"""The oracles of `btcfi up`: processes of their own, which no start ever gives another key."""

import json
import stat
import time
from pathlib import Path

import pytest
from sqlmodel import select

from btcfi.adapters.files import write_private
from btcfi.adapters.oracle.client import OracleClient
from btcfi.adapters.oracle.folder import LostKeyError, OracleFolder
from btcfi.adapters.oracle.web import Web
from btcfi.adapters.oracle_network.network_file import read_registry
from btcfi.adapters.store.options.contract_tables import AttestationRow, OracleEventRow
from btcfi.adapters.store.spine.database import Store
from btcfi.contracts.messages import encode_announcement
from btcfi.errors import BtcfiError
from btcfi.oracle.announcement import OracleEvent, announce
from btcfi.oracle.own_minutes import OwnMinute
from btcfi.oracle.quote import parse_venue
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import Hash32, Slot
from settings.deployment import Deployment
from settings.preset import load_preset
from tests.support.oracle_support import quote
from tests.support.oracles import FEED, sign
from tests.support.resumed_store import COMMITS, unpack
from workers.machine import oracles, parties
from workers.machine.cluster import Cluster
from workers.machine.oracles import LostKeysError
from workers.roles import CONTROL

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

EVENT = OracleEvent(
    feed=FEED, expiry=Slot(1_795_000_020), program_hash=Hash32(bytes(32)),
    preset_hash=Hash32(bytes.fromhex(load_preset("standard").sha256)),
)  # fmt: skip


def test_a_cluster_runs_three_oracles_with_folders_of_their_own_and_stops_them(tmp_path):
    deployment = Deployment(data_dir=tmp_path / "data")
    with Cluster(deployment, embedded_node=False, roles=(CONTROL,), beat=False, run_parties=False) as cluster:
        cluster.start()
        cluster.wait_ready(120)
        said = [OracleClient(Web(url)).status() for url in cluster.deployment.oracles]
        keys = [folder.public_key().hex() for folder in oracles.folders_of(deployment)]
        assert [one["oracle_key"] for one in said] == keys
        assert len(set(keys)) == 3
        parts = {part.name: part for part in cluster.parts}
        for number in range(3):
            environment = Path(f"/proc/{parts[f'oracle-{number}'].process.pid}/environ").read_bytes()
            assert b"DATABASE_URL" not in environment
            assert b"BTCFI_" not in environment
        first = parts["oracle-0"]
        first.kill()
        deadline = time.monotonic() + 60
        while True:  # the supervisor starts it again, where it was
            try:
                assert OracleClient(Web(cluster.deployment.oracles[0])).status()["oracle_key"] == keys[0]
                break
            except BtcfiError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        pids = [part.process.pid for part in cluster.parts]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    for folder in oracles.folders_of(deployment):
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder.path / "oracle.key").stat().st_mode) == 0o600


def test_preparing_again_changes_no_key_and_tells_the_parties_the_oracles_and_the_oracles_the_nodes(tmp_path):
    deployment = Deployment(data_dir=tmp_path)
    parties.prepare(deployment)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    parties.prepare(deployment)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    told = json.loads((deployment.parties_dir / "seller" / "oracles.json").read_text())
    assert told["oracle_keys"] == sorted(folder.public_key().hex() for folder in oracles.folders_of(deployment))
    for folder in oracles.folders_of(deployment):
        _, registry = folder.registry()
        assert registry == read_registry(deployment.data_dir / "network" / "network.toml")[1]
        assert registry.venues == {parse_venue(text) for text in deployment.venues}
        for node in registry.nodes.values():
            assert public_key_xonly((deployment.nodes_dir / f"{node.node_id}.key").read_bytes()) == node.public_key


def test_oracles_of_others_are_named_by_their_urls_and_none_is_made_here(tmp_path):
    deployment = Deployment(data_dir=tmp_path, oracles="http://127.0.0.1:1,http://127.0.0.1:2")
    parties.prepare(deployment)
    assert not (tmp_path / "oracles").exists()
    assert not (deployment.parties_dir / "seller" / "oracles.json").exists()


# ---- what is lost is not replaced


def with_an_event(deployment):
    """Prepare a deployment, and have its oracles announce an event in its store."""
    parties.prepare(deployment)
    store = Store(deployment.database_url)
    store.migrate()
    announced = [encode_announcement(announce(one.secret(), EVENT)) for one in oracles.folders_of(deployment)]
    with store.transaction() as session:
        session.add(OracleEventRow(
            id=EVENT.id.hex(), feed=FEED, expiry_unix=EVENT.expiry, since_slot=0, announcements=json.dumps(announced),
            created_at_unix=1,
        ))  # fmt: skip
    store.close()


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "btcfi.db" not in path.name}


@pytest.mark.parametrize("lost", ["oracles", "oracles/oracle-1", "oracles/oracle-1/oracle.key"])
def test_a_store_whose_announcements_name_a_lost_key_is_not_given_a_new_one(tmp_path, lost):
    deployment = Deployment(data_dir=tmp_path / "data")
    with_an_event(deployment)
    (tmp_path / "away").mkdir()
    (deployment.data_dir / lost).rename(tmp_path / "away" / "it")
    before = everything(deployment.data_dir)
    for _ in range(2):
        with pytest.raises((LostKeysError, LostKeyError), match="restore"):
            parties.prepare(deployment)
    assert everything(deployment.data_dir) == before
    (tmp_path / "away" / "it").rename(deployment.data_dir / lost)
    parties.prepare(deployment)


def test_a_node_key_that_is_lost_is_not_replaced_for_no_oracle_elsewhere_would_take_its_word(tmp_path):
    deployment = Deployment(data_dir=tmp_path / "data")
    parties.prepare(deployment)
    key = deployment.nodes_dir / "kraken-BTC-USD.key"
    secret = key.read_bytes()
    key.unlink()
    with pytest.raises(LostKeysError, match="kraken-BTC-USD"):
        parties.prepare(deployment)
    write_private(key, b"\x09" * 32)
    with pytest.raises(LostKeysError):
        parties.prepare(deployment)
    write_private(key, secret)
    parties.prepare(deployment)


def test_the_three_keys_of_an_earlier_release_become_three_oracles_which_attest_nothing_twice(tmp_path, monkeypatch):
    deployment = Deployment(data_dir=tmp_path / "data")
    secrets = [bytes([number]) * 32 for number in (1, 2, 3)]
    elsewhere = tmp_path / "keys"
    for number, secret in enumerate(secrets):
        write_private(elsewhere / f"oracle-{number}.key", secret)
    deployment.data_dir.mkdir()
    store = Store(deployment.database_url)
    store.migrate()
    with store.transaction() as session:
        for secret in secrets[:2]:
            session.add(AttestationRow(
                oracle_key=public_key_xonly(secret).hex(), event_id=EVENT.id.hex(), outcome=61_000, claimed_at_unix=1,
            ))  # fmt: skip
    monkeypatch.setenv("BTCFI_ORACLE_KEYS_DIR", str(elsewhere))
    parties.prepare(deployment)
    folders = oracles.folders_of(deployment)
    assert [one.secret() for one in folders] == secrets
    assert list(elsewhere.glob("*.key")) == []
    for folder, outcome in zip(folders, (61_000, 61_000, 60_000), strict=True):
        key = folder.public_key()
        assert folder.ledger().claim(oracle_key=key, event=EVENT.id, outcome=60_000) == outcome
    parties.prepare(deployment)
    with store.reading() as session:
        assert len(session.exec(select(AttestationRow)).all()) == 2
    store.close()


@pytest.mark.parametrize("commit", COMMITS[-1:])
def test_an_older_store_is_taken_over_and_its_minutes_from_before_the_signatures_are_trusted_by_name(tmp_path, commit):
    unpack(commit, tmp_path)
    deployment = Deployment(data_dir=tmp_path / "data")
    old = {public_key_xonly(path.read_bytes()) for path in (deployment.data_dir / "oracles").glob("*.key")}
    assert len(old) == 3
    store = Store(deployment.database_url)
    store.migrate()
    parties.prepare(deployment)
    assert {folder.public_key() for folder in oracles.folders_of(deployment)} == old
    assert list((deployment.data_dir / "oracles").glob("*.key")) == []
    assert oracles.trust_before(deployment) > 0
    named = deployment.model_copy(update={"oracles": ("http://127.0.0.1:1",)})
    assert f"--trust-store-before={oracles.trust_before(deployment)}" in oracles.command(
        named, 0, aggregator="http://127.0.0.1:1"
    )
    store.close()


def test_a_ledger_that_says_another_outcome_than_the_store_stops_the_start(tmp_path):
    folder = OracleFolder(tmp_path / "oracle")
    key = folder.create()
    folder.ledger().claim(oracle_key=key, event=EVENT.id, outcome=1)
    assert folder.seed([(EVENT.id, 1)]) == 1
    with pytest.raises(Exception, match="says 1, the store 2"):
        folder.seed([(EVENT.id, 2)])


def test_nothing_that_a_node_signs_reaches_an_oracle_under_another_feed(tmp_path):
    deployment = Deployment(data_dir=tmp_path)
    parties.prepare(deployment)
    _, registry = oracles.folder_of(deployment, 0).registry()
    venue = parse_venue("kraken:BTC/USD")
    secret = (deployment.nodes_dir / "kraken-BTC-USD.key").read_bytes()
    signed = sign(quote(venue, 6_000_000), secret, feed="ETH/USD")
    own = OwnMinute(slot=signed.submission.slot, registry=registry)
    assert own.with_more([signed], FEED) is own
    assert own.with_more([sign(quote(venue, 6_000_000), secret)], FEED).submissions
