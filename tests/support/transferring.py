"""A transfer between three accounts at a desk, for tests: each answers by its own word, in letters of JSON."""

import json
from dataclasses import dataclass, field, replace

from btcfi import secp256k1
from btcfi.contracts import reopen
from btcfi.contracts.payouts import decode_terms
from btcfi.contracts.reopen import Leaving, Reopening
from btcfi.contracts.reopen import reopen as reopened_of
from btcfi.contracts.splice import Owner
from btcfi.market import transfer_letters
from btcfi.market.account import Registration, sign_registration
from btcfi.market.instrument import instrument_of
from btcfi.market.transfer import (
    TransferConsent,
    TransferOffer,
    TransferPart,
    TransferTake,
    check_part,
    decode_part,
    encode_part,
    sign_consent,
    sign_offer,
    sign_take,
    terms_hash,
)
from btcfi.market.transferring import Ready, Round, Transfer, holder_word, newcomer_word, seller_word
from tests.support.contracts import BUYER, BUYER_SECRET, POLICY, SELLER_SECRET
from tests.support.reopening import (
    NEWCOMER,
    NEWCOMER_SECRET,
    NOW,
    OLD_KEYS,
    PRICE,
    SELLER_NEXT,
    UNTIL,
    WALLETS,
    Reopens,
    half,
)

DESK = secp256k1.public_key_xonly(b"\x0d" * 32)
SECRETS = {owner: bytes([0x31 + n]) * 32 for n, owner in enumerate(Owner)}
"""Of identities; each one's request key has the byte after it."""
REQUESTS = {owner: bytes([0x41 + n]) * 32 for n, owner in enumerate(Owner)}
NEW_SECRETS = {Owner.SELLER: SELLER_NEXT, Owner.NEWCOMER: NEWCOMER_SECRET}
OLD_SECRETS = {Owner.SELLER: SELLER_SECRET, Owner.HOLDER: BUYER_SECRET}


def identity(owner):
    return secp256k1.public_key_xonly(SECRETS[owner])


def registered(owner, desk=DESK):
    return sign_registration(
        Registration(
            name=f"the-{owner.value}", identity=identity(owner),
            request_key=secp256k1.public_key_xonly(REQUESTS[owner]), box_key=bytes([9]) * 32, desk=desk, number=1,
            at=NOW,
        ),
        SECRETS[owner],
    )  # fmt: skip


def through_json(value):
    return json.loads(json.dumps(value))


@dataclass
class ThreeParties:
    """The signed part of a transfer, and what each of the three has: its own records, halves and secrets."""

    scene: Reopens = field(default_factory=Reopens)
    price: int = PRICE
    consent: dict = field(default_factory=dict)
    offer: dict = field(default_factory=dict)
    take: dict = field(default_factory=dict)

    def __post_init__(self):
        scene = self.scene
        self.halves = {
            Owner.SELLER: scene.seller,
            Owner.HOLDER: Leaving(script=BUYER.script, coins=tuple(scene.holder_coins)),
            Owner.NEWCOMER: half(NEWCOMER, NEWCOMER_SECRET, scene.newcomer_coins),
        }
        self.terms = replace(scene.held.terms, rate=scene.rate)
        option = decode_terms(self.terms.option)
        consent = {"seller": identity(Owner.SELLER), "desk": DESK, "contract_id": scene.old.id, "valid_until": UNTIL,
                   "number": 1}  # fmt: skip
        consent = TransferConsent(**(consent | self.consent))
        offer = {
            "holder": identity(Owner.HOLDER), "desk": DESK, "contract_id": scene.old.id,
            "terms_hash": terms_hash(self.terms), "instrument": instrument_of(option), "quantity": option.quantity,
            "price": self.price, "rate": scene.rate, "valid_until": UNTIL, "number": 1,
        }  # fmt: skip
        offer = TransferOffer(**(offer | self.offer))
        take = {"newcomer": identity(Owner.NEWCOMER), "offer_id": offer.id, "price": self.price, "valid_until": UNTIL,
                "number": 1}  # fmt: skip
        take = TransferTake(**(take | self.take))
        self.part = TransferPart(
            consent=sign_consent(consent, REQUESTS[Owner.SELLER]), offer=sign_offer(offer, REQUESTS[Owner.HOLDER]),
            take=sign_take(take, REQUESTS[Owner.NEWCOMER]), **{one.value: registered(one) for one in Owner},
        )  # fmt: skip

    def deal(self):
        return check_part(decode_part(through_json(encode_part(self.part))), desk=DESK)

    def desk(self):
        """What the desk starts with."""
        return Transfer(deal=self.deal(), held=self.scene.held, **OLD_KEYS)

    def compute(self, statement):
        return reopened_of(statement, self.scene.payouts, event=self.scene.event, policy=POLICY)

    # ---- what each says when it is asked

    def word_of(self, owner, statement):
        wallet = frozenset(WALLETS[owner])
        deal = self.deal()
        if owner is Owner.SELLER:
            return seller_word(self.scene.held, deal, self.halves[owner], wallet=wallet)
        if owner is Owner.HOLDER:
            return holder_word(self.scene.held, self.part.offer.offer, self.halves[owner], wallet=wallet)
        return newcomer_word(
            self.part.offer.offer, statement.terms, statement.leaving, self.halves[owner], until=deal.until,
            wallet=wallet,
        )  # fmt: skip

    def answer(self, owner, said, desk):
        """One owner's honest word, from what the desk sends it and its own records alone."""
        if said is Round.HALF:
            return self.halves[owner]
        statement = transfer_letters.decode_statement(
            through_json(transfer_letters.encode_statement(desk.statement())), self.deal()
        )
        reopened = self.compute(statement)
        word, moment, right = self.word_of(owner, statement), self.scene.moment(reopened), self.scene.right()
        asked = {"authority": right, "moment": moment}
        if said is Round.PRESIGNED:
            return reopen.presign_new(reopened, word, NEW_SECRETS[owner], **asked)
        secured = None
        if owner is not Owner.HOLDER:
            other = Owner.NEWCOMER if owner is Owner.SELLER else Owner.SELLER
            secured = reopen.secure(reopened, owner, desk.said[Round.PRESIGNED, other])
        path = None
        if owner is not Owner.NEWCOMER:
            path = Reopening(reopened, self.scene.held, **OLD_KEYS)
        nonce = path and path.nonce(OLD_SECRETS[owner], bytes([7 if owner is Owner.SELLER else 8]) * 32)
        if said is Round.READY:
            witnesses = reopen.sign_coins(reopened, word, WALLETS[owner], secured=secured, **asked)
            return Ready(witnesses=witnesses, nonce=nonce.public if nonce else None)
        return path.sign(word, OLD_SECRETS[owner], nonce, desk.nonces(), secured=secured, **asked)

    def step(self, desk, owner, said, word=None):
        """One word as it travels."""
        word = self.answer(owner, said, desk) if word is None else word
        wire = transfer_letters.encode_word(desk.deal.take_id, said, word)
        heard = transfer_letters.decode_word(said, through_json(wire))
        assert heard.take_id == desk.deal.take_id
        desk = desk.hear(owner, said, heard.word)
        if said is Round.HALF and desk.owed()[0] is not Round.HALF:
            desk = desk.agree(self.compute)
        return desk

    def until(self, said, desk=None):
        """The desk once everything before a round is said."""
        desk = desk or self.desk()
        while (owed := desk.owed()) is not None and owed[0] is not said:
            for owner in sorted(owed[1], key=lambda one: one.value):
                desk = self.step(desk, owner, owed[0])
        return desk

    def run(self):
        return self.until(None)
