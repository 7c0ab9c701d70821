"""Selling a position to somebody else: what its holder, who takes it and its seller sign, and the deal of the three.

    consent   the seller: the other side of this contract may change, on the same terms, until a second
    offer     the holder: my side of this contract, for this price, until a second; firm
    take      the newcomer: I take it at that price

The price goes to the holder to the satoshi; the newcomer pays it and the transaction. The seller's contract stays what
it was to the satoshi, so all that it decides is whether its counterparty may change: a consent that it gives
beforehand, by its own rule, and whoever offers knows that it stands. Nothing else decides the money; each of the three
recomputes it from these texts. Pure. Source: docs/decisions/0068.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from btcfi import secp256k1
from btcfi.bitcoin.fees import DUST_P2TR, MAX_FEE_RATE, MIN_RELAY_FEE_RATE, SatsPerKvb
from btcfi.contracts.messages import ContractTerms, Order, Role, canonical, encode_order
from btcfi.contracts.payouts import decode_terms
from btcfi.contracts.splice import Owner
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.market.account import (
    XONLY,
    AnotherDeskError,
    SignedRegistration,
    WrongSignatureError,
    check_registration,
    decode_signed_registration,
    encode_signed_registration,
)
from btcfi.market.instrument import EXPECTED, Instrument, instrument_of, parse_instrument
from btcfi.market.signed_text import MAX_NUMBER, read_signed
from btcfi.options.terms import MAX_QUANTITY
from btcfi.oracle.report import canonical_json
from btcfi.records import HASH, Rule, record, whole
from btcfi.units import MAX_MONEY_SATS, CentiBtc, Hash32, Sats, UnixSeconds

CONSENT_TYPE: Final = "btcfi/transfer-consent"
OFFER_TYPE: Final = "btcfi/transfer-offer"
TAKE_TYPE: Final = "btcfi/transfer-take"
VERSION: Final = 1

_CONSENT_TAG: Final = "BTCFi/transfer-consent/v1"
_OFFER_TAG: Final = "BTCFi/transfer-offer/v1"
_TAKE_TAG: Final = "BTCFi/transfer-take/v1"
_TERMS_TAG: Final = "BTCFi/transfer-terms/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferConsent:
    """The seller's word, once a contract: its other side may change hands on the terms that it has."""

    seller: bytes
    """x-only identity."""
    desk: bytes
    """x-only request key of the service."""
    contract_id: Hash32
    valid_until: UnixSeconds
    number: int
    """The seller's own, below 2**53."""

    @property
    def id(self) -> Hash32:
        """What its seller signs."""
        return tagged_hash(_CONSENT_TAG, canonical_json(encode_consent(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOffer:
    """The holder's firm offer of its position, whole."""

    holder: bytes
    """x-only identity."""
    desk: bytes
    contract_id: Hash32
    terms_hash: Hash32
    """``terms_hash`` of the contract at this offer's fee rate: what a newcomer takes, to the last term."""
    instrument: Instrument
    """As the terms say; for whoever looks for one."""
    quantity: CentiBtc
    price: Sats
    """Of the whole position; the holder gets it to the satoshi, but for the fee of a coin that it brings itself."""
    rate: SatsPerKvb
    """Of the transaction; the newcomer pays it."""
    valid_until: UnixSeconds
    """From this second on the holder signs nothing of it."""
    number: int
    taker: bytes | None = None
    """x-only identity of who alone may take it; None: whoever comes first."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for an offer to oneself."""
        if self.taker == self.holder:
            raise InvalidInputError("taker", "the holder itself", "another account, or nobody")

    @property
    def id(self) -> Hash32:
        """What its holder signs, and its name."""
        return tagged_hash(_OFFER_TAG, canonical_json(encode_offer(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferTake:
    """One newcomer's word that it takes a position, at the offer's price and no other."""

    newcomer: bytes
    """x-only identity."""
    offer_id: Hash32
    price: Sats
    """As the offer says it: what the newcomer saw."""
    valid_until: UnixSeconds
    """From this second on nobody signs anything of it."""
    number: int

    @property
    def id(self) -> Hash32:
        """What its newcomer signs, and its name."""
        return tagged_hash(_TAKE_TAG, canonical_json(encode_take(self)))

    @property
    def option_id(self) -> str:
        """The name of the new position's option."""
        return "t" + self.id.hex()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransferConsent:
    """A consent and its seller's signature, by its request key."""

    consent: TransferConsent
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransferOffer:
    """An offer and its holder's signature, by its request key."""

    offer: TransferOffer
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransferTake:
    """A take and its newcomer's signature, by its request key."""

    take: TransferTake
    signature: bytes


SignedWord = SignedTransferConsent | SignedTransferOffer | SignedTransferTake
"""One of the three texts that make a transfer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferPart:
    """What the three have signed, as the service hands it to each; nobody believes the service."""

    consent: SignedTransferConsent
    offer: SignedTransferOffer
    take: SignedTransferTake
    seller: SignedRegistration
    holder: SignedRegistration
    newcomer: SignedRegistration

    def of(self, owner: Owner) -> SignedRegistration:
        """Return who an owner is."""
        registered: SignedRegistration = getattr(self, owner.value)
        return registered


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferDeal:
    """The one deal of a consent, an offer and a take."""

    take_id: Hash32
    contract_id: Hash32
    terms_hash: Hash32
    price: Sats
    rate: SatsPerKvb
    until: UnixSeconds
    """The earliest of the three: from then on nobody signs anything of it."""
    identities: dict[Owner, bytes]
    """x-only."""

    def owner_of(self, identity: bytes) -> Owner:
        """Return which of the three an account is. Raises InvalidInputError for none of them."""
        for owner, one in self.identities.items():
            if one == identity:
                return owner
        raise InvalidInputError("transfer", "between three others", f"one of {identity.hex()[:16]}")


def terms_hash(terms: ContractTerms) -> Hash32:
    """Return the hash of every term of a contract, its fee rate among them."""
    return tagged_hash(_TERMS_TAG, canonical(encode_order(Order(terms=terms, role=Role.SELLER))))


def check_terms_of(offer: TransferOffer, terms: ContractTerms) -> None:
    """Check that terms are those that an offer is of: by their hash, and as its reader was shown them.

    Raises InvalidInputError naming what is another's.
    """
    option = decode_terms(terms.option)
    for name, said, shown in (
        ("instrument", instrument_of(option).name, offer.instrument.name),
        ("quantity_centi_btc", option.quantity, offer.quantity),
        ("sats_per_kvb", terms.rate, offer.rate),
        ("terms_hash", terms_hash(terms).hex()[:16], offer.terms_hash.hex()[:16]),
    ):
        if said != shown:
            raise InvalidInputError(f"transfer.{name}", f"{said}", f"{shown}, as offered")


def check_part(part: TransferPart, *, desk: bytes) -> TransferDeal:
    """Return the deal, once each of the three has signed its own text for this service. desk: its x-only key.

    Raises InvalidInputError, AnotherDeskError, WrongRegistrationError, WrongSignatureError.
    """
    consent, offer, take = part.consent.consent, part.offer.offer, part.take.take
    for what, named in (("the consent", consent.desk), ("the offer", offer.desk)):
        if named != desk:
            raise AnotherDeskError(what, named, desk)
    if consent.contract_id != offer.contract_id:
        raise InvalidInputError("consent.contract_id", "another contract's", f"{offer.contract_id.hex()[:16]}")
    if take.offer_id != offer.id:
        raise InvalidInputError("take.offer_id", take.offer_id.hex()[:16], f"{offer.id.hex()[:16]}, the offer's")
    if take.price != offer.price:
        raise InvalidInputError("take.price_sats", f"{take.price:,}", f"{offer.price:,}")
    if offer.taker not in (None, take.newcomer):
        raise InvalidInputError("take.newcomer", take.newcomer.hex()[:16], "the account that the offer is for")
    identities = {Owner.SELLER: consent.seller, Owner.HOLDER: offer.holder, Owner.NEWCOMER: take.newcomer}
    if len(set(identities.values())) != len(identities):
        raise InvalidInputError("transfer", "two of the three are one account", "three; a seller closes instead")
    for owner, identity in identities.items():
        registered = check_registration(part.of(owner), desk=desk)
        if registered.identity != identity:
            problem = f"registers {registered.identity.hex()[:16]}"
            raise InvalidInputError(f"transfer.{owner.value}", problem, f"{identity.hex()[:16]}, whose word it is")
    _check_signature("consent", "seller", part.seller, consent.id, part.consent.signature)
    _check_signature("offer", "holder", part.holder, offer.id, part.offer.signature)
    _check_signature("take", "newcomer", part.newcomer, take.id, part.take.signature)
    return TransferDeal(
        take_id=take.id, contract_id=offer.contract_id, terms_hash=offer.terms_hash, price=offer.price,
        rate=offer.rate, until=min(consent.valid_until, offer.valid_until, take.valid_until), identities=identities,
    )  # fmt: skip


def _check_signature(what: str, by: str, registered: SignedRegistration, digest: Hash32, signature: bytes) -> None:
    if not secp256k1.schnorr_verify(registered.registration.request_key, digest, signature):
        raise WrongSignatureError(f"transfer {what}", f"not signed by its {by}", "its request key's signature")


# ---- signing


def sign_consent(consent: TransferConsent, secret: bytes, aux: bytes = bytes(32)) -> SignedTransferConsent:
    """Return a consent signed by a request secret. aux: 32 fresh random bytes, or none."""
    return SignedTransferConsent(consent=consent, signature=secp256k1.schnorr_sign(secret, consent.id, aux))


def sign_offer(offer: TransferOffer, secret: bytes, aux: bytes = bytes(32)) -> SignedTransferOffer:
    """Return an offer signed by a request secret, as above."""
    return SignedTransferOffer(offer=offer, signature=secp256k1.schnorr_sign(secret, offer.id, aux))


def sign_take(take: TransferTake, secret: bytes, aux: bytes = bytes(32)) -> SignedTransferTake:
    """Return a take signed by a request secret, as above."""
    return SignedTransferTake(take=take, signature=secp256k1.schnorr_sign(secret, take.id, aux))


# ---- writing and reading


def encode_consent(consent: TransferConsent) -> dict[str, Any]:
    """Return the consent as JSON, not signed."""
    return {
        "type": CONSENT_TYPE,
        "version": VERSION,
        "seller": consent.seller.hex(),
        "desk": consent.desk.hex(),
        "contract_id": consent.contract_id.hex(),
        "valid_until_unix": consent.valid_until,
        "number": consent.number,
    }


def encode_offer(offer: TransferOffer) -> dict[str, Any]:
    """Return the offer as JSON, not signed; a field of nothing is left out."""
    said = {} if offer.taker is None else {"taker": offer.taker.hex()}
    return {
        "type": OFFER_TYPE,
        "version": VERSION,
        "holder": offer.holder.hex(),
        "desk": offer.desk.hex(),
        "contract_id": offer.contract_id.hex(),
        "terms_hash": offer.terms_hash.hex(),
        "instrument": offer.instrument.name,
        "quantity_centi_btc": offer.quantity,
        "price_sats": offer.price,
        "sats_per_kvb": offer.rate,
        "valid_until_unix": offer.valid_until,
        "number": offer.number,
    } | said


def encode_take(take: TransferTake) -> dict[str, Any]:
    """Return the take as JSON, not signed."""
    return {
        "type": TAKE_TYPE,
        "version": VERSION,
        "newcomer": take.newcomer.hex(),
        "offer_id": take.offer_id.hex(),
        "price_sats": take.price,
        "valid_until_unix": take.valid_until,
        "number": take.number,
    }


def encode_signed(signed: SignedWord) -> dict[str, Any]:
    """Return one of the three texts as JSON with its signature: as a desk takes it."""
    if isinstance(signed, SignedTransferConsent):
        body = encode_consent(signed.consent)
    elif isinstance(signed, SignedTransferOffer):
        body = encode_offer(signed.offer)
    else:
        body = encode_take(signed.take)
    return body | {"signature": signed.signature.hex()}


def encode_part(part: TransferPart) -> dict[str, Any]:
    """Return the part as JSON."""
    return {
        "consent": encode_signed(part.consent),
        "offer": encode_signed(part.offer),
        "take": encode_signed(part.take),
        **{owner.value: encode_signed_registration(part.of(owner)) for owner in Owner},
    }


_NUMBER: Final = whole(0, MAX_NUMBER)
_PRICE: Final = ("price_sats", whole(DUST_P2TR, MAX_MONEY_SATS))

_CONSENT: Final = record(
    TransferConsent, exact=True, seller=XONLY, desk=XONLY, contract_id=HASH, valid_until="valid_until_unix",
    number=_NUMBER,
)  # fmt: skip

_OFFER: Final = record(
    TransferOffer, exact=True, holder=XONLY, desk=XONLY, contract_id=HASH, terms_hash=HASH,
    instrument=Rule(parse_instrument, EXPECTED), quantity=("quantity_centi_btc", whole(1, MAX_QUANTITY)), price=_PRICE,
    rate=("sats_per_kvb", whole(MIN_RELAY_FEE_RATE, MAX_FEE_RATE)), valid_until="valid_until_unix", number=_NUMBER,
    taker=XONLY, may_lack=("taker",),
)  # fmt: skip

_TAKE: Final = record(
    TransferTake, exact=True, newcomer=XONLY, offer_id=HASH, price=_PRICE, valid_until="valid_until_unix",
    number=_NUMBER,
)  # fmt: skip


def decode_signed_consent(message: object) -> SignedTransferConsent:
    """Return a signed consent, its signature unchecked. Raises InvalidInputError naming the field."""
    consent, signature = read_signed(_CONSENT, message, kind=CONSENT_TYPE, version=VERSION)
    return SignedTransferConsent(consent=consent, signature=signature)


def decode_signed_offer(message: object) -> SignedTransferOffer:
    """Return a signed offer, its signature unchecked. Raises InvalidInputError naming the field."""
    offer, signature = read_signed(_OFFER, message, kind=OFFER_TYPE, version=VERSION)
    return SignedTransferOffer(offer=offer, signature=signature)


def decode_signed_take(message: object) -> SignedTransferTake:
    """Return a signed take, its signature unchecked. Raises InvalidInputError naming the field."""
    take, signature = read_signed(_TAKE, message, kind=TAKE_TYPE, version=VERSION)
    return SignedTransferTake(take=take, signature=signature)


_REGISTERED: Final = Rule(decode_signed_registration, "a signed registration")

_PART: Final = record(
    TransferPart, exact=True, consent=Rule(decode_signed_consent, "a signed consent"),
    offer=Rule(decode_signed_offer, "a signed offer"), take=Rule(decode_signed_take, "a signed take"),
    seller=_REGISTERED, holder=_REGISTERED, newcomer=_REGISTERED,
)  # fmt: skip


def decode_part(value: object) -> TransferPart:
    """Return the part of a JSON value, its signatures unchecked. Raises InvalidInputError naming the field."""
    return _PART.read(value, "transfer")
