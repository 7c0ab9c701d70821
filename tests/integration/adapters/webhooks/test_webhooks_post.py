"""One message to an address that a stranger named: checked, spoken to by that very address, over in its time."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from btcfi.adapters.webhooks.post import MAX_HEAD_BYTES, Post
from btcfi.market.webhook import HookRule
from tests.support.hook_receiver import contexts, receiving

RULE = HookRule(loopback=True)
HOME = lambda *_: ["127.0.0.1"]  # noqa: E731 - a resolver


def sent(url, body=b'{"id":1}', *, rule=RULE, resolve=HOME, **given):
    post = Post(rule=rule, resolve=resolve, **given)
    headers = {"Content-Type": "application/json", "webhook-id": "msg_1"}
    return asyncio.run(post.send(rule.endpoint(url), headers, body))


def test_a_message_arrives_whole_with_its_headers_by_http_and_by_https(tmp_path):
    server, client = contexts(tmp_path)
    with receiving() as plain, receiving(server) as sealed:
        for receiver, url in ((plain, plain.url), (sealed, sealed.url + "?a=b")):
            outcome = sent(url, trust=lambda: client)
            assert (outcome.taken, outcome.status) == (True, 204)
            (got,) = receiver.got
            assert got.body == b'{"id":1}'
            assert got.headers["webhook-id"] == "msg_1"
            assert got.headers["host"] == f"{'127.0.0.1' if receiver is plain else 'localhost'}:{receiver.port}"
    assert sealed.got[0].path == "/in?a=b"


def test_a_certificate_of_another_name_or_of_nobody_that_we_trust_gets_nothing(tmp_path):
    server, client = contexts(tmp_path, "elsewhere.example")
    with receiving(server) as receiver:
        for trust in ({"trust": lambda: client}, {}):
            outcome = sent(receiver.url, **trust)
            assert not outcome.taken
            assert "certificate" in outcome.problem
        assert receiver.got == []


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "10.0.0.1", "::1", "fd00:ec2::254", "::ffff:127.0.0.1", "0.0.0.0", "100.100.100.200"],
)  # fmt: skip
def test_a_public_name_that_leads_into_the_network_is_not_connected_to(address, monkeypatch):
    opened = []
    monkeypatch.setattr(asyncio, "open_connection", lambda *a, **k: opened.append(a))
    for found in ([address], ["93.184.216.34", address], [address, "93.184.216.34"]):
        outcome = sent("https://hooks.example.com/", resolve=lambda *_, found=found: found)
        assert outcome.problem == "its name leads to an address that is not public"
        assert address not in outcome.problem
    assert opened == []


def test_the_address_that_was_checked_is_the_one_that_is_spoken_to_though_the_name_changes():
    """DNS rebinding: whoever asks the name a second time gets another answer. Nobody asks a second time."""
    answers = [["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1"]]
    with receiving() as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        outcomes = []
        for n in range(1, 4):
            outcomes.append(sent(url, resolve=lambda *_: answers.pop(0)).taken)
            assert len(answers) == 3 - n, "asked once for one attempt"
        assert outcomes == [True, False, True]
        assert len(receiver.got) == 2


def test_no_redirect_is_followed_wherever_it_leads():
    with receiving() as receiver:
        for status in (301, 302, 303, 307, 308):
            for to in (f"http://127.0.0.1:{receiver.port}/other", "http://169.254.169.254/latest/meta-data/"):

                def redirect(handler, status=status, to=to):
                    handler.send_response(status)
                    handler.send_header("Location", to)
                    handler.end_headers()

                receiver.answer = redirect
                outcome = sent(receiver.url)
                assert (outcome.taken, outcome.status) == (False, status)
        assert {(got.path, got.body) for got in receiver.got} == {("/in", b'{"id":1}')}


def test_no_proxy_of_the_environment_is_asked(monkeypatch):
    with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert sent(receiver.url).taken
        assert (len(receiver.got), proxy.got) == (1, [])


def drips(handler):
    for _ in range(400):
        handler.wfile.write(b"X")
        time.sleep(0.02)


def endless_heads(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * MAX_HEAD_BYTES)


def endless_waits(handler):
    handler.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\n" * MAX_HEAD_BYTES)


def hangs_up(handler):
    handler.connection.close()


def no_http(handler):
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


def large_body(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(1_000):
        handler.wfile.write(bytes(1 << 16))


@pytest.mark.parametrize("answer", [drips, endless_heads, endless_waits, hangs_up, no_http])
def test_an_answer_that_is_none_is_over_in_its_time(answer):
    with receiving() as receiver:
        receiver.answer = answer
        outcome = sent(receiver.url, answer_seconds=0.4)
        assert (outcome.taken, outcome.status) == (False, None)
        assert outcome.problem.startswith("no answer")


def test_of_an_answer_the_status_is_read_and_its_body_is_left():
    with receiving() as receiver:
        receiver.answer = large_body
        assert sent(receiver.url).status == 200


@pytest.mark.parametrize("status", [400, 401, 404, 410, 429, 500, 503])
def test_a_refusal_is_said_by_its_status_and_nothing_that_the_other_side_writes(status):
    def refuse(handler):
        handler.send_response(status, "<script>alert(1)</script>")
        handler.end_headers()
        handler.wfile.write(b"secret of the receiver")

    with receiving() as receiver:
        receiver.answer = refuse
        outcome = sent(receiver.url)
        assert (outcome.status, outcome.problem, outcome.taken) == (status, f"status {status}", False)


def test_a_receiver_that_is_down_or_never_accepts_fails_and_nothing_is_raised():
    with receiving() as receiver:
        gone = receiver.url
    assert sent(gone).problem == "no connection: refused"
    assert sent("https://localhost:9/").problem == "no connection: refused"
    with receiving() as plain:  # https to a receiver that speaks http
        assert sent(plain.url.replace("http:", "https:")).problem == "no connection: TLS failed"


def test_a_name_that_is_looked_up_for_ever_holds_up_its_own_message_alone():
    over = threading.Event()

    def resolve(host, _port):
        if host == "slow.example.com":
            over.wait(20)
        return ["127.0.0.1"]

    with receiving() as receiver:
        post = Post(rule=RULE, resolve=resolve, connect_seconds=0.3, lookups=threading.BoundedSemaphore(2))

        async def both():
            slow = [post.send(RULE.endpoint("https://slow.example.com/"), {}, b"") for _ in range(3)]
            return await asyncio.gather(*slow)

        outcomes = asyncio.run(both())
        assert sorted(one.ours for one in outcomes) == [False, False, True], "two are looked up, the third is put off"
        assert {one.problem for one in outcomes if not one.ours} == {"no connection within 0.3 s"}
        over.set()
        deadline = time.monotonic() + 5
        while not sent_by(post, receiver.url).taken and time.monotonic() < deadline:
            time.sleep(0.01)
        assert receiver.got


def sent_by(post, url):
    return asyncio.run(post.send(RULE.endpoint(url), {"webhook-id": "m"}, b"{}"))


@pytest.mark.parametrize("fails", [OSError("no such name"), UnicodeError("label too long"), []])
def test_a_name_without_an_address_is_the_receiver_s_matter(fails):
    def resolve(*_):
        if isinstance(fails, Exception):
            raise fails
        return fails

    outcome = sent("https://hooks.example.com/", resolve=resolve)
    assert (outcome.problem, outcome.ours) == ("its name has no address", False)
