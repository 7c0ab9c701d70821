"""Two parties, an oracle and a contract between them, for tests: deterministic keys, a payoff of the guest's shape."""

from dataclasses import dataclass, field, replace

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.transaction import OutPoint, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts import setup
from btcfi.contracts.buckets import STANDARD_TOLERANCE, Rounding, StepRule, ToleranceRule
from btcfi.contracts.messages import ContractTerms, Party, Role
from btcfi.contracts.payouts import encode_terms
from btcfi.contracts.setup import SetupPolicy
from btcfi.options.terms import OptionKind, OptionTerms
from btcfi.oracle.announcement import OracleEvent, announce
from btcfi.oracle.attestation import attest
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Hash32, Height, Sats, Slot, Txid

SEED = bytes(range(32))
BUYER, SELLER = wallet_key(SEED, 0, account=1), wallet_key(SEED, 0, account=2)
BUYER_SECRET, SELLER_SECRET = wallet_key(SEED, 1, account=1).secret, wallet_key(SEED, 1, account=2).secret
ORACLES = [bytes([100 + n]) * 32 for n in range(3)]
COLLATERAL = Sats(10_000_000)
STRIKE = CentsPerBtc(10_000_000)
RATE = SatsPerKvb(2000)
COARSE = 10_000
"""Basis points: the widest tolerance, for tests to which two dozen buckets are enough."""
PROOF_ROOT = Hash32(bytes(range(32)))
POLICY = SetupPolicy(min_refund_delay=2)


class MemoryLedger:
    """Test support: a ledger that lasts as long as the test."""

    def __init__(self):
        self.rows = {}

    def claim(self, *, oracle_key, event, outcome):
        return self.rows.setdefault((oracle_key, event), outcome)


def call_payouts(prices, *, strike=STRIKE, collateral=COLLATERAL):
    """A covered call, settled in bitcoin: collateral * (S - K) / S, rounded down."""
    return [Sats(collateral * max(price - strike, 0) // price) for price in prices]


def put_payouts(prices, *, strike=STRIKE, collateral=COLLATERAL):
    """A put, settled in bitcoin and capped by the collateral."""
    return [Sats(min(collateral, collateral * max(strike - price, 0) // price)) for price in prices]


def event(digits=18, condition="", minute=29_000_000):
    return OracleEvent(
        feed="BTC-USD",
        expiry=Slot(60 * minute),
        program_hash=Hash32(b"\x01" * 32),
        preset_hash=Hash32(b"\x02" * 32),
        digits=digits,
        condition=condition,
    )


def option_terms(event):
    """The terms of the scene's option: a call that expires when its event does."""
    return OptionTerms(
        kind=OptionKind.CALL, strike=STRIKE, quantity=CentiBtc(10), barrier=None, american=False, expiry=event.expiry,
        premium=Cents(5_000), collateral=COLLATERAL,
    )  # fmt: skip


def coin(number, value, script):
    return Coin(
        outpoint=OutPoint(txid=Txid(bytes([number]) * 32), index=0), output=TxOut(value=Sats(value), script=script)
    )


def party(key, secret, coins):
    return Party(
        key=public_key_compressed(secret), payout_script=key.script, change_script=key.script, coins=tuple(coins)
    )


@dataclass
class Scene:
    """One contract between the two, up to the messages."""

    event: OracleEvent = field(default_factory=event)
    oracles: int = 1
    threshold: int = 1
    payouts: object = call_payouts
    tolerance: int = STANDARD_TOLERANCE
    premium: int = 50_000
    expiry_height: int = 200
    refund_height: int = 350
    tree: str = "standard"
    seller_coins: list = field(default_factory=lambda: [coin(1, 10_100_000, SELLER.script)])
    buyer_coins: list = field(default_factory=lambda: [coin(2, 60_000, BUYER.script)])
    offering: Role = Role.SELLER
    option: dict | None = None
    collateral: int = COLLATERAL
    breakpoints: tuple = (STRIKE,)

    def __post_init__(self):
        self.announcements = tuple(announce(secret, self.event) for secret in ORACLES[: self.oracles])
        self.ledger = MemoryLedger()
        self.seller = party(SELLER, SELLER_SECRET, self.seller_coins)
        self.buyer = party(BUYER, BUYER_SECRET, self.buyer_coins)
        self.terms = ContractTerms(
            option=self.option or encode_terms(option_terms(self.event)),
            collateral=Sats(self.collateral),
            premium=Sats(self.premium),
            expiry_height=Height(self.expiry_height),
            refund_height=Height(self.refund_height),
            rate=RATE,
            rule=ToleranceRule(tolerance=BasisPoints(self.tolerance)),
            breakpoints=self.breakpoints,
            announcements=self.announcements,
            threshold=self.threshold,
            tree=self.tree,
            release_hash=Hash32(b"\x03" * 32) if self.tree == "proof_required" else None,
        )

    def side(self, role):
        """(party, contract secret, wallet) of a role."""
        if role is Role.SELLER:
            return self.seller, SELLER_SECRET, {SELLER.script: SELLER}
        return self.buyer, BUYER_SECRET, {BUYER.script: BUYER}

    def offer(self):
        return setup.propose(self.terms, role=self.offering, party=self.side(self.offering)[0])

    def agreement(self, offer=None, **changes):
        accepting = self.side(self.offering.other)[0]
        arguments = {"event": self.event, "policy": POLICY} | changes
        return setup.agree(offer or self.offer(), accepting, self.payouts, **arguments)

    def run(self, **right):
        """All three messages; returns (agreement, accept, sign, funding transaction). right: as ``authority``."""
        offer, agreement = self.offer(), self.agreement()
        offering, accepting, right = self.side(self.offering), self.side(self.offering.other), self.authority(**right)
        accepted = setup.accept(offer, agreement, accepting[0], accepting[1], authority=right)
        signed = setup.sign(offer, accepted, agreement, offering[1], offering[2], authority=right)
        return agreement, accepted, signed, setup.complete(agreement, signed, accepting[2], authority=right)

    def authority(self, **changes):
        """The right of either owner to sign this scene, whatever it is; with changes of the mandate."""
        from tests.support.mandates import authority  # noqa: PLC0415 - it takes its oracles from here

        programs = (self.event.program_hash,)
        return authority(oracles=ORACLES[: self.oracles], threshold=self.threshold, programs=programs, **changes)

    def presignatures(self, accepted, signed):
        """{role name: pre-signatures}."""
        return {self.offering.other.value: accepted.presignatures, self.offering.value: signed.presignatures}

    def attestations(self, price, *, condition=False, count=None):
        outcome = self.event.outcome(CentsPerBtc(price), condition=condition)
        chosen = list(zip(ORACLES, self.announcements, strict=False))[:count]
        return [attest(secret, announcement, outcome, self.ledger) for secret, announcement in chosen]

    def of_version(self, version, step=10_000):
        """The same contract as an earlier release made it: in steps, and in version 1 without a fee of a CET."""
        old = {"version": version, "rule": StepRule(step=Sats(step), rounding=Rounding.DOWN)}
        return self.with_terms(**old | ({"cet_fee": Sats(0)} if version == 1 else {}))

    def with_terms(self, **changes):
        self.terms = replace(self.terms, **changes)
        return self
