"""Every field of a keystore, with every kind of wrong value: one refusal that names it, before any memory is taken."""

import json
from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from btcfi.adapters import keystore
from btcfi.adapters.keystore import LEAST_N, WrongPassphraseError, create_keystore, open_keystore
from btcfi.errors import InvalidInputError

PASSPHRASE = "correct horse battery"
FIELDS = [
    ("type",), ("version",), ("kdf",), ("kdf", "name"), ("kdf", "n"), ("kdf", "r"), ("kdf", "p"), ("kdf", "salt"),
    ("nonce",), ("ciphertext",),
]  # fmt: skip
REMOVED = object()

HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(max_value=0),
    st.integers(min_value=2**21),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "0", "32768", "scrypt ", "argon2id", "btcfi/keystore2", "zz", "=", "ü", "00" * 11, "00" * 65]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["n", "x"]), st.integers(), max_size=2),
    st.just(REMOVED),
)

EDGES = [
    ("n", LEAST_N - 1), ("n", LEAST_N // 2), ("n", LEAST_N + 1), ("n", 1 << 21), ("n", 1 << 40), ("n", 1 << 64),
    ("n", 0), ("n", -LEAST_N), ("n", float(LEAST_N)), ("n", str(LEAST_N)), ("n", True), ("r", 7), ("r", 0), ("r", -8),
    ("r", 33), ("r", 1 << 30), ("p", 0), ("p", 5), ("p", -1), ("p", 1 << 30), ("salt", "00" * 15), ("salt", "00" * 17),
    ("salt", ""), ("name", "pbkdf2"),
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("keystore") / "keystore.json"
    create_keystore(path, PASSPHRASE, cost=LEAST_N)
    return json.loads(path.read_text())


@pytest.fixture
def no_stretching(monkeypatch):
    def never(**_):
        raise AssertionError("scrypt was asked for")

    monkeypatch.setattr(keystore, "Scrypt", never)


def changed(whole, path, value):
    stored = deepcopy(whole)
    inner = stored
    for name in path[:-1]:
        inner = inner[name]
    if value is REMOVED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return stored


def refusal(tmp_path, stored):
    file = tmp_path / "keystore.json"
    file.write_text(stored if isinstance(stored, str) else json.dumps(stored))
    with pytest.raises(InvalidInputError) as error:
        open_keystore(file, PASSPHRASE)
    return error.value


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(FIELDS), value=HOSTILE)
def test_a_wrong_value_of_any_field_is_refused_by_its_name_before_anything_is_computed(
    whole, no_stretching, tmp_path, path, value
):
    named = refusal(tmp_path, changed(whole, path, value)).field
    assert named.startswith("keystore.json." + ".".join(path))


@pytest.mark.parametrize(("name", "value"), EDGES)
def test_a_cost_just_outside_its_bounds_is_refused_by_its_name(whole, no_stretching, tmp_path, name, value):
    error = refusal(tmp_path, changed(whole, ("kdf", name), value))
    assert error.field == f"keystore.json.kdf.{name}"


def test_costs_that_are_each_inside_their_bounds_and_ask_for_too_much_together_are_refused(
    whole, no_stretching, tmp_path
):
    stored = changed(changed(whole, ("kdf", "n"), 1 << 20), ("kdf", "r"), 32)
    assert refusal(tmp_path, stored).field == "keystore.json.kdf"


@pytest.mark.parametrize(("path", "name"), [((), "more"), (("kdf",), "dklen")])
def test_a_field_that_no_keystore_has_is_refused_by_its_name(whole, no_stretching, tmp_path, path, name):
    assert refusal(tmp_path, changed(whole, (*path, name), 1)).field == ".".join(("keystore.json", *path, name))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 5_000])
def test_what_no_number_is_ends_the_reading_of_the_file(whole, no_stretching, tmp_path, number):
    text = json.dumps(whole).replace(str(LEAST_N), number)
    assert refusal(tmp_path, text).field.endswith("keystore.json")


def flipped(text, at):
    return text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :]


@pytest.mark.parametrize("path", [("kdf", "salt"), ("nonce",), ("ciphertext",)])
def test_a_value_that_another_keystore_might_have_does_not_open_this_one(whole, tmp_path, path):
    inner = whole
    for name in path:
        inner = inner[name]
    file = tmp_path / "keystore.json"
    file.write_text(json.dumps(changed(whole, path, flipped(inner, 5))))
    with pytest.raises(WrongPassphraseError):
        open_keystore(file, PASSPHRASE)
    file.write_text(json.dumps(changed(whole, ("kdf", "p"), 2)))
    with pytest.raises(WrongPassphraseError):
        open_keystore(file, PASSPHRASE)
