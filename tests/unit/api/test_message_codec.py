"""Messages and values: fields of the same name are converted by their types, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Annotated, Any

import pytest

from nomaflow.client.values import ResourcesView, WantedView
from nomaflow_api.field_marks import REMEMBERED
from nomaflow_api.v1 import fire_pb2, host_gateway_service_pb2, job_pb2, kernel_service_pb2, log_pb2, run_pb2
from nomaflow_api.v1.message_codec import decode, encode


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A trigger, by a mark in capitals."""

    kind: Annotated[str, str.swapcase]
    at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """A run of the chain."""

    run_id: str


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A range of fires."""

    count: int
    first: datetime | None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A part of a run, with a field of each kind."""

    run_id: str
    state: str
    trigger: Trigger
    rows_affected: int | None
    params: Mapping[str, Any]
    parent_chain: tuple[Ancestor, ...]
    fold: Fold | None


AT = datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Page:
    """A list whose values are kept."""

    runs: Annotated[tuple[Run, ...], REMEMBERED]


def test_a_message_of_a_remembered_list_is_the_value_of_before_until_it_changes() -> None:
    """Equal messages are one value, also of another answer; a changed one, and one of long ago, is decoded."""

    def decoded(*rows_affected: int) -> tuple[Run, ...]:
        runs = [run_pb2.Run(run_id="run_r", rows_affected=rows) for rows in rows_affected]
        return decode(Page, kernel_service_pb2.ListRunsResponse(runs=runs)).runs

    first, changed, again = decoded(1, 2, 1)
    assert (first.rows_affected, changed.rows_affected) == (1, 2)
    assert first is again is decoded(1)[0]
    for rows in range(10, 10_000):
        decoded(rows)
    assert decoded(1) == (first,)
    assert decoded(1)[0] is not first


def test_a_message_becomes_a_value() -> None:
    """Names, instants, JSON, absent and repeated fields."""
    message = run_pb2.Run(run_id="run_1", state=run_pb2.RUN_STATE_FAILED, rows_affected=0, params_json=b'{"a":[1]}')
    message.trigger.kind = run_pb2.TRIGGER_KIND_CALL_JOB
    message.trigger.at.FromDatetime(AT)
    message.parent_chain.add(run_id="run_0", job_id="parent")
    assert decode(Run, message) == Run(
        run_id="run_1",
        state="FAILED",
        trigger=Trigger(kind="call_job", at=AT),
        rows_affected=0,
        params={"a": [1]},
        parent_chain=(Ancestor(run_id="run_0"),),
        fold=None,
    )
    empty = decode(Run, run_pb2.Run())
    assert (empty.state, empty.trigger, empty.rows_affected, empty.params) == ("", Trigger(kind="", at=None), None, {})


def test_a_state_of_a_newer_kernel_is_shown_by_its_number() -> None:
    """An unknown constant is no error."""
    message = run_pb2.Run()
    message.MergeFromString(b"\x18\x63")
    assert decode(Run, message).state == "99"


def test_bytes_that_are_no_text_survive() -> None:
    """They come as lone surrogates, which turn into the same bytes."""

    @dataclass(frozen=True)
    class Line:
        message: str

    line = decode(Line, log_pb2.LogLine(message=b"a\xff"))
    assert line.message.encode("utf-8", "surrogateescape") == b"a\xff"


def test_values_become_a_message() -> None:
    """The first source with an attribute counts, what is given overrides them, and names may be in either case."""
    sent = encode(
        run_pb2.Trigger,
        Fired(kind="call_job", by="ann", at_us=1_000_001),
        Fired(by="bob"),
    )
    assert (sent.kind, sent.by, sent.at.ToMicroseconds()) == (run_pb2.TRIGGER_KIND_CALL_JOB, "ann", 1_000_001)
    fold = encode(run_pb2.Fold, Fold(count=2, first=AT.astimezone(timezone(timedelta(hours=2)))), last=None, count=3)
    assert (fold.first.ToDatetime(UTC), fold.HasField("last"), fold.count) == (AT, False, 3)
    state = encode(host_gateway_service_pb2.LoadState, refused=None, loaded=None, problems=())
    assert state.WhichOneof("outcome") is None


class Fired(SimpleNamespace):
    """Attributes that the class knows, as those of our values."""

    kind = by = at_us = None


def test_a_map_is_a_dict_in_both_directions() -> None:
    """A map of texts becomes a dict of its own, and a dict becomes the map of a message within a message."""
    sent = ResourcesView(cpu=1.5, gpus=2, labels={"zone": "eu", "disk": "ssd"})
    message = encode(kernel_service_pb2.Wanted, WantedView(host="team", attempts=3, needs=sent))
    assert dict(message.needs.labels) == {"zone": "eu", "disk": "ssd"}
    received = decode(WantedView, message)
    assert received.needs == sent
    assert type(received.needs.labels) is dict


def test_a_field_without_a_source_is_a_mistake() -> None:
    """A field that is added to a message cannot be forgotten."""
    with pytest.raises(TypeError, match=r"nomaflow_api.v1.Fold needs 'last', which Fold does not have"):
        encode(run_pb2.Fold, Fold(count=1, first=None))
    with pytest.raises(TypeError, match=r"nomaflow_api.v1.Fire has no field 'count' for Fold"):
        decode(Fold, fire_pb2.Fire())


def test_a_text_that_is_not_unicode_is_sent_with_escapes() -> None:
    """A file whose name is not UTF-8 does not hide a whole list, whatever holds the name."""
    problem = encode(
        job_pb2.Problem, severity="error", code="c", file="a\udcff.toml", path="", message="\ud800", fix="", line=1
    )
    assert (problem.file, problem.message, problem.severity) == ("a\\udcff.toml", "\\ud800", "error")
