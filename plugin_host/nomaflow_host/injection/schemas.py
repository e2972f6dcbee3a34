"""JSON Schemas of annotations, for forms: what a value of a parameter looks like."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from nomaflow_host.injection.callables import UNKNOWN, evaluated, unwrapped
from nomaflow_host.injection.validation import mentions_validated, portable

_MAX_BYTES = 16 * 1024
_PLAIN: dict[Any, dict[str, Any]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    str: {"type": "string"},
}
_BY_NAME = {kind.__name__: kind for kind in _PLAIN}


def schema_of(annotation: Any, *, function: Any) -> dict[str, Any]:
    """Return the JSON Schema of a parameter's annotation; empty if none is known, or if it is over 16 KiB.

    :param annotation: as written
    :param function: the function in whose module names are looked up
    """
    plain = _plain(annotation, function)
    if plain is not None:
        return _PLAIN[plain]
    try:
        annotation = evaluated(annotation, function=function)
        if annotation is UNKNOWN or annotation is Any or annotation is object:
            return {}
        text = json.dumps(_made(annotation), allow_nan=False)
    except Exception:  # noqa: BLE001 - the author's types may raise anything, and a library may not know them
        return {}
    schema = json.loads(text) if len(text) <= _MAX_BYTES else {}
    return schema if schema.keys() - {"title"} else {}


def _plain(annotation: Any, function: Any) -> type | None:
    """Return the plain type that an annotation is, even as text: most are plain, and need no evaluation."""
    if type(annotation) is str:
        return None if annotation in getattr(function, "__globals__", {}) else _BY_NAME.get(annotation)
    return next((kind for kind in _PLAIN if annotation is kind), None)  # not by ==, which a class may define


def _made(annotation: Any) -> Any:
    if mentions_validated(annotation):
        import pydantic  # the values of such a parameter are validated by it

        return pydantic.TypeAdapter(portable(annotation)).json_schema()
    import msgspec

    return msgspec.json.schema(unwrapped(annotation), schema_hook=_of_class)


def _of_class(kind: type) -> dict[str, Any]:
    """Return the schema of a class that the library does not know: its values may look like anything."""
    return {"type": "string", "format": "path"} if issubclass(kind, PurePath) else {"title": kind.__name__}
