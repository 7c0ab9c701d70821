"""What a party has posted and taken at a market, on its disk before anybody else knows of it.

Its process signs no contract of an offer that is not here, or that it has withdrawn, and none of a take that is not
here: a service that hands it somebody else's words, or its own of last week, gets nothing. Processes of one party share
the file: who quotes writes it, who signs reads it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from btcfi.adapters.files import make_private, open_private, read_untrusted, sync_directory, write_private
from btcfi.documents import parse_json
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.firm_offer import (
    SignedOffer,
    SignedTake,
    decode_signed_offer,
    decode_signed_take,
    encode_signed_offer,
    encode_signed_take,
)
from btcfi.units import Hash32, UnixSeconds, hash32

MARKET_FOLDER: Final = "market"
"""Of a party's folder."""

KEPT_SECONDS: Final = 3_600
"""After an offer or a take has lapsed its row may go: nothing of it is signed by then."""

_SPARE: Final = 4_096
"""Rows that may be gone before the file is written anew."""

_MAX_NUMBER_BYTES: Final = 32
_MICROSECONDS: Final = 1_000_000


class TakeWithdrawnError(NotFoundError):
    """A take of ours that came to nothing: nothing of it is signed."""

    def __init__(self, take: Hash32) -> None:
        super().__init__("take", take.hex()[:16], "it was taken back; `btcfi market take` makes another")
        self.take = take


class OfferWithdrawnError(NotFoundError):
    """An offer of ours that we have taken back: no take of it is signed."""

    def __init__(self, offer: Hash32) -> None:
        super().__init__("offer", offer.hex()[:16], "it was withdrawn; `btcfi market offer` posts another")
        self.offer = offer


class TakeCancelledError(NotFoundError):
    """A take of ours, or of an offer of ours, that we have cancelled: its contract is not signed."""

    def __init__(self, option: str) -> None:
        super().__init__("take", option[:40], "you have cancelled it; `btcfi market take` makes another")
        self.option = option


@dataclass(kw_only=True)
class _Kept:
    """What the file says, as far as it was read."""

    offers: dict[Hash32, SignedOffer] = field(default_factory=dict)
    withdrawn: set[Hash32] = field(default_factory=set)
    takes: dict[Hash32, tuple[SignedTake, SignedOffer]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    """Options whose contracts are not signed any more; few, and kept for good."""
    rows: int = 0
    end: int = 0
    """Bytes of whole lines."""
    of: tuple[int, int] = (0, 0)
    """Device and inode."""


class MarketLedger:
    """The ledger in a folder, ``market`` of a party's: a file of JSON lines, each written and synced at once."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Take the folder; it is made at the first writing. clock: Unix time in seconds."""
        self._folder, self._clock = folder, clock
        self._file, self._numbers, self._lock = folder / "ledger.jsonl", folder / "last-number", folder / "ledger.lock"
        self._kept = _Kept()
        self._depth = 0

    # ---- offers

    def add_offer(self, signed: SignedOffer) -> None:
        """Write down an offer that is about to be posted; the same again changes nothing."""
        self.add_offers([signed])

    def add_offers(self, many: Sequence[SignedOffer]) -> None:
        """Write down many with one sync."""
        with self.held():
            self._append([{"offer": encode_signed_offer(one)} for one in many if one.offer.id not in self._kept.offers])

    def offers(self) -> list[SignedOffer]:
        """Return the offers that stand: neither withdrawn nor lapsed."""
        now = self._clock()
        with self.held():
            kept = self._kept
            return [
                one
                for name, one in kept.offers.items()
                if name not in kept.withdrawn and one.offer.valid_until > now
            ]  # fmt: skip

    def offer(self, id: Hash32) -> SignedOffer:  # noqa: A002 - the field's name
        """Return an offer of ours, lapsed or not. Raises NotFoundError, OfferWithdrawnError."""
        with self.held():
            if id not in self._kept.offers:
                raise NotFoundError("offer of ours", id.hex()[:16], "`btcfi market offer` posts one")
            if id in self._kept.withdrawn:
                raise OfferWithdrawnError(id)
            return self._kept.offers[id]

    def withdraw(self, *ids: Hash32) -> None:
        """Sign no take of these offers any more, and nothing of these takes, unless it is agreed already.

        Again changes nothing. Raises NotFoundError.
        """
        with self.held():
            for one in ids:
                if one not in self._kept.offers and one not in self._kept.takes:
                    raise NotFoundError("offer of ours", one.hex()[:16], "`btcfi market offers` lists them")
            self._append([{"withdrawn": one.hex()} for one in ids if one not in self._kept.withdrawn])

    # ---- takes

    def add_take(self, signed: SignedTake, offer: SignedOffer) -> None:
        """Write down a take that is about to be sent, and the offer that it takes; the same again changes nothing."""
        with self.held():
            if signed.take.id not in self._kept.takes:
                self._append([{"take": encode_signed_take(signed), "of": encode_signed_offer(offer)}])

    def take(self, id: Hash32) -> SignedTake:  # noqa: A002 - as above
        """Return a take of ours. Raises NotFoundError, TakeWithdrawnError."""
        with self.held():
            if id not in self._kept.takes:
                raise NotFoundError("take of ours", id.hex()[:16], "`btcfi market take` makes one")
            if id in self._kept.withdrawn:
                raise TakeWithdrawnError(id)
            return self._kept.takes[id][0]

    def takes(self) -> list[tuple[SignedTake, SignedOffer]]:
        """Return the takes that are kept, each with what it took, the oldest first."""
        with self.held():
            return list(self._kept.takes.values())

    def cancel(self, option: str) -> None:
        """Sign no contract of this option any more, whoever's take it is of; again changes nothing.

        The caller holds the party's folder, and has seen that nothing of its funding is signed.
        """
        with self.held():
            self._append([] if option in self._kept.cancelled else [{"cancelled": option}])

    def check_not_cancelled(self, option: str) -> None:
        """Raise TakeCancelledError for an option whose contract we have cancelled."""
        with self.held():
            if option in self._kept.cancelled:
                raise TakeCancelledError(option)

    # ---- numbers

    def next_number(self) -> int:
        """Return a number that no offer or take of ours has: above every one before, also after a restart."""
        return self.next_numbers(1)[0]

    def next_numbers(self, count: int) -> range:
        """Return as many such numbers in a row. They follow the clock, in microseconds, and never go back with it."""
        with self.held():
            last = self._last_number()
            first = max(int(self._clock() * _MICROSECONDS), last + 1)
            write_private(self._numbers, str(first + count - 1).encode())
            return range(first, first + count)

    def _last_number(self) -> int:
        if not self._numbers.exists():
            return 0
        raw = read_untrusted(self._numbers, at_most=_MAX_NUMBER_BYTES, what="number of the last offer")
        if not raw.isdigit():
            raise InvalidInputError(str(self._numbers), repr(raw), "the number of the last offer or take, in digits")
        return int(raw)

    # ---- the file

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the ledger: no other process withdraws or adds until it is let go. May be nested, in one thread."""
        if self._depth:
            yield
            return
        make_private(self._folder, named=True)
        with open_private(self._lock) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._depth += 1
            try:
                self._catch_up()
                yield
            finally:
                self._depth -= 1

    def _append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write rows and sync them. Raises InvalidInputError for one that could not be read again, and writes none."""
        if not rows:
            return
        for row in rows:  # one that no reader takes would be the last that is ever read of this file
            _take_in(row, _Kept())
        if self._kept.rows > _SPARE + 2 * len((*self._kept.offers, *self._kept.takes, *self._kept.cancelled)):
            self._write_anew()
        with open_private(self._file) as file:
            file.truncate(self._kept.end)  # a torn last line is a word that never left: nothing was posted on it
            file.seek(self._kept.end)
            file.write(b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
        if not self._kept.end:
            sync_directory(self._folder)
        self._catch_up()

    def _write_anew(self) -> None:
        """Write what may still count, and leave out what lapsed long ago."""
        kept, since = self._kept, UnixSeconds(int(self._clock()) - KEPT_SECONDS)
        standing = {name: one for name, one in kept.offers.items() if one.offer.valid_until > since}
        rows: list[dict[str, Any]] = [{"offer": encode_signed_offer(one)} for one in standing.values()]
        taken = {name: one for name, one in kept.takes.items() if one[0].take.valid_until > since}
        rows += [{"withdrawn": name.hex()} for name in kept.withdrawn if name in standing or name in taken]
        rows += [{"cancelled": option} for option in sorted(kept.cancelled)]
        rows += [{"take": encode_signed_take(take), "of": encode_signed_offer(offer)} for take, offer in taken.values()]
        write_private(self._file, b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows))
        self._catch_up()

    def _catch_up(self) -> None:
        """Read what was added since the last look; another file in its place is read from its beginning."""
        if not self._file.exists():
            self._kept = _Kept()
            return
        with open_private(self._file) as file:
            found = os.fstat(file.fileno())
            if self._kept.of != (found.st_dev, found.st_ino) or found.st_size < self._kept.end:
                self._kept = _Kept(of=(found.st_dev, found.st_ino))
            if found.st_size > self._kept.end:
                self._read(file)
        self._forget()

    def _read(self, file: IO[bytes]) -> None:
        file.seek(self._kept.end)
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                _take_in(parse_json(line, "line"), self._kept)
            except (InvalidInputError, KeyError, TypeError, ValueError) as e:
                problem = f"byte {self._kept.end}: {line[:40]!r}"
                raise InvalidInputError(str(self._file), problem, "a line of a market ledger as it was written") from e
            self._kept.end += len(line)
            self._kept.rows += 1

    def _forget(self) -> None:
        """Keep in memory what may still count."""
        kept, since = self._kept, self._clock() - KEPT_SECONDS
        for name in [name for name, one in kept.offers.items() if one.offer.valid_until <= since]:
            del kept.offers[name]
            kept.withdrawn.discard(name)
        for name in [name for name, (take, _) in kept.takes.items() if take.take.valid_until <= since]:
            del kept.takes[name]
            kept.withdrawn.discard(name)


def _take_in(row: dict[str, Any], kept: _Kept) -> None:
    """Note what a row says. Raises InvalidInputError, and what a row of another shape raises."""
    if "withdrawn" in row:
        kept.withdrawn.add(hash32(bytes.fromhex(row["withdrawn"])))
    elif "cancelled" in row:
        kept.cancelled.add(str(row["cancelled"]))
    elif "take" in row:
        take, offer = decode_signed_take(row["take"]), decode_signed_offer(row["of"])
        kept.takes[take.take.id] = (take, offer)
    else:
        signed = decode_signed_offer(row["offer"])
        kept.offers[signed.offer.id] = signed
