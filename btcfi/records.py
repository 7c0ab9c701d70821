"""Records of JSON values: what each field must be stands in a rule, and the one refusal names the field by its path.

cattrs makes the reader of a record from its fields' types, and is imported here alone. A rule says how one value is
read and, in words, what would be right; the ranges come from the constructors of ``btcfi.units``. A reader takes the
fields that it knows, all of which must be there, and lets others pass unless it is ``exact``: a later version may say
more.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from enum import Enum
from typing import Any, Final, Generic, TypeVar, get_args, get_type_hints

from btcfi import units
from btcfi.documents import printable
from btcfi.errors import InvalidInputError

T = TypeVar("T")

MAX_ITEMS: Final = 1 << 16
"""Of a list whose rule says nothing smaller."""

_WRONG: Final = (InvalidInputError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError)
"""What a parser may raise of a value that it cannot read."""

_SHOWN: Final = 40
"""Characters of a wrong value that a refusal repeats."""


class Refused(Exception):  # noqa: N818 - it never leaves a reader: the error that does is the caller's
    """A value inside the one that is being read is wrong; ``path`` leads to it."""

    def __init__(self, path: str, problem: str, expected: str, own: InvalidInputError | None = None) -> None:
        super().__init__(f"{path}: {problem}; expected {expected}")
        self.path, self.problem, self.expected = path, problem, expected
        self.own = own
        """What the record's own constructor raised, where it is that which refuses."""


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """How one value is read, and what would be right."""

    parse: Callable[[Any], T]
    expected: str

    def __call__(self, value: object, _kind: object = None) -> T:
        """Return what the value says. Raises Refused."""
        try:
            return self.parse(value)
        except Refused:
            raise
        except InvalidInputError as e:
            better = e.expected if self.expected in e.expected else f"{self.expected}: {e.expected}"
            # a unit's or a name's own field says nothing that the path does not, a nested document's does
            problem = f"{e.field}: {e.problem}" if "." in e.field else e.problem
            raise Refused("", problem, better) from e
        except _WRONG as e:
            raise Refused("", f"{_shown(value)} cannot be read", self.expected) from e

    def read(
        self, value: object, where: str, error: Callable[[str, str, str], Exception] = InvalidInputError
    ) -> T:  # fmt: skip
        """Return what the value says. ``where``: what stands before the path.

        Raises ``error`` with that field; what the outermost record's own constructor refuses stays the domain's error.
        """
        try:
            return self(value)
        except Refused as e:
            if e.own is not None and not e.path:
                raise e.own from e
            raise error(f"{where}{e.path}".lstrip("."), e.problem, e.expected) from e


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value) if not isinstance(value, str) else repr(value[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


# ---- values


def unhex(text: str) -> bytes:
    """Return the bytes of hex in the one form that we write: lower case, nothing between. Raises ValueError, TypeError.

    Two texts of one value would make two files, or two messages, of what has one identity.
    """
    value = bytes.fromhex(text)
    if value.hex() != text:
        raise ValueError(f"{_shown(text)} has other signs than 0-9 and a-f")
    return value


def _unbase64(text: str) -> bytes:
    value = b64decode(text, validate=True)
    if b64encode(value) != text.encode():
        raise ValueError("the spare bits of the last sign are not zero")
    return value


def hexadecimal(size: int | None = None, at_most: int | None = None) -> Rule[bytes]:
    """Return the rule of bytes as hex: of one size, of a bounded one, or of any."""
    expected = f"{size} bytes as hex" if size is not None else "hex" if at_most is None else f"hex of {at_most} bytes"

    def parse(text: Any) -> bytes:  # noqa: ANN401 - JSON
        if at_most is not None and len(text) > 2 * at_most:
            raise Refused("", f"{len(text)} characters", expected)
        value = unhex(text)
        if size is not None and len(value) != size:
            raise Refused("", f"{len(value)} bytes", expected)
        return value

    return Rule(parse, expected)


def whole(low: int, high: int) -> Rule[int]:
    """Return the rule of an integer in a range, ends included."""
    expected = f"a whole number from {low} to {high}"

    def parse(value: object) -> int:
        if type(value) is not int:
            raise Refused("", _shown(value), expected)
        if not low <= value <= high:
            raise Refused("", f"{_shown(value)} is out of range", expected)
        return value

    return Rule(parse, expected)


def _only(kind: type[T], expected: str) -> Rule[T]:
    def parse(value: object) -> T:
        if type(value) is not kind:
            raise Refused("", _shown(value), expected)
        return value

    return Rule(parse, expected)


TEXT: Final = _only(str, "text")
FLAG: Final = _only(bool, "true or false")
WHOLE: Final = _only(int, "a whole number")
OBJECT: Final[Rule[dict[str, Any]]] = _only(dict, "an object")
BASE64: Final = Rule(_unbase64, "base64")
HASH: Final[Rule[units.Hash32]] = Rule(lambda text: units.hash32(unhex(text)), "32 bytes as hex")
TXID: Final[Rule[units.Txid]] = Rule(lambda text: units.parse_txid(unhex(text).hex()), "a txid, 64 hex digits")


def one_of(kind: type[Enum]) -> Rule[Any]:
    """Return the rule of an enumeration's value."""
    names = [repr(member.value) for member in kind]
    return Rule(kind, " or ".join(names) if len(names) < 3 else "one of " + ", ".join(names))  # noqa: PLR2004 - "a or b"


def optional(rule: Rule[T]) -> Rule[T | None]:
    """Return the rule of a value or null."""
    return Rule(lambda value: None if value is None else rule.parse(value), f"{rule.expected}, or null")


def listed(item: Rule[T], at_most: int = MAX_ITEMS) -> Rule[tuple[T, ...]]:
    """Return the rule of a list; the first wrong item ends the reading."""
    expected = f"a list of at most {at_most}"

    def parse(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise Refused("", _shown(value), expected)
        if len(value) > at_most:
            raise Refused("", f"{len(value)} items", expected)
        try:
            return tuple([item.parse(one) for one in value])
        except (Refused, *_WRONG):  # which one, and why: looked for only now
            for place, one in enumerate(value):
                try:
                    item(one)
                except Refused as e:
                    raise Refused(f"[{place}]{e.path}", e.problem, e.expected) from e
            raise

    return Rule(parse, expected)


# ---- records

_BY_TYPE: Final[dict[Any, Rule[Any]]] = {
    units.Sats: Rule(units.sats, "whole satoshis"),
    units.Cents: Rule(units.cents, "whole cents"),
    units.CentsPerBtc: Rule(units.cents_per_btc, "a price in cents"),
    units.CentiBtc: Rule(units.centi_btc, "hundredths of a bitcoin"),
    units.UnixSeconds: Rule(units.unix_seconds, "unix seconds"),
    units.Slot: Rule(units.slot, "a minute, in unix seconds"),
    units.Height: Rule(units.height, "a block height"),
    units.Hash32: HASH,
    units.Txid: TXID,
    str: TEXT,
    bool: FLAG,
    int: WHOLE,
}


def teach(kind: Any, rule: Rule[Any]) -> None:  # noqa: ANN401 - a class or a NewType
    """Have every record with a field of this very type read it by this rule."""
    _BY_TYPE[kind] = rule


def _rule_of(kind: Any) -> Rule[Any]:  # noqa: ANN401 - a type
    parts = get_args(kind)
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return one_of(kind)
    if parts[1:] == (...,):
        return listed(_rule_of(parts[0]))
    if len(parts) == 2 and type(None) in parts:  # noqa: PLR2004 - something or None
        return optional(_rule_of(next(one for one in parts if one is not type(None))))
    raise TypeError(f"no rule says how a {kind} is read")


Field = str | Rule[Any] | tuple[str, Rule[Any]]
"""What a record is told about one of its fields: the name in the JSON, the rule, or both."""


def record(
    kind: type[T],
    /,
    *,
    exact: bool = False,
    may_lack: Collection[str] = (),
    together: Collection[str] = (),
    **given: Field,
) -> Rule[T]:
    """Return the rule of a JSON object that makes a dataclass, and have records with such a field read it so.

    given: for a field, its name in the JSON where that differs, its rule where its type does not say enough, or both.
    exact: refuse an object with other names. may_lack: names that need not be there; their fields have defaults.
    together: names that an earlier release did not write, with defaults too: all of them are there, or none.
    """
    types = get_type_hints(kind)
    rules: dict[str, tuple[str, Rule[Any]]] = {}
    for one in fields_of(kind):  # type: ignore[arg-type]  # every caller gives a dataclass
        said = given.get(one.name, one.name)
        name, rule = said if isinstance(said, tuple) else (said, None) if isinstance(said, str) else (one.name, said)
        rules[one.name] = (name, rule or _rule_of(types[one.name]))
    expected = {name: rule.expected for name, rule in rules.values()}
    needed = expected.keys() - set(may_lack) - set(together)
    later = needed | set(together)
    maker: list[Callable[[dict[str, Any]], T]] = []  # made for the first value

    def parse(value: object) -> T:
        if not isinstance(value, dict):
            raise Refused("", f"{_shown(value)} is no object", "a JSON object")
        must = needed if value.keys().isdisjoint(together) else later
        if not value.keys() >= must:
            lacks = next(name for name in expected if name in must and name not in value)
            raise Refused(f".{lacks}", "missing", expected[lacks])
        if exact and not value.keys() <= expected.keys():
            more = next(name for name in value if name not in expected)
            raise Refused(f".{printable(more, _SHOWN)}", "unknown", "exactly " + ", ".join(sorted(expected)))
        if not maker:
            maker.append(_maker(kind, rules))
        return maker[0](value)

    made = Rule(parse, "a JSON object")
    teach(kind, made)
    return made


def _maker(kind: type[T], rules: Mapping[str, tuple[str, Rule[Any]]]) -> Callable[[dict[str, Any]], T]:
    """Return cattrs' function for a record: every field is told its rule, and it says which field a rule refused."""
    # 2.5 MB and a tenth of a second, which a process that reads no record saves
    from cattrs import ClassValidationError, Converter, override  # noqa: PLC0415
    from cattrs.gen import make_dict_structure_fn  # noqa: PLC0415

    told: dict[str, Any] = {field: override(rename=name, struct_hook=rule) for field, (name, rule) in rules.items()}
    make = make_dict_structure_fn(kind, Converter(detailed_validation=True), **told)

    def made(value: dict[str, Any]) -> T:
        try:
            return make(value, kind)
        except ClassValidationError as e:
            for refused, note in e.group_exceptions()[0]:
                if isinstance(refused, Refused):
                    path = f".{rules[note.name][0]}{refused.path}"
                    raise Refused(path, refused.problem, refused.expected) from refused
            own = e.exceptions[0]
            if isinstance(own, InvalidInputError):
                raise Refused("", f"{own.field}: {own.problem}", own.expected, own) from e
            raise Refused("", str(own)[:_SHOWN], "a JSON object") from e

    return made


__all__ = [
    "BASE64", "FLAG", "HASH", "MAX_ITEMS", "OBJECT", "TEXT", "TXID", "WHOLE", "Field", "Refused", "Rule", "hexadecimal",
    "listed", "one_of", "optional", "record", "teach", "unhex", "whole",
]  # fmt: skip
