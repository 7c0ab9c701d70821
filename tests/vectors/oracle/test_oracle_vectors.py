from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from btcfi.oracle.commitment import commitment_of
from btcfi.oracle.quote import decode_observation
from btcfi.oracle.report import evidence_root
from btcfi.oracle.submission import Submission, sign_submission, signature_valid, signed_bytes, submission_hash
from btcfi.oracle.time_sync import TimeSyncProof
from btcfi.secp256k1 import public_key_xonly
from tests.support.oracle_support import secret_of

VECTORS = json.loads((Path(__file__).parent / "submission.json").read_text())["tests"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["comment"])
def test_the_signed_bytes_the_hash_and_the_signature_are_the_published_ones(vector) -> None:
    observation = decode_observation(vector["observation"])
    proof = TimeSyncProof(**vector["time_proof"]) if vector["time_proof"] else None
    said = Submission(
        feed=vector["feed"], node_id=vector["node_id"], observation=observation, sent_at_ms=vector["sent_at_ms"],
        time_proof=proof,
    )  # fmt: skip
    assert signed_bytes(said).hex() == vector["signed_bytes"]
    tag = hashlib.sha256(b"BTCFi/oracle/submission").digest()
    assert submission_hash(said) == hashlib.sha256(tag + tag + bytes.fromhex(vector["signed_bytes"])).digest()
    secret = secret_of(vector["node_id"])
    made = sign_submission(said, secret, aux=bytes(32))
    assert signature_valid(made, public_key_xonly(secret))
    if "hash" in vector:
        assert submission_hash(said).hex() == vector["hash"]
        assert made.signature.hex() == vector["signature"]
        assert commitment_of(said.node_id, observation, bytes.fromhex(vector["nonce"])).hex() == vector["commitment"]
        assert evidence_root([observation]).hex() == vector["evidence_root"]
