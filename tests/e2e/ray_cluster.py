"""A Ray cluster of one machine, made for a test: real daemons, on loopback ports and in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from machine_parts import need
from real_system import eventually, free_ports

__all__ = ["RayCluster", "ray_cluster"]

_PORTS = (
    "port", "node-manager-port", "object-manager-port", "runtime-env-agent-port", "dashboard-agent-grpc-port",
    "dashboard-agent-listen-port", "metrics-export-port", "dashboard-port", "ray-client-server-port",
)  # fmt: skip
_WORKER_PORTS = 40
_ACTORS = """
import json, sys, ray
ray.init(address=sys.argv[1], namespace="nomaflow", log_to_driver=False, logging_level="ERROR")
for line in sys.stdin:
    names = ray.util.list_named_actors()
    if line.strip():
        ray.kill(ray.get_actor(line.strip()))
    print("=" + json.dumps(names), flush=True)
"""


class RayCluster:
    """A cluster with four cores, on paper, and no GPU.

    :param root: a short folder, for its sockets
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # Ray's own words for a cluster on loopback: otherwise it listens on every interface.
        self.environ = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
        self.port = free_ports(len(_PORTS) + _WORKER_PORTS)
        self.address = f"127.0.0.1:{self.port}"
        self.client_address = f"ray://127.0.0.1:{self.port + _PORTS.index('ray-client-server-port')}"
        self.log = root / "ray.log"
        self._head: subprocess.Popen[bytes] | None = None
        self._asker: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the daemons and a driver, and wait until actors can be listed."""
        ports = [f"--{name}={self.port + number}" for number, name in enumerate(_PORTS)]
        first = self.port + len(_PORTS)
        command = [
            *(sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--head", "--block", *ports),
            *(f"--min-worker-port={first}", f"--max-worker-port={first + _WORKER_PORTS - 1}"),
            *("--node-ip-address=127.0.0.1", f"--temp-dir={self.root}", "--include-dashboard=false"),
            *(
                "--include-log-monitor=false",
                "--num-cpus=4",
                f"--memory={16 << 30}",
                f"--object-store-memory={80 << 20}",
            ),
        ]
        with open(self.log, "wb") as out:
            self._head = subprocess.Popen(
                command, env=self.environ, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        eventually(lambda: "Ray runtime started" in self.log.read_text("utf-8"), seconds=120)
        asker = [sys.executable, "-P", "-c", _ACTORS, self.address]
        self._asker = subprocess.Popen(
            asker, env=self.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.actors() == []

    def actors(self, kill: str = "") -> list[str]:
        """Return the names of the launchers' actors.

        :param kill: one to end by ``ray.kill``
        """
        assert self._asker is not None
        assert self._asker.stdin is not None
        assert self._asker.stdout is not None
        self._asker.stdin.write(f"{kill}\n")
        self._asker.stdin.flush()
        answer = next(line for line in self._asker.stdout if line.startswith("="))
        names: list[str] = json.loads(answer[1:])
        return names

    def empty(self) -> None:
        """End every actor, and wait until none is left."""
        if self._head is None:
            return
        for name in self.actors():
            self.actors(kill=name)
        eventually(lambda: self.actors() == [])

    def stop(self) -> None:
        """End what was started, without a word to it."""
        if self._asker is not None:
            self._asker.kill()
            self._asker.communicate()
            self._asker = None
        if self._head is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._head.pid, signal.SIGKILL)
            self._head.wait(10)
            self._head = None


@contextlib.contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Run a cluster; leave the test out where Ray is not installed."""
    need(extra="ray")
    made = RayCluster(Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp")))
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.root, ignore_errors=True)
