"""A ledger's history from a file: what is refused names its guard, what is malformed names its field."""

import json
import re

import pytest

from btcfi.errors import InvalidInputError
from btcfi.swaps.errors import Guard
from btcfi.swaps.ledger import SwapLedger
from btcfi.swaps.scenario import ACTIONS, as_json, read_scenario, run

DAY, LOT = 86_400, 1_000_000
START = 1_700_000_000
LISTED = {
    "name": "BTCUSD", "asset": "BTC", "quote": "USD", "leverage_hundredths": 250, "target_ppm": 1_500, "basis_ppm": 0,
}  # fmt: skip
BOOK = {"contract": "BTCUSD", "provider": "ann"}


def prices(usd):
    return {"BTCUSD": {"asset": usd, "margin": usd}}


WEEK = [
    {"at_unix": START, "action": "post", "settles": True, "prices": prices("50000")},
    {"at_unix": START + 60, "action": "create-book", "contract": "BTCUSD", "caller": "ann",
     "amount_sats": 100 * LOT, "minimum_take_sats": LOT},
    {"at_unix": START + 120, "action": "take", **BOOK, "caller": "tom", "side": "long", "required_sats": 20 * LOT,
     "margin_sats": 25 * LOT},
    {"at_unix": START + 180, "action": "take", **BOOK, "caller": "tim", "side": "long", "required_sats": 60 * LOT,
     "margin_sats": 60 * LOT},
    {"at_unix": START + 240, "action": "initialise", **BOOK, "taken_before_unix": START + 200},
    {"at_unix": START + DAY, "action": "post", "settles": False, "prices": prices("51000")},
    {"at_unix": START + 7 * DAY, "action": "post", "settles": True, "prices": prices("52530.000000")},
    {"at_unix": START + 7 * DAY + 60, "action": "cancel", **BOOK, "number": 1, "caller": "tom", "paid_sats": LOT},
    {"at_unix": START + 7 * DAY + 60, "action": "compute", "contract": "BTCUSD"},
    {"at_unix": START + 7 * DAY + 60, "action": "settle", **BOOK},
    {"at_unix": START + 7 * DAY + 4 * 3_600, "action": "settle", **BOOK},
]  # fmt: skip


def scenario(actions):
    return read_scenario({"contracts": [LISTED], "actions": actions})


def test_a_week_of_one_book_is_told_step_by_step():
    ledger, steps = run(scenario(WEEK))
    assert [one.refused for one in steps if one.refused] == [Guard.MAXIMUM_TAKE, Guard.IN_SETTLEMENT, Guard.TOO_SOON]
    # bitcoin rose by 3 % from the close of the take's day, margined in itself: 2.5 * (0.03 - 0.0015) / 1.03
    (settled,) = steps[-1].events
    profit = settled.fields["profits_sats"][1]
    assert profit == 20 * LOT * 25 * 285 // (10 * 10_300)
    said = json.loads(json.dumps(as_json(ledger, steps)))
    (book,) = said["books"]
    assert (book["margin"], book["required"]) == (100 * LOT - profit, 20 * LOT)
    assert book["subcontracts"][0]["start"] == {"week": 2, "slot": 0}
    assert said["paid_in_sats"] == said["held_sats"] == 125 * LOT


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"action": "steal"}, "actions[2].action"), ({"side": "up"}, "actions[2].side"),
        ({"required_sats": 1.5}, "actions[2].required_sats"), ({"required_sats": True}, "actions[2].required_sats"),
        ({"margin_sats": "1,000"}, "actions[2].margin_sats"), ({"margin_sats": -1}, "actions[2].margin_sats"),
        ({"at_unix": 1}, "actions[2].at_unix"), ({"tip": 1}, "actions[2].tip"),
        ({"provider": "\n"}, "actions[2].provider"), ({"caller": None}, "actions[2].caller"),
    ],
)  # fmt: skip
def test_an_action_that_is_none_names_its_field(change, field):
    actions = [*WEEK[:2], WEEK[2] | change]
    with pytest.raises(InvalidInputError, match=f"^{re.escape(field)}: "):
        run(scenario(actions))


@pytest.mark.parametrize("price", ["0", "-1", "1e5", "1_000", " 5", "\u0665", "1/2", "0.0000001", 5, None, "9" * 13])
def test_a_price_is_a_decimal_above_nothing(price):
    with pytest.raises(InvalidInputError, match="price"):
        run(scenario([WEEK[0] | {"prices": prices(price)}]))


def test_a_missing_field_is_named_and_only_the_caller_may_be_left_out():
    for name in ("prices", "settles", "at_unix"):
        with pytest.raises(InvalidInputError, match=name):
            run(scenario([{key: value for key, value in WEEK[0].items() if key != name}]))


def test_every_action_of_a_ledger_can_be_said():
    said = {name.replace("-", "_") for name in ACTIONS}
    public = {name for name in vars(SwapLedger) if not name.startswith("_") and callable(getattr(SwapLedger, name))}
    assert public - {"list_contract"} == said
