"""Who brings messages to webhooks: a turn takes what waits and returns at once, the messages go out beside it.

The process that carries letters is one, and must not wait for strangers: receivers are told in a thread beside
it, whose end nobody waits for. Hooks that answer late have places of their own, so that however many of them
there are, the others are told in time. What is cut off by the process's end goes out again under the same id.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, TypeVar

import structlog

from btcfi.adapters.store.market import webhooks
from btcfi.adapters.store.market.events import AccountEdge, say_json
from btcfi.adapters.store.market.webhooks import Attempt
from btcfi.adapters.store.spine.database import Session, Store, clock_of
from btcfi.adapters.webhooks.post import Outcome, Post
from btcfi.errors import BtcfiError
from btcfi.market.webhook import message_id, rest_seconds, signature
from btcfi.units import UnixSeconds

PLACES: Final = 24
"""Hooks that are told at once by one process, of those that answer in time, and as many of the others."""

MOST_LOOKS: Final = 20
"""Stretches of events that one turn goes through: 10,000 events."""

AT_A_TIME: Final = 50
"""Messages of one turn of a hook; then others have theirs."""

TURN_SECONDS: Final = 10.0
"""After which a hook's turn takes up no further message."""

SLOW_SECONDS: Final = 1.0
"""An answer that takes longer puts its hook among the slow."""

SHORT_REST_SECONDS: Final = 30
"""After an attempt that something of ours prevented."""

GONE: Final = 410
"""The status of a receiver that wants no more (Standard Webhooks)."""

DATABASE_THREADS: Final = 4

Opens: TypeAlias = Callable[[str, bytes], bytes]
"""Opens a hook's secret: its id, and what is stored. Raises BtcfiError."""

T = TypeVar("T")

log = structlog.get_logger("btcfi.webhooks")


@dataclass(slots=True)
class _Lane:
    """Places of one kind of hooks."""

    slow: bool
    post: Post
    held: int = 0


class Courier:
    """One process's; made after it was forked."""

    def __init__(
        self, store: Store, *, opens: Opens, posts: tuple[Post, Post], draw: Callable[[], float],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Nothing is begun yet.

        posts: for hooks that answer in time, and for the others: lookups of these are in nobody else's way. draw: 0 to
        1, at random. seconds: that never go back.
        """
        self._store, self._opens, self._draw, self._seconds = store, opens, draw, seconds
        fast, slow = posts
        self._lanes = (_Lane(slow=False, post=fast), _Lane(slow=True, post=slow))
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun: set[Future[None]] = set()

    def turn(self) -> int:
        """Look what happened, begin to tell whose turn it is, and return how many; it waits for no receiver.

        Raises StoreUnreachableError.
        """
        self._look()
        begun = 0
        for lane in self._lanes:
            with self._lock:
                free = PLACES - lane.held
            with self._store.transaction() as session:
                attempts = webhooks.begin(session, slow=lane.slow, most=free, now=UnixSeconds(int(clock_of(session))))
            if attempts:
                self._start(lane, attempts)
            begun += len(attempts)
        return begun

    def wait(self, seconds: float = 60.0) -> None:
        """Wait for what was begun: for tests, and who ends a process in order."""
        with self._lock:
            begun = set(self._begun)
        wait(begun, timeout=seconds)

    def _look(self) -> None:
        for _ in range(MOST_LOOKS):
            with self._store.transaction() as session:
                more = webhooks.look(session, now_ms=int(clock_of(session) * 1000))
            if not more:
                return

    def _start(self, lane: _Lane, attempts: Sequence[Attempt]) -> None:
        loop = self._running()
        for attempt in attempts:
            with self._lock:
                lane.held += 1
            future = asyncio.run_coroutine_threadsafe(self._tell(lane, attempt), loop)
            with self._lock:
                self._begun.add(future)
            future.add_done_callback(self._done)

    def _done(self, future: Future[None]) -> None:
        with self._lock:
            self._begun.discard(future)

    def _running(self) -> asyncio.AbstractEventLoop:
        """Return the loop in which all receivers are told: one thread, and a few for the database."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_default_executor(ThreadPoolExecutor(DATABASE_THREADS, thread_name_prefix="webhooks-store"))
            threading.Thread(target=self._loop.run_forever, name="webhooks", daemon=True).start()
        return self._loop

    async def _tell(self, lane: _Lane, attempt: Attempt) -> None:
        """Tell one hook what waits; whatever goes wrong with it is no other's."""
        try:
            await self._turn_of(lane, attempt)
        except Exception as e:  # noqa: BLE001 - as above; the attempt is written down as failed already
            log.warning("a webhook waits", webhook=attempt.hook_id, reason=f"{type(e).__name__}: {e}")
        finally:
            with self._lock:
                lane.held -= 1

    async def _turn_of(self, lane: _Lane, attempt: Attempt) -> None:
        until = self._seconds() + TURN_SECONDS
        for _ in range(AT_A_TIME):
            edge = await self._stored(lambda s, _now: webhooks.following(s, attempt))
            if edge is None:
                break
            began = self._seconds()
            outcome = await self._sent(lane, attempt, edge)
            slow = self._seconds() - began > SLOW_SECONDS
            noted = partial(self._note, attempt=attempt, edge=edge, outcome=outcome, slow=slow)
            if not await self._stored(noted):
                return
            if self._seconds() > until:
                break
        await self._stored(lambda s, _now: webhooks.end(s, attempt))

    async def _sent(self, lane: _Lane, attempt: Attempt, edge: AccountEdge) -> Outcome:
        event = edge.event
        try:
            endpoint = lane.post.rule.endpoint(attempt.url)
            secret = self._opens(attempt.hook_id, attempt.secret_sealed)
        except BtcfiError as e:
            return Outcome(status=None, problem=_ours(e))
        body = say_json(edge, attempt.account).encode()
        name = message_id(
            attempt.hook_id, event.id or 0, event.entity, event.entity_id, event.from_state, event.to_state,
            event.at_unix,
        )  # fmt: skip
        at = UnixSeconds(int(time.time()))
        headers = {
            "Content-Type": "application/json", "User-Agent": "btcfi-webhooks/1", "webhook-id": name,
            "webhook-timestamp": str(at), "webhook-signature": signature(secret, message=name, at=at, body=body),
        }  # fmt: skip
        return await lane.post.send(endpoint, headers, body)

    def _note(
        self, session: Session, now: UnixSeconds, *, attempt: Attempt, edge: AccountEdge, outcome: Outcome, slow: bool
    ) -> bool:
        """Write down what became of an attempt, and return whether the turn goes on."""
        if outcome.taken:
            number = edge.event.id or 0
            return webhooks.note_taken(session, attempt, number, status=outcome.status, slow=slow, now=now)
        problem = outcome.problem or ""
        if outcome.ours:
            webhooks.put_off(session, attempt, rest=SHORT_REST_SECONDS, problem=problem)
            return False
        if webhooks.note_failed(
            session, attempt, status=outcome.status, problem=problem, rest=rest_seconds(attempt.tries, self._draw()),
            gone=outcome.status == GONE, now=now,
        ):  # fmt: skip
            log.info("webhook_given_up", webhook=attempt.hook_id, account=attempt.account, tries=attempt.tries)
        return False

    async def _stored(self, work: Callable[[Session, UnixSeconds], T]) -> T:
        """Do something in a transaction, in a thread: who waits for the database holds up no answer's time."""

        def done() -> T:
            with self._store.transaction() as session:
                return work(session, UnixSeconds(int(clock_of(session))))

        return await asyncio.to_thread(done)


def _ours(e: BtcfiError) -> str:
    return f"not sent: {type(e).__name__.removesuffix('Error')}; remove this webhook and add it anew"
