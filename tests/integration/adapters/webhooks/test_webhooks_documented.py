"""The receiver of docs/api.md, as it stands there, takes what a desk sends, once, and nothing else."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time

import httpx

from btcfi.market.webhook import decode_secret, signature
from tests.integration.adapters.webhooks.test_webhooks_courier import Desk
from tests.support.market_store import filled
from tests.support.paths import ROOT
from tests.support.stores import store_on_sqlite

PAGE = (ROOT / "docs/api.md").read_text()
RECEIVER = re.search(r"```python\n(import base64, hmac.*?)```", PAGE, re.DOTALL)[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def test_the_documented_receiver_takes_what_the_desk_signed_once_and_refuses_all_else(tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with store_on_sqlite(tmp_path) as store:
        desk = Desk(store=filled(store))
        hook_id = desk.add(url)
        secret = desk.secrets[url]
        command = [sys.executable, "-c", RECEIVER, str(port), secret]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as receiver:
            try:
                deadline = time.monotonic() + 30
                while desk.row(hook_id).told_at_unix is None and time.monotonic() < deadline:
                    desk.again()
                    desk.tell()
                said = receiver.stdout.readline().strip()
                key, now = decode_secret(secret), int(time.time())

                def post(body, at=now, name="msg_1", key=key):
                    headers = {
                        "webhook-id": name, "webhook-timestamp": str(at),
                        "webhook-signature": signature(key, message=name, at=at, body=body),
                    }  # fmt: skip
                    return httpx.post(url, content=body, headers=headers, trust_env=False).status_code

                assert [post(b"one"), post(b"one")] == [204, 204]
                assert [post(b"old", at=now - 400), post(b"other", key=bytes(32))] == [401, 401]
                assert httpx.post(url, content=b"bare", trust_env=False).status_code == 401
                assert post(b"last", name="msg_2") == 204
            finally:
                receiver.terminate()
            assert [said, *receiver.stdout.read().split()] == [desk.said()[0], "one", "last"]
