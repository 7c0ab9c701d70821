"""Tables byte for byte as a second road makes them, and the fault comes out for a wrong claim and for no other."""

from __future__ import annotations

import hashlib
from itertools import product

import pytest

from btcfi.disputes.circuit import CircuitBuilder, Digit
from btcfi.disputes.garbled.garbling import evaluate, garble, table_size
from btcfi.errors import InvalidInputError
from btcfi.units import Hash32

SETUP = Hash32(hashlib.sha256(b"set-up").digest())
COPIES = (3, 7)


@pytest.fixture(scope="module")
def circuit():
    """Wrong where a + 3 * b is not below c, of four, four and eight values, c only up to 5."""
    builder = CircuitBuilder()
    a, b = builder.number("a", (2,), event=0), builder.number("b", (1, 1))
    c = builder.digit(Digit(name="c.0", width=3, values=6))
    total = builder.add(a, builder.add(b, builder.add((0, *b), ())))
    return builder.finish(wrong=builder.both(a[0] ^ 1, builder.less(total, c) ^ 1))


def secret(*names):
    return hashlib.sha256(repr(names).encode()).digest()


@pytest.fixture(scope="module")
def made(circuit):
    shares = [[secret("share", copy, label) for label in range(circuit.labels)] for copy in COPIES]
    faults = [secret("fault", copy) for copy in COPIES]
    seeds = [secret("seed", copy) for copy in COPIES]
    return shares, faults, garble(circuit, SETUP, COPIES, seeds=seeds, shares=shares, faults=faults)


def tag(name):
    return hashlib.sha256(name.encode()).digest() * 2


def by_the_book(circuit, copy):
    """Garble one copy with bytes and dictionaries: docs/disputes.md read a second time."""

    def xor(*parts):
        return bytes(a ^ b for a, b in zip(*parts, strict=True)) if len(parts) == 2 else xor(parts[0], xor(*parts[1:]))

    stream = hashlib.shake_256(tag("BTCFi/dispute/wires/v1") + secret("seed", copy)).digest(16 * (circuit.inputs + 1))
    offset, number = stream[:16], copy.to_bytes(4, "little")
    zero = {0: bytes(16)} | {wire: stream[16 * wire : 16 * wire + 16] for wire in range(1, circuit.inputs + 1)}

    def label(literal, one):
        return xor(zero[literal // 2], offset) if one != literal % 2 else zero[literal // 2]

    def hashed(value, gate):
        head = tag("BTCFi/dispute/gate/v1") + SETUP + number + bytes(28)
        return hashlib.sha256(head + gate.to_bytes(4, "little") + value).digest()[:16]

    out, wire, counted = [], 1, 0
    for place, digit in enumerate(circuit.digits):
        for value in range(digit.values):
            labels = b"".join(label(2 * (wire + bit), value >> bit & 1) for bit in range(digit.width))
            where = number + place.to_bytes(2, "little") + value.to_bytes(2, "little")
            share = secret("share", copy, counted + value)
            pad = hashlib.shake_256(tag("BTCFi/dispute/row/v1") + SETUP + where + share).digest(len(labels))
            out.append(xor(labels, pad))
        wire, counted = wire + digit.width, counted + digit.values
    ands = 0
    for gate in circuit.gates:
        if gate.is_and:
            first, second = hashed(label(gate.left, 0), ands), hashed(label(gate.left, 1), ands)
            zero[gate.output] = first
            out.append(xor(first, second, label(gate.right, 0)))
            ands += 1
        else:
            zero[gate.output] = xor(zero[gate.left], zero[gate.right])
    mask = hashlib.sha256(tag("BTCFi/dispute/fault/v1") + SETUP + number + label(circuit.wrong, 1)).digest()
    return b"".join([*out, xor(mask, secret("fault", copy))])


def test_tables_are_those_of_a_second_road(circuit, made):
    assert made[2] == [by_the_book(circuit, copy) for copy in COPIES]
    assert {len(one) for one in made[2]} == {table_size(circuit)}


def test_the_published_digest_of_tables_stays(circuit, made):
    """What a garbler of an earlier release made, one of this one makes: a set-up outlives a release."""
    assert circuit.id.hex() == CIRCUIT
    assert hashlib.sha256(b"".join(made[2])).hexdigest() == TABLES


CIRCUIT = "3421962cbd2ce5e2dd7e576b90698e12a74e60aebff6963e96593e2510a4412e"
TABLES = "9701b2267f8fc18f59916c8e514dcb0ce6d4d703ec9dae18a88c37a60ee5aa71"


def claims(circuit):
    for values in product(*(range(digit.values) for digit in circuit.digits)):
        yield {digit.name: value for digit, value in zip(circuit.digits, values, strict=True)}


def shares_of(circuit, shares, values):
    """Return of each copy the shares of what is claimed."""
    found = []
    for row in shares:
        at, chosen = 0, []
        for digit in circuit.digits:
            chosen.append(row[at + values[digit.name]])
            at += digit.values
        found.append(chosen)
    return found


def test_every_wrong_claim_yields_every_copys_fault_and_no_right_one_any(circuit, made):
    shares, faults, tables = made
    wrong = 0
    for values in claims(circuit):
        found = evaluate(
            circuit, SETUP, COPIES, tables=tables, shares=shares_of(circuit, shares, values), values=values
        )
        assert found.wrong == circuit.is_wrong(values)
        assert (found.faults == tuple(faults)) == found.wrong
        assert found.wrong or not set(found.faults) & set(faults)
        wrong += found.wrong
    assert 0 < wrong < 96


def test_a_row_of_another_value_opens_to_nothing(circuit, made):
    """Who is told the shares of one claim and says another gets no fault, also of a claim that is wrong."""
    shares, faults, tables = made
    told = next(one for one in claims(circuit) if not circuit.is_wrong(one))
    for values in claims(circuit):
        if values != told:
            found = evaluate(
                circuit, SETUP, COPIES, tables=tables, shares=shares_of(circuit, shares, told), values=values
            )
            assert not set(found.faults) & set(faults)


def test_a_changed_byte_anywhere_in_the_tables_spoils_some_claim_or_none_but_never_makes_one_up(circuit, made):
    shares, faults, tables = made
    for place in range(0, table_size(circuit), 7):
        spoiled = [bytes([*one[:place], one[place] ^ 1, *one[place + 1 :]]) for one in tables]
        for values in claims(circuit):
            found = evaluate(
                circuit, SETUP, COPIES, tables=spoiled, shares=shares_of(circuit, shares, values), values=values
            )
            assert found.wrong or not set(found.faults) & set(faults)


def test_another_set_up_makes_other_tables(circuit, made):
    shares, faults, tables = made
    seeds = [secret("seed", copy) for copy in COPIES]
    other = garble(circuit, Hash32(bytes(32)), COPIES, seeds=seeds, shares=shares, faults=faults)
    assert not {a[at : at + 16] for a in tables for at in range(0, len(a), 16)} & {
        b[at : at + 16] for b in other for at in range(0, len(b), 16)
    }


def test_lengths_that_do_not_fit_are_refused(circuit, made):
    shares, faults, tables = made
    values = next(claims(circuit))
    right = shares_of(circuit, shares, values)
    for bad in (
        {"tables": tables[:1]}, {"tables": [tables[0], tables[1][:-1]]}, {"shares": right[:1]},
        {"shares": [right[0], right[1][:-1]]}, {"shares": [right[0], [b"", *right[1][1:]]]},
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=r"tables|shares"):
            evaluate(circuit, SETUP, COPIES, **({"tables": tables, "shares": right, "values": values} | bad))
    with pytest.raises(InvalidInputError, match="shares"):
        garble(circuit, SETUP, COPIES, seeds=[bytes(32)] * 2, shares=[row[:-1] for row in shares], faults=faults)
    with pytest.raises(InvalidInputError, match="seeds"):
        garble(circuit, SETUP, COPIES, seeds=[bytes(31)] * 2, shares=shares, faults=faults)
