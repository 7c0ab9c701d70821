import gzip
import json

import httpx
import pytest

from btcfi import secp256k1
from btcfi.adapters import signed_http
from btcfi.adapters.signed_http import DeskAwayError, DeskBusyError, DeskRefusedError, SignedHttp
from btcfi.errors import InvalidInputError
from btcfi.market.account import request_digest
from tests.support.accounts import DESK, NOW, trader

TRADER = trader("taker")
KEY = secp256k1.public_key_xonly(TRADER.keystore.request_secret())


class Server:
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, request):
        request.read()
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer


def connected(server, *, clock=lambda: NOW, pauses=None):
    return SignedHttp(
        "http://desk.test/", TRADER.identity, TRADER.keystore.request_secret(), DESK, clock,
        transport=httpx.MockTransport(server), sleep=(pauses if pauses is not None else []).append,
    )  # fmt: skip


def is_signed(request):
    scheme, _, rest = request.headers["Authorization"].partition(" ")
    said = dict(part.split("=") for part in rest.split(","))
    digest = request_digest(
        desk=DESK,
        account=TRADER.identity,
        method=request.method,
        target=request.url.raw_path.decode(),
        body=request.content,
        at=int(said["at"]),
    )
    who = said["account"] == TRADER.identity.hex()
    return (
        scheme == "BTCFi-Signature" and who and secp256k1.schnorr_verify(KEY, digest, bytes.fromhex(said["signature"]))
    )


def test_every_request_is_signed_with_its_method_target_body_and_time():
    server = Server(lambda: httpx.Response(200, json={"fine": 1}))
    with connected(server) as http:
        assert http.get("/letters", after=7, wait=25, patience=25, limit=None) == {"fine": 1}
        http.post("/takes", {"quantity": 1})
        http.delete("/offers/ab")
    assert [(one.method, one.url.raw_path) for one in server.asked] == [
        ("GET", b"/api/v1/letters?after=7&wait=25"), ("POST", b"/api/v1/takes"), ("DELETE", b"/api/v1/offers/ab"),
    ]  # fmt: skip
    assert all(is_signed(one) for one in server.asked)
    assert json.loads(server.asked[1].content) == {"quantity": 1}


def test_without_an_account_nothing_is_signed():
    server = Server(lambda: httpx.Response(200, json={}))
    with SignedHttp("http://desk.test", transport=httpx.MockTransport(server)) as http:
        http.get("/desk")
    assert "Authorization" not in server.asked[0].headers


def test_a_request_that_was_not_answered_is_signed_anew_and_sent_again():
    times = iter([NOW, NOW + 40])
    server = Server(httpx.ConnectError("no"), lambda: httpx.Response(202, json={}))
    with connected(server, clock=lambda: next(times)) as http:
        http.post("/letters", {"name": "a"})
    said = [one.headers["Authorization"].split(",")[1] for one in server.asked]
    assert said == [f"at={NOW}", f"at={NOW + 40}"]
    assert all(is_signed(one) for one in server.asked)


def test_a_desk_that_is_busy_is_asked_again_when_it_says_and_no_later_than_we_wait():
    pauses = []
    server = Server(httpx.Response(429, headers={"Retry-After": "2"}), httpx.Response(200, json=[]))
    with connected(server, pauses=pauses) as http:
        assert http.get("/offers") == []
    assert pauses == [2.0]
    with (
        connected(Server(httpx.Response(503, headers={"Retry-After": "3600"}, json={}))) as http,
        pytest.raises(DeskBusyError),
    ):
        http.get("/offers")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([httpx.Response(422, json={})], (False, None)),
        ([httpx.ConnectError("no"), httpx.Response(422, json={})], (False, None)),
        ([httpx.ReadTimeout("no"), httpx.Response(422, json={})], (True, None)),
        ([httpx.Response(502, json={}), httpx.Response(409, json={})], (True, None)),
        ([httpx.Response(429, json={}), httpx.Response(409, json={})], (False, None)),
        ([httpx.ConnectError("no")] * 3, (None, True)),
        ([httpx.ConnectError("no"), httpx.ReadError("no"), httpx.ConnectError("no")], (None, False)),
    ],
)
def test_who_is_refused_or_not_answered_knows_whether_the_request_may_have_been_granted(answers, said):
    with connected(Server(*answers)) as http, pytest.raises((DeskRefusedError, DeskAwayError)) as ended:
        http.post("/offers", {})
    assert (getattr(ended.value, "after_silence", None), getattr(ended.value, "unsent", None)) == said


def test_a_refusal_says_which_field_and_repeats_no_body():
    problem = {"type": "x", "detail": "price_sats: 7; expected a multiple", "field": "price_sats", "expected": "more"}
    with connected(Server(httpx.Response(422, json=problem))) as http, pytest.raises(DeskRefusedError) as refused:
        http.post("/offers", {"secret": "do not say"})
    assert (refused.value.status, refused.value.field) == (422, "price_sats")
    assert "do not say" not in str(refused.value)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("no"),
        httpx.Response(200, text="<html>"),
        httpx.Response(302, headers={"Location": "/x"}),
        httpx.Response(200, content=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}),
    ],
)
def test_what_is_no_desk_is_one_that_is_away(answer):
    server = Server(answer)
    with connected(server) as http, pytest.raises(DeskAwayError):
        http.get("/offers")
    assert all(one.url.path == "/api/v1/offers" for one in server.asked)


def test_an_answer_without_an_end_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(signed_http, "MAX_ANSWER_BYTES", 10_000)
    read = []

    def endless():
        while True:
            read.append(1)
            yield b"[" * 1_000

    server = Server(lambda: httpx.Response(200, content=endless()))
    with connected(server) as http, pytest.raises(DeskAwayError):
        http.get("/letters")
    assert len(read) < 20


def test_what_is_no_address_of_a_desk_is_refused():
    with pytest.raises(InvalidInputError):
        SignedHttp("desk.example")
