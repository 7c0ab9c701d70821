"""A disputed contract played by messages alone, both sides in one place: what a folder, a stranger and a chain need."""

import hashlib
from functools import cached_property

from btcfi import secp256k1
from btcfi.adapters.party.dispute_files import DisputeFiles
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.transaction import OutPoint, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled import messages
from btcfi.disputes.garbled.deal import Acceptance, Deal, Draft, Kind, OwnSecrets, Payoff, Proposal, sign_first, signed
from btcfi.disputes.garbled.opening import Side, complete_opening, sign_opening
from btcfi.disputes.garbled.presign import (
    ClaimSecrets,
    SilenceSecrets,
    attested_of,
    build_claim,
    build_silence,
    presign_claims,
    presign_silence,
)
from btcfi.disputes.garbled.setup import BY_HASH, CONSERVATIVE, Garbler, cut_by_hash, draw_cut
from btcfi.disputes.garbled.transcript import Transcript
from btcfi.disputes.garbled.watchtower import Package, presign_disproofs, ranges
from btcfi.units import Hash32, Height, Sats, Txid, UnixSeconds
from tests.support.disputing import RANGES, Dispute, secret, with_child


class Played:
    """Both sides' secrets and every message; each is made when it is first asked for."""

    def __init__(self, wallet=None, *, by_hash=True, lazy=False, attempt=0, bond=2_000_000, ranges=RANGES):
        """wallet: of a chain, on which the opening's coins are; without one they are nowhere."""
        self.wallet, self.by_hash, self.lazy, self.bond, self.ranges = wallet, by_hash, lazy, bond, ranges
        self.oracles = Dispute(claim_height=1 if lazy else 0)
        self.identity = secret("identity", attempt)
        self.seeds = {side: secret("attempt", attempt, side.value) for side in Side}
        self.p, self.v = (OwnSecrets(self.seeds[side], 3) for side in Side)
        self.keys = {side: wallet_key(secret("wallet", attempt, side.value), 0) for side in Side}
        self.here = wallet.node.block_count() if wallet else 100

    def coins(self, side, amount):
        script = self.keys[side].script
        if self.wallet:
            return tuple(self.wallet.coins_for(script, [amount]))
        txid = Txid(hashlib.sha256(script).digest())
        return (Coin(outpoint=OutPoint(txid=txid, index=0), output=TxOut(value=Sats(amount), script=script)),)

    @cached_property
    def proposal(self):
        draft = Draft(
            payoff=Payoff(kind=Kind.PRICE, ranges=self.ranges), events=self.oracles.announcements, threshold=2,
            collateral=Sats(max(self.ranges.payouts)), bond=Sats(self.bond),
            challenge_bond=Sats(50_000 if self.lazy else 0), claim_height=Height(self.here + 3 if self.lazy else 0),
            silence_height=Height(self.here + 10), refund_height=Height(self.here + 30), dispute_blocks=6,
            fee=Sats(400), premium=0, rate=SatsPerKvb(2_000), valid_until=UnixSeconds(1_800_000_000),
        )  # fmt: skip
        script = self.keys[Side.CLAIMANT].script
        unsigned = Proposal(
            draft=draft, keys=self.p.claimant_keys(script), coins=self.coins(Side.CLAIMANT, 30_000_000),
            change_script=script, identity=secp256k1.public_key_xonly(self.identity), signature=bytes(64),
        )  # fmt: skip
        return signed(unsigned, wire.proposal_id(unsigned), self.identity, secret("aux"))

    @cached_property
    def acceptance(self):
        script = self.keys[Side.VERIFIER].script
        return Acceptance(
            proposal_id=wire.proposal_id(self.proposal), keys=self.v.verifier_keys(script),
            coins=self.coins(Side.VERIFIER, 1_000_000), change_script=script,
            cut=BY_HASH if self.by_hash else self.drawn.commitment(),
        )  # fmt: skip

    @cached_property
    def drawn(self):
        return draw_cut(CONSERVATIVE, self.v.drawn("cut") + self.v.drawn("cut-nonce"))

    @cached_property
    def deal(self):
        return Deal(self.proposal, self.acceptance, id=wire.contract_id(self.proposal, self.acceptance))

    @cached_property
    def garbler(self):
        return Garbler(self.deal.subject, self.p.drawn("garbler"))

    @cached_property
    def first(self):
        return self.garbler.commitments()

    @cached_property
    def cut(self):
        return cut_by_hash(self.deal.subject, self.first) if self.by_hash else self.drawn

    @cached_property
    def second(self):
        return self.garbler.openings(self.cut)

    @cached_property
    def opening(self):
        return self.deal.opened(self.first)[0]

    @cached_property
    def graph(self):
        return self.deal.opened(self.first)[1]

    @cached_property
    def claims(self):
        secrets = ClaimSecrets(digits=self.v.digits, claim=self.v["claim"], both=self.v["both"])
        return presign_claims(self.graph, secrets)

    @cached_property
    def silence(self):
        return presign_silence(self.graph, SilenceSecrets(silence=self.p.digits, both=self.p["both"]))

    def transcript(self, *, first=None, cut=None, second=None):
        """What is written of the set-up; in place of a message another, under the same identity's signature."""
        data = messages.encode_commitments(first or self.first)
        return Transcript(
            proposal=self.proposal, acceptance=self.acceptance, commitments=data,
            signature=sign_first(self.deal.subject, data, self.identity, secret("aux")),
            cut=messages.encode_cut(cut or self.cut), openings=messages.encode_openings(second or self.second),
        )  # fmt: skip

    def package(self, reward=20_000):
        reward = Sats(reward)
        entropy = [secret("nonce", reward, *one) for one in ranges(self.graph)]
        halves = presign_disproofs(self.graph, reward, escrow=self.v["escrow"], entropy=entropy)
        return Package(
            setup=self.transcript(), claims=messages.encode_claims(self.claims), reward=reward, disproofs=halves,
            since=Height(self.here),
        )  # fmt: skip

    # ---- on a chain

    def opened(self):
        """Sign the opening by both, send it and mine it."""
        witnesses = {side: sign_opening(self.opening, side, {self.keys[side].script: self.keys[side]}) for side in Side}
        made = complete_opening(
            self.opening, claimant=witnesses[Side.CLAIMANT], verifier=witnesses[Side.VERIFIER]
        )  # fmt: skip
        self.wallet.node.send(made)
        self.wallet.mine()
        return made

    def attested(self, spot):
        return attested_of(self.graph, [spot], self.oracles.attestations([spot]), 0)

    def claimed(self, number, spot, *, silent=False):
        """Send a claim and mine it."""
        made = build_claim(
            self.graph, self.claims, self.garbler, number=number, attested=self.attested(spot), claim=self.p["claim"],
            silent=silent,
        )  # fmt: skip
        with_child(self.wallet, made, self.keys[Side.CLAIMANT])
        return made

    def silenced(self, spot):
        """Claim silence and mine it."""
        made = build_silence(self.graph, self.silence, attested=self.attested(spot), claim=self.v["claim"])
        while self.wallet.node.block_count() < self.here + 10:
            self.wallet.mine()
        with_child(self.wallet, made, self.keys[Side.VERIFIER])
        return made

    def folder(self, path, keystore):
        """Write the verifier's folder as its desk would have, and return its files and the contract's name."""
        files, name = DisputeFiles(path), wire.proposal_id(self.proposal).hex()
        files.keep_seed(name, Side.VERIFIER, self.seeds[Side.VERIFIER], keystore)
        said = self.transcript()
        letters = {
            "commitments": (wire.COMMITMENTS, said.commitments, said.signature), "cut": (wire.CUT, said.cut, b""),
            "openings": (wire.OPENINGS, said.openings, messages.encode_silence(self.silence)),
            "claims": (wire.CLAIMS, messages.encode_claims(self.claims), b""),
        }  # fmt: skip
        files.put(name, "proposal", wire.encode_proposal(self.proposal))
        files.put(name, "acceptance", wire.encode_acceptance(self.acceptance))
        for what, (kind, data, more) in letters.items():
            letter = wire.Letter(kind=kind, contract=Hash32(self.deal.id), data=data, more=more)
            files.put(name, what, wire.encode_letter(letter))
        files.put(name, "started", {"height": self.here})
        return files, name
