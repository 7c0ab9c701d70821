"""The shapes of the market's requests and answers. Prices are of one bitcoin, and quantities hundredths of one."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictInt, computed_field

from btcfi.adapters.store.market.tables import (
    AccountState,
    Carrier,
    CloseState,
    Fault,
    OfferState,
    RequestState,
    TakeState,
)
from btcfi.adapters.store.market.transfer_tables import ConsentState, TransferOfferState, TransferState
from btcfi.adapters.store.market.webhook_tables import HookState
from btcfi.bitcoin.fees import DUST_P2TR, MAX_FEE_RATE, MIN_RELAY_FEE_RATE
from btcfi.market.auction import LEAST_STEP_SECONDS, MOST_STEP_SECONDS, MOST_STEPS
from btcfi.market.firm_offer import TICK_SATS, Side
from btcfi.market.instrument import LONGEST_NAME
from btcfi.market.request import Wanted
from btcfi.market.webhook import MAX_URL
from btcfi.options.terms import MAX_QUANTITY
from btcfi.surfaces.rest.schemas import MAX_UNIX, Answer, Option, OptionType, Request, When
from btcfi.surfaces.rest.times import iso
from btcfi.units import MAX_MONEY_SATS, MAX_U32

MOST_OFFERS = 500
"""Of one request."""

MAX_NUMBER = 2**63 - 1

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, pattern=r"^[A-Za-z0-9-]+$")]
Quantity = Annotated[int, Field(strict=True, ge=1, le=MAX_QUANTITY)]
PriceSats = Annotated[int, Field(strict=True, ge=TICK_SATS, le=MAX_MONEY_SATS, multiple_of=TICK_SATS)]
PriceCents = Annotated[int, Field(strict=True, ge=1, le=MAX_U32)]
WholePrice = Annotated[int, Field(strict=True, ge=DUST_P2TR, le=MAX_MONEY_SATS)]
Time = Annotated[int, Field(strict=True, ge=0, le=MAX_UNIX)]
Role = Literal["writer", "holder"]
Number = Annotated[int, Field(strict=True, ge=0, le=MAX_NUMBER)]


def body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the document's word on a body that is read by its own reader."""
    schema = kind.model_json_schema()
    inner = schema.pop("$defs", {})

    def inlined(part: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(part, list):
            return [inlined(one) for one in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inlined(inner[part["$ref"].rpartition("/")[2]])
        return {name: inlined(one) for name, one in part.items()}

    return {"required": True, "content": {"application/json": {"schema": inlined(schema)}}}


# ---- requests


class SignedText(Request):
    """A text that is signed whole: its times are in seconds alone, as its signature has them."""


class SignedRegistration(SignedText):
    """An account's name and keys, signed by its identity."""

    type: Literal["btcfi/registration"]
    """Of the text."""
    version: Literal[1]
    """Of the text."""
    name: str = Field(min_length=3, max_length=32, pattern=r"^[a-z][a-z0-9-]{1,30}[a-z0-9]$")
    """Of the account."""
    identity: Key
    """The identity key, x-only, hex: the account."""
    request_key: Key
    """x-only, hex: signs requests, offers, takes and letters."""
    box_key: Key
    """X25519, hex: letters to the account are sealed to it."""
    desk: Key
    """This service's key, x-only, hex."""
    number: int = Field(strict=True, ge=1, le=2**31 - 1)
    """Above every one before."""
    at_unix: Time
    """When it was signed."""
    signature: Signature
    """BIP340, hex."""


class Auction(Request):
    """How an offer's price moves, by steps of the clock; the offer's own price is that of step 0."""

    begins_unix: Time
    """When step 0 begins; before it nothing is taken."""
    step_seconds: int = Field(strict=True, ge=LEAST_STEP_SECONDS, le=MOST_STEP_SECONDS)
    """Of each step."""
    steps: int = Field(strict=True, ge=1, le=MOST_STEPS)
    """How often the price moves."""
    last_sats: PriceSats
    """The last step's price: below the first of an ask, above it of a bid."""
    last_cents: PriceCents
    """The last step's price."""


class SignedOffer(SignedText):
    """A firm offer, signed by its maker's request key."""

    type: Literal["btcfi/firm-offer"]
    """Of the text."""
    version: Literal[1]
    """Of the text."""
    maker: Key
    """The account that makes it."""
    desk: Key
    """This service's key, x-only, hex."""
    instrument: Name
    """Its one name."""
    side: Side
    """What the maker does: bid, it buys; ask, it writes."""
    price_sats: PriceSats
    """For one bitcoin."""
    price_cents: PriceCents
    """For one bitcoin."""
    quantity_centi_btc: Quantity
    """The most that all its takes may come to."""
    minimum_centi_btc: Quantity
    """The least that one take may be of."""
    valid_until_unix: Time
    """From this second on it is no more."""
    number: Number
    """The maker's own: each once."""
    taker: Key | None = None
    """The one account that may take it; left out: any."""
    request: Key | None = None
    """The request that it answers, whose taker it names; left out: none."""
    auction: Auction | None = None
    """How its price moves; left out: it does not."""
    signature: Signature
    """BIP340, hex."""


class SignedTake(SignedText):
    """A take of an offer, signed by its taker's request key."""

    type: Literal["btcfi/take"]
    """Of the text."""
    version: Literal[1]
    """Of the text."""
    taker: Key
    """The account that takes."""
    offer_id: Key
    """What is taken."""
    quantity_centi_btc: Quantity
    """How much of it."""
    price_sats: PriceSats
    """The offer's."""
    price_cents: PriceCents
    """The offer's."""
    valid_until_unix: Time
    """From this second on neither side signs anything of it that it has not signed before."""
    number: Number
    """The taker's own: the same again is the same take."""
    step: int | None = Field(default=None, strict=True, ge=0, le=MOST_STEPS)
    """The step of an auction whose price it is, which must have begun; left out: the offer's price does not move."""
    signature: Signature
    """BIP340, hex."""


class SignedTransferConsent(SignedText):
    """A seller's word that the other side of one contract may change, signed by its request key."""

    type: Literal["btcfi/transfer-consent"]
    """Of the text."""
    version: Literal[1]
    """Of the text."""
    seller: Key
    """The account that wrote the option."""
    desk: Key
    """This service's key, x-only, hex."""
    contract_id: Key
    """The contract, as both its sides know it."""
    valid_until_unix: Time
    """From this second on it allows nothing."""
    number: Number
    """The seller's own: each once."""
    signature: Signature
    """BIP340, hex."""


class SignedTransferOffer(SignedText):
    """A holder's firm offer of its position, whole, signed by its request key."""

    type: Literal["btcfi/transfer-offer"]
    """Of the text."""
    version: Literal[1]
    """Of the text."""
    holder: Key
    """The account that bought the option."""
    desk: Key
    """This service's key, x-only, hex."""
    contract_id: Key
    """The contract, as both its sides know it."""
    terms_hash: Key
    """Of every term of it, at this fee rate."""
    instrument: Name
    """Its one name."""
    quantity_centi_btc: Quantity
    """Of the position."""
    price_sats: WholePrice
    """Of the whole position: what the holder gets."""
    sats_per_kvb: Annotated[int, Field(strict=True, ge=MIN_RELAY_FEE_RATE, le=MAX_FEE_RATE)]
    """Fee rate of the transaction, which the newcomer pays."""
    valid_until_unix: Time
    """From this second on the holder signs nothing of it."""
    number: Number
    """The holder's own: each once."""
    taker: Key | None = None
    """The one account that may take it; left out: any."""
    signature: Signature
    """BIP340, hex."""


class SignedTransferTake(SignedText):
    """A newcomer's take of a position at its price, signed by its request key."""

    type: Literal["btcfi/transfer-take"]
    """Of the text."""
    version: Literal[1]
    """Of the text."""
    newcomer: Key
    """The account that takes it."""
    offer_id: Key
    """Of what offer."""
    price_sats: WholePrice
    """As the offer says it."""
    valid_until_unix: Time
    """From this second on nobody signs anything of it."""
    number: Number
    """The newcomer's own: each once."""
    signature: Signature
    """BIP340, hex."""


class SignedQuoteRequest(SignedText):
    """A request for quotes, signed by the request key of who asks."""

    type: Literal["btcfi/quote-request"]
    """Of the text."""
    version: Literal[1]
    """Of the text."""
    taker: Key
    """The account that asks: makers see it, and answer it alone."""
    desk: Key
    """This service's key, x-only, hex."""
    instrument: Name
    """Its one name, listed or not."""
    wanted: Wanted
    """What the account would do: buy, sell, or both, which says nothing."""
    quantity_centi_btc: Quantity
    """The most that an answer may be of."""
    valid_until_unix: Time
    """From this second on nobody answers it."""
    number: Number
    """The account's own: the same again is the same request."""
    signature: Signature
    """BIP340, hex."""


class PostOffers(Request):
    """Some offers; each is taken or refused for itself."""

    offers: list[SignedOffer] = Field(min_length=1, max_length=MOST_OFFERS)
    """The offers."""


class PostLetter(Request):
    """A letter to the desk."""

    name: str = Field(min_length=1, max_length=181, pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.~-]{0,180}$")
    """OPTION.KIND."""
    sealed: str = Field(min_length=4)
    """Sealed to the desk's box key, base64."""


class SignInAnswer(Request):
    """That a browser may look as this account, once its owner has typed there what the answer says."""

    browser: str = Field(max_length=80)
    """As the owner was shown it, and agreed to."""
    address: str = Field(max_length=80)
    """Likewise."""


class LetterQuery(Request):
    """Which letters, and how long to wait for one."""

    after: int = Field(default=0, ge=0, le=MAX_NUMBER)
    """Only letters of a number above this: the cursor of the answer before."""
    wait: int = Field(default=0, ge=0, le=25)
    """Seconds to wait while there is none."""
    limit: int = Field(default=50, ge=1, le=100)
    """The most letters of an answer; it has fewer where they are long."""


class Acknowledge(Request):
    """Letters that are kept now."""

    ids: list[Annotated[StrictInt, Field(ge=1, le=MAX_NUMBER)]] = Field(min_length=1, max_length=500)
    """Their numbers."""


class _Page(Request):
    limit: int = Field(default=100, ge=1, le=500)
    """Rows of the page."""
    cursor: str | None = Field(default=None, max_length=400)
    """The next_cursor of the page before."""


class OwnQuery(_Page):
    """Whose, and which page."""

    account: Key | None = None
    """Of this account; left out: the caller's own, and for an operator everybody's."""


class OwnOffers(OwnQuery):
    """Whose offers, and which page."""

    state: OfferState | None = None
    """Only those in this state."""


class OwnPositions(OwnQuery):
    """Whose options, which, and which page."""

    over: bool = False
    """Those that are over, with what each side got; left out: those that stand."""


class OwnCloses(OwnQuery):
    """Whose closes, and which page."""

    state: CloseState | None = None
    """Only those in this state."""


class OwnConsents(OwnQuery):
    """Whose consents, and which page."""

    state: ConsentState | None = None
    """Only those in this state."""


class OwnTransfers(OwnQuery):
    """Whose transfers, and which page."""

    state: TransferState | None = None
    """Only those in this state."""


class PositionsForSale(_Page):
    """Which offers of positions, and which page."""

    own: bool = False
    """Only the account's own, whatever became of them; left out: everybody's that stand."""
    instrument: Name | None = None
    """Only of this instrument."""


class WhichOffers(Request):
    """Which of the account's offers."""

    up_to_number: int | None = Field(default=None, ge=0, le=MAX_NUMBER)
    """Only those whose number is at most this; left out: whatever is open when the request is handled."""


class RequestsQuery(OwnQuery):
    """Which requests, and which page."""

    own: bool = False
    """Only the account's own, whatever became of them; left out: everybody's that can be answered."""


class AccountQuery(_Page):
    """Which page."""


class TradeQuery(_Page):
    """Which trades, and which page."""

    instrument: Name | None = None
    """Only of this instrument."""


class ChainQuery(Request):
    """Which expiry."""

    expiry: When | None = None
    """Seconds since 1970, or ISO 8601 with a zone; left out: the next one that is listed."""


class BookQuery(Request):
    """How much of a book."""

    limit: int = Field(default=100, ge=1, le=200)
    """The most offers of each side."""


# ---- answers


class DeskOracle(Answer):
    """One oracle of new contracts."""

    url: str
    """Where it answers."""
    key: str | None
    """x-only, hex; null while it does not answer."""


class Desk(Answer):
    """What a party pins before it trades here."""

    desk_key: str
    """x-only, hex: requests and registrations are for it, letters are signed by it."""
    box_key: str
    """X25519, hex: letters to the service are sealed to it."""
    network: str
    """main, test, testnet4, signet or regtest."""
    feed: str
    """What is priced."""
    oracles: list[DeskOracle]
    """Who attests new contracts."""
    oracle_threshold: int
    """How many of them must attest the same."""
    programs: dict[str, str]
    """Guest programs of new contracts: name, SHA-256 in hex."""
    preset: str
    """Whose numbers new contracts are bound to."""
    preset_sha256: str
    """Of its bytes, hex."""
    market_preset: str | None
    """Whose rules listing and offers follow; null where this service has none."""
    market_preset_sha256: str | None
    """Of its bytes, hex."""
    simulated: bool
    """Whether prices are replayed or generated."""
    advice: str
    """What to run next."""


class Account(Answer):
    """An account of the market."""

    identity: str
    """The identity key, x-only, hex."""
    name: str
    """Of the account."""
    request_key: str
    """x-only, hex: signs requests, offers, takes and letters."""
    box_key: str
    """X25519, hex: letters to the account are sealed to it."""
    number: int
    """Of its registration."""
    carrier: Carrier
    """How its letters travel."""
    state: AccountState
    """Whether it may begin anything new."""
    requests_per_minute: int
    """What it may ask."""
    joined_at_unix: int
    """When it was registered."""

    @computed_field
    def joined_at(self) -> str:
        """ISO 8601: when it was registered."""
        return iso(self.joined_at_unix)


class AccountPage(Answer):
    """Some accounts, newest first."""

    items: list[Account]
    """The accounts."""
    next_cursor: str | None
    """Names the next page; null on the last."""


class LetterPosted(Answer):
    """A letter that the desk has."""

    name: str
    """As it was given."""
    sent_at_unix: int
    """When the desk had it first."""

    @computed_field
    def sent_at(self) -> str:
        """ISO 8601: when the desk had it first."""
        return iso(self.sent_at_unix)


class WaitingLetter(Answer):
    """A letter to the account."""

    id: int
    """Its number: the later, the higher."""
    name: str
    """OPTION.KIND."""
    sealed: str
    """Sealed to the account's box key, base64."""
    sent_at_unix: int
    """When it was sent."""

    @computed_field
    def sent_at(self) -> str:
        """ISO 8601: when it was sent."""
        return iso(self.sent_at_unix)


class Letters(Answer):
    """Letters that wait, oldest first."""

    letters: list[WaitingLetter]
    """The letters."""
    cursor: int
    """The last one's number, or what was asked with where there is none."""


class Acknowledged(Answer):
    """Letters that are not sent again."""

    ids: list[int]
    """As they were given."""


class Instrument(Answer):
    """What can be traded."""

    name: str
    """Its one name."""
    type: OptionType
    """Its payoff."""
    strike_cents: int
    """US cents per bitcoin."""
    barrier_cents: int | None
    """Knock-out level in US cents per bitcoin; null where there is none."""
    american: bool
    """Whether it may be exercised before its expiry."""
    fixing: str
    """What settles it: minute, twap:N or median:N."""
    expiry_unix: int
    """When it ends."""
    collateral_sats: int
    """What its writer locks for one bitcoin."""
    listed: bool
    """Whether it stands on the list; others can be offered all the same."""

    @computed_field
    def expiry(self) -> str:
        """ISO 8601: when it ends."""
        return iso(self.expiry_unix)


class Instruments(Answer):
    """What is listed now."""

    items: list[Instrument]
    """By expiry, strike and kind."""


class Top(Answer):
    """One side of an instrument."""

    price_sats: int
    """The best price, for one bitcoin."""
    price_cents: int
    """Of the first offer at that price, for one bitcoin."""
    quantity_centi_btc: int
    """What there is at that price."""
    depth_centi_btc: int
    """What there is at every price."""
    offers: int
    """How many."""


class ChainLine(Answer):
    """One instrument of a chain."""

    instrument: str
    """Its name."""
    type: OptionType
    """Its payoff."""
    strike_cents: int
    """US cents per bitcoin."""
    bid: Top | None
    """Who buys; null where nobody does."""
    ask: Top | None
    """Who writes; null where nobody does."""


class Chain(Answer):
    """The instruments of one expiry, by strike and kind."""

    expiry_unix: int
    """When they end."""
    expiries_unix: list[int]
    """Every expiry that is listed, in seconds since 1970."""
    spot_cents: int | None
    """The newest agreed price in US cents per bitcoin; null before the first."""
    market_status: str | None
    """Whether anything is sold at it: trading, thin, stale or halted."""
    lines: list[ChainLine]
    """What is listed or offered."""

    @computed_field
    def expiry(self) -> str:
        """ISO 8601: when they end."""
        return iso(self.expiry_unix)

    @computed_field
    def expiries(self) -> list[str]:
        """ISO 8601: every expiry that is listed."""
        return [iso(one) for one in self.expiries_unix]


class BookOffer(Answer):
    """An open offer, as everybody sees it."""

    id: str
    """By which it is taken."""
    price_sats: int
    """For one bitcoin."""
    price_cents: int
    """For one bitcoin."""
    quantity_centi_btc: int
    """What is left of it."""
    minimum_centi_btc: int
    """The least that one take may be of."""
    valid_until_unix: int
    """From this second on it is no more."""
    step: int | None
    """Of an auction: the step that has begun, which a take at this price names; null: its price does not move."""
    moves_at_unix: int | None
    """When the next step begins; null where nothing moves any more."""
    signed: dict[str, Any]
    """What its maker signed: a taker checks it, and keeps it."""

    @computed_field
    def moves_at(self) -> str | None:
        """ISO 8601: when the next step begins."""
        return None if self.moves_at_unix is None else iso(self.moves_at_unix)

    @computed_field
    def valid_until(self) -> str:
        """ISO 8601: when it is no more."""
        return iso(self.valid_until_unix)


class Book(Answer):
    """The open offers of an instrument, on each side the best first, and of one price in their order."""

    instrument: str
    """Its name."""
    bids: list[BookOffer]
    """Who buys."""
    asks: list[BookOffer]
    """Who writes."""


class Trade(Answer):
    """A trade, without who."""

    at_unix: int
    """When it was taken."""
    instrument: str
    """What was traded."""
    side: Literal["buy", "sell"]
    """What the taker did."""
    quantity_centi_btc: int
    """How much."""
    price_sats: int
    """For one bitcoin."""
    price_cents: int
    """For one bitcoin."""

    @computed_field
    def at(self) -> str:
        """ISO 8601: when it was taken."""
        return iso(self.at_unix)


class TradePage(Answer):
    """Some trades, newest first."""

    items: list[Trade]
    """The trades."""
    next_cursor: str | None
    """Names the next page; null on the last."""


class OfferPosted(Answer):
    """What became of one offer."""

    id: str | None
    """Of the offer; null where it cannot be read."""
    state: OfferState | None
    """As it stands now; null where it was refused."""
    problem: str | None
    """Why it was refused; null where it was not."""
    field: str | None
    """Which field of it is wrong."""


class OffersPosted(Answer):
    """What became of each offer, in the order in which they came."""

    results: list[OfferPosted]
    """One for each."""


class OffersWithdrawn(Answer):
    """How many were open and are no more."""

    withdrawn: int
    """Of the offers that were named."""


class OwnOffer(Answer):
    """An account's offer."""

    id: str
    """What its maker signed."""
    account: str
    """Whose it is."""
    instrument: str
    """Its name."""
    side: Side
    """bid, it buys; ask, it writes."""
    price_sats: int
    """For one bitcoin."""
    price_cents: int
    """For one bitcoin."""
    quantity_centi_btc: int
    """As it was posted."""
    remaining_centi_btc: int
    """What is left of it."""
    minimum_centi_btc: int
    """The least that one take may be of."""
    valid_until_unix: int
    """From this second on it is no more."""
    taker: str | None
    """The one account that may take it; null: any."""
    request_id: str | None
    """The request that it answers; null: none."""
    step: int | None
    """Of an auction: the step that has begun; null before the first, and of a price that does not move."""
    moves_at_unix: int | None
    """When the next step begins, the first one too; null where nothing moves any more."""
    number: int
    """Its maker's own."""
    state: OfferState
    """Where it stands."""
    created_at_unix: int
    """When it was posted."""

    @computed_field
    def moves_at(self) -> str | None:
        """ISO 8601: when the next step begins."""
        return None if self.moves_at_unix is None else iso(self.moves_at_unix)

    @computed_field
    def created_at(self) -> str:
        """ISO 8601: when it was posted."""
        return iso(self.created_at_unix)

    @computed_field
    def valid_until(self) -> str:
        """ISO 8601: when it is no more."""
        return iso(self.valid_until_unix)


class OfferPage(Answer):
    """Some offers, newest first."""

    items: list[OwnOffer]
    """The offers."""
    next_cursor: str | None
    """Names the next page; null on the last."""


class QuoteRequest(Answer):
    """A request for quotes, as makers see it."""

    id: str
    """What its taker signed: an answer names it."""
    taker: str
    """Who asks: an answer is for this account alone."""
    instrument: str
    """Its one name."""
    wanted: Wanted
    """What the account would do: buy, sell, or both."""
    quantity_centi_btc: int
    """The most that an answer may be of."""
    valid_until_unix: int
    """From this second on nobody answers it."""
    state: RequestState
    """Where it stands."""
    created_at_unix: int
    """When it was asked."""
    signed: dict[str, Any]
    """What the account signed: a maker may check it."""

    @computed_field
    def valid_until(self) -> str:
        """ISO 8601: when nobody answers it any more."""
        return iso(self.valid_until_unix)

    @computed_field
    def created_at(self) -> str:
        """ISO 8601: when it was asked."""
        return iso(self.created_at_unix)


class QuoteRequestPage(Answer):
    """Some requests, newest first."""

    items: list[QuoteRequest]
    """The requests."""
    next_cursor: str | None
    """Names the next page; null on the last."""


class QuoteAnswers(Answer):
    """A request, and the offers that answer it and are open, on each side the best first."""

    request: QuoteRequest
    """What was asked."""
    bids: list[BookOffer]
    """Who would buy."""
    asks: list[BookOffer]
    """Who would write."""


class RequestWithdrawn(Answer):
    """A request that nobody answers any more."""

    id: str
    """Of the request."""
    withdrawn: int
    """Open answers that went with it."""


class Take(Answer):
    """A take of an offer, as both of its sides see it."""

    id: str
    """What its taker signed."""
    option_id: str
    """The option that it makes."""
    offer_id: str
    """What was taken."""
    maker: str
    """The account of the offer."""
    taker: str
    """The account that took it."""
    instrument: str
    """What is traded."""
    side: Side
    """What the maker does: bid, it buys; ask, it writes."""
    quantity_centi_btc: int
    """How much."""
    price_sats: int
    """For one bitcoin."""
    price_cents: int
    """For one bitcoin."""
    state: TakeState
    """Where it stands."""
    fault: Fault | None
    """By whom it failed; null where it has not."""
    problem: str | None
    """Why it failed, in words; null where it has not."""
    created_at_unix: int
    """When it was taken."""
    checked_at_unix: int | None
    """When both sides' signatures were checked; null before."""

    @computed_field
    def created_at(self) -> str:
        """ISO 8601: when it was taken."""
        return iso(self.created_at_unix)

    @computed_field
    def checked_at(self) -> str | None:
        """ISO 8601: when both sides' signatures were checked."""
        return None if self.checked_at_unix is None else iso(self.checked_at_unix)


class TakePage(Answer):
    """Some takes, newest first."""

    items: list[Take]
    """The takes."""
    next_cursor: str | None
    """Names the next page; null on the last."""


class Close(Answer):
    """An offer to close an option of the account, at what its holder gets of the collateral."""

    id: str
    """Of the offer: a beginning of it is what `btcfi market close --accept` takes."""
    option_id: str
    """The option."""
    instrument: str
    """Its name."""
    quantity_centi_btc: int
    """Of the option: it is closed whole."""
    role: Role
    """What the account is of the option."""
    offered_by: Role
    """Who offers it."""
    own: bool
    """Whether the account offers it; else it waits for the account's word."""
    payout_sats: int
    """What the holder is offered of the collateral; the writer has the rest, less the fee."""
    sats_per_kvb: int
    """Fee rate of the transaction."""
    valid_until_unix: int
    """From this second on neither side signs."""
    state: CloseState
    """Offered, answered by the other side, signed by both, done once it is final, or over."""
    paid_sats: int | None
    """What the signed transaction pays the holder; null before both have signed, as the next three."""
    returned_sats: int | None
    """Likewise, the writer."""
    fee_sats: int | None
    """Its fee."""
    txid: str | None
    """Of the transaction."""
    problem: str | None
    """Why it came to nothing."""
    created_at_unix: int
    """When it came."""

    @computed_field
    def valid_until(self) -> str:
        """ISO 8601: from then on neither side signs."""
        return iso(self.valid_until_unix)

    @computed_field
    def created_at(self) -> str:
        """ISO 8601: when it came."""
        return iso(self.created_at_unix)


class ClosePage(Answer):
    """Some offers to close, newest first."""

    items: list[Close]
    """The offers."""
    next_cursor: str | None
    """Names the next page; null on the last."""


class PositionEnd(Answer):
    """How an option ends, and what its transaction pays each side."""

    how: Literal["closed", "exercised", "settled", "transferred"]
    """Closed at a price that both named, exercised early, settled by the oracles' price, or its holder changed."""
    txid: str | None
    """The transaction; null before there is one, as the next three."""
    paid_sats: int | None
    """What it pays the holder."""
    returned_sats: int | None
    """What it pays the writer; null of a transfer, whose collateral goes on."""
    fee_sats: int | None
    """Its fee."""
    final: bool
    """Whether it is as deep in the chain as the service waits for."""


class Position(Answer):
    """An option that an account wrote or holds."""

    instrument: str
    """Its name."""
    role: Role
    """What the account is to it."""
    take_id: str | None
    """What made it; null of an option that no take made."""
    transfer_id: str | None
    """The transfer by which its holder came to it; null of an option that none made."""
    option: Option
    """As it stands."""
    end: PositionEnd | None
    """How it ends, once that is signed; null before."""


class PositionPage(Answer):
    """Some positions, newest first."""

    items: list[Position]
    """The positions."""
    next_cursor: str | None
    """Names the next page; null on the last."""


# ---- positions that change hands


class TransferConsent(Answer):
    """A consent of the account to a change of the other side of an option that it wrote."""

    id: str
    """What it signed."""
    option_id: str
    """The option."""
    valid_until_unix: int
    """From then on it allows nothing."""
    number: int
    """The account's own."""
    state: ConsentState
    """Broken: a transfer came to nothing by the account's fault."""
    created_at_unix: int
    """When it came."""

    @computed_field
    def valid_until(self) -> str:
        """ISO 8601: from then on it allows nothing."""
        return iso(self.valid_until_unix)

    @computed_field
    def created_at(self) -> str:
        """ISO 8601: when it came."""
        return iso(self.created_at_unix)


class TransferConsentPage(Answer):
    """Some consents, newest first."""

    items: list[TransferConsent]
    """The consents."""
    next_cursor: str | None
    """Names the next page; null on the last."""


class TransferOffer(Answer):
    """A position for sale, whole, at a firm price."""

    id: str
    """What its holder signed."""
    own: bool
    """Whether it is the account's."""
    option_id: str | None
    """The option, of an offer of the account's own; else null."""
    instrument: str
    """Its name."""
    quantity_centi_btc: int
    """Of the position."""
    collateral_sats: int
    """The writer's, which stays."""
    price_sats: int
    """Of the whole position: what the holder gets."""
    sats_per_kvb: int
    """Fee rate of the transaction, which the newcomer pays."""
    valid_until_unix: int
    """From then on its holder signs nothing of it."""
    consented_until_unix: int | None
    """Until when its writer lets the holder change; null: it does not, and nobody can take it."""
    taker: str | None
    """The one account that may take it; null: any."""
    state: TransferOfferState
    """Broken: a transfer of it came to nothing by its holder's fault."""
    created_at_unix: int
    """When it came."""
    signed: dict[str, Any]
    """As its holder signed it: what a taker checks."""

    @computed_field
    def valid_until(self) -> str:
        """ISO 8601: from then on its holder signs nothing of it."""
        return iso(self.valid_until_unix)

    @computed_field
    def consented_until(self) -> str | None:
        """ISO 8601: until when its writer lets the holder change; null: it does not."""
        return None if self.consented_until_unix is None else iso(self.consented_until_unix)

    @computed_field
    def created_at(self) -> str:
        """ISO 8601: when it came."""
        return iso(self.created_at_unix)


class TransferOfferPage(Answer):
    """Some positions for sale, newest first."""

    items: list[TransferOffer]
    """The offers."""
    next_cursor: str | None
    """Names the next page; null on the last."""


class Transfer(Answer):
    """A position on its way from its holder to a newcomer, as one of the three sees it."""

    id: str
    """Of the take."""
    role: Literal["seller", "holder", "newcomer"] | None
    """Which of the three the account is; null to an operator."""
    option_id: str
    """The option that the holder leaves."""
    new_option_id: str
    """The newcomer's; it is there once all have signed."""
    offer_id: str
    """Of the holder's offer."""
    instrument: str
    """Its name."""
    quantity_centi_btc: int
    """Of the position."""
    price_sats: int
    """What the holder gets."""
    until_unix: int
    """From then on nobody signs anything of it."""
    state: TransferState
    """Taken, signed by all and sent, done once it is final, or over."""
    waits_for: str
    """Whose round of words is owed: half, presigned, ready, seller, holder; all: none is."""
    fault: Literal["seller", "holder", "newcomer"] | None
    """By whom it came to nothing; null: by nobody, or it did not."""
    problem: str | None
    """Why it came to nothing."""
    txid: str | None
    """Of its transaction; null before it is known, as the next one."""
    fee_sats: int | None
    """What all of its owners pay for it."""
    created_at_unix: int
    """When it was taken."""

    @computed_field
    def until(self) -> str:
        """ISO 8601: from then on nobody signs anything of it."""
        return iso(self.until_unix)

    @computed_field
    def created_at(self) -> str:
        """ISO 8601: when it was taken."""
        return iso(self.created_at_unix)


class TransferPage(Answer):
    """Some transfers, newest first."""

    items: list[Transfer]
    """The transfers."""
    next_cursor: str | None
    """Names the next page; null on the last."""


# ---- browsers


class SignInAsked(Answer):
    """A browser that shows a code at the desk, and wants in."""

    code: str
    """On its screen."""
    browser: str
    """What it says it is."""
    address: str
    """Where it is, as the desk saw it."""
    created_at_unix: int
    """When it asked."""
    expires_at_unix: int
    """From then on the code is nothing."""

    @computed_field
    def created_at(self) -> str:
        """ISO 8601: when it asked."""
        return iso(self.created_at_unix)

    @computed_field
    def expires_at(self) -> str:
        """ISO 8601: from then on the code is nothing."""
        return iso(self.expires_at_unix)


class SignInAnswered(Answer):
    """What the account's owner types into that browser, and tells nobody."""

    code: str
    """The browser's."""
    digits: str
    """For the browser that asked: in any other they open nothing."""
    expires_at_unix: int
    """From then on they are nothing."""

    @computed_field
    def expires_at(self) -> str:
        """ISO 8601: from then on they are nothing."""
        return iso(self.expires_at_unix)


class Eventful(StrEnum):
    """What an account hears of."""

    TAKE = "take"
    OPTION = "option"
    SETTLEMENT = "settlement"
    MARKET_CLOSE = "market_close"
    TRANSFER_CONSENT = "transfer_consent"
    TRANSFER_OFFER = "transfer_offer"
    TRANSFER = "transfer"
    WEBHOOK = "webhook"


class AccountEvent(Answer):
    """One edge that something of the account has crossed."""

    id: int
    """Of the event: resume after it."""
    entity: Eventful
    """What it is of."""
    entity_id: str
    """Its id."""
    option_id: str | None
    """The option that it is about: of a transfer the one that the account is, or was, a side of; null of a webhook."""
    role: Role | None
    """What the account is of it; null of a webhook."""
    from_state: str
    """Before."""
    to_state: str
    """Since."""
    at_unix: int
    """When."""
    paid_sats: int | None
    """What its transaction pays the holder: of a settlement, of a close, of an option closed early; of a transfer that
    all have signed its price; else null."""
    returned_sats: int | None
    """Likewise, the writer."""

    @computed_field
    def at(self) -> str:
        """ISO 8601: when."""
        return iso(self.at_unix)


# ---- webhooks


class WhoseQuery(Request):
    """Whose."""

    account: Key | None = None
    """Of this account; left out: the caller's own."""


class AddWebhook(Request):
    """Where an account wants its events sent."""

    url: str = Field(min_length=1, max_length=MAX_URL)
    """https, a host that the whole Internet reaches, without name and password."""
    kinds: list[Eventful] = Field(default=list(Eventful), min_length=1, max_length=len(Eventful))
    """Entities whose events are sent; left out: all."""


class Webhook(Answer):
    """A webhook, and how far its receiver was told."""

    id: str
    """What it is named by."""
    url: str
    """Where messages go."""
    kinds: list[Eventful]
    """Entities whose events are sent."""
    state: HookState
    """Disabled: its receiver took nothing for days, or said that it is gone."""
    told_event: int
    """The event up to which its receiver has the account's: a stream resumes after it."""
    waiting: bool
    """Whether anything waits to be sent."""
    tries: int
    """Attempts at what waits."""
    last_status: int | None
    """HTTP status of the last answer; null: there was none."""
    problem: str | None
    """Why the last attempt failed; null: it did not."""
    told_at_unix: int | None
    """When a message was taken last; null: none was."""
    created_at_unix: int
    """When it was added."""

    @computed_field
    def told_at(self) -> str | None:
        """ISO 8601: when a message was taken last; null: none was."""
        return None if self.told_at_unix is None else iso(self.told_at_unix)

    @computed_field
    def created_at(self) -> str:
        """ISO 8601: when it was added."""
        return iso(self.created_at_unix)


class WebhookAdded(Answer):
    """A new webhook, and its secret, this once."""

    webhook: Webhook
    """The webhook."""
    secret: str
    """Signs its messages (Standard Webhooks): keep it where they are received."""


class Webhooks(Answer):
    """An account's webhooks, the oldest first."""

    items: list[Webhook]
    """The webhooks."""


class WebhookRemoved(Answer):
    """What is no more."""

    id: str
    """The webhook's."""
