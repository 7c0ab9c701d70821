"""A desk that carries letters in this process, as honest or as hostile as a test has it, and two parties behind it."""

import json
from base64 import b64decode, b64encode
from dataclasses import replace

from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.mail import PartyMail
from btcfi.adapters.party.market_deals import MarketDeals
from btcfi.adapters.party.market_ledger import MARKET_FOLDER, MarketLedger
from btcfi.adapters.party.membership import Membership
from btcfi.adapters.party.postman import Postman
from btcfi.adapters.sealed_letters import box_key, seal, unseal
from btcfi.adapters.signed_http import DeskAwayError
from btcfi.contracts.messages import Order, Role, encode_proposal
from btcfi.contracts.payouts import encode_terms
from btcfi.market.firm_offer import Side, deal_of
from btcfi.market.letter import Letter, check_letter, decode_signed_letter, encode_signed_letter, sign_letter
from btcfi.market.part import WHERE, MarketPart, encode_part
from tests.support.accounts import DESK, DESK_BOX_SECRET, DESK_SECRET, NOW, Trader, trader
from tests.support.contracts import ORACLES
from tests.support.mandates import give_mandate, mandate
from tests.support.two_parties import PROGRAM, TwoParties

INSTRUMENT = "BTC-19FEB25T2120-100000-C-MINUTE"
QUANTITY = 5


class Clock:
    """This machine's clock, as a test sets it."""

    def __init__(self, at=NOW):
        self.at = at

    def __call__(self):
        return float(self.at)


class LetterDesk:
    """Keeps letters until they are acknowledged; opens what is sealed to it."""

    def __init__(self):
        self.away = False
        self.acknowledges = True
        self.waiting = {}
        self.names = set()
        """Who was sent what."""
        self.got = []
        """Every letter that came, opened: sender, name, the signed letter."""
        self._next = 0

    def connection(self, trader):
        return _Connection(self, trader)

    def send(self, to, name, body, *, said=None, secret=DESK_SECRET, recipient=None, about=None):
        """Put a letter into an account's box. The rest: what a liar says otherwise."""
        letter = Letter(
            sender=DESK, recipient=recipient or to.identity, name=name, body=body, said=said
        )  # fmt: skip
        plain = json.dumps(encode_signed_letter(sign_letter(letter, secret))).encode()
        box = box_key(to.keystore.letters_secret())
        self.put(to, name, seal(plain, to=box, about=about or to.identity + name.encode()))

    def put(self, to, name, sealed):
        self._next += 1
        self.names.add((to.name, name))
        self.waiting.setdefault(to.identity, []).append((self._next, name, sealed))

    def letter(self, sender, name):
        """The signed letter of this name that somebody wrote, None before."""
        found = [signed for who, known, signed in self.got if (who, known) == (sender.identity, name)]
        return found[0] if found else None

    def said(self, sender, name):
        """What somebody wrote in a letter of this name, None before."""
        found = self.letter(sender, name)
        return None if found is None else found.letter.body


class _Connection:
    def __init__(self, desk, trader):
        self._desk, self._trader = desk, trader

    def get(self, path, *, patience=0, after, wait, limit):
        if self._desk.away:
            raise DeskAwayError("desk.test", "away")
        rows = [row for row in self._desk.waiting.get(self._trader.identity, []) if row[0] > after][:limit]
        return {
            "letters": [{"id": number, "name": name, "sealed": b64encode(sealed).decode(), "sent_at_unix": NOW}
                        for number, name, sealed in rows],
            "cursor": after,
        }  # fmt: skip

    def post(self, path, body):
        desk, who = self._desk, self._trader
        if desk.away:
            raise DeskAwayError("desk.test", "away")
        if path == "/letters/acknowledge":
            if desk.acknowledges:
                kept = [row for row in desk.waiting.get(who.identity, []) if row[0] not in body["ids"]]
                desk.waiting[who.identity] = kept
            return body
        plain = unseal(b64decode(body["sealed"]), secret=DESK_BOX_SECRET, about=DESK + body["name"].encode())
        signed = decode_signed_letter(json.loads(plain))
        check_letter(signed, sender=who.registered().registration.request_key, recipient=DESK)
        desk.got.append((who.identity, body["name"], signed))
        return {"name": body["name"]}


class Member:
    """One party with everything that its process has, run by hand."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.trader = Trader(name=name, keystore=world.parties.keys[name])
        self.folder = world.parties.folder / name
        self.inbox, self.outbox = self.folder / "mail" / "inbox", self.folder / "mail" / "outbox"
        self.open()

    def open(self):
        """As after a restart."""
        world = self.world
        member = Membership(
            url="http://desk.test", network="regtest", desk_box=box_key(DESK_BOX_SECRET),
            registered=self.trader.registered(),
        )  # fmt: skip
        self.ledger = MarketLedger(self.folder / MARKET_FOLDER, clock=world.clock)
        self.desk = PartyDesk(
            world.parties.store(self.name), self.trader.keystore, world.parties.node, Guest(PROGRAM),
            fees=world.parties.fees, clock=world.clock,
        )  # fmt: skip
        give_mandate(
            self.desk,
            mandate(oracles=ORACLES[:1], programs=[PROGRAM.program_hash], **{"unbidden": False} | world.mandate),
        )
        self.postman = Postman(
            world.desk.connection(self.trader), world.desk.connection(self.trader), member=member,
            keystore=self.trader.keystore, inbox=self.inbox, outbox=self.outbox,
        )  # fmt: skip
        self.mail = PartyMail(
            self.desk, inbox=self.inbox, outbox=self.outbox, deals=MarketDeals(member, self.ledger, clock=world.clock)
        )  # fmt: skip

    def work(self):
        """What one turn of ``party run`` does."""
        self.postman.fetch(0)
        self.mail.round(self.world.parties.node.block_count())
        self.postman.deliver()

    def free(self):
        return sum(coin.value for coin in self.desk.wallet.free())

    def contracts(self):
        return list(self.world.parties.store(self.name).contracts())

    def refused(self, name):
        """Why a message was refused, or what is wrong with a letter; empty where it was not."""
        for end in ("reason", "told"):
            path = self.inbox / "refused" / f"{name}.{end}"
            if path.exists():
                return path.read_text()
        return ""


class LetterWorld:
    """A seller that asks, a buyer that takes, and a desk between them. ``bid``: the other way round."""

    def __init__(self, wallet, folder, *, side=Side.ASK, **mandate):
        self.clock, self.desk, self.mandate = Clock(), LetterDesk(), mandate
        offer = trader("maker").offer(INSTRUMENT, side)
        terms = deal_of(offer.offer, trader("taker").take(offer, QUANTITY).take).terms
        self.parties = TwoParties(
            wallet, folder, option=terms, seller=[6_000_000, 5_600_000, 900_000], buyer=[600_000, 1_500_000, 900_000]
        )
        self.seller, self.buyer = Member(self, "seller"), Member(self, "buyer")
        ask = side is Side.ASK
        self.maker, self.taker = (self.seller, self.buyer) if ask else (self.buyer, self.seller)
        self.side = side

    def post(self, **changes):
        """An offer of the maker, in its ledger."""
        signed = self.maker.trader.offer(INSTRUMENT, self.side, **{"quantity": 2 * QUANTITY} | changes)
        self.maker.ledger.add_offer(signed)
        return signed

    def take(self, offer, quantity=QUANTITY, **changes):
        """A take of it by the taker, in its ledger."""
        signed = self.taker.trader.take(offer, quantity, **changes)
        self.taker.ledger.add_take(signed, offer)
        return signed

    def part(self, offer, take, **changes):
        return MarketPart(
            **{"offer": offer, "take": take, "seller": self.seller.trader.registered(),
               "buyer": self.buyer.trader.registered()} | changes
        )  # fmt: skip

    def order(self, part):
        """What the service proposes of a deal."""
        deal = deal_of(part.offer.offer, part.take.take)
        terms = self.parties.terms(premium=deal.premium)
        terms = replace(terms, option=encode_terms(deal.terms), collateral=deal.terms.collateral)
        return encode_proposal(Order(terms=terms, role=Role.SELLER))

    def propose(self, part, name=None, order=None, **how):
        """The desk's first letter, to the seller."""
        name = name or part.take.take.option_id
        order = self.order(part) if order is None else order
        self.desk.send(self.seller.trader, f"{name}.proposal", order | {WHERE: encode_part(part)}, **how)
        return name

    def carry(self, name, part, kinds=("offer", "accept", "sign")):
        """What an honest desk does with the letters of one deal."""
        for kind in kinds:
            sender, to = (self.buyer, self.seller) if kind == "accept" else (self.seller, self.buyer)
            said = self.desk.letter(sender.trader, f"{name}.{kind}")
            if said is not None and (to.name, f"{name}.{kind}") not in self.desk.names:
                body = {WHERE: encode_part(part)} if kind == "offer" else {}
                self.desk.send(to.trader, f"{name}.{kind}", body, said=said)

    def turn(self, name, part, kinds=("offer", "accept", "sign")):
        for side in (self.seller, self.buyer):
            side.work()
            self.carry(name, part, kinds)

    def deal(self, rounds=3, **changes):
        """One take from the first word to the funding."""
        offer = self.post()
        part = self.part(offer, self.take(offer, **changes))
        name = self.propose(part)
        for _ in range(rounds):
            self.turn(name, part)
        return name, part
