"""Files from outside are read by one function: regular ones, of a bounded size, and every refusal names its file."""

import os
import stat
import threading

import pytest

from btcfi.adapters.files import (
    KeystoreExistsError,
    UntrustedFileError,
    open_untrusted,
    read_untrusted,
    read_untrusted_json,
    read_untrusted_text,
    write_private,
)
from btcfi.adapters.party.mailbox import Mailbox, read_message
from btcfi.errors import NotFoundError

WHAT = "message"


def read(path, **options):
    return read_untrusted(path, **{"at_most": 10, "what": WHAT, **options})


def test_a_regular_file_is_read_up_to_its_limit_and_not_one_byte_more(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"0123456789")
    assert read(file) == b"0123456789"
    file.write_bytes(b"0123456789x")
    with pytest.raises(UntrustedFileError) as refused:
        read(file)
    assert refused.value.path == file
    assert (refused.value.field, refused.value.expected) == (str(file), "message of at most 10 bytes")


def test_a_file_that_grows_between_the_look_at_its_size_and_the_reading_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "a"
    file.write_bytes(b"0123456789")
    seen = os.fstat

    def grows(descriptor):
        found = seen(descriptor)
        with file.open("ab") as more:
            more.write(b"x" * 100)
        return found

    monkeypatch.setattr(os, "fstat", grows)
    with pytest.raises(UntrustedFileError):
        read(file)


def test_a_link_in_a_folder_of_others_is_refused_and_one_that_a_person_names_is_followed(tmp_path):
    secret, link = tmp_path / "secret", tmp_path / "link"
    secret.write_bytes(b"ours")
    link.symlink_to(secret)
    with pytest.raises(UntrustedFileError) as refused:
        read(link)
    assert refused.value.problem == "is a link"
    assert read(link, named=True) == b"ours"


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.symlink_to("/dev/zero")])
def test_a_folder_and_a_device_are_no_files(tmp_path, make, named):
    make(tmp_path / "a")
    with pytest.raises(UntrustedFileError):
        read(tmp_path / "a", named=named)


def test_a_pipe_into_which_nobody_writes_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a")
    with pytest.raises(UntrustedFileError) as refused:
        read(tmp_path / "a")
    assert refused.value.problem == "is no regular file"


def test_a_pipe_that_a_person_names_is_read_and_its_bytes_are_counted(tmp_path):
    pipe = tmp_path / "a"
    os.mkfifo(pipe)
    for sent, fine in ((b"0123456789", True), (b"0123456789x", False)):
        writer = threading.Thread(target=pipe.write_bytes, args=(sent,))
        writer.start()
        if fine:
            assert read(pipe, named=True) == sent
        else:
            with pytest.raises(UntrustedFileError):
                read(pipe, named=True)
        writer.join(5)


def test_a_missing_file_is_not_found_with_the_hint_and_a_name_that_no_file_has_is_refused(tmp_path):
    with pytest.raises(NotFoundError) as missing:
        read(tmp_path / "a", hint="look elsewhere")
    assert (missing.value.kind, missing.value.name) == (WHAT, str(tmp_path / "a"))
    assert "look elsewhere" in str(missing.value)
    with pytest.raises(UntrustedFileError):
        read(tmp_path / "a\0b")


def test_text_has_its_line_ends_translated_and_must_be_utf_8(tmp_path):
    file = tmp_path / "a"
    file.write_bytes("é\r\nb\rc\n".encode())
    assert read_untrusted_text(file, at_most=99, what=WHAT) == file.read_text(encoding="utf-8") == "é\nb\nc\n"
    file.write_bytes(b"ab\xff")
    with pytest.raises(UntrustedFileError) as refused:
        read_untrusted_text(file, at_most=99, what=WHAT)
    assert "byte 2" in refused.value.problem


def test_json_that_is_none_is_a_refusal_that_names_the_file(tmp_path):
    file = tmp_path / "a"
    for raw in (b"", b"{", b"\xff", b"{} {}", b'{"a": 1, "a": 2}', b"[NaN]", b"[" * 100_000):
        file.write_bytes(raw)
        with pytest.raises(UntrustedFileError) as refused:
            read_untrusted_json(file, at_most=1 << 20, what=WHAT)
        assert refused.value.field == str(file)
        assert refused.value.expected.startswith("message, as JSON")


def test_a_large_file_may_be_read_as_a_stream(tmp_path):
    (tmp_path / "a").write_bytes(b"one\ntwo\n")
    with open_untrusted(tmp_path / "a", at_most=8, what=WHAT) as file:
        assert list(file) == [b"one\n", b"two\n"]


def test_a_private_file_is_its_owner_s_alone_replaced_whole_and_never_written_twice_when_it_must_be_new(tmp_path):
    file = tmp_path / "deep" / "a"
    write_private(file, b"1")
    write_private(file, b"2")
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"2", 0o600)
    with pytest.raises(KeystoreExistsError):
        write_private(file, b"3", fresh=True)
    assert file.read_bytes() == b"2"
    assert [one.name for one in file.parent.iterdir()] == ["a"]


def test_the_service_passes_over_a_link_and_a_pipe_in_a_party_s_outbox(tmp_path):
    box = Mailbox(tmp_path)
    write_private(tmp_path / "outbox/x.accept.json", b'{"type": "btcfi/accept"}')
    (tmp_path / "secret.json").write_text('{"type": "ours"}')
    (tmp_path / "outbox/y.accept.json").symlink_to(tmp_path / "secret.json")
    os.mkfifo(tmp_path / "outbox/z.accept.json")
    read_by_name = {name: read_message(path) for path, name, _ in box.answers()}
    assert read_by_name == {"x": {"type": "btcfi/accept"}, "y": None, "z": None}


def test_a_party_s_reason_that_is_a_link_is_not_shown_to_anybody(tmp_path):
    box = Mailbox(tmp_path)
    (tmp_path / "inbox/refused").mkdir(parents=True)
    (tmp_path / "secret").write_text("ours")
    (tmp_path / "inbox/refused/x.reason").symlink_to(tmp_path / "secret")
    told = box.refusal("x")
    assert told is not None
    assert "ours" not in told
    assert box.refusal("y") is None


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "\udcff\ud800", "/".join(["a" * 200] * 30), "file/below"])
def test_a_name_that_no_file_can_have_is_a_refusal_too(tmp_path, name, named):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((UntrustedFileError, NotFoundError)):
        read(tmp_path / name, named=named)


def test_what_cannot_even_be_looked_at_is_refused_and_not_asked_whether_it_is_a_link(tmp_path, monkeypatch):
    def denied(*_args, **_more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    monkeypatch.setattr(os, "lstat", denied)
    monkeypatch.setattr("pathlib.Path.lstat", denied)
    with pytest.raises(UntrustedFileError) as refused:
        read(tmp_path / "a")
    assert "Permission denied" in refused.value.problem


def test_a_private_file_may_have_a_name_as_long_as_names_can_be(tmp_path):
    write_private(tmp_path / ("a" * 255), b"ours")
    assert (tmp_path / ("a" * 255)).read_bytes() == b"ours"


def test_a_private_file_is_never_written_through_what_others_left_under_its_temporary_name(tmp_path):
    victim, folder = tmp_path / "victim", tmp_path / "shared"
    victim.write_bytes(b"theirs")
    folder.mkdir()
    (folder / f".a.{os.getpid()}.tmp").symlink_to(victim)
    write_private(folder / "a", b"ours")
    assert victim.read_bytes() == b"theirs"
    assert (folder / "a").read_bytes() == b"ours"
    assert not (folder / "a").is_symlink()
    assert (folder / "a").stat().st_mode & 0o777 == 0o600


def test_a_private_file_that_cannot_be_put_in_place_leaves_nothing_behind(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="director"):
        write_private(tmp_path / "a", b"ours")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_every_folder_that_a_private_file_needs_is_its_owner_s_alone(tmp_path):
    write_private(tmp_path / "parties" / "buyer" / "party" / "keystore", b"secret")
    for folder in ("parties", "parties/buyer", "parties/buyer/party"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700
