"""Closes in the browser: what an offer to close would give, whose word it waits for, and what each side got of it."""

from __future__ import annotations

import csv
import io
import re
from html import unescape

import pytest

from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.bitcoin.transaction import parse_transaction
from btcfi.contracts.messages import Role
from btcfi.options.terms import OptionKind
from tests.support.desk_world import desk_world

pytestmark = pytest.mark.integration

PRICE = 20_000
"""Of the collateral, to the holder."""


@pytest.fixture
def desk(tmp_path):
    with desk_world(tmp_path) as made:
        yield made


@pytest.fixture
def alice(desk):
    """Who wrote it."""
    return desk.join("alice-1")


@pytest.fixture
def bob(desk):
    """Who holds it."""
    return desk.join("bob-1")


@pytest.fixture
def held(desk, alice, bob):
    one = min(desk.listed(OptionKind.CALL), key=lambda one: (one.expiry, abs(one.strike - 7_000_000)))
    return desk.hold(desk.trade(alice, bob, one.name, 1_500))


def words(text: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", text)))


def row_of(page: str, name: str) -> str:
    return words(re.search(rf'<tr id="{name}".*?</tr>', page, re.DOTALL)[0])


def option_of(desk, held) -> OptionRow:
    with desk.world.store.reading() as session:
        return session.get_one(OptionRow, held.option_id)


def test_each_side_sees_whose_offer_it_is_what_it_would_get_and_its_own_command(desk, alice, bob, held):
    offered = held.offer_close(PRICE, Role.BUYER, now=desk.world.now)
    option = option_of(desk, held)
    premium, rest = option.premium_sats, option.collateral_sats - PRICE
    for one, who, mine, profit, command in (
        (bob, "you", PRICE, PRICE - premium, "--withdraw"),
        (alice, "the other side", rest, premium - PRICE, "--accept"),
    ):
        row = row_of(desk.sign_in(one).get("/desk/positions").text, f"c-{offered.id}")
        assert f" {who} {PRICE:,} {mine:,} {profit:,} " in row
        assert f"btcfi market close {command} {offered.id[:16]}" in row
    third = desk.sign_in(desk.join("carol-1")).get("/desk/positions").text
    assert offered.id not in third
    desk.world.now += 601
    assert offered.id not in desk.sign_in(bob).get("/desk/positions").text, "what has lapsed waits for nobody"


def test_the_close_page_says_what_a_price_gives_each_side_and_the_command_that_offers_it(desk, alice, bob, held):
    option = option_of(desk, held)
    for one, part in ((bob, PRICE), (alice, option.collateral_sats - PRICE)):
        browser = desk.sign_in(one)
        page = words(browser.get(f"/desk/close/{held.option_id}", params={"price": "20,000"}).text)
        assert f"You get{'' if one is bob else ', less the fee'} {part:,} sats" in page
        assert f"btcfi market close {held.option_id} --price {PRICE}sat" in page
        part_alone = browser.get(f"/desk/close/{held.option_id}?price=1", headers={"HX-Request": "true"}).text
        assert "<html" not in part_alone
        for wrong in (str(option.collateral_sats + 1), "-1", "0.1", "nonsense", "²"):
            refused = browser.get(f"/desk/close/{held.option_id}", params={"price": wrong})
            assert refused.status_code == 200
            assert "No offer." in refused.text, wrong
            assert "--price" not in refused.text, wrong
    suggested = re.search(r'name="price" value="(\d+)"', browser.get(f"/desk/close/{held.option_id}").text)[1]
    mark = desk.client.app.state.desk.holdings.of(bob.identity.hex()).rows[0].mark.value_cents
    assert int(suggested) == mark * 10**8 // 7_000_000


def test_nobody_but_its_two_sides_has_a_close_page(desk, alice, bob, held):
    third = desk.sign_in(desk.join("carol-1"))
    answer, nowhere = (third.get(f"/desk/close/{name}") for name in (held.option_id, "t" + "0" * 32))
    assert answer.status_code == nowhere.status_code == 404
    assert words(answer.text).replace(held.option_id, "") == words(nowhere.text).replace("t" + "0" * 32, "")
    assert desk.get(f"/close/{held.option_id}", follow_redirects=False).headers["location"] == "/desk/sign-in"


def test_what_both_have_signed_is_no_risk_any_more_and_then_stands_among_what_is_over(desk, alice, bob, held):
    offered = held.offer_close(PRICE, Role.SELLER, now=desk.world.now)
    txid = offered.agree()
    option = option_of(desk, held)
    returned = option.collateral_sats - PRICE - 308
    sides = (
        (bob, "you sold it back", PRICE, PRICE - option.premium_sats),
        (alice, "you bought it back", returned, returned - option.collateral_sats + option.premium_sats),
    )
    for one, did, got, profit in sides:
        browser = desk.sign_in(one)
        page = browser.get("/desk/positions").text
        row = row_of(page, f"p-{held.option_id}")
        assert f"{did}; you get {got:,} sats in {txid[:8]}" in row
        assert f"{profit:,} sats" in row
        assert f"/close/{held.option_id}" not in page, "it is closed once"
        assert "There is nothing to close" not in browser.get(f"/desk/close/{held.option_id}").text
        assert did in words(browser.get(f"/desk/close/{held.option_id}").text)
        (line,) = csv.DictReader(io.StringIO(browser.get("/desk/positions.csv").text))
        assert (line["closed_sats"], line["closed_txid"], line["mark_usd"]) == (str(got), txid, "")
        held_now = desk.client.app.state.desk.holdings.of(one.identity.hex())
        assert (held_now.at_risk, held_now.profit, held_now.greeks) == (0, None, None)
        assert desk.client.app.state.desk.holdings.sizes(one.identity.hex(), option.expiry_unix) == {}
    offered.confirm()
    for one, did, got, profit in sides:
        browser = desk.sign_in(one)
        page = browser.get("/desk/positions").text
        assert f'id="p-{held.option_id}"' not in page
        row = row_of(page, f"e-{held.option_id}")
        assert did in row
        assert f" {got:,} {profit:,} {txid[:8]}" in row
        assert "expired worthless" not in row
        (line,) = csv.DictReader(io.StringIO(browser.get("/desk/history.csv").text))
        assert (line["outcome"], line["paid_sats"], line["profit_sats"]) == ("closed", str(got), str(profit))
        assert (line["txid"], line["price_usd"]) == (txid, "")


def test_one_that_was_settled_by_its_oracles_keeps_its_own_words_beside_one_that_was_closed(desk, alice, bob, held):
    one = min(desk.listed(OptionKind.CALL), key=lambda one: (one.expiry, abs(one.strike - 7_000_000)))
    lost, won = (desk.hold(desk.trade(alice, bob, one.name, 1_500)) for _ in range(2))
    offered = held.offer_close(PRICE, Role.BUYER, now=desk.world.now)
    offered.agree()
    offered.confirm()
    lost.expire(6_500_000, now=desk.world.now)
    browser = desk.sign_in(bob)
    page = browser.get("/desk/positions").text
    assert "you bought it; it expired worthless" in row_of(page, f"e-{lost.option_id}")
    assert "you bought it; you sold it back" in row_of(page, f"e-{held.option_id}")
    assert f'id="p-{won.option_id}"' in page
    verdict = words(browser.get("/desk/verify", params={"id": lost.option_id}).text)
    assert "It holds." in verdict
    assert "It expired worthless" in verdict
    outcomes = {
        row["option"]: row["outcome"] for row in csv.DictReader(io.StringIO(browser.get("/desk/history.csv").text))
    }
    assert outcomes == {lost.option_id: "abandoned", held.option_id: "closed"}


def test_a_settlement_that_came_too_late_changes_nothing_of_what_both_have_closed(desk, bob, held):
    offered = held.offer_close(PRICE, Role.BUYER, now=desk.world.now)
    offered.agree()
    with desk.world.store.transaction() as session:
        session.add(
            SettlementRow(
                id="st-late", option_id=held.option_id, state="due", reason="expiry", slot=1, price_cents=1,
                input_hex="", proof_sha256=None, created_at_unix=1, updated_at_unix=1,
            )
        )  # fmt: skip
    offered.confirm()
    page = desk.sign_in(bob).get("/desk/positions").text
    assert f" {PRICE:,} " in row_of(page, f"e-{held.option_id}")


def test_a_closed_contract_is_verified_by_its_one_signature_and_another_transaction_is_not_it(desk, alice, bob, held):
    offered = held.offer_close(PRICE, Role.BUYER, now=desk.world.now)
    txid = offered.agree()
    offered.confirm()
    browser = desk.sign_in(bob)
    verdict = words(browser.get("/desk/verify", params={"id": txid}).text)
    assert "It holds." in verdict
    assert f"Both sides have closed it: who bought it gets {PRICE:,} sats" in verdict
    assert "no program ran" in verdict
    assert desk.get("/verify", params={"id": txid}).status_code == 404
    with desk.world.store.transaction() as session:
        row = session.get_one(TransactionRow, txid)
        forged = parse_transaction(bytes.fromhex(row.raw_hex)).with_witness(0, [bytes(64)])
        row.raw_hex = forged.to_bytes().hex()
    verdict = words(browser.get("/desk/verify", params={"id": txid}).text)
    assert "It does not hold." in verdict
    assert "has not the one signature of both sides" in verdict
