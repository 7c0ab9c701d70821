"""Every field of every text of a transfer: a hostile value is refused as an input, or read as exactly what it says."""

import json

import pytest

from btcfi.contracts import reopen
from btcfi.contracts.splice import Owner
from btcfi.errors import InvalidInputError
from btcfi.market import transfer, transfer_letters
from btcfi.market.transferring import OWED, Round
from tests.support.contracts import BUYER, COARSE, SELLER, Scene, coin
from tests.support.hostile_json import hostile_values, spelled
from tests.support.reopening import Reopens
from tests.support.transferring import ThreeParties, through_json

THREE = ThreeParties(
    Reopens(
        scene=Scene(tolerance=COARSE), holder_coins=(coin(22, 50_000, BUYER.script),),
        seller_coins=(coin(23, 40_000, SELLER.script),),
    )
)  # fmt: skip
DONE = THREE.run()
TAKE = DONE.deal.take_id


def word_of(said, owner):
    def read(message):
        return transfer_letters.decode_word(said, message)

    def write(worded):
        return transfer_letters.encode_word(worded.take_id, said, worded.word)

    return read, write, transfer_letters.encode_word(TAKE, said, DONE.said[said, owner])


TEXTS = {
    f"{owner.value}'s {said.value}": word_of(said, owner) for said in Round for owner in OWED[said]
    if owner is not Owner.NEWCOMER or said is not Round.HALF
} | {
    "origin": (reopen.decode_origin, reopen.encode_origin, reopen.encode_origin(DONE.statement().origin)),
    "part": (transfer.decode_part, transfer.encode_part, transfer.encode_part(THREE.part)),
    "statement": (
        lambda message: transfer_letters.decode_statement(message, DONE.deal), transfer_letters.encode_statement,
        transfer_letters.encode_statement(DONE.statement()),
    ),
    "done": (
        transfer_letters.decode_done, lambda told: transfer_letters.encode_done(*told),
        transfer_letters.encode_done(TAKE, DONE.finish()),
    ),
    "over": (
        transfer_letters.decode_over, lambda told: transfer_letters.encode_over(*told),
        transfer_letters.encode_over(TAKE, "a coin is gone"),
    ),
}  # fmt: skip


def canonical(value):
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_value_is_refused_or_read_as_exactly_what_it_says(name):
    read, write, message = TEXTS[name]
    message = through_json(message)
    assert canonical(write(read(message))) == canonical(message)
    wrong, refused = [], 0
    for at, label, hostile in hostile_values(message):
        try:
            found = read(hostile)
        except InvalidInputError as e:
            refused += 1
            if not e.expected or len(str(e)) > 1_000:
                wrong.append((spelled(name, at), label, str(e)[:200]))
            continue
        if canonical(write(found)) != canonical(hostile):
            wrong.append((spelled(name, at), label, "read as something else"))
    assert wrong == []
    assert refused
