"""Each connection waits for the disk before it says that a commit is done, whatever the server's setting."""

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from btcfi.adapters.store.spine.database import Store

FULL = 2


def said(store, query):
    with store.transaction() as session:
        writing = session.execute(text(query)).scalar_one()
    with store.reading() as session:
        return writing, session.execute(text(query)).scalar_one()


def test_a_commit_waits_for_the_disk(store):
    if store.engine.dialect.name == "sqlite":
        assert said(store, "PRAGMA synchronous") == (FULL, FULL)
    else:
        assert said(store, "SHOW synchronous_commit") == ("on", "on")


@pytest.mark.parametrize(("servers", "ours"), [("off", "on"), ("remote_apply", "remote_apply"), ("local", "local")])
def test_a_server_that_acknowledges_before_its_disk_is_told_to_wait_and_a_stronger_word_stays(store, servers, ours):
    if store.engine.dialect.name == "sqlite":
        pytest.skip("it has no such setting")
    asked = make_url(store.url).update_query_dict({"options": f"-c synchronous_commit={servers}"})
    other = Store(asked.render_as_string(hide_password=False))
    try:
        assert said(other, "SHOW synchronous_commit") == (ours, ours)
    finally:
        other.close()
