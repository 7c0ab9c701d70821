"""Pictures made of numbers: coordinates for the SVG templates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from btcfi.adapters.store.chain.tables import BlockRow, TransactionRow
from btcfi.adapters.store.chain.views import confirmations
from btcfi.adapters.store.options.purposes import BATCH
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.bitcoin.transaction import Transaction, TxOut, parse_transaction
from btcfi.contracts.metadata import RecordType, read_record
from btcfi.errors import BtcfiError
from btcfi.units import display_txid
from dashboards.operator.orders import Payoff
from dashboards.operator.render import usd

WIDTH: Final = 640.0
HEIGHT: Final = 240.0
LEFT: Final = 78.0
RIGHT: Final = 12.0
TOP: Final = 16.0
BOTTOM: Final = 34.0
LABEL_HEIGHT: Final = 14.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    """A payoff, in the coordinates of its picture."""

    line: str
    gain: str
    """The closed area above zero."""
    loss: str
    zero: float
    marks: tuple[tuple[float, str, str], ...]
    """(x, label, class) of upright lines."""
    xs: tuple[tuple[float, str], ...]
    ys: tuple[tuple[float, str], ...]
    words: str


def diagram(payoff: Payoff, *, spot: int, strike: int, barrier: int | None) -> Diagram:
    """Return the picture of a payoff."""
    prices = [price for price, _ in payoff.points]
    profits = [profit for _, profit in payoff.points]
    low, high = min(prices), max(prices)
    least, most = min(*profits, 0), max(*profits, 1)
    margin = (most - least) * 0.08
    floor, ceiling = least - margin, most + margin

    def x(price: float) -> float:
        return round(LEFT + (price - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y(profit: float) -> float:
        return round(TOP + (ceiling - profit) / (ceiling - floor) * (HEIGHT - TOP - BOTTOM), 1)

    zero = y(0)
    at = [(x(price), y(profit)) for price, profit in payoff.points]

    def area(ys: Sequence[float]) -> str:
        pairs = [f"{px},{py}" for (px, _), py in zip(at, ys, strict=True)]
        return f"{at[0][0]},{zero} {' '.join(pairs)} {at[-1][0]},{zero}"

    marks = [(x(strike), "strike", "strike"), (x(spot), "price now", "spot")]
    if barrier is not None:
        marks.append((x(barrier), "knock-out", "barrier"))
    even = f", even at {usd(payoff.break_even)}" if payoff.break_even is not None else ""
    return Diagram(
        line=" ".join(f"{px},{py}" for px, py in at),
        gain=area([min(py, zero) for _, py in at]),
        loss=area([max(py, zero) for _, py in at]),
        zero=zero,
        marks=tuple(marks),
        xs=tuple((x(low + (high - low) * i / 4), f"${(low + (high - low) * i / 4) / 100:,.0f}") for i in range(5)),
        ys=tuple((y(v), usd(v).split(".")[0]) for v in (least, 0, most) if v == 0 or abs(y(v) - zero) > LABEL_HEIGHT),
        words=(
            f"Profit of the buyer at expiry: at worst {usd(least)}, at best {usd(most)} in the range drawn{even}."
        ),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A transaction in the graph."""

    x: float
    y: float
    height: float
    title: str
    txid: str
    state: str
    depth: int
    fee_sats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """An output in the graph, beside its transaction."""

    x: float
    y: float
    label: str
    value_sats: int
    role: str
    """Its class: collateral, buyer, seller, note or other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The contract's transactions as they spend each other."""

    boxes: tuple[Box, ...]
    outputs: tuple[Output, ...]
    wires: tuple[str, ...]
    """Path data: a transaction to its outputs, an output to the transaction that spends it."""
    sources: tuple[tuple[float, float, str], ...]
    width: float
    height: float
    words: str


BOX_WIDTH: Final = 132.0
OUTPUT_WIDTH: Final = 142.0
TO_OUTPUT: Final = 44.0
COLUMN: Final = 380.0
ROW: Final = 46.0
FIRST_X: Final = 100.0


def graph(option: OptionRow, rows: Sequence[TransactionRow], tip: BlockRow | None) -> Graph | None:
    """Return the picture of an option's transactions; None while there are none."""
    parsed: list[tuple[TransactionRow, Transaction]] = []
    for row in rows:
        try:
            parsed.append((row, parse_transaction(bytes.fromhex(row.raw_hex))))
        except (BtcfiError, ValueError):
            continue
    by_id = {row.txid: tx for row, tx in parsed}
    parsed.sort(key=lambda pair: _rank(pair[1], by_id))
    if not parsed:
        return None
    scripts = _scripts(option)
    boxes, outputs, wires, sources, said = [], [], [], [], []
    places: dict[str, tuple[float, float]] = {}
    shown = {row.txid: _shown_outputs(row, tx, scripts) for row, tx in parsed}
    tallest = max(map(len, shown.values()))
    height = max(ROW * tallest, 96.0) + 40.0
    for column, (row, tx) in enumerate(parsed):
        left = FIRST_X + column * COLUMN
        drawn, spent = shown[row.txid], _shown_inputs(row, tx, places)
        tall = max(ROW * len(drawn) - 12.0, 84.0)
        top = (height - tall) / 2
        depth = confirmations(row, tip)
        boxes.append(
            Box(x=left, y=top, height=tall, title=row.purpose, txid=row.txid, state=row.state, depth=depth,
                fee_sats=row.fee_sats)
        )  # fmt: skip
        foreign = 0
        for n, name in enumerate(spent):
            middle = top + tall * (n + 1) / (len(spent) + 1)
            if name in places:
                px, py = places[name]
                wires.append(_wire(px + OUTPUT_WIDTH, py, left, middle))
            else:
                foreign += 1
                # the first transaction has room for its coins; before the others other outputs stand
                away = 94.0 if column == 0 else 56.0
                sources.append((left - away, middle, "coin" if row.purpose != BATCH else "others"))
                wires.append(_wire(left - away + 44.0, middle, left, middle))
        for n, (index, out) in enumerate(drawn):
            ox = left + BOX_WIDTH + TO_OUTPUT
            oy = (height - ROW * len(drawn)) / 2 + ROW * n + ROW / 2
            label, role = _role(out.script, scripts, first=index == 0 and row.purpose == "funding")
            places[f"{row.txid}:{index}"] = (ox, oy)
            outputs.append(Output(x=ox, y=oy, label=label, value_sats=out.value, role=role))
            wires.append(_wire(left + BOX_WIDTH, top + tall * (n + 1) / (len(drawn) + 1), ox, oy))
        paid = ", ".join(f"{_role(o.script, scripts, first=False)[0]} {o.value:,} sats" for _, o in drawn)
        said.append(f"{row.purpose} {row.txid[:8]}, {row.state}: {foreign or 'no'} wallet coins in; out {paid}")
    width = FIRST_X + (len(parsed) - 1) * COLUMN + BOX_WIDTH + TO_OUTPUT + OUTPUT_WIDTH + 12.0
    return Graph(
        boxes=tuple(boxes), outputs=tuple(outputs), wires=tuple(wires), sources=tuple(sources), width=width,
        height=height, words=". ".join(said) + ".",
    )  # fmt: skip


def _shown_outputs(
    row: TransactionRow, tx: Transaction, scripts: dict[str, tuple[str, str]]
) -> list[tuple[int, TxOut]]:
    """Return a transaction's outputs with their places; of a batch those of this option's sides, and the root."""
    every = list(enumerate(tx.outputs))
    if row.purpose != BATCH:
        return every
    return [(n, out) for n, out in every if out.script.hex() in scripts or not out.value]


def _shown_inputs(row: TransactionRow, tx: Transaction, places: dict[str, tuple[float, float]]) -> list[str]:
    """Return what a transaction spends; of a batch this option's collateral, and all others as one."""
    every = [str(txin.outpoint) for txin in tx.inputs]
    if row.purpose != BATCH:
        return every
    own = [name for name in every if name in places]
    return own + [name for name in every if name not in places][:1]


def _rank(tx: Transaction, by_id: dict[str, Transaction], depth: int = 0) -> int:
    """Return how long the longest chain of our transactions before this one is."""
    parents = {p for i in tx.inputs if (p := display_txid(i.outpoint.txid)) in by_id}
    if depth > len(by_id):  # no chain is longer; hashes do not go in circles, rows that lie might
        return depth
    return max((_rank(by_id[p], by_id, depth + 1) + 1 for p in parents), default=0)


def _wire(x1: float, y1: float, x2: float, y2: float) -> str:
    bend = (x2 - x1) / 2
    return f"M{x1:.1f},{y1:.1f} C{x1 + bend:.1f},{y1:.1f} {x2 - bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"


def _scripts(option: OptionRow) -> dict[str, tuple[str, str]]:
    try:
        kept = json.loads(option.contract or "{}")
    except ValueError:
        kept = {}
    found = {}
    if isinstance(kept, dict):
        for party in ("buyer", "seller"):
            script = kept.get(f"{party}_script")
            if isinstance(script, str):
                found[script] = (party, party)
    return found


_RECORDS: Final = {RecordType.SETTLEMENT_PROOF: "proof root", RecordType.ANCHOR: "root of proofs"}


def _role(script: bytes, scripts: dict[str, tuple[str, str]], *, first: bool) -> tuple[str, str]:
    if first:
        return "collateral", "collateral"
    known = scripts.get(script.hex())
    if known is not None:
        return known
    if script[:1] == b"\x6a":
        record = read_record(script)
        return "terms" if record is None else _RECORDS.get(record[0], "terms"), "note"
    if script == bytes.fromhex("51024e73"):
        return "fee anchor", "other"
    return "output", "other"
