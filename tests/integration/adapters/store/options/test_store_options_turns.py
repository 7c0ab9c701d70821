"""Which proven settlements are built now: earliest deadline first, and only what the next blocks will take."""

from sqlalchemy import insert

from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options import building, views
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.bitcoin.fees import FeeRule
from btcfi.contracts.schedule import IN_FLIGHT_BLOCKS, PASSED_BY_BLOCKS, SETTLEMENT_VSIZE, SHARE
from btcfi.units import Height

NOW = 1_700_000_040
TIP = Height(1_000)
FAR = TIP + 1_008
RULE = FeeRule()
WINDOW = IN_FLIGHT_BLOCKS * SHARE // SETTLEMENT_VSIZE


def proven(store, *rows):
    """Put settlements that are proven: name, refund height, collateral, and why it was not built, or None."""
    with store.transaction() as session:
        session.execute(insert(OptionRow), [{
            "id": name, "feed": "BTC/USD", "state": "EXPIRED", "kind": 0, "strike_cents": 1, "quantity_centi_btc": 1,
            "american": False, "expiry_unix": NOW, "premium_cents": 1, "premium_sats": 1, "collateral_sats": value,
            "volatility_bps": 1, "rate_bps": 1, "preset": "p", "preset_sha256": "00", "program": "g",
            "program_sha256": "00", "created_at_unix": NOW, "listed_slot": NOW, "updated_at_unix": NOW,
            "expiry_height": refund - 1_008, "refund_height": refund,
        } for name, refund, value, _ in rows])  # fmt: skip
        session.execute(insert(SettlementRow), [{
            "id": f"st-{name}", "option_id": name, "state": "proven", "reason": "expiry", "slot": NOW,
            "price_cents": 1, "input_hex": "00", "attempts": 1, "fence": 1, "retry_at_unix": 0, "last_error": error,
            "created_at_unix": NOW, "updated_at_unix": NOW + number,
        } for number, (name, _, _, error) in enumerate(rows)])  # fmt: skip


def sent(store, many, *, since=None):
    with store.transaction() as session:
        session.execute(insert(TransactionRow), [{
            "txid": f"{n:064x}", "purpose": "settlement", "subject": f"other-{n}", "state": "broadcast",
            "raw_hex": "00", "spends": f"{n:064x}:0", "fee_sats": 0, "created_at_unix": NOW, "updated_at_unix": NOW,
            "built_height": since,
        } for n in range(many)])  # fmt: skip


def chosen(store, **said):
    with store.reading() as session:
        return [one.removeprefix("st-") for one in building.to_settle(session, tip=TIP, rule=RULE, **said)]


def test_the_earliest_refund_height_is_built_first_and_of_one_height_the_largest_collateral(store):
    proven(store, ("a", FAR, 5, None), ("b", FAR - 9, 1, None), ("c", FAR, 7, None), ("d", FAR - 10, 1, None))
    assert chosen(store) == ["d", "b", "c", "a"]
    assert chosen(store, limit=2) == ["d", "b"]


def test_what_could_not_be_built_keeps_nothing_back_and_is_not_kept_back_for_ever(store):
    broken = [(f"broken-{n}", FAR - 500, 9, "too few oracles attest") for n in range(12)]
    proven(store, *broken, *((f"good-{n}", FAR, 1, None) for n in range(12)))
    assert chosen(store, limit=8) == [*(f"good-{n}" for n in (0, 1, 10, 11, 2, 3)), "broken-0", "broken-1"]


def test_while_the_pool_holds_what_the_next_blocks_take_nothing_more_is_built_but_what_is_near_its_deadline(store):
    near = TIP + RULE.deadline_blocks
    proven(store, ("far", FAR, 5, None), ("near", near, 5, None), ("past", TIP - 1, 5, None))
    sent(store, WINDOW + 1)
    assert chosen(store) == ["past", "near"]


def test_what_pays_too_little_for_any_block_keeps_nothing_back_for_long(store):
    proven(store, ("far", FAR, 5, None))
    sent(store, 2 * WINDOW, since=TIP - PASSED_BY_BLOCKS + 1)
    assert chosen(store) == []
    with store.reading() as session:
        assert building.to_settle(session, tip=Height(TIP + 1), rule=RULE) == ["st-far"]


def test_what_is_in_flight_leaves_room_for_the_rest_of_the_next_blocks(store):
    proven(store, *((f"{n:04}", FAR, 5, None) for n in range(3 * building.BUNDLE)))
    sent(store, WINDOW - 2 * building.BUNDLE)
    assert len(chosen(store)) == 2 * building.BUNDLE


def test_a_cet_that_no_block_may_hold_yet_takes_nobodys_room(store):
    proven(store, ("early", FAR + 1, 9, None), ("now", FAR, 5, None))
    assert chosen(store) == ["now"]
    with store.reading() as session:
        assert building.to_settle(session, tip=Height(TIP + 1), rule=RULE) == ["st-now", "st-early"]


def test_people_read_by_deadline_what_waits_what_is_put_off_and_when_its_turn_is(store):
    each = 2 * building.BUNDLE
    proven(store, *((f"{n:04}", FAR, 5, None) for n in range(each)), ("near", TIP + 1, 7, None))
    sent(store, WINDOW - 2 * building.BUNDLE)
    with store.reading() as session:
        seen = views.payments(session, tip=TIP, rule=RULE)
    near, far = seen.deadlines
    assert (near.refund_height, near.waiting, near.put_off, near.last_turn, near.late) == (TIP + 1, 1, 0, TIP + 1, 0)
    assert (far.waiting, far.in_flight, far.collateral_sats) == (each, 0, 5 * each)
    assert (far.put_off, far.last_turn) == (building.BUNDLE, TIP + IN_FLIGHT_BLOCKS + 1)
    assert seen.share == SHARE
