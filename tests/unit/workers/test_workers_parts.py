"""The table of parts: what each needs stands before it, and another system's part is one more row."""

import pytest

from btcfi.errors import InvalidInputError
from settings.deployment import Deployment
from workers.machine.attach import FIELDS
from workers.machine.cluster import Cluster
from workers.machine.rows import ROLES, Here, Row, table
from workers.roles import roles

NAMES = [row.name for row in table()]


def a_row(name, *needs):
    return Row(name=name, says=lambda _: "", needs=needs, command=lambda _: ["true"])


def test_what_a_part_needs_stands_before_it_and_no_part_stands_twice():
    for place, row in enumerate(table()):
        assert set(row.needs) <= set(NAMES[:place])
    assert len(set(NAMES)) == len(NAMES)


def test_every_role_has_a_worker_in_the_table():
    assert set(roles(Deployment())) == set(ROLES) <= set(NAMES)


@pytest.mark.parametrize("row", [a_row("engine", "sequencer"), a_row("engine", "engine"), a_row("beat")])
def test_a_part_that_needs_what_is_not_before_it_or_takes_a_name_is_refused(row):
    with pytest.raises(InvalidInputError):
        table(more=[row])


def test_a_part_of_another_system_is_one_row_and_comes_after_ours():
    assert [row.name for row in table(more=[a_row("sequencer", "database"), a_row("engine", "sequencer")])][-2:] == [
        "sequencer",
        "engine",
    ]


def test_a_row_with_a_start_has_a_process_or_work_and_one_that_others_wait_for_says_who_it_is():
    for row in table():
        assert (row.command is None) != (row.work is None)
        if row.ready is not None or row.answers is not None:
            assert row.service


def test_what_other_commands_are_told_of_a_part_is_what_they_look_for():
    assert {name for row in table(oracles=3) for name in row.tells} == set(FIELDS)


def test_a_part_that_starts_again_is_started_where_its_clients_know_it(tmp_path):
    deployment = Deployment(data_dir=tmp_path)
    for name, filled in (("node", {"node_url": "http://127.0.0.1:4711"}),
                         ("replay", {"venue_base_url": "http://127.0.0.1:4711"})):  # fmt: skip
        (row,) = [row for row in table() if row.name == name]
        first = Here(deployment=deployment, run_dir=tmp_path, replay_folder=tmp_path)
        again = Here(deployment=deployment, run_dir=tmp_path, replay_folder=tmp_path, filled=filled)
        assert row.command(first)[-1] == "--port=0"
        assert row.command(again)[-1] == "--port=4711"


def test_only_the_wanted_parts_are_started(tmp_path):
    cluster = Cluster(Deployment(data_dir=tmp_path), embedded_node=False, roles=("control",), run_parties=False)
    ours = ["addresses", "minutes", "oracle-0", "oracle-1", "oracle-2"]  # control asks them, and they ask for minutes
    assert [row.name for row in cluster.rows] == ["broker", "database", *ours, "control", "beat"]
    named = Deployment(data_dir=tmp_path, oracles="http://127.0.0.1:1")
    others = Cluster(named, embedded_node=False, roles=("control",), run_parties=False)
    assert [row.name for row in others.rows] == ["broker", "database", "control", "beat"]
