"""One interleaving of the model: two parties, a service, an oracle and a chain, driven by a seed to the end of time.

The parties are the product's own (``model_party``). Everything around them is hostile: the service drops, repeats,
reorders, replaces and changes messages; one side may be ``hostile.Mallory``; the oracle may be silent, late, forged or
of two minds; blocks are undone; processes are killed between any two of their effects. Then time runs out, and the
wallets are counted on the chain. What an honest side must have is computed here, from the terms that its owner wrote
down, the outcomes that enough oracles attested, and the closes that both owners ordered; nothing is asked of the desk.
"""

import json
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace

from btcfi.bitcoin.fees import DUST_P2TR, SatsPerKvb
from btcfi.contracts.buckets import ToleranceRule, bucket_of
from btcfi.contracts.mandate import Authority, Bounds, CloseRule, Situation, sign_mandate
from btcfi.contracts.mandate_drafts import FEED, simulation_mandate
from btcfi.contracts.messages import CET_FEE, CloseOrder, ContractTerms, Order, Role, encode_proposal
from btcfi.contracts.payouts import breakpoints_of, decode_terms, encode_terms, price_input
from btcfi.errors import BtcfiError
from btcfi.hashes import sha256
from btcfi.options.terms import OptionKind, OptionTerms
from btcfi.oracle.announcement import OracleEvent, announce
from btcfi.oracle.attestation import attest
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Hash32, Height, Sats, Slot, UnixSeconds
from tests.support.contracts import MemoryLedger
from tests.support.hostile import Mallory, forged, junk, mutated, other_terms
from tests.support.little_chain import FIRST_SECOND
from tests.support.model_party import REFUND_DELAY, ModelParty, guest
from tests.support.secret_files import shared_secrets

LIFE = 12
"""Blocks from the first offer to the expiry."""
IN_TIME = 12
"""Blocks before the refund height until which an attestation counts as having come in time: six of a fork, and six."""
DEEPEST_FORK = 6
CARRIED = ("offer", "accept", "sign", "close-request", "close-answer")
"""Messages to the other side; the rest of an outbox is for the service."""
SETTLING_FEE = 30_000
"""Sats that settling, refunding or closing one contract may cost a side: the whole coin that pays, and the rest."""
CLOSING_FEE = 5_000
"""What a close may pay by the mandate: the buyer bears it where nothing is left to the seller."""
TAKING_BACK_FEE = 5_000
"""What a cancelled offer may cost."""
PREMIUM = 400_000


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A contract to play with."""

    kind: OptionKind
    strike: int
    digits: int
    tolerance: int
    quantity: int = 10
    oracles: int = 1
    threshold: int = 1


SMALL = (
    Kind(kind=OptionKind.CALL, strike=3_000, digits=6, tolerance=8_000),
    Kind(kind=OptionKind.BINARY_CALL, strike=1_500, digits=5, tolerance=8_000),
    Kind(kind=OptionKind.BINARY_PUT, strike=1_500, digits=5, tolerance=8_000, quantity=5),
    Kind(kind=OptionKind.PUT, strike=800, digits=4, tolerance=8_000),
)
"""At most a dozen buckets and one set of oracles each."""
STANDARD = (Kind(kind=OptionKind.CALL, strike=6_000_000, digits=18, tolerance=200, oracles=3, threshold=2),)
"""The contract section of settings/presets/options/standard.toml; a test compares."""


class Oracle:
    """All oracles of one event: what they announced, what will be true, and what they have said so far."""

    def __init__(self, rng, kind, expiry, seed):
        self.kind = kind
        self.event = OracleEvent(
            feed=FEED, expiry=expiry, program_hash=guest().program.program_hash, preset_hash=Hash32(bytes(32)),
            digits=kind.digits,
        )  # fmt: skip
        self.secrets = [sha256(f"{seed}/oracle/{n}".encode()) for n in range(kind.oracles)]
        self.announcements = tuple(announce(secret, self.event) for secret in self.secrets)
        self.truth, self.lie = rng.sample(range(1 << kind.digits), 2)
        modes = ["honest"] * 5 + ["silent", "late"]
        modes += ["two_faced"] if kind.oracles == 1 else ["one_lies", "one_silent", "one_two_faced"]
        self.mode = rng.choice(modes)
        self.statements = []
        """Attestations that exist in the world."""
        honest = kind.oracles - self.mode.startswith("one_")
        self.speaks = self.mode not in ("silent", "late", "two_faced") and honest >= kind.threshold

    def plan(self):
        """The (oracle, outcome) pairs that will be said, in time."""
        every = [(n, self.truth) for n in range(self.kind.oracles)]
        return {
            "silent": [], "late": [], "honest": every, "two_faced": [*every, (0, self.lie)],
            "one_lies": [(0, self.lie), *every[1:]], "one_silent": every[1:],
            "one_two_faced": [(0, self.lie), *every],
        }[self.mode]  # fmt: skip

    def say(self, which, outcome):
        """Let one oracle attest: a two-faced one has a second ledger."""
        said = attest(self.secrets[which], self.announcements[which], outcome, MemoryLedger())
        if said not in self.statements:
            self.statements.append(said)
        return said

    def outcomes(self):
        """The outcomes that enough oracles have attested: what the parties have agreed to be settled by."""
        voters = {}
        for said in self.statements:
            voters.setdefault(said.outcome, set()).add(said.oracle_key)
        return {outcome for outcome, keys in voters.items() if len(keys) >= self.kind.threshold}

    def allows(self, bucket, plan):
        """Whether some outcome that may be settled lies in a bucket, or pays the same as it does."""
        digits = self.event.signed_digits
        agreed = {bucket_of(plan.buckets, outcome, digits) for outcome in self.outcomes()}
        return plan.transaction(bucket).txid in {plan.transaction(one).txid for one in agreed}


@dataclass(frozen=True, kw_only=True)
class Deal:
    """What both owners mean: these terms, once."""

    name: str
    offering: Role
    terms: ContractTerms


@dataclass(kw_only=True)
class Told:
    """What one interleaving says of itself."""

    seed: str
    steps: list = field(default_factory=list)
    events: Counter = field(default_factory=Counter)
    violations: list = field(default_factory=list)


class Interleaving:
    """Runs one seed on a chain; ``told`` is what happened."""

    def __init__(self, chain, folder, seed, kinds=SMALL):
        self.chain, self.seed = chain, seed
        self.rng = random.Random(seed)
        self.told = Told(seed=seed)
        self.violations = self.told.violations
        self.start = chain.height
        self.kind = self.rng.choice(kinds)
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.sides = {role: ModelParty(role.value, role, folder / role.value, chain, seed) for role in Role}
        self.service = folder / "service"
        self.service.mkdir(mode=0o700)
        bad = self.rng.choice([None, Role.BUYER, Role.SELLER, Role.BUYER, Role.SELLER])
        self.honest = [side for role, side in self.sides.items() if role is not bad]
        self.mallory = bad and Mallory(self, self.sides[bad], self.sides[bad.other])
        self.carried, self.said, self.offers, self.rivals, self.close_names = set(), [], {}, [], {}
        self._fill_wallets()
        self.before = {side.role: side.balance() for side in self.honest}
        self._make_deals()

    def _fill_wallets(self):
        buyer, seller = self.sides[Role.BUYER].script, self.sides[Role.SELLER].script
        coins = [(seller, 10_300_000 + n) for n in range(3)] + [(seller, 60_000 + n) for n in range(3)]
        coins += [(buyer, 700_000 + n) for n in range(3)] + [(buyer, 60_000 + n) for n in range(3)]
        self.chain.pay(coins)

    def _make_deals(self):
        expiry = Slot((self.chain.median_time + 600 * LIFE) // 60 * 60)
        self.expiry_height = Height(self.chain.height + LIFE)
        self.refund_height = Height(self.expiry_height + REFUND_DELAY + 1)
        self.oracle = Oracle(self.rng, self.kind, expiry, self.seed)
        self._keep_oracle_secrets()
        self.spot = CentsPerBtc(100 * (1 + self.rng.randrange((1 << self.kind.digits) - 1)))
        self._give_mandates()
        self.deals = [
            Deal(name=f"deal{n}", offering=self.rng.choice(list(Role)), terms=self._terms(expiry, n))
            for n in range(self.rng.choice([1, 1, 1, 2]))
        ]
        for deal in self.deals:
            order = Order(terms=deal.terms, role=deal.offering)
            if self.mandate.unbidden:
                self.put(self.sides[deal.offering], f"{deal.name}.proposal", encode_proposal(order))
            else:
                self.sides[deal.offering].order(deal.name, order)
                self.sides[deal.offering.other].bid(deal.name, Order(terms=deal.terms, role=deal.offering.other))

    def _give_mandates(self):
        """Both owners allow the same; whether they want to be asked for each contract and close, the seed says."""
        unbidden, close = self.rng.choice(
            [(False, CloseRule.AGREED)] * 4 + [(False, CloseRule.GUEST), (False, CloseRule.NEVER)]
            + [(True, CloseRule.GUEST)] * 2 + [(True, CloseRule.AGREED)]
        )  # fmt: skip
        wide = simulation_mandate(
            number=1, now=UnixSeconds(FIRST_SECOND), network="regtest", programs=[self.oracle.event.program_hash],
            oracle_keys=[one.oracle_key for one in self.oracle.announcements], threshold=self.kind.threshold,
        )  # fmt: skip
        anything = replace(wide, close=CloseRule.AGREED, refund_delay=Bounds(least=1, most=65_535))
        self._wide = sign_mandate(anything, self.seed_key)
        self.mandate = replace(
            wide, unbidden=unbidden, close=close, exposure=Sats(25_000_000),
            premium=Bounds(least=PREMIUM - 100_000, most=PREMIUM + 100_000), premium_share=Bounds(least=0, most=600),
            tolerance=Bounds(least=0, most=self.kind.tolerance), funding_rate=Bounds(least=1_000, most=5_000),
            cet_fee=Bounds(least=CET_FEE, most=CET_FEE), life=Bounds(least=0, most=1_200 * LIFE),
            expiry_slack=Bounds(least=-6, most=36), refund_delay=Bounds(least=REFUND_DELAY, most=3 * REFUND_DELAY),
            close_price=Bounds(least=self.spot, most=self.spot), close_rate=Bounds(least=1_000, most=5_000),
            close_fee=Sats(CLOSING_FEE),
        )  # fmt: skip
        for side in self.sides.values():
            side.give_mandate(self.mandate)

    @property
    def seed_key(self):
        """The identity of whoever asks nobody: a hostile side."""
        return sha256(f"{self.seed}/anything goes".encode())

    def anything_goes(self):
        """The right of a hostile side to sign whatever it wants with its own keys."""
        here = Situation(
            network="regtest", height=Height(self.chain.height), time=UnixSeconds(self.chain.median_time),
            exposure=Sats(0),
        )  # fmt: skip
        return Authority(signed=self._wide, identity=self._wide.identity, situation=here)

    def _terms(self, expiry, number):
        option = OptionTerms(
            kind=self.kind.kind, strike=CentsPerBtc(self.kind.strike), quantity=CentiBtc(self.kind.quantity),
            barrier=None, american=False, expiry=expiry, premium=Cents(5_000), collateral=Sats(10_000_000),
        )  # fmt: skip
        return ContractTerms(
            option=encode_terms(option), collateral=option.collateral, premium=Sats(PREMIUM + number),
            expiry_height=self.expiry_height, refund_height=self.refund_height,
            rate=SatsPerKvb(2000), rule=ToleranceRule(tolerance=BasisPoints(self.kind.tolerance)),
            breakpoints=breakpoints_of(option), announcements=self.oracle.announcements,
            threshold=self.kind.threshold,
        )  # fmt: skip

    @staticmethod
    def option_terms(terms):
        return decode_terms(terms.option)

    def _keep_oracle_secrets(self):
        place = self.folder / "oracle"
        place.mkdir(mode=0o700)
        for number, secret in enumerate(self.oracle.secrets):
            path = place / f"key-{number}"
            path.touch(mode=0o600)
            path.write_text(secret.hex())

    # ---- the run

    def run(self):
        """Play it to its end and return what happened."""
        self._play("setting_up", 8 + self.rng.randrange(8), until=self.expiry_height - 4)
        for _ in range(self.rng.choice([0, 3, 3])):  # mostly the service comes to its senses for a while
            self._talk()
        self._play("living", 3 + self.rng.randrange(6), until=self.expiry_height - 1)
        self._to(self.expiry_height)
        self._play("settling", 4 + self.rng.randrange(6), until=self.refund_height - IN_TIME - 2)
        self._end_of_time()
        self._count()
        return self.told

    def _note(self, event, *words):
        self.told.events[event] += 1
        self.told.steps.append(" ".join(map(str, (f"h{self.chain.height - self.start}", event, *words))))

    def _play(self, phase, steps, *, until):
        self.phase = phase
        names, weights = zip(*getattr(self, f"_{phase}")(), strict=True)
        for _ in range(steps):
            if self.chain.height >= until:
                break
            self.rng.choices(names, weights)[0]()

    def _setting_up(self):
        return [
            (self._talk, 8), (self._carry, 3), (self._round, 2), (self._killed_round, 4), (self._drop, 0.5),
            (self._repeat, 2), (self._replace, 1), (self._mutate, 2), (self._misdeliver, 1), (self._junk, 0.5),
            (self._trick, 6), (self._mine, 2), (self._fork, 1), (self._cancel, 0.2), (self._forge, 0.5),
            (self._propose, 0.5),
        ]  # fmt: skip

    def _living(self):
        return [
            (self._talk, 5), (self._carry, 1), (self._round, 1), (self._killed_round, 3), (self._mine, 4),
            (self._fork, 2),
            (self._repeat, 3), (self._mutate, 1), (self._trick, 6), (self._close, 2), (self._restart, 2),
            (self._forge, 1), (self._attest, 3), (self._cancel, 0.3),
        ]  # fmt: skip

    def _settling(self):
        return [
            (self._attest, 6), (self._forge, 3), (self._round, 5), (self._killed_round, 4), (self._mine, 4),
            (self._fork, 2), (self._trick, 4), (self._restart, 1), (self._carry, 1), (self._repeat, 1),
        ]  # fmt: skip

    # ---- the parties' processes

    def _round(self, side=None):
        side = side or self.rng.choice(list(self.sides.values()))
        self._note("round", side.name)
        self._look(side, None)

    def _talk(self):
        """Both look, and the service carries: what an honest one always does."""
        self._carry()
        for side in self.sides.values():
            self._round(side)

    def _killed_round(self):
        side = self.rng.choice(self.honest)
        after = 1 + int(self.rng.expovariate(1 / 12))
        where = self._look(side, after)
        if where is not None:
            self._note("killed", side.name, where, after)

    def _look(self, side, die_after):
        try:
            return side.round(die_after)
        except Exception as e:  # noqa: BLE001 - nothing but a kill may end a party
            if side in self.honest:
                self.violations.append(f"{side.name}'s process ended: {type(e).__name__}: {e}")
            side.open()
            return None

    def _restart(self):
        side = self.rng.choice(self.honest)
        self._note("restarted", side.name)
        side.open()

    def _cancel(self):
        side = self.rng.choice(self.honest)
        names = side.store.names()
        if names:
            name = self.rng.choice(names)
            back = side.try_(lambda: side.desk.cancel(name))
            self._note("cancelled" if not isinstance(back, BtcfiError) else "not_cancelled", side.name)

    def _close(self):
        """Both owners want a close at a payout; one orders it, the other bids."""
        known = [(side, one) for side in self.sides.values() for one in side.contracts() if one.sign is not None]
        if not known:
            return
        side, contract = self.rng.choice(known)
        name = f"close{len(self.close_names)}"
        payout, given = Sats(self.rng.choice([0, 3_000_000, 9_990_000])), b""
        if self.mandate.close is CloseRule.GUEST:
            terms = decode_terms(contract.offer.terms.option)
            payout, given = self._at_the_spot(terms), price_input(terms, self.spot).to_bytes()
        close = CloseOrder(offer_id=contract.offer.id, payout=payout, rate=SatsPerKvb(2000), guest_input=given)
        self.close_names[name] = close
        side.close_order(name, close)
        self.sides[side.role.other].close_bid(name, close)
        self._note("close_ordered", side.name, close.payout)
        for _ in range(self.rng.choice([0, 3, 3])):
            self._talk()

    def _at_the_spot(self, terms):
        return guest().payouts(terms)([self.spot])[0]

    def _propose(self):
        """The service proposes terms of its own: the deals' with one of them changed."""
        deal, side = self.rng.choice(self.deals), self.rng.choice(self.honest)
        proposal = Order(terms=other_terms(self.rng, deal.terms), role=side.role)
        self.put(side, f"proposal{len(self.told.steps)}.proposal", encode_proposal(proposal))
        self._note("proposed", side.name)

    # ---- the service

    def put(self, side, name, message):
        """A message arrives in a party's inbox."""
        place = side.inbox / f"{name}.json"
        with suppress(OSError):
            draft = side.inbox / f".{place.name}"
            draft.write_text(json.dumps(message))
            draft.replace(place)

    def said_by(self, side, kind):
        """The (name, message) pairs of a kind that a party has put into its outbox so far."""
        found = []
        for path in sorted(side.outbox.glob(f"*.{kind}.json")):
            with suppress(ValueError):
                found.append((path.name.split(".")[0], json.loads(path.read_text())))
        return found

    def _waiting(self):
        found = []
        for side in self.sides.values():
            for path in sorted(side.outbox.glob("*.*.json")):
                raw = path.read_bytes()
                key = (side.role, path.name, sha256(raw))
                if path.name.startswith(".") or key in self.carried:
                    continue
                name, kind = path.name.split(".")[:2]
                if kind in CARRIED:
                    found.append((key, name, kind, json.loads(raw)))
        return found

    def _carry(self):
        """It carries what waits, as it should, in whatever order."""
        waiting = self._waiting()
        self.rng.shuffle(waiting)
        for key, name, kind, message in waiting:
            self.carried.add(key)
            self._deliver(key[0].other, name, kind, message)
        if waiting:
            self._note("carried", *(f"{name}.{kind}" for _, name, kind, _ in waiting))

    def _deliver(self, to, name, kind, message):
        self.said.append((to, name, kind, message))
        (self.service / f"{len(self.said)}.json").write_text(json.dumps(message))
        self.put(self.sides[to], f"{name}.{kind}", message)

    def _drop(self):
        waiting = self._waiting()
        if waiting:
            key, name, kind, _ = self.rng.choice(waiting)
            self.carried.add(key)
            self._note("dropped", f"{name}.{kind}")

    def _repeat(self):
        if self.said:
            to, name, kind, message = self.rng.choice(self.rng.choice([self.said, self.said[-3:]]))
            self._deliver(to, name, kind, message)
            self._note("repeated", f"{name}.{kind}")

    def _replace(self):
        """It carries an old message in the place of another."""
        if self.said:
            self._instead("replaced", lambda message: self.rng.choice(self.said)[3])

    def _mutate(self):
        self._instead("mutated", lambda message: mutated(self.rng, message))

    def _misdeliver(self):
        """It gives a message back to whom it is from."""
        self._instead("misdelivered", lambda message: message, back=True)

    def _instead(self, event, other, *, back=False):
        """Deliver something else than what waits: before it, beside it, or never followed by it."""
        waiting = self._waiting()
        if not waiting:
            return
        key, name, kind, message = self.rng.choice(waiting)
        if self.rng.random() < 0.3:
            self.carried.add(key)
        beside = self.rng.choice(["", f".{len(self.told.steps)}"])
        self.put(self.sides[key[0] if back else key[0].other], f"{name}.{kind}{beside}", other(message))
        self._note(event, f"{name}.{kind}")

    def _junk(self):
        side = self.rng.choice(self.honest)
        junk(self.rng, side.inbox)
        self._note("junk", side.name)

    # ---- the counterparty

    def _trick(self):
        if self.mallory is None:
            return
        tricks = self.mallory.tricks(self.phase)
        name = self.rng.choice(list(tricks))
        if tricks[name]():
            self._note(f"trick_{name}")

    # ---- the chain

    def _mine(self):
        least = self.rng.choice([0, 0, 0, 1_000, 3_000])
        chosen = [] if self.rng.random() < 0.15 else self.chain.worth(least)
        self.chain.mine(1, chosen)
        self._note("mined", len(chosen))

    def _fork(self):
        deepest = min(DEEPEST_FORK, self.chain.height - self.start - 1)
        if deepest < 1:
            return
        depth = 1 + self.rng.randrange(deepest)
        held = self.chain.valid_below(depth, self.rivals) if self.rng.random() < 0.7 else []
        self.chain.fork(depth, held)
        self._note("forked", depth, len(held))
        if held:
            self.told.events["rival_in_fork"] += 1

    def _to(self, height):
        """Blocks come until a height, with what waits."""
        if self.chain.height < height:
            self.chain.mine(1)
            self.chain.mine(height - self.chain.height)

    # ---- the oracles

    def _attest(self):
        """One oracle speaks, if it does, and the service lets it through to one side, to both, or to nobody."""
        planned = self.oracle.plan()
        if not planned:
            return
        which, outcome = self.rng.choice(planned)
        said = self.oracle.say(which, outcome)
        for side in self.rng.sample(self.honest, self.rng.randrange(len(self.honest) + 1)):
            side.hear(f"said{self.rng.randrange(1 << 30)}", said)
        self._note("attested", which, "truth" if outcome == self.oracle.truth else "lie")

    def _forge(self):
        which = self.rng.randrange(self.kind.oracles)
        secrets, announced = self.oracle.secrets, self.oracle.announcements
        # what is published is public: whoever forges starts from it, or else from keys of his own
        base = next((one for one in self.oracle.statements if one.oracle_key == announced[which].oracle_key), None)
        own = sha256(b"forger" + secrets[which])
        other = attest(own, announce(own, self.oracle.event), self.oracle.lie, MemoryLedger())
        if base is None:
            base = type(other)(
                oracle_key=announced[which].oracle_key, event=other.event, outcome=other.outcome,
                signatures=tuple(
                    nonce + one[32:] for nonce, one in zip(announced[which].nonces, other.signatures, strict=True)
                ),
            )  # fmt: skip
        side = self.rng.choice(self.honest)
        side.hear(f"forged{self.rng.randrange(1 << 30)}", forged(self.rng, base, other))
        self._note("forged", side.name)

    # ---- the end

    def _end_of_time(self):
        """Hostility goes on without messages; every honest side looks at each height that matters."""
        self._finish_invented()
        if self.oracle.mode not in ("silent", "late"):
            for which, outcome in self.oracle.plan():
                said = self.oracle.say(which, outcome)
                for side in self.honest:
                    if not side.has_heard(said):  # what it has acknowledged does not come again
                        side.hear(f"last{which}-{outcome}", said)
        self._look_and_mine(4)
        if self._settled_everywhere():
            self._look_and_mine(1, 6)
            self._look_and_mine(1)
            return
        self._to(Height(self.refund_height - 1))
        self._look_and_mine(2, 1)
        if self.oracle.mode == "late":
            for which in range(self.kind.oracles):
                said = self.oracle.say(which, self.oracle.truth)
                for side in self.honest:
                    side.hear(f"late{which}", said)
            self.told.events["attested_late"] += 1
        self._look_and_mine(3)
        self._look_and_mine(1, 6)
        self._look_and_mine(1)

    def _finish_invented(self):
        if self.mallory is not None:
            self._all_look()
            if self.mallory.finish_invented():
                self._all_look()
            self.mallory.finish_close()
            if self.oracle.mode in ("silent", "late"):
                self.mallory.early_refund()

    def _all_look(self):
        for side in self.honest:
            self._look(side, None)

    def _look_and_mine(self, times, blocks=1):
        for _ in range(times):
            self._all_look()
            self.chain.mine(blocks)

    def _funded(self, side):
        """The honest side's contracts whose funding is on the chain: (its record, agreement)."""
        found = []
        for contract in side.contracts():
            if contract.accept is None:
                continue
            with suppress(BtcfiError):
                agreement = side.agreements.of(contract)
                if agreement.plan.funding.txid in self.chain.chain.where:
                    found.append((contract, agreement))
        return found

    def _settled_everywhere(self):
        return not any(
            agreement.plan.funding in self.chain.chain.coins
            for side in self.honest
            for _, agreement in self._funded(side)
        )

    # ---- counting

    def _count(self):
        for side in self.honest:
            least = self._least(side)
            had, has = self.before[side.role], side.balance()
            if has < least:
                self.violations.append(f"{side.name} had {had:,}, has {has:,}, must have {least:,} at least")
        shared = shared_secrets({path.name: path for path in self.folder.iterdir()}, self._known_secrets())
        self.violations.extend(shared)

    def _known_secrets(self):
        secrets = {f"{one.name}'s seed": (one.name, one.seed) for one in self.sides.values()}
        for one in self.sides.values():
            secrets[f"{one.name}'s contract key"] = (one.name, one.keystore.contract_secret(0))
            secrets[f"{one.name}'s wallet key"] = (one.name, one.keystore.wallet_key(0).secret)
        for number, secret in enumerate(self.oracle.secrets):
            secrets[f"oracle key {number}"] = ("oracle", secret)
        return secrets

    def _least(self, side):
        """What a side must have now: each of its owner's words at its worst agreed outcome, less its fees."""
        least = self.before[side.role]
        least -= TAKING_BACK_FEE * (self.told.events["cancelled"] + self._taken_home(side))
        unused = [deal.terms for deal in self.deals]
        for contract, agreement in self._funded(side):
            self._note("funded", side.name)
            terms = contract.offer.terms
            if not self.mandate.unbidden and terms not in unused:
                self.violations.append(f"{side.name} is in a contract that its owner never ordered")
                continue
            if not self._inside(terms):
                self.violations.append(f"{side.name} is in a contract outside its mandate")
            unused = [one for one in unused if one != terms]
            least += self._worth(side, contract, agreement) - agreement.funding.fee - SETTLING_FEE
        return least

    def _taken_home(self, side):
        """How many contracts that no block had held a side's own watch has taken home."""
        kept = [one for one in side.store.contracts() if one.cancelled is not None]
        self.told.events["taken home"] += len(kept)
        return len(kept)

    def _inside(self, terms):
        mandate = self.mandate
        return (
            terms.rate in mandate.funding_rate
            and terms.premium in mandate.premium
            and terms.refund_height - terms.expiry_height in mandate.refund_delay
            and terms.rule.tolerance in mandate.tolerances
            and terms.cet_fee in mandate.cet_fee
            and tuple(one.oracle_key for one in terms.announcements) == mandate.oracle_keys
            and terms.threshold == mandate.threshold
        )

    def _worth(self, side, contract, agreement):
        """What a funded contract must have brought this side, fees apart."""
        terms = contract.offer.terms
        premium = terms.premium if side.role is Role.SELLER else -terms.premium
        locked = terms.collateral if side.role is Role.SELLER else 0
        return premium - locked + self._settled(side, agreement.plan, decode_terms(terms.option))

    def _settled(self, side, plan, terms):
        spend = self.chain.spender(plan.funding, self.start)
        cets = {plan.transaction(bucket).txid for bucket in range(len(plan.buckets))}
        closes = {one.payout for one in self.close_names.values()}
        closes |= {self._at_the_spot(terms)} if self.mandate.unbidden else set()
        closes = set() if self.mandate.close is CloseRule.NEVER else closes
        buckets = [self._bucket(plan, outcome) for outcome in self.oracle.outcomes()]
        agreed = [plan.split_of(bucket) for bucket in buckets]
        is_buyer = side.role is Role.BUYER
        in_time = bool(agreed) and self.oracle.mode != "late"
        if spend is None:
            self.told.events["unspent"] += 1
            if not is_buyer or in_time:
                self.violations.append(f"{side.name} sees its contract unsettled at the end")
            return 0
        if spend.txid in cets:
            self.told.events["settled"] += 1
            if spend.txid not in {plan.transaction(bucket).txid for bucket in buckets}:
                self.violations.append("a CET was mined that nobody attested")
        elif len(spend.inputs[0].witness) == 1:
            self.told.events["closed"] += 1
            paid = sum(output.value for output in spend.outputs if output.script == plan.contract.buyer_script)
            if not any(one - CLOSING_FEE <= paid <= one + DUST_P2TR for one in closes):
                self.violations.append(f"a close at {paid:,} was mined that the owners did not order")
            return paid if is_buyer else plan.contract.collateral - paid
        else:
            self.told.events["refunded"] += 1
            if in_time and self.oracle.speaks:
                self.violations.append("the seller was refunded though enough oracles had spoken in time")
            return 0 if is_buyer else plan.contract.collateral
        parts = [one.buyer if is_buyer else one.seller for one in agreed]
        return min(parts, default=0)

    def _bucket(self, plan, outcome):
        return bucket_of(plan.buckets, outcome, self.oracle.event.signed_digits)
