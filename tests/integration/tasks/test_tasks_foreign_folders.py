"""What a party may leave in the folders that it shares with the service: nothing there stops the others' work."""

import json
import os

import pytest

from btcfi.contracts.messages import Role
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
    buyer = embedded.here.deployment.parties_dir / Role.BUYER.value
    assert [path.stem for path in (buyer / "bids").glob("*.json")] == ["one"]
