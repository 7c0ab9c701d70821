"""Logs name what a task is about, hold no password, and do not grow for ever."""

import ast
import json
import logging
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr

from settings.deployment import Deployment
from workers.logs import HIDDEN, MAX_FRAMES, MAX_TRACEBACK, bound_log, configure_logging, secrets_of, traceback_text
from workers.signals import SHOWN_IDS, about
from workers.systems import all_modules, said


@pytest.fixture
def stderr(capsys):
    """What was logged so far, once."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    for name in ("uvicorn", "uvicorn.error"):  # what a server that ran in this process has left
        served = logging.getLogger(name)
        served.disabled, served.propagate, served.handlers[:] = False, True, []
        served.setLevel(logging.NOTSET)
    yield lambda: capsys.readouterr().err
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def test_a_json_line_has_the_record_and_what_is_bound(stderr):
    configure_logging("json")
    with structlog.contextvars.bound_contextvars(option_id="one"):
        logging.getLogger("btcfi.any").warning("it is %s", "late")
    line = json.loads(stderr())
    assert (line["event"], line["level"], line["logger"], line["option_id"]) == (
        "it is late", "warning", "btcfi.any", "one",
    )  # fmt: skip
    assert line["timestamp"].endswith("Z")


def test_a_password_is_hidden_whoever_logs_it_and_in_a_traceback_too(stderr):
    deployment = Deployment(
        database_url="postgresql+psycopg://btcfi:p%40ssw0rd-db@db/btcfi", broker_url="redis://:brokersecret@b:6379/0",
        node_url="http://user:nodesecret@n:8332", flower_password=SecretStr("flowersecret"),
    )  # fmt: skip
    configure_logging("json", secrets_of(deployment))
    try:
        raise RuntimeError(f"cannot reach {deployment.node_url}")  # noqa: TRY301 - a traceback is wanted
    except RuntimeError:
        logging.getLogger("kombu").exception("broker %s, p@ssw0rd-db, flowersecret", deployment.broker_url)
    said = stderr()
    for secret in ("p%40ssw0rd-db", "p@ssw0rd-db", "brokersecret", "nodesecret", "flowersecret"):
        assert secret not in said
    assert said.count(HIDDEN) >= 4
    assert "cannot reach" in said, "only the secret goes"


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_traceback_has_no_values_of_names_and_few_frames_whatever_failed(stderr, style):
    def deeper(held):
        return deeper(held) + len(held)

    configure_logging(style)
    held = "seen only in the frame " * 1_000
    try:
        deeper(held)
    except RecursionError:
        logging.getLogger("uvicorn.error").exception("failed")
    said = stderr()
    assert "RecursionError" in said
    assert "seen only in the frame" not in said
    assert said.count("in deeper") <= MAX_FRAMES
    assert len(said) < MAX_TRACEBACK + 1_000


def test_a_traceback_keeps_its_beginning_and_its_end_where_the_error_s_text_is_long():
    try:
        try:
            raise ValueError("the cause")  # noqa: TRY301 - a traceback is wanted
        except ValueError as e:
            raise RuntimeError("x" * 100_000 + " the end") from e
    except RuntimeError as e:
        text = traceback_text((type(e), e, e.__traceback__))
    assert len(text) < MAX_TRACEBACK + 10
    assert "the cause" in text
    assert text.endswith("the end")


def test_a_library_s_chatter_is_not_logged(stderr):
    configure_logging("json")
    logging.getLogger("httpx").info("HTTP Request: GET …")
    logging.getLogger("btcfi").info("ours")
    assert [json.loads(line)["event"] for line in stderr().splitlines()] == ["ours"]


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "expected"),
    [
        ("oracle.fetch", ("BTC/USD", 1_700_000_040, "kraken:BTC/USD"), {},
         {"round": "BTC/USD@1700000040", "venue": "kraken:BTC/USD"}),
        ("oracle.aggregate", ([True], "BTC/USD", 1_700_000_040), {}, {"round": "BTC/USD@1700000040"}),
        ("oracle.tick", (), {"slot": 1_700_000_040}, {"slot": 1_700_000_040}),
        ("settlement.close_proof", ([1], "st-one"), {}, {"settlement_id": "st-one"}),
        ("options.settle", ("one", "flower:me"), {}, {"option_id": "one"}),
        ("settlement.execute_batch", (["a", "b"],), {}, {"settlements": ["a", "b"]}),
        ("settlement.execute_batch", (list("abcde"),), {}, {"settlements": [*"abc", "and 2 more"]}),
        ("somebody.elses", ("x",), {"secret": "y"}, {}),
    ],
)  # fmt: skip
def test_a_task_s_line_says_what_it_is_about_and_nothing_unknown(task, args, kwargs, expected):
    assert SHOWN_IDS == 3
    assert about(said().get(task, ()), args, kwargs) == expected


def test_the_names_of_arguments_are_those_of_real_tasks():
    from celery import Celery  # noqa: PLC0415 - registers tasks on an application of its own

    app = Celery("names", include=list(all_modules()))
    app.loader.import_default_modules()
    assert set(said()) <= set(app.tasks)


def test_a_log_beyond_its_limit_moves_aside_and_its_writer_goes_on(tmp_path):
    file = tmp_path / "settle.log"
    with file.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        assert not bound_log(file, limit=100)
        writer.write(b"y")
        assert bound_log(file, limit=100)
        writer.write(b"after\n")
    assert file.read_bytes() == b"after\n", "no hole where the old lines were"
    assert (tmp_path / "settle.log.1").read_bytes() == b"x" * 100 + b"y"
    assert not bound_log(tmp_path / "absent.log")


def test_no_server_of_ours_takes_uvicorn_s_own_logging_which_would_silence_the_whole_process():
    """With it uvicorn.error no longer reaches the root: a later error, or a later test, would say nothing."""
    calls = {
        f"{file}:{node.lineno}": node
        for folder in ("workers", "btcfi", "tasks", "dashboards", "tests")
        for file in Path(folder).rglob("*.py")
        if "uvicorn" in (text := file.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"uvicorn.Config", "uvicorn.run", "Config"}
    }
    assert calls
    assert not [at for at, call in calls.items() if "log_config=None" not in map(ast.unparse, call.keywords)]
