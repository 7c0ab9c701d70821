"""Contracts over paths on a node, ours and a real one: minutes, digits, a CET; and a leg that begins by its barrier."""

import pytest

from btcfi.contracts import netting
from btcfi.contracts.buckets import ToleranceRule
from btcfi.contracts.messages import Role
from btcfi.contracts.netting import NettedTerms
from btcfi.contracts.settle import complete_cet
from btcfi.oracle.announcement import NO_PROGRAM, OF_PATH, WrongAnnouncementError, announce
from btcfi.oracle.attestation import attest
from btcfi.oracle.fixing import MINUTE
from btcfi.oracle.own_minutes import compute
from btcfi.oracle.path import parse_path
from btcfi.oracle.path_evidence import check_attested, evidence_of
from btcfi.payoffs.book import book_of
from btcfi.payoffs.book_guest import check_agreement, outputs_by
from btcfi.payoffs.curve import LegKind
from btcfi.payoffs.knock_in import book_with
from btcfi.payoffs.netted import netted
from btcfi.payoffs.participation import Participation
from btcfi.units import BasisPoints, CentsPerBtc, Height, Sats
from tests.integration.contracts.test_contracts_netted_on_chain import ready, settled
from tests.support.contracts import (
    BUYER,
    BUYER_SECRET,
    ORACLES,
    POLICY,
    RATE,
    SELLER,
    SELLER_SECRET,
    MemoryLedger,
    party,
)
from tests.support.net_books import EXPIRY, PROGRAM, NetScene, Yes, condors, legs_of
from tests.support.path_events import END, minutes_of, path_event, said_and_touched

pytestmark = pytest.mark.integration

assert EXPIRY == END


def attested(event, said, spans=None):
    """What two of three oracles attest of an event from one set of minutes, each held against its evidence."""
    known, seen, found = minutes_of(said, spans), {}, []

    def says(at):
        if at in known:
            seen[at] = known[at]
        return known.get(at)

    computed = compute(event, *said_and_touched(known, says))
    evidence = evidence_of(event, computed, seen)
    for secret in ORACLES[:2]:
        announced = announce(secret, event)
        found.append(attest(secret, announced, computed.outcome, MemoryLedger()))
        check_attested(evidence, announced, found[-1])
    return computed, found


@pytest.mark.parametrize("text", ["asian:60x5", f"ladder:up:{END - 240}:92000/97000"])
def test_a_call_over_a_path_pays_by_the_path_and_not_by_the_price_at_the_end(wallet, text):
    book = book_of(legs_of([(1, LegKind.CALL, 90)], 10), expiry=EXPIRY)
    over = {"version": OF_PATH, "path": parse_path(text), "fixing": MINUTE}
    scene, agreement, signatures, _ = ready(wallet, book, oracles=3, threshold=2, of_event=over)
    said = dict.fromkeys(range(END - 240 * 60, END + 60, 60), 9_500_000) | {END: 9_000_000}
    computed, words = attested(scene.event, said, {END - 120: (9_400_000, 9_699_999)})
    assert computed.outcome == (94_000 if text.startswith("asian") else 92_000)
    holder, writer = signatures
    cet = complete_cet(
        agreement.plan, buyer=holder.presignatures, seller=writer.presignatures, attestations=words
    )  # fmt: skip
    while wallet.node.block_count() < scene.expiry_height:
        wallet.mine()
    wallet.node.send(cet.transaction)
    wallet.mine()
    assert wallet.confirmations(cet.transaction.txid) == 1
    assert cet.payout == scene.contract.payout_at(computed.outcome, scene.rule, premium=Sats(scene.legs_premium))
    assert cet.payout > 0  # at the price of the end it would be nothing


def test_a_share_in_a_cliquet_s_index_is_funded_and_paid_by_two_of_three_oracles(wallet):
    event = path_event("cliquet:10x3:-300:500", program_hash=NO_PROGRAM)
    share = Participation(strike=CentsPerBtc(10_000_000), cap=CentsPerBtc(11_000_000), quantity=10)
    one, rule = netted(share, event), ToleranceRule(tolerance=BasisPoints(500))
    buckets, here = one.buckets(rule, premium=Sats(100_000)), wallet.node.block_count()
    coins = [wallet.coins_for(key.script, [one.collateral + 60_000])[0] for key in (BUYER, SELLER)]
    terms = NettedTerms(
        holder=one.holder, writer=one.writer, premium=100_000, expiry_height=Height(here + 2),
        refund_height=Height(here + 8), rate=RATE, threshold=2, cet_fee=Sats(300),
        announcements=tuple(announce(secret, event) for secret in ORACLES),
    )  # fmt: skip
    sides = {"holder": party(BUYER, BUYER_SECRET, coins[:1]), "writer": party(SELLER, SELLER_SECRET, coins[1:])}
    agreement = netting.agree(terms, buckets, event=event, policy=POLICY, **sides)
    other = path_event("cliquet:10x3:-300:501", program_hash=NO_PROGRAM)
    with pytest.raises(WrongAnnouncementError):  # one basis point of a cap is another event
        netting.agree(terms, buckets, event=other, policy=POLICY, **sides)
    owner = Yes()
    holder = netting.presign(agreement, Role.BUYER, BUYER_SECRET, owner=owner)
    writer = netting.presign(agreement, Role.SELLER, SELLER_SECRET, owner=owner)
    ours = netting.sign_funding(agreement, Role.BUYER, writer, {BUYER.script: BUYER}, owner=owner)
    theirs = netting.sign_funding(agreement, Role.SELLER, holder, {SELLER.script: SELLER}, owner=owner)
    wallet.node.send(netting.complete_funding(agreement, Role.BUYER, writer, theirs, ours))
    wallet.mine(2)
    prices = dict(zip(event.path.times(END), (9_000_000, 9_900_000, 9_801_000, 9_899_010), strict=True))
    computed, words = attested(event, prices)
    assert computed.outcome == 100_000 + 5_000 - 1_000 + 1_000
    cet = complete_cet(
        agreement.plan, buyer=holder.presignatures, seller=writer.presignatures, attestations=words
    )  # fmt: skip
    wallet.node.send(cet.transaction)
    wallet.mine()
    assert wallet.confirmations(cet.transaction.txid) == 1
    assert cet.payout == one.payout_at(105_000, rule, premium=Sats(100_000))
    assert cet.payout == pytest.approx(500_000, rel=0.05)


def test_a_leg_that_begins_pays_nothing_untouched_and_the_whole_leg_once_the_barrier_was_touched(wallet):
    book = book_with(knock_ins=legs_of([(1, LegKind.PUT, 100)], 10), barrier=CentsPerBtc(8_500_000), expiry=EXPIRY,
                     floor=CentsPerBtc(5_000_000))  # fmt: skip
    paid = []
    for touched in (False, True):
        scene, agreement, signatures, _ = ready(wallet, book)
        paid.append(settled(wallet, scene, agreement, signatures, 9_500_000, touched=touched)[0].payout)
    assert paid[0] == 0
    assert paid[1] == pytest.approx(10_000_000 * 5_000 // 95_000, rel=0.5)
    assert paid[1] > 0


def test_a_book_s_owner_recomputes_the_ranges_of_its_own_path_and_refuses_another():
    book = condors(quantity=10)
    over = {"version": OF_PATH, "path": parse_path("asian:60x24"), "fixing": MINUTE}
    scene = NetScene(book=book, of_event=over)
    agreement = scene.agreement()
    check_agreement(
        scene.contract, agreement, outputs_by(PROGRAM, scene.event), rule=scene.rule, premium=Sats(scene.legs_premium)
    )
    wrong = NetScene(book=book, of_event=over | {"path": parse_path("asian:60x23")})
    with pytest.raises(WrongAnnouncementError):
        scene.agreement(terms=wrong.terms)
