import json
import subprocess
import sys

import pytest

from btcfi.contracts import anchor
from btcfi.contracts.anchor import AnchorItem, AnchorKind
from btcfi.hashes import sha256
from tests.support.chain import Wallet, embedded_node
from tests.support.contracts import RATE, SELLER

pytestmark = pytest.mark.integration


def command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "btcfi.surfaces.anchor_cli", "verify", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_price_is_followed_to_a_header_that_the_node_knows_until_its_block_is_undone(tmp_path):
    with embedded_node(tmp_path / "chain") as (node, _):
        wallet = Wallet(node)
        wallet.fund()
        items = [AnchorItem(kind=AnchorKind.PRICE, digest=sha256(bytes([n]))) for n in range(7)]
        (coin,) = wallet.coins_for(SELLER.script, [100_000])
        made = anchor.build_anchor(anchor.anchor_root(items), coin, change_script=SELLER.script, rate=RATE)
        node.send(made.transaction.with_witness(0, [SELLER.sign_input(made.transaction, 0, [made.spent])]))
        (mined,) = wallet.mine()
        wallet.mine(5)
        block = node.block(mined)
        txids = [transaction.txid for transaction in block.transactions]
        proof = anchor.prove_anchor(items, 3, transaction=made.transaction, block_txids=txids, header=block.header.raw)
        path = tmp_path / "proof.json"
        path.write_text(json.dumps(anchor.encode_anchor_proof(proof)))
        asked = ["--node", node.where, "--cookie-file", tmp_path / "chain" / ".cookie"]
        code, out, _ = command(path, "--digest", sha256(bytes([3])).hex(), *asked)
        assert code == 0
        said = json.loads(out)
        assert (said["confirmations"], said["final"], said["kind"]) == (6, True, "price")
        assert command(path)[0] == 0  # without a node the header is all that is said
        code, out, error = command(path, "--digest", sha256(bytes([4])).hex(), *asked)
        assert (code, out, error.count("\n")) == (76, "", 1)
        node.invalidate(mined)
        code, out, error = command(path, *asked)
        assert (code, out, error.count("\n")) == (76, "", 1)
        broken = json.loads(path.read_text())
        broken["digest"] = "00" * 32
        path.write_text(json.dumps(broken))
        assert command(path)[0] == 76
        path.write_text("{")
        assert command(path)[0] == 2
