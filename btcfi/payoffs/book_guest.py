"""The guest of net books (``guest_programs/net_book``): its words, its twin in whole numbers, and a book run by it.

``settle_in_python`` sums legs by their formulas and knows nothing of curves: guest, curves and numpy are three roads to
one number. ABI: docs/proofs.md, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

from btcfi.contracts.buckets import Bucket, ToleranceRule
from btcfi.contracts.netting import NettedAgreement
from btcfi.errors import InvalidInputError
from btcfi.options.expiry import ABI_VERSION, GuestError, GuestRefusedError
from btcfi.options.terms import MAX_QUANTITY, SATS_PER_CENTIBTC
from btcfi.oracle.announcement import OracleEvent
from btcfi.payoffs.book import KINDS, LEG_BYTES, NO_PRICE, Book, BookContract
from btcfi.payoffs.curve import MAX_LEGS, LegKind, NetSats
from btcfi.payoffs.guest import Outputs
from btcfi.units import MAX_MONEY_SATS, CentsPerBtc, Sats

if TYPE_CHECKING:
    from btcfi.vm.program import Program

PROGRAM: Final = "net_book"

_HEAD: Final = Struct("<7I2Q")
"""ABI version, legs, settlement price, floor, barrier, lowest and highest price; own part and collateral in sats."""

_OUTPUT: Final = Struct("<Q2q4I")


class BookDisagreesError(InvalidInputError):
    """What somebody proposes as the contract of a book is not what the book says and its guest computes."""

    def __init__(self, what: str, said: str, computed: str) -> None:
        super().__init__(what, said, f"{computed}, of this book and by its guest")


@dataclass(frozen=True, slots=True, kw_only=True)
class BookOutput:
    """What the guest wrote."""

    payout: Sats
    """What the holder is paid: its own part and its gain, at least nothing, at most the collateral."""
    net: NetSats
    """What it gains, rounded down once; not bounded by the collateral."""
    value: int
    """Cents times 1/100 BTC, exact: what ``net`` is made of."""
    settled_at: CentsPerBtc
    """The settlement price, or the floor above it."""
    barrier_hit: bool
    abi_version: int
    error: GuestError

    def to_bytes(self) -> bytes:
        """Return the 40 bytes at 0x8000_1000."""
        return _OUTPUT.pack(
            self.payout, self.net, self.value, self.settled_at, int(self.barrier_hit), self.abi_version, self.error
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> BookOutput:
        """Return the output in those 40 bytes. Raises InvalidInputError on another length or an unknown code."""
        if len(data) != _OUTPUT.size:
            raise InvalidInputError("book output", f"{len(data)} bytes", f"{_OUTPUT.size} bytes (10 words)")
        payout, net, value, settled_at, hit, version, error = _OUTPUT.unpack(data)
        if error not in tuple(GuestError) or hit not in {0, 1} or payout > MAX_MONEY_SATS:
            raise InvalidInputError("book output", data.hex(), "a payout of bitcoin, 0 or 1, and a known error")
        return cls(
            payout=Sats(payout), net=NetSats(net), value=value, settled_at=CentsPerBtc(settled_at),
            barrier_hit=bool(hit), abi_version=version, error=GuestError(error),
        )  # fmt: skip


def book_input(book: Book, price: CentsPerBtc, *, touched: bool, own: Sats, collateral: Sats) -> bytes:
    """Return the guest's input at a settlement price. touched: the oracle's condition digit.

    own, collateral: what the holder put in, and both. Raises InvalidInputError for a condition that the book lacks.
    """
    if touched and book.barrier is None:
        raise InvalidInputError("touched", "of a book without a barrier", "an outcome of the book's own event")
    reached = book.barrier if touched and book.barrier is not None else price
    head = _HEAD.pack(
        ABI_VERSION, book.count, price, book.floor or NO_PRICE, book.barrier or NO_PRICE, min(price, reached),
        max(price, reached), own, collateral,
    )  # fmt: skip
    return head + book.leg_bytes()


def settle_in_python(data: bytes) -> BookOutput:
    """Return what the guest returns for an input, computed without the machine; any words at all.

    data: whole words; what lies beyond them the guest reads as zero.
    """
    head = data[: _HEAD.size].ljust(_HEAD.size, b"\0")
    version, count, spot, floor, barrier, low, high, own, collateral = _HEAD.unpack(head)
    checks = (
        (version == ABI_VERSION, GuestError.ABI_VERSION),
        (1 <= count <= MAX_LEGS, GuestError.QUANTITY),
        (spot > 0, GuestError.SPOT),
        (low <= spot <= high, GuestError.OBSERVED_RANGE),
        (1 <= collateral <= MAX_MONEY_SATS, GuestError.COLLATERAL),
        (own <= collateral, GuestError.COLLATERAL),
    )
    if refused := next((error for ok, error in checks if not ok), None):
        return _refused(refused)
    price, total, hit = max(spot, floor), 0, False
    legs = data[_HEAD.size :].ljust(LEG_BYTES.size * count, b"\0")
    for kind, strike, cash, quantity, knock_out in LEG_BYTES.iter_unpack(legs[: LEG_BYTES.size * count]):
        if refused := _wrong_leg((kind, strike, cash, quantity, knock_out), barrier):
            return _refused(refused)
        ended = knock_out == 1 and (high >= barrier if strike < barrier else low <= barrier)
        hit = hit or ended
        total += 0 if ended else quantity * _per_bitcoin(KINDS[kind], strike, cash, price)
    net = total * SATS_PER_CENTIBTC // price
    if abs(net) > MAX_MONEY_SATS:
        return _refused(GuestError.QUANTITY)
    return BookOutput(
        payout=Sats(min(max(own + net, 0), collateral)), net=NetSats(net), value=total, settled_at=CentsPerBtc(price),
        barrier_hit=hit, abi_version=ABI_VERSION, error=GuestError.NONE,
    )  # fmt: skip


def _wrong_leg(words: tuple[int, int, int, int, int], barrier: int) -> GuestError | None:
    kind, strike, cash, quantity, knock_out = words
    checks = (
        (kind < len(KINDS), GuestError.OPTION_TYPE),
        (strike > 0 and (cash > 0) == (kind < len(KINDS) and KINDS[kind].is_digital), GuestError.STRIKE),
        (1 <= abs(quantity) <= MAX_QUANTITY, GuestError.QUANTITY),
        (knock_out in {0, 1} and not (knock_out and barrier in {0, strike}), GuestError.BARRIER),
    )
    return next((error for ok, error in checks if not ok), None)


def _per_bitcoin(kind: LegKind, strike: int, cash: int, price: int) -> int:
    """Return what one bitcoin of a leg pays, in cents."""
    amount = cash if kind.is_digital else strike
    match kind:
        case LegKind.CALL:
            return max(price - strike, 0)
        case LegKind.PUT:
            return max(strike - price, 0)
        case LegKind.BINARY_CALL | LegKind.DIGITAL_CALL:
            return amount if price > strike else 0
        case LegKind.BINARY_PUT | LegKind.DIGITAL_PUT:
            return amount if price < strike else 0
        case LegKind.FORWARD:
            return price - strike


def _refused(error: GuestError) -> BookOutput:
    return BookOutput(
        payout=Sats(0), net=NetSats(0), value=0, settled_at=NO_PRICE, barrier_hit=False, abi_version=ABI_VERSION,
        error=error,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BookRun:
    """A book as the guest computes it, for one value of the condition: a payoff for ``Netted``."""

    book: Book
    touched: bool
    own: Sats
    collateral: Sats
    outputs_of: Outputs

    def net(self, prices: Sequence[CentsPerBtc]) -> list[NetSats]:
        """Return what the holder is paid beyond its own part at each price.

        Raises GuestRefusedError, and what running the guest raises.
        """
        given = [
            book_input(self.book, price, touched=self.touched, own=self.own, collateral=self.collateral)
            for price in prices
        ]
        nets = []
        for raw in self.outputs_of(given):
            output = BookOutput.from_bytes(raw)
            if output.error is not GuestError.NONE:
                raise GuestRefusedError(output.error)
            nets.append(NetSats(output.payout - self.own))
        return nets

    def turning_points(self, event: OracleEvent) -> tuple[CentsPerBtc, ...] | None:
        """Return the turning points of the book's curve."""
        curve = self.book.touched if self.touched and self.book.touched is not None else self.book.untouched
        return curve.turning_points(event)


def by_guest(contract: BookContract, outputs_of: Outputs) -> BookContract:
    """Return the same contract with its payouts computed by the guest, at the ends and turning points of ranges."""
    own, collateral = contract.holder, contract.collateral
    low, high = (
        BookRun(book=contract.book, touched=touched, own=own, collateral=collateral, outputs_of=outputs_of)
        for touched in (False, True)
    )
    return contract.by(untouched=low, touched=high)


def outputs_by(program: Program, event: OracleEvent) -> Outputs:
    """Return what runs the guest that an event names. Raises InvalidInputError for another program than the event's."""
    from btcfi.vm.interpreter import run_many  # noqa: PLC0415 - numba; whoever only reads books does not run a guest

    if program.program_hash != event.program_hash:
        raise InvalidInputError("event.program_hash", event.program_hash.hex(), program.program_hash.hex())
    return lambda inputs: run_many(program, inputs)


def check_agreement(
    contract: BookContract, agreement: NettedAgreement, outputs_of: Outputs, *, rule: ToleranceRule, premium: Sats,
    limit: int = 50_000,
) -> None:  # fmt: skip
    """Check that an agreement is the contract of a book: what each side does, with its own book, before it signs.

    The event, what each puts in, and every range, which the guest computes anew. Raises as ``check_buckets``.
    """
    terms, plan = agreement.terms, agreement.plan
    for what, said, right in (
        ("event", plan.announcements[0].event, contract.event), ("holder", terms.holder, contract.holder),
        ("writer", terms.writer, contract.writer),
    ):  # fmt: skip
        if said != right:
            raise BookDisagreesError(what, str(said), str(right))
    check_buckets(contract, plan.buckets, outputs_of, rule=rule, premium=premium, limit=limit)


def check_buckets(
    contract: BookContract, buckets: Sequence[Bucket], outputs_of: Outputs, *, rule: ToleranceRule, premium: Sats,
    limit: int = 50_000,
) -> None:  # fmt: skip
    """Check that ranges are those of the book, by the guest's own runs at their ends and turning points.

    Raises BookDisagreesError naming the first range that differs, and as ``BookContract.buckets``.
    """
    expected = by_guest(contract, outputs_of).buckets(rule, premium=premium, limit=limit)
    for place, (one, right) in enumerate(zip(buckets, expected, strict=False)):
        if one != right:
            raise BookDisagreesError(f"buckets[{place}]", str(one), str(right))
    if len(buckets) != len(expected):
        raise BookDisagreesError("buckets", f"{len(buckets)} ranges", f"{len(expected)} ranges")
