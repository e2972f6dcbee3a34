"""A kernel that knows the jobs of a host without an instance, and launchers that start its instances on an engine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from team_system import TeamSystem

from doors import doors_of
from real_system import Running

__all__ = ["BOXED", "LaunchedSystem"]

BOXED = """
[[jobs]]
id = "boxed"
overlap = "allow"
isolation = "instance"
steps = [{ name = "it's 100% | own/box", callable = "stopping.sync_steps:lives_for" }]
"""
"""A job whose step wants an instance of its own, and has a name that engines have to be told with care."""
_ON_TCP = ("--address", "unix:,127.0.0.1:0")


@dataclass(kw_only=True)
class LaunchedSystem(TeamSystem):
    """A kernel, the project of the host ``team``, and launchers.

    :param on_tcp: whether the kernel has doors on TCP too, and launchers come there, with a token
    """

    kernel_flags: Sequence[str] = ("--heartbeat-seconds", "0.3", "--lease-seconds", "3")
    on_tcp: bool = False

    def begin(self, more_jobs: str = "") -> None:
        """Start the kernel, and have it know the hostile jobs and those given."""
        self.start_kernel(*(_ON_TCP if self.on_tcp else ()))
        with open(self.project("team") / "jobs.toml", "a", encoding="utf-8") as jobs:
            jobs.write(more_jobs)
        assert self.start_host("team").stop() == 0
        (self.root / "scratch").mkdir()

    def launcher(
        self,
        environ: Mapping[str, str],
        *,
        name: str = "launcher",
        more: str = "",
        host: Sequence[str] = ("cancel_grace_seconds = 1",),
        **keys: object,
    ) -> Running:
        """Start a launcher.

        :param environ: that of its process
        :param more: lines after those of ``[launcher]``
        :param host: lines of ``[host]``
        :param keys: of ``[launcher]``
        """
        section: dict[str, object] = {
            "hosts": ["team"],
            "scratch": str(self.root / "scratch"),
            "max_instances": 2,
            "poll_seconds": 0.5,
            "idle_exit_seconds": 3,
            "start_seconds": 60,
            **self._place(),
            **keys,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in section.items()]
        project = self.root / "team"
        kernel = [] if self.on_tcp else [f'kernel = "{self.kernel_address}"']  # else their join strings name it
        text = "\n".join(["[host]", "drain_seconds = 2", *kernel, *host, "[launcher]", *lines, more, ""])
        (project / "nomaflow.toml").write_text(text, "utf-8")
        command = [sys.executable, "-P", "-m", "nomaflow_launchers", "--project", str(project)]
        log = self.root / f"{name}.log"
        with open(log, "ab") as out:
            process = subprocess.Popen(command, env={**environ}, stdout=out, stderr=subprocess.STDOUT)
        self.parts[name] = Running(project=project, process=process, log_file=log)
        return self.parts[name]

    def _place(self) -> Mapping[str, str]:
        """Return how a launcher reaches the kernel: as its owner, or on TCP with a token for the host alone."""
        if not self.on_tcp:
            return {"kernel": self.kernel_address}
        doors = doors_of(self.kernel)
        token, ca = self.root / "token", self.root / "ca.pem"
        if not token.exists():
            token.touch(mode=0o600)
            made = self.api.create_token("starter", kind="service", roles=["launcher host:team"])
            token.write_text(made.secret)
            ca.write_bytes(doors.authorities)
        return {"kernel": f"tls://{doors.clients}", "token_file": str(token), "kernel_ca": str(ca)}
