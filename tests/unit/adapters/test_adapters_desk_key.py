"""The service's key at the market: made once, of mode 0600, with a public half that says nothing of it."""

import json

import pytest

from btcfi.adapters.desk_key import DeskKey, load_desk, load_desk_key, make_desk_key
from btcfi.adapters.sealed_letters import seal, unseal
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.secp256k1 import schnorr_sign, schnorr_verify


def test_a_desk_s_key_is_made_once_for_its_owner_and_its_public_half_for_everybody(tmp_path):
    file = tmp_path / "data" / "desk.key"
    made = make_desk_key(file)
    assert make_desk_key(file) == load_desk_key(file) == made
    assert [file.stat().st_mode & 0o777, (tmp_path / "data/desk.json").stat().st_mode & 0o777] == [0o600, 0o644]
    assert load_desk(file) == made.public
    assert made.secret.hex() not in (tmp_path / "data/desk.json").read_text() + repr(made)


def test_a_public_half_that_was_lost_or_changed_is_made_again_from_the_key_that_stands(tmp_path):
    file = tmp_path / "desk.key"
    public = make_desk_key(file).public
    for left in ("{}", json.dumps({"desk_key": "00" * 32, "box_key": "00" * 32})):
        (tmp_path / "desk.json").write_text(left)
        with pytest.raises(InvalidInputError):
            load_desk(file)
        assert make_desk_key(file).public == load_desk(file) == public


def test_its_two_keys_are_different_and_do_what_their_public_halves_say():
    key, digest = DeskKey(b"\x07" * 32), b"\x01" * 32
    assert key.request_secret != key.box_secret != key.secret
    assert schnorr_verify(key.public.desk_key, digest, schnorr_sign(key.request_secret, digest))
    sealed = seal(b"a letter", to=key.public.box_key, about=b"x")
    assert unseal(sealed, secret=key.box_secret, about=b"x") == b"a letter"


def test_a_key_that_is_missing_or_cut_short_is_refused(tmp_path):
    with pytest.raises(NotFoundError):
        load_desk_key(tmp_path / "desk.key")
    (tmp_path / "desk.key").write_bytes(bytes(31))
    with pytest.raises(InvalidInputError, match="31 bytes"):
        make_desk_key(tmp_path / "desk.key")
