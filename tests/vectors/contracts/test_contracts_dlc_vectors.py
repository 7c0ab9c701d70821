"""The DLC specification's vectors that can be restated: oracle signatures and points, one numeric contract.

Its contract is ECDSA and P2WSH; what we share with it is the oracle, the digit points and the digit compression.
"""

import json

import pytest

from btcfi import secp256k1
from btcfi.contracts.buckets import Rounding, StepRule, payout_buckets
from btcfi.hashes import sha256, tagged_hash
from btcfi.oracle.announcement import anticipation_point, digit_digest
from btcfi.oracle.attestation import sign_with_nonce
from btcfi.oracle.dlc_messages import DigitHash
from btcfi.units import Sats
from tests.support.contracts import event
from tests.support.paths import SHARED

DLC = SHARED / "dlc"
pytestmark = pytest.mark.skipif(not DLC.is_dir(), reason=f"needs the DLC vectors in {DLC}")


def test_oracle_signatures_and_their_anticipation_points_are_the_specifications():
    rows = json.loads((DLC / "dlc_schnorr_test.json").read_text())
    assert len(rows) == 5
    for row in rows:
        secret, nonce, message = (bytes.fromhex(row["inputs"][name]) for name in ("privKey", "privNonce", "msgHash"))
        key, public_nonce = bytes.fromhex(row["pubKey"]), bytes.fromhex(row["pubNonce"])
        assert secp256k1.public_key_xonly(secret) == key
        signature = sign_with_nonce(secret, nonce, message)
        assert signature.hex() == row["signature"]
        point = secp256k1.serialize_point(anticipation_point(key, public_nonce, message))
        assert point.hex() == row["sigPoint"]
        assert secp256k1.public_key_compressed(signature[32:]) == point


def _numeric():
    return json.loads((DLC / "single_oracle_numerical_test.json").read_text())


def test_the_numeric_contracts_digit_compression_has_the_specifications_count():
    message = _numeric()["offer_message"]["message"]
    info = message["contractInfo"]["singleContractInfo"]["contractInfo"]
    descriptor = info["contractDescriptor"]["numericOutcomeContractDescriptor"]
    pieces = descriptor["payoutFunction"]["payoutFunctionPieces"]
    turns = [(p["endPoint"]["eventOutcome"], p["endPoint"]["outcomePayout"]) for p in pieces]
    middle = pieces[0]["payoutCurvePiece"]["polynomialPayoutCurvePiece"]["payoutPoints"]
    points = [turns[0], *[(p["eventOutcome"], p["outcomePayout"]) for p in middle], turns[1]]
    collateral = message["contractInfo"]["singleContractInfo"]["totalCollateral"]

    def payouts(prices):
        # a parabola through three points up to 5, the whole collateral from there on
        (x0, y0), (x1, y1), (x2, y2) = points
        results = []
        for price in prices:
            x = price // 100
            if x >= x2:
                results.append(Sats(collateral))
                continue
            exact = (
                y0 * (x - x1) * (x - x2) / ((x0 - x1) * (x0 - x2))
                + y1 * (x - x0) * (x - x2) / ((x1 - x0) * (x1 - x2))
                + y2 * (x - x0) * (x - x1) / ((x2 - x0) * (x2 - x1))
            )
            results.append(Sats(round(exact)))
        return results

    buckets = payout_buckets(
        event(descriptor["numDigits"]),
        payouts,
        collateral=Sats(collateral),
        premium=Sats(0),
        rule=StepRule(step=Sats(1), rounding=Rounding.DOWN),
    )
    given = _numeric()["accept_message"]["message"]["cetAdaptorSignatures"]["ecdsaAdaptorSignatures"]
    assert len(buckets) == len(given) == 14


def test_its_announcement_is_signed_over_the_plain_hash_as_the_switch_says():
    oracle = _numeric()["offer_message"]["message"]["contractInfo"]["singleContractInfo"]["contractInfo"]["oracleInfo"]
    announcement = oracle["single"]["oracleAnnouncement"]
    key, signature = (
        bytes.fromhex(announcement["oraclePublicKey"]),
        bytes.fromhex(announcement["announcementSignature"]),
    )
    inner = announcement["oracleEvent"]
    nonces = b"".join(bytes.fromhex(nonce) for nonce in inner["oracleNonces"])
    body = len(inner["oracleNonces"]).to_bytes(2) + nonces + inner["eventMaturityEpoch"].to_bytes(4)
    name = inner["eventId"].encode().hex()
    # the event's bytes stand in the serialised offer, from its nonces to its name
    serialized = _numeric()["offer_message"]["serialized"]
    start = serialized.index(body.hex())
    signed = bytes.fromhex(serialized[start : serialized.index(name, start) + len(name)])
    assert secp256k1.schnorr_verify(key, sha256(signed), signature)
    assert not secp256k1.schnorr_verify(key, tagged_hash("DLC/oracle/announcement/v0", signed), signature)


def test_a_digit_is_hashed_under_the_tag_or_plain():
    assert digit_digest(1, DigitHash.PLAIN) == sha256(b"1")
    assert digit_digest(1, DigitHash.TAGGED) != sha256(b"1")
    assert digit_digest(0) != digit_digest(1)
