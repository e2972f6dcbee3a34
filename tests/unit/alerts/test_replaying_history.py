"""Replays of a history: the messages that would have been sent then."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from alerts_rig import START, section

from nomaflow.client import KernelClient
from nomaflow.client.values import EventView, ReasonView
from nomaflow_alerts.replaying import _Replay


class _Kernel:
    """A kernel with a history, and without jobs today."""

    def __init__(self, events: list[EventView]) -> None:
        self._events = events

    async def get_kernel(self) -> Any:
        return SimpleNamespace(last_event_seq=len(self._events), store="sqlite")

    async def list_jobs(self) -> Any:
        return SimpleNamespace(jobs=())

    async def watch_events(self, *, after_seq: int, from_start: bool) -> AsyncIterator[EventView]:
        assert (after_seq, from_start) == (0, True)
        for event in self._events:
            yield event


async def test_a_job_that_was_removed_later_is_told_of_as_it_was_then(capsys: pytest.CaptureFixture[str]) -> None:
    """Its failure opens an incident, which the removal ends an hour later, though today's jobs lack it all the time.

    After the last event there is nothing to replay.
    """
    began = datetime.fromtimestamp(START, UTC)
    data = {"host": "team", "preset": "", "error": "no rows", "started_us": round(START * 1e6), "attempts": 1}
    failed = EventView(
        seq=1, at=began, kind="run.finished", run_id="run_1", job_id="nightly", host="team", run_state="FAILED",
        reason=ReasonView(code="step_failed", message="no rows"), data=data,
    )  # fmt: skip
    later = began + timedelta(hours=1)
    changed, removed = (
        EventView(seq=seq, at=at, kind="job.changed", job_id="nightly", data={"change": change})
        for seq, at, change in ((2, began + timedelta(minutes=30), "changed"), (3, later, "removed"))
    )
    kernel = cast(KernelClient, _Kernel([failed, changed, removed]))
    await _Replay(kernel, section()).run(0)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["kind"], each["subject"]) for each in told] == [
        ("opened", "nightly failed"),
        ("closed", "nightly failed: the job was removed, after 1 h"),
    ]
    await _Replay(kernel, section()).run(3)
    assert capsys.readouterr().out == ""
