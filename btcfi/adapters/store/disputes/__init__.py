"""Disputed contracts that the service watches: their public parts, where they stand, what the chain showed of them."""
