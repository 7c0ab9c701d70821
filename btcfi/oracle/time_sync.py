"""How far a node's clock is off: what was really measured, signed by the node itself.

Plain NTP has no signatures, so ``ntp_signature`` of the published message stays empty; the node signs its own
measurement, which makes a lie attributable, not impossible. Offsets follow NTP: positive means that the server is
ahead of us. Source: RFC 5905, section 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NewType

from btcfi.errors import InvalidInputError
from btcfi.units import MAX_U32

Milliseconds = NewType("Milliseconds", int)
"""A signed span of time, or since 1970 where a name says so."""

MAX_UNIX_MS: Final = MAX_U32 * 1000
"""Year 2106, where our times end."""

MAX_SERVERS: Final = 255
"""More time servers than anybody asks."""


class TimeSampleError(InvalidInputError):
    """A time measurement contradicts itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSample:
    """One exchange of messages with one time server, all in milliseconds since 1970."""

    server: str
    sent_local: Milliseconds
    received_server: Milliseconds
    sent_server: Milliseconds
    received_local: Milliseconds

    @property
    def offset(self) -> Milliseconds:
        """The server's clock minus ours, assuming equal delay both ways."""
        forth = self.received_server - self.sent_local
        back = self.sent_server - self.received_local
        return Milliseconds((forth + back) // 2)

    @property
    def round_trip(self) -> Milliseconds:
        """Time on the wire; the offset is uncertain by half of it."""
        return Milliseconds((self.received_local - self.sent_local) - (self.sent_server - self.received_server))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSyncProof:
    """What a node measured about its own clock."""

    local_unix_ms: Milliseconds
    """Our clock when the best sample came back."""
    reference_unix_ms: Milliseconds
    """What the reference said it was at that moment."""
    round_trip_ms: Milliseconds
    servers: int
    """How many servers answered; 0 when the only reference was the aggregator."""

    @property
    def offset_ms(self) -> Milliseconds:
        """Reference minus local."""
        return Milliseconds(self.reference_unix_ms - self.local_unix_ms)

    def __post_init__(self) -> None:
        times_sane = all(0 <= t < MAX_UNIX_MS for t in (self.local_unix_ms, self.reference_unix_ms))
        if not times_sane or not 0 <= self.round_trip_ms <= MAX_U32 or not 0 <= self.servers <= MAX_SERVERS:
            raise TimeSampleError("time proof", f"offset {self.offset_ms} ms", "a measured offset and round trip")


def best_estimate(samples: Sequence[TimeSample], *, servers: int) -> TimeSyncProof:
    """Return the proof of the median offset over ``samples``: one lying server of three cannot move it.

    Raises TimeSampleError for no samples, or a round trip below 0.
    """
    if not samples or any(s.round_trip < 0 for s in samples):
        raise TimeSampleError("time samples", f"{len(samples)} given", "at least one, each with round trip >= 0")
    ordered = sorted(samples, key=lambda s: (s.offset, s.round_trip, s.server))
    chosen = ordered[(len(ordered) - 1) // 2]
    return TimeSyncProof(
        local_unix_ms=chosen.received_local,
        reference_unix_ms=Milliseconds(chosen.received_local + chosen.offset),
        round_trip_ms=chosen.round_trip,
        servers=servers,
    )
