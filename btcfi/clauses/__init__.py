"""Contracts as trees of clauses and transactions: Rubin's interface, as a reference beside the flat contracts.

``clause`` is the language, ``script`` its bytes, ``oracle`` who answers "is it at least this much", ``bet`` and
``expiring`` the contracts, ``plan`` their transactions signed before anything is funded. Nothing of it is traded:
docs/explanation/trees.md says why.
"""
