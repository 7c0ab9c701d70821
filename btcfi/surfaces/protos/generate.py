"""Generate the Python of the .proto files beside this one: ``python -m btcfi.surfaces.protos.generate``."""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def main() -> int:
    """Write ``*_pb2.py``, ``*_pb2.pyi`` and ``*_pb2_grpc.py``; a test checks that they are what is committed."""
    sources = [str(p.relative_to(ROOT)) for p in sorted(HERE.glob("*.proto"))]
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    outputs = [f"--python_out={target}", f"--pyi_out={target}", f"--grpc_python_out={target}"]
    code: int = protoc.main(["protoc", f"-I{ROOT}", *outputs, *sources])
    for stub in sorted((target / HERE.relative_to(ROOT)).glob("*_pb2*.py*")):
        # the generators know nothing of strict typing; our callers are checked against the stubs all the same
        stub.write_text("# mypy: ignore-errors\n" + stub.read_text())
    return code


if __name__ == "__main__":
    sys.exit(main())
