"""Options: created once with checked terms, expired once, found by id."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert, or_, select
from sqlmodel import Session, col

from btcfi.adapters.store.options import holds
from btcfi.adapters.store.options.contract_tables import CANCELLABLE_CONTRACTS, ContractRow, ContractState
from btcfi.adapters.store.options.rules import Bound, ChangedRowError, RuleOf, note_waiting
from btcfi.adapters.store.options.tables import (
    OptionRow,
    OptionState,
    SettlementRow,
    SettlementState,
)
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.fixings import Read, closed_until, fixing_of
from btcfi.adapters.store.spine.edges import Crossing, Work, cross_all, enqueue, record, record_all
from btcfi.adapters.store.spine.times import lapsed
from btcfi.adapters.store.spine.views import has_table
from btcfi.contracts.payouts import condition_of, price_input
from btcfi.errors import BtcfiError, NotFoundError, NotHeldError, RetryableError
from btcfi.options.expiry import SettlementInput, settlement_input
from btcfi.options.terms import OptionKind, OptionTerms, required_collateral, validate_terms
from btcfi.oracle.announcement import OracleEvent
from btcfi.oracle.fixing import Fixed, Fixing, parse_fixing
from btcfi.oracle.quote import Feed
from btcfi.proofs.window import encode_window, window_of
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Hash32, Sats, Slot, UnixSeconds

SATS_PER_BTC = 100_000_000
SILENT_SECONDS = 600
"""Since a contract last moved, or its sale: as the alert BtcfiContractStuck has it."""

UNFUNDED_SECONDS = 6 * 3_600
"""After which the side that has signed takes its coins home (``party/desk.py``, FUND_WITHIN_SECONDS)."""

DUE_AT_ONCE = 5_000
"""Options that one transaction expires."""

MIN_PREMIUM_SATS = 1_000
"""A premium is an output of the funding transaction, and an output below the dust limit cannot be relayed."""


class NoPriceYetError(RetryableError):
    """An option needs an agreed price to be sold at, and there is none."""

    def __init__(self, feed: str, problem: str = "") -> None:
        super().__init__(problem or f"{feed} has no agreed price yet; wait for the first priced minute")
        self.feed = feed


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionOrder:
    """What somebody wants to buy. The premium and the collateral follow from it."""

    option_id: str
    kind: OptionKind
    strike: CentsPerBtc
    quantity: CentiBtc
    barrier: CentsPerBtc | None
    american: bool
    expiry: Slot
    premium: Cents
    """The whole premium, cents, as the pricing library quoted it."""
    volatility: BasisPoints
    rate: BasisPoints
    fixing: Fixing | None = None
    """What settles it. None: as an earlier release's option."""


def create_option(
    session: Session, order: OptionOrder, *, feed: Feed, now: UnixSeconds, preset: str, preset_sha256: str,
    program: str, program_sha256: str,
) -> OptionRow:  # fmt: skip
    """Store the option as CREATED and queue its funding; return the existing one when the id is known.

    now: the market's clock. Raises InvalidTermsError naming the field, NoPriceYetError.
    """
    if (known := session.get(OptionRow, order.option_id)) is not None:
        return known
    last = rounds.latest_priced(session, feed)
    if last is None or last.price_cents is None:
        raise NoPriceYetError(feed)
    terms = OptionTerms(
        kind=order.kind, strike=order.strike, quantity=order.quantity, barrier=order.barrier, american=order.american,
        expiry=order.expiry, premium=order.premium, collateral=required_collateral(order.kind, order.quantity),
        fixing=order.fixing,
    )  # fmt: skip
    validate_terms(terms, now=now, spot=CentsPerBtc(last.price_cents))
    return store_option(
        session, order.option_id, terms, feed, premium=sats_of(terms.premium, CentsPerBtc(last.price_cents)),
        volatility=order.volatility, rate=order.rate, preset=preset, preset_sha256=preset_sha256, program=program,
        program_sha256=program_sha256, listed=Slot(last.slot), now=now,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Whose an option is, and by what."""

    writer: str | None = None
    """An account's identity, hex; None, as the next one: of the two mailbox folders."""
    holder: str | None = None
    take_id: str | None = None
    """The take that made it, hex."""


def store_option(
    session: Session, option_id: str, terms: OptionTerms, feed: Feed, *, premium: Sats, volatility: BasisPoints,
    rate: BasisPoints, preset: str, preset_sha256: str, program: str, program_sha256: str, listed: Slot,
    now: UnixSeconds, owners: Owners = Owners(),
) -> OptionRow:  # fmt: skip
    """Store an option as CREATED, whose terms the caller has checked, and queue its funding.

    premium: what the funding pays. listed: the newest priced minute. now: the market's clock.
    """
    row = OptionRow(
        id=option_id, feed=feed, kind=int(terms.kind), strike_cents=terms.strike,
        quantity_centi_btc=terms.quantity, barrier_cents=terms.barrier, american=terms.american,
        expiry_unix=terms.expiry, premium_cents=terms.premium, premium_sats=premium,
        collateral_sats=terms.collateral, volatility_bps=volatility, rate_bps=rate, preset=preset,
        preset_sha256=preset_sha256, program=program, program_sha256=program_sha256, created_at_unix=now,
        listed_slot=listed, updated_at_unix=now, fixing=None if terms.fixing is None else str(terms.fixing),
        writer=owners.writer, holder=owners.holder, take_id=owners.take_id,
    )  # fmt: skip
    session.add(row)
    record(session, "option", row.id, OptionState.CREATED, now=now)
    enqueue(session, [Work(flow="exchange")], now=now)
    return row


def least_premium(spot: CentsPerBtc) -> Cents:
    """Return the least that an option is sold for: what the least output of the funding is worth, in whole cents.

    An option of less is sold at this, and the quote says so: what the buyer is shown is what the chain takes.
    """
    return Cents(-(-MIN_PREMIUM_SATS * spot // SATS_PER_BTC))


def sats_of(premium: Cents, spot: CentsPerBtc) -> Sats:
    """Return what the funding pays for a premium, rounded up to the satoshi as its dollars were to the cent."""
    return Sats(max(MIN_PREMIUM_SATS, -(-premium * SATS_PER_BTC // spot)))


def locked_option(session: Session, option_id: str) -> OptionRow:
    """Return the option as it is now, to this transaction alone. Raises NotFoundError."""
    find_option(session, option_id)
    query = select(OptionRow).where(col(OptionRow.id) == option_id).with_for_update()
    row: OptionRow = session.execute(query, execution_options={"populate_existing": True}).scalar_one()
    return row


def find_option(session: Session, option_id: str) -> OptionRow:
    """Return the option. Raises NotFoundError."""
    row = session.get(OptionRow, option_id)
    if row is None:
        raise NotFoundError("option", option_id, "`btcfi options list` shows them")
    return row


def terms_of(row: OptionRow) -> OptionTerms:
    """Return the terms that an option row holds."""
    return OptionTerms(
        kind=OptionKind(row.kind), strike=CentsPerBtc(row.strike_cents), quantity=CentiBtc(row.quantity_centi_btc),
        barrier=None if row.barrier_cents is None else CentsPerBtc(row.barrier_cents), american=row.american,
        expiry=Slot(row.expiry_unix), premium=Cents(row.premium_cents), collateral=Sats(row.collateral_sats),
        fixing=None if row.fixing is None else parse_fixing(row.fixing),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What an option's oracles watch besides the price: whether a barrier was touched."""

    barrier: CentsPerBtc | None
    above: bool
    """Whether it lies above the strike, and so is touched from below."""
    since: Slot
    """Every minute after this one counts, up to and with the expiry minute."""

    def outcome(self, session: Session, event: OracleEvent, price: CentsPerBtc) -> int:
        """Return what the oracles attest of an event whose fixing is ``price``."""
        if (imported := holds.imported_outcome(session, event)) is not None:
            return imported
        touched = False
        if self.barrier is not None:
            seen = rounds.observed_range(session, Feed(event.feed), after=self.since, until=event.expiry)
            if seen is not None:
                touched = seen[1] >= self.barrier if self.above else seen[0] <= self.barrier
        return event.outcome(price, condition=touched)


def condition_of_row(row: OptionRow) -> Condition:
    """Return what an option's oracles watch."""
    terms = terms_of(row)
    above = terms.barrier is not None and terms.barrier > terms.strike
    return Condition(barrier=terms.barrier, above=above, since=Slot(row.listed_slot))


def event_of(row: OptionRow) -> OracleEvent:
    """Return what must be attested for an option: its fixing by its preset, for its guest program.

    An earlier release's option names no fixing: its event is of version 1, one minute, rounded down.
    """
    terms = terms_of(row)
    return OracleEvent(
        feed=row.feed, expiry=terms.expiry, program_hash=Hash32(bytes.fromhex(row.program_sha256)),
        preset_hash=Hash32(bytes.fromhex(row.preset_sha256)), condition=condition_of(terms, Slot(row.listed_slot)),
        version=1 if terms.fixing is None else 2, fixing=terms.window,
    )  # fmt: skip


def changed(row: OptionRow, contract_event: str | None) -> ChangedRowError | None:
    """Return that a row names another event than its contract was made for, None where they agree.

    An event's id commits to the feed, the minute, the fixing, the barrier, the preset and the program. contract_event:
    None of an option for which no contract was ordered, which nobody has signed yet.
    """
    if contract_event is None:
        return None
    try:
        ours = event_of(row).id.hex()
    except (BtcfiError, ValueError) as e:
        ours = str(e)  # a row that names no event at all
    if ours == contract_event:
        return None
    return ChangedRowError(
        row.id, preset=row.preset_sha256, program=row.program_sha256, event=ours, contract=contract_event
    )  # fmt: skip


def contract_event(session: Session, option_id: str) -> str | None:
    """Return the event that an option's contract was made for, None before it was ordered."""
    query = select(col(ContractRow.event_id)).where(col(ContractRow.option_id) == option_id)
    return session.execute(query).scalar_one_or_none()


def changed_rows(session: Session) -> list[ChangedRowError]:
    """Return every option that is not settled and whose row names another event than its contract."""
    query = (
        select(OptionRow, col(ContractRow.event_id))
        .join(ContractRow, col(ContractRow.option_id) == col(OptionRow.id))
        .where(col(OptionRow.state).in_(OptionRow.__machine__.pending))
    )
    ordered = query.order_by(col(OptionRow.id)).execution_options(yield_per=1_000)
    found = (changed(row, event) for row, event in session.execute(ordered))
    return [one for one in found if one is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixings:
    """The fixings of one feed in one transaction, each made once."""

    session: Session
    feed: Feed
    rule_of: RuleOf
    _known: dict[tuple[int, str, str | None], Fixed | NotHeldError | None] = field(default_factory=dict)
    _read: dict[str, Read] = field(default_factory=dict)
    """By preset: what minutes said, which many windows look for after an outage."""

    def of(self, option: OptionRow, contract_event: str | None) -> Fixed | NotHeldError | None:
        """Return an option's fixing by its own rule, None while it cannot be known.

        Or that its preset is not here, or that its row is not what its contract was made for (``contract_event``).
        """
        if (error := changed(option, contract_event)) is not None:
            return error
        bound = (option.expiry_unix, option.preset_sha256, option.fixing)
        if bound not in self._known:
            self._known[bound] = self._made(option)
        return self._known[bound]

    def _made(self, option: OptionRow) -> Fixed | NotHeldError | None:
        window, end = terms_of(option).window, Slot(option.expiry_unix)
        try:
            rule = self.rule_of(option.preset_sha256)
            read = self._read.setdefault(option.preset_sha256, {})
            return fixing_of(self.session, self.feed, window, end, rule, read=read)
        except NotHeldError as e:
            return e


def expire_due(session: Session, feed: Feed, rule_of: RuleOf, *, now: UnixSeconds, batch_size: int) -> int:
    """Expire every funded option whose fixing is known, queue its settlement and its attestation.

    Returns how many. A minute counts only when no earlier one is still open, so that a barrier has seen all of them.
    A window that lacks minutes takes the next ones (docs/decisions/0051); an option whose event is held after a restore
    waits for the operator, and so does one whose preset is not here: it says so.
    """
    last = closed_until(session, feed)
    if last is None:
        return 0
    query = (
        select(OptionRow, col(ContractRow.event_id))
        .join(ContractRow, col(ContractRow.option_id) == col(OptionRow.id), isouter=True)
        .where(col(OptionRow.state) == OptionState.ACTIVE, col(OptionRow.feed) == feed,
               col(OptionRow.expiry_unix) <= last)
    )  # fmt: skip
    due: list[tuple[OptionRow, Fixed]] = []
    fixings = Fixings(session=session, feed=feed, rule_of=rule_of)
    held = holds.held_ids(session)
    # without a limit on what is read: those that wait come first as often as not, and must keep no other one back
    for option, event in session.execute(query.order_by(col(OptionRow.id)).execution_options(yield_per=1_000)):
        if len(due) == DUE_AT_ONCE:
            break
        fixed = fixings.of(option, event)
        if isinstance(fixed, NotHeldError):
            note_waiting(option, str(fixed))
            continue
        note_waiting(option, None)
        if fixed is None or (held and event_of(option).id.hex() in held):
            continue
        due.append((option, fixed))
    crossings = [Crossing(row=option, detail=f"slot {known_at(fixed)}") for option, fixed in due]
    ours = {one.row.id for one in cross_all(session, crossings, OptionState.EXPIRED, now=now)}
    due = [one for one in due if one[0].id in ours]
    events = {event_of(option).id.hex() for option, _ in due}
    ids = add_settlements(session, due, reason="expiry", now=now)
    batches = [ids[i : i + batch_size] for i in range(0, len(ids), batch_size)]
    enqueue(session, [Work(flow="attest", arguments=(event,)) for event in sorted(events)], now=now)
    enqueue(session, [Work(flow="settle", arguments=(batch,)) for batch in batches], now=now)
    _fail_unfunded(session, feed, until=last, now=now)
    return len(ids)


def _fail_unfunded(session: Session, feed: Feed, *, until: Slot, now: UnixSeconds) -> None:
    """Call the sales failed that nobody has funded and whose expiry is over, once their parties have been silent.

    What is checked the buyer may still fund for UNFUNDED_SECONDS; what is funded the chain will say.
    """
    contract = col(ContractRow.state)
    query = (
        select(OptionRow)
        .outerjoin(ContractRow, col(ContractRow.option_id) == col(OptionRow.id))
        .where(
            col(OptionRow.state) == OptionState.CREATED, col(OptionRow.feed) == feed,
            col(OptionRow.expiry_unix) <= until, lapsed(col(OptionRow.updated_at_unix), now, SILENT_SECONDS),
            or_(
                contract.is_(None),
                contract.in_(CANCELLABLE_CONTRACTS) & lapsed(col(ContractRow.updated_at_unix), now, SILENT_SECONDS),
                (contract == ContractState.CHECKED) & lapsed(col(ContractRow.updated_at_unix), now, UNFUNDED_SECONDS),
            ),
        )
    )  # fmt: skip
    late = session.execute(query.order_by(col(OptionRow.id)).limit(DUE_AT_ONCE)).scalars()
    crossings = [
        Crossing(
            row=row, detail="its expiry passed unfunded",
            changes={"last_error": row.last_error or "its expiry passed, and its parties had not funded it"},
        )
        for row in late
    ]  # fmt: skip
    cross_all(session, crossings, OptionState.FAILED, now=now)


def known_at(fixed: Fixed) -> Slot:
    """Return the minute with which a fixing was known: its window's last, or a later one that it took."""
    return max(fixed.last, fixed.end)


def open_bounds(session: Session) -> frozenset[Bound]:
    """Return what the options that are not settled are bound to."""
    query = select(
        col(OptionRow.preset), col(OptionRow.preset_sha256), col(OptionRow.program), col(OptionRow.program_sha256)
    ).where(col(OptionRow.state).in_(OptionRow.__machine__.pending))
    return frozenset(
        Bound(preset=preset, preset_sha256=preset_sha256, program=program, program_sha256=program_sha256)
        for preset, preset_sha256, program, program_sha256 in session.execute(query.distinct())
    )


def is_anything_open(session: Session) -> bool:
    """Return whether an option waits for a price, or for what follows from one; also of a store of earlier releases."""
    if not has_table(session, OptionRow.__tablename__):
        return False
    waiting = select(col(OptionRow.id)).where(col(OptionRow.state).in_(OptionRow.__machine__.pending)).limit(1)
    return session.execute(waiting).first() is not None


def settlement_input_of(session: Session, option: OptionRow, fixed: Fixed, reason: str) -> bytes:
    """Return the guest's complete input: at expiry what the oracles attest, before it the market's own numbers."""
    if reason == "early_exercise":
        return input_at(session, option, fixed)
    event = event_of(option)
    outcome = condition_of_row(option).outcome(session, event, fixed.price)
    touched = outcome > event.max_price
    return price_input(terms_of(option), event.price_of(outcome), touched=touched).to_bytes()


def input_at(session: Session, option: OptionRow, fixed: Fixed) -> bytes:
    """Return the guest's input for exercising ``option`` early, at the last minute of a window: its fixing, to a cent.

    What exercising pays and what holding is worth are computed at the same price.
    """
    price, at = fixed.price, fixed.end
    seen = rounds.observed_range(session, Feed(option.feed), after=Slot(option.listed_slot), until=at)
    low, high = seen or (price, price)
    return settlement_input(
        terms_of(option), price=price, low=min(low, price), high=max(high, price), at=at,
        volatility=BasisPoints(option.volatility_bps), rate=BasisPoints(option.rate_bps),
    ).to_bytes()  # fmt: skip


def proven_window(session: Session, option: OptionRow, fixed: Fixed, reason: str) -> str | None:
    """Return the minutes behind a settlement's price as its row keeps them for the proof file: JSON.

    None for an earlier release's option, and where an attestation imported after a restore decides: its minutes are
    lost, and the store's others are not what was attested.
    """
    event = event_of(option)
    if option.fixing is None or (reason == "expiry" and holds.imported_outcome(session, event) is not None):
        return None
    rounding = event.rounding if reason == "expiry" else None
    return json.dumps(encode_window(window_of(event.fixing, fixed, rounding=rounding, digits=event.digits)))


def add_settlements(
    session: Session, due: Sequence[tuple[OptionRow, Fixed]], *, reason: str, now: UnixSeconds
) -> list[str]:
    """Store the one settlement of each option as due, with the guest's complete input; return their ids."""
    rows = []
    for option, fixed in due:
        given = settlement_input_of(session, option, fixed, reason)
        rows.append({
            "id": f"st-{option.id}", "option_id": option.id, "state": SettlementState.DUE.value, "reason": reason,
            "slot": known_at(fixed), "price_cents": SettlementInput.from_bytes(given).spot, "input_hex": given.hex(),
            "attempts": 0, "fence": 0, "retry_at_unix": 0, "created_at_unix": now, "updated_at_unix": now,
            "window": proven_window(session, option, fixed, reason),
        })  # fmt: skip
    session.flush()  # what this session changed before
    if rows:
        session.execute(insert(SettlementRow), rows)
    ids = [str(row["id"]) for row in rows]
    record_all(session, "settlement", dict.fromkeys(ids, reason), SettlementState.DUE, now=now)
    return ids


def describe(row: OptionRow) -> Mapping[str, Any]:
    """Return an option as plain JSON values, hex and unit-named, for a command line or an API."""
    plain = row.model_dump(exclude={"contract"})
    return {**plain, "kind": OptionKind(row.kind).label}
