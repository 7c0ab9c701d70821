"""Bytes by their hash: many by one statement, each once."""

from sqlalchemy import select

from btcfi.adapters.store.spine.blobs import store_blob, store_blobs
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.hashes import sha256
from btcfi.units import UnixSeconds

NOW = UnixSeconds(1_700_000_000)


def test_many_are_stored_once_each_and_named_in_their_order(store):
    many = [b"two", b"one", b"two", b""]
    with store.transaction() as session:
        there = store_blob(session, b"one", now=NOW)
        assert store_blobs(session, many, now=UnixSeconds(NOW + 1)) == [sha256(raw) for raw in many]
        assert store_blobs(session, [], now=NOW) == []
    with store.reading() as session:
        rows = {row.sha256: row for row in session.execute(select(BlobRow)).scalars()}
    assert {name: row.body for name, row in rows.items()} == {sha256(raw).hex(): raw for raw in many}
    assert rows[there.hex()].created_at_unix == NOW, "what was there stays"
