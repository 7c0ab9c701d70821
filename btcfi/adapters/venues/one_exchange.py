"""ccxt's classes one at a time: importing the package reads those of a hundred exchanges, 40 MB that nobody uses."""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any, Final

from btcfi.errors import NotFoundError

PACKAGE: Final = "ccxt"

_LOCK: Final = threading.Lock()
"""Venues are asked side by side."""


def exchange_class(ccxt_id: str) -> Any:  # noqa: ANN401 - ccxt has no types
    """Return ccxt's class of an exchange. Raises NotFoundError when ccxt has none, or is not installed."""
    with _LOCK:
        package = sys.modules.get(PACKAGE) or _bare_package()
        known = vars(package).get(ccxt_id)
        if not isinstance(known, type):
            try:
                known = getattr(import_module(f"{PACKAGE}.{ccxt_id}"), ccxt_id)
            except (ImportError, AttributeError) as e:
                raise NotFoundError("exchange of ccxt", ccxt_id) from e
            setattr(package, ccxt_id, known)  # as the package itself has it; the import has put the module there
        return known


def _bare_package() -> ModuleType:
    """Return the package with nothing read; whoever asks it for more than we put there gets all of it."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.loader is None:
        raise NotFoundError("package", PACKAGE)
    package, loader = module_from_spec(spec), spec.loader

    def rest(name: str) -> Any:  # noqa: ANN401 - as above
        vars(package).pop("__getattr__", None)
        loader.exec_module(package)
        return getattr(package, name)

    vars(package)["__getattr__"] = rest
    sys.modules[PACKAGE] = package
    return package
