"""What nodes relay beside what consensus takes: rules of several policies, and what transactions use of each."""

from dataclasses import dataclass

from btcfi.bitcoin.transaction import Transaction

TRUC_VSIZE = 10_000
"""Of a transaction of version 3. Source: BIP431."""

PUSHDATA = {0x4C: 1, 0x4D: 2, 0x4E: 4}
SIGNATURE_CHECKS = {0xAC, 0xAD, 0xBA}
BRANCHES = {0x63, 0x64}
FREE_BUDGET, CHECK_COST = 50, 50
"""Source: BIP342: a check of a signature costs 50 of 50 and the bytes of its input's witness."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a node relays; None where it has no such rule."""

    name: str
    item: int = 80
    """Bytes of an item that a tapscript is given. Source: Bitcoin Core, MAX_STANDARD_TAPSCRIPT_STACK_ITEM_SIZE."""
    weight: int = 400_000
    script: int | None = None
    """Bytes of one input's script and of all that it is given, control block included."""
    control: int | None = None
    """Bytes of a control block."""
    branches: bool = True
    """Whether an OP_IF may stand in a tapscript."""


CORE = Policy(name="Bitcoin Core's defaults")
KNOTS = Policy(name="Bitcoin Knots' defaults", script=1_650)
"""-maxscriptsize."""
STRICTEST = Policy(name="neither OP_IF nor long control blocks", control=257, branches=False)
"""What has been proposed as a rule of consensus for a time: then it is no matter of who relays."""

POLICIES = (CORE, KNOTS, STRICTEST)


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a transaction uses of what policies limit: the most over its inputs."""

    vsize: int
    weight: int
    items: int
    """That a script is given."""
    item: int
    """Bytes of the largest of them."""
    script: int
    witness: int
    """Bytes of script, control block and all that the script is given."""
    control: int
    operations: int
    """Opcodes that are no push."""
    checks: int
    """Of signatures."""
    branches: int
    budget: int
    """What checks of signatures leave of what consensus gives them, the least."""

    def refused(self, policy: Policy) -> list[str]:
        """Return the rules that a transaction does not meet."""
        said = {
            "item": self.item > policy.item,
            "weight": self.weight > policy.weight or self.vsize > TRUC_VSIZE,
            "script": policy.script is not None and self.witness > policy.script,
            "control": policy.control is not None and self.control > policy.control,
            "branches": not policy.branches and self.branches > 0,
        }
        return [name for name, broken in said.items() if broken]


def opcodes_of(script):
    """The opcodes of a script that are no push of data."""
    at = 0
    while at < len(script):
        code = script[at]
        at += 1
        if code in PUSHDATA:
            size = PUSHDATA[code]
            at += size + int.from_bytes(script[at : at + size], "little")
        elif code <= 75:
            at += code
        elif not (code == 0x4F or 0x51 <= code <= 0x60):
            yield code


def used(transaction: Transaction) -> Use:
    """Measure a signed transaction."""
    rows = []
    for one in transaction.inputs:
        stack = list(one.witness)
        assert not (len(stack) > 1 and stack[-1][:1] == b"\x50"), "an annex is relayed by nobody"
        script, control = (stack[-2], stack[-1]) if len(stack) > 1 else (b"", b"")
        given = stack[:-2] if len(stack) > 1 else stack
        codes = list(opcodes_of(script))
        checks = sum(code in SIGNATURE_CHECKS for code in codes)
        serialised = 1 + sum(len(item) + (1 if len(item) < 253 else 3) for item in stack)
        rows.append({
            "items": len(given), "item": max(map(len, given), default=0), "script": len(script),
            "witness": sum(map(len, stack)), "control": len(control), "operations": len(codes), "checks": checks,
            "branches": sum(code in BRANCHES for code in codes),
            "budget": FREE_BUDGET + serialised - CHECK_COST * checks,
        })  # fmt: skip
    most = {name: max(row[name] for row in rows) for name in rows[0]}
    most["budget"] = min(row["budget"] for row in rows)
    return Use(vsize=transaction.vsize, weight=transaction.weight, **most)
