"""The REST API: the published endpoints of the whitepaper and, under /api/v1, everything around them.

``app.create_app(deps)`` builds it; ``deps.Deps`` is all that it is given.
"""
