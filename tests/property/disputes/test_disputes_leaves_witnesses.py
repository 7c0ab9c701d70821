"""Whatever Bitcoin Core takes for a claim is usable in every leaf that reads it: a liar chooses every byte of it.

Judge: Core's interpreter. The liar has all of the claimant's secrets, so every link of every word's chains, and what
honest oracles signed of one price, with all that follows from it.
"""

import os
import random

import pytest

from btcfi import secp256k1
from btcfi.adapters.consensus import scripts_hold
from btcfi.disputes.leaves import graph as graph_module
from btcfi.disputes.leaves import words as w
from btcfi.disputes.leaves.emitter import Opcode
from btcfi.disputes.leaves.graph import escrow_of, read_claim
from btcfi.disputes.leaves.payoffs import median_claim, step_claim
from btcfi.errors import InvalidInputError
from btcfi.units import Sats
from tests.support.leaving import RANGES, LeafDispute

CASES = int(os.environ.get("BTCFI_TEST_WITNESSES", "10000"))
"""In CI 10,000; a long run says more."""

SEED = int(os.environ.get("BTCFI_TEST_SEED", "19"))

SPOT = 60_500


def call(reads=0):
    return step_claim("capped_call", strike=60_000, steps=16, payout=lambda one: Sats(1_000_000 * one), reads=reads)


class Liar:
    def __init__(self, claim, seed):
        self.dispute, self.dice = LeafDispute(claim, oracles=1, threshold=1).signed(), random.Random(seed)
        self.outcomes = [SPOT + 700 * at for at in range(len(claim.program.inputs))]
        self.honest = claim.signed_values(self.outcomes)
        self.right = self.dispute.right(self.outcomes)

    def encoded(self, digit):
        """A digit as Script may read it, in one of many forms."""
        dice = self.dice
        return dice.choice([
            w.number_item(digit), w.number_item(digit), bytes([digit]), bytes([digit, 0]), bytes([digit, 0, 0, 0]),
            b"\x80" if digit == 0 else w.number_item(digit), w.number_item(dice.choice([8, 9, 255, 70_000])),
            w.number_item(-digit), bytes([digit, 0, 0, 0, 0]),
        ])  # fmt: skip

    def case(self):  # noqa: C901 - one branch a way to lie
        dice, dispute, claim = self.dice, self.dispute, self.dispute.claim
        said = dict(self.honest)
        if dice.random() < 0.7:
            name = dice.choice(claim.words[len(claim.program.inputs) :] or claim.words)
            if name not in claim.program.inputs:
                top = 8 ** claim.digits(name)
                said[name] = dice.choice([(said[name] ^ 1 << dice.randrange(9)) % top, dice.randrange(top)])
        number = self.right if dice.random() < 0.6 else dice.randrange(len(claim.starts))
        own = dispute.own(said)
        made = graph_module.build_claim(
            dispute.graph, dispute.of_claims, number=number, which=0, own=own, oracles=dispute.shown(self.outcomes),
            secret=dispute.p["claim"],
        )  # fmt: skip
        stack = list(made.inputs[0].witness)
        items = stack[:-4]
        places = self.places()
        for _ in range(dice.choice([0, 1, 1, 2, 3])):
            how = dice.random()
            word, chain, at, oracle = dice.choice(places)
            digit = dice.choice([dice.randrange(8), 7, 7])
            if how < 0.25:  # another digit of the liar's own word, with its link
                items[at] = self.encoded(digit)
                items[at - 1] = dispute.words[word].chains[chain][digit]
            elif how < 0.4:  # the same digit otherwise written
                items[at] = self.encoded(w.digits_of(said[word], dispute.words[word].digits)[chain])
            elif how < 0.55 and oracle is not None:  # a price raised as far as anybody can
                link = items[at - 2]
                links = dispute.oracles[oracle][0].chains[chain]
                raised = dice.randrange(links.index(link), 8) if link in links else 7
                items[at], items[at - 1], items[at - 2] = (
                    self.encoded(raised), dispute.words[word].chains[chain][raised], links[raised]
                )  # fmt: skip
            elif how < 0.85:  # the checksum, spoiled as the hole in the prototype was
                for place in places:
                    if place[0] == word and place[1] >= dispute.words[word].digits and place[3] is None:
                        items[place[2]], items[place[2] - 1] = b"\x07", dispute.words[word].chains[place[1]][7]
            elif how < 0.9:
                items[at - 1] = dice.choice([b"", bytes(20), items[at - 1][:19], items[0]])
            elif how < 0.95:
                del items[at]
                places = [one for one in places if one[2] < at and one[2] < len(items)] or self.places()[-1:]
                break
            else:
                items.insert(at, b"\x01")
                break
        return made.with_witness(0, [*items, *stack[-4:]])

    def places(self):
        """Each digit's word, chain and place in the witness, and which price an oracle's link stands beneath it."""
        found, words = [], self.dispute.graph.signers(0)
        at = sum((1 + len(signers)) * len(signers[0].ends) for signers in words)
        for place, (name, signers) in enumerate(zip(self.dispute.claim.words, words, strict=True)):
            for chain in range(len(signers[0].ends)):
                found.append((name, chain, at - 1, place if len(signers) > 1 else None))
                at -= 1 + len(signers)
        return found


def judged(liar, cases):
    """How many claims Core took, were lies, were proved to be, and were turned against an honest claim."""
    taken = lies = proved = slashed = 0
    graph, dispute = liar.dispute.graph, liar.dispute
    for _ in range(cases):
        claim = liar.case()
        if not scripts_hold(claim, [graph.open_txout]):
            continue
        taken += 1
        read = read_claim(graph, claim)
        assert [read.said[name] for name in dispute.claim.program.inputs] == liar.outcomes
        spent = [escrow_of(claim)[1]]
        wrong = dispute.claim.first_wrong(read.said, read.number)
        if wrong is None:
            slashed += any(scripts_hold(dispute.disproof(read, at), spent) for at in range(len(dispute.claim.groups)))
            continue
        lies += 1
        made = dispute.disproof(read, wrong)
        proved += scripts_hold(made, spent)
        assert all(len(one) <= 80 for one in made.inputs[0].witness[:-2]), "no node relays it"
    return taken, lies, proved, slashed


@pytest.mark.parametrize(
    ("claim", "share"), [(call(), 0.6), (call(None), 0.2), (median_claim(RANGES), 0.2)],
    ids=["a call, step by step", "a call, fused", "a median"],
)  # fmt: skip
def test_whatever_core_takes_for_a_claim_is_right_or_is_disproved(claim, share):
    cases = int(CASES * share)
    taken, lies, proved, slashed = judged(Liar(claim, seed=SEED), cases)
    assert taken > cases / 10, "too few were taken to say anything"
    assert lies > cases / 40
    assert proved == lies
    assert slashed == 0


def test_without_the_checksum_in_the_claim_the_same_liar_escapes(monkeypatch):
    """The hole of the prototype: digits checked one by one, and their sum by the leaves alone."""

    def loose(emitter, word, signers, sized):
        w.emit_digits(emitter, signers, sized=sized)
        for _ in word.ends:
            emitter.op(Opcode.FROM_ALT, Opcode.DROP)

    monkeypatch.setattr(graph_module, "assert_words", loose)
    liar = Liar(call(), seed=19)
    escaped = 0
    for _ in range(600):
        claim = liar.case()
        if not scripts_hold(claim, [liar.dispute.graph.open_txout]):
            continue
        read = read_claim(liar.dispute.graph, claim)
        wrong = liar.dispute.claim.first_wrong(read.said, read.number)
        spent = [escrow_of(claim)[1]]
        escaped += wrong is not None and not scripts_hold(liar.dispute.disproof(read, wrong), spent)
    assert escaped > 10


def long_link(dispute):
    """A claim whose claimant began a chain with 500 bytes, which no node relays in a disproof."""
    key = dispute.words["price0"]
    chains = [list(one) for one in key.chains]
    digit = w.digits_of(SPOT, 6)[0]
    chains[0][digit] = b"long" * 125
    for at in range(digit, 7):
        chains[0][at + 1] = w.hash160(chains[0][at])
    object.__setattr__(key, "chains", tuple(map(tuple, chains)))
    dispute.signed()
    return dispute.claimed(0, [SPOT])


def test_a_link_of_another_size_is_taken_in_no_claim(monkeypatch):
    dispute = LeafDispute(call(None), oracles=1, threshold=1)
    assert not scripts_hold(long_link(dispute), [dispute.graph.open_txout])

    def unsized(emitter, word, signers, sized):
        w.emit_digits(emitter, signers)
        w.emit_checksum(emitter, word)

    monkeypatch.setattr(graph_module, "assert_words", unsized)
    dispute = LeafDispute(call(None), oracles=1, threshold=1)
    claim = long_link(dispute)
    assert scripts_hold(claim, [dispute.graph.open_txout])
    made = dispute.disproof(read_claim(dispute.graph, claim), 0)
    assert scripts_hold(made, [escrow_of(claim)[1]])
    assert max(map(len, made.inputs[0].witness[:-2])) > 80


def test_an_oracle_that_signs_two_prices_slashes_nobody_who_signed_one():
    """Leaves read the claimant's signature of a price alone: no mixture with an oracle's is one of its key."""
    dispute = LeafDispute(call(), oracles=1, threshold=1).signed()
    claim = dispute.claimed(dispute.right([SPOT]), [SPOT])
    read = read_claim(dispute.graph, claim)
    other = dispute.oracles[0][0].sign(61_000)
    for place in range(len(dispute.claim.groups)):
        forged = dispute.graph.terms.claim
        assert forged.first_wrong(read.said, read.number) is None
        mixed = type(read)(
            number=read.number, which=0, silent=False, own={**read.own, "price0": other}, oracles=read.oracles
        )  # fmt: skip
        assert not scripts_hold(dispute.disproof(mixed, place), [escrow_of(claim)[1]])


def test_a_claimant_that_signs_two_prices_is_slashed():
    """Why what is signed is kept before it is sent: the same mixture, of two signatures of its own."""
    dispute = LeafDispute(call(), oracles=1, threshold=1).signed()
    claim = dispute.claimed(dispute.right([SPOT]), [SPOT])
    read = read_claim(dispute.graph, claim)
    mixed = type(read)(
        number=read.number, which=0, silent=False, own={**read.own, "price0": dispute.words["price0"].sign(60_900)},
        oracles=read.oracles,
    )  # fmt: skip
    assert scripts_hold(dispute.disproof(mixed, 0), [escrow_of(claim)[1]])


def test_no_two_sides_say_different_prices():
    dispute = LeafDispute(call(None), oracles=1, threshold=1).signed()
    with pytest.raises(InvalidInputError):
        dispute.claimed(0, [SPOT], said={"price0": SPOT + 1})


def test_nobody_but_the_verifier_says_where_a_disproved_claim_goes():
    dispute = LeafDispute(call(None), oracles=1, threshold=1).signed()
    claim = dispute.claimed(0, [SPOT])
    made = dispute.disproof(read_claim(dispute.graph, claim), 0)
    assert scripts_hold(made, [escrow_of(claim)[1]])
    stack = list(made.inputs[0].witness)
    stack[-3] = secp256k1.schnorr_sign(dispute.p["claim"], dispute.graph.disproof_digest(0, 0, silent=False))
    assert not scripts_hold(made.with_witness(0, stack), [escrow_of(claim)[1]])


@pytest.mark.parametrize("reads", [0, None], ids=["step by step", "fused"])
def test_no_witness_disproves_an_honest_claim(reads):
    """The verifier has what the chain shows, all that follows from it, and any hint; it signs what it likes."""
    dispute, dice = LeafDispute(call(reads), oracles=1, threshold=1).signed(), random.Random(SEED)
    graph, claim = dispute.graph, dispute.claimed(dispute.right([SPOT]), [SPOT])
    read, spent = read_claim(graph, claim), [escrow_of(claim)[1]]
    followed = {hash(b""): b""}
    for signed in read.own.values():
        for one in signed:
            link = one.link
            for _ in range(8):
                followed[hash(link)] = link
                link = w.hash160(link)
    links = list(followed.values())
    honest = [dispute.disproof(read, place) for place in range(len(dispute.claim.groups))]
    for _ in range(CASES // 20):
        made = dice.choice(honest)
        stack = list(made.inputs[0].witness)
        for _ in range(dice.choice([1, 1, 2, 4])):
            at = dice.randrange(len(stack) - 3)
            if len(stack[at]) == 20 and at:  # raised, as far as it goes
                digit, by = w.number_of(stack[at + 1]) if at + 1 < len(stack) - 3 else 0, dice.randrange(1, 8)
                raised = stack[at]
                for _ in range(by):
                    raised = w.hash160(raised)
                stack[at] = dice.choice([raised, raised, dice.choice(links)])
                stack[at + 1] = w.number_item(min(7, digit + by)) if at + 1 < len(stack) - 3 else stack[at + 1]
            else:
                stack[at] = w.number_item(
                    dice.choice([-1, 0, 1, 7, 8, 15, 64, dice.randrange(-(1 << 31) + 1, 1 << 31)])
                )
        assert not scripts_hold(made.with_witness(0, stack), spent)
