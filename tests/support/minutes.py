"""A minute event, and a ledger of minutes in memory, for tests."""

from btcfi.oracle.minute_event import MinuteBook, MinuteEvent
from btcfi.units import Hash32, Slot

EVENT = MinuteEvent(feed="BTC/USD", slot=Slot(60 * 29_000_000), preset_hash=Hash32(b"\x02" * 32))


class MemoryMinutes:
    """Test support: a ledger that lasts as long as the test."""

    def __init__(self):
        self.books = {}

    def claim(self, *, oracle_key, series, slot, said):
        named = (oracle_key, series)
        self.books[named], standing = self.books.get(named, MinuteBook()).claim(slot, said)
        return standing
