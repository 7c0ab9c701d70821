"""A receiver of webhooks: checks who sent a message, and when, and takes each once.

Its arguments are a port of this machine, and the secret that was shown when the webhook was added.
"""

# ruff: noqa: INP001, T201 - a script that shows what it sees

import base64
import hashlib
import hmac
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

seen: set[str] = set()  # in a database, if it matters: the same message may come again for three days


def accepted(headers: dict[str, str], body: bytes, secret: str, now: float) -> bool:
    """Return whether this is a message of the desk that was sent within the last five minutes."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    name, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    signed = hmac.new(key, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    wanted = "v1," + base64.b64encode(signed).decode()
    shown = headers.get("webhook-signature", "").split(" ")
    right = any(hmac.compare_digest(one.encode(), wanted.encode()) for one in shown)
    return right and at.isdigit() and abs(now - int(at)) <= 300  # noqa: PLR2004 - seconds


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what it takes, or has taken before, and 401 to all else."""

    def do_POST(self) -> None:
        """Take one message."""
        body = self.rfile.read(min(int(self.headers["Content-Length"]), 1 << 16))
        headers = {name.lower(): value for name, value in self.headers.items()}
        good = accepted(headers, body, sys.argv[2], time.time())
        self.send_response(204 if good else 401)
        self.end_headers()
        if good and headers["webhook-id"] not in seen:
            seen.add(headers["webhook-id"])
            print(body.decode(), flush=True)


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
