"""Raw responses on disk: what an exchange said, byte for byte, to be replayed later.

``FOLDER/index.jsonl`` has one line a response ``{"venue", "slot", "observed_at_unix", "sha256"}``;
``FOLDER/responses/SHA256`` holds the bytes. A response is stored before its line is written, so a cut recording reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from btcfi.adapters.files import make_named, open_named, write_named
from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256
from btcfi.oracle.quote import Missing, Observation, VenueId, parse_venue
from btcfi.units import SECONDS_PER_MINUTE, Hash32, Minutes, Slot, UnixSeconds, hash32, slot, slot_of, unix_seconds

INDEX: Final = "index.jsonl"
RESPONSES: Final = "responses"


class BrokenRecordingError(InvalidInputError):
    """A recording's index or one of its responses is not what was written."""


class Fetches(Protocol):
    """What the recorder needs of a venue's client (``ccxt_venue.VenueClient``)."""

    @property
    def venue(self) -> VenueId:
        """The market that it reads."""

    def fetch(self, slot: Slot, now: UnixSeconds) -> tuple[Observation, bytes]:
        """Return what the venue says about ``slot``, and the raw response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The index of a recording; the bytes are read when asked for, and checked against their hash."""

    folder: Path
    hashes: Mapping[tuple[VenueId, Slot], Hash32]

    @property
    def venues(self) -> frozenset[VenueId]:
        """Every market that has at least one response."""
        return frozenset(venue for venue, _ in self.hashes)

    def response(self, venue: VenueId, at: Slot) -> bytes | None:
        """Return the raw response of a minute, None without one. Raises BrokenRecordingError for changed bytes."""
        digest = self.hashes.get((venue, at))
        if digest is None:
            return None
        file = self.folder / RESPONSES / digest.hex()
        if not file.is_file() or sha256(raw := file.read_bytes()) != digest:
            raise BrokenRecordingError(str(file), "missing or changed", f"bytes with SHA-256 {digest.hex()}")
        return raw


def read_recording(folder: Path) -> Recording | None:
    """Return the recording in ``folder``, None when there is no index. Raises BrokenRecordingError with the line."""
    index = folder / INDEX
    if not index.is_file():
        return None
    hashes: dict[tuple[VenueId, Slot], Hash32] = {}
    for number, line in enumerate(index.read_text().splitlines(), start=1):
        try:
            row = json.loads(line)
            key = (parse_venue(row["venue"]), slot(row["slot"]))
            unix_seconds(row["observed_at_unix"])
            hashes[key] = hash32(bytes.fromhex(row["sha256"]))
        except (ValueError, KeyError, TypeError, InvalidInputError) as e:
            raise BrokenRecordingError(f"{INDEX} line {number}", str(e)[:80], "a line of a recording") from e
    return Recording(folder=folder, hashes=hashes)


def store_response(folder: Path, observation: Observation, raw: bytes) -> None:
    """Append one fetch to the recording in ``folder``. A fetch without a response (a timeout) leaves nothing."""
    if not raw:
        return
    digest = sha256(raw)
    responses = folder / RESPONSES
    make_named(responses)
    write_named(responses / digest.hex(), raw)
    row = {
        "venue": str(observation.venue),
        "slot": observation.slot,
        "observed_at_unix": observation.observed_at,
        "sha256": digest.hex(),
    }
    with open_named(folder / INDEX, append=True) as index:
        index.write(json.dumps(row).encode() + b"\n")


def record(
    folder: Path,
    clients: Iterable[Fetches],
    minutes: Minutes,
    *,
    clock: Callable[[], UnixSeconds],
    sleep: Callable[[float], None],
    grace_seconds: int = 2,
    tell: Callable[[Observation], None] | None = None,
) -> tuple[int, int]:
    """Record whole minutes from now on into ``folder``; return how many fetches had a quote and how many none.

    Each minute is fetched ``grace_seconds`` after it has closed, from every client. ``tell`` hears of every fetch.
    Raises InvalidInputError for a folder that cannot be written, before the first minute.
    """
    try:
        make_named(folder / RESPONSES)
        open_named(folder / INDEX, append=True).close()
    except OSError as e:
        raise InvalidInputError("folder", f"{folder} ({e.strerror})", "a folder that can be written") from e
    everyone = list(clients)
    quoted = missed = 0
    first = slot_of(clock())
    for k in range(minutes):
        at = Slot(first + k * SECONDS_PER_MINUTE)
        due = at + SECONDS_PER_MINUTE + grace_seconds
        while (now := clock()) < due:
            sleep(min(due - now, 1.0))
        for client in everyone:
            observation, raw = client.fetch(at, clock())
            store_response(folder, observation, raw)
            if isinstance(observation, Missing):
                missed += 1
            else:
                quoted += 1
            if tell is not None:
                tell(observation)
    return quoted, missed
