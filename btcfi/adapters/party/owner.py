"""The owner of a party's folder: by which identity key it is known here, and which mandate it has signed last.

The identity key is in a keystore of its own (``identity.json``), which the running party never opens: it knows the
public half alone. That and the number below which no mandate counts any more are sealed under the party's keystore, so
that whoever can write into the folder, but has no passphrase, can put no other owner there and extend no mandate.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag

from btcfi.adapters.files import read_untrusted, read_untrusted_json, write_private
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.store import PartyStore
from btcfi.contracts.mandate import (
    Authority,
    Mandate,
    SignedMandate,
    Situation,
    WrongMandateError,
    check_mandate,
    decode_signed_mandate,
    encode_signed_mandate,
)
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError

MAX_MANDATE_BYTES: Final = 1 << 16
_PURPOSE: Final = b"BTCFi/party/owner/v1"
_NONCE: Final = 12

SIGN_ONE: Final = "Make one with `btcfi party mandate new` and sign it with `btcfi party mandate sign`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What is sealed: the owner's identity, and the least number that a mandate must have."""

    identity: bytes
    """x-only, 32 bytes."""
    least: int


class Owner:
    """The owner as this folder knows it."""

    def __init__(self, store: PartyStore, keystore: Keystore) -> None:
        self._pin_file, self._mandate_file = store.folder / "owner.sealed", store.folder / "mandate.json"
        self._box = keystore.box()

    # ---- what the running party asks

    def authority(self, situation: Situation) -> Authority:
        """Return the right to sign in this situation; each signing function checks it. Raises WrongMandateError."""
        return Authority(signed=self.mandate(), identity=self.pin().identity, situation=situation)

    def mandate(self) -> SignedMandate:
        """Return the mandate in force. Raises WrongMandateError when there is none, or it is not the owner's."""
        pin = self.pin()
        try:
            stored = read_untrusted_json(self._mandate_file, at_most=MAX_MANDATE_BYTES, what="mandate")
        except NotFoundError as e:
            raise WrongMandateError("there is none", SIGN_ONE) from e
        signed = decode_signed_mandate(stored)
        check_mandate(signed, pin.identity)
        if signed.mandate.number < pin.least:
            raise WrongMandateError(f"number {signed.mandate.number} is revoked or replaced", SIGN_ONE)
        return signed

    def pin(self) -> Pin:
        """Return what is sealed. Raises WrongMandateError when the folder has no owner yet, InvalidInputError."""
        try:
            raw = read_untrusted(self._pin_file, at_most=MAX_MANDATE_BYTES, what="owner of a folder")
        except NotFoundError as e:
            raise WrongMandateError("the folder knows no owner", "`btcfi party init` makes an identity.") from e
        try:
            said = json.loads(self._box.decrypt(raw[:_NONCE], raw[_NONCE:], _PURPOSE))
        except (InvalidTag, ValueError) as e:
            expected = "the file that `btcfi party init` wrote under this keystore"
            raise InvalidInputError(self._pin_file.name, "was changed, or is another keystore's", expected) from e
        return Pin(identity=bytes.fromhex(said["identity"]), least=said["least"])

    @property
    def known(self) -> bool:
        """Whether the folder has an owner: one of an earlier release has none."""
        return self._pin_file.exists()

    # ---- what the owner's own commands do

    def adopt(self, identity: bytes) -> None:
        """Know an owner by this identity from now on. Mandates of the identity before do not count any more."""
        if self.known and self.pin().identity == identity:
            return
        self._seal(Pin(identity=identity, least=self.next_number() if self.known else 1))

    def install(self, signed: SignedMandate) -> None:
        """Put a mandate in force; the one in force again changes nothing.

        Raises WrongMandateError for another's, or for one with a number that was used: two mandates of one number
        could be changed for each other by whoever can write into the folder.
        """
        pin = self.pin()
        check_mandate(signed, pin.identity)
        self.check_number(signed.mandate)
        body = json.dumps(encode_signed_mandate(signed), indent=1).encode() + b"\n"
        write_private(self._mandate_file, body)
        self._seal(Pin(identity=pin.identity, least=signed.mandate.number))

    def check_number(self, mandate: Mandate) -> None:
        """Raise WrongMandateError for a mandate whose number was used, and that is not the one in force."""
        current = self.in_force()
        if mandate.number < self.next_number() and (current is None or current.mandate != mandate):
            problem = f"number {mandate.number} was used or revoked"
            raise WrongMandateError(problem, f"The next number is {self.next_number()}.")

    def revoke(self) -> int:
        """Take the mandate back: nothing is signed until there is another. Returns the number that no longer counts.

        Raises WrongMandateError when there is none. One that cannot be read is taken back, too.
        """
        pin, current = self.pin(), self.in_force()
        if current is None and not self._mandate_file.exists():
            raise WrongMandateError("there is none", SIGN_ONE)
        number = pin.least if current is None else current.mandate.number
        self._seal(Pin(identity=pin.identity, least=number + 1))
        return number

    def in_force(self) -> SignedMandate | None:
        """Return the mandate in force, None when there is none that counts. It may have expired."""
        try:
            return self.mandate()
        except BtcfiError:
            return None

    @property
    def taken_back(self) -> bool:
        """Whether the mandate that lies here is revoked or replaced. One that cannot be read is not: it is lost."""
        try:
            stored = read_untrusted_json(self._mandate_file, at_most=MAX_MANDATE_BYTES, what="mandate")
            return decode_signed_mandate(stored).mandate.number < self.pin().least
        except BtcfiError:
            return False

    def next_number(self) -> int:
        """Return the number of the next mandate."""
        current = self.in_force()
        return self.pin().least if current is None else current.mandate.number + 1

    def _seal(self, pin: Pin) -> None:
        random = secrets.token_bytes(_NONCE)
        body = json.dumps({"identity": pin.identity.hex(), "least": pin.least}).encode()
        write_private(self._pin_file, random + self._box.encrypt(random, body, _PURPOSE))
