"""The page of a contract: a trader who did not run it reads what it is, or that it does not hold."""

import html
import json
import re
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from btcfi.adapters.store.options.contract_tables import ContractRow, OracleEventRow
from btcfi.adapters.store.spine.blobs import store_blob
from btcfi.contracts.buckets import bucket_of
from btcfi.contracts.messages import encode_accept, encode_announcement, encode_offer, encode_sign
from btcfi.contracts.payouts import breakpoints_of, encode_terms, guest_payouts
from btcfi.surfaces import party_cli
from btcfi.units import UnixSeconds
from btcfi.vm.program import load_program
from tests.support.contracts import COARSE, Scene, event
from tests.support.party_desk import EXPIRY, option


@pytest.fixture(scope="module")
def agreed():
    program = load_program("option_settlement")
    watched = replace(event(), program_hash=program.program_hash)
    assert watched.expiry == EXPIRY
    made = Scene(event=watched, payouts=guest_payouts(option(), program), tolerance=COARSE).with_terms(
        option=encode_terms(option()), breakpoints=breakpoints_of(option())
    )
    _, accept, sign, _ = made.run()
    return made, {"offer": encode_offer(made.offer()), "accept": encode_accept(accept), "sign": encode_sign(sign)}


def keep(world, made, messages, **changes):
    """Put a contract of option "one" into the store, as the service keeps it."""
    world.sell("one")
    now = UnixSeconds(world.now)
    with world.store.transaction() as session:
        kept = {
            f"{kind}_sha256": store_blob(session, json.dumps(body).encode(), now=now).hex()
            for kind, body in messages.items()
        }
        row = {"option_id": "one", "event_id": made.event.id.hex(), "order": "{}", "state": "funded"} | kept | changes
        session.add(ContractRow(expiry_height=200, refund_height=350, created_at_unix=now, updated_at_unix=now, **row))
        session.add(
            OracleEventRow(
                id=made.event.id.hex(), feed="BTC-USD", expiry_unix=EXPIRY, since_slot=0, created_at_unix=now,
                announcements=json.dumps([encode_announcement(one) for one in made.announcements]),
            )
        )  # fmt: skip


def words(page):
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def test_the_page_says_who_can_do_what_and_what_each_side_gets(world, agreed):
    made, messages = agreed
    keep(world, made, messages)
    client = world.signed_in("rita")
    plan = made.agreement().plan
    pays = plan.split_of(bucket_of(plan.buckets, 200_000, 18))
    assert "/options/one/contract" in client.get("/options/one").text
    said = words(client.get("/options/one/contract").text)
    for part in (
        "It holds. Signed by both sides.", "European call on 0.10 BTC, strike $100,000.00", "From block 350 on",
        "What is NOT guaranteed", "The oracles are those of the announcements that you gave.",
        f"$200,000.00 {pays.buyer:,} {pays.seller:,}",
    ):  # fmt: skip
        assert part in said, part


def test_the_messages_of_the_page_pass_the_command_at_home(world, agreed, tmp_path):
    made, messages = agreed
    keep(world, made, messages)
    client = world.signed_in("rita")
    files = []
    for kind in messages:
        files.append(tmp_path / f"{kind}.json")
        files[-1].write_bytes(client.get(f"/options/one/contract/{kind}").content)
    oracle = tmp_path / "oracle.json"
    oracle.write_text(json.dumps(encode_announcement(made.announcements[0])))
    command = ["verify", *map(str, files), "--announcement", str(oracle)]
    told = CliRunner().invoke(party_cli.app, [*command, "--json"])
    assert told.exit_code == 0
    assert json.loads(told.output)["announcements_compared"]
    assert "From block 350 on" in CliRunner().invoke(party_cli.app, command).output
    files[1].write_text(json.dumps(messages["accept"] | {"cet_adaptor_signatures": "AAAA"}))
    told = CliRunner().invoke(party_cli.app, [*command, "--json"])
    assert told.exit_code == 1
    assert json.loads(told.output)["holds"] is False


def test_a_contract_whose_signatures_were_changed_in_the_store_is_told_not_to_hold(world, agreed):
    made, messages = agreed
    keep(world, made, messages | {"sign": messages["sign"] | {"cet_adaptor_signatures": "AAAA"}})
    page = words(world.signed_in("rita").get("/options/one/contract").text)
    assert "It does not hold." in page
    assert "Signed by both" not in page


def test_an_option_without_a_contract_or_without_its_answer_says_what_will_come(world, agreed):
    made, messages = agreed
    world.sell("none")
    client = world.signed_in("rita")
    assert "No contract yet" in words(client.get("/options/none/contract").text)
    assert client.get("/options/none/contract/offer").status_code == 404
    assert client.get("/options/none/contract/keys").status_code == 422
    assert client.get("/options/nowhere/contract").status_code == 404
    keep(world, made, {"offer": messages["offer"]}, state="offered")
    assert "No contract yet" in words(client.get("/options/one/contract").text)


def test_a_stranger_sees_neither_the_page_nor_the_messages(world, agreed):
    made, messages = agreed
    keep(world, made, messages)
    for path in ("/options/one/contract", "/options/one/contract/offer"):
        assert world.client().get(path, follow_redirects=False).status_code in {303, 401}
