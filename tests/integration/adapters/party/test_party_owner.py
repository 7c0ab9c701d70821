"""An owner's word at a real desk: which mandates count, what a no means, and what a lost, rotated or revoked one stops.

That each term outside a mandate is refused by name: tests/property/adapters/party/test_party_hostile_terms.py.
"""

import json

import pytest

from btcfi.adapters.keystore import LEAST_N, Keystore, create_keystore
from btcfi.adapters.party.identity import IDENTITY_FILE, make_identity, rotate_identity
from btcfi.adapters.party.owner import Owner
from btcfi.adapters.party.store import PartyStore
from btcfi.contracts.mandate import WrongMandateError, sign_mandate
from btcfi.contracts.messages import decode_accept, decode_offer, decode_sign
from btcfi.contracts.summary import CloseSummary, DeclinedError, Summary
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import Sats
from tests.support.desks import NOW, narrow_mandate, open_chain, open_pair
from tests.support.mandates import IDENTITY, IDENTITY_SECRET, own

pytestmark = pytest.mark.integration

OTHER_SECRET = bytes([5]) * 32
WORDS = "a long passphrase"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("owners")
    with open_chain(folder) as (chain, cookie):
        yield folder, chain, cookie


@pytest.fixture
def pair(world, request):
    folder, chain, cookie = world
    number = 1 + sum(1 for _ in folder.glob("pair-*"))
    with open_pair(folder / f"pair-{number}", chain, cookie, number) as opened:
        yield opened


def offered(pair):
    """An offer inside the buyer's mandate, with a bid that wants it, not yet read by the buyer."""
    pair.reach("one", pair.terms(), "offer")
    return decode_offer(pair.seller.said("one.offer"))


def file_of(side):
    return side.folder / "party" / "mandate.json"


# ---- which mandates count


def expired(side):
    own(side.desk.owner, narrow_mandate(valid_from=0, valid_until=NOW - 86_400))


def of_tomorrow(side):
    own(side.desk.owner, narrow_mandate(valid_from=NOW + 86_400))


def of_another_network(side):
    own(side.desk.owner, narrow_mandate(networks=("main",)))


def revoked(side):
    assert side.desk.owner.revoke() == 1


def replaced_and_put_back(side):
    old = file_of(side).read_bytes()
    own(side.desk.owner, narrow_mandate())
    file_of(side).write_bytes(old)


def of_another_identity(side):
    own(side.desk.owner, narrow_mandate(), OTHER_SECRET)
    side.desk.owner.adopt(IDENTITY)


def signed_by_a_stranger_and_put_there(side):
    stranger = side.folder / "stranger"
    owner = Owner(PartyStore(stranger), Keystore(bytes([99]) * 32))
    own(owner, narrow_mandate(), OTHER_SECRET)
    file_of(side).write_bytes((stranger / "mandate.json").read_bytes())


def with_its_owner_file_of_another_keystore(side):
    stranger = side.folder / "stranger"
    owner = Owner(PartyStore(stranger), Keystore(bytes([99]) * 32))
    own(owner, narrow_mandate(), OTHER_SECRET)
    for name in ("mandate.json", "owner.sealed"):
        (side.folder / "party" / name).write_bytes((stranger / name).read_bytes())


def widened_by_hand(side):
    written = json.loads(file_of(side).read_text())
    file_of(side).write_text(json.dumps(written | {"premium_sats": [0, 2_100_000_000_000_000]}))


def with_a_field_that_nobody_knows(side):
    written = json.loads(file_of(side).read_text())
    file_of(side).write_text(json.dumps(written | {"premium_satoshis": [0, 1]}))


def gone(side):
    file_of(side).unlink()


def of_a_folder_without_an_owner(side):
    (side.folder / "party" / "owner.sealed").unlink()


STATES = [
    expired, of_tomorrow, of_another_network, revoked, replaced_and_put_back, of_another_identity,
    signed_by_a_stranger_and_put_there, with_its_owner_file_of_another_keystore, widened_by_hand,
    with_a_field_that_nobody_knows, gone, of_a_folder_without_an_owner,
]  # fmt: skip


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_under_a_mandate_that_does_not_count_nothing_is_signed_or_reserved_and_the_refusal_says_why(pair, state):
    offer = offered(pair)
    before = pair.buyer.facts()
    state(pair.buyer)
    for step in (
        lambda: pair.buyer.desk.accept(offer, offer.terms.announcements),
        lambda: pair.buyer.desk.offer(pair.terms(), offer.role.other),
    ):
        with pytest.raises((WrongMandateError, InvalidInputError)) as error:
            step()
        assert "mandate" in str(error.value) or "owner.sealed" in str(error.value)
    assert pair.buyer.facts() == before


def test_each_signing_step_asks_again_so_that_a_mandate_revoked_in_between_stops_it(pair):
    pair.reach("one", pair.terms(), "accept")
    accepted = decode_accept(pair.buyer.said("one.accept"))
    pair.seller.desk.owner.revoke()
    before = pair.seller.facts()
    with pytest.raises(WrongMandateError):
        pair.seller.desk.sign(accepted)
    assert pair.seller.facts() == before
    pair.seller.allow()
    pair.carry("one", "accept")
    pair.buyer.desk.owner.revoke()
    before = pair.buyer.facts()
    with pytest.raises(WrongMandateError):
        pair.buyer.desk.complete(decode_sign(pair.seller.said("one.sign")))
    assert pair.buyer.facts() == before


@pytest.mark.parametrize("stop", ["revoke", "rotate"])
def test_what_is_signed_is_watched_and_settled_after_its_mandate_was_revoked_or_its_identity_rotated(pair, stop):
    terms = pair.terms()
    pair.reach("one", terms, "nothing more")
    for side in (pair.seller, pair.buyer):
        if stop == "revoke":
            side.desk.owner.revoke()
        else:
            side.desk.owner.adopt(bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"))
        with pytest.raises(WrongMandateError):
            side.desk.owner.mandate()
        side.restart()
    pair.chain.mine(8)
    for attestation in pair.attestations(terms):
        pair.buyer.desk.learn(attestation)
    (report,) = pair.buyer.desk.watch()
    assert report.action.value == "settle"
    pair.chain.mine(6)
    for side in (pair.seller, pair.buyer):
        assert [report.status.value for report in side.desk.watch()] == ["settled"]


# ---- a no


@pytest.mark.parametrize("step", ["accept", "sign", "complete", "close", "close-sign"])
def test_whoever_says_no_to_what_is_shown_has_signed_nothing_reserved_nothing_and_may_still_say_yes(pair, step):
    asked = []

    def no(summary):
        asked.append(summary)
        raise DeclinedError("it")

    terms = pair.terms()
    kinds = {"accept": "offer", "sign": "accept", "complete": "sign"}
    pair.reach("one", terms, kinds.get(step, "nothing more"))
    side = pair.seller if step in ("sign", "close-sign") else pair.buyer
    (name,) = side.store.names() or ("none",)
    calls = {
        "accept": lambda: side.desk.accept(decode_offer(pair.seller.said("one.offer")), None),
        "sign": lambda: side.desk.sign(decode_accept(pair.buyer.said("one.accept"))),
        "complete": lambda: side.desk.complete(decode_sign(pair.seller.said("one.sign"))),
        "close": lambda: side.desk.request_close(name, payout=Sats(2_000_000), rate=2_000),
        "close-sign": lambda: side.desk.answer_close(request, payout=Sats(2_000_000)),
    }
    if step == "close-sign":
        request = pair.buyer.desk.request_close(name, payout=Sats(2_000_000), rate=2_000)
    side.show = no
    side.restart()
    before = side.facts()
    with pytest.raises(DeclinedError):
        calls[step]()
    assert side.facts() == before
    (shown,) = asked
    assert isinstance(shown, CloseSummary if "close" in step else Summary)
    assert shown.mandate == 1
    side.show = asked.append
    side.restart()
    assert calls[step]()


# ---- the owner's file


@pytest.fixture
def owner(tmp_path):
    return Owner(PartyStore(tmp_path / "party"), Keystore(bytes([7]) * 32))


def install(owner, secret=IDENTITY_SECRET, **changes):
    owner.install(sign_mandate(narrow_mandate(**changes), secret))


def test_a_number_serves_one_mandate_and_the_same_one_again_changes_nothing(owner):
    owner.adopt(IDENTITY)
    install(owner)
    install(owner)
    assert owner.next_number() == 2
    with pytest.raises(WrongMandateError):
        install(owner, unbidden=True)
    install(owner, number=2, unbidden=True)
    with pytest.raises(WrongMandateError):
        install(owner)
    assert owner.mandate().mandate.number == 2


def test_a_mandate_that_cannot_be_read_is_revoked_all_the_same_and_its_number_is_used_up(owner, tmp_path):
    owner.adopt(IDENTITY)
    install(owner, number=3)
    (tmp_path / "party" / "mandate.json").write_bytes(b"\x00")
    assert owner.revoke() == 3
    with pytest.raises(WrongMandateError):
        install(owner, number=3)
    install(owner, number=4)


def test_where_there_is_no_mandate_there_is_nothing_to_revoke(owner):
    owner.adopt(IDENTITY)
    with pytest.raises(WrongMandateError):
        owner.revoke()


def test_a_new_identity_s_first_mandate_has_the_next_number(owner):
    owner.adopt(IDENTITY)
    install(owner)
    own(owner, narrow_mandate(), OTHER_SECRET)
    assert owner.mandate().mandate.number == 2


# ---- identities


@pytest.fixture
def cheap(monkeypatch):
    monkeypatch.setattr("btcfi.adapters.keystore.SCRYPT_N", LEAST_N)


@pytest.mark.parametrize("at", ["adopt", "first rename", "second rename"])
def test_a_rotation_that_ended_anywhere_goes_on_to_the_same_identity_when_it_is_asked_for_again(
    cheap, tmp_path, monkeypatch, at
):
    folder = tmp_path / "party"
    owner = Owner(PartyStore(folder), create_keystore(folder / "keystore.json", WORDS))
    first = make_identity(folder, WORDS)
    owner.adopt(first)
    with monkeypatch.context() as patched:
        renames = iter(range(1, 9))
        rename = type(folder).rename

        def fail(*_):
            raise OSError("the power went")

        def limited(path, target):
            return fail() if next(renames) == {"first rename": 1, "second rename": 2}[at] else rename(path, target)

        if at == "adopt":
            patched.setattr(Owner, "adopt", fail)
        else:
            patched.setattr(type(folder), "rename", limited)
        with pytest.raises(OSError, match="power"):
            rotate_identity(owner, folder, WORDS)
    key, _ = rotate_identity(owner, folder, WORDS)
    assert owner.pin().identity == key != first
    assert make_identity(folder, WORDS) == key
    left = {path.name for path in folder.glob("identity*.json")}
    assert left == {IDENTITY_FILE, "identity-1.json"}


def test_an_identity_is_not_the_party_s_keystore_and_signs_as_nobody_else(cheap, tmp_path):
    party = create_keystore(tmp_path / "keystore.json", WORDS)
    key = make_identity(tmp_path, WORDS)
    assert make_identity(tmp_path, WORDS) == key
    assert key != public_key_xonly(party.identity_secret())
    with pytest.raises(BtcfiError):
        make_identity(tmp_path, "another passphrase")
