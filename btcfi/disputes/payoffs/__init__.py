"""Payoffs written once: an expression over whole numbers is a guest's C, its Python twin and a dispute's circuit."""
