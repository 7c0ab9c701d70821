"""Premiums against fifty digits."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from btcfi.pricing import black_scholes
from btcfi.pricing.domain import KIND_LABELS, PricingDomainError
from tests.support.paths import VECTORS_FOLDER

VECTORS = json.loads(
    (VECTORS_FOLDER / "pricing" / "premiums.json").read_text(encoding="utf-8")
)["tests"]  # fmt: skip
FIELDS = ("spot", "strike", "tau_years", "volatility", "rate", "carry_yield")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['id']}-{v['kind']}-{v['comment']}".replace(" ", "_"))
def test_a_premium_equals_its_vector_to_ten_digits_or_is_refused(vector):
    market = {name: vector[name] for name in FIELDS}
    kind = KIND_LABELS.index(vector["kind"])
    if vector["result"] == "invalid":
        with pytest.raises(PricingDomainError):
            black_scholes.premium(kind, **market)
        return
    exact = Decimal(vector["premium"])
    error = abs(Decimal(float(black_scholes.premium(kind, **market))) - exact)
    # relative to the premium, or where that is a difference of two larger sums, to their rounding
    assert error <= max(abs(exact) * Decimal("1e-10"), Decimal(vector["spot"] + vector["strike"]) * Decimal("1e-16"))
