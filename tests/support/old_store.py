"""Writes the store of a commit, for the tests of later ones: run in a checkout of that commit, never in a newer one.

    cd CHECKOUT && PYTHONPATH=$PWD python NEWER/tests/support/old_store.py OUT_FOLDER COMMIT

It plays a small life of the service with the code of the checkout, on a real embedded chain and with real desks, and
stops in the middle: every state that an upgrade can meet is in it. It imports only what keeps its name from commit to
commit: the stage of the pipeline's tests, the tasks, the units.
"""

import io
import json
import lzma
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from btcfi.options.terms import OptionKind
from btcfi.units import Slot, UnixSeconds
from settings.deployment import Deployment
from tasks import chain, context, options, settlement
from tasks import contracts as exchange_tasks
from tests.support import contract_stage

try:
    from btcfi.adapters.store.prices import rounds
except ImportError:  # before the rooms
    from btcfi.adapters.store import rounds

PRICE = 6_000_000
FIRST = contract_stage.EXPIRY
EXPIRIES = {
    "settled": FIRST,  # over
    "outside": FIRST + 60,  # paid by a party, which nobody has proved
    "sent": FIRST + 1_200,  # in the pool
    "proven": FIRST + 1_260, "claimed": FIRST + 1_260, "due": FIRST + 1_260,  # in the machine
    "early": FIRST + 1_800, "call": FIRST + 1_800, "put": FIRST + 1_800, "barrier": FIRST + 1_860,  # running
    "signed": FIRST + 1_860, "ordered": FIRST + 1_860,  # being set up
}  # fmt: skip
NEAR = 6_100_000
"""A barrier that is never touched: a contract up to it has few payouts, so few signatures to keep."""

FUNDED = tuple(EXPIRIES)[:-2]
TABLES = ("option", "contract", "settlement", "chain_transaction", "anchor", "oracle_event", "attestation")


class WorkerDiedError(Exception):
    """What a kill in the middle of a batch looks like to the rest."""


def sell(stage, name, *arguments, **keywords):
    contract_stage.EXPIRY = Slot(EXPIRIES[name])  # the stage sells one expiry; here each has its own
    stage.sell(name, *arguments, **keywords)


def empty_blocks(stage, blocks):
    """Mine blocks that leave out what waits."""
    for _ in range(blocks):
        stage.node.generate_block(context.mining_address(stage.deployment, 1), [])
    chain.watch()


def rows(stage, query):
    path = stage.deployment.data_dir / "btcfi.db"
    with closing(sqlite3.connect(path)) as store:
        return store.execute(query).fetchall()


def settlement_ids(stage, state):
    found = rows(stage, f"SELECT option_id, id FROM settlement WHERE state = '{state}'")
    return dict(found)


def live(stage):
    """Everything that can be in a store, up to a moment when much of it is unfinished."""
    for name in ("settled", "outside", "sent", "proven", "claimed", "due"):
        sell(stage, name, strike=5_500_000, barrier=NEAR)
    sell(stage, "early", OptionKind.BINARY_CALL, american=True, barrier=NEAR)
    sell(stage, "call")
    sell(stage, "put", OptionKind.PUT, 5_500_000, barrier=4_500_000)
    sell(stage, "barrier", barrier=5_800_000)
    stage.fund(*FUNDED)

    chain.anchor()
    stage.price(PRICE, EXPIRIES["settled"])
    chain.anchor()  # takes the first one's place
    stage.settle()
    empty_blocks(stage, 3)  # the child waits too long: another one pays more
    stage.mine(6)

    stage.price(PRICE, EXPIRIES["outside"])
    options.expire_due("BTC/USD")
    stage.attest()
    chain.anchor()
    # a party that is faster than the service, whose run nobody has made yet
    stage.mails["buyer"]._desk.watch(attested(stage, "outside"))
    stage.mine(6)

    stage.price(PRICE, EXPIRIES["sent"])
    options.expire_due("BTC/USD")
    stage.attest()
    settlement.execute_batch([settlement_ids(stage, "due")["sent"]])
    chain.settle()
    empty_blocks(stage, 3)

    options.settle("early", "operator")
    options.answer_request("early")
    settlement.execute_batch([settlement_ids(stage, "due")["early"]])

    stage.price(PRICE, EXPIRIES["due"])
    options.expire_due("BTC/USD")
    due = settlement_ids(stage, "due")
    settlement.execute_batch([due["proven"]])
    run, settlement._run = settlement._run, die
    with suppress(WorkerDiedError):
        settlement.execute_batch([due["claimed"]])
    settlement._run = run

    sell(stage, "signed", strike=5_500_000, barrier=NEAR)
    for _ in range(4):
        exchange_tasks.exchange()
        for mail in stage.mails.values():
            mail.round(stage.node.block_count())
    sell(stage, "ordered", strike=5_500_000, barrier=NEAR)
    exchange_tasks.exchange()
    chain.anchor()  # one that no block holds
    minutes(stage.here.store)


def minutes(store):
    """Open and close rounds as beat does, of a feed that nothing settles by: the stage's own prices have no events."""
    register = context.make_context(Deployment(feed="BTC/EUR", data_dir=Path())).register
    for at in (FIRST - 120, FIRST - 60, FIRST):
        with store.transaction() as session:
            rounds.open_round(session, register.feed, Slot(at), now=UnixSeconds(at + 65), deadline_seconds=20)
    for at in (FIRST - 120, FIRST - 60):
        with store.transaction() as session:
            rounds.close_round(session, register, Slot(at), now=UnixSeconds(at + 90), final=True)


def die(*_):
    raise WorkerDiedError


def attested(stage, name):
    from btcfi.contracts.messages import decode_attestation  # noqa: PLC0415 - beside its only use

    event = rows(stage, f"SELECT event_id FROM contract WHERE option_id = '{name}'")[0][0]
    found = rows(stage, f"SELECT body FROM attestation WHERE event_id = '{event}'")
    return [decode_attestation(json.loads(body)) for (body,) in found]


def summary(stage, commit):
    """What a test compares: every option with its event, and how many rows each state has."""
    names = ["id", "state", "expiry_unix", "preset_sha256", "program_sha256", "event_id", "contract", "settlement"]
    query = (
        "SELECT o.id, o.state, o.expiry_unix, o.preset_sha256, o.program_sha256, c.event_id, c.state, s.state "
        "FROM option o LEFT JOIN contract c ON c.option_id = o.id LEFT JOIN settlement s ON s.option_id = o.id "
        "ORDER BY o.id"
    )
    found = [dict(zip(names, row, strict=True)) for row in rows(stage, query)]
    sent = "SELECT substr(purpose, 1, 8), state, count(*) FROM chain_transaction GROUP BY 1, 2 ORDER BY 1, 2"
    return {
        "about": "a store that the code of one commit wrote, with what it holds",
        "source": {"by": "tests/support/old_store.py", "commit": commit},
        "options": {row.pop("id"): row for row in found},
        "transactions": [list(row) for row in rows(stage, sent)],
        "height": stage.node.block_count(),
    }


def pack(folder, out):
    """Write the archive, without owners and times, and return its path."""
    target = out / "store.tar.xz"
    with lzma.open(target, "wb", preset=9 | lzma.PRESET_EXTREME) as raw, tarfile.open(fileobj=raw, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            member = archive.gettarinfo(path, path.relative_to(folder).as_posix())
            member.uid = member.gid = member.mtime = 0
            member.uname = member.gname = ""
            archive.addfile(member, io.BytesIO(path.read_bytes()) if path.is_file() else None)
    return target


def keep(made, kept):
    """Copy what an upgrade needs: the store in one file, the keys, the folders of the parties, the chain's journal."""
    shutil.copytree(made / "data", kept / "data", ignore=shutil.ignore_patterns("btcfi.db*", "*.lock", "*.log"))
    with closing(sqlite3.connect(made / "data" / "btcfi.db")) as store:
        store.execute("VACUUM INTO ?", (str(kept / "data" / "btcfi.db"),))
    (kept / "chain").mkdir()
    shutil.copy(made / "chain" / "chain.journal", kept / "chain" / "chain.journal")


def main(out, commit):
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        made, kept = Path(name) / "made", Path(name) / "kept"
        kept.mkdir()
        with contract_stage.open_stage(made, coins=len(EXPIRIES) + 2, fee_coins=16) as stage:
            live(stage)
            said = summary(stage, commit)
        keep(made, kept)
        archive = pack(kept, out)
    (out / "summary.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    print(archive, archive.stat().st_size, "bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
