"""Values that callables return, and their recorded forms."""

from __future__ import annotations

import datetime as dt
import enum
import inspect
import json
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow import StepFailed, StepResult
from nomaflow_api.v1.letters import CallOutcome
from nomaflow_host.returned_value import outcome_of, result_of


def kept(value: Any, **options: Any) -> CallOutcome:
    """Return the record of a returned value."""
    return outcome_of(result_of(value), **options)


class Colour(enum.IntEnum):
    """An int by value."""

    RED = 3


class Pair(NamedTuple):
    """A tuple."""

    left: int
    right: str


@pytest.mark.parametrize(
    ("value", "rows", "extras"),
    [
        (None, None, None),
        (0, 0, None),
        (-5, -5, None),
        (2**63 - 1, 2**63 - 1, None),
        (-(2**63), -(2**63), None),
        (Colour.RED, 3, None),
        ({}, None, None),
        ({"rows_affected": 7}, 7, None),
        ({"rows_affected": None, "a": 1}, None, {"a": 1}),
        ({"rows_affected": Colour.RED, "tenant": 10}, 3, {"tenant": 10}),
        (OrderedDict(a=(1, Pair(2, "x"))), None, {"a": [1, [2, "x"]]}),
        ({"big": 10**4299, "tiny": 5e-324, "no": -0.0}, None, {"big": 10**4299, "tiny": 5e-324, "no": -0.0}),
        ({"$date": "2026-01-01"}, None, {"$date": "2026-01-01"}),
        ({"text": "\ud800 \x00 é"}, None, {"text": "\ud800 \x00 é"}),
        (StepResult(), None, None),
        (StepResult(3, {"rows_affected": "kept"}), 3, {"rows_affected": "kept"}),
        (StepResult(extras=None), None, None),
        (StepResult(extras=MappingProxyType({"a": True})), None, {"a": True}),
    ],
)
def test_accepted(value: Any, rows: int | None, extras: Any) -> None:
    """Each accepted shape keeps its count and exactly its extras."""
    record = kept(value)
    assert record.rows_affected == rows
    assert type(record.rows_affected) in (int, type(None))
    assert record.has_result is True
    assert record.warnings == ()
    assert (json.loads(record.extras_json) if record.extras_json else None) == extras


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "returned the bool True, expected None, int, dict or StepResult"),
        ("done", "type str"),
        (1.5, "type float"),
        ([1, 2], "type list"),
        ((1, 2), "type tuple"),
        ({1, 2}, "type set"),
        (object(), "type object"),
        (MappingProxyType({"a": 1}), "type mappingproxy"),
        (2**63, "rows_affected is beyond 64 bits"),
        (-(2**63) - 1, "rows_affected is beyond 64 bits"),
        ({"rows_affected": True}, "rows_affected is bool, expected int or None"),
        ({"rows_affected": 1.0}, "rows_affected is float"),
        ({"rows_affected": "5"}, "rows_affected is str, expected int or None (give int(value), or leave it out)"),
        ({"rows_affected": 2**63}, "beyond 64 bits"),
        (StepResult(rows_affected=True), "rows_affected is bool"),
        (StepResult(extras=[("a", 1)]), "extras is list, expected a dict"),
        (
            {"rows": [0, 1, 2, {"when": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}]},
            "extras.rows[3].when: a value of type datetime.datetime",
        ),
        (StepResult(extras={"a": {"b": {1}}}), "extras.a.b: a value of type set"),
        ({1: "x"}, "extras: the key 1 is int"),
        ({"a": {None: 1}}, "extras.a: the key None is NoneType"),
        ({"a": float("nan")}, "extras.a: nan"),
        ({"a": [float("inf")]}, "extras.a[0]: inf"),
        ({"a": 10**4300}, "extras.a: the integer has more than 4300 digits"),
        ({"odd key": b""}, "extras['odd key']: a value of type bytes"),
        ({"sum": Decimal("1.5")}, "extras.sum: a value of type decimal.Decimal"),
        ({"file": Path("a")}, "has no JSON form (give str(value))"),
        ({"took": dt.timedelta(1)}, "datetime.timedelta has no JSON form (give value.total_seconds())"),
        ({"ids": (i for i in "ab")}, "extras.ids: a value of type generator"),
        ({"error": ValueError("no")}, "extras.error: a value of type ValueError"),
    ],
)
def test_refused(value: Any, words: str) -> None:
    """Each refused value is a StepFailed that names the type, or the path, and the way out."""
    with pytest.raises(StepFailed) as caught:
        kept(value)
    assert words in str(caught.value)
    assert caught.value.reason_code == "return_invalid"  # type: ignore[attr-defined]  # a ReturnRefused


async def test_forgotten_await() -> None:
    """A returned coroutine is distinguished from other objects."""

    async def work() -> int:
        return 1

    coroutine = work()
    for value in ({"rows_affected": coroutine}, {"found": [coroutine]}, coroutine):
        with pytest.raises(StepFailed, match="an await is missing"):
            kept(value)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED  # so that no later step's log has its warning


@pytest.mark.parametrize("posed", [dict, int, str, list, float, StepResult])
def test_proxies(posed: type) -> None:
    """A proxy that gives the class of another object as its own is refused like any other object."""
    proxy = type("Proxy", (), {"__class__": posed})()
    for value in (proxy, {"rows_affected": proxy}, {"a": [proxy]}):
        with pytest.raises(StepFailed, match="Proxy"):
            kept(value)


def test_sizes() -> None:
    """Extras over 64 KiB warn; over the limit they fail with size, limit and advice, at exactly the byte."""
    frame = len('{"a":""}')
    assert kept({"a": "x" * (64 * 1024 - frame)}).warnings == ()
    (warning,) = kept({"a": "x" * (64 * 1024 - frame + 1)}).warnings
    assert "65,537 bytes" in warning
    assert kept({"a": "x" * (1024 * 1024 - frame)}).extras_json
    with pytest.raises(
        StepFailed, match=r"1,048,577 bytes, over the limit of 1,048,576: .*row count and key"
    ) as caught:
        kept({"a": "x" * (1024 * 1024 - frame + 1)})
    assert caught.value.reason_code == "result_too_large"  # type: ignore[attr-defined]  # a ReturnRefused
    with pytest.raises(StepFailed, match="limit of 10"):
        kept({"a": "x" * 10}, max_extras_bytes=10)


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda key: key != "rows_affected"),
        st.recursive(
            _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
        ),
        max_size=4,
    )
)
def test_extras_round_trip(extras: dict[str, Any]) -> None:
    """Any JSON value is returned exactly, digit for digit."""
    record = kept(extras)
    assert repr(json.loads(record.extras_json or b"{}")) == repr(extras)
