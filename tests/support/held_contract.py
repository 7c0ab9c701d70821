"""A contract of an option that a take made, with the real guest, messages and signatures; and its close by both sides.

What its two owners' processes do is done here with the keys of the scene; what the service does, by its own functions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import count

from btcfi.adapters.store.chain.tables import BlockRow, TransactionRow
from btcfi.adapters.store.market import closes
from btcfi.adapters.store.market.closes import CLOSES_ON_CHAIN, Moment
from btcfi.adapters.store.market.tables import CloseRow
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.contract_tables import AttestationRow, ContractRow, OracleEventRow
from btcfi.adapters.store.options.options import terms_of
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.spine.blobs import store_blob
from btcfi.adapters.store.spine.database import Store
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import Transaction
from btcfi.contracts.cooperative import Closing, build_close
from btcfi.contracts.messages import (
    Role,
    encode_accept,
    encode_announcement,
    encode_attestation,
    encode_offer,
    encode_sign,
)
from btcfi.contracts.paid import paid_by
from btcfi.contracts.payouts import breakpoints_of, decode_terms, encode_terms, guest_payouts, price_input
from btcfi.contracts.settle import complete_cet
from btcfi.contracts.setup import Agreement
from btcfi.market.closing import CloseLast, CloseOffer, CloseTake
from btcfi.oracle.announcement import OracleEvent
from btcfi.proofs.settlement_proof import build_proof, to_json
from btcfi.units import CentsPerBtc, Hash32, Height, Sats, UnixSeconds, display_txid
from btcfi.vm.interpreter import run
from btcfi.vm.program import load_program
from tests.support.contracts import BUYER, BUYER_SECRET, COARSE, SELLER, SELLER_SECRET, Scene, coin

EXPIRY_HEIGHT = 400
FUNDED_AT = 150
TIP = 156
RATE = SatsPerKvb(2_000)
_SECRETS = {Role.BUYER: BUYER_SECRET, Role.SELLER: SELLER_SECRET}
_coins = count(10)
"""Every contract spends coins of its own."""


@dataclass
class HeldContract:
    """An option's contract, funded."""

    store: Store
    option_id: str
    scene: Scene
    agreement: Agreement
    funding: Transaction
    presignatures: dict
    nonces: count = field(default_factory=lambda: count(1))

    def offer_close(self, payout: int, by: Role, *, now: int, seconds: int = 600) -> OfferedClose:
        """Have one side offer to close it so, as the desk takes its letter."""
        closing = Closing(
            build_close(self.agreement.plan.contract, self.agreement.plan.funding, payout=Sats(payout), rate=RATE),
            buyer_key=self.scene.buyer.key, seller_key=self.scene.seller.key,
        )  # fmt: skip
        secrets = {
            role: closing.nonce(secret, next(self.nonces).to_bytes(32, "big")) for role, secret in _SECRETS.items()
        }
        nonces = {role: one.public for role, one in secrets.items()}
        offer = CloseOffer(
            contract_id=self.agreement.id, payout=Sats(payout), rate=RATE, valid_until=UnixSeconds(now + seconds),
            nonce=nonces[by],
        )  # fmt: skip
        moment = Moment(
            now=UnixSeconds(now), market=UnixSeconds(now), tip=Height(TIP), last_blocks=12, least_rate=SatsPerKvb(1_000)
        )
        with self.store.transaction() as session:
            closes.offer_close(session, self.option_id, by, offer, at=moment)
        return OfferedClose(held=self, offer=offer, by=by, closing=closing, secrets=secrets, at=moment)

    def expire(self, price: int, *, now: int) -> str:
        """Have it settled by what two oracles sign of a price, with its proof; return the transaction's id."""
        attested = self.scene.attestations(price)
        cet = complete_cet(self.agreement.plan, **self.presignatures, attestations=attested).transaction
        contract = self.agreement.plan.contract
        paid = paid_by(
            cet, collateral=contract.collateral, buyer_script=contract.buyer_script,
            seller_script=contract.seller_script,
        )  # fmt: skip
        program, txid = load_program("option_settlement"), display_txid(cet.txid)
        given = price_input(decode_terms(self.scene.terms.option), CentsPerBtc(price))
        proof = to_json(build_proof(run(program, given.to_bytes(), max_steps=1 << 22))).encode()
        with self.store.transaction() as session:
            option = session.get_one(OptionRow, self.option_id)
            option.state = "EXERCISED" if paid.buyer else "ABANDONED"
            for one in attested:
                session.merge(
                    AttestationRow(
                        oracle_key=one.oracle_key.hex(), event_id=self.scene.event.id.hex(), outcome=one.outcome,
                        body=json.dumps(encode_attestation(one)), claimed_at_unix=now,
                    )
                )  # fmt: skip
            session.add(
                SettlementRow(
                    id=f"st-{self.option_id}", option_id=self.option_id, state="confirmed", reason="expiry",
                    slot=option.expiry_unix, price_cents=price, input_hex=given.to_bytes().hex(),
                    proof_sha256=store_blob(session, proof, now=UnixSeconds(now)).hex(), txid=txid,
                    paid_sats=paid.buyer, returned_sats=paid.seller, fee_sats=0, created_at_unix=now,
                    updated_at_unix=now,
                )
            )  # fmt: skip
            session.add(_final(cet, "settlement", self.option_id, EXPIRY_HEIGHT + 1, now))
        return txid


@dataclass
class OfferedClose:
    """An offer to close that stands."""

    held: HeldContract
    offer: CloseOffer
    by: Role
    closing: Closing
    secrets: dict
    at: Moment

    @property
    def id(self) -> str:
        return self.offer.id.hex()

    def agree(self) -> str:
        """Have the other side say yes and both sign, as the desk takes their letters; return the transaction's id."""
        public = [self.secrets[role].public for role in (Role.BUYER, Role.SELLER)]
        right = self.held.scene.authority(now=self.at.now)
        partials = {
            role: self.closing.sign(secret, self.secrets[role], public, authority=right)
            for role, secret in _SECRETS.items()
        }
        option, other = self.held.option_id, self.by.other
        take = CloseTake(offer_id=self.offer.id, nonce=self.secrets[other].public, partial=partials[other])
        with self.held.store.transaction() as session:
            closes.answer_close(session, option, other, take, at=self.at)
        last = CloseLast(offer_id=self.offer.id, partial=partials[self.by])
        with self.held.store.transaction() as session:
            return display_txid(closes.finish_close(session, option, self.by, last, at=self.at).txid)

    def confirm(self) -> None:
        """Have the chain hold it, six blocks deep, as the walk along the blocks tells the market."""
        with self.held.store.transaction() as session:
            row = session.get_one(TransactionRow, session.get_one(CloseRow, self.id).txid)
            row.state, row.height = "final", TIP + 1
            session.add(BlockRow(height=TIP + 6, hash="bc" * 32))
            session.flush()
            CLOSES_ON_CHAIN.final(session, [row], self.at.now)


def hold(store: Store, option_id: str, *, now: int) -> HeldContract:
    """Give an option that a take made its contract, signed by both and funded in a block."""
    program = load_program("option_settlement")
    with store.reading() as session:
        option = session.get_one(OptionRow, option_id)
        terms, premium, event_feed = terms_of(option), option.premium_sats, option.feed
    event = OracleEvent(
        feed=event_feed, expiry=terms.expiry, program_hash=program.program_hash, preset_hash=Hash32(b"\x02" * 32),
        digits=18, condition="", version=2, fixing=terms.window,
    )  # fmt: skip
    scene = Scene(
        event=event, tolerance=COARSE, oracles=3, threshold=2, payouts=guest_payouts(terms, program), premium=premium,
        option=encode_terms(terms), collateral=terms.collateral, breakpoints=breakpoints_of(terms),
        expiry_height=EXPIRY_HEIGHT, refund_height=EXPIRY_HEIGHT + 144,
        seller_coins=[coin(next(_coins), terms.collateral + 100_000, SELLER.script)],
        buyer_coins=[coin(next(_coins), premium + 10_000, BUYER.script)],
    )  # fmt: skip
    agreement, accept, sign, funding = scene.run(now=now)
    said = {"offer": encode_offer(scene.offer()), "accept": encode_accept(accept), "sign": encode_sign(sign)}
    with store.transaction() as session:
        blobs = {kind: store_blob(session, json.dumps(one).encode(), now=now).hex() for kind, one in said.items()}
        session.merge(
            OracleEventRow(
                id=event.id.hex(), feed=event.feed, expiry_unix=event.expiry, since_slot=0, created_at_unix=now,
                announcements=json.dumps([encode_announcement(one) for one in scene.announcements]),
            )
        )  # fmt: skip
        session.merge(
            ContractRow(
                option_id=option_id, state="signed", event_id=event.id.hex(), expiry_height=EXPIRY_HEIGHT,
                refund_height=EXPIRY_HEIGHT + 144, order="{}", offer_sha256=blobs["offer"],
                accept_sha256=blobs["accept"], sign_sha256=blobs["sign"], created_at_unix=now, updated_at_unix=now,
            )
        )  # fmt: skip
        session.flush()
        contracts.mark_checked(session, option_id, agreement, now=UnixSeconds(now), network="regtest")
        session.get_one(ContractRow, option_id).state = "funded"
        session.get_one(OptionRow, option_id).state = "ACTIVE"
        session.add(_final(funding, "funding", option_id, FUNDED_AT, now))
        if session.get(BlockRow, TIP) is None:
            session.add(BlockRow(height=TIP, hash="ab" * 32))
    return HeldContract(
        store=store, option_id=option_id, scene=scene, agreement=agreement, funding=funding,
        presignatures=scene.presignatures(accept, sign),
    )  # fmt: skip


def _final(made: Transaction, purpose: str, option_id: str, height: int, now: int) -> TransactionRow:
    return TransactionRow(
        txid=display_txid(made.txid), purpose=purpose, subject=option_id, state="final", raw_hex=made.to_bytes().hex(),
        spends=str(made.inputs[0].outpoint), fee_sats=0, height=height, created_at_unix=now, updated_at_unix=now,
    )  # fmt: skip
