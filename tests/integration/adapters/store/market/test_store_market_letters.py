"""Letters come once by name and in order; who floods the service fills its own part of it; nobody has another's."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select

from btcfi.adapters.store.market import letters
from btcfi.adapters.store.market.errors import MailboxFullError
from btcfi.adapters.store.market.tables import LetterRow
from btcfi.units import UnixSeconds
from tests.support.market_store import MAKER, NOW, OTHER, TAKER

LATER = UnixSeconds(NOW + 60)


def sent(store, name, sealed=b"sealed", *, sender=None, to=None, now=NOW):
    with store.transaction() as session:
        row = letters.post(session, sender=sender, recipient=to, name=name, sealed=sealed, now=now)
        return row.id, bytes(row.sealed)


def names(store, recipient, **more):
    with store.reading() as session:
        return [row.name for row in letters.waiting(session, recipient, **more)]


def acknowledged(store, recipient, ids):
    with store.transaction() as session:
        return letters.acknowledge(session, recipient, ids, now=LATER)


def test_of_two_letters_of_one_name_the_first_stays(store):
    first = sent(store, "t1.offer", b"one", sender=MAKER.id)
    assert sent(store, "t1.offer", b"two", sender=MAKER.id) == first
    acknowledged(store, None, [first[0]])
    assert sent(store, "t1.offer", b"three", sender=MAKER.id) == first
    assert names(store, None) == []
    with store.reading() as session:
        assert bytes(letters.said(session, MAKER.id, "t1.offer").sealed) == b"one"
        assert letters.said(session, OTHER.id, "t1.offer") is None


def test_one_name_from_and_to_different_accounts_is_as_many_letters(store):
    for trader in (MAKER, TAKER):
        sent(store, "t1.offer", sender=trader.id)
        sent(store, "t1.offer", to=trader.id)
    assert (names(store, None), names(store, MAKER.id)) == (["t1.offer"] * 2, ["t1.offer"])


def test_letters_are_read_in_order_and_only_by_whom_they_are_for(store):
    ids = [sent(store, f"t{n}.proposal", to=MAKER.id)[0] for n in range(5)]
    sent(store, "t9.proposal", to=TAKER.id)
    assert names(store, MAKER.id, limit=3) == ["t0.proposal", "t1.proposal", "t2.proposal"]
    assert names(store, MAKER.id, after=ids[2]) == ["t3.proposal", "t4.proposal"]
    assert acknowledged(store, TAKER.id, ids) == 0, "another's letters stay"
    assert acknowledged(store, MAKER.id, ids[:2]) == 2
    assert acknowledged(store, MAKER.id, ids[:3]) == 1
    assert names(store, MAKER.id) == ["t3.proposal", "t4.proposal"]


def test_a_number_beyond_this_store_reads_from_the_beginning(store):
    sent(store, "t1.proposal", to=MAKER.id)
    assert names(store, MAKER.id, after=10_000) == ["t1.proposal"]


def test_an_account_that_floods_the_service_fills_its_own_part_and_no_other_s(store, monkeypatch):
    monkeypatch.setattr(letters, "MAX_UNHANDLED", 20)
    ids = [sent(store, f"x{n}.offer", sender=OTHER.id)[0] for n in range(20)]
    with pytest.raises(MailboxFullError):
        sent(store, "x20.offer", sender=OTHER.id)
    assert sent(store, "x3.offer", sender=OTHER.id)[0] == ids[3], "what is there is there"
    sent(store, "t1.offer", sender=MAKER.id)
    assert names(store, None, after=ids[-1]) == ["t1.offer"]
    acknowledged(store, None, ids[:1])
    sent(store, "x20.offer", sender=OTHER.id)


def test_an_account_s_letters_that_wait_are_bounded_by_their_bytes_too(store, monkeypatch):
    monkeypatch.setattr(letters, "MAX_UNHANDLED_BYTES", 3 * len(b"sealed"))
    ids = [sent(store, f"x{n}.offer", sender=OTHER.id)[0] for n in range(3)]
    with pytest.raises(MailboxFullError):
        sent(store, "x3.offer", sender=OTHER.id)
    sent(store, "t1.offer", sender=MAKER.id)
    acknowledged(store, None, ids[:1])
    sent(store, "x3.offer", sender=OTHER.id)


def test_of_a_letter_that_says_nothing_its_name_is_kept_and_no_byte_of_it(store):
    number, _ = sent(store, "t1.whatever", sender=OTHER.id)
    with store.transaction() as session:
        letters.forget(session, number, now=LATER)
    with store.reading() as session:
        row = letters.said(session, OTHER.id, "t1.whatever")
        assert (row.sealed, row.handled_at_unix) == (b"", LATER)
    assert sent(store, "t1.whatever", sender=OTHER.id)[0] == number


def test_what_is_not_acknowledged_can_be_taken_back_and_what_is_was_said(store):
    (first, _), (second, _) = sent(store, "t1.proposal", to=MAKER.id), sent(store, "t2.proposal", to=MAKER.id)
    acknowledged(store, MAKER.id, [first])
    with store.transaction() as session:
        taken = [letters.take_back(session, MAKER.id, f"t{n}.proposal") for n in (1, 2, 3)]
        held = [letters.holds(session, MAKER.id, f"t{n}.proposal") for n in (1, 2, 3)]
    assert (taken, held) == ([False, True, False], [True, False, False])
    assert sent(store, "t4.proposal", to=MAKER.id)[0] > second, "a number that was seen is never another letter's"


def test_what_was_acknowledged_long_ago_is_forgotten_and_what_waits_is_not(store):
    (old, _), _ = sent(store, "t1.offer", sender=MAKER.id), sent(store, "t2.offer", sender=MAKER.id)
    acknowledged(store, None, [old])
    with store.transaction() as session:
        assert letters.prune(session, before=LATER) == 0
        assert letters.prune(session, before=UnixSeconds(LATER + 1)) == 1
    assert names(store, None) == ["t2.offer"]


def test_who_reads_behind_a_number_misses_nothing_that_comes_at_the_same_time(store):
    """PostgreSQL hands numbers out before the commit: a later one may be seen first, and an earlier one never."""
    start, many = Barrier(4), 12

    def write(one):
        start.wait(timeout=20)
        for n in range(many):
            sent(store, f"t{one}-{n}.proposal", to=MAKER.id)

    seen, at = [], 0
    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(write, one) for one in range(4)]
        done = False
        while not done:
            done = all(one.done() for one in working)
            with store.reading() as session:
                some = letters.waiting(session, MAKER.id, after=at)
            seen += [row.name for row in some]
            at = some[-1].id if some else at
        for one in working:
            one.result()
    with store.reading() as session:
        assert sorted(seen) == sorted(session.execute(select(LetterRow.name)).scalars())
    assert len(seen) == 4 * many


def test_who_waits_is_told_of_the_service_s_own_new_letters_and_of_no_others(store):
    def since(after):
        with store.reading() as session:
            return letters.come_since(session, after)

    before, _ = sent(store, "t1.proposal", to=TAKER.id)
    assert since(None) == (before, frozenset())
    sent(store, "t1.offer", sender=TAKER.id)  # to the service: nobody waits for that
    assert since(before) == (before, frozenset())
    newer, _ = sent(store, "t2.proposal", to=MAKER.id)
    assert since(before) == (newer, frozenset({MAKER.id}))
    assert since(newer) == (newer, frozenset())
