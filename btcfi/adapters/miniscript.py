"""Descriptors compiled by kept packages of others: a second and a third opinion of what our own encoder writes.

``btclib-wallet`` and ``bdkpython`` both know Taproot trees and ``multi_a``, and refuse what is unsound. They are
developers' tools (``make check`` installs them), found at run time; nothing that holds money waits for them.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final

from btcfi.errors import BtcfiError, InvalidInputError

Compiler = Callable[[str], bytes]
"""A descriptor without wildcards -> its output script. Raises anything for what it refuses."""


class CompilersDisagreeError(BtcfiError):
    """A descriptor that is another script to somebody else: nothing may be paid to it."""

    def __init__(self, descriptor: str, scripts: dict[str, str]) -> None:
        said = ", ".join(f"{name} {script}" for name, script in scripts.items())
        super().__init__(f"{descriptor[:80]}… is not one script: {said}; pay nothing to it")
        self.descriptor, self.scripts = descriptor, scripts


def _btclib() -> Compiler:
    parse = import_module("btclib_wallet.descriptors").parse
    return lambda text: bytes(parse(text).script_pub_key(0).script)


def _bdk() -> Compiler:
    bdk = import_module("bdkpython")

    def script(text: str) -> bytes:
        address = bdk.Descriptor(text, bdk.NetworkKind.TEST).derive_address(0, bdk.Network.REGTEST)
        return bytes(address.script_pubkey().to_bytes())

    return script


PACKAGES: Final[dict[str, Callable[[], Compiler]]] = {"btclib-wallet": _btclib, "bdkpython": _bdk}
"""By the name in ``pyproject.toml``."""


def compilers() -> dict[str, Compiler]:
    """Return those that are installed, by their package's name."""
    found = {}
    for name, load in PACKAGES.items():
        try:
            found[name] = load()
        except ImportError:
            continue
    return found


def check_compiled(descriptor: str, script: bytes, asked: dict[str, Compiler]) -> tuple[str, ...]:
    """Check that every compiler makes this script of a descriptor; return their names.

    Raises CompilersDisagreeError for another script, InvalidInputError naming the one that refuses the descriptor.
    """
    scripts = {}
    for name, compiler in asked.items():
        try:
            scripts[name] = compiler(descriptor)
        except Exception as e:
            raise InvalidInputError("descriptor", f"refused by {name}: {e}", "one that every compiler takes") from e
    if any(one != script for one in scripts.values()):
        raise CompilersDisagreeError(
            descriptor, {"btcfi": script.hex(), **{name: one.hex() for name, one in scripts.items()}}
        )
    return tuple(scripts)
