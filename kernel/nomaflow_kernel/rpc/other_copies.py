"""Copies of a host that bring jobs which its catalogue, of another copy, no longer has: nobody has decided that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nomaflow_kernel.catalogue import Catalogue
from nomaflow_kernel.catalogue.wording import listed
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_project.reading.problems import Place, Problem

__all__ = ["left_out_jobs"]

_NAMED = 20


def left_out_jobs(catalogue: Catalogue, instances: Iterable[Instance]) -> Iterator[Problem]:
    """Yield a problem for each instance with jobs that another instance of its host took off the schedule.

    One that takes a single attempt, or is about to end, says nothing of which jobs there are.
    """
    for instance in instances:
        hello = instance.hello
        if hello.for_attempt or instance.state != "ATTACHED":
            continue
        lost = catalogue.left_out(hello.host, instance.heartbeat.manifest_digest or hello.manifest_digest)
        if not lost:
            continue
        who = f"pid {hello.pid} on {hello.machine}"
        message = (
            f"{who} brings jobs that do not fire, since another copy has none of them: {listed(lost, most=_NAMED)}"
        )
        fix = (
            f"give all copies of the host the same files, then: nomaflow reload {hello.host}; end a copy that is "
            "outdated; two different projects need two names, [host] name"
        )
        yield Place(hello.project).error("left_out_by_copy", message, fix=fix)
