"""The same order, good and bad, through every door: the same row, or the same refusal by the same field's name."""

import io
import json
import re
import sys
import time

import pytest

from btcfi.adapters.store.options.tables import OptionRow, SettlementRequestRow
from btcfi.adapters.store.prices import pauses
from btcfi.contracts.payouts import decode_terms
from btcfi.errors import InvalidInputError
from btcfi.surfaces.party.side import read_message
from tests.support.doors import SPOT, Doors, Refused
from workers.commands import options as commands

pytestmark = pytest.mark.integration

ORDERING = ("cli", "console", "rest", "party")
SELLING = ("cli", "console", "rest")
SETTLING = ("cli", "console", "rest", "grpc", "flower")

FORM = {"kind": "call", "strike": "60000", "quantity": "0.1", "barrier": "", "american": "", "fixing": ""}

GOOD = [
    {}, {"strike": "60,000.50"}, {"strike": "$60000"}, {"strike": "60000 USD"}, {"quantity": "0.25 BTC"},
    {"quantity": "1,000"}, {"kind": "put", "barrier": "50,000"}, {"kind": "binary_put", "american": "yes"},
    {"fixing": "median:30", "strike": "61000.5"}, {"kind": "binary_call", "strike": "1"},
    {"strike": "90000", "quantity": "0.01"},
]  # fmt: skip

SPELLINGS = [
    "60000,50", "0,25", "6,00,00", "60,000,00", ",60000", "60000,", "6,0000", "0,250", "1_000", "\u0666\u0660\u0660",
    "\uff16\uff10\uff10", "6e4", "1E+5", "1e999999", "+60000", "-5", "60 000", "60\u00a0000", "0x10", "NaN",
    "Infinity", "60000.001", "0.125", ".5", "5.", "060000", "60'000", "1/2", "1.2.3", "\u00bd", "0", "0.00",
    "99999999999999", "1" * 41, "60000 EUR", "60000 USD USD", "x",
    "60\u2009000",
]  # fmt: skip
"""None of them is a number here, though each is to some parser."""


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """A market in which nothing is sold: every order is refused."""
    with pytest.MonkeyPatch.context() as patch:
        made = Doors(tmp_path_factory.mktemp("doors"), patch)
        yield made
        made.close()


@pytest.fixture
def doors(tmp_path, monkeypatch):
    made = Doors(tmp_path, monkeypatch)
    yield made
    made.close()


def test_a_good_order_is_the_same_row_through_every_door(doors):
    for wanted in GOOD:
        rows = {door: doors.order(door, **wanted) for door in ORDERING}
        assert rows["cli"] == rows["console"] == rows["rest"], wanted
        assert rows["party"].items() <= rows["cli"].items(), wanted
        assert rows["cli"]["premium_cents"] > 0


@pytest.mark.parametrize("spelling", SPELLINGS, ids=ascii)
def test_a_number_in_another_spelling_is_refused_by_its_field_at_every_door(market, spelling):
    for field in ("strike", "quantity", "barrier"):
        said = {door: market.order(door, **{field: spelling}) for door in ORDERING}
        assert said == dict.fromkeys(ORDERING, Refused(field)), field
    assert market.shown(market.form(FORM | {"expires": spelling})) == Refused("expiry")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "straddle"}, "kind"), ({"fixing": "twap:61"}, "fixing"), ({"fixing": "vwap:30"}, "fixing"),
        ({"fixing": "twap:\u0663\u0660"}, "fixing"), ({"barrier": "60000"}, "barrier"),
        ({"barrier": "59000", "strike": "50000"}, "barrier"), ({"american": "yes", "fixing": "twap:30"}, "fixing"),
        ({"quantity": "21,000,000.01"}, "quantity"), ({"strike": "42,949,672.96"}, "strike"),
    ],
)  # fmt: skip
def test_terms_that_make_no_option_are_refused_by_their_field_at_every_door(market, change, field):
    knows_no_price = {"party"} if change.get("barrier") == "59000" else set()
    for door in set(ORDERING) - knows_no_price:
        name = "type" if (door, field) == ("rest", "kind") else field  # as it was published
        assert market.order(door, **change) == Refused(name), door


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"type":"call","strike":60000,"strike":61000,"quantity":0.1,"expiry":%d}', "strike"),
        ('{"type":"call","strike":60000,"quantity":0.1,"expiry":"%d"}', "expiry"),
        ('{"type":"call","strike":60000,"quantity":0.1,"expiry":%d.0}', "expiry"),
        ('{"type":"call","strike":6e4,"quantity":0.1,"expiry":%d}', "strike"),
        ('{"type":"call","strike":60000.001,"quantity":0.1,"expiry":%d}', "strike"),
        ('{"type":"call","strike":true,"quantity":0.1,"expiry":%d}', "strike"),
        ('{"type":"call","strike":60000,"quantity":1e-1,"expiry":%d}', "quantity"),
        ('{"type":"call","strike":60000,"quantity":0.1,"expiry":%d,"american":"yes"}', "american"),
        ('{"type":"call","strike":60000,"quantity":0.1,"expiry":%d,"american":1}', "american"),
        ('{"type":"call","strike":60000,"quantity":0.1,"expiry":%d,"max_premium_cents":"900000"}', "max_premium_cents"),
        ('{"type":"call","strike":NaN,"quantity":0.1,"expiry":%d}', "body"),
        ('{"type":"call","strike":60000,"quantity":Infinity,"expiry":%d}', "body"),
    ],
)  # fmt: skip
def test_json_that_two_parsers_read_differently_is_refused_by_the_name_of_the_field(market, body, field):
    answer = market.post(body % market.expiry)
    assert (answer.status_code, market.refusal(answer)) == (422, Refused(field))
    assert market.rows() == []


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ('"strike_cents": "6000000"', "strike_cents"), ('"strike_cents": 6000000.0', "strike_cents"),
        ('"strike_cents": 6e6', "strike_cents"), ('"strike_cents": true', "strike_cents"),
        ('"strike_cents": 1, "strike_cents": 6000000', "strike_cents"), ('"strike_cents": NaN', "NaN"),
    ],
)  # fmt: skip
def test_a_partys_option_file_in_another_spelling_is_refused_by_its_field(market, written, field):
    market.order("party")
    file = market.folder / f"party-{market.orders}.json"
    wrong = file.with_name("wrong.json")
    wrong.write_text(re.sub(r'"strike_cents": ?6000000', written, file.read_text()))
    assert wrong.read_text() != file.read_text()
    assert decode_terms(read_message(str(file))).strike == 6_000_000
    with pytest.raises(InvalidInputError) as caught:
        decode_terms(read_message(str(wrong)))
    assert field in str(caught.value)


def test_a_field_that_stands_twice_is_refused_by_its_name_at_every_door(market):
    for command in (("options", "create"), ("party", "option", "--out", str(market.folder / "twice.json"))):
        code, _, err = market.run(*command, *market._words(FORM), "--strike", "50000")
        assert market._command(code, err) == Refused("strike")
        assert market.run(*command, *market._words(FORM), "--strike=50000")[0] == 2
    twice = {"type": "call", "strike": ["60000", "50000"], "expiry": str(market.expiry)}
    assert market.refusal(market.web.get("/api/v1/premium", params=twice)) == Refused("strike")
    fields = market.form(FORM) | {"strike": ["60000", "50000"]}
    assert market.shown(fields) == Refused("strike")
    assert market.press(fields, "") == Refused("strike")


# ---- the price


class Reader(io.StringIO):
    """Somebody at a terminal, who reads a while before saying yes."""

    def __init__(self, meanwhile):
        super().__init__("y\n")
        self._meanwhile = meanwhile

    def isatty(self):
        return True

    def readline(self, *arguments):
        self._meanwhile()
        return super().readline(*arguments)


def test_a_premium_that_has_risen_above_what_was_shown_sells_nothing_at_any_door(doors, monkeypatch):
    fields = doors.form(FORM)
    shown = doors.shown(fields)
    query = {"type": "call", "strike": 60000, "quantity": "0.1", "expiry": str(doors.expiry)}
    quoted = doors.web.get("/api/v1/premium", params=query).json()
    body = doors.body(FORM) | {"max_premium_cents": quoted["total_cents"], "quoted_at_unix": quoted["quoted_at_unix"]}
    assert shown.startswith(f"{quoted['total_cents']}.{doors.expiry}.")

    def meanwhile():
        doors.price(doors.slot + 60, SPOT + 50_000)

    monkeypatch.setattr(sys, "stdin", Reader(meanwhile))
    code, _, err = doors.run("options", "create", *doors._words(FORM))
    assert f"premium ${quoted['total_cents'] / 100:,.2f}" in err
    assert (code, "btcfi: the premium is now $" in err) == (65, True)
    answer = doors.post(json.dumps(body))
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:btcfi:error:price-moved")
    assert answer.json()["premium_cents"] > answer.json()["max_premium_cents"] == quoted["total_cents"]
    assert doors.press(fields, shown).field.startswith("the premium is now")
    code, _, err = doors.run("options", "create", *doors._words(FORM), "--max-premium", "0.01")
    assert (code, "above the limit of $0.01" in err) == (65, True)
    assert doors.rows() == []


def test_a_premium_that_has_fallen_is_the_one_that_is_paid(doors, monkeypatch):
    fields = doors.form(FORM)
    shown = doors.shown(fields)
    limit = int(shown.split(".")[0])
    monkeypatch.setattr(sys, "stdin", Reader(lambda: doors.price(doors.slot + 60, SPOT - 50_000)))
    assert doors.run("options", "create", *doors._words(FORM))[0] == 0
    assert doors.press(fields, shown) is None
    assert doors.post(json.dumps(doors.body(FORM) | {"max_premium_cents": limit})).status_code == 201
    (paid,) = {row.premium_cents for row in doors.rows()}
    assert (len(doors.rows()), paid < limit) == (3, True)


@pytest.mark.parametrize("age", [90, -90])
def test_an_old_quote_and_one_of_another_clock_sell_nothing_at_any_door(doors, monkeypatch, age):
    fields = doors.form(FORM)
    limit, expiry, at, digest = doors.shown(fields).split(".")
    old = f"{limit}.{expiry}.{int(at) - age}.{digest}"
    assert doors.press(fields, old).field.startswith("the quote ")
    answer = doors.post(json.dumps(doors.body(FORM) | {"quoted_at_unix": int(time.time()) - age}))
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:btcfi:error:quote-expired")
    now = commands._now
    wait = lambda: monkeypatch.setattr(commands, "_now", lambda: now() + age)  # noqa: E731 - a person who reads
    monkeypatch.setattr(sys, "stdin", Reader(wait))
    code, _, err = doors.run("options", "create", *doors._words(FORM))
    assert (code, "quote again" in err) == (65, True)
    assert doors.rows() == []


def test_the_button_sells_only_what_its_page_showed(doors):
    fields = doors.form(FORM)
    shown = doors.shown(fields)
    assert doors.press(fields, "") == Refused("quote")
    assert doors.press(fields | {"strike": "10000"}, shown) == Refused("quote")  # typed after the quote came
    assert doors.press(fields | {"quantity": "1"}, shown) == Refused("quote")
    assert doors.press(fields, "1.2.3") == Refused("quote")
    assert doors.rows() == []
    doors.price(doors.slot + 60, SPOT)  # the next minute: the expiry stays the one that was shown
    assert doors.press(fields, shown) is None
    assert [row.expiry_unix for row in doors.rows()] == [doors.expiry]


@pytest.mark.parametrize("why", ["stale", "thin", "halted"])
def test_a_price_that_the_market_has_left_is_neither_quoted_nor_sold_at_any_door(doors, why):
    with doors.store.transaction() as session:
        if why == "halted":
            pauses.pause(session, "BTC/USD", by="a test", now=int(time.time()))
    if why == "thin":
        doors.price(doors.slot + 60, SPOT, thin=("few_dollar_markets",))
    elif why == "stale":  # the recording was played 326 days ago, and stands still since
        doors.price(doors.slot + 60, SPOT, closed_at=int(time.time()) - 326 * 86_400)
    for door in SELLING:
        said = doors.order(door)
        assert isinstance(said, Refused), door
        assert said.field.startswith(f"BTC/USD is {why}"), (door, said)


def test_nothing_is_sold_for_nothing_and_the_quote_says_what_the_chain_takes(doors):
    far = {"strike": "90000", "quantity": "0.01"}
    shown = doors.shown(doors.form(FORM | far))
    for door in SELLING:
        row = doors.order(door, **far)
        # a thousand satoshis, the least that the funding can pay
        assert (row["premium_cents"], row["premium_sats"]) == (60, 1_000), door
    assert shown.startswith("60.")


# ---- settlements


def test_a_settlement_is_asked_for_by_one_row_and_answered_alike_at_every_door(doors):
    doors.order("cli")
    (row,) = doors.rows()
    assert {doors.settle(door, row.id) for door in SETTLING} == {"open"}
    with doors.store.reading() as session:
        assert session.get(SettlementRequestRow, row.id).requested_by.startswith("cli:")
    assert {doors.settle(door, "nobody-sold-this") for door in SETTLING} == {"not found"}


@pytest.mark.parametrize("state", ["EXERCISED", "ABANDONED"])
def test_every_door_says_of_an_option_that_has_ended_how_it_did_and_notes_nothing(doors, state):
    doors.order("cli")
    with doors.store.transaction() as session:
        (row,) = doors.rows()
        session.get_one(OptionRow, row.id).state = state
    said = {door: doors.settle(door, row.id) for door in SETTLING}
    assert said == dict.fromkeys(SETTLING, f"refused (the option has ended: {state})")
    with doors.store.reading() as session:
        assert session.get(SettlementRequestRow, row.id) is None
