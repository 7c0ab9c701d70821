"""A disk that is full for a while, from whichever write on: the setup goes on afterwards, and no bid stays spent."""

import errno
import os
from contextlib import suppress

import pytest

from btcfi.adapters import files
from tests.support.desks import open_chain, open_pair

pytestmark = pytest.mark.integration

SPELL = 4
"""Writes that a full disk refuses before there is room again."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    with open_chain(folder) as (chain, cookie):
        yield folder, chain, cookie


class Disk:
    """Refuses the writes from ``full_from`` on, ``SPELL`` of them."""

    def __init__(self, full_from):
        self.full_from, self.asked = full_from, 0

    def fsync(self, _descriptor):
        self.asked += 1
        if self.full_from <= self.asked < self.full_from + SPELL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def carry(pair, name):
    """Put each answer into the other's inbox, unless it was there: what the service does."""
    for source, target in ((pair.seller, pair.buyer), (pair.buyer, pair.seller)):
        for path in (source.folder / "outbox" / f"{name}.{kind}.json" for kind in ("offer", "accept", "sign")):
            if not path.exists():
                continue
            rooms = [target.folder / "inbox" / room / path.name for room in ("", "done", "refused")]
            if not any(one.exists() for one in rooms):
                rooms[0].write_bytes(path.read_bytes())


def set_up(pair, name, rounds=25):
    pair.order(name)
    for _ in range(rounds):
        for side in (pair.seller, pair.buyer):
            with suppress(OSError):  # as `party run` takes it
                side.round()
        carry(pair, name)
        if pair.buyer.said(f"{name}.funded"):
            return
    refused = [
        path.read_text() for side in (pair.seller, pair.buyer) for path in side.folder.glob("*/refused/*.reason")
    ]
    raise AssertionError(f"{name} is not funded; refused: {refused}")


@pytest.mark.slow
def test_from_whichever_write_on_the_disk_is_full_the_setup_goes_on_when_there_is_room(world, monkeypatch):
    folder, chain, cookie = world
    many, number = None, 0
    while many is None or number <= many:
        disk = Disk(number or 10**9)  # the first one counts the writes
        with open_pair(folder / f"pair-{number}", chain, cookie, number + 1) as pair:
            monkeypatch.setattr(files.os, "fsync", disk.fsync)
            set_up(pair, "one")
            monkeypatch.undo()
            answered_once(pair)
        many, number = many or disk.asked, number + 1
    assert number > 5


def answered_once(pair):
    """The order and the bid are spent, each by one contract."""
    for side in (pair.seller, pair.buyer):
        assert len(side.store.names()) == 1
        assert len(side.desk.orders()) == 1
    assert not list((pair.buyer.folder / "bids").glob("*.json"))


@pytest.mark.parametrize("who", ["seller", "buyer"])
def test_what_stands_on_the_disk_is_spent_also_where_the_disk_was_full_a_moment_later(world, monkeypatch, who):
    folder, chain, cookie = world
    with open_pair(folder / who, chain, cookie, 60 + len(who)) as pair:
        store = getattr(pair, who).store
        genuine, failed = store.save, []

        def save(contract):
            name = genuine(contract)
            if not failed:
                failed.append(name)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return name

        monkeypatch.setattr(store, "save", save)
        set_up(pair, "one")
        assert failed
        answered_once(pair)
