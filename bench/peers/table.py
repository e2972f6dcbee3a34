"""Ratios of the product to its peers, their part of docs/performance.md, and the plot beside it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.figures import in_words
from bench.page import fill_page
from bench.peers.bars import drawn
from bench.peers.kept import Kept, Turn
from bench.peers.known import PEERS, Peer

__all__ = ["medians", "ratio", "write_peers"]

_COLUMNS = {"M1": "runs/s", "M1 CPU": "ms a run", "M2 p50": "ms", "M2 p99": "ms", "M3": "steps/s"}
_LESS_IS_BETTER = ("CPU", "p50", "p99")
_SERVICES = {
    "redis": "Redis, `appendfsync always`",
    "postgresql": "PostgreSQL, `fsync` on",
    "sqlite": "SQLite, WAL, `synchronous = FULL`",
}


def ratio(turns: Sequence[Turn], theirs: str, ours: str = "") -> float | None:
    """Return how many times as good as a peer the product was, the median of all turns; None where never measured.

    :param theirs: the figure of the peer
    :param ours: the figure of the product; the same where empty
    """
    pairs = [(turn.ours[ours or theirs], turn.theirs[theirs]) for turn in turns if theirs in turn.theirs]
    if not pairs:
        return None
    return statistics.median(b / a if theirs.endswith(_LESS_IS_BETTER) else a / b for a, b in pairs)


def medians(turns: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    names = {name for figures in turns for name in figures}
    return {name: statistics.median(figures[name] for figures in turns if name in figures) for name in names}


def write_peers(kept: Kept, *, docs: Path) -> None:
    """Put the tables into the page and draw the plot beside it.

    :raises ValueError: where the page has no place for a part
    """
    parts = {"peers": _taken(kept) + _table(kept), "real step": _real(kept), "setups": _setups(kept)}
    fill_page(docs / "performance.md", parts)
    bars = {
        name: {peer.name: found for peer in PEERS if (found := ratio(kept.turns(peer.name), name)) is not None}
        for name in _COLUMNS
    }
    (docs / "peers.svg").write_text(drawn(bars), "utf-8")


def _taken(kept: Kept) -> str:
    missing = [f"{name} is not measured: {why}." for name, why in kept.missing.items()]
    return "\n".join([_how(kept) if any(kept.rounds) else "Not measured yet.", *missing, "", ""])


def _how(kept: Kept) -> str:
    loads = [turn.load for one in kept.rounds for turn in one.values()]
    sizes = {"runs of M1": "M1", "of M2": "M2", "steps of M3": "M3", "real steps": "R"}
    told = ", ".join(f"{kept.sizes[name]:,} {what}" for what, name in sizes.items())
    rounds = sum(map(bool, kept.rounds))
    return (
        f"Taken on {kept.taken}, {kept.machine.get('processor', '')}, Python {kept.machine.get('Python', '')}: "
        f"{rounds} rounds with {told}.\n"
        f"Load average as a turn began: {min(loads):.1f} to {max(loads):.1f}."
    )


def _table(kept: Kept) -> str:
    heads = [f"{name}, {unit}" for name, unit in _COLUMNS.items()]
    lines = [
        f"| | {' | '.join(heads)} | M1u ÷ its M1 |",
        "|---" * (len(heads) + 2) + "|",
        f"| Nomaflow | {' | '.join(_ours(kept, name) for name in _COLUMNS)} | M1u: {_ours(kept, 'M1u')} |",
        *(_line(peer, kept.turns(peer.name)) for peer in PEERS),
    ]
    return "\n".join(lines) + "\n"


def _ours(kept: Kept, name: str) -> str:
    """Return the product's median of all turns, or a dash where it was not measured."""
    found = medians([turn.ours for one in kept.rounds for turn in one.values()])
    return in_words(found[name]) if name in found else "–"


def _line(peer: Peer, turns: Sequence[Turn]) -> str:
    unary = ratio(turns, "M1", "M1u")
    cells = [*(_cell(turns, name) for name in _COLUMNS), "–" if unary is None else f"{in_words(unary)}×"]
    return f"| {peer.name} | {' | '.join(cells)} |"


def _real(kept: Kept) -> str:
    lines = ["| | steps/s | CPU, ms a step |", "|---|---|---|"]
    lines.append(f"| Nomaflow | {_ours(kept, 'R')} | {_ours(kept, 'R CPU')} |")
    for peer in (one for one in PEERS if "R" in one.measures):
        turns = kept.turns(peer.name)
        lines.append(f"| {peer.name} | {_cell(turns, 'R')} | {_cell(turns, 'R CPU')} |")
    return "\n".join([*lines, ""])


def _cell(turns: Sequence[Turn], name: str) -> str:
    """Return a peer's median with the ratio, or a dash where it was not measured."""
    found, theirs = ratio(turns, name), medians([turn.theirs for turn in turns])
    return "–" if found is None else f"{in_words(theirs[name])} ({in_words(found)}×)"


def _setups(kept: Kept) -> str:
    lines = ["| | version | state in | jobs run in | runs sent by | left of a run |", "|---|---|---|---|---|---|"]
    for peer in PEERS:
        version = kept.versions[peer.package]
        service = _SERVICES[peer.service]
        lines.append(f"| {peer.name} | {version} | {service} | {peer.setup} | {peer.batches} | {peer.history} |")
    return "\n".join(lines) + "\n"
