"""Conversion of records to rows and back, by the columns of their tables.

A column holds the field of its name. A field that is a value of its own, such as a reason, has a column for each of its
fields: ``reason_code``, ``reason_message``; it is None if the first of them is empty.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from json.encoder import encode_basestring_ascii
from operator import attrgetter, itemgetter
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from sqlalchemy import Table

from nomaflow_kernel.history.port import PauseRecord
from nomaflow_kernel.history.records import (
    Ancestor,
    AttemptRecord,
    EventRecord,
    LogChunkRecord,
    RunRecord,
    RunRequest,
)
from nomaflow_kernel.history.transitions import SetNextFire
from nomaflow_kernel.store import schema

__all__ = ["ATTEMPTS", "CHUNKS", "EVENTS", "FIRES", "PAUSES", "RUNS", "Rows", "dump_json"]

R = TypeVar("R")

dump_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
"""Compact JSON in ASCII: safe for every text a program may produce."""

_NO_REQUEST = RunRequest()


def _clean(text: str) -> str:
    """Return ``text`` in a form that every database keeps: NUL as ``␀``, lone surrogates as ``\\udcXX``."""
    if "\x00" in text:
        text = text.replace("\x00", "\u2400")
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


_PLAIN: Mapping[type[Any], Callable[[Any], str]] = {
    str: encode_basestring_ascii,
    int: int.__repr__,
    type(None): lambda _: "null",
}


def _dump_object(value: Mapping[str, Any]) -> str:
    """Return the JSON of an object. Plain members are joined directly: setting up the encoder each time is slow."""
    members = []
    for name, member in value.items():
        dump = _PLAIN.get(type(member))
        if dump is None:
            return dump_json(dict(value))
        members.append(f"{encode_basestring_ascii(name)}:{dump(member)}")
    return "{" + ",".join(members) + "}"


def _dump_request(request: RunRequest) -> str:
    return "{}" if request == _NO_REQUEST else dump_json(request.to_json())


def _load_request(text: str) -> RunRequest:
    return _NO_REQUEST if text == "{}" else RunRequest.from_json(json.loads(text))


def _dump_chain(chain: Sequence[Ancestor]) -> str:
    return dump_json([[each.job_id, each.run_id] for each in chain]) if chain else "[]"


def _load_chain(text: str) -> tuple[Ancestor, ...]:
    return tuple(Ancestor(job_id=job_id, run_id=run_id) for job_id, run_id in json.loads(text))


_JSON: Mapping[str, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    "request": (_dump_request, _load_request),
    "parent_chain": (_dump_chain, _load_chain),
    "data": (_dump_object, json.loads),
}
"""Fields that are kept as JSON: how to write and read them."""


_FREE = frozenset(
    {"reason_message", "error", "trigger_by", "cancel_by", "cancel_why", "request_id", "progress_json", "by", "why"}
)
"""Columns of texts that anybody may have written."""

_Convert = Callable[[Any], Any]


class Rows(Generic[R]):
    """The columns of a table that hold records of a class, in the table's order.

    :param only: fields of the record, for the columns of an update; empty for all
    """

    def __init__(self, table: Table, record: type[R], *, only: Sequence[str] = ()) -> None:
        self.table = table
        self._record = record
        self._places = {name: place for place, name in enumerate(table.columns.keys())}
        self._readers: list[tuple[str, _Convert]] = []
        writers: dict[str, tuple[str, _Convert | None]] = {}
        for name, kind in _field_types(record).items():
            if not only or name in only:
                writers |= self._plain(name, kind) if name in self._places else self._nested(name, kind)
        self.columns = tuple(sorted(writers, key=self._places.__getitem__))
        self._take: Callable[[Any], tuple[Any, ...]] = attrgetter(*(writers[name][0] for name in self.columns))
        converters = [(place, writers[name][1]) for place, name in enumerate(self.columns)]
        self._converters = [(place, convert) for place, convert in converters if convert is not None]

    def values(self, record: Any) -> list[Any]:
        """Return the values of the columns, from a record or from a transition with the same fields."""
        row = list(self._take(record))
        for place, convert in self._converters:
            row[place] = convert(row[place])
        return row

    def record(self, row: Sequence[Any]) -> R:
        """Return the record of a whole row."""
        return self._record(**{name: read(row) for name, read in self._readers})

    def _plain(self, name: str, kind: Any) -> dict[str, tuple[str, _Convert | None]]:
        """Note how to read a field that has a column; return the column with the attribute and its conversion."""
        write, read = _conversion(name, kind)
        place = self._places[name]
        self._readers.append((name, itemgetter(place) if read is None else lambda row: read(row[place])))
        return {name: (name, write)}

    def _nested(self, name: str, kind: Any) -> dict[str, tuple[str, _Convert | None]]:
        """Do the same for a field with a column for each of its own fields."""
        writers: dict[str, tuple[str, _Convert | None]] = {}
        readers: list[tuple[str, int, _Convert | None]] = []
        for part, its_kind in _field_types(kind).items():
            column = f"{name}_{part}"
            write, read = _conversion(column, its_kind)
            readers.append((part, self._places[column], read))
            writers[column] = (
                name,
                partial(_part, attrgetter(part), write, None if self.table.c[column].nullable else ""),
            )
        first = readers[0][1]

        def build(row: Sequence[Any]) -> Any:
            if row[first] in (None, ""):
                return None
            return kind(**{part: row[place] if read is None else read(row[place]) for part, place, read in readers})

        self._readers.append((name, build))
        return writers


def _part(take: _Convert, write: _Convert | None, empty: str | None, whole: Any) -> Any:
    if whole is None:
        return empty
    value = take(whole)
    return value if write is None else write(value)


def _conversion(column: str, kind: Any) -> tuple[_Convert | None, _Convert | None]:
    """Return how to write and to read a value, None for as it is."""
    if column in _JSON:
        return _JSON[column]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return attrgetter("value"), kind
    return (_clean if column in _FREE else None), None


def _field_types(record: type[Any]) -> dict[str, Any]:
    """Return the type of each field, that of an optional one without None."""
    hints = get_type_hints(record)
    types = {field.name: hints[field.name] for field in fields(record)}
    return {name: next((arg for arg in get_args(t) if is_dataclass(arg)), t) for name, t in types.items()}


RUNS = Rows(schema.runs, RunRecord)
ATTEMPTS = Rows(schema.attempts, AttemptRecord)
EVENTS = Rows(schema.events, EventRecord)
CHUNKS = Rows(schema.log_chunks, LogChunkRecord)
FIRES = Rows(schema.schedules, SetNextFire)
PAUSES = Rows(schema.pauses, PauseRecord)
