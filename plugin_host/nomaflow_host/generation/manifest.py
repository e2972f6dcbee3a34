"""The manifest: what a generation offers, for the kernel. The same code always gives the same bytes."""

from __future__ import annotations

import inspect
import json
import os
import platform
import re
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from nomaflow_api.v1.lossless_json import dumps_plain
from nomaflow_api.version import VERSION
from nomaflow_host.generation.checking import fields_of
from nomaflow_host.generation.docstrings import parameter_docs
from nomaflow_host.injection.call_plan import CallPlan, is_required
from nomaflow_host.injection.callables import readable
from nomaflow_host.injection.errors import PreparationFailed
from nomaflow_host.injection.references import stable
from nomaflow_host.injection.schemas import schema_of
from nomaflow_project.jobs.manifest import ManifestError, check_entry
from nomaflow_project.reading.problems import Place, Problem, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nomaflow_host.generation.generation import Generation
    from nomaflow_host.generation.plugin_modules import Imports
    from nomaflow_host.generation.spec import ProjectSpec
    from nomaflow_host.injection.references import ImportReport

MANIFEST_VERSION = 1

IMPORT_FIX = "correct the code, then load it again"

_AT_PLACE = re.compile(r" \([^()\n]*:\d+\)$")
_SIMPLE = (type(None), bool, int, float, str, Decimal)
_MAX_DEFAULT = 200
_MAX_DEFAULT_JSON = 10_000
_MAX_TEXT = 500
"""Characters of the first line of a docstring, and of an annotation: a manifest that is too large is refused whole."""
_UNUSABLE = {"kind": "sync", "doc": "", "file": "", "line": 0, "parameters": [], "catch_all": ""}


def build_manifest(generation: Generation) -> dict[str, Any]:
    """Return the manifest, in the form that the decision on processes and contracts specifies."""
    spec, plans, types, imports = generation.spec, generation.plans, generation.step_types, generation.imports
    names = sorted({*imports.loaded, *imports.failed})
    modules = {name: _module(imports.failed.get(name), spec.root) for name in names}
    unused = _unused_failures(modules, imports, spec)
    return {
        "manifest_version": MANIFEST_VERSION,
        "host": spec.host,
        "nomaflow_version": VERSION,
        "python": platform.python_version(),
        "version": spec.version,
        "max_parallel": spec.max_parallel,
        "accept_jobs_from": sorted(spec.accept_jobs_from),
        "accept_calls_from": sorted(spec.accept_calls_from),
        "callables": {reference: _offered(plans[reference], spec.root) for reference in sorted(plans)},
        "modules": modules,
        "step_types": [fields_of(types[name]).to_json() for name in sorted(types)],
        "injections": sorted(generation.injections),
        "env_files": dict(spec.env_file_states),
        "job_files": [dict(each) for each in spec.job_files],
        "problems": [dict(each) for each in (*spec.problems, *generation.problems, *unused)],
    }


def import_problem(entry: Mapping[str, Any], severity: Severity) -> Problem:
    """Return the problem of a module that cannot be imported, from its entry in a manifest."""
    line = int(entry.get("line") or 0)
    message = _AT_PLACE.sub("", entry["error"]) if line else entry["error"]
    problem = Place(str(entry.get("file") or "")).error("import_failed", message, fix=IMPORT_FIX, line=line)
    return replace(problem, severity=severity)


def _unused_failures(modules: Mapping[str, Any], imports: Imports, spec: ProjectSpec) -> Iterator[dict[str, Any]]:
    """Yield a warning for each module of a plugin folder that cannot be imported and that no job names.

    The jobs' own problems tell of the others. Of a package that cannot be imported, its modules have the same reason.
    """
    named = {reference.partition(":")[0] for reference in spec.named_callables}
    for name, entry in modules.items():
        if not entry["error"] or name not in imports.known or name.rpartition(".")[0] in imports.failed:
            continue
        if not any(f"{each}.".startswith(f"{name}.") for each in named):
            problem = import_problem(entry, Severity.WARNING)
            yield replace(problem, file=problem.file or _relative(imports.known[name], spec.root)).to_json()


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return the only encoding of the manifest; the digest is the SHA-256 of these bytes."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _module(failed: ImportReport | None, root: str) -> dict[str, Any]:
    """Return a module's entry; that of a failed module includes the innermost place in the project that was running."""
    if failed is None:
        return {"error": None, "traceback": "", "file": "", "line": 0}
    inside = [
        (file, line)
        for path, line in failed.places
        if not (file := _relative(path, root)).startswith(("/", "<")) and "site-packages" not in file
    ]
    file, line = inside[-1] if inside else ("", 0)
    error, traceback = (_inside(text, root) for text in (failed.message, failed.traceback))
    return {"error": error, "traceback": traceback, "file": file, "line": line}


def _offered(plan: CallPlan | PreparationFailed, root: str) -> dict[str, Any]:
    """Return a callable's entry; if it cannot be called, or is too large to be reported, the entry has the reason."""
    if isinstance(plan, PreparationFailed):
        return {**_UNUSABLE, "error": _inside(stable(plan.message), root)}
    entry = _callable(plan, root)
    try:
        check_entry(entry, "callable")
    except ManifestError as error:
        return {**_UNUSABLE, "error": f"{plan.reference} cannot be offered: {error}"}
    return entry


def _callable(plan: CallPlan, root: str) -> dict[str, Any]:
    code = getattr(plan.function, "__code__", None)
    doc = _doc(plan)
    docs = parameter_docs(doc)
    return {
        "kind": plan.kind,
        "doc": _short(doc.splitlines()[0].strip()) if doc else "",
        "file": _relative(code.co_filename, root) if code is not None else "",
        "line": code.co_firstlineno if code is not None else 0,
        "parameters": [_parameter(each, plan.function, docs) for each in plan.parameters],
        "catch_all": plan.catch_all,
        "error": None,
    }


def _doc(plan: CallPlan) -> str:
    # inspect.getdoc() would search the module and its classes, any of which may raise.
    doc = plan.function.__doc__ if inspect.isroutine(plan.function) else None
    return doc.strip() if isinstance(doc, str) else ""


def _parameter(parameter: inspect.Parameter, function: Any, docs: Mapping[str, str]) -> dict[str, Any]:
    has_default = parameter.default is not inspect.Parameter.empty
    for_forms = {
        "default_json": _default_json(parameter.default) if has_default else "",
        "schema": schema_of(parameter.annotation, function=function),
        "doc": docs.get(parameter.name, ""),
    }
    return {
        "name": parameter.name,
        "kind": "var_positional" if parameter.kind is parameter.VAR_POSITIONAL else "keyword",
        "required": is_required(parameter),
        "annotation": _short(readable(parameter.annotation)),
        "default": _default(parameter.default) if has_default else "",
        **{name: value for name, value in for_forms.items() if value},
    }


def _short(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def _default(value: Any) -> str:
    """Return a default as text, or only its type if the text would not be stable."""
    plain = type(value) in _SIMPLE or (type(value) in (list, tuple) and all(type(item) in _SIMPLE for item in value))
    if not plain:
        return f"<{type(value).__name__}>"
    try:
        text = repr(value)
    except ValueError:  # an int with more digits than Python prints
        return f"<{type(value).__name__}>"
    return text if len(text) <= _MAX_DEFAULT else text[: _MAX_DEFAULT - 3] + "..."


def _default_json(value: Any) -> str:
    """Return a default as JSON, in the form in which a client would give it; empty if it has none, or a long one."""
    try:
        text = dumps_plain(value)  # dates are refused: most are the moment when the module was imported
    except Exception:  # noqa: BLE001 - a class of the author's may raise whatever it is asked
        return ""
    return text if len(text) <= _MAX_DEFAULT_JSON else ""


def _inside(text: str, root: str) -> str:
    """Return a text with paths in the project relative to it, so that the same code in two folders gives the same."""
    return text.replace(os.path.join(root, ""), "")


def _relative(file: str, root: str) -> str:
    inside = os.path.relpath(os.path.realpath(file), os.path.realpath(root))
    return file if inside.startswith("..") else inside.replace(os.sep, "/")
