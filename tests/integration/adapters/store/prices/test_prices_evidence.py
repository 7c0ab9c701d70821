"""Prices in a database, computed again from the bytes behind them, also on another machine's database."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
import typer
from sqlmodel import SQLModel, select
from typer.testing import CliRunner

from btcfi.adapters.store.prices.evidence import (
    EvidenceError,
    ImportConflictError,
    export_span,
    import_span,
    prune_evidence,
    replay_round,
    venues_of,
)
from btcfi.adapters.store.prices.history import market_state, price_history
from btcfi.adapters.store.prices.observations import observations_of, store_observation
from btcfi.adapters.store.prices.tables import QuoteRow, RoundRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.adapters.venues.candle_folder import read_candle_folder, venues_for_replay
from btcfi.adapters.venues.price_study import study_folder, write_study
from btcfi.adapters.venues.replay_server import Replay, candle_target, load
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.adapters.venues.synthetic_candles.generate import FIRST_SLOT
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.hashes import sha256
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, Method, agreed_price, decode_outcome, encode_outcome
from btcfi.oracle.quote import BTC_USD, VenueId, decode_observation, parse_venue
from btcfi.oracle.recompute import AgreedEarlierError
from btcfi.oracle.report import canonical_json, rule_document
from btcfi.oracle.venues import exchange_of
from btcfi.oracle.venues.candle import read_response
from btcfi.surfaces.oracle_cli import PricesContext, prices_app
from btcfi.units import BasisPoints, Minutes, Slot, UnixSeconds
from settings.preset import load_preset
from tests.support.oracle_support import KRAKEN
from tests.support.paths import ROOT, SHARED

pytestmark = pytest.mark.integration

RULE = ConsensusRule()
FIRST = Slot(FIRST_SLOT)
MINUTES = 12
GAP = Slot(FIRST + 5 * 60)
AFTER = UnixSeconds(FIRST + 86_400)
RULES = (RULE,)
DEPEG = SHARED / "depeg-2023-03"


def new_store(folder: Path) -> Store:
    folder.mkdir(exist_ok=True)
    store = Store(f"sqlite:///{folder}/prices.sqlite")
    SQLModel.metadata.create_all(store.engine, tables=[t.__table__ for t in (RoundRow, QuoteRow, BlobRow)])
    return store


@pytest.fixture
def stored(tmp_path: Path) -> Store:
    """Twelve minutes of the synthetic candles, as the fetch and aggregate tasks leave them; minute 5 is void."""
    store = new_store(tmp_path / "here")
    candles = read_candle_folder(SYNTHETIC_CANDLES)
    venues, replay = venues_for_replay(candles, None, None), Replay(candles.candles)
    with store.transaction() as session:
        for at in candles.slots(None, None)[:MINUTES]:
            said = []
            for venue in (*venues.registered, *venues.legs):
                raw = replay.answer(candle_target(venue, at), at)[1] if at != GAP else b"<html>"
                now = UnixSeconds(at + 62)
                observation = read_response(
                    exchange_of(venue.exchange), raw, venue=venue, slot=at, now=now, evidence=sha256(raw)
                )
                store_observation(session, BTC_USD, observation, raw, now=now)
                said.append(observation)
            outcome = agreed_price(said, registered=venues.registered, legs=venues.legs, rule=RULE, slot=at)
            priced = isinstance(outcome, AgreedPrice)
            session.add(
                RoundRow(
                    feed=BTC_USD, slot=at, state="priced" if priced else "void",
                    price_cents=outcome.price if priced else None, low_cents=outcome.low if priced else None,
                    high_cents=outcome.high if priced else None, report=json.dumps(encode_outcome(outcome)),
                    deadline_unix=at + 90, opened_at_unix=at + 60, closed_at_unix=at + 63,
                )
            )  # fmt: skip
    return store


def test_a_price_is_computed_again_from_the_raw_responses_bit_for_bit(stored: Store) -> None:
    with stored.reading() as session:
        for i in range(MINUTES):
            at = Slot(FIRST + 60 * i)
            again = replay_round(session, BTC_USD, at, rule=RULE)
            row = session.exec(select(RoundRow).filter_by(slot=at)).one()
            assert again.report == canonical_json(json.loads(row.report))
            assert again.responses == 8


def test_changed_bytes_a_changed_quote_or_a_changed_report_is_found(stored: Store) -> None:
    with stored.transaction() as session:
        quote = session.exec(select(QuoteRow).filter_by(slot=FIRST, venue="kraken:BTC/USD")).one()
        session.get(BlobRow, quote.evidence_sha256).body += b" "
        other = session.exec(select(QuoteRow).filter_by(slot=FIRST + 60, venue="kraken:BTC/USD")).one()
        body = json.loads(other.body)
        other.body = json.dumps({**body, "close_cents": body["close_cents"] - 1})
        third = session.exec(select(RoundRow).filter_by(slot=FIRST + 120)).one()
        third.report = third.report.replace(str(third.price_cents), str(third.price_cents + 1))
    with stored.reading() as session:
        for minute, what in ((0, "changed"), (1, "something else"), (2, "evidence gives")):
            with pytest.raises(EvidenceError, match=what):
                replay_round(session, BTC_USD, Slot(FIRST + 60 * minute), rule=RULE)
        with pytest.raises(EvidenceError):
            replay_round(
                session, BTC_USD, Slot(FIRST + 180), rule=ConsensusRule(method=Method.MEAN, thin_bps=BasisPoints(0))
            )
        with pytest.raises(NotFoundError):
            replay_round(session, BTC_USD, Slot(FIRST - 60), rule=RULE)


def test_an_exported_span_gives_the_same_bytes_after_import_elsewhere_and_is_a_recording_too(
    stored: Store, tmp_path: Path
) -> None:
    span, there = tmp_path / "span", new_store(tmp_path / "there")
    end = Slot(FIRST + 60 * MINUTES)
    with stored.reading() as session:
        assert export_span(session, span, BTC_USD, FIRST, end) == MINUTES
        here = [replay_round(session, BTC_USD, Slot(FIRST + 60 * i), rule=RULE) for i in range(MINUTES)]
    with there.transaction() as session:
        assert import_span(session, span, now=AFTER, rules=RULES) == (MINUTES, 0)
    with there.transaction() as session:
        assert import_span(session, span, now=AFTER, rules=RULES) == (0, MINUTES)
        assert [replay_round(session, BTC_USD, Slot(FIRST + 60 * i), rule=RULE) for i in range(MINUTES)] == here
        again = tmp_path / "again"
        export_span(session, again, BTC_USD, FIRST, end)
    assert (span / "rounds.jsonl").read_bytes() == (again / "rounds.jsonl").read_bytes()
    with stored.reading() as session:
        (venue, *_) = [o.venue for o in observations_of(session, BTC_USD, FIRST)]
    status, body = load(span).answer(candle_target(venue, FIRST))
    assert (status, sha256(body).hex()) in {(200, f.name) for f in (span / "responses").iterdir()}


def test_a_price_replays_to_the_same_bytes_in_another_process(stored: Store) -> None:
    program = (
        "import sys; from btcfi.adapters.store.prices.evidence import replay_round;"
        "from btcfi.adapters.store.spine.database import Store; from btcfi.oracle.consensus import ConsensusRule\n"
        "with Store(sys.argv[1]).reading() as s:"
        " sys.stdout.buffer.write(replay_round(s, 'BTC/USD', int(sys.argv[2]), rule=ConsensusRule()).report)"
    )
    done = subprocess.run([sys.executable, "-c", program, stored.url, str(FIRST)], capture_output=True, check=True)
    with stored.reading() as session:
        assert done.stdout == replay_round(session, BTC_USD, FIRST, rule=RULE).report


def test_an_import_that_contradicts_what_is_here_or_was_tampered_with_changes_nothing(
    stored: Store, tmp_path: Path
) -> None:
    span, there = tmp_path / "span", new_store(tmp_path / "there")
    with stored.reading() as session:
        export_span(session, span, BTC_USD, FIRST, Slot(FIRST + 120))
    lines = (span / "rounds.jsonl").read_text().splitlines()
    changed = json.loads(lines[1])
    changed["report"]["price"] += 1
    (span / "rounds.jsonl").write_text(lines[0] + "\n" + json.dumps(changed) + "\n")
    with pytest.raises(ImportConflictError), stored.transaction() as session:
        import_span(session, span, now=AFTER, rules=RULES)
    for file in (span / "responses").iterdir():
        file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(EvidenceError), there.transaction() as session:
        import_span(session, span, now=AFTER, rules=RULES)
    with there.reading() as session:
        assert not session.exec(select(RoundRow)).all()
        assert not session.exec(select(QuoteRow)).all()
    with pytest.raises(NotFoundError), there.transaction() as session:
        import_span(session, tmp_path / "nowhere", now=AFTER, rules=RULES)


def test_retention_deletes_old_responses_only_and_the_replay_says_so(stored: Store) -> None:
    with stored.transaction() as session:
        session.add(BlobRow(sha256="ab" * 32, body=b"a proof", created_at_unix=0))
    assert prune_evidence(stored, before=UnixSeconds(FIRST + 60 + 62)) == 8
    assert prune_evidence(stored, before=UnixSeconds(FIRST + 60 + 62)) == 0
    with stored.reading() as session:
        with pytest.raises(EvidenceError, match="retention"):
            replay_round(session, BTC_USD, FIRST, rule=RULE)
        replay_round(session, BTC_USD, Slot(FIRST + 60), rule=RULE)
        assert session.get(BlobRow, "ab" * 32) is not None


def test_history_names_the_gaps_and_volatility_is_never_taken_across_one(stored: Store) -> None:
    with stored.reading() as session:
        history = price_history(session, BTC_USD, Slot(FIRST - 60), Slot(FIRST + 60 * MINUTES))
        state = market_state(session, BTC_USD)
    assert history.gaps == (FIRST - 60, GAP)
    assert len(history.minutes) == MINUTES - 1
    assert (state.spot, state.last_update) == (history.minutes[-1].price, FIRST + 60 * (MINUTES - 1))
    assert state.gaps == 1
    for sigma in (state.realised_volatility, state.parkinson_volatility, state.garman_klass_volatility):
        assert 0.3 < sigma < 5


def test_the_prices_commands_speak_json_and_one_line_errors(stored: Store, tmp_path: Path) -> None:
    app = typer.Typer()
    context = PricesContext(open_store=lambda: stored, rule=lambda: RULE, rule_of={"standard": RULE}.__getitem__)
    app.add_typer(prices_app(context), name="prices")
    run = CliRunner()
    replayed = run.invoke(app, ["prices", "replay", str(FIRST)])
    assert json.loads(replayed.stdout)["equal"] is True
    iso = run.invoke(app, ["prices", "replay", "2026-01-05T00:00Z"])
    assert json.loads(iso.stdout)["slot"] == FIRST
    out = run.invoke(app, ["prices", "export", str(tmp_path / "x"), "--start", str(FIRST), "--end", str(FIRST + 600)])
    assert out.exit_code == 0
    assert run.invoke(app, ["prices", "import", str(tmp_path / "x")]).exit_code == 0
    assert json.loads(run.invoke(app, ["prices", "market"]).stdout)["window_days"] == 30
    spoken = run.invoke(app, ["prices", "history", "--start", str(FIRST), "--end", str(FIRST + 600)])
    assert json.loads(spoken.stdout)["gaps"] == [GAP]
    for wrong, code in (
        ("yesterday", 2),
        ("2026-01-05T00:00", 2),
        ("2026-01-05T00:00:01Z", 2),
        ("2020-01-05T00:00Z", 3),
    ):
        failed = run.invoke(app, ["prices", "replay", wrong])
        assert (failed.exit_code, failed.stderr.count("\n")) == (code, 1)


@pytest.mark.skipif(not DEPEG.is_dir(), reason=f"the recording is not here: {DEPEG}")
def test_through_all_three_days_of_the_depeg_no_dollar_is_taken_for_a_dollar_that_is_none(tmp_path: Path) -> None:
    study = study_folder(DEPEG, rule=RULE)
    summary = study.summary()
    assert summary["registered"] == ["binanceus:BTC/USD", "binanceus:BTC/USDT", "kraken:BTC/USDC"]
    assert summary["minutes"] == 4320
    assert summary["priced"] == 3910
    assert summary["void"] == {"no_quorum": 22, "no_quorum_after_cut": 388}
    assert summary["thin"] == {"minutes": 3910, "few_dollar_markets": 3910, "one_can_move_it": 3910}
    assert summary["fit_to_settle"] == 0
    assert summary["worst_outside_dollar_candle_bps"] == 0
    off = f"{summary['worst_naive_mean_bps'] / 100:.2f} %"
    assert off == "4.52 %"
    told = (ROOT / "docs/oracle.md").read_text()
    assert told.count(off) == 2, "docs/oracle.md says the number that the study prints, in both places"
    write_study(study, tmp_path)
    assert (tmp_path / "prices.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    dropped = (tmp_path / "dropped.csv").read_text().splitlines()
    assert len(dropped) == 1 + sum(summary["dropped"].values())
    minutes = (tmp_path / "minutes.csv").read_text().splitlines()[1:]
    assert len(minutes) == 4320
    assert sum("few_dollar_markets one_can_move_it" in row for row in minutes) == 3910


@pytest.mark.skipif(not DEPEG.is_dir(), reason=f"the recording is not here: {DEPEG}")
def test_the_depeg_settles_by_the_preset_for_studies_alone() -> None:
    study = study_folder(
        DEPEG, rule=load_preset("replay-study").consensus, start=Slot(1678514400), minutes=Minutes(120)
    )
    assert (study.summary()["fit_to_settle"], study.summary()["thin"]["minutes"]) == (120, 0)


def subsets(folder: Path, *sizes: int) -> list[tuple[Path, ...]]:
    files = sorted(f for f in folder.glob("*.csv")) if folder.is_dir() else []
    return [chosen for size in sizes for chosen in itertools.combinations(files, size)]


@pytest.mark.parametrize(
    "files",
    [*subsets(DEPEG, 1, 2, 3, 4), *subsets(SYNTHETIC_CANDLES, 1, 2, 5, 8)],
    ids=lambda files: "+".join(f.stem for f in files),
)
def test_in_no_folder_of_one_two_or_five_venues_is_a_minute_priced_outside_every_used_venue_s_range(
    files: tuple[Path, ...], tmp_path: Path
) -> None:
    for file in files:
        shutil.copy(file, tmp_path)
    recorded = read_candle_folder(tmp_path)
    if all(venue.is_leg for venue in recorded.candles):
        return  # two legs: nothing is registered
    study = study_folder(tmp_path, rule=RULE, start=recorded.first, minutes=Minutes(30))
    markets = sum(v.quote == "USD" for v in study.venues.registered)
    for minute in study.minutes:
        price = minute.outcome
        if not isinstance(price, AgreedPrice):
            continue
        assert markets > 0
        assert bool(price.thin) or price.dollar_markets >= 4
        candles = [(u.rate, recorded.candles[u.venue][price.slot]) for u in price.used]
        assert any(
            Decimal(c.low) * rate <= price.price * 10**6 <= Decimal(c.high) * rate for rate, c in candles
        )  # rates in 1e-8, cents in 1e-2
    assert study.summary()["fit_to_settle"] == (30 if markets >= 4 else 0)


@pytest.mark.skipif(not DEPEG.is_dir(), reason=f"the recording is not here: {DEPEG}")
def test_in_the_worst_two_hours_every_minute_is_priced_and_kraken_usdc_is_dropped_in_each_with_its_reason() -> None:
    study = study_folder(DEPEG, rule=RULE, start=Slot(1678514400), minutes=120)
    assert study.summary()["priced"] == 120
    for minute in study.minutes:
        (dropped,) = minute.outcome.dropped
        assert (str(dropped.venue), dropped.reason) == ("kraken:BTC/USDC", "outside_par_band")
        assert 500 <= dropped.deviation_bps <= 1500


def lines_of(span: Path) -> list[dict]:
    return [json.loads(line) for line in (span / "rounds.jsonl").read_text().splitlines()]


def legs_of(document: dict) -> set[VenueId]:
    return {venue for o in document["observations"] if (venue := parse_venue(o["venue"])).is_leg}


def write_lines(span: Path, documents: list[dict]) -> None:
    (span / "rounds.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))


@pytest.fixture
def span(stored: Store, tmp_path: Path) -> Path:
    folder = tmp_path / "span"
    with stored.reading() as session:
        export_span(session, folder, BTC_USD, FIRST, Slot(FIRST + 6 * 60))
    return folder


def nothing_in(store: Store) -> bool:
    with store.reading() as session:
        return not (session.exec(select(RoundRow)).all() or session.exec(select(QuoteRow)).all())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "hacked"), ("state", "open"), ("state", "void"), ("price_cents", -5), ("price_cents", "cheap"),
        ("price_cents", 5_000_000), ("low_cents", 1), ("high_cents", None), ("feed", 7), ("slot", 2**63 - 1),
        ("slot", FIRST + 1), ("slot", FIRST + 86_400), ("report", "none"), ("observations", {}), ("version", 3),
        ("closed_at_unix", -1), ("rule", {"method": "mean"}),
    ],
)  # fmt: skip
def test_an_import_believes_no_field_of_the_file_and_names_it_with_its_line(span, tmp_path, field, value) -> None:
    documents = lines_of(span)
    documents[2][field] = value
    write_lines(span, documents)
    there = new_store(tmp_path / "there")
    with pytest.raises(InvalidInputError) as caught, there.transaction() as session:
        import_span(session, span, now=AFTER, rules=RULES)
    assert caught.value.field.startswith(f"rounds.jsonl line 3: {field}")
    assert nothing_in(there)


@pytest.mark.parametrize("field", ["price", "low", "high", "confidence", "reach", "quorum"])
def test_a_report_with_its_columns_changed_alike_is_not_imported(span, tmp_path, field) -> None:
    documents = lines_of(span)
    documents[1]["report"][field] += 1
    if f"{field}_cents" in documents[1]:
        documents[1][f"{field}_cents"] += 1
    write_lines(span, documents)
    there = new_store(tmp_path / "there")
    with pytest.raises(InvalidInputError, match=f"line 2: {field}"), there.transaction() as session:
        import_span(session, span, now=AFTER, rules=RULES)
    assert nothing_in(there)


def test_a_quote_that_its_response_does_not_say_or_that_is_of_another_minute_is_not_imported(span, tmp_path) -> None:
    there, honest = new_store(tmp_path / "there"), lines_of(span)
    for change in ({"close_cents": 7_000_000, "high_cents": 7_000_000}, {"slot": FIRST + 600}):
        documents = json.loads(json.dumps(honest))
        (kraken,) = [o for o in documents[1]["observations"] if o["venue"] == "kraken:BTC/USD"]
        kraken.update(change)
        write_lines(span, documents)
        with pytest.raises((EvidenceError, InvalidInputError)), there.transaction() as session:
            import_span(session, span, now=AFTER, rules=RULES)
        assert nothing_in(there)


def test_a_round_agreed_by_a_rule_that_no_preset_has_is_not_imported(span, tmp_path) -> None:
    documents = lines_of(span)
    lax = ConsensusRule(outlier_bps=9_999, quorum_numerator=1, quorum_denominator=1000)
    documents[0]["rule"] = rule_document(lax, [KRAKEN], [])
    write_lines(span, documents)
    with pytest.raises(InvalidInputError, match="line 1: rule"), new_store(tmp_path / "x").transaction() as session:
        import_span(session, span, now=AFTER, rules=RULES)


def test_an_imported_void_minute_stays_void_and_a_round_keeps_by_which_rule_it_was_agreed(span, tmp_path) -> None:
    documents = lines_of(span)
    for one in documents:
        one["rule"] = rule_document(RULE, venues_of(decode_outcome(one["report"])), legs_of(one))
    write_lines(span, documents)
    there = new_store(tmp_path / "there")
    with there.transaction() as session:
        assert import_span(session, span, now=AFTER, rules=RULES) == (6, 0)
        void = session.exec(select(RoundRow).filter_by(slot=GAP)).one()
        assert (void.state, void.price_cents, void.low_cents, void.high_cents) == ("void", None, None, None)
        again = tmp_path / "again"
        export_span(session, again, BTC_USD, FIRST, Slot(FIRST + 6 * 60))
        # a deployment whose preset has changed since still replays by the rule of then
        other = ConsensusRule(method=Method.MEAN, thin_bps=0)
        assert replay_round(session, BTC_USD, FIRST, rule=other).outcome.method is Method.MEDIAN
    assert [one["rule"] for one in lines_of(again)] == [one["rule"] for one in documents]


def test_an_export_of_an_earlier_release_is_imported_and_replays_to_its_own_bytes(span, tmp_path) -> None:
    """Agreed by the capped weights: no version, no rule, and no word of how thin a price was."""
    old_rule = ConsensusRule(method=Method.VOLUME_WEIGHTED_MEDIAN, least_dollar_markets=0, thin_bps=0)
    documents = lines_of(span)
    for one in documents:
        del one["version"], one["rule"]
        said = [decode_observation(o) for o in one["observations"]]
        venues = venues_of(decode_outcome(one["report"]))
        outcome = agreed_price(said, registered=venues, legs=legs_of(one), rule=old_rule, slot=Slot(one["slot"]))
        report = encode_outcome(outcome)
        for name in ("dollar_markets", "reach", "reach_bps", "thin"):
            report.pop(name, None)
        for used in report.get("used", report.get("left")):
            used.pop("volume")
            used["weight"] = 10**7
        one["report"] = report
        if one["state"] == "priced":
            one |= {"price_cents": outcome.price, "low_cents": outcome.low, "high_cents": outcome.high}
    write_lines(span, documents)
    there = new_store(tmp_path / "there")
    with there.transaction() as session:
        assert import_span(session, span, now=AFTER, rules=RULES) == (6, 0)
        for one in documents:
            again = replay_round(session, BTC_USD, Slot(one["slot"]), rule=RULE)
            assert again.report == canonical_json(one["report"])
    (priced, *_) = [one for one in documents if one["state"] == "priced"]
    priced["report"]["price"] += 1
    priced["price_cents"] += 1
    write_lines(span, documents)
    with pytest.raises(AgreedEarlierError, match="earlier release"), new_store(tmp_path / "y").transaction() as session:
        import_span(session, span, now=AFTER, rules=RULES)


@pytest.mark.parametrize(
    ("column", "value"),
    [("price_cents", 1), ("low_cents", None), ("high_cents", 2**31), ("state", "void"), ("feed", "ETH/USD")],
)
def test_a_replay_compares_every_column_that_money_uses(stored: Store, column, value) -> None:
    with stored.transaction() as session:
        setattr(session.exec(select(RoundRow).filter_by(slot=FIRST)).one(), column, value)
    with stored.reading() as session, pytest.raises((EvidenceError, NotFoundError)):
        replay_round(session, BTC_USD, FIRST, rule=RULE)


def test_an_import_of_what_is_here_brings_back_pruned_responses_and_nothing_else(stored: Store, span: Path) -> None:
    assert prune_evidence(stored, before=UnixSeconds(FIRST + 60 + 62))
    documents = lines_of(span)
    extra = {**documents[0]["observations"][0], "venue": "okx:BTC/USD"}
    with stored.transaction() as session:
        import_span(session, span, now=AFTER, rules=RULES)
        replay_round(session, BTC_USD, FIRST, rule=RULE)
    documents[0]["observations"].append(extra)
    write_lines(span, documents)
    with pytest.raises(ImportConflictError), stored.transaction() as session:
        import_span(session, span, now=AFTER, rules=RULES)


def test_an_export_of_no_minute_is_refused_and_leaves_no_folder(stored: Store, tmp_path: Path) -> None:
    with stored.reading() as session, pytest.raises(InvalidInputError, match="expected a start before its end"):
        export_span(session, tmp_path / "none", BTC_USD, Slot(FIRST + 60), FIRST)
    assert not (tmp_path / "none").exists()
