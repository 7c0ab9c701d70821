"""One-time words judged by Core digit column by digit column; what a program may not be; what scripts are made of."""

import os
import random
import struct
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

import btcfi.disputes.leaves
from btcfi.adapters.consensus import scripts_hold
from btcfi.bitcoin.taproot import NUMS_KEY, Leaf, taproot_output
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.disputes.leaves import words as w
from btcfi.disputes.leaves.emitter import MAX_STACK, Emitter, Opcode
from btcfi.disputes.leaves.graph import check_claims, check_silence, escrow_of, read_claim
from btcfi.disputes.leaves.judge import disprove_leaf, leaf_claim
from btcfi.disputes.leaves.payoffs import WORDS, median_claim, price_claim, step_claim
from btcfi.disputes.leaves.program import compile_words
from btcfi.errors import InvalidInputError
from btcfi.units import Sats, Txid
from guest_programs.build import FLAGS, check_compiler
from tests.support.leaving import RANGES, LeafDispute

RETURN = 0x8067


def taken(script, items):
    """Whether Core's interpreter takes a witness for a script."""
    leaf = Leaf(script=script)
    output = taproot_output(NUMS_KEY, leaf)
    spent = TxOut(value=Sats(2_000), script=output.script)
    spend = Transaction(
        version=2, inputs=(TxIn(outpoint=OutPoint(txid=Txid(bytes(32)), index=0)),),
        outputs=(TxOut(value=Sats(1_000), script=output.script),),
    )  # fmt: skip
    return scripts_hold(spend.with_witness(0, [*items, script, output.control_block(leaf)]), [spent])


KEY = w.derived_key(bytes(32), "word", 1)


def checked(word):
    emitter = Emitter(w.items_of([[word]]))
    w.emit_digits(emitter, [word])
    w.emit_checksum(emitter, word)
    return emitter.number(1).finished()


@pytest.mark.parametrize("value", range(8))
def test_from_a_signature_of_one_digit_nobody_makes_one_of_another(value):
    """Every combination of digits, each with the link that follows from what was signed, where one does."""
    script, signed, accepted = checked(KEY.word), KEY.sign(value), []
    for wanted in product(range(8), repeat=3):
        forged = [
            w.SignedDigit(digit=to, link=chain[max(to, one.digit)], item=w.number_item(to))
            for to, one, chain in zip(wanted, signed, KEY.chains, strict=True)
        ]
        if taken(script, w.witness_of([[tuple(forged)]])):
            accepted.append(wanted)
    assert accepted == [w.digits_of(value, 1)]


@pytest.mark.parametrize("value", range(8))
def test_a_word_is_read_as_script_computes_it(value):
    emitter = Emitter(w.items_of([[KEY.word]]))
    w.emit_digits(emitter, [KEY.word])
    w.emit_value(emitter, KEY.word, "word")
    script = emitter.number(value).op(Opcode.NUMNOTEQUAL, Opcode.NOT).finished()
    for other in range(8):
        assert taken(script, w.witness_of([[KEY.sign(other)]])) == (other == value)


def test_an_item_is_the_number_that_script_takes_it_for():
    """Consensus takes numbers that are not in their shortest form: 0x80 is zero."""
    dice = random.Random(19)
    items = [b"", *[bytes([one]) for one in range(256)], *[dice.randbytes(dice.randint(2, 4)) for _ in range(300)]]
    items += [b"\x05\x00", b"\x05\x80", b"\x00\x00\x00\x80"]
    for item in items:
        value = w.number_of(item)
        script = Emitter([None]).number(value).op(Opcode.NUMNOTEQUAL, Opcode.NOT).finished()
        assert taken(script, [item])
    with pytest.raises(InvalidInputError):
        w.number_of(bytes(5))
    assert not taken(Emitter([None]).number(0).op(Opcode.NUMNOTEQUAL, Opcode.NOT).finished(), [bytes(5)])


@pytest.mark.parametrize("digits", range(1, 10))
def test_a_signature_is_read_back_as_it_was_laid_out(digits):
    key = w.derived_key(bytes(32), "long", digits)
    for value in (0, 1, 8**digits - 1):
        signed = key.sign(value)
        ((found,),) = w.read_words(w.witness_of([[signed]]), [[key.word]])
        assert found == signed
        assert w.value_of(found) == value
        assert taken(checked(key.word), w.witness_of([[signed]]))
    with pytest.raises(InvalidInputError):
        key.sign(8**digits)


def test_the_peak_of_a_script_is_what_core_counts():
    """Padding to a thousand items passes, one more does not."""
    word = w.derived_key(bytes(32), "peak", 6)
    emitter = Emitter(w.items_of([[word.word]]))
    w.emit_digits(emitter, [word.word])
    w.emit_value(emitter, word.word, "peak")
    emitter.op(Opcode.DROP).number(1)
    code, peak = emitter.finished(), emitter.peak
    items = w.witness_of([[word.sign(70_000)]])
    for padding, fits in ((MAX_STACK - peak, True), (MAX_STACK - peak + 1, False)):
        padded = b"\x00\x6b" * padding + code + b"\x6c\x75" * padding
        assert taken(padded, items) == fits


# ---- programs


ARGUMENTS = ["price0", "price1", 7]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        (0x00B56463, "bltu"), (0x00052503, "lw"), (0x00A52023, "sw"), (0x02B55533, "divu"), (0x02B50533, "mul"),
        (0x0000006F, "jal"), (0x00000073, "ecall"), (0x00000517, "auipc"), (0x00000013 | 5 << 15, "reads t0"),
        (0x40155513, "srai"), (0x00A5A533, "slt"), (0x00000000, "illegal"), (RETURN, "ret in the middle"),
    ],
)  # fmt: skip
def test_a_word_that_is_no_branch_free_arithmetic_is_refused(word, why):
    with pytest.raises(InvalidInputError):
        compile_words(why, [word, RETURN], ARGUMENTS)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([0x00B54533, RETURN], "an exclusive or of two prices is no choice"),
        ([0x00B54533, 0x00A50533, RETURN], "nor may its sum be taken"),
        ([0x40B50533, RETURN], "an answer that may be negative"),
        ([0x40B50533, 0x00A53533, RETURN], "a comparison of what may be negative"),
        ([0x01F51513, RETURN], "more than 31 bits"),
        ([0x00B57533, RETURN], "an and of two prices"),
        ([0x00100513, RETURN], "a constant"),
        ([0x01F55513, RETURN], "a comparison with two to the 31st"),
        ([0x00A50533], "no ret"),
        ([], "no word"),
    ],
)  # fmt: skip
def test_a_program_that_no_leaf_computes_is_refused(words, why):
    with pytest.raises(InvalidInputError):
        compile_words(why, words, ARGUMENTS)


def functions_of(data):
    """The words of each function in a relocatable ELF file, whose code must have no relocation."""
    (shoff,), (count, names) = struct.unpack_from("<I", data, 32), struct.unpack_from("<HH", data, 48)
    sections = [struct.unpack_from("<10I", data, shoff + 40 * at) for at in range(count)]
    assert not [one for one in sections if one[1] in (4, 9) and sections[one[7]][2] & 4]
    assert names < count
    found = {}
    for section in sections:
        for at in range(section[4], section[4] + section[5], 16) if section[1] == 2 else ():
            name, value, size, info, _, where = struct.unpack_from("<IIIBBH", data, at)
            if info & 15 == 2:
                start = sections[section[6]][4] + name
                label = data[start : data.index(b"\0", start)].decode()
                found[label] = struct.unpack_from(f"<{size // 4}I", data, sections[where][4] + value)
    return found


def test_the_words_are_those_of_the_compiled_source(tmp_path):
    check_compiler()
    source = Path(btcfi.disputes.leaves.__file__).parent / "payoffs.c"
    flags = [one for one in FLAGS if not one.startswith("-Wl") and one != "-nostdlib"]
    command = [sys.executable, "-m", "ziglang", "cc", *flags, "-c", str(source), "-o", str(tmp_path / "payoffs.o")]
    subprocess.run(command, check=True, env=dict(os.environ))
    assert functions_of((tmp_path / "payoffs.o").read_bytes()) == WORDS


# ---- leaves


def steps(reads):
    return step_claim("capped_call", strike=60_000, steps=16, payout=lambda one: Sats(1_000_000 * one), reads=reads)


def test_a_fused_call_signs_one_word_and_a_call_step_by_step_five():
    """The prototype's signed eleven."""
    assert steps(None).words == ("price0",)
    assert len(steps(0).words) == 5


def test_no_leaf_has_a_branch_of_script_and_no_control_block_is_longer_than_the_strictest_policy_s():
    for claim in (steps(0), median_claim(RANGES, reads=0), price_claim(RANGES)):
        graph = LeafDispute(claim).signed().graph
        for number in range(len(claim.starts)):
            output = graph.escrow(number)
            for leaf in graph.disprove_leaves(number):
                assert not {0x63, 0x64} & set(opcodes_of(leaf.script))
                assert len(output.control_block(Leaf(script=leaf.script))) <= 257
        for leaf in (*graph.claim_leaves, *graph.silence_leaves):
            assert not {0x63, 0x64} & set(opcodes_of(leaf.script))


def opcodes_of(script):
    at = 0
    while at < len(script):
        yield script[at]
        at += 1 + (script[at] if script[at] <= 75 else 0)


def test_a_group_compared_with_a_range_needs_to_know_which():
    claim = steps(None)
    words = {"price0": w.derived_key(bytes(32), "price0", 6).word}
    with pytest.raises(InvalidInputError):
        disprove_leaf(claim, 0, words, key=b"\x02" * 32)


def test_a_range_that_script_cannot_compare_with_is_refused():
    """Its last leaf could never hold, so whoever claims it would be paid."""
    program = price_claim(RANGES).program
    with pytest.raises(InvalidInputError):
        leaf_claim(program, starts=(0, (1 << 31) - 1), payouts=(Sats(0), Sats(1)))
    far = leaf_claim(program, starts=(0, (1 << 31) - 2), payouts=(Sats(0), Sats(1)))
    dispute = LeafDispute(far, oracles=1, threshold=1).signed()
    claim = dispute.claimed(1, [(1 << 18) - 1])
    assert scripts_hold(dispute.disproof(read_claim(dispute.graph, claim), 0), [escrow_of(claim)[1]])


# ---- terms


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"threshold": 4}, "more oracles than there are"),
        ({"threshold": 0}, "none"),
        ({"silence_height": 60}, "silence not before the refund"),
        ({"dispute_blocks": 0}, "no time to disprove"),
        ({"dispute_blocks": 1}, "a payout and a disproof of one block"),
        ({"collateral": Sats(15_999_999)}, "a payout over the collateral"),
        ({"bond": Sats(1_000)}, "a bond that fees eat"),
        ({"oracles": ()}, "no oracle for a price"),
    ],
)
def test_terms_that_cannot_be_kept_are_refused(changed, why):
    with pytest.raises(InvalidInputError):
        replace(LeafDispute(price_claim(RANGES)).terms, **changed)


def test_no_two_words_share_a_chain():
    """Each signs once: what one shows would be half of another's signature."""
    terms = LeafDispute(price_claim(RANGES)).terms
    with pytest.raises(InvalidInputError):
        replace(terms, claimant=replace(terms.claimant, words={"price0": terms.oracles[0][0]}))
    with pytest.raises(InvalidInputError):
        replace(terms, claimant=replace(terms.claimant, words={}))


def test_a_claim_or_a_silence_that_is_not_signed_is_found_before_the_opening_is():
    dispute = LeafDispute(price_claim(RANGES)).signed()
    for key in dispute.of_claims:
        with pytest.raises(InvalidInputError):
            check_claims(dispute.graph, {**dispute.of_claims, key: bytes(64)})
    with pytest.raises(InvalidInputError):
        check_silence(dispute.graph, dispute.of_silence[:-1])


def test_another_transaction_is_no_claim():
    dispute = LeafDispute(price_claim(RANGES)).signed()
    claim = dispute.claimed(1, [60_000])
    for other in (replace(claim, lock_time=1), dispute.graph.silence, claim.with_witness(0, []),
                  claim.with_witness(0, claim.inputs[0].witness[1:])):  # fmt: skip
        with pytest.raises(InvalidInputError):
            read_claim(dispute.graph, other)
