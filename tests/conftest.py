"""How tests are shared out when several processes run them: file by file, and all of PostgreSQL's to one of them."""

import pytest


def pytest_collection_modifyitems(items):
    """Keep a file's tests together, for its fixtures start servers; and the shared database's apart from each other."""
    for item in items:
        group = "postgres" if item.get_closest_marker("postgres") else item.location[0]
        item.add_marker(pytest.mark.xdist_group(group))
