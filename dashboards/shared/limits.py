"""Bounds on what one visitor of pages may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLimits:
    """What holds at either door of pages."""

    body_bytes: int = 64 << 10
    """Of any form."""
    requests_at_once: int = 8
    """Under way of one address, open live streams aside; more of them wait, without their bodies."""
    requests_per_minute: int = 1_800
    """Of one address, whoever is signed in there; a tenth of it at once."""
    wait_seconds: float = 20.0
    """So long; then they are refused."""
    body_seconds: float = 10.0
    """In which a form may come as it likes; from then on at least 64 KiB a second."""
    room_bytes: int = 8 << 20
    """Of all forms that are still coming or being worked on, in one process."""
    room_bytes_per_address: int = 1 << 20
    """Of them of one address."""
    streams: int = 64
    """Open live streams of one process."""
    streams_per_visitor: int = 12
    """Of them of one account."""
    stream_seconds: float = 600.0
    """A stream is ended then and the browser opens it again: a client that never reads holds its place no longer."""
    page: int = 50
    """Rows of one page of a list."""
