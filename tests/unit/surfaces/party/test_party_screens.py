"""One screen before a signature: amounts in both units, the other side, the worst case, the oracles, the heights."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from btcfi.contracts.cooperative import build_close
from btcfi.contracts.mandate import Bounds, encode_mandate, sign_mandate
from btcfi.contracts.messages import Role
from btcfi.contracts.summary import DeclinedError, close_summary_of, summary_of
from btcfi.errors import InvalidInputError
from btcfi.options.terms import OptionKind
from btcfi.surfaces import party_cli
from btcfi.surfaces.party import screen
from tests.support.contracts import Scene
from tests.support.mandates import IDENTITY_SECRET, mandate
from tests.support.rounding import CENTS, Payoff, table


@pytest.fixture
def agreement():
    return Scene(oracles=3, threshold=2).agreement()


def summaries(agreement):
    return [summary_of(agreement, role, mandate=7) for role in Role]


def test_either_side_reads_what_it_may_lose_and_by_whom_before_it_signs(agreement):
    terms = agreement.terms
    for summary in summaries(agreement):
        text = screen.contract_screen(summary)
        for part in (
            f"as its {summary.role.value}", "0.10000000 BTC (10,000,000 sat)", "0.00050000 BTC (50,000 sat)",
            f"you lose 0.{summary.worst_loss:08d} BTC", summary.counterparty.hex(), "2 of 3 must agree",
            f"block {terms.expiry_height}", f"block {terms.refund_height}", "your mandate 7", agreement.id.hex(),
            "2025-02-19 21:20 UTC", "2025-02-20 22:20 UTC", "call, strike $", "1,000 sat",
        ):  # fmt: skip
            assert part in text, (part, text)
        assert all(one.oracle_key.hex() in text for one in terms.announcements)
        assert max(map(len, text.splitlines())) <= 120
        assert len(text.splitlines()) <= 24


def test_either_side_reads_since_when_a_barrier_counts(agreement):
    said = "agreed price >= 12000000 cents between 1739913600 and 1740000000"
    for summary in summaries(agreement):
        assert "barrier counts" not in screen.contract_screen(summary)
        assert "from 2025-02-18 21:20 UTC on" in screen.contract_screen(replace(summary, condition=said))


def test_the_seller_s_worst_case_is_its_collateral_and_the_buyer_s_its_premium_with_their_fees(agreement):
    by_role = {one.role: one for one in summaries(agreement)}
    funding = agreement.funding
    assert by_role[Role.BUYER].worst_loss == 50_000 + funding.fee - funding.seller_fee
    seller = by_role[Role.SELLER]
    assert seller.worst_loss == 10_000_000 - 50_000 + funding.seller_fee - seller.least


def test_a_close_shows_what_each_gets_the_fee_and_whether_anything_computes_it(agreement):
    plan = agreement.plan
    for computed in (False, True):
        proof = {"proof_root": bytes(32), "guest_input": b"\x01"} if computed else {"proof_root": None}
        close = build_close(plan.contract, plan.funding, payout=2_000_000, rate=2_000, **proof)
        text = screen.close_screen(close_summary_of(agreement.id, close, Role.BUYER, mandate=7))
        assert f"you get                  0.{close.payout:08d} BTC" in text
        assert f"({close.fee:,} sat)" in text
        assert ("nothing computes it" in text) is not computed


def test_a_running_party_says_in_one_line_what_it_signs(agreement, capsys):
    for summary in summaries(agreement):
        screen.log_line(summary)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all("mandate 7" in line and "worst case" in line for line in said)


def test_without_a_terminal_nobody_is_asked_and_with_one_only_a_yes_goes_on(agreement, monkeypatch):
    summary = summaries(agreement)[0]
    screen.asking(yes=True)(summary)
    with pytest.raises(InvalidInputError) as error:
        screen.asking(yes=False)(summary)
    assert error.value.field == "--yes"
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer in (True, False):
        monkeypatch.setattr("typer.confirm", lambda *_, answer=answer, **__: answer)
        if answer:
            screen.asking(yes=False)(summary)
        else:
            with pytest.raises(DeclinedError):
                screen.asking(yes=False)(summary)


# ---- what the rounding may cost


def test_either_side_reads_how_much_less_than_the_guest_computes_it_may_be_paid(agreement):
    payoff = Payoff(kind=OptionKind.CALL, strike=10_000_000, quantity=10)
    off = table(agreement.plan.buckets) - payoff.at(CENTS)
    least = {Role.BUYER: -off.min(), Role.SELLER: off.max()}
    for summary in summaries(agreement):
        assert 0 < least[summary.role] <= summary.rounded_off <= 61_550  # 1 % of the largest payout
        text = screen.contract_screen(summary)
        assert f"pays you at most 0.{summary.rounded_off:08d} BTC ({summary.rounded_off:,} sat) less" in text


def test_a_mandate_that_names_no_tolerance_is_shown_with_what_it_allows():
    old = mandate(tolerance=None, step_share=Bounds(least=0, most=150))
    new = mandate(tolerance=Bounds(least=0, most=90))
    said = screen.mandate_screen(encode_mandate(old), None)
    assert "tolerance_basis_points   0 to 150" in said
    said = screen.mandate_screen(encode_mandate(new), sign_mandate(old, IDENTITY_SECRET))
    assert "tolerance_basis_points   0 to 90   (was 0 to 150)" in said


@pytest.mark.parametrize("words", [("--step-sats", "50000"), ("--rounding", "down")])
def test_an_offer_in_steps_is_refused_by_the_name_of_its_option_and_told_what_has_taken_its_place(words, tmp_path):
    needed = ["--option", tmp_path / "none", "--role", "seller", "--announcement", tmp_path / "none"]
    needed += ["--premium-sats", "50000", "--out", "-", "--node", "http://127.0.0.1:1", *words]
    made = CliRunner().invoke(party_cli.app, ["offer", *map(str, needed)])
    assert isinstance(made.exception, InvalidInputError), made.output
    assert made.exception.field == words[0]
    assert "--tolerance-bps" in made.exception.expected
