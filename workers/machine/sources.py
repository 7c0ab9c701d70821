"""One store, one market: `btcfi up` plays no other market into a store that has prices.

The clock of a played market goes on from the store's newest minute, whatever market printed that one: a second market
would settle at its own price what was sold at the first one's.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from btcfi.adapters.store.options.options import is_anything_open
from btcfi.adapters.store.prices import sources
from btcfi.adapters.store.prices.sources import LIVE, RECORDED, Shelf
from btcfi.adapters.store.spine.database import Session, Store
from btcfi.adapters.venues.candle_folder import read_candle_folder
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.errors import InvalidInputError, PreconditionError
from btcfi.oracle.quote import Feed
from btcfi.oracle.venues.synthetic import simulated_market
from btcfi.units import Slot, unix_seconds
from settings.deployment import Deployment

REGTEST: Final = "regtest"

REPLAY: Final = "replay of "
"""Before the path of somebody's own recording, which `btcfi demo --replay` plays."""

ELSEWHERE: Final = "another --data-dir"
"""Where any market can begin."""


def chosen(*, live: bool, recorded: bool, seed: int) -> str:
    """Return what the market that was asked for is called in the store."""
    if live:
        return LIVE
    return RECORDED if recorded else sources.simulated(seed)


def of_folder(folder: Path | None) -> str:
    """Return what `btcfi demo` calls its market: a folder of candles, None for the live exchanges."""
    if folder is None:
        return LIVE
    return RECORDED if folder.resolve() == SYNTHETIC_CANDLES.resolve() else f"{REPLAY}{folder.resolve()}"


def refuse_other_market(deployment: Deployment, source: str) -> None:
    """Raise where ``source`` must not price this deployment's feed; makes nothing, and needs no migrated store.

    Raises InvalidInputError for a market that nobody printed on a chain with other people's coins, PreconditionError
    where the store has prices of another market, StoreUnreachableError.
    """
    if source != LIVE and deployment.network != REGTEST:
        said = f"{deployment.network}, with prices that no market printed ({source})"
        raise InvalidInputError("BTCFI_NETWORK", said, "regtest, or `btcfi up --live`")
    if deployment.missing_database is not None:
        return
    store = Store(deployment.database_url)
    try:
        with store.reading() as session:
            _refuse(session, Feed(deployment.feed), source)
    finally:
        store.close()


def note_market(store: Store, deployment: Deployment, source: str) -> None:
    """Note in a migrated store whose prices come now."""
    with store.transaction() as session:
        sources.note_source(session, Feed(deployment.feed), source, now=unix_seconds(int(time.time())))


def _refuse(session: Session, feed: Feed, source: str) -> None:
    if (ends := sources.priced_ends(session, feed)) is None:
        return
    if (noted := sources.source_of(session, feed)) is not None:
        if noted != source:
            said = f"this store has prices of another market ({noted}); {source} would settle what is open"
            raise PreconditionError("prices", said, f"`btcfi {_words(noted)}` goes on with it; or {ELSEWHERE}")
        return
    if _is_of(session, feed, ends, source):
        return
    if sources.are_printed_by(session, feed, ends, _shelf(RECORDED)):
        if not is_anything_open(session):
            return
        said = f"options are open in this store that the recording priced, and {source} would settle them by its own"
        raise PreconditionError("prices", said, f"`btcfi up --recorded` shows it as it is; or {ELSEWHERE}")
    said = f"nothing says which market this store's prices are of, and they are not those of {source}"
    do = f"the --seed, --recorded or --live of `btcfi up` that it had; or {ELSEWHERE}"
    raise PreconditionError("prices", said, do)


def _is_of(session: Session, feed: Feed, ends: tuple[Slot, Slot], source: str) -> bool:
    """Return whether a store of an earlier release, which notes no source, has the prices of this one."""
    if source == LIVE:
        return sources.are_prompt(session, feed, ends)
    return sources.are_printed_by(session, feed, ends, _shelf(source))


def _shelf(source: str) -> Shelf:
    if not source.startswith("simulated"):
        folder = SYNTHETIC_CANDLES if source == RECORDED else Path(source.removeprefix(REPLAY))
        candles = read_candle_folder(folder).candles
        return lambda venue, slot: candles.get(venue, {}).get(slot)
    market = simulated_market(int(source.rpartition(" ")[2]), lambda: Slot(0))
    return lambda venue, slot: market[venue][slot] if venue in market else None


def _words(source: str) -> str:
    """Return the command that plays a market."""
    if source.startswith(REPLAY):
        return f"demo --replay {source.removeprefix(REPLAY)}"
    return f"up --{source}" if source in {LIVE, RECORDED} else f"up --seed {source.rpartition(' ')[2]}"
