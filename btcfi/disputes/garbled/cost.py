"""What a disputed contract costs before anybody signs anything: its circuit, what both send, what the chain carries.

The graph is built as it will be, of keys and labels that are made up, so sizes are those of the real messages and
transactions; placeholders stand where a signature will. Time is counted in what takes it; whoever has measured rates
makes seconds of it. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin.fees import DUST_P2TR, OVERHEAD_WEIGHT, P2TR_INPUT_WEIGHT, P2TR_OUTPUT_WEIGHT, vsize_of
from btcfi.bitcoin.keys import TaprootKey, wallet_key
from btcfi.bitcoin.transaction import Transaction
from btcfi.disputes.claims import Claim
from btcfi.disputes.garbled.chains import SIGNATURE_SIZE, count_of, with_chain
from btcfi.disputes.garbled.graph import Graph
from btcfi.disputes.garbled.messages import claims_sizes, commitments_sizes, openings_sizes, silence_sizes
from btcfi.disputes.garbled.presign import build_disproof, build_payout
from btcfi.disputes.garbled.setup import CONSERVATIVE, Commitments, Subject, draw_cut
from btcfi.disputes.garbled.terms import ClaimantKeys, DisputeTerms, VerifierKeys
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import OracleEvent, announce
from btcfi.units import Hash32, Height, Sats, Slot, Txid

FEE: Final = Sats(400)
"""Of each transaction by itself."""

_BLOCKS: Final = 12
_TAG: Final = "BTCFi/dispute/made-up/v1"
_HASHED: Final = bytes(SIGNATURE_SIZE + 1)
"""A signature with its hash type."""
_NOTHING: Final = Hash32(bytes(32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a set-up computes, both sides together, each thing made once and checked once."""

    points: int
    """Of shares: each made by one side, and multiplied by the other."""
    rows: int
    """Rows of tables: a digit's value or an AND, of one copy."""
    presignatures: int
    """Signatures of all kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Seconds that one of each takes on somebody's machine, to make it and to check it."""

    point: float
    row: float
    presignature: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one contract costs. Virtual bytes are without the children that pay for them."""

    ranges: int
    gates: int
    ands: int
    labels: int
    tables_bytes: int
    """Of all copies that are kept."""
    sent_bytes: int
    """What both sides send of the set-up, and of what they sign before the opening."""
    work: Work
    opening_vb: int
    """With one input of each side that puts something in, and no change."""
    claim_vb: int
    end_vb: int
    """The payout; of a lazy contract the release."""
    disprove_vb: int
    challenge_vb: int
    """Of a lazy contract: the challenge and its answer, before a disproof; else 0."""

    @property
    def happy_vb(self) -> int:
        """What the chain carries where nobody disputes."""
        return self.opening_vb + self.claim_vb + self.end_vb

    def setup_seconds(self, rates: Rates) -> float:
        """Return how long both sides compute by these rates, in one thread."""
        work = self.work
        return work.points * rates.point + work.rows * rates.row + work.presignatures * rates.presignature


def cost_of(claim: Claim, *, oracles: int = 3, threshold: int = 2, lazy: bool = False) -> Cost:
    """Return what a contract of this claim costs. lazy: digits only when challenged. Raises InvalidInputError."""
    terms = _terms(claim, oracles=oracles, threshold=threshold, lazy=lazy)
    cut, fault = draw_cut(terms.copies, _secret("cut") * 2), _secret("fault")
    subject = Subject(circuit=claim.circuit, copies=terms.copies, terms=terms.id, cut=cut.commitment())
    row = (*[_point("label")] * claim.circuit.labels, secp256k1.public_key_compressed(fault))
    commitments = Commitments(points=(row,), copies=())
    graph = Graph(terms, commitments, Txid(_NOTHING))
    sizes = [openings_sizes(subject), commitments_sizes(subject), claims_sizes(graph), silence_sizes(graph)]
    tables, count, opened = openings_sizes(subject)[-1], terms.copies.count, terms.copies.opened
    inputs = 1 + lazy
    claimed, ended, challenged = _played(graph)
    last = _wallet("verifier").script
    disproof = build_disproof(
        graph, claimed, fault=fault, escrow=_secret("escrow"), script=last, fee=FEE, entropy=_secret("nonces") * 2
    )  # fmt: skip
    return Cost(
        ranges=len(claim.payouts), gates=len(claim.circuit.gates), ands=claim.circuit.ands,
        labels=claim.circuit.labels, tables_bytes=tables * (count - opened),
        sent_bytes=sum(map(sum, sizes)) + len(cut.nonce) + 2 * opened,
        work=Work(
            points=subject.secrets * (opened + 1), presignatures=_signatures(graph),
            rows=(claim.circuit.labels + claim.circuit.ands) * (count + opened),
        ),
        opening_vb=vsize_of(OVERHEAD_WEIGHT + inputs * P2TR_INPUT_WEIGHT + inputs * P2TR_OUTPUT_WEIGHT),
        claim_vb=claimed.vsize, end_vb=ended, disprove_vb=disproof.vsize, challenge_vb=challenged,
    )  # fmt: skip


def _played(graph: Graph) -> tuple[Transaction, int, int]:
    """Return a claim of the range that pays most, and the virtual bytes of its end, and of its challenge and answer."""
    payouts, one = graph.terms.claim.payouts, bytes(SIGNATURE_SIZE)
    # both sides are paid where that can be, so no range weighs more
    number = max(range(len(payouts)), key=lambda at: (payouts[at] >= DUST_P2TR, -at))
    chain = graph.claim_chain(0, silent=False)
    signatures = [_HASHED] * (1 + len(chain.entries))
    control = graph.open_control(chain.leaf, silent=False)
    claimed = with_chain(graph.claim(number), 0, signatures, one, chain.leaf, control)
    if not graph.terms.is_lazy:
        script = _wallet("claimant").script
        return claimed, build_payout(graph, claimed, payout=_secret("payout"), script=script, fee=FEE).vsize, 0
    released = graph.with_both(graph.release(number), graph.held_output, claimant=one, verifier=one)
    challenge = graph.with_both(graph.challenge(number), graph.held_output, claimant=one, verifier=one)
    chain = graph.reveal_chain(0, number, silent=False)
    control = graph.bond_output.control_block(chain.leaf)
    shown = with_chain(graph.reveal(number), 1, [_HASHED] * (1 + len(chain.entries)), one, chain.leaf, control)
    answer = graph.with_both(shown, graph.challenged_output, claimant=one, verifier=one)
    return claimed, released.vsize, challenge.vsize + answer.vsize


def _signatures(graph: Graph) -> int:
    """Return how many signatures both sides make and check before the opening: parts of either size, by their sum."""
    terms, count = graph.terms, 0
    for silent, leaf in graph.parents:
        count += len(terms.claim.payouts) + count_of(graph.points, graph.claim_chain(leaf, silent=silent))
    for which in range(len(terms.sets)):
        count += 1 + count_of(graph.points, graph.silence_chain(which))
        count += count_of(graph.points, graph.reveal_chain(which)) if terms.is_lazy else 0
    # refund and silence's end; of a lazy contract releases, reveals, challenges, and what is shown of each set
    return count + 2 + (2 * len(terms.claim.payouts) * (3 + len(terms.sets)) if terms.is_lazy else 0)


# ---- what is made up


def _terms(claim: Claim, *, oracles: int, threshold: int, lazy: bool) -> DisputeTerms:
    sets, xonly = comb(oracles, threshold), secp256k1.public_key_xonly
    events = [
        OracleEvent(
            feed="BTC/USD", expiry=Slot(60 * (1 + minute)), program_hash=_NOTHING, preset_hash=_NOTHING, version=2
        )
        for minute in range(claim.events)
    ]  # fmt: skip
    return DisputeTerms(
        claim=claim, copies=CONSERVATIVE,
        events=tuple(tuple(announce(_secret(f"oracle {at}"), one) for at in range(oracles)) for one in events),
        threshold=threshold, collateral=Sats(max(claim.payouts)), bond=Sats(1_000_000),
        challenge_bond=Sats(50_000 * lazy), claim_height=Height(1 * lazy), silence_height=Height(2),
        refund_height=Height(2 + _BLOCKS), dispute_blocks=_BLOCKS, fee=FEE,
        claimant=ClaimantKeys(
            open=_point("open of the claimant"), claim=xonly(_secret("claim")), both=xonly(_secret("both")),
            payout=xonly(_secret("payout")), silence=tuple(xonly(_secret(f"silence {at}")) for at in range(sets)),
            script=_wallet("claimant").script,
        ),
        verifier=VerifierKeys(
            open=_point("open of the verifier"), claim=xonly(_secret("range")), both=xonly(_secret("both too")),
            overdue=xonly(_secret("overdue")), bond=xonly(_secret("bond")), escrow=_point("escrow"),
            digits=tuple(xonly(_secret(f"digits {at}")) for at in range(sets)), script=_wallet("verifier").script,
        ),
    )  # fmt: skip


def _secret(name: str) -> bytes:
    return secp256k1.even_secret(tagged_hash(_TAG, name.encode()))


def _point(name: str) -> bytes:
    return secp256k1.public_key_compressed(_secret(name))


def _wallet(name: str) -> TaprootKey:
    return wallet_key(_secret(name), 0)
