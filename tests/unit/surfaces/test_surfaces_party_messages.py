"""Messages over HTTP and files: posted, fetched, and what happens when nobody is there."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from btcfi.errors import InvalidInputError, UnreachableError
from btcfi.surfaces.party import side


class Mailbox(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.server.letters[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(201)

    def do_GET(self):
        letter = self.server.letters.get(self.path)
        self._answer(404 if letter is None else 200, letter or b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def mailbox():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mailbox)
    server.daemon_threads = True
    server.letters = {}
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_message_is_posted_and_fetched_unchanged(mailbox):
    url, _ = mailbox
    message = {"type": "btcfi/offer", "version": 1, "collateral_sats": 2_099_999_999_999_999}
    side.write_message(url + "/offer", message)
    assert side.read_message(url + "/offer") == message


def test_an_empty_mailbox_or_nobody_there_is_unreachable(mailbox):
    url, _ = mailbox
    for place in (url + "/nothing", "http://127.0.0.1:1/offer"):
        with pytest.raises(UnreachableError):
            side.read_message(place)


def test_what_is_not_json_or_too_long_is_named(mailbox, tmp_path, monkeypatch):
    url, server = mailbox
    server.letters["/page"] = b"<html>"
    with pytest.raises(InvalidInputError):
        side.read_message(url + "/page")
    (tmp_path / "long").write_text(json.dumps(["x" * 100]))
    monkeypatch.setattr(side, "MAX_MESSAGE_BYTES", 50)
    with pytest.raises(InvalidInputError):
        side.read_message(str(tmp_path / "long"))
