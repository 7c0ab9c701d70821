"""A simulated party's starts: what lies in its mailbox is not its own, and what its owner has said stays."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from btcfi.adapters.sealed_letters import box_key, seal
from btcfi.market.account import check_registration, decode_signed_registration
from btcfi.market.letter import Letter, encode_signed_letter, sign_letter
from btcfi.secp256k1 import public_key_xonly
from tests.support.accounts import DESK, DESK_BOX_SECRET, DESK_SECRET
from tests.support.chain import embedded_node
from tests.support.contracts import ORACLES
from tests.support.http_desk import HttpDesk, served

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

WORDS = "the operator knows this passphrase"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    with embedded_node(folder / "chain") as (node, _):
        cookie = folder / "chain" / ".cookie"
        yield os.environ | {"BITCOIN_NODE_URL": node.where, "BITCOIN_COOKIE_FILE": str(cookie)}


@pytest.fixture
def mailbox(tmp_path):
    folder = tmp_path / "mail"
    (folder / "inbox").mkdir(parents=True)
    told = {"oracle_keys": [public_key_xonly(ORACLES[0]).hex()], "threshold": 1, "feed": "BTC/USD"}
    (folder / "oracles.json").write_text(json.dumps(told))
    return folder


def party(*words):
    return [sys.executable, "-m", "btcfi.surfaces.party_cli", *map(str, words)]


def simulate(mailbox):
    own = mailbox.parent / "own"
    return party("simulate", f"--dir={own}", f"--mailbox={mailbox}", f"--oracles={mailbox / 'oracles.json'}")


@contextmanager
def running(mailbox, environment):
    """A party's process that has looked once, or has ended."""
    status = mailbox / "outbox/status.json"
    status.unlink(missing_ok=True)
    process = subprocess.Popen(simulate(mailbox), env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while process.poll() is None and not status.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("linked", [False, True])
def test_a_passphrase_that_lies_in_the_mailbox_at_the_first_start_is_not_taken(mailbox, environment, linked):
    """Whoever put it there would open every copy of the keystore."""
    (mailbox.parent / "words").write_text(WORDS + "\n")
    if linked:
        (mailbox / "passphrase").symlink_to(mailbox.parent / "words")
    else:
        (mailbox / "passphrase").write_text(WORDS + "\n")
    with running(mailbox, environment) as process:
        assert process.poll() is None
    assert WORDS not in (mailbox.parent / "own/passphrase").read_text()


def test_a_second_process_ends_and_says_why_and_a_mandate_that_was_taken_back_stays_so(mailbox, environment):
    own = mailbox.parent / "own"
    with running(mailbox, environment) as process:
        second = subprocess.run(simulate(mailbox), env=environment, capture_output=True, text=True, check=False)
        assert (process.poll(), second.returncode) == (None, 65)
        assert "already" in second.stderr
    owner = (f"--dir={own}", f"--passphrase-file={own / 'passphrase'}")
    subprocess.run(party("mandate", "revoke", *owner), env=environment, check=True, stdout=subprocess.DEVNULL)
    with running(mailbox, environment) as process:
        assert process.wait(60) == 77  # a WrongMandateError: nothing can be signed, nothing is to be watched
    assert subprocess.run(party("mandate", "show", *owner), env=environment, check=False).returncode == 77


# ---- at a market


def test_where_the_service_has_a_key_a_party_leaves_its_signed_registration_and_the_same_at_each_start(
    mailbox, environment
):
    """The service makes an account of it; a number of its own at each start would be another account's keys."""
    (mailbox / "desk.json").write_text(json.dumps({"desk_key": DESK.hex(), "box_key": box_key(DESK_BOX_SECRET).hex()}))
    shared = mailbox.rename(mailbox.parent / "seller")
    left = []
    for _ in range(2):
        with running(shared, environment) as process:
            assert process.poll() is None
        left.append(json.loads((shared / "registration.json").read_text()))
    registered = check_registration(decode_signed_registration(left[0]), desk=DESK)
    assert registered.name == "seller"
    assert left[0] == left[1]


def test_a_party_that_joins_a_desk_answers_its_letters_and_leaves_nothing_behind_at_its_end(
    tmp_path_factory, environment
):
    own = tmp_path_factory.mktemp("letters") / "own"
    with served(HttpDesk([public_key_xonly(ORACLES[0])])) as desk:
        command = party("simulate", f"--dir={own}", f"--desk={desk.url}", "--name=maker-0")
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            wait_for(process, lambda: desk.accounts and (own / "mail/outbox/status.json").exists())
            (registered,) = [one.registration for one in desk.accounts.values()]
            letter = Letter(
                sender=DESK, recipient=registered.identity, name="x.proposal", body={"type": "btcfi/proposal"}
            )
            plain = json.dumps(encode_signed_letter(sign_letter(letter, DESK_SECRET))).encode()
            about = registered.identity + b"x.proposal"
            desk.put(registered.identity, "x.proposal", seal(plain, to=registered.box_key, about=about))
            wait_for(process, lambda: [name for _, name, _ in desk.got] == ["x.proposal.refused"])
            wait_for(process, lambda: desk.letters[registered.identity] == [])
            wait_for(process, (own / "mail/inbox/refused/x.proposal.told").exists)  # answered first, then said
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait(20)
    files = {str(path.relative_to(own)) for path in own.rglob("*") if path.is_file()}
    assert not [name for name in files if name.endswith(".tmp")]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in own.rglob("*")} == {0}


def wait_for(process, condition):
    deadline = time.monotonic() + 90
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
