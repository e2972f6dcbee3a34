"""The values that a remembered page of a run is made of, and what is not among them."""

from __future__ import annotations

import gc
from datetime import UTC, datetime
from types import FunctionType, ModuleType

from starlette.requests import Request

from nomaflow.client.values import AttemptView, RunView, StepView
from nomaflow_console.kernel.status import KernelStatus
from nomaflow_console.pages.run import _context, _Known


def _reaches(start: object, wanted: object) -> bool:
    """Return whether an object is held by another, through whatever holds what."""
    seen, todo = set[int](), [start]
    while todo:
        one = todo.pop()
        if one is wanted:
            return True
        if id(one) not in seen and not isinstance(one, type | ModuleType | FunctionType):
            seen.add(id(one))
            todo += gc.get_referents(one)
    return False


async def test_the_page_of_a_run_holds_what_it_shows_of_results_and_not_the_results() -> None:
    """A result of 1 MB takes up to 25 in memory, and its page has some thousand characters of it."""
    value, at = ["a part of a result"], datetime(2026, 11, 26, tzinfo=UTC)
    attempt = AttemptView(
        attempt_key="run_1/s/1", attempt=1, state="FAILED", extras={"e": value}, kwargs={"k": value}, started_at=at
    )
    run = RunView(
        run_id="run_1", job_id="j", state="FAILED", params={"p": value}, definition={"d": value}, queued_at=at,
        steps=(StepView(name="s", attempts=(attempt,)),),
    )  # fmt: skip
    known = _Known(
        run=run, job=None, stats=None, children={}, replays=(), late={}, status=KernelStatus(), loud=()
    )  # fmt: skip
    context = await _context(Request({"type": "http", "query_string": b"", "headers": []}), known)
    assert context["listed_tries"][0].extras
    assert not _reaches(context, value)
    assert _reaches(known, value)
