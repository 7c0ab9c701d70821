"""Closing by agreement: one MuSig2 signature on the key path pays the collateral out as both parties say now.

Early exercise, roll and an agreed settlement look alike on the chain: a single signature. Order: both build the same
transaction, exchange public nonces, exchange partial signatures; whoever has both broadcasts. The payout of an early
exercise is what the guest computes at the current price; both run it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin import taproot
from btcfi.bitcoin.fees import OVERHEAD_WEIGHT, P2TR_INPUT_WEIGHT, P2TR_OUTPUT_WEIGHT, SatsPerKvb, fee_for, vsize_of
from btcfi.bitcoin.musig import KeyAggregate, SecretNonce, Session
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, OutPoint, Transaction, TxIn, TxOut
from btcfi.contracts.mandate import Authority
from btcfi.contracts.metadata import RecordType, record_script
from btcfi.contracts.option import OptionContract, WrongSignatureError, split
from btcfi.errors import InvalidInputError
from btcfi.units import Hash32, Sats

_SIGNATURE_SIZE: Final = 64
"""With the default sighash, as ``taproot.sighash`` is: it has no byte of its own."""
_KEY_SIZE: Final = 32

_PARTIES: Final = ("buyer", "seller")
"""In the order of the key aggregate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """A cooperative close, not signed yet. payout + seller_return + fee = collateral (+ what a roll adds)."""

    transaction: Transaction
    contract: OptionContract
    payout: Sats
    """The buyer's output; 0 when there is none."""
    seller_return: Sats
    fee: Sats
    asked: Sats
    """The payout that was asked for, before fees and dust."""
    rate: SatsPerKvb
    guest_input: bytes
    """On which the guest computes it; empty when the parties just agree."""

    def sighash(self) -> Hash32:
        """Return what both sign."""
        return taproot.sighash(self.transaction, 0, [self.contract.funding_txout()])


def build_close(
    contract: OptionContract,
    funding: OutPoint,
    *,
    payout: Sats,
    rate: SatsPerKvb,
    proof_root: Hash32 | None = None,
    guest_input: bytes = b"",
    roll_into: TxOut | None = None,
) -> Close:
    """Return the close that pays the buyer ``payout`` now, the seller the rest, less the fee.

    proof_root: of the run that computed an early exercise, on ``guest_input``. roll_into: the funding output of the
    next contract; its value comes out of the seller's part first. Raises as ``option.split``, and InvalidInputError
    when the seller's part does not cover the next contract.
    """
    record = [TxOut(value=Sats(0), script=record_script(RecordType.SETTLEMENT_PROOF, proof_root))] if proof_root else []
    extra = [*([roll_into] if roll_into else []), *record]
    weight = OVERHEAD_WEIGHT + P2TR_INPUT_WEIGHT + 2 * P2TR_OUTPUT_WEIGHT
    fee = fee_for(vsize_of(weight + sum(4 * len(output.to_bytes()) for output in extra)), rate)
    rolled = roll_into.value if roll_into else 0
    if rolled and rolled > contract.collateral - payout - fee:
        covered = contract.collateral - payout - fee
        raise InvalidInputError("roll", f"{rolled} sats", f"at most what is left to the seller, {covered} sats")
    buyer, seller = split(Sats(contract.collateral - rolled), payout, fee, nearest=contract.nearest_dust)
    outputs = [TxOut(value=buyer, script=contract.buyer_script)] if buyer else []
    outputs += [TxOut(value=seller, script=contract.seller_script)] if seller else []
    transaction = Transaction(
        version=2,
        inputs=(TxIn(outpoint=funding, sequence=SEQUENCE_LOCKTIME),),
        outputs=(*outputs, *extra),
    )
    return Close(
        transaction=transaction, contract=contract, payout=buyer, seller_return=seller, fee=fee, asked=payout,
        rate=rate, guest_input=guest_input,
    )  # fmt: skip


def signed_by_both(contract: OptionContract, transaction: Transaction) -> bool:
    """Return whether a transaction's one input spends a contract's output by the one signature of both its sides."""
    return len(transaction.inputs) == 1 and spent_by_both(contract, transaction, 0, [contract.funding_txout()])


def spent_by_both(contract: OptionContract, transaction: Transaction, index: int, spent: Sequence[TxOut]) -> bool:
    """Return whether one input of a transaction spends a contract's output by the one signature of both its sides.

    spent: what all its inputs spend, which that signature is over.
    """
    witness, output = transaction.inputs[index].witness, contract.funding_txout()
    if len(witness) != 1 or len(witness[0]) != _SIGNATURE_SIZE or spent[index] != output:
        return False
    digest = taproot.sighash(transaction, index, spent)
    return secp256k1.schnorr_verify(output.script[-_KEY_SIZE:], digest, witness[0])


class KeyPath:
    """One side's view of signing one transaction by a contract's key path. Both pass the same keys, buyer's first."""

    def __init__(
        self, contract: OptionContract, digest: Hash32, *, buyer_key: bytes, seller_key: bytes, what: str
    ) -> None:  # fmt: skip
        """Aggregate the compressed keys. Raises InvalidInputError when they are not the contract's key path.

        digest: what both sign. what: its name in a refusal.
        """
        self._digest, self._what = digest, what
        self._aggregate = KeyAggregate((buyer_key, seller_key))
        if self._aggregate.xonly != contract.internal_key:
            raise InvalidInputError("keys", "do not make the contract's key path", "buyer's and seller's contract keys")
        self._aggregate.taproot_tweak(contract.output().root)

    def nonce(self, secret: bytes, entropy: bytes) -> SecretNonce:
        """Return a fresh nonce for this transaction; ``entropy`` is 32 random bytes, never used before."""
        return SecretNonce(secret=secret, entropy=entropy, message=self._digest, aggregate=self._aggregate)

    def sign(self, secret: bytes, nonce: SecretNonce, public_nonces: Sequence[bytes]) -> bytes:
        """Return one side's partial signature; what its owner allows the caller has asked. Raises as ``musig``."""
        return self._session(public_nonces).sign(secret, nonce)

    def check(self, party: str, public_nonces: Sequence[bytes], partial: bytes) -> None:
        """Check one party's partial signature. Raises WrongSignatureError naming the party."""
        if not self._session(public_nonces).partial_is_valid(_PARTIES.index(party), partial):
            raise WrongSignatureError(party=party, what=self._what)

    def finish(self, public_nonces: Sequence[bytes], partials: Sequence[bytes]) -> bytes:
        """Return the signature of both. Raises WrongSignatureError naming the party whose part is wrong."""
        for party, partial in zip(_PARTIES, partials, strict=True):
            self.check(party, public_nonces, partial)
        return self._session(public_nonces).aggregate(partials)

    def _session(self, public_nonces: Sequence[bytes]) -> Session:
        return Session(self._aggregate, public_nonces, self._digest)


class Closing:
    """One side's view of the signing of a close. Both pass the same compressed keys, buyer's first."""

    def __init__(self, close: Close, *, buyer_key: bytes, seller_key: bytes) -> None:
        """Aggregate the keys. Raises InvalidInputError when they are not the contract's key path."""
        self.close = close
        self._path = KeyPath(
            close.contract, close.sighash(), buyer_key=buyer_key, seller_key=seller_key, what="the cooperative close"
        )

    def nonce(self, secret: bytes, entropy: bytes) -> SecretNonce:
        """Return a fresh nonce for this close; ``entropy`` is 32 random bytes, never used before."""
        return self._path.nonce(secret, entropy)

    def ask(self, authority: Authority) -> None:
        """Ask the owner's mandate about this close. Raises what ``Authority.check_close`` raises."""
        close = self.close
        authority.check_close(payout=close.asked, rate=close.rate, fee=close.fee, guest_input=close.guest_input)

    def sign(self, secret: bytes, nonce: SecretNonce, public_nonces: Sequence[bytes], *, authority: Authority) -> bytes:
        """Return our partial signature of this close of this contract; the nonce is used up.

        public_nonces: buyer's, seller's. Raises what ``Authority.check_close`` raises, and InvalidInputError for a
        secret that is neither party's, a nonce of another key or another close, or one that does not stand in its
        party's place; the nonce stays unused.
        """
        self.ask(authority)
        return self._path.sign(secret, nonce, public_nonces)

    def check(self, party: str, public_nonces: Sequence[bytes], partial: bytes) -> None:
        """Check one party's partial signature before ours is made. Raises WrongSignatureError naming the party."""
        self._path.check(party, public_nonces, partial)

    def finish(self, public_nonces: Sequence[bytes], partials: Sequence[bytes]) -> Transaction:
        """Return the signed close. Raises WrongSignatureError naming the party whose part is wrong."""
        return self.close.transaction.with_witness(0, [self._path.finish(public_nonces, partials)])
