"""The basis: what a future costs beyond the spot. Source: the appendix, section 3, with its signs put right (C7)."""


def covered_forward(spot: float, *, quote_rate: float, asset_rate: float) -> float:
    """Return the forward price at which nobody gains by holding the asset instead, a year ahead.

    Prices in the quote per asset; rates a year, 0.024 is 2.4 %. The appendix's A.9 to A.11 are its inverse.
    """
    return spot * (1.0 + quote_rate) / (1.0 + asset_rate)
