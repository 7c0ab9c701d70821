"""An oracle's announcement: what it will sign at an expiry, and the points from which contracts are built before.

A price is attested in whole dollars, as binary digits, most significant first; each digit has a nonce of its own.
Contracts anticipate a digit's signature by the point S = R + H(R, P, digit)*P, and a run of outcomes that share their
first digits by the sum of those points. Source: the DLC specification, Oracle.md and NumericOutcomeCompression.md;
ours is added that every nonce proves that the oracle knows its secret (a BIP340 signature over the event), so that
several oracles' points can be summed safely. An oracle of another house announces by the specification's own message
(``dlc_messages``) and proves nothing of the kind: such an event (version 3) stands alone in a contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from btcfi import secp256k1
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import sha256, tagged_hash
from btcfi.oracle.dlc_messages import DigitDescriptor, DigitHash, DlcAnnouncement, DlcEvent, decode_event, signed_as
from btcfi.oracle.fixing import MINUTE, Fixing
from btcfi.oracle.path import Path, check_fits
from btcfi.oracle.quote import BTC_USD
from btcfi.secp256k1 import ORDER
from btcfi.units import CentsPerBtc, Hash32, Slot

PRICE_DIGITS: Final = 18
"""Binary digits of a price in whole dollars: up to $262,143; above it the oracle attests that maximum."""

MAX_DIGITS: Final = 25
"""$33 million: the next digit would not fit the guest's u32 cents."""

CENTS_PER_DOLLAR: Final = 100

_NONCE_TAG: Final = "BTCFi/oracle/nonce/v1"
_EVENT_TAG: Final = "BTCFi/oracle/event/v1"
_PROOF_TAG: Final = "BTCFi/oracle/nonce-proof/v1"
_ANNOUNCEMENT_TAG: Final = "BTCFi/oracle/announcement/v1"
_ATTESTATION_TAG: Final = "DLC/oracle/attestation/v0"


class PriceRounding(Enum):
    """How a price in cents becomes the whole dollars that are signed."""

    DOWN = "down"
    NEAREST = "nearest"
    """Half a dollar goes up."""


FOREIGN: Final = 3
"""The version of an event that an oracle of another house announced by the DLC specification's message."""

OF_PATH: Final = 4
"""The version of an event whose number is made of many minutes: a mean, an index of returns, a rung reached."""

OF_RETURN: Final = 5
"""The version of an event whose digits state a swap's return in steps of its grid (``swaps.bilateral.grid``), no price:
no option is built on one, and no message of an option or query of a price names one."""

EVENT_VERSIONS: Final = (1, 2, FOREIGN, OF_PATH)
"""1: the price of one minute, rounded down. 2: a fixing, to the nearest dollar. 4: the value of a path, each of its
observations a fixing, to the nearest dollar or point. A release that does not know a version refuses it by name."""

DOLLAR_UNITS: Final = ("usd/btc", "btc/usd", "btc-usd", "btcusd")
"""How other oracles write dollars for a bitcoin, whatever the case of the letters; any other unit is refused."""

NO_PRESET: Final = Hash32(bytes(32))
"""The preset of an event of another house: by which rule it fixes its price, its oracle alone knows."""

NO_PROGRAM: Final = Hash32(bytes(32))
"""Of a path's event whose payoff both parties compute without a guest program; of no other."""


class WrongAnnouncementError(BtcfiError):
    """An announcement that nothing may be built on: what is wrong with it."""

    def __init__(self, event: str, problem: str) -> None:
        super().__init__(f"announcement of {event}: {problem}; nothing was signed after it")
        self.event, self.problem = event, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleEvent:
    """What will be attested. Two events that differ in anything have different ids."""

    feed: str
    """Name of the price feed, such as BTC/USD."""
    expiry: Slot
    """The minute whose agreed price counts, the last one of a window."""
    program_hash: Hash32
    """The guest program that turns the price into a payout."""
    preset_hash: Hash32
    """The rules of the price: quorum, outlier bound, mean."""
    digits: int = PRICE_DIGITS
    condition: str = ""
    """When not empty, one more digit stands first: 1 if this condition came true (a barrier was touched), else 0."""
    version: int = 1
    """Of what the event says: 1 stays one minute, rounded down, for ever."""
    fixing: Fixing = MINUTE
    """What is made of the agreed minutes up to the expiry, or of a path up to each of its observations; versions 1 and
    3 know one minute only."""
    dlc_event: bytes = field(default=b"", repr=False)
    """Of version 3 alone: the ``oracle_event`` of the DLC specification, as its oracle signed it."""
    path: Path | None = None
    """Of version 4 alone: what the digits state is this path's value, and no price."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for digits that make no price, names too long, a fixing that the version lacks."""
        if self.version not in {*EVENT_VERSIONS, OF_RETURN}:
            raise InvalidInputError("event version", str(self.version), "1, 2, 3, 4 or 5")
        if self.version == OF_RETURN and self.condition:
            raise InvalidInputError("condition", repr(self.condition), "none in the event of a return")
        if self.version not in {2, OF_PATH} and self.fixing != MINUTE:
            raise InvalidInputError("fixing", str(self.fixing), f"minute, in an event of version {self.version}")
        if not 1 <= self.digits <= MAX_DIGITS:
            raise InvalidInputError("digits", str(self.digits), f"1 to {MAX_DIGITS}")
        for name, text in (("feed", self.feed), ("condition", self.condition)):
            if len(text.encode()) > 255:  # noqa: PLR2004 - one length byte
                raise InvalidInputError(name, f"{len(text.encode())} bytes", "at most 255 bytes")
        if (self.version == FOREIGN) != bool(self.dlc_event):
            raise InvalidInputError("dlc_event", "missing, or in another version", f"in events of version {FOREIGN}")
        if self.dlc_event:
            self._check_foreign(decode_event(self.dlc_event))
        self._check_path()

    def _check_path(self) -> None:
        if (self.version == OF_PATH) != (self.path is not None):
            raise InvalidInputError("path", "missing, or in another version", f"in events of version {OF_PATH}")
        if self.path is not None:
            if self.digits != PRICE_DIGITS:
                raise InvalidInputError("digits", str(self.digits), f"{PRICE_DIGITS} in the event of a path")
            check_fits(self.path, self.expiry, fixing_minutes=self.fixing.minutes)

    def _check_foreign(self, said: DlcEvent) -> None:
        """Check that this event says what the other house's oracle said, and adds the guest program alone."""
        number = dollar_number(said)
        if self.digits != number.digits or int(self.expiry) != int(said.maturity):
            problem = f"{self.digits} digits at {self.expiry}"
            raise InvalidInputError("event", problem, f"{number.digits} at {said.maturity}, as its oracle announced")
        if (self.feed, self.preset_hash, self.condition) != (str(BTC_USD), NO_PRESET, ""):
            expected = f"{BTC_USD}, no preset and no condition in an event of another house"
            raise InvalidInputError("event", f"{self.feed!r}, or a preset or a condition", expected)

    @property
    def signed_digits(self) -> int:
        """Digits that are signed: those of the price, and the condition's."""
        return self.digits + (1 if self.condition else 0)

    @property
    def max_price(self) -> int:
        """The highest price that can be attested, in dollars; it stands for everything above, too."""
        return (1 << self.digits) - 1

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that the id commits to."""
        parts = [bytes([self.version, self.digits]), self.expiry.to_bytes(8), self.program_hash, self.preset_hash]
        texts = [self.feed, self.condition]
        if self.rounding is PriceRounding.NEAREST:
            texts += [str(self.fixing), self.rounding.value]
        if self.path is not None:
            texts.append(str(self.path))
        parts += [bytes([len(text.encode())]) + text.encode() for text in texts]
        return b"".join(parts) + (sha256(self.dlc_event) if self.dlc_event else b"")

    @property
    def rounding(self) -> PriceRounding | None:
        """How the price becomes whole dollars; None where another house's oracle does it, by a rule that it keeps."""
        nearest = PriceRounding.NEAREST
        return {1: PriceRounding.DOWN, 2: nearest, OF_PATH: nearest}.get(self.version)

    @property
    def id(self) -> Hash32:
        """The event's identity."""
        return tagged_hash(_EVENT_TAG, self.to_bytes())

    def outcome(self, price: CentsPerBtc, *, condition: bool = False) -> int:
        """Return the number whose digits are signed: whole dollars by the event's rounding, at most the maximum.

        price: in cents, or the value of a path in its hundredths. Raises InvalidInputError for the event of a return.
        """
        self._check_priced()
        dollars = _dollars(price, self.rounding, self.max_price)
        return dollars | (1 << self.digits if condition and self.condition else 0)

    def price_of(self, outcome: int) -> CentsPerBtc:
        """Return the price that an outcome states, in cents: what the guest is run with. Below $1 that is one cent.

        Raises InvalidInputError for the event of a return.
        """
        self._check_priced()
        return _cents(outcome & self.max_price)

    def _check_priced(self) -> None:
        # an oracle that read dollars into a return would attest the whole gain of every taker
        if self.version == OF_RETURN:
            raise InvalidInputError("event", f"{self.feed}: its digits state a return", "the event of a price")


def attested_price(price: CentsPerBtc, rounding: PriceRounding | None, digits: int) -> CentsPerBtc:
    """Return the price that a contract settles at, in cents, when ``price`` is attested in so many digits."""
    return _cents(_dollars(price, rounding, (1 << digits) - 1))


def _dollars(price: CentsPerBtc, rounding: PriceRounding | None, highest: int) -> int:
    half = CENTS_PER_DOLLAR // 2 if rounding is PriceRounding.NEAREST else 0
    return min((price + half) // CENTS_PER_DOLLAR, highest)


def _cents(dollars: int) -> CentsPerBtc:
    return CentsPerBtc(max(dollars * CENTS_PER_DOLLAR, 1))


def dollar_number(said: DlcEvent) -> DigitDescriptor:
    """Return the number that another house's oracle attests, once it is one of dollars for a bitcoin in binary digits.

    Raises InvalidInputError naming the field that a contract of ours has no use for.
    """
    number, field_name = said.descriptor, "event_descriptor"
    if not isinstance(number, DigitDescriptor):
        raise InvalidInputError(field_name, "is a list of outcomes", "a number by its digits")
    if number.base != 2:  # noqa: PLR2004 - binary
        raise InvalidInputError(f"{field_name}.base", f"{number.base}", "2")
    if number.signed:
        raise InvalidInputError(f"{field_name}.is_signed", "true", "false: a price is not negative")
    if number.unit.lower() not in DOLLAR_UNITS:
        raise InvalidInputError(f"{field_name}.unit", repr(number.unit[:40]), " or ".join(DOLLAR_UNITS))
    if number.precision:
        raise InvalidInputError(f"{field_name}.precision", f"{number.precision}", "0: whole dollars")
    if number.digits > MAX_DIGITS:
        raise InvalidInputError(f"{field_name}.nb_digits", f"{number.digits}", f"1 to {MAX_DIGITS}")
    return number


def digit_values(outcome: int, count: int) -> tuple[int, ...]:
    """Return the binary digits of an outcome, most significant first. Raises InvalidInputError when it is too large."""
    if not 0 <= outcome < 1 << count:
        raise InvalidInputError("outcome", str(outcome), f"0 to {(1 << count) - 1}")
    return tuple((outcome >> (count - 1 - i)) & 1 for i in range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """An oracle's promise to sign one event's digits with these nonces."""

    oracle_key: bytes
    """x-only, 32 bytes."""
    event: OracleEvent
    nonces: tuple[bytes, ...]
    """x-only, one per signed digit."""
    proofs: tuple[bytes, ...]
    """BIP340 signatures by each nonce's key over the event and the digit's place: nobody can choose R after others.

    An oracle of another house gives none.
    """
    signature: bytes
    """BIP340 by the oracle's key over event, nonces and proofs; another house's, over its own ``oracle_event``."""

    @property
    def digit_hash(self) -> DigitHash:
        """How the digits will be signed. Raises WrongAnnouncementError when another house's oracle did not sign it."""
        if self.event.version != FOREIGN:
            return DigitHash.TAGGED
        event = decode_event(self.event.dlc_event)
        mode = signed_as(DlcAnnouncement(signature=self.signature, oracle_key=self.oracle_key, event=event))
        if mode is None:
            raise WrongAnnouncementError(_name(self.event), "the oracle's signature is not valid")
        return mode

    def digest(self) -> Hash32:
        """Return what the oracle signs; of another house's announcement, what tells it from every other."""
        if self.event.version == FOREIGN:
            return tagged_hash(_ANNOUNCEMENT_TAG, self.event.id + self.oracle_key + b"".join(self.nonces))
        return tagged_hash(_ANNOUNCEMENT_TAG, self.event.id + b"".join(self.nonces) + b"".join(self.proofs))


def nonce_secret(secret: bytes, event: OracleEvent, place: int) -> bytes:
    """Return the nonce secret of one digit, with even y: a hash of the oracle's secret, so nothing must be stored.

    One event's nonce signs one digit value only; the ledger of ``attestation.attest`` sees to it.
    """
    seed = tagged_hash(_NONCE_TAG, secret + event.id + place.to_bytes(2))
    return secp256k1.even_secret(seed)


def announce(secret: bytes, event: OracleEvent) -> Announcement:
    """Return the announcement of an event. The same secret and event give the same one."""
    secrets = [nonce_secret(secret, event, place) for place in range(event.signed_digits)]
    nonces = tuple(secp256k1.public_key_xonly(k) for k in secrets)
    proofs = tuple(secp256k1.schnorr_sign(k, _proof_digest(event, place)) for place, k in enumerate(secrets))
    unsigned = Announcement(
        oracle_key=secp256k1.public_key_xonly(secret), event=event, nonces=nonces, proofs=proofs, signature=b""
    )
    return Announcement(
        oracle_key=unsigned.oracle_key,
        event=event,
        nonces=nonces,
        proofs=proofs,
        signature=secp256k1.schnorr_sign(secret, unsigned.digest()),
    )


def _proof_digest(event: OracleEvent, place: int) -> Hash32:
    return tagged_hash(_PROOF_TAG, event.id + place.to_bytes(2))


def check_announcement(announcement: Announcement, *, expected: OracleEvent) -> None:
    """Check that an announcement is for this event and that every key and nonce in it is sound.

    Raises WrongAnnouncementError: another event, wrong number of nonces, a nonce twice, a point not on the curve, a
    nonce without a valid proof, a wrong signature.
    """
    event = announcement.event
    name = _name(event)
    if event != expected:
        raise WrongAnnouncementError(name, f"is for event {event.id.hex()[:16]}, not {expected.id.hex()[:16]}")
    proofs = 0 if event.version == FOREIGN else event.signed_digits
    if (len(announcement.nonces), len(announcement.proofs)) != (event.signed_digits, proofs):
        raise WrongAnnouncementError(name, f"{len(announcement.nonces)} nonces for {event.signed_digits} digits")
    if len(set(announcement.nonces)) != len(announcement.nonces):
        raise WrongAnnouncementError(name, "a nonce stands twice: two digits would reveal the key")
    if not secp256k1.is_xonly_key(announcement.oracle_key):
        raise WrongAnnouncementError(name, "the oracle's key is not on the curve")
    for place, nonce in enumerate(announcement.nonces):
        if not secp256k1.is_xonly_key(nonce):
            raise WrongAnnouncementError(name, f"nonce {place} is not on the curve")
    (_check_foreign if event.version == FOREIGN else _check_ours)(announcement)


def _check_ours(announcement: Announcement) -> None:
    event = announcement.event
    for place, (nonce, proof) in enumerate(zip(announcement.nonces, announcement.proofs, strict=True)):
        if not secp256k1.schnorr_verify(nonce, _proof_digest(event, place), proof):
            raise WrongAnnouncementError(_name(event), f"nonce {place} has no valid proof of knowledge")
    if not secp256k1.schnorr_verify(announcement.oracle_key, announcement.digest(), announcement.signature):
        raise WrongAnnouncementError(_name(event), "the oracle's signature is not valid")


def _check_foreign(announcement: Announcement) -> None:
    if announcement.nonces != decode_event(announcement.event.dlc_event).nonces:
        raise WrongAnnouncementError(_name(announcement.event), "its nonces are not those that its oracle signed")
    _ = announcement.digit_hash  # raises unless the oracle signed it


def check_together(announcements: Sequence[Announcement]) -> None:
    """Check that these oracles' points may be summed. Raises InvalidInputError for another house's beside any other.

    Its nonces prove no knowledge: whoever announced last could have chosen them as what he knows less the others'
    points, and settle alone.
    """
    if len(announcements) > 1 and any(one.event.version == FOREIGN for one in announcements):
        problem = f"{len(announcements)}, one of them of another house without proofs of its nonces"
        raise InvalidInputError("oracles", problem, "such an oracle alone")


def _name(event: OracleEvent) -> str:
    return f"{event.feed} at {event.expiry}"


def digit_digest(value: int, mode: DigitHash = DigitHash.TAGGED) -> Hash32:
    """Return the message that is signed for a digit: the hash of its decimal text."""
    text = str(value).encode()
    return tagged_hash(_ATTESTATION_TAG, text) if mode is DigitHash.TAGGED else sha256(text)


def anticipation_point(oracle_key: bytes, nonce: bytes, message: bytes) -> Any:  # noqa: ANN401 - cffi has no types
    """Return S = R + H(R, P, m)*P in libsecp256k1's form: the point whose secret is the coming signature's s.

    Raises InvalidInputError when the key or the nonce is not on the curve.
    """
    digest = tagged_hash("BIP0340/challenge", nonce + oracle_key + message)
    challenge = (int.from_bytes(digest) % ORDER).to_bytes(32)
    scaled = secp256k1.parse_point(secp256k1.point_multiply(b"\x02" + oracle_key, challenge))
    return secp256k1.sum_points([secp256k1.parse_point(b"\x02" + nonce), scaled])


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitPoints:
    """An announcement's anticipation points, computed once for all contracts on it."""

    announcement: Announcement
    pairs: tuple[tuple[Any, Any], ...] = field(init=False, repr=False, compare=False)
    """For each digit, most significant first, the points of 0 and of 1."""
    _sums: dict[tuple[int, int], Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Compute the points. Raises InvalidInputError when a nonce is not on the curve."""
        key, mode = self.announcement.oracle_key, self.announcement.digit_hash
        messages = [digit_digest(value, mode) for value in (0, 1)]
        pairs = tuple(
            (anticipation_point(key, nonce, messages[0]), anticipation_point(key, nonce, messages[1]))
            for nonce in self.announcement.nonces
        )
        object.__setattr__(self, "pairs", pairs)

    def of_prefix(self, prefix: int, length: int) -> Any:  # noqa: ANN401 - cffi has no types
        """Return the sum of the points of the first ``length`` digits of every outcome that begins with ``prefix``.

        In libsecp256k1's form; sums are kept, so that each further digit costs one addition.
        """
        known = self._sums.get((prefix, length))
        if known is None:
            last = self.pairs[length - 1][prefix & 1]
            known = last if length == 1 else secp256k1.sum_points([self.of_prefix(prefix >> 1, length - 1), last])
            self._sums[prefix, length] = known
        return known
