"""Engine G: a claim's digits are adaptor secrets, and a false one yields the secret that takes the claimant's coins.

``garbling`` makes and evaluates tables, ``shares`` ties the copies of a set-up together, ``setup`` is its messages and
checks: cut and choose, every coefficient committed.
"""
