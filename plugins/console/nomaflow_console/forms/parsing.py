"""Values as texts of input fields, and back. What is shown is always read as the value that it shows.

Values are JSON trees as the wire has them: a date is ``{"$date": "2026-11-26"}``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import StrEnum
from typing import Any


class Absent:
    """The type of the value that is not there, which is another thing than null."""

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> bool:
        return False


ABSENT = Absent()


class WrongText(ValueError):
    """Raised for a text that is no value of its field's kind, or JSON of another form; it says what is expected."""


class KindName(StrEnum):
    """The kinds of fields."""

    TEXT = "text"
    INT = "whole number"
    FLOAT = "number"
    BOOL = "yes or no"
    CHOICE = "choice"
    DATE = "date"
    DATETIME = "date and time"
    TIME = "time"
    JSON = "JSON"
    ANY = "any value"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """The kind of value that a field takes.

    :param nullable: True if it takes null
    :param choices: the values of a choice
    """

    name: KindName
    nullable: bool = False
    choices: tuple[Any, ...] = ()


ANY = Kind(name=KindName.ANY, nullable=True)

_INT = re.compile(r"[+-]?\d+")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[,'\u202f\u00a0 ]\d{3})+")
_TYPES = {
    "string": KindName.TEXT,
    "integer": KindName.INT,
    "number": KindName.FLOAT,
    "boolean": KindName.BOOL,
    "array": KindName.JSON,
    "object": KindName.JSON,
}
_FORMATS = {"date": KindName.DATE, "date-time": KindName.DATETIME, "time": KindName.TIME}
_TAGS = {KindName.DATE: "$date", KindName.DATETIME: "$datetime", KindName.TIME: "$time"}
_MOMENTS: Mapping[KindName, type[date | time]] = {
    KindName.DATE: date, KindName.DATETIME: datetime, KindName.TIME: time,
}  # fmt: skip
_EXAMPLES = {
    KindName.INT: "a whole number, such as 10",
    KindName.FLOAT: "a number, such as 0.5",
    KindName.BOOL: "true or false",
    KindName.DATE: "a date, such as 2026-11-26",
    KindName.DATETIME: "a date and time, such as 2026-11-26T08:30:00+01:00",
    KindName.TIME: "a time, such as 08:30:00",
    KindName.JSON: 'JSON, such as ["a", "b"] or {"key": 1}',
}


def kind_of(schema: Mapping[str, Any] | None, value: Any = ABSENT) -> Kind:
    """Return the kind of a JSON schema; without one that says a kind, that of a value."""
    found = _of_schema(schema) if schema else None
    return found or _of_value(value)


def _of_schema(schema: Mapping[str, Any]) -> Kind | None:
    if "enum" in schema or "const" in schema:
        choices = tuple(schema.get("enum") or [schema.get("const")])
        return Kind(name=KindName.CHOICE, nullable=None in choices, choices=tuple(c for c in choices if c is not None))
    options = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(options, list):
        real = [each for each in options if isinstance(each, dict) and each.get("type") != "null"]
        nullable = len(real) < len(options)
        kinds = {found.name: found for found in map(_of_schema, real) if found is not None}
        if len(real) == 1 and kinds:
            only = next(iter(kinds.values()))
            return Kind(name=only.name, nullable=nullable or only.nullable, choices=only.choices)
        return Kind(name=KindName.ANY, nullable=nullable)
    named = schema.get("type")
    if not isinstance(named, str) or named not in _TYPES:
        return Kind(name=KindName.JSON) if "$ref" in schema else None
    form = schema.get("format")
    if named == "string" and isinstance(form, str):
        return Kind(name=_FORMATS.get(form, KindName.TEXT))
    return Kind(name=_TYPES[named])


def _of_value(value: Any) -> Kind:
    match value:
        case bool():
            return Kind(name=KindName.BOOL)
        case int():
            return Kind(name=KindName.INT)
        case float():
            return Kind(name=KindName.FLOAT)
        case str():
            return Kind(name=KindName.TEXT)
        case dict() if (tagged := _tagged(value)) is not None:
            return Kind(name=tagged)
        case list() | dict():
            return Kind(name=KindName.JSON)
        case _:
            return ANY


def _tagged(value: Any) -> KindName | None:
    """Return the kind of a tagged moment; None for any other value."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((tag, text),) = value.items()
    return next((kind for kind, known in _TAGS.items() if known == tag and isinstance(text, str)), None)


def to_text(value: Any, kind: Kind) -> str:
    """Return the text of a value in a field: `parse_text` returns the value again. Empty for `ABSENT`."""
    if value is ABSENT:
        return ""
    if kind.name in _TAGS and _tagged(value) is kind.name:
        return str(value[_TAGS[kind.name]])
    if isinstance(value, str) and kind.name is not KindName.CHOICE:
        return value if _plain(value, kind) else json.dumps(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def shown(value: Any) -> str:
    """Return the text of a value for a person who knows no field of it: a date as a date."""
    kind = _tagged(value)
    return to_text(value, Kind(name=kind) if kind is not None else ANY)


def _plain(text: str, kind: Kind) -> bool:
    """Return whether a text, written as it is into a field of a kind, is read and sent as the same text."""
    if text != text.strip() or not all(part.isprintable() for part in text.split("\n")):
        return False
    try:
        read = parse_text(text, kind)
    except WrongText:
        return False
    return isinstance(read, str) and read == text


def parse_text(text: str, kind: Kind) -> Any:
    """Return the value that a text stands for; `ABSENT` for an empty one.

    A JSON string is that string in every kind of field, so that an empty text, ``"12"`` or ``"null"`` can be given. A
    reference such as ``${NAME}`` stays the text that it is: whoever runs the step resolves it.

    :raises WrongText: if the text is no value of the kind
    """
    text = text.replace("\r\n", "\n").strip()
    if not text:
        return ABSENT
    if kind.nullable and text == "null":
        return None
    quoted = _loads(text) if text.startswith('"') else ABSENT
    if isinstance(quoted, str) and kind.name is not KindName.CHOICE:
        return quoted
    if kind.name is KindName.TEXT or (text.startswith("${") and text.endswith("}")):
        return text
    return _READERS[kind.name](text, kind)


def _wrong(text: str, kind: Kind, *, hint: str = "") -> WrongText:
    null = ", or null" if kind.nullable else ""
    return WrongText(f"{_short(text)!r} is not {_EXAMPLES[kind.name]}{null}{hint}")


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _integer(text: str, kind: Kind) -> int:
    if _GROUPED.fullmatch(text):
        raise _wrong(text, kind, hint=f"; write {re.sub('[^0-9+-]', '', text)}")
    if not _INT.fullmatch(text) or not text.isascii() or len(text) > 4300:
        raise _wrong(text, kind)
    return int(text)


def _number(text: str, kind: Kind) -> float | int:
    found = _loads(text)
    if isinstance(found, bool) or not isinstance(found, int | float):
        hint = f"; write {text.replace(',', '.')}" if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
        raise _wrong(text, kind, hint=hint)
    return found


def _boolean(text: str, kind: Kind) -> bool:
    if text not in ("true", "false"):
        raise _wrong(text, kind)
    return text == "true"


def _choice(text: str, kind: Kind) -> Any:
    found = _loads(text)
    for choice in kind.choices:
        if type(choice) is type(found) and choice == found:
            return choice
    if text in kind.choices:
        return text
    raise WrongText(f"{text!r} is none of {', '.join(str(each) for each in kind.choices)}")


def _moment(text: str, kind: Kind) -> dict[str, str]:
    try:
        return {_TAGS[kind.name]: _MOMENTS[kind.name].fromisoformat(text).isoformat()}
    except ValueError:
        raise _wrong(text, kind) from None


def _json(text: str, kind: Kind) -> Any:
    found = _loads(text)
    if found is ABSENT:
        raise _wrong(text, kind)
    return found


def _any(text: str, _: Kind) -> Any:
    """Return JSON as its value, and any other text as it is: the rule of the command line's ``--param``."""
    found = _loads(text)
    if found is not ABSENT:
        return found
    if text[0] in '{["':
        raise WrongText(f"this begins like JSON and is none: {_json_error(text)}")
    return text


_READERS: Mapping[KindName, Callable[[str, Kind], Any]] = {
    KindName.INT: _integer, KindName.FLOAT: _number, KindName.BOOL: _boolean, KindName.CHOICE: _choice,
    KindName.DATE: _moment, KindName.DATETIME: _moment, KindName.TIME: _moment,
    KindName.JSON: _json, KindName.ANY: _any,
}  # fmt: skip


def load_json(text: str) -> Any:
    """Return the value of a JSON text, as the wire takes it: without NaN, and without numbers beyond all bounds.

    :raises ValueError: if it is not JSON, or has such a number
    :raises RecursionError: if it is nested too deep
    """
    return json.loads(text, parse_constant=_no_constant, parse_float=_finite)


def _loads(text: str) -> Any:
    try:
        return load_json(text)
    except (ValueError, RecursionError):
        return ABSENT


def _json_error(text: str) -> str:
    try:
        load_json(text)
    except json.JSONDecodeError as error:
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError) as error:
        return str(error) or "it is nested too deep"
    return ""


def _no_constant(name: str) -> Any:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        msg = f"{_short(text)} is too large for a number"
        raise ValueError(msg)
    return number


def parse_object(text: str) -> dict[str, Any]:
    """Return the object that a text of JSON stands for; an empty one for an empty text.

    :raises WrongText: if the text is not JSON, or not an object
    """
    if not text.strip():
        return {}
    found = _loads(text)
    if found is ABSENT:
        raise WrongText(f"not JSON: {_json_error(text)}")
    if not isinstance(found, dict):
        raise WrongText('expected an object, such as {"params": {"tenant": 10}}')
    return found
