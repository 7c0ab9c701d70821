"""What a hostile service and counterparty do to a party: messages changed, contracts invented, coins raced."""

import copy
import os
from dataclasses import replace

from btcfi.adapters.chain.node import NodeAnswerError, TxRejectedError
from btcfi.bitcoin import adaptor
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.transaction import SEQUENCE_RBF, TRUC_VERSION, Transaction, TxIn, TxOut
from btcfi.contracts import leaves, setup
from btcfi.contracts.buckets import ToleranceRule
from btcfi.contracts.cooperative import Closing, build_close
from btcfi.contracts.execution import CET_PATH
from btcfi.contracts.messages import (
    CloseAnswer,
    CloseRequest,
    Offer,
    Party,
    Role,
    decode_accept,
    decode_close_answer,
    decode_close_request,
    decode_offer,
    decode_sign,
    encode_accept,
    encode_close_answer,
    encode_close_request,
    encode_offer,
    encode_sign,
)
from btcfi.contracts.option import build_refund, complete_settlement, sign_funding, sign_settlement
from btcfi.contracts.payouts import price_input
from btcfi.contracts.settle import complete_cet
from btcfi.errors import BtcfiError
from btcfi.oracle.announcement import announce
from btcfi.secp256k1 import ORDER, public_key_compressed
from btcfi.units import BasisPoints, CentsPerBtc, Height, Sats
from tests.support.model_party import POLICY, guest

# ---- messages changed on their way


def mutated(rng, message):
    """Return a copy of a JSON message with one value changed, removed or doubled, wherever it stands."""
    changed = copy.deepcopy(message)
    places = list(_places(changed))
    holder, key = rng.choice(places)
    value = holder[key]
    if isinstance(holder, list) and rng.random() < 0.3:
        holder.insert(key, copy.deepcopy(value)) if rng.random() < 0.5 else holder.pop(key)
    else:
        holder[key] = _other(rng, value)
    return changed


def _places(value):
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _other(rng, value):
    wild = [None, True, -1, 0, 1 << 70, "", "00", [], {}, 1e308]
    if isinstance(value, bool) or value is None or rng.random() < 0.2:
        return rng.choice(wild)
    if isinstance(value, int):
        return rng.choice([value + 1, value - 1, 2 * value, value // 2, -value, value + rng.randrange(10_000_000)])
    if isinstance(value, str) and value:
        at = rng.randrange(len(value))
        return value[:at] + rng.choice("0123456789abcdefg") + value[at + 1 :] if rng.random() < 0.7 else value[:at]
    return rng.choice(wild)


def junk(rng, folder):
    """Put something into a folder that is no message: a pipe, a folder, a link into nowhere, nesting, NaN."""
    name = f"junk{rng.randrange(1 << 30)}"
    path = folder / f"{name}.offer.json"
    kind = rng.randrange(6)
    if kind == 0:
        os.mkfifo(path, 0o600)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to(folder / "nothing")
    elif kind == 3:
        path.write_text('{"type": "btcfi/offer", "version": NaN}')
    elif kind == 4:
        path.write_text("[" * 100_000)
    else:
        (folder / (name + "x" * 230 + ".json")).write_text("{}")


def forged(rng, attestation, other):
    """Return an attestation that no oracle made: another outcome, a short list, a zero s, signatures of another."""
    signatures = attestation.signatures
    kind = rng.randrange(6)
    if kind == 0:
        return replace(attestation, outcome=attestation.outcome ^ (1 << rng.randrange(len(signatures))))
    if kind == 1:
        return replace(attestation, signatures=signatures[:-1])
    if kind == 2:
        return replace(attestation, signatures=(signatures[0][:32] + bytes(32), *signatures[1:]))
    if kind == 3:
        return replace(attestation, signatures=other.signatures)
    if kind == 4:
        return replace(attestation, signatures=(*signatures, signatures[-1]))
    raised = ((int.from_bytes(signatures[0][32:]) + 1) % ORDER).to_bytes(32)
    return replace(attestation, signatures=(signatures[0][:32] + raised, *signatures[1:]))


def other_terms(rng, terms):
    """Return the terms with one of them far off, or a little."""
    changes = [
        {"rate": SatsPerKvb(10_000_000)}, {"rate": SatsPerKvb(6_000)},
        {"refund_height": Height(terms.refund_height + 1_000_000)},
        {"refund_height": Height(terms.expiry_height + 1)},
        {"premium": Sats(0)}, {"premium": Sats(terms.premium + 10_000)}, {"premium": Sats(600_000)},
        {"rule": ToleranceRule(tolerance=BasisPoints(10_000))},
        {"expiry_height": Height(terms.expiry_height + 500)}, {"cet_fee": Sats(20_000)},
        {"threshold": terms.threshold + 1}, {"announcements": terms.announcements * 2},
    ]  # fmt: skip
    return replace(terms, **rng.choice(changes))


# ---- the counterparty

TRICKS = {
    "setting_up": (
        "accept_with_their_coins", "offer_with_their_coins", "second_accept", "own_oracle", "other_terms",
        "finish_invented", "double_spend",
    ),
    "living": (
        "invented_close", "invented_close", "finish_close", "finish_close", "wrong_partial", "double_spend",
        "wrong_cet", "early_refund",
    ),
    "settling": ("wrong_cet", "pin", "pin", "early_refund", "invented_close", "finish_close", "double_spend"),
}  # fmt: skip


class Mallory:
    """The hostile side: it has a desk as anybody, a keystore of its own, and what it remembers of its tricks."""

    def __init__(self, model, me, victim):
        self.model, self.me, self.victim = model, me, victim
        self.agreements = {}
        """Contracts that it has invented, by id, with its accept message."""
        self.closes = {}
        self.number = 900

    def tricks(self, phase):
        """What it knows to do in a phase of a contract, by name; each returns whether it could be tried now."""
        return {name: getattr(self, name) for name in TRICKS[phase]}

    # ---- contracts that it invents

    def accept_with_their_coins(self):
        """It answers with a coin of the victim among its own."""
        return self._accept(lambda coins: [*coins, *self._theirs()[:1]])

    def second_accept(self):
        """It answers again, with other coins and another key."""
        return self._accept(lambda coins: coins)

    def _accept(self, named):
        rng, found = self.model.rng, self.model.said_by(self.victim, "offer")
        if not found:
            return False
        name, message = rng.choice(found)
        offer = decode_offer(message)
        coins = named(self._mine(offer.terms.collateral if self.me.role is Role.SELLER else offer.terms.premium))
        self.number += 1
        secret = self.me.keystore.contract_secret(self.number)
        party = Party(
            key=public_key_compressed(secret), payout_script=self.me.script, change_script=self.me.script,
            coins=tuple(coins),
        )  # fmt: skip
        try:
            agreement = self._agree(offer, party)
            accepted = setup.accept(offer, agreement, party, secret, authority=self.model.anything_goes())
        except BtcfiError:
            return False
        self.agreements[agreement.id] = (agreement, accepted)
        self.model.put(self.victim, f"{name}.accept", encode_accept(accepted))
        return True

    def _agree(self, offer, party):
        terms = self.model.option_terms(offer.terms)
        return setup.agree(
            offer, party, guest().payouts(terms), event=offer.terms.announcements[0].event, policy=POLICY
        )  # fmt: skip

    def offer_with_their_coins(self):
        """It offers what the victim bids for, with a coin of the victim's as its own."""
        return self._offer(lambda terms: terms, lambda coins: [*self._theirs()[:1], *coins])

    def own_oracle(self):
        """It offers what the victim bids for, attested by itself."""
        own = self.me.keystore.contract_secret(800)

        def instead(terms):
            return replace(terms, announcements=(announce(own, terms.announcements[0].event),), threshold=1)

        return self._offer(instead, lambda coins: coins)

    def other_terms(self):
        """It offers terms that nobody meant: a fee, a premium, a height or a tolerance that eats the other side."""
        return self._offer(lambda terms: other_terms(self.model.rng, terms), lambda coins: coins)

    def _offer(self, changed, named):
        deals = [deal for deal in self.model.deals if deal.offering is self.me.role]
        if not deals:
            return False
        deal = self.model.rng.choice(deals)
        terms = changed(deal.terms)
        coins = named(self._mine(terms.collateral if self.me.role is Role.SELLER else terms.premium))
        self.number += 1
        secret = self.me.keystore.contract_secret(self.number)
        party = Party(
            key=public_key_compressed(secret), payout_script=self.me.script, change_script=self.me.script,
            coins=tuple(coins),
        )  # fmt: skip
        offer = Offer(terms=terms, role=self.me.role, party=party)
        self.model.offers[offer.id] = (offer, self.number)
        self.model.put(self.victim, f"{deal.name}.offer", encode_offer(offer))
        return True

    def finish_invented(self):
        """It completes what the victim has signed of an invented contract, with every witness that it was given."""
        for _, message in self.model.said_by(self.victim, "sign"):
            signed = decode_sign(message)
            if signed.contract_id in self.agreements:
                agreement, _ = self.agreements[signed.contract_id]
                funding = agreement.funding
                own = sign_funding(
                    funding, {self.me.script: self.me.keystore.wallet_key(0)}, inputs=range(len(funding.spent))
                )
                return self._broadcast_funding(funding, {**own, **signed.witnesses})
        return self._answer_accepts()

    def _answer_accepts(self):
        # the victim answered an invented offer: sign as any offering side, so that the victim completes it
        for name, message in self.model.said_by(self.victim, "accept"):
            accepted = decode_accept(message)
            if accepted.offer_id not in self.model.offers:
                continue
            offer, number = self.model.offers[accepted.offer_id]
            secret = self.me.keystore.contract_secret(number)
            try:
                agreement = self._agree(offer, accepted.party)
                signed = setup.sign(
                    offer, accepted, agreement, secret, {self.me.script: self.me.keystore.wallet_key(0)},
                    authority=self.model.anything_goes(),
                )  # fmt: skip
            except BtcfiError:
                continue
            self.model.put(self.victim, f"{name}.sign", encode_sign(signed))
            return True
        return False

    def _broadcast_funding(self, funding, witnesses):
        transaction = funding.transaction
        for index, witness in witnesses.items():
            if index < len(transaction.inputs):
                transaction = transaction.with_witness(index, witness)
        return self._send(transaction)

    def _mine(self, amount):
        """Return coins of its own that are enough, the smallest that is."""
        coins = sorted(self.me.free_coins(amount + 10_000), key=lambda coin: coin.value)
        return coins[: 1 + self.model.rng.randrange(2)]

    def _theirs(self):
        coins = self.victim.free_coins(10_000)
        self.model.rng.shuffle(coins)
        return coins

    # ---- closes

    def invented_close(self):
        """It asks for a close at a payout that nobody agreed to, as if a guest had said so or without one."""
        rng = self.model.rng
        known = self._contracts()
        if not known:
            return False
        agreement, contract = rng.choice(known)
        given, root, payout = self._pretext(agreement, contract)
        rate = SatsPerKvb(rng.choice([2_000, 5_000, 5_000, 50_000]))
        keys = self._keys(contract)
        plan = agreement.plan
        closing = Closing(
            build_close(
                plan.contract, plan.funding, payout=payout, rate=rate, proof_root=root, guest_input=given
            ),
            buyer_key=keys[Role.BUYER], seller_key=keys[Role.SELLER],
        )  # fmt: skip
        nonce = closing.nonce(self.me.keystore.contract_secret(contract.number), rng.randbytes(32))
        request = CloseRequest(
            contract_id=agreement.id, payout=payout, rate=rate, guest_input=given, nonce=nonce.public
        )
        self.closes.setdefault(agreement.id, []).append((closing, nonce, contract.number))
        name = rng.choice([deal.name for deal in self.model.deals] + list(self.model.close_names) + ["unheard"])
        self.model.put(self.victim, f"{name}.close-request", encode_close_request(request))
        return True

    def _pretext(self, agreement, contract):
        """Return a guest input, its root and a payout: no input, a price of its own, or the one that is allowed."""
        rng, top = self.model.rng, agreement.plan.contract.collateral
        if rng.random() < 0.6:
            return b"", None, Sats(top - 2_000 if self.me.role is Role.BUYER else 0)
        terms = self.model.option_terms(contract.offer.terms)
        price = CentsPerBtc(rng.choice([1 + rng.randrange(6_000), self.model.spot]))
        given = price_input(terms, price).to_bytes()
        return given, guest().prove(given)[1], guest().payouts(terms)([price])[0]

    def finish_close(self):
        """It adds its half to what the victim has signed of an invented close."""
        for _, message in self.model.said_by(self.victim, "close-answer"):
            answer = decode_close_answer(message)
            for closing, nonce, number in self.closes.pop(answer.contract_id, ()):
                if self._finished(closing, nonce, number, answer):
                    return True
        return False

    def _finished(self, closing, nonce, number, answer):
        first = self.me.role is Role.BUYER
        nonces = (nonce.public, answer.nonce) if first else (answer.nonce, nonce.public)
        secret = self.me.keystore.contract_secret(number)
        try:
            ours = closing.sign(secret, nonce, nonces, authority=self.model.anything_goes())
            parts = (ours, answer.partial) if first else (answer.partial, ours)
            return self._send(closing.finish(nonces, parts))
        except BtcfiError:
            return False

    def wrong_partial(self):
        """It answers the victim's request to close with a nonce and a number that fit nothing."""
        asked = self.model.said_by(self.victim, "close-request")
        if not asked:
            return False
        name, message = self.model.rng.choice(asked)
        request = decode_close_request(message)
        answer = CloseAnswer(contract_id=request.contract_id, nonce=request.nonce, partial=bytes(31) + b"\x01")
        self.model.put(self.victim, f"{name}.close-answer", encode_close_answer(answer))
        return True

    @staticmethod
    def _keys(contract):
        return {
            contract.offer.role: contract.offer.party.key, contract.offer.role.other: contract.accept.party.key
        }  # fmt: skip

    def _contracts(self):
        """Its contracts that are signed by both: (agreement, what its folder has)."""
        signed = [one for one in self.me.contracts() if one.accept is not None and one.sign is not None]
        return [(self.me.agreements.of(one), one) for one in signed]

    # ---- on the chain

    def double_spend(self):
        """It spends a coin to itself that it has named in a contract: into the pool, and for the next fork."""
        rng = self.model.rng
        coins = [coin for coin in self._named() if coin.output.script == self.me.script]
        if not coins:
            return False
        coin = rng.choice(coins)
        back = self._to_itself(coin, fee=rng.choice([300, 3_000, 30_000]))
        self.model.rivals.append(back)
        self._send(back)
        return True

    def _named(self):
        for contract in self.me.contracts():
            offering = contract.offer.role is self.me.role
            party = contract.offer.party if offering else contract.accept and contract.accept.party
            yield from party.coins if party else ()
        for _, accepted in self.agreements.values():
            yield from accepted.party.coins

    def _to_itself(self, coin, fee):
        value = Sats(coin.value - fee)
        back = Transaction(
            version=2, inputs=(TxIn(outpoint=coin.outpoint),), outputs=(TxOut(value=value, script=self.me.script),)
        )
        key = self.me.keystore.wallet_key(0)
        return back.with_witness(0, [key.sign_input(back, 0, [coin.output])])

    def wrong_cet(self):
        """It finishes another outcome's CET with the secret that was attested, or with one that it made up."""
        rng, known = self.model.rng, self._contracts()
        if not known:
            return False
        agreement, contract = rng.choice(known)
        plan = agreement.plan
        bucket = rng.randrange(len(plan.buckets))
        said = self.model.oracle.statements
        secret = rng.choice(said).prefix_secret(plan.buckets[bucket].length) if said else rng.randbytes(32)
        if self.model.oracle.allows(bucket, plan):
            return False
        parts = {
            contract.offer.role.other.value: contract.accept.presignatures,
            contract.offer.role.value: contract.sign.presignatures,
        }
        place = bucket * len(plan.subsets) * ADAPTOR_SIZE
        finished = {who: adaptor.adapt(one[place : place + ADAPTOR_SIZE], secret) for who, one in parts.items()}
        witness = leaves.witness_of(CET_PATH, plan.contract.keys, plan.contract.output(), finished)
        wrong = plan.transaction(bucket).with_witness(0, witness)
        if self._send(wrong) or self.model.chain.takes(wrong):
            self.model.violations.append(f"the chain took a CET of bucket {bucket} that nobody attested")
        return True

    def _completed(self):
        said = self.model.oracle.statements
        for agreement, contract in self._contracts():
            parts = {
                contract.offer.role.other.value: contract.accept.presignatures,
                contract.offer.role.value: contract.sign.presignatures,
            }
            try:
                yield complete_cet(
                    agreement.plan, buyer=parts["buyer"], seller=parts["seller"], attestations=said
                )  # fmt: skip
            except BtcfiError:
                continue

    def pin(self):
        """It broadcasts the attested CET with a large and cheap child of its own on the anchor."""
        for cet in self._completed():
            coins = sorted(self.me.free_coins(50_000), key=lambda coin: coin.value)
            if not coins:
                return False
            return self._pinned(cet, coins[0])
        return False

    def _pinned(self, cet, coin):
        pad = [TxOut(value=Sats(400), script=self.me.script)] * 16
        vsize = 1_000 + cet.transaction.vsize
        rest = coin.value + 240 - 16 * 400 - vsize - self.model.rng.randrange(300)
        child = Transaction(
            version=TRUC_VERSION,
            inputs=(TxIn(outpoint=cet.anchor_outpoint, sequence=SEQUENCE_RBF),
                    TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_RBF)),
            outputs=(TxOut(value=Sats(rest), script=self.me.script), *pad),
        )  # fmt: skip
        spent = [TxOut(value=Sats(240), script=P2A_SCRIPT), coin.output]
        child = child.with_witness(1, [self.me.keystore.wallet_key(0).sign_input(child, 1, spent)])
        try:
            self.model.chain.node.send_package([cet.transaction, child])
        except (TxRejectedError, NodeAnswerError):
            return False
        return True

    def early_refund(self):
        """As the seller it sends its refund at a high fee, too early or in the race."""
        if self.me.role is not Role.SELLER:
            return False
        for agreement, contract in self._contracts():
            refund = build_refund(agreement.plan.contract, agreement.plan.funding, rate=SatsPerKvb(40_000))
            secret = self.me.keystore.contract_secret(contract.number)
            self._send(complete_settlement(refund, seller=sign_settlement(refund, secret, party="seller")))
            return True
        return False

    def _send(self, transaction):
        try:
            self.model.chain.node.send(transaction)
        except (TxRejectedError, NodeAnswerError):
            return False
        return True
