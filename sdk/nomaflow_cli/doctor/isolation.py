"""Findings about what separates teams and their code: users, and the environment of steps."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

from nomaflow_cli.doctor.findings import Finding, fine, warning
from nomaflow_cli.doctor.host_processes import RunningHost, user_name
from nomaflow_cli.formatting import count

_NOBODYS = frozenset({"PWD", "OLDPWD", "SHLVL", "_", "GRPC_ENABLE_FORK_SUPPORT", "GRPC_VERBOSITY"})
"""Variables that shells, and the host itself, set: nobody gave them to the host."""


def examine_isolation(project: Path, *, hosts: Sequence[RunningHost], served: Iterable[int] = ()) -> Iterator[Finding]:
    """Yield what is shared, what is weaker than it could be, and what steps do not see.

    :param hosts: those of this machine
    :param served: the pids of those that the project's kernel serves, of other projects too
    """
    yield from _users(project, hosts, set(served))
    yield from _withheld(project)


def _users(project: Path, hosts: Sequence[RunningHost], served: Container[int]) -> Iterator[Finding]:
    """Yield the users of this project's code, and of its kernel's other hosts; leave out all others."""
    own = [host for host in hosts if os.path.realpath(host.project) == str(project.resolve())]
    uids = {_code_uid(host) for host in hosts if host in own or host.pid in served}
    sharing: dict[int, list[RunningHost]] = {}
    for host in hosts:
        if _code_uid(host) in uids:
            sharing.setdefault(_code_uid(host), []).append(host)
    fix = "run the code of each as a user of its own: [host] run_as, or User= of its service"
    for uid, those in sorted(sharing.items()):
        projects = sorted({host.project for host in those})
        if len(projects) > 1:
            text = (
                f"the code of {len(projects)} projects runs as {user_name(uid)}: {', '.join(projects)}; "
                "their steps can read the same files and signal each other"
            )
            yield warning("isolation.shared", text, fix)
    for host in own:
        who = user_name(_code_uid(host))
        if host.code_uid == 0:
            text = f"the steps of host {host.pid} run as root: they may do everything on this machine"
            yield warning("isolation.root", text, 'name a user without rights: [host] run_as = "USER"')
        elif host.code_uid is not None and host.code_uid != host.uid:
            yield fine("isolation.user", f"the steps of host {host.pid} run as {who}, and the host as another user")
        elif host.code_uid is not None:
            text = (
                f"the steps of host {host.pid} run as {who} like the host: they can read its files; "
                "[host] run_as separates them"
            )
            yield fine("isolation.user", text)


def _code_uid(host: RunningHost) -> int:
    return host.uid if host.code_uid is None else host.code_uid


def _withheld(project: Path) -> Iterator[Finding]:
    """Yield what each host that ran here withholds, as it has written down at its last load."""
    for file in sorted((project / ".nomaflow").glob("host-*/withheld")):
        try:
            names = file.read_text("utf-8", "replace").split()
        except OSError:
            continue
        host = file.parent.name.removeprefix("host-")
        names = [name for name in names if name not in _NOBODYS]
        if names:
            listed = ", ".join(names)
            text = (
                f"host {host!r} withholds {count(len(names), 'variable')} of its environment from steps: {listed} "
                "(name those that the code reads in [host] pass_env or env_file)"
            )
            yield fine("isolation.withheld", text)
