"""Oracles for tests: real ones, each with its folder and its HTTP server, in threads of this process."""

import itertools
import json
import secrets
import threading
import time
from dataclasses import dataclass

from btcfi.adapters.oracle.folder import OracleFolder
from btcfi.adapters.oracle.oracle import NEVER, Oracle
from btcfi.adapters.oracle.sources import read_page
from btcfi.adapters.oracle_network.node_keys import make_node_keys, node_of, read_node_key
from btcfi.adapters.store.prices.network import Submission as StoredSubmission
from btcfi.adapters.store.prices.network import add_submissions
from btcfi.adapters.store.prices.observations import observations_of
from btcfi.adapters.store.spine.database import Store
from btcfi.oracle.quote import Feed
from btcfi.oracle.submission import Submission, sign_submission
from btcfi.surfaces.grpc.messages import write_submission
from btcfi.surfaces.minutes import page_of
from btcfi.surfaces.oracle_http import answers_of
from btcfi.surfaces.questions import QuestionServer
from btcfi.units import Slot, UnixSeconds
from settings.preset import load_preset
from tests.support.rounds import DOLLARS
from workers.machine import oracles
from workers.oracle_process import settings

FEED = Feed("BTC/USD")


@dataclass(frozen=True)
class StoreSource:
    """An aggregator without its HTTP: what its API would answer from its store, through the same JSON."""

    store: Store
    name: str = "store"

    def page(self, start, minutes):
        """Return the page as the API serves it."""
        return read_page(json.loads(json.dumps(page_of(self.store, FEED, start=start, minutes=minutes))))


def sign(observation, secret, node=None, *, feed=FEED):
    """Return what a node signs of an observation."""
    said = Submission(
        feed=feed, node_id=node or node_of(observation.venue), observation=observation,
        sent_at_ms=(observation.slot + 62) * 1000, time_proof=None,
    )  # fmt: skip
    return sign_submission(said, secret, aux=secrets.token_bytes(32))


def sign_minute(session, folder, slot):
    """Have the nodes of ``folder`` sign what is stored of a minute, as the price workers do."""
    signed = [sign(one, read_node_key(folder, one.venue)) for one in observations_of(session, FEED, Slot(slot))]
    add_submissions(session, FEED, [
        StoredSubmission(
            slot=one.submission.slot, node_id=one.submission.node_id, received_at=UnixSeconds(slot + 62),
            message=write_submission(one).SerializeToString(),
        )
        for one in signed
    ])  # fmt: skip


def made_oracle(folder, sources, *, trust_before=NEVER, preset="standard", clock=None):
    """Return an oracle on a folder that is ready."""
    ticks = itertools.count(10, 10)
    return Oracle(
        folder=folder, sources=sources, clock=clock or (lambda: UnixSeconds(int(time.time()))),
        monotonic=lambda: next(ticks),  # time enough for every question to be asked anew
        settings=settings(FEED, preset=load_preset(preset), trust_before=trust_before),
    )  # fmt: skip


class Served:
    """An oracle's HTTP, as long as it is open."""

    def __init__(self, oracle, port=0):
        self.oracle = oracle
        self._server = QuestionServer(
            answers_of(oracle), ("127.0.0.1", port), monotonic=time.monotonic, per_minute=100_000
        )
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        """Go away, as a killed process does."""
        self._server.shutdown()
        self._server.server_close()


def venues():
    """Return the five dollar markets of ``tests.support.rounds``, as a deployment names them."""
    return tuple(str(venue) for venue in DOLLARS)


def nodes(folder):
    """Return the registry of nodes of the five dollar markets, their keys in ``folder``."""
    return make_node_keys(folder, DOLLARS)


def secrets_of(deployment):
    """Return the keys of a deployment's own oracles: only a test may."""
    return tuple(folder.secret() for folder in oracles.folders_of(deployment))


def serve_all(deployment, source, *, trust_before=NEVER):
    """Serve every oracle of a deployment's own."""
    folders = oracles.folders_of(deployment)
    return [Served(made_oracle(OracleFolder(one.path), [source], trust_before=trust_before)) for one in folders]
