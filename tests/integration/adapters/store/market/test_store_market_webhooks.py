"""Webhooks in the store: what waits for whom, who may try, and what is left of an attempt that died."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, update
from sqlmodel import col, select

from btcfi.adapters.store.market import views, webhooks
from btcfi.adapters.store.market.accounts import account
from btcfi.adapters.store.market.webhook_tables import WebhookLookRow, WebhookRow
from btcfi.adapters.store.market.webhooks import GAP_MS, LEASE_SECONDS, MOST_HOOKS, HookThereError, TooManyHooksError
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.webhook import MOST_TRIES
from tests.integration.adapters.store.market.test_store_market_at_once import all_at_once
from tests.support.market_store import MAKER, NOW, OTHER, TAKER, filled, traded

MS = NOW * 1000
KINDS = ("take", "option", "settlement", "webhook")


@pytest.fixture
def market(store):
    return filled(store)


def add(store, trader=MAKER, n=1, kinds=KINDS, url=None):
    with store.transaction() as session:
        row = webhooks.add(
            session, f"{n:016x}", account(session, trader.id), url=url or f"https://hooks.example.com/{n}",
            kinds=kinds, secret_sealed=b"sealed", now=NOW,
        )  # fmt: skip
        return row.id


def look(store, ms=MS):
    with store.transaction() as session:
        return webhooks.look(session, now_ms=ms)


def begun(store, now=NOW, most=9):
    """Turns of the slow, where a new hook is, and of the others."""
    with store.transaction() as session:
        return [a for slow in (True, False) for a in webhooks.begin(session, slow=slow, most=most, now=now)]


def following(store, attempt):
    with store.transaction() as session:
        return webhooks.following(session, attempt)


def heard(store, attempt, now=NOW):
    """Tell a hook all that waits, and return what it was."""
    told = []
    while (edge := following(store, attempt)) is not None:
        told.append(edge)
        with store.transaction() as session:
            assert webhooks.note_taken(session, attempt, edge.event.id, status=204, slow=False, now=now)
    with store.transaction() as session:
        webhooks.end(session, attempt)
    return told


def all_heard(store, now=NOW):
    while look(store):
        pass
    return {one.hook_id: heard(store, one, now) for one in begun(store, now)}


def row_of(store, hook_id):
    with store.reading() as session:
        return session.get_one(WebhookRow, hook_id)


def failed(store, attempt, *, rest=5, gone=False, now=NOW):
    with store.transaction() as session:
        return webhooks.note_failed(
            session, attempt, status=500, problem="status 500", rest=rest, gone=gone, now=now
        )  # fmt: skip


def words(edges):
    return [(edge.event.entity, edge.event.to_state) for edge in edges]


def test_a_hook_hears_what_happens_to_its_account_from_then_on_and_nothing_of_others(market):
    traded(market)
    mine, others = add(market, MAKER, 1), add(market, OTHER, 2)
    _, _, take = traded(market)
    first = all_heard(market)
    assert words(first[mine]) == [("webhook", "active"), ("option", "CREATED"), ("take", "taken")]
    assert words(first[others]) == [("webhook", "active")], "that it is there is the first that it hears"
    assert {edge.option.id for edge in first[mine] if edge.option} == {take.option_id}
    assert all_heard(market) == {}, "nothing waits, and nobody tries"


def test_what_is_told_is_what_the_account_s_stream_has_in_the_same_order(market):
    mine = add(market)
    for _ in range(3):
        traded(market)
    told = [edge.event.id for edge in all_heard(market)[mine]]
    with market.reading() as session:
        edges, _ = views.edges_of(session, MAKER.id, after=0)
    assert told == [edge.event.id for edge in edges]


def test_a_hook_for_some_kinds_hears_those_and_passes_over_the_others(market):
    mine = add(market, kinds=("settlement", "take"))
    traded(market)
    assert words(all_heard(market)[mine]) == [("webhook", "active"), ("take", "taken")]
    traded(market, maker=OTHER)
    assert all_heard(market) == {}


def test_events_of_others_between_two_of_an_account_are_read_once_and_in_bounded_parts(market, monkeypatch):
    monkeypatch.setattr(webhooks, "LOOKED_AT", 3)
    monkeypatch.setattr(webhooks, "READ_AT_ONCE", 2)
    mine = add(market)
    assert words(all_heard(market)[mine]) == [("webhook", "active")]
    for _ in range(8):
        traded(market, maker=OTHER)
    traded(market)
    assert words(all_heard(market)[mine]) == [("option", "CREATED"), ("take", "taken")], "it begins at its own"
    traded(market)
    for _ in range(8):
        traded(market, maker=OTHER)
    traded(market)
    while look(market):
        pass
    told, turns = [], 0
    while waiting := begun(market):
        told += heard(market, waiting[0])
        turns += 1
    assert words(told) == [("option", "CREATED"), ("take", "taken")] * 2
    assert turns > 1, "one turn reads no more than its part"


def test_an_account_has_four_hooks_however_many_are_added_at_once_and_one_for_a_url(market):
    def adding(n):
        try:
            return add(market, n=n)
        except TooManyHooksError:
            return None

    made = [one for one in all_at_once(adding, range(1, 9)) if one is not None]
    assert len(made) == MOST_HOOKS
    add(market, OTHER, 20)
    with pytest.raises(HookThereError):
        add(market, OTHER, 21, url="https://hooks.example.com/20")
    for kinds in ((), ("offer",), ("take", "take")):
        with pytest.raises(InvalidInputError):
            add(market, OTHER, 22, kinds=kinds)


def test_of_a_hook_that_is_added_the_account_s_others_hear(market):
    first, quiet = add(market, n=1), add(market, n=2, kinds=("take",))
    all_heard(market)
    added = add(market, n=3)
    told = all_heard(market)
    assert [(edge.event.entity_id, edge.event.to_state) for edge in told[first]] == [(added, "active")]
    assert told[quiet] == []


def test_another_s_hook_is_not_there(market):
    mine = add(market)
    with market.transaction() as session:
        for act in (webhooks.hook_of, webhooks.remove):
            with pytest.raises(NotFoundError):
                act(session, OTHER.id, mine)
        with pytest.raises(NotFoundError):
            webhooks.test(session, OTHER.id, mine, now=NOW)
        webhooks.remove(session, MAKER.id, mine)
        assert webhooks.hooks_of(session, MAKER.id) == []


def test_one_process_alone_has_a_turn_however_many_ask_at_once(market):
    for n, one in enumerate((MAKER, TAKER, OTHER), 1):
        add(market, one, n)
    look(market)
    turns = [attempt.hook_id for found in all_at_once(lambda _: begun(market), range(6)) for attempt in found]
    assert sorted(turns) == [f"{n:016x}" for n in (1, 2, 3)]


def test_an_attempt_that_died_is_tried_again_and_one_that_comes_late_writes_nothing(market):
    mine = add(market)
    look(market)
    (dead,) = begun(market)
    edge = following(market, dead)
    assert begun(market, NOW + LEASE_SECONDS - 1) == []
    (again,) = begun(market, NOW + LEASE_SECONDS)
    assert following(market, again).event.id == edge.event.id
    with market.transaction() as session:
        assert not webhooks.note_taken(session, dead, edge.event.id, status=204, slow=False, now=NOW)
    assert following(market, dead) is None
    assert not failed(market, dead)
    assert (row_of(market, mine).told_event, row_of(market, mine).tries) == (edge.event.id - 1, 2)


def test_a_failed_attempt_rests_and_one_that_a_wrong_clock_tried_waits_for_no_year(market):
    mine = add(market)
    look(market)
    (attempt,) = begun(market)
    failed(market, attempt, rest=7)
    assert begun(market, NOW + 6) == []
    (again,) = begun(market, NOW + 7)
    assert again.tries == 2
    with market.transaction() as session:
        session.execute(update(WebhookRow).values(tried_at_unix=NOW + 10**7))
    assert [one.hook_id for one in begun(market)] == [mine]


def test_what_fails_for_days_is_given_up_and_the_account_hears_of_it(market):
    mine, second = add(market, n=1), add(market, n=2)
    look(market)
    now = NOW
    for n in range(1, MOST_TRIES + 1):
        found = {one.hook_id: one for one in begun(market, now)}
        if second in found:
            heard(market, found[second])
        assert found[mine].tries == n
        assert failed(market, found[mine], rest=5, now=now) is (n == MOST_TRIES)
        now += 5
    row = row_of(market, mine)
    assert (row.state, row.problem, row.last_status) == ("disabled", "status 500", 500)
    assert words(all_heard(market, now)[second]) == [("webhook", "disabled")]
    with market.reading() as session:
        edges, _ = views.edges_of(session, MAKER.id, after=0)
    assert (edges[-1].event.entity_id, edges[-1].event.to_state) == (mine, "disabled")


def test_a_receiver_that_says_it_is_gone_is_given_up_at_once(market):
    mine = add(market)
    look(market)
    (attempt,) = begun(market)
    assert failed(market, attempt, gone=True)
    assert row_of(market, mine).state == "disabled"


def test_a_hook_that_was_given_up_is_active_after_a_test_and_hears_what_it_missed(market):
    mine = add(market)
    look(market)
    (attempt,) = begun(market)
    failed(market, attempt, gone=True)
    traded(market)
    assert all_heard(market) == {}
    with market.transaction() as session:
        webhooks.test(session, MAKER.id, mine, now=NOW)
    assert words(all_heard(market)[mine]) == [
        ("webhook", "active"), ("webhook", "disabled"), ("option", "CREATED"), ("take", "taken"), ("webhook", "active"),
    ]  # fmt: skip


def test_a_test_goes_to_the_hook_that_is_tested_alone_and_ends_its_rest(market):
    mine, _ = add(market, n=1), add(market, n=2)
    all_heard(market)
    traded(market)
    look(market)
    for attempt in begun(market):
        failed(market, attempt, rest=3_600)
    with market.transaction() as session:
        webhooks.test(session, MAKER.id, mine, now=NOW)
    assert {name: words(told) for name, told in all_heard(market).items()} == {
        mine: [("option", "CREATED"), ("take", "taken"), ("webhook", "active")]
    }


def test_those_that_answer_late_or_never_wait_among_their_like(market):
    mine, slow, failing = add(market, n=1), add(market, n=2), add(market, n=3)
    look(market)
    for attempt in begun(market):
        edge = following(market, attempt)
        if attempt.hook_id == failing:
            failed(market, attempt, rest=0)
            continue
        with market.transaction() as session:
            webhooks.note_taken(
                session, attempt, edge.event.id, status=204, slow=attempt.hook_id == slow, now=NOW
            )  # fmt: skip
            webhooks.end(session, attempt)
    traded(market)
    look(market)
    with market.transaction() as session:
        lanes = {late: {a.hook_id for a in webhooks.begin(session, slow=late, most=9, now=NOW)} for late in (0, 1)}
    assert lanes == {0: {mine}, 1: {slow, failing}}


def event(number, entity_id, to_state="taken"):
    return {"id": number, "entity": "take", "entity_id": entity_id, "from_state": "", "to_state": to_state, "fence": 0,
            "at_unix": NOW, "detail": ""}  # fmt: skip


def test_a_number_that_is_missing_is_waited_for_and_an_event_that_commits_late_is_told_in_its_order(market):
    mine = add(market)
    all_heard(market)
    _, _, take = traded(market)
    all_heard(market)
    with market.transaction() as session:
        newest = session.exec(select(EventRow.id).order_by(col(EventRow.id).desc())).first()
        session.execute(insert(EventRow).values(event(newest + 2, take.id, "checked")))
        session.execute(insert(EventRow).values(event(newest + 4, take.id, "failed")))
    look(market, MS)
    assert begun(market) == []
    look(market, MS + GAP_MS - 1)
    assert begun(market) == []
    with market.transaction() as session:
        session.execute(insert(EventRow).values(event(newest + 1, take.id, "late")))
    look(market, MS + GAP_MS - 1)
    look(market, MS + GAP_MS)
    (attempt,) = begun(market)
    assert [edge.event.to_state for edge in heard(market, attempt)] == ["late", "checked", "failed"]
    assert row_of(market, mine).told_event == newest + 4


@pytest.mark.parametrize("since", [NOW * 1000 + 10**9, None])
def test_numbers_that_are_missing_for_good_hold_nothing_up_also_by_a_clock_that_was_set_back(market, since):
    add(market)
    all_heard(market)
    _, _, take = traded(market)
    all_heard(market)
    with market.transaction() as session:
        newest = session.exec(select(EventRow.id).order_by(col(EventRow.id).desc())).first()
        for n in range(1, 40, 2):
            session.execute(insert(EventRow).values(event(newest + 1 + n, take.id)))
        if since is not None:
            session.execute(update(WebhookLookRow).values(gap_upto=newest + 2, gap_since_ms=since))
    look(market, MS)
    assert begun(market) == []
    look(market, MS + GAP_MS)
    (attempt,) = begun(market)
    assert len(heard(market, attempt)) == 20, "all that were there when the first was missed"


def test_a_store_that_never_looked_tells_nobody_of_its_past(market):
    traded(market)
    with market.transaction() as session:
        assert session.get(WebhookLookRow, "events") is None
    assert not look(market)
    with market.reading() as session:
        newest = session.exec(select(EventRow.id).order_by(col(EventRow.id).desc())).first()
        assert session.get_one(WebhookLookRow, "events").event_id == newest
