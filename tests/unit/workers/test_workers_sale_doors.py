"""Every door through which an option comes asks the same function whether its terms make sense, its window among them.

The doors: the command line (``btcfi options create``), the REST API's two orders and the console's form, which all go
through ``sell``; a premium asked by REST and the console's quote, which go through its ``quote_at``; a party's own
option; a take of a firm offer. gRPC and Flower sell nothing.
"""

import ast
from pathlib import Path

import pytest

from btcfi.surfaces.protos import settlement_pb2

ROOT = Path(__file__).parents[3]
BUILDERS = {
    "btcfi/adapters/store/options/options.py": "validate_terms",
    "btcfi/adapters/store/options/sales.py": "validate_terms",
    "btcfi/surfaces/party/setting_up.py": "validate_terms",
    "tasks/machine.py": None,  # what a worker is warmed up with: nothing of it is sold
    "btcfi/market/instrument.py": None,  # what a name says: who sells by one is below
}
BY_NAME = {"btcfi/adapters/store/market/takes.py": "validate_terms"}


def called(path):
    tree = ast.parse(path.read_text())
    names = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {name.id for name in names if isinstance(name, ast.Name)}


@pytest.mark.parametrize(("module", "check"), (BUILDERS | BY_NAME).items())
def test_a_door_checks_the_life_of_an_option_against_its_window(module, check):
    assert check is None or check in called(ROOT / module)


def test_there_is_no_other_door():
    every = [path for part in ("btcfi", "tasks", "workers", "dashboards") for path in (ROOT / part).rglob("*.py")]
    building = {str(path.relative_to(ROOT)) for path in every if "OptionTerms" in called(path)}
    assert building == set(BUILDERS)
    methods = settlement_pb2.DESCRIPTOR.services_by_name["SettlementEngine"].methods
    assert [one.name for one in methods] == ["InitiateSettlement", "GetProof", "VerifyProof"]
