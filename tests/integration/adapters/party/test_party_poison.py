"""One poisonous contract, file or message: the same process goes on to watch, to settle and to refund the others."""

import json

import pytest

from btcfi.contracts import setup
from btcfi.contracts.messages import encode_attestation
from btcfi.contracts.watch import Action, ContractStatus
from tests.support.desks import open_chain, open_pair

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    with open_chain(folder) as (chain, cookie):
        yield folder, chain, cookie


@pytest.fixture
def pair(world, request):
    folder, chain, cookie = world
    number = 1 + sum(1 for _ in folder.glob("pair-*"))
    with open_pair(folder / f"pair-{number}", chain, cookie, number) as made:
        yield made


def funded(pair, name):
    terms = pair.terms()
    pair.reach(name, terms, "nothing more")
    return terms


@pytest.mark.parametrize(
    "raised", [RuntimeError("whatever it is"), RecursionError(), MemoryError()]
)  # fmt: skip
def test_an_offer_that_brings_out_a_fault_is_moved_aside_and_the_process_that_refunds_goes_on(
    pair, monkeypatch, raised
):
    terms = funded(pair, "alive")
    pair.order("poison")
    pair.seller.round()
    genuine = setup.accept

    def broken(offer, *arguments, **more):
        if offer.terms != terms:
            raise raised
        return genuine(offer, *arguments, **more)

    monkeypatch.setattr(setup, "accept", broken)
    pair.buyer.put("inbox", "poison.offer", pair.seller.said("poison.offer"))
    (attestation,) = pair.attestations(terms)
    pair.buyer.put("inbox", "zz.attestation", encode_attestation(attestation))
    pair.chain.mine(8)
    pair.buyer.round()
    refused = pair.buyer.folder / "inbox/refused/poison.offer.reason"
    assert type(raised).__name__ in refused.read_text()
    (row,) = pair.buyer.said("status")["contracts"]
    assert row["action"] == Action.SETTLE.value
    assert len(pair.node.pool()) >= 1  # settled in the same round


@pytest.mark.parametrize("raw", [b"", b'{"number": 0}', b"[" * 100_000])
def test_a_contract_s_file_that_cannot_be_read_stops_neither_the_refund_of_another_nor_its_evidence(pair, raw):
    terms = funded(pair, "alive")
    contracts = pair.seller.folder / "party/contracts"
    (contracts / ("0" * 64 + ".json")).write_bytes(raw)
    (contracts / ("f" * 64 + ".json")).write_bytes(raw)
    pair.seller.restart()
    (attestation,) = pair.attestations(terms)
    assert pair.seller.desk.learn(attestation)
    (report,) = pair.seller.desk.watch()
    assert report.status in (ContractStatus.FUNDING, ContractStatus.ACTIVE)
    pair.buyer.restart()
    pair.chain.mine(terms.refund_height - pair.node.block_count())
    (report,) = pair.seller.desk.watch()
    assert report.action in (Action.REFUND, Action.SETTLE)


@pytest.mark.parametrize("raw", [b"", b'{"type": "btcfi/attestation", "version": 1}'])
def test_a_kept_attestation_that_cannot_be_read_hides_no_other(pair, raw):
    terms = funded(pair, "alive")
    (attestation,) = pair.attestations(terms)
    assert pair.buyer.desk.learn(attestation)
    kept = pair.buyer.folder / "party/attestations"
    (kept / "0.json").write_bytes(raw)
    pair.buyer.restart()
    assert list(pair.buyer.store.attestations().values()) == [attestation]
    pair.chain.mine(8)
    (report,) = pair.buyer.desk.watch()
    assert report.action is Action.SETTLE


def test_a_contract_whose_presignatures_are_damaged_on_the_disk_stops_no_other(pair):
    terms, damaged = funded(pair, "alive"), funded(pair, "damaged")
    for name in pair.buyer.store.names():
        path = pair.buyer.folder / f"party/contracts/{name}.json"
        stored = json.loads(path.read_text())
        if stored["offer"]["option"] == damaged.option:
            stored["sign"]["cet_adaptor_signatures"] = "AAAA"
            path.write_text(json.dumps(stored))
    pair.buyer.restart()
    (attestation,) = pair.attestations(terms)  # both are about one event
    assert pair.buyer.desk.learn(attestation)
    pair.chain.mine(8)
    by_status = {report.status: report for report in pair.buyer.desk.watch()}
    assert "WrongAdaptorError" in by_status.pop(None).note
    (report,) = by_status.values()
    assert report.action is Action.SETTLE


def test_a_file_that_cannot_be_read_keeps_no_other_contract_from_being_completed(pair):
    pair.order("one")
    pair.seller.round()
    pair.carry("one", "offer")
    pair.carry("one", "accept")
    (pair.buyer.folder / "party/contracts" / ("0" * 64 + ".json")).write_bytes(b"{")
    pair.buyer.restart()
    pair.carry("one", "sign")
    assert pair.buyer.said("one.funded")
