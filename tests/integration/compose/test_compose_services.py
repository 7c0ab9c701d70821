"""Every service's own command and health check, run as a process; then what an operator sees of that deployment.

The broker, the node and the database stand in for the containers of other people's images: this machine may have no
container engine. What is asked here is asked of the processes that compose.yaml starts, by the commands that it names.
Where BTCFI_TEST_IMAGE names a mounted image (`make image`), they run inside it, with the volumes and the secrets that
compose.yaml gives each, as its user, its root read-only.
"""

import base64
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from rich.console import Console

from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.venues.candle_folder import read_candle_folder, venues_for_replay
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from settings.deployment import Deployment
from tests.support.in_image import USER, image_environment, inside
from tests.support.paths import ROOT
from workers.app import create_app
from workers.chaos.parallel import own_database
from workers.commands import watch
from workers.machine.cluster import Cluster
from workers.machine.rows import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

FILE = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = {n: s for n, s in FILE["services"].items() if s["image"] == FILE["x-process"]["image"]}
ORACLES = ("oracle-a", "oracle-b", "oracle-c")
RUNNING = (
    "prices", "settle", "chain", "control", "beat", "api", *ORACLES, "flower", "metrics", "seller", "buyer",
)  # fmt: skip
FLOWER_PASSWORD = "flower-password-of-the-test"
BROKER_IN_IMAGE = "/run/btcfi/broker.sock"
MINUTES = 3
PATIENCE = 180 if os.environ.get("BTCFI_TEST_IMAGE") else 60  # an image has compiled nothing yet
IMAGE = os.environ.get("BTCFI_TEST_IMAGE")
SERVER = os.environ.get("BTCFI_TEST_DATABASE_URL")


class Collector(BaseHTTPRequestHandler):
    """Takes OpenTelemetry's spans over HTTP and keeps them."""

    def do_POST(self):
        self.server.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


class Running:
    """The services of compose.yaml as processes."""

    def __init__(self, folder, stand_ins, slots, collector):
        self.collector = collector
        self.folder, self.stand_ins, self.recorded, self.slots = folder, stand_ins, slots, slots[:MINUTES]
        self.app, self.processes = create_app(stand_ins), {}
        self.ports = {name: free_port(0) for name in ("api", "flower", "metrics")}
        self.oracles = {name: free_port(0) for name in ORACLES}
        secrets = folder / "secrets"
        secrets.mkdir(mode=0o700)
        (secrets / "database_url").write_text(stand_ins.database_url + "\n")
        (secrets / "flower_password").write_text(FLOWER_PASSWORD + "\n")
        for name in ("broker_key", "operator_key"):
            source = stand_ins.broker_key_file if name == "broker_key" else stand_ins.operator_key_file
            (secrets / name).write_bytes(source.read_bytes())
        self.replaced = {
            "DATABASE_URL_FILE": str(secrets / "database_url"),
            "BTCFI_ORACLES": ",".join(f"http://127.0.0.1:{port}" for port in self.oracles.values()),
            "BTCFI_BROKER_KEY_FILE": str(secrets / "broker_key"),
            "BTCFI_OPERATOR_KEY_FILE": str(secrets / "operator_key"),
            "BTCFI_FLOWER_PASSWORD_FILE": str(secrets / "flower_password"),
            "BROKER_URL": stand_ins.broker_url,
            "RESULT_BACKEND_URL": stand_ins.result_backend_url,
            "NODE_URL": stand_ins.node_url,
            "BTCFI_NODE_COOKIE_FILE": str(stand_ins.node_cookie_file),
            "BTCFI_WALLET_SEED_FILE": str(stand_ins.data_dir / "wallet.seed"),
            "BITCOIN_NODE_URL": stand_ins.node_url,
            "BITCOIN_COOKIE_FILE": str(stand_ins.node_cookie_file),
        }

    def environment(self, name):
        """A container's environment: the service's own, with this machine's addresses, and nothing of ours."""
        given = {k: self.replaced.get(k, str(v)) for k, v in OURS[name].get("environment", {}).items()}
        kept = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "LANG", "VIRTUAL_ENV"}}
        own = {
            "BTCFI_DATA_DIR": str(self.stand_ins.data_dir), "BTCFI_VENUES": ",".join(self.stand_ins.venues),
            "BTCFI_LEGS": ",".join(self.stand_ins.legs), "BTCFI_VENUE_BASE_URL": self.stand_ins.venue_base_url,
            "BTCFI_VENUE_RATE_LIMIT": "false", "BTCFI_TICK": "false", "BTCFI_REPLAY_CLOCK": "true",
            "BTCFI_MINE_SECONDS": "0", "BTCFI_CANARY_SECONDS": "1", "BTCFI_PREMIUM_SECONDS": "1",
            "BTCFI_SETTLE_CONCURRENCY": "1", "OTEL_BSP_SCHEDULE_DELAY": "300",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.collector.server_port}",
            **{f"BTCFI_{n.upper()}_PORT": str(port) for n, port in self.ports.items()},
        }  # fmt: skip
        return kept | given | own

    def command(self, name):
        return [sys.executable, "-m", "workers.cli", *self.here(name, OURS[name]["command"])]

    def here(self, name, arguments):
        """Arguments with the folders, the hosts and the ports of this machine instead of a container's."""
        data = str(self.stand_ins.data_dir)
        places = {
            "/data": data, "=/oracle": f"={self.folder / name}", "=/network": f"={data}/network",
            "http://api:8000": f"http://127.0.0.1:{self.ports['api']}",
        }  # fmt: skip
        if name in ORACLES:
            places[f"--port=910{ORACLES.index(name) + 1}"] = f"--port={self.oracles[name]}"
        for there, place in places.items():
            arguments = [one.replace(there, place) for one in arguments]
        return arguments

    def start(self, name):
        log = (self.folder / f"{name}.log").open("wb")
        self.processes[name] = subprocess.Popen(
            self.command(name), env=self.environment(name), stdout=log, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, cwd=ROOT, start_new_session=True,
        )  # fmt: skip

    def run(self, name, *arguments):
        return subprocess.run(
            [sys.executable, "-m", "workers.cli", *arguments],
            env=self.environment(name), capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT, check=False,
        )  # fmt: skip

    def tick(self, slot):
        self.app.send_task("oracle.tick", kwargs={"slot": slot}, queue="control")

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def tail(self, *names, lines=15):
        return "\n".join(f"--- {name}\n" + "\n".join(self.log(name).splitlines()[-lines:]) for name in names)

    def page(self, part, path, **options):
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{self.ports[part]}{path}", **options), timeout=10
        ) as answer:
            return answer.read().decode()

    def flower(self, path, body=None):
        login = base64.b64encode(f"operator:{FLOWER_PASSWORD}".encode()).decode()
        data = None if body is None else json.dumps(body).encode()
        return json.loads(self.page("flower", path, headers={"Authorization": f"Basic {login}"}, data=data))

    def stop(self):
        """Tell everything to stop, kill what does not, and return what that was."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.1))
        slow = [name for name, process in self.processes.items() if process.poll() is None]
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)
        return slow

    def keys(self):
        """Every file of this deployment that is a secret."""
        data = self.stand_ins.data_dir
        files = [data / "wallet.seed", *data.glob("nodes/*.key"), *data.glob("parties/*/party/passphrase")]
        return files + [self.folder / name / "own" / "oracle.key" for name in ORACLES]

    def keystores(self):
        return list(self.stand_ins.data_dir.glob("parties/*/party/keystore.json"))


class RunningInImage(Running):
    """The same, each in the image, with what compose.yaml mounts there."""

    def __init__(self, folder, stand_ins, slots, collector):
        super().__init__(folder, stand_ins, slots, collector)
        folder.chmod(0o755)
        self.volumes = folder / "volumes"
        self.volumes.mkdir()
        for name in FILE["volumes"]:
            (self.volumes / name).mkdir(mode=0o700)
            os.chown(self.volumes / name, USER, USER)
        for party in ("seller", "buyer"):  # an engine fills a new volume from the image, which has this folder
            inner = self.volumes / f"{party}-mail" / "party"
            inner.mkdir(mode=0o700)
            os.chown(inner, USER, USER)
        cookie = self.volumes / "chain" / ".cookie"
        cookie.write_bytes(Path(stand_ins.node_cookie_file).read_bytes())
        broker = Path(urlsplit(stand_ins.broker_url.replace("redis+socket", "file")).path)
        for one in (cookie, broker, broker.parent, folder / "secrets", *(folder / "secrets").iterdir()):
            os.chown(one, USER, USER)
        self.broker = broker
        socket = f"redis+socket://{BROKER_IN_IMAGE}?virtual_host="
        self.replaced |= {"BROKER_URL": f"{socket}0", "RESULT_BACKEND_URL": f"{socket}1"}
        for name in [known for known in self.replaced if known.endswith("_FILE")]:
            del self.replaced[name]  # as compose.yaml has them

    def environment(self, name):
        given = {k: v for k, v in super().environment(name).items() if k not in {"PATH", "HOME", "LANG", "VIRTUAL_ENV"}}
        del given["BTCFI_DATA_DIR"]  # the image says where
        return image_environment((ROOT / "Dockerfile").read_text()) | given

    def here(self, name, arguments):
        places = {"http://api:8000": f"http://127.0.0.1:{self.ports['api']}"}
        if name in ORACLES:
            places[f"--port=910{ORACLES.index(name) + 1}"] = f"--port={self.oracles[name]}"
        for there, place in places.items():
            arguments = [one.replace(there, place) for one in arguments]
        return arguments

    def command(self, name, arguments=None):
        arguments = self.here(name, OURS[name]["command"]) if arguments is None else arguments
        mounted = [(self.broker.parent, str(Path(BROKER_IN_IMAGE).parent), True)]
        for place in (one.partition(":")[0] for one in OURS[name]["tmpfs"]):
            if place != "/tmp":  # the container's own, which its health check sees too
                here = self.volumes / f"{name}{place.replace('/', '-')}"
                if not here.exists():
                    here.mkdir(mode=0o700)
                    os.chown(here, USER, USER)
                mounted.append((here, place, True))
        for volume in OURS[name].get("volumes", []):
            source, target, *how = volume.split(":")
            mounted.append((self.volumes / source, target, how != ["ro"]))
        kept = self.folder / "secrets"
        mounted += [(kept / one, f"/run/secrets/{one}", False) for one in OURS[name].get("secrets", [])]
        return inside(Path(IMAGE), ["btcfi", *arguments], environment=self.environment(name), volumes=mounted)

    def run(self, name, *arguments):
        return subprocess.run(
            self.command(name, arguments), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    def keys(self):
        at = self.volumes
        files = [at / "wallet" / "wallet.seed", at / "desk" / "desk.key", *at.glob("nodes/*.key")]
        files += [at / party / "passphrase" for party in ("seller", "buyer")]
        return files + [at / name / "own" / "oracle.key" for name in ORACLES]

    def keystores(self):
        return [self.volumes / party / "keystore.json" for party in ("seller", "buyer")]


def until(what, condition, every=0.2, otherwise=str):
    """Return what the condition finds. ``otherwise``: called for what else a failure should show."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, AssertionError, KeyError):
            if found := condition():
                return found
        time.sleep(every)
    pytest.fail(f"waited {PATIENCE} s for {what}\n{otherwise()}")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    for name in ("BROKER_URL", "NODE_URL", "DATABASE_URL", "RESULT_BACKEND_URL"):
        if name in os.environ:
            pytest.skip(f"{name} is set: this test starts its own")
    if IMAGE and not SERVER:
        pytest.skip("no PostgreSQL, which the containers ask: set BTCFI_TEST_DATABASE_URL")
    folder = tmp_path_factory.mktemp("compose")
    recording = read_candle_folder(SYNTHETIC_CANDLES)
    chosen = venues_for_replay(recording, None, None)
    base = Deployment(
        data_dir=folder / "data", venues=tuple(map(str, chosen.registered)), legs=tuple(map(str, chosen.legs))
    )
    with own_database(SERVER if IMAGE else None) as url:
        if url is not None:
            base = base.model_copy(update={"database_url": url})
        yield from _running(folder, base, recording.slots(None, None))


def _running(folder, base, slots):
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    collector.received = []
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    with Cluster(base, roles=(), beat=False, run_parties=False, replay_folder=SYNTHETIC_CANDLES) as cluster:
        cluster.start()
        made = (RunningInImage if IMAGE else Running)(folder, cluster.deployment, slots, collector)
        made.prepared = [made.run("prepare", *OURS["prepare"]["command"]) for _ in range(2)]
        assert made.prepared[0].returncode == 0, made.prepared[0].stderr
        try:
            for name in RUNNING:
                made.start(name)
            made.filled = [made.run("coins", *OURS["coins"]["command"]) for _ in range(2)]
            yield made
        finally:
            made.stop()
            collector.shutdown()
            collector.server_close()


@pytest.fixture(scope="module")
def priced(running):
    """The same, after its first minutes are priced: the page of metrics that says so."""
    for slot in running.slots:
        running.tick(slot)

    def counted():
        page = running.page("metrics", "/metrics")
        return 'btcfi_rounds_total{state="priced"} 3.0' in page and page

    running.first_page = until(
        "three priced minutes", counted, otherwise=lambda: running.tail("prices", "control", "metrics")
    )
    return running


@pytest.fixture(scope="module")
def consumed(running):
    """The same, after a canary came through each queue."""

    def seen():
        page = running.page("metrics", "/metrics")
        return all(f'btcfi_canary_age_seconds{{queue="{q}"}}' in page for q in ("prices", "settle", "chain", "control"))

    until(
        "a canary of each queue", seen, otherwise=lambda: running.tail("beat", "prices", "settle", "chain", "control")
    )
    return running


@pytest.fixture(scope="module")
def shown(priced):
    """The same, after Flower saw a fetch: it may have begun to listen after the first minutes."""
    later = iter(priced.recorded[MINUTES:])

    def fetched():
        priced.tick(next(later))
        tasks = priced.flower("/api/tasks?limit=100").values()
        return [t for t in tasks if t["name"] == "oracle.fetch" and t["state"] == "SUCCESS"]

    priced.fetches = until("a fetch in Flower's list", fetched, 1.0, lambda: priced.tail("flower", "prices", "control"))
    return priced


def test_every_service_of_ours_is_started_here_or_has_a_reason(running):
    reasons = {
        "image": "only builds it",
        "prepare": "ran before the others", "coins": "ran after them", "volumes": "only makes a volume",
        "beat-live": "the command of beat, on a chain where nobody mines",
    }  # fmt: skip
    assert set(OURS) == {*RUNNING, *reasons}
    assert OURS["beat-live"]["command"] == OURS["beat"]["command"]


def test_prepare_may_be_repeated(running):
    for first, again, said in (running.prepared[0], running.prepared[1], None), (*running.filled, "mined"):
        assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
        assert "mined" not in again.stderr
        assert said is None or said in first.stderr


@pytest.mark.parametrize("name", [n for n in RUNNING if "test" in OURS[n]["healthcheck"]])
def test_a_service_becomes_healthy_by_its_own_check(running, name):
    kind, program, *arguments = OURS[name]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "btcfi")

    def healthy():
        return running.run(name, *running.here(name, arguments)).returncode == 0

    until(f"{name} to be healthy\n{running.log(name)}", healthy, every=1.0)
    assert running.processes[name].poll() is None


def test_a_check_of_what_is_not_there_fails(running):
    running.ports["metrics"], port = free_port(0), running.ports["metrics"]
    gone = running.run("metrics", "health", "metrics")
    running.ports["metrics"] = port
    assert gone.returncode == 69
    assert "does not answer" in gone.stderr


def test_recorded_minutes_become_prices_that_metrics_and_the_api_show(priced):
    figures = dict(line.rsplit(" ", 1) for line in priced.first_page.splitlines() if not line.startswith("#"))
    assert {figures[f'btcfi_up{{part="{part}"}}'] for part in ("database", "broker", "node")} == {"1.0"}
    assert 10_000 < float(figures['btcfi_price_usd{feed="BTC/USD"}']) < 200_000
    assert figures["btcfi_broker_aof_enabled"] == figures["btcfi_broker_noeviction"] == "1.0"
    assert float(figures['btcfi_queue_messages{queue="parked"}']) == 0
    assert figures["btcfi_schema_current"] == "1.0"
    assert json.loads(priced.page("api", "/api/v1/health"))["status"] == "ok"


@pytest.mark.usefixtures("priced", "consumed")
def test_doctor_finds_nothing_wrong_with_it(running):
    done = running.run("coins", "doctor", "--no-network", "--json")
    said = json.loads(done.stdout)
    assert [one for one in said["checks"] if one["status"] == "fail"] == []
    status = {check["name"]: check["status"] for check in said["checks"]}
    assert {status[name] for name in ("broker", "node", "database", "schema", "canaries", "guests")} == {"ok"}
    assert FLOWER_PASSWORD not in done.stdout + done.stderr


@pytest.mark.usefixtures("priced", "consumed")
def test_watch_shows_the_pipeline_in_eighty_columns(running):
    view = json.loads(running.run("api", "watch", "--once", "--json").stdout)
    assert view["problems"] == []
    assert view["store"]["price"]["used"] >= 2
    assert set(view["broker"]["queues"]) == {"prices", "settle", "chain", "control", "parked"}
    store, shown = Store(running.stand_ins.database_url), Console(width=watch.WIDTH, file=io.StringIO())
    shown.print(watch.render(watch.look(running.stand_ins, store)))
    store.close()
    text = shown.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for word in ("price", "settlements", "parked", "queue", "control"):
        assert word in text


def test_flower_needs_its_login(shown):
    with pytest.raises(urllib.error.HTTPError) as caught:
        shown.page("flower", "/api/tasks")
    assert caught.value.code == 401


def test_flower_shows_tasks_by_name_with_readable_arguments(shown):
    task = shown.fetches[0]
    assert "BTC/USD" in task["args"]
    assert str(shown.slots[0])[:5] in task["args"]


@pytest.mark.usefixtures("priced")
def test_an_ad_hoc_settlement_through_flower_s_api_is_a_row_with_an_answer(running):
    created = running.run(
        "api",
        "options",
        "create",
        "--kind",
        "call",
        "--strike",
        "60000",
        "--expiry",
        "+30",
        "--quantity",
        "0.05",
        "--yes",
        "--json",
    )
    assert created.returncode == 0, created.stderr
    option = json.loads(created.stdout)["id"]
    sent = running.flower("/api/task/async-apply/options.settle", {"args": [option, "flower:test"]})
    assert sent["task-id"]
    done = until(
        "its result", lambda: (r := running.flower(f"/api/task/result/{sent['task-id']}"))["state"] == "SUCCESS" and r
    )
    assert done["result"] in {"open", "refused", "held", "accepted"}
    store = Store(running.stand_ins.database_url)
    with store.reading() as session:
        from btcfi.adapters.store.options.tables import SettlementRequestRow  # noqa: PLC0415 - beside its only use

        row = session.get(SettlementRequestRow, option)
    store.close()
    assert row.requested_by == "flower:test"


def secrets_of(running):
    """Every secret of this deployment, in every spelling that a log could give it."""
    yield "flower password", FLOWER_PASSWORD
    yield "node cookie", Path(running.stand_ins.node_cookie_file).read_text().strip().partition(":")[2]
    files = running.keys()
    assert len(files) >= 7
    for file in files:
        raw = file.read_bytes()
        yield file.name, raw.hex()
        yield file.name, base64.b64encode(raw).decode()
        with contextlib.suppress(UnicodeDecodeError):
            yield file.name, raw.decode().strip()
    for file in running.keystores():
        yield file.name, max((v for v in _texts(json.loads(file.read_text())) if len(v) >= 32), key=len)


def _texts(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


@pytest.mark.usefixtures("shown")
def test_no_secret_is_in_a_log_an_event_a_result_or_an_argument(running):
    """What a run of everything left behind is searched for every secret of the deployment."""
    logs = {f"log of {name}": running.log(name) for name in RUNNING}
    logs |= {f"log {p.name}": p.read_text(errors="replace") for p in (running.stand_ins.data_dir / "logs").glob("*")}
    places = {
        **logs,
        "Celery's events, as Flower keeps them": json.dumps(running.flower("/api/tasks?limit=10000")),
        "results and messages in the broker": (running.stand_ins.data_dir / "broker").exists()
        and "".join(p.read_text(errors="replace") for p in (running.stand_ins.data_dir / "broker").rglob("*.aof")),
        "metrics": running.page("metrics", "/metrics"),
        "arguments": "\n".join(Path(f"/proc/{p.pid}/cmdline").read_text() for p in running.processes.values()),
    }
    assert "oracle.fetch" in places["Celery's events, as Flower keeps them"], "there is something to search"
    assert "oracle.fetch" in places["results and messages in the broker"]
    for what, secret in secrets_of(running):
        assert len(secret) >= 16, what
        for place, text in places.items():
            assert secret not in text, f"{what} is in {place}"


def spans_of(collector):
    """Every span that came, by id: its name, trace and parent."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415 - an extra
        ExportTraceServiceRequest,
    )

    found = {}
    for body in list(collector.received):
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                found[span.span_id] = (span.name, span.trace_id, span.parent_span_id)
    return found


def ancestors(spans, span_id):
    while span_id in spans:
        name, _, span_id = spans[span_id]
        yield name


@pytest.mark.usefixtures("priced")
def test_one_trace_runs_from_the_tick_over_fetch_and_chord_to_the_expiry(running):
    pytest.importorskip("opentelemetry.proto", reason="pip install 'btcfi-oracle-vm[otel]'")
    pytest.importorskip("opentelemetry.instrumentation.celery", reason="pip install 'btcfi-oracle-vm[otel]'")
    if IMAGE:
        pytest.skip("the image has no OpenTelemetry: its lock file names none")

    def joined():
        spans = spans_of(running.collector)
        ends = [i for i, (name, *_) in spans.items() if name == "run/options.expire_due"]
        lines = [list(ancestors(spans, i)) for i in ends]
        wanted = ["run/options.expire_due", "run/oracle.aggregate", "run/oracle.fetch", "run/oracle.tick"]
        return any([name for name in line if name.startswith("run/")] == wanted for line in lines)

    def received():
        names = sorted(name for name, *_ in spans_of(running.collector).values())
        return "\n".join(f"{names.count(name)} spans {name}" for name in dict.fromkeys(names)) or "no span came"

    until("a trace that joins them", joined, otherwise=received)
    spans = spans_of(running.collector)
    canaries = [list(ancestors(spans, i)) for i, (name, *_) in spans.items() if name == "run/control.canary"]
    assert ["run/control.canary", "apply_async/control.canary"] in canaries, "beat's own spans, one a publishing"


@pytest.mark.usefixtures("priced")
def test_a_line_of_a_worker_s_log_names_its_task_and_what_it_is_about(running):
    lines = [json.loads(line) for line in running.log("prices").splitlines() if line.startswith("{")]
    ended = [line for line in lines if line["event"] == "task ended" and line["task"] == "oracle.fetch"]
    assert ended, running.tail("prices")
    first = ended[0]
    assert first["round"] == f"BTC/USD@{running.slots[0]}" or first["round"].startswith("BTC/USD@")
    assert first["venue"].count(":") == 1
    assert first["queue"] == "prices"
    assert first["attempt"] == 1
    assert first["root_id"]
    assert first["state"] == "SUCCESS"
    assert not [line for line in lines if line.get("level") == "error"], running.tail("prices")


def test_every_process_that_is_told_to_stop_ends_within_its_grace(running):
    """The last test: it stops everything."""
    slow = running.stop()
    assert not slow, "\n".join(f"{name}: {running.log(name)[-500:]}" for name in slow)
    assert {
        name: p.returncode for name, p in running.processes.items() if p.returncode not in {0, -signal.SIGTERM}
    } == {}
    assert all(int(OURS[name]["stop_grace_period"].removesuffix("s")) >= 10 for name in RUNNING)
