"""Weekly swaps: a long or short return of one asset between a liquidity provider and takers, settled once a week.

Source: the OracleSwap technical appendix (2019), by the specification in ``docs/swaps.md``.
"""
