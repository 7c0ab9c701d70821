"""The five doors of one deployment, in this process: what is sent through each, and what comes back.

The command line, the console's form, the REST API and ``party option`` take an order; gRPC and Flower's task carry none
(their services have no such message), so they take what they have, a request to settle. A refusal is its field.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from argon2 import PasswordHasher
from fastapi.testclient import TestClient
from sqlmodel import select

from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Store
from btcfi.surfaces.grpc.settlement import SettlementEngine
from btcfi.surfaces.protos import settlement_pb2
from btcfi.surfaces.rest.auth import create_key
from dashboards.operator import accounts
from settings.deployment import Deployment, variable
from tasks import options as option_tasks
from tests.support.console_world import PASSWORD, csrf_of, sign_in
from workers import cli
from workers.app import create_app
from workers.commands import serve

SPOT = 6_000_000
ROLES = ("read", "trade", "operate")
LIFE = 45
"""Minutes from the market's now to the expiry of an order that says nothing else."""

GOOD = {"kind": "call", "strike": "60000", "quantity": "0.1", "barrier": "", "american": "", "fixing": ""}
COLUMNS = (
    "kind", "strike_cents", "quantity_centi_btc", "barrier_cents", "american", "expiry_unix", "fixing", "premium_cents",
    "premium_sats", "collateral_sats", "volatility_bps", "rate_bps", "preset_sha256", "program_sha256", "listed_slot",
)  # fmt: skip


@dataclass(frozen=True)
class Refused:
    """What a door said no to: the field, or the kind of refusal where no field is wrong."""

    field: str


class Doors:
    """One store with a recording's market that stands at ``now``, and every door into it."""

    def __init__(self, folder: Path, monkeypatch: Any) -> None:
        self.slot = int(time.time()) // 60 * 60 - 60
        self.now = self.slot + 60
        self.expiry = self.now + LIFE * 60
        self.folder, self._patch = folder, monkeypatch
        for name in Deployment.model_fields:
            monkeypatch.delenv(variable(name), raising=False)
        self.deployment = Deployment(data_dir=folder, broker_url="memory://", replay_clock=True)
        self.store = Store(self.deployment.database_url)
        self.store.migrate()
        self.price(self.slot, SPOT)
        monkeypatch.setattr(accounts, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        create_app(self.deployment)
        accounts.add_account(self.store, "ada", PASSWORD, ROLES, now=int(time.time()), by="test")
        self.key = create_key(
            self.store, name="t", roles=ROLES, entropy=bytes(range(40)), now=int(time.time()), expires_at=None,
            requests_per_minute=100_000,
        )  # fmt: skip
        deps = serve.make_deps(self.deployment, self.store, lambda: None)
        site = serve._site(self.deployment, deps, None, local=True)
        self.web = TestClient(site, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
        self.web.__enter__()
        assert sign_in(self.web, "ada").status_code == 303
        self.csrf = csrf_of(self.web)
        self.orders = 0

    def close(self) -> None:
        self.web.__exit__(None, None, None)
        self.store.close()

    def price(self, slot: int, cents: int, *, thin: tuple[str, ...] = (), closed_at: int | None = None) -> None:
        with self.store.transaction() as session:
            session.add(
                RoundRow(
                    feed="BTC/USD", slot=slot, state="priced", price_cents=cents, low_cents=cents, high_cents=cents,
                    deadline_unix=slot + 90, opened_at_unix=slot + 60, report=json.dumps({"thin": list(thin)}),
                    closed_at_unix=int(time.time()) if closed_at is None else closed_at,
                )
            )  # fmt: skip

    def rows(self) -> list[OptionRow]:
        with self.store.reading() as session:
            return list(session.exec(select(OptionRow)).all())

    # ---- doors of an order

    def order(self, door: str, **changes: str) -> dict[str, Any] | Refused:
        """Send an order; return the columns of the row it made, or the refusal."""
        before = {row.id for row in self.rows()}
        said = getattr(self, f"_{door}")(GOOD | changes)
        made = [row for row in self.rows() if row.id not in before]
        if isinstance(said, Refused):
            assert made == [], "a refused order made a row"
            return said
        if door == "party":
            return said
        (row,) = made
        return {name: getattr(row, name) for name in COLUMNS}

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command of ``btcfi`` in this process."""
        out, err = io.StringIO(), io.StringIO()
        for name, value in self.deployment.environment().items():
            self._patch.setenv(name, value)
        self._patch.setattr(sys, "argv", ["btcfi", *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as e:
                return int(e.code or 0), out.getvalue(), err.getvalue()
        return 0, out.getvalue(), err.getvalue()

    def _words(self, wanted: dict[str, str]) -> list[str]:
        words = ["--kind", wanted["kind"], "--strike", wanted["strike"], "--quantity", wanted["quantity"]]
        words += ["--expiry", wanted.get("expiry", str(self.expiry))]
        for name in ("barrier", "fixing"):
            words += [f"--{name}", wanted[name]] if wanted[name] else []
        return words + (["--american"] if wanted["american"] else [])

    def _command(self, code: int, err: str) -> Refused | None:
        if not code:
            return None
        lines = [line for line in err.splitlines() if not line.startswith("btcfi: compiling")]
        assert len(lines) == 1, err
        field = re.match(r"btcfi: ([a-z_ -]+): ", lines[0])
        return Refused(field[1] if field else lines[0].removeprefix("btcfi: "))

    def _cli(self, wanted: dict[str, str]) -> Refused | None:
        code, _, err = self.run("options", "create", *self._words(wanted), "--yes", "--json")
        return self._command(code, err)

    def _party(self, wanted: dict[str, str]) -> Refused | dict[str, Any]:
        self.orders += 1
        file = self.folder / f"party-{self.orders}.json"
        code, _, err = self.run("party", "option", *self._words(wanted), "--out", str(file))
        if refused := self._command(code, err):
            return refused
        said = json.loads(file.read_text())
        kinds = ("call", "put", "binary_call", "binary_put")
        return {
            "kind": kinds.index(said["kind"]), "strike_cents": said["strike_cents"], "american": said["american"],
            "quantity_centi_btc": said["quantity_centibtc"], "barrier_cents": said["barrier_cents"],
            "expiry_unix": said["expiry_unix"], "fixing": said["fixing"], "collateral_sats": said["collateral_sats"],
        }  # fmt: skip

    def form(self, wanted: dict[str, str]) -> dict[str, str]:
        names = ("kind", "strike", "quantity", "barrier", "american", "fixing")
        minutes = {"expires": wanted.get("expires", str(LIFE)), "unit": wanted.get("unit", "minutes")}
        return {name: wanted[name] for name in names} | minutes

    def shown(self, fields: dict[str, str]) -> str | Refused:
        """The console's quote: what its page has the form send back, or the field that it names."""
        page = self.web.get("/options/quote", params=fields).text
        if (no := re.search(r"No quote\.</strong> (?:<bdi[^>]*>)?(?:(\w+):)?([^<]*)", page)) is not None:
            return Refused(no[1] or no[2].strip())
        found = re.search(r'name="quote" value="([^"]+)"', page)
        return found[1] if found else ""

    def press(self, fields: dict[str, str], shown: str) -> Refused | None:
        """Press the button of the console's form."""
        self.orders += 1
        form = fields | {"csrf": self.csrf, "order": f"{self.orders:032x}", "quote": shown}
        answer = self.web.post("/options", data=form, follow_redirects=False)
        if answer.status_code == 303:
            return None
        no = re.search(r"Not created\.</strong> (?:<bdi[^>]*>)?(?:(\w+):)?([^<]*)", answer.text)
        return Refused(no[1] or no[2].strip())

    def _console(self, wanted: dict[str, str]) -> Refused | None:
        fields = self.form(wanted)
        shown = self.shown(fields)
        pressed = self.press(fields, shown if isinstance(shown, str) else "")
        assert not isinstance(shown, Refused) or shown == pressed, "the quote and the sale refuse alike"
        return pressed

    def body(self, wanted: dict[str, str]) -> dict[str, Any]:
        body: dict[str, Any] = {"type": wanted["kind"], "strike": wanted["strike"], "quantity": wanted["quantity"]}
        body |= {"expiry": self.expiry, "american": wanted["american"] == "yes"}
        return body | {name: wanted[name] for name in ("barrier", "fixing") if wanted[name]}

    def post(self, raw: str, path: str = "/api/v1/options") -> Any:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        return self.web.post(path, content=raw.encode("utf-8", "surrogatepass"), headers=headers)

    def refusal(self, answer: Any) -> Refused | None:
        """What the REST API said no to."""
        if answer.status_code < 400:
            return None
        assert answer.headers["content-type"] == "application/problem+json"
        return Refused(answer.json().get("field") or answer.json()["detail"])

    def _rest(self, wanted: dict[str, str]) -> Refused | None:
        body = self.body(wanted)
        query = {k: str(v).lower() for k, v in body.items()}
        quoted = self.refusal(self.web.get("/api/v1/premium", params=query))
        sold = self.refusal(self.post(json.dumps(body)))
        assert quoted == sold, "the quote and the sale refuse alike"
        return sold

    # ---- doors of a settlement

    def settle(self, door: str, option_id: str) -> str:
        """Ask for a settlement; return the state and the answer, or the refusal's status."""
        return getattr(self, f"_settle_{door}")(option_id)

    def _settle_cli(self, option_id: str) -> str:
        code, out, err = self.run("settle", option_id, "--json")
        if code:
            return "not found" if code == 3 else err
        (said,) = json.loads(out)["requests"]
        return _words(said["state"], said["answer"])

    def _settle_rest(self, option_id: str) -> str:
        answer = self.post("", f"/api/v1/options/{option_id}/settle")
        return "not found" if answer.status_code == 404 else _words(answer.json()["state"], answer.json()["answer"])

    def _settle_console(self, option_id: str) -> str:
        form = {"csrf": self.csrf, "id": option_id, "confirm": f"settle {option_id}"}
        answer = self.web.post("/operate/settle", data=form, follow_redirects=False)
        if answer.status_code == 303:
            return "open"
        if answer.status_code == 404:
            return "not found"
        return _words("refused", re.search(r"options: ([^;<]+); expected", answer.text)[1])

    def _settle_grpc(self, option_id: str) -> str:
        engine = SettlementEngine(self.store, clock=time.time)
        request = settlement_pb2.SettlementRequest(option_id=option_id.encode())
        try:
            said = asyncio.run(engine.InitiateSettlement(request, _Call(self.key)))
        except _AbortedError as e:
            return "not found" if e.code is grpc.StatusCode.NOT_FOUND else e.args[0]
        return _words(said.state, said.detail)

    def _settle_flower(self, option_id: str) -> str:
        try:
            return option_tasks.settle(option_id, "flower:me")
        except Exception as e:  # noqa: BLE001 - whatever the task raises is its answer
            return "not found" if type(e).__name__ == "NotFoundError" else repr(e)


def _words(state: str, answer: str | None) -> str:
    return state + (f" ({answer})" if answer else "")


class _AbortedError(Exception):
    def __init__(self, code: Any, said: str) -> None:
        super().__init__(said)
        self.code = code


class _Call:
    """The context of a call that shows a key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self._key}")]

    async def abort(self, code: Any, said: str) -> None:
        raise _AbortedError(code, said)
