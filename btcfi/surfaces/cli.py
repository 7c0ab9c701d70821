"""How every command of ours ends: one line on stderr and the exit code of the one table, never a traceback.

Where ``--json`` stands on the command's line the failure is an object on stdout too, unless an answer already is:
``{"error": {"field", "problem", "expected", "exit_code"}}``. Who reads one object from stdout always gets one.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, NoReturn, TextIO, cast

import typer
from typer.core import TyperCommand, TyperOption

from btcfi.errors import BtcfiError, InvalidInputError

_USAGE_ERROR: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""Typer ships its own copy of click and exports only this error's descendants."""

_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

JSON: Final = "--json"
"""The option by which a command prints objects."""


class Once(TyperCommand):
    """A command whose options stand once each: of two strikes click takes the last, and a person reads the first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - of the click that typer ships
        """Parse the words. Raises InvalidInputError naming an option that is given twice."""
        from btcfi.options.order import refuse_twice  # noqa: PLC0415 - for the commands that take an order

        single = [one for one in self.params if isinstance(one, TyperOption) and not (one.multiple or one.is_flag)]
        field = {word: str(one.name).replace("_", "-") for one in single for word in one.opts}
        words = (word.partition("=")[0] for word in itertools.takewhile(lambda word: word != "--", args))
        refuse_twice(Counter(field[word] for word in words if word in field))
        return super().parse_args(ctx, args)


def run(app: typer.Typer, *, name: str = "btcfi") -> NoReturn:
    """Run ``app`` with the process's arguments and exit. Expected errors become one line; a broken pipe is quiet."""
    stdout = sys.stdout
    with_json = JSON in itertools.takewhile(lambda word: word != "--", sys.argv[1:])
    said = _Noted(stdout)
    if with_json:
        sys.stdout = cast("TextIO", said)
    try:
        code, failure = _ended(app, name)
    finally:
        sys.stdout = stdout
    if failure is not None:
        sys.stderr.write(f"{name}: {failure['line']}".replace("\n", " ") + "\n")
        if with_json and not said.written:
            _print_failure(failure, code)
    sys.exit(code)


def _ended(app: typer.Typer, name: str) -> tuple[int, dict[str, str | None] | None]:
    """Return the exit code and, of a failure, its line and what of it are the field, the problem, what is expected."""
    for given in sys.argv[1:]:
        if not _is_text(given):  # a shell hands on whatever bytes there are; no store and no JSON takes them
            return 2, _failure(f"argument {given!a} is not UTF-8; try `{name} --help`", expected="UTF-8")
    failure: dict[str, str | None] | None = None
    try:
        done = app(prog_name=name, standalone_mode=False)
        code = done if isinstance(done, int) else 0
        failure = _failure("interrupted") if code == _INTERRUPTED else None  # typer makes a code of a Ctrl-C
    except BtcfiError as e:
        from btcfi.surfaces.status import status_of  # noqa: PLC0415 - it imports half the library, and --help errs not

        parts = {}
        if isinstance(e, InvalidInputError):
            parts = {"field": e.field, "problem": e.problem, "expected": e.expected}
        code, failure = status_of(e).exit_code, _failure(str(e), **parts)
    except (typer.Abort, KeyboardInterrupt):
        code, failure = _INTERRUPTED, _failure("interrupted")
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except typer.Exit as e:
        code = e.exit_code
    except _USAGE_ERROR as e:
        code, failure = getattr(e, "exit_code", 2), _usage(e, name)
    except OSError as e:
        where = f" ({e.filename})" if e.filename else ""
        code, failure = 74, _failure(f"{e.strerror or e}{where}", field=str(e.filename) if e.filename else None)
    return code, failure


def _failure(
    line: str, *, field: str | None = None, problem: str | None = None, expected: str | None = None
) -> dict[str, str | None]:
    return {"line": line, "field": field, "problem": line if problem is None else problem, "expected": expected}


def _usage(error: Exception, name: str) -> dict[str, str | None] | None:
    """Return a mistyped command's failure; None of one that says nothing, such as the help of a bare group."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if not message:
        return None
    where = getattr(getattr(error, "ctx", None), "command_path", name)
    then = f" Try `{where} --help`" if message.endswith("?") else f"; try `{where} --help`"
    parameter = getattr(getattr(error, "param", None), "name", None)
    # what nobody knows is a field's name as it was typed
    field = getattr(error, "option_name", None) or (parameter or "").replace("_", "-")
    problem = message.rstrip(".")
    return _failure(f"{problem}{then}", field=field or None, problem=problem, expected=f"what `{where} --help` says")


def _print_failure(failure: dict[str, str | None], code: int) -> None:
    parts = {part: failure[part] for part in ("field", "problem", "expected")}
    try:
        sys.stdout.write(json.dumps({"error": parts | {"exit_code": code}}) + "\n")
        sys.stdout.flush()
    except OSError:  # nobody reads it, or its disk is full; stderr has the line
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Noted:
    """A stream that knows whether anything was written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.written = False

    def write(self, text: str) -> int:
        done = self._stream.write(text)
        self.written |= bool(text)
        return done

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self._stream, name)


def _is_text(given: str) -> bool:
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True
