"""``python -m btcfi``: proofs, traces and guest programs, and a desk's market; ``btcfi`` has all commands."""

import sys

from btcfi.surfaces.cli import run

if __name__ == "__main__":
    if sys.argv[1:2] == ["market"]:
        from btcfi.surfaces.market_cli import app as market

        del sys.argv[1]
        run(market, name="btcfi market")
    from btcfi.surfaces.vm_cli import app

    run(app)
