"""No other market than the one that priced a store settles what is open in it."""

import contextlib
import json

import pytest
from sqlalchemy import text

from btcfi.adapters.store.options import options
from btcfi.adapters.store.prices import sources as kept
from btcfi.adapters.store.prices.tables import QuoteRow, RoundRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.venues.candle_folder import read_candle_folder
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.errors import InvalidInputError, PreconditionError
from btcfi.oracle.quote import Quote, encode_observation, parse_venue
from btcfi.oracle.venues.synthetic import FIRST_SLOT
from btcfi.surfaces.status import status_of
from btcfi.units import SECONDS_PER_MINUTE
from settings.deployment import Deployment
from tests.support.doors import SPOT
from workers.machine import demo, sources, up
from workers.machine.sources import note_market, refuse_other_market

FEED = "BTC/USD"
VENUES = ("kraken:BTC/USD", "bitstamp:BTC/USD")
WALL = 1_789_999_980
RECORDED = read_candle_folder(SYNTHETIC_CANDLES)


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name in ("DATABASE_URL", "BTCFI_NETWORK"):
        monkeypatch.delenv(name, raising=False)
    made = Deployment(data_dir=tmp_path)
    with contextlib.closing(Store(made.database_url)) as store:
        store.migrate()
    return made


def priced(here, source, slots, *, opened_late=True):
    """Minutes as a market printed them; a played one's are opened when it is played."""
    shelf = sources._shelf(source)
    with contextlib.closing(Store(here.database_url)) as store, store.transaction() as session:
        for slot in slots:
            opened = WALL if opened_late else slot + SECONDS_PER_MINUTE
            session.add(
                RoundRow(
                    feed=FEED, slot=slot, state="priced", price_cents=SPOT, low_cents=SPOT, high_cents=SPOT,
                    deadline_unix=opened, opened_at_unix=opened, closed_at_unix=opened,
                )
            )  # fmt: skip
            for venue in map(parse_venue, VENUES):
                cents = round(float(shelf(venue, slot).close) * 100)
                quote = Quote(
                    venue=venue, slot=slot, open=cents, high=cents, low=cents, close=cents, volume=1,
                    observed_at=opened, evidence=bytes(32),
                )  # fmt: skip
                session.add(
                    QuoteRow(
                        feed=FEED, slot=slot, venue=str(venue), ok=True, body=json.dumps(encode_observation(quote)),
                        fetched_at_unix=opened,
                    )
                )  # fmt: skip


def noted(here, source):
    with contextlib.closing(Store(here.database_url)) as store:
        note_market(store, here, source)


def refused(here, source):
    with pytest.raises(PreconditionError) as e:
        refuse_other_market(here, source)
    assert (e.value.name, status_of(e.value).exit_code) == ("prices", 78)
    return e.value


def of_earlier_release(here):
    """The store as the release before this table left it."""
    with contextlib.closing(Store(here.database_url)) as store:
        store.downgrade("0017")


def with_open_option(here):
    columns = {"state": "ACTIVE", "id": "open"}
    with contextlib.closing(Store(here.database_url)) as store, store.transaction() as session:
        for column in session.execute(text('PRAGMA table_info("option")')):
            if column.notnull and column.name not in columns:
                columns[column.name] = 0 if "INT" in column.type or "BOOL" in column.type else ""
        names = ", ".join(columns)
        values = ", ".join(f":{name}" for name in columns)
        session.execute(text(f'INSERT INTO "option" ({names}) VALUES ({values})'), columns)
        assert options.is_anything_open(session)


MINUTES = [FIRST_SLOT, FIRST_SLOT + 60, FIRST_SLOT + 120]
ALL = [kept.simulated(1), kept.simulated(2), kept.RECORDED, kept.LIVE]


@pytest.mark.parametrize("source", ALL)
def test_a_store_without_prices_takes_any_market_and_then_no_other_one(here, source):
    noted(here, kept.simulated(9))  # asked for, and ended before its first minute
    refuse_other_market(here, source)
    noted(here, source)
    priced(here, kept.simulated(1), MINUTES)
    refuse_other_market(here, source)  # a restart goes on
    for other in ALL:
        if other != source:
            said = refused(here, other)
            assert (source in said.said, sources._words(source) in said.mend) == (True, True)
            assert "--data-dir" in said.mend


def test_the_market_that_the_line_names_is_the_one_that_goes_on(here):
    noted(here, kept.simulated(7))
    priced(here, kept.simulated(7), MINUTES)
    mend = refused(here, kept.RECORDED).mend
    seed = int(mend.partition("--seed ")[2].partition("`")[0])
    refuse_other_market(here, sources.chosen(live=False, recorded=False, seed=seed))


@pytest.mark.parametrize(
    ("source", "minutes", "late"),
    [
        (kept.simulated(1), MINUTES, True),
        (kept.RECORDED, RECORDED.slots(None, None)[:3], True),
        (kept.LIVE, [WALL, WALL + 60], False),
    ],
)
def test_a_store_of_an_earlier_release_goes_on_with_its_market_alone(here, source, minutes, late):
    priced(here, kept.simulated(3) if source == kept.LIVE else source, minutes, opened_late=late)
    with_open_option(here)
    of_earlier_release(here)
    for other in ALL:
        if other == source:
            refuse_other_market(here, other)
        else:
            mend = refused(here, other).mend
            assert ("--data-dir" in mend, "--recorded" in mend) == (True, True)


def test_the_end_of_a_recording_in_an_earlier_store_with_nothing_open_lets_another_market_begin(here):
    priced(here, kept.RECORDED, RECORDED.slots(None, None)[-2:])
    of_earlier_release(here)
    refuse_other_market(here, kept.simulated(1))


def test_a_store_in_which_two_markets_were_played_one_after_another_goes_on_with_neither(here):
    """As the advice of the release before had it: the recording, then the simulated market after its last minute."""
    last = RECORDED.slots(None, None)[-1]
    priced(here, kept.RECORDED, [last])
    priced(here, kept.simulated(1), [last + 60])
    of_earlier_release(here)
    for source in ALL:
        assert "--data-dir" in refused(here, source).mend


def test_what_a_finished_recording_advises_begins_in_another_folder(here, tmp_path):
    noted(here, kept.RECORDED)
    priced(here, kept.RECORDED, RECORDED.slots(None, None)[-1:])
    assert "--data-dir" in up.OVER
    fresh = Deployment(data_dir=tmp_path / "another")
    refuse_other_market(fresh, kept.simulated(1))
    assert not fresh.data_dir.exists()


@pytest.mark.parametrize("network", ["main", "signet", "testnet4"])
@pytest.mark.parametrize("source", [kept.simulated(1), kept.RECORDED])
def test_prices_that_no_market_printed_are_for_regtest_alone(here, network, source):
    elsewhere = here.model_copy(update={"network": network})
    with pytest.raises(InvalidInputError, match="BTCFI_NETWORK"):
        refuse_other_market(elsewhere, source)
    refuse_other_market(elsewhere, kept.LIVE)


def test_up_and_the_demo_look_at_the_market_before_they_start_anything(here, monkeypatch):
    noted(here, kept.simulated(1))
    priced(here, kept.simulated(1), MINUTES)
    with pytest.raises(PreconditionError, match="--seed 1"):
        demo.run_demo(demo.DemoRequest(data_dir=here.data_dir))
    monkeypatch.setenv("BTCFI_DATA_DIR", str(here.data_dir))
    before = sorted(path.name for path in here.data_dir.iterdir())
    with pytest.raises(PreconditionError, match="--seed 1"):
        up.run_up(live=False, recorded=False, seed=2, pace=1.0, data_dir=None)
    assert sorted(path.name for path in here.data_dir.iterdir()) == before
