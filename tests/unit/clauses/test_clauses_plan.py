"""Trees before they are funded: sums, fees, signatures that are refused, contracts that are none."""

from dataclasses import dataclass, replace

import pytest

from btcfi.bitcoin.fees import fee_for
from btcfi.bitcoin.transaction import TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.clauses.bet import FlatBet, GenericBet, NoShow, Outcome, bet, divided, flat
from btcfi.clauses.clause import ALWAYS, After, Key, Or
from btcfi.clauses.contract import Parties, Way
from btcfi.clauses.expiring import ExpiringOption
from btcfi.clauses.flat import flat_buckets
from btcfi.clauses.plan import Terms, build_close, check_presignatures, presign, tree
from btcfi.clauses.risk_reversal import ONE_UNIT, RiskReversal, Row, identity, thinned
from btcfi.contracts.option import WrongSignatureError
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.units import Height, Sats
from tests.support.contracts import BUYER, BUYER_SECRET, RATE, SELLER
from tests.support.trees import (
    KINDS,
    NOWHERE,
    OPERATOR,
    PART_TWO,
    PARTIES,
    REVERSAL,
    SYMBOL,
    USER,
    TreeScene,
    kind_name,
    under_funded,
)  # fmt: skip


def scene(kind=KINDS[0], levels=5, **more):
    made = TreeScene(levels, kind, **more)
    made.sign(NOWHERE)
    return made


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_amounts_pass_through_a_tree_untouched_and_every_step_pays_its_rate(kind):
    made = scene(kind)
    for step in made.plan.steps.values():
        spent, paid = sum(one.value for one in step.spent), sum(one.value for one in step.transaction.outputs)
        assert spent == paid + step.fee
        below = [other for other in made.plan.steps.values() if other.path[:-1] == step.path]
        if not below:
            assert paid == REVERSAL.max_amount
        else:
            # what lies there covers the dearest road on, and nothing more
            rest = below[0].spent[0].value - REVERSAL.max_amount
            assert rest == max(one.fee + reserve_after(made, one) for one in below)
    for price in (1, made.levels[2], made.levels[-1]):
        for tx, place in zip(made.branch(price), range(9), strict=False):
            step = made.plan.step(made.contract.path_of(price)[: place + 1])
            assert step.fee >= fee_for(tx.vsize, RATE)


def reserve_after(made, step):
    below = [other for other in made.plan.steps.values() if other.path[:-1] == step.path]
    return below[0].spent[0].value - REVERSAL.max_amount if below else 0


@pytest.mark.parametrize("levels", [1, 2, 3, 5, 8, 9, 50, 333])
def test_a_tree_of_n_outcomes_asks_n_less_one_levels_and_is_as_deep_as_their_logarithm(levels):
    made = TreeScene(max(levels, 2))
    one = replace(made.bet, outcomes=made.bet.outcomes[:levels])
    plan = tree(one, Terms(parties=PARTIES, rate=RATE)).plan(NOWHERE)
    answers = [path for path in plan.steps if path[-1] != "oracle_no_show"]
    assert len(answers) == (2 * levels - 2 if levels > 1 else 1)
    assert max(map(len, plan.steps)) == max((levels - 1).bit_length(), 1)
    assert len([path for path in plan.steps if path[-1] == "oracle_no_show"]) == max(levels - 1, 1)


def test_the_no_show_of_the_first_output_waits_for_a_height_and_of_every_later_one_for_a_delay_too():
    made = scene(KINDS[0], after=777, delay=9)
    for path, step in made.plan.steps.items():
        if path[-1] == "oracle_no_show":
            assert step.transaction.lock_time == 777
            assert step.transaction.inputs[0].sequence == (0xFFFFFFFE if len(path) == 1 else 9)
        else:
            assert step.transaction.lock_time == 0


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[5]], ids=kind_name)
def test_a_signature_that_is_changed_missing_or_another_s_is_found_by_its_step(kind):
    made = scene(kind)
    places = sorted({step.first for step in made.plan.steps.values()})
    for place in (places[0], places[3], places[-1]):
        bad = list(made.one)
        bad[place] = bad[place][:-1] + bytes([bad[place][-1] ^ 1])
        with pytest.raises(WrongSignatureError) as refused:
            check_presignatures(made.plan, USER, bad)
        (step,) = [one for one in made.plan.steps.values() if one.first == place]
        assert refused.value.what == "/".join(step.path)
    for wrong in (made.two, made.one[:-1], (*made.one, made.one[0]), (made.one[1], made.one[0], *made.one[2:])):
        with pytest.raises(WrongSignatureError):
            check_presignatures(made.plan, USER, wrong)


def test_a_signature_of_another_funding_is_of_no_use():
    made, other = scene(), TreeScene(5)
    plan = other.tree.plan(replace(NOWHERE, index=1))
    with pytest.raises(WrongSignatureError):
        check_presignatures(plan, USER, made.one)


def test_a_secret_of_neither_party_signs_nothing():
    with pytest.raises(InvalidInputError):
        presign(scene().plan, b"\x55" * 32)


def test_plans_of_equal_terms_are_equal_to_the_byte():
    first, second = scene(), scene()
    assert [s.transaction for s in first.plan.steps.values()] == [s.transaction for s in second.plan.steps.values()]
    assert first.one == second.one


def test_a_path_that_is_none_is_not_found():
    made = scene()
    for path in ((), ("pay_gte", "pay_gte", "pay_gte", "pay_gte"), ("strikes",)):
        with pytest.raises(NotFoundError):
            made.plan.step(path)
    with pytest.raises(NotFoundError):
        made.plan.held_after(made.contract.path_of(1))


def test_a_close_that_pays_more_than_what_lies_there_less_the_fee_is_refused():
    made = scene()
    value = made.tree.funding_txout().value
    with pytest.raises(InvalidInputError):
        build_close(made.plan, (), [TxOut(value=value, script=BUYER.script)], rate=RATE)
    all_of_it = Sats(value - 250)
    assert build_close(made.plan, (), [TxOut(value=all_of_it, script=BUYER.script)], rate=RATE).outputs


# ---- contracts that are none


@dataclass(frozen=True)
class Two:
    """A contract of given ways."""

    amount: int
    given: tuple

    def ways(self):
        return self.given


TERMS = Terms(parties=PARTIES, rate=RATE)
PAYS = (TxOut(value=Sats(10_000), script=BUYER.script),)


@pytest.mark.parametrize(
    "ways",
    [
        (Way(name="less", guard=ALWAYS, pays=PAYS[:0]),),
        (Way(name="more", guard=ALWAYS, pays=PAYS * 2),),
        (Way(name="a", guard=ALWAYS, pays=PAYS), Way(name="a", guard=ALWAYS, pays=PAYS)),
        (Way(name="two locks", guard=Or((After(5), After(6))), pays=PAYS),),
        (Way(name="a party's key", guard=Key(USER), pays=PAYS),),
        (),
    ],
)
def test_a_contract_that_does_not_add_up_or_says_two_things_is_refused(ways):
    with pytest.raises(InvalidInputError):
        tree(Two(10_000, ways), TERMS)


def test_an_output_that_no_node_relays_is_refused():
    with pytest.raises(InvalidInputError):
        Way(name="dust", guard=ALWAYS, pays=(TxOut(value=Sats(329), script=BUYER.script),))


def test_parties_are_two_keys_and_an_aggregate_on_the_curve():
    for wrong in ({"one": OPERATOR}, {"cooperate": bytes(32)}, {"two": b"\xff" * 32}):
        with pytest.raises(InvalidInputError):
            Parties(**{"one": USER, "two": OPERATOR, "cooperate": PARTIES.cooperate} | wrong)


def made_bet(**changes):
    outcomes = [
        Outcome(level=level, pays=divided(Sats(10_000), Sats(share), script=BUYER.script, rest_script=SELLER.script))
        for level, share in ((100, 10_000), (200, 5_000), (300, 0))
    ]
    return {
        "amount": Sats(10_000), "outcomes": outcomes, "oracle": TreeScene(2).oracle, "symbol": SYMBOL,
        "no_show": NoShow(pays=outcomes[1].pays, after=Height(200), delay=6),
    } | changes  # fmt: skip


def test_outcomes_and_no_show_must_pay_the_whole_amount_and_levels_stand_once():
    answers = {level: (After(level), After(level + 1)) for level in (100, 200, 300)}
    given = made_bet()
    ordered = tuple(given["outcomes"])
    right = {"amount": given["amount"], "outcomes": ordered, "answers": answers, "no_show": given["no_show"]}
    for form in (GenericBet, FlatBet):
        assert form(**right).path_of(250)
        for wrong in (
            {"amount": Sats(10_001)}, {"outcomes": ()}, {"outcomes": (ordered[0], ordered[0])},
            {"outcomes": ordered[::-1]}, {"answers": {}},
            # one thing is shown for both answers, or for answers of two levels: an honest word would open two ways
            {"answers": answers | {200: (After(5), After(5))}}, {"answers": answers | {200: (After(5), After(300))}},
            {"no_show": replace(given["no_show"], pays=(TxOut(value=Sats(9_999), script=BUYER.script),))},
        ):  # fmt: skip
            with pytest.raises(InvalidInputError):
                form(**right | wrong)
    with pytest.raises(InvalidInputError):
        flat(GenericBet(**right | {"outcomes": ordered[:1]}))
    with pytest.raises(NotFoundError):
        bet(**given)  # the oracle published nothing of these levels


@pytest.mark.parametrize("wrong", [{"after": 0}, {"after": 500_000_000}, {"delay": 0}, {"delay": 65_536}])
def test_a_no_show_has_a_height_and_a_delay(wrong):
    with pytest.raises(InvalidInputError):
        NoShow(**{"pays": PAYS, "after": Height(5), "delay": 5} | wrong)


def test_an_option_whose_parts_are_not_what_its_bet_holds_is_refused():
    made = TreeScene(5)
    for one, two in ((1, 2), (REVERSAL.max_amount + 1, -1), (REVERSAL.max_amount, 1)):
        with pytest.raises(InvalidInputError):
            ExpiringOption(
                party_one=one, party_two=two, script_one=SELLER.script, script_two=BUYER.script, holder=USER,
                opt=made.bet, timeout=99,
            )  # fmt: skip


# ---- the curve


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 0}, {"current": 0}, {"down": (1, 0)}, {"up": (1, 0)}, {"down": (-1, 10)}, {"up": (-1, 10)},
        {"down": (2, 1)}, {"down": (99_999, 100_000)}, {"up": (10_000, 1)},
    ],
)  # fmt: skip
def test_a_range_that_is_none_is_refused_and_divides_nothing(wrong):
    with pytest.raises(InvalidInputError):
        RiskReversal(**{"amount": Sats(1_000), "current": 500_000_000, "down": (1, 10), "up": (1, 10)} | wrong)


def test_a_level_outside_the_range_has_no_row():
    for level in (REVERSAL.bottom - 1, REVERSAL.top + 1, 0):
        with pytest.raises(InvalidInputError):
            REVERSAL.row(level)
    with pytest.raises(InvalidInputError):
        thinned(REVERSAL.rows(), 1)
    with pytest.raises(InvalidInputError):
        identity(amount=1, current=5, a=5, b=1)


def test_flat_buckets_cover_each_price_once_and_pay_the_row_below_it():
    rows = [Row(level=level * ONE_UNIT, user=Sats(level), operator=Sats(0)) for level in (3, 4, 9, 14)]
    buckets = flat_buckets(rows, 4)
    for price in range(16):
        (one,) = [bucket for bucket in buckets if price >> (4 - bucket.length) == bucket.prefix]
        assert one.payout == max((row.user for row in rows if row.level <= price * ONE_UNIT), default=3)
        assert one.length >= 1


@pytest.mark.parametrize("levels", [(), (5,), (5, 5), (6, 5), (5, 16), (5.5, 7)])
def test_levels_that_the_digits_can_not_say_are_refused(levels):
    rows = [Row(level=int(level * ONE_UNIT), user=Sats(1), operator=Sats(1)) for level in levels]
    with pytest.raises(InvalidInputError):
        flat_buckets(rows, 4)


def test_the_buyers_secret_is_not_in_a_plan_s_text():
    assert BUYER_SECRET.hex() not in repr(scene().plan)


@pytest.mark.parametrize("rate", [0, 999, 10_000_001])
def test_a_rate_that_no_node_relays_or_sends_is_refused(rate):
    with pytest.raises(InvalidInputError):
        Terms(parties=PARTIES, rate=rate)


def test_a_strike_pays_for_the_larger_witness_of_a_coin_of_a_key_hash():
    sizes = []
    for script in (BUYER.script, b"\x00\x14" + bytes(20)):
        coin = Coin(outpoint=replace(NOWHERE, index=7), output=TxOut(value=PART_TWO, script=script))
        made = scene(contract=under_funded(coin))
        sizes.append(made.plan.step(("strikes",)).fee)
    # 42 weight units more, rounded up to a virtual byte
    assert sizes[1] - sizes[0] in {fee_for(10, RATE), fee_for(11, RATE)}
