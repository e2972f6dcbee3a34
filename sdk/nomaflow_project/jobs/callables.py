"""Checks of a job's steps against the callables of a manifest, before the first run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from nomaflow_project.jobs.definitions import JobDefinition, PresetDefinition, StepDefinition
from nomaflow_project.jobs.step_types import StepType
from nomaflow_project.reading.problems import Place, Problem, did_you_mean, nearest
from nomaflow_project.reading.spelling import misspelt_name

__all__ = [
    "check_call_params",
    "check_callables",
    "check_keys",
    "kind_of",
    "refuse_op_kwargs",
    "refuse_params",
    "signature",
]

_INJECTED = frozenset({"connectors", "ctx", "settings"})


def check_callables(definition: JobDefinition, manifest: Mapping[str, Any], place: Place) -> Iterator[Problem]:
    """Yield the problems of callables: missing or failing ones, and keys that they cannot take or that they lack."""
    for index, step in enumerate(definition.steps):
        if not step.calls_job and step.callable:
            at = place / "steps" / index
            problems = [
                *_check_preset_fields(definition, step, place),
                *_check_step(definition, step, manifest, at, place),
            ]
            for problem in problems:
                # A disabled step does no harm until a run enables it.
                yield problem if step.enabled else _softened(problem)
    yield from _check_params(definition, manifest, place / "params")


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
        if takeable is None:
            continue
        for name in step.params:
            if name not in takeable and name not in child.params:
                yield (place / "steps" / index / "params" / name).warning(
                    "unused_param",
                    f"no step of job {child.id!r} takes the param {name!r}; it is only in ctx.params",
                    fix=did_you_mean(name, takeable, noun="parameter"),
                )


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
    return f"no enabled step takes the param {refused[0]!r}; {did_you_mean(refused[0], takeable, noun='param')}"


def check_keys(
    reference: str, manifest: Mapping[str, Any], keys: Collection[str], given: Collection[str]
) -> tuple[str | None, list[str]]:
    """Return why keys of op_kwargs are refused, or None, and a warning for each key that is ignored.

    Unknown keys of a callable without ``**`` are refused by the attempt; only keys that ``**`` would swallow are
    checked.

    :param reference: the callable
    :param given: all keys given, over all layers
    """
    entry = _callables(manifest).get(reference)
    if entry is None or not entry.get("catch_all"):
        return None, []
    injected = _injected(manifest)
    stray = [key for key in keys if key not in _keywords(entry) and key not in injected]
    shown = signature(reference, entry)
    for key in stray:
        meant = _meant(key, reference, manifest, injected.union(given))
        if meant:
            return f"{shown} does not name {key!r}, and nothing gives {meant!r}; did you mean {meant!r}?", []
    return None, [_ignored(shown, key) for key in stray if _ignores(entry)]


def refuse_op_kwargs(step: StepDefinition, names: Iterable[str]) -> str | None:
    """Return why a preset or a run may not set these keys of a step; None if it may."""
    fixed = [name for name in names if not step.may_set(name)]
    if not fixed:
        return None
    return f"{_not_overridable(step, fixed[0])}; {_overridable(step)}"


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


def signature(reference: str, entry: Mapping[str, Any]) -> str:
    """Return the signature of a callable of a manifest, for a message."""
    parts = []
    for parameter in entry.get("parameters") or ():
        text = ("*" if parameter["kind"] == "var_positional" else "") + parameter["name"]
        if parameter.get("annotation"):
            text += f": {parameter['annotation']}"
        if parameter.get("default"):
            text += f" = {parameter['default']}"
        parts.append(text)
    if entry.get("catch_all"):
        parts.append(f"**{entry['catch_all']}")
    return f"{reference.rpartition(':')[2]}({', '.join(parts)})"


def _check_step(
    definition: JobDefinition, step: StepDefinition, manifest: Mapping[str, Any], at: Place, job: Place
) -> Iterator[Problem]:
    entry = _callables(manifest).get(step.callable)
    if entry is None or entry.get("error"):
        yield _unusable(step.callable, entry, manifest, at / "callable")
        return
    takes = _keywords(entry)
    shown = signature(step.callable, entry)
    for parameter in entry.get("parameters") or ():
        if parameter["kind"] == "positional_only" and parameter["required"]:
            yield (at / "callable").error(
                "positional_only",
                f"{step.callable!r} takes {parameter['name']!r} by position only, and steps are called with keywords",
                fix="put *, before its parameters",
            )
    injected = _injected(manifest)
    given = injected.union(definition.params, step.op_kwargs)
    sources = [(at / "op_kwargs", step.op_kwargs, given)] + [
        (job / "presets" / index / "op_kwargs" / step.name, keys, given.union(preset.params, keys))
        for index, preset in enumerate(definition.presets)
        if (keys := preset.op_kwargs.get(step.name, {}))
    ]
    misspelt: set[str] = set()
    for source, keys, known in sources:
        for name in keys:
            if name in takes:
                continue
            if not entry.get("catch_all"):
                fix = did_you_mean(name, takes, noun="parameter")
                yield (source / name).error("unknown_op_kwarg", f"{shown} takes no {name!r}", fix=fix)
            elif meant := _meant(name, step.callable, manifest, known):
                misspelt.add(meant)
                message = f"{shown} does not name {name!r}, and nothing gives {meant!r}"
                yield (source / name).error("misspelt_op_kwarg", message, fix=f"did you mean {meant!r}?")
            elif _ignores(entry) and name not in injected:
                yield (source / name).warning(
                    "ignored_op_kwarg",
                    _ignored(shown, name),
                    fix=did_you_mean(name, takes - injected, noun="parameter"),
                )
    yield from _check_required(definition, step, manifest, at, shown, misspelt)


def _check_required(
    definition: JobDefinition,
    step: StepDefinition,
    manifest: Mapping[str, Any],
    at: Place,
    shown: str,
    misspelt: Collection[str],
) -> Iterator[Problem]:
    """Yield a problem for each required parameter that nothing gives; an error if a schedule would run into it.

    :param misspelt: parameters already reported, along with the key that was meant for them
    """
    entry = _callables(manifest)[step.callable]
    params = {name for name in definition.params if step.may_set(name)}
    given = _injected(manifest).union(params, step.op_kwargs)
    spare = [key for key in (*params, *step.op_kwargs) if key not in _keywords(entry)]
    required = [
        parameter["name"]
        for parameter in entry.get("parameters") or ()
        if parameter["kind"] == "keyword" and parameter["required"] and parameter["name"] not in {*given, *misspelt}
    ]
    for name in required:
        fires = [schedule.preset for schedule in definition.schedules()]
        lacking = [preset for preset in fires if not _preset_gives(definition.preset(preset), step, name)]
        message = f"{shown} needs {name!r} and nothing gives it"
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
            yield (at / "op_kwargs").warning(
                "missing_op_kwarg", f"{message}, unless a run does", fix=f"{fix}, or run with --param {name}=…"
            )


def _preset_gives(preset: PresetDefinition | None, step: StepDefinition, name: str) -> bool:
    if preset is None:
        return False
    off = preset.steps.get(step.name) is False
    return off or name in preset.params or name in preset.op_kwargs.get(step.name, {})


def _check_params(definition: JobDefinition, manifest: Mapping[str, Any], at: Place) -> Iterator[Problem]:
    takeable = _takeable(definition.steps, manifest)
    if takeable is None:
        return
    for name in definition.params:
        if name not in takeable:
            yield (at / name).warning(
                "unused_param",
                f"no step's callable takes the param {name!r}; it is only in ctx.params",
                fix=did_you_mean(name, takeable, noun="parameter"),
            )


def _takeable(steps: Collection[StepDefinition], manifest: Mapping[str, Any]) -> set[str] | None:
    """Return the names that any of the steps takes; None if one takes any name, or if it is unknown."""
    names: set[str] = set()
    for step in steps:
        if step.overridable is not None:
            names.update(step.overridable)
            continue
        entry = _callables(manifest).get(step.callable)
        if step.calls_job or entry is None or entry.get("error") or entry.get("catch_all"):
            return None
        names |= _keywords(entry)
    return names - _INJECTED


def _unusable(reference: str, entry: Mapping[str, Any] | None, manifest: Mapping[str, Any], at: Place) -> Problem:
    module = reference.partition(":")[0]
    modules = manifest.get("modules") or {}
    import_error = (modules.get(module) or {}).get("error")
    usable = [name for name, each in _callables(manifest).items() if not each.get("error")]
    if import_error:
        return at.error("callable_error", f"the callable {reference!r} cannot be loaded: {import_error}")
    if entry is not None:
        near = did_you_mean(reference, usable, noun="callable")
        return at.error("callable_error", str(entry["error"]), fix=near)
    return at.error(
        "unknown_callable",
        f"the host offers no callable {reference!r}",
        fix=did_you_mean(reference, usable, noun="callable"),
    )


def _softened(problem: Problem) -> Problem:
    place = Place(problem.file, problem.path, problem.job_id)
    return place.warning(problem.code, f"{problem.message} (the step is disabled)", fix=problem.fix)


def _callables(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    return manifest.get("callables") or {}


def _injected(manifest: Mapping[str, Any]) -> frozenset[str]:
    return _INJECTED.union(manifest.get("injections") or ())  # plugins may contribute more


def _meant(key: str, reference: str, manifest: Mapping[str, Any], given: Collection[str]) -> str:
    """Return the parameter of a callable that a key misspells; empty for none, and for a field of its step types."""
    types = map(StepType.from_manifest, manifest.get("step_types") or ())
    if any(key in each.fields for each in types if each.callable == reference):
        return ""
    names = sorted(_keywords(_callables(manifest)[reference]))
    return misspelt_name(key, (name for name in names if name not in given))


def _ignores(entry: Mapping[str, Any]) -> bool:
    """Return whether the name of the callable's ``**`` says that it ignores the keys in it."""
    return str(entry.get("catch_all", "")).startswith("_")


def _ignored(shown: str, key: str) -> str:
    return f"{shown} does not name {key!r}, so the key is ignored"


def _keywords(entry: Mapping[str, Any]) -> set[str]:
    return {each["name"] for each in entry.get("parameters") or () if each["kind"] == "keyword"}
