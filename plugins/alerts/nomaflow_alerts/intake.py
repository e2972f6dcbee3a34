"""Reads the kernel's events, from where the file stands, and hands them to the rules in batches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial

from nomaflow.client import ClientError, KernelClient
from nomaflow.client.values import EventView, KernelView, PrunedView
from nomaflow_alerts.catalogue import read_catalogue
from nomaflow_alerts.event_batches import KINDS, fold
from nomaflow_alerts.ledger import Book, Ledger
from nomaflow_alerts.rules.policies import Policies
from nomaflow_alerts.rules.runs import end_unseen
from nomaflow_alerts.rules.system import sight_system
from nomaflow_alerts.rules.timers import expect_runs
from nomaflow_alerts.usual_times import Samples

_LOG = logging.getLogger(__name__)
_BATCH = 1000
_BUFFERED = 4000
_GATHER_SECONDS = 0.4
"""Time in which the kernel gathers events for this process, to which nothing is urgent."""
_LINGER_SECONDS = 0.1
"""Time in which those that arrive become one batch: each is a commit, on the disk to which the kernel commits too."""
_OLD_CURSOR_SECONDS = 86_400.0
_CURSOR_EVERY_SECONDS = 60.0
_AGAIN_SECONDS = 1.0


class Intake:
    """Takes events in without end.

    :param stream: a client that does not try again: who answers then is asked who it is before its events are taken in
    :param changed: called after each batch
    :param heard: called whenever the stream sends something: an answer to a call does not count
    :param saw: called with the events of each batch
    :ivar caught_up: True while nothing is left that had happened before the connection: only then absence is absence
    :ivar quiet: True while old events are read: nothing is said
    """

    def __init__(
        self,
        *,
        calls: KernelClient,
        stream: KernelClient,
        ledger: Ledger,
        policies: Policies,
        changed: Callable[[], None],
        heard: Callable[[], None],
        saw: Callable[[Sequence[EventView]], None] = lambda _: None,
    ) -> None:
        self._calls, self._stream, self._ledger = calls, stream, ledger
        self._policies, self._samples = policies, Samples(client=calls, policies=policies)
        self._changed, self._heard, self._saw = changed, heard, saw
        self.caught_up = False
        self.quiet = False
        self._behind_until = 0
        self._store = ""
        self._queue: asyncio.Queue[EventView | PrunedView | int | BaseException] = asyncio.Queue()
        self._room = asyncio.Semaphore(_BUFFERED)
        self._kept_at = 0.0
        self._said = ""

    async def run(self) -> None:
        """Read and take in without end."""
        while True:
            try:
                await self._once()
            except ClientError as error:
                if error.reason == "CURSOR_AHEAD":
                    await self._lose_cursor("the kernel's history ends before the last event that was read")
                    continue
                if error.advice != self._said:
                    _LOG.warning("events cannot be read: %s", error.advice)
                self._said = error.advice
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _once(self) -> None:
        """Read until another kernel leads.

        :raises ClientError: if the kernel has gone away
        """
        after, from_start = await self._begin(await self._calls.get_kernel())
        self._queue, self._room = asyncio.Queue(), asyncio.Semaphore(_BUFFERED)
        reader = asyncio.create_task(self._read(after, from_start=from_start))
        reader.add_done_callback(self._note_end)
        try:
            if after >= self._behind_until:
                await self._catch_up()
            while not self._is_of_another(items := await self._batch()):
                await self._take_in(items)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def _is_of_another(self, items: Sequence[EventView | PrunedView | int]) -> bool:
        """Return whether a kernel has sent these that leads since the one that was asked who it is."""
        events = (item for item in items if isinstance(item, EventView))
        return any(event.kind == "kernel.leading" and event.seq > self._behind_until for event in events)

    async def _begin(self, kernel: KernelView) -> tuple[int, bool]:
        """Return where to go on in this history, and whether from its start."""
        known, seq, age, was_quiet = await self._ledger.run(_cursor)
        if known and known != kernel.store_id:
            await self._lose_cursor("the kernel's history is another one: restored from a backup, or made anew")
            seq = 0
        is_old = age > _OLD_CURSOR_SECONDS and not self._store  # at a start: one that has run since tells all
        self.quiet = self.quiet or was_quiet or not seq or is_old
        if self.quiet:
            _LOG.info("reading the history from event %d; what is open then is told in one message", seq)
        self._store = kernel.store
        quiet = self.quiet

        def begin(book: Book) -> None:
            book.set_fact("store_id", kernel.store_id)
            book.set_fact("quiet", int(quiet))  # a process that ends meanwhile has not told what it found

        await self._ledger.run(begin)
        self._behind_until, self.caught_up = await self._newest(), False
        self._policies.current = False
        return seq, not seq

    async def _lose_cursor(self, why: str) -> None:
        _LOG.warning("%s; incidents are built from what it holds", why)

        def reset(book: Book) -> None:
            sight_system(book, "cursor_lost", self._policies, at=book.now, why=why)
            book.quiet = True
            end_unseen(book, ())
            book.watched.forget_all()
            book.set_fact("seq", 0)
            book.set_fact("store_id", "")

        await self._ledger.run(reset)
        self.quiet = True

    async def _read(self, after: int, *, from_start: bool) -> None:
        events = self._stream.watch_events(
            after_seq=after,
            from_start=from_start,
            kinds=KINDS,
            linger_seconds=_GATHER_SECONDS,
            on_pruned=self._put,
            on_bookmark=self._put,
        )
        async with aclosing(events) as items:  # type: ignore[type-var]  # a generator
            async for event in items:
                await self._room.acquire()
                self._put(event)

    def _put(self, item: EventView | PrunedView | int) -> None:
        self._heard()
        self._queue.put_nowait(item)

    def _note_end(self, reader: asyncio.Task[None]) -> None:
        """Have the error that ended the reader raised after what it had read: nothing comes any more."""
        error = None if reader.cancelled() else reader.exception()
        if error is not None:
            self._queue.put_nowait(error)

    async def _batch(self) -> list[EventView | PrunedView | int]:
        items = [await self._queue.get()]
        if self._queue.qsize() < _BATCH:
            await asyncio.sleep(_LINGER_SECONDS)
        while not self._queue.empty() and len(items) < _BATCH:
            items.append(self._queue.get_nowait())
        for item in items:
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, EventView):
                self._room.release()
        return items  # type: ignore[return-value]  # without errors

    async def _take_in(self, items: Sequence[EventView | PrunedView | int]) -> None:
        events = [item for item in items if isinstance(item, EventView)]
        self._saw(events)
        if any(event.kind in ("job.changed", "job.refused", "host.manifest") for event in events):
            self._policies.current = False
        await read_catalogue(self._calls, self._policies)
        gaps = [item for item in items if isinstance(item, PrunedView)]
        if gaps:
            await self._note_gap(gaps[-1])
        through = max((item if isinstance(item, int) else getattr(item, "seq", 0)) for item in items)
        if events or await self._must_keep():
            work = partial(
                fold,
                events=events,
                through=through,
                findings=await self._samples.findings(events),
                policies=self._policies,
                store=self._store,
                quiet=self.quiet,
            )
            await self._ledger.run(work)
            self._kept_at = asyncio.get_running_loop().time()
        if not self.caught_up and (through >= self._behind_until or any(isinstance(item, int) for item in items)):
            await self._catch_up()
        if events:
            self._changed()
        self._said = ""  # the same failure a day later is another one

    async def _must_keep(self) -> bool:
        """Return whether the cursor is kept although nothing has happened: it must not grow old."""
        return not self.caught_up or asyncio.get_running_loop().time() - self._kept_at > _CURSOR_EVERY_SECONDS

    async def _newest(self) -> int:
        """Return the newest event of those that are read: once it is taken in, nothing is left of before."""
        page = await self._calls.list_events(kinds=KINDS, page_size=1)
        return page.events[0].seq if page.events else 0

    async def _catch_up(self) -> None:
        await read_catalogue(self._calls, self._policies)
        quiet, self.quiet, self.caught_up = self.quiet, False, True
        await self._ledger.run(lambda book: expect_runs(book, self._policies))
        if quiet:
            _LOG.info("the history is read")
            await self._ledger.run(_end_quiet)
        self._changed()

    async def _note_gap(self, gone: PrunedView) -> None:
        """Say that events are gone. The end of a run may have been among them."""
        why = f"retention has removed events up to {gone.through_seq}, and {gone.after_seq} was the last one read"
        active = {run.run_id async for run in self._calls.list_runs(states=["QUEUED", "RUNNING"], page_size=500)}

        def note(book: Book) -> None:
            book.quiet = self.quiet
            if not self.quiet:
                sight_system(book, "cursor_lost", self._policies, at=book.now, why=why)
            end_unseen(book, active)

        await self._ledger.run(note)


def _cursor(book: Book) -> tuple[str, int, float, bool]:
    age = book.now - float(book.fact("cursor_at") or book.now)
    return book.fact("store_id"), int(book.fact("seq") or 0), age, book.fact("quiet") == "1"


def _end_quiet(book: Book) -> None:
    book.announce_open()
    book.set_fact("quiet", 0)
