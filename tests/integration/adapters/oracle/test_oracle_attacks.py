"""What aggregators, nodes, callers and a broken disk try on an oracle."""

import json
import os
import shutil
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from btcfi.adapters.keystore import FileLedger
from btcfi.adapters.oracle import folder as folder_module
from btcfi.adapters.oracle.asking import collect
from btcfi.adapters.oracle.client import OracleClient
from btcfi.adapters.oracle.folder import OracleFolder
from btcfi.adapters.oracle.oracle import AWAY_SECONDS, MOST_WANTED, OPEN_SECONDS, MinutesLackingError, UnknownEventError
from btcfi.adapters.oracle.sources import MinuteState, Page
from btcfi.adapters.oracle.sources import Served as ServedMinute
from btcfi.adapters.oracle.web import Web
from btcfi.adapters.oracle_network.network_file import write_registry
from btcfi.adapters.oracle_network.node_keys import read_node_key
from btcfi.errors import InvalidInputError, UnreachableError
from btcfi.oracle.attestation import EventHeldError
from btcfi.oracle.consensus import AgreedPrice, DropReason, Method
from btcfi.oracle.fixing import LeftOut, parse_fixing
from btcfi.oracle.own_minutes import MINUTES_AFTER, compute
from btcfi.oracle.recompute import RoundTerms, recompute_signed
from btcfi.oracle.round_book import NodeInfo, Registry
from btcfi.oracle.submission import sign_submission
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces.questions import CONNECTIONS_OF_ONE, QuestionServer
from btcfi.units import CentsPerBtc, Hash32, Slot, UnixSeconds
from settings.preset import load_preset
from tests.integration.adapters.oracle.test_oracle_answers import (
    FEED,
    NOW,
    START,
    Aggregator,
    Scene,
    event,
    flat,
    minute,
)
from tests.support.oracle_support import quote
from tests.support.oracles import DOLLARS, Served, sign

pytestmark = pytest.mark.integration

SOON = UnixSeconds(START + 180)
"""Two minutes after the end of minute 0: rounds may still be reported by an aggregator that was away."""

BARRIER = "agreed price >= {level} cents between {since} and {until}"


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


# ---- aggregators


def test_one_aggregator_that_withholds_makes_no_minute_void_while_another_cannot_be_asked(scene):
    honest = scene.aggregator({0: flat(6_000_000), 1: flat(6_100_000)})
    honest.away = True
    withholds = scene.aggregator({1: flat(6_100_000)}, name="withholds")
    withholds.minutes[minute(0)] = ServedMinute(slot=minute(0), state=MinuteState.NEVER_ASKED)
    oracle = scene.oracle(withholds, honest, now=SOON)
    with pytest.raises(MinutesLackingError, match="refused"):
        oracle.attestation(event(0))
    honest.away = False
    assert oracle.attestation(event(0)).outcome == 60_000


def test_one_aggregator_that_shows_a_part_closes_no_minute_while_another_is_behind(scene):
    closes = [6_000_000, 6_000_000, 6_000_000, 6_000_400, 6_000_400]
    honest = Aggregator("behind", {minute(-1): ServedMinute(slot=minute(-1), state=MinuteState.CLOSED)})
    part = scene.aggregator({0: [None, *closes[1:]]}, name="part")
    oracle = scene.oracle(part, honest, now=SOON)
    with pytest.raises(MinutesLackingError):
        oracle.attestation(event(0))
    honest.minutes[minute(0)] = scene.served(minute(0), closes)
    assert oracle.attestation(event(0)).outcome == 60_000


def test_one_aggregator_that_says_open_for_ever_or_is_gone_for_ever_stops_no_oracle(scene):
    part = scene.aggregator({0: [6_000_000, 6_000_000, 6_000_000, 6_000_000, None]})
    stuck = Aggregator("stuck", {minute(0): ServedMinute(slot=minute(0), state=MinuteState.OPEN)})
    gone = Aggregator("gone", {}, away=True)
    early = scene.oracle(part, stuck, gone, now=UnixSeconds(minute(1) + OPEN_SECONDS - 1))
    with pytest.raises(MinutesLackingError):
        early.attestation(event(0))
    late = scene.oracle(part, stuck, gone, now=UnixSeconds(minute(1) + OPEN_SECONDS))
    assert late.attestation(event(0)).outcome == 60_000


def test_a_page_decides_no_minute_that_was_not_asked_for_and_none_that_has_not_ended(scene):
    honest = scene.aggregator({n: flat(6_000_000) for n in range(3)})
    ahead = minute(10_000)

    class Forward(Aggregator):
        def page(self, start, minutes):
            self.asked += 1
            known = super().page(start, minutes).minutes
            future = {Slot(ahead + 60 * n): ServedMinute(slot=Slot(ahead + 60 * n), state=MinuteState.NEVER_ASKED)
                      for n in range(60)}  # fmt: skip
            return Page(newest=Slot(2**32 // 60 * 60 - 60), minutes={**known, **future})

    oracle = scene.oracle(honest, Forward("forward", dict(honest.minutes)), now=UnixSeconds(minute(3)))
    for _ in range(3):
        oracle.follow()
    assert oracle.minute(ahead) is None
    assert oracle.minute(minute(2)).closed
    assert oracle.status()["newest_slot"] <= minute(2)
    assert OracleFolder(scene.folder.path).newest() == minute(2)


def test_a_barrier_is_not_decided_by_a_minute_that_was_taken_for_void_while_the_better_aggregator_was_away(scene):
    prices = {n: flat(6_000_000) for n in range(5)} | {2: flat(6_100_000)}
    honest = scene.aggregator(prices)
    withholds = scene.aggregator({n: c for n, c in prices.items() if n != 2}, name="withholds")
    withholds.minutes[minute(2)] = ServedMinute(slot=minute(2), state=MinuteState.NEVER_ASKED)
    honest.away = True
    oracle = scene.oracle(withholds, honest)
    for _ in range(3):
        oracle.follow()
    honest.away = False
    text = BARRIER.format(level=6_100_000, since=minute(0), until=minute(4))
    assert oracle.attestation(event(4, condition=text)).outcome == (1 << 18) | 60_000


def test_a_word_from_before_its_minute_ended_or_after_it_was_sent_counts_in_no_oracle(scene):
    whole = scene.signed(minute(0), [6_000_000, 6_000_000, 6_000_100, 6_000_200, 6_000_200])

    def at(one, observed, sent=None):
        said = one.submission
        moved = replace(said, observation=replace(said.observation, observed_at=UnixSeconds(observed)),
                        sent_at_ms=said.sent_at_ms if sent is None else sent)  # fmt: skip
        key = read_node_key(scene.node_keys, said.venue)
        return sign_submission(moved, key, aux=bytes(32))

    wrong = (
        at(whole[0], minute(0) + 59), at(whole[1], minute(0) + 90), at(whole[2], 0),
        at(whole[3], minute(0) + 62, sent=(NOW + 3600) * 1000),
    )  # fmt: skip
    source = Aggregator("one", {minute(0): ServedMinute(
        slot=minute(0), state=MinuteState.CLOSED, submissions=(*wrong, whole[4]))})  # fmt: skip
    oracle = scene.oracle(source)
    oracle.follow()
    assert oracle.minute(minute(0)).submissions == (whole[4],)


def test_only_the_first_aggregator_s_word_is_trusted_for_minutes_before_there_were_signatures(scene):
    def stated(price):
        return ServedMinute(slot=minute(0), state=MinuteState.UNSIGNED, stated=AgreedPrice(
            slot=minute(0), price=CentsPerBtc(price), low=CentsPerBtc(price), high=CentsPerBtc(price),
            confidence=CentsPerBtc(0), registered=5, quorum=4, used=(), dropped=(), absent=(), rates=(),
            method=Method.MEDIAN, dollar_markets=5, reach=CentsPerBtc(0),
        ))  # fmt: skip

    trusted, other = Aggregator("mine", {minute(0): stated(5_900_000)}), Aggregator("other", {minute(0): stated(1)})
    trusted.away = True
    oracle = scene.oracle(trusted, other, trust_before=minute(1))
    with pytest.raises(MinutesLackingError):
        oracle.attestation(event(0))
    trusted.away = False
    assert oracle.attestation(event(0)).outcome == 59_000


def test_an_aggregator_that_is_gone_delays_a_minute_with_a_silent_venue_by_a_quarter_of_an_hour_and_no_more(scene):
    part = scene.aggregator({0: [6_000_000, 6_000_000, 6_000_000, 6_000_000, None]})
    gone = Aggregator("gone", {}, away=True)
    with pytest.raises(MinutesLackingError):
        scene.oracle(part, gone, now=UnixSeconds(minute(1) + AWAY_SECONDS - 1)).attestation(event(0))
    assert scene.oracle(part, gone, now=UnixSeconds(minute(1) + AWAY_SECONDS)).attestation(event(0)).outcome == 60_000


def test_a_minute_is_computed_as_a_report_is_recomputed_nodes_of_one_venue_that_differ_are_out_by_name(scene):
    venue, key = DOLLARS[0], b"\x09" * 32
    second = NodeInfo(node_id="second", venue=venue, public_key=public_key_xonly(key))
    registry = Registry(nodes={**scene.registry.nodes, "second": second})
    scene.folder.write_network(write_registry(FEED, registry))
    signed = scene.signed(minute(0), flat(6_000_000))
    other = sign(quote(venue, 6_050_000, slot=minute(0)), key, "second")
    twice = sign(quote(DOLLARS[1], 6_040_000, slot=minute(0)), read_node_key(scene.node_keys, DOLLARS[1]))
    oracle = scene.oracle(Aggregator("one", {minute(0): ServedMinute(
        slot=minute(0), state=MinuteState.CLOSED, submissions=(*signed, other, twice))}))  # fmt: skip
    oracle.follow()
    own, rule = oracle.minute(minute(0)), load_preset("standard").consensus
    terms = RoundTerms(feed=FEED, rule=rule, registered=registry.venues, legs=registry.legs)
    assert own.report(rule, FEED) == recompute_signed(terms, own.signed_round(), registry.keys)
    reasons = {(str(one.venue), one.reason) for one in own.outcome(rule, FEED).dropped}
    assert reasons == {(str(venue), DropReason.NODES_DISAGREE), (str(DOLLARS[1]), DropReason.EQUIVOCATION)}


# ---- callers


def test_no_question_makes_an_oracle_write_files_for_minutes_that_nobody_ever_asked(scene):
    class Never(Aggregator):
        def page(self, start, minutes):
            first = minute(-59) if start is None else start
            return Page(newest=minute(0), minutes={
                Slot(at): ServedMinute(slot=Slot(at), state=MinuteState.NEVER_ASKED)
                for at in range(first, first + 60 * minutes, 60)
            })  # fmt: skip

    oracle = scene.oracle(Never("never", {}))
    oracle.follow()
    for n in range(5):
        with pytest.raises(MinutesLackingError):
            oracle.attestation(event(-5_000 - 300 * n, fixing=parse_fixing("twap:60")))
    assert not list((scene.folder.path / "minutes").rglob("*.json"))
    with pytest.raises(UnknownEventError, match="expiry"):
        oracle.attestation(event(-1440 * 600))


def test_a_window_that_takes_the_minutes_of_a_whole_week_costs_a_moment_and_not_minutes():
    asked = []

    def void(at):
        asked.append(at)
        return LeftOut.VOID

    began = time.process_time()
    compute(event(0, fixing=parse_fixing("twap:60")), void, lambda _at, _touch: False)
    assert len(asked) == MINUTES_AFTER + 60
    assert time.process_time() - began < 2  # 17 s when each minute began again at the first


def test_absurd_questions_take_bounded_memory_and_hold_up_no_other(scene):
    oracle = scene.oracle(scene.aggregator({0: flat(6_000_000), 1: flat(6_000_000)}))
    for n in range(30):
        text = BARRIER.format(level=4_000_000_000, since=minute(n - 1440 * 399), until=minute(0))
        with pytest.raises((MinutesLackingError, InvalidInputError)):
            oracle.attestation(event(0, condition=text))
    assert oracle.status()["minutes_wanted"] <= MOST_WANTED
    assert oracle.attestation(event(1)).outcome == 60_000


def test_a_ledger_of_many_events_is_read_once_and_not_at_every_question(scene):
    oracle = scene.oracle(scene.aggregator({n: flat(6_000_000) for n in range(6)}))
    oracle.attestation(event(0))
    with (scene.folder.path / "ledger.jsonl").open("a") as file:
        file.writelines(f'["{oracle.key.hex()}", "{n:064x}", {n % 9}]\n' for n in range(200_000))
    oracle.attestation(event(1))
    began = time.process_time()
    for n in range(2, 6):
        oracle.attestation(event(n))
    assert time.process_time() - began < 1  # 20 s when it was read anew each time
    again = FileLedger(scene.folder.path / "ledger.jsonl")
    assert again.known(oracle_key=oracle.key, event=event(5).id) == 60_000


def test_whoever_drips_a_request_is_cut_off_and_one_caller_does_not_take_every_connection(scene):
    server = QuestionServer(lambda _path, _query: {}, ("127.0.0.1", 0), monotonic=time.monotonic, seconds=1.0)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    many = [socket.create_connection(server.server_address, timeout=5) for _ in range(CONNECTIONS_OF_ONE + 4)]
    time.sleep(0.3)
    assert server.open_of("127.0.0.1") <= CONNECTIONS_OF_ONE
    began = time.monotonic()
    gone = set()
    while len(gone) < len(many) and time.monotonic() - began < 6:
        for n, one in enumerate(many):
            try:
                one.send(b"G" if n not in gone else b"")
                one.settimeout(0.01)
                if one.recv(1) == b"":
                    gone.add(n)
            except TimeoutError:
                continue
            except OSError:
                gone.add(n)
        time.sleep(0.1)
    server.shutdown()
    server.server_close()
    assert len(gone) == len(many)
    for one in many:
        one.close()


# ---- who answers slowly, too much, or something else


class Raw:
    """A server that says what a test wants, byte by byte."""

    def __init__(self, say):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._say, self._stop = say, threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while not self._stop.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        try:
            connection.recv(4096)
            self._say(connection, self._stop)
        except OSError:
            pass
        finally:
            connection.close()

    def close(self):
        self._stop.set()
        self._listening.close()


def drip(head):
    def say(connection, stop):
        connection.sendall(head)
        while not stop.wait(0.2):
            connection.sendall(b"a")

    return say


@pytest.mark.parametrize("head", [
    b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
])  # fmt: skip
def test_whoever_answers_a_byte_at_a_time_is_away_after_the_time_for_a_whole_answer(head):
    slow = Raw(drip(head))
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="no whole answer in 1 s"):
        Web(slow.url, seconds=1.0).get("/v1/oracle")
    slow.close()
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("say", [
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[[[", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n"\\ud800"', b"nonsense", b"",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", b"HTTP/1.1 200 OK\r\nContent-Length: 1e9\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 500 \x1b[2J\r\nContent-Length: 20\r\n\r\n" + json.dumps({"error": "\x1b[2Jx"}).encode(),
])  # fmt: skip
def test_whatever_an_oracle_answers_the_others_are_collected_and_its_words_hold_no_control_signs(scene, say):
    served = Served(scene.oracle(scene.aggregator({0: flat(6_000_000)})))
    odd = Raw(lambda connection, _stop: connection.sendall(say))
    (promised,) = [OracleClient(Web(served.url)).announcement(event(0))]
    found = collect([OracleClient(Web(odd.url)), OracleClient(Web(served.url))], [promised])
    served.close()
    odd.close()
    assert [one.outcome for one in found.attestations] == [60_000]
    assert found.problems[0].isprintable()


def test_an_error_that_nobody_foresaw_in_one_oracle_s_answer_does_not_lose_the_others(scene):
    served = Served(scene.oracle(scene.aggregator({0: flat(6_000_000)})))

    class Broken(OracleClient):
        def attestation(self, event, announced):
            raise RecursionError("deep")

    promised = OracleClient(Web(served.url)).announcement(event(0))
    found = collect([Broken(Web("http://127.0.0.1:9")), OracleClient(Web(served.url))], [promised])
    served.close()
    assert [one.outcome for one in found.attestations] == [60_000]
    assert "RecursionError" in found.problems[0]


def test_a_url_with_a_port_that_is_none_is_refused_where_it_is_named():
    for url in ("http://127.0.0.1:99999", "http://127.0.0.1:x", "http://a b", "ftp://a", "http://user@a"):
        with pytest.raises(InvalidInputError):
            Web(url)


# ---- its own folder


def test_a_minute_s_file_that_is_damaged_is_fetched_again_and_stops_nothing(scene):
    source = scene.aggregator({n: flat(6_000_000) for n in range(4)})
    scene.oracle(source).follow()
    damaged = sorted((scene.folder.path / "minutes").rglob("*.json"))
    damaged[0].write_text("{")
    damaged[1].write_text('{"nodes": [], "closed": true, "submissions": [], "stated": null}')
    oracle = scene.oracle(source)
    oracle.follow()
    assert oracle.attestation(event(3, fixing=parse_fixing("twap:4"))).outcome == 60_000


def test_a_node_that_left_the_network_has_no_say_in_kept_minutes_and_breaks_none(scene):
    both = scene.served(minute(0), flat(6_000_000))
    lie = scene.signed(minute(0), [9_000_000, None, None, None, None])
    source = Aggregator("one", {minute(0): replace(both, submissions=(*both.submissions, *lie))})
    scene.oracle(source).follow()
    kept = {name: node for name, node in scene.registry.nodes.items() if node.venue != DOLLARS[0]}
    scene.folder.write_network(write_registry(FEED, Registry(nodes=kept)))
    assert scene.oracle().attestation(event(0)).outcome == 60_000


def test_an_oracle_whose_ledger_was_lost_attests_nothing_that_it_may_have_attested(scene):
    source = scene.aggregator({n: flat(6_000_000) for n in range(3)})
    scene.oracle(source).attestation(event(0))
    (scene.folder.path / "ledger.jsonl").unlink()
    scene.folder.create()
    with pytest.raises(EventHeldError):
        scene.oracle(scene.aggregator({0: flat(7_000_000)})).attestation(event(0))
    scene.folder.release([event(0).id])
    assert scene.oracle(source).attestation(event(0)).outcome == 60_000


@pytest.mark.parametrize("knows", ["its newest minute", "the database's clock", "what it held"])
def test_an_oracle_whose_ledger_was_lost_on_a_machine_whose_clock_is_behind_attests_nothing_twice(
    scene, monkeypatch, knows
):
    source = scene.aggregator({n: flat(6_000_000) for n in range(3)})
    assert scene.oracle(source).attestation(event(2)).outcome == 60_000
    if knows != "its newest minute":
        shutil.rmtree(scene.folder.path / "minutes")
    if knows == "what it held":
        scene.folder.hold(taken_at=UnixSeconds(minute(3)), now=UnixSeconds(minute(1)))
        scene.folder.release([event(2).id])
    (scene.folder.path / "ledger.jsonl").unlink()
    monkeypatch.setattr(folder_module, "time", SimpleNamespace(time=lambda: START - 86_400.0))
    scene.folder.create(**({"now": UnixSeconds(minute(3))} if knows == "the database's clock" else {}))
    with pytest.raises(EventHeldError):
        scene.oracle(scene.aggregator({n: flat(7_000_000) for n in range(3)})).attestation(event(2))


def test_a_first_start_that_was_killed_before_it_had_a_key_starts_again(tmp_path):
    folder = OracleFolder(tmp_path / "oracle")
    folder.create()
    for name in ("oracle.key", "public.json"):
        (folder.path / name).unlink()
    assert folder.create() == folder.public_key()
    assert folder.held() is None


def test_a_first_claim_survives_a_power_cut_for_its_folder_is_synced_too(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd))[1]
    )
    ledger = FileLedger(tmp_path / "ledger.jsonl")
    assert ledger.claim(oracle_key=b"\x01" * 32, event=Hash32(bytes(32)), outcome=5) == 5
    assert str(tmp_path) in synced
    assert synced.index(str(tmp_path / "ledger.jsonl")) >= 0


def test_two_processes_that_share_a_ledger_and_one_that_grew_behind_the_other_s_back_have_one_outcome(tmp_path):
    path = tmp_path / "ledger.jsonl"
    one, two = FileLedger(path), FileLedger(path)
    event_of = [Hash32(bytes([n]) * 32) for n in range(4)]
    key = b"\x01" * 32
    assert one.claim(oracle_key=key, event=event_of[0], outcome=1) == 1
    assert two.claim(oracle_key=key, event=event_of[0], outcome=2) == 1
    assert two.claim(oracle_key=key, event=event_of[1], outcome=2) == 2
    assert one.claim(oracle_key=key, event=event_of[1], outcome=3) == 2
    with path.open("ab") as file:
        file.write(b'["torn')
    assert one.known(oracle_key=key, event=event_of[1]) == 2
    assert two.claim(oracle_key=key, event=event_of[2], outcome=7) == 7
    assert one.known(oracle_key=key, event=event_of[2]) == 7
    restored = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(restored)  # a backup, shorter than what was read
    assert one.known(oracle_key=key, event=event_of[2]) is None
    other = tmp_path / "other"
    other.write_bytes(restored + f'["{key.hex()}", "{event_of[2].hex()}", 9]\n'.encode())
    shutil.move(other, path)  # another file in its place
    assert one.known(oracle_key=key, event=event_of[2]) == 9
