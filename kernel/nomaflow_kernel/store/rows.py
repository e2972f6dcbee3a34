"""Conversion of records to rows and back, by the columns of their tables.

A column holds the field of its name. A field that is a value of its own, such as a reason, has a column for each of its
fields: ``reason_code``, ``reason_message``; it is None if the first of them is empty.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Struct
from msgspec.inspect import is_struct_type
from sqlalchemy import ColumnElement, Table, func

from nomaflow_kernel.history.access_records import AuditRecord, CertificateRecord, TokenRecord
from nomaflow_kernel.history.attempt_facts import dump_facts, load_facts
from nomaflow_kernel.history.records import (
    Ancestor,
    AttemptRecord,
    EventRecord,
    LogChunkRecord,
    PauseRecord,
    RunRecord,
    RunRequest,
)
from nomaflow_kernel.history.transitions import SetNextFire
from nomaflow_kernel.store import schema

R = TypeVar("R", bound=Struct)

dump_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
"""Compact JSON in ASCII: safe for every text a program may produce."""

_encode = msgspec.json.Encoder().encode
_NO_REQUEST = RunRequest()


def _clean(text: str) -> str:
    """Return ``text`` in a form that every database keeps: NUL as ``␀``, lone surrogates as ``\\udcXX``."""
    if "\x00" in text:
        text = text.replace("\x00", "\u2400")
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


def _dump_object(value: Mapping[str, Any]) -> str:
    """Return the JSON of an object, in a fifth of the time that the encoder takes which knows lone surrogates."""
    try:
        return _encode(value).decode()
    except UnicodeEncodeError:
        return dump_json(dict(value))


def _dump_request(request: RunRequest) -> str:
    return "{}" if request == _NO_REQUEST else dump_json(request.to_json())


def _load_request(text: str) -> RunRequest:
    return _NO_REQUEST if text == "{}" else RunRequest.from_json(json.loads(text))


def _dump_chain(chain: Sequence[Ancestor]) -> str:
    return dump_json([[each.job_id, each.run_id] for each in chain]) if chain else "[]"


def _load_chain(text: str) -> tuple[Ancestor, ...]:
    return tuple(Ancestor(job_id=job_id, run_id=run_id) for job_id, run_id in json.loads(text))


_TEXTS: Mapping[str, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    "request": (_dump_request, _load_request),
    "parent_chain": (_dump_chain, _load_chain),
    "data": (_dump_object, json.loads),
    "facts": (dump_facts, load_facts),
    **dict.fromkeys(("roles", "grants", "ids"), ("\n".join, lambda text: tuple(text.splitlines()))),
}
"""Fields that are kept as texts of their own: how to write and read them."""


_FREE = frozenset(
    {
        "reason_code",
        "reason_message",
        "error",
        "trigger_by",
        "cancel_by",
        "cancel_why",
        "request_id",
        "progress_json",
        "by",
        "why",
        "target",
        "note",
        "principal",
        "address",
        "correlation",
    }
)
"""Columns of texts that anybody may have written."""


class Rows(Generic[R]):
    """The columns of a table that hold records of a class, in the table's order.

    Its functions are compiled from the names of fields and columns, as those of a dataclass are: a row is converted as
    fast as by hand.

    :param only: fields of the record, for the columns of an update; empty for all
    :ivar values: returns the values of the columns, from a record or from a transition with the same fields
    :ivar changes: returns them by column
    :ivar record: returns the record of a whole row
    """

    values: Callable[[Any], tuple[Any, ...]]
    changes: Callable[[Any], dict[str, Any]]
    record: Callable[[Any], R]

    def __init__(self, table: Table, record: type[R], *, only: Sequence[str] = ()) -> None:
        self.table = table
        names: dict[str, Any] = {"make": record, "clean": _clean}
        place = {name: n for n, name in enumerate(table.columns.keys())}
        writes: dict[str, str] = {}
        reads = []
        for name, kind in _field_types(record).items():
            if only and name not in only:
                continue
            if name in place:
                writes[name], read = _expressions(name, kind, f"r.{name}", f"row[{place[name]}]", names)
                reads.append(f"{name}={read}")
                continue
            names[kind.__name__] = kind
            parts = []
            for part, its_kind in _field_types(kind).items():
                column = f"{name}_{part}"
                write, read = _expressions(column, its_kind, f"r.{name}.{part}", f"row[{place[column]}]", names)
                empty = None if table.c[column].nullable else ""
                writes[column] = f"({empty!r} if r.{name} is None else {write})"
                parts.append((place[column], f"{part}={read}"))
            arguments = ", ".join(read for _, read in parts)
            reads.append(f"{name}=None if row[{parts[0][0]}] in (None, '') else {kind.__name__}({arguments})")
        self.columns = tuple(sorted(writes, key=place.__getitem__))
        self.values = _function("r", f"({''.join(f'{writes[name]}, ' for name in self.columns)})", names)
        self.changes = _function("r", f"{{{', '.join(f'{name!r}: {writes[name]}' for name in self.columns)}}}", names)
        self.record = _function("row", f"make({', '.join(reads)})", names)


def _expressions(column: str, kind: Any, value: str, cell: str, names: dict[str, Any]) -> tuple[str, str]:
    """Return the expression to write a value, and that to read it from its cell; they may use ``names``."""
    if column in _TEXTS:
        names[f"dump_{column}"], names[f"load_{column}"] = _TEXTS[column]
        return f"dump_{column}({value})", f"load_{column}({cell})"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        names[kind.__name__] = kind
        return f"{value}.value", f"{kind.__name__}({cell})"
    return f"({value} and clean({value}))" if column in _FREE else value, cell


def _function(parameter: str, expression: str, names: dict[str, Any]) -> Any:
    return eval(f"lambda {parameter}: {expression}", names)  # noqa: S307  # names of our own fields and columns


def _field_types(record: type[Struct]) -> dict[str, Any]:
    """Return the type of each field, without None for an optional one."""
    hints = get_type_hints(record)
    types = {name: hints[name] for name in record.__struct_fields__}
    return {name: next((arg for arg in get_args(t) if is_struct_type(arg)), t) for name, t in types.items()}


RUNS = Rows(schema.runs, RunRecord)
ATTEMPTS = Rows(schema.attempts, AttemptRecord)
EVENTS = Rows(schema.events, EventRecord)
CHUNKS = Rows(schema.log_chunks, LogChunkRecord)
FIRES = Rows(schema.schedules, SetNextFire)
PAUSES = Rows(schema.pauses, PauseRecord)
TOKENS = Rows(schema.tokens, TokenRecord)
CERTIFICATES = Rows(schema.certificates, CertificateRecord)
AUDIT = Rows(schema.audit, AuditRecord)

_SHORT, _KEPT = 2_000, 500
_REQUEST = schema.runs.columns.keys().index("request")
_LISTED = re.compile(r'\{("preset":"([^"\\]|\\.)*",?)?("log_level":"\w*")?')
LISTED_RUN: Mapping[str, ColumnElement[Any]] = {
    **dict(schema.runs.c.items()),
    "request": func.substr(schema.runs.c.request, 1, _SHORT).label("request"),
}
"""The columns of a run in a list: of its request, which may have megabytes, only the beginning."""


def listed_request(text: str) -> str:
    """Return the whole of a short request, of another one its preset and its level, with which its text begins."""
    if len(text) < _SHORT:
        return text
    found = _LISTED.match(text)
    return found[0].rstrip(",") + "}" if found else "{}"


def run_of(row: Sequence[Any]) -> RunRecord:
    """Return the run of a row in a list. Lists read the same rows repeatedly, so the runs of short ones are kept."""
    values = (*row[:_REQUEST], listed_request(row[_REQUEST]), *row[_REQUEST + 1 :])
    short = sum(len(each) for each in values if type(each) is str) <= _SHORT
    return _known_run(values) if short else RUNS.record(values)


@lru_cache(maxsize=_KEPT)
def _known_run(values: tuple[Any, ...]) -> RunRecord:
    return RUNS.record(values)
