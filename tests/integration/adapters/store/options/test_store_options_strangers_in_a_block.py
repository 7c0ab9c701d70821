"""What anybody can put into a block never stops the walk: it is kept for one option, and the others go on."""

import pytest
from sqlmodel import select

from btcfi.adapters.store.chain.handlers import Handlers
from btcfi.adapters.store.chain.sending import mark_sent, to_send
from btcfi.adapters.store.chain.tables import TransactionRow, WalletOutpointRow
from btcfi.adapters.store.chain.transactions import Signed, put_transaction
from btcfi.adapters.store.chain.walk import finalize, unwind, walk, walked_to
from btcfi.adapters.store.chain.wallet import SERVICE, reserve_coin
from btcfi.adapters.store.options import replacements
from btcfi.adapters.store.options.on_chain import OPTIONS_ON_CHAIN, transaction_of
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.bitcoin.transaction import TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut
from btcfi.contracts.execution import ANCHOR
from btcfi.units import Height, Sats, Txid, UnixSeconds, display_txid

NOW = UnixSeconds(1_700_000_040)
HANDLERS = Handlers((OPTIONS_ON_CHAIN,))


class Block:
    def __init__(self, number, *transactions):
        self.transactions = transactions
        self.header = type("Header", (), {"hash": bytes([number]) * 32})
        self.previous = bytes([number - 1]) * 32


def take(store, number, *transactions):
    with store.transaction() as session:
        walk(session, Block(number, *transactions), Height(number), b"", HANDLERS, now=NOW)


def drop(store, number):
    with store.transaction() as session:
        unwind(session, number, HANDLERS, now=NOW)


def end(store, tip):
    with store.transaction() as session:
        finalize(session, HANDLERS, tip=Height(tip), confirmations=1, now=NOW)


def spend(*outpoints, version=TRUC_VERSION, value=1_000, more=()):
    return Transaction(
        version=version, inputs=tuple(TxIn(outpoint=one) for one in outpoints),
        outputs=(TxOut(value=Sats(value), script=b"\x51"), TxOut(value=Sats(value), script=b"\x52"), *more),
    )  # fmt: skip


def option(store, name, state="EXPIRED"):
    """Store an option whose collateral is locked; return the collateral's outpoint."""
    funding = Txid(name.encode().ljust(32, b"\x00"))
    with store.transaction() as session:
        session.add(
            OptionRow(
                id=name, feed="BTC/USD", state=state, kind=0, strike_cents=1, quantity_centi_btc=1, american=False,
                expiry_unix=NOW, premium_cents=1, premium_sats=1, collateral_sats=1, volatility_bps=1, rate_bps=1,
                preset="standard", preset_sha256="00", program="option_settlement", program_sha256="00",
                created_at_unix=NOW, listed_slot=NOW, updated_at_unix=NOW, funding_txid=display_txid(funding),
            )
        )  # fmt: skip
    return OutPoint(txid=funding, index=0)


def built(store, name, collateral):
    """Store an option's CET and the service's child as sent; return both."""
    cet = spend(collateral, more=(ANCHOR,))
    child = spend(cet.outpoint(2), OutPoint(txid=Txid(name.encode().rjust(32, b"\x77")), index=0))
    with store.transaction() as session:
        coin = WalletOutpointRow(
            outpoint=str(child.inputs[1].outpoint), party=SERVICE, value_sats=50_000, mature_height=1
        )  # fmt: skip
        session.add(coin)
        reserve_coin(coin, display_txid(child.txid))
        for transaction, purpose, spends in ((cet, "settlement", collateral), (child, "child", cet.outpoint(2))):
            signed = Signed(transaction=transaction, purpose=purpose, subject=name, spends=spends, fee=Sats(1))
            put_transaction(session, signed, now=NOW)
        mark_sent(session, [cet.txid, child.txid], HANDLERS, now=NOW)
    return cet, child


def standing(store, name):
    with store.reading() as session:
        return {
            purpose: (row.txid, row.state)
            for purpose in ("settlement", "child", "outside")
            if (row := transaction_of(session, name, purpose)) is not None
        }


def test_a_party_that_spends_its_payout_by_a_version_3_transaction_is_no_child_of_the_settlement(store):
    cet, child = built(store, "one", option(store, "one"))
    take(store, 5, cet, child)
    take(store, 6, spend(cet.outpoint(0)))
    take(store, 7, spend(cet.outpoint(1)))
    assert standing(store, "one")["child"] == (display_txid(child.txid), "confirmed")


def test_a_payout_that_is_spent_before_our_child_leaves_the_child_its_place(store):
    cet, child = built(store, "one", option(store, "one"))
    take(store, 5, cet, spend(cet.outpoint(0)))
    take(store, 6, child)
    assert standing(store, "one")["child"] == (display_txid(child.txid), "confirmed")


def test_what_the_outputs_of_a_close_of_the_parties_own_pay_for_is_nothing_to_us(store):
    close = spend(option(store, "one"), version=2)
    take(store, 5, close)
    take(store, 6, spend(close.outpoint(0)), spend(close.outpoint(1)))
    assert set(standing(store, "one")) == {"outside"}


def test_one_transaction_that_spends_the_collaterals_of_two_options_ends_both(store):
    collaterals = [option(store, "one", "ACTIVE"), option(store, "two", "ACTIVE")]
    take(store, 5, spend(*collaterals, version=2))
    end(store, 6)
    with store.reading() as session:
        assert {row.id: row.state for row in session.exec(select(OptionRow)).all()} == {
            "one": "ABANDONED", "two": "ABANDONED",
        }  # fmt: skip
        assert walked_to(session).height == 5


def test_a_child_that_gave_way_is_mined_after_all_when_the_block_of_its_rival_is_gone(store):
    cet, child = built(store, "one", option(store, "one"))
    theirs = spend(cet.outpoint(2), value=900)
    take(store, 5, cet, theirs)
    assert standing(store, "one")["child"] == (display_txid(theirs.txid), "confirmed")
    drop(store, 5)
    take(store, 5, cet, child)
    assert standing(store, "one")["child"] == (display_txid(child.txid), "confirmed")
    drop(store, 5)
    take(store, 5, cet, theirs)
    assert standing(store, "one")["child"] == (display_txid(theirs.txid), "confirmed")


def test_a_party_s_child_that_gave_way_to_another_of_its_own_is_mined_after_all(store):
    collateral = option(store, "one")
    cet = spend(collateral, more=(ANCHOR,))
    first, second = spend(cet.outpoint(2), value=900), spend(cet.outpoint(2), value=800)
    take(store, 5, cet, first)
    drop(store, 5)
    take(store, 5, cet, second)
    drop(store, 5)
    take(store, 5, cet, first)
    assert standing(store, "one")["child"] == (display_txid(first.txid), "confirmed")


def test_one_child_of_two_settlements_is_kept_for_one_of_them(store):
    cets = [built(store, name, option(store, name)) for name in ("one", "two")]
    take(store, 5, *(cet for cet, _ in cets))
    both = spend(*(cet.outpoint(2) for cet, _ in cets))
    take(store, 6, both)
    with store.reading() as session:
        assert session.get(TransactionRow, display_txid(both.txid)).purpose == "child"
        assert {row.state for row in session.exec(select(TransactionRow)).all() if row.txid in {
            display_txid(child.txid) for _, child in cets}} == {"conflicted"}  # fmt: skip


@pytest.mark.parametrize("place", [0, 1])
def test_a_child_that_spends_the_anchor_by_another_than_its_first_input_is_a_child(store, place):
    cet, _ = built(store, "one", option(store, "one"))
    other = OutPoint(txid=Txid(b"\x66" * 32), index=0)
    inputs = [other]
    inputs.insert(place, cet.outpoint(2))
    theirs = spend(*inputs)
    take(store, 5, cet, theirs)
    assert standing(store, "one")["child"] == (display_txid(theirs.txid), "confirmed")


def test_a_settlement_of_another_outcome_and_its_child_take_the_place_of_ours_until_their_block_is_gone(store):
    collateral = option(store, "one")
    cet, child = built(store, "one", collateral)
    other = spend(collateral, value=700, more=(ANCHOR,))  # the oracles attested two outcomes
    theirs = spend(other.outpoint(2))
    take(store, 5, other, theirs)
    assert standing(store, "one") == {
        "settlement": (display_txid(cet.txid), "conflicted"), "outside": (display_txid(other.txid), "confirmed"),
        "child": (display_txid(theirs.txid), "confirmed"),
    }  # fmt: skip
    drop(store, 5)
    take(store, 5, cet, child)
    assert standing(store, "one") == {
        "settlement": (display_txid(cet.txid), "confirmed"), "child": (display_txid(child.txid), "confirmed"),
    }  # fmt: skip


@pytest.mark.parametrize("version", [2, TRUC_VERSION])
def test_the_coin_of_a_settlement_that_was_ended_outside_is_free_again(store, version):
    collateral = option(store, "one")
    _, child = built(store, "one", collateral)
    take(store, 5, spend(collateral, version=version, value=700, more=(ANCHOR,)))
    end(store, 6)
    with store.reading() as session:
        coin = session.get(WalletOutpointRow, str(child.inputs[1].outpoint))
        assert (coin.state, coin.reserved_by) == ("available", None)
        assert session.get(TransactionRow, display_txid(child.txid)).state == "conflicted"
        assert to_send(session, HANDLERS, now=UnixSeconds(NOW + 3600)) == []


def test_a_child_whose_coin_was_spent_is_not_replaced_from_dust(store):
    _, child = built(store, "one", option(store, "one"))
    with store.transaction() as session:
        session.get_one(WalletOutpointRow, str(child.inputs[1].outpoint)).state = "spent"
        session.get_one(OptionRow, "one").expiry_height = 1
        for number, sats in ((1, 600), (2, 30_000), (3, 90_000)):
            session.add(WalletOutpointRow(outpoint=f"{number:064x}:0", party=SERVICE, value_sats=sats, mature_height=1))
        session.flush()
        (unmined,) = replacements._unmined(session, Height(9))
        for wanted, expected in ((1, 30_000), (40_000, 90_000), (200_000, 90_000)):
            (coin,) = replacements._payers(session, unmined, Sats(wanted), Height(9)).values()
            assert coin.value_sats == expected
