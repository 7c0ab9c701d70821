"""Checks of contracts: the guest is run at thousands of prices, so they are made beside the settlements."""

from __future__ import annotations

from celery import shared_task

from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.options import event_of, terms_of
from btcfi.contracts.payouts import guest_payouts
from btcfi.contracts.setup import Agreement, SetupPolicy, check_setup
from btcfi.errors import BtcfiError, NotHeldError
from tasks.context import Context, context, note_contract_error, note_unheld_contract, shared_points
from tasks.held import program_of


@shared_task(name="contracts.check")
def check(option_id: str) -> None:
    """Compute a contract ourselves and check every signature of both parties, before the buyer gets the last ones."""
    here = context()
    with here.store.reading() as session:
        setup = contracts.setup_of(session, option_id)
    if setup is not None:
        try:
            agreement = _checked(setup)
            with here.work() as session:
                contracts.mark_checked(
                    session, option_id, agreement, now=here.now(), network=here.deployment.network
                )  # fmt: skip
        except BtcfiError as e:
            _note(here, option_id, e)


def _note(here: Context, option_id: str, error: BtcfiError) -> None:
    if isinstance(error, NotHeldError):  # no party can mend that: the contract stays as it is
        note_unheld_contract(here, option_id, str(error))
    else:
        note_contract_error(here, option_id, str(error))


def _checked(setup: contracts.Setup) -> Agreement:
    program = program_of(setup.option.program_sha256)
    return check_setup(
        setup.offer, setup.accepted, setup.signed, guest_payouts(terms_of(setup.option), program),
        event=event_of(setup.option), policy=SetupPolicy(), points=shared_points(setup.offer.terms.announcements),
    )  # fmt: skip
