"""Each hole that a reader found in the design of garbled disputes, played against ours: it pays with its guard off.

Judge: Core's interpreter, and the verifier's own reader. A lie *pays* where Core takes the claim and its payout, and
the verifier cannot convict. With the guard on the same attack is refused, or convicted. The table says of each hole,
and each unsound variant, which tests stop it. Source: findings on garbled disputes (U1 to U16), the review (H1 to H9).
"""

import ast
from dataclasses import replace

import pytest

from btcfi import secp256k1
from btcfi.adapters.consensus import scripts_hold
from btcfi.bitcoin import adaptor, taproot
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, TxIn
from btcfi.disputes.claims import Ranges, knock_out_claim, price_claim
from btcfi.disputes.garbled import chains, graph, presign, terms
from btcfi.disputes.garbled.chains import Entry, one_of
from btcfi.disputes.garbled.game import position
from btcfi.disputes.garbled.graph import Graph, last_of
from btcfi.disputes.garbled.presign import (
    Attested,
    build_bond_home,
    build_disproof,
    build_overdue,
    build_payout,
    build_silence,
    build_silent_end,
    read_claim,
    read_silence,
)
from btcfi.disputes.garbled.setup import Verdict
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.units import Height, Sats, Txid
from tests.support.disputing import RANGES, Dispute, Side, secret
from tests.support.paths import ROOT

SPOT = 67_890
RIGHT = 8
LIE = 0
OPENING, OTHER_OPENING = Txid(bytes(range(32))), Txid(bytes(range(1, 33)))

HOLES = {
    "H1 signatures of two attempts": ["holes::test_signatures_of_two_attempts_fit_together_under_one_key_alone"],
    "H2 one corrupt oracle": [
        "holes::test_one_oracle_of_two_words_makes_a_claim_unreadable_where_it_is_enough_alone",
        "holes::test_one_corrupt_oracle_of_three_finishes_no_digit_of_a_second_price",
        "witnesses::test_one_corrupt_oracle_of_three_gives_the_claimant_nothing_to_mix",
    ],
    "H3 a veto of each oracle": [
        "holes::test_silence_without_attestations_takes_what_nobody_owes",
        "holes::test_a_claimant_from_whom_attestations_were_kept_reads_them_off_the_claim_of_silence",
        "on_chain::test_silence_is_claimed_with_the_attestations_and_answered_by_a_claim",
        "on_chain::test_without_attestations_nobody_claims_anything_and_the_claimant_is_refunded_at_its_height",
    ],
    "H4 lazy and silent": [
        "holes::test_a_bond_that_goes_home_too_early_takes_the_answer_from_an_honest_claimant",
        "on_chain::test_a_lazy_claimant_that_stays_silent_pays_all_and_the_bond_of_the_verifier_comes_back",
        "holes_desk::test_a_lazy_lie_before_any_attestation_is_challenged_in_time",
    ],
    "H5 a second cut for one first message": [
        "unsound::test_cuts_drawn_anew_for_one_first_message_are_drawn_until_one_suits",
        "two_folders::test_cuts_are_counted_by_counterparty_across_restarts",
        "two_folders::test_another_message_of_a_step_that_was_answered_is_refused",
    ],
    "H6 a salt twice": [
        "unsound::test_a_garbler_whose_secrets_do_not_hang_on_the_cut_gives_the_fault_away",
        "setup::test_two_set_ups_of_one_seed_share_no_point",
        "two_folders::test_a_verifier_restored_from_a_copy_has_other_keys_and_another_cut",
    ],
    "H7 a fault point twice": [
        "holes::test_two_claims_of_one_fault_point_are_one_transaction_where_signatures_leave_inputs_open",
        "two_folders::test_a_fault_point_that_was_seen_before_is_refused",
    ],
    "H8 programs that die of messages": [
        "holes_messages::test_whatever_bytes_come_a_reader_reads_or_refuses",
        "holes_messages::test_whatever_json_comes_a_reader_reads_or_refuses",
        "holes_messages::test_whatever_stands_in_a_message_its_check_accepts_or_refuses",
        "witnesses::test_a_reader_has_an_answer_for_any_transaction",
        "witnesses::test_whatever_core_takes_is_read_and_every_lie_among_it_is_convicted",
    ],
    "H9 two verdicts for three cases": [
        "unsound::test_three_verdicts_are_told_apart",
        "setup::test_each_wrong_range_at_each_price_is_convicted_and_no_right_one",
    ],
    "U1 a label point of unknown secret": ["unsound::test_each_check_of_a_set_up_stops_the_cheat_that_it_is_for"],
    "U2 what is committed after the cut": [
        "unsound::test_each_check_of_a_set_up_stops_the_cheat_that_it_is_for",
        "setup::test_copies_garbled_badly_are_seen_when_opened_and_convict_but_all_that_are_kept",
    ],
    "U3 no separators": [
        "witnesses::test_the_test_above_sees_a_missing_separator",
        "on_chain::test_a_signature_of_one_digit_is_none_of_another",
    ],
    "U4 digits under the claimant's key": ["holes::test_digits_under_a_key_of_the_claimant_tell_no_label"],
    "U5 a plain sum in the escrow": ["holes::test_an_escrow_of_a_plain_sum_is_the_claimants"],
    "U6 a fault point of another secret": ["unsound::test_each_check_of_a_set_up_stops_the_cheat_that_it_is_for"],
    "U7 nonces of the message alone": ["holes::test_two_presignatures_of_one_nonce_tell_the_verifiers_key"],
    "U8 no anticipation points": [
        "holes::test_without_anticipation_points_a_price_that_nobody_attested_is_claimed",
        "on_chain::test_no_price_is_claimed_that_nobody_attested",
    ],
    "U9 ranges that fix no outputs": [
        "witnesses::test_the_test_above_sees_signatures_of_ranges_that_fix_no_outputs",
        "on_chain::test_the_verifier_s_bond_is_taken_by_the_answer_to_a_challenge_alone",
    ],
    "U10 attestations kept from the verifier": [
        "holes::test_with_one_signature_a_digit_a_claim_is_read_by_who_has_the_attestations_alone",
        "witnesses::test_a_price_that_two_corrupt_oracles_gave_the_claimant_alone_is_read_off_the_chain",
    ],
    "U11 two attested prices": ["holes::test_a_second_attested_price_harms_no_honest_claimant"],
    "U12 a share plus the order": [
        "unsound::test_each_check_of_a_set_up_stops_the_cheat_that_it_is_for",
        "setup::test_what_an_honest_garbler_would_not_send_is_caught",
    ],
    "U13 a check left out": [
        "unsound::test_each_check_of_a_set_up_stops_the_cheat_that_it_is_for",
        "setup::test_what_an_honest_garbler_would_not_send_is_caught",
    ],
    "U14 a second cut answered": [
        "unsound::test_a_second_cut_that_is_answered_tells_the_fault_secret",
        "setup::test_a_second_cut_is_not_answered",
    ],
    "U15 two claims signed": [
        "holes::test_a_second_claim_seen_anywhere_gives_the_fault_secret",
        "two_folders::test_one_claim_is_signed_of_a_contract_ever_by_its_folder_and_by_a_copy_of_it",
    ],
    "U16 two contracts of one fault point and terms": [
        "holes::test_two_claims_of_one_fault_point_are_one_transaction_where_signatures_leave_inputs_open",
    ],
    "signatures that are not those asked for": [
        "holes_signatures::test_a_verifier_that_signs_anything_else_is_seen_by_the_claimant",
        "holes_signatures::test_a_claimant_that_signs_anything_else_is_seen_by_the_verifier",
        "holes_signatures::test_no_part_of_what_a_verifier_signs_may_be_missing_doubled_or_anothers",
        "holes_signatures::test_a_claim_in_the_pool_is_changed_by_nobody",
        "holes_signatures::test_a_verifier_claims_nothing_by_itself",
        "holes_signatures::test_a_claimant_alone_moves_nothing_but_its_payout",
    ],
    "signatures of one digit that say two things": [
        "holes_signatures::test_a_verifier_mixes_no_silence_that_the_claimant_cannot_read",
        "witnesses::test_whatever_core_takes_is_read_and_every_lie_among_it_is_convicted",
    ],
    "copies of a set-up that are bad in other ways": [
        "unsound::test_what_a_garbler_commits_to_and_no_polynomial_is_is_refused",
        "unsound::test_what_a_garbler_says_otherwise_than_it_made_it_is_refused",
        "unsound::test_seven_bad_copies_of_seven_kinds_are_seen_by_whichever_cut_opens_one",
        "unsound::test_six_of_seven_ways_to_spoil_a_kept_copy_leave_one_that_convicts",
        "unsound::test_polynomials_that_are_constant_harm_their_maker_alone",
    ],
    "what a verifier computes of a right claim": [
        "unsound::test_no_other_claim_is_evaluated_with_what_a_right_one_told",
        "unsound::test_as_many_shares_as_are_opened_tell_neither_the_fault_nor_a_label",
    ],
    "the first message unsigned": ["deal_messages::test_the_first_message_is_signed_for_one_set_up_alone"],
    "an attempt forgotten too early": [
        "two_folders::test_an_opening_that_was_signed_and_not_sent_is_cancelled_by_its_own_coins",
    ],
    "corrupt oracles": [
        "holes_verdicts::test_fewer_corrupt_oracles_than_a_set_has_move_nothing",
        "holes_verdicts::test_an_honest_claim_is_right_and_a_lie_convicted_at_any_outcomes",
        "holes_verdicts::test_each_set_of_two_oracles_gives_the_same_verdicts_on_the_chain",
    ],
    "found here: ranges that pay the same": [
        "holes::test_no_two_claims_of_a_contract_are_one_transaction",
        "holes::test_a_right_claim_is_told_from_another_range_that_pays_the_same",
        "holes_desk::test_a_right_claim_that_pays_what_another_range_pays_is_not_challenged",
    ],
    "found here: a last outcome that is not the latest": [
        "holes::test_outcomes_stand_in_the_order_of_their_minutes",
    ],
    "found here: a lie before any attestation": [
        "holes_desk::test_a_lazy_lie_before_any_attestation_is_challenged_in_time",
    ],
}  # fmt: skip

WHERE = {
    "property": ["holes", "holes_messages", "holes_signatures", "holes_verdicts", "witnesses"],
    "unit": ["deal_messages", "setup", "unsound"],
    "integration": ["holes_desk", "on_chain", "two_folders"],
}


@pytest.mark.parametrize("hole", HOLES)
def test_each_hole_has_the_tests_that_stop_it(hole):
    for named in HOLES[hole]:
        file, name = named.split("::")
        (layer,) = (layer for layer, files in WHERE.items() if file in files)
        path = ROOT / "tests" / layer / "disputes" / f"test_disputes_{file}.py"
        found = {one.name for one in ast.parse(path.read_text()).body if isinstance(one, ast.FunctionDef)}
        assert name in found, named


def made(opening=OPENING, **options):
    dispute = Dispute(**{"oracles": 1, "threshold": 1} | options)
    dispute.signed(opening)
    return dispute


@pytest.fixture(scope="module")
def dispute():
    """A call that one oracle is enough for."""
    return made()


def spent_by(dispute, *, silent=False):
    return [dispute.graph.parent(silent=silent)[1]]


def pays(dispute, claim):
    """Whether a lie is paid: Core takes the claim, and later the payout, and the verifier does not convict."""
    if not scripts_hold(claim, spent_by(dispute)):
        return False
    payout = build_payout(dispute.graph, claim, payout=dispute.p.payout, script=dispute.p.wallet.script, fee=Sats(400))
    assert scripts_hold(payout, [last_of(claim)[1]])
    try:
        read = read_claim(dispute.graph, dispute.of_claims, claim)
        return dispute.kept.judge(*read.named(dispute.graph)).verdict is not Verdict.CONVICTED
    except BtcfiError:
        return True


def test_a_lie_does_not_pay_where_nothing_is_switched_off(dispute):
    for number in (LIE, RIGHT - 1, RIGHT + 1, 16):
        claim = dispute.claimed(number, dispute.attested([SPOT]))
        assert scripts_hold(claim, spent_by(dispute))
        assert not pays(dispute, claim)


# ---- H1: keys of an attempt


def mixed_of(first, second):
    """The range's signature of one attempt over the digits' of another."""
    mine, theirs = (one.claimed(LIE, one.attested([SPOT])) for one in (first, second))
    return mine.with_witness(0, [*theirs.inputs[0].witness[:-4], *mine.inputs[0].witness[-4:]])


def test_signatures_of_two_attempts_fit_together_under_one_key_alone(dispute):
    same = Dispute(oracles=1, threshold=1, attempt=1)
    same.v = dispute.v  # off: the verifier's keys are those of the first attempt
    same.signed(OPENING)
    assert same.graph.open_txouts == dispute.graph.open_txouts
    assert same.commitments.fault != dispute.commitments.fault
    mixed = mixed_of(dispute, same)
    assert pays(dispute, mixed)
    # a patient reader with both sets of signatures has labels of two garblings
    at = [one[:64] for one in reversed(mixed.inputs[0].witness[:-3])]
    number = chains.matching(dispute.of_claims.ranges[0], 0, 17, at[0])
    told = chains.read(same.graph.points, same.graph.claim_chain(0, silent=False), same.of_claims.entries[0], at[1:])
    values, secrets = presign._prices_told(same.graph, told)
    place = next(at for at, digit in enumerate(same.claim.circuit.digits) if digit.event is None)
    values[place], secrets[place] = number, adaptor.extract(one_of(dispute.of_claims.ranges[0], number), at[0])
    for one in (dispute, same):
        names = {one.graph.points.digit(at).name: value for at, value in values.items()}
        with pytest.raises(InvalidInputError, match="secret"):
            one.kept.judge(names, [secrets[at] for at in sorted(secrets)])
    fresh = made(attempt=1)
    for one, other in ((dispute, fresh), (fresh, dispute)):
        assert not scripts_hold(mixed_of(one, other), spent_by(one))


# ---- H2, H3, U8, U10, U11: oracles


def with_digit(dispute, claim, entry, value, scalar, *, which=0):
    """A claim with one digit's signature of another value, finished by a secret. entry: counted in its chain."""
    chain = dispute.graph.claim_chain(which, silent=False)
    start = sum(dispute.graph.points.digit(one.place).values for one in chain.entries[:entry])
    stack = list(claim.inputs[0].witness)
    stack[-5 - entry] = adaptor.adapt(one_of(dispute.of_claims.entries[which], start + value), scalar) + chain.hash_type
    return claim.with_witness(0, stack)


def test_one_oracle_of_two_words_makes_a_claim_unreadable_where_it_is_enough_alone(dispute):
    """Off: sets of one oracle. There it may name any price anyway; its two words stand in the claim for all to see."""
    public, private = dispute.attested([SPOT]), dispute.attested([SPOT ^ 1])
    place = dispute.graph.points.priced_places[0]
    claim = dispute.claimed(LIE, public)
    unreadable = with_digit(dispute, claim, 1, private.values[place], private.secrets[place])
    assert pays(dispute, unreadable)
    with pytest.raises(presign.UnreadableClaimError, match=r"price0\.0"):
        read_claim(dispute.graph, dispute.of_claims, unreadable)


@pytest.fixture(scope="module")
def three():
    """A call that two oracles of three are enough for."""
    return made(oracles=3, threshold=2)


@pytest.mark.parametrize("corrupt", range(3))
def test_one_corrupt_oracle_of_three_finishes_no_digit_of_a_second_price(three, corrupt):
    """It attests two prices; every sum of what it and the honest ones said finishes none but the honest price's."""
    which = next(at for at, one in enumerate(three.terms.sets) if corrupt in one)
    place = three.graph.points.priced_places[0]
    digit, signed = three.graph.points.digit(place), three.announcements[0][0].event.signed_digits
    public, private = three.attestations([SPOT])[0], three.attestations([SPOT ^ 1], [corrupt])[0]
    claim = three.claimed(LIE, three.attested([SPOT], which))
    for value in (SPOT & 31, SPOT & 31 ^ 1):
        label = three.garbler.label(place, value)
        for words in (public, {**public, **private}):
            places = [at for at, _ in chains.bits_of(digit, value, signed)]
            scalar = presign.total(
                [words[one].signatures[at][32:] for one in three.terms.sets[which] for at in places]
            )  # fmt: skip
            for entry, whole in ((0, secp256k1.scalar_add(label, scalar)), (1, scalar)):
                tried = with_digit(three, claim, entry, value, whole, which=which)
                assert scripts_hold(tried, spent_by(three)) is (value == SPOT & 31 and words is public)


def test_silence_without_attestations_takes_what_nobody_owes(dispute, monkeypatch):
    fake = dispute.attested([SPOT])
    forged = replace(fake, secrets={place: secret("made up", place) for place in fake.secrets})
    silence = build_silence(dispute.graph, dispute.of_silence, attested=forged, claim=dispute.v.claim)
    assert not scripts_hold(silence, spent_by(dispute))
    monkeypatch.setattr(chains.Points, "silence_entries", ())
    off = made()
    silence = build_silence(off.graph, off.of_silence, attested=forged, claim=off.v.claim)
    assert scripts_hold(silence, spent_by(off))
    end = build_silent_end(off.graph, off.of_silence, both=off.v.both)
    assert scripts_hold(end, spent_by(off, silent=True))
    assert end.outputs[0].value == off.collateral


@pytest.mark.parametrize("which", range(3))
def test_a_claimant_from_whom_attestations_were_kept_reads_them_off_the_claim_of_silence(three, which):
    attested = three.attested([SPOT], which)
    silence = build_silence(three.graph, three.of_silence, attested=attested, claim=three.v.claim)
    assert scripts_hold(silence, spent_by(three))
    told = read_silence(three.graph, three.of_silence, silence)
    assert told == attested
    claim = three.claimed(RIGHT, told, silent=True)
    assert scripts_hold(claim, spent_by(three, silent=True))
    read = read_claim(three.graph, three.of_claims, claim)
    assert three.kept.judge(*read.named(three.graph)).verdict is Verdict.RIGHT


def unattested(dispute, outcome, scalar):
    """Attestations of a price that are none: a scalar of the claimant's for each digit."""
    values = {}
    for place in dispute.graph.points.priced_places:
        digit = dispute.graph.points.digit(place)
        values[place] = outcome >> digit.low_bit & (1 << digit.width) - 1
    return Attested(which=0, values=values, secrets=dict.fromkeys(values, scalar))


def test_without_anticipation_points_a_price_that_nobody_attested_is_claimed(dispute, monkeypatch):
    scalar = secret("known to all")
    claim = dispute.claimed(0, unattested(dispute, 1, scalar))
    assert not scripts_hold(claim, spent_by(dispute))
    monkeypatch.setattr(
        chains.Points, "attested", lambda self, place, value, which: secp256k1.generator_multiple(scalar)
    )  # fmt: skip
    off = made()
    assert pays(off, off.claimed(0, unattested(off, 1, scalar)))


def test_with_one_signature_a_digit_a_claim_is_read_by_who_has_the_attestations_alone(dispute, monkeypatch):
    read = read_claim(dispute.graph, dispute.of_claims, dispute.claimed(LIE, dispute.attested([SPOT])))
    both = chains.Points.price_entries.fget
    monkeypatch.setattr(
        chains.Points, "price_entries", property(lambda self: tuple(one for one in both(self) if one.labelled))
    )
    off = made()
    claim = off.claimed(LIE, off.attested([SPOT]))
    assert scripts_hold(claim, spent_by(off))
    chain, stack = off.graph.claim_chain(0, silent=False), claim.inputs[0].witness
    told = chains.read(off.graph.points, chain, off.of_claims.entries[0], [one[:64] for one in stack[-5::-1]])
    assert len(told) == 4
    attested = off.attested([SPOT])
    for place in off.graph.points.priced_places:
        value, found = told[Entry(place=place, labelled=True, attested=True)]
        assert value == attested.values[place]
        assert secp256k1.public_key_compressed(found) != off.kept.labels[place]
        # the same claim of two signatures a digit told the label to who had no attestation
        assert dispute.garbler.label(place, value) == read.secrets[place] != found


def test_a_second_attested_price_harms_no_honest_claimant(dispute):
    """The verifier combines all that a claim told with both attestations: it has labels of what was claimed alone."""
    claim = dispute.claimed(RIGHT, dispute.attested([SPOT]))
    read = read_claim(dispute.graph, dispute.of_claims, claim)
    assert dispute.kept.judge(*read.named(dispute.graph)).verdict is Verdict.RIGHT
    points, labels = dispute.graph.points, set(dispute.kept.labels)
    known = {secp256k1.public_key_compressed(one) for one in read.secrets.values()}
    assert known <= labels
    found = set()
    for outcome in (SPOT, SPOT ^ 0x3FFFF, 61_500):
        other = dispute.attested([outcome])
        for place in points.priced_places:
            for told in read.secrets.values():
                for scalar in (other.secrets[place], secp256k1.scalar_negate(other.secrets[place])):
                    found.add(secp256k1.public_key_compressed(secp256k1.scalar_add(told, scalar)))
            found.add(secp256k1.public_key_compressed(other.secrets[place]))
    assert len(found) > 100
    assert not found & (labels | {dispute.kept.fault})


def test_digits_of_two_attested_prices_are_a_price_of_their_own_and_judged_as_that(dispute):
    """What one oracle alone may do: it names any price. The claim is read, and convicted where it is wrong for it."""
    one, other = dispute.attested([SPOT]), dispute.attested([100_000])
    for places in ([0], [0, 2], [1, 3]):
        mixed = replace(
            one, values={**one.values, **{at: other.values[at] for at in places}},
            secrets={**one.secrets, **{at: other.secrets[at] for at in places}},
        )  # fmt: skip
        price = sum(value << dispute.graph.points.digit(at).low_bit for at, value in mixed.values.items())
        for number in (LIE, dispute.right([price])):
            claim = dispute.claimed(number, mixed)
            assert scripts_hold(claim, spent_by(dispute))
            read = read_claim(dispute.graph, dispute.of_claims, claim)
            verdict = dispute.kept.judge(*read.named(dispute.graph)).verdict
            assert verdict is (Verdict.RIGHT if number == dispute.right([price]) else Verdict.CONVICTED)


# ---- H4: the verifier's bond


def test_a_bond_that_goes_home_too_early_takes_the_answer_from_an_honest_claimant(monkeypatch):
    lazy = made(claim_height=10)
    bond = lazy.graph.open_txouts[1]

    def home_at(dispute, height):
        made_home = build_bond_home(dispute.graph, bond=dispute.v.bond, script=dispute.v.wallet.script, fee=Sats(300))
        early = replace(made_home, lock_time=Height(height))
        leaf = dispute.graph.bond_leaf
        signature = secp256k1.schnorr_sign(
            dispute.v.bond, taproot.sighash(early, 0, [bond], leaf=taproot.leaf_hash(leaf.script))
        )
        return early.with_witness(0, [signature, leaf.script, dispute.graph.bond_output.control_block(leaf)])

    # a claim of silence in the last block, its claim, the challenge of that: each after all of the other's blocks
    last_answer = lazy.refund_height + 3 * lazy.blocks
    assert not scripts_hold(home_at(lazy, last_answer), [bond])
    assert scripts_hold(home_at(lazy, lazy.graph.terms.bond_height), [bond])
    monkeypatch.setattr(terms.DisputeTerms, "bond_height", property(lambda self: self.claim_height))
    off = made(claim_height=10)
    bond = off.graph.open_txouts[1]
    assert scripts_hold(home_at(off, off.claim_height), [bond])  # and what is shown spends this coin as well
    assert off.graph.reveal(RIGHT).inputs[1].outpoint == off.graph.bond
    challenge = off.graph.challenge(RIGHT)
    overdue = build_overdue(off.graph, challenge, overdue=off.v.overdue, script=off.v.wallet.script, fee=Sats(400))
    assert scripts_hold(overdue, [last_of(challenge)[1]])


def test_a_challenge_needs_no_bond_so_a_liar_gains_nothing_by_waiting(dispute):
    """H4's liar waits until the bond is home: the challenge holds all the same, and it is the answer that is gone."""
    lazy = made(claim_height=10)
    for number in range(17):
        assert [one.outpoint for one in lazy.graph.challenge(number).inputs] == [last_of(lazy.graph.claim(number))[0]]
        assert lazy.graph.bond in [one.outpoint for one in lazy.graph.reveal(number).inputs]
    assert not dispute.graph.terms.is_lazy


@pytest.mark.parametrize("silent", [False, True])
def test_out_of_its_order_nothing_of_a_lazy_contract_has_a_coin_to_spend(silent):
    """A challenge of another range, an answer to another challenge: each spends what its own predecessor made."""
    lazy = made(claim_height=10)
    claims = {lazy.graph.claim(at, silent=silent).txid for at in range(17)}
    challenges = {lazy.graph.challenge(at, silent=silent).txid for at in range(17)}
    assert len(claims) == len(challenges) == 17
    for number in range(17):
        claim, challenge = lazy.graph.claim(number, silent=silent), lazy.graph.challenge(number, silent=silent)
        assert {claim.txid} == claims & {one.outpoint.txid for one in challenge.inputs}
        reveal = lazy.graph.reveal(number, silent=silent)
        assert {challenge.txid} == challenges & {one.outpoint.txid for one in reveal.inputs}


# ---- H7, U16: one fault point twice


def merged_of(first, second, hash_type=b""):
    """Both claims in one transaction that pays once, signed anew by the claimant."""
    claims = [one.claimed(RIGHT, one.attested([SPOT])) for one in (first, second)]
    inputs = tuple(TxIn(outpoint=one.graph.coin, sequence=SEQUENCE_LOCKTIME) for one in (first, second))
    merged = replace(claims[0], inputs=inputs)
    spent = [spent_by(first)[0], spent_by(second)[0]]
    for at, (one, claim) in enumerate(zip((first, second), claims, strict=True)):
        stack = list(claim.inputs[0].witness)
        if hash_type:
            stack[-4] = stack[-4][:64] + hash_type
        leaf = taproot.leaf_hash(stack[-2])
        stack[-3] = secp256k1.schnorr_sign(one.p.claim, taproot.sighash(merged, at, spent, leaf=leaf))
        merged = merged.with_witness(at, stack)
    return merged, spent


def test_two_claims_of_one_fault_point_are_one_transaction_where_signatures_leave_inputs_open(dispute, monkeypatch):
    twin = made(opening=OTHER_OPENING)  # off already: keys, set-up and fault point of the first
    assert twin.commitments.fault == dispute.commitments.fault
    assert not scripts_hold(*merged_of(dispute, twin))
    honest = graph.Graph.claim_chain
    monkeypatch.setattr(
        graph.Graph, "claim_chain", lambda self, leaf, *, silent: replace(honest(self, leaf, silent=silent), alone=True)
    )
    monkeypatch.setattr(
        chains.Chain, "leading_digest",
        lambda self, transaction: taproot.sighash(
            transaction, self.index, self.spent, hash_type=0x81, leaf=taproot.leaf_hash(self.leaf.script)
        ),
    )  # fmt: skip
    first, second = made(), made(opening=OTHER_OPENING)
    merged, spent = merged_of(first, second, b"\x81")
    assert scripts_hold(merged, spent)
    owed = 2 * first.terms.claim.payouts[RIGHT]
    assert sum(one.value for one in merged.outputs if one.script == first.v.wallet.script) * 2 == owed


# ---- U4, U5, U7, U15: keys, nonces, two claims


def signed_by_the_claimant(dispute, secret_key):
    """A lie whose every digit the claimant signs itself."""
    claim, chain = dispute.graph.claim(LIE), dispute.graph.claim_chain(0, silent=False)
    digits = [
        secp256k1.schnorr_sign(secret_key, chain.digest(at)) + chain.hash_type for at in range(len(chain.entries))
    ]
    first = secp256k1.schnorr_sign(secret_key, chain.leading_digest(claim)) + b"\x01"
    own = secp256k1.schnorr_sign(dispute.p.claim, chain.own_digest(claim))
    control = dispute.graph.open_control(chain.leaf, silent=False)
    return chains.with_chain(claim, 0, [first, *digits], own, chain.leaf, control)


def test_digits_under_a_key_of_the_claimant_tell_no_label(dispute):
    off = Dispute(oracles=1, threshold=1)
    off.v = Side("verifier", 0, 1)
    off.v.digits = [secret_key := secp256k1.even_secret(secret("the claimant's own"))]
    off.signed(OPENING)
    assert pays(off, signed_by_the_claimant(off, secret_key))
    for key in (secret_key, dispute.p.claim, *dispute.p.digits):
        assert not scripts_hold(signed_by_the_claimant(dispute, key), spent_by(dispute))


class PlainSum:
    """Keys added up without coefficients."""

    def __init__(self, keys):
        self.xonly = secp256k1.point_add(keys)[1:]


def test_an_escrow_of_a_plain_sum_is_the_claimants(dispute, monkeypatch):
    """It names as fault point its own key less the verifier's, whose secret nobody has."""
    mine = secp256k1.even_secret(secret("the claimant's escrow"))
    fault = secp256k1.point_add([
        secp256k1.public_key_compressed(mine), secp256k1.point_negate(dispute.terms.verifier.escrow)
    ])  # fmt: skip
    points = dispute.commitments.points
    named = replace(dispute.commitments, points=((*points[0][:-1], fault), *points[1:]))

    def taken_at_once():
        made_graph = Graph(dispute.terms, named, OPENING)
        coin, value = last_of(made_graph.claim(LIE))
        sweep = replace(
            made_graph.claim(LIE), inputs=(TxIn(outpoint=coin),), outputs=(made_graph.claim(LIE).outputs[-1],)
        )
        key = taproot.tweak_secret(mine, made_graph.escrow.root)
        return scripts_hold(
            sweep.with_witness(0, [secp256k1.schnorr_sign(key, taproot.sighash(sweep, 0, [value]))]), [value]
        )  # fmt: skip

    assert not taken_at_once()
    with monkeypatch.context() as patch:
        real = graph.KeyAggregate
        patch.setattr(
            graph, "KeyAggregate", lambda keys: PlainSum(keys) if keys[0] == fault else real(keys)
        )  # fmt: skip
        assert taken_at_once()


def secrets_of_two(public, digest, messages):
    """The key that two pre-signatures of one digest tell if they share a nonce."""
    order, (one, other) = secp256k1.ORDER, messages
    hashed = [
        int.from_bytes(tagged_hash("BIP0340/challenge", pre[1:33] + public + digest)) % order for pre in (one, other)
    ]
    scalars = [int.from_bytes(pre[33:]) for pre in (one, other)]
    sign = 1 if one[0] == other[0] else -1
    below = (hashed[0] - sign * hashed[1]) % order
    return ((scalars[0] - sign * scalars[1]) * pow(below, -1, order) % order).to_bytes(32)


def test_two_presignatures_of_one_nonce_tell_the_verifiers_key(dispute, monkeypatch):
    key = adaptor.AdaptorKey(dispute.v.digits[0])
    chain = dispute.graph.claim_chain(0, silent=False)
    digest = chain.digest(0)
    points = [dispute.graph.points.of_entry(chain.entries[0], value, 0) for value in (0, 1)]
    told = [key.presign(digest, one) for one in points]
    assert secrets_of_two(key.public, digest, told) != dispute.v.digits[0]
    honest = adaptor.tagged_hash

    def of_the_message(tag, data):
        return honest(tag, data[-64:]) if tag == "BTCFi/adaptor/nonce/v1" else honest(tag, data)

    monkeypatch.setattr(adaptor, "tagged_hash", of_the_message)
    told = [key.presign(digest, one) for one in points]
    assert secrets_of_two(key.public, digest, told) == dispute.v.digits[0]


def test_a_second_claim_seen_anywhere_gives_the_fault_secret(dispute):
    """Why one claim is ever signed: an honest one is in a block, a second waited in a pool, and the escrow is gone."""
    attested = dispute.attested([SPOT])
    mined = dispute.claimed(RIGHT, attested)
    assert not build_is_disproved(dispute, mined, mined)
    assert build_is_disproved(dispute, mined, dispute.claimed(RIGHT - 1, attested))


def build_is_disproved(dispute, mined, seen):
    """Whether what a claim tells takes the escrow of another one."""
    read = read_claim(dispute.graph, dispute.of_claims, seen)
    judgement = dispute.kept.judge(*read.named(dispute.graph))
    if judgement.secret is None:
        return False
    disproof = build_disproof(
        dispute.graph, mined, fault=judgement.secret, escrow=dispute.v.escrow, script=dispute.v.wallet.script,
        fee=Sats(600), entropy=secret("nonce") + secret("nonces"),
    )  # fmt: skip
    return scripts_hold(disproof, [last_of(mined)[1]])


# ---- found here: two ranges of one transaction


def butterfly():
    """Rises and falls: every payout but the middle's stands twice."""
    pays_out = (0, 100, 400_000, 800_000, 400_000, 100, 0)  # 100 is dust, which is left out as 0 is
    return price_claim(Ranges(starts=(0, *range(60_000, 66_000, 1_000)), payouts=tuple(map(Sats, pays_out))))


def knocked_out():
    """Whoever is knocked out gets nothing, as who ends below the strike."""
    return knock_out_claim(RANGES, 1, barrier=80_000, up=True, rebate=Sats(0))


@pytest.mark.parametrize("claim", [butterfly, knocked_out])
@pytest.mark.parametrize("height", [0, 10])
def test_no_two_claims_of_a_contract_are_one_transaction(claim, height):
    one = claim()
    dispute = Dispute(one, oracles=1, threshold=1, claim_height=height)
    drawn = Graph(dispute.terms, dispute.commitments, OPENING)
    numbers = range(len(one.payouts))
    txids = {drawn.claim(number, silent=silent).txid for number in numbers for silent in (False, True)}
    assert len(txids) == 2 * len(numbers)
    for number in numbers:
        paid = [x.value for x in drawn.claim(number).outputs if x.script == dispute.v.wallet.script]
        assert paid == [one.payouts[number]] * (one.payouts[number] >= 330)


def test_a_right_claim_is_told_from_another_range_that_pays_the_same(monkeypatch):
    """By its txid alone: a verifier that took it for the other would challenge it, and lose its bond."""

    def told():
        lazy, found = made(claim=butterfly(), claim_height=10), []
        opening = replace(lazy.graph.refund, outputs=lazy.graph.open_txouts)
        for spot in (59_000, 60_500, 61_500, 63_500, 64_500, 70_000):
            claim = lazy.claimed(lazy.right([spot]), lazy.attested([spot]))
            assert scripts_hold(claim, spent_by(lazy))
            assert read_claim(lazy.graph, lazy.of_claims, claim).number == lazy.right([spot])
            here = position(lazy.graph, {lazy.graph.coin: (claim, Height(12))}, (opening, Height(11)))
            found.append(here.number)
        return found

    assert told() == [0, 1, 2, 4, 5, 6]
    monkeypatch.setattr(Graph, "_twins", (0,) * 7)
    assert told() != [0, 1, 2, 4, 5, 6]


def test_outcomes_stand_in_the_order_of_their_minutes():
    """Of a knock-out the last one settles: a proposal that has them otherwise would settle by an earlier minute."""
    dispute = Dispute(knock_out_claim(RANGES, 3, barrier=80_000, up=True, rebate=Sats(0)), oracles=1, threshold=1)
    one, two, three = dispute.terms.events
    for events in ((two, one, three), (one, three, two), (one, one, two), (three, two, one)):
        with pytest.raises(InvalidInputError, match="events"):
            replace(dispute.terms, events=events)
