"""Every shape that may and may not come back."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import uuid

from nomaflow import StepResult


class Text(str):
    """A subclass that counts by value."""

    def __str__(self):
        return "lies"


class Twin(str):
    """Equal to nothing but itself."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Number(enum.IntEnum):
    """A subclass of int."""

    THREE = 3


class Unfriendly:
    """An object whose repr raises."""

    def __repr__(self):
        raise RuntimeError("no repr")


class Recursive(dict):
    """Contains itself."""


_itself = Recursive()
_itself["more"] = {"again": _itself}
_deep = []
for _ in range(5000):
    _deep = [_deep]

VALUES = {
    "none": None,
    "int": 7,
    "zero": 0,
    "negative": -3,
    "int_subclass": Number.THREE,
    "empty": {},
    "dict": {"rows_affected": 2, "tenant": 10, "cutoff": "2026-01-31T00:00:00"},
    "rows_none": {"rows_affected": None, "a": 1},
    "ordered": collections.OrderedDict(b=1, a=(1, (2, 3))),
    "subclasses": {Text("k"): Text("v"), "n": Number.THREE},
    "result": StepResult(rows_affected=4, extras={"a": [1, {"b": None}]}),
    "result_verbatim": StepResult(extras={"rows_affected": 9}),
    "result_without_extras": StepResult(5, None),
    "big_int": {"n": 2**200, "exact": 0.1, "neg": -(10**4200)},
    "unicode": {"ключ": "знач\x00\ud800 😀", "": ""},
    "date_text": {"day": dt.date(2026, 1, 31).isoformat()},
    "dollar": {"$date": "2026-01-31", "$x": {"$literal": 1}},
    "warned": {"blob": "x" * 70_000},
    "true": True,
    "text": "done",
    "float": 1.5,
    "list": [1],
    "tuple": (1, 2),
    "class": dict,
    "bool_rows": {"rows_affected": True},
    "float_rows": {"rows_affected": 2.0},
    "text_rows": {"rows_affected": "2"},
    "huge_rows": {"rows_affected": 2**63},
    "huge_count": 2**63,
    "int_key": {"a": {1: 2}},
    "none_key": {None: 1},
    "nan": {"a": [0.5, float("nan")]},
    "infinity": {"a": {"b": float("inf")}},
    "date": {"rows": [{"when": dt.date(2026, 1, 31)}]},
    "decimal": {"price": decimal.Decimal("1.5")},
    "uuid": {"id": uuid.UUID(int=1)},
    "bytes": {"raw": b"x"},
    "set": {"odd key!": {1}},
    "object": {"thing": Unfriendly()},
    "object_alone": Unfriendly(),
    "itself": _itself,
    "deep": {"deep": _deep},
    "colliding": {"a": 1, Twin("a"): 2},
    "digits": {"n": 10**4300},
    "too_large": {"blob": "x" * 1_100_000},
    "result_bad_extras": StepResult(extras=[1]),
    "result_bad_rows": StepResult(rows_affected="3"),
    "result_date": StepResult(extras={"day": dt.date(2026, 1, 31)}),
}


async def value(*, name):
    return VALUES[name]


async def nothing_at_all(**_):
    pass


async def forgotten_await(**_):
    return value(name="int")
