"""Views of what a host offers: callables with their parameters, modules and step types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import field

from nomaflow.client.values.shapes import NullableCount, NullableText, Shaped

__all__ = ["CallableView", "CallablesView", "ModuleView", "ParameterView", "StepTypeView"]


class ParameterView(Shaped, frozen=True, kw_only=True):
    """One parameter of a callable.

    :param required: True if a call must give it
    :param annotation: as written, may be empty
    :param default: the default, None if it has none or one that JSON cannot hold
    :param default_text: the default as Python writes it, empty if it has none
    :param schema: the JSON Schema of the annotation, empty if there is none
    :param doc: the docstring's text about it, may be empty
    :param injected: True if the host gives it
    """

    name: str
    required: bool = False
    annotation: NullableText = ""
    default: Any | None = None
    default_text: NullableText = ""
    schema: Mapping[str, Any] = field(default_factory=dict)
    doc: NullableText = ""
    injected: bool = False


class CallableView(Shaped, frozen=True, kw_only=True):
    """One function that a host offers.

    :param reference: its name, such as ``reports.monthly:score``
    :param kind: ``async`` or ``sync``
    :param doc: the first line of its docstring
    :param accepts_any_keyword: True if its signature has ``**``
    :param error: why it cannot be called, empty if it can
    :param job_ids: the jobs that call it
    """

    reference: str
    kind: str = "sync"
    doc: NullableText = ""
    file: NullableText = ""
    line: NullableCount = 0
    parameters: tuple[ParameterView, ...] = ()
    accepts_any_keyword: bool = False
    error: NullableText = ""
    job_ids: tuple[str, ...] = ()


class ModuleView(Shaped, frozen=True, kw_only=True):
    """One module that a host imports; ``file`` and ``line`` are the place in the project where its import failed."""

    name: str
    file: NullableText = ""
    line: NullableCount = 0
    error: NullableText = ""
    traceback: NullableText = ""


class StepTypeView(Shaped, frozen=True, kw_only=True):
    """One step type that a plugin contributes, with the JSON Schema of its fields."""

    name: str
    doc: NullableText = ""
    schema: Mapping[str, Any] = field(default_factory=dict)


class CallablesView(Shaped, frozen=True, kw_only=True):
    """The newest catalogue of a host, sorted by name."""

    host: str
    callables: tuple[CallableView, ...] = ()
    modules: tuple[ModuleView, ...] = ()
    step_types: tuple[StepTypeView, ...] = ()
