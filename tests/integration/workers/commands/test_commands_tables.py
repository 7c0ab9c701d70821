"""Lists fit an 80 column terminal and lose no digit; a pipe gets every column."""

import re

import pytest

from btcfi.adapters.store.options.tables import OptionRow
from workers.commands import options

ROWS = [
    OptionRow(
        id=f"{number:016x}", feed="BTC/USD", state="ABANDONED", kind=kind, strike_cents=12_345_678_90,
        american=bool(kind % 2),
        quantity_centi_btc=1_234, barrier_cents=23_456_789_01 if kind > 1 else None, expiry_unix=1_700_000_040,
        premium_cents=1_234_567, premium_sats=1, collateral_sats=123_400_000_000, volatility_bps=1, rate_bps=1,
        preset="standard", preset_sha256="00", program="p", program_sha256="00", created_at_unix=1, listed_slot=1,
        updated_at_unix=1,
    )
    for number, kind in enumerate(range(4))
]  # fmt: skip


@pytest.mark.parametrize("length", [16, 32, 128])
@pytest.mark.parametrize("width", [80, 100, 155, 156, 200])
def test_the_list_of_options_fits_and_is_complete(width, length, monkeypatch, capsys):
    """The command line's ids have 16 characters, the page's 32, a caller's own up to 128, and any of them a bracket."""
    monkeypatch.setattr(options, "PIPE_WIDTH", width)
    ids = [f"{number:016x}".ljust(length, "f") for number in range(len(ROWS))]
    options._table([row.model_copy(update={"id": one}) for row, one in zip(ROWS, ids, strict=True)])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    together = re.sub(r"\s+", " ", shown)
    if length > 32:  # too long for a line: folded, and whole when its pieces are put together
        pieces = re.findall(r"^([0-9a-f]+)", shown, re.MULTILINE)
        assert "".join(pieces).startswith(ids[0])
    for whole in (
        *(ids if length <= 32 else ()),
        "ABANDONED",
        "12,345,678.90",
        "23,456,789.01",
        "12.34",
        "12,345.67",
        "2023-11-14T22:14",
    ):
        assert whole in together
