"""The rounds of a batch at its coordinator: who is asked what until when, who drops out, and what is tried instead.

    nonces      each owner has its proposal, and answers with a public nonce for each of its inputs
    partials    each owner has all nonces of its inputs, and answers with a partial signature for each
    signed      the transaction is whole, and is sent at once
    over        nothing more is tried together: what is left closes by twos, or by its CETs

Nonces are asked for with a deadline first: who is silent there has cost nobody a signature. Who is silent after them,
or whose part does not hold, is dropped with its contracts, and all others are asked anew: every nonce of the old try is
burnt, since all sign the whole transaction. Three tries, then what is left is divided by its two owners, one try
each (``by_twos``); what is dropped ends by its CETs, which every party has. Nothing begins that could not end before
``until``. The clock is an argument, the state a value: a coordinator that forgets all of it costs a try. Whose answer
an answer is, its carrier has checked. Pure. Source: findings on payoffs, section 3; docs/decisions/0073.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.musig import aggregate_nonces
from btcfi.bitcoin.script import is_known_program
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.contracts.batch import Batch, Ending, NotAskedError, Proposal, build_batch, share_of
from btcfi.contracts.option import CollateralTooSmallError, WrongSignatureError
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.units import UnixSeconds

TRIES: Final = 3
"""Of which somebody broke the second round, before what is left closes by twos. Source: findings, section 3."""

PROPOSALS: Final = 6
"""Of one batch, silence in the first round counted: a bound on what one who is silent by turns can cost."""


_NEVER: Final = UnixSeconds(0)


class Stage(StrEnum):
    """How far a batch is."""

    NONCES = "nonces"
    PARTIALS = "partials"
    SIGNED = "signed"
    OVER = "over"


class Why(StrEnum):
    """Why an owner or a contract is out of a batch."""

    SILENT_NONCES = "said no nonces in time"
    SILENT_PARTIALS = "said no partial signatures in time"
    WRONG_NONCES = "said nonces that are none"
    WRONG_PARTIALS = "said a partial signature that does not hold"
    REFUSED = "refused the proposal"
    SPENT = "its collateral was spent otherwise"
    TOO_SMALL = "its collateral does not pay a close"
    LATE = "no time was left to ask"
    NO_KEY_PATH = "its keys make no key path"
    NO_SCRIPT = "an owner has named no script"
    TRIED = "was tried as often as the rules allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How long is waited, and how often tried."""

    nonce_seconds: int = 20
    partial_seconds: int = 20
    tries: int = TRIES
    proposals: int = PROPOSALS

    def __post_init__(self) -> None:
        """Raise InvalidInputError for rules by which nothing would ever be asked."""
        if min(self.nonce_seconds, self.partial_seconds, self.tries, self.proposals) < 1:
            raise InvalidInputError("batch rules", "one is below 1", "seconds and tries, 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An owner that dropped out, and why."""

    owner: str
    why: Why
    number: int
    """The proposal."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """A contract that ends by its CET."""

    ending: Ending
    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """A batch on its way."""

    rules: Rules
    rate: SatsPerKvb
    scripts: Mapping[str, bytes]
    until: UnixSeconds
    stage: Stage
    endings: tuple[Ending, ...]
    """Still in it. When it is over they are those that ``by_twos`` divides."""
    batch: Batch | None = None
    number: int = 0
    """Of the proposal that is asked about."""
    broken: int = 0
    """Tries that failed after nonces were given, or that a node refused."""
    deadline: UnixSeconds = _NEVER
    answers: Mapping[str, Mapping[int, bytes]] = field(default_factory=dict, repr=False)
    """What this round's owners have said."""
    nonces: Mapping[str, Mapping[int, bytes]] = field(default_factory=dict, repr=False)
    """What the first round's have, in the second."""
    failing: Mapping[str, Fault] = field(default_factory=dict)
    """Who has failed in this round, and drops out at its end."""
    faults: tuple[Fault, ...] = ()
    apart: tuple[Apart, ...] = ()
    signed: Transaction | None = field(default=None, repr=False)
    by_two: bool = False
    """Whether it is between two owners, after the whole has failed."""

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Who owes an answer."""
        if self.batch is None or self.stage not in (Stage.NONCES, Stage.PARTIALS):
            return ()
        return tuple(one for one in self.batch.owners if one not in self.answers and one not in self.failing)

    def proposals(self) -> dict[str, Proposal]:
        """Return what each owner is asked in the first round."""
        batch = self.asking(Stage.NONCES)
        return {owner: batch.proposal(owner, self.number) for owner in batch.owners}

    def nonces_for(self, owner: str) -> dict[int, tuple[bytes, bytes]]:
        """Return what one owner is asked in the second round: of each of its inputs both nonces, the buyer's first."""
        batch = self.asking(Stage.PARTIALS)
        return {index: self.both_nonces(batch, index) for index in batch.inputs_of(owner)}

    def asking(self, stage: Stage) -> Batch:
        """Return what is asked about in a stage. Raises NotAskedError in another one."""
        if self.batch is None or self.stage is not stage:
            raise NotAskedError(self.number, f"is in its stage {self.stage.value!r}, not {stage.value!r}")
        return self.batch

    def both_nonces(self, batch: Batch, index: int) -> tuple[bytes, bytes]:
        """Return the nonces of one input, the buyer's first."""
        buyer, seller = batch.endings[index].owners
        return self.nonces[buyer][index], self.nonces[seller][index]


def start(
    endings: Iterable[Ending], scripts: Mapping[str, bytes], *, rate: SatsPerKvb, now: UnixSeconds, until: UnixSeconds,
    rules: Rules | None = None,
) -> Batching:  # fmt: skip
    """Return a batch whose first proposal is asked about, or one that is over at once.

    endings: at most 128 (``batch.divide``). until: when all of it must have ended, so that CETs have their time. A
    contract that cannot pay its share, has no key path, or an owner without a script is set apart. Raises
    InvalidInputError as ``build_batch``.
    """
    whys = [(one, _unfit(one, scripts, rate)) for one in endings]
    state = Batching(
        rules=rules or Rules(), rate=rate, scripts=scripts, until=until, stage=Stage.OVER,
        endings=tuple(one for one, why in whys if why is None),
        apart=tuple(Apart(ending=one, why=why) for one, why in whys if why is not None),
    )  # fmt: skip
    return _propose(state, now)


def take_nonces(
    state: Batching, owner: str, number: int, nonces: Mapping[int, bytes], *, now: UnixSeconds
) -> Batching:  # fmt: skip
    """Return the state after an owner's first answer. Nonces that are none are its fault, not an error.

    Raises NotAskedError for an answer to what is not asked, too late, or the second of one owner: the first counts.
    """
    batch = _check_answer(state, owner, number, Stage.NONCES, now)
    try:
        _check_inputs(batch, owner, nonces)
        for one in nonces.values():
            aggregate_nonces([one])
    except InvalidInputError as e:
        return _move(_fail(state, owner, Why.WRONG_NONCES, str(e)), now)
    return _move(replace(state, answers={**state.answers, owner: dict(nonces)}), now)


def take_partials(
    state: Batching, owner: str, number: int, partials: Mapping[int, bytes], *, now: UnixSeconds
) -> Batching:
    """Return the state after an owner's second answer; each part is checked by itself. Raises as ``take_nonces``."""
    batch = _check_answer(state, owner, number, Stage.PARTIALS, now)
    try:
        _check_inputs(batch, owner, partials)
        for index, path in batch.paths(partials).items():
            party, partial = "buyer" if batch.endings[index].buyer.owner == owner else "seller", partials[index]
            path.check(party, state.both_nonces(batch, index), partial)
    except (InvalidInputError, WrongSignatureError) as e:
        return _move(_fail(state, owner, Why.WRONG_PARTIALS, str(e)), now)
    return _move(replace(state, answers={**state.answers, owner: dict(partials)}), now)


def take_refusal(state: Batching, owner: str, number: int, reason: str, *, now: UnixSeconds) -> Batching:
    """Return the state after an owner's no: as if it were silent, and at once. Raises as ``take_nonces``."""
    _check_answer(state, owner, number, state.stage, now)
    return _move(_fail(state, owner, Why.REFUSED, reason), now)


def advance(state: Batching, *, now: UnixSeconds) -> Batching:
    """Return the state after time has passed: whoever owes an answer at its deadline drops out."""
    if not state.waits_for or now < state.deadline:
        return state
    why = Why.SILENT_NONCES if state.stage is Stage.NONCES else Why.SILENT_PARTIALS
    for owner in state.waits_for:
        state = _fail(state, owner, why)
    return _move(state, now)


def spent_otherwise(state: Batching, outpoints: Collection[OutPoint], *, now: UnixSeconds) -> Batching:
    """Return the state after a node has refused the signed transaction, or has another that spends its inputs.

    outpoints: what something else spends, by one's own node. Both sides have what settles their contract, so nobody is
    at fault and nobody drops out: that contract does. None of ours among them changes nothing.
    """
    gone = [one for one in state.endings if one.funding in outpoints]
    if not gone:
        return state
    left = tuple(one for one in state.endings if one not in gone)
    apart = state.apart + tuple(Apart(ending=one, why=Why.SPENT) for one in gone)
    return _again(replace(state, endings=left, apart=apart, signed=None, broken=state.broken + 1), now)


def by_twos(state: Batching, *, now: UnixSeconds) -> list[Batching]:
    """Return what is tried next of a batch that is over: one for each two owners, one try each; then CETs alone."""
    if state.stage is not Stage.OVER or state.by_two:
        return []
    couples: dict[tuple[str, ...], list[Ending]] = {}
    for one in state.endings:
        couples.setdefault(tuple(sorted(one.owners)), []).append(one)
    fresh = Batching(
        rules=replace(state.rules, tries=1, proposals=1), rate=state.rate, scripts=state.scripts, until=state.until,
        stage=Stage.OVER, endings=(), by_two=True,
    )  # fmt: skip
    return [_propose(replace(fresh, endings=tuple(some)), now) for some in couples.values()]


# ---- pieces


def _unfit(ending: Ending, scripts: Mapping[str, bytes], rate: SatsPerKvb) -> Why | None:
    """Return why a contract can be in no batch. Of two owners alone each share is the largest that it can be."""
    if ending.contract.collateral < share_of(1, len(ending.owners), rate):
        return Why.TOO_SMALL
    if not all(is_known_program(scripts.get(owner, b"")) for owner in ending.owners):
        return Why.NO_SCRIPT
    try:
        ending.path(ending.proof_root)  # any digest
    except BtcfiError:
        return Why.NO_KEY_PATH
    return None


def _check_answer(state: Batching, owner: str, number: int, stage: Stage, now: UnixSeconds) -> Batch:
    if state.batch is None or state.stage is not stage or stage not in (Stage.NONCES, Stage.PARTIALS):
        raise NotAskedError(number, f"is not asked about {stage.value}: the batch is {state.stage.value}")
    if number != state.number:
        raise NotAskedError(number, f"is not asked about: {state.number} is")
    if now >= state.deadline:
        raise NotAskedError(number, f"was asked about until {state.deadline}, it is {now}")
    if owner not in state.waits_for:
        raise NotAskedError(number, f"waits for nothing of {owner!r}")
    return state.batch


def _check_inputs(batch: Batch, owner: str, said: Mapping[int, bytes]) -> None:
    if sorted(said) != list(batch.inputs_of(owner)):
        raise InvalidInputError("inputs", f"{sorted(said)}", f"{list(batch.inputs_of(owner))}")


def _fail(state: Batching, owner: str, why: Why, detail: str = "") -> Batching:
    fault = Fault(owner=owner, why=why, number=state.number, detail=detail)
    return replace(state, failing={**state.failing, owner: fault})


def _move(state: Batching, now: UnixSeconds) -> Batching:
    """Return the next state when everybody has answered or failed."""
    if state.waits_for:
        return state
    if state.failing:
        return _drop(state, now)
    if state.stage is Stage.NONCES:
        return replace(
            state, stage=Stage.PARTIALS, nonces=state.answers, answers={},
            deadline=UnixSeconds(now + state.rules.partial_seconds),
        )  # fmt: skip
    return replace(state, stage=Stage.SIGNED, signed=_finish(state), answers={}, nonces={})


def _drop(state: Batching, now: UnixSeconds) -> Batching:
    failing = state.failing
    left = tuple(one for one in state.endings if not set(one.owners) & set(failing))
    apart = tuple(
        Apart(ending=one, why=next(failing[owner].why for owner in one.owners if owner in failing))
        for one in state.endings
        if set(one.owners) & set(failing)
    )
    broken = state.broken + (state.stage is Stage.PARTIALS)
    state = replace(
        state, endings=left, apart=state.apart + apart, faults=state.faults + tuple(failing.values()), broken=broken
    )  # fmt: skip
    return _again(state, now)


def _again(state: Batching, now: UnixSeconds) -> Batching:
    if state.broken >= state.rules.tries or state.number >= state.rules.proposals:
        return _all_apart(_over(state), Why.TRIED) if state.by_two else _over(state)
    return _propose(state, now)


def _propose(state: Batching, now: UnixSeconds) -> Batching:
    if not state.endings:
        return _over(state)
    if now + state.rules.nonce_seconds + state.rules.partial_seconds > state.until:
        return _all_apart(_over(state), Why.LATE)
    try:
        batch = build_batch(state.endings, state.scripts, rate=state.rate)
    except CollateralTooSmallError:  # what is left pays nobody
        return _all_apart(_over(state), Why.TOO_SMALL)
    return replace(
        _over(state), stage=Stage.NONCES, batch=batch, number=state.number + 1,
        deadline=UnixSeconds(now + state.rules.nonce_seconds),
    )  # fmt: skip


def _over(state: Batching) -> Batching:
    return replace(
        state, stage=Stage.OVER, batch=None, answers={}, nonces={}, failing={}, deadline=_NEVER, signed=None
    )  # fmt: skip


def _all_apart(state: Batching, why: Why) -> Batching:
    apart = tuple(Apart(ending=one, why=why) for one in state.endings)
    return replace(state, endings=(), apart=state.apart + apart)


def _finish(state: Batching) -> Transaction:
    """Return the signed transaction; each part was checked when it came."""
    batch, inputs = state.asking(Stage.PARTIALS), []
    paths = batch.paths(range(len(batch.endings)))
    for index, (txin, ending) in enumerate(zip(batch.transaction.inputs, batch.endings, strict=True)):
        partials = [state.answers[owner][index] for owner in ending.owners]
        signature = paths[index].finish(state.both_nonces(batch, index), partials)
        inputs.append(replace(txin, witness=(signature,)))
    return replace(batch.transaction, inputs=tuple(inputs))
