"""A receiver of webhooks for tests: a real server on the loopback that keeps what comes, and answers as it is told."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, kw_only=True)
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    """By names in small letters."""
    body: bytes


@dataclass
class Receiver:
    """What came, and what is answered."""

    url: str = ""
    port: int = 0
    got: list[Got] = field(default_factory=list)
    answer: Callable[[BaseHTTPRequestHandler], None] | None = None
    """None: 204."""
    status: int = 204
    came: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    over: threading.Event = field(default_factory=threading.Event)
    """Set at the test's end: what hangs, hangs until then."""


def accepted(headers: dict[str, str], body: bytes, secret: str, now: float) -> bool:
    """Return whether a message is the desk's and of the last five minutes, as the specification has a receiver ask."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    name, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    mac = hmac.new(key, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    wanted = "v1," + base64.b64encode(mac).decode()
    right = wanted in headers.get("webhook-signature", "").split(" ")
    return right and at.isdigit() and abs(now - int(at)) <= 300


@contextmanager
def receiving(tls: ssl.SSLContext | None = None, *, address: str = "127.0.0.1", port: int = 0) -> Iterator[Receiver]:
    """Give a receiver; with ``tls`` it speaks https as ``localhost``."""
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.got.append(Got(path=self.path, headers=headers, body=body))
            made.came.release()
            with suppress(OSError):
                if made.answer is not None:
                    made.answer(self)
                else:
                    self.send_response(made.status)
                    self.end_headers()

        def do_GET(self) -> None:
            made.got.append(Got(path=self.path, headers={}, body=b"GET"))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # dozens connect at once, and a full queue answers after a second

        def handle_error(self, *_: object) -> None:
            pass

    server = Server((address, port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    made.port = server.server_address[1]
    made.url = f"https://localhost:{made.port}/in" if tls else f"http://{address}:{made.port}/in"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def contexts(folder: Path, name: str = "localhost") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context with a certificate of ``name``, and a client's that trusts it alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(7).not_valid_before(start).not_valid_after(start + dt.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = folder / f"{name}.pem"
    form = serialization.PrivateFormat.PKCS8
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
