"""Net books: what they lock, what they weigh on chain for each leg, what their guest and their set-up cost.

The ten legs are two iron condors and a call spread, the 64 random calls, puts and binaries of $60,000 to $150,000,
both at a floor of $50,000 (findings/payoffs, section 1). Transactions are built and signed as a contract's are, and
weighed; the test beside it in tests/integration/contracts mines them.
"""

from __future__ import annotations

from dataclasses import replace

from btcfi.contracts import netting, settle
from btcfi.contracts.messages import Role
from btcfi.oracle.announcement import DigitPoints
from btcfi.payoffs.book import Book, contract_of
from btcfi.payoffs.book_guest import book_input, by_guest, outputs_by
from btcfi.payoffs.curve import curve_of
from btcfi.payoffs.value import value
from btcfi.units import CentsPerBtc, Sats
from btcfi.vm.interpreter import run, run_many
from tests.benchmarks import Row, row_of, seconds_of
from tests.support.contracts import BUYER_SECRET, PROOF_ROOT, RATE, SELLER, SELLER_SECRET, coin
from tests.support.net_books import PROGRAM, NetScene, condors, event_of, market_book

SPOT = CentsPerBtc(10_000_000)
RUNS = 256
STANDARD = 200
"""Basis points: the preset's tolerance."""


def locked(book: Book) -> Sats:
    """What a book locks by itself."""
    return contract_of(book, event_of(book)).collateral


def legs_premium(book: Book) -> int:
    """The premiums of the legs one by one, of a week at 60 %, in satoshis: what a tolerance is of."""
    week = {"spot": SPOT, "tau_years": 7 / 365, "volatility": 0.6}
    dollars = [abs(float(value(curve_of([leg], floor=book.floor), **week).premium)) for leg in book.legs]
    return round(sum(dollars) / (SPOT / 100) * 1e8)


def rows() -> list[Row]:
    """Return the rows of net books, in about 15 s."""
    return [*_collateral_rows(), *_chain_rows(), *_guest_rows(), *_setup_rows()]


def _collateral_rows() -> list[Row]:
    found = []
    for name, book, most in (
        ("book.net_collateral_pct", condors(), 8), ("book.net_collateral_64_pct", market_book(0), 30)
    ):  # fmt: skip
        alone = sum(locked(replace(book, legs=(leg,))) for leg in book.legs)
        share = 100 * locked(book) / alone
        found.append(
            Row(
                name=name, value=round(share, 2), unit=f"% of {book.count} legs one by one",
                against=f"at most {most} %",
                ratio=round(most / share, 2),
            )
        )  # fmt: skip
    return found


def _chain_rows() -> list[Row]:
    scene = NetScene(book=market_book(0), oracles=3, threshold=2, tolerance=STANDARD, legs_premium=10**8)
    agreement = scene.agreement()
    holder, writer = scene.signatures(agreement)
    funding = scene.funded(agreement, holder, writer)
    cet = settle.complete_cet(
        agreement.plan, buyer=holder.presignatures, seller=writer.presignatures,
        attestations=scene.attestations(9_123_400),
    )  # fmt: skip
    child = settle.build_child(
        cet, coin(3, 50_000, SELLER.script), change_script=SELLER.script, rate=RATE, proof_root=PROOF_ROOT
    )  # fmt: skip
    paid = child.transaction.with_witness(1, [SELLER.sign_input(child.transaction, 1, child.spent)])
    refund = netting.complete_refund(agreement, holder=holder, writer=writer)
    legs, settling = scene.book.count, cet.transaction.vsize + paid.vsize
    sizes = (("book.settle_vb_per_leg", settling, 7), ("book.all_in_vb_per_leg", settling + funding.vsize, 11))
    return [
        *(
            Row(
                name=name, value=round(size / legs, 2), unit=f"vB a leg of {legs}", against=f"at most {most} vB",
                ratio=round(most * legs / size, 2),
            )
            for name, size, most in sizes
        ),
        Row(name="book.refund_vb", value=refund.vsize, unit="vB"),
    ]  # fmt: skip


def _guest_rows() -> list[Row]:
    book = market_book(0)
    contract = contract_of(book, event_of(book))
    amounts = {"touched": False, "own": contract.holder, "collateral": contract.collateral}
    given = [book_input(book, CentsPerBtc(SPOT + 100 * at), **amounts) for at in range(RUNS)]
    taken = seconds_of(lambda: run_many(PROGRAM, given), 11)
    return [
        Row(name="book.guest_steps", value=run(PROGRAM, given[0]).steps, unit=f"steps, {book.count} legs"),
        row_of("book.guest_ms", [1e3 * one / RUNS for one in taken], unit=f"ms a run, {book.count} legs, no trace"),
    ]


def _setup_rows() -> list[Row]:
    """One side's set-up of 64 legs, two of three oracles: ranges by the guest, signing, checking the other side's."""
    book = market_book(0)
    premium = legs_premium(book)
    scene = NetScene(book=book, oracles=3, threshold=2, tolerance=STANDARD, legs_premium=premium)
    run_by = outputs_by(PROGRAM, scene.event)
    agreement = scene.agreement()
    theirs = netting.presign(agreement, Role.SELLER, SELLER_SECRET, owner=scene.owner)

    def one_side() -> None:
        ranges = by_guest(scene.contract, run_by).buckets(scene.rule, premium=Sats(premium))
        points = tuple(DigitPoints(announcement=one) for one in scene.announcements)
        mine = scene.agreement(buckets=ranges, points=points)
        netting.presign(mine, Role.BUYER, BUYER_SECRET, owner=scene.owner)
        netting.check(mine, Role.BUYER, theirs)

    return [
        Row(
            name="book.signatures", value=agreement.plan.signature_count, unit=f"signatures a side, {book.count} legs",
            against="at most 1,500", ratio=round(1_500 / agreement.plan.signature_count, 2),
        ),
        row_of("book.setup_s", seconds_of(one_side, 5), unit="s a side, with the guest", against="at most 2 s",
               at_most=2),
    ]  # fmt: skip
