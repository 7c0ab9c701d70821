"""What both sides sign before the opening, how it is checked, and what is finished with it afterwards.

    verifier   ``presign_claims``: every range of each parent, every digit's every value for each set of oracles, the
               refund; of a lazy contract each range's release and reveal
    claimant   ``check_claims``: every one
    claimant   ``presign_silence``: every priced digit's every value, the silence's end; each range's challenge
    verifier   ``check_silence``: every one
    claimant   ``build_claim``, and ``read_silence`` where the verifier claimed that; ``build_reveal``
    verifier   ``read_claim``, ``read_reveal``, then ``setup.Kept.judge``; ``build_silence``, ``build_challenge``

The nonce of each pre-signature hangs on the key, the message and the point (``bitcoin.adaptor``), so nothing is signed
twice with one. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from btcfi import secp256k1
from btcfi.bitcoin import adaptor, taproot
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE, AdaptorKey, WrongAdaptorError
from btcfi.bitcoin.musig import KeyAggregate, SecretNonce, Session
from btcfi.bitcoin.taproot import SIGHASH_ALL
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut
from btcfi.disputes.garbled import chains
from btcfi.disputes.garbled.chains import Chain, Entry, bits_of, less, matching, one_of, total, with_chain
from btcfi.disputes.garbled.graph import Graph, Parent, last_of
from btcfi.disputes.garbled.setup import Garbler
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.oracle.attestation import Attestation, check_attestation
from btcfi.units import Hash32, Sats

Attestations = Sequence[Mapping[int, Attestation]]
"""For each event, by the oracle's place."""


class UnreadableClaimError(BtcfiError):
    """Digits on the chain that their pre-signatures do not tell: a set of oracles has attested two outcomes."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the claim cannot be read: {what}; keep its transaction, it shows what the oracles did")
        self.what = what


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimSecrets:
    """The verifier's secrets that sign before the opening, 32 bytes each."""

    digits: tuple[bytes, ...] = field(repr=False)
    claim: bytes = field(repr=False)
    both: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceSecrets:
    """The claimant's."""

    silence: tuple[bytes, ...] = field(repr=False)
    both: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimPresignatures:
    """What the verifier signs before the opening. Plain signatures are of 64 bytes, pre-signatures of 65."""

    ranges: tuple[bytes, ...]
    """Of each parent and leaf: one for each range."""
    entries: tuple[bytes, ...]
    """Of each parent and leaf: of every value of every digit in its chain."""
    refund: bytes
    digits: tuple[bytes, ...] = ()
    """Of a lazy contract, for each set of oracles."""
    releases: tuple[bytes, ...] = ()
    """Of a lazy contract, for each parent and range."""
    reveals: tuple[bytes, ...] = ()
    shown: tuple[bytes, ...] = ()
    """Of a lazy contract, for each set of oracles, parent and range: it fixes where the verifier's bond goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilencePresignatures:
    """What the claimant signs before the opening."""

    first: tuple[bytes, ...]
    """Plain, one a set of oracles: it fixes the outputs of a claim of silence."""
    entries: tuple[bytes, ...]
    end: bytes
    challenges: tuple[bytes, ...] = ()
    """Of a lazy contract, for each parent and range."""


# ---- before the opening


def presign_claims(graph: Graph, secrets: ClaimSecrets) -> ClaimPresignatures:
    """Return the verifier's part. Raises InvalidInputError for secrets that are not those of the terms."""
    lazy = graph.terms.is_lazy
    keys = [AdaptorKey(secret) for secret in secrets.digits]
    _check_own([key.public for key in keys], graph.terms.verifier.digits)
    _check_own([secp256k1.public_key_xonly(secrets.claim)], [graph.terms.verifier.claim])
    _check_own([secp256k1.public_key_xonly(secrets.both)], [graph.terms.verifier.both])
    ranges, entries = [], []
    for silent, leaf in graph.parents:
        key, chain = AdaptorKey(secrets.claim) if lazy else keys[leaf], graph.claim_chain(leaf, silent=silent)
        ranges.append(
            b"".join(key.presign(_range_digest(graph, chain, number, silent), _range_point(graph, number))
                     for number in _numbers(graph))
        )  # fmt: skip
        entries.append(chains.presign(graph.points, chain, key))
    every = [(silent, number) for silent in (False, True) for number in _numbers(graph)] if lazy else []
    return ClaimPresignatures(
        ranges=tuple(ranges), entries=tuple(entries),
        refund=secp256k1.schnorr_sign(secrets.both, _refund_digest(graph)),
        digits=tuple(
            chains.presign(graph.points, graph.reveal_chain(which), key) for which, key in enumerate(keys) if lazy
        ),
        releases=tuple(secp256k1.schnorr_sign(secrets.both, _release_digest(graph, *one)) for one in every),
        reveals=tuple(secp256k1.schnorr_sign(secrets.both, _reveal_digest(graph, *one)) for one in every),
        shown=tuple(
            secp256k1.schnorr_sign(secret, _shown_digest(graph, which, *one))
            for which, secret in enumerate(secrets.digits)
            for one in every
        ),
    )  # fmt: skip


def check_claims(graph: Graph, theirs: ClaimPresignatures) -> None:
    """Check all that the verifier signed, every one. Raises WrongAdaptorError naming the first that is bad."""
    who, lazy, parents = "the verifier", graph.terms.is_lazy, list(graph.parents)
    _check_plain(f"{who}, the refund", graph.terms.verifier.both, _refund_digest(graph), theirs.refund)
    _check_counts(who, (theirs.ranges, len(parents)), (theirs.entries, len(parents)))
    for (silent, leaf), ranges, entries in zip(parents, theirs.ranges, theirs.entries, strict=True):
        chain = graph.claim_chain(leaf, silent=silent)
        if len(ranges) != ADAPTOR_SIZE * len(graph.terms.claim.payouts):
            raise WrongAdaptorError(f"{who}: {len(ranges)} bytes of ranges, as a set")
        for number in _numbers(graph):
            digest, point = _range_digest(graph, chain, number, silent), _range_point(graph, number)
            if not adaptor.presignature_is_valid(chain.key, digest, point, one_of(ranges, number)):
                raise WrongAdaptorError(f"{who}, range {number}")
        chains.check(graph.points, chain, who, entries)
    every = [(silent, number) for silent in (False, True) for number in _numbers(graph)] if lazy else []
    sets = len(graph.terms.sets) if lazy else 0
    _check_counts(who, (theirs.digits, sets), (theirs.releases, len(every)), (theirs.reveals, len(every)))
    for which, digits in enumerate(theirs.digits):
        chains.check(graph.points, graph.reveal_chain(which), who, digits)
    _check_counts(who, (theirs.shown, sets * len(every)))
    for which, key in enumerate(graph.terms.verifier.digits[:sets]):
        for at, one in enumerate(every, start=which * len(every)):
            _check_plain(f"{who}, reveal {one[1]}", key, _shown_digest(graph, which, *one), theirs.shown[at])
    for one, release, reveal in zip(every, theirs.releases, theirs.reveals, strict=True):
        _check_plain(f"{who}, release {one[1]}", graph.terms.verifier.both, _release_digest(graph, *one), release)
        _check_plain(f"{who}, reveal {one[1]}", graph.terms.verifier.both, _reveal_digest(graph, *one), reveal)


def presign_silence(graph: Graph, secrets: SilenceSecrets) -> SilencePresignatures:
    """Return the claimant's part. Raises InvalidInputError for secrets that are not those of the terms."""
    keys = [AdaptorKey(secret) for secret in secrets.silence]
    _check_own([key.public for key in keys], graph.terms.claimant.silence)
    _check_own([secp256k1.public_key_xonly(secrets.both)], [graph.terms.claimant.both])
    found = [graph.silence_chain(which) for which in range(len(keys))]
    every = [(s, number) for s in (False, True) for number in _numbers(graph)] if graph.terms.is_lazy else []
    return SilencePresignatures(
        first=tuple(
            secp256k1.schnorr_sign(secret, chain.leading_digest(graph.silence))
            for secret, chain in zip(secrets.silence, found, strict=True)
        ),
        entries=tuple(chains.presign(graph.points, chain, key) for chain, key in zip(found, keys, strict=True)),
        end=secp256k1.schnorr_sign(secrets.both, _end_digest(graph)),
        challenges=tuple(secp256k1.schnorr_sign(secrets.both, _challenge_digest(graph, *one)) for one in every),
    )


def check_silence(graph: Graph, theirs: SilencePresignatures) -> None:
    """Check all that the claimant signed, every one. Raises WrongAdaptorError naming the first that is bad."""
    who, both, sets = "the claimant", graph.terms.claimant.both, len(graph.terms.sets)
    _check_plain(f"{who}, the end of a silence", both, _end_digest(graph), theirs.end)
    every = [(s, number) for s in (False, True) for number in _numbers(graph)] if graph.terms.is_lazy else []
    _check_counts(who, (theirs.first, sets), (theirs.entries, sets), (theirs.challenges, len(every)))
    for which, (first, entries) in enumerate(zip(theirs.first, theirs.entries, strict=True)):
        chain = graph.silence_chain(which)
        _check_plain(f"{who}, silence of set {which}", chain.key, chain.leading_digest(graph.silence), first)
        chains.check(graph.points, chain, who, entries)
    for one, challenge in zip(every, theirs.challenges, strict=True):
        _check_plain(f"{who}, challenge {one[1]}", both, _challenge_digest(graph, *one), challenge)


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
    for place in graph.points.priced_places:
        digit = graph.points.digit(place)
        minute = digit.event or 0
        signed = terms.events[minute][0].event.signed_digits
        values[place] = outcomes[minute] >> digit.low_bit & (1 << digit.width) - 1
        secrets[place] = total(
            [
                attestations[minute][oracle].signatures[at][32:]
                for oracle in terms.sets[which]
                for at, _ in bits_of(digit, values[place], signed)
            ]
        )
    return Attested(which=which, values=values, secrets=secrets)


def _told(entries: Sequence[Entry], garbler: Garbler, attested: Attested) -> dict[Entry, tuple[int, bytes]]:
    """Return of each entry what the claimant says, and its point's secret."""
    found = {}
    for entry in entries:
        value = attested.values[entry.place]
        parts = [garbler.label(entry.place, value)] if entry.labelled else []
        parts += [attested.secrets[entry.place]] if entry.attested else []
        found[entry] = value, total(parts)
    return found


# ---- a claim


def build_claim(
    graph: Graph, theirs: ClaimPresignatures, garbler: Garbler, *, number: int, attested: Attested, claim: bytes,
    silent: Parent = False,
) -> Transaction:  # fmt: skip
    """Return the signed claim of a range. claim: the claimant's secret. silent: of the claim of silence's output.

    attested: of a lazy contract not shown, but who claims without will lose. A claim that is wrong is built, too:
    whether it is right the caller has checked. Raises InvalidInputError.
    """
    transaction, leaf = graph.claim(number, silent=silent), 0 if graph.terms.is_lazy else attested.which
    chain, at = graph.claim_chain(leaf, silent=silent), list(graph.parents).index((silent, leaf))
    label = garbler.label(graph.points.range_place, number)
    first = adaptor.adapt(one_of(theirs.ranges[at], number), label) + bytes([SIGHASH_ALL])
    told = _told(chain.entries, garbler, attested)
    signatures = [first, *chains.finish(graph.points, chain, theirs.entries[at], told)]
    own = secp256k1.schnorr_sign(claim, chain.own_digest(transaction))
    return with_chain(transaction, 0, signatures, own, chain.leaf, graph.open_control(chain.leaf, silent=silent))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadClaim:
    """What a claim on the chain says, and the secrets that it told."""

    number: int
    silent: Parent
    values: Mapping[int, int]
    """Of each digit that it carries, by its place."""
    secrets: Mapping[int, bytes] = field(repr=False)
    """Of the same: its label's."""

    def joined(self, revealed: tuple[Mapping[int, int], Mapping[int, bytes]]) -> ReadClaim:
        """Return the claim with the digits of its reveal."""
        values, secrets = {**self.values, **revealed[0]}, {**self.secrets, **revealed[1]}
        return ReadClaim(number=self.number, silent=self.silent, values=values, secrets=secrets)

    def named(self, graph: Graph) -> tuple[dict[str, int], list[bytes]]:
        """Return values by the digits' names and secrets in their order, as ``Kept.judge`` takes them."""
        places = range(len(graph.terms.claim.circuit.digits))
        return {graph.points.digit(p).name: self.values[p] for p in places}, [self.secrets[p] for p in places]


def read_claim(graph: Graph, ours: ClaimPresignatures, claim: Transaction) -> ReadClaim:
    """Return what a claim of this contract says, whatever its witness is.

    Raises UnreadableClaimError where a set of oracles has attested two outcomes, and InvalidInputError for a
    transaction that is no claim of this contract.
    """
    spent = claim.inputs[0].outpoint if claim.inputs else None
    for at, (silent, leaf) in enumerate(graph.parents):
        chain = graph.claim_chain(leaf, silent=silent)
        signatures = chain.signatures(claim)
        if signatures is None or graph.parent(silent=silent)[0] != spent:
            continue
        number = matching(ours.ranges[at], 0, len(graph.terms.claim.payouts), signatures[0])
        if number is None or graph.claim(number, silent=silent).txid != claim.txid:
            raise InvalidInputError("claim", "its first signature finishes none of ours", "a claim of this contract")
        place = graph.points.range_place
        values, secrets = {place: number}, {place: adaptor.extract(one_of(ours.ranges[at], number), signatures[0])}
        read = ReadClaim(number=number, silent=silent, values=values, secrets=secrets)
        if graph.terms.is_lazy:
            return read
        return read.joined(_prices_told(graph, chains.read(graph.points, chain, ours.entries[at], signatures[1:])))
    raise InvalidInputError("claim", "by none of the scripts", "a claim of this contract")


def _prices_told(
    graph: Graph, told: Mapping[Entry, tuple[int, bytes] | None]
) -> tuple[dict[int, int], dict[int, bytes]]:
    """Return values and label secrets of the priced digits: the oracles' secret is taken off."""
    values, secrets = dict[int, int](), dict[int, bytes]()
    for place in graph.points.priced_places:
        both = told[Entry(place=place, labelled=True, attested=True)]
        alone = told[Entry(place=place, labelled=False, attested=True)]
        if both is None or alone is None or both[0] != alone[0]:
            raise UnreadableClaimError(f"digit {graph.points.digit(place).name} was attested as two values")
        values[place], secrets[place] = both[0], less(both[1], [alone[1]])
    return values, secrets


# ---- of a lazy contract


def build_release(graph: Graph, theirs: ClaimPresignatures, read: tuple[int, Parent], *, both: bytes) -> Transaction:
    """Return the signed release of a claim, its number and parent, that nobody challenged. both: the claimant's."""
    number, silent = read
    own = secp256k1.schnorr_sign(both, _release_digest(graph, silent, number))
    release, given = graph.release(number, silent=silent), theirs.releases[_at(graph, silent, number)]
    return graph.with_both(release, graph.held_output, claimant=own, verifier=given)


def build_challenge(
    graph: Graph, theirs: SilencePresignatures, read: tuple[int, Parent], *, both: bytes
) -> Transaction:
    """Return the signed challenge of a claim, its number and parent. both: the verifier's secret."""
    number, silent = read
    own = secp256k1.schnorr_sign(both, _challenge_digest(graph, silent, number))
    challenge, given = graph.challenge(number, silent=silent), theirs.challenges[_at(graph, silent, number)]
    return graph.with_both(challenge, graph.held_output, claimant=given, verifier=own)


def build_reveal(
    graph: Graph, theirs: ClaimPresignatures, garbler: Garbler, read: tuple[int, Parent], *, attested: Attested,
    claim: bytes, both: bytes,
) -> Transaction:  # fmt: skip
    """Return the signed answer to a challenge. claim, both: the claimant's secrets. Raises InvalidInputError."""
    number, silent = read
    transaction, chain = graph.reveal(number, silent=silent), graph.reveal_chain(attested.which, number, silent=silent)
    told = _told(chain.entries, garbler, attested)
    at = _at(graph, silent, number)
    first = theirs.shown[2 * len(graph.terms.claim.payouts) * attested.which + at] + bytes([SIGHASH_ALL])
    signatures = [first, *chains.finish(graph.points, chain, theirs.digits[attested.which], told)]
    own = secp256k1.schnorr_sign(claim, chain.own_digest(transaction))
    shown = with_chain(transaction, 1, signatures, own, chain.leaf, graph.bond_output.control_block(chain.leaf))
    mine, given = secp256k1.schnorr_sign(both, _reveal_digest(graph, silent, number)), theirs.reveals[at]
    return graph.with_both(shown, graph.challenged_output, claimant=mine, verifier=given)


def read_reveal(graph: Graph, ours: ClaimPresignatures, reveal: Transaction) -> tuple[dict[int, int], dict[int, bytes]]:
    """Return the values and label secrets that an answer shows. Raises as ``read_claim``."""
    for which in range(len(graph.terms.sets)):
        chain = graph.reveal_chain(which)
        signatures = chain.signatures(reveal)
        if signatures is not None:
            return _prices_told(graph, chains.read(graph.points, chain, ours.digits[which], signatures[1:]))
    raise InvalidInputError("reveal", "by none of the scripts", "the answer to a challenge of this contract")


def build_overdue(
    graph: Graph, challenge: Transaction, *, overdue: bytes, script: bytes, fee: Sats
) -> Transaction:  # fmt: skip
    """Return the signed transaction by which the verifier takes all of what was not revealed. overdue: its secret."""
    leaf = graph.overdue_leaf
    transaction, value = _sweep(last_of(challenge), script, fee, graph.terms.dispute_blocks)
    digest = taproot.sighash(transaction, 0, [value], leaf=taproot.leaf_hash(leaf.script))
    control = graph.challenged_output.control_block(leaf)
    return transaction.with_witness(0, [secp256k1.schnorr_sign(overdue, digest), leaf.script, control])


def build_bond_home(graph: Graph, *, bond: bytes, script: bytes, fee: Sats) -> Transaction:
    """Return the signed transaction by which the verifier takes its bond home, from its height on. bond: its secret."""
    leaf, value = graph.bond_leaf, graph.open_txouts[1]
    paid = TxOut(value=Sats(value.value - fee), script=script)
    inputs = (TxIn(outpoint=graph.bond, sequence=SEQUENCE_LOCKTIME),)
    home = Transaction(
        version=TRUC_VERSION, inputs=inputs, outputs=(paid,), lock_time=graph.terms.bond_height
    )  # fmt: skip
    digest = taproot.sighash(home, 0, [value], leaf=taproot.leaf_hash(leaf.script))
    control = graph.bond_output.control_block(leaf)
    return home.with_witness(0, [secp256k1.schnorr_sign(bond, digest), leaf.script, control])


# ---- silence, refund


def build_silence(
    graph: Graph, theirs: SilencePresignatures, *, attested: Attested, claim: bytes
) -> Transaction:  # fmt: skip
    """Return the signed claim of silence, with the attestations in it. claim: the verifier's secret."""
    chain = graph.silence_chain(attested.which)
    told = {entry: (attested.values[entry.place], attested.secrets[entry.place]) for entry in chain.entries}
    first = theirs.first[attested.which] + bytes([SIGHASH_ALL])
    signatures = [first, *chains.finish(graph.points, chain, theirs.entries[attested.which], told)]
    own = secp256k1.schnorr_sign(claim, chain.own_digest(graph.silence))
    return with_chain(graph.silence, 0, signatures, own, chain.leaf, graph.open_control(chain.leaf, silent=False))


def read_silence(graph: Graph, ours: SilencePresignatures, silence: Transaction) -> Attested:
    """Return what a claim of silence shows, so that the claimant can claim. Raises InvalidInputError for another."""
    for which in range(len(graph.terms.sets)):
        chain = graph.silence_chain(which)
        signatures = chain.signatures(silence)
        if signatures is None or silence.txid != graph.silence.txid:
            continue
        told = chains.read(graph.points, chain, ours.entries[which], signatures[1:])
        values, secrets = dict[int, int](), dict[int, bytes]()
        for entry, said in told.items():
            if said is None:
                raise InvalidInputError("silence", "a signature finishes none of ours", "the claim of silence")
            values[entry.place], secrets[entry.place] = said
        return Attested(which=which, values=values, secrets=secrets)
    raise InvalidInputError("silence", "is not that of this contract", "the claim of silence")


def build_silent_end(graph: Graph, theirs: SilencePresignatures, *, both: bytes) -> Transaction:
    """Return the signed end of a silence. both: the verifier's secret."""
    own = secp256k1.schnorr_sign(both, _end_digest(graph))
    return graph.with_both(graph.silent_end, graph.silent_output, claimant=theirs.end, verifier=own)


def build_refund(graph: Graph, theirs: ClaimPresignatures, *, both: bytes) -> Transaction:
    """Return the signed refund. both: the claimant's secret."""
    own = secp256k1.schnorr_sign(both, _refund_digest(graph))
    return graph.with_both(graph.refund, graph.open_output, claimant=own, verifier=theirs.refund)


# ---- an escrow's two ends


def build_disproof(
    graph: Graph, claim: Transaction, *, fault: bytes, escrow: bytes, script: bytes, fee: Sats, entropy: bytes
) -> Transaction:
    """Return the signed transaction by which the verifier takes the escrow of a false claim, or of its reveal.

    fault: the secret that it told. escrow: the verifier's. script: where it is paid. entropy: 64 fresh bytes.
    Raises InvalidInputError for a secret that is not the fault's.
    """
    transaction, value = _sweep(last_of(claim), script, fee, SEQUENCE_LOCKTIME)
    digest = taproot.sighash(transaction, 0, [value])
    aggregate = KeyAggregate([graph.points.fault, graph.terms.verifier.escrow])
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
    leaf = graph.payout_leaf
    transaction, value = _sweep(last_of(claim), script, fee, graph.terms.dispute_blocks)
    digest = taproot.sighash(transaction, 0, [value], leaf=taproot.leaf_hash(leaf.script))
    witness = [secp256k1.schnorr_sign(payout, digest), leaf.script, graph.escrow.control_block(leaf)]
    return transaction.with_witness(0, witness)


def _sweep(held: tuple[OutPoint, TxOut], script: bytes, fee: Sats, sequence: int) -> tuple[Transaction, TxOut]:
    coin, value = held
    paid = TxOut(value=Sats(value.value - fee), script=script)
    inputs = (TxIn(outpoint=coin, sequence=sequence),)
    return Transaction(version=TRUC_VERSION, inputs=inputs, outputs=(paid,)), value


# ---- pieces


def _numbers(graph: Graph) -> range:
    return range(len(graph.terms.claim.payouts))


def _range_point(graph: Graph, number: int) -> Any:  # noqa: ANN401 - cffi has no types
    return graph.points.label(graph.points.range_place, number)


def _at(graph: Graph, silent: Parent, number: int) -> int:
    return number + len(graph.terms.claim.payouts) * silent


def _range_digest(graph: Graph, chain: Chain, number: int, silent: Parent) -> Hash32:
    return chain.leading_digest(graph.claim(number, silent=silent))


def _refund_digest(graph: Graph) -> Hash32:
    return graph.both_digest(graph.refund, graph.open_txouts[:1])


def _end_digest(graph: Graph) -> Hash32:
    return graph.both_digest(graph.silent_end, [graph.parent(silent=True)[1]])


def _release_digest(graph: Graph, silent: Parent, number: int) -> Hash32:
    return graph.both_digest(graph.release(number, silent=silent), [last_of(graph.claim(number, silent=silent))[1]])


def _challenge_digest(graph: Graph, silent: Parent, number: int) -> Hash32:
    return graph.both_digest(graph.challenge(number, silent=silent), [last_of(graph.claim(number, silent=silent))[1]])


def _reveal_digest(graph: Graph, silent: Parent, number: int) -> Hash32:
    spent = graph.reveal_spent(number, silent=silent)
    return graph.both_digest(graph.reveal(number, silent=silent), spent)


def _shown_digest(graph: Graph, which: int, silent: Parent, number: int) -> Hash32:
    chain = graph.reveal_chain(which, number, silent=silent)
    return chain.leading_digest(chain.transaction)


def _check_plain(what: str, key: bytes, digest: Hash32, signature: bytes) -> None:
    if not secp256k1.schnorr_verify(key, digest, signature):
        raise WrongAdaptorError(what)


def _check_counts(who: str, *counted: tuple[Sequence[bytes], int]) -> None:
    for some, count in counted:
        if len(some) != count:
            raise WrongAdaptorError(f"{who}: {len(some)} parts instead of {count}, as a set")


def _check_own(have: Sequence[bytes], want: Sequence[bytes]) -> None:
    if list(have) != list(want):
        raise InvalidInputError("secret key", "is not that of the terms", "the secrets of one's own keys")
