"""What the two parties would refuse of an option, known before it is sold: nobody is sold what cannot be funded.

Each side checks by itself when it is asked to sign; here is the same, without keys and announcements. A mandate's
bounds are its owner's, and the service does not know them: what they refuse fails after the sale, with its reason.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from btcfi.bitcoin.fees import DUST_P2TR
from btcfi.contracts.buckets import (
    NOTHING,
    PayoutRule,
    SingleOutcomeError,
    StepRule,
    TooManyBucketsError,
    check_outcomes,
    payout_buckets,
)
from btcfi.contracts.execution import ANCHOR
from btcfi.contracts.messages import CET_FEE
from btcfi.contracts.payouts import breakpoints_of, condition_of, guest_payouts
from btcfi.contracts.setup import SetupPolicy
from btcfi.options.terms import InvalidTermsError, OptionTerms
from btcfi.oracle.announcement import CENTS_PER_DOLLAR, OracleEvent
from btcfi.units import Cents, Hash32, Sats, Slot

if TYPE_CHECKING:
    from btcfi.vm.program import Program

_KNOWN = 256
"""Terms that a quote which is asked for again and again need not be partitioned for again."""


def unsellable(
    terms: OptionTerms, *, program: Program, rule: PayoutRule, last: Slot | None = None
) -> InvalidTermsError | None:  # fmt: skip
    """Return why the parties would refuse ``terms``, naming the field; None when they can be signed.

    terms: with any premium. last: the last minute that will ever be priced, of a recording that ends; None: there is
    no such minute.
    """
    if last is not None and terms.expiry > last:
        return InvalidTermsError(
            "expiry",
            f"{terms.expiry}, after the recording's last minute",
            f"a minute up to {last}: none comes after it",
        )
    least = max(ANCHOR.value + CET_FEE + 1, 2 * DUST_P2TR)
    if terms.collateral < least:
        return InvalidTermsError("quantity", f"a collateral of {terms.collateral} sats", f"at least {least} sats")
    event = _event(terms)
    highest = event.max_price * CENTS_PER_DOLLAR
    for field, level in (("strike", terms.strike), ("barrier", terms.barrier or 0)):
        if level >= highest:
            return InvalidTermsError(
                field, f"{level} cents", f"below {highest} cents, the highest price that is attested"
            )
    return _partition(replace(terms, premium=Cents(0)), program, rule)


@lru_cache(maxsize=_KNOWN)
def _partition(terms: OptionTerms, program: Program, rule: PayoutRule) -> InvalidTermsError | None:
    event, payouts, breakpoints = _event(terms), guest_payouts(terms, program), breakpoints_of(terms)
    try:
        if isinstance(rule, StepRule):
            rule = replace(rule, step=Sats(min(rule.step, terms.collateral)))
            payout_buckets(
                event, payouts, rule=rule, premium=NOTHING, collateral=terms.collateral, breakpoints=breakpoints,
                limit=SetupPolicy().max_buckets,
            )  # fmt: skip
        else:  # its ranges are some hundreds, whatever the premium: docs/decisions/0054
            check_outcomes(event, payouts, breakpoints)
    except TooManyBucketsError as e:
        return InvalidTermsError("quantity", f"{terms.quantity}/100 BTC: {e}", "a smaller one")
    except SingleOutcomeError as e:
        return InvalidTermsError("strike", f"{terms.strike} cents: {e.payout} sats at every price", "one that decides")
    return None


def _event(terms: OptionTerms) -> OracleEvent:
    """Return the event of an option as far as a partition looks at it: its digits and whether it has a condition."""
    nothing = Hash32(bytes(32))
    return OracleEvent(
        feed="BTC/USD", expiry=terms.expiry, program_hash=nothing, preset_hash=nothing,
        condition=condition_of(terms, Slot(0)), version=1 if terms.fixing is None else 2, fixing=terms.window,
    )  # fmt: skip
