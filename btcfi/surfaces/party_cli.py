"""``btcfi party``: one side of an option contract, with its own keys, on its own machine.

    both:   party init, party mandate new --oracle KEY --threshold 1 --out draft.json, party mandate sign draft.json
    seller: party offer ... --out offer.json
    buyer:  party accept offer.json --announcement oracle.json --out accept.json
    seller: party sign accept.json --out sign.json
    buyer:  party sign sign.json            (checks everything, signs last, broadcasts the funding)
    both:   party watch --attestation attestation.json

Messages are files, ``-`` (stdin, stdout) or http(s) URLs (read by GET, written by POST). The passphrase is asked for,
or read from a file; it never stands in an argument.
"""

from __future__ import annotations

from btcfi.surfaces.cli import run
from btcfi.surfaces.party import (
    beginning,
    closing,
    joining,
    mandate,
    psbt,
    sending,
    setting_up,
    simulating,
    verifying,
    watching,
)
from btcfi.surfaces.party.side import app

__all__ = [
    "app",
    "beginning",
    "closing",
    "joining",
    "mandate",
    "psbt",
    "sending",
    "setting_up",
    "simulating",
    "verifying",
    "watching",
]

if __name__ == "__main__":
    run(app, name="btcfi party")
