"""A party's wallet: what it reads of the chain."""

import pytest

from tests.support.two_parties import TwoParties

pytestmark = pytest.mark.integration


def test_a_block_is_read_once_though_nothing_is_saved_in_between(wallet, tmp_path, monkeypatch):
    two, read = TwoParties(wallet, tmp_path), []
    genuine = two.node.blocks
    monkeypatch.setattr(two.node, "blocks", lambda names: read.extend(names) or genuine(names))
    first = two.seller.wallet.scan()
    wallet.mine(2)
    read.clear()
    again = two.seller.wallet.scan()
    assert two.seller.wallet.scan() == again
    assert len(read) == 2
    assert again.coins == first.coins
    assert two.open("seller").wallet.scan() == again  # a desk that starts anew sees the same
