"""Checks of contracts: the guest is run at thousands of prices, so they are made beside the settlements."""

from __future__ import annotations

from celery import shared_task

from btcfi.adapters.store.market import failing, takes
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.options import event_of, terms_of
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.contracts.messages import Accept, Offer
from btcfi.contracts.payouts import guest_payouts
from btcfi.contracts.setup import Agreement, SetupPolicy, check_accepted, check_signed
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
        _check(here, setup)


@shared_task(name="contracts.check_accept")
def check_accept(option_id: str) -> None:
    """Check an answer that its seller refuses to sign: who is to blame follows from that."""
    here = context()
    with here.store.reading() as session:
        found = contracts.accepted_of(session, option_id)
    if found is not None:
        _judge(here, *found)


def _check(here: Context, setup: contracts.Setup) -> None:
    option_id, author = setup.option.id, setup.offer.role.other  # whose message is at hand
    try:
        agreement = _agreed(setup.option, setup.offer, setup.accepted)
        author = setup.offer.role
        check_signed(agreement, setup.signed, sealed=setup.sealed)
        with here.work() as session:
            contracts.mark_checked(session, option_id, agreement, now=here.now(), network=here.deployment.network)
            if takes.take_of_option(session, option_id) is not None:
                takes.mark_checked(session, option_id, now=here.now())
    except NotHeldError as e:  # no party can mend that: the contract stays as it is
        note_unheld_contract(here, option_id, str(e))
    except BtcfiError as e:
        with here.work() as session:
            failed = failing.fail_by(session, option_id, author, str(e), now=here.now())
        if not failed:
            note_contract_error(here, option_id, str(e))


def _judge(here: Context, option: OptionRow, offer: Offer, accepted: Accept) -> None:
    liar, said = offer.role, "refuses an answer that is sound"
    try:
        _agreed(option, offer, accepted)
    except NotHeldError as e:
        note_unheld_contract(here, option.id, str(e))
        return
    except BtcfiError as e:
        liar, said = offer.role.other, str(e)
    with here.work() as session:
        failing.fail_by(session, option.id, liar, said, now=here.now())


def _agreed(option: OptionRow, offer: Offer, accepted: Accept) -> Agreement:
    payouts = guest_payouts(terms_of(option), program_of(option.program_sha256))
    points = shared_points(offer.terms.announcements)
    return check_accepted(offer, accepted, payouts, event=event_of(option), policy=SetupPolicy(), points=points)
