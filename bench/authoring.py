"""Measures what injection, coercion and normalisation add to one call of a callable.

    python -m bench.authoring [--rounds 7] [--calls 5000]

Prints one JSON object: the machine, and for each kind of callable the microseconds a call that are added to calling it
directly: the median of the rounds, the least and the most. The promise is under 50 µs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from nomaflow import RunContext, Settings
from nomaflow_host.connectors.registry import HostConnectorRegistry
from nomaflow_host.generation.calls import CallMaker
from nomaflow_host.hooks.manager import build_hooks
from nomaflow_host.injection.call_plan import CallPlan, plan_for
from nomaflow_project.connectors.connector_set import ConnectorSet

PROMISED_MICROSECONDS = 50.0


def minimal(**kwargs: Any) -> dict[str, Any]:
    """Take anything."""
    return {"rows_affected": 0}


def of_the_page(*, connectors: Any, ctx: RunContext, apps_id: int, max_age_days: int = 30, **_: Any) -> dict[str, Any]:
    """Be the page's realistic version."""
    return {"rows_affected": 7, "tenant": apps_id, "cutoff": "2026-01-31T00:00:00"}


def of_text(*, a: int, b: float, c: bool, d: str, e: int | None, f: int | str) -> dict[str, Any]:
    """Have every scalar read from text."""
    return {"a": a, "b": b, "c": c, "d": d, "e": e, "f": f}


def nothing() -> None:
    """Take and return nothing."""


CASES: Mapping[str, tuple[Callable[..., Any], Mapping[str, Any]]] = {
    "nothing": (nothing, {}),
    "minimal": (minimal, {}),
    "of_the_page": (of_the_page, {"apps_id": 10, "max_age_days": 30}),
    "of_text": (of_text, {"a": "10", "b": "1.5", "c": "yes", "d": "text", "e": "7", "f": "8"}),
}


def maker() -> CallMaker:
    """Return the machinery of a worker, with no plugins but the built-in ones."""
    hooks = build_hooks(environ={}, trace_stream=io.StringIO(), entry_points=())
    return CallMaker(hooks=hooks)


def whole_call(made: CallMaker, plan: CallPlan, values: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Make one call as a worker does."""
    prepared = made.prepare(plan, values=values, strict=frozenset(values), **given)
    made.normalise(prepared.call(), call=prepared.info)


def seconds(action: Callable[[], object], calls: int) -> float:
    """Return how long one call of *action* takes, on average."""
    started = time.perf_counter()
    for _ in range(calls):
        action()
    return (time.perf_counter() - started) / calls


def added(name: str, *, rounds: int, calls: int) -> dict[str, float]:
    """Return the microseconds added to one call."""
    function, values = CASES[name]
    made, plan = maker(), plan_for(function, reference=f"bench:{name}")
    given: dict[str, Any] = {
        "ctx": RunContext(run_id="run_1", job_id="bench"),
        "connectors": HostConnectorRegistry(ConnectorSet()),
        "settings": Settings(),
    }
    taken = {key: given[key] for key in ("connectors", "ctx") if key in plan.named}
    taken.update(values)
    found = []
    for _ in range(rounds):
        whole = seconds(lambda: whole_call(made, plan, values, given), calls)
        found.append((whole - seconds(lambda: function(**taken), calls)) * 1e6)
    return {
        "median_us": round(statistics.median(found), 2),
        "least_us": round(min(found), 2),
        "most_us": round(max(found), 2),
    }


def main() -> None:
    """Measure and print; exit 1 where the promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5000)
    options = parser.parse_args()
    figures = {name: added(name, rounds=options.rounds, calls=options.calls) for name in CASES}
    report = {
        "bench": "authoring",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "calls": options.calls,
        "promised_us": PROMISED_MICROSECONDS,
        "added": figures,
    }
    print(json.dumps(report, indent=2))
    sys.exit(any(each["median_us"] > PROMISED_MICROSECONDS for each in figures.values()))


if __name__ == "__main__":
    main()
