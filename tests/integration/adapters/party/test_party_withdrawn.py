"""A sale that came to nothing: what was named for it is free without a fee, and nobody signs it any more."""

import json
from dataclasses import replace

import pytest

from btcfi.adapters.party.agreements import WithdrawnError
from btcfi.contracts.buckets import Rounding, StepRule
from btcfi.contracts.messages import Order as Wanted
from btcfi.contracts.messages import Role, Withdrawal, decode_withdrawal, encode_proposal, encode_withdrawal
from btcfi.errors import InvalidInputError
from btcfi.units import Sats
from tests.support.desks import open_chain, open_pair

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("withdrawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        with open_chain(folder) as (chain, cookie), open_pair(folder / "pair", chain, cookie, 1) as made:
            made.seller.allow(number=2, unbidden=True)
            yield made


def free(side):
    return side.desk.balance()[0]


def withdraw(side, name, offer=None):
    """Tell a side, as the service does; return why it refused, if it did."""
    offer_id = side_offer(side, name) if offer is None else offer
    side.put("inbox", f"{name}.withdrawal", encode_withdrawal(Withdrawal(offer_id=offer_id)))
    side.round()
    reason = side.folder / "inbox" / "refused" / f"{name}.withdrawal.reason"
    return reason.read_text() if reason.exists() else None


def side_offer(side, name):
    return side.desk.orders().get(name, "")


def refused(side, name):
    return (side.folder / "inbox" / "refused" / f"{name}.reason").read_text()


def test_a_withdrawn_offer_frees_its_coins_and_a_late_answer_to_it_is_signed_by_nobody(pair):
    before = free(pair.seller), free(pair.buyer)
    pair.reach("late", pair.terms(), "accept")
    name = side_offer(pair.seller, "late")
    assert (free(pair.seller), free(pair.buyer)) < before
    assert withdraw(pair.seller, "late") is None
    assert withdraw(pair.buyer, "late", name) is None
    assert (free(pair.seller), free(pair.buyer)) == before
    pair.seller.restart()  # it is written down
    pair.carry("late", "accept")
    assert "its coins are free" in refused(pair.seller, "late.accept")
    assert pair.seller.said("late.sign") is None
    with pytest.raises(WithdrawnError):  # the coins may be another contract's by now
        pair.seller.desk.cancel(name)
    with pytest.raises(WithdrawnError):
        pair.seller.desk.offer(pair.seller.store.load(name).offer.terms, Role.SELLER, order="late")
    assert free(pair.seller) == before[0]


def test_a_buyer_that_was_withdrawn_completes_nothing_and_the_seller_that_has_signed_keeps_its_coins(pair):
    pair.reach("signed", pair.terms(), "sign")
    name = side_offer(pair.seller, "signed")
    held = free(pair.seller)
    assert "party cancel" in withdraw(pair.seller, "signed")
    assert free(pair.seller) == held
    assert withdraw(pair.buyer, "signed", name) is None
    pair.carry("signed", "sign")
    assert "its coins are free" in refused(pair.buyer, "signed.sign")
    assert pair.buyer.store.load(name).funding is None
    pair.seller.desk.cancel(name)  # as ever, for a fee
    pair.chain.mine(1)
    assert free(pair.seller) > held


def test_a_proposal_and_an_offer_that_come_after_their_withdrawal_are_refused(pair):
    before = free(pair.seller), free(pair.buyer)
    terms = pair.terms()
    pair.seller.put("inbox", "early.proposal", encode_proposal(Wanted(terms=terms, role=Role.SELLER)))
    assert withdraw(pair.seller, "early") is None
    assert "came to nothing" in refused(pair.seller, "early.proposal")
    pair.reach("gone", pair.terms(), "offer")
    assert withdraw(pair.buyer, "gone", side_offer(pair.seller, "gone")) is None
    pair.carry("gone", "offer")
    assert "came to nothing" in refused(pair.buyer, "gone.offer")
    assert withdraw(pair.seller, "gone") is None
    assert (free(pair.seller), free(pair.buyer)) == before


def test_an_offer_of_an_earlier_version_is_withdrawn_as_any_other(pair):
    before = free(pair.seller)
    pair.reach("old", pair.terms(), "offer")
    kept = pair.seller.store.load(side_offer(pair.seller, "old"))
    (pair.seller.folder / "party" / "contracts" / f"{kept.offer.id.hex()}.json").unlink()
    rule = StepRule(step=Sats(50_000), rounding=Rounding.DOWN)
    offer = replace(kept.offer, terms=replace(kept.offer.terms, version=2, rule=rule))
    pair.seller.store.save(replace(kept, offer=offer, seen=None))
    pair.seller.restart()
    assert free(pair.seller) < before
    assert withdraw(pair.seller, "old") is None
    assert free(pair.seller) == before


def test_a_contract_s_file_of_the_release_before_is_read_as_not_withdrawn(pair):
    pair.reach("file", pair.terms(), "offer")
    name = side_offer(pair.seller, "file")
    path = pair.seller.folder / "party" / "contracts" / f"{name}.json"
    stored = json.loads(path.read_text())
    del stored["withdrawn"]
    path.write_text(json.dumps(stored))
    pair.seller.restart()
    assert pair.seller.store.load(name).withdrawn is False
    assert withdraw(pair.seller, "file") is None
    assert pair.seller.store.load(name).withdrawn is True


def test_a_sale_without_coins_says_so_beside_the_refusals_and_says_it_no_more_once_they_came(pair):
    def waits():
        said = pair.seller.folder / "inbox" / "refused" / "short.proposal.waiting"
        return said.read_text() if said.exists() else None

    pair.seller.allow(number=3, unbidden=True, exposure=Sats(1_000_000_000))
    holding = [f"hold{n}" for n in range(8)]
    for one in holding:
        pair.order(one)
    pair.seller.round()
    pair.seller.put("inbox", "short.proposal", encode_proposal(Wanted(terms=pair.terms(), role=Role.SELLER)))
    pair.seller.round()
    assert "it has not the coins" in waits()
    assert str(free(pair.seller)) not in waits()  # how many it has is not said
    withdraw(pair.seller, holding[0])
    pair.seller.round()
    assert (waits(), pair.seller.said("short.offer") is not None) == (None, True)


@pytest.mark.parametrize("wrong", ["07", "0" * 63, "AB" * 32, 7, None])
def test_a_withdrawal_names_an_offer_in_full_or_none(wrong):
    message = encode_withdrawal(Withdrawal(offer_id=""))
    assert decode_withdrawal(message) == Withdrawal(offer_id="")
    with pytest.raises(InvalidInputError):
        decode_withdrawal(message | {"offer_id": wrong})
