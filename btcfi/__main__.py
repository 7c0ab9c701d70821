"""``python -m btcfi``: proofs, traces and guest programs; ``btcfi`` has all commands."""

from btcfi.surfaces.cli import run
from btcfi.surfaces.vm_cli import app

if __name__ == "__main__":
    run(app)
