"""A secret nonce signs once, on the machine and in the run in which it was made, and in no copy."""

import os
import shutil
import stat
import tempfile

import pytest

from btcfi import secp256k1
from btcfi.adapters import nonces
from btcfi.adapters.files import UntrustedFileError
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.nonces import NonceGoneError, NonceVault, runtime_folder
from btcfi.bitcoin.musig import KeyAggregate, NonceUsedError, SecretNonce, Session
from btcfi.units import Hash32

SEED, SECRET, MESSAGE, SESSION = bytes(range(32)), bytes([1]) * 32, bytes([9]) * 32, Hash32(bytes([5]) * 32)
AGGREGATE = KeyAggregate([secp256k1.public_key_compressed(SECRET)])


def fresh(number=7):
    return SecretNonce(secret=SECRET, entropy=bytes([number]) * 32, message=MESSAGE, aggregate=AGGREGATE)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def vault(folder):
    return NonceVault(Keystore(SEED), folder)


@pytest.fixture
def public(vault):
    """The public half of a nonce that the vault holds."""
    nonce = fresh()
    vault.put(SESSION, nonce)
    with pytest.raises(NonceUsedError):
        nonce.take()
    return nonce.public


def test_a_stored_nonce_signs_once_and_is_gone_from_the_disk_before_it_does(vault, public, folder):
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())] == [0o700, 0o600]
    taken = vault.take(SESSION, public)
    assert list(folder.iterdir()) == []
    run = Session(AGGREGATE, [public], MESSAGE)
    assert secp256k1.schnorr_verify(AGGREGATE.xonly, MESSAGE, run.aggregate([run.sign(SECRET, taken)]))
    with pytest.raises(NonceGoneError):
        vault.take(SESSION, public)


def test_a_later_request_destroys_the_nonce_of_the_earlier_one(vault, public, folder):
    later = fresh(8)
    vault.put(SESSION, later)
    assert len(list(folder.iterdir())) == 1
    with pytest.raises(NonceGoneError):
        vault.take(SESSION, public)
    assert vault.take(SESSION, later.public).public == later.public


def test_after_a_boot_in_a_copied_folder_and_for_another_keystore_there_is_no_nonce(
    vault, public, folder, tmp_path, monkeypatch
):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for other in (NonceVault(Keystore(SEED), copy), NonceVault(Keystore(bytes(32)), folder)):
        with pytest.raises(NonceGoneError):
            other.take(SESSION, public)
    shutil.copytree(copy, folder, dirs_exist_ok=True)  # back in the same place, it is still there once
    booted = tmp_path / "boot_id"
    booted.write_text("another boot\n")
    with monkeypatch.context() as patched:
        patched.setattr(nonces, "_BOOT", booted)
        with pytest.raises(NonceGoneError):
            vault.take(SESSION, public)
    assert vault.take(SESSION, public).public == public


def test_a_nonce_s_file_of_which_any_byte_was_changed_cut_off_or_added_is_refused(vault, public, folder):
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    changed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for raw in (*changed, *(whole[:size] for size in range(len(whole))), whole + b"\0"):
        path.write_bytes(raw)
        with pytest.raises(UntrustedFileError):
            vault.take(SESSION, public)
    path.write_bytes(whole)
    assert vault.take(SESSION, public).public == public


def test_a_folder_of_another_user_open_to_others_or_behind_a_link_is_refused(tmp_path, monkeypatch):
    wide, link, file = tmp_path / "wide", tmp_path / "link", tmp_path / "file"
    wide.mkdir()
    wide.chmod(0o750)
    (tmp_path / "own").mkdir(mode=0o700)
    link.symlink_to(tmp_path / "own")
    file.touch()
    for place in (wide, link, file):
        with pytest.raises(UntrustedFileError):
            NonceVault(Keystore(SEED), place)
    (tmp_path / "theirs").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UntrustedFileError):
        NonceVault(Keystore(SEED), tmp_path / "theirs")


def test_the_runtime_folder_is_the_session_s_else_one_of_ours_in_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_folder() == tmp_path / "btcfi"
    user = os.geteuid()
    for unusable in ("relative", str(tmp_path / "none"), ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", unusable)
        monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
        found = runtime_folder()
        assert found.parent in (tmp_path, nonces.Path(f"/run/user/{user}"))
        assert stat.S_IMODE(found.stat().st_mode) == 0o700
