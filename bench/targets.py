"""The measured figures, their targets, and what other engines reached on the same kind of machine."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One row of the table.

    :param name: of the series of values
    :param what: in words
    :param unit: of the values
    :param reach: the figure to reach; None where none was set
    :param more_is_better: whether the median has to be at least, or at most that
    :param peers: the same work elsewhere, in words
    """

    name: str
    what: str
    unit: str
    reach: float | None
    more_is_better: bool = True
    peers: str = ""

    def reached(self, median: float) -> bool:
        """Return whether a median is as good as it should be."""
        return self.reach is None or (median >= self.reach if self.more_is_better else median <= self.reach)


def _row(name: str, what: str, unit: str, reach: float | None, peers: str = "") -> Target:
    return Target(name=name, what=what, unit=unit, reach=reach, peers=peers)


def _least(name: str, what: str, unit: str, reach: float | None, peers: str = "") -> Target:
    return Target(name=name, what=what, unit=unit, reach=reach, more_is_better=False, peers=peers)


TARGETS = (
    _row(
        "M1",
        "2,000 triggers of a one-step async job in batches, until all are terminal in the store",
        "runs/s",
        4_000,
        "the original 42–51 (SQLite), 90 (PostgreSQL); DBOS 130; Procrastinate 433; Celery + Redis 457 (synced once a "
        "second); Huey 822 (results dropped once read); Prefect 5; Dagster 9",
    ),
    _row("M1u", "the same, each run triggered on its own, 64 under way", "runs/s", 1_200),
    _least(
        "M2 p50",
        "trigger → terminal event at the same client, one run at a time, median",
        "ms",
        3,
        "Celery 4.0; Procrastinate 5.6; Huey 6.4; DBOS 7.0; the original 20; Prefect 118",
    ),
    _least(
        "M2 p99",
        "the same, 99th percentile",
        "ms",
        8,
        "Celery 7.9; Procrastinate 9.9; DBOS 12.3; Huey 14.7; the original 27; Prefect 2,460",
    ),
    _row(
        "M3",
        "one run of 200 steps, one after the other",
        "steps/s",
        600,
        "Huey 552; DBOS 306; Celery 265; Prefect 218; the original 159; Dagster 39",
    ),
    _row(
        "M4",
        "one step logging 100,000 lines of 80 characters, until terminal",
        "lines/s",
        100_000,
        "the original 102,000; Celery 53,000; Prefect 1,250 (until stored)",
    ),
    _row("M4 readable", "of these, lines in history", "lines", 100_000, "the original 2,426; Celery 0"),
    _row("M4b", "M4 ÷ logging of the standard library to a list", "", 0.6),
    _row("M4b eight", "eight such steps at once, all lines ÷ M4", "", 1.0),
    _least(
        "M5",
        "1,000 jobs due in one second, 10,000 scheduled: the last start after that second's beginning",
        "s",
        1.0,
        "the original 18–28; Celery 51; APScheduler alone, without history, 1.4",
    ),
    _row("M6", "as M1 with sync steps, each in an exclusive worker", "runs/s", 800),
    _least(
        "M7 kernel",
        "idle kernel, PSS",
        "MiB",
        80,
        "the original 70 in all; Celery worker 79; Prefect 339 + 87; Dagster 506",
    ),
    _least("M7 host", "idle main process of a host, PSS", "MiB", 50),
    _least("M7 kernel CPU", "idle kernel, share of one core over 20 s", "%", 0.5),
    _least("M7 host CPU", "idle main process of a host, the same", "%", 0.5),
    _least("M8 list p99", "a page of 50 of 1,000,000 runs, 99th percentile", "ms", 50),
    _least("M8 list of a job p99", "the same, of one job", "ms", 50),
    _least("M8 open p99", "opening one of them", "ms", 50),
    _least("M8 tail p99", "the last 100 lines of a log of a million", "ms", 50),
    _least("M8 bytes a run", "store, bytes for each of these runs, indexes included", "bytes", None),
    _least("M9 up", "`nomaflow up` until the first step runs", "s", 1.5),
    _least("M9 version", "`nomaflow version`", "s", 0.10),
    _least("M9 runs", "`nomaflow runs`", "s", 0.35),
    _row("M10", "M1 ÷ the bare prototype of the protocol, by turns", "", 0.2),
    _row("M10 bare", "the bare prototype itself", "runs/s", None, "the prototype of the design 17,000–27,000"),
    _row("M12", "runs triggered in calls of their own, over TLS with a token ÷ on the Unix socket, by turns", "", 0.85),
    _least("C1 painted", "console: first content of a page of 50 runs, Chromium with an empty cache", "ms", 200),
    _least("C1 bare", "the same of a page with one word, in the same browser by turns", "ms", None),
    _least("C2 runs p99", "console: such a page of 1,000,000 runs, the server's part, 99th percentile", "ms", 60),
    _least("C2 month p99", "console: the same of all 31 days, with their tallies", "ms", 60),
    _least("C2 jobs p99", "console: the page of 1,000 jobs, the same", "ms", 60),
    _least("C2 schedule p99", "console: the page of their fires of two days, the same", "ms", 60),
    _least("C2 activity p99", "console: the page of who did what, the same", "ms", 60),
    _least("C2 run p99", "console: the page of a failed run, the same", "ms", 60),
    *(
        _least(f"C2 {name} CPU", f"console and kernel: processor time for the page of {what}", "ms", None)
        for name, what in (
            ("runs", "runs"),
            ("month", "runs of all 31 days"),
            ("jobs", "jobs"),
            ("schedule", "fires"),
            ("activity", "who did what"),
            ("run", "a failed run"),
        )
    ),
    _least("C3 weight", "console: scripts and styles of a page, compressed", "kB", 45),
    _least("C3 requests", "console: requests of a page with an empty cache", "", 6),
    _least("C4 jump p99", "console: any line of a log of a million", "ms", 150),
    _least("C5 first", "console: the first hit of a search of a million lines", "ms", 200),
    _least("C5 search", "console: a search of a million lines, all hits", "s", 1.5),
    _least("C6 on screen", "console: from a trigger's answer to the message on the stream of an open page", "ms", 300),
    _least("C7 console", "idle console, PSS", "MiB", 90),
    _least("C7 console CPU", "idle console, share of one core over 20 s", "%", 0.5),
    _row("C9 frames", "console: frames of the page of a run that logs as fast as it can", "frames/s", 30),
    _row("C9 lines", "of that run, lines", "lines/s", 100_000),
    _least("C9 heap", "what the tab keeps meanwhile, the most more than at first", "MB", 10),
    _least("C9 console", "the console after it, PSS", "MiB", 120),
    _least("C8 stop", "console: stop with 20 streams open", "s", 2),
    _least(
        "S attached", "1,000 instances of 100 hosts, 100,000 jobs: from their start until all are attached", "s", None
    ),
    _least("S attached CPU", "processor time of the kernel for it: it checks 100,000 jobs", "s", None),
    _least("S idle CPU", "all attached: idle kernel, share of one core over 20 s", "%", None),
    _least("S PSS", "all attached: idle kernel, PSS", "MiB", None),
    _row("S M1", "all attached: M1 on a host of ten real instances", "runs/s", None),
    _least("S M2 p50", "all attached: M2", "ms", None),
    _least("S M2 p99", "all attached: M2, 99th percentile", "ms", None),
    _least(
        "S reload",
        "all attached: `reload` of a host of ten instances with 1,010 jobs, of which one has changed",
        "s",
        5,
    ),
    _least("S reload CPU", "processor time of the kernel for it", "s", None),
    _row("S queued", "100,000 runs queued over all jobs, while 4,000 steps go on", "runs/s", None),
    _least("S queued PSS", "all these queued: kernel, PSS", "MiB", None),
    _row("S queued M1", "all these queued: M1 on the host of real instances", "runs/s", None),
    _least("S queued M2 p50", "all these queued: M2", "ms", None),
    _least("S queued M2 p99", "all these queued: M2, 99th percentile", "ms", None),
    _least("S serving", "all these queued: kill -9 of the kernel, from its start until it serves", "s", 20),
    _least("S back", "from that start until all 1,000 instances are attached", "s", 30),
    _least("S back CPU", "processor time of the kernel for it", "s", None),
    _row(
        "S drained", "all steps let go at once: 100,000 runs through 990 instances, each started once", "runs/s", None
    ),
    _least("S drained CPU", "processor time of the kernel for each of them", "µs", None),
    _least("A1", "alerts: M2 with them attached ÷ without, by turns", "", 1.05),
    _least("A1 CPU", "alerts: the kernel's CPU time of a run, with them ÷ without", "", 1.05),
    _least("A2", "idle alerts with a heartbeat, resident", "MiB", 60),
    _least("A3", "idle alerts, share of one core over a minute", "%", 0.2),
    _row("A4", "alerts: events taken in, the history read from its start", "events/s", 1_000),
)
