"""One party's folder: its keystore, its coins, and each contract's messages and chain state. Files of mode 0600."""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from btcfi.adapters.files import (
    UntrustedFileError,
    make_private,
    open_private,
    read_untrusted,
    read_untrusted_json,
    sync_directory,
    write_private,
)
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxOut, parse_outpoint, parse_transaction
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.buckets import Bucket
from btcfi.contracts.messages import (
    Accept,
    CloseRequest,
    Offer,
    Party,
    Role,
    Sign,
    decode_accept,
    decode_attestation,
    decode_close_request,
    decode_offer,
    decode_sign,
    encode_accept,
    encode_attestation,
    encode_close_request,
    encode_offer,
    encode_sign,
)
from btcfi.contracts.reopen import Origin, decode_origin, encode_origin
from btcfi.contracts.settling import Version
from btcfi.contracts.setup import SetupPolicy
from btcfi.contracts.watch import FINAL_DEPTH, Creation, Spend, WatchState
from btcfi.errors import BtcfiError, ConflictError, NotFoundError, RetryableError
from btcfi.oracle.attestation import Attestation
from btcfi.records import HASH, WHOLE, Rule, hexadecimal, listed, optional, record
from btcfi.units import Hash32, Height, Sats, Txid, display_txid, height, parse_txid, sats

log = logging.getLogger(__name__)

MAX_FILE_BYTES: Final = 1 << 28
"""Of one contract or of the coins: four times the largest message, since a contract's file keeps three of them."""

_MAX_COUNTER_BYTES: Final = 16

_Seen = tuple[int, int, int]
"""Which writing of a file it is: its inode, its time, its size. Every writing makes a new file."""


class ChangedMeanwhileError(ConflictError, RetryableError):
    """Another process has changed a contract after this one read it: what this one wanted may be wrong by now."""

    def __init__(self, contract: str) -> None:
        super().__init__(f"contract {contract[:16]}: another process changed it meanwhile; nothing was sent, try again")
        self.contract = contract


class FolderInUseError(ConflictError):
    """A second process that would answer for a party by itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"a `btcfi party run` answers for {folder} already, and two would answer an order twice; end it first"
        )
        self.folder = folder


@dataclass(kw_only=True)
class PartyContract:
    """One contract as this party has it on disk; fields are None until their step."""

    number: int
    """Which of the keystore's contract keys it uses."""
    role: Role
    offer: Offer
    accept: Accept | None = None
    sign: Sign | None = None
    funding: Transaction | None = None
    settlement: Transaction | None = None
    """The CET or refund that this party broadcasts."""
    children: tuple[Version, ...] = ()
    """Every version of the CET's child that this party has made; whichever is mined is its own."""
    refunds: tuple[Version, ...] = ()
    """Every refund that this party has signed, likewise."""
    cancelled: Transaction | None = None
    """What took the contract's coins home before it was funded: the funding is not sent again after it."""
    withdrawn: bool = False
    """Its sale came to nothing before we gave a signature of its funding: its coins are free, and we never sign it."""
    watch: WatchState | None = None
    fund_by: int | None = None
    """Time of the chain by which a block must hold the funding, else its coins go home. None: there was no such time
    when it was signed, as in a replay, whose clock is beyond the expiry."""
    funded: bool = False
    """A block has held the funding: after a reorganisation it is sent again, however late."""
    closing: CloseRequest | None = None
    """A close that this party asked for."""
    asked_at: int | None = None
    """When it did, in Unix seconds: a wish is not kept for ever."""
    asked_knowing: int = 0
    """How many attestations of its event it knew then."""
    closes: tuple[Txid, ...] = ()
    """Closes that this party has signed."""
    reopenings: tuple[Txid, ...] = ()
    """Transactions that put its collateral into another contract, of which this party has signed a part, or is about
    to: they are ends of it like closes, and beside one no close is signed."""
    order: str = ""
    """Which order or bid of the owner's this contract answers: one that is read twice is answered once."""
    firm_offer: str = ""
    """Id of the market's offer that it is a take of, as hex; empty where no market made it."""
    sign_by: int | None = None
    """From this second of our own clock on nothing of it is signed that was not signed before. None: no such time."""
    policy: SetupPolicy | None = None
    """What this side insisted on when it signed: it stays, whatever is insisted on later. None: of an older release."""
    reopened: Origin | None = None
    """Of a contract that another one's collateral funds: from what it came. Then ``funding`` is that transaction, which
    its owners have signed by parts, and no step of an ordinary funding is taken of it."""
    buckets: Sequence[Bucket] | None = None
    """The payout buckets as this party computed them: thousands of runs of the guest, kept."""
    seen: _Seen | None = field(default=None, compare=False, repr=False)
    """Which writing of its file this is; None: it has none yet. Not in the file."""

    @property
    def ours(self) -> Party | None:
        """Our half of it: keys, scripts, and the coins that it names."""
        if self.role is self.offer.role:
            return self.offer.party
        return None if self.accept is None else self.accept.party

    @property
    def named(self) -> tuple[Coin, ...]:
        """Our coins that it names and that are therefore not to be named again; none once it is withdrawn."""
        return () if self.ours is None or self.withdrawn else self.ours.coins

    @property
    def may_be_funded(self) -> bool:
        """Whether a signature of ours on its funding has left, or may have: handed to an outside wallet counts."""
        handed_over = self.role is self.offer.role and self.accept is not None
        return handed_over or self.sign is not None or self.funding is not None or self.watch is not None

    @property
    def ended(self) -> bool:
        """Whether the collateral was spent, or a coin of the funding went elsewhere, for good."""
        if (state := self.watch) is None:
            return False
        created = {creation.outpoint for creation in state.creations}
        ends = [spend for spend in state.spends if spend.outpoint in created or not created]
        return any(state.depth(spend.height) >= FINAL_DEPTH for spend in ends)


@dataclass(kw_only=True)
class PartyCoins:
    """What the party's wallet owns, as far as blocks were read."""

    scanned: tuple[Height, Hash32] | None = None
    coins: dict[OutPoint, tuple[Coin, Height, bool]] = field(default_factory=dict)
    """Coin, height, whether it is a coinbase."""
    reserved: set[OutPoint] = field(default_factory=set)
    """Named in a message or a transaction of ours: never offered twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment out of the wallet, as it was sent: who is paid is its first output, the change the second."""

    transaction: Transaction
    fee: Sats
    replaces: tuple[Txid, ...] = ()
    """Those before it, of the same coins and less fee, the first one first."""


class PartyStore:
    """Reads and writes one party's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keystore_path = folder / "keystore.json"
        self._contracts = folder / "contracts"
        self._coins = folder / "coins.json"
        self._counter = folder / "next-contract-key"
        self._evidence = folder / "attestations"
        self._payments = folder / "payments"
        self._loaded: dict[str, PartyContract] = {}
        """As last read or written; read again once another process has written: its owner's commands, beside ours."""
        self._attested: dict[tuple[Hash32, bytes], Attestation] | None = None
        self._held = False
        """Whether this process holds the folder's lock."""

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Be the one process that answers for this party by itself. Raises FolderInUseError."""
        with self._locked("run.lock", wait=False):
            yield

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[None]:
        make_private(self.folder, named=True)
        with open_private(self.folder / name) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as e:
                raise FolderInUseError(self.folder) from e
            yield

    def drop_old_nonces(self) -> None:
        """Remove the nonces that the release before kept in this folder: a copy of it may have signed with them."""
        folder = self.folder / "nonces"
        if not folder.is_dir() or folder.is_symlink():
            return
        for path in folder.glob("*.nonce"):
            path.unlink(missing_ok=True)
        sync_directory(folder)
        with suppress(OSError):  # something else lies there
            folder.rmdir()

    # ---- what oracles attested

    def attestations(self) -> dict[tuple[Hash32, bytes], Attestation]:
        """Return the attestations that were kept, each checked before it was, by event and oracle."""
        if self._attested is None:
            read = [one for path in sorted(self._evidence.glob("*.json")) if (one := _attestation(path)) is not None]
            self._attested = {(one.event, one.oracle_key): one for one in read}
        return self._attested

    def keep_attestation(self, attestation: Attestation) -> None:
        """Write an attestation down for good: evidence outlives the message that brought it, and a restart."""
        known = self.attestations()
        name = f"{attestation.event.hex()}-{attestation.oracle_key.hex()}.json"
        make_private(self._evidence)
        write_private(self._evidence / name, json.dumps(encode_attestation(attestation)).encode())
        known[attestation.event, attestation.oracle_key] = attestation

    # ---- contracts

    def contracts(self) -> Iterator[PartyContract]:
        """Yield every contract; one that cannot be read is left out, for the others' sake, and named in the log."""
        yield from (one for name in self.names() if (one := self.readable(name)) is not None)

    def names(self) -> list[str]:
        """Return the names of the contracts, which are their offers' ids."""
        return sorted(path.stem for path in self._contracts.glob("*.json"))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder: another command of this party, in another terminal, waits here. May be nested."""
        if self._held:
            yield
            return
        with self._locked("lock"):
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def take_number(self) -> int:
        """Return the next contract key's number and count on, durably: a number is never given twice, crash or not."""
        with self.alone():
            number = self._next_number()
            write_private(self._counter, str(number + 1).encode())
        return number

    def _next_number(self) -> int:
        if not self._counter.exists():
            return 0
        what = "number of the next contract key"
        raw = read_untrusted(self._counter, at_most=_MAX_COUNTER_BYTES, what=what)
        if not raw.isdigit():
            raise UntrustedFileError(self._counter, repr(raw), f"the {what}, in digits")
        return int(raw)

    def load(self, name: str) -> PartyContract:
        """Return a contract, a copy that changes nothing until it is saved. Raises NotFoundError."""
        known = self._loaded.get(name)
        if known is None or known.seen != self._seen(name):
            self._loaded[name] = self._read(name)
        return replace(self._loaded[name])

    def _seen(self, name: str) -> _Seen | None:
        try:
            found = (self._contracts / f"{name}.json").stat(follow_symlinks=False)
        except (OSError, ValueError):  # there is none, or the name is none of a file
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def readable(self, name: str) -> PartyContract | None:
        """Return a contract; None, and say why, for an unreadable file: the others are worked on all the same."""
        try:
            return self.load(name)
        except BtcfiError as e:
            log.warning("contract %s is passed over: %s", name[:16], e)
            return None

    def keep_in_mind(self, contract: PartyContract) -> None:
        """Remember what a restart may find out again from the chain, without writing it down."""
        self._loaded[contract.offer.id.hex()] = replace(contract)

    def _read(self, name: str) -> PartyContract:
        path, seen = self._contracts / f"{name}.json", self._seen(name)
        try:
            stored = read_untrusted_json(path, at_most=MAX_FILE_BYTES, what="contract")
        except NotFoundError as e:
            raise NotFoundError("contract", name, "`btcfi party status` lists them") from e
        contract = _CONTRACT.read(_with_versions(stored), path.name)
        contract.seen = seen  # of before it was read: a writing in between is one that we have not seen
        return contract

    def save(self, contract: PartyContract) -> str:
        """Write a contract and return its name. Raises ChangedMeanwhileError when it is another one by now."""
        name = contract.offer.id.hex()
        stored = {
            "number": contract.number,
            "role": contract.role.value,
            "offer": encode_offer(contract.offer),
            "accept": _if(contract.accept, encode_accept),
            "sign": _if(contract.sign, encode_sign),
            "funding": _if(contract.funding, _hex),
            "settlement": _if(contract.settlement, _hex),
            "children": [_encode_version(one) for one in contract.children],
            "refunds": [_encode_version(one) for one in contract.refunds],
            "cancelled": _if(contract.cancelled, _hex),
            "withdrawn": contract.withdrawn,
            "watch": _if(contract.watch, _encode_watch),
            "fund_by": contract.fund_by,
            "funded": contract.funded,
            "closing": _if(contract.closing, encode_close_request),
            "asked_at": contract.asked_at,
            "asked_knowing": contract.asked_knowing,
            "closes": [display_txid(txid) for txid in contract.closes],
            "reopenings": [display_txid(txid) for txid in contract.reopenings],
            "order": contract.order,
            "firm_offer": contract.firm_offer,
            "sign_by": contract.sign_by,
            "reopened": _if(contract.reopened, encode_origin),
            "policy": _if(contract.policy, _encode_policy),
            "buckets": _if(contract.buckets, lambda many: [[b.prefix, b.length, b.payout] for b in many]),
        }
        with self.alone():
            if self._seen(name) != contract.seen:
                raise ChangedMeanwhileError(name)
            write_private(self._contracts / f"{name}.json", json.dumps(stored).encode())
            contract.seen = self._seen(name)
        self._loaded[name] = replace(contract)
        return name

    # ---- payments

    def payments(self) -> list[Payment]:
        """Return every payment that was made out of the wallet. Raises InvalidInputError for a file that is none.

        Not one is left out: its coins would be spent a second time.
        """
        found = []
        for path in sorted(self._payments.glob("*.json")):
            with suppress(NotFoundError):  # dropped meanwhile
                stored = read_untrusted_json(path, at_most=MAX_FILE_BYTES, what="payment")
                found.append(_PAYMENT.read(stored, path.name))
        return found

    def save_payment(self, payment: Payment) -> None:
        """Write a payment: from here on its coins are no contract's."""
        stored = {
            "transaction": _hex(payment.transaction),
            "fee_sats": payment.fee,
            "replaces": [display_txid(txid) for txid in payment.replaces],
        }
        make_private(self._payments)
        write_private(self._payment_path(payment), json.dumps(stored).encode())

    def drop_payment(self, payment: Payment) -> None:
        """Forget a payment that no node has taken."""
        self._payment_path(payment).unlink(missing_ok=True)
        sync_directory(self._payments)

    def _payment_path(self, payment: Payment) -> Path:
        return self._payments / f"{display_txid(payment.transaction.txid)}.json"

    # ---- coins

    def coins(self) -> PartyCoins:
        """Return the coins as they were last saved."""
        if not self._coins.exists():
            return PartyCoins()
        stored = read_untrusted_json(self._coins, at_most=MAX_FILE_BYTES, what="list of coins")
        return _COINS.read(stored, self._coins.name)

    def save_coins(self, coins: PartyCoins) -> None:
        """Write the coins."""
        stored = {
            "scanned": None if coins.scanned is None else [coins.scanned[0], coins.scanned[1].hex()],
            "coins": [
                {
                    "outpoint": str(outpoint),
                    "value_sats": coin.value,
                    "script": coin.output.script.hex(),
                    "key": coin.key_index,
                    "height": at,
                    "coinbase": coinbase,
                }
                for outpoint, (coin, at, coinbase) in coins.coins.items()
            ],
            "reserved": sorted(str(outpoint) for outpoint in coins.reserved),
        }
        write_private(self._coins, json.dumps(stored).encode())


def _attestation(path: Path) -> Attestation | None:
    """Return a kept attestation; None, and say why, for a file that cannot be read: it must not hide the others."""
    try:
        return decode_attestation(read_untrusted_json(path, at_most=MAX_FILE_BYTES, what="attestation"))
    except BtcfiError as e:
        log.warning("attestation passed over: %s", e)
        return None


def _if(value: Any, convert: Any) -> Any:  # noqa: ANN401 - JSON on one side
    return None if value is None else convert(value)


def _hex(transaction: Transaction) -> str:
    return transaction.to_bytes().hex()


def _encode_version(version: Version) -> list[Any]:
    return [_hex(version.transaction), version.fee, version.height]


def _with_versions(stored: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a contract's file as it is written today: one from before versions were kept has one child, or none.

    Its fee stood nowhere: 0 asks to be outbid by what the pool says, and height 0 that the wait counts from the expiry.
    """
    if not isinstance(stored, dict) or "children" in stored or "child" not in stored:
        return stored
    return stored | {"children": [] if stored["child"] is None else [[stored["child"], 0, 0]]}


def _encode_policy(policy: SetupPolicy) -> dict[str, int]:
    return {"min_refund_delay": policy.min_refund_delay, "max_buckets": policy.max_buckets}


def _encode_watch(state: WatchState) -> dict[str, Any]:
    return {
        "blocks": [[at, name.hex()] for at, name in state.blocks],
        "spends": [[str(s.outpoint), _hex(s.transaction), s.height, s.block.hex()] for s in state.spends],
        "creations": [
            [f"{display_txid(c.outpoint.txid)}:{c.outpoint.index}", c.height, c.block.hex()] for c in state.creations
        ],
    }


# ---- reading


def _row(*rules: Rule[Any]) -> Rule[tuple[Any, ...]]:
    """Return the rule of a list with one value for each rule."""

    def parse(value: list[object]) -> tuple[Any, ...]:
        return tuple(rule(one) for rule, one in zip(rules, value, strict=True))

    return Rule(parse, f"a list of {len(rules)}: " + ", ".join(rule.expected for rule in rules))


_HEIGHT: Final = Rule(height, "a block height")
_TXID: Final = Rule(parse_txid, "a txid, 64 hex digits")
_OUTPOINT: Final = Rule(parse_outpoint, "txid:index")
_TRANSACTION: Final = Rule(lambda text: parse_transaction(bytes.fromhex(text)), "a transaction, as hex")
_SATS: Final = Rule(sats, "whole satoshis")
_MANY: Final = 1 << 20
"""Blocks, spends, buckets or coins in one file."""


def _version(value: list[object]) -> Version:
    transaction, fee, at = _row(_TRANSACTION, _SATS, _HEIGHT)(value)
    return Version(transaction=transaction, fee=fee, height=at)


_VERSION: Final = Rule(_version, "a transaction, its fee and a height")


def _bucket(value: list[int]) -> Bucket:
    prefix, length, payout = _row(WHOLE, WHOLE, _SATS)(value)
    return Bucket(prefix=prefix, length=length, payout=payout)


def _spend(value: list[object]) -> Spend:
    outpoint, transaction, at, block = _row(_OUTPOINT, _TRANSACTION, _HEIGHT, HASH)(value)
    return Spend(outpoint=outpoint, transaction=transaction, height=at, block=block)


def _creation(value: list[object]) -> Creation:
    outpoint, at, block = _row(_OUTPOINT, _HEIGHT, HASH)(value)
    return Creation(outpoint=outpoint, height=at, block=block)


_WATCH: Final = record(
    WatchState,
    blocks=listed(_row(_HEIGHT, HASH), _MANY),
    spends=listed(Rule(_spend, "a spend"), _MANY),
    creations=listed(Rule(_creation, "a creation"), _MANY),
)

_POLICY: Final = record(SetupPolicy, may_lack=("oracle_keys",), oracle_keys=Rule(frozenset, "a list of keys"))

_CONTRACT: Final = record(
    PartyContract,
    may_lack=(
        "buckets",
        "policy",
        "children",
        "refunds",
        "cancelled",
        "withdrawn",
        "fund_by",
        "funded",
        "asked_at",
        "asked_knowing",
        "firm_offer",
        "sign_by",
        "reopened",
        "reopenings",
        "seen",
    ),
    seen=Rule(lambda _: None, "nothing"),
    policy=optional(_POLICY),
    reopened=optional(Rule(decode_origin, "what it came from")),
    offer=Rule(decode_offer, "an offer"),
    accept=optional(Rule(decode_accept, "an accept message")),
    sign=optional(Rule(decode_sign, "a sign message")),
    funding=optional(_TRANSACTION),
    settlement=optional(_TRANSACTION),
    children=listed(_VERSION),
    refunds=listed(_VERSION),
    cancelled=optional(_TRANSACTION),
    watch=optional(_WATCH),
    fund_by=optional(WHOLE),
    sign_by=optional(WHOLE),
    closing=optional(Rule(decode_close_request, "a close request")),
    asked_at=optional(WHOLE),
    closes=listed(_TXID),
    reopenings=listed(_TXID),
    buckets=optional(listed(Rule(_bucket, "a bucket"), _MANY)),
)


encode_version, encode_watch, encode_policy, encode_transaction = _encode_version, _encode_watch, _encode_policy, _hex
VERSION_RULE, WATCH_RULE, POLICY_RULE, TRANSACTION_RULE = _VERSION, _WATCH, _POLICY, _TRANSACTION
"""How parts of a contract's file are written and read, for the files of other kinds of contract (``book_files``)."""

_PAYMENT: Final = record(Payment, transaction=_TRANSACTION, fee=("fee_sats", _SATS), replaces=listed(_TXID))


@dataclass(frozen=True, slots=True, kw_only=True)
class _WireCoin:
    """A coin as the file names it: flat."""

    outpoint: OutPoint
    value_sats: Sats
    script: bytes
    key: int
    height: Height
    coinbase: bool


_COIN: Final = record(_WireCoin, outpoint=_OUTPOINT, script=hexadecimal())


def _by_outpoint(value: object) -> dict[OutPoint, tuple[Coin, Height, bool]]:
    found: dict[OutPoint, tuple[Coin, Height, bool]] = {}
    for one in listed(_COIN, _MANY)(value):
        output = TxOut(value=one.value_sats, script=one.script)
        coin = Coin(outpoint=one.outpoint, output=output, key_index=one.key)
        found[one.outpoint] = (coin, one.height, one.coinbase)
    return found


_COINS: Final = record(
    PartyCoins,
    scanned=optional(_row(_HEIGHT, HASH)),
    coins=Rule(_by_outpoint, "a list of coins"),
    reserved=Rule(lambda value: set(listed(_OUTPOINT, _MANY)(value)), "a list of outpoints"),
)
