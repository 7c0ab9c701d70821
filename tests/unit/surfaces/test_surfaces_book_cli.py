"""``btcfi book`` and ``btcfi payoff margin`` without a node: what they show of a proposal and a book, and refuse."""

import json

import pytest
from typer.testing import CliRunner

from btcfi.contracts.messages import CET_FEE, Role, encode_offer
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.payoffs.book import book_of
from btcfi.payoffs.book_messages import BookTerms, encode_proposal, propose
from btcfi.surfaces import book_cli, payoff_cli
from btcfi.units import BasisPoints, CentsPerBtc, Height, Sats, UnixSeconds
from tests.support.contracts import RATE, Scene
from tests.support.net_books import CONDORS, EXPIRY, FLOOR, NetScene, legs_of

BOOK = 'expiry = "1740000000"\nfloor = "50000"\n' + "".join(
    f'[[leg]]\nkind = "{kind}"\nstrike = "{strike}000"\nquantity = "{"-" if sign < 0 else ""}0.10"\n'
    for sign, kind, strike in CONDORS
)


@pytest.fixture
def proposed(tmp_path):
    """A proposal's file, of a book with a barrier; what it says."""
    book = book_of(
        legs_of(CONDORS[2:], 10), knock_outs=legs_of([CONDORS[0]], 10), barrier=CentsPerBtc(8_000_000), expiry=EXPIRY,
        floor=FLOOR,
    )  # fmt: skip
    scene = NetScene(book=book)
    terms = BookTerms(
        book=book, announcements=scene.announcements, threshold=1, premium=-5, legs_premium=Sats(1_000_000),
        tolerance=BasisPoints(2_000), expiry_height=Height(200), refund_height=Height(350), rate=RATE, cet_fee=CET_FEE,
        valid_until=UnixSeconds(2_000_000_000),
    )  # fmt: skip
    made = propose(terms, role=Role.SELLER, party=scene.writer, identity_secret=b"\x21" * 32, aux=bytes(32))
    (tmp_path / "proposal.json").write_text(json.dumps(encode_proposal(made)))
    return tmp_path / "proposal.json", made, scene


def run(app, *words, error=None):
    done = CliRunner().invoke(app, [str(one) for one in words])
    if error is None:
        assert done.exit_code == 0, done.exception
        return done.stdout
    assert isinstance(done.exception, error), done.exception
    return done.exception


def test_a_proposal_that_came_is_shown_with_what_both_its_curves_give_each_side(proposed, tmp_path):
    path, made, scene = proposed
    picture = tmp_path / "book.svg"
    said = json.loads(
        run(book_cli.app, "show", path, "--dir", tmp_path, "--at-price", "90000", "--picture", picture, "--json")
    )  # fmt: skip
    assert said["book"] == made.id.hex()
    assert (said["state"], said["proposed_by"], said["premium_sats"]) == ("not ours yet", "writer", -5)
    assert (said["holder_puts_in_sats"], said["writer_puts_in_sats"]) == (scene.contract.holder, scene.contract.writer)
    assert [one["curve"] for one in said["curves"]] == ["barrier not touched", "barrier touched"]
    for curve, half in zip(said["curves"], (scene.contract.untouched, scene.contract.touched), strict=True):
        (at,) = curve["at"]
        assert at["holder_sats"] == half.payouts([CentsPerBtc(9_000_000)])[0]
        assert at["holder_sats"] + at["writer_sats"] == scene.contract.collateral
    assert picture.read_bytes().startswith(b"<?xml")
    words = run(book_cli.app, "show", path, "--dir", tmp_path, "--draw")
    for part in (
        "ends at the barrier",
        "holder puts in",
        "break-evens",
        "the holder's profit in BTC",
        "barrier touched",
    ):
        assert part in words


def test_a_message_of_another_kind_and_a_book_that_nobody_has_are_named(proposed, tmp_path):
    path, made, _ = proposed
    (tmp_path / "offer.json").write_text(json.dumps(encode_offer(Scene().offer())))
    error = run(book_cli.app, "show", tmp_path / "offer.json", "--dir", tmp_path, error=InvalidInputError)
    assert error.field == "message"
    assert "btcfi/offer" in error.problem
    run(book_cli.app, "show", "abc", "--dir", tmp_path, error=NotFoundError)
    run(book_cli.app, "message", made.id.hex(), "proposal", "--out", "-", "--dir", tmp_path, error=NotFoundError)
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"book": raw["book"] + "00"}))
    assert run(book_cli.app, "show", path, "--dir", tmp_path, error=InvalidInputError).field == "book"


def test_the_margin_of_a_book_is_what_it_locks_is_worth_and_loses_in_each_scenario(tmp_path):
    (tmp_path / "book.toml").write_text(BOOK)
    words = ["margin", tmp_path / "book.toml", "--spot", "100000", "--volatility", "0.6", "--now", EXPIRY - 7 * 86_400]
    said = json.loads(run(payoff_cli.app, *words, "--json"))
    scene = NetScene(book=book_of(legs_of(CONDORS, 10), expiry=EXPIRY, floor=FLOOR))
    assert (said["holder_puts_in_sats"], said["writer_puts_in_sats"]) == (scene.contract.holder, scene.contract.writer)
    assert said["net_sats"] == scene.contract.collateral
    assert said["net_share"] <= 0.08
    assert said["days"] == 7.0
    assert said["worst"]["holder"]["change_usd"] == min(one["change_usd"] for one in said["scenarios"])
    text = run(payoff_cli.app, *words)
    assert "its legs one by one" in text
    assert f"{said['greeks']['delta']:,.6g}" in text
    assert len(text.splitlines()) == 5 + len(said["scenarios"]) + 2


def test_a_book_that_has_expired_or_has_a_barrier_has_no_margin(tmp_path):
    path = tmp_path / "book.toml"
    path.write_text(BOOK)
    words = ["margin", path, "--spot", "100000", "--volatility", "0.6", "--now"]
    assert run(payoff_cli.app, *words, EXPIRY + 60, error=InvalidInputError).field == "expiry"
    path.write_text(BOOK.replace("[[leg]]", 'barrier = "40000"\n[[leg]]\nknock_out = true', 1))
    assert run(payoff_cli.app, *words, EXPIRY - 60, error=InvalidInputError).field == "barrier"
