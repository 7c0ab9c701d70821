"""Shares of a caller: turns, room for bodies, places for streams."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from btcfi.surfaces.addresses import among, who_calls, who_counts
from btcfi.surfaces.rest.bodies import Bodies
from btcfi.surfaces.rest.errors import BodyTooLargeError, BusyError, NoRoomError, RateLimitedError, SlowBodyError
from btcfi.surfaces.rest.turns import Places, Rates, Room, Turns
from settings.deployment import Deployment


def test_a_caller_with_many_waiting_stands_in_nobody_elses_way():
    async def play():
        turns, order = Turns(each=1, most=2), []
        held = asyncio.Event()

        async def work(caller):
            async with turns.of(caller, seconds=5):
                order.append(caller)
                await held.wait()

        greedy = [asyncio.create_task(work("greedy")) for _ in range(20)]
        await asyncio.sleep(0)
        modest = asyncio.create_task(work("modest"))
        for _ in range(50):
            await asyncio.sleep(0)
        assert order == ["greedy", "modest"]
        held.set()
        await asyncio.gather(*greedy, modest)
        assert order.count("greedy") == 20

    asyncio.run(play())


def test_who_waits_too_long_is_refused_and_holds_nothing_afterwards():
    async def play():
        turns = Turns(each=1)
        async with turns.of("a", seconds=5):
            with pytest.raises(BusyError):
                async with turns.of("a", seconds=0.01):
                    pass
        async with turns.of("a", seconds=0.01):
            pass
        assert not turns._lines

    asyncio.run(play())


def test_room_is_counted_by_caller_and_by_what_came_not_by_what_was_told():
    room = Room(each=10, most=15)
    with room.share("a") as one, room.share("b") as two:
        one.grow(8)
        with pytest.raises(NoRoomError):
            one.grow(3)
        two.grow(7)
        with pytest.raises(NoRoomError):
            two.grow(1)
    with room.share("b") as again:
        again.grow(10)


def test_places_of_one_caller_leave_places_for_others():
    places = Places(each=1, most=2)
    with places.place("a"):
        assert not places.free("a")
        with places.place("b"):
            assert not places.free("c")
        assert places.free("c")
    assert places.free("a")


def test_strangers_leave_a_part_of_the_room_and_of_the_places_to_callers_with_a_key():
    room, places = Room(each=10, most=40), Places(each=10, most=40)
    with ExitStack() as held:
        for n in range(3):
            held.enter_context(room.share(f"stranger {n}", stranger=True)).grow(10)
            for _ in range(10):
                held.enter_context(places.place(f"stranger {n}"))
        with pytest.raises(NoRoomError) as full:
            room.check("stranger 4", 1, stranger=True)
        assert not full.value.of_caller
        assert not places.refusal("stranger 4", stranger=True).of_caller
        room.check("key", 10)
        assert places.free("key")


def test_a_refusal_says_whether_the_caller_s_own_or_everybody_s_limit_is_reached():
    room = Room(each=10, most=15)
    with room.share("a") as one:
        one.grow(10)
        with pytest.raises(NoRoomError, match="what a caller may have, 10 bytes"):
            room.check("a", 1)
        with pytest.raises(NoRoomError, match="all callers hold the 15 bytes"):
            room.check("b", 6)


def test_an_address_has_a_rate_which_refills_and_another_has_its_own():
    now = [0.0]
    rates = Rates(lambda: now[0], each_per_minute=60)
    for _ in range(6):
        rates.take("a")
    with pytest.raises(RateLimitedError) as caught:
        rates.take("a")
    assert caught.value.retry_after_seconds == 1
    rates.take("b")
    now[0] += 1
    rates.take("a")


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("ipv4:192.0.2.7:5000", "192.0.2.7"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:5000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::1]:5000", "2001:db8:1:2::/64"),
        ("unix:/run/oracle", "unix:/run/oracle"),
    ],
)
def test_a_grpc_caller_is_counted_as_at_the_other_doors(peer, counted):
    assert who_calls(peer) == counted


def _body(*parts, stops=False, length=b"8"):
    """Read a body that comes in these parts, and then ends or stops."""
    left = list(parts)

    async def receive():
        if not left and stops:
            await asyncio.sleep(60)
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": stops or bool(left)}

    async def read():
        scope = {"headers": [(b"content-length", length)]}
        async with Bodies(Room(each=8, most=8), seconds=0.05).of(scope, receive, caller="a", limit=8) as body:
            return body

    return asyncio.run(read())


def test_a_body_has_a_size_and_a_time():
    assert _body(b"1234", b"5678") == b"12345678"
    with pytest.raises(SlowBodyError):
        _body(b"1234", stops=True)
    with pytest.raises(BodyTooLargeError):
        _body(b"123456789")
    with pytest.raises(BodyTooLargeError):
        _body(b"", length=b"9")


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1%eth0", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
    ],
)
def test_an_ipv6_network_of_one_subscriber_is_one_caller(host, counted):
    assert who_counts(host) == counted
    assert not among(host, ())


@pytest.mark.parametrize("text", ["*", "proxy.example", "10.0.0.1/8", "127.0.0.1,"])
def test_a_trusted_proxy_is_an_address_and_never_everybody(text):
    with pytest.raises(ValueError, match="address or network"):
        Deployment(trusted_proxies=text)


@pytest.mark.parametrize("text", ["https://api.example", "api.example:443", "a b"])
def test_a_served_host_is_a_name_without_scheme_and_port(text):
    with pytest.raises(ValueError, match="host name"):
        Deployment(api_hosts=text)
