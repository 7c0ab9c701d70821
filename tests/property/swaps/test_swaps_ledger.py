"""Whatever is done to a ledger of weekly swaps, in whatever order, what must hold holds after each action.

A hundred thousand actions here; ten million in ``make night`` (``--only swaps``).
"""

import pytest

from btcfi.swaps.errors import Guard
from tests.support.swapping import WEIGHTS, Chance

RUNS, STEPS = 40, 2_500


@pytest.mark.parametrize("part", range(4))
def test_a_hundred_thousand_actions_keep_every_invariant(part):
    done, refused = {}, {}
    for seed in range(part * RUNS // 4, (part + 1) * RUNS // 4):
        chance = Chance(seed)
        for _ in range(STEPS):
            chance.step()
        for kind, count in chance.done.items():
            done[kind] = done.get(kind, 0) + count
        for guard, count in chance.refused.items():
            refused[guard] = refused.get(guard, 0) + count
    assert set(done) == set(WEIGHTS), "an action was never done"
    assert not set(Guard) - set(refused) - NEVER_HERE, "a guard never refused"


NEVER_HERE = {Guard.SUBCONTRACTS, Guard.NOT_COMPUTED, Guard.PRICES, Guard.NO_BOOK}
