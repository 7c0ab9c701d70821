"""Every kind of transaction of a disputed contract, signed, of both engines and several claims: to be measured."""

import time
from dataclasses import dataclass
from functools import cache

from btcfi.bitcoin.fees import OVERHEAD_WEIGHT, P2TR_INPUT_WEIGHT, P2TR_OUTPUT_WEIGHT, vsize_of
from btcfi.disputes import claims as gates
from btcfi.disputes.claims import Ranges
from btcfi.disputes.garbled import messages as garbled_messages
from btcfi.disputes.garbled import presign
from btcfi.disputes.leaves import graph as leaf_graph
from btcfi.disputes.leaves import messages as leaf_messages
from btcfi.disputes.leaves import payoffs
from btcfi.disputes.leaves.graph import read_claim as read_leaf_claim
from btcfi.units import Sats, Txid
from tests.support.disputing import Dispute, secret
from tests.support.leaving import RANGES, LeafDispute

SPOT = 67_890
FEE = Sats(400)
OPENING = Txid(bytes(range(32)))
BARRIER = 75_500

FINE = Ranges(
    starts=(0, *range(60_000, 60_000 + 64 * 256, 64)), payouts=tuple(Sats(62_500 * at) for at in range(257))
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Contract:
    """A contract's transactions by what they do, and what both sides send each other before its opening."""

    name: str
    engine: str
    made: dict
    happy: tuple[str, ...]
    """What is mined where nobody lies and nobody is silent, after the opening."""
    dispute: tuple[str, ...]
    """What is mined where the claim is a lie."""
    inputs: int
    """Of the opening as it is counted: one of each side that puts something in, and no change."""
    sent: int
    """Bytes that both send before the opening, apart from what names terms and coins."""
    seconds: float
    """Of a processor, for both sides' work until the opening is signed."""

    @property
    def opening(self) -> int:
        weight = OVERHEAD_WEIGHT + self.inputs * (P2TR_INPUT_WEIGHT + P2TR_OUTPUT_WEIGHT)
        return vsize_of(weight)

    def vsize(self, names) -> int:
        return self.opening + sum(self.made[name].vsize for name in names)


def leaf_contract(name, claim, outcomes):
    began = time.process_time()
    dispute = LeafDispute(claim).signed()
    took = time.process_time() - began
    graph, number = dispute.graph, dispute.right(outcomes)
    made = dispute.claimed(number, outcomes)
    read = read_leaf_claim(graph, made)
    wallets = {"claimant": dispute.p_wallet.script, "verifier": dispute.v_wallet.script}
    disproofs = {
        f"disproof of group {place}": dispute.disproof(read, place) for place in range(len(claim.groups))
    }  # fmt: skip
    largest = max(disproofs, key=lambda one: disproofs[one].vsize)
    silence = leaf_graph.build_silence(
        graph, dispute.of_silence, which=0, oracles=dispute.shown(outcomes), secret=dispute.v["claim"]
    )  # fmt: skip
    parts = {
        "claim": made,
        "payout": leaf_graph.build_payout(
            graph, number, secret=dispute.p["payout"], script=wallets["claimant"], fee=FEE
        ),
        **{one: disproofs[one] for one in disproofs if one != largest},
        "disproof": disproofs[largest],
        "silence": silence,
        "claim after silence": dispute.claimed(number, outcomes, silent=True),
        "end of silence": leaf_graph.build_silent_end(
            graph, secret=dispute.v["silence"], script=wallets["verifier"], fee=FEE
        ),
        "refund": leaf_graph.build_refund(graph, secret=dispute.p["payout"], script=wallets["claimant"], fee=FEE),
    }  # fmt: skip
    sent = leaf_messages.encode_claims(graph, dispute.of_claims) + leaf_messages.encode_silence(dispute.of_silence)
    keys = sum(20 * len(word.ends) for word in graph.terms.claimant.words.values())
    return Contract(
        name=name, engine="leaves", made=parts, happy=("claim", "payout"), dispute=("claim", "disproof"), inputs=1,
        sent=len(sent) + keys, seconds=took,
    )  # fmt: skip


def garbled_contract(name, claim, outcomes, *, lazy=False):
    began = time.process_time()
    dispute = Dispute(claim, claim_height=10 if lazy else 0)
    dispute.signed(OPENING)
    took = time.process_time() - began
    graph, number = dispute.graph, dispute.right(outcomes)
    p, v, attested = dispute.p, dispute.v, dispute.attested(outcomes)
    made = dispute.claimed(number, attested)
    parts = {"claim": made}
    shows = made
    if lazy:
        named = (number, False)
        parts["release"] = presign.build_release(graph, dispute.of_claims, named, both=p.both)
        parts["challenge"] = presign.build_challenge(graph, dispute.of_silence, named, both=v.both)
        shows = presign.build_reveal(
            graph, dispute.of_claims, dispute.garbler, named, attested=attested, claim=p.claim, both=p.both
        )
        parts["reveal"] = shows
        parts["overdue"] = presign.build_overdue(
            graph, parts["challenge"], overdue=v.overdue, script=v.wallet.script, fee=FEE
        )
        parts["bond home"] = presign.build_bond_home(graph, bond=v.bond, script=v.wallet.script, fee=FEE)
    parts["payout"] = presign.build_payout(graph, shows, payout=p.payout, script=p.wallet.script, fee=FEE)
    parts["disproof"] = presign.build_disproof(
        graph, shows, fault=dispute.garbler._values[0][-1].to_bytes(32), escrow=v.escrow, script=v.wallet.script,
        fee=FEE, entropy=secret("one") + secret("other"),
    )  # fmt: skip
    parts["silence"] = presign.build_silence(graph, dispute.of_silence, attested=attested, claim=v.claim)
    parts["claim after silence"] = dispute.claimed(number, attested, silent=True)
    parts["end of silence"] = presign.build_silent_end(graph, dispute.of_silence, both=v.both)
    parts["refund"] = presign.build_refund(graph, dispute.of_claims, both=p.both)
    opened = dispute.garbler.openings(dispute.cut)
    sent = [
        garbled_messages.encode_cut(dispute.cut), garbled_messages.encode_commitments(dispute.commitments),
        garbled_messages.encode_openings(opened), garbled_messages.encode_claims(dispute.of_claims),
        garbled_messages.encode_silence(dispute.of_silence),
    ]  # fmt: skip
    return Contract(
        name=name, engine="garbled", made=parts,
        happy=("claim", "release") if lazy else ("claim", "payout"),
        dispute=("claim", "challenge", "reveal", "disproof") if lazy else ("claim", "disproof"),
        inputs=2 if lazy else 1, sent=sum(map(len, sent)), seconds=took,
    )  # fmt: skip


def leaf_call(reads=None):
    """A capped call of 16 steps above 60,000 dollars."""
    return payoffs.step_claim(
        "capped_call", strike=60_000, steps=16, payout=lambda one: Sats(1_000_000 * one), reads=reads
    )


def rising(count):
    return [SPOT + 37 * minute for minute in range(count)]


MAKERS = {
    "G, a call": lambda name: garbled_contract(name, gates.price_claim(RANGES), [SPOT]),
    "G, a call of 257 ranges": lambda name: garbled_contract(name, gates.price_claim(FINE), [SPOT]),
    "G, a call, lazy": lambda name: garbled_contract(name, gates.price_claim(RANGES), [SPOT], lazy=True),
    "G, a mean of 8": lambda name: garbled_contract(name, gates.mean_claim(RANGES, 8), rising(8)),
    "G, a mean of 30, lazy": lambda name: garbled_contract(name, gates.mean_claim(RANGES, 30), rising(30), lazy=True),
    "G, a knock-out over 30, lazy": lambda name: garbled_contract(
        name, gates.knock_out_claim(RANGES, 30, barrier=BARRIER, up=True, rebate=Sats(9_000)), rising(30), lazy=True
    ),
    "A, a call, fused": lambda name: leaf_contract(name, leaf_call(), [60_500]),
    "A, a call, step by step": lambda name: leaf_contract(name, leaf_call(0), [60_500]),
    "A, a mean of 8, fused": lambda name: leaf_contract(name, payoffs.mean_claim(RANGES, 8), rising(8)),
    "A, a median of 3, fused": lambda name: leaf_contract(name, payoffs.median_claim(RANGES), rising(3)),
    "A, a knock-out over 3, fused": lambda name: leaf_contract(
        name, payoffs.knock_out_claim(RANGES, barrier=BARRIER, rebate=Sats(9_000)), rising(3)
    ),
}  # fmt: skip


@cache
def contract(name):
    """A contract by its name, signed by both."""
    return MAKERS[name](name)
