"""What disputes cost, both engines beside each other, and what nodes relay of them: the tables of docs/disputes.md.

    python -m tests.benchmarks.dispute_costs                         print both
    python -m tests.benchmarks.dispute_costs --write                 put them between their marks

Everything but the seconds follows from the code: a test holds the document to it. Two of three oracles and 17 ranges
unless said, an opening of one input of each side that puts something in, no change, no children.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tests.support.dispute_templates import MAKERS, Contract, contract
from tests.support.paths import ROOT
from tests.support.policies import KNOTS, STRICTEST, used

DOCUMENT = ROOT / "docs" / "disputes.md"

MARKS = {
    "costs": ("<!-- costs -->", "<!-- /costs -->"),
    "policies": ("<!-- policies -->", "<!-- /policies -->"),
}

CHEAP = (
    "G, a call", "G, a call, lazy", "G, a mean of 8", "A, a call, fused", "A, a call, step by step",
    "A, a mean of 8, fused",
)  # fmt: skip
"""Contracts that CI makes, and whose every transaction the second table has; the night makes all."""

ELSEWHERE = "a node of Core's rules or a miner"

FALLBACKS = {
    ("G", "claim"): f"{ELSEWHERE}, before silence can be claimed; or the lazy form, whose claim has no digits",
    ("G", "claim after silence"): f"{ELSEWHERE}, before the silence ends; or the lazy form",
    ("G", "reveal"): f"{ELSEWHERE}, before the challenge is overdue",
    ("G", "silence"): f"{ELSEWHERE}, before the refund",
    ("A", "claim"): f"{ELSEWHERE}, before silence can be claimed; there is no smaller form",
    ("A", "claim after silence"): f"{ELSEWHERE}, before the silence ends",
    ("A", "silence"): f"{ELSEWHERE}, before the refund",
    ("A", "disproof"): f"{ELSEWHERE}, before the payout; or a watcher who reaches one",
}
"""What is left to whose node does not relay a transaction, by engine and what it does. Empty where none refuses."""


def costs(names: Sequence[str] = tuple(MAKERS)) -> str:
    """Return the table of costs."""
    lines = [
        "| contract | nobody lies, vB | a lie disproved, vB | claim, vB | disproof, vB | sent before, kB | CPU s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    return "\n".join(lines + [_cost(contract(name)) for name in names])


def _cost(one: Contract) -> str:
    sizes = (one.vsize(one.happy), one.vsize(one.dispute), one.made["claim"].vsize, one.made["disproof"].vsize)
    columns = [one.name, *(f"{size:,}" for size in sizes), f"{one.sent / 1_000:,.1f}", f"{one.seconds:.1f}"]
    return f"| {' | '.join(columns)} |"


def policies(names: Sequence[str] = CHEAP) -> str:
    """Return the table of what each transaction uses of what policies limit, and of what is left where one refuses."""
    numbers = "vB | items | largest, B | script and all, B | control block, B | opcodes | checks"
    lines = [
        f"| transaction | {numbers} | {KNOTS.name} | {STRICTEST.name} | else |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- | --- |",
    ]
    for name in names:
        lines += [_policy(contract(name), kind) for kind in contract(name).made]
    return "\n".join(lines)


def fallback(one: Contract, kind: str) -> str:
    """Return what is left where a node does not relay a transaction."""
    return FALLBACKS.get((one.name[0], kind.partition(" of group")[0]), "")


def _policy(one: Contract, kind: str) -> str:
    use = used(one.made[kind])
    said = ["relayed" if not use.refused(policy) else "refused" for policy in (KNOTS, STRICTEST)]
    numbers = (use.vsize, use.items, use.item, use.witness, use.control, use.operations, use.checks)
    left = fallback(one, kind) if "refused" in said else ""
    return f"| {' | '.join([f'{one.name}: {kind}', *(f'{one:,}' for one in numbers), *said, left])} |"


TABLES = {"costs": costs, "policies": policies}


def written(document: str) -> str:
    """Return a document with both tables between their marks. Raises SystemExit where a mark is not there."""
    for name, (begin, end) in MARKS.items():
        before, found, rest = document.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"the document has no place for {name}; expected the lines {begin} and {end}")
        document = f"{before}{begin}\n\n{TABLES[name]()}\n\n{end}{after}"
    return document


def shown(document: str, name: str) -> list[str]:
    """Return the rows of a table in a document, without its head; empty where it has none."""
    begin, end = MARKS[name]
    lines = document.partition(begin)[2].partition(end)[0].split("\n")
    return [line for line in lines if line.startswith("| ")][2:]


def main() -> None:
    """Print both tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"put them into {DOCUMENT.relative_to(ROOT)}")
    if parser.parse_args().write:
        DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(f"{costs()}\n\n{policies()}")


if __name__ == "__main__":
    main()
