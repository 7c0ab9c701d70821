"""All that the desk is given by the process that runs it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from btcfi.surfaces.rest.deps import Deps
from dashboards.shared.limits import PageLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskLimits(PageLimits):
    """Bounds on what one visitor may cost, and on how long a sign-in lasts."""

    requests_per_minute: int = 600
    """Of one address; a tenth of it at once."""
    documents_bytes: int = 4 << 20
    """Of the files of one verification, together."""
    room_bytes: int = 24 << 20
    room_bytes_per_address: int = 5 << 20
    verifications_at_once: int = 2
    """Contracts that one process rebuilds at the same time, one of an address; the others wait."""
    session_seconds: int = 12 * 3_600
    """From one sign-in to the next: one working day."""
    idle_seconds: int = 2 * 3_600
    """Without a request a session ends earlier."""
    codes_per_minute: int = 20
    """That browsers of one address are shown; a tenth of them at once."""
    api_keys: int = 20
    """That an account has at a time."""
    prices_at_once: int = 2
    """What-ifs that one process computes at the same time, one of an account; the others wait."""
    most_documents: int = 24
    """Files of one verification: three messages, and the announcements of as many oracles as a contract can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractFacts:
    """What a new contract here is bound to, for a ticket."""

    oracle_urls: tuple[str, ...] = ()
    """Where they answer; empty where this service runs its own."""
    oracles: int = 1
    oracle_threshold: int = 1
    """How many must attest the same price."""
    fee_sats_per_vbyte: int = 1
    refund_delay_blocks: int = 144
    confirmations: int = 6
    answer_seconds: int = 20
    """In which each side has to do its step of a take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskDeps:
    """The desk's surroundings."""

    api: Deps
    """Store, feed, clock, rate, limits and the market's rules, as the REST application has them."""
    facts: ContractFacts = field(default_factory=ContractFacts)
    network: str = "regtest"
    """Named on every page; addresses are read as its own."""
    api_url: str | None = None
    """Linked: the API's own documentation."""
    hosts: tuple[str, ...] = ()
    """Host names it answers to, without port; any when empty."""
    entropy: Callable[[int], bytes] = secrets.token_bytes
    """So many random bytes from the system."""
    secure_cookies: bool = False
    """Set when the desk is reached by https; on plain loopback a browser may refuse such cookies."""
    limits: DeskLimits = field(default_factory=DeskLimits)

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """The navigation: path and title."""
        own = (("/for-sale", "For sale"), ("/positions", "Positions")) if self.accounts else ()
        return (("/", "Chain"), ("/quotes", "Quotes"), ("/smile", "Smile"), *own, ("/verify", "Verify"))

    @property
    def accounts(self) -> bool:
        """Whether anybody can have an account here: the service has a desk's key."""
        return self.api.desk is not None
