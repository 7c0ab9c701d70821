"""Webhooks: what is signed of a message, which addresses one may go to, and when it is sent again.

Signed as the Standard Webhooks specification has it (standard-webhooks/standard-webhooks, spec/standard-webhooks.md):
HMAC-SHA256 over ``id.timestamp.body``, so that any of its libraries verifies what a desk sends. Nothing here sends.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.units import UnixSeconds

SECRET_BYTES: Final = 32
"""The specification asks for 24 to 64."""

MAX_URL: Final = 500

LONGEST_REST_SECONDS: Final = 6 * 3_600
"""Between two attempts at one message."""

MOST_TRIES: Final = 23
"""Attempts at one message before its hook is turned off: 5 s, doubled to 6 hours, come to three days."""

_PREFIX: Final = "whsec_"
_SIGNED_BY: Final = "v1"
_ID_TAG: Final = "BTCFi/webhook/message/v1"
_FIRST_REST_SECONDS: Final = 5
_LEAST_PORT: Final = 1024
_PORTS: Final = {"http": 80, "https": 443}
_HOST_SIGNS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")

_NOT_FOR_STRANGERS: Final = tuple(
    map(
        IPv4Network,
        (
            "168.63.129.16/32",  # Azure's own service of every machine: a public number that is not
            "192.0.0.0/24",  # of the protocol's own use, and of a cloud's metadata (192.0.0.192)
            "192.88.99.0/24",  # a relay of 6to4, once
        ),
    )
)
"""What ``is_global`` lets pass, in one version of Python or another."""

_PUBLIC_6: Final = IPv6Network("2000::/3")
"""All that is given out (IANA, IPv6 global unicast): what is mapped, translated (64:ff9b::/96) or local is outside."""
_NOT_FOR_STRANGERS_6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # of the protocol's own use, Teredo among it: an IPv4 address lies inside
            "2001:db8::/32",
            "2002::/16",  # 6to4: an IPv4 address lies inside
        ),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where messages of a hook go."""

    scheme: str
    host: str
    """In small letters; of an IPv6 address without its brackets."""
    port: int
    target: str
    """Path and query."""

    @property
    def authority(self) -> str:
        """What the header ``Host`` says."""
        named = f"[{self.host}]" if ":" in self.host else self.host
        return named if self.port == _PORTS[self.scheme] else f"{named}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRule:
    """Where a deployment lets messages go."""

    loopback: bool = False
    """Whether its own loopback, by http too: of a chain that is played on one machine alone."""

    def endpoint(self, url: str) -> Endpoint:
        """Return where a URL leads: https, a host that is no address of a private network, no credentials.

        Its host's name is looked up when something is sent. Raises InvalidInputError.
        """
        parts = _parts(url)
        found = Endpoint(
            scheme=parts.scheme, host=(parts.hostname or "").lower(), port=parts.port or _PORTS[parts.scheme],
            target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        )  # fmt: skip
        address = _address(found.host)
        local = self.loopback and (found.host == "localhost" or (address is not None and address.is_loopback))
        if local:
            return found
        if found.scheme != "https":
            expected = "https" + ("; http on the loopback alone" if self.loopback else "")
            raise InvalidInputError("url", f"{found.scheme}://", expected)
        if found.port != _PORTS["https"] and found.port < _LEAST_PORT:
            raise InvalidInputError("url", f"port {found.port}", f"443, or {_LEAST_PORT} and above")
        if address is None:
            _check_name(found.host)
        elif not is_public(found.host):
            raise InvalidInputError("url", found.host[:60], "a host that the whole Internet reaches")
        return found

    def allows(self, address: str, endpoint: Endpoint) -> bool:
        """Return whether something may be sent to an address that the endpoint's host was found to have."""
        found = _address(address)
        if self.loopback and found is not None and found.is_loopback:
            return endpoint.host == "localhost" or _address(endpoint.host) is not None
        return endpoint.scheme == "https" and is_public(address)


def is_public(address: str) -> bool:
    """Return whether an address is one that everybody reaches: no private, local, shared, reserved or metadata one."""
    found = _address(address)
    if found is None or found.is_multicast or not found.is_global:
        return False
    if isinstance(found, IPv4Address):
        return not any(found in network for network in _NOT_FOR_STRANGERS)
    return found.scope_id is None and found in _PUBLIC_6 and not any(found in one for one in _NOT_FOR_STRANGERS_6)


def encode_secret(secret: bytes) -> str:
    """Return a secret as its owner gets it, once."""
    return _PREFIX + b64encode(secret).decode()


def decode_secret(text: str) -> bytes:
    """Return the bytes of a secret. Raises InvalidInputError."""
    try:
        return b64decode(text.removeprefix(_PREFIX), validate=True)
    except ValueError as e:
        raise InvalidInputError("secret", "another text", f"{_PREFIX} and base64") from e


def signature(secret: bytes, *, message: str, at: UnixSeconds, body: bytes) -> str:
    """Return what ``webhook-signature`` says. at: of this attempt."""
    signed = f"{message}.{at}.".encode() + body
    return f"{_SIGNED_BY},{b64encode(hmac.digest(secret, signed, sha256)).decode()}"


def message_id(hook: str, *parts: str | int) -> str:
    """Return the id of a message of a hook, the same in every attempt.

    parts: of what it is about; its number alone is not enough, for a restored store gives numbers out again.
    """
    about = "\n".join((hook, *map(str, parts)))
    return f"msg_{tagged_hash(_ID_TAG, about.encode()).hex()[:32]}"


def rest_seconds(tries: int, draw: float) -> int:
    """Return how long to rest after so many attempts at one message. draw: 0 to 1, at random.

    A fifth more or less, so that those who failed together do not come back together.
    """
    whole: int = min(_FIRST_REST_SECONDS * 2 ** min(max(tries, 1) - 1, 30), LONGEST_REST_SECONDS)
    return round(whole * (0.8 + 0.4 * draw))


def _parts(url: str) -> SplitResult:
    expected = f"https://host/path, at most {MAX_URL} characters, without name and password"
    if not url.isascii() or not url.isprintable() or any(sign in url for sign in " \\#@") or len(url) > MAX_URL:
        raise InvalidInputError("url", repr(url)[:60], expected)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise InvalidInputError("url", repr(url)[:60], expected) from e
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise InvalidInputError("url", repr(url)[:60], expected)
    return parts


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _check_name(host: str) -> None:
    """Raise InvalidInputError for what is neither a name of letters nor an address as it is usually written.

    127.1, 0x7f.1 and 2130706433 are addresses to a system's resolver.
    """
    labels = host.split(".")
    well = set(host) <= _HOST_SIGNS and all(0 < len(label) < 64 for label in labels)  # noqa: PLR2004 - RFC 1035
    if not well or len(labels) < 2 or not labels[-1][0].isalpha():  # noqa: PLR2004 - a domain and a top one
        raise InvalidInputError("url", repr(host)[:60], "a host's full name, such as hooks.example.com")
