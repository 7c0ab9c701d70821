"""A service with its parties over a chain: on each kind of node, or on the embedded one alone."""

import pytest

from tests.support.chain import KINDS
from tests.support.contract_stage import open_stage


@pytest.fixture(params=KINDS)
def stage(request, tmp_path):
    with open_stage(tmp_path, request.param) as made:
        yield made


@pytest.fixture
def embedded(tmp_path):
    with open_stage(tmp_path) as made:
        yield made
