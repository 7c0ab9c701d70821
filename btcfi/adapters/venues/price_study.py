"""Price every minute of a recording, and show it: a report of who was dropped when, and a picture.

Each minute goes the way of a live one, apart from the sockets: the replay server's answer for each venue, read by the
venue's own module, agreed by the consensus.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from btcfi.adapters.venues.candle_folder import CandleFolder, ReplayVenues, read_candle_folder, venues_for_replay
from btcfi.adapters.venues.replay_server import Replay, candle_target
from btcfi.hashes import sha256
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, Outcome, agreed_price, fit_to_settle
from btcfi.oracle.quote import DOLLAR, Quote, VenueId
from btcfi.oracle.venues import exchange_of
from btcfi.oracle.venues.candle import read_response
from btcfi.units import SECONDS_PER_MINUTE, Minutes, Slot, UnixSeconds

GRACE: Final = 2
"""Seconds after the minute at which the replayed fetch happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudiedMinute:
    """One minute: what was agreed, what each venue said, what a mean that takes every dollar for one would say."""

    outcome: Outcome
    closes: Mapping[VenueId, int]
    """Each venue's close, hundredths of its own quote currency."""
    naive_mean: int | None
    """Mean of the closes as they are, no conversion, no cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Every minute of a recording."""

    venues: ReplayVenues
    minutes: tuple[StudiedMinute, ...]
    candles: CandleFolder
    rule: ConsensusRule
    """By which the minutes were agreed, and would settle."""

    def summary(self) -> dict[str, Any]:
        """Return the numbers: priced, thin and why, void and why, dropped by venue and reason, the worst deviations."""
        priced = [m for m in self.minutes if isinstance(m.outcome, AgreedPrice)]
        agreed = [m.outcome for m in priced if isinstance(m.outcome, AgreedPrice)]
        thin = Counter(why.value for a in agreed for why in a.thin)
        dropped = Counter(f"{d.venue} {d.reason.value}" for m in self.minutes for d in m.outcome.dropped)
        absent = Counter(f"{a.venue} {a.reason.value}" for m in self.minutes for a in m.outcome.absent)
        void = Counter(m.outcome.reason.value for m in self.minutes if not isinstance(m.outcome, AgreedPrice))
        return {
            "registered": [str(v) for v in self.venues.registered],
            "legs": [str(v) for v in self.venues.legs],
            "minutes": len(self.minutes),
            "priced": len(priced),
            "thin": {"minutes": sum(bool(a.thin) for a in agreed), **dict(sorted(thin.items()))},
            "fit_to_settle": sum(fit_to_settle(a, self.rule) for a in agreed),
            "void": dict(sorted(void.items())),
            "dropped": dict(sorted(dropped.items())),
            "absent": dict(sorted(absent.items())),
            "worst_outside_dollar_candle_bps": max((self._outside_bps(m) for m in priced), default=0),
            "worst_naive_mean_bps": max((_naive_bps(m) for m in priced), default=0),
        }

    def _outside_bps(self, minute: StudiedMinute) -> int:
        """Return how far the price lies outside the minute's dollar candles, 1/10,000 of the nearer bound."""
        ranges = []
        for venue, rows in self.candles.candles.items():
            row = rows.get(minute.outcome.slot)
            if venue.quote == DOLLAR and not venue.is_leg and row is not None:
                ranges.append((_cents(row.low), _cents(row.high)))
        if not ranges or not isinstance(minute.outcome, AgreedPrice):
            return 0
        low, high, price = min(r[0] for r in ranges), max(r[1] for r in ranges), minute.outcome.price
        return max(0, -(-(low - price) * 10_000 // low), -(-(price - high) * 10_000 // high))


def study_folder(
    folder: Path, *, rule: ConsensusRule, start: Slot | None = None, minutes: Minutes | None = None
) -> Study:
    """Return every minute of the recording in ``folder``, priced. Raises what reading the folder raises."""
    candles = read_candle_folder(folder)
    venues = venues_for_replay(candles, start, minutes)
    replay = Replay(candles.candles)
    studied = tuple(_study(at, replay, venues, rule) for at in candles.slots(start, minutes))
    return Study(venues=venues, minutes=studied, candles=candles, rule=rule)


def _study(at: Slot, replay: Replay, venues: ReplayVenues, rule: ConsensusRule) -> StudiedMinute:
    observations = []
    for venue in (*venues.registered, *venues.legs):
        _, raw = replay.answer(candle_target(venue, at), at)
        observations.append(
            read_response(
                exchange_of(venue.exchange),
                raw,
                venue=venue,
                slot=at,
                now=UnixSeconds(at + SECONDS_PER_MINUTE + GRACE),
                evidence=sha256(raw),
            )
        )
    outcome = agreed_price(observations, registered=venues.registered, legs=venues.legs, rule=rule, slot=at)
    closes = {o.venue: o.close for o in observations if isinstance(o, Quote)}
    naive = sum(closes.values()) // len(closes) if closes else None
    return StudiedMinute(outcome=outcome, closes=closes, naive_mean=naive)


def _naive_bps(minute: StudiedMinute) -> int:
    if minute.naive_mean is None or not isinstance(minute.outcome, AgreedPrice):
        return 0
    return -(-abs(minute.naive_mean - minute.outcome.price) * 10_000 // minute.outcome.price)


def _cents(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole) * 100 + int((fraction + "00")[:2])


def write_study(study: Study, out: Path) -> None:
    """Write ``summary.json``, ``minutes.csv``, ``dropped.csv`` (a row for every venue dropped) and ``prices.png``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps(study.summary(), indent=1) + "\n")
    with (out / "minutes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["slot", "utc", "price_cents", "dollar_markets", "reach_cents", "thin", "void"])
        rows.writerows(_minute_row(minute.outcome) for minute in study.minutes)
    with (out / "dropped.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["slot", "utc", "venue", "reason", "close_cents", "reference_cents", "deviation_bps", "limit_bps"]
        )
        for minute in study.minutes:
            at = minute.outcome.slot
            utc = _utc(at)
            for d in minute.outcome.dropped:
                rows.writerow([at, utc, d.venue, d.reason.value, d.close, d.reference, d.deviation_bps, d.limit_bps])
    draw_study(study, out / "prices.png")


def _minute_row(outcome: Outcome) -> list[object]:
    at = [outcome.slot, _utc(outcome.slot)]
    if isinstance(outcome, AgreedPrice):
        return [*at, outcome.price, outcome.dollar_markets, outcome.reach, " ".join(w.value for w in outcome.thin), ""]
    return [*at, "", "", "", "", outcome.reason.value]


def _utc(at: Slot) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")


def draw_study(study: Study, path: Path) -> None:
    """Draw the agreed price, where it is thin, each venue, and the mean that takes every coin for a dollar."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - half a second that only a picture needs
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    times = [datetime.fromtimestamp(m.outcome.slot, UTC) for m in study.minutes]
    agreed = [m.outcome.price / 100 if isinstance(m.outcome, AgreedPrice) else None for m in study.minutes]
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for venue in study.venues.registered:
        quoted = [m.closes[venue] / 100 if venue in m.closes else None for m in study.minutes]
        above.plot(times, _gapped(quoted), linewidth=0.7, alpha=0.8, label=f"{venue} (in {venue.quote})")
    naive = [m.naive_mean / 100 if m.naive_mean is not None else None for m in study.minutes]
    above.plot(times, _gapped(naive), linewidth=0.9, color="tab:red", linestyle=":", label="mean, every coin a dollar")
    above.plot(times, _gapped(agreed), linewidth=1.3, color="black", label="agreed price")
    outcomes = [m.outcome for m in study.minutes]
    thin = [o.price / 100 if isinstance(o, AgreedPrice) and o.thin else None for o in outcomes]
    above.plot(times, _gapped(thin), linewidth=1.3, color="tab:orange", label="agreed price, thin: does not settle")
    above.set_ylabel("price of one bitcoin")
    above.legend(loc="best", fontsize="small")
    summary = study.summary()
    above.set_title(
        f"{summary['priced']} of {summary['minutes']} minutes priced, {summary['thin']['minutes']} of them thin"
    )
    difference = [
        100 * (n / a - 1) if n is not None and a is not None else None for n, a in zip(naive, agreed, strict=True)
    ]
    below.plot(times, _gapped(difference), linewidth=0.8, color="tab:red")
    below.axhline(0, color="black", linewidth=0.5)
    below.set_ylabel("the mean's error, %")
    locator: Any = AutoDateLocator()  # type: ignore[no-untyped-call]
    below.xaxis.set_major_locator(locator)
    below.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    figure.savefig(path, dpi=110, metadata={"Software": "btcfi"})


def _gapped(values: list[float | None]) -> list[float]:
    """Return the values with NaN for gaps, which the plot leaves open."""
    return [float("nan") if v is None else v for v in values]
