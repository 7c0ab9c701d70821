"""An oracle: what it believes, what it computes itself, what it says when it does not attest."""

import json
import stat
from dataclasses import dataclass, replace
from http.client import HTTPConnection

import pytest

from btcfi.adapters.oracle.asking import OraclesAwayError, announcements, collect
from btcfi.adapters.oracle.client import OracleClient
from btcfi.adapters.oracle.folder import FolderInUseError, LostKeyError, OracleFolder
from btcfi.adapters.oracle.oracle import MinutesLackingError, NotOverError, UnknownEventError
from btcfi.adapters.oracle.sources import MinuteState, Page
from btcfi.adapters.oracle.sources import Served as ServedMinute
from btcfi.adapters.oracle.web import NotYetAnswerError, RefusedAnswerError, Web
from btcfi.adapters.oracle_network.network_file import write_registry
from btcfi.adapters.oracle_network.node_keys import read_node_key
from btcfi.errors import ConflictError, UnreachableError
from btcfi.oracle.announcement import OracleEvent, check_announcement
from btcfi.oracle.attestation import EventHeldError, check_attestation
from btcfi.oracle.consensus import AgreedPrice, Method
from btcfi.oracle.event_query import event_of, query_of
from btcfi.oracle.fixing import MINUTE, parse_fixing
from btcfi.units import CentsPerBtc, Hash32, Slot, UnixSeconds
from settings.preset import load_preset
from tests.support.oracle_support import quote
from tests.support.oracles import DOLLARS, FEED, Served, made_oracle, nodes, sign
from workers.oracle_process import programs, scheduled, settings

pytestmark = pytest.mark.integration

START = Slot(1_795_000_020 // 60 * 60)
NOW = UnixSeconds(START + 86_400)
PRESET = Hash32(bytes.fromhex(load_preset("standard").sha256))
PROGRAM = Hash32(bytes.fromhex(min(programs())))


def minute(number):
    return Slot(START + 60 * number)


@dataclass
class Aggregator:
    """One that serves what it is given, and nothing that it has lost; ``away`` while it does not answer."""

    name: str
    minutes: dict
    away: bool = False
    asked: int = 0

    def page(self, start, minutes):
        self.asked += 1
        if self.away:
            raise UnreachableError("aggregator", self.name, "refused", "is it running?")
        newest = max(self.minutes, default=None)
        first = newest - 60 * (minutes - 1) if start is None else start
        found = {
            Slot(at): self.minutes.get(at, ServedMinute(slot=Slot(at), state=MinuteState.UNKNOWN))
            for at in range(first, min(first + 60 * minutes, (newest or 0) + 60), 60)
        }
        return Page(newest=newest, minutes=found)


class Scene:
    """Five nodes, an oracle, and whatever aggregators say."""

    def __init__(self, folder):
        self.node_keys = folder / "nodes"
        self.registry = nodes(self.node_keys)
        self.folder = OracleFolder(folder / "oracle")
        self.folder.create()
        self.folder.write_network(write_registry(FEED, self.registry))
        self.folder_root = folder

    def signed(self, slot, closes):
        return tuple(
            sign(quote(venue, close, slot=slot), read_node_key(self.node_keys, venue))
            for venue, close in zip(DOLLARS, closes, strict=True) if close is not None
        )  # fmt: skip

    def served(self, slot, closes, state=MinuteState.CLOSED, stated=None):
        return ServedMinute(slot=slot, state=state, submissions=self.signed(slot, closes), stated=stated)

    def aggregator(self, closes_by_minute, name="one", **more):
        return Aggregator(name, {minute(n): self.served(minute(n), c, **more) for n, c in closes_by_minute.items()})

    def oracle(self, *sources, now=NOW, **more):
        return made_oracle(self.folder, sources, clock=lambda: now, **more)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def event(number, *, fixing=MINUTE, condition="", **more):
    return OracleEvent(
        feed=FEED, expiry=minute(number), program_hash=PROGRAM, preset_hash=PRESET, version=2, fixing=fixing,
        condition=condition, **more,
    )  # fmt: skip


def flat(price):
    return [price] * 5


def test_an_oracle_attests_the_mean_of_what_the_nodes_signed_whatever_the_aggregator_says_of_it(scene):
    forged = AgreedPrice(
        slot=minute(0), price=CentsPerBtc(9_000_000), low=CentsPerBtc(9_000_000), high=CentsPerBtc(9_000_000),
        confidence=CentsPerBtc(0), registered=5, quorum=4, used=(), dropped=(), absent=(), rates=(),
        method=Method.MEDIAN, dollar_markets=5, reach=CentsPerBtc(0),
    )  # fmt: skip
    prices = {0: flat(6_000_000), 1: flat(6_000_200), 2: flat(6_000_400)}
    source = scene.aggregator(prices)
    source.minutes = {at: replace(one, stated=forged) for at, one in source.minutes.items()}
    oracle = scene.oracle(source)
    promised = oracle.announcement(event(2, fixing=parse_fixing("twap:3")))
    found = oracle.attestation(promised.event)
    check_attestation(found, promised)
    assert found.outcome == 60_002


def test_a_submission_that_is_missing_at_one_aggregator_comes_from_another_and_a_forged_one_counts_nowhere(scene):
    whole = scene.signed(minute(0), [6_000_000, 6_000_000, 6_000_100, 6_000_200, 6_000_200])
    stranger = sign(quote(DOLLARS[0], 9_000_000, slot=minute(0)), b"\x07" * 32)
    elsewhere = sign(quote(DOLLARS[1], 9_000_000, slot=minute(0)), read_node_key(scene.node_keys, DOLLARS[0]))
    changed = replace(whole[0], submission=replace(whole[0].submission, sent_at_ms=1))
    first = Aggregator("one", {minute(0): ServedMinute(
        slot=minute(0), state=MinuteState.CLOSED, submissions=(stranger, elsewhere, changed, *whole[:2]))})  # fmt: skip
    second = Aggregator("two", {minute(0): ServedMinute(
        slot=minute(0), state=MinuteState.CLOSED, submissions=whole[1:])})  # fmt: skip
    oracle = scene.oracle(first, second)
    assert oracle.attestation(event(0)).outcome == 60_001
    assert {one.signature for one in oracle.minute(minute(0)).submissions} == {one.signature for one in whole}


def test_a_node_that_signed_two_prices_of_one_minute_is_out_of_it_though_each_aggregator_shows_one(scene):
    closes = [6_000_000, 6_000_000, 6_000_000, 6_000_200, 6_000_400]
    honest = scene.signed(minute(0), closes)
    other = sign(quote(DOLLARS[0], 6_000_400, slot=minute(0)), read_node_key(scene.node_keys, DOLLARS[0]))
    first = Aggregator("one", {minute(0): ServedMinute(
        slot=minute(0), state=MinuteState.CLOSED, submissions=honest)})  # fmt: skip
    second = Aggregator("two", {minute(0): ServedMinute(
        slot=minute(0), state=MinuteState.CLOSED, submissions=(other, *honest[1:]))})  # fmt: skip
    oracle = scene.oracle(first, second)
    assert oracle.attestation(event(0)).outcome == 60_001  # the median of four
    assert oracle.minute(minute(0)).contradicted == {"bitfinex-BTC-USD"}


def test_an_oracle_that_lacks_minutes_says_which_and_attests_once_any_aggregator_shows_them(scene):
    have = {n: flat(6_000_000) for n in (0, 1, 4)}
    source = scene.aggregator(have)
    late = scene.aggregator({n: flat(6_000_500) for n in (2, 3)}, name="two")
    late.away = True
    oracle = scene.oracle(source, late)
    wanted = event(4, fixing=parse_fixing("twap:5"))
    with pytest.raises(MinutesLackingError) as e:
        oracle.attestation(wanted)
    assert e.value.lacking.slots == (minute(2), minute(3))
    assert str(minute(2)) in str(e.value)
    assert "two" in str(e.value)
    late.away = False
    assert oracle.attestation(wanted).outcome == 60_002


def test_an_oracle_that_joins_late_or_starts_again_in_mid_window_fetches_what_it_missed(scene):
    prices = {n: flat(6_000_000 + 100 * n) for n in range(30)}
    source = scene.aggregator(prices)
    early = scene.oracle(Aggregator("one", {at: one for at, one in source.minutes.items() if at <= minute(14)}))
    early.follow()
    assert early.minute(minute(14)).closed
    again = scene.oracle(source)  # a new process on the same folder
    assert again.minute(minute(14)) == early.minute(minute(14))
    assert again.attestation(event(29, fixing=parse_fixing("twap:30"))).outcome == 60_015


def test_a_round_that_is_open_is_waited_for_and_one_that_was_never_asked_is_passed_over(scene):
    source = scene.aggregator({0: flat(6_000_000), 2: flat(6_100_000)})
    source.minutes[minute(1)] = scene.served(minute(1), [6_050_000, None, None, None, None], MinuteState.OPEN)
    oracle = scene.oracle(source)
    with pytest.raises(MinutesLackingError) as e:
        oracle.attestation(event(1))
    assert e.value.lacking.slots == (minute(1),)
    source.minutes[minute(1)] = ServedMinute(slot=minute(1), state=MinuteState.NEVER_ASKED)
    assert oracle.attestation(event(1)).outcome == 61_000


def test_a_closed_minute_without_one_signature_is_lacking_and_not_void_unless_its_owner_trusts_the_store(scene):
    stated = AgreedPrice(
        slot=minute(0), price=CentsPerBtc(5_900_000), low=CentsPerBtc(5_900_000), high=CentsPerBtc(5_900_000),
        confidence=CentsPerBtc(0), registered=5, quorum=4, used=(), dropped=(), absent=(), rates=(),
        method=Method.MEDIAN, dollar_markets=5, reach=CentsPerBtc(0),
    )  # fmt: skip
    source = scene.aggregator({1: flat(6_000_000)})
    source.minutes[minute(0)] = ServedMinute(slot=minute(0), state=MinuteState.UNSIGNED, stated=stated)
    with pytest.raises(MinutesLackingError):
        scene.oracle(source).attestation(event(0))
    assert scene.oracle(source, trust_before=minute(1)).attestation(event(0)).outcome == 59_000
    # and a signature is never overruled by what is stated
    source.minutes[minute(1)] = replace(source.minutes[minute(1)], stated=stated)
    assert scene.oracle(source, trust_before=minute(5)).attestation(event(1)).outcome == 60_000


def test_a_barrier_is_watched_in_the_oracle_s_own_minutes_and_needs_every_one_of_them(scene):
    barrier = "agreed price >= 6100000 cents between {since} and {until}"
    text = barrier.format(since=minute(0), until=minute(4))
    prices = {n: flat(6_000_000) for n in range(5)}
    source = scene.aggregator({n: c for n, c in prices.items() if n != 2})
    oracle = scene.oracle(source)
    with pytest.raises(MinutesLackingError) as e:
        oracle.attestation(event(4, condition=text))
    assert e.value.lacking.slots == (minute(2),)
    assert "the barrier of 6100000 cents" in str(e.value)
    source.minutes[minute(2)] = scene.served(minute(2), flat(6_100_000))
    assert oracle.attestation(event(4, condition=text)).outcome == (1 << 18) | 60_000
    for wrong in ("the moon is full", barrier.format(since=minute(0), until=minute(3)), text + " ", "x" * 300):
        with pytest.raises(Exception, match="condition"):
            oracle.announcement(event(4, condition=wrong))


def test_what_was_attested_is_said_again_after_a_restart_though_the_minutes_now_say_otherwise(scene):
    source = scene.aggregator({0: flat(6_000_000)})
    first = scene.oracle(source).attestation(event(0))
    for file in (scene.folder.path / "minutes").rglob("*.json"):
        file.unlink()
    other = scene.aggregator({0: flat(7_000_000)})
    assert scene.oracle(other).attestation(event(0)) == first


def test_an_oracle_announces_known_rules_and_programs_on_its_feed_and_nothing_else(scene):
    oracle = scene.oracle(scene.aggregator({}))
    check_announcement(oracle.announcement(event(9)), expected=event(9))
    assert oracle.announcement(event(9)) == scene.oracle().announcement(event(9))
    for wrong in (
        replace(event(9), feed="ETH/USD"), replace(event(9), preset_hash=Hash32(bytes(32))),
        replace(event(9), program_hash=Hash32(bytes(32))), replace(event(9), expiry=Slot(minute(0) + 402 * 86_400)),
    ):  # fmt: skip
        with pytest.raises(UnknownEventError):
            oracle.announcement(wrong)
    with pytest.raises(NotOverError):
        scene.oracle(now=UnixSeconds(minute(9) + 59)).attestation(event(9))


def test_events_are_announced_ahead_on_a_schedule(scene):
    oracle = scene.oracle()
    oracle.settings = settings(FEED, preset=load_preset("standard"), schedule=60)
    many = oracle.announcements()
    assert [one.event.expiry for one in many] == [Slot(NOW // 3600 * 3600 + 3600 * n) for n in range(1, len(many) + 1)]
    assert len(many) == 24
    assert {one.event.fixing for one in many} == {load_preset("standard").fixing}
    assert scheduled(FEED, load_preset("standard"), 0)(NOW) == []


def test_a_folder_is_its_owner_s_alone_one_process_s_at_a_time_and_makes_no_second_key(scene):
    path = scene.folder.path
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    scene.oracle(scene.aggregator({0: flat(6_000_000)})).attestation(event(0))
    with scene.folder.owned(), pytest.raises(FolderInUseError), OracleFolder(path).owned():
        pass
    files = [file for file in path.rglob("*") if file.is_file()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    key = scene.folder.secret()
    assert scene.folder.create() == scene.folder.public_key()
    with pytest.raises(ConflictError):
        scene.folder.create(b"\x05" * 32)
    (path / "oracle.key").unlink()
    with pytest.raises(LostKeyError):
        scene.folder.create()
    scene.folder.create(key)
    assert scene.folder.secret() == key


def test_a_restored_folder_attests_nothing_that_may_have_been_attested_since_its_backup(scene):
    source = scene.aggregator({n: flat(6_000_000) for n in range(3)})
    scene.oracle(source).attestation(event(0))
    scene.folder.hold(taken_at=UnixSeconds(minute(1)), now=UnixSeconds(minute(2)), decided=[])
    oracle = scene.oracle(source)
    assert oracle.attestation(event(0)).outcome == 60_000  # its ledger knows
    with pytest.raises(EventHeldError):
        oracle.attestation(event(1))
    scene.folder.release([event(1).id])
    assert oracle.attestation(event(1)).outcome == 60_000
    later = scene.oracle(scene.aggregator({9: flat(6_200_000)}))
    assert later.attestation(event(9)).outcome == 62_000


# ---- over HTTP


@pytest.fixture
def served(scene):
    made = Served(scene.oracle(scene.aggregator({0: flat(6_000_000)})))
    yield made
    made.close()


def get(served, target):
    connection = HTTPConnection("127.0.0.1", served.port, timeout=5)
    connection.request("GET", target)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_an_event_is_asked_for_by_its_content_and_every_field_of_it_counts(served):
    client = OracleClient(Web(served.url))
    promised = client.announcement(event(0))
    found = client.attestation(event(0), {promised.oracle_key: promised})
    assert found.outcome == 60_000
    assert event_of(query_of(event(0))) == event(0)
    with pytest.raises(NotYetAnswerError, match="minutes lacking"):
        client.attestation(event(7), {promised.oracle_key: promised})
    assert client.status()["oracle_key"] == promised.oracle_key.hex()


@pytest.mark.parametrize("target", [
    "/", "/v1/announcement", "/v1/announcement?feed=BTC%2FUSD", "/v1/announcement?feed=a&feed=b", "/v2/oracle",
    "/v1/minutes/x", "/v1/minutes/9223372036854775807", "/v1/minutes/1", "/v1/announcement?expiry=" + "9" * 1000,
    "/v1/attestation?" + "a=b&" * 40, "/v1/announcement?%ff=1", "/" + "x" * 5000,
])  # fmt: skip
def test_a_question_that_is_none_is_refused_and_never_an_error_of_ours(served, target):
    status, said = get(served, target)
    assert status in {404, 422}
    assert said["error"]


def test_a_caller_who_floods_an_oracle_is_told_so(scene):
    made = Served(scene.oracle())
    made._server.buckets.__init__(60, lambda: 0.0)
    statuses = [get(made, "/v1/oracle")[0] for _ in range(8)]
    made.close()
    assert statuses == [200] * 6 + [429] * 2


def test_a_contract_waits_while_one_of_its_oracles_is_away_and_two_urls_of_one_oracle_are_not_two(served, tmp_path):
    one = OracleClient(Web(served.url))
    with pytest.raises(OraclesAwayError, match="names 1 oracles"):
        announcements([one], event(0), wanted=3)
    with pytest.raises(OraclesAwayError, match="are one oracle"):
        announcements([one, OracleClient(Web(f"{served.url}/"))], event(0), wanted=2)
    gone = OracleClient(Web("http://127.0.0.1:9"))
    with pytest.raises(OraclesAwayError, match=r"127\.0\.0\.1:9"):
        announcements([one, gone], event(0), wanted=2)
    (mine,) = announcements([one], event(0), wanted=1)
    found = collect([one, gone], [mine])
    assert [a.outcome for a in found.attestations] == [60_000]
    assert "127.0.0.1:9" in found.problems[0]


def test_an_answer_by_another_oracle_s_key_is_no_attestation_of_this_contract(served, tmp_path):
    stranger = Scene(tmp_path / "other")
    theirs = stranger.oracle().announcement(event(0))
    found = collect([OracleClient(Web(served.url))], [theirs])
    assert found.attestations == ()
    assert "no oracle of it" in found.problems[0]


def test_whoever_redirects_or_answers_html_is_no_oracle(served):
    with pytest.raises((RefusedAnswerError, UnreachableError)):
        OracleClient(Web(f"{served.url}/elsewhere")).announcement(event(0))
