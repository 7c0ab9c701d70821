"""The option contract: its funding output, and the transactions that pay it out.

Pure: transactions in, transactions out; keys are arguments and never stored. Sums are exact: what goes in is what
comes out plus the fee, to the satoshi, and no output is below dust.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.taproot import NUMS_KEY, TaprootOutput
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, SEQUENCE_RBF, OutPoint, Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.bitcoin.witness import WrongWitnessError, check_witness
from btcfi.contracts import leaves
from btcfi.contracts.leaves import LeafKeys
from btcfi.contracts.metadata import OptionMetadata, RecordType, record_script
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import sha256
from btcfi.units import Hash32, Height, Sats

FUNDING_OUTPUT: Final = 0
"""Index of the collateral in every funding transaction."""

SECONDS_PER_BLOCK: Final = 600
"""On average."""

MIN_REFUND_DELAY: Final = 144
"""Blocks between the expiry height and the refund height, about a day: time to settle at high fees."""


class RefundTooEarlyError(InvalidInputError):
    """The seller could take the collateral back before the settlement had its time."""

    def __init__(self, *, refund_height: Height, expiry_height: Height, delay: int) -> None:
        super().__init__("refund height", f"{refund_height}", f"at least {expiry_height + delay} (expiry + {delay})")
        self.refund_height, self.expiry_height = refund_height, expiry_height


class PayoutOutOfRangeError(InvalidInputError):
    """A payout that the collateral does not cover."""

    def __init__(self, *, payout: Sats, collateral: Sats) -> None:
        super().__init__("payout", f"{payout} sats", f"0 to the collateral, {collateral} sats")
        self.payout, self.collateral = payout, collateral


class CollateralTooSmallError(InvalidInputError):
    """The collateral does not pay for its own settlement."""

    def __init__(self, *, collateral: Sats, needed: Sats) -> None:
        super().__init__("collateral", f"{collateral} sats", f"at least {needed} sats")
        self.collateral, self.needed = collateral, needed


class WrongSignatureError(BtcfiError):
    """A signature does not belong to this transaction and this party."""

    def __init__(self, *, party: str, what: str, problem: str = "not valid") -> None:
        super().__init__(f"{party}'s signature of {what} is {problem}; nothing was signed after it")
        self.party, self.what = party, what


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionContract:
    """What both parties agree on about the chain side of one option."""

    buyer_key: bytes
    """x-only key with which the buyer signs by script, 32 bytes."""
    seller_key: bytes
    buyer_script: bytes
    """Where the payout goes."""
    seller_script: bytes
    """Where the rest of the collateral, and the premium, go."""
    collateral: Sats
    """Value of the funding output: the most that the buyer can get, fees included."""
    expiry_height: Height
    """nLockTime of the settlement: no block below or at it can hold one."""
    refund_height: Height
    internal_key: bytes = NUMS_KEY
    """Key path: MuSig2 of both parties, or nobody's."""
    tree: str = "standard"
    """A name in ``leaves.TREES``, or ``leaves.NETTED``."""
    release_hash: Hash32 | None = None
    min_refund_delay: int = MIN_REFUND_DELAY
    """From the preset; a demo that mines its own blocks may take less."""
    nearest_dust: bool = False
    """What ``split`` makes of a part below dust: from version 3 of contracts on the nearer of nothing and the limit."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError unless keys are points, heights are in order and the collateral is no dust."""
        for name, key in (("buyer key", self.buyer_key), ("seller key", self.seller_key)):
            if not secp256k1.is_xonly_key(key):
                raise InvalidInputError(name, "is not on the curve", "the x coordinate of a point, 32 bytes")
        if self.buyer_key == self.seller_key:
            raise InvalidInputError("keys", "buyer's and seller's are the same", "two keys")
        if self.refund_height < self.expiry_height + self.min_refund_delay:
            raise RefundTooEarlyError(
                refund_height=self.refund_height, expiry_height=self.expiry_height, delay=self.min_refund_delay
            )
        if self.collateral < 2 * DUST_P2TR:
            raise CollateralTooSmallError(collateral=self.collateral, needed=Sats(2 * DUST_P2TR))

    @property
    def keys(self) -> LeafKeys:
        """What the leaf scripts name."""
        return LeafKeys(
            buyer=self.buyer_key,
            seller=self.seller_key,
            refund_height=self.refund_height,
            release_hash=self.release_hash,
        )

    def output(self) -> TaprootOutput:
        """Return the Taproot output of the collateral."""
        return leaves.funding_output(self.internal_key, self.tree, self.keys)

    def funding_txout(self) -> TxOut:
        """Return the funding output: value and script."""
        return TxOut(value=self.collateral, script=self.output().script)


# ---- funding


def expected_height(tip: Height, seconds: int) -> Height:
    """Return the height that the chain is expected to have ``seconds`` after ``tip``: the tip's for what has passed."""
    return Height(tip + max(0, seconds) // SECONDS_PER_BLOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one party puts into the funding."""

    coins: tuple[Coin, ...]
    """Named outpoints of its wallet; they must cover its amount and its share of the fee."""
    change_script: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Funding:
    """A funding transaction, not signed yet, with the outputs that it spends."""

    transaction: Transaction
    spent: tuple[TxOut, ...]
    seller_inputs: int
    """The first so many inputs are the seller's, the rest the buyer's."""
    fee: Sats
    seller_fee: Sats
    """The seller's part of it; the rest is the buyer's."""

    @property
    def outpoint(self) -> OutPoint:
        """The collateral's outpoint."""
        return self.transaction.outpoint(FUNDING_OUTPUT)


def build_funding(
    contract: OptionContract,
    *,
    premium: Sats,
    seller: Contribution,
    buyer: Contribution,
    rate: SatsPerKvb,
    metadata: OptionMetadata | None = None,
) -> Funding:
    """Return the transaction that pays the collateral into the contract and the premium to the seller, atomically.

    Outputs: collateral, premium (if any), seller's change, buyer's change, metadata. The seller pays the fee of the
    common parts, its inputs and change; the buyer that of the premium output, its inputs and change. Change below
    dust goes to the fee. Both parties compute the same bytes. Raises InsufficientFundsError, InvalidInputError for a
    premium below dust (0 means none).
    """
    if 0 < premium < DUST_P2TR:
        raise InvalidInputError("premium", f"{premium} sats", f"0, or at least {DUST_P2TR} sats (the dust limit)")
    outputs = [contract.funding_txout()]
    if premium:
        outputs.append(TxOut(value=premium, script=contract.seller_script))
    carrier = [TxOut(value=Sats(0), script=metadata.script())] if metadata else []
    seller_weight = OVERHEAD_WEIGHT + sum(4 * len(output.to_bytes()) for output in (outputs[0], *carrier))
    buyer_weight = sum(4 * len(output.to_bytes()) for output in outputs[1:])
    seller_change, seller_fee = change_of(seller, amount=contract.collateral, weight=seller_weight, rate=rate)
    buyer_change, buyer_fee = change_of(buyer, amount=premium, weight=buyer_weight, rate=rate)
    outputs += [*seller_change, *buyer_change, *carrier]
    coins = seller.coins + buyer.coins
    if len({coin.outpoint for coin in coins}) != len(coins):
        raise InvalidInputError("funding inputs", "one outpoint is named twice", "each outpoint once")
    return Funding(
        transaction=Transaction(
            version=2,
            inputs=tuple(TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_LOCKTIME) for coin in coins),
            outputs=tuple(outputs),
        ),
        spent=tuple(coin.output for coin in coins),
        seller_inputs=len(seller.coins),
        fee=Sats(seller_fee + buyer_fee),
        seller_fee=seller_fee,
    )


def seller_fee(coins: int, rate: SatsPerKvb) -> Sats:
    """Return the least fee of a funding that its seller pays, without change and metadata: known before its buyer is.

    coins: how many it brings.
    """
    return fee_for(vsize_of(OVERHEAD_WEIGHT + P2TR_OUTPUT_WEIGHT + coins * P2TR_INPUT_WEIGHT), rate)


def change_of(party: Contribution, *, amount: int, weight: int, rate: SatsPerKvb) -> tuple[list[TxOut], Sats]:
    """Return a party's change output, if it is worth one, and the fee that it pays.

    amount: satoshis that it brings; below zero: gets. weight: what it pays the fee of, its inputs and change apart.
    Raises InsufficientFundsError.
    """
    available = sum(coin.value for coin in party.coins)
    bare_fee = fee_for(vsize_of(weight + len(party.coins) * P2TR_INPUT_WEIGHT), rate)
    with_change = fee_for(vsize_of(weight + len(party.coins) * P2TR_INPUT_WEIGHT + P2TR_OUTPUT_WEIGHT), rate)
    if available < amount + bare_fee:
        raise InsufficientFundsError(available=Sats(available), needed=Sats(amount + bare_fee))
    change = available - amount - with_change
    if change < dust_limit(party.change_script):
        return [], Sats(available - amount)
    return [TxOut(value=Sats(change), script=party.change_script)], with_change


def sign_funding(
    funding: Funding, keys: Mapping[bytes, TaprootKey], *, inputs: Iterable[int], aux: bytes = bytes(32)
) -> dict[int, tuple[bytes, ...]]:
    """Return the witnesses of ``inputs``, by input index, of those whose output scripts are among ``keys``.

    inputs: what the agreement books for the side that signs. Every other input stays unsigned, also where a key of
    ours fits: the other side names its inputs, and may name a coin of ours.
    """
    return {
        index: (keys[funding.spent[index].script].sign_input(funding.transaction, index, funding.spent, aux),)
        for index in inputs
        if funding.spent[index].script in keys
    }


def complete_funding(funding: Funding, witnesses: Mapping[int, Sequence[bytes]]) -> Transaction:
    """Return the signed funding transaction. Raises WrongSignatureError for a missing or wrong witness."""
    transaction = funding.transaction
    for index in range(len(funding.spent)):
        witness = tuple(witnesses.get(index, ()))
        check_funding_witness(funding, index, witness)
        transaction = transaction.with_witness(index, witness)
    return transaction


def check_funding_witness(funding: Funding, index: int, witness: Sequence[bytes]) -> None:
    """Check the witness of one funding input. Raises WrongSignatureError naming the party and the input.

    One valid signature of the whole transaction by the coin's key: Taproot's key path, or a segwit v0 key hash. A
    coin of any other script is refused; its witness could not be told from rubbish before the funding is sent.
    """
    try:
        check_witness(funding.transaction, index, funding.spent, witness)
    except WrongWitnessError as e:
        party = "seller" if index < funding.seller_inputs else "buyer"
        raise WrongSignatureError(party=party, what=f"funding input {index}", problem=e.problem) from e


# ---- paying the collateral out by a leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A transaction that pays the collateral out, not signed yet. payout + seller_return + fee = collateral."""

    transaction: Transaction
    contract: OptionContract
    path: str
    """The leaf that it spends: a name in ``leaves.LEAVES``."""
    payout: Sats
    """The buyer's output; 0 when there is none."""
    seller_return: Sats
    fee: Sats

    def sighash(self) -> Hash32:
        """Return what the parties sign."""
        leaf = leaves.leaf(self.path, self.contract.keys)
        return taproot.sighash(
            self.transaction, 0, [self.contract.funding_txout()], leaf=taproot.leaf_hash(leaf.script)
        )


def split(collateral: Sats, payout: Sats, fee: Sats, *, nearest: bool = False) -> tuple[Sats, Sats]:
    """Return (buyer's, seller's) part of the collateral after the fee, both 0 or at least 330 sats.

    The fee comes out of the seller's part, and out of the buyer's for what that cannot cover. A part below dust goes
    to the other side; with ``nearest`` (contracts from version 3 on) one of 165 to 329 sats becomes 330 instead, where
    the collateral has as much for both. Raises PayoutOutOfRangeError, CollateralTooSmallError.
    """
    if not 0 <= payout <= collateral:
        raise PayoutOutOfRangeError(payout=payout, collateral=collateral)
    if collateral - fee < DUST_P2TR:
        raise CollateralTooSmallError(collateral=collateral, needed=Sats(fee + DUST_P2TR))
    both = collateral - fee
    buyer = min(payout, both)
    raised = nearest and both >= 2 * DUST_P2TR
    if buyer < DUST_P2TR:
        buyer = DUST_P2TR if raised and 2 * buyer >= DUST_P2TR else 0
    elif (seller := both - buyer) < DUST_P2TR:
        buyer = both - DUST_P2TR if raised and 2 * seller >= DUST_P2TR else both
    return Sats(buyer), Sats(both - buyer)


def build_release(
    contract: OptionContract, funding: OutPoint, *, payout: Sats, proof_root: Hash32, rate: SatsPerKvb
) -> Settlement:
    """Return the settlement of a "proof required" contract: buyer's payout, seller's rest, the proof root in OP_RETURN.

    Both parties sign it, and its witness shows the release secret. payout: what the guest computed. The fee is that of
    the full transaction (both outputs) at ``rate``, taken from the seller's part. Raises as ``split``.
    """
    record = TxOut(value=Sats(0), script=record_script(RecordType.SETTLEMENT_PROOF, proof_root))
    weight = _spend_weight(contract, "release") + 2 * P2TR_OUTPUT_WEIGHT + 4 * len(record.to_bytes())
    fee = fee_for(vsize_of(weight), rate)
    buyer, seller = split(contract.collateral, payout, fee, nearest=contract.nearest_dust)
    outputs = [TxOut(value=buyer, script=contract.buyer_script)] if buyer else []
    outputs += [TxOut(value=seller, script=contract.seller_script)] if seller else []
    transaction = Transaction(
        version=2,
        inputs=(TxIn(outpoint=funding, sequence=SEQUENCE_LOCKTIME),),
        outputs=(*outputs, record),
        lock_time=contract.expiry_height,
    )
    return Settlement(
        transaction=transaction, contract=contract, path="release", payout=buyer, seller_return=seller, fee=fee
    )


def build_refund(
    contract: OptionContract,
    funding: OutPoint,
    *,
    rate: SatsPerKvb,
    least: Sats | None = None,
    most: Sats | None = None,
) -> Settlement:
    """Return the seller's refund: minable from the refund height on, the whole collateral less the fee.

    least, most: bounds of the fee; one that replaces another must pay at least so much.
    """
    fee = max(least or 0, fee_for(vsize_of(_spend_weight(contract, "refund") + P2TR_OUTPUT_WEIGHT), rate))
    fee = Sats(fee if most is None else min(fee, most))
    _, seller = split(contract.collateral, Sats(0), fee)
    transaction = Transaction(
        version=2,
        inputs=(TxIn(outpoint=funding, sequence=SEQUENCE_RBF),),
        outputs=(TxOut(value=seller, script=contract.seller_script),),
        lock_time=contract.refund_height,
    )
    return Settlement(
        transaction=transaction, contract=contract, path="refund", payout=Sats(0), seller_return=seller, fee=fee
    )


def _spend_weight(contract: OptionContract, path: str) -> int:
    input_weight = 4 * 41
    return OVERHEAD_WEIGHT + input_weight + leaves.witness_weight(path, contract.keys, contract.output())


def sign_settlement(settlement: Settlement, secret: bytes, *, party: str, aux: bytes = bytes(32)) -> bytes:
    """Return the 64-byte signature of ``party``, "buyer" or "seller", for what this spend needs of it.

    Raises InvalidInputError when the spend needs no signature of that party, or the secret is not that party's.
    """
    keys = {"seller": settlement.contract.seller_key, "buyer": settlement.contract.buyer_key}
    signers = [name for name in leaves.LEAVES[settlement.path].witness if name in keys]
    if party not in signers:
        raise InvalidInputError("party", f"{party!r} signs no {settlement.path}", " or ".join(signers))
    if secp256k1.public_key_xonly(secret) != keys[party]:
        raise InvalidInputError("secret key", f"is not the {party}'s of this contract", f"the {party}'s")
    return secp256k1.schnorr_sign(secret, settlement.sighash(), aux)


def complete_settlement(
    settlement: Settlement, *, seller: bytes, buyer: bytes | None = None, secret: bytes | None = None
) -> Transaction:
    """Return the signed transaction. Raises WrongSignatureError before a wrong signature can reach a node."""
    digest = settlement.sighash()
    parts = {"seller": seller}
    if buyer is not None:
        parts["buyer"] = buyer
    keys = {"seller": settlement.contract.seller_key, "buyer": settlement.contract.buyer_key}
    for party in leaves.LEAVES[settlement.path].witness:
        if party in keys and not secp256k1.schnorr_verify(keys[party], digest, parts.get(party, b"")):
            raise WrongSignatureError(party=party, what=f"the {settlement.path} transaction")
    if "secret" in leaves.LEAVES[settlement.path].witness:
        if secret is None or sha256(secret) != settlement.contract.release_hash:
            raise InvalidInputError("release secret", "does not hash to the contract's hash", "the operator's secret")
        parts["secret"] = secret
    witness = leaves.witness_of(settlement.path, settlement.contract.keys, settlement.contract.output(), parts)
    return settlement.transaction.with_witness(0, witness)
