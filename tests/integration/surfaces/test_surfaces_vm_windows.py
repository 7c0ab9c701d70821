"""``btcfi verify`` of a settlement with its window, held against an oracle's announcement and the minutes' reports."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from btcfi.contracts.messages import encode_announcement
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.oracle.announcement import announce
from btcfi.oracle.fixing import parse_fixing
from btcfi.oracle.report import encode_report, report_hash
from btcfi.proofs.errors import ProofWindowError
from btcfi.proofs.settlement_proof import to_json
from btcfi.surfaces import vm_cli
from tests.support.contracts import ORACLES
from tests.unit.proofs import test_proofs_window as scene


@pytest.fixture
def folder(tmp_path):
    reports = scene.reports()
    hashes = {at: report_hash(one) for at, one in reports.items()}
    (tmp_path / "proof.json").write_text(to_json(scene.proof(scene.window(reports=hashes))))
    (tmp_path / "announcement.json").write_text(json.dumps(encode_announcement(announce(ORACLES[0], scene.event()))))
    (tmp_path / "reports").mkdir()
    for place, one in enumerate(reports.values()):
        whole = encode_report(one)
        # one of them as `btcfi anchor prove --price` writes it
        body = {"type": "btcfi/anchor-proof", "subject": {"report": whole}} if place == 0 else whole
        (tmp_path / "reports" / f"{place}.json").write_text(json.dumps(body))
    return tmp_path


def verify(folder, *words):
    told = CliRunner().invoke(vm_cli.app, ["verify", str(folder / "proof.json"), "--depth", "paths", "--json", *words])
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    return json.loads(told.stdout)


def test_a_window_is_held_against_the_announcement_and_the_reports(folder):
    checks = verify(
        folder, "--announcement", str(folder / "announcement.json"), "--reports", str(folder / "reports")
    )["checks"]  # fmt: skip
    assert checks[-3].startswith("twap:3 up to 2023-11-14T22:30Z, of 2 minutes, is ")
    assert checks[-2] == f"the window is that of event {scene.event().id.hex()}"
    assert checks[-1] == "3 of 3 minutes have a report, and it says the same"
    (folder / "reports" / "1.json").unlink()
    assert verify(folder, "--reports", str(folder / "reports"))["checks"][-1].startswith("2 of 3")


def test_how_the_payout_came_about_is_said_with_the_window(folder):
    told = CliRunner().invoke(vm_cli.app, ["trace", "show", str(folder / "proof.json"), "--around", "0", "--json"])
    assert "price $60,001.00" in json.loads(told.stdout)["in_words"]
    assert "The price is twap:3 up to" in json.loads(told.stdout)["in_words"]


def test_another_announcement_and_another_price_in_a_report_refuse_the_proof_by_name(folder):
    other = announce(ORACLES[0], scene.event(fixing=parse_fixing("median:3")))
    (folder / "other.json").write_text(json.dumps(encode_announcement(other)))
    with pytest.raises(ProofWindowError, match="its fixing is twap:3, the announced event's median:3"):
        verify(folder, "--announcement", str(folder / "other.json"))
    forged = encode_announcement(announce(ORACLES[0], scene.event()))
    (folder / "forged.json").write_text(json.dumps(forged | {"signature": "00" * 64}))
    with pytest.raises(Exception, match="signature is not valid"):
        verify(folder, "--announcement", str(folder / "forged.json"))
    hashes = {at: report_hash(one) for at, one in scene.reports().items()}
    lied = scene.window(minutes={**scene.MINUTES, scene.END: 6_000_102}, reports=hashes)
    (folder / "proof.json").write_text(to_json(scene.proof(lied)))
    with pytest.raises(ProofWindowError, match="its report is of"):
        verify(folder, "--reports", str(folder / "reports"))


def test_a_proof_without_a_window_has_nothing_to_hold_against_an_announcement(folder):
    (folder / "proof.json").write_text(to_json(replace(scene.proof(), window=None)))
    assert verify(folder)["verified"] is None
    with pytest.raises(ProofWindowError, match="there is none"):
        verify(folder, "--announcement", str(folder / "announcement.json"))


@pytest.mark.parametrize("there", [True, False])
def test_reports_that_are_not_there_are_no_check_that_passed(folder, tmp_path, there):
    """Before: verified, exit 0, as if the minutes had been held against them."""
    reports = tmp_path / "reports-of-another"
    if there:
        reports.mkdir()
    with pytest.raises(InvalidInputError if there else NotFoundError) as e:
        verify(folder, "--reports", str(reports))
    assert str(reports) in str(e.value)
