"""The guest program as a party runs it: in its own process, or in a child that a check starts and that ends itself.

The interpreter and its compiler take a hundred megabytes, and a party mostly waits for messages. The child reads one
JSON object a line and answers with one; it computes, holds no key, and ends with its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

from btcfi.contracts.buckets import Payouts
from btcfi.contracts.payouts import payouts_by
from btcfi.errors import BtcfiError, InvalidInputError, UnreachableError
from btcfi.options.terms import OptionTerms
from btcfi.units import Hash32, hash32
from btcfi.vm.machine import FAULTS, MachineFaultError, Stop
from btcfi.vm.program import Program, load_program_by_hash

CODE: Final = Path(__file__).resolve().parents[3]
"""The folder in which this package lies."""

WARM_SECONDS: Final = 60.0
"""How long a child waits for the next question: the checks of one contract come within seconds of each other."""


ANSWER_SECONDS: Final = 600.0
"""Until a child that says nothing is killed: a contract's payouts, compiled first on a slow machine, take a tenth."""


class Guest:
    """The guest, run in this process."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._others: dict[Hash32, Guest] = {}

    def of(self, program_hash: Hash32) -> Guest:
        """Return the guest that runs the program with this hash, retired or not. Raises NotHeldError."""
        if program_hash == self.program.program_hash:
            return self
        # one for all contracts of a retired program: each may have a child, which takes a hundred megabytes
        if program_hash not in self._others:
            self._others[program_hash] = self._another(load_program_by_hash(program_hash.hex()))
        return self._others[program_hash]

    def _another(self, program: Program) -> Guest:
        return Guest(program)

    def begin(self) -> None:
        """Get ready for a question that will come soon, without waiting."""

    def close(self) -> None:
        """End what it has started, if anything."""
        for one in self._others.values():
            one.close()

    def payouts(self, terms: OptionTerms) -> Payouts:
        """Return the payout function of an option. It raises GuestRefusedError, MachineFaultError."""
        return payouts_by(terms, self.outputs)

    def outputs(self, inputs: Sequence[bytes]) -> list[bytes]:
        """Return the output of a run on each input. Raises MachineFaultError, InvalidInputError."""
        from btcfi.vm.interpreter import run_many  # noqa: PLC0415 - numba; most commands of a party run no guest

        return run_many(self.program, inputs)

    def prove(self, given: bytes) -> tuple[bytes, Hash32]:
        """Return the output of a run on one input, and the root of its proof. Raises as ``outputs`` does."""
        from btcfi.proofs.settlement_proof import build_proof  # noqa: PLC0415 - numba, as above
        from btcfi.vm.interpreter import run  # noqa: PLC0415 - as above

        self.program.require_input(given)
        execution = run(self.program, given)
        return execution.output, build_proof(execution).proof_root


class GuestAside(Guest):
    """The guest, run in a child process that is warm for a while. Not for two threads at once."""

    def __init__(self, program: Program, *, warm_seconds: float = WARM_SECONDS) -> None:
        super().__init__(program)
        self._warm_seconds = warm_seconds
        self._child: subprocess.Popen[str] | None = None

    @property
    def warm(self) -> bool:
        """Whether a child waits for the next question."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int | None:
        """The child's, if there was ever one."""
        return None if self._child is None else self._child.pid

    def outputs(self, inputs: Sequence[bytes]) -> list[bytes]:
        """Return the output of a run on each input. Raises MachineFaultError, InvalidInputError, UnreachableError."""
        answer = self._ask({"outputs": [one.hex() for one in inputs]})
        return [bytes.fromhex(one) for one in answer["outputs"]]

    def prove(self, given: bytes) -> tuple[bytes, Hash32]:
        """Return the output of a run on one input, and the root of its proof. Raises as ``outputs`` does."""
        answer = self._ask({"prove": given.hex()})
        return bytes.fromhex(answer["output"]), hash32(bytes.fromhex(answer["root"]))

    def _another(self, program: Program) -> Guest:
        return GuestAside(program, warm_seconds=self._warm_seconds)

    def begin(self) -> None:
        """Start the child, which imports and compiles while we do something else."""
        if not self.warm:
            self._child = self._start()

    def close(self) -> None:
        """End the child, if there is one, and those of other programs."""
        super().close()
        if self._child is not None and self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()
            self._child.wait()
            self._child = None

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        line = json.dumps(question) + "\n"
        # a child that had waited long enough may end as we write: the runs have no effect, so a new one is asked again
        said = self._said(line) or self._said(line)
        if not said:
            raise UnreachableError("guest", "a child process", "it ended", "its last words are in our own log")
        answer: dict[str, Any] = json.loads(said)
        if "fault" in answer:
            raise FAULTS[Stop(answer["fault"].pop("stop"))](**answer["fault"])
        if "refused" in answer:  # by the machine before the run; the same question is refused again
            raise InvalidInputError(**answer["refused"])
        return answer

    def _said(self, line: str) -> str:
        """Return what the child answers, nothing when it ended instead: it is given up then."""
        child = self._child = self._child if self._child is not None and self.warm else self._start()
        said = ""
        # whoever waits for it watches no contract meanwhile
        stuck = threading.Timer(ANSWER_SECONDS, child.kill)
        stuck.daemon = True
        stuck.start()
        with contextlib.suppress(BrokenPipeError):
            if child.stdin is not None and child.stdout is not None:
                child.stdin.write(line)
                child.stdin.flush()
                said = child.stdout.readline()
        stuck.cancel()
        if not said.endswith("\n"):  # half an answer is none: it was killed as it wrote
            self._child, said = None, ""
        return said

    def _start(self) -> subprocess.Popen[str]:
        # It takes its code from where we have ours. With -m alone it would look first into the folder in which the
        # party happens to run, where others may write.
        command = [sys.executable, "-P", "-m", __name__, self.program.program_hash.hex(), str(self._warm_seconds)]
        known = [str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(known)}
        child = subprocess.Popen(  # noqa: S603 - ours
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        threading.Thread(target=child.wait, daemon=True, name="btcfi-guest").start()  # reaps it when it ends by itself
        return child


def guest_here_or_aside(program: Program) -> Guest:
    """Return the guest in this process where the interpreter is loaded, as in what an embedded cluster forks.

    Elsewhere it is in a child: who mostly waits does not hold a compiler.
    """
    return Guest(program) if "btcfi.vm.interpreter" in sys.modules else GuestAside(program)


def answer(guest: Guest, question: dict[str, Any]) -> dict[str, Any]:
    """Return what the child says to one question; a fault of the guest or a refused input as its fields."""
    try:
        if "prove" in question:
            output, root = guest.prove(bytes.fromhex(question["prove"]))
            return {"output": output.hex(), "root": root.hex()}
        return {"outputs": [one.hex() for one in guest.outputs([bytes.fromhex(one) for one in question["outputs"]])]}
    except MachineFaultError as e:
        fields = ("stop", "pc", "instruction", "address", "steps")
        return {"fault": {name: int(getattr(e, name)) for name in fields}}
    except InvalidInputError as e:
        return {"refused": {"field": e.field, "problem": e.problem, "expected": e.expected}}


def serve(guest: Guest, questions: IO[str], answers: IO[str], *, warm_seconds: float) -> None:
    """Answer until the parent is gone or has asked nothing for ``warm_seconds``."""
    while select.select([questions], [], [], warm_seconds)[0] and (line := questions.readline()):
        answers.write(json.dumps(answer(guest, json.loads(line))) + "\n")
        answers.flush()


def main(arguments: Sequence[str]) -> None:
    """Be the child: ``python -m btcfi.adapters.party.guest PROGRAM_HASH SECONDS``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's to answer
    guest = Guest(load_program_by_hash(arguments[0]))
    with contextlib.suppress(BtcfiError):  # the first run loads the compiler's work, two seconds: before it is asked
        guest.outputs([bytes(4)])
    serve(guest, sys.stdin, sys.stdout, warm_seconds=float(arguments[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
