"""A contract between two parties with the real guest, kept in a store from its messages to its payout and proof."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from btcfi.adapters.store.chain.tables import BlockRow, TransactionRow
from btcfi.adapters.store.options.contract_tables import AttestationRow, ContractRow, OracleEventRow
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.spine.blobs import store_blob
from btcfi.adapters.store.spine.database import Session, Store
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.transaction import Transaction
from btcfi.contracts.messages import (
    encode_accept,
    encode_announcement,
    encode_attestation,
    encode_offer,
    encode_sign,
)
from btcfi.contracts.payouts import decode_terms, guest_payouts, price_input
from btcfi.contracts.settle import complete_cet
from btcfi.oracle.announcement import OracleEvent
from btcfi.oracle.attestation import Attestation
from btcfi.proofs.settlement_proof import build_proof, to_json
from btcfi.units import CentsPerBtc, Hash32, Slot, display_txid
from btcfi.vm.interpreter import run
from btcfi.vm.program import load_program
from tests.support.contracts import COARSE, Scene, option_terms

NOW = 1_790_000_000
TIP = 300


@dataclass(frozen=True)
class Dealt:
    """A contract and all that was said of it."""

    scene: Scene
    said: dict[str, dict[str, Any]]
    funding: Transaction
    cet: Transaction
    attested: list[Attestation]
    proof: bytes

    @property
    def txid(self) -> str:
        return display_txid(self.funding.txid)

    def files(self) -> list[dict[str, Any]]:
        """The messages with what the oracles announced and attested, as somebody would bring them."""
        announced = [encode_announcement(one) for one in self.scene.announcements]
        return [*self.said.values(), *announced, *(encode_attestation(one) for one in self.attested)]


@cache
def dealt(price: int = 12_000_000) -> Dealt:
    """Return a covered call that was settled at a price, cents; the same one again where it was made before."""
    program = load_program("option_settlement")
    event = OracleEvent(
        feed="BTC-USD", expiry=Slot(60 * 29_000_000), program_hash=program.program_hash,
        preset_hash=Hash32(b"\x02" * 32), digits=18, condition="",
    )  # fmt: skip
    scene = Scene(
        event=event, tolerance=COARSE, oracles=3, threshold=2, payouts=guest_payouts(option_terms(event), program)
    )
    agreement, accept, sign, funding = scene.run()
    attested = scene.attestations(price)
    signed = scene.presignatures(accept, sign)
    cet = complete_cet(agreement.plan, **signed, attestations=attested).transaction
    given = price_input(decode_terms(scene.terms.option), CentsPerBtc(price))
    proof = to_json(build_proof(run(program, given.to_bytes(), max_steps=1 << 22))).encode()
    said = {"offer": encode_offer(scene.offer()), "accept": encode_accept(accept), "sign": encode_sign(sign)}
    return Dealt(scene=scene, said=said, funding=funding, cet=cet, attested=attested, proof=proof)


def keep(store: Store, deal: Dealt, option_id: str = "deal", **changes: Any) -> None:
    """Store everything of a contract that was settled; ``changes``: columns of the option that say otherwise."""
    terms = decode_terms(deal.scene.terms.option)
    event = deal.scene.event
    with store.transaction() as session:
        columns = {
            "id": option_id, "feed": event.feed, "state": "EXERCISED", "kind": int(terms.kind),
            "strike_cents": terms.strike, "quantity_centi_btc": terms.quantity, "expiry_unix": terms.expiry,
            "premium_cents": terms.premium, "premium_sats": deal.scene.terms.premium,
            "collateral_sats": terms.collateral, "volatility_bps": 6_000, "rate_bps": 300, "preset": "test",
            "preset_sha256": "00" * 32, "program": "option_settlement", "program_sha256": event.program_hash.hex(),
            "created_at_unix": NOW, "updated_at_unix": NOW, "listed_slot": NOW // 60 * 60, "funding_txid": deal.txid,
            "address": encode_address(deal.funding.outputs[0].script),
        }  # fmt: skip
        session.add(OptionRow(**columns | changes))
        blobs = {
            kind: store_blob(session, json.dumps(said).encode(), now=NOW).hex() for kind, said in deal.said.items()
        }
        session.add(
            OracleEventRow(
                id=event.id.hex(), feed=event.feed, expiry_unix=event.expiry, since_slot=0, created_at_unix=NOW,
                announcements=json.dumps([encode_announcement(one) for one in deal.scene.announcements]),
            )
        )  # fmt: skip
        session.add(
            ContractRow(
                option_id=option_id, state="funded", event_id=event.id.hex(), expiry_height=200, refund_height=350,
                order="{}", offer_sha256=blobs.get("offer"),
                accept_sha256=blobs.get("accept"), sign_sha256=blobs.get("sign"),
                created_at_unix=NOW, updated_at_unix=NOW,
            )
        )  # fmt: skip
        for one in deal.attested:
            session.add(
                AttestationRow(
                    oracle_key=one.oracle_key.hex(), event_id=event.id.hex(), outcome=one.outcome,
                    body=json.dumps(encode_attestation(one)), claimed_at_unix=NOW,
                )
            )  # fmt: skip
        session.flush()
        session.add(
            SettlementRow(
                id=f"st-{option_id}", option_id=option_id, state="confirmed", reason="expiry", slot=event.expiry,
                price_cents=1, input_hex="", proof_sha256=store_blob(session, deal.proof, now=NOW).hex(),
                txid=display_txid(deal.cet.txid), created_at_unix=NOW, updated_at_unix=NOW,
            )
        )  # fmt: skip
        _transaction(session, deal.funding, "funding", option_id, 150)
        _transaction(session, deal.cet, "settlement", option_id, 201)
        session.add(BlockRow(height=TIP, hash="ab" * 32))


def _transaction(session: Session, made: Transaction, purpose: str, option_id: str, height: int) -> None:
    session.add(
        TransactionRow(
            txid=display_txid(made.txid), purpose=purpose, subject=option_id, state="final",
            raw_hex=made.to_bytes().hex(), spends=str(made.inputs[0].outpoint), fee_sats=0, height=height,
            created_at_unix=NOW, updated_at_unix=NOW,
        )
    )  # fmt: skip
