"""What a mandate says of disputed contracts: nothing, unless its owner has; then every term has both its bounds."""

from dataclasses import replace

import pytest

from btcfi.contracts.mandate import (
    Bounds,
    OutsideMandateError,
    decode_mandate,
    encode_mandate,
    mandate_digest,
)
from btcfi.contracts.mandate_drafts import careful_disputes
from btcfi.contracts.messages import Role
from btcfi.disputes.garbled.deal import Kind, Payoff
from btcfi.disputes.garbled.opening import Side
from btcfi.errors import InvalidInputError
from btcfi.units import Sats
from tests.support.dispute_stage import draft_at, mandated, wide_rule
from tests.support.disputing import RANGES, Dispute, secret
from tests.support.mandates import authority

ORACLES = Dispute()
DRAFT = draft_at(100, ORACLES, Payoff(kind=Kind.PRICE, ranges=RANGES))
EXPIRY = DRAFT.events[0][0].event.expiry
SOON = {"now": EXPIRY - 600, "height": 100}
"""The last outcome is a block away."""


def asked(given, *, side=Side.VERIFIER, proposer=b"\x02" * 32, **changes):
    situation = SOON | {key: changes.pop(key) for key in ("now", "height", "exposure") if key in changes}
    facts = replace(DRAFT.facts(side, proposer=proposer), **changes)
    authority(given, **situation).check_dispute(facts)


def test_a_mandate_of_before_allows_no_disputed_contract_and_keeps_its_bytes():
    before = mandated(ORACLES, disputes=None)
    assert "disputes" not in encode_mandate(before)
    assert decode_mandate(encode_mandate(before)) == before
    with pytest.raises(OutsideMandateError) as error:
        asked(before)
    assert error.value.field == "dispute"


def test_a_rule_for_disputed_contracts_is_written_read_and_signed_over():
    given = mandated(ORACLES, disputes=careful_disputes(roles=list(Role)))
    assert decode_mandate(encode_mandate(given)) == given
    other = replace(given, disputes=replace(given.disputes, worst_loss=Sats(1)))
    assert mandate_digest(other) != mandate_digest(given)
    assert mandate_digest(replace(given, disputes=None)) != mandate_digest(given)


@pytest.mark.parametrize("side", list(Side))
def test_what_lies_within_every_bound_is_allowed(side):
    asked(mandated(ORACLES), side=side)
    asked(mandated(ORACLES), side=side, proposer=None)


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"roles": (Role.SELLER,)}, "dispute.role"),
        ({"kinds": ("mean",)}, "dispute.kind"),
        ({"proposers": (Dispute().announcements[0][0].oracle_key,)}, "dispute.proposer"),
        ({"collateral": Bounds(least=0, most=15_999_999)}, "dispute.collateral_sats"),
        ({"premium": Bounds(least=0, most=299_999)}, "dispute.premium_sats"),
        ({"bond": Bounds(least=2_000_001, most=1 << 40)}, "dispute.bond_sats"),
        ({"challenge_bond": Bounds(least=1, most=9)}, "dispute.challenge_bond_sats"),
        ({"worst_loss": Sats(299_999)}, "dispute.worst_loss_sats"),
        ({"fee": Bounds(least=0, most=399)}, "dispute.fee_sats"),
        ({"dispute_blocks": Bounds(least=4, most=9)}, "dispute.dispute_blocks"),
        ({"claim_delay": Bounds(least=10, most=99)}, "dispute.silence_height (beyond 101)"),
        ({"refund_delay": Bounds(least=11, most=99)}, "dispute.refund_height (beyond silence_height)"),
    ],
)
def test_what_lies_outside_one_bound_is_refused_by_its_name(rule, field):
    with pytest.raises(OutsideMandateError) as error:
        asked(mandated(ORACLES, disputes=wide_rule(**rule)))
    assert error.value.field == field


def test_oracles_threshold_feed_and_life_are_those_of_the_mandate():
    for given, field in (
        (mandated(Dispute(oracles=2)), "oracles"),
        (replace(mandated(ORACLES), threshold=1), "threshold"),
        (replace(mandated(ORACLES), feeds=("ETH/USD",)), "event.feed"),
        (replace(mandated(ORACLES), life=Bounds(least=601, most=9_999)), "dispute.expiry_unix (seconds from now)"),
    ):
        with pytest.raises(OutsideMandateError) as error:
            asked(given)
        assert error.value.field == field


def test_a_lazy_claim_is_not_possible_before_its_last_outcome_is_expected():
    given = replace(mandated(ORACLES), expiry_slack=Bounds(least=0, most=10))
    asked(given, claim_height=101)
    with pytest.raises(OutsideMandateError) as error:
        asked(given, claim_height=100)
    assert error.value.field == "dispute.claim_height (beyond 101)"


def test_what_is_at_stake_already_counts_with_what_is_put_in():
    given = replace(mandated(ORACLES), exposure=Sats(1_000_000))
    asked(given, exposure=700_000)
    with pytest.raises(OutsideMandateError) as error:
        asked(given, exposure=700_001)
    assert error.value.field == "exposure"
    assert DRAFT.puts_in(Side.CLAIMANT) == 16_000_000 + 2_000_000 - 300_000


def test_a_rule_that_allows_nothing_or_a_kind_that_there_is_not_is_no_rule():
    for change in ({"kinds": ()}, {"kinds": ("asian",)}, {"roles": (Role.BUYER, Role.BUYER)},
                   {"proposers": (secret("no"),) * 2}):  # fmt: skip
        with pytest.raises(InvalidInputError):
            wide_rule(**change)
    assert {one.value for one in Kind} == set(wide_rule().kinds)
