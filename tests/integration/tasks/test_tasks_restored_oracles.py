"""After a restore: what its oracles hold is said while somebody has to decide it, and not for ever after."""

import pytest

from btcfi.adapters.store.options.hold_tables import HeldEventRow
from btcfi.units import UnixSeconds
from workers.commands import doctor

pytestmark = pytest.mark.integration


def said(stage):
    return {finding.status for finding in doctor.oracles(stage.deployment)}


def test_oracles_that_were_restored_are_no_warning_once_nothing_is_held(embedded):
    assert said(embedded) == {"ok"}
    now = UnixSeconds(embedded.here.now())
    for served in embedded.oracles:
        served.oracle.folder.hold(taken_at=now, now=now)
    embedded.sell("one")
    embedded.talk(1)
    event = "ab" * 32
    with embedded.here.store.transaction() as session:
        session.add(HeldEventRow(event_id=event, taken_at_unix=now, held_at_unix=now))
    assert said(embedded) == {"warn"}
    with embedded.here.store.transaction() as session:
        session.delete(session.get(HeldEventRow, event))
    assert said(embedded) == {"ok"}
