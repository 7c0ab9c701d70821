"""A package with which anybody convicts a false claim, for a reward: no secret is in it, and none is needed.

The escrow's key is of the fault secret and the verifier, by MuSig2 (``graph``). The verifier signs its half of a
disproof ahead, of each range and parent: every claim's txid is known, so every disproof's is. The other half is the
fault secret's, with a nonce that everybody knows (``musig.SecretNonce.in_the_open``): whoever works the secret out of a
claim finishes the signature, and can change nothing of what is paid. No script, no txid and no byte on the chain
differ from a contract without a package, and the claimant need not know of one.

    disproof   escrow -> what is left to the verifier, and the reward in an output that anybody spends
    child      the reward, less what it pays for both, to whoever sends them

Of a lazy contract it convicts an answer to a challenge; the challenge stakes the verifier's bond, so no package makes
one.

Of the money: a disproof leaves the verifier at least all that it could be owed, so a claimant that lies and takes the
reward itself takes it out of its own bond. A miner, or whoever sees the pair, can take the reward in the sender's
place: it pays for the conviction, not for the finder. Pure.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from btcfi.bitcoin import taproot
from btcfi.bitcoin.fees import INCREMENTAL_FEE_RATE, MIN_RELAY_FEE_RATE, SatsPerKvb, dust_limit, fee_for
from btcfi.bitcoin.musig import PARTIAL_SIZE, PUBLIC_NONCE_SIZE, KeyAggregate, SecretNonce, Session
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, SEQUENCE_RBF, TRUC_VERSION, Transaction, TxIn, TxOut
from btcfi.contracts.execution import ANCHOR
from btcfi.disputes.garbled import presign
from btcfi.disputes.garbled.graph import Graph, Parent, last_of
from btcfi.disputes.garbled.messages import decode_claims, decode_commitments
from btcfi.disputes.garbled.presign import ClaimPresignatures
from btcfi.disputes.garbled.setup import Judgement
from btcfi.disputes.garbled.transcript import Checked, Transcript, check, deal_of, decode_transcript, encode_transcript
from btcfi.errors import InvalidInputError
from btcfi.records import BASE64, OBJECT, record, whole
from btcfi.units import MAX_MONEY_SATS, Height, Sats

PACKAGE: Final = "btcfi/dispute-package"
VERSION: Final = 1

PARTS: Final = ("disproofs", "signatures of claims")
"""What of a package is checked before its set-up's ``setup.PARTS``, which take longer."""

_SIZE: Final = PUBLIC_NONCE_SIZE + PARTIAL_SIZE
"""Of one signed half: the verifier's public nonce, its partial signature."""

_VERIFIER: Final = 1
"""Its place in the escrow's key."""

CHILD_VSIZE: Final = 1_000
"""Of a version-3 transaction that spends one that waits, at most. Source: BIP431."""

_PAIR_VSIZE: Final = 124 + 94
"""Of a disproof and its child, both paying to P2TR."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What a verifier gives to whoever will watch."""

    setup: Transcript
    claims: bytes
    """The verifier's own pre-signatures of claims: by them a claim is read."""
    reward: Sats
    disproofs: bytes
    """The signed halves, of each parent and range."""
    since: Height
    """No block up to this one holds the opening."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A package that was checked: a false claim of this contract can be convicted with it."""

    checked: Checked
    graph: Graph
    claims: ClaimPresignatures
    reward: Sats
    disproofs: bytes
    since: Height


# ---- disproofs


def disproof(graph: Graph, reward: Sats, number: int, *, silent: Parent) -> Transaction:
    """Return the disproof of a range's claim, not signed. Raises InvalidInputError for a reward out of bounds."""
    check_reward(graph, reward)
    made = graph.reveal if graph.terms.is_lazy else graph.claim
    coin, value = last_of(made(number, silent=silent))
    paid = TxOut(value=Sats(value.value - graph.terms.fee - reward), script=graph.terms.verifier.script)
    if paid.value < dust_limit(paid.script):
        raise InvalidInputError("reward", f"{reward} sats", f"less: range {number} has {value.value} sats in escrow")
    return Transaction(
        version=TRUC_VERSION, inputs=(TxIn(outpoint=coin, sequence=SEQUENCE_LOCKTIME),),
        outputs=(paid, replace(ANCHOR, value=reward)),
    )  # fmt: skip


def check_reward(graph: Graph, reward: Sats) -> None:
    """Check that a reward leaves the verifier all it could be owed, and pays to send it. Raises InvalidInputError.

    Before a disproof of a lazy contract stand four transactions, each with its costs: silence, claim, challenge,
    reveal; the last pays the disproof's fee. A claim leaves a satoshi to the fee for each range that pays the same.
    """
    terms = graph.terms
    most = terms.bond - 5 * terms.costs - dust_limit(terms.verifier.script) - len(terms.claim.payouts)
    least = fee_for(_PAIR_VSIZE, MIN_RELAY_FEE_RATE) + dust_limit(terms.verifier.script)
    if not least <= reward <= most:
        raise InvalidInputError("reward", f"{reward} sats", f"{least} to {most} sats: of the claimant's bond")


def presign_disproofs(graph: Graph, reward: Sats, *, escrow: bytes, entropy: Sequence[bytes]) -> bytes:
    """Return the verifier's signed halves. Raises InvalidInputError for a reward out of bounds.

    escrow: its secret. entropy: for each of them 32 fresh bytes, never used before.
    """
    found = []
    for (number, silent), some in zip(ranges(graph), entropy, strict=True):
        digest, aggregate = _digest(graph, reward, number, silent), escrow_key(graph)
        nonce = SecretNonce(secret=escrow, entropy=some, message=digest, aggregate=aggregate)
        session = Session(aggregate, [SecretNonce.in_the_open(graph.points.fault).public, nonce.public], digest)
        found.append(nonce.public + session.sign(escrow, nonce))
    return b"".join(found)


def check_disproofs(graph: Graph, reward: Sats, data: bytes) -> None:
    """Check every signed half. Raises InvalidInputError naming the first that is bad."""
    every = list(ranges(graph))
    if len(data) != _SIZE * len(every):
        raise InvalidInputError("disproofs", f"{len(data)} bytes", f"{_SIZE * len(every)} bytes")
    for at, (number, silent) in enumerate(every):
        session, partial = _session(graph, reward, data, at, (number, silent))
        if not session.partial_is_valid(_VERIFIER, partial):
            raise InvalidInputError(f"disproof of range {number}", "is not the verifier's", "its half of the signature")


def finish_disproof(
    graph: Graph, reward: Sats, data: bytes, claimed: tuple[int, Parent], *, fault: bytes
) -> Transaction:  # fmt: skip
    """Return the signed disproof of a claim. fault: the secret that it told. Raises InvalidInputError, for another."""
    at = list(ranges(graph)).index(claimed)
    session, partial = _session(graph, reward, data, at, claimed)
    ours = session.sign(fault, SecretNonce.in_the_open(graph.points.fault))
    number, silent = claimed
    return disproof(graph, reward, number, silent=silent).with_witness(0, [session.aggregate([ours, partial])])


def ranges(graph: Graph) -> Iterator[tuple[int, Parent]]:
    """Yield every range of each parent, in the order of the signed halves."""
    return ((number, silent) for silent in (False, True) for number in range(len(graph.terms.claim.payouts)))


def escrow_key(graph: Graph) -> KeyAggregate:
    """Return the key of an escrow: the fault secret's and the verifier's."""
    made = KeyAggregate([graph.points.fault, graph.terms.verifier.escrow])
    made.taproot_tweak(graph.escrow.root)
    return made


def _digest(graph: Graph, reward: Sats, number: int, silent: Parent) -> bytes:
    made = graph.reveal if graph.terms.is_lazy else graph.claim
    return taproot.sighash(
        disproof(graph, reward, number, silent=silent), 0, [last_of(made(number, silent=silent))[1]]
    )  # fmt: skip


def _session(
    graph: Graph, reward: Sats, data: bytes, at: int, claimed: tuple[int, Parent]
) -> tuple[Session, bytes]:  # fmt: skip
    public, partial = data[_SIZE * at :][:PUBLIC_NONCE_SIZE], data[_SIZE * at :][PUBLIC_NONCE_SIZE:_SIZE]
    nonces = [SecretNonce.in_the_open(graph.points.fault).public, public]
    return Session(escrow_key(graph), nonces, _digest(graph, reward, *claimed)), partial


# ---- the reward


def child(disproved: Transaction, *, fee: Sats, rate: SatsPerKvb, script: bytes) -> Transaction:
    """Return what takes the reward, paying for both at a rate; anybody's output needs no signature.

    fee: what the disproof pays by itself. script: where the reward goes. Raises InvalidInputError for a rate that the
    reward does not pay.
    """
    index = len(disproved.outputs) - 1
    reward = disproved.outputs[index].value
    inputs = (TxIn(outpoint=disproved.outpoint(index), sequence=SEQUENCE_RBF),)
    bare = Transaction(version=TRUC_VERSION, inputs=inputs, outputs=(TxOut(value=Sats(reward), script=script),))
    paid = max(fee_for(disproved.vsize + bare.vsize, rate) - fee, fee_for(bare.vsize, MIN_RELAY_FEE_RATE))
    if reward - paid < dust_limit(script):
        limit = highest_rate(disproved, fee=fee, script=script)
        raise InvalidInputError("rate", f"{rate} sat/kvB", f"at most {limit} sat/kvB: all that the reward pays")
    return replace(bare, outputs=(TxOut(value=Sats(reward - paid), script=script),))


def highest_rate(disproved: Transaction, *, fee: Sats, script: bytes) -> SatsPerKvb:
    """Return the highest rate at which the reward pays for a signed disproof and its child."""
    index = len(disproved.outputs) - 1
    reward = disproved.outputs[index]
    inputs = (TxIn(outpoint=disproved.outpoint(index), sequence=SEQUENCE_RBF),)
    size = Transaction(version=TRUC_VERSION, inputs=inputs, outputs=(replace(reward, script=script),)).vsize
    return SatsPerKvb((reward.value - dust_limit(script) + fee) * 1000 // (disproved.vsize + size))


def highest_pin(disproved: Transaction, *, fee: Sats, script: bytes) -> SatsPerKvb:
    """Return up to which rate the reward outbids a disproof whose child is as large as a child may be.

    A claimant that lied can send the disproof itself, with a large child that pays too little to be mined: a
    replacement pays more than both, and its own relay. Above this rate only the verifier's own disproof does, whose fee
    is of the escrow.
    """
    pair = disproved.vsize + CHILD_VSIZE
    return SatsPerKvb((highest_rate(disproved, fee=fee, script=script) - INCREMENTAL_FEE_RATE) * _PAIR_VSIZE // pair)


# ---- packages


@dataclass(frozen=True, slots=True, kw_only=True)
class _Package:
    type: str
    version: int
    setup: Json
    claims: bytes
    reward_sats: int
    disproofs: bytes
    since_height: Height


_PACKAGE: Final = record(
    _Package, exact=True, version=whole(VERSION, VERSION), setup=OBJECT, claims=BASE64,
    reward_sats=whole(0, MAX_MONEY_SATS), disproofs=BASE64,
)  # fmt: skip


def encode_package(package: Package) -> Json:
    """Return a package as JSON."""
    return {
        "type": PACKAGE, "version": VERSION, "setup": encode_transcript(package.setup),
        "claims": b64encode(package.claims).decode(), "reward_sats": package.reward,
        "disproofs": b64encode(package.disproofs).decode(), "since_height": package.since,
    }  # fmt: skip


def decode_package(message: object) -> Package:
    """Return a package. Raises InvalidInputError naming the field; whether it holds, ``check_package`` says."""
    flat = _PACKAGE.read(message, "package")
    if flat.type != PACKAGE:
        raise InvalidInputError("type", repr(flat.type[:40]), PACKAGE)
    return Package(
        setup=decode_transcript(flat.setup), claims=flat.claims, reward=Sats(flat.reward_sats),
        disproofs=flat.disproofs, since=flat.since_height,
    )  # fmt: skip


def graph_of(package: Package) -> Graph:
    """Return the transactions of a package's contract; nothing of it is checked. Raises InvalidInputError."""
    deal = deal_of(package.setup)
    return deal.opened(decode_commitments(deal.subject, package.setup.commitments))[1]


def check_package(package: Package, *, coins: bytes, begins: Callable[[str], None] = lambda _: None) -> Watch:
    """Check all of a package: what passes convicts every false claim of its contract, but with a set-up's chance.

    coins, begins, raises: as ``transcript.check``; WrongAdaptorError for a signature of claims that is not the
    verifier's.
    """
    begins(PARTS[0])
    graph = graph_of(package)
    check_disproofs(graph, package.reward, package.disproofs)
    begins(PARTS[1])
    claims = decode_claims(graph, package.claims)
    presign.check_claims(graph, claims)
    checked = check(package.setup, coins=coins, begins=begins)
    return Watch(
        checked=checked, graph=graph, claims=claims, reward=package.reward, disproofs=package.disproofs,
        since=package.since,
    )  # fmt: skip


def judge(watch: Watch, claim: Transaction, reveal: Transaction | None = None) -> Judgement:
    """Return what a claim in a block is. reveal: of a lazy contract. Raises UnreadableClaimError, InvalidInputError."""
    read = presign.read_claim(watch.graph, watch.claims, claim)
    if reveal is not None:
        read = read.joined(presign.read_reveal(watch.graph, watch.claims, reveal))
    return watch.checked.kept.judge(*read.named(watch.graph))
