"""A Slurm cluster of one machine, made for a test: real daemons, on loopback ports and a socket of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from machine_parts import need
from real_system import eventually, free_ports

__all__ = ["SlurmCluster", "slurm_cluster"]

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/run/munge
SlurmctldPort={control}
SlurmdPort={daemon}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=urgent Nodes={host} PriorityTier=10 MaxTime=INFINITE State=UP
"""


class SlurmCluster:
    """A cluster with eight cores, on paper, and no GPU.

    :param root: a folder that everybody may search, since munge asks for that
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ = {**os.environ, "SLURM_CONF": str(root / "slurm.conf")}
        self.node = socket.gethostname().partition(".")[0]
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start munge, the controller and the machine's daemon, and wait until jobs can be submitted."""
        for name in ("state", "spool", "run", "munge"):
            (self.root / name).mkdir()
        (self.root / "munge").chmod(0o700)
        key = self.root / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        port = free_ports(2)
        conf = _CONF.format(host=self.node, root=self.root, control=port, daemon=port + 1)
        (self.root / "slurm.conf").write_text(conf, "utf-8")
        (self.root / "cgroup.conf").write_text("CgroupPlugin=disabled\n", "utf-8")  # a container may have none
        munge = self.root / "munge"
        self._start(
            "munged", "--foreground", f"--socket={self.root}/run/munge", f"--key-file={key}",
            f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        eventually((self.root / "run" / "munge").exists)
        self.start_daemon("slurmctld")
        self.start_daemon("slurmd")
        eventually(lambda: self.run("sinfo", "--noheader", "--format=%T").split()[:1] in (["idle"], ["mixed"]))

    def start_daemon(self, name: str) -> None:
        """Start the controller ``slurmctld``, or the machine's daemon ``slurmd``."""
        self._start(name, "-D", *(("-N", self.node) if name == "slurmd" else ()))

    def kill_daemon(self, name: str) -> None:
        """Kill a daemon; jobs go on. A controller forgets what it has not saved, and begins jobs again that run."""
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def stop_controller(self) -> None:
        """Stop the controller as its service manager does: it saves its state. Jobs go on."""
        daemon = self._daemons.pop("slurmctld")
        daemon.terminate()
        daemon.wait(60)

    def spoil(self, folder: Path, **scripts: str) -> Mapping[str, str]:
        """Return an environment whose commands of Slurm are shell scripts; ``{real}`` in one is the real command."""
        folder.mkdir()
        for name, script in scripts.items():
            command = folder / name
            command.write_text(script.replace("{real}", shutil.which(name) or name))
            command.chmod(0o755)
        return {**self.environ, "PATH": f"{folder}:{self.environ['PATH']}"}

    def run(self, *command: str) -> str:
        """Return what a command of Slurm prints."""
        ended = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False, timeout=240)
        return ended.stdout

    def queue(self) -> list[str]:
        """Return the ids of the jobs that wait or run."""
        return self.run("squeue", "--noheader", "--format=%i").split()

    def submitted(self) -> int:
        """Return how many jobs there have been."""
        return int(self.run("scontrol", "show", "config").partition("NEXT_JOB_ID")[2].split()[1]) - 1

    def empty(self) -> None:
        """End every job, and wait until none is left."""
        for job in self.queue():
            self.run("scancel", job)
        eventually(lambda: self.queue() == [])

    def stop(self) -> None:
        """End every job, and the daemons."""
        if len(self._daemons) == 3:
            self.empty()
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait(10)

    def _start(self, *command: str) -> None:
        with open(self.root / f"{command[0]}.out", "ab") as out:
            made = subprocess.Popen(command, env=self.environ, stdout=out, stderr=subprocess.STDOUT)
        self._daemons[command[0]] = made


@contextlib.contextmanager
def slurm_cluster() -> Iterator[SlurmCluster]:
    """Run a cluster; leave the test out where Slurm is not installed, or the user is not root."""
    need("slurmctld", "slurmd", "munged", root=True)
    root = Path(tempfile.mkdtemp(prefix="sl-", dir="/tmp"))  # short, for its socket, and searchable
    root.chmod(0o755)
    made = SlurmCluster(root)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(root, ignore_errors=True)
