"""Computations over attested prices that Bitcoin itself enforces: circuits, and two engines that punish a false claim.

``circuit`` is what a claim is checked by, ``claims`` the payoffs as circuits.
"""
