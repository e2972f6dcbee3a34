"""Loads a generation: a template is started, imports the plugins and reports the manifest."""

from __future__ import annotations

import asyncio
import os
import re
import time
from typing import TYPE_CHECKING, Any

from nomaflow_host.channel.async_link import AsyncLink
from nomaflow_host.channel.frames import Frame, FrameError, frame_pair
from nomaflow_host.supervisor.outcomes import said_of_exit
from nomaflow_host.supervisor.output_pipe import TailPipe
from nomaflow_host.supervisor.values import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nomaflow_host.attempt.masking import Masker
    from nomaflow_host.generation.spec import ProjectSpec

_IMPORTING = r'  File "(?:<frozen importlib|[^"\n]*/importlib/__init__\.py)[^\n]*", line \d+ in [^\n]*\n'
_NOMAFLOW = r'  File "[^"\n]*/nomaflow_host/[^"\n]*", line \d+ in [^\n]*\n(?:  File [^\n]*\n)*'
_INTERNALS = re.compile(f"(?m)^(?:{_IMPORTING}|{_NOMAFLOW})")


class LoadFailed(Exception):
    """Raised when a template fails before its manifest is made. The text says why, with its last output."""


class TemplateHandle:
    """A template as its host's main process sees it. It is started here, and sent the specification to load.

    :param tell_reaper: sends the reaper a command, with descriptors
    :param masker: masks the credentials of the load in its output
    :param environ: its variables
    :raises OSError: if this process may open no further files
    """

    def __init__(
        self,
        *,
        number: int,
        tell_reaper: Callable[[Mapping[str, Any], Sequence[int]], None],
        masker: Masker,
        spec: ProjectSpec,
        environ: Mapping[str, str],
        load_seconds: float,
    ) -> None:
        self.number = number
        self.exited = asyncio.Event()
        self._loop = loop = asyncio.get_running_loop()
        self._tell_reaper = tell_reaper
        self._masker = masker
        self._answer: asyncio.Future[Mapping[str, Any]] = loop.create_future()
        here, there = frame_pair()
        try:
            reading, writing = os.pipe()
        except OSError:
            here.close()
            there.close()
            raise
        os.set_blocking(reading, False)  # the standard library's own signature
        self._output = TailPipe(reading)
        loop.add_reader(reading, self._read_output)
        self._link = AsyncLink(link=here, loop=loop, on_frame=self._take, on_end=self._ended)
        message = {"is": "start_template", "template": number, "environ": dict(environ)}
        tell_reaper(message, (there.detach(), writing))
        stuck_at = time.monotonic() + load_seconds * 0.75
        self._link.send({"is": "bootstrap", "spec": spec.to_json(), "stuck_at": stuck_at})

    async def loaded(self, seconds: float) -> Mapping[str, Any]:
        """Wait for its message that it is ready, with its manifest.

        :raises LoadFailed: if it ends, or takes longer than *seconds*
        :raises Refused: if the host stops
        """
        try:
            return await asyncio.wait_for(asyncio.shield(self._answer), seconds)
        except TimeoutError:
            raise LoadFailed(
                f"the imports did not finish within {seconds:g} s "
                "(look for an endless loop or a wait at a module's top level)"
            ) from None

    @property
    def output_tail(self) -> str:
        """The last 4 KiB of its output, without the frames of Nomaflow and of the import system in a dump."""
        return _INTERNALS.sub("", self._masker.text(self._output.text))

    def ended(self, message: Mapping[str, Any]) -> None:
        """Record its exit, which the reaper reports."""
        for _ in range(4):
            if not self._output.read():
                break
        if not self._answer.done():
            said = message.get("error") or said_of_exit(message.get("signal"), message.get("code"))
            self._answer.set_exception(LoadFailed(f"the process that imports the plugins died: {said}"))
            self._answer.exception()  # marks the error as retrieved, in case nobody waits for it any more
        self.exited.set()

    def give_up(self) -> None:
        """End the wait for its manifest, since the host stops. What comes of it later is no news."""
        if not self._answer.done():
            self._answer.set_exception(Refused("host_draining", "the host is stopping"))
            self._answer.exception()  # as above

    def stop(self) -> None:
        """Make the reaper kill it."""
        self._tell_reaper({"is": "stop_template", "template": self.number}, ())

    def close(self) -> None:
        """Close its connection and pipe."""
        self._link.close()
        self._loop.remove_reader(self._output.fd)
        self._output.close()

    def _take(self, frame: Frame) -> None:
        if not self._answer.done():
            self._answer.set_result(frame.message)

    def _ended(self, error: FrameError | None) -> None:
        """Handle the end of its connection; the reaper will report the exit. Invalid frames come from plugin code."""
        if error is not None:
            self.stop()

    def _read_output(self) -> None:
        self._output.read()
        if self._output.ended:
            self._loop.remove_reader(self._output.fd)
