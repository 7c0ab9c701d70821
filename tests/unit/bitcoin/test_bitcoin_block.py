"""A block's Merkle tree: another library builds the same root; a branch leads from its leaf to it, from no other."""

import pytest
from bitcoin.core import CBlock
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.bitcoin.block import merkle_branch, merkle_root, root_of_branch
from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256

many_leaves = st.integers(1, 70).map(lambda count: [sha256(bytes([n])) for n in range(count)])


@given(leaves=many_leaves)
@settings(max_examples=70, deadline=None)
def test_the_root_is_what_another_library_computes(leaves):
    assert merkle_root(leaves) == CBlock.build_merkle_tree_from_txids(leaves)[-1]


@given(leaves=many_leaves, data=st.data())
@settings(max_examples=70, deadline=None)
def test_a_branch_leads_from_its_own_leaf_and_place_to_the_root_and_from_no_other(leaves, data):
    place = data.draw(st.integers(0, len(leaves) - 1))
    branch = merkle_branch(leaves, place)
    assert root_of_branch(leaves[place], place, branch) == merkle_root(leaves)
    assert root_of_branch(sha256(b"another"), place, branch) != merkle_root(leaves)
    assert root_of_branch(leaves[place], place + (1 << len(branch)), branch) is None
    assert root_of_branch(leaves[place], -1, branch) is None


def test_a_list_whose_end_is_repeated_has_the_same_root_so_doubles_must_be_looked_for():
    three = [sha256(bytes([n])) for n in range(3)]
    assert merkle_root(three) == merkle_root([*three, three[-1]])


def test_the_tree_of_no_transaction_is_refused():
    with pytest.raises(InvalidInputError):
        merkle_root([])
