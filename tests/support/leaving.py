"""Both sides and the oracles of a contract that leaves judge, with separate secrets."""

import hashlib
from functools import cached_property

from btcfi import secp256k1
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.transaction import SEQUENCE_RBF, Transaction, TxIn
from btcfi.disputes.claims import Ranges
from btcfi.disputes.leaves.graph import (
    LeafGraph,
    build_claim,
    build_disproof,
    check_claims,
    check_silence,
    presign_claims,
    presign_silence,
)
from btcfi.disputes.leaves.terms import LeafClaimant, LeafTerms, LeafVerifier
from btcfi.disputes.leaves.words import derived_key, digits_for
from btcfi.units import Height, Sats, Txid

RANGES = Ranges(
    starts=(0, 60_000, *range(61_000, 76_000, 1_000)), payouts=tuple(Sats(1_000_000 * at) for at in range(17))
)
"""A capped call on $60,000: 17 ranges up to 0.16 BTC."""


OPENING = Txid(bytes(range(32)))


def secret(*names):
    return hashlib.sha256(repr(names).encode()).digest()


def even(*names):
    return secp256k1.even_secret(secret(*names))


class LeafDispute:
    """A contract from its terms to its end."""

    def __init__(self, claim, *, oracles=3, threshold=2, silence=30, refund=60, blocks=12, fee=400, bond=2_000_000):
        self.claim, self.many, self.threshold = claim, oracles, threshold
        self.silence_height, self.refund_height, self.blocks, self.fee, self.bond = silence, refund, blocks, fee, bond
        self.p = {use: even("leaf claimant", use) for use in ("open", "claim", "payout")}
        self.v = {use: even("leaf verifier", use) for use in ("open", "claim", "escrow", "silence")}
        self.p_wallet = wallet_key(secret("leaf claimant", "wallet"), 0)
        self.v_wallet = wallet_key(secret("leaf verifier", "wallet"), 0)
        self.words = {name: derived_key(secret("words"), name, claim.digits(name)) for name in claim.words}
        self.oracles = [
            [derived_key(secret("oracle", which), name, digits_for((1 << 18) - 1)) for which in range(oracles)]
            for name in claim.program.inputs
        ]

    @cached_property
    def terms(self):
        xonly, point, p, v = secp256k1.public_key_xonly, secp256k1.public_key_compressed, self.p, self.v
        return LeafTerms(
            claim=self.claim, oracles=tuple(tuple(one.word for one in row) for row in self.oracles),
            threshold=self.threshold, collateral=Sats(16_000_000), bond=Sats(self.bond),
            silence_height=Height(self.silence_height), refund_height=Height(self.refund_height),
            dispute_blocks=self.blocks, fee=Sats(self.fee),
            claimant=LeafClaimant(
                open=point(p["open"]), claim=xonly(p["claim"]), payout=xonly(p["payout"]),
                words={name: key.word for name, key in self.words.items()}, script=self.p_wallet.script,
            ),
            verifier=LeafVerifier(
                open=point(v["open"]), claim=xonly(v["claim"]), escrow=xonly(v["escrow"]), silence=xonly(v["silence"]),
                script=self.v_wallet.script,
            ),
        )  # fmt: skip

    def signed(self, opening=OPENING):
        """Sign all that stands before an opening, by both, each having checked the other's."""
        self.graph = LeafGraph(self.terms, opening)
        self.of_claims = presign_claims(self.graph, self.v["claim"])
        check_claims(self.graph, self.of_claims)
        self.of_silence = presign_silence(self.graph, self.p["claim"])
        check_silence(self.graph, self.of_silence)
        return self

    def opened(self, wallet):
        """Fund the opening, once both have checked all that the other signed."""
        output = LeafGraph(self.terms, Txid(bytes(32))).open_txout
        coins = wallet.coins_for(self.p_wallet.script, [output.value + 1_000])
        opening = Transaction(
            version=2, inputs=tuple(TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_RBF) for coin in coins),
            outputs=(output,),
        )  # fmt: skip
        self.signed(opening.txid)
        opening = opening.with_witness(0, [self.p_wallet.sign_input(opening, 0, [coin.output for coin in coins])])
        wallet.node.send(opening)
        wallet.mine()
        return self

    def shown(self, outcomes, which=0):
        """What a set of oracles signed, by price."""
        return [
            [row[oracle].sign(outcome) for oracle in self.terms.sets[which]]
            for row, outcome in zip(self.oracles, outcomes, strict=True)
        ]

    def own(self, said):
        return {name: self.words[name].sign(said[name]) for name in self.claim.words}

    def right(self, outcomes):
        answer = self.claim.program.run(outcomes)[self.claim.program.result]
        return max(place for place, start in enumerate(self.claim.starts) if start <= answer)

    def claimed(self, number, outcomes, *, said=None, which=0, silent=False):
        """A claim; said: other words than the program computes."""
        own = self.own({**self.claim.signed_values(outcomes), **(said or {})})
        return build_claim(
            self.graph, self.of_claims, number=number, which=which, own=own, oracles=self.shown(outcomes, which),
            secret=self.p["claim"], silent=silent,
        )  # fmt: skip

    def disproof(self, read, place):
        digest = self.graph.disproof_digest(read.number, place, silent=read.silent)
        return build_disproof(self.graph, read, place, secp256k1.schnorr_sign(self.v["escrow"], digest))
