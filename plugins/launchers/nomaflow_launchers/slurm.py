"""Slurm, by its commands: ``sbatch`` starts an instance, ``squeue`` lists them, ``scancel`` ends one.

An instance is one batch job, which Slurm is told never to start twice. Its comment names the kernel's history, the host
and the shape, so whatever a launcher has started can be read from the queue by the next one.
"""

from __future__ import annotations

import asyncio
import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from nomaflow_launchers.planning import Launched
from nomaflow_project.models.launcher_section import LauncherSection, LauncherShape

__all__ = ["JOB_LABEL", "EngineError", "Slurm", "log_folder"]

JOB_LABEL = "launcher.job"
"""The label of an instance that holds the engine's id of its job."""

_COMMAND_SECONDS = 60.0
_MARK = "nomaflow"
_ENDING = ("COMPLETING", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")
_ALWAYS_PASSED = ("PATH", "HOME", "USER", "LANG")
_SCRIPT = """\
#!/bin/sh
umask 077
state={scratch}/nomaflow-"$SLURM_JOB_ID"
trap 'kill -TERM "$host"' TERM
{command} --state-dir "$state" --labels {labels} ${{SLURM_JOB_END_TIME:+--ends-at "$SLURM_JOB_END_TIME"}} &
host=$!
wait "$host"; code=$?
while kill -0 "$host" 2>/dev/null; do wait "$host"; code=$?; done
[ "$code" -ne 0 ] || rm -rf "$state"
exit "$code"
"""


def log_folder(project: Path) -> Path:
    """Return the folder of the logs of a project's instances."""
    return project / ".nomaflow" / "launcher"


class EngineError(Exception):
    """Raised when the engine refuses, or does not answer; the text says which command failed, and how."""


class Slurm:
    """The queue of one launcher.

    :param store_id: identifies the history of the kernel that the instances serve
    """

    def __init__(self, section: LauncherSection, *, project: Path, store_id: str, environ: Mapping[str, str]) -> None:
        self._section = section
        self._project = project
        self._store_id = store_id
        # Slurm's commands take these variables as options, such as those of a person who starts the launcher by hand.
        self._environ = {name: value for name, value in environ.items() if not name.startswith(("SBATCH_", "SQUEUE_"))}
        self._environ["SLURM_TIME_FORMAT"] = "%s"

    async def listed(self) -> Sequence[Launched]:
        """Return the instances that wait for a machine or run.

        :raises EngineError: if the queue cannot be read
        """
        lines = (await self._run("squeue", "--me", "--noheader", "--format=%i|%T|%S|%k")).splitlines()
        found = []
        for line in lines:
            engine_id, state, began, comment = (*line.split("|", 3), "", "", "")[:4]
            mark, *names = comment.strip().split("/")
            if mark == _MARK and len(names) == 3 and names[0] == self._store_id and state not in _ENDING:
                seconds = time.time() - int(began) if state != "PENDING" and began.isdecimal() else None
                found.append(Launched(engine_id=engine_id, host=names[1], shape=names[2], running_seconds=seconds))
        return found

    async def start(self, host: str, shape: LauncherShape) -> str:
        """Submit an instance and return the engine's id of its job.

        :raises EngineError: if Slurm refuses it
        """
        passed = [name for name in (*_ALWAYS_PASSED, *self._section.pass_env) if name in self._environ]
        logs = log_folder(self._project)
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = [
            "--parsable",
            "--no-requeue",
            f"--job-name=nomaflow-{host}",
            f"--comment={_MARK}/{self._store_id}/{host}/{shape.name}",
            f"--time={max(1, math.ceil(self._section.walltime_seconds / 60))}",
            f"--cpus-per-task={math.ceil(shape.cpu)}",
            f"--mem={shape.memory_mb}M",
            *([f"--gpus={shape.gpus}"] if shape.gpus else []),
            f"--chdir={self._project}",
            f"--output={logs}/%j.log",
            f"--export={','.join(passed)}",  # all of the launcher's variables otherwise, its token included
            *shape.options,
        ]
        answer = await self._run("sbatch", *options, stdin=self._script(host, shape))
        return answer.strip().partition(";")[0]

    async def end(self, engine_id: str, *, only_waiting: bool) -> None:
        """End an instance: its main process is asked to stop, and drains.

        :param only_waiting: leave it alone if it has got a machine meanwhile
        :raises EngineError: if Slurm refuses
        """
        how = ["--state=PENDING"] if only_waiting else ["--batch", "--signal=TERM"]
        await self._run("scancel", *how, engine_id)

    def _script(self, host: str, shape: LauncherShape) -> str:
        command = [
            *(self._section.python or sys.executable, "-P", "-m", "nomaflow_host"),
            *("--project", str(self._project), "--name", host),
            *("--capacity", f"cpu={shape.cpu:g},memory_mb={shape.memory_mb},gpus={shape.gpus}"),
            *("--idle-exit-seconds", f"{self._section.idle_exit_seconds:g}"),
        ]
        labels = ",".join(f"{name}={value}" for name, value in shape.labels.items())
        return _SCRIPT.format(
            command=shlex.join(command),
            scratch=shlex.quote(self._section.scratch) if self._section.scratch else '"${TMPDIR:-/tmp}"',
            labels=f'{JOB_LABEL}="$SLURM_JOB_ID"' + (f",{shlex.quote(labels)}" if labels else ""),
        )

    async def _run(self, *command: str, stdin: str = "") -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environ,
            )
        except OSError as error:
            raise EngineError(f"{command[0]} cannot be run: {error.strerror}; is Slurm installed here?") from None
        try:
            async with asyncio.timeout(_COMMAND_SECONDS):
                out, errors = await process.communicate(stdin.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise EngineError(f"{command[0]} has not answered for {_COMMAND_SECONDS:g} s") from None
        if process.returncode:
            text = " ".join(errors.decode(errors="replace").split()) or f"exit code {process.returncode}"
            raise EngineError(f"{command[0]} failed: {text[:500]}")
        return out.decode(errors="replace")
