"""Two parties that answer by themselves, a service between them that only carries messages, and several options."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from btcfi.adapters.keystore import LEAST_N, create_keystore
from btcfi.adapters.party.owner import Owner
from btcfi.adapters.party.store import PartyStore
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.buckets import ToleranceRule
from btcfi.contracts.mandate import Bounds
from btcfi.contracts.messages import (
    ContractTerms,
    Order,
    Role,
    encode_attestation,
    encode_order,
)
from btcfi.contracts.payouts import breakpoints_of, condition_of, encode_terms
from btcfi.options.terms import OptionKind, OptionTerms, required_collateral
from btcfi.oracle.announcement import OracleEvent, announce
from btcfi.oracle.attestation import attest
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Hash32, Height, Sats, Slot
from btcfi.vm.program import load_program
from tests.support.chain import Wallet, embedded_node
from tests.support.contracts import ORACLES, MemoryLedger
from tests.support.mandates import mandate, own

pytestmark = pytest.mark.integration
EXPIRY = Slot(60 * 29_000_000)
PRICE = CentsPerBtc(12_500_000)
WAIT_SECONDS = 60
SINCE = Slot(EXPIRY - 3600)


def allowed():
    """What either owner allows: these oracles, and only what an order or a bid says."""
    programs = [load_program("option_settlement").program_hash]
    return mandate(threshold=2, programs=programs, unbidden=False, refund_delay=Bounds(least=5, most=2_016))


class Running:
    """A party's process and its folders."""

    def __init__(self, folder: Path, node, cookie: Path):
        self.folder = folder
        folder.mkdir()
        (folder / "passphrase").write_text(f"passphrase of {folder.name}\n")
        self.keystore = create_keystore(
            folder / "party" / "keystore.json", f"passphrase of {folder.name}", cost=LEAST_N
        )
        own(Owner(PartyStore(folder / "party"), self.keystore), allowed())
        self.node, self.cookie, self.process = node, cookie, None
        for name in ("inbox", "outbox", "orders", "bids"):
            (folder / name).mkdir()

    def start(self):
        command = [
            sys.executable, "-m", "btcfi.surfaces.party_cli", "run",
            "--dir", self.folder / "party", "--node", self.node.where, "--cookie-file", self.cookie,
            "--passphrase-file", self.folder / "passphrase", "--inbox", self.folder / "inbox",
            "--outbox", self.folder / "outbox", "--orders", self.folder / "orders", "--bids", self.folder / "bids",
            "--every", "0.1",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.DEVNULL, stderr=(self.folder / "log").open("ab")
        )

    def put(self, folder, name, message):
        temporary = self.folder / f".{name}"
        temporary.write_text(json.dumps(message))
        temporary.replace(self.folder / folder / f"{name}.json")

    def statuses(self):
        path = self.folder / "outbox" / "status.json"
        return [row["status"] for row in json.loads(path.read_text())["contracts"]] if path.exists() else []


def wait_until(done, what):
    deadline = time.monotonic() + WAIT_SECONDS
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def everybody(parties, folder, messages):
    for number, message in enumerate(messages):
        for party in parties:
            party.put(folder, f"{message.get('type', 'announcement').removeprefix('btcfi/')}-{number}", message)


def carry(seller, buyer):
    """The service: moves each answer into the other side's inbox, and keeps a copy."""
    for source, target, kinds in ((seller, buyer, ("offer", "sign")), (buyer, seller, ("accept",))):
        for kind in kinds:
            for path in (source.folder / "outbox").glob(f"*.{kind}.json"):
                os.link(path, target.folder / "inbox" / path.name)
                path.replace(source.folder / path.name)


@pytest.fixture
def stage(tmp_path):
    with embedded_node(tmp_path / "chain") as (node, _):
        wallet = Wallet(node)
        wallet.fund()
        seller, buyer = (Running(tmp_path / name, node, tmp_path / "chain" / ".cookie") for name in ("seller", "buyer"))
        wallet.coins_for(seller.keystore.wallet_key(0).script, [20_200_000] * 4 + [50_000] * 4)
        wallet.coins_for(buyer.keystore.wallet_key(0).script, [100_000] * 4 + [50_000] * 4)
        try:
            yield wallet, seller, buyer
        finally:
            for party in (seller, buyer):
                if party.process is not None:
                    party.process.terminate()
                    assert party.process.wait(20) == 0
                assert "Traceback" not in (party.folder / "log").read_text()


def order(kind, number, program, announcements, barrier=None, *, height):
    collateral = required_collateral(kind, CentiBtc(10))
    terms = OptionTerms(
        kind=kind, strike=CentsPerBtc(10_000_000 + number), quantity=CentiBtc(10), barrier=barrier, american=False,
        expiry=EXPIRY, premium=Cents(5_000), collateral=collateral,
    )  # fmt: skip
    what = OracleEvent(
        feed="BTC-USD", expiry=EXPIRY, program_hash=program.program_hash, preset_hash=Hash32(bytes(32)),
        condition=condition_of(terms, SINCE),
    )  # fmt: skip
    given = tuple(announce(secret, what) for secret in ORACLES)
    announcements |= {one.digest(): (secret, one) for secret, one in zip(ORACLES, given, strict=True)}
    contract = ContractTerms(
        option=encode_terms(terms), collateral=collateral, premium=Sats(50_000), expiry_height=Height(height + 4),
        refund_height=Height(height + 2_000), rate=SatsPerKvb(2_000), rule=ToleranceRule(tolerance=BasisPoints(1_000)),
        breakpoints=breakpoints_of(terms), announcements=given, threshold=2,
    )  # fmt: skip
    return encode_order(Order(terms=contract, role=Role.SELLER))


def test_four_options_with_two_of_three_oracles_are_set_up_and_settled_though_a_party_is_killed(stage):
    wallet, seller, buyer = stage
    program, announcements = load_program("option_settlement"), {}
    height = wallet.node.block_count()
    kinds = [
        (OptionKind.CALL, None), (OptionKind.PUT, None),
        (OptionKind.BINARY_CALL, None), (OptionKind.CALL, CentsPerBtc(20_000_000)),
    ]  # fmt: skip
    orders = [
        order(kind, number, program, announcements, barrier, height=height)
        for number, (kind, barrier) in enumerate(kinds)
    ]
    everybody((buyer,), "bids", [one | {"role": "buyer"} for one in orders])
    for party in (seller, buyer):
        party.start()
    everybody((seller,), "orders", orders)

    def funded():
        carry(seller, buyer)
        return len(list((buyer.folder / "outbox").glob("*.funded.json"))) == len(orders)

    wait_until(funded, "funding")
    os.kill(buyer.process.pid, signal.SIGKILL)  # everything that it promised is on its disk
    buyer.process.wait()
    while wallet.node.block_count() < height + 8:
        wallet.mine()
    buyer.start()
    ledger = MemoryLedger()
    heard = list(announcements.values())[1:]  # the first oracle is silent on the first event
    attestations = [attest(secret, one, one.event.outcome(PRICE), ledger) for secret, one in heard]
    everybody((seller, buyer), "inbox", [encode_attestation(one) for one in attestations])

    def settled():
        wallet.mine()
        return all(party.statuses() == ["settled"] * len(orders) for party in (seller, buyer))

    wait_until(settled, (seller.statuses(), buyer.statuses()))
    for party in (seller, buyer):
        assert not list((party.folder / "inbox" / "refused").iterdir())
    # each call 0.02 BTC, the put nothing, the binary 0.08, and half of the tolerance off at most
    script = buyer.keystore.wallet_key(0).script
    paid = sorted(
        output.value
        for at in range(height, wallet.node.block_count() + 1)
        for transaction in wallet.node.block(wallet.node.block_hash(Height(at))).transactions
        if transaction.version == 3 and transaction.outputs[-1].value == 240
        for output in transaction.outputs
        if output.script == script
    )
    assert paid == pytest.approx([2_000_000, 2_000_000, 8_000_000], rel=0.05)


def test_an_offer_that_is_not_a_bid_is_refused_and_an_order_or_a_bid_serves_once(stage):
    wallet, seller, buyer = stage
    program = load_program("option_settlement")
    wanted = order(OptionKind.CALL, 0, program, {}, height=wallet.node.block_count())
    dearer = wanted | {"premium_sats": 60_000}
    everybody((buyer,), "bids", [wanted | {"role": "buyer"}])
    everybody((seller,), "orders", [wanted, dearer, wanted])
    for party in (seller, buyer):
        party.start()
    buyer.put("inbox", "nonsense", {"type": "btcfi/love-letter"})
    buyer.put("inbox", "order", wanted)  # an order is the owner's to give, not the other side's
    refused = buyer.folder / "inbox" / "refused"

    def all_answered():
        carry(seller, buyer)
        return len(list(refused.glob("*.reason"))) == 4

    wait_until(all_answered, "refusals")
    wait_until(lambda: carry(seller, buyer) or list((seller.folder / "inbox" / "done").glob("*.json")), "one accept")
    assert "bid" in (refused / "order-1.offer.reason").read_text()
    # the same order file again, as after a crash: the same offer
    first = json.loads((seller.folder / "order-0.offer.json").read_text())
    os.link(seller.folder / "orders" / "done" / "order-0.json", seller.folder / "orders" / "order-0.json")
    again = seller.folder / "outbox" / "order-0.offer.json"
    wait_until(again.exists, "the offer again")
    assert json.loads(again.read_text()) == first
