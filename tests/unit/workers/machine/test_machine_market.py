"""The market of `btcfi up`: without an end from where its store stands, or a recording after which nothing is sold."""

import json
import urllib.request
from itertools import islice
from threading import Thread

import pytest

from btcfi.adapters.venues.replay_server import ReplayServer, candle_target, simulate
from btcfi.options.terms import InvalidTermsError, OptionKind, OptionTerms, required_collateral
from btcfi.oracle.venues.synthetic import FIRST_SLOT, MARKETS, SimulatedCandles
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Slot
from settings.deployment import Deployment
from workers.deployed import sale_rule
from workers.machine.attach import attached
from workers.market_process import following


def test_a_new_deployment_begins_where_the_round_trip_does_and_an_old_one_goes_on_after_its_newest_minute():
    assert list(islice(following(None), 3)) == [FIRST_SLOT, FIRST_SLOT + 60, FIRST_SLOT + 120]
    recording_over = Slot(1_767_576_540)
    assert next(following(recording_over)) == recording_over + 60


def test_the_stand_in_for_the_exchanges_answers_any_minute_of_the_simulated_market_over_http():
    server = ReplayServer(simulate(1).answer)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        market = next(one for one in MARKETS if str(one.venue) == "kraken:BTC/USD")
        at = Slot(FIRST_SLOT + 60 * 1_000_000)
        with urllib.request.urlopen(server.base_url + candle_target(market.venue, at), timeout=5) as answer:
            said = json.load(answer)["result"]
        rows = next(value for name, value in said.items() if name != "last")
        wanted = SimulatedCandles(1, market, lambda: at)[at]
        assert [row[4] for row in rows if row[0] == at] == [wanted.close]
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def test_of_a_recording_that_ends_nothing_is_sold_that_expires_after_its_last_minute(tmp_path):
    last = 1_767_576_540
    (tmp_path / "cluster.json").write_text(json.dumps({"urls": {"replay_clock": True, "replay_until": last}}))
    rule = sale_rule(attached(Deployment(data_dir=tmp_path)))

    def said(expiry):
        return rule.refusal(
            OptionTerms(
                kind=OptionKind.CALL, strike=CentsPerBtc(6_000_000), quantity=CentiBtc(10), barrier=None,
                american=False, expiry=Slot(expiry), premium=Cents(0),
                collateral=required_collateral(OptionKind.CALL, CentiBtc(10)),
            )
        )  # fmt: skip

    assert said(last) is None
    with pytest.raises(InvalidTermsError, match="none comes after it"):
        raise said(last + 60)
    endless = sale_rule(Deployment(data_dir=tmp_path / "other"))
    assert endless.refusal.keywords["last"] is None
