"""The connection to the reaper, the host's only child process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from nomaflow_api.event_loop import happens_within
from nomaflow_host.channel.async_link import AsyncLink
from nomaflow_host.channel.frames import Frame, FrameError, frame_pair
from nomaflow_host.reaper.proc import ProcessIdentity, become_subreaper, kill_trees, own_children

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nomaflow_host.reaper.other_user import OtherUser
    from nomaflow_host.reaper.tree_limits import Limits

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
_STEADY_SECONDS = 10.0


class ReaperLink:
    """Starts the reaper by exec, never by a fork that runs Python, and talks to it.

    :param user: the user that templates and workers run as; None for the user of this process
    :param on_message: called with each of its messages
    :param on_end: called when it has ended unasked
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        limits: Limits,
        user: OtherUser | None,
        on_message: Callable[[dict[str, Any]], None],
        on_end: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._environ = environ
        self._limits = limits
        self._user = user
        self._on_message = on_message
        self._on_end = on_end
        self._ready: asyncio.Future[str] = self._loop.create_future()
        self._before = set(own_children())
        self._stopping = False
        self._dead = False
        self._made_at = self._loop.time()
        self.identity = ProcessIdentity(0, 0)

    async def start(self, on_started: Callable[[ProcessIdentity], None] | None = None) -> str:
        """Start it and return how limits are enforced, ``cgroup`` or ``sampling``.

        :param on_started: called with its identity before it starts anything
        :raises OSError: if it cannot be started, or has died since
        :raises TimeoutError: if it does not answer
        """
        become_subreaper()  # if the reaper dies, its children must be found
        here, there = frame_pair()
        with there:
            command = [sys.executable, "-P", "-m", "nomaflow_host.reaper", str(there.fileno())]
            # Popen's own fork runs no Python and, as a vfork, none of gRPC's handlers.
            self._process = subprocess.Popen(  # noqa: ASYNC220  # a vfork and exec, a millisecond once in a life
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                env=dict(self._environ),
                start_new_session=True,
            )
        self.identity = ProcessIdentity.of(self._process.pid)
        self._link = AsyncLink(link=here, loop=self._loop, on_frame=self._take, on_end=self._ended)
        try:
            if on_started is not None:
                on_started(self.identity)
            self.send({"is": "bootstrap", "limits": self._limits, "user": self._user})
            mechanism = await asyncio.wait_for(asyncio.shield(self._ready), _START_SECONDS)
            if self._dead:
                raise OSError("the reaper ended as soon as it was ready")
        except BaseException:
            self._abandon()
            raise
        return mechanism

    def _abandon(self) -> None:
        """End a reaper that does not serve yet: it has started nothing."""
        self._stopping = True
        self._ready.cancel()
        self._link.close()
        self._process.kill()
        self._process.wait()

    @property
    def steady(self) -> bool:
        """True once it has lived long enough that the next one is unlikely to die at once."""
        return self._loop.time() - self._made_at >= _STEADY_SECONDS

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Send it a command."""
        self._link.send(message, fds)

    def thaw(self) -> None:
        """Let it go on if something has frozen it, such as a step that stops its parent: it is to end that step."""
        self.identity.signal(signal.SIGCONT)

    async def stop(self) -> None:
        """Close the connection, so that the reaper kills everything below itself and exits; wait for that."""
        self._stopping = True
        self._link.close()
        await self._wait()
        become_subreaper(on=False)

    def bury(self) -> None:
        """Kill the children of a reaper that died, which are now children of this process."""
        self._link.close()
        self._process.wait()
        while pids := [pid for pid in own_children() if pid not in self._before]:
            kill_trees(map(ProcessIdentity.of, pids))
            for pid in pids:
                os.waitpid(pid, 0)

    async def _wait(self) -> None:
        ended = asyncio.Event()
        handle = os.pidfd_open(self._process.pid)
        self._loop.add_reader(handle, ended.set)
        try:
            if not await happens_within(ended, _STOP_SECONDS):
                self._process.kill()
                await ended.wait()
        finally:
            self._loop.remove_reader(handle)
            os.close(handle)
        self._process.wait()

    def _take(self, frame: Frame) -> None:
        message = frame.message
        if message["is"] == "ready":
            if not self._ready.done():
                self._ready.set_result(message["mechanism"])
        else:
            self._on_message(message)

    def _ended(self, error: FrameError | None) -> None:
        if not self._ready.done():
            self._ready.set_exception(error or OSError("the reaper ended before it was ready"))
        elif not self._stopping:
            self._dead = True
            self._on_end()
