"""Whatever arrives has an answer: a message that is read, or an InvalidInputError; a witness a verdict, or a refusal.

CI tries some thousands of mutations, the night 100,000 of each reader and more of each check: ``python -m tests.night
--only dispute-messages``. BTCFI_TEST_SEED makes them others.
"""

import json
import os
import random
import string
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.bitcoin.adaptor import WrongAdaptorError
from btcfi.disputes.garbled.presign import (
    UnreadableClaimError,
    build_reveal,
    build_silence,
    check_claims,
    check_silence,
    read_claim,
    read_reveal,
    read_silence,
)
from btcfi.disputes.garbled.setup import CheatedError, check_commitments, check_cut, kept_of
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.units import Txid
from tests.support.disputing import Dispute, secret
from tests.support.shown import show
from tests.unit.disputes.test_disputes_deal_messages import MESSAGES
from tests.unit.disputes.test_disputes_messages import NAMES, forms

SEED = int(os.environ.get("BTCFI_TEST_SEED", "20"))
OPENING = Txid(bytes(range(32)))
SPOT = 67_890

READ, READ_AT_NIGHT = 2_000, 100_000
"""Mutations of each reader."""
CHECKED, CHECKED_AT_NIGHT = 12, 600
"""Of each check, which is what takes the time."""
SEEN, SEEN_AT_NIGHT = 2_000, 100_000
"""Witnesses of each reader of the chain."""


@pytest.fixture(scope="module", params=["eager", "lazy"])
def dispute(request):
    made = Dispute(oracles=1, threshold=1, claim_height=0 if request.param == "eager" else 10)
    made.signed(OPENING)
    return made


def mutated(data, dice):
    """Bytes with a flip, a run, a cut or a paste in them; most keep their length, as what is read on must."""
    data, how = bytearray(data), dice.randrange(8)
    at = dice.randrange(len(data)) if data else 0
    if how < 3:
        for _ in range(dice.choice([1, 1, 2, 40])):
            data[dice.randrange(len(data))] ^= dice.randrange(1, 256)
    elif how < 5:
        size = min(dice.choice([1, 32, 33, 64, 65, 500]), len(data) - at)
        data[at : at + size] = dice.choice([bytes(size), b"\xff" * size, dice.randbytes(size), data[:size]])
    elif how == 5:
        del data[at : at + dice.choice([1, 2, 32, 65])]
    elif how == 6:
        data[at:at] = dice.randbytes(dice.choice([1, 2, 32, 65]))
    else:
        data = bytearray(dice.randbytes(dice.choice([0, 1, len(data), len(data) + 1])))
    return bytes(data)


# ---- bytes


def every_byte(dispute, count):
    read = 0
    for name, (data, _, decode, _) in forms(dispute).items():
        dice = random.Random(f"{SEED} {name}")
        for _ in range(count // len(NAMES)):
            try:
                decode(mutated(data, dice))
            except InvalidInputError:
                continue
            read += 1
    return read


def test_whatever_bytes_come_a_reader_reads_or_refuses(dispute):
    assert every_byte(dispute, READ) > READ // 4


@pytest.mark.slow
def test_whatever_bytes_come_a_reader_reads_or_refuses_all_night(dispute):
    read = every_byte(dispute, READ_AT_NIGHT)
    show({"dispute_bytes": read}, {"dispute_bytes": "mutations"})
    assert read > READ_AT_NIGHT // 4


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=4_000), st.sampled_from(NAMES))
def test_bytes_of_no_message_are_refused_by_every_reader(small, data, name):
    with pytest.raises(InvalidInputError):
        small[name][2](data)


@pytest.fixture(scope="module")
def small():
    made = Dispute(oracles=1, threshold=1)
    made.signed(OPENING)
    return forms(made)


# ---- what stands in them


def every_check(dispute, count):
    """Change a message's bytes and give what is read to the check before anything is signed; return the refusals."""
    found = forms(dispute)
    subject, first = dispute.garbler.subject, dispute.commitments
    second = dispute.garbler.openings(dispute.cut)
    checks = {
        "cut": lambda one: check_cut(subject, one),
        "commitments": lambda one: check_commitments(subject, one),
        "openings": lambda one: kept_of(subject, first, dispute.cut, one, coins=secret("coins")),
        "claims": lambda one: check_claims(dispute.graph, one),
        "silence": lambda one: check_silence(dispute.graph, one),
    }
    refused = 0
    for name, check in checks.items():
        dice = random.Random(f"{SEED} {name} checked")
        for _ in range(count):
            data = found[name][0]
            changed = mutated(data, dice)
            try:
                said = found[name][2](changed)
            except InvalidInputError:
                continue
            try:
                check(said)
            except (CheatedError, InvalidInputError, WrongAdaptorError):
                refused += 1
                continue
            if changed != data:  # another point of the curve: the openings are not of it
                assert name == "commitments"
                with pytest.raises(InvalidInputError):
                    kept_of(subject, said, dispute.cut, second, coins=secret("coins"))
    return refused


def test_whatever_stands_in_a_message_its_check_accepts_or_refuses(dispute):
    assert every_check(dispute, CHECKED) > CHECKED


@pytest.mark.slow
def test_whatever_stands_in_a_message_its_check_accepts_or_refuses_all_night(dispute):
    refused = every_check(dispute, CHECKED_AT_NIGHT)
    show({"dispute_checks": refused}, {"dispute_checks": "refusals"})
    assert refused > CHECKED_AT_NIGHT


# ---- JSON

STRANGE = (
    None, True, 0, -1, 1.5, 1e400, 2**70, -(2**70), "", "zz", " ", "0x00", "00", "\N{ARABIC-INDIC DIGIT ONE}", "\0",
    "ff" * 40, "A" * 5_000, [], {}, [None], {"": None}, [[[]]], {"type": "type"},
)  # fmt: skip


def places_of(form, path=()):
    """Every place in a form, by its path."""
    yield path
    inside = form.items() if isinstance(form, dict) else enumerate(form) if isinstance(form, list) else ()
    for key, value in inside:
        yield from places_of(value, (*path, key))


def changed_at(form, path, dice):
    """A form with another value at a place, or without it, or with it twice."""
    if not path:
        return dice.choice(STRANGE)
    *above, last = path
    whole = json.loads(json.dumps(form))
    part = whole
    for key in above:
        part = part[key]
    value, how = part[last], dice.randrange(6)
    if how == 0:
        del part[last]
    elif how == 1 and isinstance(part, list):
        part.insert(last, value)
    elif how == 2 and isinstance(value, str):
        part[last] = "".join(dice.choice([one, one, one, dice.choice(string.printable)]) for one in value)
    elif how == 3 and isinstance(value, str):
        part[last] = dice.choice([value.upper(), value + " ", " " + value, value[:-1], value * 2])
    elif how == 4 and isinstance(value, int):
        part[last] = dice.choice([value + 1, value - 1, -value, float(value), str(value), 10**30])
    else:
        part[last] = dice.choice(STRANGE)
    return whole


def every_form(count):
    """Whatever is read has one form: it is written as it came."""
    read = 0
    for name, (encode, decode, message) in MESSAGES.items():
        dice = random.Random(f"{SEED} {name}")
        form = json.loads(json.dumps(encode(message)))
        places = list(places_of(form))
        for _ in range(count // len(MESSAGES)):
            changed = changed_at(form, dice.choice(places), dice)
            try:
                said = decode(changed)
            except InvalidInputError:
                continue
            read += 1
            assert without_fixing(json.loads(json.dumps(encode(said)))) == without_fixing(changed)
    return read


def without_fixing(form):
    """A form without what an announcement of another version may say or leave out: that it is of one minute."""
    for event in form.get("events", []):
        for said in event:
            said["event"].pop("fixing", None)
    return form


def test_whatever_json_comes_a_reader_reads_or_refuses():
    assert every_form(READ) > READ // 100


@pytest.mark.slow
def test_whatever_json_comes_a_reader_reads_or_refuses_all_night():
    read = every_form(READ_AT_NIGHT)
    show({"dispute_json": read}, {"dispute_json": "read"})
    assert read > READ_AT_NIGHT // 100


# ---- the chain


def seen(dispute):
    """What each reader reads on the chain, and the reader."""
    attested = dispute.attested([SPOT])
    silence = build_silence(dispute.graph, dispute.of_silence, attested=attested, claim=dispute.v.claim)
    found = {
        "claim": (dispute.claimed(3, attested), 0, lambda one: read_claim(dispute.graph, dispute.of_claims, one)),
        "silence": (silence, 0, lambda one: read_silence(dispute.graph, dispute.of_silence, one)),
    }
    if dispute.graph.terms.is_lazy:
        reveal = build_reveal(
            dispute.graph, dispute.of_claims, dispute.garbler, (3, False), attested=attested, claim=dispute.p.claim,
            both=dispute.p.both,
        )  # fmt: skip
        found["reveal"] = (reveal, 1, lambda one: read_reveal(dispute.graph, dispute.of_claims, one))
    return found


def bent(stack, dice):
    """A witness with items changed, left out, said twice, or an annex."""
    for _ in range(dice.choice([1, 1, 2, 3])):
        at, how = dice.randrange(len(stack)), dice.randrange(6)
        if how < 3:
            stack[at] = mutated(stack[at], dice) if stack[at] else b"\0"
        elif how == 3:
            del stack[at]
        elif how == 4:
            stack.insert(at, dice.choice(stack))
        else:
            stack.append(b"\x50" + dice.randbytes(3))
    return stack


def every_witness(dispute, count):
    """Mutated witnesses of a right transaction: read alike, read as another claim, or refused; return the verdicts."""
    verdicts = 0
    whole = dispute.graph.terms.is_lazy
    for name, (honest, index, read) in seen(dispute).items():
        dice = random.Random(f"{SEED} {name} seen")
        told = read(honest)
        for _ in range(count):
            stack = bent(list(honest.inputs[index].witness), dice)
            made = honest.with_witness(index, stack)
            if dice.random() < 0.1:
                made = replace(made, inputs=dice.choice([(), made.inputs[:index], made.inputs * 2]))
            try:
                said = read(made)
            except (InvalidInputError, UnreadableClaimError):
                continue
            verdicts += 1
            if name == "claim" and not whole:
                try:
                    dispute.kept.judge(*said.named(dispute.graph))
                except InvalidInputError:  # a signature that Core would not take tells no label
                    assert said != told
    return verdicts


def test_whatever_witness_is_seen_it_is_read_or_refused(dispute):
    assert every_witness(dispute, SEEN) > SEEN // 20


@pytest.mark.slow
def test_whatever_witness_is_seen_it_is_read_or_refused_all_night(dispute):
    read = every_witness(dispute, SEEN_AT_NIGHT)
    show({"dispute_witnesses": read}, {"dispute_witnesses": "read"})
    assert read > SEEN_AT_NIGHT // 20


def test_no_error_of_a_reader_is_of_another_kind():
    """The two that a verifier meets are of the project's one tree, with a row in the table of errors each."""
    assert issubclass(CheatedError, InvalidInputError)
    assert all(issubclass(one, BtcfiError) for one in (UnreadableClaimError, WrongAdaptorError, InvalidInputError))
