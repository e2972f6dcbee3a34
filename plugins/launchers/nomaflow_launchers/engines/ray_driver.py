"""A process between launcher and Ray: one request a line on standard input, one answer a line on standard output.

A driver of Ray ends its process when it loses the cluster, blocks for minutes when it finds none, and writes logs from
C++. All of that is this process's; the launcher ends it and starts another one.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import ActorDiedError, RayError

from nomaflow_launchers.engines import ray_pilot

_NAMESPACE = "nomaflow"
_MARK = "nomaflow"
_CONNECT_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_ASIDE = 2  # calls of an actor at once: the one that waits for its host, and a question


class Driver:
    """The actors of our namespace, of all launchers that use the cluster."""

    def __init__(self) -> None:
        self._door = ""
        self._asked: dict[str, Any] = {}
        self._since: dict[str, float] = {}
        self._killed: set[str] = set()

    def connect(self, address: str) -> None:
        """Connect to a cluster that runs.

        :param address: ``HOST:PORT``, ``ray://HOST:PORT``, or ``auto`` for the cluster of this machine
        """
        self._door = address.removeprefix("ray://")
        if address != "auto":
            self._knock()
        ray.init(address=address, namespace=_NAMESPACE, log_to_driver=False, logging_level="ERROR")
        if address == "auto":
            self._door = ray.get_runtime_context().gcs_address
        cloudpickle.register_pickle_by_value(ray_pilot)  # the machines need not have this package

    def listed(self, prefix: str) -> dict[str, Any]:
        """Return the actors whose names begin so, with the seconds that each has run, and what went wrong with others.

        An actor is asked once: its answer says that it runs. The question waits with one that has no machine yet.
        """
        self._knock()
        names = _names(prefix)
        for name in set(self._asked) - set(names):
            self._since.pop(name, None)
        asked = {name: ref for name, ref in self._asked.items() if name not in self._since}
        for name in names:
            if name not in self._asked and (actor := _actor(name)) is not None:
                asked[name] = self._asked[name] = actor.running_seconds.remote()
        if asked:
            ray.wait(list(asked.values()), num_returns=len(asked), timeout=_LOOK_SECONDS)
        troubles = []
        for name, ref in asked.items():
            try:
                if ray.wait([ref], timeout=0)[0]:
                    self._since[name] = time.monotonic() - ray.get(ref)
            except ActorDiedError as error:
                names = [each for each in names if each != name]
                if name not in self._killed:  # then it never began; the last line is that of the traceback
                    troubles.append(f"{name}: {str(error).strip().splitlines()[-1][:1000]}")
        self._asked = {name: ref for name, ref in self._asked.items() if name in names}
        self._killed &= set(names)
        now = time.monotonic()
        return {"actors": {name: now - self._since[name] if name in self._since else None for name in names},
                "troubles": troubles}  # fmt: skip

    def start(self, name: str, options: Mapping[str, Any], pilot: Mapping[str, Any]) -> None:
        """Start an actor that nothing starts again, and that outlives this process."""
        ray.remote(ray_pilot.Pilot).options(
            name=name, lifetime="detached", max_restarts=0, max_task_retries=0, max_concurrency=_ASIDE, **options
        ).remote(**pilot)
        actor = ray.get_actor(name)  # the cluster knows it now, whatever becomes of this process
        # Asked at once: one that fails loses its name before the next list.
        self._asked[name] = actor.running_seconds.remote()

    def end(self, suffix: str, only_waiting: bool) -> None:  # noqa: FBT001  # by name, from JSON
        """Kill the actor whose name ends so, if there is one."""
        for name in _names(f"{_MARK}/"):
            if name.endswith(suffix) and (actor := _actor(name)) is not None:
                ref = self._asked.get(name)
                if not (only_waiting and ref is not None and ray.wait([ref], timeout=0)[0]):
                    self._killed.add(name)
                    ray.kill(actor)

    def _knock(self) -> None:
        """See that somebody listens: Ray waits for minutes before it says that nobody does."""
        host, _, port = self._door.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        except OSError as error:
            raise ConnectionError(f"nobody answers at {self._door}: {error.strerror or error}") from None


def _names(prefix: str) -> list[str]:
    return [name for name in ray.util.list_named_actors() if name.startswith(prefix)]


def _actor(name: str) -> Any:
    try:
        return ray.get_actor(name)
    except ValueError:  # it has ended since it was listed
        return None


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what Ray prints is no answer
    driver = Driver()
    acts: Mapping[str, Callable[..., Any]] = {
        "connect": driver.connect, "listed": driver.listed, "start": driver.start, "end": driver.end,
    }  # fmt: skip
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"answer": acts[request.pop("act")](**request)}
        except (RayError, OSError, RuntimeError, ValueError) as error:
            answer = {"error": " ".join(str(error).split())[:1000] or type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
