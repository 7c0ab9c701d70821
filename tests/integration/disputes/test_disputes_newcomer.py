"""At ``btcfi dispute`` for the first time: a word too much is refused, and what is bought is seen or compared."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from btcfi.contracts.messages import encode_announcement
from btcfi.disputes.claims import Ranges, mean_claim
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled.deal import Kind, Payoff
from btcfi.disputes.garbled.opening import Side
from btcfi.errors import InvalidInputError
from btcfi.surfaces import dispute_cli
from btcfi.units import Height, Sats
from tests.support.chain import chain
from tests.support.dispute_stage import Table
from tests.support.disputed import public
from tests.support.disputing import RANGES, Dispute

pytestmark = pytest.mark.integration

MANY = Ranges(starts=(0, *range(60_000, 75_000, 100)), payouts=tuple(Sats(100_000 * at) for at in range(151)))


def refused(*words):
    return CliRunner().invoke(dispute_cli.app, [str(one) for one in words]).exception


@pytest.mark.parametrize(
    "words",
    [
        ("close", "ab", "--payout-sats", "5", "--payout-sats", "16000000", "--out", "-"),
        ("close-sign", "close.json", "--payout-sats", "5", "--payout-sats", "16000000"),
        ("watch", "--feerate", "2000", "--feerate", "3000"),
        ("claim", "ab", "--feerate", "2000", "--feerate", "3000"),
        ("cancel", "ab", "--feerate", "2000", "--feerate", "3000"),
        ("sign", "claims.json", "--out", "a", "--out", "b"),
        ("register", "public.json", "--url", "http://one", "--url", "http://two"),
    ],
)
def test_an_option_that_stands_twice_is_refused(words):
    error = refused(*words)
    assert isinstance(error, InvalidInputError)
    assert "2 times" in str(error)


@pytest.mark.parametrize(
    "words",
    [
        ("--strikes", "60000/75000"), ("--out", "payoff.json"), ("--premium-sats", "4000000"), ("--barrier", "80000"),
        ("call_spread", "--strikes", "60000/75000", "--premium-sats", "4000000", "--rebate-sats", "5"),
        ("call_spread", "--strikes", "60000/75000", "--premium-sats", "4000000", "--down"),
    ],
)  # fmt: skip
def test_terms_that_would_say_nothing_are_refused(words):
    assert isinstance(refused("cost", *words), InvalidInputError)


def test_a_screen_of_many_ranges_shows_them_from_the_first_to_the_last_and_how_many_it_does_not():
    draft = replace(public().proposal.draft, payoff=Payoff(kind=Kind.PRICE, ranges=MANY))
    screen = dispute_cli._screen(Side.VERIFIER, draft)
    assert screen.count(" on: ") == 20
    assert "from $74,900 on: 15,000,000 sat" in screen
    assert "131 of 151 ranges are not shown, 0 to 15,000,000 sat" in screen
    assert "--payoff" in screen


def test_a_proposal_that_pays_otherwise_than_the_holder_s_own_file_is_not_accepted(tmp_path):
    proposal, payoff = public().proposal, tmp_path / "payoff.json"
    message = tmp_path / "proposal.json"
    message.write_text(json.dumps(wire.encode_proposal(proposal)))
    words = ["accept", message, "--payoff", payoff, "--out", tmp_path / "out.json", "--dir", tmp_path]
    for place, one in enumerate(proposal.draft.events[0]):
        (tmp_path / f"{place}.json").write_text(json.dumps(encode_announcement(one)))
        words += ["--announcement", tmp_path / f"{place}.json"]
    own = proposal.draft.payoff.ranges
    less = replace(own, payouts=(*own.payouts[:8], Sats(own.payouts[8] + 1), *own.payouts[9:]))
    payoff.write_text(json.dumps(wire.encode_payoff(Payoff(kind=Kind.PRICE, ranges=less))))
    assert str(refused(*words)).startswith(f"payoff from {own.starts[8]:,} on")
    payoff.write_text(json.dumps(wire.encode_payoff(Payoff(kind=Kind.MEAN, ranges=own))))
    assert "payoff.kind" in str(refused(*words))
    finer = Ranges(
        starts=(0, 30_000, *own.starts[1:]), payouts=(own.payouts[0], *own.payouts)
    )  # the same at all prices
    payoff.write_text(json.dumps(wire.encode_payoff(Payoff(kind=Kind.PRICE, ranges=finer))))
    assert "payoff" not in str(refused(*words))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    with chain("embedded", tmp_path_factory.mktemp("embedded")) as wallet:
        yield Table(wallet, tmp_path_factory.mktemp("folders"))


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("bond", {"bond": Sats(1)}),
        ("collateral", {"collateral": Sats(15_999_999)}),
        ("refund_height", {"refund_height": Height(1)}),
        ("challenge_bond", {"challenge_bond": Sats(50_000)}),
        ("dispute_blocks", {"dispute_blocks": 1 << 20}),
        ("events", {"events": Dispute(mean_claim(RANGES, 2)).announcements}),
    ],
)
def test_a_draft_that_makes_no_contract_is_refused_by_who_proposes_it(table, field, changed):
    desk = table.desk("p")
    with pytest.raises(InvalidInputError) as refused:
        desk.propose(table.draft(**changed), identity_secret=table.identity)
    assert refused.value.field == field
    assert desk.files.names() == []
