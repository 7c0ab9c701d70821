"""Two accounts close an option at a price of theirs over letters, and nobody gets a choice between two of its ends."""

import json
import secrets
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlmodel import select
from typer.testing import CliRunner

from btcfi.adapters.chain.node import TxRejectedError
from btcfi.adapters.nonces import NonceGoneError
from btcfi.adapters.party.close_deals import AnotherCloseError, CloseDeals, NotAgreedError
from btcfi.adapters.party.close_yes import CloseState
from btcfi.adapters.party.market_maker import Look, MarketMaker
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.market import closes as store
from btcfi.adapters.store.market import letters
from btcfi.adapters.store.market.closes import Moment
from btcfi.adapters.store.market.tables import CloseRow, LetterRow
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.mandate import OutsideMandateError
from btcfi.contracts.messages import Role
from btcfi.contracts.watch import Action
from btcfi.errors import InvalidInputError
from btcfi.market import closing as messages
from btcfi.market.closing import CloseDone, CloseGo, CloseLast, TooLateToCloseError
from btcfi.market.making import Inventory, MakingRule
from btcfi.oracle.freshness import MarketStatus
from btcfi.pricing.portfolio import Market
from btcfi.pricing.surface import flat_surface
from btcfi.surfaces import market_cli
from btcfi.units import CentsPerBtc, Sats, UnixSeconds
from tasks import chain, closes, market
from tasks import contracts as exchange_tasks
from tasks.carriers import LetterCarrier
from tasks.context import context
from tests.support.chain import embedded_node
from tests.support.contract_stage import EXPIRY
from tests.support.market_stage import MarketStage
from workers.audit import ChainView, audit

pytestmark = pytest.mark.integration

RATE = SatsPerKvb(2_000)
ONE = (1).to_bytes(32, "big")
PRICE = Sats(700_000)
MANY = 13
CLOSED, LAPSED = {}, {}
"""What one test has closed, or let lapse, for the one behind it."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("closes")
    with embedded_node(folder / "chain") as (node, _), MarketStage(
        folder / "data", node, folder / "chain" / ".cookie", names=("ada", "bob"), coins=40
    ) as made:  # fmt: skip
        yield made


@pytest.fixture
def ada(stage):
    return stage.accounts["ada"]


@pytest.fixture
def bob(stage):
    return stage.accounts["bob"]


@pytest.fixture(scope="module")
def options(stage):
    """Options that ada wrote and bob bought, their fundings final: as many as tests want, all traded at once."""
    names = [stage.accounts["bob"].take(stage.accounts["ada"].offer()) for _ in range(MANY)]
    stage.trade(8)
    stage.mine(6)
    assert {stage.state(name) for name in names} == {"ACTIVE"}
    return names


@pytest.fixture
def option(options):
    return options.pop()


@pytest.fixture
def shared(options):
    """One of which nothing is signed."""
    return options[0]


def named(account, option):
    return account.desk.orders()[option]


def propose(account, option, price=PRICE, seconds=300, rate=RATE):
    kept = account.desk.closes.propose(
        named(account, option), payout=price, rate=rate, valid_until=UnixSeconds(int(time.time()) + seconds)
    )
    account.outbox.mkdir(exist_ok=True)
    (account.outbox / f"{kept.offer.letter(option, messages.OFFER)}.json").write_text(
        json.dumps(messages.encode_offer(kept.offer))
    )
    return kept.offer


def carry(stage, rounds=4):
    for _ in range(rounds):
        stage.trade(1)
        chain.settle()
        market.tick()


def row(stage, offer):
    return stage.row(CloseRow, id=offer.id.hex())


def sent(stage, option):
    with stage.here.store.reading() as session:
        query = select(TransactionRow).where(TransactionRow.subject == option, TransactionRow.purpose == "close")
        return [one.txid for one in session.exec(query)]


def kept(account, offer):
    return account.desk.closes.book.find(offer.id)


def audited(stage, option, *, complete=True):
    view = ChainView()
    view.follow(stage.node)
    found = audit(stage.here.store, view, [option], complete=complete)
    return [one.what for one in found if not one.subject.startswith("round")]  # the stage's minutes are made by hand


def paid_to(stage, account, txid):
    script = account.desk.wallet.script
    found = stage.node.transaction(bytes.fromhex(txid)[::-1]).transaction
    return sum(out.value for out in found.outputs if out.script == script)


def test_a_holder_s_offer_to_close_is_agreed_to_signed_by_both_sent_at_once_and_ends_the_option(
    stage, ada, bob, option
):
    offer = propose(bob, option)
    carry(stage, 2)
    assert row(stage, offer).state == "offered"
    assert kept(ada, offer).state == "offered"  # nobody has said yes, so nothing is signed
    assert kept(ada, offer).said is None
    ada.desk.closes.agree(offer.id)
    carry(stage)
    closed = row(stage, offer)
    assert closed.state == "signed"
    assert closed.paid_sats + closed.returned_sats + closed.fee_sats == stage.option(option).collateral_sats
    stage.mine(1)
    carry(stage, 1)
    assert stage.state(option) == "ACTIVE"  # of six blocks
    assert audited(stage, option, complete=False) == []
    assert [kept(one, offer).state for one in (ada, bob)] == ["done"] * 2
    assert (paid_to(stage, bob, closed.txid), paid_to(stage, ada, closed.txid)) == (PRICE, closed.returned_sats)
    stage.mine(6)
    assert (row(stage, offer).state, stage.state(option)) == ("done", "ABANDONED")
    assert audited(stage, option) == []
    with stage.here.store.transaction() as session:
        session.get(CloseRow, offer.id.hex()).paid_sats -= 1
    assert [one.partition(":")[0] for one in audited(stage, option)] == ["closed", "closed"]
    with stage.here.store.transaction() as session:
        session.get(CloseRow, offer.id.hex()).paid_sats += 1
    for party in (ada, bob):  # its own watch knows the close for its own
        (report,) = [one for one in party.desk.watch() if one.name == named(party, option)]
        assert report.action is Action.DONE


def test_no_letter_to_a_side_holds_the_other_s_partial_signature(stage, ada, bob, option):
    offer = propose(ada, option)  # the writer buys back
    carry(stage, 2)
    bob.desk.closes.agree(offer.id)
    carry(stage)
    assert row(stage, offer).state == "signed"
    halves = {ada: kept(ada, offer).said["partial"], bob: kept(bob, offer).said["partial"]}
    for reader, writer in ((ada, bob), (bob, ada)):
        texts = "".join(path.read_text() for path in reader.inbox.rglob("*.json"))
        assert halves[writer] not in texts
    CLOSED.update(option=option, offer=offer)


def test_a_close_that_a_reorganisation_takes_is_sent_again_and_the_option_waits_for_it(stage, ada):
    option, offer = CLOSED["option"], CLOSED["offer"]
    stage.mine(7)
    assert stage.state(option) == "ABANDONED"
    tip = stage.node.block_count()
    stage.node.call("invalidateblock", stage.node.block_hash(tip - 6)[::-1].hex())
    stage.node.generate(8, ada.desk.address())
    chain.watch()
    carry(stage, 1)
    stage.mine(7)
    assert (row(stage, offer).state, stage.state(option)) == ("done", "ABANDONED")


def test_who_signs_and_never_goes_on_ends_with_nothing_and_the_other_closes_again_once_that_lapsed(
    stage, ada, bob, option, monkeypatch
):
    offer = propose(bob, option)
    carry(stage, 2)
    ada.desk.closes.agree(offer.id)
    bob.silent = True  # it has ada's yes, and waits for what the price does
    carry(stage)
    assert row(stage, offer).state == "answered"
    with pytest.raises(AnotherCloseError):
        propose(ada, option, Sats(600_000))
    with lapsed(monkeypatch, offer):
        market.tick()
    assert row(stage, offer).state == "over"
    bob.silent = False
    with clock(bob, offer.valid_until):  # it signs after all, too late for its own clock as well
        carry(stage)
    assert kept(bob, offer).said is None
    assert sent(stage, option) == []
    with clock(ada, offer.valid_until + 601):
        again = ada.desk.closes.propose(
            named(ada, option), payout=PRICE, rate=RATE, valid_until=UnixSeconds(offer.valid_until + 700)
        )
    assert again.offer.id != offer.id
    LAPSED.update(option=option, at=offer.valid_until + 2_000)


def test_who_offered_to_close_signs_within_a_minute_of_the_answer_or_never(stage, ada, bob, option, monkeypatch):
    """Its offer may stand for a day: with the other side's yes it held the close until it knew what the price did."""
    offer = propose(bob, option, seconds=3_000)
    carry(stage, 2)
    ada.desk.closes.agree(offer.id)
    bob.silent = True
    carry(stage)
    assert row(stage, offer).state == "answered"
    with monkeypatch.context() as patched:
        at = UnixSeconds(int(time.time()) + messages.FINISH_SECONDS + 5)
        patched.setattr(type(context()), "now", lambda _: at)
        bob.silent = False
        bob.work()
        assert kept(bob, offer).said is not None  # its last word, in time for what it had offered itself
        exchange_tasks.carry(stage.here)
        market.tick()
    assert row(stage, offer).state == "over"
    assert sent(stage, option) == []


def test_a_nonce_signs_once_and_the_same_words_again_get_the_same_answer(stage, ada, bob):
    option, at = LAPSED["option"], LAPSED["at"]
    with clock(ada, at), clock(bob, at):
        offer = propose(bob, option, seconds=3_000)
        with pytest.raises(NotAgreedError):
            ada.desk.closes.offered(offer, option)
        ada.desk.closes.agree(offer.id)
        first = ada.desk.closes.offered(offer, option)
        assert ada.desk.closes.offered(offer, option) == first
        last = bob.desk.closes.go(CloseGo(offer_id=offer.id, nonce=first.nonce))
        other = ada.desk.closes.offered(offer, option).nonce
        assert bob.desk.closes.go(CloseGo(offer_id=offer.id, nonce=bytes([2]) + other[1:])) == last
        # a copy of the folder from before has no nonce
        bob.desk.closes.book.save(replace(kept(bob, offer), state=CloseState.OFFERED, said=None))
        with pytest.raises(NonceGoneError):
            bob.desk.closes.go(CloseGo(offer_id=offer.id, nonce=first.nonce))


def test_a_last_word_that_comes_after_the_time_is_finished_by_nobody(stage, ada, bob, option, monkeypatch):
    offer = propose(bob, option)
    carry(stage, 2)
    ada.desk.closes.agree(offer.id)
    ada.work()
    exchange_tasks.carry(stage.here)
    bob.work()  # signs, in time
    assert kept(bob, offer).said is not None
    with lapsed(monkeypatch, offer):
        carry(stage, 2)
    assert row(stage, offer).state == "over"
    assert sent(stage, option) == []


def test_nothing_is_signed_once_a_price_is_attested(stage, ada, bob, shared, monkeypatch):
    offer = propose(bob, shared)
    carry(stage, 2)
    event = ada.desk._store.load(named(ada, shared)).offer.terms.announcements[0]
    known = {(event.event.id, event.oracle_key): object()}
    with monkeypatch.context() as patched:
        patched.setattr(ada.desk._store, "attestations", lambda: known)
        with pytest.raises(TooLateToCloseError):
            ada.desk.closes.agree(offer.id)
    with monkeypatch.context() as patched:
        patched.setattr(bob.desk._store, "attestations", lambda: known)
        with pytest.raises(TooLateToCloseError):
            bob.desk.closes.go(CloseGo(offer_id=offer.id, nonce=offer.nonce))
    assert kept(bob, offer).said is None


def test_of_two_offers_of_one_side_the_newer_alone_can_be_finished(stage, ada, bob, shared):
    first, second = propose(bob, shared), propose(bob, shared, Sats(650_000))
    assert (kept(bob, first).state, kept(bob, second).state) == ("over", "offered")
    with pytest.raises(InvalidInputError):
        bob.desk.closes.go(CloseGo(offer_id=first.id, nonce=second.nonce))
    bob.desk.closes.book.save(replace(kept(bob, first), state=CloseState.OFFERED))  # as in a folder of before
    with pytest.raises(NonceGoneError):
        bob.desk.closes.go(CloseGo(offer_id=first.id, nonce=second.nonce))


def test_two_sides_that_offer_at_once_close_once(stage, ada, bob, option):
    ours, theirs = propose(ada, option, Sats(500_000)), propose(bob, option, Sats(800_000))
    carry(stage, 2)
    ada.desk.closes.agree(theirs.id)
    bob.desk.closes.agree(ours.id)
    carry(stage, 4)
    states = sorted(row(stage, one).state for one in (ours, theirs))
    assert states.count("signed") <= 1
    assert len(sent(stage, option)) <= 1
    for one in (ada, bob):
        assert sum(kept(one, offer).said is not None for offer in (ours, theirs)) <= 1


def test_another_fee_or_price_than_was_offered_is_not_signed(stage, ada, bob, shared):
    offer = propose(bob, shared)
    carry(stage, 2)
    ada.desk.closes.agree(offer.id)
    for other in (replace(offer, payout=Sats(PRICE + 1)), replace(offer, rate=SatsPerKvb(9_000))):
        with pytest.raises(NotAgreedError):
            ada.desk.closes.offered(other, shared)
    with pytest.raises(InvalidInputError):
        ada.desk.closes.offered(offer, "t" + "0" * 32)
    assert ada.desk.closes.withdraw(offer.id).state == "over"


def test_a_close_is_within_the_mandate_or_not_at_all(stage, ada, bob, shared):
    with pytest.raises(OutsideMandateError):
        propose(bob, shared, rate=SatsPerKvb(10_000_000))


def test_a_wrong_half_ends_the_close_and_both_sides_hear_of_it(stage, ada, bob, option):
    offer = propose(bob, option)
    carry(stage, 2)
    ada.desk.closes.agree(offer.id)

    def lie(path):
        message = json.loads(path.read_text())
        message["partial"] = "11" * 32
        path.write_text(json.dumps(message))

    ada.lies[messages.TAKE] = lie
    carry(stage, 3)
    ada.lies.clear()
    assert row(stage, offer).state == "over"
    assert kept(bob, offer).state == "over"
    assert kept(bob, offer).said is None


def test_who_offers_to_close_again_and_again_does_not_fill_the_other_side_s_letters(
    stage, ada, bob, option, monkeypatch
):
    monkeypatch.setattr(messages, "MOST_A_DAY", 32)
    first, before = propose(bob, option), len(ada.received())
    for begin in range(1, messages.MOST_A_DAY + 16, 8):  # eight may stand, so each is ended at once
        many = [replace(first, valid_until=UnixSeconds(first.valid_until + n)) for n in range(begin, begin + 8)]
        said = [(one, messages.OFFER, messages.encode_offer(one)) for one in many]
        no_half = [(one, messages.LAST, messages.encode_last(CloseLast(offer_id=one.id, partial=ONE))) for one in many]
        for words in (said, no_half):
            for offer, kind, body in words:
                (bob.outbox / f"{offer.letter(option, kind)}.json").write_text(json.dumps(body))
            carry(stage, 1)
    with stage.here.store.reading() as session:
        query = select(CloseRow).where(CloseRow.option_id == option, CloseRow.by == "buyer")
        assert len(session.exec(query).all()) <= messages.MOST_A_DAY
    assert len(ada.received()) - before <= 2 * messages.MOST_A_DAY, "of each: offered, over"
    ours = propose(ada, option)  # the other side offers as before
    carry(stage, 2)
    assert row(stage, ours).state == "offered"


@contextmanager
def lapsed(monkeypatch, offer):
    """As if the offer's time were over by the service's clock."""
    with monkeypatch.context() as patched:
        patched.setattr(type(context()), "now", lambda _: UnixSeconds(offer.valid_until))
        yield


@contextmanager
def clock(account, at):
    """This party's clock."""
    genuine = account.desk.closes._clock
    account.desk.closes._clock = lambda: float(at)
    try:
        yield
    finally:
        account.desk.closes._clock = genuine


def test_a_close_that_would_wait_long_is_not_taken(stage, ada, bob, shared, monkeypatch):
    monkeypatch.setattr(closes, "asking_rate", lambda *_: SatsPerKvb(RATE + 1))
    offer = propose(bob, shared)
    carry(stage, 2)
    assert kept(bob, offer).state == "over"
    assert "2,001 asked for now" in kept(bob, offer).problem


def command(stage, account, *words):
    folder = account.folder / "party"
    (account.folder / "words").write_text(f"a passphrase of {account.name}\n")
    side = ["--dir", str(folder), "--passphrase-file", str(account.folder / "words"), "--node", stage.node.where]
    side += ["--cookie-file", str(stage.deployment.node_cookie_file)]
    done = CliRunner().invoke(market_cli.app, [*words, *side])
    assert done.exception is None, done.exception
    outbox = folder / "mail" / "outbox"
    for path in outbox.glob("*.json") if outbox.exists() else ():
        path.rename(account.outbox / path.name)
    return done


def test_an_owner_offers_lists_accepts_and_withdraws_by_commands_and_is_shown_both_parts(stage, ada, bob, option):
    withdrawn = json.loads(command(stage, bob, "close", option, "--price", "1sat", "--yes", "--json").stdout)
    done = command(stage, bob, "close", "--withdraw", withdrawn["close"][:12], "--yes")
    assert "state: over" in done.stdout
    made = command(stage, bob, "close", option, "--price", "0.007btc", "--rate", "2000", "--yes", "--json")
    offer = json.loads(made.stdout)
    assert (offer["payout_sats"], offer["state"]) == (700_000, "offered")
    assert "you get                  0.00700000 BTC (700,000 sat)" in made.stderr
    carry(stage, 2)
    listed = json.loads(command(stage, ada, "closes", "--json").stdout)["items"]
    assert [one["state"] for one in listed if one["close"] == offer["close"]] == ["offered"]
    done = command(stage, ada, "close", "--accept", offer["close"][:12], "--yes")
    assert "state: agreed" in done.stdout
    assert offer["close"][:16] in command(stage, ada, "closes").stdout
    carry(stage)
    assert stage.row(CloseRow, id=offer["close"]).state == "signed"


def test_a_maker_by_its_rule_says_yes_to_its_bid_and_nothing_to_more(stage, ada, bob, shared):
    seen = Look(
        market=Market(spot=CentsPerBtc(5_000_000), volatility=0.6, rate=0.0, now=UnixSeconds(EXPIRY - 600)),
        status=MarketStatus.TRADING, instruments=(), inventory=Inventory(free=Sats(0)), standing=(), strange=(),
    )  # fmt: skip
    maker = MarketMaker(
        http=None, identity=b"", request_secret=b"", desk=b"", ledger=ada.ledger, free=lambda: Sats(0),
        rule=MakingRule(least_life_seconds=60), surface=flat_surface(0.6),
    )  # fmt: skip
    maker._seen = seen
    dear = propose(bob, shared, Sats(900_000), seconds=50)
    carry(stage, 2)
    (said,) = [why for _, why in maker.closes(ada.desk._store) if why is not None and "900,000" in why]
    assert "our bid is" in said
    assert kept(ada, dear).state == "offered"
    fair = propose(bob, shared, Sats(150_000), seconds=50)
    carry(stage, 2)
    assert (shared, None) in maker.closes(ada.desk._store)
    assert kept(ada, fair).state == "agreed"
    ada.desk.closes.withdraw(fair.id)


def other_spend(stage, ada, bob, option):
    """The two keys' signature of another payout, as nobody's software makes it after a close."""
    contract, agreement = ada.desk.closes._contract(ada.desk.closes.book.find(ada.found).offer)
    closing = CloseDeals._closing(contract, agreement, Sats(1), RATE)
    secrets_ = [
        one.desk._keystore.contract_secret(one.desk._store.load(named(one, option)).number) for one in (bob, ada)
    ]
    nonces = [closing.nonce(secret, secrets.token_bytes(32)) for secret in secrets_]
    public = [one.public for one in nonces]
    allowed = ada.desk.authority(named(ada, option))
    partials = [
        closing.sign(secret, nonce, public, authority=allowed) for secret, nonce in zip(secrets_, nonces, strict=True)
    ]
    return closing.finish(public, partials)


def test_a_close_whose_collateral_a_block_spends_otherwise_is_over_and_the_chain_s_word_counts(stage, ada, bob, option):
    offer = propose(bob, option)
    carry(stage, 2)
    ada.desk.closes.agree(offer.id)
    carry(stage)
    assert row(stage, offer).state == "signed"
    ada.found = offer.id
    rival = other_spend(stage, ada, bob, option)
    stage.node.generate_block(ada.desk.address(), [rival])
    stage.mine(6)
    carry(stage, 1)
    assert (row(stage, offer).state, stage.state(option)) == ("over", "ABANDONED")
    assert "outside" in stage.option(option).last_error


def test_a_close_that_the_desk_keeps_back_is_sent_by_its_sides_until_a_block_has_it(
    stage, ada, bob, option, monkeypatch
):
    """Each sent it once: one that a node did not take just then was left to the desk, for good."""
    offer = propose(bob, option)
    carry(stage, 2)
    ada.desk.closes.agree(offer.id)
    stage.trade(3)
    with stage.here.store.reading() as session:
        made = store.closed_of(session, session.get_one(CloseRow, offer.id.hex()))

    def full(transaction):
        raise TxRejectedError(txid=transaction.txid, code=-26, reason="mempool min fee not met")

    with monkeypatch.context() as patched:
        for one in (ada, bob):
            patched.setattr(one.desk.closes._node, "send", full)
            one.desk.closes.done(CloseDone(offer_id=offer.id, transaction=made))
    assert made.txid not in stage.node.pool()
    ada.desk.watch()
    assert made.txid in stage.node.pool()
    stage.mine(7)
    assert stage.state(option) == "ABANDONED"


def test_who_offers_to_close_without_an_end_fills_neither_the_desk_nor_the_other_side(
    stage, ada, bob, shared, monkeypatch
):
    """Each offer was a file of the other side's for ever, and all of them were read again for the next one."""
    monkeypatch.setattr(messages, "MOST_A_DAY", 5)
    first = propose(bob, shared)
    already = len(list(ada.desk.closes.book))
    at = int(first.valid_until)

    def another(now):
        nonce = bytes([2]) + secrets.token_bytes(65)
        return replace(first, nonce=nonce, valid_until=UnixSeconds(now + 1))

    refused = 0
    for now in range(at + 200_000, at + 200_010):  # one a second, each over before the next
        with clock(ada, now), pytest.raises((NotAgreedError, InvalidInputError)) as e:
            ada.desk.closes.offered(another(now), shared)
        refused += e.type is InvalidInputError
    assert refused == 5
    assert len(list(ada.desk.closes.book)) <= already + 5
    with clock(ada, at + 300_000), pytest.raises(NotAgreedError):  # the next day
        ada.desk.closes.offered(another(at + 300_000), shared)
    monkeypatch.setattr(messages, "MOST_A_DAY", 100)
    now = UnixSeconds(int(time.time()) + 400_000)
    moment = Moment(now=now, market=UnixSeconds(0), tip=stage.node.block_count(), last_blocks=0, least_rate=RATE)
    with stage.here.store.transaction() as session:
        monkeypatch.setattr(messages, "MOST_A_DAY", 3)
        for more in range(3):
            offer = another(now + more)
            store.offer_close(session, shared, Role.BUYER, offer, at=moment)
            store.refuse_close(session, offer.id.hex(), "it has lapsed", now=now)
        with pytest.raises(store.NotClosableError, match="within a day"):
            store.offer_close(session, shared, Role.BUYER, another(now + 9), at=moment)
        session.rollback()


def test_a_side_that_cannot_be_told_keeps_nobody_else_from_being_told_of_a_close(stage, ada, bob, option, monkeypatch):
    """One folder that could not be written kept every older close's two sides from hearing that theirs was sent."""
    offer = propose(bob, option)
    carry(stage, 2)
    ada.desk.closes.agree(offer.id)
    stage.trade(3)
    chain.settle()
    put = LetterCarrier.put

    def full(self, name, *given, **named):
        if self._account.name == "ada":
            raise OSError(name)
        put(self, name, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(LetterCarrier, "put", full)
        market.tick()
    stage.trade(1)
    assert kept(bob, offer).state == "done"
    market.tick()
    stage.trade(1)
    assert kept(ada, offer).state == "done"
    stage.mine(7)


def test_who_sends_bad_offers_to_close_and_reads_no_answer_is_answered_no_more(stage, bob, shared, monkeypatch):
    """Each had a letter written that waits until it is read: who reads none filled the store's disk."""
    monkeypatch.setattr(letters, "MAX_UNHANDLED", 3)
    monkeypatch.setattr(closes, "asking_rate", lambda *_: SatsPerKvb(RATE + 1))
    unread = select(LetterRow).where(
        LetterRow.recipient == bob.id, LetterRow.sender == "", LetterRow.handled_at_unix.is_(None)
    )
    for _ in range(8):
        propose(bob, shared)
        bob.postman.deliver()
        exchange_tasks.carry(stage.here)
    with stage.here.store.reading() as session:
        assert len(session.exec(unread).all()) == 3


def test_a_node_is_asked_about_a_close_while_the_store_is_free(stage, ada, bob, shared, monkeypatch):
    """A node that answers slowly held the store's only lock meanwhile, and every take waited for it."""
    asked = []

    def writes(*_):
        with stage.here.store.transaction() as session:
            letters.acknowledge(session, ada.id, [0], now=stage.here.now())
        asked.append(True)
        return RATE

    monkeypatch.setattr(closes, "asking_rate", writes)
    offer = propose(bob, shared)
    carry(stage, 2)
    assert row(stage, offer).state == "offered"
    assert asked


def test_in_the_last_blocks_before_the_expiry_neither_side_signs_and_the_service_takes_nothing(
    stage, ada, bob, shared, monkeypatch
):
    monkeypatch.setattr(bob.desk.closes, "_last_blocks", 100_000)
    with pytest.raises(TooLateToCloseError):
        propose(bob, shared)
    monkeypatch.setattr(bob.desk.closes, "_last_blocks", 0)
    monkeypatch.setattr(closes, "REGTEST", "another chain")  # where blocks are a time
    stage.mine(max(0, stage.option(shared).expiry_height - 11 - stage.node.block_count()))
    offer = propose(bob, shared)
    carry(stage, 2)
    assert kept(bob, offer).state == "over"
    assert "12 are asked for" in kept(bob, offer).problem
