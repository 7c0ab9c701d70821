"""Two parties agree on what settles their option: a window to the nearest dollar, and nothing once it has begun."""

import time
from dataclasses import replace

import pytest

from btcfi.contracts.buckets import bucket_of
from btcfi.contracts.mandate import Bounds, OutsideMandateError
from btcfi.contracts.messages import Role
from btcfi.contracts.watch import Action, ContractStatus
from btcfi.errors import InvalidInputError
from btcfi.oracle.fixing import parse_fixing
from btcfi.units import CentsPerBtc, Slot
from tests.support.contracts import ORACLES
from tests.support.mandates import give_mandate, mandate
from tests.support.two_parties import OPTION, PROGRAM, TwoParties

pytestmark = pytest.mark.integration

WINDOW = replace(OPTION, fixing=parse_fixing("twap:30"))


def test_a_contract_on_a_window_settles_at_the_nearest_dollar_of_its_mean(wallet, tmp_path):
    two = TwoParties(wallet, tmp_path, option=WINDOW)
    name, collateral = two.active()
    two.pass_until(two.store("buyer").load(name).offer.terms.expiry_height)
    mean = CentsPerBtc(13_107_150)  # half a dollar below $131,072, where another digit and so another range begins
    assert two.event.outcome(mean) == 131_072
    buckets = two.store("buyer").load(name).buckets
    below, nearest = (buckets[bucket_of(buckets, price, 18)].payout for price in (131_071, 131_072))
    assert nearest > below
    two.buyer.learn(two.attestation(mean))
    (report,) = two.buyer.watch()
    assert (report.action, report.note) == (Action.SETTLE, "")
    assert two.spender(collateral).outputs[0].value == nearest
    two.wallet.mine(6)
    assert two.buyer.watch()[0].status is ContractStatus.SETTLED


@pytest.mark.parametrize("begun", [False, True])
def test_neither_side_signs_once_the_window_has_begun_by_its_own_machine_s_clock(wallet, tmp_path, begun):
    """The node's chain was mined now, or its clock is behind: the desk takes the later of the two."""
    expiry = Slot((int(time.time()) // 60 + (28 if begun else 45)) * 60)
    two = TwoParties(wallet, tmp_path, option=replace(WINDOW, expiry=expiry))
    made = two.seller.offer(two.terms(), Role.SELLER)  # a simulation's mandate asks no clock
    for desk in (two.seller, two.buyer):
        give_mandate(desk, narrow(life=Bounds(least=0, most=1 << 30)))
    if not begun:
        two.buyer.accept(made, [two.announcement])
        return
    for step in (
        lambda: two.buyer.accept(made, [two.announcement]),
        lambda: two.seller.offer(two.terms(), Role.SELLER),
    ):
        with pytest.raises(InvalidInputError, match="the window of twap:30 began"):
            step()
    assert two.store("buyer").names() == []


def test_a_mandate_that_names_another_fixing_makes_and_takes_no_offer(wallet, tmp_path):
    two = TwoParties(wallet, tmp_path, option=WINDOW)
    made = two.seller.offer(two.terms(), Role.SELLER)
    for desk in (two.seller, two.buyer):
        give_mandate(desk, narrow(fixings=(parse_fixing("minute"),)))
    for step in (
        lambda: two.buyer.accept(made, [two.announcement]),
        lambda: two.seller.offer(two.terms(), Role.SELLER),
    ):
        with pytest.raises(OutsideMandateError) as refused:
            step()
        assert refused.value.field == "option.fixing"


def narrow(**changes):
    return mandate(oracles=ORACLES[:1], programs=[PROGRAM.program_hash], **changes)
