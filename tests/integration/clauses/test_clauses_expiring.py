"""Options around a tree on the embedded chain: struck, expired, and struck by nobody but the holder."""

from dataclasses import replace

import pytest

from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.clauses.clause import ALWAYS, Key
from btcfi.clauses.contract import Way
from btcfi.clauses.expiring import ExpiringOption, UnderFundedExpiringOption
from btcfi.clauses.script import NotShownError, Shown
from btcfi.errors import InvalidInputError
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import Sats
from tests.support.contracts import BUYER, SELLER
from tests.support.little_chain import LittleChain
from tests.support.trees import (
    HOLDER,
    PART_ONE,
    PART_TWO,
    REVERSAL,
    STRUCK,
    TIMEOUT,
    TreeScene,
    under_funded,
)

STRANGER_SECRET = b"\x22" * 32
COIN_KEY = wallet_key(bytes(range(32)), 3, account=1)


@pytest.fixture
def chain(tmp_path):
    made = LittleChain(tmp_path / "chain")
    yield made
    made.close()


def full(opt):
    return ExpiringOption(
        party_one=PART_ONE, party_two=PART_TWO, script_one=SELLER.script, script_two=BUYER.script, holder=HOLDER,
        opt=opt, timeout=TIMEOUT,
    )  # fmt: skip


def holders_coin(chain):
    (coin,) = chain.pay([(COIN_KEY.script, PART_TWO)])
    return coin


def paid_in(step, transaction):
    return transaction.with_witness(1, [COIN_KEY.sign_input(transaction, 1, step.spent)])


def test_an_option_that_both_funded_is_struck_by_the_holder_and_settled_like_its_bet(chain):
    scene = TreeScene(5, after=130, contract=full)
    scene.fund(chain)
    assert scene.tree.amount == REVERSAL.max_amount
    price = scene.levels[3]
    steps = [("strikes", *scene.bet.path_of(price)[:n]) for n in range(len(scene.bet.path_of(price)) + 1)]
    shown = Shown(preimages=scene.shown(price).preimages, secrets=STRUCK.secrets)
    branch = [scene.finish(path, shown) for path in steps]
    chain.mine(1, branch)
    assert scene.paid(branch[-1]) == scene.row_at(price)


def test_an_option_that_nobody_strikes_returns_to_each_its_part_and_not_before_the_timeout(chain):
    scene = TreeScene(5, after=130, contract=full)
    scene.fund(chain)
    back = scene.finish(("expires",), Shown())
    while chain.height < TIMEOUT:
        assert not chain.takes(back)
        chain.mine()
    assert chain.takes(back)
    assert scene.paid(back) == {"user": PART_TWO, "operator": PART_ONE}


def test_who_strikes_late_still_has_the_delay_before_the_split(chain):
    scene = TreeScene(5, after=105, delay=6, contract=full)
    scene.fund(chain)
    chain.mine(5)
    assert chain.height > 105
    strike = scene.finish(("strikes",), STRUCK)
    split = scene.finish(("strikes", "oracle_no_show"), Shown())
    chain.mine(1, [strike])
    for _ in range(5):
        assert not chain.takes(split)
        chain.mine()
    assert chain.takes(split)


def test_an_under_funded_option_holds_the_writers_part_alone_until_the_holder_pays_in(chain):
    coin = holders_coin(chain)
    scene = TreeScene(5, after=130, contract=under_funded(coin))
    scene.fund(chain)
    assert scene.tree.amount == PART_ONE
    assert (scene.contract.locked_by_holder, full(scene.bet).locked_by_holder) == (0, PART_TWO)
    price = scene.levels[2]
    strike = scene.finish(("strikes",), STRUCK)
    assert not chain.takes(strike)  # the holder's coin is not signed yet
    strike = paid_in(scene.plan.step(("strikes",)), strike)
    path = scene.bet.path_of(price)
    branch = [scene.finish(("strikes", *path[: n + 1]), scene.shown(price)) for n in range(len(path))]
    chain.mine(1, [strike, *branch])
    assert scene.paid(branch[-1]) == scene.row_at(price)


def test_an_under_funded_option_that_expires_returns_the_writers_part_and_leaves_the_holders_coin_alone(chain):
    coin = holders_coin(chain)
    scene = TreeScene(5, after=130, contract=under_funded(coin))
    scene.fund(chain)
    while chain.height < TIMEOUT:
        chain.mine()
    back = scene.finish(("expires",), Shown())
    assert chain.takes(back)
    assert scene.paid(back) == {"operator": PART_ONE}
    assert coin.outpoint in chain.chain.coins
    late = paid_in(scene.plan.step(("strikes",)), scene.finish(("strikes",), STRUCK))
    assert not chain.takes(late)


class AsPublished(UnderFundedExpiringOption):
    """The same option with the strike as the post prints it: guarded by nothing."""

    def ways(self):
        strikes, expires = UnderFundedExpiringOption.ways(self)
        return replace(strikes, guard=ALWAYS), expires


def as_published(coin):
    ours = under_funded(coin)

    def made(opt):
        one = ours(opt)
        return AsPublished(**{name: getattr(one, name) for name in one.__dataclass_fields__})

    return made


def test_nobody_strikes_but_the_holder_where_the_published_code_lets_anybody(chain):
    # the coin belongs to a stranger with both parties' signatures in hand, as a carrier of messages has them
    coin = holders_coin(chain)
    ours = TreeScene(5, after=130, contract=under_funded(coin))
    ours.fund(chain)
    for shown in (Shown(), Shown(secrets={public_key_xonly(STRANGER_SECRET): STRANGER_SECRET})):
        with pytest.raises(NotShownError):
            ours.finish(("strikes",), shown)
    # a signature of another key in the holder's place: the scripts refuse it
    forged = ours.finish(("strikes",), Shown(secrets={HOLDER: STRANGER_SECRET}))
    assert not chain.takes(paid_in(ours.plan.step(("strikes",)), forged))
    theirs = TreeScene(5, after=130, contract=as_published(coin))
    theirs.fund(chain)
    struck = paid_in(theirs.plan.step(("strikes",)), theirs.finish(("strikes",), Shown()))
    assert chain.takes(struck)


def test_a_holder_who_spent_the_named_coin_elsewhere_can_not_strike_and_the_writer_is_paid_back(chain):
    coin = holders_coin(chain)
    scene = TreeScene(5, after=130, contract=under_funded(coin))
    scene.fund(chain)
    elsewhere = TxOut(value=Sats(PART_TWO - 1_000), script=BUYER.script)
    spend = Transaction(version=2, inputs=(TxIn(outpoint=coin.outpoint),), outputs=(elsewhere,))
    chain.mine(1, [spend.with_witness(0, [COIN_KEY.sign_input(spend, 0, [coin.output])])])
    strike = paid_in(scene.plan.step(("strikes",)), scene.finish(("strikes",), STRUCK))
    assert not chain.takes(strike)
    while chain.height < TIMEOUT:
        chain.mine()
    assert chain.takes(scene.finish(("expires",), Shown()))


@pytest.mark.parametrize("sats", [PART_TWO - 1, PART_TWO + 1])
def test_a_coin_that_is_not_exactly_the_holders_part_is_refused(chain, sats):
    (coin,) = chain.pay([(COIN_KEY.script, sats)])
    with pytest.raises(InvalidInputError) as refused:
        TreeScene(5, contract=under_funded(coin))
    assert refused.value.field == "pay in"


def test_a_coin_whose_spending_could_change_the_id_is_refused(chain):
    coin = holders_coin(chain)
    legacy = Coin(
        outpoint=coin.outpoint, output=TxOut(value=coin.value, script=b"\x76\xa9\x14" + bytes(20) + b"\x88\xac")
    )
    with pytest.raises(InvalidInputError) as refused:
        Way(name="strikes", guard=Key(HOLDER), pay_in=legacy)
    assert refused.value.field == "pay in"
