"""Findings about a running system: the kernel, its hosts, and queued and running runs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nomaflow.client.errors import ClientError
from nomaflow_api.byte_sizes import byte_size
from nomaflow_api.time_spans import time_span
from nomaflow_api.version import VERSION
from nomaflow_cli.doctor.access import examine_access
from nomaflow_cli.doctor.findings import Finding, fine, problem, warning
from nomaflow_cli.formatting import age, amount, count
from nomaflow_cli.kernel_access import first
from nomaflow_project.reading.environment import DOUBTFUL_VALUE

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.values import (
        CatalogueView,
        CertificateView,
        HostView,
        InstanceView,
        JobView,
        KernelView,
        RefusedLoadView,
        RunView,
        TokenView,
    )

_MANY = 1000
_SLOW_SECONDS = 1.0
_LATE_SECONDS = 60.0
_SPILLED_BYTES = 64 << 20
_LEFT_OUT = "left_out_by_copy"


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemView:
    """A kernel's answers at one moment.

    :param read_seconds: what a read of its store took
    :param access: its tokens and certificates; None if the caller may not see them
    """

    kernel: KernelView
    hosts: list[HostView]
    catalogue: CatalogueView
    queued: list[RunView]
    running: list[RunView]
    read_seconds: float
    access: tuple[list[TokenView], list[CertificateView]] | None = None


async def look(client: KernelClient) -> SystemView:
    """Ask a kernel for everything that is checked."""
    kernel = await client.get_kernel()
    began = time.perf_counter()
    queued = await first(_MANY, client.list_runs(states=["QUEUED"], page_size=200))
    return SystemView(
        kernel=kernel,
        read_seconds=time.perf_counter() - began,
        hosts=await client.list_hosts(),
        catalogue=await client.list_jobs(),
        queued=queued,
        running=await first(_MANY, client.list_runs(states=["RUNNING"], page_size=200)),
        access=await _who_may(client),
    )


async def _who_may(client: KernelClient) -> tuple[list[TokenView], list[CertificateView]] | None:
    """Return all good tokens and certificates; None if this caller may not see them."""
    try:
        return await client.list_tokens(), await client.list_certificates()
    except ClientError:
        return None


def examine_system(view: SystemView, *, now: datetime | None = None) -> Iterator[Finding]:
    """Yield the findings about a running system."""
    now = now or datetime.now(UTC)
    yield from _kernel(view, now)
    for host in view.hosts:
        yield from _host(host, view.kernel)
    if not view.hosts:
        yield warning("hosts.none", "no host has attached yet", "nomaflow host DIR")
    yield from _runs(view, now)
    yield from _jobs(view.catalogue)
    yield _fires(view.catalogue, now)
    if view.access is not None:
        tokens, certificates = view.access
        yield from examine_access(tokens, certificates, now=now)


def _kernel(view: SystemView, now: datetime) -> Iterator[Finding]:
    kernel, took, own = view.kernel, time_span(view.read_seconds), VERSION
    up = age(kernel.started_at, now=now) or "a while ago"
    process = f", pid {kernel.pid}" if kernel.pid else ""
    text = f"kernel {kernel.version}{process}, started {up}, epoch {kernel.epoch}, store {kernel.store}"
    yield fine("kernel.answers", text)
    if kernel.trouble:
        trouble, _, fix = kernel.trouble.partition("; ")
        yield problem("kernel.health", f"the kernel cannot serve: {trouble}", fix or "see its log")
    else:
        yield fine("kernel.health", f"the kernel is healthy; a read of its store took {took}")
    if view.read_seconds > _SLOW_SECONDS:
        yield warning("kernel.slow", f"a read of the store took {took}", "check its disk")
    if kernel.version != own:
        yield warning(
            "kernel.version",
            f"the kernel has version {kernel.version}, this command has version {own}",
            "restart the kernel if it was upgraded in place (docs/operations.md), else install one version on both",
        )


def _host(host: HostView, kernel: KernelView) -> Iterator[Finding]:
    name = shlex.quote(host.name)
    if host.launched and not host.instances:
        yield fine("hosts.at_zero", f"host {host.name!r} has no instance; its launcher starts one when a step waits")
    elif not host.instances:
        yield (problem if host.job_count else warning)(
            "hosts.absent",
            f"host {host.name!r} is not attached; {count(host.job_count, 'job')} cannot run",
            f"nomaflow host DIR --name {name}; or, if it is gone for good: nomaflow hosts forget {name}",
        )
    for instance in host.instances:
        who, reload = f"host {host.name!r}, pid {instance.pid}", f"nomaflow reload {name}"
        if instance.refused_load is not None and instance.state != "UNREACHABLE":
            yield _refused_load(who, instance, instance.refused_load, reload)
        idle = _idle(who, instance, reload)
        if idle is not None:
            yield idle
        else:
            yield from _working(who, host, instance, kernel, reload)
    of_copies = [each for each in host.problems if each.code == _LEFT_OUT]
    for each in of_copies:
        yield problem("hosts.copies", f"host {host.name!r}: {each.place}: {each.message}", each.fix)
    others = [each for each in host.problems if each not in of_copies]
    if others:
        yield warning(
            "hosts.problems", f"host {host.name!r}: {others[0].message}", "nomaflow hosts; nomaflow check DIR"
        )


def _refused_load(who: str, instance: InstanceView, refused: RefusedLoadView, reload: str) -> Finding:
    since = f" {age(refused.at)}" if refused.at else ""
    if refused.by_kernel:
        text = f"{who}: the kernel refused its load{since}; its jobs stay as they were: {refused.summary}"
    else:
        in_use = "its last good code stays in use" if instance.generation else "it has no code"
        text = f"{who}, refused a load{since}; {in_use}: {refused.summary}"
    return problem("hosts.load_refused", text, f"correct the error, then: {reload}")


def _idle(who: str, instance: InstanceView, reload: str) -> Finding | None:
    """Return why an instance does nothing; None if it works."""
    if instance.state == "UNREACHABLE":
        heard = age(instance.last_heartbeat_at) or "long ago"
        return problem(
            "hosts.unreachable",
            f"{who} on {instance.machine} has been silent since its last heartbeat {heard}; "
            f"running there: {count(instance.running, 'step')}",
            "check that machine and its network; its steps stay RUNNING until the grace ends",
        )
    if instance.state == "LOADING":
        return warning(
            "hosts.loading",
            f"{who} is loading its code; its jobs are not known yet",
            "run doctor again in a few seconds; if it stays so, a module waits or loops during its import: see its log",
        )
    if not instance.generation:
        return problem(
            "hosts.no_code",
            f"{who} is {instance.state.lower()} and takes no new work: no code is loaded",
            f"see its log; correct the error, then: {reload}",
        )
    return None


def _working(who: str, host: HostView, instance: InstanceView, kernel: KernelView, reload: str) -> Iterator[Finding]:
    load = f"{count(instance.running, 'step')} running, generation {instance.generation}"
    yield fine("hosts.attached", f"{who} is {instance.state.lower()}: {load}")
    if instance.version and instance.version != kernel.version:
        yield warning(
            "hosts.version",
            f"{who} has version {instance.version}, the kernel has version {kernel.version}",
            "restart the host with the kernel's version",
        )
    if instance.code_newer and instance.refused_load is None:
        yield warning("hosts.code", f"{who}: the code on disk is newer than the loaded code", reload)
    if host.manifest_digest and instance.manifest_digest not in ("", host.manifest_digest):
        yield warning("hosts.manifest", f"{who} runs other code than the code that the kernel's jobs came from", reload)
    slow = "check the kernel's store and disk: it accepts reports too slowly"
    if instance.saturated:
        text = f"{who} takes no new work: its spill file is full of reports"
        yield problem("hosts.saturated", text, f"{slow}, or not at all")
    elif instance.spilled_bytes > _SPILLED_BYTES:
        kept = f"{byte_size(instance.spilled_bytes)} of reports"
        yield warning("hosts.spill", f"{who} keeps {kept} that the kernel has not accepted", slow)


def _runs(view: SystemView, now: datetime) -> Iterator[Finding]:
    attached = {host.name for host in view.hosts if any(one.state != "UNREACHABLE" for one in host.instances)}
    served = attached | {host.name for host in view.hosts if host.launched}
    oldest = view.queued[-1].queued_at if view.queued else None
    since = f", the oldest {age(oldest, now=now)}" if oldest else ""
    yield fine("runs.open", f"{_at_least(view.running)} running, {_at_least(view.queued)} queued{since}")
    cut_off = [run for run in view.running if run.host and run.host not in attached]
    if cut_off:
        example = cut_off[-1]
        yield warning(
            "runs.cut_off",
            f"{count(len(cut_off), 'run')} RUNNING on hosts that are unreachable, for example {example.run_id}",
            f"bring host {example.host!r} back; nomaflow show {example.run_id}",
        )
    stuck = [run for run in view.queued if run.host and run.host not in served]
    if stuck:
        text = f"{count(len(stuck), 'run')} waiting for a host that is not attached: {stuck[-1].host!r}"
        yield warning("runs.no_host", text, "nomaflow host DIR")


def _at_least(runs: list[RunView]) -> str:
    return f"{amount(len(runs))}+" if len(runs) == _MANY else amount(len(runs))


def _jobs(catalogue: CatalogueView) -> Iterator[Finding]:
    """Yield jobs that do not run as their files say: disabled, held, kept and paused ones."""
    invalid = [job for job in catalogue.jobs if not job.valid]
    if invalid:
        example = invalid[0].job_id
        text = f"{count(len(invalid), 'job')} disabled by errors, for example {example!r}"
        yield warning("runs.jobs", text, f"nomaflow job {shlex.quote(example)}")
    held = [job for job in catalogue.jobs if job.held]
    if held:
        text = f"cannot run but stay scheduled, for example {held[0].job_id!r}: {held[0].held}"
        yield problem("runs.held", f"{count(len(held), 'job')} {text}", _reload_of("code", held[0]))
    kept = [job for job in catalogue.jobs if job.kept and not job.held]
    if kept:
        error = next((one for one in kept[0].problems if one.severity == "error"), None)
        why = "" if error is None else f": {error.file}: {error.message}"
        text = f"with their last good definition, for example {kept[0].job_id!r}{why}"
        fix = error.fix if error is not None and error.code == "no_file_named" else _reload_of("file", kept[0])
        yield problem("runs.kept", f"{count(len(kept), 'job')} {text}", fix)
    doubtful = [(job.job_id, each) for job in catalogue.jobs for each in job.problems if each.code == DOUBTFUL_VALUE]
    if doubtful:
        job_id, found = doubtful[0]
        text = f"take a default in place of a variable, for example {job_id!r}, {found.path}: {found.message}"
        yield warning("runs.defaults", f"{count(len({each for each, _ in doubtful}), 'job')} {text}", found.fix)
    paused = [job for job in catalogue.jobs if job.pause is not None]
    if any(job.pause and not job.pause.job_id and not job.pause.host for job in paused):
        yield warning("runs.paused", "everything is paused", "nomaflow resume")
    elif paused:
        are = "is" if len(paused) == 1 else "are"
        yield warning("runs.paused", f"{count(len(paused), 'job')} {are} paused", "nomaflow jobs")


def _reload_of(what: str, job: JobView) -> str:
    return f"correct the {what}, then: nomaflow reload {shlex.quote(job.host)}"


def _fires(catalogue: CatalogueView, now: datetime) -> Finding:
    late = [
        (now - fire.at).total_seconds()
        for job in catalogue.jobs
        for fire in job.next_fires[:1]
        if fire.at is not None and job.enabled and job.pause is None
    ]
    worst = max(late, default=0.0)
    if worst > _LATE_SECONDS:
        return problem("runs.late", f"a fire is {time_span(worst)} overdue", "check the kernel's log and this clock")
    return fine("runs.late", f"no fire is overdue; {count(len(late), 'schedule')} ahead")
