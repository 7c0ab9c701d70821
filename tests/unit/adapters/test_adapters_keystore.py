import json
import stat

import pytest

from btcfi.adapters import keystore
from btcfi.adapters.files import KeystoreExistsError
from btcfi.adapters.keystore import LEAST_N, FileLedger, create_keystore, open_keystore
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.oracle.announcement import announce
from btcfi.oracle.attestation import AlreadyAttestedError, attest
from tests.support.contracts import ORACLES, event

PASSPHRASE, SEED = "correct horse battery", bytes(range(32))
OLD = json.dumps(
    {
        "type": "btcfi/keystore", "version": 1,
        "kdf": {"name": "scrypt", "n": 32768, "r": 8, "p": 1, "salt": "2c47fd2281304152eefc6eaf0e0a66d7"},
        "nonce": "aefefb55c1c0069cf3ab542f",
        "ciphertext": "CcOYWWpzpP44Uml8FyHxWPv++/QoabKFdYWgSArEiix1EH5uMdVNruV4WmSB+hPI",
    }
)  # fmt: skip
"""A keystore of SEED, made by the release before."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("keystore") / "keystore.json"
    create_keystore(path, PASSPHRASE, SEED, cost=LEAST_N)
    return path


def test_a_keystore_opens_with_its_passphrase_and_gives_the_same_keys(stored):
    opened = open_keystore(stored, PASSPHRASE)
    assert opened.wallet_key(0).script == keystore.Keystore(SEED).wallet_key(0).script
    assert opened.contract_secret(3) == keystore.Keystore(SEED).contract_secret(3)
    assert len({opened.contract_secret(n) for n in range(5)}) == 5


def test_each_purpose_of_a_keystore_has_a_secret_of_its_own():
    opened = keystore.Keystore(SEED)
    secrets = {opened.identity_secret(), opened.request_secret(), opened.letters_secret(), opened.contract_secret(0)}
    assert len(secrets) == 4
    assert opened.request_secret() == keystore.Keystore(SEED).request_secret()


def test_the_file_is_private_and_holds_no_secret(stored):
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    text = stored.read_text()
    assert SEED.hex() not in text
    assert PASSPHRASE not in text
    assert SEED.hex() not in repr(open_keystore(stored, PASSPHRASE))


def test_another_passphrase_or_a_changed_file_does_not_open(stored, tmp_path):
    with pytest.raises(keystore.WrongPassphraseError):
        open_keystore(stored, PASSPHRASE + "!")
    changed = json.loads(stored.read_text())
    changed["nonce"] = "00" * 12
    (tmp_path / "k").write_text(json.dumps(changed))
    with pytest.raises(keystore.WrongPassphraseError):
        open_keystore(tmp_path / "k", PASSPHRASE)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"type": "other", "ciphertext": ""}'])
def test_another_kind_of_file_is_named(tmp_path, content):
    (tmp_path / "k").write_text(content)
    with pytest.raises(InvalidInputError):
        open_keystore(tmp_path / "k", PASSPHRASE)


def test_an_existing_keystore_is_never_overwritten_and_a_missing_one_is_named(stored, tmp_path):
    before = stored.read_bytes()
    with pytest.raises(KeystoreExistsError):
        create_keystore(stored, PASSPHRASE)
    assert stored.read_bytes() == before
    with pytest.raises(NotFoundError):
        open_keystore(tmp_path / "none", PASSPHRASE)
    with pytest.raises(InvalidInputError):
        create_keystore(tmp_path / "new", "short")


def test_a_new_keystore_costs_what_owasp_recommends_and_one_of_a_release_before_still_opens(tmp_path):
    """The second file is as that release wrote it: N = 2^15."""
    create_keystore(tmp_path / "new", PASSPHRASE, SEED)
    kdf = json.loads((tmp_path / "new").read_text())["kdf"]
    assert (kdf["n"], kdf["r"], kdf["p"]) == (2**17, 8, 1)
    assert open_keystore(tmp_path / "new", PASSPHRASE).contract_secret(0) == keystore.Keystore(SEED).contract_secret(0)
    (tmp_path / "old").write_text(OLD)
    assert open_keystore(tmp_path / "old", PASSPHRASE).contract_secret(0) == keystore.Keystore(SEED).contract_secret(0)


@pytest.mark.parametrize("cost", [2**14, 2**17 + 1, 2**21, 0])
def test_a_cost_or_a_seed_that_no_keystore_may_have_is_refused_before_a_file_is_written(tmp_path, cost):
    with pytest.raises(InvalidInputError):
        create_keystore(tmp_path / "new", PASSPHRASE, cost=cost)
    for size in (0, 15, 65):
        with pytest.raises(InvalidInputError):
            create_keystore(tmp_path / "new", PASSPHRASE, bytes(size))
    assert not (tmp_path / "new").exists()


def test_the_ledger_refuses_a_second_outcome_in_another_process_and_after_a_torn_line(tmp_path):
    path = tmp_path / "ledger"
    what = event()
    announcement = announce(ORACLES[0], what)
    first = attest(ORACLES[0], announcement, 100_000, FileLedger(path))
    with path.open("ab") as file:
        file.write(b'["torn')
    assert attest(ORACLES[0], announcement, 100_000, FileLedger(path)) == first
    with pytest.raises(AlreadyAttestedError) as error:
        attest(ORACLES[0], announcement, 100_001, FileLedger(path))
    assert error.value.attested == 100_000
    other = event(minute=29_000_001)
    attest(ORACLES[0], announce(ORACLES[0], other), 5, FileLedger(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
