"""Events of paths, and the minutes that decide them, for tests."""

from dataclasses import replace

from btcfi.options.terms import OptionKind, OptionTerms, required_collateral
from btcfi.oracle.announcement import OF_PATH
from btcfi.oracle.fixing import LeftOut, parse_fixing
from btcfi.oracle.path import parse_path
from btcfi.units import CentiBtc, Cents, CentsPerBtc
from tests.support.contracts import event

END = event().expiry


def path_event(text, *, fixing="minute", **changes):
    """The event of a path's text; its observations are of one minute unless a fixing says otherwise."""
    given = {"version": OF_PATH, "path": parse_path(text), "fixing": parse_fixing(fixing)}
    return replace(event(), **(given | changes))


def minutes_of(said, spans=None):
    """What minutes say, with the range that each has: its own price's, unless ``spans`` has another."""
    known = {}
    for at, one in said.items():
        price = None if isinstance(one, LeftOut) else one
        span = None if one is LeftOut.VOID or one is LeftOut.NEVER_ASKED else (price or 1, price or 1)
        known[at] = (one, span)
    for at, span in (spans or {}).items():
        known[at] = (known[at][0] if at in known else LeftOut.THIN, span)
        if known[at][0] is LeftOut.VOID:
            known[at] = (LeftOut.THIN, span)
    return known


def said_and_touched(known, says=None):
    """The two questions that ``compute`` asks of minutes."""
    says = says or known.get

    def touched(at, touch):
        found = says(at)
        return None if found is None else touch.reached_in(found[1])

    return (lambda at: None if (found := says(at)) is None else found[0]), touched


def terms(expiry):
    """A single call that names a fixing."""
    return OptionTerms(
        kind=OptionKind.CALL, strike=CentsPerBtc(6_000_000), quantity=CentiBtc(10), barrier=None, american=False,
        expiry=expiry, premium=Cents(100), collateral=required_collateral(OptionKind.CALL, CentiBtc(10)),
        fixing=parse_fixing("minute"),
    )  # fmt: skip
