"""Looks at a running attempt: the processes of its worker, and the stacks of its code."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nomaflow_api.v1.attempt_inspection_pb2 import InspectAttemptResponse, InspectedProcess, ThreadStack
from nomaflow_api.v1.message_codec import timestamp
from nomaflow_api.v1.sealing import fitting
from nomaflow_host.reaper.proc import descendants, processes, read_process
from nomaflow_host.supervisor.thread_dumps import threads_of
from nomaflow_project.reading.regular_files import shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nomaflow_host.reaper.proc import ProcessInfo
    from nomaflow_host.supervisor.held_attempt import HeldAttempt
    from nomaflow_host.supervisor.worker_handle import WorkerHandle

_AT_ONCE = 4
_ANSWER_SECONDS = 1.0
_DUMP_SECONDS = 1.0
_POLL_SECONDS = 0.02
_PROCESSES = 100
_STACKS = 100
_FRAMES = 60
_COMMAND = 500


class Inspector:
    """Inspects attempts, a few at once; each takes at most three seconds.

    :param find: returns the attempt that a key names; None if this host does not hold it
    """

    def __init__(self, *, find: Callable[[str], HeldAttempt | None]) -> None:
        self._find = find
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._number = 0

    async def inspect(self, attempt_key: str) -> InspectAttemptResponse | None:
        """Return what an attempt does now, without its key and host; None if this host does not run it."""
        async with self._turns:
            attempt = self._find(attempt_key)
            if attempt is None:
                return None
            worker, seen_at = attempt.worker, timestamp(time.time_ns() // 1000)
            if not worker.pid or not worker.ready:
                return InspectAttemptResponse(seen_at=seen_at, note="its worker is still starting")
            alone = len(worker.attempts) == 1
            seen = await asyncio.to_thread(_tree, worker.pid, worker.masker.now.text, alone=alone)
            stacks, note = await self._stacks(attempt)
            if not alone:
                others = "other attempts run in its worker, which are not shown"
                note = f"{note}; {others}" if note else others
            return InspectAttemptResponse(seen_at=seen_at, processes=seen, stacks=stacks, note=note)

    async def _stacks(self, attempt: HeldAttempt) -> tuple[list[ThreadStack], str]:
        """Return the stacks that the worker reports; if it does not answer, those read from outside."""
        told = await self._asked(attempt)
        if told is not None:
            return list(_told(told)), ""
        note = (
            f"the worker did not answer within {_ANSWER_SECONDS:g} s: its code blocks the event loop, or native code "
            "holds its interpreter"
        )
        dump = await self._dumped(attempt.worker)
        if not dump:
            return [], f"{note}; and its stacks cannot be read from outside"
        return _of_dump(dump, attempt)[:_STACKS], f"{note}; these are its threads, without its tasks"

    async def _asked(self, attempt: HeldAttempt) -> list[Any] | None:
        worker = attempt.worker
        self._number += 1
        number = self._number
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        worker.looks[number] = answer
        worker.link.send({"is": "stacks", "slot": attempt.slot, "number": number})
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            return None
        finally:
            worker.looks.pop(number, None)

    async def _dumped(self, worker: WorkerHandle) -> str:
        """Return what the worker's handler in C writes about its threads; it needs no interpreter."""
        if worker.dump_fd < 0:
            return ""
        worker.dump_stacks()
        dump, until = "", time.monotonic() + _DUMP_SECONDS
        while time.monotonic() < until:
            await asyncio.sleep(_POLL_SECONDS)
            before, dump = dump, worker.dump()
            if dump and dump == before:
                return dump
        return ""


def _told(stacks: list[Any]) -> Iterator[ThreadStack]:
    """Yield the stacks of a worker's answer; code in it may have sent anything."""
    for each in stacks[:_STACKS]:
        if isinstance(each, dict) and isinstance(each.get("frames"), list):
            frames = [fitting(str(frame)) for frame in each["frames"][-_FRAMES:]]
            yield ThreadStack(
                name=fitting(str(each.get("name"))), frames=frames, of_attempt=bool(each.get("of_attempt"))
            )


def _of_dump(dump: str, attempt: HeldAttempt) -> list[ThreadStack]:
    """Return the stacks of a worker's threads, outermost frame first; those that run the attempt come first."""
    worker = attempt.worker
    alone, root = len(worker.attempts) == 1, worker.generation.project.root
    mask = worker.masker.now.text
    threads = threads_of(dump)
    found = []
    for thread in threads:
        mine = thread.runs(attempt)
        if mine or alone:
            places = (
                f"{shown_path(Path(each.file), root)}:{each.line} {each.function}" for each in thread.frames[::-1]
            )
            title = "main thread" if thread is threads[-1] else f"thread {thread.ident}"
            frames = [fitting(mask(place)) for place in places]
            found.append(ThreadStack(name=title, frames=frames[-_FRAMES:], of_attempt=mine))
    return sorted(found, key=lambda each: not each.of_attempt)


def _tree(pid: int, mask: Callable[[str], str], *, alone: bool) -> list[InspectedProcess]:
    """Return a worker and the processes below it; commands of children only if they belong to one attempt."""
    worker = read_process(pid)
    below = descendants([pid], processes())
    found = [*([worker] if worker is not None else []), *sorted(below, key=lambda each: each.pid)]
    return [_seen(each, mask, shows_command=alone or each.pid == pid) for each in found[:_PROCESSES]]


def _seen(info: ProcessInfo, mask: Callable[[str], str], *, shows_command: bool) -> InspectedProcess:
    return InspectedProcess(
        pid=info.pid,
        ppid=info.parent,
        started_at=timestamp(info.started_at_us),
        state=info.state,
        rss_bytes=info.rss_bytes,
        cpu_seconds=info.cpu_seconds,
        command=fitting(mask(_command(info.pid))[:_COMMAND]) if shows_command else "",
    )


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(64 * 1024).rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""
