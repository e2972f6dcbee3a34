"""The connection to the secrets process, which is started at the first reference for a plugin."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from nomaflow_host.channel.async_link import AsyncLink
from nomaflow_host.channel.frames import Frame, FrameError, frame_pair
from nomaflow_host.injection.reference_values import SecretUnavailable
from nomaflow_project.reading.regular_files import reason_of
from nomaflow_project.reading.sources import ReferenceMissing, SecretUnreadable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nomaflow_project.reading.sources import Reference

_ANSWER_SECONDS = 10.0
_START_SECONDS = 20.0


class SecretsLink:
    """Asks the secrets process for values. A process that died, or hangs, is replaced at the next question.

    The host's main process never imports a plugin. This process has its own for secrets, apart from templates and
    workers, because it has the host's whole environment, such as the token of a vault.
    """

    def __init__(self) -> None:
        self._process: _Process | None = None

    async def values(
        self, references: Collection[Reference], environ: Mapping[str, str]
    ) -> Mapping[Reference, str | ReferenceMissing]:
        """Return a value, or the reason why there is none, for each reference. Never raises.

        :param environ: the variables of the process; if they have changed, another one is started
        """
        try:
            process = self._running(dict(environ))
            limit = _ANSWER_SECONDS + (0 if process.ready else _START_SECONDS)
        except OSError as error:
            reason = f"the host's secrets process cannot be started: {reason_of(error)}"
            return {each: _unavailable(each, reason) for each in references}
        asked = {each: process.ask(each) for each in references}
        try:
            await asyncio.wait(asked.values(), timeout=limit)
        finally:  # the attempt may be over
            late = [each for each in asked.values() if not each.done()]
            if late:
                process.give_up(late, f"no answer within {limit:g} s")
        return {each: answer.result() for each, answer in asked.items()}

    def close(self) -> None:
        """End the process. May be called twice."""
        if self._process is not None:
            self._process.end("the host is stopping")
            self._process = None

    def _running(self, environ: dict[str, str]) -> _Process:
        process = self._process
        if process is not None and process.environ != environ:
            process.retire()
        if process is None or process.retired or process.ended:
            process = self._process = _Process(environ)
        return process


class _Process:
    """One secrets process.

    :raises OSError: if it cannot be started
    """

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ
        self.ready = False
        self.ended = False
        self.retired = False
        self._number = 0
        self._waiting: dict[int, tuple[Reference, asyncio.Future[str | ReferenceMissing]]] = {}
        self._loop = asyncio.get_running_loop()
        here, there = frame_pair()
        with there:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "nomaflow_host.secrets", str(there.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # what a plugin prints might be a secret
                stderr=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                env=environ,
                start_new_session=True,
            )
        self._link = AsyncLink(link=here, loop=self._loop, on_frame=self._take, on_end=self._closed)

    def ask(self, reference: Reference) -> asyncio.Future[str | ReferenceMissing]:
        """Return a future of the answer; `end` answers all that are open."""
        self._number += 1
        answer: asyncio.Future[str | ReferenceMissing] = self._loop.create_future()
        self._waiting[self._number] = (reference, answer)
        self._link.send({"is": "read", "number": self._number, "scheme": reference.scheme, "rest": reference.rest})
        return answer

    def give_up(self, late: Collection[asyncio.Future[str | ReferenceMissing]], why: str) -> None:
        """Answer late questions; a reader hangs, so the process ends as soon as it has answered the others."""
        for number, (reference, answer) in list(self._waiting.items()):
            if answer in late:
                del self._waiting[number]
                answer.set_result(_unavailable(reference, why))
        self.retire()

    def retire(self) -> None:
        """End it once it has answered what it was asked: those who have asked wait for that."""
        self.retired = True
        if not self._waiting:
            self.end("another process has taken its place")

    def end(self, why: str) -> None:
        """Kill it, and answer everybody who waits. May be called twice."""
        self.ended = True
        self._link.close()
        self._popen.kill()
        self._popen.wait()
        waiting, self._waiting = self._waiting, {}
        for reference, answer in waiting.values():
            if not answer.done():
                answer.set_result(_unavailable(reference, why))

    def _take(self, frame: Frame) -> None:
        message = frame.message
        if message["is"] == "ready":
            self.ready = True
            return
        asked = self._waiting.pop(message["number"], None)  # None: it was given up, and has an answer
        if asked is not None and not asked[1].done():
            self._answer(*asked, message)
        if self.retired:
            self.retire()

    def _answer(
        self, reference: Reference, answer: asyncio.Future[str | ReferenceMissing], message: Mapping[str, Any]
    ) -> None:
        if "value" in message:
            answer.set_result(str(message["value"]))
        elif message["retry"]:
            answer.set_result(_unavailable(reference, message["problem"]))
        else:
            fix = f"correct the reference or the plugin; write $${{{reference.scheme}:…}} for a literal text"
            answer.set_result(SecretUnreadable(f"{reference.shown} has no value: {message['problem']}", fix=fix))

    def _closed(self, error: FrameError | None) -> None:
        self.end("the host's secrets process has died" if error is None else f"it sent an invalid message: {error}")


def _unavailable(reference: Reference, why: str) -> SecretUnavailable:
    fix = "another attempt may succeed; check the service that has it"
    return SecretUnavailable(f"{reference.shown} is not available: {why}", fix=fix)
