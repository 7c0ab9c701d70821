"""Reopening a contract: its collateral goes, in one transaction, from the old contract into the next one.

    transfer   the holder leaves for a price, a newcomer takes its place; the seller's side stays what it was
    roll       the same two go on under other terms (a later expiry, another size: a splice)

The transaction (``contracts.splice``) is known before anybody signs, so what is signed has an order:

    1. both sides of the new contract pre-sign its CETs and check each other's     (``presign_new``, ``secure``)
    2. owners of coins sign these, for the service alone                           (``sign_coins``)
    3. the old contract's two sides sign its key path, for the service alone       (``Reopening.sign``)
    4. the service checks every part, puts them together, and sends at once        (``Reopening.finish``)

A signed reopening that no block holds is a free option: whoever has all of it chooses, once the price is known, between
it and the old contract. So no side ever has the other one's part of the key path; nothing is signed in the last blocks
before the expiry, once a word of an oracle is known, or after its deadline; and until six blocks hold it the old
contract's signatures are kept. Each side compares the whole with its own ``Word`` before every signature: what another
side says decides nothing. Pure. Source: findings on splices, section 4; docs/decisions/0068.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, Final

from btcfi import secp256k1
from btcfi.bitcoin.fees import DUST_P2TR, SatsPerKvb
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.musig import SecretNonce, aggregate_nonces
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.bitcoin.wallet import Coin
from btcfi.bitcoin.witness import WrongWitnessError, check_witness
from btcfi.contracts import leaves, setup
from btcfi.contracts.buckets import Bucket, Payouts
from btcfi.contracts.cooperative import KeyPath
from btcfi.contracts.execution import ExecutionPlan, check_presignatures, presign
from btcfi.contracts.mandate import Authority
from btcfi.contracts.messages import COIN, COINS, MAX_COINS, ContractTerms, Offer, Party, Role, contract_id, encode_coin
from btcfi.contracts.option import Funding, OptionContract, WrongSignatureError
from btcfi.contracts.setup import Agreement, CoinNotTheirsError, SetupPolicy
from btcfi.contracts.splice import Owner, SeenCoin, Splice, Stake, build_splice, check_coins
from btcfi.contracts.watch import FINAL_DEPTH
from btcfi.errors import BtcfiError, ConflictError, InvalidInputError
from btcfi.oracle.announcement import DigitPoints, OracleEvent
from btcfi.records import Rule, hexadecimal, one_of, optional, record, whole
from btcfi.units import MAX_MONEY_SATS, Hash32, Height, Sats, Txid, UnixSeconds, display_txid

LAST_BLOCKS: Final = 12
"""Before the expiry height, in which nothing is reopened: two hours, in which it confirms before the old contract can
be settled. Source: findings on splices, section 4."""

_ROLES: Final = {Owner.SELLER: Role.SELLER, Owner.HOLDER: Role.BUYER, Owner.NEWCOMER: Role.BUYER}


class TooLateToReopenError(ConflictError):
    """A reopening that has lapsed, or that a settlement of the old contract could overtake."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"nothing is reopened any more: {problem}; the old contract stands and settles by itself")
        self.problem = problem


class NotSecuredError(BtcfiError):
    """Money would be signed away before the other side's signatures of the new contract were checked."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(f"the {owner.value} has not checked the new contract's signatures of the other side yet")
        self.owner = owner


# ---- what is reopened, and into what


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A contract that one is in, as one's own records have it."""

    terms: ContractTerms
    contract: OptionContract
    funding: OutPoint

    @classmethod
    def of(cls, agreed: Agreement | Reopened) -> Held:
        """Return it of what was agreed: at first, or by a reopening before this one."""
        return cls(terms=agreed.terms, contract=agreed.plan.contract, funding=agreed.plan.funding)

    @property
    def coin(self) -> Coin:
        """Its collateral, as what is spent."""
        return Coin(outpoint=self.funding, output=self.contract.funding_txout())


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """The half of a holder that leaves."""

    script: bytes
    """Where its price is paid to."""
    coins: tuple[Coin, ...] = ()
    """None is needed. With one of its own in it, it can take its word back by spending that one: a service that holds
    back what all have signed has no choice that lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """From what a contract came that a reopening funded: with its offer and the answer, its statement."""

    old: Coin
    leaving: Leaving | None
    dues: dict[Owner, int]
    payer: Owner
    valid_until: UnixSeconds

    @property
    def price(self) -> Sats:
        """What a newcomer has paid for it; 0 where nobody came."""
        return Sats(max(-self.dues.get(Owner.NEWCOMER, 0), 0))

    def statement(self, offer: Offer, buyer: Party) -> Statement:
        """Return the statement of a contract that came from it. Raises InvalidInputError for a buyer's offer."""
        if offer.role is not Role.SELLER:
            raise InvalidInputError("offer.role", offer.role.value, "seller, of a contract that was reopened")
        return Statement(
            old=self.old, terms=offer.terms, seller=offer.party, buyer=buyer, leaving=self.leaving, dues=self.dues,
            payer=self.payer, valid_until=self.valid_until,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Everything that fixes a reopening; who has it computes the same bytes."""

    old: Coin
    """The old contract's collateral."""
    terms: ContractTerms
    """The new contract's; its ``rate`` is this transaction's."""
    seller: Party
    """Of the new contract, with the coins that it brings; what it gets goes to its change script."""
    buyer: Party
    """Of the new contract: the newcomer, or the holder that stays."""
    leaving: Leaving | None
    """The holder of a transfer."""
    dues: Mapping[Owner, int]
    """Of each owner, in satoshis, fees apart: what it gets, or below 0 what it brings."""
    payer: Owner
    """Who pays for what is common."""
    valid_until: UnixSeconds
    """From this second on nobody signs anything of it."""

    @property
    def leaves(self) -> bool:
        """Whether the holder leaves: a transfer."""
        return self.leaving is not None

    @property
    def goes(self) -> str:
        """The same in a word."""
        return "leaves" if self.leaves else "stays"

    @property
    def buying(self) -> Owner:
        """Who is the new contract's buyer."""
        return Owner.NEWCOMER if self.leaves else Owner.HOLDER

    @property
    def owners(self) -> tuple[Owner, ...]:
        """Everybody who has a part in it."""
        return tuple(Owner) if self.leaves else (Owner.SELLER, Owner.HOLDER)

    @property
    def offer(self) -> Offer:
        """The seller's half as an offer, which the buyer's half answers: so the new contract has a name like any."""
        return Offer(terms=self.terms, role=Role.SELLER, party=self.seller)

    @property
    def origin(self) -> Origin:
        """What there is of it beyond the new contract's offer and its answer."""
        return Origin(
            old=self.old, leaving=self.leaving, dues=dict(self.dues), payer=self.payer, valid_until=self.valid_until
        )  # fmt: skip

    def stakes(self) -> dict[Owner, Stake]:
        """Return each owner's part of the transaction: of those that get, bring or pay something."""
        halves = {Owner.SELLER: _half(self.seller), self.buying: _half(self.buyer)}
        if self.leaving is not None:
            halves[Owner.HOLDER] = self.leaving
        if strangers := set(self.dues) - set(halves):
            names = ", ".join(sorted(one.value for one in strangers))
            raise InvalidInputError("dues", f"of {names}, who has no part in it", "dues of its owners")
        found = {
            owner: Stake(due=self.dues.get(owner, 0), script=half.script, coins=half.coins)
            for owner, half in halves.items()
        }
        return {owner: one for owner, one in found.items() if one.due or one.coins or owner is self.payer}


def transfer_of(
    old: Coin, terms: ContractTerms, *, price: Sats, rate: SatsPerKvb, seller: Party, newcomer: Party,
    leaving: Leaving, valid_until: UnixSeconds,
) -> Statement:  # fmt: skip
    """Return the transfer of the holder's side to a newcomer, for a price that it gets to the satoshi.

    old, terms: of the contract; a newcomer has them from others, and asks its own node for the collateral. The new
    contract's terms are the old one's, so whatever is attested the seller is paid what it would have been paid. The
    newcomer pays price and fee; who brings a coin of its own pays for that coin. Raises InvalidInputError for a price
    below dust, or above what the contract can ever pay.
    """
    if not DUST_P2TR <= price <= terms.collateral:
        expected = f"{DUST_P2TR} to the collateral, {terms.collateral:,} sats"
        raise InvalidInputError("price_sats", f"{price:,}", expected)
    return Statement(
        old=old, terms=replace(terms, rate=rate), seller=seller, buyer=newcomer, leaving=leaving,
        dues={Owner.HOLDER: price, Owner.NEWCOMER: -price}, payer=Owner.NEWCOMER, valid_until=valid_until,
    )  # fmt: skip


def roll_of(
    held: Held, terms: ContractTerms, *, payout: Sats, seller: Party, holder: Party, valid_until: UnixSeconds
) -> Statement:
    """Return the roll of a contract into new terms between the same two. A splice is a roll to the same expiry.

    payout: what the old contract is worth to the holder now, as both say. It pays the new premium out of it, or brings
    the rest in coins; the seller gets or brings what is left, and pays the fee, as in a close. Raises
    InvalidInputError.
    """
    if not 0 <= payout <= held.terms.collateral:
        raise InvalidInputError("payout_sats", f"{payout:,}", f"0 to the collateral, {held.terms.collateral:,}")
    return Statement(
        old=held.coin, terms=terms, seller=seller, buyer=holder, leaving=None,
        dues={
            Owner.SELLER: held.terms.collateral - payout - terms.collateral + terms.premium,
            Owner.HOLDER: payout - terms.premium,
        },
        payer=Owner.SELLER, valid_until=valid_until,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopened:
    """What all compute from one statement: the transaction, and every CET of the new contract."""

    id: Hash32
    """Of the new contract, as any contract has it: its terms and both halves. The transaction has a txid of its own."""
    statement: Statement
    splice: Splice
    plan: ExecutionPlan

    @property
    def terms(self) -> ContractTerms:
        """The new contract's."""
        return self.statement.terms

    def agreement(self) -> Agreement:
        """Return it as whoever watches and settles the new contract has any: this transaction is its funding.

        Nobody signs a funding by it: the old collateral stands among the seller's inputs, and a leaving holder's coins
        among the buyer's.
        """
        splice = self.splice
        funding = Funding(
            transaction=splice.transaction, spent=splice.spent, seller_inputs=1 + len(self.statement.seller.coins),
            fee=splice.fee, seller_fee=splice.fees.get(Owner.SELLER, Sats(0)),
        )  # fmt: skip
        return Agreement(id=self.id, terms=self.terms, funding=funding, plan=self.plan, offering=Role.SELLER)


def reopen(
    statement: Statement, payouts: Payouts, *, event: OracleEvent, policy: SetupPolicy,
    buckets: Sequence[Bucket] | None = None, points: tuple[DigitPoints, ...] | None = None,
) -> Reopened:  # fmt: skip
    """Return what a statement means. Pure: equal arguments give byte-equal transactions.

    payouts, event, policy, buckets, points: as ``setup.agree`` has them. Raises as that, and as ``build_splice``.
    """
    terms = statement.terms
    setup.check_new(terms)
    parties = {"seller's": statement.seller, f"{statement.buying.value}'s": statement.buyer}
    setup.check_halves(terms, parties, event=event, policy=policy)
    if statement.leaving is not None and len(statement.leaving.coins) > MAX_COINS:
        raise InvalidInputError("holder's coins", f"{len(statement.leaving.coins)}", f"at most {MAX_COINS}")
    contract = setup.contract_of(
        terms, buyer=statement.buyer, seller=statement.seller, min_refund_delay=policy.min_refund_delay
    )
    splice = build_splice(
        statement.old, contract, stakes=statement.stakes(), payer=statement.payer, rate=terms.rate
    )  # fmt: skip
    if buckets is None:
        buckets = setup.buckets_of(terms, payouts, event=event, limit=policy.max_buckets)
    plan = ExecutionPlan(
        contract=contract, funding=splice.outpoint, buckets=buckets, announcements=terms.announcements,
        threshold=terms.threshold, cet_fee=terms.cet_fee, shared_points=points,
    )  # fmt: skip
    name = contract_id(statement.offer, statement.buyer)
    return Reopened(id=name, statement=statement, splice=splice, plan=plan)


# ---- what each side looks at before it signs


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What one owner has agreed to, by its own records alone. Nothing is signed that is anything else."""

    owner: Owner
    held: Held | None
    """The old contract; None: a newcomer, who has it from others."""
    half: Party | Leaving
    """Our own half: keys, scripts, coins."""
    terms: ContractTerms | None
    """The new contract's; None: we leave."""
    least: int
    """What we have more on the chain after it than before, fees counted, at least; below 0 the most that we pay."""
    valid_until: UnixSeconds
    """How long our word stands."""
    wallet: frozenset[bytes] = field(default=frozenset(), repr=False)
    """Every script of ours: a coin of it that another owner names as its own is none of its."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a word that no owner can have given."""
        if (self.held is None) != (self.owner is Owner.NEWCOMER):
            raise InvalidInputError("word.held", f"of the {self.owner.value}", "the old contract of who is in it")
        if self.leaves and (self.owner is not Owner.HOLDER or self.terms is not None):
            raise InvalidInputError("word.half", f"the {self.owner.value} leaves", "a holder, without new terms")
        if not self.leaves and self.terms is None:
            raise InvalidInputError("word.terms", "missing", "the new contract's, of whoever is in it")

    @property
    def leaves(self) -> bool:
        """Whether this owner is in the old contract alone."""
        return isinstance(self.half, Leaving)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What one's own clock, node and records say at the moment of signing."""

    now: UnixSeconds
    tip: Height
    last_blocks: int
    """Before the expiry height, in which nothing is reopened; 0 where blocks come when somebody makes them."""
    attested: bool
    """Whether any oracle's word on the old contract's event, or the new one's, is known."""
    expired: bool
    """Whether the expiry of either has passed, by the market's clock."""
    seen: Mapping[OutPoint, SeenCoin] = field(repr=False)
    """As ``splice.check_coins`` has it: the old collateral and every coin, as one's own node has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """That an owner has checked every signature of the other side of the new contract; ``secure`` makes it."""

    txid: Txid
    """Of the transaction whose output these signatures spend."""
    id: Hash32
    owner: Owner

    @classmethod
    def of(cls, reopened: Reopened, owner: Owner) -> Secured:
        """Return it of a reopening. Only who has checked the signatures may."""
        return cls(txid=reopened.splice.transaction.txid, id=reopened.id, owner=owner)


def check_word(reopened: Reopened, word: Word) -> None:
    """Compare a reopening with what an owner has agreed to. Raises InvalidInputError naming the first difference.

    Raises CoinNotTheirsError where another owner names a coin of ours.
    """
    said, splice = reopened.statement, reopened.splice
    if word.held is not None:
        _same("old.outpoint", said.old.outpoint, word.held.funding)
        _same("old.output", said.old.output, word.held.contract.funding_txout())
    if word.owner not in said.owners or (word.owner is Owner.HOLDER and said.leaves != word.leaves):
        raise InvalidInputError("reopening.leaving", f"says that the holder {said.goes}", "what we have agreed to")
    _check_half(said, word)
    _check_terms(said.terms, word.terms)
    if said.valid_until > word.valid_until:
        raise InvalidInputError("reopening.valid_until", f"{said.valid_until}", f"{word.valid_until} or before")
    if (net := splice.net(word.owner)) < word.least:
        problem = f"the {word.owner.value} has {net:,} sats more after it"
        raise InvalidInputError("reopening.net", problem, f"{word.least:,} or more, as agreed")
    for index, (txin, output) in enumerate(zip(splice.transaction.inputs, splice.spent, strict=True)):
        owner = splice.owner_of(index)
        if owner not in (None, word.owner) and output.script in word.wallet:
            raise CoinNotTheirsError(owner.value if owner else "", str(txin.outpoint))


def check_moment(reopened: Reopened, word: Word, moment: Moment) -> None:
    """Refuse what has lapsed, or what a settlement could overtake. Raises TooLateToReopenError.

    Raises CoinMissingError for an input that is not in the chain, or that something that waits spends.
    """
    until = min(reopened.statement.valid_until, word.valid_until)
    if moment.now >= until:
        raise TooLateToReopenError(f"it was good until {until}, it is {moment.now}")
    if moment.attested:
        raise TooLateToReopenError("an oracle has attested the price")
    if moment.expired:
        raise TooLateToReopenError("the expiry has passed")
    ends = reopened.terms.expiry_height if word.held is None else word.held.terms.expiry_height
    first = min(ends, reopened.terms.expiry_height)
    if moment.last_blocks and moment.tip + moment.last_blocks > first:
        left = max(first - moment.tip, 0)
        raise TooLateToReopenError(
            f"block {moment.tip:,} is {left} before the expiry's, and {moment.last_blocks} are asked for"
        )
    check_coins(reopened.splice, moment.seen)


def ask(reopened: Reopened, word: Word, authority: Authority) -> None:
    """Ask an owner's mandate. Raises WrongMandateError, OutsideMandateError naming the term.

    Whoever is in the old contract ends it at an agreed amount, which its mandate's rule for closes must allow. Whoever
    is in the new one must be allowed that contract: a newcomer at its price as the premium. A seller whose terms stay
    what they are takes on nothing new. The exposure in the authority's situation is without the old contract.
    """
    due = reopened.statement.dues.get(word.owner, 0)
    if word.held is not None:
        authority.check_close(
            payout=Sats(max(due, 0)), rate=reopened.splice.rate, fee=reopened.splice.fees.get(word.owner, Sats(0)),
            guest_input=b"",
        )  # fmt: skip
    if word.terms is None or is_unchanged(reopened, word):
        return
    terms = replace(word.terms, premium=Sats(max(-due, 0))) if word.owner is Owner.NEWCOMER else word.terms
    authority.check_contract(terms, _ROLES[word.owner])


def is_unchanged(reopened: Reopened, word: Word) -> bool:
    """Return whether the new contract's terms are those of the one that this owner is in, but for the fee rate."""
    return word.held is not None and replace(word.held.terms, rate=reopened.terms.rate) == reopened.terms


def _ready(reopened: Reopened, word: Word, authority: Authority, moment: Moment) -> None:
    check_word(reopened, word)
    check_moment(reopened, word, moment)
    ask(reopened, word, authority)


# ---- signing


def presign_new(
    reopened: Reopened, word: Word, secret: bytes, *, authority: Authority, moment: Moment
) -> bytes:  # fmt: skip
    """Return our pre-signatures of the new contract's CETs: they spend what is not there before the reopening is.

    secret: of our key in the new contract. Raises as ``check_word``, ``check_moment`` and ``ask``, before anything is
    signed, and InvalidInputError for one who leaves.
    """
    if not isinstance(word.half, Party):
        raise InvalidInputError("owner", f"the {word.owner.value}, who leaves", "a side of the new contract")
    if secp256k1.public_key_compressed(secret) != word.half.key:
        raise InvalidInputError("secret key", "is not the party's", "the secret of our key in the new contract")
    _ready(reopened, word, authority, moment)
    return presign(reopened.plan, secret)


def secure(reopened: Reopened, owner: Owner, presignatures: bytes) -> Secured:
    """Check the pre-signatures of the other side of the new contract. Raises WrongAdaptorError naming the bucket.

    owner: whose safety it is: the seller checks the buyer's, whoever buys the seller's.
    """
    if owner not in (Owner.SELLER, reopened.statement.buying):
        raise InvalidInputError("owner", f"the {owner.value}, who leaves", "a side of the new contract")
    check_presignatures(reopened.plan, _ROLES[owner].other.value, presignatures)
    return Secured.of(reopened, owner)


def sign_coins(
    reopened: Reopened, word: Word, wallet: Mapping[bytes, TaprootKey], *, secured: Secured | None,
    authority: Authority, moment: Moment,
) -> dict[int, tuple[bytes, ...]]:  # fmt: skip
    """Return the witnesses of our own coins, by input index, for the service alone; of no other, also where a key fits.

    secured: of this reopening and this owner; None from one who leaves. Raises NotSecuredError, and as ``presign_new``.
    """
    _check_secured(reopened, word, secured)
    _ready(reopened, word, authority, moment)
    splice = reopened.splice
    return {
        index: (wallet[splice.spent[index].script].sign_input(splice.transaction, index, splice.spent),)
        for index in splice.inputs.get(word.owner, ())
        if splice.spent[index].script in wallet
    }


class Reopening:
    """The signing of a reopening by the old contract's key path. All pass the same compressed keys, buyer's first."""

    def __init__(self, reopened: Reopened, held: Held, *, buyer_key: bytes, seller_key: bytes) -> None:
        """Aggregate the old contract's keys. Raises InvalidInputError when they are not its key path."""
        _same("old.outpoint", reopened.statement.old.outpoint, held.funding)
        _same("old.output", reopened.statement.old.output, held.contract.funding_txout())
        self.reopened = reopened
        self._path = KeyPath(
            held.contract, reopened.splice.sighash(), buyer_key=buyer_key, seller_key=seller_key, what="the reopening"
        )

    def nonce(self, secret: bytes, entropy: bytes) -> SecretNonce:
        """Return a fresh nonce for this reopening; ``entropy`` is 32 random bytes, never used before."""
        return self._path.nonce(secret, entropy)

    def sign(
        self, word: Word, secret: bytes, nonce: SecretNonce, public_nonces: Sequence[bytes], *,
        secured: Secured | None, authority: Authority, moment: Moment,
    ) -> bytes:  # fmt: skip
        """Return our partial signature, for the service alone; the nonce is used up.

        public_nonces: the old buyer's, the seller's. secured: as ``sign_coins`` has it. Raises NotSecuredError,
        InvalidInputError as ``Closing.sign``, and as ``presign_new``; the nonce stays unused then.
        """
        if word.held is None:
            raise InvalidInputError("owner", "a newcomer", "a side of the old contract")
        _check_secured(self.reopened, word, secured)
        _ready(self.reopened, word, authority, moment)
        return self._path.sign(secret, nonce, public_nonces)

    def check_nonce(self, public: bytes) -> None:
        """Check that a public nonce is one, before it is handed on. Raises InvalidInputError."""
        aggregate_nonces([public])

    def check(self, owner: Owner, public_nonces: Sequence[bytes], partial: bytes) -> None:
        """Check one side's partial signature. Raises WrongSignatureError naming the party."""
        self._path.check(_ROLES[owner].value, public_nonces, partial)

    def finish(
        self, public_nonces: Sequence[bytes], partials: Sequence[bytes],
        witnesses: Mapping[int, Sequence[bytes]], secured: Sequence[Secured],
    ) -> Transaction:  # fmt: skip
        """Return the signed transaction: what the service does, and sends at once.

        witnesses: of every owner's coins. secured: of both sides of the new contract, whose signatures the service has
        checked too. Raises NotSecuredError, WrongSignatureError naming whose part is wrong or missing.
        """
        for owner in (Owner.SELLER, self.reopened.statement.buying):
            if Secured.of(self.reopened, owner) not in secured:
                raise NotSecuredError(owner)
        signed = self.reopened.splice.transaction
        for index in range(1, len(signed.inputs)):
            check_coin_witness(self.reopened, index, witness := tuple(witnesses.get(index, ())))
            signed = signed.with_witness(index, witness)
        return signed.with_witness(0, [self._path.finish(public_nonces, partials)])


def check_coin_witness(reopened: Reopened, index: int, witness: Sequence[bytes]) -> None:
    """Check the witness of one coin. Raises WrongSignatureError naming its owner."""
    splice = reopened.splice
    try:
        check_witness(splice.transaction, index, splice.spent, witness)
    except WrongWitnessError as e:
        owner = splice.owner_of(index)
        party = owner.value if owner else "contract"
        raise WrongSignatureError(party=party, what=f"input {index} of the reopening", problem=e.problem) from e


def check_signed(reopened: Reopened, transaction: Transaction) -> None:
    """Check that a transaction is this reopening, signed by all. Raises InvalidInputError, WrongSignatureError."""
    splice = reopened.splice
    _same("transaction", display_txid(transaction.txid), display_txid(splice.transaction.txid))
    for index, txin in enumerate(transaction.inputs):
        if index:
            check_coin_witness(reopened, index, txin.witness)
    key, signature = splice.spent[0].script[2:], transaction.inputs[0].witness
    whole = len(signature) == 1 and len(signature[0]) == leaves.SIGNATURE_SIZE
    if not whole or not secp256k1.schnorr_verify(key, splice.sighash(), signature[0]):
        raise WrongSignatureError(party="one of the old sides", what="the reopening")


# ---- which of the two contracts counts


class Stage(Enum):
    """How far a reopening is, by the chain."""

    WAITS = "waits"
    """No block has it: the old contract counts, and both are shown."""
    FRESH = "fresh"
    """A block has it: the new contract counts, and the old one's signatures are kept."""
    FINAL = "final"
    """Six blocks have it."""
    VOID = "void"
    """A block has spent one of its inputs otherwise: the old contract counts, or what spent it."""


def stage_of(*, confirmations: int, spent_otherwise: bool) -> Stage:
    """Return how far a reopening is. confirmations: of its transaction in the active chain, 0 for none."""
    if confirmations >= FINAL_DEPTH:
        return Stage.FINAL
    if confirmations:
        return Stage.FRESH
    return Stage.VOID if spent_otherwise else Stage.WAITS


def undone_by(splice: Splice, spent_otherwise: Sequence[OutPoint]) -> frozenset[Owner]:
    """Return who has taken its word back, by the chain: whose coin another transaction spends.

    spent_otherwise: outpoints that a block has spent by something else. Of the old collateral it says nothing: its two
    sides have what settles the old contract, and may.
    """
    owners = [
        splice.owner_of(index)
        for index, txin in enumerate(splice.transaction.inputs)
        if txin.outpoint in spent_otherwise
    ]
    return frozenset(one for one in owners if one is not None)


# ---- pieces


def _half(party: Party) -> Leaving:
    return Leaving(script=party.change_script, coins=party.coins)


def _same(name: str, value: object, expected: object) -> None:
    if value != expected:
        raise InvalidInputError(f"reopening.{name}", f"{value}", f"{expected}, by our own records")


def _check_half(said: Statement, word: Word) -> None:
    if isinstance(word.half, Leaving):
        theirs: Party | Leaving | None = said.leaving
    else:
        theirs = said.seller if word.owner is Owner.SELLER else said.buyer
    for one in fields(word.half):
        if theirs is None or getattr(theirs, one.name) != getattr(word.half, one.name):
            name = f"reopening.{word.owner.value}.{one.name}"
            raise InvalidInputError(name, "is another than ours", "our own half, as we said it")


def _check_terms(said: ContractTerms, agreed: ContractTerms | None) -> None:
    if agreed is None:
        return
    for one in fields(agreed):
        if getattr(said, one.name) != getattr(agreed, one.name):
            problem = f"{getattr(said, one.name)}"
            raise InvalidInputError(f"reopening.terms.{one.name}", problem, f"{getattr(agreed, one.name)}, as agreed")


def _check_secured(reopened: Reopened, word: Word, secured: Secured | None) -> None:
    if not word.leaves and secured != Secured.of(reopened, word.owner):
        raise NotSecuredError(word.owner)


# ---- writing and reading


def encode_leaving(leaving: Leaving) -> dict[str, Any]:
    """Return a leaving holder's half as JSON."""
    return {"script": leaving.script.hex(), "coins": [encode_coin(coin) for coin in leaving.coins]}


def encode_origin(origin: Origin) -> dict[str, Any]:
    """Return an origin as JSON."""
    return {
        "old": encode_coin(origin.old),
        "leaving": None if origin.leaving is None else encode_leaving(origin.leaving),
        "dues": {owner.value: due for owner, due in origin.dues.items()},
        "payer": origin.payer.value,
        "valid_until_unix": origin.valid_until,
    }


LEAVING: Final = record(Leaving, script=hexadecimal(), coins=COINS)
"""A leaving holder's half in a message."""

_DUE: Final = whole(-MAX_MONEY_SATS, MAX_MONEY_SATS)

_ORIGIN: Final = record(
    Origin, exact=True, old=COIN, leaving=optional(LEAVING),
    dues=Rule(lambda value: {Owner(name): _DUE(due) for name, due in value.items()}, "owners with satoshis"),
    payer=one_of(Owner), valid_until="valid_until_unix",
)  # fmt: skip


def decode_origin(value: object) -> Origin:
    """Return the origin of a JSON value. Raises InvalidInputError naming the field."""
    return _ORIGIN.read(value, "reopened")
