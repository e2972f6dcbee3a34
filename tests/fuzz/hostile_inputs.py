"""Inputs of every kind that a peer can send: well-formed ones, hostile ones, and well-formed ones damaged."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from choices import Choices
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from nomaflow_api.v1 import letters

__all__ = ["damaged", "json_text", "letter", "line", "manifest", "message", "some_text", "value"]

TEXTS = [
    "", "a", "job", "team", "one", "run_" + "0" * 26, "../../etc/passwd", "'; DROP TABLE runs; --", "%", "x" * 300,
    "x" * 20_000, "a\x00b", "\x1b[2J\x1b]8;;http://evil\x07", "a\nb\r\nc", "\u202e\u2066", "é☃😀", "a\u200b", "${HOME}", "NaN",
    "run/step/1", "sha256:" + "0" * 64, "unix:/x", "[" * 200, "1e999", "2026-01-31", "\ufeff", "\ud7ff", "😀" * 5000,
]  # fmt: skip
NUMBERS = [
    0,
    1,
    2,
    3,
    10,
    255,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**53 + 1,
    2**63 - 1,
    -1,
    -(2**31),
    -(2**63),
    2**64 - 1,
]
FLOATS = [0.0, 1.5, -1.0, float("nan"), float("inf"), float("-inf"), 1e308, 5e-324]


def some_text(choices: Choices) -> str:
    """Return a text: a hostile one, or any characters."""
    if choices.chance(70):
        return choices.pick(TEXTS)
    return choices.blob(choices.number(40)).decode("utf-8", "replace")


def value(choices: Choices, depth: int = 0) -> Any:
    """Return a JSON value."""
    kind = choices.number(9 if depth < 4 else 6)
    if kind == 0:
        return choices.pick(NUMBERS)
    if kind == 1:
        return choices.pick((None, True, False))
    if kind in (2, 3, 4):
        return some_text(choices)
    if kind == 5:
        return choices.pick((0.5, 1e308, -0.0))
    if kind == 6:
        return [value(choices, depth + 1) for _ in range(choices.number(4))]
    if kind == 7:
        return {choices.pick(("$date", "$literal", "$datetime", "$x")): value(choices, depth + 1)}
    return {some_text(choices): value(choices, depth + 1) for _ in range(choices.number(4))}


def json_text(choices: Choices, made: Any = None) -> bytes:
    """Return JSON, or what looks like it."""
    kind = choices.number(12)
    if kind == 0:
        return choices.pick(
            (b'{"a":NaN}', b'{"a":1e999}', b'{"a":1,"a":2}', b"[" * 3000, b'{"a":' * 3000, b'{"a":' + b"9" * 5000 + b"}",
             b'"\\ud800"', b"\xff\xfe", b'{"a":"\\u0000"}', b"{", b"null", b"[1]")
        )  # fmt: skip
    body = json.dumps(value(choices) if made is None else made, allow_nan=True).encode()
    return damaged(choices, body) if kind == 1 else body


def damaged(choices: Choices, body: bytes) -> bytes:
    """Return bytes with some of them changed, removed or repeated."""
    changed = bytearray(body)
    for _ in range(1 + choices.number(4)):
        at = choices.number(len(changed) + 1)
        kind = choices.number(5)
        if kind == 0:
            changed[at:at] = choices.blob(1 + choices.number(8))
        elif kind == 1:
            del changed[at : at + 1 + choices.number(16)]
        elif kind == 2:
            changed[at:at] = changed[at : at + choices.number(200)] * (1 + choices.number(8))
        elif kind == 3:
            changed[at : at + 1] = b"\xff"
        elif changed:
            changed[at % len(changed)] ^= 1 << choices.number(8)
    return bytes(changed)


def line(choices: Choices) -> bytes:
    """Return a log line, or something in its place."""
    kind = choices.number(8)
    if kind == 0:
        return choices.pick(
            (b'[Infinity,1,"a","b"]', b'[1e999,1,"a","b"]', b"[" * 5000, b'[20,9223372036854775807,"a","b"]', b"",
             b'[20,1,"a","\\ud800"]', b"null", b'[20,1,"a",' + b"[" * 5000, b'{"a":1}', b"\r", b'[20,1,"a","b",99999]')
        )  # fmt: skip
    body = json.dumps([choices.pick(NUMBERS), choices.pick(NUMBERS), some_text(choices), some_text(choices)]).encode()
    return damaged(choices, body) if kind == 1 else body


_LETTERS = (
    letters.AttemptReport, letters.InventoryLine, letters.Started, letters.LogChunk, letters.Progress, letters.Finished,
    letters.CallOutcome, letters.ValueProblem, letters.CancelOrder,
)  # fmt: skip


def letter(choices: Choices, kind: type[Any] | None = None, **known: Any) -> bytes:
    """Return a sealed letter, or several: of a kind or of any, with hostile fields, perhaps damaged.

    :param known: fields with a value that is taken, in most cases
    """
    kind = kind or choices.pick(_LETTERS)
    info = msgspec.structs.fields(kind)
    fields = {each.encode_name: _field(choices, each.name) for each in info if choices.chance(60)}
    fields |= {name: given for name, given in known.items() if choices.chance(95)}
    config = kind.__struct_config__
    if config.tag:
        fields[config.tag_field] = config.tag
    made: Any = [fields] * (1 + choices.number(3)) if kind in _LETTERS[:2] or choices.chance(10) else fields
    body: bytes = msgspec.msgpack.encode(made)
    return damaged(choices, body) if choices.chance(15) else body


def _field(choices: Choices, name: str) -> Any:
    kind = choices.number(8)
    if kind == 0:
        return choices.pick(FLOATS)
    if kind in (1, 2):
        return choices.pick(NUMBERS)
    if kind == 3:
        return choices.blob(choices.number(60))
    if kind == 4:
        return [some_text(choices) for _ in range(choices.number(4))]
    if name.endswith("_json"):
        return json_text(choices)
    return choices.pick((True, None, {}, [])) if kind == 5 else some_text(choices)


def manifest(choices: Choices, host: str) -> bytes:
    """Return a manifest of a host: sometimes right, mostly wrong in some place."""
    right: dict[str, Any] = {
        "host": host,
        "callables": {
            "m:f": {"kind": "async", "parameters": [{"name": "a", "kind": "keyword", "required": True}],
                    "catch_all": "", "error": None},
        },
        "modules": {"m": {"error": None}},
        "step_types": [{"name": "x", "callable": "m:f", "schema": {"properties": {"u": {"type": "string"}}}}],
        "injections": [],
        "job_files": [{"path": "jobs.toml", "main": True, "error": None, "tree": {"jobs": [
            {"id": "fuzzed", "schedule": "* * * * *", "steps": [{"type": "python", "callable": "m:f"}]},
            {"id": "other", "params": {}, "presets": [{"name": "p"}], "steps": [{"type": "call_job"}]},
        ]}}],
        "problems": [{"code": "c", "severity": "warning", "file": "f", "message": "m"}],
    }  # fmt: skip
    for _ in range(choices.number(4)):
        _spoil(choices, right)
    return json_text(choices, right)


def _spoil(choices: Choices, tree: Any) -> None:
    """Replace one value somewhere in a tree."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        if not keys:
            return
        key = choices.pick(keys)
        if isinstance(tree[key], dict | list) and tree[key] and choices.chance(75):
            tree = tree[key]
            continue
        tree[key] = value(choices)
        if isinstance(tree, dict) and choices.chance(20):
            tree[some_text(choices)] = value(choices)
        return


def message(choices: Choices, kind: type[Any], known: dict[str, list[Any]], daring: int, depth: int = 0) -> Any:
    """Return a message with hostile values in some of its fields.

    :param known: name of a field → values that mean something to the kernel
    :param daring: so many of a hundred fields are set to what means nothing; a message with few goes deeper
    """
    made = kind()
    for field in kind.DESCRIPTOR.fields:
        if not choices.chance(90 if known.get(field.name) else daring):
            continue
        if hasattr(getattr(made, field.name), "extend"):
            for _ in range(choices.number(4)):
                _set(choices, made, field, known, daring, depth, many=True)
        else:
            _set(choices, made, field, known, daring, depth, many=False)
    return made


def _set(
    choices: Choices,
    made: Message,
    field: FieldDescriptor,
    known: dict[str, list[Any]],
    daring: int,
    depth: int,
    *,
    many: bool,
) -> None:
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            getattr(made, field.name).update({some_text(choices): some_text(choices) for _ in range(choices.number(4))})
            return
        if depth > 4:
            return
        inner = message(choices, field.message_type._concrete_class, known, daring, depth + 1)
        (getattr(made, field.name).append if many else getattr(made, field.name).CopyFrom)(inner)
        return
    meant = known.get(field.name)
    given = choices.pick(meant) if meant and not choices.chance(daring // 3) else _scalar(choices, field)
    try:
        if many:
            getattr(made, field.name).append(given)
        else:
            setattr(made, field.name, given)
    except (ValueError, TypeError):  # not of this field's range
        return


def _scalar(choices: Choices, field: FieldDescriptor) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return some_text(choices)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return json_text(choices) if field.name.endswith("_json") else letter(choices)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return choices.chance(50)
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return choices.pick(FLOATS)
    return choices.pick(NUMBERS) if choices.chance(60) else choices.number(8)
