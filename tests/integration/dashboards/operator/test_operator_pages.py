"""What each page of the console says, over a real store."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import time

import pytest
from sqlmodel import select
from typer.testing import CliRunner

from btcfi.adapters.chain.node import PoolSize
from btcfi.adapters.chain.pool import FeeMarket
from btcfi.adapters.store.options.contract_tables import AttestationRow, ContractRow
from btcfi.adapters.store.options.tables import OptionRow, SettlementRequestRow, SettlementRow
from btcfi.adapters.store.prices.tables import QuoteRow, RoundRow
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.next_blocks import InPool, next_blocks
from btcfi.bitcoin.transaction import parse_transaction
from btcfi.options.terms import OptionKind
from btcfi.proofs.settlement_proof import from_json, verify
from btcfi.surfaces.rest.errors import NoPriceError
from btcfi.units import CentsPerBtc, Height, display_txid
from btcfi.vm.program import load_program
from dashboards.operator.app import create_console
from settings.deployment import Deployment
from tests.support.console_world import GAP, csrf_of, refresh
from workers.commands import options

XSS = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


def words(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


@pytest.fixture
def client(world):
    return world.signed_in()


def test_now_counts_each_stage_and_names_the_oldest_due(world, client):
    for name in ("a", "b", "c", "d"):
        world.sell(name)
    for name in ("b", "c", "d"):
        world.fund(name)
    world.settle("c")
    world.park("d", "no coins")
    page = words(client.get("/").text)
    for part in ("Funding 1 created", "Active 1 funded", "Settled 1 final", "1 parked", "open · 39 priced, 1 void"):
        assert part in page, part
    assert "fresh: 7 s ago" in page
    assert "100 block" in page
    world.now += 301
    assert "stale: 5 min 8 s old" in words(client.get("/").text)


HEBREW = "הארנק ריק"
TURNED = f"{HEBREW} \u202etxt.exe\u202c and on"


def test_a_text_of_somebody_else_stands_apart_and_turns_no_letter_around(world, client):
    world.sell("a")
    world.fund("a")
    world.park("a", TURNED)
    with world.store.transaction() as session:
        session.get_one(OptionRow, "a").last_error = TURNED
    for path in ("/operate", "/options/a", "/settlements/st-a"):
        page = client.get(path).text
        assert page.count(HEBREW) == page.count(f"<bdi>{HEBREW} \\u202etxt.exe\\u202c and on</bdi>") > 0, path
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", page), path


def test_each_cell_of_a_list_names_its_column_for_a_phone(world, client):
    world.sell("a")
    world.fund("a")
    world.settle("a")
    for path in ("/", "/prices", "/options", "/settlements", "/operate"):
        table = re.search(r'<table class="rows.*?</table>', client.get(path).text, re.DOTALL)[0]
        columns = [words(one).strip() for one in re.findall(r"<th scope=\"col\".*?</th>", table)]
        rows = re.findall(r"<tr[^>]*><t[dh][^>]*(?:class=\"pick\"|scope=\"row\").*?</tr>", table, re.DOTALL)
        assert rows, path
        for row in rows:
            labels = [html.unescape(one) for one in re.findall(r'<td data-label="([^"]+)"', row)]
            assert labels == [one for one in columns if one != "Select"][1:], path


def test_now_of_an_empty_store_says_what_will_come(world, client):
    with world.store.transaction() as session:
        for table in (QuoteRow, RoundRow):
            for row in session.exec(select(table)).all():
                session.delete(row)
    page = words(client.get("/").text)
    assert "none yet No minute has been priced" in page
    for path, said in (
        ("/prices", "No round yet"), ("/options", "No option has been written yet"),
        ("/settlements", "Nothing has been settled yet"), ("/risk", "No price yet"), ("/operate", "Nothing is parked"),
        ("/fees", "No settlement waits for a block"), ("/disputes", "No disputed contract is under watch"),
        ("/options/new", "has no agreed price yet"),
    ):  # fmt: skip
        assert said in words(client.get(path).text), path


def test_the_charts_data_has_each_venue_the_band_and_the_reason_of_a_drop(client):
    data = client.get("/prices/data?span=1h").json()
    assert len(data["slots"]) == len(data["agreed"]) == 40
    assert {one["name"] for one in data["venues"]} == set(Deployment.model_fields["venues"].default)
    assert data["agreed"][GAP] is None
    columns = zip(data["low"], data["agreed"], data["high"], strict=True)
    assert all(low <= price <= high for low, price, high in columns if price)
    assert client.get("/prices/data?span=1y").status_code == 422


def test_a_minute_is_replayed_from_its_evidence_and_a_changed_response_is_found(world, client):
    with world.store.reading() as session:
        row = session.exec(select(RoundRow).where(RoundRow.state == "priced").order_by(RoundRow.slot)).first()
        quote = session.exec(select(QuoteRow).where(QuoteRow.slot == row.slot)).first()
        raw = bytes(session.get(BlobRow, quote.evidence_sha256).body)
    page = client.get(f"/prices/{row.slot}").text
    assert quote.evidence_sha256 in page
    got = client.get(f"/prices/{row.slot}/evidence/{quote.evidence_sha256}")
    assert got.content == raw
    assert "attachment" in got.headers["content-disposition"]
    form = {"csrf": csrf_of(client)}
    assert "The same, byte for byte" in client.post(f"/prices/{row.slot}/replay", data=form).text
    with world.store.transaction() as session:
        session.get(BlobRow, quote.evidence_sha256).body = raw.replace(b"1", b"2")
    refused = client.post(f"/prices/{row.slot}/replay", data=form).text
    assert "does not give the stored price" in refused
    assert "was changed" in refused
    assert world.audited()[-2:] == [("ada", "round.replay", "done"), ("ada", "round.replay", "failed")]


def test_a_void_minute_says_why(world, client):
    with world.store.reading() as session:
        slot = session.exec(select(RoundRow.slot).where(RoundRow.state == "void")).one()
    page = words(client.get(f"/prices/{slot}").text)
    assert "Void because" in page
    assert page.count("absent") + page.count("dropped") >= 3


def test_evidence_of_another_minute_and_what_is_no_evidence_are_not_given_away(world, client):
    world.sell("one")
    world.fund("one")
    world.settle("one")
    with world.store.reading() as session:
        slots = session.exec(select(RoundRow.slot).order_by(RoundRow.slot)).all()
        theirs = session.exec(select(QuoteRow.evidence_sha256).where(QuoteRow.slot == slots[1])).first()
        proof = session.exec(select(OptionRow)).first()
    digest = client.get("/settlements/st-one/proof").headers["etag"].strip('"')
    assert proof is not None
    for path in (f"{slots[0]}/evidence/{theirs}", f"{slots[0]}/evidence/{digest}", f"{slots[0]}/evidence/{'0' * 64}"):
        assert client.get(f"/prices/{path}").status_code == 404
    for path in (f"{slots[0]}/evidence/..%2f..%2fetc%2fpasswd", "x/evidence/" + "0" * 64, "99999999999/evidence/x"):
        assert client.get(f"/prices/{path}").status_code in {404, 422}


@pytest.mark.parametrize(
    "path",
    [
        "/settlements/../../etc/passwd/proof", "/settlements/..%2f..%2f..%2fetc%2fpasswd/proof",
        "/settlements/%2e%2e/proof", "/settlements/....//proof", "/settlements/st-none/proof",
        "/settlements/st%00/proof", "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py",
        "/static//etc/passwd", "/static/vendor/../../gate.py", "/options/..%2f..%2fetc%2fpasswd",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file_of_the_machine(client, path):
    request = client.build_request("GET", "http://console.test/")
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = client.send(request, follow_redirects=False)
    assert answer.status_code in {400, 404, 422}, answer.text
    assert "root:" not in answer.text
    assert "import" not in answer.text


def test_the_form_quotes_as_the_sale_then_charges_and_pressing_twice_sells_one(world, client):
    fields = {"kind": "put", "strike": "60,100.50", "quantity": "0.25", "expires": "2", "unit": "hours"}
    quoted = client.get("/options/quote", params=fields).text
    premium = re.search(r"\$[\d,]+\.\d\d", quoted)[0]
    assert "<polyline" in quoted
    page = client.get("/options/new").text
    form = fields | {"csrf": csrf_of(client), "order": re.search(r'name="order" value="(\w+)"', page)[1]}
    form["quote"] = re.search(r'name="quote" value="([^"]+)"', quoted)[1]
    first = client.post("/options", data=form, follow_redirects=False)
    again = client.post("/options", data=form, follow_redirects=False)
    assert first.status_code == again.status_code == 303
    assert first.headers["location"] == again.headers["location"]
    with world.store.reading() as session:
        (row,) = session.exec(select(OptionRow)).all()
    assert (row.kind, row.strike_cents, row.quantity_centi_btc) == (OptionKind.PUT, 6_010_050, 25)
    assert f"${row.premium_cents / 100:,.2f}" == premium
    assert row.expiry_unix == (world.now // 60 + 120) * 60
    assert ("ada", "option.create", "done") in world.audited()
    assert premium in client.get(first.headers["location"]).text


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("strike", "abc", "strike"), ("strike", "", "strike"), ("strike", "1e999999999", "strike"),
        ("strike", "-5", "strike"), ("strike", "60000.001", "strike"), ("strike", "nan", "strike"),
        ("quantity", "0", "quantity"), ("quantity", "99999999999", "quantity"), ("expires", "0", "expiry"),
        ("expires", "1e9", "expiry"), ("unit", "years", "expiry"), ("kind", "straddle", "kind"),
        ("barrier", "0", "barrier"), ("strike", "\u0666\u0660x", "strike"), ("fixing", "twap:61", "fixing"),
        ("fixing", "twap:60", "expiry"),  # its window begins before the next minute's end
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_and_nothing_is_sold(world, client, field, value, said):
    fields = {"kind": "call", "strike": "60000", "quantity": "0.1", "expires": "60", "unit": "minutes", field: value}
    assert f"No quote. {said}" in words(client.get("/options/quote", params=fields).text)
    answer = client.post("/options", data=fields | {"csrf": csrf_of(client), "order": "0" * 32})
    assert answer.status_code == 422
    assert said in answer.text
    with world.store.reading() as session:
        assert session.exec(select(OptionRow)).all() == []


def test_a_sale_that_fails_inside_says_no_more_than_that(world):
    def fails(_order):
        raise NoPriceError("no minute has been priced")

    api = dataclasses.replace(world.deps.api, create_option=fails)
    world.app = create_console(dataclasses.replace(world.deps, api=api))
    client = world.signed_in()
    fields = {"kind": "call", "strike": "60000", "quantity": "0.1", "expires": "60", "unit": "minutes"}
    shown = re.search(r'name="quote" value="([^"]+)"', client.get("/options/quote", params=fields).text)[1]
    answer = client.post("/options", data=fields | {"csrf": csrf_of(client), "order": "0" * 32, "quote": shown})
    assert answer.status_code == 503
    assert "60000" in answer.text, "what was typed is still there"


def test_lists_filter_and_page_newest_first_without_losing_any(world, client):

    limits = dataclasses.replace(world.deps.limits, page=4)
    world.app = create_console(dataclasses.replace(world.deps, limits=limits))
    client = world.signed_in()
    for n in range(11):
        world.sell(f"opt-{n:02d}", kind=OptionKind(n % 2), strike=CentsPerBtc(6_000_000))
        world.now += 3 * (n % 3 == 0)
    seen, path = [], "/options"
    while path:
        page = client.get(path).text
        seen += re.findall(r'class="id">(opt-\d\d)<', page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = html.unescape(following[1]) if following else None
    assert sorted(seen) == [f"opt-{n:02d}" for n in range(11)]
    assert seen[0] == "opt-10"
    assert len(set(seen)) == 11
    assert "opt-09" in client.get("/options?kind=put").text
    assert "opt-02" not in client.get("/options?kind=put&id=opt-0").text
    assert "No option matches" in client.get("/options?style=american").text
    for bad in ("?state=NOPE", "?kind=x", "?style=x", "?cursor=%3Cscript%3E", "?cursor=" + "A" * 500):
        assert client.get("/options" + bad).status_code == 422


def test_one_options_life_leads_from_the_sale_to_the_proof_and_the_attestation(world, client):
    world.sell("one", american=True)
    refresh(world)
    assert "per BTC" in client.get("/options/one").text
    world.fund("one")
    world.settle("one")
    with world.store.transaction() as session:
        session.add(
            ContractRow(
                option_id="one", event_id="ee" * 32, expiry_height=10, refund_height=20, order="{}", state="funded",
                created_at_unix=world.now, updated_at_unix=world.now,
            )
        )  # fmt: skip
        session.add(
            AttestationRow(
                oracle_key="ab" * 32, event_id="ee" * 32, outcome=60_000, body='{"s": 1}', claimed_at_unix=world.now
            )
        )
    page = client.get("/options/one").text
    said = words(page)
    for part in ("quoted and sold", "created", "active", "proven", "confirmed", "6 confirmations", "attested"):
        assert part in said, part
    assert 'href="/settlements/st-one/proof"' in page
    txid = re.search(r'href="/transactions/([0-9a-f]{64})"', page)[1]
    raw = bytes.fromhex(client.get(f"/transactions/{txid}").text)
    assert display_txid(parse_transaction(raw).txid) == txid
    assert client.get(f"/transactions/{'0' * 64}").status_code == 404
    assert "buyer" in said or "output" in said
    assert client.get(f"/options/one/attestation/{'ab' * 32}").json() == {"s": 1}
    assert client.get(f"/options/one/attestation/{'cd' * 32}").status_code == 404


def test_a_proof_is_taken_apart_verified_in_place_and_downloads_byte_for_byte(world, client):
    world.sell("one")
    world.fund("one")
    world.settle("one", 6_100_000)
    page = client.get("/settlements/st-one").text
    file = client.get("/settlements/st-one/proof").content
    proof = from_json(file)
    verify(proof, load_program(proof.program_name))
    for digest in (proof.proof_root, proof.execution_trace_root, proof.input_commitment, proof.final_state_hash):
        assert digest.hex() in page
    assert "the payout is $200.00" in words(page)
    with world.store.reading() as session:
        row = session.get_one(SettlementRow, "st-one")
    assert f"computed {row.payout_sats:,}" in words(page)
    assert f"{row.paid_sats:,} sats" in words(page)
    assert "fees: its own 500 sats" in words(page)
    listed = words(client.get("/settlements").text)
    assert ("Computed, sats" in listed, "Paid, sats" in listed) == (True, True)
    verified = client.post("/settlements/st-one/verify", data={"csrf": csrf_of(client)}).text
    assert "It holds" in verified
    last = proof.steps - 1
    for n in (0, 1, last):
        step = client.get(f"/settlements/st-one/step?n={n}").text
        assert proof.execution_trace_root.hex() in step
        assert "It ends in the trace root" in step
    assert "ecall" in client.get(f"/settlements/st-one/step?n={last}").text
    for n in (proof.steps, -1, "x", 2**33):
        assert client.get(f"/settlements/st-one/step?n={n}").status_code == 422


def test_a_proof_that_was_changed_in_the_store_does_not_verify(world, client):
    world.sell("one")
    world.fund("one")
    world.settle("one")
    digest = client.get("/settlements/st-one/proof").headers["etag"].strip('"')
    with world.store.transaction() as session:
        blob = session.get(BlobRow, digest)
        proof = json.loads(blob.body)
        proof["steps"] = int(proof["steps"]) + 1 if "steps" in proof else 0
        blob.body = json.dumps(proof).encode()
    answer = client.post("/settlements/st-one/verify", data={"csrf": csrf_of(client)})
    assert "It does not hold" in answer.text
    assert world.audited()[-1] == ("ada", "proof.verify", "failed")
    with world.store.transaction() as session:
        session.get(BlobRow, digest).body = b"not even JSON"
    assert client.get("/settlements/st-one").status_code == 200
    assert client.get("/settlements/st-one/step?n=0").status_code == 422


def test_a_settlement_without_a_proof_says_that_it_will_come(world, client):
    world.sell("one")
    world.park("one", "no coins")
    page = words(client.get("/settlements/st-one").text)
    assert "Not proven yet" in page
    assert "Parked after 5 attempts. no coins" in page
    assert client.get("/settlements/st-one/proof").status_code == 404


def test_unknown_ids_and_pages_are_not_here(client):
    for path in ("/options/none", "/settlements/none", "/prices/60", "/nope", "/settlements/none/step?n=0"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "Not here" in answer.text


def test_what_waits_for_a_block_stands_by_its_refund_height_and_the_next_blocks_beside_it(world):
    for name in ("a", "b"):
        world.sell(name)
        world.fund(name)
        world.settle(name)
    with world.store.transaction() as session:
        for name, refund, state in (("a", 1_100, "broadcast"), ("b", 1_050, "proven")):
            session.get_one(OptionRow, name).refund_height = refund
            session.get_one(OptionRow, name).expiry_height = 0
            session.get_one(SettlementRow, f"st-{name}").state = state
    market = FeeMarket(
        tip=Height(9), size=PoolSize(transactions=1, vsize=300, relay_fee=SatsPerKvb(1_000)), estimates={2: None},
        blocks=next_blocks([InPool(vsize=300, rate=SatsPerKvb(4_321))]),
    )  # fmt: skip
    api = dataclasses.replace(world.deps.api, pool=lambda: market)
    world.app = create_console(dataclasses.replace(world.deps, api=api))
    page = world.signed_in().get("/fees").text
    deadlines, blocks = re.findall(r'<table class="rows.*?</table>', page, re.DOTALL)
    assert re.findall(r'<th scope="row" class="num">(.*?)</th>', deadlines) == ["1,050", "1,100"]
    assert re.findall(r'data-label="In flight" class="num">(.*?)</td>', deadlines) == ["0", "1"]
    assert "4,321" in blocks
    for table in (deadlines, blocks):
        columns = [words(one).strip() for one in re.findall(r"<th scope=\"col\".*?</th>", table)]
        for row in re.findall(r"<tr><th scope=\"row\".*?</tr>", table, re.DOTALL):
            assert re.findall(r'<td data-label="([^"]+)"', row) == columns[1:]


def test_risk_is_computed_beside_the_page(world, client):

    for n in range(3):
        world.sell(f"opt-{n}", strike=CentsPerBtc(5_900_000 + 50_000 * n))
        world.fund(f"opt-{n}")
    world.sell("unfunded")
    page = client.get("/risk").text
    deadline = time.monotonic() + 30
    while "Stress" not in page and time.monotonic() < deadline:
        time.sleep(0.1)
        page = client.get("/risk/body").text
    said = words(page)
    assert "3 funded options" in said
    assert "Expected shortfall $" in said
    assert "mean loss of the worst 3 %" in said
    assert "38 past returns" in said
    assert len(re.findall(r"<td class=\"num", page)) == 27


def test_risk_is_never_that_of_a_book_to_which_something_was_added_since(world, client):
    """Within one minute: what was computed before an option was funded is shown no more."""

    def computed():
        deadline = time.monotonic() + 30
        page = client.get("/risk/body").text
        while "Value" not in page and time.monotonic() < deadline:
            time.sleep(0.1)
            page = client.get("/risk/body").text
        return words(page)

    world.sell("one")
    world.fund("one")
    assert "1 funded option at" in computed()
    world.sell("two")
    world.fund("two")
    at_once = words(client.get("/risk/body").text)
    assert "1 funded option" not in at_once
    assert "2 funded options at" in computed()


def test_text_from_outside_is_shown_as_text_wherever_it_lands(world, client):
    world.sell("<b>'\"&x", american=True)
    name = "<b>'\"&x"
    with world.store.transaction() as session:
        row = session.get_one(OptionRow, name)
        row.last_error, row.state = XSS, "ACTIVE"
        session.add(
            SettlementRequestRow(
                option_id=name, state="held", requested_by=XSS, requested_at_unix=world.now, answer=XSS
            )
        )
        priced = session.exec(select(RoundRow).where(RoundRow.state == "priced").order_by(RoundRow.slot.desc())).first()
        report = json.loads(priced.report)
        report["absent"] = [{"venue": XSS, "reason": XSS, "detail": XSS}]
        report["dropped"] = [
            {
                "venue": XSS, "reason": XSS, "close": 1, "dollars": 1, "deviation_bps": 1, "limit_bps": 1,
                "evidence": XSS, "reference": 1,
            }
        ]  # fmt: skip
        priced.report = json.dumps(report)
        slot = priced.slot
    world.sell("two")
    world.park("two", XSS)
    form = {"csrf": csrf_of(client), "by": "ids", "one": "<script>alert(1)</script>"}
    tried = client.post("/operate/settle/try", data=form)
    refused = client.post("/operate/settle", data={**form, "id": XSS, "confirm": XSS})
    client.post("/operate/feed", data={"csrf": form["csrf"], "do": "pause", "confirm": XSS})
    quote = client.get("/options/quote", params={"kind": XSS, "strike": XSS, "quantity": XSS})
    pages = [tried, refused, quote, client.get("/options", params={"id": XSS}), client.get("/nope" + XSS)]
    pages += [client.get("/options", params={"state": XSS}), client.get("/sign-in", params={"to": XSS})]
    pages += [client.get(path) for path in ("/", "/options", "/operate", "/prices", f"/prices/{slot}")]
    pages += [client.get("/options/%3Cb%3E'%22&x"), client.get("/settlements/st-two"), client.get("/settlements")]
    for page in pages:
        assert "<script>alert" not in page.text, page.url
        assert "<img" not in page.text, page.url
        assert "<b>" not in page.text, page.url
    assert sum("&lt;script&gt;alert" in page.text for page in pages) >= 8


def test_the_command_line_says_the_same_two_amounts_as_the_page(world, client, tmp_path, monkeypatch):
    world.sell("one")
    world.fund("one")
    world.settle("one", 6_100_000)
    monkeypatch.setenv("DATABASE_URL", str(world.store.engine.url))
    shown = json.loads(CliRunner().invoke(options.app, ["show", "one", "--json"]).stdout)
    page = words(client.get("/settlements/st-one").text)
    assert f"computed {shown['payout_sats']:,}" in page
    assert f"{shown['paid_sats']:,} sats" in page
    parts = [shown[f"{name}_sats"] for name in ("paid", "returned", "anchor", "fee")]
    assert sum(parts) == shown["collateral_sats"]
    assert f"paid_sats: {shown['paid_sats']}" in CliRunner().invoke(options.app, ["show", "one"]).stdout
