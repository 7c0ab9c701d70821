"""A regtest chain inside this process: the embedded node's own RPC dispatch without HTTP, a faucet, real forks."""

import json
import secrets
from contextlib import contextmanager
from decimal import Decimal

from btcfi.adapters.chain.node import Node
from btcfi.adapters.chain.regtest.chain import HEADER, BlockRefusedError, Chain
from btcfi.adapters.chain.regtest.rpc import Rpc, encode
from btcfi.bitcoin.block import merkle_root
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.script import push_number
from btcfi.bitcoin.transaction import (
    SEQUENCE_FINAL,
    OutPoint,
    Transaction,
    TxIn,
    TxOut,
    compact_size,
)
from btcfi.bitcoin.wallet import COINBASE_MATURITY, Coin
from btcfi.hashes import hash256
from btcfi.units import Sats, Txid
from tests.support.chain import Wallet

FIRST_SECOND = 1_700_000_000
BLOCK_SECONDS = 600
FAUCET = wallet_key(bytes(range(32)), 0, account=7)
_BITS, _TARGET = 0x207FFFFF, 0x7FFFFF << (8 * (0x20 - 3))
_SUBSIDY, _HALVING = 50 * 100_000_000, 150


class InProcessNode(Node):
    """The product's client of a node; what it would post is answered by the node's dispatch in this process."""

    def __init__(self, rpc, read, strike=lambda where: None):
        super().__init__("http://127.0.0.1:18443", 1.0)
        self._rpc, self._read, self._strike = rpc, read, strike

    def blocks(self, names):
        """Return blocks by hash; each is parsed once for all, since both parties and their restarts read the same."""
        missing = [name for name in names if name not in self._read]
        if missing:
            self._read.update(zip(missing, super().blocks(missing), strict=True))
        return [self._read[name] for name in names]

    def _post(self, body):
        self._strike("before the node hears it")
        asked = json.loads(body)
        said = [self._rpc.call(one) for one in asked] if isinstance(asked, list) else self._rpc.call(asked)
        answer = json.loads(encode(said), parse_float=Decimal)
        self._strike("before the node's answer is read")
        return answer


class LittleChain:
    """A new chain whose first coinbase can be spent; a block comes every ten minutes of its own clock."""

    def __init__(self, folder):
        folder.mkdir()
        self.now = FIRST_SECOND
        self.chain = Chain(folder, clock=lambda: self.now)
        self.rpc = Rpc(self.chain, stop=lambda: None)
        self._read = {}
        self.node = self.client()
        self.mine(COINBASE_MATURITY + 1)
        first = self.chain.active[1].transactions[0]
        self._faucet = (first.outpoint(0), first.outputs[0])

    def close(self):
        self.chain.close()

    def client(self, strike=lambda where: None):
        """A party's own connection; ``strike`` is called around each exchange."""
        return InProcessNode(self.rpc, self._read, strike)

    @property
    def height(self):
        return self.chain.tip.height

    @property
    def median_time(self):
        return self.chain.median_time(self.height)

    def mine(self, blocks=1, transactions=None):
        """Mine blocks of the pool, or one of exactly these transactions."""
        for _ in range(blocks):
            self.now += BLOCK_SECONDS
            self.chain.mine(FAUCET.script, transactions)

    def worth(self, least_rate):
        """Return what a miner takes who asks for ``least_rate`` sat/kvB of a transaction with its pool relatives."""
        pool, chosen = self.chain.pool, {}
        for txid, entry in pool.items():
            family = {txid, *entry.parents, *entry.children}
            fee, vsize = (sum(getattr(pool[one], name) for one in family) for name in ("fee", "vsize"))
            if fee * 1000 >= least_rate * vsize and all(one in chosen for one in entry.parents):
                chosen[txid] = entry.transaction
        return list(chosen.values())

    def pay(self, script_amounts):
        """Pay (script, amount) pairs in one confirmed transaction; return their coins."""
        outpoint, source = self._faucet
        outputs = [TxOut(value=Sats(amount), script=script) for script, amount in script_amounts]
        rest = TxOut(value=Sats(source.value - sum(o.value for o in outputs) - 20_000), script=FAUCET.script)
        payment = Transaction(version=2, inputs=(TxIn(outpoint=outpoint),), outputs=(*outputs, rest))
        payment = payment.with_witness(0, [FAUCET.sign_input(payment, 0, [source])])
        self.mine(1, [payment])
        self._faucet = (payment.outpoint(len(outputs)), rest)
        return [Coin(outpoint=payment.outpoint(n), output=output) for n, output in enumerate(outputs)]

    def fork(self, depth, transactions=()):
        """Reorganise by work: ``depth`` blocks leave, one more than that comes, the first with ``transactions``."""
        base = self.chain.active[-1 - depth]
        previous, at = base.hash, base.height
        for number in range(depth + 1):
            at += 1
            self.now += BLOCK_SECONDS
            raw = self._block(previous, at, transactions if number == 0 else ())
            refused = self.chain.accept_block(raw)
            assert refused in (None, "inconclusive"), refused
            previous = hash256(raw[: HEADER.size])
        assert self.chain.tip.hash == previous

    def valid_below(self, depth, transactions):
        """Return those of ``transactions`` that a first block of a fork could hold: their coins were there before."""
        base = self.chain.active[-1 - depth].height
        undone = {outpoint for block in self.chain.active[base + 1 :] for outpoint, _ in block.undo}
        held, spent = [], set()
        for transaction in transactions:
            coins = {txin.outpoint for txin in transaction.inputs}
            old = all(self._height_of(one) <= base and (one in undone or one in self.chain.coins) for one in coins)
            final = transaction.lock_time <= base
            if old and final and not coins & spent:
                held.append(transaction)
                spent |= coins
        return held

    def _height_of(self, outpoint):
        block = self.chain.where.get(outpoint.txid)
        return block.height if block is not None else self.height + 1

    def _block(self, previous, at, transactions):
        commitment = hash256(merkle_root([bytes(32), *(hash256(tx.to_bytes()) for tx in transactions)]) + bytes(32))
        coinbase = Transaction(
            version=2,
            inputs=(
                TxIn(
                    outpoint=OutPoint(txid=Txid(bytes(32)), index=0xFFFFFFFF), sequence=SEQUENCE_FINAL,
                    script_sig=push_number(at) + b"\x04" + secrets.token_bytes(4), witness=(bytes(32),),
                ),
            ),
            outputs=(
                TxOut(value=Sats(_SUBSIDY >> (at // _HALVING)), script=FAUCET.script),
                TxOut(value=Sats(0), script=b"\x6a\x24\xaa\x21\xa9\xed" + commitment),
            ),
        )  # fmt: skip
        every = [coinbase, *transactions]
        root, nonce = merkle_root([tx.txid for tx in every]), 0
        while True:
            header = HEADER.pack(0x20000000, previous, root, self.now, _BITS, nonce)
            if int.from_bytes(hash256(header), "little") <= _TARGET:
                return header + compact_size(len(every)) + b"".join(tx.to_bytes() for tx in every)
            nonce += 1

    def owned(self, scripts):
        """Return the satoshis that the chain pays to these scripts, spendable or not."""
        return sum(coin.output.value for coin in self.chain.coins.values() if coin.output.script in scripts)

    def spender(self, outpoint, since):
        """Return the confirmed transaction that spends an outpoint, looking from a height on, or None."""
        for block in self.chain.active[since:]:
            for transaction in block.transactions[1:]:
                if any(txin.outpoint == outpoint for txin in transaction.inputs):
                    return transaction
        return None

    def takes(self, transaction):
        """Whether a block may hold this transaction now; if so, it is mined."""
        try:
            self.mine(1, [transaction])
        except BlockRefusedError:
            return False
        return True


class WalletHere(Wallet):
    """The wallet of a chain inside this process, whose clock goes on with its blocks."""

    def __init__(self, little):
        super().__init__(little.node)
        self._little = little

    def mine(self, blocks=1):
        self._little.now += BLOCK_SECONDS * blocks
        return super().mine(blocks)


@contextmanager
def wallet_here(folder):
    """A funded wallet on a chain inside this process."""
    little = LittleChain(folder / "chain")
    try:
        wallet = WalletHere(little)
        wallet.fund()
        yield wallet
    finally:
        little.close()
