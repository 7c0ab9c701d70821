"""SYNTHETIC candles, made by ``generate.py``: no market ever printed them. What the demo runs on without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SYNTHETIC_CANDLES: Final = Path(__file__).parent
"""A replay folder as ``candle_folder.py`` reads it, shipped with the package."""
