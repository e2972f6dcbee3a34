"""Pages about hosts: their instances and code, and the outcome of a reload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from nomaflow.client.values import HostView, InstanceView, ProblemView, ReloadView
from nomaflow_api.time_spans import time_span
from nomaflow_cli.formatting import after_refusal, age, amount, count, offers
from nomaflow_cli.pages.cells import facts, pause_text, problem_lines, refused_text, state
from nomaflow_cli.wrapping import Hanging
from nomaflow_telemetry.visible_text import paragraph, printable

_CLOCK_SECONDS = 1.0
_SHOWN_WARNINGS = 5
_UNUSABLE = frozenset({"project_unusable", "load_failed"})
"""The codes of problems that leave nothing to serve, so that ``--force`` changes nothing."""
_CHANGES = (
    ("removed", "removed_job_ids", "removed_count"),
    ("added", "added_job_ids", "added_count"),
    ("no longer scheduled", "stopped_schedules", "stopped_count"),
)


def hosts_page(hosts: Sequence[HostView]) -> RenderableType:
    """Return each host with its instances, their loaded code, and their problems."""
    parts: list[RenderableType] = []
    for host in hosts:
        brought = f"  {offers(host.job_count, host.callable_count)}"
        waiting = f"  {count(host.queued, 'run')} waiting" if host.queued else ""
        parts.append(
            Text.assemble(state(host.state), "  ", (printable(host.name), "bold"), brought, (waiting, "yellow"))
        )
        if host.launched and not host.instances:
            parts.append(Text("    its launcher starts an instance when a step waits", style="dim"))
        parts += [Padding(_instance(instance), (0, 0, 0, 4)) for instance in host.instances]
        if host.pause is not None:
            parts.append(Text(f"    {pause_text(host.pause)}", style="yellow"))
        parts += [Hanging(problem_lines(problem), indent=4) for problem in host.problems]
    return Group(*parts)


def _instance(instance: InstanceView) -> RenderableType:
    refused = instance.refused_load
    heard = f"heard {age(instance.last_heartbeat_at)}" if instance.last_heartbeat_at else "not heard yet"
    process = f"pid {instance.pid} on {printable(instance.machine)}, {printable(instance.state.lower())}, {heard}"
    if not instance.pid:  # an earlier kernel has given it work, and nothing else is known of it
        held = count(instance.running, "step")
        awaited = f"{printable(instance.incarnation[:8])}, awaited since the kernel started, holds {held}"
        return facts(("instance", awaited), ("silent", _silent(instance)))
    digest = printable(instance.manifest_digest.rpartition(":")[2][:8])
    loaded = f", loaded {age(instance.loaded_at)}" if instance.loaded_at else ""
    newer = "  newer on disk: nomaflow reload" if instance.code_newer and refused is None else ""
    files = ", ".join(map(printable, instance.newer_files)) if newer else ""
    spilled = f", {amount(instance.spilled_bytes)} bytes of reports waiting" if instance.spilled_bytes else ""
    exclusive = sum(worker.kind == "exclusive" for worker in instance.workers)
    mechanism = f", limits by {instance.isolation_mechanism}" if instance.isolation_mechanism else ""
    return facts(
        ("instance", Text.assemble(process, (_why_idle(instance), "yellow"))),
        ("code", Text.assemble(f"generation {instance.generation} {digest}{loaded}", (newer, "yellow"))),
        ("", Text(files, style="dim") if files else ""),
        ("", Text(refused_text(refused), style="red") if refused is not None else ""),
        ("running", f"{instance.running} of {instance.max_async} async and {instance.max_sync} sync{spilled}"),
        ("silent", _silent(instance)),
        ("clock", _clock(instance)),
        ("drain", f"cancels what still runs {age(instance.drain_deadline)}" if instance.drain_deadline else ""),
        ("for", f"attempt {printable(instance.for_attempt)} alone" if instance.for_attempt else ""),
        ("as", printable(instance.principal) if "/" in instance.principal else ""),
        ("has", _has(instance)),
        ("ends", f"its machine's time ends {age(instance.ends_at)}" if instance.ends_at else ""),
        ("workers", f"{len(instance.workers) - exclusive} shared, {exclusive} exclusive{mechanism}"),
    )


def _has(instance: InstanceView) -> str:
    """Return what it has for steps that ask for resources; empty before it has introduced itself."""
    has = instance.has
    if has is None or not (has.cpu or has.memory_mb or has.gpus or has.labels):
        return ""
    gpus = f", {count(has.gpus, 'GPU')}" if has.gpus else ""
    labels = "".join(f", {printable(name)}={printable(value)}" for name, value in sorted(has.labels.items()))
    cores = "1 core" if has.cpu == 1 else f"{has.cpu:g} cores"
    return f"{cores}, {has.memory_mb:,} MiB{gpus}{labels}"


def _silent(instance: InstanceView) -> Text | str:
    """Return what becomes of a silent instance's steps, and when; empty while it is heard."""
    if instance.unreachable_since is None:
        return ""
    return Text(
        f"no new work for {age(instance.unreachable_since).removesuffix(' ago')}{_fate(instance)}", style="yellow"
    )


def _fate(instance: InstanceView) -> str:
    """Return when its steps are LOST, and how many of them then run again; empty if it holds none."""
    steps, again = instance.running, instance.retried_on_lost
    if not steps or instance.lost_at is None:
        return ""
    when = age(instance.lost_at)
    if steps == 1:
        return f"; its step is LOST {when} if it stays silent, and {'runs' if again else 'does not run'} again"
    some = {0: "none of them runs", 1: "1 of them runs", steps: "all run"}.get(again, f"{again} of them run")
    return f"; its {steps} steps are LOST, the first {when}, if it stays silent, and {some} again"


def _clock(instance: InstanceView) -> Text | str:
    """Return how far its clock is off, where that would confuse who compares times; empty else."""
    seconds = instance.clock_offset_us / 1e6
    if abs(seconds) < _CLOCK_SECONDS:
        return ""
    return Text(f"{time_span(abs(seconds))} {'ahead of' if seconds > 0 else 'behind'} the kernel's", style="yellow")


def _why_idle(instance: InstanceView) -> str:
    """Return why the instance takes no work although it is attached, empty if it does."""
    if not instance.generation:
        return "  takes no new work: no code is loaded" + ("" if instance.refused_load else "; see its log")
    return "  takes no new work: its spill file is full" if instance.saturated else ""


def reload_page(outcomes: Sequence[ReloadView]) -> RenderableType:
    """Return the outcome of each instance."""
    if not outcomes:
        return "no instance is attached; nothing was reloaded"
    lines: list[RenderableType] = []
    for outcome in outcomes:
        who = printable(outcome.host) + (
            f", instance {printable(outcome.incarnation[:8])}" if len(outcomes) > 1 else ""
        )
        well = ("✔ ", "green") if outcome.complete else ("! ", "yellow")
        sign = well if outcome.accepted else ("✘ ", "red")
        indent = 2 if outcome.incarnation else 0  # without one it is the kernel's own jobs file
        if not outcome.incarnation:
            lines.append(Text.assemble(sign, printable(outcome.message)))
            lines += job_changes(outcome.to_json())
        elif outcome.accepted:
            brought = offers(outcome.jobs, outcome.callables)
            lines.append(Text.assemble(sign, f"reloaded {who}: {brought} (generation {outcome.generation})"))
            lines += [Padding(line, (0, 0, 0, indent)) for line in job_changes(outcome.to_json())]
        else:
            then = after_refusal(outcome.generation, by_kernel=outcome.refused_by_kernel)
            serves = f" (generation {outcome.generation})" if outcome.generation else ""
            by = ": the kernel" if outcome.refused_by_kernel else ""
            lines.append(Text.assemble(sign, f"{who}{by} refused the load: {then}{serves}"))
        shown, warnings = _split(outcome.problems)
        lines += [Hanging(problem_lines(problem), indent=indent) for problem in shown]
        if warnings:
            lines.append(Text(f"  and {count(warnings, 'warning')} more: nomaflow check", style="dim"))
        if outcome.incarnation and not outcome.accepted:
            lines += _after_refusal(outcome)
    return Group(*lines)


def _split(problems: Sequence[ProblemView]) -> tuple[list[ProblemView], int]:
    """Return the problems without the warnings beyond the first few, and how many those are."""
    warnings = [each for each in problems if each.severity == "warning"]
    left = warnings[_SHOWN_WARNINGS:]
    return [each for each in problems if each not in left], len(left)


def job_changes(load: Mapping[str, Any]) -> Iterator[Text]:
    """Yield a line for each kind of change that a load made to the jobs of a host.

    :param load: the data of its event, or its outcome as JSON
    """
    for name, key, counted in _CHANGES:
        if listed := load.get(key) or ():
            left = int(load.get(counted, 0)) - len(listed)
            more = f" and {left:,} more" if left > 0 else ""
            yield Text(f"{name}: {', '.join(printable(str(each)) for each in listed)}{more}")


def _after_refusal(outcome: ReloadView) -> Iterator[RenderableType]:
    """Yield the reason if no problem has told it, the last output of an import, and the way to use the code anyway."""
    told = outcome.problems and all(problem.code != "load_failed" for problem in outcome.problems)
    reasons = (f"{each.place}: {each.message}" if each.place else each.message for each in outcome.problems)
    left = outcome.message.removeprefix("; ".join(reasons)).lstrip("\n")
    if left and not told:
        yield Text(f"  {paragraph(left, indent=2)}")
    usable = all(problem.code not in _UNUSABLE for problem in outcome.problems)
    if outcome.generation and usable and not outcome.refused_by_kernel:
        force = f"to use it anyway: nomaflow reload {printable(outcome.host)} --force"
        kept = "a broken job then keeps its last good definition"
        yield Padding(Text(f"{force}\n{kept}", style="dim"), (0, 0, 0, 2))
