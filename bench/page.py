"""Writes the generated parts of docs/performance.md; what people wrote around them stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.figures import in_words
from bench.plot import drawn
from bench.targets import TARGETS, Target

__all__ = ["fill_page", "write_page"]

_COLUMNS = ("runs_a_second", "p50_ms", "p99_ms", "kernel_cpu_us", "kernel_mib")
_CURVES = (
    ("queued", "runs queued"),
    ("history", "runs in history"),
    ("hosts", "hosts attached"),
    ("instances", "instances attached"),
    ("watchers", "watchers of another job"),
    ("everything", "watchers of every event"),
)


def write_page(results: Mapping[str, Any], *, docs: Path) -> None:
    """Put the figures into the page and draw the plot beside it.

    :raises ValueError: where the page has no place for a part
    """
    parts = {"figures": _table(results["figures"]), "growth": _growth(results["growth"])}
    fill_page(docs / "performance.md", {"machine": _machine(results)} | parts)
    (docs / "performance.svg").write_text(drawn(results["growth"]), "utf-8")


def fill_page(page: Path, parts: Mapping[str, str]) -> None:
    """Put generated parts between their marks in a page.

    :raises ValueError: where the page has no place for a part
    """
    text = page.read_text("utf-8")
    for name, part in parts.items():
        first, last = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
        if text.count(first) != 1 or text.count(last) != 1:
            raise ValueError(f"{page.name} needs {first!r} and {last!r}, each once")
        before, _, rest = text.partition(first)
        text = f"{before}{first}\n{part}{last}{rest.partition(last)[2]}"
    page.write_text(text, "utf-8")


def _machine(results: Mapping[str, Any]) -> str:
    facts = ", ".join(f"{key}: {value}" for key, value in results.get("machine", {}).items())
    # What else ran: the measures' own processes are gone by the time that the next group begins, but not forgotten.
    load = max(results.get("load", {}).values(), default=0.0)
    return (
        f"Taken on {results.get('taken', '?')}. {facts[:1].upper()}{facts[1:]}. "
        f"Highest load average as a group of measures began: {load:.1f}.\n"
    )


def _table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "| measure | | to reach | median | least – most | PostgreSQL | peers |",
        "|---|---|---|---|---|---|---|",
        *(_line(target, figures) for target in TARGETS if target.name in figures),
    ]
    return "\n".join(lines) + "\n"


def _line(target: Target, figures: Mapping[str, Mapping[str, Any]]) -> str:
    figure = figures[target.name]
    beside = figures.get(f"{target.name} PostgreSQL")
    median = in_words(figure["median"])
    if target.reach is not None:
        median = f"**{median}**" if target.reached(figure["median"]) else f"{median} (missed)"
    cells = [
        target.name,
        target.what,
        "" if target.reach is None else f"{in_words(target.reach)} {target.unit}".strip(),
        median,
        f"{in_words(figure['least'])} – {in_words(figure['most'])}",
        in_words(beside["median"]) if beside else "",
        target.peers,
    ]
    return f"| {' | '.join(cells)} |"


def _growth(growth: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    lines = [
        "| | M1, runs/s | M2 p50, ms | M2 p99, ms | kernel, µs of CPU a run of M1 | kernel, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for key, name in _CURVES:
        for row in growth.get(key, ()):
            cells = [in_words(row[field]) for field in _COLUMNS]
            lines.append(f"| {row['x']:,.0f} {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
