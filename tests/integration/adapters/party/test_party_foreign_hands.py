"""Whoever writes into a mailbox, or into a party's folder, and a second process of the owner's: what they cannot do."""

import json
import shutil
from dataclasses import replace

import pytest

from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.store import ChangedMeanwhileError, FolderInUseError, PartyStore
from btcfi.bitcoin.fees import FeeRule
from btcfi.contracts.messages import decode_offer, encode_attestation
from btcfi.contracts.watch import Action
from btcfi.vm.program import load_program
from tests.support.desks import PythonGuest, open_chain, open_pair

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    with open_chain(folder) as (chain, cookie):
        yield folder, chain, cookie


@pytest.fixture
def pair(world):
    folder, chain, cookie = world
    number = 1 + sum(1 for _ in folder.glob("pair-*"))
    with open_pair(folder / f"pair-{number}", chain, cookie, number) as made:
        yield made


def funded(pair):
    terms = pair.terms()
    pair.reach("one", terms, "nothing more")
    return terms


def lead(place, target):
    """Put a link in a folder's place."""
    place.rename(place.with_name("aside"))
    place.symlink_to(target, target_is_directory=True)


def private(side):
    """The files on which a party's money hangs, besides its contracts, which it writes at every block."""
    return {path.name: path.read_bytes() for path in (side.folder / "party").glob("*.json")}


# ---- the mailbox's folders


@pytest.mark.parametrize("room", ["refused", "done", "."])
def test_a_mailbox_that_leads_into_the_party_s_folder_overwrites_and_moves_nothing_there(pair, room):
    """With its keystore under a message's name, a party would have lost every coin."""
    funded(pair)
    side = pair.seller
    (side.folder / "party/keystore.json").write_text("{}")
    before = private(side)
    for name in ("keystore", "mandate"):
        side.put("inbox", name, {"type": "nonsense"})
    lead((side.folder / "inbox" / room).resolve(), side.folder / "party")
    side.round()
    assert private(side) == before
    assert not list((side.folder / "party").rglob("*.reason"))


def test_contracts_are_watched_though_the_inbox_leads_to_them(pair):
    terms = funded(pair)
    lead(pair.seller.folder / "inbox", pair.seller.folder / "party/contracts")
    pair.seller.round()
    pair.chain.mine(terms.refund_height - pair.node.block_count())
    pair.seller.round()
    (row,) = pair.seller.said("status")["contracts"]
    assert row["action"] == Action.REFUND.value


@pytest.mark.parametrize("place", ["inbox/done", "inbox/refused", "inbox", "outbox"])
def test_a_party_starts_and_watches_though_a_folder_of_its_mailbox_is_a_file(pair, place):
    terms = funded(pair)
    shutil.rmtree(pair.seller.folder / place)
    (pair.seller.folder / place).write_text("")
    pair.chain.mine(terms.refund_height - pair.node.block_count())
    pair.seller.restart()
    try:
        pair.seller.round()
    except OSError:
        assert place == "outbox"  # its status cannot be said
    (name,) = pair.seller.store.names()
    assert pair.seller.store.load(name).refunds


# ---- the party's own folder


@pytest.mark.parametrize("forge", ["another outcome", "another signature"])
def test_evidence_that_somebody_forged_in_the_folder_neither_settles_nor_keeps_the_genuine_one_out(pair, forge):
    terms = funded(pair)
    (genuine,) = pair.attestations(terms)
    forged = replace(genuine, outcome=genuine.outcome - 7)
    if forge == "another signature":
        forged = replace(genuine, signatures=tuple(one[:32] + bytes(31) + b"\x01" for one in genuine.signatures))
    kept = pair.buyer.folder / "party/attestations"
    kept.mkdir(exist_ok=True)
    (kept / f"{genuine.event.hex()}-{genuine.oracle_key.hex()}.json").write_text(json.dumps(encode_attestation(forged)))
    pair.buyer.restart()
    pair.chain.mine(terms.expiry_height + 1 - pair.node.block_count())
    pair.buyer.round()
    (row,) = pair.buyer.said("status")["contracts"]
    assert row["action"] == Action.WAIT.value
    pair.buyer.put("inbox", "genuine.attestation", encode_attestation(genuine))
    pair.buyer.round()
    (row,) = pair.buyer.said("status")["contracts"]
    assert row["action"] == Action.SETTLE.value
    assert pair.node.pool()


# ---- two processes on one folder


def beside(side):
    """The owner's command line, while the party's process runs."""
    guest = PythonGuest(load_program("option_settlement"))
    return PartyDesk(PartyStore(side.folder / "party"), side.keystore, side._client, guest, fees=FeeRule())


def test_what_a_command_has_cancelled_the_process_beside_it_neither_signs_nor_forgets(pair):
    pair.reach("one", pair.terms(), "accept")
    name = decode_offer(pair.seller.said("one.offer")).id.hex()
    cancelled = beside(pair.seller).cancel(name)
    pair.carry("one", "accept")
    assert pair.seller.said("one.sign") is None
    assert PartyStore(pair.seller.folder / "party").load(name).cancelled == cancelled


def test_of_two_processes_that_change_a_contract_at_once_the_later_writes_nothing_and_is_told_so(pair):
    pair.reach("one", pair.terms(), "accept")
    name = decode_offer(pair.seller.said("one.offer")).id.hex()
    ours = pair.seller.store.load(name)
    cancelled = beside(pair.seller).cancel(name)
    with pytest.raises(ChangedMeanwhileError):
        pair.seller.store.save(ours)
    assert PartyStore(pair.seller.folder / "party").load(name).cancelled == cancelled


def test_a_second_process_does_not_answer_for_a_party(pair):
    second = PartyStore(pair.seller.folder / "party")
    with pair.seller.store.answering(), pytest.raises(FolderInUseError), second.answering():
        pass
    with second.answering():
        pass
