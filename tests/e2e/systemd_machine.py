"""A real systemd as process 1 of a small machine of its own: namespaces over this file system, and no other unit.

Its ``/run`` is empty at first, what it writes to ``/etc`` is gone with it, and everything in it dies with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine_parts import need
from processes import inner_pid, pids_below, process_name
from real_system import eventually

__all__ = ["SystemdMachine", "open_machine"]

_BOOT = """
set -e
mount --make-rprivate /
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /run/etc/upper /run/etc/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
mount -t tmpfs tmpfs /etc/systemd
mkdir /etc/systemd/system
for name in sysinit basic multi-user shutdown; do
  printf '[Unit]\\nDefaultDependencies=no\\n' > /etc/systemd/system/$name.target
done
exec env -i PATH="$PATH" SYSTEMD_UNIT_PATH=/etc/systemd/system container=nomaflow-test \\
  /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
"""
"""Only our own units can be found, so that nothing of this machine is started a second time."""


class SystemdMachine:
    """A machine that runs; see :func:`open_machine`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on it.

        :raises AssertionError: where it fails and *check* says so
        """
        inside = ["nsenter", "--target", str(self._pid), "--all", "--wd=/", "--", *command]
        done = subprocess.run(inside, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def nomaflow(self, *arguments: str) -> str:
        """Run our own command on it and return what it prints."""
        return self.run(sys.executable, "-P", "-m", "nomaflow_cli", *arguments).stdout

    def address(self, project: Path) -> str:
        """Return the address of a project's kernel, as seen from here."""
        path = (project / ".nomaflow" / "address").read_text().strip().removeprefix("unix:")
        return f"unix:/proc/{self._pid}/root{path}"

    def property(self, unit: str, name: str) -> str:
        """Return what systemd says of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def pid(self, unit: str) -> int:
        """Return the main process of a unit, in the numbers of this machine; 0 if it does not run."""
        inner = int(self.property(unit, "MainPID"))
        return next((pid for pid in pids_below(self._pid) if inner_pid(pid) == inner), 0) if inner else 0

    def drop_in(self, unit: str, *lines: str) -> None:
        """Say more about a unit, as ``systemctl edit`` does."""
        text = "\n".join(["[Service]", *lines, ""])
        folder = f"/etc/systemd/system/{unit}.d"
        self.run("sh", "-c", 'mkdir -p "$1" && printf "$2" > "$1/override.conf"', "sh", folder, text)
        self.run("systemctl", "daemon-reload")


@contextmanager
def open_machine(log: Path) -> Iterator[SystemdMachine]:
    """Start systemd, and end everything that it started.

    :param log: takes what it writes to its console
    """
    need("nsenter", "systemctl", "unshare", namespaces=True)
    group = _make_cgroup()
    try:
        with log.open("ab") as output:
            unshare = subprocess.Popen(
                [
                    *("sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(group)),
                    "unshare",
                    "--pid",
                    "--mount",
                    "--cgroup",
                    "--fork",
                    "--kill-child",
                    "--mount-proc",
                    "sh",
                    "-c",
                    _BOOT,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield _booted(unshare, log)
        finally:
            unshare.kill()
            unshare.wait()
    finally:
        _remove_cgroup(group)


def _booted(unshare: subprocess.Popen[bytes], log: Path) -> SystemdMachine:
    def machine() -> SystemdMachine | None:
        assert unshare.poll() is None, log.read_text()
        for pid in pids_below(unshare.pid):
            if process_name(pid) == "systemd":
                found = SystemdMachine(pid)
                return (
                    found if found.run("systemctl", "is-active", "basic.target", check=False).returncode == 0 else None
                )
        return None

    return eventually(machine)  # type: ignore[return-value]


def _make_cgroup() -> Path:
    """Make a cgroup that is the root of the machine's own."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    mounted = next(words[1] for words in mounts if words[2] == "cgroup2")
    own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    group = Path(mounted + own) / f"nomaflow-test-{os.getpid()}"
    group.mkdir()
    return group


def _remove_cgroup(group: Path) -> None:
    def removed() -> bool:
        try:
            for folder, _, _ in os.walk(group, topdown=False):
                os.rmdir(folder)
        except OSError:
            return False  # a process of it is still ending
        return True

    eventually(removed)
