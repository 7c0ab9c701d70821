"""Who may speak on the broker: every envelope carries a MAC by a key of the deployment, checked before it is parsed.

Whoever reaches the broker can put anything there. What our processes publish (tasks, remote control, its answers,
events) is sealed where kombu augments the envelope, and what arrives is checked where kombu hands it on: one place,
below Celery's parser and below the mailbox of remote control, which no signal of Celery's passes. The MAC covers the
queue, the body, every header and every property but three that redelivery writes itself: ``delivery_info``,
``delivery_tag`` and the header ``redelivered``; the guard makes those anew.

A key of the deployment seals tasks, answers, events and the questions that Flower and the console ask. Adding or
cancelling a consumer needs the operator's key, a moment and a nonce: a recording of such an order would be an order
again. Every other order is refused whoever seals it. A recorded task is taken again, as the broker's own redelivery
is: that it changes nothing is the database's business (docs/decisions/0055).
"""

from __future__ import annotations

import base64
import errno
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from btcfi.adapters.files import KeystoreExistsError, read_untrusted_text, write_private
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import sha256

if TYPE_CHECKING:
    from settings.deployment import Deployment

OPTION: Final = "btcfi_seal"
"""The transport option by which each connection of an application finds its seal."""

MAC_HEADER: Final = "btcfi_mac"
"""``1.KEY.MAC``: version, the key's id, HMAC-SHA256 in hexadecimal."""

AT_HEADER: Final = "btcfi_at"
ONCE_HEADER: Final = "btcfi_once"
"""Of an operator's order alone: unix seconds by its sender's clock, and a nonce."""

REDELIVERED: Final = "redelivered"

KEY_BYTES: Final = 32
KEY_CHANGE_SECONDS: Final = 900
"""For which an old key is still accepted: the broker's visibility timeout, after which it hands out again what a worker
of before the change held (``workers.app`` has the same number; a test compares)."""

MAX_KEYS: Final = 8
MOST_DIGITS: Final = 12
"""Of a time in unix seconds."""

MAX_KEY_FILE_BYTES: Final = 4_096

ORDER_SECONDS: Final = 60.0
"""For which an operator's order is good; the clocks of two hosts may differ by so much."""

MAX_NONCES: Final = 10_000
"""Nonces that a worker remembers, for as long as their orders would be good."""

RELOAD_SECONDS: Final = 1.0
"""Between two looks at a key file."""

_ACTIVE: Final = frozenset({"safe"})
READS: Final[Mapping[str, frozenset[str]]] = {
    "ping": frozenset(),
    "active": _ACTIVE,
    "active_queues": frozenset(),
    "stats": frozenset(),
    "registered": frozenset({"taskinfoitems", "builtins"}),
    "scheduled": _ACTIVE,
    "reserved": _ACTIVE,
    "revoked": frozenset(),
    "conf": frozenset({"with_defaults"}),
    "enable_events": frozenset(),
}
"""Questions of health, console and Flower, each with the arguments that it may have: any of our processes asks them.
``enable_events`` is what Flower says every few seconds; our workers send events anyway."""

ORDERS: Final[Mapping[str, frozenset[str]]] = {
    "add_consumer": frozenset({"queue", "exchange", "exchange_type", "routing_key"}),
    "cancel_consumer": frozenset({"queue"}),
}
"""What only the operator may order. ``exchange_type`` and its like are what Celery's client fills in."""

_CONTROL: Final = "celery.pidbox"
_REPLY: Final = "reply.celery.pidbox"
_EVENTS: Final = "celeryev"

CONTROL: Final = "control"
EVENT: Final = "event"
QUEUE: Final = "queue"
REPLY: Final = "reply"


log = structlog.get_logger("btcfi.seal")


class NoOperatorKeyError(BtcfiError):
    """A worker is to be steered by a process that has not the operator's key."""

    def __init__(self, method: str, path: Path) -> None:
        super().__init__(f"{method} needs the operator's key, and {path} is not there: docs/how-to/run-a-fleet.md")
        self.method, self.path = method, path


def place_published(exchange: str, routing_key: str) -> tuple[str, str]:
    """Return where an envelope goes: its kind, and the name of the queue or of who is answered."""
    if exchange == _CONTROL:
        return CONTROL, ""
    if exchange == _REPLY:
        return REPLY, routing_key
    if exchange == _EVENTS:
        return EVENT, ""
    return QUEUE, routing_key  # the default exchange, or the direct one that is called as its queue


def place_delivered(queue: str) -> tuple[str, str]:
    """Return where an envelope came from, by the queue that kombu names: the same as ``place_published`` of it."""
    if queue.endswith(f".{_REPLY}"):
        return REPLY, queue.removesuffix(f".{_REPLY}")
    if queue.endswith(f".{_CONTROL}"):
        return CONTROL, ""
    if queue.startswith(f"{_EVENTS}."):
        return EVENT, ""
    return QUEUE, queue


def covered(envelope: Mapping[str, Any], place: tuple[str, str]) -> bytes:
    """Return the bytes that a MAC is over. Raises TypeError or ValueError for what JSON has no words for."""
    headers = {k: v for k, v in envelope["headers"].items() if k not in {MAC_HEADER, REDELIVERED}}
    properties = {k: v for k, v in envelope["properties"].items() if k not in {"delivery_info", "delivery_tag"}}
    parts = ["btcfi/message/1", *place, envelope["body"], envelope["content-type"], envelope["content-encoding"]]
    return json.dumps([*parts, headers, properties], sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a file."""

    secret: bytes
    until_unix: float | None = None
    """After which it is accepted no more; None: no end."""

    @property
    def id(self) -> str:
        """Tells keys apart without telling them."""
        return sha256(b"btcfi/broker-key-id" + self.secret).hex()[:12]

    def mac(self, data: bytes) -> str:
        """Return the MAC of some bytes."""
        return hmac.digest(self.secret, data, "sha256").hex()

    def __repr__(self) -> str:
        return f"Key({self.id})"


def parse_keys(text: str, *, where: str) -> list[Key]:
    """Return a file's keys, the one that seals first.

    A line each: ``HEX`` seals, ``next HEX`` is accepted before it seals, ``old HEX UNIX`` until then. Raises
    InvalidInputError.
    """
    first: list[Key] = []
    others: list[Key] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        match line.split():
            case [secret]:
                first.append(Key(_secret(secret, where)))
            case ["next", secret]:
                others.append(Key(_secret(secret, where)))
            case ["old", secret, until] if until.isascii() and until.isdigit() and len(until) <= MOST_DIGITS:
                others.append(Key(_secret(secret, where), float(until)))
            case _:
                raise InvalidInputError(where, "a line that is no key", "HEX, next HEX, or old HEX UNIX_SECONDS")
    if len(first) != 1 or len(others) >= MAX_KEYS:
        raise InvalidInputError(where, f"{len(first)} keys that seal, {len(others)} others", "one that seals")
    return first + others


def _secret(text: str, where: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != KEY_BYTES:
        raise InvalidInputError(where, "no key", f"{KEY_BYTES} bytes in hexadecimal: openssl rand -hex {KEY_BYTES}")
    return found


class KeyFile:
    """The keys of a file, read again when it changes: a key change needs no restart."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path, self._clock = path, clock
        self._seen: tuple[int, int, int] | None = None
        self._keys: list[Key] = []
        self._looked = float("-inf")
        self._by_id: dict[str, Key] = {}

    def __repr__(self) -> str:
        return f"KeyFile({self.path})"

    def there(self) -> bool:
        """Return whether the file exists."""
        return self.path.exists()

    def load(self) -> None:
        """Read the file now. Raises InvalidInputError, NotFoundError, UntrustedFileError."""
        self._looked = time.monotonic()
        found = self._stamp()
        text = read_untrusted_text(self.path, at_most=MAX_KEY_FILE_BYTES, what="a broker key", named=True)
        self._keys = parse_keys(text, where=str(self.path))
        self._by_id = {key.id: key for key in self._keys}
        self._seen = found

    def sealing(self) -> Key:
        """Return the key that seals. Raises as ``load``."""
        self._refresh()
        if not self._keys:
            self.load()
        return self._keys[0]

    def accepted(self, key_id: str) -> Key | None:
        """Return the key of this id, if it is accepted now."""
        self._refresh()
        if key_id not in self._by_id:
            self._refresh(at_once=True)  # who sends may have read a change a moment before us
        key = self._by_id.get(key_id)
        if key is None or (key.until_unix is not None and self._clock() > key.until_unix):
            return None
        return key

    def _refresh(self, *, at_once: bool = False) -> None:
        if not at_once and time.monotonic() - self._looked < RELOAD_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            if self._stamp() != self._seen:
                self.load()
        except (BtcfiError, OSError):
            pass  # in the middle of a change, or gone: what was read last holds

    def _stamp(self) -> tuple[int, int, int]:
        found = self.path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size


def make_key(path: Path) -> bool:
    """Make a key where none is, readable by its owner alone; return whether it was made."""
    if path.exists():
        return False
    try:
        write_private(path, f"{secrets.token_hex(KEY_BYTES)}\n".encode(), fresh=True)
    except KeystoreExistsError:  # another process made it at the same moment, and it may be in use
        return False
    return True


def change_key(path: Path, *, now: float) -> str:
    """Put a new key before the one that seals, which is accepted for ``KEY_CHANGE_SECONDS`` more; return the new id.

    Raises as ``KeyFile.load``, and InvalidInputError for a file that is mounted by itself, as a container's secret: it
    cannot be replaced. For processes that read this very file: on several hosts, write the lines by hand.
    """
    file = KeyFile(path)
    file.load()
    old = [*(k for k in file._keys[1:] if k.until_unix is None or k.until_unix > now)]  # noqa: SLF001 - ours
    fresh = Key(secrets.token_bytes(KEY_BYTES))
    lines = [fresh.secret.hex(), f"old {file.sealing().secret.hex()} {int(now) + KEY_CHANGE_SECONDS}"]
    lines += [f"old {k.secret.hex()} {int(k.until_unix)}" for k in old if k.until_unix is not None]
    try:
        write_private(path, ("\n".join(lines[:MAX_KEYS]) + "\n").encode())
    except OSError as e:
        if e.errno not in {errno.EBUSY, errno.EROFS, errno.EXDEV}:
            raise
        raise InvalidInputError(
            str(path), f"cannot be replaced here ({e.strerror}): a file that is mounted into a container",
            "the change where the file itself lies, and all containers made anew: docs/operating.md, Compose",
        ) from e  # fmt: skip
    return fresh.id


def prepare(deployment: Deployment) -> bool:
    """Make the deployment's two keys where they are missing; return whether any was made."""
    return any([make_key(deployment.broker_key_file), make_key(deployment.operator_key_file)])


class Seal:
    """Seals what an application publishes, and says what is wrong with what it is given."""

    def __init__(
        self, keys: KeyFile | None, operator: KeyFile, *, accept_unsigned: bool, clock: Callable[[], float] = time.time
    ) -> None:
        """keys: None where there is none, which only goes with ``accept_unsigned``."""
        self._keys, self._operator, self.accept_unsigned, self._clock = keys, operator, accept_unsigned, clock
        self._nonces: dict[str, float] = {}

    def __repr__(self) -> str:
        # kombu shares a pool among connections whose options have the same text: those of the same keys, and no others
        return f"Seal({self._keys}, {self._operator}, accept_unsigned={self.accept_unsigned})"

    def __json__(self) -> str:
        """Return what a worker's answer to ``stats``, which names the options of its connection, says of it."""
        return repr(self)

    def sign(self, envelope: dict[str, Any], exchange: str, routing_key: str) -> None:
        """Put the MAC into the headers of an envelope that is about to be written. Raises NoOperatorKeyError."""
        place = place_published(exchange, routing_key)
        envelope["headers"] = headers = dict(envelope["headers"])
        headers.pop(MAC_HEADER, None)
        key: Key | None
        if place[0] == CONTROL and (method := _method(envelope)) in ORDERS:
            if not self._operator.there():
                raise NoOperatorKeyError(method, self._operator.path)
            key = self._operator.sealing()
            headers[AT_HEADER], headers[ONCE_HEADER] = round(self._clock(), 3), secrets.token_hex(16)
        else:
            key = self._keys.sealing() if self._keys is not None else None
        if key is not None:
            headers[MAC_HEADER] = f"1.{key.id}.{key.mac(covered(envelope, place))}"

    def refusal(self, envelope: Mapping[str, Any], queue: str) -> str | None:
        """Return why an envelope that came by ``queue`` is not taken; None for one that is.

        envelope: of the shape that the guard lets through, so that nothing here can fail on it.
        """
        place = place_delivered(queue)
        given = envelope["headers"].get(MAC_HEADER)
        by_operator = False
        if given is None or (self._keys is None and self.accept_unsigned):
            if not self.accept_unsigned:
                return "not sealed: no process of this deployment sent it"
        else:
            problem, by_operator = self._broken(given, covered(envelope, place))
            if problem is not None:
                return problem
        if place[0] == CONTROL:
            return self._not_ours_to_do(envelope, by_operator=by_operator)
        return "sealed by the operator's key, which only steers" if by_operator else None

    def _broken(self, given: object, data: bytes) -> tuple[str | None, bool]:
        """Return what is wrong with a MAC, and whether its key is the operator's."""
        version, _, rest = given.partition(".") if isinstance(given, str) else ("", "", "")
        key_id, _, mac = rest.partition(".")
        if version != "1" or not key_id.isascii() or not mac.isascii():
            return "a seal of no kind that we know", False
        key = self._keys.accepted(key_id) if self._keys is not None else None
        by_operator = key is None
        if key is None and (self._operator.there()):
            key = self._operator.accepted(key_id)
        if key is None:
            return "sealed with a key that this process does not have: are the fleet's the same?", False
        return (None if hmac.compare_digest(key.mac(data), mac) else "its seal is not of its content"), by_operator

    def _not_ours_to_do(self, envelope: Mapping[str, Any], *, by_operator: bool) -> str | None:
        """Return why an order or a question is not for a worker to follow."""
        body = control_body(envelope)
        if body is None:
            return "no question or order that remote control knows"
        method, arguments = body["method"], body["arguments"] or {}
        known = READS.get(method, ORDERS.get(method))
        if known is None:
            return f"remote control: {method[:40]!r} is nobody's to order"
        if not set(arguments) <= known:
            return f"remote control: {method} with arguments that it has not"
        if method in READS:
            return None
        if not by_operator:
            return f"remote control: {method} needs the operator's key"
        return self._stale(envelope["headers"])

    def _stale(self, headers: Mapping[str, Any]) -> str | None:
        at, once = headers.get(AT_HEADER), headers.get(ONCE_HEADER)
        if not isinstance(at, int | float) or isinstance(at, bool) or not isinstance(once, str):
            return "an order without its moment"
        now = self._clock()
        if abs(now - at) > ORDER_SECONDS:
            return f"an order of {now - at:+,.0f} s ago: a recording, or two clocks that differ"
        if once in self._nonces:
            return "an order that was given before"
        self._nonces = {n: then for n, then in self._nonces.items() if now - then <= 2 * ORDER_SECONDS}
        if len(self._nonces) >= MAX_NONCES:
            return "more orders than anybody gives"
        self._nonces[once] = now
        return None


def _method(envelope: Mapping[str, Any]) -> str:
    body = control_body(envelope)
    return "" if body is None else str(body["method"])


def control_body(envelope: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a message of remote control says, None when it is not of the one shape that Celery writes."""
    try:
        body = json.loads(base64.b64decode(envelope["body"], validate=True))
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(body, dict) or not isinstance(body.get("method"), str):
        return None
    if set(body) - {"method", "arguments", "destination", "pattern", "matcher", "ticket", "reply_to"}:
        return None
    reply_to, destination = body.get("reply_to"), body.get("destination")
    fits = (
        isinstance(body.get("arguments"), dict | None)
        # a pattern is an expression that somebody else wrote, and we never send one
        and body.get("pattern") is None
        and body.get("matcher") is None
        and (destination is None or (isinstance(destination, list) and all(isinstance(d, str) for d in destination)))
        and isinstance(body.get("ticket"), str | None)
        and (reply_to is None or _is_reply_address(reply_to))
    )
    return {**body, "arguments": body.get("arguments")} if fits else None


def _is_reply_address(found: object) -> bool:
    return (
        isinstance(found, dict)
        and set(found) == {"exchange", "routing_key"}
        and found["exchange"] == _REPLY
        and isinstance(found["routing_key"], str)
    )


def seal_of(deployment: Deployment) -> Seal:
    """Return the seal of a deployment's processes.

    Raises InvalidInputError where there is no key, unless BTCFI_BROKER_UNSIGNED says ``accept``.
    """
    accept = deployment.broker_unsigned == "accept"
    keys: KeyFile | None = KeyFile(deployment.broker_key_file)
    if accept:
        log.warning(
            "messages without a seal are taken: whoever reaches the broker can start any task",
            setting="BTCFI_BROKER_UNSIGNED",
        )
    if keys is not None and keys.there():
        keys.load()
    elif accept:
        keys = None
    else:
        raise InvalidInputError(
            "BTCFI_BROKER_KEY_FILE", f"{deployment.broker_key_file} is not there",
            "the deployment's key: `btcfi prepare` makes it, and every host has the same",
        )  # fmt: skip
    return Seal(keys, KeyFile(deployment.operator_key_file), accept_unsigned=accept)
