"""The reconciler has every system repair its own: one that fails holds up no other."""

import pytest
from sqlmodel import col, select

from btcfi.adapters.store.spine.edges import count
from btcfi.adapters.store.spine.tables import CounterRow
from settings.deployment import Deployment
from tasks import context, control
from workers.app import create_app


class BrokenError(Exception):
    pass


def broken(_here, session):
    count(session, "half_done")
    raise BrokenError


def sound(_here, session):
    count(session, "sound")


def test_a_repair_that_fails_is_undone_and_named_and_the_others_are_done(tmp_path, monkeypatch):
    app = create_app(Deployment(data_dir=tmp_path, broker_url="memory://"))
    here = context.context()
    here.store.migrate()
    names = {"a:broken": broken, "a:sound": sound}
    app.conf.repairs = tuple(names)
    monkeypatch.setattr(control.pipeline, "resolve", names.__getitem__)
    with pytest.raises(BrokenError):
        control.reconcile()
    with here.store.reading() as session:
        assert list(session.execute(select(col(CounterRow.name))).scalars()) == ["sound"]
    here.store.close()
