"""A party of the model: the product's desk, mail and watch over a real folder, killed at a fault point and reopened."""

import json
import os
from contextlib import contextmanager
from functools import lru_cache
from unittest.mock import patch

from btcfi.adapters import keystore as keystore_module
from btcfi.adapters.keystore import Keystore, create_keystore, open_keystore
from btcfi.adapters.party import wallet as wallet_module
from btcfi.adapters.party.agreements import Agreements
from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.mail import PartyMail
from btcfi.adapters.party.store import PartyCoins, PartyStore
from btcfi.bitcoin.fees import FeeRule
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.messages import encode_attestation, encode_close_order, encode_order
from btcfi.contracts.setup import SetupPolicy
from btcfi.errors import BtcfiError, RetryableError
from btcfi.hashes import sha256
from btcfi.vm.program import load_program
from tests.support.mandates import give_mandate

WALLET_KEYS = 2
"""Keys that a wallet of the model looks for: the product's twenty take a tenth of an interleaving to derive."""
REFUND_DELAY = 20
"""Blocks from expiry to refund on which the parties insist."""
POLICY = SetupPolicy(min_refund_delay=REFUND_DELAY)


class Killed(BaseException):
    """The party's process ended here, between any two of its effects. No handler of the product catches it."""


class Faults:
    """Counts a party's effects on disk and on the wire, and kills it at the one that was chosen."""

    def __init__(self):
        self.left = None
        self.where = ""

    def strike(self, where):
        """Die here if the count is over."""
        if self.left is None:
            return
        self.left -= 1
        if self.left <= 0:
            self.left, self.where = None, where
            raise Killed(where)

    @contextmanager
    def armed(self, after):
        """Count what happens on disk inside; ``after`` effects the party dies. None: never."""
        self.left = after
        try:
            if after is None:
                yield
            else:
                with patch.multiple(os, **{name: self._around(name) for name in ("replace", "link", "unlink")}):
                    yield
        finally:
            self.left = None

    def _around(self, name):
        genuine = getattr(os, name)

        def wrapped(*arguments, **more):
            self.strike(f"before {name}")
            genuine(*arguments, **more)
            self.strike(f"after {name}")

        return wrapped


@lru_cache(maxsize=64)
def _wallet_key(seed, index):
    return wallet_key(seed, index)


class QuickKeystore(Keystore):
    """The keystore of a seed whose derived keys are remembered: a restart derives none again."""

    __slots__ = ()

    def wallet_key(self, index):
        return _wallet_key(self._seed, index)

    def contract_secret(self, index):
        return _contract_secret(self._seed, index)


@lru_cache(maxsize=512)
def _contract_secret(seed, index):
    return Keystore(seed).contract_secret(index)


def _quick_stretch():
    """Let a passphrase become a key by one hash: scrypt takes a tenth of a second, and these guard nothing."""
    return patch.object(
        keystore_module._Kdf, "stretch", lambda self, passphrase: sha256(self.salt + passphrase.encode())
    )


@lru_cache(maxsize=1)
def guest():
    """The guest of every party of a worker process: compiled once."""
    return Guest(load_program("option_settlement"))


class ModelParty:
    """One side: its folders, its owner who writes orders and bids, its process that lives between two kills."""

    def __init__(self, name, role, folder, chain, seed):
        self.name, self.role, self.folder, self.chain = name, role, folder, chain
        self.faults, self._told = Faults(), []
        self.node = chain.client(self.faults.strike)
        self.passphrase = f"passphrase of {name}"
        self.seed = sha256(f"{seed}/{name}".encode())
        self.scripts = {_wallet_key(self.seed, n).script for n in range(WALLET_KEYS)}
        self.script = _wallet_key(self.seed, 0).script
        self.inbox, self.outbox, self.orders, self.bids = (
            folder / part for part in ("inbox", "outbox", "orders", "bids")
        )
        for part in (folder, folder / "run"):
            part.mkdir(mode=0o700)
        self._create()
        self.open()

    def _create(self):
        store = PartyStore(self.folder / "party")
        (self.folder / "passphrase").touch(mode=0o600)
        (self.folder / "passphrase").write_text(self.passphrase + "\n")
        with _quick_stretch():
            create_keystore(store.keystore_path, self.passphrase, self.seed)
        # its wallet is new: no block before this one pays it
        at = self.chain.node.block_count()
        store.save_coins(PartyCoins(scanned=(at, self.chain.node.block_hash(at))))

    def open(self):
        """Start the process anew: all that it knows is in its folder."""
        self.store = PartyStore(self.folder / "party")
        with _quick_stretch():
            assert open_keystore(self.store.keystore_path, self.passphrase)._seed == self.seed
        self.keystore = QuickKeystore(self.seed)
        with patch.object(wallet_module, "WALLET_KEYS", WALLET_KEYS):
            self.desk = PartyDesk(self.store, self.keystore, self.node, guest(), fees=FeeRule())
        self.mail = PartyMail(
            self.desk, inbox=self.inbox, outbox=self.outbox, orders=self.orders, bids=self.bids
        )  # fmt: skip
        self.agreements = Agreements(self.store, guest())

    def round(self, die_after=None):
        """Look once at mail and chain, as ``btcfi party run`` does; return where it was killed, if it was."""
        try:
            with self._environment(), self.faults.armed(die_after):
                self.mail.round(self.node.block_count())
        except (RetryableError, OSError):
            return None
        except Killed as e:
            self.open()
            return str(e)
        return None

    @contextmanager
    def _environment(self):
        # as its own user it would have a folder of its own for running programs
        before = os.environ.get("XDG_RUNTIME_DIR")
        os.environ["XDG_RUNTIME_DIR"] = str(self.folder / "run")
        try:
            yield
        finally:
            os.environ.pop("XDG_RUNTIME_DIR")
            if before is not None:
                os.environ["XDG_RUNTIME_DIR"] = before

    def try_(self, call):
        """Let the owner ask the desk for something; return its answer, or the error by which it was refused."""
        try:
            with self._environment():
                return call()
        except BtcfiError as e:
            return e

    # ---- the owner

    def give_mandate(self, mandate):
        """The owner signs what this party may sign."""
        give_mandate(self.desk, mandate, sha256(self.seed + b"identity"))

    def order(self, name, order):
        _write(self.orders / f"{name}.json", encode_order(order))

    def bid(self, name, order):
        _write(self.bids / f"{name}.json", encode_order(order))

    def close_order(self, name, close):
        _write(self.orders / f"{name}.json", encode_close_order(close))

    def close_bid(self, name, close):
        _write(self.bids / f"{name}.json", encode_close_order(close))

    def hear(self, name, attestation):
        """An attestation arrives from an oracle, or from somebody who says so."""
        self._told.append((f"{name}.attestation.json", attestation))
        _write(self.inbox / f"{name}.attestation.json", encode_attestation(attestation))

    def has_heard(self, attestation):
        """Whether it has taken this attestation as good, or will read it at its next look."""
        return any(
            (folder / name).exists()
            for folder in (self.inbox, self.inbox / "done")
            for name, told in self._told
            if told == attestation
        )

    # ---- what it has

    def balance(self):
        """Everything that the chain pays to its wallet."""
        return self.chain.owned(self.scripts)

    def contracts(self):
        """Its contracts as its folder has them."""
        return [self.store.load(name) for name in self.store.names()]

    def free_coins(self, least=0):
        """The coins of its wallet that the chain has now, of at least so much, whatever they are reserved for."""
        return [
            Coin(outpoint=outpoint, output=coin.output)
            for outpoint, coin in self.chain.chain.coins.items()
            if coin.output.script == self.script and coin.output.value >= least
        ]


def _write(path, message):
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(message))
    draft.replace(path)
