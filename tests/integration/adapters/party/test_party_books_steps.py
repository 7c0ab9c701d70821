"""Step by step through a net book between two folders: restarts, lapses, what goes home, each lie of the other side.

The chain is in this process: what a real node takes, ``test_party_books`` shows.
"""

import json
import shutil
from dataclasses import replace

import pytest

from btcfi.adapters.party import book_files
from btcfi.adapters.party.agreements import StepOutOfOrderError, WithdrawnError
from btcfi.adapters.party.book_desk import AnotherAnswerError, PriceKnownError
from btcfi.adapters.party.closing import StaleRequestError
from btcfi.adapters.party.funding import CannotBumpError
from btcfi.adapters.party.mail import PartyMail
from btcfi.adapters.party.market_deals import LapsedError
from btcfi.bitcoin.adaptor import WrongAdaptorError
from btcfi.bitcoin.wallet import InsufficientFundsError
from btcfi.contracts.mandate import Bounds, OutsideMandateError, WrongMandateError
from btcfi.contracts.messages import Role, encode_attestation
from btcfi.contracts.netting import NettedSignatures
from btcfi.contracts.option import WrongSignatureError
from btcfi.contracts.setup import CoinNotTheirsError, WrongMessageError
from btcfi.contracts.watch import Action, ContractStatus
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import WrongAnnouncementError, announce
from btcfi.payoffs.book import book_of
from btcfi.payoffs.book_guest import BookDisagreesError, settle_in_python
from btcfi.payoffs.book_messages import encode_proposal, propose
from btcfi.units import CentsPerBtc, Sats
from tests.support.foreign_oracle import ForeignOracle
from tests.support.little_chain import wallet_here
from tests.support.net_books import CONDORS, EXPIRY, FLOOR, legs_of
from tests.support.two_books import IDENTITIES, TwoBooks, book_rule

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with wallet_here(tmp_path_factory.mktemp("here")) as funded:
        yield funded


@pytest.fixture
def two(wallet, tmp_path):
    return TwoBooks(wallet, tmp_path)


def test_the_side_that_answers_may_be_the_holder_or_the_writer(wallet, tmp_path):
    for proposer in Role:
        two = TwoBooks(wallet, tmp_path / proposer.value, proposer=proposer)
        name, _ = two.active()
        assert two.books(proposer).files.load(name).funded


def test_a_restart_between_any_two_steps_gives_the_same_messages_and_one_funding(two):
    proposal = two.propose()
    two.restart()
    answer = two.theirs.accept(proposal, two.announcements)
    two.restart()
    assert two.theirs.accept(proposal, two.announcements) == answer
    signed = two.ours.sign(answer)
    two.restart()
    assert two.ours.sign(answer) == signed
    funding = two.theirs.complete(signed)
    two.restart()
    assert two.theirs.complete(signed) == funding
    two.wallet.mine()
    two.watch()
    two.restart()
    name = proposal.id.hex()
    assert {one[name].status for one in two.watch().values()} == {ContractStatus.FUNDING}
    two.pass_until(two.made(name).terms.expiry_height)
    two.watch(*two.attest(9_650_000))
    two.restart()
    two.wallet.mine(6)
    assert {one[name].status for one in two.watch().values()} == {ContractStatus.SETTLED}


def test_a_process_that_dies_between_storing_and_sending_its_funding_sends_it_when_it_is_back(two, monkeypatch):
    proposal = two.propose()
    signed = two.ours.sign(two.theirs.accept(proposal, two.announcements))

    def die(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(two.theirs._node, "send", die)
        with pytest.raises(KeyboardInterrupt):
            two.theirs.complete(signed)
    two.restart()
    name = proposal.id.hex()
    assert two.watch()[two.proposer.other][name].action is Action.BROADCAST_FUNDING
    two.wallet.mine()
    assert {one[name].status for one in two.watch().values()} == {ContractStatus.FUNDING}


WRITES = 5
"""Of books' files up to the funding: propose, accept, sign, complete, and the first one that sees it in a block."""


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(WRITES))
def test_a_party_killed_around_any_write_goes_on_to_one_funded_book_and_the_same_close(two, monkeypatch, at, written):
    real, left = book_files.write_private, [at]

    def killed(path, data):
        dies, left[0] = left[0] == 0, left[0] - 1
        if written or not dies:
            real(path, data)
        if dies:
            raise KeyboardInterrupt

    monkeypatch.setattr(book_files, "write_private", killed)

    def again(step):
        try:
            return step()
        except KeyboardInterrupt:
            two.restart()
            return step()

    two.wallet.coins_for(two.ours._wallet.script, [400_000])  # a proposal that was lost holds its own until its time
    proposal = again(two.propose)
    answer = again(lambda: two.theirs.accept(proposal, two.announcements))
    signed = again(lambda: two.ours.sign(answer))
    funding = again(lambda: two.theirs.complete(signed))
    two.wallet.mine()
    assert {one[proposal.id.hex()].status for one in again(two.watch).values()} == {ContractStatus.FUNDING}
    assert left[0] < 0
    collateral = two.made(proposal.id.hex()).netted.plan.funding
    assert collateral.txid == funding.txid
    request = two.ours.request_close(proposal.id.hex(), payout=Sats(2_000_000), rate=proposal.terms.rate)
    closed = two.ours.finish_close(two.theirs.answer_close(request, payout=Sats(2_000_000)))
    assert closed.inputs[0].outpoint == collateral


def test_a_close_whose_author_dies_before_it_sends_is_sent_by_its_watch(two, monkeypatch):
    name, collateral = two.active()
    request = two.ours.request_close(name, payout=Sats(2_000_000), rate=two.terms().rate)
    answer = two.theirs.answer_close(request, payout=Sats(2_000_000))

    def die(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(two.ours._node, "send", die)
        with pytest.raises(KeyboardInterrupt):
            two.ours.finish_close(answer)
    two.restart()
    with pytest.raises(StepOutOfOrderError):  # it is finished, and its nonce is gone
        two.ours.finish_close(answer)
    two.watch()
    assert two.spender(collateral).txid in two.ours.files.load(name).closes


def test_a_proposal_that_nobody_answers_holds_no_coin_after_its_time(two):
    wallet = two.desks[two.proposer].wallet
    before = wallet.balance()
    proposal = two.propose()
    assert wallet.balance()[1] > before[1]
    late = proposal.terms.valid_until
    two.clock = lambda: late
    two.watch()
    assert wallet.balance() == before
    assert two.ours.files.load(proposal.id.hex()).withdrawn


def test_what_one_side_signed_and_the_other_keeps_back_goes_home_once_the_price_is_known(two):
    proposal = two.propose()
    signed = two.ours.sign(two.theirs.accept(proposal, two.announcements))
    name = proposal.id.hex()
    report = two.desks[two.proposer].watch(two.attest(9_000_000))
    assert "go home" in {one.name: one for one in report}[name].note
    two.wallet.mine(6)
    assert two.ours.files.load(name).cancelled is not None
    with pytest.raises(InvalidInputError):  # the coins of who proposed are spent
        two.theirs.complete(signed)
    two.desks[two.proposer].watch()
    assert two.ours.exposure(besides="") == 0


def test_what_the_other_side_keeps_back_beyond_the_proposal_s_time_goes_home_and_what_it_sent_does_not(two):
    made = two.propose()
    signed = two.ours.sign(two.theirs.accept(made, two.announcements))
    name, desk, now = made.id.hex(), two.desks[two.proposer], two.clock
    two.clock = lambda: made.terms.valid_until + 59
    assert {one.name: one.note for one in desk.watch()}[name] == ""
    two.clock = now
    funding = two.theirs.complete(signed)
    two.clock = lambda: made.terms.valid_until + 60
    assert {one.name: one.note for one in desk.watch()}[name] == ""
    assert two.spender(funding.inputs[0].outpoint).txid == funding.txid

    other = TwoBooks(two.wallet, two.folder / "other")
    made = other.propose()
    other.ours.sign(other.theirs.accept(made, other.announcements))
    other.clock = lambda: made.terms.valid_until + 60
    assert "go home" in other.watch()[other.proposer][made.id.hex()].note
    assert other.spender(made.party.coins[0].outpoint).txid == other.ours.files.load(made.id.hex()).cancelled.txid


def test_a_copy_of_the_folder_settles_as_the_folder_does(two, tmp_path):
    name, _ = two.active()
    two.pass_until(two.made(name).terms.expiry_height)
    shutil.copytree(tmp_path / "holder", tmp_path / "copied" / "holder")
    shutil.rmtree(tmp_path / "holder")
    shutil.copytree(tmp_path / "copied" / "holder", tmp_path / "holder")
    two.restart()
    report = two.desks[Role.BUYER].watch(two.attest(11_200_000))
    assert {one.name: one.action for one in report}[name] is Action.SETTLE
    two.wallet.mine()
    assert two.watch()[Role.BUYER][name].status is ContractStatus.SETTLING


@pytest.mark.parametrize("role", list(Role))
def test_an_older_copy_of_a_folder_takes_a_funded_book_up_again_by_the_other_side_s_message(two, role):
    proposal = two.propose()
    ours = role is two.proposer
    answer = None if ours else two.theirs.accept(proposal, two.announcements)
    folder = two.store(role).folder
    shutil.copytree(folder, two.folder / "older")  # before its side has signed a coin
    answer = answer or two.theirs.accept(proposal, two.announcements)
    signed = two.ours.sign(answer)
    two.theirs.complete(signed)
    two.wallet.mine()
    shutil.rmtree(folder)
    shutil.copytree(two.folder / "older", folder)
    two.restart()
    two.clock = lambda: proposal.terms.valid_until + 3_600
    name = proposal.id.hex()
    seen = {one.name: one.note for one in two.desks[role].watch()}
    assert ours or "lacks its signatures" in seen[name]
    before = two.desks[role].wallet.balance()
    if ours:
        assert two.ours.sign(answer).witnesses == {}
    else:
        two.theirs.complete(signed)
    assert set(two.store_of(role, name).signed) == set(Role)
    assert two.desks[role].wallet.balance()[0] <= before[0]
    two.pass_until(two.made(name, role).terms.expiry_height)
    report = {one.name: one for one in two.desks[role].watch(two.attest(9_650_000))}
    assert report[name].action is Action.SETTLE
    two.wallet.mine()
    assert {one.name: one.status for one in two.desks[role].watch()}[name] is ContractStatus.SETTLING


def test_a_book_with_a_barrier_of_two_of_three_oracles_goes_the_same_way(wallet, tmp_path):
    book = book_of(
        legs_of(CONDORS[2:], 10), knock_outs=legs_of([CONDORS[0]], 10), barrier=CentsPerBtc(8_000_000), expiry=EXPIRY,
        floor=FLOOR,
    )  # fmt: skip
    two = TwoBooks(wallet, tmp_path, book=book, oracles=3, threshold=2)
    name, _ = two.active()
    two.pass_until(two.made(name).terms.expiry_height)
    two.watch(*two.attest(9_000_000, touched=True)[:2])
    two.wallet.mine()
    two.watch()
    made = two.made(name)
    outcome = two.event.outcome(CentsPerBtc(9_000_000), condition=True)
    asked = made.contract.payout_at(outcome, made.terms.rule, premium=made.terms.legs_premium)
    assert asked in {one.value for one in two.spent(name).outputs}


def test_a_book_is_settled_on_the_word_of_another_house_s_oracle(wallet, tmp_path):
    two = TwoBooks(wallet, tmp_path, house=ForeignOracle)
    name, _ = two.active()
    two.pass_until(two.made(name).terms.expiry_height)
    assert {one[name].action for one in two.watch(*two.attest(11_200_000)).values()} == {Action.SETTLE}
    two.wallet.mine()
    assert two.watch()[Role.BUYER][name].status is ContractStatus.SETTLING


def test_coins_that_a_book_names_are_no_other_s(two):
    held = two.propose().party.coins
    assert {one.outpoint for one in held} <= two.desks[two.proposer].wallet.held_back(
        two.desks[two.proposer].wallet.scan()
    )


# ---- lies of who proposes


def forged(two, made, **changes):
    """A proposal that says something else than one that was made, signed by its own identity."""
    given = {"terms": made.terms, "role": made.role, "party": made.party} | changes
    return propose(**given, identity_secret=IDENTITIES[two.proposer], aux=bytes(32))


def refused(two, proposal, error, **announced):
    """That the other side answers nothing, and holds nothing for it."""
    before = two.desks[two.proposer.other].balance()
    with pytest.raises(error) as told:
        two.theirs.accept(proposal, **{"announcements": two.announcements} | announced)
    assert two.theirs.files.names() == []
    assert two.desks[two.proposer.other].balance() == before
    return told.value


def test_a_proposal_that_its_identity_did_not_sign_is_not_answered(two):
    made = two.propose()
    refused(two, replace(made, terms=replace(made.terms, premium=0)), WrongMessageError)
    refused(two, replace(made, identity=two.announcements[0].oracle_key), WrongMessageError)


def test_oracles_other_than_those_that_we_have_from_themselves_are_refused(two):
    made = two.propose()
    refused(two, made, WrongAnnouncementError, announcements=())
    lied = announce(b"\x77" * 32, two.event)
    refused(two, forged(two, made, terms=replace(made.terms, announcements=(lied,))), WrongAnnouncementError)


def test_an_event_of_another_minute_program_or_barrier_is_refused(two):
    made = two.propose()
    for changed in ({"expiry": two.event.expiry + 60}, {"program_hash": two.event.preset_hash}, {"digits": 12}):
        event = replace(two.event, **changed)
        lied = announce(b"\x64" * 32, event)
        other = forged(two, made, terms=replace(made.terms, announcements=(lied,)))
        refused(two, other, (InvalidInputError, OutsideMandateError), announcements=(lied,))


def test_coins_that_are_spent_ours_or_another_amount_are_refused(two):
    made = two.propose()
    ours = two.desks[two.proposer.other].wallet.choose(Sats(100_000), made.terms.rate)
    refused(two, forged(two, made, party=replace(made.party, coins=ours)), CoinNotTheirsError)
    (coin, *rest) = made.party.coins
    more = replace(coin, output=replace(coin.output, value=Sats(coin.value + 1)))
    refused(two, forged(two, made, party=replace(made.party, coins=(more, *rest))), InvalidInputError)
    gone = replace(coin, outpoint=replace(coin.outpoint, index=9))
    refused(two, forged(two, made, party=replace(made.party, coins=(gone,))), InvalidInputError)


def test_coins_that_do_not_pay_the_proposing_side_s_part_are_refused(two):
    made = two.propose()
    refused(two, forged(two, made, party=replace(made.party, coins=())), InvalidInputError)
    (small,) = two.wallet.coins_for(made.party.change_script, [1_000])
    error = refused(two, forged(two, made, party=replace(made.party, coins=(small,))), InvalidInputError)
    assert not isinstance(error, InsufficientFundsError)
    assert error.field == "party.coins"


def test_a_refund_that_opens_before_the_book_can_be_settled_is_refused(two):
    made = two.propose()
    early = forged(two, made, terms=replace(made.terms, refund_height=made.terms.expiry_height))
    assert refused(two, early, InvalidInputError).field.startswith("refund_height")


def test_a_proposal_after_its_time_or_once_its_price_is_known_is_not_answered(two):
    made = two.propose()
    now, two.clock = two.clock, lambda: made.terms.valid_until
    refused(two, made, LapsedError)
    two.clock = now
    for one in two.attest(9_000_000):
        two.store(two.proposer.other).keep_attestation(one)
    two.restart()
    refused(two, made, PriceKnownError)


def test_a_tolerance_of_more_than_the_collateral_that_would_pay_half_of_everything_is_refused(two):
    made = two.propose()
    for legs_premium in (two.contract.collateral + 1, 0):
        wide = forged(two, made, terms=replace(made.terms, legs_premium=Sats(legs_premium)))
        assert refused(two, wide, InvalidInputError).field == "legs_premium_sats"


def test_our_own_proposal_is_not_answered_by_ourselves(two):
    made = two.propose()
    with pytest.raises(StepOutOfOrderError):
        two.ours.accept(made, two.announcements)


# ---- what the mandate does not allow


MANDATES = [
    (None, "book"), (book_rule(roles=(Role.SELLER,)), "book.role"),
    (book_rule(proposers=(bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"),)),
     "book.proposer"),
    (book_rule(worst_loss=Sats(1_000)), "book.worst_loss_sats"),
    (book_rule(collateral=Bounds(least=1, most=1_000)), "book.collateral_sats"),
    (book_rule(premium=Bounds(least=0, most=9_999)), "book.premium_sats"),
    (book_rule(floor=Bounds(least=5_000_001, most=9_000_000)), "book.floor_cents"),
    (book_rule(legs=9), "book.legs"), (book_rule(value_slack=Sats(0)), "book.value_sats"),
    (book_rule(programs=(b"\x01" * 32,)), "event.program_hash"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "field"), MANDATES, ids=[field for _, field in MANDATES])
def test_a_book_outside_the_mandate_is_refused_by_the_name_of_what_is_outside(two, rule, field):
    made = two.propose()
    two.allow(two.desks[two.proposer.other], rule)
    assert refused(two, made, OutsideMandateError).field == field


def test_a_premium_that_is_worse_than_our_own_value_of_the_book_by_more_than_the_slack_is_refused(two):
    made = two.propose()  # the holder pays 10,000
    two.allow(two.desks[Role.BUYER], book_rule(value_slack=Sats(500)))
    with pytest.raises(OutsideMandateError) as told:
        two.theirs.accept(made, two.announcements, value=9_499)
    assert told.value.field == "book.premium_sats"
    assert two.theirs.accept(made, two.announcements, value=9_500).proposal_id == made.id


def test_what_all_books_together_may_cost_is_counted_with_what_is_promised(two):
    first, second = two.propose(), None
    answer = two.theirs.accept(first, two.announcements)
    stake = two.theirs.files.load(first.id.hex()).stake
    assert stake > 0
    two.allow(two.desks[two.proposer.other], book_rule(), exposure=Sats(2 * stake - 1))
    two.wallet.coins_for(two.ours._wallet.script, [400_000, 400_000])
    second = two.propose()
    two.wallet.coins_for(two.theirs._wallet.script, [4_000_000])
    with pytest.raises(OutsideMandateError) as told:
        two.theirs.accept(second, two.announcements)
    assert told.value.field == "exposure"
    assert answer == two.theirs.accept(first, two.announcements)


def test_a_mandate_that_is_taken_back_while_the_owner_reads_signs_nothing(two):
    made = two.propose()

    def revoke(_):
        two.desks[two.proposer.other].owner.revoke()

    two.show = revoke
    refused(two, made, WrongMandateError)


# ---- lies of who answers, and of who signs


def test_ranges_that_our_own_guest_does_not_compute_are_not_signed(two, monkeypatch):
    made = two.propose()

    def other(inputs):
        runs = [settle_in_python(one) for one in inputs]
        return [replace(one, payout=Sats(max(0, one.payout - 1))).to_bytes() for one in runs]

    monkeypatch.setattr("tests.support.two_books.BookGuest.outputs", lambda _, inputs: other(inputs))
    refused(two, made, BookDisagreesError)


def flipped(raw, at=0):
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


@pytest.mark.parametrize("which", ["presignatures", "refund"])
def test_an_answer_with_one_wrong_signature_gets_no_coin_of_ours(two, which):
    made = two.propose()
    answer = two.theirs.accept(made, two.announcements)
    raw = flipped(getattr(answer.signatures, which), at=40)
    with pytest.raises((WrongAdaptorError, WrongSignatureError)):
        two.ours.sign(replace(answer, signatures=replace(answer.signatures, **{which: raw})))
    kept = two.ours.files.load(made.id.hex())
    assert (kept.answer, kept.sign) == (None, None)
    assert two.ours.sign(answer)


def test_an_answer_of_other_coins_or_another_proposal_is_refused_and_a_second_one_too(two):
    made = two.propose()
    answer = two.theirs.accept(made, two.announcements)
    mine = replace(answer, party=replace(answer.party, coins=made.party.coins))
    with pytest.raises(InvalidInputError):
        two.ours.sign(mine)
    signed = two.ours.sign(answer)
    with pytest.raises(AnotherAnswerError):
        two.ours.sign(replace(answer, signatures=NettedSignatures(presignatures=b"", refund=bytes(64))))
    assert two.ours.sign(answer) == signed


@pytest.mark.parametrize("which", ["presignatures", "refund", "witnesses"])
def test_signatures_of_which_one_is_wrong_get_no_coin_of_ours(two, which):
    made = two.propose()
    signed = two.ours.sign(two.theirs.accept(made, two.announcements))
    if which == "witnesses":
        lied = replace(signed, witnesses={at: (flipped(one[0], 5),) for at, one in signed.witnesses.items()})
    else:
        raw = flipped(getattr(signed.signatures, which), at=40)
        lied = replace(signed, signatures=replace(signed.signatures, **{which: raw}))
    with pytest.raises((WrongAdaptorError, WrongSignatureError)):
        two.theirs.complete(lied)
    kept = two.theirs.files.load(made.id.hex())
    assert (kept.sign, kept.funding, kept.watch) == (None, None, None)
    assert two.theirs.complete(signed)


def test_both_sides_signatures_lie_on_the_disk_before_a_coin_is_signed(two, monkeypatch):
    made = two.propose()
    answer = two.theirs.accept(made, two.announcements)
    name = made.id.hex()
    signed = two.ours.sign(answer)
    assert set(two.store_of(two.proposer, name).signed) == set(Role)
    sent = []
    monkeypatch.setattr(two.theirs._node, "send", lambda _: sent.append(two.store_of(two.proposer.other, name)))
    two.theirs.complete(signed)
    assert [set(one.signed) for one in sent] == [set(Role)]
    assert sent[0].funding is not None


def test_a_book_s_file_is_for_its_owner_s_eyes_alone(two):
    two.propose()
    (path,) = (two.store(two.proposer).folder / "books").glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_what_was_withdrawn_or_cancelled_is_not_signed(two):
    made = two.propose()
    answer = two.theirs.accept(made, two.announcements)
    assert two.theirs.cancel(made.id.hex()) is None
    with pytest.raises(WithdrawnError):
        two.theirs.accept(made, two.announcements)
    signed = two.ours.sign(answer)
    with pytest.raises(WithdrawnError):
        two.theirs.complete(signed)
    home = two.ours.cancel(made.id.hex())
    assert {txin.outpoint for txin in home.inputs} >= {coin.outpoint for coin in made.party.coins}
    two.wallet.mine(6)
    two.watch()
    assert two.ours.files.load(made.id.hex()).ended


def test_either_side_pays_more_for_a_funding_that_waits_and_nobody_for_one_that_does_not(two):
    made = two.propose()
    name = made.id.hex()
    with pytest.raises(StepOutOfOrderError):
        two.ours.bump(name)
    funding = two.theirs.complete(two.ours.sign(two.theirs.accept(made, two.announcements)))
    for side in (two.ours, two.theirs):
        child = side.bump(name)
        assert child.inputs[0].outpoint.txid == funding.txid
        assert {one.script for one in child.outputs} == {side._wallet.script}
    two.wallet.mine()
    with pytest.raises(CannotBumpError):
        two.ours.bump(name)


# ---- closing together


def test_a_close_at_another_amount_than_we_say_is_not_answered(two):
    name, _ = two.active()
    request = two.ours.request_close(name, payout=Sats(2_000_000), rate=two.terms().rate)
    with pytest.raises(InvalidInputError):
        two.theirs.answer_close(request, payout=Sats(2_000_001))
    with pytest.raises(InvalidInputError):
        two.theirs.answer_close(replace(request, guest_input=b"1"), payout=Sats(2_000_000))
    assert two.theirs.files.load(name).closes == ()


def test_a_close_that_was_asked_for_before_the_price_was_known_is_not_finished_after_it(two):
    name, _ = two.active()
    request = two.ours.request_close(name, payout=Sats(2_000_000), rate=two.terms().rate)
    answer = two.theirs.answer_close(request, payout=Sats(2_000_000))
    two.desks[two.proposer].watch(two.attest(9_000_000))
    with pytest.raises(StaleRequestError):
        two.ours.finish_close(answer)


def test_a_wrong_partial_signature_is_named_and_the_right_one_still_finishes(two):
    name, _ = two.active()
    request = two.ours.request_close(name, payout=Sats(2_000_000), rate=two.terms().rate)
    answer = two.theirs.answer_close(request, payout=Sats(2_000_000))
    with pytest.raises(WrongSignatureError):
        two.ours.finish_close(replace(answer, partial=flipped(answer.partial, 31)))
    assert two.ours.finish_close(answer)


# ---- evidence and chain


def test_a_file_that_somebody_has_broken_stops_no_other_book(two):
    name, _ = two.active()
    folder = two.store(Role.BUYER).folder / "books"
    (folder / f"{'0' * 64}.json").write_text("{")
    two.restart()
    assert two.watch()[Role.BUYER][name].status is ContractStatus.FUNDING


def test_a_party_that_runs_by_itself_settles_its_book_and_answers_no_proposal_of_one(two):
    name, collateral = two.active()
    mail = PartyMail(
        two.desks[Role.BUYER], inbox=two.folder / "inbox", outbox=two.folder / "outbox", orders=None, bids=None
    )  # fmt: skip
    for at, said in enumerate(two.attest(9_650_000)):
        (two.folder / "inbox").mkdir(exist_ok=True)
        (two.folder / "inbox" / f"{at}.attestation.json").write_text(json.dumps(encode_attestation(said)))
    (two.folder / "inbox" / "p.json").write_text(json.dumps(encode_proposal(two.store_of(Role.BUYER, name).proposal)))
    two.pass_until(two.made(name).terms.expiry_height)
    mail.round(two.node.block_count())
    ((row),) = json.loads((two.folder / "outbox" / "status.json").read_text())["contracts"]
    assert (row["contract"], row["action"]) == (name, "settle")
    assert two.spender(collateral).txid == two.store_of(Role.BUYER, name).settlement.txid
    assert (two.folder / "inbox" / "refused" / "p.json").exists()


def test_a_book_that_ended_long_ago_is_looked_at_no_more(two):
    name, _ = two.active()
    request = two.ours.request_close(name, payout=Sats(2_000_000), rate=two.terms().rate)
    two.ours.finish_close(two.theirs.answer_close(request, payout=Sats(2_000_000)))
    two.wallet.mine(145)
    assert two.watch()[Role.BUYER][name].status is ContractStatus.SETTLED
    two.wallet.mine()
    two.watch()
    assert [name in reports for reports in two.watch().values()] == [False, False]


def test_a_forged_attestation_settles_nothing_and_stops_no_refund(two):
    name, _ = two.active()
    (said,) = two.attest(40_000_000)
    lied = replace(said, signatures=tuple(flipped(one, 40) for one in said.signatures))
    two.store(Role.BUYER).keep_attestation(lied)
    two.restart()
    two.pass_until(two.made(name).terms.expiry_height)
    assert two.watch()[Role.BUYER][name].action is Action.WAIT
    two.pass_until(two.made(name).terms.refund_height)
    assert two.watch()[Role.BUYER][name].action is Action.REFUND
