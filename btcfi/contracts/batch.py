"""One transaction that ends many contracts whose prices are attested: what it pays, and what each party checks of it.

    inputs    the collateral of each contract, by its key path, in the order of their outpoints
    outputs   one for each owner, its contracts netted; then the Merkle root of the contracts' proof roots

It pays what the CETs would pay. Every contract bears the same share of the fee, by three rules that both its sides can
compute without knowing another contract:

    1. the share is the transaction's fee by the number of its inputs
    2. up to what the contract's CET would have cost (anchor and own fee) it comes from where the CET takes that
    3. beyond that both sides bear it by what they receive: who gets nothing pays nothing

So up to some 17 sat/vB nobody has less than by its CET. What is below dust of an owner goes to the fee, and is shown.
A party looks at its own contracts, its own output, the share and the root; of the others it learns only amounts. It
needs to trust nobody: a part of a signature holds for this one transaction. Version 3, so that nobody pins it. Rounds
are ``contracts.batching``. Pure. Source: findings on payoffs, section 3; docs/decisions/0073.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin import taproot
from btcfi.bitcoin.fees import (
    DUST_P2TR,
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    SatsPerKvb,
    dust_limit,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.musig import SecretNonce, aggregate_nonces
from btcfi.bitcoin.script import is_known_program
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut
from btcfi.contracts.anchor import AnchorItem, AnchorKind, WrongAnchorError, anchor_path, anchor_root, root_from_path
from btcfi.contracts.cooperative import KeyPath
from btcfi.contracts.execution import ExecutionPlan, Split
from btcfi.contracts.mandate import Authority
from btcfi.contracts.messages import Role
from btcfi.contracts.metadata import RecordType, read_record, record_script
from btcfi.contracts.option import CollateralTooSmallError, OptionContract
from btcfi.contracts.paid import Paid
from btcfi.contracts.splice import MAX_VSIZE
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.units import Hash32, Sats, Txid

MAX_CONTRACTS: Final = 128
"""In one transaction: with 16 owners 8,108 vB of the 10,000 that version 3 allows. Source: findings, section 3."""

MAX_PROPOSALS: Final = 16
"""That one party answers in one batch: more than a coordinator's rules ask for, and a bound on what it is asked."""

_NONCE_TAG: Final = "BTCFi/batch/nonce/v1"
_ENTROPY_SIZE: Final = 32
_ANY_RECORD: Final = TxOut(value=Sats(0), script=record_script(RecordType.ANCHOR, Hash32(bytes(32))))
_RECORD_WEIGHT: Final = 4 * len(_ANY_RECORD.to_bytes())


class NotAskedError(ConflictError):
    """An answer to a proposal that is not, or no longer, the one that is asked about."""

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(f"proposal {number} {problem}; nothing was signed for it")
        self.number, self.problem = number, problem


# ---- what ends, and what is paid


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a contract."""

    owner: str
    """Whose it is: what the coordinator calls that party."""
    key: bytes
    """Its contract key, compressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A contract whose price is attested."""

    contract: OptionContract
    funding: OutPoint
    buyer: Side
    seller: Side
    cet: Split
    """What its CET pays; the rest of the collateral is what the CET costs."""
    proof_root: Hash32
    """Of the run that computed its settlement."""

    @classmethod
    def of(cls, plan: ExecutionPlan, bucket: int, *, buyer: Side, seller: Side, proof_root: Hash32) -> Ending:
        """Return the end of a contract at the bucket of its attested outcome.

        A party takes the bucket from a CET that it has complete (``settle.complete_cet``), so its attestations are
        checked and it could settle alone.
        """
        return cls(
            contract=plan.contract, funding=plan.funding, buyer=buyer, seller=seller, cet=plan.split_of(bucket),
            proof_root=proof_root,
        )  # fmt: skip

    @property
    def costs(self) -> Sats:
        """What its CET costs: the anchor, and what it pays by itself."""
        return Sats(self.contract.collateral - self.cet.buyer - self.cet.seller)

    @property
    def owners(self) -> tuple[str, str]:
        """The buyer's, the seller's."""
        return self.buyer.owner, self.seller.owner

    def leaf(self) -> AnchorItem:
        """Return what stands for it under the root."""
        return AnchorItem(kind=AnchorKind.PROOF_ROOT, digest=self.proof_root)

    def dues(self, share: Sats) -> Split:
        """Return what its sides are owed when it bears ``share`` of the fee. Raises CollateralTooSmallError."""
        return dues_of(self.contract.collateral, self.cet, share)

    def path(self, digest: Hash32) -> KeyPath:
        """Return the signing of a digest by its key path. Raises InvalidInputError where the keys do not make it."""
        return KeyPath(
            self.contract, digest, buyer_key=self.buyer.key, seller_key=self.seller.key, what="the batch"
        )  # fmt: skip


def dues_of(collateral: Sats, cet: Split, share: Sats) -> Split:
    """Return what a contract's sides are owed when it bears ``share`` of the fee; dues + share = collateral.

    What the CET costs and the share does not take goes to where the CET took it: the seller, or the buyer of a
    contract of which the seller gets nothing. Raises CollateralTooSmallError.
    """
    both = cet.buyer + cet.seller
    costs = collateral - both
    if share <= costs:
        spare = costs - share
        back = (0, spare) if cet.seller else (spare, 0)
    else:
        extra = share - costs
        if extra > both:
            raise CollateralTooSmallError(collateral=collateral, needed=share)
        buyers = extra * cet.buyer // both
        back = (-buyers, buyers - extra)
    return Split(buyer=Sats(cet.buyer + back[0]), seller=Sats(cet.seller + back[1]))


def vsize_for(contracts: int, outputs: int) -> int:
    """Return the size of a batch of so many contracts that pays so many owners: each counted as Taproot's output."""
    return vsize_of(
        OVERHEAD_WEIGHT + contracts * P2TR_INPUT_WEIGHT + outputs * P2TR_OUTPUT_WEIGHT + _RECORD_WEIGHT
    )  # fmt: skip


def share_of(contracts: int, outputs: int, rate: SatsPerKvb) -> Sats:
    """Return what each contract bears of the fee, rounded up."""
    return Sats(-(-fee_for(vsize_for(contracts, outputs), rate) // contracts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The transaction, not signed yet. collateral of all = paid to all + fee; fee = shares + what is dust."""

    transaction: Transaction
    endings: tuple[Ending, ...]
    """In the order of the inputs."""
    rate: SatsPerKvb
    share: Sats
    """What each contract bears of the fee."""
    dues: Mapping[str, Sats]
    """Of each owner, its share of the fee taken."""
    paid: Mapping[str, Sats]
    """Each owner's output; 0 where its dues are dust, which then goes to the fee."""

    @property
    def spent(self) -> tuple[TxOut, ...]:
        """What its inputs spend."""
        return tuple(one.contract.funding_txout() for one in self.endings)

    @property
    def owners(self) -> tuple[str, ...]:
        """Everybody who has to sign, also who is paid nothing."""
        return tuple(self.dues)

    @property
    def fee(self) -> Sats:
        """What the transaction pays."""
        return Sats(sum(one.value for one in self.spent) - sum(self.paid.values()))

    @property
    def dropped(self) -> Mapping[str, Sats]:
        """What owners are owed and not paid, because it is dust."""
        return {owner: due for owner, due in self.dues.items() if due and not self.paid[owner]}

    def paid_each(self) -> tuple[Paid, ...]:
        """Return, in the order of the inputs, how it divides each collateral; what is an owner's dust is in the fee."""
        divided = []
        for one in self.endings:
            dues, (buyer, seller) = one.dues(self.share), one.owners
            parts = [due if self.paid[owner] else Sats(0)
                     for due, owner in ((dues.buyer, buyer), (dues.seller, seller))]  # fmt: skip
            fee = Sats(one.contract.collateral - sum(parts))
            divided.append(Paid(buyer=parts[0], seller=parts[1], anchor=Sats(0), fee=fee))
        return tuple(divided)

    def inputs_of(self, owner: str) -> tuple[int, ...]:
        """Return the inputs that an owner signs."""
        return tuple(index for index, one in enumerate(self.endings) if owner in one.owners)

    def paths(self, inputs: Iterable[int]) -> dict[int, KeyPath]:
        """Return the signing of these inputs."""
        return {index: self.endings[index].path(digest) for index, digest in
                taproot.key_path_sighashes(self.transaction, self.spent, inputs).items()}  # fmt: skip

    def proposal(self, owner: str, number: int) -> Proposal:
        """Return what one owner is asked. number: which proposal of this batch it is, from 1 on."""
        leaves = [one.leaf() for one in self.endings]
        return Proposal(
            number=number, transaction=self.transaction, spent=self.spent, rate=self.rate,
            branches={index: anchor_path(leaves, index) for index in self.inputs_of(owner)},
        )  # fmt: skip


def build_batch(endings: Sequence[Ending], scripts: Mapping[str, bytes], *, rate: SatsPerKvb) -> Batch:
    """Return the transaction that ends contracts, at most 128. Equal arguments in any order give equal bytes.

    scripts: where each owner is paid. Raises InvalidInputError, CollateralTooSmallError.
    """
    ordered = tuple(sorted(endings, key=lambda one: one.funding))
    owners = sorted({owner for one in ordered for owner in one.owners})
    _check_endings(ordered, owners, scripts)
    kept = _kept(ordered, owners, scripts, rate)
    share = share_of(len(ordered), len(kept), rate)
    dues = _dues(ordered, share)
    paid = {owner: dues[owner] if owner in kept else Sats(0) for owner in owners}
    root = anchor_root([one.leaf() for one in ordered])
    outputs = sorted(
        (TxOut(value=paid[owner], script=scripts[owner]) for owner in kept), key=lambda one: (one.script, one.value)
    )
    transaction = Transaction(
        version=TRUC_VERSION,
        inputs=tuple(TxIn(outpoint=one.funding, sequence=SEQUENCE_LOCKTIME) for one in ordered),
        outputs=(*outputs, TxOut(value=Sats(0), script=record_script(RecordType.ANCHOR, root))),
    )
    return Batch(
        transaction=transaction, endings=ordered, rate=rate, share=share,
        dues={owner: dues[owner] for owner in owners}, paid=paid,
    )  # fmt: skip


def _check_endings(endings: Sequence[Ending], owners: Sequence[str], scripts: Mapping[str, bytes]) -> None:
    if not 1 <= len(endings) <= MAX_CONTRACTS:
        raise InvalidInputError("batch contracts", f"{len(endings)}", f"1 to {MAX_CONTRACTS}")
    if len({one.funding for one in endings}) != len(endings):
        raise InvalidInputError("batch contracts", "one stands twice", "each collateral once")
    if alone := [one.funding for one in endings if one.buyer.owner == one.seller.owner]:
        raise InvalidInputError("batch contracts", f"{alone[0]} has one owner", "two owners")
    if missing := [owner for owner in owners if not is_known_program(scripts.get(owner, b""))]:
        raise InvalidInputError("batch scripts", f"none of {missing[0]} that we know", "P2TR, P2WPKH or P2WSH")
    if (size := vsize_for(len(endings), len(owners))) > MAX_VSIZE:
        raise InvalidInputError("batch contracts", f"{size:,} vB with all of them", f"at most {MAX_VSIZE:,} vB")


def _dues(endings: Sequence[Ending], share: Sats) -> dict[str, Sats]:
    dues: dict[str, int] = {}
    for one in endings:
        parts = one.dues(share)
        for owner, part in zip(one.owners, (parts.buyer, parts.seller), strict=True):
            dues[owner] = dues.get(owner, 0) + part
    return {owner: Sats(due) for owner, due in dues.items()}


def _kept(
    endings: Sequence[Ending], owners: Sequence[str], scripts: Mapping[str, bytes], rate: SatsPerKvb
) -> frozenset[str]:
    """Return who is paid: as many as can be. Whoever is left out would have dust, were it paid beside them."""

    def over_dust(outputs: int) -> dict[str, int]:
        dues = _dues(endings, share_of(len(endings), outputs, rate))
        return {owner: dues[owner] - dust_limit(scripts[owner]) for owner in owners}

    more = dict.fromkeys(owners, 0)  # as if one more were paid
    for outputs in range(len(owners), 0, -1):
        over = over_dust(outputs)
        viable = [owner for owner in owners if over[owner] >= 0]
        if len(viable) >= outputs:
            return frozenset(sorted(viable, key=lambda owner: (-more[owner], owner))[:outputs])
        more = over
    total = Sats(sum(one.contract.collateral for one in endings))  # nobody would be paid
    raise CollateralTooSmallError(collateral=total, needed=Sats(fee_for(vsize_for(len(endings), 1), rate) + DUST_P2TR))


# ---- which contracts go together


def divide(endings: Sequence[Ending]) -> list[tuple[Ending, ...]]:
    """Return contracts in as few batches as fit: those of the same two owners side by side, so that outputs are few."""
    found: list[list[Ending]] = []
    owners: set[str] = set()
    for one in sorted(endings, key=lambda one: (sorted(one.owners), one.funding)):
        together = owners | set(one.owners)
        if not found or len(found[-1]) == MAX_CONTRACTS or vsize_for(len(found[-1]) + 1, len(together)) > MAX_VSIZE:
            found.append([])
            together = set(one.owners)
        found[-1].append(one)
        owners = together
    return [tuple(some) for some in found]


# ---- one party's view


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What one owner is asked to sign. Nothing in it is believed."""

    number: int
    transaction: Transaction
    spent: tuple[TxOut, ...]
    rate: SatsPerKvb
    branches: Mapping[int, tuple[Hash32, ...]]
    """From each of its own contracts' proof roots to the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A contract that one is in, by one's own records alone."""

    ending: Ending
    role: Role
    guest_input: bytes = b""
    """Of its settlement, which its mandate may ask for."""

    @property
    def side(self) -> Side:
        """Our side of it."""
        return self.ending.buyer if self.role is Role.BUYER else self.ending.seller

    def due(self, share: Sats) -> Sats:
        """Return what we are owed of it."""
        parts = self.ending.dues(share)
        return parts.buyer if self.role is Role.BUYER else parts.seller


def check_proposal(
    proposal: Proposal, holdings: Mapping[OutPoint, Holding], script: bytes, *, ours: Collection[OutPoint]
) -> dict[int, Holding]:  # fmt: skip
    """Compare a proposal with one's own records, and return one's own contracts by input.

    holdings: by funding outpoint. script: where we are paid. ours: of every contract of ours, may it end here or not,
    as our records have them now. Each of them that it spends is counted, or the proposal is refused: shown a part of
    ours at a time, we would take one output for the due of each. Raises InvalidInputError naming what is not as it must
    be.
    """
    made, spent = proposal.transaction, proposal.spent
    _check_shape(made, spent)
    strange = [txin.outpoint for txin in made.inputs if txin.outpoint in ours and txin.outpoint not in holdings]
    if strange:
        problem = f"{strange[0]} is a contract of ours that is not counted here"
        raise InvalidInputError("batch.inputs", problem, "none of ours but those that may end together")
    own = {
        index: holdings[txin.outpoint] for index, txin in enumerate(made.inputs) if txin.outpoint in holdings
    }  # fmt: skip
    if not own:
        raise InvalidInputError("batch.inputs", "none of them is a contract of ours", "at least one")
    for index, one in own.items():
        _same(f"batch.spent.{index}", spent[index], one.ending.contract.funding_txout())
    _check_own_output(proposal, list(own.values()), script)
    _check_root(proposal, own)
    return own


def _check_shape(made: Transaction, spent: Sequence[TxOut]) -> None:
    _same("batch.version", made.version, TRUC_VERSION)
    _same("batch.lock_time", made.lock_time, 0)
    if not 1 <= len(made.inputs) <= MAX_CONTRACTS:
        raise InvalidInputError("batch.inputs", f"{len(made.inputs)}", f"1 to {MAX_CONTRACTS}")
    _same("batch.spent", len(spent), len(made.inputs))
    if len({txin.outpoint for txin in made.inputs}) != len(made.inputs):
        raise InvalidInputError("batch.inputs", "one outpoint is named twice", "each outpoint once")
    if any(txin.script_sig or txin.witness or txin.sequence != SEQUENCE_LOCKTIME for txin in made.inputs):
        raise InvalidInputError("batch.inputs", "one has a script, a witness or a sequence of its own", "none")
    if not made.outputs or any(not is_known_program(one.script) for one in made.outputs[:-1]):
        raise InvalidInputError("batch.outputs", "one is of another type", "P2TR, P2WPKH or P2WSH, then the root")
    if any(one.value < dust_limit(one.script) for one in made.outputs):
        raise InvalidInputError("batch.outputs", "one is dust", "what a node relays")
    if len(made.outputs) - 1 > 2 * len(made.inputs):
        raise InvalidInputError("batch.outputs", f"{len(made.outputs) - 1} paid", f"{2 * len(made.inputs)} at most")


def _check_own_output(proposal: Proposal, own: Sequence[Holding], script: bytes) -> None:
    made = proposal.transaction
    contracts, paid = len(made.inputs), len(made.outputs) - 1
    needed = fee_for(vsize_for(contracts, paid), proposal.rate)
    pays = sum(one.value for one in proposal.spent) - sum(one.value for one in made.outputs)
    if pays < needed:
        raise InvalidInputError("batch.fee", f"{pays:,} sats", f"{needed:,} or more, at the rate that it names")
    share = share_of(contracts, paid, proposal.rate)
    due = sum(one.due(share) for one in own)
    outputs = [one.value for one in made.outputs if one.script == script]
    if due in outputs:
        return
    beside = sum(one.due(share_of(contracts, paid + 1, proposal.rate)) for one in own)  # were we paid, too
    if outputs or beside >= dust_limit(script):
        problem = ", ".join(f"{value:,} sats" for value in outputs) or "missing"
        raise InvalidInputError("batch.output", problem, f"{due:,} sats, by our own contracts")


def _check_root(proposal: Proposal, own: Mapping[int, Holding]) -> None:
    record = read_record(proposal.transaction.outputs[-1].script)
    if record is None or record[0] is not RecordType.ANCHOR:
        raise InvalidInputError("batch.root", "no record of it", "the root of all proof roots, last")
    for index, one in own.items():
        if _root_by(proposal, index, one.ending) != record[1]:
            raise InvalidInputError(f"batch.root.{index}", "does not hold our proof root", "the root of all of them")


def _root_by(proposal: Proposal, index: int, ending: Ending) -> Hash32 | None:
    branch = proposal.branches.get(index, ())
    try:
        return root_from_path(ending.leaf().leaf(), index, len(proposal.transaction.inputs), branch)
    except WrongAnchorError:  # of another length
        return None


def _same(name: str, value: object, expected: object) -> None:
    if value != expected:
        raise InvalidInputError(name, f"{value}", f"{expected}")


@dataclass(slots=True)
class _Try:
    """What one party keeps of a proposal between its two rounds: in memory, and nowhere else."""

    proposal: Proposal
    own: dict[int, Holding]
    paths: dict[int, KeyPath]
    nonces: dict[int, SecretNonce] = field(repr=False)


class Seat:
    """One party's part in a batch: it answers a proposal with nonces, and all nonces with partial signatures.

    Nonces are of one input, one proposal and one transaction, and live in this object alone. Whoever dies between the
    rounds has a new seat, which knows none: that costs the others a try, and never a key.
    """

    def __init__(self, holdings: Sequence[Holding], *, script: bytes) -> None:
        """Take the contracts that may end together. script: where all of it is paid to, by our own records."""
        self._holdings = {one.ending.funding: one for one in holdings}
        self._script = script
        self._current: _Try | None = None
        self._signed: Proposal | None = None
        self._last, self._answered = 0, 0
        self._used: set[bytes] = set()

    @property
    def txid(self) -> Txid | None:
        """Of what our nonces are for; None where we have given none, or have used them up."""
        return None if self._current is None else self._current.proposal.transaction.txid

    @property
    def ends(self) -> tuple[OutPoint, ...]:
        """The contracts of ours that end by it; none where ``txid`` is None."""
        own = () if self._current is None else self._current.own.values()
        return tuple(one.ending.funding for one in own)

    def is_whole(self, made: Transaction) -> bool:
        """Return whether a transaction is the one that we have signed last, with the signatures of our inputs.

        Of inputs that are none of ours a node tells.
        """
        signed = self._signed
        if signed is None or made.txid != signed.transaction.txid:
            return False
        ours = [index for index, txin in enumerate(made.inputs) if txin.outpoint in self._holdings]
        digests = taproot.key_path_sighashes(signed.transaction, signed.spent, ours)
        return all(
            len(made.inputs[index].witness) == 1
            and secp256k1.schnorr_verify(signed.spent[index].script[2:], digest, made.inputs[index].witness[0])
            for index, digest in digests.items()
        )

    def consider(
        self, proposal: Proposal, secrets: Mapping[OutPoint, bytes], *, ours: Collection[OutPoint],
        authority: Authority, entropy: bytes,
    ) -> dict[int, bytes]:  # fmt: skip
        """Return our public nonces by input, after all is checked. What an earlier proposal left is forgotten.

        secrets: of our contract keys, by funding outpoint. ours: as ``check_proposal`` has it, looked up anew for each
        proposal. entropy: 32 random bytes, never used before. Raises InvalidInputError and NotAskedError naming the
        lie, and what ``Authority.check_close`` raises.
        """
        if proposal.number <= self._last or self._answered == MAX_PROPOSALS:
            raise NotAskedError(proposal.number, "is not a later one than the last, or one too many")
        if len(entropy) != _ENTROPY_SIZE or entropy in self._used:
            raise InvalidInputError("nonce entropy", "used before, or no 32 bytes", "32 fresh random bytes")
        own = check_proposal(proposal, self._holdings, self._script, ours=ours)
        _ask(proposal, own, authority)
        digests = taproot.key_path_sighashes(proposal.transaction, proposal.spent, own)
        paths = {index: one.ending.path(digests[index]) for index, one in own.items()}
        self._used.add(entropy)
        nonces = {
            index: path.nonce(
                secrets[own[index].ending.funding],
                tagged_hash(_NONCE_TAG, entropy + proposal.number.to_bytes(4) + index.to_bytes(4)),
            )
            for index, path in paths.items()
        }
        self._last, self._answered = proposal.number, self._answered + 1
        self._current = _Try(proposal, own, paths, nonces)
        return {index: one.public for index, one in nonces.items()}

    def sign(
        self, number: int, nonces: Mapping[int, tuple[bytes, bytes]], secrets: Mapping[OutPoint, bytes], *,
        authority: Authority,
    ) -> dict[int, bytes]:  # fmt: skip
        """Return our partial signatures by input; our nonces are used up.

        nonces: of each of our inputs the buyer's and the seller's. Raises NotAskedError for another proposal than the
        last, or a second time; InvalidInputError, and what ``Authority.check_close`` raises, before any is signed.
        """
        current = self._current
        if current is None or current.proposal.number != number:
            raise NotAskedError(number, "has no nonces of ours: it is another, was signed, or we began anew")
        for index, own in current.own.items():
            both = nonces.get(index)
            if both is None:
                raise InvalidInputError(f"nonces.{index}", "missing", "the buyer's and the seller's")
            aggregate_nonces(both)
            mine = both[0 if own.role is Role.BUYER else 1]
            _same(f"nonces.{index}", mine.hex(), current.nonces[index].public.hex())
        _ask(current.proposal, current.own, authority)
        self._current, self._signed = None, current.proposal
        return {
            index: path.sign(
                secrets[current.own[index].ending.funding], current.nonces[index], nonces[index]
            )
            for index, path in current.paths.items()
        }  # fmt: skip


def _ask(proposal: Proposal, own: Mapping[int, Holding], authority: Authority) -> None:
    """Ask the owner's mandate for each contract, as for a close of it at the CET's amount."""
    share = share_of(len(proposal.transaction.inputs), len(proposal.transaction.outputs) - 1, proposal.rate)
    for one in own.values():
        authority.check_close(
            payout=one.ending.cet.buyer, rate=proposal.rate, fee=share, guest_input=one.guest_input
        )  # fmt: skip
