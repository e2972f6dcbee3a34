"""Step types contributed by plugins: a name, the callable that they call, and a JSON Schema of their keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nomaflow_project.reading.problems import Place, Problem, did_you_mean, shown
from nomaflow_project.reading.records import Record

PYTHON_STEP = "python"
CALL_JOB_STEP = "call_job"

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StepType(Record):
    """A type of step besides ``python`` and ``call_job``, as a manifest has it.

    :param schema: JSON Schema of an object; ``required``, ``properties`` with ``type`` and ``enum``, and
        ``additionalProperties`` are checked here, all else by the callable itself
    :param overridable: the keys that params, and op_kwargs of presets and runs, may set
    :param secret: the keys whose values are masked
    :param checked: whether the host has checked its steps, against the model that the schema was made from
    """

    name: str
    callable: str
    schema: Mapping[str, Any] = field(default_factory=dict)
    doc: str = ""
    overridable: tuple[str, ...] = ()
    secret: tuple[str, ...] = ()
    checked: bool = False

    @property
    def fields(self) -> Collection[str]:
        """The keys that its schema names."""
        return (self.schema.get("properties") or {}).keys()

    def takes(self, key: str) -> bool:
        """Return whether a step of this type takes a key; a model takes only its fields, unless it says otherwise."""
        return key in self.fields or self.schema.get("additionalProperties", not self.checked) is not False

    def check(self, keys: Mapping[str, Any], place: Place) -> Iterator[Problem]:
        """Yield the problems of the keys of a step of this type; the host has checked values against a model."""
        for name in keys:
            if not self.takes(name):
                yield (place / name).error(
                    "unknown_key",
                    f"unknown key {name!r} of a step of type {self.name!r}",
                    fix=did_you_mean(name, self.fields) if self.fields else "remove it",
                )
        if self.checked:
            return
        properties = self.schema.get("properties") or {}
        for name in self.schema.get("required") or ():
            if name not in keys:
                yield (place / str(name)).error(
                    "missing_key", f"a step of type {self.name!r} needs the key {name!r}", fix="add it"
                )
        for name, value in keys.items():
            known = properties.get(name)
            yield from self._check_value(known if isinstance(known, Mapping) else {}, value, place / name)

    def _check_value(self, schema: Mapping[str, Any], value: Any, place: Place) -> Iterator[Problem]:
        if isinstance(value, str) and "${" in value:
            return  # known only at each attempt
        wanted = schema.get("type", ())
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        kinds = tuple(kind for name in names for kind in _TYPES.get(name, ()))
        if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            yield place.error("wrong_type", f"expected {' or '.join(names)}, got {shown(value)}")
        elif "enum" in schema and value not in schema["enum"]:
            listed = ", ".join(shown(choice) for choice in schema["enum"])
            yield place.error("bad_choice", f"{shown(value)} is not one of {listed}")
