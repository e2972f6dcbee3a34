"""The form of a manifest, as far as this package reads it: what a host sends is checked against it before use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from nomaflow_api.bounds import CALLABLES_OF_HOST, JOBS_OF_HOST, MOST_SMALL_NUMBER, PARAMETERS_OF_CALLABLE

_Name = Annotated[str, Meta(max_length=255)]
_Line = Annotated[int, Meta(ge=0, le=MOST_SMALL_NUMBER)]
_Path = Annotated[str, Meta(max_length=4096)]
_Known = TypeVar("_Known")


class ManifestError(ValueError):
    """Raised when a manifest does not have the form, or has too much of something. Its text says where."""


class _Parameter(Struct):
    name: str
    kind: str
    required: bool
    annotation: str | None = None
    default: str | None = None
    default_json: str = ""
    schema: dict[str, Any] = {}
    doc: str = ""


class _Callable(Struct):
    kind: str = "sync"
    doc: str = ""
    file: str = ""
    line: _Line = 0
    parameters: Annotated[list[_Parameter], Meta(max_length=PARAMETERS_OF_CALLABLE)] = []
    catch_all: str | None = None
    error: str | None = None


class _OfModule(Struct):
    error: str | None = None
    traceback: str = ""
    file: str = ""
    line: _Line = 0


class _Field(Struct):
    type: str | list[str] = []
    enum: list[Any] = []


class _Schema(Struct):
    properties: dict[str, _Field | bool] = {}
    required: list[str] = []


class _StepType(Struct):
    name: _Name
    callable: _Name
    schema: _Schema | None = None
    overridable: list[str] | None = None
    secret: list[str] = []
    checked: bool = False
    doc: str = ""


class _File(Struct):
    path: _Path
    tree: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    absent: bool = False
    main: bool = False


class _Manifest(Struct):
    host: str
    callables: dict[_Name, _Callable] = {}
    modules: dict[_Name, _OfModule] = {}
    step_types: list[_StepType] = []
    injections: list[str] = []
    env_files: dict[_Path, str] = {}
    job_files: list[_File] = []
    problems: list[dict[str, Any]] = []


# msgspec analyses a struct when it is first used; a second thread that uses it meanwhile crashes the process. A kernel
# checks manifests on threads. So all their structs are analysed here, while the module is imported.
msgspec.json.Decoder(_Manifest)


def check_entry(entry: Mapping[str, Any], noun: Literal["callable", "step type"]) -> None:
    """Check a single entry, so that one that has too much does not have its whole manifest refused.

    :raises ManifestError: if a kernel would refuse it
    """
    _convert(entry, _Callable if noun == "callable" else _StepType, f"the {noun}")


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Check the form of a manifest, and how much it brings.

    :raises ManifestError: if a part has another form, or there are too many jobs, callables or modules
    """
    known = _convert(manifest, _Manifest, "the manifest")
    jobs = sum(len(found) for file in known.job_files if isinstance(found := (file.tree or {}).get("jobs"), list))
    for noun, count, most in (
        ("jobs", jobs, JOBS_OF_HOST),
        ("callables", len(known.callables), CALLABLES_OF_HOST),
        ("modules", len(known.modules), CALLABLES_OF_HOST),
    ):
        if count > most:
            raise ManifestError(f"the manifest has {count:,} {noun}, expected at most {most:,}; split the host in two")


def _convert(given: Mapping[str, Any], kind: type[_Known], what: str) -> _Known:
    try:
        return msgspec.convert(given, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ManifestError(f"{what} is malformed: {error}") from None
