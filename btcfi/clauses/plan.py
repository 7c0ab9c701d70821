"""Every transaction of a contract of clauses, made and signed before its first output is funded.

An output of a tree is a Taproot output: its key path is closing by agreement, each way of its contract a leaf with both
parties' keys. Outputs do not name what spends them (there is no covenant), so what binds the parties is that no other
transaction is signed. Amounts pass untouched: the fees of the dearest road to the end lie on top from the start, at a
rate that nobody can change later; a shorter road pays more than its share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from btcfi import secp256k1
from btcfi.bitcoin import adaptor, taproot
from btcfi.bitcoin.adaptor import AdaptorKey
from btcfi.bitcoin.fees import (
    MAX_FEE_RATE,
    MIN_RELAY_FEE_RATE,
    P2TR_INPUT_WEIGHT,
    SatsPerKvb,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.taproot import Leaf, TaprootOutput, taproot_output
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, OutPoint, Transaction, TxIn, TxOut, compact_size
from btcfi.bitcoin.witness import is_p2wpkh
from btcfi.clauses.clause import Clause, Means, means_of, signers
from btcfi.clauses.contract import Contract, Parties, Way, total
from btcfi.clauses.script import (
    NotShownError,
    Shown,
    balanced,
    descriptor,
    leaf_script,
    satisfy,
    with_keys,
    witness_sizes,
)
from btcfi.contracts.option import WrongSignatureError
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.units import Hash32, Sats, Txid

MAX_STEPS: Final = 100_000
"""Transactions of one tree: three a level of 33,000 levels."""

_VERSION: Final = 2
"""Version 3 would allow one step a block: a child in the pool must not have two unconfirmed ancestors (BIP431)."""

P2WPKH_WITNESS_WEIGHT: Final = 1 + 1 + 72 + 1 + 33
"""Count, a signature of the largest size, a key. Source: BIP141, BIP146."""

_NO_FEE: Final = Sats(0)

_NOWHERE: Final = OutPoint(txid=Txid(bytes(32)), index=0)

Path = tuple[str, ...]
"""Names of ways from the first output on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One leaf of an output by one of its ways."""

    means: Means
    leaf: Leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One pre-signed transaction."""

    path: Path
    """The last name is the way's own."""
    transaction: Transaction
    """Not signed; input 0 spends the output, input 1 is what is paid in, if anything."""
    spent: tuple[TxOut, ...]
    output: TaprootOutput
    """The output that it spends, with its tree."""
    doors: tuple[Door, ...]
    """The leaves of its way: one signature of each party for each."""
    first: int
    """Place of its first signature in a party's list."""
    fee: Sats

    def digest(self, door: Door) -> Hash32:
        """Return what both parties sign for a leaf."""
        return taproot.sighash(self.transaction, 0, self.spent, leaf=taproot.leaf_hash(door.leaf.script))


@dataclass(slots=True, kw_only=True)
class _Node:
    """A contract's output before its value is known."""

    contract: Contract
    output: TaprootOutput
    means: tuple[Means, ...]
    roads: list[_Road]
    reserve: Sats = _NO_FEE
    """Fees of the dearest road from here to an end."""


@dataclass(slots=True, kw_only=True)
class _Road:
    way: Way
    doors: tuple[Door, ...]
    into: _Node | None
    fee: Sats = _NO_FEE


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What both parties agree on about a tree, the contract apart."""

    parties: Parties
    rate: SatsPerKvb
    """Of every transaction of it, for ever."""
    encrypted: bool = False
    """Whether points that will be revealed encrypt the signatures instead of standing in scripts: an observer then sees
    no condition, and each set of oracles needs a signature of its own."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a rate that no node relays or sends."""
        if not MIN_RELAY_FEE_RATE <= self.rate <= MAX_FEE_RATE:
            expected = f"{MIN_RELAY_FEE_RATE} to {MAX_FEE_RATE} sats per 1000 virtual bytes"
            raise InvalidInputError("rate", str(self.rate), expected)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A contract as outputs, before it is funded."""

    terms: Terms
    _root: _Node = field(repr=False)

    @property
    def amount(self) -> Sats:
        """What it holds for its parties."""
        return self._root.contract.amount

    @property
    def reserve(self) -> Sats:
        """What is paid on top for the fees of everything below."""
        return self._root.reserve

    def funding_txout(self) -> TxOut:
        """Return the output that funds it."""
        return TxOut(value=Sats(self.amount + self.reserve), script=self._root.output.script)

    def descriptors(self) -> Iterator[tuple[str, bytes]]:
        """Yield every output of the tree as a descriptor, with the script that it must compile to."""
        for node in _nodes(self._root):
            yield descriptor(node.output.internal_key, node.means), node.output.script

    def plan(self, funding: OutPoint) -> Plan:
        """Return the transactions that follow from the outpoint that funds it."""
        steps: dict[Path, Step] = {}
        waiting: list[tuple[Path, _Node, OutPoint, Sats]] = [((), self._root, funding, self.funding_txout().value)]
        first = 0
        while waiting:
            path, node, outpoint, value = waiting.pop()
            for road in node.roads:
                step = _step((*path, road.way.name), node, road, outpoint, value=value, first=first)
                steps[step.path] = step
                first += len(step.doors)
                if road.into is not None:
                    place = len(road.way.pays)
                    held = step.transaction.outputs[place].value
                    waiting.append((step.path, road.into, step.transaction.outpoint(place), held))
        return Plan(tree=self, funding=funding, steps=steps, signature_count=first)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All transactions of a funded tree. Equal trees and outpoints have equal plans."""

    tree: Tree
    funding: OutPoint
    steps: Mapping[Path, Step] = field(repr=False)
    signature_count: int
    """Of each party."""

    def step(self, path: Path) -> Step:
        """Return a transaction by its path. Raises NotFoundError."""
        if path not in self.steps:
            raise NotFoundError("step", "/".join(path))
        return self.steps[path]

    def branch(self, path: Path) -> tuple[Step, ...]:
        """Return the transactions along a path, first to last. Raises NotFoundError."""
        return tuple(self.step(path[: length + 1]) for length in range(len(path)))

    def held_after(self, path: Path) -> tuple[OutPoint, TxOut, TaprootOutput]:
        """Return the output of the tree that a path ends in: for closing by agreement. Raises NotFoundError."""
        below = next((step for step in self.steps.values() if step.path[:-1] == path), None)
        if below is None:
            raise NotFoundError("output of the tree after", "/".join(path) or "the start")
        return below.transaction.inputs[0].outpoint, below.spent[0], below.output


def tree(contract: Contract, terms: Terms) -> Tree:
    """Return a contract as outputs.

    Raises InvalidInputError: a way that does not pay what its contract holds, one whose leaves have other locks than
    each other, more than ``MAX_STEPS`` transactions, and what the clauses can't be.
    """
    root = _node(contract, terms)
    nodes = list(_nodes(root))
    if sum(len(node.roads) for node in nodes) > MAX_STEPS:
        raise InvalidInputError("contract", "too many transactions", f"at most {MAX_STEPS}")
    for node in reversed(nodes):  # what follows before what leads there
        for road in node.roads:
            road.fee = fee_for(_vsize(node, road), terms.rate)
        node.reserve = Sats(max(road.fee + (road.into.reserve if road.into else 0) for road in node.roads))
    return Tree(terms=terms, _root=root)


def _node(contract: Contract, terms: Terms) -> _Node:
    parties, roads, every = terms.parties, [], {}
    for way in contract.ways():
        way.check_sum(contract.amount)
        doors = tuple(_door(means, parties) for means in means_of(way.guard, encrypted=terms.encrypted))
        if len({(door.means.lock_time, door.means.relative) for door in doors}) > 1:
            raise InvalidInputError(way.name, "ways with other locks than each other", "one lock for the whole way")
        # two ways may share a leaf: what tells them apart is the transaction, or the point of its signatures
        every.update({door.leaf: replace(door.means, points=()) for door in doors})
        roads.append(_Road(way=way, doors=doors, into=_node(way.into, terms) if way.into else None))
    if len({road.way.name for road in roads}) != len(roads):
        raise InvalidInputError("ways", "one name twice", "different names")
    output = taproot_output(parties.cooperate, balanced(list(every)))
    return _Node(contract=contract, output=output, means=tuple(every.values()), roads=roads)


def _door(means: Means, parties: Parties) -> Door:
    with_both = with_keys(means, (parties.one, parties.two))
    return Door(means=with_both, leaf=Leaf(script=leaf_script(with_both)))


def _nodes(root: _Node) -> Iterator[_Node]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [road.into for road in node.roads if road.into is not None]


def _outputs(road: _Road, reserve: Sats) -> tuple[TxOut, ...]:
    if road.into is None:
        return road.way.pays
    held = TxOut(value=Sats(road.into.contract.amount + reserve), script=road.into.output.script)
    return (*road.way.pays, held)


def _transaction(road: _Road, outpoint: OutPoint, reserve: Sats) -> Transaction:
    means = road.doors[0].means
    inputs = [TxIn(outpoint=outpoint, sequence=means.relative or SEQUENCE_LOCKTIME)]
    if road.way.pay_in is not None:
        inputs.append(TxIn(outpoint=road.way.pay_in.outpoint, sequence=SEQUENCE_LOCKTIME))
    outputs = _outputs(road, reserve)
    if not outputs:
        raise InvalidInputError(road.way.name, "pays nobody", "at least one output")
    return Transaction(version=_VERSION, inputs=tuple(inputs), outputs=outputs, lock_time=means.lock_time)


def _vsize(node: _Node, road: _Road) -> int:
    """Return the virtual size of a road's transaction by its largest leaf."""
    bare = 4 * len(_transaction(road, _NOWHERE, Sats(0)).to_bytes(witness=False)) + 2
    if road.way.pay_in is not None:
        bare += P2WPKH_WITNESS_WEIGHT if is_p2wpkh(road.way.pay_in.output.script) else P2TR_INPUT_WEIGHT - 4 * 41
    return vsize_of(bare + max(_witness_weight(node.output, door) for door in road.doors))


def _witness_weight(output: TaprootOutput, door: Door) -> int:
    sizes = (*witness_sizes(door.means), len(door.leaf.script), len(output.control_block(door.leaf)))
    return len(compact_size(len(sizes))) + sum(len(compact_size(size)) + size for size in sizes)


def _step(path: Path, node: _Node, road: _Road, outpoint: OutPoint, *, value: Sats, first: int) -> Step:
    # what a shorter road has left over goes to its own fee, never to a payout
    transaction = _transaction(road, outpoint, road.into.reserve if road.into else Sats(0))
    pay_in = road.way.pay_in
    spent = (TxOut(value=value, script=node.output.script), *((pay_in.output,) if pay_in else ()))
    fee = Sats(total(spent) - total(transaction.outputs))
    return Step(
        path=path, transaction=transaction, spent=spent, output=node.output, doors=road.doors, first=first, fee=fee
    )


# ---- signing


def presign(plan: Plan, secret: bytes) -> tuple[bytes, ...]:
    """Return a party's signatures of every transaction: 64 bytes, or 65 where a revealed secret finishes them.

    Raises InvalidInputError when the secret is neither party's.
    """
    public = secp256k1.public_key_xonly(secret)
    parties = plan.tree.terms.parties
    if public not in (parties.one, parties.two):
        raise InvalidInputError("secret key", "belongs to neither party", "party one's or party two's")
    key, made = AdaptorKey(secret), []
    for step in plan.steps.values():
        for door in step.doors:
            digest = step.digest(door)
            point = _sum(door.means.points)
            made.append(secp256k1.schnorr_sign(secret, digest) if point is None else key.presign(digest, point))
    return tuple(made)


def check_presignatures(plan: Plan, party: bytes, signatures: Sequence[bytes]) -> None:
    """Check all signatures of one party, by its x-only key. Raises WrongSignatureError naming the first bad one."""
    who = party.hex()[:16]
    if len(signatures) != plan.signature_count:
        problem = f"{len(signatures)} instead of {plan.signature_count} in number"
        raise WrongSignatureError(party=who, what="a tree", problem=problem)
    for step in plan.steps.values():
        for place, door in enumerate(step.doors, start=step.first):
            if not _is_valid(party, step.digest(door), door, signatures[place]):
                raise WrongSignatureError(party=who, what="/".join(step.path))


def finish(plan: Plan, path: Path, *, one: Sequence[bytes], two: Sequence[bytes], shown: Shown) -> Transaction:
    """Return a step's transaction with the witness of its output, by the first of its leaves that can be met.

    one, two: all signatures of each party. What is paid in is signed by its owner afterwards (input 1). Raises
    NotShownError while no leaf can be met, WrongSignatureError for a finished signature that is not valid.
    """
    step, parties = plan.step(path), plan.tree.terms.parties
    missing: NotShownError | None = None
    for place, door in enumerate(step.doors, start=step.first):
        try:
            witness = _witness(step, door, {parties.one: one[place], parties.two: two[place]}, shown)
        except NotShownError as e:
            missing = missing or e
        else:
            return step.transaction.with_witness(0, witness)
    raise missing or NotShownError("/".join(path))


def _witness(step: Step, door: Door, given: Mapping[bytes, bytes], shown: Shown) -> tuple[bytes, ...]:
    digest, signatures = step.digest(door), dict(given)
    if door.means.points:
        secret = _secret(door.means.points, shown)
        signatures = {key: adaptor.adapt(one, secret) for key, one in given.items()}
    for key, signature in signatures.items():
        if not secp256k1.schnorr_verify(key, digest, signature):
            raise WrongSignatureError(party=key.hex()[:16], what="/".join(step.path))
    for atom in door.means.atoms:
        for key in signers(atom):
            if key not in signatures and key in shown.secrets:
                signatures[key] = secp256k1.schnorr_sign(shown.secrets[key], digest)
    items = satisfy(door.means, signatures, shown.preimages)
    return (*items, door.leaf.script, step.output.control_block(door.leaf))


def _secret(points: Sequence[bytes], shown: Shown) -> bytes:
    secrets = []
    for point in points:
        secret = shown.secrets.get(point)
        if secret is None or secp256k1.public_key_xonly(secret) != point:
            raise NotShownError(f"the secret of {point.hex()[:16]}…")
        secrets.append(secp256k1.even_secret(secret))
    sum_of = secrets[0]
    for secret in secrets[1:]:
        sum_of = secp256k1.scalar_add(sum_of, secret)
    return sum_of


def _sum(points: Sequence[bytes]) -> Any:  # noqa: ANN401 - cffi has no types
    """Return the sum of the even points of these x coordinates, in libsecp256k1's form; None of none."""
    parsed = [secp256k1.parse_point(b"\x02" + point) for point in points]
    if not parsed:
        return None
    return parsed[0] if len(parsed) == 1 else secp256k1.sum_points(parsed)


def _is_valid(party: bytes, digest: bytes, door: Door, signature: bytes) -> bool:
    point = _sum(door.means.points)
    if point is None:
        return secp256k1.schnorr_verify(party, digest, signature)
    return adaptor.presignature_is_valid(party, digest, point, signature)


# ---- closing by agreement


def build_close(plan: Plan, path: Path, pays: Sequence[TxOut], *, rate: SatsPerKvb) -> Transaction:
    """Return the transaction that ends a tree by agreement after a path, to be signed on the key path; not signed.

    pays: what both agree on, of the amount; what is left of the fees that lie there goes to the miner, at least
    ``rate``. Raises InvalidInputError where the outputs leave less, NotFoundError for a path that ends in no output.
    """
    outpoint, held, _ = plan.held_after(path)
    transaction = Transaction(
        version=_VERSION, inputs=(TxIn(outpoint=outpoint, sequence=SEQUENCE_LOCKTIME),), outputs=tuple(pays)
    )
    weight = 4 * len(transaction.to_bytes(witness=False)) + 2 + P2TR_INPUT_WEIGHT - 4 * 41
    most = held.value - fee_for(vsize_of(weight), rate)
    if total(pays) > most:
        raise InvalidInputError("close", f"pays {total(pays)} sats", f"at most {most} sats")
    return transaction


def close_digest(plan: Plan, path: Path, transaction: Transaction) -> Hash32:
    """Return what both sign, by MuSig2 tweaked by the root of the output's tree. Raises NotFoundError."""
    return taproot.sighash(transaction, 0, [plan.held_after(path)[1]])


def guard_leaves(clause: Clause, parties: Parties, *, encrypted: bool = False) -> tuple[Means, ...]:
    """Return the leaves that a condition becomes in an output of these parties. Raises InvalidInputError."""
    return tuple(_door(means, parties).means for means in means_of(clause, encrypted=encrypted))
