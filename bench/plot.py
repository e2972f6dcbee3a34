"""Draws the curves of growth as one SVG of small panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["drawn", "text"]

_WIDTH, _HEIGHT = 250, 150
_LEFT, _TOP, _GAP, _INSET = 40, 50, 60, 25
_COLUMNS = (
    ("queued", "runs queued"),
    ("history", "runs in history"),
    ("hosts", "hosts attached"),
    ("instances", "instances attached"),
    ("watchers", "watchers of another job"),
    ("everything", "watchers of every event"),
)
_ROWS = (("runs_a_second", "M1, runs/s", "#2563eb"), ("p50_ms", "M2, median in ms", "#c2410c"))

Row = Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Panel:
    left: float
    top: float
    title: str
    colour: str

    def svg(self, points: Sequence[tuple[float, float]]) -> list[str]:
        """Return the elements of one panel; the x axis has one place for each point."""
        highest = max(y for _, y in points) * 1.2
        step = (_WIDTH - _INSET) / max(len(points) - 1, 1)
        first = self.left + _INSET
        at = [(first + n * step, self.top + _HEIGHT * (1 - y / highest)) for n, (_, y) in enumerate(points)]
        bottom = self.top + _HEIGHT
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        found = [
            text(self.left, self.top - 12, self.title, anchor="start"),
            f'<path d="M{self.left:.0f} {self.top:.0f}V{bottom:.0f}h{_WIDTH}" fill="none" stroke="#9ca3af"/>',
            f'<polyline points="{line}" fill="none" stroke="{self.colour}" stroke-width="2"/>',
        ]
        for (x, y), (name, value) in zip(at, points, strict=True):
            found += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{self.colour}"/>',
                text(x, y - 8, f"{value:,.0f}" if value >= 100 else f"{value:.1f}"),  # digits enough
                text(x, bottom + 16, _short(name)),
            ]
        return found


def drawn(growth: Mapping[str, Sequence[Row]]) -> str:
    """Return the picture of the curves there are."""
    parts = []
    columns = [column for column in _COLUMNS if growth.get(column[0])]
    for column, (key, axis) in enumerate(columns):
        for line, (field, title, colour) in enumerate(_ROWS):
            if rows := growth.get(key):
                left = _LEFT + column * (_WIDTH + _GAP)
                top = _TOP + line * (_HEIGHT + _GAP + 20)
                panel = _Panel(left=left, top=top, title=f"{title}, by {axis}", colour=colour)
                parts += panel.svg([(row["x"], row[field]) for row in rows])
    width = _LEFT + len(columns) * (_WIDTH + _GAP)
    height = _TOP + len(_ROWS) * (_HEIGHT + _GAP + 20) - 20
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>", ""])


def text(x: float, y: float, text: str, *, anchor: str = "middle") -> str:
    """Return the element of a text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" fill="#374151" text-anchor="{anchor}">{text}</text>'


def _short(number: float) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.0f}{letter}"
    return f"{number:.0f}"
