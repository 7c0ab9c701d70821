"""The demo: the whole pipeline on real parts, from recorded candles to settled options with six confirmations.

It drives what beat drives in production: the same tick task, with the recorded minutes as slots, faster than real
time. Everything else happens in the worker processes.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from btcfi.adapters.chain.node import Node
from btcfi.adapters.files import make_named, make_private, write_named
from btcfi.adapters.store.chain import wallet
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options import on_chain, options, settlements, views
from btcfi.adapters.store.options.sales import Order, SaleRule, sell
from btcfi.adapters.store.options.settled import pays
from btcfi.adapters.store.options.tables import SETTLED_OPTIONS, OptionRow, OptionState, SettlementRow
from btcfi.adapters.store.options.views import WhichOptions
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices import views as prices
from btcfi.adapters.store.prices.tables import RoundState
from btcfi.adapters.venues.candle_folder import read_candle_folder, venues_for_replay
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.contracts.metadata import RecordType, read_record
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.options.expiry import SettlementInput, SettlementOutput
from btcfi.options.terms import OptionKind, fixing_for
from btcfi.oracle.fixing import MINUTE, Fixing, FixingKind
from btcfi.oracle.quote import DOLLAR, parse_venue
from btcfi.pricing.premium import warm_up
from btcfi.proofs.settlement_proof import from_json, verify
from btcfi.units import (
    SECONDS_PER_MINUTE,
    CentiBtc,
    CentsPerBtc,
    Minutes,
    Sats,
    Slot,
    UnixSeconds,
    display_txid,
    parse_txid,
)
from settings.deployment import Deployment, load_deployment
from settings.preset import Preset, load_preset
from tasks.context import Context, make_context
from workers.audit import owed
from workers.deployed import node_of, sale_rule, ticker
from workers.machine.parties import COINS_EACH, fill_parties
from workers.machine.sources import note_market, of_folder, refuse_other_market

TEN: Final = Fixing(FixingKind.TWAP, Minutes(10))
MEDIAN: Final = Fixing(FixingKind.MEDIAN, Minutes(30))

HISTORY_MINUTES: Final = 12
"""Minutes priced before the options are sold, so that there is a realised volatility to price them with."""

SPARE_MINUTES: Final = 2
"""Minutes after the last expiry, so that a void expiry minute still finds the next price."""

IN_FLIGHT: Final = 4
"""Rounds that are open at once while the recording is played."""

POLL_SECONDS: Final = 0.01
"""How often the demo looks into the store while it plays prices."""

PATIENCE_SECONDS: Final = 240
"""How long the demo waits for one thing before it gives up and says which."""


TABLE_WIDTH: Final = 160
"""Columns that the result needs; a narrower terminal wraps lines rather than lose digits."""


class DemoStalledError(BtcfiError):
    """The pipeline did not get somewhere in time."""

    def __init__(self, what: str, logs: Path) -> None:
        super().__init__(f"the demo waited {PATIENCE_SECONDS} s for {what}; see {logs}")
        self.what = what


class DemoFailedError(BtcfiError):
    """The demo ran through, and something in its result is wrong."""

    def __init__(self, failed: int, first: str) -> None:
        super().__init__(f"{failed} options did not check: {first}")
        self.failed = failed


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRequest:
    """What `btcfi demo` was asked for."""

    replay: Path | None = None
    start: int | None = None
    minutes: int | None = None
    venues: tuple[str, ...] = ()
    live: bool = False
    preset: str = ""
    """Instead of the deployment's."""
    data_dir: Path | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One option of the demo's book: its terms relative to the spot, in per mille."""

    kind: OptionKind
    strike: int
    barrier: int | None
    american: bool
    fixing: Fixing | None = None
    """None: the preset's; of an American one its minute."""

    @property
    def name(self) -> str:
        """An id that says what it is."""
        parts = [self.kind.label.replace("_", "-"), str(self.strike)]
        return "-".join(
            [*parts, *(["ko", str(self.barrier)] if self.barrier else []), *(["am"] if self.american else [])]
        )


def book() -> list[Line]:
    """Return every kind, with and without barrier and American, with strikes below and above the spot."""
    lines = []
    for kind in OptionKind:
        for strike in (940, 1060):
            for american in (False, True):
                low = strike < 1000  # noqa: PLR2004 - the spot, in per mille
                soon, last = (MINUTE, MINUTE) if american else (MINUTE, None) if low else (TEN, MEDIAN)
                lines.append(Line(kind=kind, strike=strike, barrier=None, american=american, fixing=soon))
                far = 1300 if kind.is_put or not low else 700
                lines.append(Line(kind=kind, strike=strike, barrier=far, american=american, fixing=last))
    # two barriers that a lively hour may touch
    lines.append(Line(kind=OptionKind.CALL, strike=940, barrier=1004, american=False, fixing=TEN))
    lines.append(Line(kind=OptionKind.PUT, strike=1060, barrier=996, american=False))
    return lines


def fixing_within(line: Line, rule: SaleRule, life: int) -> Fixing:
    """Return what settles a line of the book that lives ``life`` seconds: the minute where its window is longer."""
    fixing = fixing_for(line.fixing, american=line.american, preset=rule.fixing)
    return fixing if fixing.minutes * SECONDS_PER_MINUTE <= life else MINUTE


@dataclass(slots=True)
class Run:
    """One demo while it runs."""

    request: DemoRequest
    here: Context
    logs: Path
    slots: list[Slot]
    tick: Callable[[int], None]
    progress: Progress
    started: float
    ids: list[str] = field(default_factory=list)
    round_ms: list[float] = field(default_factory=list)
    """From the tick to the closed round, of the rounds that had the pipeline for themselves."""

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        """Wait until ``done``. Raises DemoStalledError."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise DemoStalledError(what, self.logs)
            time.sleep(0.1)


def run_demo(request: DemoRequest) -> None:
    """Run the demo and print its result. Raises DemoFailedError for a wrong one, a BtcfiError for a broken run."""
    console = Console(stderr=True)
    slots, registered, legs, folder = _window(request)
    preset = _preset(request, registered)
    if not preset.consensus.least_dollar_markets:
        console.print(f"preset {preset.name}: settles on thin minutes, which one market can bend", highlight=False)
    started = time.monotonic()
    with _data_dir(request) as data_dir, _progress(console) as progress:
        deployment = load_deployment().within(data_dir).model_copy(
            update={
                "preset": preset.name, "venues": registered, "legs": legs, "exchange_seconds": 0.5,
                "tick": request.live, "replay_clock": not request.live, "venue_rate_limit": request.live,
                "relay_seconds": 1.0, "reconcile_seconds": 5.0, "premium_seconds": 5.0, "watch_seconds": 1.0,
                "mine_seconds": 1.0, "lease_seconds": 20, "round_deadline_seconds": 15,
            }
        )  # fmt: skip
        refuse_other_market(deployment, of_folder(folder))
        result = _run(request, deployment, folder, slots, progress, started)
    if request.as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        _print(Console(width=max(Console().width, TABLE_WIDTH)), result)
    if result["failed"]:
        raise DemoFailedError(result["failed"], result["failures"][0]["why"])


def _window(request: DemoRequest) -> tuple[list[Slot], tuple[str, ...], tuple[str, ...], Path | None]:
    if request.live:
        deployment = load_deployment()
        minutes = request.minutes or HISTORY_MINUTES + 5
        first = int(time.time()) // 60 * 60
        return [Slot(first + 60 * i) for i in range(minutes)], deployment.venues, deployment.legs, None
    path = request.replay or SYNTHETIC_CANDLES
    folder = read_candle_folder(path)
    default = 60 if request.replay is None else None
    asked = request.minutes or default
    window = None if asked is None else Minutes(asked)
    start = None if request.start is None else Slot(request.start)
    slots = folder.slots(start, window)
    if len(slots) < HISTORY_MINUTES + SPARE_MINUTES + 2:
        raise InvalidInputError("--minutes", str(len(slots)), f"at least {HISTORY_MINUTES + SPARE_MINUTES + 2}")
    chosen = venues_for_replay(folder, start, window)
    registered = tuple(str(v) for v in chosen.registered)
    if request.venues:
        for text in request.venues:
            if parse_venue(text) not in folder.candles:
                known = ", ".join(str(v) for v in folder.candles)
                raise InvalidInputError("--venue", text, f"one of the folder's: {known}")
        registered = request.venues
    return slots, registered, tuple(str(v) for v in chosen.legs), path


def _preset(request: DemoRequest, registered: tuple[str, ...]) -> Preset:
    """Return the preset that settles. Raises InvalidInputError when by it no minute of these venues could."""
    preset = load_preset(request.preset or load_deployment().preset)
    markets = sum(parse_venue(text).quote == DOLLAR for text in registered)
    least = preset.consensus.least_dollar_markets
    if markets < least:
        raise InvalidInputError(
            "--replay" if request.replay else "--venue",
            f"dollar markets: {markets}, so every minute is thin, and by preset {preset.name!r} nothing settles on one",
            f"at least {least} of them, or --preset replay-study, which settles on thin minutes",
        )
    return preset


@contextmanager
def _data_dir(request: DemoRequest) -> Iterator[Path]:
    if request.data_dir is not None:
        make_private(request.data_dir, named=True)
        yield request.data_dir.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="btcfi-demo-") as folder:
        yield Path(folder)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=False)


def _run(  # noqa: PLR0917 - called once, right above
    request: DemoRequest, deployment: Deployment, folder: Path | None, slots: list[Slot], progress: Progress,
    started: float,
) -> dict[str, Any]:  # fmt: skip
    from workers.machine.cluster import Cluster  # noqa: PLC0415 - starts processes; only a demo pays for its imports

    step = progress.add_task("start the parts", total=None)
    with Cluster(deployment, replay_folder=folder) as cluster:
        cluster.start(lambda what: progress.update(step, description=what[:28]))
        here = make_context(cluster.deployment)
        note_market(here.store, here.deployment, of_folder(folder))
        fill_parties(here, COINS_EACH)
        cluster.wait_ready(90)
        progress.update(step, description="parts are running", total=1, completed=1)
        run = Run(
            request=request, here=here, logs=deployment.data_dir / "logs", slots=slots, tick=ticker(here),
            progress=progress, started=started,
        )  # fmt: skip
        return _drive(run)


def _drive(run: Run) -> dict[str, Any]:
    last_expiry = run.slots[-1 - SPARE_MINUTES]
    middle = run.slots[(HISTORY_MINUTES + len(run.slots)) // 2]
    history, life = run.slots[:HISTORY_MINUTES], run.slots[HISTORY_MINUTES:]
    _play(run, history, "history", in_flight=1)
    run.wait("coins for the settlements' fees", lambda: _coins_ready(run))
    _sell(run, expiries=(middle, last_expiry))
    funding = run.progress.add_task("fund, six confirmations", total=len(run.ids))
    run.wait("the funding", lambda: _watch(run, funding, (OptionState.ACTIVE,)) == len(run.ids))
    half = [s for s in life if s <= middle]
    early = half[: len(half) // 2]
    _play(run, early, "prices, first quarter")
    _exercise_early(run)
    _play(run, [s for s in half if s not in early], "prices, to first expiry")
    _play(run, [s for s in life if s > middle], "prices, to last expiry")
    settled = run.progress.add_task("settle, six confirmations", total=len(run.ids))
    run.wait("the settlements", lambda: _watch(run, settled, SETTLED_OPTIONS) == len(run.ids))
    return _result(run)


def _play(run: Run, slots: list[Slot], name: str, *, in_flight: int = IN_FLIGHT) -> None:
    bar = run.progress.add_task(name, total=len(slots))
    sent = 0
    ticked = time.monotonic()
    deadline = time.monotonic() + PATIENCE_SECONDS + 61 * len(slots) * run.request.live
    while True:
        closed = _closed(run, slots)
        run.progress.update(bar, completed=closed)
        if in_flight == 1 and closed == sent > 0 and not run.request.live:
            run.round_ms.append((time.monotonic() - ticked) * 1000)
        if closed == len(slots):
            return
        if not run.request.live:
            while sent < len(slots) and sent - closed < in_flight:
                ticked = time.monotonic()
                run.tick(slots[sent])
                sent += 1
        if time.monotonic() > deadline:
            raise DemoStalledError(f"the prices of {name}", run.logs)
        time.sleep(POLL_SECONDS)


def _closed(run: Run, slots: list[Slot]) -> int:
    with run.here.store.reading() as session:
        return prices.closed_between(session, slots[0], slots[-1])


def _coins_ready(run: Run) -> bool:
    node = node_of(run.here.deployment)
    tip = node.block_count()
    node.close()
    need = len(book())
    with run.here.store.reading() as session:
        return wallet.mature_coins(session, tip=tip) >= need


def _sell(run: Run, *, expiries: tuple[Slot, Slot]) -> None:
    here = run.here
    rule = sale_rule(here.deployment)
    warm_up()  # where nothing is compiled yet that takes a minute, in which nobody else could write
    with here.store.transaction() as session:
        last = rounds.latest_priced(session, here.feed)
        if last is None or last.price_cents is None:
            raise options.NoPriceYetError(here.feed)
        spot, now = last.price_cents, UnixSeconds(last.slot + 60)
        for place, line in enumerate(book()):
            order = Order(
                option_id=line.name, kind=line.kind, strike=CentsPerBtc(spot * line.strike // 1000),
                quantity=CentiBtc(5), american=line.american, expiry=expiries[place % 2],
                barrier=CentsPerBtc(spot * line.barrier // 1000) if line.barrier else None,
                fixing=fixing_within(line, rule, expiries[place % 2] - now),
            )  # fmt: skip
            run.ids.append(sell(session, order, rule, now=now).id)


def _exercise_early(run: Run) -> None:
    with run.here.store.transaction() as session:
        for option in views.soonest(session, WhichOptions(state=OptionState.ACTIVE)):
            if option.american:
                settlements.request_settlement(session, option.id, requested_by="demo", now=run.here.now())


def _watch(run: Run, bar: Any, states: tuple[str, ...]) -> int:  # noqa: ANN401 - rich's task id
    with run.here.store.reading() as session:
        done = views.options_in(session, states)
    run.progress.update(bar, completed=done)
    return done


# ---- the result, checked from the chain and the proof files


def _result(run: Run) -> dict[str, Any]:
    node = node_of(run.here.deployment)
    rows, failed = [], []
    proofs = run.logs.parent / "proofs"
    make_named(proofs)
    check = run.progress.add_task("verify from chain and proof", total=len(run.ids))
    with run.here.store.reading() as session:
        closed = prices.rounds_by_state(session)
        for option in views.soonest(session, WhichOptions()):
            settlement = settlements.find_settlement(session, f"st-{option.id}")
            transaction = on_chain.transaction_of(session, option.id, "settlement")
            child = on_chain.transaction_of(session, option.id, "child")
            row = describe(option, settlement, transaction, child, node)
            try:
                proof = settlements.proof_of(session, settlement)
                write_named(proofs / f"{option.id}.json", proof)
                output = SettlementOutput.from_bytes(from_json(proof).output)
                to_buyer, _ = owed(
                    session, option, settlement, output, costs=Sats(row["fee_sats"] + row["anchor_sats"])
                )
                verify_settlement(option, settlement, proof, row, node, to_buyer=to_buyer)
            except BtcfiError as e:
                failed.append({"id": option.id, "why": str(e)})
            rows.append(row)
            run.progress.advance(check)
    node.close()
    return {
        "rounds": {"priced": closed.get(RoundState.PRICED, 0), "void": closed.get(RoundState.VOID, 0)},
        "options": rows,
        "verified": len(rows) - len(failed),
        "failed": len(failed),
        "failures": failed,
        "elapsed_seconds": round(time.monotonic() - run.started, 2),
        "round_ms": round(statistics.median(run.round_ms), 1) if run.round_ms else None,
    }


def describe(
    option: OptionRow,
    settlement: SettlementRow,
    transaction: TransactionRow | None,
    child: TransactionRow | None,
    node: Node,
) -> dict[str, Any]:
    """Return one option's line of the result."""
    seen = node.transaction(parse_txid(settlement.txid)) if settlement.txid else None
    paid = pays(option, seen.transaction) if seen else None
    return {
        "id": option.id,
        "kind": OptionKind(option.kind).label,
        "barrier": option.barrier_cents,
        "american": option.american,
        "fixing": option.fixing,
        "strike_cents": option.strike_cents,
        "settlement_price_cents": settlement.price_cents,
        "payout_cents": settlement.payout_cents,
        "payout_sats": settlement.payout_sats,
        "paid_sats": paid.buyer if paid else None,
        "returned_sats": paid.seller if paid else None,
        "anchor_sats": paid.anchor if paid else None,
        "collateral_sats": option.collateral_sats,
        "premium_sats": option.premium_sats,
        "fee_sats": transaction.fee_sats if transaction else None,
        "child_fee_sats": child.fee_sats if child else None,
        "steps": settlement.steps,
        "proof_root": settlement.proof_root,
        "funding_txid": option.funding_txid,
        "settlement_txid": settlement.txid,
        "child_txid": child.txid if child else None,
        "confirmations": seen.confirmations if seen else 0,
        "status": option.state,
        "reason": settlement.reason,
    }


class ResultMismatchError(BtcfiError):
    """Chain data and proof do not say the same."""

    def __init__(self, option_id: str, what: str, expected: object, found: object) -> None:
        super().__init__(f"option {option_id}: {what} is {found}, expected {expected}")
        self.option_id, self.what = option_id, what


def verify_settlement(
    option: OptionRow, settlement: SettlementRow, proof_file: bytes, row: dict[str, Any], node: Node, *, to_buyer: Sats
) -> None:
    """Check one settlement from chain data and its proof file alone, the way an outsider would.

    Re-executes the guest, recomputes the root and finds it in the OP_RETURN of the settlement (or of the child that
    pays its fee); then the sums. to_buyer: what the contract's rule gives the buyer. Raises a ProofError or
    ResultMismatchError.
    """
    from btcfi.vm.program import load_program_by_hash  # noqa: PLC0415

    proof = from_json(proof_file)
    verify(proof, load_program_by_hash(option.program_sha256, name=option.program))
    given = SettlementInput.from_bytes(proof.input_bytes)
    transaction = node.transaction(parse_txid(settlement.txid or "")).transaction
    funding = node.transaction(parse_txid(option.funding_txid or "")).transaction
    carrier = node.transaction(parse_txid(row["child_txid"])).transaction if row["child_txid"] else transaction
    collateral = Sats(option.collateral_sats)
    spent = transaction.inputs[0].outpoint
    if row["paid_sats"] is None:
        raise ResultMismatchError(option.id, "who is paid", "its two parties", "others")
    for what, expected, found in (
        (
            "proof root on chain",
            (RecordType.SETTLEMENT_PROOF, proof.proof_root),
            read_record(carrier.outputs[-1].script),
        ),
        ("spent outpoint", f"{option.funding_txid}:0", str(spent)),
        (
            "child's parent",
            settlement.txid,
            display_txid(carrier.inputs[0].outpoint.txid) if row["child_txid"] else settlement.txid,
        ),
        ("collateral on chain", collateral, funding.outputs[0].value),
        ("settlement price", settlement.price_cents, given.spot),
        ("strike", option.strike_cents, given.strike),
        ("buyer's output", to_buyer, row["paid_sats"]),
        ("paid in the store", row["paid_sats"], settlement.paid_sats),
        (
            "paid + returned + anchor + fee",
            collateral,
            row["paid_sats"] + row["returned_sats"] + row["anchor_sats"] + row["fee_sats"],
        ),
        ("six confirmations", True, row["confirmations"] >= 6),  # noqa: PLR2004 - as the issue promises
    ):
        if expected != found:
            raise ResultMismatchError(option.id, what, expected, found)


def _print(console: Console, result: dict[str, Any]) -> None:
    table = Table(title="Options settled on the regtest chain", show_lines=False)
    for name, justify in (
        ("option", "left"), ("fixing", "left"), ("strike $", "right"), ("price $", "right"), ("payout $", "right"),
        ("payout sats", "right"), ("paid sats", "right"), ("steps", "right"), ("proof root", "left"),
        ("txid", "left"), ("conf", "right"), ("status", "left"),
    ):  # fmt: skip
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in result["options"]:
        table.add_row(
            row["id"] + (" *" if row["reason"] == "early_exercise" else ""),
            row["fixing"], f"{row['strike_cents'] / 100:,.2f}",
            f"{row['settlement_price_cents'] / 100:,.2f}", f"{row['payout_cents'] / 100:,.2f}",
            f"{row['payout_sats']:,}", f"{row['paid_sats']:,}", f"{row['steps']:,}", row["proof_root"][:8] + "…",
            row["settlement_txid"][:8] + "…", str(row["confirmations"]), row["status"],
        )  # fmt: skip
    console.print(table)
    priced, void = result["rounds"]["priced"], result["rounds"]["void"]
    computed, paid, fees, children = (
        sum(row[name] or 0 for row in result["options"])
        for name in ("payout_sats", "paid_sats", "fee_sats", "child_fee_sats")
    )
    console.print(
        f"{computed:,} sats computed, {paid:,} paid; fees: settlements {fees:,}, their children {children:,}.\n"
        f"{priced} minutes priced, {void} void; {len(result['options'])} options settled once each, "
        f"{result['verified']} verified from chain data and proof file, {result['failed']} failed; "
        f"{result['elapsed_seconds']} s. * exercised early, closed by both parties; the others paid by attestation of "
        "two of three oracles, within the tolerance of the preset.\n"
        f"`make up` keeps the parts running; its console is on http://127.0.0.1:{load_deployment().api_port}",
        highlight=False,
    )
