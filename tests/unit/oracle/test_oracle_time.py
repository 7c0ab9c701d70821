"""A node's measured clock: from four timestamps to a proof, and from a real NTP exchange."""

from __future__ import annotations

import socket
import struct
import threading
import time

import pytest

from btcfi.adapters.oracle_network.ntp import measure_ntp
from btcfi.oracle.time_sync import TimeSample, TimeSampleError, TimeSyncProof, best_estimate

NTP_EPOCH = 2_208_988_800


def sample(offset: int, *, delay: int = 10, name: str = "s") -> TimeSample:
    return TimeSample(
        server=name, sent_local=1_000_000, received_server=1_000_000 + delay + offset,
        sent_server=1_000_000 + delay + offset + 1, received_local=1_000_000 + 2 * delay + 1,
    )  # fmt: skip


def test_offset_and_round_trip_are_those_of_ntp() -> None:
    assert (sample(250).offset, sample(250).round_trip) == (250, 20)
    assert sample(-300_000).offset == -300_000


def test_one_lying_server_of_three_does_not_move_the_estimate() -> None:
    proof = best_estimate([sample(3, name="a"), sample(999_999, name="b"), sample(5, name="c")], servers=3)
    assert (proof.offset_ms, proof.servers) == (5, 3)


def test_no_sample_or_a_round_trip_into_the_past_is_no_proof() -> None:
    backwards = TimeSample(server="x", sent_local=10, received_server=0, sent_server=100, received_local=11)
    for samples in ([], [backwards]):
        with pytest.raises(TimeSampleError):
            best_estimate(samples, servers=1)
    with pytest.raises(TimeSampleError):
        TimeSyncProof(local_unix_ms=-1, reference_unix_ms=0, round_trip_ms=0, servers=0)


class NtpServer:
    """A server on loopback that speaks enough of RFC 5905 and whose clock is ``ahead`` seconds fast."""

    def __init__(self, ahead: float) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.ahead = ahead
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                request, sender = self.socket.recvfrom(512)
            except OSError:
                return
            now = struct.pack(">Q", int((time.time() + self.ahead + NTP_EPOCH) * 2**32))
            self.socket.sendto(bytes([0x1C, 2, 4, 0xEC]) + bytes(12) + now + request[40:48] + now + now, sender)

    def close(self) -> None:
        self.socket.close()


def test_a_real_exchange_with_time_servers_measures_how_far_our_clock_is_off() -> None:
    servers = [NtpServer(ahead) for ahead in (5.0, 5.2, 900.0)]
    try:
        samples = measure_ntp([s.address for s in servers] + ["127.0.0.1:9", "not a host"], timeout_seconds=0.5)
        shifted = measure_ntp([servers[0].address], timeout_seconds=0.5, clock=lambda: time.time() + 300)
    finally:
        for server in servers:
            server.close()
    assert len(samples) == 3
    assert abs(best_estimate(samples, servers=3).offset_ms - 5_200) <= 100
    assert abs(shifted[0].offset + 295_000) <= 100
