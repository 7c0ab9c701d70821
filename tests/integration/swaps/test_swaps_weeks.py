"""Half a year of swaps on the replay clock: conserved to the satoshi each week, whoever defaults, burns or dies.

In CI five weeks; twenty-six of forty providers, two thousand takers in ``make night`` (``--only swap-weeks``).
"""

import os
from datetime import date

import pytest

from tests.support.shown import show
from tests.support.stores import store_on_sqlite
from tests.support.swap_year import Year

pytestmark = pytest.mark.integration

DECEMBER, OCTOBER = date(2024, 12, 4), date(2024, 10, 16)
"""From the first, Christmas and New Year are on Wednesdays; from the second, both clock changes lie in half a year."""


def lived(tmp_path, monkeypatch, *, weeks, **size):
    """So many weeks, and the silence of the oracle after them."""
    with store_on_sqlite(tmp_path) as store:
        year = Year(store, monkeypatch, seed=int(os.environ.get("BTCFI_TEST_SEED", "0")), **size)
        year.begin()
        for _ in range(weeks):
            year.week()
        year.silence()
    return year


def test_weeks_of_a_market_conserve_every_satoshi_over_holidays_defaults_and_deaths(tmp_path, monkeypatch):
    year = lived(tmp_path, monkeypatch, weeks=5, providers=3, takers=24, first=DECEMBER)
    assert year.settlement == date(2025, 1, 8)
    assert min(year.counts[name] for name in ("takes", "cancels", "burns", "cures", "deaths", "settled")) > 0
    assert year.counts["settled"] > 5


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_half_a_year_of_forty_providers_and_two_thousand_takers(tmp_path, monkeypatch):
    year = lived(tmp_path, monkeypatch, weeks=26, providers=40, takers=2_000, first=OCTOBER)
    assert year.settlement == date(2025, 4, 16)
    show(year.counts, dict.fromkeys(year.counts, "acts") | {"settled": "books"})
    assert min(year.counts.values()) > 0
