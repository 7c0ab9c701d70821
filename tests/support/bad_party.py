"""A party's process with a postman that is not to be trusted: ``python -m tests.support.bad_party HOW simulate ...``.

``silent``: says nothing. ``killed:KIND``: dies by SIGKILL whenever it is about to say KIND. ``once:KIND``: the first
time alone. ``lies:KIND``: says something else. Everything else of it is the party's own code.
"""

import os
import signal
import sys
from base64 import b64encode

from btcfi.adapters.party.postman import Postman
from btcfi.surfaces.cli import run
from btcfi.surfaces.party_cli import app


def _other_collateral(body):
    return body | {"collateral_sats": body["collateral_sats"] - 1}


def _no_signatures(body):
    raw = len(body["cet_adaptor_signatures"]) * 3 // 4
    return body | {"cet_adaptor_signatures": b64encode(bytes(raw)).decode()}


def _half_a_funding(body):
    return body | {"transaction": body["transaction"][:20]}


LIES = {"offer": _other_collateral, "accept": _no_signatures, "sign": _no_signatures, "funded": _half_a_funding}


def misbehave(how):
    """Change the postman of this process."""
    kind, _, about = how.partition(":")
    post = Postman._post

    def patched(self, name, body, path):
        if name.endswith(f".{about}"):
            marker = self._inbox.parent / "died"
            if kind == "killed" or (kind == "once" and not marker.exists()):
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "lies":
                body = LIES[about](body)
        return post(self, name, body, path)

    Postman._post = patched
    if kind == "silent":
        Postman.deliver = lambda self: 0


if __name__ == "__main__":
    misbehave(sys.argv.pop(1))
    run(app, name="btcfi party")
