"""What a user gets wrong, through the command as a user runs it: one line on stderr, an exit code, no traceback."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import select

from btcfi.adapters.store.options.tables import OptionRow, SettlementRequestRow, SettlementRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Store, known_revisions
from btcfi.adapters.store.spine.tables import OutboxRow
from settings.deployment import Deployment
from tests.support.paths import ROOT
from workers import cli
from workers.machine import oracles, parties

VECTORS = ROOT / "tests" / "vectors" / "settlement_v2.json"
SPOT_CENTS = 6_000_000
CREATE = {"--kind": "call", "--strike": "60000", "--expiry": "+31", "--quantity": "0.50"}
HEADER = "open_time_unix,open,high,low,close,volume\n"


def btcfi(*arguments, url="sqlite://", **environment):
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home()), "DATABASE_URL": url, **environment},
        timeout=120,
        check=False,
    )


@pytest.fixture
def inline(monkeypatch, capsys):
    """The same main function, in this process: for the many refusals that happen before anything else."""

    def run(*arguments, url="sqlite://"):
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setattr(sys, "argv", ["btcfi", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code, captured.out, captured.err)

    return run


def assert_refused(done, code, *parts):
    beside = ("btcfi: compiling", "data in ")  # what it does, and where
    lines = [line for line in done.stderr.splitlines() if not line.startswith(beside)]
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    if "--json" in done.args:
        assert json.loads(done.stdout)["error"]["exit_code"] == code
    else:
        assert done.stdout == ""
    for part in parts:
        assert part in lines[0]


def create(run, url, **changed):
    wanted = CREATE | {f"--{name}": value for name, value in changed.items()}
    return run("options", "create", *(word for pair in wanted.items() for word in pair), "--yes", url=url)


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path}/btcfi.db"
    store = Store(url)
    store.migrate()
    now = int(time.time())
    with store.transaction() as session:
        session.add(
            RoundRow(
                feed="BTC/USD", slot=now // 60 * 60 - 60, state="priced", price_cents=SPOT_CENTS,
                low_cents=SPOT_CENTS, high_cents=SPOT_CENTS, deadline_unix=now, opened_at_unix=now,
            )
        )  # fmt: skip
    store.close()
    return url


def rows(url, table):
    store = Store(url)
    with store.reading() as session:
        found = session.exec(select(table)).all()
    store.close()
    return found


def test_an_option_is_created_listed_and_shown_with_exact_amounts(url):
    made = json.loads(
        btcfi(
            "options", "create", "--kind", "put", "--strike", "60000.01 USD", "--expiry", "+31", "--quantity", "0.07",
            "--barrier", "50000", "--american", "--yes", "--json", url=url,
        ).stdout
    )  # fmt: skip
    assert (made["strike_cents"], made["quantity_centi_btc"], made["barrier_cents"]) == (6_000_001, 7, 5_000_000)
    assert (made["state"], made["american"], made["collateral_sats"]) == ("CREATED", True, 7_000_000)
    listed = json.loads(btcfi("options", "list", "--state", "created", "--json", url=url).stdout)
    assert listed == {"options": [made]}
    assert json.loads(btcfi("options", "show", made["id"], "--json", url=url).stdout) == made
    listing = btcfi("options", "list", url=url).stdout
    assert (made["fixing"], made["id"] in listing) == ("minute", True)  # an American option's, whatever the preset's


def test_an_option_settles_on_what_its_seller_names_and_the_table_says_it(inline, url):
    assert create(inline, url, expiry="+3", fixing="median:2").returncode == 0
    (row,) = rows(url, OptionRow)
    assert row.fixing == "median:2"
    assert "median:2" in inline("options", "list", url=url).stdout
    assert "fixing: median:2" in inline("options", "show", row.id, url=url).stdout


def test_a_settlement_is_asked_for_once_however_often_one_asks(inline, url):
    option_id = _created(inline, url)
    first = inline("settle", option_id, "--json", url=url)
    again = inline("settle", option_id, option_id, "--json", url=url)
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert json.loads(first.stdout) == json.loads(again.stdout)
    assert json.loads(first.stdout)["requests"][0]["state"] == "open"
    assert [row.option_id for row in rows(url, SettlementRequestRow)] == [option_id]
    assert "answer_request" in {row.flow for row in rows(url, OutboxRow)}


def _created(inline, url):
    assert create(inline, url).returncode == 0
    return rows(url, OptionRow)[0].id


def test_an_unknown_option_is_named_and_nothing_is_asked_for(inline, url):
    known = _created(inline, url)
    assert_refused(inline("options", "show", "nope", url=url), 3, "option 'nope'", "options list")
    assert_refused(inline("settle", known, "nope", url=url), 3, "option 'nope'")
    assert rows(url, SettlementRequestRow) == []


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("strike", "0", "strike"),
        ("strike", "60000.001", "two decimals"),
        ("strike", "1E+999999", "strike"),
        ("strike", "NaN", "strike"),
        ("strike", "42949672.96", "strike"),
        ("expiry", "2023-03-11T06:00Z", "future"),
        ("expiry", "2023-03-11T06:00", "no time zone"),
        ("expiry", "+0", "MINUTES"),
        ("quantity", "21000000.01", "quantity"),
        ("quantity", "0.001", "quantity"),
        ("quantity", "-1", "quantity"),
        ("kind", "straddle", "binary_put"),
        ("barrier", "60000", "equals the strike"),
        ("fixing", "twap:61", "twap:N"),
        ("fixing", "twap:060", "twap:N"),
        ("fixing", "vwap:30", "twap:N"),
    ],
)
def test_malformed_terms_are_refused_by_the_name_of_the_field(inline, url, field, value, said):
    assert_refused(create(inline, url, **{field: value}), 2, field, said, "expected")
    assert rows(url, OptionRow) == []


def test_a_life_shorter_than_the_window_is_refused_at_the_command_line(inline, url):
    assert_refused(create(inline, url, expiry="+20"), 2, "expiry", "at least 30, the window of twap:30")
    assert_refused(create(inline, url, expiry="+20", fixing="median:25"), 2, "expiry", "the window of median:25")
    assert rows(url, OptionRow) == []
    assert create(inline, url, expiry="+20", fixing="minute").returncode == 0


@pytest.mark.parametrize(
    ("strike", "barrier"),
    [("55000", "59000"), ("65000", "61000")],
    ids=["up-and-out below the spot", "down-and-out above the spot"],
)
def test_a_barrier_on_the_wrong_side_of_the_price_is_refused(inline, url, strike, barrier):
    assert_refused(create(inline, url, strike=strike, barrier=barrier), 2, "barrier", "already reached", "spot 6000000")
    assert rows(url, OptionRow) == []


@pytest.mark.parametrize("arguments", [("options", "show"), ("settle",), ("verify",), ("demo", "--data-dir")])
def test_an_argument_of_broken_bytes_is_refused_in_one_line(inline, url, arguments):
    assert_refused(inline(*arguments, "a\udcff", url=url), 2, "argument 'a\\udcff' is not UTF-8")


def test_without_a_price_nothing_is_sold(inline, tmp_path):
    url = f"sqlite:///{tmp_path}/empty.db"
    assert inline("migrate", url=url).returncode == 0
    assert_refused(create(inline, url), 75, "no agreed price yet")  # try again later


def test_a_store_without_tables_is_told_from_one_that_is_down(tmp_path):
    assert_refused(btcfi("options", "list", url=f"sqlite:///{tmp_path}/new.db"), 2, "btcfi migrate")
    assert_refused(btcfi("options", "list", url=f"sqlite:///{tmp_path}/no/such/folder.db"), 69, "database at")


@pytest.mark.parametrize("command", [("options", "list"), ("settle", "x"), ("migrate",), ("parked", "list")])
def test_a_database_that_does_not_answer_is_named_without_its_password(inline, command):
    done = inline(*command, url="postgresql+psycopg://trader:hunter2@127.0.0.1:1/btcfi")
    assert_refused(done, 69, "127.0.0.1:1", "DATABASE_URL", "refused")
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("command", ["migrate", "prepare"])
def test_the_first_command_on_a_new_machine_makes_its_data_folder(tmp_path, command):
    done = btcfi(command, url="", BTCFI_DATA_DIR=str(tmp_path / "not" / "yet"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "not" / "yet" / "btcfi.db").is_file()
    assert (tmp_path / "not" / "yet").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("command", ["migrate", "prepare"])
def test_a_store_that_newer_code_migrated_is_left_alone_in_one_line(url, tmp_path, command):
    store = Store(url)
    with store.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    assert_refused(btcfi(command, url=url, BTCFI_DATA_DIR=str(tmp_path)), 65, "9999", known_revisions()[0], "as new")


@pytest.mark.parametrize("revision", ["nope", "-1", "+1", "base", "0099"])
def test_a_migration_that_there_is_not_is_named_with_those_that_there_are(inline, url, revision):
    assert_refused(inline("migrate", f"--revision={revision}", url=url), 2, revision, "0001 to")


def test_migrating_says_where_the_store_is_not_what_was_asked_for(inline, url):
    assert f"is at {known_revisions()[0]}" in inline("migrate", "--revision", "0005", url=url).stderr


@pytest.mark.parametrize("command", [("migrate",), ("options", "list"), ("users", "list")])
def test_a_file_that_is_no_database_is_named(inline, tmp_path, command):
    (tmp_path / "file").write_bytes(b"no database\n" * 100)
    assert_refused(inline(*command, url=f"sqlite:///{tmp_path}/file"), 65, f"{tmp_path}/file", "not a database")


def test_health_of_a_worker_that_is_not_there_is_one_line_without_a_password(monkeypatch, inline):
    monkeypatch.setenv("BROKER_URL", "redis://:geheim@127.0.0.1:1/0")
    done = inline("health", "settle")
    assert_refused(done, 69, "settle@", "no process has noted that it works")
    assert "geheim" not in done.stderr


def test_a_party_and_its_guest_s_child_find_the_code_where_the_cluster_found_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "/a/checkout")
    assert parties.environment(Deployment(data_dir=tmp_path))["PYTHONPATH"] == "/a/checkout"


def test_every_part_keeps_compiled_code_where_the_machine_says(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/tmp/numba")
    for told in (parties.environment, oracles.environment):
        assert told(Deployment(data_dir=tmp_path))["NUMBA_CACHE_DIR"] == "/tmp/numba"


def test_more_days_than_a_store_can_count_are_refused(inline, url):
    assert_refused(inline("prices", "prune", "--older-than-days", 10**25, url=url), 2, "--older-than-days", "36500")


def test_a_broken_row_of_a_replay_is_named_by_file_line_and_field(tmp_path):
    good = "1678514400,20000,20010,19990,20000,1\n"
    (tmp_path / "kraken-BTC-USD.csv").write_text(HEADER + good + "1678514460,20000,20010,19990,2oooo,1\n")
    done = btcfi("demo", "--json", "--replay", tmp_path)
    assert_refused(done, 2, "kraken-BTC-USD.csv line 3", "close", "2oooo")


def test_a_recording_of_one_dollar_market_settles_nothing_by_the_standard_preset_and_the_refusal_names_the_other(
    inline, tmp_path
):
    rows = "".join(f"{1678514400 + 60 * i},20000,20010,19990,20000,1\n" for i in range(60))
    (tmp_path / "kraken-BTC-USD.csv").write_text(HEADER + rows)
    assert_refused(inline("demo", "--json", "--replay", tmp_path), 2, "dollar markets: 1", "--preset replay-study")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--replay", "no-such-folder"), 3, "candle folder 'no-such-folder'"),
        (("--start", "yesterday"), 2, "2023-03-11T06:00Z"),
        (("--start", "2023-03-11T06:00"), 2, "no time zone"),
        (("--minutes", "0"), 2, "--minutes"),
        (("--venue", "nowhere"), 2, "nowhere"),
        (("--live", "--start", "2023-03-11T06:00Z"), 2, "--live"),
        (("--venue", "kraken:BTC/USD", "--venue", "binanceus:BTC/USD"), 2, "--preset replay-study"),
        (("--preset", "generous"), 3, "replay-study, standard"),
    ],
)
def test_a_demo_that_cannot_be_is_refused_before_anything_starts(inline, arguments, code, said):
    assert_refused(inline("demo", "--json", *arguments), code, said)


@pytest.mark.parametrize(
    ("place", "check"),
    [("output", "final state"), ("proof_root", "proof root"), ("input", "input commitment")],
)
def test_a_proof_with_one_flipped_bit_is_refused_by_the_check_that_failed(proof, tmp_path, place, check):
    text = proof.read_text()
    right = json.loads(text)[place]
    bad = tmp_path / "bad.json"
    bad.write_text(text.replace(right, _flipped(right)))
    assert_refused(btcfi("verify", bad), 76, f"check '{check}'")


@pytest.fixture(scope="module")
def proof(tmp_path_factory):
    file = tmp_path_factory.mktemp("proof") / "proof.json"
    data = json.loads(VECTORS.read_text())["tests"][0]["input"]
    assert btcfi("prove", "--hex", data, "--out", file).returncode == 0
    assert btcfi("verify", file).returncode == 0
    return file


def _flipped(digits):
    return digits[:-1] + f"{int(digits[-1], 16) ^ 1:x}"


def test_a_process_without_its_surroundings_says_what_it_needs(tmp_path):
    assert_refused(btcfi("worker", "settler", BROKER_URL="redis://127.0.0.1:1/0"), 3, "settler", "prices")
    assert_refused(btcfi("worker", "settle"), 2, "BROKER_URL")
    assert_refused(btcfi("flower", BROKER_URL="redis://127.0.0.1:1/0"), 2, "FLOWER_BASIC_AUTH")
    assert_refused(btcfi("options", "list", BTCFI_FLOWER_PORT="many"), 2, "BTCFI_FLOWER_PORT")


def test_parked_settlements_are_listed_shown_and_requeued_only_when_parked(inline, url):
    option_id, now = _created(inline, url), int(time.time())
    store = Store(url)
    with store.transaction() as session:
        session.add(
            SettlementRow(
                id="st-1", option_id=option_id, state="parked", reason="expiry", slot=now // 60 * 60,
                price_cents=SPOT_CENTS, input_hex="00", attempts=5, last_error="the node refused it",
                created_at_unix=now, updated_at_unix=now,
            )
        )  # fmt: skip
    store.close()
    (listed,) = json.loads(inline("parked", "list", "--json", url=url).stdout)["parked"]
    assert (listed["id"], listed["last_error"]) == ("st-1", "the node refused it")
    assert "the node refused it" in inline("parked", "show", "st-1", url=url).stdout
    assert inline("parked", "requeue", "st-1", url=url).returncode == 0
    (row,) = rows(url, SettlementRow)
    assert (row.state, row.attempts) == ("due", 0)
    assert_refused(inline("parked", "requeue", "st-1", url=url), 2, "st-1 is due")


def test_commands_that_need_no_queue_import_none():
    code = "import sys; from workers.cli import load; load('verify'); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(done.stdout.replace("'", "").strip("[]\n").split(", "))
    assert not loaded & {"celery", "sqlmodel", "numba", "ccxt", "fastapi", "pydantic_settings", "matplotlib", "unicorn"}


def test_every_group_shows_its_help(inline):
    for name in ("party", "keys", "options", "parked", "prices", "anchor", "trace", "guest"):
        done = inline(name, "--help")
        assert done.returncode == 0, done.stderr
        assert "Commands" in done.stdout
