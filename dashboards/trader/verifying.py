"""A contract checked for whoever asks: from files that they bring, or from what this service keeps of an option.

Each check says whose word it rests on. The two parties' messages, transactions, attestations and proofs prove
themselves, wherever they come from: a store can withhold them, not forge them. That a block holds a transaction is the
word of this service's node, and is said to be.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any, Final

from btcfi.adapters.store.chain import views as chain
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.market import views as market
from btcfi.adapters.store.market.tables import CloseRow
from btcfi.adapters.store.options import batches, contracts, views
from btcfi.adapters.store.options.attesting import announcements_by_id, attestations_of
from btcfi.adapters.store.options.batch_tables import BatchEndRow
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.options.views import Sight
from btcfi.adapters.store.spine.database import Session
from btcfi.bitcoin.fees import dust_limit
from btcfi.bitcoin.transaction import Transaction, TxOut, parse_transaction
from btcfi.contracts.batch import dues_of
from btcfi.contracts.buckets import bucket_of
from btcfi.contracts.cooperative import signed_by_both, spent_by_both
from btcfi.contracts.explain import Explanation, Messages, examined
from btcfi.contracts.messages import (
    decode_accept,
    decode_announcement,
    decode_attestation,
    decode_offer,
    decode_sign,
)
from btcfi.contracts.option import FUNDING_OUTPUT
from btcfi.contracts.paid import Paid, paid_by
from btcfi.contracts.payouts import decode_terms, guest_payouts
from btcfi.contracts.setup import Agreement
from btcfi.documents import parse_json
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError, NotHeldError
from btcfi.hashes import sha256
from btcfi.options.expiry import SettlementInput, SettlementOutput
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import Attestation, check_attestation
from btcfi.oracle.report import canonical_json
from btcfi.surfaces.rest.deps import Deps
from btcfi.surfaces.rest.v1 import check as check_proof
from btcfi.units import Sats, display_txid
from dashboards.shared.render import usd

ANYBODYS: Final = Sight()
"""An option that a take made is its two accounts': nobody else finds it, no more than one that is not there."""

KEPT: Final = 64
"""Contracts in memory, a few kilobytes each: messages of one hash have one explanation."""

FILES: Final = "your files"
MESSAGES: Final = "the parties' messages, kept here"
BYTES: Final = "its own bytes, kept here"
SIGNATURES: Final = "the oracles' signatures, kept here"
NODE: Final = "this service's node"
RUN: Final = "the program, run again here"

_PROOF: Final = "proof"
_ANNOUNCEMENT: Final = "announcement"
_KINDS: Final = frozenset({"btcfi/offer", "btcfi/accept", "btcfi/sign", "btcfi/attestation"})
_SHORT: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file that was brought."""

    value: Any
    """Its JSON."""
    raw: bytes
    """As it came; where several came in one body, as it is written canonically."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check."""

    name: str
    holds: bool | None
    """None: there is nothing to check yet."""
    words: str
    source: str
    """Whose word it rests on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found, the answer first."""

    title: str
    findings: tuple[Finding, ...]
    contract: Explanation | None = None
    outcome: str = ""
    """How it ended, for who wrote it and who bought it."""

    @property
    def holds(self) -> bool:
        """Whether every check that could be made holds, and one could be."""
        return all(one.holds is not False for one in self.findings) and any(one.holds for one in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a store has of one option."""

    option: OptionRow
    said: Mapping[str, dict[str, Any]]
    announced: tuple[Announcement, ...]
    attested: Sequence[Attestation]
    transactions: Sequence[TransactionRow]
    settlement: SettlementRow | None
    close: CloseRow | None
    """By which both sides have ended it at a price of theirs."""
    proof: bytes | None
    tip: int | None
    batch: Batched | None = None
    """What it shares its settlement's transaction with, where it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batched:
    """Contracts that end in one transaction, as a store has them."""

    ends: Sequence[BatchEndRow]
    """In the order of the inputs."""
    spent: tuple[TxOut, ...]
    """What these spend, where all their fundings are kept."""
    paid_to: Mapping[str, int]
    """By script, hex: what of all contracts is due to it, as the rows say."""


class Verifier:
    """Checks contracts for one application; the guest compiles when it is first asked."""

    def __init__(self, deps: Deps) -> None:
        """``deps``: of the API, whose programs and proof checker are used."""
        self._deps = deps
        self._known: OrderedDict[bytes, tuple[Explanation, Agreement]] = OrderedDict()
        self._lock = Lock()

    def of_documents(self, documents: Sequence[Document]) -> Verdict:
        """Return what holds of files: a proof, or the messages of one contract with what its oracles said.

        Nothing of this service's store is read. Raises InvalidInputError for files that are none of these, or too
        many.
        """
        sorted_out = _sorted_out(documents)
        proof = sorted_out.pop(_PROOF, [])
        if not sorted_out:
            return Verdict(title="A settlement's proof", findings=tuple(self._proof_alone(one) for one in proof))
        offer, accept, sign = (
            _the_one(sorted_out, kind, needed=kind != "btcfi/sign")
            for kind in ("btcfi/offer", "btcfi/accept", "btcfi/sign")
        )
        announced = tuple(map(decode_announcement, sorted_out.get(_ANNOUNCEMENT, ())))
        said = {"offer": offer, "accept": accept} | ({} if sign is None else {"sign": sign})
        contract, agreement, finding = self._contract(said, announced, FILES)
        attested = [decode_attestation(one) for one in sorted_out.get("btcfi/attestation", ())]
        oracles: tuple[Finding, ...] = ()
        outcome = None
        if agreement is not None and attested:
            spoken, outcome = _oracles(agreement, attested, FILES)
            oracles = (spoken,)
        proofs = (self._proof_beside(one, offer, agreement, outcome) for one in proof)
        findings = [finding, *proofs, *oracles]
        return Verdict(title=contract.title if contract else "A contract", findings=tuple(findings), contract=contract)

    def of_option(self, kept: Kept) -> Verdict:
        """Return what holds of an option that the store keeps."""
        option = kept.option
        if not {"offer", "accept"} <= kept.said.keys():
            waiting = Finding(
                name="Contract", holds=None, source=MESSAGES,
                words="Its two sides have not exchanged their messages yet, so there is nothing to check.",
            )  # fmt: skip
            return Verdict(title=f"Option {option.id}", findings=(waiting,))
        contract, agreement, first = self._contract(kept.said, kept.announced, MESSAGES)
        findings = [first]
        outcome = ""
        if agreement is not None:
            findings.append(_funding(agreement, kept))
            oracles, attested = _oracles(agreement, kept.attested, SIGNATURES)
            findings.append(oracles)
            paid, words = _payout(agreement, kept, attested)
            findings.append(words)
            outcome = _outcome(paid, closed=kept.close is not None)
            findings.append(self._proof_of(agreement, kept, attested))
        title = contract.title if contract else f"Option {option.id}"
        return Verdict(title=title, findings=tuple(findings), contract=contract, outcome=outcome)

    def _contract(
        self, said: Mapping[str, dict[str, Any]], announced: tuple[Announcement, ...], source: str
    ) -> tuple[Explanation | None, Agreement | None, Finding]:
        failed = partial(Finding, name="Contract", source=source)
        try:
            messages = Messages(
                offer=decode_offer(said["offer"]), accept=decode_accept(said["accept"]),
                sign=decode_sign(said["sign"]) if "sign" in said else None,
            )  # fmt: skip
            found, agreement = self._examined(messages, announced, said)
        except NotHeldError as e:
            return None, None, failed(holds=None, words=f"It cannot be checked here: {e}.")
        except BtcfiError as e:
            return None, None, failed(holds=False, words=f"{e}.")
        signed = "signed by both sides" if found.signed_by_both else "not signed by both sides yet"
        compared = " with the oracles that were announced here" if source == MESSAGES and announced else ""
        words = (
            f"Rebuilt from its messages, every payout run again and every signature checked{compared}; {signed}. "
            f"Its id is {found.contract_id}."
        )
        return found, agreement, failed(holds=True, words=words)

    def _examined(
        self, messages: Messages, announced: tuple[Announcement, ...], said: Mapping[str, Any]
    ) -> tuple[Explanation, Agreement]:
        from btcfi.vm.program import load_program_by_hash  # noqa: PLC0415 - the interpreter compiles when first imported

        key = sha256(repr([sorted(said.items()), [one.digest() for one in announced]]).encode())
        with self._lock:
            known = self._known.get(key)
        if known is not None:
            return known
        event = messages.offer.terms.announcements[0].event
        program = load_program_by_hash(event.program_hash.hex(), self._deps.programs)
        payouts = guest_payouts(decode_terms(messages.offer.terms.option), program)
        found = examined(messages, payouts, announcements=announced)
        with self._lock:
            self._known[key] = found
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return found

    def _proof_alone(self, document: bytes) -> Finding:
        found = check_proof(document, "execute", self._deps)
        if not found.valid:
            return Finding(name="Proof", holds=False, words=f"{found.failed_check}.", source=RUN)
        words = f"{found.steps:,} steps give the same output and the same root, {found.proof_root}."
        said = _said_by_proof(document)
        return Finding(name="Proof", holds=True, words=f"{words} {said}".strip(), source=RUN)

    def _proof_of(self, agreement: Agreement, kept: Kept, attested: int | None) -> Finding:
        if kept.proof is None and kept.close is not None:
            words = "There is none: both sides have closed it at a price of theirs, and no program ran."
            return Finding(name="Proof", holds=None, words=words, source=RUN)
        if kept.proof is None:
            return Finding(name="Proof", holds=None, words="There is no proof yet: it comes after expiry.", source=RUN)
        return self._proof_beside(kept.proof, kept.said["offer"], agreement, attested)

    def _proof_beside(
        self, proof: bytes, offer: dict[str, Any], agreement: Agreement | None, attested: int | None
    ) -> Finding:
        """Return the check of a proof that comes with a contract: a sound one of other terms is not this one's.

        attested: the outcome that enough oracles have signed; None: nobody's word says the price.
        """
        alone = self._proof_alone(proof)
        if not alone.holds or agreement is None:
            return alone
        wrong = _other_terms(proof, offer, agreement, attested)
        if wrong:
            return Finding(
                name="Proof", holds=False, words=f"It is of another {wrong} than the contract's.", source=RUN
            )
        if attested is None:
            return replace(alone, words=f"{alone.words} Enough oracles' word on its price is not here.")
        return alone


def read_option(session: Session, text: str, *, account: str | None = None, anybodys: bool = True) -> Kept:
    """Return what the store has of an option, by its whole id or by a transaction's. Raises NotFoundError.

    account: whose own are shown as well. anybodys: whether those are that no two accounts have made.
    """
    option = views.option(session, text)
    if option is None:
        option = views.option_of_transaction(session, text.lower())
    if option is None or not may_see(option, account, anybodys=anybodys):
        hint = "a whole id; of a deal between two accounts, the files that one of them gives you"
        raise NotFoundError("option or transaction", text[:_SHORT], hint)
    row = views.contract(session, option.id)
    settlement = views.settlement_of(session, option.id)
    blob = None if settlement is None else views.proof_file(session, settlement)
    tip = chain.tip(session)
    return Kept(
        option=option, said=contracts.kept_messages(session, option.id),
        announced=announcements_by_id(session, row.event_id) if row is not None else (),
        attested=attestations_of(session, row.event_id) if row is not None else [],
        transactions=views.transactions_of(session, option.id), settlement=settlement,
        close=market.agreed_closes(session, [option.id]).get(option.id),
        proof=None if blob is None else bytes(blob.body), tip=None if tip is None else tip.height,
        batch=None if settlement is None else _batched(session, settlement),
    )  # fmt: skip


def _batched(session: Session, settlement: SettlementRow) -> Batched | None:
    ends = batches.batch_of(session, settlement)
    if not ends:
        return None
    options = views.options_of(session, [one.option_id for one in ends])
    spent, paid_to = [], Counter[str]()
    for one in ends:
        option = options[one.option_id]
        kept = json.loads(option.contract or "{}")
        paid_to[kept["buyer_script"]] += one.paid_sats
        paid_to[kept["seller_script"]] += one.returned_sats
        funding = chain.transaction(session, option.funding_txid or "")
        if funding is not None:
            spent.append(parse_transaction(bytes.fromhex(funding.raw_hex)).outputs[FUNDING_OUTPUT])
    return Batched(ends=ends, spent=tuple(spent), paid_to=paid_to)


def may_see(option: OptionRow, account: str | None, *, anybodys: bool) -> bool:
    """Return whether an option is shown to who looks as ``account``, or as nobody."""
    return (anybodys and ANYBODYS.sees(option)) or (account is not None and account in {option.writer, option.holder})


# ---- the checks


def _funding(agreement: Agreement, kept: Kept) -> Finding:
    txid = display_txid(agreement.funding.transaction.txid)
    row = next((one for one in kept.transactions if one.txid == txid), None)
    if row is None or row.height is None:
        words = f"No block is known to hold {txid} yet: until one does, nothing is locked."
        return Finding(name="Funding", holds=None, words=words, source=NODE)
    if display_txid(parse_transaction(bytes.fromhex(row.raw_hex)).txid) != txid:
        words = f"The bytes that are kept as {txid} are another transaction."
        return Finding(name="Funding", holds=False, words=words, source=BYTES)
    deep = 0 if kept.tip is None else max(kept.tip - row.height + 1, 0)
    locked = agreement.plan.contract.collateral
    words = f"{txid}, which locks {locked:,} sats in the contract's output, is in block {row.height:,}, {deep:,} deep."
    return Finding(name="Funding", holds=True, words=words, source=NODE)


def _oracles(agreement: Agreement, attested: Sequence[Attestation], source: str) -> tuple[Finding, int | None]:
    """Return the check, and the outcome on which enough of the contract's oracles agree."""
    plan = agreement.plan
    made = partial(Finding, name="Oracles", source=source)
    if not attested:
        return made(holds=None, words="They have said nothing yet: they attest after expiry."), None
    announced = {one.oracle_key: one for one in plan.announcements}
    outcomes: dict[int, set[bytes]] = {}
    for one in attested:
        whose = announced.get(one.oracle_key)
        if whose is None:
            return made(holds=False, words=f"{one.oracle_key.hex()} is none of the contract's oracles."), None
        try:
            check_attestation(one, whose)
        except BtcfiError as e:
            return made(holds=False, words=f"{e}."), None
        outcomes.setdefault(one.outcome, set()).add(one.oracle_key)
    outcome, keys = max(outcomes.items(), key=lambda item: len(item[1]))
    price = usd(plan.announcements[0].event.price_of(outcome))
    said = f"{len(keys)} of {len(announced)} have signed {price}; {plan.threshold} are needed."
    if len(keys) < plan.threshold:
        return made(holds=None, words=said), None
    return made(holds=True, words=said), outcome


def _payout(agreement: Agreement, kept: Kept, attested: int | None) -> tuple[Paid | None, Finding]:
    settled = kept.close or kept.settlement
    row = None if settled is None else next((one for one in kept.transactions if one.txid == settled.txid), None)
    made = partial(Finding, name="Payout", source=BYTES)
    if row is None:
        return None, made(holds=None, words="Nothing has been paid out yet.")
    try:
        transaction = parse_transaction(bytes.fromhex(row.raw_hex))
        if kept.batch is not None:
            return _of_a_batch(agreement, kept, kept.batch, transaction, row, attested)
        return _of_its_own(agreement, kept, transaction, row, attested)
    except BtcfiError as e:
        return None, made(holds=False, words=f"{e}.")


def _of_its_own(
    agreement: Agreement, kept: Kept, transaction: Transaction, row: TransactionRow, attested: int | None
) -> tuple[Paid | None, Finding]:
    """Return what a transaction that ends this contract alone pays of it, and the check. Raises as ``paid_by``."""
    made, paid = partial(Finding, name="Payout", source=BYTES), _paid(agreement, transaction)
    amounts = f"The buyer gets {paid.buyer:,} sats and the seller {paid.seller:,}"
    where = "no block is known to hold it yet" if row.height is None else f"in block {row.height:,}, says our node"
    if kept.close is not None or (kept.settlement is not None and kept.settlement.reason != "expiry"):
        by_both = signed_by_both(agreement.plan.contract, transaction)
        signed = f"{amounts}, as both sides have signed in {row.txid}; {where}."
        unsigned = f"{row.txid} has not the one signature of both sides."
        return paid if by_both else None, made(holds=by_both, words=signed if by_both else unsigned)
    if attested is None:
        words = f"{amounts} in {row.txid}, before enough oracles have signed a price."
        return paid, made(holds=False, words=words)
    plan = agreement.plan
    event = plan.announcements[0].event
    owed = plan.split_of(bucket_of(plan.buckets, attested, event.signed_digits))
    if (paid.buyer, paid.seller) != (owed.buyer, owed.seller):
        words = f"{amounts} in {row.txid}; at the signed price they are owed {owed.buyer:,} and {owed.seller:,}."
        return paid, made(holds=False, words=words)
    return paid, made(holds=True, words=f"{amounts}, what the contract says at the signed price; {where}: {row.txid}.")


def _of_a_batch(  # noqa: PLR0917 - called once, right above
    agreement: Agreement, kept: Kept, batch: Batched, transaction: Transaction, row: TransactionRow,
    attested: int | None,
) -> tuple[Paid | None, Finding]:  # fmt: skip
    """Return what a transaction that ends many contracts pays of this one, and the check of it.

    Its input is signed by both sides over the whole transaction; its part is what the contract says at the signed
    price, less its share of the fee; each side's output is the sum of its parts, as our rows have them.
    """
    plan, made = agreement.plan, partial(Finding, name="Payout", source=BYTES)
    spent = [one.outpoint for one in transaction.inputs]
    own = next((one for one in batch.ends if one.option_id == kept.option.id), None)
    if own is None or len(spent) != len(batch.ends) or spent[own.position] != plan.funding:
        raise InvalidInputError("payout", "spends something else", "the contract's output, in its place")
    paid = Paid(buyer=Sats(own.paid_sats), seller=Sats(own.returned_sats), anchor=Sats(0), fee=Sats(own.fee_sats))
    amounts = (
        f"The buyer gets {paid.buyer:,} sats and the seller {paid.seller:,}, with {len(spent) - 1} other contracts"
    )
    if len(batch.spent) != len(spent):
        return paid, made(holds=None, words=f"{amounts} in {row.txid}; the fundings of all are not kept here.")
    if not spent_by_both(plan.contract, transaction, own.position, batch.spent):
        return None, made(holds=False, words=f"{row.txid} has not the one signature of both sides of this contract.")
    if attested is None:
        return paid, made(holds=False, words=f"{amounts} in {row.txid}, before enough oracles have signed a price.")
    cet = plan.split_of(bucket_of(plan.buckets, attested, plan.announcements[0].event.signed_digits))
    due = dues_of(plan.contract.collateral, cet, Sats(own.share_sats))
    outputs = {one.script.hex(): one.value for one in transaction.outputs}
    for part, owed, script in (
        (paid.buyer, due.buyer, plan.contract.buyer_script), (paid.seller, due.seller, plan.contract.seller_script),
    ):  # fmt: skip
        dust = not part and owed < dust_limit(script) + own.share_sats
        if (part != owed and not dust) or outputs.get(script.hex(), 0) != batch.paid_to.get(script.hex(), 0):
            words = (
                f"{amounts} in {row.txid}; less its share of the fee they are owed {due.buyer:,} and {due.seller:,}."
            )
            return paid, made(holds=False, words=words)
    where = "no block is known to hold it yet" if row.height is None else f"in block {row.height:,}, says our node"
    said = f"{amounts}, what the contract says at the signed price less its share of the fee; {where}: {row.txid}."
    return paid, made(holds=True, words=said)


def _paid(agreement: Agreement, transaction: Transaction) -> Paid:
    contract, funding = agreement.plan.contract, agreement.funding.transaction
    spent = [one.outpoint for one in transaction.inputs]
    if len(spent) != 1 or spent[0].txid != funding.txid or spent[0].index != FUNDING_OUTPUT:
        raise InvalidInputError("payout", "spends something else", "the contract's output, alone")
    return paid_by(
        transaction, collateral=contract.collateral, buyer_script=contract.buyer_script,
        seller_script=contract.seller_script,
    )  # fmt: skip


def _outcome(paid: Paid | None, *, closed: bool) -> str:
    if paid is None:
        return ""
    if closed:
        return (
            f"Both sides have closed it: who bought it gets {paid.buyer:,} sats, who wrote it has {paid.seller:,} of "
            "the collateral back."
        )
    if not paid.buyer:
        return "It expired worthless: who bought it gets nothing, who wrote it has the collateral back."
    return f"It paid: who bought it gets {paid.buyer:,} sats, who wrote it has {paid.seller:,} of the collateral back."


def _other_terms(proof: bytes, offer: dict[str, Any], agreement: Agreement, attested: int | None) -> str:
    """Return what of a proof's input is not the contract's; empty when all of it is."""
    from btcfi.proofs.table_file import proof_in  # noqa: PLC0415 - compiles when first imported

    proven, event = proof_in(proof), agreement.plan.announcements[0].event
    if proven.program_hash != event.program_hash:
        return "program"  # a sound proof of what another program makes of these terms, the retired ones' to a cent
    given = SettlementInput.from_bytes(proven.input_bytes)
    terms = decode_terms(decode_offer(offer).terms.option)
    price = None if attested is None else event.price_of(attested)
    pairs = (
        ("kind", given.option_type, int(terms.kind)), ("strike", given.strike, terms.strike),
        ("quantity", given.quantity, terms.quantity), ("barrier", given.barrier_level, terms.barrier or 0),
        ("premium", given.premium, terms.premium), ("collateral", given.collateral, terms.collateral),
        ("price", given.spot, given.spot if given.time_to_expiry or price is None else price),
    )  # fmt: skip
    return next((name for name, mine, wanted in pairs if mine != wanted), "")


def _said_by_proof(document: bytes) -> str:
    from btcfi.proofs.explain import payout_in_words  # noqa: PLC0415 - compiles when first imported
    from btcfi.proofs.table_file import proof_in  # noqa: PLC0415 - as above

    proof = proof_in(document)
    if len(proof.output) != SettlementOutput.SIZE:
        return ""
    return payout_in_words(proof.program_hash, proof.input_bytes, proof.output) or ""


# ---- files


def documents_in(raw: bytes, *, most: int) -> list[Document]:
    """Return the files of a body: one JSON object, or a list of them. Raises InvalidInputError."""
    value = parse_json(raw, "file")
    if isinstance(value, dict):
        return [Document(value=value, raw=raw.strip() + b"\n")]
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise InvalidInputError("files", "neither an object nor a list of some", f"1 to {most} JSON files")
    return [Document(value=one, raw=_canonical(one, n)) for n, one in enumerate(value)]


def _canonical(one: object, n: int) -> bytes:
    try:
        return canonical_json(one) + b"\n"
    except TypeError as e:
        raise InvalidInputError(f"file {n + 1}", "has a number with a point", "whole numbers, as ours all have") from e


def _sorted_out(documents: Sequence[Document]) -> dict[str, list[Any]]:
    from btcfi.proofs.settlement_proof import FORMAT  # noqa: PLC0415 - compiles when first imported

    found: dict[str, list[Any]] = {}
    for n, document in enumerate(documents):
        one = document.value if isinstance(document.value, dict) else {}
        kind = one.get("type")
        if one.get("format") == FORMAT:
            found.setdefault(_PROOF, []).append(document.raw)
        elif isinstance(kind, str) and kind in _KINDS:
            found.setdefault(kind, []).append(one)
        elif "oracle_key" in one and "nonces" in one:
            found.setdefault(_ANNOUNCEMENT, []).append(one)
        else:
            expected = "a proof file, or an offer, accept, sign, announcement or attestation message"
            raise InvalidInputError(f"file {n + 1}", "is none that can be checked", expected)
    return found


def _the_one(found: dict[str, list[Any]], kind: str, *, needed: bool) -> Any:  # noqa: ANN401 - JSON
    many = found.get(kind, [])
    if len(many) > 1 or (needed and not many):
        expected = "an offer and an accept, and a sign if there is one"
        raise InvalidInputError("files", f"{len(many)} {kind} messages", expected)
    return many[0] if many else None
