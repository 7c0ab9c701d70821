"""One screen before a signature: amounts in both units, the other side, the worst case, the oracles, the heights."""

import pytest

from btcfi.contracts.cooperative import build_close
from btcfi.contracts.messages import Role
from btcfi.contracts.summary import DeclinedError, close_summary_of, summary_of
from btcfi.errors import InvalidInputError
from btcfi.surfaces.party import screen
from tests.support.contracts import Scene


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
