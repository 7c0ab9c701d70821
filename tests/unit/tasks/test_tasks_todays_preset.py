"""What was sold is settled by its own preset: each place that reads today's says why it may."""

import ast

from tests.support.paths import ROOT

READS = {
    ("tasks/chain.py", "_build"): "the least rate of the service's own coins; no term of an option",
    ("tasks/chain.py", "anchor"): "as above",
    ("tasks/chain.py", "settle"): "what a block is asked to hold of ours, by today's fees; no term of an option",
    ("tasks/chain.py", "watch"): "as above",
    ("tasks/held.py", "preset_of"): "taken only where its hash is the row's",
    ("tasks/held.py", "rule_of"): "as above",
    ("tasks/held.py", "confirmations"): "the least of all: an open option's own may ask for more",
    ("tasks/options.py", "expire_due"): "how many settlements a message names",
    ("tasks/options.py", "repair"): "as above",
    ("tasks/pricing.py", "refresh"): "what options are worth now, by today's model; settles nothing",
    ("workers/chaos/cluster.py", "_buried_at"): "a harness that sells by this preset alone",
    ("tasks/context.py", "make_context"): "loads it",
    ("workers/commands/anchor.py", "prove"): "how deep an anchor of ours must lie; of no option",
    ("workers/commands/doctor.py", "oracles"): "whether what is sold today can be attested",
    ("workers/commands/doctor.py", "preset"): "whether what is sold today is here",
    ("workers/preconditions.py", "venues"): "whether what is sold today can be priced",
    ("workers/commands/fees.py", "fees"): "by which fees what waits is planned; no term of an option",
    ("workers/commands/simulate.py", "_rule"): "as above, of a simulated market",
    ("workers/commands/oracle.py", "announce"): "the preset that a person names for a new event",
    ("workers/commands/oracle.py", "announce_path"): "as above",
    ("workers/commands/serve.py", "_site"): "taken for a rule only where its hash is the row's; else how deep is final",
    ("workers/commands/serve.py", "make_deps"): "by which fees the page of fees plans",
    ("workers/commands/serve.py", "_desk_card"): "what is sold today, which a new account's mandate has to allow",
    ("workers/deployed.py", "consensus_rule"): "by what minutes are agreed today",
    ("workers/deployed.py", "sale_rule"): "what is sold today",
    ("workers/exporter.py", "__init__"): "a label: what this process sells by",
    ("workers/machine/cluster.py", "__init__"): "how many oracles a new deployment has",
    ("workers/machine/demo.py", "_preset"): "what the demo sells by",
    ("workers/machine/oracles.py", "_many"): "how many oracles of ours to make, never fewer than there are",
    ("workers/machine/parties.py", "tell_oracles"): "the threshold of new mandates",
    ("workers/oracle_process.py", "serve"): "by what an oracle announces ahead; each event is attested by its own",
}
"""File and function to reason."""


def reads(tree):
    """The functions that read ``here.preset``, ``context().preset`` or load the deployment's."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            today = isinstance(node, ast.Attribute) and node.attr == "preset" and ast.unparse(node.value) in {
                "here", "self.here", "context()"
            }  # fmt: skip
            loaded = isinstance(node, ast.Call) and ast.unparse(node.func) == "load_preset"
            if today or loaded:
                yield function.name


def test_each_place_that_reads_today_s_preset_says_why_it_may():
    found = {
        (str(path.relative_to(ROOT)), name)
        for folder in ("tasks", "workers", "dashboards")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in reads(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert sorted(found) == sorted(READS)
