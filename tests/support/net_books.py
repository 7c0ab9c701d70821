"""Net books as contracts, for tests: two parties with coins of their own, an owner who says yes, a random book."""

import random
from dataclasses import dataclass, field, replace

from btcfi.contracts import netting
from btcfi.contracts.buckets import ToleranceRule
from btcfi.contracts.messages import Role
from btcfi.contracts.netting import NettedTerms
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import announce
from btcfi.oracle.attestation import attest
from btcfi.payoffs.book import Book, book_of, contract_of
from btcfi.payoffs.curve import Leg, LegKind
from btcfi.units import BasisPoints, CentsPerBtc, Height, Sats, Slot
from btcfi.vm.program import load_program
from tests.support.books import random_legs
from tests.support.contracts import (
    BUYER,
    BUYER_SECRET,
    ORACLES,
    POLICY,
    RATE,
    SELLER,
    SELLER_SECRET,
    MemoryLedger,
    coin,
    event,
    party,
)

FLOOR = CentsPerBtc(5_000_000)
PROGRAM = load_program("net_book")
EXPIRY = event().expiry
SINCE = Slot(EXPIRY - 86_400)
C, P = LegKind.CALL, LegKind.PUT

CONDORS = [
    (-1, P, 95), (1, P, 90), (-1, C, 105), (1, C, 110), (-1, P, 98), (1, P, 85), (-1, C, 102), (1, C, 120), (1, C, 100),
    (-1, C, 115),
]  # fmt: skip
"""Ten legs, two iron condors and a call spread: sign, kind, strike in thousands of dollars (findings/payoffs)."""


def legs_of(rows, quantity=100):
    return [
        Leg(kind=kind, strike=CentsPerBtc(100_000 * strike), quantity=quantity * sign) for sign, kind, strike in rows
    ]


def condors(quantity=100, **changes):
    """The book of ten legs."""
    return book_of(legs_of(CONDORS, quantity), expiry=EXPIRY, floor=FLOOR, **changes)


def market_book(seed, legs=64, size=100):
    """Random signed calls, puts and binaries on half thousands of dollars, as findings/payoffs has them.

    size: 1/100 BTC of the largest legs, about. Equal legs become one, so a book has as many as asked of its seed alone.
    """
    draw, kinds = random.Random(seed), (C, P, C, P, LegKind.BINARY_CALL, LegKind.BINARY_PUT)
    found = {}
    while len(found) < legs:
        kind, strike = draw.choice(kinds), CentsPerBtc(100 * draw.randrange(60_000, 150_000, 500))
        quantity = draw.choice((1, -1)) * draw.randrange(1, 2 * size)
        found.setdefault((kind, strike), Leg(kind=kind, strike=strike, quantity=quantity))
    return book_of(found.values(), expiry=EXPIRY, floor=FLOOR)


def random_book(draw, most=64, *, barrier=None):
    """Any book there is: legs of every kind, some of them ended by a barrier. barrier: whether; None: of half of them.

    Strikes, floors and barriers lie on dollars and between them.
    """
    while True:
        legs, ends = random_legs(draw, most), []
        floor = CentsPerBtc(draw.choice([draw.randrange(2, 6_000_000), 5_000_000]))
        level = CentsPerBtc(draw.choice([draw.randrange(2_000_000, 26_000_000), 100 * draw.randrange(70_000, 140_000)]))
        if barrier or (barrier is None and draw.random() < 0.5):
            up = draw.random() < 0.5
            ends = [leg for leg in legs if leg.strike != level and (leg.strike < level) == up][: draw.randint(1, 64)]
            legs = [leg for leg in legs if leg not in ends]
        if barrier and not ends:
            continue
        try:
            return book_of(legs, knock_outs=ends, expiry=EXPIRY, floor=floor, barrier=level if ends else None)
        except InvalidInputError as e:
            if e.field not in {"legs", "barrier"}:  # all of them, or all that the barrier ends, cancelled
                raise


def event_of(book, since=SINCE, **changes):
    """The event of a book, by the guest that computes it."""
    return replace(
        event(), expiry=book.expiry, condition=book.condition(since), program_hash=PROGRAM.program_hash, **changes
    )


class Yes:
    """An owner who takes whatever comes, and remembers what."""

    def __init__(self):
        self.asked = []

    def check_netted(self, agreement, role):
        self.asked.append((agreement, role))


@dataclass
class NetScene:
    """One book as a contract between the two parties of ``Scene``: the holder is its buyer."""

    book: Book = field(default_factory=condors)
    oracles: int = 1
    threshold: int = 1
    tolerance: int = 10_000
    legs_premium: int = 1_000_000
    """What a tolerance is of."""
    premium: int = 10_000
    """Net, to the writer."""
    expiry_height: int = 200
    refund_height: int = 350
    holder_coins: list | None = None
    writer_coins: list | None = None
    of_event: dict = field(default_factory=dict)
    """What its event says otherwise: the path whose value settles it."""

    def __post_init__(self):
        self.event, self.contract = self.made()
        self.rule = ToleranceRule(tolerance=BasisPoints(self.tolerance))
        self.buckets = self.ranges()
        self.announcements = tuple(announce(secret, self.event) for secret in ORACLES[: self.oracles])
        self.ledger, self.owner = MemoryLedger(), Yes()
        if self.holder_coins is None:
            self.holder_coins = [coin(2, self.contract.holder + 50_000, BUYER.script)]
        if self.writer_coins is None:
            self.writer_coins = [coin(1, self.contract.writer + 50_000, SELLER.script)]
        self.holder, self.writer = (
            party(BUYER, BUYER_SECRET, self.holder_coins), party(SELLER, SELLER_SECRET, self.writer_coins)
        )  # fmt: skip
        self.terms = NettedTerms(
            holder=self.contract.holder, writer=self.contract.writer, premium=self.premium,
            expiry_height=Height(self.expiry_height), refund_height=Height(self.refund_height), rate=RATE,
            announcements=self.announcements, threshold=self.threshold, cet_fee=Sats(300),
        )  # fmt: skip

    def made(self):
        """The event, and what each side puts in with what each range pays."""
        of = event_of(self.book, **self.of_event)
        return of, contract_of(self.book, of, path=of.path)

    def ranges(self):
        """What each range of outcomes pays the holder."""
        return self.contract.buckets(self.rule, premium=Sats(self.legs_premium))

    def agreement(self, **changes):
        given = {
            "holder": self.holder, "writer": self.writer, "event": self.event, "policy": POLICY,
            "terms": self.terms, "buckets": self.buckets,
        }  # fmt: skip
        return netting.agree(**(given | changes))

    def signatures(self, agreement):
        """What the holder and the writer sign before the funding."""
        return (
            netting.presign(agreement, Role.BUYER, BUYER_SECRET, owner=self.owner),
            netting.presign(agreement, Role.SELLER, SELLER_SECRET, owner=self.owner),
        )

    def funded(self, agreement, holder, writer):
        """The funding transaction, signed by both after each has checked the other."""
        ours = netting.sign_funding(agreement, Role.BUYER, writer, {BUYER.script: BUYER}, owner=self.owner)
        theirs = netting.sign_funding(agreement, Role.SELLER, holder, {SELLER.script: SELLER}, owner=self.owner)
        return netting.complete_funding(agreement, Role.BUYER, writer, theirs, ours)

    def attestations(self, price, *, touched=False, count=None):
        outcome = self.event.outcome(CentsPerBtc(price), condition=touched)
        chosen = list(zip(ORACLES, self.announcements, strict=False))[:count]
        return [attest(secret, announcement, outcome, self.ledger) for secret, announcement in chosen]
