"""Templates and what they may say: amounts exactly, times in UTC, hashes short with the whole one beside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from unicodedata import bidirectional
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from btcfi.options.terms import OptionKind

NONE: Final = "\N{EN DASH}"
"""Where there is no value."""

SHARED: Final = Path(__file__).parent

STATES: Final[dict[str, tuple[str, str]]] = {
    "CREATED": ("wait", "○"), "ACTIVE": ("go", "●"), "EXPIRED": ("work", "◐"), "EXERCISED": ("done", "✓"),
    "ABANDONED": ("quiet", NONE), "FAILED": ("bad", "✕"), "CANCELLED": ("quiet", NONE), "cancelled": ("quiet", NONE),
    "due": ("wait", "○"), "claimed": ("work", "◐"), "executed": ("work", "◑"), "proven": ("work", "◕"),
    "built": ("work", "◕"), "broadcast": ("go", "●"), "confirmed": ("done", "✓"), "parked": ("bad", "✕"),
    "final": ("done", "✓"), "conflicted": ("bad", "✕"), "replaced": ("quiet", NONE),
    "ordered": ("wait", "○"), "offered": ("work", "◔"), "signed": ("work", "◑"), "checked": ("work", "◕"),
    "funded": ("done", "✓"), "open": ("wait", "○"), "priced": ("done", "✓"), "void": ("bad", "✕"),
    "taken": ("work", "◔"), "withdrawn": ("quiet", NONE), "expired": ("quiet", NONE), "broken": ("bad", "✕"),
    "accepted": ("done", "✓"), "held": ("quiet", NONE), "refused": ("bad", "✕"), "failed": ("bad", "✕"),
    "asking": ("work", "◔"),
    "answered": ("work", "◑"), "done": ("done", "✓"), "over": ("quiet", NONE), "filled": ("done", "✓"),
    "active": ("go", "●"), "disabled": ("bad", "✕"),
    "unopened": ("wait", "○"), "silence claimed": ("work", "◔"), "claimed, not shown": ("work", "◔"),
    "challenged": ("work", "◑"), "revealed": ("work", "◕"), "paid": ("done", "✓"), "disproved": ("bad", "✕"),
    "released": ("done", "✓"), "overdue": ("bad", "✕"), "silence ended": ("done", "✓"), "refunded": ("quiet", NONE),
    "closed": ("done", "✓"), "spent otherwise": ("bad", "✕"),
    "paused": ("wait", "○"), "posted": ("work", "◔"), "computed": ("work", "◑"), "settled": ("done", "✓"),
    "passed": ("bad", "✕"), "pending": ("wait", "○"), "terminated": ("quiet", NONE), "defaulted": ("bad", "✕"),
    "redeemed": ("done", "✓"), "provider-defaulted": ("bad", "✕"), "inactive": ("bad", "✕"),
}  # fmt: skip
"""State -> tone and mark: a shape beside each word, so that nothing depends on telling colours apart."""


_TURNING: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Unicode's marks, embeddings, overrides and isolates: UAX 9, table 3."""


@cache
def environment(own: Path) -> Environment:
    """Return the templates of a folder and ours, with their filters.

    own: the application's folder, with ``templates`` and ``static`` in it; its template goes before ours of one name.
    Text is escaped everywhere; an unknown name is an error.
    """
    found = Environment(
        loader=FileSystemLoader([own / "templates", SHARED / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "usd": usd, "btc": btc, "sats": thousands, "n": thousands, "iso": iso, "time": time_tag, "short": short,
        "ago": ago, "kind": kind_label, "state": state_tag, "path": path_segment, "signed": signed, "query": urlencode,
        "percent": percent, "said": said,
    }  # fmt: skip
    found.globals["assets"] = fingerprint_of(own / "static", SHARED / "static")
    return found


def said(text: str | None) -> Markup:
    """Return a text that somebody else wrote; one that runs from right to left apart from the sentence around it.

    What would turn the order of the letters around is shown as what it is. Nothing for no text.
    """
    whole = _TURNING.sub(_shown, text or "")
    if not any(bidirectional(one) in {"R", "AL", "AN"} for one in whole):
        return escape(whole)
    return Markup("<bdi>{}</bdi>").format(whole)


def _shown(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"


def usd(cents: int | None) -> str:
    """Return cents as dollars, exactly."""
    if cents is None:
        return NONE
    return f"{'-' if cents < 0 else ''}${abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def btc(hundredths: int) -> str:
    """Return hundredths of a bitcoin as bitcoin."""
    return f"{Decimal(hundredths).scaleb(-2):,}"


def thousands(number: int | None) -> str:
    """Return a whole number with its thousands apart."""
    return NONE if number is None else f"{number:,}"


def signed(number: float, digits: int = 2) -> str:
    """Return a number with its sign, thousands apart."""
    return f"{round(number, digits) + 0.0:+,.{digits}f}"  # adding zero makes minus zero plain zero


def percent(share: float, digits: int = 1) -> str:
    """Return a share as a percentage."""
    return f"{share * 100:.{digits}f} %"


def iso(at: int | None) -> str:
    """Return unix seconds as a UTC time to the second."""
    return NONE if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def time_tag(at: int | None) -> Markup:
    """Return unix seconds as a <time>."""
    if at is None:
        return escape(NONE)
    when = datetime.fromtimestamp(at, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        when.strftime("%Y-%m-%dT%H:%M:%SZ"), when.strftime("%Y-%m-%d %H:%M:%S")
    )


def ago(seconds: float | None) -> str:
    """Return an age in its two largest units."""
    if seconds is None:
        return "never"
    whole = max(0, int(seconds))
    for size, unit, lower, name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // lower
            return f"{whole // size} {unit} {rest} {name}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def short(text: str | None, length: int = 8) -> Markup:
    """Return the beginning of a hash, the whole of it one pointer away."""
    if not text:
        return escape(NONE)
    if len(text) <= length + 1:
        return Markup("<code>{}</code>").format(text)
    return Markup('<code title="{}">{}…</code>').format(text, text[:length])


def kind_label(kind: int) -> str:
    """Return an option kind's name in words."""
    return OptionKind(kind).label.replace("_", " ")


def state_tag(state: str) -> Markup:
    """Return a state as a badge: mark and word."""
    tone, mark = STATES.get(state, ("quiet", "·"))
    return Markup('<span class="state {}"><span aria-hidden="true">{}</span> {}</span>').format(
        tone, mark, escape(state.lower())
    )


def path_segment(text: str) -> str:
    """Return ``text`` as one segment of a path."""
    return quote(text, safe="")


def with_query(base: str, **values: object) -> str:
    """Return a link with those values that are neither empty nor None."""
    kept: Mapping[str, Any] = {name: value for name, value in values.items() if value not in {None, ""}}
    return f"{base}?{urlencode(kept)}" if kept else base


def fingerprint_of(*folders: Path) -> str:
    """Return a short hash of static files: they may be cached for good under it."""
    digest = sha256()
    for file in sorted(file for folder in folders for file in folder.rglob("*")):
        if file.is_file():
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]
