"""An oracle by hand and the value of a path: announced, attested from its evidence alone, computed again by anybody."""

import json

import pytest
from typer.testing import CliRunner

from btcfi.contracts.messages import decode_announcement, decode_attestation
from btcfi.errors import InvalidInputError
from btcfi.oracle.attestation import check_attestation
from btcfi.oracle.own_minutes import compute
from btcfi.oracle.path_evidence import WrongEvidenceError, encode_evidence, evidence_of
from tests.support.path_events import minutes_of, said_and_touched
from workers.commands import oracle

END = 1_790_000_040 // 60 * 60


def run(*words):
    told = CliRunner().invoke(oracle.app, list(map(str, words)))
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    run("key", "--out", tmp_path / "oracle.key")
    said = run("announce-path", "--key", tmp_path / "oracle.key", "--path", "asian:10x3", "--expiry", END,
               "--out", tmp_path / "announced.json")  # fmt: skip
    assert said["settles_at"].startswith("the mean of 3 agreed prices")
    monkeypatch.setattr(oracle, "_now", lambda: END)
    return tmp_path


def evidence_file(folder, event, prices):
    known = minutes_of(dict(zip(event.path.times(event.expiry), prices, strict=True)))
    found = evidence_of(event, compute(event, *said_and_touched(known)), known)
    (folder / "evidence.json").write_text(json.dumps(encode_evidence(found)))
    return folder / "evidence.json"


def attest(folder, *more):
    return run("attest", "--key", folder / "oracle.key", "--announcement", folder / "announced.json",
               "--out", folder / "attested.json", *more)  # fmt: skip


def test_a_path_is_attested_from_its_evidence_and_anybody_computes_it_again(folder):
    made = decode_announcement(json.loads((folder / "announced.json").read_text()))
    evidence = evidence_file(folder, made.event, (6_000_000, 6_300_000, 6_600_000))
    assert attest(folder, "--minutes", evidence)["price_cents"] == 6_300_000
    check_attestation(decode_attestation(json.loads((folder / "attested.json").read_text())), made)
    said = run("check-path", evidence, "--announcement", folder / "announced.json",
               "--attestation", folder / "attested.json")  # fmt: skip
    assert (said["outcome"], said["minutes"], said["attested"]) == (63_000, 3, True)
    assert run("check-path", evidence)["attested"] is False
    other = evidence_file(folder, made.event, (6_000_000, 6_300_000, 6_900_000))
    with pytest.raises(WrongEvidenceError):
        run("check-path", other, "--announcement", folder / "announced.json", "--attestation", folder / "attested.json")


def test_no_owner_s_word_and_no_window_s_minutes_are_attested_as_the_value_of_a_path(folder):
    made = decode_announcement(json.loads((folder / "announced.json").read_text()))
    evidence = evidence_file(folder, made.event, (6_000_000, 6_300_000, 6_600_000))
    window = folder / "minutes.json"
    window.write_text(json.dumps([{"slot": END, "price_cents": 6_100_000}]))
    for wrong in (["--price", "61000"], [], ["--minutes", evidence, "--touched"], ["--minutes", window],
                  ["--minutes", evidence, "--price", "63000"]):  # fmt: skip
        with pytest.raises(InvalidInputError):
            attest(folder, *wrong)
    raw = json.loads(evidence.read_text())
    for spoiled in ({"outcome": 63_001}, {"value_cents": 6_300_001}, {"minutes": raw["minutes"][1:]},
                    {"event": raw["event"] | {"path": "asian:10x2"}}):  # fmt: skip
        evidence.write_text(json.dumps(raw | spoiled))
        with pytest.raises(WrongEvidenceError):
            attest(folder, "--minutes", evidence)
    assert not (folder / "oracle.key.ledger").exists()


@pytest.mark.parametrize("words", [["--path", "asian:10x1"], ["--path", "asian:10x3", "--fixing", "twap:11"]])
def test_what_defines_no_path_is_not_announced(folder, words):
    with pytest.raises(InvalidInputError):
        run("announce-path", "--key", folder / "oracle.key", "--expiry", END, "--out", folder / "x.json", *words)
    assert not (folder / "x.json").exists()
