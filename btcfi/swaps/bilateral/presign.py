"""What both sides sign before the week begins, how it is checked, and what an attestation completes.

    both   ``presign``: each outcome's SETTLE; each BURN by which the other would destroy what it owes me; the other's
           RELEASE where it owes me nothing
    both   ``check``: every one of the other's, before anything of mine stands in a funding
    then   ``graph.sign_funding``, and after the attestation ``settle``, ``burn``, ``release``; ``give_back`` after
           nine days of silence

BURN is pre-signed by the creditor with SINGLE | ANYONECANPAY over the margin and the output that pays nobody, and
signed by the debtor when it burns: the creditor cannot burn, the debtor destroys exactly what is attested, adds coins
and takes change as it likes, and nobody else has an output in it that could pin it. RELEASE is pre-signed with NONE |
ANYONECANPAY: what becomes of a margin whose owner owes nothing is its owner's affair.

The nonce of each pre-signature hangs on the key, the message and the point (``bitcoin.adaptor``), so nothing is signed
twice with one. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin import adaptor
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE, AdaptorKey, WrongAdaptorError
from btcfi.bitcoin.fees import SatsPerKvb, fee_for, replacement_fee
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.option import WrongSignatureError
from btcfi.contracts.settle import secret_of
from btcfi.errors import InvalidInputError
from btcfi.swaps.bilateral.graph import Graph
from btcfi.swaps.bilateral.grid import Prefix, begins_with, buckets, owes_nothing
from btcfi.swaps.bilateral.terms import Outcome, Owner
from btcfi.swaps.contract import NOTHING
from btcfi.swaps.errors import Guard, SwapRefusedError
from btcfi.swaps.onchain import BURN_TYPE, RELEASE_TYPE
from btcfi.units import Hash32, Sats, UnixSeconds

_SIGNATURE: Final = bytes(64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presignatures:
    """What one side signs before the week: pre-signatures of 65 bytes, by return or prefix, then by set of oracles.

    Returns ascend, the one at which nothing is owed left out.
    """

    settle: bytes
    burn: bytes
    """Of the returns at which the signer is the creditor."""
    release: bytes
    """Of the counterparty's margin, for each prefix of ``grid.owes_nothing``."""

    @property
    def count(self) -> int:
        """How many they are."""
        return (len(self.settle) + len(self.burn) + len(self.release)) // ADAPTOR_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One message and the digits under which it is signed."""

    name: str
    digest: Hash32
    prefix: Prefix


def _settles(graph: Graph) -> Iterator[_Entry]:
    for outcome, prefix in buckets(graph.terms.grid):
        if debt := graph.debt(outcome):
            digest = graph.terms.margins[debt.debtor].digest(graph.settle(outcome))
            yield _Entry(name=f"SETTLE at return {outcome}", digest=digest, prefix=prefix)


def _burns(graph: Graph, creditor: Owner) -> Iterator[_Entry]:
    margin = graph.terms.margins[creditor.other]
    for outcome, prefix in buckets(graph.terms.grid):
        if (debt := graph.debt(outcome)) and debt.debtor is creditor.other:
            digest = margin.digest(graph.burn(outcome), hash_type=BURN_TYPE)
            yield _Entry(name=f"BURN at return {outcome}", digest=digest, prefix=prefix)


def _releases(graph: Graph, owner: Owner) -> Iterator[_Entry]:
    digest = graph.terms.margins[owner].digest(graph.release(owner, NOTHING), hash_type=RELEASE_TYPE)
    for bits, length in owes_nothing(graph.terms.grid, taker=owner is Owner.TAKER):
        name = f"RELEASE of the {owner}'s margin at {bits:0{length}b}"
        yield _Entry(name=name, digest=digest, prefix=(bits, length))


def _entries(graph: Graph, signer: Owner) -> tuple[list[_Entry], list[_Entry], list[_Entry]]:
    return list(_settles(graph)), list(_burns(graph, signer)), list(_releases(graph, signer.other))


# ---- before the week


def presign(graph: Graph, secret: bytes, *, now: UnixSeconds) -> Presignatures:
    """Return one side's pre-signatures.

    Raises InvalidInputError for a secret of neither side, SwapRefusedError once the start price exists.
    """
    graph.terms.check_in_time(now)
    signer, key = graph.terms.owner_of(secret), AdaptorKey(secret)
    settle, burn, release = (
        b"".join(
            key.presign(entry.digest, graph.point(entry.prefix, oracles))
            for entry in entries
            for oracles in graph.terms.sets
        )
        for entries in _entries(graph, signer)
    )
    return Presignatures(settle=settle, burn=burn, release=release)


def check(graph: Graph, signer: Owner, theirs: Presignatures) -> None:
    """Check every pre-signature of a side. Raises WrongAdaptorError naming the first that is bad."""
    public, sets = graph.terms.party(signer).xonly, graph.terms.sets
    given = (theirs.settle, theirs.burn, theirs.release)
    for entries, signed in zip(_entries(graph, signer), given, strict=True):
        if len(signed) != len(entries) * len(sets) * ADAPTOR_SIZE:
            expected = len(entries) * len(sets)
            raise WrongAdaptorError(f"{signer}: {len(signed) / ADAPTOR_SIZE:g} signatures instead of {expected}")
        wanted = ((entry, oracles) for entry in entries for oracles in sets)
        for place, (entry, oracles) in enumerate(wanted):
            point, one = graph.point(entry.prefix, oracles), _one(signed, place)
            if not adaptor.presignature_is_valid(public, entry.digest, point, one):
                raise WrongAdaptorError(f"{signer}, {entry.name}, oracles {oracles}")


def _one(signed: bytes, place: int) -> bytes:
    return signed[place * ADAPTOR_SIZE : (place + 1) * ADAPTOR_SIZE]


def _adapted(graph: Graph, outcome: Outcome, entries: Iterator[_Entry], signed: bytes, signer: Owner) -> bytes:
    """Return the signature that the outcome completes: of the entry whose digits it begins with."""
    for number, entry in enumerate(entries):
        if begins_with(outcome.number, entry.prefix, graph.terms.grid):
            sets = graph.terms.sets
            one = _one(signed, number * len(sets) + sets.index(outcome.oracles))
            made = adaptor.adapt(one, secret_of(outcome.attestations, entry.prefix[1]))
            if not secp256k1.schnorr_verify(graph.terms.party(signer).xonly, entry.digest, made):
                raise WrongSignatureError(party=signer, what=entry.name)
            return made
    raise InvalidInputError("return", f"{outcome.number}", "one at which this was signed")


def _by_both(graph: Graph, transaction: Transaction, owner: Owner, signatures: Mapping[Owner, bytes]) -> Transaction:
    """Return a margin's spend with both sides' signatures."""
    witness = graph.terms.margins[owner].witness([signatures[one] for one in Owner])
    return transaction.with_witness(0, witness)


# ---- after the attestation


def settle(graph: Graph, outcome: Outcome, signed: Mapping[Owner, Presignatures]) -> Transaction:
    """Return SETTLE, which whoever holds both sides' pre-signatures completes: a watchtower, too.

    Raises InvalidInputError where nothing is owed, WrongSignatureError.
    """
    transaction, debtor = graph.settle(outcome.number), graph.owed(outcome.number).debtor
    signatures = {owner: _adapted(graph, outcome, _settles(graph), signed[owner].settle, owner) for owner in Owner}
    return _by_both(graph, transaction, debtor, signatures)


def release(graph: Graph, outcome: Outcome, theirs: Presignatures, *, secret: bytes, rate: SatsPerKvb) -> Transaction:
    """Return RELEASE of the margin of the secret's owner, who owes nothing. Raises SwapRefusedError where it does."""
    owner = graph.terms.owner_of(secret)
    if (debt := graph.debt(outcome.number)) and debt.debtor is owner:
        raise SwapRefusedError(Guard.NOT_A_SIDE, f"the {owner} owes {debt.amount} sats", "who owes nothing")
    finished = _adapted(graph, outcome, _releases(graph, owner), theirs.release, owner.other) + bytes([RELEASE_TYPE])

    def signed(transaction: Transaction) -> Transaction:
        mine = secp256k1.schnorr_sign(secret, graph.terms.margins[owner].digest(transaction))
        return _by_both(graph, transaction, owner, {owner: mine, owner.other: finished})

    fee = fee_for(signed(graph.release(owner, NOTHING)).vsize, rate)
    return signed(graph.release(owner, fee))


def burn(
    graph: Graph, outcome: Outcome, theirs: Presignatures, *, secret: bytes, change_script: bytes, rate: SatsPerKvb,
    coins: Sequence[tuple[Coin, TaprootKey]] = (), replaces: Sats = NOTHING,
) -> Transaction:  # fmt: skip
    """Return BURN: the debtor's debit and RM/4 to nobody, everything else but the fee to its change.

    coins: of the debtor's, each with its key; needed where it owes more than 3/4 of the required margin. One that is
    not confirmed has to be in the first burn that is sent: a replacement may add none. replaces: the fee of an earlier
    burn that waits, or of what conflicts with this one. There is always change: some nodes do not relay a transaction
    that pays nobody. Raises SwapRefusedError for who owes nothing, InsufficientFundsError.
    """
    debtor, debt = graph.terms.owner_of(secret), graph.owed(outcome.number)
    if debt.debtor is not debtor:
        raise SwapRefusedError(Guard.NOT_A_SIDE, f"the {debtor} owes nothing", "the debtor")
    finished = _adapted(graph, outcome, _burns(graph, debtor.other), theirs.burn, debtor.other) + bytes([BURN_TYPE])
    margin, added = graph.terms.margins[debtor], [coin for coin, _ in coins]
    spent = (margin.txout, *(coin.output for coin in added))

    def signed(transaction: Transaction, mine: bytes, others: Sequence[bytes]) -> Transaction:
        transaction = _by_both(graph, transaction, debtor, {debtor: mine, debtor.other: finished})
        for index, one in enumerate(others, start=1):
            transaction = transaction.with_witness(index, (one,))
        return transaction

    part, change = graph.burn(outcome.number), TxOut(value=NOTHING, script=change_script)
    inputs = (*part.inputs, *(TxIn(outpoint=coin.outpoint) for coin in added))
    sized = replace(part, inputs=inputs, outputs=(*part.outputs, change))
    vsize = signed(sized, _SIGNATURE, [_SIGNATURE] * len(coins)).vsize
    fee = replacement_fee(old_fee=replaces, vsize=vsize, rate=rate) if replaces else fee_for(vsize, rate)
    transaction = margin.burn_with_change(
        graph.outpoint(debtor), debt.amount, added=added, change_script=change_script, fee=fee
    )  # fmt: skip
    others = [key.sign_input(transaction, index, spent) for index, (_, key) in enumerate(coins, start=1)]
    mine = secp256k1.schnorr_sign(secret, margin.digest(transaction, added=spent[1:]))
    return signed(transaction, mine, others)


def give_back(graph: Graph, *, secret: bytes, rate: SatsPerKvb) -> Transaction:
    """Return RETURN: a margin to its owner, who needs nobody for it nine days after the settlement time."""
    owner = graph.terms.owner_of(secret)
    margin = graph.terms.margins[owner]
    fee = fee_for(margin.sign_return(graph.give_back(owner, NOTHING), secret).vsize, rate)
    return margin.sign_return(graph.give_back(owner, fee), secret)
