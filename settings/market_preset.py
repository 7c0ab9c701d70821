"""What a market lists and which offers it takes: the named numbers of its preset, read from a reviewed file and hashed.

Apart from the presets of options: what a contract pays never depends on these, so a market may change them from one
day to the next. A retired one is found by its hash, like every preset (``settings.preset_files``).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from btcfi.errors import InvalidInputError, NotHeldError
from btcfi.market.firm_offer import OfferRule
from btcfi.market.listing import ListingRule, Rung
from btcfi.options.terms import MAX_QUANTITY, OptionKind
from btcfi.oracle.fixing import MINUTE, Fixing, parse_fixing
from btcfi.records import TEXT, Rule, listed, record, whole
from btcfi.units import MAX_U32, BasisPoints, CentiBtc, CentsPerBtc, Minutes
from settings.preset_files import PRESETS, PresetFile, preset_file, preset_file_by_hash

SYSTEM: Final = "market"
"""Whose presets these are: the folder below ``presets``."""

_CENTS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPreset:
    """What a market lists and takes."""

    name: str
    listing: ListingRule
    offers: OfferRule
    sha256: str
    """Of the file's bytes, hex."""


def load_market_preset(name: str) -> MarketPreset:
    """Return the preset ``settings/presets/market/NAME.toml``, by ``NAME`` or ``market/NAME``.

    Raises NotFoundError when there is none, InvalidInputError that names the wrong field.
    """
    return _parsed(preset_file(name, system=SYSTEM))


def market_preset_names() -> list[str]:
    """Return the presets that a deployment can choose."""
    return sorted(path.stem for path in (PRESETS / SYSTEM).glob("*.toml"))


@cache
def load_market_preset_by_hash(sha256: str, *, name: str = "") -> MarketPreset:
    """Return the preset with this hash (hex), also a retired one. name: what a row calls it. Raises NotHeldError."""
    file = preset_file_by_hash(sha256, system=SYSTEM, name=name)
    try:
        return _parsed(file)
    except InvalidInputError as e:
        raise NotHeldError("preset", sha256, name=name, hint=f"its file is here, and this version reads no {e}") from e


def read_market_preset(file: Path) -> MarketPreset:
    """Return the preset in ``file``; its name is the file's. Raises InvalidInputError that names the wrong field."""
    return _parsed(PresetFile(system=SYSTEM, name=file.stem, raw=file.read_bytes()))


# ---- reading


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rung:
    step_usd: int
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    kinds: tuple[OptionKind, ...]
    dailies: int
    weeklies: int
    monthlies: int
    quarterlies: int
    strikes: int
    ladder: tuple[_Rung, ...]
    short_minutes: tuple[int, ...] = ()
    short_count: int = 2
    short_fixing: Fixing = MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offers:
    most_open: int
    longest_seconds: int
    least_quantity_centi_btc: int
    most_quantity_centi_btc: int
    most_apart_bps: int
    answer_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transfers:
    last_blocks: int
    confirmations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    listing: _Listing
    offers: _Offers
    transfers: _Transfers


def _kind(label: Any) -> OptionKind:  # noqa: ANN401 - TOML
    return OptionKind.from_label(TEXT.parse(label))


_RUNG: Final = record(_Rung, exact=True, step_usd=whole(1, MAX_U32 // _CENTS), days=whole(1, 3_660))

_LISTING: Final = record(
    _Listing, exact=True,
    kinds=listed(Rule(_kind, "one of " + ", ".join(kind.label for kind in OptionKind)), len(OptionKind)),
    dailies=whole(0, 31), weeklies=whole(0, 53), monthlies=whole(0, 24), quarterlies=whole(0, 12),
    strikes=whole(1, 100), ladder=listed(_RUNG, 8), short_minutes=listed(whole(1, 1_440), 4), short_count=whole(1, 24),
    short_fixing=Rule(parse_fixing, "minute, twap:N or median:N"),
    may_lack=("short_minutes", "short_count", "short_fixing"),
)  # fmt: skip

_OFFERS: Final = record(
    _Offers, exact=True, most_open=whole(1, 100_000), longest_seconds=whole(1, 31 * 86_400),
    least_quantity_centi_btc=whole(1, MAX_QUANTITY), most_quantity_centi_btc=whole(1, MAX_QUANTITY),
    most_apart_bps=whole(0, 9_999), answer_seconds=whole(1, 3_600),
)  # fmt: skip

_TRANSFERS: Final = record(
    _Transfers, exact=True, last_blocks=whole(1, 1_008), confirmations=whole(1, 1_000)
)  # fmt: skip

_DOCUMENT: Final = record(_Document, exact=True, listing=_LISTING, offers=_OFFERS, transfers=_TRANSFERS)


def _parsed(file: PresetFile) -> MarketPreset:
    try:
        document = tomllib.loads(file.raw.decode())
    except ValueError as e:
        raise InvalidInputError(f"preset {file.name}.toml", str(e), "TOML in UTF-8") from e
    said = _DOCUMENT.read(document, "preset")
    listing, offers = said.listing, said.offers
    if offers.least_quantity_centi_btc > offers.most_quantity_centi_btc:
        problem = f"{offers.least_quantity_centi_btc}"
        raise InvalidInputError("preset.offers.least_quantity_centi_btc", problem, "at most most_quantity_centi_btc")
    if not listing.kinds:
        raise InvalidInputError("preset.listing.kinds", "none", "at least one kind")
    return MarketPreset(
        name=file.name,
        listing=ListingRule(
            kinds=listing.kinds,
            dailies=listing.dailies,
            weeklies=listing.weeklies,
            monthlies=listing.monthlies,
            quarterlies=listing.quarterlies,
            strikes=listing.strikes,
            ladder=tuple(Rung(step=CentsPerBtc(r.step_usd * _CENTS), days=r.days) for r in listing.ladder),
            short=tuple(Minutes(m) for m in listing.short_minutes),
            short_count=listing.short_count,
            short_fixing=listing.short_fixing,
        ),
        offers=OfferRule(
            most_open=offers.most_open,
            longest_seconds=offers.longest_seconds,
            least_quantity=CentiBtc(offers.least_quantity_centi_btc),
            most_quantity=CentiBtc(offers.most_quantity_centi_btc),
            most_apart=BasisPoints(offers.most_apart_bps),
            answer_seconds=offers.answer_seconds,
            last_blocks=said.transfers.last_blocks,
            confirmations=said.transfers.confirmations,
        ),
        sha256=file.sha256,
    )
