"""Browsers that an account lets in: many at once, on either database, open one session and guess five times."""

import pytest
from sqlmodel import select

from btcfi.adapters.store.market import visitors
from btcfi.adapters.store.market.accounts import account, register
from btcfi.adapters.store.market.visitor_tables import DeskSessionRow, DeskSignInRow
from btcfi.adapters.store.market.visitors import MOST_TRIES, Browser, WrongAnswerError
from btcfi.errors import NotFoundError
from tests.integration.adapters.store.market.test_store_market_at_once import all_at_once
from tests.support.market_store import MAKER, NOW, TAKER, filled, newer

CODE, WORD, DIGITS = "K7QM2XHD", "the cookie's word", "48217730"


@pytest.fixture
def asked(store):
    """A store in which a browser has asked."""
    filled(store)
    with store.transaction() as session:
        visitors.ask(session, CODE, Browser(cookie=WORD, words="Firefox on Linux", address="192.0.2.7"), now=NOW)
    return store


def answer(store, trader=MAKER, digits=DIGITS, now=NOW):
    with store.transaction() as session:
        visitors.answer(
            session, CODE, account(session, trader.id), browser="Firefox on Linux", address="192.0.2.7",
            digits=digits, now=now,
        )  # fmt: skip


def let_in(store, n=1, word=WORD, digits=DIGITS, now=NOW):
    with store.transaction() as session:
        return visitors.let_in(
            session, CODE, word, digits, token=f"token {n}", number=f"{n:016x}", now=now, seconds=60
        ).id  # fmt: skip


def counted(store):
    with store.transaction() as session:
        return visitors.count_try(session, CODE)


def test_guesses_at_once_are_no_more_than_one_after_another(asked):
    assert sum(one is True for one in all_at_once(lambda _: counted(asked), range(12))) == MOST_TRIES


def test_a_code_opens_one_session_however_often_its_digits_are_sent_at_once(asked):
    answer(asked)

    def enter(n):
        try:
            return let_in(asked, n)
        except WrongAnswerError:
            return None

    assert [one for one in all_at_once(enter, range(8)) if one is not None] == [MAKER.id]
    with asked.reading() as session:
        assert len(session.exec(select(DeskSessionRow)).all()) == 1
        assert session.exec(select(DeskSignInRow)).all() == []


def test_two_accounts_that_answer_one_code_at_once_are_one(asked):
    found = all_at_once(lambda who: answer(asked, who), [MAKER, TAKER])
    assert sum(isinstance(one, visitors.CodeTakenError) for one in found) == 1


@pytest.mark.parametrize(
    "wrong", [{"word": "another browser's"}, {"digits": "00000000"}, {"now": NOW + visitors.CODE_SECONDS}]
)
def test_each_of_cookie_digits_and_time_is_needed(asked, wrong):
    answer(asked)
    with pytest.raises(WrongAnswerError):
        let_in(asked, **wrong)
    assert let_in(asked) == MAKER.id


def test_an_answer_by_a_key_that_was_replaced_meanwhile_opens_nothing(asked):
    answer(asked)
    with asked.transaction() as session:
        register(session, newer(MAKER).registration(), now=NOW)
    with pytest.raises(WrongAnswerError):
        let_in(asked)


def test_nobody_has_answered_and_the_code_of_yesterday_are_no_way_in(asked):
    with pytest.raises(WrongAnswerError):
        let_in(asked)
    with pytest.raises(NotFoundError):
        answer(asked, now=NOW + visitors.CODE_SECONDS)


def ask(store, code, address, now=NOW):
    with store.transaction() as session:
        visitors.ask(session, code, Browser(cookie=WORD, words="Firefox", address=address), now=now)


def codes(store):
    with store.reading() as session:
        return {row.code for row in session.exec(select(DeskSignInRow)).all()}


@pytest.mark.parametrize("block", ["203.0.113.{}", "2001:db8:7:{}::1"])
def test_who_asks_for_codes_without_an_end_shuts_nobody_out_and_ends_no_code_but_its_own(asked, block, monkeypatch):
    """Some seventy addresses could have all codes that there are: no other browser was shown one."""
    monkeypatch.setattr(visitors, "MOST_ASKED", 20)
    for n in range(40):
        ask(asked, f"FLOOD{n:03}", block.format(n), now=NOW + n // 10)
    ask(asked, "HONEST22", "198.51.100.9", now=NOW + 5)
    found = codes(asked)
    assert {CODE, "HONEST22"} <= found
    assert len(found) <= 20


def test_where_accounts_have_answered_all_codes_none_of_them_makes_room(asked, monkeypatch):
    monkeypatch.setattr(visitors, "MOST_ASKED", 1)
    answer(asked)
    with pytest.raises(visitors.TooManyAskedError):
        ask(asked, "OTHER222", "198.51.100.9")
    assert codes(asked) == {CODE}
