"""Lets a program be asked for its measures: a line of JSON in, a line of JSON out.

python -m bench.peers.programs.asked MODULE
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Protocol, cast

__all__ = ["BATCH", "Program", "main"]

BATCH = 1_000


class Program(Protocol):
    """Functions of a peer's program; those of a measure that the peer has no means for may be missing."""

    def start(self) -> None:
        """Connect, and make the tables where the peer leaves that to its user."""
        ...

    def batched(self, runs: int) -> float:
        """Return the seconds from the first of so many no-op runs, sent in batches, until all are known to be over."""
        ...

    def one_at_a_time(self, runs: int) -> list[float]:
        """Return the milliseconds from each trigger until its run is known to be over, one run after another."""
        ...

    def chain(self, steps: int) -> float:
        """Return the seconds of one chain of so many no-op steps, each after the one before."""
        ...

    def real(self, runs: int) -> float:
        """Return the seconds of so many runs of :func:`bench.peers.programs.real_step.real_step`, sent at once."""
        ...


def main() -> None:
    """Start the program of one module and answer until the end of the input."""
    program = cast(Program, importlib.import_module(sys.argv[1]))
    answers, sys.stdout = sys.stdout, sys.stderr  # what a peer prints is no answer
    program.start()
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        function, size = json.loads(line)
        print(json.dumps(getattr(program, function)(size)), file=answers, flush=True)


if __name__ == "__main__":
    main()
