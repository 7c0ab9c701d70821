"""Premiums, Greeks, volatility and risk, in floating point: the only package that has any. docs/pricing.md walks it."""

from __future__ import annotations

from pathlib import Path

from btcfi.pricing.kernel_cache import drop_stale_kernels

drop_stale_kernels(Path(__file__).parent)
