"""Moves a worker's output to the logs of its attempts, a bounded amount at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from nomaflow_host.channel.ring.page import DATA_BYTES
from nomaflow_host.channel.ring.reader import RingReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from nomaflow_host.channel.ring.page import RingPage
    from nomaflow_host.supervisor.output_pipe import OutputPipe

_BUSY_SECONDS = 0.01
_HELD_BACK_SECONDS = 0.05
_TURN_BYTES = 256 * 1024


class LogPump:
    """Reads one worker's ring and pipes, from now on.

    :param doorbell: the eventfd with which the worker wakes this process; owned from now on
    :param room: the eventfd on which a worker with a full ring waits; owned from now on
    :param take: receives ring records, each three digits of slot and one line
    :param may_read: returns False while nothing more may be read
    :param before_output: called before output is read: a worker reports credentials before it prints them
    :param on_damage: called when code in the worker has overwritten its ring
    """

    def __init__(
        self,
        *,
        page: RingPage,
        doorbell: int,
        room: int,
        pipes: tuple[OutputPipe, ...],
        take: Callable[[list[bytes]], None],
        may_read: Callable[[], bool],
        before_output: Callable[[], object],
        on_damage: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._page = page
        self._reader = RingReader(page=page, room=room)
        self._doorbell = doorbell
        self._room = room
        self._pipes = pipes
        self._take = take
        self._may_read = may_read
        self._before_output = before_output
        self._on_damage = on_damage
        self._timer: asyncio.TimerHandle | None = None
        self._watched: set[int] = set()
        self._closed = False
        self._reader.arm()
        self._loop.add_reader(doorbell, self._rung)
        self._watch_pipes()

    def catch_up(self, *, over_cap: bool = False) -> bool:
        """Read everything written until now; return False if it may not be read yet.

        The amount is limited by the sizes of the ring and the pipes.

        :param over_cap: read even if `may_read` returns False
        """
        if self._closed:
            return True
        if not (over_cap or self._may_read()):
            self._poll_later(_HELD_BACK_SECONDS)
            return False
        for pipe in self._pipes:
            self._drain(pipe)
            pipe.finish_line()
        until = self._reader.tail
        for _ in range(2 * DATA_BYTES // _TURN_BYTES):
            if self._reader.position >= until:
                break
            self._take(self._reader.read(_TURN_BYTES))
        return True

    def close(self) -> None:
        """Stop listening and close every descriptor and the mapping."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._doorbell)
        for fd in self._watched:
            self._loop.remove_reader(fd)
        for pipe in self._pipes:
            pipe.close()
        os.close(self._doorbell)
        os.close(self._room)
        self._page.close()

    def _rung(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._doorbell)
        self._poll_later(_BUSY_SECONDS)

    def _poll_later(self, seconds: float) -> None:
        if self._timer is None and not self._closed:
            self._timer = self._loop.call_later(seconds, self._poll)

    def _poll(self) -> None:
        self._timer = None
        if not self._may_read():
            self._poll_later(_HELD_BACK_SECONDS)
            return
        self._watch_pipes()
        records = self._reader.read(_TURN_BYTES)
        if records:
            self._take(records)
        if self._reader.damaged:
            self._on_damage()
        elif records or not self._reader.arm():
            self._poll_later(_BUSY_SECONDS)

    def _watch_pipes(self) -> None:
        for pipe in self._pipes:
            if not pipe.ended and pipe.fd not in self._watched:
                self._watched.add(pipe.fd)
                self._loop.add_reader(pipe.fd, self._pipe_ready, pipe)

    def _pipe_ready(self, pipe: OutputPipe) -> None:
        self._before_output()
        if self._closed:
            return
        if self._may_read():
            pipe.read()
        if pipe.ended or not self._may_read():
            self._watched.discard(pipe.fd)
            self._loop.remove_reader(pipe.fd)
            self._poll_later(_HELD_BACK_SECONDS)

    def _drain(self, pipe: OutputPipe) -> None:
        """Read the contents of a pipe; more than its own size means that its writer is still writing."""
        for _ in range(4):
            if not pipe.read():
                return
