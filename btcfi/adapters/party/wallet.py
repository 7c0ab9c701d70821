"""A party's own coins: found in blocks, reserved when they are named, never named twice."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Final

from btcfi.adapters.chain.node import Node
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.book_files import BookFiles
from btcfi.adapters.party.dispute_files import DisputeFiles
from btcfi.adapters.party.store import PartyCoins, PartyStore
from btcfi.adapters.party.transfer_book import TransferBook
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.fees import P2TR_OUTPUT_WEIGHT, SatsPerKvb
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import OutPoint
from btcfi.bitcoin.wallet import COINBASE_MATURITY, Coin, select_coins
from btcfi.contracts.settling import coin_of
from btcfi.contracts.watch import ChainMovedError
from btcfi.units import Height, Sats

WALLET_KEYS: Final = 20
"""Keys of the party's wallet that are looked for in blocks: BIP44's gap limit."""

SCAN_BATCH: Final = 100
"""Blocks that are read in one round trip."""

FUNDING_WEIGHT: Final = 6 * P2TR_OUTPUT_WEIGHT
"""Room in the coin selection for what a party pays besides its inputs and change."""


class PartyWallet:
    """The wallet of one party: keys of its keystore, coins as its folder has them, blocks of its node."""

    def __init__(self, store: PartyStore, keystore: Keystore, node: Node) -> None:
        self._store, self._node, self._books = store, node, BookFiles(store)
        self._scanned: PartyCoins | None = None
        """As last scanned: a block is read once, also while nothing is saved."""
        self.keys = [keystore.wallet_key(index) for index in range(WALLET_KEYS)]

    @property
    def by_script(self) -> dict[bytes, TaprootKey]:
        """Our keys by output script."""
        return {key.script: key for key in self.keys}

    @property
    def script(self) -> bytes:
        """Where change and payouts go."""
        return self.keys[0].script

    def address(self) -> str:
        """Our receiving address on the node's network: where to send what the wallet is to spend."""
        return self.address_on(self._node.chain_info().chain)

    def address_on(self, network: str) -> str:
        """Our receiving address. network: as a node names its chain. Raises InvalidInputError for another name."""
        return encode_address(self.script, network)

    def balance(self) -> tuple[Sats, Sats]:
        """Return what can be spent now, and what is reserved for contracts; reads new blocks first."""
        coins = self.scan()
        self._store.save_coins(coins)
        held_back = self.held_back(coins)
        free = sum(coin.value for coin in spendable(coins, self._node.block_count(), held_back))
        held = sum(coin.value for coin, _, _ in coins.coins.values() if coin.outpoint in held_back)
        return Sats(free), Sats(held)

    def scan(self) -> PartyCoins:
        """Return the coins as the chain has them now, not saved."""
        kept = self._store.coins()
        known = kept if self._scanned is None else replace(self._scanned, reserved=kept.reserved)
        self._scanned = scan_coins(known, self._node, self.keys)
        return replace(self._scanned, reserved=set(kept.reserved))

    def choose(self, amount: Sats, rate: SatsPerKvb) -> tuple[Coin, ...]:
        """Return coins that pay an amount into a funding. Raises InsufficientFundsError.

        Nothing is reserved by it: a coin is taken once a contract's file names it.
        """
        coins = self.scan()
        self._store.save_coins(coins)
        free = spendable(coins, self._node.block_count(), self.held_back(coins))
        return select_coins(free, amount=amount, rate=rate, other_weight=FUNDING_WEIGHT).coins

    def held_back(self, coins: PartyCoins) -> set[OutPoint]:
        """Return the outpoints that are not to be spent: our coins that a contract, transfer or payment names.

        A contract names them in whatever state it is, but withdrawn; the coin of its children is free again once it has
        ended.
        """
        named, paying, idle = set[OutPoint](), set[OutPoint](), set[OutPoint]()
        for contract in self._store.contracts():
            named |= {coin.outpoint for coin in contract.named}
            used = {outpoint for one in contract.children if (outpoint := coin_of(one)) is not None}
            (idle if contract.ended else paying).update(used)
        for book in self._books:
            named |= {coin.outpoint for coin in book.named}
            (idle if book.ended else paying).update(book.paying)
        held = TransferBook(self._store.folder).coins() | DisputeFiles(self._store.folder).coins()
        sent = {txin.outpoint for one in self._store.payments() for txin in one.transaction.inputs}
        return named | paying | sent | held | (coins.reserved - idle)

    def coin_above(self, least: Sats) -> Coin | None:
        """Return a free coin of at least so much, if there is one."""
        return next((one for one in self.free() if one.value >= least), None)

    def free(self, also: Collection[OutPoint] = ()) -> list[Coin]:
        """Return the confirmed coins that may pay for something: the unreserved, and of the others those named."""
        coins = self.scan()
        kept = [coins.coins[outpoint][0] for outpoint in also if outpoint in coins.coins]
        free = spendable(coins, self._node.block_count(), self.held_back(coins))
        return [*kept, *(coin for coin in free if coin not in kept)]

    def reserve(self, coin: Coin) -> None:
        """Never name this coin again."""
        coins = self.scan()
        coins.reserved.add(coin.outpoint)
        self._store.save_coins(coins)


def scan_coins(coins: PartyCoins, node: Node, keys: Sequence[TaprootKey]) -> PartyCoins:
    """Return the coins after reading every block since the last scan; after a reorganisation, from the start.

    Raises ChainMovedError when the chain changes meanwhile: what a block brought that left it would stay for ever.
    For regtest and short chains; on a long one let an outside wallet bring the coins (PSBT).
    """
    scripts = {key.script: index for index, key in enumerate(keys)}
    top = node.block_count()
    known = coins.scanned
    if known is not None and (known[0] > top or node.block_hash(known[0]) != known[1]):
        known = None
    found = dict(coins.coins) if known is not None else {}
    position = known[0] if known is not None else Height(0)
    last = known[1] if known is not None else node.block_hash(position)
    while position < top:
        heights = [Height(h) for h in range(position + 1, min(position + SCAN_BATCH, top) + 1)]
        for at, block in zip(heights, node.blocks([node.block_hash(h) for h in heights]), strict=True):
            if block.previous != last:
                raise ChainMovedError(at)
            last = block.header.hash
            for number, transaction in enumerate(block.transactions):
                for txin in transaction.inputs:
                    found.pop(txin.outpoint, None)
                for index, output in enumerate(transaction.outputs):
                    if output.script in scripts:
                        coin = Coin(
                            outpoint=transaction.outpoint(index), output=output, key_index=scripts[output.script]
                        )
                        found[coin.outpoint] = (coin, block.header.height, number == 0)
        position = heights[-1]
    return PartyCoins(scanned=(position, last), coins=found, reserved=set(coins.reserved))


def spendable(coins: PartyCoins, tip: Height, held_back: Collection[OutPoint]) -> Iterator[Coin]:
    """Yield the coins that are mature and not held back for a contract or a transaction of ours."""
    for outpoint, (coin, at, coinbase) in coins.coins.items():
        if outpoint not in held_back and (not coinbase or tip - at + 1 >= COINBASE_MATURITY):
            yield coin
