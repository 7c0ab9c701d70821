"""The two parties of `btcfi up`: processes that make their own keys and mandate, which nobody else opens or reads."""

import json
import os
import stat
import subprocess
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import pytest

from btcfi.adapters.files import write_private
from btcfi.adapters.keystore import LEAST_N, create_keystore, open_keystore
from btcfi.bitcoin.address import encode_address
from settings.deployment import Deployment
from settings.preset import load_preset
from tests.support.looking import files_of, inside, looking
from workers.machine import oracles as machine_oracles
from workers.machine import parties
from workers.machine.cluster import Cluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NOBODY = 65_534
WORDS = "a passphrase of an earlier release"
PRIVATE = {"identity.json", "keystore.json", "mandate.json", "owner.sealed", "passphrase"}


@pytest.fixture(scope="module")
def started():
    """Start the node and the parties twice; the buyer's folder is as the release before left it.

    Gives the deployment, what the supervisor's process touched, and what each start found in the parties' files.
    """
    with tempfile.TemporaryDirectory() as folder:
        deployment = Deployment(data_dir=Path(folder) / "data")
        buyer = deployment.parties_dir / "buyer"
        keys = create_keystore(buyer / "party" / "keystore.json", WORDS, cost=LEAST_N)
        write_private(buyer / "passphrase", WORDS.encode() + b"\n")
        (buyer / "address").write_text(encode_address(keys.wallet_key(0).script) + "\n")
        found = []
        statuses = [deployment.parties_dir / party / "outbox" / "status.json" for party in parties.PARTIES]
        for _ in range(2):
            with Cluster(deployment, embedded_broker=False, roles=(), beat=False) as cluster:
                with looking() as touched:
                    cluster.start()
                    addresses = parties.addresses(deployment)
                until(lambda: all(status.exists() for status in statuses))
                for status in statuses:
                    status.unlink()
                found.append((addresses, {path: sha256(path.read_bytes()).digest() for path in private(deployment)}))
        yield deployment, touched, found, keys


def until(done):
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def own(deployment):
    return [deployment.parties_dir / party / "party" for party in parties.PARTIES]


def private(deployment):
    return {path for folder in own(deployment) for path in files_of(folder)}


def test_each_party_makes_its_keys_its_passphrase_and_a_mandate_of_the_oracles_and_keeps_them(started):
    deployment, _, found, _ = started
    for folder in own(deployment):
        assert {path.name for path in files_of(folder)} >= PRIVATE
        mandate = json.loads((folder / "mandate.json").read_text())
        oracles = [folder.public_key().hex() for folder in machine_oracles.folders_of(deployment)]
        said = json.dumps(mandate)
        assert all(key in said for key in oracles)
        assert f'"threshold": {load_preset(deployment.preset).oracle_threshold}' in said
        assert '"networks": ["regtest"]' in said
    (first, before), (again, after) = found
    assert (first, before) == (again, after)


def test_a_folder_of_an_earlier_release_keeps_its_keys_and_its_passphrase_moves_to_them(started):
    deployment, _, found, keys = started
    _, address = found[0][0]
    buyer = deployment.parties_dir / "buyer"
    assert not (buyer / "passphrase").exists()
    assert (buyer / "party" / "passphrase").read_text().strip() == WORDS
    opened = open_keystore(buyer / "party" / "keystore.json", WORDS)
    assert encode_address(opened.wallet_key(0).script) == address == encode_address(keys.wallet_key(0).script)


def test_the_supervisor_opens_nothing_of_a_party_s_but_its_mailbox(started):
    deployment, touched, _, _ = started
    assert inside(touched, *own(deployment)) == set()
    assert inside(touched, deployment.parties_dir)


def test_no_secret_of_one_role_lies_with_another(started):
    deployment, _, _, _ = started
    held = {folder.parent.name: files_of(folder) for folder in own(deployment)}
    held["service"] = {deployment.wallet_seed_file}
    held["nodes"] = files_of(deployment.nodes_dir)
    held |= {one.path.name: {one.path / "oracle.key"} for one in machine_oracles.folders_of(deployment)}
    bodies = [path.read_bytes().strip() for files in held.values() for path in files if path.stat().st_size >= 16]
    assert len(bodies) == len(set(bodies))
    shared = [path for path in files_of(deployment.data_dir) if path not in set().union(*held.values())]
    words = [(folder / "passphrase").read_bytes().strip() for folder in own(deployment)]
    for path in shared:
        assert not any(word in path.read_bytes() for word in words), path
    assert all(path.stat().st_nlink == 1 for files in held.values() for path in files)


def test_a_party_s_files_are_its_own_users_alone(started):
    deployment, _, _, _ = started
    for folder in own(deployment):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in files_of(folder)} == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a process as another user")
def test_a_process_of_another_user_reads_no_passphrase_and_no_key_though_every_folder_above_is_open(started):
    deployment, _, _, _ = started
    shown = [folder.parent / "address" for folder in own(deployment)]
    opened = [deployment.data_dir.parent, deployment.data_dir, deployment.parties_dir, *(one.parent for one in shown)]
    before = {path: path.stat().st_mode for path in (*opened, *shown)}
    try:
        for path in before:
            path.chmod(0o755)
        assert all(read_as_nobody(path) == 0 for path in shown)  # so much can be reached
        assert [path.name for path in private(deployment) if read_as_nobody(path) == 0] == []
        for folder in own(deployment):
            folder.chmod(0o755)  # and were their folder open, too, the files are not
            before[folder] = 0o700
        assert [path.name for path in private(deployment) if read_as_nobody(path) == 0] == []
    finally:
        for path, mode in before.items():
            path.chmod(mode)


def read_as_nobody(path):
    command = ["/bin/cat", str(path)]
    done = subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, check=False)
    assert done.returncode == 0 or b"Permission denied" in done.stderr, done.stderr
    return done.returncode
