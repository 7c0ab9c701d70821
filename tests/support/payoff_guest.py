"""Expressions as one guest program: their C by the pinned compiler, run by the machine, a page of cases a run."""

import tempfile
from pathlib import Path

import numpy as np

from btcfi.disputes.payoffs.expression import events_of
from btcfi.disputes.payoffs.guest_c import PRELUDE, c_function
from btcfi.vm.interpreter import run_many
from btcfi.vm.program import program_from_elf
from guest_programs.build import build

PAGE_WORDS = 1_024
HEAD = 2
"""Words before the outcomes: which expression, how many cases."""

MAIN = """
int main(void) {{
    const volatile u32 *in = (const volatile u32 *)0x80000008u;
    volatile u32 *output = (volatile u32 *)0x80001000u;
    u32 which = in[-2], count = in[-1];
    for (u32 at = 0; at < count; at++) {{
        i64 value = -1;
        switch (which) {{
{cases}
        }}
        *output++ = (u32)value;
        *output++ = (u32)((unsigned long long)value >> 32);
    }}
    return 0;
}}
"""


class PayoffGuest:
    """A program that computes whichever of some expressions its first word says."""

    def __init__(self, expressions):
        """expressions: by name."""
        self.events = {name: events_of(one) for name, one in expressions.items()}
        functions = [c_function(f"f_{at}", one) for at, one in enumerate(expressions.values())]
        cases = []
        for at, events in enumerate(self.events.values()):
            arguments = ", ".join(f"in[{event}]" for event in range(events))
            cases.append(f"        case {at}: value = f_{at}({arguments}); in += {events}; break;")
        source = (
            PRELUDE
            + "\n".join(f"__attribute__((noinline)) {one}" for one in functions)
            + MAIN.format(cases="\n".join(cases))
        )
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "main.c").write_text(source, encoding="utf-8")
            elf = build("payoffs", ["main.c"], root=Path(folder))
        self.program = program_from_elf(elf, name="payoffs", output_size=4 * PAGE_WORDS)

    def words(self, name):
        """The machine words of an expression's function."""
        address, size = self.program.elf.symbols[f"f_{list(self.events).index(name)}"]
        first = (address - self.program.elf.code.address) // 4
        return tuple(self.program.words[first : first + size // 4].tolist())

    def values(self, name, outcomes):
        """What the machine says of an expression at many outcomes: rows events, columns cases."""
        events, many = self.events[name], outcomes.shape[1]
        each = min(PAGE_WORDS // 2, (PAGE_WORDS - HEAD) // events)
        runs = -(-many // each)
        words = np.zeros((runs, PAGE_WORDS), dtype="<u4")
        padded = np.pad(outcomes[:events], ((0, 0), (0, runs * each - many)))
        words[:, 0], words[:, 1] = list(self.events).index(name), each
        words[:, HEAD : HEAD + each * events] = padded.T.reshape(runs, each * events)
        raw = b"".join(out[: 8 * each] for out in run_many(self.program, [row.tobytes() for row in words]))
        return np.frombuffer(raw, dtype="<i8").astype(np.int64)[:many]
