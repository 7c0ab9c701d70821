"""An oracle by hand: a key that only its owner reads, an announcement, and one attestation after its minute."""

import json
import shutil
import time

import pytest
from typer.testing import CliRunner

from btcfi.contracts.messages import decode_announcement, decode_attestation
from btcfi.contracts.payouts import condition_of, decode_terms
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.oracle.announcement import check_announcement
from btcfi.oracle.attestation import AlreadyAttestedError, check_attestation
from btcfi.oracle.fixing import MINUTE, parse_fixing
from btcfi.surfaces import party_cli
from btcfi.surfaces.party.side import OtherMessageError
from settings.preset import load_preset
from workers.commands import oracle


def run(app, *words):
    told = CliRunner().invoke(app, list(map(str, words)))
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    assert told.exit_code == 0, told.output
    return told.stdout


@pytest.fixture
def event(tmp_path):
    """An option of the next minutes, settled on one of them, and its announcement by a new key."""
    return announced(tmp_path, "--expiry", "+3", "--fixing", "minute")


def announced(tmp_path, *words):
    run(oracle.app, "key", "--out", tmp_path / "oracle.key")
    option = ["--kind", "put", "--strike", "60000", "--quantity", "0.10", "--barrier", "50000"]
    run(party_cli.app, "option", *option, *words, "--out", tmp_path / "option.json")
    run(oracle.app, "announce", "--key", tmp_path / "oracle.key", "--option", tmp_path / "option.json",
        "--out", tmp_path / "announcement.json")  # fmt: skip
    return tmp_path


def read(path):
    return json.loads(path.read_text())


def test_the_announcement_is_of_the_option_s_minute_barrier_and_preset(event):
    made = decode_announcement(read(event / "announcement.json"))
    check_announcement(made, expected=made.event)
    terms = decode_terms(read(event / "option.json"))
    assert made.event.expiry == terms.expiry > time.time()
    since = int(made.event.condition.split(" between ")[1].split(" and ")[0])
    assert made.event.condition == condition_of(terms, since)
    assert made.event.preset_hash.hex() == load_preset("standard").sha256
    assert (event / "oracle.key").stat().st_mode & 0o077 == 0
    assert (event / "oracle.key").read_text().strip() not in "".join(
        path.read_text() for path in event.glob("*.json")
    )  # fmt: skip


def test_the_announcement_says_the_option_s_fixing_and_another_is_refused(tmp_path):
    folder = announced(tmp_path, "--expiry", "+40")
    assert decode_announcement(read(folder / "announcement.json")).event.fixing == parse_fixing("twap:30")
    words = ["--key", folder / "oracle.key", "--option", folder / "option.json", "--out", folder / "again.json"]
    run(oracle.app, "announce", *words, "--fixing", "twap:30")
    with pytest.raises(InvalidInputError, match="--fixing"):
        run(oracle.app, "announce", *words, "--fixing", "minute")
    for life, fixing in (("+29", "twap:30"), ("+4", "median:5")):
        with pytest.raises(InvalidInputError, match="the window of"):
            announced(tmp_path / "short", "--expiry", life, "--fixing", fixing)
        shutil.rmtree(tmp_path / "short", ignore_errors=True)


def test_an_option_of_an_earlier_release_is_announced_as_its_minute_rounded_down(event):
    terms = {name: value for name, value in read(event / "option.json").items() if name != "fixing"}
    (event / "option.json").write_text(json.dumps(terms))
    said = json.loads(run(oracle.app, "announce", "--key", event / "oracle.key", "--option", event / "option.json",
                          "--out", event / "old.json"))  # fmt: skip
    made = decode_announcement(read(event / "old.json"))
    assert (made.event.version, made.event.fixing, "version" in read(event / "old.json")["event"]) == (1, MINUTE, False)
    assert said["settles_at"].endswith("whole dollars, down")


def test_the_price_of_a_window_is_computed_from_its_minutes_and_wrong_ones_attest_nothing(tmp_path, monkeypatch):
    folder = announced(tmp_path, "--expiry", "+40", "--fixing", "twap:3")
    made = decode_announcement(read(folder / "announcement.json"))
    monkeypatch.setattr(oracle, "_now", lambda: made.event.expiry)
    end, minutes = made.event.expiry, folder / "minutes.json"
    right = [
        {"slot": end - 120, "price_cents": 6_100_000},
        {"slot": end - 60, "left_out": "void"},
        {"slot": end, "price_cents": 6_100_101},
    ]
    words = ["--key", folder / "oracle.key", "--announcement", folder / "announcement.json", "--out", folder / "a.json"]
    for wrong in (right[:2], right[1:], [right[1], right[0], right[2]], [*right, right[2]], [], [{"slot": end}]):
        minutes.write_text(json.dumps(wrong))
        with pytest.raises(BtcfiError):
            run(oracle.app, "attest", *words, "--minutes", minutes)
    minutes.write_text(json.dumps(right))
    for both_or_none in (["--minutes", minutes, "--price", "61000"], []):
        with pytest.raises(InvalidInputError, match="one of them"):
            run(oracle.app, "attest", *words, *both_or_none)
    assert not (folder / "oracle.key.ledger").exists()
    assert json.loads(run(oracle.app, "attest", *words, "--minutes", minutes))["price_cents"] == 6_100_100
    check_attestation(decode_attestation(read(folder / "a.json")), made)


def attest(folder, price, *more):
    run(oracle.app, "attest", "--key", folder / "oracle.key", "--announcement", folder / "announcement.json",
        "--price", price, "--out", folder / "attestation.json", *more)  # fmt: skip


def test_nothing_is_attested_before_its_minute(event):
    with pytest.raises(oracle.TooEarlyError):
        attest(event, "61000")
    assert not (event / "attestation.json").exists()
    assert not (event / "oracle.key.ledger").exists()


def test_one_outcome_is_attested_and_another_refused_for_ever(event, monkeypatch):
    made = decode_announcement(read(event / "announcement.json"))
    monkeypatch.setattr(oracle, "_now", lambda: made.event.expiry)
    attest(event, "61000.99", "--touched")
    said = decode_attestation(read(event / "attestation.json"))
    check_attestation(said, made)
    assert said.outcome == made.event.outcome(6_100_100, condition=True)
    first = (event / "attestation.json").read_bytes()
    attest(event, "61000.50", "--touched")  # the nearest dollar; half a dollar goes up
    assert (event / "attestation.json").read_bytes() == first
    for other in (("61000.49", "--touched"), ("61001",)):
        with pytest.raises(AlreadyAttestedError):
            attest(event, *other)


def test_a_key_is_never_overwritten_and_an_option_is_checked_before_it_is_written(event):
    before = (event / "oracle.key").read_bytes()
    with pytest.raises(Exception, match="never overwritten"):
        run(oracle.app, "key", "--out", event / "oracle.key")
    assert (event / "oracle.key").read_bytes() == before
    for wrong in (("--strike", "0"), ("--quantity", "0.001"), ("--kind", "loan"), ("--expiry", "2020-01-01T00:00Z"),
                  ("--expiry", "+29"), ("--fixing", "vwap:30"), ("--fixing", "twap:61")):  # fmt: skip
        words = {"--kind": "call", "--strike": "60000", "--quantity": "0.10", "--expiry": "+40"} | {wrong[0]: wrong[1]}
        with pytest.raises(InvalidInputError):
            run(party_cli.app, "option", *(word for pair in words.items() for word in pair), "--out", event / "no.json")
        assert not (event / "no.json").exists()


def test_a_message_is_carried_whole_and_never_over_another(event):
    inbox = event / "inbox"
    with pytest.raises(Exception, match="folder"):
        run(party_cli.app, "send", event / "announcement.json", "--to", inbox)
    inbox.mkdir()
    for _ in range(2):  # again is harmless
        run(party_cli.app, "send", event / "announcement.json", "--to", inbox)
    assert read(inbox / "announcement.json") == read(event / "announcement.json")
    (inbox / "option.json").write_text('{"another": 1}')
    with pytest.raises(OtherMessageError):
        run(party_cli.app, "send", event / "option.json", "--to", inbox)
    assert read(inbox / "option.json") == {"another": 1}
