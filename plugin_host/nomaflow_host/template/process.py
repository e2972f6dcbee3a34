"""The template's process: one thread, no event loop, never gRPC."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import select
import socket
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from nomaflow_host.channel.frames import Frame, FrameSocket, first_frames
from nomaflow_host.generation.generation import Generation, load_generation
from nomaflow_host.generation.spec import ProjectSpec
from nomaflow_host.reaper.proc import die_with_parent
from nomaflow_host.reaper.spawning import FIRST_FD
from nomaflow_host.template.forking import fork_to_reaper, unforkable
from nomaflow_host.worker.emitter import write_all
from nomaflow_host.worker.process import WorkerChannels, prepare_for_plugins, run_worker
from nomaflow_host.worker.source_snapshot import keep_no_fresh_bytecode, read_sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_SIGKILL = 9


class Template:
    """One loaded generation, and the connections of its process.

    :param control: the connection to the host's main process
    :param reaper: the connection to the parent of this process
    """

    def __init__(self, *, control: FrameSocket, reaper: FrameSocket) -> None:
        self._control = control
        self._reaper = reaper
        self._generation: Generation | None = None

    def run(self) -> None:
        """Load the specification from the main process, then fork workers until either connection ends."""
        self._load(first_frames(self._control)[0].message)
        while not self._reaper.ended and not self._control.ended:
            select.select([self._reaper, self._control], [], [])
            self._control.receive()
            for frame in self._reaper.receive():
                self._fork(frame)

    def _load(self, bootstrap: dict[str, Any]) -> None:
        spec = ProjectSpec.from_json(bootstrap["spec"])
        # Shows where an endless import is, shortly before its time is up; that began before this process did.
        faulthandler.enable()
        faulthandler.dump_traceback_later(max(0.1, bootstrap["stuck_at"] - time.monotonic()))
        with _exits_shown():
            self._generation = load_generation(spec)
        faulthandler.cancel_dump_traceback_later()
        reason = unforkable()
        sys.stdout.flush()
        gc.collect()
        gc.freeze()
        self._control.send(
            {
                "is": "ready",
                "manifest": self._generation.manifest(),
                "unforkable_reason": reason,
                "sources": read_sources(spec.plugin_dirs),
            }
        )
        self._control.flush_all()

    def _fork(self, frame: Frame) -> None:
        out, err, *channels = frame.fds
        try:
            pid = fork_to_reaper(keep=(out, err))
        except OSError as error:
            self._reaper.send({"is": "forked", "worker": frame.message["worker"], "error": str(error)})
            frame.close()
            return
        if pid == 0:
            self._become_worker(channels)
        frame.close()
        self._reaper.send({"is": "forked", "worker": frame.message["worker"], "pid": pid})
        self._reaper.flush_all()

    def _become_worker(self, channels: list[int]) -> NoReturn:
        try:
            self._control.close()
            self._reaper.close()
            run_worker(WorkerChannels(*channels), generation=self._generation)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            raise
        finally:
            os._exit(1)


@contextlib.contextmanager
def _exits_shown() -> Iterator[None]:
    """Make an import that calls ``os._exit`` write where, as a dump does. A process that it has forked may end so."""
    own, plain = os.getpid(), os._exit

    def leave(status: int) -> NoReturn:
        if os.getpid() == own:
            caller = sys._getframe(1)  # noqa: SLF001
            code, line = caller.f_code, caller.f_lineno
            write_all(2, f'  File "{code.co_filename}", line {line} in {code.co_name}\n'.encode())
        plain(status)

    os._exit = leave
    try:
        yield
    finally:
        os._exit = plain


def main() -> int:
    """Run a template on descriptors 3 and 4; return its exit code."""
    die_with_parent(_SIGKILL)
    control = FrameSocket(socket.socket(fileno=FIRST_FD))
    reaper = FrameSocket(socket.socket(fileno=FIRST_FD + 1), takes_fds=True)
    for fd in (FIRST_FD, FIRST_FD + 1):
        os.set_inheritable(fd, False)  # noqa: FBT003  # the standard library's own signature
    os.umask(0o077)
    prepare_for_plugins()
    keep_no_fresh_bytecode()
    Template(control=control, reaper=reaper).run()
    return 0
