"""A week, or years, of a swap ledger from a file: what everybody did when, and what became of it.

A scenario is JSON: contracts with their first rates, then actions in order of time. An action that a guard refuses is
told with the guard's name and has changed nothing; all others leave events. Source: the actions of ``docs/swaps.md``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final

from btcfi.documents import iso
from btcfi.errors import InvalidInputError
from btcfi.records import FLAG, OBJECT, TEXT, Refused, Rule, listed, record, whole
from btcfi.swaps.book import ORACLE, Event
from btcfi.swaps.contract import Rates, SwapContract
from btcfi.swaps.errors import Guard, SwapRefusedError
from btcfi.swaps.ledger import SwapLedger
from btcfi.swaps.returns import MAX_PRICE, PRICE_UNIT, Prices, Side
from btcfi.units import MAX_MONEY_SATS, UnixSeconds

MAX_ACTIONS: Final = 1_000_000
MAX_NAME: Final = 64

_DECIMAL: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A contract as a scenario lists it."""

    name: str
    asset: str
    quote: str
    leverage_hundredths: int
    target_ppm: int
    basis_ppm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A file that was read."""

    contracts: tuple[Listing, ...]
    actions: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What became of one action."""

    place: int
    at: UnixSeconds
    action: str
    events: tuple[Event, ...] = ()
    refused: Guard | None = None
    problem: str = ""


def _price(text: str) -> int:
    if not _DECIMAL.fullmatch(text) or not 0 < (value := int(Fraction(text) * PRICE_UNIT)) <= MAX_PRICE:
        raise Refused("", repr(text[:41]), "a price above 0 with at most 6 decimals, as text")
    return value


def _name(text: str) -> str:
    if not 1 <= len(text) <= MAX_NAME or not text.isprintable():
        raise Refused("", repr(text[:41]), f"a name of 1 to {MAX_NAME} signs")
    return text


def _prices(value: Any) -> Mapping[str, Prices]:  # noqa: ANN401 - JSON
    return {_name(name): _PRICES(one) for name, one in OBJECT(value).items()}


NAME: Final = Rule(_name, f"a name of 1 to {MAX_NAME} signs")
PRICE: Final = Rule(_price, "a price as text")
_PRICES: Final = record(Prices, exact=True, asset=PRICE, margin=PRICE)
PRICES: Final = Rule(_prices, "prices by contract, each of asset and margin")
AMOUNT: Final = whole(0, MAX_MONEY_SATS)
NUMBER: Final = whole(1, (1 << 53) - 1)
PPM: Final = whole(-1_000_000, 1_000_000)
SIDE: Final = Rule(lambda text: Side[{"long": "LONG", "short": "SHORT"}[text]], "'long' or 'short'")

_LISTING: Final = record(Listing, exact=True, leverage_hundredths=whole(1, 10_000), target_ppm=PPM, basis_ppm=PPM)
_ACTION: Final = Rule(lambda value: MappingProxyType(OBJECT(value)), "an action")
_FILE: Final = record(
    Scenario, exact=True, contracts=listed(_LISTING, 1_000), actions=listed(_ACTION, MAX_ACTIONS)
)  # fmt: skip

BOOK: Final = {"contract": NAME, "provider": NAME}


@dataclass(frozen=True, slots=True)
class _Action:
    """What an action's fields must be, and what it does."""

    fields: Mapping[str, Rule[Any]]
    do: Callable[[SwapLedger, UnixSeconds, Json], tuple[Event, ...]]


def _key(given: Json) -> tuple[str, str]:
    return given["contract"], given["provider"]


ACTIONS: Final[Mapping[str, _Action]] = {
    "post": _Action(
        {"prices": PRICES, "settles": FLAG, "caller": NAME},
        lambda one, now, g: one.post(g["prices"], settles=g["settles"], caller=g["caller"], now=now),
    ),
    "correct": _Action(
        {"prices": PRICES, "caller": NAME},
        lambda one, now, g: one.correct(g["prices"], caller=g["caller"], now=now),
    ),
    "propose": _Action(
        {"contract": NAME, "target_ppm": PPM, "basis_ppm": PPM, "caller": NAME},
        lambda one, _, g: one.propose(
            g["contract"], Rates(target_ppm=g["target_ppm"], basis_ppm=g["basis_ppm"]), caller=g["caller"]
        ),
    ),
    "compute": _Action(
        {"contract": NAME, "caller": NAME},
        lambda one, now, g: one.compute(g["contract"], caller=g["caller"], now=now),
    ),
    "pause": _Action(
        {"contract": NAME, "paused": FLAG, "caller": NAME},
        lambda one, _, g: one.pause(g["contract"], paused=g["paused"], caller=g["caller"]),
    ),
    "initialise": _Action(
        BOOK | {"taken_before_unix": NUMBER, "caller": NAME},
        lambda one, _, g: one.initialise(_key(g), caller=g["caller"], taken_before=UnixSeconds(g["taken_before_unix"])),
    ),
    "settle": _Action(BOOK | {"caller": NAME}, lambda one, now, g: one.settle(_key(g), caller=g["caller"], now=now)),
    "admin-cancel": _Action(
        BOOK | {"number": NUMBER, "caller": NAME},
        lambda one, _, g: one.admin_cancel(_key(g), g["number"], caller=g["caller"]),
    ),
    "create-book": _Action(
        {"contract": NAME, "caller": NAME, "amount_sats": AMOUNT, "minimum_take_sats": AMOUNT},
        lambda one, now, g: one.create_book(
            g["contract"], caller=g["caller"], amount=g["amount_sats"], minimum_take=g["minimum_take_sats"], now=now
        ),
    ),
    "fund-provider": _Action(
        BOOK | {"amount_sats": AMOUNT}, lambda one, _, g: one.fund_provider(_key(g), g["amount_sats"])
    ),
    "fund-taker": _Action(
        BOOK | {"number": NUMBER, "amount_sats": AMOUNT},
        lambda one, _, g: one.fund_taker(_key(g), g["number"], g["amount_sats"]),
    ),
    "take": _Action(
        BOOK | {"caller": NAME, "side": SIDE, "required_sats": AMOUNT, "margin_sats": AMOUNT},
        lambda one, now, g: one.take(
            _key(g), caller=g["caller"], side=g["side"], required=g["required_sats"], amount=g["margin_sats"], now=now
        ),
    ),
    "cancel": _Action(
        BOOK | {"number": NUMBER, "caller": NAME, "paid_sats": AMOUNT},
        lambda one, _, g: one.cancel(_key(g), g["number"], caller=g["caller"], paid=g["paid_sats"]),
    ),
    "burn": _Action(
        BOOK | {"number": NUMBER, "caller": NAME, "paid_sats": AMOUNT},
        lambda one, _, g: one.burn(_key(g), g["number"], caller=g["caller"], paid=g["paid_sats"]),
    ),
    "withdraw-provider": _Action(
        BOOK | {"amount_sats": AMOUNT, "caller": NAME},
        lambda one, _, g: one.withdraw_provider(_key(g), g["amount_sats"], caller=g["caller"]),
    ),
    "withdraw-taker": _Action(
        BOOK | {"number": NUMBER, "amount_sats": AMOUNT, "caller": NAME},
        lambda one, _, g: one.withdraw_taker(_key(g), g["number"], g["amount_sats"], caller=g["caller"]),
    ),
    "redeem": _Action(BOOK | {"number": NUMBER}, lambda one, _, g: one.redeem(_key(g), g["number"])),
    "declare-inactive": _Action(BOOK, lambda one, now, g: one.declare_inactive(_key(g), now=now)),
    "withdraw-balance": _Action({"caller": NAME}, lambda one, _, g: one.withdraw_balance(caller=g["caller"])),
}
"""Every action of a ledger, by the name that a scenario gives it."""


def read_scenario(value: object) -> Scenario:
    """Return a scenario. Raises InvalidInputError naming the field; the actions' own fields are read when they run."""
    return _FILE.read(value, "scenario")


def run(scenario: Scenario, *, begins: Callable[[int], None] = lambda _: None) -> tuple[SwapLedger, list[Step]]:
    """Return the ledger after a scenario, and what became of each action.

    begins: is told each action's place before it runs. Raises InvalidInputError for an action that is not one, or that
    is earlier than the one before it.
    """
    ledger, steps, now = SwapLedger(), list[Step](), UnixSeconds(0)
    for one in scenario.contracts:
        ledger.list_contract(
            SwapContract(
                name=one.name, asset=one.asset, quote=one.quote, leverage_hundredths=one.leverage_hundredths
            ),
            Rates(target_ppm=one.target_ppm, basis_ppm=one.basis_ppm),
        )  # fmt: skip
    for place, given in enumerate(scenario.actions):
        begins(place)
        where = f"actions[{place}]"
        now, name, read = _read(given, where, now)
        try:
            events = ACTIONS[name].do(ledger, now, read)
        except SwapRefusedError as e:
            steps.append(Step(place=place, at=now, action=name, refused=e.guard, problem=str(e)))
        else:
            steps.append(Step(place=place, at=now, action=name, events=events))
        if ledger.held + ledger.burned + ledger.paid_out != ledger.paid_in:  # nothing of it can be: it is money
            raise AssertionError(f"{where}: the ledger's sums differ")
    return ledger, steps


def read_action(name: str, given: Mapping[str, Any], where: str) -> Json:
    """Return an action's own fields as its function takes them. Raises InvalidInputError naming the field."""
    rules = ACTIONS[name].fields
    if lacks := next((field for field in rules if field not in given), ""):
        raise InvalidInputError(f"{where}.{lacks}", "missing", rules[lacks].expected)
    if more := next((field for field in given if field not in rules), ""):
        raise InvalidInputError(f"{where}.{more[:41]}", "unknown", "exactly " + ", ".join(sorted(rules)))
    return {field: rules[field].read(value, f"{where}.{field}") for field, value in given.items()}


def _read(given: Mapping[str, Any], where: str, after: UnixSeconds) -> tuple[UnixSeconds, str, Json]:
    name = TEXT.read(given.get("action"), f"{where}.action")
    if name not in ACTIONS:
        raise InvalidInputError(f"{where}.action", repr(name[:41]), "one of " + ", ".join(sorted(ACTIONS)))
    at = NUMBER.read(given.get("at_unix"), f"{where}.at_unix")
    if at < after:
        raise InvalidInputError(f"{where}.at_unix", f"{at}", f"{after} or later: actions are in order")
    its = {field: value for field, value in given.items() if field not in {"action", "at_unix"}}
    if "caller" in ACTIONS[name].fields:  # who is not named in a file is the oracle, who wrote it
        its.setdefault("caller", ORACLE)
    return UnixSeconds(at), name, read_action(name, its, where)


def as_json(ledger: SwapLedger, steps: list[Step]) -> Json:
    """Return what became of a scenario as one JSON object: every step, every book, every balance, the sums."""
    return {
        "steps": [_step(one) for one in steps],
        "books": [_book(book) for _, book in sorted(ledger.books.items())],
        "balances_sats": dict(sorted(ledger.balances.items())),
        "paid_in_sats": ledger.paid_in, "paid_out_sats": ledger.paid_out, "burned_sats": ledger.burned,
        "held_sats": ledger.held,
    }  # fmt: skip


def _step(one: Step) -> Json:
    said: Json = {"place": one.place, "at": iso(one.at), "action": one.action}
    if one.refused is not None:
        return said | {"refused": one.refused.value, "problem": one.problem}
    return said | {"events": [{"event": event.name} | _plain(event.fields) for event in one.events]}


def _book(book: Any) -> Json:  # noqa: ANN401 - a Book, walked by its fields
    said: Json = {one.name: getattr(book, one.name) for one in fields(book) if one.name != "subcontracts"}
    subs = [{one.name: getattr(each, one.name) for one in fields(each)} for each in book.subcontracts.values()]
    plain: Json = _plain(said | {"required": book.required, "subcontracts": subs})
    return plain


def _plain(value: Any) -> Any:  # noqa: ANN401 - what events and books hold
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Side):
        return value.name.lower()
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if hasattr(value, "week"):
        return {"week": value.week, "slot": value.slot}
    return value.value if hasattr(value, "value") else value
