"""Word of new lines, which costs the kernel little however much a run has returned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from nomaflow.client import KernelClient
from nomaflow.client.values import LogLine, RunPageView, RunView
from nomaflow_console.kernel import log_feed
from nomaflow_console.kernel.log_feed import LogFeed


class _Kernel:
    """A kernel with a run whose log has more lines each time that one asks, and is complete with the ninth."""

    def __init__(self) -> None:
        self.lines = iter([1, 4, 9, 9])
        self.after: list[int] = []

    async def read_log_blocks(self, run_id: str, *, after_seq: int, **_: Any) -> AsyncIterator[list[LogLine]]:
        assert run_id == "run_1"
        self.after.append(after_seq)
        if after_seq < 9:
            yield [LogLine(seq=1, at_us=0, level=20, logger="", step="s", attempt=1, message="")]

    async def list_runs_page(self, *, run_ids: Sequence[str]) -> RunPageView:
        assert run_ids == ["run_1"]
        return RunPageView(runs=(RunView(run_id="run_1", job_id="j", state="RUNNING", log_lines=next(self.lines)),))


async def test_a_follower_asks_for_the_number_of_lines_and_not_for_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a line only after all are told, until the log is complete."""
    monkeypatch.setattr(log_feed, "_PAUSE_SECONDS", 0.0)
    kernel = _Kernel()
    async for _ in LogFeed(cast("KernelClient", kernel)).changes("run_1", 0):
        pass
    assert kernel.after == [0, 1, 9]
