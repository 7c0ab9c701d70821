"""An expression as a C function without a branch of its own: what a guest program calls, and leaves can judge.

A node is one line. It is computed in the least of three types that holds it and what it is made of: 32 bits without a
sign, 32 with one, 64 with one. Choices are masks behind an empty asm, or the compiler makes branches of them; 64 bits
are compared by branches all the same, which a guest may have and a leaf may not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from btcfi.disputes.payoffs.expression import Expression, Operation, events_of, nodes_of

PRELUDE: Final = """\
typedef unsigned u32;
typedef int i32;
typedef long long i64;
#define INLINE static inline __attribute__((unused))
INLINE u32 mask_of(u32 c) { u32 m = 0u - c; __asm__("" : "+r"(m)); return m; }
#define CHOOSER(T) INLINE T choose_##T(u32 c, T a, T b) { return b ^ ((a ^ b) & (T)(i32)mask_of(c)); }
CHOOSER(u32) CHOOSER(i32) CHOOSER(i64)
"""
"""Before every function."""


def c_function(name: str, expression: Expression) -> str:
    """Return the function of one ``u32`` for each event, in dollars; the whole of a file but for ``PRELUDE``."""
    nodes = nodes_of(expression)
    names = {id(one): f"v{at}" for at, one in enumerate(nodes)}
    arguments = ", ".join(f"u32 price{event}" for event in range(events_of(expression)))
    used = {one.number for one in nodes if one.operation is Operation.PRICE}
    lines = [f"{type_of([expression])} {name}({arguments or 'void'}) {{"]
    lines += [f"    (void)price{event};" for event in range(events_of(expression)) if event not in used]
    for one in nodes:
        kind = type_of([one])
        wide = _computed_in(one)
        body = _body(one, [f"({wide}){names[id(node)]}" for node in one.operands], wide)
        lines.append(f"    const {kind} {names[id(one)]} = ({kind})({body});")
    return "\n".join([*lines, f"    return {names[id(expression)]};", "}", ""])


def type_of(values: Sequence[Expression]) -> str:
    """Return the least type that holds all of some values."""
    low, high = min(one.low for one in values), max(one.high for one in values)
    if low >= 0 and high < 1 << 32:
        return "u32"
    return "i32" if low >= -(1 << 31) and high < 1 << 31 else "i64"


def _computed_in(one: Expression) -> str:
    """Return the type in which a node is computed: of what it compares, of that and its value, or of a difference."""
    if one.operation is Operation.LESS:
        return type_of(one.operands)
    wide = type_of([one, *one.operands])
    # without a sign a difference below 0 wraps, and is masked; with one it must fit
    return wide if wide == "u32" or one.operation is not Operation.ABOVE else "i64"


def _body(one: Expression, below: Sequence[str], wide: str) -> str:  # noqa: C901, PLR0911 - one case an operation
    match one.operation:
        case Operation.CONSTANT:
            return f"{one.number}ll"
        case Operation.PRICE:
            return f"price{one.number}"
        case Operation.ADD:
            return f"{below[0]} + {below[1]}"
        case Operation.SUBTRACT:
            return f"{below[0]} - {below[1]}"
        case Operation.SCALE:
            return f"{below[0]} * ({wide}){one.number}ll"
        case Operation.DIVIDE:
            return f"{below[0]} / {below[1]}"
        case Operation.ABOVE:
            return f"({below[0]} - {below[1]}) & ({wide})(i32)mask_of({below[1]} < {below[0]})"
        case Operation.LEAST | Operation.MOST if all(node.is_bit for node in one.operands):
            return f"{below[0]} {'&' if one.operation is Operation.LEAST else '|'} {below[1]}"
        case Operation.LEAST:
            return f"choose_{wide}({below[0]} < {below[1]}, {below[0]}, {below[1]})"
        case Operation.MOST:
            return f"choose_{wide}({below[1]} < {below[0]}, {below[0]}, {below[1]})"
        case Operation.LESS:
            return f"{below[0]} < {below[1]}"
        case Operation.CHOOSE:
            return f"choose_{wide}((u32){below[0]}, {below[1]}, {below[2]})"
