"""A sale that comes to nothing says so: it has failed with its reason, locks nothing, and can be taken back."""

import shutil
import time

import pytest
from sqlmodel import select

from btcfi.adapters.store.options import options as book
from btcfi.adapters.store.options.cancelling import NotCancellableError, cancel_sale
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.options import SILENT_SECONDS, find_option
from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.adapters.store.reading import read_store
from btcfi.contracts.mandate import Bounds
from btcfi.units import UnixSeconds
from tasks import contracts as exchange_tasks
from tasks import options
from tests.support.contract_stage import EXPIRY
from workers.audit import replay_events

pytestmark = pytest.mark.integration


def refused(stage, party="seller", collateral=1_000):
    """Sell what is outside the mandate of a party, and let both talk; return why it refused."""
    stage.give_mandate(stage.mails[party]._desk, number=2, collateral=Bounds(least=1, most=collateral))
    stage.sell("one")
    stage.talk()
    with stage.here.store.reading() as session:
        return find_option(session, "one").last_error


def cancelled(stage, name="one"):
    with stage.here.store.transaction() as session:
        return cancel_sale(session, name, by="test", now=stage.here.now()).state


def locked(stage):
    with stage.here.store.reading() as session:
        return read_store(session, stage.here.feed, now=stage.here.now(), replay=True).collateral_sats


def findings(stage):
    with stage.here.store.reading() as session:
        found = replay_events(session)
    return [one for one in found if not one.subject.startswith("round")]  # the stage's minutes are made by hand


@pytest.mark.parametrize("party", ["seller", "buyer"])
def test_a_sale_that_a_party_refuses_has_failed_with_its_reason_locks_nothing_and_is_cancelled(embedded, party):
    assert f"the {party} refused: collateral_sats: 2,000,000" in refused(embedded, party)
    assert (embedded.state(), locked(embedded)) == ("FAILED", 0)
    assert cancelled(embedded) == cancelled(embedded) == "CANCELLED"
    embedded.talk(2)
    embedded.mine(6)
    assert (embedded.state(), embedded.row(ContractRow, option_id="one").state) == ("CANCELLED", "cancelled")
    assert findings(embedded) == []


def test_a_sale_that_had_failed_goes_on_when_its_party_takes_it_after_all(embedded):
    refused(embedded)
    seller = embedded.deployment.parties_dir / "seller" / "inbox"
    embedded.give_mandate(embedded.mails["seller"]._desk, number=3)
    shutil.move(seller / "refused" / "one.proposal.json", seller / "one.proposal.json")
    (seller / "refused" / "one.proposal.reason").unlink()
    embedded.talk()
    embedded.mine(6)
    assert (embedded.state(), locked(embedded)) == ("ACTIVE", 2_000_000)
    with embedded.here.store.reading() as session:
        assert find_option(session, "one").last_error is None
    assert findings(embedded) == []


def test_a_sale_that_is_funded_or_that_the_buyer_may_fund_any_moment_is_not_cancelled(embedded):
    embedded.sell("one")
    embedded.talk(3)
    while embedded.row(ContractRow, option_id="one").state != "checked":
        embedded.talk(1)
    with pytest.raises(NotCancellableError, match="the buyer may fund it"):
        cancelled(embedded)
    embedded.talk()
    with pytest.raises(NotCancellableError, match="is funded"):
        cancelled(embedded)
    embedded.mine(6)
    with pytest.raises(NotCancellableError, match="it is ACTIVE"):
        cancelled(embedded)
    assert embedded.state() == "ACTIVE"


def test_no_contract_is_ordered_for_a_sale_that_was_cancelled_meanwhile(embedded, monkeypatch):
    """The service has read what is new, asks the oracles, and the operator is faster."""
    embedded.sell("one")
    real = exchange_tasks.announcements

    def slow(*arguments, **named):
        cancelled(embedded)
        return real(*arguments, **named)

    monkeypatch.setattr(exchange_tasks, "announcements", slow)
    embedded.talk(2)
    with embedded.here.store.reading() as session:
        assert session.get(ContractRow, "one") is None
    assert embedded.state() == "CANCELLED"


def test_a_sale_that_nobody_funded_before_its_expiry_has_failed_once_its_parties_are_silent(embedded, monkeypatch):
    embedded.sell("one")
    exchange_tasks.exchange()  # it is ordered, and nobody answers
    embedded.price(6_000_000)
    options.expire_due("BTC/USD")
    assert embedded.state() == "CREATED"
    with embedded.here.store.transaction() as session:
        late = UnixSeconds(int(time.time()) + SILENT_SECONDS + 1)
        book.expire_due(session, embedded.here.feed, options.rule_of, now=late, batch_size=1)
    assert embedded.state() == "FAILED"
    with embedded.here.store.reading() as session:
        assert "its expiry passed" in find_option(session, "one").last_error
        assert session.exec(select(SettlementRow)).all() == []
        assert find_option(session, "one").expiry_unix == EXPIRY
    assert cancelled(embedded) == "CANCELLED"
