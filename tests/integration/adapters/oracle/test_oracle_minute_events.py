"""Minute events of an oracle: announced ahead, signed once when its own minute is final, never when it is unfit."""

import json
import shutil
import stat
from dataclasses import dataclass, field
from http.client import HTTPConnection

import pytest

from btcfi.adapters.minute_ledger import FileMinuteLedger
from btcfi.adapters.oracle.folder import MINUTE_EVENTS, OracleFolder
from btcfi.adapters.oracle.minute_events import WAITS_SECONDS, MinuteEvents, MinuteNotOverError, NoPriceYetError
from btcfi.adapters.oracle.oracle import MinutesLackingError, UnknownEventError
from btcfi.adapters.oracle.sources import MinuteState, Page
from btcfi.adapters.oracle.sources import Served as ServedMinute
from btcfi.adapters.oracle_network.network_file import write_registry
from btcfi.adapters.oracle_network.node_keys import read_node_key
from btcfi.oracle.fixing import LeftOut
from btcfi.oracle.minute_event import (
    MinuteForgottenError,
    MinuteUnsignedError,
    check_minute_announcement,
    check_minute_attestation,
    decode_minute_announcement,
    decode_minute_attestation,
)
from btcfi.units import Hash32, Minutes, Slot, UnixSeconds
from settings.preset import load_preset
from tests.support.oracle_support import quote
from tests.support.oracles import DOLLARS, FEED, Served, made_oracle, nodes, sign

pytestmark = pytest.mark.integration

START = Slot(1_795_000_020 // 60 * 60)
PRESET = Hash32(bytes.fromhex(load_preset("standard").sha256))
FLAT = [6_000_000] * 5
THIN = [6_000_000, 6_020_000, 6_040_000, 6_060_000, 6_080_000]
"""A price that one market could have moved by more than settles."""
VOID = [6_000_000] + [None] * 4


def minute(number):
    return Slot(START + 60 * number)


@dataclass
class Scene:
    """Five nodes, an aggregator that shows what they signed, and an oracle with its clock."""

    root: object
    now: int = START
    shown: dict = field(default_factory=dict)
    name: str = "aggregator"
    asked: int = 0

    def __post_init__(self):
        self.node_keys = self.root / "nodes"
        self.folder = OracleFolder(self.root / "oracle")
        self.folder.create()
        self.folder.write_network(write_registry(FEED, nodes(self.node_keys)))

    def page(self, start, minutes):
        self.asked += 1
        newest = max(self.shown, default=None)
        first = (newest or 0) - 60 * (minutes - 1) if start is None else start
        found = {
            Slot(at): self.shown.get(at, ServedMinute(slot=Slot(at), state=MinuteState.UNKNOWN))
            for at in range(first, min(first + 60 * minutes, (newest or 0) + 60), 60)
        }
        return Page(newest=newest, minutes=found)

    def show(self, number, closes, state=MinuteState.CLOSED):
        slot = minute(number)
        signed = tuple(
            sign(quote(venue, close, slot=slot), read_node_key(self.node_keys, venue))
            for venue, close in zip(DOLLARS, closes, strict=True) if close is not None
        )  # fmt: skip
        self.shown[slot] = ServedMinute(slot=slot, state=state, submissions=signed)

    def start(self, ahead=60):
        """Start the oracle, as a process does on its folder."""
        oracle = made_oracle(self.folder, [self], clock=lambda: UnixSeconds(self.now))
        return MinuteEvents(oracle=oracle, preset_hash=PRESET, ahead=Minutes(ahead))

    def look(self, events, number, second=5):
        """Let the oracle look, ``second`` seconds into a minute: the first page may only say what is newest."""
        self.now = minute(number) + second
        events.oracle.follow()
        events.oracle.follow()
        return events.attest_due()


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def test_each_minute_is_announced_ahead_and_its_price_signed_digit_by_digit_once_it_is_final(scene):
    events = scene.start()
    promised = {number: events.announcement(minute(number)) for number in range(1, 61)}
    for number in range(1, 4):
        scene.show(number, [6_000_000 + number] * 5)
        with pytest.raises(MinuteNotOverError):
            events.attestation(minute(number))
        assert scene.look(events, number + 1) == 1
        found = events.attestation(minute(number))
        check_minute_announcement(promised[number], expected=promised[number].event)
        check_minute_attestation(found, promised[number])
        assert found.price == 6_000_000 + number
    with pytest.raises(UnknownEventError, match="60 minutes ahead"):
        events.announcement(minute(65))
    assert events.status()["undecided"] == 0


def test_what_was_signed_of_a_minute_stays_though_the_oracle_starts_again_and_knows_better(
    scene,
):
    events = scene.start()
    scene.show(1, [6_000_000, 6_000_000, 6_000_000, 6_000_500, None])
    scene.look(events, 2)
    first = events.attestation(minute(1))
    assert first.price == 6_000_000
    scene.show(1, [6_000_000, 6_000_500, 6_000_500, 6_000_500, 6_000_500])  # two of them contradict themselves
    again = scene.start()
    scene.look(again, 2)
    assert again.attestation(minute(1)) == first
    assert scene.look(again, 2) == 0


def test_a_process_that_died_between_its_word_and_its_signatures_signs_that_word(scene):
    events = scene.start()
    event = events.announcement(minute(1)).event
    scene.folder.minute_ledger().claim(
        oracle_key=events.oracle.key, series=event.series, slot=event.slot, said=6_000_123
    )  # fmt: skip
    scene.show(1, FLAT)
    again = scene.start()
    scene.look(again, 2)
    assert again.attestation(minute(1)).price == 6_000_123


@pytest.mark.parametrize(("closes", "why"), [(THIN, LeftOut.THIN), (VOID, LeftOut.VOID)])
def test_a_minute_that_is_void_or_thin_is_said_to_be_so_and_is_never_signed(scene, closes, why):
    events = scene.start()
    scene.show(1, closes)
    assert scene.look(events, 2) == 0
    with pytest.raises(NoPriceYetError, match=f"{why.value} so far"):
        events.attestation(minute(1))
    scene.look(events, 2 + WAITS_SECONDS // 60)
    with pytest.raises(MinuteUnsignedError) as e:
        events.attestation(minute(1))
    assert e.value.why is why
    scene.show(1, FLAT)  # too late: others may have gone on without this minute
    again = scene.start()
    scene.look(again, 20)
    with pytest.raises(MinuteUnsignedError):
        again.attestation(minute(1))


def test_a_word_that_comes_late_but_in_time_gives_a_void_minute_its_price(scene):
    events = scene.start()
    scene.show(1, VOID)
    scene.look(events, 2)
    scene.show(1, FLAT)
    assert events.attestation(minute(1)).price == 6_000_000


def test_an_open_minute_is_waited_for_and_one_that_nobody_shows_is_lacking(scene):
    events = scene.start()
    scene.show(1, VOID, MinuteState.OPEN)
    assert scene.look(events, 2) == 0
    with pytest.raises(MinutesLackingError, match=str(minute(1))):
        events.attestation(minute(1))
    scene.show(1, FLAT)
    assert scene.look(events, 3) == 1
    with pytest.raises(MinutesLackingError, match=str(minute(2))):
        events.attestation(minute(2))


def test_after_hours_of_silence_what_was_left_is_fetched_and_signed(scene):
    events = scene.start()
    for number in range(1, 91):
        scene.show(number, FLAT)
    scene.now = minute(91)
    again = scene.start()
    signed = sum(scene.look(again, 91, second) for second in range(20))
    assert signed == 90
    assert again.attestation(minute(1)).price == 6_000_000
    assert events.oracle.key == again.oracle.key


def test_a_ledger_that_is_lost_signs_no_minute_that_had_begun(scene):
    events = scene.start()
    for number in (1, 2):
        scene.show(number, FLAT)
    scene.look(events, 2)
    events.attestation(minute(1))
    for file in (scene.folder.path / MINUTE_EVENTS).iterdir():
        file.unlink()
    again = scene.start()
    for number in (1, 2):
        with pytest.raises(MinuteForgottenError):
            again.announcement(minute(number))
        with pytest.raises(MinuteForgottenError):
            again.attestation(minute(number))
    scene.show(3, FLAT)
    scene.look(again, 4)
    assert again.attestation(minute(3)).price == 6_000_000


@pytest.mark.parametrize("knows", ["its newest minute", "what it holds"])
def test_a_ledger_that_is_lost_signs_no_minute_that_had_begun_by_a_clock_that_is_behind(scene, knows):
    events = scene.start()
    for number in (1, 2):
        scene.show(number, FLAT)
    scene.look(events, 3)
    events.attestation(minute(2))
    shutil.rmtree(scene.folder.path / MINUTE_EVENTS)
    if knows == "what it holds":
        shutil.rmtree(scene.folder.path / "minutes")
        scene.folder.hold(taken_at=UnixSeconds(minute(3)), now=UnixSeconds(minute(0)))
    scene.now = minute(0)
    again = scene.start()
    scene.now = minute(3) + 5  # the clock is mended while it runs
    scene.show(2, [7_000_000] * 5)
    with pytest.raises(MinuteForgottenError):
        again.attestation(minute(2))


def test_a_restored_oracle_signs_no_minute_of_before_its_restore(scene):
    events = scene.start()
    scene.show(1, FLAT)
    scene.look(events, 2)
    scene.folder.hold(taken_at=UnixSeconds(minute(1)), now=UnixSeconds(minute(30)))
    for number in (2, 3):
        scene.show(number, FLAT)
    again = scene.start()
    assert scene.look(again, 31) == 0
    for number in (1, 2, 30):
        with pytest.raises(MinuteForgottenError):
            again.attestation(minute(number))
    scene.show(31, FLAT)
    scene.look(again, 32)  # a page of an hour that begins with minutes that nobody has
    assert again.attestation(minute(31)).price == 6_000_000


def test_a_minute_that_the_ledger_has_pruned_is_signed_no_more_and_its_nonces_are_announced_no_more(scene):
    events = scene.start()
    event = events.announcement(minute(1)).event
    scene.show(1, FLAT)
    scene.look(events, 2)
    ledger = FileMinuteLedger(scene.folder.path / MINUTE_EVENTS, kept=10)
    for number in range(2, 300):
        ledger.claim(oracle_key=events.oracle.key, series=event.series, slot=minute(number), said=6_000_000)
    scene.now = minute(300)
    for ask in (events.announcement, events.attestation):
        with pytest.raises(MinuteForgottenError):
            ask(minute(1))
    files = [file for file in (scene.folder.path / MINUTE_EVENTS).iterdir() if file.suffix == ".minutes"]
    assert [len(file.read_text().splitlines()) < 300 for file in files] == [True]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_what_is_waited_for_costs_an_aggregator_no_question_at_each_look(scene):
    events = scene.start()
    scene.show(1, THIN)
    scene.look(events, 2)
    before = scene.asked
    for second in range(6, 26):
        scene.look(events, 2, second)
    assert scene.asked - before == 2 * 20  # what following asks alone


# ---- over HTTP


def get(served, target):
    connection = HTTPConnection("127.0.0.1", served.port, timeout=5)
    connection.request("GET", target)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_a_minute_is_asked_for_over_http_and_each_refusal_has_its_status_and_reason(scene):
    events = scene.start()
    served = Served(events.oracle, minutes=events)
    try:
        scene.show(1, FLAT)
        scene.show(2, THIN)
        scene.look(events, 3)
        status, promised = get(served, f"/v1/minutes/{minute(1)}/announcement")
        said = decode_minute_attestation(get(served, f"/v1/minutes/{minute(1)}/attestation")[1])
        check_minute_attestation(said, decode_minute_announcement(promised))
        assert (status, said.price) == (200, 6_000_000)
        refused = {
            f"{minute(0)}/attestation": (409, "MinuteForgottenError"),
            f"{minute(2)}/attestation": (425, "NoPriceYetError"),
            f"{minute(3)}/attestation": (425, "MinuteNotOverError"),
            f"{minute(64)}/announcement": (422, "UnknownEventError"),
            f"{minute(64)}/attestation": (422, "UnknownEventError"),
            f"{minute(1) + 1}/announcement": (422, "NotOnAMinuteError"),
            "x/announcement": (422, "InvalidInputError"),
            f"{minute(1)}/secret": (404, "NotFoundError"),
        }
        for target, expected in refused.items():
            status, answer = get(served, f"/v1/minutes/{target}")
            assert (status, answer["kind"]) == expected, target
        scene.look(events, 3 + WAITS_SECONDS // 60)
        status, answer = get(served, f"/v1/minutes/{minute(2)}/attestation")
        assert (status, answer["kind"]) == (409, "MinuteUnsignedError")
        assert "thin" in answer["error"]
        assert get(served, "/v1/oracle")[1]["minute_events"]["signs_after"] == START
    finally:
        served.close()


def test_an_oracle_without_minute_events_says_that_it_signs_none(scene):
    served = Served(scene.start().oracle)
    try:
        status, answer = get(served, f"/v1/minutes/{minute(1)}/announcement")
        assert (status, answer["kind"]) == (404, "NotFoundError")
        assert "--minute-events" in answer["error"]
        assert get(served, "/v1/oracle")[1]["minute_events"] is None
    finally:
        served.close()
