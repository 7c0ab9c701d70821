"""What the operator of a market may ask for of an option of two accounts: nothing that is its holder's to choose."""

from btcfi.adapters.store.options import settlements
from btcfi.adapters.store.options.asking import ask
from btcfi.adapters.store.options.tables import OptionRow, OptionState, RequestState, SettlementRow
from btcfi.adapters.store.spine.edges import cross
from btcfi.oracle.consensus import ConsensusRule
from btcfi.units import Cents
from tests.support.market_store import NOW, filled, traded

DEEP = "BTC-15NOV23-90000-P-AM"
"""Half as much again as the price: worth more today than held."""
RULE = ConsensusRule(least_dollar_markets=0, thin_bps=0)


def test_an_operator_exercises_no_option_of_an_account_s(store):
    filled(store)
    _, _, row = traded(store, instrument=DEEP, price=55_000_000, price_cents=Cents(3_300_000))
    with store.transaction() as session:
        option = session.get_one(OptionRow, row.option_id)
        cross(session, option, OptionState.ACTIVE, now=NOW)
        ask(session, option.id, requested_by="operator", now=NOW)
        said = settlements.answer_request(session, option.id, lambda _: RULE, now=NOW)
        assert session.get(SettlementRow, f"st-{option.id}") is None, said
        assert option.state == OptionState.ACTIVE
        assert settlements.find_request(session, option.id).state == RequestState.REFUSED
        assert "its holder" in said
