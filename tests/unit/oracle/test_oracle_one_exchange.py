"""Only the asked exchange's class of ccxt is read, and whoever wants all of ccxt in the same process still gets it."""

import subprocess
import sys

import pytest

from btcfi.adapters.venues.one_exchange import exchange_class
from btcfi.errors import NotFoundError

PROGRAM = """
import sys
from btcfi.adapters.venues.one_exchange import exchange_class
kraken = exchange_class("kraken")
assert kraken().id == "kraken" and exchange_class("kraken") is kraken
assert "ccxt.binance" not in sys.modules
import ccxt
from ccxt.base.errors import NetworkError
assert ccxt.kraken is kraken
assert ccxt.NetworkError is NetworkError and len(ccxt.exchanges) > 50 and ccxt.__version__
assert ccxt.kraken is kraken and ccxt.binance().id == "binance" and exchange_class("binance") is ccxt.binance
"""


def test_one_exchange_is_read_alone_and_the_whole_package_is_there_for_who_asks():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_exchange_that_ccxt_does_not_have_is_named():
    with pytest.raises(NotFoundError, match="nowhere"):
        exchange_class("nowhere")
