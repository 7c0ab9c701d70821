"""The contract: adaptor signatures, signature hashes, and a covered call of 18 digits set up.

One core, one run. The adaptor rates stand against plain BIP340 signing and verifying through the same library; the
prepared signature hash against the general one. Then the standard preset, and what every transaction weighs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from statistics import median
from time import perf_counter

from btcfi import secp256k1
from btcfi.bitcoin import taproot
from btcfi.bitcoin.adaptor import AdaptorKey, presignature_is_valid
from btcfi.bitcoin.transaction import OutPoint, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts import anchor, cooperative, leaves, option, settle, setup
from btcfi.contracts.batch_funding import build_batch_funding
from btcfi.contracts.buckets import Rounding, StepRule, ToleranceRule
from btcfi.contracts.execution import CET_PATH
from btcfi.contracts.messages import encode_accept
from btcfi.hashes import sha256
from btcfi.options.terms import OptionKind
from btcfi.oracle.announcement import DigitPoints
from btcfi.units import Sats, Txid
from btcfi.vm.program import load_program
from settings.preset import load_preset
from tests.benchmarks import Row
from tests.support.batching import Table, fundings_of
from tests.support.contracts import (
    BUYER_SECRET,
    POLICY,
    PROOF_ROOT,
    RATE,
    SELLER,
    SELLER_SECRET,
    Scene,
    coin,
)
from tests.support.reopening import Reopens
from tests.support.rounding import HOURS, SIZES, Payoff, cost

REPEATS = 5
COUNT = 1_000


def _seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    taken = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        taken.append(perf_counter() - start)
    return median(taken)


def _adaptor_rows() -> list[Row]:
    secret = bytes([7]) * 32
    key = AdaptorKey(secret)
    points = [secp256k1.generator_multiple((n + 1).to_bytes(32)) for n in range(COUNT)]
    messages = [n.to_bytes(32) for n in range(COUNT)]
    pairs = list(zip(messages, points, strict=True))
    made = [key.presign(message, point) for message, point in pairs]
    plain = [secp256k1.schnorr_sign(secret, message) for message in messages]
    sign = _seconds(lambda: [key.presign(message, point) for message, point in pairs])
    plain_sign = _seconds(lambda: [secp256k1.schnorr_sign(secret, message) for message in messages])
    verify = _seconds(
        lambda: [presignature_is_valid(key.public, m, p, s) for (m, p), s in zip(pairs, made, strict=True)]
    )
    plain_verify = _seconds(
        lambda: [secp256k1.schnorr_verify(key.public, m, s) for m, s in zip(messages, plain, strict=True)]
    )
    return [
        Row(
            name="adaptor.sign_per_s",
            value=round(COUNT / sign),
            unit="1/s",
            against=f"BIP340 signing by coincurve, {round(COUNT / plain_sign)}/s",
            ratio=round(plain_sign / sign, 2),
        ),
        Row(
            name="adaptor.verify_per_s",
            value=round(COUNT / verify),
            unit="1/s",
            against=f"BIP340 verifying by coincurve, {round(COUNT / plain_verify)}/s",
            ratio=round(plain_verify / verify, 2),
        ),
    ]


def _setup_rows() -> list[Row]:
    scene = Scene()

    def accepting_side() -> None:
        # buckets from the payoff, transactions, points, both sides' pre-signatures made, one side's checked
        offer = scene.offer()
        agreement = scene.agreement(offer)
        accepted = setup.accept(offer, agreement, scene.buyer, BUYER_SECRET, authority=scene.authority())
        setup.sign(offer, accepted, agreement, SELLER_SECRET, {SELLER.script: SELLER}, authority=scene.authority())

    agreement = scene.agreement()
    plan = agreement.plan
    both = _seconds(accepting_side, repeats=3)
    leaf = taproot.leaf_hash(leaves.leaf(CET_PATH, plan.contract.keys).script)
    spent = [plan.contract.funding_txout()]
    buckets = range(min(COUNT, len(plan.buckets)))
    prepared = _seconds(lambda: [plan.sighash(bucket) for bucket in buckets])
    general = _seconds(lambda: [taproot.sighash(plan.transaction(b), 0, spent, leaf=leaf) for b in buckets])
    return [
        Row(name="contract.signatures", value=plan.signature_count, unit="signatures a side"),
        # one run signs for both sides and checks one side: more than either side does alone
        Row(
            name="contract.setup_s",
            value=round(both, 3),
            unit="s",
            against="target 5 s a side",
            ratio=round(5 / both, 1),
        ),
        Row(
            name="sighash.per_s",
            value=round(len(buckets) / prepared),
            unit="1/s",
            against=f"building the transaction and BIP341's message whole, {round(len(buckets) / general)}/s",
            ratio=round(general / prepared, 1),
        ),
    ]


def _preset_rows() -> list[Row]:
    """Three oracles of which two must agree, by the standard preset's tolerance: what the pipeline sets up."""
    preset = load_preset("standard")
    assert isinstance(preset.payouts, ToleranceRule)
    scene = Scene(tolerance=preset.payouts.tolerance, oracles=preset.oracles, threshold=preset.oracle_threshold)
    offer, agreement = scene.offer(), scene.agreement()
    points = tuple(DigitPoints(announcement=one) for one in scene.announcements)

    def check() -> None:
        payouts, event = scene.payouts, scene.event
        setup.check_setup(offer, accepted, signed, payouts, event=event, policy=POLICY, points=points)

    accepted = setup.accept(offer, agreement, scene.buyer, BUYER_SECRET, authority=scene.authority())
    signed = setup.sign(offer, accepted, agreement, SELLER_SECRET, {SELLER.script: SELLER}, authority=scene.authority())
    check()  # the points of an event are computed once
    message = len(json.dumps(encode_accept(accepted)))
    return [
        Row(name="contract.preset_cets", value=len(agreement.plan.buckets), unit="CETs"),
        Row(name="contract.preset_signatures", value=agreement.plan.signature_count, unit="signatures a side"),
        Row(name="contract.preset_message", value=message, unit="bytes of accept message"),
        Row(name="contract.preset_check_ms", value=round(1000 * _seconds(check, repeats=3), 1), unit="ms, both sides"),
    ]


def _rounding_rows() -> list[Row]:
    """What the preset's rule costs a buyer, by the guest's own runs, and its signatures: the worst of 24 options.

    Calls and puts at the money at $100,000, volatility 60 %, of 0.01, 0.1 and 1 BTC, from an hour to 90 days. The
    attested whole dollar and dust are in it. Against it: steps of 50,000 sat, rounded down, as up to contracts of
    version 2.
    """
    program, rule = load_program("option_settlement"), load_preset("standard").payouts
    steps = StepRule(step=Sats(50_000), rounding=Rounding.DOWN)
    found, before = [], []
    for kind, quantity, hours in product((OptionKind.CALL, OptionKind.PUT), SIZES, HOURS.values()):
        payoff = Payoff(kind=kind, strike=10_000_000, quantity=quantity)
        found.append(cost(payoff, hours, rule, payouts=payoff.guest(program)))
        before.append(cost(payoff, hours, steps, nearest=False))
    rows = []
    for name, unit, of in (
        ("bias_pct", "% of the premium, the worst", lambda one: round(abs(one.bias), 4)),
        ("rms_pct", "% of the premium, the worst", lambda one: round(one.rms, 3)),
        ("signatures", "signatures a set of oracles, the most", lambda one: one.signatures),
    ):
        was, value = max(map(of, before)), max(map(of, found))
        rows.append(
            Row(
                name=f"contract.rounding_{name}", value=value, unit=unit,
                against=f"steps of 50,000 sat: {was:,}", ratio=round(was / value, 1),
            )
        )  # fmt: skip
    return rows


def _size_rows() -> list[Row]:
    """Virtual sizes of every transaction of a contract, built and signed as the pipeline does."""
    scene = Scene(oracles=3, threshold=2)
    agreement, accepted, signed, funding = scene.run()
    contract, funded = agreement.plan.contract, agreement.plan.funding
    cet = settle.complete_cet(
        agreement.plan, **scene.presignatures(accepted, signed), attestations=scene.attestations(12_500_000)
    )
    wallet_coin = coin(3, 50_000, SELLER.script)
    child = settle.build_child(
        cet, wallet_coin, change_script=SELLER.script, rate=RATE, proof_root=PROOF_ROOT
    )  # fmt: skip
    paid = child.transaction.with_witness(1, [SELLER.sign_input(child.transaction, 1, child.spent)])
    refund = option.build_refund(contract, funded, rate=RATE)
    refunded = option.complete_settlement(refund, seller=option.sign_settlement(refund, SELLER_SECRET, party="seller"))
    close = cooperative.build_close(contract, funded, payout=cet.payout, rate=RATE, proof_root=PROOF_ROOT)
    anchored = anchor.build_anchor(PROOF_ROOT, wallet_coin, change_script=SELLER.script, rate=RATE)
    sizes = {
        "funding": funding.vsize,
        "cet": cet.transaction.vsize,
        "child": paid.vsize,
        "refund": refunded.vsize,
        "close": close.transaction.with_witness(0, [bytes(64)]).vsize,
        "anchor": anchored.transaction.with_witness(0, [bytes(64)]).vsize,
    }
    return [Row(name=f"contract.{name}_vb", value=size, unit="vB") for name, size in sizes.items()]


def _reopening_rows() -> list[Row]:
    """Virtual sizes of a contract's collateral in the next contract, signed by everybody, against two transactions."""
    _, _, rolled = Reopens().roll().run()
    scene = Reopens().transfer()
    _, _, transferred = scene.run()
    close = cooperative.build_close(scene.held.contract, scene.held.funding, payout=Sats(500_000), rate=RATE)
    apart = scene.old_funding.vsize + close.transaction.with_witness(0, [bytes(64)]).vsize
    return [
        Row(
            name=name, value=size, unit="vB", against=f"close and new funding, {apart} vB", ratio=round(apart / size, 2)
        )
        for name, size in (("roll.vb", rolled.vsize), ("transfer.vb", transferred.vsize))
    ]


def _batch_rows() -> list[Row]:
    """Virtual bytes a contract of what ends or begins together, signed by everybody, against each by itself."""
    alone = {row.name: row.value for row in _size_rows()}
    ended = Table(64, 16).run().signed
    assert ended is not None
    funded = build_batch_funding(*fundings_of(34, 10, coins=_any_coin), rate=RATE).transaction
    for index in range(len(funded.inputs)):
        funded = funded.with_witness(index, [bytes(64)])
    apart = alone["contract.cet_vb"] + alone["contract.child_vb"]
    return [
        Row(
            name=name, value=round(size, 1), unit="vB a contract", against=f"{against}, {one} vB",
            ratio=round(one / size, 1),
        )
        for name, size, against, one in (
            ("batch.vb_each_64", ended.vsize / 64, "64 of 16 owners; a CET and its child", apart),
            ("funding.vb_each_34", funded.vsize / 34, "34 of 10 owners; a funding", alone["contract.funding_vb"]),
        )
    ]  # fmt: skip


def _any_coin(script: bytes, value: int) -> Coin:
    return Coin(
        outpoint=OutPoint(txid=Txid(sha256(script)), index=0), output=TxOut(value=Sats(value), script=script)
    )  # fmt: skip


def rows() -> list[Row]:
    """Return the contract's rows."""
    return [
        *_adaptor_rows(), *_setup_rows(), *_preset_rows(), *_rounding_rows(), *_size_rows(), *_reopening_rows(),
        *_batch_rows(),
    ]  # fmt: skip
