"""``btcfi party join`` and ``btcfi market``: what is shown, asked and posted, and what no desk can make of it."""

import json
import re
import time
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from btcfi.adapters.keystore import LEAST_N, create_keystore, open_keystore
from btcfi.adapters.party.identity import IDENTITY_FILE
from btcfi.adapters.party.market_ledger import (
    MARKET_FOLDER,
    MarketLedger,
    OfferWithdrawnError,
    TakeCancelledError,
    TakeWithdrawnError,
)
from btcfi.adapters.party.membership import FILE, OtherDeskJoinedError, joined
from btcfi.adapters.party.owner import Owner
from btcfi.adapters.party.store import PartyStore
from btcfi.adapters.signed_http import DeskAwayError, DeskRefusedError
from btcfi.contracts.mandate import OutsideMandateError, WrongMandateError, sign_mandate
from btcfi.contracts.mandate_drafts import careful_mandate, simulation_mandate
from btcfi.contracts.messages import Role
from btcfi.contracts.summary import DeclinedError
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.market.auction import Auction
from btcfi.market.firm_offer import Side, encode_signed_offer
from btcfi.market.request import Wanted
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces import market_cli, party_cli
from tests.support.accounts import trader
from tests.support.chain import embedded_node
from tests.support.contracts import ORACLES
from tests.support.http_desk import SPOT, HttpDesk, served

pytestmark = pytest.mark.integration

NAME = "BTC-29JAN27-60000-C"
WORDS = "a long passphrase"
MANDATE = {
    "number": 1, "now": 1_800_000_000, "network": "regtest", "programs": [b"p" * 32], "threshold": 1,
    "oracle_keys": [public_key_xonly(ORACLES[0])],
}  # fmt: skip


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    with embedded_node(folder) as (made, _):
        yield ["--node", made.where, "--cookie-file", str(folder / ".cookie")]


@pytest.fixture
def desk():
    with served(HttpDesk([public_key_xonly(ORACLES[0])])) as made:
        yield made


class Party:
    def __init__(self, folder, node):
        self.folder, self.node = folder, node
        folder.mkdir()
        (folder / "words").write_text(WORDS + "\n")
        self.keystore = create_keystore(folder / "keystore.json", WORDS, cost=LEAST_N)
        identity = create_keystore(folder / IDENTITY_FILE, WORDS, cost=LEAST_N)
        self.identity = public_key_xonly(identity.identity_secret())
        self.owner = Owner(PartyStore(folder), self.keystore)
        self.owner.adopt(self.identity)
        self.give(simulation_mandate(**MANDATE))

    def give(self, mandate):
        identity = open_keystore(self.folder / IDENTITY_FILE, WORDS)
        self.owner.install(sign_mandate(replace(mandate, number=self.owner.next_number()), identity.identity_secret()))

    def run(self, app, *words, input=None):  # noqa: A002 - the runner's own name
        side = ["--dir", str(self.folder), "--passphrase-file", str(self.folder / "words"), *self.node]
        return CliRunner().invoke(app, [*map(str, words), *side], input=input)

    def join(self, desk, *words, name="alice-1"):
        return self.run(party_cli.app, "join", desk.url, "--name", name, "--yes", *words)

    def market(self, *words):
        return self.run(market_cli.app, *words)

    @property
    def member(self):
        return joined(self.folder, open_keystore(self.folder / "keystore.json", WORDS))

    @property
    def ledger(self):
        return MarketLedger(self.folder / MARKET_FOLDER)


@pytest.fixture
def party(tmp_path, node):
    return Party(tmp_path / "party", node)


def done(result):
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 0, result.output
    return result


def failed(result, kind):
    assert isinstance(result.exception, kind), (result.exception, result.output)
    assert isinstance(result.exception, BtcfiError)
    return str(result.exception)


# ---- joining


def test_joining_shows_and_pins_the_desk_s_keys_and_again_changes_nothing(party, desk):
    shown = done(party.join(desk)).stderr
    for said in (desk.info["desk_key"], "regtest", desk.info["oracles"][0]["key"], party.identity.hex()):
        assert said in shown
    pinned = (party.folder / FILE).read_bytes()
    again = json.loads(done(party.join(desk, "--json")).stdout)
    assert again["changed"] is False
    assert (party.folder / FILE).read_bytes() == pinned
    assert party.member.is_of(party.keystore)
    assert desk.account("alice-1") == party.member.registered


def test_nothing_is_pinned_or_signed_without_a_yes(party, desk):
    result = party.run(party_cli.app, "join", desk.url, "--name", "alice-1")
    assert "--yes" in failed(result, (InvalidInputError, DeclinedError))
    assert party.member is None
    assert desk.accounts == {}


def test_a_desk_that_shows_other_keys_than_those_pinned_is_another_desk(party, desk):
    done(party.join(desk))
    pinned = (party.folder / FILE).read_bytes()
    desk.info["desk_key"] = trader("other").identity.hex()
    failed(party.join(desk), OtherDeskJoinedError)
    assert (party.folder / FILE).read_bytes() == pinned


def test_a_desk_of_another_chain_is_not_joined(party, desk):
    desk.info["network"] = "main"
    assert "network" in failed(party.join(desk), InvalidInputError)
    assert party.member is None


def test_a_name_that_is_another_s_leaves_nothing_pinned_and_a_second_one_can_be_chosen(party, desk):
    other = trader("bob-2").registered()
    desk.accounts[other.registration.identity] = other
    assert "bob-2" in failed(party.join(desk, name="bob-2"), DeskRefusedError)
    assert party.member is None
    done(party.join(desk, name="bob-3"))


def test_what_lies_in_the_folder_puts_no_other_desk_there(party, desk, tmp_path, node):
    done(party.join(desk))
    other = Party(tmp_path / "other", node)
    done(other.join(desk, name="mallory-1"))
    (party.folder / FILE).write_bytes((other.folder / FILE).read_bytes())
    with pytest.raises(InvalidInputError):
        _ = party.member
    assert FILE in failed(party.market("offers"), InvalidInputError)


def test_before_joining_each_command_names_the_next_step(party):
    for words in (["offers"], ["positions"], ["fills"], ["withdraw", "--all"], ["book", NAME], ["chain"]):
        assert "party join" in failed(party.market(*words), NotFoundError)


# ---- offering and taking


def test_an_offer_is_in_the_ledger_before_it_is_posted_and_signed_as_it_was_shown(party, desk):
    done(party.join(desk))
    result = done(
        party.market("offer", NAME, "ask", "--price-usd", "700", "--price-sats", "1,000,000", "--quantity", "0.25",
                     "--minimum", "0.05", "--valid", "10m", "--yes", "--json")
    )  # fmt: skip
    said = json.loads(result.stdout)
    (signed,) = desk.offers.values()
    assert said["offer"] == signed.offer.id.hex()
    assert party.ledger.offers() == [signed]
    assert (signed.offer.quantity, signed.offer.minimum, signed.offer.side) == (25, 5, Side.ASK)
    for shown in ("0.00250000 BTC (250,000 sat), paid to you", "0.25000000 BTC, your own", "24,750,000 sat"):
        assert shown in result.stderr
    (party.folder / MARKET_FOLDER / "ledger.jsonl").chmod(0o600)


def test_a_price_that_is_left_out_follows_from_the_spot_in_the_maker_s_favour(party, desk):
    done(party.join(desk))
    for side, sats in (("ask", 1_001_000), ("bid", 1_000_000)):
        said = json.loads(done(
            party.market("offer", NAME, side, "--price-usd", "700.01", "--quantity", "0.01", "--yes", "--json")
        ).stdout)  # fmt: skip
        assert (said["price_cents"], said["price_sats"]) == (70_001, sats)
    assert SPOT == 7_000_000


def test_what_the_desk_refuses_stands_nowhere(party, desk):
    done(party.join(desk))
    result = {"id": "00", "state": None, "problem": "valid_until: too far", "field": "valid_until"}
    desk.refusal = ({"results": [result]}, 200)
    words = ["offer", NAME, "ask", "--price-usd", "700", "--price-sats", "1000000", "--quantity", "0.01", "--yes"]
    assert "too far" in failed(party.market(*words), market_cli.OffersRefusedError)
    assert party.ledger.offers() == []


@pytest.mark.parametrize(("words", "field"), [
    (["offer", NAME, "sell", "--quantity", "1", "--price-usd", "1"], "bid|ask"),
    (["offer", "BTC-X", "ask", "--quantity", "1", "--price-usd", "1"], "instrument"),
    (["offer", NAME, "ask", "--quantity", "1"], "--price-usd"),
    (["offer", NAME, "ask", "--quantity", "x", "--price-usd", "1"], "quantity"),
    (["offer", NAME, "ask", "--quantity", "1", "--price-usd", "1", "--valid", "soon"], "--valid"),
    (["take", NAME, "--quantity", "1"], "OFFER"),
    (["take", f"{NAME}/ab", "--quantity", "1"], "OFFER"),
    (["withdraw"], "ID"),
])  # fmt: skip
def test_a_wrong_word_is_named(party, desk, words, field):
    done(party.join(desk))
    assert field in failed(party.market(*words), InvalidInputError)


def test_a_withdrawn_offer_is_one_that_our_own_process_signs_no_more(party, desk):
    done(party.join(desk))
    words = ["--price-usd", "700", "--price-sats", "1000000", "--quantity", "0.01", "--yes", "--json"]
    ids = [json.loads(done(party.market("offer", NAME, "ask", *words)).stdout)["offer"] for _ in range(2)]
    assert json.loads(done(party.market("withdraw", ids[0][:12], "--json")).stdout)["offers"] == [ids[0]]
    with pytest.raises(OfferWithdrawnError):
        party.ledger.offer(bytes.fromhex(ids[0]))
    desk.refusal = ({"detail": "busy"}, 503)  # the desk is asked again; our own word counts from the first moment
    done(party.market("withdraw", "--all"))
    assert party.ledger.offers() == []
    assert desk.offers == {}


@pytest.fixture
def offered(desk):
    signed = trader("maker").offer(NAME, Side.ASK, valid_until=4_000_000_000)
    desk.offers[signed.offer.id] = signed
    return signed


def test_a_take_shows_what_it_costs_and_is_in_the_ledger_with_what_its_maker_signed(party, desk, offered):
    done(party.join(desk))
    which = f"{NAME}/{offered.offer.id.hex()[:16]}"
    assert which in done(party.market("book", NAME)).stdout
    result = done(party.market("take", which, "--quantity", "0.10", "--yes", "--json"))
    said, (taken,) = json.loads(result.stdout), desk.takes
    assert (said["option"], said["premium_sats"], said["collateral_sats"]) == (taken.take.option_id, 100_000, 10**7)
    assert party.ledger.takes() == [(taken, offered)]
    for shown in ("buy it, and pay the premium", "100,000 sat), paid by you", "you lose 0.00100000 BTC"):
        assert shown in result.stderr


def test_an_offer_that_is_not_what_its_maker_signed_is_not_taken(party, desk, offered, monkeypatch):
    done(party.join(desk))
    which = f"{NAME}/{offered.offer.id.hex()}"
    cheaper = replace(offered, offer=replace(offered.offer, price=2_000_000))
    monkeypatch.setattr(desk, "shown", lambda _: encode_signed_offer(cheaper))
    failed(party.market("take", which, "--quantity", "0.10", "--yes"), market_cli.AnotherOfferError)
    monkeypatch.setattr(desk, "shown", lambda _: {"type": "x"})
    failed(party.market("take", which, "--quantity", "0.10", "--yes"), InvalidInputError)
    failed(party.market("take", f"{NAME}/{'ab' * 8}", "--quantity", "0.10", "--yes"), NotFoundError)
    assert desk.takes == []
    assert party.ledger.takes() == []


def test_more_than_there_is_of_an_offer_is_refused_before_anything_is_signed(party, desk, offered):
    done(party.join(desk))
    which = f"{NAME}/{offered.offer.id.hex()[:16]}"
    assert "quantity" in failed(party.market("take", which, "--quantity", "2", "--yes"), InvalidInputError)
    assert party.ledger.takes() == []


# ---- asking, and prices that move


def test_a_request_is_signed_as_it_was_asked_and_its_answers_are_shown_to_be_taken(party, desk, offered):
    done(party.join(desk))
    words = ["request", NAME, "buy", "--quantity", "0.5", "--valid", "10m", "--json"]
    said = json.loads(done(party.market(*words)).stdout)
    (signed,) = desk.requests.values()
    assert (signed.request.id.hex(), signed.request.wanted, signed.request.quantity) == (
        said["request"], Wanted.BUY, 50,
    )  # fmt: skip
    assert signed.request.taker == party.identity
    shown = done(party.market(*said["next"].split()[2:])).stdout
    assert f"{NAME}/{offered.offer.id.hex()[:16]}" in shown
    assert said["request"][:16] in done(party.market("requests")).stdout
    gone = json.loads(done(party.market("withdraw-request", said["request"], "--json")).stdout)
    assert gone == {"request": said["request"], "answers_withdrawn": 2}
    assert desk.requests == {}
    assert "requests --own" in failed(party.market("answers", said["request"]), NotFoundError)


def test_an_offer_that_answers_a_request_is_for_who_asked_and_one_that_misses_it_is_not_signed(party, desk):
    done(party.join(desk))
    asked = trader("taker").request(NAME, quantity=20)
    desk.requests[asked.request.id.hex()] = asked
    words = ["--price-usd", "700", "--request", asked.request.id.hex()[:16], "--yes"]
    shown = done(party.market("offer", NAME, "ask", "--quantity", "0.20", *words)).stderr
    assert f"the account {trader('taker').identity.hex()[:16]} alone" in shown
    (signed,) = desk.offers.values()
    assert (signed.offer.taker, signed.offer.request) == (trader("taker").identity, asked.request.id)
    for wrong, field in ((["ask", "--quantity", "0.21"], "quantity"), (["bid", "--quantity", "0.20"], "side")):
        assert field in failed(party.market("offer", NAME, *wrong, *words), InvalidInputError)
    assert "requests" in failed(party.market("offer", NAME, "ask", "--quantity", "1", "--price-usd", "7",
                                             "--request", "ab" * 8, "--yes"), NotFoundError)  # fmt: skip
    assert party.ledger.offers() == [signed]


def test_an_auction_is_shown_with_its_last_price_and_signed_with_its_steps(party, desk):
    done(party.join(desk))
    result = done(
        party.market("offer", NAME, "ask", "--price-usd", "700", "--price-sats", "1,000,000", "--to-usd", "350",
                     "--steps", "5", "--step", "2m", "--quantity", "0.25", "--yes")
    )  # fmt: skip
    (signed,) = desk.offers.values()
    moving = signed.offer.auction
    assert (moving.steps, moving.step_seconds, moving.last, moving.last_cents) == (5, 120, 500_000, 35_000)
    assert signed.offer.valid_until == moving.begins + 6 * 120
    assert party.ledger.offers() == [signed]
    for shown in ("5 times, every 120 s, to 0.00500000 BTC", "(125,000 sat), paid to you"):
        assert shown in result.stderr
    rising = ["offer", NAME, "ask", "--price-usd", "700", "--to-usd", "800", "--quantity", "0.25", "--yes"]
    assert "auction.last" in failed(party.market(*rising), InvalidInputError)
    assert len(party.ledger.offers()) == 1


def test_a_take_of_an_auction_is_of_the_step_that_has_begun(party, desk):
    done(party.join(desk))
    began = int(time.time()) - 3_500
    moving = Auction(begins=began, step_seconds=1_000, steps=5, last=500_000, last_cents=35_000)
    later = replace(moving, begins=began + 10_000)
    for number, one in enumerate((moving, later)):
        signed = trader("maker").offer(NAME, Side.ASK, valid_until=4_000_000_000, auction=one, number=number)
        desk.offers[signed.offer.id] = signed
    now, then = (one.hex() for one in desk.offers)
    result = done(party.market("take", f"{NAME}/{now[:16]}", "--quantity", "0.10", "--yes"))
    (taken,) = desk.takes
    assert (taken.take.step, taken.take.price, taken.take.price_cents) == (3, 700_000, 49_000)
    assert "0.00700000 BTC, and $490.00" in result.stderr
    assert "begins in" in failed(party.market("take", f"{NAME}/{then[:16]}", "--quantity", "0.10"), InvalidInputError)


def test_a_cancelled_take_is_one_that_our_own_process_signs_no_more_whatever_the_desk_does(party, desk, offered):
    done(party.join(desk))
    which = f"{NAME}/{offered.offer.id.hex()[:16]}"
    taken = json.loads(done(party.market("take", which, "--quantity", "0.10", "--yes", "--json")).stdout)
    party.ledger.check_not_cancelled(taken["option"])
    desk.refusal = ({"detail": "no"}, 409)
    failed(party.market("cancel", taken["option"], "--yes"), DeskRefusedError)
    with pytest.raises(TakeCancelledError):
        party.ledger.check_not_cancelled(taken["option"])
    said = json.loads(done(party.market("cancel", taken["option"], "--yes", "--json")).stdout)
    assert (said["take"], said["state"], desk.takes) == (taken["take"], "failed", [])
    failed(party.market("cancel", "t" + "0" * 32, "--yes"), NotFoundError)


def test_a_take_of_our_offer_is_cancelled_by_its_option_and_no_other_take_for_it(party, desk, offered):
    done(party.join(desk))
    signed = trader("taker").take(offered, 5)
    desk.takes.append(signed)
    done(party.market("cancel", signed.take.option_id, "--yes"))
    assert ("DELETE", f"/takes/{signed.take.id.hex()}") in desk.asked


# ---- looking


def test_every_list_is_a_table_or_json_and_no_text_of_the_desk_moves_the_cursor(party, desk, offered):
    done(party.join(desk))
    said = {word: done(party.market(word)).stdout for word in ("chain", "offers", "positions", "fills")}
    assert "\x1b" not in said["chain"]
    assert "you bought" in said["positions"]
    assert "wrote" in said["fills"]
    assert json.loads(done(party.market("fills", "--json")).stdout)["items"]
    done(CliRunner().invoke(market_cli.app, ["book", NAME, "--desk", desk.url, "--dir", "/nowhere"]))
    assert offered.offer.id.hex()[:16] in party.market("book", NAME).stdout


def test_an_answer_of_another_shape_is_one_of_no_desk(party, desk):
    done(party.join(desk))
    answers = ({"lines": {}, "expiry_unix": "x"}, [], None, {"items": [1]}, {})
    for words, answer in zip((["chain"], ["book", NAME], ["offers"], ["positions"], ["fills"]), answers, strict=True):
        desk.refusal = (answer, 200)
        failed(party.market(*words), DeskAwayError)


# ---- a browser


def test_a_browser_is_shown_before_it_is_let_in_and_what_was_shown_is_what_is_signed(party, desk):
    done(party.join(desk))
    assert "--yes" in failed(party.market("sign-in", "K7QM-2XHD"), InvalidInputError)
    assert desk.let_in == [], "nothing is signed without a yes"
    desk.browser["browser"] = "Safari\x1b[2J on iPhone"
    result = done(party.market("sign-in", " k7qm-2xhd", "--yes"))
    for said in ("192.0.2.7", "alice-1", desk.url, "nothing is signed there"):
        assert said in result.stderr
    assert "\x1b" not in result.stderr
    assert result.stdout.strip() == "4821 7730"
    assert "Give them to nobody" in result.stderr
    assert desk.let_in == [("K7QM2XHD", desk.browser, party.identity)]
    told = json.loads(done(party.market("sign-in", "K7QM2XHD", "--yes", "--json")).stdout)
    assert told["digits"] == "48217730"
    assert "CODE" in failed(party.market("sign-in", "K7QM/../x", "--yes"), InvalidInputError)


# ---- clumsy hands


OFFER = ("offer", NAME, "ask", "--price-usd", "700", "--price-sats", "1000000", "--quantity", "0.01", "--yes")


def test_a_time_that_no_calendar_has_is_refused_and_the_ledger_stays_readable(party, desk, offered):
    done(party.join(desk))
    done(party.market(*OFFER))
    which = f"{NAME}/{offered.offer.id.hex()[:16]}"
    failed(party.market(*OFFER, "--valid", "99999d"), InvalidInputError)
    failed(party.market("take", which, "--quantity", "0.10", "--yes", "--valid", "99999d"), InvalidInputError)
    assert len(desk.offers) == 2
    assert desk.takes == []
    assert len(party.ledger.offers()) == 1
    done(party.market("withdraw", "--all"))
    done(party.market("take", which, "--quantity", "0.10", "--yes"))


@pytest.mark.parametrize("status", [409, 422, 503])
def test_what_a_desk_refuses_by_its_status_is_signed_by_nobody_afterwards(party, desk, offered, status):
    """Who is told no and tries again would else have two."""
    done(party.join(desk))
    which = f"{NAME}/{offered.offer.id.hex()[:16]}"
    _refuse(desk, "post_offers", status)
    failed(party.market(*OFFER), DeskRefusedError)
    assert party.ledger.offers() == []
    _refuse(desk, "post_takes", status)
    failed(party.market("take", which, "--quantity", "0.10", "--yes"), DeskRefusedError)
    ((taken, _),) = party.ledger.takes()
    with pytest.raises(NotFoundError):
        party.ledger.take(taken.take.id)


def test_a_take_whose_answer_is_lost_is_not_signed_and_says_where_to_look_before_another(party, desk, offered):
    done(party.join(desk))
    which = f"{NAME}/{offered.offer.id.hex()[:16]}"
    desk.post_takes = lambda *_: (200, ["not", "an", "answer"])
    result = party.market("take", which, "--quantity", "0.10", "--yes")
    failed(result, DeskAwayError)
    assert "Look at `btcfi market takes` first" in result.stderr
    ((taken, _),) = party.ledger.takes()
    with pytest.raises(NotFoundError):
        party.ledger.take(taken.take.id)


def test_a_take_that_failed_is_listed_with_whose_fault_it_was_and_why(party, desk):
    done(party.join(desk))
    assert re.search("failed  maker  no answer to its proposal", done(party.market("takes")).stdout)
    assert json.loads(done(party.market("takes", "--json")).stdout)["items"][0]["fault"] == "maker"


def _refuse(desk, door, status):
    setattr(desk, door, lambda *_: (status, {"detail": "no"}))


def test_the_time_of_a_take_begins_with_the_yes_however_long_its_screen_was_read(party, desk, offered, monkeypatch):
    done(party.join(desk))
    real, read = time.time, [0]
    monkeypatch.setattr(market_cli.time, "time", lambda: real() + read[0])

    def reads_for_a_minute(*_, **__):
        read[0] = 60

    monkeypatch.setattr(market_cli, "confirm", reads_for_a_minute)
    party.market("take", f"{NAME}/{offered.offer.id.hex()[:16]}", "--quantity", "0.10")
    ((taken, _),) = party.ledger.takes()
    assert taken.take.valid_until > real() + market_cli.TAKE_SECONDS


@pytest.mark.parametrize("url", [
    "http://exa\x00mple", "http://ex\u2028ample", "http://xn--a", "http://.", f"http://{'a' * 300}.com", "http://[",
])  # fmt: skip
def test_a_url_that_is_none_is_named_and_no_traceback(party, url):
    failed(party.run(party_cli.app, "join", url, "--name", "alice-1", "--yes"), (DeskAwayError, InvalidInputError))
    result = CliRunner().invoke(market_cli.app, ["chain", "--desk", url])
    failed(result, (DeskAwayError, InvalidInputError))


def test_a_passphrase_file_that_is_no_text_is_named(party, desk):
    (party.folder / "words").write_bytes("été".encode("latin-1"))
    assert "passphrase" in failed(party.join(desk), InvalidInputError)


@pytest.mark.parametrize("words", [
    ("--quantity", "0.50", "--minimum", "0.05"), ("--quantity", "0.10", "--price-usd", "35000"),
    ("BTC-29JAN27-60000-BC",), ("BTC-29JAN27-60000-C-AM",), ("BTC-29JAN27-60000-C-KO90000",),
    ("BTC-29JAN27-60000-C-MEDIAN30",),
])  # fmt: skip
def test_what_the_own_mandate_does_not_allow_is_promised_to_nobody(party, desk, words):
    """Whoever took it would be refused by our own process, and the fault be ours: the offer lost, and every rank."""
    done(party.join(desk))
    party.give(careful_mandate(**MANDATE, roles=(Role.BUYER, Role.SELLER)))
    name, rest = (words[0], words[1:]) if words[0].startswith("BTC") else (NAME, words)
    given = {"--quantity": "0.10", "--price-usd": "700"} | dict(zip(rest[::2], rest[1::2], strict=True))
    failed(party.market("offer", name, "ask", *sum(given.items(), ()), "--yes"), OutsideMandateError)
    assert desk.offers == {}
    theirs = trader("maker").offer(name, Side.ASK, valid_until=4_000_000_000)
    desk.offers[theirs.offer.id] = theirs
    if name != NAME or given["--quantity"] == "0.50":
        which = f"{name}/{theirs.offer.id.hex()}"
        failed(party.market("take", which, "--quantity", given["--quantity"], "--yes"), OutsideMandateError)
    assert desk.takes == []


@pytest.mark.parametrize("what", [
    ("ask", "--price-usd", "17500", "--price-sats", "25000000", "--to-usd", "700", "--to-sats", "1000000"),
    ("bid", "--price-usd", "700", "--price-sats", "1000000", "--to-usd", "17500", "--to-sats", "25000000"),
])  # fmt: skip
def test_an_auction_that_the_own_mandate_allows_at_one_of_its_ends_alone_is_not_posted(party, desk, what):
    done(party.join(desk))
    party.give(careful_mandate(**MANDATE, roles=(Role.BUYER, Role.SELLER)))
    moving = ("--steps", "5", "--step", "60s", "--quantity", "0.10", "--yes")
    assert "premium_sats" in failed(party.market("offer", NAME, *what, *moving), OutsideMandateError)
    assert (desk.offers, party.ledger.offers()) == ({}, [])
    done(party.market("offer", NAME, what[0], *("--price-usd", "700", "--price-sats", "1000000"), *moving))


def test_an_answer_that_the_own_mandate_does_not_allow_or_the_desk_does_not_take_is_signed_by_nobody(party, desk):
    done(party.join(desk))
    asked = trader("taker").request(NAME)
    desk.requests[asked.request.id.hex()] = asked
    words = ["offer", NAME, "ask", "--price-usd", "700", "--price-sats", "1000000"]
    words += ["--request", asked.request.id.hex()[:16], "--yes", "--quantity"]
    party.give(careful_mandate(**MANDATE, roles=(Role.BUYER, Role.SELLER)))
    failed(party.market(*words, "0.50", "--minimum", "0.05"), OutsideMandateError)
    assert desk.offers == {}
    _refuse(desk, "post_offers", 503)
    failed(party.market(*words, "0.10"), DeskRefusedError)
    assert party.ledger.offers() == []


def test_before_there_is_a_mandate_nothing_is_promised(party, desk):
    done(party.join(desk))
    party.owner.revoke()
    assert "btcfi party mandate" in str(party.market(*OFFER).exception)
    failed(party.market(*OFFER), WrongMandateError)
    assert desk.offers == {}


# ---- after it


def test_who_joins_without_a_mandate_is_told_the_command_that_drafts_one_for_the_desk_s_oracles(party, desk, tmp_path):
    party.owner.revoke()
    desk.info["oracles"].append({"url": "http://evil.test/;reboot", "key": None})
    said = json.loads(done(party.join(desk)).stdout)["next"]
    key = desk.info["oracles"][0]["key"]
    assert said == f"btcfi party mandate new --oracle {key} --oracle KEY --threshold 1 --out mandate.json"
    words = said.replace(" --oracle KEY ", " ").replace("mandate.json", str(tmp_path / "mandate.json")).split()
    done(party.run(party_cli.app, *words[2:]))
    party.give(simulation_mandate(**MANDATE))
    assert json.loads(done(party.join(desk)).stdout)["next"] == "btcfi party run"


def test_the_proof_of_an_own_option_is_written_as_the_desk_has_it_beside_what_it_says_was_paid(party, desk, tmp_path):
    done(party.join(desk))
    told = {"state": "confirmed", "payout_sats": 5, "paid_sats": 4, "proof_root": "ab" * 32, "secret": "none"}
    desk.settlements["st-t1"] = told, {"version": 2, "steps": 491}
    place = tmp_path / "proof.json"
    said = json.loads(done(party.market("proof", "t1", "--out", place)).stdout)
    assert json.loads(place.read_text()) == {"version": 2, "steps": 491}
    assert (said["proof_root"], said["paid_sats"], "secret" in said) == ("ab" * 32, 4, False)
    assert said["next"] == f"btcfi verify {place}"
    done(party.market("proof", "t1", "--out", place))  # it is there already
    desk.settlements["st-t2"] = told, {"version": 2, "steps": 493}
    failed(party.market("proof", "t2", "--out", place), InvalidInputError)
    assert json.loads(place.read_text()) == {"version": 2, "steps": 491}, "another's proof is not written over"


@pytest.mark.parametrize("name", ["t1/../../offers", "t1?x=1", "", "t2"])
def test_of_what_is_no_settled_option_nothing_is_written(party, desk, tmp_path, name):
    done(party.join(desk))
    place = tmp_path / "proof.json"
    failed(party.market("proof", name, "--out", place), (InvalidInputError, NotFoundError))
    assert not place.exists()
    assert not [path for _, path in desk.asked if ".." in path]


# ---- with a limit


def asks_at(desk, *sats):
    """Offers of a maker's, the cheapest first, as a book lists them."""
    many = [trader("maker").offer(NAME, Side.ASK, valid_until=4_000_000_000, price=one, number=n, quantity=50)
            for n, one in enumerate(sorted(sats), 1)]  # fmt: skip
    desk.offers |= {one.offer.id: one for one in many}
    return many


def test_with_a_limit_the_best_offer_is_taken_that_stands_and_none_beyond_it(party, desk):
    done(party.join(desk))
    cheap, dear = asks_at(desk, 980_000, 1_000_000)
    done(party.market("take", NAME, "--quantity", "0.10", "--at-most", "0.0099btc", "--yes"))
    assert [one.take.offer_id for one in desk.takes] == [cheap.offer.id]
    del desk.offers[cheap.offer.id]
    said = failed(party.market("take", NAME, "--quantity", "0.10", "--at-most", "0.0099btc", "--yes"), NotFoundError)
    assert "0.01000000 BTC" in said
    assert len(desk.takes) == len(party.ledger.takes()) == 1
    done(party.market("take", NAME, "--quantity", "0.10", "--at-most", "1000000sat", "--yes"))
    assert desk.takes[1].take.offer_id == dear.offer.id


def test_an_offer_that_is_gone_before_the_take_comes_is_followed_by_the_next_within_the_limit(party, desk):
    done(party.join(desk))
    first, second = asks_at(desk, 980_000, 990_000)
    take = desk.post_takes

    def gone(*given):
        desk.post_takes = take
        del desk.offers[first.offer.id]
        return 409, {"type": "offer-gone", "detail": "it is gone"}

    desk.post_takes = gone
    done(party.market("take", NAME, "--quantity", "0.10", "--at-most", "0.0099btc", "--yes"))
    assert [one.take.offer_id for one in desk.takes] == [second.offer.id]
    lost = next(one for one, of in party.ledger.takes() if of == first)
    with pytest.raises(TakeWithdrawnError):  # nothing of the one that was refused is signed any more
        party.ledger.take(lost.take.id)


def test_no_second_take_follows_one_that_the_desk_may_have(party, desk):
    done(party.join(desk))
    asks_at(desk, 980_000, 990_000)
    _refuse(desk, "post_takes", 500)
    failed(party.market("take", NAME, "--quantity", "0.10", "--at-most", "0.0099btc", "--yes"), DeskRefusedError)
    assert len(party.ledger.takes()) == 1


@pytest.mark.parametrize("words", [
    (NAME,), (f"{NAME}/{'ab' * 32}", "--at-most", "1000000sat"),
    (NAME, "--at-most", "0.01btc", "--at-least", "0.01btc"),
    (NAME, "--at-most", "7e2"), (NAME, "--at-most", "0.0099"), (NAME, "--at-least", "all"),
])  # fmt: skip
def test_a_take_names_an_offer_or_one_limit(party, desk, words):
    done(party.join(desk))
    asks_at(desk, 980_000)
    failed(party.market("take", *words, "--quantity", "0.10", "--yes"), InvalidInputError)
    assert desk.takes == []
