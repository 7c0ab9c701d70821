"""Disputed contracts as a stranger knows them, every transaction that a block can hold of one, a chain of lists."""

import hashlib
from dataclasses import dataclass

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled.deal import Acceptance, Draft, Kind, OwnSecrets, Payoff, Proposal, signed
from btcfi.disputes.garbled.graph import last_of
from btcfi.disputes.public import PublicDispute
from btcfi.disputes.stages import Stage
from btcfi.disputes.states import By
from btcfi.secp256k1 import public_key_compressed, public_key_xonly
from btcfi.units import Hash32, Height, Sats, Txid, UnixSeconds
from tests.support.disputing import RANGES, Dispute, secret

SCRIPT = b"\x51\x20" + bytes(range(32))
SINCE, SILENCE, REFUND, BLOCKS = 100, 130, 160, 12


def coin(number, value=30_000_000):
    outpoint = OutPoint(txid=Txid(secret("coin", number)), index=0)
    return Coin(outpoint=outpoint, output=TxOut(value=Sats(value), script=SCRIPT))


def public(*, lazy=False, name="", since=SINCE, silence=SILENCE, refund=REFUND, blocks=BLOCKS):
    """The public part of a contract; ``name``: of another one."""
    draft = Draft(
        payoff=Payoff(kind=Kind.PRICE, ranges=RANGES), events=Dispute().announcements, threshold=2,
        collateral=Sats(16_000_000), bond=Sats(2_000_000), challenge_bond=Sats(50_000 if lazy else 0),
        claim_height=Height(since + 5 if lazy else 0), silence_height=Height(silence), refund_height=Height(refund),
        dispute_blocks=blocks, fee=Sats(400), premium=5, rate=SatsPerKvb(2_000),
        valid_until=UnixSeconds(1_790_000_000),
    )  # fmt: skip
    unsigned = Proposal(
        draft=draft, keys=OwnSecrets(secret("p", name), 3).claimant_keys(SCRIPT), coins=(coin(name or 0),),
        change_script=SCRIPT, identity=public_key_xonly(secret("identity")), signature=bytes(64),
    )  # fmt: skip
    proposal = signed(unsigned, wire.proposal_id(unsigned), secret("identity"), bytes(32))
    acceptance = Acceptance(
        proposal_id=wire.proposal_id(proposal), keys=OwnSecrets(secret("v", name), 3).verifier_keys(SCRIPT),
        coins=(coin(1),), change_script=SCRIPT, cut=Hash32(secret("cut")),
    )  # fmt: skip
    fault = public_key_compressed(secret("fault", name))
    return PublicDispute(proposal=proposal, acceptance=acceptance, fault=fault, since=Height(since))


def taken(coin, *witness):
    """Somebody's spend of a coin, by what is shown."""
    spend = TxIn(outpoint=coin, witness=tuple(witness))
    return Transaction(version=2, inputs=(spend,), outputs=(TxOut(value=Sats(1_000), script=SCRIPT),) * 2)


def next_moves(dispute, here):
    """Every transaction that a block can hold next, by what it is: (By, transaction)."""
    graph, numbers = dispute.graph, (0, 3, 16)
    if here.stage is Stage.UNOPENED:
        return [(By.OPENING, dispute.opening)]
    if here.stage.ended:
        return []
    coin = {Stage.OPEN: graph.coin, Stage.SILENT: graph.parent(silent=True)[0]}.get(here.stage) or last_of(here.last)[0]
    found = []
    if here.stage in {Stage.OPEN, Stage.SILENT}:
        silent = here.stage is Stage.SILENT
        found += [(By.CLAIM, graph.claim(number, silent=silent)) for number in numbers]
        if silent:
            found.append((By.SILENCE_END, graph.silent_end))
        else:
            found += [(By.SILENCE, graph.silence), (By.REFUND, graph.refund)]
    elif here.stage is Stage.HELD:
        found += [
            (By.CHALLENGE, graph.challenge(here.number, silent=here.silent)),
            (By.RELEASE, graph.release(here.number, silent=here.silent)),
        ]
    elif here.stage is Stage.CHALLENGED:
        found += [
            (By.REVEAL, graph.reveal(here.number, silent=here.silent)),
            (By.OVERDUE, taken(coin, b"s", graph.overdue_leaf.script, b"control")),
        ]
    else:
        return [
            (By.DISPROOF, taken(coin, b"s" * 64)), (By.PAYOUT, taken(coin, b"s", graph.payout_leaf.script, b"control")),
            (By.DISPROOF, taken(coin, b"s" * 64, b"\x50annex")),
        ]  # fmt: skip
    return [
        *found, (By.CLOSE, taken(coin, b"s" * 64)), (By.CLOSE, taken(coin, b"s" * 64, b"\x50")),
        (By.OTHER, taken(coin, b"s", graph.both_leaf.script, b"control")),
    ]  # fmt: skip


@dataclass(frozen=True)
class Block:
    previous: Hash32
    transactions: tuple
    name: Hash32


class ListChain:
    """A chain of lists: mined, and taken back, by whoever plays."""

    def __init__(self, height=SINCE - 1):
        self.blocks, self.mined = [], 0
        for _ in range(height + 1):
            self.mine()

    def mine(self, *transactions):
        self.mined += 1
        previous = self.blocks[-1].name if self.blocks else Hash32(bytes(32))
        name = Hash32(hashlib.sha256(previous + self.mined.to_bytes(8, "big")).digest())
        self.blocks.append(Block(previous=previous, transactions=transactions, name=name))

    def undo(self, blocks):
        del self.blocks[-blocks:]

    @property
    def top(self):
        return Height(len(self.blocks) - 1)

    # as a node answers

    def block_count(self):
        return self.top

    def block_hash(self, at):
        return self.blocks[at].name

    def block(self, name):
        return next(one for one in reversed(self.blocks) if one.name == name)
