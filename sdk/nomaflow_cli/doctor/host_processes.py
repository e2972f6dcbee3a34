"""The plugin hosts that run on this machine, as /proc shows them to everybody: projects, and users of their code."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_HOST = ("-m", "nomaflow_host")
_CODE = frozenset({"nomaflow_host.template", "nomaflow_host.worker"})


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningHost:
    """One host's process.

    :param project: its folder
    :param uid: of the process itself
    :param code_uid: of the processes that run its project's code; None if there is none at the moment
    """

    pid: int
    project: str
    uid: int
    code_uid: int | None


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    uid: int
    command: tuple[str, ...]


def hosts_here() -> list[RunningHost]:
    """Return the hosts of all users, by pid; none where /proc hides the processes of others.

    A host whose command line names its project by a working directory that cannot be read is left out.
    """
    found = dict(_processes())
    mains = {pid: each for pid, each in found.items() if _HOST in pairwise(each.command)}
    code = {_above(each, found, mains): each.uid for each in found.values() if each.command[-1] in _CODE}
    return [
        RunningHost(pid=pid, project=project, uid=each.uid, code_uid=code.get(pid))
        for pid, each in sorted(mains.items())
        if (project := _project(pid, each.command))
    ]


def user_name(uid: int) -> str:
    """Return a user's name, or the number of one without."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _processes() -> Iterator[tuple[int, _Process]]:
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            # Its owner in /proc is root if it keeps its memory private; the status names the user.
            lines = Path("/proc", name, "status").read_text("utf-8", "replace").splitlines()
            command = Path("/proc", name, "cmdline").read_bytes().decode("utf-8", "replace")
        except OSError:  # it has ended
            continue
        fields = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        if command and fields.get("Uid") and fields.get("PPid"):
            words = tuple(command.rstrip("\0").split("\0"))
            yield int(name), _Process(int(fields["PPid"][0]), int(fields["Uid"][0]), words)


def _above(process: _Process, found: Mapping[int, _Process], mains: Mapping[int, _Process]) -> int:
    """Return the pid of the host above a process, 0 for none."""
    pid, seen = process.parent, 0
    while pid not in mains and pid in found and seen < len(found):
        pid, seen = found[pid].parent, seen + 1
    return pid if pid in mains else 0


def _project(pid: int, command: tuple[str, ...]) -> str:
    """Return the project of a host, empty if unknown; a relative path begins at the host's directory, not at ours."""
    named = _named_project(command)
    if os.path.isabs(named):
        return named
    try:
        return os.path.normpath(os.path.join(os.readlink(f"/proc/{pid}/cwd"), named))
    except OSError:  # it has ended, or keeps that to itself
        return ""


def _named_project(command: tuple[str, ...]) -> str:
    for word, following in zip(command, (*command[1:], ""), strict=True):
        if word == "--project":
            return following
        if word.startswith("--project="):
            return word.partition("=")[2]
    return "."
