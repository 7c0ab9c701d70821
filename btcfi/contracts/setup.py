"""Setting a contract up: offer, accept, sign. Nobody signs the funding before every CET is pre-signed and checked.

    offering side                          accepting side
    propose()   ---------- offer ------->  agree(), accept(): pre-signs every CET
    agree(),    <--------- accept -------
    sign(): checks theirs, pre-signs every CET, signs its funding inputs last
                ---------- sign -------->  complete(): checks both, signs its funding inputs, broadcasts

Both sides call ``agree`` on the same messages and the same guest, and get equal plans; what they sign is computed,
never received. Signing and checking can be split by ranges of buckets (``execution.presign``, ``check_presignatures``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.musig import KeyAggregate
from btcfi.bitcoin.script import is_known_program
from btcfi.bitcoin.transaction import Transaction
from btcfi.bitcoin.witness import has_checkable_witness
from btcfi.contracts.buckets import Bucket, Payouts, StepRule, payout_at, payout_buckets
from btcfi.contracts.execution import ANCHOR, ExecutionPlan, check_presignatures, presign
from btcfi.contracts.leaves import TREES
from btcfi.contracts.mandate import Authority
from btcfi.contracts.messages import VERSION, Accept, ContractTerms, Offer, Party, Role, Sign, contract_id
from btcfi.contracts.metadata import OptionMetadata
from btcfi.contracts.option import (
    MIN_REFUND_DELAY,
    Contribution,
    Funding,
    OptionContract,
    build_funding,
    check_funding_witness,
    complete_funding,
    seller_fee,
    sign_funding,
)
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.oracle.announcement import Announcement, DigitPoints, OracleEvent, check_announcement, check_together
from btcfi.units import Hash32, Sats

MIN_CET_FEE: Final = Sats(300)
"""More than 1 sat/vB of the largest CET: below it, a node that asks for that would not take it alone."""

MAX_CET_FEE: Final = Sats(20_000)


class WrongMessageError(BtcfiError):
    """A message that does not belong to this contract."""

    def __init__(self, message: str, problem: str) -> None:
        super().__init__(f"{message} message: {problem}; nothing was signed after it")
        self.message, self.problem = message, problem


class CoinNotTheirsError(InvalidInputError):
    """The other side names a coin of ours as its own: to sign its input would be to give it away."""

    def __init__(self, party: str, outpoint: str) -> None:
        super().__init__(
            f"{party}'s coin {outpoint}", "pays to a script of ours", "coins of its own; nothing was signed"
        )
        self.party, self.outpoint = party, outpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupPolicy:
    """What one side insists on, from its preset; the counterparty's message cannot change it."""

    min_refund_delay: int = MIN_REFUND_DELAY
    """Blocks from expiry to refund."""
    max_buckets: int = 50_000
    oracle_keys: frozenset[bytes] = frozenset()
    """Oracles that it accepts, x-only; empty means any (the caller has compared them)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What both sides compute from the offer and the accepting party: the funding and every CET."""

    id: Hash32
    terms: ContractTerms
    funding: Funding
    plan: ExecutionPlan
    offering: Role


def propose(terms: ContractTerms, *, role: Role, party: Party) -> Offer:
    """Return the offer. Raises InvalidInputError when its own terms could never be accepted."""
    check_new(terms)
    _check_terms(terms)
    return Offer(terms=terms, role=role, party=party)


def check_new(terms: ContractTerms) -> None:
    """Refuse terms of an earlier version: contracts of it are watched to their end, and no new one is made."""
    if terms.version != VERSION:
        raise InvalidInputError(
            "offer.version", f"{terms.version}", f"speak version {VERSION}: payouts follow a tolerance now, not a step"
        )


def agree(
    offer: Offer,
    accepting: Party,
    payouts: Payouts,
    *,
    event: OracleEvent,
    policy: SetupPolicy,
    metadata: OptionMetadata | None = None,
    buckets: Sequence[Bucket] | None = None,
    points: tuple[DigitPoints, ...] | None = None,
) -> Agreement:
    """Return the agreement of an offer and the accepting party. Pure: equal arguments give byte-equal transactions.

    payouts: the guest of the agreed program on the agreed terms. event: what this side expects to be attested.
    metadata: written into the funding when both sides pass the same. buckets, points: computed already from the same
    arguments, to save time. Raises WrongAnnouncementError, InvalidInputError and the errors of building.
    """
    terms = offer.terms
    check_halves(terms, {"offering": offer.party, "accepting": accepting}, event=event, policy=policy)
    buyer, seller = (offer.party, accepting) if offer.role is Role.BUYER else (accepting, offer.party)
    contract = contract_of(terms, buyer=buyer, seller=seller, min_refund_delay=policy.min_refund_delay)
    if buckets is None:
        buckets = buckets_of(terms, payouts, event=event, limit=policy.max_buckets)
    funding = build_funding(
        contract,
        premium=terms.premium,
        seller=Contribution(coins=seller.coins, change_script=seller.change_script),
        buyer=Contribution(coins=buyer.coins, change_script=buyer.change_script),
        rate=terms.rate,
        metadata=metadata,
    )
    plan = ExecutionPlan(
        contract=contract,
        funding=funding.outpoint,
        buckets=buckets,
        announcements=terms.announcements,
        threshold=terms.threshold,
        cet_fee=terms.cet_fee,
        shared_points=points,
    )
    return Agreement(id=contract_id(offer, accepting), terms=terms, funding=funding, plan=plan, offering=offer.role)


def check_halves(
    terms: ContractTerms, parties: Mapping[str, Party], *, event: OracleEvent, policy: SetupPolicy
) -> None:  # fmt: skip
    """Check what both sides of a contract say of it: terms, oracles, and of each party, by its name, scripts and coins.

    event: what this side expects to be attested. Raises WrongAnnouncementError, InvalidInputError.
    """
    _check_terms(terms)
    check_oracles(terms.announcements, event, policy)
    for name, party in parties.items():
        check_party(f"{name} party", party)


def contract_of(terms: ContractTerms, *, buyer: Party, seller: Party, min_refund_delay: int) -> OptionContract:
    """Return the contract's chain side: the key path is MuSig2 of buyer and seller, in this order."""
    return OptionContract(
        buyer_key=buyer.xonly,
        seller_key=seller.xonly,
        buyer_script=buyer.payout_script,
        seller_script=seller.payout_script,
        collateral=terms.collateral,
        expiry_height=terms.expiry_height,
        refund_height=terms.refund_height,
        internal_key=KeyAggregate([buyer.key, seller.key]).xonly,
        tree=terms.tree,
        release_hash=terms.release_hash,
        min_refund_delay=min_refund_delay,
        nearest_dust=terms.nearest_dust,
    )


def buckets_of(terms: ContractTerms, payouts: Payouts, *, event: OracleEvent, limit: int) -> tuple[Bucket, ...]:
    """Return the payout buckets of the terms: the guest by the rule of the terms, on digit prefixes."""
    return payout_buckets(
        event,
        payouts,
        rule=terms.rule,
        premium=terms.premium,
        collateral=terms.collateral,
        breakpoints=terms.breakpoints,
        limit=limit,
    )


def paid_at(terms: ContractTerms, payouts: Payouts, outcome: int, *, event: OracleEvent) -> Sats:
    """Return what the terms pay the buyer at one outcome, by a few runs of the guest; dust and fees not counted.

    It is what ``buckets_of`` has for it. Raises InvalidInputError, and what the guest raises.
    """
    return payout_at(
        event,
        payouts,
        outcome,
        rule=terms.rule,
        premium=terms.premium,
        collateral=terms.collateral,
        breakpoints=terms.breakpoints,
    )


def accept(offer: Offer, agreement: Agreement, party: Party, secret: bytes, *, authority: Authority) -> Accept:
    """Return the accept message: this side's party and its pre-signatures of every CET.

    Raises WrongMessageError for an agreement that is not of these two messages, and what ``Authority.check_contract``
    raises, before anything is signed.
    """
    _check_key(party, secret)
    check_new(offer.terms)
    if agreement.id != contract_id(offer, party):
        raise WrongMessageError("offer", "is another than the agreement's")
    authority.check_contract(agreement.terms, agreement.offering.other)
    presignatures = presign(agreement.plan, secret)
    return Accept(offer_id=offer.id, party=party, presignatures=presignatures, version=offer.terms.version)


def sign(
    offer: Offer,
    accepted: Accept,
    agreement: Agreement,
    secret: bytes,
    wallet: Mapping[bytes, TaprootKey],
    *,
    authority: Authority,
    outside: Mapping[int, tuple[bytes, ...]] | None = None,
    checked: bool = False,
) -> Sign:
    """Return the sign message: our pre-signatures, and our funding signatures after checking all of theirs.

    wallet: our keys by output script. outside: witnesses of our inputs that an outside wallet made by PSBT. checked:
    theirs were checked in ranges already. Raises WrongMessageError, WrongAdaptorError, and what
    ``Authority.check_contract`` raises, before anything is signed.
    """
    _check_key(offer.party, secret)
    if accepted.offer_id != offer.id:
        raise WrongMessageError("accept", "is for another offer")
    if accepted.version != offer.terms.version:
        raise WrongMessageError("accept", f"speaks version {accepted.version}, the offer {offer.terms.version}")
    if agreement.id != contract_id(offer, accepted.party):
        raise WrongMessageError("accept", "is from another party than the agreement")
    authority.check_contract(agreement.terms, agreement.offering)
    if not checked:
        check_presignatures(agreement.plan, offer.role.other.value, accepted.presignatures)
    presignatures = presign(agreement.plan, secret)
    return Sign(
        contract_id=agreement.id,
        presignatures=presignatures,
        witnesses=_own_witnesses(agreement, offer.role, wallet, outside),
        version=offer.terms.version,
    )


def complete(
    agreement: Agreement,
    signed: Sign,
    wallet: Mapping[bytes, TaprootKey],
    *,
    authority: Authority,
    outside: Mapping[int, tuple[bytes, ...]] | None = None,
    checked: bool = False,
) -> Transaction:
    """Return the funding transaction, fully signed: the accepting side's last step before broadcasting.

    Checks the offering side's pre-signatures and funding witnesses before this side signs the funding. outside:
    witnesses of our inputs that an outside wallet made (``psbt.import_witnesses``); hand a wallet the PSBT only after
    ``check_signed``. Raises WrongMessageError, WrongAdaptorError, WrongSignatureError, and what
    ``Authority.check_contract`` raises, before anything is signed.
    """
    authority.check_contract(agreement.terms, agreement.offering.other)
    check_signed(agreement, signed, checked=checked)
    ours = _own_witnesses(agreement, agreement.offering.other, wallet, outside)
    return complete_funding(agreement.funding, {**ours, **signed.witnesses})


def check_signed(agreement: Agreement, signed: Sign, *, checked: bool = False, sealed: bool = False) -> None:
    """Check the sign message in full: pre-signatures (unless ``checked`` already) and funding witnesses.

    sealed: the witnesses are the accepting side's alone to open, so only that none is plain. Raises WrongMessageError,
    WrongAdaptorError, WrongSignatureError.
    """
    if signed.contract_id != agreement.id:
        raise WrongMessageError("sign", "is for another contract")
    if not checked:
        check_presignatures(agreement.plan, agreement.offering.value, signed.presignatures)
    theirs = inputs_of(agreement, agreement.offering)
    strangers = set(signed.witnesses) - set(theirs)
    if strangers:
        raise WrongMessageError("sign", f"brings witnesses of inputs {sorted(strangers)} that are not its own")
    if sealed and signed.witnesses:
        raise WrongMessageError("sign", "brings witnesses of the funding that are not sealed")
    for index in () if sealed else theirs:
        check_funding_witness(agreement.funding, index, signed.witnesses.get(index, ()))


def check_setup(
    offer: Offer, accepted: Accept, signed: Sign, payouts: Payouts, *, event: OracleEvent, policy: SetupPolicy,
    points: tuple[DigitPoints, ...] | None = None, sealed: bool = False,
) -> Agreement:  # fmt: skip
    """Return the agreement of three messages after checking all of them, as a watchtower must.

    Raises what ``check_accepted`` and ``check_signed`` raise.
    """
    agreement = check_accepted(offer, accepted, payouts, event=event, policy=policy, points=points)
    check_signed(agreement, signed, sealed=sealed)
    return agreement


def check_accepted(
    offer: Offer, accepted: Accept, payouts: Payouts, *, event: OracleEvent, policy: SetupPolicy,
    points: tuple[DigitPoints, ...] | None = None,
) -> Agreement:  # fmt: skip
    """Return the agreement of an offer and its answer after checking both.

    Raises what ``agree`` raises, and WrongMessageError, WrongAdaptorError for the accept message.
    """
    if accepted.offer_id != offer.id:
        raise WrongMessageError("accept", "is for another offer")
    agreement = agree(offer, accepted.party, payouts, event=event, policy=policy, points=points)
    check_presignatures(agreement.plan, offer.role.other.value, accepted.presignatures)
    return agreement


def check_offered(offer: Offer) -> None:
    """Check of an offer what needs no answer: terms, scripts, and that its coins pay what its side brings, and fees.

    Whoever answers it would refuse them. Raises InvalidInputError.
    """
    _check_terms(offer.terms)
    check_party("offering party", offer.party)
    coins, seller = offer.party.coins, offer.role is Role.SELLER
    if len({coin.outpoint for coin in coins}) != len(coins):
        raise InvalidInputError("party.coins", "one outpoint is named twice", "each outpoint once")
    brings = offer.terms.collateral if seller else offer.terms.premium
    fee = seller_fee(len(coins), offer.terms.rate) if seller else 0
    if (worth := sum(coin.value for coin in coins)) < brings + fee:
        raise InvalidInputError("party.coins", f"{worth:,} sats", f"{brings + fee:,} sats or more")


def _own_witnesses(
    agreement: Agreement, role: Role, wallet: Mapping[bytes, TaprootKey],
    outside: Mapping[int, tuple[bytes, ...]] | None,
) -> dict[int, tuple[bytes, ...]]:  # fmt: skip
    """Return the witnesses of the inputs that the agreement books for a role, and of no other.

    Raises CoinNotTheirsError when an input that it books for the other side pays to a script of ours.
    """
    funding, own = agreement.funding, inputs_of(agreement, role)
    for index in inputs_of(agreement, role.other):
        if funding.spent[index].script in wallet:
            raise CoinNotTheirsError(role.other.value, str(funding.transaction.inputs[index].outpoint))
    given = {index: witness for index, witness in (outside or {}).items() if index in own}
    return {**sign_funding(funding, wallet, inputs=own), **given}


def inputs_of(agreement: Agreement, role: Role) -> range:
    """Return the indices of the funding's inputs that the agreement books for a role: a PSBT asks for these alone."""
    split, total = agreement.funding.seller_inputs, len(agreement.funding.spent)
    return range(split) if role is Role.SELLER else range(split, total)


def _check_terms(terms: ContractTerms) -> None:
    if terms.tree not in TREES:
        # one that has no refund leaf is worth its collateral only with a refund that these messages do not sign
        raise InvalidInputError("tree", repr(terms.tree), "one of " + ", ".join(TREES))
    needed = ANCHOR.value + terms.cet_fee
    if terms.collateral <= needed:
        raise InvalidInputError("collateral", f"{terms.collateral} sats", f"more than {needed} sats")
    if terms.version > 1 and not MIN_CET_FEE <= terms.cet_fee <= MAX_CET_FEE:
        raise InvalidInputError("cet_fee_sats", f"{terms.cet_fee}", f"{MIN_CET_FEE} to {MAX_CET_FEE}")
    if not terms.announcements:
        raise InvalidInputError("oracles", "none", "at least one announcement")
    if isinstance(terms.rule, StepRule) and not 1 <= terms.rule.step <= terms.collateral:
        raise InvalidInputError("step", f"{terms.rule.step} sats", f"1 to the collateral, {terms.collateral} sats")


def check_announced(terms: ContractTerms) -> None:
    """Check that the announcements of new terms are sound and their oracles' own. Raises as ``check_announcement``."""
    _check_terms(terms)
    check_oracles(terms.announcements, terms.announcements[0].event, SetupPolicy())


def check_oracles(announcements: tuple[Announcement, ...], event: OracleEvent, policy: SetupPolicy) -> None:
    """Check that announcements are sound, of the event, and of oracles that the policy takes.

    Raises as ``check_announcement``, and InvalidInputError.
    """
    check_together(announcements)
    for announcement in announcements:
        check_announcement(announcement, expected=event)
        if policy.oracle_keys and announcement.oracle_key not in policy.oracle_keys:
            raise InvalidInputError("oracle", announcement.oracle_key.hex()[:16], "an oracle of the preset")


def check_party(name: str, party: Party) -> None:
    """Check that a party's scripts relay and that its coins' witnesses can be checked. Raises InvalidInputError."""
    # their dust limit is at most 330 sats, and an input of one cannot change the funding txid; to any other program no
    # node relays a CET: what both have signed would lie there, and the other side be held to ransom
    scripts = [party.payout_script, party.change_script, *(coin.output.script for coin in party.coins)]
    if not all(is_known_program(script) for script in scripts):
        expected = "P2TR, P2WPKH or P2WSH for payout, change and coins"
        raise InvalidInputError(f"{name}'s scripts", "not all of a known witness program", expected)
    for coin in party.coins:
        if not has_checkable_witness(coin.output.script):
            raise InvalidInputError(f"{name}'s coin {coin.outpoint}", "is of another type", "a P2TR or P2WPKH coin")


def _check_key(party: Party, secret: bytes) -> None:
    if secp256k1.public_key_compressed(secret) != party.key:
        raise InvalidInputError("secret key", "is not the party's", "the secret of the key in its message")
