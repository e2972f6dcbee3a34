"""Ray: each instance is the child of an actor, which is detached and which Ray is told never to start again.

The actor's name holds the kernel's history, the host, the shape and the attempt that it is for, if any: the next
launcher can read from the cluster what was started.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from nomaflow_cli.up import tether
from nomaflow_launchers.engines.engine import JOB_LABEL, EngineError
from nomaflow_launchers.engines.host_process import InstanceLogs, host_command, keep_join_string, passed_on
from nomaflow_launchers.planning import Launched, Order
from nomaflow_project.models.launcher_section import LauncherSection, LauncherShape

_LOG = logging.getLogger(__name__)
_MARK = "nomaflow"
_CONNECT_SECONDS = 60.0
_ANSWER_SECONDS = 20.0
_CLOSE_SECONDS = 10.0
_LONGEST_LINE = 1 << 24
_MIB = 1 << 20


class Ray:
    """The actors of one launcher, an :class:`~nomaflow_launchers.engines.engine.Engine`."""

    def __init__(self, section: LauncherSection, *, project: Path, environ: Mapping[str, str]) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        self._section = section
        self._project = project
        self._logs = InstanceLogs(project, longest_seconds=section.walltime_seconds)
        self._environ = environ
        self._tether = Path(tether.__file__).read_text("utf-8")
        self._driver: _Driver | None = None

    async def listed(self, store_id: str) -> Sequence[Launched]:
        """Return the instances of that history that wait for a machine or run.

        :raises EngineError: if the cluster does not answer
        """
        found = await self._ask("listed", prefix=f"{_MARK}/{store_id}/")
        for text in found["troubles"]:
            _LOG.warning("an actor could not start its instance: %s", text)
        launched = []
        for name, seconds in found["actors"].items():
            _, _, host, shape, attempt_key, engine_id = name.split("/")
            launched.append(
                Launched(
                    engine_id=engine_id,
                    host=host,
                    shape=shape,
                    running_seconds=seconds,
                    attempt_key=unquote(attempt_key),
                )
            )
        return launched

    async def start(self, order: Order) -> str:
        """Start an actor, which starts the instance on whatever machine has the shape's resources.

        :raises EngineError: if Ray refuses it
        """
        engine_id = uuid.uuid4().hex[:12]
        await self._logs.prepare()
        labels = {**order.shape.labels, JOB_LABEL: engine_id}
        command = [
            *host_command(self._section, project=self._project, order=order),
            *("--labels", ",".join(f"{name}={value}" for name, value in labels.items())),
            *("--ends-at", f"+{self._section.walltime_seconds:g}"),
        ]
        pilot = {
            "command": command,
            "tether": self._tether,
            "environ": passed_on(self._section, self._environ),
            "scratch": self._section.scratch,
            "name": engine_id,
            "log": self.log_of(engine_id),
            "join": str(keep_join_string(self._project, order.join)) if order.join else "",
        }
        names = [_MARK, order.store_id, order.host, order.shape.name, quote(order.attempt_key, safe=""), engine_id]
        await self._ask("start", name="/".join(names), options=_options(order.shape), pilot=pilot)
        return engine_id

    async def end(self, engine_id: str, *, only_waiting: bool) -> None:
        """End an instance by killing its actor; the host drains.

        :param only_waiting: leave it alone if it has got a machine meanwhile
        :raises EngineError: if the cluster does not answer
        """
        await self._ask("end", suffix=f"/{engine_id}", only_waiting=only_waiting)

    async def witness(self, engine_id: str, labels: Mapping[str, str]) -> str:  # the port's
        """Return nothing: that an actor has died says nothing about the processes on its machine."""
        del engine_id, labels
        return ""

    def log_of(self, engine_id: str) -> str:
        """Return the path of an instance's log."""
        return str(self._logs.path(engine_id))

    async def aclose(self) -> None:
        """Leave the cluster."""
        if self._driver is not None:
            await self._driver.close()

    async def _ask(self, act: str, **arguments: Any) -> Any:
        fresh = self._driver is None
        driver = self._driver = self._driver or await _Driver.start(self._environ)
        try:
            if fresh:
                await driver.ask("connect", address=self._section.ray_address or "auto")
            return await driver.ask(act, **arguments)
        except EngineError:
            self._driver = None  # the next question begins anew
            await driver.kill()
            raise


class _Driver:
    """The process that talks to Ray."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._last_line = ""
        self._listener = asyncio.get_running_loop().create_task(self._listen())

    @classmethod
    async def start(cls, environ: Mapping[str, str]) -> _Driver:
        """Start the process; it gets no token of ours, and ends with this one."""
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", tether.__file__, str(os.getpid())),
                *(sys.executable, "-P", "-m", "nomaflow_launchers.engines.ray_driver"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={name: value for name, value in environ.items() if not name.startswith("NOMAFLOW_")},
                limit=_LONGEST_LINE,
            )
        )

    async def ask(self, act: str, **arguments: Any) -> Any:
        """Return the answer to a request.

        :raises EngineError: if it is an error, or none comes
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        most = _CONNECT_SECONDS if act == "connect" else _ANSWER_SECONDS
        try:
            async with asyncio.timeout(most):
                self._process.stdin.write(json.dumps({"act": act, **arguments}).encode() + b"\n")
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
                if not line:
                    await self._listener
        except TimeoutError:
            raise EngineError(f"Ray has not answered for {most:g} s") from None
        except ConnectionError:
            line = b""
        if not line:
            raise EngineError(f"the connection to Ray has ended: {self._last_line or 'without a word'}")
        answer = json.loads(line)
        if "error" in answer:
            raise EngineError(f"Ray: {answer['error']}")
        return answer["answer"]

    async def close(self) -> None:
        """End the process: it is asked to, and then killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._listener

    async def _listen(self) -> None:
        """Keep what Ray writes out of the launcher's log, and remember the last line for an error."""
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            if text := line.decode(errors="replace").strip():
                self._last_line = text[:500]
                _LOG.debug("Ray writes: %s", text)


def _options(shape: LauncherShape) -> dict[str, Any]:
    """Return what Ray places an actor by; further options are amounts of the cluster's own resources.

    :raises EngineError: if an option is none
    """
    try:
        own = {name: float(amount) for name, amount in (option.split("=", 1) for option in shape.options)}
    except ValueError:
        text = f"the options {list(shape.options)!r} of shape {shape.name!r} are no resources of Ray; write NAME=AMOUNT"
        raise EngineError(text) from None
    return {"num_cpus": shape.cpu, "memory": shape.memory_mb * _MIB, "num_gpus": shape.gpus, "resources": own}
