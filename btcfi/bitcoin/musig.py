"""MuSig2: one signature of several keys. The one module that touches libsecp256k1's musig functions.

Order of a session: aggregate keys, tweak for Taproot, each signer makes a nonce, nonces are aggregated, each signs
once, partial signatures are checked and aggregated. A secret nonce signs once: it is overwritten by the library and
our object refuses a second use. Source: BIP327.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from coincurve._libsecp256k1 import ffi, lib  # type: ignore[import-not-found]  # compiled; BIP327 has no Python class

from btcfi import secp256k1
from btcfi.bitcoin.taproot import tweak_hash
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.secp256k1 import CONTEXT

PUBLIC_NONCE_SIZE: Final = 66
SECRET_NONCE_SIZE: Final = 132
"""libsecp256k1's own form, opaque; only ever written encrypted (``btcfi.adapters.keystore``)."""

PARTIAL_SIZE: Final = 32

if not hasattr(lib, "secp256k1_musig_pubkey_agg"):
    raise ImportError("coincurve's libsecp256k1 has no musig module; the lock file pins coincurve 21.0.0, which has")


class NonceUsedError(BtcfiError):
    """A secret nonce has signed already: a second signature with it would reveal the key."""

    def __init__(self) -> None:
        super().__init__("this nonce has signed already; start a new session with a fresh one")


class WrongPartialError(BtcfiError):
    """A signer's partial signature does not verify: the one who cheats or erred is known by index."""

    def __init__(self, signer: int) -> None:
        super().__init__(f"partial signature of signer {signer} is not valid; the session is abandoned")
        self.signer = signer


class KeyAggregate:
    """Several compressed keys as one x-only key; the order of the keys matters. Source: BIP327, KeyAgg."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise InvalidInputError("keys", "none", "at least one key")
        self.keys = tuple(keys)
        self._parsed = [secp256k1.parse_point(key) for key in keys]
        self.cache = ffi.new("secp256k1_musig_keyagg_cache*")
        """libsecp256k1's state, tweaks included."""
        xonly = ffi.new("secp256k1_xonly_pubkey*")
        if not lib.secp256k1_musig_pubkey_agg(CONTEXT, xonly, self.cache, self._parsed, len(keys)):
            raise InvalidInputError("keys", "their aggregate is infinity", "independent keys")

    @property
    def point(self) -> bytes:
        """The aggregate with all tweaks so far, compressed."""
        point = ffi.new("secp256k1_pubkey*")
        lib.secp256k1_musig_pubkey_get(CONTEXT, point, self.cache)
        return secp256k1.serialize_point(point)

    @property
    def xonly(self) -> bytes:
        """The aggregate with all tweaks so far, x-only."""
        return self.point[1:]

    def tweak(self, tweak: bytes, *, xonly: bool) -> None:
        """Add tweak*G, after making y even if ``xonly``. Raises InvalidInputError. Source: BIP327, ApplyTweak."""
        function = lib.secp256k1_musig_pubkey_xonly_tweak_add if xonly else lib.secp256k1_musig_pubkey_ec_tweak_add
        if len(tweak) != 32 or not function(CONTEXT, ffi.NULL, self.cache, tweak):  # noqa: PLR2004 - a scalar
            raise InvalidInputError("tweak", "not a scalar, or the sum is infinity", "32 bytes, below n")

    def taproot_tweak(self, root: bytes) -> None:
        """Make this the output key of a Taproot tree with this root. Source: BIP341."""
        self.tweak(tweak_hash(self.xonly, root), xonly=True)

    def parsed(self, signer: int) -> Any:  # noqa: ANN401 - cffi has no types
        """Return signer's key in libsecp256k1's form."""
        return self._parsed[signer]


class SecretNonce:
    """A nonce pair that signs once."""

    __slots__ = ("_nonce", "public")

    def __init__(
        self, *, secret: bytes, entropy: bytes, message: bytes | None = None, aggregate: KeyAggregate | None = None
    ) -> None:
        """Make a nonce from 32 bytes of fresh entropy: never the same twice, or the key is lost.

        The key, the message and the aggregate are hashed in as a second line of defence. Source: BIP327, NonceGen.
        """
        if len(entropy) != 32 or not any(entropy):  # noqa: PLR2004 - 256 bits
            raise InvalidInputError("nonce entropy", f"{len(entropy)} bytes", "32 fresh random bytes")
        self._nonce: Any = ffi.new("secp256k1_musig_secnonce*")
        public = ffi.new("secp256k1_musig_pubnonce*")
        used = ffi.new("unsigned char[32]", entropy)  # the library overwrites it
        key = secp256k1.generator_multiple(secret)
        cache = aggregate.cache if aggregate else ffi.NULL
        made = lib.secp256k1_musig_nonce_gen(
            CONTEXT, self._nonce, public, used, secret, key, message or ffi.NULL, cache, ffi.NULL
        )
        if not made:
            raise InvalidInputError("nonce entropy", "refused by the library", "32 fresh random bytes")
        serialized = ffi.new(f"unsigned char[{PUBLIC_NONCE_SIZE}]")
        lib.secp256k1_musig_pubnonce_serialize(CONTEXT, serialized, public)
        self.public = bytes(ffi.buffer(serialized))
        """What the other signers get, 66 bytes."""

    def __repr__(self) -> str:
        return f"SecretNonce({self.public[:8].hex()}…)"

    @classmethod
    def from_sealed(cls, sealed: bytes) -> SecretNonce:
        """Return a nonce that ``seal`` gave away. The caller destroys the sealed form before this is used."""
        if len(sealed) != SECRET_NONCE_SIZE + PUBLIC_NONCE_SIZE:
            size = SECRET_NONCE_SIZE + PUBLIC_NONCE_SIZE
            raise InvalidInputError("sealed nonce", f"{len(sealed)} bytes", f"{size} bytes")
        raw = ffi.new("secp256k1_musig_secnonce*")
        ffi.memmove(raw, sealed[:SECRET_NONCE_SIZE], SECRET_NONCE_SIZE)
        nonce = cls.__new__(cls)
        nonce._nonce = raw  # noqa: SLF001 - our own class
        nonce.public = sealed[SECRET_NONCE_SIZE:]
        return nonce

    def seal(self) -> bytes:
        """Give the nonce away as bytes to be encrypted, between two runs of a program; this object is used up."""
        return bytes(ffi.buffer(self.take())) + self.public

    def take(self) -> Any:  # noqa: ANN401 - cffi has no types
        """Return the library's form, once. Raises NonceUsedError."""
        nonce, self._nonce = self._nonce, None
        if nonce is None:
            raise NonceUsedError
        return nonce


def aggregate_nonces(nonces: Sequence[bytes]) -> bytes:
    """Return the 66-byte aggregate of public nonces, which a coordinator may send instead of all of them.

    Raises InvalidInputError for a nonce that is not two points. Source: BIP327, NonceAgg.
    """
    total = _sum_nonces([_parse_nonce(nonce) for nonce in nonces])
    out = ffi.new(f"unsigned char[{PUBLIC_NONCE_SIZE}]")
    lib.secp256k1_musig_aggnonce_serialize(CONTEXT, out, total)
    return bytes(ffi.buffer(out))


def sort_keys(keys: Sequence[bytes]) -> list[bytes]:
    """Return compressed keys in BIP327's order, for parties that have not agreed on one. Source: BIP327, KeySort."""
    return sorted(keys)


class Session:
    """One message under one key aggregate and one set of nonces. Source: BIP327, "Session Context"."""

    def __init__(self, aggregate: KeyAggregate, nonces: Sequence[bytes], message: bytes) -> None:
        """Take the public nonces in the order of the keys. Raises InvalidInputError for one that is not two points."""
        if len(message) != 32:  # noqa: PLR2004 - the library signs digests
            raise InvalidInputError("message", f"{len(message)} bytes", "a 32-byte digest")
        if len(nonces) != len(aggregate.keys):
            raise InvalidInputError("nonces", f"{len(nonces)}", f"one per key, {len(aggregate.keys)}")
        self._aggregate, self._message = aggregate, message
        self._nonces = [_parse_nonce(nonce) for nonce in nonces]
        total = _sum_nonces(self._nonces)
        self._session = ffi.new("secp256k1_musig_session*")
        lib.secp256k1_musig_nonce_process(CONTEXT, self._session, total, message, aggregate.cache)

    def sign(self, secret: bytes, nonce: SecretNonce) -> bytes:
        """Return this signer's 32-byte partial signature; the nonce is used up. Raises NonceUsedError."""
        keypair, partial = ffi.new("secp256k1_keypair*"), ffi.new("secp256k1_musig_partial_sig*")
        if not lib.secp256k1_keypair_create(CONTEXT, keypair, secret):
            raise InvalidInputError("secret key", "not a scalar of secp256k1", "32 bytes, above 0 and below n")
        if not lib.secp256k1_musig_partial_sign(
            CONTEXT, partial, nonce.take(), keypair, self._aggregate.cache, self._session
        ):
            raise NonceUsedError
        out = ffi.new("unsigned char[32]")
        lib.secp256k1_musig_partial_sig_serialize(CONTEXT, out, partial)
        return bytes(ffi.buffer(out))

    def partial_is_valid(self, signer: int, partial: bytes) -> bool:
        """Return whether signer's partial signature holds in this session."""
        parsed = ffi.new("secp256k1_musig_partial_sig*")
        if len(partial) != PARTIAL_SIZE or not lib.secp256k1_musig_partial_sig_parse(CONTEXT, parsed, partial):
            return False
        key, nonce = self._aggregate.parsed(signer), self._nonces[signer]
        return bool(
            lib.secp256k1_musig_partial_sig_verify(CONTEXT, parsed, nonce, key, self._aggregate.cache, self._session)
        )

    def aggregate(self, partials: Sequence[bytes]) -> bytes:
        """Return the 64-byte BIP340 signature. Raises WrongPartialError naming the signer."""
        parsed = []
        for signer, partial in enumerate(partials):
            if not self.partial_is_valid(signer, partial):
                raise WrongPartialError(signer)
            one = ffi.new("secp256k1_musig_partial_sig*")
            lib.secp256k1_musig_partial_sig_parse(CONTEXT, one, partial)
            parsed.append(one)
        out = ffi.new("unsigned char[64]")
        lib.secp256k1_musig_partial_sig_agg(CONTEXT, out, self._session, parsed, len(parsed))
        signature = bytes(ffi.buffer(out))
        if not secp256k1.schnorr_verify(self._aggregate.xonly, self._message, signature):
            raise WrongPartialError(len(partials))
        return signature


def _sum_nonces(parsed: Sequence[Any]) -> Any:  # noqa: ANN401 - cffi has no types
    if not parsed:
        raise InvalidInputError("nonces", "none", "at least one")
    total = ffi.new("secp256k1_musig_aggnonce*")
    lib.secp256k1_musig_nonce_agg(CONTEXT, total, parsed, len(parsed))
    return total


def _parse_nonce(nonce: bytes) -> Any:  # noqa: ANN401 - cffi has no types
    parsed = ffi.new("secp256k1_musig_pubnonce*")
    if len(nonce) != PUBLIC_NONCE_SIZE or not lib.secp256k1_musig_pubnonce_parse(CONTEXT, parsed, nonce):
        raise InvalidInputError("public nonce", f"{nonce.hex()[:24]}…", "two points of the curve, 66 bytes")
    return parsed
