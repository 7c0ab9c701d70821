"""What a party may leave in the folders that it shares with the service: nothing there stops the others' work."""

import json
import os

import pytest
from sqlmodel import select

from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.spine.leases import LeaseHeldError
from btcfi.contracts.messages import Role, decode_offer, encode_accept
from tasks import contracts as exchange_tasks

pytestmark = pytest.mark.integration

LONG = "a" * 230


def a_folder(outbox):
    (outbox / "0.offer.json").mkdir()


def a_folder_that_is_carried(outbox):
    (outbox / "0.close-request.json").mkdir()


def a_name_that_is_no_text(outbox):
    (outbox / os.fsdecode(b"0\xff.offer.json")).write_text("{}")


def a_name_that_is_no_text_and_is_carried(outbox):
    (outbox / os.fsdecode(b"0\xff.close-request.json")).write_text("{}")


def a_name_with_no_room_for_more(outbox):
    (outbox / f"{LONG}.close-request.json").write_text(json.dumps({"a": 1}))


def a_name_that_is_nothing_else(outbox):
    (outbox / ".offer.json").write_text("{}")
    (outbox / "..offer.json").write_text("{}")


def a_pipe(outbox):
    os.mkfifo(outbox / "0.offer.json")


def a_link_to_nothing(outbox):
    (outbox / "0.accept.json").symlink_to("/nowhere/at/all")


def a_link_to_a_device(outbox):
    (outbox / "0.accept.json").symlink_to("/dev/zero")


def proposed(stage):
    inbox = stage.deployment.parties_dir / Role.SELLER.value / "inbox"
    return sorted(path.name.split(".")[0] for path in inbox.glob("*.proposal.json"))


@pytest.mark.parametrize(
    "leave",
    [
        a_folder, a_folder_that_is_carried, a_name_that_is_no_text, a_name_that_is_no_text_and_is_carried,
        a_name_with_no_room_for_more, a_name_that_is_nothing_else, a_pipe, a_link_to_nothing, a_link_to_a_device,
    ],
)  # fmt: skip
def test_whatever_a_party_leaves_in_its_outbox_the_other_contracts_go_on(embedded, leave):
    leave(embedded.here.deployment.parties_dir / Role.SELLER.value / "outbox")
    embedded.sell("one")
    for _ in range(3):
        exchange_tasks.exchange()
    assert proposed(embedded) == ["one"]


def states(stage):
    with stage.here.store.reading() as session:
        rows = session.exec(select(ContractRow)).all()
    return {row.option_id: row.state for row in rows}


@pytest.mark.parametrize(
    "trouble", [LeaseHeldError("anything", "another", 1), RuntimeError("whatever it is"), OSError("full")]
)
def test_a_message_that_cannot_be_taken_now_stays_for_the_next_look_and_holds_up_no_other(
    embedded, monkeypatch, trouble
):
    for name in ("one", "two"):
        embedded.sell(name)
    exchange_tasks.exchange()
    embedded.mails["seller"].round(embedded.node.block_count())
    genuine = exchange_tasks.TAKE["offer"]

    def troubled(session, option_id, message, *, now):
        if option_id == "one":
            raise trouble
        genuine(session, option_id, message, now=now)

    monkeypatch.setitem(exchange_tasks.TAKE, "offer", troubled)
    exchange_tasks.exchange()
    assert states(embedded) == {"one": "ordered", "two": "offered"}
    monkeypatch.setitem(exchange_tasks.TAKE, "offer", genuine)
    exchange_tasks.exchange()
    assert states(embedded) == {"one": "offered", "two": "offered"}


def test_a_party_that_floods_its_outbox_holds_up_no_other_and_its_own_answers_come_in_turn(embedded, monkeypatch):
    monkeypatch.setattr(exchange_tasks, "TAKE_SECONDS", 0)
    embedded.sell("one")
    exchange_tasks.exchange()
    embedded.mails["seller"].round(embedded.node.block_count())
    outbox = embedded.deployment.parties_dir / "seller" / "outbox"
    for number in range(5):
        (outbox / f"a{number}.noise.json").write_text("{}")
    assert states(embedded) == {"one": "ordered"}
    for look in range(6):  # one of the seller's files a look, the names of the flood first
        embedded.sell(f"more-{look}")
        exchange_tasks.exchange()
    assert states(embedded) == {"one": "offered"} | {f"more-{look}": "ordered" for look in range(6)}
    assert not list(outbox.glob("a*.json"))


def test_a_contract_that_cannot_be_written_down_or_proposed_holds_up_no_other(embedded, monkeypatch):
    for name in ("one", "two", "three"):
        embedded.sell(name)
    for step, troubled in (("order_contract", "one"), ("proposal_of", "two")):
        genuine = getattr(exchange_tasks.contracts, step)

        def broken(*arguments, genuine=genuine, troubled=troubled, **more):
            if any(troubled in (getattr(one, "id", None), getattr(one, "option_id", None)) for one in arguments):
                raise RuntimeError("whatever it is")
            return genuine(*arguments, **more)

        monkeypatch.setattr(exchange_tasks.contracts, step, broken)
    exchange_tasks.exchange()
    assert proposed(embedded) == ["three"]
    monkeypatch.undo()
    exchange_tasks.exchange()
    assert proposed(embedded) == ["one", "three", "two"]


def test_a_party_whose_inbox_is_no_folder_keeps_the_evidence_from_nobody_else(embedded):
    embedded.sell("one")
    embedded.fund("one")
    embedded.price(6_000_000)
    embedded.settle()
    embedded.mine(6)  # the service has settled: now the parties are told
    for role in Role:
        inbox = embedded.deployment.parties_dir / role.value / "inbox"
        inbox.rename(inbox.with_name("inbox-aside"))
        inbox.write_text("not a folder")
        exchange_tasks.exchange()
        other = embedded.deployment.parties_dir / role.other.value / "inbox"
        assert len(list(other.glob("*.attestation.json"))) == 3
        for path in other.glob("*.attestation.json"):
            path.unlink()
        inbox.unlink()
        inbox.with_name("inbox-aside").rename(inbox)
        for path in inbox.glob("*.attestation.json"):
            path.unlink()


def impersonate(stage):
    """Have the seller's process answer its own offer in the buyer's place."""
    outbox = stage.deployment.parties_dir / "seller/outbox"
    offer = json.loads((stage.deployment.parties_dir / "buyer/inbox/one.offer.json").read_text())
    accepted = stage.mails["buyer"]._desk.accept(decode_offer(offer), None)  # any keys but the buyer's would do
    (outbox / "one.accept.json").write_text(json.dumps(encode_accept(accepted)))


def test_a_party_that_answers_in_the_other_s_place_is_not_heard(embedded):
    embedded.sell("one")
    exchange_tasks.exchange()
    embedded.mails["seller"].round(embedded.node.block_count())
    exchange_tasks.exchange()
    impersonate(embedded)
    exchange_tasks.exchange()
    assert states(embedded) == {"one": "offered"}
    assert not (embedded.deployment.parties_dir / "seller/outbox/one.accept.json").exists()
    embedded.fund("one")


@pytest.mark.parametrize("room", ["inbox", "outbox"])
def test_a_folder_of_a_party_s_that_leads_elsewhere_has_nothing_put_taken_or_removed_there(embedded, room):
    data = embedded.deployment.data_dir
    (data / "proofs").mkdir(exist_ok=True)
    kept = data / "proofs" / "one.offer.json"
    kept.write_text("{}")
    mailbox = embedded.deployment.parties_dir / "seller"
    (mailbox / room).rename(mailbox / "aside")
    (mailbox / room).symlink_to(data / "proofs", target_is_directory=True)
    embedded.sell("one")
    for _ in range(2):
        exchange_tasks.exchange()
    assert [path.name for path in (data / "proofs").iterdir()] == ["one.offer.json"]
    (mailbox / room).unlink()
    (mailbox / "aside").rename(mailbox / room)
    embedded.fund("one")
