"""The exporter never fails a scrape: a part that is down or hangs is said to be so, in time; no secret is in it."""

import threading
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from btcfi.adapters.store.access.api_tables import ApiKeyRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import count
from settings.deployment import Deployment
from workers import exporter
from workers.broker import BrokerReading, QueueReading
from workers.exporter import DATABASE, DUPLICATES, Exporter, Source, metrics_of
from workers.roles import QUEUES

METRICS = metrics_of()

SECRET = "hunter2hunter2"
READING = BrokerReading(
    queues={name: QueueReading(waiting=0, oldest_seconds=None) for name in QUEUES}
    | {"settle": QueueReading(waiting=3, oldest_seconds=7.5), "prices": QueueReading(waiting=2, oldest_seconds=None)},
    unacked=1, oldest_unacked_seconds=4.0, version="9", aof_enabled=True, aof_ok=True, eviction_policy="allkeys-lru",
    memory_bytes=1_000, clients=2,
)  # fmt: skip


@pytest.fixture
def deployment(tmp_path):
    made = Deployment(
        data_dir=tmp_path, database_url=f"sqlite:///{tmp_path}/store.db", flower_password=SecretStr(SECRET),
        broker_url=f"redis://:{SECRET}@127.0.0.1:1/0", node_url=f"http://user:{SECRET}@127.0.0.1:1",
    )  # fmt: skip
    store = Store(made.database_url)
    store.migrate()
    with store.transaction() as session:
        count(session, "repaired_rounds", 2)
        session.add(
            ApiKeyRow(id="0123456789abcdef", secret_sha256="cd" * 32, name="desk", roles="read", created_at_unix=1,
                      requests_per_minute=60)
        )  # fmt: skip
    store.close()
    return made


@pytest.fixture
def broker_answers(monkeypatch):
    monkeypatch.setattr(exporter, "read_broker", lambda *_: READING)


def scrape(deployment, **changes):
    registry = CollectorRegistry()
    registry.register(Exporter(deployment, **changes))
    text = generate_latest(registry).decode()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return text, samples


def test_every_metric_is_announced_with_its_type_whether_or_not_it_has_a_value(deployment, broker_answers):
    text, _ = scrape(deployment)
    announced = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")}
    assert announced == {name: spec.kind for name, spec in METRICS.items()}


def test_a_state_without_rows_is_zero_so_that_an_alert_on_it_can_clear(deployment, broker_answers):
    _, samples = scrape(deployment)
    assert samples["btcfi_settlements", "parked"] == 0
    assert samples["btcfi_transactions", "conflicted"] == 0
    assert all(samples["btcfi_duplicates_prevented_total", kind] == 0 for kind in DUPLICATES)
    assert samples["btcfi_repairs_total", "round"] == 2
    assert samples["btcfi_store_counter_total", "outside_spends"] == 0
    assert samples["btcfi_stage_seconds_count", "settlement", "claimed", "due"] == 0
    assert samples["btcfi_settlement_seconds_count", "proven"] == 0
    assert samples["btcfi_api_keys", "usable"] == 1


def test_the_broker_s_figures_are_served_and_an_unknown_age_is_left_out(deployment, broker_answers):
    _, samples = scrape(deployment)
    assert samples["btcfi_queue_messages", "settle"] == 3
    assert samples["btcfi_queue_oldest_seconds", "settle"] == 7.5
    assert samples["btcfi_queue_oldest_seconds", "chain"] == 0
    assert ("btcfi_queue_oldest_seconds", "prices") not in samples, "its messages do not say when they were sent"
    assert samples["btcfi_broker_aof_enabled",] == 1
    assert samples["btcfi_broker_noeviction",] == 0


def test_parts_that_are_down_are_said_to_be_down_and_the_others_served(deployment, capsys):
    text, samples = scrape(deployment)
    assert (samples["btcfi_up", "database"], samples["btcfi_up", "broker"], samples["btcfi_up", "node"]) == (1, 0, 0)
    assert ("btcfi_settlements", "due") in samples
    assert not any(name.startswith("btcfi_queue") for name, *_ in samples)
    assert SECRET not in text + "".join(capsys.readouterr())


def test_a_database_without_our_tables_is_down_not_a_crash(tmp_path, broker_answers):
    _, samples = scrape(Deployment(data_dir=tmp_path, database_url=f"sqlite:///{tmp_path}/empty.db"))
    assert samples["btcfi_up", "database"] == 0
    assert samples["btcfi_up", "broker"] == 1
    assert ("btcfi_up", "node") not in samples, "none is configured"


def test_a_part_that_hangs_costs_a_scrape_no_more_than_the_deadline_and_is_not_asked_twice(deployment, monkeypatch):
    release, asked = threading.Event(), []

    def hang(*_):
        asked.append(time.monotonic())
        release.wait(20)
        return READING

    monkeypatch.setattr(exporter, "read_broker", hang)
    made = Exporter(deployment.model_copy(update={"node_url": None}), deadline=0.3)
    began = time.monotonic()
    for _ in range(3):
        families = {family.name: family for family in made.collect()}
    took = time.monotonic() - began
    up = {sample.labels["part"]: sample.value for sample in families["btcfi_up"].samples}
    assert up == {"database": 1, "broker": 0}
    assert len(asked) == 1
    assert took < 10, "three deadlines, not three times what hangs"
    release.set()
    for _ in range(50):
        if {s.labels["part"]: s.value for s in next(iter(made.collect())).samples}["broker"]:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the broker answers again and is still said to be down")


def test_what_a_source_raises_is_its_answer():
    source = Source(DATABASE, lambda: 1 // 0)
    assert isinstance(source.begin().exception(5), ZeroDivisionError)


def test_no_secret_and_no_key_is_on_the_page(deployment, broker_answers):
    text, _ = scrape(deployment)
    for secret in (SECRET, "cdcdcdcd", "0123456789abcdef", "desk"):
        assert secret not in text
