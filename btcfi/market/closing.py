"""Closing a contract before its end at a price that both sides name: what each says, and to whom.

    proposer -> answerer   close-offer  the price, its own public nonce         (carried by the service)
    answerer -> service    close-take   its public nonce, its partial signature
    service  -> proposer   close-go     the answerer's public nonce, and no signature
    proposer -> service    close-last   its partial signature
    service  -> both       close-done   the signed close, which it has sent;  or close-over, and why

A signed close that no block holds is a free option: whoever has it chooses, once the price is known, between it and
the contract. So neither side ever gets the other's partial signature: both go to the service alone, which finishes and
sends at once. The service can hold a close back and cannot make another one. Source: docs/decisions/0065.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from btcfi.bitcoin.fees import MAX_FEE_RATE, MIN_RELAY_FEE_RATE, SatsPerKvb
from btcfi.bitcoin.transaction import Transaction, parse_transaction
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.report import canonical_json
from btcfi.records import HASH, TEXT, Rule, hexadecimal, record, whole
from btcfi.units import MAX_MONEY_SATS, Hash32, Height, Sats, UnixSeconds

VERSION: Final = 1

OFFER: Final = "close-offer"
TAKE: Final = "close-take"
GO: Final = "close-go"
LAST: Final = "close-last"
DONE: Final = "close-done"
OVER: Final = "close-over"

LAST_BLOCKS: Final = 12
"""Before the expiry height, in which nothing new is closed: two hours, in which a close confirms before its contract
can be settled otherwise. Source: findings on splices, section 4."""

LONGEST_SECONDS: Final = 86_400
"""From an offer to close to its end."""

FINISH_SECONDS: Final = 60
"""From the answer to the last signature: who offered would else choose until its offer lapses, by the price."""

MOST_A_DAY: Final = 100
"""Offers of one side to close one contract: each is a file of the other side's, and costs its maker nothing."""

MARK: Final = "~"
"""In a letter's name, between the option's name and the offer's id."""

_NAME_DIGITS: Final = 16
_TAG: Final = "BTCFi/close-offer/v1"
_NONCE_SIZE: Final = 66
_PARTIAL_SIZE: Final = 32


class TooLateToCloseError(ConflictError):
    """A close that could be overtaken by what the oracles say."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"nothing is closed any more: {problem}; the contract settles by itself")
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseOffer:
    """One side's firm offer to close: the buyer gets so much of the collateral, the seller the rest less the fee."""

    contract_id: Hash32
    payout: Sats
    """The buyer's, before dust; fee and dust as ``contracts.cooperative.build_close`` has them."""
    rate: SatsPerKvb
    valid_until: UnixSeconds
    """From this second on neither side signs anything of it."""
    nonce: bytes
    """The proposer's public MuSig2 nonce, 66 bytes, fresh: so no two offers are the same."""

    @property
    def id(self) -> Hash32:
        """Its name."""
        return tagged_hash(_TAG, canonical_json(encode_offer(self)))

    def letter(self, option_id: str, kind: str) -> str:
        """Return the name of a letter about it."""
        return letter_name(option_id, self.id, kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseTake:
    """The other side's yes, to the service alone."""

    offer_id: Hash32
    nonce: bytes
    partial: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseGo:
    """What the service says once it has a yes: with whose nonce the proposer signs."""

    offer_id: Hash32
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseLast:
    """The proposer's partial signature, to the service alone."""

    offer_id: Hash32
    partial: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseDone:
    """The close that both have signed."""

    offer_id: Hash32
    transaction: Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseOver:
    """That an offer to close has come to nothing."""

    offer_id: Hash32
    problem: str


def option_of(name: str) -> str:
    """Return the option's name in the name of a letter's contract, without what says which close it is of."""
    return name.partition(MARK)[0]


def letter_name(option_id: str, offer_id: Hash32, kind: str) -> str:
    """Return the name of a letter about an offer to close."""
    return f"{option_id}{MARK}{offer_id.hex()[:_NAME_DIGITS]}.{kind}"


def check_named(name: str, offer_id: Hash32) -> None:
    """Refuse a message about one close in a letter about another. Raises InvalidInputError."""
    said = name.rpartition(".")[0].partition(MARK)[2]
    if said != offer_id.hex()[:_NAME_DIGITS]:
        raise InvalidInputError("close.offer_id", offer_id.hex()[:_NAME_DIGITS], f"{said[:40]!a}, as the letter's name")


def check_timely(
    *, now: UnixSeconds, valid_until: UnixSeconds, tip: Height, expiry_height: Height, last_blocks: int
) -> None:
    """Refuse what has lapsed, or what a settlement could overtake. Raises TooLateToCloseError."""
    if now >= valid_until:
        raise TooLateToCloseError(f"the offer to close was good until {valid_until}, it is {now}")
    if last_blocks and tip + last_blocks > expiry_height:
        problem = f"block {tip:,} is {max(expiry_height - tip, 0)} before the expiry's, and {last_blocks} are asked for"
        raise TooLateToCloseError(problem)


# ---- writing and reading


def encode_offer(offer: CloseOffer) -> dict[str, Any]:
    """Return an offer to close as JSON."""
    return {
        "type": f"btcfi/{OFFER}",
        "version": VERSION,
        "contract_id": offer.contract_id.hex(),
        "payout_sats": offer.payout,
        "sats_per_kvb": offer.rate,
        "valid_until_unix": offer.valid_until,
        "nonce": offer.nonce.hex(),
    }


def encode_take(take: CloseTake) -> dict[str, Any]:
    """Return the answer to it as JSON."""
    return _head(TAKE, take.offer_id) | {"nonce": take.nonce.hex(), "partial": take.partial.hex()}


def encode_go(go: CloseGo) -> dict[str, Any]:
    """Return as JSON that the other side has answered."""
    return _head(GO, go.offer_id) | {"nonce": go.nonce.hex()}


def encode_last(last: CloseLast) -> dict[str, Any]:
    """Return the last signature as JSON."""
    return _head(LAST, last.offer_id) | {"partial": last.partial.hex()}


def encode_done(done: CloseDone) -> dict[str, Any]:
    """Return the signed close as JSON."""
    return _head(DONE, done.offer_id) | {"transaction": done.transaction.to_bytes().hex()}


def encode_over(over: CloseOver) -> dict[str, Any]:
    """Return as JSON that it came to nothing."""
    return _head(OVER, over.offer_id) | {"problem": over.problem}


def _head(kind: str, offer_id: Hash32) -> dict[str, Any]:
    return {"type": f"btcfi/{kind}", "version": VERSION, "offer_id": offer_id.hex()}


_NONCE: Final = hexadecimal(_NONCE_SIZE)
_PARTIAL: Final = hexadecimal(_PARTIAL_SIZE)
_RATE: Final = Rule(
    lambda value: SatsPerKvb(whole(MIN_RELAY_FEE_RATE, MAX_FEE_RATE)(value)), "a fee rate that nodes relay, sat/kvB"
)


def _transaction(value: object) -> Transaction:
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - what a rule raises
    return parse_transaction(bytes.fromhex(value))


_OFFER: Final = record(
    CloseOffer, contract_id=HASH, payout=("payout_sats", whole(0, MAX_MONEY_SATS)), rate=("sats_per_kvb", _RATE),
    valid_until="valid_until_unix", nonce=_NONCE,
)  # fmt: skip
_TAKE: Final = record(CloseTake, offer_id=HASH, nonce=_NONCE, partial=_PARTIAL)
_GO: Final = record(CloseGo, offer_id=HASH, nonce=_NONCE)
_LAST: Final = record(CloseLast, offer_id=HASH, partial=_PARTIAL)
_DONE: Final = record(CloseDone, offer_id=HASH, transaction=Rule(_transaction, "a transaction, as hex"))
_OVER: Final = record(CloseOver, offer_id=HASH, problem=TEXT)


def _read(rule: Any, message: object, kind: str) -> Any:  # noqa: ANN401 - a record's rule and what it makes
    if not isinstance(message, dict) or (message.get("type"), message.get("version")) != (f"btcfi/{kind}", VERSION):
        raise InvalidInputError("message", "of another kind or version", f"btcfi/{kind} version {VERSION}")
    return rule.read(message, kind)


def decode_offer(message: object) -> CloseOffer:
    """Return an offer to close. Raises InvalidInputError naming the field, as the ones below."""
    offer: CloseOffer = _read(_OFFER, message, OFFER)
    return offer


def decode_take(message: object) -> CloseTake:
    """Return the answer to an offer to close."""
    take: CloseTake = _read(_TAKE, message, TAKE)
    return take


def decode_go(message: object) -> CloseGo:
    """Return that the other side has answered."""
    go: CloseGo = _read(_GO, message, GO)
    return go


def decode_last(message: object) -> CloseLast:
    """Return the last signature of a close."""
    last: CloseLast = _read(_LAST, message, LAST)
    return last


def decode_done(message: object) -> CloseDone:
    """Return the signed close."""
    done: CloseDone = _read(_DONE, message, DONE)
    return done


def decode_over(message: object) -> CloseOver:
    """Return that a close came to nothing."""
    over: CloseOver = _read(_OVER, message, OVER)
    return over
