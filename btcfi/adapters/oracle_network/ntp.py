"""Ask NTP servers for the time: four timestamps each, from which ``btcfi.oracle.time_sync`` makes the offset."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from time import time
from typing import Final

import ntplib

from btcfi.oracle.time_sync import Milliseconds, TimeSample

NTP_VERSION: Final = 3
PORT: Final = 123


def measure_ntp(
    servers: Iterable[str], *, timeout_seconds: float = 2.0, clock: Callable[[], float] = time
) -> list[TimeSample]:
    """Return one sample for each server (``host`` or ``host:port``) that answered in time; none raises.

    clock: ours, unix seconds. The wire's timestamps are taken from the operating system; a clock that differs from it
    (a replay's) shifts our two by the difference.
    """
    client, shift = ntplib.NTPClient(), clock() - time()
    samples = []
    for server in servers:
        host, _, port = server.partition(":")
        try:
            answer = client.request(host, version=NTP_VERSION, port=int(port or PORT), timeout=timeout_seconds)
        except (ntplib.NTPException, socket.gaierror, OSError, ValueError):
            continue  # silence is counted: the proof says how many servers answered
        samples.append(
            TimeSample(
                server=server,
                sent_local=_ms(answer.orig_time + shift),
                received_server=_ms(answer.recv_time),
                sent_server=_ms(answer.tx_time),
                received_local=_ms(answer.dest_time + shift),
            )
        )
    return [s for s in samples if s.round_trip >= 0]


def _ms(seconds: float) -> Milliseconds:
    return Milliseconds(round(seconds * 1000))
