"""How every command of ours ends: one line on stderr and the exit code of the one table, never a traceback."""

from __future__ import annotations

import itertools
import os
import sys
from collections import Counter
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperOption

from btcfi.errors import BtcfiError

_USAGE_ERROR: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""Typer ships its own copy of click and exports only this error's descendants."""

_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


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
    for given in sys.argv[1:]:
        if not _is_text(given):  # a shell hands on whatever bytes there are; no store and no JSON takes them
            sys.exit(_said(f"{name}: argument {given!a} is not UTF-8; try `{name} --help`", 2))
    try:
        code = app(prog_name=name, standalone_mode=False)
    except BtcfiError as e:
        from btcfi.surfaces.status import status_of  # noqa: PLC0415 - it imports half the library, and --help errs not

        sys.exit(_said(f"{name}: {e}", status_of(e).exit_code))
    except typer.Abort:
        sys.exit(_said(f"{name}: interrupted", _INTERRUPTED))
    except KeyboardInterrupt:
        sys.exit(_said(f"{name}: interrupted", _INTERRUPTED))
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except typer.Exit as e:
        sys.exit(e.exit_code)
    except _USAGE_ERROR as e:
        message = e.format_message() if hasattr(e, "format_message") else str(e)
        code = getattr(e, "exit_code", 2)
        where = getattr(getattr(e, "ctx", None), "command_path", name)
        then = f" Try `{where} --help`" if message.endswith("?") else f"; try `{where} --help`"
        sys.exit(_said(f"{name}: {message.rstrip('.')}{then}", code) if message else code)
    except OSError as e:
        where = f" ({e.filename})" if e.filename else ""
        sys.exit(_said(f"{name}: {e.strerror or e}{where}", 74))
    sys.exit(code if isinstance(code, int) else 0)


def _is_text(given: str) -> bool:
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True


def _said(line: str, code: int) -> int:
    sys.stderr.write(line.replace("\n", " ") + "\n")
    return code
