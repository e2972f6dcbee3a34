"""Checks the values that jobs give against their callables' annotations, before the first run.

The kernel cannot do this: it has the annotations only as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nomaflow_api.v1.values import ValueCodecError, child_path, decode_tree
from nomaflow_host.injection import CallPlan, PreparationFailed, names_in
from nomaflow_project.reading.problems import Problem, Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

__all__ = ["misfits"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """A job's table and where it is."""

    table: Mapping[str, Any]
    file: str
    path: str


def misfits(
    job_files: Iterable[Mapping[str, Any]], plans: Mapping[str, object], *, as_given: Collection[str]
) -> Iterator[Problem]:
    """Yield a problem for each value that its callable would refuse.

    Values that refer to the environment are left out, since each attempt resolves them.

    :param job_files: ``job_files`` of the manifest
    :param plans: reference to `CallPlan`
    :param as_given: names of injections; their values are not coerced
    """
    for file in job_files:
        tree = file.get("tree")
        tables = tree.get("jobs") if isinstance(tree, dict) else None
        for index, table in enumerate(tables if isinstance(tables, list) else ()):
            if isinstance(table, dict):
                job = _Job(table=table, file=str(file.get("path", "")), path=f"jobs[{index}]")
                yield from _of_job(job, plans, as_given)


def _of_job(job: _Job, plans: Mapping[str, object], as_given: Collection[str]) -> Iterator[Problem]:
    for index, step in enumerate(_tables(job.table.get("steps"))):
        plan = plans.get(str(step.get("callable")))
        if step.get("type", "python") != "python" or not isinstance(plan, CallPlan):
            continue
        own = _table(step.get("op_kwargs"))
        params = {key: value for key, value in _table(job.table.get("params")).items() if key not in own}
        name = step.get("name") or plan.reference.rpartition(":")[2].rpartition(".")[2]
        layers = [(f"{job.path}.steps[{index}].op_kwargs", own), (f"{job.path}.params", params)]
        for number, preset in enumerate(_tables(job.table.get("presets"))):
            values = _table(_table(preset.get("op_kwargs")).get(name))
            layers.append((child_path(f"{job.path}.presets[{number}].op_kwargs", name), values))
        severity = Severity.ERROR if step.get("enabled", True) else Severity.WARNING
        for path, layer in layers:
            yield from _of_layer(job, plan, layer, path, severity, as_given)


def _of_layer(
    job: _Job, plan: CallPlan, layer: Mapping[str, Any], path: str, severity: Severity, as_given: Collection[str]
) -> Iterator[Problem]:
    for key, value in layer.items():
        if key not in plan.named or key in as_given or names_in(value):
            continue
        try:
            plan.fit(key, decode_tree(value, path=key))
        except ValueCodecError:
            continue  # the kernel's own check reports it
        except PreparationFailed as error:
            yield Problem(
                severity=severity,
                code=error.reason_code,
                file=job.file,
                path=child_path(path, key),
                message=error.message,
                fix="correct the value, or the annotation",
                job_id=str(job.table.get("id", "")),
            )


def _tables(value: Any) -> list[Mapping[str, Any]]:
    return [each if isinstance(each, dict) else {} for each in value] if isinstance(value, list) else []


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
