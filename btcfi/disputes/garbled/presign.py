"""What both sides sign before the opening, how it is checked, and what is finished with it afterwards.

    verifier   ``presign_claims``: of every range, and of every digit's every value, for each set of oracles and each
               of the two parents; and the refund
    claimant   ``check_claims``: every one
    claimant   ``presign_silence``: of every priced digit's every value; and the silence's end
    verifier   ``check_silence``: every one
    claimant   ``build_claim``, and ``read_silence`` where the verifier claimed that
    verifier   ``read_claim``, then ``setup.Kept.judge``; ``build_silence``

A pre-signature is 65 bytes, in the order of the functions here; both sides know how many there are. The nonce of each
hangs on the key, the message and the point (``bitcoin.adaptor``), so nothing is signed twice with one. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

from btcfi import secp256k1
from btcfi.bitcoin import adaptor, taproot
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE, AdaptorKey, WrongAdaptorError
from btcfi.bitcoin.musig import KeyAggregate, SecretNonce, Session
from btcfi.bitcoin.taproot import SIGHASH_ALL, SIGHASH_NONE, Leaf
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, TRUC_VERSION, Transaction, TxIn, TxOut
from btcfi.disputes.garbled.graph import Entry, Graph, bits_of
from btcfi.disputes.garbled.setup import Garbler
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.oracle.attestation import Attestation, check_attestation
from btcfi.units import Hash32, Sats

SIGNATURE_SIZE: Final = 64

Attestations = Sequence[Mapping[int, Attestation]]
"""For each event, by the oracle's place."""


class UnreadableClaimError(BtcfiError):
    """A claim on the chain that its pre-signatures do not tell: a set of oracles has attested two outcomes."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the claim cannot be read: {what}; keep its transaction, it shows what the oracles did")
        self.what = what


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimPresignatures:
    """What the verifier signs before the opening."""

    claims: bytes
    refund: bytes
    """64 bytes, plain: the refund waits for its height alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilencePresignatures:
    """What the claimant signs before the opening."""

    first: tuple[bytes, ...]
    """64 bytes, plain, one a set of oracles: it fixes the outputs of a claim of silence."""
    digits: bytes
    end: bytes
    """64 bytes, plain: the silence's end waits for its blocks alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """One pre-signature: of what, under which point."""

    what: str
    digest: Hash32
    point: Any


# ---- which pre-signatures there are, and where


def _claim_slots(graph: Graph, which: int, *, silent: bool) -> Iterator[_Slot]:
    """Yield those of one set of oracles and one parent: the ranges, then each entry's values."""
    for number in range(len(graph.terms.claim.payouts)):
        digest = graph.claim_digest(number, which, silent=silent)
        yield _Slot(what=f"range {number}", digest=digest, point=graph.range_point(number))
    for at, entry in enumerate(graph.claim_entries, start=1):
        yield from _entry_slots(graph, entry, which, graph.entry_digest(at, which, silent=silent))


def _silence_slots(graph: Graph, which: int) -> Iterator[_Slot]:
    for at, entry in enumerate(graph.silence_entries, start=1):
        yield from _entry_slots(graph, entry, which, graph.silence_digest(at, which))


def _entry_slots(graph: Graph, entry: Entry, which: int, digest: Hash32) -> Iterator[_Slot]:
    digit = graph.terms.claim.circuit.digits[entry.place]
    for value in range(digit.values):
        what = f"digit {digit.name} = {value}"
        yield _Slot(what=what, digest=digest, point=graph.entry_point(entry, value, which))


def _sizes(graph: Graph, entries: Sequence[Entry]) -> list[int]:
    return [graph.terms.claim.circuit.digits[entry.place].values for entry in entries]


def _of(data: bytes, at: int) -> bytes:
    return data[ADAPTOR_SIZE * at : ADAPTOR_SIZE * (at + 1)]


def _parents(graph: Graph) -> Iterator[tuple[bool, int]]:
    """Yield whether it is a claim of silence's output, and which set: the order of the verifier's pre-signatures."""
    return product((False, True), range(len(graph.terms.sets)))


def _block(graph: Graph) -> int:
    """Return how many pre-signatures a parent and a set have."""
    return len(graph.terms.claim.payouts) + sum(_sizes(graph, graph.claim_entries))


# ---- before the opening


def presign_claims(graph: Graph, *, digits: Sequence[bytes], claim: bytes) -> ClaimPresignatures:
    """Return the verifier's part. digits, claim: its secrets, 32 bytes each. Raises InvalidInputError for others'."""
    keys = [AdaptorKey(secret) for secret in digits]
    _check_own([key.public for key in keys], graph.terms.verifier.digits)
    _check_own([secp256k1.public_key_xonly(claim)], [graph.terms.verifier.claim])
    return ClaimPresignatures(
        claims=b"".join(
            keys[which].presign(slot.digest, slot.point)
            for silent, which in _parents(graph)
            for slot in _claim_slots(graph, which, silent=silent)
        ),
        refund=secp256k1.schnorr_sign(claim, graph.refund_digest()),
    )


def check_claims(graph: Graph, theirs: ClaimPresignatures) -> None:
    """Check all that the verifier signed, every one. Raises WrongAdaptorError naming the first that is bad."""
    if not secp256k1.schnorr_verify(graph.terms.verifier.claim, graph.refund_digest(), theirs.refund):
        raise WrongAdaptorError("the verifier, the refund")
    _check_count("the verifier", theirs.claims, _block(graph) * 2 * len(graph.terms.sets))
    at = 0
    for silent, which in _parents(graph):
        key = graph.terms.verifier.digits[which]
        for slot in _claim_slots(graph, which, silent=silent):
            _check(f"the verifier, {slot.what}", key, slot, _of(theirs.claims, at))
            at += 1


def presign_silence(graph: Graph, *, silence: Sequence[bytes], claim: bytes) -> SilencePresignatures:
    """Return the claimant's part. silence, claim: its secrets, 32 bytes each. Raises InvalidInputError for others'."""
    keys = [AdaptorKey(secret) for secret in silence]
    _check_own([key.public for key in keys], graph.terms.claimant.silence)
    _check_own([secp256k1.public_key_xonly(claim)], [graph.terms.claimant.claim])
    return SilencePresignatures(
        first=tuple(
            secp256k1.schnorr_sign(secret, graph.silence_digest(0, which)) for which, secret in enumerate(silence)
        ),
        digits=b"".join(
            key.presign(slot.digest, slot.point)
            for which, key in enumerate(keys)
            for slot in _silence_slots(graph, which)
        ),
        end=secp256k1.schnorr_sign(claim, graph.silent_end_digest()),
    )


def check_silence(graph: Graph, theirs: SilencePresignatures) -> None:
    """Check all that the claimant signed, every one. Raises WrongAdaptorError naming the first that is bad."""
    keys = graph.terms.claimant.silence
    if not secp256k1.schnorr_verify(graph.terms.claimant.claim, graph.silent_end_digest(), theirs.end):
        raise WrongAdaptorError("the claimant, the end of a silence")
    if len(theirs.first) != len(keys):
        raise WrongAdaptorError("the claimant, silence")
    _check_count("the claimant", theirs.digits, sum(_sizes(graph, graph.silence_entries)) * len(keys))
    at = 0
    for which, key in enumerate(keys):
        if not secp256k1.schnorr_verify(key, graph.silence_digest(0, which), theirs.first[which]):
            raise WrongAdaptorError(f"the claimant, silence of set {which}")
        for slot in _silence_slots(graph, which):
            _check(f"the claimant, {slot.what}", key, slot, _of(theirs.digits, at))
            at += 1


def _check(what: str, key: bytes, slot: _Slot, presignature: bytes) -> None:
    if not adaptor.presignature_is_valid(key, slot.digest, slot.point, presignature):
        raise WrongAdaptorError(what)


def _check_count(who: str, data: bytes, count: int) -> None:
    if len(data) != ADAPTOR_SIZE * count:
        raise WrongAdaptorError(f"{who}: {len(data) / ADAPTOR_SIZE:g} signatures instead of {count}, as a set")


def _check_own(have: Sequence[bytes], want: Sequence[bytes]) -> None:
    if list(have) != list(want):
        raise InvalidInputError("secret key", "is not that of the terms", "the secrets of one's own keys")


# ---- what the oracles said


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """The outcomes as one set of oracles has attested them, digit by digit."""

    which: int
    """The set."""
    values: Mapping[int, int]
    """Of each priced digit, by its place."""
    secrets: Mapping[int, bytes] = field(repr=False)
    """By the digit's place: the sum over its bits and the oracles."""


def attested_of(graph: Graph, outcomes: Sequence[int], attestations: Attestations, which: int) -> Attested:
    """Return what a set of oracles has attested, every signature checked.

    outcomes: of each event. Raises InvalidInputError where one has not attested that, and WrongAttestationError.
    """
    terms = graph.terms
    if not len(outcomes) == len(attestations) == len(terms.events):
        raise InvalidInputError("outcomes", str(len(outcomes)), f"{len(terms.events)}, one an event")
    for outcome, event, found in zip(outcomes, terms.events, attestations, strict=True):
        for oracle in terms.sets[which]:
            if oracle not in found:
                raise InvalidInputError("attestations", f"none of oracle {oracle}", "one of each in the set")
            check_attestation(found[oracle], event[oracle])
            if found[oracle].outcome != outcome:
                raise InvalidInputError("outcomes", str(outcome), f"oracle {oracle}'s {found[oracle].outcome}")
    values, secrets = {}, {}
    for place in graph.priced_places:
        digit = terms.claim.circuit.digits[place]
        minute = digit.event or 0
        signed = terms.events[minute][0].event.signed_digits
        values[place] = outcomes[minute] >> digit.low_bit & (1 << digit.width) - 1
        secrets[place] = _sum(
            [
                attestations[minute][oracle].signatures[at][32:]
                for oracle in terms.sets[which]
                for at, _ in bits_of(digit, values[place], signed)
            ]
        )
    return Attested(which=which, values=values, secrets=secrets)


# ---- a claim


def build_claim(
    graph: Graph, theirs: ClaimPresignatures, garbler: Garbler, *, number: int, attested: Attested, claim: bytes,
    silent: bool = False,
) -> Transaction:  # fmt: skip
    """Return the signed claim of a range. claim: the claimant's secret. silent: of the claim of silence's output.

    A claim that is wrong is built, too: whether it is right the caller has checked. Raises InvalidInputError.
    """
    transaction, which = graph.claim(number, silent=silent), attested.which
    values = {**_range_values(graph, number), **attested.values}
    start = _block(graph) * (which + len(graph.terms.sets) * silent)
    secret = _sum([garbler.label(place, values[place]) for place in graph.range_places])
    signatures = [adaptor.adapt(_of(theirs.claims, start + number), secret) + bytes([SIGHASH_ALL])]
    at = start + len(graph.terms.claim.payouts)
    for entry, size in zip(graph.claim_entries, _sizes(graph, graph.claim_entries), strict=True):
        value = values[entry.place]
        parts = [garbler.label(entry.place, value)] if entry.labelled else []
        parts += [attested.secrets[entry.place]] if entry.attested else []
        signatures.append(adaptor.adapt(_of(theirs.claims, at + value), _sum(parts)) + bytes([SIGHASH_NONE]))
        at += size
    leaf = graph.claim_leaf(which)
    own = secp256k1.schnorr_sign(claim, graph.own_digest(transaction, leaf, silent=silent))
    output = graph.silent_output if silent else graph.open_output
    return _with_chain(transaction, signatures, own, leaf, output.control_block(leaf))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadClaim:
    """What a claim on the chain says, and the secrets that it told."""

    number: int
    values: Mapping[str, int]
    """Of each digit, by name: those that the oracles attested."""
    secrets: tuple[bytes, ...]
    """Of each digit in order: its label's."""


def read_claim(graph: Graph, ours: ClaimPresignatures, claim: Transaction) -> ReadClaim:
    """Return what a claim of this contract says, whatever its witness is.

    Raises UnreadableClaimError where a set of oracles has attested two outcomes, and InvalidInputError for a
    transaction that is no claim of this contract.
    """
    silent, which, signatures = _witness_of(graph, claim)
    start = _block(graph) * (which + len(graph.terms.sets) * silent)
    number = _matching(ours.claims, start, len(graph.terms.claim.payouts), signatures[0])
    if number is None or graph.claim(number, silent=silent).txid != claim.txid:
        raise InvalidInputError("claim", "its first signature finishes none of ours", "a claim of this contract")
    told: dict[tuple[int, bool, bool], tuple[int, bytes]] = {}
    at = start + len(graph.terms.claim.payouts)
    for entry, size, signature in zip(
        graph.claim_entries, _sizes(graph, graph.claim_entries), signatures[1:], strict=True
    ):
        value = _matching(ours.claims, at, size, signature)
        if value is None:
            raise UnreadableClaimError(f"signature of {_name(graph, entry)} finishes none of ours")
        told[entry.place, entry.labelled, entry.attested] = (
            value,
            adaptor.extract(_of(ours.claims, at + value), signature),
        )
        at += size
    whole = adaptor.extract(_of(ours.claims, start + number), signatures[0])
    return _put_together(graph, number, whole, told)


def _put_together(
    graph: Graph, number: int, whole: bytes, told: Mapping[tuple[int, bool, bool], tuple[int, bytes]]
) -> ReadClaim:
    digits = graph.terms.claim.circuit.digits
    values = {digits[place].name: value for place, value in _range_values(graph, number).items()}
    secrets: dict[int, bytes] = {}
    for place in graph.range_places[1:]:
        value, secrets[place] = told[place, True, False]
        if value != values[digits[place].name]:
            raise UnreadableClaimError(f"digit {digits[place].name} is said twice, otherwise")
    secrets[graph.range_places[0]] = _less(whole, [secrets[place] for place in graph.range_places[1:]])
    for place in graph.priced_places:
        (value, both), (attested, alone) = told[place, True, True], told[place, False, True]
        if attested != value:
            raise UnreadableClaimError(f"digit {digits[place].name} was attested as {value} and as {attested}")
        values[digits[place].name], secrets[place] = value, _less(both, [alone])
    return ReadClaim(number=number, values=values, secrets=tuple(secrets[place] for place in range(len(digits))))


# ---- silence


def build_silence(
    graph: Graph, theirs: SilencePresignatures, *, attested: Attested, claim: bytes
) -> Transaction:  # fmt: skip
    """Return the signed claim of silence, with the attestations in it. claim: the verifier's secret."""
    sizes, which = _sizes(graph, graph.silence_entries), attested.which
    at, signatures = sum(sizes) * which, [theirs.first[which] + bytes([SIGHASH_ALL])]
    for entry, size in zip(graph.silence_entries, sizes, strict=True):
        presignature = _of(theirs.digits, at + attested.values[entry.place])
        signatures.append(adaptor.adapt(presignature, attested.secrets[entry.place]) + bytes([SIGHASH_NONE]))
        at += size
    leaf = graph.silence_leaf(which)
    own = secp256k1.schnorr_sign(claim, graph.own_digest(graph.silence, leaf, silent=False))
    return _with_chain(graph.silence, signatures, own, leaf, graph.open_output.control_block(leaf))


def read_silence(graph: Graph, ours: SilencePresignatures, silence: Transaction) -> Attested:
    """Return what a claim of silence shows, so that the claimant can claim. Raises InvalidInputError for another."""
    which, signatures = _chain_of(silence, [graph.silence_leaf(at) for at in range(len(graph.terms.sets))])
    sizes = _sizes(graph, graph.silence_entries)
    if silence.txid != graph.silence.txid or len(signatures) != len(sizes) + 1:
        raise InvalidInputError("silence", "is not that of this contract", "the claim of silence")
    at, values, secrets = sum(sizes) * which, {}, {}
    for entry, size, signature in zip(graph.silence_entries, sizes, signatures[1:], strict=True):
        value = _matching(ours.digits, at, size, signature)
        if value is None:
            raise InvalidInputError("silence", f"{_name(graph, entry)} finishes none of ours", "one of ours")
        values[entry.place] = value
        secrets[entry.place] = adaptor.extract(_of(ours.digits, at + value), signature)
        at += size
    return Attested(which=which, values=values, secrets=secrets)


def build_silent_end(graph: Graph, theirs: SilencePresignatures, *, claim: bytes) -> Transaction:
    """Return the signed end of a silence. claim: the verifier's secret."""
    own = secp256k1.schnorr_sign(claim, graph.silent_end_digest())
    return _signed_by_both(graph, graph.silent_end, claimant=theirs.end, verifier=own, silent=True)


def build_refund(graph: Graph, theirs: ClaimPresignatures, *, claim: bytes) -> Transaction:
    """Return the signed refund. claim: the claimant's secret."""
    own = secp256k1.schnorr_sign(claim, graph.refund_digest())
    return _signed_by_both(graph, graph.refund, claimant=own, verifier=theirs.refund, silent=False)


def _signed_by_both(
    graph: Graph, transaction: Transaction, *, claimant: bytes, verifier: bytes, silent: bool
) -> Transaction:
    output = graph.silent_output if silent else graph.open_output
    return _with_chain(transaction, [verifier], claimant, graph.both_leaf, output.control_block(graph.both_leaf))


# ---- after a claim


def build_disproof(
    graph: Graph, claim: Transaction, *, fault: bytes, escrow: bytes, script: bytes, fee: Sats, entropy: bytes
) -> Transaction:
    """Return the signed transaction by which the verifier takes a false claim's escrow.

    fault: the secret that the claim told. escrow: the verifier's. script: where it is paid. entropy: 64 fresh bytes.
    Raises InvalidInputError for a secret that is not the fault's.
    """
    coin, value = graph.escrow_of(claim)
    transaction = _sweep(coin, value, script, fee, SEQUENCE_LOCKTIME)
    digest = taproot.sighash(transaction, 0, [value])
    aggregate = KeyAggregate([graph.fault, graph.terms.verifier.escrow])
    aggregate.taproot_tweak(graph.escrow.root)
    nonces = [
        SecretNonce(secret=secret, entropy=some, message=digest, aggregate=aggregate)
        for secret, some in ((fault, entropy[:32]), (escrow, entropy[32:]))
    ]
    session = Session(aggregate, [one.public for one in nonces], digest)
    partials = [session.sign(secret, nonce) for secret, nonce in zip((fault, escrow), nonces, strict=True)]
    return transaction.with_witness(0, [session.aggregate(partials)])


def build_payout(graph: Graph, claim: Transaction, *, payout: bytes, script: bytes, fee: Sats) -> Transaction:
    """Return the signed transaction by which the claimant takes its escrow, some blocks after. payout: its secret."""
    coin, value = graph.escrow_of(claim)
    transaction = _sweep(coin, value, script, fee, graph.terms.dispute_blocks)
    leaf = graph.timeout_leaf
    digest = taproot.sighash(transaction, 0, [value], leaf=taproot.leaf_hash(leaf.script))
    witness = [secp256k1.schnorr_sign(payout, digest), leaf.script, graph.escrow.control_block(leaf)]
    return transaction.with_witness(0, witness)


def _sweep(coin: Any, value: TxOut, script: bytes, fee: Sats, sequence: int) -> Transaction:  # noqa: ANN401
    paid = TxOut(value=Sats(value.value - fee), script=script)
    return Transaction(version=TRUC_VERSION, inputs=(TxIn(outpoint=coin, sequence=sequence),), outputs=(paid,))


# ---- pieces


def _range_values(graph: Graph, number: int) -> dict[int, int]:
    """Return the value of each of the range's digits, by its place."""
    found, rest = {}, number
    for place in graph.range_places:
        width = graph.terms.claim.circuit.digits[place].width
        found[place] = rest & (1 << width) - 1
        rest >>= width
    return found


def _with_chain(
    transaction: Transaction, signatures: Sequence[bytes], own: bytes, leaf: Leaf, control: bytes
) -> Transaction:  # fmt: skip
    """Return a transaction with the signatures in the order that its script takes them: its own first, from the top."""
    return transaction.with_witness(0, [*reversed(signatures), own, leaf.script, control])


def _witness_of(graph: Graph, claim: Transaction) -> tuple[bool, int, list[bytes]]:
    """Return the parent of a claim, its set of oracles, and the verifier's signatures. Raises InvalidInputError."""
    spent = {graph.coin: False, graph.parent(silent=True)[0]: True}
    if len(claim.inputs) != 1 or claim.inputs[0].outpoint not in spent:
        raise InvalidInputError("claim", "spends another output", "a claim of this contract")
    which, signatures = _chain_of(claim, [graph.claim_leaf(at) for at in range(len(graph.terms.sets))])
    if len(signatures) != len(graph.claim_entries) + 1:
        raise InvalidInputError("claim", f"{len(signatures)} signatures", f"{len(graph.claim_entries) + 1}")
    return spent[claim.inputs[0].outpoint], which, signatures


def _chain_of(transaction: Transaction, leaves: Sequence[Leaf]) -> tuple[int, list[bytes]]:
    """Return which of the leaves a transaction spends by, and the further signatures, 64 bytes, in order."""
    witness = transaction.inputs[0].witness if transaction.inputs else ()
    for which, leaf in enumerate(leaves):
        if len(witness) > 3 and witness[-2] == leaf.script:  # noqa: PLR2004 - own signature, script, control block
            return which, [one[:SIGNATURE_SIZE] for one in reversed(witness[:-3])]
    raise InvalidInputError("claim", "by none of the scripts", "a claim of this contract")


def _matching(presignatures: bytes, start: int, count: int, signature: bytes) -> int | None:
    """Return which pre-signature a signature finishes: the one of its nonce."""
    for at in range(count):
        if _of(presignatures, start + at)[1:33] == signature[:32]:
            return at
    return None


def _name(graph: Graph, entry: Entry) -> str:
    return f"digit {graph.terms.claim.circuit.digits[entry.place].name}"


def _sum(secrets: Sequence[bytes]) -> bytes:
    total = secrets[0]
    for one in secrets[1:]:
        total = secp256k1.scalar_add(total, one)
    return total


def _less(secret: bytes, others: Sequence[bytes]) -> bytes:
    return _sum([secret, *(secp256k1.scalar_negate(one) for one in others)])
