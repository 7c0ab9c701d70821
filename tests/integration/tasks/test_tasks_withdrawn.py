"""A sale that comes to nothing tells both parties, and one that waits for coins says so and goes on with them."""

import pytest

from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.cancelling import cancel_sale
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.options import find_option
from btcfi.adapters.store.options.sales import Order, sell
from btcfi.adapters.store.options.settlements import request_settlement
from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.contracts.mandate import Bounds
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE
from btcfi.units import CentiBtc, CentsPerBtc, UnixSeconds
from tasks import contracts as exchange_tasks
from tasks import options
from tests.support.contract_stage import EXPIRY, SLOT, open_stage
from workers.audit import replay_events
from workers.deployed import sale_rule

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with open_stage(tmp_path_factory.mktemp("withdrawn")) as made:
        yield made


def free(stage):
    return sum(coin.value for coin in stage.mails["seller"]._desk.wallet.free())


def cancel(stage, name):
    with stage.here.store.transaction() as session:
        cancel_sale(session, name, by="test", now=stage.here.now())


def sell_one(stage, name, *, kind=OptionKind.CALL, strike=4_500_000, quantity=2, american=False):
    wanted = Order(
        option_id=name, kind=kind, strike=CentsPerBtc(strike), quantity=CentiBtc(quantity), american=american,
        barrier=None, expiry=EXPIRY, fixing=MINUTE,
    )  # fmt: skip
    with stage.here.store.transaction() as session:
        sell(session, wanted, sale_rule(stage.deployment), now=UnixSeconds(SLOT + 60))


def seller_answers(stage, name, **what):
    """Sell, and let the seller alone talk."""
    sell_one(stage, name, **what)
    exchange_tasks.exchange()
    stage.mails["seller"].round(stage.node.block_count())
    exchange_tasks.exchange()


def offered(stage, name, **what):
    seller_answers(stage, name, **what)
    assert stage.row(ContractRow, option_id=name).state == "offered"


def state_and_error(stage, name):
    with stage.here.store.reading() as session:
        option = find_option(session, name)
    return option.state, option.last_error


def test_the_coins_of_a_cancelled_sale_are_the_seller_s_again_without_a_fee(stage):
    before = free(stage)
    offered(stage, "cancelled")
    assert free(stage) < before
    cancel(stage, "cancelled")
    stage.talk(2)
    assert free(stage) == before
    inbox = stage.deployment.parties_dir / "buyer" / "inbox"
    assert not (inbox / "cancelled.offer.json").exists()
    assert not (stage.deployment.parties_dir / "buyer" / "outbox" / "cancelled.accept.json").exists()
    with stage.here.store.reading() as session:
        assert [one for one in replay_events(session) if "cancelled" in one.subject] == []


def test_a_proposal_of_a_cancelled_sale_leaves_the_inbox_and_is_not_offered(stage):
    before = free(stage)
    sell_one(stage, "proposed")
    exchange_tasks.exchange()
    inbox = stage.deployment.parties_dir / "seller" / "inbox"
    assert (inbox / "proposed.proposal.json").exists()
    cancel(stage, "proposed")
    exchange_tasks.exchange()
    assert not (inbox / "proposed.proposal.json").exists()
    stage.talk(2)
    assert free(stage) == before


def test_the_coins_of_a_sale_that_the_buyer_refuses_are_the_seller_s_again(stage):
    before = free(stage)
    stage.give_mandate(stage.mails["buyer"]._desk, number=2, collateral=Bounds(least=1, most=1_000))
    sell_one(stage, "refused")
    stage.talk(4)
    state, error = state_and_error(stage, "refused")
    assert (state, "the buyer refused: collateral_sats" in error) == ("FAILED", True)
    assert free(stage) == before
    stage.give_mandate(stage.mails["buyer"]._desk, number=3)


def test_sales_whose_buyers_wait_for_coins_keep_no_cancelled_one_from_being_told(stage):
    before = free(stage)
    for name in ("waits", "also-waits", "taken-back"):
        offered(stage, name)
    with stage.here.store.transaction() as session:
        for name in ("waits", "also-waits"):
            contracts.note_waits(session, name, "buyer", "it has not the coins", now=stage.here.now())
        for name in ("waits", "also-waits"):  # longest there of all
            session.get_one(ContractRow, name).updated_at_unix -= 600
    cancel(stage, "taken-back")
    with stage.here.store.reading() as session:
        assert [row.option_id for row in contracts.withdrawn(session, limit=2)] == ["taken-back"]
    for name in ("waits", "also-waits"):
        cancel(stage, name)
    stage.talk(2)
    assert free(stage) == before


def test_a_sale_without_coins_has_failed_with_its_reason_and_goes_on_when_they_come(stage):
    offered(stage, "first")
    seller_answers(stage, "large", quantity=17_500)
    state, error = state_and_error(stage, "large")
    assert (state, error[:39]) == ("FAILED", "the seller waits: it has not the coins:")
    cancel(stage, "first")  # its coin is free
    stage.talk(3)
    assert state_and_error(stage, "large") == ("CREATED", None)
    assert stage.row(ContractRow, option_id="large").state in ("offered", "accepted", "signed", "checked", "funded")


def test_an_early_exercise_of_less_than_the_dust_limit_ends_as_what_it_is(embedded):
    # $10 of 0.01 BTC at $50,000: 200 satoshis, of which the close makes 330
    sell_one(embedded, "one", kind=OptionKind.BINARY_CALL, strike=1_000, quantity=1, american=True)
    embedded.fund("one")
    with embedded.here.store.transaction() as session:
        request_settlement(session, "one", requested_by="buyer", now=embedded.here.now())
    options.answer_request("one")
    embedded.settle()
    assert embedded.row(SettlementRow, option_id="one").payout_sats == 200
    embedded.talk(4)
    embedded.mine(6)
    settled = embedded.row(SettlementRow, option_id="one")
    said = state_and_error(embedded, "one")
    assert (*said, settled.state, settled.paid_sats) == ("EXERCISED", None, "confirmed", 330)
