"""Both sides of a disputed contract with separate secrets, over agreed minutes that some oracles attest."""

import hashlib
from dataclasses import replace
from functools import cached_property
from math import comb

import numpy as np

from btcfi import secp256k1
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.transaction import SEQUENCE_RBF, OutPoint, Transaction, TxIn
from btcfi.disputes.claims import Ranges, price_claim
from btcfi.disputes.garbled.graph import Graph
from btcfi.disputes.garbled.presign import (
    ClaimSecrets,
    SilenceSecrets,
    attested_of,
    build_claim,
    check_claims,
    check_silence,
    presign_claims,
    presign_silence,
)
from btcfi.disputes.garbled.setup import CONSERVATIVE, Garbler, Subject, draw_cut, kept_of
from btcfi.disputes.garbled.terms import ClaimantKeys, DisputeTerms, VerifierKeys
from btcfi.oracle.announcement import OracleEvent, announce
from btcfi.oracle.attestation import attest
from btcfi.units import Hash32, Height, Sats, Slot

RANGES = Ranges(
    starts=(0, 60_000, *range(61_000, 76_000, 1_000)), payouts=tuple(Sats(1_000_000 * at) for at in range(17))
)
"""A capped call on $60,000: 17 ranges up to 0.16 BTC."""


def secret(*names):
    return hashlib.sha256(repr(names).encode()).digest()


class Memory:
    """A ledger of attestations in memory."""

    def __init__(self):
        self.told = {}

    def claim(self, *, oracle_key, event, outcome):
        return self.told.setdefault((oracle_key, event), outcome)


class Side:
    """One side's secrets."""

    def __init__(self, name, attempt, sets):
        make = lambda use: secp256k1.even_secret(secret(name, attempt, use))  # noqa: E731 - said often below
        self.open, self.claim, self.payout, self.escrow = (make(use) for use in ("open", "claim", "payout", "escrow"))
        self.both, self.bond, self.overdue = (make(use) for use in ("both", "bond", "overdue"))
        self.digits = [make(("digits", which)) for which in range(sets)]
        self.wallet = wallet_key(secret(name, "wallet"), 0)


class Dispute:
    """A contract from its set-up to its end; every attribute is made when it is first asked for."""

    def __init__(
        self, claim=None, *, oracles=3, threshold=2, silence=30, refund=60, blocks=12, fee=400, attempt=0,
        bond=2_000_000, collateral=16_000_000, claim_height=0,
    ):  # fmt: skip
        """claim_height: of a lazy contract."""
        self.claim_height, self.challenge_bond = claim_height, 50_000 if claim_height else 0
        self.claim = claim or price_claim(RANGES)
        self.secrets = [secret("oracle", place) for place in range(oracles)]
        self.threshold, self.silence_height, self.refund_height = threshold, silence, refund
        self.blocks, self.fee, self.attempt, self.bond, self.collateral = blocks, fee, attempt, bond, collateral
        sets = comb(oracles, threshold)
        self.p, self.v = Side("claimant", 0, sets), Side("verifier", attempt, sets)

    @cached_property
    def events(self):
        return tuple(
            OracleEvent(
                feed="BTC/USD", expiry=Slot(1_800_000_000 + 60 * minute), program_hash=Hash32(bytes(32)),
                preset_hash=Hash32(bytes(32)), version=2,
            )
            for minute in range(self.claim.events)
        )  # fmt: skip

    @cached_property
    def announcements(self):
        return tuple(tuple(announce(one, event) for one in self.secrets) for event in self.events)

    @cached_property
    def terms(self):
        p, v, xonly, point = self.p, self.v, secp256k1.public_key_xonly, secp256k1.public_key_compressed
        return DisputeTerms(
            claim=self.claim, copies=CONSERVATIVE, events=self.announcements, threshold=self.threshold,
            collateral=Sats(self.collateral), bond=Sats(self.bond), challenge_bond=Sats(self.challenge_bond),
            claim_height=Height(self.claim_height), silence_height=Height(self.silence_height),
            refund_height=Height(self.refund_height), dispute_blocks=self.blocks, fee=Sats(self.fee),
            claimant=ClaimantKeys(
                open=point(p.open), claim=xonly(p.claim), both=xonly(p.both), payout=xonly(p.payout),
                silence=tuple(xonly(one) for one in p.digits), script=p.wallet.script,
            ),
            verifier=VerifierKeys(
                open=point(v.open), claim=xonly(v.claim), both=xonly(v.both), overdue=xonly(v.overdue),
                bond=xonly(v.bond),
                escrow=point(v.escrow),
                digits=tuple(xonly(one) for one in v.digits), script=v.wallet.script,
            ),
        )  # fmt: skip

    @cached_property
    def cut(self):
        return draw_cut(CONSERVATIVE, secret("cut", self.attempt, 0) + secret("cut", self.attempt, 1))

    @cached_property
    def garbler(self):
        cut = self.cut.commitment()
        subject = Subject(circuit=self.claim.circuit, copies=CONSERVATIVE, terms=self.terms.id, cut=cut)
        return Garbler(subject, secret("garbler"))

    @cached_property
    def commitments(self):
        return self.garbler.commitments()

    @cached_property
    def kept(self):
        opened = self.garbler.openings(self.cut)
        return kept_of(self.garbler.subject, self.commitments, self.cut, opened, coins=secret("coins"))

    def opened(self, wallet):
        """Fund the opening, by both where both have a bond in it, once each has checked all that the other signed."""
        outputs = Graph(self.terms, self.commitments).open_txouts
        shares = [(self.p.wallet, sum(one.value for one in outputs) - self.challenge_bond)]
        shares += [(self.v.wallet, self.challenge_bond)] if self.challenge_bond else []
        coins = [(key, *wallet.coins_for(key.script, [amount + 1_000])) for key, amount in shares]
        opening = Transaction(
            version=2, inputs=tuple(TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_RBF) for _, coin in coins),
            outputs=outputs,
        )  # fmt: skip
        self.signed(opening.txid)
        spent = [coin.output for _, coin in coins]
        signed = opening
        for index, (key, _) in enumerate(coins):
            signed = signed.with_witness(index, [key.sign_input(opening, index, spent)])
        wallet.node.send(signed)
        wallet.mine()
        return signed

    def signed(self, opening):
        """Sign all that stands before an opening, by both, each having checked the other's."""
        self.graph = Graph(self.terms, self.commitments, opening)
        _ = self.kept
        self.of_claims = presign_claims(
            self.graph, ClaimSecrets(digits=tuple(self.v.digits), claim=self.v.claim, both=self.v.both)
        )
        check_claims(self.graph, self.of_claims)
        self.of_silence = presign_silence(
            self.graph, SilenceSecrets(silence=tuple(self.p.digits), both=self.p.both)
        )  # fmt: skip
        check_silence(self.graph, self.of_silence)

    def attestations(self, outcomes, oracles=None):
        """What these oracles attest of outcomes, by event."""
        ledger, places = Memory(), range(len(self.secrets)) if oracles is None else oracles
        return [
            {place: attest(self.secrets[place], event[place], outcome, ledger) for place in places}
            for event, outcome in zip(self.announcements, outcomes, strict=True)
        ]

    @property
    def locked(self):
        """What the claimant puts in, and nothing of the verifier's."""
        return self.collateral + self.bond

    def attested(self, outcomes, which=0):
        return attested_of(self.graph, outcomes, self.attestations(outcomes), which)

    def right(self, outcomes):
        return int(self.claim.range_of(np.array(outcomes)[:, None])[0])

    def claimed(self, number, attested, **options):
        return build_claim(
            self.graph, self.of_claims, self.garbler, number=number, attested=attested, claim=self.p.claim, **options
        )  # fmt: skip


def with_child(wallet, transaction, key, rate=5):
    """Send a transaction with a child of its anchor that pays for both, and mine them."""
    (coin,) = wallet.coins_for(key.script, [50_000])
    anchor = len(transaction.outputs) - 1
    size = transaction.vsize + 160
    child = Transaction(
        version=3,
        inputs=(TxIn(outpoint=OutPoint(txid=transaction.txid, index=anchor)), TxIn(outpoint=coin.outpoint)),
        outputs=(replace(coin.output, value=Sats(50_240 - rate * size)),),
    )
    spent = [transaction.outputs[anchor], coin.output]
    child = child.with_witness(1, [key.sign_input(child, 1, spent)])
    wallet.node.send_package([transaction, child])
    wallet.mine()
    assert wallet.confirmations(transaction.txid) == 1
    return child
