"""The walk along the blocks names no system: whoever brings a handler is asked, and nobody else's rows are touched."""

import pytest

from btcfi.adapters.store.chain.handlers import Handlers, Purpose, PurposeTakenError
from btcfi.adapters.store.chain.sending import mark_refused, mark_sent, to_send
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.chain.transactions import Signed, put_transaction
from btcfi.adapters.store.chain.walk import finalize, unwind, walk
from btcfi.adapters.store.options.on_chain import OPTIONS_ON_CHAIN
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.units import Height, Sats, Txid, UnixSeconds, display_txid

NOW = UnixSeconds(1_700_000_040)
OURS, RIVAL, THEIRS = "lease", "lease fee", "stranger's spend"


class Nothing:
    def known(self, txid):
        return None

    def foreign(self, session, transaction):
        return None


class Watching(Nothing):
    """Watches one outpoint."""

    def __init__(self, outpoint):
        self.outpoint = outpoint

    def foreign(self, session, transaction):
        if any(txin.outpoint == self.outpoint for txin in transaction.inputs):
            return Signed(transaction=transaction, purpose=THEIRS, subject="l1", spends=self.outpoint, fee=Sats(0))
        return None


class Leases:
    """A system that the store has never heard of."""

    purposes = (
        Purpose(name=OURS),
        Purpose(name=RIVAL, gives_way=True, pays_for_parent=True),
        Purpose(name=THEIRS, ours=False),
    )

    def __init__(self, outpoint=None):
        self.outpoint, self.heard = outpoint, []

    def view(self, session, block):
        return Nothing() if self.outpoint is None else Watching(self.outpoint)

    def sent(self, session, rows, now):
        self.heard += [("sent", row.purpose) for row in rows]

    def final(self, session, rows, now):
        self.heard += [("final", row.purpose) for row in rows]

    def undone(self, session, row, now):
        self.heard.append(("undone", row.purpose, row.state))

    def coins_needed(self, session):
        return 3


def spend(number, outpoint=None, value=1_000):
    outpoint = outpoint or OutPoint(txid=Txid(bytes([number]) * 32), index=0)
    return Transaction(
        version=2, inputs=(TxIn(outpoint=outpoint),), outputs=(TxOut(value=Sats(value), script=b"\x51" * number),)
    )


class Block:
    def __init__(self, *transactions, number=1):
        self.transactions = transactions
        self.header = type("Header", (), {"hash": bytes([number]) * 32})
        self.previous = bytes(32)


def stored(session, transaction, purpose, subject="l1"):
    signed = Signed(
        transaction=transaction, purpose=purpose, subject=subject, spends=transaction.inputs[0].outpoint, fee=Sats(1)
    )
    return put_transaction(session, signed, now=NOW)


def test_a_new_system_hears_of_its_own_transactions_and_the_options_handler_of_none(store):
    leases = Leases()
    handlers = Handlers((OPTIONS_ON_CHAIN, leases))
    mine = spend(1)
    with store.transaction() as session:
        stored(session, mine, OURS)
        mark_sent(session, [mine.txid], handlers, now=NOW)
        walk(session, Block(mine), Height(5), b"", handlers, now=NOW)
        finalize(session, handlers, tip=Height(10), confirmations=6, now=NOW)
        unwind(session, 5, handlers, now=NOW)
        row = session.get_one(TransactionRow, display_txid(mine.txid))
    assert leases.heard == [("sent", OURS), ("final", OURS), ("undone", OURS, "final")]
    assert (row.state, row.height) == ("broadcast", None)


def test_a_stranger_s_spend_is_kept_confirmed_never_sent_and_forgotten_with_its_block(store):
    outpoint = OutPoint(txid=Txid(b"\x09" * 32), index=1)
    handlers = Handlers((Leases(outpoint),))
    theirs = spend(2, outpoint)
    with store.transaction() as session:
        walk(session, Block(theirs), Height(5), b"", handlers, now=NOW)
        row = session.get_one(TransactionRow, display_txid(theirs.txid))
        assert (row.purpose, row.subject, row.state) == (THEIRS, "l1", "confirmed")
        assert to_send(session, handlers, now=UnixSeconds(NOW + 3600)) == []
        unwind(session, 5, handlers, now=NOW)
        session.flush()
        assert session.get(TransactionRow, display_txid(theirs.txid)) is None


def test_what_gives_way_names_who_took_its_place_and_leaves_room_for_the_next(store):
    handlers = Handlers((Leases(),))
    outpoint = OutPoint(txid=Txid(b"\x09" * 32), index=1)
    ours, theirs = spend(3, outpoint), spend(4, outpoint, value=900)
    with store.transaction() as session:
        stored(session, ours, RIVAL)
        walk(session, Block(theirs), Height(5), b"", handlers, now=NOW)
        row = session.get_one(TransactionRow, display_txid(ours.txid))
        assert (row.state, row.replaced_by, row.height) == ("conflicted", display_txid(theirs.txid), None)
        stored(session, spend(5), RIVAL)  # one purpose and subject, one that stands


def test_what_keeps_its_place_waits_for_the_block_of_its_rival_to_go(store):
    handlers = Handlers((Leases(),))
    outpoint = OutPoint(txid=Txid(b"\x09" * 32), index=1)
    ours, theirs = spend(3, outpoint), spend(4, outpoint, value=900)
    with store.transaction() as session:
        stored(session, ours, OURS)
        walk(session, Block(theirs), Height(5), b"", handlers, now=NOW)
        row = session.get_one(TransactionRow, display_txid(ours.txid))
        assert (row.state, row.replaced_by, row.height) == ("conflicted", None, 5)
        unwind(session, 5, handlers, now=NOW)
        assert row.state == "broadcast"


def test_what_pays_for_its_parent_goes_together_with_it_and_nobody_else_s_child_takes_that_place(store):
    """A stranger's transaction may spend what ours pays out, and a parent may have a parent that waits, too."""
    handlers = Handlers((Leases(),))
    grandparent = spend(1)
    parent = spend(2, OutPoint(txid=grandparent.txid, index=0))
    child = spend(3, OutPoint(txid=parent.txid, index=0))
    strangers = [spend(4, OutPoint(txid=parent.txid, index=1)), spend(5, OutPoint(txid=grandparent.txid, index=1))]
    with store.transaction() as session:
        stored(session, grandparent, OURS, subject="l0")
        stored(session, child, RIVAL)
        stored(session, parent, OURS)
        for number, stranger in enumerate(strangers):
            stored(session, stranger, OURS, subject=f"stranger {number}")
        packages = to_send(session, handlers, now=NOW)
    assert sorted(map(len, packages)) == [1, 1, 1, 2]
    assert all(package in packages for package in ([parent, child], [grandparent], *([one] for one in strangers)))


def test_what_is_beyond_the_limit_goes_with_the_one_that_it_pays_for(store):
    """One that pays nothing by itself is refused alone, so none is ever sent without its child, wherever the cut is."""
    handlers = Handlers((Leases(),))
    parents = [spend(number) for number in range(1, 4)]
    children = [spend(number + 10, OutPoint(txid=one.txid, index=0)) for number, one in enumerate(parents)]
    with store.transaction() as session:
        for number, one in enumerate(parents):
            stored(session, one, OURS, subject=f"parent {number}")
        for number, one in enumerate(children):
            late = stored(session, one, RIVAL, subject=f"child {number}")
            late.created_at_unix = late.updated_at_unix = NOW + 1
        packages = to_send(session, handlers, now=NOW, limit=2)
    pairs = [list(pair) for pair in zip(parents, children, strict=True)]
    assert len(packages) == 2
    assert all(package in pairs for package in packages)


def test_what_the_node_refuses_again_and_again_keeps_nothing_newer_back(store):
    handlers = Handlers((Leases(),))
    with store.transaction() as session:
        refused = [spend(number) for number in range(1, 7)]
        for number, one in enumerate(refused):
            stored(session, one, OURS, subject=f"poison {number}")
        good = stored(session, spend(9), OURS, subject="good")
        good.created_at_unix = good.updated_at_unix = NOW + 1
        for later in (10, 20):
            sent = to_send(session, handlers, now=UnixSeconds(NOW + later), limit=6)
            mark_refused(session, {one.txid: "no" for (one,) in sent}, now=UnixSeconds(NOW + later))
    assert [spend(9)] in sent


def test_two_systems_that_claim_one_purpose_are_refused_by_its_name(store):
    handlers = Handlers((Leases(), Leases()))
    with pytest.raises(PurposeTakenError, match=OURS):
        handlers.purpose(OURS)


def test_every_system_s_coins_are_kept_at_once(store):
    with store.reading() as session:
        assert Handlers((Leases(), OPTIONS_ON_CHAIN, Leases())).coins_needed(session) == 6
