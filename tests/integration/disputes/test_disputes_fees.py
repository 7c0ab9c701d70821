"""Every transaction that a side must send in time, where the node asks for ten times the usual fee, and then more."""

import pytest

from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.disputes.garbled.setup import Verdict
from btcfi.disputes.stages import Stage
from btcfi.errors import NotFoundError
from btcfi.units import Sats, parse_txid
from tests.support.chain import chain
from tests.support.dispute_stage import BLOCKS, Table, lied

pytestmark = pytest.mark.integration

SPOT = 67_890
MINIMUM, DEAR = SatsPerKvb(10_000), SatsPerKvb(40_000)


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with chain("embedded", tmp_path_factory.mktemp("dear"), "-minrelaytxfee=0.0001") as funded:
        yield funded


def table_on(wallet, folder, **options):
    return Table(wallet, folder, rate=SatsPerKvb(12_000), **options)


def paid_and_replaced(table, who, what):
    """A look sends it at the node's minimum, the next leaves it, and one that is told to pay more replaces it."""
    node = table.wallet.node

    def rate(seen):
        entry = node.pool_entry(parse_txid(seen.txid))
        return entry.descendants_fee * 1_000 // entry.descendants_vsize

    first = table.look(who)
    assert first.sent == what
    assert rate(first) >= MINIMUM
    assert table.look(who).sent == ""
    table.fees = FeeRule(floor=DEAR)
    again = table.look(who)
    assert again.sent == what
    assert rate(again) >= DEAR
    table.fees = None
    assert table.look(who).sent == ""
    table.mined()
    assert table.wallet.confirmations(parse_txid(again.txid)) == 1


def test_a_claim_and_its_payout_are_paid_for_at_todays_rate_and_replaced_when_stuck(wallet, tmp_path):
    table = table_on(wallet, tmp_path)
    table.opened()
    table.attest("p", [SPOT])
    paid_and_replaced(table, "p", "claim")
    table.mined(BLOCKS - 1)
    paid_and_replaced(table, "p", "payout")
    assert table.look("p").position.stage is Stage.PAID


def test_a_challenge_its_answer_and_the_disproof_are_paid_for_and_replaced(wallet, tmp_path):
    table = table_on(wallet, tmp_path, lazy=True)
    name = table.opened()
    for one in "pv":
        table.attest(one, [SPOT])
    table.mined(2)
    lied(table, name, 1)
    paid_and_replaced(table, "v", "challenge")
    paid_and_replaced(table, "p", "reveal")
    assert table.look("v").verdict is Verdict.CONVICTED
    paid_and_replaced_after(table, "v", "disproof")
    assert table.look("p").position.stage is Stage.DISPROVED


def paid_and_replaced_after(table, who, what):
    """As ``paid_and_replaced`` where one look has sent it already."""
    table.fees = FeeRule(floor=DEAR)
    again = table.look(who)
    assert again.sent == what
    assert table.wallet.node.pool_entry(parse_txid(again.txid)).fee * 1_000 >= DEAR * 100
    table.fees = None
    table.mined()


def test_a_silence_and_its_end_are_paid_for_and_replaced(wallet, tmp_path):
    table = table_on(wallet, tmp_path)
    table.opened()
    table.attest("v", [SPOT])
    table.mined(10)
    paid_and_replaced(table, "v", "silence")
    table.mined(BLOCKS - 1)
    paid_and_replaced(table, "v", "silent end")


def test_a_refund_is_paid_for_and_replaced_and_one_without_a_coin_says_what_is_missing(wallet, tmp_path):
    table = table_on(wallet, tmp_path)
    name = table.opened()
    table.mined(20)
    desk = table.desk("p")
    coins = desk.room.wallet.free()
    for one in coins:
        desk.room.wallet.reserve(one)
    (seen,) = table.desk("p").watch()
    assert seen.sent == ""
    assert "send one to the wallet" in seen.problem
    kept = desk.room.store.coins()
    kept.reserved -= {one.outpoint for one in coins}
    desk.room.store.save_coins(kept)
    paid_and_replaced(table, "p", "refund")
    assert table.desk("v").show(name).position.stage is Stage.REFUNDED


def test_a_challenge_outbids_a_release_that_waits(wallet, tmp_path):
    table = table_on(wallet, tmp_path, lazy=True)
    name = table.opened()
    for one in "pv":
        table.attest(one, [SPOT])
    table.mined(2)
    lied(table, name, 1)
    table.mined(BLOCKS - 1)
    table.fees = FeeRule(floor=DEAR)
    assert table.look("p").sent == "release"  # nobody challenged in time, and the liar bids more than the minimum
    table.fees = None
    assert table.look("v").sent == "challenge"
    table.mined()
    assert table.look("v").position.stage is Stage.CHALLENGED


def test_a_side_that_would_have_no_coin_left_to_pay_for_what_it_must_send_proposes_nothing(wallet, tmp_path):
    table = table_on(wallet, tmp_path)
    all_but_a_bit = Sats(36_000_000 - 16_000_000 + 300_000 - 15_000)
    with pytest.raises(NotFoundError, match="pays for what must be sent in time"):
        table.desk("p").propose(table.draft(bond=all_but_a_bit), identity_secret=table.identity)
    assert table.desk("p").files.names() == []
