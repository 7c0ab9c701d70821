"""A contract into which both sides put collateral: one funding transaction, CETs by the ranges of a net payoff.

The holder signs as the contract's buyer, the writer as its seller. Its tree is ``netted``, the settle leaf alone: the
standard refund would give everything to the seller. What comes back when the oracles stay silent is a transaction that
both sign before the funding: version 3, from the refund height on, to each what it put in, with an anchor by which
either pays more. Every end costs the writer first, as in every contract (``option.split``).

    both        agree(): equal messages give byte-equal transactions
    both        presign(): every CET, and the refund
    both        check(): all of the other side's
    both        sign_funding(): what the agreement books for this side, after ``check``

Pure: what is signed is computed here, never received. The owner is asked before anything is signed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from btcfi import secp256k1
from btcfi.bitcoin.fees import (
    MAX_FEE_RATE,
    MIN_RELAY_FEE_RATE,
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    SatsPerKvb,
    dust_limit,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.musig import KeyAggregate
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, SEQUENCE_RBF, TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts import execution, option
from btcfi.contracts.buckets import Bucket
from btcfi.contracts.execution import ANCHOR, CET_PATH, ExecutionPlan
from btcfi.contracts.leaves import NETTED
from btcfi.contracts.messages import Party, Role
from btcfi.contracts.option import (
    Contribution,
    Funding,
    OptionContract,
    Settlement,
    WrongSignatureError,
    change_of,
    complete_settlement,
    sign_settlement,
    split,
)
from btcfi.contracts.setup import (
    MAX_CET_FEE,
    MIN_CET_FEE,
    CoinNotTheirsError,
    SetupPolicy,
    check_oracles,
    check_party,
)
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import Announcement, DigitPoints, OracleEvent
from btcfi.units import MAX_MONEY_SATS, Height, Sats, height

REFUND: Final = "the refund"


@dataclass(frozen=True, slots=True, kw_only=True)
class NettedTerms:
    """What both sides sign up to, apart from their keys, their coins and the ranges of the payoff."""

    holder: Sats
    """What the holder puts in, the most that it can lose."""
    writer: Sats
    """What the writer puts in, the most that the holder can gain."""
    premium: int
    """Satoshis that the holder pays the writer in the funding; below zero: the writer pays. It has no output: it is
    taken from one side's change and added to the other's."""
    expiry_height: Height
    refund_height: Height
    rate: SatsPerKvb
    """Of the funding transaction."""
    announcements: tuple[Announcement, ...]
    threshold: int
    cet_fee: Sats
    """What each CET and the refund pay by themselves; they have an anchor beside."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError naming the first term that makes no contract."""
        for name, amount in (("holder", self.holder), ("writer", self.writer)):
            if not 0 <= amount <= MAX_MONEY_SATS:
                raise InvalidInputError(name, f"{amount} sats", f"0 to {MAX_MONEY_SATS} sats")
        if not -MAX_MONEY_SATS <= self.premium <= MAX_MONEY_SATS:
            raise InvalidInputError("premium", f"{self.premium} sats", f"at most {MAX_MONEY_SATS} sats")
        if not MIN_CET_FEE <= self.cet_fee <= MAX_CET_FEE:
            raise InvalidInputError("cet_fee_sats", f"{self.cet_fee}", f"{MIN_CET_FEE} to {MAX_CET_FEE}")
        if not MIN_RELAY_FEE_RATE <= self.rate <= MAX_FEE_RATE:
            raise InvalidInputError("rate", f"{self.rate} sat/kvB", f"{MIN_RELAY_FEE_RATE} to {MAX_FEE_RATE}")
        for one in (self.expiry_height, self.refund_height):
            height(one)  # a larger number would be a time, long past, and the refund open at once
        if not self.announcements:
            raise InvalidInputError("oracles", "none", "at least one announcement")
        needed = ANCHOR.value + self.cet_fee
        if not needed < self.collateral <= MAX_MONEY_SATS:
            expected = f"more than {needed} sats, at most {MAX_MONEY_SATS}"
            raise InvalidInputError("collateral", f"{self.collateral} sats", expected)

    @property
    def collateral(self) -> Sats:
        """What the contract locks."""
        return Sats(self.holder + self.writer)


@dataclass(frozen=True, slots=True, kw_only=True)
class NettedAgreement:
    """What both sides compute alike: the funding, every CET, and the refund."""

    terms: NettedTerms
    funding: Funding
    plan: ExecutionPlan
    refund: Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class NettedSignatures:
    """What one side signs before the funding."""

    presignatures: bytes
    """Of every CET, as ``execution.presign`` gives them."""
    refund: bytes
    """64 bytes, plain: the refund waits for its height alone."""


class Owner(Protocol):
    """Whoever may refuse for a side, asked before its first signature."""

    def check_netted(self, agreement: NettedAgreement, role: Role) -> None:
        """Raise whatever says that this agreement is not to be signed on this side."""
        ...


def agree(
    terms: NettedTerms,
    buckets: Sequence[Bucket],
    *,
    holder: Party,
    writer: Party,
    event: OracleEvent,
    policy: SetupPolicy,
    points: tuple[DigitPoints, ...] | None = None,
) -> NettedAgreement:
    """Return the agreement of both parties. Pure: equal arguments give byte-equal transactions.

    buckets: the ranges that this side has computed itself from the payoff, with ``holder`` as its own part. event:
    what this side expects to be attested. points: computed already, to save time. Raises WrongAnnouncementError,
    InvalidInputError and the errors of building.
    """
    check_oracles(terms.announcements, event, policy)
    check_party("holder", holder)
    check_party("writer", writer)
    _check_buckets(terms, buckets, event, policy)
    contract = OptionContract(
        buyer_key=holder.xonly, seller_key=writer.xonly, buyer_script=holder.payout_script,
        seller_script=writer.payout_script, collateral=terms.collateral, expiry_height=terms.expiry_height,
        refund_height=terms.refund_height, internal_key=KeyAggregate([holder.key, writer.key]).xonly, tree=NETTED,
        min_refund_delay=policy.min_refund_delay, nearest_dust=True,
    )  # fmt: skip
    funding = build_funding(contract, terms, holder=_brings(holder), writer=_brings(writer))
    plan = ExecutionPlan(
        contract=contract, funding=funding.outpoint, buckets=buckets, announcements=terms.announcements,
        threshold=terms.threshold, cet_fee=terms.cet_fee, shared_points=points,
    )  # fmt: skip
    refund = build_refund(contract, funding.outpoint, holder=terms.holder, cet_fee=terms.cet_fee)
    return NettedAgreement(terms=terms, funding=funding, plan=plan, refund=refund)


def _brings(party: Party) -> Contribution:
    return Contribution(coins=party.coins, change_script=party.change_script)


def _check_buckets(
    terms: NettedTerms, buckets: Sequence[Bucket], event: OracleEvent, policy: SetupPolicy
) -> None:  # fmt: skip
    """Check that every outcome lies in exactly one range, in order, and that no range pays more than there is."""
    if not 1 <= len(buckets) <= policy.max_buckets:
        raise InvalidInputError("buckets", str(len(buckets)), f"1 to {policy.max_buckets}")
    follows, digits = 0, event.signed_digits
    for place, one in enumerate(buckets):
        covers = 1 <= one.length <= digits and one.prefix << (digits - one.length) == follows
        if not covers or not 0 <= one.payout <= terms.collateral:
            expected = f"the range from outcome {follows} on, paying at most {terms.collateral} sats"
            raise InvalidInputError(f"buckets[{place}]", str(one), expected)
        follows += 1 << (digits - one.length)
    if follows != 1 << digits:
        raise InvalidInputError("buckets", f"end before outcome {follows}", f"all {1 << digits} outcomes")


def build_funding(
    contract: OptionContract, terms: NettedTerms, *, holder: Contribution, writer: Contribution
) -> Funding:
    """Return the transaction that pays both sides' collateral into the contract, and the premium between them.

    Outputs: collateral, writer's change, holder's change. Each pays the fee of its inputs and change and half of the
    rest. Raises InsufficientFundsError, and InvalidInputError for a side without a coin: the input that it signs is
    its yes.
    """
    if not holder.coins or not writer.coins:
        raise InvalidInputError("funding inputs", "one side brings no coin", "at least one coin a side")
    coins = writer.coins + holder.coins
    if len({coin.outpoint for coin in coins}) != len(coins):
        raise InvalidInputError("funding inputs", "one outpoint is named twice", "each outpoint once")
    collateral = contract.funding_txout()
    common = OVERHEAD_WEIGHT + 4 * len(collateral.to_bytes())
    writer_change, writer_fee = change_of(
        writer, amount=terms.writer - terms.premium, weight=common - common // 2, rate=terms.rate
    )
    holder_change, holder_fee = change_of(
        holder, amount=terms.holder + terms.premium, weight=common // 2, rate=terms.rate
    )
    return Funding(
        transaction=Transaction(
            version=2,
            inputs=tuple(TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_LOCKTIME) for coin in coins),
            outputs=(collateral, *writer_change, *holder_change),
        ),
        spent=tuple(coin.output for coin in coins),
        seller_inputs=len(writer.coins),
        fee=Sats(writer_fee + holder_fee),
        seller_fee=writer_fee,
    )


def build_refund(contract: OptionContract, funding: OutPoint, *, holder: Sats, cet_fee: Sats) -> Settlement:
    """Return the refund that both sign beforehand: to each what it put in, from the refund height on.

    Its fee is the one named and the anchor's 240 sats, out of the writer's part first. Raises as ``option.split``, and
    InvalidInputError for a contract whose seller could take all by a leaf.
    """
    if contract.tree != NETTED:
        raise InvalidInputError("tree", repr(contract.tree), NETTED)
    costs = Sats(ANCHOR.value + cet_fee)
    back, rest = split(contract.collateral, holder, costs, nearest=contract.nearest_dust)
    outputs = [TxOut(value=back, script=contract.buyer_script)] if back else []
    outputs += [TxOut(value=rest, script=contract.seller_script)] if rest else []
    transaction = Transaction(
        version=TRUC_VERSION,
        inputs=(TxIn(outpoint=funding, sequence=SEQUENCE_LOCKTIME),),
        outputs=(*outputs, ANCHOR),
        lock_time=contract.refund_height,
    )
    return Settlement(
        transaction=transaction, contract=contract, path=CET_PATH, payout=back, seller_return=rest, fee=costs
    )


def presign(agreement: NettedAgreement, role: Role, secret: bytes, *, owner: Owner) -> NettedSignatures:
    """Return this side's pre-signatures of every CET and its signature of the refund.

    Raises what the owner raises, before anything is signed, and InvalidInputError for another side's secret.
    """
    _check_secret(agreement, role, secret)
    owner.check_netted(agreement, role)
    return NettedSignatures(
        presignatures=execution.presign(agreement.plan, secret),
        refund=sign_settlement(agreement.refund, secret, party=role.value),
    )


def check(agreement: NettedAgreement, role: Role, theirs: NettedSignatures) -> None:
    """Check all that the other side signed, given our role. Raises WrongAdaptorError, WrongSignatureError."""
    other = role.other.value
    key = _keys(agreement.plan.contract)[role.other]
    if not secp256k1.schnorr_verify(key, agreement.refund.sighash(), theirs.refund):
        raise WrongSignatureError(party=other, what=REFUND)
    execution.check_presignatures(agreement.plan, other, theirs.presignatures)


def sign_funding(
    agreement: NettedAgreement, role: Role, theirs: NettedSignatures, wallet: Mapping[bytes, TaprootKey], *,
    owner: Owner,
) -> dict[int, tuple[bytes, ...]]:  # fmt: skip
    """Return the witnesses of the inputs that the agreement books for this side, after checking all of theirs.

    wallet: our keys by output script. Raises what the owner and ``check`` raise, and CoinNotTheirsError when an input
    that is booked for the other side pays to a script of ours.
    """
    owner.check_netted(agreement, role)
    check(agreement, role, theirs)
    funding = agreement.funding
    for index in _inputs_of(funding, role.other):
        if funding.spent[index].script in wallet:
            raise CoinNotTheirsError(role.other.value, str(funding.transaction.inputs[index].outpoint))
    return option.sign_funding(funding, wallet, inputs=_inputs_of(funding, role))


def complete_funding(
    agreement: NettedAgreement, role: Role, theirs: NettedSignatures, witnesses: Mapping[int, Sequence[bytes]],
    ours: Mapping[int, Sequence[bytes]],
) -> Transaction:  # fmt: skip
    """Return the signed funding transaction, for whoever sends it: nothing goes out before all of theirs is checked.

    Raises WrongSignatureError for a witness that is missing or wrong, and as ``check``.
    """
    check(agreement, role, theirs)
    funding = agreement.funding
    mine, other = _inputs_of(funding, role), _inputs_of(funding, role.other)
    chosen = {at: ours.get(at, ()) for at in mine} | {at: witnesses.get(at, ()) for at in other}
    return option.complete_funding(funding, chosen)


def complete_refund(agreement: NettedAgreement, *, holder: NettedSignatures, writer: NettedSignatures) -> Transaction:
    """Return the refund, signed by both; no block below its height takes it. Raises WrongSignatureError."""
    return complete_settlement(agreement.refund, buyer=holder.refund, seller=writer.refund)


def build_refund_child(
    refund: Transaction, coin: Coin, *, change_script: bytes, rate: SatsPerKvb
) -> tuple[Transaction, tuple[TxOut, ...]]:
    """Return the child that pays for a refund at today's ``rate`` by its anchor, not signed, and what it spends.

    Input 1 is the coin. Raises InsufficientFundsError.
    """
    weight = (
        OVERHEAD_WEIGHT
        + 4 * 41
        + 1
        + P2TR_INPUT_WEIGHT
        + 4 * len(TxOut(value=Sats(0), script=change_script).to_bytes())
    )
    return refund_child_paying(
        refund, coin, change_script=change_script, fee=fee_for(vsize_of(weight) + refund.vsize, rate)
    )  # fmt: skip


def refund_child_paying(
    refund: Transaction, coin: Coin, *, change_script: bytes, fee: Sats
) -> tuple[Transaction, tuple[TxOut, ...]]:  # fmt: skip
    """Return the child of a refund that pays exactly ``fee``, as ``build_refund_child``."""
    anchor = len(refund.outputs) - 1
    change = refund.outputs[anchor].value + coin.value - fee
    if change < dust_limit(change_script):
        raise InsufficientFundsError(
            available=Sats(coin.value), needed=Sats(fee - ANCHOR.value + dust_limit(change_script))
        )
    child = Transaction(
        version=TRUC_VERSION,
        inputs=(
            TxIn(outpoint=refund.outpoint(anchor), sequence=SEQUENCE_RBF),
            TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_RBF),
        ),
        outputs=(TxOut(value=Sats(change), script=change_script),),
    )
    return child, (refund.outputs[anchor], coin.output)


def _inputs_of(funding: Funding, role: Role) -> range:
    total = len(funding.spent)
    return range(funding.seller_inputs) if role is Role.SELLER else range(funding.seller_inputs, total)


def _keys(contract: OptionContract) -> dict[Role, bytes]:
    return {Role.BUYER: contract.buyer_key, Role.SELLER: contract.seller_key}


def _check_secret(agreement: NettedAgreement, role: Role, secret: bytes) -> None:
    if secp256k1.public_key_xonly(secret) != _keys(agreement.plan.contract)[role]:
        raise InvalidInputError("secret key", f"is not the {role.value}'s of this contract", f"the {role.value}'s")
