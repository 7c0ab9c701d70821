"""Every kind of fault of the matrix names who tells of it, and that one exists; or says that nobody does, and why."""

import re

import pytest
import yaml

from tests.support.paths import ROOT
from workers import preconditions
from workers.chaos.matrix import KINDS
from workers.chaos.told import Alert, Doctor

RULES = {
    rule["alert"]: rule["expr"]
    for group in yaml.safe_load((ROOT / "dashboards/prometheus/rules.yml").read_text())["groups"]
    for rule in group["rules"]
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_kind_of_fault_is_told_by_somebody_or_says_why_nobody_tells(kind):
    assert bool(kind.told) != bool(kind.untold)
    assert set(re.findall(r"`(Btcfi\w+)`", kind.untold)) <= set(RULES)


WITNESSES = {one.name: one for kind in KINDS.values() for one in kind.told}


@pytest.mark.parametrize("witness", WITNESSES.values(), ids=WITNESSES)
def test_who_tells_looks_at_what_the_rule_or_the_doctor_looks_at(witness):
    match witness:
        case Alert(name=name, metric=metric, holds=holds):
            assert metric in RULES[name]
            assert ("increase(" in RULES[name]) == (holds is None)
        case Doctor(row=row):
            assert row in {one.name for one in preconditions.TABLE}


def test_the_new_kinds_of_harm_to_messages_clocks_and_the_node_are_told():
    told = {"forged", "poisoned", "remote-control", "skew-seconds", "skew-minutes", "node-policy"}
    assert told <= {kind.name for kind in KINDS.values() if kind.told}
