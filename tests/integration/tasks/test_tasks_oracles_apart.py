"""Three oracles as processes, the aggregator another, contracts on a real node: what one that fails or lies can do."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlmodel import select

from btcfi.adapters.oracle.client import OracleClient
from btcfi.adapters.oracle.sources import HttpSource
from btcfi.adapters.oracle.web import Web
from btcfi.adapters.oracle_network.network_file import write_registry
from btcfi.adapters.oracle_network.node_keys import read_node_key
from btcfi.adapters.store.options.contract_tables import AttestationRow, ContractRow
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.errors import BtcfiError
from btcfi.oracle.fixing import MINUTE, parse_fixing
from btcfi.oracle.submission_json import encode_signed
from btcfi.surfaces.minutes import page_of
from tasks import attest, chain, context, options, settlement
from tests.support.contract_stage import EXPIRY, SLOT, open_stage
from tests.support.oracle_support import quote
from tests.support.oracles import DOLLARS, FEED, nodes, sign
from tests.support.paths import ROOT
from workers.machine import oracles as ours

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

FIXINGS = {"killed": MINUTE, "stale": parse_fixing("twap:2"), "lying": parse_fixing("twap:3"),
           "apart": parse_fixing("median:3")}  # fmt: skip


class Pages:
    """An aggregator's HTTP of a test's own making."""

    def __init__(self, page):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                query = parse_qs(urlsplit(self.path).query)
                body = json.dumps(page(int(query["start"][0]) if "start" in query else None)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Apart:
    """A stage whose aggregator and oracles are processes."""

    def __init__(self, stage, folder):
        self.stage, self.folder, self.processes, self.servers = stage, folder, [], []
        for one in stage.oracles:
            one.close()
        api = self.run(
            ["-m", "workers.cli", "serve", "--port=0"], os.environ | stage.deployment.environment(), "api"
        )  # fmt: skip
        self.api = self.said(api, "api", r"(http://127\.0\.0\.1:\d+)")
        self.wait_for(lambda: HttpSource(Web(self.api)).page(None, 1), api)
        folders = enumerate(ours.folders_of(stage.deployment))
        self.oracles = [self.oracle(number, folder.path, self.api) for number, folder in folders]

    def run(self, arguments, environment, name):
        log = (self.folder / f"{name}.log").open("wb")
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def said(self, process, name, pattern):
        deadline = time.monotonic() + 90
        while not (found := re.search(pattern, (self.folder / f"{name}.log").read_text())):
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return found[1]

    def oracle(self, number, folder, aggregator):
        """Start the process of an oracle where the stage expects it, with an environment of nothing of ours."""
        port = self.stage.oracles[number].port
        process = self.run(
            ["-m", "workers.oracle_process", f"--folder={folder}", f"--port={port}", f"--aggregator={aggregator}",
             "--every=0.5"],
            ours.environment(self.stage.deployment), f"oracle-{number}-{len(self.processes)}",
        )  # fmt: skip
        self.wait_for(OracleClient(Web(f"http://127.0.0.1:{port}")).status, process)
        return process

    @staticmethod
    def wait_for(answer, process):
        """Wait until a process answers: on a busy machine that is a while after it has said where."""
        deadline = time.monotonic() + 180
        while True:
            try:
                answer()
            except BtcfiError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                return

    def replace(self, number, name, aggregator, network=None):
        """Start an oracle's key with another view: what its owner, or a thief, could do."""
        self.kill(number)
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        real = ours.folder_of(self.stage.deployment, number).path
        for file in ("oracle.key", "network.toml"):
            shutil.copy2(real / file, folder / file)
        if network is not None:
            (folder / "network.toml").write_text(network)
        self.oracles[number] = self.oracle(number, folder, aggregator)

    def kill(self, number):
        self.oracles[number].send_signal(signal.SIGKILL)
        self.oracles[number].wait(10)

    def pages(self, page):
        self.servers.append(Pages(page))
        return self.servers[-1].url

    def settle(self, name):
        """Attest one option's event and send what that completes."""
        attest.attest(self.stage.row(ContractRow, option_id=name).event_id)
        chain.settle()
        return self.stage.row(SettlementRow, option_id=name).state

    def outcomes(self, name):
        event = self.stage.row(ContractRow, option_id=name).event_id
        with self.stage.here.store.reading() as session:
            rows = session.exec(select(AttestationRow).where(AttestationRow.event_id == event)).all()
        return sorted(row.outcome for row in rows)

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait(10)
        for server in self.servers:
            server.close()


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apart")
    with open_stage(folder, coins=6) as stage:
        made = Apart(stage, folder)
        try:
            for name, fixing in FIXINGS.items():
                stage.sell(name, fixing=fixing)
            stage.fund(*FIXINGS)
            for back in (2, 1, 0):
                stage.price(6_000_000 + 20_000 * (2 - back), slot=EXPIRY - 60 * back)
            options.expire_due("BTC/USD")
            settlement.execute_batch([f"st-{name}" for name in FIXINGS])
            yield made
        finally:
            made.close()


def test_no_process_but_an_oracle_s_own_is_told_where_its_key_lies(apart):
    told = apart.stage.deployment.environment()
    assert not any("oracle-0" in value for value in told.values())
    environment = ours.environment(apart.stage.deployment)
    assert not environment.keys() & told.keys()


def test_with_one_of_three_oracles_killed_contracts_settle_by_the_other_two(apart):
    apart.kill(0)
    assert apart.settle("killed") == "broadcast"
    assert apart.outcomes("killed") == [60_400] * 2
    assert "does not answer" in apart.stage.row(OptionRow, id="killed").last_error


def test_an_oracle_with_a_stale_view_attests_nothing_says_which_minutes_it_lacks_and_holds_nobody_up(apart):
    def stale(start):
        page = page_of(apart.stage.here.store, FEED, start=start, minutes=60)
        return page | {"minutes": [one for one in page["minutes"] if one["slot"] <= SLOT], "newest_slot": SLOT}

    apart.replace(0, "stale", apart.pages(stale))
    assert apart.settle("stale") == "broadcast"
    assert apart.outcomes("stale") == [60_300] * 2
    said = apart.stage.row(OptionRow, id="stale").last_error
    assert f"minutes lacking for the fixing twap:2: {EXPIRY - 60}, {EXPIRY}" in said


def lies(apart, name, number, by):
    """Have an oracle take nodes of its own for the network, which sign ``by`` cents more."""
    registry = nodes(apart.folder / f"{name}-nodes")

    def page(_start):
        minutes = [
            {"slot": EXPIRY - 60 * back, "state": "closed", "report": None, "submissions": [
                encode_signed(sign(
                    quote(venue, 6_000_000 + 20_000 * (2 - back) + by, slot=EXPIRY - 60 * back),
                    read_node_key(apart.folder / f"{name}-nodes", venue),
                ))
                for venue in DOLLARS
            ]}
            for back in (2, 1, 0)
        ]  # fmt: skip
        return {"feed": FEED, "newest_slot": EXPIRY, "minutes": minutes}

    apart.replace(number, name, apart.pages(page), write_registry(FEED, registry))


def test_an_oracle_that_lies_is_outvoted_and_named(apart):
    lies(apart, "liar", 0, by=500_000)
    assert apart.settle("lying") == "broadcast"
    assert apart.outcomes("lying") == [60_200, 60_200, 65_200]
    said = apart.stage.row(OptionRow, id="lying").last_error
    assert "they differ: 60200 by " in said
    assert "65200 by " in said


def test_two_that_differ_by_a_dollar_settle_nothing_the_operator_is_told_and_the_refund_is_untouched(apart):
    lies(apart, "a-dollar-off", 1, by=100)
    apart.kill(0)
    assert apart.settle("apart") == "proven"
    assert apart.outcomes("apart") == [60_200, 60_201]
    row = apart.stage.row(SettlementRow, option_id="apart")
    assert "1 oracles attest the same outcome, the contract needs 2" in row.last_error
    said = apart.stage.row(OptionRow, id="apart").last_error
    assert "they differ: 60200 by " in said
    assert "does not answer" in said
    option = apart.stage.row(OptionRow, id="apart")
    assert option.state == "EXPIRED"
    assert option.refund_height > apart.stage.node.block_count()
    assert context.node(os.getpid()).block_count() == apart.stage.node.block_count()
    # the third comes back: two agree, and the liar is one
    apart.oracles[0] = apart.oracle(0, ours.folder_of(apart.stage.deployment, 0).path, apart.api)
    assert apart.settle("apart") == "broadcast"
    assert apart.outcomes("apart") == [60_200, 60_200, 60_201]


def test_the_others_are_settled_and_every_process_of_an_oracle_is_small(apart):
    apart.stage.mine(6)
    assert {apart.stage.state(name) for name in FIXINGS} == {"EXERCISED"}
    for process in apart.oracles:
        maps = (ROOT.__class__(f"/proc/{process.pid}/maps")).read_text()
        assert not any(f"/{big}/" in maps for big in ("numpy", "numba", "sqlalchemy", "celery"))
