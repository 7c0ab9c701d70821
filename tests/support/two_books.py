"""A holder's and a writer's desk on one chain, and a net book between them.

The guest is its Python twin, which the guest's own tests hold equal to it: no compiler is waited for.
"""

import time
from dataclasses import replace

from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.book_files import BookFiles
from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.store import PartyStore
from btcfi.bitcoin.address import decode_address
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.bitcoin.transaction import OutPoint
from btcfi.contracts.mandate import BookRule, Bounds
from btcfi.contracts.messages import CET_FEE, Role
from btcfi.hashes import sha256
from btcfi.oracle.announcement import announce
from btcfi.oracle.attestation import attest
from btcfi.oracle.foreign import import_announcement, import_attestation
from btcfi.payoffs.book import contract_of
from btcfi.payoffs.book_guest import settle_in_python
from btcfi.payoffs.book_messages import BookTerms
from btcfi.units import MAX_U32, BasisPoints, CentsPerBtc, Hash32, Height, Sats, Slot, UnixSeconds
from btcfi.vm.program import load_program
from tests.support.contracts import ORACLES, MemoryLedger
from tests.support.little_chain import BLOCK_SECONDS
from tests.support.mandates import give_mandate, mandate
from tests.support.net_books import PROGRAM, condors, event_of

NAMES = {Role.BUYER: "holder", Role.SELLER: "writer"}
IDENTITIES = {Role.BUYER: b"\x31" * 32, Role.SELLER: b"\x32" * 32}


class BookGuest(Guest):
    """The book's guest without a machine; its proof is a root that says which input it was."""

    def _another(self, program):
        return BookGuest(program)

    def outputs(self, inputs):
        return [settle_in_python(one).to_bytes() for one in inputs]

    def prove(self, given):
        return settle_in_python(given).to_bytes(), Hash32(bytes(28) + len(given).to_bytes(4))


def book_rule(**changes):
    """A wide rule for books, changed."""
    wide = {
        "roles": (Role.BUYER, Role.SELLER), "programs": (PROGRAM.program_hash,), "proposers": (),
        "collateral": Bounds(least=1, most=1_000_000_000), "worst_loss": Sats(1_000_000_000),
        "premium": Bounds(least=-10_000_000, most=10_000_000), "value_slack": None,
        "floor": Bounds(least=1, most=MAX_U32), "legs": 64, "barrier": True,
    }  # fmt: skip
    return BookRule(**wide | changes)


class TwoBooks:
    """The holder's and the writer's desk; each has what the other says, and nothing else."""

    def __init__(self, wallet, folder, *, book=None, oracles=1, threshold=1, proposer=Role.SELLER, house=None):
        """house: what makes another house's oracle of a minute, which is then the only one."""
        self.wallet, self.node, self.folder = wallet, wallet.node, folder
        self.proposer, self.threshold = proposer, threshold
        now, book = self.node.chain_info().median_time, book or condors(quantity=10)
        self.life, self.wait = 3, 6
        """Blocks to the expiry height, and from there to the refund's."""
        if now < book.expiry:  # a chain whose clock is its own: its blocks come every ten minutes
            book = replace(book, expiry=Slot(now // 60 * 60 + 20 * BLOCK_SECONDS))
            self.life, self.wait = 20, 10
        self.book = book
        self.event = event_of(self.book, since=Slot(self.book.expiry - 86_400))
        self.secrets = ORACLES[:oracles]
        self.announcements = tuple(announce(secret, self.event) for secret in self.secrets)
        self.house = None if house is None else house(maturity=self.book.expiry)
        if self.house is not None:
            theirs = import_announcement(self.house.announcement(), program_hash=PROGRAM.program_hash)
            self.announcements, self.event, self.secrets = (theirs,), theirs.event, [self.house.secret]
        self.contract = contract_of(self.book, self.event)
        self.clock, self.show = time.time, lambda _: None
        self.keys = {role: Keystore(sha256(f"{folder}, {name}".encode())) for role, name in NAMES.items()}
        self.rules = {role: book_rule() for role in NAMES}
        self.desks = {role: self.open(role) for role in NAMES}
        parts = {Role.BUYER: self.contract.holder, Role.SELLER: self.contract.writer}
        for role, desk in self.desks.items():
            wallet.coins_for(decode_address(desk.address()), [parts[role] + 100_000, 150_000])

    def store(self, role):
        folder = self.folder / NAMES[role]
        folder.mkdir(exist_ok=True, parents=True)
        return PartyStore(folder)

    def open(self, role):
        """A desk on a party's folder, as after a restart."""
        guest = BookGuest(load_program("option_settlement"))
        desk = PartyDesk(
            self.store(role), self.keys[role], self.node, guest, fees=FeeRule(), clock=self._now,
            show=self._shown,
        )  # fmt: skip
        if not desk.owner.known:
            self.allow(desk, self.rules[role])
        return desk

    def _now(self):
        return self.clock()

    def _shown(self, summary):
        self.show(summary)

    def allow(self, desk, books, **changes):
        give_mandate(desk, mandate(oracles=self.secrets, threshold=self.threshold, books=books, **changes))

    def restart(self):
        """Both parties begin anew, from what lies on their disks."""
        self.desks = {role: self.open(role) for role in NAMES}

    def store_of(self, role, name):
        """A book as it lies on a side's disk, read anew."""
        return BookFiles(self.store(role)).load(name)

    def books(self, role):
        return self.desks[role].books

    @property
    def ours(self):
        """The side that proposes."""
        return self.books(self.proposer)

    @property
    def theirs(self):
        return self.books(self.proposer.other)

    def terms(self, **changes):
        expiry = self.node.block_count() + self.life
        said = BookTerms(
            book=self.book, announcements=self.announcements, threshold=self.threshold, premium=10_000,
            legs_premium=Sats(1_000_000), tolerance=BasisPoints(10_000), expiry_height=Height(expiry),
            refund_height=Height(expiry + self.wait), rate=SatsPerKvb(2_000), cet_fee=CET_FEE,
            valid_until=UnixSeconds(int(self.clock()) + 3_600),
        )  # fmt: skip
        return replace(said, **changes)

    def propose(self, **changes):
        return self.ours.propose(self.terms(**changes), self.proposer, identity_secret=IDENTITIES[self.proposer])

    def fund(self, **changes):
        """All messages; the funding waits in the pool. Returns the book's name."""
        proposal = self.propose(**changes)
        answer = self.theirs.accept(proposal, self.announcements)
        self.theirs.complete(self.ours.sign(answer))
        return proposal.id.hex()

    def active(self, **changes):
        """A book whose funding is in a block; returns its collateral's outpoint, too."""
        name = self.fund(**changes)
        self.wallet.mine()
        self.watch()
        return name, self.made(name).netted.plan.funding

    def made(self, name, role=Role.BUYER):
        books = self.books(role)
        return books.deal_of(books.files.load(name))

    def watch(self, *attestations):
        """Each desk's own round: by its role, its reports by their names."""
        return {role: {one.name: one for one in desk.watch(attestations)} for role, desk in self.desks.items()}

    def attest(self, price, *, touched=False):
        if self.house is not None:
            return [import_attestation(self.house.attestation(price // 100), self.announcements[0])]
        outcome = self.event.outcome(CentsPerBtc(price), condition=touched)
        pairs = zip(ORACLES, self.announcements, strict=False)
        return [attest(secret, announced, outcome, MemoryLedger()) for secret, announced in pairs]

    def pass_until(self, height):
        """Blocks that take nothing of what waits."""
        for _ in range(height - self.node.block_count()):
            self.node.generate_block(self.wallet.address, [])

    def spender(self, outpoint):
        """What a block holds, or the pool, that spends an outpoint of a book."""
        (txid,) = self.node.pool_spenders([outpoint])
        return None if txid is None else self.node.transaction(txid).transaction

    def spent(self, name, role=Role.BUYER):
        """What a block holds that spends the collateral, as a side's watch has found it."""
        kept = self.books(role).files.load(name)
        found = kept.watch.spend_of(self.made(name, role).netted.plan.funding)
        return None if found is None else found.transaction


def outpoint_of(transaction, index):
    return OutPoint(txid=transaction.txid, index=index)
