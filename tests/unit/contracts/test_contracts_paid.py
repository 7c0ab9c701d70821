"""What a settlement's transaction pays: each satoshi of the collateral stands in one place, the anchor in no fee."""

import pytest

from btcfi import secp256k1
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.contracts.cooperative import build_close
from btcfi.contracts.metadata import RecordType, record_script
from btcfi.contracts.option import OptionContract
from btcfi.contracts.paid import Paid, check_close_pays, paid_by
from btcfi.errors import InvalidInputError
from btcfi.units import Hash32, Height, Sats

BUYER, SELLER, STRANGER = b"\x51\x20" + b"b" * 32, b"\x51\x20" + b"s" * 32, b"\x51\x20" + b"x" * 32
RECORD = record_script(RecordType.SETTLEMENT_PROOF, bytes(32))


def pays(*outputs, inputs=1, collateral=1_000_000, seller=SELLER):
    coins = tuple(TxIn(outpoint=OutPoint(txid=bytes(32), index=n)) for n in range(inputs))
    outs = tuple(TxOut(value=value, script=script) for value, script in outputs)
    transaction = Transaction(version=3, inputs=coins, outputs=outs)
    return paid_by(transaction, collateral=collateral, buyer_script=BUYER, seller_script=seller)


def test_the_anchor_is_no_fee_of_a_cet_and_the_four_parts_are_the_collateral():
    found = pays((300_000, BUYER), (698_760, SELLER), (240, P2A_SCRIPT))
    assert found == Paid(buyer=300_000, seller=698_760, anchor=240, fee=1_000)
    assert found.buyer + found.seller + found.anchor + found.fee == 1_000_000


def test_a_close_has_no_anchor_and_pays_its_fee_itself():
    assert pays((300_000, BUYER), (698_000, SELLER), (0, RECORD)) == Paid(
        buyer=300_000, seller=698_000, anchor=0, fee=2_000
    )


def test_who_has_no_output_is_paid_nothing():
    assert pays((998_760, SELLER), (240, P2A_SCRIPT)).buyer == 0
    assert pays((998_760, BUYER), (240, P2A_SCRIPT)).seller == 0


def test_where_both_are_paid_to_one_script_the_buyer_stands_first_and_one_output_does_not_say():
    assert pays((300_000, BUYER), (698_760, BUYER), (240, P2A_SCRIPT), seller=BUYER).buyer == 300_000
    with pytest.raises(InvalidInputError):
        pays((998_760, BUYER), (240, P2A_SCRIPT), seller=BUYER)


@pytest.mark.parametrize(
    "outputs",
    [((300_000, BUYER), (1, STRANGER)), ((300_000, BUYER), (700_001, SELLER))],
    ids=["a stranger", "too much"],
)
def test_what_pays_somebody_else_or_more_than_there_is_is_no_settlement(outputs):
    with pytest.raises(InvalidInputError):
        pays(*outputs)


def test_with_a_second_input_nobody_can_say_what_the_collateral_paid():
    with pytest.raises(InvalidInputError):
        pays((300_000, BUYER), inputs=2)


COLLATERAL = Sats(1_000_000)
DUST = [*range(700), *range(COLLATERAL - 900, COLLATERAL + 1)]
"""Payouts around both ends, where a part of a close is dust."""


def close(payout, *, nearest):
    """Return what both sides build for an early exercise."""
    keys = [secp256k1.public_key_xonly(bytes([number]) * 32) for number in (1, 2)]
    contract = OptionContract(
        buyer_key=keys[0], seller_key=keys[1], buyer_script=BUYER, seller_script=SELLER, collateral=COLLATERAL,
        expiry_height=Height(1_000), refund_height=Height(3_000), nearest_dust=nearest,
    )  # fmt: skip
    made = build_close(
        contract, OutPoint(txid=bytes(32), index=0), payout=Sats(payout), rate=SatsPerKvb(2_000),
        proof_root=Hash32(bytes(32)),
    )  # fmt: skip
    return made.transaction


def check(transaction, payout, *, nearest):
    check_close_pays(
        transaction, payout=Sats(payout), collateral=COLLATERAL, nearest=nearest, buyer_script=BUYER,
        seller_script=SELLER,
    )  # fmt: skip


@pytest.mark.parametrize("nearest", [False, True], ids=["version 2", "version 3"])
def test_the_service_takes_every_close_that_both_sides_build_where_a_part_of_it_is_dust(nearest):
    for payout in DUST:
        check(close(payout, nearest=nearest), payout, nearest=nearest)


@pytest.mark.parametrize(("payout", "other"), [(200, 100), (100, 200), (200, 331), (999_500, 500_000)])
def test_a_close_that_pays_what_another_payout_owes_is_refused(payout, other):
    with pytest.raises(InvalidInputError):
        check(close(other, nearest=True), payout, nearest=True)


def test_each_version_has_its_own_dust_rule_and_a_close_by_the_other_s_is_refused():
    with pytest.raises(InvalidInputError):
        check(close(200, nearest=True), 200, nearest=False)
    with pytest.raises(InvalidInputError):
        check(close(200, nearest=False), 200, nearest=True)
