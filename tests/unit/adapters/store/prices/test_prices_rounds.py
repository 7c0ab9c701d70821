"""A minute's round: who must have spoken, what a later word may replace, and what a wrong clock cannot do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sqlmodel import select

from btcfi.adapters.store.prices import rounds, waits
from btcfi.adapters.store.prices.observations import is_wanted, observations_of, store_observation
from btcfi.adapters.store.prices.rounds import MAX_ATTEMPTS, Register
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.tables import BlobRow, OutboxRow
from btcfi.hashes import sha256
from btcfi.oracle.consensus import ConsensusRule, Method
from btcfi.oracle.quote import Feed, MinuteNotClosedError, Missing, MissingReason, parse_venue
from btcfi.units import Slot, UnixSeconds
from tests.support.oracle_support import quote

FEED = Feed("BTC/USD")
SLOT = Slot(1_699_999_980)
NOW = UnixSeconds(SLOT + 62)
VENUES = tuple(parse_venue(f"{name}:BTC/USD") for name in ("bitstamp", "coinbaseexchange", "kraken"))
LEG = parse_venue("kraken:USDT/USD")
RULE = ConsensusRule(method=Method.MEDIAN, least_dollar_markets=0, thin_bps=0)
REGISTER = Register(feed=FEED, venues=VENUES, legs=(LEG,), rule=RULE)


@pytest.fixture
def session(tmp_path):
    made = Store(f"sqlite:///{tmp_path}/store.db")
    made.migrate()
    with made.transaction() as opened:
        yield opened
    made.close()


def absent(venue, reason: MissingReason, *, at: Slot = SLOT) -> Missing:
    return Missing(venue=venue, slot=at, reason=reason, detail="", observed_at=NOW)


def say(session, *words, now=NOW):
    return [store_observation(session, FEED, word, b"", now=now) for word in words]


def quotes(venues=VENUES):
    return [quote(venue, 60_000_00 + i, slot=SLOT) for i, venue in enumerate(venues)]


def opened(session):
    assert rounds.open_round(session, FEED, SLOT, now=NOW, deadline_seconds=20)


@pytest.mark.parametrize("final", [True, False])
def test_a_minute_that_has_not_ended_is_neither_opened_nor_closed_whoever_asks(session, final) -> None:
    ahead = Slot(SLOT + 60)
    with pytest.raises(MinuteNotClosedError) as refused:
        rounds.open_round(session, FEED, ahead, now=NOW, deadline_seconds=20)
    assert refused.value.ends_in == 58
    session.add(RoundRow(feed=FEED, slot=ahead, state="open", deadline_unix=NOW - 100, opened_at_unix=NOW - 100))
    session.flush()
    with pytest.raises(MinuteNotClosedError):
        rounds.close_round(session, REGISTER, ahead, now=NOW, final=final)
    for _ in range(MAX_ATTEMPTS + 2):  # a round that an earlier release opened ahead of its time waits for it
        assert rounds.repair_rounds(session, REGISTER, now=NOW, deadline_seconds=0) == 0
    assert rounds.find_round(session, FEED, ahead).state == "open"


def test_a_quote_replaces_not_yet_and_nothing_replaces_a_quote(session) -> None:
    opened(session)
    (first,) = quotes(VENUES[:1])
    assert say(session, absent(VENUES[0], MissingReason.NOT_YET)) == [True]
    assert is_wanted(session, FEED, SLOT, VENUES[0])
    assert say(session, first) == [True]
    assert not is_wanted(session, FEED, SLOT, VENUES[0])
    another = quote(VENUES[0], 61_000_00, slot=SLOT)
    assert say(session, another, absent(VENUES[0], MissingReason.TIMEOUT)) == [False, False]
    assert observations_of(session, FEED, SLOT) == [first]


def test_a_final_reason_replaces_not_yet_and_is_itself_replaced_by_nothing_so_that_a_node_signs_one_word(session):
    opened(session)
    not_yet, gone = absent(VENUES[0], MissingReason.NOT_YET), absent(VENUES[0], MissingReason.NO_CANDLE)
    assert say(session, not_yet, gone, not_yet, *quotes(VENUES[:1])) == [True, True, False, False]
    assert observations_of(session, FEED, SLOT) == [gone]
    assert not is_wanted(session, FEED, SLOT, VENUES[0])


def test_nothing_joins_a_round_that_is_closed_so_that_its_evidence_gives_its_report_for_ever(session) -> None:
    opened(session)
    say(session, *quotes(VENUES[:2]))
    rounds.close_round(session, REGISTER, SLOT, now=NOW, final=True)
    before = observations_of(session, FEED, SLOT)
    assert say(session, *quotes()) == [False] * 3
    assert observations_of(session, FEED, SLOT) == before
    assert not is_wanted(session, FEED, SLOT, VENUES[2])


def test_a_venue_that_is_not_there_yet_keeps_the_round_open_until_its_attempts_are_over(session) -> None:
    opened(session)
    say(session, *quotes(VENUES[:2]), absent(VENUES[2], MissingReason.NOT_YET), absent(LEG, MissingReason.TIMEOUT))
    assert rounds.close_round(session, REGISTER, SLOT, now=NOW, final=False) == "open"
    now = NOW
    for _ in range(MAX_ATTEMPTS - 1):
        now = UnixSeconds(now + 20)
        assert rounds.repair_rounds(session, REGISTER, now=now, deadline_seconds=20) == 1
        assert rounds.find_round(session, FEED, SLOT).state == "open"
    flows = [row.flow for row in session.exec(select(OutboxRow)).all()]
    assert flows.count("price_round") == MAX_ATTEMPTS
    rounds.repair_rounds(session, REGISTER, now=UnixSeconds(now + 20), deadline_seconds=20)
    row = rounds.find_round(session, FEED, SLOT)
    assert row.state == "priced"
    (late,) = [one for one in json.loads(row.report)["absent"] if one["venue"] == str(VENUES[2])]
    assert late["reason"] == "not_yet"


def test_a_venue_that_comes_late_is_in_the_price(session) -> None:
    opened(session)
    say(session, *quotes(VENUES[:2]), absent(VENUES[2], MissingReason.NOT_YET), absent(LEG, MissingReason.TIMEOUT))
    rounds.close_round(session, REGISTER, SLOT, now=NOW, final=False)
    say(session, *quotes()[2:])
    assert rounds.close_round(session, REGISTER, SLOT, now=NOW, final=False) == "priced"
    assert len(json.loads(rounds.find_round(session, FEED, SLOT).report)["used"]) == 3


def test_a_leg_whose_market_is_silent_holds_up_no_price(session) -> None:
    opened(session)
    say(session, *quotes(), absent(LEG, MissingReason.NOT_YET))
    assert rounds.close_round(session, REGISTER, SLOT, now=NOW, final=False) == "priced"


def test_a_minute_that_most_exchanges_have_in_progress_is_not_void_however_often_a_fast_clock_asks(session) -> None:
    opened(session)
    say(session, *(absent(v, MissingReason.NOT_CLOSED) for v in VENUES), absent(LEG, MissingReason.TIMEOUT))
    now = NOW
    for _ in range(4 * MAX_ATTEMPTS):
        now = UnixSeconds(now + 20)
        rounds.repair_rounds(session, REGISTER, now=now, deadline_seconds=20)
        assert rounds.find_round(session, FEED, SLOT).state == "open"
    say(session, *quotes())
    rounds.repair_rounds(session, REGISTER, now=UnixSeconds(2 * now - NOW + 20), deadline_seconds=20)
    assert rounds.find_round(session, FEED, SLOT).state == "priced"


def test_a_clock_an_hour_ahead_asks_for_each_of_its_open_minutes_a_dozen_times_and_not_every_twenty_seconds(session):
    opened(session)
    say(session, *(absent(v, MissingReason.NOT_CLOSED) for v in VENUES), absent(LEG, MissingReason.TIMEOUT))
    asked = sum(
        rounds.repair_rounds(session, REGISTER, now=UnixSeconds(NOW + 15 * cycle), deadline_seconds=20)
        for cycle in range(1, 240)
    )
    assert 8 <= asked <= 12
    row = rounds.find_round(session, FEED, SLOT)
    assert (row.state, row.attempts) == ("open", 1)


def test_of_a_word_that_another_has_replaced_or_that_came_too_late_no_bytes_stay_behind(session) -> None:
    def padded(number: int) -> bytes:
        return b"%d" % number + b" " * 16_000

    def kept() -> set[bytes]:
        return {row.body for row in session.exec(select(BlobRow))}

    opened(session)
    for number in range(9):  # not yet, with other bytes each time
        raw = padded(number)
        assert store_observation(
            session, FEED, replace(absent(VENUES[0], MissingReason.NOT_YET), evidence=sha256(raw)), raw, now=NOW
        )
        assert kept() == {raw}
    word = padded(9)
    assert store_observation(session, FEED, replace(quotes()[0], evidence=sha256(word)), word, now=NOW)
    late = padded(10)
    assert not store_observation(session, FEED, replace(quotes()[0], evidence=sha256(late)), late, now=NOW)
    assert kept() == {word}


def test_the_bytes_of_a_replaced_word_stay_where_they_are_another_minute_s_evidence(session) -> None:
    raw, other = b"one answer for a whole day", b"a later one"
    before = replace(absent(VENUES[0], MissingReason.NO_CANDLE, at=Slot(SLOT - 3_540)), evidence=sha256(raw))
    awaited = replace(absent(VENUES[0], MissingReason.NOT_YET), evidence=sha256(raw))
    for said, body in ((before, raw), (awaited, raw), (replace(quotes()[0], evidence=sha256(other)), other)):
        assert store_observation(session, FEED, said, body, now=NOW)
    assert {row.body for row in session.exec(select(BlobRow))} == {raw, other}


def test_one_exchange_with_a_slow_clock_holds_no_round_open_beyond_its_attempts(session) -> None:
    opened(session)
    say(session, *quotes(VENUES[:2]), absent(VENUES[2], MissingReason.NOT_CLOSED), absent(LEG, MissingReason.TIMEOUT))
    for attempt in range(1, MAX_ATTEMPTS + 1):
        rounds.repair_rounds(session, REGISTER, now=UnixSeconds(NOW + 20 * attempt), deadline_seconds=20)
    assert rounds.find_round(session, FEED, SLOT).state == "priced"


def test_what_one_worker_was_told_holds_for_its_machine_and_only_until_then(session) -> None:
    def until(host):
        return waits.waits_until(session, "kraken", host, now=NOW)

    assert until("a") == 0
    waits.note_wait(session, "kraken", "a", UnixSeconds(NOW + 90), now=NOW)
    waits.note_wait(session, "kraken", "a", UnixSeconds(NOW + 30), now=NOW)  # an older word does not shorten it
    waits.note_wait(session, "kraken", "b", UnixSeconds(NOW - 1), now=NOW)  # over
    assert (until("a"), until("b")) == (NOW + 90, 0)
    # a word of a clock that was years ahead is none, and the next true one takes its place
    waits.note_wait(session, "kraken", "c", UnixSeconds(NOW + 10**9 + 60), now=UnixSeconds(NOW + 10**9))
    assert until("c") == 0
    waits.note_wait(session, "kraken", "c", UnixSeconds(NOW + 60), now=NOW)
    assert until("c") == NOW + 60
