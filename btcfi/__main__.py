"""``python -m btcfi``: the commands that need no cluster."""

from btcfi.surfaces.cli import run
from btcfi.surfaces.vm_cli import app

if __name__ == "__main__":
    run(app)
