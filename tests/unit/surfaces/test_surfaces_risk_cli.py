"""``btcfi risk``: a report and a picture from a book file, and one-line errors for a broken one."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from btcfi.surfaces import cli
from btcfi.surfaces.risk_cli import app

HEADER = "kind,strike,expiry,quantity,barrier,american,collateral\n"
BOOK = HEADER + (
    "call,70000,2026-12-20T08:00:00Z,-1.50,,false,1.5\n"
    "put,60000.50,1797753600,-2,,true,2\n"
    "call,69000,2026-12-31T08:00:00+02:00,1,90000,,\n"
)
OPTIONS = ["--spot", "69000.00", "--volatility", "0.6", "--rate", "0.04", "--now", "2026-11-21T00:00:00Z"]


@dataclass
class Ended:
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["btcfi", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.run(app)
        said = capsys.readouterr()
        return Ended(ended.value.code, said.out, said.err)

    return run


@pytest.fixture
def run(command, tmp_path):
    def with_book(text=BOOK, *more):
        path = tmp_path / "book.csv"
        path.write_text(text, encoding="utf-8")
        return command(str(path), *OPTIONS, *more)

    return with_book


def test_the_report_is_one_json_object_with_greeks_scenarios_and_margin(run, tmp_path):
    result = run(BOOK, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert report["options"] == 3
    assert report["greeks"]["value"] < 0
    assert report["margin"]["required_cents"] > 0
    assert report["scenarios"]["profit_usd"][0][1][6] == 0


def test_history_adds_the_tail_risk(run, tmp_path):
    history = tmp_path / "closes.csv"
    history.write_text("close\n" + "\n".join(str(70_000 + 900 * (i % 7)) for i in range(120)), encoding="utf-8")
    report = json.loads(run(BOOK, "--json", "--history", str(history)).stdout)
    assert report["tail_risk"]["historical"]["observations"] == 119
    assert report["tail_risk"]["filtered"]["expected_shortfall"] >= report["tail_risk"]["filtered"]["value_at_risk"]


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_the_picture_is_a_png_or_an_svg(run, tmp_path, suffix, magic):
    picture = tmp_path / f"risk{suffix}"
    result = run(BOOK, "--plot", str(picture))
    assert result.exit_code == 0
    assert picture.read_bytes().startswith(magic)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOOK.replace("call,70000", "cal,70000"), "book.csv line 2, kind"),
        (BOOK.replace("60000.50", "60000.505"), "book.csv line 3, strike"),
        (BOOK.replace("2026-12-20T08:00:00Z", "2026-12-20T08:00:00"), "no time zone"),
        (BOOK.replace(",true,", ",yes,"), "line 3, american"),
        (BOOK.replace("kind,strike", "kind,level"), "book.csv line 1, header"),
        (BOOK + "call,1\n", "line 5, row"),
        (HEADER, "has no options"),
        (BOOK.replace(",90000,", ",69000,"), "barrier"),
    ],
)
def test_a_broken_book_is_one_line_on_stderr_and_exit_code_2(run, tmp_path, text, said):
    result = run(text, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["exit_code"] == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_book_and_an_unknown_picture_have_their_exit_codes(command, run, tmp_path):
    assert command(str(tmp_path / "none.csv"), *OPTIONS).exit_code == 3
    assert run(BOOK, "--plot", str(tmp_path / "risk.gif")).exit_code == 2
    assert run(BOOK, "--plot", str(tmp_path / "no" / "risk.png")).exit_code == 2


def test_a_put_that_its_collateral_cannot_pay_is_worth_what_the_collateral_is(run):
    book = HEADER + "put,69000,2026-12-20T08:00:00Z,-1,,,{}\n"
    report = json.loads(run(book.format(1), "--json", "--spot", "20000").stdout)
    assert report["greeks"]["value"] == pytest.approx(-20_000, rel=1e-3)
    assert report["margin"]["utilisation"] == pytest.approx(1.0, rel=1e-3)
    more = json.loads(run(book.format(2), "--json", "--spot", "20000").stdout)
    assert -40_000 < more["greeks"]["value"] < -38_000


def test_without_a_collateral_the_contracts_own_is_taken(run):
    book = HEADER + "binary_put,69000,2026-12-20T08:00:00Z,-1.5,,,{}\n"
    bare, given = (json.loads(run(book.format(text), "--json").stdout) for text in ("", "3"))
    assert bare == given
    assert bare["margin"]["collateral_cents"] == 3 * 6_900_000
    less = run(book.format("2.99"))
    assert less.exit_code == 2
    assert "line 2, collateral" in less.stderr
    assert "300000000 sats" in less.stderr
    assert run(HEADER + "put,69000,2026-12-20T08:00:00Z,0,,,\n").exit_code == 2
