"""Two parties with keys of their own in one process, a node, an oracle: contracts to settle, to refund, to cancel."""

from btcfi.adapters.keystore import LEAST_N, create_keystore
from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.store import PartyStore
from btcfi.bitcoin.address import decode_address
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.bitcoin.transaction import OutPoint
from btcfi.contracts.buckets import ToleranceRule
from btcfi.contracts.messages import ContractTerms, Role
from btcfi.contracts.payouts import breakpoints_of, condition_of, encode_terms
from btcfi.contracts.settle import complete_cet
from btcfi.options.terms import OptionKind, OptionTerms
from btcfi.oracle.announcement import OracleEvent, announce
from btcfi.oracle.attestation import attest
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Hash32, Height, Sats, Slot
from btcfi.vm.program import load_program
from tests.support.contracts import COARSE, ORACLES, MemoryLedger
from tests.support.mandates import give_mandate, mandate

EXPIRY = Slot(60 * 29_000_000)
PROGRAM = load_program("option_settlement")
OPTION = OptionTerms(
    kind=OptionKind.CALL, strike=CentsPerBtc(10_000_000), quantity=CentiBtc(10), barrier=None, american=False,
    expiry=EXPIRY, premium=Cents(5_000), collateral=Sats(10_000_000),
)  # fmt: skip
IN_THE_MONEY = CentsPerBtc(12_500_000)
"""The buyer gets 2,000,000 sats of 10,000,000."""
OUT_OF_THE_MONEY = CentsPerBtc(9_000_000)
BUYER_COINS, SELLER_COINS = [60_000, 1_500_000, 900_000], [10_200_000, 1_500_000, 900_000]


class TwoParties:
    """A buyer's and a seller's desk on one chain, with an event that one oracle announced."""

    def __init__(self, wallet, folder, *, buyer=BUYER_COINS, seller=SELLER_COINS, fees=None, option=OPTION):
        self.wallet, self.node, self.folder, self.fees = wallet, wallet.node, folder, fees or FeeRule()
        self.option = option
        self.event = OracleEvent(
            feed="BTC-USD", expiry=option.expiry, program_hash=PROGRAM.program_hash, preset_hash=Hash32(b"\x02" * 32),
            condition=condition_of(option, Slot(option.expiry - 3600)), fixing=option.window,
            version=1 if option.fixing is None else 2,
        )  # fmt: skip
        self.announcement = announce(ORACLES[0], self.event)
        self.keys = {
            name: create_keystore(self.store(name).keystore_path, "a long passphrase", cost=LEAST_N)
            for name in ("buyer", "seller")
        }
        self.stranger = wallet.coins_for(wallet.key.script, [500_000, 500_000])
        """Coins that are nobody's in the contract; made now, since to make one mines a block."""
        self.buyer, self.seller = self.open("buyer"), self.open("seller")
        for desk, amounts in ((self.buyer, buyer), (self.seller, seller)):
            wallet.coins_for(decode_address(desk.address()), amounts)

    def store(self, name):
        folder = self.folder / name
        folder.mkdir(exist_ok=True, parents=True)
        return PartyStore(folder)

    def open(self, name):
        """A desk on a party's folder, as after a restart."""
        desk = PartyDesk(self.store(name), self.keys[name], self.node, Guest(PROGRAM), fees=self.fees)
        give_mandate(desk, mandate(oracles=ORACLES[:1], programs=[PROGRAM.program_hash]))
        return desk

    def terms(self, *, expiry_in=3, refund_in=9, rate=2_000, premium=30_000):
        here = self.node.block_count()
        return ContractTerms(
            option=encode_terms(self.option), collateral=self.option.collateral, premium=Sats(premium),
            expiry_height=Height(here + expiry_in), refund_height=Height(here + refund_in), rate=SatsPerKvb(rate),
            rule=ToleranceRule(tolerance=BasisPoints(COARSE)), breakpoints=breakpoints_of(self.option),
            announcements=(self.announcement,), threshold=1,
        )  # fmt: skip

    def offer(self, **terms):
        """The seller's offer; returns its contract's name, too."""
        made = self.seller.offer(self.terms(**terms), Role.SELLER)
        return made.id.hex(), made

    def fund(self, **terms):
        """All messages; the funding waits in the pool. Returns the contract's name and the funding."""
        name, offer = self.offer(**terms)
        accepted = self.buyer.accept(offer, [self.announcement])
        return name, self.buyer.complete(self.seller.sign(accepted))

    def active(self, **terms):
        """A contract whose funding is in a block; returns the collateral's outpoint, too."""
        name, funding = self.fund(**terms)
        self.wallet.mine()
        return name, OutPoint(txid=funding.txid, index=0)

    def cet(self, name, price=IN_THE_MONEY):
        """The attested CET, as everybody can make it who has the messages."""
        contract = self.store("buyer").load(name)
        plan = self.buyer._agreements.of(contract).plan
        return complete_cet(
            plan, buyer=contract.accept.presignatures, seller=contract.sign.presignatures,
            attestations=[self.attestation(price)],
        )  # fmt: skip

    def lose(self, desk, coins):
        """Spend coins of a desk's wallet in a block, to somebody else."""
        keys, spent = desk.wallet.by_script, [coin.output for coin in coins]
        made = self.wallet.spend(coins, fee=5_000)
        for index, output in enumerate(spent):
            made = made.with_witness(index, [keys[output.script].sign_input(made, index, spent)])
        self.node.generate_block(self.wallet.address, [made])

    def attestation(self, price=IN_THE_MONEY):
        return attest(ORACLES[0], self.announcement, self.event.outcome(price), MemoryLedger())

    def pass_by(self, blocks=1):
        """Blocks that take nothing of what waits: fees that miners do not care for."""
        for _ in range(blocks):
            self.node.generate_block(self.wallet.address, [])

    def pass_until(self, height):
        self.pass_by(height - self.node.block_count())

    def spender(self, outpoint):
        """What waits in the pool to spend an outpoint, or None."""
        (txid,) = self.node.pool_spenders([outpoint])
        return None if txid is None else self.node.transaction(txid).transaction

    def fee(self, transaction):
        return self.node.pool_entry(transaction.txid).fee
