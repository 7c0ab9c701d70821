"""An oracle that answers without end keeps no party from its chain: what it sends is bounded in bytes and in time."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from btcfi.errors import InvalidInputError, UnreachableError
from btcfi.surfaces.party import side

pytestmark = pytest.mark.integration

PART, PARTS = b" " * 65_536, 320


@pytest.fixture
def oracle():
    """An address that answers with 20 MB, part by part; and what it could send of it."""
    sent = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(PARTS):
                    self.wfile.write(PART)
                    sent.append(len(PART))
            except OSError:
                pass  # the party hung up

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", sent
    server.shutdown()
    server.server_close()


def test_a_party_hangs_up_on_an_attestation_that_has_more_bytes_than_any(oracle, monkeypatch):
    url, sent = oracle
    monkeypatch.setattr(side, "MAX_MESSAGE_BYTES", 100_000)
    with pytest.raises(InvalidInputError, match="too long"):
        side.read_bytes(url)
    assert len(sent) < PARTS // 2


def test_a_party_hangs_up_on_an_oracle_that_sends_byte_after_byte_for_ever(oracle, monkeypatch):
    url, _ = oracle
    monkeypatch.setattr(side, "HTTP_WHOLE", 0.0, raising=False)
    with pytest.raises(UnreachableError, match="byte after byte"):
        side.read_bytes(url)
