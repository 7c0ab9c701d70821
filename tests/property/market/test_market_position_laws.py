"""Laws of positions: parts are the whole to the cent, two sides of one contract sum to nothing, nobody owes more."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from btcfi.market.instrument import Instrument
from btcfi.market.positions import Position, View, at_risk, explain, greeks, greeks_by, marks
from btcfi.options.terms import OptionKind
from btcfi.pricing.surface import flat_surface

NOW = 1_795_000_020

compiled = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The first example compiles the kernels, and a busy machine changes no law."""


@st.composite
def positions(draw):
    strike = draw(st.integers(3_000_000, 12_000_000))
    expiry = NOW - NOW % 60 + 60 * draw(st.integers(-5, 90_000))
    one = Instrument(kind=draw(st.sampled_from(OptionKind)), strike=strike, expiry=expiry)
    quantity = draw(st.integers(1, 1_000))
    return Position(
        option_id="x", terms=one.terms(quantity, draw(st.integers(1, 10**7))), bought=draw(st.booleans()),
        premium=draw(st.integers(1_000, quantity * 1_000_000)),
    )  # fmt: skip


VIEWS = st.builds(
    lambda spot, level, later: View(spot=spot, surface=flat_surface(level), rate=0.05, now=NOW + later),
    st.integers(2_000_000, 20_000_000), st.floats(0.05, 3.0), st.integers(0, 10**6),
)  # fmt: skip


@compiled
@given(st.lists(positions(), max_size=5), VIEWS, VIEWS)
def test_an_explanation_sums_to_the_change_of_value_to_the_cent(many, one, other):
    before, after = sorted((one, other), key=lambda view: view.now)
    told = explain(many, before, after)
    assert told.delta + told.gamma + told.vega + told.theta + told.residual == told.whole
    change = sum(m.value_cents for m in marks(many, after)) - sum(m.value_cents for m in marks(many, before))
    assert abs(told.whole - change) <= 2 * len(many) + 2


@compiled
@given(positions(), VIEWS)
def test_what_one_side_has_the_other_lacks(mine, view):
    theirs = Position(option_id="x", terms=mine.terms, bought=not mine.bought, premium=mine.premium)
    one, other = marks([mine, theirs], view)
    assert one.value_cents + other.value_cents == one.profit_cents + other.profit_cents == 0
    assert at_risk([mine, theirs]) == mine.terms.collateral


@compiled
@given(st.lists(positions(), min_size=1, max_size=5), VIEWS)
def test_groups_sum_to_the_whole(many, view):
    whole = greeks(many, view)
    parts = greeks_by(many, view, lambda one: one.terms.kind)
    assert abs(sum(its.value for its in parts.values()) - whole.value) <= 1e-6 * (1 + abs(whole.value))
    assert abs(sum(its.delta_btc for its in parts.values()) - whole.delta_btc) <= 1e-6 * (1 + abs(whole.delta_btc))


@compiled
@given(positions(), VIEWS)
def test_no_mark_says_that_a_writer_owes_more_than_is_locked(one, view):
    owed = abs(marks([one], view)[0].value_sats)
    assert owed <= one.terms.collateral * (1 + 1e-9) + 200
