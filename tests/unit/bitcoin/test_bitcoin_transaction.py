"""Transactions and what names them."""

import pytest

from btcfi.bitcoin.transaction import OutPoint, parse_outpoint
from btcfi.errors import InvalidInputError
from btcfi.units import Txid

NAME = "0f" * 32


@pytest.mark.parametrize("index", [0, 7, 0xFFFFFFFF])
def test_an_outpoint_is_read_as_it_was_written(index):
    point = OutPoint(txid=Txid(bytes(range(32))), index=index)
    assert parse_outpoint(str(point)) == point


@pytest.mark.parametrize("text", ["", NAME, f"{NAME}:", f"{NAME}:-1", f"{NAME}:٣", f"{NAME}:4294967296", "12:0", ":0"])
def test_what_names_no_output_is_refused(text):
    with pytest.raises(InvalidInputError):
        parse_outpoint(text)
