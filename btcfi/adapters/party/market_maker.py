"""A maker at a desk: it looks at the market and at its own offers, and replaces those that are no longer right.

Nothing is remembered between two rounds but what a desk might not say: what was posted, and what is withdrawn there
while a take of it may still be on its way. An offer is written into the party's ledger before it is posted. At the end,
and in a market that is not trading, every offer is withdrawn; those of a maker that dies lapse by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from btcfi.adapters.party.close_yes import say_yes, waiting_closes
from btcfi.adapters.party.market_ledger import MarketLedger
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.adapters.party.transfer_book import KeptWord, TransferBook
from btcfi.adapters.signed_http import DeskAwayError, DeskRefusedError
from btcfi.contracts.mandate import Authority, CloseRule, Mandate, OutsideMandateError, WrongMandateError
from btcfi.contracts.messages import Role, contract_id
from btcfi.contracts.payouts import decode_terms
from btcfi.documents import printable
from btcfi.errors import InvalidInputError
from btcfi.market.firm_offer import FirmOffer, Side, encode_signed_offer, sign_offer
from btcfi.market.instrument import Instrument, parse_instrument
from btcfi.market.making import (
    Draft,
    Held,
    Inventory,
    LeftOut,
    MakingRule,
    Quoted,
    Written,
    changes,
    close_refusal,
    consents,
    firm_offer,
    paused,
    quotes,
)
from btcfi.market.request import QuoteRequest, decode_signed_request
from btcfi.market.transfer import SignedTransferConsent, TransferConsent, encode_signed, sign_consent
from btcfi.options.terms import required_collateral
from btcfi.oracle.freshness import MarketStatus
from btcfi.pricing.portfolio import Market
from btcfi.pricing.surface import VolatilitySurface, flat_surface
from btcfi.records import OBJECT, TEXT, Rule, listed, one_of, optional, record, whole
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Hash32, Sats, Slot, UnixSeconds

PAGE: Final = 500
"""Rows of one answer, and offers of one request."""

MOST_PAGES: Final = 40
"""Of one list: 20,000 rows are no maker's."""

ONE_BY_ONE: Final = 30
"""So many withdrawals at most are asked for each by itself; above it all offers go, and those that stay come again."""

SHOWN: Final = 200
"""Characters of what a desk says."""

UNFINISHED: Final = frozenset({"taken", "checked"})
"""States of a take in which our signature may still be asked for."""

_CENTI: Final = 100

_SERVER_ERROR: Final = 500
"""From this status on nobody says that nothing was done."""


class Http(Protocol):
    """What is asked of a connection: ``signed_http.SignedHttp``."""

    def get(self, path: str, *, patience: float = 0, **query: object) -> Any:  # noqa: ANN401 - JSON
        """Return the answer's JSON."""

    def post(self, path: str, body: object) -> Any:  # noqa: ANN401 - JSON
        """Send JSON and return the answer's."""

    def delete(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """Ask that a thing be no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _MarketSaid:
    spot_cents: CentsPerBtc
    slot_unix: Slot
    volatility_30d: float
    market_status: MarketStatus


def _volatility(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 100.0:  # noqa: PLR2004
        raise ValueError(value)
    return float(value)


_MARKET: Final = record(
    _MarketSaid, market_status=one_of(MarketStatus), volatility_30d=Rule(_volatility, "a volatility a year")
)
_NAME: Final = Rule(parse_instrument, "an instrument's name")


@dataclass(frozen=True, slots=True, kw_only=True)
class _InstrumentSaid:
    name: Instrument


@dataclass(frozen=True, slots=True, kw_only=True)
class _OptionSaid:
    quantity_centi_btc: int
    collateral_sats: Sats
    premium_sats: Sats
    funding_txid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _PositionSaid:
    instrument: Instrument
    role: str
    option: _OptionSaid


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfferSaid:
    id: str
    remaining_centi_btc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _TakeSaid:
    offer_id: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    items: tuple[dict[str, Any], ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _ResultSaid:
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _PostedSaid:
    results: tuple[_ResultSaid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _WithdrawnSaid:
    withdrawn: int


_QUANTITY: Final = whole(0, 1 << 53)
_OPTION: Final = record(_OptionSaid, quantity_centi_btc=_QUANTITY, funding_txid=optional(Rule(str, "a txid")))
_INSTRUMENT: Final = record(_InstrumentSaid, name=_NAME)
_POSITION: Final = record(_PositionSaid, instrument=_NAME, option=Rule(_OPTION, "an option"))
_OFFER: Final = record(_OfferSaid, remaining_centi_btc=_QUANTITY)
_TAKE: Final = record(_TakeSaid)
_PAGE: Final = record(_Page, items=listed(OBJECT), next_cursor=optional(TEXT), may_lack=("next_cursor",))
_RESULT: Final = record(_ResultSaid, problem=optional(TEXT))
_RESULTS: Final = record(_PostedSaid, results=listed(Rule(_RESULT, "a result"), PAGE))
_WITHDRAWN: Final = record(_WithdrawnSaid, withdrawn=_QUANTITY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a maker sees of the market and of itself."""

    market: Market | None
    """None before the first price, or while it is too old to be shown."""
    status: MarketStatus
    instruments: tuple[Instrument, ...]
    inventory: Inventory
    standing: tuple[tuple[FirmOffer, int], ...]
    """Our offers that are open at the desk, each with what remains."""
    strange: tuple[str, ...]
    """Open there, and not of this process: of one before it, or of another beside it."""
    asked: tuple[QuoteRequest, ...] = ()
    """Requests of others that can be answered, the oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round has done."""

    quoted: Quoted
    posted: int = 0
    withdrawn: int = 0
    kept: int = 0
    refused: tuple[LeftOut, ...] = ()
    """What the desk did not take, and why."""


@dataclass(kw_only=True)
class MarketMaker:
    """One maker's process at one desk."""

    http: Http
    identity: bytes
    """x-only: the account."""
    request_secret: bytes
    desk: bytes
    """x-only key of the desk."""
    ledger: MarketLedger
    free: Callable[[], Sats]
    """What can be spent now."""
    authority: Callable[[], Authority] | None = None
    """What our own process signs by; it raises WrongMandateError where there is nothing. None: it is not asked."""
    rule: MakingRule = field(default_factory=MakingRule)
    surface: VolatilitySurface | None = None
    """None: flat, at the desk's realised volatility."""
    answers: bool = True
    """Whether requests for quotes are answered."""
    rate: float = 0.05
    """Continuously compounded per year."""
    clock: Callable[[], float] = time.time
    random: Callable[[], bytes] = lambda: bytes(32)
    """Fresh bytes for each signature."""
    _posted: dict[str, FirmOffer] = field(default_factory=dict)
    _unanswered: dict[str, FirmOffer] = field(default_factory=dict)
    """Sent, and nobody knows whether they came: signable until they lapse, and nothing is posted beside them."""
    _going: dict[str, UnixSeconds] = field(default_factory=dict)
    """Withdrawn at the desk, not yet in the ledger: until when they are good."""
    _seen: Look | None = None
    """The last round's."""
    _listed: tuple[Slot, tuple[Instrument, ...]] | None = None

    # ---- looking

    def look(self) -> Look:
        """Ask the desk and the wallet. Raises DeskAwayError, DeskRefusedError, UnreachableError, InvalidInputError."""
        market, status = self._market()
        positions = [_POSITION.read(one, "positions") for one in self._all("/positions")]
        standing, strange = self._standing()
        return Look(
            market=market, status=status, instruments=() if market is None else self._instruments(market),
            inventory=self._inventory(market, positions), standing=tuple(standing), strange=tuple(strange),
            asked=self._asked(),
        )  # fmt: skip

    def _market(self) -> tuple[Market | None, MarketStatus]:
        try:
            said = _MARKET.read(self.http.get("/market"), "market")
        except DeskRefusedError as e:
            if e.status != 503:  # noqa: PLR2004 - HTTP: no price yet, or only an old one
                raise
            return None, MarketStatus.STALE
        # a premium is of its minute, as the desk's own are
        market = Market(
            spot=said.spot_cents, volatility=said.volatility_30d, rate=self.rate, now=UnixSeconds(said.slot_unix)
        )
        return market, said.market_status

    def _instruments(self, market: Market) -> tuple[Instrument, ...]:
        """Return what is listed, asked once a minute of the market's."""
        at = Slot(market.now)
        if self._listed is None or self._listed[0] != at:
            page = _PAGE.read(self.http.get("/instruments"), "instruments")
            self._listed = at, tuple(_INSTRUMENT.read(one, "instruments").name for one in page.items)
        return self._listed[1]

    def _inventory(self, market: Market | None, positions: Sequence[_PositionSaid]) -> Inventory:
        """Return what is held of what has not expired, and the coins that no contract needs, signed or to be."""
        sums: dict[Instrument, int] = {}
        wanted = 0
        for one in positions:
            writes = one.role == "writer"
            if market is not None and one.instrument.expiry > market.now:
                sums[one.instrument] = (
                    sums.get(one.instrument, 0) + (-1 if writes else 1) * one.option.quantity_centi_btc
                )
            if one.option.funding_txid is None:  # its coins may not be named yet: counted twice rather than never
                wanted += one.option.collateral_sats if writes else one.option.premium_sats
        held = tuple(Held(instrument=where, quantity=many) for where, many in sums.items() if many)
        return Inventory(held=held, free=Sats(max(self.free() - wanted, 0)))

    def _standing(self) -> tuple[list[tuple[FirmOffer, int]], list[str]]:
        standing, strange = [], []
        for row in self._all("/offers", state="open"):
            said = _OFFER.read(row, "offers")
            self._unanswered.pop(said.id, None)  # it came
            offer = self._posted.get(said.id)
            if offer is None or said.id in self._going:
                strange.append(said.id)
            else:
                standing.append((offer, said.remaining_centi_btc))
        return standing, strange

    def _asked(self) -> tuple[QuoteRequest, ...]:
        """Return the newest requests of others. One that this version cannot read holds up none of the rest."""
        if not self.answers:
            return ()
        try:
            page = _PAGE.read(self.http.get("/requests", limit=PAGE), "requests")
        except DeskRefusedError as e:
            if e.status != 404:  # noqa: PLR2004 - HTTP: a desk of an earlier release, where nobody asks
                raise
            return ()
        found: list[QuoteRequest] = []
        for row in reversed(page.items):
            try:
                one = decode_signed_request(row.get("signed")).request
            except InvalidInputError:
                continue
            if one.desk == self.desk and one.taker != self.identity and one.valid_until > self.clock():
                found.append(one)
        return tuple(found)

    def _all(self, path: str, *, state: str | None = None) -> Iterator[dict[str, Any]]:
        cursor = None
        for _ in range(MOST_PAGES):
            page = _PAGE.read(self.http.get(path, limit=PAGE, cursor=cursor, state=state), path)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return
        raise InvalidInputError(path, f"more than {MOST_PAGES * PAGE:,} rows", "a maker's")

    # ---- closing

    def closes(self, store: PartyStore) -> list[tuple[str, str | None]]:
        """Say yes to the offers to close our contracts that our rule takes; return each one's option and why not.

        The signing process asks mandate, time and chain before it signs. Raises InvalidInputError for a file that is
        none of an offer.
        """
        look, said = self._seen, []
        if look is None or look.market is None or look.status is not MarketStatus.TRADING:
            return []
        surface = self.surface or flat_surface(float(look.market.volatility))
        for contract, kept in waiting_closes(store, now=self.clock()):
            terms, writes = decode_terms(contract.offer.terms.option), contract.role is Role.SELLER
            stands = int(kept.offer.valid_until - self.clock())
            refusal = close_refusal(
                self.rule, look.market, surface, terms, writes=writes, payout=kept.offer.payout, stands_seconds=stands
            )
            if refusal is None:
                say_yes(store, kept.offer.id)
            said.append((kept.option, refusal))
        return said

    # ---- consenting

    def consents(self, store: PartyStore) -> list[tuple[str, str | None]]:
        """Consent to changes of buyer of contracts that we wrote, as our rule says; return each option and why not.

        Nothing without ``consent_sats`` in the rule, nor where the mandate allows no close as agreed: a consent is a
        promise to sign. Each is in the folder before the desk has it, and is withdrawn there if the desk does not take
        it. Raises DeskAwayError, InvalidInputError for a file that is none of a word.
        """
        look = self._seen
        if self.rule.consent_sats == 0 or look is None or look.market is None:
            return []
        if look.status is not MarketStatus.TRADING or not self._signs_agreed():
            return []
        book, now = TransferBook(store.folder), UnixSeconds(int(self.clock()))
        ours = {one.order: one for one in store.contracts() if _may_change(one)}
        said = [one for one in book.words() if one.kind == "consent" and one.valid_until > now]
        standing = {_contract_of(one): not one.withdrawn for one in sorted(said, key=lambda one: not one.withdrawn)}
        plan = consents(self.rule, look.market, [
            Written(
                option=option, terms=decode_terms(one.offer.terms.option), consented=standing.get(_id_of(one)) is True,
                declined=standing.get(_id_of(one)) is False,
            )
            for option, one in ours.items()
        ])  # fmt: skip
        given: list[tuple[str, str | None]] = []
        for option, seconds in plan.seconds.items():
            try:
                self._consent(store, book, _id_of(ours[option]), UnixSeconds(now + seconds))
            except DeskRefusedError as e:  # one contract's trouble is its own, and is not asked again in its time
                given.append((option, f"the desk: {str(e)[:SHOWN]}"))
            else:
                given.append((option, None))
        return [*given, *plan.left_out.items()]

    def _signs_agreed(self) -> bool:
        if self.authority is None:
            return True
        try:
            return self.authority().mandate.close is CloseRule.AGREED
        except WrongMandateError:
            return False

    def _consent(self, store: PartyStore, book: TransferBook, contract: Hash32, until: UnixSeconds) -> None:
        made = TransferConsent(
            seller=self.identity, desk=self.desk, contract_id=contract, valid_until=until,
            number=self.ledger.next_number(),
        )  # fmt: skip
        word = book.say(KeptWord(signed=sign_consent(made, self.request_secret, self.random())))
        try:
            self.http.post("/transfers/consents", encode_signed(word.signed))
        except (DeskAwayError, DeskRefusedError):
            with store.alone():
                book.withdraw(word.id)
            raise

    # ---- quoting

    def quoted(self, look: Look) -> Quoted:
        """Return what would be quoted."""
        if look.market is None or look.status is not MarketStatus.TRADING:
            return paused(look.status)
        surface = self.surface or flat_surface(float(look.market.volatility))
        found = quotes(self.rule, look.market, surface, look.inventory, look.instruments, asked=look.asked)
        if self.authority is None:
            return found
        try:
            return within_mandate(found, self.authority())
        except WrongMandateError:  # none, or it was taken back
            return replace(found, drafts=(), left_out=(*found.left_out, LeftOut(reason="mandate: none")))

    def round(self) -> Round:
        """Look, and make the offers at the desk those that should be. Raises as ``look``."""
        look = self._seen = self.look()
        quoted = self.quoted(look)
        self._forget_lapsed()
        wall = UnixSeconds(int(self.clock()))
        if not quoted.drafts:
            withdrawn = self.withdraw_all() if look.standing or look.strange else 0
            self._settle_withdrawn()
            return Round(quoted=quoted, withdrawn=withdrawn)
        wanted = changes(self.rule, look.standing, quoted.drafts, wall=wall)
        post, kept = list(wanted.post), len(wanted.kept)
        gone = [one.id.hex() for one in wanted.withdraw] + list(look.strange)
        if len(gone) > ONE_BY_ONE:
            self.withdraw_all()
            post, kept = list(quoted.drafts), 0
        else:
            self._withdraw(gone)
        if gone and self._taken_since(look):
            # what was taken meanwhile is in no draft's count: the next round's has it
            self._settle_withdrawn()
            return Round(quoted=quoted, withdrawn=len(gone), kept=kept)
        post, waiting = self._apart_from_unanswered(post)
        refused = self._post(post)
        self._settle_withdrawn()
        return Round(
            quoted=quoted,
            posted=len(post) - len(refused),
            withdrawn=len(gone),
            kept=kept,
            refused=(*refused, *waiting),
        )

    def withdraw_all(self) -> int:
        """Withdraw every offer that is open, and return how many the desk says there were. Raises as ``look``.

        Without a number up to which: what another process of this account has posted goes too, however it counts.
        """
        said = _WITHDRAWN.read(self.http.delete("/offers"), "withdrawn")
        self._going |= {name: offer.valid_until for name, offer in self._posted.items()}
        self._settle_withdrawn()
        return said.withdrawn

    def _withdraw(self, names: Sequence[str]) -> None:
        for name in names:
            self.http.delete(f"/offers/{name}")
            if name in self._posted:
                self._going[name] = self._posted[name].valid_until

    def _taken_since(self, look: Look) -> bool:
        """Return whether something of ours was taken since a look: what is held has changed."""
        now = [_POSITION.read(one, "positions") for one in self._all("/positions")]
        return self._inventory(look.market, now).held != look.inventory.held

    def _apart_from_unanswered(self, drafts: Sequence[Draft]) -> tuple[list[Draft], list[LeftOut]]:
        """Return what may be posted now: nothing of an instrument of which earlier offers may still come to stand.

        The desk would have both of them, and no limit has counted both.
        """
        waits = {(offer.instrument.name, offer.request) for offer in self._unanswered.values()}
        post: list[Draft] = []
        waiting: list[LeftOut] = []
        for one in drafts:
            if (one.instrument.name, None if one.request is None else one.request.id) in waits:
                waiting.append(LeftOut(reason="desk: no answer yet", instrument=one.instrument, side=one.side))
            else:
                post.append(one)
        return post, waiting

    def _post(self, drafts: Sequence[Draft]) -> list[LeftOut]:
        """Sign, write down and post; return what the desk refused. What it refuses is withdrawn in the ledger.

        Whether a batch came whose answer is lost, the next looks tell; until one does, or it lapses, it is unanswered.
        """
        refused: list[LeftOut] = []
        now, rule = int(self.clock()), self.rule
        for start in range(0, len(drafts), PAGE):
            batch = drafts[start : start + PAGE]
            numbers = self.ledger.next_numbers(len(batch))
            signed = [
                sign_offer(
                    firm_offer(
                        one, maker=self.identity, desk=self.desk, number=number,
                        valid_until=UnixSeconds(
                            now + (rule.validity_seconds if one.request is None else rule.answer_seconds)
                        ),
                    ),
                    self.request_secret,
                    self.random(),
                )
                for one, number in zip(batch, numbers, strict=True)
            ]  # fmt: skip
            self.ledger.add_offers(signed)
            sent = {one.offer.id.hex(): one.offer for one in signed}
            self._posted |= sent
            self._unanswered |= sent
            try:
                answer = self.http.post("/offers", {"offers": [encode_signed_offer(one) for one in signed]})
            except (DeskRefusedError, DeskAwayError) as e:
                if _is_not_there(e):
                    self._forget(sent)
                    self.ledger.withdraw(*(one.offer.id for one in signed))
                raise
            said = _RESULTS.read(answer, "offers")
            if len(said.results) != len(signed):
                raise InvalidInputError("offers.results", f"{len(said.results)} of {len(signed)}", "one for each")
            for name in sent:
                self._unanswered.pop(name)
            bad: list[Hash32] = []
            for one, result in zip(signed, said.results, strict=True):
                if result.problem is not None:
                    bad.append(one.offer.id)
                    self._posted.pop(one.offer.id.hex())
                    refused.append(
                        LeftOut(
                            reason=printable(f"desk: {result.problem}", SHOWN), instrument=one.offer.instrument,
                            side=one.offer.side,
                        )
                    )  # fmt: skip
            if bad:
                self.ledger.withdraw(*bad)
        return refused

    # ---- what is withdrawn here too

    def _settle_withdrawn(self) -> None:
        """Withdraw in the ledger what is withdrawn at the desk, but for what was taken before and is not signed yet.

        Our process would refuse such a take, which is then our fault; it is over within the offer's validity.
        """
        if not self._going:
            return
        # the newest: older ones have ended, or their offers have lapsed
        page = _PAGE.read(self.http.get("/takes", limit=PAGE), "takes")
        unfinished = {
            said.offer_id
            for said in (_TAKE.read(one, "takes") for one in page.items)
            if said.state in UNFINISHED
        }  # fmt: skip
        done = [name for name in self._going if name not in unfinished and name not in self._unanswered]
        self.ledger.withdraw(*(self._posted[name].id for name in done if name in self._posted))
        for name in done:
            self._going.pop(name)
            self._posted.pop(name, None)

    def _forget_lapsed(self) -> None:
        now = self.clock()
        self._forget([name for name, offer in self._posted.items() if offer.valid_until <= now])
        for name in [name for name, offer in self._unanswered.items() if offer.valid_until <= now]:
            self._unanswered.pop(name)

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            for known in (self._posted, self._going, self._unanswered):
                known.pop(name, None)


def _may_change(one: PartyContract) -> bool:
    """Return whether a contract is one of ours to consent to: written at a desk, funded, with no end under way."""
    written = one.role is Role.SELLER and bool(one.order) and one.accept is not None and one.funded
    return written and not (one.withdrawn or one.ended or one.cancelled or one.closes or one.reopenings)


def _id_of(one: PartyContract) -> Hash32:
    accept = one.accept
    assert accept is not None  # noqa: S101 - as ``_may_change`` has looked
    return contract_id(one.offer, accept.party)


def _contract_of(word: KeptWord) -> Hash32:
    signed = word.signed
    assert isinstance(signed, SignedTransferConsent)  # noqa: S101 - of that kind
    return signed.consent.contract_id


def _is_not_there(e: DeskRefusedError | DeskAwayError) -> bool:
    """Return whether a request that failed so has done nothing at the desk: it never left us, or was refused whole."""
    if isinstance(e, DeskAwayError):
        return e.unsent
    return e.status < _SERVER_ERROR and not e.after_silence


def within_mandate(quoted: Quoted, authority: Authority) -> Quoted:
    """Return the quotes that our own process would sign, smaller where only the size is too large for it.

    Whoever took another would be refused, and the fault be ours: the offer lost, and the rank of all the others.
    """
    drafts, left_out = [], list(quoted.left_out)
    for one in quoted.drafts:
        fit = _fitting(one, authority.mandate)
        if fit.quantity != one.quantity:
            left_out.append(LeftOut(reason="mandate: size", instrument=one.instrument, side=one.side))
        try:
            for quantity in (fit.minimum, fit.quantity):
                terms = one.instrument.terms(quantity, Cents(0))
                premium = Sats(one.price * quantity // _CENTI)
                authority.check_deal(terms, premium=premium, role=one.side.role)
        except OutsideMandateError as e:
            left_out.append(LeftOut(reason=f"mandate: {e.field}", instrument=one.instrument, side=one.side))
        else:
            drafts.append(fit)
    return replace(quoted, drafts=tuple(drafts), left_out=tuple(left_out))


def _fitting(draft: Draft, mandate: Mandate) -> Draft:
    """Return a draft of no more than a mandate allows of one contract, and of no less than the draft's minimum."""
    collateral = required_collateral(draft.instrument.kind, CentiBtc(_CENTI))
    stake = collateral if draft.side is Side.ASK else draft.price
    most = min(
        mandate.collateral.most * _CENTI // collateral, mandate.premium.most * _CENTI // draft.price,
        mandate.exposure * _CENTI // stake, draft.quantity,
    )  # fmt: skip
    return replace(draft, quantity=CentiBtc(max(most, draft.minimum)))
