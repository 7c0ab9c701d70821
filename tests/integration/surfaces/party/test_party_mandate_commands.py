"""The owner's commands: begin, draft, read, sign, check, revoke, rotate; and who can read what they write."""

import json
import os
import pty
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from btcfi.adapters import keystore
from btcfi.adapters.files import write_private
from btcfi.adapters.keystore import create_keystore
from btcfi.bitcoin.address import decode_address
from btcfi.contracts.messages import encode_announcement, encode_offer
from btcfi.errors import BtcfiError
from btcfi.oracle.announcement import announce
from btcfi.oracle.fixing import parse_fixing
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces import party_cli
from btcfi.surfaces.status import status_of
from btcfi.units import Sats
from tests.support.chain import Wallet, embedded_node
from tests.support.contracts import ORACLES, Scene
from tests.support.desks import open_pair
from tests.support.path_events import path_event

pytestmark = pytest.mark.integration

KEYS = [public_key_xonly(secret).hex() for secret in ORACLES]
NOBODY = 65534
WORDS = "a long passphrase"


class Party:
    """One party's commands on one folder."""

    def __init__(self, folder, where, cookie):
        self.folder, self.where, self.cookie = folder, where, cookie
        self.party, self.secret_file = folder / "party", folder / "passphrase"
        folder.mkdir(parents=True, exist_ok=True)
        self.secret_file.write_text(WORDS + "\n")

    def words(self, *arguments):
        common = ["--dir", self.party, "--node", self.where, "--cookie-file", self.cookie]
        return list(map(str, [*arguments, *common, "--passphrase-file", self.secret_file]))

    def run(self, *arguments, code=0):
        done = CliRunner().invoke(party_cli.app, self.words(*arguments))
        error, status = done.exception, done.exit_code
        if isinstance(error, BtcfiError):
            status = status_of(error).exit_code
        assert status == code, (done.output, repr(error))
        if isinstance(error, BtcfiError):
            return str(error)
        return done

    def said(self, *arguments, code=0):
        return json.loads(self.run(*arguments, code=code).stdout)

    def simulate(self, *, oracles=KEYS, code=0, more=()):
        given = [word for key in oracles for word in ("--oracle", key)]
        words = ["init", "--mandate", "simulation", *given, "--threshold", 2, "--feed", "BTC/USD", *more]
        return self.run(*words, code=code) if code else self.said(*words)

    def draft(self, name="draft.json", **changes):
        path = self.folder / name
        self.said("mandate", "new", "--oracle", KEYS[0], "--threshold", 1, "--out", path)
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return path

    def files(self):
        return {path: path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    with pytest.MonkeyPatch.context() as patched, embedded_node(folder / "chain") as (opened, _):
        patched.setattr(keystore, "SCRYPT_N", keystore.LEAST_N)
        yield opened, folder / "chain" / ".cookie"


@pytest.fixture
def party(node, tmp_path):
    opened, cookie = node
    return Party(tmp_path / "one", opened.where, cookie)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A party whose node does not answer."""
    monkeypatch.setattr(keystore, "SCRYPT_N", keystore.LEAST_N)
    return Party(tmp_path / "alone", "http://127.0.0.1:1", tmp_path / "no-cookie")


# ---- the beginning


def test_a_party_begins_with_a_keystore_an_identity_and_no_mandate_and_is_told_what_to_do_next(party):
    begun = party.said("init")
    assert decode_address(begun["address"])
    assert len(bytes.fromhex(begun["identity"])) == 32
    assert begun["mandate"] is None
    assert "party mandate new" in begun["next"]
    before = party.files()
    party.run("init", code=65)
    assert party.files() == before
    assert party.said("status")["address"] == begun["address"]


@pytest.mark.parametrize(
    ("network", "prefix"),
    [("main", "bc1p"), ("test", "tb1p"), ("testnet4", "tb1p"), ("signet", "tb1p"), ("regtest", "bcrt1p")],
)
def test_without_a_node_the_address_is_that_of_the_network_that_was_named(alone, network, prefix):
    assert alone.said("init", "--network", network)["address"].startswith(prefix)


@pytest.mark.parametrize("words", [[], ["--network", "mainnet"], ["--mandate", "simulation", "--network", "main"]])
def test_without_a_node_and_a_network_that_is_one_nothing_is_begun(alone, words):
    alone.run("init", *words, code=2 if words else 69)
    assert not alone.party.exists()


def test_a_network_that_is_not_the_node_s_is_refused_and_nothing_is_begun(party):
    assert "regtest" in party.run("init", "--network", "main", code=2)
    assert not party.party.exists()


def test_a_folder_of_an_earlier_release_gets_an_identity_and_keeps_its_keystore(party):
    create_keystore(party.party / "keystore.json", WORDS)
    before = party.files()
    boxes = [word for name in ("inbox", "outbox", "orders", "bids") for word in (f"--{name}", party.folder / name)]
    assert "party init" in party.run("run", *boxes, code=77)
    begun = party.said("init")
    assert begun["mandate"] is None
    after = party.files()
    assert {path: after[path] for path in before} == before
    assert "party mandate new" in party.run("run", *boxes, code=77)


def test_a_beginning_that_ended_before_its_owner_was_known_goes_on_with_the_same_identity(party):
    begun = party.said("init")
    (party.party / "owner.sealed").unlink()
    assert party.said("init")["identity"] == begun["identity"]


# ---- a simulation


def test_a_simulation_begins_at_once_and_again_at_every_start_without_a_change(party):
    party.secret_file.unlink()
    begun = party.simulate(more=["--new-passphrase"])
    assert set(begun) == {"folder", "address", "identity", "mandate"}
    assert begun["mandate"] == 1
    assert len(party.secret_file.read_text().strip()) >= 32
    before = party.files()
    assert party.simulate(more=["--new-passphrase"]) == begun
    assert party.simulate(oracles=KEYS[::-1]) == begun
    assert party.files() == before


def test_other_oracles_make_the_simulation_s_next_mandate_of_the_same_identity(party):
    begun = party.simulate()
    again = party.simulate(oracles=[*KEYS[:2], public_key_xonly(bytes([77]) * 32).hex()])
    assert again == begun | {"mandate": 2}
    assert party.simulate()["mandate"] == 3


def test_a_passphrase_that_is_lost_is_not_made_anew_beside_its_keystore(party):
    party.simulate()
    party.secret_file.unlink()
    before = party.files()
    assert "passphrase" in party.simulate(more=["--new-passphrase"], code=2)
    assert party.files() == before


@pytest.mark.parametrize("oracles", [[], ["00" * 32], [KEYS[0][:-2]], [KEYS[0], KEYS[0]]])
def test_a_simulation_without_oracles_that_are_keys_each_once_signs_nothing(party, oracles):
    party.simulate(oracles=oracles, code=2)
    assert not (party.party / "mandate.json").exists()


# ---- draft, read, sign


def test_a_draft_is_read_signed_shown_and_replaced_by_the_next_number_with_what_changed(party):
    party.said("init")
    draft = party.draft()
    assert json.loads(draft.read_text())["networks"] == ["regtest"]
    assert party.said("mandate", "sign", draft, "--yes")["mandate"] == 1
    again = party.draft("again.json", premium_sats=[7, 77_777])
    done = party.run("mandate", "sign", again, "--yes")
    assert "7 to 77,777   (was 0 to 2,000,000)" in done.stderr
    assert done.stderr.count("(was ") == 2  # its number besides: the chain's clock stands still here
    assert json.loads(party.run("mandate", "show", "--json").stdout)["premium_sats"] == [7, 77_777]
    assert "77,777" in party.run("mandate", "show").stdout
    party.run("mandate", "sign", draft, "--yes", code=77)


def test_an_oracle_is_named_by_its_key_or_by_an_announcement_that_it_has_signed(party):
    party.said("init")
    announcement = encode_announcement(announce(ORACLES[1], Scene().event))
    file, out = party.folder / "announcement.json", party.folder / "draft.json"
    file.write_text(json.dumps(announcement))
    words = ["mandate", "new", "--oracle", KEYS[0], "--announcement", file, "--threshold", 2, "--role", "buyer"]
    party.said(*words, "--out", out)
    draft = json.loads(out.read_text())
    assert (draft["oracle_keys"], draft["roles"]) == (KEYS[:2], ["buyer"])
    file.write_text(json.dumps(announcement | {"oracle_key": KEYS[2]}))
    party.run(*words, "--out", out, code=76)


def test_a_draft_names_the_fixings_of_its_announcements_or_those_that_are_given_or_half_an_hour_and_a_minute(party):
    party.said("init")
    windowed = announce(ORACLES[1], replace(Scene().event, version=2, fixing=parse_fixing("median:5")))
    file, out = party.folder / "announcement.json", party.folder / "draft.json"
    file.write_text(json.dumps(encode_announcement(windowed)))
    for words, fixings in (
        (["--announcement", file], ["median:5"]),
        (["--oracle", KEYS[0]], ["twap:30", "minute"]),
        (["--oracle", KEYS[0], "--fixing", "twap:10", "--fixing", "minute"], ["twap:10", "minute"]),
        (["--announcement", file, "--fixing", "any"], None),
    ):
        party.said("mandate", "new", *words, "--threshold", 1, "--out", out)
        assert json.loads(out.read_text()).get("fixings") == fixings
    party.run("mandate", "new", "--oracle", KEYS[0], "--fixing", "twap:1", "--threshold", 1, "--out", out, code=2)


def test_no_draft_takes_its_fixings_from_the_announcement_of_a_path(party):
    party.said("init")
    file, out = party.folder / "announcement.json", party.folder / "draft.json"
    file.write_text(json.dumps(encode_announcement(announce(ORACLES[1], path_event("asian:60x24")))))
    assert "of a path" in party.run("mandate", "new", "--announcement", file, "--threshold", 1, "--out", out, code=2)
    assert not out.exists()


def test_a_mandate_is_signed_where_the_identity_is_and_put_in_force_where_it_is_not(party, tmp_path):
    party.said("init")
    elsewhere = tmp_path / "kept.json"
    (party.party / "identity.json").rename(elsewhere)
    draft, signed = party.draft(), party.folder / "signed.json"
    assert "--identity" in party.run("mandate", "sign", draft, "--yes", code=3)
    party.run("mandate", "sign", draft, "--identity", elsewhere, "--out", signed, "--yes")
    assert not (party.party / "mandate.json").exists()
    assert party.said("mandate", "sign", signed, "--yes")["mandate"] == 1
    widened = json.loads(signed.read_text()) | {"number": 2, "exposure_sats": 1}
    signed.write_text(json.dumps(widened))
    party.run("mandate", "sign", signed, "--yes", code=77)


def test_an_identity_may_have_a_passphrase_of_its_own(party):
    own = party.folder / "own"
    own.write_text("another long passphrase\n")
    party.said("init", "--identity-passphrase-file", own)
    draft = party.draft()
    party.run("mandate", "sign", draft, "--yes", code=77)
    assert party.said("mandate", "sign", draft, "--yes", "--identity-passphrase-file", own)["mandate"] == 1


def test_a_revoked_mandate_and_one_of_a_rotated_identity_count_no_more_and_the_next_one_does(party):
    begun = party.said("init")
    party.said("mandate", "sign", party.draft(), "--yes")
    assert party.said("mandate", "revoke")["revoked"] == 1
    party.run("mandate", "show", code=77)
    party.said("mandate", "sign", party.draft("second.json"), "--yes")
    rotated = party.said("identity", "rotate")
    assert rotated["identity"] != begun["identity"]
    assert (party.party / "identity-1.json").exists()
    party.run("mandate", "show", code=77)
    assert party.said("mandate", "sign", party.draft("third.json"), "--yes")["mandate"] == 3


@pytest.mark.parametrize(("answer", "code"), [("n", 79), ("", 79), ("y", 0)])
def test_at_a_terminal_the_owner_is_asked_and_only_a_yes_signs(party, answer, code):
    party.said("init")
    draft = party.draft()
    master, terminal = pty.openpty()
    os.write(master, answer.encode() + b"\n")
    command = [sys.executable, "-m", "btcfi.surfaces.party_cli", *party.words("mandate", "sign", draft)]
    done = subprocess.run(command, stdin=terminal, capture_output=True, text=True, timeout=120, check=False)
    os.close(master)
    os.close(terminal)
    assert done.returncode == code, done.stderr
    assert "collateral_sats" in done.stderr
    assert (party.party / "mandate.json").exists() == (code == 0)


def test_where_nobody_can_be_asked_nothing_is_signed_and_the_error_names_the_option(party):
    party.said("init")
    assert "--yes" in party.run("mandate", "sign", party.draft(), code=2)
    assert not (party.party / "mandate.json").exists()


# ---- what a mandate says about an offer


def test_an_offer_is_checked_without_signing_and_the_field_that_is_not_allowed_is_named(node, tmp_path):
    opened, cookie = node
    chain = Wallet(opened)
    chain.fund()
    with open_pair(tmp_path / "pair", chain, cookie) as pair:
        pair.reach("one", pair.terms(premium=Sats(60_000)), "offer")
        offer = tmp_path / "offer.json"
        offer.write_text(json.dumps(pair.seller.said("one.offer")))
        reader = Party(tmp_path / "reader", opened.where, cookie)
        reader.said("init")
        assert reader.said("mandate", "check", offer, code=1)["field"] == "mandate"
        wide = {"kinds": ["call"], "feeds": ["BTC-USD"],
                "tolerance_basis_points": [0, 10_000], "refund_delay_blocks": [5, 2_016],
                "seconds_to_expiry": [0, 86_400]}  # fmt: skip
        reader.said("mandate", "sign", reader.draft(**wide, premium_sats=[0, 59_999]), "--yes")
        before = reader.files()
        said = reader.said("mandate", "check", offer, code=1)
        assert (said["allowed"], said["field"]) == (False, "premium_sats")
        assert "59,999" in said["expected"]
        assert reader.files() == before
        reader.said("mandate", "sign", reader.draft(**wide, premium_sats=[0, 60_000]), "--yes")
        assert reader.said("mandate", "check", offer) == {"allowed": True, "mandate": 2}


def test_the_option_that_the_mandate_took_the_place_of_warns_and_does_nothing(party):
    party.said("init")
    done = party.run("watch", "--min-refund-delay", 5)
    assert "refund_delay_blocks" in done.stderr
    assert json.loads(done.stdout) == {"contracts": []}


# ---- who can read it


@pytest.fixture
def open_folder():
    """A folder that every user may enter, as a home folder of mode 0755: what lies in it must guard itself."""
    folder = Path(tempfile.mkdtemp(prefix="btcfi-owner-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def kept(node, open_folder):
    """A party's folder with everything secret in it: keystore, identities, passphrase, pin, mandate, a contract."""
    opened, cookie = node
    party = Party(open_folder / "one", opened.where, cookie)
    shutil.rmtree(party.folder)
    old = os.umask(0)  # whatever the shell of its owner says
    try:
        party.simulate(more=["--new-passphrase"])
        party.said("identity", "rotate")
        party.simulate()
        message = encode_offer(Scene().offer())
        write_private(party.party / "contracts" / "one.json", json.dumps(message).encode())
    finally:
        os.umask(old)
    return party


SECRETS = {
    "keystore.json",
    "identity.json",
    "identity-1.json",
    "passphrase",
    "owner.sealed",
    "mandate.json",
    "one.json",
}


def test_every_file_of_a_party_is_of_mode_0600_in_folders_of_mode_0700_whatever_the_shell_s_mask_is(kept):
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in [kept.folder, *kept.folder.rglob("*")]}
    assert {path.name for path in found} >= SECRETS
    assert {mode for path, mode in found.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in found.items() if path.is_file()} == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_process_of_another_user_reads_no_secret_of_a_party_even_where_the_folders_let_it_in(kept, open_folder):
    public = open_folder / "public"
    public.write_text("for everybody")
    public.chmod(0o644)
    for folder in (path for path in [kept.folder, *kept.folder.rglob("*")] if path.is_dir()):
        folder.chmod(0o755)  # each file guards itself
    reading = "import sys\nfor p in sys.argv[1:]:\n try: open(p,'rb').read(); print(p)\n except PermissionError: pass"
    files = [str(path) for path in kept.folder.rglob("*") if path.is_file()] + [str(public)]
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-c", reading, *files], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/",
        env={"PATH": "/usr/bin:/bin:/usr/local/bin"}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(public)]
