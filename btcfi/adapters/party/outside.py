"""An outside wallet's part: coins that it brings, what it is handed to sign, and what is taken of what it signed.

The keystore holds no key of such coins. Its owner names them (``named_coins``), hands the wallet a PSBT after
everything of the other side was checked (``hand_over``), and what comes back is verified for our own inputs alone
(``witnesses``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from btcfi.adapters.chain.node import Node, UnspentOutput
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.psbt import export_psbt, import_witnesses
from btcfi.bitcoin.script import is_witness_program
from btcfi.bitcoin.transaction import OutPoint, parse_outpoint
from btcfi.bitcoin.wallet import COINBASE_MATURITY, Coin
from btcfi.bitcoin.witness import has_checkable_witness
from btcfi.contracts.messages import ContractTerms, Role
from btcfi.contracts.option import FUNDING_OUTPUT
from btcfi.contracts.setup import Agreement, CoinNotTheirsError, inputs_of
from btcfi.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideCoins:
    """What an owner brings from an outside wallet: exactly these coins, and where everything of theirs goes."""

    coins: tuple[Coin, ...]
    pay_to: bytes | None = None
    """Output script of payout, premium and change; None: the party's own wallet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """A funding transaction on its way to an outside wallet, and what its owner should see of it first."""

    psbt: str
    contract: str
    role: Role
    terms: ContractTerms
    agreement: Agreement
    asked: tuple[int, ...]
    """The inputs that the wallet has to sign."""
    network: str
    """As the node names it: addresses are of it."""

    def as_json(self) -> dict[str, Any]:
        """Return what will be signed, in words and satoshis."""
        funding = self.agreement.funding
        coins = zip(funding.transaction.inputs, funding.spent, strict=True)
        own = inputs_of(self.agreement, self.role)
        return {
            "contract": self.contract,
            "you_are": self.role.value,
            "your_wallet_signs": [
                {"input": index, "coin": str(txin.outpoint), "value_sats": coin.value}
                for index, (txin, coin) in enumerate(coins)
                if index in self.asked
            ],
            "never_these_of_the_other_side": [
                {"input": index, "coin": str(txin.outpoint)}
                for index, txin in enumerate(funding.transaction.inputs)
                if index not in own
            ],
            "pays": [
                {"output": index, "address": _address(output.script, self.network), "value_sats": output.value}
                | ({"for": "the contract"} if index == FUNDING_OUTPUT else {})
                for index, output in enumerate(funding.transaction.outputs)
            ],
            "collateral_sats": self.terms.collateral,
            "premium_sats": self.terms.premium,
            "fee_sats": funding.fee,
            "refund_height": self.terms.refund_height,
        }


def _address(script: bytes, network: str) -> str:
    return encode_address(script, network) if is_witness_program(script) else script.hex()


def named_coins(node: Node, store: PartyStore, names: Sequence[str]) -> tuple[Coin, ...]:
    """Return the coins of an outside wallet that their owner names as TXID:VOUT; value and script are the node's.

    Raises InvalidInputError for one that is spent, unconfirmed, immature, named twice, of a script whose witness cannot
    be checked, or named in another contract of this party.
    """
    points = [_outpoint(name) for name in names]
    if len(set(points)) != len(points):
        raise InvalidInputError("--coin", "one coin is named twice", "each coin once")
    taken = coins_named_in(store)
    found = node.unspent_many(points, include_pool=True)
    return tuple(_coin(point, seen, taken) for point, seen in zip(points, found, strict=True))


def _coin(point: OutPoint, seen: UnspentOutput | None, taken: Mapping[OutPoint, str]) -> Coin:
    if seen is None or seen.confirmations < 1:
        raise InvalidInputError(f"coin {point}", "is spent or unconfirmed", "a confirmed coin that the node knows")
    if seen.coinbase and seen.confirmations < COINBASE_MATURITY:
        raise InvalidInputError(f"coin {point}", "is mined and young", f"{COINBASE_MATURITY} confirmations")
    if not has_checkable_witness(seen.output.script):
        raise InvalidInputError(f"coin {point}", "is of another type", "a taproot (P2TR) or segwit v0 (P2WPKH) coin")
    if point in taken:
        raise InvalidInputError(f"coin {point}", f"is named in contract {taken[point][:16]}", "a coin that is free")
    return Coin(outpoint=point, output=seen.output)


def coins_named_in(store: PartyStore) -> dict[OutPoint, str]:
    """Return the coins that our messages name, each with its contract."""
    return {coin.outpoint: contract.offer.id.hex() for contract in store.contracts() for coin in contract.named}


def _outpoint(text: str) -> OutPoint:
    try:
        return parse_outpoint(text)
    except InvalidInputError as e:
        raise InvalidInputError("--coin", repr(text[:80]), "TXID:VOUT, as your wallet lists it") from e


def asked_inputs(agreement: Agreement, role: Role, scripts: Collection[bytes]) -> tuple[int, ...]:
    """Return the inputs that the agreement books for us and none of our own keys signs. scripts: those of our keys."""
    spent = agreement.funding.spent
    return tuple(index for index in inputs_of(agreement, role) if spent[index].script not in scripts)


def hand_over(contract: PartyContract, agreement: Agreement, *, scripts: Collection[bytes], network: str) -> HandOver:
    """Return the funding for an outside wallet to sign. Everything of the other side must have been checked before.

    scripts: those of our own keys. Raises CoinNotTheirsError when the other side names a coin of a script of ours or
    of our wallet's, InvalidInputError when there is nothing for an outside wallet to sign.
    """
    name, role, terms = contract.offer.id.hex(), contract.role, contract.offer.terms
    funding, ours = agreement.funding, {*scripts}
    if (party := contract.ours) is not None:
        ours |= {party.payout_script, party.change_script, *(coin.output.script for coin in party.coins)}
    for index in inputs_of(agreement, role.other):
        if funding.spent[index].script in ours:
            raise CoinNotTheirsError(role.other.value, str(funding.transaction.inputs[index].outpoint))
    asked = asked_inputs(agreement, role, scripts)
    if not asked:
        raise InvalidInputError(f"contract {name[:16]}", "has no coin of an outside wallet", "`btcfi party sign`")
    psbt = export_psbt(funding.transaction, funding.spent)
    return HandOver(psbt=psbt, contract=name, role=role, terms=terms, agreement=agreement, asked=asked, network=network)


def witnesses(agreement: Agreement, role: Role, text: str, scripts: Collection[bytes]) -> dict[int, tuple[bytes, ...]]:
    """Return the outside wallet's witnesses of our inputs, each verified. Raises as ``psbt.import_witnesses`` does."""
    funding = agreement.funding
    return import_witnesses(
        text, funding.transaction, funding.spent, inputs=asked_inputs(agreement, role, scripts),
        others=inputs_of(agreement, role.other),
    )  # fmt: skip
