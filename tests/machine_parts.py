"""The parts of a machine that tests need, as a pytest plugin.

A test whose parts are missing is left out, and the end of a run says which, and how to get what they need.
With ``NOMAFLOW_TESTS_COMPLETE=1``, as CI sets it, a test that is left out is red.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Generator

import pytest

__all__ = ["PACKAGES", "need"]

PACKAGES = {
    "chromium": "chromium",
    "ip": "iproute2",
    "kubectl": "kubectl",
    "munged": "munge",
    "node": "nodejs",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "pgbouncer": "pgbouncer",
    "setpriv": "util-linux",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "squeue": "slurm-client",
    "systemctl": "systemd",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
    "useradd": "passwd",
}
"""The commands that tests call, and the Debian packages that have them; ``.ci/run`` installs these."""
_SWITCH = "NOMAFLOW_TESTS_COMPLETE"
_COMPLETE = bool(os.environ.get(_SWITCH))  # as it was at the start: tests change their environment


def need(*commands: str, extra: str = "", root: bool = False, namespaces: bool = False) -> None:
    """Leave the test that calls this out, unless the machine has what it needs.

    :param commands: of :data:`PACKAGES`
    :param extra: an extra of ours that the development's tools leave out, with a module of its name
    :param root: whether only the superuser may do what the test does
    :param namespaces: whether the test makes namespaces of the kernel
    """
    lacks: dict[str, str] = {}
    missing = [name for name in commands if shutil.which(name) is None]
    if missing:
        lacks[", ".join(missing)] = f"apt-get install {' '.join(sorted({PACKAGES[name] for name in missing}))}"
    if extra and importlib.util.find_spec(extra) is None:
        lacks[extra] = f"{sys.executable} -m pip install --editable '.[{extra}]'"
    if (root or namespaces) and os.geteuid() != 0:
        lacks["the rights of root"] = "run `make test` as root"
    elif namespaces and not missing and not _makes_namespaces():
        lacks["the right to make namespaces"] = "run `make test` outside a container, or in a privileged one"
    if lacks:
        pytest.skip(f"the machine lacks {' and '.join(lacks)}: {', and '.join(lacks.values())}")


@functools.cache
def _makes_namespaces() -> bool:
    command = ["unshare", "--mount", "--net", "--pid", "--cgroup", "--fork", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    longrepr = report.longrepr
    return longrepr[2].removeprefix("Skipped: ") if isinstance(longrepr, tuple) else str(longrepr)


def _red_where_complete(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and _COMPLETE:
        report.outcome = "failed"
        report.longrepr = f"left out, and {_SWITCH} is set: {_reason(report)}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that is left out if none may be."""
    report = yield
    _red_where_complete(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that is left out if none may be."""
    report = yield
    _red_where_complete(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, and how to get it."""
    left_out = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if left_out:
        terminalreporter.section("left out", sep="=", yellow=True)
    for reason, count in sorted(left_out.items()):
        terminalreporter.line(f"{count} tests: {reason}")
