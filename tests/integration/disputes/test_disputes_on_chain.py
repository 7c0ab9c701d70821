"""A disputed contract on a node, ours and a real one: paid, disproved, refunded, silent; what neither side can do."""

import pytest

from btcfi import secp256k1
from btcfi.disputes.garbled.presign import (
    build_disproof,
    build_payout,
    build_refund,
    build_silence,
    build_silent_end,
    read_claim,
    read_silence,
)
from btcfi.disputes.garbled.setup import Verdict
from btcfi.units import Height, Sats
from tests.support.disputing import Dispute, secret, with_child

pytestmark = pytest.mark.integration

SPOT = 67_890
RIGHT = 8


def refused(wallet, transaction):
    """Why a node does not take a transaction."""
    found = wallet.node.test_accept([transaction])[0]
    assert not found.allowed
    return found.reason


def mined_to(wallet, height):
    while wallet.node.block_count() < height:
        wallet.mine()


def ready(wallet, **options):
    here = wallet.node.block_count()
    dispute = Dispute(silence=here + 4, refund=here + 30, **options)
    dispute.opened(wallet)
    return dispute


def judged(dispute, claim):
    found = read_claim(dispute.graph, dispute.of_claims, claim)
    return found, dispute.kept.judge(found.values, found.secrets)


def test_a_right_claim_pays_at_once_and_gives_the_rest_back_after_its_blocks_and_not_before(wallet):
    dispute = ready(wallet)
    assert dispute.right([SPOT]) == RIGHT
    claim = dispute.claimed(RIGHT, dispute.attested([SPOT]))
    with_child(wallet, claim, dispute.p.wallet)
    assert claim.outputs[0].value == 1_000_000 * RIGHT
    assert claim.outputs[0].script == dispute.v.wallet.script
    found, judgement = judged(dispute, claim)
    assert found.number == RIGHT
    assert judgement.verdict is Verdict.RIGHT
    payout = build_payout(
        dispute.graph, claim, payout=dispute.p.payout, script=dispute.p.wallet.script, fee=Sats(400)
    )  # fmt: skip
    while wallet.confirmations(claim.txid) < dispute.blocks:
        assert refused(wallet, payout) == "non-BIP68-final"
        wallet.mine()
    wallet.node.send(payout)
    wallet.mine()
    assert wallet.confirmations(payout.txid) == 1


@pytest.mark.parametrize("which", range(3))
def test_a_false_claim_loses_its_escrow_whichever_two_oracles_it_rests_on(wallet, which):
    dispute = ready(wallet)
    claim = dispute.claimed(0, dispute.attested([SPOT], which))
    with_child(wallet, claim, dispute.p.wallet)
    found, judgement = judged(dispute, claim)
    assert judgement.verdict is Verdict.CONVICTED
    assert {found.values[f"price0.{place}"] for place in range(4)} == {
        SPOT & 31,
        SPOT >> 5 & 31,
        SPOT >> 10 & 15,
        SPOT >> 14,
    }
    disproof = build_disproof(
        dispute.graph, claim, fault=judgement.secret, escrow=dispute.v.escrow, script=dispute.v.wallet.script,
        fee=Sats(600), entropy=secret("nonce") + secret("nonces"),
    )  # fmt: skip
    assert disproof.vsize <= 120
    wallet.node.send(disproof)
    wallet.mine()
    assert wallet.confirmations(disproof.txid) == 1
    payout = build_payout(
        dispute.graph, claim, payout=dispute.p.payout, script=dispute.p.wallet.script, fee=Sats(400)
    )  # fmt: skip
    for _ in range(dispute.blocks):
        wallet.mine()
    assert "missing" in refused(wallet, payout) or "spent" in refused(wallet, payout)


def test_no_price_is_claimed_that_nobody_attested(wallet):
    """Each digit of another price, with the labels that the claimant has and the attestations that there are."""
    dispute = ready(wallet)
    attested = dispute.attested([SPOT])
    other = 60_000
    for place, value in attested.values.items():
        low = dispute.claim.circuit.digits[place].low_bit
        wrong = other >> low & (1 << dispute.claim.circuit.digits[place].width) - 1
        if wrong != value:
            lied = type(attested)(which=0, values={**attested.values, place: wrong}, secrets=attested.secrets)
            assert "script-verify-flag-failed" in refused(wallet, dispute.claimed(1, lied))


def test_signatures_of_two_attempts_never_fit_together(wallet):
    """The verifier's keys are fresh in every attempt: range of the one with digits of the other is refused (H1)."""
    first, second = ready(wallet), ready(wallet, attempt=1)
    assert first.graph.open_txout != second.graph.open_txout
    for one, other in ((first, second), (second, first)):
        mine, theirs = one.claimed(0, one.attested([SPOT])), other.claimed(0, other.attested([SPOT]))
        stack, foreign = mine.inputs[0].witness, theirs.inputs[0].witness
        for place in range(len(stack) - 2):
            mixed = mine.with_witness(0, [*stack[:place], foreign[place], *stack[place + 1 :]])
            assert "script-verify-flag-failed" in refused(wallet, mixed)


def test_a_signature_of_one_digit_is_none_of_another(wallet):
    """Without the separators Core would take any digit's signature for any other's (U3)."""
    dispute = ready(wallet)
    claim = dispute.claimed(0, dispute.attested([SPOT]))
    stack = list(claim.inputs[0].witness)
    for place in range(len(stack) - 4):
        moved = [*stack]
        moved[place], moved[place + 1] = moved[place + 1], moved[place]
        assert "script-verify-flag-failed" in refused(wallet, claim.with_witness(0, moved))


def test_silence_is_claimed_with_the_attestations_and_answered_by_a_claim(wallet):
    dispute = ready(wallet)
    attested = dispute.attested([SPOT], 2)
    silence = build_silence(dispute.graph, dispute.of_silence, attested=attested, claim=dispute.v.claim)
    assert refused(wallet, silence) == "non-final"
    mined_to(wallet, dispute.silence_height)
    with_child(wallet, silence, dispute.v.wallet)
    # the claimant, who got no attestation, reads them off the chain
    told = read_silence(dispute.graph, dispute.of_silence, silence)
    assert told == attested
    claim = dispute.claimed(RIGHT, told, silent=True)
    with_child(wallet, claim, dispute.p.wallet)
    found, judgement = judged(dispute, claim)
    assert (found.number, judgement.verdict) == (RIGHT, Verdict.RIGHT)


def test_a_false_claim_after_a_silence_is_disproved_as_well(wallet):
    dispute = ready(wallet)
    silence = build_silence(
        dispute.graph, dispute.of_silence, attested=dispute.attested([SPOT]), claim=dispute.v.claim
    )  # fmt: skip
    mined_to(wallet, dispute.silence_height)
    with_child(wallet, silence, dispute.v.wallet)
    claim = dispute.claimed(3, dispute.attested([SPOT]), silent=True)
    with_child(wallet, claim, dispute.p.wallet)
    _, judgement = judged(dispute, claim)
    disproof = build_disproof(
        dispute.graph, claim, fault=judgement.secret, escrow=dispute.v.escrow, script=dispute.v.wallet.script,
        fee=Sats(600), entropy=secret("nonce") + secret("nonces"),
    )  # fmt: skip
    wallet.node.send(disproof)
    wallet.mine()
    assert wallet.confirmations(disproof.txid) == 1


def test_a_claimant_that_stays_silent_pays_all_after_its_blocks_and_not_before(wallet):
    dispute = ready(wallet)
    mined_to(wallet, dispute.silence_height)
    silence = build_silence(
        dispute.graph, dispute.of_silence, attested=dispute.attested([SPOT]), claim=dispute.v.claim
    )  # fmt: skip
    with_child(wallet, silence, dispute.v.wallet)
    end = build_silent_end(dispute.graph, dispute.of_silence, claim=dispute.v.claim)
    while wallet.confirmations(silence.txid) < dispute.blocks:
        assert refused(wallet, end) == "non-BIP68-final"
        wallet.mine()
    with_child(wallet, end, dispute.v.wallet)
    assert end.outputs[0].value == dispute.collateral
    assert end.outputs[0].script == dispute.v.wallet.script


def test_without_attestations_nobody_claims_anything_and_the_claimant_is_refunded_at_its_height(wallet):
    dispute = ready(wallet)
    refund = build_refund(dispute.graph, dispute.of_claims, claim=dispute.p.claim)
    while wallet.node.block_count() < dispute.refund_height - 1:
        assert refused(wallet, refund) == "non-final"
        for _ in range(5):
            if wallet.node.block_count() < dispute.refund_height - 1:
                wallet.mine()
    wallet.mine()
    with_child(wallet, refund, dispute.p.wallet)
    assert refund.outputs[0].value == dispute.collateral + dispute.bond - 640


def test_the_escrow_is_neither_the_claimant_s_with_the_fault_nor_the_verifier_s_without_it(wallet):
    dispute = ready(wallet)
    claim = dispute.claimed(RIGHT, dispute.attested([SPOT]))
    with_child(wallet, claim, dispute.p.wallet)
    fault = dispute.garbler._values[0][-1].to_bytes(32)
    assert secp256k1.public_key_compressed(fault) == dispute.graph.fault
    for one, other in ((fault, dispute.p.payout), (dispute.v.claim, dispute.v.escrow)):
        made = build_disproof(
            dispute.graph, claim, fault=fault, escrow=dispute.v.escrow, script=dispute.p.wallet.script, fee=Sats(600),
            entropy=secret("nonce") + secret("nonces"),
        )  # fmt: skip
        alone = secp256k1.schnorr_sign(secp256k1.even_secret(one), secret("message"))
        assert "script-verify-flag-failed" in refused(wallet, made.with_witness(0, [alone]))
        assert other != one


def test_a_claim_of_a_call_is_small(wallet):
    """Two oracles of three: claim and payout, without the children that pay for them."""
    dispute = ready(wallet)
    claim = dispute.claimed(RIGHT, dispute.attested([SPOT]))
    payout = build_payout(
        dispute.graph, claim, payout=dispute.p.payout, script=dispute.p.wallet.script, fee=Sats(400)
    )  # fmt: skip
    print("claim", claim.vsize, "payout", payout.vsize)
    assert claim.vsize <= 420
    assert Height(dispute.refund_height) > dispute.silence_height
