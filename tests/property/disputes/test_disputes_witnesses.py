"""Whatever Bitcoin Core takes for a claim the verifier can read: a liar chooses every byte of the witness.

Judge: Core's interpreter. The liar has all of the claimant's secrets, the attestations of one price, and every
signature that it can finish; it mixes them, re-signs by its own key, and changes the transaction around.
"""

import random
from dataclasses import replace

import numpy as np
import pytest

from btcfi import secp256k1
from btcfi.adapters.consensus import scripts_hold
from btcfi.bitcoin import taproot
from btcfi.bitcoin.transaction import OutPoint, TxIn, TxOut
from btcfi.disputes.circuit import negate
from btcfi.disputes.garbled import chains, graph, presign
from btcfi.disputes.garbled.presign import read_claim, read_reveal
from btcfi.disputes.garbled.setup import Verdict
from btcfi.errors import InvalidInputError
from btcfi.units import Height, Sats, Txid
from tests.support.disputing import Dispute, secret

SPOT = 67_890
CASES = 10_000
KINDS = [b"", b"\x01", b"\x02", b"\x03", b"\x81", b"\x82", b"\x83"]


def dispute_of(**options):
    dispute = Dispute(**options)
    dispute.signed(Txid(bytes(range(32))))
    return dispute


def claims_of(dispute):
    """Every claim of one price: labels it has of every value, attestations of one alone, so of any range."""
    attested = [dispute.attested([SPOT], which) for which in range(3)]
    return {(number, one.which): dispute.claimed(number, one) for number in range(17) for one in attested}


class Liar:
    """Everything that a claimant can put into the witness of a claim."""

    def __init__(self, dispute, claims, seed):
        self.dispute, self.random = dispute, random.Random(seed)
        (self.number, _), self.honest = self.random.choice(list(claims.items()))
        self.pool = [one[:64] for claim in claims.values() for one in claim.inputs[0].witness[:-2]]

    def case(self):
        """One claim: a witness mixed from what there is, over a transaction that is often another one."""
        dice, made = self.random, self.honest
        if dice.random() < 0.3:
            made = self.changed(made)
        stack = list(self.honest.inputs[0].witness)
        for _ in range(dice.choice([0, 0, 1, 1, 2, 5])):
            place = dice.randrange(len(stack) - 3)
            how = dice.random()
            if how < 0.4:
                stack[place] = dice.choice(self.pool) + dice.choice(KINDS)
            elif how < 0.6:
                stack[place] = stack[place][:64] + dice.choice(KINDS)
            elif how < 0.7:
                stack[place] = b""
            elif how < 0.8:
                stack[place], stack[-4] = stack[-4], stack[place]
            elif how < 0.9:
                del stack[place]
            else:
                stack.insert(place, dice.choice(self.pool))
        kind = dice.choice([0, 0, 0, 1, 2, 0x81])
        _, value = self.dispute.graph.parent(silent=False)
        spent = [value, *[TxOut(value=Sats(9_000), script=self.dispute.p.wallet.script)] * (len(made.inputs) - 1)]
        digest = taproot.sighash(made, 0, spent, hash_type=kind, leaf=taproot.leaf_hash(stack[-2]))
        stack[-3] = secp256k1.schnorr_sign(self.dispute.p.claim, digest) + (bytes([kind]) if kind else b"")
        made = made.with_witness(0, stack)
        for index in range(1, len(made.inputs)):
            made = made.with_witness(index, [self.dispute.p.wallet.sign_input(made, index, spent)])
        return made, spent

    def changed(self, made):
        dice, first = self.random, made.outputs[0]
        mine = TxOut(value=Sats(1_000), script=self.dispute.p.wallet.script)
        other = TxIn(outpoint=OutPoint(txid=Txid(secret("coin")), index=0))
        return dice.choice(
            [
                replace(made, outputs=(replace(first, value=Sats(first.value - 1)), *made.outputs[1:])),
                replace(made, outputs=made.outputs[:-1]),
                replace(made, outputs=(*made.outputs, mine)),
                replace(made, lock_time=Height(5)),
                replace(made, version=2),
                replace(made, inputs=(replace(made.inputs[0], sequence=dice.choice([0, 5, 0xFFFFFFFD])),)),
                replace(made, inputs=(*made.inputs, other)),
            ]
        )


def test_whatever_core_takes_is_read_and_every_lie_among_it_is_convicted():
    taken = lies = tried = 0
    for attempt in range(4):
        dispute = dispute_of(attempt=attempt)
        right, claims = dispute.right([SPOT]), claims_of(dispute)
        for seed in range(25):
            liar = Liar(dispute, claims, f"{attempt} {seed}")
            for _ in range(CASES // 100):
                made, spent = liar.case()
                tried += 1
                if not scripts_hold(made, spent):
                    continue
                taken += 1
                read = read_claim(dispute.graph, dispute.of_claims, made)
                judgement = dispute.kept.judge(*read.named(dispute.graph))
                assert read.number == liar.number
                assert made.txid == dispute.graph.claim(read.number).txid
                assert judgement.verdict is (Verdict.RIGHT if read.number == right else Verdict.CONVICTED)
                lies += read.number != right
    assert tried == CASES
    assert taken > CASES // 10
    assert lies > CASES // 20


def test_the_test_above_sees_a_missing_separator(monkeypatch):
    """Switched off: one digit's signature is another's, Core takes it, and nobody can read it (U3)."""
    honest = chains.script_of

    def without(sender, key, signatures):
        return replace(
            found := honest(sender, key, signatures), script=found.script.replace(b"\x7d\xad\xab", b"\x7d\xad")
        )

    monkeypatch.setattr(chains, "script_of", without)
    monkeypatch.setattr(graph, "script_of", without)
    monkeypatch.setattr(
        chains.Chain,
        "digest",
        lambda self, at: taproot.sighash(
            self.transaction, self.index, self.spent, hash_type=0x02, leaf=taproot.leaf_hash(self.leaf.script)
        ),
    )
    dispute = dispute_of()
    claim = dispute.claimed(0, dispute.attested([SPOT]))
    stack = list(claim.inputs[0].witness)
    stack[0], stack[1] = stack[1], stack[0]
    moved = claim.with_witness(0, stack)
    assert scripts_hold(moved, [dispute.graph.parent(silent=False)[1]])
    with pytest.raises(presign.UnreadableClaimError):
        read_claim(dispute.graph, dispute.of_claims, moved)


def test_the_test_above_sees_signatures_of_ranges_that_fix_no_outputs(monkeypatch):
    """Switched off: the range's signature of any outputs, and the claimant pays itself everything (U9)."""
    monkeypatch.setattr(
        chains.Chain,
        "leading_digest",
        lambda self, transaction: taproot.sighash(
            transaction, self.index, self.spent, hash_type=0x02, leaf=taproot.leaf_hash(self.leaf.script)
        ),
    )
    dispute = dispute_of()
    claim = dispute.claimed(0, dispute.attested([SPOT]))
    _, value = dispute.graph.parent(silent=False)
    stolen = replace(claim, outputs=(TxOut(value=Sats(value.value - 999), script=dispute.p.wallet.script),))
    stack = list(claim.inputs[0].witness)
    stack[-4] = stack[-4][:64] + b"\x02"
    leaf = taproot.leaf_hash(stack[-2])
    stack[-3] = secp256k1.schnorr_sign(dispute.p.claim, taproot.sighash(stolen, 0, [value], leaf=leaf))
    assert scripts_hold(stolen.with_witness(0, stack), [value])


def test_a_price_that_two_corrupt_oracles_gave_the_claimant_alone_is_read_off_the_chain():
    """They may attest any price; what they cannot do is make a claim that nobody can read (U10, H2)."""
    dispute = dispute_of()
    private = 100_000
    claim = dispute.claimed(0, dispute.attested([private]))
    read = read_claim(dispute.graph, dispute.of_claims, claim)
    judgement = dispute.kept.judge(*read.named(dispute.graph))
    assert judgement.verdict is Verdict.CONVICTED


def test_one_corrupt_oracle_of_three_gives_the_claimant_nothing_to_mix():
    """Another price of one oracle, beside the honest ones': no set has attested it, so no signature is finished."""
    dispute = dispute_of()
    honest, private = dispute.attestations([SPOT]), dispute.attestations([100_000], [0])
    mixed = [{**honest[0], 0: private[0][0]}]
    for which, oracles in enumerate(dispute.terms.sets):
        for outcome in (SPOT, 100_000):
            if 0 in oracles:
                with pytest.raises(InvalidInputError, match="outcomes"):
                    presign.attested_of(dispute.graph, [outcome], mixed, which)
    # and by hand: its scalar with an honest one's finishes a signature of neither value
    good, bad = dispute.attested([SPOT]), presign.attested_of(dispute.graph, [SPOT], honest, 0)
    place = dispute.graph.points.priced_places[0]
    wrong = secp256k1.scalar_add(bad.secrets[place], secret("off"))
    lied = replace(good, secrets={**good.secrets, place: wrong})
    claim = dispute.claimed(0, lied)
    assert not scripts_hold(claim, [dispute.graph.parent(silent=False)[1]])


@pytest.mark.parametrize("what", ["claim", "reveal"])
def test_a_reader_has_an_answer_for_any_transaction(what):
    dispute = dispute_of() if what == "claim" else dispute_of(claim_height=10)
    read = read_claim if what == "claim" else read_reveal
    dice, claim = random.Random(7), dispute.claimed(3, dispute.attested([SPOT]))
    for _ in range(2_000):
        stack = [
            dice.randbytes(dice.choice([0, 1, 33, 63, 64, 65, 100])) for _ in range(dice.choice([0, 1, 3, 4, 13, 14]))
        ]
        if len(stack) > 2 and dice.random() < 0.7:
            stack[-2] = claim.inputs[0].witness[-2]
        for made in (claim.with_witness(0, stack), replace(claim, inputs=())):
            with pytest.raises(InvalidInputError):
                read(dispute.graph, dispute.of_claims, made)


def test_a_flipped_gate_is_another_contract():
    dispute = dispute_of()
    circuit = dispute.claim.circuit
    other = replace(dispute.claim, circuit=replace(circuit, wrong=negate(circuit.wrong)))
    assert Dispute(claim=other).terms.id != dispute.terms.id
    assert np.array(dispute.right([SPOT])) == 8
