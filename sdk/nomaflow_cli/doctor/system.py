"""Findings about a running system: the kernel, its hosts, and queued and running runs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nomaflow_cli.doctor.findings import Finding, fine, problem, warning
from nomaflow_cli.versions import installed_version
from nomaflow_cli.wording import age, amount, count, duration

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.values import CatalogueView, HostView, InstanceView, KernelView, RunView

__all__ = ["SystemView", "examine_system", "look"]

_MANY = 1000
_SLOW_SECONDS = 1.0
_LATE_SECONDS = 60.0
_SPILLED_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemView:
    """A kernel's answers at one moment. ``read_seconds`` is what a read of its store took."""

    kernel: KernelView
    serving: bool
    hosts: list[HostView]
    catalogue: CatalogueView
    queued: list[RunView]
    running: list[RunView]
    read_seconds: float


async def look(client: KernelClient) -> SystemView:
    """Ask a kernel for everything that is checked."""
    kernel = await client.get_kernel()
    began = time.perf_counter()
    queued = await _runs(client, "QUEUED")
    took = time.perf_counter() - began
    return SystemView(
        kernel=kernel,
        serving=await client.is_serving(),
        hosts=await client.list_hosts(),
        catalogue=await client.list_jobs(),
        queued=queued,
        running=await _runs(client, "RUNNING"),
        read_seconds=took,
    )


async def _runs(client: KernelClient, state: str) -> list[RunView]:
    found: list[RunView] = []
    async for run in client.list_runs(states=[state], page_size=200):
        found.append(run)
        if len(found) == _MANY:
            break
    return found


def examine_system(view: SystemView, *, now: datetime | None = None) -> Iterator[Finding]:
    """Yield the findings about a running system."""
    now = now or datetime.now(UTC)
    yield from _kernel(view, now)
    for host in view.hosts:
        yield from _host(host, view.kernel)
    if not view.hosts:
        yield warning("hosts.none", "no host has attached yet", "nomaflow host DIR")
    yield from _runs_findings(view, now)
    yield from _jobs(view.catalogue, now)


def _kernel(view: SystemView, now: datetime) -> Iterator[Finding]:
    kernel = view.kernel
    up = age(kernel.started_at, now=now) or "a while ago"
    text = f"kernel {kernel.version}, pid {kernel.pid}, started {up}, epoch {kernel.epoch}, store {kernel.store}"
    yield fine("kernel.answers", text)
    if not view.serving:
        yield problem(
            "kernel.health",
            "the kernel reports that it cannot serve: it cannot write to its store",
            "see its log; free disk space, or stop the process that locks the store",
        )
    else:
        yield fine("kernel.health", f"the kernel is healthy; a read of its store took {duration(view.read_seconds)}")
    if view.read_seconds > _SLOW_SECONDS:
        yield warning("kernel.slow", f"a read of the store took {duration(view.read_seconds)}", "check its disk")
    own = installed_version()
    if kernel.version != own:
        yield warning(
            "kernel.version",
            f"the kernel has version {kernel.version}, this command has version {own}",
            "restart the kernel if it was upgraded in place (docs/operations.md), else install one version on both",
        )


def _host(host: HostView, kernel: KernelView) -> Iterator[Finding]:
    name = shlex.quote(host.name)
    if not host.instances:
        yield (problem if host.job_count else warning)(
            "hosts.absent",
            f"host {host.name!r} is not attached; {count(host.job_count, 'job')} cannot run",
            f"nomaflow host DIR --name {name}; or, if it is gone for good: nomaflow hosts forget {name}",
        )
    for instance in host.instances:
        yield from _instance(host, instance, kernel)
    if host.problems:
        yield warning(
            "hosts.problems", f"host {host.name!r}: {host.problems[0].message}", "nomaflow hosts; nomaflow check DIR"
        )


def _instance(host: HostView, instance: InstanceView, kernel: KernelView) -> Iterator[Finding]:
    who, name = f"host {host.name!r}, pid {instance.pid}", shlex.quote(host.name)
    if instance.state == "UNREACHABLE":
        heard = age(instance.last_heartbeat_at) or "long ago"
        yield problem(
            "hosts.unreachable",
            f"{who} on {instance.machine} has been silent since its last heartbeat {heard}; "
            f"running there: {count(instance.running, 'step')}",
            "check that machine and its network; its steps stay RUNNING until the grace ends",
        )
        return
    yield from _refused_load(host, instance)
    if instance.state == "LOADING":
        yield warning(
            "hosts.loading",
            f"{who} is loading its code; its jobs are not known yet",
            "run doctor again in a few seconds; if it stays so, a module waits or loops during its import: see its log",
        )
        return
    if not instance.generation:
        yield problem(
            "hosts.no_code",
            f"{who} is {instance.state.lower()} and takes no new work: no code is loaded",
            f"see its log; correct the error, then: nomaflow reload {name}",
        )
        return
    load = f"{count(instance.running, 'step')} running, generation {instance.generation}"
    yield fine("hosts.attached", f"{who} is {instance.state.lower()}: {load}")
    yield from _code_of(host, instance, kernel)
    yield from _reports_of(who, instance)


def _refused_load(host: HostView, instance: InstanceView) -> Iterator[Finding]:
    refused = instance.refused_load
    if refused is not None:
        in_use = "its last good code stays in use" if instance.generation else "it has no code"
        since = f" {age(refused.at)}" if refused.at else ""
        yield problem(
            "hosts.load_refused",
            f"host {host.name!r}, pid {instance.pid}, refused a load{since}; {in_use}: {refused.summary}",
            f"correct the error, then: nomaflow reload {shlex.quote(host.name)}",
        )


def _code_of(host: HostView, instance: InstanceView, kernel: KernelView) -> Iterator[Finding]:
    who, name = f"host {host.name!r}, pid {instance.pid}", shlex.quote(host.name)
    if instance.version and instance.version != kernel.version:
        yield warning(
            "hosts.version",
            f"{who} has version {instance.version}, the kernel has version {kernel.version}",
            "restart the host with the kernel's version",
        )
    if instance.code_newer and instance.refused_load is None:
        yield warning(
            "hosts.code",
            f"{who}: the code on disk is newer than the loaded code",
            f"nomaflow reload {name}",
        )
    if host.manifest_digest and instance.manifest_digest not in ("", host.manifest_digest):
        yield warning(
            "hosts.manifest",
            f"{who} runs other code than the code that the kernel's jobs came from",
            f"nomaflow reload {name}",
        )


def _reports_of(who: str, instance: InstanceView) -> Iterator[Finding]:
    if instance.saturated:
        yield problem(
            "hosts.saturated",
            f"{who} takes no new work: its spill file is full of reports",
            "check the kernel's store and disk: it accepts reports too slowly, or not at all",
        )
    elif instance.spilled_bytes > _SPILLED_BYTES:
        yield warning(
            "hosts.spill",
            f"{who} keeps {amount(instance.spilled_bytes >> 20)} MiB of reports that the kernel has not accepted",
            "check the kernel's store and disk: it accepts reports too slowly",
        )


def _runs_findings(view: SystemView, now: datetime) -> Iterator[Finding]:
    attached = {host.name for host in view.hosts if any(one.state != "UNREACHABLE" for one in host.instances)}
    waiting = f"{amount(len(view.queued))}{'+' if len(view.queued) == _MANY else ''} queued"
    running = f"{amount(len(view.running))}{'+' if len(view.running) == _MANY else ''} running"
    oldest = view.queued[-1] if view.queued else None
    since = f", the oldest {age(oldest.queued_at, now=now)}" if oldest and oldest.queued_at else ""
    yield fine("runs.open", f"{running}, {waiting}{since}")
    cut_off = [run for run in view.running if run.host and run.host not in attached]
    if cut_off:
        first = cut_off[-1]
        yield warning(
            "runs.cut_off",
            f"{count(len(cut_off), 'run')} RUNNING on hosts that are unreachable, for example {first.run_id}",
            f"bring host {first.host!r} back; nomaflow show {first.run_id}",
        )
    stuck = [run for run in view.queued if run.host and run.host not in attached]
    if stuck:
        yield warning(
            "runs.no_host",
            f"{count(len(stuck), 'run')} wait for a host that is not attached: {stuck[-1].host!r}",
            "nomaflow host DIR",
        )


def _kept(catalogue: CatalogueView) -> Iterator[Finding]:
    """Yield jobs that wait for a decision: those on their last good definition, and those that cannot even run so."""
    held = [job for job in catalogue.jobs if job.held]
    if held:
        yield problem(
            "runs.held",
            f"{count(len(held), 'job')} cannot run but stay scheduled, for example {held[0].job_id!r}: {held[0].held}",
            f"correct the code, then: nomaflow reload {shlex.quote(held[0].host)}".strip(),
        )
    kept = [job for job in catalogue.jobs if job.kept and not job.held]
    if kept:
        why = next((one for one in kept[0].problems if one.severity == "error"), None)
        yield problem(
            "runs.kept",
            f"{count(len(kept), 'job')} with their last good definition, for example {kept[0].job_id!r}"
            + (f": {why.file}: {why.message}" if why else ""),
            f"correct the file, then: nomaflow reload {shlex.quote(kept[0].host)}".strip(),
        )


def _jobs(catalogue: CatalogueView, now: datetime) -> Iterator[Finding]:
    invalid = [job for job in catalogue.jobs if not job.valid]
    if invalid:
        yield warning(
            "runs.jobs",
            f"{count(len(invalid), 'job')} disabled by errors, for example {invalid[0].job_id!r}",
            f"nomaflow job {shlex.quote(invalid[0].job_id)}",
        )
    yield from _kept(catalogue)
    paused = [job for job in catalogue.jobs if job.pause is not None]
    if paused:
        everything = any(not job.pause.job_id and not job.pause.host for job in paused if job.pause)
        what = "everything is" if everything else f"{count(len(paused), 'job')} {'is' if len(paused) == 1 else 'are'}"
        yield warning("runs.paused", f"{what} paused", "nomaflow resume" if everything else "nomaflow jobs")
    late = [
        (now - fire.at).total_seconds()
        for job in catalogue.jobs
        for fire in job.next_fires[:1]
        if fire.at is not None and job.enabled and job.pause is None
    ]
    worst = max(late, default=0.0)
    if worst > _LATE_SECONDS:
        yield problem("runs.late", f"a fire is {duration(worst)} overdue", "check the kernel's log and this clock")
    else:
        yield fine("runs.late", f"no fire is overdue; {count(len(late), 'schedule')} ahead")
