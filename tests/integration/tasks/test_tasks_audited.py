"""``btcfi audit`` judges every option by where it is, beside a service that goes on."""

import json

import pytest
from sqlmodel import select
from typer.testing import CliRunner

from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.edges import cross
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.units import UnixSeconds
from tests.support.contract_stage import EXPIRY
from workers.audit import LATE_SECONDS, ChainView, audit
from workers.cli import build

pytestmark = pytest.mark.integration


def found(stage, *names, later=0):
    view = ChainView()
    view.follow(stage.node)
    now = UnixSeconds(stage.here.now() + later)
    findings = audit(stage.here.store, view, names, complete=False, now=now)
    return [str(one) for one in findings if not one.subject.startswith("round")]  # the stage's minutes are made by hand


def test_what_is_sold_what_is_funded_and_what_is_due_are_each_as_they_should_be(embedded):
    embedded.sell("one")
    assert found(embedded, "one") == []
    embedded.talk()
    assert found(embedded, "one") == []
    embedded.mine(6)
    assert (embedded.state(), found(embedded, "one")) == ("ACTIVE", [])
    embedded.price(6_000_000)
    embedded.settle()
    assert (embedded.state(), found(embedded, "one")) == ("EXPIRED", [])
    embedded.mine(6)
    assert (embedded.state(), found(embedded, "one")) == ("EXERCISED", [])


def test_an_option_that_is_called_active_and_is_not_funded_on_the_chain_is_found(embedded):
    embedded.sell("one")
    embedded.talk()
    with embedded.here.store.transaction() as session:
        cross(session, session.get(OptionRow, "one"), "ACTIVE", now=embedded.here.now())
    assert any("ACTIVE, and funded 0 times" in one for one in found(embedded, "one"))


def test_a_funding_that_the_store_has_forgotten_is_found_once_it_is_deep(embedded):
    embedded.sell("one")
    embedded.talk()
    embedded.mine(6)
    with embedded.here.store.transaction() as session:
        cross(session, session.get(OptionRow, "one"), "CREATED", now=embedded.here.now())
    assert found(embedded, "one") == []  # the service may be about to see it
    embedded.mine(12)
    assert any("CREATED, and funded on the chain" in one for one in found(embedded, "one"))


def test_an_option_whose_fixing_is_known_and_that_nobody_has_expired_is_late_after_ten_minutes(embedded):
    embedded.sell("one")
    embedded.talk()
    embedded.mine(6)
    embedded.price(6_000_000)
    with embedded.here.store.transaction() as session:
        session.exec(select(RoundRow).where(RoundRow.slot == EXPIRY)).one().closed_at_unix = embedded.here.now()
    assert found(embedded, "one") == []
    (late,) = found(embedded, "one", later=LATE_SECONDS)
    assert "its fixing is known since" in late


def test_a_payout_that_was_changed_before_it_was_paid_is_found(embedded):
    embedded.sell("one")
    embedded.talk()
    embedded.mine(6)
    embedded.price(6_000_000)
    embedded.settle()
    with embedded.here.store.transaction() as session:
        session.exec(select(SettlementRow)).one().payout_sats += 1
    assert any("payout in the store" in one for one in found(embedded, "one"))


def test_the_command_finds_a_running_up_by_its_data_folder_and_counts_every_option(embedded, monkeypatch):
    embedded.sell("one")
    embedded.sell("two")
    embedded.talk()
    embedded.mine(6)
    with embedded.here.store.transaction() as session:
        session.add(EventRow(entity="round", entity_id="1", from_state="", to_state="priced", at_unix=1))
    folder, node = embedded.deployment.data_dir, embedded.deployment
    urls = {"node_url": node.node_url, "node_cookie_file": str(node.node_cookie_file), "replay_clock": True}
    (folder / "cluster.json").write_text(json.dumps({"urls": urls}))
    for name in ("NODE_URL", "DATABASE_URL", "BITCOIN_NODE_URL"):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(build(), ["audit", "--json"], env={"BTCFI_DATA_DIR": str(folder)})
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["options"], said["settled"], said["states"], said["broken"]) == (2, 0, {"ACTIVE": 2}, [])
