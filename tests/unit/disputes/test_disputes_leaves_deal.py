"""What is agreed before leaves judge: terms bound into the opening, keys of one use each, strict messages."""

import json
from dataclasses import replace

import pytest

from btcfi.adapters.consensus import scripts_hold
from btcfi.adapters.party.dispute_files import DisputeFiles, OtherMessageError
from btcfi.adapters.party.dispute_words import sign_words
from btcfi.bitcoin.transaction import OutPoint, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.option import WrongSignatureError
from btcfi.contracts.setup import WrongMessageError
from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.leaves import graph as game
from btcfi.disputes.leaves import messages as wire
from btcfi.disputes.leaves import words as w
from btcfi.disputes.leaves.deal import LeafSecrets
from btcfi.disputes.leaves.graph import LeafGraph, escrow_of
from btcfi.disputes.leaves.oracles import announce_word, attest_word, check_attested, check_word, word_key
from btcfi.disputes.leaves.payoffs import mean_claim, median_claim, price_claim
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.oracle.attestation import AlreadyAttestedError, WrongAttestationError
from btcfi.units import Height, Sats, Txid
from tests.support.disputing import Memory
from tests.support.leaf_folders import (
    CALL,
    IDENTITY,
    KNOCK_OUT,
    MEAN,
    MEDIAN,
    ORACLES,
    Party,
    draft_of,
    events_of,
)
from tests.support.leaving import OPENING, RANGES, LeafDispute, secret

SPOT = 60_500


def coin(key, place, value=20_000_000):
    return Coin(
        outpoint=OutPoint(txid=Txid(bytes([place]) * 32), index=0), output=TxOut(value=Sats(value), script=key.script)
    )  # fmt: skip


@pytest.fixture
def parties(tmp_path):
    return agreed(tmp_path, draft_of(CALL))


def agreed(folder, draft, attempt=0):
    p, v = Party(folder / "p", Side.CLAIMANT, attempt), Party(folder / "v", Side.VERIFIER, attempt)
    acceptance = v.accept(mailed(p.propose(draft, [coin(p.wallet, 1)])), draft.events, [coin(v.wallet, 2)])
    return p, v, v.claims(mailed(p.silence(mailed(acceptance))))


def mailed(message):
    return json.loads(json.dumps(message))


# ---- terms and keys


@pytest.mark.parametrize(
    "changed",
    [
        {"collateral": Sats(16_000_001)}, {"bond": Sats(2_000_001)}, {"silence_height": Height(31)},
        {"refund_height": Height(61)}, {"dispute_blocks": 11}, {"fee": Sats(401)},
        {"claim": price_claim(replace(RANGES, payouts=(Sats(1), *RANGES.payouts[1:])))},
        {"claim": price_claim(replace(RANGES, starts=(*RANGES.starts[:-1], 75_001)))},
    ],
    ids=lambda one: next(iter(one)),
)  # fmt: skip
def test_terms_that_differ_in_anything_have_another_opening(changed):
    terms = LeafDispute(price_claim(RANGES)).terms
    other = replace(terms, **changed)
    assert other.id != terms.id
    assert LeafGraph(other).open_output.script != LeafGraph(terms).open_output.script


def test_the_terms_hash_is_in_the_opening_s_tree_and_nobody_spends_by_it():
    dispute = LeafDispute(price_claim(RANGES)).signed()
    (leaf,) = [one for one, _ in dispute.graph.open_output.paths if dispute.terms.id in one.script]
    claim = dispute.claimed(1, [SPOT])
    stack = [leaf.script, dispute.graph.open_output.control_block(leaf)]
    assert scripts_hold(claim, [dispute.graph.open_txout])
    assert not scripts_hold(claim.with_witness(0, stack), [dispute.graph.open_txout])


def test_a_key_that_stands_in_two_roles_is_refused():
    terms = LeafDispute(price_claim(RANGES)).terms
    for changed in (
        {"claimant": replace(terms.claimant, payout=terms.claimant.claim)},
        {"verifier": replace(terms.verifier, escrow=terms.verifier.silence)},
        {"verifier": replace(terms.verifier, claim=terms.claimant.claim)},
        {"verifier": replace(terms.verifier, open=terms.claimant.open)},
        {"claimant": replace(terms.claimant, claim=b"\xff" * 32)},
        {"claimant": replace(terms.claimant, script=b"\x51")},
    ):
        with pytest.raises(InvalidInputError):
            replace(terms, **changed)


def test_every_secret_of_an_attempt_is_its_own_and_of_one_use(tmp_path):
    claim = draft_of(CALL).claim
    seen = []
    for attempt in range(2):
        own = LeafSecrets(secret("seed", attempt))
        seen += [own[use] for use in ("open", "claim", "payout", "escrow", "silence")]
        seen += [link for key in own.words(claim).values() for chain in key.chains for link in chain]
    assert len(set(seen)) == len(seen)
    assert "seed" not in repr(LeafSecrets(bytes(32)))


def test_what_was_signed_in_one_attempt_fits_no_other(tmp_path):
    """The verifier signs again with a fresh key, so the first attempt's range and the second's never mix."""
    p, _, first = agreed(tmp_path / "one", draft_of(CALL), 0)
    _, _, second = agreed(tmp_path / "two", draft_of(CALL), 1)
    deal = p.deal()[0]
    assert game.check_claims(deal.graph, wire.decode_claims(deal.graph, wire.decode_letter(first).data)) is None
    with pytest.raises(InvalidInputError):
        game.check_claims(deal.graph, wire.decode_claims(deal.graph, wire.decode_letter(second).data))
    with pytest.raises(WrongMessageError):
        p.fund(mailed(second))


# ---- who signs what first


def test_no_coin_is_signed_before_all_is_held_that_the_other_signs(parties):
    p, v, claims = parties
    deal = v.deal()[0]
    spoilt = wire.decode_letter(claims)
    with pytest.raises(InvalidInputError):
        p.fund(wire.encode_letter(replace(spoilt, data=spoilt.data[:-64] + bytes(64))))
    with pytest.raises(WrongSignatureError):
        v.open({})
    p = Party(p.files.folder.parent, Side.CLAIMANT)
    with pytest.raises(OtherMessageError):
        p.fund(mailed(claims))  # another message was answered: this attempt is over
    assert deal.opening.inputs(Side.CLAIMANT) == range(1)


def test_an_opening_is_complete_with_both_sides_witnesses_and_pays_what_the_graph_opens(parties):
    p, v, claims = parties
    opening = v.open(p.fund(mailed(claims)))
    deal = v.deal()[0]
    assert opening.txid == deal.graph.coin.txid
    assert opening.outputs[0] == deal.graph.open_txout
    assert scripts_hold(opening, deal.opening.spent)


def test_a_claim_from_two_folders_is_paid_or_disproved(parties):
    p, v, claims = parties
    p.fund(mailed(claims))
    graph = v.deal()[0].graph
    honest = p.claim([SPOT])
    assert scripts_hold(honest, [graph.open_txout])
    assert v.disproof(honest) is None
    lie = p.claim([SPOT], number=0)  # the words are the same: no key is used twice
    assert scripts_hold(v.disproof(lie), [escrow_of(lie)[1]])


def test_a_watcher_without_any_secret_disproves_every_lie_and_no_honest_claim():
    """From the chain, the terms and what the verifier published."""
    dispute = LeafDispute(median_claim(RANGES)).signed()
    published = game.presign_disproofs(dispute.graph, dispute.v["escrow"])
    prices = [61_500, 64_000, 62_500]
    right = dispute.right(prices)
    watching = LeafGraph(dispute.terms, OPENING)
    silences = (False, True)
    for number in range(len(dispute.claim.payouts)):
        for silent in silences if number in {0, right} else (False,):
            claim = dispute.claimed(number, prices, silent=silent)
            made = game.disproof_of(watching, claim, published)
            assert (made is None) == (number == right)
            if made is not None:
                assert scripts_hold(made, [escrow_of(claim)[1]])
                assert made.outputs[0].script == dispute.v_wallet.script


@pytest.mark.parametrize(("events", "oracles", "taken"), [(8, 5, True), (8, 16, False), (1, 16, True)])
def test_a_contract_whose_claim_no_node_would_relay_is_none(events, oracles, taken):
    """A claim of version 3 has at most 10,000 vB: its claimant could not make it, and would lose all."""
    dispute = LeafDispute(mean_claim(RANGES, events), oracles=oracles, threshold=oracles)
    if taken:
        dispute.signed()
        claim = dispute.claimed(1, [SPOT] * events)
        assert claim.vsize <= 10_000
        estimate = len(dispute.graph.claim_leaves[0].script) + 21 * len(claim.inputs[0].witness[:-4]) + 1_200
        assert claim.weight <= estimate
        return
    with pytest.raises(InvalidInputError):
        dispute.signed()


# ---- messages


@pytest.mark.parametrize(
    ("payoff", "events"), [(CALL, 1), (MEAN, 3), (MEAN, 8), (MEDIAN, 3), (KNOCK_OUT, 3)],
    ids=["call", "mean of 3", "mean of 8", "median", "knock-out"],
)  # fmt: skip
def test_a_proposal_is_read_back_as_it_was_said(tmp_path, payoff, events):
    draft = draft_of(payoff, events)
    p = Party(tmp_path, Side.CLAIMANT)
    said = mailed(p.propose(draft, [coin(p.wallet, 1)]))
    read = wire.decode_proposal(said)
    assert read.draft == draft
    assert wire.encode_proposal(read) == said
    assert tuple(read.keys.words) == draft.claim.words
    wire.check_proposer(read)


def fields_of(message, path=()):
    if isinstance(message, dict):
        for name, value in message.items():
            yield (*path, name)
            yield from fields_of(value, (*path, name))
    elif isinstance(message, list) and message:
        yield from fields_of(message[0], (*path, 0))


def changed(message, path, value, *, gone=False):
    made = mailed(message)
    at = made
    for one in path[:-1]:
        at = at[one]
    if gone:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return made


WRONG = [None, -1, 1 << 62, "zz", "00", [], {}, True, 1.5, "é", "ab" * 5_000]


def test_a_message_with_any_field_missing_added_or_of_another_form_is_refused_or_says_something_else(parties):
    """Never an exception of another kind, and never the same contract."""
    p, v, claims = parties
    proposal, acceptance = p.files.find(p.name(), "proposal"), v.files.find(v.name(), "acceptance")
    cases = 0
    for decode, message, again in (
        (wire.decode_proposal, proposal, wire.encode_proposal),
        (wire.decode_acceptance, acceptance, wire.encode_acceptance),
        (wire.decode_letter, claims, wire.encode_letter),
    ):  # fmt: skip
        assert mailed(again(decode(message))) == mailed(message)
        paths = list(fields_of(message))
        for path in paths:
            tried = [changed(message, path, value) for value in WRONG]
            for one in [changed(message, path, None, gone=True), changed(message, (*path[:-1], "more"), 1), *tried]:
                cases += 1
                if one == mailed(message):
                    continue
                try:
                    read = decode(one)
                except BtcfiError:
                    continue
                assert mailed(again(read)) == one  # a value that fits, and nothing else was read
    assert cases > 700


def test_signatures_of_another_length_are_refused(parties):
    p, _, claims = parties
    graph = p.deal()[0].graph
    data = wire.decode_letter(claims).data
    for wrong in (b"", data[:-1], data + b"\0", data + data):
        with pytest.raises(InvalidInputError):
            wire.decode_claims(graph, wrong)
        with pytest.raises(InvalidInputError):
            wire.decode_silence(graph, wrong)


def test_a_proposal_of_another_hand_or_with_other_oracles_is_refused(tmp_path):
    draft = draft_of(CALL)
    p, v = Party(tmp_path / "p", Side.CLAIMANT), Party(tmp_path / "v", Side.VERIFIER)
    said = mailed(p.propose(draft, [coin(p.wallet, 1)]))
    with pytest.raises(WrongMessageError):
        v.accept({**said, "premium_sats": 0}, draft.events, [coin(v.wallet, 2)])
    foreign = tuple(tuple(announce_word(secret("nobody", at), event) for at in range(3)) for event in events_of(1))
    with pytest.raises(WrongMessageError):
        v.accept(said, foreign, [coin(v.wallet, 2)])


def test_one_time_keys_that_no_oracle_signed_make_no_contract():
    draft = draft_of(MEAN, 2)
    first, second = draft.events
    stolen = replace(first[0], word=word_key(secret("thief"), events_of(1)[0]).word)
    for events in (
        ((stolen, *first[1:]), second), (first, first), (first, (second[1], second[0], second[2])),
        ((first[0], first[0], first[2]), (second[0], second[0], second[2])),
        ((first[0], second[1], first[2]), (second[0], first[1], second[2])),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            replace(draft, events=events).check_oracles()
    draft.check_oracles()


# ---- the oracles' one-time keys


def test_an_oracle_says_one_outcome_by_its_one_time_key_whatever_it_is_asked_again():
    (event,), ledger = events_of(1), Memory()
    announced = announce_word(ORACLES[0], event)
    check_word(announced)
    signed = attest_word(ORACLES[0], event, SPOT, ledger)
    assert attest_word(ORACLES[0], event, SPOT, ledger) == signed
    with pytest.raises(AlreadyAttestedError):
        attest_word(ORACLES[0], event, SPOT + 1, ledger)
    check_attested(announced, signed)
    other = attest_word(ORACLES[1], event, SPOT, Memory())
    for wrong in (other, signed[:-1], (replace(signed[0], digit=signed[0].digit ^ 1), *signed[1:])):
        with pytest.raises(WrongAttestationError):
            check_attested(announced, wrong)
    with pytest.raises(InvalidInputError):
        attest_word(ORACLES[0], event, 1 << 18, Memory())


def test_a_digit_raised_without_its_checksum_is_no_attestation():
    """Anybody can raise a digit: only the checksum tells."""
    (event,) = events_of(1)
    announced, signed = announce_word(ORACLES[0], event), list(attest_word(ORACLES[0], event, 0, Memory()))
    signed[0] = w.SignedDigit(digit=1, link=w.hash160(signed[0].link), item=w.number_item(1))
    with pytest.raises(WrongAttestationError):
        check_attested(announced, tuple(signed))


# ---- the ledger of one-time keys


NAME = "ab" * 32


def test_what_one_time_keys_say_is_written_before_it_is_said_and_never_changed(tmp_path):
    claim = LeafDispute(price_claim(RANGES)).claim
    keys = LeafSecrets(bytes(32)).words(claim)
    first = sign_words(DisputeFiles(tmp_path), NAME, keys, {"price0": SPOT})
    for _ in range(2):  # another process, another terminal
        assert sign_words(DisputeFiles(tmp_path), NAME, keys, {"price0": SPOT}) == first
        with pytest.raises(OtherMessageError):
            sign_words(DisputeFiles(tmp_path), NAME, keys, {"price0": SPOT + 1})
    with pytest.raises(OtherMessageError):
        sign_words(DisputeFiles(tmp_path), "cd" * 32, keys, {"price0": SPOT})
    assert sign_words(DisputeFiles(tmp_path), NAME, LeafSecrets(b"\1" * 32).words(claim), {"price0": 1}) != first
    with pytest.raises(InvalidInputError):
        sign_words(DisputeFiles(tmp_path), NAME, LeafSecrets(b"\2" * 32).words(claim), {"price0": 1 << 18})
    assert DisputeFiles(tmp_path).count("words") == 2


class DyingKey(w.WordKey):
    """A key whose process dies when it signs."""

    def sign(self, value):
        raise KeyboardInterrupt


def test_a_claimant_that_dies_while_it_signs_says_the_same_afterwards(tmp_path):
    claim = LeafDispute(price_claim(RANGES)).claim
    (key,) = LeafSecrets(bytes(32)).words(claim).values()
    with pytest.raises(KeyboardInterrupt):
        sign_words(
            DisputeFiles(tmp_path), NAME, {"price0": DyingKey(seed=key.seed, digits=key.digits)}, {"price0": SPOT}
        )  # fmt: skip
    with pytest.raises(OtherMessageError):
        sign_words(DisputeFiles(tmp_path), NAME, {"price0": key}, {"price0": SPOT + 1})
    assert w.value_of(sign_words(DisputeFiles(tmp_path), NAME, {"price0": key}, {"price0": SPOT})["price0"]) == SPOT


def test_no_two_prices_are_claimed_from_one_folder(parties):
    p, _, claims = parties
    p.fund(mailed(claims))
    p.claim([SPOT])
    with pytest.raises(OtherMessageError):
        Party(p.files.folder.parent, Side.CLAIMANT).claim([SPOT + 1])
    assert IDENTITY not in b"".join(path.read_bytes() for path in p.files.folder.rglob("*") if path.is_file())
