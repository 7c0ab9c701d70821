"""An oracle and the events of paths: from what nodes signed to digits, the evidence of it, and what is refused."""

from dataclasses import replace

import pytest

from btcfi.adapters.oracle.client import OracleClient
from btcfi.adapters.oracle.oracle import (
    GatheringError,
    MinutesLackingError,
    NotOverError,
    StillReadingError,
    UnknownEventError,
)
from btcfi.adapters.oracle.sources import MinuteState
from btcfi.adapters.oracle.sources import Served as ServedMinute
from btcfi.adapters.oracle.web import NotYetAnswerError, RefusedAnswerError, Web
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.oracle.announcement import NO_PROGRAM, OF_PATH, check_announcement
from btcfi.oracle.attestation import AlreadyAttestedError, attest, check_attestation
from btcfi.oracle.event_query import query_of
from btcfi.oracle.path import Ladder, parse_path
from btcfi.oracle.path_evidence import WrongEvidenceError, check_attested, check_minutes
from btcfi.units import Hash32, UnixSeconds
from settings.preset import load_preset
from tests.integration.adapters.oracle.test_oracle_answers import FEED, Scene, event, flat, minute
from tests.support.oracle_support import quote
from tests.support.oracles import DOLLARS, Served, sign

pytestmark = pytest.mark.integration


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def path_event(number, text, **more):
    return replace(event(number), version=OF_PATH, path=parse_path(text), **more)


def wick(scene, number, high):
    """A minute of a flat price whose highest price all five venues saw."""
    from btcfi.adapters.oracle_network.node_keys import read_node_key  # noqa: PLC0415

    at = minute(number)
    return ServedMinute(slot=at, state=MinuteState.CLOSED, submissions=tuple(
        sign(quote(venue, 6_000_000, slot=at, high=high), read_node_key(scene.node_keys, venue)) for venue in DOLLARS
    ))  # fmt: skip


def test_three_oracles_attest_the_mean_of_what_the_nodes_signed_and_show_every_minute_of_it(scene, tmp_path):
    prices = {n: flat(6_000_000 + 100_000 * (n % 7)) for n in range(25)}
    found = []
    for place in range(3):
        one = Scene(tmp_path / str(place)) if place else scene
        oracle = one.oracle(one.aggregator(prices))
        promised = oracle.announcement(path_event(24, "asian:6x5"))
        check_announcement(promised, expected=path_event(24, "asian:6x5"))
        said = oracle.attestation(promised.event)
        check_attestation(said, promised)
        evidence = oracle.evidence(promised.event)
        check_attested(evidence, promised, said)
        assert [row.slot for row in evidence.minutes] == [minute(n) for n in (0, 6, 12, 18, 24)]
        found.append((said.outcome, said.oracle_key))
    mean = sum(6_000_000 + 100_000 * (n % 7) for n in (0, 6, 12, 18, 24)) // 5
    assert [outcome for outcome, _ in found] == [(mean + 50) // 100] * 3
    assert len({key for _, key in found}) == 3


def test_a_cliquet_and_a_ladder_are_attested_from_the_oracle_s_own_minutes(scene):
    source = scene.aggregator({n: flat(6_000_000 if n < 5 else 6_300_000) for n in range(13)})
    source.minutes[minute(7)] = wick(scene, 7, 6_500_100)
    oracle = scene.oracle(source)
    assert oracle.attestation(path_event(12, "cliquet:4x3:-100:200")).outcome == 102_000
    ladder = f"ladder:up:{minute(4)}:64000/65000/66000"
    assert oracle.attestation(path_event(12, ladder)).outcome == 65_000
    after = f"ladder:up:{minute(7)}:64000/65000/66000"  # the minute of the wick is watched no more
    assert oracle.attestation(path_event(12, after)).outcome == 63_000
    rule = oracle.settings.rule_of(load_preset("standard").sha256)
    reports = [oracle.minute(minute(n)).report(rule, FEED) for n in range(4, 13)]
    evidence = oracle.evidence(path_event(12, ladder))
    assert check_minutes(evidence, reports) == len(evidence.minutes) == 8
    lied = replace(evidence, minutes=(replace(evidence.minutes[0], high=7_000_000), *evidence.minutes[1:]))
    with pytest.raises(WrongEvidenceError, match="report"):
        check_minutes(lied, reports)


def test_one_venue_s_wick_reaches_no_rung(scene):
    source = scene.aggregator({n: flat(6_000_000) for n in range(4)})
    honest = wick(scene, 2, 6_000_000)
    liar = wick(scene, 2, 9_000_000)
    source.minutes[minute(2)] = replace(honest, submissions=(*liar.submissions[:2], *honest.submissions[2:]))
    assert scene.oracle(source).attestation(path_event(3, f"ladder:up:{minute(0)}:61000")).outcome == 60_000


def test_nothing_is_attested_before_the_last_minute_ended_or_while_one_lacks(scene):
    source = scene.aggregator({n: flat(6_000_000) for n in (0, 2)})
    early = scene.oracle(source, now=UnixSeconds(minute(4) + 59))
    with pytest.raises(NotOverError):
        early.attestation(path_event(4, "asian:2x3"))
    oracle = scene.oracle(source)
    with pytest.raises(MinutesLackingError) as refused:
        oracle.attestation(path_event(4, "asian:2x3"))
    assert refused.value.lacking.slots == (minute(4),)
    with pytest.raises(MinutesLackingError):
        oracle.evidence(path_event(4, "asian:2x3"))
    source.minutes |= scene.aggregator({4: flat(6_300_000)}).minutes
    assert oracle.attestation(path_event(4, "asian:2x3")).outcome == 61_000


def test_an_observation_that_one_aggregator_calls_void_is_asked_for_once_more_at_the_other(scene):
    prices = {n: flat(6_000_000 + 100_000 * n) for n in range(6)}
    honest = scene.aggregator(prices)
    withholds = scene.aggregator({n: closes for n, closes in prices.items() if n != 2}, name="withholds")
    withholds.minutes[minute(2)] = ServedMinute(slot=minute(2), state=MinuteState.NEVER_ASKED)
    honest.away = True
    oracle = scene.oracle(withholds, honest)
    for _ in range(3):
        oracle.follow()
    honest.away = False
    assert oracle.attestation(path_event(5, "asian:3x2")).outcome == 63_500


def test_a_first_word_stands_when_a_minute_is_known_better_later_and_no_evidence_is_made_up_for_it(scene):
    prices = {n: flat(6_000_000) for n in range(5)}
    part = scene.aggregator(prices)
    part.minutes[minute(2)] = scene.served(minute(2), [6_000_000, 6_000_000, 6_000_000, 6_000_600, None])
    oracle = scene.oracle(part)
    one = path_event(4, "asian:2x2")
    assert oracle.attestation(one).outcome == 60_000
    assert oracle.evidence(one).outcome == 60_000
    with pytest.raises(AlreadyAttestedError):
        attest(scene.folder.secret(), oracle.announcement(one), 60_001, scene.folder.ledger())
    late = scene.served(minute(2), [6_300_000, 6_300_000, 6_300_000, 6_300_000, 6_300_000])
    replaced = scene.oracle(scene.aggregator({}), now=UnixSeconds(minute(5)))
    replaced.folder.keep(replace(oracle.minute(minute(2)), submissions=late.submissions))
    assert replaced.attestation(one).outcome == 60_000
    with pytest.raises(ConflictError, match="60000"):
        replaced.evidence(one)


def test_an_oracle_reads_a_long_ladder_by_and_by_and_asks_for_no_season(scene, monkeypatch):
    monkeypatch.setattr("btcfi.adapters.oracle.oracle.MOST_READ", 5)
    oracle = scene.oracle(scene.aggregator({n: flat(6_000_000) for n in range(14)}))
    while oracle.follow():
        pass
    one = path_event(13, f"ladder:up:{minute(0)}:61000")
    for _ in range(2):
        with pytest.raises(StillReadingError):
            oracle.attestation(one)
    assert oracle.attestation(one).outcome == 60_000


def test_evidence_is_gathered_for_one_question_at_a_time_and_kept_once_it_says_what_was_attested(scene):
    oracle = scene.oracle(scene.aggregator({n: flat(6_000_000) for n in range(5)}))
    one = path_event(4, "asian:2x2")
    assert oracle.evidence(one) is not oracle.evidence(one)  # nobody has attested it
    oracle.attestation(one)
    assert oracle.evidence(one) is oracle.evidence(one)
    with oracle._gathering, pytest.raises(GatheringError):
        oracle.evidence(path_event(4, "asian:1x2"))
    assert oracle.evidence(one).outcome == 60_000


@pytest.mark.parametrize("changes", [
    {"program_hash": Hash32(b"\7" * 32)}, {"preset_hash": Hash32(b"\7" * 32)}, {"feed": "BTC/EUR"},
])  # fmt: skip
def test_a_path_of_another_preset_feed_or_program_is_announced_by_nobody(scene, changes):
    oracle = scene.oracle(scene.aggregator({}))
    with pytest.raises(UnknownEventError):
        oracle.announcement(path_event(4, "asian:2x2", **changes))


def test_no_program_is_known_for_a_path_and_for_nothing_else(scene):
    oracle = scene.oracle(scene.aggregator({}))
    assert oracle.announcement(path_event(4, "asian:2x2", program_hash=NO_PROGRAM))
    with pytest.raises(UnknownEventError):
        oracle.announcement(replace(event(4), program_hash=NO_PROGRAM))


def test_over_http_the_whole_definition_is_asked_for_and_the_evidence_is_computed_again(scene):
    oracle = scene.oracle(scene.aggregator({n: flat(6_000_000) for n in range(5)}))
    served = Served(oracle)
    try:
        client = OracleClient(Web(served.url))
        one = path_event(4, "cliquet:1x4:-100:200")
        announced = client.announcement(one)
        assert client.attestation(one, {announced.oracle_key: announced}).outcome == 100_000
        assert len(client.evidence(one).minutes) == 5
        for spoiled in ({"path": "cliquet:1x4:-100:0200"}, {"version": "2"}, {"version": "3"}, {"path": ""}):
            with pytest.raises(RefusedAnswerError):
                client.web.get("/v1/attestation", query_of(one) | spoiled)
        with pytest.raises(RefusedAnswerError, match="path"):
            client.evidence(event(4))
        with pytest.raises(NotYetAnswerError):
            client.evidence(path_event(9, "asian:2x2"))
    finally:
        served.close()


def test_a_client_refuses_evidence_of_another_outcome(scene):
    oracle = scene.oracle(scene.aggregator({n: flat(6_000_000) for n in range(5)}))
    one = path_event(4, f"ladder:up:{minute(0)}:70000")
    assert isinstance(one.path, Ladder)

    class Lies(Web):
        """Whoever answers in the oracle's place."""

        def get(self, path, query=None):
            from btcfi.oracle.path_evidence import encode_evidence  # noqa: PLC0415

            said = encode_evidence(oracle.evidence(one))
            return said | {"outcome": 70_000, "value_cents": 7_000_000}

    with pytest.raises(WrongEvidenceError):
        OracleClient(Lies("http://127.0.0.1:1")).evidence(one)
    with pytest.raises(InvalidInputError):
        path_event(4, "asian:2x2", digits=17)
