"""The witness of a Slurm job's end: whether nothing of the job can run any more, from what ``scontrol`` shows.

A job that has ended proves the end of its processes only where Slurm holds them in a cgroup: otherwise it loses those
that leave their parents. Even then Slurm calls a job ended whose machine it has given up, and one of which a process
could not be killed; the machine's own state tells these.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

MARK = "nomaflow"
"""The beginning of the comment of each job that a launcher submits."""

_ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "PREEMPTED", "DEADLINE"})
_WELL = frozenset({"IDLE", "MIXED", "ALLOCATED", "COMPLETING", "DRAIN", "RESERVED", "CLOUD", "PLANNED", "MAINTENANCE"})
_UNKILLED = "kill task failed"
_FIELD = re.compile(r"(?:^|\s)([A-Z][A-Za-z:/]*)\s*=")


def fields_of(text: str) -> Mapping[str, str]:
    """Return the fields that ``scontrol show`` prints, ``NAME=VALUE`` each; the first of a name counts."""
    found: dict[str, str] = {}
    names = list(_FIELD.finditer(text))
    for name, following in itertools.zip_longest(names, names[1:]):
        found.setdefault(name[1], text[name.end() : following.start() if following else len(text)].strip())
    return found


def evidence_of_end(job_id: str, *, config: Mapping[str, str], job: Mapping[str, str], node: Mapping[str, str]) -> str:
    """Return how it is known that nothing of a job runs any more, in words; empty if it is not known.

    :param config: the fields of ``scontrol show config``; ``job`` those of the job, none if Slurm has forgotten it
    :param node: those of its machine
    """
    state, machine = job.get("JobState", ""), job.get("BatchHost", "")
    # After a loss of its state Slurm gives numbers again: the job must be one of ours.
    ours = job.get("JobId") == job_id and job.get("Comment", "").startswith(f"{MARK}/")
    known = ours and job.get("Restarts") == "0" and machine == node.get("NodeName", "-")
    in_cgroup = config.get("ProctrackType") == "proctrack/cgroup"
    # NODE_FAIL is not among them. A machine that does not answer has a state with an asterisk.
    if not (known and in_cgroup and state in _ENDED and set(node.get("State", "").split("+")) <= _WELL):
        return ""
    if _UNKILLED in node.get("Reason", "").lower():
        return ""
    code, _, signal = job.get("ExitCode", "").partition(":")
    how = f"by signal {signal}" if signal not in ("", "0") else f"with exit code {code or 'unknown'}"
    return f"Slurm job {job_id} is {state} ({how}), its processes were in a cgroup, and machine {machine} answers"
