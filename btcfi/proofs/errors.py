"""Why a proof is not believed: one class a check, in the order in which ``verify`` makes them."""

from __future__ import annotations

from btcfi.errors import BtcfiError


class ProofError(BtcfiError):
    """A proof failed a check. ``check`` names it."""

    check = "proof"

    def __init__(self, problem: str) -> None:
        super().__init__(f"proof refused, check '{self.check}': {problem}")
        self.problem = problem


class ProofFormatError(ProofError):
    """The file is not a canonical proof: truncated, an unknown field, a wrong length, another spelling."""

    check = "format"


class ProofVersionError(ProofError):
    """The proof has a version that this verifier does not know."""

    check = "version"


class ProofProgramError(ProofError):
    """The proof is about another program."""

    check = "program"


class ProofInputError(ProofError):
    """The input commitment is not the hash of the input."""

    check = "input commitment"


class ProofInputSizeError(ProofError):
    """The input has another length than the program's manifest gives it: the same settlement under another root."""

    check = "input size"


class ProofFinalStateError(ProofError):
    """The final state hash is not the hash of the final state."""

    check = "final state"


class ProofRootError(ProofError):
    """The proof root is not the hash of the root record."""

    check = "proof root"


class ProofPathError(ProofError):
    """The included steps and siblings do not lead to the trace root."""

    check = "inclusion"


class ProofStepError(ProofError):
    """An included step is not what its instruction does, does not follow from its predecessor, or is missing."""

    check = "step"


class ProofOutputError(ProofError):
    """The stores among the included steps contradict the output."""

    check = "output"


class ProofExecutionError(ProofError):
    """Executing the program on the input gives something else."""

    check = "re-execution"


class ProofWindowError(ProofError):
    """The window's minutes do not make the price that the program was run with."""

    check = "window"
