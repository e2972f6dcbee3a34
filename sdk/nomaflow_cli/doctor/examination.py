"""The examination of the machine, the files, and the processes that answer."""

from __future__ import annotations

import contextlib
import platform
import shlex
from collections.abc import Iterator
from pathlib import Path

from nomaflow_cli.doctor.alerts import examine_alerts
from nomaflow_cli.doctor.findings import Finding, problem, warning
from nomaflow_cli.doctor.host_processes import hosts_here
from nomaflow_cli.doctor.isolation import examine_isolation
from nomaflow_cli.doctor.machine import examine_machine
from nomaflow_cli.doctor.project_files import examine_project
from nomaflow_cli.doctor.store_files import examine_store
from nomaflow_cli.doctor.system import SystemView, examine_system, look
from nomaflow_cli.errors import CliError
from nomaflow_cli.invocation import Invocation
from nomaflow_cli.kernel_access import NoLogin, is_elsewhere, talk


def examine(invocation: Invocation, project: Path, *, store: str, deep: bool) -> Iterator[Finding]:
    """Yield every finding in the order in which it is read: from the machine up to the runs.

    :param invocation: names the project, and possibly a kernel elsewhere
    """
    view, trouble = None, None
    try:
        view = talk(invocation, look)
    except CliError as error:
        trouble = error
    yield from examine_machine(project)
    yield from examine_project(project)
    yield from examine_isolation(project, hosts=hosts_here(), served=() if view is None else _pids_here(view))
    named = bool(invocation.addresses or invocation.profile)
    elsewhere = named
    with contextlib.suppress(CliError):  # of a file that cannot be read, which is said above
        elsewhere = named or is_elsewhere(project)
    if not named:
        # A kernel that was named may be on another machine and have another store than this project.
        serves = None if view is None else view.kernel.store
        of_store = list(examine_store(project, store=store, deep=deep, serves=serves, elsewhere=elsewhere))
        yield from of_store
        if any(finding.check == "store.lock" for finding in of_store):
            return  # an earlier finding names the process and the way out
    if view is not None:
        yield from examine_system(view)
    elif trouble is not None:
        yield _unanswered(project, trouble, elsewhere=elsewhere)
    if not named:
        yield from examine_alerts(project)


def _pids_here(view: SystemView) -> Iterator[int]:
    """Yield the pids of the kernel's hosts that run on this machine."""
    here = platform.node()
    for host in view.hosts:
        yield from (instance.pid for instance in host.instances if instance.machine == here)


def _unanswered(project: Path, trouble: CliError, *, elsewhere: bool) -> Finding:
    if trouble.reason == "NOT_LEADER":
        return warning("kernel.stands_by", trouble.message, trouble.fix)
    if isinstance(trouble, NoLogin):
        text = "the kernel of this project's host is elsewhere, and there is no login at it: kernel, hosts and runs"
        return warning("kernel.login", f"{text} were not examined", trouble.fix)
    if elsewhere or trouble.reason != "KERNEL_UNREACHABLE":
        return problem("kernel.answers", trouble.message, trouble.fix)
    way_out = f"systemctl start nomaflow-kernel if it is a service, else nomaflow up {shlex.quote(str(project))}"
    ran_here = any((project / ".nomaflow" / name).exists() for name in ("kernel.db", "kernel.log"))
    return (problem if ran_here else warning)("kernel.answers", "no kernel is running here", way_out)
