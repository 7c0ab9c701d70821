"""The address of a contract's collateral is written as the deployment's own network writes it."""

import pytest

from btcfi.adapters.store.options.tables import OptionRow
from btcfi.bitcoin.address import decode_address
from tests.support.contract_stage import open_stage

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(("network", "prefix"), [("signet", "tb1p"), ("main", "bc1p"), (None, "bcrt1p")])
def test_an_option_s_address_is_of_the_network_that_the_deployment_names(tmp_path, monkeypatch, network, prefix):
    if network is not None:
        monkeypatch.setenv("BTCFI_NETWORK", network)
    with open_stage(tmp_path) as stage:
        stage.sell("one")
        stage.talk()
        with stage.here.store.reading() as session:
            option = session.get_one(OptionRow, "one")
        assert option.address.startswith(prefix)
        assert decode_address(option.address, network or "regtest")
