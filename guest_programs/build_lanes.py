"""Build the hashing library of btcfi/proofs/native with the pinned compiler.

python -m guest_programs.build_lanes OUT
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from guest_programs.build import CompilerError, check_compiler

NATIVE: Final = Path(__file__).resolve().parents[1] / "btcfi" / "proofs" / "native"

FLAGS: Final = (
    *("-target", "x86_64-linux-musl", "-mcpu=x86_64", "-O3", "-std=gnu11"),
    *("-ffreestanding", "-fno-stack-protector", "-fno-builtin", "-g0", "-nostdlib", "-shared", "-fPIC", "-s"),
    *("-Wall", "-Wextra", "-Werror", "-Wl,--build-id=none"),
)
"""The baseline CPU: faster instructions stand in functions of their own, entered only where the CPU has them."""


def build_lanes(out: Path) -> None:
    """Write the library to ``out``. Raises CompilerError."""
    check_compiler()
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-o", str(out.resolve()), "sha256_lanes.c"]
    done = subprocess.run(command, cwd=NATIVE, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
    if done.returncode:
        raise CompilerError(f"sha256_lanes.c does not compile: {done.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    build_lanes(Path(sys.argv[1]))
