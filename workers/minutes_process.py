"""The aggregator of an embedded deployment: serves what its nodes signed to its oracles, and does nothing else.

A tenth of the API's memory, and there before it: `btcfi demo` runs no API. By its environment it is a process of the
deployment, which reads the store.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import NoReturn

from btcfi.adapters.store.spine.database import Store
from btcfi.oracle.quote import Feed
from btcfi.surfaces.minutes import answers_of
from btcfi.surfaces.questions import QuestionServer
from settings.deployment import load_deployment

PER_MINUTE = 60_000
"""Questions: whoever asks is one of our own oracles, on this machine."""


def main() -> NoReturn:
    """Serve on the loopback, at the port that is the first argument, until SIGTERM."""
    deployment = load_deployment()
    store, stop = Store(deployment.database_url), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    address = ("127.0.0.1", int(sys.argv[1]))
    answers = answers_of(store, Feed(deployment.feed))
    with QuestionServer(answers, address, monotonic=time.monotonic, per_minute=PER_MINUTE) as server:
        threading.Thread(target=server.serve_forever, name="minutes-http", daemon=True).start()
        stop.wait()
        server.shutdown()
    store.close()
    sys.exit(0)


if __name__ == "__main__":
    main()
