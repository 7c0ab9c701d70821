"""What nodes relay of a dispute: each kind of transaction against each policy, and the tables that say so."""

import pytest

from tests.benchmarks.dispute_costs import CHEAP, DOCUMENT, FALLBACKS, MARKS, TABLES, fallback, shown, written
from tests.support.dispute_templates import MAKERS, contract
from tests.support.policies import CORE, KNOTS, POLICIES, STRICTEST, used

EVERY = [pytest.param(name, marks=[] if name in CHEAP else pytest.mark.slow) for name in MAKERS]


@pytest.mark.parametrize("name", EVERY)
def test_every_transaction_is_relayed_by_core_and_survives_a_ban_of_branches_and_of_long_control_blocks(name):
    one = contract(name)
    for kind, made in one.made.items():
        use = used(made)
        assert use.refused(CORE) == [], kind
        assert use.refused(STRICTEST) == [], kind
        assert use.item <= 80, kind
        assert use.budget >= 0, kind
        assert use.items <= 1_000, kind


@pytest.mark.parametrize("name", EVERY)
def test_what_a_node_refuses_has_a_fallback_and_what_none_refuses_needs_none(name):
    one = contract(name)
    for kind, made in one.made.items():
        refusals = [rule for policy in POLICIES for rule in used(made).refused(policy)]
        assert not refusals or fallback(one, kind), f"{kind}: {refusals}, and nothing is said of it"


@pytest.mark.parametrize("name", CHEAP)
def test_what_only_takes_money_back_is_relayed_by_every_node(name):
    for kind in ("payout", "end of silence", "refund"):
        assert [used(contract(name).made[kind]).refused(policy) for policy in POLICIES] == [[], [], []]


def test_a_garbled_call_is_relayed_whole_by_every_node_and_a_claim_of_words_by_few():
    garbled, words = contract("G, a call"), contract("A, a call, fused")
    assert [kind for kind, made in garbled.made.items() if used(made).refused(KNOTS)] == []
    assert used(words.made["claim"]).refused(KNOTS) == ["script"]
    assert used(words.made["disproof"]).refused(KNOTS) == []


def test_a_policy_refuses_what_breaks_it():
    made = contract("A, a call, fused").made["payout"]
    signature, script, control = made.inputs[0].witness
    for stack, rule in (
        ([signature, b"\0" * 81, script, control], "item"),
        ([signature, b"\x63\x68" + script, control], "branches"),
        ([signature, script, control + bytes(32 * 7)], "control"),
        ([signature] * 30 + [script, control], "script"),
        ([signature] * 640 + [script, control], "weight"),
    ):
        broken = used(made.with_witness(0, stack))
        assert rule in {one for policy in POLICIES for one in broken.refused(policy)}
    pushed = used(made.with_witness(0, [signature, b"\x02\x63\x64\x4c\x01\x63" + script, control]))
    assert pushed.branches == 0  # data is no opcode


def test_tables_are_put_between_their_marks_and_read_back(monkeypatch):
    monkeypatch.setattr(
        "tests.benchmarks.dispute_costs.TABLES", {name: lambda: "| a |\n| - |\n| b |" for name in TABLES}
    )
    empty = "\n".join(["# Disputes", *(f"{begin}\n{end}" for begin, end in MARKS.values()), "after"])
    full = written(empty)
    assert written(full) == full
    assert full.endswith("after")
    assert [shown(full, name) for name in MARKS] == [["| b |"], ["| b |"]]
    with pytest.raises(SystemExit):
        written("# Disputes")


def without_seconds(row):
    return row.rpartition(" | ")[0]


@pytest.mark.parametrize(
    "names", [pytest.param(CHEAP, id="some"), pytest.param(tuple(MAKERS), id="all", marks=pytest.mark.slow)]
)
def test_the_document_s_costs_are_what_the_code_makes(names):
    kept = [without_seconds(row) for row in shown(DOCUMENT.read_text(encoding="utf-8"), "costs")]
    made = [without_seconds(row) for row in TABLES["costs"](names).split("\n")[2:]]
    assert [row for row in made if row not in kept] == []
    assert len(kept) == len(MAKERS)


def test_the_document_says_of_each_policy_what_it_relays():
    assert shown(DOCUMENT.read_text(encoding="utf-8"), "policies") == TABLES["policies"]().split("\n")[2:]


def test_every_fallback_is_one_of_a_transaction_that_there_is():
    kinds = {"claim", "claim after silence", "reveal", "silence", "disproof"}
    assert {kind for _, kind in FALLBACKS} == kinds
