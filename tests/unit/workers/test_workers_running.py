"""`btcfi worker` ends with the exit code of what ended it: Celery logs why, and says that all is well."""

import pytest
from celery import bootsteps

from btcfi.adapters.store.spine.errors import StoreDamagedError
from btcfi.surfaces.status import status_of
from settings.deployment import Deployment
from workers.app import create_app
from workers.roles import SETTLE, worker_arguments
from workers.running import UNKNOWN, run_worker


def ends_by(raised):
    """A worker that meets something as it starts to consume."""
    deployment = Deployment(broker_url="memory://")
    app = create_app(deployment, modules=())

    class Meets(bootsteps.StartStopStep):
        requires = ("celery.worker.components:Pool",)

        def start(self, _worker):
            raise raised

    app.steps["worker"].add(Meets)
    arguments = [one.replace("prefork", "solo") for one in worker_arguments(SETTLE, deployment, "settle")]
    return lambda: run_worker(app, arguments)


@pytest.mark.parametrize(
    ("raised", "code"), [(StoreDamagedError("sqlite:///x", "no database"), 65), (OSError(28, "no space"), 74)]
)
def test_what_we_know_ends_it_as_itself(raised, code):
    with pytest.raises(type(raised)) as ended:
        ends_by(raised)()
    assert ended.value is raised
    if code != 74:  # of the system's own errors the command line knows the code
        assert status_of(ended.value).exit_code == code


def test_what_nobody_knows_is_no_success():
    assert ends_by(ZeroDivisionError("x"))() == UNKNOWN


def test_a_warm_stop_is_a_success():
    from celery.exceptions import WorkerShutdown  # noqa: PLC0415 - Celery's word for it

    assert ends_by(WorkerShutdown(0))() == 0
