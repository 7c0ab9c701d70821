"""An option whose contract another one's collateral funds: the same terms, another holder.

It is an option like any: its contract has an offer, an answer and signatures, and its plan settles it. The old one's
row stays, with its contract, as long as a reorganisation may bring it back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from sqlmodel import Session

from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options.contract_tables import ContractRow, ContractState
from btcfi.adapters.store.options.contracts import Setup, keep_message, note_plan, pack
from btcfi.adapters.store.options.on_chain import give_up_settlements
from btcfi.adapters.store.options.settled import find_settlement
from btcfi.adapters.store.options.tables import UNSENT_SETTLEMENTS, OptionRow, OptionState, SettlementState
from btcfi.adapters.store.spine.blobs import store_blob
from btcfi.adapters.store.spine.edges import cross, record
from btcfi.contracts.messages import Accept, Order, Role, Sign, encode_accept, encode_offer, encode_order, encode_sign
from btcfi.contracts.reopen import Reopened
from btcfi.units import UnixSeconds

KEPT: Final = (
    "feed", "kind", "strike_cents", "quantity_centi_btc", "barrier_cents", "american", "expiry_unix", "premium_cents",
    "premium_sats", "collateral_sats", "volatility_bps", "rate_bps", "preset", "preset_sha256", "program",
    "program_sha256", "listed_slot", "fixing", "writer",
)  # fmt: skip
"""What a transfer keeps of an option: every term, what settles it, and who wrote it. Its premium is what the writer was
paid; what a newcomer paid is the transfer's price."""


def store_reopened(
    session: Session, old: OptionRow, option_id: str, reopened: Reopened, presigned: Mapping[Role, bytes], *,
    holder: str, now: UnixSeconds, market: UnixSeconds, network: str,
) -> OptionRow:  # fmt: skip
    """Store what a contract is reopened into as an option of its own, whose funding is not in a block yet.

    presigned: both sides' signatures of the new contract's CETs, checked. market: the market's clock. Of one that is
    there nothing changes.
    """
    if (known := session.get(OptionRow, option_id)) is not None:
        return known
    agreement, said = reopened.agreement(), reopened.statement
    offer = said.offer
    accepted = Accept(offer_id=offer.id, party=said.buyer, presignatures=presigned[Role.BUYER])
    signed = Sign(contract_id=reopened.id, presignatures=presigned[Role.SELLER], witnesses={})
    option = OptionRow(
        id=option_id, **old.model_dump(include=set(KEPT)), holder=holder, created_at_unix=market, updated_at_unix=now
    )
    event_id = session.get_one(ContractRow, old.id).event_id
    note_plan(option, agreement, event_id=event_id, network=network)
    session.add(option)
    session.flush()
    record(session, "option", option_id, OptionState.CREATED, now=now, detail=f"from option {old.id}")
    packed = pack(agreement, Setup(option=option, offer=offer, accepted=accepted, signed=signed, sealed=False))
    session.add(
        ContractRow(
            option_id=option_id, state=ContractState.FUNDED.value, event_id=event_id,
            expiry_height=said.terms.expiry_height, refund_height=said.terms.refund_height,
            order=json.dumps(encode_order(Order(terms=said.terms, role=Role.SELLER))), offer_id=offer.id.hex(),
            offer_sha256=keep_message(session, encode_offer(offer), now),
            accept_sha256=keep_message(session, encode_accept(accepted), now),
            sign_sha256=keep_message(session, encode_sign(signed), now),
            plan_sha256=store_blob(session, packed, now=now).hex(), contract_id=reopened.id.hex(),
            created_at_unix=now, updated_at_unix=now,
        )
    )  # fmt: skip
    session.flush()
    record(session, "contract", option_id, ContractState.FUNDED, now=now, detail=f"from option {old.id}")
    return option


def end_reopened(session: Session, option: OptionRow, sent: TransactionRow, *, detail: str, now: UnixSeconds) -> None:
    """End an option whose collateral a final transaction has moved on; what was about to settle it is given up."""
    give_up_settlements(session, sent, now)
    if option.state == OptionState.ACTIVE:
        cross(session, option, OptionState.EXPIRED, now=now, detail=detail)
    if option.state != OptionState.EXPIRED:
        return
    cross(session, option, OptionState.ABANDONED, now=now, changes={"last_error": None}, detail=detail)
    settlement = find_settlement(session, option.id)
    if settlement is not None and settlement.state in UNSENT_SETTLEMENTS:  # it came due while the other one waited
        cross(session, settlement, SettlementState.PARKED, now=now, fence=settlement.fence, detail=detail,
              changes={"last_error": detail})  # fmt: skip


def bring_back(session: Session, option: OptionRow, *, detail: str, now: UnixSeconds) -> None:
    """Take back the end of an option whose collateral has not moved on after all: it is settled as ever.

    What had come due goes on where it was parked by that end.
    """
    if option.state != OptionState.ABANDONED:
        return
    cross(session, option, OptionState.EXPIRED, now=now, detail=detail)
    settlement = find_settlement(session, option.id)
    if settlement is None:
        cross(session, option, OptionState.ACTIVE, now=now, detail=detail)
    elif settlement.state == SettlementState.PARKED:
        cross(session, settlement, SettlementState.DUE, now=now, fence=settlement.fence, detail=detail,
              changes={"last_error": None})  # fmt: skip
