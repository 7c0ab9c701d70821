from __future__ import annotations

import os

import pytest

from btcfi.oracle.commitment import commitment_of, opens, sign_commitment
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, DropReason, Void, agreed_price
from btcfi.oracle.quote import MissingReason
from btcfi.oracle.report import (
    certified,
    decode_report,
    encode_report,
    evidence_leaf,
    evidence_path,
    evidence_root,
    path_leads_to,
    report_hash,
    sign_report,
)
from btcfi.oracle.round_book import Kept, Registry, RegistryError, RoundBook, SubmissionPolicy
from btcfi.oracle.submission import (
    BadSignatureError,
    ClockSkewError,
    ClosedSlotError,
    CommitmentError,
    EquivocationError,
    EvidenceMismatchError,
    FutureSlotError,
    ReplayedSubmissionError,
    UnknownNodeError,
    WrongVenueError,
    signature_valid,
)
from btcfi.units import Slot, UnixSeconds
from tests.support.oracle_support import (
    BINANCE,
    COINBASE,
    KRAKEN,
    LEG,
    SLOT,
    leg,
    missing,
    quote,
    registry,
    secret_of,
    signed,
)

NOW = UnixSeconds(SLOT + 63)
LATER = UnixSeconds(SLOT + 60 + 16)
NODES = {"b": BINANCE, "c": COINBASE, "k": KRAKEN, "l": LEG}


def book(**policy) -> RoundBook:
    return RoundBook(registry=registry(**NODES), rule=ConsensusRule(), policy=SubmissionPolicy(**policy))


def honest(into: RoundBook, *names: str) -> None:
    words = {
        "b": quote(BINANCE, 60_010_00),
        "c": quote(COINBASE, 60_000_00),
        "k": quote(KRAKEN, 60_005_00),
        "l": leg(100_000_000),
    }
    for name in names:
        into.accept(signed(name, words[name]), NOW)


def test_signed_words_of_registered_nodes_become_a_price_and_the_round_is_final_when_its_window_ends() -> None:
    rounds = book()
    honest(rounds, "b", "c", "k", "l")
    assert rounds.everybody_spoke(SLOT)
    assert not rounds.settled(SLOT, NOW)
    assert rounds.settled(SLOT, LATER)
    outcome = rounds.finish(SLOT).outcome
    assert isinstance(outcome, AgreedPrice)
    assert outcome.price == 60_005_00
    assert rounds.latest_priced(LATER) == outcome


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (signed("stranger", quote(KRAKEN, 60_000_00)), UnknownNodeError),
        (signed("k", quote(KRAKEN, 60_000_00), secret=secret_of("c")), BadSignatureError),
        (signed("k", quote(COINBASE, 60_000_00)), WrongVenueError),
        (signed("k", quote(KRAKEN, 60_000_00), feed="ETH/USD"), WrongVenueError),
        (signed("k", quote(KRAKEN, 60_000_00, slot=Slot(SLOT - 60))), ClosedSlotError),
        (signed("k", quote(KRAKEN, 60_000_00, slot=Slot(SLOT + 60)), at=NOW), FutureSlotError),
        (signed("k", quote(KRAKEN, 60_000_00), at=NOW + 300), ClockSkewError),
        (signed("k", quote(KRAKEN, 60_000_00), at=NOW - 300), ClockSkewError),
        (signed("k", quote(KRAKEN, 60_000_00), offset_ms=300_000), ClockSkewError),
        (signed("k", quote(KRAKEN, 60_000_00), offset_ms=-2_001), ClockSkewError),
        (signed("k", quote(KRAKEN, 60_000_00), raw=b"not the response"), EvidenceMismatchError),
    ],
)
def test_a_word_that_must_not_count_is_refused_counted_and_changes_nothing(message, error) -> None:
    rounds = book()
    with pytest.raises(error):
        rounds.accept(message, NOW)
    assert rounds.refusals == {error.kind: 1}
    assert rounds.submissions(SLOT) == []


def test_a_clock_within_the_presets_skew_is_fine() -> None:
    book().accept(signed("k", quote(KRAKEN, 60_000_00), offset_ms=1_999), NOW)


def test_the_same_word_twice_changes_nothing() -> None:
    rounds = book()
    honest(rounds, "k")
    with pytest.raises(ReplayedSubmissionError):
        honest(rounds, "k")
    with pytest.raises(ReplayedSubmissionError):
        rounds.accept(signed("k", quote(KRAKEN, 60_005_00), at=NOW), NOW)
    assert len(rounds.submissions(SLOT)) == 1


def test_two_prices_of_one_key_for_one_slot_are_kept_as_proof_and_put_the_node_out_of_the_round() -> None:
    rounds = book()
    honest(rounds, "b", "c", "k", "l")
    with pytest.raises(EquivocationError):
        rounds.accept(signed("k", quote(KRAKEN, 60_700_00)), NOW)
    with pytest.raises(EquivocationError):
        rounds.accept(signed("k", quote(KRAKEN, 60_005_00)), NOW)
    outcome = rounds.finish(SLOT).outcome
    assert {u.venue for u in outcome.used} == {BINANCE, COINBASE}
    assert {d.reason for d in outcome.dropped} == {DropReason.EQUIVOCATION}
    first, second = rounds.equivocations(SLOT)["k"]
    key = rounds.registry.nodes["k"].public_key
    assert signature_valid(first, key)
    assert signature_valid(second, key)
    assert first.submission.observation != second.submission.observation


def test_another_node_of_the_venue_still_speaks_for_it_when_one_equivocates() -> None:
    rounds = RoundBook(registry=registry(k1=KRAKEN, k2=KRAKEN, c=COINBASE), rule=ConsensusRule())
    rounds.accept(signed("k1", quote(KRAKEN, 60_000_00)), NOW)
    with pytest.raises(EquivocationError):
        rounds.accept(signed("k1", quote(KRAKEN, 61_000_00)), NOW)
    rounds.accept(signed("k2", quote(KRAKEN, 60_010_00)), NOW)
    rounds.accept(signed("c", quote(COINBASE, 60_000_00)), NOW)
    assert {u.venue for u in rounds.outcome(SLOT).used} == {KRAKEN, COINBASE}


def test_the_words_that_a_database_keeps_give_the_rounds_price_again() -> None:
    rounds = RoundBook(registry=registry(k1=KRAKEN, k2=KRAKEN, **NODES), rule=ConsensusRule())
    honest(rounds, "b", "c", "l")
    rounds.accept(signed("k1", quote(KRAKEN, 60_030_00)), NOW)
    rounds.accept(signed("k2", quote(KRAKEN, 60_030_00, at=63)), NOW)
    with pytest.raises(EquivocationError):
        rounds.accept(signed("c", quote(COINBASE, 61_000_00)), NOW)
    words = rounds.words(SLOT)
    assert [w.venue for w in words] == sorted(set(NODES.values()))
    kept = {w.venue: w for w in words}
    assert (kept[KRAKEN].close, kept[COINBASE].reason) == (60_030_00, MissingReason.REFUSED)
    again = agreed_price(
        words, registered=rounds.registry.venues, legs=rounds.registry.legs, rule=rounds.rule, slot=SLOT
    )
    assert again.price == rounds.outcome(SLOT).price


def test_a_contradiction_after_the_end_is_kept_and_moves_no_price() -> None:
    rounds = book()
    honest(rounds, "b", "c", "k", "l")
    before = rounds.finish(SLOT)
    with pytest.raises(EquivocationError):
        rounds.accept(signed("k", quote(KRAKEN, 60_700_00)), NOW)
    assert rounds.report(SLOT) == before
    assert "k" in rounds.equivocations(SLOT)


def test_two_nodes_of_a_venue_that_differ_leave_it_out_by_name_and_the_database_without_a_word_of_it() -> None:
    rounds = RoundBook(registry=registry(k2=KRAKEN, **NODES), rule=ConsensusRule())
    honest(rounds, "b", "c", "k", "l")
    rounds.accept(signed("k2", quote(KRAKEN, 60_400_00, at=63)), NOW)
    assert {(d.venue, d.reason) for d in rounds.outcome(SLOT).dropped} == {(KRAKEN, DropReason.NODES_DISAGREE)}
    (word,) = [w for w in rounds.words(SLOT) if w.venue == KRAKEN]
    assert (word.reason, word.detail) == (MissingReason.REFUSED, "its nodes say different candles")


def test_a_node_whose_clock_is_off_by_five_minutes_is_remarked_and_silent_in_the_report() -> None:
    rounds = book()
    honest(rounds, "b", "c", "l")
    late = quote(KRAKEN, 60_000_00, slot=Slot(SLOT - 300))
    with pytest.raises(ClosedSlotError):
        rounds.accept(signed("k", late), NOW)
    assert [(a.venue, a.reason) for a in rounds.remarks(SLOT)] == [(KRAKEN, MissingReason.STALE)]
    assert [(a.venue, a.reason, a.detail) for a in rounds.outcome(SLOT).absent] == [(KRAKEN, MissingReason.SILENT, "")]
    early = book()
    honest(early, "b", "c", "l")
    with pytest.raises(FutureSlotError):
        early.accept(signed("k", quote(KRAKEN, 60_000_00, slot=Slot(SLOT + 300)), at=NOW), NOW)
    assert [(a.venue, a.reason) for a in early.remarks(SLOT)] == [(KRAKEN, MissingReason.CLOCK_SKEW)]


def test_old_messages_replayed_by_somebody_else_do_not_stop_the_nodes_real_word() -> None:
    rounds = book()
    with pytest.raises(ClosedSlotError):
        rounds.accept(signed("k", quote(KRAKEN, 50_000_00, slot=Slot(SLOT - 6000))), NOW)
    honest(rounds, "b", "c", "k", "l")
    assert len(rounds.outcome(SLOT).used) == 3


def test_an_old_message_sent_again_does_not_make_a_dead_node_active() -> None:
    rounds = book()
    word = signed("k", quote(KRAKEN, 60_000_00))
    rounds.accept(word, NOW)
    much_later = UnixSeconds(NOW + 900)
    for again in (word, signed("c", quote(COINBASE, 60_000_00, slot=Slot(SLOT - 6000)))):
        with pytest.raises(ClosedSlotError):
            rounds.accept(again, much_later)
    assert not any(h.active for h in rounds.health(much_later))


@pytest.mark.parametrize("at", [-SLOT, 0, 59, 66, 2**32 - 1 - SLOT])
def test_a_word_observed_before_its_minute_ended_or_after_it_was_sent_is_refused(at: int) -> None:
    rounds = book()
    with pytest.raises(ClockSkewError):
        rounds.accept(signed("k", quote(KRAKEN, 60_000_00, at=at), at=SLOT + 62), NOW)
    honest(rounds, "b", "c", "k", "l")
    assert rounds.outcome(SLOT).dropped == ()


def test_a_contradiction_signed_after_the_end_is_evidence_and_moves_no_price() -> None:
    rounds, after = book(), UnixSeconds(SLOT + 600)
    honest(rounds, "b", "c", "k", "l")
    before = rounds.finish(SLOT)
    with pytest.raises(EquivocationError):
        rounds.accept(signed("k", quote(KRAKEN, 60_700_00), at=after), after)
    assert rounds.report(SLOT) == rounds.finish(SLOT) == before
    ((first, second),) = rounds.late_contradictions(SLOT)
    assert [one.submission.observation.close for one in (first, second)] == [60_005_00, 60_700_00]


def test_a_restart_remembers_who_lied_who_committed_and_who_was_heard() -> None:
    rounds = book()
    honest(rounds, "b", "c", "k", "l")
    before = rounds.submissions(SLOT)
    with pytest.raises(EquivocationError):
        rounds.accept(signed("k", quote(KRAKEN, 60_700_00)), NOW)
    again, both = book(), rounds.equivocations(SLOT)["k"]
    again.restore(Kept(submissions=[(one, NOW) for one in before], contradictions=[(both, NOW)]))
    assert report_hash(again.report(SLOT)) == report_hash(rounds.report(SLOT))
    with pytest.raises(EquivocationError):
        again.accept(signed("k", quote(KRAKEN, 60_005_00)), NOW)
    assert {h.node.node_id for h in again.health(NOW) if h.active} == {"b", "c", "k", "l"}
    late = book()
    late.restore(Kept(submissions=[(one, NOW) for one in before], contradictions=[(both, LATER)]))
    assert {u.venue for u in late.finish(SLOT).outcome.used} == {BINANCE, COINBASE, KRAKEN}
    assert late.late_contradictions(SLOT) == [both]


def test_a_restart_leaves_out_what_no_node_of_the_registry_signed() -> None:
    rounds = book()
    honest(rounds, "b", "c", "k", "l")
    kept = Kept(submissions=[(one, NOW) for one in rounds.submissions(SLOT)])
    fewer = RoundBook(registry=registry(b=BINANCE, c=COINBASE, l=LEG), rule=ConsensusRule())
    assert fewer.restore(kept) == {"k"}
    assert {u.venue for u in fewer.outcome(SLOT).used} == {BINANCE, COINBASE}


def test_a_nodes_reason_for_having_no_quote_stands_in_the_report() -> None:
    rounds = book()
    honest(rounds, "b", "c", "l")
    rounds.accept(signed("k", missing(KRAKEN, MissingReason.RATE_LIMITED)), NOW)
    assert [(a.venue, a.reason) for a in rounds.outcome(SLOT).absent] == [(KRAKEN, MissingReason.RATE_LIMITED)]


def test_a_round_in_which_nobody_speaks_is_void_not_forgotten() -> None:
    rounds = book()
    rounds.watch(SLOT)
    assert list(rounds.unfinished()) == [SLOT]
    assert isinstance(rounds.finish(SLOT).outcome, Void)


def test_nodes_are_active_for_two_minutes_after_their_last_word() -> None:
    rounds = book()
    honest(rounds, "k")
    active = {h.node.node_id for h in rounds.health(UnixSeconds(NOW + 120)) if h.active}
    assert active == {"k"}
    assert not any(h.active for h in rounds.health(UnixSeconds(NOW + 121)))


def test_after_a_restart_the_stored_words_give_the_same_report() -> None:
    rounds, again = book(), book()
    honest(rounds, "b", "c", "k", "l")
    again.restore(Kept(submissions=[(one, NOW) for one in rounds.submissions(SLOT)]))
    assert report_hash(again.report(SLOT)) == report_hash(rounds.report(SLOT))


# --- commit and reveal


def committed(rounds: RoundBook, observation, nonce: bytes, at: int = SLOT + 62):
    made = sign_commitment("k", SLOT, commitment_of("k", observation, nonce), secret_of("k"), aux=bytes(32))
    rounds.commit(made, UnixSeconds(at))
    return made


def test_a_committed_price_counts_once_revealed_and_only_as_committed() -> None:
    rounds, nonce = book(commit_reveal=True), bytes(range(32))
    said = quote(KRAKEN, 60_000_00)
    committed(rounds, said, nonce)
    reveal_at = UnixSeconds(SLOT + 71)
    with pytest.raises(CommitmentError):
        rounds.accept(signed("k", said, at=reveal_at), UnixSeconds(SLOT + 69), nonce=nonce)
    with pytest.raises(CommitmentError):
        rounds.accept(signed("k", quote(KRAKEN, 60_000_01), at=reveal_at), reveal_at, nonce=nonce)
    with pytest.raises(CommitmentError):
        rounds.accept(signed("k", said, at=reveal_at), reveal_at, nonce=bytes(32))
    assert rounds.accept(signed("k", said, at=reveal_at), reveal_at, nonce=nonce) == said


def test_a_node_that_commits_and_does_not_reveal_is_recorded() -> None:
    rounds = book(commit_reveal=True)
    committed(rounds, quote(KRAKEN, 60_000_00), bytes(32))
    assert [(a.venue, a.reason) for a in rounds.outcome(SLOT).absent if a.venue == KRAKEN] == [
        (KRAKEN, MissingReason.NOT_REVEALED)
    ]


def test_a_late_a_second_or_a_strangers_commitment_is_refused() -> None:
    rounds = book(commit_reveal=True)
    committed(rounds, quote(KRAKEN, 60_000_00), bytes(32))
    with pytest.raises(ReplayedSubmissionError):
        committed(rounds, quote(KRAKEN, 60_000_01), bytes(32))
    with pytest.raises(CommitmentError):
        committed(book(commit_reveal=True), quote(KRAKEN, 60_000_00), bytes(32), at=SLOT + 71)
    made = sign_commitment(
        "k", SLOT, commitment_of("k", quote(KRAKEN, 1_000_00), bytes(32)), secret_of("c"), aux=bytes(32)
    )
    with pytest.raises(BadSignatureError):
        book(commit_reveal=True).commit(made, NOW)


def test_a_commitment_shows_nothing_of_its_nonce_and_fits_no_other_node() -> None:
    said, nonce = quote(KRAKEN, 60_000_00), os.urandom(32)
    made = sign_commitment("k", SLOT, commitment_of("k", said, nonce), secret_of("k"), aux=bytes(32))
    assert opens(made, said, nonce)
    assert nonce[:8] not in made.commitment + made.signature
    assert commitment_of("c", said, nonce) != made.commitment


def test_a_reveal_counts_after_a_restart() -> None:
    rounds, nonce = book(commit_reveal=True), bytes(range(32))
    said = quote(KRAKEN, 60_000_00)
    made = committed(rounds, said, nonce)
    again, reveal_at = book(commit_reveal=True), UnixSeconds(SLOT + 71)
    again.restore(Kept(commitments=[(made, NOW)]))
    assert again.accept(signed("k", said, at=reveal_at), reveal_at, nonce=nonce) == said


# --- reports


def test_a_report_is_certified_by_enough_different_nodes_over_this_very_report() -> None:
    rounds = book()
    honest(rounds, "b", "c", "k", "l")
    report = rounds.finish(SLOT)
    keys = {n.node_id: n.public_key for n in rounds.registry.nodes.values()}
    signatures = {n: sign_report(report, secret_of(n), aux=bytes(32)) for n in ("b", "c")}
    assert not certified(report, signatures, keys, needed=3)
    signatures["stranger"] = sign_report(report, secret_of("stranger"), aux=bytes(32))
    signatures["k"] = signatures["c"]
    assert not certified(report, signatures, keys, needed=3)
    signatures["k"] = sign_report(report, secret_of("k"), aux=bytes(32))
    assert certified(report, signatures, keys, needed=3)
    other = book()
    honest(other, "b", "c", "l")
    assert not certified(other.finish(SLOT), signatures, keys, needed=1)


def test_a_report_survives_json_and_its_hash_commits_to_rule_venues_and_evidence() -> None:
    rounds = book()
    honest(rounds, "b", "c", "k", "l")
    report = rounds.finish(SLOT)
    assert report_hash(decode_report(encode_report(report))) == report_hash(report)
    stricter = RoundBook(registry=registry(**NODES), rule=ConsensusRule(outlier_bps=150))
    honest(stricter, "b", "c", "k", "l")
    assert report_hash(stricter.finish(SLOT)) != report_hash(report)


@pytest.mark.parametrize("count", range(1, 9))
def test_every_raw_response_of_a_round_has_a_path_to_the_evidence_root(count: int) -> None:
    said = [quote(KRAKEN, 60_000_00 + i) for i in range(count)]
    root = evidence_root(said)
    for o in said:
        leaf = evidence_leaf(o.venue, o.slot, o.evidence)
        path = evidence_path(said, leaf)
        assert path_leads_to(root, leaf, path)
        assert not path_leads_to(root, evidence_leaf(COINBASE, o.slot, o.evidence), path)
    assert evidence_root(list(reversed(said))) == root


def test_a_registry_needs_different_keys_and_a_bitcoin_market() -> None:
    with pytest.raises(RegistryError):
        registry(l=LEG)
    nodes = registry(**NODES).nodes
    with pytest.raises(RegistryError):
        Registry(nodes={"a": nodes["k"], "b": nodes["k"]})
