"""HTTP to a desk, each request signed by an account's request key; and the one header that says so.

The signature is over method, target, body and time (``market.account.request_digest``), so nothing of a request can be
changed on its way, and none can be sent to another desk. Every effect is idempotent by its meaning: a request that was
not answered is signed anew and sent again. Bodies are neither logged nor repeated in errors.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import Any, Final, Self

import httpx

from btcfi import secp256k1
from btcfi.documents import parse_json, printable
from btcfi.errors import ConflictError, InvalidInputError, RetryableError, UnreachableError
from btcfi.market.account import request_digest
from btcfi.units import UnixSeconds

SCHEME: Final = "BTCFi-Signature"

API: Final = "/api/v1"
"""Before every path."""

ATTEMPTS: Final = 3

TIMEOUT_SECONDS: Final = 30.0
LONGEST_PAUSE_SECONDS: Final = 5.0
"""A Retry-After beyond this is the caller's to decide about."""

MAX_ANSWER_BYTES: Final = 32 << 20
"""Of one answer: more than the longest message of a contract, in base64 twice. No desk can fill our memory."""

_REFUSED: Final = 400
_AGAIN: Final = frozenset({429, 502, 503, 504})
_UNKNOWN: Final = frozenset({502, 504})
"""A proxy's words: what is behind it may have done what was asked."""


class DeskAwayError(UnreachableError):
    """The desk does not answer, or not as a desk does."""

    def __init__(self, where: str, problem: str, *, too_large: bool = False) -> None:
        advice = "check the URL, without /desk or /api/v1 at its end, and that `btcfi up` or `btcfi serve` runs there"
        super().__init__("desk", where, problem, advice)
        self.too_large = too_large
        """Whether its answer was longer than any that is read."""
        self.unsent = False
        """Whether nothing of the request has left us: no connection came about."""


class DeskRefusedError(ConflictError):
    """The desk refused a request, and says why."""

    def __init__(self, problem: Mapping[str, Any], *, status: int) -> None:
        said = printable(problem.get("detail") or problem.get("title") or "no reason", 500)
        super().__init__(f"the desk answered {status}: {said}")
        self.status, self.detail = status, said
        self.after_silence = False
        """Whether the same request was sent before and its answer lost: then it may have been granted."""
        self.type = str(problem.get("type", ""))[:200]
        self.field, self.expected = problem.get("field"), problem.get("expected")


class DeskBusyError(RetryableError, DeskRefusedError):
    """The desk refused a request for now."""


class RequestSigner(httpx.Auth):
    """Signs every request of an httpx client, blocking or not; one that is sent again is signed again."""

    requires_request_body = True

    def __init__(
        self, *, identity: bytes, request_secret: bytes, desk: bytes, clock: Callable[[], float] = time.time
    ) -> None:
        """Take the account's x-only identity, its request secret, and the x-only key of the desk that it is for."""
        self._identity, self._secret, self._desk, self._clock = identity, request_secret, desk, clock

    def __repr__(self) -> str:
        return f"RequestSigner({self._identity.hex()[:16]})"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the signature into the request's header."""
        request.headers["Authorization"] = self.header(
            request.method, request.url.raw_path.decode("ascii"), request.content
        )
        yield request

    def header(self, method: str, target: str, body: bytes) -> str:
        """Return the header's value for a request that is sent now. target: path and query as sent."""
        at = UnixSeconds(int(self._clock()))
        digest = request_digest(desk=self._desk, account=self._identity, method=method, target=target, body=body, at=at)
        signature = secp256k1.schnorr_sign(self._secret, digest, secrets.token_bytes(32))
        return f"{SCHEME} account={self._identity.hex()},at={at},signature={signature.hex()}"


class SignedHttp:
    """A connection to one desk for one account, or for nobody: without a signer the public part is asked."""

    def __init__(
        self, url: str, identity: bytes | None = None, request_secret: bytes | None = None, desk: bytes | None = None,
        clock: Callable[[], float] = time.time, *, timeout_seconds: float = TIMEOUT_SECONDS, attempts: int = ATTEMPTS,
        transport: httpx.BaseTransport | None = None, sleep: Callable[[float], object] = time.sleep,
    ) -> None:  # fmt: skip
        """Open it; nothing is sent yet. url: the desk's, without ``/api/v1``. Raises InvalidInputError.

        identity: x-only. desk: x-only key of the desk. transport: instead of the network's.
        """
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise InvalidInputError("desk", repr(url)[:60], "its URL, such as https://desk.example")
        signer = None
        if identity is not None and request_secret is not None and desk is not None:
            signer = RequestSigner(identity=identity, request_secret=request_secret, desk=desk, clock=clock)
        self._attempts, self._sleep, self._timeout = attempts, sleep, timeout_seconds
        # what is compressed would have to be unpacked before its size is known
        headers = {"Accept-Encoding": "identity", "Accept": "application/json"}
        try:
            self._http = httpx.Client(
                base_url=self.url + API, auth=signer, headers=headers, timeout=timeout_seconds, transport=transport
            )
        except (httpx.InvalidURL, UnicodeError) as e:  # UnicodeError: a host name that IDNA does not know
            raise InvalidInputError("desk", repr(url)[:60], "its URL, such as https://desk.example") from e

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go; who waits on it in another thread gets DeskAwayError."""
        self._http.close()

    def get(self, path: str, *, patience: float = 0, **query: object) -> Any:  # noqa: ANN401 - JSON
        """Return the answer's JSON. patience: seconds that the desk may take longer, in a long poll.

        Raises DeskRefusedError, DeskBusyError, DeskAwayError.
        """
        params = {name: str(value) for name, value in query.items() if value is not None}
        return self._ask("GET", path, patience=patience, params=params)

    def post(self, path: str, body: object) -> Any:  # noqa: ANN401 - JSON
        """Send JSON and return the answer's. Raises as ``get``."""
        content = json.dumps(body, separators=(",", ":")).encode()
        return self._ask("POST", path, content=content, headers={"Content-Type": "application/json"})

    def delete(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """Ask that a thing be no more, and return the answer's JSON. Raises as ``get``."""
        return self._ask("DELETE", path)

    def _ask(self, method: str, path: str, *, patience: float = 0, **given: Any) -> Any:  # noqa: ANN401 - httpx's own
        silent = False
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                status, headers, raw = self._once(method, path, patience, given)
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, RuntimeError) as e:  # the last: closed meanwhile
                silent = silent or not isinstance(e, httpx.ConnectError | httpx.ConnectTimeout)
                if last or not isinstance(e, httpx.TransportError):
                    away = DeskAwayError(self.url, type(e).__name__)
                    away.unsent = not silent
                    raise away from e
                self._sleep(0.1 * attempt)
                continue
            pause = _pause(headers, attempt) if status in _AGAIN and not last else None
            if pause is None:
                return self._read(status, raw, silent=silent)
            silent = silent or status in _UNKNOWN
            self._sleep(pause)
        raise AssertionError("unreachable")  # the last attempt returns or raises

    def _once(
        self, method: str, path: str, patience: float, given: dict[str, Any]
    ) -> tuple[int, httpx.Headers, bytes]:  # fmt: skip
        timeout = httpx.Timeout(self._timeout, read=self._timeout + patience)
        with self._http.stream(method, path, timeout=timeout, **given) as answer:
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise DeskAwayError(self.url, "an answer that is compressed, which was not asked for")
            parts, size = [], 0
            for part in answer.iter_bytes():
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    raise DeskAwayError(self.url, f"an answer of more than {MAX_ANSWER_BYTES:,} bytes", too_large=True)
                parts.append(part)
            return answer.status_code, answer.headers, b"".join(parts)

    def _read(self, status: int, raw: bytes, *, silent: bool) -> Any:  # noqa: ANN401 - JSON
        try:
            value = parse_json(raw, "answer") if raw else None
        except InvalidInputError as e:
            raise DeskAwayError(self.url, f"status {status}, and no JSON") from e
        if status >= _REFUSED:
            kind = DeskBusyError if status in _AGAIN else DeskRefusedError
            refused = kind(value if isinstance(value, dict) else {}, status=status)
            refused.after_silence = silent
            raise refused
        if not 200 <= status < 300:  # noqa: PLR2004 - HTTP
            raise DeskAwayError(self.url, f"status {status}")
        return value


def _pause(headers: httpx.Headers, attempt: int) -> float | None:
    """Return how long to wait before the next attempt, None for longer than we wait."""
    asked = headers.get("Retry-After", "")
    seconds = float(asked) if asked.isascii() and asked.isdigit() else 0.2 * attempt
    return seconds if seconds <= LONGEST_PAUSE_SECONDS else None
