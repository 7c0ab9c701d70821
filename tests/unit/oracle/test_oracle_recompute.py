"""A report is what its signed messages give, in every field; what they do not give is refused by that field's name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btcfi.hashes import sha256
from btcfi.oracle.commitment import commitment_of, sign_commitment
from btcfi.oracle.consensus import Absent, ConsensusRule, Method, Thin
from btcfi.oracle.quote import MissingReason
from btcfi.oracle.recompute import (
    AgreedEarlierError,
    ForgedRoundError,
    ReportDiffersError,
    RoundTerms,
    SignedRound,
    earlier_rule,
    recompute,
    recompute_signed,
)
from btcfi.oracle.report import decode_rule, rule_document, rule_hash
from btcfi.units import Slot
from tests.support.oracle_support import BINANCE, COINBASE, KRAKEN, LEG, SLOT, leg, quote, registry, secret_of, signed

NODES = {"b": BINANCE, "c": COINBASE, "k": KRAKEN, "l": LEG}
REGISTRY = registry(**NODES)
TERMS = RoundTerms(feed="BTC/USD", rule=ConsensusRule(), registered=REGISTRY.venues, legs=REGISTRY.legs)
SAID = (quote(BINANCE, 60_010_00), quote(COINBASE, 60_000_00), quote(KRAKEN, 60_005_00, low=59_900_00), leg(99_990_000))
WORDS = SignedRound(
    slot=SLOT, submissions=tuple(signed(n, s) for n, s in zip(NODES, SAID, strict=True))
)  # fmt: skip
REPORT = recompute_signed(TERMS, WORDS, REGISTRY.keys)
OUTCOME = REPORT.outcome


def lied(**changes):
    return replace(REPORT, outcome=replace(OUTCOME, **changes))


@pytest.mark.parametrize(
    ("told", "field"),
    [
        (lied(price=OUTCOME.price + 1), "price"),
        (lied(low=OUTCOME.low - 1), "low"),
        (lied(high=OUTCOME.high + 1), "high"),
        (lied(confidence=0), "confidence"),
        (lied(registered=2), "registered"),
        (lied(quorum=1), "quorum"),
        (lied(used=OUTCOME.used[1:]), "used[0].basis"),
        (lied(used=(replace(OUTCOME.used[0], evidence=sha256(b"x")), *OUTCOME.used[1:])), "used[0].evidence"),
        (lied(used=(replace(OUTCOME.used[0], weight=9), *OUTCOME.used[1:])), "used[0].weight"),
        (lied(dropped=OUTCOME.dropped * 2, absent=(Absent(venue=KRAKEN, reason=MissingReason.SILENT, detail=""),)),
         "absent"),
        (lied(rates=(("USDT", 100_000_000),)), "rates.USDT"),
        (lied(method=Method.MEAN), "method"),
        (lied(dollar_markets=5), "dollar_markets"),
        (lied(reach=1), "reach"),
        (lied(thin=()), "thin"),
        (lied(thin=(Thin.UNMEASURED,)), "thin[0]"),
        (lied(slot=Slot(SLOT + 60)), "slot"),
        (replace(REPORT, feed="ETH/USD"), "feed"),
        (replace(REPORT, rule_hash=sha256(b"another rule")), "rule_hash"),
        (replace(REPORT, evidence_root=sha256(b"another root")), "evidence_root"),
    ],
)  # fmt: skip
def test_a_report_that_lies_in_one_field_is_refused_by_that_fields_name(told, field) -> None:
    with pytest.raises(ReportDiffersError) as caught:
        recompute_signed(TERMS, WORDS, REGISTRY.keys, told=told)
    assert (caught.value.field, caught.value.slot) == (field, SLOT)


def test_the_report_of_the_very_messages_passes() -> None:
    assert recompute_signed(TERMS, WORDS, REGISTRY.keys, told=REPORT) == REPORT


COMMITTED = sign_commitment(
    "k", SLOT, commitment_of("k", SAID[2], bytes(32)), secret_of("k"), aux=bytes(32)
)  # fmt: skip
BOTH = (signed("k", quote(KRAKEN, 60_000_00)), signed("k", quote(KRAKEN, 61_000_00)))


@pytest.mark.parametrize(
    "forged",
    [
        replace(WORDS, submissions=(*WORDS.submissions, signed("stranger", SAID[0]))),
        replace(WORDS, submissions=(signed("b", SAID[0], secret=secret_of("c")),)),
        replace(WORDS, submissions=(signed("b", SAID[1]),)),
        replace(WORDS, submissions=(signed("b", SAID[0], feed="ETH/USD"),)),
        replace(WORDS, submissions=(signed("b", quote(BINANCE, 60_000_00, slot=Slot(SLOT - 60))),)),
        replace(WORDS, submissions=(WORDS.submissions[0], WORDS.submissions[0])),
        replace(WORDS, contradictions=(BOTH,)),
        replace(WORDS, submissions=(), contradictions=((BOTH[0], BOTH[0]),)),
        replace(WORDS, submissions=(), contradictions=((BOTH[0], signed("c", SAID[1])),)),
        replace(WORDS, submissions=(), contradictions=(BOTH, BOTH)),
        replace(WORDS, commitments=(replace(COMMITTED, signature=bytes(64)),)),
        replace(WORDS, commitments=(replace(COMMITTED, slot=Slot(SLOT - 60)),)),
        replace(WORDS, commitments=(COMMITTED, COMMITTED)),
    ],
)
def test_messages_that_no_registered_node_signed_for_this_round_give_no_report(forged) -> None:
    with pytest.raises(ForgedRoundError):
        recompute_signed(TERMS, forged, REGISTRY.keys)


def test_only_what_is_signed_stands_in_a_report_a_commitment_without_a_reveal_and_a_contradiction_do() -> None:
    few = SignedRound(slot=SLOT, submissions=WORDS.submissions[:2], commitments=(COMMITTED,))
    assert [(a.venue, a.reason) for a in recompute_signed(TERMS, few, REGISTRY.keys).outcome.absent] == [
        (KRAKEN, MissingReason.NOT_REVEALED)
    ]
    two = recompute_signed(TERMS, replace(few, commitments=(), contradictions=(BOTH,)), REGISTRY.keys)
    assert [(d.venue, d.reason) for d in two.outcome.dropped] == [(KRAKEN, "equivocation")] * 2
    assert [(a.venue, a.reason) for a in two.outcome.absent] == [(KRAKEN, MissingReason.SILENT)]


def test_an_earlier_releases_report_is_held_against_what_it_knew_and_a_difference_accuses_nobody() -> None:
    rule = earlier_rule(ConsensusRule(), replace(OUTCOME, method=Method.VOLUME_WEIGHTED_MEDIAN))
    terms = replace(TERMS, rule=rule)
    today = recompute(terms, SAID, slot=SLOT)
    bare = replace(
        today.outcome, dollar_markets=None, reach=None, thin=(),
        used=tuple(replace(u, volume=None, weight=7) for u in today.outcome.used),
    )  # fmt: skip
    recompute(terms, SAID, slot=SLOT, told=replace(today, outcome=bare), earlier=True)
    other = replace(today, outcome=replace(bare, price=bare.price + 5))
    with pytest.raises(AgreedEarlierError, match="earlier release") as caught:
        recompute(terms, SAID, slot=SLOT, told=other, earlier=True)
    assert caught.value.field == "price"


@given(
    outlier=st.integers(1, 9999), least=st.integers(0, 64), thin=st.integers(0, 9999), venues=st.sets(
        st.sampled_from([BINANCE, COINBASE, KRAKEN])),
)  # fmt: skip
def test_a_rules_document_gives_the_rule_back_and_its_hash(outlier, least, thin, venues) -> None:
    rule = ConsensusRule(outlier_bps=outlier, least_dollar_markets=least, thin_bps=thin)
    read = decode_rule(rule_document(rule, venues, [LEG]))
    assert (read.rule, set(read.registered), read.legs) == (rule, venues, (LEG,))
    assert rule_hash(read.rule, read.registered, read.legs) == rule_hash(rule, venues, [LEG])
