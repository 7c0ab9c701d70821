"""Signing a fan-out before it is funded, checking the others' signatures, and finishing them by an attestation.

An owner gives one pre-signature a slot and set of oracles, 65 bytes each. Nobody funds a margin before it holds every
other owner's and has checked them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from btcfi import secp256k1
from btcfi.bitcoin import adaptor
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE, AdaptorKey, WrongAdaptorError
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import Transaction
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.option import WrongSignatureError
from btcfi.contracts.settle import agreeing_of, secret_of
from btcfi.errors import InvalidInputError
from btcfi.oracle.attestation import Attestation
from btcfi.swaps.fanout.graph import HASH_TYPES, FanOut, Slot, Spend
from btcfi.units import Sats


def presign(fan: FanOut, signer: int, secret: bytes) -> bytes:
    """Return an owner's pre-signatures, concatenated, in the order of ``fan.slots_of``.

    Raises InvalidInputError for another's secret.
    """
    key = AdaptorKey(secret)
    if key.public != fan.terms.owners[signer].key[1:]:
        raise InvalidInputError("secret key", f"is not owner {signer}'s", "the secret of its key in the terms")
    return b"".join(
        key.presign(fan.digests[slot], fan.point(slot, subset))
        for slot in fan.slots_of(signer)
        for subset in fan.subsets
    )


def check_presignatures(fan: FanOut, signer: int, presignatures: bytes) -> None:
    """Check what ``presign`` returned. Raises WrongAdaptorError naming the first that is wrong."""
    slots, public, at = fan.slots_of(signer), fan.terms.owners[signer].key[1:], 0
    expected = len(slots) * len(fan.subsets)
    if len(presignatures) != expected * ADAPTOR_SIZE:
        have = len(presignatures) / ADAPTOR_SIZE
        raise WrongAdaptorError(f"owner {signer}: {have:g} signatures instead of {expected}, as a set")
    for slot in slots:
        for subset in fan.subsets:
            one = presignatures[at : at + ADAPTOR_SIZE]
            if not adaptor.presignature_is_valid(public, fan.digests[slot], fan.point(slot, subset), one):
                what = f"{slot.spend.value} of owner {slot.owner} at the digits {slot.prefix:0{slot.length}b}"
                raise WrongAdaptorError(f"owner {signer}, {what}, oracles {subset}")
            at += ADAPTOR_SIZE


@dataclass(frozen=True, kw_only=True)
class Attested:
    """A book whose week is attested, with all owners' pre-signatures: what can be done now."""

    fan: FanOut
    presignatures: Mapping[int, bytes]
    """By the owner's place."""
    outcome: int
    subset: tuple[int, ...]
    attestations: tuple[Attestation, ...]

    @classmethod
    def of(
        cls, fan: FanOut, presignatures: Mapping[int, bytes], attestations: Sequence[Attestation]
    ) -> Attested:  # fmt: skip
        """Return what the oracles' attestations allow. Raises TooFewAttestationsError, WrongAttestationError."""
        outcome, subset, chosen = agreeing_of(fan.terms.announcements, fan.terms.threshold, attestations)
        return cls(fan=fan, presignatures=presignatures, outcome=outcome, subset=subset, attestations=chosen)

    @property
    def profits(self) -> tuple[int, ...]:
        """What each owner has won."""
        return self.fan.terms.profits(self.outcome)

    def settle(self, owner: int) -> Transaction:
        """Return the SETTLE of a loser's margin, whole: anybody who holds the signatures may send it after the lock."""
        transaction = self.fan.settle(owner, self.outcome)
        signatures = self._finished(Spend.SETTLE, owner)
        return transaction.with_witness(0, self._witness(owner, signatures))

    def burn(
        self, owner: int, secret: bytes, *, fee: Sats, added: Sequence[tuple[Coin, TaprootKey]] = ()
    ) -> Transaction:  # fmt: skip
        """Return the BURN of a loser's own margin, whole; ``added``: further coins of its own with their keys.

        Raises InsufficientFundsError, InvalidInputError for an owner who owes nothing.
        """
        margin, coins = self.fan.terms.margins[owner], [coin for coin, _ in added]
        spent = [coin.output for coin in coins]
        transaction = margin.burn_with_change(
            self.fan.coins[owner], self.fan.debit(owner, self.outcome), added=coins,
            change_script=self.fan.terms.owners[owner].script, fee=fee,
        )  # fmt: skip
        own = secp256k1.schnorr_sign(secret, margin.digest(transaction, added=spent))
        whole = transaction.with_witness(0, self._witness(owner, {**self._finished(Spend.BURN, owner), owner: own}))
        for index, (_, key) in enumerate(added, 1):
            whole = whole.with_witness(index, [key.sign_input(whole, index, [margin.txout, *spent])])
        return whole

    def release(self, owner: int, secret: bytes, *, fee: Sats) -> Transaction:
        """Return the RELEASE of a margin whose owner owes nothing. Raises InvalidInputError for one who does."""
        signatures, transaction = self._finished(Spend.RELEASE, owner), self.fan.release(owner, fee=fee)
        own = secp256k1.schnorr_sign(secret, self.fan.terms.margins[owner].digest(transaction))
        return transaction.with_witness(0, self._witness(owner, {**signatures, owner: own}))

    def _witness(self, owner: int, signatures: Mapping[int, bytes]) -> tuple[bytes, ...]:
        return self.fan.terms.margins[owner].witness([signatures[place] for place in sorted(signatures)])

    def _finished(self, spend: Spend, owner: int) -> dict[int, bytes]:
        """Return the signatures of those who pre-signed a spend, each verified."""
        fan = self.fan
        slot = fan.slot_at(spend, owner, self.outcome)
        secret, digest = secret_of(self.attestations, slot.length), fan.digests[slot]
        done = {}
        for signer, one in enumerate(fan.terms.owners):
            if not slot.signed_by(signer):
                continue
            signature = adaptor.adapt(self._presignature(signer, slot), secret)
            if not secp256k1.schnorr_verify(one.key[1:], digest, signature):
                raise WrongSignatureError(party=f"owner {signer}", what=f"{spend.value} of owner {owner}")
            done[signer] = signature + HASH_TYPES[spend]
        return done

    def _presignature(self, signer: int, slot: Slot) -> bytes:
        place = self.fan.places[signer][slot] * len(self.fan.subsets) + self.fan.subsets.index(self.subset)
        return self.presignatures[signer][place * ADAPTOR_SIZE : (place + 1) * ADAPTOR_SIZE]
