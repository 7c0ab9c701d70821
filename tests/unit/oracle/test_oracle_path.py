"""What a path's text defines, what its value is to the hundredth, and what an event commits to."""

from dataclasses import replace

import pytest

from btcfi.contracts.mandate import check_event
from btcfi.contracts.messages import decode_announcement, encode_announcement
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import NO_PROGRAM, OF_PATH, OracleEvent, announce
from btcfi.oracle.event_query import event_of, query_of
from btcfi.oracle.fixing import LeftOut, parse_fixing
from btcfi.oracle.foreign import export_announcement
from btcfi.oracle.own_minutes import Lacking, compute
from btcfi.oracle.path import INDEX_START, Ladder, WrongPathError, first_minute, in_words, parse_path, return_of
from btcfi.oracle.path_evidence import (
    PathMinute,
    WrongEvidenceError,
    check_attested,
    check_evidence,
    decode_evidence,
    encode_evidence,
    evidence_of,
)
from btcfi.proofs.errors import ProofWindowError
from btcfi.proofs.window import ProvenMinute, ProvenWindow, check_announced
from btcfi.units import Hash32, Slot
from tests.support.contracts import ORACLES, event
from tests.support.path_events import END, minutes_of, path_event, said_and_touched, terms

ASIAN, LADDER = "asian:10x3", f"ladder:up:{END - 600}:61000/62000/65000"


# ---- the definition


@pytest.mark.parametrize("text", [
    "asian:60x24", "asian:1x1440", "cliquet:1440x7:-200:300", "cliquet:10080x12:0:150", LADDER,
    f"ladder:down:{END - 60}:50000",
])  # fmt: skip
def test_a_path_has_one_spelling_and_it_comes_back(text):
    assert str(parse_path(text)) == text
    assert in_words(parse_path(text))


@pytest.mark.parametrize("text", [
    "", "asian", "asian:60", "asian:060x24", "asian:60x024", "asian:60X24", " asian:60x24", "asian:60x24:",
    "asian:+60x24",
    "asian:6_0x24", "asian:٦0x24", "asian:0x24", "asian:60x1", "asian:1x1441", "asian:44641x2", "asian:44640x4",
    "cliquet:60x24", "cliquet:60x24:0:0", "cliquet:60x24:10:20", "cliquet:60x24:-200:-100", "cliquet:60x24:-0:100",
    "cliquet:60x367:0:1", "cliquet:60x100:-100:1", "cliquet:60x100:0:163", "cliquet:60x1:0:100",
    "ladder", "ladder:up", "ladder:sideways:60:5", "ladder:up:61:5", "ladder:up:0:5", "ladder:up:60:",
    "ladder:up:60:5/5",
    "ladder:up:60:6/5", "ladder:down:60:5/6", "ladder:up:60:262144", "ladder:up:60:0",
    "ladder:up:60:" + "/".join(map(str, range(1, 18))), "ladder:up:" + "9" * 5000 + ":5", "twap:30", "minute",
])  # fmt: skip
def test_another_text_is_refused_by_name(text):
    with pytest.raises(WrongPathError):
        parse_path(text)


def test_an_index_that_18_digits_cannot_hold_is_refused():
    assert parse_path("cliquet:60x100:-99:162").lowest == 1_000
    assert parse_path("cliquet:60x100:-99:162").highest == 262_000
    for text in ("cliquet:60x100:-100:162", "cliquet:60x100:-99:163"):
        with pytest.raises(WrongPathError, match="points"):
            parse_path(text)


def test_every_part_of_a_definition_makes_another_event():
    ids = {
        path_event(text, fixing=fixing).id
        for text in ("asian:60x24", "asian:60x23", "asian:59x24", "cliquet:60x24:-10:20", "cliquet:60x24:-11:20",
                     "cliquet:60x24:-10:21", LADDER, LADDER.replace("up", "down").replace("61000/62000/65000", "61000"),
                     LADDER.replace("65000", "65001"), f"ladder:up:{END - 660}:61000/62000/65000")
        for fixing in ("minute", "twap:5", "median:5")
    }  # fmt: skip
    assert len(ids) == 30
    assert event().id not in ids


def test_what_earlier_events_are_called_has_not_changed():
    old = OracleEvent(
        feed="BTC/USD", expiry=Slot(1_700_000_040), program_hash=Hash32(bytes(32)), preset_hash=Hash32(bytes(32)),
        version=2, fixing=parse_fixing("twap:30"),
    )  # fmt: skip
    assert old.to_bytes().hex() == (
        "0212000000006553f128" + "00" * 64 + "074254432f5553440007747761703a3330076e656172657374"
    )  # fmt: skip
    assert "path" not in query_of(old)
    assert "path" not in encode_announcement(announce(ORACLES[0], old))["event"]


@pytest.mark.parametrize("changes", [
    {"version": 2}, {"path": None}, {"digits": 17}, {"expiry": Slot(600)}, {"fixing": parse_fixing("twap:11")},
])  # fmt: skip
def test_an_event_that_does_not_fit_its_path_is_refused(changes):
    with pytest.raises(InvalidInputError):
        replace(path_event(ASIAN), **changes)


@pytest.mark.parametrize("since", [END, END + 60, END - 60 * (92 * 1440 + 1)])
def test_a_ladder_begins_before_its_expiry_and_not_a_season_before(since):
    with pytest.raises(WrongPathError):
        path_event(f"ladder:up:{since}:61000")


# ---- messages


def test_an_announcement_and_a_question_say_the_whole_definition():
    for text in (ASIAN, "cliquet:60x24:-10:20", LADDER):
        one = path_event(text, fixing="twap:3")
        announced = announce(ORACLES[0], one)
        assert decode_announcement(encode_announcement(announced)) == announced
        assert event_of(query_of(one)) == one


def test_an_earlier_release_would_refuse_both_by_name():
    said = encode_announcement(announce(ORACLES[0], path_event(ASIAN)))
    assert said["event"]["version"] == OF_PATH  # it reads 1 to 3 and refuses any other number
    assert query_of(path_event(ASIAN)).keys() - query_of(event()).keys() == {"path"}  # it takes exactly its own names


@pytest.mark.parametrize("change", [
    {"path": None}, {"path": "asian:10x03"}, {"path": 7}, {"version": 2}, {"version": 3}, {"version": 5},
])  # fmt: skip
def test_an_event_that_says_half_of_it_is_refused(change):
    said = encode_announcement(announce(ORACLES[0], path_event(ASIAN)))
    said["event"] |= change
    with pytest.raises(InvalidInputError):
        decode_announcement(said)
    for name in ("path", "fixing", "version"):
        rest = encode_announcement(announce(ORACLES[0], path_event(ASIAN)))
        del rest["event"][name]
        with pytest.raises(InvalidInputError):
            decode_announcement(rest)


def test_no_single_option_settles_on_a_path_and_no_window_proves_one_and_no_other_wallet_is_told_dollars():
    one = path_event("asian:10x3", fixing="minute")
    with pytest.raises(InvalidInputError, match="version"):
        check_event(terms(one.expiry), one)
    window = ProvenWindow(
        fixing=one.fixing, end=one.expiry, rounding=one.rounding, digits=18,
        minutes=(ProvenMinute(slot=one.expiry, price=6_000_000),),
    )  # fmt: skip
    with pytest.raises(ProofWindowError, match="path"):
        check_announced(window, one, one.program_hash)
    with pytest.raises(InvalidInputError, match="path"):
        export_announcement(announce(ORACLES[0], one), ORACLES[0])


# ---- the value


def test_the_mean_is_of_every_observation_and_the_nearest_dollar_of_it_is_that_of_the_exact_mean():
    one = path_event("asian:10x3")
    for prices, dollars in (
        ((6_000_000, 6_000_100, 6_000_200), 60_001),
        ((6_000_049, 6_000_050, 6_000_050), 60_000),  # 49.67 cents
        ((6_000_050, 6_000_050, 6_000_050), 60_001),  # a tie goes up
        ((1, 1, 1), 0),
        ((2**32 - 1,) * 3, 2**18 - 1),
    ):
        found = compute(one, *said_and_touched(minutes_of(dict(zip(one.path.times(END), prices, strict=True)))))
        assert found.outcome == dollars
        assert [fixed.price for fixed in found.observed] == list(prices)


def test_a_return_is_the_nearest_ten_millionth_and_half_goes_up():
    assert return_of(100, 103) == 300_000
    assert return_of(3, 4) == 3_333_333
    assert return_of(4, 3) == -2_500_000
    assert return_of(20_000_000, 20_000_001) == 1  # half
    assert return_of(20_000_000, 19_999_999) == 0  # minus a half
    assert return_of(1, 2**32 - 1) == (2**32 - 2) * 10_000_000


def test_a_cliquet_s_index_sums_returns_between_floor_and_cap():
    one = path_event("cliquet:10x3:-100:200")
    times = one.path.times(END)
    assert len(times) == 4
    prices = (6_000_000, 6_300_000, 5_000_000, 5_050_000)  # +5 %, capped; -20.6 %, floored; +1 %
    found = compute(one, *said_and_touched(minutes_of(dict(zip(times, prices, strict=True)))))
    assert found.outcome == INDEX_START + 2_000 - 1_000 + 1_000
    assert one.path.lowest == 97_000
    assert one.path.highest == 106_000
    ends = (100, 2**32 - 1, 1, 2**32 - 1)
    best = compute(one, *said_and_touched(minutes_of(dict(zip(times, ends, strict=True)))))
    assert best.outcome == 100_000 + 2_000 - 1_000 + 2_000


@pytest.mark.parametrize(("highs", "last", "outcome"), [
    ([60_999], 60_000, 60_000), ([61_000], 60_000, 61_000), ([64_999.99], 60_000, 62_000), ([65_000], 60_000, 65_000),
    ([61_000, 60_000], 63_000, 63_000), ([62_000, 61_500], 62_000, 62_000), ([70_000], 80_000, 80_000),
])  # fmt: skip
def test_a_ladder_pays_the_highest_rung_that_an_agreed_high_reached_inclusive_or_the_end(highs, last, outcome):
    one = path_event(LADDER)
    said = dict.fromkeys(range(END - 540, END + 60, 60), 6_000_000) | {END: last * 100}
    spans = {END - 540 + 60 * n: (5_900_000, round(high * 100)) for n, high in enumerate(highs)}
    assert compute(one, *said_and_touched(minutes_of(said, spans))).outcome == outcome


def test_a_ladder_watches_no_minute_up_to_its_start_and_none_after_its_expiry_but_the_price_of_the_end():
    one = path_event(LADDER)
    said = dict.fromkeys(range(END - 660, END + 180, 60), 6_000_000) | {END: LeftOut.VOID}
    spans = {END - 600: (1, 7_000_000), END + 60: (1, 7_000_000)}
    assert compute(one, *said_and_touched(minutes_of(said, spans))).outcome == 60_000


def test_a_minute_too_thin_to_settle_on_reaches_a_rung_as_it_touches_a_barrier_and_a_void_one_reaches_none():
    one = path_event(LADDER)
    said = dict.fromkeys(range(END - 540, END + 60, 60), 6_000_000) | {END - 300: LeftOut.THIN}
    thin = minutes_of(said, {END - 300: (6_000_000, 6_100_000)})
    assert compute(one, *said_and_touched(thin)).outcome == 61_000
    void = thin | {END - 300: (LeftOut.VOID, None)}
    assert compute(one, *said_and_touched(void)).outcome == 60_000


def test_a_ladder_down_keeps_the_lowest_rung():
    one = path_event(f"ladder:down:{END - 600}:58000/55000")
    said = dict.fromkeys(range(END - 540, END + 60, 60), 6_000_000)
    spans = {END - 300: (5_500_001, 6_100_000)}
    assert compute(one, *said_and_touched(minutes_of(said, spans))).outcome == 58_000
    with pytest.raises(WrongPathError):
        one.path.value([6_000_000], 3)


@pytest.mark.parametrize("text", ["asian:10x3", "cliquet:10x3:-100:200", LADDER, f"ladder:up:{END - 60}:61000"])
@pytest.mark.parametrize("fixing", ["minute", "twap:5"])
def test_the_first_minute_of_a_path_is_the_first_one_that_its_value_looks_at(text, fixing):
    one, looked = path_event(text, fixing=fixing), set()

    def says(at):
        looked.add(at)
        return 6_000_000, (6_000_000, 6_000_000)

    compute(one, *said_and_touched({}, says))
    assert first_minute(one.path, END, fixing_minutes=one.fixing.minutes) == min(looked)


# ---- minutes that are missing


def test_an_observation_whose_minute_does_not_count_is_the_next_one_that_does_and_is_named():
    one = path_event("asian:10x3")
    said = minutes_of({END - 1200: LeftOut.VOID, END - 1140: LeftOut.THIN, END - 1080: 6_000_000, END - 600: 6_300_000,
                       END: 6_000_000})  # fmt: skip
    found = compute(one, *said_and_touched(said))
    assert found.outcome == 61_000
    assert found.observed[0].late == (END - 1080,)
    assert found.left_out == ((END - 1200, LeftOut.VOID), (END - 1140, LeftOut.THIN))


def test_an_outage_over_several_observations_counts_the_first_minute_after_it_for_each_of_them():
    one = path_event("cliquet:10x3:-500:500")
    said = dict.fromkeys(range(END - 1800, END - 240, 60), LeftOut.VOID)
    said |= {END - 1800: 6_000_000, END - 240: 6_060_000, END: 6_060_000}
    found = compute(one, *said_and_touched(minutes_of(said)))
    assert found.outcome == INDEX_START + 1_000  # one return of 1 %, and none of a minute against itself
    assert [fixed.last for fixed in found.observed] == [END - 1800, END - 240, END - 240, END]


def test_with_a_window_for_each_observation_two_thirds_of_it_are_enough():
    one = path_event("asian:10x2", fixing="twap:3")
    said = {END - 720: 6_000_000, END - 660: LeftOut.THIN, END - 600: 6_000_200,
            END - 120: 6_100_000, END - 60: 6_100_000, END: 6_100_000}  # fmt: skip
    assert compute(one, *said_and_touched(minutes_of(said))).outcome == 60_501  # 60,500.50


def test_an_open_minute_is_waited_for_and_all_that_lack_are_named_together():
    one = path_event("asian:10x3")
    found = compute(one, *said_and_touched(minutes_of({END - 600: 6_000_000})))
    assert isinstance(found, Lacking)
    assert found.slots == (END - 1200, END)
    ladder = path_event(LADDER)
    said = dict.fromkeys(range(END - 480, END + 60, 60), 6_000_000)
    lacks = compute(ladder, *said_and_touched(minutes_of(said)))
    assert lacks.slots == (END - 540,)
    at_the_top = compute(ladder, *said_and_touched(minutes_of(said, {END - 480: (6_000_000, 6_500_000)})))
    assert at_the_top.outcome == 65_000  # no lacking minute reaches more


def test_a_condition_s_digit_stands_before_the_value_of_a_path():
    since = END - 300
    one = path_event("asian:10x2", condition=f"agreed price >= 6200000 cents between {since} and {END}")
    said = dict.fromkeys(range(END - 600, END + 60, 60), 6_000_000)
    assert compute(one, *said_and_touched(minutes_of(said))).outcome == 60_000
    spans = {END - 240: (6_000_000, 6_200_000)}
    assert compute(one, *said_and_touched(minutes_of(said, spans))).outcome == (1 << 18) | 60_000


# ---- evidence


def evidence(text, said, spans=None, **more):
    one, seen = path_event(text, **more), minutes_of(said, spans)
    looked = {}

    def says(at):
        if at in seen:
            looked[at] = seen[at]
        return seen.get(at)

    found = compute(one, *said_and_touched(seen, says))
    return evidence_of(one, found, looked)


SAID = dict.fromkeys(range(END - 1200, END + 60, 60), 6_000_000) | {END - 600: LeftOut.VOID, END - 540: 6_300_000}


def test_evidence_names_every_minute_that_decided_and_no_other_and_computes_again_from_its_json():
    found = evidence(ASIAN, SAID)
    assert [one.slot for one in found.minutes] == [END - 1200, END - 600, END - 540, END]
    again = decode_evidence(encode_evidence(found))
    assert again == found
    assert check_evidence(again, expected=path_event(ASIAN)).outcome == 61_000
    ladder = evidence(LADDER, SAID, {END - 300: (6_000_000, 6_250_000)})
    assert len(ladder.minutes) == 10
    assert check_evidence(decode_evidence(encode_evidence(ladder))).reached == 2


@pytest.mark.parametrize("spoil", [
    lambda one: replace(one, outcome=one.outcome + 1),
    lambda one: replace(one, value=one.value + 1),
    lambda one: replace(one, minutes=one.minutes[1:]),
    lambda one: replace(one, minutes=one.minutes[:-1]),
    lambda one: replace(one, minutes=(*one.minutes, one.minutes[-1])),
    lambda one: replace(one, minutes=one.minutes[::-1]),
    lambda one: replace(one, minutes=(*one.minutes, replace(one.minutes[-1], slot=Slot(END + 60)))),
    lambda one: replace(one, minutes=(replace(one.minutes[0], price=6_300_000), *one.minutes[1:])),
    lambda one: replace(one, event=path_event("asian:10x4")),
    lambda one: replace(one, event=event()),
])  # fmt: skip
def test_evidence_that_was_changed_anywhere_is_refused(spoil):
    with pytest.raises(WrongEvidenceError):
        check_evidence(spoil(evidence(ASIAN, SAID)))


@pytest.mark.parametrize("row", [
    {"price": 5, "left_out": LeftOut.VOID}, {}, {"price": 5}, {"price": 5, "low": 4},
    {"left_out": LeftOut.VOID, "low": 1, "high": 2}, {"price": 5, "low": 6, "high": 5},
])  # fmt: skip
def test_a_row_that_says_two_things_is_no_row(row):
    with pytest.raises(InvalidInputError):
        PathMinute(slot=END, **row)


def test_an_attestation_is_held_against_the_minutes_of_its_own_event(attested_path):
    found, announced, attestation = attested_path(evidence(ASIAN, SAID))
    check_attested(found, announced, attestation)
    other = evidence(ASIAN, SAID | {END: 6_300_000})
    with pytest.raises(WrongEvidenceError, match="attested"):
        check_attested(other, announced, attestation)
    with pytest.raises(WrongEvidenceError, match="not of event"):
        check_attested(evidence("asian:10x2", SAID), announced, attestation)


@pytest.fixture
def attested_path():
    from btcfi.oracle.attestation import attest  # noqa: PLC0415
    from tests.support.contracts import MemoryLedger  # noqa: PLC0415

    def made(found):
        announced = announce(ORACLES[0], found.event)
        return found, announced, attest(ORACLES[0], announced, found.outcome, MemoryLedger())

    return made


def test_an_event_of_no_program_is_one_of_a_path():
    assert path_event(ASIAN, program_hash=NO_PROGRAM).id != path_event(ASIAN, program_hash=Hash32(b"\1" * 32)).id
    assert isinstance(path_event(LADDER).path, Ladder)
