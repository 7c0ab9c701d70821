"""Every table of the store. A system's tables are found by where they stand; nothing below it names the system."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from sqlalchemy import MetaData
from sqlalchemy.orm import configure_mappers
from sqlmodel import SQLModel

from btcfi.adapters import store


@cache
def load_tables() -> MetaData:
    """Import ``tables`` and ``..._tables`` of each folder beside ``spine``; return every table."""
    for folder in sorted(one.name for one in pkgutil.iter_modules(store.__path__) if one.ispkg):
        package = import_module(f"{store.__name__}.{folder}")
        for module in sorted(one.name for one in pkgutil.iter_modules(package.__path__)):
            if module == "tables" or module.endswith("_tables"):
                import_module(f"{package.__name__}.{module}")
    return SQLModel.metadata


def map_tables() -> None:
    """Load every table, and map its class now rather than at the first query: a fork after it shares that."""
    load_tables()
    configure_mappers()
