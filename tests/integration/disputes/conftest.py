import pytest

from tests.support.chain import KINDS, chain


@pytest.fixture(scope="module", params=KINDS)
def wallet(request, tmp_path_factory):
    with chain(request.param, tmp_path_factory.mktemp(request.param)) as funded:
        yield funded
