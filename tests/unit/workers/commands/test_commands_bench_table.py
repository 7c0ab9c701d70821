import pytest

from btcfi.errors import InvalidInputError, NotFoundError
from tests.benchmarks import row_of
from tests.benchmarks.__main__ import BEGIN, END, RENAMED, _around_table, _short, markdown, under_old_names

MACHINE = {"cpu": "A CPU", "cores": 2, "system": "Linux", "python": "3.11.7"}


def said(**changes):
    row = {"name": "x.ms", "value": 2.0, "unit": "ms", "against": "at most 4 ms", "ratio": 2.0}
    row |= {"low": 1.5, "high": 2.5, "repeats": 5}
    return {"rows": [row | changes], "failed": {}, "machine": MACHINE, "commit": "ab" * 20}


def test_a_row_has_the_median_and_the_quartiles_of_its_repeats():
    row = row_of("x", [1.0, 2.0, 3.0, 4.0, 100.0], unit="s", at_most=6)
    assert (row.low, row.value, row.high, row.ratio, row.repeats) == (2.0, 3.0, 4.0, 2.0, 5)
    assert row_of("x", [50.0], unit="1/s", at_least=25).ratio == 2.0


def test_the_table_names_machine_commit_and_command():
    text = markdown(said(), only="vm")
    assert (
        "`python -m tests.benchmarks --only vm` on A CPU, 2 cores, Linux, Python 3.11.7; commit `abababababab`." in text
    )
    assert "| `x.ms` | 2.00 | 1.50 to 2.50 of 5 | ms | at most 4 ms | 2.00 |" in text


def test_a_figure_measured_once_has_no_spread_and_one_without_target_no_ratio():
    text = markdown(said(repeats=None, low=None, high=None, against=None, ratio=None))
    assert "| `x.ms` | 2.00 |  | ms |  |  |" in text


def test_an_area_that_failed_is_named_below_the_table():
    assert markdown(said() | {"failed": {"oracle": "no port"}}).endswith("\nNot measured: oracle (no port).\n")


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.01234, "0.0123"), (999.6, "1,000"), (1234567, "1,230,000")])
def test_figures_have_three_digits_and_no_exponent(value, text):
    assert _short(value) == text


def test_a_document_without_the_two_lines_is_refused_before_measuring(tmp_path):
    (tmp_path / "a.md").write_text(f"x\n{BEGIN}\nold\n{END}\ny")
    assert _around_table(tmp_path / "a.md") == ("x\n", "\ny")
    (tmp_path / "b.md").write_text(f"x\n{END}\n{BEGIN}\n")
    with pytest.raises(InvalidInputError):
        _around_table(tmp_path / "b.md")
    with pytest.raises(NotFoundError):
        _around_table(tmp_path / "c.md")


def test_a_renamed_row_is_in_the_answer_under_its_old_name_too_for_one_release():
    row = said(name="pipeline.due_to_proven_per_s", value=1500.0)["rows"][0]
    (old,) = under_old_names([row, said()["rows"][0]])
    assert (old["name"], old["renamed"]) == ("pipeline.settlements_per_s (2 workers)", "pipeline.due_to_proven_per_s")
    assert old["value"] == 1500.0
    assert not RENAMED.keys() & set(RENAMED.values())
