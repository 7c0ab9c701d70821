"""Two parties on two folders and what carries their messages: a disputed contract as it is played, step by step."""

import base64
import json
from copy import copy

from btcfi.adapters.keystore import LEAST_N, create_keystore
from btcfi.adapters.party.dispute_desk import DisputeDesk
from btcfi.adapters.party.dispute_files import DisputeFiles
from btcfi.adapters.party.dispute_sending import Due
from btcfi.adapters.party.store import PartyStore
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import Transaction
from btcfi.contracts.mandate import DISPUTE_KINDS, Authority, Bounds, DisputeRule, Situation, sign_mandate
from btcfi.contracts.messages import Role
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled import presign
from btcfi.disputes.garbled.deal import Draft, Kind, OwnSecrets, Payoff
from btcfi.disputes.stages import Stage
from btcfi.units import Height, Sats, UnixSeconds
from tests.support.disputing import RANGES, Dispute, secret
from tests.support.mandates import IDENTITY, IDENTITY_SECRET, mandate
from tests.support.secret_files import shared_secrets

NOW = 1_790_000_000
BLOCKS = 3

SIDES = {"p": "claimant", "v": "verifier"}


def wide_rule(**changes):
    """A mandate's rule that allows any disputed contract, with changes."""
    anything = Bounds(least=0, most=1 << 40)
    given = {
        "roles": tuple(Role), "kinds": DISPUTE_KINDS, "proposers": (), "collateral": anything,
        "worst_loss": Sats(1 << 40), "premium": Bounds(least=-(1 << 40), most=1 << 40), "bond": anything,
        "challenge_bond": anything, "fee": anything, "events": 64, "dispute_blocks": anything,
        "claim_delay": Bounds(least=-(1 << 40), most=1 << 40), "refund_delay": anything,
    }  # fmt: skip
    return DisputeRule(**given | changes)


def mandated(dispute, **changes):
    """A mandate that allows the disputed contracts of these oracles, with changes of it."""
    given = {"disputes": wide_rule(), "expiry_slack": Bounds(least=-(1 << 20), most=1 << 20)}
    return mandate(oracles=dispute.secrets, threshold=dispute.threshold, **given | changes)


def authority_of(given, node, files):
    """The right to sign under a mandate, as a desk asks for it."""
    signed = sign_mandate(given, IDENTITY_SECRET)

    def ask(besides=""):
        chain = node.chain_info()
        situation = Situation(
            network=chain.chain, height=chain.height, time=chain.median_time,
            exposure=files().exposure(besides=besides), clock=UnixSeconds(NOW),
        )  # fmt: skip
        return Authority(signed=signed, identity=IDENTITY, situation=situation)

    return ask


def draft_at(here, oracles, payoff, *, lazy=False, **changed):
    """What is proposed at a height: collateral of 0.16 BTC, ten blocks to claim, ten more to the refund."""
    given = {
        "payoff": payoff, "events": oracles.announcements, "threshold": oracles.threshold,
        "collateral": Sats(16_000_000), "bond": Sats(2_000_000), "challenge_bond": Sats(50_000 if lazy else 0),
        "claim_height": Height(here + 2 if lazy else 0), "silence_height": Height(here + 10),
        "refund_height": Height(here + 20), "dispute_blocks": BLOCKS, "fee": Sats(400), "premium": 300_000,
        "rate": SatsPerKvb(2_000), "valid_until": UnixSeconds(NOW + 3_600),
    }  # fmt: skip
    return Draft(**given | changed)


class Table:
    """Two folders, opened anew at every step, and a mailbox of JSON texts."""

    def __init__(self, wallet, folder, *, lazy=False, minutes=1, payoff=None, oracles=3, **changed):
        """payoff: by default a mean of so many minutes, or a price. changed: of every draft."""
        self.wallet, self.folder, self.lazy, self.changed = wallet, folder, lazy, changed
        self.payoff = payoff or Payoff(kind=Kind.MEAN if minutes > 1 else Kind.PRICE, ranges=RANGES)
        self.oracles = Dispute(
            self.payoff.claim(minutes), claim_height=1 if lazy else 0, oracles=oracles, threshold=min(2, oracles)
        )  # fmt: skip
        self.mandate = mandated(self.oracles)
        self.keys, self.fees = {}, None
        self.identity, self.now = secret("identity", str(folder)), NOW
        for name in ("p", "v"):
            store = PartyStore(self.home(name))
            store.folder.mkdir(parents=True, mode=0o700)
            self.keys[name] = create_keystore(store.keystore_path, "a long passphrase", cost=LEAST_N)
            script = self.desk(name).room.wallet.script
            wallet.coins_for(script, [30_000_000, 2_000_000, 2_000_000, 2_000_000])

    def copied(self, wallet, folder):
        """The same two parties on copies of their folders, and a chain that is a copy of theirs."""
        other = copy(self)
        other.wallet, other.folder = wallet, folder
        return other

    def home(self, name):
        return self.folder / name

    def desk(self, name, at=None, machine=""):
        """A party's desk on its folder, as after a restart; ``at``: on a copy of it, on another machine."""
        store = PartyStore(at or self.home(name))
        keystore = self.keys[name[0]]
        runtime = self.folder / f"run-{name[0]}{machine}"
        runtime.mkdir(mode=0o700, exist_ok=True)
        desk = DisputeDesk(
            store, keystore, self.wallet.node, wallet=PartyWallet(store, keystore, self.wallet.node), fees=self.fees,
            authority=authority_of(self.mandate, self.wallet.node, lambda: desk.files), clock=lambda: self.now,
            runtime=runtime,
        )  # fmt: skip
        return desk

    def draft(self, **changed):
        here, given = self.wallet.node.block_count(), {"payoff": self.payoff} | self.changed | changed
        return draft_at(here, self.oracles, lazy=self.lazy, **given)

    def steps(self, **changed):
        """Every message in its order, each by a desk that was opened for it."""
        message = self.desk("p").propose(self.draft(**changed), identity_secret=self.identity)
        yield "v", message
        message = self.desk("v").accept(mailed(message), self.oracles.announcements)
        for name in ("p", "v", "p", "v", "p", "v"):
            yield name, message
            message = self.desk(name).sign(mailed(message), identity_secret=self.identity if name == "p" else None)
            if isinstance(message, Transaction):
                yield "", message

    def opened(self, **changed):
        """Play all messages and mine the opening; returns the contract's name."""
        *_, (_, opening) = self.steps(**changed)
        self.wallet.mine()
        assert self.wallet.confirmations(opening.txid) == 1
        return self.desk("p").files.names()[-1]

    def attest(self, name, outcomes, oracles=None):
        """Give a party what these oracles attest."""
        desk = self.desk(name)
        for event in self.oracles.attestations(outcomes, oracles):
            for one in event.values():
                assert desk.keep(one)

    def look(self, name):
        (report,) = self.desk(name).watch()
        assert report.problem == ""
        return report

    def shared(self):
        """What is wrong with whose secrets lie where; nothing is right."""
        return shared_between(
            {role: self.home(one) for one, role in SIDES.items()}, {role: self.keys[one] for one, role in SIDES.items()}
        )

    def mined(self, blocks=1):
        self.wallet.mine(blocks)


def mailed(message):
    return json.loads(json.dumps(message))


def lied(table, name, number):
    """The claimant claims another range, with all of its folder's secrets; a block holds it."""
    claim = lie(table.desk("p"), name, number)
    table.mined()
    return claim


def lie(desk, name, number):
    """Claim another range by a claimant's desk."""
    room = desk.room
    made = room.deal(name)
    _, graph = room.graph(name, made)
    claim = presign.build_claim(
        graph, room.claims(name, graph), room.garbler(name, made), number=number, attested=room.attested(graph),
        claim=room.own(name)["claim"], silent=room.position(name, graph).stage is Stage.SILENT,
    )  # fmt: skip
    due = Due(what="claim", transaction=claim, fee=graph.terms.fee, stake=claim.outputs[-2].value, until=None)
    assert desk.sender.pay(name, due)
    return claim


def shared_between(folders, keystores):
    """What is wrong, in words, with whose secrets lie where: none of a role is in a file of the other, in any form.

    folders, keystores: of each role, by its name.
    """
    known = {}
    for role, folder in folders.items():
        files = DisputeFiles(folder)
        for name in files.names():
            seed = files.seed(name, files.side_of(name), keystores[role])
            own = OwnSecrets(seed, wire.decode_proposal(files.find(name, "proposal")).draft.sets)
            uses = ("open", "claim", "both", "payout", "overdue", "bond", "escrow")
            secrets = {"seed": seed, "garbler": own.drawn("garbler"), **{use: own[use] for use in uses}}
            secrets |= {f"digits {at}": one for at, one in enumerate(own.digits)}
            known |= {f"{role}'s {what} of {name[:8]}": (role, one) for what, one in secrets.items()}
        known[f"{role}'s wallet"] = role, keystores[role].wallet_key(0).secret
    return [*shared_secrets(folders, known), *_in_messages(folders, known)]


def _in_messages(folders, known):
    """The same of what messages carry as base64."""
    for role, folder in folders.items():
        for path in (folder / "disputes" / "contracts").glob("*/*"):
            if not path.read_bytes().startswith(b"{"):
                continue
            said = json.loads(path.read_bytes())
            parts = [base64.b64decode(said[part]) for part in ("data", "more") if isinstance(said.get(part), str)]
            for what, (owner, one) in known.items():
                if owner != role and any(one in part for part in parts):
                    yield f"{what} stands in {role}'s {path.name}"
