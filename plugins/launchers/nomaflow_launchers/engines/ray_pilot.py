"""The actor that holds one instance. It needs Ray and the standard library: its machine may have no more than that.

The actor has a keeper, a shell, as its child, and the keeper has the host. Each is told by the system when its parent
dies: the keeper dies of it, and the host drains and ends what is below it. So whatever ends the actor, SIGKILL too,
ends all. Without a keeper Ray would send SIGKILL to the host itself, as to every child of an actor that it kills, and
nobody would know the end of what the host ran.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import ray

_KEEPER = '"$1" -I -c "$0" $$ "$@"; exit $?'  # the exit keeps the shell from becoming its last command
_OF_THE_MACHINE = ("TMPDIR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


class Pilot:
    """Runs a host for as long as the host wants, and then ends itself.

    :param command: the host's, but for ``--state-dir`` and ``--join``
    :param tether: source of a program that becomes the command, and gets SIGUSR2 when its parent dies
    :param environ: the host's variables; those by which Ray assigns GPUs are added
    :param scratch: folder of this machine for the host's state; empty: $TMPDIR, else /tmp
    :param join: file with a join string, which is moved to the state; empty for none
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        tether: str,
        environ: Mapping[str, str],
        scratch: str,
        name: str,
        log: str,
        join: str,
    ) -> None:
        self._began = time.monotonic()
        self._state = Path(scratch or os.environ.get("TMPDIR") or "/tmp", f"nomaflow-{name}")  # noqa: S108  # as Slurm's
        host = [*command, "--state-dir", str(self._state)]
        host[0] = shutil.which(host[0], path=environ.get("PATH")) or host[0]
        if join:
            self._state.mkdir(mode=0o700)
            host += ["--join", shutil.move(join, str(self._state / "join"))]
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())  # Ray blocks SIGINT, and a child would inherit that
        try:
            self._keeper = subprocess.Popen(
                [host[0], "-I", "-c", tether, str(os.getpid()), "/bin/sh", "-c", _KEEPER, tether, *host],
                env={**environ, **{key: os.environ[key] for key in _OF_THE_MACHINE if key in os.environ}},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # else Ray may kill it with the actor's group
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(output)
        ray.get_runtime_context().current_actor.follow.remote()

    def follow(self) -> None:
        """Wait for the host's end, and end the actor."""
        if self._keeper.wait() == 0:
            shutil.rmtree(self._state, ignore_errors=True)
        ray.actor.exit_actor()

    def running_seconds(self) -> float:
        """Return for how long the actor has run."""
        return time.monotonic() - self._began
