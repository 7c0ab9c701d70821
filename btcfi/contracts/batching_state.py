"""A batch on its way as JSON, so that a coordinator may be any of several processes: nothing of it is secret.

The rounds between are values (``contracts.batching``); here one is written down and read again, equal to what it was.
What is read was written by its own coordinator: it is no message, and no party's word is believed by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import parse_outpoint, parse_transaction
from btcfi.contracts.batch import Ending, Side, build_batch
from btcfi.contracts.batching import Apart, Batching, Fault, Rules, Stage, Why
from btcfi.contracts.execution import Split
from btcfi.contracts.option import OptionContract
from btcfi.units import Hash32, Height, Sats, UnixSeconds

_ASKED = (Stage.NONCES, Stage.PARTIALS, Stage.SIGNED)


def encode_state(state: Batching) -> dict[str, Any]:
    """Return a batch on its way as JSON."""
    return {
        "rules": asdict(state.rules), "rate": state.rate, "until": state.until, "stage": state.stage.value,
        "number": state.number, "broken": state.broken, "deadline": state.deadline, "by_two": state.by_two,
        "scripts": {owner: script.hex() for owner, script in state.scripts.items()},
        "endings": [_encode_ending(one) for one in state.endings],
        "answers": _encode_said(state.answers), "nonces": _encode_said(state.nonces),
        "failing": [_encode_fault(one) for one in state.failing.values()],
        "faults": [_encode_fault(one) for one in state.faults],
        "apart": [{"ending": _encode_ending(one.ending), "why": one.why.value} for one in state.apart],
        "signed": None if state.signed is None else state.signed.to_bytes().hex(),
    }  # fmt: skip


def decode_state(row: Mapping[str, Any]) -> Batching:
    """Return what ``encode_state`` wrote."""
    endings = tuple(_ending(one) for one in row["endings"])
    scripts = {owner: bytes.fromhex(script) for owner, script in row["scripts"].items()}
    stage, rate = Stage(row["stage"]), SatsPerKvb(row["rate"])
    failing = [_fault(one) for one in row["failing"]]
    return Batching(
        rules=Rules(**row["rules"]), rate=rate, scripts=scripts, until=UnixSeconds(row["until"]), stage=stage,
        endings=endings, batch=build_batch(endings, scripts, rate=rate) if stage in _ASKED else None,
        number=row["number"], broken=row["broken"], deadline=UnixSeconds(row["deadline"]),
        answers=_said(row["answers"]), nonces=_said(row["nonces"]),
        failing={one.owner: one for one in failing}, faults=tuple(_fault(one) for one in row["faults"]),
        apart=tuple(Apart(ending=_ending(one["ending"]), why=Why(one["why"])) for one in row["apart"]),
        signed=None if row["signed"] is None else parse_transaction(bytes.fromhex(row["signed"])),
        by_two=row["by_two"],
    )  # fmt: skip


def _encode_said(said: Mapping[str, Mapping[int, bytes]]) -> dict[str, dict[str, str]]:
    return {owner: {str(index): one.hex() for index, one in some.items()} for owner, some in said.items()}


def _said(row: Mapping[str, Mapping[str, str]]) -> dict[str, dict[int, bytes]]:
    return {owner: {int(index): bytes.fromhex(one) for index, one in some.items()} for owner, some in row.items()}


def _encode_fault(fault: Fault) -> dict[str, Any]:
    return {"owner": fault.owner, "why": fault.why.value, "number": fault.number, "detail": fault.detail}


def _fault(row: Mapping[str, Any]) -> Fault:
    return Fault(owner=row["owner"], why=Why(row["why"]), number=row["number"], detail=row["detail"])


def _encode_ending(one: Ending) -> dict[str, Any]:
    contract = one.contract
    return {
        "buyer_key": contract.buyer_key.hex(), "seller_key": contract.seller_key.hex(),
        "buyer_script": contract.buyer_script.hex(), "seller_script": contract.seller_script.hex(),
        "collateral": contract.collateral, "expiry_height": contract.expiry_height,
        "refund_height": contract.refund_height, "internal_key": contract.internal_key.hex(),
        "tree": contract.tree, "min_refund_delay": contract.min_refund_delay, "nearest_dust": contract.nearest_dust,
        "release_hash": None if contract.release_hash is None else contract.release_hash.hex(),
        "funding": str(one.funding), "cet": [one.cet.buyer, one.cet.seller], "proof_root": one.proof_root.hex(),
        "buyer": [one.buyer.owner, one.buyer.key.hex()], "seller": [one.seller.owner, one.seller.key.hex()],
    }  # fmt: skip


def _ending(row: Mapping[str, Any]) -> Ending:
    released = row["release_hash"]
    contract = OptionContract(
        buyer_key=bytes.fromhex(row["buyer_key"]), seller_key=bytes.fromhex(row["seller_key"]),
        buyer_script=bytes.fromhex(row["buyer_script"]), seller_script=bytes.fromhex(row["seller_script"]),
        collateral=Sats(row["collateral"]), expiry_height=Height(row["expiry_height"]),
        refund_height=Height(row["refund_height"]), internal_key=bytes.fromhex(row["internal_key"]),
        tree=row["tree"], min_refund_delay=row["min_refund_delay"], nearest_dust=row["nearest_dust"],
        release_hash=None if released is None else Hash32(bytes.fromhex(released)),
    )  # fmt: skip
    sides = [Side(owner=owner, key=bytes.fromhex(key)) for owner, key in (row["buyer"], row["seller"])]
    return Ending(
        contract=contract, funding=parse_outpoint(row["funding"]), buyer=sides[0], seller=sides[1],
        cet=Split(buyer=Sats(row["cet"][0]), seller=Sats(row["cet"][1])),
        proof_root=Hash32(bytes.fromhex(row["proof_root"])),
    )  # fmt: skip
