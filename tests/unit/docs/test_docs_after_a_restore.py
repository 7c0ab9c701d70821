"""What the page of recovery calls rightly red after a restore is what the doctor judges by running parts."""

import contextlib
import re
import time

from btcfi.adapters.store.reading import read_store
from btcfi.adapters.store.spine.database import Store
from tests.support.paths import ROOT
from workers.commands.doctor import pipeline
from workers.findings import Status

WHILE_EVENTS_ARE_HELD = {"restore", "oracles"}


def test_the_lines_that_may_be_red_after_a_restore_are_those_of_the_pipeline_and_of_held_events(tmp_path):
    text = (ROOT / "docs/how-to/recover.md").read_text(encoding="utf-8")
    step = text.partition("4. `btcfi doctor`")[2].partition("Any other red line")[0]
    with contextlib.closing(Store(f"sqlite:///{tmp_path}/btcfi.db")) as store:
        store.migrate()
        with store.reading() as session:
            found = list(pipeline(read_store(session, "BTC/USD", now=int(time.time()))))
    assert {one.name for one in found if one.status is not Status.OK} == {"canaries", "price"}
    assert set(re.findall(r"`(\w+)`", step)) == {one.name for one in found} | WHILE_EVENTS_ARE_HELD
