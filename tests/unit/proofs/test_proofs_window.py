"""A settlement's window: its minutes make the price that the guest was run with, or the proof is refused by name."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import pytest

from btcfi.contracts.payouts import price_input
from btcfi.errors import InvalidInputError
from btcfi.options.expiry import settlement_input
from btcfi.options.terms import OptionKind, OptionTerms
from btcfi.oracle.announcement import OracleEvent, PriceRounding
from btcfi.oracle.consensus import ConsensusRule, agreed_price
from btcfi.oracle.fixing import MINUTE, LeftOut, fix, parse_fixing
from btcfi.oracle.report import make_report, report_hash
from btcfi.proofs import subtrees
from btcfi.proofs.errors import ProofError, ProofFormatError, ProofVersionError, ProofWindowError
from btcfi.proofs.settlement_proof import Depth, build_proof, examine, from_json, inspect, to_json, verify
from btcfi.proofs.window import (
    MAX_WINDOW,
    ProvenMinute,
    check_announced,
    check_reports,
    check_window,
    settled_price,
    window_in_words,
    window_of,
)
from btcfi.proofs.wire import from_wire, to_wire
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Hash32, Minutes, Sats, Slot
from btcfi.vm.interpreter import run
from btcfi.vm.program import load_program, load_program_by_hash
from tests.support.oracle_support import BINANCE, COINBASE, KRAKEN, quote
from tests.unit.proofs.test_proofs_file_vectors import VECTORS

END = Slot(1_700_001_000)
TWAP, MEDIAN = parse_fixing("twap:3"), parse_fixing("median:4")
TERMS = OptionTerms(
    kind=OptionKind.CALL, strike=CentsPerBtc(5_500_000), quantity=CentiBtc(10), barrier=None, american=True, expiry=END,
    premium=Cents(5), collateral=Sats(10_000_000), fixing=TWAP,
)  # fmt: skip
MINUTES = {Slot(END - 120): CentsPerBtc(6_000_000), Slot(END - 60): LeftOut.VOID, END: CentsPerBtc(6_000_101)}
"""Their mean is $60,000.505, which is attested as $60,001 to the nearest and as $60,000 down."""


def window(fixing=TWAP, minutes=MINUTES, *, end=END, rounding=PriceRounding.NEAREST, reports=None):
    return window_of(fixing, fix(fixing, end, minutes), rounding=rounding, reports=reports)


@cache
def program():
    return load_program("option_settlement")


@cache
def run_at(price):
    return run(program(), price_input(TERMS, price).to_bytes())


def utc(at):
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")


def proof(of=None, price=None):
    of = of or window()
    return build_proof(run_at(price or settled_price(of)), window=of)


PRICE = CentsPerBtc(6_000_100)


def refused(changed, price=PRICE):
    with pytest.raises(ProofWindowError) as e:
        inspect(proof(changed, price), program(), depth=Depth.PATHS)
    return e.value.problem


# ---- what is believed


@pytest.mark.parametrize("depth", list(Depth))
def test_a_proof_with_its_window_is_believed_in_every_depth_and_says_which_price_the_minutes_make(depth):
    verified = examine(proof(), program(), depth=depth)
    assert f"twap:3 up to {utc(END)}, of 2 minutes, is the input's price, 6000100 cents" in verified.checks


@pytest.mark.parametrize(
    ("fixing", "minutes", "rounding", "price"),
    [
        (TWAP, MINUTES, PriceRounding.NEAREST, 6_000_100),
        (TWAP, MINUTES, PriceRounding.DOWN, 6_000_000),
        (MINUTE, {END: CentsPerBtc(6_000_149)}, PriceRounding.NEAREST, 6_000_100),
        (MINUTE, {END: CentsPerBtc(6_000_150)}, PriceRounding.NEAREST, 6_000_200),
        (MINUTE, {END: CentsPerBtc(6_000_199)}, PriceRounding.DOWN, 6_000_100),
        (MINUTE, {END: LeftOut.VOID, Slot(END + 60): CentsPerBtc(6_000_000)}, PriceRounding.NEAREST, 6_000_000),
        (MINUTE, {END: CentsPerBtc(49)}, PriceRounding.NEAREST, 1),
        (MINUTE, {END: CentsPerBtc(30_000_000)}, PriceRounding.NEAREST, 26_214_300),
    ],
)
def test_the_minutes_the_rule_and_the_rounding_make_one_price(fixing, minutes, rounding, price):
    assert settled_price(window(fixing, minutes, rounding=rounding)) == price


def test_a_window_that_lacked_minutes_lists_those_that_it_took_after_its_end_and_why_the_others_are_missing():
    late = {
        Slot(END - 120): LeftOut.NEVER_ASKED, Slot(END - 60): LeftOut.THIN, END: CentsPerBtc(6_000_000),
        Slot(END + 60): LeftOut.VOID, Slot(END + 120): CentsPerBtc(6_000_200),
    }  # fmt: skip
    made = window(TWAP, late)
    assert [one.left_out for one in made.minutes] == ["never_asked", "thin", None, "void", None]
    inspect(proof(made), program(), depth=Depth.PATHS)


def test_a_window_is_said_in_words():
    assert window_in_words(window()) == (
        f"The price is twap:3 up to {utc(END)}, of 2 minutes, to the dollar (nearest); left out: {utc(END - 60)} void."
    )
    late = {END: LeftOut.THIN, Slot(END + 60): CentsPerBtc(6_000_000)}
    assert window_in_words(window(MINUTE, late, rounding=None)) == (
        f"The price is that of {utc(END + 60)}, to the cent; left out: {utc(END)} thin."
    )


def test_an_early_exercise_pays_the_fixing_of_the_window_that_ends_at_its_minute_by_the_cent():
    end = Slot(END - 600)
    minutes = {at - 600: said for at, said in MINUTES.items()}
    made = window(TWAP, minutes, end=end, rounding=None)
    assert settled_price(made) == 6_000_050
    given = settlement_input(
        TERMS, price=CentsPerBtc(6_000_050), low=CentsPerBtc(1), high=CentsPerBtc(9_000_000), at=end,
        volatility=BasisPoints(5_000), rate=BasisPoints(0),
    )  # fmt: skip
    assert verify(build_proof(run(program(), given.to_bytes()), window=made), program()).checks[6].startswith("twap:3")
    rounded = build_proof(run(program(), given.to_bytes()), window=replace(made, rounding=PriceRounding.NEAREST))
    with pytest.raises(ProofWindowError, match="is rounded, 10 minutes before the expiry"):
        inspect(rounded, program(), depth=Depth.PATHS)


# ---- what is refused


def minutes_of(made, *at):
    return replace(made, minutes=tuple(made.minutes[place] for place in at))


def test_a_window_with_a_minute_twice_out_of_order_or_left_out_is_refused_by_the_minute():
    made = window()
    for at in ((0, 0, 1, 2), (1, 0, 2), (0, 2), (1, 2), (2,)):
        assert "is due" in refused(minutes_of(made, *at))


def test_a_window_with_too_few_minutes_is_refused():
    made = window()
    assert "needs 2 of all minutes" in refused(minutes_of(made, 0, 1))
    void = replace(made.minutes[2], price=None, left_out=LeftOut.VOID)
    assert "needs 2 of all minutes" in refused(replace(made, minutes=(*made.minutes[:2], void)))
    assert refused(minutes_of(made)) == "has no minute"


def test_a_minute_after_the_window_that_it_did_not_need_is_refused():
    made = window()
    for extra in (
        ProvenMinute(slot=Slot(END + 60), price=CentsPerBtc(6_000_101)),
        ProvenMinute(slot=Slot(END + 60), left_out=LeftOut.VOID),
    ):
        assert (
            refused(replace(made, minutes=(*made.minutes, extra))) == "1 of its minutes come after the fixing was known"
        )


def test_another_sum_another_rounding_another_rule_another_bound_is_not_the_input_s_price():
    made = window()
    other = replace(made.minutes[2], price=CentsPerBtc(6_000_301))
    for changed in (
        replace(made, minutes=(*made.minutes[:2], other)),
        replace(made, rounding=PriceRounding.DOWN),
        replace(made, digits=12),
        window(parse_fixing("median:3"), {**MINUTES, Slot(END - 60): CentsPerBtc(5_000_000)}),
    ):
        assert "the input says 6000100" in refused(changed)


def test_a_settlement_at_expiry_is_in_whole_dollars():
    assert "not rounded" in refused(replace(window(), rounding=None), CentsPerBtc(6_000_050))


def test_only_a_settlement_has_a_window():
    with pytest.raises(ProofWindowError, match="no settlement's"):
        check_window(window(), bytes(59))


# ---- files


def test_a_file_of_version_2_is_read_as_it_was_written_also_as_a_message_and_from_subtrees():
    made = proof()
    assert json.loads(to_json(made))["version"] == made.version == 2
    assert from_json(to_json(made)) == made
    assert from_wire(to_wire(made)) == made
    given = price_input(TERMS, CentsPerBtc(6_000_100)).to_bytes()
    assert subtrees.prove(program(), given, window=window()) == made
    roots = subtrees.subtree_roots(program(), given, first=0, count=1 << 10, height=4)
    execution = subtrees.execute_untraced(program(), given)
    assert subtrees.proof_from_subtrees(program(), execution, roots, height=4, window=window()) == made


def test_the_root_is_that_of_the_proof_without_its_window():
    bare = replace(proof(), window=None)
    assert bare.proof_root == proof().proof_root
    assert bare.version == 1
    assert "window" not in json.loads(to_json(bare))


def test_a_file_of_version_1_verifies_as_before():
    valid = [one for one in VECTORS["tests"] if one["result"] == "valid"]
    assert valid
    for vector in valid:
        made = from_json(vector["proof"])
        assert made.window is None
        assert to_json(made) == vector["proof"]
        verify(made, load_program_by_hash(VECTORS["source"]["program_hash"]))


def edited(change):
    fields = json.loads(to_json(proof()))
    change(fields)
    return json.dumps(fields, sort_keys=True, separators=(",", ":")) + "\n"


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        (lambda f: f.update(version=3), ProofVersionError, "version 3"),
        (lambda f: f.update(version=True), ProofVersionError, "version True"),
        (lambda f: f.update(version=1), ProofFormatError, "window"),
        (lambda f: f.pop("window"), ProofVersionError, "there is none"),
        (lambda f: f.update(window=None), ProofFormatError, "window"),
        (lambda f: f["window"].update(fixing="twap:03"), ProofFormatError, "window.fixing"),
        (lambda f: f["window"].update(fixing="twap:61"), ProofFormatError, "window.fixing"),
        (lambda f: f["window"].update(rounding="up"), ProofFormatError, "window.rounding"),
        (lambda f: f["window"].update(digits=26), ProofFormatError, "window.digits"),
        (lambda f: f["window"].update(end_unix=-60), ProofFormatError, "window.end_unix"),
        (lambda f: f["window"].update(note="x"), ProofFormatError, "window.note"),
        (lambda f: f["window"].pop("digits"), ProofFormatError, "window.digits"),
        (lambda f: f["window"]["minutes"][1].update(left_out="boring"), ProofFormatError, "minutes[1].left_out"),
        (lambda f: f["window"]["minutes"][1].update(price_cents=1), ProofFormatError, "both of price and left_out"),
        (lambda f: f["window"]["minutes"][0].update(price_cents=None), ProofFormatError, "neither of price"),
        (lambda f: f["window"]["minutes"][0].update(price_cents=0), ProofFormatError, "minutes[0].price_cents"),
        (lambda f: f["window"]["minutes"][0].update(price_cents=6e6), ProofFormatError, "minutes[0].price_cents"),
        (lambda f: f["window"]["minutes"][0].update(slot=True), ProofFormatError, "minutes[0].slot"),
        (lambda f: f["window"]["minutes"][0].update(report="00"), ProofFormatError, "minutes[0].report"),
        (lambda f: f["window"]["minutes"][0].pop("report"), ProofFormatError, "canonical"),
        (lambda f: f["window"].update(minutes=f["window"]["minutes"] * MAX_WINDOW), ProofFormatError, "window.minutes"),
    ],
)
def test_a_window_that_is_not_canonical_is_refused_by_its_field(change, error, named):
    with pytest.raises(error) as e:
        from_json(edited(change))
    assert named in e.value.problem


# ---- held against what a verifier has from elsewhere


def event(**changes):
    fields = {
        "feed": "BTC/USD", "expiry": END, "program_hash": program().program_hash, "preset_hash": Hash32(bytes(32)),
        "version": 2, "fixing": TWAP,
    }  # fmt: skip
    return OracleEvent(**(fields | changes))


def test_the_window_is_what_the_oracles_announced_or_the_field_that_differs_is_named():
    assert event().id.hex() in check_announced(window(), event(), program().program_hash)
    for changes, named in (
        ({"fixing": parse_fixing("median:3")}, "fixing"),
        ({"fixing": MINUTE}, "fixing"),
        ({"version": 1, "fixing": MINUTE}, "fixing"),
        ({"expiry": Slot(END + 60)}, "end"),
        ({"digits": 20}, "digits"),
        ({"program_hash": Hash32(bytes(32))}, "program"),
    ):
        with pytest.raises(ProofWindowError, match=f"its {named} is"):
            check_announced(window(), event(**changes), program().program_hash)
    old = window(MINUTE, {END: CentsPerBtc(6_000_000)}, rounding=PriceRounding.DOWN)
    check_announced(old, event(version=1, fixing=MINUTE), program().program_hash)
    with pytest.raises(ProofWindowError, match="its rounding is down, the announced event's nearest"):
        check_announced(old, event(fixing=MINUTE), program().program_hash)


def reports():
    rule, three = ConsensusRule(), (BINANCE, COINBASE, KRAKEN)
    found = {}
    for at, said in MINUTES.items():
        prices = [] if isinstance(said, LeftOut) else [said] * 3
        seen = [quote(venue, price, slot=at) for venue, price in zip(three, prices, strict=False)]
        outcome = agreed_price(seen, registered=three, legs=(), rule=rule, slot=at)
        found[at] = make_report(outcome, seen, feed="BTC/USD", rule=rule, registered=three, legs=())
    return found


def test_a_minute_s_report_is_held_against_it_where_a_verifier_has_the_report():
    made = reports()
    hashes = {at: report_hash(one) for at, one in made.items()}
    by_hash = {report_hash(one): one for one in made.values()}
    right = window(reports=hashes)
    assert check_reports(right, by_hash).startswith("3 of 3")
    assert check_reports(right, {}).startswith("0 of 3")
    swapped = {END: hashes[Slot(END - 120)], Slot(END - 120): hashes[END]}
    for lie in (
        window(reports=hashes | swapped),
        window(minutes={**MINUTES, END: CentsPerBtc(6_000_102)}, reports=hashes),
        window(minutes={**MINUTES, Slot(END - 60): CentsPerBtc(6_000_050)}, reports=hashes),
        window(parse_fixing("twap:3"), {**MINUTES, Slot(END - 60): LeftOut.THIN}, reports=hashes),
    ):
        with pytest.raises(ProofWindowError, match="its report is of"):
            check_reports(lie, by_hash)
    left_out = {**MINUTES, END: LeftOut.VOID, Slot(END + 60): CentsPerBtc(6_000_000)}
    with pytest.raises(ProofWindowError, match="says 6000101 cents"):
        check_reports(window(minutes=left_out, reports=hashes), by_hash)


def test_a_file_that_names_no_report_is_held_against_those_of_its_minutes_all_the_same():
    by_hash = {report_hash(one): one for one in reports().values()}
    assert check_reports(window(), by_hash).startswith("3 of 3")
    nobody = Hash32(bytes([7] * 32))  # one that its reader has not
    lies = {END: LeftOut.NEVER_ASKED, Slot(END + 60): CentsPerBtc(6_000_101)}
    for lie in (
        window(minutes={**MINUTES, END: CentsPerBtc(6_000_201), Slot(END - 120): CentsPerBtc(5_999_900)}),
        window(minutes={**MINUTES, **lies}),
        window(minutes={**MINUTES, **lies}, reports={END: nobody}),
        window(minutes={**MINUTES, Slot(END - 60): LeftOut.NEVER_ASKED}),  # it was: its report says that it is void
    ):
        with pytest.raises(ProofWindowError, match="its report is of"):
            check_reports(lie, by_hash)


def test_an_early_exercise_is_held_against_the_announcement_of_its_expiry():
    minutes = {at - 600: said for at, said in MINUTES.items()}
    made = window(TWAP, minutes, end=Slot(END - 600), rounding=None)
    assert event().id.hex() in check_announced(made, event(), program().program_hash, early=Minutes(10))
    for early in (0, 9, 11):
        with pytest.raises(ProofWindowError, match=r"its (end|rounding) is"):
            check_announced(made, event(), program().program_hash, early=Minutes(early))


def test_a_minute_has_a_price_or_a_reason_and_an_error_is_a_proof_s():
    with pytest.raises(InvalidInputError):
        ProvenMinute(slot=END)
    assert issubclass(ProofWindowError, ProofError)
    assert ProofWindowError.check == "window"
