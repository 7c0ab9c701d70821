"""Each guard of the engine of leaves switched off: what somebody then loses; with the guard on it is refused."""

from dataclasses import replace

from btcfi.adapters.consensus import scripts_hold
from btcfi.disputes.leaves import graph as game
from btcfi.disputes.leaves import judge
from btcfi.disputes.leaves import terms as terms_module
from btcfi.disputes.leaves import words as w
from btcfi.disputes.leaves.graph import escrow_of, read_claim
from btcfi.disputes.leaves.payoffs import price_claim, step_claim
from btcfi.units import Hash32, Sats
from tests.support.leaving import RANGES, LeafDispute

SPOT = 60_500
CHEAPER = replace(RANGES, payouts=tuple(Sats(one // 2) for one in RANGES.payouts))


def negotiated():
    """Two agreements on one coin by the same keys: the verifier signed the claims of both."""
    dear, cheap = LeafDispute(price_claim(RANGES)), LeafDispute(price_claim(CHEAPER))
    assert dear.words["price0"] == cheap.words["price0"]
    return dear.signed(), cheap.signed()


def test_without_the_terms_in_the_opening_the_claimant_of_two_agreements_takes_its_choice(monkeypatch):
    """Ranges and payouts stand in no script of the opening: only the hash of the terms tells the two apart."""
    dear, cheap = negotiated()
    number = cheap.right([SPOT])
    lower = cheap.claimed(number, [SPOT])
    assert not scripts_hold(lower, [dear.graph.open_txout])

    monkeypatch.setattr(terms_module.LeafTerms, "id", Hash32(bytes(32)))
    dear, cheap = negotiated()
    higher, lower = dear.claimed(number, [SPOT]), cheap.claimed(number, [SPOT])
    assert scripts_hold(higher, [dear.graph.open_txout])
    assert scripts_hold(lower, [dear.graph.open_txout])
    assert lower.outputs[0].value < higher.outputs[0].value


def long_linked(dispute):
    """One oracle began a chain with 500 bytes, of which the second hash is a link like any other."""
    key = dispute.oracles[0][0]
    chains = [list(one) for one in key.chains]
    digit = w.digits_of(SPOT, 6)[0]
    chains[0][digit] = b"long" * 125
    for at in range(digit, 7):
        chains[0][at + 1] = w.hash160(chains[0][at])
    object.__setattr__(key, "chains", tuple(map(tuple, chains)))
    dispute.signed()
    return game.build_silence(
        dispute.graph, dispute.of_silence, which=0, oracles=dispute.shown([SPOT]), secret=dispute.v["claim"]
    )  # fmt: skip


def test_with_links_of_any_size_in_a_silence_its_answer_would_be_relayed_by_nobody(monkeypatch):
    dispute = LeafDispute(price_claim(RANGES))
    assert not scripts_hold(long_linked(dispute), [dispute.graph.open_txout])

    def unsized(emitter, word, signers, sized):
        w.emit_digits(emitter, signers)
        w.emit_checksum(emitter, word)

    monkeypatch.setattr(game, "assert_words", unsized)
    dispute = LeafDispute(price_claim(RANGES))
    assert scripts_hold(long_linked(dispute), [dispute.graph.open_txout])
    answer = dispute.claimed(dispute.right([SPOT]), [SPOT], silent=True)
    assert scripts_hold(answer, [dispute.graph.silence.outputs[0]])
    assert max(map(len, answer.inputs[0].witness[:-2])) > 80


def test_without_the_ledger_two_prices_of_one_key_slash_their_signer():
    """Each claim is right; the words of the one and the range of the other are not, and anybody has both."""
    dispute = LeafDispute(step_claim("capped_call", strike=60_000, steps=16, payout=Sats)).signed()
    first = read_claim(dispute.graph, dispute.claimed(dispute.right([SPOT]), [SPOT]))
    second = dispute.claimed(dispute.right([61_500]), [61_500])
    read = read_claim(dispute.graph, second)
    assert dispute.claim.first_wrong(read.said, read.number) is None
    mixed = replace(read, own=first.own)
    assert scripts_hold(dispute.disproof(mixed, 0), [escrow_of(second)[1]])


def test_without_the_hints_bounds_a_verifier_would_choose_its_quotient(monkeypatch):
    """The disprover says what a shift leaves; it is held to the one value there is."""

    def lying(leaf, claim, signed):
        items = judge_items(leaf, claim, signed)
        return [w.number_item(0), *items[1:]]

    judge_items = judge.disprove_items
    claim = step_claim("capped_call", strike=60_000, steps=16, payout=Sats)
    dispute = LeafDispute(claim).signed()
    honest = dispute.claimed(dispute.right([SPOT]), [SPOT])
    monkeypatch.setattr(game, "disprove_items", lying)
    read = read_claim(dispute.graph, honest)
    assert not scripts_hold(dispute.disproof(read, 0), [escrow_of(honest)[1]])

    emit = judge._emit_step

    def loose(emitter, program, step):
        if step.kind is judge.Kind.RIGHT:
            emitter.pick(("hint", step.name)).named(step.name)
        else:
            emit(emitter, program, step)

    monkeypatch.setattr(judge, "_emit_step", loose)
    dispute = LeafDispute(claim).signed()
    honest = dispute.claimed(dispute.right([SPOT]), [SPOT])
    assert scripts_hold(dispute.disproof(read_claim(dispute.graph, honest), 0), [escrow_of(honest)[1]])
