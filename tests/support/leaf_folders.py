"""Both sides of a contract that leaves judge, each with a folder: whatever they do begins by reading it again."""

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from btcfi import secp256k1
from btcfi.adapters.party.dispute_files import DisputeFiles
from btcfi.adapters.party.dispute_words import sign_words
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.keys import wallet_key
from btcfi.contracts.setup import WrongMessageError
from btcfi.disputes.claims import Ranges
from btcfi.disputes.garbled.deal import Barrier, Kind, Payoff
from btcfi.disputes.garbled.opening import Side, complete_opening, sign_opening
from btcfi.disputes.leaves import graph as game
from btcfi.disputes.leaves import messages as wire
from btcfi.disputes.leaves.deal import LeafAcceptance, LeafDeal, LeafDraft, LeafProposal, LeafSecrets
from btcfi.disputes.leaves.oracles import announce_word, attest_word
from btcfi.oracle.announcement import OracleEvent
from btcfi.units import Hash32, Height, Sats, Slot, UnixSeconds
from tests.support.disputing import Memory
from tests.support.leaving import RANGES, secret

ORACLES = [secret("leaf oracle", place) for place in range(3)]
IDENTITY = secp256k1.even_secret(secret("leaf claimant", "identity"))


class Box:
    """A keystore of one password."""

    def box(self):
        return AESGCM(bytes(32))


def events_of(count):
    return [
        OracleEvent(
            feed="BTC/USD", expiry=Slot(1_800_000_000 + 60 * minute), program_hash=Hash32(bytes(32)),
            preset_hash=Hash32(bytes(32)), version=2,
        )
        for minute in range(count)
    ]  # fmt: skip


def draft_of(payoff, events=1, *, silence=30, refund=60, blocks=3, ranges=None, **changed):
    announced = tuple(tuple(announce_word(one, event) for one in ORACLES) for event in events_of(events))
    given = {
        "payoff": payoff, "events": announced, "threshold": 2, "collateral": Sats(16_000_000), "bond": Sats(2_000_000),
        "silence_height": Height(silence), "refund_height": Height(refund), "dispute_blocks": blocks,
        "fee": Sats(1_000), "premium": 300_000, "rate": SatsPerKvb(2_000), "valid_until": UnixSeconds(1_900_000_000),
    }  # fmt: skip
    return LeafDraft(**{**given, **changed})


CALL = Payoff(kind=Kind.PRICE, ranges=RANGES)
MEAN = Payoff(kind=Kind.MEAN, ranges=RANGES)
MEDIAN = Payoff(kind=Kind.MEDIAN, ranges=RANGES)
KNOCK_OUT = Payoff(
    kind=Kind.KNOCK_OUT, ranges=Ranges(starts=RANGES.starts, payouts=RANGES.payouts),
    barrier=Barrier(level=75_500, up=True, rebate=Sats(9_000)),
)  # fmt: skip


def shown(outcomes, which, ledgers=None):
    """What a set of oracles signed, by price."""
    ledgers = ledgers or [Memory() for _ in ORACLES]
    return [
        [attest_word(ORACLES[place], event, outcome, ledgers[place]) for place in which]
        for event, outcome in zip(events_of(len(outcomes)), outcomes, strict=True)
    ]


class Party:
    """One side, of which nothing lives but its folder and the key that seals it."""

    def __init__(self, folder, side, attempt=0):
        self.files, self.side, self.attempt = DisputeFiles(folder), side, attempt
        self.wallet = wallet_key(secret(side.value, "leaf wallet"), 0)

    # ---- before the opening

    def seed(self, name):
        fresh = secret(self.side.value, "leaf seed", self.attempt, name)
        return LeafSecrets(self.files.keep_seed(name, self.side, fresh, Box()))

    def propose(self, draft, coins):
        """The seed is kept under the proposal's id, which its own keys are in: so it is drawn first."""
        fresh = secret(self.side.value, "leaf seed", self.attempt)
        own = LeafSecrets(fresh)
        half = LeafProposal(
            draft=draft, keys=own.claimant_keys(draft.claim, self.wallet.script), coins=tuple(coins),
            change_script=self.wallet.script, identity=secp256k1.public_key_xonly(IDENTITY), signature=bytes(64),
        )  # fmt: skip
        name = wire.proposal_id(half).hex()
        made = wire.encode_proposal(half)
        made["signature"] = secp256k1.schnorr_sign(IDENTITY, wire.proposal_id(half)).hex()
        self.files.keep_seed(name, self.side, fresh, Box())
        self.files.put(name, "proposal", made)
        return made

    def accept(self, message, expected, coins):
        proposal = wire.decode_proposal(message)
        wire.check_proposer(proposal)
        if proposal.draft.events != expected:
            raise WrongMessageError("leaf proposal", "names other one-time keys than the oracles announced")
        name = wire.proposal_id(proposal).hex()
        half = LeafAcceptance(
            proposal_id=wire.proposal_id(proposal), keys=self.seed(name).verifier_keys(self.wallet.script),
            coins=tuple(coins), change_script=self.wallet.script,
        )  # fmt: skip
        LeafDeal(proposal, half)
        self.files.put(name, "proposal", message)
        self.files.put(name, "acceptance", wire.encode_acceptance(half))
        return wire.encode_acceptance(half)

    def name(self):
        (name,) = self.files.names()
        return name

    def deal(self):
        name = self.name()
        proposal = wire.decode_proposal(self.files.find(name, "proposal"))
        half = wire.decode_acceptance(self.files.find(name, "acceptance"))
        return LeafDeal(proposal, half), wire.contract_id(proposal, half), self.seed(name)

    def silence(self, acceptance):
        self.files.put(self.name(), "acceptance", acceptance)
        deal, contract, own = self.deal()
        data = wire.encode_silence(game.presign_silence(deal.graph, own["claim"]))
        return wire.encode_letter(wire.LeafLetter(kind=wire.SILENCE, contract=contract, data=data))

    def received(self, what, message):
        deal, contract, own = self.deal()
        if wire.decode_letter(message).contract != contract:
            raise WrongMessageError("leaf letter", "is of another contract")
        self.files.put(self.name(), what, message)
        return deal, contract, own

    def of_silence(self, deal):
        letter = wire.decode_letter(self.files.find(self.name(), "silence"))
        found = wire.decode_silence(deal.graph, letter.data)
        game.check_silence(deal.graph, found)
        return found

    def of_claims(self, deal):
        letter = wire.decode_letter(self.files.find(self.name(), "claims"))
        found = wire.decode_claims(deal.graph, letter.data)
        game.check_claims(deal.graph, found)
        return found

    def claims(self, message):
        deal, contract, own = self.received("silence", message)
        self.of_silence(deal)
        data = wire.encode_claims(deal.graph, game.presign_claims(deal.graph, own["claim"]))
        return wire.encode_letter(wire.LeafLetter(kind=wire.CLAIMS, contract=contract, data=data))

    def fund(self, message):
        deal, _, _ = self.received("claims", message)
        self.of_claims(deal)
        return sign_opening(deal.opening, Side.CLAIMANT, {self.wallet.script: self.wallet})

    def open(self, witnesses):
        deal, _, _ = self.deal()
        own = sign_opening(deal.opening, Side.VERIFIER, {self.wallet.script: self.wallet})
        return complete_opening(deal.opening, claimant=witnesses, verifier=own)

    # ---- afterwards: from the folder and the chain alone

    def claim(self, outcomes, *, which=0, silent=False, oracles=None, number=None, said=None):
        deal, _, own = self.deal()
        claim, sets = deal.terms.claim, deal.terms.sets
        honest = claim.signed_values(outcomes) | (said or {})
        signed = sign_words(self.files, self.name(), own.words(claim), honest)
        right = int(claim.range_of(np.array(outcomes)[:, None])[0])
        return game.build_claim(
            deal.graph, self.of_claims(deal), number=right if number is None else number, which=which, own=signed,
            oracles=oracles or shown(outcomes, sets[which]), secret=own["claim"], silent=silent,
        )  # fmt: skip

    def show_silence(self, outcomes, which=0):
        deal, _, own = self.deal()
        return game.build_silence(
            deal.graph, self.of_silence(deal), which=which, oracles=shown(outcomes, deal.terms.sets[which]),
            secret=own["claim"],
        )  # fmt: skip

    def disproof(self, claim):
        """What a mined claim gets wrong, disproved; None of a right one."""
        deal, _, own = self.deal()
        read = game.read_claim(deal.graph, claim)
        place = deal.terms.claim.first_wrong(read.said, read.number)
        if place is None:
            return None
        digest = deal.graph.disproof_digest(read.number, place, silent=read.silent)
        return game.build_disproof(deal.graph, read, place, secp256k1.schnorr_sign(own["escrow"], digest))

    def payout(self, number, *, silent=False):
        deal, _, own = self.deal()
        return game.build_payout(
            deal.graph, number, secret=own["payout"], script=self.wallet.script, fee=Sats(400), silent=silent
        )  # fmt: skip
