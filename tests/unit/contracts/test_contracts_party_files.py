"""A party's folder under files that are not what they should be: each is refused or passed over by name."""

import json
import os
from types import SimpleNamespace

import pytest

from btcfi.adapters.party.mail import PartyMail
from btcfi.adapters.party.store import PartyCoins, PartyContract, PartyStore
from btcfi.contracts.buckets import Bucket
from btcfi.contracts.messages import Order, Role, encode_offer, encode_order
from btcfi.contracts.settling import Version
from btcfi.errors import InvalidInputError
from btcfi.units import Hash32, Height, Sats, Txid
from tests.support.contracts import Scene


class Desk:
    """Test support: accepts every offer that a bid says, and has no contracts to watch."""

    owner = SimpleNamespace(mandate=lambda: SimpleNamespace(mandate=SimpleNamespace(unbidden=False)))
    batches = SimpleNamespace(due_yes=lambda _statuses: [])

    def __init__(self, accept):
        self._accept, self._answered = accept, {}

    def accepted(self, _offer):
        return None

    def accept(self, _offer, _announcements, *, bid=""):
        self._answered[bid] = "its contract"
        return self._accept

    def orders(self):
        return self._answered

    def watch(self):
        return []


@pytest.fixture(scope="module")
def scene():
    return Scene()


@pytest.fixture(scope="module")
def messages(scene):
    offer, (_, accept, sign, funding) = scene.offer(), scene.run()
    return offer, accept, sign, funding


@pytest.fixture
def mail(tmp_path, messages):
    folders = {name: tmp_path / name for name in ("inbox", "outbox", "orders", "bids")}
    return PartyMail(Desk(messages[1]), **folders)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"{"),
        lambda path: path.write_bytes(b'{"type": "btcfi/offer", "type": "btcfi/offer"}'),
        lambda path: path.write_bytes(b"[" * 100_000),
        lambda path: path.write_bytes(b"[1]"),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path.parent.parent / "secret.json"),
        os.mkfifo,
    ],
)
def test_what_is_no_message_goes_to_refused_beside_its_reason_and_the_next_one_is_answered(
    mail, tmp_path, make, messages
):
    (tmp_path / "secret.json").write_text(json.dumps(encode_offer(messages[0])))
    make(tmp_path / "inbox/a.offer.json")
    bid = encode_order(Order(terms=messages[0].terms, role=messages[0].role.other))
    (tmp_path / "bids/b.json").write_text(json.dumps(bid))
    (tmp_path / "inbox/b.json").write_text(json.dumps(encode_offer(messages[0])))
    assert mail.round(Height(1)) == 2
    assert os.path.lexists(tmp_path / "inbox/refused/a.offer.json")
    assert (tmp_path / "inbox/refused/a.offer.reason").read_text().strip()
    assert (tmp_path / "outbox/b.accept.json").exists()


def test_a_bid_that_cannot_be_read_does_not_hide_the_others(mail, tmp_path, messages):
    offer = messages[0]
    (tmp_path / "bids/a.json").write_bytes(b"not JSON")
    (tmp_path / "bids/b.json").write_text(json.dumps({"type": "btcfi/order", "version": 1}))
    (tmp_path / "bids/c.json").symlink_to("/dev/zero")
    good = encode_order(Order(terms=offer.terms, role=offer.role.other))
    (tmp_path / "bids/d.json").write_text(json.dumps(good))
    (tmp_path / "inbox/x.json").write_text(json.dumps(encode_offer(offer)))
    assert mail.round(Height(1)) == 1
    assert (tmp_path / "bids/used/d.json").exists()
    assert (tmp_path / "outbox/x.accept.json").exists()


def test_a_contract_and_the_coins_are_read_as_they_were_written(tmp_path, scene, messages):
    offer, accept, sign, funding = messages
    store = PartyStore(tmp_path)
    contract = PartyContract(
        number=7, role=Role.BUYER, offer=offer, accept=accept, sign=sign, funding=funding, order="an order",
        closes=(Txid(b"\x05" * 32),), cancelled=funding,
        children=(Version(transaction=funding, fee=Sats(5), height=Height(6)),),
        refunds=(Version(transaction=funding, fee=Sats(7), height=Height(8)),),
        buckets=(Bucket(prefix=1, length=2, payout=Sats(3)),),
    )  # fmt: skip
    name = store.save(contract)
    assert PartyStore(tmp_path).load(name) == contract
    coins = PartyCoins(
        scanned=(Height(5), Hash32(b"\x01" * 32)),
        coins={coin.outpoint: (coin, Height(3), True) for coin in scene.seller_coins},
        reserved={coin.outpoint for coin in scene.buyer_coins},
    )
    store.save_coins(coins)
    assert PartyStore(tmp_path).coins() == coins


def test_an_older_releases_contract_lacks_buckets_policy_and_versions_and_nothing_else_may_lack(tmp_path, messages):
    store = PartyStore(tmp_path)
    name = store.save(PartyContract(number=0, role=Role.SELLER, offer=messages[0]))
    file = tmp_path / "contracts" / f"{name}.json"
    stored = json.loads(file.read_text())
    for lacking in stored:
        file.write_text(json.dumps({key: value for key, value in stored.items() if key != lacking}))
        later = {
            "buckets",
            "policy",
            "children",
            "refunds",
            "cancelled",
            "fund_by",
            "funded",
            "asked_at",
            "asked_knowing",
            "withdrawn",
            "firm_offer",
            "sign_by",
            "reopened",
            "reopenings",
        }
        if lacking in later:
            assert not getattr(PartyStore(tmp_path).load(name), lacking)
            continue
        with pytest.raises(InvalidInputError) as refused:
            PartyStore(tmp_path).load(name)
        assert refused.value.field == f"{name}.json.{lacking}"


def test_the_one_child_that_an_older_release_kept_is_read_as_the_first_version(tmp_path, messages):
    store = PartyStore(tmp_path)
    name = store.save(PartyContract(number=0, role=Role.SELLER, offer=messages[0]))
    file = tmp_path / "contracts" / f"{name}.json"
    stored = json.loads(file.read_text())
    del stored["children"], stored["refunds"], stored["cancelled"]
    for child, expected in (
        (None, ()),
        (messages[3], (Version(transaction=messages[3], fee=Sats(0), height=Height(0)),)),
    ):
        file.write_text(json.dumps(stored | {"child": child and child.to_bytes().hex()}))
        assert PartyStore(tmp_path).load(name).children == expected


@pytest.mark.parametrize("raw", [b"", b"-1", b"1 2", b"one", b"9" * 100, "\u0661".encode()])
def test_a_broken_number_of_the_next_key_is_refused_for_a_key_must_not_be_used_twice(tmp_path, raw):
    (tmp_path / "next-contract-key").write_bytes(raw)
    with pytest.raises(InvalidInputError) as refused:
        PartyStore(tmp_path).take_number()
    assert refused.value.field == str(tmp_path / "next-contract-key")
    (tmp_path / "next-contract-key").write_bytes(b"41")
    assert [PartyStore(tmp_path).take_number() for _ in range(2)] == [41, 42]


def a_name_that_is_no_text(inbox):
    (inbox / os.fsdecode(b"a\xff.offer.json")).write_bytes(b"{}")


def a_name_with_no_room_for_more(inbox):
    (inbox / ("a" * 250 + ".json")).write_bytes(b"{}")


def a_folder(inbox):
    (inbox / "a.offer.json").mkdir()


def a_name_that_is_a_folder_among_the_refused(inbox):
    (inbox / "a.json").write_bytes(b"{}")
    (inbox / "refused/a.reason").mkdir()
    (inbox / "refused/a.json").mkdir()


def a_message_whose_answer_has_no_room(inbox, messages):
    (inbox / ("a" * 249 + ".json")).write_text(json.dumps(encode_offer(messages[0])))


@pytest.mark.parametrize(
    "leave", [a_name_that_is_no_text, a_name_with_no_room_for_more, a_folder, a_name_that_is_a_folder_among_the_refused]
)
def test_whatever_the_other_side_leaves_in_the_inbox_the_next_message_is_answered_and_the_chain_watched(
    mail, tmp_path, messages, leave
):
    leave(tmp_path / "inbox")
    bid = encode_order(Order(terms=messages[0].terms, role=messages[0].role.other))
    (tmp_path / "bids/b.json").write_text(json.dumps(bid))
    (tmp_path / "inbox/b.json").write_text(json.dumps(encode_offer(messages[0])))
    for _ in range(2):
        mail.round(Height(1))
    assert (tmp_path / "outbox/b.accept.json").exists()
    assert (tmp_path / "outbox/status.json").exists()


def test_an_offer_whose_name_leaves_no_room_for_the_answer_s_costs_no_bid(mail, tmp_path, messages):
    bid = encode_order(Order(terms=messages[0].terms, role=messages[0].role.other))
    (tmp_path / "bids/b.json").write_text(json.dumps(bid))
    a_message_whose_answer_has_no_room(tmp_path / "inbox", messages)
    mail.round(Height(1))
    assert (tmp_path / "bids/b.json").exists()
    (tmp_path / "inbox/b.json").write_text(json.dumps(encode_offer(messages[0])))
    mail.round(Height(1))
    assert (tmp_path / "outbox/b.accept.json").exists()
