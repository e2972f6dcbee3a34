"""A worker as its host's main process sees it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from nomaflow_api.v1.log_lines import SHARED
from nomaflow_host.attempt.masking import WorkerMasker
from nomaflow_host.channel.async_link import AsyncLink
from nomaflow_host.channel.frames import Frame, FrameError
from nomaflow_host.channel.packed_frames import PackedFrameSocket
from nomaflow_host.channel.ring.page import MAX_SLOTS, RingPage, create_ring_memory
from nomaflow_host.supervisor.log_pump import LogPump
from nomaflow_host.supervisor.output_pipe import OutputPipe
from nomaflow_host.worker.signals import DUMP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nomaflow_host.supervisor.held_attempt import HeldAttempt
    from nomaflow_host.supervisor.serving_generation import ServingGeneration

_log = logging.getLogger("nomaflow.host")
_DUMP_BYTES = 256 * 1024


class KillNote(Struct, frozen=True, kw_only=True):
    """The reason why this host kills a worker.

    :param culprit: the attempt that caused it, None if none did
    :param why: explanation for its neighbours
    :param spoilt: True if code in the worker caused it, but it is unknown whose
    :param presumed: inferred from the end of its connection; if the worker turns out to have died by itself, that is
      reported instead
    """

    culprit: HeldAttempt | None
    why: str
    spoilt: bool = False
    presumed: bool = False


class WorkerHandle:
    """One worker: its connection, its ring and pipes, and the attempts in it.

    :param exclusive: True if it runs one attempt at a time
    :param on_frame: called with each of its frames
    :param on_pause: called after all frames that arrived together
    :param on_nonsense: called when it has closed its connection, broken the protocol or damaged its ring
    :ivar child_fds: the worker's ends of its pipes, connection and ring, for the order to start it
    :raises OSError: if this process may open no further files
    """

    def __init__(
        self,
        *,
        number: int,
        generation: ServingGeneration,
        exclusive: bool,
        may_read: Callable[[], bool],
        on_frame: Callable[[WorkerHandle, Frame], None],
        on_pause: Callable[[], None],
        on_nonsense: Callable[[WorkerHandle, FrameError | None], None],
        tell_reaper: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.number = number
        self.generation = generation
        self.exclusive = exclusive
        self.pid = 0
        self.spawned = False
        self.attempts: dict[int, HeldAttempt] = {}
        self.masker = WorkerMasker(generation.secrets)
        self.checks: dict[int, asyncio.Future[bytes | None]] = {}
        """The checks of values in it that wait for an answer, by number."""
        self.looks: dict[int, asyncio.Future[list[Any]]] = {}
        """The questions for its stacks that wait for an answer, by number."""
        self.ready = False
        self.closed = False
        self.tainted = False
        self.kill_note: KillNote | None = None
        self.shutdown: asyncio.TimerHandle | None = None
        """Kills it once the time to shut down is over; None if it was not told to."""
        self.steps = 0
        self.first_rss = 0
        self.made = self.idle_since = time.monotonic()
        self.started_at_us = time.time_ns() // 1000
        self.blocked_since = 0.0
        self.dump_asked = False
        self.next_dump = 0.0
        self._next_slot = 0
        self._tell_reaper = tell_reaper
        self.page, (here, doorbell, room, out, err, self.dump_fd), self.child_fds = _opened()
        pipes = (
            OutputPipe(fd=out, name="stdout", take=self._printed, masker=self.masker),
            OutputPipe(fd=err, name="stderr", take=self._printed, masker=self.masker),
        )
        self.pump = LogPump(
            page=self.page, doorbell=doorbell, room=room, pipes=pipes, take=self._records, may_read=may_read,
            before_output=lambda: self.link.read(),
            on_damage=lambda: on_nonsense(self, FrameError("the memory that its log goes through is damaged")),
        )  # fmt: skip
        self.link = AsyncLink(
            link=PackedFrameSocket(socket.socket(fileno=here)),
            loop=asyncio.get_running_loop(),
            on_frame=lambda frame: on_frame(self, frame),
            on_pause=on_pause,
            on_end=lambda error: on_nonsense(self, error),
        )

    def kill(
        self, why: str, *, culprit: HeldAttempt | None = None, spoilt: bool = False, presumed: bool = False
    ) -> None:
        """Have its process tree killed, give it no more work, and note why, unless that is noted. See `KillNote`."""
        self.closed = True
        if self.kill_note is None:
            self.kill_note = KillNote(culprit=culprit, why=why, spoilt=spoilt, presumed=presumed)
        self.kill_tree()

    def kill_tree(self) -> None:
        """Have its process tree killed."""
        self._tell_reaper({"is": "kill_tree", "worker": self.number})

    def signal(self, signum: int) -> None:
        """Have the reaper send it a signal."""
        self._tell_reaper({"is": "signal", "worker": self.number, "signum": int(signum)})

    def signal_children(self, signum: int) -> None:
        """Have the reaper send a signal to its child processes."""
        self._tell_reaper({"is": "signal_children", "worker": self.number, "signum": int(signum)})

    def dump_stacks(self) -> None:
        """Have it write its stacks to `dump_fd`; a handler in C does so, even if the interpreter is blocked."""
        os.ftruncate(self.dump_fd, 0)
        os.lseek(self.dump_fd, 0, os.SEEK_SET)
        self.signal(DUMP)

    def dump(self) -> str:
        """Return what it has written to `dump_fd`."""
        return os.pread(self.dump_fd, _DUMP_BYTES, 0).decode("utf-8", "replace") if self.dump_fd >= 0 else ""

    def put_in(self, attempt: HeldAttempt) -> int:
        """Give an attempt a slot and return it."""
        while self._next_slot in self.attempts:
            self._next_slot = (self._next_slot + 1) % MAX_SLOTS
        slot = self._next_slot
        self._next_slot = (slot + 1) % MAX_SLOTS
        self.attempts[slot] = attempt
        self.page.cancelled[slot] = 0
        self.steps += 1
        return slot

    def take_out(self, slot: int) -> None:
        """Free an attempt's slot."""
        self.attempts.pop(slot, None)
        self.masker.leave(slot)
        self.idle_since = time.monotonic()

    def close(self) -> None:
        """Close everything and leave its checks unanswered. May be called twice."""
        for waiting in self.checks.values():
            if not waiting.done():
                waiting.set_result(None)
        self.checks.clear()
        if self.shutdown is not None:
            self.shutdown.cancel()
        self.link.close()
        self.pump.close()
        if self.dump_fd >= 0:
            os.close(self.dump_fd)
            self.dump_fd = -1

    def _records(self, records: list[bytes]) -> None:
        """Distribute ring records to the attempts of their slots."""
        by_slot: dict[bytes, list[bytes]] = {}
        for record in records:
            by_slot.setdefault(record[:3], []).append(record[3:])
        for digits, lines in by_slot.items():
            attempt = self.attempts.get(int(digits)) if digits.isdigit() else None
            if attempt is not None:
                attempt.log.add(lines)

    def _printed(self, pieces: list[tuple[str, int]], pipe: OutputPipe) -> None:
        """Give output from a pipe to the only attempt, or, marked, to each of several."""
        attempts = list(self.attempts.values())
        if not attempts:
            for text, _ in pieces:
                _log.info("worker %d, outside any step: %s", self.pid, text[:1000])
            return
        lines = pipe.encode(pieces, SHARED if len(attempts) > 1 else 0)
        for attempt in attempts:
            attempt.log.add(lines)


def _opened() -> tuple[RingPage, tuple[int, ...], tuple[int, ...]]:
    """Open a worker's connection, ring and pipes; return the ring, the host's ends and the worker's ends.

    :raises OSError: if not all of them can be opened: then none is
    """
    flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
    opened: list[int] = []
    try:
        opened += (each.detach() for each in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))
        opened += [create_ring_memory()]
        opened += (os.eventfd(0, flags) for _ in range(2))
        opened += os.pipe()
        opened += os.pipe()
        opened += [os.memfd_create("nomaflow-stacks", os.MFD_CLOEXEC)]
        here, there, ring, doorbell, room, out, out_end, err, err_end, dump = opened
        opened += map(os.dup, (doorbell, room, dump))
        page = RingPage(ring)
    except OSError:
        for fd in opened:
            os.close(fd)
        raise
    for fd in (out, err):
        os.set_blocking(fd, False)  # the standard library's own signature
    return page, (here, doorbell, room, out, err, dump), (out_end, err_end, there, ring, *opened[10:])
