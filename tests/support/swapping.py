"""A ledger of weekly swaps driven by chance: every action there is, guards and all, and the invariants after each."""

import random
from fractions import Fraction

from btcfi.swaps.book import INACTIVE_SECONDS, ORACLE, BookStatus
from btcfi.swaps.contract import CONTRACTS, LOT, MAX_BASIS_PPM, MAX_TARGET_PPM, Rates, burn_fee, close_fee
from btcfi.swaps.errors import SwapRefusedError
from btcfi.swaps.ledger import SwapLedger
from btcfi.swaps.prices import HOUR, MAX_SLOTS
from btcfi.swaps.returns import Prices, Side

PROVIDERS, TAKERS = tuple(f"provider-{number}" for number in range(30)), ("tom", "tim", "tea")
NAMES = ("BTCUSD", "ETHBTC")


class Chance:
    """One ledger and one generator. ``step`` does an action, or has it refused, and checks what must hold."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.ledger, self.now = SwapLedger(), 1_000_000
        self.prices = {name: Prices(asset=50_000, margin=50_000) for name in NAMES}
        self.done, self.refused, self.names = {}, {}, {}
        self.history = {}
        for name in NAMES:
            self.ledger.list_contract(CONTRACTS[name], Rates(target_ppm=1_500, basis_ppm=0))
        self.ledger.post(self.prices, settles=True, caller=ORACLE, now=self.now)
        for name in NAMES:
            self.ledger.create_book(name, caller=PROVIDERS[0], amount=40 * LOT, minimum_take=LOT, now=self.now)

    # ---- one action

    def step(self):
        """Do one action of all that there are; a refusal must have changed nothing."""
        ledger, before = self.ledger, self._frozen()
        kind = self.random.choices(list(WEIGHTS), WEIGHTS.values())[0]
        try:
            events = getattr(self, f"_{kind}")()
        except SwapRefusedError as e:
            self.refused[e.guard] = self.refused.get(e.guard, 0) + 1
            assert self._frozen() == before, f"a refused {kind} has changed the ledger"
        else:
            self.done[kind] = self.done.get(kind, 0) + 1
            assert events, f"{kind} left no event"
            self._after(before, events)
        self._invariants()
        return ledger

    def _frozen(self):
        one = self.ledger
        return (
            one.board, dict(one.swaps), dict(one.books), dict(one.balances), one.paid_in, one.paid_out, one.burned,
        )  # fmt: skip

    def _key(self, status=BookStatus.OPEN):
        """A book, one that is open most times."""
        wanted = [key for key, one in self.ledger.books.items() if one.status is status]
        return self.random.choice(wanted if wanted and self.random.random() < 0.9 else list(self.ledger.books))

    def _sub(self, key):
        numbers = list(self.ledger.books[key].subcontracts)
        return self.random.choice(numbers) if numbers else 1

    def _some(self, most):
        return self.random.choice([0, 1, most // 2, most, most + 1]) if self.random.random() < 0.2 else max(1, most)

    def _caller(self, key, number):
        one = self.ledger.books[key].subcontracts.get(number)
        return self.random.choice([one.taker, key[1], "mallory"] if one else ["mallory"])

    def _create(self):
        open_books = [one for one in self.ledger.books.values() if one.status is BookStatus.OPEN]
        if len(open_books) >= 4:
            return self.ledger.create_book(NAMES[0], caller=PROVIDERS[0], amount=0, minimum_take=LOT, now=self.now)
        return self.ledger.create_book(
            self.random.choice(NAMES), caller=self.random.choice(PROVIDERS), amount=self.random.randrange(0, 90) * LOT,
            minimum_take=self.random.choice([LOT, 2 * LOT, 5]), now=self.now,
        )  # fmt: skip

    def _take(self):
        key, side = self._key(), self.random.choice(list(Side))
        book = self.ledger.books[key]
        most = book.room(side, self.ledger.board) // LOT
        required = LOT * max(1, self.random.randrange(0, most + 2))
        amount = required + self.random.choice([0, 0, 1, required // 3, -1])
        return self.ledger.take(
            key, caller=self.random.choice(TAKERS), side=side, required=required, amount=amount, now=self.now
        )

    def _fund(self):
        key = self._key()
        if self.random.random() < 0.5:
            return self.ledger.fund_provider(key, self.random.randrange(0, 3 * LOT))
        return self.ledger.fund_taker(key, self._sub(key), self.random.randrange(0, LOT))

    def _initialise(self):
        return self.ledger.initialise(self._key(), caller=ORACLE, taken_before=self.now)

    def _clock(self):
        self.now += self.random.choice([60, HOUR, HOUR, 5 * HOUR, 22 * HOUR])
        waiting = [key for key, one in self.ledger.books.items() if one.in_settlement(self.ledger.board)]
        if waiting and self.random.random() < 0.9:
            return self._settle()
        return self._post() if self.random.random() < 0.8 else ("time",)

    def _post(self):
        settles = len(self.ledger.board.slots) >= self.random.choice([3, 4, MAX_SLOTS])
        moved = {
            name: Prices(
                asset=max(1, int(one.asset * self.random.lognormvariate(0, 0.12))),
                margin=max(1, int(one.margin * self.random.lognormvariate(0, 0.08))),
            )
            for name, one in self.prices.items()
        }
        moved |= {
            name: Prices(asset=one.margin, margin=one.margin)
            for name, one in moved.items()
            if CONTRACTS[name].asset == "BTC"
        }
        events = self.ledger.post(moved, settles=settles, caller=ORACLE, now=self.now)
        self.prices = moved
        return events

    def _correct(self):
        return self.ledger.correct(self.prices, caller=self.random.choice([ORACLE, "mallory"]), now=self.now)

    def _propose(self):
        target = self.random.randrange(0, MAX_TARGET_PPM + 1_000)
        basis = self.random.randrange(-MAX_BASIS_PPM - 1_000, MAX_BASIS_PPM + 1_000)
        return self.ledger.propose(
            self.random.choice(NAMES), Rates(target_ppm=target, basis_ppm=basis), caller=ORACLE
        )  # fmt: skip

    def _compute(self):
        return self.ledger.compute(self.random.choice(NAMES), caller=ORACLE, now=self.now)

    def _settle(self):
        waiting = [key for key, one in self.ledger.books.items() if one.in_settlement(self.ledger.board)]
        key = self.random.choice(waiting) if waiting else self._key()
        if self.random.random() < 0.9 and self.ledger.books[key].in_settlement(self.ledger.board):
            self.now = max(self.now, self.ledger.board.changed_at + 4 * HOUR)
            if self.ledger.swaps[key[0]].returns is None or self.ledger.swaps[key[0]].returns.computed_at < (
                self.ledger.board.changed_at
            ):
                self.ledger.compute(key[0], caller=ORACLE, now=self.now)
        return self.ledger.settle(key, caller=ORACLE, now=self.now)

    def _cancel(self):
        key = self._key()
        number = self._sub(key)
        one = self.ledger.books[key].subcontracts.get(number)
        fee = close_fee(one.required) if one else 1
        return self.ledger.cancel(key, number, caller=self._caller(key, number), paid=self._some(fee))

    def _admin_cancel(self):
        key = self._key()
        return self.ledger.admin_cancel(key, self._sub(key), caller=self.random.choice([ORACLE, "mallory"]))

    def _burn(self):
        key = self._key()
        number = self._sub(key)
        one = self.ledger.books[key].subcontracts.get(number)
        fee = burn_fee(one.required) if one else 1
        return self.ledger.burn(key, number, caller=self._caller(key, number), paid=self._some(fee))

    def _withdraw(self):
        key = self._key()
        book = self.ledger.books[key]
        if self.random.random() < 0.4:
            excess = max(0, book.margin - book.required)
            return self.ledger.withdraw_provider(
                key, self._some(excess), caller=self.random.choice([key[1], key[1], "mallory"])
            )
        number = self._sub(key)
        one = book.subcontracts.get(number)
        excess = one.margin - one.locked if one else 1
        return self.ledger.withdraw_taker(key, number, self._some(excess), caller=self._caller(key, number))

    def _pay_out(self):
        return self.ledger.withdraw_balance(caller=self.random.choice([*PROVIDERS, *TAKERS, ORACLE, "mallory"]))

    def _redeem(self):
        key = self._key()
        return self.ledger.redeem(key, self._sub(key))

    def _inactive(self):
        key = self._key()
        if self.random.random() < 0.01:
            self.now = max(self.now, self.ledger.books[key].last_settle_at + INACTIVE_SECONDS + 1)
        return self.ledger.declare_inactive(key, now=self.now)

    def _pause(self):
        return self.ledger.pause(
            self.random.choice(NAMES), paused=self.random.random() < 0.3, caller=self.random.choice([ORACLE, "mallory"])
        )

    # ---- what must hold

    def _after(self, before, events):
        books, event = before[2], events[0]
        if event == "time":
            return
        if event.name == "settled":
            self._settled(books, event.fields)
        if event.name in {"cancelled", "provider-withdrew", "taker-withdrew"}:  # I7
            assert not books[event.fields["contract"], event.fields["provider"]].in_settlement(before[0])
        if event.name == "burned":
            assert books[event.fields["contract"], event.fields["provider"]].in_settlement(before[0])
        self.names[event.name] = self.names.get(event.name, 0) + 1

    def _settled(self, books, fields):
        key = fields["contract"], fields["provider"]
        old, new = books[key], self.ledger.books[key]
        for number, profit in fields["profits_sats"].items():
            assert abs(profit) <= old.subcontracts[number].required  # I3
        paid, lost = sum(fields["credits_sats"].values()), 0
        for number, profit in fields["profits_sats"].items():
            if profit < 0 and not old.subcontracts[number].taker_burned:
                lost -= profit
        fee = old.margin + lost - paid - new.margin
        assert 0 <= fee <= fields["fees_sats"]  # I4, with the provider's own default fee
        assert paid - lost <= old.required  # I6: excess is not at risk
        live = [one for one in old.live if one.start is not None]
        flat = sum(one.side * one.required for one in live) == 0
        same = len({one.start for one in live}) <= 1
        if flat and same and not any(one.taker_burned or one.provider_burned for one in live):
            assert paid <= lost  # I9
        swap = self.ledger.swaps[key[0]]
        assert len(swap.returns.parts) == 2 * swap.returns.days <= 10  # I10
        assert all(abs(part) <= Fraction(1) for part in swap.returns.parts.values())

    def _invariants(self):
        ledger = self.ledger
        assert ledger.held + ledger.burned + ledger.paid_out == ledger.paid_in  # I1
        assert all(amount > 0 for amount in ledger.balances.values())  # I5
        for key, book in ledger.books.items():
            assert book.margin >= 0
            waiting = book.in_settlement(ledger.board)
            if book.status is BookStatus.OPEN and not waiting:  # I2
                assert book.margin >= book.required, key
                assert all(one.margin >= one.required for one in book.live), key
            for number, one in book.subcontracts.items():
                assert one.margin >= 0
                first = self.history.setdefault((key, number), one.required)
                assert one.required == (first if one.status.is_live else 0)  # I8
            if book.status is not BookStatus.OPEN:
                assert not list(book.live)
                assert book.required == 0


WEIGHTS = {
    "create": 4, "take": 14, "fund": 5, "initialise": 8, "clock": 16, "correct": 1, "propose": 2, "compute": 3,
    "settle": 12, "cancel": 4, "admin_cancel": 1, "burn": 6, "withdraw": 6, "pay_out": 3, "redeem": 5, "inactive": 1,
    "pause": 1,
}  # fmt: skip
