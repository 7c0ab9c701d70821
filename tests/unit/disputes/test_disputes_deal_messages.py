"""The messages by which a disputed contract is dealt: one form each, and what is not of it is refused by its field."""

import json

import pytest

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import OutPoint, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.setup import WrongMessageError
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled.deal import (
    Acceptance,
    Barrier,
    Deal,
    Draft,
    Kind,
    OwnSecrets,
    Payoff,
    Proposal,
    check_first,
    sign_first,
    signed,
)
from btcfi.errors import InvalidInputError
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import Hash32, Height, Sats, Txid, UnixSeconds
from tests.support.disputing import RANGES, Dispute, secret

SCRIPT = b"\x51\x20" + bytes(range(32))


def coin(number, value=30_000_000):
    outpoint = OutPoint(txid=Txid(secret("coin", number)), index=number)
    return Coin(outpoint=outpoint, output=TxOut(value=Sats(value), script=SCRIPT))


def draft(**changed):
    given = {
        "payoff": Payoff(kind=Kind.PRICE, ranges=RANGES), "events": Dispute().announcements, "threshold": 2,
        "collateral": Sats(16_000_000), "bond": Sats(2_000_000), "challenge_bond": Sats(0),
        "claim_height": Height(0), "silence_height": Height(30), "refund_height": Height(60), "dispute_blocks": 12,
        "fee": Sats(400), "premium": -5, "rate": SatsPerKvb(2_000), "valid_until": UnixSeconds(1_790_000_000),
    }  # fmt: skip
    return Draft(**given | changed)


def proposal(**changed):
    unsigned = Proposal(
        draft=draft(**changed), keys=OwnSecrets(secret("p"), 3).claimant_keys(SCRIPT), coins=(coin(0),),
        change_script=SCRIPT, identity=public_key_xonly(secret("identity")), signature=bytes(64),
    )  # fmt: skip
    return signed(unsigned, wire.proposal_id(unsigned), secret("identity"), bytes(32))


def acceptance(made):
    return Acceptance(
        proposal_id=wire.proposal_id(made), keys=OwnSecrets(secret("v"), 3).verifier_keys(SCRIPT), coins=(coin(1),),
        change_script=SCRIPT, cut=Hash32(secret("cut")),
    )  # fmt: skip


MESSAGES = {
    "proposal": (wire.encode_proposal, wire.decode_proposal, proposal()),
    "knock-out": (
        wire.encode_proposal, wire.decode_proposal,
        proposal(payoff=Payoff(
            kind=Kind.KNOCK_OUT, ranges=RANGES, barrier=Barrier(level=90_000, up=True, rebate=Sats(7))
        )),
    ),
    "acceptance": (wire.encode_acceptance, wire.decode_acceptance, acceptance(proposal())),
    "letter": (
        wire.encode_letter, wire.decode_letter,
        wire.Letter(kind=wire.OPENINGS, contract=Hash32(secret("id")), data=b"data", more=b"more"),
    ),
    "funding": (
        wire.encode_funding, wire.decode_funding,
        wire.FundingWitnesses(contract=Hash32(secret("id")), witnesses={0: (bytes(64),), 3: (bytes(71), bytes(33))}),
    ),
    "close": (
        wire.encode_close, wire.decode_close,
        wire.CloseRequest(
            contract=Hash32(secret("id")), payout=Sats(9), rate=SatsPerKvb(1_500), nonces=(bytes(66), bytes(66))
        ),
    ),
    "close answer": (
        wire.encode_close_answer, wire.decode_close_answer,
        wire.CloseAnswer(contract=Hash32(secret("id")), nonces=(bytes(66),), partials=(bytes(32),)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_says_after_the_wire_what_it_said_before(name):
    encode, decode, message = MESSAGES[name]
    assert decode(json.loads(json.dumps(encode(message)))) == message


@pytest.mark.parametrize("name", MESSAGES)
def test_a_field_that_is_missing_strange_or_of_another_kind_is_refused_by_name(name):
    encode, decode, message = MESSAGES[name]
    form = json.loads(json.dumps(encode(message)))
    for field in form:
        with pytest.raises(InvalidInputError):
            decode({key: value for key, value in form.items() if key != field})
        for wrong in (None, [], {}, "zz", -1, 1.5, 2**70, True, [None], [[]]):
            if wrong == form[field] and type(wrong) is type(form[field]):
                continue
            try:
                changed = decode(form | {field: wrong})
            except InvalidInputError:
                continue
            assert changed != message  # a premium of -1 is another premium, and nothing is read as what it is not
            assert json.loads(json.dumps(encode(changed))) == form | {field: wrong}
    with pytest.raises(InvalidInputError, match="unknown"):
        decode(form | {"note": "hello"})
    for other in (None, 7, [], "text", [form]):
        with pytest.raises(InvalidInputError):
            decode(other)


def test_a_version_that_is_not_ours_is_refused_in_every_message():
    for encode, decode, message in MESSAGES.values():
        with pytest.raises(InvalidInputError, match="version"):
            decode(encode(message) | {"version": 2})


def test_a_proposal_whose_terms_were_changed_is_not_its_identitys():
    made = proposal()
    wire.check_proposer(made)
    changed = wire.decode_proposal(wire.encode_proposal(made) | {"premium_sats": 5})
    with pytest.raises(WrongMessageError):
        wire.check_proposer(changed)


def test_the_first_message_is_signed_for_one_set_up_alone():
    made = proposal()
    half = acceptance(made)
    subject = Deal(made, half, id=wire.contract_id(made, half)).subject
    signature = sign_first(subject, b"points", secret("identity"), bytes(32))
    check_first(subject, b"points", made.identity, signature)
    other = Acceptance(
        proposal_id=half.proposal_id, keys=half.keys, coins=half.coins, change_script=SCRIPT, cut=Hash32(bytes(32))
    )
    foreign = Deal(made, other, id=wire.contract_id(made, other)).subject
    for about, data in ((foreign, b"points"), (subject, b"others")):
        with pytest.raises(WrongMessageError):
            check_first(about, data, made.identity, signature)


def test_each_use_and_each_seed_has_a_key_of_its_own():
    keys = []
    for seed in (secret("one"), secret("two")):
        own = OwnSecrets(seed, 3)
        p, v = own.claimant_keys(SCRIPT), own.verifier_keys(SCRIPT)
        keys += [p.open, p.claim, p.both, p.payout, v.overdue, v.bond, v.escrow, *v.digits]
    assert len(set(keys)) == len(keys) == 20
