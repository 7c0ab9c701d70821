"""The power of the service's machine is cut while options settle: its unsynced pages are gone, and nothing else."""

import pytest

from tests.faults.conftest import World
from workers.chaos.cluster import ChaosCluster
from workers.chaos.points import PAUSE, Order

pytestmark = [
    pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("a power cut")
]  # fmt: skip

MOMENTS = (
    *(pytest.param(one, marks=pytest.mark.night) for one in ("option.active:after", "settlement.built:after")),
    "node.send:after",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with ChaosCluster(tmp_path_factory.mktemp("mains"), mains=True) as cluster:
        cluster.start()
        made = World(cluster)
        for _ in range(3):
            made.price()
        yield made


@pytest.mark.parametrize("moment", MOMENTS)
def test_after_a_power_cut_every_option_settles_once_for_what_its_program_pays(world, moment):
    cluster, names = world.cluster, [f"{moment.partition(':')[0].replace('.', '-')}-{number}" for number in range(2)]
    order = Order(name=moment.replace(":", "-"), point=moment, action=PAUSE)
    if moment.startswith("option"):
        cluster.orders.arm(order)
        expiry = world.order(*names)
        world.mined_until(f"{moment} of {names}", lambda: cluster.orders.reached(order.name) is not None)
    else:
        expiry = world.sell(*names)
        cluster.orders.arm(order)
        world.expire(expiry)
        cluster.wait(moment, lambda: cluster.orders.reached(order.name) is not None)
    cluster.cut_power()
    cluster.orders.disarm(order.name)
    if moment.startswith("option"):
        world.until("ACTIVE", *names)
        world.expire(expiry)
    world.until("EXERCISED", *names)
    assert world.broken(*names) == []
