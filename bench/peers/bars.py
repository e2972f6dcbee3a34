"""Draws ratios as bars that begin at 1, on a logarithmic axis: to the right the product is better."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bench.figures import in_words
from bench.plot import text

__all__ = ["drawn"]

_LEFT, _TOP, _WIDTH, _BAR, _GAP = 120, 40, 360, 18, 46
_LEAST, _MOST = 1 / 16, 64.0
_BETTER, _WORSE = "#2563eb", "#c2410c"


def _x(ratio: float) -> float:
    """Return where a ratio is on the axis; what lies beyond it is drawn at its end."""
    inside = min(max(ratio, _LEAST), _MOST)
    return _LEFT + _WIDTH * math.log(inside / _LEAST) / math.log(_MOST / _LEAST)


def drawn(ratios: Mapping[str, Mapping[str, float]]) -> str:
    """Return the picture of the ratios by measure and peer."""
    parts: list[str] = []
    top = float(_TOP)
    for measure, by_peer in ratios.items():
        bottom = top + _BAR * len(by_peer)
        parts.append(text(_LEFT, top - 8, f"{measure}: times as good as", anchor="start"))
        for tick in (1 / 16, 1 / 4, 1, 4, 16, 64):
            x = _x(tick)
            parts.append(
                f'<path d="M{x:.1f} {top:.0f}V{bottom:.0f}" stroke="{"#374151" if tick == 1 else "#e5e7eb"}"/>'
            )
            parts.append(text(x, bottom + 13, f"{tick:.3g}"))
        for number, (peer, ratio) in enumerate(by_peer.items()):
            y, high = top + _BAR * number, _BAR - 6
            begin, end = sorted((_x(1), _x(ratio)))
            colour = _BETTER if ratio >= 1 else _WORSE
            parts += [
                f'<rect x="{begin:.1f}" y="{y + 3:.0f}" width="{end - begin:.1f}" height="{high}" fill="{colour}"/>',
                text(_LEFT - 8, y + 13, peer, anchor="end"),
                text(_LEFT + _WIDTH + 8, y + 13, f"{in_words(ratio)}×", anchor="start"),
            ]
        top = bottom + _GAP
    size = f"{_LEFT + _WIDTH + 60} {top - 20:.0f}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])
