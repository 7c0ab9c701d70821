"""Kill anything, at any moment: a seeded subset of the matrix on a real cluster. ``make faults-ci`` runs it."""

import os

import pytest

from workers.chaos.matrix import ANYWHERE, KINDS, POINTS, all_cases, choose, choose_for_both
from workers.chaos.parallel import CASES_PER_CLUSTER, STOP_SECONDS, limit_seconds, run_all, shares

SEED = int(os.environ.get("BTCFI_TEST_SEED", "20261121"))
MANY = len(KINDS) + 3
SERVER = os.environ.get("BTCFI_TEST_DATABASE_URL")

ON_SQLITE, ON_POSTGRESQL = choose_for_both(SEED, MANY) if SERVER else (choose(SEED, MANY, postgresql=False), [])
"""Where there is a server, the two share the cases, so that the whole stays within minutes."""


def test_a_seed_chooses_the_same_cases_and_another_seed_others():
    assert choose(1, MANY, postgresql=False) == choose(1, MANY, postgresql=False)
    assert choose(1, MANY, postgresql=False) != choose(2, MANY, postgresql=False)


def test_a_chosen_subset_meets_every_kind_of_fault_and_no_point_twice():
    chosen = choose(SEED, MANY, postgresql=False)
    assert len(set(chosen)) == MANY
    assert {kind for _, kind in chosen} == {k.name for k in KINDS.values() if not k.postgresql_only}
    points = [point for point, _ in chosen if point != ANYWHERE]
    assert len(set(points)) == len(points) <= len(POINTS)


def test_each_database_has_the_faults_that_it_can_have():
    assert ("settlement.built:after", "database-cut") in all_cases(postgresql=True)
    assert ("settlement.built:after", "disk-full") in all_cases(postgresql=False)
    assert not [one for one in all_cases(postgresql=True) if one[1] == "disk-full"]


def test_every_case_of_the_matrix_is_in_one_share():
    every = all_cases(postgresql=False)
    cut = shares(every, at_once=2)
    assert [cell for _, cells in cut for cell in cells] == every
    assert [first for first, _ in cut] == [every.index(cells[0]) for _, cells in cut]
    assert all(len(cells) <= CASES_PER_CLUSTER for _, cells in cut)
    assert [len(cells) for _, cells in shares(every[:7], at_once=2)] == [4, 3]
    assert shares([], at_once=3) == []


def test_the_two_databases_share_the_cases_of_a_seed_and_every_kind_is_on_one_of_them():
    on_sqlite, on_postgresql = choose_for_both(SEED, MANY)
    assert len({*on_sqlite, *on_postgresql}) == len(on_sqlite) + len(on_postgresql) == MANY
    assert {kind for _, kind in (*on_sqlite, *on_postgresql)} == set(KINDS)
    assert set(on_sqlite) <= set(all_cases(postgresql=False))
    assert set(on_postgresql) <= set(all_cases(postgresql=True))
    assert abs(len(on_sqlite) - len(on_postgresql)) <= 4


def limit(cells):
    """What pytest waits for: longer than ``run_all`` does, so that what stalls is named with its case."""
    return pytest.mark.timeout(limit_seconds(cells, options_each=1) + 2 * STOP_SECONDS)


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize(
    "store",
    [
        pytest.param("sqlite", marks=limit(ON_SQLITE)),
        pytest.param("postgresql", marks=[pytest.mark.postgres, limit(ON_POSTGRESQL)]),
    ],
)
def test_no_fault_of_a_seeded_subset_loses_or_doubles_a_settlement(store):
    on_postgresql = store == "postgresql"
    if on_postgresql and not SERVER:
        pytest.skip("no PostgreSQL: run .ci/run as root on Debian, or set BTCFI_TEST_DATABASE_URL")
    wanted = ON_POSTGRESQL if on_postgresql else ON_SQLITE
    outcomes = run_all(wanted, seed=SEED, database_url=SERVER if on_postgresql else None, options_each=1)
    assert [(o.case.name, o.problems) for o in outcomes if not o.ok] == []
    assert len(outcomes) == len(wanted)
