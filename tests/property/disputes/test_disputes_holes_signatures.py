"""What each side tried with its signatures, and what came of it: nothing is funded, nothing is mined.

Source: the review of garbled disputes, section 3 (what failed), and the findings, section 4.
"""

import random
from dataclasses import replace

import pytest

from btcfi import secp256k1
from btcfi.adapters.consensus import scripts_hold
from btcfi.bitcoin import taproot
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE, AdaptorKey, WrongAdaptorError
from btcfi.bitcoin.transaction import OutPoint, TxIn, TxOut
from btcfi.disputes.garbled import presign
from btcfi.disputes.garbled.chains import one_of
from btcfi.disputes.garbled.graph import last_of
from btcfi.disputes.garbled.presign import build_silence, check_claims, check_silence
from btcfi.secp256k1 import ORDER
from btcfi.units import Height, Sats, Txid
from tests.support.disputing import Dispute, secret

OPENING, OTHER_OPENING = Txid(bytes(range(32))), Txid(bytes(range(1, 33)))
SPOT, RIGHT = 67_890, 8


def made(opening=OPENING, **options):
    dispute = Dispute(**{"oracles": 1, "threshold": 1} | options)
    dispute.signed(opening)
    return dispute


@pytest.fixture(scope="module")
def dispute():
    return made()


@pytest.fixture(scope="module")
def others():
    """Of another attempt, another coin, another fee: what a verifier might pre-sign in place of what is asked."""
    return {"attempt": made(attempt=1), "coin": made(OTHER_OPENING), "fee": made(fee=401)}


def scalar(one, change):
    return one[:33] + (change(int.from_bytes(one[33:])) % 2**256).to_bytes(32)


def plain(dispute, at):
    """A signature of the right message under no point."""
    chain = dispute.graph.claim_chain(0, silent=False)
    return b"\2" + secp256k1.schnorr_sign(dispute.v.digits[0], chain.digest(0)) if at is not None else b""


BAD = {
    "s is nought": lambda one, d, o, at: scalar(one, lambda s: 0),
    "s is the order": lambda one, d, o, at: scalar(one, lambda s: ORDER),
    "s beyond the order": lambda one, d, o, at: scalar(one, lambda s: s + ORDER),
    "s negative": lambda one, d, o, at: scalar(one, lambda s: -s % ORDER),
    "s one more": lambda one, d, o, at: scalar(one, lambda s: s + 1),
    "s all ones": lambda one, d, o, at: scalar(one, lambda s: -1),
    "the nonce's other parity": lambda one, d, o, at: bytes([one[0] ^ 1]) + one[1:],
    "a hybrid nonce": lambda one, d, o, at: b"\6" + one[1:],
    "a nonce off the curve": lambda one, d, o, at: one[:1] + b"\0" * 31 + b"\5" + one[33:],
    "a nonce of nought": lambda one, d, o, at: bytes(33) + one[33:],
    "64 bytes": lambda one, d, o, at: one[:-1],
    "66 bytes": lambda one, d, o, at: one + b"\0",
    "another value's": lambda one, d, o, at: one_of(d.of_claims.entries[0], at ^ 1),
    "another digit's": lambda one, d, o, at: one_of(d.of_claims.entries[0], (at + 64) % 192),
    "a range's": lambda one, d, o, at: one_of(d.of_claims.ranges[0], at % 17),
    "the other parent's": lambda one, d, o, at: one_of(d.of_claims.entries[1], at),
    "another attempt's": lambda one, d, o, at: one_of(o["attempt"].of_claims.entries[0], at),
    "another coin's": lambda one, d, o, at: one_of(o["coin"].of_claims.entries[0], at),
    "another fee's": lambda one, d, o, at: one_of(o["fee"].of_claims.ranges[0], at % 17),
    "a plain signature": lambda one, d, o, at: plain(d, at),
    "random": lambda one, d, o, at: b"\2" + random.Random(at).randbytes(64),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_verifier_that_signs_anything_else_is_seen_by_the_claimant(dispute, others, kind):
    good = dispute.of_claims.entries[0]
    count = len(good) // ADAPTOR_SIZE
    for at in random.Random(kind).sample(range(count), 2):
        bad = BAD[kind](one_of(good, at), dispute, others, at)
        assert bad != one_of(good, at)
        entries = good[: ADAPTOR_SIZE * at] + bad + good[ADAPTOR_SIZE * (at + 1) :]
        with pytest.raises(WrongAdaptorError, match="the verifier"):
            check_claims(dispute.graph, replace(dispute.of_claims, entries=(entries, *dispute.of_claims.entries[1:])))


@pytest.mark.parametrize(
    "kind", [one for one in BAD if "parent" not in one and "fee" not in one and "range" not in one]
)
def test_a_claimant_that_signs_anything_else_is_seen_by_the_verifier(dispute, others, kind):
    good = dispute.of_silence.entries[0]
    at = random.Random(kind).randrange(len(good) // ADAPTOR_SIZE)
    bad = BAD[kind](one_of(good, at), dispute, others, at)
    entries = good[: ADAPTOR_SIZE * at] + bad + good[ADAPTOR_SIZE * (at + 1) :]
    with pytest.raises(WrongAdaptorError, match="the claimant"):
        check_silence(dispute.graph, replace(dispute.of_silence, entries=(entries,)))


@pytest.mark.parametrize("field", ["ranges", "entries", "refund"])
def test_no_part_of_what_a_verifier_signs_may_be_missing_doubled_or_anothers(dispute, others, field):
    said = dispute.of_claims
    value = getattr(said, field)
    foreign = getattr(others["coin"].of_claims, field)
    wrong = [foreign, foreign[:1] + value[1:], value[:-1], value * 2, type(value)()]
    wrong += [(value[1], value[0]), (value[0][:-ADAPTOR_SIZE], *value[1:])] if isinstance(value, tuple) else []
    for one in wrong:
        with pytest.raises(WrongAdaptorError):
            check_claims(dispute.graph, replace(said, **{field: one}))


@pytest.mark.parametrize("field", ["digits", "releases", "reveals", "shown"])
def test_nor_of_what_it_signs_for_a_lazy_contract(field):
    lazy, foreign = made(claim_height=10), made(OTHER_OPENING, claim_height=10)
    value = getattr(lazy.of_claims, field)
    theirs = getattr(foreign.of_claims, field)
    for one in (value[:-1], (*value, value[0]), (), (*theirs[:1], *value[1:])):
        if one != value:  # the digits' signatures are of the bond alone, so of another coin they are others
            with pytest.raises(WrongAdaptorError):
                check_claims(lazy.graph, replace(lazy.of_claims, **{field: one}))
    if field != "digits":
        with pytest.raises(WrongAdaptorError):
            check_claims(lazy.graph, replace(lazy.of_claims, **{field: (value[1], value[0], *value[2:])}))


# ---- what is sent


def test_a_claim_in_the_pool_is_changed_by_nobody(dispute):
    """A verifier with all of its keys, and a stranger with a coin: outputs, inputs, locks, and a range of its own."""
    claim = dispute.claimed(RIGHT, dispute.attested([SPOT]))
    spent = [dispute.graph.parent(silent=False)[1]]
    mine = TxOut(value=Sats(9_000), script=dispute.v.wallet.script)
    coin = TxIn(outpoint=OutPoint(txid=Txid(secret("coin")), index=0))
    assert scripts_hold(claim, spent)
    stack = claim.inputs[0].witness
    for other in (
        replace(claim, outputs=(replace(claim.outputs[0], value=Sats(claim.outputs[0].value + 1)), *claim.outputs[1:])),
        replace(claim, outputs=(*claim.outputs, mine)), replace(claim, outputs=claim.outputs[:1]),
        replace(claim, lock_time=Height(1)), replace(claim, version=2),
        dispute.graph.claim(RIGHT + 1).with_witness(0, stack),
        dispute.graph.claim(RIGHT, silent=True).with_witness(0, stack),
    ):  # fmt: skip
        assert not scripts_hold(other, spent)
    beside = replace(claim, inputs=(*claim.inputs, coin))
    both = [*spent, mine]
    signed = beside.with_witness(1, [dispute.v.wallet.sign_input(beside, 1, both)])
    assert not scripts_hold(signed, both)


def test_a_verifier_claims_nothing_by_itself(dispute):
    """It finishes a range with no label: with its own keys, with the attestations, with both added up."""
    attested = dispute.attested([SPOT])
    claim, chain = dispute.graph.claim(16), dispute.graph.claim_chain(0, silent=False)
    spent = [dispute.graph.parent(silent=False)[1]]
    key = dispute.v.digits[0]
    signatures = [secp256k1.schnorr_sign(key, chain.leading_digest(claim)) + b"\x01"]
    signatures += [secp256k1.schnorr_sign(key, chain.digest(at)) + chain.hash_type for at in range(len(chain.entries))]
    honest = dispute.claimed(16, attested).inputs[0].witness
    for own in (dispute.v.claim, dispute.v.open, dispute.v.both, *dispute.v.digits, *attested.secrets.values()):
        signed = secp256k1.schnorr_sign(secp256k1.even_secret(own), chain.own_digest(claim))
        stack = [*reversed(signatures), signed, *honest[-2:]]
        assert not scripts_hold(claim.with_witness(0, stack), spent)


def test_a_claimant_alone_moves_nothing_but_its_payout(dispute):
    """Its keys and the fault secret: neither the opening, nor the escrow before its blocks, nor the silence's end."""
    fault = dispute.garbler._values[0][-1].to_bytes(32)
    claim = dispute.claimed(0, dispute.attested([SPOT]))
    mine = TxOut(value=Sats(1_000_000), script=dispute.p.wallet.script)
    held = {
        dispute.graph.coin: (dispute.graph.open_txouts[0], dispute.graph.open_output),
        last_of(claim)[0]: (last_of(claim)[1], dispute.graph.escrow),
        dispute.graph.parent(silent=True)[0]: (dispute.graph.parent(silent=True)[1], dispute.graph.silent_output),
    }
    for coin, (value, output) in held.items():
        sweep = replace(claim, inputs=(TxIn(outpoint=coin),), outputs=(mine,))
        digest = taproot.sighash(sweep, 0, [value])
        for key in (dispute.p.open, dispute.p.claim, dispute.p.both, dispute.p.payout, *dispute.p.digits, fault):
            for secret_key in (key, taproot.tweak_secret(key, output.root)):
                signed = sweep.with_witness(0, [secp256k1.schnorr_sign(secret_key, digest)])
                assert not scripts_hold(signed, [value])
    early = presign.build_payout(
        dispute.graph, claim, payout=dispute.p.payout, script=dispute.p.wallet.script, fee=Sats(400)
    )
    leaf = early.inputs[0].witness[1]
    for sequence in (0, dispute.blocks - 1, 1 << 22 | 1, 0xFFFFFFFE):  # too few, in seconds, not at all
        hurried = replace(early, inputs=(replace(early.inputs[0], sequence=sequence),))
        digest = taproot.sighash(hurried, 0, [last_of(claim)[1]], leaf=taproot.leaf_hash(leaf))
        stack = [secp256k1.schnorr_sign(dispute.p.payout, digest), *early.inputs[0].witness[1:]]
        assert not scripts_hold(hurried.with_witness(0, stack), [last_of(claim)[1]])


def test_a_verifier_mixes_no_silence_that_the_claimant_cannot_read(dispute):
    """Whatever Core takes of it the claimant reads: signatures of two digits, of two values, of its own key."""
    attested = dispute.attested([SPOT])
    silence = build_silence(dispute.graph, dispute.of_silence, attested=attested, claim=dispute.v.claim)
    spent, dice = [dispute.graph.parent(silent=False)[1]], random.Random(20)
    chain = dispute.graph.silence_chain(0)
    stack = silence.inputs[0].witness
    foreign = AdaptorKey(dispute.v.digits[0])
    pool = [*stack[:-3], *(foreign.presign(chain.digest(0), dispute.graph.points.label(0, at))[1:] for at in range(3))]
    taken = 0
    for _ in range(300):
        mixed = list(stack)
        for _ in range(dice.choice([0, 1, 2])):
            at = dice.randrange(len(mixed) - 3)
            mixed[at] = dice.choice([dice.choice(pool)[:64] + dice.choice([b"", b"\x01", b"\x02", b"\x82"]), stack[at]])
        made_of = silence.with_witness(0, mixed)
        if scripts_hold(made_of, spent):
            taken += 1
            assert presign.read_silence(dispute.graph, dispute.of_silence, made_of) == attested
    assert taken > 50
