"""Slurm, by its commands: ``sbatch`` starts an instance, ``squeue`` lists them, ``scancel`` ends one.

An instance is one batch job, which Slurm is told never to start twice. Its comment names the kernel's history, the
host, the shape and the attempt that it is for, if any: the next launcher can read from the queue what was started.
"""

from __future__ import annotations

import asyncio
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from nomaflow_launchers.engines.engine import JOB_LABEL, EngineError
from nomaflow_launchers.engines.host_process import InstanceLogs, host_command, keep_join_string, passed_on
from nomaflow_launchers.engines.slurm_witness import MARK, evidence_of_end, fields_of
from nomaflow_launchers.planning import Launched, Order
from nomaflow_project.models.launcher_section import LauncherSection

_COMMAND_SECONDS = 60.0
_ENDING = ("COMPLETING", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")
_SCRIPT = """\
#!/bin/sh
umask 077
state={scratch}/nomaflow-"$SLURM_JOB_ID"
trap 'kill -TERM "$host"' TERM
{join}{command} --state-dir "$state" --labels {labels} ${{SLURM_JOB_END_TIME:+--ends-at "$SLURM_JOB_END_TIME"}} &
host=$!
wait "$host"; code=$?
while kill -0 "$host" 2>/dev/null; do wait "$host"; code=$?; done
[ "$code" -ne 0 ] || rm -rf "$state"
exit "$code"
"""
_JOIN = """\
mkdir -p "$state" && mv {file} "$state/join"
"""


class Slurm:
    """The queue of one launcher, an :class:`~nomaflow_launchers.engines.engine.Engine`."""

    def __init__(self, section: LauncherSection, *, project: Path, environ: Mapping[str, str]) -> None:
        self._section = section
        self._project = project
        self._logs = InstanceLogs(project, longest_seconds=section.walltime_seconds)
        # Slurm's commands take these variables as options, such as those of a person who starts the launcher by hand.
        options = ("SBATCH_", "SCANCEL_", "SQUEUE_")
        self._environ = {name: value for name, value in environ.items() if not name.startswith(options)}
        self._environ["SLURM_TIME_FORMAT"] = "%s"

    async def listed(self, store_id: str) -> Sequence[Launched]:
        """Return the instances of that history that wait for a machine or run.

        :raises EngineError: if the queue cannot be read
        """
        answer = await self._run("squeue", "--me", "--noheader", "--format=%i|%T|%S|%k")
        jobs = [line.split("|", 3) for line in answer.splitlines()]
        if jobs and len(jobs[0]) < 4:  # a later one may be the rest of somebody's comment
            raise EngineError(f"squeue has answered with something else than jobs: {jobs[0][0][:200]!r}")
        found = []
        for engine_id, state, began, comment in (job for job in jobs if len(job) == 4):
            mark, *names = comment.strip().split("/")
            if mark == MARK and len(names) in (3, 4) and names[0] == store_id and state not in _ENDING:
                seconds = time.time() - int(began) if state != "PENDING" and began.isdecimal() else None
                found.append(
                    Launched(
                        engine_id=engine_id,
                        host=names[1],
                        shape=names[2],
                        running_seconds=seconds,
                        attempt_key=unquote("".join(names[3:])),
                    )
                )
        return found

    async def start(self, order: Order) -> str:
        """Submit an instance and return the engine's id of its job.

        :raises EngineError: if Slurm refuses it
        """
        shape = order.shape
        attempt = [quote(order.attempt_key, safe="")] if order.attempt_key else []  # a step's name has any characters
        await self._logs.prepare()
        options = [
            "--parsable",
            "--no-requeue",
            f"--job-name=nomaflow-{order.host}",
            f"--comment={'/'.join([MARK, order.store_id, order.host, shape.name, *attempt])}",
            f"--time={max(1, math.ceil(self._section.walltime_seconds / 60))}",
            f"--cpus-per-task={math.ceil(shape.cpu)}",
            f"--mem={shape.memory_mb}M",
            *([f"--gpus={shape.gpus}"] if shape.gpus else []),
            f"--chdir={self._project}",
            f"--output={self._logs.path('%j')}",
            f"--export={','.join(passed_on(self._section, self._environ))}",  # else all, the launcher's token too
            *shape.options,
        ]
        join = keep_join_string(self._project, order.join) if order.join else None
        answer = await self._run("sbatch", *options, stdin=self._script(order, join))
        engine_id = answer.strip().partition(";")[0]
        if not engine_id.isdecimal():
            raise EngineError(f"sbatch has answered with something else than a job's id: {engine_id[:200]!r}")
        return engine_id

    async def end(self, engine_id: str, *, only_waiting: bool) -> None:
        """End an instance. Slurm asks its processes to stop, and kills those that are left after its KillWait.

        :param only_waiting: leave it alone if it has got a machine meanwhile
        :raises EngineError: if Slurm refuses
        """
        await self._run("scancel", *(["--state=PENDING"] if only_waiting else []), engine_id)

    async def witness(self, engine_id: str, labels: Mapping[str, str]) -> str:  # the port's
        """Return how it is known that nothing of a job runs any more, in words; empty if it is not known.

        :raises EngineError: if Slurm does not answer
        """
        if not engine_id.isdecimal():
            return ""
        config = fields_of(await self._run("scontrol", "show", "config"))
        try:
            job = fields_of(await self._run("scontrol", "--oneliner", "show", "job", engine_id))
            name = job.get("BatchHost", "")
            node = fields_of(await self._run("scontrol", "--oneliner", "show", "node", name)) if name else {}
        except EngineError:  # Slurm has answered just before: it has forgotten the job, or the machine
            return ""
        return evidence_of_end(engine_id, config=config, job=job, node=node)

    def log_of(self, engine_id: str) -> str:
        """Return the path of a job's log."""
        return str(self._logs.path(engine_id))

    async def aclose(self) -> None:
        """Do nothing: each command is a process of its own."""

    def _script(self, order: Order, join: Path | None) -> str:
        labels = ",".join(f"{name}={value}" for name, value in order.shape.labels.items())
        return _SCRIPT.format(
            command=shlex.join(host_command(self._section, project=self._project, order=order)),
            join=_JOIN.format(file=shlex.quote(str(join))) if join is not None else "",
            scratch=shlex.quote(self._section.scratch) if self._section.scratch else '"${TMPDIR:-/tmp}"',
            labels=f'{JOB_LABEL}="$SLURM_JOB_ID"'
            + (f",{shlex.quote(labels)}" if labels else "")
            + (' --join "$state/join"' if join is not None else ""),
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
