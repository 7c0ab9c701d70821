"""A process that signs offers and letters loads no pricing library: a party's memory is counted."""

import os
import subprocess
import sys

from tests.support.paths import ROOT

HEAVY = ("numpy", "numba", "scipy", "sqlalchemy", "celery")
WORDS = "from btcfi.market import firm_offer, letter, listing, book; import settings.market_preset"


def test_the_words_of_a_market_load_no_heavy_library():
    look = f"{WORDS}; import sys; print([name for name in {HEAVY} if name in sys.modules])"
    given = os.environ | {"PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", look], env=given, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
