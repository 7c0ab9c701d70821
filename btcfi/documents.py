"""JSON and TOML from outside: one parser each. That of JSON takes what every parser takes alike.

That is UTF-8, each key of an object once, finite numbers, whole characters, a bounded depth, a bounded number of
values. What a document's fields must be is ``btcfi.records``'s to say.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from btcfi.errors import InvalidInputError

MAX_DEPTH: Final = 32
"""Objects and lists inside each other; ours have at most eight, and a parser's stack ends at a thousand."""

MAX_VALUES: Final = 1 << 21
"""Values in a document; ours have at most a few hundred thousand (a contract's buckets). Each takes a hundred bytes of
memory, a comma in a hostile text two or three."""

MAX_SHOWN: Final = 200
"""Characters of what a parser says of a text of somebody else's."""


class KeyTwiceError(InvalidInputError):
    """A key stands twice in an object: one parser takes the first, another the last."""

    def __init__(self, what: str, key: str, expected: str) -> None:
        super().__init__(what, f"is not JSON: the key {key!r} stands twice in an object", expected)
        self.key = key


class _TwiceError(ValueError):
    """Inside the parser: which key."""


def parse_json(raw: bytes | str, what: str, *, fraction: Callable[[str], Any] | None = None) -> Any:  # noqa: ANN401 - JSON is any shape until a reader has looked
    """Return the value of a JSON text. ``what``: the kind of document, in words, for the refusal.

    fraction: what a number with a point or an exponent becomes, given as it is written; a float if not said.
    Raises InvalidInputError, and nothing else, for anything but JSON that every parser reads alike.
    """
    expected = f"{what}, as JSON"
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8")
        if text.count(",") >= MAX_VALUES:  # counted before anything is made of them
            raise InvalidInputError(what, "holds too many values", f"{expected}, of at most {MAX_VALUES:,} values")
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=fraction or _finite)
        if "\\" in text:  # an escape is the one way into a half character: only then are strings looked at
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as e:
        raise InvalidInputError(what, "holds half a character (a lone surrogate)", expected) from e
    except UnicodeDecodeError as e:
        raise InvalidInputError(what, f"is no UTF-8 at byte {e.start}", expected) from e
    except _TwiceError as e:
        raise KeyTwiceError(what, str(e), expected) from e
    except RecursionError as e:
        raise InvalidInputError(what, "is nested too deeply", f"{expected}, at most {MAX_DEPTH} deep") from e
    except ValueError as e:
        raise InvalidInputError(what, f"is not JSON: {e}", expected) from e
    if not _shallow(value):
        raise InvalidInputError(what, "is nested too deeply", f"{expected}, at most {MAX_DEPTH} deep")
    return value


def parse_toml(text: str, what: str, *, fraction: Callable[[str], Any] = float) -> dict[str, Any]:
    """Return the tables of a TOML text. ``what``: how a refusal names it. fraction: what a number with a point becomes.

    Raises InvalidInputError, and nothing else: the parser itself also raises for depth and for thousands of digits.
    """
    try:
        return tomllib.loads(text, parse_float=fraction)
    except RecursionError as e:
        raise InvalidInputError(what, "is nested too deeply", "TOML") from e
    except (ValueError, ArithmeticError) as e:
        raise InvalidInputError(what, printable(f"is not TOML: {e}", MAX_SHOWN), "TOML") from e


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _TwiceError(name[:40])
    return made


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise ValueError(f"{text[:40]} is beyond every number")
    return value


def _shallow(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return True
    return False


def iso(at: int) -> str:
    """Return unix seconds in ISO 8601, UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def printable(value: object, at_most: int) -> str:
    """Return text of somebody else's so that a terminal, a log or a page can show it: bounded, one line, no commands.

    at_most: characters. What does not print becomes a question mark; what is cut ends with an ellipsis.
    """
    text = value if isinstance(value, str) else repr(value)
    clean = "".join(sign if sign.isprintable() else "?" for sign in text[: at_most + 1])
    return clean if len(clean) <= at_most else clean[: at_most - 1] + "…"
