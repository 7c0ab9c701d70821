"""What an operator may do from the console: tried dry, confirmed in words, written down; and nothing else."""

from __future__ import annotations

import re

import pytest
from sqlmodel import select

from btcfi.adapters.store.access.console_tables import AuditRow
from btcfi.adapters.store.options.settlements import request_settlement
from btcfi.adapters.store.options.tables import OptionRow, SettlementRequestRow, SettlementRow
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.pause_tables import PausedFeedRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.tables import OutboxRow
from btcfi.options.terms import OptionKind
from btcfi.oracle.quote import BTC_USD
from btcfi.units import CentsPerBtc, Slot, UnixSeconds
from tests.support.console_world import csrf_of


@pytest.fixture
def client(world):
    return world.signed_in()


@pytest.fixture
def deep(world):
    """An American binary in the money, which is worth exercising, and a European call, which may not be."""
    world.sell("deep", kind=OptionKind.BINARY_CALL, american=True, strike=CentsPerBtc(5_000_000))
    world.sell("plain")
    for name in ("deep", "plain"):
        world.fund(name)


def rows(world, table):
    with world.store.reading() as session:
        return session.exec(select(table)).all()


def post(client, path, **form):
    token = csrf_of(client)
    return client.post(path, data={"csrf": token, **form}, follow_redirects=False)


def test_a_dry_run_tells_what_each_would_be_answered_and_changes_nothing(world, client, deep):
    before = (rows(world, OptionRow), rows(world, OutboxRow))
    page = post(client, "/operate/settle/try", by="ids", one="deep plain none").text
    assert re.search(r"deep.*?accepted.*?early exercise", page, re.DOTALL)
    assert re.search(r"plain.*?refused.*?European", page, re.DOTALL)
    assert "there is no such option" in page
    assert "settle deep" in page
    assert rows(world, SettlementRequestRow) == rows(world, SettlementRow) == []
    assert (rows(world, OptionRow), rows(world, OutboxRow)) == before


@pytest.mark.parametrize("typed", ["", "settle", "settle plain", "yes", "settle 2 options"])
def test_without_the_words_nothing_is_settled(world, client, deep, typed):
    answer = post(client, "/operate/settle", id=["deep"], confirm=typed)
    assert answer.status_code == 422
    assert "nothing was done" in answer.text
    assert rows(world, SettlementRequestRow) == []


def test_a_confirmed_settlement_is_requested_once_with_a_name_and_an_audit_row(world, client, deep):
    for _ in range(2):
        answer = post(client, "/operate/settle", id=["deep"], confirm="Settle deep")
        assert answer.status_code == 303
        assert "settle: done" in client.get(answer.headers["location"]).text
    (asked,) = rows(world, SettlementRequestRow)
    assert (asked.option_id, asked.requested_by, asked.state) == ("deep", "console ada", "open")
    assert [row.flow for row in rows(world, OutboxRow)].count("answer_request") >= 1
    assert world.audited()[-1] == ("ada", "settle", "done")
    assert "settle" in world.submitted


def test_a_selection_and_a_filter_settle_what_was_shown_and_no_more(world, client, deep):
    page = post(client, "/operate/settle/try", by="selection", id=["deep", "plain", "deep"]).text
    assert page.count('name="id"') == 1, "one of the two would be settled"
    world.sell("deep-2", kind=OptionKind.BINARY_CALL, american=True, strike=CentsPerBtc(5_000_000))
    world.fund("deep-2")
    page = post(client, "/operate/settle/try", by="filter", state="ACTIVE", style="american").text
    assert re.findall(r'name="id" value="([^"]+)"', page) == ["deep", "deep-2"]
    assert "settle 2 options" in page
    assert "finds no option" in post(client, "/operate/settle/try", by="filter", kind="put").text
    assert "finds no option" in post(client, "/operate/settle/try", by="filter", due="yes").text
    post(client, "/operate/settle", id=["deep", "deep-2"], confirm="settle 2 options")
    assert {row.option_id for row in rows(world, SettlementRequestRow)} == {"deep", "deep-2"}


def test_one_unknown_option_among_many_settles_none(world, client, deep):
    answer = post(client, "/operate/settle", id=["deep", "none"], confirm="settle 2 options")
    assert answer.status_code == 404
    assert rows(world, SettlementRequestRow) == []
    assert world.audited()[-1] == ("ada", "settle", "refused")


def test_too_many_at_once_none_at_all_and_wrong_filters_are_refused(client):
    many = " ".join(f"o{n}" for n in range(201))
    assert post(client, "/operate/settle/try", by="ids", one=many).status_code == 422
    assert post(client, "/operate/settle/try", by="ids").status_code == 422
    assert post(client, "/operate/settle").status_code == 422
    assert post(client, "/operate/settle/try", by="filter", state="x").status_code == 422


def test_what_was_accepted_before_is_not_offered_again(world, client, deep):
    with world.store.transaction() as session:
        request_settlement(session, "deep", requested_by="op", now=world.now).state = "accepted"
    assert "was accepted before" in post(client, "/operate/settle/try", by="ids", one="deep").text


def test_parked_settlements_get_new_attempts_when_the_word_is_typed(world, client):
    for name in ("one", "two"):
        world.sell(name)
        world.park(name)
    assert "2 parked" in re.sub(r"<[^>]+>", "", client.get("/").text)
    assert post(client, "/operate/requeue", id=["st-one"], confirm="no").status_code == 422
    assert post(client, "/operate/requeue", id=[], confirm="requeue").status_code == 422
    assert post(client, "/operate/requeue", id=["st-one"], confirm="requeue").status_code == 303
    found = {row.id: (row.state, row.attempts) for row in rows(world, SettlementRow)}
    assert found == {"st-one": ("due", 0), "st-two": ("parked", 5)}
    assert world.audited()[-1] == ("ada", "requeue", "done")
    assert post(client, "/operate/requeue", id=["st-one", "st-x"], confirm="requeue").status_code == 422
    assert world.audited()[-1] == ("ada", "requeue", "refused")


def test_a_paused_feed_opens_no_round_until_it_is_resumed(world, client):
    def opens(slot):
        with world.store.transaction() as session:
            now = UnixSeconds(max(world.now, slot + 60))
            return rounds.open_round(session, BTC_USD, Slot(slot), now=now, deadline_seconds=20)

    first = world.now // 60 * 60
    assert post(client, "/operate/feed", do="pause", confirm="pause").status_code == 422
    assert opens(first)
    assert post(client, "/operate/feed", do="pause", confirm="pause BTC/USD").status_code == 303
    assert [row.paused_by for row in rows(world, PausedFeedRow)] == ["ada"]
    assert not opens(first + 60)
    assert "paused" in client.get("/").text
    world.now += 240
    assert post(client, "/operate/feed", do="resume").status_code == 303
    assert opens(first + 360)
    opened = sorted(row.slot - first for row in rows(world, RoundRow) if row.state == "open")
    assert opened == [0, 300, 360], "no minute of the pause"
    assert post(client, "/operate/feed", do="pause", confirm="pause BTC/USD").status_code == 303
    assert not opens(first + 420)
    assert post(client, "/operate/feed", do="resume").status_code == 303
    assert [action for _, action, _ in world.audited()[-2:]] == ["feed.pause", "feed.resume"]


def test_a_worker_is_drained_and_resumed_by_its_name_alone(world, client):
    assert post(client, "/operate/worker", do="drain", worker="settle@host").status_code == 303
    assert world.drained == ["settle@host"]
    assert "drained" in client.get("/").text
    assert post(client, "/operate/worker", do="resume", worker="settle@host").status_code == 303
    assert world.drained == []
    assert post(client, "/operate/worker", do="drain", worker="nobody@host").status_code == 404
    assert world.audited()[-1][1:] == ("worker.resume", "done")


def test_the_audit_shows_others_and_only_ones_own_deed_as_news(world, client):
    post(client, "/operate/feed", do="pause", confirm="pause BTC/USD")
    deed = max(row.id for row in rows(world, AuditRow))
    with world.store.transaction() as session:
        session.get_one(AuditRow, deed).account = "rita"
    page = client.get(f"/operate?done={deed}").text
    assert "feed pause: done" not in page
    assert "rita" in page
    for bad in ("?done=x", "?before=0", "?done=99999999999999999999"):
        assert client.get("/operate" + bad).status_code == 422


def test_a_sale_that_is_not_funded_is_cancelled_by_its_words_and_one_that_is_funded_stays(world, client, deep):
    world.sell("mistake")
    assert "cancel mistake" in client.get("/options/mistake").text
    assert "cancel deep" not in client.get("/options/deep").text
    assert post(client, "/operate/cancel", one="mistake", confirm="cancel").status_code == 422
    assert post(client, "/operate/cancel", one="mistake", confirm="cancel mistake").status_code == 303
    assert post(client, "/operate/cancel", one="deep", confirm="cancel deep").status_code == 409  # it is funded
    states = {row.id: row.state for row in rows(world, OptionRow)}
    assert (states["mistake"], states["deep"]) == ("CANCELLED", "ACTIVE")
    said = [(row.target, row.outcome) for row in rows(world, AuditRow) if row.action == "cancel"]
    assert said == [("", "refused"), ("mistake", "done"), ("deep", "refused")]
