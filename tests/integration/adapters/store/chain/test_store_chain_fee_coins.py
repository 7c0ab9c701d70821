"""The service keeps a confirmed coin for each settlement of its busiest minute, so that no fee waits for a block."""

import pytest
from sqlmodel import select

from btcfi.adapters.store.chain.tables import TransactionRow, WalletOutpointRow
from btcfi.adapters.store.chain.wallet import CHILD_COIN, MAX_SPLIT, SERVICE, SPLIT_COIN, split_coins
from btcfi.adapters.store.options.on_chain import busiest_minute
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.transaction import parse_transaction
from btcfi.units import Height, UnixSeconds

NOW = UnixSeconds(1_700_000_040)
TIP = Height(200)
RATE = SatsPerKvb(2_000)
WALLET = wallet_key(b"\x07" * 32, 0)
WANT = 10


def coin(store, number, sats):
    with store.transaction() as session:
        name = f"{number:064x}:0"
        session.add(WalletOutpointRow(outpoint=name, party=SERVICE, value_sats=sats, mature_height=150))


def options(store, expiry, many, state="ACTIVE"):
    with store.transaction() as session:
        session.add_all(
            OptionRow(
                id=f"{state}-{expiry}-{number}", feed="BTC/USD", state=state, kind=0, strike_cents=1,
                quantity_centi_btc=1, american=False, expiry_unix=expiry, premium_cents=1, premium_sats=1,
                collateral_sats=1, volatility_bps=1, rate_bps=1, preset="standard", preset_sha256="00",
                program="option_settlement", program_sha256="00", created_at_unix=NOW, listed_slot=NOW,
                updated_at_unix=NOW,
            )
            for number in range(many)
        )  # fmt: skip


def split(store):
    """Return the values of what was split, the rest last; nothing when it was left alone."""
    with store.transaction() as session:
        if not split_coins(session, WALLET, want=WANT, at_once=busiest_minute(session), rate=RATE, tip=TIP, now=NOW):
            return []
    with store.reading() as session:
        raw = session.exec(select(TransactionRow)).one().raw_hex
    return [output.value for output in parse_transaction(bytes.fromhex(raw)).outputs]


def test_without_options_the_setting_says_how_many(store):
    coin(store, 1, 50 * SPLIT_COIN)
    made = split(store)
    assert made[:-1] == [SPLIT_COIN] * WANT
    assert made[-1] > SPLIT_COIN


def test_a_minute_with_more_options_wants_a_coin_for_each(store):
    coin(store, 1, 50 * SPLIT_COIN)
    options(store, NOW + 60, 30)
    options(store, NOW + 120, 29)
    options(store, NOW + 180, 99, state="EXERCISED")
    with store.reading() as session:
        assert busiest_minute(session) == 30
    assert split(store)[:-1] == [SPLIT_COIN] * 30


def test_a_wallet_too_small_for_the_busiest_minute_still_has_the_setting_s_coins(store):
    coin(store, 1, 15 * SPLIT_COIN)
    options(store, NOW + 60, 30)
    assert split(store)[:-1] == [SPLIT_COIN] * WANT


def test_one_transaction_never_splits_more_than_a_node_relays(store):
    coin(store, 1, 3 * MAX_SPLIT * SPLIT_COIN)
    options(store, NOW + 60, MAX_SPLIT + 1)
    assert split(store)[:-1] == [SPLIT_COIN] * MAX_SPLIT


@pytest.mark.parametrize(("coins", "busiest", "again"), [(5, 5, False), (4, 4, True), (9, 9, False), (9, 10, True)])
def test_half_of_the_setting_is_enough_but_the_busiest_minute_needs_all(store, coins, busiest, again):
    coin(store, 1, 99 * SPLIT_COIN)
    for number in range(coins - 1):
        coin(store, 2 + number, CHILD_COIN)
    options(store, NOW + 60, busiest)
    assert bool(split(store)) is again
