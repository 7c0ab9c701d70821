"""Taking back a sale that nothing is funded of: no signature of one party has reached the other by us."""

from __future__ import annotations

from sqlmodel import Session

from btcfi.adapters.store.options.contract_tables import CANCELLABLE_CONTRACTS, ContractRow, ContractState
from btcfi.adapters.store.options.options import locked_option
from btcfi.adapters.store.options.tables import UNFUNDED_OPTIONS, OptionRow, OptionState
from btcfi.adapters.store.spine.edges import cross
from btcfi.errors import ConflictError
from btcfi.units import UnixSeconds


class NotCancellableError(ConflictError):
    """A sale that has come too far to be taken back."""

    def __init__(self, option_id: str, problem: str) -> None:
        super().__init__(f"option {option_id} cannot be cancelled: {problem}")
        self.option_id, self.problem = option_id, problem


def cancel_sale(
    session: Session, option_id: str, *, by: str, now: UnixSeconds, dead: bool = False
) -> OptionRow:  # fmt: skip
    """Cancel an unfunded sale and its contract, and return the option; again changes nothing.

    by: who wants it, for the event log. dead: that the caller has seen on the chain that its funding can confirm no
    more, for good; then what both have signed is worth nothing either. Raises NotFoundError, NotCancellableError.
    """
    option = locked_option(session, option_id)  # nobody orders its contract meanwhile
    if option.state == OptionState.CANCELLED:
        return option
    if option.state not in UNFUNDED_OPTIONS:
        raise NotCancellableError(option_id, f"it is {option.state}, and only what is not funded can be taken back")
    contract = session.get(ContractRow, option_id, with_for_update=True, populate_existing=True)
    if contract is not None and contract.state != ContractState.CANCELLED:
        if contract.state not in CANCELLABLE_CONTRACTS and not dead:
            funded = contract.state == ContractState.FUNDED
            what = "is funded" if funded else "is signed by both, and the buyer may fund it"
            raise NotCancellableError(option_id, f"its contract {what}; a party takes its coins home by itself")
        cross(session, contract, ContractState.CANCELLED, now=now, detail=f"by {by}")
    cross(session, option, OptionState.CANCELLED, now=now, detail=f"by {by}")
    return option
