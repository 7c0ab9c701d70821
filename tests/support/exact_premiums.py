"""Premiums at any number of digits: plain, binary, knocked out and knocked in."""

import mpmath


def exact_premium(kind, *, strike, level, up, into, carry):
    """Return the exact premium as a function of spot, time, volatility and rate; level None: no barrier.

    By the reflection principle: the payoff on the surviving side, less that of the image. As many digits as mpmath is
    set to when the function is called.
    """

    def value(s, t, sigma, r):
        q, k = mpmath.mpf(carry), mpmath.mpf(strike)
        sd = sigma * mpmath.sqrt(t)

        def above(x, bound, half):
            if bound is None:
                return mpmath.mpf(0)
            return mpmath.ncdf((mpmath.log(x / bound) + (r - q) * t) / sd + half * sd) if bound else mpmath.mpf(1)

        def paid(x, low, high):
            asset = x * mpmath.exp(-q * t) * (above(x, low, 0.5) - above(x, high, 0.5))
            cash = k * mpmath.exp(-r * t) * (above(x, low, -0.5) - above(x, high, -0.5))
            return (asset - cash, cash - asset, cash, cash)[kind]

        low, high = (k, None) if kind % 2 == 0 else (mpmath.mpf(0), k)
        whole = paid(s, low, high)
        if level is None:
            return whole
        b = mpmath.mpf(level)
        if up:
            high = b if high is None else min(high, b)
        else:
            low = max(low, b)
        out = mpmath.mpf(0)
        if high is None or low < high:
            out = paid(s, low, high) - (b / s) ** (2 * (r - q) / sigma**2 - 1) * paid(b * b / s, low, high)
        return whole - out if into else out

    return value
