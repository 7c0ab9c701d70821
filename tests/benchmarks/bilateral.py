"""What a bilateral swap costs: virtual bytes of its burn, signatures and seconds of its set-up."""

from time import perf_counter

from btcfi.swaps.bilateral import presign
from btcfi.swaps.bilateral.grid import FINE_DIGITS, STANDARD_DIGITS
from btcfi.swaps.bilateral.terms import Owner
from btcfi.units import UnixSeconds
from tests.benchmarks import Row
from tests.support.bilateral_swap import SECRETS, START, attested, graph_of, signed_at, swap_burn, terms


def rows() -> list[Row]:
    """Measure a burn with change, and the set-up at both precisions, 2 of 3 oracles."""
    graph = graph_of()
    outcome = attested(graph.terms, 205)
    burned = swap_burn(graph, outcome, signed_at(graph, outcome.number))
    found = [Row(name="swaps.burn_vb", value=burned.vsize, unit="vB")]
    for digits, suffix in ((STANDARD_DIGITS, ""), (FINE_DIGITS, " (10 digits)")):
        graph = graph_of(terms(digits=digits))
        started = perf_counter()
        made = {one: presign.presign(graph, SECRETS[one], now=UnixSeconds(START - 1)) for one in Owner}
        signed = perf_counter()
        for owner in Owner:
            presign.check(graph, owner, made[owner])
        checked = perf_counter()
        most = max(one.count for one in made.values())
        found += [
            Row(name=f"swaps.setup_signatures{suffix}", value=most, unit="signatures a side, 2 of 3 oracles"),
            Row(name=f"swaps.setup_sign_s{suffix}", value=round((signed - started) / 2, 3), unit="s"),
            Row(name=f"swaps.setup_check_s{suffix}", value=round((checked - signed) / 2, 3), unit="s"),
        ]
    return found
