"""Commands, settings and alerts that the operator's documents name are there."""

import re

import pytest

from settings.deployment import SECRETS, Deployment, variable
from tests.support.paths import ROOT
from workers.cli import every_command

DOCUMENTS = [
    "docs/operating.md",
    "docs/monitoring.md",
    "docs/runbook.md",
    "compose.yaml",
    "dashboards/prometheus/rules.yml",
]


def tree():
    """Every command and group by its words, with the options of each."""
    found = {}

    def walk(command, words):
        found[words] = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*words, name))

    walk(every_command(), ())
    return found


TREE = tree()


def code_of(text):
    """What a document shows as code: spans in backticks, and the lines of blocks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", prose)


def said_wrong(code):
    """The first word of a btcfi command line that is no command and no option of it, or None."""
    for line in re.findall(r"(?:^|[ (|])btcfi ([^#|)]+)", code):
        words = ()
        for word in line.split():
            is_group = any(known[: len(words)] == words and len(known) > len(words) for known in TREE)
            if word.startswith("--"):
                if word.partition("=")[0] not in TREE[words]:
                    return word
            elif (*words, word) in TREE:
                words = (*words, word)
            elif is_group:
                return word
    return None


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.endswith(".md")])
def test_every_command_that_is_named_exists_with_its_options(document):
    lines = [code for code in code_of((ROOT / document).read_text()) if "btcfi " in code]
    assert lines
    assert {code: wrong for code in lines if (wrong := said_wrong(code))} == {}


@pytest.mark.parametrize(
    "wrong", ["btcfi nothing", "btcfi prices round", "btcfi watch --twice", "a | btcfi optoins list"]
)
def test_a_command_that_does_not_exist_would_be_found(wrong):
    assert said_wrong(wrong)


@pytest.mark.parametrize("document", [*DOCUMENTS, "docs/how-to/run-a-fleet.md", "docs/how-to/recover.md"])
def test_every_setting_that_is_named_exists(document):
    known = {variable(name) for name in Deployment.model_fields} | {f"{variable(name)}_FILE" for name in SECRETS}
    text = (ROOT / document).read_text()
    named = set(re.findall(r"\b(?:BTCFI_[A-Z_]+|(?:DATABASE|BROKER|NODE|RESULT_BACKEND)_URL(?:_FILE)?)\b", text))
    assert {name for name in named if not name.startswith("BTCFI_TEST_")} <= known


def test_a_link_to_the_runbook_s_alerts_by_name_leads_to_one():
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "dashboards" / "prometheus" / "rules.yml").read_text()))
    for document in ("docs/runbook.md", "docs/monitoring.md", "docs/operating.md", "workers/commands/doctor.py"):
        assert set(re.findall(r"\bBtcfi[A-Z]\w+\b", (ROOT / document).read_text())) - {"BtcfiError"} <= alerts, document
