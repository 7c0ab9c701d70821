"""MuSig2: one signature of several keys. The one module that touches libsecp256k1's musig functions.

Order of a session: aggregate keys, tweak for Taproot, each signer makes a nonce, nonces are aggregated, each signs
once, partial signatures are checked and aggregated. A secret nonce signs once: it is overwritten by the library and
our object refuses a second use. The library ends the whole process for a nonce that is empty or of another key and for
a list of nothing, so all of these are refused here, before it is asked. Source: BIP327.
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
"""libsecp256k1's own form: 4 bytes of a mark, two scalars, a point; only ever written encrypted
(``btcfi.adapters.nonces``)."""

POINT_SIZE: Final = 33
DIGEST_SIZE: Final = 32
_SEALED_SIZE: Final = SECRET_NONCE_SIZE + PUBLIC_NONCE_SIZE + POINT_SIZE
_MARK: Final = bytes.fromhex("220edcf1")
"""How the library's form of a secret nonce begins. Source: ``secp256k1_musig_secnonce_magic``."""

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
        if len(tweak) != secp256k1.SCALAR_SIZE or not function(CONTEXT, ffi.NULL, self.cache, tweak):
            raise InvalidInputError("tweak", "not a scalar, or the sum is infinity", "32 bytes, below n")

    def taproot_tweak(self, root: bytes) -> None:
        """Make this the output key of a Taproot tree with this root. Source: BIP341."""
        self.tweak(tweak_hash(self.xonly, root), xonly=True)

    def parsed(self, signer: int) -> Any:  # noqa: ANN401 - cffi has no types
        """Return signer's key in libsecp256k1's form."""
        return self._parsed[signer]


class SecretNonce:
    """A nonce pair that signs once, for one key and, where it was made for one, one message."""

    __slots__ = ("_nonce", "key", "message", "public")

    def __init__(
        self, *, secret: bytes, entropy: bytes, message: bytes | None = None, aggregate: KeyAggregate | None = None
    ) -> None:
        """Make a nonce from 32 bytes of fresh entropy: never the same twice, or the key is lost.

        The key, the message and the aggregate are hashed in as a second line of defence. message: 32 bytes; a nonce
        that has one signs no other. Raises InvalidInputError. Source: BIP327, NonceGen.
        """
        if len(entropy) != DIGEST_SIZE or not any(entropy):
            raise InvalidInputError("nonce entropy", f"{len(entropy)} bytes", "32 fresh random bytes")
        self.message = None if message is None else secp256k1.check_size(message, "message", "a 32-byte digest")
        """What it may sign; None: anything."""
        self._nonce: Any = ffi.new("secp256k1_musig_secnonce*")
        public = ffi.new("secp256k1_musig_pubnonce*")
        used = ffi.new("unsigned char[32]", entropy)  # the library overwrites it
        key = secp256k1.generator_multiple(secret)
        cache = aggregate.cache if aggregate else ffi.NULL
        self.key = secp256k1.serialize_point(key)
        """The signer's public key, compressed."""
        made = lib.secp256k1_musig_nonce_gen(
            CONTEXT, self._nonce, public, used, secret, key, self.message or ffi.NULL, cache, ffi.NULL
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
        """Return a nonce that ``seal`` gave away. The caller destroys the sealed form before this is used.

        Raises InvalidInputError unless its secrets are those of its public halves, and its key the one it is for.
        """
        if len(sealed) not in (_SEALED_SIZE, _SEALED_SIZE + DIGEST_SIZE):
            sizes = f"{_SEALED_SIZE} bytes, or {_SEALED_SIZE + DIGEST_SIZE} with a message"
            raise InvalidInputError("sealed nonce", f"{len(sealed)} bytes", sizes)
        secret, rest = sealed[:SECRET_NONCE_SIZE], sealed[SECRET_NONCE_SIZE:]
        public, key = rest[:PUBLIC_NONCE_SIZE], rest[PUBLIC_NONCE_SIZE:][:POINT_SIZE]
        _check_secret_nonce(secret, public, key)
        nonce = cls.__new__(cls)
        nonce._nonce = ffi.new("secp256k1_musig_secnonce*")  # noqa: SLF001 - our own class
        ffi.memmove(nonce._nonce, secret, SECRET_NONCE_SIZE)  # noqa: SLF001
        nonce.public, nonce.key, nonce.message = public, key, sealed[_SEALED_SIZE:] or None
        return nonce

    @classmethod
    def in_the_open(cls, key: bytes) -> SecretNonce:
        """Return the nonce whose secrets everybody knows: 1 and 1.

        Only for a key whose secret its one signature may tell: others can then sign before its holder is known, since
        they need nothing of it. Their own nonces stay secret, so to them it is any other signer's. key: compressed.
        """
        one = (1).to_bytes(secp256k1.SCALAR_SIZE)
        half = secp256k1.serialize_point(secp256k1.generator_multiple(one))
        point = bytes(ffi.buffer(secp256k1.parse_point(key)))
        return cls.from_sealed(_MARK + one + one + point + half + half + key)

    def seal(self) -> bytes:
        """Give the nonce away as bytes to be encrypted, between two runs of a program; this object is used up."""
        return bytes(ffi.buffer(self.take())) + self.public + self.key + (self.message or b"")

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
        secp256k1.check_size(message, "message", "a 32-byte digest")
        if len(nonces) != len(aggregate.keys):
            raise InvalidInputError("nonces", f"{len(nonces)}", f"one per key, {len(aggregate.keys)}")
        self._aggregate, self._message = aggregate, message
        self._nonces = [_parse_nonce(nonce) for nonce in nonces]
        total = _sum_nonces(self._nonces)
        self._session = ffi.new("secp256k1_musig_session*")
        if not lib.secp256k1_musig_nonce_process(CONTEXT, self._session, total, message, aggregate.cache):
            raise InvalidInputError("nonces", "refused by the library", "two points of the curve for each key")
        self._signers = list(zip(aggregate.keys, nonces, strict=True))

    def sign(self, secret: bytes, nonce: SecretNonce) -> bytes:
        """Return this signer's 32-byte partial signature; the nonce is used up.

        Raises NonceUsedError; InvalidInputError, and the nonce stays unused, unless this session names the secret's key
        with this nonce, and the nonce was made for this key and message.
        """
        self._check_signer(secret, nonce)
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

    def _check_signer(self, secret: bytes, nonce: SecretNonce) -> None:
        key = secp256k1.public_key_compressed(secret)
        if nonce.key != key:
            raise InvalidInputError("nonce", "was made for another key", "a nonce of the key that signs")
        if nonce.message not in (None, self._message):
            raise InvalidInputError("nonce", "was made for another message", "a fresh nonce for this message")
        if (key, nonce.public) not in self._signers:
            raise InvalidInputError("secret key", "this session has no such key and nonce", "a signer of the session")

    def partial_is_valid(self, signer: int, partial: bytes) -> bool:
        """Return whether signer's partial signature holds in this session; no signer's holds in none."""
        if not 0 <= signer < len(self._nonces):
            return False
        parsed = ffi.new("secp256k1_musig_partial_sig*")
        if len(partial) != PARTIAL_SIZE or not lib.secp256k1_musig_partial_sig_parse(CONTEXT, parsed, partial):
            return False
        key, nonce = self._aggregate.parsed(signer), self._nonces[signer]
        return bool(
            lib.secp256k1_musig_partial_sig_verify(CONTEXT, parsed, nonce, key, self._aggregate.cache, self._session)
        )

    def aggregate(self, partials: Sequence[bytes]) -> bytes:
        """Return the 64-byte BIP340 signature. Raises WrongPartialError naming the signer, InvalidInputError."""
        if len(partials) != len(self._nonces):
            raise InvalidInputError("partial signatures", f"{len(partials)}", f"one per key, {len(self._nonces)}")
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


def _check_secret_nonce(secret: bytes, public: bytes, key: bytes) -> None:
    """Refuse the library's form of a secret nonce unless it is that of these public halves and this key."""
    start = len(_MARK)
    scalars = [secret[at : at + secp256k1.SCALAR_SIZE] for at in (start, start + secp256k1.SCALAR_SIZE)]
    halves = [secp256k1.serialize_point(secp256k1.generator_multiple(one)) for one in scalars]
    point = bytes(ffi.buffer(secp256k1.parse_point(key)))
    if secret[:start] != _MARK or b"".join(halves) != public or secret[start + 2 * secp256k1.SCALAR_SIZE :] != point:
        raise InvalidInputError("sealed nonce", "its secret, public half and key do not belong together", "one nonce")


def _parse_nonce(nonce: bytes) -> Any:  # noqa: ANN401 - cffi has no types
    parsed = ffi.new("secp256k1_musig_pubnonce*")
    if len(nonce) != PUBLIC_NONCE_SIZE or not lib.secp256k1_musig_pubnonce_parse(CONTEXT, parsed, nonce):
        raise InvalidInputError("public nonce", f"{nonce.hex()[:24]}…", "two points of the curve, 66 bytes")
    return parsed
