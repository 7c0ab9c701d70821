"""All that the API is given by the process that runs it: nothing here is looked up, imported late or global."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from btcfi.adapters.chain.pool import FeeMarket
from btcfi.adapters.desk_key import DeskPublic
from btcfi.adapters.store.options.sales import QUOTE_SECONDS, QuoteRule, SaleRule
from btcfi.adapters.store.spine.database import Store
from btcfi.bitcoin.fees import FeeRule
from btcfi.market.firm_offer import OfferRule
from btcfi.market.listing import ListingRule
from btcfi.market.webhook import HookRule
from btcfi.options.order import Order
from btcfi.options.terms import InvalidTermsError, OptionTerms
from btcfi.oracle.fixing import MINUTE, Fixing
from btcfi.oracle.quote import Feed
from btcfi.units import BasisPoints, UnixSeconds

READ: Final = "read"
TRADE: Final = "trade"
OPERATE: Final = "operate"
ROLES: Final = (READ, TRADE, OPERATE)
"""See everything that is not secret; create options; ask for a settlement and read the book's risk."""

ACCOUNT: Final = "account"
SIGNED: Final = "signed"
"""See an account's things; act for it. No key is made with them: they follow from who calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedOption:
    """An option that now exists."""

    option_id: str
    premium_cents: int
    """For the whole quantity."""
    premium_sats: int
    collateral_sats: int
    taproot_address: str | None
    """Where the contract is funded; None until the parties' keys are known."""


class CreateOption(Protocol):
    """Creates the option, or returns the one that its order already made. Raises BtcfiError."""

    def __call__(self, order: Order) -> CreatedOption:
        """Return the option of ``order``."""


class Submit(Protocol):
    """Starts one flow of the pipeline by its name, with ids as arguments, once its row is committed."""

    def __call__(self, flow: str, *arguments: str) -> None:
        """Publish the work; losing it is harmless, for the row says that it is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what one caller may cost."""

    body_bytes: int = 64 << 10
    """Of any request but a proof to verify."""
    proof_bytes: int = 4 << 20
    """The library's own limit of a proof file."""
    dispute_bytes: int = 1 << 20
    """Of the public part of a disputed contract: ``btcfi.disputes.public.MAX_BYTES``."""
    anonymous_requests_per_minute: int = 600
    """Of one address without a key; a keyed caller's limit stands in its key."""
    requests_at_once: int = 16
    """Under way of one caller, streams aside; more of them wait, without their bodies."""
    wait_seconds: float = 20.0
    """So long; then they are refused."""
    verifications_at_once: int = 2
    """Proofs that are run again by one process, one of a caller; the others wait."""
    body_seconds: float = 10.0
    """In which a body may come as it likes; from then on at least 64 KiB a second."""
    room_bytes: int = 32 << 20
    """Of all bodies that are still coming or being worked on, in one process."""
    room_bytes_per_caller: int = 9 << 20
    """Of them of one caller: two proofs."""
    streams: int = 64
    """Open event streams of one process."""
    streams_per_caller: int = 12
    """Of them of one key, or of one address without a key."""
    stream_seconds: float = 86_400.0
    """A stream is ended then; its reader resumes with Last-Event-ID."""
    page: int = 500
    """Rows of one page."""
    offers_bytes: int = 512 << 10
    """Of a request with 500 signed offers."""
    letter_bytes: int = 4 << 20
    """Of a request with one letter, which has a contract's signatures in base64: ten times the standard preset's."""
    letters_bytes: int = 4 << 20
    """Of the letters of one answer, sealed, from the second on."""
    waiting: int = 512
    """Requests that wait for letters in one process."""
    waiting_per_account: int = 2
    """Of them of one account: the one that a restart left behind, and its successor."""
    registrations_per_minute: int = 300
    """Of one address; a tenth of them at once."""
    stale_price_seconds: int = 300
    """A price older than this is not even shown as the market's: five missed rounds. Nothing is quoted or sold at one
    that is stale, thin or halted by its own status, which comes much sooner."""


def _no_oracles() -> Sequence[tuple[str, str | None]]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskCard:
    """What a party pins before it trades here."""

    public: DeskPublic
    network: str
    oracle_threshold: int
    preset: str
    preset_sha256: str
    programs: Mapping[str, str]
    """Guest programs of new contracts: name, SHA-256 in hex."""
    oracles: Callable[[], Sequence[tuple[str, str | None]]] = _no_oracles
    """URL and key, hex, of each; None while it does not answer. Called in a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketRules:
    """What the market's preset and the sale's say about offers and takes."""

    preset: str
    preset_sha256: str
    listing: ListingRule
    offers: OfferRule
    sales: SaleRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """The API's surroundings."""

    store: Store
    clock: Callable[[], UnixSeconds]
    """The wall clock: keys, idempotency, requests."""
    monotonic: Callable[[], float]
    """Seconds that never go back: for rate limits and caches."""
    new_id: Callable[[], str]
    """A fresh unguessable id, for orders that bring no Idempotency-Key."""
    create_option: CreateOption
    submit: Submit
    feed: str
    """The feed whose rounds price everything."""
    fixing: Fixing = MINUTE
    """What settles an option whose order or query names nothing else; the preset's."""
    rate: float = 0.0
    """Risk-free, continuously compounded per year; the preset's."""
    replay_clock: bool = False
    """Whether the market's time is the end of the newest priced minute, as in a replay, and not the wall clock's."""
    fallback_volatility: float = 0.6
    """Per square-root year, while the rounds are too few to estimate from; the preset's."""
    quote_seconds: int = QUOTE_SECONDS
    """How long a premium that was shown is a limit to sell by."""
    refusal: Callable[[OptionTerms], InvalidTermsError | None] = lambda _: None
    """Why the parties would refuse terms, or their expiry never comes; the sale's own."""
    anonymous_roles: frozenset[str] = frozenset({READ})
    """What a caller without a key may do."""
    programs: Path | None = None
    """Folder of guest programs that proofs are verified against; None: the committed ones."""
    cors_origins: tuple[str, ...] = ()
    """Browser origins that may call; none by default."""
    hosts: tuple[str, ...] = ()
    """Host names it answers to, without port; any when empty."""
    limits: Limits = field(default_factory=Limits)
    desk: DeskCard | None = None
    """The service as parties see it; None: it has no key, and no accounts."""
    market_rules: MarketRules | None = None
    """By which offers and takes are judged; None: nothing is listed, and nothing taken."""
    hooks: HookRule | None = None
    """Where accounts may have their events sent; None: nowhere."""
    entropy: Callable[[int], bytes] = secrets.token_bytes
    """So many random bytes from the system."""
    pool: Callable[[], FeeMarket] | None = None
    """The node's pool, not older than a few seconds. Called in a thread; may raise BtcfiError. None: no node is set."""
    fee_rule: FeeRule = field(default_factory=FeeRule)
    """By which settlements pay; the preset's."""

    @property
    def quote_rule(self) -> QuoteRule:
        """What every premium that is shown is made by: the sale's own rule."""
        return QuoteRule(
            feed=Feed(self.feed), rate_bps=BasisPoints(round(self.rate * 10_000)), fixing=self.fixing,
            fallback_volatility_bps=round(self.fallback_volatility * 10_000), quote_seconds=self.quote_seconds,
            refusal=self.refusal,
        )  # fmt: skip
