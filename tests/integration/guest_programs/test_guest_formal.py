"""What is proved about the binaries is proved here, and a wrong binary or a wrong claim is not."""

import pytest
import z3

from btcfi.vm import program as programs
from guest_programs import formal


def test_the_integer_lemmas_hold():
    assert len(formal.prove_lemmas()) == 4


@pytest.mark.parametrize("name", formal.PROGRAMS)
def test_the_binary_computes_its_specification_for_all_inputs(name):
    proved = formal.prove_program(name)
    assert proved.paths > 10
    assert proved.claims > 7 * proved.paths


@pytest.mark.parametrize("name", formal.PROGRAMS)
def test_the_long_division_of_the_binary_is_exact(name):
    assert formal.prove_division(name)[-1].endswith("in 105 steps")


def test_a_digit_with_one_correction_less_is_not_proved(monkeypatch):
    """The estimate can be two too large: the prover must need both corrections."""
    monkeypatch.setattr(formal, "range", lambda *bounds: range(1) if bounds == (2,) else range(*bounds), raising=False)
    with pytest.raises(formal.NotProvedError):
        formal._prove_digit_lemma()


def test_a_wrong_specification_is_not_proved():
    """The other way round: were the payout at the money 1 cent, the prover would say so."""
    executor = formal.Executor(programs.load_program("vanilla_option"))
    end = max(executor.run(), key=lambda state: state.steps)
    exercise_type = formal.bv(end.memory[formal.OUTPUT_BASE + 8])
    with pytest.raises(formal.NotProvedError):
        executor.prove(end, exercise_type != formal.bv(3), "never at the money")


def test_a_changed_instruction_is_not_proved():
    """`sltu above, strike, spot` turned into `sltu above, spot, strike`: a call that pays like a put."""
    good = programs.load_program("vanilla_option")
    address, size = good.elf.symbols["payoff"]
    words = good.words.copy()
    first = (address - 0x10000) // 4
    for index in range(first, first + size // 4):
        word = int(words[index])
        if word & 0xFE00_707F == 0x0000_3033 and (word >> 15 & 31) and (word >> 20 & 31):
            words[index] = word & ~(0x3FF << 15) | (word >> 20 & 31) << 15 | (word >> 15 & 31) << 20
            break
    executor = formal.Executor(good)
    good.__dict__["words"] = words
    state_errors = []
    for end in executor.run():
        try:
            formal._prove_end(executor, end, "vanilla_option")
        except formal.NotProvedError as e:
            state_errors.append(e)
            break
    assert state_errors


def test_the_axioms_do_not_contradict_each_other():
    """From false everything follows: the facts must have a model in which a settlement pays."""
    executor = formal.Executor(programs.load_program("vanilla_option"))
    end = max(executor.run(), key=lambda state: state.steps)
    solver = z3.Solver()
    solver.add(*executor.facts.axioms, *end.conditions)
    assert solver.check() == z3.sat


def test_a_question_that_is_too_hard_ends_unproved_and_says_after_how_long(monkeypatch):
    """Factors of a 62-bit semiprime: z3 does not find them in a tenth of a second, and used to go on for hours."""
    monkeypatch.setattr(formal, "SOLVER_MS", 100)
    executor = formal.Executor(programs.load_program("vanilla_option"))
    a, b = z3.BitVecs("a b", 128)
    end = formal.State(0, [0] * 32, {}, [z3.ULT(1, a), z3.ULT(1, b), z3.ULT(a, 1 << 40), z3.ULT(b, 1 << 40)])
    with pytest.raises(formal.NotProvedError, match="gave up after 100 ms"):
        executor.prove(end, a * b != 2147483647 * 2147483629, "no factors")
    with pytest.raises(formal.NotProvedError, match="gave up on a branch after 100 ms"):
        executor._feasible(end.fork(a * b == 2147483647 * 2147483629))
