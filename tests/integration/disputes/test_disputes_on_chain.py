"""A disputed contract on a node, ours and a real one: paid, disproved, refunded, silent; what neither side can do."""

import pytest

from btcfi import secp256k1
from btcfi.bitcoin import taproot
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.disputes.claims import knock_out_claim, mean_claim
from btcfi.disputes.garbled.presign import (
    build_bond_home,
    build_challenge,
    build_disproof,
    build_overdue,
    build_payout,
    build_refund,
    build_release,
    build_reveal,
    build_silence,
    build_silent_end,
    read_claim,
    read_reveal,
    read_silence,
)
from btcfi.disputes.garbled.setup import Verdict
from btcfi.units import Height, Sats
from tests.support.disputing import RANGES, Dispute, secret, with_child

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
    return found, dispute.kept.judge(*found.named(dispute.graph))


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
    said = [found.values[place] for place in range(4)]
    assert said == [SPOT & 31, SPOT >> 5 & 31, SPOT >> 10 & 15, SPOT >> 14]
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


@pytest.mark.parametrize("depth", range(1, 7))
def test_a_reorganisation_of_claim_and_disproof_leaves_the_payout_refused(wallet, depth):
    """The last block undone is that of neither, of the disproof, of both, for each depth up to six."""
    dispute = ready(wallet)
    claim = dispute.claimed(0, dispute.attested([SPOT]))
    with_child(wallet, claim, dispute.p.wallet)
    _, judgement = judged(dispute, claim)
    disproof = build_disproof(
        dispute.graph, claim, fault=judgement.secret, escrow=dispute.v.escrow, script=dispute.v.wallet.script,
        fee=Sats(600), entropy=secret("nonce") + secret("nonces"),
    )  # fmt: skip
    wallet.node.send(disproof)
    wallet.mine(5)
    wallet.node.invalidate(wallet.node.block_hash(wallet.node.block_count() + 1 - depth))
    # to another address: the same block again, in the same second, would be the invalid one
    wallet.node.generate(dispute.blocks + depth, encode_address(dispute.v.wallet.script))
    assert wallet.confirmations(disproof.txid) >= dispute.blocks
    payout = build_payout(
        dispute.graph, claim, payout=dispute.p.payout, script=dispute.p.wallet.script, fee=Sats(400)
    )  # fmt: skip
    found = refused(wallet, payout)
    assert "missing" in found or "spent" in found


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
    assert first.graph.open_txouts != second.graph.open_txouts
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
    end = build_silent_end(dispute.graph, dispute.of_silence, both=dispute.v.both)
    while wallet.confirmations(silence.txid) < dispute.blocks:
        assert refused(wallet, end) == "non-BIP68-final"
        wallet.mine()
    with_child(wallet, end, dispute.v.wallet)
    assert end.outputs[0].value == dispute.collateral
    assert end.outputs[0].script == dispute.v.wallet.script


def test_without_attestations_nobody_claims_anything_and_the_claimant_is_refunded_at_its_height(wallet):
    dispute = ready(wallet)
    refund = build_refund(dispute.graph, dispute.of_claims, both=dispute.p.both)
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
    assert secp256k1.public_key_compressed(fault) == dispute.graph.points.fault
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


# ---- lazy: the digits only when challenged


def lazy(wallet, **options):
    here = wallet.node.block_count()
    dispute = Dispute(claim_height=here + 2, silence=here + 8, refund=here + 40, **options)
    dispute.opened(wallet)
    return dispute


def challenged(wallet, dispute, number, outcomes):
    """A claim and its challenge, mined."""
    claim = dispute.claimed(number, dispute.attested(outcomes))
    if wallet.node.block_count() < dispute.claim_height:
        assert refused(wallet, claim) == "non-final"
    mined_to(wallet, dispute.claim_height)
    with_child(wallet, claim, dispute.p.wallet)
    read = read_claim(dispute.graph, dispute.of_claims, claim)
    challenge = build_challenge(
        dispute.graph, dispute.of_silence, (read.number, read.silent), both=dispute.v.both
    )  # fmt: skip
    with_child(wallet, challenge, dispute.v.wallet)
    return read, challenge


def revealed(wallet, dispute, read, outcomes):
    reveal = build_reveal(
        dispute.graph, dispute.of_claims, dispute.garbler, (read.number, read.silent),
        attested=dispute.attested(outcomes), claim=dispute.p.claim, both=dispute.p.both,
    )  # fmt: skip
    with_child(wallet, reveal, dispute.p.wallet)
    whole = read.joined(read_reveal(dispute.graph, dispute.of_claims, reveal))
    return reveal, dispute.kept.judge(*whole.named(dispute.graph))


MINUTES = [67_000 + 37 * minute for minute in range(30)]


def test_a_lazy_claim_of_a_mean_of_thirty_minutes_shows_its_range_alone_and_is_released(wallet):
    dispute = lazy(wallet, claim=mean_claim(RANGES, 30))
    right = dispute.right(MINUTES)
    made = dispute.claimed(right, dispute.attested(MINUTES))
    mined_to(wallet, dispute.claim_height)
    with_child(wallet, made, dispute.p.wallet)
    release = build_release(dispute.graph, dispute.of_claims, (right, False), both=dispute.p.both)
    while wallet.confirmations(made.txid) < dispute.blocks:
        assert refused(wallet, release) == "non-BIP68-final"
        wallet.mine()
    with_child(wallet, release, dispute.p.wallet)
    assert release.outputs[0].value == dispute.locked - made.outputs[0].value - 2 * 640
    opening = 10.5 + 2 * 57.5 + 2 * 43
    print("lazy", made.vsize, release.vsize, opening + made.vsize + release.vsize)
    assert opening + made.vsize + release.vsize <= 600


def test_a_false_lazy_claim_over_thirty_minutes_is_challenged_revealed_and_disproved(wallet):
    dispute = lazy(wallet, claim=knock_out_claim(RANGES, 30, barrier=68_000, up=True, rebate=Sats(0)))
    read, _ = challenged(wallet, dispute, (dispute.right(MINUTES) + 1) % 17, MINUTES)
    reveal, judgement = revealed(wallet, dispute, read, MINUTES)
    assert judgement.verdict is Verdict.CONVICTED
    disproof = build_disproof(
        dispute.graph, reveal, fault=judgement.secret, escrow=dispute.v.escrow, script=dispute.v.wallet.script,
        fee=Sats(600), entropy=secret("nonce") + secret("nonces"),
    )  # fmt: skip
    wallet.node.send(disproof)
    wallet.mine()
    assert wallet.confirmations(disproof.txid) == 1


def test_a_needless_challenge_costs_its_bond(wallet):
    dispute = lazy(wallet)
    read, _ = challenged(wallet, dispute, RIGHT, [SPOT])
    reveal, judgement = revealed(wallet, dispute, read, [SPOT])
    assert judgement.verdict is Verdict.RIGHT
    payout = build_payout(
        dispute.graph, reveal, payout=dispute.p.payout, script=dispute.p.wallet.script, fee=Sats(400)
    )  # fmt: skip
    while wallet.confirmations(reveal.txid) < dispute.blocks:
        assert refused(wallet, payout) == "non-BIP68-final"
        wallet.mine()
    wallet.node.send(payout)
    wallet.mine()
    kept = dispute.locked + dispute.challenge_bond - 1_000_000 * RIGHT
    assert payout.outputs[0].value == kept - 3 * 640 - 400


def test_a_challenge_that_is_not_answered_takes_all(wallet):
    dispute = lazy(wallet)
    _, challenge = challenged(wallet, dispute, 0, [SPOT])
    overdue = build_overdue(
        dispute.graph, challenge, overdue=dispute.v.overdue, script=dispute.v.wallet.script, fee=Sats(400)
    )  # fmt: skip
    while wallet.confirmations(challenge.txid) < dispute.blocks:
        assert refused(wallet, overdue) == "non-BIP68-final"
        wallet.mine()
    wallet.node.send(overdue)
    wallet.mine()
    assert overdue.outputs[0].value == dispute.locked - 2 * 640 - 400


def test_a_lazy_claimant_that_stays_silent_pays_all_and_the_bond_of_the_verifier_comes_back(wallet):
    """Also where digits are shown only when challenged: the claim of silence shows them (H4)."""
    dispute = lazy(wallet)
    mined_to(wallet, dispute.silence_height)
    silence = build_silence(
        dispute.graph, dispute.of_silence, attested=dispute.attested([SPOT]), claim=dispute.v.claim
    )  # fmt: skip
    with_child(wallet, silence, dispute.v.wallet)
    end = build_silent_end(dispute.graph, dispute.of_silence, both=dispute.v.both)
    for _ in range(dispute.blocks - 1):
        wallet.mine()
    with_child(wallet, end, dispute.v.wallet)
    assert end.outputs[0].value == dispute.collateral
    home = build_bond_home(dispute.graph, bond=dispute.v.bond, script=dispute.v.wallet.script, fee=Sats(300))
    assert refused(wallet, home) == "non-final"
    mined_to(wallet, dispute.refund_height + 5 * dispute.blocks)
    wallet.node.send(home)
    wallet.mine()
    assert home.outputs[0].value == dispute.challenge_bond - 300


def test_the_verifier_s_bond_is_taken_by_the_answer_to_a_challenge_alone(wallet):
    """The digits' signatures fix no outputs: without the one that does the claimant would take the bond any time."""
    dispute = lazy(wallet)
    reveal = build_reveal(
        dispute.graph, dispute.of_claims, dispute.garbler, (RIGHT, False), attested=dispute.attested([SPOT]),
        claim=dispute.p.claim, both=dispute.p.both,
    )  # fmt: skip
    bond = dispute.graph.open_txouts[1]
    home = Transaction(
        version=3, inputs=(TxIn(outpoint=dispute.graph.bond),),
        outputs=(TxOut(value=Sats(bond.value - 2_000), script=dispute.p.wallet.script),),
    )  # fmt: skip
    stack = reveal.inputs[1].witness
    leaf = taproot.leaf_hash(stack[-2])
    own = secp256k1.schnorr_sign(dispute.p.claim, taproot.sighash(home, 0, [bond], leaf=leaf))
    stolen = home.with_witness(0, [*stack[:-3], own, *stack[-2:]])
    assert "script-verify-flag-failed" in refused(wallet, stolen)
