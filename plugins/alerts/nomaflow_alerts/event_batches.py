"""Takes a batch of events into the file: all of it and the new cursor in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from nomaflow.client.values import EventView
from nomaflow_alerts.ledger import Book
from nomaflow_alerts.rules.policies import Policies
from nomaflow_alerts.rules.runs import Findings, fold_job, fold_run
from nomaflow_alerts.rules.system import fold_host, fold_kernel
from nomaflow_alerts.rules.timers import expect_anew

KINDS = ("run.queued", "run.started", "run.finished", "host", "kernel", "job")
"""The kinds of events that are read."""


def fold(
    book: Book,
    events: Sequence[EventView],
    *,
    through: int,
    findings: Findings,
    policies: Policies,
    store: str,
    quiet: bool = False,
) -> None:
    """Take in one batch.

    :param through: the cursor after it: the last event, or a bookmark
    :param store: kind of the kernel's store
    """
    book.quiet = quiet
    seen = int(book.fact("seq") or 0)
    if book.now < float(book.fact("cursor_at") or 0.0):
        expect_anew(book)
    for event in events:
        if event.seq <= seen:
            continue  # a repeat after a crash of ours is taken in once
        if event.kind.startswith("run."):
            fold_run(book, event, policies, findings)
        elif event.kind.startswith("job."):
            fold_job(book, event, policies)
        elif event.kind.startswith("host."):
            fold_host(book, event, policies)
        elif event.kind.startswith("kernel."):
            fold_kernel(book, event, policies, store=store)
    book.set_fact("seq", max(seen, through))
    book.set_fact("cursor_at", book.now)
