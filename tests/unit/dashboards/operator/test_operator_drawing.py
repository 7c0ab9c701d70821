"""What the console draws and writes: payoffs by the settlement's own rule, transactions by their outpoints."""

from __future__ import annotations

import json

import pytest

from btcfi.adapters.store.chain.tables import BlockRow, TransactionRow
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.options.terms import OptionKind, OptionTerms, required_collateral
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats, Slot, display_txid
from dashboards.operator import drawing, orders, render

SPOT = 6_000_000


def terms(kind=OptionKind.CALL, barrier=None, strike=SPOT):
    return OptionTerms(
        kind=kind, strike=CentsPerBtc(strike), quantity=CentiBtc(100), barrier=barrier, american=False,
        expiry=Slot(1_790_000_040), premium=Cents(0), collateral=required_collateral(kind, CentiBtc(100)),
    )  # fmt: skip


def drawn(**known):
    return orders.payoff(terms(**known), premium=100_000, spot=SPOT, rate=0, share=0.2)


def profit_at(payoff, price):
    return dict(payoff.points)[price]


def test_a_calls_profit_is_its_payout_less_the_premium_and_turns_where_they_meet():
    payoff = drawn()
    assert profit_at(payoff, SPOT) == -100_000
    price, profit = payoff.points[-1]
    assert price == 7_200_000
    assert profit == pytest.approx(1_200_000 - 100_000, abs=2)
    assert SPOT + 100_000 <= payoff.break_even <= SPOT + 130_000


def test_a_knock_out_and_a_binary_jump_within_a_cent():
    level = CentsPerBtc(6_600_000)
    knocked = drawn(barrier=level)
    assert profit_at(knocked, level - 1) == pytest.approx(599_999 - 100_000, abs=2)
    assert profit_at(knocked, level) == -100_000
    binary = drawn(kind=OptionKind.BINARY_PUT)
    assert profit_at(binary, SPOT) == -100_000
    assert profit_at(binary, SPOT - 1) > 1_000_000


def test_the_diagram_says_in_words_what_it_shows():
    shown = drawing.diagram(drawn(), spot=SPOT, strike=SPOT, barrier=None)
    assert "at worst -$1,000.00, at best $11,000." in shown.words
    assert len(shown.xs) == 5
    assert len(shown.marks) == 2


def option(**known):
    kept = json.dumps({"buyer_script": "5120" + "bb" * 32, "seller_script": "5120" + "aa" * 32})
    return OptionRow(id="one", contract=kept, collateral_sats=1_000, **known)


def out(value, owner):
    return TxOut(value=Sats(value), script=bytes.fromhex("5120" + owner * 32))


def row(made, purpose, height=None):
    return TransactionRow(
        txid=display_txid(made.txid), purpose=purpose, subject="one", state="confirmed",
        raw_hex=made.to_bytes().hex(), spends="", fee_sats=7, height=height, created_at_unix=0, updated_at_unix=0,
    )  # fmt: skip


def test_the_graph_stands_in_spending_order_whatever_the_order_of_the_rows():
    coin = OutPoint(txid=b"\x01" * 32, index=0)
    funding = Transaction(version=2, inputs=(TxIn(outpoint=coin),), outputs=(out(1_000, "cc"), out(5, "aa")))
    settling = Transaction(
        version=3, inputs=(TxIn(outpoint=funding.outpoint(0)),), outputs=(out(600, "bb"), out(390, "aa"))
    )
    child = Transaction(
        version=3, inputs=(TxIn(outpoint=funding.outpoint(1)), TxIn(outpoint=settling.outpoint(1))),
        outputs=(out(300, "aa"),),
    )  # fmt: skip
    rows = [row(child, "child"), row(settling, "settlement", 7), row(funding, "funding", 5)]
    graph = drawing.graph(option(), rows, BlockRow(height=10, hash=""))
    assert [(box.title, box.depth) for box in graph.boxes] == [("funding", 6), ("settlement", 4), ("child", 0)]
    assert [o.role for o in graph.outputs] == ["collateral", "seller", "buyer", "seller", "seller"]
    assert len(graph.sources) == 1, "every other input is an output of ours"
    assert "buyer 600 sats" in graph.words


def test_rows_that_are_no_transactions_are_left_out():
    broken = TransactionRow(
        txid="ab", purpose="funding", subject="one", state="built", raw_hex="zz", spends="", fee_sats=0,
        created_at_unix=0, updated_at_unix=0,
    )  # fmt: skip
    assert drawing.graph(option(), [broken], None) is None
    assert drawing.graph(option(), [], None) is None


def test_amounts_ages_and_hashes_are_written_one_way():
    assert render.usd(-123_456) == "-$1,234.56"
    assert render.usd(None) == render.NONE
    assert render.signed(-0.0001) == "+0.00"
    assert [render.ago(s) for s in (0, 59, 61, 3_600, 90_061)] == ["0 s", "59 s", "1 min 1 s", "1 h", "1 d 1 h"]
    assert str(render.short("<b>" * 9)) == '<code title="' + "&lt;b&gt;" * 9 + '">&lt;b&gt;&lt;b&gt;&lt;b…</code>'
    assert "&lt;x" in str(render.state_tag("<x>"))
    assert render.path_segment("a/../b?c#d") == "a%2F..%2Fb%3Fc%23d"
