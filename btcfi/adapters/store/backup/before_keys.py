"""What a restore writes before an oracle's key: which events the key may have attested since the backup.

A restore may be killed between any two files, and whoever starts what is there then must find no oracle whose key is
there and which holds nothing. So each folder's ``held.json``, and the marks of its ledger of minutes, come before its
key; the ledgers themselves stand before the key in every backup.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlmodel import Session

from btcfi.adapters.oracle.folder import Held, OracleFolder
from btcfi.adapters.store.backup.moved import ORACLES, ClockBehindError
from btcfi.adapters.store.options import attesting
from btcfi.adapters.store.prices.rounds import market_now
from btcfi.oracle.quote import Feed
from btcfi.units import UnixSeconds

KEY_SUFFIX: Final = ".key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a restore happens, and of which market: what was over by then may have been attested."""

    now: UnixSeconds
    """The latest of all clocks that were asked."""
    clocks: Mapping[str, UnixSeconds] = field(default_factory=dict)
    """What each clock says that has to be right, by its name: none may be before the backup was taken."""
    trusted: bool = False
    """An operator's word that the clocks are right, and that the backup was taken by one that was ahead."""
    replay: Feed | None = None
    """The feed of a deployment that replays recorded minutes: its events expire in the recording's time."""

    def after(self, taken_at: UnixSeconds) -> UnixSeconds:
        """Return until when what is over has to be held, at least ``taken_at``. Raises ClockBehindError."""
        for name, said in (dict(self.clocks) or {"this machine's clock": self.now}).items():
            if said < taken_at and not self.trusted:
                raise ClockBehindError(name, said=said, taken_at=taken_at)
        return UnixSeconds(max(self.now, taken_at))


def held_since(
    session: Session, moment: Moment, *, taken_at: UnixSeconds, named: tuple[str, ...], authentic: bool
) -> Held:
    """Return what the oracles hold after a restore whose store holds the events ``named``.

    authentic: whether the store's tables may decide anything; what they decide can be attested with one outcome only.
    """
    decided = set(attesting.event_ids(session)) - set(named) if authentic else set[str]()
    until = moment.after(taken_at)
    if moment.replay is not None:
        until = market_now(session, moment.replay, replay=True, now=until)
    return Held(taken_at=taken_at, until=until, released=frozenset(decided), named=frozenset(named))


class BeforeKeys:
    """Called before each file of a backup's keys is written: an oracle's key comes behind what its folder holds."""

    def __init__(self, held: Held, secret_files: Mapping[str, Path]) -> None:
        """Take what is held, and where the oracles' folders lie."""
        self._held, self._top, self._old = held, secret_files.get(ORACLES), 0

    def __call__(self, target: Path) -> None:
        """Hold, if the file is an oracle's key: in its folder, or in the one that is made of an earlier release's."""
        if self._top is None or target.suffix != KEY_SUFFIX or self._top not in target.parents:
            return
        folder = target.parent
        if folder == self._top:  # in the order of their names, as they are taken over
            folder, self._old = self._top / f"oracle-{self._old}", self._old + 1
        OracleFolder(folder).keep_held(self._held)
