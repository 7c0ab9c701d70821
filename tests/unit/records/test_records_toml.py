"""TOML from outside: a parser that runs out of stack or of digits is one line about the file, at every door."""

import pytest

from btcfi.adapters.oracle_network.network_file import read_toml
from btcfi.documents import parse_toml
from btcfi.errors import InvalidInputError
from btcfi.payoffs.book_file import read_book
from btcfi.payoffs.shape_file import read_shape
from btcfi.surfaces.maker_cli import read_rule
from btcfi.vm.program import load_program

HOSTILE = {
    "nested": "x = " + "[" * 5_000 + "]" * 5_000, "digits": "x = " + "9" * 5_000, "no TOML": "x =",
    "twice": "x = 1\nx = 2", "control": 'x = "\x1b[31m"', "date": "x = 2027-13-41",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_toml_text_that_its_parser_cannot_read_is_refused_at_every_door(text, tmp_path):
    file = tmp_path / "manifest.toml"
    file.write_text(text)
    doors = (
        lambda: parse_toml(text, "file"), lambda: read_book(text, what="book.toml"), lambda: read_shape(text),
        lambda: read_rule(file), lambda: read_toml(file), lambda: load_program("any", tmp_path),
    )  # fmt: skip
    for door in doors:
        with pytest.raises(InvalidInputError) as told:
            door()
        assert str(told.value).isprintable()
        assert len(str(told.value)) < 400
