"""The operator console: what is happening, why a price or a payout is what it is, and the few things one may do.

``app.create_console(deps)`` builds it; ``deps.ConsoleDeps`` is all that it is given.
"""
