"""Checks of a job's steps against the callables of a manifest, before the first run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from nomaflow_project.jobs.definitions import JobDefinition, StepDefinition
from nomaflow_project.jobs.step_types import StepType
from nomaflow_project.reading.callable_references import reference_error
from nomaflow_project.reading.misspelt_names import misspelt_name
from nomaflow_project.reading.problems import Place, Problem, Severity, did_you_mean
from nomaflow_project.reading.work_time import check_time, nearest

_SIGNATURE = 500
"""The most characters of a signature in a message: each problem of a step repeats it."""
_INJECTED = frozenset({"connectors", "ctx", "settings"})


@dataclass(frozen=True, kw_only=True)
class _Callable:
    """A callable that a host offers.

    :param catch_all: the name of its ``**``; empty without one
    :param injected: the names that the host gives it
    :param step_types: the contributed step types of the host
    """

    reference: str
    parameters: Sequence[Mapping[str, Any]]
    catch_all: str
    injected: frozenset[str]
    step_types: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, manifest: Mapping[str, Any], reference: str) -> _Callable | None:
        """Return the callable of a reference; None if the host does not offer it, or cannot load it."""
        entry = _callables(manifest).get(reference)
        if entry is None or entry.get("error"):
            return None
        return cls(
            reference=reference,
            parameters=entry.get("parameters") or (),
            catch_all=entry.get("catch_all") or "",
            injected=injected_names(manifest),
            step_types=manifest.get("step_types") or (),
        )

    @cached_property
    def keywords(self) -> Mapping[str, bool]:
        """The parameters that can be given by name, each with whether it must be given."""
        return {each["name"]: each["required"] for each in self.parameters if each["kind"] == "keyword"}

    @cached_property
    def signature(self) -> str:
        """The signature, for a message."""
        parts = []
        for parameter in self.parameters:
            text = ("*" if parameter["kind"] == "var_positional" else "") + parameter["name"]
            if parameter.get("annotation"):
                text += f": {parameter['annotation']}"
            if parameter.get("default"):
                text += f" = {parameter['default']}"
            parts.append(text)
        if self.catch_all:
            parts.append(f"**{self.catch_all}")
        text = f"{self.reference.rpartition(':')[2]}({', '.join(parts)})"
        return text if len(text) <= _SIGNATURE else f"{text[:_SIGNATURE]}…)"

    def meant(self, key: str, given: Collection[str]) -> str:
        """Return the parameter that a key misspells and nothing gives; empty for none, or a step type's own field."""
        types = map(StepType.from_json, self.step_types)
        if any(key in each.fields for each in types if each.callable == self.reference):
            return ""
        return misspelt_name(key, (name for name in sorted(self.keywords) if name not in given))

    def not_named(self, key: str, meant: str) -> str:
        """Return what is wrong with a key that its ``**`` swallows; empty for nothing.

        :param meant: the parameter that the key misspells; empty for none
        """
        if meant:
            return f"{self.signature} does not name {key!r}, and nothing gives {meant!r}"
        if self.catch_all.startswith("_") and key not in self.injected:
            return f"{self.signature} does not name {key!r}, so the key is ignored"
        return ""


def injected_names(manifest: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of parameters that a host gives: its own, and those that its plugins contribute."""
    return _INJECTED.union(manifest.get("injections") or ())


def check_callables(definition: JobDefinition, manifest: Mapping[str, Any], place: Place) -> Iterator[Problem]:
    """Yield the problems of callables: missing or failing ones, and keys that they cannot take or still need."""
    for index, step in enumerate(definition.steps):
        check_time()
        if step.calls_job or not step.callable:
            continue
        at = place / "steps" / index
        found = _Callable.of(manifest, step.callable)
        problems = [*_check_preset_fields(definition, step, place)]
        if found is not None:
            problems += _check_step(definition, step, found, at, place)
        elif step.type != "python" or reference_error(step.callable) is None:  # else reported where a step is read
            problems.append(_unusable(step.callable, manifest, at / "callable"))
        for problem in problems:
            if step.enabled:
                yield problem
            else:  # it does no harm until a run enables it
                message = f"{problem.message} (the step is disabled)"
                yield replace(problem, severity=Severity.WARNING, message=message)
    yield from _check_params(definition, manifest, place)


def _check_params(definition: JobDefinition, manifest: Mapping[str, Any], place: Place) -> Iterator[Problem]:
    """Yield a warning for each param that no step takes, and each misspelt secret one, whose value would be shown."""
    takeable = _takeable(definition.steps, manifest)
    for name in definition.params:
        if takeable is not None and name not in takeable:
            yield _unused_param(name, takeable, place / "params" / name, whose="no step's callable")
    if not definition.secret_params:
        return
    named = _named(definition.steps, manifest).union(definition.params)
    for index, name in enumerate(definition.secret_params):
        at = place / "secret_params" / index
        if name in named:
            continue
        if takeable is not None and name not in takeable:
            yield _unused_param(name, takeable, at, whose="no step's callable")
        elif meant := misspelt_name(name, sorted(named)):
            yield at.warning("unused_param", f"nothing names the param {name!r}", fix=f"did you mean {meant!r}?")


def _unused_param(name: str, takeable: Collection[str], at: Place, *, whose: str) -> Problem:
    message = f"{whose} takes the param {name!r}; it is only in ctx.params"
    return at.warning("unused_param", message, fix=did_you_mean(name, takeable, noun="parameter"))


def check_call_params(
    definition: JobDefinition, definitions: Mapping[str, JobDefinition], manifest: Mapping[str, Any], place: Place
) -> Iterator[Problem]:
    """Yield the params of call_job steps that no step of the called job takes.

    :param definitions: the other known jobs, by id
    """
    for index, step in enumerate(definition.steps):
        child = definitions.get(step.target_job_id)
        if not step.params or child is None or child.host != definition.host:
            continue
        takeable = _takeable(child.steps, manifest)
        for name in step.params:
            if takeable is not None and name not in takeable and name not in child.params:
                at = place / "steps" / index / "params" / name
                yield _unused_param(name, takeable, at, whose=f"no step of job {child.id!r}")


def kind_of(manifest: Mapping[str, Any], reference: str) -> str:
    """Return ``async`` or ``sync``; ``async`` for a callable that the manifest does not have."""
    return "sync" if _callables(manifest).get(reference, {}).get("kind") == "sync" else "async"


def refuse_params(
    definition: JobDefinition, manifest: Mapping[str, Any], params: Collection[str], enabled_steps: Collection[str]
) -> str | None:
    """Return why run params are refused: no enabled step's callable takes one of them. None if all are accepted."""
    steps = [step for step in definition.steps if step.name in enabled_steps]
    takeable = _takeable(steps, manifest)
    if takeable is None:
        return None
    refused = sorted(name for name in params if name not in takeable and name not in definition.params)
    if not refused:
        return None
    fixed = next((step for step in steps if refused[0] in step.op_kwargs), None)
    if fixed is not None:
        return refuse_op_kwargs(fixed, refused[:1])
    fix = did_you_mean(refused[0], takeable, noun="param") if takeable else "leave it out"
    return f"no enabled step takes the param {refused[0]!r}; {fix}"


def misspelt_params(
    definition: JobDefinition, manifest: Mapping[str, Any], params: Collection[str], enabled_steps: Collection[str]
) -> list[str]:
    """Return a warning for each run param that nothing names, and that misspells what an enabled step or the job names.

    A callable's ``**`` swallows such a param, so that nothing refuses it.
    """
    steps = [step for step in definition.steps if step.name in enabled_steps]
    names = _named(steps, manifest).union(definition.params)
    free = sorted(names.difference(params))
    meant = [(name, misspelt_name(name, free)) for name in sorted(set(params) - names)]
    return [f"nothing names the param {name!r}; did you mean {near!r}?" for name, near in meant if near]


def check_keys(
    reference: str, manifest: Mapping[str, Any], keys: Collection[str], given: Collection[str]
) -> tuple[str | None, list[str]]:
    """Return why keys of op_kwargs are refused, or None, and a warning for each key that is ignored.

    Unknown keys of a callable without ``**`` are refused by the attempt; only keys that ``**`` would swallow are
    checked.

    :param reference: the callable
    :param given: all keys given, in all layers
    """
    found = _Callable.of(manifest, reference)
    if found is None or not found.catch_all:
        return None, []
    stray = [key for key in keys if key not in found.keywords and key not in found.injected]
    for key in stray:
        meant = found.meant(key, found.injected.union(given))
        if meant:
            return f"{found.not_named(key, meant)}; did you mean {meant!r}?", []
    return None, [told for key in stray if (told := found.not_named(key, ""))]


def refuse_op_kwargs(step: StepDefinition, names: Iterable[str]) -> str | None:
    """Return why a preset or a run may not set these keys of a step; None if it may."""
    fixed = [name for name in names if not step.may_set(name)]
    return f"{_not_overridable(step, fixed[0])}; {_overridable(step)}" if fixed else None


def _not_overridable(step: StepDefinition, name: str) -> str:
    return f"the key {name!r} of step {step.name!r} is its job's alone: the type {step.type!r} opens it to nobody else"


def _overridable(step: StepDefinition) -> str:
    return f"those that a preset or a run may set: {', '.join(map(repr, step.overridable or ())) or 'none'}"


def _check_preset_fields(definition: JobDefinition, step: StepDefinition, job: Place) -> Iterator[Problem]:
    for index, preset in enumerate(definition.presets):
        for name in preset.op_kwargs.get(step.name, {}):
            if not step.may_set(name):
                at = job / "presets" / index / "op_kwargs" / step.name / name
                yield at.error("not_overridable", _not_overridable(step, name), fix=_overridable(step))


def _check_step(
    definition: JobDefinition, step: StepDefinition, found: _Callable, at: Place, job: Place
) -> Iterator[Problem]:
    given = found.injected.union(definition.params, step.op_kwargs)
    sources = [(at / "op_kwargs", step.op_kwargs, given)] + [
        (job / "presets" / index / "op_kwargs" / step.name, keys, given.union(preset.params, keys))
        for index, preset in enumerate(definition.presets)
        if (keys := preset.op_kwargs.get(step.name, {}))
    ]
    misspelt: set[str] = set()
    for source, keys, known in sources:
        for name in keys:
            check_time()
            if name in found.keywords:
                continue
            if not found.catch_all:
                fix = _fix_of_key(name, found.keywords)
                yield (source / name).error("unknown_op_kwarg", f"{found.signature} takes no {name!r}", fix=fix)
            elif meant := found.meant(name, known):
                misspelt.add(meant)
                told = found.not_named(name, meant)
                yield (source / name).error("misspelt_op_kwarg", told, fix=f"did you mean {meant!r}?")
            elif told := found.not_named(name, ""):
                fix = _fix_of_key(name, found.keywords.keys() - found.injected)
                yield (source / name).warning("ignored_op_kwarg", told, fix=fix)
    yield from _check_required(definition, step, found, at, misspelt)


def _fix_of_key(name: str, parameters: Collection[str]) -> str:
    if not parameters:
        return "remove the key, or add a parameter of that name to the function"
    return did_you_mean(name, parameters, noun="parameter")


def _check_required(
    definition: JobDefinition, step: StepDefinition, found: _Callable, at: Place, misspelt: Collection[str]
) -> Iterator[Problem]:
    """Yield a problem for each required parameter that nothing gives; an error if a schedule would run into it.

    :param misspelt: parameters already reported, along with the key that was meant for them
    """
    params = {name for name in definition.params if step.may_set(name)}
    given = found.injected.union(params, step.op_kwargs, misspelt)
    spare = [key for key in (*params, *step.op_kwargs) if key not in found.keywords]
    for name in (name for name, required in found.keywords.items() if required and name not in given):
        lacking = [
            schedule.preset
            for schedule in definition.schedules()
            if not _preset_gives(definition, schedule.preset, step, name)
        ]
        message = f"{found.signature} needs {name!r} and nothing gives it"
        near = nearest(name, spare)
        if not step.may_set(name):
            fix = f"rename {near!r} to {name!r}" if near else f"add {name} to the step"
            yield (at / name).error("missing_op_kwarg", message, fix=fix)
            continue
        fix = f"rename {near!r} to {name!r}" if near else f"add {name} to op_kwargs or to the job's params"
        if lacking:
            by = f"the preset {lacking[0]!r}" if lacking[0] else "the job's schedule"
            yield (at / "op_kwargs").error("missing_op_kwarg", f"{message} when {by} fires", fix=fix)
        else:
            secret = name in definition.secret_params
            fix = f"run with --secret {name}" if secret else f"{fix}, or run with --param {name}=…"
            yield (at / "op_kwargs").warning("missing_op_kwarg", f"{message}, unless a run does", fix=fix)


def _preset_gives(definition: JobDefinition, preset_name: str, step: StepDefinition, name: str) -> bool:
    preset = definition.preset(preset_name)
    if preset is None:
        return False
    off = preset.steps.get(step.name) is False
    return off or name in preset.params or name in preset.op_kwargs.get(step.name, {})


def _takeable(steps: Collection[StepDefinition], manifest: Mapping[str, Any]) -> set[str] | None:
    """Return the names that any of the steps takes; None if one takes any name, or if it is unknown."""
    names: set[str] = set()
    for step in steps:
        if step.overridable is not None:
            names.update(step.overridable)
            continue
        found = None if step.calls_job else _Callable.of(manifest, step.callable)
        if found is None or found.catch_all:
            return None
        names.update(found.keywords)
    return names - _INJECTED


def _named(steps: Iterable[StepDefinition], manifest: Mapping[str, Any]) -> set[str]:
    """Return the names that the known callables of steps have for what is given to them."""
    found = [_Callable.of(manifest, step.callable) for step in steps if not step.calls_job]
    return {name for each in found if each is not None for name in each.keywords.keys() - each.injected}


def _unusable(reference: str, manifest: Mapping[str, Any], at: Place) -> Problem:
    module = (manifest.get("modules") or {}).get(reference.partition(":")[0]) or {}
    if module.get("error"):
        message = f"the callable {reference!r} cannot be loaded: {module['error']}"
        return at.error("callable_error", message)
    known = _callables(manifest)
    if reference in known:
        return at.error("callable_error", str(known[reference]["error"]))  # its host knows which names are near
    near = did_you_mean(reference, (name for name, each in known.items() if not each.get("error")), noun="callable")
    return at.error("unknown_callable", f"the host offers no callable {reference!r}", fix=near)


def _callables(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    return manifest.get("callables") or {}
