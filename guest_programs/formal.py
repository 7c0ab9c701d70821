"""Prove what the payoff programs compute, on the binary that runs: python -m guest_programs.formal.

Every path through the decoded instructions of vanilla_option, binary_option and barrier_option is executed
symbolically (z3), all 15 input words unknown. Proved for all 2**480 inputs:

- the program halts by ecall after a bounded number of steps, on every path;
- every load and store is aligned and inside the input page, the output page or its own RAM (addresses turn out to be
  constants on every path), and stores only go where stores may;
- error word, exercise_type, barrier_hit, payout (64 bits) and profit_loss (64 bits) equal the specification below;
- payout_sats equals min(collateral, whole * 10**6 + fraction) with whole, rest = divmod(value, spot) and
  fraction = rest * 10**6 // spot, which lemma 3 shows to be min(collateral, value * 10**6 // spot); value is the exact
  product of what a bitcoin pays in cents and the quantity in 1/100 BTC, of which the payout is floor(value / 100).

Multiplication and division of two unknowns are uninterpreted functions with true axioms (commutativity, bounds, the
division identity), so that the solver compares what is multiplied, not 2**64 products; divisions by 100 are the
compiler's multiply-and-shift, whose meaning is lemma 1. Lemmas are proved over unbounded integers.

The subroutine divide_digits (64 by 32 bits, high < divisor: proved at each call) is replaced by its contract there, and
proved by itself: its binary is, for every number of leading zeros of the divisor, the same term as Knuth's algorithm D,
and that algorithm is exact by lemmas 4 and 5. Products enter the lemmas as variables, with the true facts they need.

Assumed: z3; our decoder; and that the machine executes RV32IM (the differential tests).
"""

# ruff: noqa: ANN401, PLR2004 - z3 terms have no useful static type; lemmas state their numbers
from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import z3

from btcfi.vm.isa import BRANCHES, Op, decode
from btcfi.vm.machine import INPUT_BASE, OUTPUT_BASE, PAGE
from btcfi.vm.program import Program, load_program
from btcfi.vm.step import _COMPUTE

PROGRAMS: Final = ("vanilla_option", "binary_option", "barrier_option")

INPUT_WORDS: Final = (
    *("option_type", "strike", "spot", "quantity", "barrier_level", "early_exercise", "time_to_expiry", "volatility"),
    *("observed_low", "observed_high", "premium", "rate", "collateral_low", "collateral_high", "abi_version"),
)

_SMALL: Final = 255

MAX_PATH_STEPS: Final = 2_000

SOLVER_MS: Final = 120_000
"""Milliseconds that one question may take; the longest of ours takes seconds. Over it nothing is proved."""
_M32: Final = 0xFFFF_FFFF
_DIV100: Final = 0x51EB_851F
"""ceil(2**37 / 100): x // 100 == x * this >> 37 for every u32 x (lemma 1)."""

_WORD = z3.BitVecSort(32)
MUL = z3.Function("mul", _WORD, _WORD, _WORD)
MULHU = z3.Function("mulhu", _WORD, _WORD, _WORD)
DIVU = z3.Function("divu", _WORD, _WORD, _WORD)
QUOTIENT = z3.Function("quotient", _WORD, _WORD, _WORD, _WORD)
REMAINDER = z3.Function("remainder", _WORD, _WORD, _WORD, _WORD)
"""(high, low, divisor) of divide_digits."""


class NotProvedError(AssertionError):
    """A property does not hold, or the executor met something that it does not model."""


def limited_solver() -> Any:
    """Return a solver that gives up, with the answer unknown, after SOLVER_MS."""
    solver = z3.Solver()
    solver.set("timeout", SOLVER_MS)
    return solver


def bv(value: Any) -> Any:
    """Return ``value`` as a 32-bit term."""
    return z3.BitVecVal(value, 32) if isinstance(value, int) else value


def bit(condition: Any) -> Any:
    """Return a condition as a word, 1 or 0."""
    return z3.If(condition, bv(1), bv(0))


@dataclass
class Facts:
    """Axioms, instantiated for each term that occurs."""

    axioms: list[Any] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def _add(self, *axioms: Any) -> None:
        for axiom in axioms:
            if axiom.get_id() not in self._seen:
                self._seen.add(axiom.get_id())
                self.axioms.append(axiom)

    def product_low(self, a: Any, b: Any) -> Any:
        """Return a * b modulo 2**32; native when a factor is known."""
        a, b = (b, a) if z3.is_bv_value(a) else (a, b)
        if z3.is_bv_value(b):
            short = (1 << 16) - b.as_long()
            # 65436 is 65536 - 100: so written, the solver sees the same product by 100 on both sides.
            return (a << 16) - a * short if 0 < short <= _SMALL else a * b
        self._add(MUL(a, b) == MUL(b, a))
        self._add(z3.Implies(a == 0, MUL(a, b) == 0))
        return MUL(a, b)

    def product_high(self, a: Any, b: Any) -> Any:
        """Return a * b >> 32."""
        a, b = (b, a) if z3.is_bv_value(a) else (a, b)
        high = MULHU(a, b)
        self._add(high == MULHU(b, a), z3.ULE(high, a), z3.Implies(a != 0, z3.ULT(high, a)))
        if z3.is_bv_value(b) and b.as_long() == _DIV100:
            # Lemma 1b: the compiler clears the two low bits before it divides by 100.
            cleared = MULHU(a & bv(_M32 - 3), b)
            self._add(z3.LShR(high, 5) == z3.LShR(cleared, 5))
        return high

    def divided(self, a: Any, d: Any) -> Any:
        """Return a // d for d > 0: the quotient times d is at most a, and leaves less than d."""
        if z3.is_bv_value(d):
            return z3.UDiv(a, d)
        q = DIVU(a, d)
        rest = a - self.product_low(q, d)
        self._add(z3.Implies(d != 0, z3.ULT(rest, d)), z3.Implies(z3.And(d != 0, z3.ULT(a, d)), q == 0))
        return q

    def digits(self, high: Any, low: Any, d: Any) -> tuple[Any, Any]:
        """Return quotient and remainder of divide_digits."""
        rest = REMAINDER(high, low, d)
        self._add(z3.Implies(d != 0, z3.ULT(rest, d)))
        return QUOTIENT(high, low, d), rest


@dataclass
class State:
    """One path: where it is, what it holds, and under which conditions."""

    pc: int
    registers: list[Any]
    memory: dict[int, Any]
    conditions: list[Any]
    steps: int = 0
    payoff_at: int | None = None
    """Where ``payoff`` was told to write, once it was called: first the exact value, two words."""

    def fork(self, condition: Any) -> State:
        """Return a copy under one more condition."""
        return State(
            self.pc, list(self.registers), dict(self.memory), [*self.conditions, condition], self.steps, self.payoff_at
        )


class Executor:
    """Follow every feasible path of one program."""

    def __init__(self, program: Program) -> None:
        """Prepare ``program`` with unknown input words."""
        self.program = program
        self.facts = Facts()
        self.inputs = {name: z3.BitVec(name, 32) for name in INPUT_WORDS}
        self.divide_digits = program.elf.symbols["divide_digits"][0]
        self.payoff = program.elf.symbols["payoff"][0]
        self.ends: list[State] = []
        self.obligations = 0

    def run(self) -> list[State]:
        """Return the state at the ecall of every feasible path. Raises NotProvedError."""
        todo = [State(self.program.elf.entry, [0] * 32, {}, [])]
        while todo:
            todo += self.follow(todo.pop())
        return self.ends

    def follow(self, state: State) -> list[State]:
        """Run one path to its end or to a fork; return the forks."""
        while True:
            state.steps += 1
            if state.steps > MAX_PATH_STEPS:
                raise NotProvedError(f"a path is longer than {MAX_PATH_STEPS} steps")
            if state.pc == self.divide_digits:
                self._call_divide_digits(state)
                continue
            if state.pc == self.payoff:
                state.payoff_at = _known(state.registers[10], "an address")
            code = self.program.elf.code
            if not code.address <= state.pc < code.end or state.pc % 4:
                raise NotProvedError(f"execution leaves the code at 0x{state.pc:x}")
            i = decode(int(self.program.words[(state.pc - code.address) // 4]))
            if i.op is Op.ECALL:
                self.ends.append(state)
                return []
            if i.op in BRANCHES:
                forks = self._branch(state, i)
                if forks is not None:
                    return forks
                continue
            self._step(state, i)

    def _branch(self, state: State, i: Any) -> list[State] | None:
        a, b = state.registers[i.rs1], state.registers[i.rs2]
        condition = z3.simplify(_CONDITIONS[i.op](bv(a), bv(b)))
        target = (state.pc + i.immediate) & _M32
        if z3.is_true(condition) or z3.is_false(condition):
            state.pc = target if z3.is_true(condition) else state.pc + 4
            return None
        sides = []
        for side, pc in ((condition, target), (z3.Not(condition), state.pc + 4)):
            fork = state.fork(side)
            fork.pc = pc
            if self._feasible(fork):
                sides.append(fork)
        return sides

    def _feasible(self, state: State) -> bool:
        solver = limited_solver()
        solver.add(*self.facts.axioms, *state.conditions)
        answer = solver.check()
        if answer == z3.unknown:
            raise NotProvedError(f"the solver gave up on a branch after {SOLVER_MS} ms")
        return bool(answer == z3.sat)

    def _step(self, state: State, i: Any) -> None:
        a, b = state.registers[i.rs1], state.registers[i.rs2]
        value: Any = None
        following = state.pc + 4
        if i.op in (Op.JAL, Op.JALR):
            value = following
            target = state.pc + i.immediate if i.op is Op.JAL else _known(a, "a jump target") + i.immediate
            following = target & 0xFFFF_FFFE
        elif i.op is Op.AUIPC:
            value = (state.pc + i.immediate) & _M32
        elif i.op is Op.LW:
            value = self._load(state, (_known(a, "an address") + i.immediate) & _M32)
        elif i.op is Op.SW:
            self._store(state, (_known(a, "an address") + i.immediate) & _M32, b)
        elif i.op in _COMPUTE:
            other = i.immediate & _M32 if Op.ADDI <= i.op <= Op.SRAI or i.op is Op.LUI else b
            value = self._compute(i.op, a, other, i.immediate)
        else:
            raise NotProvedError(f"{i.op.name} is not modelled (pc 0x{state.pc:x})")
        if value is not None and i.rd:
            state.registers[i.rd] = value
        state.pc = following

    def _compute(self, op: Op, a: Any, b: Any, immediate: int) -> Any:
        if isinstance(a, int) and isinstance(b, int):
            takes_immediate = Op.ADDI <= op <= Op.SRAI or op is Op.LUI
            return _COMPUTE[op](a, immediate if takes_immediate else b) & _M32
        a, b = bv(a), bv(b)
        if op is Op.MUL:
            value = self.facts.product_low(a, b)
        elif op is Op.MULHU:
            value = self.facts.product_high(a, b)
        elif op is Op.DIVU:
            value = self.facts.divided(a, b)
        elif op in _TERMS:
            value = _TERMS[op](a, b)
        else:
            raise NotProvedError(f"{op.name} of unknowns is not modelled")
        value = z3.simplify(value)
        return value.as_long() if z3.is_bv_value(value) else value

    def _load(self, state: State, address: int) -> Any:
        self._check_access(address, store=False)
        if INPUT_BASE <= address < INPUT_BASE + PAGE:
            index = (address - INPUT_BASE) // 4
            if index >= len(INPUT_WORDS):
                raise NotProvedError(f"reads beyond the input at 0x{address:x}")
            return self.inputs[INPUT_WORDS[index]]
        return state.memory.get(address, 0)

    def _store(self, state: State, address: int, value: Any) -> None:
        self._check_access(address, store=True)
        state.memory[address] = value

    def _check_access(self, address: int, *, store: bool) -> None:
        region = next((r for r in self.program.regions if r.base <= address < r.base + r.size), None)
        if region is None or address % 4 or (store and not region.writable) or (region.executable or region.data):
            raise NotProvedError(f"access to 0x{address:x} is not allowed or not modelled")

    def _call_divide_digits(self, state: State) -> None:
        """Replace the call by its contract, after proving high < divisor; a0, a1 = n, a2 = d, a3 -> the rest."""
        low, high, divisor = (bv(state.registers[n]) for n in (10, 11, 12))
        self.prove(state, z3.And(divisor != 0, z3.ULT(high, divisor)), "high < divisor before divide_digits")
        self.obligations += 1
        quotient, rest = self.facts.digits(high, low, divisor)
        self._store(state, _known(state.registers[13], "an address"), rest)
        state.registers[10] = quotient
        for scratch in (*range(5, 8), *range(11, 18), *range(28, 32)):
            # The caller may not rely on these: give them values that nothing knows.
            state.registers[scratch] = z3.FreshConst(_WORD, "scratch")
        state.pc = _known(state.registers[1], "a return address")

    def prove(self, state: State, claim: Any, what: str) -> None:
        """Raise NotProvedError, with an input that breaks it, unless ``claim`` holds on this path."""
        solver = limited_solver()
        solver.add(*self.facts.axioms, *state.conditions, z3.Not(claim))
        answer = solver.check()
        if answer != z3.unsat:
            example = solver.model() if answer == z3.sat else f"the solver gave up after {SOLVER_MS} ms"
            raise NotProvedError(f"{self.program.name}: {what}: {example}")


def _known(value: Any, what: str) -> int:
    if not isinstance(value, int):
        raise NotProvedError(f"{what} depends on the input")
    return value


_CONDITIONS: Final[dict[int, Callable[[Any, Any], Any]]] = {
    Op.BEQ: lambda a, b: a == b,
    Op.BNE: lambda a, b: a != b,
    Op.BLT: lambda a, b: a < b,
    Op.BGE: lambda a, b: a >= b,
    Op.BLTU: z3.ULT,
    Op.BGEU: z3.UGE,
}

_TERMS: Final[dict[int, Callable[[Any, Any], Any]]] = {
    Op.ADD: lambda a, b: a + b, Op.ADDI: lambda a, b: a + b, Op.SUB: lambda a, b: a - b,
    Op.AND: lambda a, b: a & b, Op.ANDI: lambda a, b: a & b, Op.OR: lambda a, b: a | b, Op.ORI: lambda a, b: a | b,
    Op.XOR: lambda a, b: a ^ b, Op.XORI: lambda a, b: a ^ b,
    Op.SLL: lambda a, b: a << (b & 31), Op.SLLI: lambda a, b: a << (b & 31),
    Op.SRL: lambda a, b: z3.LShR(a, b & 31), Op.SRLI: lambda a, b: z3.LShR(a, b & 31),
    Op.SRA: lambda a, b: a >> (b & 31), Op.SRAI: lambda a, b: a >> (b & 31),
    Op.SLTU: lambda a, b: bit(z3.ULT(a, b)), Op.SLTIU: lambda a, b: bit(z3.ULT(a, b)),
    Op.SLT: lambda a, b: bit(a < b), Op.SLTI: lambda a, b: bit(a < b),
}  # fmt: skip


def specification(
    name: str, x: dict[str, Any], facts: Facts, *, value: Any = None, payout: Any = None, knocked: Any = None
) -> dict[str, Any]:
    """Return what each output must be, as a term over the inputs: the contract, written without looking at the code.

    value, payout, knocked: terms already proved equal to the specified ones on this path, for what follows from them;
    after a refusal, where nothing follows, ``knocked`` is false.
    """
    put, binary = z3.Extract(0, 0, x["option_type"]) == 1, z3.Extract(1, 1, x["option_type"]) == 1
    strike, spot, barrier = x["strike"], x["spot"], x["barrier_level"]
    collateral = z3.Concat(x["collateral_high"], x["collateral_low"])
    own = {
        "vanilla_option": [(z3.UGT(x["option_type"], 1), 2), (barrier != 0, 6), (x["early_exercise"] != 0, 7)],
        "binary_option": [
            (z3.Or(x["option_type"] == 0, x["option_type"] == 1, z3.UGT(x["option_type"], 3)), 2),
            (barrier != 0, 6), (x["early_exercise"] != 0, 7),
        ],
        "barrier_option": [(barrier == 0, 6), (x["early_exercise"] != 0, 7)],
    }[name]  # fmt: skip
    common = [
        (x["abi_version"] != 1, 1),
        (z3.UGT(x["option_type"], 3), 2),
        (strike == 0, 3),
        (spot == 0, 4),
        (z3.Or(x["quantity"] == 0, z3.UGT(x["quantity"], 2_100_000_000)), 5),
        (barrier == strike, 6),
        (z3.Or(z3.UGT(x["observed_low"], spot), z3.ULT(x["observed_high"], spot)), 10),
        (z3.Or(collateral == 0, z3.UGT(collateral, 2_100_000_000_000_000)), 12),
    ]
    error: Any = bv(0)
    for condition, code in reversed(own + common):
        error = z3.If(condition, bv(code), error)
    if knocked is None:
        knocked = z3.And(
            barrier != 0,
            z3.If(z3.UGT(barrier, strike), z3.UGE(x["observed_high"], barrier), z3.ULE(x["observed_low"], barrier)),
        )
    hold = z3.And(x["time_to_expiry"] != 0, z3.Not(knocked))
    in_the_money = z3.If(put, z3.ULT(spot, strike), z3.UGT(spot, strike))
    if_paid = z3.If(binary, strike, z3.If(put, strike - spot, spot - strike))
    per_bitcoin = z3.If(z3.And(in_the_money, z3.Not(knocked)), if_paid, bv(0))
    pays = z3.And(error == 0, z3.Not(hold))
    if value is None:
        quantity = x["quantity"]
        value = z3.Concat(facts.product_high(per_bitcoin, quantity), facts.product_low(per_bitcoin, quantity))
    low, high = z3.simplify(z3.Extract(31, 0, value)), z3.simplify(z3.Extract(63, 32, value))
    if payout is None:
        cents_low, cents_high = _hundredths(facts, low, high)
        payout = z3.If(pays, z3.Concat(cents_high, cents_low), z3.BitVecVal(0, 64))
    ended = z3.If(knocked, bv(0), z3.If(in_the_money, bv(1), z3.If(spot == strike, bv(3), bv(2))))
    return {
        "error": error,
        "abi_version": bv(1),
        "value": value,
        "payout": payout,
        "exercise_type": z3.If(error != 0, bv(0), z3.If(hold, bv(5), ended)),
        "barrier_hit": z3.If(error != 0, bv(0), bit(knocked)),
        "profit_loss": z3.If(error != 0, z3.BitVecVal(0, 64), payout - z3.ZeroExt(32, x["premium"])),
        "payout_sats": z3.If(pays, _sats(facts, low, high, spot, collateral), z3.BitVecVal(0, 64)),
    }


def _hundredths(facts: Facts, low: Any, high: Any) -> tuple[Any, Any]:
    """Return a 64-bit value by 100, as two words: three digits of base 65536, each by lemma 1; lemma 2 joins them."""

    def by_100(value: Any) -> Any:
        return z3.LShR(facts.product_high(value, bv(_DIV100)), 5)

    first = by_100(high)
    upper = ((high - first * 100) << 16) | z3.LShR(low, 16)
    second = by_100(upper)
    lower = ((upper - second * 100) << 16) | (low & 0xFFFF)
    return (second << 16) + by_100(lower), first


def _sats(facts: Facts, low: Any, high: Any, spot: Any, collateral: Any) -> Any:
    whole_high = facts.divided(high, spot)
    whole, rest = facts.digits(high - facts.product_low(whole_high, spot), low, spot)
    coin = bv(1_000_000)
    fraction, _ = facts.digits(facts.product_high(rest, coin), facts.product_low(rest, coin), spot)
    product = z3.Concat(facts.product_high(whole, coin), facts.product_low(whole, coin))
    sats = product + z3.ZeroExt(32, fraction)
    return z3.If(z3.Or(whole_high != 0, z3.UGT(sats, collateral)), collateral, sats)


_OUTPUT: Final = {
    "payout": (0, 2), "exercise_type": (8, 1), "barrier_hit": (12, 1), "profit_loss": (16, 2), "payout_sats": (24, 2),
    "abi_version": (32, 1), "error": (36, 1),
}  # fmt: skip


def _prove_end(executor: Executor, state: State, name: str) -> int:
    """Prove every output at one path's end; return how many claims."""
    got = {}
    for output, (offset, words) in _OUTPUT.items():
        parts = [bv(state.memory.get(OUTPUT_BASE + offset + 4 * n, 0)) for n in range(words)]
        got[output] = parts[0] if words == 1 else z3.Concat(parts[1], parts[0])
    # Cuts: once a value is proved, what follows from it is specified in terms of the binary's own value, which spares
    # the solver the same proof again inside a larger one.
    cuts: dict[str, Any] = {}
    order = ["error", "barrier_hit", "payout", "exercise_type", "profit_loss", "payout_sats", "abi_version"]
    if state.payoff_at is not None:
        got["value"] = z3.Concat(bv(state.memory[state.payoff_at + 4]), bv(state.memory[state.payoff_at]))
        order.insert(order.index("payout"), "value")
    for output in order:
        wanted = specification(name, executor.inputs, executor.facts, **cuts)
        executor.prove(state, got[output] == wanted[output], output)
        if output == "barrier_hit":
            cuts["knocked"] = z3.simplify(got[output] == 1)
        if output in ("value", "payout"):
            cuts[output] = got[output]
    return len(order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """What was proved about one program."""

    program: str
    paths: int
    longest_path: int
    """Steps, with divide_digits counted as one."""
    claims: int


def prove_program(name: str) -> Proved:
    """Prove the specification for ``name``. Raises NotProvedError with a counterexample."""
    program = load_program(name)
    executor = Executor(program)
    ends = executor.run()
    claims = executor.obligations
    for state in ends:
        claims += _prove_end(executor, state, name)
    return Proved(program=name, paths=len(ends), longest_path=max(state.steps for state in ends), claims=claims)


def prove_lemmas() -> list[str]:
    """Prove the integer facts that the programs' proofs rest on; return them in words. Raises NotProvedError."""
    x, q, r, p, s = z3.Ints("x q r p s")
    two32 = 1 << 32
    lemmas: dict[str, tuple[list[Any], Any]] = {
        "1: x // 100 == x * 0x51EB851F >> 37 for every u32 x": (
            [
                x >= 0,
                x < two32,
                x == 100 * q + r,
                r >= 0,
                r < 100,
                x * _DIV100 == (1 << 37) * p + s,
                s >= 0,
                s < 1 << 37,
            ],
            p == q,
        )
    }
    y, z = z3.Ints("y z")
    lemmas["1b: x // 100 == (x - x % 4) // 100"] = (
        [x >= 0, x < two32, x == 4 * y + z, z >= 0, z < 4, x == 100 * q + r, r >= 0, r < 100,
         4 * y == 100 * p + s, s >= 0, s < 100],
        p == q,
    )  # fmt: skip
    h, m, low, a, b, c, ra, rb, rc = z3.Ints("h m low a b c ra rb rc")
    lemmas["2: the three digits are floor(n / 100), and each fits its half word"] = (
        [
            h >= 0, h < two32, m >= 0, m < 65536, low >= 0, low < 65536,
            h == 100 * a + ra, ra >= 0, ra < 100, ra * 65536 + m == 100 * b + rb, rb >= 0, rb < 100,
            rb * 65536 + low == 100 * c + rc, rc >= 0, rc < 100,
        ],
        z3.And(
            h * two32 + m * 65536 + low == 100 * (a * two32 + b * 65536 + c) + rc,
            b >= 0, b < 65536, c >= 0, c < 65536, ra * 65536 + m < two32, rb * 65536 + low < two32,
        ),
    )  # fmt: skip
    value, spot, whole, rest, fraction, left = z3.Ints("value spot whole rest fraction left")
    coin = 1_000_000
    lemmas["3: whole * 10**6 + fraction == floor(value * 10**6 / spot)"] = (
        [value == whole * spot + rest, rest * coin == fraction * spot + left, left >= 0, left < spot],
        z3.And(value * coin == (whole * coin + fraction) * spot + left, left >= 0, left < spot),
    )
    for name, (given, claim) in lemmas.items():
        solver = limited_solver()
        solver.add(*given, z3.Not(claim))
        if solver.check() != z3.unsat:
            raise NotProvedError(f"lemma {name}")
    return list(lemmas)


def prove_division(name: str = "vanilla_option") -> list[str]:
    """Prove that divide_digits is exact for high < divisor; return the parts in words. Raises NotProvedError.

    The binary equals Knuth's algorithm D written as a term; that algorithm's digit, and how two digits make the
    quotient of the normalised operands, are integer lemmas.
    """
    _prove_digit_lemma()
    _prove_normalisation_lemmas()
    program = load_program(name)
    steps = {_prove_binary_is_algorithm_d(program, shift) for shift in range(32)}
    return [
        "4: a digit of algorithm D is floor((top * 65536 + next) / d) and below 65536, for 2**31 <= d < 2**32, top < d",
        "5: two digits of the operands shifted left make quotient and shifted remainder of the operands",
        f"divide_digits is algorithm D for every number of leading zeros, in {max(steps)} steps",
    ]


def _prove_binary_is_algorithm_d(program: Program, shift: int) -> int:
    """Prove it for all divisors with ``shift`` leading zeros; return the steps.

    The divisor is given as zeros, a one, and unknown bits, so that the normalisation folds away and the two sides are
    nearly the same term: no axiom is needed.
    """
    executor = Executor(program)
    executor.divide_digits = -1  # here it is the subject
    high, low = z3.BitVecs("high low", 32)
    unknown = 31 - shift
    one = z3.BitVecVal(1, shift + 1)
    divisor = z3.Concat(one, z3.BitVec("bits", unknown)) if unknown else one
    registers: list[Any] = [0] * 32
    ecall = program.elf.entry + 4 * next(n for n, word in enumerate(program.words) if decode(int(word)).op is Op.ECALL)
    registers[1], registers[2], registers[13] = ecall, 0x8000_2800, 0x8000_2000
    registers[10], registers[11], registers[12] = low, high, divisor
    executor.follow(State(program.elf.symbols["divide_digits"][0], list(registers), {}, []))
    (end,) = executor.ends
    kept = (2, 8, 9, *range(18, 28))
    if any(end.registers[n] != registers[n] for n in kept) or set(end.memory) != {0x8000_2000}:
        raise NotProvedError("divide_digits changes a register that it must keep, or other memory than its remainder")
    quotient, rest = _algorithm_d(executor.facts, high, low, divisor, shift)
    for what, got, wanted in (
        ("quotient", end.registers[10], quotient),
        ("remainder", end.memory[0x8000_2000], rest),
    ):
        solver = limited_solver()
        solver.add(bv(got) != wanted)
        if solver.check() != z3.unsat:
            raise NotProvedError(f"divide_digits, {what}, {shift} leading zeros")
    return end.steps


def _algorithm_d(facts: Facts, high: Any, low: Any, divisor: Any, shift: int) -> tuple[Any, Any]:
    """Return quotient and remainder as Knuth (TAOCP 2, 4.3.1, D) computes them, for a divisor with ``shift`` zeros."""
    d = z3.simplify(divisor << shift)
    top = (high << shift) | z3.LShR(z3.LShR(low, 1), 31 - shift)
    rest_of_n = low << shift
    d_high, d_low = z3.simplify(z3.LShR(d, 16)), z3.simplify(d & 0xFFFF)

    def digit(upper: Any, following: Any) -> tuple[Any, Any]:
        q = facts.divided(upper, d_high)
        r = upper - facts.product_low(q, d_high)
        for _ in range(2):
            # As masks, like the C code, so that both sides become the same term: wrong is 1 when large and r < 65536.
            small = z3.ULT((r << 16) | following, facts.product_low(q, d_low))
            large = z3.simplify(z3.LShR(q, 16) | bit(small))
            wrong = z3.simplify(bit(z3.ULT(z3.LShR(r, 16), 1)) & bit(z3.ULT(0, large)))
            q, r = z3.simplify(q - wrong), z3.simplify(((0 - wrong) & d_high) + r)
        return q, ((upper << 16) | following) - facts.product_low(q, d)

    first, rest = digit(top, z3.LShR(rest_of_n, 16))
    second, rest = digit(rest, rest_of_n & 0xFFFF)
    return (first << 16) + second, z3.LShR(rest, shift)


def _prove_digit_lemma() -> None:
    """Prove lemma 4. Products are variables with the true facts about them that the proof needs."""
    base = 1 << 16
    d_high, d_low, top, following, q0, r0, by_high, by_low = z3.Ints("d_high d_low top next q0 r0 by_high by_low")
    d = d_high * base + d_low
    given = [
        d_high >= base // 2, d_high < base, d_low >= 0, d_low < base, top >= 0, top < d, following >= 0,
        following < base, q0 >= 0, r0 >= 0, r0 < d_high,
        by_high == top - r0,  # by_high = q0 * d_high
        z3.Implies(q0 >= base + 2, by_high >= (base + 2) * d_high),
        by_low >= 0,  # by_low = q0 * d_low
        z3.Implies(q0 == 0, by_low == 0),
        z3.Implies(q0 == 1, by_low == d_low),
        z3.Implies(q0 < base, by_low <= (base - 1) * d_low),
        z3.Implies(q0 == base, z3.And(by_low == base * d_low, by_high == base * d_high)),
        z3.Implies(q0 == base + 1, z3.And(by_low == (base + 1) * d_low, by_high == (base + 1) * d_high)),
    ]  # fmt: skip
    q, r, product = q0, r0, by_low
    for _ in range(2):
        large = z3.Or(q >= base, product > r * base + following)
        wrong = z3.And(large, r < base)
        q, r, product = (
            z3.If(wrong, q - 1, q), z3.If(wrong, r + d_high, r), z3.If(wrong, product - d_low, product),
        )  # fmt: skip
    rest = r * base + following - product  # top * base + following - q * d, since top = q * d_high + r throughout
    _prove_integers("4", given, z3.And(rest >= 0, rest < d, q >= 0, q < base, q0 <= base + 1))


def _prove_normalisation_lemmas() -> None:
    base = 1 << 16
    n, d, p1, p2, r1, r2, top, upper, lower = z3.Ints("n d p1 p2 r1 r2 top upper lower")
    for shift in range(32):
        scale = 1 << shift
        given = [
            n >= 0, d >= 1, n * scale == (top * base + upper) * base + lower,
            top * base + upper == p1 + r1,  # p1 = q1 * (d * scale)
            r1 * base + lower == p2 + r2, r2 >= 0, r2 < d * scale,  # p2 = q2 * (d * scale)
        ]  # fmt: skip
        # (q1 * base + q2) * d * scale = p1 * base + p2, so n - quotient * d = r2 / scale.
        _prove_integers(f"5, shift {shift}", given, n * scale - (p1 * base + p2) == r2)
        high, low, divisor = z3.BitVecs("high low divisor", 32)
        shifted = z3.Concat((high << shift) | z3.LShR(z3.LShR(low, 1), 31 - shift), low << shift)
        solver = limited_solver()
        solver.add(z3.ULT(high, divisor), z3.LShR(divisor, 31 - shift) == 1)
        exact = z3.And(
            z3.ULT(z3.Extract(63, 32, shifted), divisor << shift),
            z3.LShR(divisor << shift, shift) == divisor,
            z3.LShR(shifted, shift) == z3.Concat(high, low),
        )
        solver.add(z3.Not(exact))
        if solver.check() != z3.unsat:
            raise NotProvedError(f"lemma 5, shift {shift}: a bit is lost")


def _prove_integers(name: str, given: list[Any], claim: Any) -> None:
    solver = limited_solver()
    solver.add(*given, z3.Not(claim))
    if solver.check() != z3.unsat:
        raise NotProvedError(f"lemma {name}")


def main() -> int:
    """Prove everything and say what was proved."""
    for lemma in prove_lemmas():
        print(f"lemma {lemma}")  # noqa: T201 - a command
    for name in PROGRAMS:
        for part in prove_division(name):
            print(f"{name}: {part}")  # noqa: T201 - a command
        proved = prove_program(name)
        print(f"{name}: {proved.claims} claims on {proved.paths} paths, at most {proved.longest_path} steps")  # noqa: T201 - a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
