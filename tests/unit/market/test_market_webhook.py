"""A webhook's message: signed as the specification's own vector, sent where everybody is, again and again for days."""

import pytest

from btcfi.errors import InvalidInputError
from btcfi.market.webhook import (
    LONGEST_REST_SECONDS,
    MOST_TRIES,
    HookRule,
    decode_secret,
    encode_secret,
    is_public,
    message_id,
    rest_seconds,
    signature,
)

REGTEST, MAIN = HookRule(loopback=True), HookRule()


def test_a_message_is_signed_as_the_published_vector_has_it():
    """Source: standard-webhooks/standard-webhooks, libraries/python/tests/test_webhooks.py (test_sign_function)."""
    secret = decode_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert signature(
        secret, message="msg_p5jXN8AQM9LWM0D4loKWxJek", at=1614265330, body=b'{"test": 2432232314}'
    ) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="  # fmt: skip
    assert decode_secret(encode_secret(secret)) == secret


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "127.0.0.1", "169.254.169.254", "172.16.3.4", "192.168.1.1", "100.64.0.1", "100.100.100.200",
        "0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1", "198.18.0.1", "240.0.0.1", "168.63.129.16",
        "192.0.0.192", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fc00::1", "ff02::1", "::ffff:10.0.0.1",
        "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:a00:1::1", "2001:0:1::1",
        "2001:db8::1", "fec0::1", "2606:4700::1%1", "localhost", "", "8.8.8.8 ", "127.1", "2130706433",
    ],
)  # fmt: skip
def test_an_address_that_not_everybody_reaches_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::6810:84e5", "2a00:1450:4001:82a::200e"])
def test_an_address_that_everybody_reaches_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/", "ftp://hooks.example.com/", "https://", "https:///x", "//hooks.example.com/",
        "https://user:word@hooks.example.com/", "https://@hooks.example.com/", "https://10.0.0.1/",
        "https://169.254.169.254/latest", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://127.0.0.1/",
        "https://localhost/", "https://intranet/", "https://127.1/", "https://2130706433/", "https://0x7f.0.0.1/",
        "https://hooks.example.1/", "https://hooks.example.com:0/", "https://hooks.example.com:22/",
        "https://hooks.example.com:99999/", "https://hooks.example.com/#x", "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nX: y", "https://hooks.exämple.com/", "https://hooks.example.com\\@10.0.0.1/",
        "https://hooks_.example.com/", "https://hooks.example.com./", "https://a..example.com/",
        "https://hooks.example.com/" + "a" * 500,
        "javascript:alert(1)", "http://169.254.169.254/", "https://[fe80::1%25eth0]/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("rule", [MAIN, REGTEST], ids=["main", "regtest"])
def test_a_url_that_leads_elsewhere_is_refused_before_anything_is_looked_up(url, rule):
    local = rule.loopback and url in {"https://127.0.0.1/", "https://localhost/", "https://[::1]/"}
    if local:
        rule.endpoint(url)
    else:
        with pytest.raises(InvalidInputError):
            rule.endpoint(url)


def test_a_url_s_parts_are_what_is_sent_and_nothing_of_it_is_guessed():
    found = MAIN.endpoint("https://Hooks.Example.com:8443/a?b=c")
    assert (found.host, found.port, found.target, found.authority) == (
        "hooks.example.com", 8443, "/a?b=c", "hooks.example.com:8443",
    )  # fmt: skip
    assert MAIN.endpoint("https://hooks.example.com").target == "/"
    assert MAIN.endpoint("https://[2606:4700::6810:84e5]/x").authority == "[2606:4700::6810:84e5]"


def test_the_loopback_is_there_for_a_chain_of_one_machine_alone_and_for_no_name_that_leads_to_it():
    at_home, named = REGTEST.endpoint("http://127.0.0.1:9000/x"), REGTEST.endpoint("https://hooks.example.com/")
    assert REGTEST.allows("127.0.0.1", at_home)
    assert not MAIN.allows("127.0.0.1", at_home)
    assert not REGTEST.allows("127.0.0.1", named)
    assert REGTEST.allows("93.184.216.34", named)
    assert not REGTEST.allows("93.184.216.34", at_home)
    assert not REGTEST.allows("10.0.0.1", named)


def test_attempts_at_one_message_come_to_three_days_and_never_all_at_once():
    rests = [rest_seconds(n, 0.5) for n in range(1, MOST_TRIES)]
    assert rests == sorted(rests)
    assert (rests[0], rests[-1]) == (5, LONGEST_REST_SECONDS)
    assert 2.5 * 86_400 < sum(rests) < 3.5 * 86_400
    assert rest_seconds(8, 0.0) < rest_seconds(8, 0.5) < rest_seconds(8, 1.0)
    assert rest_seconds(10**6, 1.0) <= 1.2 * LONGEST_REST_SECONDS


def test_a_message_s_id_is_the_same_in_every_attempt_and_no_other_s():
    same = {message_id("h1", 7, "take", "t1", "taken") for _ in range(3)}
    others = {message_id("h2", 7, "take", "t1", "taken"), message_id("h1", 7, "take", "t1", "funded"),
              message_id("h1", 7, "take", "t1taken", "")}  # fmt: skip
    assert len(same) == 1
    assert len(same | others) == 4
