"""What the console's pages show together; each question is one of the store's views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from btcfi.adapters.store.chain import views as chain
from btcfi.adapters.store.chain.tables import BlockRow
from btcfi.adapters.store.options import views as options
from btcfi.adapters.store.options.contract_tables import AttestationRow
from btcfi.adapters.store.options.tables import OptionState
from btcfi.adapters.store.prices import views as prices
from btcfi.adapters.store.prices.pause_tables import PausedFeedRow
from btcfi.adapters.store.prices.pauses import pause_of
from btcfi.adapters.store.prices.tables import RoundRow, RoundState
from btcfi.adapters.store.spine import views as spine
from btcfi.adapters.store.spine.database import Session
from btcfi.adapters.store.spine.tables import CanaryRow, EventRow
from btcfi.errors import NotFoundError

RECENT_ROUNDS = 60
"""Minutes of which the first page says how many have a price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """How much of everything is where, now."""

    rounds_open: int
    rounds_priced: int
    """Of the newest 60 minutes that have a round."""
    rounds_void: int
    premiums: int
    """Open options that have a premium of the newest price."""
    premiums_at: int | None
    options: Mapping[str, int]
    settlements: Mapping[str, int]
    oldest_due_unix: int | None
    oldest_due: str | None
    waiting: int
    """Messages that the broker has not been given yet."""
    requests: int
    counters: Mapping[str, int]

    @property
    def open_options(self) -> int:
        """Options that are sold and not settled; a sale that failed is none."""
        open_ones = (OptionState.CREATED, OptionState.ACTIVE, OptionState.EXPIRED)
        return sum(self.options.get(state, 0) for state in open_ones)

    @property
    def on_chain(self) -> int:
        """Settlements between their proof and their last confirmation."""
        return sum(self.settlements.get(state, 0) for state in options.ON_CHAIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What an operator looks at first."""

    newest: RoundRow | None
    """The newest priced minute."""
    newest_void: RoundRow | None
    tip: BlockRow | None
    canaries: Sequence[CanaryRow]
    paused: PausedFeedRow | None


def pipeline(session: Session, feed: str, newest: RoundRow | None) -> Pipeline:
    """Return the pipeline's counts. newest: the newest priced minute."""
    recent = prices.recent_states(session, feed, RECENT_ROUNDS)
    due = options.oldest_due(session)
    return Pipeline(
        rounds_open=prices.open_rounds(session),
        rounds_priced=recent.count(RoundState.PRICED),
        rounds_void=recent.count(RoundState.VOID),
        premiums=options.premiums_at(session, newest.slot) if newest is not None else 0,
        premiums_at=options.newest_premium_unix(session),
        options=options.options_by_state(session),
        settlements=options.settlements_by_state(session),
        oldest_due_unix=due.created_at_unix if due else None,
        oldest_due=due.id if due else None,
        waiting=spine.waiting(session).count,
        requests=options.open_requests(session),
        counters=spine.counters(session),
    )


def health(session: Session, feed: str, newest: RoundRow | None) -> Health:
    """Return the newest price, block and canaries. newest: the newest priced minute."""
    return Health(
        newest=newest,
        newest_void=prices.newest_void(session, feed),
        tip=chain.tip(session),
        canaries=spine.canaries(session),
        paused=pause_of(session, feed),
    )


def minutes_of(session: Session, events: Sequence[EventRow]) -> dict[str, int]:
    """Return the minute of every round that ``events`` name."""
    named = {event.entity_id for event in events if event.entity == "round"}
    minutes = prices.minutes_of(session, (int(name) for name in named if name.isdigit()))
    return {str(number): slot for number, slot in minutes.items()}


def round_at(session: Session, feed: str, slot: int) -> RoundRow:
    """Return a minute's round. Raises NotFoundError."""
    row = prices.round_at(session, feed, slot)
    if row is None:
        raise NotFoundError("round", str(slot), "the prices page lists them")
    return row


def story_of(session: Session, option_id: str) -> list[EventRow | AttestationRow]:
    """Return everything that happened to an option, in order of time."""
    many: list[EventRow | AttestationRow] = [
        *options.life_of(session, option_id), *options.attestations_of(session, option_id)
    ]  # fmt: skip
    return sorted(many, key=lambda one: one.at_unix if isinstance(one, EventRow) else one.claimed_at_unix)
