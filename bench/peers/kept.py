"""The figures of turns, as they are kept in a file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.figures import machine
from bench.peers.known import FUNCTIONS, Peer, versions
from bench.throughput import STEPS

__all__ = ["MEASURES", "SIZES", "Figures", "Kept", "Turn"]

MEASURES = tuple(FUNCTIONS)
SIZES: Mapping[str, int] = {"M1": 2_000, "M2": 300, "M3": STEPS, "R": 300}
"""Runs of M1, M2 and R, steps of M3."""
_GUESS = 18.0  # seconds of a turn, where none was taken yet

Figures = dict[str, float]


@dataclass(kw_only=True)
class Turn:
    """Figures of the product and of one peer, taken one after the other."""

    ours: Figures = field(default_factory=dict)
    theirs: Figures = field(default_factory=dict)
    seconds: float = 0.0
    load: float = 0.0

    def lacks(self, peer: Peer, measures: Sequence[str]) -> list[str]:
        """Return the measures that are still to be taken."""
        had = {name.partition(" ")[0] for name in self.theirs}
        return [one for one in measures if one in peer.measures and one not in had]


@dataclass(kw_only=True)
class Kept:
    """Everything that was measured.

    :param sizes: of the measures
    :param missing: by the name of a peer, why it was not measured
    :param rounds: in each, the turns by the name of the peer
    """

    sizes: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    rounds: list[dict[str, Turn]] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)
    taken: str = ""

    @classmethod
    def read(cls, file: Path) -> Kept:
        """Return what a file holds; nothing where there is none."""
        if not file.exists():
            return cls()
        told = json.loads(file.read_text())
        told["rounds"] = [{name: Turn(**turn) for name, turn in one.items()} for one in told["rounds"]]
        return cls(**told)

    def write(self, file: Path) -> None:
        """Keep it, with the date and the machine."""
        self.taken, self.machine = datetime.now(UTC).date().isoformat(), machine()
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def without(self, peers: Sequence[Peer]) -> Kept:
        """Return the same less the turns of these peers."""
        names = {peer.name for peer in peers}
        rounds = [{name: turn for name, turn in one.items() if name not in names} for one in self.rounds]
        return replace(self, rounds=rounds)

    def turns(self, peer: str) -> list[Turn]:
        """Return the turns of one peer."""
        return [one[peer] for one in self.rounds if peer in one]

    def expected(self, peer: str) -> float:
        """Return the seconds that a turn with this peer probably takes."""
        took = [turn.seconds for turn in self.turns(peer)]
        return statistics.median(took) if took else _GUESS
