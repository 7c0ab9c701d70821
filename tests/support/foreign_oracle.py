"""An oracle of another house: keys, nonces and messages as other wallets make them, none of ours among them."""

from dataclasses import dataclass, field

from btcfi import secp256k1
from btcfi.hashes import sha256, tagged_hash
from btcfi.oracle import dlc_messages
from btcfi.oracle.attestation import sign_with_nonce
from btcfi.oracle.dlc_messages import DigitDescriptor, DigitHash, DlcAnnouncement, DlcAttestation, DlcEvent
from btcfi.units import UnixSeconds

SECRET = b"\x77" * 32
KEY = secp256k1.public_key_xonly(SECRET)
MATURITY = 60 * 29_000_000


def number(**changes):
    """Dollars for a bitcoin in 18 binary digits, with changes."""
    return DigitDescriptor(
        **({"base": 2, "signed": False, "unit": "usd/btc", "precision": 0, "digits": 18} | changes)
    )  # fmt: skip


def nonce_secrets(count, of=b"nonce"):
    return [secp256k1.even_secret(sha256(of + place.to_bytes(2))) for place in range(count)]


@dataclass
class ForeignOracle:
    """One event of it, announced and attested in either of the two ways that wallets hash."""

    descriptor: object = field(default_factory=number)
    mode: DigitHash = DigitHash.TAGGED
    maturity: int = MATURITY
    name: str = "btcusd at noon"
    secret: bytes = SECRET

    def __post_init__(self):
        self.nonces = nonce_secrets(self.descriptor.nonces)
        self.event = DlcEvent(
            nonces=tuple(map(secp256k1.public_key_xonly, self.nonces)), maturity=UnixSeconds(self.maturity),
            descriptor=self.descriptor, name=self.name,
        )  # fmt: skip

    def announcement(self):
        tlv = dlc_messages.encode_event(self.event)
        # the plain family signs the value alone: after the type and the length, three bytes each here
        digest = tagged_hash("DLC/oracle/announcement/v0", tlv) if self.mode is DigitHash.TAGGED else sha256(tlv[6:])
        return DlcAnnouncement(
            signature=secp256k1.schnorr_sign(self.secret, digest), event=self.event,
            oracle_key=secp256k1.public_key_xonly(self.secret),
        )  # fmt: skip

    def attestation(self, dollars):
        texts = tuple(f"{dollars:0{self.descriptor.digits}b}")
        hashed = [
            tagged_hash("DLC/oracle/attestation/v0", text.encode()) if self.mode is DigitHash.TAGGED
            else sha256(text.encode())
            for text in texts
        ]  # fmt: skip
        signatures = [sign_with_nonce(self.secret, k, digest) for k, digest in zip(self.nonces, hashed, strict=True)]
        return DlcAttestation(
            name=self.name, oracle_key=secp256k1.public_key_xonly(self.secret), signatures=tuple(signatures),
            outcomes=texts,
        )  # fmt: skip
