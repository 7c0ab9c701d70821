"""A stage whose three accounts sell, consent to and take positions over letters; ada wrote, bob holds, cyd comes."""

import json
import time

from btcfi.adapters.store.market import accounts, transfers
from btcfi.adapters.store.market.transfer_tables import TransferRow
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.market.transfer import decode_part
from btcfi.units import Sats, UnixSeconds
from tasks import chain, market
from tasks.transfers import moment
from tests.support.market_stage import MarketStage
from workers.audit import ChainView, audit

PRICE, RATE = Sats(700_000), SatsPerKvb(2_000)
NAMES = ("ada", "bob", "cyd")
"""The seller, the holder and the newcomer of each test's transfer."""


class TransferStage(MarketStage):
    """A stage whose three accounts say what a transfer needs."""

    def __init__(self, *given):
        super().__init__(*given, names=NAMES, coins=16)
        self.numbers = iter(range(1_000, 9_000))

    def member(self, name):
        return self.accounts[name].postman._member

    def said(self, name, post, word):
        with self.here.work() as session:
            row = accounts.account(session, self.accounts[name].id)
            return post(session, row, word.signed, at=moment(self.here, "regtest")).id

    def consent(self, option, seconds=300, by="ada"):
        one = self.accounts[by]
        word = one.desk.transfers.consent(
            one.desk.orders()[option], valid_until=UnixSeconds(int(time.time()) + seconds), number=next(self.numbers),
            member=self.member(by),
        )  # fmt: skip
        return self.said(by, transfers.post_consent, word)

    def offered_position(self, option, price=PRICE, seconds=300, by="bob", **said):
        one = self.accounts[by]
        word = one.desk.transfers.offer(
            one.desk.orders()[option], price=price, rate=RATE, valid_until=UnixSeconds(int(time.time()) + seconds),
            number=next(self.numbers), member=self.member(by), **said,
        )  # fmt: skip
        self.said(by, transfers.post_offer, word)
        return word.signed

    def takes_position(self, offer, seconds=120, by="cyd"):
        word = self.accounts[by].desk.transfers.take(
            offer, valid_until=UnixSeconds(int(time.time()) + seconds), number=next(self.numbers),
            member=self.member(by),
        )  # fmt: skip
        return self.said(by, transfers.take_position, word)

    def begin(self, option, **said):
        """Have the three say their words; return the transfer's id."""
        self.consent(option)
        return self.takes_position(self.offered_position(option, **said))

    def begun_again(self, name):
        """Take with the same word."""
        with self.here.work() as session:
            part = decode_part(json.loads(session.get_one(TransferRow, name).part))
            row = accounts.account(session, part.take.take.newcomer.hex())
            return transfers.take_position(session, row, part.take, at=moment(self.here, "regtest"))

    def transfer(self, name):
        return self.row(TransferRow, id=name)

    def states(self, name):
        """Of a transfer, its old option and its new one."""
        row = self.transfer(name)
        return row.state, self.state(row.option_id), self.state(row.new_option_id)

    def states_before(self, name):
        """Of a transfer and its old option: there is no new one."""
        row = self.transfer(name)
        return row.state, self.state(row.option_id)

    def kept(self, account, name):
        return self.accounts[account].desk.transfers.book.find(bytes.fromhex(name))

    def carry_on(self, rounds=8):
        for _ in range(rounds):
            self.trade(1)
            chain.settle()
            market.tick()

    def until(self, name, said):
        """Carry until a round's words are owed."""
        for _ in range(40):
            if self.transfer(name).said == said:
                return
            self.trade(1)
        raise AssertionError(self.transfer(name))


def audited(stage, *options, complete=False):
    view = ChainView()
    view.follow(stage.node)
    found = audit(stage.here.store, view, options, complete=complete)
    return [str(one) for one in found if not one.subject.startswith("round")]
