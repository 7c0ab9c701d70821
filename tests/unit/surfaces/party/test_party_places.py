"""Where a command writes, and what it sends: never over a key or what a party remembers, and no key is sent."""

import json

import pytest
from typer.testing import CliRunner

from btcfi.errors import InvalidInputError
from btcfi.surfaces import party_cli
from btcfi.surfaces.party.side import place
from workers.commands import oracle

OPTION = ["option", "--kind", "call", "--quantity", "0.10", "--expiry", "+60", "--strike"]
KEPT = {
    "keystore.json": json.dumps({"type": "btcfi/keystore", "version": 1}),
    "oracle.key": "11" * 32,
    "digits.key": "1" * 64,
    "owner.sealed": "\x00\x01",
    "coins.json": json.dumps({"scanned": None, "coins": []}),
    "contract.json": json.dumps({"number": 0, "role": "seller", "offer": {"type": "btcfi/offer"}}),
}


def refused(app, *words):
    said = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(said.exception, InvalidInputError), said.output
    return said.exception


@pytest.mark.parametrize("name", KEPT)
def test_no_answer_is_written_over_a_key_or_what_a_party_remembers(tmp_path, name):
    path = tmp_path / name
    path.write_text(KEPT[name])
    somewhere = tmp_path / "some.json"
    for app, words in [
        (party_cli.app, [*OPTION, "100000"]),
        (party_cli.app, ["mandate", "new", "--threshold", 1]),
        (party_cli.app, ["mandate", "sign", somewhere]),
        (party_cli.app, ["accept", somewhere, "--announcement", somewhere]),
        (party_cli.app, ["sign", somewhere]),
        (party_cli.app, ["psbt", "export", somewhere, "--message", somewhere]),
        (oracle.app, ["announce", "--key", path, "--option", somewhere]),
        (oracle.app, ["announce-path", "--key", path, "--path", "asian:60x24", "--expiry", "+60"]),
        (oracle.app, ["attest", "--key", path, "--announcement", somewhere, "--price", 1]),
    ]:
        assert refused(app, *words, "--out", path).field == "--out", words
        assert path.read_text() == KEPT[name]


@pytest.mark.parametrize("name", ["keystore.json", "coins.json", "contract.json"])
def test_what_is_no_message_is_not_sent_to_the_other_side(tmp_path, name):
    path, theirs = tmp_path / name, tmp_path / "inbox"
    path.write_text(KEPT[name])
    theirs.mkdir()
    assert refused(party_cli.app, "send", path, "--to", theirs).problem == "is no message"
    assert list(theirs.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_done(tmp_path):
    for wrong in (tmp_path / "nowhere" / "x.json", tmp_path):
        with pytest.raises(InvalidInputError) as error:
            place(wrong)
        assert error.value.field == "--out"


def test_a_message_is_written_over_a_message_of_its_own_name(tmp_path):
    path = tmp_path / "option.json"
    for strike in ("100000", "90000"):
        assert CliRunner().invoke(party_cli.app, [*OPTION, strike, "--out", str(path)]).exit_code == 0
    assert json.loads(path.read_text())["strike_cents"] == 9_000_000
    for fine in ("-", "", "http://127.0.0.1/x", "/dev/null"):
        assert place(fine) == fine
