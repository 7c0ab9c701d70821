"""Anybody has a contract checked: from files, and from what the service keeps of an option that is nobody's secret."""

from __future__ import annotations

import copy
import json
import re
from html import unescape

import pytest
from sqlmodel import delete

from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options.contract_tables import AttestationRow
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.contracts.cooperative import build_close
from btcfi.proofs.settlement_proof import from_json, to_json
from btcfi.proofs.subtrees import prove
from btcfi.proofs.table_file import prove_with_table, table_to_json
from btcfi.units import display_txid
from btcfi.vm.program import hashes_of, load_program_by_hash
from dashboards.trader.deps import DeskLimits
from tests.support.contracts import Scene
from tests.support.desk_world import desk_world
from tests.support.early_close import close_early
from tests.support.stored_contract import dealt, keep

JSON = {"content-type": "application/json"}


@pytest.fixture
def desk(tmp_path):
    with desk_world(tmp_path) as made:
        yield made


def words(answer) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", answer.text)))


def bring(desk, *files, **given):
    body = (
        files[0] if isinstance(files[0], bytes) else json.dumps(files[0] if len(files) == 1 else list(files)).encode()
    )
    return desk.client.post("/desk/verify", content=body, headers=JSON, **given)


def results(answer) -> list[tuple[str, str]]:
    """Each check with its result, in order."""
    rows = re.findall(r'<th scope="row">([^<]+)</th><td data-label="Result">.*?</span> ([a-z ]+)</span>', answer.text)
    return [(name, said) for name, said in rows]


@pytest.mark.parametrize("by", ["id", "funding", "payout", "address"])
def test_a_stored_contract_is_rebuilt_and_each_check_says_on_whose_word(desk, by):
    deal = dealt()
    keep(desk.world.store, deal)
    text = {
        "id": "deal", "funding": deal.txid, "payout": display_txid(deal.cet.txid).upper(), "address": None,
    }[by]  # fmt: skip
    if text is None:
        with desk.world.store.reading() as session:
            from btcfi.adapters.store.options.views import option  # noqa: PLC0415 - here alone

            text = option(session, "deal").address
        answer = desk.get("/search", params={"q": text}, follow_redirects=False)
        assert answer.headers["location"] == "/desk/verify?id=deal"
        return
    answer = desk.client.post("/desk/verify", data={"text": f" {text} "})
    assert answer.status_code == 200
    assert results(answer) == [(name, "holds") for name in ("Contract", "Funding", "Oracles", "Payout", "Proof")]
    said = words(answer)
    assert "It holds." in said
    assert "It paid: who bought it gets" in said
    assert "151 deep" in said
    for source in ("messages, kept here", "node", "signatures, kept here", "run again here"):
        assert source in said, source
    assert words(desk.get("/verify", params={"id": text})).count("holds") == said.count("holds"), "a link says the same"


def test_a_contract_is_found_by_its_address_behind_any_number_of_newer_ones_by_who_may_see_it(desk):
    keep(desk.world.store, dealt())
    bob = desk.join("bob-1")
    with desk.world.store.transaction() as session:
        old = session.get_one(OptionRow, "deal")
        columns = old.model_dump() | {"address": None, "created_at_unix": old.created_at_unix + 1}
        session.add_all(OptionRow(**columns | {"id": f"newer-{n}"}) for n in range(2_001))
        address = old.address
    found = desk.get("/search", params={"q": address.upper()}, follow_redirects=False)
    assert found.headers["location"] == "/desk/verify?id=deal"
    with desk.world.store.transaction() as session:
        theirs = session.get_one(OptionRow, "deal")
        theirs.writer, theirs.holder, theirs.take_id = "11" * 32, bob.identity.hex(), "cd" * 32
    assert desk.get("/search", params={"q": address}).status_code == 404
    mine = desk.sign_in(bob).get("/desk/search", params={"q": address}, follow_redirects=False)
    assert mine.headers["location"] == "/desk/verify?id=deal"


def test_an_option_that_ended_below_its_strike_expired_worthless(desk):
    keep(desk.world.store, dealt(9_000_000))
    answer = desk.get("/verify", params={"id": "deal"})
    assert "It expired worthless: who bought it gets nothing" in words(answer)
    assert {said for _, said in results(answer)} == {"holds"}


def test_files_are_checked_without_the_store_and_a_changed_one_does_not_hold(desk, monkeypatch):
    deal = dealt()
    monkeypatch.setattr(type(desk.world.store), "reading", None)
    answer = bring(desk, *deal.files(), json.loads(deal.proof))
    assert results(answer) == [("Contract", "holds"), ("Proof", "holds"), ("Oracles", "holds")]
    assert "your files" in answer.text
    assert "signed by both sides" in words(answer)
    changed = copy.deepcopy(deal.files())
    changed[0]["premium_sats"] = changed[0].get("premium_sats", 0) + 1
    assert results(bring(desk, *changed))[0] == ("Contract", "does not hold")
    lied = copy.deepcopy(deal.files())
    lied[-1]["outcome"] += 1
    assert ("Oracles", "does not hold") in results(bring(desk, *lied))


def test_one_proof_file_is_checked_byte_for_byte(desk):
    proof = dealt().proof
    answer = bring(desk, proof)
    assert results(answer) == [("Proof", "holds")]
    assert "the payout is" in words(answer)
    assert results(desk.client.post("/desk/verify", data={"text": proof.decode()})) == [("Proof", "holds")]
    other = json.loads(proof) | {"steps": json.loads(proof)["steps"] + 1}
    assert results(bring(desk, other)) == [("Proof", "does not hold")]
    spaced = json.dumps(json.loads(proof)).encode()
    assert results(bring(desk, spaced)) == [("Proof", "does not hold")], "as btcfi verify says of it"


def test_what_is_kept_and_does_not_fit_is_named(desk):
    deal, other = dealt(), dealt(9_000_000)
    keep(desk.world.store, deal)
    with desk.world.store.transaction() as session:
        row = session.get_one(TransactionRow, display_txid(deal.cet.txid))
        row.raw_hex = other.cet.to_bytes().hex()
    answer = desk.get("/verify", params={"id": "deal"})
    assert ("Payout", "does not hold") in results(answer)
    assert "It does not hold." in words(answer)


def test_what_is_said_to_have_closed_an_option_early_is_no_payout_without_the_signature_of_both(desk):
    deal = dealt()
    keep(desk.world.store, deal, state="ACTIVE")
    with desk.world.store.transaction() as session:
        session.delete(session.get_one(SettlementRow, "st-deal"))
        session.delete(session.get_one(TransactionRow, display_txid(deal.cet.txid)))
        session.exec(delete(AttestationRow))
    agreement = deal.scene.run()[0]
    closed = build_close(agreement.plan.contract, agreement.plan.funding, payout=400_000, rate=2_000).transaction
    txid, raw = display_txid(closed.txid), closed.to_bytes()
    close_early(desk.world.store, "deal", paid=400_000, now=desk.world.now, txid=txid, raw=raw)
    answer = desk.get("/verify", params={"id": "deal"})
    assert ("Payout", "does not hold") in results(answer)
    said = words(answer)
    assert "has not the one signature of both sides" in said
    assert "Nothing has been paid out yet" not in said
    assert "There is no proof yet" not in said


def test_a_proof_of_another_price_or_contract_is_not_this_ones(desk):
    deal, other = dealt(), dealt(9_000_000)
    keep(desk.world.store, type(deal)(**vars(deal) | {"proof": other.proof}))
    answer = desk.get("/verify", params={"id": "deal"})
    assert results(answer)[-1] == ("Proof", "does not hold")
    assert "of another price than the contract's" in words(answer)


def test_a_proof_that_is_dropped_with_a_contract_of_other_terms_or_another_price_does_not_hold(desk):
    deal, other = dealt(), dealt(9_000_000)
    answer = bring(desk, *deal.files(), json.loads(other.proof))
    assert ("Proof", "does not hold") in results(answer)
    assert "It does not hold." in words(answer)
    assert "of another price than the contract's" in words(answer)
    unsaid = bring(desk, *deal.said.values(), json.loads(deal.proof))
    assert ("Proof", "holds") in results(unsaid)
    assert "Enough oracles' word on its price is not here." in words(unsaid)


def test_a_sound_proof_of_what_another_program_makes_of_the_same_terms_is_not_this_contracts(desk):
    deal = dealt()
    given = from_json(deal.proof).input_bytes
    retired = next(one for one in hashes_of("option_settlement") if one != from_json(deal.proof).program_hash)
    other = to_json(prove(load_program_by_hash(retired.hex()), given)).encode()
    assert results(bring(desk, other)) == [("Proof", "holds")], "alone it is what it says"
    answer = bring(desk, *deal.files(), json.loads(other))
    assert ("Proof", "does not hold") in results(answer)
    assert "of another program than the contract's" in words(answer)
    keep(desk.world.store, type(deal)(**vars(deal) | {"proof": other}))
    assert results(desk.get("/verify", params={"id": "deal"}))[-1] == ("Proof", "does not hold")


def test_a_proof_with_a_table_of_memory_is_run_again_as_any_other(desk):
    deal = dealt()
    proof = from_json(deal.proof)
    table = table_to_json(prove_with_table(load_program_by_hash(proof.program_hash.hex()), proof.input_bytes)).encode()
    answer = bring(desk, table)
    assert results(answer) == [("Proof", "holds")]
    assert "the payout is" in words(answer)
    assert ("Proof", "holds") in results(bring(desk, *deal.files(), json.loads(table)))


def test_a_deal_between_two_accounts_is_found_by_nobody_as_if_it_were_not_there(desk):
    deal = dealt()
    keep(desk.world.store, deal, "t" + "ab" * 16, take_id="cd" * 32, writer="11" * 32, holder="22" * 32)
    for text in ("t" + "ab" * 16, deal.txid, display_txid(deal.cet.txid)):
        answer, nothing = desk.get("/verify", params={"id": text}), desk.get("/verify", params={"id": text[:-1] + "0"})
        assert answer.status_code == nothing.status_code == 404
        assert words(answer).replace(text, "") == words(nothing).replace(text[:-1] + "0", "")
        for page in (answer, desk.get("/search", params={"q": text})):
            assert "A deal between two accounts is theirs" in words(page)
            assert "Did one of them give you its files?" in words(page)
        assert desk.get("/search", params={"q": text}).status_code == 404
    assert results(bring(desk, *deal.files()))[0] == ("Contract", "holds"), "but whoever has its files shows them"


def test_where_a_stranger_reads_no_option_at_the_api_none_is_read_here(tmp_path):
    with desk_world(tmp_path, anonymous_roles=frozenset()) as desk:
        keep(desk.world.store, dealt())
        assert desk.get("/verify", params={"id": "deal"}).status_code == 422
        assert desk.get("/search", params={"q": "deal"}).status_code == 404
        assert desk.get("/").status_code == 200, "the market is public"
        assert results(bring(desk, dealt().proof)) == [("Proof", "holds")]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[]", "1 to 24 JSON files"), (b"[" + b"{}," * 24 + b"{}]", "1 to 24 JSON files"), (b"{}", "file 1"),
        (b"nonsense", "is not JSON"), (b'{"a":1,"a":2}', "twice"), (b"[" * 4_000, "nested"),
        (b"7", "neither an object"),
        (b'[{"type":"btcfi/offer"}]', "btcfi/accept"), (b'{"type":"btcfi/offer"}', "btcfi/accept"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_ours_is_refused_in_one_line(desk, body, said):
    answer = desk.client.post("/desk/verify", content=body, headers=JSON)
    assert answer.status_code == 422
    assert "Nothing was checked." in words(answer)
    assert said in words(answer)


def test_a_text_from_outside_is_shown_as_text(desk):
    for path in ("/verify?id=", "/search?q="):
        assert "<img" not in desk.get(f"{path}<img src=x>").text
    assert "<script>alert" not in bring(desk, {"type": "<script>alert(1)</script>"}).text


def test_a_form_of_another_site_and_a_body_that_is_too_large_are_refused(tmp_path):
    with desk_world(tmp_path, limits=DeskLimits(documents_bytes=1_000, requests_per_minute=10**6)) as desk:
        assert bring(desk, b" " * 2_000).status_code == 413
        assert desk.client.post("/desk/verify", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
        foreign = {"origin": "http://elsewhere.test"}
        assert desk.client.post("/desk/verify", data={"text": "deal"}, headers=foreign).status_code == 403


def test_an_option_without_messages_has_nothing_to_check_yet(desk):
    deal = dealt()
    keep(desk.world.store, type(deal)(**vars(deal) | {"said": {}, "attested": []}))
    assert "There is nothing to check yet." in words(desk.get("/verify", params={"id": "deal"}))


def test_scenes_of_another_program_cannot_be_checked_and_are_not_called_false(desk):
    scene = Scene(tolerance=10_000)
    from btcfi.contracts.messages import encode_accept, encode_offer  # noqa: PLC0415 - here alone

    _, accept, _, _ = scene.run()
    answer = bring(desk, encode_offer(scene.offer()), encode_accept(accept))
    assert results(answer) == [("Contract", "not yet")]
    assert "cannot be checked here" in words(answer)


@pytest.mark.parametrize("said", [
    b'[{"type": [1]}]', b'{"type": {"a": 1}}', b'[{"format": [1]}]', b'[{"type": "btcfi/offer", "n": 1.5}]', b"[1e5]",
    b"[[[1.5]]]", b'{"oracle_key": 1.5, "nonces": 0}', b'{"type": "btcfi/offer", "n": 1.5}', b"[null]", b"[[]]",
])  # fmt: skip
def test_a_file_of_any_shape_is_refused_and_is_no_failure_of_ours(desk, said):
    assert bring(desk, said).status_code in (200, 422)


@pytest.mark.parametrize("lie", [1.5, [1], {"a": 1}, "", None, 10**30, "\ud800"], ids=ascii)
def test_a_field_of_any_shape_in_any_message_is_no_failure_of_ours(desk, lie):
    whole = [*dealt().files(), json.loads(dealt().proof)]
    for place, file in enumerate(whole):
        for name in file:
            changed = [*whole[:place], file | {name: lie}, *whole[place + 1 :]]
            assert bring(desk, *changed).status_code in (200, 422), (place, name)


def test_what_can_be_dropped_can_be_pasted_without_scripts(desk):
    """A contract of the standard preset has hundreds of signatures of each side."""
    text = json.dumps(dealt().files(), indent=20)
    assert len(text) > 65_536
    answer = desk.client.post("/desk/verify", data={"text": text})
    assert results(answer)[0] == ("Contract", "holds")
