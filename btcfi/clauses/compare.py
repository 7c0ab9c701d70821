"""One curve as a tree of clauses, as one transaction of clauses, and as the product's flat CETs: what each takes.

Everything is really built, signed by both sides and finished for each level, with keys that everybody knows; nothing
is funded. What is counted are transactions, signatures and bytes, so two runs give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.musig import KeyAggregate
from btcfi.bitcoin.script import p2tr
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxOut
from btcfi.clauses.bet import FlatBet, GenericBet, NoShow, bet, divided, flat
from btcfi.clauses.contract import Parties
from btcfi.clauses.flat import flat_buckets
from btcfi.clauses.oracle import AttestingSecrets, Oracle, PreimageSecrets, ThresholdOracle, together
from btcfi.clauses.plan import Plan, Terms, check_presignatures, finish, presign, tree
from btcfi.clauses.risk_reversal import RiskReversal, Row, outcomes_of, thinned
from btcfi.contracts import execution
from btcfi.contracts.execution import ANCHOR, ExecutionPlan
from btcfi.contracts.option import OptionContract
from btcfi.contracts.settle import child_vsize, complete_cet
from btcfi.hashes import sha256
from btcfi.oracle.announcement import CENTS_PER_DOLLAR, PRICE_DIGITS, OracleEvent, announce
from btcfi.oracle.attestation import attest
from btcfi.units import CentsPerBtc, Hash32, Height, Sats, Slot, Txid

SYMBOL: Final = "BTC-USD"
RATE: Final = SatsPerKvb(2000)
"""2 sat/vB; sizes do not hang on it."""

CURVE: Final = RiskReversal(amount=Sats(10_000_000), current=500_000_000, down=(1, 10), up=(1, 10))
"""A tenth of a bitcoin held at its dollars between $45,000 and $55,000."""

ORACLES: Final = 3
_NO_SHOW: Final = Height(1000)
_DELAY: Final = 144
_CET_FEE: Final = Sats(400)
_SIGNATURE_SIZE: Final = 64
_FUNDING: Final = OutPoint(txid=Txid(bytes(32)), index=0)
_EXPIRY: Final = Slot(1_800_000_000)
_DOLLAR: Final = 10_000


def _example(name: str) -> bytes:
    """Return a secret that everybody can compute."""
    return sha256(b"BTCFi/clauses/example/" + name.encode())


USER, OPERATOR = (secp256k1.public_key_xonly(_example(name)) for name in ("user", "operator"))
PARTIES: Final = Parties(
    one=USER,
    two=OPERATOR,
    cooperate=KeyAggregate([secp256k1.public_key_compressed(_example(name)) for name in ("user", "operator")]).xonly,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One way to settle the curve."""

    shape: str
    """tree, flat, or digits: the product's CETs."""
    oracle: str
    """preimage or attesting."""
    threshold: int = 1
    """1: of one oracle; 2: of three."""
    encrypted: bool = False
    """Whether the oracles' points encrypt the signatures, or stand in scripts."""

    @property
    def name(self) -> str:
        """What it is called."""
        oracles = "2 of 3" if self.threshold > 1 else "1"
        if self.shape == "digits":
            return f"CETs of {PRICE_DIGITS} digits, {oracles}"
        shown = "preimage" if self.oracle == "preimage" else "encrypted" if self.encrypted else "key in script"
        return f"{self.shape}, {shown}, {oracles}"


FORMS: Final = (
    *(
        Form(shape=shape, oracle=oracle, threshold=threshold, encrypted=encrypted)
        for shape in ("tree", "flat")
        for oracle, encrypted in (("preimage", False), ("attesting", False), ("attesting", True))
        for threshold in (1, 2)
    ),
    Form(shape="digits", oracle="attesting", threshold=1, encrypted=True),
    Form(shape="digits", oracle="attesting", threshold=2, encrypted=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One transaction of a road, with all witnesses."""

    transaction: Transaction
    spent: tuple[TxOut, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a form takes at so many levels."""

    form: Form
    levels: int
    transactions: int
    """Signed before funding, the no-shows among them; the product's refund needs no signature before."""
    plain: int
    """Plain signatures of each side."""
    encrypted: int
    """Signatures of each side under a point."""
    signature_bytes: int
    """That each side sends to the other."""
    road_transactions: int
    """On the longest road, in a row."""
    road_vbytes: int
    shown_bytes: int
    """Of scripts and proofs of leaves that the longest road shows to everybody."""
    statements: int
    """That each oracle announces for this curve."""
    shared_statements: bool
    """Whether contracts of another curve use the same ones."""
    answers: int
    """That the longest road needs of an oracle."""
    paid: tuple[tuple[Sats, Sats], ...]
    """(user, operator) at each level."""
    roads: tuple[tuple[Finished, ...], ...] = field(repr=False)
    """Of each level, first to last."""
    outputs: tuple[tuple[str, bytes], ...] = field(repr=False)
    """Every output of the form as a descriptor, with its script; the product's has a leaf that is no miniscript."""


def measure(form: Form, levels: int) -> Measured:
    """Return what a form of the example's curve takes at 2 to 10,001 levels. Raises InvalidInputError."""
    rows = thinned(CURVE.rows(), levels)
    return _digits(form, rows) if form.shape == "digits" else _clauses(form, rows)


def child_vbytes() -> int:
    """Return the size of the transaction that raises a CET's fee and carries the proof root."""
    return child_vsize(p2tr(USER))


def _clauses(form: Form, rows: Sequence[Row]) -> Measured:
    levels = [row.level for row in rows]
    kept = [
        PreimageSecrets(secret=_example(f"oracle {n}"))
        if form.oracle == "preimage"
        else AttestingSecrets(secret=_example(f"oracle {n}"))
        for n in range(ORACLES if form.threshold > 1 else 1)
    ]
    published = tuple(one.publish(SYMBOL, levels) for one in kept)
    oracle: Oracle = published[0]
    if form.threshold > 1:
        oracle = ThresholdOracle(oracles=published, threshold=form.threshold)
    one = bet(
        amount=CURVE.max_amount,
        outcomes=outcomes_of(rows, user_script=p2tr(USER), operator_script=p2tr(OPERATOR)),
        oracle=oracle,
        symbol=SYMBOL,
        no_show=NoShow(
            pays=divided(
                CURVE.max_amount, Sats(CURVE.max_amount // 2), script=p2tr(USER), rest_script=p2tr(OPERATOR)
            ),
            after=_NO_SHOW,
            delay=_DELAY,
        ),
    )  # fmt: skip
    contract: GenericBet | FlatBet = flat(one) if form.shape == "flat" else one
    made = tree(contract, Terms(parties=PARTIES, rate=RATE, encrypted=form.encrypted))
    plan = made.plan(_FUNDING)
    signed = [presign(plan, _example(name)) for name in ("user", "operator")]
    for key, signatures in zip((USER, OPERATOR), signed, strict=True):
        check_presignatures(plan, key, signatures)
    # each oracle's two answers a level, made once; a road is shown the true one of each
    answers = [
        {(level, bool(side)): each.answer(SYMBOL, level, price=level - 1 + side) for level in levels for side in (0, 1)}
        for each in kept
    ]
    roads = []
    for level in levels:
        shown = together([said[asked, level >= asked] for said in answers for asked in levels])
        path = contract.path_of(level)
        roads.append(
            tuple(
                Finished(
                    transaction=finish(plan, path[: n + 1], one=signed[0], two=signed[1], shown=shown),
                    spent=plan.step(path[: n + 1]).spent,
                )
                for n in range(len(path))
            )
        )
    longest = max(roads, key=_vbytes)
    return Measured(
        form=form,
        levels=len(rows),
        transactions=len(plan.steps),
        plain=sum(len(one) == _SIGNATURE_SIZE for one in signed[0]),
        encrypted=sum(len(one) == ADAPTOR_SIZE for one in signed[0]),
        signature_bytes=sum(len(one) for one in signed[0]),
        road_transactions=len(longest),
        road_vbytes=_vbytes(longest),
        shown_bytes=_shown(longest),
        # nobody asks about the lowest level: below it the same is paid
        statements=len(rows) - 1,
        shared_statements=False,
        answers=len(longest) if form.shape == "tree" else _most_around(plan),
        paid=tuple(_paid(road[-1].transaction) for road in roads),
        roads=tuple(roads),
        outputs=tuple(made.descriptors()),
    )


def _most_around(plan: Plan) -> int:
    """Return how many answers a flat way needs at most: one at each end of the curve, two between."""
    return min(2, len(plan.steps) - 2)


def _digits(form: Form, rows: Sequence[Row]) -> Measured:
    contract = OptionContract(
        buyer_key=USER, seller_key=OPERATOR, buyer_script=p2tr(USER), seller_script=p2tr(OPERATOR),
        collateral=Sats(CURVE.max_amount + ANCHOR.value + _CET_FEE), expiry_height=Height(_NO_SHOW - _DELAY),
        refund_height=_NO_SHOW, internal_key=PARTIES.cooperate, nearest_dust=True,
    )  # fmt: skip
    event = OracleEvent(feed="BTC/USD", expiry=_EXPIRY, program_hash=Hash32(bytes(32)), preset_hash=Hash32(bytes(32)))
    secrets = [_example(f"oracle {n}") for n in range(ORACLES if form.threshold > 1 else 1)]
    announcements = tuple(announce(secret, event) for secret in secrets)
    plan = ExecutionPlan(
        contract=contract, funding=_FUNDING, buckets=flat_buckets(rows, event.digits), announcements=announcements,
        threshold=form.threshold, cet_fee=_CET_FEE,
    )  # fmt: skip
    user, operator = (execution.presign(plan, _example(name)) for name in ("user", "operator"))
    execution.check_presignatures(plan, "buyer", user)
    execution.check_presignatures(plan, "seller", operator)
    roads, paid = [], []
    for row in rows:
        outcome = event.outcome(CentsPerBtc(row.level // _DOLLAR * CENTS_PER_DOLLAR))
        said = [
            attest(secret, announcement, outcome, _Once())
            for secret, announcement in zip(secrets, announcements, strict=True)
        ]
        cet = complete_cet(plan, buyer=user, seller=operator, attestations=said[: form.threshold])
        roads.append((Finished(transaction=cet.transaction, spent=(contract.funding_txout(),)),))
        paid.append((cet.payout, cet.seller_return))
    longest = max(roads, key=_vbytes)
    return Measured(
        form=form,
        levels=len(rows),
        transactions=len({bucket.payout for bucket in plan.buckets}),
        plain=0,
        encrypted=plan.signature_count,
        signature_bytes=len(user),
        road_transactions=1,
        road_vbytes=_vbytes(longest),
        shown_bytes=_shown(longest),
        statements=event.signed_digits,
        shared_statements=True,
        answers=event.signed_digits,
        paid=tuple(paid),
        roads=tuple(roads),
        outputs=(),
    )


class _Once:
    """A ledger of one attestation: each level is another world."""

    def claim(self, *, oracle_key: bytes, event: Hash32, outcome: int) -> int:  # noqa: ARG002 - a ledger's words
        """Return the outcome that is attested: this one."""
        return outcome


def _vbytes(road: Sequence[Finished]) -> int:
    return sum(one.transaction.vsize for one in road)


def _shown(road: Sequence[Finished]) -> int:
    return sum(len(item) for one in road for item in one.transaction.inputs[0].witness[-2:])


def _paid(transaction: Transaction) -> tuple[Sats, Sats]:
    by = {output.script: output.value for output in transaction.outputs}
    return by.get(p2tr(USER), Sats(0)), by.get(p2tr(OPERATOR), Sats(0))


Check = Callable[[Finished], bool]
"""Whether somebody else's code lets a transaction spend what it spends."""
