"""The generated pages: the configuration with its schemas, and the reason codes."""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from docs.making.configuration_text import INTRODUCTION, PROBLEM_CODES, SCHEDULES
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from nomaflow_kernel.history.reason_texts import REASONS
from nomaflow_project.jobs.definitions import JobsFile
from nomaflow_project.models.connectors_file import ConnectorsFile
from nomaflow_project.models.settings_file import SettingsFile
from nomaflow_project.reading.validation import keys_of, models_in

__all__ = ["documented_files", "write_pages"]

_FILES: tuple[tuple[str, type], ...] = (
    ("nomaflow.toml", SettingsFile),
    ("jobs.toml", JobsFile),
    ("connectors.toml", ConnectorsFile),
)
_KINDS = {str: "text", int: "whole number", float: "number", bool: "true/false"}


def documented_files() -> dict[str, str]:
    """Return the content of every generated file, by its path below docs/."""
    files = {"configuration.md": configuration_markdown(), "reason_codes.md": reason_codes_markdown()}
    for name, model in _FILES:
        text = json.dumps(schema(name, model), indent=2, ensure_ascii=False)
        files[f"schemas/{name.removesuffix('.toml')}.schema.json"] = text + "\n"
    return files


def schema(name: str, model: type) -> dict[str, Any]:
    """Return the JSON Schema of a file."""
    made = TypeAdapter(model).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": name}


def configuration_markdown() -> str:
    """Return docs/configuration.md."""
    parts = [INTRODUCTION]
    for name, model in _FILES:
        parts.append(f"## {name}\n\n{_sentence(model, after=':')}\n")
        for title, table, meaning in _tables(model, ()):
            rows = list(_rows(table))
            if rows:
                head = "| key | type | unit | default | since | meaning |\n|---|---|---|---|---|---|"
                parts.append(f"### `{title}`\n\n{meaning}\n\n{head}\n" + "\n".join(rows) + "\n")
        if model is JobsFile:
            parts.append(SCHEDULES)
    codes = "\n".join(f"| `{code}` | {meaning} |" for code, meaning in sorted(PROBLEM_CODES.items()))
    parts.append(
        f"## Problems\n\nThe codes of what `nomaflow check` reports.\n\n| code | meaning |\n|---|---|\n{codes}\n"
    )
    return "\n".join(parts)


def _tables(model: type, path: Sequence[str]) -> Iterator[tuple[str, type, str]]:
    """Yield (TOML header, model, description) of a table and of the tables inside it."""
    if path:
        header = ".".join(path).replace("[]", "")
        yield (f"[[{header}]]" if path[-1].endswith("[]") else f"[{header}]"), model, _sentence(model)
    for name, info in keys_of(model).items():
        listed = get_origin(info.annotation) is tuple
        keyed = get_origin(info.annotation) is dict
        for inner in models_in(info.annotation):
            yield from _tables(inner, (*path, name + ("[]" if listed else ""), *(("NAME",) if keyed else ())))


def _rows(model: type) -> Iterator[str]:
    for field_name, info in keys_of(model).items():
        if models_in(info.annotation):
            continue
        name = info.alias or field_name
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        meaning = (info.description or "").replace("|", "\\|")
        cells = (f"`{name}`", _kind(info), str(extra.get("unit", "")), _default(info), str(extra["since"]), meaning)
        yield "| " + " | ".join(cells) + " |"


def _kind(info: FieldInfo) -> str:
    text = _kind_of(info.annotation)
    bounds = [
        f"{sign} {getattr(each, name):,.10g}"
        for each in info.metadata
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if getattr(each, name, None) is not None
    ]
    return f"{text}, {', '.join(bounds)}" if bounds else text


def _kind_of(annotation: Any) -> str:
    if annotation in _KINDS:
        return _KINDS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " · ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return _kind_of(next(each for each in arguments if each is not type(None)))
    if origin in (list, tuple):
        inner = _kind_of(arguments[0])
        return f"array of {inner}" if inner.startswith("`") else f"array of {inner}s"
    if origin is dict:
        return "table" if arguments[1] is Any else f"table of {_kind_of(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " · ".join(f"`{each.value}`" for each in annotation)
    return _kind_of(arguments[0]) if arguments else "any"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ("", [], (), {}):
        return ""
    return f"`{json.dumps(value)}`"


def _sentence(model: type, *, after: str = "") -> str:
    text = " ".join((model.__doc__ or "").split())
    text = text.partition(after)[2].strip() if after else text
    return text[:1].upper() + text[1:]


def reason_codes_markdown() -> str:
    """Return docs/reason_codes.md."""
    rows = "\n".join(f"| `{code}` | {info.meaning} | {info.advice} |" for code, info in REASONS.items())
    return (
        "# Reason codes\n\n"
        "Every state of a run or an attempt other than SUCCEEDED carries a reason: one of these codes, and a sentence\n"
        "with the particulars. Codes are stable; sentences may change. This page is generated (`make docs`) from\n"
        "`nomaflow_kernel.history.reason_texts`.\n\n"
        f"| code | meaning | what to do |\n|---|---|---|\n{rows}\n"
    )


def write_pages(folder: Path) -> None:
    """Write the generated files below a folder."""
    for name, text in documented_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
