"""Each process of a deployment is told the secrets that it needs; Flower's figures are behind its login."""

import base64
import threading
import urllib.error
import urllib.request

import pytest
from pydantic import SecretStr

from settings.deployment import Deployment
from workers.machine import rows
from workers.machine.cluster import Cluster

pytestmark = pytest.mark.integration

PASSWORD = "only-for-flower"


class Told(Cluster):
    """A cluster that starts nothing: what each part would be told."""

    def environments(self):
        here = rows.Here(deployment=self._deployment, run_dir=self._deployment.data_dir, replay_folder=None)
        return {row.name: self.environment_of(row.environment, row.secrets) for row in self.rows if row.command} | {
            "here": here.deployment.environment()
        }


def test_flower_s_password_is_in_flower_s_environment_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWER_BASIC_AUTH", f"operator:{PASSWORD}")
    monkeypatch.setenv("BTCFI_FLOWER_PASSWORD_FILE", "/a/file/of/the/operator")
    deployment = Deployment(
        data_dir=tmp_path, flower_password=SecretStr(PASSWORD), broker_url="redis://:broker-word@b/0",
        database_url="postgresql+psycopg://u:base-word@d/x", node_url="http://u:node-word@n:1",
    )  # fmt: skip
    told = Told(deployment, api=True, flower=True, metrics=True).environments()
    told.pop("here")
    holders = {
        word: {name for name, environment in told.items() if any(word in value for value in environment.values())}
        for word in (PASSWORD, "/a/file", "base-word", "node-word", "broker-word")
    }
    assert holders[PASSWORD] == {rows.FLOWER}
    assert holders["/a/file"] == set()
    assert not {rows.BEAT, rows.FLOWER, *rows.parties.PARTIES} & holders["base-word"]
    assert not {rows.BEAT, rows.FLOWER} & holders["node-word"]
    assert {*rows.ROLES, rows.API, rows.METRICS} <= holders["base-word"]
    assert {*rows.ROLES, rows.BEAT, rows.FLOWER} <= holders["broker-word"]


def test_flower_s_figures_want_the_login_of_its_pages():
    from flower.app import Flower  # noqa: PLC0415 - Flower, in the one test of it
    from tornado.httpserver import HTTPServer  # noqa: PLC0415 - as above
    from tornado.ioloop import IOLoop  # noqa: PLC0415 - as above
    from tornado.netutil import bind_sockets  # noqa: PLC0415 - as above
    from tornado.options import options  # noqa: PLC0415 - as above

    from workers.commands import flower  # noqa: PLC0415 - as above

    options.basic_auth = [f"operator:{PASSWORD}"]
    flower._close_metrics()
    ready, found = threading.Event(), {}

    def serve():
        found["loop"] = IOLoop()
        application = Flower(capp=None, options=options, events=Silent(), io_loop=found["loop"])
        (socket,) = bind_sockets(0, "127.0.0.1")
        found["port"] = socket.getsockname()[1]
        HTTPServer(application).add_sockets([socket])
        found["loop"].add_callback(ready.set)
        found["loop"].start()

    threading.Thread(target=serve, daemon=True).start()
    assert ready.wait(10)
    try:
        where = f"http://127.0.0.1:{found['port']}/metrics"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(where, timeout=5)
        assert refused.value.code == 401
        login = base64.b64encode(f"operator:{PASSWORD}".encode()).decode()
        asked = urllib.request.Request(where, headers={"Authorization": f"Basic {login}"})
        assert urllib.request.urlopen(asked, timeout=5).status == 200
    finally:
        options.basic_auth = []
        found["loop"].add_callback(found["loop"].stop)


class Silent:
    """Instead of Flower's listener: no broker is asked."""

    state = None
